"""Paper execution: simulated venues on live data, moved by batches only, the same however often they are rebuilt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.chain import GasPaid
from bot.domain.events import (
    AmendOrder,
    CancelForeign,
    CancelOrder,
    Command,
    Event,
    OperatorAction,
    OperatorCommand,
    QueryAccount,
    QueryOrder,
    QueryTransfer,
    Restarted,
    SubmitOrder,
)
from bot.domain.instruments import Future
from bot.domain.market import ExecutionTerms, FundingRate, GasTier, IndexPrice, Quote, Settlement, VolQuote
from bot.domain.orders import (
    CancelRejected,
    Fill,
    FundingPayment,
    GasBid,
    OrderAccepted,
    OrderAmended,
    OrderIntent,
    OrderRejected,
    OrderSent,
    OrderTruth,
    TimeInForce,
)
from bot.domain.risk import TransferCollateral, TransferState, TransferUpdate
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.domain.venues import AccountReport, InstrumentListed, VenueOrder, VenuePosition
from bot.engine.option_prices import price_quote
from bot.gateways.paper import PaperExecution
from bot.simulation.depth import DepthLevel, DepthProfile
from bot.simulation.transfers import RouteWorld, SimulatedTransfers
from bot.simulation.venue import NO_FAULTS, Faults, Fees, Latency, OptionFees, SimulatedVenue
from tests import instruments
from tests.simulation.test_chain import POOL

MS = NS_PER_MS
HOME = instruments.PERPETUAL
AWAY = msgspec.structs.replace(instruments.INVERSE, venue="away")
FUTURE = Future(
    instrument_id="ETH-28APR23",
    venue="away",
    base="ETH",
    quote="USD",
    settle="USD",
    price_currency="USD",
    payoff=HOME.payoff,
    contract_size=1.0,
    lot_contracts=0.1,
    tick_schedule=HOME.tick_schedule,
    expiry_ns=900 * NS_PER_S,
)
TRADED = (HOME, AWAY, FUTURE)
FEES = {instrument.instrument_id: Fees(maker_bps=1.0, taker_bps=5.0) for instrument in TRADED}
DEPTH = {HOME.instrument_id: DepthProfile((DepthLevel(1.0, 2_000.0),))}
LATENCY = Latency(entry_ns=20 * MS, response_ns=30 * MS)
JITTERY = Latency(entry_ns=20 * MS, response_ns=30 * MS, jitter_fraction=0.5)
ROUGH = Faults(
    reject_probability=0.1, lose_request_probability=0.1, lose_reply_probability=0.1, timeout_ns=2 * NS_PER_S
)


def make_paper(
    *, latency: Latency = LATENCY, faults: Faults = NO_FAULTS, cash: dict[str, dict[str, float]] | None = None
) -> PaperExecution:
    return PaperExecution(TRADED, fees=FEES, latency=latency, depth=DEPTH, seed=7, faults=faults, cash=cash)


def quote(
    ts_ns: int, bid_px: float, *, lag_ns: int = 0, instrument_id: str = HOME.instrument_id, seq: int = 0
) -> Quote:
    return Quote(instrument_id, bid_px, 10.0, bid_px + 1.0, 10.0, ts_ns, ts_ns + lag_ns, seq or ts_ns)


def order(
    order_id: str, lots: int, limit_px: float = 0.0, *, instrument_id: str = HOME.instrument_id, rests: bool = False
) -> SubmitOrder:
    tick_px = 0.5 if instrument_id == AWAY.instrument_id else 0.05
    force = TimeInForce.GTC if rests else TimeInForce.IOC if limit_px else TimeInForce.MARKET
    return SubmitOrder(OrderIntent(order_id, instrument_id, lots, round(limit_px / tick_px), force, False, "", 0.0, 0))


def fills(events: Sequence[Event]) -> list[Fill]:
    return [event for event in events if isinstance(event, Fill)]


def report_of(events: Sequence[Event]) -> AccountReport:
    (report,) = [event for event in events if isinstance(event, AccountReport)]
    return report


# One batch ------------------------------------------------------------------------------------------------------------


def test_answers_come_before_what_the_batch_brought_and_the_hand_off_before_them() -> None:
    paper = make_paper()
    assert paper.absorb(0, (quote(0, 2000.0),)) == (quote(0, 2000.0),)
    paper.submit(order("a-1", 1), 0)
    later = quote(60 * MS, 2005.0)
    assert [type(event) for event in paper.absorb(60 * MS, (later,))] == [OrderSent, OrderAccepted, Fill, Quote]
    assert paper.absorb(70 * MS, ()) == ()


def test_a_restart_stays_first() -> None:
    paper = make_paper()
    paper.absorb(0, (quote(0, 2000.0),))
    paper.submit(order("a-1", 1), 0)
    halt = OperatorCommand(OperatorAction.HALT, "", "", NS_PER_S)
    events = paper.absorb(NS_PER_S, (Restarted(NS_PER_S), halt))
    assert [type(event) for event in events] == [Restarted, OrderSent, OrderAccepted, Fill, OperatorCommand]


def test_it_says_when_to_wake_and_a_silent_feed_delays_no_answer() -> None:
    paper = make_paper()
    assert paper.next_event_ns() is None
    paper.absorb(0, (quote(0, 2000.0),))
    paper.submit(order("a-1", 1), 5)
    wake_ns = paper.next_event_ns()
    assert wake_ns == 5 + 50 * MS
    assert fills(paper.absorb(wake_ns, ()))[0].ts_event_ns == 5 + 20 * MS
    assert paper.next_event_ns() is None


def test_an_order_does_not_see_a_quote_that_came_up_after_its_arrival() -> None:
    paper = make_paper()
    paper.absorb(0, (quote(0, 2000.0),))
    paper.submit(order("a-1", 1), 0)
    assert fills(paper.absorb(50 * MS, (quote(21 * MS, 1900.0, lag_ns=29 * MS),)))[0].px == 2001.0


def test_an_order_sees_what_was_on_show_when_it_arrived_even_if_we_did_not_when_it_was_sent() -> None:
    paper = make_paper()
    paper.absorb(0, (quote(0, 2000.0),))
    paper.submit(order("a-1", 1), 0)
    other = quote(30 * MS, 30_000.0, lag_ns=20 * MS, instrument_id=AWAY.instrument_id)
    batch = (other, quote(25 * MS, 1800.0, lag_ns=25 * MS, seq=2), quote(19 * MS, 1900.0, lag_ns=31 * MS, seq=1))
    assert fills(paper.absorb(50 * MS, batch))[0].px == 1901.0


def test_a_late_quote_counts_from_when_it_came_and_changes_nothing_before() -> None:
    paper = make_paper()
    paper.absorb(0, (quote(0, 2000.0),))
    paper.submit(order("a-1", 1), 0)
    assert fills(paper.absorb(50 * MS, ()))[0].px == 2001.0
    paper.submit(order("a-2", 1), 50 * MS)
    paper.submit(order("a-3", 1, 1890.0, rests=True), 50 * MS)
    paper.absorb(60 * MS, (quote(10 * MS, 1900.0, lag_ns=50 * MS),))  # on show while a-1 arrived, as we learn now
    assert fills(paper.absorb(100 * MS, ()))[0].px == 1901.0
    late = quote(40 * MS, 1880.0, lag_ns=100 * MS)  # its time has passed at the venue, so a-3 fills now
    assert fills(paper.absorb(140 * MS, (late,)))[0].ts_event_ns == 70 * MS
    assert paper.absorb(NS_PER_S, (quote(30 * MS, 1500.0, lag_ns=NS_PER_S),))[:-1] == ()  # older than what is known


def test_vols_indices_and_strangers_mean_nothing_to_it() -> None:
    paper = make_paper()
    events = (
        IndexPrice("ETH", 2000.0, 0, 0, 1),
        VolQuote("ETH-28APR23-1900-C", 0.6, 0.5, 0.7, 2000.0, 0, 0, 2),
        quote(0, 1.0, instrument_id="DOGE-PERPETUAL"),
    )
    assert paper.absorb(0, events) == events
    paper.submit(order("a-1", 1, instrument_id="DOGE-PERPETUAL"), 0)
    rejected = paper.absorb(NS_PER_S, ())[-1]
    assert isinstance(rejected, OrderRejected)
    assert "unknown instrument" in rejected.reason


def test_funding_is_paid_on_paper() -> None:
    paper = make_paper()
    paper.absorb(0, (quote(0, 2000.0),))
    paper.submit(order("a-1", 10), 0)
    paper.absorb(NS_PER_S, (FundingRate(HOME.instrument_id, 0.001, NS_PER_S, NS_PER_S, 1),))
    (payment,) = paper.absorb(2 * NS_PER_S, ())
    assert isinstance(payment, FundingPayment)
    assert payment.amount_settle == pytest.approx(-2000.5 * 0.001)


def test_every_command_about_an_order_gets_its_answer() -> None:
    paper = make_paper()
    paper.absorb(0, (quote(0, 2000.0),))
    paper.submit(order("a-1", 1, 1990.0, rests=True), 0)
    paper.absorb(NS_PER_S, ())
    paper.submit(AmendOrder("a-1", HOME.instrument_id, 1991 * 20, ""), NS_PER_S)
    paper.submit(QueryAccount("sim", ""), NS_PER_S)
    amended, report = paper.absorb(2 * NS_PER_S, ())
    assert isinstance(amended, OrderAmended)
    assert report_of((report,)).open_orders == (VenueOrder("V1", "a-1", HOME.instrument_id, 1, 1991.0),)
    paper.submit(CancelOrder("a-2", HOME.instrument_id, ""), 2 * NS_PER_S)
    paper.submit(QueryOrder("a-2", HOME.instrument_id), 2 * NS_PER_S)
    assert [type(event) for event in paper.absorb(3 * NS_PER_S, ())] == [CancelRejected, OrderTruth]


# Accounts -------------------------------------------------------------------------------------------------------------


def test_an_account_report_holds_positions_open_orders_and_equity() -> None:
    paper = make_paper(cash={"sim": {"USD": 1_000.0, "ETH": 3.0}})
    paper.absorb(0, (quote(0, 2000.0),))
    paper.submit(order("a-1", 10), 0)
    paper.submit(order("a-2", -5, 2010.0, rests=True), 0)
    paper.submit(QueryAccount("sim", "start"), 1)
    told = paper.absorb(NS_PER_S, ())
    report = report_of(told)
    assert told[-1] is report  # never before the fills that it contains
    assert report.positions == (VenuePosition(HOME.instrument_id, 10, 0.0),)
    assert report.open_orders == (VenueOrder("V2", "a-2", HOME.instrument_id, -5, 2010.0),)
    assert report.balances == {"USD": pytest.approx(1_000.0 - 0.5 - 2001.0 * 5e-4), "ETH": 3.0}
    assert (report.ts_asked_ns, report.ts_recv_ns) == (1, NS_PER_S)


def test_a_report_waits_for_the_messages_under_way_before_it() -> None:
    paper = make_paper()
    paper.absorb(0, (quote(0, 2000.0),))
    paper.submit(QueryAccount("sim", ""), 0)
    paper.submit(order("a-1", 1), 25 * MS)
    told = paper.absorb(50 * MS, (quote(50 * MS, 2000.0),))  # executes the order, of which we shall hear at 75 ms
    assert [type(event) for event in told] == [OrderSent, Quote]
    assert paper.next_event_ns() == 75 * MS
    told = paper.absorb(75 * MS, ())
    assert [type(event) for event in told] == [OrderAccepted, Fill, AccountReport]
    assert report_of(told).positions == (VenuePosition(HOME.instrument_id, 1, 0.0),)
    assert paper.next_event_ns() is None


def test_venues_have_accounts_of_their_own() -> None:
    paper = make_paper()
    there = AWAY.instrument_id
    paper.absorb(0, (quote(0, 2000.0), quote(0, 30_000.0, instrument_id=there)))
    paper.submit(order("a-1", 3), 0)
    paper.submit(order("a-2", -4, instrument_id=there), 0)
    for venue in ("sim", "away", "nowhere"):
        paper.submit(QueryAccount(venue, ""), 0)
    told = paper.absorb(NS_PER_S, ())
    here, away = [event for event in told if isinstance(event, AccountReport)]
    assert (here.venue, away.venue) == ("sim", "away")
    assert here.positions == (VenuePosition(HOME.instrument_id, 3, 0.0),)
    assert away.positions == (VenuePosition(there, -4, 0.0),)
    assert (here.balances.keys(), away.balances.keys()) == ({"USD"}, {"BTC"})


def test_a_settlement_reaches_every_venue() -> None:
    paper = make_paper()
    paper.absorb(0, (quote(0, 2000.0, instrument_id=FUTURE.instrument_id),))
    paper.submit(order("a-1", 3, instrument_id=FUTURE.instrument_id), 0)
    at_ns = FUTURE.expiry_ns
    paper.absorb(at_ns, (Settlement("ETH", at_ns, 2100.0, at_ns, at_ns, 1),))
    paper.submit(QueryAccount("away", ""), at_ns)
    report = report_of(paper.absorb(at_ns + NS_PER_S, ()))
    assert report.positions == ()
    assert report.balances == {"USD": pytest.approx(0.3 * (2100.0 - 2001.0) - 0.3 * 2001.0 * 5e-4)}


def test_nothing_on_paper_is_foreign() -> None:
    paper = make_paper()
    paper.submit(CancelForeign("sim", "V1", HOME.instrument_id, ""), 0)
    assert paper.next_event_ns() is None
    assert paper.absorb(NS_PER_S, ()) == ()


def test_one_venue_draws_as_in_a_replay_and_each_further_one_by_itself() -> None:
    paper = make_paper(latency=JITTERY)
    alone = SimulatedVenue([HOME], fees=FEES, latency=JITTERY, depth=DEPTH, seed=7)
    first = quote(0, 2000.0)
    paper.absorb(0, (first, quote(0, 30_000.0, instrument_id=AWAY.instrument_id)))
    alone.on_market(first)
    for number in range(10):
        paper.submit(order(f"a-{number}", 1), 0)
        paper.submit(order(f"b-{number}", 1, instrument_id=AWAY.instrument_id), 0)
        alone.submit(order(f"a-{number}", 1), 0)
    told = fills(paper.absorb(NS_PER_S, ()))
    here = [fill for fill in told if fill.order_id.startswith("a")]
    assert here == [event for event in alone.advance(NS_PER_S) if isinstance(event, Fill)]
    assert [fill.ts_recv_ns for fill in here] != [fill.ts_recv_ns for fill in told if fill.order_id.startswith("b")]


def test_there_is_something_to_trade() -> None:
    with pytest.raises(ValueError, match="expected an instrument to trade at least, found none"):
        PaperExecution((), fees={}, latency=LATENCY, depth={}, seed=1)


# Rebuilding -----------------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """What reaches the daemon between two decisions, what it then asks for, and whether it is killed afterwards."""

    wait_ns: int
    events: tuple[tuple[str, int, float], ...]  # instrument, lag, price: conflated and late ones among them
    commands: tuple[tuple[str, int, float, str], ...]  # what, which order or lots, limit, instrument
    is_killed: bool


QUOTED = st.tuples(st.sampled_from([i.instrument_id for i in TRADED]), st.integers(0, 400 * MS), st.floats(1900, 2100))
ASKED = st.tuples(
    st.sampled_from(["market", "rest", "cancel", "amend", "query", "account", "foreign"]),
    st.integers(-20, 20),
    st.integers(1900, 2100).map(float),
    st.sampled_from([HOME.instrument_id, AWAY.instrument_id, FUTURE.instrument_id]),
)
STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from([1, 10 * MS, 35 * MS, 300 * MS, 3 * NS_PER_S]),
        st.lists(QUOTED, max_size=5).map(tuple),
        st.lists(ASKED, max_size=3).map(tuple),
        st.booleans(),
    ),
    max_size=25,
)


class Rehearsal:
    """A daemon in small: absorbs, journals, submits; when killed it rebuilds from its journal and goes on."""

    def __init__(self) -> None:
        self.paper = make_paper(latency=JITTERY, faults=ROUGH)
        self.journal: list[tuple[int, tuple[Event, ...], tuple[Command, ...]]] = []
        self._seq = 0
        self._orders = 0
        self.now_ns = NS_PER_S

    def live(self, step: Step) -> None:
        self.now_ns += step.wait_ns
        batch = self.paper.absorb(self.now_ns, tuple(map(self._market, step.events)))
        commands = tuple(self._command(*asked) for asked in step.commands)
        self.journal.append((self.now_ns, batch, commands))
        for command in commands:
            self.paper.submit(command, self.now_ns)

    def rebuild(self) -> None:
        """Start anew from what was journalled, checking that every batch comes out as it was."""
        self.paper = make_paper(latency=JITTERY, faults=ROUGH)
        for now_ns, batch, commands in self.journal:
            again = self.paper.absorb(now_ns, batch)
            own = len(again) - len(batch)
            assert msgspec.msgpack.encode(again[:own]) == msgspec.msgpack.encode(batch[:own])
            for command in commands:
                self.paper.submit(command, now_ns)

    def _market(self, quoted: tuple[str, int, float]) -> Event:
        instrument_id, lag_ns, px = quoted
        self._seq += 1
        if px > 2090:
            return FundingRate(instrument_id, 1e-4, self.now_ns - lag_ns, self.now_ns, self._seq)
        return Quote(instrument_id, px, 1.0, px + 1.0, 1.0, self.now_ns - lag_ns, self.now_ns, self._seq)

    def _command(self, what: str, number: int, limit_px: float, instrument_id: str) -> Command:
        about = f"r-{abs(number)}"
        if what in ("market", "rest"):
            self._orders += 1
            lots, is_resting = number or 1, what == "rest"
            px = limit_px if is_resting else 0.0
            return order(f"r-{self._orders}", lots, px, instrument_id=instrument_id, rests=is_resting)
        return {
            "cancel": CancelOrder(about, instrument_id, ""),
            "amend": AmendOrder(about, instrument_id, round(limit_px) * 20, ""),
            "query": QueryOrder(about, instrument_id),
            "account": QueryAccount("sim" if number % 2 else "away", ""),
            "foreign": CancelForeign("sim", about, instrument_id, ""),
        }[what]


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_rebuilt_ever_again_it_goes_on_as_if_never_stopped(steps: list[Step]) -> None:
    steady, killed = Rehearsal(), Rehearsal()
    for step in steps:
        steady.live(step)
        killed.live(step)
        if step.is_killed:
            killed.rebuild()
    assert msgspec.msgpack.encode(killed.journal) == msgspec.msgpack.encode(steady.journal)
    assert killed.paper.next_event_ns() == steady.paper.next_event_ns()


@given(STEPS)
@settings(max_examples=30, deadline=None)
def test_nothing_is_told_before_its_time_or_out_of_order(steps: list[Step]) -> None:
    rehearsal = Rehearsal()
    for step in steps:
        rehearsal.live(step)
        now_ns, batch, _ = rehearsal.journal[-1]
        own = batch[: len(batch) - len(step.events)]
        received = [event.ts_recv_ns for event in own if not isinstance(event, OrderSent)]
        assert received == sorted(received)
        assert all(ns <= now_ns for ns in received)
        wake_ns = rehearsal.paper.next_event_ns()
        assert wake_ns is None or wake_ns > now_ns or step.commands


# A chain --------------------------------------------------------------------------------------------------------------


def chain_block(number: int, px: float = 2_000.0) -> tuple[Quote, ExecutionTerms]:
    """What a chain's gateway tells of one block of twelve seconds."""
    stamp = number * 12 * NS_PER_S, number * 12 * NS_PER_S + 500 * MS, number
    tiers = (GasTier(10**12, 10**9, 1.0, 6.0, 12.0),)
    terms = (POOL.instrument_id, tiers, 0.02, 50_000.0, 12 * NS_PER_S, *stamp, 10**10, 100_000, 2_000.0)
    return Quote(POOL.instrument_id, px - 1.0, 50.0, px + 1.0, 50.0, *stamp), ExecutionTerms(*terms)


