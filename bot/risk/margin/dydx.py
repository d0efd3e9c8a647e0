"""dYdX v4: margin fractions that rise with open interest, the price of liquidation, what its fund pays.

Formulas: dYdX's documentation (margin, governance, liquidation pages), recomputed against its worked examples.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from bot.risk.book import RiskBook
from bot.risk.margin.tables import add_up, held_names, open_size_base, refuse_options, sums, terms_of
from bot.risk.requirement import Charge, Requirement
from bot.risk.stack import BookStack, by_copy


class DydxTerms(msgspec.Struct, frozen=True):
    """Of one market: fractions of notional, and the open interest between whose bounds initial margin rises to all.

    `open_interest_quote` is the newest known; without bounds nothing rises.
    """

    initial_fraction: float
    maintenance_fraction: float
    lower_quote: float = math.inf
    upper_quote: float = math.inf
    open_interest_quote: float = 0.0


class DydxParameters(msgspec.Struct, frozen=True):
    """Terms by underlying; "*" for others."""

    markets: dict[str, DydxTerms]


def requirement(book: RiskBook, parameters: DydxParameters) -> Requirement:
    """Return what dYdX asks of an account's perpetuals and open orders, in quote money."""
    return requirements(BookStack(book), parameters)[0]


def requirements(stack: BookStack, parameters: DydxParameters) -> list[Requirement]:
    """Return what dYdX asks of each copy of a stack, as `requirement` would of each by itself."""
    refuse_options("dydx", stack.is_option, stack.qty_base, stack.buy_base + stack.sell_base)
    linear = stack.contracts()
    opened = sums(linear, linear.mark_px * open_size_base(linear))
    held = sums(linear, linear.mark_px * np.abs(linear.qty_base))
    charges: list[list[Charge]] = [[] for _ in range(len(stack))]
    for place, name in enumerate(held_names(linear)):
        terms = terms_of(parameters.markets, name)
        fraction = effective_initial_fraction(
            terms.initial_fraction, terms.open_interest_quote, terms.lower_quote, terms.upper_quote
        )
        detail = "" if fraction == terms.initial_fraction else f"open interest raises {terms.initial_fraction:.2%}"
        sizes = by_copy(opened[place], len(stack)), by_copy(held[place], len(stack))
        for own, size, now in zip(charges, *sizes, strict=True):
            own.append(Charge(f"{name} perpetuals", fraction * size, terms.maintenance_fraction * now, detail))
    return [add_up("dydx", own) for own in charges]


def effective_initial_fraction(base: float, open_interest: float, lower: float, upper: float) -> float:
    """Return the initial margin fraction: the base up to `lower`, and in a straight line to 1 at `upper`."""
    if open_interest <= lower:
        return base
    return min(base + (open_interest - lower) / (upper - lower) * (1.0 - base), 1.0) if upper > lower else 1.0


def liquidation_px(equity: float, size: float, px: float, maintenance_fraction: float, other: float) -> float:
    """Return the oracle price at which equity is what maintenance asks; `other` is asked by other markets.

    p' = (e - s p - other) / (|s| f - s). A price not above 0 means that it is never reached; NaN for no position.
    """
    slope = abs(size) * maintenance_fraction - size
    return (equity - size * px - other) / slope if slope else math.nan


def insurance_payment(deposit: float, size: float, entry_px: float, fill_px: float) -> float:
    """Return what the insurance fund pays where a position is closed at `fill_px`: what equity is then below 0."""
    return max(-(deposit + size * (fill_px - entry_px)), 0.0)
