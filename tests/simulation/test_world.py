from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.events import Event, SubmitOrder
from bot.domain.market import Quote
from bot.domain.orders import (
    Fill,
    OrderAccepted,
    OrderCanceled,
    OrderIntent,
    OrderRejected,
    OrderSent,
    TimeInForce,
)
from bot.simulation.venue import Latency
from bot.simulation.world import World
from tests.simulation.markets import in_batches, make_venue, quote

ANSWERS = (OrderAccepted, Fill, OrderCanceled, OrderRejected)


def order(order_id: str, qty_lots: int) -> SubmitOrder:
    return SubmitOrder(
        OrderIntent(order_id, "ETH-PERPETUAL", qty_lots, 0, TimeInForce.MARKET, False, "test", 2000.0, 0)
    )


class Scenario(NamedTuple):
    """Quotes in time order, latencies, and lots to trade after the n-th thing that reaches us."""

    quotes: tuple[Quote, ...]
    latency: Latency
    plan: Mapping[int, int]
    seed: int = 1

    def world(self) -> World:
        return World(iter(in_batches(self.quotes)), make_venue(self.latency, self.seed))


class Happening(NamedTuple):
    now_ns: int
    events: list[Event]


def live_through(scenario: Scenario, *, slice_ns: int | None = None, peeks: int = 0) -> list[Happening]:
    """Return all that reaches us, sending the orders of the plan on the way."""
    world = scenario.world()
    happenings: list[Happening] = []
    until_ns = 0
    while True:
        for _ in range(peeks):
            world.peek_ns()
        if slice_ns is None:
            found = world.step()
            if found is None:
                return happenings
        else:
            found = world.step(until_ns)
            if found is None:
                if world.peek_ns() is None:
                    return happenings
                until_ns += slice_ns
                continue
            assert found[0] <= until_ns
        happenings.append(Happening(*found))
        lots = scenario.plan.get(len(happenings), 0)
        if lots:
            world.submit(order(f"o{len(happenings)}", lots), found[0])


@st.composite
def scenarios(draw: st.DrawFn, *, max_jitter: float = 2.0) -> Scenario:
    feed_ns, entry_ns, response_ns = (draw(st.integers(0, 40)) for _ in range(3))
    jitter_fraction = draw(st.sampled_from([0.0, max_jitter]))
    ts_ns = 0
    quotes = []
    for _ in range(draw(st.integers(1, 12))):
        ts_ns += draw(st.integers(0, 30))
        mid_ticks = draw(st.integers(39_000, 41_000))
        px = (mid_ticks - 1) * 0.05, (mid_ticks + 1) * 0.05
        quotes.append(quote(ts_ns, *px, feed_ns=feed_ns, seq=len(quotes) + 1))
    plan = draw(st.dictionaries(st.integers(1, 14), st.sampled_from([-7, -1, 2, 9]), max_size=5))
    latency = Latency(feed_ns, entry_ns, response_ns, jitter_fraction)
    return Scenario(tuple(quotes), latency, plan, draw(st.integers(0, 5)))


class TestTimeOfArrival:
    def test_quotes_reach_us_one_feed_latency_after_the_venue_showed_them(self) -> None:
        scenario = Scenario(
            (quote(10, 1999.0, 2001.0, feed_ns=50), quote(30, 1998.0, 2000.0, feed_ns=50)), Latency(50), {}
        )
        happenings = live_through(scenario)
        assert [happening.now_ns for happening in happenings] == [60, 80]
        assert [happening.events for happening in happenings] == [[scenario.quotes[0]], [scenario.quotes[1]]]

    def test_an_answer_comes_one_way_there_and_one_way_back_later(self) -> None:
        happenings = live_through(Scenario((quote(10, 1999.0, 2001.0),), Latency(0, 20, 5), {1: 3}))
        assert [happening.now_ns for happening in happenings] == [10, 35]
        sent, accepted, fill = happenings[1].events
        assert sent == OrderSent("o1", 10)
        assert isinstance(accepted, OrderAccepted)
        assert isinstance(fill, Fill)
        assert (fill.ts_event_ns, fill.ts_recv_ns, fill.px) == (30, 35, 2001.0)

    def test_the_hand_off_is_told_with_whatever_comes_next(self) -> None:
        quotes = quote(10, 1999.0, 2001.0), quote(12, 1999.0, 2001.0)
        happenings = live_through(Scenario(quotes, Latency(0, 20, 5), {1: 3}))
        assert [happening.now_ns for happening in happenings] == [10, 12, 35]
        assert happenings[1].events == [OrderSent("o1", 10), quotes[1]]

    @given(scenarios())
    def test_time_never_runs_backwards_and_nothing_is_told_early(self, scenario: Scenario) -> None:
        happenings = live_through(scenario)
        moments = [happening.now_ns for happening in happenings]
        assert moments == sorted(moments)
        for now_ns, events in happenings:
            for event in events:
                assert isinstance(event, OrderSent) or event.ts_recv_ns == now_ns
        told = [event for happening in happenings for event in happening.events]
        assert [event for event in told if isinstance(event, Quote)] == list(scenario.quotes)

    @given(scenarios())
    def test_every_order_is_handed_over_and_answered_in_the_order_they_were_sent(self, scenario: Scenario) -> None:
        happenings = live_through(scenario)
        told = [event for happening in happenings for event in happening.events]
        sent = [event.order_id for event in told if isinstance(event, OrderSent)]
        assert sent == [f"o{n}" for n in sorted(scenario.plan) if n <= len(happenings)]
        answered = [event.order_id for event in told if isinstance(event, ANSWERS)]
        assert list(dict.fromkeys(answered)) == sent
        first_told = {
            event.order_id: place
            for place, event in reversed(list(enumerate(told)))
            if isinstance(event, (OrderSent, *ANSWERS))
        }
        assert all(isinstance(told[place], OrderSent) for place in first_told.values())


