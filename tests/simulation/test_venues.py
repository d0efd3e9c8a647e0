"""Several venues as one: orders go home, everybody sees the market, answers come in the order of receipt."""

from __future__ import annotations

import pytest

from bot.domain.events import CancelForeign, Event, QueryAccount, QueryOrder, QueryTransfer, SubmitOrder
from bot.domain.market import IndexPrice, Quote
from bot.domain.orders import Fill, GasBid, OrderAccepted, OrderIntent, OrderTruth, TimeInForce
from bot.domain.risk import TransferCollateral, TransferState, TransferUpdate
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.simulation.chain import SimulatedChain
from bot.simulation.transfers import RouteWorld, SimulatedTransfers
from bot.simulation.venue import Fees, Latency, SimulatedVenue
from bot.simulation.venues import Venues
from tests import instruments
from tests.simulation.test_chain import BLOCK_NS, MODEL, POOL, POOL_MODEL, T0_NS

PERPETUAL = instruments.PERPETUAL
LATENCY = Latency(0, 50 * NS_PER_MS, 100 * NS_PER_MS)
END_NS = T0_NS + 10 * BLOCK_NS


def make_both() -> tuple[Venues, SimulatedVenue, SimulatedChain]:
    fees = {PERPETUAL.instrument_id: Fees(0.0, 5.0)}
    exchange = SimulatedVenue([PERPETUAL], fees=fees, latency=LATENCY, depth={}, seed=1)
    chain = SimulatedChain(MODEL, [POOL_MODEL], latency=LATENCY, seed=1, until_ns=END_NS)
    both = Venues({PERPETUAL.instrument_id: exchange, POOL.instrument_id: chain})
    both.on_market(IndexPrice("ETH", 2_000.0, T0_NS, T0_NS, 1))
    both.on_market(Quote(PERPETUAL.instrument_id, 2_000.0, 50.0, 2_001.0, 50.0, T0_NS, T0_NS, 2))
    return both, exchange, chain


def buy(order_id: str, instrument_id: str, limit_ticks: int, gas: GasBid | None = None) -> SubmitOrder:
    intent = OrderIntent(order_id, instrument_id, 3, limit_ticks, TimeInForce.IOC, False, "", 2_000.0, T0_NS, gas)
    return SubmitOrder(intent)


def drain(both: Venues) -> list[Event]:
    events: list[Event] = []
    while (now_ns := both.next_event_ns()) is not None:
        events += both.advance(now_ns)
    return events


def test_each_order_goes_to_its_venue_and_answers_come_in_the_order_of_receipt() -> None:
    both, exchange, chain = make_both()
    gas = GasBid(10**13, 10**12, 1.0, END_NS)
    both.submit(buy("a-1", POOL.instrument_id, 220_000, gas), T0_NS)
    both.submit(buy("a-2", PERPETUAL.instrument_id, 44_000), T0_NS)
    events = drain(both)
    received = [event.ts_recv_ns for event in events]
    assert received == sorted(received)
    assert {event.order_id for event in events if isinstance(event, OrderAccepted)} == {"a-1", "a-2"}
    fills = {event.order_id: event for event in events if isinstance(event, Fill)}
    assert fills["a-2"].ts_event_ns == T0_NS + LATENCY.entry_ns, "an exchange fills at once"
    assert fills["a-1"].ts_event_ns % BLOCK_NS == 0, "a chain fills in a block"
    assert chain.positions == {POOL.instrument_id: 3}
    assert exchange.positions == {PERPETUAL.instrument_id: 3}
    assert both.positions == {POOL.instrument_id: 3, PERPETUAL.instrument_id: 3}
    paid = exchange.cash_settle["USD"] + chain.cash_settle["USD"]
    assert both.cash_settle == {"USD": pytest.approx(paid), "ETH": -chain.figures.gas_coin}


def test_the_next_moment_is_that_of_whoever_is_first() -> None:
    both, exchange, chain = make_both()
    assert exchange.next_event_ns() is None
    assert both.next_event_ns() == chain.next_event_ns() == T0_NS + BLOCK_NS
    both.submit(buy("a-1", PERPETUAL.instrument_id, 44_000), T0_NS)
    moment_ns = both.next_event_ns()
    assert moment_ns is not None
    assert moment_ns == exchange.next_event_ns() < T0_NS + NS_PER_S


def test_a_question_goes_home_and_one_about_an_account_nowhere() -> None:
    both, _, _ = make_both()
    both.submit(QueryOrder("a-9", POOL.instrument_id), T0_NS)
    both.submit(QueryAccount(POOL.venue, ""), T0_NS)
    both.submit(CancelForeign(POOL.venue, "1", POOL.instrument_id, ""), T0_NS)
    assert [type(event) for event in both.advance(T0_NS + NS_PER_S)] == [OrderTruth]


def test_without_a_venue_there_is_nothing_to_trade_at() -> None:
    with pytest.raises(ValueError, match="found none; hint: name a hedge in the vault"):
        Venues({})


def test_collateral_moves_between_venues_and_a_question_moves_none() -> None:
    world = SimulatedTransfers(1, {"ARB": RouteWorld(median_ns=NS_PER_S, p95_ns=2 * NS_PER_S, fee=1.0)})
    fees = {PERPETUAL.instrument_id: Fees(0.0, 5.0)}
    exchange = SimulatedVenue([PERPETUAL], fees=fees, latency=LATENCY, depth={}, seed=1)
    both = Venues({PERPETUAL.instrument_id: exchange}, world)
    command = TransferCollateral("a-T1", "USDC", 100.0, "a", "b", "ARB", "margin")
    both.submit(QueryTransfer(command, "restarted"), T0_NS)
    assert drain(both) == []
    both.submit(command, T0_NS)
    states = [(event.state, event.amount) for event in drain(both) if isinstance(event, TransferUpdate)]
    assert states == [(TransferState.SENT, 99.0), (TransferState.ARRIVED, 99.0)]
    both.submit(QueryTransfer(command, "again"), T0_NS + 10 * NS_PER_S)
    assert [event.state for event in drain(both) if isinstance(event, TransferUpdate)] == [TransferState.ARRIVED]
    alone = Venues({PERPETUAL.instrument_id: exchange})
    alone.submit(command, T0_NS)
    assert drain(alone) == []
