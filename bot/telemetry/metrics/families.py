"""Every metric by name: what it is, what it is told apart by, and where in a vault's state it is found.

Names follow Prometheus: `evenkeel_`, what it is, its unit last (`_base`, `_quote`, `_seconds`, `_ratio`, `_bytes`), and
`_total` on what only grows. Of quote money per something, and of states, the unit is in the help. What is not known has
no sample, never a zero. docs/metrics.md lists them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from bot.domain.decisions import BotState
from bot.domain.orders import OrderState
from bot.domain.risk import MarginState
from bot.domain.units import NS_PER_S
from bot.domain.venues import VenueHealth
from bot.domain.windows import (
    AccountState,
    Alert,
    DurationCounts,
    FeedState,
    Severity,
    UnderlyingState,
    VaultState,
    VenueState,
)
from bot.telemetry.metrics.board import Board, Record

WEI_PER_GWEI = 1e9
COSTS = ("fees", "gas", "slippage", "funding")  # parts of the P&L that hedging pays; funding may also be earned

Labelled = tuple[tuple[str, ...], float | DurationCounts | None]


class Family(NamedTuple):
    """One metric: `labels` come after `vault`, `read` yields their values with the figure, None where it is unknown."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    told: str
    read: Callable[[Board, Record], Iterable[Labelled]]


def families() -> tuple[Family, ...]:
    """Return every metric of a vault, in the order they are exposed."""
    return (
        *_daemon(),
        *_vault(),
        *_underlyings(),
        *_places(),
        *_chains(),
        *_accounts(),
        *_durations(),
        *_people(),
    )


def _daemon() -> Iterator[Family]:
    def info(state: VaultState) -> Iterator[Labelled]:
        yield (state.mode, state.policy, state.version, state.run_id, state.config_sha256), 1.0

    yield Family("evenkeel_up", "gauge", (), "Whether the daemon answered when last asked (1 or 0)", _is_up)
    yield Family(
        "evenkeel_silence_seconds", "gauge", (), "Seconds since the daemon last answered, or since the start", _silence
    )
    yield Family("evenkeel_state_age_seconds", "gauge", (), "Seconds since the newest state was taken", _age)
    yield _one(
        "evenkeel_engine_timestamp_seconds",
        "Engine time, in seconds since 1970: of a recording its own",
        lambda state: state.now_ns / NS_PER_S,
    )
    labels = ("mode", "policy", "version", "run_id", "config_sha256")
    yield _of_state("evenkeel_vault_info", "What runs, always 1: mode, policy, version, run and config", labels, info)
    for name, told, find in (
        ("loop_lag_seconds", "How late the daemon's event loop is, in seconds", lambda s: s.meters.loop_lag_s),
        (
            "journal_lag_seconds",
            "Age of the oldest row not yet on disk, seconds",
            lambda s: s.meters.journal_lag_s,
        ),
        ("resident_memory_bytes", "Memory of the daemon's process, in bytes", lambda s: float(s.meters.rss_bytes)),
    ):
        yield _one(f"evenkeel_{name}", told, find)
    yield _one(
        "evenkeel_journal_rows_total", "Rows of the journal so far", lambda s: float(s.meters.journal_seq), "counter"
    )


def _is_up(_: Board, record: Record) -> Iterator[Labelled]:
    yield (), float(record.is_answering)


def _silence(board: Board, record: Record) -> Iterator[Labelled]:
    yield (), board.silence_s(record)


def _age(board: Board, record: Record) -> Iterator[Labelled]:
    yield (), None if record.state is None else board.age_s(record)


