"""What a policy is told of the option legs as a whole: their vol, gamma and vanna, and how soon their gamma runs out.

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

MATERIAL_SHARE = 0.05  # of all gamma; an expiry with less does not set the time the view has to the nearest expiry


class LegSums:
    """The sums over one book's legs, as of the last `update`."""

    def __init__(self) -> None:
        self.vol = inf  # of the legs by their gamma; NaN without any
        self.gamma = 0.0  # Σ |q Γ|: without regard to sign, for weights
        self.vanna_base_per_vol = 0.0
        self.first_years = inf  # to the nearest expiry that gamma is material of
        self.last_years = inf  # to the last expiry of which anything is held
        self._legs: Legs | None = None
        self._qty_base: NDArray[np.float64] | None = None
        self._size_base: NDArray[np.float64] = np.empty(0)
        self._is_all_held = False
        self._first_row = self._last_row = -1
        self._expiry_rows: list[int] = []  # a row of every expiry, nearest first
        self._expiry_of_row: NDArray[np.intp] = np.empty(0, dtype=np.intp)

    def update(self, legs: Legs, marks: OptionMarks | None) -> None:
        """Sum these legs, unless that was done already: they are new after a revaluation only."""
        if legs is self._legs:
            return
        self._legs = legs
        qty_base = legs.qty_base
        if qty_base is not self._qty_base:
            self._note_quantities(legs)
        gamma = marks.greeks.gamma if marks is not None and marks.vol is legs.vol else None
        by_delta = qty_base
        if marks is not None and marks.moving_share is not None:
            by_delta = qty_base * marks.moving_share
            gamma = gamma * marks.moving_share**2 if gamma is not None else None
        self.vanna_base_per_vol = float(by_delta.dot(marks.greeks.vanna)) if marks is not None else 0.0
        weights = self._size_base * gamma if gamma is not None else None
        self.gamma = np.add.reduce(weights).item() if weights is not None and self._first_row >= 0 else 0.0
        if weights is not None and self._is_all_held and 0.0 < self.gamma < inf:
            self.vol = weights.dot(legs.vol).item() / self.gamma
        else:
            self.vol = gamma_weighted_vol(legs, gamma)
        self._find_horizons(legs.tau_years, weights)

    def _find_horizons(self, tau_years: NDArray[np.float64], weights: NDArray[np.float64] | None) -> None:
        """Find the two expiries; those of less than `MATERIAL_SHARE` of all gamma are not the first.

        They say nothing of how soon the book's own runs out.
        """
        self.first_years = self.last_years = inf
        if self._first_row < 0:
            self.gamma = 0.0
            return
        self.first_years, self.last_years = tau_years.item(self._first_row), tau_years.item(self._last_row)
        total = self.gamma
        if weights is None or not 0.0 < total < inf:
            self.gamma = 0.0
            return
        if self.first_years < self.last_years:
            by_expiry = np.bincount(self._expiry_of_row, weights).tolist()
            if by_expiry[0] / total >= MATERIAL_SHARE:  # as nearly always: the others cannot come before it
                self.first_years = tau_years.item(self._expiry_rows[0])
                return
            shares = [one / total for one in by_expiry]
            least = min(MATERIAL_SHARE, max(shares))
            for row, share in zip(self._expiry_rows, shares, strict=True):
                if share >= least:
                    self.first_years = tau_years.item(row)
                    return

    def _note_quantities(self, legs: Legs) -> None:
        """Find what stays as it is while time passes: how much is held of each leg, and the order of expiries."""
        self._qty_base = legs.qty_base
        self._size_base = np.abs(legs.qty_base)
        held = np.flatnonzero(legs.qty_base)
        self._is_all_held = 0 < held.size == len(legs.qty_base)
        self._first_row = self._last_row = -1
        _, rows, self._expiry_of_row = np.unique(legs.tau_years, return_index=True, return_inverse=True)
        self._expiry_rows = rows.tolist()
        if held.size:
            held_years = legs.tau_years[held]
            self._first_row, self._last_row = int(held[held_years.argmin()]), int(held[held_years.argmax()])
