from __future__ import annotations

from collections.abc import Iterable
from math import inf, nan

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.events import AmendOrder, CancelOrder, Command, QueryAccount, QueryOrder, SubmitOrder
from bot.domain.instruments import Future, Instrument, Payoff, TickSchedule, TickStep
from bot.domain.market import FundingRate, IndexPrice, MarketEvent, Quote, Settlement, VolQuote
from bot.domain.orders import (
    AmendRejected,
    CancelRejected,
    Fill,
    FundingPayment,
    Liquidity,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderEvent,
    OrderIntent,
    OrderRejected,
    OrderState,
    OrderTruth,
    OutcomeLost,
    TimeInForce,
)
from bot.engine.option_prices import price_quote, prices_of
from bot.simulation.depth import DepthLevel, DepthProfile
from bot.simulation.venue import CLOCK_TOLERANCE_NS, Faults, Fees, Latency, OptionFees, SimulatedVenue
from tests import instruments

EXPIRY_NS = 1_000_000
LATER_NS = 10**12

PERPETUAL = msgspec.structs.replace(instruments.PERPETUAL, min_lots=2)
INVERSE = msgspec.structs.replace(instruments.INVERSE, tick_schedule=TickSchedule(0.5, (TickStep(30_000.0, 5),)))
FUTURE = Future(
    instrument_id="ETH-28APR23",
    venue="sim",
    base="ETH",
    quote="USD",
    settle="USD",
    price_currency="USD",
    payoff=Payoff.LINEAR,
    contract_size=1.0,
    lot_contracts=0.1,
    tick_schedule=TickSchedule(0.05),
    expiry_ns=EXPIRY_NS,
)
CALL = msgspec.structs.replace(
    instruments.CALL, expiry_ns=EXPIRY_NS, tick_schedule=TickSchedule(0.0001, (TickStep(0.005, 5),))
)
LINEAR_PUT = msgspec.structs.replace(
    CALL,
    instrument_id="ETH_USD-28APR23-1900-P",
    settle="USD",
    price_currency="USD",
    payoff=Payoff.LINEAR,
    tick_schedule=TickSchedule(0.5),
    is_call=False,
)
UNPRICED = msgspec.structs.replace(PERPETUAL, instrument_id="ETH-FREE")
ALL: tuple[Instrument, ...] = (PERPETUAL, INVERSE, FUTURE, CALL, LINEAR_PUT, UNPRICED)
FEES = {instrument.instrument_id: Fees(maker_bps=1.0, taker_bps=5.0) for instrument in ALL[:-1]}
DEPTH = {"ETH-PERPETUAL": DepthProfile((DepthLevel(1.0, 2_000.0), DepthLevel(5.0, 10_000.0)))}
INSTANT = Latency()
SLOW = Latency(entry_ns=100, response_ns=30)


def make_venue(latency: Latency = INSTANT, faults: Faults | None = None, seed: int = 7) -> SimulatedVenue:
    return SimulatedVenue(ALL, fees=FEES, latency=latency, depth=DEPTH, seed=seed, faults=faults or Faults())


def quote(
    ts_ns: int,
    bid_px: float = 1999.95,
    ask_px: float = 2000.0,
    *,
    bid_base: float = 1.0,
    ask_base: float = 1.0,
    instrument_id: str = "ETH-PERPETUAL",
    seq: int = 0,
) -> Quote:
    return Quote(instrument_id, bid_px, bid_base, ask_px, ask_base, ts_ns, ts_ns, seq or ts_ns)


def order(
    order_id: str,
    qty_lots: int,
    limit_ticks: int = 0,
    time_in_force: TimeInForce = TimeInForce.MARKET,
    *,
    reduce_only: bool = False,
    instrument_id: str = "ETH-PERPETUAL",
) -> SubmitOrder:
    return SubmitOrder(
        OrderIntent(order_id, instrument_id, qty_lots, limit_ticks, time_in_force, reduce_only, "test", 2000.0, 0)
    )


def cancel(order_id: str) -> CancelOrder:
    return CancelOrder(order_id, "ETH-PERPETUAL", "test")


def amend(order_id: str, limit_ticks: int) -> AmendOrder:
    return AmendOrder(order_id, "ETH-PERPETUAL", limit_ticks, "test")


def query(order_id: str) -> QueryOrder:
    return QueryOrder(order_id, "ETH-PERPETUAL")


def send(venue: SimulatedVenue, command: Command, now_ns: int) -> list[OrderEvent]:
    """Submit and wait for everything that comes of it at once."""
    venue.submit(command, now_ns)
    return venue.advance(now_ns + 1_000)


def fills_of(events: Iterable[OrderEvent]) -> list[Fill]:
    return [event for event in events if isinstance(event, Fill)]


def trades(events: Iterable[OrderEvent]) -> list[tuple[int, float]]:
    """Signed lots and price of every fill."""
    return [(fill.qty_lots, round(fill.px, 9)) for fill in fills_of(events)]


def kinds(events: Iterable[OrderEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


def reject_reason(events: list[OrderEvent]) -> str:
    (event,) = events
    assert isinstance(event, OrderRejected)
    return event.reason


class TestTaking:
    def test_market_order_walks_the_touch_and_then_the_depth(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1))
        events = send(venue, order("a", 30), 2)
        assert kinds(events) == ["OrderAccepted", "Fill", "Fill", "Fill"]
        assert trades(events) == [(10, 2000.0), (9, 2000.2), (11, 2001.0)]
        assert venue.positions == {"ETH-PERPETUAL": 30}

    def test_a_sale_walks_the_bids(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1, 2000.0, 2000.05))
        assert trades(send(venue, order("a", -15), 2)) == [(-10, 2000.0), (-5, 1999.8)]
        assert venue.positions == {"ETH-PERPETUAL": -15}

    def test_immediate_order_stops_at_its_limit_and_the_rest_expires(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1))
        events = send(venue, order("a", 30, 40_004, TimeInForce.IOC), 2)
        assert [fill.qty_lots for fill in fills_of(events)] == [10, 9]
        assert events[-1] == OrderCanceled("a", is_expired=True, ts_event_ns=2, ts_recv_ns=2)
        (truth,) = send(venue, query("a"), 3)
        assert isinstance(truth, OrderTruth)
        assert truth.state is OrderState.EXPIRED
        assert truth.fills == tuple(fills_of(events))

    def test_a_market_order_larger_than_the_book_expires_in_part(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1))
        events = send(venue, order("a", 1_000), 2)
        assert sum(fill.qty_lots for fill in fills_of(events)) == 10 + 9 + 49
        assert kinds(events)[-1] == "OrderCanceled"

    def test_depth_may_be_given_in_any_order(self) -> None:
        shuffled = DepthProfile(DEPTH["ETH-PERPETUAL"].levels[::-1])
        venue = SimulatedVenue([PERPETUAL], fees=FEES, latency=INSTANT, depth={"ETH-PERPETUAL": shuffled}, seed=1)
        venue.on_market(quote(1))
        assert [fill.qty_lots for fill in fills_of(send(venue, order("a", 30), 2))] == [10, 9, 11]

    def test_depth_is_consumed_until_the_next_quote(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1))
        assert fills_of(send(venue, order("a", 10), 2))[0].px == pytest.approx(2000.0)
        assert fills_of(send(venue, order("b", 9), 3))[0].px == pytest.approx(2000.2)
        assert fills_of(send(venue, order("c", 60), 4))[0].px == pytest.approx(2001.0)
        assert kinds(send(venue, order("d", 2), 5)) == ["OrderAccepted", "OrderCanceled"]
        venue.on_market(quote(6))
        assert fills_of(send(venue, order("e", 10), 7))[0].px == pytest.approx(2000.0)

    @pytest.mark.parametrize(
        "one_sided",
        [quote(1, ask_base=0.0), quote(1, ask_px=0.0), quote(1, ask_px=0.0, ask_base=0.0)],
        ids=["no size", "no price", "neither"],
    )
    def test_a_missing_side_fills_nothing_and_the_other_side_still_does(self, one_sided: Quote) -> None:
        venue = make_venue()
        venue.on_market(one_sided)
        assert kinds(send(venue, order("a", 2), 2)) == ["OrderAccepted", "OrderCanceled"]
        assert kinds(send(venue, order("b", -2), 3)) == ["OrderAccepted", "Fill"]

    def test_ids_count_up_and_times_are_those_of_the_venue_and_ours(self) -> None:
        venue = make_venue(SLOW)
        venue.on_market(quote(1))
        accepted, first = send(venue, order("a", 2), 50)
        assert accepted == OrderAccepted("a", "V1", ts_event_ns=150, ts_recv_ns=180)
        assert isinstance(first, Fill)
        assert (first.trade_id, first.ts_event_ns, first.ts_recv_ns) == ("T1", 150, 180)
        assert fills_of(send(venue, order("b", 2), 5_000))[0].trade_id == "T2"


