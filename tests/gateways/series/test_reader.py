"""Numbers become values with the time at which they could be known."""

from __future__ import annotations

from math import inf, nan

import pytest

from bot.domain.units import NS_PER_DAY
from bot.gateways.series.fetching import SeriesDown
from bot.gateways.series.reader import day_ns, day_text, value_of


def test_a_value_is_published_between_what_it_speaks_of_and_now() -> None:
    def published(as_of_ns: int, published_ns: int) -> int:
        value = value_of("X", 1.0, as_of_ns, published_ns, 100)
        assert value is not None
        return value.ts_event_ns

    assert published(10, 20) == 20
    assert published(10, 500) == 100  # it was read, so it was public
    assert published(10, 5) == 10
    assert value_of("X", 1.0, 101, 101, 100) is None
    assert value_of("X", nan, 1, 1, 100) is None
    assert value_of("X", inf, 1, 1, 100) is None


def test_days_are_read_and_written() -> None:
    assert day_ns("1970-01-03") == 2 * NS_PER_DAY
    assert day_text(2 * NS_PER_DAY + 1) == "1970-01-03"
    assert day_text(-5) == "1970-01-01"
    with pytest.raises(SeriesDown, match="expected a day"):
        day_ns("soon")
    with pytest.raises(SeriesDown, match="expected a day"):
        day_ns(None)
