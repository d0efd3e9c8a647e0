"""Pictures of risk: P&L over moves and vols, margin use and distance by account, the fan of a forecast, collateral.

Takes plain numbers and must never alter one; what has no number is written, not drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from functools import partial
from math import isfinite, sqrt
from typing import Final

import msgspec
import numpy as np
from matplotlib import dates, ticker
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from bot.domain.units import NS_PER_DAY, NS_PER_HOUR
from bot.telemetry.pictures import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PAPER,
    PURPLE,
    SKY,
    VERMILLION,
    Picture,
    Shape,
    significant,
)

LOSS_TO_GAIN: Final = LinearSegmentedColormap.from_list("loss_to_gain", (VERMILLION, PAPER, BLUE))
ASSET_COLOURS: Final = (BLUE, ORANGE, GREEN, PURPLE, SKY, MUTED)
HOURS_PER_DAY: Final = 24.0
MOST_SHOWN: Final = 0.6  # how far prices are drawn on either side; what is further is written


class HeatMap(msgspec.Struct, frozen=True, kw_only=True):
    """P&L in quote money and use by vol change and move; a use of 1 or more is liquidated."""

    title: str
    moves: Sequence[float]
    vols: Sequence[float]
    pnl_quote: Sequence[Sequence[float]]
    use_ratio: Sequence[Sequence[float]]


class AccountUse(msgspec.Struct, frozen=True, kw_only=True):
    """One account: its use (1 is liquidated) and how far down and up its ends are, infinite where there is none.

    `day_fraction` is one standard deviation of a day.
    """

    name: str
    use_ratio: float
    down_fraction: float
    up_fraction: float
    day_fraction: float
    state: str


class Fan(msgspec.Struct, frozen=True, kw_only=True):
    """The forecast of one underlying: by hours ahead the mean vol and its quantiles, and what was realised by hour."""

    underlying: str
    now_ns: int
    realised: Sequence[tuple[int, float]]
    hours: Sequence[float]
    mean_vol: Sequence[float]
    levels: Sequence[float]
    quantile_vols: Sequence[Sequence[float]]
    model: str


class PlaceHeld(msgspec.Struct, frozen=True, kw_only=True):
    """One place of collateral: what it holds by asset in quote money, and what it is to have (NaN for a wallet)."""

    name: str
    held_quote: dict[str, float]
    needed_quote: float


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """One transfer of a plan."""

    asset: str
    from_place: str
    to_place: str
    value_quote: float
    text: str


def draw_heatmap(heat: HeatMap) -> Picture:
    """Return the picture of P&L over moves and vols; each cell says its use as well."""
    worst = min(min(row) for row in heat.pnl_quote)
    dead = sum(one >= 1.0 for row in heat.use_ratio for one in row)
    cells = len(heat.moves) * len(heat.vols)
    alt = f"Map of {cells} cells, move by vol change: the worst P&L is {_money(worst)}; {dead} cells are liquidated."
    return Picture("stress", heat.title, alt, 1.4 + 0.75 * len(heat.vols), partial(_paint_heatmap, heat))


def _paint_heatmap(heat: HeatMap, figure: Figure, shape: Shape) -> None:
    axes = figure.subplots()
    values = np.asarray(heat.pnl_quote, dtype=np.float64)
    most = max(float(np.abs(values).max()), 1.0)
    axes.imshow(values, cmap=LOSS_TO_GAIN, norm=TwoSlopeNorm(0.0, -most, most), aspect="auto")
    axes.grid(visible=False)
    axes.set_xticks(range(len(heat.moves)), [_far(move, 0) for move in heat.moves])
    axes.set_yticks(range(len(heat.vols)), [_far(vol, 0) for vol in heat.vols])
    axes.set_xlabel("move of every price")
    axes.set_ylabel("change of vols")
    for row, line in enumerate(heat.pnl_quote):
        for column, pnl in enumerate(line):
            use = heat.use_ratio[row][column]
            is_dead = use >= 1.0
            colour = PAPER if abs(pnl) > 0.75 * most else INK
            text = _money(pnl) if shape.is_narrow else f"{_money(pnl)}\n{_use(use)}"
            weight = "bold" if is_dead else "normal"
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour, fontweight=weight)
            if is_dead:
                box = Rectangle((column - 0.47, row - 0.46), 0.94, 0.92, fill=False, edgecolor=INK, linewidth=1.3)
                axes.add_patch(box)
    figure.text(0.99, 0.005, "framed: an account is liquidated; below P&L its use", ha="right", color=MUTED, fontsize=8)


def draw_margin(accounts: Sequence[AccountUse], states: Sequence[tuple[str, float]], title: str) -> Picture:
    """Return margin use beside distance to liquidation by account; `states` are the edges of margin states."""
    alt = "Margin use and distance to liquidation: " + "; ".join(
        f"{one.name} uses {_use(one.use_ratio)}, {_far(-one.down_fraction)} and {_far(one.up_fraction)} away"
        for one in accounts
    )
    return Picture("margin", title, f"{alt}.", 2.1 + 0.55 * len(accounts), partial(_paint_margin, accounts, states))


def _paint_margin(
    accounts: Sequence[AccountUse], states: Sequence[tuple[str, float]], figure: Figure, shape: Shape
) -> None:
    left, right = figure.subplots(2, 1) if shape.is_narrow else figure.subplots(1, 2)
    places = np.arange(len(accounts))
    for axes in (left, right):
        axes.set_yticks(places, [one.name for one in accounts])
        axes.set_ylim(len(accounts) - 0.5, -1.3)
        axes.grid(visible=False, axis="y")
    widest = max([1.05, *(min(one.use_ratio, 1.5) for one in accounts)])
    for place, one in zip(places, accounts, strict=True):
        drawn = min(one.use_ratio, widest)
        left.barh(place, drawn, 0.45, color=_colour_of(one.use_ratio, states), zorder=2)
        left.text(drawn, place, f" {_use(one.use_ratio)}, {one.state}", va="center", color=INK, fontsize=8)
    for name, edge in states:
        left.axvline(edge, color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)))
        left.text(edge, -1.26, name, rotation=90, ha="right", va="top", color=MUTED, fontsize=7)
    left.axvline(1.0, color=VERMILLION, linewidth=1.2)
    left.set_xlim(0.0, widest * 1.3)
    left.xaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))
    left.set_xlabel("maintenance margin by equity; 100 % is liquidated")
    _paint_distances(right, accounts)


def _paint_distances(axes: Axes, accounts: Sequence[AccountUse]) -> None:
    for place, one in enumerate(accounts):
        for sigmas, alpha in ((3.0, 0.14), (2.0, 0.22), (1.0, 0.34)):
            reach = min(sigmas * one.day_fraction, MOST_SHOWN) if isfinite(one.day_fraction) else 0.0
            axes.barh(place, 2.0 * reach, 0.45, left=-reach, color=SKY, alpha=alpha, linewidth=0, zorder=1)
        for side, fraction in ((-1.0, one.down_fraction), (1.0, one.up_fraction)):
            at = side * min(fraction, MOST_SHOWN)
            is_beyond = not fraction < MOST_SHOWN
            marker = ("<" if side < 0.0 else ">") if is_beyond else "|"
            axes.plot([at], [place], marker=marker, markersize=14 if marker == "|" else 7, color=VERMILLION, zorder=3)
            axes.text(at, place - 0.32, _far(side * fraction), ha="center", color=INK, fontsize=8)
    axes.axvline(0.0, color=MUTED, linewidth=0.8)
    axes.set_xlim(-1.15 * MOST_SHOWN, 1.15 * MOST_SHOWN)
    axes.xaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("move to liquidation; shaded: 1, 2, 3 standard deviations of a day")


def draw_fan(fans: Sequence[Fan], title: str) -> Picture:
    """Return what was realised hour by hour, and from now on the forecast's mean and quantiles by how far ahead."""
    alt = "Volatility that was realised, and the forecast from now on: " + "; ".join(
        f"{one.underlying} {one.mean_vol[-1]:.0%} over {one.hours[-1]:g} h" for one in fans
    )
    return Picture("forecast", title, f"{alt}.", 0.9 + 2.7 * len(fans), partial(_paint_fans, fans))