class TestResting:
    def test_a_limit_order_fills_what_crosses_and_rests_with_the_remainder(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1))
        events = send(venue, order("a", 14, 40_000, TimeInForce.GTC), 2)
        assert kinds(events) == ["OrderAccepted", "Fill"]
        assert fills_of(events)[0].liquidity is Liquidity.TAKER
        venue.on_market(quote(3, 1999.95, 2000.05))
        assert venue.advance(3) == []
        venue.on_market(quote(4, 1999.85, 1999.9, ask_base=0.3))
        (fill,) = fills_of(venue.advance(4))
        assert trades([fill]) == [(3, 2000.0)]
        assert fill.liquidity is Liquidity.MAKER
        assert fill.fee_settle == pytest.approx(0.3 * 2000.0 * 1e-4)
        (truth,) = send(venue, query("a"), 5)
        assert isinstance(truth, OrderTruth)
        assert truth.state is OrderState.PARTLY_FILLED
        venue.on_market(quote(6, 1999.9, 2000.0))
        assert [fill.qty_lots for fill in fills_of(venue.advance(6))] == [1]
        venue.on_market(quote(7, 1990.0, 1990.05))
        assert venue.advance(7) == []

    def test_depth_shown_within_the_limit_fills_a_resting_order_too(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1, 2009.95, 2010.0))
        send(venue, order("a", 30, 40_010, TimeInForce.POST_ONLY), 2)
        venue.on_market(quote(3))
        assert trades(venue.advance(3)) == [(19, 2000.5)]

    def test_our_own_side_reaching_the_order_does_not_fill_it(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1))
        send(venue, order("a", 5, 39_990, TimeInForce.POST_ONLY), 2)
        venue.on_market(quote(3, 1999.5, 1999.55))
        venue.on_market(quote(4, 1999.4, 1999.55))
        assert venue.advance(4) == []

    @pytest.mark.parametrize(("qty_lots", "limit_ticks"), [(5, 40_000), (5, 40_001), (-5, 39_999), (-5, 39_998)])
    def test_post_only_that_would_cross_is_rejected(self, qty_lots: int, limit_ticks: int) -> None:
        venue = make_venue()
        venue.on_market(quote(1))
        (event,) = send(venue, order("a", qty_lots, limit_ticks, TimeInForce.POST_ONLY), 2)
        assert isinstance(event, OrderRejected)
        assert event.is_crossing
        reason = event.reason
        assert reason.startswith("post only")
        assert venue.positions == {}

    def test_better_prices_fill_first_and_then_older_orders(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1, 2009.95, 2010.0))
        for order_id, limit_ticks in (("low", 40_000), ("old", 40_010), ("new", 40_010)):
            send(venue, order(order_id, 4, limit_ticks, TimeInForce.POST_ONLY), 2)
        venue.on_market(quote(3, 1999.0, 1999.05, ask_base=0.6, instrument_id="ETH-PERPETUAL"))
        filled = [(fill.order_id, fill.qty_lots) for fill in fills_of(venue.advance(3))]
        assert filled[:2] == [("old", 4), ("new", 4)]
        assert filled[2][0] == "low"

    def test_a_cancel_takes_the_rest_off_the_book(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1))
        send(venue, order("a", 5, 39_990, TimeInForce.GTC), 2)
        assert send(venue, cancel("a"), 3) == [OrderCanceled("a", is_expired=False, ts_event_ns=3, ts_recv_ns=3)]
        venue.on_market(quote(4, 1990.0, 1990.05))
        assert venue.advance(4) == []
        (again,) = send(venue, cancel("a"), 5)
        assert isinstance(again, CancelRejected)
        assert "already canceled" in again.reason

    def test_a_fill_on_the_way_beats_the_cancel(self) -> None:
        venue = make_venue(SLOW)
        venue.on_market(quote(1))
        send(venue, order("a", 5, 39_990, TimeInForce.GTC), 2)
        venue.submit(cancel("a"), 2_000)
        venue.on_market(quote(2_050, 1999.0, 1999.05))
        assert kinds(venue.advance(3_000)) == ["Fill", "CancelRejected"]

    def test_cancel_of_an_unknown_order_is_refused(self) -> None:
        (event,) = send(make_venue(), cancel("ghost"), 1)
        assert isinstance(event, CancelRejected)
        assert event.reason.startswith("unknown order")


