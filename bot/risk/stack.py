"""One book many times over: at several markets, or with several quantities, so that one pass prices all of them.

A margin model that answers for a stack spends on ten moved books little more than on one, as at a few hundred
positions its time goes into the number of numpy calls. Arrays have a line per copy and a column per row of the book;
prices have a single line where they are the same in every copy, as when quantities alone differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import numpy as np
from scipy.special import ndtr

from bot.risk.book import FUTURE, OPTION, PERPETUAL, Flags, Floats, Ints, RiskBook
from bot.risk.repricing import LEAST_DEV, option_values
from bot.risk.scenarios import ScenarioSet

T = TypeVar("T")
MOVED = ("mark_px", "forward_px", "tau_years", "vol")
FIXED = ("kind", "underlying", "money", "strike_px", "is_call", "buy_base", "sell_base")


class BookStack:
    """Copies of a book. `spot_px`, `mark_px`, `forward_px`, `tau_years` and `vol` have one line or one per copy.

    What cannot differ, kinds, strikes, names and open orders, is of all copies; `qty_base` has a line per copy.
    """

    __slots__ = (*FIXED, *MOVED, "moneys", "qty_base", "spot_px", "underlyings")
    kind: Ints
    underlying: Ints
    money: Ints
    strike_px: Floats
    is_call: Flags
    buy_base: Floats
    sell_base: Floats
    mark_px: Floats
    forward_px: Floats
    tau_years: Floats
    vol: Floats

    def __init__(self, book: RiskBook) -> None:
        """Take a book as the only copy."""
        self.underlyings = book.underlyings
        self.moneys = book.moneys
        for name in FIXED:
            setattr(self, name, getattr(book, name))
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
    def is_option(self) -> Flags:
        """Which rows are options."""
        return np.equal(self.kind, OPTION)

    @property
    def spot_of_row_px(self) -> Floats:
        """The spot price of each row's underlying, a line per market."""
        return self.spot_px[:, self.underlying]

    @property
    def held(self) -> list[int]:
        """The numbers of the underlyings that have rows, lowest first."""
        numbers: list[int] = np.flatnonzero(np.bincount(self.underlying, minlength=len(self.underlyings))).tolist()
        return numbers

    def where(self, rows: Flags | Ints) -> BookStack:
        """Return the stack of these rows alone; names and spot prices stay as they are."""
        numbers = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        if rows.dtype == np.bool_ and len(numbers) == len(self.kind):
            return self
        out = self._like()
        for name in FIXED:
            setattr(out, name, getattr(self, name)[numbers])
        for name in (*MOVED, "qty_base"):
            setattr(out, name, getattr(self, name)[:, numbers])
        return out

    def at(self, spot_px: Floats, **columns: Floats) -> BookStack:
        """Return as many copies at these markets: spot prices and every other price that moves, a line each."""
        out = self._like()
        out.spot_px = spot_px
        for name in MOVED:
            lines = columns.get(name)
            setattr(out, name, np.repeat(getattr(self, name)[:1], len(spot_px), axis=0) if lines is None else lines)
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
        """Return the line of prices that a copy has."""
        return copy if self.markets > 1 else 0

    def book(self, copy: int, like: RiskBook) -> RiskBook:
        """Return one copy as a book; `like` has the names of its rows."""
        market = self.market_of(copy)
        columns = {name: getattr(self, name)[market] for name in MOVED}
        return msgspec.structs.replace(like, spot_px=self.spot_px[market], qty_base=self.qty_base[copy], **columns)

    def _like(self) -> BookStack:
        out = BookStack.__new__(BookStack)
        for name in BookStack.__slots__:
            setattr(out, name, getattr(self, name))
        return out


def inverse_rows(book: RiskBook) -> Ints:
    """Return the rows of contracts that are sized in quote money: perpetuals and futures settled in their own coin."""
    coins = np.array([book.moneys.index(name) if name in book.moneys else -1 for name in book.underlyings])
    if not len(coins) or coins.max() < 0:
        return np.zeros(0, dtype=np.int64)
    is_linear = np.equal(book.kind, PERPETUAL) | np.equal(book.kind, FUTURE)
    return np.flatnonzero(is_linear & np.equal(book.money, coins[book.underlying]))


def sized_in_quote(stack: BookStack, book: RiskBook) -> BookStack:
    """Return the stack of a book at other prices with its inverse contracts worth as much quote money as before.

    Their number of base units is notional over price: where the price falls margin and delta are on more of them.
    """
    rows = inverse_rows(book)
    if not rows.size:
        return stack
    before, now = book.mark_px[rows], stack.mark_px[:, rows]
    factor = np.divide(before, now, out=np.ones_like(now), where=now > 0.0)
    qty = stack.qty_base.copy()
    qty[:, rows] *= factor
    return stack.with_qty(qty)


def ask_with_orders(stack: BookStack, ask: Callable[[BookStack], Sequence[T]]) -> tuple[Sequence[T], list[Sequence[T]]]:
    """Return the answers for each copy, and with all orders to buy done and all to sell, where there are any."""
    sides = [stack.qty_base + more for more in (stack.buy_base, -stack.sell_base) if more.any()]
    if not sides or stack.markets > 1:
        return ask(stack), [ask(stack.with_qty(side)) for side in sides]
    found = ask(stack.with_qty(np.concatenate([stack.qty_base, *sides])))
    size = len(stack)
    return found[:size], [found[start : start + size] for start in range(size, len(found), size)]