def _paint_fans(fans: Sequence[Fan], figure: Figure, shape: Shape) -> None:
    every = figure.subplots(len(fans), 1, squeeze=False)[:, 0]
    for axes, fan in zip(every, fans, strict=True):
        now = fan.now_ns / NS_PER_DAY
        past = [(ts_ns / NS_PER_DAY, vol) for ts_ns, vol in fan.realised if ts_ns <= fan.now_ns]
        if past:
            days, vols = (np.asarray(column, dtype=np.float64) for column in zip(*past, strict=True))
            axes.plot(days, vols, color=MUTED, linewidth=0.9, label="realised, each hour")
            axes.plot(days, _root_mean(vols), color=INK, linewidth=1.3, label="realised, the last 24 h")
        ahead = now + np.asarray(fan.hours) * NS_PER_HOUR / NS_PER_DAY
        below = np.asarray(fan.mean_vol)
        axes.plot(
            ahead, below, color=BLUE, linewidth=1.6, marker="o", markersize=4, label="mean of the time until then"
        )
        for place, level in enumerate(fan.levels):
            above = np.asarray([row[place] for row in fan.quantile_vols])
            alpha = 0.42 - 0.12 * place
            axes.fill_between(ahead, below, above, color=SKY, alpha=alpha, linewidth=0, label=f"up to {level:.0%}")
            below = above
        axes.axvline(now, color=VERMILLION, linewidth=0.9)
        axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))
        axes.set_ylim(bottom=0.0)
        axes.set_ylabel(f"{fan.underlying}, yearly vol")
        locator = dates.AutoDateLocator(tz=UTC, maxticks=4 if shape.is_narrow else 9)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2 if shape.is_narrow else 6)


