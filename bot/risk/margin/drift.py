"""Drift: weights of assets and debts that worsen with size, and perpetuals by the same rule.

Formulas: drift-labs/protocol-v2 (Apache-2.0), figures recomputed against its own tests. Sizes are in tokens; what
initial margin counts an asset for shrinks once the whole protocol holds more than `scale_start_quote` of it.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from bot.risk.book import SPOT, Floats, RiskBook
from bot.risk.margin.tables import Item, add_up_all, held_names, open_size_base, refuse_options, sums, terms_of
from bot.risk.requirement import Requirement
from bot.risk.stack import BookStack

_ASSET_LIMIT = 1.1  # of the program, not a figure of a market
_SHARE_KEPT = 0.8
RATES = (
    *("initial_ratio", "maintenance_ratio", "perpetual_size_factor"),
    *("initial_debt_weight", "maintenance_debt_weight", "token_size_factor"),
)


class DriftTerms(msgspec.Struct, frozen=True):
    """Of one market: margin ratios of its perpetual, weights of its token, and how fast size worsens both.

    `deposits_quote` is what all users hold of the token, as newest known.
    """

    initial_ratio: float
    maintenance_ratio: float
    perpetual_size_factor: float = 0.0
    initial_asset_weight: float = 0.0
    maintenance_asset_weight: float = 0.0
    initial_debt_weight: float = 1.0
    maintenance_debt_weight: float = 1.0
    token_size_factor: float = 0.0
    scale_start_quote: float = math.inf
    deposits_quote: float = 0.0


class DriftParameters(msgspec.Struct, frozen=True):
    """Terms by underlying; "*" for others."""

    markets: dict[str, DriftTerms]


def requirement(book: RiskBook, parameters: DriftParameters) -> Requirement:
    """Return what Drift asks of perpetuals and borrowed tokens (spot held short), in quote money.

    A debt asks its weight beyond 1: the debt itself is in equity already.
    """
    return requirements(BookStack(book), parameters)[0]


def requirements(stack: BookStack, parameters: DriftParameters) -> list[Requirement]:
    """Return what Drift asks of each copy of a stack, as `requirement` would of each by itself."""
    refuse_options("drift", stack.is_option, stack.qty_base, stack.buy_base + stack.sell_base)
    names, place = held_names(stack), stack.layout.place
    columns = np.array([[getattr(terms_of(parameters.markets, name), one) for one in RATES] for name in names])
    initial, maintenance, factor, first, later, token_factor = columns.reshape(-1, len(RATES)).T[:, place]
    opened, held = open_size_base(stack), np.abs(stack.qty_base)
    worth, is_linear = stack.mark_px, stack.layout.is_linear
    most = sums(stack, worth * opened * worsened_weight(initial, factor, opened) * is_linear)
    now = sums(stack, worth * held * worsened_weight(maintenance, factor, held) * is_linear)
    items: list[Item] = [(f"{name} perpetuals", most[at], now[at]) for at, name in enumerate(names)]
    if stack.layout.coins:
        owed = np.where(np.equal(stack.kind, SPOT), np.maximum(-stack.qty_base, 0.0), 0.0)
        debts = [
            sums(stack, worth * owed * (worsened_weight(weight, token_factor, owed) - 1.0)) for weight in (first, later)
        ]
        items += [(f"{name} debt", debts[0][at], debts[1][at]) for at, name in enumerate(names)]
        items = [one for at in range(len(names)) for one in items[at :: len(names)]]  # those of a market together
    return add_up_all("drift", len(stack), items)


def asset_weight(weight: float, size_factor: float, size: float) -> float:
    """Return what a share of an asset counts for: min(weight, 1.1 / (1 + factor √size))."""
    return min(weight, _ASSET_LIMIT / (1.0 + size_factor * math.sqrt(size)))


def worsened_weight(weight: float | Floats, size_factor: float | Floats, size: Floats) -> Floats:
    """Return what a debt, or a perpetual's margin ratio, counts for: max(weight, 0.8 weight + factor √size)."""
    return np.maximum(weight, _SHARE_KEPT * weight + size_factor * np.sqrt(size))


def scaled_initial_weight(weight: float, deposits_quote: float, start_quote: float) -> float:
    """Return an asset's initial weight once all users together hold `deposits_quote` of it."""
    return weight * min(1.0, start_quote / deposits_quote) if deposits_quote > 0.0 else weight


def collateral_weight(terms: DriftTerms, size: float) -> tuple[float, float]:
    """Return what one unit of a token's value counts for as collateral: initially, and for maintenance."""
    scaled = scaled_initial_weight(terms.initial_asset_weight, terms.deposits_quote, terms.scale_start_quote)
    return (
        asset_weight(scaled, terms.token_size_factor, size),
        asset_weight(terms.maintenance_asset_weight, terms.token_size_factor, size),
    )
