"""Figures by underlying, and by size, as venues publish them: "*" stands for whatever has no line of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

import msgspec
import numpy as np

from bot.risk.book import FUTURE, PERPETUAL, Flags, Floats, RiskBook
from bot.risk.requirement import Charge, Requirement

T = TypeVar("T")
QUOTE: Final = "quote"
ANY: Final = "*"


class Tier(msgspec.Struct, frozen=True, gc=False):
    """From notional `from_quote` on: maintenance and initial margin as shares of notional, less a fixed amount.

    `deducted_quote` makes maintenance continuous where a tier begins (Binance calls it cum); it is not taken off
    initial margin.
    """

    from_quote: float
    maintenance_rate: float
    initial_rate: float
    deducted_quote: float = 0.0


def terms_of(table: Mapping[str, T], name: str) -> T:
    """Return the line of that name, else that of "*". Raises ValueError where there is neither."""
    found = table.get(name, table.get(ANY))
    if found is None:
        known = ", ".join(sorted(table)) or "none"
        raise ValueError(f"expected margin parameters of {name}, found those of {known}; hint: a line {ANY} serves all")
    return found


def by_underlying(book: RiskBook) -> Iterator[tuple[str, RiskBook]]:
    """Yield each underlying that has positions, with the positions in it."""
    for number in np.unique(book.underlying).tolist():
        yield book.underlyings[number], book.where(np.equal(book.underlying, number))


def is_linear(book: RiskBook) -> Flags:
    """Tell which rows are perpetuals or futures."""
    found: Flags = np.equal(book.kind, PERPETUAL) | np.equal(book.kind, FUTURE)
    return found


def open_size_base(book: RiskBook) -> Floats:
    """Return the larger side that positions and open orders could come to, unsigned."""
    return np.maximum(np.abs(book.qty_base + book.buy_base), np.abs(book.qty_base - book.sell_base))


def tier_margins(notional_quote: Floats, tiers: Sequence[Tier]) -> tuple[Floats, Floats]:
    """Return initial and maintenance margin of each notional in its tier. Raises ValueError where there is no tier."""
    if not tiers or tiers[0].from_quote > 0.0:
        raise ValueError(f"expected margin tiers from 0 on, found {[tier.from_quote for tier in tiers]}")
    starts = np.array([tier.from_quote for tier in tiers])
    if np.any(np.diff(starts) <= 0.0):
        raise ValueError(f"expected margin tiers in rising order, found {starts.tolist()}")
    at = np.maximum(np.searchsorted(starts, notional_quote, side="left") - 1, 0)  # a tier's end belongs to it
    initial = np.array([tier.initial_rate for tier in tiers])[at] * notional_quote
    maintenance = np.array([tier.maintenance_rate for tier in tiers])[at] * notional_quote
    return initial, np.maximum(maintenance - np.array([tier.deducted_quote for tier in tiers])[at], 0.0)


def add_up(model: str, charges: Iterable[Charge], money: str = QUOTE) -> Requirement:
    """Return a requirement that is the sum of its charges; those of nothing are left out."""
    kept = tuple(charge for charge in charges if charge.initial or charge.maintenance)
    initial, maintenance = sum(one.initial for one in kept), sum(one.maintenance for one in kept)
    return Requirement(model, money, float(initial), float(maintenance), kept)


def refuse_options(model: str, is_option: Flags, qty_base: Floats, orders_base: Floats) -> None:
    """Raise ValueError where there are options: a venue that lists none has no margin for them, which is not none."""
    held = is_option & np.any((np.atleast_2d(qty_base) != 0.0) | (orders_base != 0.0), axis=0)
    if held.any():
        raise ValueError(f"expected no options at {model}, which lists none, found {int(held.sum())}")


def order_sides(book: RiskBook) -> tuple[RiskBook, ...]:
    """Return the book with all orders to buy done, and with all orders to sell done, where there are any."""
    sides = (book.qty_base + book.buy_base, book.qty_base - book.sell_base)
    return tuple(msgspec.structs.replace(book, qty_base=qty) for qty in sides if not np.array_equal(qty, book.qty_base))
