"""Hours made as prices come are those made of the whole record, with holes, bad prices and seeds."""

from __future__ import annotations

import numpy as np
import pytest

from bot.risk.volatility.hour_builder import HourBuilder, hour_of
from bot.risk.volatility.measures import NS_PER_HOUR, STEP_NS, Floats, Hours, Ints, hours_of

START_NS = 473_352 * NS_PER_HOUR


def prices(count: int, seed: int = 1) -> tuple[Ints, Floats]:
    rng = np.random.default_rng(seed)
    ts_ns = START_NS + np.cumsum(rng.integers(1, 120, count)) * 1_000_000_000
    return ts_ns, 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.0005, count)))


def fed(builder: HourBuilder, ts_ns: Ints, px: Floats) -> int:
    return sum(builder.note(int(now_ns), float(one)) for now_ns, one in zip(ts_ns, px, strict=True))


def assert_same(found: Hours, expected: Hours) -> None:
    assert found.hour.tolist() == expected.hour.tolist()
    for name in expected.__struct_fields__[1:]:
        assert getattr(found, name) == pytest.approx(getattr(expected, name), nan_ok=True), name


def test_streamed_hours_are_those_of_the_whole_record() -> None:
    ts_ns, px = prices(1500)
    builder = HourBuilder()
    ended = fed(builder, ts_ns, px)
    expected = hours_of(ts_ns, px)
    assert ended == len(expected) == len(builder) > 20
    assert builder.newest_hour == expected.hour[-1]
    assert_same(builder.hours(), expected)


def test_holes_in_the_record_are_the_same_holes() -> None:
    ts_ns, px = prices(1500)
    kept = np.ones(1500, dtype=bool)
    kept[200:230] = kept[500:620] = False  # half an hour, and two hours
    builder = HourBuilder()
    fed(builder, ts_ns[kept], px[kept])
    expected = hours_of(ts_ns[kept], px[kept])
    assert np.isnan(expected.rv).any()
    assert_same(builder.hours(), expected)


def test_what_is_no_price_is_counted_and_changes_nothing() -> None:
    ts_ns, px = prices(400)
    builder, other = HourBuilder(), HourBuilder()
    fed(builder, ts_ns, px)
    for place, (now_ns, one) in enumerate(zip(ts_ns.tolist(), px.tolist(), strict=True)):
        other.note(now_ns, one)
        if place % 7 == 0:
            for bad in (float("nan"), 0.0, -1.0, float("inf")):
                other.note(now_ns, bad)
            other.note(now_ns - 5_000_000_000, 50.0)  # out of order
    assert builder.refused == 0
    assert other.refused == 5 * 58
    assert_same(other.hours(), builder.hours())


def test_time_passes_without_prices_too() -> None:
    builder = HourBuilder()
    for step in range(13):
        builder.note(START_NS + step * STEP_NS, 100.0 + step)
    assert len(builder) == 0
    assert builder.pass_time(START_NS + NS_PER_HOUR)
    assert not builder.pass_time(START_NS + NS_PER_HOUR + 1)
    assert builder.newest_hour == 473_353
    assert builder.hours().close_px.tolist() == [112.0]
    assert hour_of(START_NS) == 473_352.0


def test_hours_of_a_month_are_kept_and_a_long_absence_is_survived() -> None:
    builder = HourBuilder(kept_hours=48)
    ts_ns, px = prices(4000)
    fed(builder, ts_ns, px)
    assert len(builder) == 48
    late_ns = int(ts_ns[-1]) + 400 * 24 * NS_PER_HOUR
    builder.note(late_ns, 100.0)
    fed(builder, late_ns + np.arange(1, 40) * STEP_NS, np.full(39, 101.0))
    assert len(builder) == 48
    assert builder.newest_hour == (late_ns + 39 * STEP_NS - 1) // NS_PER_HOUR


def test_seeds_come_before_what_was_seen() -> None:
    ts_ns, px = prices(1500)
    whole = hours_of(ts_ns, px)
    builder = HourBuilder()
    middle = int(np.searchsorted(ts_ns, (int(whole.hour[10]) * NS_PER_HOUR) - STEP_NS))
    fed(builder, ts_ns[middle:], px[middle:])
    builder.seed(whole)
    found = builder.hours()
    assert found.hour.tolist() == whole.hour.tolist()
    assert found.rv == pytest.approx(whole.rv)
    early = HourBuilder()
    early.seed(whole.upto(5))
    assert early.newest_hour == whole.hour[4]


def test_the_hour_that_has_not_ended() -> None:
    builder = HourBuilder()
    assert builder.variance_so_far() == 0.0
    px = [100.0] * 13 + [101.0, 102.0]
    for step, one in enumerate(px):
        builder.note(START_NS + step * STEP_NS, one)
    expected = np.log(1.01) ** 2 + np.log(102 / 101) ** 2
    assert builder.variance_so_far() == pytest.approx(expected)
    found = builder.hours_so_far(1e-5)
    assert found.hour.tolist() == [473_353, 473_354]
    assert found.rv[-1] == pytest.approx(expected + 1e-5)
    assert found.high_px[-1] == 102.0
    moves = np.array([np.log(1.01) ** 2, np.log(102 / 101) ** 2])
    ranges = np.concatenate([np.full(10, 1e-5 / 12), moves / (4 * np.log(2))])
    weights = 0.5 ** (np.arange(11, -1, -1) / 2)
    assert found.late[-1] == pytest.approx(12 * (weights @ ranges) / weights.sum())
    assert found.swing[-1] == pytest.approx(ranges[10:].sum() + 1e-5)
    assert len(builder) == 1
