# pragma version ~=0.4.3
"""
@title Shares of a pot of one token (ERC-4626): what is sent to the pot without asking for shares is its gain
"""
from ethereum.ercs import IERC20
from ethereum.ercs import IERC4626
import erc20

initializes: erc20
exports: erc20.__interface__

asset: public(address)


@deploy
def __init__(name: String[32], symbol: String[16], asset: address, decimals: uint8):
    erc20.__init__(name, symbol, decimals)
    self.asset = asset


@external
@view
def totalAssets() -> uint256:
    return self._assets()


@external
@view
def convertToAssets(shares: uint256) -> uint256:
    return self._assets_of(shares)


@external
@view
def convertToShares(assets: uint256) -> uint256:
    return self._shares_of(assets)


@external
@view
def maxDeposit(owner: address) -> uint256:
    return max_value(uint256)


@external
@view
def maxMint(owner: address) -> uint256:
    return max_value(uint256)


@external
@view
def maxRedeem(owner: address) -> uint256:
    return erc20.balanceOf[owner]


@external
@view
def maxWithdraw(owner: address) -> uint256:
    return self._assets_of(erc20.balanceOf[owner])


@external
@view
def previewDeposit(assets: uint256) -> uint256:
    return self._shares_of(assets)


@external
@view
def previewRedeem(shares: uint256) -> uint256:
    return self._assets_of(shares)


@external
@view
def previewMint(shares: uint256) -> uint256:
    return self._assets_of(shares) + 1


@external
@view
def previewWithdraw(assets: uint256) -> uint256:
    return self._shares_of(assets) + 1


@external
def deposit(assets: uint256, receiver: address) -> uint256:
    shares: uint256 = self._shares_of(assets)
    self._enter(assets, shares, receiver)
    return shares


@external
def mint(shares: uint256, receiver: address) -> uint256:
    assets: uint256 = self._assets_of(shares) + 1
    self._enter(assets, shares, receiver)
    return assets


@external
def redeem(shares: uint256, receiver: address, owner: address) -> uint256:
    assets: uint256 = self._assets_of(shares)
    self._leave(assets, shares, receiver, owner)
    return assets


@external
def withdraw(assets: uint256, receiver: address, owner: address) -> uint256:
    shares: uint256 = self._shares_of(assets) + 1
    self._leave(assets, shares, receiver, owner)
    return shares


@internal
@view
def _assets() -> uint256:
    return staticcall IERC20(self.asset).balanceOf(self)


# One share and one unit that nobody owns stand in for an empty pot.
@internal
@view
def _assets_of(shares: uint256) -> uint256:
    return shares * (self._assets() + 1) // (erc20.totalSupply + 1)


@internal
@view
def _shares_of(assets: uint256) -> uint256:
    return assets * (erc20.totalSupply + 1) // (self._assets() + 1)


@internal
def _enter(assets: uint256, shares: uint256, receiver: address):
    assert extcall IERC20(self.asset).transferFrom(msg.sender, self, assets, default_return_value=True)
    erc20._mint(receiver, shares)
    log IERC4626.Deposit(sender=msg.sender, owner=receiver, assets=assets, shares=shares)


@internal
def _leave(assets: uint256, shares: uint256, receiver: address, owner: address):
    if msg.sender != owner:
        erc20._spend(owner, msg.sender, shares)
    erc20._burn(owner, shares)
    assert extcall IERC20(self.asset).transfer(receiver, assets, default_return_value=True)
    log IERC4626.Withdraw(sender=msg.sender, receiver=receiver, owner=owner, assets=assets, shares=shares)
