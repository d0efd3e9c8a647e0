"""The house model against its worked cases, and where they are silent: several underlyings, nothing at all."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from bot.risk.book import PERPETUAL, Position, build_book
from bot.risk.margin.house import HouseParameters, requirement, requirement_of
from bot.risk.repricing import ScenarioMatrix
from tests.risk.legs import book_of, load, option, perpetual, values_of

FILE = load("house_margin_cases.json")
CASES: list[dict[str, Any]] = FILE["cases"]
PARAMETERS = msgspec.convert(FILE["parameters"], HouseParameters)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
def test_the_worked_cases_come_out_to_a_billionth(case: dict[str, Any]) -> None:
    expected = case["expected"]
    found = requirement(book_of(case["portfolio"], case["spot"]), PARAMETERS)
    assert found.initial == pytest.approx(expected["IM"], rel=1e-9)
    assert found.maintenance == pytest.approx(expected["MM"], rel=1e-9)
    assert found.charge("BTC roll").initial == pytest.approx(expected["roll_shock"], rel=1e-9)
    assert found.charge("BTC worst").initial == pytest.approx(-expected["worst_pnl"], rel=1e-9)
    assert found.worst == found.scenario_names[expected["worst_index"]]
    assert found.scenario_pnl == pytest.approx(expected["vector"], rel=1e-9, abs=1e-12)


def test_the_carried_parameters_are_those_of_the_cases_and_make_their_scenarios() -> None:
    carried = msgspec.convert(values_of("house-2026-11-26"), HouseParameters)
    assert carried == PARAMETERS
    made = [
        (one.move, one.vol, one.weight, one.is_extended)
        for one in msgspec.convert(values_of("house-2026-11-26"), HouseParameters).scenarios().scenarios
    ]
    told = [(one["move"], one["vol"], one["weight"], one["extended"]) for one in FILE["scenario_order"]]
    assert made == [(pytest.approx(move), vol, pytest.approx(weight), extended) for move, vol, weight, extended in told]


def test_what_one_underlying_wins_does_not_pay_for_what_another_loses() -> None:
    legs = [
        Position(kind=PERPETUAL, underlying="BTC", qty_base=1.0),
        Position(kind=PERPETUAL, underlying="ETH", qty_base=-20.0),
    ]
    book = build_book(legs, {"BTC": 60_000.0, "ETH": 3_000.0})
    both = requirement(book, PARAMETERS)
    alone = [requirement(book.of_underlying(name), PARAMETERS).initial for name in ("BTC", "ETH")]
    assert both.initial == pytest.approx(sum(alone)) == pytest.approx(2 * 60_000.0 * 0.165)


def test_futures_of_two_expiries_offset_in_the_scan_and_not_in_the_roll() -> None:
    book = book_of([perpetual(2.0), perpetual(-2.0)], 60_000.0)
    far = msgspec.structs.replace(book, tau_years=np.array([np.inf, 0.5]))
    assert requirement(book, PARAMETERS).initial == pytest.approx(0.0)
    assert requirement(far, PARAMETERS).initial == pytest.approx(2.0 * 60_000.0 * (0.005 + 0.05 * 0.5))


def test_a_kept_matrix_answers_like_a_fresh_one_and_an_empty_book_needs_nothing() -> None:
    book = book_of([option(-3.0, 62_000.0), perpetual(1.0)], 60_000.0)
    matrix = ScenarioMatrix(book, PARAMETERS.scenarios())
    assert requirement_of(matrix, PARAMETERS) == requirement(book, PARAMETERS)
    nothing = requirement(book_of([], 60_000.0), PARAMETERS)
    assert (nothing.initial, nothing.maintenance, nothing.worst) == (0.0, 0.0, "")
