"""Averages of forecasts: means of logs, weights by record, nothing of the future in them."""

from __future__ import annotations

import numpy as np
import pytest

from bot.risk.volatility.average import equal, inverse_loss_weights, record_length, weighted


def test_means_are_of_logs() -> None:
    assert equal(np.array([[1.0, 4.0], [9.0, 1.0]])) == pytest.approx([2.0, 3.0])
    assert weighted(np.array([[1.0, 16.0]]), np.array([[0.75, 0.25]])) == pytest.approx([2.0])


def test_weights_follow_the_record_before() -> None:
    losses = np.array([[1.0, 3.0], [1.0, 1.0], [5.0, 1.0], [9.0, 9.0]])
    found = inverse_loss_weights(losses, 2)
    assert found[0] == pytest.approx([0.5, 0.5])
    assert found[1] == pytest.approx([0.75, 0.25])
    assert found[2] == pytest.approx([2 / 3, 1 / 3])
    assert found[3] == pytest.approx([1 / 4, 3 / 4])  # of the last two alone
    changed = losses.copy()
    changed[3] = [0.0, 100.0]
    assert inverse_loss_weights(changed, 2) == pytest.approx(found)


def test_a_record_is_sixty_outcomes_or_a_months() -> None:
    assert [record_length(every_hours) for every_hours in (1, 6, 24, 168)] == [720, 120, 60, 60]


def test_two_forecasts_that_err_apart_are_better_together() -> None:
    rng = np.random.default_rng(3)
    forecasts = np.exp(rng.normal(0.0, 0.5, (2000, 2)))
    error = np.log(equal(forecasts))
    assert np.mean(error**2) == pytest.approx(0.5 * 0.25, rel=0.1)
