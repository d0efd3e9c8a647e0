"""The chart of net delta inside its band over time: the past is sent once, then only what is new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from nicegui import ui
from nicegui.elements import echart  # registers the bundled ECharts, which the component imports

from bot.telemetry.dashboard.live import Live
from bot.telemetry.dashboard.parts.sheet import ASSETS

MOST_POINTS: Final = 1400  # kept by a browser; older ones are thinned out
MOST_HEDGES: Final = 400

__all__ = ["MOST_HEDGES", "MOST_POINTS", "HedgeTick", "Plot", "Point", "echart", "thinned"]


class Point(NamedTuple):
    """Exposure at a moment: net delta as an interval, the band (None: none), the target; time in ms since 1970."""

    at_ms: float
    low_base: float | None
    high_base: float | None
    band_low_base: float | None
    band_high_base: float | None
    target_base: float | None


class HedgeTick(NamedTuple):
    """One hedge: when, and whether it was bought (1) or sold (−1). It is drawn where net delta was."""

    at_ms: float
    sign: int


class Plot(ui.element, component=ASSETS / "plot.js"):
    """Draws `points` and `hedges`; `told` says in words what is seen, for those who do not see it."""

    def __init__(
        self, caption: str, unit: str, told: str, points: Sequence[Point], hedges: Sequence[HedgeTick]
    ) -> None:
        super().__init__()
        self._props["first"] = {
            "caption": caption,
            "unit": unit,
            "told": told,
            "most": MOST_POINTS,
            "points": _lists(thinned(points)),
            "hedges": _lists(hedges[-MOST_HEDGES:]),
            "most_hedges": MOST_HEDGES,
        }

    def append(self, points: Sequence[Point], hedges: Sequence[HedgeTick], live: Live) -> None:
        """Draw what is new, by what `live` sends next."""
        if points or hedges:
            live.method(self.id, "append", points, hedges)

    def restart(self, points: Sequence[Point], hedges: Sequence[HedgeTick], live: Live) -> None:
        """Draw these and nothing that was before: another run has begun."""
        live.method(self.id, "restart", thinned(points), hedges[-MOST_HEDGES:])


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Return at most `most` points: the newest third as they are, and of the older ones every so many."""
    if len(points) <= most:
        return list(points)
    newest = most // 3
    older = points[: len(points) - newest]
    step = -(-len(older) // (most - newest))
    return [*older[::step], *points[len(points) - newest :]]


def _lists(rows: Sequence[tuple[float | None, ...]]) -> list[list[float | None]]:
    """Return what the framework's encoder knows: it takes no named tuples."""
    return [list(row) for row in rows]
