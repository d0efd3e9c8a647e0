"""The recent past of one underlying, in memory that does not grow.

Two rings each: the newest points as they came, and all of the run ever further apart. A point of the coarse ring holds
the extremes of what it stands for, so that a short excursion out of the band is still seen a week later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from bot.domain.units import NS_PER_S
from bot.domain.windows import UnderlyingState

FINE_POINTS: Final = 900
COARSE_POINTS: Final = 1200  # then every two become one
COARSE_STEP_NS: Final = 10 * NS_PER_S


class ExposurePoint(NamedTuple):
    """Net delta against its band at one moment of engine time; None is not known, or no band."""

    ts_ns: int
    low_base: float | None
    high_base: float | None
    band_low_base: float | None
    band_high_base: float | None
    target_base: float | None
    hedge_base: float
    spot_px: float | None


class Ring:
    """Points in order of time: the newest one by one, older ones merged two by two as they become many."""

    def __init__(self) -> None:
        self._fine: deque[ExposurePoint] = deque(maxlen=FINE_POINTS)
        self._coarse: list[ExposurePoint] = []
        self._step_ns = COARSE_STEP_NS
        self.added = 0  # ever; a reader that has seen n of them asks for what came since

    def add(self, point: ExposurePoint) -> None:
        """Take a point; one that is not younger than the newest replaces nothing and is left out."""
        if self._fine and point.ts_ns <= self._fine[-1].ts_ns:
            return
        self._fine.append(point)
        self.added += 1
        if self._coarse and point.ts_ns // self._step_ns == self._coarse[-1].ts_ns // self._step_ns:
            self._coarse[-1] = _merged(self._coarse[-1], point)
            return
        self._coarse.append(point)
        if len(self._coarse) > COARSE_POINTS:
            pairs = zip(self._coarse[::2], self._coarse[1::2], strict=False)
            odd = self._coarse[-1:] if len(self._coarse) % 2 else []
            self._coarse = [_merged(earlier, later) for earlier, later in pairs] + odd
            self._step_ns *= 2

    def points(self) -> list[ExposurePoint]:
        """Return all there is: the coarse ones up to where the fine ones begin, then those."""
        if not self._fine:
            return []
        first_ns = self._fine[0].ts_ns
        older = [point for point in self._coarse if point.ts_ns // self._step_ns <= first_ns // self._step_ns]
        if self.added == len(self._fine):
            return list(self._fine)
        if older and older[-1].ts_ns >= first_ns:  # it also stands for some of the fine ones
            older[-1] = older[-1]._replace(ts_ns=first_ns - 1)
        return older + list(self._fine)

    def since(self, seen: int) -> list[ExposurePoint]:
        """Return what was added after the first `seen`, as far as it is still held one by one."""
        missing = min(self.added - seen, len(self._fine))
        return list(self._fine)[len(self._fine) - missing :] if missing > 0 else []

    def __len__(self) -> int:
        return len(self._fine) + len(self._coarse)


def exposure_point(state: UnderlyingState, now_ns: int) -> ExposurePoint:
    """Return what the charts show of an underlying at `now_ns`."""
    return ExposurePoint(
        now_ns,
        state.delta_low_base,
        state.delta_high_base,
        state.low_base,
        state.high_base,
        state.target_delta_base,
        state.hedge_base,
        state.spot_px,
    )


def _merged(earlier: ExposurePoint, later: ExposurePoint) -> ExposurePoint:
    return later._replace(
        low_base=_extreme(min, earlier.low_base, later.low_base),
        high_base=_extreme(max, earlier.high_base, later.high_base),
    )


def _extreme(choose: Callable[[float, float], float], first: float | None, second: float | None) -> float | None:
    if first is None or second is None:
        return second if first is None else first
    return choose(first, second)
