# pragma version 0.4.3
"""
@title A venue that should never have been allowed: it steals, pays short, or calls back before it pays
"""
from ethereum.ercs import IERC20

struct Swap:
    token_in: address
    token_out: address
    fee: uint24
    recipient: address
    deadline: uint256
    amount: uint256
    limit: uint256
    sqrt_price_limit: uint160

factory: public(address)
short_by: public(uint256)  # of what it should pay out
takes_extra: public(uint256)  # tried on top of what it should take
back_to: public(address)
back_data: public(Bytes[1024])
did_back_call_work: public(bool)
back_answer: public(Bytes[64])
swaps: public(uint256)


@deploy
def __init__(factory: address):
    self.factory = factory


@external
def set_theft(short_by: uint256, takes_extra: uint256):
    self.short_by = short_by
    self.takes_extra = takes_extra


@external
def set_call_back(to: address, data: Bytes[1024]):
    self.back_to = to
    self.back_data = data


@external
def exactInputSingle(params: Swap) -> uint256:
    self._trade(params, params.amount, params.limit)
    return params.limit


@external
def exactOutputSingle(params: Swap) -> uint256:
    self._trade(params, params.limit, params.amount)
    return params.limit


@internal
def _trade(params: Swap, amount_in: uint256, amount_out: uint256):
    self.swaps += 1
    extcall IERC20(params.token_in).transferFrom(msg.sender, self, amount_in + self.takes_extra)
    if self.back_to != empty(address):
        self.did_back_call_work, self.back_answer = raw_call(
            self.back_to, self.back_data, max_outsize=64, revert_on_failure=False
        )
    extcall IERC20(params.token_out).transfer(params.recipient, amount_out - self.short_by)
