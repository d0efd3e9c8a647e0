"""A supposed order is asked of the venue itself: what it answers is what the local model says of the same positions."""

from __future__ import annotations

import pytest

from bot.domain.risk import SupposedPosition
from bot.gateways.supposing import suppose
from bot.gateways.venue_words import order_words_of
from bot.risk.book import PERPETUAL, Position, build_book
from bot.risk.margin.deribit_portfolio import requirement
from tests.gateways.desks import rigged
from tests.risk.margin.cases import parameters
from tests.venues.binance import BinanceServer, usdm_book
from tests.venues.deribit import DeribitServer
from tests.venues.deribit_markets import quoted_book


async def test_the_venues_answer_and_the_models_agree() -> None:
    async with DeribitServer(quoted_book()) as server, rigged("deribit", "deribit", server, runs=False) as rig:
        words = order_words_of("deribit")
        change = SupposedPosition("ETH-PERPETUAL", -3.0, 2_000.0)
        found = await suppose(rig.exchange, rig.markets, words, [change])
        assert found is not None
        legs = [Position(kind=PERPETUAL, underlying="ETH", qty_base=-3.0, money="ETH")]
        local = requirement(build_book(legs, {"ETH": 2_000.0}), parameters("deribit_portfolio"))
        (margin,) = found.margins
        assert (margin.initial_quote, margin.maintenance_quote) == pytest.approx((local.initial, local.maintenance))
        assert found.items_quote["ETH worst_case"] == pytest.approx(local.charge("ETH/ETH worst").initial)
        assert found.items_quote["ETH roll_shock"] == pytest.approx(local.charge("ETH/ETH roll shock").initial)
        with pytest.raises(KeyError, match="NO-SUCH"):
            await suppose(rig.exchange, rig.markets, words, [SupposedPosition("NO-SUCH", 1.0, 1.0)])


async def test_a_venue_without_such_a_query_says_none() -> None:
    async with BinanceServer(usdm_book()) as server, rigged("binance", "binanceusdm", server, runs=False) as rig:
        name = rig.markets.instruments[0].instrument_id
        assert (
            await suppose(rig.exchange, rig.markets, order_words_of("binanceusdm"), [SupposedPosition(name, 1.0, 1.0)])
            is None
        )
