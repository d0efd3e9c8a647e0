"""One book many times over: at several markets, or with several quantities, so that one pass prices all of them.

A margin model that answers for a stack spends on ten moved books little more than on one, as at a few hundred
positions its time goes into the number of numpy calls. Arrays have a line per copy and a column per row of the book;
prices have a single line where they are the same in every copy, as when quantities alone differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from bot.risk.book import FUTURE, OPTION, PERPETUAL, SPOT, Flags, Floats, Ints, RiskBook
from bot.risk.repricing import LEAST_DEV, option_values
from bot.risk.scenarios import ScenarioSet

T = TypeVar("T")
MOVED = ("mark_px", "forward_px", "tau_years", "vol")
FIXED = ("kind", "underlying", "money", "strike_px", "is_call", "buy_base", "sell_base")


class kept(Generic[T]):  # noqa: N801 — used as functools.cached_property is, whose lock takes longer than most of this
    """A property that is worked out when it is first asked for, and an attribute from then on."""

    def __init__(self, work_out: Callable[[Any], T]) -> None:
        """Take what works it out."""
        self._work_out = work_out
        self.__doc__ = work_out.__doc__

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, _owner: type | None = None) -> T:
        found: T = self._work_out(instance)
        instance.__dict__[self._name] = found
        return found


class Layout:
    """What is the same in all copies of a book: kinds, names, strikes, open orders; and what follows from these.

    That is worked out when it is first asked for and kept, so that whoever asks about one book again and again keeps
    its layout. Nothing in it is to be written.
    """

    def __init__(
        self,
        names: tuple[tuple[str, ...], tuple[str, ...]],
        columns: dict[str, Ints | Floats | Flags],
        ids: tuple[str, ...],
        numbers: Ints | None = None,
    ) -> None:
        """Take the names of underlyings and moneys, the columns, and the ids of all rows, of which these are some."""
        self.underlyings, self.moneys = names
        self._ids = ids
        self._numbers = numbers
        self.kind: Ints = columns["kind"]  # type: ignore[assignment]
        self.underlying: Ints = columns["underlying"]  # type: ignore[assignment]
        self.money: Ints = columns["money"]  # type: ignore[assignment]
        self.strike_px: Floats = columns["strike_px"]  # type: ignore[assignment]
        self.is_call: Flags = columns["is_call"]  # type: ignore[assignment]
        self.buy_base: Floats = columns["buy_base"]  # type: ignore[assignment]
        self.sell_base: Floats = columns["sell_base"]  # type: ignore[assignment]
        self._parts: dict[object, tuple[Ints, Layout]] = {}
        self.groupings: dict[tuple[bytes, ...], Grouping] = {}

    def where(self, numbers: Ints) -> Layout:
        """Return the layout of these rows alone."""
        columns = {name: getattr(self, name).take(numbers) for name in FIXED}
        own = numbers if self._numbers is None else self._numbers[numbers]
        return Layout((self.underlyings, self.moneys), columns, self._ids, own)

    def of_underlying(self, underlying: int) -> tuple[Ints, Layout]:
        """Return the rows of one underlying, by number, and their layout."""
        found = self._parts.get(underlying)
        return self._part(underlying, self.underlying == underlying) if found is None else found

    def contracts(self) -> tuple[Ints, Layout]:
        """Return the rows of perpetuals and futures, and their layout."""
        found = self._parts.get("contracts")
        return self._part("contracts", self.is_linear) if found is None else found

    def only_options(self) -> tuple[Ints, Layout]:
        """Return the rows of options, and their layout."""
        found = self._parts.get("options")
        return self._part("options", self.is_option) if found is None else found

    def pair(self, underlying: int, money: int) -> tuple[Ints, Layout]:
        """Return the rows of one underlying, without coins held, that settle in one money, and their layout."""
        found = self._parts.get((underlying, money))
        if found is None:
            is_of_it = (self.underlying == underlying) & (self.money == money) & (self.kind != SPOT)
            found = self._part((underlying, money), is_of_it)
        return found

    def _part(self, key: object, is_of_it: Flags) -> tuple[Ints, Layout]:
        numbers = is_of_it.nonzero()[0]
        found = self._parts[key] = (numbers, self if len(numbers) == len(self.kind) else self.where(numbers))
        return found

    @kept
    def is_option(self) -> Flags:
        """Which rows are options."""
        return np.equal(self.kind, OPTION)

    @kept
    def is_linear(self) -> Flags:
        """Which rows are perpetuals or futures."""
        found: Flags = np.equal(self.kind, PERPETUAL) | np.equal(self.kind, FUTURE)
        return found

    @kept
    def options(self) -> Ints:
        """The rows that are options."""
        return self.is_option.nonzero()[0]

    @kept
    def others(self) -> Ints:
        """The rows that are no options."""
        return (~self.is_option).nonzero()[0]

    @kept
    def coins(self) -> list[int]:
        """The rows of coins held."""
        numbers: list[int] = np.equal(self.kind, SPOT).nonzero()[0].tolist()
        return numbers

    @kept
    def struck(self) -> tuple[Floats, Flags]:
        """Strikes of the options, and which of them are calls."""
        return self.strike_px.take(self.options), self.is_call.take(self.options)

    @kept
    def pairs(self) -> list[tuple[int, int]]:
        """The underlyings and the moneys that something settles in, coins held left out, by their numbers."""
        size = max(len(self.moneys), 1)
        keys: list[int] = np.unique((self.underlying * size + self.money)[self.kind != SPOT]).tolist()
        return [divmod(key, size) for key in keys]

    @kept
    def held(self) -> list[int]:
        """The numbers of the underlyings that have rows, lowest first."""
        numbers: list[int] = np.bincount(self.underlying).nonzero()[0].tolist()
        return numbers

    @kept
    def money_selector(self) -> Floats:
        """By row and money: 1 where the row settles in it, so that a product with it sums by money."""
        found: Floats = np.equal(self.money[:, None], np.arange(len(self.moneys))).astype(np.float64)
        return found

    @kept
    def place(self) -> Ints:
        """Each row's underlying as its place among those held."""
        found: Ints = np.searchsorted(np.array(self.held, dtype=np.int64), self.underlying)
        return found

    @kept
    def selector(self) -> Floats:
        """By row and underlying held: 1 where the row is of it, so that a product with it sums by underlying."""
        found: Floats = np.equal(self.place[:, None], np.arange(len(self.held))).astype(np.float64)
        return found

    @kept
    def sides(self) -> tuple[Floats, ...]:
        """What filling all orders to buy adds to each row, and all to sell; only where there are any."""
        return tuple(more for more in (self.buy_base, -self.sell_base) if more.any())

    @kept
    def inverse(self) -> Ints:
        """The rows of contracts sized in quote money: perpetuals and futures settled in their own coin."""
        coins = np.array([self.moneys.index(name) if name in self.moneys else -1 for name in self.underlyings])
        if not len(coins) or coins.max() < 0:
            return np.zeros(0, dtype=np.int64)
        return np.flatnonzero(self.is_linear & np.equal(self.money, coins[self.underlying]))

    def asset(self, row: int) -> str:
        """Return the coin a row of coins holds: what its id says, else its underlying."""
        number = row if self._numbers is None else int(self._numbers[row])
        return self._ids[number] or self.underlyings[int(self.underlying[row])]


