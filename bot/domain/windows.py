"""What the windows show of a vault: its state at a moment, and the events of its life. The words of MQTT and of pages.

Nothing here is ever read by the engine. A number that is not known is None, never 0.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

SCHEMA_VERSION = 1  # of every topic; raised when a field goes or changes its meaning, not when one is added


class GateState(msgspec.Struct, frozen=True):
    """One condition of hedging, whether it is met, and the figures it was judged by."""

    name: str
    is_open: bool
    detail: str


class LegState(msgspec.Struct, frozen=True):
    """One holding with its Greeks for the whole quantity; `is_hedge` tells what hedges from what is hedged.

    Of an option `vol` is its mark (0.65 = 65 %), `expiry_ns` its expiry; both None for what is linear.
    """

    instrument_id: str
    is_hedge: bool
    qty_base: float
    mark_px: float | None
    vol: float | None
    expiry_ns: int | None
    delta_base: float | None
    gamma_base_per_px: float | None
    vega_quote_per_vol: float | None
    theta_quote_per_day: float | None
    value_quote: float | None


class UnderlyingState(msgspec.Struct, frozen=True):
    """Exposure of one underlying against its band as last decided, what is intended and why, or why not.

    Net delta is an interval while outcomes are unknown (`unknown_base` is its width). The band is None while the policy
    holds or a guard refused to decide; `refusal` is then why ("" none). `target_delta_base` is what net delta should
    be, `wanted_lots` what would be traded, `plan` all of it in a sentence. `decided_ns` is engine time.
    `option_plan` says how gamma and vega are hedged with options, "" where the policy has no target for them. Where it
    has, the target is net with what is under way: what the newest look at offers left as it is, is wanted as it is.
    """

    underlying: str
    decided_ns: int
    spot_px: float | None
    delta_low_base: float | None
    delta_high_base: float | None
    unknown_base: float
    target_delta_base: float | None
    low_base: float | None
    high_base: float | None
    hedge_base: float
    pending_base: float
    gamma_base_per_px: float | None
    vega_quote_per_vol: float | None
    theta_quote_per_day: float | None
    value_quote: float | None
    policy_reason: str
    refusal: str
    refusal_detail: str
    wanted_lots: int
    order_id: str | None
    plan: str
    last_order: str
    last_hedge_ns: int
    gates: tuple[GateState, ...]
    legs: tuple[LegState, ...]
    target_gamma_base_per_px: float | None = None
    target_vega_quote_per_vol: float | None = None
    option_plan: str = ""


class OrderLine(msgspec.Struct, frozen=True):
    """An order under way; its id is what every later word of it carries."""

    order_id: str
    instrument_id: str
    state: str
    qty_lots: int
    filled_lots: int
    limit_ticks: int
    reason: str
    decided_ns: int
    is_transaction: bool


class FeedState(msgspec.Struct, frozen=True):
    """One stream of market data: how old its newest value is and may be; an `age_s` of None means nothing came yet."""

    name: str
    kind: str
    age_s: float | None
    max_age_s: float
    is_stale: bool


class VenueState(msgspec.Struct, frozen=True):
    """One venue or chain as last heard of: UP, DEGRADED, DOWN and the like, and the age of its word on our account."""

    venue: str
    health: str
    reason: str
    account_age_s: float | None


class AccountState(msgspec.Struct, frozen=True):
    """Margin of one account; `utilisation_ratio` is maintenance margin over equity, 1 being liquidation.

    `touch_probability` is the chance to touch liquidation before a top-up could arrive, `spot_distance_fraction` how
    far the price may fall or rise to there (None: not known, or nowhere).
    """

    account: str
    model: str
    state: str
    equity_quote: float | None
    initial_quote: float | None
    maintenance_quote: float | None
    utilisation_ratio: float | None
    touch_probability: float | None
    spot_distance_fraction: float | None
    told: str


class DurationCounts(msgspec.Struct, frozen=True):
    """A histogram of durations as Prometheus has them: counts up to each bound (cumulative), their sum and number."""

    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    sum_s: float
    count: int


class Meters(msgspec.Struct, frozen=True):
    """How the daemon itself does: latencies by step, how late its loop is, how much of its journal is not yet on disk.

    `steps` are those of `bot.engine.latencies` on a live feed; `decide` is the engine alone.
    """

    decide: DurationCounts
    steps: dict[str, DurationCounts]
    loop_lag_s: float
    journal_lag_s: float
    journal_seq: int
    rss_bytes: int


class VaultState(msgspec.Struct, frozen=True):
    """One vault at one moment. `now_ns` is engine time, `taken_ns` the wall clock's; a state goes stale by the latter.

    `pnl_quote` is by part with its total, `pnl_today_quote` since midnight UTC of engine time (None before the first
    mark of the day), held against `daily_loss_limit_quote`. Counters (`refusals`, `hedges`, …) are since the run began.
    `risk` is what `status` shows of margin, counterparties, breakers and forecasts, `transactions_now` what chains
    say of themselves, `overrides` what a person has set.
    """

    vault: str
    mode: str
    policy: str
    version: str
    run_id: str
    config_sha256: str
    now_ns: int
    taken_ns: int
    state: str
    state_reason: str
    to_acknowledge: str
    hedges: int
    decisions: int
    turnover_quote: float
    transactions: int
    failed_transactions: int
    refusals: dict[str, int]
    quotes_refused: dict[str, int]
    pnl_quote: dict[str, float]
    pnl_now_quote: float | None
    pnl_today_quote: float | None
    unhedged_pnl_quote: float | None
    underlyings: tuple[UnderlyingState, ...]
    orders: tuple[OrderLine, ...]
    venues: tuple[VenueState, ...]
    feeds: tuple[FeedState, ...]
    accounts: tuple[AccountState, ...]
    transactions_now: tuple[dict[str, Any], ...]
    risk: dict[str, Any]
    overrides: dict[str, str]
    meters: Meters
    daily_loss_limit_quote: float | None = None
    schema_version: int = SCHEMA_VERSION


class Severity(StrEnum):
    """How much an alert matters: INFO is told, WARNING should be looked at today, CRITICAL now."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Told(msgspec.Struct, frozen=True):
    """One event in the life of a vault, read from its journal: the same journal gives the same events for ever.

    `number` counts from 1 without a gap, so that a reader sees what it missed; `seq` is the journal's row. `kind` is
    one of the documented kinds, `order_id` ties a decision to its orders and fills ("" where there is none), `fields`
    are the kind's own.
    """

    vault: str
    run_id: str
    number: int
    seq: int
    now_ns: int
    kind: str
    order_id: str
    text: str
    fields: dict[str, Any]
    schema_version: int = SCHEMA_VERSION


class Alert(msgspec.Struct, frozen=True):
    """Something people should know: opened once, told again only while it lasts, closed when it is over.

    `alert_id` is its kind and subject, the same as long as it lasts; `ended_ns` is 0 while it does. Times are of the
    wall clock.
    """

    alert_id: str
    vault: str
    severity: Severity
    title: str
    detail: str
    began_ns: int
    ended_ns: int
    acknowledged_by: str
    escalated_ns: int
    count: int
    schema_version: int = SCHEMA_VERSION


class CommandAnswer(msgspec.Struct, frozen=True):
    """What became of a command: done, or refused and why. A command is answered at most once."""

    command_id: str
    vault: str
    issuer: str
    action: str
    is_done: bool
    text: str
    state: str
    answered_ns: int
    schema_version: int = SCHEMA_VERSION
