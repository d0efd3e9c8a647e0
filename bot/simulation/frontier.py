"""What hedging costs against the tracking error it leaves: the settings that no other one beats at both.

Between two settings of a frontier cost is interpolated in logarithms; beyond its ends it is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import exp, log

import msgspec

from bot.domain.results import FrontierPoint


class Comparison(msgspec.Struct, frozen=True):
    """The costs of two frontiers at the same tracking error."""

    sd_day_quote: float
    cost_quote: float
    other_cost_quote: float


def frontier(points: Iterable[FrontierPoint]) -> list[FrontierPoint]:
    """Return the points that no other beats at both, by rising tracking error and so by falling cost."""
    efficient: list[FrontierPoint] = []
    for point in sorted(points, key=lambda point: (point.sd_day_quote, point.cost_quote)):
        if not efficient or point.cost_quote < efficient[-1].cost_quote:
            efficient.append(point)
    return efficient


def cost_at(efficient: Sequence[FrontierPoint], sd_day_quote: float) -> float | None:
    """Return the cost of a frontier at a tracking error, None beyond its ends."""
    for tight, loose in pairwise(efficient):
        if tight.sd_day_quote <= sd_day_quote <= loose.sd_day_quote:
            return _between(sd_day_quote, tight.sd_day_quote, loose.sd_day_quote, tight.cost_quote, loose.cost_quote)
    return None


def compare(points: Sequence[FrontierPoint], others: Sequence[FrontierPoint]) -> list[Comparison]:
    """Compare two frontiers at the tracking error of every point of either, wherever both reach and cost something."""
    ours, theirs = frontier(points), frontier(others)
    comparisons = []
    for sd_day_quote in sorted({point.sd_day_quote for point in (*ours, *theirs)}):
        cost_quote, other_quote = cost_at(ours, sd_day_quote), cost_at(theirs, sd_day_quote)
        if cost_quote is not None and other_quote is not None and other_quote > 0.0:
            comparisons.append(Comparison(sd_day_quote, cost_quote, other_quote))
    return comparisons


def setting_at(settings: Sequence[tuple[float, FrontierPoint]], sd_day_quote: float) -> float | None:
    """Return the setting (a positive number) at which the tracking error is this, None if none of them brackets it."""
    ordered = sorted(settings, key=lambda one: one[1].sd_day_quote)
    for (first, tight), (second, loose) in pairwise(ordered):
        if tight.sd_day_quote <= sd_day_quote <= loose.sd_day_quote:
            return _between(sd_day_quote, tight.sd_day_quote, loose.sd_day_quote, first, second)
    return None


def _between(x: float, low_x: float, high_x: float, low_y: float, high_y: float) -> float:
    """Interpolate in logarithms, or in plain numbers where something is not positive."""
    if not high_x > low_x:
        return min(low_y, high_y)
    if min(low_x, low_y, high_y) > 0.0:
        share = log(x / low_x) / log(high_x / low_x)
        return exp((1.0 - share) * log(low_y) + share * log(high_y))
    share = (x - low_x) / (high_x - low_x)
    return (1.0 - share) * low_y + share * high_y