class TestAmends:
    def resting(self, limit_ticks: int = 39_900, force: TimeInForce = TimeInForce.POST_ONLY) -> SimulatedVenue:
        venue = make_venue()
        venue.on_market(quote(1))
        send(venue, order("a", 5, limit_ticks, force), 2)
        return venue

    def test_the_limit_moves_and_the_order_fills_there(self) -> None:
        venue = self.resting()
        assert send(venue, amend("a", 39_990), 3) == [OrderAmended("a", 39_990, 3, 3)]
        venue.on_market(quote(4, 1999.4, 1999.5))
        assert trades(venue.advance(4)) == [(5, 1999.5)]
        assert venue.positions == {"ETH-PERPETUAL": 5}

    def test_what_was_filled_stays_filled_and_the_rest_moves(self) -> None:
        venue = self.resting()
        venue.on_market(quote(3, 1990.0, 1995.0, ask_base=0.2))
        venue.on_market(quote(4))
        assert trades(venue.advance(4)) == [(2, 1995.0)]
        send(venue, amend("a", 39_990), 5)
        venue.on_market(quote(6, 1999.4, 1999.5))
        assert trades(venue.advance(6)) == [(3, 1999.5)]
        (truth,) = send(venue, query("a"), 7)
        assert isinstance(truth, OrderTruth)
        assert (truth.state, [fill.qty_lots for fill in truth.fills]) == (OrderState.FILLED, [2, 3])

    def test_it_stands_behind_the_older_orders_of_its_new_price(self) -> None:
        venue = self.resting()
        send(venue, order("b", 5, 39_990, TimeInForce.POST_ONLY), 3)
        send(venue, amend("a", 39_990), 4)
        venue.on_market(quote(5, 1999.4, 1999.5, ask_base=0.6))
        assert [(fill.order_id, fill.qty_lots) for fill in fills_of(venue.advance(5))] == [("b", 5), ("a", 1)]

    @pytest.mark.parametrize(
        ("command", "reason"),
        [
            (amend("ghost", 39_990), "unknown order"),
            (amend("a", 40_000), "post only"),
            (amend("a", 0), "no limit"),
        ],
    )
    def test_a_refused_one_leaves_the_order_as_it_was(self, command: AmendOrder, reason: str) -> None:
        venue = self.resting()
        (event,) = send(venue, command, 3)
        assert isinstance(event, AmendRejected)
        assert event.reason.startswith(reason)
        venue.on_market(quote(4, 1994.0, 1995.0))
        assert trades(venue.advance(4)) == [(5, 1995.0)]

    def test_one_that_is_over_cannot_be_amended(self) -> None:
        venue = self.resting()
        send(venue, cancel("a"), 3)
        (event,) = send(venue, amend("a", 39_990), 4)
        assert isinstance(event, AmendRejected)
        assert event.reason == "nothing to amend: the order is already canceled"

    def test_one_that_may_cross_trades_at_once(self) -> None:
        venue = self.resting(force=TimeInForce.GTC)
        assert kinds(send(venue, amend("a", 40_000), 3)) == ["OrderAmended", "Fill"]
        assert kinds(send(venue, cancel("a"), 4)) == ["CancelRejected"]

    def test_a_lost_one_is_found_by_asking(self) -> None:
        for faults in (Faults(lose_request_probability=1.0, timeout_ns=5), Faults(lose_reply_probability=1.0)):
            venue = self.resting()
            venue._faults = faults
            venue.submit(amend("a", 39_990), 10)
            (lost,) = venue.advance(LATER_NS)
            assert isinstance(lost, OutcomeLost)
            assert lost.why.startswith("timeout: no answer to the amend")
            venue.submit(query("a"), LATER_NS)
            assert venue.advance(LATER_NS) == [OrderTruth("a", OrderState.OPEN, (), LATER_NS, LATER_NS)]

    def test_a_random_refusal_leaves_the_order(self) -> None:
        venue = self.resting()
        venue._faults = Faults(reject_probability=1.0)
        (event,) = send(venue, amend("a", 39_990), 3)
        assert isinstance(event, AmendRejected)
        assert event.reason.startswith("venue fault")

    def test_commands_about_the_account_are_passed_over(self) -> None:
        assert send(self.resting(), QueryAccount("sim", "test"), 3) == []


class TestMinimumValue:
    def venue(self, instrument: Instrument) -> SimulatedVenue:
        picky = msgspec.structs.replace(instrument, min_quote=1_000.0, min_lots=1)
        fees = {picky.instrument_id: Fees(0.0, 5.0)}
        venue = SimulatedVenue([picky], fees=fees, latency=INSTANT, depth={}, seed=1)
        venue.on_market(quote(1, instrument_id=picky.instrument_id))
        return venue

    def test_a_linear_order_is_worth_its_limit_or_without_one_the_mid(self) -> None:
        venue = self.venue(PERPETUAL)
        assert reject_reason(send(venue, order("a", 5, 39_990, TimeInForce.IOC), 2)).startswith(
            "below minimum: expected a"
        )
        assert reject_reason(send(venue, order("b", 4), 3)).startswith("below minimum")
        assert kinds(send(venue, order("c", 5, 40_000, TimeInForce.IOC), 4)) == ["OrderAccepted", "Fill"]

    def test_an_inverse_one_its_contracts(self) -> None:
        lots = round(1_000.0 / INVERSE.lot_size)
        venue = self.venue(INVERSE)
        name = INVERSE.instrument_id
        assert reject_reason(send(venue, order("a", lots - 1, instrument_id=name), 2)).startswith("below minimum")
        assert kinds(send(venue, order("b", lots, instrument_id=name), 3))[0] == "OrderAccepted"


class TestRejects:
    @pytest.mark.parametrize(
        ("command", "reason"),
        [
            (order("a", 5, instrument_id="DOGE"), "unknown instrument"),
            (order("a", 5, instrument_id="ETH-FREE"), "not tradable"),
            (order("a", 0), "quantity is zero"),
            (order("a", 1), "below minimum"),
            (order("a", -1), "below minimum"),
            (order("a", 5, 0, TimeInForce.IOC), "no limit"),
            (order("a", 5, -3, TimeInForce.GTC), "no limit"),
            (order("a", 5, 60_001, TimeInForce.GTC, instrument_id="BTC-PERPETUAL"), "off tick"),
            (order("a", 5, 60_000, TimeInForce.GTC, instrument_id="BTC-PERPETUAL"), "no market yet"),
            (order("a", 5, reduce_only=True), "reduce only"),
        ],
    )
    def test_each_is_refused_with_its_reason_and_leaves_no_trace(self, command: SubmitOrder, reason: str) -> None:
        venue = make_venue()
        venue.on_market(quote(1))
        assert reject_reason(send(venue, command, 2)).startswith(reason)
        assert venue.positions == {}
        assert venue.next_event_ns() is None
        assert send(venue, query("a"), 3) == [OrderTruth("a", OrderState.REJECTED, (), 3, 3)]

    def test_fine_ticks_are_valid_below_the_coarser_step(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1, 29_000.0, 29_000.5, instrument_id="BTC-PERPETUAL"))
        events = send(venue, order("a", 5, 58_003, TimeInForce.IOC, instrument_id="BTC-PERPETUAL"), 2)
        assert kinds(events) == ["OrderAccepted", "Fill"]

    def test_an_order_for_an_expired_instrument_is_refused(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1, instrument_id="ETH-28APR23"))
        reason = reject_reason(send(venue, order("a", 5, instrument_id="ETH-28APR23"), EXPIRY_NS))
        assert reason.startswith("expired instrument")

    def test_a_second_order_with_a_known_id_gets_the_truth_about_the_first_and_harms_nothing(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1))
        send(venue, order("a", 5, 39_990, TimeInForce.GTC), 2)
        assert send(venue, order("a", 5), 3) == [OrderTruth("a", OrderState.OPEN, (), 3, 3)]
        assert venue.positions == {}
        venue.on_market(quote(4, 1999.0, 1999.05))
        assert [fill.qty_lots for fill in fills_of(venue.advance(4))] == [5]
        (truth,) = send(venue, order("a", -5), 5)
        assert isinstance(truth, OrderTruth)
        assert truth.state is OrderState.FILLED
        assert len(truth.fills) == 1
        assert venue.positions == {"ETH-PERPETUAL": 5}

    def test_a_coin_priced_instrument_cannot_have_depth_in_quote_money(self) -> None:
        with pytest.raises(ValueError, match="expected ETH-28APR23-1900-C to be priced in USD"):
            SimulatedVenue([CALL], fees={}, latency=INSTANT, depth={CALL.instrument_id: DEPTH["ETH-PERPETUAL"]}, seed=1)

    def test_settings_that_cannot_be_are_refused(self) -> None:
        with pytest.raises(ValueError, match="message cannot travel back"):
            Latency(entry_ns=-1)
        with pytest.raises(ValueError, match="message cannot travel back"):
            Latency(jitter_fraction=nan)
        with pytest.raises(ValueError, match="probabilities within"):
            Faults(reject_probability=1.5)


