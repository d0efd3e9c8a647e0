"""One underlying in figures: sums that match, reasons where there are none, signs beside colours."""

from __future__ import annotations

from msgspec.structs import replace

from bot.telemetry.dashboard.shown import exposure
from tests.telemetry.dashboard.sheets import cell, rows, texts
from tests.telemetry.states import NOW_NS, UNDERLYING


def test_legs_hedges_and_the_rest_add_up_to_net() -> None:
    shown = exposure.greeks(UNDERLYING)
    assert [texts[0] for texts in rows(shown)] == [
        "ETH-28APR23-1900-C",
        "ETH-PERPETUAL (hedge)",
        "book, 1",
        "hedges, 1",
        "cash and other",
        "net, as decided",
        "target",
    ]
    deltas = [cell(shown, name, "delta")["sort"] for name in ("book, 1", "hedges, 1", "cash and other")]
    assert sum(deltas) == cell(shown, "net, as decided", "delta")["sort"] == 0.5
    assert cell(shown, "ETH-28APR23-1900-C", "vol")["text"] == "60.0 %"
    assert cell(shown, "ETH-PERPETUAL (hedge)", "vol")["text"] == ""


def test_gamma_and_vega_show_their_target_or_that_there_is_none() -> None:
    plain = exposure.greeks(UNDERLYING)
    assert cell(plain, "target", "gamma") == {"text": "–", "hint": exposure.UNTARGETED}
    assert plain["note"].endswith(f"Target of gamma and vega: {exposure.UNTARGETED}.")
    targets = {"target_gamma_base_per_px": -0.01, "target_vega_quote_per_vol": -3_000.0}
    shown = exposure.greeks(replace(UNDERLYING, **targets, option_plan="2 orders of options under way"))
    assert cell(shown, "target", "gamma")["text"] == "−0.0100"
    assert cell(shown, "target", "vega")["text"] == "−3,000"
    assert shown["note"].endswith("Target of gamma and vega: 2 orders of options under way.")


def test_a_leg_without_a_mark_leaves_its_sum_unknown_and_says_why() -> None:
    unmarked = replace(UNDERLYING.legs[0], mark_px=None, delta_base=None)
    shown = exposure.greeks(replace(UNDERLYING, legs=(unmarked, UNDERLYING.legs[1])))
    for name in ("ETH-28APR23-1900-C", "book, 1", "cash and other"):
        assert cell(shown, name, "delta")["text"] == "–"
        assert cell(shown, name, "delta")["hint"] == exposure.UNMARKED
    assert cell(shown, "hedges, 1", "delta")["text"] == "−12.000"


def test_net_delta_is_an_interval_while_an_outcome_is_unknown() -> None:
    shown = exposure.net_delta(UNDERLYING)
    assert shown.text == "+0.400 to +0.600 ETH, outcomes unknown; partly outside its band"
    known = replace(UNDERLYING, delta_low_base=0.4, delta_high_base=0.4, unknown_base=0.0)
    assert exposure.net_delta(known).text == "+0.400 ETH, inside its band"
    unknown = exposure.net_delta(replace(UNDERLYING, delta_low_base=None))
    assert (unknown.text, unknown.hint) == ("–", exposure.UNDECIDED)


def test_where_net_delta_lies_is_said_in_words() -> None:
    def place(low: float, high: float) -> str:
        return exposure.place(replace(UNDERLYING, delta_low_base=low, delta_high_base=high))[0]

    assert place(-0.5, 0.5) == "inside its band"
    assert place(0.6, 0.7) == "above its band"
    assert place(-0.7, -0.6) == "below its band"
    assert place(-0.7, 0.0) == "partly outside its band"
    assert exposure.place(replace(UNDERLYING, low_base=None))[0] == "no band now"


def test_why_not_is_said_with_its_figures() -> None:
    shown = exposure.intent(UNDERLYING, NOW_NS + 100_000_000_000)
    assert cell(shown, "why not", "")["text"] == "order in flight: 1 order"
    assert cell(shown, "band", "")["text"] == "−0.500 to +0.500 ETH"
    assert cell(shown, "last hedge", "")["text"] == "3 min ago"
    calm = exposure.intent(replace(UNDERLYING, refusal="", last_hedge_ns=0, low_base=None), NOW_NS)
    assert "why not" not in [line[0] for line in rows(calm)]
    assert cell(calm, "last hedge", "")["text"] == "none yet"
    assert cell(calm, "band", "")["hint"].startswith("no band")


def test_gates_say_open_or_closed_by_word_and_by_mark() -> None:
    shown = exposure.gates(UNDERLYING)
    assert [texts(row)[:2] for row in shown["rows"].values()] == [["state", "open"], ["order rate", "closed"]]
    assert [row["cells"][1]["is_open"] for row in shown["rows"].values()] == [True, False]
    assert shown["note"].startswith("1 of 2 open")
