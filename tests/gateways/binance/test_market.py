"""Binance's words: spot pairs share their ids with perpetuals."""

from __future__ import annotations

from bot.gateways.binance.market import BinanceMarketWords
from tests.gateways.listings import listing


def test_a_spot_pair_has_a_name_of_its_own() -> None:
    assert BinanceMarketWords().native_id(listing("spot", "ETHUSDT", "ETH/USDT")) == "ETH/USDT"
    assert BinanceMarketWords().native_id(listing("swap", "ETHUSDT", "ETH/USDT:USDT")) == "ETHUSDT"