class TestReduceOnly:
    def test_it_fills_no_more_than_the_position_and_the_rest_expires(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1))
        send(venue, order("a", 4), 2)
        events = send(venue, order("b", -9, reduce_only=True), 3)
        assert [fill.qty_lots for fill in fills_of(events)] == [-4]
        assert kinds(events)[-1] == "OrderCanceled"
        assert venue.positions == {}

    def test_a_resting_one_ends_when_nothing_is_left_to_reduce(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1))
        send(venue, order("a", 4), 2)
        send(venue, order("b", -6, 40_010, TimeInForce.GTC, reduce_only=True), 3)
        send(venue, order("c", -4, 40_010, TimeInForce.GTC, reduce_only=True), 4)
        venue.on_market(quote(5, 2001.0, 2001.05))
        events = venue.advance(5)
        assert kinds(events) == ["Fill", "OrderCanceled", "OrderCanceled"]
        assert [fill.qty_lots for fill in fills_of(events)] == [-4]
        assert venue.positions == {}

    def test_growing_the_position_is_refused(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1))
        send(venue, order("a", -4), 2)
        reason = reject_reason(send(venue, order("b", -4, reduce_only=True), 3))
        assert reason == "reduce only: the position is -4 lots, the order would make it larger"


class TestMoney:
    def test_linear_fees_are_quote_money(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1))
        (fill,) = fills_of(send(venue, order("a", 10), 2))
        assert fill.fee_settle == pytest.approx(2000.0 * 5e-4)
        assert venue.cash_settle == {"USD": pytest.approx(-2000.0 - 1.0)}

    def test_inverse_fees_and_results_are_coin(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1, 19_999.5, 20_000.0, instrument_id="BTC-PERPETUAL"))
        (bought,) = fills_of(send(venue, order("a", 100, instrument_id="BTC-PERPETUAL"), 2))
        assert bought.fee_settle == pytest.approx(1_000.0 / 20_000.0 * 5e-4)
        venue.on_market(quote(3, 25_000.0, 25_000.5, instrument_id="BTC-PERPETUAL"))
        (sold,) = fills_of(send(venue, order("b", -100, instrument_id="BTC-PERPETUAL"), 4))
        result_coin = 1_000.0 * (1 / 20_000.0 - 1 / 25_000.0) - bought.fee_settle - sold.fee_settle
        assert venue.cash_settle == {"BTC": pytest.approx(result_coin)}

    def test_option_fees_are_a_share_of_the_coin_premium(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1, 0.05, 0.0505, bid_base=50.0, ask_base=50.0, instrument_id=CALL.instrument_id))
        (fill,) = fills_of(send(venue, order("a", 10, instrument_id=CALL.instrument_id), 2))
        assert fill.fee_settle == pytest.approx(0.505 * 5e-4)

    def test_longs_pay_funding_to_shorts(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1))
        venue.on_market(quote(1, 19_999.0, 20_001.0, instrument_id="BTC-PERPETUAL"))
        send(venue, order("long", 10), 2)
        send(venue, order("short", -100, instrument_id="BTC-PERPETUAL"), 2)
        cash = venue.cash_settle
        venue.on_market(FundingRate("ETH-PERPETUAL", 0.0001, 10, 10, 1))
        venue.on_market(FundingRate("BTC-PERPETUAL", 0.0001, 11, 11, 1))
        paid, received = venue.advance(11)
        assert isinstance(paid, FundingPayment)
        assert isinstance(received, FundingPayment)
        assert paid == FundingPayment("F1", "ETH-PERPETUAL", paid.amount_settle, 10, 10)
        assert paid.amount_settle == pytest.approx(-0.0001 * 1999.975)
        assert received.amount_settle == pytest.approx(0.0001 * 1_000.0 / 20_000.0)
        assert venue.cash_settle["USD"] - cash["USD"] == pytest.approx(paid.amount_settle)
        assert venue.cash_settle["BTC"] - cash["BTC"] == pytest.approx(received.amount_settle)

    @pytest.mark.parametrize(
        "funding",
        [
            FundingRate("ETH-PERPETUAL", 0.0, 20, 20, 2),
            FundingRate("ETH-PERPETUAL", nan, 20, 20, 2),
            FundingRate("ETH-PERPETUAL", 0.1, 10, 10, 1),
            FundingRate("BTC-PERPETUAL", 0.1, 20, 20, 2),
            FundingRate("DOGE", 0.1, 20, 20, 2),
            FundingRate("ETH-PERPETUAL", 0.1, 2 * CLOCK_TOLERANCE_NS, 20, 2),
        ],
        ids=["zero", "not a number", "paid already", "no position", "unknown", "from the future"],
    )
    def test_no_funding_is_booked_without_cause(self, funding: FundingRate) -> None:
        venue = make_venue()
        venue.on_market(quote(1))
        send(venue, order("a", 10), 2)
        venue.on_market(FundingRate("ETH-PERPETUAL", 0.0001, 10, 10, 1))
        assert kinds(venue.advance(10)) == ["FundingPayment"]
        venue.on_market(funding)
        assert venue.advance(LATER_NS) == []

    @pytest.mark.parametrize(("mid_px", "side"), [(2000.0, "ask"), (1999.95, "bid")])
    def test_funding_uses_the_side_that_is_there(self, mid_px: float, side: str) -> None:
        venue = make_venue()
        venue.on_market(quote(1))
        send(venue, order("a", 10), 2)
        venue.on_market(quote(3, bid_px=0.0) if side == "ask" else quote(3, ask_px=0.0))
        venue.on_market(FundingRate("ETH-PERPETUAL", 0.01, 10, 10, 1))
        (payment,) = venue.advance(10)
        assert isinstance(payment, FundingPayment)
        assert payment.amount_settle == pytest.approx(-0.01 * mid_px)


class TestExpiry:
    SETTLEMENT = Settlement("ETH", EXPIRY_NS, 2_000.0, EXPIRY_NS, EXPIRY_NS, 1)

    def test_positions_of_the_expiry_become_cash_and_others_stay(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1))
        venue.on_market(quote(1, instrument_id="ETH-28APR23"))
        venue.on_market(quote(1, 0.05, 0.0505, bid_base=50.0, instrument_id=CALL.instrument_id))
        venue.on_market(quote(1, 30.0, 30.5, ask_base=50.0, instrument_id=LINEAR_PUT.instrument_id))
        for command in (
            order("perpetual", 5),
            order("future", 10, instrument_id="ETH-28APR23"),
            order("call", -4, instrument_id=CALL.instrument_id),
            order("put", 4, instrument_id=LINEAR_PUT.instrument_id),
        ):
            assert "Fill" in kinds(send(venue, command, 2))
        before = venue.cash_settle
        venue.on_market(self.SETTLEMENT)
        assert venue.positions == {"ETH-PERPETUAL": 5}
        after = venue.cash_settle
        assert after["USD"] - before["USD"] == pytest.approx(1.0 * 2_000.0)
        assert after["ETH"] - before["ETH"] == pytest.approx(-4 * 100.0 / 2_000.0)
        venue.on_market(self.SETTLEMENT)
        assert venue.cash_settle == after
        assert venue.advance(LATER_NS) == []

    def test_a_put_in_the_money_pays_its_holder(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1, 30.0, 30.5, ask_base=50.0, instrument_id=LINEAR_PUT.instrument_id))
        send(venue, order("put", 4, instrument_id=LINEAR_PUT.instrument_id), 2)
        before = venue.cash_settle["USD"]
        venue.on_market(msgspec.structs.replace(self.SETTLEMENT, px=1_850.0))
        assert venue.cash_settle["USD"] - before == pytest.approx(4 * 50.0)

    def test_resting_orders_expire_with_the_settlement(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1, instrument_id="ETH-28APR23"))
        send(venue, order("a", 5, 39_000, TimeInForce.GTC, instrument_id="ETH-28APR23"), 2)
        venue.on_market(self.SETTLEMENT)
        assert venue.advance(EXPIRY_NS) == [
            OrderCanceled("a", is_expired=True, ts_event_ns=EXPIRY_NS, ts_recv_ns=EXPIRY_NS)
        ]

    def test_a_quote_after_expiry_fills_nothing_and_ends_resting_orders(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1, instrument_id="ETH-28APR23"))
        send(venue, order("a", 5, 39_000, TimeInForce.GTC, instrument_id="ETH-28APR23"), 2)
        venue.on_market(quote(EXPIRY_NS, 1_900.0, 1_900.05, instrument_id="ETH-28APR23"))
        assert kinds(venue.advance(EXPIRY_NS)) == ["OrderCanceled"]
        assert venue.positions == {}

    @pytest.mark.parametrize(
        "settlement",
        [
            msgspec.structs.replace(SETTLEMENT, px=nan),
            msgspec.structs.replace(SETTLEMENT, px=0.0),
            msgspec.structs.replace(SETTLEMENT, underlying="BTC"),
            msgspec.structs.replace(SETTLEMENT, ts_event_ns=EXPIRY_NS - 1),
            msgspec.structs.replace(SETTLEMENT, expiry_ns=EXPIRY_NS + 1),
            msgspec.structs.replace(SETTLEMENT, ts_event_ns=EXPIRY_NS + 2 * CLOCK_TOLERANCE_NS),
        ],
    )
    def test_a_settlement_that_is_not_ours_or_not_sound_settles_nothing(self, settlement: Settlement) -> None:
        venue = make_venue()
        venue.on_market(quote(1, instrument_id="ETH-28APR23"))
        send(venue, order("a", 5, instrument_id="ETH-28APR23"), 2)
        venue.on_market(settlement)
        assert venue.positions == {"ETH-28APR23": 5}


