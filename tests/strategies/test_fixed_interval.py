from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from bot.domain.units import NS_PER_S
from strategies import FixedInterval
from tests.strategies.views import NOW_NS, view

CLOCK = FixedInterval(interval_s=900)


@pytest.mark.parametrize(("elapsed_ns", "is_due"), [(900 * NS_PER_S, True), (900 * NS_PER_S - 1, False)])
def test_is_due_at_the_interval_and_not_a_nanosecond_before(elapsed_ns: int, is_due: bool) -> None:
    target = CLOCK.target(view(last_hedge_ns=NOW_NS - elapsed_ns))
    assert (target.high_base < math.inf) is is_due


def test_trades_to_the_target_and_leaves_half_a_lot_alone() -> None:
    target = CLOCK.target(view(target_delta_base=-7.0))
    assert target.low_base == pytest.approx(-7.05)
    assert target.high_base == pytest.approx(-6.95)
    assert (target.buy_to_base, target.sell_to_base) == (-7.0, -7.0)
    assert target.reason == "clock 900 s: 7200 s since the last hedge"


def test_the_first_hedge_is_due_at_once() -> None:
    target = CLOCK.target(view(last_hedge_ns=0))
    assert target.high_base < math.inf
    assert target.reason == "clock 900 s: first hedge"


def test_says_how_long_it_waits() -> None:
    assert CLOCK.target(view(last_hedge_ns=NOW_NS - 300 * NS_PER_S)).reason == "clock: next hedge in 600 s"


@pytest.mark.parametrize("damage", [{"target_delta_base": math.nan}, {"lot_base": math.nan}, {"lot_base": 0.0}])
def test_holds_on_a_damaged_view(damage: dict[str, float]) -> None:
    assert CLOCK.target(view(**damage)).high_base == math.inf


@pytest.mark.parametrize("interval_s", [0, -1, math.nan, math.inf, "900", True])
def test_refuses_an_interval_that_is_none(interval_s: object) -> None:
    with pytest.raises(ValidationError):
        FixedInterval.model_validate({"type": "fixed_interval", "interval_s": interval_s})
