"""Drift: weights of assets and debts that worsen with size, and perpetuals by the same rule.

Formulas: drift-labs/protocol-v2 (Apache-2.0), figures recomputed against its own tests. Sizes are in tokens; what
initial margin counts an asset for shrinks once the whole protocol holds more than `scale_start_quote` of it.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from bot.risk.book import SPOT, Floats, RiskBook
from bot.risk.margin.tables import add_up, by_underlying, is_linear, open_size_base, refuse_options, terms_of
from bot.risk.requirement import Charge, Requirement

_ASSET_LIMIT = 1.1  # of the program, not a figure of a market
_SHARE_KEPT = 0.8


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
    refuse_options("drift", book.is_option, book.qty_base, book.buy_base + book.sell_base)
    charges: list[Charge] = []
    for name, part in by_underlying(book):
        terms = terms_of(parameters.markets, name)
        linear = part.where(is_linear(part))
        opened, held = open_size_base(linear), np.abs(linear.qty_base)
        initial = worsened_weight(terms.initial_ratio, terms.perpetual_size_factor, opened)
        maintenance = worsened_weight(terms.maintenance_ratio, terms.perpetual_size_factor, held)
        charges.append(
            Charge(
                f"{name} perpetuals",
                float(np.sum(linear.mark_px * opened * initial)),
                float(np.sum(linear.mark_px * held * maintenance)),
            )
        )
        owed = part.where(np.equal(part.kind, SPOT) & (part.qty_base < 0.0))
        size, value = np.abs(owed.qty_base), np.abs(owed.qty_base) * owed.mark_px
        first = worsened_weight(terms.initial_debt_weight, terms.token_size_factor, size) - 1.0
        later = worsened_weight(terms.maintenance_debt_weight, terms.token_size_factor, size) - 1.0
        charges.append(Charge(f"{name} debt", float(value @ first), float(value @ later)))
    return add_up("drift", charges)


def asset_weight(weight: float, size_factor: float, size: float) -> float:
    """Return what a share of an asset counts for: min(weight, 1.1 / (1 + factor √size))."""
    return min(weight, _ASSET_LIMIT / (1.0 + size_factor * math.sqrt(size)))


def worsened_weight(weight: float, size_factor: float, size: Floats) -> Floats:
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
