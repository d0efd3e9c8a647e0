"""The order state machine against its diagram, and against every order in which a venue may speak."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest

from bot.domain.errors import InvariantBroken
from bot.domain.orders import (
    AmendRejected,
    CancelRejected,
    Fill,
    FillReversed,
    GasBid,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderEvent,
    OrderRejected,
    OrderSent,
    OrderState,
    OrderTruth,
    OutcomeLost,
    TimeInForce,
)
from bot.domain.units import NS_PER_S
from bot.engine.orders import ALLOWED, DEADLINE_MARGIN_NS, Order, OrderTracker
from tests.engine.builders import INVERSE, PERPETUAL, T0_NS, make_fill, make_intent

S = OrderState
NAME = "run-1"
TIMEOUT_NS = 5 * NS_PER_S
TERMINAL = {S.DENIED, S.FILLED, S.REJECTED, S.CANCELED, S.EXPIRED}

# The diagram of the architecture page: INTENDED → DENIED or SENT; SENT → OPEN → PARTLY_FILLED → FILLED, CANCELING, or
# REJECTED, CANCELED, EXPIRED; to UNKNOWN from anything not terminal, and out of it wherever the venue says.
ON_ITS_WAY = {S.FILLED, S.CANCELING, S.CANCELED, S.EXPIRED, S.UNKNOWN}
DIAGRAM = {
    S.INTENDED: {S.DENIED, S.SENT, S.UNKNOWN},
    S.SENT: ON_ITS_WAY | {S.OPEN, S.PARTLY_FILLED, S.REJECTED},
    S.OPEN: ON_ITS_WAY | {S.PARTLY_FILLED, S.REJECTED},
    S.PARTLY_FILLED: ON_ITS_WAY,
    S.CANCELING: ON_ITS_WAY - {S.CANCELING} | {S.OPEN, S.PARTLY_FILLED, S.REJECTED},
    S.UNKNOWN: ON_ITS_WAY - {S.UNKNOWN} | {S.OPEN, S.PARTLY_FILLED, S.REJECTED},
    **{state: set() for state in TERMINAL},
}


def sent(at_ns: int = T0_NS) -> OrderSent:
    return OrderSent(NAME, at_ns)


def accepted(at_ns: int = T0_NS) -> OrderAccepted:
    return OrderAccepted(NAME, "v1", at_ns, at_ns)


def rejected() -> OrderRejected:
    return OrderRejected(NAME, "no margin", T0_NS, T0_NS)


def ended(*, is_expired: bool = False) -> OrderCanceled:
    return OrderCanceled(NAME, is_expired, T0_NS, T0_NS)


def lost() -> OutcomeLost:
    return OutcomeLost(NAME, "timeout", T0_NS)


def truth(state: OrderState, *fills: Fill) -> OrderTruth:
    return OrderTruth(NAME, state, fills, T0_NS, T0_NS)


def filled(trade_id: str, lots: int) -> Fill:
    return make_fill(make_intent(), trade_id, lots)


def track(time_in_force: TimeInForce = TimeInForce.IOC) -> tuple[OrderTracker, Order]:
    tracker = OrderTracker()
    return tracker, tracker.intend(make_intent(10, NAME, time_in_force))


def bring_to(state: OrderState) -> tuple[OrderTracker, Order]:
    """Return a tracker and its one order, led to `state` by the venue's words alone."""
    tracker, order = track(TimeInForce.GTC)
    ways: dict[OrderState, list[OrderEvent]] = {
        S.INTENDED: [],
        S.SENT: [sent()],
        S.OPEN: [sent(), accepted()],
        S.PARTLY_FILLED: [sent(), accepted(), filled("early", 4)],
        S.CANCELING: [sent(), accepted()],
        S.FILLED: [sent(), filled("all", 10)],
        S.REJECTED: [sent(), rejected()],
        S.CANCELED: [sent(), accepted(), ended()],
        S.EXPIRED: [sent(), accepted(), ended(is_expired=True)],
        S.UNKNOWN: [sent(), lost()],
    }
    for event in ways[state]:
        tracker.apply(event)
    if state is S.CANCELING:
        tracker.request_cancel(order, T0_NS)
    assert order.state is state
    return tracker, order


REACHABLE = [state for state in S if state is not S.DENIED]


