"""Scenario P&L of a stack against its copies one by one, and of several underlyings against each by itself."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bot.risk.repricing import base_deltas, scenario_pnl
from bot.risk.scenarios import Scenario, ScenarioSet, VolShock
from bot.risk.stack import BookStack, stack_deltas
from bot.risk.stack_values import StackValues, alike_parts, are_alike
from tests.risk.test_stack import SCENARIOS, SHOCK, moved, random_book, stack_of


def test_pnl_and_deltas_of_a_stack_are_those_of_its_copies_with_exact_chances() -> None:
    book = random_book(5, rows=40)
    books = [book, moved(book, 1), moved(book, 2)]
    stack = stack_of(books)
    found = StackValues(stack, SCENARIOS, later_years=1.0 / 365.0)
    slow = [scenario_pnl(one, SCENARIOS) for one in books]
    gross = max(float((np.abs(one.qty_base) * one.spot_of_row_px).sum()) for one in books)
    assert found.pnl_quote() == pytest.approx(np.stack([one.sum(axis=1) for one in slow], axis=1), abs=1e-11 * gross)
    some = np.array([0, 13, 30])
    assert found.row_pnl_quote(some) == pytest.approx(np.stack([one[some] for one in slow], axis=1), abs=1e-11 * gross)
    assert stack_deltas(stack) == pytest.approx(np.stack([base_deltas(one) for one in books]), rel=1e-12)
    day = ScenarioSet(SCENARIOS.scenarios[:1], SHOCK)
    for copy, one in enumerate(books):
        tomorrow = msgspec.structs.replace(one, tau_years=np.maximum(one.tau_years - 1.0 / 365.0, 0.0))
        worth = StackValues(BookStack(tomorrow), day).values[-1, 0]
        assert found.later[copy] == pytest.approx(worth, abs=1e-6)


def other(move: float, up: float) -> ScenarioSet:
    """As many scenarios of the same make, with a move and a shock of their own."""
    return ScenarioSet([Scenario(-move, "up"), Scenario(move, "up"), Scenario(0.0, "down")], VolShock(up=up, down=0.1))


def test_underlyings_with_scenarios_alike_are_priced_together_and_say_what_each_says_alone() -> None:
    book = random_book(8, rows=30)
    books = [book, moved(book, 1), moved(book, 2)]
    sets = [other(0.1, 0.3), other(0.2, 0.5)]
    for part in (book, book.where(~(book.is_option & (book.underlying == 1)))):  # one without options beside another
        stack = stack_of(books).where(np.flatnonzero(np.isin(book.instrument_ids, part.instrument_ids)))
        together = StackValues(stack, sets)
        [(whole, places)] = alike_parts(stack, sets)
        assert (whole is stack, places) == (True, [0, 1])
        found, still = together.pnl_by_underlying(), together.row_pnl_quote(np.array([0, 2]))
        for place, own in enumerate(sets):
            alone = StackValues(stack.of_underlying(place), own)
            assert found[place] == pytest.approx(alone.pnl_quote(), rel=1e-12, abs=1e-6)
            rows = stack.underlying == place
            assert still[..., rows] == pytest.approx(alone.row_pnl_quote(np.array([0, 2])), rel=1e-12, abs=1e-6)
        at_one = BookStack(part).with_qty(np.stack([part.qty_base, -2.0 * part.qty_base]))
        first = StackValues(at_one, sets).pnl_by_underlying()
        assert first[..., 1] == pytest.approx(-2.0 * first[..., 0])


def test_scenarios_of_another_make_are_priced_apart() -> None:
    stack = stack_of([random_book(8)])
    sets = [other(0.1, 0.3), ScenarioSet([Scenario(-0.1, "up"), Scenario(0.1, "down")], SHOCK)]
    assert are_alike(tuple(sets[:1]))
    assert not are_alike(tuple(sets))
    parts = alike_parts(stack, sets)
    assert [places for _, places in parts] == [[0], [1]]
    assert [part.held for part, _ in parts] == [[0], [1]]
    assert alike_parts(stack, []) == []
