"""Deribit's volatility index: every page is read, and a candle counts when it is over."""

from __future__ import annotations

from typing import Any

import pytest

from bot.domain.units import NS_PER_HOUR
from bot.gateways.series.deribit_volatility import DeribitVolatility
from bot.gateways.series.fetching import JsonPages, SeriesDown
from tests.venues.pages import Pages

PATH = "api/v2/public/get_volatility_index_data"
HOUR_MS = 3_600_000


def candles(query: dict[str, str], page: int = 4) -> dict[str, Any]:
    """Hourly candles closing at 50 plus the hour; the newest `page` of what is asked for, as Deribit pages."""
    first = -(-int(query["start_timestamp"]) // HOUR_MS)
    last = int(query["end_timestamp"]) // HOUR_MS
    hours = list(range(first, last + 1))
    shown = hours[-page:]
    rows = [[hour * HOUR_MS, 49.0, 60.0, 40.0, 50.0 + hour] for hour in shown]
    more = shown[0] * HOUR_MS if len(shown) < len(hours) else None
    return {"jsonrpc": "2.0", "result": {"data": rows, "continuation": more}, "usIn": 1, "usOut": 2, "usDiff": 1}


async def test_pages_are_followed_to_the_start_and_an_open_candle_waits() -> None:
    async with Pages({PATH: candles}) as server, JsonPages(tries=1) as pages:
        series = DeribitVolatility(pages, "BTC", base_url=server.url)
        values = await series.read(2 * NS_PER_HOUR, 12 * NS_PER_HOUR + 5)
        assert [one.value for one in values] == [50.0 + hour for hour in range(2, 12)]  # the one of 12:00 is not over
        assert [one.as_of_ns for one in values] == [hour * NS_PER_HOUR for hour in range(3, 13)]
        assert all(one.ts_event_ns == one.as_of_ns for one in values)
        assert values[0].series == "DVOL-BTC"
        assert len(server.asked) == 4
        assert server.asked[0][1]["resolution"] == "3600"


async def test_a_page_that_leads_nowhere_ends_it() -> None:
    stuck = {"result": {"data": [[0, 1, 1, 1, 60.0]], "continuation": 99 * HOUR_MS}}
    async with Pages({PATH: stuck}) as server, JsonPages(tries=1) as pages:
        values = await DeribitVolatility(pages, "ETH", base_url=server.url).read(0, 5 * NS_PER_HOUR)
        assert [one.value for one in values] == [60.0]
        assert len(server.asked) == 1


@pytest.mark.parametrize("answer", [[], {"result": None}, {"result": {"data": [[1, 2]]}}, {"error": {"code": 1}}])
async def test_another_shape_is_down(answer: object) -> None:
    async with Pages({PATH: answer}) as server, JsonPages(tries=1) as pages:
        with pytest.raises(SeriesDown, match="expected candles"):
            await DeribitVolatility(pages, "BTC", base_url=server.url).read(0, NS_PER_HOUR)


def test_a_resolution_deribit_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a resolution"):
        DeribitVolatility(JsonPages(), "BTC", resolution_s=7)