class TestNoLookAhead:
    def test_a_price_shown_before_arrival_counts_though_we_did_not_know_it(self) -> None:
        quotes = quote(10, 1999.0, 2001.0, feed_ns=50), quote(65, 2009.0, 2011.0, feed_ns=50)
        happenings = live_through(Scenario(quotes, Latency(50, 20, 5), {1: 3}))
        (fill,) = [event for happening in happenings for event in happening.events if isinstance(event, Fill)]
        assert (fill.ts_event_ns, fill.px) == (80, 2011.0)

    def test_a_price_shown_after_arrival_does_not_count_though_it_comes_before_the_answer(self) -> None:
        quotes = quote(10, 1999.0, 2001.0), quote(32, 2009.0, 2011.0)
        happenings = live_through(Scenario(quotes, Latency(0, 20, 5), {1: 3}))
        assert [happening.now_ns for happening in happenings] == [10, 32, 35]
        (fill,) = [event for event in happenings[2].events if isinstance(event, Fill)]
        assert (fill.ts_event_ns, fill.px) == (30, 2001.0)

    @given(scenarios())
    def test_fills_are_at_the_newest_price_shown_by_arrival(self, scenario: Scenario) -> None:
        latency = scenario.latency
        shown_ns = [shown.ts_event_ns for shown in scenario.quotes]
        sent_ns: dict[str, int] = {}
        happenings = live_through(scenario)
        for happening in happenings:
            for event in happening.events:
                if isinstance(event, OrderSent):
                    sent_ns[event.order_id] = event.ts_recv_ns
                elif isinstance(event, Fill):
                    newest = scenario.quotes[bisect_right(shown_ns, event.ts_event_ns) - 1]
                    assert event.px == pytest.approx(newest.ask_px if event.qty_lots > 0 else newest.bid_px, abs=1e-9)
                    assert event.ts_event_ns >= sent_ns[event.order_id] + latency.entry_ns
                    assert event.ts_recv_ns >= event.ts_event_ns + latency.response_ns

    @given(scenarios(max_jitter=0.0))
    def test_what_comes_later_changes_nothing_that_has_been_told(self, scenario: Scenario) -> None:
        *past, _ = scenario.quotes
        if not past:
            return
        horizon_ns = scenario.quotes[-1].ts_event_ns
        full = [h for h in live_through(scenario) if h.now_ns < horizon_ns]
        cut = [h for h in live_through(scenario._replace(quotes=tuple(past))) if h.now_ns < horizon_ns]
        assert full == cut


class TestStepping:
    def test_a_step_ends_where_it_must(self) -> None:
        world = Scenario((quote(10, 1999.0, 2001.0, feed_ns=50),), Latency(50), {}).world()
        assert world.step(59) is None
        assert world.step(60) is not None
        assert world.step() is None

    @given(scenarios(), st.integers(1, 50))
    def test_small_slices_of_time_give_the_same_as_one_long_one(self, scenario: Scenario, slice_ns: int) -> None:
        assert live_through(scenario, slice_ns=slice_ns) == live_through(scenario)

    @given(scenarios())
    def test_peeking_changes_nothing(self, scenario: Scenario) -> None:
        assert live_through(scenario, peeks=3) == live_through(scenario)

    @given(scenarios())
    def test_nothing_happens_before_the_moment_peeked_at(self, scenario: Scenario) -> None:
        world = scenario.world()
        n = 0
        while (next_ns := world.peek_ns()) is not None:
            assert world.step(next_ns - 1) is None
            found = world.step()
            if found is None:
                return
            assert found[0] >= next_ns
            n += 1
            if n in scenario.plan:
                world.submit(order(f"o{n}", scenario.plan[n]), found[0])

    def test_an_empty_market_is_over_at_once(self) -> None:
        world = World(iter([]), make_venue(Latency()))
        assert world.peek_ns() is None
        assert world.step() is None


class TestDamagedBatches:
    def test_a_late_copy_does_not_draw_a_batch_forward_in_time(self) -> None:
        late = msgspec.structs.replace(quote(10, 1999.0, 2001.0), ts_recv_ns=140)
        batches = [[quote(10, 1999.0, 2001.0, feed_ns=50)], [late, quote(90, 2009.0, 2011.0, feed_ns=50)]]
        world = World(iter(batches), make_venue(Latency(50, 0, 0)))
        assert world.step() is not None
        assert world.step(70) is None
        world.submit(order("a", 3), 70)
        found = world.step()
        assert found is not None
        (fill,) = [event for event in found[1] if isinstance(event, Fill)]
        assert (fill.ts_event_ns, fill.px) == (70, 2001.0)

    @pytest.mark.parametrize("ahead_ns", [1, 10**12])
    def test_a_stamp_from_the_future_is_passed_on_when_it_was_received(self, ahead_ns: int) -> None:
        ahead = msgspec.structs.replace(quote(10, 1999.0, 2001.0), ts_event_ns=10 + ahead_ns)
        world = World(iter([[ahead], [quote(20, 1999.0, 2001.0)]]), make_venue(Latency()))
        assert world.peek_ns() == 10
        assert world.step() == (10, [ahead])
        found = world.step()
        assert found is not None
        assert found[0] == 20
