"""The watch over an account: streams that hang or die lose nothing, reports are whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bot.domain.orders import Fill
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.domain.venues import AccountReport, VenueHealth, VenueStatus
from bot.gateways.venue_calls import Failure
from tests.gateways.desks import RUN, rigged
from tests.venues.binance import BinanceServer, usdm_book
from tests.venues.deribit import DeribitServer
from tests.venues.deribit_markets import quoted_book
from tests.venues.faults import StreamFault, http, reject
from tests.venues.matching import VenueBook

PERP = "ETH-PERPETUAL"


@pytest.fixture
def book() -> VenueBook:
    return quoted_book()


@pytest.fixture
async def server(book: VenueBook) -> AsyncIterator[DeribitServer]:
    async with DeribitServer(book) as running:
        yield running


def hears_fills(server: DeribitServer) -> bool:
    return any(name.startswith("user.trades") for one in server.connections for name in one.channels)


@pytest.mark.parametrize("part", ["open_orders", "positions", "balance"])
async def test_a_report_is_whole_or_none(server: DeribitServer, part: str) -> None:
    async with rigged("deribit", "deribit", server, runs=False) as rig:
        server.faults.next(part, http(503))
        assert isinstance(await rig.desk.watch.read_truth(), Failure)
        found = await rig.desk.watch.read_truth()
        assert not isinstance(found, Failure)
        assert isinstance(found[-1], AccountReport)


async def test_fills_are_told_though_the_report_after_them_fails(server: DeribitServer, book: VenueBook) -> None:
    async with rigged("deribit", "deribit", server, runs=False) as rig:
        book.foreign_trade(PERP, is_buy=True, amount=10.0, px=2_000.0)
        server.faults.next("positions", http(503))
        assert isinstance(await rig.desk.watch.read_truth(), Failure)
        found = await rig.desk.watch.read_truth()
        assert not isinstance(found, Failure)
        told = [event for event in (*rig.got, *found) if isinstance(event, Fill)]
        assert [fill.qty_lots for fill in told] == [10]


async def test_a_fresh_trade_is_not_foreign_because_its_order_is_not_found_yet() -> None:
    usdm = usdm_book()
    usdm.set_quote("ETHUSDT", 1_999.99, 5.0, 2_000.01, 5.0)
    async with (
        BinanceServer(usdm) as binance,
        rigged("binance", "binanceusdm", binance, runs=False, absence_ns=5 * NS_PER_S) as rig,
    ):
        usdm.place("ETHUSDT", is_buy=True, amount=0.1, px=2_000.01, client_id=f"{RUN}-7")
        binance.faults.next("query", reject("not_found"))
        told: list[Fill] = []
        for _ in range(2):
            found = await rig.desk.watch.read_truth()
            assert not isinstance(found, Failure)
            told += [event for event in found if isinstance(event, Fill)]
        assert [fill.order_id for fill in told] == [f"{RUN}-7"]


async def test_after_a_broken_stream_what_was_missed_is_asked_for(server: DeribitServer, book: VenueBook) -> None:
    async with rigged("deribit", "deribit", server) as rig:
        await rig.until(AccountReport)
        await rig.soon(lambda: hears_fills(server))
        server.faults.next("fills", StreamFault.DISCONNECT)
        book.foreign_trade(PERP, is_buy=True, amount=10.0, px=2_000.0)
        assert (await rig.until(Fill)).qty_lots == 10
        book.foreign_trade(PERP, is_buy=True, amount=20.0, px=2_000.0)
        await rig.hurry(lambda: len(rig.of(Fill)) > 1)
        assert [fill.qty_lots for fill in rig.of(Fill)] == [10, 20]


async def test_a_frozen_stream_loses_nothing(server: DeribitServer, book: VenueBook) -> None:
    async with rigged("deribit", "deribit", server, fills_poll_ns=100 * NS_PER_MS) as rig:
        await rig.until(AccountReport)
        await rig.soon(lambda: hears_fills(server))
        server.freeze()
        book.foreign_trade(PERP, is_buy=True, amount=10.0, px=2_000.0)
        await rig.until(Fill)


async def test_a_venue_that_falters_is_asked_again_and_said_to_be_down(server: DeribitServer) -> None:
    async with rigged("deribit", "deribit", server, account_poll_ns=50 * NS_PER_MS) as rig:
        await rig.until(AccountReport)
        server.faults.always("positions", http(503))
        server.faults.always("balance", http(503))
        server.faults.always("open_orders", http(503))
        await rig.hurry(lambda: rig.of(VenueStatus))
        assert rig.of(VenueStatus)[0].health is VenueHealth.DOWN
        server.faults.clear()
        reports = len(rig.of(AccountReport))
        await rig.hurry(lambda: len(rig.of(AccountReport)) > reports)
        assert rig.of(VenueStatus)[-1].health is VenueHealth.UP


async def test_old_trades_are_those_before_the_run(server: DeribitServer, book: VenueBook) -> None:
    book.foreign_trade(PERP, is_buy=True, amount=10.0, px=2_000.0)
    (trade,) = book.trades
    async with rigged("deribit", "deribit", server, runs=False) as rig:
        rig.desk.watch._since_ns = trade.ts_ms * NS_PER_MS + 120 * NS_PER_S
        found = await rig.desk.truth()
        assert [type(event) for event in found] == [AccountReport]


async def test_a_trade_whose_owner_cannot_be_asked_waits(book: VenueBook) -> None:
    usdm = usdm_book()
    usdm.set_index("ETH", 2_000.0)
    async with BinanceServer(usdm) as server, rigged("binance", "binanceusdm", server, runs=False) as rig:
        usdm.foreign_trade("ETHUSDT", is_buy=True, amount=1.0, px=2_000.0)
        server.faults.next("query", http(503))
        first = await rig.desk.truth()
        assert [type(event) for event in first] == [AccountReport]
        second = await rig.desk.truth()
        assert [type(event) for event in second] == [Fill, AccountReport]
        fill = second[0]
        assert isinstance(fill, Fill)
        assert fill.order_id == ""
    assert book.trades == []


async def test_a_clock_that_goes_wrong_while_running_is_fatal(server: DeribitServer) -> None:
    async with rigged("deribit", "deribit", server, runs=False) as rig:
        rig.desk.watch.warm_s = 0.01
        running = asyncio.create_task(rig.desk.run())
        await asyncio.sleep(0.1)
        assert not rig.of(VenueStatus)
        server.clock_skew_ms = -5_000
        said = await rig.until(VenueStatus)
        assert said.health is VenueHealth.FATAL
        assert "ms ahead; hint: synchronise it (NTP)" in said.reason
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
