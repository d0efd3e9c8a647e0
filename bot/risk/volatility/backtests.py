"""Whether quantiles were broken as often as they say, at the times they should be, and by how much.

Kupiec 1995, Christoffersen 1998, the traffic light of Basel (1996), Acerbi and Székely 2014.
"""

from __future__ import annotations

from math import log
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc
from scipy.stats import binom

from bot.risk.volatility.measures import Floats

Flags = NDArray[np.bool_]

BASEL_PLUS: Final = (0.0, 0.0, 0.0, 0.0, 0.0, 0.40, 0.50, 0.65, 0.75, 0.85)  # from ten on 1
YELLOW_FROM: Final = 0.95  # cumulative probability at which green ends
RED_FROM: Final = 0.9999


class Ratio(msgspec.Struct, frozen=True):
    """A likelihood ratio and how likely it is to be as large by chance."""

    statistic: float
    p_value: float

    def is_rejected(self, level: float = 0.05) -> bool:
        """Tell whether chance is no good explanation."""
        return self.p_value < level


class Coverage(msgspec.Struct, frozen=True):
    """How a quantile held: breaches of so many, whether as many as it says, and whether they came alone."""

    level: float
    count: int
    breaches: int
    unconditional: Ratio
    independence: Ratio
    conditional: Ratio


class TrafficLight(msgspec.Struct, frozen=True):
    """The zone of a 99 % quantile, its cumulative probability, and what is added to the multiplier of 3."""

    zone: str
    cumulative: float
    plus: float


def kupiec(count: int, breaches: int, probability: float) -> Ratio:
    """Return the likelihood ratio of as many breaches against `probability` each, chi-squared with one degree.

    Raises ValueError for numbers that no test can be made of: they must not pass for a quantile that holds.
    """
    if not (count > 0 and 0 <= breaches <= count and 0.0 < probability < 1.0):
        raise ValueError(
            f"expected some outcomes, no more breaches, a probability, found {count}, {breaches}, {probability}"
        )
    share = breaches / count
    statistic = -2.0 * (_log_likelihood(count, breaches, probability) - _log_likelihood(count, breaches, share))
    return _ratio(statistic, 1)


def _log_likelihood(count: int, breaches: int, probability: float) -> float:
    return _times_log(count - breaches, 1.0 - probability) + _times_log(breaches, probability)


def _times_log(times: float, value: float) -> float:
    return 0.0 if times == 0 else times * log(value) if value > 0.0 else -float("inf")


def _ratio(statistic: float, degrees: int) -> Ratio:
    statistic = max(statistic, 0.0)
    return Ratio(statistic, float(chdtrc(degrees, statistic)))


def transitions(breaches: Flags) -> tuple[int, int, int, int]:
    """Return how often nothing followed nothing, a breach nothing, nothing a breach, and a breach a breach."""
    before, after = breaches[:-1], breaches[1:]
    return (
        int(np.sum(~before & ~after)),
        int(np.sum(~before & after)),
        int(np.sum(before & ~after)),
        int(np.sum(before & after)),
    )


def christoffersen(n00: int, n01: int, n10: int, n11: int) -> Ratio:
    """Return the likelihood ratio of breaches that follow breaches against breaches that come alone."""
    share = (n01 + n11) / (n00 + n01 + n10 + n11)
    alone = _log_likelihood(n00 + n01 + n10 + n11, n01 + n11, share)
    after_none = _log_likelihood(n00 + n01, n01, n01 / (n00 + n01)) if n00 + n01 else 0.0
    after_one = _log_likelihood(n10 + n11, n11, n11 / (n10 + n11)) if n10 + n11 else 0.0
    return _ratio(-2.0 * (alone - after_none - after_one), 1)


def coverage(breaches: Flags, level: float) -> Coverage:
    """Return how a quantile of `level` (0.99) held, of which `breaches` tells when it was exceeded."""
    if breaches.size < 2:
        raise ValueError(f"expected at least two outcomes to judge a quantile by, found {breaches.size}")
    total = int(breaches.sum())
    unconditional = kupiec(breaches.size, total, 1.0 - level)
    independence = christoffersen(*transitions(breaches))
    both = _ratio(unconditional.statistic + independence.statistic, 2)
    return Coverage(level, int(breaches.size), total, unconditional, independence, both)


def traffic_light(breaches: int, count: int = 250, probability: float = 0.01) -> TrafficLight:
    """Return the zone of so many breaches of a 99 % quantile in 250 days; other lengths by the same probabilities."""
    cumulative = float(binom.cdf(breaches, count, probability))
    plus = 1.0 if breaches >= len(BASEL_PLUS) else BASEL_PLUS[breaches]
    zone = "green" if cumulative < YELLOW_FROM else "yellow" if cumulative < RED_FROM else "red"
    return TrafficLight(zone, cumulative, plus)


def acerbi_szekely_1(pnl: Floats, shortfall: Floats, breaches: Flags) -> float:
    """Return Z1 = mean(X_t/ES_t over breaches) + 1; below nought where losses beyond the quantile were too large.

    Its critical value depends on the distribution, so there is none here. NaN without breaches.
    """
    if not breaches.any():
        return float("nan")
    return float(np.mean(pnl[breaches] / shortfall[breaches])) + 1.0


def acerbi_szekely_2(pnl: Floats, shortfall: Floats, breaches: Flags, alpha: float = 0.025) -> float:
    """Return Z2 = Σ X_t·I_t/(T·α·ES_t) + 1: frequency and size at once; about −0.7 is the 5 % critical value."""
    return float(np.sum(np.where(breaches, pnl / shortfall, 0.0))) / (pnl.size * alpha) + 1.0
