"""Keeps the score of a run: what was decided, held, earned and spent, as a summary and as series for pictures."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from math import fsum, isnan, sqrt

import msgspec
import numpy as np

from bot.domain.decisions import Decision
from bot.domain.events import Command, SubmitOrder
from bot.domain.results import LatencySummary, RunSeries, RunSummary, pnl_parts
from bot.domain.units import NS_PER_S, NS_PER_US, utc_text
from bot.engine.engine import Engine
from bot.engine.margin.collateral_desk import summary_of

SAMPLE_EVERY_NS = 10 * NS_PER_S  # series keep one point per this much event time, and every order …
MAX_POINTS = 100_000  # … until there are this many: then every second one goes and they become twice as far apart
MAX_TIMINGS = 100_000  # decisions timed one by one; beyond it every second one goes, then every fourth is timed …


class Score:
    """Watches one engine from outside; must never change it. Series follow the first underlying."""

    def __init__(self, engine: Engine, max_points: int = MAX_POINTS, max_timings: int = MAX_TIMINGS) -> None:
        self._engine = engine
        self._desk = next(iter(engine.desks.values()))
        self._encode = msgspec.msgpack.Encoder().encode
        self._sha256 = hashlib.sha256()
        self.events = 0
        self.orders = 0
        self._ts_ns = array("q")
        self._columns = tuple(array("d") for _ in range(6))  # of `RunSeries`, after the time; unboxed, as runs are long
        self._max_points = max_points
        self._max_timings = max_timings
        self._decision_ns = array("q")
        self._time_every = 1
        self._decisions = 0
        self._sample_every_ns = SAMPLE_EVERY_NS
        self._start_ns = 0
        self._end_ns = 0
        self._sampled_ns = 0
        self._tracking = {underlying: _Tracking(engine.settings.gap_ns) for underlying in engine.desks}
        self._peak_quote = 0.0
        self._max_drawdown_quote = 0.0

    def observe(self, now_ns: int, events: int, commands: Sequence[Command], decision_ns: int) -> None:
        """Take in one decision: its time, the events applied before it, what it commanded, how long it took."""
        self.events += events
        self._note_timing(decision_ns)
        if not self._start_ns:
            self._start_ns = now_ns
        self._end_ns = now_ns
        if commands:
            self._sha256.update(self._encode((now_ns, commands)))
            self.orders += sum(isinstance(command, SubmitOrder) for command in commands)
        for underlying, desk in self._engine.desks.items():
            if desk.decision is not None:
                self._tracking[underlying].note(now_ns, desk.decision)
        decision = self._desk.decision
        if decision is not None:
            self._mark_profit()
            if commands or now_ns - self._sampled_ns >= self._sample_every_ns:
                self._sample(now_ns, decision)

    @property
    def series(self) -> RunSeries:
        """The series so far, and every hedge and gap."""
        spot_px, net_delta_base, low_base, high_base, pnl_quote, unhedged_pnl_quote = map(list, self._columns)
        return RunSeries(
            list(self._ts_ns),
            spot_px,
            net_delta_base,
            low_base,
            high_base,
            pnl_quote,
            unhedged_pnl_quote,
            hedges=list(self._engine.hedge_marks),
            gaps_ns=list(self._desk.pnl.gaps_ns),
        )

    @property
    def commands_sha256(self) -> str:
        """Hash of every command so far, with its time."""
        return self._sha256.hexdigest()

    def summary(self, *, policy: str, seed: int, wall_seconds: float) -> RunSummary:
        """Close the books and return the figures; `wall_seconds` is how long the run took."""
        engine = self._engine
        engine.close_steps(self._end_ns)
        if self._desk.decision is not None and self._sampled_ns != self._end_ns:
            self._sample(self._end_ns, self._desk.decision)
        pnl = engine.pnl()
        abs_parts = sum(desk.pnl.abs_parts_quote for desk in engine.desks.values())
        part_totals = fsum(abs(amount) for amount in msgspec.structs.astuple(pnl)) - abs(pnl.unexplained)
        first = self._tracking[self._desk.underlying]
        return RunSummary(
            vault=engine.settings.vault,
            policy=policy,
            seed=seed,
            start=utc_text(self._start_ns),
            end=utc_text(self._end_ns),
            events=self.events,
            decisions=engine.decisions,
            hedges=engine.hedged_orders,
            refusals={str(reason): count for reason, count in sorted(engine.refusals.items())},
            quotes_refused={str(fault): count for fault, count in sorted(engine.market.faults.items())},
            pnl_quote=pnl_parts(pnl),
            gap_pnl_quote=pnl_parts(engine.gap_pnl()),
            unexplained_share_of_abs_parts=abs(pnl.unexplained) / abs_parts if abs_parts else 0.0,
            unexplained_share_of_part_totals=abs(pnl.unexplained) / part_totals if part_totals else 0.0,
            unhedged_total_quote=engine.unhedged_pnl_quote(),
            numeraire=engine.settings.numeraire,
            pnl_total_numeraire=engine.pnl_total_numeraire(),
            cost_quote=0.0 - (pnl.fees + pnl.slippage + pnl.gas),
            turnover_quote=engine.turnover_quote,
            delta_rms_base=first.rms_base,
            delta_max_base=first.max_base,
            not_deciding_s=first.not_deciding_s,
            delta_rms_by_underlying_base={underlying: one.rms_base for underlying, one in self._tracking.items()},
            max_drawdown_quote=self._max_drawdown_quote,
            commands_sha256=self.commands_sha256,
            events_per_second=self.events / wall_seconds if wall_seconds else 0.0,
            decision_us=_percentiles(self._decision_ns),
            state=str(engine.state),
            transactions=engine.paid_transactions,
            failed_transactions=engine.paid_transactions - engine.filled_transactions,
            deltas={
                underlying: desk.book.smile.evidence
                for underlying, desk in engine.desks.items()
                if desk.book.smile is not None
            },
            surface_fallbacks={
                label: why for desk in engine.desks.values() for label, why in desk.book.surface_fallbacks.items()
            },
            margin=engine.margin.records() if engine.margin is not None else {},
            forecasts=engine.margin.watch.records() if engine.margin is not None else {},
            condition_changes=engine.margin.watch.change_count if engine.margin is not None else 0,
            breaker_trips=engine.breakers.trip_count if engine.breakers is not None else 0,
            transfers=engine.top_ups.count if engine.top_ups is not None else 0,
            late_transfers=engine.top_ups.late_count if engine.top_ups is not None else 0,
            collateral_plans=summary_of(engine.collateral),
            insurance=engine.insurance.record() if engine.insurance is not None else None,
            unquoted_hedges_s={
                name: longest_ns / NS_PER_S
                for desk in engine.desks.values()
                for name, longest_ns in desk.book.unquoted_hedge_ns.items()
            },
        )

    def _mark_profit(self) -> None:
        """Follow the profit to its lowest point below an earlier peak; the profit at the start is a peak too."""
        pnl_quote = self._engine.profit_quote
        if pnl_quote > self._peak_quote:
            self._peak_quote = pnl_quote
        elif self._peak_quote - pnl_quote > self._max_drawdown_quote:
            self._max_drawdown_quote = self._peak_quote - pnl_quote

    def _note_timing(self, decision_ns: int) -> None:
        self._decisions += 1
        if self._decisions % self._time_every:
            return
        self._decision_ns.append(decision_ns)
        if len(self._decision_ns) >= self._max_timings:
            self._decision_ns = self._decision_ns[::2]
            self._time_every *= 2

    def _sample(self, now_ns: int, decision: Decision) -> None:
        self._sampled_ns = now_ns
        point = (
            decision.spot_px,
            decision.greeks.delta_base,
            decision.low_base,
            decision.high_base,
            self._engine.pnl_total_quote(),
            self._engine.unhedged_pnl_quote(),
        )
        self._ts_ns.append(now_ns)
        for column, value in zip(self._columns, point, strict=True):
            column.append(value)
        if len(self._ts_ns) >= self._max_points:
            del self._ts_ns[1::2]
            for column in self._columns:
                del column[1::2]
            self._sample_every_ns *= 2


class _Tracking:
    """How far one underlying's net delta was from its target, weighed with time; gaps of the data left out."""

    def __init__(self, gap_ns: int) -> None:
        self._gap_ns = gap_ns
        self._previous: Decision | None = None
        self._square_seconds = 0.0
        self._seconds = 0.0
        self.max_base = 0.0
        self.not_deciding_s = 0.0

    @property
    def rms_base(self) -> float:
        """Root of the time-weighted mean square."""
        return sqrt(self._square_seconds / self._seconds) if self._seconds else 0.0

    def note(self, now_ns: int, decision: Decision) -> None:
        """Let the previous decision stand until now; count apart the time nothing could be decided in."""
        previous = self._previous
        self._previous = decision
        if previous is None:
            return
        excess = previous.greeks.delta_base - previous.target_delta_base
        elapsed_ns = now_ns - previous.now_ns
        seconds = elapsed_ns / NS_PER_S
        if isnan(excess):
            self.not_deciding_s += seconds
        elif elapsed_ns <= self._gap_ns:
            self._square_seconds += excess * excess * seconds
            self._seconds += seconds
            self.max_base = max(self.max_base, abs(excess))


def _percentiles(durations_ns: array[int]) -> LatencySummary:
    if not durations_ns:
        return LatencySummary(0.0, 0.0)
    p50, p99 = np.percentile(durations_ns, [50, 99]) / NS_PER_US
    return LatencySummary(round(float(p50), 2), round(float(p99), 2))
