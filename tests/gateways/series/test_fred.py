"""FRED's shape: strings, dots, vintages; nothing is known before the day of its vintage is over."""

from __future__ import annotations

from typing import Any

import pytest

from bot.domain.units import NS_PER_DAY
from bot.gateways.series.fetching import JsonPages, SeriesDown
from bot.gateways.series.fred import FredSeries
from bot.gateways.series.reader import day_ns
from tests.venues.pages import Pages

PATH = "fred/series/observations"
NOW_NS = day_ns("2026-01-09")


def observation(day: str, value: str, made: str) -> dict[str, str]:
    return {"realtime_start": made, "realtime_end": "9999-12-31", "date": day, "value": value}


def answer(*rows: dict[str, str]) -> dict[str, Any]:
    return {"observation_start": "2025-12-01", "units": "lin", "count": len(rows), "observations": list(rows)}


def client() -> JsonPages:
    return JsonPages(tries=1)


async def test_observations_with_their_vintages() -> None:
    rows = answer(
        observation("2026-01-02", "17.3", "2026-01-05"),
        observation("2026-01-02", "17.5", "2026-01-07"),
        observation("2026-01-01", ".", "2026-01-02"),
        observation("2026-01-08", "18.0", "2026-01-09"),
    )
    async with Pages({PATH: rows}) as server, client() as pages:
        series = FredSeries(pages, "VIXCLS", "hush-hush", base_url=server.url + "/")
        values = await series.read(NOW_NS - NS_PER_DAY, NOW_NS)
        [(_, query)] = server.asked
    assert [(one.as_of_ns, one.value, one.ts_event_ns) for one in values] == [
        (day_ns("2026-01-02"), 17.3, day_ns("2026-01-06")),
        (day_ns("2026-01-02"), 17.5, day_ns("2026-01-08")),
        (day_ns("2026-01-08"), 18.0, NOW_NS),  # it was read before its day was over
    ]
    assert query["series_id"] == "VIXCLS"
    assert query["api_key"] == "hush-hush"
    assert (query["realtime_start"], query["observation_start"]) == ("1776-07-04", "2025-12-10")


async def test_what_is_no_fred_is_down_and_says_why() -> None:
    async with Pages({PATH: {"error_message": "bad"}}) as server, client() as pages:
        with pytest.raises(SeriesDown, match="there is no key"):
            await FredSeries(pages, "VIXCLS", "", base_url=server.url).read(0, NOW_NS)
        assert server.asked == []
        series = FredSeries(pages, "VIXCLS", "hush-hush", base_url=server.url)
        with pytest.raises(SeriesDown, match="expected observations"):
            await series.read(0, NOW_NS)
        server.pages[PATH] = answer(observation("yesterday", "1", "2026-01-02"))
        with pytest.raises(SeriesDown, match="expected a day"):
            await series.read(0, NOW_NS)
        del server.pages[PATH]
        with pytest.raises(SeriesDown) as down:
            await series.read(0, NOW_NS)
        assert "hush" not in str(down.value)