class TestFeed:
    @pytest.mark.parametrize(
        "bad",
        [
            quote(20, 1500.0, nan),
            quote(20, nan, 1500.0),
            quote(20, 1500.0, inf),
            quote(20, -1.0, 1500.0),
            quote(20, 1500.0, -1.0),
            quote(20, 1500.0, 1499.0),
            quote(20, 1500.0, 1500.0),
            quote(20, 1500.0, 1500.05, ask_base=nan),
            quote(20, 1500.0, 1500.05, bid_base=-1.0),
            quote(9, 1500.0, 1500.05),
            quote(10, 1500.0, 1500.05, seq=10),
            quote(10, 1500.0, 1500.05, seq=9),
            quote(20, 1500.0, 1500.05, instrument_id="DOGE"),
            msgspec.structs.replace(quote(20, 1500.0, 1500.05), ts_event_ns=21 + CLOCK_TOLERANCE_NS),
        ],
    )
    def test_a_bad_quote_is_as_if_never_sent(self, bad: Quote) -> None:
        venue = make_venue()
        venue.on_market(quote(10))
        send(venue, order("resting", 5, 39_990, TimeInForce.GTC), 11)
        venue.on_market(bad)
        assert venue.advance(20) == []
        events = send(venue, order("a", 2), 30)
        assert fills_of(events)[0].px == pytest.approx(2000.0)
        assert events[0].ts_recv_ns == 30

    def test_vol_quotes_and_indices_mean_nothing_to_it(self) -> None:
        venue = make_venue()
        venue.on_market(VolQuote(CALL.instrument_id, 0.6, 0.59, 0.61, 2000.0, 1, 1, 1))
        venue.on_market(IndexPrice("ETH", 2000.0, 2, 2, 2))
        assert venue.next_event_ns() is None

    def test_a_later_quote_of_the_same_moment_counts(self) -> None:
        venue = make_venue()
        venue.on_market(quote(10, seq=1))
        venue.on_market(quote(10, 1500.0, 1500.05, seq=2))
        assert fills_of(send(venue, order("a", 2), 10))[0].px == pytest.approx(1500.05)


class TestLatency:
    def test_an_order_meets_the_newest_quote_as_of_its_arrival(self) -> None:
        venue = make_venue(SLOW)
        venue.on_market(quote(1_000, 1999.0, 2001.0))
        venue.submit(order("a", 2), 1_000)
        assert venue.next_event_ns() == 1_130
        venue.on_market(quote(1_050, 1999.0, 2002.0))
        venue.on_market(quote(1_100, 1999.0, 2003.0))
        venue.on_market(quote(1_101, 1999.0, 2004.0))
        assert venue.next_event_ns() == 1_130
        assert venue.advance(1_129) == []
        (fill,) = fills_of(venue.advance(1_130))
        assert fill.px == pytest.approx(2003.0)
        assert venue.next_event_ns() is None

    def test_a_quote_delivered_while_the_answer_travels_still_counts_if_it_was_before_the_arrival(self) -> None:
        venue = make_venue(SLOW)
        venue.on_market(quote(1_000, 1999.0, 2001.0))
        venue.submit(order("a", 2), 1_000)
        assert venue.advance(1_120) == []
        venue.on_market(msgspec.structs.replace(quote(1_090, 1999.0, 2002.0), ts_recv_ns=1_120))
        assert fills_of(venue.advance(1_130))[0].px == pytest.approx(2002.0)

    def test_only_the_answers_due_time_ends_the_wait_for_such_a_quote(self) -> None:
        venue = make_venue(SLOW)
        venue.on_market(quote(1_000, 1999.0, 2001.0))
        venue.submit(order("a", 2), 1_000)
        venue.submit(order("b", 2), 1_020)
        assert [fill.order_id for fill in fills_of(venue.advance(1_130))] == ["a"]
        venue.on_market(msgspec.structs.replace(quote(1_115, 1999.0, 2002.0), ts_recv_ns=1_140))
        assert fills_of(venue.advance(1_150))[0].px == pytest.approx(2002.0)

    def test_a_quote_of_the_very_moment_of_arrival_counts(self) -> None:
        venue = make_venue(SLOW)
        venue.on_market(quote(1_000, 1999.0, 2001.0))
        venue.submit(order("a", 2), 1_000)
        venue.submit(order("b", 2), 1_010)
        venue.on_market(quote(1_110, 1999.0, 2002.0))
        venue.on_market(quote(1_110, 1999.0, 2003.0, seq=1_111))
        assert [fill.px for fill in fills_of(venue.advance(LATER_NS))] == pytest.approx([2001.0, 2003.0])

    def test_a_book_already_past_an_order_delays_it_instead_of_looking_ahead(self) -> None:
        venue = make_venue(SLOW)
        venue.on_market(quote(5_000))
        venue.submit(order("a", 2), 1_000)
        venue.on_market(quote(5_000, 1999.0, 2003.0, seq=5_001))
        (fill,) = fills_of(venue.advance(5_030))
        assert (fill.ts_event_ns, fill.px) == (5_000, 2003.0)

    def test_a_late_quote_of_another_instrument_never_turns_time_back(self) -> None:
        venue = make_venue()
        venue.on_market(quote(1, 29_000.0, 29_000.5, instrument_id="BTC-PERPETUAL"))
        send(venue, order("a", 2, 57_990, TimeInForce.GTC, instrument_id="BTC-PERPETUAL"), 2)
        venue.on_market(quote(100))
        venue.on_market(quote(50, 28_000.0, 28_000.5, instrument_id="BTC-PERPETUAL"))
        (fill,) = fills_of(venue.advance(100))
        assert fill.ts_event_ns == 100

    def test_commands_arrive_in_the_order_they_were_sent(self) -> None:
        venue = make_venue(Latency(entry_ns=1_000, response_ns=1_000, jitter_fraction=5.0))
        venue.on_market(quote(1))
        for n in range(50):
            venue.submit(order(f"{n:02}", 5, 39_000, TimeInForce.GTC), 500 * n)
            venue.submit(cancel(f"{n:02}"), 500 * n)
        events = venue.advance(LATER_NS)
        assert kinds(events) == ["OrderAccepted", "OrderCanceled"] * 50
        received_ns = [event.ts_recv_ns for event in events]
        assert received_ns == sorted(received_ns)
        assert len(set(received_ns)) > 10


