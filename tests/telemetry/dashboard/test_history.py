from __future__ import annotations

from itertools import pairwise

from bot.domain.units import NS_PER_S
from bot.telemetry.dashboard.history import (
    COARSE_POINTS,
    FINE_POINTS,
    ExposurePoint,
    Ring,
    exposure_point,
)
from tests.telemetry.states import NOW_NS, an_underlying


def at(second: float, delta_base: float | None = 0.0) -> ExposurePoint:
    return exposure_point(an_underlying(delta_base), NOW_NS + round(second * NS_PER_S))


def filled(seconds: int, step_s: float, special: dict[int, float] | None = None) -> Ring:
    ring = Ring()
    for n in range(int(seconds / step_s)):
        ring.add(at(n * step_s, (special or {}).get(n, 0.0)))
    return ring


def test_days_of_points_take_no_more_memory_than_an_hour() -> None:
    long = filled(3 * 86_400, 30.0)
    assert len(long) <= FINE_POINTS + COARSE_POINTS
    points = long.points()
    assert points[-1].ts_ns == NOW_NS + (3 * 86_400 - 30) * NS_PER_S
    assert points[0].ts_ns < NOW_NS + 1000 * NS_PER_S  # the whole run is there, if coarsely
    assert all(earlier.ts_ns < later.ts_ns for earlier, later in pairwise(points))


def test_a_short_excursion_is_still_seen_when_points_are_merged() -> None:
    points = filled(2 * 86_400, 30.0, {100: 7.0, 101: -8.0}).points()
    assert max(point.high_base or 0.0 for point in points) == 7.0
    assert min(point.low_base or 0.0 for point in points) == -8.0


def test_unknown_beside_known_is_the_known_one() -> None:
    ring = Ring()
    for second, delta in ((0, None), (1, 2.0), (2, None)):
        ring.add(at(second, delta))
    for second in range(3, 3 + FINE_POINTS):
        ring.add(at(second, 1.0))
    first, second = ring.points()[:2]
    assert first.high_base == 2.0
    assert first.ts_ns < second.ts_ns


def test_a_reader_is_given_what_came_since() -> None:
    ring = filled(10, 1.0)
    seen = ring.added
    assert ring.since(seen) == []
    ring.add(at(10))
    ring.add(at(10))  # the same moment is the same point
    ring.add(at(11))
    assert [point.ts_ns for point in ring.since(seen)] == [at(10).ts_ns, at(11).ts_ns]
    assert len(ring.since(0)) == 12