class TestTransitions:
    @pytest.mark.parametrize("state", list(S))
    def test_the_table_is_the_diagram(self, state: OrderState) -> None:
        assert ALLOWED[state] == DIAGRAM[state]
        assert state.is_terminal == (not DIAGRAM[state])

    @pytest.mark.parametrize("to", REACHABLE)
    @pytest.mark.parametrize("start", REACHABLE)
    def test_the_venues_word_moves_an_order_only_along_the_diagram(self, start: OrderState, to: OrderState) -> None:
        """Whatever is said at whatever moment, the order moves as drawn, stays, or the contradiction is noted."""
        words: dict[OrderState, list[OrderEvent]] = {
            S.INTENDED: [],
            S.SENT: [sent()],
            S.OPEN: [accepted(), CancelRejected(NAME, "too late", T0_NS, T0_NS)],
            S.PARTLY_FILLED: [filled("more", 2)],
            S.CANCELING: [],
            S.FILLED: [filled("rest", 6)],
            S.REJECTED: [rejected(), truth(S.REJECTED)],
            S.CANCELED: [ended(), truth(S.CANCELED)],
            S.EXPIRED: [ended(is_expired=True), truth(S.EXPIRED)],
            S.UNKNOWN: [lost()],
        }
        for word in words[to]:
            tracker, order = bring_to(start)
            tracker.apply(word)
            if tracker.contradiction:
                assert to not in DIAGRAM[start]
                continue
            # An answer before our own note of sending counts as sent in between.
            reachable = DIAGRAM[start] | (DIAGRAM[S.SENT] if start is S.INTENDED else set())
            assert order.state is start or order.state in reachable
            assert (NAME in tracker.live) == (not order.state.is_terminal)

    def test_a_reject_of_a_partly_filled_order_is_a_contradiction(self) -> None:
        tracker, order = bring_to(S.PARTLY_FILLED)
        assert tracker.contradiction == ""
        tracker.apply(rejected())
        assert tracker.contradiction == f"order {NAME} went from partly_filled to rejected"
        assert order.state is S.REJECTED

    @pytest.mark.parametrize("state", sorted(TERMINAL - {S.DENIED}))
    def test_nothing_leaves_a_final_state(self, state: OrderState) -> None:
        tracker, order = bring_to(state)
        for event in (sent(), accepted(), rejected(), ended(), lost(), truth(S.OPEN), truth(S.REJECTED)):
            tracker.apply(event)
            assert order.state is state
        assert order.remaining_lots == 0
        assert not tracker.live

    def test_the_answer_may_come_before_our_own_note_of_sending(self) -> None:
        tracker, order = track()
        tracker.apply(accepted())
        assert order.state is S.OPEN
        tracker.apply(sent())
        assert order.state is S.OPEN

    def test_a_refused_cancel_leaves_the_order_as_it_was(self) -> None:
        for start, back in ((S.OPEN, S.OPEN), (S.PARTLY_FILLED, S.PARTLY_FILLED)):
            tracker, order = bring_to(start)
            tracker.request_cancel(order, T0_NS)
            assert order.state is S.CANCELING
            tracker.apply(CancelRejected(NAME, "too late", T0_NS, T0_NS))
            assert order.state is back

    def test_an_order_being_canceled_may_still_fill(self) -> None:
        tracker, order = bring_to(S.CANCELING)
        tracker.apply(filled("a", 4))
        assert (order.state, order.remaining_lots) == (S.CANCELING, 6)
        tracker.apply(filled("b", 6))
        assert order.state is S.FILLED

    def test_an_id_is_issued_once(self) -> None:
        tracker, _ = track()
        with pytest.raises(InvariantBroken, match="issued twice"):
            tracker.intend(make_intent(3, NAME))

    def test_words_about_orders_that_are_not_ours_change_nothing(self) -> None:
        tracker, order = track()
        assert tracker.apply(OrderRejected("other", "no", T0_NS, T0_NS)) == []
        assert tracker.reject_streak_of("ETH-PERPETUAL") == 0
        assert order.state is S.INTENDED


