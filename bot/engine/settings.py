"""What the engine must be told: validated values only, built by `runtime.configuration.config` from a vault's YAML."""

from __future__ import annotations

from typing import Literal

import msgspec

from bot.domain.decisions import HedgePolicy
from bot.domain.instruments import Hedgeable, Option
from bot.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_S
from bot.engine.margin.risk_settings import RiskSettings
from bot.risk.oracle_fusion import FusionRule


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Hard limits of one vault; each refuses or cuts an order and says so."""

    max_order_quote: float
    max_order_base: float | None = None
    max_orders_per_min: int
    daily_loss_quote: float
    price_collar_bps: float = 200.0
    max_hedges_same_way: int = 5
    hedge_loop_window_ns: int = 60 * NS_PER_S
    max_reject_streak: int = 5


class Ages(msgspec.Struct, frozen=True, kw_only=True):
    """The oldest an input may be when it is used, per stream, and how far one event may jump unconfirmed."""

    vol_ns: int
    quote_ns: int
    index_ns: int
    max_jump_fraction: float = 0.10


class FusionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How one underlying's price is made of what exchanges and oracles say of it.

    An exchange's index may be `index_max_age_ns` old and is believed to `index_confidence_fraction`, an oracle that
    states no confidence to `oracle_confidence_fraction`; what is vaguer than `max_confidence_fraction` is dropped. A
    hedge's price further than `max_deviation_fraction` from the fused one is not traded at; what is dated may be as
    much further away as `max_carry_rate` (per year) makes of the time left.
    """

    index_max_age_ns: int = 10 * NS_PER_S
    index_confidence_fraction: float = 0.0003
    oracle_confidence_fraction: float = 0.005
    max_confidence_fraction: float = 0.01
    max_deviation_fraction: float = 0.02
    max_carry_rate: float = 0.5
    rule: FusionRule = FusionRule()

    def allowed_fraction(self, years: float) -> float:
        """Return how far from the fused price a price for in `years` may be."""
        return self.max_deviation_fraction + self.max_carry_rate * years


class HedgeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One hedge instrument of an underlying, what trading it costs and how it is traded.

    "taker" crosses the spread at once. "maker" rests at the near touch, follows it once it is `repeg_ticks` away but
    not more often than `repeg_every_ns`, and crosses after `max_rest_ns` (less by urgency/`escalate_urgency`), or with
    net delta beyond the band by more than `escalate_bands` of its half-widths. "auto" does the same, and also crosses
    where waiting is expected to cost more. `can_amend` says whether the venue can move a resting order. With
    `one_outstanding` nothing new is sent on the instrument while an order on it is pending. `ratio` and
    `target_delta_base` are the underlying's: those of its first hedge count.
    Where a trade is a transaction on a chain, `needs_terms`: without fresh `ExecutionTerms` nothing is sent. There
    `worse_fill_probability` is the chance that all a limit allows is taken by whoever orders the block, and
    `risk_aversion_per_quote` weighs gas against risk (0: as the policy's band implies).
    For routing by cost: `depth` is what stands behind the touch (distance as a fraction, quote money there); an order
    of q moves the price by `impact_coefficient` · √(q/`daily_volume_base`) vols of a day, each `daily_vol_fraction` (0:
    as measured); what is traded is held for `holding_days` (None: as long as the need is likely to last), for which a
    long pays `funding_rate_per_day` (None: as lately) and a short `borrow_rate_per_year`; a future is left
    `roll_before_ns` before it expires.
    """

    instrument: Hedgeable
    maker_bps: float
    taker_bps: float
    max_slippage_bps: float = 25.0
    ratio: float = 1.0
    target_delta_base: float = 0.0
    style: Literal["taker", "maker", "auto"] = "taker"
    repeg_ticks: int = 1
    repeg_every_ns: int = 5 * NS_PER_S
    max_rest_ns: int = 60 * NS_PER_S
    escalate_urgency: float = 1.0
    escalate_bands: float = 1.0
    can_amend: bool = False
    one_outstanding: bool = False
    needs_terms: bool = False
    worse_fill_probability: float = 0.05
    risk_aversion_per_quote: float = 0.0
    depth: tuple[tuple[float, float], ...] = ()
    impact_coefficient: float = 0.0
    daily_volume_base: float = 0.0
    daily_vol_fraction: float = 0.0
    holding_days: float | None = None
    funding_rate_per_day: float | None = None
    borrow_rate_per_year: float = 0.0
    roll_before_ns: int = NS_PER_HOUR


class OptionHedgeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which listed options of one underlying may be traded as hedges, what that costs, and how much of it there may be.

    Only options of `venue` with between `min_ns` and `max_ns` to expiry, strikes between `min_strike_ratio` and
    `max_strike_ratio` times the index, deltas up to `max_delta_ratio`, and bid and ask vols at most `max_spread_vol`
    apart; a limit further than that from the mark's vol is not sent. What is held may be reduced whatever it has
    become. At most `max_instruments` are held at a time, `max_position_base` of each, `max_premium_quote` of premium in
    all (bought and sold alike), and one order is worth up to `max_order_quote` of it. Only with `may_sell` is one sold
    that was not bought before. The policy is shown what is offered every `review_ns`. A fee is `taker_bps` of the
    underlying's worth, at most `fee_cap_fraction` of the price.
    """

    venue: str
    taker_bps: float
    max_position_base: float
    max_order_quote: float
    max_premium_quote: float
    fee_cap_fraction: float = 0.125
    min_ns: int = NS_PER_DAY
    max_ns: int = 90 * NS_PER_DAY
    min_strike_ratio: float = 0.7
    max_strike_ratio: float = 1.4
    max_delta_ratio: float = 0.8
    max_spread_vol: float = 0.05
    max_instruments: int = 5
    may_sell: bool = False
    review_ns: int = 300 * NS_PER_S


class BookLeg(msgspec.Struct, frozen=True):
    """A holding of the book to be hedged: an option, or a linear or inverse instrument, in signed base units."""

    instrument: Option | Hedgeable
    qty_base: float


class DeltaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the vol of an option is expected to move with the price, and so what its delta is.

    Any model but "black" is learnt from the quotes of the vault's own expiries, looked at every `every_ns`; a moment
    counts less by 1/`window` with each later one. While `is_gated`, it is used only as long as it was significantly
    better than Black's delta on moves it had not seen. `is_watched` gathers the evidence of all models where Black's is
    used.
    """

    model: Literal["black", "sticky_delta", "skew_stickiness", "minimum_variance"] = "black"
    is_gated: bool = True
    is_watched: bool = False
    every_ns: int = 60 * NS_PER_S
    window: int = 500

    @property
    def needs_record(self) -> bool:
        """Whether the smiles have to be watched at all."""
        return self.is_watched or self.model != "black"


class OperatorBounds(msgspec.Struct, frozen=True, kw_only=True):
    """How far a person may set the target of one underlying, and the edges of a band from it; None: not at all."""

    target_min_base: float | None = None
    target_max_base: float | None = None
    band_min_base: float | None = None
    band_max_base: float | None = None


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One vault as the engine sees it.

    `numeraire` is "USD" or a base coin; `cash` is currency → amount; `hedges` underlying → its hedges in order of
    preference, over which `routing` splits a need where that is cheapest, or takes the first that can; `venue_limits`
    venue → largest hedge exposure there in quote money, options and whatever is in flight included.
    `run_id` prefixes client order ids (ASCII alphanumeric).
    The accounts at `account_venues` must agree with the ledger of hedges before anything is traded, and go on being
    compared: with a report older than `account_max_age_ns` (0: any) nothing is traded. What others do there is adopted
    or flattened by `foreign_policy`. At `account_book` every position that is no hedge instrument is part of the book;
    at `account_cash` the equity that positions do not explain is cash, added to `cash`. All are empty in a replay.
    Options without a fresh vol are marked by `surface`: fitted ("svi") where the quotes support it, or joined by lines.
    `fusion` is by underlying: its index is then the fused price of all sources, and nothing else. Nothing is traded
    before every chain of `chain_venues` reported what it holds, nor on a block older than `chain_max_age_ns` (0: any).
    `option_hedges` are by underlying; only a policy that needs offers trades them. With `bands` "joint" the
    policy sees what the other underlyings are off by and how they move along. Without `risk` margin is not reckoned.
    `operator` is by underlying: what a person may set while the bot runs.
    """

    vault: str
    run_id: str
    numeraire: str
    policy: HedgePolicy
    book: tuple[BookLeg, ...]
    cash: dict[str, float]
    hedges: dict[str, tuple[HedgeSettings, ...]]
    universe: tuple[Option | Hedgeable, ...]
    limits: Limits
    ages: Ages
    gap_ns: int
    pnl_step_ns: int = 60 * NS_PER_S
    answer_timeout_ns: int = 5 * NS_PER_S
    query_every_ns: int = 2 * NS_PER_S
    routing: Literal["cheapest", "preference"] = "cheapest"
    venue_limits: dict[str, float] = {}
    account_venues: frozenset[str] = frozenset()
    account_max_age_ns: int = 0
    account_book: frozenset[str] = frozenset()
    account_cash: frozenset[str] = frozenset()
    foreign_policy: Literal["adopt", "flatten"] = "adopt"
    fusion: dict[str, FusionSettings] = {}
    chain_venues: frozenset[str] = frozenset()
    chain_max_age_ns: int = 0
    surface: Literal["svi", "linear"] = "svi"
    delta: DeltaSettings = DeltaSettings()
    option_hedges: dict[str, OptionHedgeSettings] = {}
    bands: Literal["joint", "own"] = "joint"
    risk: RiskSettings | None = None
    operator: dict[str, OperatorBounds] = {}
