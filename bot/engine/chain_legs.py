"""Liquidity, tokens and debts of one underlying as a function of its price: value, delta, gamma.

Concentrated liquidity L between the prices a and b is worth V(P) = L(2√P − P/√b − √a) in between, all base below, all
quote above (Uniswap v3 whitepaper, section 6); its delta is the base it holds, its gamma −L/(2P^{3/2}) inside.
"""

from __future__ import annotations

from math import sqrt

import msgspec

from bot.domain.chain import LpPosition


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
            base, quote = _amounts(lp, px)
            value += (base + lp.owed_base) * px + quote + lp.owed_quote
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
        inside = sum(lp.liquidity for lp in self.lps if lp.low_px < px < lp.high_px)
        return -0.5 * inside / (px * sqrt(px)) if inside else 0.0

    def explain(self, start_px: float, px: float) -> ChainMoves:
        """Return what the move from `start_px` to `px` earned."""
        move_px = px - start_px
        delta = (self.qty_base - self.charged_base + self._lp_base(start_px)) * move_px
        gamma = 0.5 * self.gamma(start_px) * move_px**2
        return ChainMoves(delta, gamma, self.value_quote(px) - self.value_quote(start_px) - delta - gamma)

    def _lp_base(self, px: float) -> float:
        return sum(_amounts(lp, px)[0] + lp.owed_base for lp in self.lps)


def _amounts(lp: LpPosition, px: float) -> tuple[float, float]:
    """Return the base and the quote that the liquidity consists of at a price."""
    root, low, high = sqrt(px), sqrt(lp.low_px), sqrt(lp.high_px)
    if root <= low:
        return lp.liquidity * (high - low) / (low * high), 0.0
    if root >= high:
        return 0.0, lp.liquidity * (high - low)
    return lp.liquidity * (high - root) / (root * high), lp.liquidity * (root - low)