class TestFills:
    def test_a_fill_counts_once(self) -> None:
        tracker, order = bring_to(S.OPEN)
        assert tracker.apply(filled("a", 4)) == [filled("a", 4)]
        assert tracker.apply(filled("a", 4)) == []
        assert tracker.apply(truth(S.PARTLY_FILLED, filled("a", 4), filled("b", 1))) == [filled("b", 1)]
        assert (order.filled_lots, order.remaining_lots) == (5, 5)

    def test_venues_number_the_trades_of_each_instrument_from_one(self) -> None:
        tracker, order = bring_to(S.OPEN)
        elsewhere = make_intent(3, "run-2", instrument=INVERSE)
        other = tracker.intend(elsewhere)
        tracker.apply(filled("1", 4))
        tracker.apply(make_fill(elsewhere, "1"))
        assert (order.filled_lots, other.filled_lots) == (4, 3)

    def test_a_fill_says_nothing_of_what_remains_of_an_order_in_doubt(self) -> None:
        tracker, order = bring_to(S.UNKNOWN)
        tracker.apply(filled("a", 4))
        assert (order.state, order.filled_lots, order.is_doubtful) == (S.UNKNOWN, 4, True)
        tracker.apply(filled("b", 6))
        assert order.state is S.FILLED

    @pytest.mark.parametrize("state", [S.SENT, S.INTENDED])
    def test_a_fill_is_answer_enough(self, state: OrderState) -> None:
        tracker, order = bring_to(state)
        tracker.apply(filled("a", 4))
        assert order.state is S.PARTLY_FILLED
        tracker.apply(filled("b", 6))
        assert order.state is S.FILLED

    @pytest.mark.parametrize("state", [S.CANCELED, S.EXPIRED, S.REJECTED])
    def test_a_late_fill_is_booked(self, state: OrderState) -> None:
        tracker, order = bring_to(state)
        assert tracker.apply(filled("late", 4)) == [filled("late", 4)]
        assert (order.state, order.filled_lots, order.remaining_lots) == (state, 4, 0)

    def test_a_fill_of_an_unknown_order_is_still_ours_to_book(self) -> None:
        tracker = OrderTracker()
        assert tracker.apply(filled("a", 4)) == [filled("a", 4)]

    def test_more_than_was_ordered_is_booked_and_a_contradiction(self) -> None:
        tracker, _ = bring_to(S.OPEN)
        tracker.apply(filled("a", 7))
        assert tracker.apply(filled("b", 4)) == [filled("b", 4)]
        assert tracker.contradiction == f"order {NAME} of 10 lots was filled 11 lots"

    @pytest.mark.parametrize("lots", [-3, 0])
    def test_the_other_way_round_or_nothing_is_a_contradiction_too(self, lots: int) -> None:
        tracker, _ = bring_to(S.OPEN)
        assert tracker.apply(filled("a", lots)) == [filled("a", lots)]
        assert tracker.contradiction == f"order {NAME} of 10 lots was filled {lots} lots"


def full_life() -> list[OrderEvent]:
    return [sent(), accepted(), filled("a", 3), filled("a", 3), filled("b", 5), filled("c", 2)]


def cut_short() -> list[OrderEvent]:
    return [sent(), accepted(), filled("a", 3), filled("b", 4), filled("b", 4), ended(is_expired=True)]


def asked_about() -> list[OrderEvent]:
    story = truth(S.CANCELED, filled("a", 3), filled("b", 4))
    return [sent(), lost(), filled("a", 3), story, story, filled("b", 4)]


def turned_down() -> list[OrderEvent]:
    return [sent(), lost(), rejected(), rejected()]


@pytest.mark.parametrize("life", [full_life, cut_short, asked_about, turned_down])
def test_the_order_of_messages_does_not_matter(life: Callable[[], list[OrderEvent]]) -> None:
    """Network, venue and threads may shuffle everything: state, fills and what is booked end up the same."""

    def outcome(events: list[OrderEvent]) -> tuple[OrderState, int, int, int, list[str], bool]:
        tracker, order = track()
        booked = [fill for event in events for fill in tracker.apply(event)]
        trades = sorted(fill.trade_id for fill in booked)
        lots = sum(fill.qty_lots for fill in booked)
        return order.state, order.filled_lots, order.remaining_lots, lots, trades, bool(tracker.live)

    expected = outcome(life())
    assert expected[0].is_terminal
    for seed in range(1000):
        events = life()
        random.Random(seed).shuffle(events)
        assert outcome(events) == expected, f"seed {seed}: {events}"


