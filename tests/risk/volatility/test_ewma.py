"""The average that forgets, by hand and where values are missing."""

from __future__ import annotations

import numpy as np
import pytest

from bot.risk.volatility.ewma import decay_of_half_life, ewma


def test_each_forecast_knows_only_what_came_before() -> None:
    values = np.array([1.0, 3.0, 2.0])
    assert ewma(values, 0.9, start=2.0) == pytest.approx([2.0, 1.9, 0.9 * 1.9 + 0.3])
    changed = np.array([1.0, 3.0, 99.0])
    assert ewma(changed, 0.9, start=2.0) == pytest.approx(ewma(values, 0.9, start=2.0))


def test_what_is_missing_changes_nothing() -> None:
    values = np.array([1.0, np.nan, 3.0, 2.0])
    assert ewma(values, 0.9, start=2.0) == pytest.approx([2.0, 1.9, 1.9, 0.9 * 1.9 + 0.3])
    whole = np.random.default_rng(1).exponential(size=50)
    assert ewma(np.append(whole, np.nan), 0.94, start=1.0)[:50] == pytest.approx(ewma(whole, 0.94, start=1.0))


def test_half_life_and_bounds() -> None:
    assert decay_of_half_life(11.2) == pytest.approx(0.94, abs=1e-3)
    assert ewma(np.empty(0), 0.5).size == 0
    with pytest.raises(ValueError, match="between 0 and 1, found 1"):
        ewma(np.ones(3), 1.0)
