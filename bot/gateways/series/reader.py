"""What a reader of a series is, and how its numbers become values with the time at which they could be known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from math import isfinite
from typing import Protocol

from bot.domain.risk import SeriesValue
from bot.domain.units import NS_PER_S
from bot.gateways.series.fetching import SeriesDown


class Reader(Protocol):
    """Reads one series."""

    @property
    def name(self) -> str:
        """What its values are called."""

    @property
    def pace_ns(self) -> int:
        """How often it is worth asking."""

    async def read(self, since_ns: int, now_ns: int) -> Sequence[SeriesValue]:
        """Return what is known since then, oldest first. Raises SeriesDown where it cannot be had."""


def value_of(series: str, number: float, as_of_ns: int, published_ns: int, now_ns: int) -> SeriesValue | None:
    """Return a value, None for what is no number or speaks of the future; nothing is published after it was read."""
    if not isfinite(number) or as_of_ns > now_ns:
        return None
    return SeriesValue(series, number, as_of_ns, max(as_of_ns, min(published_ns, now_ns)), now_ns)


def day_ns(text: object) -> int:
    """Return the start of a day written as 2026-01-02, in UTC. Raises SeriesDown for anything else."""
    try:
        day = date.fromisoformat(str(text))
    except ValueError:
        raise SeriesDown(f"expected a day such as 2026-01-02, found {str(text)[:40]!r}") from None
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * NS_PER_S


def day_text(ns: int) -> str:
    """Return the UTC day of a time, as 2026-01-02."""
    return f"{datetime.fromtimestamp(max(0, ns) // NS_PER_S, tz=UTC):%Y-%m-%d}"
