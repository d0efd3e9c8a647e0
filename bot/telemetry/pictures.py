"""Pictures of a run: net delta inside its band, P&L by part, what hedging cost, P&L hedged against unhedged.

Draws with matplotlib's object interface. Must never touch pyplot, whose figures are global state, and must never alter
a number: what is left out of a line is only what no pixel could show.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from datetime import UTC
from functools import partial
from typing import Any, Final, TypeAlias

import matplotlib as mpl
import msgspec
import numpy as np
from matplotlib import dates, ticker
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bot.domain.results import HedgeMark, RunSeries, RunSummary
from bot.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_MIN
from bot.telemetry.thinning import Column, Ticks, keep_extremes

Span: TypeAlias = tuple[int, int]

# Okabe and Ito's colours (2008), told apart under every common colour blindness: on light paper, on dark paper.
PALETTE: Final[dict[str, tuple[str, str]]] = {
    "paper": ("#ffffff", "#15181d"),
    "ink": ("#1b1f24", "#e6e8eb"),
    "muted": ("#5c636c", "#a3abb5"),
    "grid": ("#dde1e6", "#343a42"),
    "blue": ("#0072b2", "#4fa9e2"),
    "sky": ("#56b4e9", "#3d8fc0"),
    "green": ("#009e73", "#22c396"),
    "vermillion": ("#d55e00", "#f2822f"),
    "purple": ("#b65c8e", "#dd92bc"),
    "orange": ("#e69f00", "#f0b429"),
}
PAPER, INK, MUTED, GRID, BLUE, SKY, GREEN, VERMILLION, PURPLE, ORANGE = (light for light, _ in PALETTE.values())

# Each run has its own dashes as well as its own colour; the first run, the one the report is about, is solid.
LINES: Final = (
    (BLUE, "solid"),
    (VERMILLION, (0, (5, 1.5))),
    (GREEN, (0, (6, 1.5, 1.2, 1.5))),
    (PURPLE, (0, (1.2, 1.2))),
    (ORANGE, (0, (3, 1.2, 1, 1.2, 1, 1.2))),
)

STYLE: Final[dict[Any, Any]] = {  # matplotlib types the keys as one literal of every setting it has
    "font.size": 9,
    "text.parse_math": False,  # two dollar signs in one line are money, not mathematics
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "hatch.linewidth": 0.6,
    "svg.fonttype": "none",  # text stays text: searchable, and set in the page's own font
}


class Units(msgspec.Struct, frozen=True):
    """What a base unit and quote money are called, and how amounts of them are written."""

    base: str = "base"
    quote: str = "USD"

    def money(self, amount_quote: float, decimals: int | None = None) -> str:
        """Return `−$1,234`; whole money from 10 upwards unless `decimals` are asked for, `n/a` when not finite."""
        if not math.isfinite(amount_quote):
            return "n/a"
        if decimals is None:
            decimals = 2 if 0.0 < abs(amount_quote) < 9.995 else 0
        digits = f"{abs(amount_quote):,.{decimals}f}"
        minus = "−" if amount_quote < 0 and digits.strip("0.,") else ""
        return f"{minus}${digits}" if self.quote == "USD" else f"{minus}{digits} {self.quote}"

    def size(self, amount_base: float, digits: int = 2) -> str:
        """Return `4.6 ETH`, with at least `digits` significant digits, `n/a` when not finite."""
        return f"{significant(amount_base, digits)} {self.base}" if math.isfinite(amount_base) else "n/a"


def significant(amount: float, digits: int) -> str:
    """Return a number with at least `digits` significant digits and thousands separators, `n/a` when not finite."""
    if not math.isfinite(amount):
        return "n/a"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(amount)))) if amount else 0
    return f"{amount:,.{decimals}f}".replace("-", "−")


def duration(span_ns: int) -> str:
    """Return the two largest units of a duration, such as `1 d 19 h` or `25 min`."""
    for unit_ns, unit, part_ns, part in ((NS_PER_DAY, "d", NS_PER_HOUR, "h"), (NS_PER_HOUR, "h", NS_PER_MIN, "min")):
        if span_ns >= unit_ns:
            rest = span_ns % unit_ns // part_ns
            return f"{span_ns // unit_ns} {unit} {rest} {part}" if rest else f"{span_ns // unit_ns} {unit}"
    return f"{span_ns // NS_PER_MIN} min"


def count(number: int, noun: str) -> str:
    """Return `no hedges`, `1 hedge` or `25 hedges`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}" if number else f"no {noun}s"


