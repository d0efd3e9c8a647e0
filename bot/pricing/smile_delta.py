"""Deltas that expect vol to move with the price: how a smile moves is learnt, and doubted until it shows.

A vol that moves by h per unit of log price makes the delta of an option Δ_Black + vega h/F. Of the same option, with
s = dσ/dlnK at its strike, h is

- 0 for Black's own delta: each strike keeps its vol;
- -s for sticky delta: the smile moves along with the price;
- (R - 1) s for a skew-stickiness ratio R, the slope of moves of vol at the money on skew times return (Bergomi,
  Stochastic Volatility Modeling, 2016, chapter 9), so that R = 0 is sticky delta and R = 1 sticky strike;
- (a + b δ + c δ²)/sqrt(tau) for minimum variance, δ the call delta (Hull and White, Optimal delta hedging for options,
  J. Banking & Finance 82, 2017), by least squares.

Each is held against Black's on every new move before it learns from it. What counts is the part of an option's profit
that its vol earned: the squared error of quantity × vega × (Δσ - h Δln F), summed over the options of one moment. It
knows no market and no clock: moves come in, coefficients and evidence come out.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from math import inf, sqrt
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIN_BATCHES: Final = (
    60  # moments to learn from before a fitted model is believed at all, and to be tested over after that
)
OPEN_T: Final = 2.0  # a model is used once the mean improvement is this many standard errors …
CLOSE_T: Final = 1.0  # … and until it is less than this many
LEAST_STICKINESS: Final = -2.0
MOST_STICKINESS: Final = 4.0
MAX_DELTA_RATIO: Final = 0.15  # the most a smile may change the delta of an option, in base per unit of base
_LAGS: Final = 5  # of the standard error: neighbouring moments are not independent
_SHAPE_REACH: Final = 2.5  # strikes used for the shape of a smile, in standard deviations from the money
_MIN_STRIKES: Final = 5
_LEAST_DETERMINANT: Final = 1e-8  # of its normal equations, as a share of the product of their diagonal


class DeltaModel(StrEnum):
    """How the vol of a strike is expected to move with the price."""

    BLACK = "black"
    STICKY_DELTA = "sticky_delta"
    SKEW_STICKINESS = "skew_stickiness"
    MINIMUM_VARIANCE = "minimum_variance"


class SmileShape(NamedTuple):
    """The smile of one expiry at the money: vol = `atm_vol` + `skew` k + `bend` k², k = ln(K/F) within its reach."""

    atm_vol: float
    skew: float
    bend: float
    low_k: float
    high_k: float

    def skew_at(self, log_moneyness: Floats) -> Floats:
        """Return dσ/dlnK at each ln(K/F); beyond its reach, what it is there."""
        k = np.minimum(np.maximum(log_moneyness, self.low_k), self.high_k)
        return np.asarray(self.skew + 2.0 * self.bend * k)


def fit_shape(log_moneyness: Floats, vol: Floats, tau_years: float) -> SmileShape | None:
    """Return the shape of a smile by least squares, strikes near the money counting most; None for too few."""
    deviation = float(np.interp(0.0, log_moneyness, vol)) * sqrt(tau_years)
    d = log_moneyness / deviation
    is_near = np.abs(d) <= _SHAPE_REACH
    if np.count_nonzero(is_near) < _MIN_STRIKES:
        return None
    d, vol = d[is_near], vol[is_near]
    weight = np.exp(-0.25 * d * d)
    powers = np.stack([weight, weight * d, weight * d * d])
    gram, right = powers @ powers.T, powers @ (weight * vol)
    if not np.linalg.det(gram) > _LEAST_DETERMINANT * float(np.prod(np.diag(gram))):
        return None
    level, slope, bend = np.linalg.solve(gram, right).tolist()
    k = log_moneyness[is_near]
    return SmileShape(level, slope / deviation, bend / deviation**2, float(k[0]), float(k[-1]))


class Moves(NamedTuple):
    """How the options of one expiry moved from one moment to the next: arrays over strikes, and vol at the money.

    `held_base` is what the book holds at the strike, `vega_ratio` is vega over the forward, `log_move` the log return
    of the forward, `skew` and the call delta are those before the move, of the strike it belongs to; `atm_skew_move` is
    skew at the money times the log return.
    """

    held_base: Floats
    vega_ratio: Floats
    vol_move: Floats
    log_move: Floats
    skew: Floats
    call_delta_ratio: Floats
    root_tau: float
    atm_vol_move: float
    atm_skew_move: float


class Stickiness(NamedTuple):
    """The skew-stickiness ratio, and its standard error over moments (infinite before there are any)."""

    ratio: float
    error_ratio: float


class Gate(NamedTuple):
    """Whether a model may be used: its gain over Black's delta out of sample, and how sure that is.

    `gain_share` is 1 - SSE/SSE of Black, `t_ratio` the mean improvement over its standard error, over `moments`.
    """

    is_open: bool
    gain_share: float
    t_ratio: float
    moments: int
    why: str


class SmileRecord:
    """What the moves of one underlying's smiles taught so far. Old ones fade: each counts less by 1/`window`."""

    def __init__(self, window: int = 500) -> None:
        self._keep = 1.0 - 1.0 / window
        self.moments = 0
        self._xx = self._xy = self._yy = self._scatter = 0.0
        self._gram = np.zeros((3, 3))
        self._right = np.zeros(3)
        self._coefficients: NDArray[np.floating[Any]] | None = None
        self._losses: deque[tuple[float, ...]] = deque(maxlen=window)
        self._gates = {
            model: Gate(is_open=False, gain_share=0.0, t_ratio=0.0, moments=0, why="nothing learnt yet")
            for model in MODELS
        }

    @property
    def stickiness(self) -> Stickiness:
        """The skew-stickiness ratio as learnt so far; 1, sticky strike, with an infinite error before that."""
        if self._xx <= 0.0:
            return Stickiness(1.0, inf)
        return Stickiness(self._xy / self._xx, sqrt(self._scatter) / self._xx if self.moments > 1 else inf)

    @property
    def used_ratio(self) -> float:
        """The ratio as it is used: the nearer to 1, sticky strike, the less is known of it, and within bounds."""
        ratio, error = self.stickiness
        excess = ratio - 1.0
        if excess * excess <= error * error:
            return 1.0
        shrunk = 1.0 + excess * (1.0 - (error / excess) ** 2)
        return min(max(shrunk, LEAST_STICKINESS), MOST_STICKINESS)

    @property
    def coefficients(self) -> tuple[float, float, float]:
        """a, b and c of minimum variance; zeros before they are known."""
        if self._coefficients is None:
            return 0.0, 0.0, 0.0
        a, b, c = self._coefficients.tolist()
        return a, b, c

    def gate(self, model: DeltaModel) -> Gate:
        """Return whether the model may be used, and the evidence."""
        if model is DeltaModel.BLACK:
            return Gate(is_open=True, gain_share=0.0, t_ratio=0.0, moments=self.moments, why="")
        return self._gates[model]

    def note(self, moves: list[Moves]) -> None:
        """Take in what moved at one moment: test every model on it, then learn from it; leave out what is no number."""
        moves = [one for one in moves if all(np.isfinite(part).all() for part in one)]  # else nothing is, ever after
        if not moves:
            return
        self.moments += 1
        if self.moments > MIN_BATCHES:
            self._losses.append(tuple(self._loss(model, moves) for model in (DeltaModel.BLACK, *MODELS)))
            self._judge()
        self._learn_stickiness(moves)
        self._learn_coefficients(moves)

    def vol_per_log_move(self, model: DeltaModel, skew: Floats, call_delta_ratio: Floats, root_tau: Floats) -> Floats:
        """Return h: how much the vol of each strike moves per unit of log price, as this model expects."""
        if model is DeltaModel.STICKY_DELTA:
            return -skew
        if model is DeltaModel.SKEW_STICKINESS:
            return (self.used_ratio - 1.0) * skew
        if model is DeltaModel.MINIMUM_VARIANCE:
            a, b, c = self.coefficients
            return np.asarray((a + call_delta_ratio * (b + c * call_delta_ratio)) / root_tau)
        return np.zeros_like(skew)

    def _loss(self, model: DeltaModel, moves: list[Moves]) -> float:
        """Return the square of what vol earned the book in spite of this model; a book of nothing holds one of each."""
        is_held = any(one.held_base.any() for one in moves)
        off = 0.0
        for one in moves:
            h = self.vol_per_log_move(model, one.skew, one.call_delta_ratio, np.asarray(one.root_tau))
            left = one.vega_ratio * one.vol_move - bounded(one.vega_ratio, h) * one.log_move
            off += float(one.held_base @ left if is_held else left.sum())
        return off * off

    def _learn_stickiness(self, moves: list[Moves]) -> None:
        x = np.array([one.atm_skew_move for one in moves])
        y = np.array([one.atm_vol_move for one in moves])
        ratio = self._xy / self._xx if self._xx > 0.0 else 0.0
        error = float(x @ (y - ratio * x))  # expiries move together: one moment is one observation
        self._xx = self._keep * self._xx + float(x @ x)
        self._xy = self._keep * self._xy + float(x @ y)
        self._scatter = self._keep * self._scatter + error * error

    def _learn_coefficients(self, moves: list[Moves]) -> None:
        self._gram *= self._keep
        self._right *= self._keep
        for one in moves:
            x = one.vega_ratio / one.root_tau * one.log_move
            delta = one.call_delta_ratio
            columns = np.stack([x, x * delta, x * delta * delta])
            self._gram += columns @ columns.T
            self._right += columns @ (one.vega_ratio * one.vol_move)
        if self.moments >= MIN_BATCHES:
            # a trace of a ridge: as long as only one delta was seen, b and c are not known
            ridge = 1e-6 * float(np.trace(self._gram)) * np.eye(3)
            self._coefficients = (
                np.linalg.solve(self._gram + ridge, self._right) if np.trace(self._gram) > 0.0 else None
            )

    def _judge(self) -> None:
        losses = np.array(self._losses)
        for column, model in enumerate(MODELS, 1):
            better = losses[:, 0] - losses[:, column]
            total = float(losses[:, 0].sum())
            gain = float(better.sum()) / total if total > 0.0 else 0.0
            t = _mean_over_error(better)
            count = len(better)
            was_open = self._gates[model].is_open
            is_open = False
            if count < MIN_BATCHES:
                why = f"tested on {count} moments of {MIN_BATCHES}"
            elif t >= (CLOSE_T if was_open else OPEN_T):
                is_open, why = True, f"better than Black by {t:.1f} standard errors"
            else:
                why = f"not surely better than Black: {t:.1f} standard errors"
            self._gates[model] = Gate(is_open, gain, t, count, why)


MODELS: Final = (DeltaModel.STICKY_DELTA, DeltaModel.SKEW_STICKINESS, DeltaModel.MINIMUM_VARIANCE)


def bounded(vega_ratio: Floats, vol_per_log_move: Floats) -> Floats:
    """Return what a smile changes of each delta, vega h/F, cut where it would be more than a correction."""
    return np.asarray(np.minimum(np.maximum(vega_ratio * vol_per_log_move, -MAX_DELTA_RATIO), MAX_DELTA_RATIO))


def _mean_over_error(values: Floats) -> float:
    """Return the mean over its standard error, which counts what neighbours share (Newey and West, 1987)."""
    n = len(values)
    if n < 2:
        return 0.0
    off = values - values.mean()
    variance = float(off @ off) / n
    for lag in range(1, min(_LAGS, n - 1) + 1):
        variance += 2.0 * (1.0 - lag / (_LAGS + 1.0)) * float(off[lag:] @ off[:-lag]) / n
    return float(values.mean()) / sqrt(variance / n) if variance > 0.0 else 0.0
