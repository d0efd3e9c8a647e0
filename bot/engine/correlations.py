"""How the underlyings of a vault move together: correlations of log returns, from the index prices events brought.

Returns are taken at a fixed beat of event time, long enough that two indices which arrive a little apart are still of
one moment (Epps 1979), and weighed so that the newest `HALF_LIFE_NS` counts as much as all before it. What is told is
nearer to 0 than what was measured, by two standard errors of it (Fisher's z): too low a correlation saves less than
could be saved, one too high can cost more than hedging each underlying alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import atanh, copysign, log, sqrt, tanh

from bot.domain.units import NS_PER_DAY, NS_PER_MIN
from bot.engine.market import UnderlyingMarks

BEAT_NS = 5 * NS_PER_MIN
HALF_LIFE_NS = NS_PER_DAY
MOST_BEATS = 12  # a return over more than so many beats, as after an outage, is left out
FEWEST = 12.0  # returns' worth, before anything is told
ERRORS = 2.0  # standard errors that are taken off
_MOST_RATIO = 0.999  # measured, so that z stays finite
_NEWEST = 1.0 - 2.0 ** (-BEAT_NS / HALF_LIFE_NS)


class Correlations:
    """Correlations of every pair of underlyings; its memory is one number for each."""

    def __init__(self, underlyings: Mapping[str, UnderlyingMarks]) -> None:
        self.due_ns = 0  # `note` has nothing to do before
        self._marks = dict(underlyings)
        self._px: dict[str, float] = {}
        self._seen_ns = dict.fromkeys(underlyings, 0)  # of the index that the last return ended with
        self._ns = 0
        self._products: dict[tuple[str, str], float] = {}  # moving average of the products of two returns per √year
        self._squared_weights = 0.0  # Σ w²: the inverse of how many returns of equal weight this is worth
        self._told: dict[tuple[str, str], float] = {}

    @property
    def returns(self) -> float:
        """How many returns of equal weight the averages are worth."""
        return 1.0 / self._squared_weights if self._squared_weights else 0.0

    def between(self, one: str, other: str) -> float:
        """Return the correlation of two underlyings, as much of it as is certain; 0 where nothing is known."""
        return self._told.get((one, other), 0.0)

    def is_current(self, now_ns: int) -> bool:
        """Tell whether returns still come: they stop for all underlyings while the index of one does."""
        return now_ns - self._ns <= MOST_BEATS * BEAT_NS

    def note(self, now_ns: int) -> None:
        """Take in the index prices of a beat, once every one of them is newer than that of the last."""
        marks = self._marks
        if now_ns < self.due_ns or any(one.index_ns <= self._seen_ns[name] for name, one in marks.items()):
            return
        self.due_ns = now_ns + BEAT_NS
        if self._px and now_ns - self._ns <= MOST_BEATS * BEAT_NS:
            scale = sqrt(BEAT_NS / max(BEAT_NS, now_ns - self._ns))
            self._add({name: scale * log(one.index_px / self._px[name]) for name, one in marks.items()})
        self._ns = now_ns
        for name, one in marks.items():
            self._px[name], self._seen_ns[name] = one.index_px, one.index_ns

    def _add(self, moves: dict[str, float]) -> None:
        weight = max(_NEWEST, self._squared_weights / (1.0 + self._squared_weights) if self._squared_weights else 1.0)
        self._squared_weights = (1.0 - weight) ** 2 * self._squared_weights + weight**2
        names = list(moves)
        products = self._products
        for i, one in enumerate(names):
            for other in names[i:]:
                before = products.get((one, other), 0.0)
                products[one, other] = before + weight * (moves[one] * moves[other] - before)
        for i, one in enumerate(names):
            for other in names[i + 1 :]:
                self._told[one, other] = self._told[other, one] = self._certain_ratio(one, other)

    def _certain_ratio(self, one: str, other: str) -> float:
        scale = sqrt(self._products[one, one] * self._products[other, other])
        if self.returns < FEWEST or not scale > 0.0:
            return 0.0
        ratio = max(-_MOST_RATIO, min(_MOST_RATIO, self._products[one, other] / scale))
        certain = abs(atanh(ratio)) - ERRORS / sqrt(self.returns - 3.0)
        return copysign(tanh(max(0.0, certain)), ratio)
