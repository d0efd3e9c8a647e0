"""Aevo's standard margin: Deribit's twin for options, with 10 % of spot as maintenance; perpetuals by leverage.

Its portfolio margin parameters are not public as far as found; the house model stands in for it.
"""

from __future__ import annotations

import msgspec
import numpy as np

from bot.risk.book import RiskBook
from bot.risk.margin.short_options import ShortOptionRule, sold_option_margins
from bot.risk.margin.tables import Item, add_up_all, held_names, open_size_base, sums, terms_of
from bot.risk.requirement import Requirement
from bot.risk.stack import BookStack


class AevoTerms(msgspec.Struct, frozen=True):
    """Of one underlying: the rule of sold options, and the shares of notional that perpetuals ask."""

    options: ShortOptionRule
    initial_rate: float
    maintenance_rate: float


class AevoParameters(msgspec.Struct, frozen=True):
    """Terms by underlying; "*" for others."""

    underlyings: dict[str, AevoTerms]


def requirement(book: RiskBook, parameters: AevoParameters) -> Requirement:
    """Return what Aevo asks of an account's positions and open orders, in quote money."""
    return requirements(BookStack(book), parameters)[0]


def requirements(stack: BookStack, parameters: AevoParameters) -> list[Requirement]:
    """Return what Aevo asks of each copy of a stack, as `requirement` would of each by itself."""
    names = held_names(stack)
    terms = [terms_of(parameters.underlyings, name) for name in names]
    worth = stack.mark_px * stack.layout.is_linear
    opened, held = sums(stack, worth * open_size_base(stack)), sums(stack, worth * np.abs(stack.qty_base))
    could_be, sold = sold_option_margins(stack, [one.options for one in terms])
    items: list[Item] = []
    for place, (name, own) in enumerate(zip(names, terms, strict=True)):
        items.append((f"{name} perpetuals", own.initial_rate * opened[place], own.maintenance_rate * held[place]))
        items.append((f"{name} sold options", could_be[place], sold[place]))
    return add_up_all("aevo", len(stack), items)
