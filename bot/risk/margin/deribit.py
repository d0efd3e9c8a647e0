"""Deribit's standard margin (S:SM, X:SM): every position by itself, nothing nets.

Figures and formulas: doc.tslab.pro and Deribit's pages as third parties give them (docs/margin.md says what is sure).
In coin a sold call asks max(0.15 - out/S, 0.10) + mark, maintenance 0.075 + mark; here the same in quote money.
"""

from __future__ import annotations

import msgspec
import numpy as np

from bot.risk.book import RiskBook
from bot.risk.margin.short_options import ShortOptionRule, short_option_margins
from bot.risk.margin.tables import add_up, by_underlying, is_linear, open_size_base, terms_of
from bot.risk.requirement import Charge, Requirement


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
    charges: list[Charge] = []
    for name, part in by_underlying(book):
        terms = terms_of(parameters.underlyings, name)
        charges += (_linear(name, part, terms), _sold_options(name, part, terms), _option_orders(name, part))
    return add_up("deribit", charges)


def _linear(name: str, book: RiskBook, terms: DeribitTerms) -> Charge:
    part = book.where(is_linear(book))
    held, opened = np.abs(part.qty_base), open_size_base(part)
    at_most = part.mark_px * np.minimum(terms.initial_rate + terms.rate_per_base * opened, 1.0) * opened
    now = part.mark_px * np.minimum(terms.initial_rate + terms.rate_per_base * held, 1.0) * held
    return Charge(f"{name} futures", float(at_most.sum()), float(now.sum()) * terms.maintenance_of_initial)


def _sold_options(name: str, book: RiskBook, terms: DeribitTerms) -> Charge:
    part = book.where(book.is_option & (book.qty_base - book.sell_base < 0.0))
    initial, maintenance = short_option_margins(
        part.spot_of_row_px, part.strike_px, part.mark_px, part.is_call, terms.options
    )
    sold, could_be = np.maximum(-part.qty_base, 0.0), part.sell_base - part.qty_base
    return Charge(f"{name} sold options", float(initial @ could_be), float(maintenance @ sold))


def _option_orders(name: str, book: RiskBook) -> Charge:
    part = book.where(book.is_option & (book.buy_base > 0.0))
    return Charge(f"{name} options to buy", float(part.mark_px @ part.buy_base), 0.0)
