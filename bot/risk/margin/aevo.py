"""Aevo's standard margin: Deribit's twin for options, with 10 % of spot as maintenance; perpetuals by leverage.

Its portfolio margin parameters are not public as far as found; the house model stands in for it.
"""

from __future__ import annotations

import msgspec
import numpy as np

from bot.risk.book import RiskBook
from bot.risk.margin.short_options import ShortOptionRule, short_option_margins
from bot.risk.margin.tables import add_up, by_underlying, is_linear, open_size_base, terms_of
from bot.risk.requirement import Charge, Requirement


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
    charges: list[Charge] = []
    for name, part in by_underlying(book):
        terms = terms_of(parameters.underlyings, name)
        linear = part.where(is_linear(part))
        charges.append(
            Charge(
                f"{name} perpetuals",
                terms.initial_rate * float(linear.mark_px @ open_size_base(linear)),
                terms.maintenance_rate * float(linear.mark_px @ np.abs(linear.qty_base)),
            )
        )
        sold = part.where(part.is_option & (part.qty_base - part.sell_base < 0.0))
        initial, maintenance = short_option_margins(
            sold.spot_of_row_px, sold.strike_px, sold.mark_px, sold.is_call, terms.options
        )
        could_be, is_sold = sold.sell_base - sold.qty_base, np.maximum(-sold.qty_base, 0.0)
        charges.append(Charge(f"{name} sold options", float(initial @ could_be), float(maintenance @ is_sold)))
    return add_up("aevo", charges)
