"""How underlyings move together, learnt from the index prices of events at a fixed beat."""

from __future__ import annotations

from math import exp, sqrt

import numpy as np
import pytest

from bot.engine.correlations import BEAT_NS, MOST_BEATS, Correlations
from bot.engine.market import UnderlyingMarks
from tests.engine.builders import T0_NS


class World:
    """Two indices, moved as a test likes."""

    def __init__(self) -> None:
        self.marks = {"ETH": UnderlyingMarks(0.1), "BTC": UnderlyingMarks(0.1)}
        self.correlations = Correlations(self.marks)
        self.now_ns = T0_NS
        self.marks["ETH"].index_px, self.marks["BTC"].index_px = 1900.0, 30_000.0

    def beat(self, eth: float, btc: float, beats: float = 1.0) -> None:
        self.now_ns += round(beats * BEAT_NS)
        for name, move in (("ETH", eth), ("BTC", btc)):
            self.marks[name].index_px *= exp(move)
            self.marks[name].index_ns = self.now_ns
        self.correlations.note(self.now_ns)

    def run(self, ratio: float, beats: int, seed: int = 5) -> float:
        moves = np.random.default_rng(seed).standard_normal((beats, 2)) * 1e-3
        for eth, other in moves.tolist():
            self.beat(eth, ratio * eth + sqrt(1.0 - ratio * ratio) * other)
        return self.correlations.between("ETH", "BTC")


@pytest.mark.parametrize("ratio", [-0.8, 0.5, 0.9])
def test_it_finds_the_correlation_and_tells_less_of_it(ratio: float) -> None:
    found = World().run(ratio, 900)
    assert 0.85 * abs(ratio) < abs(found) < abs(ratio)
    assert (found > 0.0) == (ratio > 0.0)


def test_of_what_may_be_chance_it_tells_nothing() -> None:
    told = [World().run(0.0, 300, seed) for seed in range(8)]
    assert sum(value == 0.0 for value in told) >= 6
    assert max(map(abs, told)) < 0.1


def test_nothing_is_told_of_a_few_moves() -> None:
    world = World()
    assert world.run(0.9, 9) == 0.0
    assert world.run(0.9, 60) > 0.5


def test_a_few_moves_are_worth_as_many_and_at_last_no_more_than_the_memory() -> None:
    world = World()
    world.run(0.5, 21)
    assert world.correlations.returns == pytest.approx(20.0)
    world.run(0.5, 4_000)
    assert 800.0 < world.correlations.returns < 850.0


def test_what_comes_sooner_than_a_beat_is_left_for_the_next() -> None:
    slow, fast = World(), World()
    for world, steps in ((slow, 1), (fast, 5)):
        for move in np.random.default_rng(9).standard_normal(60).tolist():
            for _ in range(steps):
                world.beat(move * 1e-3 / steps, move * 1e-3 / steps, 1.0 / steps)
    assert fast.correlations.returns == slow.correlations.returns
    assert fast.correlations.between("ETH", "BTC") == pytest.approx(slow.correlations.between("ETH", "BTC"), abs=0.01)


def test_an_index_that_stands_still_is_waited_for() -> None:
    world = World()
    world.beat(0.0, 0.0)
    for _ in range(3):
        world.now_ns += BEAT_NS
        world.marks["ETH"].index_ns = world.now_ns
        world.correlations.note(world.now_ns)
    assert world.correlations.returns == 0.0
    world.beat(1e-3, 1e-3)
    assert world.correlations.returns == 1.0


def test_a_move_across_an_outage_is_no_move() -> None:
    world = World()
    world.beat(0.0, 0.0)
    world.beat(0.2, -0.2, beats=MOST_BEATS + 1.0)
    assert world.correlations.returns == 0.0
    assert world.run(0.9, 300) > 0.8


def test_indices_that_do_not_move_at_all_have_none() -> None:
    world = World()
    for _ in range(40):
        world.beat(0.0, 1e-3)
    assert world.correlations.between("ETH", "BTC") == 0.0


def test_of_one_that_is_unknown_nothing_is_known() -> None:
    assert World().correlations.between("ETH", "SOL") == 0.0


def test_while_one_index_stands_still_nothing_is_current_after_a_while() -> None:
    world = World()
    world.run(0.9, 60)
    assert world.correlations.is_current(world.now_ns)
    for _ in range(MOST_BEATS):
        world.now_ns += BEAT_NS
        world.marks["ETH"].index_ns = world.now_ns
        world.correlations.note(world.now_ns)
    assert world.correlations.is_current(world.now_ns)
    assert not world.correlations.is_current(world.now_ns + 1)
