"""When volatility comes: how busy each hour of the week usually is, against the week's average hour."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from bot.risk.volatility.measures import Floats, Hours, Ints

HOURS_PER_WEEK: Final = 168
LEAST_HOURS: Final = 4 * HOURS_PER_WEEK
SATURDAY: Final = 5  # Monday is 0
FLAT: Final = (1.0,) * HOURS_PER_WEEK


def hour_of_week(hour: Ints) -> Ints:
    """Return which hour of the week each is, 0 for the one that begins Monday 00:00 UTC; `hour` counts ends."""
    return np.asarray((hour - 1 + 3 * 24) % HOURS_PER_WEEK, dtype=np.int64)  # 1970 began on a Thursday


def season_of(hours: Hours) -> tuple[float, ...]:
    """Return the usual variance of each hour of the week, 1 on average: a day's level times an hour's shape.

    The shape is one for weekdays and one for weekends, as a few months tell no more; means of logs, so that one crash
    is no season. Flat with less than four weeks to learn from.
    """
    known = np.isfinite(hours.rv) & (hours.rv > 0.0)
    if known.sum() < LEAST_HOURS:
        return FLAT
    log_rv = np.log(hours.rv[known])
    place = hour_of_week(hours.hour[known])
    day, of_day = place // 24, place % 24
    is_weekend = day >= SATURDAY
    level = np.array([log_rv[day == one].mean() for one in range(7)])
    shapes = {
        weekend: np.array([log_rv[(is_weekend == weekend) & (of_day == one)].mean() for one in range(24)])
        for weekend in (False, True)
    }
    found = np.exp(
        np.concatenate([level[one] + shapes[one >= SATURDAY] - shapes[one >= SATURDAY].mean() for one in range(7)])
    )
    return tuple((found / found.mean()).tolist())


def season_sum(season: tuple[float, ...], first_hour: Ints, hours: int) -> Floats:
    """Return what the hours after each of `first_hour` (counted by ends) usually add up to, in average hours."""
    total = _running_total(season, 2 + hours // HOURS_PER_WEEK)
    start = hour_of_week(np.asarray(first_hour) + 1)
    return np.asarray(total[start + hours] - total[start], dtype=np.float64)


@lru_cache(maxsize=64)
def _running_total(season: tuple[float, ...], weeks: int) -> Floats:
    return np.concatenate(([0.0], np.cumsum(np.tile(season, weeks))))


def season_between(season: tuple[float, ...], start_hours: float, end_hours: float) -> float:
    """Return what the time between two instants, in hours since 1970, usually adds up to, in average hours."""
    total = 0.0
    at = start_hours
    while at < end_hours:
        upto = min(end_hours, float(int(at) + 1))
        total += season[(int(at) + 3 * 24) % HOURS_PER_WEEK] * (upto - at)
        at = upto
    return total