def _vault() -> Iterator[Family]:
    def refusals(state: VaultState) -> Iterator[Labelled]:
        yield from (((reason,), float(count)) for reason, count in state.refusals.items())

    def faults(state: VaultState) -> Iterator[Labelled]:
        yield from (((fault,), float(count)) for fault, count in state.quotes_refused.items())

    def parts(state: VaultState) -> Iterator[Labelled]:
        yield from (((part,), value) for part, value in state.pnl_quote.items() if part != "total")

    def costs(state: VaultState) -> Iterator[Labelled]:
        yield from (((part,), 0.0 - state.pnl_quote[part]) for part in COSTS if part in state.pnl_quote)

    yield _states("evenkeel_state", "State of the bot: 1 for the one it is in", BotState, lambda state: state.state)
    yield _one(
        "evenkeel_acknowledgement_wanted",
        "Whether a person has to acknowledge something (1 or 0)",
        lambda state: float(bool(state.to_acknowledge)),
    )
    yield _one(
        "evenkeel_overrides",
        "Orders of a person that stand: target, band, hedge now, flatten",
        lambda state: float(len(state.overrides)),
    )
    for name, told, find in (
        ("hedges_total", "Hedge orders sent", lambda s: float(s.hedges)),
        ("decisions_total", "Decisions taken", lambda s: float(s.decisions)),
    ):
        yield _one(f"evenkeel_{name}", told, find, "counter")
    yield _of_state(
        "evenkeel_refusals_total", "Decisions that did not hedge, by reason", ("reason",), refusals, "counter"
    )
    yield _of_state(
        "evenkeel_quotes_refused_total", "Quotes not believed, by what is wrong", ("fault",), faults, "counter"
    )
    # gauges, because a reorg takes back what it undid
    yield _one("evenkeel_turnover_quote", "Value traded by hedges, quote money", lambda s: s.turnover_quote)
    yield _one("evenkeel_transactions", "Transactions on chains that cost gas", lambda s: float(s.transactions))
    yield _one("evenkeel_transactions_failed", "Those of them that failed", lambda s: float(s.failed_transactions))
    yield _of_state(
        "evenkeel_pnl_quote", "P&L since the run began by part, quote money; the sum is all", ("part",), parts
    )
    yield _of_state(
        "evenkeel_cost_quote",
        "What hedging cost since the run began, quote money; below zero: earned",
        ("cost",),
        costs,
    )
    yield _one("evenkeel_pnl_now_quote", "P&L of the run at the newest prices, quote money", lambda s: s.pnl_now_quote)
    yield _one("evenkeel_pnl_today_quote", "P&L since midnight UTC, quote money", lambda s: s.pnl_today_quote)
    yield _one(
        "evenkeel_daily_loss_limit_quote",
        "Loss of a day that makes the vault reduce-only, quote money",
        lambda s: s.daily_loss_limit_quote,
    )
    yield _one(
        "evenkeel_unhedged_pnl_quote",
        "What the book alone would have made, quote",
        lambda s: s.unhedged_pnl_quote,
    )
    yield _of_state("evenkeel_orders", "Orders under way by state", ("state",), _orders)


def _orders(state: VaultState) -> Iterator[Labelled]:
    counts = Counter(order.state for order in state.orders)
    for one in OrderState:
        if not one.is_terminal:
            yield (str(one),), float(counts[str(one)])


def _underlyings() -> Iterator[Family]:
    def of(name: str, told: str, find: Callable[[UnderlyingState], float | None]) -> Family:
        def read(state: VaultState) -> Iterator[Labelled]:
            yield from (((one.underlying,), find(one)) for one in state.underlyings)

        return _of_state(f"evenkeel_{name}", told, ("underlying",), read)

    def refused(state: VaultState) -> Iterator[Labelled]:
        yield from (((one.underlying, one.refusal), 1.0) for one in state.underlyings if one.refusal)

    yield of("spot_quote", "Price of one unit of the underlying, quote money", lambda one: one.spot_px)
    yield of("delta_low_base", "Lower end of net delta with all in flight, base units", lambda one: one.delta_low_base)
    yield of(
        "delta_high_base", "Upper end of net delta with all in flight, base units", lambda one: one.delta_high_base
    )
    yield of("unknown_base", "Net delta in doubt for outcomes not known, base units", lambda one: one.unknown_base)
    yield of("target_delta_base", "What net delta should be, base units", lambda one: one.target_delta_base)
    yield of("band_low_base", "Lower edge of the no-trade band, base units", lambda one: one.low_base)
    yield of("band_high_base", "Upper edge of the no-trade band, base units", lambda one: one.high_base)
    yield of("hedge_base", "Position of the hedges, base units", lambda one: one.hedge_base)
    yield of("pending_base", "Hedges under way, base units", lambda one: one.pending_base)
    yield of(
        "gamma_base_per_quote", "Net delta gained per 1.00 of price, base units", lambda one: one.gamma_base_per_px
    )
    yield of("vega_quote", "Value gained per 1.00 of vol (100 %), quote money", lambda one: one.vega_quote_per_vol)
    yield of("theta_quote", "Value gained per day, quote money", lambda one: one.theta_quote_per_day)
    yield of("value_quote", "Value of all legs and hedges, quote money", lambda one: one.value_quote)
    yield of(
        "last_hedge_timestamp_seconds",
        "Engine time of the newest hedge, in seconds since 1970",
        lambda one: one.last_hedge_ns / NS_PER_S if one.last_hedge_ns else None,
    )
    yield of(
        "gates_closed",
        "Conditions of hedging that are not met",
        lambda one: float(sum(not gate.is_open for gate in one.gates)),
    )
    yield _of_state(
        "evenkeel_refused", "Why the last decision did not hedge, 1 for the reason", ("underlying", "reason"), refused
    )


