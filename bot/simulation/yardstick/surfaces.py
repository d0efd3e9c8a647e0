"""Worlds whose smile moves: spot, variance and skew along seeded paths, the vols quoted there, and what trading costs.

The world is arbitrage-free where it matters for hedging: spot is a martingale with the variance of Heston (1993, Review
of Financial Studies 6:327-343) and, if wanted, the jumps of Merton (1976, J. Financial Economics 3:125-144); the vol at
the money of an expiry is the root of the average variance expected until then; around it lies an SSVI smile whose skew
wanders by itself. It must never know a policy, and two policies asked about one path see the same numbers.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BP: Final = 1e-4
FEE_BPS: Final = 3.0  # an exchange's fee for an option, of the underlying, and its cap as a share of the premium
FEE_CAP_SHARE: Final = 0.125
# Half-spreads in bp of the underlying by |delta|, medians of the two recordings of April 2023 (docs/gamma-vega.md):
# a tick or two, whatever the expiry, but for the middle of the longer ones and what is in the money.
WING_DELTA: Final = 0.10
BODY_DELTA: Final = 0.35
MONEY_DELTA: Final = 0.55
LONG_YEARS: Final = 20.0 / 365.0
WING_BPS, BODY_BPS, LONG_MONEY_BPS, INSIDE_BPS = 2.5, 5.0, 7.5, 20.0


class SurfaceWorld(NamedTuple):
    """How the market moves; all per year.

    Variance reverts to `mean_vol`² at `reversion_rate` and moves by `variance_vol`·√v, correlated with spot by
    `spot_vol_correlation`; jumps have a deviation of `jump_vol` each. The skew ρ of the SSVI smile wanders around
    `skew_correlation` with a lasting deviation of `skew_wander`; `smile_eta` is how curved the smile is.
    """

    spot_px: float = 30_000.0
    start_vol: float = 0.6
    mean_vol: float = 0.6
    reversion_rate: float = 8.0
    variance_vol: float = 1.5
    spot_vol_correlation: float = -0.3
    jump_rate: float = 0.0
    jump_vol: float = 0.0
    skew_correlation: float = -0.1
    skew_wander: float = 0.15
    skew_reversion_rate: float = 30.0
    smile_eta: float = 0.8

    @property
    def jump_variance(self) -> float:
        """Variance per year that comes from jumps."""
        return self.jump_rate * self.jump_vol**2


class Market(NamedTuple):
    """Paths of one world: spot, instantaneous variance without jumps, and skew; row by step, column by path."""

    world: SurfaceWorld
    step_years: float
    spot_px: Floats
    variance: Floats
    skew: Floats


def draw_market(world: SurfaceWorld, years: float, steps: int, paths: int, seed: int) -> Market:
    """Return `paths` paths of `steps` steps, the same for the same seed.

    Variance by full truncation (Lord, Koekkoek & van Dijk 2010, Quantitative Finance 10:177-194); spot in logs with the
    compensator of its jumps, so that its mean stays where it is.
    """
    rng = np.random.default_rng(seed)
    dt = years / steps
    spot = np.empty((steps + 1, paths))
    variance, skew = np.empty_like(spot), np.empty_like(spot)
    log_spot = np.full(paths, np.log(world.spot_px))
    v, rho = np.full(paths, world.start_vol**2), np.full(paths, world.skew_correlation)
    decay = np.exp(-world.skew_reversion_rate * dt)
    leverage = world.spot_vol_correlation
    compensator = world.jump_rate * (np.exp(0.5 * world.jump_vol**2) - 1.0)
    spot[0], variance[0], skew[0] = np.exp(log_spot), v, rho
    for step in range(1, steps + 1):
        z_spot, z_own, z_skew, z_jump = rng.standard_normal((4, paths))
        z_variance = leverage * z_spot + np.sqrt(1.0 - leverage**2) * z_own
        positive = np.maximum(v, 0.0)
        jumps = rng.poisson(world.jump_rate * dt, paths)
        log_spot = log_spot + np.sqrt(positive * dt) * z_spot - 0.5 * positive * dt - compensator * dt
        log_spot += np.sqrt(jumps) * world.jump_vol * z_jump
        v = v + world.reversion_rate * (world.mean_vol**2 - positive) * dt
        v += world.variance_vol * np.sqrt(positive * dt) * z_variance
        rho = world.skew_correlation + decay * (rho - world.skew_correlation)
        rho += world.skew_wander * np.sqrt(1.0 - decay**2) * z_skew
        spot[step], variance[step], skew[step] = np.exp(log_spot), np.maximum(v, 0.0), np.clip(rho, -0.7, 0.7)
    return Market(world, dt, spot, variance, skew)


def quoted_vol(
    world: SurfaceWorld, spot_px: Floats, variance: Floats, skew: Floats, strike_px: Floats, tau_years: Floats
) -> Floats:
    """Return implied vols; the state comes as a column per path, the options as a row, and times must be positive.

    Total variance at the money is the expected one, θ = (v̄ + λ·s²)τ + (v − v̄)(1 − e^(−κτ))/κ, and the smile around it
    that of `bot.pricing.svi.Ssvi` with gamma = ½.
    """
    faded = -np.expm1(-world.reversion_rate * tau_years) / world.reversion_rate
    mean = world.mean_vol**2
    theta = np.maximum((mean + world.jump_variance) * tau_years + (variance - mean) * faded, 1e-4 * tau_years)
    leaning = world.smile_eta / np.sqrt(theta * (1.0 + theta)) * np.log(strike_px / spot_px)
    w = 0.5 * theta * (1.0 + skew * leaning + np.sqrt((leaning + skew) ** 2 + 1.0 - skew**2))
    return np.asarray(np.sqrt(w / tau_years))


def option_cost_quote(spot_px: Floats, value_quote: Floats, delta_ratio: Floats, tau_years: Floats) -> Floats:
    """Return what trading one option costs beyond its mid: half the spread, and the fee."""
    distance = np.abs(delta_ratio)
    money = np.where(tau_years >= LONG_YEARS, LONG_MONEY_BPS, BODY_BPS)
    bps = np.where(distance < WING_DELTA, WING_BPS, np.where(distance < BODY_DELTA, BODY_BPS, money))
    bps = np.where(distance > MONEY_DELTA, INSIDE_BPS, bps)
    fee = np.minimum(FEE_BPS * BP * spot_px, FEE_CAP_SHARE * value_quote)
    return np.asarray(bps * BP * spot_px + fee)
