"""What a run amounted to: the summary people and programs read, and the series pictures are drawn from."""

from __future__ import annotations

import msgspec

from bot.domain.portfolio import PnlBreakdown


class LatencySummary(msgspec.Struct, frozen=True):
    """Percentiles of a latency in microseconds; both 0 where nothing was measured."""

    p50: float
    p99: float


class LatencyHistogram(msgspec.Struct, frozen=True):
    """How often something was timed, and the percentiles in microseconds."""

    count: int
    p50_us: float
    p99_us: float
    max_us: float


class HedgeMark(msgspec.Struct, frozen=True):
    """One fill of a hedge: signed base quantity, price, and what it cost in quote money (fee plus slippage)."""

    ts_ns: int
    order_id: str
    instrument_id: str
    qty_base: float
    px: float
    cost_quote: float
    reason: str


class RunSeries(msgspec.Struct):
    """Columns of equal length over time (the first seven), hedges, and gaps of the recording as (from_ns, to_ns).

    Band edges are ±inf while the policy holds, NaN while a guard refused to decide.
    """

    ts_ns: list[int]
    spot_px: list[float]
    net_delta_base: list[float]
    low_base: list[float]
    high_base: list[float]
    pnl_quote: list[float]
    unhedged_pnl_quote: list[float]
    hedges: list[HedgeMark]
    gaps_ns: list[tuple[int, int]]


class DeltaEvidence(msgspec.Struct, frozen=True):
    """The delta model of one underlying: what was asked for, what was in use at the end and why, and the evidence.

    Gains are 1 - SSE over SSE of Black's delta on moves not yet learnt from, by model; `t_ratio` is the mean
    improvement over its standard error, `stickiness_error_ratio` the standard error of the skew-stickiness ratio (None
    unknown). `coefficients_ratio` are a, b, c of minimum variance.
    """

    model: str
    used: str
    why: str
    moments: int
    stickiness_ratio: float
    stickiness_error_ratio: float | None
    coefficients_ratio: tuple[float, float, float]
    gain_share: dict[str, float]
    t_ratio: dict[str, float]


class MarginRecord(msgspec.Struct, frozen=True):
    """What margin of one account was like over a run: the newest figures, and the worst of them.

    `utilisation_ratio` is maintenance margin over equity, 1 being liquidation, `worst_initial_ratio` initial margin
    over it, either of equity without what is kept aside as insurance; `state_s` says how long the account was in which
    state, `cuts` how often a hedge was made smaller or sent elsewhere for want of margin there. `required_quote` is
    what should be posted for a bad move until a transfer arrives, `target_ratio` the equity per margin that is to be
    left then, which was changed `target_changes` times.
    """

    model: str
    equity_quote: float | None
    initial_quote: float | None
    maintenance_quote: float | None
    utilisation_ratio: float | None
    worst_utilisation_ratio: float
    state: str
    state_s: dict[str, float]
    cuts: int
    reviews: int
    degraded: tuple[str, ...]
    required_quote: float | None = None
    target_ratio: float | None = None
    target_changes: int = 0
    worst_initial_ratio: float = 0.0
    worst_state: str = "unknown"


class BufferRecord(msgspec.Struct, frozen=True):
    """The insurance buffer of a vault at the end of a run: what is there, and what came and went over the run."""

    balance_quote: float
    full_quote: float
    funded_quote: float
    drawn_quote: float
    returned_quote: float


class ForecastRecord(msgspec.Struct, frozen=True):
    """The newest forecast of one underlying's vol (yearly, for `horizon_s` on), and how its quantiles have held so far.

    `quantile_vol` is by level. Of `outcomes` forecasts whose time has come, `breaches` says by level how many were
    exceeded; `degraded` why the newest is not the model's best, "" where it is.
    """

    model: str
    regime: str
    horizon_s: float | None
    mean_vol: float | None
    quantile_vol: dict[str, float]
    outcomes: int
    breaches: dict[str, int]
    degraded: str