def chain_order(order_id: str, lots: int) -> SubmitOrder:
    gas = GasBid(10**13, 10**11, 1.0, 10**6 * NS_PER_S)
    ticks = POOL.tick_schedule.ceil_ticks(2_100.0)
    return SubmitOrder(OrderIntent(order_id, POOL.instrument_id, lots, ticks, TimeInForce.IOC, False, "", 0.0, 0, gas))


def make_paper_with_chain() -> PaperExecution:
    return PaperExecution(
        (HOME, POOL), fees=FEES, latency=LATENCY, depth={}, seed=7, chains={POOL.venue: "ETH"}
    )  # fmt: skip


def test_on_a_chain_an_order_waits_for_its_block_and_pays_gas_while_an_exchange_fills_at_once() -> None:
    paper = make_paper_with_chain()
    start_ns = 12 * NS_PER_S + 500 * MS
    paper.absorb(start_ns, (*chain_block(1), quote(12 * NS_PER_S, 2_000.0)))
    paper.submit(chain_order("a-1", 200), start_ns)
    paper.submit(order("a-2", 1), start_ns)
    early = paper.absorb(start_ns + NS_PER_S, ())
    assert [fill.order_id for fill in fills(early)] == ["a-2"]
    assert paper.next_event_ns() is None, "the next block is told by the feed"
    later: list[Event] = []
    number = 1
    while not fills(later):
        number += 1
        recv_ns = number * 12 * NS_PER_S + 500 * MS
        later += paper.absorb(recv_ns, chain_block(number))
        wake_ns = paper.next_event_ns()
        if wake_ns is not None:
            assert wake_ns == recv_ns + LATENCY.response_ns
            later += paper.absorb(wake_ns, ())
    (fill,) = fills(later)
    assert fill.ts_event_ns == number * 12 * NS_PER_S
    assert fill.px == pytest.approx(2_001.0 * (1.0 + 2.0 / 50_000.0))
    (paid,) = [event for event in later if isinstance(event, GasPaid)]
    assert (paid.order_id, paid.venue, paid.coin) == ("a-1", POOL.venue, "ETH")
    paper.submit(QueryAccount(POOL.venue, ""), 10**6 * NS_PER_S)
    report = report_of(paper.absorb(10**6 * NS_PER_S + NS_PER_S, ()))
    assert report.positions == (VenuePosition(POOL.instrument_id, 200, 0.0),)
    assert report.balances["ETH"] == -paid.gas_coin