def layout_of(book: RiskBook) -> Layout:
    """Return the layout of a book."""
    columns = {name: getattr(book, name) for name in FIXED}
    return Layout((book.underlyings, book.moneys), columns, book.instrument_ids)


class BookStack:
    """Copies of a book. `spot_px`, `mark_px`, `forward_px`, `tau_years` and `vol` have one line or one per copy.

    Times, vols and the like that do not move have one line at any number of markets. What cannot differ, kinds,
    strikes, names and open orders, is of all copies (`layout`); `qty_base` has a line per copy.
    """

    __slots__ = (*MOVED, "layout", "qty_base", "spot_px")
    mark_px: Floats
    forward_px: Floats
    tau_years: Floats
    vol: Floats

    def __init__(self, book: RiskBook, layout: Layout | None = None) -> None:
        """Take a book as the only copy; its layout, where that is known already, is not worked out again."""
        self.layout = layout_of(book) if layout is None else layout
        for name in MOVED:
            setattr(self, name, getattr(book, name)[None, :])
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

    def pair(self, underlying: int, money: int) -> BookStack:
        """Return the stack of what is of one underlying, coins held left out, and settles in one money."""
        return self.pick(*self.layout.pair(underlying, money))

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


class Grouping:
    """Which rows belong together, line by line: those alike in all keys, and in a number that may differ by line.

    Rows that are together in every line are put together first, in the order of the book. Where a line has more of
    them in one group (two expiries that are over in it), the first of these has what all of them have, and the others
    are empty: sums of nothing.
    """

    __slots__ = ("_alike", "_firsts", "_into", "_order", "_starts", "_to_first", "size")

    def __init__(self, keys: Sequence[Floats | Ints | Flags], lines: Floats) -> None:
        """Group rows by numbers that all lines share, sorted by the first of them, and by one of each line."""
        order = np.lexsort((*lines[::-1], *keys[::-1]))
        sorted_keys, in_order = [key[order] for key in keys], lines.take(order, axis=1)
        is_new = (in_order[:, 1:] != in_order[:, :-1]).any(axis=0)
        for key in sorted_keys:
            is_new |= key[1:] != key[:-1]
        self._order: Ints = order
        self._starts: Ints = _starts(is_new, len(order))
        self.size = len(self._starts)
        self._firsts: Ints = order[self._starts][None, :]
        self._alike: Flags | None = None
        if len(lines) == 1:
            return
        seconds = in_order.take(self._starts, axis=1)
        alike = seconds[:, :, None] == seconds[:, None, :]
        for key in sorted_keys:
            of_group = key[self._starts]
            alike &= of_group[:, None] == of_group
        if np.count_nonzero(alike) > alike[..., 0].size:  # more than each with itself
            self._alike = alike
            self._into: Ints = alike.argmax(axis=2)
            self._to_first: Floats = (self._into[:, :, None] == np.arange(self.size)).astype(np.float64)
            self._firsts = np.where(alike, self._firsts[:, None, :], len(order)).min(axis=2)

    def parts(self) -> list[tuple[slice | Ints, Ints, Ints, slice | Ints]]:
        """Return which lines have which rows one after the other, where in these groups begin, and which these are."""
        if self._alike is None:
            return [(slice(None), self._order, self._starts, slice(None))]
        label = np.repeat(np.arange(self.size), self._sizes)
        out: list[tuple[slice | Ints, Ints, Ints, slice | Ints]] = []
        patterns, which = np.unique(self._into, axis=0, return_inverse=True)
        for number, into in enumerate(patterns):
            labels = into[label]
            places = np.argsort(labels, kind="stable")
            groups, starts = np.unique(labels[places], return_index=True)
            out.append(((which.reshape(-1) == number).nonzero()[0], self._order[places], starts, groups))
        return out

    def key(self, values: Ints) -> Ints:
        """Return by group what all of its rows have in every line."""
        return values.take(self._order.take(self._starts))

    def first(self, values: Floats | Ints) -> Floats:
        """Return by line and group the number of its first row, of a line of numbers or of one per line."""
        lines = values if values.ndim > 1 else values[None, :]
        if self._alike is None:
            return lines.take(self._firsts[0], axis=1)  # type: ignore[return-value]
        found: Floats = np.take_along_axis(lines, self._firsts, axis=1)
        return found

    @property
    def count(self) -> Floats:
        """How many rows each group has, by line."""
        sizes = self._sizes[None, :].astype(np.float64)
        return sizes if self._alike is None else (sizes[:, None, :] @ self._to_first)[:, 0, :]

    def sum(self, values: Floats) -> Floats:
        """Return sums by group over the last axis of values by copy (the axis before) and row."""
        if not self.size:
            return np.zeros((*values.shape[:-1], 0))
        found: Floats = np.add.reduceat(values.take(self._order, axis=-1), self._starts, axis=-1)
        if self._alike is not None:
            found = np.matmul(found[..., None, :], self._to_first)[..., 0, :]
        return found

    def least(self, values: Floats) -> Floats:
        """Return the least of each group over the last axis of values by copy (the axis before) and row."""
        if not self.size:
            return np.zeros((*values.shape[:-1], 0))
        found: Floats = np.minimum.reduceat(values.take(self._order, axis=-1), self._starts, axis=-1)
        return found if self._alike is None else np.where(self._alike, found[..., None, :], np.inf).min(axis=-1)

    @property
    def _sizes(self) -> Ints:
        stops = np.append(self._starts[1:], len(self._order))
        return stops - self._starts