def _places() -> Iterator[Family]:
    def by_kind(find: Callable[[Sequence[FeedState]], float | None]) -> Callable[[VaultState], Iterator[Labelled]]:
        def read(state: VaultState) -> Iterator[Labelled]:
            for kind in dict.fromkeys(feed.kind for feed in state.feeds):
                yield (kind,), find([feed for feed in state.feeds if feed.kind == kind])

        return read

    def of_feed(name: str, told: str, find: Callable[[FeedState], float | None]) -> Family:
        def read(state: VaultState) -> Iterator[Labelled]:
            yield from (((feed.kind, feed.name), find(feed)) for feed in state.feeds)

        return _of_state(name, told, ("kind", "feed"), read)

    def of_venue(name: str, told: str, find: Callable[[VenueState], float | None]) -> Family:
        def read(state: VaultState) -> Iterator[Labelled]:
            yield from (((venue.venue,), find(venue)) for venue in state.venues)

        return _of_state(name, told, ("venue",), read)

    yield of_feed("evenkeel_feed_age_seconds", "Age of a stream's newest value, seconds", lambda feed: feed.age_s)
    yield of_feed("evenkeel_feed_max_age_seconds", "Age a stream may have, seconds", lambda feed: feed.max_age_s)
    yield _of_state(
        "evenkeel_feeds", "Streams of market data by kind", ("kind",), by_kind(lambda feeds: float(len(feeds)))
    )
    yield _of_state(
        "evenkeel_feeds_stale",
        "Streams of market data too old to be used, by kind",
        ("kind",),
        by_kind(lambda feeds: float(sum(feed.is_stale for feed in feeds))),
    )
    yield of_venue("evenkeel_venue_up", "Whether a venue or chain can be traded on (1 or 0)", _is_venue_up)
    yield of_venue(
        "evenkeel_venue_account_age_seconds",
        "Age of a venue's word on our account, seconds",
        lambda venue: venue.account_age_s,
    )


def _is_venue_up(venue: VenueState) -> float | None:
    """Return whether it is up; of a venue that never said how it is, nothing."""
    health = venue.health.lower()
    return float(health == VenueHealth.UP) if health in set(VenueHealth) else None


def _chains() -> Iterator[Family]:
    def of(name: str, told: str, find: Callable[[dict[str, Any]], float | None]) -> Family:
        def read(state: VaultState) -> Iterator[Labelled]:
            yield from (((str(chain["chain"]),), find(chain)) for chain in state.transactions_now if "chain" in chain)

        return _of_state(f"evenkeel_chain_{name}", told, ("chain",), read)

    yield of("head_age_seconds", "Age of a chain's newest block, seconds", lambda chain: chain.get("age_s"))
    yield of("balance_coin", "Gas money held on a chain, in its coin", lambda chain: chain.get("balance_coin"))
    yield of("reserve_coin", "Gas money kept for emergencies, in the coin", lambda chain: chain.get("reserve_coin"))
    yield of(
        "base_fee_wei",
        "Base fee of a chain's newest block, wei per gas",
        lambda chain: None if chain.get("base_fee_gwei") is None else chain["base_fee_gwei"] * WEI_PER_GWEI,
    )
    yield of(
        "transactions_pending", "Transactions under way on a chain", lambda chain: float(len(chain.get("pending", ())))
    )
    yield of(
        "problems",
        "What is wrong with a chain, as status lists it",
        lambda chain: float(len(chain.get("problems", ()))),
    )


