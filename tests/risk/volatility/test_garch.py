"""GARCH: filter and forecasts by hand."""

from __future__ import annotations

from math import log, pi

import numpy as np
import pytest

from bot.risk.volatility.garch import Garch, forecast, log_likelihood, variances

MODEL = Garch(mu=0.0, omega=0.1, alpha=0.1, beta=0.8)


def test_filter_and_likelihood_by_hand() -> None:
    returns = np.array([1.0, -2.0])
    found = variances(MODEL, returns)
    assert found == pytest.approx([0.1 + 0.9 * 2.5, 0.2 + 0.8 * 2.35, 0.1 + 0.4 + 0.8 * 2.08])
    expected = -0.5 * (2 * log(2 * pi) + log(2.35) + 1 / 2.35 + log(2.08) + 4 / 2.08)
    assert log_likelihood(MODEL, returns) == pytest.approx(expected)
    lopsided = Garch(0.0, 0.1, 0.1, 0.8, gamma=0.2)
    assert variances(lopsided, returns, 1.0) == pytest.approx([1.0, 1.0, 0.1 + 0.3 * 4 + 0.8])


def test_forecasts_go_to_the_long_run() -> None:
    assert MODEL.long_run == pytest.approx(1.0)
    assert forecast(MODEL, 2.0, 3) == pytest.approx([2.0, 1.9, 1.81])
    assert forecast(MODEL, 2.0, 400)[-1] == pytest.approx(1.0)
    # The recursion in expectation is the closed form.
    lopsided = Garch(0.0, 0.1, 0.05, 0.8, gamma=0.1)
    by_hand = [2.0]
    for _ in range(4):
        by_hand.append(0.1 + (0.05 + 0.05 + 0.8) * by_hand[-1])
    assert forecast(lopsided, 2.0, 5) == pytest.approx(by_hand)


def test_what_never_fades_grows_by_the_step() -> None:
    assert forecast(Garch(0.0, 0.1, 0.2, 0.8), 2.0, 3) == pytest.approx([2.0, 2.1, 2.2])
    assert Garch(0.0, 0.1, 0.2, 0.8).long_run == float("inf")
