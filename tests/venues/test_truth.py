"""Whatever goes wrong on the way, these venues tell the truth when they are asked: about every order and every fill.

A client that believes nothing but answers to questions ends up knowing what the book knows. This is what the gateway
rests on, shown here for the venues alone.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import ccxt.pro
import pytest

from bot.domain.units import NS_PER_S
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from tests.runtime.command_line import PATIENCE_S
from tests.venues.binance import BinanceServer, outcome_unknown, too_many_requests, usdm_book
from tests.venues.faults import drop_reply, drop_request, garbage, http
from tests.venues.hyperliquid import HyperliquidServer, hyperliquid_book
from tests.venues.loopback import LoopbackServer

ORDERS = 15


@pytest.mark.parametrize("seed", range(3))
async def test_binance_tells_what_became_of_every_order(seed: int) -> None:
    async with BinanceServer(usdm_book()) as server, client(server, "binanceusdm") as exchange:
        server.faults.randomly("create", outcome_unknown(is_executed=True), 0.1)
        server.faults.randomly("create", too_many_requests(), 0.1)
        await trade_through_faults(server, exchange, "ETH/USDT:USDT", "ETHUSDT", seed, lambda n: f"{seed:010x}-{n}")


@pytest.mark.parametrize("seed", range(3))
async def test_hyperliquid_tells_what_became_of_every_order(seed: int) -> None:
    async with HyperliquidServer(hyperliquid_book()) as server, client(server, "hyperliquid") as exchange:
        await trade_through_faults(server, exchange, "ETH/USDC:USDC", "ETH", seed, lambda n: f"0x{seed:016x}{n:016x}")


@asynccontextmanager
async def client(server: Any, exchange_id: str) -> AsyncIterator[Any]:
    settings = VenueSettings(
        venue=exchange_id, exchange_id=exchange_id, underlyings=frozenset({"ETH"}), options=server.options,
        timeout_ns=round(PATIENCE_S * NS_PER_S),
    )  # fmt: skip
    exchange = open_exchange(settings, Credentials(**server.credentials))
    try:
        yield exchange
    finally:
        await exchange.close()


async def trade_through_faults(
    server: LoopbackServer, exchange: Any, symbol: str, name: str, seed: int, id_of: Any
) -> None:
    chance, book = random.Random(seed), server.book
    book.set_quote(name, 1_999.0, 3.0, 2_001.0, 3.0)
    await exchange.load_markets()
    for fault in (drop_reply(), drop_request(), garbage(), http(503, is_executed=True, body="<html>"), http(502)):
        server.faults.randomly("create", fault, 0.1)
        server.faults.randomly("cancel", fault, 0.1)
    server.faults.randomly("query", http(503), 0.3)
    server.faults.randomly("query", drop_reply(), 0.1)
    is_there: dict[str, bool] = {}  # as the venue said at once
    for n in range(ORDERS):
        side, px = ("buy", 2_000.0 + chance.randint(-4, 4)) if chance.random() < 0.5 else ("sell", 2_001.0)
        params = {"clientOrderId": id_of(n)}
        await attempt(exchange.create_order(symbol, "limit", side, 0.5, px, params))
        is_there[id_of(n)] = await status_of(exchange, symbol, id_of(n)) is not None
        if chance.random() < 0.3:
            await attempt(exchange.cancel_order("", symbol, params))
        mid = 2_000.0 + chance.randint(-3, 3)
        book.set_quote(name, mid - 1.0, 3.0, mid + 1.0, 3.0)
    server.faults.is_active = False
    for client_id, was_there in is_there.items():
        orders, status = book.orders_of(client_id), await status_of(exchange, symbol, client_id)
        assert len(orders) == was_there == (status is not None)
        assert any(order.is_open for order in orders) == (status == "open")
    trades = await exchange.fetch_my_trades(symbol)
    assert sorted(trade["id"] for trade in trades) == sorted(trade.trade_id for trade in book.trades)
    assert {order["clientOrderId"] for order in await exchange.fetch_open_orders(symbol)} == {
        order.client_id for order in book.open_orders()
    }
    assert len(server.faults.happened) > ORDERS / 4


async def attempt(call: Any) -> None:
    """Make a call that may fail in any way a venue can; whether it did proves nothing."""
    with suppress(ccxt.pro.BaseError):
        await call


async def status_of(exchange: Any, symbol: str, client_id: str) -> str | None:
    """Ask until the venue says something about an order; None if it says that there is none."""
    while True:
        try:
            order = await exchange.fetch_order(client_id, symbol, {"clientOrderId": client_id})
        except ccxt.pro.OrderNotFound:
            return None
        except ccxt.pro.NetworkError:
            continue
        status: str | None = order["status"]
        return status
