"""Gaps of a book: each one named, by row, and nothing called a gap that is none."""

from __future__ import annotations

from math import inf, nan

import msgspec
import numpy as np
import pytest

from bot.risk.book import FUTURE, PERPETUAL, Position, build_book
from bot.risk.gaps import call, find_fault, gaps, has_gaps
from bot.risk.stack import BookStack
from tests.risk.legs import book_of, option, perpetual

BOOK = book_of([perpetual(2.0), option(-1.0, 70_000.0), option(1.0, 50_000.0, call=False)], 60_000.0)


@pytest.mark.parametrize(
    ("name", "row", "value"),
    [
        ("qty_base", 0, nan),
        ("mark_px", 0, inf),
        ("forward_px", 0, 0.0),
        ("forward_px", 2, -1.0),
        ("strike_px", 1, 0.0),
        ("vol", 1, -0.1),
        ("vol", 2, nan),
        ("tau_years", 1, inf),
        ("tau_years", 0, nan),
        ("buy_base", 2, nan),
        ("buy_base", 0, -1.0),
        ("sell_base", 1, -1.0),
        ("mark_px", 0, 0.0),
        ("mark_px", 0, -5.0),
        ("mark_px", 1, -5.0),
        ("kind", 0, 9),
    ],
)
def test_each_gap_is_named_and_is_in_its_row_alone(name: str, row: int, value: float) -> None:
    column = getattr(BOOK, name).copy()
    column[row] = value
    book = msgspec.structs.replace(BOOK, **{name: column})
    assert f"expected a usable {name} of BTC row {row}, found {value:g}; 1 such rows" == find_fault(book)
    assert np.flatnonzero(gaps(book)).tolist() == [row]
    assert has_gaps(BookStack(book))
    assert not has_gaps(BookStack(BOOK))


@pytest.mark.parametrize(
    ("name", "row", "value"), [("mark_px", 0, 0.0), ("mark_px", 1, -5.0), ("buy_base", 0, -1.0), ("kind", 0, 9)]
)
def test_a_stack_has_the_gaps_of_its_book(name: str, row: int, value: float) -> None:
    column = getattr(BOOK, name).copy()
    column[row] = value
    assert not has_gaps(BookStack(BOOK))
    assert has_gaps(BookStack(msgspec.structs.replace(BOOK, **{name: column})))


def test_a_spot_price_that_is_missing_is_a_gap_of_all_its_rows() -> None:
    book = msgspec.structs.replace(BOOK, spot_px=np.array([nan]))
    assert find_fault(book) == "expected a usable spot price of BTC row 0, found nan; 3 such rows"
    assert gaps(book).all()
    assert has_gaps(BookStack(book))


def test_what_is_complete_has_none_also_a_vol_of_nothing_an_expired_option_and_no_book() -> None:
    rows = [
        Position(kind=PERPETUAL, underlying="BTC", qty_base=0.0),
        Position(kind=FUTURE, underlying="BTC", qty_base=1.0, tau_years=0.1, instrument_id="BTC-F"),
    ]
    assert find_fault(build_book(rows, {"BTC": 1.0, "ETH": nan})) == ""
    assert not has_gaps(BookStack(build_book(rows, {"BTC": 1.0, "ETH": nan})))
    worthless = msgspec.structs.replace(BOOK, vol=BOOK.vol * 0.0, tau_years=np.minimum(BOOK.tau_years, -0.1))
    assert find_fault(worthless) == ""
    assert not has_gaps(BookStack(worthless))
    assert find_fault(book_of([], 60_000.0)) == ""
    nothing = msgspec.structs.replace(BOOK, mark_px=np.array([60_000.0, 0.0, -1e-12]))  # below 0 by rounding
    assert find_fault(nothing) == ""
    assert call(build_book(rows, {"BTC": 1.0}), 1) == "BTC-F"
