"""What marks an option that nobody quotes now: its forward from the index and the basis, its vol from the surface.

A leg of the book takes such a forward only where fresh expiries before and after it tell the basis; else it is refused,
as it is without a vol close by (docs/decisions/0005-close-neighbours.md). An option that was bought as a hedge is
marked by the best there is, because what we chose ourselves must never stop the hedging of what is held; how old its
own quote is, is told. Must never mark anything that has a fresh quote.
"""

from __future__ import annotations

from math import isfinite, log

import numpy as np

from bot.domain.instruments import Option
from bot.domain.units import NS_PER_HOUR, NS_PER_MIN, tau_years
from bot.engine.market import ExpiryMarks, MarketState
from bot.pricing.fitted_surface import Surface

TELL_AFTER_NS = 30 * NS_PER_MIN  # without a quote of its own a hedge is then named in every decision and in the report
LAST_VOL_NS = NS_PER_HOUR  # for so long an option's own last vol beats another expiry's surface


def basis_between(market: MarketState, expiry: ExpiryMarks, now_ns: int, oldest_ns: int) -> float | None:
    """Return ln(forward/index) from the nearest fresh expiries before and after, None unless there are both.

    Linear in time: the carry between two expiries is one rate. Each counts with the index as it was when its forward
    came, so that what the index did since then is in neither.
    """
    before: ExpiryMarks | None = None
    after: ExpiryMarks | None = None
    for one in market.expiries:
        if one.underlying != expiry.underlying or one.forward_ns < oldest_ns or not one.forward_index_px:
            continue
        if now_ns < one.expiry_ns < expiry.expiry_ns and (before is None or one.expiry_ns > before.expiry_ns):
            before = one
        elif one.expiry_ns > expiry.expiry_ns and (after is None or one.expiry_ns < after.expiry_ns):
            after = one
    if before is None or after is None:
        return None
    share = (expiry.expiry_ns - before.expiry_ns) / (after.expiry_ns - before.expiry_ns)
    near, far = _basis(before), _basis(after)
    return near + share * (far - near)


def hedge_basis(market: MarketState, expiry: ExpiryMarks, now_ns: int, oldest_ns: int) -> float:
    """Return ln(forward/index) as well as it can be told: from the expiries around, else the last one of its own."""
    around = basis_between(market, expiry, now_ns, oldest_ns)
    if around is not None:
        return around
    if not (expiry.forward_ns and expiry.forward_index_px):
        return 0.0
    left_then_ns, left_ns = expiry.expiry_ns - expiry.forward_ns, max(0, expiry.expiry_ns - now_ns)
    return _basis(expiry) * (left_ns / left_then_ns if left_then_ns > 0 else 0.0)


def hedge_vol(
    market: MarketState, surface: Surface | None, option: Option, log_moneyness: float, now_ns: int
) -> float | None:
    """Return the vol of an option whose expiry has no fresh quotes close by; None only where none was ever known.

    Its own last one while that is young, else the surface of the other expiries, else its last one however old.
    """
    slot = market.slot_of[option.instrument_id]
    last_vol, last_ns = float(market.vol[slot]), int(market.vol_ns[slot])
    is_known = isfinite(last_vol) and last_ns > 0
    if is_known and now_ns - last_ns <= LAST_VOL_NS:
        return last_vol
    left_years = tau_years(now_ns, option.expiry_ns)
    if surface is not None and left_years > 0.0:
        return float(surface.vol(np.array([log_moneyness]), left_years)[0])
    if is_known:
        return last_vol
    slots = [slot for one in market.expiries if one.underlying == option.base for slot in one.slots]
    known = market.vol[slots][np.isfinite(market.vol[slots])]
    return float(np.median(known)) if len(known) else None


def tell_old_mark(option: Option, quoted_ns: int, now_ns: int, max_age_ns: int) -> str:
    """Say that an option hedge has had no quote of its own for too long, "" while it has not been that long."""
    tell_after_ns = max(TELL_AFTER_NS, max_age_ns)
    if now_ns >= option.expiry_ns:
        waiting_ns = now_ns - option.expiry_ns
        minutes = waiting_ns / NS_PER_MIN
        text = f"{option.instrument_id}, held as a hedge, has waited {minutes:.0f} min for its settlement price"
        return text if waiting_ns > tell_after_ns else ""
    if now_ns - quoted_ns <= tell_after_ns:
        return ""
    age = f"{(now_ns - quoted_ns) / NS_PER_MIN:.0f} min old" if quoted_ns else "missing"
    return f"{option.instrument_id}, held as a hedge, is marked by the surface: its own quote is {age}"


def _basis(expiry: ExpiryMarks) -> float:
    return log(expiry.forward_px / expiry.forward_index_px)
