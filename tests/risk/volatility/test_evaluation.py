"""Losses by hand; the test finds a difference that is there, and none where there is none."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from bot.risk.volatility.evaluation import diebold_mariano, newey_west_variance, qlike, squared_error, stays


def test_losses_by_hand() -> None:
    assert qlike(np.array([2.0, 1.0]), np.array([1.0, 1.0])) == pytest.approx([1.0 - log(2.0), 0.0])
    assert squared_error(np.array([2.0]), np.array([0.5])) == pytest.approx([2.25])


def test_too_low_a_forecast_costs_more_than_too_high_a_one() -> None:
    assert qlike(np.array([1.0]), np.array([0.5]))[0] > qlike(np.array([1.0]), np.array([2.0]))[0]


def test_long_run_variance_knows_of_autocorrelation() -> None:
    noise = np.random.default_rng(1).normal(size=50_000)
    assert newey_west_variance(noise, 10) == pytest.approx(1.0, rel=0.05)
    smooth = noise[1:] + 0.8 * noise[:-1]
    assert newey_west_variance(smooth, 20) == pytest.approx(1.8**2, rel=0.08)
    assert newey_west_variance(smooth, 0) == pytest.approx(1.64, rel=0.03)


def test_the_test_rejects_as_often_as_it_says_and_finds_what_is_there() -> None:
    rng = np.random.default_rng(2)
    same = [diebold_mariano(*rng.exponential(size=(2, 200))).p_value for _ in range(400)]
    assert np.mean(np.array(same) < 0.05) == pytest.approx(0.05, abs=0.035)
    loss = rng.exponential(size=300)
    found = diebold_mariano(loss, loss + 0.1 + 0.2 * rng.normal(size=300))
    assert found.mean_difference == pytest.approx(-0.1, abs=0.04)
    assert found.t_statistic < -5.0
    assert stays(loss, loss + 0.1 + 0.2 * rng.normal(size=300))
    assert not stays(loss + 0.1, loss)


def test_the_plain_case_is_a_t_statistic() -> None:
    difference = np.array([1.0, -0.5, 0.25, -0.25, 0.5, -1.0, 0.1, -0.08])
    found = diebold_mariano(difference, np.zeros(8))
    lags = int(4 * (8 / 100) ** (2 / 9))
    variance = newey_west_variance(difference, lags)
    assert found.t_statistic == pytest.approx(difference.mean() / (variance / 8) ** 0.5 * (7 / 8) ** 0.5)


def test_nothing_to_compare_is_no_proof() -> None:
    assert diebold_mariano(np.ones(20), np.ones(20)).p_value == 1.0
    assert diebold_mariano(np.ones(3), np.zeros(3)).p_value == 1.0
    assert not stays(np.ones(20), np.ones(20))
    assert diebold_mariano(np.array([np.nan] * 15 + [1.0] * 5), np.zeros(20)).count == 5
