"""Hours made of prices as they come: the same hours that `measures.hours_of` makes of a whole record."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from math import inf, isfinite, log, nan, pi
from typing import Final

import numpy as np

from bot.risk.volatility.measures import (
    LATE_WEIGHTS,
    LEAST_STEPS,
    NS_PER_HOUR,
    STEP_NS,
    STEPS_PER_HOUR,
    Hours,
    without_gaps,
)

KEPT_HOURS: Final = 31 * 24  # what a month's mean needs, and a day more
FOUR_LOG_TWO: Final = 4.0 * log(2.0)  # Parkinson's
COLUMNS: Final = len(Hours.__struct_fields__)


class HourBuilder:
    """Takes prices, ascending in time, and keeps the newest hours; what is no price is counted and left out."""

    def __init__(self, kept_hours: int = KEPT_HOURS) -> None:
        self.refused = 0
        self.last_px = nan
        self.last_ns = 0
        self._rows: deque[tuple[float, ...]] = deque(maxlen=kept_hours)
        self._kept_hours = kept_hours
        self._step = -1  # the step that prices now fall into, counted by its end
        self._edge_px = nan  # price at the last edge, NaN before the first
        self._is_fresh = False  # whether this step has a price of its own
        self._was_fresh = True
        self._is_whole = False  # whether this hour was there from its beginning
        self._returns: list[float] = []  # of this hour, by step
        self._ranges: list[float] = []  # what the range of each of those steps tells as variance
        self._high_px, self._low_px = -inf, inf  # of this step, the price at its beginning among them
        self._hour_high_px, self._hour_low_px = -inf, inf  # of the steps of this hour that are over

    @property
    def newest_hour(self) -> int:
        """The hour that ended last, 0 before the first."""
        return int(self._rows[-1][0]) if self._rows else 0

    def __len__(self) -> int:
        return len(self._rows)

    def note(self, now_ns: int, px: float) -> bool:
        """Take in a price, and tell whether an hour ended before it."""
        if not (isfinite(px) and px > 0.0) or now_ns < self.last_ns:
            self.refused += 1
            return False
        step = -(-now_ns // STEP_NS)
        has_ended = False
        if step != self._step:
            has_ended = self._advance(step)
        self.last_ns = now_ns
        self.last_px = px
        self._is_fresh = True
        self._high_px = max(self._high_px, px)
        self._low_px = min(self._low_px, px)
        return has_ended

    def pass_time(self, now_ns: int) -> bool:
        """Let time pass without a price, and tell whether an hour ended: one that ended exactly now did."""
        if self._step < 0 or now_ns < self.last_ns:
            return False
        step = now_ns // STEP_NS + 1
        return self._advance(step) if step > self._step else False

    def seed(self, hours: Hours) -> None:
        """Put hours from elsewhere before those of its own; those not older than its own are left out."""
        own = list(self._rows)
        first = own[0][0] if own else float("inf")
        if self._step >= 0:
            first = min(first, self._step // STEPS_PER_HOUR + 1)
        columns = [getattr(hours, name).tolist() for name in hours.__struct_fields__]
        older = [row for row in zip(*columns, strict=True) if row[0] < first]
        self._rows = deque([*older, *own], maxlen=self._kept_hours)

    def hours(self) -> Hours:
        """Return the hours there are, those missing in between as unknown."""
        table = np.array(self._rows, dtype=np.float64).reshape(len(self._rows), COLUMNS)
        columns = (table[:, column].copy() for column in range(1, COLUMNS))
        return without_gaps(Hours(table[:, 0].astype(np.int64), *columns))

    def variance_so_far(self) -> float:
        """Return the variance of the hour that has not ended, up to the newest price; nought at first."""
        move = log(self.last_px / self._edge_px) if isfinite(self._edge_px) else 0.0
        return sum(one * one for one in self._returns if isfinite(one)) + move * move

    def hours_so_far(self, rest: float) -> Hours:
        """Return the hours with the one that has not ended as the newest, as if `rest` were still to come of it."""
        so_far = self.variance_so_far()
        move = log(self.last_px / self._edge_px) if isfinite(self._edge_px) else 0.0
        down = sum(one * one for one in (*self._returns, move) if one < 0.0) + 0.5 * rest
        high, low = max(self._hour_high_px, self._high_px), min(self._hour_low_px, self._low_px)
        ranges = [*self._ranges, self._step_range()]
        swing = sum(one for one in ranges if isfinite(one)) + rest
        calm = [rest / STEPS_PER_HOUR] * (STEPS_PER_HOUR - len(ranges))  # steps to come are taken to be over already
        late = _late([*calm, *ranges])
        row = (self._step // STEPS_PER_HOUR + 1.0, self.last_px, high, low, so_far + rest, down, nan, nan, swing, late)
        if self._step % STEPS_PER_HOUR == 0:
            row = (row[0] - 1.0, *row[1:])
        kept = self._rows
        self._rows = deque([*kept, row], maxlen=self._kept_hours)
        try:
            return self.hours()
        finally:
            self._rows = kept

    def _advance(self, step: int) -> bool:
        """Close every step before `step`."""
        if self._step < 0:
            self._step = step
            return False
        has_ended = False
        if step - self._step > STEPS_PER_HOUR * self._kept_hours:  # all that is remembered lies before the gap
            self._step = step - STEPS_PER_HOUR * self._kept_hours
            self._edge_px, self._is_whole, self._is_fresh = nan, False, False
            self._returns.clear()
            self._ranges.clear()
        while self._step < step:
            has_ended |= self._close_step()
        return has_ended

    def _close_step(self) -> bool:
        is_known = self._is_fresh and self._was_fresh and isfinite(self._edge_px)
        self._returns.append(log(self.last_px / self._edge_px) if is_known else nan)
        self._ranges.append(self._step_range() if is_known else nan)
        self._hour_high_px = max(self._hour_high_px, self._high_px)
        self._hour_low_px = min(self._hour_low_px, self._low_px)
        self._edge_px = self._high_px = self._low_px = self.last_px
        self._was_fresh, self._is_fresh = self._is_fresh, False
        ended = self._step % STEPS_PER_HOUR == 0
        if ended:
            if self._is_whole and len(self._returns) == STEPS_PER_HOUR:
                self._rows.append(self._row(self._step // STEPS_PER_HOUR))
            else:
                ended = False
            self._returns.clear()
            self._ranges.clear()
            self._is_whole = True
            self._hour_high_px = self._hour_low_px = self.last_px
        self._step += 1
        return ended

    def _step_range(self) -> float:
        """Return what the range of the step so far tells as variance; nought before any price."""
        return log(self._high_px / self._low_px) ** 2 / FOUR_LOG_TWO if self._low_px < inf else 0.0

    def _row(self, hour: int) -> tuple[float, ...]:
        known = [one for one in self._returns if isfinite(one)]
        if len(known) < LEAST_STEPS:
            sums = (nan,) * 6
        else:
            scale = STEPS_PER_HOUR / len(known)
            pairs = [size for a, b in pairwise(self._returns) if isfinite(size := abs(a * b))]
            sums = (
                scale * sum(one * one for one in known),
                scale * sum(one * one for one in known if one < 0.0),
                0.5 * pi * STEPS_PER_HOUR / max(1, len(pairs)) * sum(pairs),
                scale * sum(one**4 for one in known),
                scale * sum(one for one in self._ranges if isfinite(one)),
                _late(self._ranges),
            )
        return (float(hour), self._edge_px, self._hour_high_px, self._hour_low_px, *sums)


def _late(ranges: list[float]) -> float:
    """Return the hourly variance that the ranges of twelve steps tell, the later the weightier."""
    known = [(weight, one) for weight, one in zip(LATE_WEIGHTS, ranges, strict=True) if isfinite(one)]
    return STEPS_PER_HOUR * sum(weight * one for weight, one in known) / sum(weight for weight, _ in known)


def hour_of(now_ns: int) -> float:
    """Return the hours since 1970 at an instant."""
    return now_ns / NS_PER_HOUR