class Shape(msgspec.Struct, frozen=True):
    """A picture's format: width, how many buckets of time a line is thinned to, and columns of the legend."""

    is_narrow: bool
    width_in: float
    buckets: int
    legend_columns: int


WIDE: Final = Shape(is_narrow=False, width_in=10.5, buckets=600, legend_columns=3)
NARROW: Final = Shape(is_narrow=True, width_in=4.0, buckets=280, legend_columns=1)


class Picture(msgspec.Struct, frozen=True):
    """One picture: its file's stem, the finding as a title, what it shows in words, and how it is drawn."""

    name: str
    title: str
    alt: str
    height_in: float
    paint: Callable[[Figure, Shape], None]


def draw_pictures(labels: Sequence[str], runs: Sequence[tuple[RunSummary, RunSeries]], units: Units) -> list[Picture]:
    """Return the pictures of the first run, compared with the others; nothing is drawn until a picture is rendered.

    `labels` name the runs. Raises ValueError if the columns of a series differ in length.
    """
    summary, series = runs[0]
    tracks = [Track.of(label, each) for label, (_, each) in zip(labels, runs, strict=True)]
    summaries = [each for each, _ in runs]
    return [
        Picture(
            "net_delta",
            f"{count(summary.hedges, 'hedge')}, cost {units.money(summary.cost_quote)}, "
            f"delta rms {units.size(summary.delta_rms_base)}",
            f"Net delta of {labels[0]} over time with its no-trade band; {count(len(series.hedges), 'fill')} of hedges "
            f"marked, {count(len(series.gaps_ns), 'gap')} of the recording shaded; spot price below.",
            5.4,
            partial(_paint_net_delta, tracks[0], units),
        ),
        Picture(
            "pnl_by_part",
            _pnl_title(summary, units),
            "Waterfall of the profit and loss: "
            + ", ".join(f"{words(part)} {units.money(amount)}" for part, amount in summary.pnl_quote.items())
            + ".",
            4.4,
            partial(_paint_waterfall, summary.pnl_quote, units),
        ),
        Picture(
            "cumulative_cost",
            _cost_title(labels, summaries, units),
            "Cumulative cost of hedging over time, as steps: "
            + ", ".join(
                f"{label} {units.money(each.cost_quote)} for {count(each.hedges, 'hedge')}"
                for label, each in zip(labels, summaries, strict=True)
            )
            + ".",
            4.2,
            partial(_paint_cost, tracks, summaries, units),
        ),
        Picture(
            "pnl_over_time",
            f"P&L {units.money(summary.pnl_quote['total'])} hedged, "
            f"{units.money(summary.unhedged_total_quote)} unhedged",
            "Profit and loss over time: "
            + ", ".join(
                f"{label} ends at {units.money(each.pnl_quote['total'])}"
                for label, each in zip(labels, summaries, strict=True)
            )
            + f", unhedged at {units.money(summary.unhedged_total_quote)}.",
            4.2,
            partial(_paint_pnl, tracks, units),
        ),
    ]


def render_png(picture: Picture) -> bytes:
    """Return the picture with its title as a PNG of about 1,600 pixels width, on white."""
    with mpl.rc_context(STYLE):
        figure = Figure((WIDE.width_in, picture.height_in), layout="constrained", facecolor=PAPER)
        picture.paint(figure, WIDE)
        figure.axes[0].set_title(textwrap.fill(picture.title, 100), pad=10)
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=155, metadata={"Software": None})
    return image.getvalue()


def render_svg(picture: Picture, shape: Shape) -> str:
    """Return the picture without its title as an `svg` element to stand in a page.

    Colours are CSS variables named as in `PALETTE`, so the page decides between light and dark; every id carries the
    picture's name, so that several can stand in one page. The same input gives the same text.
    """
    prefix = f"{picture.name}-{'narrow' if shape.is_narrow else 'wide'}-"
    with mpl.rc_context({**STYLE, "svg.hashsalt": prefix}):
        figure = Figure((shape.width_in, picture.height_in), layout="constrained", facecolor="none")
        picture.paint(figure, shape)
        for axes in figure.axes:
            axes.set_facecolor("none")
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)  # a page's parser knows svg without being told
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", svg)
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg)  # 1/100 point is enough
    for name, (light, _) in PALETTE.items():
        svg = svg.replace(light, f"var(--{name})")
    return svg


