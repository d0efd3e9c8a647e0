"""What was realised: sums by hand, jumps where one was put, hours from prices with holes."""

from __future__ import annotations

from math import log, pi

import numpy as np
import pytest

from bot.risk.volatility.measures import (
    NS_PER_HOUR,
    STEP_NS,
    annual_vol,
    bipower,
    garman_klass,
    hours_of,
    jump_statistic,
    parkinson,
    quarticity,
    realised_variance,
    semivariances,
    trailing_range,
    trailing_sum,
    tripower,
    without_gaps,
)

RETURNS = np.array([0.01, -0.02, 0.005, -0.001])
START_NS = 473_352 * NS_PER_HOUR  # 2024-01-01


def test_sums_of_returns_by_hand() -> None:
    assert realised_variance(RETURNS) == pytest.approx(1e-4 + 4e-4 + 25e-6 + 1e-6)
    assert semivariances(RETURNS) == pytest.approx((4e-4 + 1e-6, 1e-4 + 25e-6))
    assert bipower(RETURNS) == pytest.approx(0.5 * pi * 4 / 3 * (2e-4 + 1e-4 + 5e-6))
    assert quarticity(RETURNS) == pytest.approx(4 / 3 * (1e-8 + 16e-8 + 6.25e-10 + 1e-12))


def test_without_jumps_all_measures_find_the_same_variance() -> None:
    returns = np.random.default_rng(1).normal(0.0, 0.001, 100_000)
    assert bipower(returns) == pytest.approx(realised_variance(returns), rel=0.02)
    assert quarticity(returns) == pytest.approx(0.1**2, rel=0.03)  # RV² where variance is constant
    assert tripower(returns) == pytest.approx(0.1**2, rel=0.03)


def test_a_jump_is_seen_and_its_absence_too() -> None:
    rng = np.random.default_rng(2)
    quiet = np.array([jump_statistic(rng.normal(0.0, 0.001, 288)) for _ in range(400)])
    assert abs(quiet.mean()) < 0.2
    assert quiet.std() == pytest.approx(1.0, abs=0.15)
    jumpy = rng.normal(0.0, 0.001, 288)
    jumpy[100] += 0.02
    assert jump_statistic(jumpy) > 5.0
    assert bipower(jumpy) < 0.6 * realised_variance(jumpy)
    assert np.isnan(jump_statistic(np.zeros(288)))


def test_ranges_by_hand_and_of_a_walk() -> None:
    assert parkinson(np.array([110.0]), np.array([100.0]))[0] == pytest.approx(log(1.1) ** 2 / (4 * log(2)))
    found = garman_klass(*(np.array([px]) for px in (100.0, 110.0, 99.0, 105.0)))[0]
    assert found == pytest.approx(0.5 * log(110 / 99) ** 2 - (2 * log(2) - 1) * log(1.05) ** 2)
    walks = np.cumsum(np.random.default_rng(3).normal(0.0, 0.01 / 20, (4000, 400)), axis=1)
    found = parkinson(np.exp(np.maximum(walks.max(axis=1), 0.0)), np.exp(np.minimum(walks.min(axis=1), 0.0)))
    assert found.mean() == pytest.approx(1e-4, rel=0.08)  # a little less than all, as it is looked at now and then


def test_hours_are_made_of_five_minute_returns() -> None:
    rng = np.random.default_rng(4)
    px = 40_000.0 * np.exp(np.cumsum(rng.normal(0.0, 0.001, 37)))
    hours = hours_of(START_NS + STEP_NS * np.arange(37), px)
    returns = np.diff(np.log(px)).reshape(3, 12)
    assert hours.hour.tolist() == [473_353, 473_354, 473_355]
    assert hours.rv == pytest.approx((returns**2).sum(axis=1))
    assert hours.down == pytest.approx((np.minimum(returns, 0) ** 2).sum(axis=1))
    assert hours.quarticity == pytest.approx((returns**4).sum(axis=1))
    assert hours.bipower == pytest.approx(0.5 * pi * 12 / 11 * (abs(returns[:, 1:] * returns[:, :-1])).sum(axis=1))
    assert hours.swing == pytest.approx((returns**2).sum(axis=1) / (4 * log(2)))  # of one price a step
    weights = 0.5 ** (np.arange(11, -1, -1) / 2)
    assert hours.late == pytest.approx(12 * (returns**2 @ weights) / weights.sum() / (4 * log(2)))
    assert hours.close_px == pytest.approx(px[[12, 24, 36]])
    assert hours.high_px[1] == px[12:25].max()
    assert hours.low_px[1] == px[12:25].min()


