"""SVI: the total variance of one expiry as five numbers, and whether prices made of it can be arbitraged.

Raw form, with k = ln(K/F): w(k) = a + b (rho (k - m) + sqrt((k - m)² + s²)). The density of the underlying at k is g(k)
times something positive, so a butterfly costs nothing or less exactly where g < 0; two expiries can be traded against
each other exactly where w of the later one is the lower. It fits nothing and knows no quotes (`svi_fit` does).

Formulas: Gatheral and Jacquier, Arbitrage-free SVI volatility surfaces, Quant. Finance 14 (2014); the bound on the
wings is Lee's (Math. Finance 14, 2004).
"""

from __future__ import annotations

from collections.abc import Callable
from math import asinh, copysign, inf, sqrt
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MAX_WING_SLOPE: Final = 2.0  # of w in k, by Lee: a steeper wing has no price
FAR_K: Final = 10.0  # beyond exp(10) times the forward only the slope of a wing says anything
_GRID_POINTS: Final = 241
_ZOOM_POINTS: Final = 33
_ZOOMS: Final = 4


class RawSvi(NamedTuple):
    """One slice in its raw parameters, of total variance: `b` >= 0, |`rho`| < 1, `s` > 0."""

    a: float
    b: float
    rho: float
    m: float
    s: float

    @property
    def wing_slope(self) -> float:
        """Slope of w in the steeper wing."""
        return self.b * (1.0 + abs(self.rho))

    @property
    def least_variance(self) -> float:
        """The lowest w of all k."""
        return self.a + self.b * self.s * sqrt(1.0 - self.rho**2)

    def total_variance(self, log_moneyness: ArrayLike) -> Floats:
        """Return w at every ln(K/F)."""
        y = np.asarray(log_moneyness, dtype=np.float64) - self.m
        return np.asarray(self.a + self.b * (self.rho * y + np.sqrt(y * y + self.s**2)))

    def derivatives(self, log_moneyness: ArrayLike) -> tuple[Floats, Floats, Floats]:
        """Return w, w' and w'' at every ln(K/F)."""
        y = np.asarray(log_moneyness, dtype=np.float64) - self.m
        root = np.sqrt(y * y + self.s**2)
        w = self.a + self.b * (self.rho * y + root)
        return w, self.b * (self.rho + y / root), self.b * self.s**2 / root**3

    def density(self, log_moneyness: ArrayLike) -> Floats:
        """Return g(k) = (1 - k w'/2w)² - w'²/4 (1/w + 1/4) + w''/2; negative where a butterfly is free money."""
        k = np.asarray(log_moneyness, dtype=np.float64)
        w, slope, bend = self.derivatives(k)
        return np.asarray((1.0 - 0.5 * k * slope / w) ** 2 - 0.25 * slope**2 * (1.0 / w + 0.25) + 0.5 * bend)

    def scaled(self, factor: float) -> RawSvi:
        """Return the slice of `factor` times the total variance."""
        return self._replace(a=self.a * factor, b=self.b * factor)

    def moved(self, log_moneyness: float) -> RawSvi:
        """Return the slice moved towards higher strikes by a difference of ln(K/F)."""
        return self._replace(m=self.m + log_moneyness)


class JumpWings(NamedTuple):
    """One slice in numbers a trader reads, of variance per year.

    `v` at the money, `psi` the skew of vol there (dσ/dk times root tau), slopes `p` of the put and `c` of the call
    wing, and `v_least` the lowest variance.
    """

    v: float
    psi: float
    p: float
    c: float
    v_least: float


class Extreme(NamedTuple):
    """A lowest value, and the ln(K/F) it is found at (infinite in a wing)."""

    value: float
    log_moneyness: float


def to_jump_wings(svi: RawSvi, tau_years: float) -> JumpWings:
    """Return the slice in its jump-wings form."""
    a, b, rho, m, s = svi
    far = sqrt(m * m + s * s)
    w = a + b * (far - rho * m)
    if w <= 0.0:
        raise ValueError(f"expected a positive variance at the money, found {w}; hint: this slice has no vol")
    root = sqrt(w)
    psi = 0.5 * b / root * (rho - m / far)
    return JumpWings(w / tau_years, psi, b * (1.0 - rho) / root, b * (1.0 + rho) / root, svi.least_variance / tau_years)


def from_jump_wings(wings: JumpWings, tau_years: float) -> RawSvi:
    """Return the slice in its raw form.

    Raises ValueError for numbers no slice has: wings flatter than the skew, or a lowest variance above the one at the
    money.
    """
    v, psi, p, c, v_least = wings
    w, least = v * tau_years, v_least * tau_years
    if not (w > 0.0 and p >= 0.0 and c >= 0.0 and p + c > 0.0 and least <= w and -p <= 2.0 * psi <= c):
        raise ValueError(
            f"expected v > 0, p and c >= 0, v_least <= v and -p <= 2 psi <= c, found {wings}; hint: no slice has these"
        )
    root = sqrt(w)
    b = 0.5 * root * (c + p)
    rho = min(1.0, max(-1.0, (c - p) / (c + p)))
    cosine = min(1.0, max(-1.0, rho - 2.0 * psi * root / b))  # m over the distance of the forward
    thin = sqrt((1.0 - rho) * (1.0 + rho))
    is_centred = abs(cosine) < 1e-9  # symmetric but for rounding: 1/cosine has no digits left
    alpha = 0.0 if is_centred else copysign(sqrt(1.0 / cosine**2 - 1.0), cosine)
    lift = 1.0 - thin if is_centred else copysign(sqrt(1.0 + alpha * alpha), alpha) - rho - alpha * thin
    if abs(lift) < 1e-12:
        raise ValueError(f"expected a slice that says its own width, found {wings}; hint: it is symmetric")
    width = (w - least) / (b * lift)
    m, s = (0.0, width) if is_centred else (width, alpha * width)
    return RawSvi(least - b * s * thin, b, rho, m, s)


