"""Several modes of one thing measured in turns, so that like is held against like on a machine that drifts.

The same events are gone through in as many passes as there are modes, cut into stretches. At every stretch each mode
has its turn in one of the passes, and in every round of a pass each mode has one stretch. So each event is held against
itself in another mode, and all modes have the same weather.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

DRAWS: Final = 1_000
SEED: Final = 7

Figures = NDArray[np.float64]  # stretch by event


class Pass(NamedTuple):
    """What one pass took, by name of what was measured; the mode of each stretch."""

    modes: list[str]
    figures: dict[str, Figures]


def turns(modes: Sequence[str], rounds: int, number: int) -> list[str]:
    """Return the mode of each stretch of a pass: there and back again, and each pass begins with another."""
    order = [*modes[number:], *modes[:number]]
    return [mode for place in range(rounds) for mode in (reversed(order) if place % 2 else order)]


def by_mode(passes: Sequence[Pass], name: str, mode: str) -> Figures:
    """Return all stretches in their order as they were in one mode, each from the pass that had it then."""
    places = range(len(passes[0].modes))
    where = [next(one for one in passes if one.modes[place] == mode) for place in places]
    return np.stack([one.figures[name][place] for place, one in enumerate(where)])


def ratio(of: Figures, base: Figures, quantile: float, per_round: int) -> dict[str, float]:
    """Return the ratio of a quantile, and its interval."""

    def reckon(places: NDArray[np.int64]) -> float:
        return float(np.percentile(of[places], quantile) / np.percentile(base[places], quantile))

    return with_interval(reckon, len(of), per_round)


def each(of: Figures, base: Figures, per_round: int) -> dict[str, float]:
    """Return the median of what every event took over what the very same one took otherwise; nan: not counted."""
    ratios = of / base
    return with_interval(lambda places: float(np.nanmedian(ratios[places])), len(of), per_round)


def with_interval(reckon: Callable[[NDArray[np.int64]], float], stretches: int, per_round: int) -> dict[str, float]:
    """Return a figure of all stretches, and between what it lies for nineteen of twenty draws of rounds.

    A round is drawn as a whole: its stretches are of one moment in every pass.
    """
    rounds = np.arange(stretches).reshape(-1, per_round)
    drawn = np.random.default_rng(SEED).integers(len(rounds), size=(DRAWS, len(rounds)))
    low, high = np.percentile([reckon(rounds[places].ravel()) for places in drawn], [2.5, 97.5])
    whole = reckon(rounds.ravel())
    return {"ratio": round(whole, 3), "low": round(float(low), 3), "high": round(float(high), 3)}
