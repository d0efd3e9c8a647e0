"""Tiers, lines by name, and what open orders could come to."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bot.risk.book import FUTURE, OPTION, PERPETUAL, SPOT, Position, build_book
from bot.risk.margin.registry import evaluate, evaluate_or_assume
from bot.risk.margin.tables import (
    Tier,
    add_up,
    add_up_all,
    held_names,
    open_size_base,
    sums,
    terms_of,
    tier_margins,
)
from bot.risk.requirement import Charge
from bot.risk.stack import BookStack
from tests.risk.margin.cases import carried

TIERS = (Tier(0.0, 0.01, 0.02), Tier(100.0, 0.02, 0.04, 1.0), Tier(1_000.0, 0.10, 0.20, 81.0))


def test_maintenance_is_continuous_and_a_tier_ends_at_its_end() -> None:
    initial, maintenance = tier_margins(np.array([0.0, 100.0, 100.000001, 500.0, 1_000.0, 2_000.0]), TIERS)
    assert maintenance == pytest.approx([0.0, 1.0, 1.0, 9.0, 19.0, 119.0], abs=1e-6)
    assert initial == pytest.approx([0.0, 2.0, 4.0, 20.0, 40.0, 400.0], abs=1e-6)


@pytest.mark.parametrize("tiers", [(), (Tier(5.0, 0.01, 0.02),), (Tier(0.0, 0.01, 0.02), Tier(0.0, 0.01, 0.02))])
def test_tiers_with_gaps_are_refused(tiers: tuple[Tier, ...]) -> None:
    with pytest.raises(ValueError, match="expected margin tiers"):
        tier_margins(np.array([1.0]), tiers)


def test_a_missing_line_is_named_unless_there_is_one_for_all() -> None:
    assert terms_of({"BTC": 1, "*": 2}, "SOL") == 2
    with pytest.raises(ValueError, match="margin parameters of SOL, found those of BTC, ETH; hint"):
        terms_of({"ETH": 1, "BTC": 2}, "SOL")


def test_orders_count_on_the_side_that_makes_more() -> None:
    book = build_book(
        [
            Position(kind=PERPETUAL, underlying="BTC", qty_base=-1.0, buy_base=3.0, sell_base=2.0),
            Position(kind=FUTURE, underlying="ETH", qty_base=2.0, buy_base=1.0, sell_base=9.0),
            Position(kind=SPOT, underlying="ETH", qty_base=4.0),
        ],
        {"BTC": 100.0, "SOL": 5.0, "ETH": 10.0},
    )
    stack = BookStack(book)
    assert open_size_base(stack).tolist() == [[3.0, 7.0, 4.0]]
    assert held_names(stack) == ["BTC", "ETH"]
    assert sums(stack, open_size_base(stack)).tolist() == [[3.0], [11.0]]
    quiet = BookStack(msgspec.structs.replace(book, buy_base=np.zeros(3), sell_base=np.zeros(3)))
    assert open_size_base(quiet).tolist() == [[1.0, 2.0, 4.0]]


def test_charges_of_nothing_are_left_out_of_a_sum() -> None:
    found = add_up("x", [Charge("a", 2.0, 1.0), Charge("b", 0.0, 0.0), Charge("c", 0.0, 3.0)])
    assert (found.initial, found.maintenance, [one.name for one in found.charges]) == (2.0, 4.0, ["a", "c"])
    both = add_up_all("x", 2, [("a", np.array([2.0, 0.0]), np.array([1.0, 0.0])), ("b", np.zeros(1), np.ones(1))])
    assert [[one.name for one in copy.charges] for copy in both] == [["a", "b"], ["b"]]
    assert [(one.initial, one.maintenance) for one in both] == [(2.0, 2.0), (0.0, 1.0)]


@pytest.mark.parametrize("model", ["hyperliquid", "dydx", "drift"])
def test_an_option_where_a_venue_lists_none_is_no_position_without_margin(model: str) -> None:
    sold = Position(kind=OPTION, underlying="BTC", qty_base=-1.0, strike_px=60_000, tau_years=0.1, vol=0.5)
    values = carried(model).values
    for one in (sold, msgspec.structs.replace(sold, qty_base=0.0, sell_base=1.0)):
        book = build_book([one], {"BTC": 60_000.0})
        with pytest.raises(ValueError, match=f"no options at {model}, which lists none, found 1"):
            evaluate(model, book, values)
        assert evaluate_or_assume(model, book, values).initial > 60_000.0
    assert evaluate(model, build_book([msgspec.structs.replace(sold, qty_base=0.0)], {"BTC": 1.0}), values).initial == 0
