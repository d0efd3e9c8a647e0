"""Hedges through a guarded vault (`bot/contracts/GuardedVault.vy`): its tokens are traded, within bounds it enforces.

The vault swaps on Uniswap v3 itself, so prices, sizes and logs are those of `uniswap_v3`; what differs is whose tokens
they are and what is asked for. The vault would refuse whatever is beyond its limits. What it would refuse is not even
sent: its limits are read with every block, and a trade beyond one of them is refused here, in words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final

import msgspec

from bot.domain.errors import ConfigError
from bot.domain.market import Quote
from bot.domain.orders import OrderIntent
from bot.gateways.chain import abi
from bot.gateways.chain.abi import WORD_BYTES, Function, uint_at
from bot.gateways.chain.nouns import Approval, Block, Read, Refused, TransactionRequest
from bot.gateways.chain.protocols.trade_terms import NOTHING, contracts_of
from bot.gateways.chain.protocols.uniswap_v3 import PRICE_MISSES, UniswapV3
from bot.gateways.chain.settings import HedgeSection, TokenSettings

# Measured on the published contracts (test_guarded_vault.py measures it again), the first trade of a while.
GAS_OF_HEDGE_UNITS: Final = 300_000
VENUE_KIND: Final = 100
POOL_KIND: Final = 101
HEDGER_KIND: Final = 102
SLIPPAGE_LIMIT: Final = 0
TRADE_LIMIT: Final = 4
HOUR_LIMIT: Final = 5
BASE_LIMIT: Final = 6
_BPS: Final = 10_000
_ALL: Final = (1 << 256) - 1

_HEDGE = Function("hedge(address,address,bool,uint256,uint256,uint256,uint256)", "(uint256)")
_QUOTE_HELD = Function("quote_held()", "(uint256)")
_BASE_HELD = Function("base_held()", "(uint256)")
_RESERVE = Function("reserve()", "(uint256)")
_PAUSED = Function("paused()", "(bool)")
_PRICES = Function("prices()", "(bool,uint256,uint256,uint256)")
_USED = Function("used_this_hour()", "(uint256)")
_LIMIT = Function("limits(uint256)", "(uint256)")
_ALLOWED = Function("allowed(uint256,address)", "(uint256)")

_LATE: Final = {
    "hedge: past its deadline": "the deadline had passed",
    "hedge: decided too many blocks ago": "the block it was decided on is too far behind",
    # The router may take what the limit allows and no more, so this is what a purchase beyond it ends with.
    "STF": "the purchase would have cost more than its limit, or than the vault's limit from the oracle",
}
_MISSES: Final = PRICE_MISSES | _LATE
_REASONS: Final = _MISSES | {
    "hedge: no good price": "the oracle is stale or does not agree with the pool",
    "hedge: over the cap of one trade": "the vault allows no trade as large",
    "hedge: over the cap of an hour": "the vault has traded all that it may in an hour",
    "hedge: too much base": "the vault would hold more base than it may",
    "hedge: not a hedger": "the vault's owner has not appointed the wallet's key, or has dismissed it",
}


class VaultState(msgspec.Struct, frozen=True, gc=False):
    """What a vault holds and allows as of one block; the oracle's price has 18 decimals, 0 while none is good."""

    quote_held_wei: int
    base_held_wei: int
    reserve_wei: int
    is_paused: bool
    oracle_px_e18: int
    used_wei: int
    slippage_bps: int
    trade_cap_wei: int
    hour_cap_wei: int
    base_cap_bps: int
    is_hedger: bool
    is_venue: bool
    is_pool: bool

    @property
    def free_quote_wei(self) -> int:
        """Quote that trades may spend: all but the reserve."""
        return max(0, self.quote_held_wei - self.reserve_wei)

    @property
    def cap_wei(self) -> int:
        """The largest trade that is allowed now, in quote at the oracle's price."""
        return max(0, min(self.trade_cap_wei, self.hour_cap_wei - self.used_wei))

    @property
    def obstacle(self) -> str:
        """Why nothing at all can be traded now, "" if something can."""
        found = {
            "the vault to be unpaused, found it paused": self.is_paused,
            "the wallet to be a hedger of the vault, found it is not": not self.is_hedger,
            "the vault to allow the router, found it does not": not self.is_venue,
            "the vault to allow the pool, found it does not": not self.is_pool,
            "a fresh oracle that agrees with the pool, found none": not self.oracle_px_e18,
        }
        return next((text for text, is_so in found.items() if is_so), "")


