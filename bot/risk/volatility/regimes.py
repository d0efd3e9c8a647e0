"""Calm, cluster, crash: a hidden Markov chain whose states differ in their variance, and how likely each is now.

Gaussian returns of mean nought in each state; estimated by expectation and maximisation (Baum and Welch), filtered by
Hamilton (1989). States are ordered by vol.
"""

from __future__ import annotations

from math import isfinite, log, pi
from typing import Final

import msgspec
import numpy as np

from bot.risk.volatility.measures import Floats

NAMES: Final = {1: ("calm",), 2: ("calm", "cluster"), 3: ("calm", "cluster", "crash")}
LEAST_RETURNS: Final = 60


class Regimes(msgspec.Struct, frozen=True):
    """Vol of each state per step, how states follow each other (rows add up to 1), and how likely each was first."""

    vol: tuple[float, ...]
    transition: tuple[tuple[float, ...], ...]
    start: tuple[float, ...]
    log_likelihood: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What the states are called."""
        return NAMES[len(self.vol)]

    @property
    def durations(self) -> tuple[float, ...]:
        """How many steps each state lasts on average."""
        return tuple(1.0 / max(1e-12, 1.0 - row[place]) for place, row in enumerate(self.transition))


def fit_regimes(returns: Floats, states: int = 3, rounds: int = 200, tolerance: float = 1e-6) -> Regimes:
    """Return the chain that makes the returns likeliest, begun at quantiles of their size: no chance is in it."""
    returns = returns[np.isfinite(returns)]
    if returns.size < LEAST_RETURNS:
        raise ValueError(f"expected at least {LEAST_RETURNS} returns to find regimes in, found {returns.size}")
    if states not in NAMES:
        raise ValueError(f"expected one to three regimes, found {states}")
    size = np.sort(np.abs(returns))
    vol = np.array([np.sqrt(np.mean(part**2)) for part in np.array_split(size, states)])
    vol = np.maximum(vol, 1e-3 * returns.std())
    transition = np.full((states, states), 0.1 / max(1, states - 1))
    np.fill_diagonal(transition, 0.9 if states > 1 else 1.0)
    start = np.full(states, 1.0 / states)
    likelihood = -np.inf
    for _ in range(rounds):
        before = likelihood
        density, most = _density(returns, vol)
        filtered, scale = _filter(density, transition, start)
        likelihood = float(np.sum(np.log(scale)) + most.sum())
        smoothed, pairs = _smooth(density, transition, filtered, scale)
        if likelihood - before < tolerance * max(1.0, abs(likelihood)):
            break
        start = smoothed[0] / smoothed[0].sum()
        transition = pairs / pairs.sum(axis=1, keepdims=True)
        vol = np.sqrt((smoothed * returns[:, None] ** 2).sum(axis=0) / smoothed.sum(axis=0))
    order = np.argsort(vol)
    return Regimes(
        vol=tuple(vol[order].tolist()),
        transition=tuple(tuple(row) for row in transition[np.ix_(order, order)].tolist()),
        start=tuple(start[order].tolist()),
        log_likelihood=likelihood,
    )


def chosen_regimes(returns: Floats, rounds: int = 200) -> Regimes:
    """Return the chain of one to three states that Schwarz's criterion (BIC) prefers."""
    count = int(np.isfinite(returns).sum())
    found = [fit_regimes(returns, states, rounds) for states in NAMES]
    return min(found, key=lambda one: len(one.vol) ** 2 * log(count) - 2.0 * (one.log_likelihood or 0.0))


def scaled(model: Regimes, factor: float) -> Regimes:
    """Return the chain of something that is `factor` times as volatile in every state."""
    return msgspec.structs.replace(model, vol=tuple(factor * one for one in model.vol), log_likelihood=None)


def probabilities(model: Regimes, returns: Floats) -> Floats:
    """Return how likely each state is at every return, told only by those up to it. Unknown returns tell nothing.

    Before the first, each is as likely as in the long run.
    """
    density, _ = _density(returns, np.array(model.vol))
    density[~np.isfinite(returns)] = 1.0
    return _filter(density, np.array(model.transition), long_run(model))[0]


def long_run(model: Regimes) -> Floats:
    """Return how likely each state is when nothing is known."""
    size = len(model.vol)
    balance = np.vstack([np.array(model.transition).T - np.eye(size), np.ones(size)])
    found = np.linalg.lstsq(balance, np.append(np.zeros(size), 1.0))[0]
    return np.asarray(np.clip(found, 0.0, 1.0), dtype=np.float64)


def regime(model: Regimes, returns: Floats) -> tuple[str, float]:
    """Return the likeliest state after the last return and how likely it is."""
    last = probabilities(model, returns)[-1] if returns.size else long_run(model)
    place = int(np.argmax(last))
    return model.names[place], float(last[place])


def is_sound(model: Regimes) -> bool:
    """Tell whether the numbers are those of a chain."""
    size = len(model.vol)
    rows = (*model.transition, model.start)
    return (
        size in NAMES
        and len(model.transition) == size
        and all(isfinite(v) and v > 0.0 for v in model.vol)
        and all(
            len(row) == size and all(0.0 <= p <= 1.0 + 1e-9 for p in row) and abs(sum(row) - 1.0) < 1e-6 for row in rows
        )
    )


def _density(returns: Floats, vol: Floats) -> tuple[Floats, Floats]:
    """Return how likely each return is in each state against the likeliest one, and the log of that one's density."""
    exponent = -0.5 * (returns[:, None] / vol) ** 2 - np.log(vol) - 0.5 * log(2.0 * pi)
    most = exponent.max(axis=1)
    return np.asarray(np.exp(exponent - most[:, None]), dtype=np.float64), most


def _filter(density: Floats, transition: Floats, start: Floats) -> tuple[Floats, Floats]:
    """Return how likely each state is given the returns so far, and how likely each return was (Hamilton)."""
    filtered = np.empty_like(density)
    scale = np.empty(density.shape[0])
    prior = start
    for place in range(density.shape[0]):
        joint = prior * density[place]
        total = joint.sum()
        if not total > 0.0:  # every state the chain could be in is out of the question: it is where the return says
            joint, total = density[place], density[place].sum()
        scale[place] = total
        filtered[place] = joint / total
        prior = filtered[place] @ transition
    return filtered, scale


def _smooth(density: Floats, transition: Floats, filtered: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """Return how likely each state was given all returns, and how often each followed each."""
    smoothed = np.empty_like(filtered)
    smoothed[-1] = filtered[-1]
    ahead = np.empty_like(filtered[1:])
    beta = np.ones(filtered.shape[1])
    for place in range(len(filtered) - 2, -1, -1):
        ahead[place] = density[place + 1] * beta / scale[place + 1]
        beta = transition @ ahead[place]
        smoothed[place] = filtered[place] * beta
    return smoothed, transition * (filtered[:-1].T @ ahead)
