"""The chart's points: bounded, the newest all there, the oldest not forgotten."""

from __future__ import annotations

import pytest

from bot.telemetry.dashboard.parts.plot import MOST_POINTS, Point, thinned


def points(count: int) -> list[Point]:
    return [Point(float(number), 0.0, 0.0, -1.0, 1.0, 0.0) for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, MOST_POINTS])
def test_few_points_stay_as_they_are(count: int) -> None:
    assert thinned(points(count)) == points(count)


@pytest.mark.parametrize("count", [MOST_POINTS + 1, 2 * MOST_POINTS, 10 * MOST_POINTS + 7])
def test_many_points_are_thinned_where_they_are_old(count: int) -> None:
    given = points(count)
    kept = thinned(given)
    assert MOST_POINTS // 2 < len(kept) <= MOST_POINTS
    assert kept[0] == given[0]
    newest = MOST_POINTS // 3
    assert kept[-newest:] == given[-newest:]
    assert kept == sorted(kept)
