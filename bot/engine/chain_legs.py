"""Liquidity, tokens and debts of one underlying as a function of its price: value, delta, gamma.

Concentrated liquidity is valued by `bot.pricing.lp` at the underlying's own price; fees it is owed are coin and money.
"""

from __future__ import annotations

import msgspec

from bot.domain.chain import LpPosition
from bot.pricing.lp import delta_base, gamma_base_per_px, value_quote


class ChainMoves(msgspec.Struct, frozen=True, gc=False):
    """What a price move earned: by the delta and by the gamma at its start, and the rest."""

    delta: float
    gamma: float
    rest: float


class ChainLegs(msgspec.Struct, frozen=True):
    """What one underlying's book holds on chains.

    `qty_base` are tokens less debts, of whose value that of `charged_base` is not counted on; `money_quote` is money.
    """

    lps: tuple[LpPosition, ...] = ()
    qty_base: float = 0.0
    charged_base: float = 0.0
    money_quote: float = 0.0

    def value_quote(self, px: float) -> float:
        """Return what it is worth at this price, in quote money, charges taken off."""
        if px <= 0.0:
            return self.money_quote
        value = self.money_quote + (self.qty_base - self.charged_base) * px
        for lp in self.lps:
            value += value_quote(lp.liquidity, lp.low_px, lp.high_px, px) + lp.owed_base * px + lp.owed_quote
        return value

    def delta_base(self, px: float) -> float:
        """Return the USD delta: all that moves with the price, what is charged for getting out of it included."""
        if px <= 0.0:
            return self.qty_base
        return self.qty_base + self._lp_base(px)

    def gamma(self, px: float) -> float:
        """Return the gamma in base units per price: below zero in the range of liquidity, none outside."""
        if px <= 0.0:
            return 0.0
        return sum(gamma_base_per_px(lp.liquidity, lp.low_px, lp.high_px, px) for lp in self.lps)

    def explain(self, start_px: float, px: float) -> ChainMoves:
        """Return what the move from `start_px` to `px` earned."""
        move_px = px - start_px
        delta = (self.qty_base - self.charged_base + self._lp_base(start_px)) * move_px
        gamma = 0.5 * self.gamma(start_px) * move_px**2
        return ChainMoves(delta, gamma, self.value_quote(px) - self.value_quote(start_px) - delta - gamma)

    def _lp_base(self, px: float) -> float:
        return sum(delta_base(lp.liquidity, lp.low_px, lp.high_px, px) + lp.owed_base for lp in self.lps)
