"""Binance's orders through the real ccxt against a loopback Binance USD-M."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import ccxt
import pytest

from bot.domain.orders import (
    Fill,
    Liquidity,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderRejected,
    OrderSent,
    OrderState,
    OrderTruth,
    OutcomeLost,
    TimeInForce,
)
from bot.domain.units import NS_PER_MS
from bot.domain.venues import AccountReport, VenueHealth, VenueStatus
from bot.gateways.binance.orders import BinanceOrderWords
from bot.gateways.outcomes import Outcome
from tests.gateways.desks import Rig, rigged
from tests.venues.binance import BinanceServer, banned, outcome_unknown, too_many_requests, usdm_book
from tests.venues.faults import drop_reply, drop_request, garbage, http, reject
from tests.venues.matching import wall_clock_ms

ETH = "ETHUSDT"


@pytest.fixture
async def server() -> AsyncIterator[BinanceServer]:
    book = usdm_book()
    book.set_index("ETH", 2_000.0)
    book.set_quote(ETH, 1_999.99, 5.0, 2_000.01, 5.0, deeper_bids=[(1_999.5, 9.0)])
    async with BinanceServer(book) as running:
        yield running


@pytest.fixture
async def rig(server: BinanceServer) -> AsyncIterator[Rig]:
    async with rigged("binance", "binanceusdm", server) as running:
        await running.until(AccountReport)
        running.got.clear()
        yield running


async def test_an_ioc_order_is_filled_with_its_fee_and_the_account_shows_it(rig: Rig) -> None:
    order_id = rig.send(ETH, -2_000, 1_999.0)
    fill = await rig.until(Fill)
    assert rig.kinds()[:2] == ["OrderSent", "OrderAccepted"]
    assert (fill.order_id, fill.qty_lots, fill.px, fill.liquidity) == (order_id, -2_000, 1_999.99, Liquidity.TAKER)
    assert fill.fee_settle == pytest.approx(2.0 * 1_999.99 * 0.0005)
    assert rig.desk.odd_fees == 0
    rig.desk.watch.poll_now()
    report = await rig.until(AccountReport)
    assert [(held.instrument_id, held.qty_lots) for held in report.positions] == [(ETH, -2_000)]
    assert "USDT" in report.balances


async def test_a_maker_order_is_amended_filled_and_canceled_under_a_countdown(rig: Rig, server: BinanceServer) -> None:
    order_id = rig.send(ETH, 1_000, 1_990.0, TimeInForce.POST_ONLY)
    await rig.until(OrderAccepted)
    assert server.countdowns[ETH] > 0
    rig.amend(order_id, ETH, 1_991.0)
    await rig.until(OrderAmended)
    server.book.set_quote(ETH, 1_990.0, 5.0, 1_990.9, 0.4)
    fill = await rig.until(Fill)
    assert (fill.order_id, fill.qty_lots, fill.liquidity) == (order_id, 400, Liquidity.MAKER)
    rig.cancel(order_id, ETH)
    await rig.soon(lambda: rig.of(OrderCanceled) or rig.of(OrderTruth), what="the end")
    (order,) = server.book.orders.values()
    assert (order.px, order.filled, order.is_open) == (1_991.0, 0.4, False)


async def test_without_a_countdown_nothing_rests(rig: Rig, server: BinanceServer) -> None:
    server.faults.always("arm", http(503))
    rig.send(ETH, 1_000, 1_990.0, TimeInForce.GTC)
    assert "dead man's switch" in (await rig.until(OrderRejected)).reason
    assert not rig.of(OrderSent)
    assert not server.book.orders


async def test_a_countdown_not_renewed_cancels_what_rests() -> None:
    began_ms, ahead_ms = wall_clock_ms(), 0
    book = usdm_book(now_ms=lambda: began_ms + ahead_ms)  # which does not go on by itself
    book.set_index("ETH", 2_000.0)
    book.set_quote(ETH, 1_999.99, 5.0, 2_000.01, 5.0)
    async with BinanceServer(book) as server, rigged("binance", "binanceusdm", server, runs=False) as rig:
        order_id = rig.send(ETH, 1_000, 1_990.0, TimeInForce.GTC)
        await rig.until(OrderAccepted)
        ahead_ms = 29_999
        server.tick()
        assert book.open_orders()
        ahead_ms = 30_000
        server.tick()
        assert not book.open_orders()
        ahead_ms = 0
        rig.query(order_id, ETH)
        assert (await rig.until(OrderTruth)).state is OrderState.CANCELED


@pytest.mark.parametrize(
    "fault", [drop_reply(), outcome_unknown(is_executed=True), http(502, is_executed=True), garbage()]
)
async def test_an_executed_order_without_an_answer_is_found(rig: Rig, server: BinanceServer, fault: object) -> None:
    server.faults.next("create", fault)
    order_id = rig.send(ETH, 1_000, 2_001.0)
    await rig.until(OutcomeLost)
    rig.query(order_id, ETH)
    truth = await rig.until(OrderTruth)
    assert (truth.state, sum(fill.qty_lots for fill in truth.fills)) == (OrderState.FILLED, 1_000)
    assert len(server.book.orders) == 1


@pytest.mark.parametrize("fault", [drop_request(), outcome_unknown(is_executed=False)])
async def test_an_order_that_never_arrived_is_believed_gone_the_second_time(
    rig: Rig, server: BinanceServer, fault: object
) -> None:
    server.faults.next("create", fault)
    order_id = rig.send(ETH, 1_000, 2_001.0)
    await rig.until(OutcomeLost)
    lost_ns = rig.of(OutcomeLost)[0].ts_recv_ns
    while not rig.of(OrderTruth):  # as the engine does, but sooner
        rig.query(order_id, ETH)
        await asyncio.sleep(0.01)
    truth = rig.of(OrderTruth)[0]
    assert (truth.state, truth.fills) == (OrderState.REJECTED, ())
    assert truth.ts_recv_ns - lost_ns > 90 * NS_PER_MS
    rig.query(order_id, ETH)
    assert (await rig.until(OrderTruth, 2)).state is OrderState.REJECTED  # asked again, the same is true


async def test_a_ban_stops_everything_even_cancels(rig: Rig, server: BinanceServer) -> None:
    order_id = rig.send(ETH, 1_000, 1_990.0, TimeInForce.GTC)
    await rig.until(OrderAccepted)
    server.faults.always("any", banned())
    rig.send(ETH, 1_000, 2_001.0)
    await rig.until(OrderRejected)
    asked = sum(server.faults.asked.values())
    rig.cancel(order_id, ETH)
    for _ in range(5):
        rig.send(ETH, 1_000, 2_001.0)
    await rig.until(OrderRejected, 6)
    assert sum(server.faults.asked.values()) == asked


async def test_a_rate_limit_with_a_time_is_heeded(rig: Rig, server: BinanceServer) -> None:
    server.faults.next("create", too_many_requests(retry_after_s=0.2))
    rig.send(ETH, 1_000, 2_001.0)
    await rig.until(Fill)
    assert server.faults.asked["create"] == 2


async def test_refusals_are_final(rig: Rig, server: BinanceServer) -> None:
    rig.send(ETH, 1_000, 2_005.0, TimeInForce.POST_ONLY)
    assert "-5022" in (await rig.until(OrderRejected)).reason
    assert rig.of(OrderRejected)[0].is_crossing
    server.faults.next("create", reject("not_enough_funds"))
    rig.send(ETH, 1_000, 2_005.0)
    assert not (await rig.until(OrderRejected, 2)).is_crossing
    assert not rig.of(OutcomeLost)


async def test_a_skewed_clock_is_fatal(rig: Rig, server: BinanceServer) -> None:
    server.clock_skew_ms = 60_000
    rig.send(ETH, 1_000, 2_001.0)
    assert "-1021" in (await rig.until(OrderRejected)).reason
    assert [status.health for status in rig.of(VenueStatus)] == [VenueHealth.FATAL]


async def test_a_foreign_trade_is_foreign_only_after_the_venue_said_so(server: BinanceServer) -> None:
    async with rigged("binance", "binanceusdm", server, fills_poll_ns=50 * NS_PER_MS) as rig:
        await rig.until(AccountReport)
        server.book.foreign_trade(ETH, is_buy=True, amount=3.0, px=2_000.0)
        fill = await rig.until(Fill)
        assert (fill.order_id, fill.qty_lots) == ("", 3_000)
        order_id = rig.send(ETH, 1_000, 2_001.0)
        await rig.until(Fill, 2)
        assert rig.of(Fill)[1].order_id == order_id


def test_what_may_only_rest_is_post_only_and_ids_are_ours() -> None:
    words = BinanceOrderWords()
    assert words.decode(words.encode("0123456789-42")) == "0123456789-42"
    assert words.decode("web_abc") == ""


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (ccxt.ExchangeError('binanceusdm {"code":-4164,"msg":"Order\'s notional"}'), Outcome.REJECTED),
        (ccxt.RequestTimeout('binanceusdm {"code":-1007,"msg":"Timeout"}'), Outcome.UNKNOWN),
        (ccxt.BadRequest('binanceusdm {"code":-1000,"msg":"unknown"}'), Outcome.UNKNOWN),
        (ccxt.InvalidNonce('binanceusdm {"code":-1021,"msg":"Timestamp"}'), Outcome.FATAL),
    ],
)
def test_codes_mean_what_binance_says(error: Exception, meaning: Outcome) -> None:
    assert BinanceOrderWords().outcome_of(error) is meaning