class TestUnknown:
    @pytest.mark.parametrize("state", [S.INTENDED, S.SENT, S.OPEN, S.PARTLY_FILLED, S.CANCELING])
    def test_a_lost_answer_makes_any_live_order_unknown(self, state: OrderState) -> None:
        tracker, order = bring_to(state)
        tracker.apply(lost())
        assert (order.state, order.unknown_why) == (S.UNKNOWN, "timeout")
        assert list(tracker.unknown()) == [order]

    def test_only_the_venues_word_leaves_it(self) -> None:
        tracker, order = bring_to(S.UNKNOWN)
        tracker.apply(sent())
        tracker.apply(lost())
        tracker.request_cancel(order, T0_NS)
        tracker.apply(CancelRejected(NAME, "no such order", T0_NS, T0_NS))
        tracker.doubt_all(T0_NS + 10**12, "restart")
        tracker.doubt_silent(T0_NS + 10**12, TIMEOUT_NS)
        assert order.state is S.UNKNOWN
        tracker.apply(accepted())
        assert order.state is S.OPEN

    @pytest.mark.parametrize("state", [S.INTENDED, S.SENT, S.OPEN, S.PARTLY_FILLED, S.CANCELING, S.UNKNOWN])
    def test_a_restart_doubts_every_live_order(self, state: OrderState) -> None:
        tracker, order = bring_to(state)
        tracker.doubt_all(T0_NS, "restart")
        assert order.state is S.UNKNOWN

    @pytest.mark.parametrize("state", sorted(TERMINAL - {S.DENIED}))
    def test_a_restart_doubts_nothing_that_is_over(self, state: OrderState) -> None:
        tracker, order = bring_to(state)
        tracker.doubt_all(T0_NS, "restart")
        assert order.state is state

    @pytest.mark.parametrize("words", [[], [sent()], [sent(), accepted()], [sent(), accepted(), filled("a", 4)]])
    def test_an_order_that_cannot_rest_and_is_silent_too_long_is_doubted(self, words: list[OrderEvent]) -> None:
        tracker, order = track(TimeInForce.IOC)
        for word in words:
            tracker.apply(word)
        state = order.state
        tracker.doubt_silent(T0_NS + TIMEOUT_NS, TIMEOUT_NS)
        assert order.state is state
        tracker.doubt_silent(T0_NS + TIMEOUT_NS + 1, TIMEOUT_NS)
        assert (order.state, order.unknown_why) == (S.UNKNOWN, "no answer for 5.0 s")

    @pytest.mark.parametrize("time_in_force", [TimeInForce.GTC, TimeInForce.POST_ONLY])
    def test_an_order_that_may_rest_may_be_silent_once_it_is_open(self, time_in_force: TimeInForce) -> None:
        tracker, order = track(time_in_force)
        tracker.apply(accepted())
        tracker.doubt_silent(T0_NS + 10**15, TIMEOUT_NS)
        assert order.state is S.OPEN
        tracker.request_cancel(order, T0_NS)
        tracker.doubt_silent(T0_NS + 10**15, TIMEOUT_NS)
        assert order.state is S.UNKNOWN, "but its cancel must be answered"


class TestTruth:
    @pytest.mark.parametrize("start", [S.SENT, S.OPEN, S.CANCELING, S.UNKNOWN])
    @pytest.mark.parametrize("end", [S.REJECTED, S.CANCELED, S.EXPIRED])
    def test_ends_any_live_order(self, start: OrderState, end: OrderState) -> None:
        tracker, order = bring_to(start)
        tracker.apply(truth(end))
        assert order.state is end
        assert not tracker.live

    @pytest.mark.parametrize(("state", "fills", "expected"), [
        (S.OPEN, 0, S.OPEN),
        (S.OPEN, 4, S.PARTLY_FILLED),
        (S.PARTLY_FILLED, 4, S.PARTLY_FILLED),
        (S.FILLED, 10, S.FILLED),
        (S.CANCELED, 4, S.CANCELED),
        (S.EXPIRED, 4, S.EXPIRED),
    ])  # fmt: skip
    def test_resolves_unknown_with_its_fills(self, state: OrderState, fills: int, expected: OrderState) -> None:
        tracker, order = bring_to(S.UNKNOWN)
        booked = tracker.apply(truth(state, *[filled("a", fills)] if fills else []))
        assert sum(fill.qty_lots for fill in booked) == fills
        assert (order.state, order.filled_lots) == (expected, fills)

    @pytest.mark.parametrize("start", [S.SENT, S.CANCELING])
    def test_that_an_order_is_open_is_no_answer_to_what_is_on_its_way(self, start: OrderState) -> None:
        tracker, order = bring_to(start)
        tracker.apply(truth(S.OPEN))
        assert order.state is start

    def test_brings_fills_of_an_order_that_is_over(self) -> None:
        tracker, order = bring_to(S.CANCELED)
        assert tracker.apply(truth(S.CANCELED, filled("a", 4))) == [filled("a", 4)]
        assert (order.state, order.filled_lots) == (S.CANCELED, 4)

    def test_filled_without_all_its_fills_stays_unknown(self) -> None:
        """A venue's order table may be ahead of its trades: a position without its fills would be a guess."""
        tracker, order = bring_to(S.UNKNOWN)
        tracker.apply(lost())
        tracker.apply(truth(S.FILLED))
        assert (order.state, order.remaining_lots) == (S.UNKNOWN, 10)
        tracker.apply(truth(S.FILLED, filled("a", 4), filled("b", 6)))
        assert (order.state, order.remaining_lots) == (S.FILLED, 0)


class TestMadeSmaller:
    """A venue cuts a reduce-only order to the position; what is left of it then is filled, and no more is coming."""

    def test_it_is_over_once_the_venue_has_told_every_fill(self) -> None:
        tracker, order = bring_to(S.UNKNOWN)
        complete = OrderTruth(NAME, S.FILLED, (filled("a", 7),), T0_NS, T0_NS, is_complete=True)
        assert tracker.apply(complete) == [filled("a", 7)]
        assert (order.state, order.filled_lots) == (S.EXPIRED, 7)
        assert not tracker.live

    def test_while_fills_may_be_missing_it_is_not(self) -> None:
        tracker, order = bring_to(S.UNKNOWN)
        tracker.apply(truth(S.FILLED, filled("a", 7)))
        assert order.intent.order_id in tracker.live
        tracker.apply(truth(S.FILLED, filled("a", 7), filled("b", 3)))
        assert order.state is S.FILLED