class Track(msgspec.Struct, frozen=True):
    """A `RunSeries` as arrays, with the label of its run."""

    label: str
    ts_ns: Ticks
    spot_px: Column
    net_delta_base: Column
    low_base: Column
    high_base: Column
    pnl_quote: Column
    unhedged_pnl_quote: Column
    hedges: list[HedgeMark]
    gaps_ns: list[Span]

    @staticmethod
    def of(label: str, series: RunSeries) -> Track:
        """Return the series as arrays; raises ValueError if its columns differ in length."""
        names = ("spot_px", "net_delta_base", "low_base", "high_base", "pnl_quote", "unhedged_pnl_quote")
        ts_ns = np.asarray(series.ts_ns, np.int64)
        columns = {name: np.asarray(getattr(series, name), np.float64) for name in names}
        for name, column in columns.items():
            if column.size != ts_ns.size:
                raise ValueError(
                    f"{label}: expected {ts_ns.size} values in {name}, one per ts_ns, found {column.size}; "
                    "hint: append to every column of a RunSeries at once"
                )
        return Track(label, ts_ns, hedges=series.hedges, gaps_ns=series.gaps_ns, **columns)

    def thinned(self, names: Sequence[str], buckets: int) -> tuple[Column, list[Column]]:
        """Return times in days and the named columns, thinned without losing an extreme and broken at gaps."""
        columns = [getattr(self, name) for name in names]
        kept = keep_extremes(self.ts_ns, columns, buckets)
        starts_ns = np.asarray([start_ns for start_ns, _ in self.gaps_ns], np.int64)
        cuts = np.searchsorted(self.ts_ns[kept], starts_ns, side="right")
        days = np.insert(self.ts_ns[kept], cuts, starts_ns) / NS_PER_DAY
        return days, [np.insert(column[kept], cuts, np.nan) for column in columns]