def test_ranges_of_candles_count_from_the_price_before() -> None:
    px = np.full(14, 100.0)
    high_px, low_px = px.copy(), px.copy()
    high_px[3], low_px[12], high_px[13] = 102.0, 99.0, 150.0  # the last is after the hour
    hours = hours_of(START_NS + STEP_NS * np.arange(14), px, high_px, low_px)
    of_high, of_low = log(1.02) ** 2 / (4 * log(2)), log(0.99) ** 2 / (4 * log(2))
    assert hours.swing.tolist() == pytest.approx([of_high + of_low])
    weights = 0.5 ** (np.arange(11, -1, -1) / 2)
    assert hours.late.tolist() == pytest.approx([12 * (weights[2] * of_high + of_low) / weights.sum()])
    assert (hours.high_px[0], hours.low_px[0]) == (102.0, 99.0)


def test_what_is_missing_is_made_up_for_or_unknown_but_never_nought() -> None:
    px = 100.0 * np.exp(0.001 * np.arange(61))
    ts_ns = START_NS + STEP_NS * np.arange(61)
    few_missing = np.ones(61, dtype=bool)
    few_missing[[15, 16]] = False
    hours = hours_of(ts_ns[few_missing], px[few_missing])
    assert hours.rv == pytest.approx(np.full(5, 12e-6))
    most_missing = np.ones(61, dtype=bool)
    most_missing[13:22] = False
    hours = hours_of(ts_ns[most_missing], px[most_missing])
    assert np.isnan(hours.rv[1])
    assert hours.rv[[0, 2]] == pytest.approx([12e-6, 12e-6])
    bad = px.copy()
    bad[15], bad[16] = np.nan, -1.0
    assert hours_of(ts_ns, bad).rv == pytest.approx(np.full(5, 12e-6))
    assert len(hours_of(ts_ns[:5], px[:5])) == 0
    assert len(hours_of(ts_ns[:0], px[:0])) == 0


def test_gaps_are_filled_with_what_is_not_known() -> None:
    px = 100.0 * np.exp(0.001 * np.arange(61))
    hours = hours_of(START_NS + STEP_NS * np.arange(61), px)
    with_gap = type(hours)(*(getattr(hours, name)[[0, 1, 4]] for name in hours.__struct_fields__))
    found = without_gaps(with_gap)
    assert found.hour.tolist() == hours.hour.tolist()
    assert np.isnan(found.rv[[2, 3]]).all()
    assert found.close_px[2] == hours.close_px[1]
    assert found.rv[4] == hours.rv[4]


def test_sums_and_ranges_over_windows() -> None:
    values = np.array([1.0, 2.0, np.nan, 4.0, 5.0])
    found = trailing_sum(values, 4)
    assert np.isnan(found[:3]).all()  # 2 of 4 known at the third
    assert found[3:] == pytest.approx([7.0 * 4 / 3, 11.0 * 4 / 3])
    px = 100.0 * np.exp(0.001 * np.arange(61))
    hours = hours_of(START_NS + STEP_NS * np.arange(61), px)
    assert np.isnan(trailing_range(hours, 2)[0])
    assert trailing_range(hours, 2)[1:] == pytest.approx(0.024**2 / (4 * log(2)))
    assert annual_vol(1e-4, 1.0) == pytest.approx(0.01 * 8760**0.5)