class TestMemory:
    """Paper trading for months must not grow: what is long over is forgotten, oldest first."""

    def test_only_the_newest_orders_that_are_over_are_known_and_every_resting_one(self) -> None:
        venue = SimulatedVenue(ALL, fees=FEES, latency=INSTANT, depth=DEPTH, seed=7, max_finished=3)
        venue.on_market(quote(1))
        send(venue, order("rests", 2, 39_000, TimeInForce.GTC), 2_000)
        for n in range(10):
            send(venue, order(f"{n}", 2, 39_000, TimeInForce.IOC), 4_000 + 4_000 * n)
        truths = [send(venue, query(name), 100_000 + 2_000 * n)[0] for n, name in enumerate(["rests", "0", "3", "9"])]
        states = [truth.state for truth in truths if isinstance(truth, OrderTruth)]
        assert states == [OrderState.OPEN, OrderState.REJECTED, OrderState.REJECTED, OrderState.EXPIRED]
        assert [one.order_id for one in venue.open_orders] == ["rests"]

    def test_orders_that_all_rest_are_all_known(self) -> None:
        venue = SimulatedVenue(ALL, fees=FEES, latency=INSTANT, depth=DEPTH, seed=7, max_finished=1)
        venue.on_market(quote(1))
        for n in range(8):
            send(venue, order(f"{n}", 2, 39_000, TimeInForce.GTC), 2_000 + 2_000 * n)
        assert len(venue.open_orders) == 8
        assert kinds(send(venue, cancel("0"), 100_000)) == ["OrderCanceled"]


class TestFaults:
    def test_a_lost_request_never_arrives_and_the_timeout_says_so(self) -> None:
        venue = make_venue(SLOW, Faults(lose_request_probability=1.0, timeout_ns=500))
        venue.on_market(quote(1))
        venue.submit(order("a", 2), 10)
        assert venue.next_event_ns() == 510
        assert venue.advance(1_000) == [OutcomeLost("a", "timeout: no answer to the order within 5e-07 s", 510)]
        assert venue.positions == {}
        assert send(venue, query("a"), 2_000) == [OrderTruth("a", OrderState.REJECTED, (), 2_100, 2_130)]

    def test_a_lost_reply_is_found_by_asking(self) -> None:
        venue = make_venue(SLOW, Faults(lose_reply_probability=1.0))
        venue.on_market(quote(1))
        venue.submit(order("a", 15, 40_000, TimeInForce.GTC), 10)
        assert venue.advance(1_999_999_999) == []
        (lost,) = venue.advance(2_000_000_010)
        assert lost == OutcomeLost("a", "timeout: no answer to the order within 2 s", 2_000_000_010)
        assert venue.positions == {"ETH-PERPETUAL": 10}
        venue.submit(query("a"), 2_000_000_010)
        (truth,) = venue.advance(2_000_000_140)
        assert isinstance(truth, OrderTruth)
        assert truth.state is OrderState.PARTLY_FILLED
        assert [fill.qty_lots for fill in truth.fills] == [10]
        venue.on_market(quote(2_000_000_200, 1999.0, 1999.05))
        assert [fill.qty_lots for fill in fills_of(venue.advance(2_000_000_300))] == [5]

    def test_a_lost_cancel_leaves_the_order_where_it_was(self) -> None:
        venue = make_venue(INSTANT, Faults(lose_request_probability=0.5, timeout_ns=5), seed=3)
        venue.on_market(quote(1))
        outcomes: dict[tuple[str, ...], int] = {}
        for n in range(40):
            now_ns = 1_000 + 10 * n
            venue.submit(order(f"{n}", 2, 39_000, TimeInForce.GTC), now_ns)
            venue.submit(cancel(f"{n}"), now_ns + 1)
            seen = tuple(kinds(venue.advance(now_ns + 9)))
            outcomes[seen] = outcomes.get(seen, 0) + 1
        assert set(outcomes) == {
            ("OrderAccepted", "OrderCanceled"),
            ("OrderAccepted", "OutcomeLost"),
            ("CancelRejected", "OutcomeLost"),
            ("OutcomeLost", "OutcomeLost"),
        }

    def test_a_lost_reply_to_a_cancel_silences_the_cancel(self) -> None:
        venue = make_venue(INSTANT, Faults(lose_reply_probability=1.0, timeout_ns=5))
        assert kinds(send(venue, cancel("ghost"), 10)) == ["OutcomeLost"]
        venue.on_market(quote(1))
        assert kinds(send(venue, order("a", 2, 39_000, TimeInForce.GTC), 2_000)) == ["OutcomeLost"]
        assert kinds(send(venue, cancel("a"), 4_000)) == ["OutcomeLost"]
        assert send(venue, query("a"), 6_000) == [OrderTruth("a", OrderState.CANCELED, (), 6_000, 6_000)]

    def test_a_lost_reply_to_a_cancel_is_found_by_asking(self) -> None:
        venue = make_venue(INSTANT, Faults(lose_reply_probability=0.5, timeout_ns=5), seed=3)
        venue.on_market(quote(1))
        outcomes = set()
        for n in range(40):
            accepted = tuple(kinds(send(venue, order(f"{n}", 2, 39_000, TimeInForce.GTC), 10_000 * n)))
            canceled = tuple(kinds(send(venue, cancel(f"{n}"), 10_000 * n + 2_000)))
            outcomes.add((accepted, canceled))
            (truth,) = send(venue, query(f"{n}"), 10_000 * n + 4_000)
            assert isinstance(truth, OrderTruth)
            assert truth.state is OrderState.CANCELED
        assert outcomes == {
            (("OrderAccepted",), ("OrderCanceled",)),
            (("OrderAccepted",), ("OutcomeLost",)),
            (("OutcomeLost",), ()),
            (("OutcomeLost",), ("OutcomeLost",)),
        }

    def test_a_random_refusal_is_a_definite_no(self) -> None:
        venue = make_venue(INSTANT, Faults(reject_probability=1.0))
        venue.on_market(quote(1))
        assert reject_reason(send(venue, order("a", 2), 10)).startswith("venue fault")
        assert venue.positions == {}

    def test_a_random_refusal_of_a_cancel_leaves_the_order(self) -> None:
        venue = make_venue(INSTANT, Faults(reject_probability=0.5), seed=5)
        venue.on_market(quote(1))
        reasons = set()
        for n in range(40):
            accepted = kinds(send(venue, order(f"{n}", 2, 39_000, TimeInForce.GTC), 1_000 * n)) == ["OrderAccepted"]
            (answer,) = send(venue, cancel(f"{n}"), 1_000 * n)
            if isinstance(answer, CancelRejected):
                reasons.add((accepted, answer.reason.split(":")[0]))
            else:
                reasons.add((accepted, "canceled"))
        assert reasons == {(True, "canceled"), (True, "venue fault"), (False, "nothing to cancel")}


Step = tuple[str, int, int, int]

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["quote", "quote", "quote", "ioc", "market", "gtc", "post_only", "reduce", "cancel", "amend", "query"]
        ),
        st.integers(1, 400),
        st.integers(-6, 6),
        st.integers(-40, 40),
    ),
    max_size=60,
)
LATENCIES = st.builds(
    Latency,
    entry_ns=st.integers(0, 300),
    response_ns=st.integers(0, 300),
    jitter_fraction=st.sampled_from([0.0, 0.5, 3.0]),
)
FAULTS = st.builds(
    Faults,
    reject_probability=st.sampled_from([0.0, 0.2]),
    lose_request_probability=st.sampled_from([0.0, 0.2]),
    lose_reply_probability=st.sampled_from([0.0, 0.2]),
    timeout_ns=st.integers(0, 2_000),
)


