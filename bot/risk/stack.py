"""One book many times over: at several markets, or with several quantities, so that one pass prices all of them.

A margin model that answers for a stack spends on ten moved books little more than on one, as at a few hundred
positions its time goes into the number of numpy calls. Arrays have a line per copy and a column per row of the book;
prices have a single line where they are the same in every copy, as when quantities alone differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from bot.risk.book import Flags, Floats, Ints, RiskBook
from bot.risk.grouping import Grouping
from bot.risk.layout import Layout, layout_of
from bot.risk.repricing import LEAST_DEV

T = TypeVar("T")
MOVED = ("mark_px", "forward_px", "tau_years", "vol")
MOST_GROUPINGS: Final = 16  # kept with a layout: a question has a few, and those of times gone by are asked no more


class BookStack:
    """Copies of a book. `spot_px`, `mark_px`, `forward_px`, `tau_years` and `vol` have one line or one per copy.

    Times, vols and the like that do not move have one line at any number of markets. What cannot differ, kinds,
    strikes, names and open orders, is of all copies (`layout`); `qty_base` has a line per copy.
    """

    __slots__ = (*MOVED, "layout", "qty_base", "spot_px")

    def __init__(self, book: RiskBook, layout: Layout | None = None) -> None:
        """Take a book as the only copy; its layout, where that is known already, is not worked out again."""
        self.layout = layout_of(book) if layout is None else layout
        self.mark_px: Floats = book.mark_px[None, :]
        self.forward_px: Floats = book.forward_px[None, :]
        self.tau_years: Floats = book.tau_years[None, :]
        self.vol: Floats = book.vol[None, :]
        self.qty_base: Floats = book.qty_base[None, :]
        self.spot_px: Floats = book.spot_px[None, :]

    def __len__(self) -> int:
        return len(self.qty_base)

    @property
    def markets(self) -> int:
        """How many markets there are: one, or as many as copies."""
        return len(self.spot_px)

    @property
    def underlyings(self) -> tuple[str, ...]:
        """The names of the underlyings."""
        return self.layout.underlyings

    @property
    def moneys(self) -> tuple[str, ...]:
        """The names of what contracts settle in."""
        return self.layout.moneys

    @property
    def kind(self) -> Ints:
        """What each row is."""
        return self.layout.kind

    @property
    def underlying(self) -> Ints:
        """The number of each row's underlying."""
        return self.layout.underlying

    @property
    def money(self) -> Ints:
        """The number of what each row settles in."""
        return self.layout.money

    @property
    def strike_px(self) -> Floats:
        """The strike of each row, NaN for what is no option."""
        return self.layout.strike_px

    @property
    def is_call(self) -> Flags:
        """Which rows are calls."""
        return self.layout.is_call

    @property
    def buy_base(self) -> Floats:
        """What open orders would add to each row."""
        return self.layout.buy_base

    @property
    def sell_base(self) -> Floats:
        """What open orders would take from each row."""
        return self.layout.sell_base

    @property
    def is_option(self) -> Flags:
        """Which rows are options."""
        return self.layout.is_option

    @property
    def spot_of_row_px(self) -> Floats:
        """The spot price of each row's underlying, a line per market."""
        return self.spot_px.take(self.layout.underlying, axis=1)

    @property
    def held(self) -> list[int]:
        """The numbers of the underlyings that have rows, lowest first."""
        return self.layout.held

    def where(self, rows: Flags | Ints) -> BookStack:
        """Return the stack of these rows alone; names and spot prices stay as they are."""
        numbers: Ints = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows  # type: ignore[assignment]
        if rows.dtype == np.bool_ and len(numbers) == len(self.layout.kind):
            return self
        return self.pick(numbers, self.layout.where(numbers))

    def of_underlying(self, underlying: int) -> BookStack:
        """Return the stack of the rows of one underlying, by its number."""
        return self.pick(*self.layout.of_underlying(underlying))

    def contracts(self) -> BookStack:
        """Return the stack of the perpetuals and futures."""
        return self.pick(*self.layout.contracts())

    def only_options(self) -> BookStack:
        """Return the stack of the options."""
        return self.pick(*self.layout.only_options())

    def traded(self) -> BookStack:
        """Return the stack of all but coins held."""
        return self.pick(*self.layout.traded())

    def at(self, spot_px: Floats, **columns: Floats) -> BookStack:
        """Return as many copies at these markets: spot prices and every other price that moves, a line each."""
        out = self._like()
        out.spot_px = spot_px
        for name, lines in columns.items():
            setattr(out, name, lines)
        out.qty_base = np.repeat(self.qty_base[:1], len(spot_px), axis=0)
        return out

    def with_qty(self, qty_base: Floats) -> BookStack:
        """Return copies with these quantities, a line each: as many as there are markets, or any number at one."""
        if self.markets not in (1, len(qty_base)):
            raise ValueError(f"expected quantities for {self.markets} markets, found {len(qty_base)} lines")
        out = self._like()
        out.qty_base = qty_base
        return out

    def market_of(self, copy: int) -> int:
        """Return the line of spot prices that a copy has."""
        return copy if self.markets > 1 else 0

    def lines(self, name: str) -> Floats:
        """Return what may move of each row with a line for every market."""
        column: Floats = getattr(self, name)
        return column if len(column) == self.markets else np.repeat(column, self.markets, axis=0)

    def book(self, copy: int, like: RiskBook) -> RiskBook:
        """Return one copy as a book; `like` has the names of its rows."""
        columns = {name: getattr(self, name)[copy if len(getattr(self, name)) > 1 else 0] for name in MOVED}
        spot_px = self.spot_px[self.market_of(copy)]
        return msgspec.structs.replace(like, spot_px=spot_px, qty_base=self.qty_base[copy], **columns)

    def pick(self, numbers: Ints, layout: Layout) -> BookStack:
        """Return the stack of these rows alone, of which the layout is known."""
        if layout is self.layout:
            return self
        out = BookStack.__new__(BookStack)
        out.layout, out.spot_px = layout, self.spot_px
        out.qty_base = self.qty_base.take(numbers, axis=1)
        out.mark_px, out.forward_px = self.mark_px.take(numbers, axis=1), self.forward_px.take(numbers, axis=1)
        out.tau_years, out.vol = self.tau_years.take(numbers, axis=1), self.vol.take(numbers, axis=1)
        return out

    def _like(self) -> BookStack:
        out = BookStack.__new__(BookStack)
        out.layout, out.spot_px, out.qty_base = self.layout, self.spot_px, self.qty_base
        out.mark_px, out.forward_px, out.tau_years, out.vol = self.mark_px, self.forward_px, self.tau_years, self.vol
        return out


