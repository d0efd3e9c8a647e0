"""Binance: USD-M margin by tier, the ratio of portfolio margin (uniMMR) and what it leads to, options and loans.

Equity counts as min(value × rate, value): what is owed gets no haircut (Binance FAQ, read in the original). Portfolio
margin has no netting of its own: maintenance is the sum of its parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec
import numpy as np

from bot.risk.book import SPOT, Floats, RiskBook
from bot.risk.margin.short_options import ShortOptionRule, sold_option_margins
from bot.risk.margin.tables import (
    Item,
    Tier,
    add_up_all,
    held_names,
    open_size_base,
    sums,
    terms_of,
    tier_margins,
)
from bot.risk.requirement import Requirement
from bot.risk.stack import BookStack


class BinanceParameters(msgspec.Struct, frozen=True):
    """Tiers by underlying ("*" for others), the rule of sold options, and the shares that borrowed coins ask.

    The ratios are where uniMMR changes what an account may do: reminder, reduce-only, liquidation, claim.
    """

    tiers: dict[str, tuple[Tier, ...]]
    options: ShortOptionRule
    loan_initial_rate: float
    loan_maintenance_rate: float
    reminder_ratio: float
    reduce_only_ratio: float
    liquidation_ratio: float
    claim_ratio: float


class AccountState(StrEnum):
    """What uniMMR lets an account do."""

    FREE = "free"
    REMINDER = "reminder"
    REDUCE_ONLY = "reduce only"
    LIQUIDATION = "liquidation"
    CLAIM = "claim"


def requirement(book: RiskBook, parameters: BinanceParameters) -> Requirement:
    """Return what Binance asks of positions, open orders and borrowed coins (spot held short), in quote money.

    Every USD-M contract is in its tier by itself. Options are a check only: read the venue's own figures for them.
    """
    return requirements(BookStack(book), parameters)[0]


def requirements(stack: BookStack, parameters: BinanceParameters) -> list[Requirement]:
    """Return what Binance asks of each copy of a stack, as `requirement` would of each by itself."""
    names, nothing = held_names(stack), np.zeros(1)
    futures = _futures(stack, parameters)
    could_be, sold = sold_option_margins(stack, [parameters.options] * len(names))
    loans: Floats | None = None
    if stack.layout.coins:
        owed = np.where(np.equal(stack.kind, SPOT), np.maximum(-stack.qty_base, 0.0), 0.0)
        loans = sums(stack, owed * stack.mark_px)
    items: list[Item] = []
    for place, (name, number) in enumerate(zip(names, stack.held, strict=True)):
        items.append((f"{name} futures", *futures.get(number, (nothing, nothing))))
        items.append((f"{name} sold options", could_be[place], sold[place]))
        if loans is not None:
            loan = loans[place]
            asked = parameters.loan_initial_rate * loan, parameters.loan_maintenance_rate * loan
            items.append((f"{name} loan", *asked))
    return add_up_all("binance", len(stack), items)


def _futures(stack: BookStack, parameters: BinanceParameters) -> dict[int, tuple[Floats, Floats]]:
    """Return initial and maintenance margin of contracts by the number of their underlying, and copy."""
    linear = stack.contracts()
    found: dict[int, tuple[Floats, Floats]] = {}
    for number in linear.held:
        part, tiers = linear.of_underlying(number), terms_of(parameters.tiers, linear.underlyings[number])
        initial, maintenance = tier_margins(part.mark_px * np.abs(part.qty_base), tiers)
        if part.layout.sides:
            initial, _ = tier_margins(part.mark_px * open_size_base(part), tiers)
        found[number] = initial.sum(axis=1), maintenance.sum(axis=1)
    return found


def updated(values: dict[str, Any], told: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the values of a parameter set with the brackets that Binance tells now, by underlying.

    Raises ValueError where brackets make no tiers; underlyings that it does not tell of stay as they are.
    """
    tiers = {
        name: [
            {
                "from_quote": float(one["notionalFloor"]),
                "maintenance_rate": float(one["maintMarginRatio"]),
                "initial_rate": 1.0 / float(one["initialLeverage"]),
                "deducted_quote": float(one["cum"]),
            }
            for one in sorted(brackets, key=lambda one: float(one["notionalFloor"]))
        ]
        for name, brackets in told.items()
    }
    found = {**values, "tiers": {**values["tiers"], **tiers}}
    for name, lines in msgspec.convert(found, BinanceParameters).tiers.items():
        _, maintenance = tier_margins(np.array([tier.from_quote for tier in lines]), lines)
        if not np.all(np.isfinite(maintenance)) or any(tier.maintenance_rate <= 0.0 for tier in lines):
            raise ValueError(
                f"expected maintenance rates above 0 of {name}, found {[t.maintenance_rate for t in lines]}"
            )
    return found


def adjusted_equity(values: Iterable[tuple[float, float]]) -> float:
    """Return what pairs of (value in quote money, collateral rate) count for: assets with their rate, debts whole."""
    return sum(min(value * rate, value) for value, rate in values)


def uni_mmr(values: Iterable[tuple[float, float]], maintenance_quote: float) -> float:
    """Return adjusted equity over maintenance margin; infinite where nothing is asked and nothing owed."""
    equity = adjusted_equity(values)
    if maintenance_quote > 0.0:
        return equity / maintenance_quote
    return math.inf if equity >= 0.0 else -math.inf


def account_state(ratio: float, parameters: BinanceParameters) -> AccountState:
    """Return what a uniMMR lets the account do; one that is not a number is read as the worst."""
    if not ratio > parameters.claim_ratio:
        return AccountState.CLAIM
    if ratio <= parameters.liquidation_ratio:
        return AccountState.LIQUIDATION
    if ratio <= parameters.reduce_only_ratio:
        return AccountState.REDUCE_ONLY
    return AccountState.REMINDER if ratio <= parameters.reminder_ratio else AccountState.FREE
