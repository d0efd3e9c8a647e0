"""What a policy is told of the option legs as a whole: their vol, their vanna, and when the first and the last expire.

A decision that revalues the book needs all of these again, in the time of a few operations on arrays. What depends on
the quantities alone is kept for as long as these are the same array.
"""

from __future__ import annotations

from math import inf

import numpy as np
from numpy.typing import NDArray

from bot.domain.decisions import Legs
from bot.engine.book import OptionMarks
from bot.engine.inclusion import gamma_weighted_vol


class LegSums:
    """The sums over one book's legs, as of the last `update`."""

    def __init__(self) -> None:
        self.vol = inf  # of the legs by their gamma; NaN without any
        self.vanna_base_per_vol = 0.0
        self.first_years = self.last_years = inf  # until the first and the last leg expires of which anything is held
        self._legs: Legs | None = None
        self._qty_base: NDArray[np.float64] | None = None
        self._size_base: NDArray[np.float64] = np.empty(0)
        self._is_all_held = False
        self._first_row = self._last_row = -1

    def update(self, legs: Legs, marks: OptionMarks | None) -> None:
        """Sum these legs, unless that was done already: they are new after a revaluation only."""
        if legs is self._legs:
            return
        self._legs = legs
        qty_base, tau_years = legs.qty_base, legs.tau_years
        if qty_base is not self._qty_base:
            self._note_quantities(legs)
        self.first_years = self.last_years = inf
        if self._first_row >= 0:
            self.first_years, self.last_years = tau_years.item(self._first_row), tau_years.item(self._last_row)
        if marks is None:
            self.vol, self.vanna_base_per_vol = gamma_weighted_vol(legs), 0.0
            return
        gamma = marks.greeks.gamma if marks.vol is legs.vol else None
        if gamma is not None and self._is_all_held and self.first_years > 0.0:
            weights = self._size_base * gamma
            total = weights.sum().item()
            self.vol = weights.dot(legs.vol).item() / total if 0.0 < total < inf else float("nan")
        else:
            self.vol = gamma_weighted_vol(legs, gamma)
        by_delta = qty_base if marks.moving_share is None else qty_base * marks.moving_share
        self.vanna_base_per_vol = float(by_delta.dot(marks.greeks.vanna))

    def _note_quantities(self, legs: Legs) -> None:
        """Find what stays as it is while time passes: how much is held of each leg, and which expire first and last."""
        self._qty_base = legs.qty_base
        self._size_base = np.abs(legs.qty_base)
        held = np.flatnonzero(legs.qty_base)
        self._is_all_held = 0 < held.size == len(legs.qty_base)
        self._first_row = self._last_row = -1
        if held.size:
            held_years = legs.tau_years[held]
            self._first_row, self._last_row = int(held[held_years.argmin()]), int(held[held_years.argmax()])