def inverse_rows(book: RiskBook) -> Ints:
    """Return the rows of contracts that are sized in quote money: perpetuals and futures settled in their own coin."""
    return layout_of(book).inverse


def sized_in_quote(stack: BookStack, book: RiskBook) -> BookStack:
    """Return the stack of a book at other prices with its inverse contracts worth as much quote money as before.

    Their number of base units is notional over price: where the price falls margin and delta are on more of them.
    """
    rows = stack.layout.inverse
    if not rows.size:
        return stack
    before, now = book.mark_px[rows], stack.mark_px[:, rows]
    factor = np.divide(before, now, out=np.ones_like(now), where=now > 0.0)
    qty = stack.qty_base.copy()
    qty[:, rows] *= factor
    return stack.with_qty(qty)


def ask_with_orders(stack: BookStack, ask: Callable[[BookStack], Sequence[T]]) -> tuple[Sequence[T], list[Sequence[T]]]:
    """Return the answers for each copy, and with all orders to buy done and all to sell, where there are any."""
    sides = [stack.qty_base + more for more in stack.layout.sides]
    if not sides or stack.markets > 1:
        return ask(stack), [ask(stack.with_qty(side)) for side in sides]
    found = ask(stack.with_qty(np.concatenate([stack.qty_base, *sides])))
    size = len(stack)
    return found[:size], [found[start : start + size] for start in range(size, len(found), size)]


