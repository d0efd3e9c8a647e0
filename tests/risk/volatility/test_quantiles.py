"""Quantiles: right as often as they say, moved when they are not, and never a short tail for want of data."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest

from bot.risk.volatility.ewma import ewma
from bot.risk.volatility.quantiles import (
    LEVELS,
    WIDEST_SHIFT,
    Recalibration,
    filtered_historical,
    residual_quantile,
)


def test_a_new_value_stays_below_as_often_as_said() -> None:
    rng = np.random.default_rng(1)
    held = np.mean([rng.normal() <= residual_quantile(rng.normal(size=50), 0.9) for _ in range(6000)])
    assert held == pytest.approx(46 / 51, abs=0.015)
    assert residual_quantile(np.arange(1.0, 100.0), 0.95) == 95.0
    with pytest.raises(ValueError, match="found none"):
        residual_quantile(np.array([np.nan]), 0.9)


def test_too_few_residuals_make_a_longer_tail_not_a_shorter_one() -> None:
    few = np.arange(1.0, 21.0)
    assert residual_quantile(few, 0.95) == 20.0
    assert residual_quantile(few, 0.99) > 20.0
    assert residual_quantile(few, 0.999) > residual_quantile(few, 0.99)


def test_a_quantile_that_is_wrong_is_moved_until_it_holds() -> None:
    rng = np.random.default_rng(2)
    record = Recalibration()
    broken = []
    for value in np.exp(rng.normal(0.7, 1.0, 6000)):  # the forecast is of mean 0, and too low
        quantiles = record.quantiles(0.0, (1.2816, 1.6449, 2.3263))
        broken.append([value > one for one in quantiles])
        record = record.learnt(float(value), quantiles)
    late = np.mean(np.array(broken)[2000:], axis=0)
    assert late == pytest.approx([0.1, 0.05, 0.01], abs=0.012)
    assert record.shift[0] == pytest.approx(0.7, abs=0.25)
    assert record.count == 6000
    assert record.breaches == tuple(np.sum(broken, axis=0))


def test_one_outcome_moves_by_the_step() -> None:
    after = Recalibration(step=0.1).learnt(10.0, (9.0, 11.0, 12.0))
    assert after.shift == pytest.approx((0.1 * 0.9, -0.1 * 0.05, -0.1 * 0.01))
    assert after.breaches == (1, 0, 0)
    unknown = after.learnt(float("nan"), (9.0, 11.0, 12.0))
    assert unknown == after
    assert after.learnt(5.0, (9.0, float("nan"), 12.0)) == after
    mad = Recalibration(step=50.0).learnt(10.0, (9.0, 9.0, 9.0))
    assert mad.shift == (WIDEST_SHIFT,) * 3


def test_levels_never_cross() -> None:
    crossed = Recalibration(shift=(1.0, 0.0, -1.0))
    assert crossed.quantiles(0.0, (1.0, 1.5, 2.0)) == pytest.approx((exp(2.0),) * 3)
    assert len(LEVELS) == 3


def test_filtered_history_follows_the_vol() -> None:
    rng = np.random.default_rng(4)
    vol = np.where(np.arange(3000) // 250 % 2, 0.04, 0.01)
    returns = vol * rng.normal(size=3000)
    variance = ewma(returns**2, 0.94)
    margin = filtered_historical(returns, variance, 0.99, 500)
    assert np.isnan(margin[:500]).all()
    assert np.mean(-returns[500:] > margin[500:]) == pytest.approx(0.01, abs=0.006)
    assert np.median(margin[500:][vol[500:] > 0.02]) > 3 * np.median(margin[500:][vol[500:] < 0.02])
    changed = returns.copy()
    changed[2000:] *= 5.0
    again = filtered_historical(changed, ewma(changed**2, 0.94), 0.99, 500)
    assert again[500:2000] == pytest.approx(margin[500:2000])