class RunSummary(msgspec.Struct, frozen=True):
    """The figures of one run; this is what `replay --json` prints, field for field.

    `delta_rms_base`, `delta_max_base` and `not_deciding_s` are of the first underlying: net delta against its target.
    `latency_us` is of live feeds, by step from the venue's time to a fill. `transactions` are hedges on chains, each of
    which cost its gas; the failed ones filled nothing. `deltas` is by underlying, of vaults that watch their smiles;
    `surface_fallbacks` says by expiry why the newest surface was not fitted there, where one was needed, and
    `unquoted_hedges_s` for how long an option hedge was marked without a quote of its own, where that was long.
    `margin` is by account, of vaults that have it reckoned, `transfers` are those of collateral that were planned,
    `insurance` is what was kept aside, where a vault does; `forecasts` is by underlying. Conditions outside changed
    buffers, and breakers opened, as often as is said. `collateral_plans` counts plans that came, those of them that
    fall short, and how often the rule stood in.
    """

    vault: str
    policy: str
    seed: int
    start: str
    end: str
    events: int
    decisions: int
    hedges: int
    refusals: dict[str, int]
    quotes_refused: dict[str, int]
    pnl_quote: dict[str, float]
    gap_pnl_quote: dict[str, float]
    unexplained_share_of_abs_parts: float
    unexplained_share_of_part_totals: float
    unhedged_total_quote: float
    numeraire: str
    pnl_total_numeraire: float
    cost_quote: float
    turnover_quote: float
    delta_rms_base: float
    delta_max_base: float
    not_deciding_s: float
    delta_rms_by_underlying_base: dict[str, float]
    max_drawdown_quote: float
    commands_sha256: str
    events_per_second: float
    decision_us: LatencySummary
    state: str
    latency_us: dict[str, LatencyHistogram] = {}
    transactions: int = 0
    failed_transactions: int = 0
    deltas: dict[str, DeltaEvidence] = {}
    surface_fallbacks: dict[str, str] = {}
    unquoted_hedges_s: dict[str, float] = {}
    margin: dict[str, MarginRecord] = {}
    transfers: int = 0
    late_transfers: int = 0
    collateral_plans: dict[str, int] = {}
    insurance: BufferRecord | None = None
    forecasts: dict[str, ForecastRecord] = {}
    condition_changes: int = 0
    breaker_trips: int = 0


class RunTrack(msgspec.Struct, frozen=True):
    """A `RunSeries` thinned to what a page can draw, in few digits; times in ms since 1970, None for what is not known.

    A band is None on a side the policy leaves open; a point of Nones alone is a gap of the recording. P&L and net delta
    have columns of their own. `hedge_qty_base` and `hedge_delta_base` say of the hedges drawn what was traded, and net
    delta just before; `fills` counts all there were.
    """

    underlying: str
    pnl_ms: list[int]
    pnl_quote: list[float | None]
    unhedged_pnl_quote: list[float | None]
    delta_ms: list[int]
    net_delta_base: list[float | None]
    low_base: list[float | None]
    high_base: list[float | None]
    hedge_ms: list[int]
    hedge_qty_base: list[float]
    hedge_delta_base: list[float | None]
    fills: int


class TracedRun(RunSummary, frozen=True, kw_only=True):
    """A summary with the track of its run; this is what `replay --json --series` prints, field for field."""

    track: RunTrack


def pnl_parts(pnl: PnlBreakdown) -> dict[str, float]:
    """Return the parts and their total, as the summary shows them."""
    parts: dict[str, float] = msgspec.structs.asdict(pnl)
    return {**parts, "total": pnl.total}


class FrontierPoint(msgspec.Struct, frozen=True):
    """One setting of a policy and what came of it on a recording; `family` is the policy and what sets it apart.

    `sd_day_quote` is a day's tracking error, one standard deviation: the exposure left open with the moves of the whole
    run. `realised_sd_day_quote` is what that exposure did earn and lose, minute by minute.
    """

    family: str
    spec: str
    cost_quote: float
    delta_rms_base: float
    sd_day_quote: float
    realised_sd_day_quote: float
    hedges: int
    pnl_quote: float
    state: str = "running"
