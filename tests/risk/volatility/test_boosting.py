"""Boosted trees: what is taken out of scikit-learn forecasts what scikit-learn does, and every time the same."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingRegressor

from bot.risk.volatility.boosting import fit_boosted
from bot.risk.volatility.trees import is_sound


def test_arrays_forecast_what_the_library_does_and_find_what_is_there() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(400, 2))
    target = np.where(rows[:, 0] > 0.3, 1.0, -1.0) + 0.1 * rng.normal(size=400)
    found = fit_boosted(("a", "b"), rows, target, trees=40, rate=0.1)
    library = GradientBoostingRegressor(
        n_estimators=40, max_depth=3, learning_rate=0.1, subsample=0.7, min_samples_leaf=8, random_state=1
    ).fit(rows, target)
    fresh = rng.normal(size=(300, 2))
    assert found.log_mean(fresh) == pytest.approx(library.predict(fresh), abs=1e-12)
    assert is_sound(found)
    assert found.log_mean(np.array([[2.0, 0.0], [-2.0, 0.0]])) == pytest.approx([1.0, -1.0], abs=0.15)
    # Its spread is that of rows it did not see, not the smaller one of those it did.
    assert found.residual_variance > 1.05 * np.var(target - found.log_mean(rows))
    assert fit_boosted(("a", "b"), rows, target, trees=40, rate=0.1) == found
    assert fit_boosted(("a", "b"), rows, target, trees=40, rate=0.1, seed=2) != found


def test_unknown_rows_are_left_out_and_few_are_refused() -> None:
    rows, target = np.ones((100, 1)), np.ones(100)
    rows[60:] = np.nan
    assert fit_boosted(("a",), rows, target, trees=2).log_mean(np.ones((1, 1))) == pytest.approx([1.0])
    with pytest.raises(ValueError, match="at least 60 rows to boost trees on, found 59"):
        fit_boosted(("a",), rows[1:], target[1:], trees=2)
