"""One book many times over: at several markets, or with several quantities, so that one pass prices all of them.

A margin model that answers for a stack spends on ten moved books little more than on one, as at a few hundred
positions its time goes into the number of numpy calls. Arrays have a line per copy and a column per row of the book;
prices have a single line where they are the same in every copy, as when quantities alone differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeVar

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
        numbers = np.flatnonzero(is_of_it)
        found = self._parts[key] = (numbers, self if len(numbers) == len(self.kind) else self.where(numbers))
        return found

    @cached_property
    def is_option(self) -> Flags:
        """Which rows are options."""
        return np.equal(self.kind, OPTION)

    @cached_property
    def is_linear(self) -> Flags:
        """Which rows are perpetuals or futures."""
        found: Flags = np.equal(self.kind, PERPETUAL) | np.equal(self.kind, FUTURE)
        return found

    @cached_property
    def options(self) -> Ints:
        """The rows that are options."""
        return np.flatnonzero(self.is_option)

    @cached_property
    def others(self) -> Ints:
        """The rows that are no options."""
        return np.flatnonzero(~self.is_option)

    @cached_property
    def coins(self) -> list[int]:
        """The rows of coins held."""
        numbers: list[int] = np.flatnonzero(np.equal(self.kind, SPOT)).tolist()
        return numbers

    @cached_property
    def struck(self) -> tuple[Floats, Flags]:
        """Strikes of the options, and which of them are calls."""
        return self.strike_px.take(self.options), self.is_call.take(self.options)

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """The underlyings and the moneys that something settles in, coins held left out, by their numbers."""
        size = max(len(self.moneys), 1)
        keys: list[int] = np.unique((self.underlying * size + self.money)[self.kind != SPOT]).tolist()
        return [divmod(key, size) for key in keys]

    @cached_property
    def held(self) -> list[int]:
        """The numbers of the underlyings that have rows, lowest first."""
        numbers: list[int] = np.flatnonzero(np.bincount(self.underlying, minlength=len(self.underlyings))).tolist()
        return numbers

    @cached_property
    def money_selector(self) -> Floats:
        """By row and money: 1 where the row settles in it, so that a product with it sums by money."""
        found: Floats = np.equal(self.money[:, None], np.arange(len(self.moneys))).astype(np.float64)
        return found

    @cached_property
    def place(self) -> Ints:
        """Each row's underlying as its place among those held."""
        found: Ints = np.searchsorted(np.array(self.held, dtype=np.int64), self.underlying)
        return found

    @cached_property
    def selector(self) -> Floats:
        """By row and underlying held: 1 where the row is of it, so that a product with it sums by underlying."""
        found: Floats = np.equal(self.place[:, None], np.arange(len(self.held))).astype(np.float64)
        return found

    @cached_property
    def sides(self) -> tuple[Floats, ...]:
        """What filling all orders to buy adds to each row, and all to sell; only where there are any."""
        return tuple(more for more in (self.buy_base, -self.sell_base) if more.any())

    @cached_property
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
        return self._pick(numbers, self.layout.where(numbers))

    def of_underlying(self, underlying: int) -> BookStack:
        """Return the stack of the rows of one underlying, by its number."""
        return self._pick(*self.layout.of_underlying(underlying))

    def contracts(self) -> BookStack:
        """Return the stack of the perpetuals and futures."""
        return self._pick(*self.layout.contracts())

    def only_options(self) -> BookStack:
        """Return the stack of the options."""
        return self._pick(*self.layout.only_options())

    def pair(self, underlying: int, money: int) -> BookStack:
        """Return the stack of what is of one underlying, coins held left out, and settles in one money."""
        return self._pick(*self.layout.pair(underlying, money))

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

    def _pick(self, numbers: Ints, layout: Layout) -> BookStack:
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
    """Which rows belong together, line by line: those of one key, and in it of one second key, one after the other.

    Where lines do not agree on it (two expiries that are over in one of them), each has groups of its own, filled up
    with empty ones. Rows of a group are in the order of the book, so that sums never differ.
    """

    __slots__ = ("_firsts", "_orders", "_starts", "size")

    def __init__(self, key: Floats | Ints, lines: Floats) -> None:
        """Group rows by a number that all lines share, and by one of each line."""
        first = np.lexsort((lines[0], key))
        is_other = np.diff(key[first]) != 0
        steps = np.diff(lines.take(first, axis=1))
        is_new = (steps[0] > 0.0) | is_other
        if len(lines) == 1 or (((steps >= 0.0) | is_other).all() and (((steps > 0.0) | is_other) == is_new).all()):
            self._orders: list[Ints] = [first]
            self._starts: list[Ints] = [_starts(is_new, len(first))]
        else:
            self._orders = [np.lexsort((line, key)) for line in lines]
            self._starts = [
                _starts((np.diff(line[order]) > 0.0) | (np.diff(key[order]) != 0), len(order))
                for line, order in zip(lines, self._orders, strict=True)
            ]
        self._firsts = [order[starts] for order, starts in zip(self._orders, self._starts, strict=True)]
        self.size: int = max(map(len, self._starts))

    def parts(self) -> list[tuple[slice, Ints, Ints]]:
        """Return which lines, all or one, have which rows one after the other, and where in these groups begin."""
        if len(self._orders) == 1:
            return [(slice(None), self._orders[0], self._starts[0])]
        both = zip(self._orders, self._starts, strict=True)
        return [(slice(line, line + 1), order, starts) for line, (order, starts) in enumerate(both)]

    def first(self, values: Floats | Ints) -> Floats:
        """Return by line and group the number of its first row, of a line of numbers or of one per line; 0 if empty."""
        lines = values if values.ndim > 1 else values[None, :]
        if len(self._firsts) == 1:
            return lines.take(self._firsts[0], axis=1)  # type: ignore[return-value]
        out = np.zeros((len(self._firsts), self.size))
        for number, rows in enumerate(self._firsts):
            out[number, : len(rows)] = lines[number if len(lines) > 1 else 0, rows]
        return out

    @property
    def count(self) -> Ints:
        """How many rows each group has, by line."""
        out = np.zeros((len(self._orders), self.size), dtype=np.int64)
        for line, (order, starts) in enumerate(zip(self._orders, self._starts, strict=True)):
            out[line, : len(starts)] = np.diff(np.append(starts, len(order)))
        return out

    def sum(self, values: Floats) -> Floats:
        """Return sums by group over the last axis of values by copy (the axis before) and row."""
        return self._reduce(np.add, values)

    def least(self, values: Floats) -> Floats:
        """Return the least of each group over the last axis of values by copy (the axis before) and row."""
        return self._reduce(np.minimum, values)

    def _reduce(self, how: np.ufunc, values: Floats) -> Floats:
        if not values.shape[-1]:
            return np.zeros((*values.shape[:-1], 0))
        if len(self._orders) == 1:
            found: Floats = how.reduceat(values.take(self._orders[0], axis=-1), self._starts[0], axis=-1)
            return found
        out = np.zeros((*values.shape[:-2], len(self._orders), self.size))
        for copy, (order, starts) in enumerate(zip(self._orders, self._starts, strict=True)):
            line = values[..., copy if values.shape[-2] > 1 else 0, :]
            out[..., copy, : len(starts)] = how.reduceat(line.take(order, axis=-1), starts, axis=-1)
        return out