class TestRejectStreak:
    def reject(self, tracker: OrderTracker, order_id: str) -> None:
        tracker.intend(make_intent(10, order_id))
        tracker.apply(OrderRejected(order_id, "no margin", T0_NS, T0_NS))

    def test_counts_rejects_in_a_row(self) -> None:
        tracker = OrderTracker()
        for n in range(3):
            self.reject(tracker, f"r{n}")
        tracker.apply(OrderRejected("r0", "again", T0_NS, T0_NS))
        assert tracker.reject_streak_of("ETH-PERPETUAL") == 3

    @pytest.mark.parametrize("word", [accepted(), filled("a", 10)], ids=["accepted", "filled"])
    def test_an_order_that_was_taken_ends_it(self, word: OrderEvent) -> None:
        tracker, _ = track()
        self.reject(tracker, "r1")
        tracker.apply(word)
        assert tracker.reject_streak_of("ETH-PERPETUAL") == 0


class TestLostStreak:
    def lose(self, tracker: OrderTracker, order_id: str, decided_ns: int = T0_NS) -> None:
        tracker.intend(msgspec.structs.replace(make_intent(10, order_id), decided_ns=decided_ns))
        tracker.apply(OutcomeLost(order_id, "no answer", T0_NS))
        tracker.apply(OrderTruth(order_id, S.REJECTED, (), T0_NS, T0_NS))

    def test_counts_orders_in_doubt_that_never_arrived(self) -> None:
        tracker = OrderTracker()
        self.lose(tracker, "r1")
        self.lose(tracker, "r2")
        assert tracker.lost_streaks["ETH-PERPETUAL"].times == 1, "it left before the first was known"
        self.lose(tracker, "r3", T0_NS + 1)
        assert tracker.lost_streaks["ETH-PERPETUAL"].times == 2
        assert tracker.reject_streak_of("ETH-PERPETUAL") == 0, "nobody refused anything"

    @pytest.mark.parametrize("word", [accepted(), filled("a", 10), truth(S.OPEN)], ids=["accepted", "filled", "truth"])
    def test_an_order_that_arrived_ends_it(self, word: OrderEvent) -> None:
        tracker, _ = track()
        self.lose(tracker, "r1")
        tracker.apply(lost())
        tracker.apply(word)
        assert not tracker.lost_streaks


class TestAmends:
    def resting(self) -> tuple[OrderTracker, Order]:
        tracker = OrderTracker()
        order = tracker.intend(make_intent(10, NAME, TimeInForce.POST_ONLY))
        tracker.apply(accepted())
        return tracker, order

    def test_an_amend_moves_the_limit_once_the_venue_says_so(self) -> None:
        tracker, order = self.resting()
        tracker.request_amend(order, 199_000, T0_NS + 1)
        assert (order.limit_ticks, order.amend_ticks, order.pegged_ns) == (200_000, 199_000, T0_NS + 1)
        tracker.apply(OrderAmended(NAME, 199_000, T0_NS, T0_NS))
        assert (order.limit_ticks, order.amend_ticks, order.state) == (199_000, 0, S.OPEN)
        assert order.intent.limit_ticks == 200_000

    def test_a_refused_one_leaves_it_and_is_not_asked_again(self) -> None:
        tracker, order = self.resting()
        tracker.request_amend(order, 199_000, T0_NS)
        tracker.apply(AmendRejected(NAME, "no", T0_NS, T0_NS))
        assert (order.limit_ticks, order.amend_ticks, order.is_amendable) == (200_000, 0, False)

    def test_after_a_lost_one_the_limit_is_not_known(self) -> None:
        tracker, order = self.resting()
        tracker.request_amend(order, 199_000, T0_NS)
        tracker.apply(OutcomeLost(NAME, "timeout", T0_NS))
        tracker.apply(OrderTruth(NAME, S.OPEN, (), T0_NS, T0_NS))
        assert (order.limit_ticks, order.amend_ticks, order.state) == (0, 0, S.OPEN)

    def test_the_word_about_an_amend_resolves_no_doubt_about_the_quantity(self) -> None:
        tracker, order = self.resting()
        tracker.request_amend(order, 199_000, T0_NS)
        tracker.apply(OutcomeLost(NAME, "timeout", T0_NS))
        tracker.apply(OrderAmended(NAME, 199_000, T0_NS, T0_NS))
        assert (order.limit_ticks, order.state) == (199_000, S.UNKNOWN)

    def test_one_without_an_answer_is_doubted(self) -> None:
        tracker, order = self.resting()
        tracker.doubt_silent(T0_NS + 10 * TIMEOUT_NS, TIMEOUT_NS)
        assert order.state is S.OPEN
        tracker.request_amend(order, 199_000, T0_NS)
        tracker.doubt_silent(T0_NS + TIMEOUT_NS, TIMEOUT_NS)
        assert order.state is S.OPEN
        tracker.doubt_silent(T0_NS + TIMEOUT_NS + 1, TIMEOUT_NS)
        assert order.state is S.UNKNOWN

    def test_a_fill_on_the_way_counts_and_the_order_is_over(self) -> None:
        tracker, order = self.resting()
        tracker.request_amend(order, 199_000, T0_NS)
        tracker.apply(filled("a", 10))
        tracker.apply(AmendRejected(NAME, "filled", T0_NS, T0_NS))
        assert (order.state, order.filled_lots) == (S.FILLED, 10)


