"""Macro and liquidity conditions as one multiplier of buffers, from 1 to 2: they only raise, and each says by how much.

A rule reads one series as it was published by now: its level, or how much it changed over a while. What is missing or
old is named and counts as the rule says; where the volatility model itself lacks one of its features, its variance is
inflated as well, by 1.25 unless the parameters say otherwise.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from enum import StrEnum
from math import isfinite

import msgspec

from bot.domain.risk import SeriesValue
from bot.domain.units import NS_PER_S
from bot.risk.counterparties import Knots, along

MAX_MULTIPLIER = 2.0
_MAX_HISTORY = 4_096  # values of a series: years of days, weeks of minutes


class Reading(StrEnum):
    """What of a series a rule reads: its value, or the change over `window_s`, as a difference or as a share."""

    LEVEL = "level"
    CHANGE = "change"
    GROWTH = "growth"


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One rule: knots lead from what is read to a multiplier of at least 1. `unknown` is the multiplier without it.

    `is_feature` says that the volatility model in use takes this series as a regressor.
    """

    series: str
    reading: Reading = Reading.LEVEL
    window_s: float = 0.0
    max_age_s: float
    knots: Knots
    unknown: float = 1.0
    is_feature: bool = False

    def __post_init__(self) -> None:
        rises = [x for x, _ in self.knots] == sorted({x for x, _ in self.knots})
        if not self.knots or not rises:
            raise ValueError(f"{self.series}: expected rising knots, found {self.knots}")
        lowest = min([y for _, y in self.knots] + [self.unknown])
        if not lowest >= 1.0:
            raise ValueError(f"{self.series}: expected multipliers of at least 1, found {lowest:g}; they only raise")
        if self.reading is not Reading.LEVEL and self.window_s <= 0.0:
            raise ValueError(f"{self.series}: expected window_s above 0 for {self.reading}, found {self.window_s:g}")


class ConditionParameters(msgspec.Struct, frozen=True, kw_only=True):
    """The rules, and what the variance of a forecast is multiplied by where one of its features is missing."""

    rules: tuple[Condition, ...]
    missing_feature_variance: float = 1.25


class Reason(msgspec.Struct, frozen=True):
    """One rule as it was read: its multiplier, and the figure behind it or why there is none."""

    series: str
    multiplier: float
    text: str
    is_missing: bool = False


class Conditions(msgspec.Struct, frozen=True):
    """What holds now. `multiplier` is for buffers, `variance_multiplier` for the forecast's variance."""

    multiplier: float
    variance_multiplier: float
    reasons: tuple[Reason, ...]
    missing: tuple[str, ...]

    @property
    def text(self) -> str:
        """The reasons that raise anything, and what is missing, in one line."""
        raised = [f"{one.text} ×{one.multiplier:.2f}" for one in self.reasons if one.multiplier > 1.0]
        return "; ".join(raised) or "nothing raises buffers"


class ConditionsKeeper:
    """Remembers series as they were published and reads the rules of them at any time."""

    def __init__(self, parameters: ConditionParameters) -> None:
        self._parameters = parameters
        self._history: dict[str, list[SeriesValue]] = {rule.series: [] for rule in parameters.rules}

    def note(self, value: SeriesValue) -> None:
        """Take in a value; one of a series that no rule reads, or that is no number, is passed over."""
        history = self._history.get(value.series)
        if history is None or not isfinite(value.value):
            return
        insort(history, value, key=_order)
        if len(history) > _MAX_HISTORY:
            del history[0]

    def at(self, now_ns: int) -> Conditions:
        """Return the conditions as anybody could know them at `now_ns`."""
        reasons = tuple(self._read(rule, now_ns) for rule in self._parameters.rules)
        multiplier = 1.0 + sum(one.multiplier - 1.0 for one in reasons)
        lacks = any(
            reason.is_missing and rule.is_feature for reason, rule in zip(reasons, self._parameters.rules, strict=True)
        )
        return Conditions(
            multiplier=min(MAX_MULTIPLIER, max(1.0, multiplier)),
            variance_multiplier=max(1.0, self._parameters.missing_feature_variance) if lacks else 1.0,
            reasons=reasons,
            missing=tuple(dict.fromkeys(one.series for one in reasons if one.is_missing)),
        )

    def _read(self, rule: Condition, now_ns: int) -> Reason:
        newest = self._newest(rule.series, now_ns)
        if newest is None:
            return self._without(rule, "never told")
        age_s = (now_ns - newest.ts_event_ns) / NS_PER_S
        if age_s > rule.max_age_s:
            return self._without(rule, f"{_span(age_s)} old, limit {_span(rule.max_age_s)}")
        if rule.reading is Reading.LEVEL:
            return Reason(rule.series, along(rule.knots, newest.value), f"{rule.series} is {newest.value:g}")
        window_ns = int(rule.window_s * NS_PER_S)
        before = self._newest(rule.series, now_ns, newest.as_of_ns - window_ns)
        if before is None:
            return self._without(rule, f"less than {_span(rule.window_s)} of it is known")
        change = newest.value - before.value
        if rule.reading is Reading.GROWTH:
            if before.value <= 0.0:
                return self._without(rule, f"no growth from {before.value:g}")
            change /= before.value
        told = f"{change:+.2%}" if rule.reading is Reading.GROWTH else f"{change:+g}"
        return Reason(rule.series, along(rule.knots, change), f"{rule.series} {told} in {_span(rule.window_s)}")

    def _newest(self, series: str, now_ns: int, as_of_ns: int | None = None) -> SeriesValue | None:
        """Return the last value that speaks of `as_of_ns` at the latest and was published by `now_ns`."""
        history = self._history[series]
        end = len(history) if as_of_ns is None else bisect_right(history, as_of_ns, key=_spoken_of)
        return next((history[place] for place in range(end - 1, -1, -1) if history[place].ts_event_ns <= now_ns), None)

    @staticmethod
    def _without(rule: Condition, why: str) -> Reason:
        return Reason(rule.series, rule.unknown, f"{rule.series} is missing: {why}", is_missing=True)


def changes(before: Conditions | None, after: Conditions) -> tuple[str, ...]:
    """Return a line for each rule whose multiplier or presence changed, for the log; nothing changes silently."""
    old: Sequence[Reason] = before.reasons if before is not None else ()
    lines: list[str] = []
    for place, now in enumerate(after.reasons):
        was = old[place] if place < len(old) else Reason(now.series, 1.0, "")
        if now.multiplier != was.multiplier or now.is_missing != was.is_missing:
            lines.append(f"×{was.multiplier:.2f} → ×{now.multiplier:.2f}: {now.text}")
    if before is not None and before.variance_multiplier != after.variance_multiplier:
        lines.append(f"forecast variance ×{before.variance_multiplier:g} → ×{after.variance_multiplier:g}")
    return tuple(lines)


def _order(value: SeriesValue) -> tuple[int, int]:
    return value.as_of_ns, value.ts_event_ns


def _spoken_of(value: SeriesValue) -> int:
    return value.as_of_ns


def _span(seconds: float) -> str:
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:g} {unit}" if seconds % size == 0 else f"{seconds / size:.1f} {unit}"
    return f"{seconds:g} s"
