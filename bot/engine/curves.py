"""The cost curve of one hedge instrument and side, from its quote, its fee, its terms and what holding it costs.

A spot pair is measured from one mid for all of them, so that the cheaper one is cheaper; a perpetual or future from its
own, as what it trades above spot comes back: a future's by its expiry, a perpetual's as funding. What a venue shows
behind its best price is not quoted: as much again is taken to stand at every further spread, unless the vault says how
deep its book is (`HedgeSettings.depth`) or how an order moves its price (`HedgeSettings.impact_coefficient`).
"""

from __future__ import annotations

from math import inf, isfinite, sqrt

from bot.domain.decisions import HedgeTarget, HedgeView
from bot.domain.instruments import Future, Spot
from bot.domain.market import ExecutionTerms, Quote
from bot.domain.units import BPS, NS_PER_DAY, NS_PER_YEAR
from bot.engine.inclusion import fixed_cost_quote
from bot.engine.settings import HedgeSettings
from bot.pricing.costs import CostCurve, impact_root, with_carry

DAYS_PER_YEAR = NS_PER_YEAR / NS_PER_DAY
MAX_HOLDING_DAYS = 30.0  # further ahead neither funding nor basis is known
# Multiples of the size at the touch, and how many spreads beyond it the average unit up to there stands.
_BEHIND_TOUCH = ((1.0, 0.0), (2.0, 1.0), (4.0, 2.5), (8.0, 5.5), (16.0, 11.5), (32.0, 23.5))


def likely_days(view: HedgeView, target: HedgeTarget) -> float:
    """Return how long what is traded now will be held.

    Net delta wanders with |Γ|Sσ per root of a year; what is traded is needed until it has wandered as far back, and no
    longer than until the next option expires.
    """
    days = min(MAX_HOLDING_DAYS, view.tau_years * DAYS_PER_YEAR)
    pace_base = abs(view.greeks.gamma_base_per_px) * view.spot_px * view.vol
    if pace_base > 0.0 and isfinite(pace_base):
        if view.delta_high_base < target.low_base:
            traded_base = target.buy_to_base - view.delta_high_base
        else:
            traded_base = view.delta_low_base - target.sell_to_base
        reach_base = max(traded_base, 0.5 * (target.high_base - target.low_base))
        if reach_base < inf:
            days = min(days, (reach_base / pace_base) ** 2 * DAYS_PER_YEAR)
    return days


def own_mid_px(hedge: HedgeSettings, quote: Quote, spot_px: float) -> float:
    """Return the price a hedge's cost is measured from; `spot_px` is that of all its spot pairs."""
    if isinstance(hedge.instrument, Spot) and spot_px > 0.0:
        return spot_px
    return 0.5 * (quote.bid_px + quote.ask_px)


def hedge_curve(
    hedge: HedgeSettings,
    quote: Quote,
    terms: ExecutionTerms | None,
    *,
    is_buy: bool,
    mid_px: float,
    vol: float,
    lot_base: float,
    min_base: float,
    max_base: float,
) -> CostCurve:
    """Return what crossing costs beyond `mid_px`; `vol` is annualised and matters where the vault knows volumes."""
    instrument = hedge.instrument
    if is_buy:
        side, far_px, touch_base = 1.0, quote.ask_px, quote.ask_base
    else:
        side, far_px, touch_base = -1.0, quote.bid_px, quote.bid_base
    linear = side * (far_px - mid_px) + hedge.taker_bps * BPS * far_px
    fixed = root = depth_px = 0.0
    depth_base = inf
    steps: tuple[tuple[float, float], ...] = ()
    if terms is not None:
        fixed = fixed_cost_quote(terms)
        if isfinite(terms.depth_base):  # trading x costs x/depth beyond the quote
            depth_base, depth_px = (terms.depth_base if is_buy else -terms.depth_base), far_px
    elif hedge.impact_coefficient > 0.0 and hedge.daily_volume_base > 0.0:
        daily_vol = hedge.daily_vol_fraction or (vol / sqrt(DAYS_PER_YEAR) if isfinite(vol) else 0.0)
        root = impact_root(mid_px, hedge.impact_coefficient, daily_vol, hedge.daily_volume_base)
    if touch_base > 0.0 and max_base > touch_base and terms is None:
        if hedge.depth:
            steps = _walk(hedge.depth, far_px, touch_base)
        elif not root:
            spread_px = max(quote.ask_px - quote.bid_px, instrument.tick_schedule.tick_px)
            steps = tuple([(share * touch_base, spreads * spread_px) for share, spreads in _BEHIND_TOUCH])
    return CostCurve(
        label=instrument.instrument_id,
        fixed_quote=fixed,
        linear_quote_per_base=linear,
        steps=steps,
        root_coefficient=root,
        depth_base=depth_base,
        depth_px=depth_px,
        lot_base=lot_base,
        min_base=min_base,
        max_base=max_base,
    )


def _walk(depth: tuple[tuple[float, float], ...], far_px: float, touch_base: float) -> tuple[tuple[float, float], ...]:
    """Return the steps of a book whose depth behind the touch is known."""
    steps = [(touch_base, 0.0)]
    for distance, notional_quote in depth:
        steps.append((steps[-1][0] + notional_quote / far_px, distance * far_px))
    return tuple(steps)


def carried(
    curve: CostCurve,
    hedge: HedgeSettings,
    *,
    is_buy: bool,
    mid_px: float,
    index_px: float,
    held_base: float,
    days: float,
    paid_rate_per_day: float,
    now_ns: int,
    is_closing: bool = False,
) -> CostCurve:
    """Return the curve with what holding what is bought, or having sold it, costs for so many days.

    `paid_rate_per_day` is what a long has paid lately. Where the need `is_closing` what is held elsewhere, neither
    funding nor basis counts: either would open two positions against each other.
    """
    instrument = hedge.instrument
    basis_px, expiry_days = 0.0, inf
    if isinstance(instrument, Future):
        basis_px, expiry_days = mid_px - index_px, (instrument.expiry_ns - now_ns) / NS_PER_DAY
    funding = hedge.funding_rate_per_day if hedge.funding_rate_per_day is not None else paid_rate_per_day
    if is_closing:
        basis_px = funding = 0.0
    if not (basis_px or funding or hedge.borrow_rate_per_year):
        return curve
    return with_carry(
        curve,
        mid_px,
        days if hedge.holding_days is None else hedge.holding_days,
        is_buy=is_buy,
        funding_rate_per_day=funding,
        basis_px=basis_px,
        expiry_days=expiry_days,
        borrow_rate_per_year=hedge.borrow_rate_per_year,
        held_base=held_base,
    )
