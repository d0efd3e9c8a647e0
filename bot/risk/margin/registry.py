"""Which margin models there are, by name: the type of their parameters and the function that answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from bot.risk.book import OPTION, RiskBook
from bot.risk.gaps import find_fault
from bot.risk.margin import (
    aevo,
    binance,
    bybit,
    deribit,
    deribit_portfolio,
    derive_pmrm,
    derive_pmrm2,
    derive_standard,
    drift,
    dydx,
    house,
    hyperliquid,
    okx,
    paradex,
    span,
)
from bot.risk.requirement import Charge, Requirement
from bot.risk.stack import BookStack

__all__ = [
    "MODELS",
    "Model",
    "answer_all",
    "assume_worst",
    "decode_values",
    "evaluate",
    "evaluate_or_assume",
    "find_fault",
]


class Model(msgspec.Struct, frozen=True):
    """A margin model: what its parameters are decoded into, and what answers `requirement(book, parameters)`.

    `requirements` answers the same for all copies of a stack in one pass.
    """

    parameters: type[msgspec.Struct]
    requirement: Callable[..., Requirement]
    requirements: Callable[[BookStack, Any], list[Requirement]]


MODELS: dict[str, Model] = {
    "aevo": Model(aevo.AevoParameters, aevo.requirement, aevo.requirements),
    "binance": Model(binance.BinanceParameters, binance.requirement, binance.requirements),
    "bybit": Model(bybit.BybitParameters, bybit.requirement, bybit.requirements),
    "deribit": Model(deribit.DeribitParameters, deribit.requirement, deribit.requirements),
    "deribit_portfolio": Model(
        deribit_portfolio.DeribitPortfolioParameters, deribit_portfolio.requirement, deribit_portfolio.requirements
    ),
    "drift": Model(drift.DriftParameters, drift.requirement, drift.requirements),
    "dydx": Model(dydx.DydxParameters, dydx.requirement, dydx.requirements),
    "derive_pmrm": Model(derive_pmrm.PmrmParameters, derive_pmrm.requirement, derive_pmrm.requirements),
    "derive_pmrm2": Model(derive_pmrm2.Pmrm2Parameters, derive_pmrm2.requirement, derive_pmrm2.requirements),
    "derive_standard": Model(
        derive_standard.StandardParameters, derive_standard.requirement, derive_standard.requirements
    ),
    "house": Model(house.HouseParameters, house.requirement, house.requirements),
    "paradex_cross": Model(paradex.CrossParameters, paradex.cross_requirement, paradex.cross_requirements),
    "paradex_portfolio": Model(
        paradex.PortfolioParameters, paradex.portfolio_requirement, paradex.portfolio_requirements
    ),
    "span": Model(span.SpanParameters, span.requirement, span.requirements),
    "hyperliquid": Model(hyperliquid.HyperliquidParameters, hyperliquid.requirement, hyperliquid.requirements),
    "okx": Model(okx.OkxParameters, okx.requirement, okx.requirements),
}


def decode_values(model: str, values: dict[str, Any]) -> msgspec.Struct:
    """Return the parameters of a model from the values of a parameter set.

    Raises ValueError for a model that is not known, and for values that are missing or wrong, naming the first.
    """
    if model not in MODELS:
        raise ValueError(f"expected one of the margin models {', '.join(sorted(MODELS))}, found {model!r}")
    try:
        found: msgspec.Struct = msgspec.convert(values, MODELS[model].parameters, strict=True)
    except msgspec.ValidationError as error:
        raise ValueError(f"expected parameters of margin model {model}, found {error}") from None
    return found


def evaluate(model: str, book: RiskBook, values: dict[str, Any]) -> Requirement:
    """Return what the model asks for the book. Raises ValueError for wrong values and for a book with gaps."""
    parameters = decode_values(model, values)
    fault = find_fault(book)
    if fault:
        raise ValueError(fault)
    return MODELS[model].requirement(book, parameters)


def answer_all(model: str, stack: BookStack, parameters: msgspec.Struct) -> list[Requirement]:
    """Return what the model asks for each copy of a stack, in one pass.

    Raises ValueError where the model cannot answer for one of them.
    """
    return MODELS[model].requirements(stack, parameters)


def evaluate_or_assume(model: str, book: RiskBook, values: dict[str, Any]) -> Requirement:
    """Return what the model asks for, or where it cannot answer all that could be lost (`assume_worst`), with why."""
    try:
        return evaluate(model, book, values)
    except ValueError as error:
        return assume_worst(book, str(error))


def assume_worst(book: RiskBook, why: str) -> Requirement:
    """Return the requirement that needs no parameters: every position's whole value, short options their spot too.

    A sold put counts its strike, the most it can lose, where that is more; an option is sold as soon as an order could
    sell it. What has no usable price counts at its underlying's spot; without that either it counts as infinite, and
    so does a row of which the quantity or what is on order is no number.
    """
    spot = book.spot_of_row_px
    mark = np.where(np.isfinite(book.mark_px) & (book.mark_px > 0.0), book.mark_px, spot)
    orders = np.abs(book.buy_base) + np.abs(book.sell_base)
    qty = np.abs(book.qty_base) + orders
    qty = np.where(np.isfinite(qty), qty, np.inf)
    is_short = (book.kind == OPTION) & ~(book.qty_base - np.abs(book.sell_base) >= 0.0)
    most_px = np.where(book.is_call | ~(book.strike_px > spot), spot, book.strike_px)
    per_base = mark + np.where(is_short, most_px, 0.0)
    per_base = np.where(np.isfinite(per_base), per_base, np.inf)
    total = float(np.sum(np.where(qty > 0.0, qty, 1.0) * np.where(qty > 0.0, per_base, 0.0)))
    return Requirement("assumed", "quote", total, total, (Charge("whole value", total, total, why),))
