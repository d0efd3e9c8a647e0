"""Hyperliquid: cross margin of perpetuals by tier of leverage, and the ratio of its portfolio margin.

Formulas: Hyperliquid's documents, portfolio margin read in the original. Maintenance is half of what the greatest
leverage of the tier asks. Positions are liquidated in no order one could rely on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from bot.risk.book import RiskBook
from bot.risk.margin.tables import add_up, held_names, open_size_base, refuse_options, sums, terms_of
from bot.risk.requirement import Charge, Requirement
from bot.risk.stack import BookStack, by_copy


class LeverageTier(msgspec.Struct, frozen=True, gc=False):
    """From this notional on, at most this leverage."""

    from_quote: float
    max_leverage: float


class HyperliquidParameters(msgspec.Struct, frozen=True):
    """Tiers by coin ("*" for others), the leverage an account has chosen, and the terms of portfolio margin.

    Without a chosen leverage the greatest is meant. `resting_rate` is what an order adds beyond its margin.
    """

    tiers: dict[str, tuple[LeverageTier, ...]]
    resting_rate: float
    portfolio_offset_quote: float
    portfolio_liquidation_ratio: float
    leverage: dict[str, float] = {}


class PortfolioToken(msgspec.Struct, frozen=True, kw_only=True):
    """One token of an account in portfolio margin: amounts in units of the token, its price in quote money.

    A token with `ltv` above 0 is collateral for others, up to the supply cap; what others may borrow against it is at
    most the borrow cap, in units. `cross_maintenance_quote` is of the perpetuals that settle in it.
    """

    name: str
    balance: float
    px: float
    borrowed: float = 0.0
    ltv: float = 0.0
    is_borrowable: bool = False
    borrow_cap: float = math.inf
    supply_cap: float = math.inf
    cross_maintenance_quote: float = 0.0


def requirement(book: RiskBook, parameters: HyperliquidParameters) -> Requirement:
    """Return what cross margin asks of perpetuals and resting orders, in quote money (USDC counts as one)."""
    return requirements(BookStack(book), parameters)[0]


def requirements(stack: BookStack, parameters: HyperliquidParameters) -> list[Requirement]:
    """Return what cross margin asks of each copy of a stack, as `requirement` would of each by itself."""
    refuse_options("hyperliquid", stack.is_option, stack.qty_base, stack.buy_base + stack.sell_base)
    charges: list[list[Charge]] = [[] for _ in range(len(stack))]
    linear = stack.contracts()
    sizes = open_size_base(linear)
    orders = linear.buy_base + linear.sell_base
    quote = [sums(linear, linear.mark_px * size) for size in (np.abs(linear.qty_base), sizes, orders)]
    for place, name in enumerate(held_names(linear)):
        tiers = terms_of(parameters.tiers, name)
        most = tiers[0].max_leverage if tiers else 0.0
        chosen = parameters.leverage.get(name, most)
        if not 0.0 < chosen < math.inf:
            raise ValueError(f"expected a leverage above 0 of {name}, found {chosen:g}")
        columns = [by_copy(one[place], len(stack)) for one in quote]
        for own, held, opened, resting in zip(charges, *columns, strict=True):
            initial = max(opened / chosen, 2.0 * maintenance_quote(opened, tiers))
            own.append(Charge(f"{name} perpetuals", initial, maintenance_quote(held, tiers)))
            own.append(Charge(f"{name} resting orders", parameters.resting_rate * resting, 0.0))
    return [add_up("hyperliquid", own) for own in charges]


def maintenance_quote(notional_quote: float, tiers: tuple[LeverageTier, ...]) -> float:
    """Return the maintenance margin of a notional: each slice at half of what its tier's greatest leverage asks."""
    if not tiers or tiers[0].from_quote > 0.0 or not all(tier.max_leverage > 0.0 for tier in tiers):
        raise ValueError(f"expected leverage tiers from 0 on, found {len(tiers)} that are not")
    ends = [tier.from_quote for tier in tiers[1:]] + [math.inf]
    slices = (max(min(notional_quote, end) - tier.from_quote, 0.0) for tier, end in zip(tiers, ends, strict=True))
    return sum(part / (2.0 * tier.max_leverage) for part, tier in zip(slices, tiers, strict=True))


def updated(values: dict[str, Any], told: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the values of a parameter set with the tiers that Hyperliquid tells now, by coin.

    Raises ValueError where they make no tiers; coins that it does not tell of stay as they are.
    """
    tiers = {
        name: [
            {"from_quote": float(one["lowerBound"]), "max_leverage": float(one["maxLeverage"])}
            for one in sorted(lines, key=lambda one: float(one["lowerBound"]))
        ]
        for name, lines in told.items()
    }
    found = {**values, "tiers": {**values["tiers"], **tiers}}
    for lines in msgspec.convert(found, HyperliquidParameters).tiers.values():
        maintenance_quote(1.0, lines)
    return found


def portfolio_ratio(tokens: Iterable[PortfolioToken], parameters: HyperliquidParameters) -> float:
    """Return the ratio of an account in portfolio margin, liquidatable above `portfolio_liquidation_ratio` (0.95).

    The worst over borrowable tokens of (offset + cross maintenance + what is borrowed) over (balance + what the
    collateral lends, at most the borrow cap). Collateral lends value × (0.5 + 0.5 LTV), at most its supply cap.
    """
    held = tuple(tokens)
    worst = 0.0
    for one in held:
        if not one.is_borrowable:
            continue
        asked = parameters.portfolio_offset_quote + one.cross_maintenance_quote + one.borrowed * one.px
        lent = sum(
            min(max(other.balance, 0.0), other.supply_cap) * other.px * (0.5 + 0.5 * other.ltv)
            for other in held
            if other is not one and other.ltv > 0.0
        )
        worth = one.balance * one.px + min(one.borrow_cap * one.px, lent)
        worst = max(worst, asked / worth if worth > 0.0 else math.inf)
    return worst
