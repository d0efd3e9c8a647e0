"""Stablecoin supply: a sum over pegs per day, told when the day is over."""

from __future__ import annotations

import pytest

from bot.domain.units import NS_PER_DAY
from bot.gateways.series.fetching import JsonPages, SeriesDown
from bot.gateways.series.stablecoins import StablecoinSupply
from tests.venues.pages import Pages

PATH = "stablecoincharts/all"
DAY_S = 86_400


def day(number: int, usd: float) -> dict[str, object]:
    pegs = {"peggedUSD": usd, "peggedEUR": 5.0, "peggedVAR": None}
    return {"date": str(number * DAY_S), "totalCirculating": {"peggedUSD": usd}, "totalCirculatingUSD": pegs}


async def test_days_that_are_over_are_summed() -> None:
    rows = [day(1, 90.0), day(2, 100.0), day(3, 110.0)]
    async with Pages({PATH: rows}) as server, JsonPages(tries=1) as pages:
        values = await StablecoinSupply(pages, base_url=server.url).read(2 * NS_PER_DAY, 3 * NS_PER_DAY + 1)
    assert [(one.series, one.value, one.as_of_ns, one.ts_event_ns) for one in values] == [
        ("STABLECOIN-SUPPLY", 105.0, 2 * NS_PER_DAY, 3 * NS_PER_DAY)
    ]


@pytest.mark.parametrize("answer", [{"error": 1}, [{"date": "1"}], ["x"], [{"date": "?", "totalCirculatingUSD": {}}]])
async def test_another_shape_is_down(answer: object) -> None:
    async with Pages({PATH: answer}) as server, JsonPages(tries=1) as pages:
        with pytest.raises(SeriesDown, match="STABLECOIN-SUPPLY: expected"):
            await StablecoinSupply(pages, base_url=server.url).read(0, NS_PER_DAY)
