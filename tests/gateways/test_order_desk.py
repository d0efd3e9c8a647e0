"""The desk beyond what a venue's own tests show: clumsy clients, overtaking cancels, crowds, and random weather."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import ccxt.pro
import pytest

from bot.domain.errors import Retryable, VenueFatal
from bot.domain.events import CancelOrder, QueryOrder, SubmitOrder
from bot.domain.orders import (
    AmendRejected,
    CancelRejected,
    Fill,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderIntent,
    OrderRejected,
    OrderSent,
    OrderState,
    OrderTruth,
    OutcomeLost,
    TimeInForce,
)
from bot.domain.venues import AccountReport
from bot.gateways.deribit.orders import DeribitOrderWords
from bot.gateways.order_words import OrderTerms, Raw
from tests.gateways.desks import RUN, Rig, rigged
from tests.venues.binance import BinanceServer, usdm_book
from tests.venues.deribit import DeribitServer
from tests.venues.deribit_markets import quoted_book
from tests.venues.faults import RequestFault, StreamFault, delay, drop_reply, drop_request, garbage, held, http
from tests.venues.matching import VenueBook

PERP, ETH = "ETH-PERPETUAL", "ETHUSDT"


@pytest.fixture
def book() -> VenueBook:
    return quoted_book()


@pytest.fixture
async def server(book: VenueBook) -> AsyncIterator[DeribitServer]:
    async with DeribitServer(book) as running:
        yield running


@pytest.fixture
async def binance() -> AsyncIterator[BinanceServer]:
    usdm = usdm_book()
    usdm.set_index("ETH", 2_000.0)
    usdm.set_quote(ETH, 1_999.99, 5.0, 2_000.01, 5.0)
    async with BinanceServer(usdm) as running:
        yield running


class Clumsy(DeribitOrderWords):
    """A client whose code fails in a way nobody wrote down, before or after the order left."""

    def __init__(self, *, sends: bool) -> None:
        super().__init__()
        self.sends = sends

    async def create(self, exchange: ccxt.pro.Exchange, terms: OrderTerms) -> Raw:
        if self.sends:
            await super().create(exchange, terms)
        return {}["order"]


async def test_an_undocumented_error_after_sending_is_unknown(server: DeribitServer, book: VenueBook) -> None:
    async with rigged("deribit", "deribit", server, words=Clumsy(sends=True)) as rig:
        order_id = rig.send(PERP, 100, 2_001.0)
        assert "KeyError" in (await rig.until(OutcomeLost)).why
        rig.query(order_id, PERP)
        assert (await rig.until(OrderTruth)).state is OrderState.FILLED
    assert book.position(PERP).amount == 100.0


async def test_an_undocumented_error_before_anything_was_seen_is_unknown_too(server: DeribitServer) -> None:
    async with rigged("deribit", "deribit", server, words=Clumsy(sends=False), runs=False) as rig:
        rig.send(PERP, 100, 2_001.0)
        await rig.until(OutcomeLost)
        assert not rig.of(OrderRejected)


async def test_an_unknown_instrument_is_not_sent(server: DeribitServer) -> None:
    async with rigged("deribit", "deribit", server, runs=False) as rig:
        intent = OrderIntent(f"{RUN}-1", "SOL-PERPETUAL", 1, 1, TimeInForce.IOC, False, "test", 1.0, 0)
        rig.desk.submit(SubmitOrder(intent))
        assert "SOL-PERPETUAL is not listed at deribit" in rig.of(OrderRejected)[0].reason
        rig.desk.submit(CancelOrder(f"{RUN}-1", "SOL-PERPETUAL", "test"))
        await rig.until(CancelRejected)
        rig.desk.submit(QueryOrder(f"{RUN}-1", "SOL-PERPETUAL"))
        await asyncio.sleep(0.02)
        assert not rig.of(OrderTruth)


async def test_a_cancel_that_overtakes_its_order_catches_it(binance: BinanceServer) -> None:
    async with rigged("binance", "binanceusdm", binance) as rig:
        await rig.until(AccountReport)
        was_asked_to_cancel = asyncio.Event()
        binance.faults.next("create", held(was_asked_to_cancel))
        order_id = rig.send(ETH, 1_000, 1_990.0, TimeInForce.GTC)
        await rig.until(OrderSent)
        rig.cancel(order_id, ETH)
        await rig.soon(lambda: binance.faults.asked.get("cancel"), what="a cancel")
        was_asked_to_cancel.set()
        await rig.soon(lambda: rig.of(OrderCanceled) or rig.of(OrderTruth), what="the end")
        assert not rig.of(CancelRejected)
    assert not binance.book.open_orders()


@pytest.mark.parametrize("fault", [drop_reply(), drop_request()])
async def test_an_amend_without_an_answer_is_told_by_the_venues_price(
    binance: BinanceServer, fault: RequestFault
) -> None:
    async with rigged("binance", "binanceusdm", binance) as rig:
        order_id = rig.send(ETH, 1_000, 1_990.0, TimeInForce.POST_ONLY)
        await rig.until(OrderAccepted)
        binance.faults.next("amend", fault)
        rig.amend(order_id, ETH, 1_991.0)
        await rig.until(OutcomeLost)
        assert (await rig.until(OrderTruth)).state is OrderState.OPEN
        await rig.until(OrderAmended if fault.is_executed else AmendRejected)
        (order,) = binance.book.open_orders()
        assert order.px == (1_991.0 if fault.is_executed else 1_990.0)


async def test_news_without_our_id_do_not_make_our_order_foreign(binance: BinanceServer) -> None:
    async with rigged("binance", "binanceusdm", binance) as rig:
        order_id = rig.send(ETH, 1_000, 1_990.0, TimeInForce.GTC)
        venue_order_id = (await rig.until(OrderAccepted)).venue_order_id
        rig.desk.watch.on_order({"id": venue_order_id, "symbol": "ETH/USDT:USDT", "status": "open", "info": {}})
        binance.book.set_quote(ETH, 1_989.99, 5.0, 1_990.0, 5.0)
        assert (await rig.until(Fill)).order_id == order_id


async def test_a_cancel_after_a_restart_needs_no_memory(server: DeribitServer, book: VenueBook) -> None:
    book.place(PERP, is_buy=True, amount=100.0, px=1_990.0, client_id=f"{RUN}-5")
    async with rigged("deribit", "deribit", server) as rig:
        await rig.until(AccountReport)
        assert [order.order_id for order in rig.of(AccountReport)[0].open_orders] == [f"{RUN}-5"]
        rig.query(f"{RUN}-5", PERP)
        assert (await rig.until(OrderTruth)).state is OrderState.OPEN
        rig.amend(f"{RUN}-5", PERP, 1_991.0)
        await rig.until(AmendRejected)
        rig.cancel(f"{RUN}-5", PERP)
        await rig.soon(lambda: not book.open_orders(), what="no open orders")


async def test_an_order_of_before_a_restart_is_told_however_many_trades_it_took(binance: BinanceServer) -> None:
    binance.book.place(ETH, is_buy=True, amount=0.13, px=1_990.0, client_id=f"{RUN}-5")
    for _ in range(130):
        binance.book.set_quote(ETH, 1_989.99, 5.0, 1_990.0, 0.001)
    async with rigged("binance", "binanceusdm", binance, runs=False) as rig:
        rig.query(f"{RUN}-5", ETH)
        truth = await rig.until(OrderTruth)
        assert (truth.state, sum(fill.qty_lots for fill in truth.fills)) == (OrderState.FILLED, 130)


async def test_another_runs_orders_are_foreign(server: DeribitServer, book: VenueBook) -> None:
    book.place(PERP, is_buy=True, amount=100.0, px=1_990.0, client_id="aaaaaaaaaa-5")
    async with rigged("deribit", "deribit", server) as rig:
        assert [order.order_id for order in (await rig.until(AccountReport)).open_orders] == [""]


async def test_a_crowd_is_bounded_and_cancels_still_go(server: DeribitServer, book: VenueBook) -> None:
    async with rigged("deribit", "deribit", server, burst_requests=1_000, requests_per_s=1_000.0) as rig:
        server.faults.always("create", delay(request_s=0.1))
        book.place(PERP, is_buy=True, amount=100.0, px=1_990.0, client_id=f"{RUN}-500")
        for _ in range(100):
            rig.send(PERP, 1, 2_001.0)
        assert len([no for no in rig.of(OrderRejected) if "too many requests" in no.reason]) == 36
        rig.cancel(f"{RUN}-500", PERP)
        await rig.soon(lambda: not book.open_orders(), what="no open orders")
        await rig.soon(lambda: len(rig.of(Fill)) == 64, what="64 fills")


async def test_an_empty_budget_refuses_in_words_and_keeps_cancels(server: DeribitServer, book: VenueBook) -> None:
    book.place(PERP, is_buy=True, amount=100.0, px=1_990.0, client_id=f"{RUN}-500")
    async with rigged("deribit", "deribit", server, runs=False, burst_requests=10, requests_per_s=0.001) as rig:
        for _ in range(10):
            rig.send(PERP, 1, 2_001.0)
        assert "budget is used up" in (await rig.until(OrderRejected)).reason
        rig.cancel(f"{RUN}-500", PERP)
        await rig.soon(lambda: not book.open_orders(), what="no open orders")
        await rig.until(Fill, 8)
    assert book.position(PERP).amount == 8.0


async def test_the_truth_raises_what_the_operator_should_do(server: DeribitServer) -> None:
    async with rigged("deribit", "deribit", server, runs=False) as rig:
        server.faults.next("positions", http(503))
        with pytest.raises(Retryable, match="the account cannot be read"):
            await rig.desk.truth()
        rig.exchange.secret = "wrong"
        with pytest.raises(VenueFatal, match="AuthenticationError"):
            await rig.desk.truth()


async def test_the_decision_waits_for_nothing(server: DeribitServer) -> None:
    async with rigged("deribit", "deribit", server) as rig:
        await rig.until(AccountReport)
        rig.got.clear()
        for number in range(1, 4):
            order_id = rig.send(PERP, 1, 2_001.0)
            known = rig.desk.known.get(order_id)
            assert known is not None
            assert known.is_being_created
            assert len(rig.of(OrderSent)) == number - 1  # submit() only starts a task: that one sends
            await rig.until(OrderAccepted, number)


FAULTS = [
    drop_reply(),
    drop_request(),
    delay(reply_s=0.02),
    http(429),
    http(502, is_executed=True),
    http(502),
    garbage(),
]


@pytest.mark.parametrize("seed", range(6))
async def test_in_any_weather_the_ledger_is_the_venue(seed: int, server: DeribitServer, book: VenueBook) -> None:
    chance = random.Random(seed)
    for operation in ("create", "cancel", "query", "trades", "open_orders"):
        for fault in FAULTS:
            server.faults.randomly(operation, fault, 0.05)
    for stream in ("orders", "fills"):
        for news in (StreamFault.DUPLICATE, StreamFault.REORDER, StreamFault.SKIP):
            server.faults.randomly(stream, news, 0.1)
    async with rigged("deribit", "deribit", server, requests_per_s=2_000.0, burst_requests=500) as rig:
        ids = []
        for _ in range(15):
            lots = chance.choice([-1, 1]) * chance.randint(1, 500)
            tif = chance.choice([TimeInForce.IOC, TimeInForce.GTC])
            ids.append(rig.send(PERP, lots, 2_005.0 if lots > 0 else 1_995.0, tif))
            await asyncio.sleep(0.005)
        await rig.hurry(lambda: asked_until_over(rig, ids), "the end of every order")
        server.faults.clear()
        await rig.desk.truth()
        fills = {fill.trade_id: fill for fill in [*rig.of(Fill), *(f for t in rig.of(OrderTruth) for f in t.fills)]}
        assert sum(fill.qty_lots for fill in fills.values()) == book.position(PERP).amount
        for order_id in ids:
            assert len(book.orders_of(order_id)) <= 1
            ours = sum(fill.qty_lots for fill in fills.values() if fill.order_id == order_id)
            assert abs(ours) == sum(order.filled for order in book.orders_of(order_id))
            if any(no.order_id == order_id for no in rig.of(OrderRejected)):
                assert book.orders_of(order_id) == []


def asked_until_over(rig: Rig, ids: list[str]) -> bool:
    """Ask for every order that is not over yet, as the engine would, but sooner."""
    told = {no.order_id for no in [*rig.of(OrderRejected), *rig.of(OrderCanceled)]}
    told |= {truth.order_id for truth in rig.of(OrderTruth) if truth.state.is_terminal}
    filled: dict[str, int] = {}
    for fill in rig.of(Fill):
        filled[fill.order_id] = filled.get(fill.order_id, 0) + abs(fill.qty_lots)
    left = []
    for order_id in ids:
        known = rig.desk.known.get(order_id)
        assert known is not None
        assert known.terms is not None
        if order_id not in told and filled.get(order_id) != abs(known.terms.intent.qty_lots):
            left.append(order_id)
    for order_id in left:
        if not rig.desk.known.get_or_add(order_id, PERP).is_being_created:
            rig.query(order_id, PERP)
    return not left
