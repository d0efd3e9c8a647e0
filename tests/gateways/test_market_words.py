"""The unified words of ccxt: numbers that are none, and what a market says about itself."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.instruments import TickSchedule, TickStep
from bot.gateways.market_words import MarketWords, number, part, positive, tick_schedule, whole
from tests.gateways.listings import listing


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1.5", 1.5), (2, 2.0), ("nan", None), (float("inf"), None), ("", None), (None, None), (True, None), ([], None)],
)
def test_a_number_is_finite_or_none(value: object, expected: float | None) -> None:
    assert number(value) == expected


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.integers(), st.lists, max_leaves=5))
def test_no_value_raises(value: object) -> None:
    assert (found := number(value)) is None or math.isfinite(found)
    assert (found := positive(value)) is None or found > 0
    assert (found_whole := whole(value)) is None or isinstance(found_whole, int)
    part(value, 0)


def test_parts_of_what_is_not_there_are_none() -> None:
    assert part({"a": 1}, "a") == 1
    assert part([1, 2], -1) == 2
    assert part([1, 2], 2) is None
    assert part("text", 0) is None
    assert part(None, "a") is None


def test_ticks_have_steps_of_the_finest_or_there_are_none() -> None:
    assert tick_schedule("0.0001", ((0.005, 0.0005),)) == TickSchedule(0.0001, (TickStep(0.005, 5),))
    assert tick_schedule(0.0004, ((0.005, 0.0005),)) is None
    assert tick_schedule(0.0001, ((None, 0.0005),)) is None
    assert tick_schedule(0.0) is None


def test_inverse_options_tell_no_currency_of_their_price() -> None:
    words = MarketWords()
    assert words.price_currency(listing("option", "X", "ETH/USD:ETH-230428-1900-C")) is None
    assert words.price_currency(listing("option", "X", "ETH/USDC:USDC-230428-1900-C")) == "USDC"
    assert words.price_currency(listing("swap", "X", "ETH/USD:ETH")) == "USD"
