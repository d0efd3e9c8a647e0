"""From a band to lots: how much to trade so that every possible net delta is served and none is overshot."""

from __future__ import annotations

from math import ceil, inf, isfinite

from bot.domain.decisions import HedgeTarget


def widen(target: HedgeTarget, multiple: float) -> HedgeTarget:
    """Return a policy's target with a band so many times as wide about the same centre, and likewise where trades end.

    The centre is where both sides trade to, if that is one point, else the middle of the band. A band without an edge
    on one side, or on both, stays as it is.
    """
    edges = (target.low_base, target.high_base, target.buy_to_base, target.sell_to_base)
    if multiple == 1.0 or not all(isfinite(one) for one in edges):
        return target
    centre = target.buy_to_base
    if target.buy_to_base != target.sell_to_base:
        centre = 0.5 * (target.low_base + target.high_base)
    low, high, buy_to, sell_to = (centre + multiple * (one - centre) for one in edges)
    return HedgeTarget(
        low,
        high,
        buy_to,
        sell_to,
        target.urgency,
        f"{target.reason}; × {multiple:g} by asset class",
        target.options,
    )


def lots_to_trade(target: HedgeTarget, delta_low_base: float, delta_high_base: float, lot_base: float) -> int:
    """Return the signed lots that bring the net delta back into the band, 0 if it may be inside.

    While the outcome of an order is unknown the net delta is an interval, and only what both ends agree on is traded.
    The amount is rounded up to a lot, so that the band is really entered, and never past the far edge; in a band too
    narrow for that it is rounded to the lot that ends nearest to where the policy trades to.
    """
    if delta_high_base < target.low_base:
        return _round(target.buy_to_base - delta_high_base, target.high_base - delta_high_base, lot_base)
    if delta_low_base > target.high_base:
        return -_round(delta_low_base - target.sell_to_base, delta_low_base - target.low_base, lot_base)
    return 0


def shrinks(lots: int, lot_base: float, delta_low_base: float, delta_high_base: float, target_base: float) -> bool:
    """Tell whether trading `lots` shrinks |net delta − target| at both ends of the interval."""
    trade_base = lots * lot_base
    return all(
        abs(end + trade_base - target_base) < abs(end - target_base) for end in (delta_low_base, delta_high_base)
    )


def is_inside_after(
    lots: int, lot_base: float, target: HedgeTarget, delta_low_base: float, delta_high_base: float
) -> bool:
    """Tell whether trading `lots` leaves every possible net delta short of the band's far edge."""
    slack_base = 1e-9 * lot_base
    if lots > 0:
        return delta_high_base + lots * lot_base <= target.high_base + slack_base
    return delta_low_base + lots * lot_base >= target.low_base - slack_base


def _round(wanted_base: float, most_base: float, lot_base: float) -> int:
    """Round up unless that is past the far edge; then to the nearest, half a lot down or it is traded to and fro."""
    lots = ceil(wanted_base / lot_base - 1e-9)
    if most_base < inf and lots * lot_base > most_base:
        lots = ceil(wanted_base / lot_base - 0.5 - 1e-9)
    return lots