def script(steps: list[Step]) -> list[tuple[int, MarketEvent | Command]]:
    """Turn drawn numbers into a market and the commands sent into it, in the order of time."""
    made: list[tuple[int, MarketEvent | Command]] = []
    now_ns, ids = 1_000, 0
    for kind, wait_ns, move_ticks, lots in [("quote", 1, 0, 10), *steps]:
        now_ns += wait_ns
        if kind == "quote":
            bid_px = 2000.0 + 0.05 * move_ticks
            made.append(
                (now_ns, quote(now_ns, bid_px, bid_px + 0.05, bid_base=abs(lots) * 0.1, ask_base=(40 - lots) * 0.1))
            )
        elif kind == "cancel":
            made.append((now_ns, cancel(f"{max(0, ids - abs(move_ticks))}")))
        elif kind == "amend":
            made.append((now_ns, amend(f"{max(0, ids - abs(lots) % 4)}", 40_000 + move_ticks)))
        elif kind == "query":
            made.append((now_ns, query(f"{max(0, ids - abs(move_ticks))}")))
        else:
            ids += 1
            force = TimeInForce.IOC if kind == "reduce" else TimeInForce(kind)
            made.append((now_ns, order(f"{ids}", lots, 40_000 + move_ticks, force, reduce_only=kind == "reduce")))
    return made


def play(venue: SimulatedVenue, made: list[tuple[int, MarketEvent | Command]], pauses: set[int]) -> list[OrderEvent]:
    """Run a script, asking for news only after the steps in `pauses` and at the end."""
    events = []
    for n, (now_ns, item) in enumerate(made):
        if isinstance(item, SubmitOrder | CancelOrder | AmendOrder | QueryOrder):
            venue.submit(item, now_ns)
        else:
            venue.on_market(item)
        if n in pauses:
            events += venue.advance(now_ns)
    return events + venue.advance(LATER_NS)


@given(steps=STEPS, latency=LATENCIES, faults=FAULTS, pauses=st.sets(st.integers(0, 60)), seed=st.integers(0, 3))
def test_the_same_calls_give_the_same_bytes_however_often_news_is_fetched(
    *, steps: list[Step], latency: Latency, faults: Faults, pauses: set[int], seed: int
) -> None:
    made = script(steps)
    once = play(make_venue(latency, faults, seed), made, pauses)
    again = play(make_venue(latency, faults, seed), made, pauses)
    assert msgspec.msgpack.encode(once) == msgspec.msgpack.encode(again)
    rarely = play(make_venue(latency, faults, seed), made, set())
    assert msgspec.msgpack.encode(once) == msgspec.msgpack.encode(rarely)


@given(steps=STEPS, latency=LATENCIES, faults=FAULTS, pauses=st.sets(st.integers(0, 60)))
def test_lots_are_conserved_and_no_order_gets_more_or_worse_than_it_asked_for(
    *, steps: list[Step], latency: Latency, faults: Faults, pauses: set[int]
) -> None:
    venue = make_venue(latency, faults)
    made = script(steps)
    played = play(venue, made, pauses)
    intents = {item.intent.order_id: item.intent for _, item in made if isinstance(item, SubmitOrder)}
    for order_id in intents:
        venue.submit(query(order_id), LATER_NS)
    truths = {truth.order_id: truth for truth in venue.advance(2 * LATER_NS) if isinstance(truth, OrderTruth)}
    fills = [fill for truth in truths.values() for fill in truth.fills]
    assert len(truths) == len(intents)
    assert sum(fill.qty_lots for fill in fills) == venue.positions.get("ETH-PERPETUAL", 0)
    assert len({fill.trade_id for fill in fills}) == len(fills)
    assert set(fills_of(played)) <= set(fills)
    cash_usd = sum(-0.1 * fill.qty_lots * fill.px - fill.fee_settle for fill in fills)
    assert venue.cash_settle.get("USD", 0.0) == pytest.approx(cash_usd)
    for order_id, truth in truths.items():
        intent = intents[order_id]
        side = 1 if intent.qty_lots > 0 else -1
        filled_lots = sum(fill.qty_lots for fill in truth.fills)
        assert all(fill.qty_lots * side > 0 for fill in truth.fills)
        assert abs(filled_lots) <= abs(intent.qty_lots)
        assert (truth.state is OrderState.FILLED) == (filled_lots == intent.qty_lots != 0)
        if intent.time_in_force is not TimeInForce.MARKET:
            limits = [
                item.limit_ticks for _, item in made if isinstance(item, AmendOrder) and item.order_id == order_id
            ]
            worst_px = max([intent.limit_ticks, *limits], key=lambda ticks: side * ticks) * 0.05
            assert all(side * (worst_px - fill.px) >= -1e-9 for fill in truth.fills)
        if intent.time_in_force is TimeInForce.POST_ONLY:
            assert all(fill.liquidity is Liquidity.MAKER for fill in truth.fills)
    received_ns = [event.ts_recv_ns for event in played]
    assert received_ns == sorted(received_ns)


@given(steps=STEPS, latency=LATENCIES)
def test_a_quote_never_fills_more_than_it_shows(*, steps: list[Step], latency: Latency) -> None:
    made = script(steps)
    fills = fills_of(play(make_venue(latency), made, set()))
    quotes = [item for _, item in made if isinstance(item, Quote)]
    for shown, following in zip(quotes, [*quotes[1:], None], strict=True):
        until_ns = following.ts_event_ns if following is not None else LATER_NS
        # A fill stamped with a quote's own time is a resting order that this quote came to, or an arrival upon it.
        within = [fill for fill in fills if shown.ts_event_ns <= fill.ts_event_ns < until_ns]
        bought_lots = sum(fill.qty_lots for fill in within if fill.qty_lots > 0)
        sold_lots = -sum(fill.qty_lots for fill in within if fill.qty_lots < 0)
        for lots, px, base in (
            (bought_lots, shown.ask_px, shown.ask_base),
            (sold_lots, shown.bid_px, shown.bid_base),
        ):
            assert lots <= (base + 12_000.0 / px * 1.01) / 0.1 + 1e-6
            assert not lots or base > 0.0


