"""What Perpetual Protocol v2 says of one market and one trader, block by block.

Only the clearing house and the market's base token are given: the first names the other contracts, these the market's
pool, so the first blocks only find the way. All sums have 18 decimals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from bot.gateways.chain.abi import Function, Undecodable, address_at, int_at, uint_at
from bot.gateways.chain.nouns import Read
from bot.gateways.chain.protocols.pool_watch import PoolWatch
from bot.pricing.perp_v2 import PerpAccount, PerpTrade, account_after, free_collateral_wei
from bot.pricing.uniswap_v3 import PIPS, PoolState

DECIMALS: Final = 18
_CONTRACTS: Final = {
    "config": Function("getClearingHouseConfig()", "(address)"),
    "vault": Function("getVault()", "(address)"),
    "exchange": Function("getExchange()", "(address)"),
    "balances": Function("getAccountBalance()", "(address)"),
}
_REGISTRY = Function("getMarketRegistry()", "(address)")
_MARKET_INFO = Function("getMarketInfoByTrader(address,address)", "((address,uint24,uint24,uint24,uint24))")
_MAX_TICKS = Function("getMaxTickCrossedWithinBlock(address)", "(uint24)")
_FUNDING = Function("getPendingFundingPayment(address,address)", "(int256)")
_ACCOUNT_INFO = Function("getAccountInfo(address,address)", "((int256,int256,int256))")
_MARK_PX = Function("getMarkPrice(address)", "(uint256)")
_INDEX_PX = Function("getIndexPrice(uint256)", "(uint256)")
_PROFITS = Function("getPnlAndPendingFee(address)", "(int256,int256,uint256)")
_ACCOUNT_VALUE = Function("getAccountValue(address)", "(int256)")
_INITIAL_RATIO = Function("getImRatio()", "(uint24)")
_MAINTENANCE_RATIO = Function("getMmRatio()", "(uint24)")
_FREE = Function("getFreeCollateralByRatio(address,uint24)", "(int256)")
_VAULT_DECIMALS = Function("decimals()", "(uint8)")
_IS_OPEN = Function("isOpen()", "(bool)")


class Market(msgspec.Struct, frozen=True):
    """The market and the trader as of one block. Funding is what the trader would pay (negative: get) if settled now.

    `free_wei` is the chain's own word on the collateral free at the initial margin; where the account has other
    positions or orders it is less than what this market alone explains.
    """

    is_open: bool
    fee_pips: int
    max_spread_pips: int
    max_ticks: int
    mark_px_wei: int
    index_px_wei: int
    funding_wei: int
    account: PerpAccount
    initial_pips: int
    maintenance_pips: int
    free_wei: int

    def free_after_wei(self, trade: PerpTrade, ratio_pips: int) -> int:
        """Return the collateral free after a trade at a margin ratio; what else the account has asks for no less."""
        explained = free_collateral_wei(self.account, self.mark_px_wei, self.initial_pips)
        elsewhere = max(0, explained - self.free_wei) * ratio_pips // self.initial_pips
        after = account_after(self.account, trade, self.mark_px_wei)
        return free_collateral_wei(after, self.mark_px_wei, ratio_pips) - elsewhere


class MarketWatch:
    """Watches one market for one trader. `market` and `pool` are None while a block has not told all of it."""

    def __init__(self, clearing_house: str, base_token: str, trader: str) -> None:
        self.market: Market | None = None
        self._clearing_house, self._base, self._trader = clearing_house, base_token, trader
        self._at: dict[str, str] = {}  # contracts by role, as the clearing house and the exchange name them
        self._initial_pips = 0
        self._pool: PoolWatch | None = None
        self._wanted = self._reads_by_name()

    @property
    def pool(self) -> PoolState | None:
        """The state of the market's pool."""
        return self._pool.state if self._pool else None

    @property
    def reads(self) -> tuple[Read, ...]:
        """What to read with the next block."""
        return (*self._wanted.values(), *(self._pool.reads if self._pool else ()))

    def _reads_by_name(self) -> dict[str, Read]:
        house, base, trader, at = self._clearing_house, self._base, self._trader, self._at
        wanted = {role: function.read(house) for role, function in _CONTRACTS.items()}
        wanted["value"] = _ACCOUNT_VALUE.read(house, trader)
        wanted["is_open"] = _IS_OPEN.read(base)
        wanted["index_px"] = _INDEX_PX.read(base, 0)
        if "exchange" in at:
            wanted |= {
                "registry": _REGISTRY.read(at["exchange"]),
                "max_ticks": _MAX_TICKS.read(at["exchange"], base),
                "funding": _FUNDING.read(at["exchange"], trader, base),
                "info": _ACCOUNT_INFO.read(at["balances"], trader, base),
                "mark_px": _MARK_PX.read(at["balances"], base),
                "profits": _PROFITS.read(at["balances"], trader),
                "initial": _INITIAL_RATIO.read(at["config"]),
                "maintenance": _MAINTENANCE_RATIO.read(at["config"]),
                "decimals": _VAULT_DECIMALS.read(at["vault"]),
            }
        if "registry" in at:
            wanted["terms"] = _MARKET_INFO.read(at["registry"], trader, base)
        if self._initial_pips:
            wanted["free"] = _FREE.read(at["vault"], trader, self._initial_pips)
        return wanted

    def update(self, answers: Sequence[bytes | None]) -> None:
        """Take in the answers to `reads`; one that is missing, or cannot be, leaves no usable state."""
        self.market = None
        try:
            self._take(answers)
        except Undecodable:
            self._wanted = self._reads_by_name()

    def _take(self, answers: Sequence[bytes | None]) -> None:
        wanted = self._wanted
        own, of_pool = answers[: len(wanted)], answers[len(wanted) :]
        told = {name: answer for name, answer in zip(wanted, own, strict=True) if answer}
        if self._pool:
            self._pool.update(of_pool)
        before = (dict(self._at), self._initial_pips, self._pool)
        self._find(told)
        is_whole = before == (self._at, self._initial_pips, self._pool) and self._pool is not None
        if not is_whole:
            self._wanted = self._reads_by_name()
        self.market = _market(told) if is_whole and len(told) == len(wanted) else None

    def _find(self, told: Mapping[str, bytes]) -> None:
        """Take in where things are; whatever is elsewhere now is read anew with the next block."""
        found = {role: address_at(told[role], 0) for role in (*_CONTRACTS, "registry") if role in told}
        if set(_CONTRACTS) <= found.keys():
            self._at |= found
        if "initial" in told:
            initial_pips = uint_at(told["initial"], 0)
            if not 0 < initial_pips <= PIPS:
                raise Undecodable(f"expected an initial margin, found {initial_pips} pips")
            self._initial_pips = initial_pips
        if "terms" in told:
            address, fee_pips = address_at(told["terms"], 0), uint_at(told["terms"], 2)
            if fee_pips >= PIPS:
                raise Undecodable(f"expected a fee, found {fee_pips} pips")
            if self._pool is None or (self._pool.address, self._pool.fee_pips) != (address, fee_pips):
                self._pool = PoolWatch(address, fee_pips)


def _market(told: Mapping[str, bytes]) -> Market:
    decimals, mark_px_wei = uint_at(told["decimals"], 0), uint_at(told["mark_px"], 0)
    index_px_wei = uint_at(told["index_px"], 0)
    if decimals > DECIMALS or not (mark_px_wei and index_px_wei):
        found = f"{decimals}, {mark_px_wei} and {index_px_wei}"
        raise Undecodable(f"expected at most {DECIMALS} decimals and two prices, found {found}")
    value, unrealized = int_at(told["value"], 0), int_at(told["profits"], 1)
    scale = 10 ** (DECIMALS - decimals)
    return Market(
        uint_at(told["is_open"], 0) == 1,
        uint_at(told["terms"], 1),
        uint_at(told["terms"], 4),
        uint_at(told["max_ticks"], 0),
        mark_px_wei,
        index_px_wei,
        int_at(told["funding"], 0),
        PerpAccount(value - unrealized, value, int_at(told["info"], 0), int_at(told["info"], 1)),
        uint_at(told["initial"], 0),
        uint_at(told["maintenance"], 0),
        int_at(told["free"], 0) * scale,
    )
