"""Hyperliquid's orders through the real ccxt against a loopback Hyperliquid that recovers who signed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import ccxt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.orders import (
    AmendRejected,
    Fill,
    OrderAccepted,
    OrderCanceled,
    OrderRejected,
    OrderSent,
    OrderState,
    OrderTruth,
    OutcomeLost,
    TimeInForce,
)
from bot.domain.venues import AccountReport, VenueHealth, VenueStatus
from bot.gateways.exchange import Credentials, open_exchange
from bot.gateways.hyperliquid.orders import HyperliquidOrderWords
from bot.gateways.outcomes import Outcome
from tests.gateways.desks import Rig, rigged, settings_of
from tests.venues.faults import drop_reply, drop_request, garbage, http, reject
from tests.venues.hyperliquid import HyperliquidServer, hyperliquid_book
from tests.venues.matching import wall_clock_ms

RUN = "0123456789"


@pytest.fixture
async def server() -> AsyncIterator[HyperliquidServer]:
    book = hyperliquid_book()
    book.set_index("ETH", 2_000.0)
    book.set_quote("ETH", 1_999.9, 5.0, 2_000.1, 5.0, deeper_bids=[(1_999.5, 9.0)])
    async with HyperliquidServer(book) as running:
        yield running


@pytest.fixture
async def rig(server: HyperliquidServer) -> AsyncIterator[Rig]:
    async with rigged("hyperliquid", "hyperliquid", server) as running:
        await running.until(AccountReport)
        running.got.clear()
        yield running


def eth(rig: Rig) -> str:
    (instrument,) = [each for each in rig.markets.instruments if each.base == "ETH"]
    return instrument.instrument_id


async def test_an_ioc_order_is_filled_and_ended_and_the_account_shows_it(rig: Rig, server: HyperliquidServer) -> None:
    order_id = rig.send(eth(rig), -20_000, 1_999.0)
    fill = await rig.until(Fill)
    assert rig.kinds()[:2] == ["OrderSent", "OrderAccepted"]
    assert (fill.order_id, fill.qty_lots, fill.px) == (order_id, -20_000, 1_999.9)
    assert fill.fee_settle > 0.0
    rig.desk.watch.poll_now()
    report = await rig.until(AccountReport)
    assert [held.qty_lots for held in report.positions] == [-20_000]
    assert report.balances["USDC"] > 0.0
    (order,) = server.book.orders.values()
    assert HyperliquidOrderWords().decode(order.client_id) == order_id


async def test_nothing_is_signed_away_in_the_accounts_name(rig: Rig, server: HyperliquidServer) -> None:
    rig.send(eth(rig), 1_000, 2_001.0)
    await rig.until(Fill)
    assert server.approved_fees == {}
    assert server.referrer == ""


async def test_a_partly_filled_ioc_order_ends_with_what_it_got(rig: Rig) -> None:
    rig.send(eth(rig), 80_000, 2_000.1)
    await rig.soon(lambda: rig.of(OrderTruth) or rig.of(OrderCanceled), what="the end")
    assert sum(fill.qty_lots for fill in rig.of(Fill)) in {0, 50_000}
    for truth in rig.of(OrderTruth):
        assert truth.state is OrderState.CANCELED
        assert sum(fill.qty_lots for fill in truth.fills) == 50_000


async def test_a_resting_order_waits_for_the_scheduled_cancel_and_is_canceled(
    rig: Rig, server: HyperliquidServer
) -> None:
    order_id = rig.send(eth(rig), 10_000, 1_990.0, TimeInForce.POST_ONLY)
    await rig.until(OrderAccepted)
    assert server.faults.asked["arm"] == 1
    rig.amend(order_id, eth(rig), 1_991.0)
    assert "cancel it instead" in (await rig.until(AmendRejected)).reason
    rig.cancel(order_id, eth(rig))
    await rig.soon(lambda: rig.of(OrderTruth) or rig.of(OrderCanceled), what="the end")
    assert server.book.open_orders() == []


async def test_a_scheduled_cancel_not_moved_on_cancels_what_rests() -> None:
    began_ms, ahead_ms = wall_clock_ms(), 0
    book = hyperliquid_book(now_ms=lambda: began_ms + ahead_ms)  # which does not go on by itself
    book.set_index("ETH", 2_000.0)
    book.set_quote("ETH", 1_999.9, 5.0, 2_000.1, 5.0)
    async with HyperliquidServer(book) as server, rigged("hyperliquid", "hyperliquid", server, runs=False) as rig:
        order_id = rig.send(eth(rig), 10_000, 1_990.0, TimeInForce.GTC)
        await rig.until(OrderAccepted)
        assert server.scheduled_ms is not None
        ahead_ms = 29_999
        server.tick()
        assert book.open_orders()
        ahead_ms = server.scheduled_ms - began_ms  # 30 s after it was sent, by the clock of who sent it
        server.tick()
        assert not book.open_orders()
        rig.query(order_id, eth(rig))
        assert (await rig.until(OrderTruth)).state is OrderState.CANCELED


async def test_a_scheduled_cancel_refused_for_low_volume_lets_nothing_rest(rig: Rig, server: HyperliquidServer) -> None:
    server.faults.always("arm", reject("Cannot set scheduled cancel time until enough volume traded."))
    rig.send(eth(rig), 10_000, 1_990.0, TimeInForce.GTC)
    refused = await rig.until(OrderRejected)
    assert "dead man's switch could not be armed" in refused.reason
    assert not rig.of(OrderSent)
    assert not server.book.orders


@pytest.mark.parametrize("fault", [drop_reply(), http(502, is_executed=True), garbage()])
async def test_an_executed_order_without_an_answer_is_found(rig: Rig, server: HyperliquidServer, fault: object) -> None:
    server.faults.next("create", fault)
    order_id = rig.send(eth(rig), 10_000, 2_001.0)
    await rig.until(OutcomeLost)
    rig.query(order_id, eth(rig))
    truth = await rig.until(OrderTruth)
    assert (truth.state, sum(fill.qty_lots for fill in truth.fills)) == (OrderState.FILLED, 10_000)
    assert len(server.book.orders) == 1


async def test_an_order_that_never_arrived_is_believed_gone_the_second_time(
    rig: Rig, server: HyperliquidServer
) -> None:
    server.faults.next("create", drop_request())
    order_id = rig.send(eth(rig), 10_000, 2_001.0)
    await rig.until(OutcomeLost)
    while not rig.of(OrderTruth):
        rig.query(order_id, eth(rig))
        await asyncio.sleep(0.01)
    truth = rig.of(OrderTruth)[0]
    assert (truth.state, truth.fills) == (OrderState.REJECTED, ())


async def test_a_rate_limit_is_retried_under_the_same_id(rig: Rig, server: HyperliquidServer) -> None:
    server.faults.next("create", http(429))
    rig.send(eth(rig), 10_000, 2_001.0)
    await rig.until(Fill)
    assert len(server.book.orders) == 1


async def test_the_venues_words_are_a_no(rig: Rig) -> None:
    rig.send(eth(rig), 10_000, 2_005.0, TimeInForce.POST_ONLY)
    assert "Post only" in (await rig.until(OrderRejected)).reason
    assert rig.of(OrderRejected)[0].is_crossing
    assert not rig.of(OutcomeLost)


async def test_a_foreign_key_is_fatal(server: HyperliquidServer) -> None:
    async with rigged("hyperliquid", "hyperliquid", server) as rig:
        await rig.until(AccountReport)
        rig.exchange.privateKey = "0x" + "77" * 32
        rig.send(eth(rig), 10_000, 2_001.0)
        assert "does not exist" in (await rig.until(OrderRejected)).reason
        assert VenueHealth.FATAL in {status.health for status in rig.of(VenueStatus)}


async def test_a_foreign_trade_is_foreign(rig: Rig, server: HyperliquidServer) -> None:
    server.book.foreign_trade("ETH", is_buy=True, amount=3.0, px=2_000.0)
    fill = await rig.until(Fill)
    assert (fill.order_id, fill.qty_lots) == ("", 30_000)


async def test_permissions_are_told_by_who_signs(server: HyperliquidServer) -> None:
    words = HyperliquidOrderWords()
    for keys, can_withdraw in ((server.credentials, True), (server.agent_credentials, False)):
        exchange = open_exchange(settings_of("hyperliquid", "hyperliquid", server), Credentials(**keys))
        may = await words.permissions(exchange)
        assert may.can_withdraw is can_withdraw
        assert may.can_trade is not False
        await exchange.close()


@given(st.from_regex(r"[0-9a-f]{10}", fullmatch=True), st.integers(0, 10**18 - 1))
def test_ids_come_back_as_they_were(run: str, sequence: int) -> None:
    words = HyperliquidOrderWords()
    client_id = words.encode(f"{run}-{sequence}")
    assert len(client_id) == 34
    assert words.decode(client_id) == f"{run}-{sequence}"
    assert words.decode(client_id.upper().replace("0X", "0x")) == f"{run}-{sequence}"


@pytest.mark.parametrize("foreign", [None, "", "0x" + "0" * 32, "0123456789-1", "0xee", 17])
def test_ids_of_others_are_not_ours(foreign: object) -> None:
    assert HyperliquidOrderWords().decode(foreign) == ""


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (ccxt.InvalidOrder('hyperliquid {"status":"err","response":"User or API Wallet 0x1 does not exist."}'),
         Outcome.FATAL),
        (ccxt.ExchangeError('hyperliquid {"status":"err","response":"Something new"}'), Outcome.REJECTED),
        (ccxt.ExchangeError('hyperliquid {"status":"err","response":"Duplicate nonce"}'), Outcome.UNKNOWN),
        (ccxt.ExchangeError("hyperliquid <html>"), Outcome.UNKNOWN),
    ],
)  # fmt: skip
def test_words_mean_what_hyperliquid_says(error: Exception, meaning: Outcome) -> None:
    assert HyperliquidOrderWords().outcome_of(error) is meaning
