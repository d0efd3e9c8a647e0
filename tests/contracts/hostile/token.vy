# pragma version 0.4.3
"""
@title A token that calls back whenever it moves, takes a fee if told so, and may say no
"""
decimals: public(uint8)
name: public(String[16])
symbol: public(String[16])
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
fee_bps: public(uint256)
is_refusing: public(bool)
back_to: public(address)
back_data: public(Bytes[1024])
calls_back: public(uint256)
did_back_call_work: public(bool)


@deploy
def __init__():
    self.name = "Hostile"
    self.symbol = "EVIL"
    self.decimals = 6


@external
def mint(to: address, amount: uint256):
    self.balanceOf[to] += amount


@external
def set_fee(fee_bps: uint256):
    self.fee_bps = fee_bps


@external
def set_refusing(is_refusing: bool):
    self.is_refusing = is_refusing


@external
def set_call_back(to: address, data: Bytes[1024]):
    self.back_to = to
    self.back_data = data
    self.calls_back = 0


@external
def do(to: address, data: Bytes[1024]) -> bool:
    return raw_call(to, data, revert_on_failure=False)


@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    return True


@external
def transfer(to: address, amount: uint256) -> bool:
    return self._move(msg.sender, to, amount)


@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    self.allowance[owner][msg.sender] -= amount
    return self._move(owner, to, amount)


@internal
def _move(owner: address, to: address, amount: uint256) -> bool:
    self.balanceOf[owner] -= amount
    if self.back_to != empty(address):
        self.calls_back += 1
        self.did_back_call_work = raw_call(self.back_to, self.back_data, revert_on_failure=False)
    self.balanceOf[to] += amount - amount * self.fee_bps // 10_000
    return not self.is_refusing