@given(
    gaps_ns=st.lists(st.integers(1, 50), min_size=1, max_size=40),
    decided_at=st.sets(st.integers(0, 1_500), min_size=1, max_size=20),
    latency=LATENCIES,
    is_fed_late=st.booleans(),
)
def test_an_order_fills_on_the_newest_quote_up_to_its_arrival_and_no_other(
    *, gaps_ns: list[int], decided_at: set[int], latency: Latency, is_fed_late: bool
) -> None:
    """Every quote has a price of its own, so that a fill names the quote it met."""
    venue = make_venue(latency)
    times_ns = [0]
    for gap_ns in gaps_ns:
        times_ns.append(times_ns[-1] + gap_ns)
    quotes = [quote(ts_ns, 1000.0 + n, 1000.5 + n, ask_base=100.0, seq=n + 1) for n, ts_ns in enumerate(times_ns)]
    # Fed late, a quote reaches the venue with the delay of its feed, here as long as that of an answer.
    delay_ns = latency.response_ns if is_fed_late else 0
    agenda: list[tuple[int, int, Quote | int]] = [(item.ts_event_ns + delay_ns, 0, item) for item in quotes]
    agenda += [(now_ns, 1, now_ns) for now_ns in decided_at if now_ns >= delay_ns]
    events = []
    for now_ns, _, item in sorted(agenda, key=lambda entry: entry[:2]):
        if isinstance(item, Quote):
            venue.on_market(msgspec.structs.replace(item, ts_recv_ns=now_ns))
        else:
            venue.submit(order(f"{item}", 2), now_ns)
        events += venue.advance(now_ns)
    events += venue.advance(LATER_NS)
    arrivals_ns = {event.order_id: event.ts_event_ns for event in events if isinstance(event, OrderAccepted)}
    for fill in fills_of(events):
        assert fill.ts_event_ns == arrivals_ns[fill.order_id] >= int(fill.order_id) + latency.entry_ns
        assert fill.ts_recv_ns >= fill.ts_event_ns + latency.response_ns
        newest = max((item for item in quotes if item.ts_event_ns <= fill.ts_event_ns), key=lambda item: item.seq)
        assert fill.px == pytest.approx(newest.ask_px)
    assert len(fills_of(events)) == sum(now_ns >= delay_ns for now_ns in decided_at)


# Options --------------------------------------------------------------------------------------------------------------

LISTED = msgspec.structs.replace(CALL, expiry_ns=30 * 86_400 * 10**9, strike_px=2_000.0)
MONEY = msgspec.structs.replace(LINEAR_PUT, expiry_ns=30 * 86_400 * 10**9, strike_px=2_000.0)
RULE = OptionFees(taker_bps=3.0, cap_fraction=0.125)


def option_venue(latency: Latency = INSTANT, faults: Faults | None = None) -> SimulatedVenue:
    fees = {LISTED.instrument_id: RULE, MONEY.instrument_id: RULE}
    return SimulatedVenue((LISTED, MONEY), fees=fees, latency=latency, depth={}, seed=7, faults=faults or Faults())


def vols(ts_ns: int, bid_vol: float = 0.58, ask_vol: float = 0.62, size: float = 5.0, name: str = "") -> VolQuote:
    return VolQuote(name or LISTED.instrument_id, 0.6, bid_vol, ask_vol, 2_000.0, ts_ns, ts_ns, ts_ns, size, 2.0 * size)


def ioc(order_id: str, lots: int, limit_ticks: int, name: str = "", kind: TimeInForce = TimeInForce.IOC) -> SubmitOrder:
    return order(order_id, lots, limit_ticks, kind, instrument_id=name or LISTED.instrument_id)


def test_an_option_trades_at_the_prices_of_its_vols_up_to_the_size_shown() -> None:
    venue = option_venue()
    venue.on_market(vols(1))
    ask = price_quote(LISTED, vols(1)).ask_px
    ticks = round(ask / 0.0001)
    venue.submit(ioc("under", 3, ticks - 5), 2)
    venue.submit(ioc("most", 30, ticks), 2)
    venue.submit(ioc("again", 1, ticks), 2)
    events = venue.advance(10)
    (fill,) = fills_of(events)
    lots = round(10.0 / LISTED.lot_size)
    assert (fill.order_id, fill.qty_lots, fill.px) == ("most", min(30, lots), pytest.approx(ask))
    fee = abs(fill.qty_lots) * LISTED.lot_size * min(0.0003, 0.125 * ask)
    assert fill.fee_settle == pytest.approx(fee)
    assert venue.cash_settle == {"ETH": pytest.approx(-fill.qty_lots * LISTED.lot_size * ask - fee)}
    assert venue.positions == {LISTED.instrument_id: fill.qty_lots}
    mark = prices_of(LISTED, vols(1)).mark_px
    assert venue.equity_settle["ETH"] == pytest.approx(fill.qty_lots * LISTED.lot_size * (mark - ask) - fee)
    venue.on_market(vols(20))
    venue.submit(ioc("fresh", 1, ticks), 21)
    assert len(fills_of(venue.advance(30))) == 1, "a new quote is whole again"


def test_a_cheap_option_pays_the_capped_fee_and_one_in_money_a_share_of_the_forward() -> None:
    venue = option_venue()
    for vol, expected in ((0.6, 0.6), (0.01, 0.125)):
        quote = vols(1 if vol > 0.1 else 50, vol * 0.9, vol, name=MONEY.instrument_id)
        venue.on_market(quote)
        px = price_quote(MONEY, quote).ask_px
        venue.submit(ioc(f"o{vol}", 1, round(px / 0.5), MONEY.instrument_id), 60)
        (fill,) = fills_of(venue.advance(100))
        cap = MONEY.lot_size * (expected if vol > 0.1 else expected * px)
        assert fill.fee_settle == pytest.approx(cap)
        assert px > 0.0


def test_options_trade_at_once_or_not_at_all() -> None:
    venue = option_venue()
    venue.submit(ioc("early", 1, 100), 0)
    venue.on_market(vols(1))
    for number, kind in enumerate((TimeInForce.GTC, TimeInForce.POST_ONLY, TimeInForce.MARKET)):
        venue.submit(ioc(f"o{number}", 1, 100, kind=kind), 2)
    reasons = [event.reason for event in venue.advance(10) if isinstance(event, OrderRejected)]
    assert "no market yet" in reasons[0]
    assert all("immediately or not at all" in reason for reason in reasons[1:])
    assert len(reasons) == 4


@pytest.mark.parametrize(
    "quote",
    [vols(5, 0.58, 0.62, 0.0), vols(5, 0.7, 0.5), vols(5, 0.0, 0.0), vols(5, 0.58, nan), vols(5, 0.58, inf)],
)
def test_no_option_fills_where_nobody_stands(quote: VolQuote) -> None:
    venue = option_venue()
    venue.on_market(quote)
    venue.submit(ioc("o", 1, 900_000), 6)
    assert not fills_of(venue.advance(10))


def test_an_option_order_sees_no_later_vol_quote_and_settles_in_coin() -> None:
    venue = option_venue(Latency(entry_ns=100, response_ns=30))
    venue.on_market(vols(1))
    venue.submit(ioc("o", 2, 900_000), 2)
    venue.on_market(vols(50, 0.3, 0.31))
    venue.on_market(vols(200, 0.8, 0.81))
    (fill,) = fills_of(venue.advance(300))
    assert fill.px == pytest.approx(price_quote(LISTED, vols(50, 0.3, 0.31)).ask_px)
    paid = venue.cash_settle["ETH"]
    expiry_ns = LISTED.expiry_ns
    venue.on_market(Settlement("ETH", expiry_ns, 2_500.0, expiry_ns, expiry_ns, 1))
    assert venue.cash_settle["ETH"] - paid == pytest.approx(2 * LISTED.lot_size * 500.0 / 2_500.0)
    assert venue.positions == {}


@pytest.mark.parametrize("instrument", [PERPETUAL, INVERSE])
def test_what_a_venue_takes_over_is_told_as_a_fill_of_no_order(instrument: Instrument) -> None:
    venue = make_venue(SLOW)
    venue.take_over(instrument.instrument_id, -5, 2000.0, 0.25, 1_000)
    assert venue.positions == {instrument.instrument_id: -5}
    size = 5 * instrument.lot_size
    received = -size / 2000.0 if instrument is INVERSE else size * 2000.0
    assert venue.cash_settle[instrument.settle] == pytest.approx(received - 0.25)
    assert venue.next_event_ns() == 1_030
    (fill,) = venue.advance(1_030)
    assert isinstance(fill, Fill)
    assert (fill.order_id, fill.qty_lots, fill.px, fill.fee_settle) == ("", -5, 2000.0, 0.25)
