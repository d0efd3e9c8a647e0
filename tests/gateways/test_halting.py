"""A halt from another process: everything canceled on time, and whatever is not is said."""

from __future__ import annotations

import asyncio

import pytest

from bot.gateways.exchange import Credentials
from bot.gateways.halting import halt_venue
from tests.gateways.desks import Server, settings_of
from tests.runtime.command_line import PATIENCE_S
from tests.venues.binance import BinanceServer, usdm_book
from tests.venues.deribit import DeribitServer
from tests.venues.deribit_markets import quoted_book
from tests.venues.faults import held, reject, silence
from tests.venues.hyperliquid import HyperliquidServer, hyperliquid_book
from tests.venues.passing import out_of_time, until


def credentials(server: Server) -> Credentials:
    return Credentials(**server.credentials)


async def test_three_venues_at_once() -> None:
    deribit, binance, hyperliquid = quoted_book(), usdm_book(), hyperliquid_book()
    binance.set_index("ETH", 2_000.0)
    binance.set_quote("ETHUSDT", 1_999.99, 5.0, 2_000.01, 5.0)
    hyperliquid.set_index("ETH", 2_000.0)
    hyperliquid.set_quote("ETH", 1_999.9, 5.0, 2_000.1, 5.0)
    for px in range(1_900, 1_910):
        deribit.place("ETH-PERPETUAL", is_buy=True, amount=10.0, px=float(px), client_id="x")
        binance.place("ETHUSDT", is_buy=True, amount=1.0, px=float(px), client_id=f"b{px}")
        hyperliquid.place("ETH", is_buy=True, amount=1.0, px=float(px))
    async with DeribitServer(deribit) as a, BinanceServer(binance) as b, HyperliquidServer(hyperliquid) as c:
        all_are_asked = asyncio.Event()
        for server in (a, b, c):
            server.faults.always("open_orders", held(all_are_asked))
        halting = asyncio.gather(
            halt_venue(settings_of("deribit", "deribit", a), credentials(a), PATIENCE_S),
            halt_venue(settings_of("binance", "binanceusdm", b), credentials(b), PATIENCE_S),
            halt_venue(settings_of("hyperliquid", "hyperliquid", c), credentials(c), PATIENCE_S),
        )
        await until(lambda: all(server.faults.asked.get("open_orders") for server in (a, b, c)))
        all_are_asked.set()
        outcomes = await halting
    assert [outcome.failed for outcome in outcomes] == [(), (), ()]
    assert [len(outcome.canceled) for outcome in outcomes] == [10, 10, 10]
    assert all(outcome.is_clear for outcome in outcomes)
    assert not deribit.open_orders()
    assert not binance.open_orders()
    assert not hyperliquid.open_orders()


async def test_other_underlyings_are_left_alone() -> None:
    book = quoted_book()
    book.place("BTC-PERPETUAL", is_buy=True, amount=10.0, px=29_000.0)
    async with DeribitServer(book) as server:
        outcome = await halt_venue(settings_of("deribit", "deribit", server), credentials(server), PATIENCE_S)
    assert (outcome.canceled, outcome.is_clear) == ((), True)
    assert len(book.open_orders()) == 1


async def test_what_cannot_be_canceled_is_said() -> None:
    book = quoted_book()
    book.place("ETH-PERPETUAL", is_buy=True, amount=10.0, px=1_900.0)
    async with DeribitServer(book) as server:
        server.faults.always("cancel", reject("10001"))
        outcome = await halt_venue(settings_of("deribit", "deribit", server), credentials(server), PATIENCE_S)
    assert not outcome.is_clear
    assert "10001" in outcome.failed[0]
    assert "ETH/USD:ETH" in outcome.failed[0]


@pytest.mark.parametrize("operation", ["markets", "open_orders", "cancel"])
async def test_a_slow_venue_does_not_hold_up_a_halt(operation: str) -> None:
    book = quoted_book()
    book.place("ETH-PERPETUAL", is_buy=True, amount=10.0, px=1_900.0)
    async with DeribitServer(book) as server:
        server.faults.always(operation, silence(is_executed=False))
        halting = halt_venue(settings_of("deribit", "deribit", server), credentials(server), PATIENCE_S / 3)
        outcome = await out_of_time(halting, lambda: server.faults.asked.get(operation), PATIENCE_S / 2)
    assert not outcome.is_clear
    assert f"not finished within {PATIENCE_S / 3:g} s" in outcome.failed[-1]


async def test_a_venue_that_is_gone_is_said() -> None:
    book = quoted_book()
    async with DeribitServer(book) as server:
        await server.go_dark()
        settings = settings_of("deribit", "deribit", server)
        outcome = await halt_venue(settings, Credentials(api_key="a", secret="b"), PATIENCE_S)
    assert "ExchangeNotAvailable" in outcome.failed[0]


async def test_a_wrong_key_is_said() -> None:
    async with DeribitServer(quoted_book()) as server:
        wrong = Credentials(api_key="a", secret="b")
        outcome = await halt_venue(settings_of("deribit", "deribit", server), wrong, PATIENCE_S)
    assert "AuthenticationError" in outcome.failed[0]
