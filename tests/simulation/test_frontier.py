from __future__ import annotations

import pytest

from bot.domain.results import FrontierPoint
from bot.simulation.frontier import compare, cost_at, frontier, setting_at


def point(sd_day_quote: float, cost_quote: float) -> FrontierPoint:
    return FrontierPoint("", "", cost_quote, 0.0, sd_day_quote, 0.0, 1, 0.0)


def test_a_setting_beaten_at_both_is_not_on_the_frontier() -> None:
    points = [point(4.0, 10.0), point(1.0, 100.0), point(2.0, 120.0), point(3.0, 50.0), point(3.0, 60.0)]
    assert frontier(points) == [point(1.0, 100.0), point(3.0, 50.0), point(4.0, 10.0)]


def test_cost_is_interpolated_in_logarithms_and_unknown_beyond_the_ends() -> None:
    efficient = [point(1.0, 100.0), point(4.0, 25.0), point(8.0, 20.0)]
    assert cost_at(efficient, 2.0) == pytest.approx(50.0)
    assert cost_at(efficient, 4.0) == pytest.approx(25.0)
    assert cost_at(efficient, 8.0) == pytest.approx(20.0)
    assert cost_at(efficient, 0.9) is None
    assert cost_at(efficient, 8.1) is None


def test_what_costs_nothing_or_earns_is_interpolated_in_plain_numbers() -> None:
    assert cost_at([point(1.0, 10.0), point(3.0, -10.0)], 2.0) == pytest.approx(0.0)


def test_frontiers_are_compared_where_both_reach() -> None:
    ours = [point(1.0, 50.0), point(4.0, 10.0)]
    theirs = [point(2.0, 80.0), point(8.0, 40.0)]
    found = compare(ours, theirs)
    assert [comparison.sd_day_quote for comparison in found] == [2.0, 4.0]
    assert found[0].other_cost_quote == pytest.approx(80.0)
    assert found[1].cost_quote == pytest.approx(10.0)


def test_the_setting_for_a_wanted_tracking_error_lies_between_two_that_were_run() -> None:
    settings = [(1e-2, point(1.0, 9.0)), (1e-4, point(100.0, 1.0))]
    assert setting_at(settings, 10.0) == pytest.approx(1e-3)
    assert setting_at(settings, 100.0) == pytest.approx(1e-4)
    assert setting_at(settings, 101.0) is None
