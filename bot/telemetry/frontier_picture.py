"""A picture of what each policy costs against the tracking error it leaves, on one recording.

Must never alter a number, or hide a setting because it does badly.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Final

from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bot.domain.results import FrontierPoint
from bot.telemetry.pictures import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Picture,
    Shape,
    count,
    words,
)

# Each family has its own mark and dashes as well as its own colour.
LOOKS: Final = (
    (BLUE, "o", "solid"),
    (VERMILLION, "s", (0, (5, 1.5))),
    (GREEN, "^", (0, (6, 1.5, 1.2, 1.5))),
    (PURPLE, "D", (0, (1.2, 1.2))),
    (ORANGE, "v", (0, (3, 1.2, 1, 1.2, 1, 1.2))),
    (SKY, "P", (0, (5, 1.5))),
    (INK, "X", (0, (1.2, 1.2))),
    (MUTED, "<", (0, (6, 1.5, 1.2, 1.5))),
)


def draw_frontier(points: Sequence[FrontierPoint], efficient: Collection[str], own: str, title: str) -> Picture:
    """Return the picture of these points; `efficient` are the specs nothing beats, `own` that of the vault."""
    shown = [point for point in points if point.cost_quote > 0.0 and point.sd_day_quote > 0.0]
    families = list(dict.fromkeys(point.family for point in shown))
    alt = "Cost of hedging against a day's tracking error, logarithmic: " + ", ".join(
        f"{words(family)} {count(sum(point.family == family for point in shown), 'setting')}" for family in families
    )
    return Picture(
        "frontier",
        f"{title}: cost against tracking error",
        alt + ".",
        5.6,
        partial(_paint, shown, families, frozenset(efficient), own),
    )


def _paint(
    points: Sequence[FrontierPoint],
    families: Sequence[str],
    efficient: Collection[str],
    own: str,
    figure: Figure,
    shape: Shape,
) -> None:
    axes = figure.subplots()
    for place, family in enumerate(families):
        colour, mark, dashes = LOOKS[place % len(LOOKS)]
        line = sorted((point for point in points if point.family == family), key=lambda point: point.sd_day_quote)
        axes.plot(
            [point.sd_day_quote for point in line],
            [point.cost_quote for point in line],
            color=colour,
            marker=mark,
            markersize=5,
            linestyle=dashes,
            linewidth=1.1,
            label=words(family),
            zorder=2,
        )
    best = [point for point in points if point.spec in efficient]
    _ring(axes, best, "nothing tried beats it", INK, 120.0, 1.0)
    _ring(axes, [point for point in points if point.spec == own], "the vault's own", VERMILLION, 330.0, 1.6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(visible=True, which="minor", linewidth=0.3)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(ticker.FuncFormatter(lambda amount, _: f"{amount:,.6g}"))
        axis.set_minor_formatter(ticker.NullFormatter())
    axes.set_xlabel("tracking error, one standard deviation a day (quote money)")
    axes.set_ylabel("cost over the recording (quote money)")
    figure.legend(loc="outside lower center", ncols=2 if shape.is_narrow else 5)


def _ring(axes: Axes, points: Sequence[FrontierPoint], label: str, colour: str, area: float, width: float) -> None:
    axes.scatter(
        [point.sd_day_quote for point in points],
        [point.cost_quote for point in points],
        s=area,
        facecolors="none",
        edgecolors=colour,
        linewidths=width,
        label=label,
        zorder=3,
    )
