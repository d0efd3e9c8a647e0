"""Several forecasts made one: what a forecast lacks another may have, and errors that differ cancel."""

from __future__ import annotations

from typing import Final

import numpy as np

from bot.risk.volatility.measures import Floats

FLOOR: Final = 1e-12
LEAST_RECORD: Final = 60
RECORD_HOURS: Final = 30 * 24  # sixty hours tell the luck of two days: who is chosen by them changes too often


def record_length(every_hours: int) -> int:
    """Return how many of the last outcomes, so many hours apart, tell how good a forecast is: sixty, or a month's."""
    return max(LEAST_RECORD, RECORD_HOURS // every_hours)


def equal(forecasts: Floats) -> Floats:
    """Return the mean of the logs of forecasts (a column each): hard to beat where little is known of their merits."""
    return np.asarray(np.exp(np.mean(np.log(forecasts), axis=1)), dtype=np.float64)


def inverse_loss_weights(losses: Floats, window: int) -> Floats:
    """Return, for each time, weights by the inverse of each forecast's mean loss over the `window` times before it.

    Rows add up to 1. Where a forecast has no record yet, all weigh the same.
    """
    count, width = losses.shape
    weights = np.full((count, width), 1.0 / width)
    total = np.concatenate([np.zeros((1, width)), np.cumsum(losses, axis=0)])
    for now in range(1, count):
        start = max(0, now - window)
        inverse = 1.0 / np.maximum((total[now] - total[start]) / (now - start), FLOOR)
        weights[now] = inverse / inverse.sum()
    return weights


def weighted(forecasts: Floats, weights: Floats) -> Floats:
    """Return the weighted mean of the logs of forecasts, row by row."""
    return np.asarray(np.exp(np.sum(weights * np.log(forecasts), axis=1)), dtype=np.float64)