def spans(ts_ns: Ticks, mask: NDArray[np.bool_], join_ns: int) -> list[Span]:
    """Return from when to when `mask` holds, each until the next tick, joined where less than `join_ns` apart."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    joined: list[Span] = []
    for first, after in zip(edges[::2], edges[1::2], strict=True):
        start_ns, end_ns = int(ts_ns[first]), int(ts_ns[min(after, ts_ns.size - 1)])
        if joined and start_ns - joined[-1][1] < join_ns:
            joined[-1] = (joined[-1][0], end_ns)
        else:
            joined.append((start_ns, end_ns))
    return joined


def _paint_net_delta(track: Track, units: Units, figure: Figure, shape: Shape) -> None:
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    _shade_undecided([top, bottom], track, shape)
    _shade_gaps([top, bottom], track, shape)
    days, (delta, low, high) = track.thinned(("net_delta_base", "low_base", "high_base"), shape.buckets)
    low[np.isinf(low)] = np.nan
    high[np.isinf(high)] = np.nan
    if np.isfinite(low).any() or np.isfinite(high).any():
        top.fill_between(days, low, high, color=SKY, alpha=0.28, linewidth=0, label="no-trade band")
        for edge in (low, high):
            top.plot(days, edge, color=SKY, linewidth=0.8)
    top.axhline(0.0, color=MUTED, linewidth=0.7)
    top.plot(days, delta, color=BLUE, linewidth=1.3, label="net delta")
    _mark_hedges(top, track)
    top.set_ylabel(f"net delta ({units.base})")
    days, (spot,) = track.thinned(("spot_px",), shape.buckets)
    bottom.plot(days, spot, color=INK, linewidth=1.0)
    bottom.set_ylabel(f"spot ({units.quote})")
    bottom.yaxis.set_major_locator(ticker.MaxNLocator(3))
    bottom.yaxis.set_major_formatter(_plain_number)
    top.yaxis.set_major_formatter(_plain_number)
    _finish(figure, [track], shape, legend_columns=2 if shape.is_narrow else 6)


def _shade_undecided(panels: Sequence[Axes], track: Track, shape: Shape) -> None:
    refused = np.isnan(track.low_base) | np.isnan(track.high_base)
    first_ns, last_ns = _extent_ns(track)
    _shade(panels, spans(track.ts_ns, refused, (last_ns - first_ns) // shape.buckets), "not deciding", "....", 0.7)


def _shade_gaps(panels: Sequence[Axes], track: Track, shape: Shape) -> None:
    """Shade the gaps of the recording, and write their length where there is room."""
    _shade(panels, track.gaps_ns, "gap in the recording", "////", 0.6)
    first_ns, last_ns = _extent_ns(track)
    for start_ns, end_ns in track.gaps_ns:
        if end_ns - start_ns > (last_ns - first_ns) * (0.06 if shape.is_narrow else 0.03):
            panels[0].text(
                (start_ns + end_ns) / 2 / NS_PER_DAY,
                0.98,
                f"gap of {duration(end_ns - start_ns)}",
                transform=panels[0].get_xaxis_transform(),
                rotation=90,
                ha="center",
                va="top",
                bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.5},
            )


def _shade(panels: Sequence[Axes], shaded: Sequence[Span], label: str, hatch: str, alpha: float) -> None:
    bars = [(start_ns / NS_PER_DAY, (end_ns - start_ns) / NS_PER_DAY) for start_ns, end_ns in shaded]
    for axes in panels if bars else ():
        axes.broken_barh(
            bars,
            (0, 1),
            transform=axes.get_xaxis_transform(),
            facecolor=GRID,
            edgecolor=MUTED,
            linewidth=0,
            hatch=hatch,
            alpha=alpha,
            label=label,
            zorder=0.5,
        )


def _mark_hedges(axes: Axes, track: Track) -> None:
    """Mark each fill at the net delta of the last decision before or at it: buys point up, sells point down.

    Of marks that would land on one another only one is drawn; the legend counts them all.
    """
    known = np.isfinite(track.net_delta_base)
    known_ns, known_delta = track.ts_ns[known], track.net_delta_base[known]
    if known_ns.size == 0:
        return
    area = min(60.0, max(22.0, 8000.0 / max(1, len(track.hedges))))
    for name, marker, colour, side in (("buy", "^", GREEN, 1), ("sell", "v", VERMILLION, -1)):
        filled_ns = np.asarray([mark.ts_ns for mark in track.hedges if mark.qty_base * side > 0], np.int64)
        if filled_ns.size:
            at = np.maximum(0, np.searchsorted(known_ns, filled_ns, side="right") - 1)
            spots = np.stack([filled_ns, known_delta[at]])
            pixels = spots / np.maximum(np.ptp([known_ns, known_delta], axis=1, keepdims=True), 1e-300) * 500
            _, shown = np.unique(np.round(pixels), axis=1, return_index=True)
            axes.scatter(
                spots[0, shown] / NS_PER_DAY,
                spots[1, shown],
                s=area,
                marker=marker,
                color=colour,
                edgecolors=PAPER,
                linewidths=0.6,
                label=f"{name} ({count(filled_ns.size, 'fill')})",
                zorder=3,
            )


def _paint_waterfall(pnl_quote: dict[str, float], units: Units, figure: Figure, shape: Shape) -> None:
    axes = figure.subplots()
    parts = {part: amount for part, amount in pnl_quote.items() if part != "total"}
    amounts = np.asarray([*parts.values(), pnl_quote["total"]], np.float64)
    starts = np.asarray([0.0, *np.cumsum(amounts[:-1])], np.float64)
    starts[-1] = 0.0  # the total stands on its own
    ends = starts + amounts
    rows = np.arange(amounts.size)
    for row, (start, amount, end) in enumerate(zip(starts, amounts, ends, strict=True)):
        is_total = row == rows[-1]
        axes.barh(
            row,
            amount,
            left=start,
            height=0.66,
            color=MUTED if is_total else BLUE if amount >= 0 else VERMILLION,
            hatch=None if is_total or amount >= 0 else "////",
            edgecolor=PAPER,
            linewidth=0,
        )
        axes.annotate(
            units.money(float(amount)),
            (max(start, end), row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            weight="bold" if is_total else "normal",
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.8},
        )
        if not is_total:
            axes.plot([end, end], [row, row + 1], color=MUTED, linewidth=0.8, zorder=0.8)
    axes.axvline(0.0, color=MUTED, linewidth=0.8, zorder=0.8)
    axes.set_yticks(rows, [*map(words, parts), "total"], color=INK)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.invert_yaxis()
    axes.use_sticky_edges = False
    axes.margins(x=0.03)
    axes.set_xlabel(f"P&L, adding up downwards ({units.quote}); losses are hatched")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(4 if shape.is_narrow else 8))
    axes.xaxis.set_major_formatter(_plain_number)


def _paint_cost(
    tracks: Sequence[Track], summaries: Sequence[RunSummary], units: Units, figure: Figure, shape: Shape
) -> None:
    axes = figure.subplots()
    for place, (track, summary) in enumerate(zip(tracks, summaries, strict=True)):
        costs = np.cumsum([0.0, *(mark.cost_quote for mark in track.hedges)])
        times_ns = [mark.ts_ns for mark in track.hedges]
        first_ns, last_ns = _extent_ns(track)
        colour, dashes = LINES[place % len(LINES)]
        axes.plot(
            np.asarray([first_ns, *times_ns, max([last_ns, *times_ns])], np.int64) / NS_PER_DAY,
            np.append(costs, costs[-1]),
            drawstyle="steps-post",
            color=colour,
            linestyle=dashes,
            linewidth=1.0 if place else 2.0,
            zorder=2 if place else 3,
            label=f"{track.label}: {count(summary.hedges, 'hedge')}, {units.money(summary.cost_quote)}",
        )
    axes.set_ylabel(f"cumulative hedging cost ({units.quote})")
    axes.yaxis.set_major_formatter(_plain_number)
    _shade_gaps([axes], tracks[0], shape)
    _finish(figure, tracks, shape)


def _paint_pnl(tracks: Sequence[Track], units: Units, figure: Figure, shape: Shape) -> None:
    axes = figure.subplots()
    for place, track in enumerate(tracks):
        if place and not track.hedges:
            continue  # a run that never hedged is the unhedged line
        days, (pnl,) = track.thinned(("pnl_quote",), shape.buckets)
        colour, dashes = LINES[place % len(LINES)]
        axes.plot(
            days,
            pnl,
            color=colour,
            linestyle=dashes,
            linewidth=1.0 if place else 2.0,
            label=track.label,
            zorder=2 if place else 3,
        )
    days, (unhedged,) = tracks[0].thinned(("unhedged_pnl_quote",), shape.buckets)
    axes.plot(days, unhedged, color=MUTED, linewidth=0.9, label="unhedged")
    axes.axhline(0.0, color=MUTED, linewidth=0.7)
    axes.set_ylabel(f"P&L ({units.quote})")
    axes.yaxis.set_major_formatter(_plain_number)
    _shade_gaps([axes], tracks[0], shape)
    _finish(figure, tracks, shape)


def _finish(
    figure: Figure,
    tracks: Sequence[Track],
    shape: Shape,
    *,
    legend_columns: int | None = None,
) -> None:
    """Give the figure's lowest axes a UTC time axis over the first run, and the figure a legend below."""
    axes = figure.axes[-1]
    first_ns, last_ns = _extent_ns(tracks[0])
    room_ns = max(NS_PER_MIN, (last_ns - first_ns) // 100)
    axes.set_xlim((first_ns - room_ns) / NS_PER_DAY, (last_ns + room_ns) / NS_PER_DAY)
    least, most = (3, 8) if shape.is_narrow else (4, 9)  # least × 60 ≤ (most − 1) × 30, or two units have no step
    locator = dates.AutoDateLocator(tz=UTC, minticks=least, maxticks=most)  # type: ignore[no-untyped-call]  # not typed there
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]  # same
    axes.set_xlabel("time (UTC)")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=legend_columns or shape.legend_columns)
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([45.0])  # readable however small the marks are


