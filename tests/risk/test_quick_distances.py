"""The quick interval against the thorough one and the closed form, and how few questions it asks."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import msgspec
import numpy as np
import pytest

from bot.pricing.black76 import greeks
from bot.risk.book import SPOT, Floats, Position, RiskBook, build_book
from bot.risk.distances import book_health, find_interval, linear_liquidation_px, move_book, move_books
from bot.risk.margin import okx
from bot.risk.margin.house import HouseParameters, requirement
from bot.risk.margin.paradex import CrossParameters, cross_requirement
from bot.risk.margin.registry import answer_all, decode_values
from bot.risk.quick_distances import Searched, quick_interval, stack_intervals
from bot.risk.stack import BookStack
from tests.risk.legs import book_of, option, perpetual, position, values_of

HOUSE = msgspec.convert(values_of("house-2026-11-26"), HouseParameters)
CROSS = msgspec.convert(values_of("paradex_cross-2026-11-26"), CrossParameters)


class House:
    """The house model's maintenance margin, which counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, book: RiskBook) -> float:
        self.asked += 1
        return requirement(book, HOUSE).maintenance


def cross(book: RiskBook) -> float:
    return cross_requirement(book, CROSS).maintenance


@pytest.mark.parametrize("qty", [-10.0, 4.0])
def test_a_linear_account_ends_at_the_closed_forms_price(qty: float) -> None:
    book = book_of([perpetual(qty)], 60_000.0)
    found = quick_interval(book, 50_000.0, lambda one: 0.01 * float((abs(one.qty_base) * one.mark_px).sum()), 60_000.0)
    expected = linear_liquidation_px(50_000.0, qty, 60_000.0, 0.01)
    assert (found.up_px if qty < 0.0 else found.down_px) == pytest.approx(expected, rel=1e-4)
    assert (found.down_px if qty < 0.0 else found.up_px) == (0.0 if qty < 0.0 else inf)


@pytest.mark.parametrize(
    ("legs", "equity"),
    [
        ([option(-10.0, 66_000.0), option(-10.0, 54_000.0, call=False)], 90_000.0),
        ([option(-10.0, 66_000.0, 3.0), option(10.0, 70_000.0, 3.0), perpetual(1.0)], 80_000.0),
        ([option(20.0, 60_000.0), perpetual(-12.0)], 150_000.0),
        ([perpetual(3.0), option(-3.0, 63_000.0, 10.0)], 60_000.0),
    ],
)
@pytest.mark.parametrize("is_house", [True, False])
def test_books_with_options_end_where_the_thorough_search_says(
    legs: list[dict[str, Any]], equity: float, is_house: bool
) -> None:
    book = book_of(legs, 60_000.0)
    model = House()
    maintenance = model if is_house else cross
    found = quick_interval(book, equity, maintenance, 60_000.0)
    asked = model.asked
    thorough = find_interval(book_health(book, equity, maintenance), 60_000.0)
    assert found.down_px == pytest.approx(thorough.down_px, rel=1e-3)
    assert found.up_px == pytest.approx(thorough.up_px, rel=1e-3)
    assert thorough.down_px < 60_000.0 < thorough.up_px
    if is_house:
        assert asked <= 20
        assert 2 * asked < model.asked - asked


def test_one_underlying_moves_alone_and_coins_count_with_what_the_haircut_leaves() -> None:
    legs = [
        position(perpetual(-5.0), "", "BTC"),
        position(perpetual(40.0), "", "ETH"),
        Position(kind=SPOT, underlying="BTC", qty_base=3.0),
    ]
    book = build_book(legs, {"BTC": 60_000.0, "ETH": 3_000.0})

    def maintenance(one: RiskBook) -> float:
        traded = one.kind != SPOT
        return 0.02 * float((abs(one.qty_base) * one.mark_px)[traded].sum())

    for underlying in ("BTC", "ETH", None):
        found = quick_interval(book, 60_000.0, maintenance, 1.0, underlying=underlying, spot_weight=0.9)
        health = book_health(book, 60_000.0, maintenance, underlying, 0.9)
        thorough = find_interval(health, 1.0)
        assert found.down_px == pytest.approx(thorough.down_px, rel=1e-3)
        assert found.up_px == pytest.approx(thorough.up_px, rel=1e-3)
    nowhere = quick_interval(book, 60_000.0, maintenance, 1.0, underlying="SOL")
    assert (nowhere.down_px, nowhere.up_px) == (0.0, inf)


def test_an_account_at_its_end_or_without_an_answer_has_no_distance_and_the_ratio_counts() -> None:
    book = book_of([perpetual(-10.0)], 60_000.0)
    for equity in (4_000.0, 0.0, nan):
        found = quick_interval(book, equity, lambda one: 0.01 * float(abs(one.qty_base @ one.mark_px)), 60_000.0)
        assert (found.down_px, found.up_px) == (60_000.0, 60_000.0)
    lost = quick_interval(book, 50_000.0, lambda _: nan, 60_000.0)
    assert (lost.down_px, lost.up_px) == (60_000.0, 60_000.0)
    strict = quick_interval(
        book, 50_000.0, lambda one: 0.01 * float(abs(one.qty_base @ one.mark_px)), 60_000.0, liquidation_ratio=0.5
    )
    assert strict.up_px == pytest.approx(linear_liquidation_px(50_000.0, -10.0, 60_000.0, 0.01, 0.5), rel=1e-4)


