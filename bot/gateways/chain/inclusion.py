"""How long our transactions take into a block, and how many of them fail there: measured, a prior until then.

Recent ones count more: each new one makes the older ones weigh `_DECAY` of what they did. Knows no chain and no clock.
"""

from __future__ import annotations

from typing import Final

TIERS: Final = ("slow", "normal", "fast")
# The chance per block of getting in, before anything was measured: a tip at the 10th, 50th, 90th percentile of what is
# paid. Only where we start from; five transactions of our own weigh as much.
_PRIOR_PROBABILITIES: Final = (0.5, 0.8, 0.95)
_PRIOR_WEIGHT: Final = 5.0
_PRIOR_POINTS: Final = 40
_DECAY: Final = 0.97  # about the last 33 count
_MAX_SAMPLES: Final = 200
_REVERT_PRIOR_FRACTION: Final = 0.02
_REVERT_PRIOR_WEIGHT: Final = 10.0
_TAIL: Final = 0.95


class InclusionDelays:
    """The distribution of the time from deciding to inclusion, per tier, in seconds."""

    def __init__(self, block_s: float) -> None:
        self._prior = tuple(_prior(block_s, probability) for probability in _PRIOR_PROBABILITIES)
        self._samples: tuple[list[float], ...] = tuple([] for _ in TIERS)

    def note(self, tier: int, delay_s: float) -> None:
        """Take in one of our own transactions that was mined."""
        samples = self._samples[tier]
        samples.append(max(0.0, delay_s))
        del samples[:-_MAX_SAMPLES]

    def mean_s(self, tier: int) -> float:
        """Return the mean delay."""
        points = self._points(tier)
        return sum(delay * weight for delay, weight in points) / sum(weight for _, weight in points)

    def p95_s(self, tier: int) -> float:
        """Return the delay that one transaction in twenty exceeds."""
        points = sorted(self._points(tier))
        left = _TAIL * sum(weight for _, weight in points)
        for delay, weight in points:
            left -= weight
            if left <= 0:
                return delay
        return points[-1][0]

    def count(self, tier: int) -> int:
        """Return how many of our own it rests on."""
        return len(self._samples[tier])

    def _points(self, tier: int) -> list[tuple[float, float]]:
        samples = self._samples[tier]
        prior_weight = _PRIOR_WEIGHT * _DECAY ** len(samples) / _PRIOR_POINTS
        points = [(delay, prior_weight) for delay in self._prior[tier]]
        points += [(delay, _DECAY**age) for age, delay in enumerate(reversed(samples))]
        return points


class RevertShares:
    """The share of our own transactions that failed, per instrument."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}

    def note(self, instrument_id: str, *, is_success: bool) -> None:
        """Take in one that was mined."""
        failed, count = self._sums.get(instrument_id, (0.0, 0.0))
        self._sums[instrument_id] = (failed * _DECAY + (not is_success), count * _DECAY + 1.0)

    def fraction(self, instrument_id: str) -> float:
        """Return the share that fails; small and not zero before anything was measured."""
        failed, count = self._sums.get(instrument_id, (0.0, 0.0))
        return (failed + _REVERT_PRIOR_FRACTION * _REVERT_PRIOR_WEIGHT) / (count + _REVERT_PRIOR_WEIGHT)


def _prior(block_s: float, probability: float) -> tuple[float, ...]:
    """Return even quantiles of the delay if each block takes us with `probability`.

    We decide anywhere between two blocks (uniform); the block that takes us is geometric.
    """
    quantiles = []
    for point in range(_PRIOR_POINTS):
        left = (point + 0.5) / _PRIOR_POINTS
        blocks, share = 0, probability
        while left > share and blocks < 100:
            left -= share
            share *= 1.0 - probability
            blocks += 1
        quantiles.append((blocks + left / share) * block_s)
    return tuple(quantiles)
