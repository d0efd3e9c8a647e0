# pragma version ~=0.4.3
"""
@title A token anybody may mint
"""
import erc20

initializes: erc20
exports: erc20.__interface__


@deploy
def __init__(name: String[32], symbol: String[16], decimals: uint8):
    erc20.__init__(name, symbol, decimals)


@external
def mint(to: address, amount: uint256):
    erc20._mint(to, amount)