def test_a_model_that_cannot_answer_further_out_ends_the_account_there() -> None:
    book = book_of([perpetual(-1.0)], 60_000.0)

    def maintenance(one: RiskBook) -> float:
        px = float(one.mark_px[0])
        return nan if px > 66_000.0 else 0.01 * px

    found = quick_interval(book, 20_000.0, maintenance, 60_000.0)
    assert 65_000.0 < found.up_px <= 66_000.0


@pytest.mark.parametrize("equity", [140_000.0, 200_000.0, 500_000.0])
def test_asked_for_many_books_at_once_it_ends_where_the_thorough_search_says(equity: float) -> None:
    parameters = decode_values("okx", values_of("okx-2026-11-26"))
    book = book_of([option(-10.0, 66_000.0), option(-10.0, 54_000.0, 7.0, call=False), perpetual(2.0)], 60_000.0)
    asked: list[int] = []

    def maintenance(stack: BookStack) -> Floats:
        asked.append(len(stack))
        return np.array([one.maintenance for one in answer_all("okx", stack, parameters)])

    now = okx.requirement(book, parameters).maintenance
    terms: dict[str, Any] = {"book": book, "maintenance": maintenance, "px": 60_000.0}
    [found] = stack_intervals([Searched(equity_quote=equity, margin_now_quote=now, **terms)])
    assert len(asked) <= 5
    assert max(asked) <= 6
    health = book_health(book, equity, lambda one: okx.requirement(one, parameters).maintenance)
    thorough = find_interval(health, 60_000.0)
    assert found.down_px == pytest.approx(thorough.down_px, rel=1e-3)
    assert found.up_px == pytest.approx(thorough.up_px, rel=1e-3)


def test_many_moves_are_what_each_alone_is_and_what_black_76_says() -> None:
    book = book_of([option(-10.0, 66_000.0), option(3.0, 54_000.0, 7.0, call=False), perpetual(2.0)], 60_000.0)
    moves = np.array([-0.6, -0.1, 0.0, 0.3])
    stack = move_books(book, moves, 1.2, "BTC")
    for copy, move in enumerate(moves.tolist()):
        alone, found = move_book(book, move, 1.2, "BTC"), stack.book(copy, book)
        for name in ("spot_px", "mark_px", "forward_px", "vol", "tau_years", "qty_base"):
            assert np.array_equal(getattr(found, name), getattr(alone, name), equal_nan=True)
        rows = np.flatnonzero(book.is_option)
        terms = (book.strike_px[rows], book.tau_years[rows], 1.2 * book.vol[rows], book.is_call[rows])
        exact = greeks(book.forward_px[rows] * (1.0 + move), *terms).value
        assert found.mark_px[rows] == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("qty", [3.0, -3.0])
def test_coins_that_are_posted_move_the_end_as_rows_of_the_book_would(qty: float) -> None:
    book = book_of([perpetual(qty)], 60_000.0)

    def maintenance(stack: BookStack) -> Floats:
        return 0.02 * np.abs(stack.qty_base * stack.mark_px).sum(axis=1)

    terms: dict[str, Any] = {"book": book, "equity_quote": 60_000.0, "maintenance": maintenance, "px": 60_000.0}
    found, plain = stack_intervals([Searched(coins_quote=60_000.0, **terms), Searched(**terms)])
    # a coin is the equity: E' = P' + q (P' - P) = f |q| P'
    end_px = qty * 60_000.0 / (1.0 + qty - 0.02 * abs(qty))
    assert (found.down_px if qty > 0.0 else found.up_px) == pytest.approx(end_px, rel=1e-3)
    assert (plain.down_px < found.down_px) if qty > 0.0 else (plain.up_px < found.up_px)


def test_accounts_side_by_side_end_where_each_alone_does() -> None:
    parameters = decode_values("okx", values_of("okx-2026-11-26"))
    straddle = [option(-10.0, 66_000.0), option(-10.0, 54_000.0, 0.5, call=False), option(4.0, 60_500.0, 0.5)]
    coins = Position(kind=SPOT, underlying="BTC", qty_base=2.0)
    books = [
        book_of([*straddle, perpetual(2.0)], 60_000.0),
        book_of([perpetual(-3.0)], 60_000.0),
        build_book([*[position(leg, "", "BTC") for leg in straddle], coins], {"BTC": 60_000.0, "ETH": 3_000.0}),
    ]
    accounts = [
        Searched(
            book=book,
            equity_quote=equity,
            maintenance=lambda stack: np.array([one.maintenance for one in answer_all("okx", stack, parameters)]),
            px=px,
            underlying=underlying,
            spot_weight=0.9,
        )
        for book, equity, px, underlying in zip(
            books, (200_000.0, 90_000.0, 150_000.0), (60_000.0, 1.0, 1.0), (None, "BTC", "BTC"), strict=True
        )
    ]
    together = stack_intervals(accounts)
    for one, found in zip(accounts, together, strict=True):
        [alone] = stack_intervals([one])
        assert found.down_px == pytest.approx(alone.down_px, rel=1e-12)
        assert found.up_px == pytest.approx(alone.up_px, rel=1e-12)
        assert found.down_px < one.px < found.up_px
    assert len({found.up_px / one.px for one, found in zip(accounts, together, strict=True)}) == 3
    assert stack_intervals([]) == []