def test_quote_and_terms_of_a_block_may_come_in_any_order_of_time() -> None:
    def story(*, turned: bool) -> list[Event]:
        paper = make_paper_with_chain()
        paper.absorb(12 * NS_PER_S + 500 * MS, chain_block(1))
        paper.submit(chain_order("a-1", 200), 13 * NS_PER_S)
        said: list[Event] = []
        for number in range(2, 12):
            shown = chain_block(number)
            batch = shown[::-1] if turned else shown
            said += paper.absorb(number * 12 * NS_PER_S + NS_PER_S, batch)
        return [event for event in said if isinstance(event, Fill | GasPaid)]

    assert len(story(turned=False)) == 2
    assert story(turned=False) == story(turned=True)


def test_options_trade_at_the_vols_of_their_batches_and_again_when_rebuilt() -> None:
    call = msgspec.structs.replace(instruments.CALL, expiry_ns=30 * 86_400 * NS_PER_S)
    fees = {HOME.instrument_id: FEES[HOME.instrument_id], call.instrument_id: OptionFees(3.0, 0.125)}
    told = []
    for _ in range(2):
        paper = PaperExecution((HOME, call), fees=fees, latency=JITTERY, depth={}, seed=7)
        answers = []
        for n in range(1, 20):
            vols = VolQuote(call.instrument_id, 0.6, 0.58, 0.62, 2000.0 + n, n * 50 * MS, n * 50 * MS, n, 3.0, 3.0)
            stranger = msgspec.structs.replace(vols, instrument_id="ETH-1JAN30-1-C")
            answers += paper.absorb(n * 50 * MS, (vols, stranger))
            if n in (2, 9):
                intent = OrderIntent(f"a-{n}", call.instrument_id, 2, 2_000, TimeInForce.IOC, False, "", 0.0, 0)
                paper.submit(SubmitOrder(intent), n * 50 * MS)
        told.append(answers)
    assert told[0] == told[1]
    assert [fill.qty_lots for fill in fills(told[0])] == [2, 2]
    assert fills(told[0])[0].px == pytest.approx(price_quote(call, told[0][0]).ask_px, abs=0.001)