def least_density(svi: RawSvi) -> Extreme:
    """Return the lowest g(k) over all k, wings included: without butterfly arbitrage it is not negative.

    A slice whose variance is not positive everywhere, or a wing steeper than Lee's bound, counts as minus infinity.
    """
    if svi.least_variance <= 0.0 or svi.wing_slope > MAX_WING_SLOPE:
        return Extreme(-inf, svi.m)
    lowest = _lowest(svi.density, _grid(svi))
    for slope, k in ((svi.b * (1.0 - svi.rho), -inf), (svi.b * (1.0 + svi.rho), inf)):
        wing = 0.25 - slope**2 / 16.0 if slope > 0.0 else 1.0
        lowest = min(lowest, Extreme(wing, k))
    return lowest


def least_gap(near: RawSvi, far: RawSvi) -> Extreme:
    """Return the lowest w_far(k) - w_near(k) over all k: negative where the earlier expiry is the dearer.

    A wing in which the later expiry rises more slowly counts as minus infinity, because it falls below sooner or later.
    """
    for sign in (-1.0, 1.0):
        if far.b * (1.0 + sign * far.rho) < near.b * (1.0 + sign * near.rho) * (1.0 - 1e-12):
            return Extreme(-inf, sign * inf)
    grid = np.union1d(_grid(near), _grid(far))
    return _lowest(lambda k: far.total_variance(k) - near.total_variance(k), grid)


def safe_wings(wings: JumpWings) -> JumpWings:
    """Return the slice of the same money, skew and put wing whose call wing and lowest variance belong to an SSVI.

    c' = p + 2 psi and v' = v 4 p c' / (p + c')² (Gatheral and Jacquier, section 5.1): free of butterfly arbitrage
    wherever that SSVI is. A call wing of a steep falling skew can come out negative, which no slice has.
    """
    c = wings.p + 2.0 * wings.psi
    return wings._replace(c=c, v_least=wings.v * 4.0 * wings.p * c / (wings.p + c) ** 2)


def _grid(svi: RawSvi) -> Floats:
    """Return log-moneyness from wing to wing: dense around the bend of the slice, and evenly where options are."""
    reach = asinh((FAR_K + abs(svi.m)) / svi.s)
    bend = svi.m + svi.s * np.sinh(np.linspace(-reach, reach, _GRID_POINTS))
    return np.union1d(bend, _EVEN)


_EVEN: Final = np.linspace(-3.0, 3.0, 121)


def _lowest(f: Callable[[Floats], Floats], grid: Floats) -> Extreme:
    """Return the lowest value of `f`: the best of the grid, looked at closer and closer."""
    values = f(grid)
    best = int(values.argmin())
    found = Extreme(float(values[best]), float(grid[best]))
    low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)])
    for _ in range(_ZOOMS):
        grid = np.linspace(low, high, _ZOOM_POINTS)
        values = f(grid)
        best = int(values.argmin())
        found = min(found, Extreme(float(values[best]), float(grid[best])))
        low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, _ZOOM_POINTS - 1)])
    return found


class Ssvi(NamedTuple):
    """A whole surface in three numbers and the variance at the money of each expiry.

    w = theta/2 (1 + rho phi k + sqrt((phi k + rho)² + 1 - rho²)), phi = eta / (theta^gamma (1 + theta)^(1 - gamma)).
    """

    rho: float
    eta: float
    gamma: float

    @property
    def is_free(self) -> bool:
        """Whether no expiry has a butterfly and no two a calendar arbitrage, whatever rising thetas they have."""
        return 0.0 < self.gamma <= 0.5 and self.eta > 0.0 and self.eta * (1.0 + abs(self.rho)) <= 2.0

    def phi(self, theta: float) -> float:
        """Return how narrow the smile of an expiry is."""
        scale: float = theta**self.gamma * (1.0 + theta) ** (1.0 - self.gamma)
        return self.eta / scale

    def slice(self, theta: float) -> RawSvi:
        """Return the expiry of this variance at the money, as a raw slice."""
        phi, rest = self.phi(theta), 1.0 - self.rho**2
        return RawSvi(0.5 * theta * rest, 0.5 * theta * phi, self.rho, -self.rho / phi, sqrt(rest) / phi)

    def is_free_at(self, theta: float) -> bool:
        """Tell whether the slice of this theta meets the general conditions, and theta phi rises as it must there.

        theta phi (1 + |rho|) < 4, theta phi² (1 + |rho|) <= 4 and
        0 <= d(theta phi)/d theta <= (1 + sqrt(1 - rho²)) phi / rho².
        """
        phi, tilt = self.phi(theta), 1.0 + abs(self.rho)
        rise = phi * (1.0 - self.gamma) / (1.0 + theta)
        most = inf if self.rho**2 == 0.0 else (1.0 + sqrt(1.0 - self.rho**2)) * phi / self.rho**2
        return theta * phi * tilt < 4.0 and theta * phi**2 * tilt <= 4.0 and 0.0 <= rise <= most
