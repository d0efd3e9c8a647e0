# pragma version ~=0.4.3
"""
@title A wrapped staked token: worth a growing number of staked ones, which somebody sets
"""
import erc20

initializes: erc20
exports: erc20.__interface__

stEthPerToken: public(uint256)  # 18 decimals


@deploy
def __init__(rate: uint256):
    erc20.__init__("Wrapped staked Ether", "wstETH", 18)
    self.stEthPerToken = rate


@external
@view
def tokensPerStEth() -> uint256:
    return 10**36 // self.stEthPerToken


@external
@view
def getStETHByWstETH(amount: uint256) -> uint256:
    return amount * self.stEthPerToken // 10**18


@external
@view
def getWstETHByStETH(amount: uint256) -> uint256:
    return amount * 10**18 // self.stEthPerToken


@external
def set_rate(rate: uint256):
    self.stEthPerToken = rate


@external
def mint(to: address, amount: uint256):
    erc20._mint(to, amount)
