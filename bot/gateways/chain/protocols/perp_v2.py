"""A perpetual of Perpetual Protocol v2: shorts and longs against the market's virtual pool, margined in its vault.

Each trade is one `openPosition` of an exact amount of base, bounded in quote by the order's limit and in time by its
deadline. The exchange's fee is charged apart from the price: it is inside bid and ask here, and in `fee_quote_wei` of a
trade. Funding is settled with every trade of ours: `read_funding` tells it from the receipt. Margin must be in the
vault before; this module never moves it. All amounts have 18 decimals, whatever the token that settles them has.

Not checked beforehand, and left to `eth_call` and the contracts: how far the price has gone already within fifteen
seconds (`EX_OPLAS`), as no view tells where it began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from bot.domain.instruments import Perpetual
from bot.domain.market import Quote
from bot.domain.orders import OrderIntent
from bot.domain.units import NS_PER_S
from bot.gateways.chain import abi
from bot.gateways.chain.abi import Event, Function, uint_at
from bot.gateways.chain.nouns import Amounts, Approval, Block, Read, Receipt, Refused, TransactionRequest
from bot.gateways.chain.protocols.perp_market import DECIMALS, Market, MarketWatch
from bot.gateways.chain.protocols.trade_terms import (
    NOTHING,
    TradeTerms,
    contracts_of,
    deadline_s,
    gas_limit,
    linear_terms,
)
from bot.gateways.chain.settings import HedgeSection, TokenSettings
from bot.pricing.perp_v2 import ONE, PerpTrade, buy, is_in_band, market_px_wei, sell, spread_pips
from bot.pricing.uniswap_v3 import PIPS, PoolReverts, PoolState, UnknownTicks

# Measured on Anvil (Osaka rules) with the published contracts: the first trade of an account 890,528; increasing
# 653,809 to 718,885, the most where funding is settled; reducing 659,486 to 714,437; closing 422,148 to 456,008; up to
# 4,900 more must be at hand before refunds; an initialised tick crossed 102,135 to 121,344 more.
GAS_OPEN_UNITS: Final = 896_000
GAS_TRADE_UNITS: Final = 724_000
GAS_TICK_UNITS: Final = 122_000
_CONTRACTS: Final = ("clearing_house", "base_token")

_OPEN = Function("openPosition((address,bool,bool,uint256,uint256,uint256,uint160,bytes32))", "(uint256,uint256)")
_CHANGED = Event(
    "PositionChanged(address indexed trader, address indexed base, int256 base_delta, int256 notional, uint256 fee, "
    "int256 open_notional, int256 realized, uint256 sqrt_price_after)"
)
_FUNDED = Event("FundingPaymentSettled(address indexed trader, address indexed base, int256 payment)")

# The contracts' codes in words.
REASONS: Final = {
    "CH_TLRS": "a sale brings less than its limit",
    "CH_TMRS": "a sale takes more base than its limit",
    "CH_TLRL": "a purchase brings less base than its limit",
    "CH_TMRL": "a purchase costs more than its limit",
    "CH_TE": "the deadline is over",
    "CH_NEFCI": "not enough free collateral for the initial margin",
    "CH_NEFCM": "not enough free collateral for the maintenance margin",
    "CH_MNO": "the market is not open",
    "CH_MP": "the market is paused",
    "CH_F0S": "nothing would be traded",
    "EX_MIP": "trading in the market is not enabled",
    "EX_OPLAS": "the price would go further within fifteen seconds than is allowed",
    "EX_OPB": "the price would leave the band around the index",
    "EX_BTNE": "there is no such market",
    "UB_UOA": "the market has no liquidity for all of it",
    "AB_MNE": "the account has positions in too many markets",
    "OLD": "the pool's history is too short for an average price",
}
_MISSES: Final = ("CH_TLRS", "CH_TMRS", "CH_TLRL", "CH_TMRL", "CH_TE", "EX_OPLAS")


class PositionChange(msgspec.Struct, frozen=True, gc=False):
    """What a mined trade did, with 18 decimals.

    `realized_wei` is the profit that reducing a position booked, its fee taken off; `funding_wei` was paid (negative:
    got) first, for the time since the trade before.
    """

    base_wei: int
    notional_wei: int
    fee_wei: int
    realized_wei: int
    funding_wei: int


class PerpV2:
    """One market of Perpetual Protocol v2, traded by one wallet."""

    def __init__(
        self,
        section: HedgeSection,
        tokens: Mapping[str, TokenSettings],  # noqa: ARG002 - virtual tokens are nobody's assets
        venue: str,
        wallet: str,
        gas_limit_margin: float = 1.3,
    ) -> None:
        contracts = contracts_of(section, _CONTRACTS)
        self._clearing_house, self._base, self._trader = contracts["clearing_house"], contracts["base_token"], wallet
        instrument_id = f"{venue}:{section.name}"
        self._terms = TradeTerms.of(section, instrument_id, DECIMALS, DECIMALS)
        self._gas_limit_margin = gas_limit_margin
        self._watch = MarketWatch(self._clearing_house, self._base, wallet)
        self._block: Block | None = None
        self._position_wei = 0  # as of the newest block in which it could be read
        self.instrument = Perpetual(**linear_terms(section, venue))

    # What is read

    @property
    def reads(self) -> tuple[Read, ...]:
        """What to read with the next block; more once the protocol's contracts and the pool's ticks are found."""
        return self._watch.reads

    def update(self, block: Block, answers: Sequence[bytes | None]) -> None:
        """Take in a block's answers. What reverted leaves no usable state."""
        self._block = block
        self._watch.update(answers)
        if self._watch.market is not None:
            self._position_wei = self._watch.market.account.position_wei

    # What is known

    @property
    def market(self) -> Market | None:
        """The market and our account in it as of the newest block, None while there is no usable state."""
        return self._watch.market

    @property
    def funding_wei(self) -> int:
        """Funding that the next trade will settle, with 18 decimals: positive is paid by us."""
        return self._watch.market.funding_wei if self._watch.market else 0

    @property
    def amount_decimals(self) -> tuple[int, int]:
        """Decimals of base and quote in `Amounts`, which are those of the virtual tokens."""
        return DECIMALS, DECIMALS

    def quote(self, ts_recv_ns: int) -> Quote | None:
        """Return the pool's price less and plus the exchange's fee; sizes are what the free collateral allows.

        A size is never 0, as a quote must have one: where there is none it is far below a lot.
        """
        market, pool = self._watch.market, self._watch.pool
        if self._block is None or market is None or pool is None or not market.is_open:
            return None
        mid_px = market_px_wei(pool.sqrt_price_x96) / ONE
        kept = (PIPS - market.fee_pips) / PIPS
        position, lot_base = self._terms.base(market.account.position_wei), self.instrument.lot_size
        room = max(0, market.free_wei) / market.mark_px_wei * PIPS / (market.initial_pips + market.fee_pips)
        return Quote(
            self.instrument.instrument_id,
            mid_px * kept,
            max(NOTHING, int((room + max(0.0, position)) / lot_base)) * lot_base,
            mid_px / kept,
            max(NOTHING, int((room + max(0.0, -position)) / lot_base)) * lot_base,
            self._block.timestamp_s * NS_PER_S,
            ts_recv_ns,
            self._block.number,
        )

    @property
    def depth_base(self) -> float:
        """How much base moves the price by about 100 %, L/√P, 0 while there is no usable state."""
        pool = self._watch.pool
        return self._terms.base((pool.liquidity << 96) // pool.sqrt_price_x96) if pool else 0.0

    @property
    def gas_units(self) -> int:
        """What a trade uses without crossing a tick: 896,000 to open a position, 724,000 to change one."""
        return self._gas_units(self._watch.market)

    def _gas_units(self, market: Market | None) -> int:
        return GAS_TRADE_UNITS if market and market.account.position_wei else GAS_OPEN_UNITS

    def position_lots(self) -> int:
        """Return the position in whole lots, towards zero; one that cannot be read now is as it was."""
        return self._terms.hedge_lots(self._position_wei)

    def approvals(self) -> tuple[Approval, ...]:
        """Return nothing: trades need margin in the vault, and no permission."""
        return ()

    # A trade

    def expects(self, intent: OrderIntent) -> Amounts:
        """Return what the trade would move in the newest state, to the last unit. Raises Refused if it cannot be."""
        _, _, trade = self._trade(intent)
        return Amounts(trade.base_wei, trade.notional_wei, trade.fee_wei)

    def _trade(self, intent: OrderIntent) -> tuple[Market, PoolState, PerpTrade]:
        market, pool = self._watch.market, self._watch.pool
        if market is None or pool is None:
            raise Refused("expected a usable state of the market, found none")
        wei = self._terms.base_wei(intent.qty_lots)
        try:
            return market, pool, (sell if intent.qty_lots < 0 else buy)(pool, wei, market.fee_pips)
        except (UnknownTicks, PoolReverts) as error:
            raise Refused(f"expected the market to carry {self._terms.base(wei):g} base: {error}") from error

    def build(self, intent: OrderIntent) -> TransactionRequest:
        """Return the transaction that trades within the order's limit, the price band and the margin."""
        gas = self._terms.checked(intent)
        market, pool, trade = self._trade(intent)
        bound = self._terms.within_limit(intent, Amounts(trade.base_wei, trade.notional_wei, trade.fee_wei))
        if bound <= 0:
            raise Refused(f"expected a limit that bounds the trade, found {bound}")  # the contracts read 0 as none
        self._check(market, pool, trade, intent)
        is_sale = intent.qty_lots < 0
        amount = self._terms.base_wei(intent.qty_lots)
        data = _OPEN.encode((self._base, is_sale, is_sale, amount, bound, deadline_s(gas), 0, bytes(32)))
        units = self._gas_units(market) + trade.ticks_crossed * GAS_TICK_UNITS
        limit = gas_limit(units, self._gas_limit_margin)
        return TransactionRequest(
            intent.order_id, intent.instrument_id, self._clearing_house, data, 0, limit, gas, intent
        )

    def _check(self, market: Market, pool: PoolState, trade: PerpTrade, intent: OrderIntent) -> None:
        """Refuse what the market's rules or the margin would not let through."""
        position, moved = market.account.position_wei, trade.base_wei
        if not market.is_open:
            raise Refused("expected an open market, found it paused or closed")
        is_reducing = position * moved < 0 and abs(moved) <= abs(position)
        if intent.reduce_only and not is_reducing:
            raise Refused(
                f"expected an order that reduces the position of {self._terms.base(position):g}, "
                f"found {self._terms.base(moved):g}"
            )
        crossed = abs(trade.after.tick - pool.tick)
        if crossed > market.max_ticks:
            raise Refused(f"expected the price to move by {market.max_ticks} ticks at most, found {crossed}")
        before_x96, after_x96 = pool.sqrt_price_x96, trade.after.sqrt_price_x96
        if not is_in_band(before_x96, after_x96, market.index_px_wei, market.max_spread_pips):
            raise Refused(
                f"expected the price to stay within {market.max_spread_pips / PIPS:.2%} of the index "
                f"{market.index_px_wei / ONE:g}, found {spread_pips(after_x96, market.index_px_wei) / PIPS:+.2%}"
            )
        name, pips = ("maintenance", market.maintenance_pips) if is_reducing else ("initial", market.initial_pips)
        free = market.free_after_wei(trade, pips)
        if free < 0:
            raise Refused(
                f"expected free collateral at the {name} margin of {pips / PIPS:.2%} after trading "
                f"{self._terms.base(moved):g}, found {self._terms.quote(free):.2f} (now {market.free_wei / ONE:.2f}); "
                "hint: deposit into the vault, or trade less"
            )

    # What came of it

    def read_answer(self, intent: OrderIntent, data: bytes) -> Amounts | None:
        """Return what an `eth_call` of the built transaction says would move: quote with the fee taken off."""
        if len(data) != 2 * abi.WORD_BYTES:
            return None
        base, quote = uint_at(data, 0), uint_at(data, 1)
        return Amounts(-base, quote) if intent.qty_lots < 0 else Amounts(base, -quote)

    def read_receipt(self, intent: OrderIntent, receipt: Receipt) -> Amounts:
        """Return what a mined trade moved, and its fee; nothing if it failed."""
        change = self.read_change(intent, receipt)
        return Amounts(change.base_wei, change.notional_wei, change.fee_wei) if change else Amounts(0, 0)

    def read_change(self, intent: OrderIntent, receipt: Receipt) -> PositionChange | None:
        """Return all that a mined trade did, None if it failed."""
        if not receipt.is_success:
            return None
        mine = [change for change in _CHANGED.all(receipt.logs, self._clearing_house) if self._is_ours(change)]
        if len(mine) != 1:
            raise abi.Undecodable(
                f"expected one trade of {intent.order_id} in the logs of {receipt.tx_hash}, found {len(mine)}"
            )
        [change] = mine
        return PositionChange(
            change["base_delta"], change["notional"], change["fee"], change["realized"], self.read_funding(receipt)
        )

    def read_funding(self, receipt: Receipt) -> int:
        """Return the funding that any transaction of ours settled in this market: positive was paid, 18 decimals."""
        return sum(
            funded["payment"] for funded in _FUNDED.all(receipt.logs, self._clearing_house) if self._is_ours(funded)
        )

    def _is_ours(self, fields: Mapping[str, str]) -> bool:
        wanted = (self._trader.lower(), self._base.lower())
        return (fields["trader"].lower(), fields["base"].lower()) == wanted

    def explain_revert(self, data: bytes) -> str:
        """Return the reason in words: the contracts' code, and what it stands for."""
        said = abi.explain_revert(data)
        return f"{said}: {REASONS[said]}" if said in REASONS else said

    def is_price_miss(self, data: bytes) -> bool:
        """Tell whether only the limit, the deadline, or other trades just before stood in the way."""
        return abi.explain_revert(data) in _MISSES