def _accounts() -> Iterator[Family]:
    def of(name: str, told: str, find: Callable[[AccountState], float | None]) -> Family:
        def read(state: VaultState) -> Iterator[Labelled]:
            yield from (((one.account,), find(one)) for one in state.accounts)

        return _of_state(f"evenkeel_{name}", told, ("account",), read)

    def states(state: VaultState) -> Iterator[Labelled]:
        for one in state.accounts:
            yield from (((one.account, str(name)), float(one.state == name)) for name in MarginState)

    yield of("margin_equity_quote", "Equity of an account, quote money", lambda one: one.equity_quote)
    yield of("margin_initial_quote", "Initial margin of an account, quote money", lambda one: one.initial_quote)
    yield of("margin_maintenance_quote", "Maintenance margin, quote money", lambda one: one.maintenance_quote)
    yield of("margin_use_ratio", "Maintenance margin over equity; 1 is liquidation", lambda one: one.utilisation_ratio)
    yield of(
        "liquidation_touch_probability_ratio",
        "Chance (0 to 1) to touch liquidation before a top-up arrives",
        lambda one: one.touch_probability,
    )
    yield of(
        "liquidation_distance_ratio",
        "Move of the price that liquidates, as a share of it",
        lambda one: one.spot_distance_fraction,
    )
    yield _of_state(
        "evenkeel_margin_state", "State of an account's margin: 1 for the one it is in", ("account", "state"), states
    )


def _durations() -> Iterator[Family]:
    def decide(state: VaultState) -> Iterator[Labelled]:
        yield (), state.meters.decide

    def steps(state: VaultState) -> Iterator[Labelled]:
        yield from (((step,), counts) for step, counts in state.meters.steps.items())

    yield _of_state("evenkeel_decide_seconds", "Time the engine takes to decide, seconds", (), decide, "histogram")
    yield _of_state(
        "evenkeel_step_seconds",
        "Time of one step on an order's way, seconds",
        ("step",),
        steps,
        "histogram",
    )


def _people() -> Iterator[Family]:
    def told(_: Board, record: Record) -> Iterator[Labelled]:
        yield from (((kind,), float(count)) for kind, count in record.told.items())

    def alerts(board: Board, record: Record) -> Iterator[Labelled]:
        counts = Counter(alert.severity for alert in _open(board, record))
        yield from (((str(severity),), float(counts[severity])) for severity in Severity)

    def unacknowledged(board: Board, record: Record) -> Iterator[Labelled]:
        counts = Counter(alert.severity for alert in _open(board, record) if not alert.acknowledged_by)
        yield from (((str(severity),), float(counts[severity])) for severity in Severity)

    yield Family("evenkeel_events_total", "counter", ("kind",), "Journalled events the windows saw, by kind", told)
    yield Family("evenkeel_alerts_open", "gauge", ("severity",), "Alerts open now", alerts)
    yield Family(
        "evenkeel_alerts_unacknowledged", "gauge", ("severity",), "Open alerts nobody acknowledged", unacknowledged
    )


def _open(board: Board, record: Record) -> list[Alert]:
    return [alert for alert in board.neighbours.open_alerts(record.vault) if not alert.ended_ns]


def _one(
    name: str,
    told: str,
    find: Callable[[VaultState], float | None],
    kind: Literal["gauge", "counter"] = "gauge",
) -> Family:
    """Return a metric with one sample per vault."""

    def read(state: VaultState) -> Iterator[Labelled]:
        yield (), find(state)

    return _of_state(name, told, (), read, kind)


def _states(name: str, told: str, states: type[StrEnum], find: Callable[[VaultState], str]) -> Family:
    """Return a metric with one sample per state that there is, 1 for the present one."""

    def read(state: VaultState) -> Iterator[Labelled]:
        yield from (((str(one),), float(find(state) == one)) for one in states)

    return _of_state(name, told, ("state",), read)


def _of_state(
    name: str,
    told: str,
    labels: tuple[str, ...],
    find: Callable[[VaultState], Iterable[Labelled]],
    kind: Literal["gauge", "counter", "histogram"] = "gauge",
) -> Family:
    """Return a metric of the newest state; none where there was none yet."""

    def read(_: Board, record: Record) -> Iterable[Labelled]:
        return find(record.state) if record.state is not None else ()

    return Family(name, kind, labels, told, read)
