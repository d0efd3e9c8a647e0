"""Estimation: the parameters a series was made with, and a likelihood that is ours and the library's alike."""

from __future__ import annotations

import numpy as np
import pytest
from arch.univariate import GARCH, ConstantMean

from bot.risk.volatility.garch import Garch, log_likelihood
from bot.risk.volatility.garch_fit import fit_garch
from bot.risk.volatility.measures import Floats


def simulated(model: Garch, count: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    out, variance = np.empty(count), model.long_run
    for place, shock in enumerate(rng.normal(size=count)):
        out[place] = model.mu + np.sqrt(variance) * shock
        error = out[place] - model.mu
        variance = model.omega + (model.alpha + model.gamma * (error < 0)) * error**2 + model.beta * variance
    return out


def test_the_fit_is_the_likeliest_and_near_what_made_the_series() -> None:
    true = Garch(mu=0.0005, omega=2e-5, alpha=0.12, beta=0.83)
    returns = simulated(true, 4000, 7)
    found = fit_garch(returns)
    assert found.alpha == pytest.approx(true.alpha, abs=0.03)
    assert found.beta == pytest.approx(true.beta, abs=0.05)
    assert found.long_run == pytest.approx(true.long_run, rel=0.2)
    best = log_likelihood(found, returns)
    assert best >= log_likelihood(true, returns)
    for change in ({"alpha": 1.02}, {"alpha": 0.98}, {"beta": 1.01}, {"beta": 0.99}, {"omega": 1.1}, {"omega": 0.9}):
        moved = {name: getattr(found, name) * change.get(name, 1.0) for name in ("mu", "omega", "alpha", "beta")}
        assert log_likelihood(Garch(**moved), returns) < best + 1e-3


def test_our_likelihood_is_the_librarys() -> None:
    returns = simulated(Garch(0.0, 2e-5, 0.1, 0.85), 1500, 3)
    model = ConstantMean(100.0 * returns, rescale=False)
    model.volatility = GARCH(p=1, o=0, q=1)
    squares = float(np.mean((100.0 * (returns - returns.mean())) ** 2))
    fit = model.fit(disp="off", show_warning=False, backcast=squares)
    mine = fit_garch(returns)
    in_percent = Garch(100.0 * mine.mu, 1e4 * mine.omega, mine.alpha, mine.beta)
    first = in_percent.omega + in_percent.persistence * squares  # of residuals about the mean, as the library was told
    assert log_likelihood(in_percent, 100.0 * returns, first) == pytest.approx(fit.loglikelihood, abs=1e-4)
    assert log_likelihood(in_percent, 100.0 * returns) == pytest.approx(fit.loglikelihood, abs=0.05)


def test_falls_that_count_more_are_found() -> None:
    returns = simulated(Garch(0.0, 2e-5, 0.03, 0.85, gamma=0.15), 4000, 5)
    found = fit_garch(returns, is_asymmetric=True)
    assert found.gamma == pytest.approx(0.15, abs=0.05)
    assert log_likelihood(found, returns) > log_likelihood(fit_garch(returns), returns) + 10


def test_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 60 finite returns to fit a GARCH to, found 10"):
        fit_garch(np.ones(10))
    with pytest.raises(ValueError, match="finite"):
        fit_garch(np.full(100, np.nan))
