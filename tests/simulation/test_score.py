"""The figures of a market small enough to work out by hand.

Ten ETH of coins are hedged by a band of ±1 ETH with orders of at most 6 ETH, at 5 bp and a dollar from mid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from math import sqrt

import msgspec
import pytest

from bot.domain.events import SubmitOrder
from bot.domain.market import MarketEvent
from bot.domain.results import RunSummary
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.engine.engine import Engine
from bot.simulation.score import Score
from bot.simulation.world import World
from strategies import DeltaBand, Policy, Unhedged
from tests.simulation.markets import LATENCY, in_batches, make_venue, market, settings

BAND = DeltaBand(half_width_base=1.0)


class Run:
    """A tiny market lived through, with everything that was commanded noted down beside the score."""

    def __init__(self, policy: Policy, events: Iterable[MarketEvent], **bounds: int) -> None:
        self.engine = Engine(settings(policy))
        self.world = World(iter(in_batches(events)), make_venue(LATENCY))
        self.score = Score(self.engine, **bounds)
        self.commands: list[tuple[int, list[SubmitOrder]]] = []
        while (step := self.world.step()) is not None:
            now_ns, batch = step
            for event in batch:
                self.engine.apply(event)
            commands = self.engine.decide(now_ns)
            for command in commands:
                self.world.submit(command, now_ns)
            self.score.observe(now_ns, len(batch), commands, 2_000 * self.engine.decisions)
            if commands:
                self.commands.append((now_ns, commands))

    def summary(self) -> RunSummary:
        return self.score.summary(policy="delta_band", seed=1, wall_seconds=2.0)


# At 1 s we hold 10 ETH and may hold 1: 9 are to go, 6 at once (at most 12,100 of 2,001 each) and, as the rest of the
# first order is known to be filled 40 ms later, 3 more. Then 11 s: +100, 21 s: −200, and nothing leaves the band.
MARKET = market((1, 2000.0), (11, 2100.0), (21, 1900.0))
SOLD_QUOTE = 9 * 1999.0
FEE_QUOTE = SOLD_QUOTE * 5e-4
SLIPPAGE_QUOTE = 9 * 1.0


def test_money_is_what_the_hand_says() -> None:
    summary = Run(BAND, MARKET).summary()
    assert summary.turnover_quote == pytest.approx(SOLD_QUOTE, abs=1e-9)
    assert summary.cost_quote == pytest.approx(FEE_QUOTE + SLIPPAGE_QUOTE, abs=1e-9)
    # +1 ETH of net delta from 2,000 to 1,900, after costs.
    expected = {"delta": -100.0, "fees": -FEE_QUOTE, "slippage": -SLIPPAGE_QUOTE}
    expected["total"] = sum(expected.values())
    assert summary.pnl_quote == pytest.approx(dict.fromkeys(summary.pnl_quote, 0.0) | expected, abs=1e-8)
    assert summary.unhedged_total_quote == pytest.approx(-1000.0, abs=1e-9)
    assert summary.unexplained_share_of_abs_parts == pytest.approx(0.0, abs=1e-12)


def test_drawdown_is_from_the_highest_profit_so_far() -> None:
    # Costs, then +100 at 11 s, then −200 by 21 s.
    assert Run(BAND, MARKET).summary().max_drawdown_quote == pytest.approx(200.0, abs=1e-8)
    # A loss from the start counts from nothing gained.
    lost = Run(BAND, market((1, 2000.0), (21, 1900.0))).summary()
    assert lost.max_drawdown_quote == pytest.approx(100.0 + FEE_QUOTE + SLIPPAGE_QUOTE, abs=1e-8)


def test_deviation_is_weighed_with_the_time_it_stood() -> None:
    summary = Run(BAND, MARKET).summary()
    # 40 ms each at +10 and at +4 ETH, then 19.92 s at +1 ETH.
    assert summary.delta_rms_base == pytest.approx(sqrt((0.04 * 100 + 0.04 * 16 + 19.92) / 20.0), rel=1e-9)
    assert summary.delta_max_base == pytest.approx(10.0, abs=1e-9)


def test_a_gap_of_the_data_is_nobodys_deviation() -> None:
    hedged = market((1, 2000.0), (11, 2000.0))
    without = Run(BAND, hedged).summary()
    across = Run(BAND, hedged + market((11 + 301, 2000.0))).summary()
    assert across.delta_rms_base == pytest.approx(without.delta_rms_base, rel=1e-12)
    # A second shorter it is no gap: 299 s at +1 ETH.
    within = Run(BAND, hedged + market((11 + 299, 2000.0))).summary()
    assert within.delta_rms_base == pytest.approx(sqrt((0.04 * 100 + 0.04 * 16 + 308.92) / 309.0), rel=1e-9)


def test_counts_and_times() -> None:
    run = Run(BAND, MARKET)
    summary = run.summary()
    assert (summary.events, summary.hedges, summary.decisions) == (6 + 2 * 3, 2, 5)
    assert (summary.start, summary.end) == ("1970-01-01T00:00:01.050+00:00", "1970-01-01T00:00:21.050+00:00")
    assert summary.events_per_second == pytest.approx(6.0)
    # Decisions took 2, 4, 6, 8 and 10 µs.
    assert (summary.decision_us.p50, summary.decision_us.p99) == (6.0, 9.92)
    assert (summary.vault, summary.seed, summary.state) == ("tiny", 1, "running")
    assert (summary.refusals, summary.quotes_refused) == ({}, {})


def test_the_hash_is_of_every_command_and_its_time() -> None:
    run = Run(BAND, MARKET)
    assert [(now_ns, [command.intent.qty_lots for command in commands]) for now_ns, commands in run.commands] == [
        (1_050 * NS_PER_MS, [-60]),
        (1_090 * NS_PER_MS, [-30]),
    ]
    expected = hashlib.sha256(b"".join(msgspec.msgpack.encode(noted) for noted in run.commands)).hexdigest()
    assert run.score.commands_sha256 == run.summary().commands_sha256 == expected
    assert run.score.orders == 2


def test_the_hash_of_no_command_is_that_of_nothing() -> None:
    assert Run(Unhedged(), MARKET).summary().commands_sha256 == hashlib.sha256().hexdigest()


def test_a_run_without_a_market_has_no_figures_but_zeros() -> None:
    run = Run(BAND, [])
    summary = run.summary()
    assert summary.pnl_quote == dict.fromkeys(summary.pnl_quote, 0.0)
    figures = summary.cost_quote, summary.delta_rms_base, summary.max_drawdown_quote, summary.events_per_second
    assert figures == (0.0, 0.0, 0.0, 0.0)


def test_series_hold_every_order_the_end_and_no_more_than_a_point_per_ten_seconds() -> None:
    run = Run(BAND, MARKET)
    run.summary()
    series = run.score.series
    columns = msgspec.structs.astuple(series)[:7]
    assert {len(column) for column in columns} == {len(series.ts_ns)}
    assert series.ts_ns == sorted(series.ts_ns)
    assert [ts_ns // NS_PER_MS for ts_ns in series.ts_ns] == [1_050, 1_090, 21_050]
    assert series.net_delta_base == pytest.approx([10.0, 4.0, 1.0])
    assert [(mark.qty_base, mark.px) for mark in series.hedges] == [(-6.0, 1999.0), (-3.0, 1999.0)]
    assert sum(mark.cost_quote for mark in series.hedges) == pytest.approx(FEE_QUOTE + SLIPPAGE_QUOTE)


def test_a_long_run_keeps_fewer_points_farther_apart_and_the_same_figures() -> None:
    long = market(*[(1 + 10 * n, 2000.0 + n % 7) for n in range(200)])
    whole, thinned = Run(BAND, long), Run(BAND, long, max_points=16, max_timings=16)
    exact, rough = whole.summary(), thinned.summary()
    series = thinned.score.series
    assert len(whole.score.series.ts_ns) == 200
    assert {len(column) for column in msgspec.structs.astuple(series)[:7]} == {len(series.ts_ns)}
    assert 8 <= len(series.ts_ns) < 16
    assert set(series.ts_ns) <= set(whole.score.series.ts_ns)
    assert series.ts_ns[-1] - series.ts_ns[0] > 1500 * NS_PER_S, "it still spans the run"
    assert rough.decision_us.p50 == pytest.approx(exact.decision_us.p50, rel=0.3)
    assert msgspec.structs.replace(rough, decision_us=exact.decision_us) == exact


def test_watching_changes_nothing() -> None:
    watched = Run(BAND, MARKET)
    engine = Engine(settings(BAND))
    world = World(iter(in_batches(MARKET)), make_venue(LATENCY))
    commands = []
    while (step := world.step()) is not None:
        for event in step[1]:
            engine.apply(event)
        for command in engine.decide(step[0]):
            world.submit(command, step[0])
            commands.append(command)
    assert commands == [command for _, noted in watched.commands for command in noted]
    assert engine.pnl_total_quote() == watched.engine.pnl_total_quote()
