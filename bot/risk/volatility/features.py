"""What a forecast may look at: regressors by name, at the end of every hour, made of that hour and those before it.

`rv24` is the log of the mean hourly variance over the last 24 hours, `range24` that which Parkinson's range of 24 hours
tells, averaged over as many days as the number says. `swing16` is the log of what five-minute ranges tell on average,
an hour 16 hours ago counting half; `late1` of the last hour, its end counting most; both against what is usual then.
What speaks of the target is the calendar alone: `hour13` is the share of it that lies between 13:00 and 14:00 UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from scipy.signal import lfilter

from bot.risk.volatility.ewma import decay_of_half_life
from bot.risk.volatility.measures import (
    STEPS_PER_HOUR,
    Floats,
    Hours,
    Ints,
    trailing_range,
    trailing_sum,
)
from bot.risk.volatility.seasons import FLAT, HOURS_PER_WEEK, season_sum

DAY: Final = 24
LEAST_LOG: Final = 1e-14  # variance of an hour in which nothing moved: its log is finite
DAY_FLAGS: Final = tuple(tuple(float(place // DAY == day) for place in range(HOURS_PER_WEEK)) for day in range(7))
DAYS: Final = {"monday": 0, "tuesday": 1, "wednesday": 2, "thursday": 3, "friday": 4, "saturday": 5, "sunday": 6}
HOURS_OF_DAY: Final = {
    f"hour{hour}": tuple(float(place % DAY == hour) for place in range(HOURS_PER_WEEK)) for hour in range(DAY)
}
SCALE_HOURS: Final = 168  # over which ranges are scaled to what squared returns tell
LEAST_WEIGHT: Final = 0.5  # of an average that forgets: with less of it known it is not known


class Features:
    """The regressors of hours without gaps (`without_gaps`), made when asked for and kept.

    `others` are series by name with one value per hour, known at that hour's end: a volatility index, macro series.
    `season` is the usual busyness of the hours of the week.
    """

    def __init__(
        self, hours: Hours, season: tuple[float, ...] = FLAT, others: Mapping[str, Floats] | None = None
    ) -> None:
        self.hours = hours
        self.season = season
        self._others = dict(others or {})
        self._made: dict[str, Floats] = {}
        self._ranges: dict[int, Floats] = {}

    def rows(self, names: Sequence[str], horizon: int) -> Floats:
        """Return a row of regressors per hour, of what is known at its end, for the `horizon` hours that follow."""
        return np.column_stack([self.column(name, horizon) for name in names])

    def target(self, horizon: int) -> Floats:
        """Return the variance that came in the `horizon` hours after each hour; NaN where that is not yet known."""
        out = np.full(len(self.hours), np.nan)
        if len(self.hours) > horizon:
            out[:-horizon] = trailing_sum(self.hours.rv, horizon, 0.9)[horizon:]
        return out

    def column(self, name: str, horizon: int) -> Floats:
        """Return one regressor at every hour. Raises KeyError for a name that means nothing."""
        if name in DAYS:
            return self._share_of(DAY_FLAGS[DAYS[name]], horizon)
        if name in HOURS_OF_DAY:
            return self._share_of(HOURS_OF_DAY[name], horizon)
        if name == "season":
            return np.asarray(np.log(season_sum(self.season, self.hours.hour, horizon) / horizon), dtype=np.float64)
        if name not in self._made:
            self._made[name] = self._others[name] if name in self._others else self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Floats:
        kind = name.rstrip("0123456789")
        digits = name[len(kind) :]
        if kind == "one":
            return np.ones(len(self.hours))
        maker = MAKERS.get(kind)
        if maker is None or not digits:
            raise KeyError(name)
        return maker(self, int(digits))

    def _share_of(self, flags: tuple[float, ...], horizon: int) -> Floats:
        return season_sum(flags, self.hours.hour, horizon) / horizon

    def mean_variance(self, values: Floats, window: int) -> Floats:
        """Return the mean of an hourly sum over the last `window` hours, never nought."""
        return np.maximum(trailing_sum(values, window) / window, LEAST_LOG)

    def _rv(self, window: int) -> Floats:
        return np.log(self.mean_variance(self.hours.rv, window))

    def _calm_rv(self, window: int) -> Floats:
        """Return the variance of the window against what its hours usually have."""
        return np.asarray(self._rv(window) - np.log(self._usual(window)), dtype=np.float64)

    def _usual(self, window: int) -> Floats:
        return season_sum(self.season, self.hours.hour - window, window) / window

    def _range(self, window: int) -> Floats:
        """Return the variance that ranges tell: of the window up to a day, else the mean of its days' ranges."""
        one = min(window, DAY)
        if one not in self._ranges:
            self._ranges[one] = trailing_range(self.hours, one)
        single = self._ranges[one]
        if window > DAY:
            days = window // DAY
            stacked = np.vstack([_later(single, back * DAY) for back in range(days)])
            known = np.isfinite(stacked)
            count = known.sum(axis=0)
            mean = np.where(known, stacked, 0.0).sum(axis=0) / np.maximum(count, 1)
            single = np.where(count >= 0.75 * days, mean, np.nan)
        return np.log(np.maximum(single / one, LEAST_LOG))

    def _swing(self, half_life: int) -> Floats:
        """Return what ranges tell against what each hour usually has: a mean that forgets, as variance."""
        calm = self.hours.swing * np.exp(self._range_scale()) / self._usual(1)
        decay = decay_of_half_life(half_life)
        known = np.isfinite(calm)
        weight = lfilter([1.0 - decay], [1.0, -decay], known.astype(np.float64))
        total = lfilter([1.0 - decay], [1.0, -decay], np.where(known, calm, 0.0))
        mean = np.where(weight >= LEAST_WEIGHT, total / np.maximum(weight, LEAST_WEIGHT), np.nan)
        return np.asarray(np.log(np.maximum(mean, LEAST_LOG)), dtype=np.float64)

    def _late(self, window: int) -> Floats:
        """Return what ranges tell of the ends of the hours of the window, against what they usually have."""
        calm = self.hours.late * np.exp(self._range_scale()) / self._usual(1)
        return np.asarray(np.log(self.mean_variance(calm, window)), dtype=np.float64)

    def _range_scale(self) -> Floats:
        """Return by how much, in logs, squared returns told more than ranges did over the last week (a day at least).

        Ranges are the less of it the fewer prices there are in five minutes, and the more the wider a quote bounces:
        scaled they mean the same of candles, of an index and of a feed that is slow (Martens and van Dijk 2007).
        """
        if "range scale" not in self._made:
            of_ranges = self._mean_log(self.hours.swing, SCALE_HOURS)
            self._made["range scale"] = self._mean_log(self.hours.rv, SCALE_HOURS) - of_ranges
        return self._made["range scale"]

    def _mean_log(self, values: Floats, window: int) -> Floats:
        above_least = np.log(np.maximum(values, LEAST_LOG) / LEAST_LOG)
        return np.asarray(trailing_sum(above_least, window, DAY / window) / window, dtype=np.float64)

    def _down(self, window: int) -> Floats:
        return np.log(self.mean_variance(self.hours.down, window))

    def _up(self, window: int) -> Floats:
        return np.log(self.mean_variance(self.hours.rv - self.hours.down, window))

    def _bipower(self, window: int) -> Floats:
        return np.log(self.mean_variance(self.hours.bipower, window))

    def _jump(self, window: int) -> Floats:
        return np.maximum(self._rv(window) - self._bipower(window), 0.0)

    def _vague(self, window: int) -> Floats:
        """HARQ: the log variance times how vague it is, sqrt(RQ)/RV (Bollerslev, Patton and Quaedvlieg 2016)."""
        quarticity = trailing_sum(self.hours.quarticity, window) * window * STEPS_PER_HOUR / 3.0
        total = np.maximum(trailing_sum(self.hours.rv, window), LEAST_LOG)
        return np.asarray(self._rv(window) * np.sqrt(quarticity) / total, dtype=np.float64)

    def move(self, window: int) -> Floats:
        """Return the log return over the last `window` hours; NaN where too few of them are known."""
        log_px = np.log(self.hours.close_px)
        move = log_px - _later(log_px, window)
        return np.where(np.isfinite(trailing_sum(self.hours.rv, window)), move, np.nan)

    def _fall(self, window: int) -> Floats:
        """Leverage: the fall over the window in units of the vol over it; nought after a rise."""
        vol = np.sqrt(self.mean_variance(self.hours.rv, window) * window)
        return np.asarray(np.minimum(self.move(window), 0.0) / vol, dtype=np.float64)


MAKERS: Final[dict[str, Callable[[Features, int], Floats]]] = {
    "rv": Features._rv,
    "calm": Features._calm_rv,
    "range": Features._range,
    "swing": Features._swing,
    "late": Features._late,
    "down": Features._down,
    "up": Features._up,
    "bipower": Features._bipower,
    "jump": Features._jump,
    "vague": Features._vague,
    "fall": Features._fall,
}


def _later(values: Floats, steps: int) -> Floats:
    """Return the values as they were so many steps before, NaN where there was none."""
    out = np.full(values.size, np.nan)
    if steps < values.size:
        out[steps:] = values[: values.size - steps]
    return out


def known_by_hour(hour: Sequence[int] | Ints, published_hour: Floats, values: Floats) -> Floats:
    """Return the newest value of a series published by each hour's end: NaN before the first.

    `published_hour` says, ascending, when each value could first be known, so nothing looks ahead.
    """
    place = np.searchsorted(published_hour, np.asarray(hour, dtype=np.float64), side="right") - 1
    return np.where(place >= 0, values[np.maximum(place, 0)], np.nan)
