"""What an operator writes becomes readers; what lacks something is one clear error, a missing key a feed down."""

from __future__ import annotations

import ccxt.pro
import pytest

from bot.domain.units import NS_PER_MIN
from bot.gateways.series.fetching import JsonPages, SeriesDown
from bot.gateways.series.sources import SeriesSource, SourceKind, make_readers
from tests.venues.pages import Pages


async def test_each_kind_is_made_with_its_place_pace_and_key() -> None:
    venue = ccxt.pro.binanceusdm()
    perp = {"of": "BTC", "venue": "binance", "symbol": "BTC/USDT:USDT"}
    observations = {"observations": []}
    try:
        async with Pages({"fred/series/observations": observations}) as server, JsonPages(tries=1) as pages:
            readers = make_readers(
                (
                    SeriesSource(kind=SourceKind.FRED, of="VIXCLS", base_url=server.url, key_variable="MY_KEY"),
                    SeriesSource(kind=SourceKind.DERIBIT_VOLATILITY, of="BTC", pace_s=60.0),
                    SeriesSource(kind=SourceKind.FUNDING, **perp),
                    SeriesSource(kind=SourceKind.OPEN_INTEREST, **perp, pace_s=60.0),
                    SeriesSource(kind=SourceKind.STABLECOINS),
                ),
                pages,
                {"binance": venue},
                {"MY_KEY": "from the environment"},
            )
            assert [one.name for one in readers] == [
                *("VIXCLS", "DVOL-BTC", "FUNDING-BTC", "OI-BTC", "STABLECOIN-SUPPLY")
            ]
            assert [one.pace_ns == NS_PER_MIN for one in readers] == [False, True, False, True, False]
            await readers[0].read(0, 1)
            assert server.asked[0][1]["api_key"] == "from the environment"
    finally:
        await venue.close()


async def test_a_missing_key_is_a_feed_that_is_down() -> None:
    async with JsonPages() as pages:
        [reader] = make_readers((SeriesSource(kind=SourceKind.FRED, of="VIXCLS"),), pages, {}, {})
        with pytest.raises(SeriesDown, match="there is no key"):
            await reader.read(0, 1)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (SeriesSource(kind=SourceKind.FRED), "expected `of`"),
        (SeriesSource(kind=SourceKind.FUNDING, of="BTC", venue="nowhere", symbol="X"), "expected a venue of none"),
    ],
)
def test_a_source_that_lacks_something_is_refused(source: SeriesSource, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_readers((source,), JsonPages(), {}, {})
