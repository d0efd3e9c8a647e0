"""What looking only now and then, and orders that take their time, cost a hedge: the local model, exactly and played.

The local model: the hedge is off by e, which moves by v dW; being off costs a e² per time, a trade of u costs c|u|.
Its units are those of the band watched all the time, H_WW = (3cv²/4a)^(1/3): off in H_WW, cost in a·H_WW² per time, so
that `step_share` (how far delta wanders between two looks, as a share of H_WW) and the latency in looks say it all.

Played, the hedge held and the orders under way are followed one by one, so that nothing of the theory is assumed:
held + pending follows the rule as if orders took no time, and what is held lags behind by v√L, which costs a v² L.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from math import inf, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import ndtr

Floats = NDArray[np.float64]

_NODES = 400  # of the band, for moves of a twentieth of it: the figures below no longer change with more
_LOST = 1e6  # bands
_ROOT_2PI = sqrt(2.0 * np.pi)


class Monitored(NamedTuple):
    """The best band of one that is looked at only now and then, and what hedging by it costs; see the module's units.

    `shift_ratio` is by how much of a step the band is narrower than the one watched all the time.
    """

    step_share: float
    half_share: float
    cost_share: float
    shift_ratio: float


class Rule(StrEnum):
    """What a hedger counts as held while orders are under way."""

    INVENTORY_POSITION = "inventory_position"  # held and pending
    ONE_OUTSTANDING = "one_outstanding"  # held; nothing new is sent before the last order is filled
    NAIVE = "naive"  # held; what is pending is forgotten, and ordered again


class Played(NamedTuple):
    """The cost of one rule by simulation, its standard error, and the share that comes of trading.

    All three are infinite where the rule is unstable: hedgers end up further off than any price could bring them.
    """

    cost_share: float
    error_share: float
    trading_share: float


def band_cost_share(half_share: float, step_share: float) -> float:
    """Return what a band of ±`half_share` traded to its edge costs if looked at once per `step_share`.

    Off, looked at and brought back, is a Markov chain on the band: a density on its inside and an atom at each edge.
    Its equation is solved at Gauss–Legendre points, where the Gaussian kernel is smooth, so to many digits. Being off
    counts all the time: after a look at e the step that follows costs a(e² + v²dt/2)dt on average.
    """
    points, weights = _nodes()
    # e and −e are alike: the points of the upper half stand for both
    off = half_share * 0.5 * (points + 1.0)
    weights = half_share * 0.5 * weights
    upper = (half_share - off) / step_share
    lower = (half_share + off) / step_share
    kernel = _density(off[:, None] - off[None, :], step_share) + _density(off[:, None] + off[None, :], step_share)
    from_edge = _density(off - half_share, step_share) + _density(off + half_share, step_share)
    # density = kernel · density + from_edge · atom, with atom = 1, then everything is scaled to one
    density = np.linalg.solve(np.eye(_NODES) - kernel * weights[None, :], from_edge)
    mass = weights * density
    total = float(mass.sum()) + 1.0
    beyond = float(mass @ (_overshoot(upper) + _overshoot(lower))) + _overshoot_of(0.0)
    beyond += _overshoot_of(2.0 * half_share / step_share)
    traded = step_share * beyond / total
    square = (float(mass @ (off * off)) + half_share * half_share) / total
    duration = step_share * step_share  # a = 1, v = 1 and H_WW = 1, so c = 4/3
    return square + 0.5 * duration + 4.0 / 3.0 * traded / duration


@cache
def _nodes() -> tuple[Floats, Floats]:
    """Return Gauss–Legendre points and weights, which take longer to find than the equation to solve."""
    points, weights = np.polynomial.legendre.leggauss(_NODES)
    points.flags.writeable = weights.flags.writeable = False
    return points, weights


def best_monitored_band(step_share: float) -> Monitored:
    """Return the best band for looks a `step_share` apart, by its exact cost."""
    if not 0.02 <= step_share <= 10.0:
        raise ValueError(f"step_share: expected 0.02 to 10 of the band, found {step_share}; hint: see band_cost_share")
    found = minimize_scalar(
        lambda half: band_cost_share(half, step_share), bounds=(1e-3, 1.1), method="bounded", options={"xatol": 1e-9}
    )
    half = float(found.x)
    return Monitored(step_share, half, float(found.fun), (1.0 - half) / step_share)


def latency_cost_share(monitored: Monitored, latency_steps: int) -> float:
    """Return the cost by theory if every order takes `latency_steps` looks: that without latency, and a v² L."""
    return monitored.cost_share + latency_steps * monitored.step_share**2


def play(
    rule: Rule,
    half_share: float,
    step_share: float,
    latency_steps: int,
    *,
    seed: int,
    chains: int = 2_000,
    steps: int = 4_000,
    inclusion_probability: float = 0.0,
) -> Played:
    """Return the cost of hedging to the edge of ±`half_share` by a rule, played by many hedgers for many looks.

    Every order is filled `latency_steps` looks after it was sent; with an `inclusion_probability` p instead each look
    fills it with that chance, as a block does (1/p looks on average; latency_steps is then ignored). A tenth of the
    looks is played before the count begins. Beside each hedger one is played whose orders take no time, on the same
    moves; what that one costs is known exactly, so its luck is taken out of the result. Play ends once a hedger is a
    million bands off: it never comes back.
    """
    rng = np.random.default_rng(seed)
    game = _Game(rule, half_share, step_share, latency_steps, chains, inclusion_probability)
    warm_up = max(steps // 10, 2 * latency_steps)
    duration = step_share * step_share
    prompt = np.zeros(chains)  # the off of the hedger beside
    risk, traded, luck = np.zeros(chains), np.zeros(chains), np.zeros(chains)
    for look in range(warm_up + steps):
        ordered = game.look(rng)
        back = np.clip(prompt, -half_share, half_share)
        if look >= warm_up:
            traded += ordered
            risk += game.off * game.off
            luck += back * back + np.abs(prompt - back) * (4.0 / 3.0 / duration)
        if np.abs(game.off).max() > _LOST:
            return Played(inf, inf, inf)
        moves = step_share * rng.standard_normal(chains)
        game.off += moves
        prompt = back + moves
    trading = 4.0 / 3.0 * traded / (steps * duration)
    cost = (risk - luck) / steps + trading + band_cost_share(half_share, step_share)
    return Played(float(cost.mean()), float(cost.std(ddof=1) / sqrt(chains)), float(trading.mean()))


class _Game:
    """Hedgers side by side: how far each is off with what it holds, and the orders each has under way."""

    def __init__(
        self, rule: Rule, half_share: float, step_share: float, latency: int, chains: int, probability: float
    ) -> None:
        self.off = np.zeros(chains)
        self._rule = rule
        self._half_share = half_share
        self._step_share = step_share
        self._latency = latency
        self._probability = probability
        # one slot per look an order can be under way; a block takes all that waits, so there one slot is enough
        self._slots = np.zeros((1 if probability else max(1, latency), chains))
        self._pending = np.zeros(chains)
        self._turn = 0

    def look(self, rng: np.random.Generator) -> Floats:
        """Fill what is due, let everyone decide; return how much each ordered."""
        if self._probability or self._latency:
            slot = self._slots[self._turn]
            filled = slot.copy()
            if self._probability:
                filled *= rng.random(filled.size) < self._probability
            slot -= filled
            self._pending -= filled
            self.off += filled
        seen = self.off + self._pending if self._rule is Rule.INVENTORY_POSITION else self.off
        order = np.clip(seen, -self._half_share, self._half_share) - seen
        if self._rule is Rule.ONE_OUTSTANDING:
            order[np.abs(self._pending) > 0.0] = 0.0
        if self._probability or self._latency:
            self._slots[self._turn] += order
            self._pending += order
            self._turn = (self._turn + 1) % len(self._slots)
        else:
            self.off += order
        return np.abs(order)


def _density(distance: Floats, step_share: float) -> Floats:
    scaled = distance / step_share
    return np.exp(-0.5 * scaled * scaled) / (_ROOT_2PI * step_share)


def _overshoot(distance: Floats) -> Floats:
    """Return E(Z − d)⁺ of a standard normal Z: how far beyond a bound `distance` away a step ends on average."""
    mean: Floats = np.exp(-0.5 * distance * distance) / _ROOT_2PI - distance * ndtr(-distance)
    return mean


def _overshoot_of(distance: float) -> float:
    return float(_overshoot(np.array(distance)))