def grouped(stack: BookStack, keys: Sequence[Floats | Ints | Flags], lines: Floats) -> Grouping:
    """Return the grouping of a stack's rows, kept with its layout: a book asked about again has the same expiries."""
    known = (*[key.tobytes() for key in keys], lines.tobytes())
    found = stack.layout.groupings.get(known)
    if found is None:
        if len(stack.layout.groupings) >= MOST_GROUPINGS:
            stack.layout.groupings.clear()
        found = stack.layout.groupings[known] = Grouping(keys, lines)
    return found


class StackGroups:
    """Rows of each underlying put together by expiry: `underlying` and `tau_years` by market and group.

    `place` is each group's underlying as its place among those held, `is_of` says so by underlying held and group, and
    `selector` by group and underlying, so that a product with it sums by underlying. What never expires has 0 years.
    Where copies do not share their expiries (two of them are over in one), some groups of a line are empty.
    """

    __slots__ = ("grouping", "is_of", "place", "selector", "tau_years", "underlying")

    def __init__(self, stack: BookStack) -> None:
        """Group the rows."""
        known = stack.tau_years.tobytes()
        found = stack.layout.expiries.get(known)
        if found is None:
            tau = np.where(np.isfinite(stack.tau_years), np.maximum(stack.tau_years, 0.0), 0.0)
            grouping = grouped(stack, (stack.underlying,), tau)
            underlying = grouping.first(stack.underlying).astype(np.int64, copy=False)
            if len(stack.layout.expiries) >= MOST_GROUPINGS:
                stack.layout.expiries.clear()
            place = grouping.key(stack.layout.place)
            is_of: Flags = place == np.arange(len(stack.held))[:, None]
            found = stack.layout.expiries[known] = (grouping, is_of, place, grouping.first(tau), underlying)
        self.grouping: Grouping = found[0]
        self.is_of: Flags = found[1]
        self.selector: Floats = self.is_of.T.astype(np.float64)
        self.place: Ints = found[2]
        self.tau_years: Floats = found[3]
        self.underlying: Ints = found[4]

    def sum(self, values: Floats) -> Floats:
        """Return sums by group over the last axis of values by copy (the axis before) and row."""
        return self.grouping.sum(values)


def stack_deltas(stack: BookStack) -> Floats:
    """Return each row's delta in base, a line per copy: its quantity, an option's times Black's delta."""
    rows = stack.layout.options
    if not rows.size:
        return stack.qty_base
    out = stack.qty_base.copy()
    strike, is_call = stack.layout.struck
    vol, tau = stack.vol.take(rows, axis=1), stack.tau_years.take(rows, axis=1)
    dev = np.maximum(vol * np.sqrt(np.maximum(tau, 0.0)), LEAST_DEV)
    chance = ndtr(np.log(stack.forward_px.take(rows, axis=1) / strike) / dev + 0.5 * dev)
    out[:, rows] = stack.qty_base.take(rows, axis=1) * (chance - ~is_call)
    return out


def offset(values: Floats, selector: Floats) -> Floats:
    """Return how much of one sign is offset by the other, over the last axis, of values that belong together.

    The selector is 1 by value and group where the value is of it.
    """
    found: Floats = np.minimum(np.maximum(values, 0.0) @ selector, np.maximum(-values, 0.0) @ selector)
    return found


def money_offset(stack: BookStack, by_row: Floats) -> Floats:
    """Return by underlying held and copy what is hedged across what contracts settle in, of numbers by copy and row."""
    layout = stack.layout
    if len(layout.moneys) < 2:
        return np.zeros((len(layout.held), len(by_row)))
    netted = by_row @ layout.money_selector
    own = np.repeat(np.eye(len(layout.held)), len(layout.moneys), axis=0)
    return offset(netted, own).T


def by_copy(values: NDArray[Any], copies: int) -> list[Any]:
    """Return what there is per copy as plain numbers; what is the same in all is told as often as there are copies."""
    found: list[Any] = values.tolist()
    return found if len(found) == copies else found * copies
