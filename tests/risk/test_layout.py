"""A layout tells of the rows of a book what a look at each of them tells, and works it out once."""

from __future__ import annotations

import msgspec
import numpy as np

from bot.risk.book import SPOT, Position, build_book
from bot.risk.layout import kept, layout_of
from tests.risk.test_stack import random_book


def test_what_is_kept_is_worked_out_once() -> None:
    class Counted:
        times = 0

        @kept
        def answer(self) -> int:
            """The answer."""
            self.times += 1
            return 42

    one, another = Counted(), Counted()
    assert (one.answer, one.answer, one.times, another.times) == (42, 42, 1, 0)
    assert Counted.__dict__["answer"].__doc__ == "The answer."


def test_rows_by_what_they_are_and_parts_of_parts() -> None:
    book = random_book(9, orders=True)
    layout = layout_of(book)
    assert layout_of(book) is layout
    assert layout_of(msgspec.structs.replace(book)) is not layout
    assert layout.options.tolist() == np.flatnonzero(book.is_option).tolist()
    assert sorted([*layout.options.tolist(), *layout.others.tolist()]) == list(range(len(book)))
    assert (layout.is_linear == (~book.is_option & (book.kind != SPOT))).all()
    assert layout.coins == [2]
    assert layout.held == [0, 1]
    assert (layout.selector.sum(axis=1) == 1.0).all()
    assert (layout.selector.argmax(axis=1) == book.underlying).all()
    assert (layout.money_selector.argmax(axis=1) == book.underlying * len(book.moneys) + book.money).all()
    assert [side.tolist() for side in layout.sides] == [book.buy_base.tolist(), (-book.sell_base).tolist()]
    numbers, part = layout.of_underlying(1)
    assert numbers.tolist() == np.flatnonzero(book.underlying == 1).tolist()
    assert layout.of_underlying(1)[1] is part
    assert (part.held, part.place.tolist()) == ([1], [0] * len(numbers))
    assert part.contracts()[0].tolist() == np.flatnonzero(part.is_linear).tolist()
    assert part.only_options()[1].strike_px.tolist() == book.strike_px[numbers][part.is_option].tolist()
    assert part.only_options()[1].only_options()[1] is part.only_options()[1]
    for (underlying, money), flags in zip(layout.pairs, layout.pair_selector, strict=True):
        rows = np.flatnonzero(flags)
        assert (book.underlying[rows] == underlying).all()
        assert (book.money[rows] == money).all()
    assert (layout.pair_selector.sum(axis=0) == (book.kind != SPOT)).all()
    assert layout.traded()[0].tolist() == np.flatnonzero(book.kind != SPOT).tolist()


def test_a_coin_is_called_by_its_id_else_by_its_underlying() -> None:
    coins = [
        Position(kind=SPOT, underlying="BTC", qty_base=1.0),
        Position(kind=SPOT, underlying="ETH", qty_base=1.0, instrument_id="stETH"),
    ]
    layout = layout_of(build_book(coins, {"BTC": 1.0, "ETH": 1.0}))
    assert [layout.asset(0), layout.asset(1), layout.where(np.array([1])).asset(0)] == ["BTC", "stETH", "stETH"]
    assert not layout.sides
    assert not layout.inverse.size
