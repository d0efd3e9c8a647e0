"""What is the same in all copies of a book, and what follows from it, worked out once for all questions about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np

from bot.risk.book import FUTURE, OPTION, PERPETUAL, SPOT, Flags, Floats, Ints, RiskBook
from bot.risk.grouping import Grouping

T = TypeVar("T")
KEPT = "layout of the book"
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
        self.expiries: dict[bytes, tuple[Grouping, Flags, Ints, Floats, Ints]] = {}  # of `stack.StackGroups`, by times

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

    def traded(self) -> tuple[Ints, Layout]:
        """Return the rows of all but coins held, and their layout."""
        found = self._parts.get("traded")
        return self._part("traded", np.not_equal(self.kind, SPOT)) if found is None else found

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
    def pair_selector(self) -> Floats:
        """By pair (see `pairs`) and row: 1 where the row is of it."""
        numbers = [underlying * len(self.moneys) + money for underlying, money in self.pairs]
        of_row = np.where(np.equal(self.kind, SPOT), -1, self.underlying * len(self.moneys) + self.money)
        found: Floats = np.equal(of_row, np.array(numbers, dtype=np.int64)[:, None]).astype(np.float64)
        return found

    @kept
    def held(self) -> list[int]:
        """The numbers of the underlyings that have rows, lowest first."""
        numbers: list[int] = np.bincount(self.underlying).nonzero()[0].tolist()
        return numbers

    @kept
    def money_selector(self) -> Floats:
        """By row and, for each underlying held, money: 1 where the row is of both, so that a product sums by both."""
        size = len(self.moneys)
        numbers = self.place * size + self.money
        found: Floats = np.equal(numbers[:, None], np.arange(len(self.held) * size)).astype(np.float64)
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
    """Return the layout of a book, worked out when it is first asked for."""
    found: Layout | None = book.__dict__.get(KEPT)
    if found is None:
        columns = {name: getattr(book, name) for name in FIXED}
        found = book.__dict__[KEPT] = Layout((book.underlyings, book.moneys), columns, book.instrument_ids)
    return found