class StackGroups:
    """Rows of one underlying put together by expiry; `tau_years` by market and group, 0.0 for what never expires.

    Where copies do not share their expiries (two of them are over in one), lines are filled up with empty groups.
    """

    __slots__ = ("_orders", "_starts", "tau_years")

    def __init__(self, stack: BookStack) -> None:
        """Group the rows; the order within a group is that of the book."""
        tau = np.where(np.isfinite(stack.tau_years), np.maximum(stack.tau_years, 0.0), 0.0)
        order = np.argsort(tau[0], kind="stable")
        steps = np.diff(tau[:, order])
        is_shared = stack.markets == 1 or ((steps >= 0.0).all() and ((steps > 0.0) == (steps[0] > 0.0)).all())
        if is_shared:
            self._orders: list[Ints] = [order]
            self._starts: list[Ints] = [np.flatnonzero(np.append(True, steps[0] > 0.0))]
            self.tau_years: Floats = tau[:, order[self._starts[0]]]
            return
        self._orders = [np.argsort(line, kind="stable") for line in tau]
        self._starts = [
            np.flatnonzero(np.append(True, np.diff(line[order]) > 0.0))
            for line, order in zip(tau, self._orders, strict=True)
        ]
        self.tau_years = np.zeros((len(tau), max(map(len, self._starts))))
        for market, (line, one, starts) in enumerate(zip(tau, self._orders, self._starts, strict=True)):
            self.tau_years[market, : len(starts)] = line[one[starts]]

    def sum(self, values: Floats) -> Floats:
        """Return sums by group over the last axis of values by copy (the axis before) and row."""
        if len(self._orders) == 1:
            summed: Floats = np.add.reduceat(values[..., self._orders[0]], self._starts[0], axis=-1)
            return summed
        out = np.zeros((*values.shape[:-1], self.tau_years.shape[1]))
        for copy, (order, starts) in enumerate(zip(self._orders, self._starts, strict=True)):
            out[..., copy, : len(starts)] = np.add.reduceat(values[..., copy, order], starts, axis=-1)
        return out


class StackValues:
    """What options of a stack are worth under scenarios, of which the P&L of any quantities is then a product.

    `values` are by scenario, the market itself last, by market, and by option; `options` are the rows they are of.
    `later` is what they are worth some years on at the same market, by market and option, where that is asked for.
    """

    __slots__ = ("later", "options", "scenarios", "stack", "values")

    def __init__(self, stack: BookStack, scenarios: ScenarioSet, later_years: float | None = None) -> None:
        """Price all options."""
        self.stack = stack
        self.scenarios = scenarios
        self.options: Ints = np.flatnonzero(stack.is_option)
        shape = (stack.markets, len(self.options))
        if not len(self.options):
            self.values: Floats = np.zeros((len(scenarios) + 1, *shape))
            self.later: Floats = np.zeros(shape)
            return
        forward, tau, vol = (one[:, self.options].reshape(-1) for one in (stack.forward_px, stack.tau_years, stack.vol))
        strike, is_call = stack.strike_px[self.options], stack.is_call[self.options]
        if stack.markets > 1:
            strike, is_call = np.tile(strike, stack.markets), np.tile(is_call, stack.markets)
        vols, move_of, vol_of = scenarios.shocked_vols(vol, tau), scenarios.with_now_move_of, scenarios.with_now_vol_of
        if later_years is not None:  # a value knows of time and vol by their product alone
            left = np.maximum(tau - later_years, 0.0) / np.maximum(tau, LEAST_DEV)
            vols = np.concatenate([vols, (vol * np.sqrt(left))[None, :]])
            move_of, vol_of = np.append(move_of, len(scenarios.moves)), np.append(vol_of, len(vols) - 1)
        values = option_values(
            forward, strike, tau, is_call, scenarios.with_now_moves, vols, move_of, vol_of, is_quick=True
        ).reshape(-1, *shape)
        self.values, self.later = values[: len(scenarios) + 1], values[-1]

    def pnl_quote(self) -> Floats:
        """Return what each copy wins or loses under each scenario, before weights: by scenario and copy."""
        stack = self.stack
        won = self.option_pnl(stack.qty_base[:, self.options])
        linear = np.flatnonzero(stack.kind != OPTION)
        if linear.size:
            won += self.scenarios.move[:, None] * (stack.qty_base[:, linear] * stack.mark_px[:, linear]).sum(axis=1)
        return won

    def option_pnl(self, weight: Floats) -> Floats:
        """Return by scenario and copy what options win or lose, each by its weight: a line per copy."""
        if self.stack.markets == 1:
            worth = self.values[:, 0, :] @ weight.T
        else:
            worth = np.matmul(self.values.transpose(1, 0, 2), weight[:, :, None])[:, :, 0].T
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
    rows = np.flatnonzero(stack.is_option)
    if not rows.size:
        return stack.qty_base
    out = stack.qty_base.copy()
    dev = np.maximum(stack.vol[:, rows] * np.sqrt(np.maximum(stack.tau_years[:, rows], 0.0)), LEAST_DEV)
    chance = ndtr(np.log(stack.forward_px[:, rows] / stack.strike_px[rows]) / dev + 0.5 * dev)
    out[:, rows] *= np.where(stack.is_call[rows], chance, chance - 1.0)
    return out


def by_copy(values: Floats, copies: int) -> list[float]:
    """Return a number per copy as floats; one that is the same in all is told as often as there are copies."""
    found: list[float] = values.tolist()
    return found if len(found) == copies else found * copies