class GuardedVault(UniswapV3):
    """Spot in a vault's base token, traded by the vault on behalf of the wallet, which must be its hedger."""

    def __init__(
        self,
        section: HedgeSection,
        tokens: Mapping[str, TokenSettings],
        venue: str,
        wallet: str,
        gas_limit_margin: float = 1.3,
    ) -> None:
        contracts = contracts_of(section, ("vault", "router"))
        if len(section.route) != 1:
            raise ConfigError([f"{section.name}: expected a route of one pool, found {len(section.route)}"])
        self._vault, self._hedger, self._pool = contracts["vault"], wallet, section.route[0].address
        super().__init__(section, tokens, venue, self._vault, gas_limit_margin)
        self._scale: int = 10 ** (18 + self._terms.base_decimals - self._terms.quote_decimals)
        self._vault_reads = (
            *(function.read(self._vault) for function in (_QUOTE_HELD, _BASE_HELD, _RESERVE, _PAUSED, _PRICES, _USED)),
            *(_LIMIT.read(self._vault, limit) for limit in (SLIPPAGE_LIMIT, TRADE_LIMIT, HOUR_LIMIT, BASE_LIMIT)),
            _ALLOWED.read(self._vault, HEDGER_KIND, wallet),
            _ALLOWED.read(self._vault, VENUE_KIND, self._router),
            _ALLOWED.read(self._vault, POOL_KIND, self._pool),
        )
        self.state: VaultState | None = None

    @property
    def reads(self) -> tuple[Read, ...]:
        """What to read with the next block: the vault's holdings and limits, and the pool."""
        return (*self._vault_reads, *(read for pool in self._pools for read in pool.reads))

    def update(self, block: Block, answers: Sequence[bytes | None]) -> None:
        """Take in a block's answers. A vault that does not answer leaves no usable state."""
        n_own = len(self._vault_reads)
        told = [answer for answer in answers[:n_own] if answer and not len(answer) % WORD_BYTES]
        self.state = _state_of(told) if len(told) == n_own else None
        # To the swap, what the vault may spend is what a wallet has; the vault approves its router by itself.
        held = (self.state.base_held_wei, self.state.free_quote_wei) if self.state else (None, None)
        funds = [None if wei is None else wei.to_bytes(WORD_BYTES) for wei in (*held, _ALL, _ALL)]
        super().update(block, [*funds, *answers[n_own:]])

    def quote(self, ts_recv_ns: int) -> Quote | None:
        """Return the pool's quote, its sizes within the vault's caps; None while the vault would refuse any trade."""
        found = super().quote(ts_recv_ns)
        if found is None or self.state is None or self.state.obstacle:
            return None
        lot_base = self.instrument.lot_size
        cap_lots = self._terms.lots(self.state.cap_wei * self._scale // self.state.oracle_px_e18)
        room_lots = self._terms.lots(self._room_wei(self.state))
        bid_base = min(found.bid_base, max(NOTHING, cap_lots) * lot_base)
        ask_base = min(found.ask_base, max(NOTHING, min(cap_lots, room_lots)) * lot_base)
        return msgspec.structs.replace(found, bid_base=bid_base, ask_base=ask_base)

    def _room_wei(self, state: VaultState) -> int:
        """Return how much base may be bought, at the oracle's price, before the vault holds too large a share of it."""
        base_quote = state.base_held_wei * state.oracle_px_e18 // self._scale
        gross = base_quote + state.free_quote_wei
        return max(0, gross * state.base_cap_bps // _BPS - base_quote) * self._scale // state.oracle_px_e18

    @property
    def gas_units(self) -> int:
        """What a hedge through the vault uses where the swap crosses no tick."""
        return GAS_OF_HEDGE_UNITS

    def approvals(self) -> tuple[Approval, ...]:
        """Return nothing: the vault's tokens are the vault's to spend."""
        return ()

    def build(self, intent: OrderIntent) -> TransactionRequest:
        """Return the call of the vault's `hedge`. Raises Refused for what the vault would refuse."""
        self._terms.checked(intent)
        if self.state is None:
            raise Refused(f"expected the vault {self._vault} to answer, found that it does not")
        if self.state.obstacle:
            raise Refused(f"expected {self.state.obstacle}")
        self._check_caps(intent, self.state)
        self._check_oracle(intent, self.state)
        return msgspec.structs.replace(super().build(intent), to=self._vault)

    def _check_caps(self, intent: OrderIntent, state: VaultState) -> None:
        wei = self._terms.base_wei(intent.qty_lots)
        notional_wei = -(-wei * state.oracle_px_e18 // self._scale)
        left_wei = state.hour_cap_wei - state.used_wei
        for what, cap_wei in (("one trade", state.trade_cap_wei), ("what is left of this hour", left_wei)):
            if notional_wei > cap_wei:
                raise Refused(
                    f"expected at most {self._terms.quote(max(0, cap_wei)):,.2f} {self._quote.symbol} by the vault's "
                    f"cap on {what}, found {self._terms.quote(notional_wei):,.2f}"
                )
        if intent.qty_lots > 0 and wei > self._room_wei(state):
            raise Refused(
                f"expected the vault to hold at most {state.base_cap_bps / _BPS:.0%} in {self._base.symbol}, "
                f"found room for {self._terms.base(self._room_wei(state)):g} more "
                f"and {self._terms.base(wei):g} asked for"
            )

    def _check_oracle(self, intent: OrderIntent, state: VaultState) -> None:
        """Hold what the trade would come to against the vault's own limit from the oracle."""
        moved = self.expects(intent)
        worst = Fraction(abs(moved.base_wei) * state.oracle_px_e18, self._scale)
        is_sale = intent.qty_lots < 0
        worst *= Fraction(_BPS + (-state.slippage_bps if is_sale else state.slippage_bps), _BPS)
        if moved.quote_wei < (worst if is_sale else -worst):
            raise Refused(
                f"expected a price within {state.slippage_bps} bps of the oracle's {state.oracle_px_e18 / 1e18:g}, "
                f"found {self._terms.px(moved.base_wei, moved.quote_wei):.6f} in the newest state"
            )

    def _sale(self, base_wei: int, least_wei: int, deadline: int) -> bytes:
        return self._hedge(is_buy=False, base_wei=base_wei, limit_wei=least_wei, deadline=deadline)

    def _purchase(self, base_wei: int, most_wei: int, deadline: int) -> bytes:
        return self._hedge(is_buy=True, base_wei=base_wei, limit_wei=most_wei, deadline=deadline)

    def _hedge(self, *, is_buy: bool, base_wei: int, limit_wei: int, deadline: int) -> bytes:
        block_number = self._block.number if self._block else 0
        return _HEDGE.encode(self._router, self._pool, is_buy, base_wei, limit_wei, block_number, deadline)

    def explain_revert(self, data: bytes) -> str:
        """Return the vault's or the router's reason, and what it means."""
        said = abi.explain_revert(data)
        return f"{said}: {_REASONS[said]}" if said in _REASONS else super().explain_revert(data)

    def is_price_miss(self, data: bytes) -> bool:
        """Tell whether only price or time stood in the way."""
        return abi.error_name(data, ()) == "Error(string)" and abi.explain_revert(data) in _MISSES


def _state_of(answers: Sequence[bytes]) -> VaultState:
    quote, base, reserve, paused, prices, used, slippage, trade, hour, share, hedger, venue, pool = answers
    return VaultState(
        quote_held_wei=uint_at(quote, 0),
        base_held_wei=uint_at(base, 0),
        reserve_wei=uint_at(reserve, 0),
        is_paused=uint_at(paused, 0) != 0,
        oracle_px_e18=uint_at(prices, 1) if uint_at(prices, 0) else 0,
        used_wei=uint_at(used, 0),
        slippage_bps=uint_at(slippage, 0),
        trade_cap_wei=uint_at(trade, 0),
        hour_cap_wei=uint_at(hour, 0),
        base_cap_bps=uint_at(share, 0),
        is_hedger=uint_at(hedger, 0) != 0,
        is_venue=uint_at(venue, 0) != 0,
        is_pool=uint_at(pool, 0) != 0,
    )
