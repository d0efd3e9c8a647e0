"""What is stale says so in words; what never came is not zero."""

from __future__ import annotations

from bot.telemetry.dashboard.shown import freshness
from tests.telemetry.dashboard.sheets import cell, rows
from tests.telemetry.states import STATE, state


def test_feeds_show_their_age_against_what_is_allowed() -> None:
    shown = freshness.feeds(STATE)
    assert [line[2] for line in rows(shown)] == ["0.5 s", "61 s, stale", "nothing came yet, stale"]
    assert cell(shown, "ETH-PERPETUAL", "age")["bar"] == (0.0, 1.0)
    assert "bar" not in cell(shown, "28APR23", "age")
    assert shown["note"] == "2 of 3 stale"


def test_venues_show_health_and_how_old_their_word_is() -> None:
    shown = freshness.venues(STATE)
    assert rows(shown)[:2] == [["deribit", "up", "", "2.0 s ago"], ["okx", "down", "no answer", "–"]]
    assert ["paper", "unknown", "", "–"] in rows(shown)
    assert cell(shown, "okx", "health")["tone"] == "bad"
    assert cell(shown, "okx", "account heard")["hint"]


def test_the_pulse_is_the_daemons_own() -> None:
    shown = freshness.pulse(state(overrides={"ETH target": "2 ETH"}))
    assert cell(shown, "hedges", "")["text"] == "41"
    assert cell(shown, "refused", "")["text"] == "14"
    assert cell(shown, "transactions", "")["text"] == "3, 1 of them failed"
    assert cell(shown, "override ETH target", "")["text"] == "2 ETH"
    assert cell(shown, "memory", "")["text"] == "150 MB"
