"""GARCH(1,1) and its asymmetric kin: filter, likelihood and forecasts; `garch_fit` estimates (Bollerslev 1986)."""

from __future__ import annotations

from math import log, pi

import msgspec
import numpy as np

from bot.risk.volatility.measures import Floats


class Garch(msgspec.Struct, frozen=True):
    """σ²ₜ = ω + (α + γ·1[e<0])·e²ₜ₋₁ + β·σ²ₜ₋₁ of e = r − μ; γ is nought in plain GARCH."""

    mu: float
    omega: float
    alpha: float
    beta: float
    gamma: float = 0.0

    @property
    def persistence(self) -> float:
        """What of a deviation is left a step later; falls are half of all moves."""
        return self.alpha + 0.5 * self.gamma + self.beta

    @property
    def long_run(self) -> float:
        """The variance per step that forecasts go to; infinite where nothing fades."""
        return self.omega / (1.0 - self.persistence) if self.persistence < 1.0 else float("inf")


def variances(model: Garch, returns: Floats, first: float | None = None) -> Floats:
    """Return the variance of every return and of the one after the last.

    Before the first return variance and squared shock are taken to be the mean square, as in the benchmark of
    Fiorentini, Calzolari and Panattoni (1996) and in `arch`; `first` sets the first variance instead.
    """
    shocks = returns - model.mu
    out = np.empty(returns.size + 1)
    out[0] = model.omega + model.persistence * float(shocks @ shocks) / shocks.size if first is None else first
    push = model.omega + (model.alpha + model.gamma * (shocks < 0.0)) * shocks**2
    for place in range(returns.size):
        out[place + 1] = push[place] + model.beta * out[place]
    return out


def log_likelihood(model: Garch, returns: Floats, first: float | None = None) -> float:
    """Return the Gaussian log-likelihood, −½·Σ(ln 2π + ln σ² + e²/σ²)."""
    variance = variances(model, returns, first)[:-1]
    return float(-0.5 * np.sum(log(2.0 * pi) + np.log(variance) + (returns - model.mu) ** 2 / variance))


def forecast(model: Garch, next_variance: float, steps: int) -> Floats:
    """Return the variance of each of the next `steps`: V_L + (α + β)^{h−1}·(σ²₁ − V_L)."""
    if model.persistence >= 1.0:
        return np.asarray(next_variance + model.omega * np.arange(steps), dtype=np.float64)
    fading = model.persistence ** np.arange(steps)
    return np.asarray(model.long_run + fading * (next_variance - model.long_run), dtype=np.float64)