def test_an_option_listed_on_the_way_trades_from_then_on_where_options_are_hedges() -> None:
    call = msgspec.structs.replace(instruments.CALL, expiry_ns=30 * 86_400 * NS_PER_S)
    intent = OrderIntent("a-1", call.instrument_id, 2, 2_000, TimeInForce.IOC, False, "", 0.0, 0)
    for underlying, lots in (("ETH", [2]), ("BTC", [])):
        option_fees = {("sim", underlying): OptionFees(3.0, 0.125)}
        home = msgspec.structs.replace(HOME, venue="sim")
        call = msgspec.structs.replace(call, venue="sim")
        paper = PaperExecution((home,), fees=FEES, latency=LATENCY, depth={}, seed=7, option_fees=option_fees)
        vols = VolQuote(call.instrument_id, 0.6, 0.58, 0.62, 2000.0, 50 * MS, 50 * MS, 1, 3.0, 3.0)
        paper.absorb(50 * MS, (vols, InstrumentListed(call, 50 * MS)))
        paper.submit(SubmitOrder(intent), 60 * MS)
        answers = paper.absorb(200 * MS, ())
        assert [fill.qty_lots for fill in fills(answers)] == lots
        assert any(isinstance(one, OrderRejected) for one in answers) == (not lots)


def test_collateral_moves_on_paper_too_and_the_timer_knows_of_it() -> None:
    world = SimulatedTransfers(1, {"ARB": RouteWorld(median_ns=NS_PER_S, p95_ns=2 * NS_PER_S, fee=1.0)})
    fees = {HOME.instrument_id: Fees(0.0, 5.0)}
    paper = PaperExecution([HOME], fees=fees, latency=Latency(0, 0, 0), depth={}, seed=1, transfers=world)
    command = TransferCollateral("a-T1", "USDC", 100.0, "home", "away", "ARB", "margin")
    paper.submit(QueryTransfer(command, "restarted"), 1)
    assert paper.next_event_ns() is None
    paper.submit(command, 1)
    told: list[TransferState] = []
    while (now_ns := paper.next_event_ns()) is not None:
        told += [event.state for event in paper.absorb(now_ns, ()) if isinstance(event, TransferUpdate)]
    assert told == [TransferState.SENT, TransferState.ARRIVED]
