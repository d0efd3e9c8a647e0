# pragma version ~=0.4.3
"""
@title The chain's own coin as a token, one to one
"""
import erc20

initializes: erc20
exports: erc20.__interface__


event Deposit:
    dst: indexed(address)
    wad: uint256


event Withdrawal:
    src: indexed(address)
    wad: uint256


@deploy
def __init__():
    erc20.__init__("Wrapped Ether", "WETH", 18)


@external
@payable
def __default__():
    self._deposit(msg.sender, msg.value)


@external
@payable
def deposit():
    self._deposit(msg.sender, msg.value)


@external
def withdraw(amount: uint256):
    erc20._burn(msg.sender, amount)
    log Withdrawal(src=msg.sender, wad=amount)
    raw_call(msg.sender, b"", value=amount)


@internal
def _deposit(owner: address, amount: uint256):
    erc20._mint(owner, amount)
    log Deposit(dst=owner, wad=amount)
