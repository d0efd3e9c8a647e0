from __future__ import annotations

from itertools import count
from typing import NamedTuple

import msgspec
import pytest

from bot.domain.events import AmendOrder, Command, Event, SubmitOrder
from bot.domain.orders import TimeInForce
from bot.engine.engine import Engine
from bot.simulation.replay import replay
from bot.simulation.score import Score
from bot.simulation.venue import Latency
from bot.simulation.world import World
from strategies import DeltaBand, FixedInterval, Policy
from tests.simulation.markets import LATENCY, in_batches, make_venue, market, settings

BAND = DeltaBand(half_width_base=1.0)
ZIGZAG = market(*((float(second), 2000.0 + 7.0 * (-1) ** second * (second % 5)) for second in range(1, 60)))


class Replayed(NamedTuple):
    engine: Engine
    score: Score
    moments_ns: list[int]


def run(policy: Policy, latency: Latency = LATENCY, seed: int = 1, tick_ns: int = 0) -> Replayed:
    """Replay the zigzag; every decision takes `tick_ns` by the stopwatch."""
    engine = Engine(settings(policy))
    score = Score(engine)
    world = World(iter(in_batches(ZIGZAG)), make_venue(latency, seed))
    moments_ns: list[int] = []
    replay(engine, world, score, stopwatch_ns=count(0, tick_ns or 1).__next__, progress=moments_ns.append)
    return Replayed(engine, score, moments_ns)


def test_every_moment_is_one_decision_and_is_told_once() -> None:
    replayed = run(BAND)
    assert replayed.engine.decisions == len(replayed.moments_ns)
    assert replayed.moments_ns == sorted(set(replayed.moments_ns))
    told = 2 * 59 + 3 * replayed.score.orders  # index and quote each second; sent, accepted and filled for each order
    assert replayed.score.events == told


def test_everything_received_is_applied_before_the_decision() -> None:
    seen: list[Event | int] = []

    class Watched(Engine):
        def apply(self, event: Event) -> None:
            seen.append(event)
            super().apply(event)

        def decide(self, now_ns: int) -> list[Command]:
            seen.append(now_ns)
            return super().decide(now_ns)

    engine = Watched(settings(BAND))
    world = World(iter(in_batches(ZIGZAG)), make_venue(LATENCY))
    replay(engine, world, Score(engine), stopwatch_ns=lambda: 0, progress=lambda _: None)
    assert [event for event in seen if event in ZIGZAG] == ZIGZAG
    latest_ns = 0
    for found in seen:
        if isinstance(found, int):
            assert found >= latest_ns
        else:
            latest_ns = max(latest_ns, found.ts_recv_ns)
    assert isinstance(seen[-1], int)


def test_what_is_commanded_is_traded() -> None:
    replayed = run(BAND)
    lots = sum(order.filled_lots for order in replayed.engine.orders.orders.values())
    assert replayed.engine.desks["ETH"].hedge.lots == lots == -90
    assert not replayed.engine.orders.live


def test_the_same_market_and_seed_give_the_same_commands() -> None:
    jittery = Latency(LATENCY.feed_ns, LATENCY.entry_ns, LATENCY.response_ns, 1.0)
    often = FixedInterval(interval_s=0.001)
    first, again, other = (run(often, jittery, seed) for seed in (1, 1, 2))
    assert first.score.commands_sha256 == again.score.commands_sha256
    assert first.moments_ns == again.moments_ns
    # Another seed answers at other moments, and these are part of what is hashed.
    assert first.moments_ns != other.moments_ns


def test_the_stopwatch_measures_and_influences_nothing() -> None:
    slow, fast = run(BAND, tick_ns=5_000_000), run(BAND, tick_ns=1_000)
    assert slow.score.commands_sha256 == fast.score.commands_sha256
    latencies = [r.score.summary(policy="delta_band", seed=1, wall_seconds=1.0).decision_us for r in (slow, fast)]
    assert [(found.p50, found.p99) for found in latencies] == [(5_000.0, 5_000.0), (1.0, 1.0)]


def test_a_hedge_that_rests_follows_the_touch_and_is_filled_as_a_maker() -> None:
    plain = settings(BAND)
    (hedge,) = plain.hedges["ETH"]
    resting = msgspec.structs.replace(hedge, style="maker", can_amend=True, repeg_every_ns=1, escalate_bands=100.0)
    falls = market((1, 2000.0), (2, 1995.0), (3, 1990.0), (4, 1993.0), (5, 1993.0))
    world = World(iter(in_batches(falls)), make_venue(LATENCY))
    sent: list[Command] = []

    class Noting(Engine):
        def decide(self, now_ns: int) -> list[Command]:
            commands = super().decide(now_ns)
            sent.extend(commands)
            return commands

    engine = Noting(msgspec.structs.replace(plain, hedges={"ETH": (resting,)}))
    replay(engine, world, Score(engine), stopwatch_ns=lambda: 0, progress=lambda _: None)
    kinds = [type(command) for command in sent]
    assert kinds[:3] == [SubmitOrder, AmendOrder, AmendOrder], "from 2001 to 1996 to 1991, where the bid comes to it"
    assert all(one.intent.time_in_force is TimeInForce.POST_ONLY for one in sent if isinstance(one, SubmitOrder))
    assert {round(mark.px, 9) for mark in engine.hedge_marks} == {1991.0}
    assert engine.desks["ETH"].hedge.lots == world.venue.positions["ETH-PERPETUAL"]
    assert engine.pnl().fees == pytest.approx(0.0), "resting is free here"
