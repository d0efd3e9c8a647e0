"""What happens at a venue once a loss exceeds the loser's margin: fund, deleveraging, socialised loss.

For a book that is hedged, being deleveraged is the main danger: it takes the leg that wins. The rules are the venues'
own; thresholds are given by the caller, who has them from the venue or from a parameter set.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import msgspec


class PoolRule(msgspec.Struct, frozen=True, kw_only=True):
    """When a pool deleverages: balance gone, or a symbol's P&L fallen by a share of the pool's 8-hour maximum.

    Bybit's own (docs/v5/market/adl-alert): −30 %, stopped at −25 %.
    """

    trigger_ratio: float
    stop_ratio: float
    min_balance_quote: float = 0.0


class PoolState(msgspec.Struct, frozen=True):
    """Whether a pool deleverages, the drawdown that decides it, and how much is closed to be back at the trigger."""

    is_deleveraging: bool
    drawdown_ratio: float
    to_close_quote: float
    reason: str


def pool_state(
    balance_quote: float,
    high_balance_quote: float,
    pnl_quote: float,
    high_pnl_quote: float,
    rule: PoolRule,
    *,
    was_deleveraging: bool = False,
) -> PoolState:
    """Return the state of an insurance pool: ratio = (P&L − its 8-hour maximum) / the balance's 8-hour maximum.

    Once it runs it runs until the stop ratio. What is not known of a pool is no trigger; its balance alone can be.
    """
    if balance_quote <= 0.0:
        return PoolState(
            is_deleveraging=True,
            drawdown_ratio=-1.0,
            to_close_quote=0.0,
            reason=f"the pool is empty ({balance_quote:,.0f})",
        )
    known = all(isfinite(x) for x in (balance_quote, high_balance_quote, pnl_quote, high_pnl_quote))
    if not known or high_balance_quote <= 0.0:
        return PoolState(was_deleveraging, float("nan"), 0.0, "the pool's drawdown is not known")
    ratio = (pnl_quote - high_pnl_quote) / high_balance_quote
    limit = rule.stop_ratio if was_deleveraging else rule.trigger_ratio
    runs = ratio < limit if was_deleveraging else ratio <= limit
    runs = runs and balance_quote > rule.min_balance_quote
    to_close = max(0.0, (rule.trigger_ratio - ratio) * high_balance_quote) if runs else 0.0
    return PoolState(runs, ratio, to_close, f"drawdown {ratio:.1%}, limit {limit:.0%}")


def socialised_loss(shortfall_quote: float, fund_quote: float, our_gain_quote: float, all_gains_quote: float) -> float:
    """Return our part of what a fund cannot pay, shared among winners by what they won (Deribit's rule)."""
    beyond = max(0.0, shortfall_quote - max(0.0, fund_quote))
    if beyond == 0.0 or our_gain_quote <= 0.0:
        return 0.0
    return min(our_gain_quote, beyond * our_gain_quote / max(all_gains_quote, our_gain_quote))


def withdrawal_haircut(shortfall_quote: float, balance_quote: float) -> float:
    """Return the share withheld from withdrawals: shortfall / (balance + shortfall) (Paradex's rule)."""
    shortfall = max(0.0, shortfall_quote)
    return 0.0 if shortfall == 0.0 else shortfall / (max(0.0, balance_quote) + shortfall)


def deleverage_index(
    entry_px: float, mark_px: float, notional_quote: float, account_quote: float, *, is_long: bool
) -> float:
    """Return who is deleveraged first, the highest: (mark / entry) × (notional / account value), for a short inverted.

    As Hyperliquid describes it. An account without value is first.
    """
    if account_quote <= 0.0:
        return float("inf")
    gain = mark_px / entry_px if is_long else entry_px / mark_px
    return gain * notional_quote / account_quote


def rank_share(own: float, others: Sequence[float]) -> float:
    """Return where we stand in the queue by index, 1 first and 0 last; NaN without anybody to compare with."""
    if not others:
        return float("nan")
    return sum(other <= own for other in others) / len(others)
