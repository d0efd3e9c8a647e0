from __future__ import annotations

from math import log, sqrt

import numpy as np
import pytest

from bot.pricing.calibration import (
    LEAST_BOOKS,
    LEAST_ORDERS,
    Floats,
    daily_vol,
    half_spread,
    impact_from_books,
    impact_from_fills,
    mean_rate,
    weighted_quantile,
)

S = 1_000_000_000


def test_the_median_is_weighted_by_time() -> None:
    assert weighted_quantile(np.array([3.0, 1.0, 2.0]), np.array([1.0, 5.0, 1.0]), 0.5) == 1.0
    assert weighted_quantile(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 1.0]), 0.5) == 2.0
    ts = np.arange(400, dtype=np.int64)
    ts[200:] += 200 * np.arange(1, 201)  # wide quotes last long, narrow ones a moment
    ask = np.where(np.arange(400) < 200, 100.01, 100.05)
    found = half_spread(ts * S, np.full(400, 100.0), ask, longest_ns=10**15)
    assert found.value == pytest.approx(0.05 / 200.05)
    assert half_spread(ts * S, np.full(400, 100.0), ask, longest_ns=S // 2).value == pytest.approx(0.01 / 200.01)
    assert found.low <= found.value <= found.high


def test_quotes_without_a_side_and_crossed_ones_do_not_count() -> None:
    ts = np.arange(130, dtype=np.int64) * S
    bid, ask = np.full(130, 100.0), np.full(130, 100.02)
    bid[:10], ask[10:20] = 0.0, 99.0
    assert half_spread(ts, bid, ask, S).samples == 109  # nobody knows how long the last one held
    bid[20:40] = 0.0
    few = half_spread(ts, bid, ask, S)
    assert not few.is_known
    assert few.lacks == "100 quotes, found 89"


def test_the_vol_of_a_day_is_found_again_whatever_the_sampling() -> None:
    rng = np.random.default_rng(1)
    seconds = np.sort(rng.choice(2 * 86_400, 60_000, replace=False))
    path = np.cumsum(rng.normal(0.0, 0.04 / sqrt(86_400), 2 * 86_400))
    bounce = rng.choice([-1e-4, 1e-4], 60_000)
    found = daily_vol(seconds * S, 2000.0 * np.exp(path[seconds] + bounce))
    assert found.low < 0.04 < found.high
    assert found.high - found.low < 0.004
    few = daily_vol(np.arange(50, dtype=np.int64) * 60 * S, np.full(50, 100.0))
    assert (few.is_known, few.lacks) == (False, "60 prices a minute apart, found 49")


@pytest.mark.parametrize("truth", [0.0, 0.5, 1.0])
def test_impact_of_fills_is_found_again_and_the_interval_holds_it_as_often_as_it_says(truth: float) -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(300):
        size = np.exp(rng.uniform(log(0.01), log(50.0), 200))
        unit = (2.0 / 3.0) * 0.03 * np.sqrt(size / 20_000.0)
        cost = truth * unit + rng.normal(0.0, 1.0, 200) * (1e-5 + 0.5 * unit)  # large orders scatter more
        found = impact_from_fills(size, cost, 0.03, 20_000.0)
        held += found.low <= truth <= found.high
    assert 0.90 < held / 300 < 0.98


def test_too_few_orders_or_no_scale_give_no_number() -> None:
    size = np.ones(LEAST_ORDERS - 1)
    few = impact_from_fills(size, size, 0.03, 1e4)
    assert (few.is_known, few.lacks) == (False, "30 taker orders, found 29")
    assert impact_from_fills(np.ones(50), np.ones(50), 0.03, float("nan")).lacks == "the daily volume"
    assert impact_from_fills(np.ones(50), np.ones(50), float("nan"), 1e4).lacks == "the vol of a day"


def square_root_books(count: int, impact: float, noise: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Books whose walk costs (2/3) Y σ_d √(q/V) on average at every level: prices at the peak between two levels."""
    rng = np.random.default_rng(4)
    base = rng.uniform(0.5, 2.0, (count, 12))
    size = np.cumsum(base, axis=1)
    cost = (2.0 / 3.0) * impact * 0.03 * size**1.5 / sqrt(20_000.0)
    cost -= cost[:, :1] * size / size[:, :1]  # the touch itself is where cost is counted from
    each = np.diff(cost, axis=1, prepend=0.0) / base * np.exp(rng.normal(0.0, noise, (count, 1)))
    return 100.0 * (1.0 - each), base, 100.0 * (1.0 + each), base


def test_impact_of_books_is_that_of_their_walk() -> None:
    found = impact_from_books(*square_root_books(600, 0.9, 0.3), 0.03, 20_000.0)
    twice = impact_from_books(*square_root_books(600, 1.8, 0.3), 0.03, 20_000.0)
    assert twice.value == pytest.approx(2.0 * found.value, rel=1e-6)
    assert 0.2 * 0.9 < found.value < 0.9  # less than in full: the touch's own share is counted as spread
    assert found.low < found.value < found.high
    assert found.high - found.low < 0.2 * found.value
    assert not impact_from_books(*square_root_books(LEAST_BOOKS - 1, 0.9, 0.3), 0.03, 2e4).is_known


def test_a_mean_of_few_is_none() -> None:
    assert mean_rate(np.array([1.0, 2.0])).lacks == "5 of them, found 2"
    found = mean_rate(np.arange(101.0))
    assert found.value == 50.0
    assert found.high - 50.0 == pytest.approx(1.96 * 29.3 / sqrt(101), rel=1e-2)