def _extent_ns(track: Track) -> Span:
    return (int(track.ts_ns[0]), int(track.ts_ns[-1])) if track.ts_ns.size else (0, 0)


def _plain_number(amount: float, _position: float) -> str:
    """Write an axis number with thousands separators and no more decimals than it has."""
    text = f"{amount:,.4f}".rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text.replace("-", "−")


def words(part: str) -> str:
    """Return a key of the summary as words."""
    return part.replace("_", " ")


def _pnl_title(summary: RunSummary, units: Units) -> str:
    parts = {part: amount for part, amount in summary.pnl_quote.items() if part != "total"}
    first, second = sorted(parts, key=lambda part: -abs(parts[part]))[:2]
    return (
        f"P&L {units.money(summary.pnl_quote['total'])}; largest parts {words(first)} {units.money(parts[first])} "
        f"and {words(second)} {units.money(parts[second])}"
    )


def _cost_title(labels: Sequence[str], summaries: Sequence[RunSummary], units: Units) -> str:
    others = [
        f"{label} {units.money(each.cost_quote)}"
        for label, each in zip(labels[1:], summaries[1:], strict=True)
        if each.hedges
    ]
    paid = f"{labels[0]} paid {units.money(summaries[0].cost_quote)} for {count(summaries[0].hedges, 'hedge')}"
    return f"{paid}; {', '.join(others)}" if others else paid
