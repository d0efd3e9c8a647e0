"""What is missing is NaN, and no margin at all is nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.domain.risk import ReportedMargin
from bot.gateways.binance import margin as binance
from bot.gateways.bybit import margin as bybit
from bot.gateways.derive import margin as derive
from bot.gateways.hyperliquid import margin as hyperliquid
from bot.gateways.margin_words import items_of, lines, reported
from bot.gateways.okx import margin as okx
from tests.gateways.payloads import maimed


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


SUMS = {"totalMarginBalance": "3", "totalInitialMargin": "2", "totalMaintenanceMargin": "1", "totalMaintMargin": "1"}
ASSET = {"asset": "USDT", "marginBalance": "3", "initialMargin": "2", "maintMargin": "1"}
DETAIL = {"ccy": "BTC", "eq": "2", "eqUsd": "4", "imr": "1", "mmr": "1"}
LEFT = {"subaccount_value": "5", "initial_margin": "3", "maintenance_margin": "4", "open_orders_margin": "-1"}
CROSS = {"accountValue": "5", "totalMarginUsed": "2"}
ANSWERS: dict[str, tuple[Callable[[Any], tuple[ReportedMargin, ...]], dict[str, Any]]] = {
    "binance": (binance.read_margins, {**SUMS, "assets": [ASSET]}),
    "bybit": (bybit.read_margins, {"result": {"list": [SUMS]}}),
    "derive": (lambda told: derive.read_margins(told.get("subaccounts")), {"subaccounts": [LEFT]}),
    "hyperliquid": (
        hyperliquid.read_margins,
        {"crossMarginSummary": CROSS, "crossMaintenanceMarginUsed": "1"},
    ),
    "okx": (okx.read_margins, {"data": [{"adjEq": "", "imr": "", "mmr": "", "details": [DETAIL]}]}),
}


@pytest.mark.parametrize("venue", sorted(ANSWERS))
def test_an_answer_of_any_shape_costs_margin_not_the_report(venue: str) -> None:
    read, whole = ANSWERS[venue]
    assert len(read(whole)) == 1

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(maimed(whole))
    def any_shape(told: dict[str, Any]) -> None:
        for one in read(told):
            assert isinstance(one, ReportedMargin)

    any_shape()


@given(st.none() | st.integers() | st.text(max_size=3) | st.dictionaries(st.text(max_size=2), st.integers()))
def test_what_is_no_list_has_no_lines(told: object) -> None:
    assert lines(told) == []
    assert lines([told]) == [told]
