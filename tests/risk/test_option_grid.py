"""The grid against Black-76 itself."""

from __future__ import annotations

import numpy as np
import pytest

from bot.pricing.black76 import greeks
from bot.risk.option_grid import option_grid


def test_value_and_greeks_are_those_of_the_reference() -> None:
    rng = np.random.default_rng(8)
    forward, strike = 2_000.0 * np.exp(0.3 * rng.normal(size=(3, 200))), 2_000.0 * np.exp(0.3 * rng.normal(size=200))
    tau, vol, is_call = rng.uniform(1e-3, 1.0, 200), rng.uniform(0.1, 2.0, 200), rng.random(200) < 0.5
    dev = vol * np.sqrt(tau)
    found = option_grid(np.log(forward / strike), dev, forward, strike, is_call)
    exact = greeks(forward, np.broadcast_to(strike, forward.shape), tau, vol, is_call)
    assert found.value == pytest.approx(exact.value, rel=1e-9, abs=1e-8)
    assert found.delta == pytest.approx(exact.delta, rel=1e-9, abs=1e-11)
    assert found.density_quote / dev == pytest.approx(exact.gamma * forward**2, rel=1e-9, abs=1e-9)
    assert found.density_quote * np.sqrt(tau) == pytest.approx(exact.vega, rel=1e-9, abs=1e-9)
    assert -found.density_quote * dev / (2.0 * tau) == pytest.approx(exact.theta, rel=1e-9, abs=1e-9)
