"""Fitting SVI slices to the quotes of one expiry, and mending those whose prices could be arbitraged.

For a given place and width of the bend, (m, s), w is linear in three numbers: with y = (k - m)/s and z = sqrt(y² + 1),
w = a + p (z + y) + q (z - y), where Lee's bound and a rising pair of wings are the box 0 <= p, q <= s. So the fit is an
exact small quadratic programme for every (m, s) of a grid, all solved at once, and the grid closes in on the best.
Errors are of vol, in half-spreads. There are no starting values, and no local minimum to be caught in but that of (m,
s).

Source: Zeliade Systems, Quasi-explicit calibration of Gatheral's SVI model (2009), with the box in place of its
triangle; the penalised fit is Gatheral and Jacquier's (Quant. Finance 14, 2014, section 5.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import exp, log, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from bot.pricing.svi import (
    MAX_WING_SLOPE,
    RawSvi,
    from_jump_wings,
    least_density,
    least_gap,
    safe_wings,
    to_jump_wings,
)

Floats = NDArray[np.float64]

MIN_HALF_VOL: Final = 0.0025  # a narrower quote is not believed to be better than this
UNQUOTED_HALF_VOL: Final = 0.1  # a mark nobody quotes a side of
_STEEPEST: Final = 0.499 * MAX_WING_SLOPE  # of p and q over s: a wing at Lee's bound itself has density 0
_LEAST_SHARE: Final = 1e-3  # lowest variance, as a share of the lowest quoted one
_ROUNDS: Final = 5
_FIRST_POINTS: Final = 11
_POINTS: Final = 7
_MARGIN: Final = 1e-5  # density and gap are asked to be above zero by this before they count as mended
_PENALTY: Final = 30.0
_BISECTIONS: Final = 30


@dataclass(frozen=True, slots=True, eq=False)
class SmileQuotes:
    """The quoted vols of one expiry by strictly rising ln(K/F): the mark, and both sides (0 where there is none).

    Raises ValueError unless the arrays are of one length, finite and in order, and the marks positive.
    """

    tau_years: float
    log_moneyness: Floats
    vol: Floats
    bid_vol: Floats
    ask_vol: Floats

    def __post_init__(self) -> None:
        if not 0.0 < self.tau_years < np.inf:
            raise ValueError(f"expected a positive tau_years, found {self.tau_years}; hint: leave out expired options")
        k = self.log_moneyness
        if k.ndim != 1 or not k.size or not k.shape == self.vol.shape == self.bid_vol.shape == self.ask_vol.shape:
            raise ValueError(
                f"expected four flat arrays of one length, not empty, found {k.shape}, {self.vol.shape}, "
                f"{self.bid_vol.shape} and {self.ask_vol.shape}; hint: 0 where a side has no quote"
            )
        if not (np.isfinite(k).all() and (np.diff(k) > 0.0).all()):
            raise ValueError(f"expected finite, strictly rising log_moneyness, found {k}; hint: one quote a strike")
        if not ((self.vol > 0.0) & (self.vol < np.inf)).all():
            raise ValueError(f"expected positive vols, found {self.vol}; hint: leave out strikes without a mark")

    @property
    def is_two_sided(self) -> NDArray[np.bool_]:
        """Which strikes have a bid and an ask."""
        return (self.bid_vol > 0.0) & (self.ask_vol > 0.0)

    @property
    def half_vol(self) -> Floats:
        """How far off a mark may be: half the spread; with one side twice the way to it; else a guess."""
        side = np.where(self.bid_vol > 0.0, self.bid_vol, self.ask_vol)
        one_sided = np.where(side > 0.0, np.maximum(2.0 * np.abs(side - self.vol), 0.02), UNQUOTED_HALF_VOL)
        half = np.where(self.is_two_sided, 0.5 * (self.ask_vol - self.bid_vol), np.minimum(one_sided, 0.1))
        return np.maximum(half, MIN_HALF_VOL)


def fit_slice(quotes: SmileQuotes, far: RawSvi | None = None) -> RawSvi:
    """Return the slice that is nearest to the quotes within Lee's bound, whether it can be arbitraged or not.

    With `far`, no wing is steeper than that one's, so that the two do not cross far out; they may still cross nearby.
    """
    most_up, most_down = _most_slopes(far)
    k = quotes.log_moneyness
    w = quotes.vol**2 * quotes.tau_years
    weights = 1.0 / (2.0 * quotes.vol * quotes.tau_years * quotes.half_vol) ** 2  # dw = 2 vol tau dvol
    weights = weights / weights.sum()
    span = max(float(k[-1] - k[0]), 2.0 * sqrt(float(np.median(w))))
    middle = 0.5 * float(k[0] + k[-1])
    floor = _LEAST_SHARE * float(w.min())
    m_low, m_high = middle - 0.7 * span, middle + 0.7 * span
    log_low, log_high = log(0.01 * span), log(3.0 * span)
    points = _FIRST_POINTS
    best = RawSvi(float(w.mean()), 0.0, 0.0, middle, span)
    for _ in range(_ROUNDS):
        m, s = np.meshgrid(np.linspace(m_low, m_high, points), np.exp(np.linspace(log_low, log_high, points)))
        best = _best_of(k, w, weights, floor, m.ravel(), s.ravel(), (most_up, most_down))
        m_step, log_step = (m_high - m_low) / (points - 1), (log_high - log_low) / (points - 1)
        m_low, m_high = best.m - 1.2 * m_step, best.m + 1.2 * m_step
        log_low, log_high = log(best.s) - 1.2 * log_step, log(best.s) + 1.2 * log_step
        points = _POINTS
    return best


def mend(quotes: SmileQuotes, svi: RawSvi, far: RawSvi | None = None) -> RawSvi | None:
    """Return a slice near `svi` and the quotes with no butterfly, nowhere above the later expiry `far`; None if none.

    First the fit again with wings that do not cross; then with what it breaks as a penalty; what is still broken of the
    butterfly is closed by going from there towards Gatheral and Jacquier's safe slice just as far as needed, what is
    left of the calendar by lowering it.
    """
    safe = _safe_slice(svi, quotes.tau_years)
    capped = svi if far is None else fit_slice(quotes, far)
    if is_free(capped, far):
        return capped
    starts = [capped] if safe is None else [capped, safe]
    found: RawSvi | None = None
    cost = np.inf
    for start in starts:
        refitted = _refit(quotes, start, far)
        for one in (refitted, _lowered(refitted, far), _towards_safe(refitted, quotes.tau_years)):
            if one is not None and is_free(one, far):
                error = _error(quotes, one)
                if error < cost:
                    found, cost = one, error
                break
    if found is None and safe is not None and is_free(safe, far):
        return safe
    return found


def is_free(svi: RawSvi, far: RawSvi | None = None) -> bool:
    """Tell whether the slice has no butterfly and is nowhere above the expiry after it."""
    return least_density(svi).value >= 0.0 and (far is None or least_gap(svi, far).value >= 0.0)


def vol_errors(quotes: SmileQuotes, svi: RawSvi) -> Floats:
    """Return fitted less quoted vol of every strike."""
    return np.sqrt(svi.total_variance(quotes.log_moneyness) / quotes.tau_years) - quotes.vol


def _error(quotes: SmileQuotes, svi: RawSvi) -> float:
    return float(np.mean((vol_errors(quotes, svi) / quotes.half_vol) ** 2))


def _best_of(
    k: Floats, w: Floats, weights: Floats, floor: float, m: Floats, s: Floats, most: tuple[float, float]
) -> RawSvi:
    """Return the best slice of all (m, s): for each one the exact optimum of a, p, q, by trying every active set."""
    y = (k - m[:, None]) / s[:, None]
    z = np.sqrt(y * y + 1.0)
    up, down = z + y, z - y
    up_1, down_1, w_1 = up @ weights, down @ weights, float(w @ weights)
    # With `a` at its best, everything is centred; with `a` at its floor, nothing is.
    best_cost = np.full(len(m), np.inf)
    best = np.zeros((3, len(m)))
    p_most, q_most = most[0] * s, most[1] * s
    slack = 1e-12 * s
    weighted_up = up * weights
    raw = (
        np.einsum("ij,ij->i", weighted_up, up),
        np.einsum("ij,ij->i", weighted_up, down),
        (down * weights * down).sum(axis=1),
        weighted_up @ w,
        (down * weights) @ w,
    )
    w_2 = float((w * weights) @ w)
    relaxed_cost = np.inf  # the least a slice could cost that was left out for going below the floor
    for is_floor in (False, True):
        if is_floor and relaxed_cost >= best_cost.min():
            break
        base = floor if is_floor else 0.0
        if is_floor:
            uu, ud, dd = raw[0], raw[1], raw[2]
            ru, rd = raw[3] - base * up_1, raw[4] - base * down_1
            rr = w_2 - 2.0 * base * w_1 + base * base
        else:
            uu, ud, dd = raw[0] - up_1 * up_1, raw[1] - up_1 * down_1, raw[2] - down_1 * down_1
            ru, rd = raw[3] - w_1 * up_1, raw[4] - w_1 * down_1
            rr = w_2 - w_1 * w_1
        for p_at, q_at in product((None, 0.0, 1.0), repeat=2):
            if p_at is None and q_at is None:
                det = uu * dd - ud * ud
                det = np.where(det > 1e-14 * uu * dd, det, np.inf)
                p, q = (ru * dd - rd * ud) / det, (rd * uu - ru * ud) / det
            elif p_at is None:
                q = q_most * (q_at or 0.0)
                p = (ru - q * ud) / np.maximum(uu, 1e-300)
            elif q_at is None:
                p = p_most * p_at
                q = (rd - p * ud) / np.maximum(dd, 1e-300)
            else:
                p, q = p_most * p_at, q_most * (q_at or 0.0)
            is_in = (p >= -slack) & (q >= -slack) & (p <= p_most + slack) & (q <= q_most + slack)
            p, q = np.clip(p, 0.0, p_most), np.clip(q, 0.0, q_most)
            a = base if is_floor else w_1 - p * up_1 - q * down_1
            is_high = a + 2.0 * np.sqrt(p * q) >= floor * 0.999
            cost = rr - 2.0 * (p * ru + q * rd) + p * p * uu + 2.0 * p * q * ud + q * q * dd
            relaxed_cost = min(relaxed_cost, float(np.where(is_in & ~is_high, cost, np.inf).min()))
            is_better = is_in & is_high & (cost < best_cost)
            np.copyto(best_cost, cost, where=is_better)
            for row, value in zip(best, (a, p, q), strict=True):
                np.copyto(row, value, where=is_better)
    i = int(best_cost.argmin())
    a_i, p_i, q_i = (float(x) for x in best[:, i])
    c = p_i + q_i
    rho = (p_i - q_i) / c if c > 0.0 else 0.0
    rho = min(0.9999, max(-0.9999, rho))
    return RawSvi(a_i, c / float(s[i]), rho, float(m[i]), float(s[i]))


def _most_slopes(far: RawSvi | None) -> tuple[float, float]:
    """Return the most that p/s and q/s, half the slopes of the call and the put wing, may be."""
    if far is None:
        return _STEEPEST, _STEEPEST
    call, put = (max(1e-9, min(_STEEPEST, 0.5 * far.b * (1.0 + sign * far.rho))) for sign in (1.0, -1.0))
    return call, put


def _refit(quotes: SmileQuotes, start: RawSvi, far: RawSvi | None) -> RawSvi:
    """Return the fit with a penalty on negative densities, and on variance above that of the expiry after."""
    k, tau_years = quotes.log_moneyness, quotes.tau_years
    half = quotes.half_vol * sqrt(len(k))
    spread = sqrt(float(np.median(quotes.vol**2)) * tau_years)
    wide = np.linspace(min(float(k[0]), -4.0 * spread), max(float(k[-1]), 4.0 * spread), 61)
    wide = np.concatenate([wide, np.linspace(-3.0, 3.0, 13)])
    far_w = None if far is None else far.total_variance(wide) * (1.0 - _MARGIN)
    most_up, most_down = _most_slopes(far)
    scale = 1.0 / (2.0 * float(np.median(quotes.vol)) * tau_years * float(np.median(quotes.half_vol)))

    def unpack(x: Floats) -> RawSvi:
        up, down = exp(x[1]), exp(x[2])
        return RawSvi(float(x[0]), up + down, (up - down) / (up + down), float(x[3]), exp(x[4]))

    def residuals(x: Floats) -> Floats:
        svi = unpack(x)
        lift = max(0.0, 1e-9 - svi.least_variance)
        w = np.maximum(svi.total_variance(k), 1e-12)
        rows = [(np.sqrt(w / tau_years) - quotes.vol) / half]
        safe = svi if lift == 0.0 else svi._replace(a=svi.a + lift)
        rows.append(_PENALTY * np.maximum(0.0, 10.0 * _MARGIN - safe.density(wide)))
        rows.append(np.array([_PENALTY * lift * scale]))
        if far_w is not None:
            rows.append(np.maximum(0.0, safe.total_variance(wide) - far_w) * scale)
        return np.concatenate(rows)

    up, down = 0.5 * start.b * (1.0 + start.rho), 0.5 * start.b * (1.0 - start.rho)
    x0 = np.array([start.a, log(max(up, 1e-8)), log(max(down, 1e-8)), start.m, log(start.s)])
    x_scale = np.array([max(abs(start.a), spread**2), 1.0, 1.0, max(spread, 1e-3), 1.0])
    low = np.array([-np.inf, log(1e-9) - 1.0, log(1e-9) - 1.0, -3.0, log(1e-5)])
    high = np.array([np.inf, log(most_up), log(most_down), 3.0, log(20.0)])
    x0 = np.clip(x0, low + 1e-9, high - 1e-9)
    return unpack(least_squares(residuals, x0, bounds=(low, high), x_scale=x_scale, max_nfev=60).x)


def _lowered(svi: RawSvi, far: RawSvi | None) -> RawSvi | None:
    """Return the slice lowered by what it has above the expiry after."""
    if far is None:
        return None
    gap = least_gap(svi, far).value
    return svi._replace(a=svi.a + gap * (1.0 + 1e-9) - 1e-15) if -np.inf < gap < 0.0 else None


def _safe_slice(svi: RawSvi, tau_years: float) -> RawSvi | None:
    try:
        safe = from_jump_wings(safe_wings(to_jump_wings(svi, tau_years)), tau_years)
    except ValueError:
        return None
    return safe if safe.s > 0.0 and safe.b > 0.0 and abs(safe.rho) < 1.0 else None


def _towards_safe(svi: RawSvi, tau_years: float) -> RawSvi | None:
    """Return the slice moved towards its safe one, in jump wings, by just as much as its butterflies need."""
    safe = _safe_slice(svi, tau_years)
    if safe is None or least_density(safe).value < 0.0:
        return None
    start, end = to_jump_wings(svi, tau_years), to_jump_wings(safe, tau_years)
    found, low, high = safe, 0.0, 1.0
    for _ in range(_BISECTIONS):
        share = 0.5 * (low + high)
        wings = start._replace(
            c=start.c + share * (end.c - start.c), v_least=start.v_least + share * (end.v_least - start.v_least)
        )
        try:
            between = from_jump_wings(wings, tau_years)
        except ValueError:
            low = share
            continue
        if between.s > 0.0 and least_density(between).value >= 0.0:
            found, high = between, share
        else:
            low = share
    return found