def _starts(is_new: Flags, rows: int) -> Ints:
    """Return where groups begin, of flags from the second row on."""
    return np.flatnonzero(np.append(True, is_new)) if rows else np.zeros(0, dtype=np.int64)


def grouped(stack: BookStack, key: Floats | Ints | Flags, lines: Floats) -> Grouping:
    """Return the grouping of a stack's rows, kept with its layout: a book asked about again has the same expiries."""
    known = (key.tobytes(), lines.tobytes())
    found = stack.layout.groupings.get(known)
    if found is None:
        numbers = key.astype(np.int64) if key.dtype == np.bool_ else key
        found = stack.layout.groupings[known] = Grouping(numbers, lines)  # type: ignore[arg-type]
    return found


class StackGroups:
    """Rows of each underlying put together by expiry: `underlying` and `tau_years` by market and group.

    What never expires has 0 years. Where copies do not share their expiries (two of them are over in one), lines are
    filled up with empty groups.
    """

    __slots__ = ("grouping", "tau_years", "underlying")

    def __init__(self, stack: BookStack) -> None:
        """Group the rows."""
        tau = np.where(np.isfinite(stack.tau_years), np.maximum(stack.tau_years, 0.0), 0.0)
        self.grouping = grouped(stack, stack.underlying, tau)
        self.tau_years: Floats = self.grouping.first(tau)
        self.underlying: Ints = self.grouping.first(stack.underlying).astype(np.int64, copy=False)

    def sum(self, values: Floats) -> Floats:
        """Return sums by group over the last axis of values by copy (the axis before) and row."""
        return self.grouping.sum(values)


