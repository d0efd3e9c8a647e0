"""What is missing is NaN, and no margin at all is nothing."""

from __future__ import annotations

import math

from bot.domain.risk import ReportedMargin
from bot.gateways.margin_words import items_of, reported


def test_numbers_are_counted_in_their_unit_and_what_is_missing_is_not_a_number() -> None:
    assert reported("ETH", "2", "0.5", 0.25, 2_000.0) == (ReportedMargin("ETH", 4_000.0, 1_000.0, 500.0),)
    (half,) = reported("", "10", "", "3")
    assert math.isnan(half.initial_quote)
    assert (half.equity_quote, half.maintenance_quote) == (10.0, 3.0)
    assert reported("", "10", None, "") == ()


def test_items_are_found_however_deep() -> None:
    told = {"a": "1.5", "b": {"c": 2, "d": "left", "e": True}, "f": None}
    assert items_of("btc", told, 10.0) == {"btc a": 15.0, "btc c": 20.0}
    assert items_of("btc", None) == {}
