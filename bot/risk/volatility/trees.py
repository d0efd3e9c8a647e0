"""Boosted regression trees as plain arrays: they are stored as numbers, and nothing is unpickled to use them."""

from __future__ import annotations

from math import isfinite

import msgspec
import numpy as np

from bot.risk.volatility.measures import Floats

LEAF = -1


class Tree(msgspec.Struct, frozen=True):
    """One tree: at node n go left where x[feature] ≤ threshold, else right; a leaf has feature −1 and a value."""

    feature: tuple[int, ...]
    threshold: tuple[float, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    value: tuple[float, ...]


class Boosted(msgspec.Struct, frozen=True, tag="boosted"):
    """A base value and trees whose values, times the rate, are added to it: the log variance."""

    names: tuple[str, ...]
    base: float
    rate: float
    trees: tuple[Tree, ...]
    residual_variance: float

    def log_mean(self, rows: Floats) -> Floats:
        """Return the mean of the log variance for each row of regressors."""
        rows = np.asarray(rows, dtype=np.float32).astype(np.float64)  # as it was when the thresholds were found
        out = np.full(rows.shape[0], self.base)
        for tree in self.trees:
            out += self.rate * _values(tree, rows)
        return out

    def variance(self, rows: Floats) -> Floats:
        """Return the forecast of the variance for each row."""
        return np.asarray(np.exp(self.log_mean(rows) + 0.5 * self.residual_variance), dtype=np.float64)


def _values(tree: Tree, rows: Floats) -> Floats:
    feature, threshold = np.array(tree.feature), np.array(tree.threshold)
    left, right = np.array(tree.left), np.array(tree.right)
    node = np.zeros(rows.shape[0], dtype=np.int64)
    place = np.arange(rows.shape[0])
    while (inner := feature[node] != LEAF).any():
        at = node[inner]
        goes_left = rows[place[inner], feature[at]] <= threshold[at]
        node[inner] = np.where(goes_left, left[at], right[at])
    return np.array(tree.value)[node]


def is_sound(model: Boosted) -> bool:
    """Tell whether the trees are trees: every branch leads on, to a node further down, and every number is one."""
    width = len(model.names)
    return isfinite(model.base) and isfinite(model.rate) and all(_is_tree(tree, width) for tree in model.trees)


def _is_tree(tree: Tree, width: int) -> bool:
    size = len(tree.feature)
    if not size or any(len(part) != size for part in (tree.threshold, tree.left, tree.right, tree.value)):
        return False
    for node, feature in enumerate(tree.feature):
        if feature == LEAF:
            if not isfinite(tree.value[node]):
                return False
        elif not (
            0 <= feature < width
            and isfinite(tree.threshold[node])
            and node < tree.left[node] < size
            and node < tree.right[node] < size
        ):
            return False
    return True