class StackValues:
    """What options of a stack are worth under scenarios, of which the P&L of any quantities is then a product.

    `values` are by scenario, the market itself last, by market, and by option; `options` are the rows they are of.
    `later` is what they are worth some years on at the same market, by market and option, where that is asked for.
    """

    __slots__ = ("later", "options", "scenarios", "stack", "values")

    def __init__(
        self,
        stack: BookStack,
        scenarios: ScenarioSet,
        later_years: float | None = None,
        *,
        is_quick: bool = True,
    ) -> None:
        """Price all options, with chances from a table (`quick_ndtr`) if it is to be quick."""
        self.stack = stack
        self.scenarios = scenarios
        self.options: Ints = stack.layout.options
        shape = (stack.markets, len(self.options))
        if not len(self.options):
            self.values: Floats = np.zeros((len(scenarios) + 1, *shape))
            self.later: Floats = np.zeros(shape)
            return
        forward, tau, vol = (one.take(self.options, axis=1) for one in (stack.forward_px, stack.tau_years, stack.vol))
        if len(tau) != len(vol):
            tau, vol = np.broadcast_arrays(tau, vol)
        strike, is_call = stack.layout.struck
        flat_tau = tau.reshape(-1)
        vols, move_of, vol_of = (
            scenarios.shocked_vols(vol.reshape(-1), flat_tau),
            scenarios.with_now_move_of,
            scenarios.with_now_vol_of,
        )
        if later_years is not None:  # a value knows of time and vol by their product alone
            left = np.maximum(flat_tau - later_years, 0.0) / np.maximum(flat_tau, LEAST_DEV)
            vols = np.concatenate([vols, (vols[-1] * np.sqrt(left))[None, :]])
            move_of, vol_of = np.append(move_of, len(scenarios.moves)), np.append(vol_of, len(vols) - 1)
        if stack.markets > 1:
            strike, is_call = np.tile(strike, stack.markets), np.tile(is_call, stack.markets)
            if len(forward) == 1:
                forward = np.tile(forward, stack.markets)
            if len(tau) == 1:
                flat_tau, vols = np.tile(flat_tau, stack.markets), np.tile(vols, stack.markets)
        values = option_values(
            forward.reshape(-1),
            strike,
            flat_tau,
            is_call,
            scenarios.with_now_moves,
            vols,
            move_of,
            vol_of,
            is_quick=is_quick,
        ).reshape(-1, *shape)
        self.values, self.later = values[: len(scenarios) + 1], values[-1]

    def pnl_quote(self) -> Floats:
        """Return what each copy wins or loses under each scenario, before weights: by scenario and copy."""
        stack = self.stack
        won = self.option_pnl(stack.qty_base.take(self.options, axis=1))
        linear = stack.layout.others
        if linear.size:
            worth = (stack.qty_base.take(linear, axis=1) * stack.mark_px.take(linear, axis=1)).sum(axis=1)
            won += self.scenarios.move[:, None] * worth
        return won

    def pnl_by_underlying(self) -> Floats:
        """Return what each underlying held wins or loses under each scenario: by underlying, scenario and copy."""
        stack = self.stack
        selector = stack.layout.selector
        held = selector.shape[1]
        qty, own = stack.qty_base.take(self.options, axis=1), selector.take(self.options, axis=0)
        won = self.option_pnl((own.T[:, None, :] * qty).reshape(held * len(stack), -1), held)
        out = won.reshape(len(self.scenarios), held, len(stack)).transpose(1, 0, 2)
        linear = stack.layout.others
        if linear.size:
            worth = stack.qty_base.take(linear, axis=1) * stack.mark_px.take(linear, axis=1)
            out = out + self.scenarios.move[:, None] * (worth @ selector.take(linear, axis=0)).T[:, None, :]
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
        out: Floats = self.scenarios.move[scenarios, None, None] * (stack.qty_base * stack.mark_px)
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
