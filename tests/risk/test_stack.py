"""A stack of copies against its copies one by one: every model, every market, every quantity; groups and P&L."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from bot.risk.book import FUTURE, OPTION, PERPETUAL, SPOT, Position, RiskBook, build_book
from bot.risk.margin.registry import MODELS, answer_all, decode_values
from bot.risk.requirement import Requirement
from bot.risk.scenarios import ScenarioSet, VolShock, price_vol_grid, tails
from bot.risk.stack import (
    MOST_GROUPINGS,
    MOVED,
    BookStack,
    StackGroups,
    inverse_rows,
    money_offset,
    offset,
    sized_in_quote,
)
from tests.risk.legs import SETS as SET_FILES
from tests.risk.legs import values_of

SPOT_PX = {"BTC": 60_000.0, "ETH": 3_000.0}
SHOCK = VolShock(up=0.4, down=0.25, short_power=0.3, long_power=0.13, least_vol_up=0.5)
SCENARIOS = ScenarioSet(price_vol_grid(0.16, 4) + tails([-0.66, -0.33, 0.5, 1, 5], 0.16), SHOCK)
SETS = {
    path.stem.rsplit("-", 3)[0]: path.stem
    for path in sorted(SET_FILES.glob("*.json"))
    if path.stem.rsplit("-", 3)[0] in MODELS
}
NO_OPTIONS = ("hyperliquid", "dydx", "drift")


def random_book(seed: int, rows: int = 24, *, orders: bool = False, coins: bool = True) -> RiskBook:
    rng = np.random.default_rng(seed)
    positions = []
    for number in range(rows):
        name = "BTC" if number % 3 else "ETH"
        spot, days = SPOT_PX[name], float(rng.choice([0.3, 2.0, 30.0, 200.0]))
        common: dict[str, Any] = {
            "underlying": name,
            "qty_base": float(rng.normal()) * 60_000.0 / spot,
            "instrument_id": str(number),
            "money": str(rng.choice(["USD", "USDC", name] if coins else ["USDC", "USDT"])),
            "buy_base": float(rng.uniform(0.0, 3.0)) if orders and number % 4 == 0 else 0.0,
            "sell_base": float(rng.uniform(0.0, 3.0)) if orders and number % 4 == 1 else 0.0,
        }
        if number % 6 == 0:
            positions.append(Position(kind=PERPETUAL, **common))
        elif number % 6 == 1:
            positions.append(Position(kind=FUTURE, forward_px=spot * 1.01, tau_years=days / 365.0, **common))
        elif number == 2:
            positions.append(Position(kind=SPOT, **common))
        else:
            strike, vol = spot * float(np.exp(0.3 * rng.normal())), float(rng.uniform(0.2, 1.5))
            is_call = bool(rng.integers(2))
            positions.append(
                Position(kind=OPTION, strike_px=strike, tau_years=days / 365.0, vol=vol, is_call=is_call, **common)
            )
    return build_book(positions, SPOT_PX)


def book_for(model: str, book: RiskBook) -> RiskBook:
    """The book, without options where the venue lists none."""
    return book.where(~book.is_option) if model in NO_OPTIONS else book


def moved(book: RiskBook, seed: int) -> RiskBook:
    """The book in a market of its own: prices, vols, and half a day gone by, which ends the shortest options."""
    rng = np.random.default_rng(seed)
    multiple = np.exp(0.2 * rng.normal(size=2))
    of_row = multiple[book.underlying]
    return msgspec.structs.replace(
        book,
        spot_px=book.spot_px * multiple,
        mark_px=book.mark_px * of_row * (1.0 + 0.01 * rng.random(len(book))),
        forward_px=book.forward_px * of_row,
        tau_years=np.maximum(book.tau_years - 0.5 / 365.0 * (seed % 2), 0.0),
        vol=book.vol * rng.uniform(0.8, 1.3),
    )


def stack_of(books: list[RiskBook]) -> BookStack:
    columns = {name: np.stack([getattr(one, name) for one in books]) for name in MOVED}
    return BookStack(books[0]).at(np.stack([one.spot_px for one in books]), **columns)


def assert_same(found: Requirement, expected: Requirement) -> None:
    assert (found.model, found.money, found.worst) == (expected.model, expected.money, expected.worst)
    assert found.initial == pytest.approx(expected.initial, rel=1e-9)
    assert found.maintenance == pytest.approx(expected.maintenance, rel=1e-9)
    assert [one.name for one in found.charges] == [one.name for one in expected.charges]
    for one, other in zip(found.charges, expected.charges, strict=True):
        near = pytest.approx((other.initial, other.maintenance), rel=1e-9, abs=1e-3 * 1e-3)
        assert (one.initial, one.maintenance) == near
    assert found.scenario_names == expected.scenario_names
    assert found.scenario_pnl == pytest.approx(expected.scenario_pnl, rel=1e-9, abs=1e-3)


@pytest.mark.parametrize("model", list(SETS))
@pytest.mark.parametrize("has_orders", [False, True])
def test_a_model_says_of_every_market_what_it_says_of_it_alone(model: str, has_orders: bool) -> None:
    parameters = decode_values(model, values_of(SETS[model]))
    book = book_for(model, random_book(3, orders=has_orders))
    books = [book, *(moved(book, seed) for seed in (1, 2, 3))]
    alone = [MODELS[model].requirement(one, parameters) for one in books]
    assert len({one.initial for one in alone}) == len(books)
    for found, expected in zip(answer_all(model, stack_of(books), parameters), alone, strict=True):
        assert_same(found, expected)


@pytest.mark.parametrize("model", list(SETS))
def test_a_model_says_of_all_quantities_at_one_market_what_it_says_of_each(model: str) -> None:
    parameters = decode_values(model, values_of(SETS[model]))
    book = book_for(model, random_book(4, orders=True))
    qty = book.qty_base * np.random.default_rng(1).normal(size=(3, len(book)))
    stack = BookStack(book).with_qty(qty)
    assert (len(stack), stack.markets) == (3, 1)
    for found, line in zip(answer_all(model, stack, parameters), qty, strict=True):
        assert_same(found, MODELS[model].requirement(msgspec.structs.replace(book, qty_base=line), parameters))


def test_groups_hold_where_expiries_run_together_in_one_copy_alone() -> None:
    book = random_book(6).of_underlying("BTC")
    late = msgspec.structs.replace(book, tau_years=np.maximum(book.tau_years - 3.0 / 365.0, 0.0))
    groups = StackGroups(stack_of([book, late]))
    sums = groups.sum(np.stack([book.qty_base, late.qty_base]))
    for copy, one in enumerate((book, late)):
        tau = np.where(np.isfinite(one.tau_years), one.tau_years, 0.0)
        expected = {float(years): float(one.qty_base[tau == years].sum()) for years in np.unique(tau)}
        found = dict(zip(groups.tau_years[copy].tolist(), sums[copy].tolist(), strict=True))
        found.pop(0.0, None)  # lines are filled up with it
        assert found == pytest.approx({years: total for years, total in expected.items() if years})
        assert sums[copy].sum() == pytest.approx(one.qty_base.sum())
    assert len(np.unique(groups.tau_years[1])) < len(np.unique(groups.tau_years[0]))


def test_a_copy_is_a_book_again_and_quantities_need_a_market_each() -> None:
    book = random_book(7)
    books = [book, moved(book, 1)]
    stack = stack_of(books)
    assert np.array_equal(stack.book(1, book).mark_px, books[1].mark_px)
    assert np.array_equal(stack.where(book.is_option).mark_px, stack.mark_px[:, book.is_option])
    with pytest.raises(ValueError, match="quantities for 2 markets, found 3 lines"):
        stack.with_qty(np.zeros((3, len(book))))


def two_kinds() -> RiskBook:
    legs = [
        Position(kind=PERPETUAL, underlying="BTC", qty_base=2.0, money="USDC"),
        Position(kind=PERPETUAL, underlying="BTC", qty_base=2.0, money="BTC"),
        Position(kind=FUTURE, underlying="ETH", qty_base=-3.0, money="ETH", tau_years=0.1, forward_px=110.0),
        Position(kind=SPOT, underlying="BTC", qty_base=5.0, money="BTC"),
    ]
    return build_book(legs, {"BTC": 100.0, "ETH": 100.0})


def test_inverse_contracts_are_those_settled_in_their_own_coin() -> None:
    assert inverse_rows(two_kinds()).tolist() == [1, 2]
    assert inverse_rows(two_kinds().where(np.array([0]))).tolist() == []


def test_inverse_contracts_keep_their_quote_money_and_nothing_else_changes() -> None:
    before = two_kinds()
    prices = np.array([[0.5], [2.0], [0.0]])
    moved = BookStack(before).at(before.spot_px * np.maximum(prices, 1e-6), mark_px=before.mark_px * prices)
    found = sized_in_quote(moved, before)
    worth = found.qty_base[:2] * found.mark_px[:2]
    assert worth[:, 1:3] == pytest.approx(np.tile(before.qty_base[1:3] * before.mark_px[1:3], (2, 1)))
    assert found.qty_base[:, [0, 3]].tolist() == [[2.0, 5.0]] * 3
    assert np.isfinite(found.qty_base).all()  # also where a price is gone


def test_groups_of_times_gone_by_do_not_pile_up_with_a_layout_that_is_kept() -> None:
    book = random_book(6)
    layout = BookStack(book).layout
    for second in range(2 * MOST_GROUPINGS):
        later = msgspec.structs.replace(book, tau_years=book.tau_years - second / (365.0 * 86_400.0))
        found, fresh = StackGroups(BookStack(later, layout)), StackGroups(BookStack(later))
        assert StackGroups(BookStack(later, layout)).grouping is found.grouping
        assert found.tau_years.tolist() == fresh.tau_years.tolist()
        assert found.sum(later.qty_base).tolist() == fresh.sum(later.qty_base).tolist()
    assert 0 < len(layout.groupings) <= MOST_GROUPINGS


def test_what_offsets_what_is_the_lesser_side_of_each_group() -> None:
    selector = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert offset(np.array([[5.0, -2.0, 3.0, 4.0], [-1.0, 4.0, -7.0, 6.0]]), selector).tolist() == [
        [2.0, 0.0],
        [1.0, 6.0],
    ]
    legs = [
        Position(kind=PERPETUAL, underlying=underlying, qty_base=1.0, money=money)
        for underlying, money in (("BTC", "USDT"), ("BTC", "USDC"), ("BTC", "USDC"), ("ETH", "USDC"))
    ]
    quote = np.array([[5.0, -1.0, -2.0, -9.0], [1.0, 1.0, 1.0, 1.0]])
    assert money_offset(BookStack(build_book(legs, SPOT_PX)), quote).tolist() == [[3.0, 0.0], [0.0, 0.0]]
    assert money_offset(BookStack(build_book(legs[1:], SPOT_PX)), quote[:, 1:]).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_groups_know_their_underlyings() -> None:
    stack = BookStack(random_book(4, rows=30))
    groups = StackGroups(stack)
    assert (stack.layout.held[0], groups.is_of.shape) == (0, (len(stack.held), groups.grouping.size))
    assert (groups.underlying[0] == np.array(stack.held)[groups.place]).all()
    assert (groups.is_of.argmax(axis=0) == groups.place).all()
    assert (groups.selector == groups.is_of.T).all()
    again = StackGroups(stack)
    assert again.grouping is groups.grouping
