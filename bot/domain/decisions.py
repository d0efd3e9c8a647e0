"""What a hedge policy sees and says, and why a hedge was or was not made."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from bot.domain.portfolio import Greeks


class Legs(msgspec.Struct, frozen=True, gc=False):
    """The option legs of one underlying as arrays of one length, for policies that reprice the book."""

    forward_px: NDArray[np.float64]
    strike_px: NDArray[np.float64]
    tau_years: NDArray[np.float64]
    vol: NDArray[np.float64]
    qty_base: NDArray[np.float64]
    is_call: NDArray[np.bool_]


class OptionOffers(msgspec.Struct, frozen=True, gc=False):
    """Listed options that may be traded as hedges, as arrays of one length; all per unit of base, in quote money.

    `buy_cost_quote` and `sell_cost_quote` are what a trade costs beyond the mark: half-spread and fee. `buy_max_base`
    and `sell_max_base` bound one trade: what is shown, and what every limit leaves. `held_base` is the position hedges
    have built so far, which the net Greeks of the view count already. `own_base` is what the book itself holds of the
    view's legs, by row: the rest is held by hedges, offered now or not (None: no hedge is held).
    """

    instrument_ids: tuple[str, ...]
    buy_cost_quote: NDArray[np.float64]
    sell_cost_quote: NDArray[np.float64]
    buy_max_base: NDArray[np.float64]
    sell_max_base: NDArray[np.float64]
    lot_base: NDArray[np.float64]
    held_base: NDArray[np.float64]
    terms: Legs
    delta_ratio: NDArray[np.float64]
    gamma_per_px: NDArray[np.float64]
    vega_quote_per_vol: NDArray[np.float64]
    own_base: NDArray[np.float64] | None = None


class OptionTrade(msgspec.Struct, frozen=True, gc=False):
    """Options a policy wants traded as a hedge: signed base units, what that costs and what it is worth to it."""

    instrument_id: str
    qty_base: float
    cost_quote: float
    benefit_quote: float
    reason: str


class Peer(msgspec.Struct, frozen=True, gc=False):
    """Another underlying of the vault that moves along: its residual counts in the risk of this one.

    `off_base` is its net delta less its target, all in flight counted; `correlation_ratio` is that of log returns,
    nearer to 0 by what is uncertain of it. `cost_rate` is what trading it costs one way, per value traded.
    """

    underlying: str
    spot_px: float
    vol: float
    correlation_ratio: float
    off_base: float
    gamma_base_per_px: float
    cost_rate: float


class HedgeView(msgspec.Struct, frozen=True, gc=False):
    """All that a policy sees of one underlying at one moment.

    `greeks` are net (options, hedge, coin cash) in the vault's numeraire convention; `delta_low_base` and
    `delta_high_base` bound the net delta once everything in flight is counted: `pending_base` in full, orders of
    unknown outcome at either end. `hedge_base` is the hedge position held. `cost_rate` is the one-way cost as a
    fraction of traded value, `lot_base` the smallest tradable hedge, `monitor_years` the typical time between two
    decisions. `last_hedge_ns` is 0 and `last_hedge_px` 0.0 before the first hedge. `vol` is the annualised vol that
    matters to the hedge (each option's by its gamma; realised for liquidity, and where there are none; NaN unknown),
    `tau_years` the time to the nearest expiry with a material share of the gamma (infinite without options),
    `latency_years` from a decision to its fill. `offers`
    are given only to a policy that `needs_offers`, and then only when options may be traded now. `horizon_years` is the
    time to the last expiry of an option held (infinite without, or with much that never expires; NaN: as `tau_years`).
    `vanna_base_per_vol` is what a vol point of 1.00 does to the delta of all options (NaN: see `legs`).
    """

    now_ns: int
    underlying: str
    spot_px: float
    target_delta_base: float
    greeks: Greeks
    delta_low_base: float
    delta_high_base: float
    hedge_base: float
    pending_base: float
    cost_rate: float
    fixed_cost_quote: float
    lot_base: float
    monitor_years: float
    last_hedge_ns: int
    last_hedge_px: float
    legs: Legs
    vol: float = float("nan")
    tau_years: float = float("inf")
    latency_years: float = 0.0
    peers: tuple[Peer, ...] = ()
    offers: OptionOffers | None = None
    horizon_years: float = float("nan")
    vanna_base_per_vol: float = float("nan")


class HedgeTarget(msgspec.Struct, frozen=True, gc=False):
    """A no-trade band on net delta, and where to trade to when it is left.

    Below `low_base` buy up to `buy_to_base`, above `high_base` sell down to `sell_to_base`
    (edge: the band itself; centre: the target; inner edge: in between).
    `urgency` 0 can wait for a maker fill as long as the hedge settings allow, 1 should cross the spread at once.
    `options` are traded first, and what they change of the net delta is hedged once it is there.
    """

    low_base: float
    high_base: float
    buy_to_base: float
    sell_to_base: float
    urgency: float
    reason: str
    options: tuple[OptionTrade, ...] = ()

    @staticmethod
    def to_edge(low_base: float, high_base: float, reason: str, urgency: float = 0.0) -> HedgeTarget:
        """Return a band that is traded back to its nearest edge."""
        return HedgeTarget(low_base, high_base, low_base, high_base, urgency, reason)

    @staticmethod
    def to_centre(
        low_base: float, high_base: float, centre_base: float, reason: str, urgency: float = 0.0
    ) -> HedgeTarget:
        """Return a band that is traded back to `centre_base`."""
        return HedgeTarget(low_base, high_base, centre_base, centre_base, urgency, reason)

    @staticmethod
    def hold(reason: str) -> HedgeTarget:
        """Return a band nothing leaves: do not hedge."""
        inf = float("inf")
        return HedgeTarget(-inf, inf, -inf, inf, 0.0, reason)


class HedgePolicy(Protocol):
    """What the engine needs of a policy: one pure method. Policies live in `strategies`."""

    @property
    def name(self) -> str:
        """The policy's registered name."""

    @property
    def needs_offers(self) -> bool:
        """Whether it may ask for options to be traded, and so has to see what is offered."""

    def target(self, view: HedgeView) -> HedgeTarget:
        """Return the band for this view; no IO, no clock, no randomness, no memory."""


class Refusal(StrEnum):
    """Why the engine did not hedge although it was asked to decide. Counted and shown, never silent."""

    NO_MARKET = "no_market"
    STALE_HEDGE_QUOTE = "stale_hedge_quote"
    STALE_INDEX = "stale_index"
    STALE_FORWARD = "stale_forward"
    NO_VOL = "no_vol"
    JUMP_UNCONFIRMED = "jump_unconfirmed"
    RECONCILING = "reconciling"
    PAUSED = "paused"
    HALTED = "halted"
    REDUCE_ONLY = "reduce_only"
    UNKNOWN_OUTCOME = "unknown_outcome"
    ORDER_IN_FLIGHT = "order_in_flight"
    THIN_BOOK = "thin_book"
    BELOW_MINIMUM = "below_minimum"
    ORDER_VALUE = "order_value"
    ORDER_SIZE = "order_size"
    ORDER_RATE = "order_rate"
    PRICE_COLLAR = "price_collar"
    HEDGE_LOOP = "hedge_loop"
    DAILY_LOSS = "daily_loss"
    REJECT_STREAK = "reject_streak"
    EXPIRED_HEDGE = "expired_hedge"
    UNSETTLED = "unsettled"
    BAD_TARGET = "bad_target"
    VENUE_CONTRADICTION = "venue_contradiction"
    VENUE_DOWN = "venue_down"
    VENUE_FATAL = "venue_fatal"
    VENUE_LIMIT = "venue_limit"
    VENUE_REFUSING = "venue_refusing"
    DELISTED = "delisted"
    SLIPPAGE_BUDGET = "slippage_budget"
    UNKNOWN_HOLDING = "unknown_holding"
    STALE_ACCOUNT = "stale_account"
    STALE_CHAIN = "stale_chain"
    ORACLE_HALT = "oracle_halt"
    ORACLE_REDUCE_ONLY = "oracle_reduce_only"
    ORACLE_DEVIATION = "oracle_deviation"
    STALE_TERMS = "stale_terms"
    GAS_OVER_BENEFIT = "gas_over_benefit"
    UNCOVERED_SALE = "uncovered_sale"
    MARGIN_LIMIT = "margin_limit"
    MARGIN_REDUCE_ONLY = "margin_reduce_only"
    BREAKER_REDUCE_ONLY = "breaker_reduce_only"
    COUNTERPARTY_LIMIT = "counterparty_limit"


class BotState(StrEnum):
    """RECONCILING → RUNNING; RUNNING ⇄ PAUSED; RUNNING ⇄ REDUCE_ONLY; any → HALTED."""

    RECONCILING = "reconciling"
    RUNNING = "running"
    PAUSED = "paused"
    REDUCE_ONLY = "reduce_only"
    HALTED = "halted"


class PlannedLeg(msgspec.Struct, frozen=True, gc=False):
    """One order of a decision that compared plans: its part of the need, and what it was expected to cost.

    The cost is beyond mid, in quote money, with what holding the part costs or earns.
    """

    order_id: str
    instrument_id: str
    qty_lots: int
    qty_base: float
    cost_quote: float


class Decision(msgspec.Struct, frozen=True, gc=False):
    """One decision about one underlying: what was seen, what the policy wanted, and what came of it.

    `order_id`, `qty_lots` and `wanted_lots` are those of the only order, or of the largest of several. `legs` are all
    orders where instruments were compared by cost; the best plan without the most used one would have cost
    `next_best_quote` (infinite: no other could take it; NaN: nothing was compared).
    `option_orders` says of every option order that was sent what it is and why, `old_marks` which option hedges have
    been marked without a quote of their own for long.
    """

    now_ns: int
    underlying: str
    spot_px: float
    greeks: Greeks
    delta_low_base: float
    delta_high_base: float
    target_delta_base: float
    hedge_base: float
    pending_base: float
    low_base: float
    high_base: float
    policy_reason: str
    refusal: Refusal | None
    refusal_detail: str
    order_id: str | None
    qty_lots: int
    wanted_lots: int
    legs: tuple[PlannedLeg, ...] = ()
    next_best_quote: float = float("nan")
    option_orders: tuple[str, ...] = ()
    old_marks: tuple[str, ...] = ()
