"""Numbers on pages: units, signs, a dash where nothing is known."""

from __future__ import annotations

import pytest

from bot.telemetry.dashboard import figures


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0.00"), (-0.001, "0.00"), (12.345, "12.35"), (-999.9, "−999.90"), (-123_456.7, "−123,457")],
)
def test_money_has_cents_below_a_thousand(value: float | None, text: str) -> None:
    assert figures.money(value) == text


def test_money_has_a_plus_where_asked_for() -> None:
    assert figures.money(5.0, is_signed=True) == "+5.00"
    assert figures.money(0.0, is_signed=True) == "0.00"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (1_893.054321, "1,893.05"), (0.00012345678, "0.000123457"), (31_234.5, "31,234.5")],
)
def test_prices_have_six_digits(value: float | None, text: str) -> None:
    assert figures.price(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-85.4, "−85"), (3_140.0, "+3.1k"), (-78_231.0, "−78k"), (1_234_567.0, "+1.2M"), (2e7, "+20M")],
)
def test_large_amounts_are_short(value: float, text: str) -> None:
    assert figures.compact(value) == text


def test_moves_are_signed_and_times_are_utc() -> None:
    assert figures.move(-0.125) == "−12.5 %"
    assert figures.move(0.1, 0) == "+10 %"
    assert figures.move(None) == "–"
    assert figures.clock(1_700_000_000_000_000_000) == "22:13:20"
    assert figures.clock(0) == "–"
    assert figures.day(1_700_000_000_000_000_000) == "14 Nov 23"
    for nonsense in (10**30, -(10**30), 10**21):  # a broker may be told anything
        assert figures.clock(nonsense) == figures.day(nonsense) == figures.moment(nonsense) == "–"
    assert figures.words("lp_fees") == "lp fees"
