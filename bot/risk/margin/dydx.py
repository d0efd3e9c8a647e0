"""dYdX v4: margin fractions that rise with open interest, the price of liquidation, what its fund pays.

Formulas: dYdX's documentation (margin, governance, liquidation pages), recomputed against its worked examples.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from bot.risk.book import RiskBook
from bot.risk.margin.tables import add_up, by_underlying, is_linear, open_size_base, refuse_options, terms_of
from bot.risk.requirement import Charge, Requirement


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
    refuse_options("dydx", book.is_option, book.qty_base, book.buy_base + book.sell_base)
    charges: list[Charge] = []
    for name, part in by_underlying(book):
        linear = part.where(is_linear(part))
        if not len(linear):
            continue
        terms = terms_of(parameters.markets, name)
        fraction = effective_initial_fraction(
            terms.initial_fraction, terms.open_interest_quote, terms.lower_quote, terms.upper_quote
        )
        detail = "" if fraction == terms.initial_fraction else f"open interest raises {terms.initial_fraction:.2%}"
        initial = fraction * float(linear.mark_px @ open_size_base(linear))
        held = float(linear.mark_px @ np.abs(linear.qty_base))
        charges.append(Charge(f"{name} perpetuals", initial, terms.maintenance_fraction * held, detail))
    return add_up("dydx", charges)


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