def _starts(is_new: Flags, rows: int) -> Ints:
    """Return where groups begin, of flags from the second row on."""
    if not rows:
        return np.zeros(0, dtype=np.int64)
    flags = np.ones(rows, dtype=bool)
    flags[1:] = is_new
    return flags.nonzero()[0]


def grouped(stack: BookStack, keys: Sequence[Floats | Ints | Flags], lines: Floats) -> Grouping:
    """Return the grouping of a stack's rows, kept with its layout: a book asked about again has the same expiries."""
    known = (*[key.tobytes() for key in keys], lines.tobytes())
    found = stack.layout.groupings.get(known)
    if found is None:
        found = stack.layout.groupings[known] = Grouping(keys, lines)
    return found


class StackGroups:
    """Rows of each underlying put together by expiry: `underlying` and `tau_years` by market and group.

    What never expires has 0 years. Where copies do not share their expiries (two of them are over in one), some groups
    of a line are empty.
    """

    __slots__ = ("grouping", "tau_years", "underlying")

    def __init__(self, stack: BookStack) -> None:
        """Group the rows."""
        tau = np.where(np.isfinite(stack.tau_years), np.maximum(stack.tau_years, 0.0), 0.0)
        self.grouping = grouped(stack, (stack.underlying,), tau)
        self.tau_years: Floats = self.grouping.first(tau)
        self.underlying: Ints = self.grouping.first(stack.underlying).astype(np.int64, copy=False)

    def sum(self, values: Floats) -> Floats:
        """Return sums by group over the last axis of values by copy (the axis before) and row."""
        return self.grouping.sum(values)


