"""Margin and the heatmap: figures as told, dashes with reasons, liquidation by sign and not by colour alone."""

from __future__ import annotations

from msgspec.structs import replace

from bot.telemetry.dashboard.shown import margin
from bot.telemetry.dashboard.shown.margin import Distance, HeatMap
from tests.telemetry.dashboard.sheets import cell, rows
from tests.telemetry.states import NOW_NS, STATE, state

HEAT = HeatMap(
    "eth-straddle",
    NOW_NS,
    moves=(-0.1, 0.0),
    vols=(0.0, 0.5),
    pnl_quote=((-2_000.0, 0.0), (-4_000.0, 1_000.0)),
    use_ratio=((0.9, 0.5), (None, 0.6)),
    distances={"deribit": Distance(-0.141, None)},
)


def test_use_is_a_bar_with_its_text_and_distance_comes_from_the_look() -> None:
    shown = margin.accounts(STATE, HEAT)
    use = cell(shown, "deribit", "margin use")
    assert (use["text"], use["bar"], use["tone"]) == ("65.0 % watch", (0.0, 0.65), "warn")
    assert cell(shown, "deribit", "liquidated at")["text"] == "−14.1 %"
    assert cell(shown, "deribit", "chance")["text"] == "0.40 %"
    assert cell(margin.accounts(STATE), "deribit", "liquidated at")["hint"].startswith("not known")


def test_what_is_not_known_is_a_dash_with_a_reason() -> None:
    blank = replace(STATE.accounts[0], utilisation_ratio=None, equity_quote=None, touch_probability=None)
    shown = margin.accounts(state(accounts=(blank,)))
    for column in ("margin use", "equity", "liquidated at", "chance"):
        found = cell(shown, "deribit", column)
        assert found["text"].startswith("–")
        assert found["hint"]
        assert "bar" not in found
    assert margin.far(None, Distance(None, None)).text == "nowhere near"
    assert margin.far(-0.2, None).text == "−20.0 %"


def test_the_heatmap_has_every_corner_and_marks_liquidation() -> None:
    shown = margin.heatmap(HEAT, NOW_NS + 5_000_000_000)
    assert [one["name"] for one in shown["columns"]] == ["vol", "−10 %", "0 %"]
    assert rows(shown) == [["0 %", "−2.0k", "0"], ["+50 %", "−4.0k ✕", "+1.0k"]]
    assert cell(shown, "+50 %", "−10 %")["heat"] == -1.0
    assert cell(shown, "0 %", "−10 %")["hint"] == "−2,000; margin use 90.0 %"
    assert "Seen 5.0 s ago" in shown["note"]


def test_no_look_says_why_and_an_old_one_says_so() -> None:
    assert margin.heatmap(None, NOW_NS)["empty"] == "the book is being looked at"
    assert margin.heatmap(HeatMap("v", NOW_NS, error="no answer"), NOW_NS)["empty"] == "no answer"
    assert margin.heatmap(replace(HEAT, error="no answer"), NOW_NS)["note"].endswith("Old: no answer.")
