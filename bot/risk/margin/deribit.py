"""Deribit's standard margin (S:SM, X:SM): every position by itself, nothing nets.

Figures and formulas: doc.tslab.pro and Deribit's pages as third parties give them (docs/margin.md says what is sure).
In coin a sold call asks max(0.15 - out/S, 0.10) + mark, maintenance 0.075 + mark; here the same in quote money.
"""

from __future__ import annotations

import msgspec
import numpy as np

from bot.risk.book import Floats, RiskBook
from bot.risk.margin.short_options import ShortOptionRule, sold_option_margins
from bot.risk.margin.tables import Item, add_up_all, held_names, open_size_base, sums, terms_of
from bot.risk.requirement import Requirement
from bot.risk.stack import BookStack


class DeribitTerms(msgspec.Struct, frozen=True):
    """Of one underlying: the rule of sold options, and what perpetuals and futures ask.

    Initial margin is `initial_rate` and `rate_per_base` more for every unit of base, at most all of the notional;
    maintenance is the share `maintenance_of_initial` of it.
    """

    options: ShortOptionRule
    initial_rate: float
    rate_per_base: float
    maintenance_of_initial: float


class DeribitParameters(msgspec.Struct, frozen=True):
    """Terms by underlying; "*" for others."""

    underlyings: dict[str, DeribitTerms]


def requirement(book: RiskBook, parameters: DeribitParameters) -> Requirement:
    """Return what standard margin asks of an account's positions and open orders, in quote money.

    Bought options ask nothing; orders to buy them ask their price.
    """
    return requirements(BookStack(book), parameters)[0]


def requirements(stack: BookStack, parameters: DeribitParameters) -> list[Requirement]:
    """Return what standard margin asks of each copy of a stack, as `requirement` would of each by itself."""
    names = held_names(stack)
    terms = [terms_of(parameters.underlyings, name) for name in names]
    opened = sums(stack, _linear_quote(stack, open_size_base(stack), terms))
    held = sums(stack, _linear_quote(stack, np.abs(stack.qty_base), terms))
    could_be, sold = sold_option_margins(stack, [one.options for one in terms])
    ordered: Floats | None = None
    if stack.buy_base.any():  # orders to buy options ask their price
        ordered = sums(stack, stack.mark_px * np.where(stack.is_option, stack.buy_base, 0.0))
    items: list[Item] = []
    for place, (name, own) in enumerate(zip(names, terms, strict=True)):
        items.append((f"{name} futures", opened[place], held[place] * own.maintenance_of_initial))
        items.append((f"{name} sold options", could_be[place], sold[place]))
        if ordered is not None:
            items.append((f"{name} options to buy", ordered[place], np.zeros(1)))
    return add_up_all("deribit", len(stack), items)


def _linear_quote(stack: BookStack, size_base: Floats, terms: list[DeribitTerms]) -> Floats:
    """Return what contracts of that size ask initially, by copy and row; nothing for what is none."""
    rate, per_base = np.array([(one.initial_rate, one.rate_per_base) for one in terms]).reshape(-1, 2).T
    place, size = stack.layout.place, size_base * stack.layout.is_linear
    found: Floats = stack.mark_px * np.minimum(rate[place] + per_base[place] * size, 1.0) * size
    return found