def took_back(trade_id: str, at_ns: int = T0_NS) -> FillReversed:
    return FillReversed(trade_id, NAME, PERPETUAL.instrument_id, "reorg", at_ns, at_ns)


DEADLINE_NS = T0_NS + 120 * NS_PER_S


def transaction(time_in_force: TimeInForce = TimeInForce.IOC) -> tuple[OrderTracker, Order]:
    """Return a tracker and its one order, a transaction that a node took."""
    tracker = OrderTracker()
    intent = msgspec.structs.replace(make_intent(10, NAME, time_in_force), gas=GasBid(10**9, 10**7, 0.5, DEADLINE_NS))
    order = tracker.intend(intent)
    tracker.apply(sent())
    tracker.apply(accepted())
    return tracker, order


class TestFillsTakenBack:
    """The one way out of a final state: what was filled in a block that is no more is pending again."""

    def test_a_transaction_is_open_again(self) -> None:
        tracker, order = transaction()
        tracker.apply(filled("a", 10))
        assert (order.state, tracker.live) == (S.FILLED, {})
        assert tracker.reverse(took_back("a", T0_NS + 1)) == filled("a", 10)
        assert (order.state, order.filled_lots, order.remaining_lots) == (S.OPEN, 0, 10)
        assert (tracker.live, order.since_ns) == ({NAME: order}, T0_NS + 1)
        assert not tracker.has_seen(PERPETUAL.instrument_id, "a")
        tracker.apply(make_fill(make_intent(), "b", 10, now_ns=T0_NS + 2))
        assert (order.state, tracker.live) == (S.FILLED, {})

    def test_filled_in_parts_only_what_was_undone_is_pending(self) -> None:
        tracker, order = transaction()
        tracker.apply(filled("a", 4))
        tracker.apply(filled("b", 6))
        tracker.apply(took_back("b"))
        assert (order.state, order.remaining_lots) == (S.PARTLY_FILLED, 6)
        tracker.apply(took_back("a"))
        assert (order.state, order.remaining_lots) == (S.OPEN, 10)

    @pytest.mark.parametrize("is_expired", [True, False])
    def test_what_ended_with_that_block_did_not_end(self, *, is_expired: bool) -> None:
        tracker, order = transaction()
        tracker.apply(filled("a", 4))
        tracker.apply(ended(is_expired=is_expired))
        tracker.apply(took_back("a"))
        assert (order.state, order.remaining_lots) == (S.OPEN, 10)

    def test_an_order_of_an_exchange_is_asked_about(self) -> None:
        tracker, order = track()
        tracker.apply(filled("a", 10))
        order.queried_ns = 5
        tracker.apply(took_back("a"))
        assert (order.state, order.unknown_why, order.queried_ns) == (S.UNKNOWN, "a fill was taken back: reorg", 0)
        tracker.apply(truth(S.CANCELED))
        assert order.state is S.CANCELED

    def test_one_in_doubt_stays_in_doubt(self) -> None:
        tracker, order = transaction()
        tracker.apply(filled("a", 4))
        tracker.apply(lost())
        tracker.apply(took_back("a"))
        assert (order.state, order.remaining_lots) == (S.UNKNOWN, 10)

    def test_of_an_order_long_forgotten_the_position_follows(self) -> None:
        tracker = OrderTracker(max_finished=0)
        tracker.intend(make_intent(10, NAME))
        tracker.apply(filled("a", 10))
        assert tracker.reverse(took_back("a")) == filled("a", 10)
        assert tracker.live == {}

    def test_a_trade_never_seen_is_not_undone(self) -> None:
        tracker, order = transaction()
        assert tracker.reverse(took_back("a")) is None
        assert (order.state, tracker.contradiction) == (S.OPEN, "")

    def test_one_too_old_to_be_undone_is_for_a_person(self) -> None:
        tracker = OrderTracker(max_reversible=2)
        tracker.intend(make_intent(10, NAME))
        for trade_id in "abc":
            tracker.apply(filled(trade_id, 1))
        assert tracker.reverse(took_back("a")) is None
        assert tracker.contradiction == "trade a of ETH-PERPETUAL is too old to be taken back"

    def test_what_was_taken_back_is_remembered_only_so_long(self) -> None:
        tracker = OrderTracker(max_reversible=1)
        tracker.intend(make_intent(10, NAME))
        for trade_id in "ab":
            tracker.apply(filled(trade_id, 1))
            tracker.apply(took_back(trade_id, T0_NS + 1))
        assert tracker.apply(filled("b", 1)) == [], "told late"
        assert tracker.apply(filled("a", 1)) == [filled("a", 1)], "forgotten that it was"

    @pytest.mark.parametrize(
        "word", [rejected(), ended(), ended(is_expired=True)], ids=["rejected", "ended", "expired"]
    )
    def test_one_that_failed_in_such_a_block_is_open_as_soon_as_a_node_has_it_again(self, word: OrderEvent) -> None:
        tracker, order = transaction()
        tracker.apply(word)
        assert tracker.live == {}
        tracker.apply(accepted())
        assert order.state.is_terminal, "told late"
        tracker.apply(accepted(T0_NS + 1))
        assert (order.state, order.remaining_lots, tracker.live) == (S.OPEN, 10, {NAME: order})
        tracker.apply(make_fill(make_intent(), "a", 10, now_ns=T0_NS + 2))
        assert order.state is S.FILLED
        tracker.apply(accepted(T0_NS + 3))
        assert order.state is S.FILLED

    def test_of_an_exchange_none_opens_again_that_way(self) -> None:
        tracker, order = track()
        tracker.apply(ended())
        tracker.apply(accepted(T0_NS + 1))
        assert order.state is S.CANCELED

    def test_no_other_word_leaves_a_final_state(self) -> None:
        tracker, order = transaction()
        tracker.apply(filled("a", 10))
        for word in (sent(), accepted(), rejected(), ended(), lost(), truth(S.OPEN), took_back("b")):
            tracker.apply(word)
            assert order.state is S.FILLED


