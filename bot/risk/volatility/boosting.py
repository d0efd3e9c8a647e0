"""Gradient boosting fitted with scikit-learn, seeded, and taken out of it as arrays: heavy, for calibration only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor

from bot.risk.volatility.measures import Floats
from bot.risk.volatility.trees import LEAF, Boosted, Tree

LEAST_ROWS: Final = 60
HELD_OUT_SHARE: Final = (
    0.25  # trees remember what they were grown on: what they miss is measured on rows they never saw
)


def fit_boosted(
    names: Sequence[str],
    rows: Floats,
    target: Floats,
    *,
    seed: int = 1,
    trees: int = 150,
    depth: int = 3,
    rate: float = 0.05,
) -> Boosted:
    """Return the boosted trees of a log variance; rows with anything unknown are left out."""
    known = np.isfinite(rows).all(axis=1) & np.isfinite(target)
    rows, target = rows[known], target[known]
    if rows.shape[0] < LEAST_ROWS:
        raise ValueError(f"expected at least {LEAST_ROWS} rows to boost trees on, found {rows.shape[0]}")

    def grown(upto: int, residual_variance: float) -> Boosted:
        model = GradientBoostingRegressor(
            n_estimators=trees,
            max_depth=depth,
            learning_rate=rate,
            subsample=0.7,
            min_samples_leaf=8,
            random_state=seed,
        ).fit(rows[:upto], target[:upto])
        stages = tuple(_taken_out(stage[0].tree_) for stage in model.estimators_)
        return Boosted(tuple(names), float(model.init_.constant_.ravel()[0]), rate, stages, residual_variance)

    first = int(rows.shape[0] * (1.0 - HELD_OUT_SHARE))
    held_out = target[first:] - grown(first, 0.0).log_mean(rows[first:])
    return grown(rows.shape[0], float(np.mean(held_out**2)))


def _taken_out(tree: object) -> Tree:
    feature = np.asarray(tree.feature)  # type: ignore[attr-defined]  # scikit-learn's own, which has no types
    return Tree(
        feature=tuple(int(one) if one >= 0 else LEAF for one in feature),
        threshold=tuple(np.asarray(tree.threshold).tolist()),  # type: ignore[attr-defined]
        left=tuple(np.asarray(tree.children_left).tolist()),  # type: ignore[attr-defined]
        right=tuple(np.asarray(tree.children_right).tolist()),  # type: ignore[attr-defined]
        value=tuple(np.asarray(tree.value).reshape(feature.size).tolist()),  # type: ignore[attr-defined]
    )
