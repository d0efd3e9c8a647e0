from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.telemetry.dashboard import theme
from bot.telemetry.dashboard.live import Live
from tests.telemetry.dashboard.contrast import contrast, mixed, palette


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0, "0.00"),
        (-0.001, "0.00"),
        (1234.5, "+1,234.50"),
        (-1234.5, "−1,234.50"),
        (123456.7, "+123,457"),
    ],
)
def test_money_is_readable(value: float | None, shown: str) -> None:
    assert theme.money(value, is_signed=True) == shown


def test_units_follow_numbers() -> None:
    assert theme.base(-0.25, "ETH") == "−0.250 ETH"
    assert theme.percent(0.256) == "25.6 %"
    assert theme.percent(None) == "–"
    assert theme.number(3, 0, "lots") == "3 lots"
    assert theme.moment(0) == "–"
    assert theme.moment(1_681_296_123_000_000_000) == "2023-04-12 10:42:03"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "never"), (0.24, "0.2 s"), (59.6, "60 s"), (600, "10 min"), (10_800, "3 h"), (400_000, "5 d")],
)
def test_ages_are_short(seconds: float | None, shown: str) -> None:
    assert theme.age(seconds) == shown


def test_what_is_stale_says_so_in_words_and_looks() -> None:
    live = Live()
    theme.show_age(live, "age", 75.0, is_stale=True)
    theme.show_state(live, "state", "running", is_stale=True)
    cells = json.loads(live.flush() or "")["cells"]
    assert cells["age"]["#text"] == "⚠ 75 s old"
    assert cells["age"]["class"] == "age stale"
    assert cells["state"]["#text"] == "● was running"


def test_states_differ_by_mark_and_not_by_colour_alone() -> None:
    assert len({mark for mark, _ in theme.STATE_LOOKS.values()}) == len(theme.STATE_LOOKS)
    assert len({mark for mark, _ in theme.SEVERITY_LOOKS.values()}) == len(theme.SEVERITY_LOOKS)


def test_a_bullet_inside_its_band() -> None:
    bullet = theme.place_bullet(0.5, 0.5, -1.0, 1.0, 0.0)
    assert bullet is not None
    assert (bullet.band_x, bullet.band_width, bullet.marker_x, bullet.target_x) == (25.0, 50.0, 62.5, 50.0)
    assert not bullet.is_outside
    assert bullet.text == "net delta +0.500, band −1.000 to +1.000: inside"


def test_a_bullet_outside_is_another_shape_and_another_word() -> None:
    live = Live()
    bullet = theme.place_bullet(2.0, 2.0, -1.0, 1.0, 0.0)
    theme.show_bullet(live, "b", bullet)
    cells = json.loads(live.flush() or "")["cells"]
    assert cells["b.shape"]["d"] == theme.OUTSIDE_SHAPE
    assert cells["b"]["aria-label"].endswith("outside")


def test_a_bullet_without_band_or_delta() -> None:
    assert theme.place_bullet(None, None, -1.0, 1.0, 0.0) is None
    bullet = theme.place_bullet(1.0, 2.0, None, None, None)
    assert bullet is not None
    assert not bullet.has_band
    assert bullet.target_x is None
    assert "between +1.000 and +2.000" in bullet.text


@given(*[st.floats(-1e6, 1e6)] * 5)
def test_everything_of_a_bullet_is_on_the_scale(one: float, other: float, low: float, high: float, at: float) -> None:
    bullet = theme.place_bullet(min(one, other), max(one, other), min(low, high), max(low, high), at)
    assert bullet is not None
    assert all(0.0 <= x <= 100.0 for x in (bullet.band_x, bullet.delta_x, bullet.marker_x))
    assert bullet.band_x + bullet.band_width <= 100.1
    assert bullet.delta_x + bullet.delta_width <= 100.1


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_everything_can_be_read_in_both_themes(is_dark: bool) -> None:
    colours = palette(is_dark=is_dark)
    card, ground, ink = colours["card"], colours["ground"], colours["ink"]
    texts = ("ink", "muted", "good", "warn", "bad", "info", "accent")
    ratios = {
        f"{name} on {paper}": contrast(colours[name], colours[paper]) for name in texts for paper in ("card", "ground")
    }
    ratios["on-accent"] = contrast(colours["on-accent"], colours["accent"])
    ratios |= {f"ink on {hue}": contrast(ink, mixed(colours[hue], 0.6, card)) for hue in ("ek-gain", "ek-loss")}
    ratios["stale"] = contrast(mixed(colours["muted"], 0.9, card), card)
    assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}
    drawn = [
        "mark",
        "ek-net",
        "ek-band",
        "ek-gain",
        "ek-loss",
        "ek-warn",
        *(f"ek-run-{place}" for place in range(1, 7)),
    ]
    ratios = {name: contrast(colours[name], card) for name in drawn}
    ratios |= {
        f"{name} in the band": contrast(colours[name], mixed(colours["ek-band"], 0.28, card))
        for name in ("ek-net", "ek-gain", "ek-loss")
    }
    ratios |= {f"{name} on a bullet": contrast(colours[name], colours["band"]) for name in ("mark", "bad", "ink")}
    ratios["edge of a field"] = contrast(colours["muted"], ground)
    assert {name: ratio for name, ratio in ratios.items() if ratio < 3.0} == {}