class TestTransactionsArePatient:
    """A transaction waits for a block: it is silent for minutes, and nothing is wrong."""

    @pytest.mark.parametrize("state", [S.OPEN, S.PARTLY_FILLED, S.CANCELING])
    def test_until_its_own_deadline_and_a_while(self, state: OrderState) -> None:
        tracker, order = transaction()
        if state is S.PARTLY_FILLED:
            tracker.apply(filled("a", 4))
        elif state is S.CANCELING:
            tracker.request_cancel(order, T0_NS)
        last_ns = DEADLINE_NS + DEADLINE_MARGIN_NS + TIMEOUT_NS
        tracker.doubt_silent(last_ns, TIMEOUT_NS)
        assert order.state is state
        tracker.doubt_silent(last_ns + 1, TIMEOUT_NS)
        assert order.state is S.UNKNOWN

    def test_one_that_no_node_took_is_doubted_as_any_order(self) -> None:
        tracker = OrderTracker()
        gas = GasBid(10**9, 10**7, 0.5, DEADLINE_NS)
        order = tracker.intend(msgspec.structs.replace(make_intent(10, NAME), gas=gas))
        tracker.apply(sent())
        tracker.doubt_silent(T0_NS + TIMEOUT_NS + 1, TIMEOUT_NS)
        assert order.state is S.UNKNOWN

    def test_one_that_would_do_nothing_any_more_is_no_hedge_under_way(self) -> None:
        """Stuck behind fees nobody pays, it was counted as a hedge for hours, and the exposure stayed open unsaid."""
        tracker, order = transaction()
        void_ns = DEADLINE_NS + DEADLINE_MARGIN_NS + TIMEOUT_NS + 1
        still_open = msgspec.structs.replace(truth(S.OPEN), ts_recv_ns=void_ns)
        tracker.doubt_silent(void_ns, TIMEOUT_NS)
        tracker.apply(still_open)
        assert order.state is S.UNKNOWN
        tracker.apply(msgspec.structs.replace(still_open, ts_recv_ns=DEADLINE_NS))
        assert order.state is S.OPEN, "told when it could still fill"
        tracker.doubt_silent(void_ns, TIMEOUT_NS)
        tracker.apply(msgspec.structs.replace(truth(S.CANCELED), ts_recv_ns=void_ns))
        assert (order.state, tracker.live) == (S.CANCELED, {})

    def test_one_undone_after_its_deadline_has_the_usual_time(self) -> None:
        tracker, order = transaction()
        tracker.apply(filled("a", 10))
        late_ns = DEADLINE_NS + 2 * DEADLINE_MARGIN_NS
        tracker.apply(took_back("a", late_ns))
        tracker.doubt_silent(late_ns + TIMEOUT_NS, TIMEOUT_NS)
        assert order.state is S.OPEN
        tracker.doubt_silent(late_ns + TIMEOUT_NS + 1, TIMEOUT_NS)
        assert order.state is S.UNKNOWN


