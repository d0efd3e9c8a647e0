"""Pictures of risk: what is drawn is what was given, and what has no number is said."""

from __future__ import annotations

from math import inf, nan

import pytest
from matplotlib.figure import Figure

from bot.telemetry.pictures import NARROW, WIDE, Picture, render_png
from bot.telemetry.risk_pictures import (
    AccountUse,
    Fan,
    HeatMap,
    PlaceHeld,
    Sent,
    draw_collateral,
    draw_fan,
    draw_heatmap,
    draw_margin,
)

DAY_NS = 86_400 * 10**9
STATES = [("watch", 0.6), ("act", 0.8), ("critical", 0.9), ("emergency", 0.97)]
HEAT = HeatMap(
    title="a vault",
    moves=(-0.1, 0.0, 0.1),
    vols=(0.0, 0.5),
    pnl_quote=((-10_500.0, 0.0, 250.0), (-20_000.0, -1.0, -3.0)),
    use_ratio=((0.9, 0.5, 0.4), (1.2, 0.6, inf)),
)


def words(picture: Picture, shape: object = WIDE) -> list[str]:
    figure = Figure((8.0, picture.height_in), layout="constrained")
    picture.paint(figure, shape)  # type: ignore[arg-type]
    figure.canvas.draw()
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_every_cell_of_the_map_says_its_pnl_and_its_use_and_the_dead_are_framed() -> None:
    picture = draw_heatmap(HEAT)
    assert words(picture) == [
        "−10k\n90 %",
        "0\n50 %",
        "250\n40 %",
        "−20k\n120 %",
        "−1\n60 %",
        "−3\n> 1000 %",
    ]
    figure = Figure((8.0, 3.0))
    picture.paint(figure, WIDE)
    assert len(figure.axes[0].patches) == 2
    assert picture.alt == "Map of 6 cells, move by vol change: the worst P&L is −20k; 2 cells are liquidated."
    assert words(picture, NARROW)[0] == "−10k"


def test_an_account_that_nothing_ends_on_one_side_says_so() -> None:
    one = AccountUse(
        name="deribit", use_ratio=0.66, down_fraction=inf, up_fraction=0.07, day_fraction=0.03, state="watch"
    )
    picture = draw_margin([one], STATES, "a vault")
    told = words(picture)
    assert " 66 %, watch" in told
    assert {"never", "+7.0%"} <= set(told)
    assert [name for name, _ in STATES] == [text for text in told if text in dict(STATES)]
    nobody = draw_margin(
        [AccountUse(name="a", use_ratio=0.0, down_fraction=inf, up_fraction=inf, day_fraction=nan, state="normal")],
        STATES,
        "",
    )
    assert words(nobody).count("never") == 2


def test_the_fan_begins_now_and_realised_is_only_the_past() -> None:
    fan = Fan(
        underlying="ETH",
        now_ns=10 * DAY_NS,
        realised=((9 * DAY_NS, 0.4), (10 * DAY_NS, 0.3), (11 * DAY_NS, 9.0)),
        hours=(1.0, 24.0),
        mean_vol=(0.5, 0.6),
        levels=(0.9, 0.99),
        quantile_vols=((0.7, 0.9), (0.8, 1.0)),
        model="HAR",
    )
    picture = draw_fan([fan], "a vault")
    figure = Figure((8.0, 3.0), layout="constrained")
    picture.paint(figure, WIDE)
    each, day, mean = figure.axes[0].lines[:3]
    assert list(each.get_ydata()) == [0.4, 0.3]
    assert day.get_ydata()[-1] == pytest.approx(((0.4**2 + 0.3**2) / 2.0) ** 0.5)
    assert list(mean.get_xdata()) == pytest.approx([10.0 + 1.0 / 24.0, 11.0])
    top = figure.axes[0].collections[-1].get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx(1.0)


def test_the_map_of_collateral_shows_needs_and_what_is_sent() -> None:
    places = [
        PlaceHeld(name="deribit", held_quote={"USD": 60_000.0, "ETH": 20_000.0}, needed_quote=70_000.0),
        PlaceHeld(name="treasury", held_quote={}, needed_quote=nan),
    ]
    sent = [Sent(asset="ETH", from_place="treasury", to_place="deribit", value_quote=20_000.0, text="10 ETH")]
    picture = draw_collateral(places, sent, "a vault")
    assert words(picture) == ["needed 70k", " 80k", " stock not known", "10 ETH"]
    assert picture.alt.endswith("10 ETH.")
    assert render_png(picture).startswith(b"\x89PNG")
