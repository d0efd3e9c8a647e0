"""Figures by underlying, and by size, as venues publish them: "*" stands for whatever has no line of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, TypeVar

import msgspec
import numpy as np

from bot.risk.book import Flags, Floats
from bot.risk.requirement import Charge, Requirement
from bot.risk.stack import BookStack, by_copy

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


def held_names(stack: BookStack) -> list[str]:
    """Return the names of the underlyings that have positions, in the order of every sum by underlying."""
    return [stack.underlyings[number] for number in stack.held]


def sums(stack: BookStack, by_row: Floats) -> Floats:
    """Return by underlying held and copy the sums of numbers by copy, or one for all copies, and row."""
    found: Floats = (by_row @ stack.layout.selector).T
    return found


def open_size_base(stack: BookStack) -> Floats:
    """Return the larger side that positions and open orders could come to, unsigned."""
    if not stack.layout.sides:
        return np.abs(stack.qty_base)
    return np.maximum(np.abs(stack.qty_base + stack.buy_base), np.abs(stack.qty_base - stack.sell_base))


def tier_margins(notional_quote: Floats, tiers: Sequence[Tier]) -> tuple[Floats, Floats]:
    """Return initial and maintenance margin of each notional in its tier. Raises ValueError where there is no tier."""
    starts, initial_rate, maintenance_rate, deducted_quote = _columns(tuple(tiers))
    at = np.maximum(np.searchsorted(starts, notional_quote, side="left") - 1, 0)  # a tier's end belongs to it
    maintenance = maintenance_rate[at] * notional_quote
    return initial_rate[at] * notional_quote, np.maximum(maintenance - deducted_quote[at], 0.0)


@lru_cache(maxsize=256)
def _columns(tiers: tuple[Tier, ...]) -> tuple[Floats, Floats, Floats, Floats]:
    if not tiers or tiers[0].from_quote > 0.0:
        raise ValueError(f"expected margin tiers from 0 on, found {[tier.from_quote for tier in tiers]}")
    starts = np.array([tier.from_quote for tier in tiers])
    if np.any(np.diff(starts) <= 0.0):
        raise ValueError(f"expected margin tiers in rising order, found {starts.tolist()}")
    initial, maintenance = ([getattr(one, name) for one in tiers] for name in ("initial_rate", "maintenance_rate"))
    return starts, np.array(initial), np.array(maintenance), np.array([one.deducted_quote for one in tiers])


Item = tuple[str, Floats, Floats]
"""A charge of every copy of a stack: its name, and what it adds to initial and to maintenance margin, by copy."""


def add_up_all(model: str, copies: int, items: Iterable[Item]) -> list[Requirement]:
    """Return by copy the requirement that is the sum of its charges; an amount alike in all copies may be one."""
    columns = [(name, by_copy(first, copies), by_copy(later, copies)) for name, first, later in items]
    return [
        add_up(model, [Charge(name, first[copy], later[copy]) for name, first, later in columns])
        for copy in range(copies)
    ]


def add_up(model: str, charges: Iterable[Charge], money: str = QUOTE) -> Requirement:
    """Return a requirement that is the sum of its charges; those of nothing are left out."""
    kept = tuple([charge for charge in charges if charge.initial or charge.maintenance])
    initial, maintenance = sum([one.initial for one in kept]), sum([one.maintenance for one in kept])
    return Requirement(model, money, float(initial), float(maintenance), kept)


def refuse_options(model: str, is_option: Flags, qty_base: Floats, orders_base: Floats) -> None:
    """Raise ValueError where there are options: a venue that lists none has no margin for them, which is not none."""
    if not is_option.any():
        return
    held = is_option & np.any((np.atleast_2d(qty_base) != 0.0) | (orders_base != 0.0), axis=0)
    if held.any():
        raise ValueError(f"expected no options at {model}, which lists none, found {int(held.sum())}")
