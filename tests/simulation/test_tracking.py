from __future__ import annotations

from math import log, nan, sqrt
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bot.domain.units import NS_PER_MIN, NS_PER_S
from bot.engine.engine import Engine
from bot.simulation.tracking import Tracking

MINUTES_PER_DAY = 1440


class Desks:
    """The decisions of one or two underlyings, as an engine would show them."""

    def __init__(self, count: int) -> None:
        self.desks = {str(number): SimpleNamespace(decision=None) for number in range(count)}
        self.settings = SimpleNamespace(gap_ns=600 * NS_PER_S)
        self.tracking = Tracking(cast("Engine", self))
        self.now_ns = NS_PER_MIN

    def show(self, *states: tuple[float, float], after_ns: int = NS_PER_MIN) -> None:
        self.now_ns += after_ns
        for desk, (off_base, px) in zip(self.desks.values(), states, strict=True):
            greeks: Any = SimpleNamespace(delta_base=off_base + 3.0)
            desk.decision = SimpleNamespace(greeks=greeks, target_delta_base=3.0, spot_px=px)
        self.tracking.observe(self.now_ns)


def test_a_steady_exposure_is_its_worth_times_the_vol_of_a_day() -> None:
    desks = Desks(1)
    for step in range(101):
        desks.show((2.0, 100.0 if step % 2 else 101.0))
    move = log(1.01)
    mean_square = ((2.0 * 100.0) ** 2 + (2.0 * 101.0) ** 2) / 2.0
    assert desks.tracking.sd_day_quote == pytest.approx(sqrt(mean_square * MINUTES_PER_DAY) * move)
    assert desks.tracking.realised_sd_day_quote == pytest.approx(2.0 * sqrt(MINUTES_PER_DAY))


def test_being_off_at_the_right_times_is_seen_only_in_what_was_realised() -> None:
    desks = Desks(1)
    for step in range(101):
        desks.show((2.0 if step % 2 else 0.0, 100.0 + (step // 2 % 2)))  # off only while nothing moves
    assert desks.tracking.sd_day_quote > 0.0
    assert desks.tracking.realised_sd_day_quote == pytest.approx(2.0 * sqrt(MINUTES_PER_DAY / 2.0), rel=0.02)


def test_offsetting_exposures_to_what_moves_together_add_up_to_nothing() -> None:
    desks = Desks(2)
    for step in range(50):
        px = 100.0 + step % 2
        desks.show((1.0, px), (-0.5, 2.0 * px))
    assert desks.tracking.sd_day_quote == pytest.approx(0.0, abs=1e-6)
    assert desks.tracking.realised_sd_day_quote == pytest.approx(0.0, abs=1e-9)


def test_gaps_and_moments_without_numbers_count_for_nothing() -> None:
    desks = Desks(1)
    for step in range(10):
        desks.show((1.0, 100.0 + step % 2))
    before = desks.tracking.sd_day_quote, desks.tracking.realised_sd_day_quote
    desks.show((1.0, 500.0), after_ns=601 * NS_PER_S)
    assert (desks.tracking.sd_day_quote, desks.tracking.realised_sd_day_quote) == before
    desks.show((nan, 900.0))
    desks.show((1.0, 100.0))
    assert (desks.tracking.sd_day_quote, desks.tracking.realised_sd_day_quote) == before


def test_nothing_decided_is_nothing_to_report() -> None:
    assert Desks(1).tracking.sd_day_quote == 0.0
    assert Desks(1).tracking.realised_sd_day_quote == 0.0
