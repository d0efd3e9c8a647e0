"""Each venue's own pages, in their documented shapes, through the real ccxt."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import isnan, nan
from typing import Any

import ccxt.pro
import pytest

from bot.gateways.counterparty_words import (
    FUNDS,
    deepest_drawdown,
    discount_share,
    open_interest,
    rank_share,
    withdrawals_word,
    worst_word,
)
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from tests.venues.binance import usdm_book
from tests.venues.pages import Pages
from tests.venues.treasury import Treasury

BYBIT = {
    "v5/market/insurance": {
        "retCode": 0,
        "retMsg": "OK",
        "result": {
            "updatedTime": "1714003200000",
            "list": [
                {"coin": "USDT", "symbols": "MERLUSDT,ZEUSUSDT", "balance": "902178.57602476", "value": "901898.0963"},
                {"coin": "BTC", "symbols": "BTCUSD", "balance": "2.5", "value": "150000"},
            ],
        },
    },
    "v5/market/adlAlert": {
        "retCode": 0,
        "retMsg": "OK",
        "result": {
            "updatedTime": "1757733960000",
            "list": [
                {"coin": "USDT", "symbol": "BTCUSDT", "balance": "92203504694.99632", "maxBalance": "",
                 "insurancePnlRatio": "-0.3", "pnlRatio": "-0.21", "adlTriggerThreshold": "10000",
                 "adlStopRatio": "-0.25"},
                {"coin": "USDT", "symbol": "FWOGUSDT", "balance": "-5421.29889888", "maxBalance": "",
                 "insurancePnlRatio": "-0.3", "pnlRatio": "-0.9", "adlTriggerThreshold": "10000",
                 "adlStopRatio": "-0.25"},
            ],
        },
    },
}  # fmt: skip
OKX = {
    "api/v5/public/insurance-fund": {
        "code": "0",
        "msg": "",
        "data": [
            {"details": [{"balance": "1343.1308", "ccy": "ETH", "ts": "1704883083000", "type": "regular_update"}],
             "instFamily": "ETH-USD", "instType": "SWAP", "total": "1369179138.7489"},
        ],
    }
}  # fmt: skip


@asynccontextmanager
async def opened(exchange_id: str, options: dict[str, Any], keys: Credentials) -> AsyncIterator[ccxt.pro.Exchange]:
    settings = VenueSettings(venue="x", exchange_id=exchange_id, underlyings=frozenset({"ETH"}), options=options)
    exchange = open_exchange(settings, keys)
    try:
        yield exchange
    finally:
        await exchange.close()


async def test_the_fund_of_bybit_and_how_near_a_pool_is_to_deleveraging() -> None:
    async with Pages(BYBIT) as pages, opened("bybit", {"urls": {"api": {"public": pages.url}}}, Credentials()) as bybit:
        assert await FUNDS["bybit"](bybit) == pytest.approx(1_051_898.0963)
        assert await deepest_drawdown(bybit, ["BTCUSDT"]) == -0.21
        assert await deepest_drawdown(bybit, []) == -0.9
        assert isnan(await deepest_drawdown(bybit, ["ETHUSDT"]))


async def test_the_fund_of_okx() -> None:
    async with Pages(OKX) as pages, opened("okx", {"urls": {"api": {"rest": pages.url}}}, Credentials()) as okx:
        assert await FUNDS["okx"](okx) == pytest.approx(1_369_179_138.7489)
        assert pages.asked[0][1] == {"instType": "SWAP"}


async def test_binance_tells_fund_rank_and_open_interest_and_coins_are_no_dollars() -> None:
    async with Treasury(usdm_book()) as server:
        server.book.set_quote("ETHUSDT", 1_999.0, 5.0, 2_001.0, 5.0)
        server.funds = {"USDT": 3e6, "USDC": 1e6, "BTC": 61.0}
        server.book.set_quote("BTCUSDT", 59_990.0, 5.0, 60_010.0, 5.0)
        for name in ("ETHUSDT", "BTCUSDT"):
            server.book.place(name, is_buy=True, amount=0.1)
        server.adl_ranks = {"ETHUSDT": 3, "BTCUSDT": 1}
        async with opened("binanceusdm", server.options, Credentials(**server.credentials)) as binance:
            await binance.load_markets()
            assert await FUNDS["binanceusdm"](binance) == 4e6
            assert await rank_share(binance, ["ETH/USDT:USDT", "BTC/USDT:USDT"]) == 0.75
            assert await rank_share(binance, ["BTC/USDT:USDT"]) == 0.25
            traded_px = 2_001.0  # its ticker names no quotes
            assert await open_interest(binance, ["ETH/USDT:USDT"]) == pytest.approx(1_000 * traded_px)
            assert isnan(await open_interest(binance, []))
            assert withdrawals_word(await binance.fetch_currencies(), ["USDC"]) == "enabled"
            server.is_withdrawing = False
            assert withdrawals_word(await binance.fetch_currencies(), ["USDC"]) == "suspended"
            assert withdrawals_word(await binance.fetch_currencies(), ["DOGE"]) == "unknown"


def coin(*networks: bool | None, whole: bool | None = None) -> dict[str, Any]:
    return {"withdraw": whole, "networks": {str(n): {"withdraw": one} for n, one in enumerate(networks)}}


def test_the_worst_coin_speaks_for_a_venue() -> None:
    known = {"A": coin(True, True), "B": coin(True, False), "C": coin(False), "D": coin(None), "E": coin(whole=True)}
    assert withdrawals_word(known, ["A", "E"]) == "enabled"
    assert withdrawals_word(known, ["A", "B"]) == "partly"
    assert withdrawals_word(known, ["A", "B", "C"]) == "suspended"
    assert withdrawals_word(known, ["A", "D"]) == "unknown"
    assert withdrawals_word(known, ["C", "D"]) == "suspended"
    assert withdrawals_word(None, ["A"]) == "unknown"
    assert withdrawals_word(known, []) == "unknown"
    assert worst_word(["working", "partly", "odd"]) == "partly"
    assert worst_word([]) == "unknown"


def test_a_discount_is_against_the_median_of_others() -> None:
    assert discount_share(98.0, [100.0, 101.0, 99.0]) == pytest.approx(0.02)
    assert discount_share(102.0, [100.0]) == 0.0
    assert isnan(discount_share(98.0, []))
    assert isnan(discount_share(nan, [100.0]))
    assert isnan(discount_share(98.0, [nan, 0.0]))
