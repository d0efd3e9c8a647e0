"""Deribit's orders through the real ccxt against a loopback Deribit: nothing lost, doubled or misstated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import ccxt
import pytest

from bot.domain.events import CancelForeign, QueryAccount
from bot.domain.orders import (
    AmendRejected,
    CancelRejected,
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
from bot.domain.units import NS_PER_HOUR, NS_PER_MS, NS_PER_S
from bot.domain.venues import AccountReport, VenueHealth, VenueStatus
from bot.gateways.deribit.orders import DeribitOrderWords
from bot.gateways.deribit.session import DeribitSession
from bot.gateways.outcomes import Outcome
from tests.gateways.desks import RUN, Rig, rigged
from tests.runtime.command_line import PATIENCE_S
from tests.venues.deribit import DeribitServer
from tests.venues.deribit_markets import quoted_book
from tests.venues.faults import StreamFault, drop_reply, drop_request, garbage, http, reject, silence
from tests.venues.matching import State, VenueBook
from tests.venues.passing import let_pass

PERP, USDC = "ETH-PERPETUAL", "ETH_USDC-PERPETUAL"


@pytest.fixture
def book() -> VenueBook:
    return quoted_book()


@pytest.fixture
async def server(book: VenueBook) -> AsyncIterator[DeribitServer]:
    async with DeribitServer(book) as running:
        yield running


@pytest.fixture
async def rig(server: DeribitServer) -> AsyncIterator[Rig]:
    async with rigged("deribit", "deribit", server) as running:
        await running.until(AccountReport)
        await armed(running)
        running.got.clear()
        yield running


async def armed(rig: Rig) -> None:
    """Wait until orders may rest; one that is sent before waits for a second at most."""
    session = rig.desk.dead_man
    assert isinstance(session, DeribitSession)
    await asyncio.wait_for(session.wait_armed(), PATIENCE_S)


async def test_an_ioc_order_is_sent_accepted_and_filled_with_its_fee(rig: Rig, book: VenueBook) -> None:
    order_id = rig.send(PERP, 1_000, 2_001.0)
    fill = await rig.until(Fill)
    assert rig.kinds()[:3] == ["OrderSent", "OrderAccepted", "Fill"]
    assert (fill.order_id, fill.qty_lots, fill.px, fill.liquidity) == (order_id, 1_000, 2_000.05, Liquidity.TAKER)
    assert fill.fee_settle == pytest.approx(0.0005 * 1_000 / 2_000.05, rel=1e-6)
    assert fill.ts_event_ns > 0
    assert [order.client_id for order in book.orders.values()] == [order_id]
    await asyncio.sleep(0.05)
    assert len(rig.of(Fill)) == 1  # the stream told it too


async def test_what_an_ioc_order_leaves_expires_after_its_fills(rig: Rig) -> None:
    rig.send(USDC, 3_000, 2_000.1)
    ended = await rig.until(OrderCanceled)
    assert ended.is_expired
    assert [fill.qty_lots for fill in rig.of(Fill)] == [2_000]
    assert rig.kinds().index("Fill") < rig.kinds().index("OrderCanceled")


async def test_a_resting_order_is_amended_and_canceled_over_the_connection_that_protects_it(
    rig: Rig, server: DeribitServer, book: VenueBook
) -> None:
    order_id = rig.send(PERP, -500, 2_002.0, TimeInForce.POST_ONLY)
    await rig.until(OrderAccepted)
    rig.amend(order_id, PERP, 2_003.0)
    amended = await rig.until(OrderAmended)
    assert amended.limit_ticks == round(2_003.0 / 0.05)
    (order,) = book.open_orders()
    assert (order.px, order.amount, order.owner is not None) == (2_003.0, 500.0, True)
    rig.cancel(order_id, PERP)
    ended = await rig.until(OrderCanceled)
    assert not ended.is_expired
    assert book.open_orders() == []
    assert "private/sell" in [name for name, _ in server.calls]


async def test_a_post_only_order_that_would_take_is_refused(rig: Rig) -> None:
    rig.send(PERP, 100, 2_005.0, TimeInForce.POST_ONLY)
    assert "11054" in (await rig.until(OrderRejected)).reason
    assert rig.of(OrderRejected)[0].is_crossing


async def test_a_maker_is_filled_through_the_stream(rig: Rig, book: VenueBook) -> None:
    order_id = rig.send(PERP, 100, 1_999.0, TimeInForce.POST_ONLY)
    await rig.until(OrderAccepted)
    book.set_quote(PERP, 1_998.0, 100.0, 1_998.5, 400.0)
    fill = await rig.until(Fill)
    assert (fill.order_id, fill.qty_lots, fill.liquidity) == (order_id, 100, Liquidity.MAKER)


async def test_a_dropped_reply_leaves_exactly_one_order_whose_truth_is_found(
    rig: Rig, server: DeribitServer, book: VenueBook
) -> None:
    await rig.exchange.fetch_time()  # a kept-alive connection: the one aiohttp would send again on
    server.faults.next("create", drop_reply())
    order_id = rig.send(PERP, 100, 2_001.0)
    lost = await rig.until(OutcomeLost)
    assert lost.order_id == order_id
    rig.query(order_id, PERP)
    truth = await rig.until(OrderTruth)
    assert (truth.state, [fill.qty_lots for fill in truth.fills]) == (OrderState.FILLED, [100])
    assert len(book.orders_of(order_id)) == 1
    assert book.position(PERP).amount == 100.0
    assert not rig.of(OrderRejected)


async def test_a_dropped_request_never_was_after_two_questions(server: DeribitServer, book: VenueBook) -> None:
    async with rigged("deribit", "deribit", server, absence_ns=NS_PER_HOUR) as rig:
        server.faults.next("create", drop_request())
        order_id = rig.send(PERP, 100, 2_001.0)
        await rig.until(OutcomeLost)
        known = rig.desk.known.get(order_id)
        assert known is not None

        async def ask() -> None:
            before = server.faults.asked.get("query", 0)
            rig.query(order_id, PERP)
            await rig.soon(lambda: server.faults.asked.get("query", 0) > before and not known.is_asking, "an answer")

        await ask()
        assert not rig.of(OrderTruth)  # too soon to believe it
        rig.clock.ahead_ns = NS_PER_HOUR
        await ask()
        assert not rig.of(OrderTruth)  # once is not enough
        await ask()
        [truth] = rig.of(OrderTruth)
        assert (truth.state, truth.fills) == (OrderState.REJECTED, ())
        assert book.orders_of(order_id) == []


@pytest.mark.parametrize("fault", [http(502, is_executed=True), garbage(), http(503, is_executed=True, body="oops")])
async def test_an_executed_order_behind_a_broken_answer_is_unknown_then_known(
    rig: Rig, server: DeribitServer, book: VenueBook, fault: object
) -> None:
    server.faults.next("create", fault)
    order_id = rig.send(PERP, 100, 2_001.0)
    await rig.until(OutcomeLost)
    rig.query(order_id, PERP)
    assert (await rig.until(OrderTruth)).state is OrderState.FILLED
    assert len(book.orders_of(order_id)) == 1


async def test_a_reply_lost_on_the_order_connection_is_unknown_too(
    rig: Rig, server: DeribitServer, book: VenueBook
) -> None:
    server.faults.next("create", drop_reply())
    order_id = rig.send(PERP, 100, 1_990.0, TimeInForce.GTC)
    await rig.until(OutcomeLost)
    await rig.soon(lambda: not book.open_orders(), what="cancel on disconnect")
    rig.query(order_id, PERP)
    assert (await rig.until(OrderTruth)).state is OrderState.CANCELED


async def test_a_rate_limit_is_retried_under_the_same_id_without_a_storm(
    rig: Rig, server: DeribitServer, book: VenueBook
) -> None:
    server.faults.next("create", http(429), count=1)
    order_id = rig.send(PERP, 100, 2_001.0)
    await rig.until(Fill)
    assert len(book.orders_of(order_id)) == 1
    assert server.faults.asked["create"] == 2


async def test_a_storm_of_rate_limits_refuses_orders_and_lets_cancels_through(
    rig: Rig, server: DeribitServer, book: VenueBook
) -> None:
    resting = rig.send(PERP, 100, 1_990.0, TimeInForce.GTC)
    await rig.until(OrderAccepted)
    server.faults.always("create", http(429))
    for _ in range(20):
        rig.send(PERP, 1, 2_001.0)
    await rig.soon(lambda: len(rig.of(OrderRejected)) == 20, what="20 refusals")
    assert server.faults.asked["create"] <= 1 + 20 + 3
    rig.cancel(resting, PERP)
    await rig.until(OrderCanceled)
    assert book.open_orders() == []


async def test_a_cancel_without_an_answer_is_still_live_until_the_truth_is_known(
    rig: Rig, server: DeribitServer
) -> None:
    order_id = rig.send(PERP, 100, 1_990.0, TimeInForce.GTC)
    await rig.until(OrderAccepted)
    server.faults.next("cancel", reject("10001"))
    rig.cancel(order_id, PERP)
    assert (await rig.until(OrderTruth)).state is OrderState.OPEN
    assert "10001" in (await rig.until(CancelRejected)).reason
    rig.cancel(order_id, PERP)
    await rig.until(OrderCanceled)


async def test_orders_at_once_carry_nonces_of_their_own(server: DeribitServer, book: VenueBook) -> None:
    async with rigged("deribit", "deribit", server, runs=False) as rig:
        server.refuses_used_nonces = True
        for _ in range(20):
            rig.send(PERP, 10, 2_001.0)
        await rig.soon(lambda: len(rig.of(Fill)) == 20, what="20 fills")
        assert server.faults.asked["create"] < 40
    assert book.position(PERP).amount == 200.0


async def test_canceling_what_is_filled_tells_of_the_fill(rig: Rig, book: VenueBook) -> None:
    order_id = rig.send(PERP, 100, 1_999.0, TimeInForce.GTC)
    await rig.until(OrderAccepted)
    book.set_quote(PERP, 1_998.0, 100.0, 1_998.5, 400.0)
    rig.cancel(order_id, PERP)
    await rig.soon(lambda: rig.of(Fill) or rig.of(OrderTruth), what="a fill")
    await asyncio.sleep(0.3)
    assert not rig.of(OrderCanceled)


async def test_an_amend_refused_leaves_the_order_as_it_was(rig: Rig, server: DeribitServer, book: VenueBook) -> None:
    order_id = rig.send(PERP, 100, 1_990.0, TimeInForce.POST_ONLY)
    await rig.until(OrderAccepted)
    server.faults.next("amend", reject("11054"))
    rig.amend(order_id, PERP, 1_991.0)
    await rig.until(AmendRejected)
    assert [order.px for order in book.open_orders()] == [1_990.0]


async def test_streams_that_duplicate_skip_and_reorder_change_nothing(
    rig: Rig, server: DeribitServer, book: VenueBook
) -> None:
    for stream in ("orders", "fills"):
        server.faults.randomly(stream, StreamFault.DUPLICATE, 0.3)
        server.faults.randomly(stream, StreamFault.REORDER, 0.3)
        server.faults.randomly(stream, StreamFault.SKIP, 0.2)
    ids = [rig.send(PERP, 10 * n, 2_001.0) for n in range(1, 9)]
    await rig.soon(lambda: sum(fill.qty_lots for fill in rig.of(Fill)) == 360, what="360 lots")
    assert {fill.order_id for fill in rig.of(Fill)} == set(ids)
    assert book.position(PERP).amount == 360.0


async def test_foreign_trades_and_orders_are_told_as_such(rig: Rig, book: VenueBook) -> None:
    book.foreign_trade(PERP, is_buy=False, amount=300.0, px=2_000.0)
    fill = await rig.until(Fill)
    assert (fill.order_id, fill.qty_lots) == ("", -300)
    foreign = book.place(PERP, is_buy=True, amount=50.0, px=1_900.0, client_id="by hand")
    rig.desk.submit(QueryAccount("deribit", "test"))
    report = await rig.until(AccountReport)
    (position,) = [one for one in report.positions if one.instrument_id == PERP]
    assert position.qty_lots == -300
    (order,) = report.open_orders
    assert (order.order_id, order.left_lots, order.limit_px) == ("", 50, 1_900.0)
    assert report.balances["ETH"] == pytest.approx(book.equity("ETH"), rel=1e-6)
    assert report.ts_asked_ns <= report.ts_recv_ns
    rig.desk.submit(CancelForeign("deribit", order.venue_order_id, PERP, "test"))
    await rig.soon(lambda: not book.open_orders(), what="the foreign order gone")
    assert foreign.state is not State.OPEN


async def test_fills_are_found_without_any_stream(server: DeribitServer, book: VenueBook) -> None:
    server.faults.always("fills", StreamFault.SKIP)
    server.faults.always("orders", StreamFault.SKIP)
    async with rigged("deribit", "deribit", server, fills_poll_ns=50 * NS_PER_MS) as rig:
        for n in range(130):  # more than a page
            book.foreign_trade(PERP, is_buy=True, amount=float(n + 1), px=2_000.0)
        await rig.soon(lambda: len(rig.of(Fill)) == 130, what="130 fills")
        assert len({fill.trade_id for fill in rig.of(Fill)}) == 130


async def test_the_truth_at_start_and_twice_is_the_same(server: DeribitServer, book: VenueBook) -> None:
    async with rigged("deribit", "deribit", server, runs=False) as rig:
        book.foreign_trade(PERP, is_buy=True, amount=10.0, px=2_000.0)
        first = await rig.desk.truth()
        second = await rig.desk.truth()
        assert [type(event) for event in first] == [Fill, AccountReport]
        assert [type(event) for event in second] == [AccountReport]
        first_report, second_report = first[-1], second[-1]
        assert isinstance(first_report, AccountReport)
        assert isinstance(second_report, AccountReport)
        assert first_report.positions == second_report.positions


async def test_without_the_order_connection_nothing_rests(server: DeribitServer, book: VenueBook) -> None:
    server.faults.always("arm", reject("13021"))
    async with rigged("deribit", "deribit", server) as rig:
        await rig.until(AccountReport)
        rig.send(PERP, 100, 1_990.0, TimeInForce.GTC)
        await rig.hurry(lambda: rig.of(OrderRejected), what="a refusal")  # it is waited for
        [refused] = rig.of(OrderRejected)
        assert "cancel on disconnect is not armed" in refused.reason
        assert not rig.of(OrderSent)
        rig.send(PERP, 100, 2_001.0)
        await rig.until(Fill)
    assert book.position(PERP).amount == 100.0


async def test_the_venue_cancels_what_a_broken_connection_left(
    rig: Rig, server: DeribitServer, book: VenueBook
) -> None:
    order_id = rig.send(PERP, 100, 1_990.0, TimeInForce.GTC)
    await rig.until(OrderAccepted)
    server.disconnect()
    await rig.soon(lambda: not book.open_orders(), what="no open orders")
    rig.query(order_id, PERP)
    assert (await rig.until(OrderTruth)).state is OrderState.CANCELED


async def test_a_wrong_key_is_fatal_once(server: DeribitServer) -> None:
    async with rigged("deribit", "deribit", server) as rig:
        rig.exchange.secret = "wrong"
        rig.send(PERP, 100, 2_001.0)
        assert "AuthenticationError" in (await rig.until(OrderRejected)).reason
        rig.send(PERP, 100, 2_001.0)
        await rig.until(OrderRejected, 2)
        assert [status.health for status in rig.of(VenueStatus)] == [VenueHealth.FATAL]


async def test_a_dark_venue_refuses_what_provably_was_not_sent(rig: Rig, server: DeribitServer) -> None:
    await server.go_dark()
    rig.send(PERP, 100, 2_001.0)
    await rig.hurry(lambda: rig.of(OrderRejected) or rig.of(OutcomeLost), what="an answer")
    rig.got.clear()
    rig.send(PERP, 100, 2_001.0)  # no kept-alive connection is left: it cannot have been sent
    await rig.hurry(lambda: rig.of(OrderRejected), what="a refusal")
    [refused] = rig.of(OrderRejected)
    assert "ExchangeNotAvailable" in refused.reason
    assert not rig.of(OrderSent)
    await server.come_back()


async def test_everything_is_canceled_and_said(rig: Rig, book: VenueBook) -> None:
    for px in (1_900.0, 1_901.0):
        rig.send(PERP, 100, px, TimeInForce.GTC)
    book.place(USDC, is_buy=True, amount=1.0, px=1_900.0)
    await rig.until(OrderAccepted, 2)
    done = await rig.desk.cancel_everything()
    assert (len(done.canceled), done.failed) == (3, ())
    assert book.open_orders() == []


async def test_stopping_leaves_no_answer_open(rig: Rig, server: DeribitServer) -> None:
    server.faults.next("create", silence())
    rig.send(PERP, 100, 2_001.0)
    await rig.until(OrderSent)
    await rig.desk.close()
    assert "stopped" in rig.of(OutcomeLost)[0].why
    rig.send(PERP, 100, 2_001.0)
    assert "not sent" in rig.of(OrderRejected)[0].reason


async def test_the_same_order_is_not_sent_twice(rig: Rig, book: VenueBook) -> None:
    for _ in range(2):
        rig.send(PERP, 100, 2_001.0, order_id=f"{RUN}-77")
    await rig.until(Fill)
    assert len(book.orders_of(f"{RUN}-77")) == 1


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (ccxt.PermissionDenied('deribit {"error":{"code":10015,"message":"pme_max"}}'), Outcome.REJECTED),
        (ccxt.PermissionDenied('deribit {"error":{"code":13021,"message":"forbidden"}}'), Outcome.FATAL),
        (ccxt.ExchangeError('deribit {"error":{"code":11030,"message":"other_reject"}}'), Outcome.REJECTED),
        (ccxt.ExchangeError('deribit {"error":{"code": 11094,"message":"internal_server_error"}}'), Outcome.UNKNOWN),
        (ccxt.DDoSProtection('deribit {"error":{"code":10047,"message":"queue_full"}}'), Outcome.RETRYABLE),
        (ccxt.ExchangeNotAvailable('deribit {"error":{"code":10040,"message":"retry"}}'), Outcome.UNKNOWN),
        (ccxt.ExchangeError("deribit something new"), Outcome.UNKNOWN),
        (KeyError("order"), Outcome.UNKNOWN),
    ],
)
def test_codes_mean_what_deribit_says(error: Exception, meaning: Outcome) -> None:
    assert DeribitOrderWords().outcome_of(error) is meaning


async def test_a_cancel_leaves_by_another_way_while_the_order_connection_is_silent(
    server: DeribitServer, book: VenueBook
) -> None:
    async with rigged("deribit", "deribit", server, timeout_ns=10 * NS_PER_S) as rig:
        await armed(rig)
        order_id = rig.send(PERP, 100, 1_990.0, TimeInForce.POST_ONLY)
        await rig.until(OrderAccepted)
        server.faults.next("cancel", silence(is_executed=False))
        rig.cancel(order_id, PERP)
        await rig.soon(lambda: server.faults.asked.get("cancel"), what="a cancel")
        let_pass(11.0)
        await rig.soon(lambda: not book.open_orders(), what="no open order")
        await rig.soon(lambda: rig.of(OrderCanceled) or rig.of(OrderTruth), what="the end")
        assert book.orders_of(order_id)[0].cancel_reason == "user_request"