def _root_mean(vols: np.ndarray) -> np.ndarray:
    """Return the vol of the day up to each hour, of as many hours as there are."""
    squares = np.concatenate(([0.0], np.cumsum(vols**2)))
    ends = np.arange(1, len(vols) + 1)
    starts = np.maximum(0, ends - int(HOURS_PER_DAY))
    found: np.ndarray = np.sqrt((squares[ends] - squares[starts]) / (ends - starts))
    return found


def draw_collateral(places: Sequence[PlaceHeld], sent: Sequence[Sent], title: str) -> Picture:
    """Return what lies where after a plan, against what is needed there, with the plan's transfers as arrows."""
    alt = "Collateral by place after the plan: " + "; ".join(
        f"{one.name} {_money(sum(one.held_quote.values()))}" for one in places
    )
    told = "; ".join(one.text for one in sent) or "nothing is sent"
    return Picture(
        "collateral", title, f"{alt}; {told}.", 2.0 + 0.75 * len(places), partial(_paint_collateral, places, sent)
    )


def _paint_collateral(places: Sequence[PlaceHeld], sent: Sequence[Sent], figure: Figure, shape: Shape) -> None:
    axes = figure.subplots()
    assets = list(dict.fromkeys(asset for one in places for asset in one.held_quote))
    rows = {one.name: place for place, one in enumerate(places)}
    start = np.zeros(len(places))
    for number, asset in enumerate(assets):
        values = np.array([one.held_quote.get(asset, 0.0) for one in places])
        colour = ASSET_COLOURS[number % len(ASSET_COLOURS)]
        axes.barh(range(len(places)), values, 0.5, left=start, color=colour, alpha=0.85, label=asset, zorder=2)
        start += values
    needs = [one.needed_quote for one in places if isfinite(one.needed_quote)]
    widest = max([1.0, *start.tolist(), *needs])
    for place, one in enumerate(places):
        if isfinite(one.needed_quote):
            axes.plot([one.needed_quote] * 2, [place - 0.36, place + 0.36], color=VERMILLION, linewidth=2.0, zorder=3)
            axes.text(one.needed_quote, place + 0.47, f"needed {_money(one.needed_quote)}", ha="center", fontsize=8)
        worth = _money(float(start[place])) if one.held_quote else "stock not known"
        axes.text(start[place], place, f" {worth}", va="center", fontsize=8)
    for number, transfer in enumerate(sent):
        if transfer.from_place not in rows or transfer.to_place not in rows:
            continue
        at = widest * (1.2 + 0.16 * number)
        arrow = FancyArrowPatch(
            (at, rows[transfer.from_place]),
            (at, rows[transfer.to_place]),
            arrowstyle="-|>",
            mutation_scale=14,
            linewidth=1.4 + 2.6 * sqrt(transfer.value_quote / widest) if transfer.value_quote > 0.0 else 1.4,
            color=INK,
        )
        axes.add_patch(arrow)
        middle = 0.5 * (rows[transfer.from_place] + rows[transfer.to_place])
        axes.text(at + 0.012 * widest, middle, transfer.text, va="center", fontsize=8)
    axes.set_yticks(range(len(places)), [one.name for one in places])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_ylim(len(places) - 0.3, -0.7)
    axes.set_xlim(0.0, widest * (1.22 + 0.16 * len(sent)))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda amount, _: f"{amount:,.0f}"))
    axes.set_xlabel("worth after the plan, quote money")
    if assets:
        figure.legend(loc="outside lower center", ncols=3 if shape.is_narrow else 6)


def _colour_of(ratio: float, states: Sequence[tuple[str, float]]) -> str:
    passed = sum(ratio >= edge for _, edge in states)
    return (GREEN, SKY, ORANGE, VERMILLION, VERMILLION)[min(passed, 4)]


def _far(fraction: float, decimals: int = 1) -> str:
    """Return a move with its sign, none where there is no move."""
    if not isfinite(fraction):
        return "never"
    sign = "+" if fraction else ""
    return f"{fraction:{sign}.{decimals}%}".replace("-", "−")


def _use(ratio: float) -> str:
    if not isfinite(ratio) or ratio >= 10.0:
        return "> 1000 %"
    return f"{ratio:.0%}".replace("%", " %")


def _money(amount_quote: float) -> str:
    """Return money to three digits or the unit, in thousands where it is many."""
    if not isfinite(amount_quote):
        return "n/a"
    size = abs(amount_quote)
    sign = "−" if amount_quote < 0.0 and size >= 0.5 else ""
    if size >= 9_999.5:
        return f"{sign}{size / 1e3:,.0f}k" if size < 9.9995e6 else f"{sign}{significant(size / 1e6, 3)}m"
    return f"{sign}{size:,.0f}"