def are_alike(sets: Sequence[ScenarioSet]) -> bool:
    """Tell whether sets of scenarios differ in how far prices and vols move alone, so that one pass prices them all."""
    first = sets[0]
    return all(
        one is first
        or (
            np.array_equal(one.with_now_move_of, first.with_now_move_of)
            and np.array_equal(one.with_now_vol_of, first.with_now_vol_of)
        )
        for one in sets
    )


def alike_parts(stack: BookStack, sets: Sequence[ScenarioSet]) -> list[tuple[BookStack, list[int]]]:
    """Return parts of a stack that one pass prices each, and the places of their underlyings among those held.

    That is all of it where the scenarios of its underlyings are alike (one set for each), else one underlying each.
    """
    if not sets or are_alike(sets):
        return [(stack, list(range(len(sets))))] if sets else []
    return [(stack.of_underlying(number), [place]) for place, number in enumerate(stack.held)]


class StackValues:
    """What options of a stack are worth under scenarios, of which the P&L of any quantities is then a product.

    `values` are by scenario, the market itself last, by market, and by option; `options` are the rows they are of.
    `later` is what they are worth some years on at the same market, by market and option, where that is asked for.
    """

    __slots__ = ("_move", "later", "options", "stack", "values")

    def __init__(
        self,
        stack: BookStack,
        scenarios: ScenarioSet | Sequence[ScenarioSet],
        later_years: float | None = None,
        *,
        is_quick: bool = True,
    ) -> None:
        """Price all options, with chances from a table (`quick_ndtr`) if it is to be quick.

        There is one set of scenarios for all, or one for each underlying held; these must be alike.
        """
        sets = [scenarios] if isinstance(scenarios, ScenarioSet) else list(scenarios)
        first, layout, markets = sets[0], stack.layout, stack.markets
        size = len(first)
        self.stack = stack
        self._move: Floats = np.array([one.move for one in sets]).T if len(sets) > 1 else first.move[:, None]
        self.options: Ints = layout.options
        shape = (markets, len(self.options))
        if not len(self.options):
            self.values: Floats = np.zeros((size + 1, *shape))
            self.later: Floats = np.zeros(shape)
            return
        forward, tau, vol = (one.take(self.options, axis=1) for one in (stack.forward_px, stack.tau_years, stack.vol))
        if len(tau) != len(vol):
            tau, vol = np.broadcast_arrays(tau, vol)
        strike, is_call = layout.struck
        moves, move_of, vol_of = first.with_now_moves, first.with_now_move_of, first.with_now_vol_of
        vols = first.shocked_vols(vol.reshape(-1), tau.reshape(-1)).reshape(-1, *vol.shape)
        if len(sets) > 1:
            place = layout.place.take(self.options)
            moves = np.array([one.with_now_moves for one in sets]).T.take(place, axis=1)
            for number, one in enumerate(sets[1:], 1):
                own = (place == number).nonzero()[0]
                if own.size and (one.shock != first.shock or one.vols != first.vols):
                    some = vol.take(own, axis=1), tau.take(own, axis=1)
                    shocked = one.shocked_vols(some[0].reshape(-1), some[1].reshape(-1))
                    vols[:, :, own] = shocked.reshape(-1, *some[0].shape)
        if later_years is not None:  # a value knows of time and vol by their product alone
            left = np.maximum(tau - later_years, 0.0) / np.maximum(tau, LEAST_DEV)
            vols = np.concatenate([vols, (vols[-1] * np.sqrt(left))[None]])
            move_of, vol_of = np.append(move_of, len(moves) - 1), np.append(vol_of, len(vols) - 1)
        if markets > 1:
            strike, is_call = np.tile(strike, markets), np.tile(is_call, markets)
            if len(forward) == 1:
                forward = np.tile(forward, markets)
            if len(tau) == 1:
                tau, vols = np.tile(tau, markets), np.tile(vols, markets)
            if moves.ndim > 1:
                moves = np.tile(moves, markets)
        values = option_values(
            forward.reshape(-1),
            strike,
            tau.reshape(-1),
            is_call,
            moves,
            vols.reshape(len(vols), -1),
            move_of,
            vol_of,
            is_quick=is_quick,
        ).reshape(-1, *shape)
        self.values, self.later = values[: size + 1], values[-1]

    def pnl_quote(self) -> Floats:
        """Return what each copy wins or loses under each scenario of one set, before weights: by scenario and copy."""
        stack = self.stack
        won = self.option_pnl(stack.qty_base.take(self.options, axis=1))
        linear = stack.layout.others
        if linear.size:
            worth = (stack.qty_base.take(linear, axis=1) * stack.mark_px.take(linear, axis=1)).sum(axis=1)
            won += self._move * worth
        return won

    def pnl_by_underlying(self) -> Floats:
        """Return what each underlying held wins or loses: by underlying, scenario of its own, and copy."""
        stack = self.stack
        selector = stack.layout.selector
        held = selector.shape[1]
        qty, own = stack.qty_base.take(self.options, axis=1), selector.take(self.options, axis=0)
        won = self.option_pnl((own.T[:, None, :] * qty).reshape(held * len(stack), -1), held)
        out = won.reshape(len(self._move), held, len(stack)).transpose(1, 0, 2)
        linear = stack.layout.others
        if linear.size:
            worth = stack.qty_base.take(linear, axis=1) * stack.mark_px.take(linear, axis=1)
            out = out + self._move.T[:, :, None] * (worth @ selector.take(linear, axis=0)).T[:, None, :]
        return out

    def option_pnl(self, weight: Floats, times: int = 1) -> Floats:
        """Return by scenario and copy what options win or lose, each by its weight: a line per copy, `times` over."""
        if self.stack.markets == 1:
            worth = self.values[:, 0, :] @ weight.T
        else:
            copies = self.stack.markets
            lines = weight.reshape(times, copies, -1).transpose(1, 2, 0)
            worth = np.matmul(self.values.transpose(1, 0, 2), lines).transpose(1, 2, 0).reshape(-1, times * copies)
        won: Floats = worth[:-1] - worth[-1]
        return won

    def row_pnl_quote(self, scenarios: Ints) -> Floats:
        """Return what each row wins or loses under some scenarios: by scenario, copy and row of the stack."""
        stack = self.stack
        move = self._move[scenarios]
        of_row = move if move.shape[1] == 1 else move.take(stack.layout.place, axis=1)
        out: Floats = of_row[:, None, :] * (stack.qty_base * stack.mark_px)
        out[..., self.options] = (self.values[scenarios] - self.values[-1]) * stack.qty_base[:, self.options]
        return out


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
    out[:, rows] *= chance - ~is_call
    return out


def offset(values: Floats) -> Floats:
    """Return how much of one sign is offset by the other, along the last axis."""
    found: Floats = np.minimum(np.maximum(values, 0.0).sum(axis=-1), np.maximum(-values, 0.0).sum(axis=-1))
    return found


def by_copy(values: NDArray[Any], copies: int) -> list[Any]:
    """Return what there is per copy as plain numbers; what is the same in all is told as often as there are copies."""
    found: list[Any] = values.tolist()
    return found if len(found) == copies else found * copies