class TestRestingAndDoubt:
    @pytest.mark.parametrize(
        ("time_in_force", "may_rest"),
        [(TimeInForce.POST_ONLY, True), (TimeInForce.GTC, True), (TimeInForce.IOC, False), (TimeInForce.MARKET, False)],
    )
    def test_what_may_rest_is_working_until_in_doubt_or_over(self, time_in_force: TimeInForce, may_rest: bool) -> None:
        order = Order(make_intent(10, NAME, time_in_force))
        assert (order.may_rest, order.is_working, order.is_doubtful) == (may_rest, may_rest, False)
        for state, is_doubtful in ((S.CANCELING, True), (S.UNKNOWN, True), (S.CANCELED, False)):
            order.state = state
            assert (order.is_working, order.is_doubtful) == (False, is_doubtful)

    def test_a_cancel_refused_twice_in_a_row_is_asked_about(self) -> None:
        tracker, order = track()
        tracker.apply(accepted())
        for state in (S.OPEN, S.UNKNOWN):
            tracker.request_cancel(order, T0_NS + 7)
            assert (order.state, order.cancel_ns) == (S.CANCELING, T0_NS + 7)
            tracker.apply(CancelRejected(NAME, "no", T0_NS, T0_NS))
            assert order.state is state
        assert order.unknown_why == "its cancel was refused twice: no"


class TestCrossingRejects:
    @pytest.mark.parametrize(("time_in_force", "counts"), [(TimeInForce.POST_ONLY, (1, 0)), (TimeInForce.IOC, (0, 1))])
    def test_only_a_post_only_order_comes_too_late_for_its_price(
        self, time_in_force: TimeInForce, counts: tuple[int, int]
    ) -> None:
        tracker = OrderTracker()
        tracker.intend(make_intent(10, NAME, time_in_force))
        tracker.apply(OrderRejected(NAME, "crosses", T0_NS, T0_NS, is_crossing=True))
        assert (tracker.post_only_rejects, tracker.reject_streak_of("ETH-PERPETUAL")) == counts

    def test_streaks_are_those_of_one_instrument(self) -> None:
        tracker = OrderTracker()
        for n, instrument in enumerate((PERPETUAL, INVERSE, INVERSE)):
            tracker.intend(make_intent(10, f"r{n}", instrument=instrument))
            tracker.apply(OrderRejected(f"r{n}", "no", T0_NS, T0_NS + n))
        assert {name: tuple(streak) for name, streak in tracker.reject_streaks.items()} == {
            "ETH-PERPETUAL": (1, T0_NS),
            "ETH-INVERSE": (2, T0_NS + 2),
        }


class TestMemory:
    """A run of months must not grow: what is over is forgotten, oldest first."""

    def test_only_the_newest_finished_orders_are_remembered_and_every_live_one(self) -> None:
        tracker = OrderTracker(max_finished=3)
        live = tracker.intend(make_intent(10, "live"))
        for n in range(10):
            tracker.intend(make_intent(10, f"r{n}"))
            tracker.apply(OrderRejected(f"r{n}", "no", T0_NS, T0_NS))
        assert list(tracker.orders) == ["live", "r7", "r8", "r9"]
        assert tracker.live == {"live": live}

    def test_a_late_fill_of_a_forgotten_order_still_moves_the_position(self) -> None:
        tracker = OrderTracker(max_finished=0)
        tracker.intend(make_intent(10, NAME))
        tracker.apply(ended())
        assert tracker.orders == {}
        assert len(tracker.apply(filled("a", 10))) == 1

    def test_only_the_newest_trades_are_remembered_for_each_instrument(self) -> None:
        tracker = OrderTracker(max_seen=3)
        other = make_intent(10, "other", instrument=INVERSE)
        tracker.apply(make_fill(other, "t0", 1))
        for n in range(5):
            assert tracker.apply(filled(f"t{n}", 1))
        assert [tracker.has_seen("ETH-PERPETUAL", f"t{n}") for n in range(5)] == [False, False, True, True, True]
        assert tracker.has_seen("ETH-INVERSE", "t0")
        assert tracker.apply(filled("t4", 1)) == []
