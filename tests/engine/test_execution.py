"""How a hedge is worked: where it rests, when it follows, when it crosses, and that nothing is lost on the way."""

from __future__ import annotations

from math import inf
from typing import Any

import msgspec
import pytest

from bot.domain.decisions import BotState, HedgeTarget, Refusal
from bot.domain.events import AmendOrder, CancelOrder, Command, OperatorAction, QueryOrder, SubmitOrder
from bot.domain.market import Quote
from bot.domain.orders import (
    AmendRejected,
    CancelRejected,
    OrderAmended,
    OrderIntent,
    OrderRejected,
    OrderState,
    OrderTruth,
    OutcomeLost,
    TimeInForce,
)
from bot.domain.units import NS_PER_S
from bot.domain.venues import VenueHealth, VenueStatus
from bot.engine.execution import (
    FIRST_FILL_S,
    FillRates,
    Move,
    Need,
    budget_ticks,
    crossing_ticks,
    find_repeg,
    find_urgency,
    near_touch_ticks,
    side_of,
)
from bot.engine.orders import Order
from bot.engine.settings import BookLeg, HedgeSettings
from strategies import DeltaBand, FixedInterval
from tests.engine.builders import CALL, LIMITS, PERPETUAL, T0_NS, Driver, make_intent, make_settings, only_intent

R = Refusal
S = OrderState
NAME = PERPETUAL.instrument_id
MAKER = HedgeSettings(
    instrument=PERPETUAL,
    maker_bps=0.0,
    taker_bps=5.0,
    style="maker",
    can_amend=True,
    repeg_ticks=5,
    repeg_every_ns=2 * NS_PER_S,
    max_rest_ns=30 * NS_PER_S,
    escalate_bands=10.0,
)
QUOTE = Quote(NAME, 1999.95, 1.0, 2000.05, 1.0, T0_NS, T0_NS, 1)


def maker(coins: float = 10.0, *, hedge: HedgeSettings = MAKER, **changes: Any) -> Driver:
    return Driver(make_settings((BookLeg(CALL, -1e-12),), hedge=hedge, cash={"ETH": coins}, **changes))


def with_maker(**changes: Any) -> HedgeSettings:
    return msgspec.structs.replace(MAKER, **changes)


def resting(coins: float = 10.0, **changes: Any) -> tuple[Driver, OrderIntent]:
    """Return a driver whose hedge rests at the touch."""
    driver = maker(coins, **changes)
    intent = only_intent(driver.tick())
    driver.send(intent)
    driver.accept(intent)
    return driver, intent


def refusal_of(driver: Driver) -> Refusal | None:
    decision = driver.engine.desks["ETH"].decision
    assert decision is not None
    return decision.refusal


def move_to(driver: Driver, coins: float) -> None:
    driver.engine.desks["ETH"].book.coin_cash = coins


def only_cancel(commands: list[Command], intent: OrderIntent) -> str:
    (command,) = commands
    assert isinstance(command, CancelOrder)
    assert (command.order_id, command.instrument_id) == (intent.order_id, NAME)
    return command.reason


class TestParts:
    band = HedgeTarget.to_edge(-1.0, 1.0, "test")

    @pytest.mark.parametrize(("delta", "side"), [(-1.1, 1), (-1.0, 0), (0.0, 0), (1.0, 0), (1.1, -1)])
    def test_the_side_is_the_one_outside_the_band(self, delta: float, side: int) -> None:
        assert side_of(self.band, delta) == side

    def test_prices(self) -> None:
        assert (near_touch_ticks(MAKER, QUOTE, 1), near_touch_ticks(MAKER, QUOTE, -1)) == (199_995, 200_005)
        assert (crossing_ticks(MAKER, QUOTE, 1), crossing_ticks(MAKER, QUOTE, -1)) == (200_506, 199_495)
        need = Need(1, T0_NS)
        need.first_px[NAME] = 2000.0
        assert (budget_ticks(need, MAKER, 1), budget_ticks(need, MAKER, -1)) == (200_500, 199_500)

    def urgency(self, delta: float = 2.0, urgency: float = 0.0, age_s: float = 0.0, **changes: Any) -> str:
        target = HedgeTarget.to_edge(-1.0, 1.0, "test", urgency)
        need, now_ns = Need(-1, T0_NS), T0_NS + round(age_s * NS_PER_S)
        return find_urgency(need, with_maker(**changes), target, delta, 0.1, now_ns)

    def test_a_need_may_rest_until_it_is_old_urgent_or_far(self) -> None:
        assert self.urgency() == ""
        assert self.urgency(age_s=30.0) == ""
        assert self.urgency(age_s=30.5) == "wanted for 30.5 s, limit 30.0 s"
        assert self.urgency(urgency=1.0) == "urgency 1"
        assert self.urgency(urgency=0.5, escalate_urgency=0.5) == "urgency 0.5"
        assert self.urgency(delta=11.0) == ""
        assert self.urgency(delta=11.5) == "net delta +11.500 is 10.5 half-widths outside its band"
        assert self.urgency(delta=-11.5) == "net delta -11.500 is 10.5 half-widths outside its band"

    def test_urgency_shortens_the_wait(self) -> None:
        assert self.urgency(urgency=0.5, age_s=15.0) == ""
        assert self.urgency(urgency=0.5, age_s=15.5) == "wanted for 15.5 s, limit 15.0 s"

    def test_a_band_narrower_than_a_lot_or_without_end_has_no_half_widths(self) -> None:
        for half_width in (0.0, 0.05, inf):
            target = HedgeTarget.to_edge(-half_width, half_width, "test")
            assert find_urgency(Need(-1, T0_NS), MAKER, target, 1e6, 0.1, T0_NS) == ""

    def order(self, limit_ticks: int) -> Order:
        order = Order(make_intent(10, time_in_force=TimeInForce.POST_ONLY))
        order.limit_ticks = limit_ticks
        return order

    def test_it_follows_the_touch_far_and_late_enough(self) -> None:
        later_ns = T0_NS + MAKER.repeg_every_ns
        assert find_repeg(self.order(199_991), MAKER, QUOTE, later_ns) is None
        for limit_ticks in (199_990, 200_000):
            order = self.order(limit_ticks)
            assert find_repeg(order, MAKER, QUOTE, later_ns - 1) is None
            found = find_repeg(order, MAKER, QUOTE, later_ns)
            assert found is not None
            assert found.limit_ticks == 199_995

    def test_a_venue_that_cannot_amend_is_asked_to_cancel(self) -> None:
        later_ns = T0_NS + MAKER.repeg_every_ns
        move = find_repeg(self.order(199_990), with_maker(can_amend=False), QUOTE, later_ns)
        assert move == Move(0, "touch at 1999.95, limit 1999.9")
        refused = self.order(199_990)
        refused.is_amendable = False
        assert find_repeg(refused, MAKER, QUOTE, later_ns) == move

    def test_an_amend_under_way_is_waited_for_and_an_unknown_limit_is_set_anew(self) -> None:
        later_ns = T0_NS + MAKER.repeg_every_ns
        order = self.order(199_990)
        order.amend_ticks = 199_992
        assert find_repeg(order, MAKER, QUOTE, later_ns) is None
        assert find_repeg(self.order(0), MAKER, QUOTE, later_ns) == Move(199_995, "touch at 1999.95, limit unknown")


class TestResting:
    def test_a_hedge_rests_at_the_near_touch(self) -> None:
        intent = only_intent(maker().tick())
        assert (intent.qty_lots, intent.limit_ticks) == (-90, 200_005)
        assert intent.time_in_force is TimeInForce.POST_ONLY
        assert intent.reason.endswith("; resting at the touch")
        assert only_intent(maker(-10.0).tick()).limit_ticks == 199_995

    def test_it_rests_on_while_the_touch_stays(self) -> None:
        driver, _ = resting()
        for _ in range(10):
            assert driver.tick() == []
        assert refusal_of(driver) is None

    def test_filled_it_is_over(self) -> None:
        driver, intent = resting()
        driver.fill(intent)
        assert driver.tick() == []
        assert driver.engine.desks["ETH"].need is None

    def test_silence_about_it_is_no_doubt(self) -> None:
        driver, _ = resting(hedge=with_maker(max_rest_ns=3600 * NS_PER_S))
        assert driver.tick(after_s=1000.0) == []

    def test_one_order_at_a_time(self) -> None:
        driver, intent = resting()
        move_to(driver, 10.8)
        assert driver.tick() == []
        assert refusal_of(driver) is R.ORDER_IN_FLIGHT
        driver.fill(intent)
        assert only_intent(driver.tick()).qty_lots == -8

    def test_a_policy_by_the_clock_waits_for_it(self) -> None:
        driver, intent = resting(policy=FixedInterval(interval_s=5.0))
        for _ in range(10):
            assert driver.tick() == [], "as long as it rests it is wanted"
        driver.fill(intent)
        move_to(driver, 11.0)
        assert driver.engine.desks["ETH"].last_hedge_ns == intent.decided_ns


class TestFollowing:
    def test_it_is_amended_and_keeps_its_id(self) -> None:
        driver, intent = resting()
        (command,) = driver.tick(2000.1, after_s=2.0)
        assert isinstance(command, AmendOrder)
        assert (command.order_id, command.limit_ticks) == (intent.order_id, 200_015)
        assert driver.tick(2000.2, after_s=2.0) == [], "one amend at a time"
        driver.apply(OrderAmended(intent.order_id, 200_015, driver.now_ns, driver.now_ns))
        assert driver.engine.orders.orders[intent.order_id].limit_ticks == 200_015
        (again,) = driver.tick(2000.3, after_s=2.0)
        assert isinstance(again, AmendOrder)
        assert again.limit_ticks == 200_035

    def test_not_for_less_than_its_ticks_nor_too_often(self) -> None:
        driver, _ = resting()
        assert driver.tick(2000.04, after_s=5.0) == []
        driver, _ = resting()
        assert driver.tick(2000.1, after_s=1.9) == []

    def test_amends_count_against_the_order_rate(self) -> None:
        limits = msgspec.structs.replace(LIMITS, max_orders_per_min=2)
        driver, intent = resting(hedge=with_maker(max_rest_ns=3600 * NS_PER_S), limits=limits)
        (command,) = driver.tick(2000.1, after_s=2.0)
        assert isinstance(command, AmendOrder)
        driver.apply(OrderAmended(intent.order_id, command.limit_ticks, driver.now_ns, driver.now_ns))
        assert driver.tick(2000.2, after_s=2.0) == []
        assert [type(one) for one in driver.tick(2000.3, after_s=60.0)] == [AmendOrder]

    def test_a_refused_amend_is_followed_by_a_cancel(self) -> None:
        driver, intent = resting()
        driver.tick(2000.1, after_s=2.0)
        driver.apply(AmendRejected(intent.order_id, "no", driver.now_ns, driver.now_ns))
        assert only_cancel(driver.tick(2000.1, after_s=2.0), intent).startswith("touch at 2000.15")

    def test_a_lost_amend_leaves_the_quantity_in_doubt_and_the_limit_open(self) -> None:
        driver, intent = resting()
        driver.tick(2000.1, after_s=2.0)
        driver.apply(OutcomeLost(intent.order_id, "timeout", driver.now_ns))
        assert driver.tick(2000.1) == [QueryOrder(intent.order_id, NAME)]
        driver.apply(OrderTruth(intent.order_id, S.OPEN, (), driver.now_ns, driver.now_ns))
        order = driver.engine.orders.orders[intent.order_id]
        assert (order.limit_ticks, order.amend_ticks, order.state) == (0, 0, S.OPEN)
        (command,) = driver.tick(2000.1, after_s=2.0)
        assert isinstance(command, AmendOrder)

    def test_an_amend_never_answered_is_doubted(self) -> None:
        driver, intent = resting()
        driver.tick(2000.1, after_s=2.0)
        assert driver.tick(2000.1, after_s=5.5) == [QueryOrder(intent.order_id, NAME)]

    def test_without_amends_it_is_canceled_and_waited_for(self) -> None:
        driver, intent = resting(hedge=with_maker(can_amend=False))
        assert only_cancel(driver.tick(2000.1, after_s=2.0), intent) == "touch at 2000.15, limit 2000.05"
        assert driver.tick(2000.1) == []
        assert refusal_of(driver) is R.UNKNOWN_OUTCOME, "it may have been filled after all"
        driver.fill(intent, lots=-30)
        driver.cancel(intent, is_expired=False)
        again = only_intent(driver.tick(2000.1))
        assert (again.qty_lots, again.limit_ticks) == (-60, 200_015)
        assert again.time_in_force is TimeInForce.POST_ONLY

    def test_while_it_is_canceled_only_what_both_ends_agree_on_is_traded(self) -> None:
        driver, intent = resting(hedge=with_maker(can_amend=False))
        only_cancel(driver.tick(2000.1, after_s=2.0), intent)
        move_to(driver, 13.0)
        assert only_intent(driver.tick(2000.1)).qty_lots == -30


class TestCrossing:
    def escalated(self, driver: Driver, intent: OrderIntent, commands: list[Command], filled: int = 0) -> OrderIntent:
        """Expect the cancel, answer it, and return what crosses."""
        assert only_cancel(commands, intent).startswith("to cross: ")
        if filled:
            driver.fill(intent, lots=filled)
        driver.cancel(intent, is_expired=False)
        crossing = only_intent(driver.tick())
        assert crossing.time_in_force is TimeInForce.IOC
        return crossing

    def test_after_its_longest_wait_it_crosses_with_what_is_left(self) -> None:
        driver, intent = resting()
        assert driver.tick(after_s=30.0) == []
        crossing = self.escalated(driver, intent, driver.tick(after_s=0.5), filled=-40)
        assert (crossing.qty_lots, crossing.limit_ticks) == (-50, 199_496)
        assert "; crossing: wanted for 31.5 s" in crossing.reason

    def test_far_outside_its_band_it_crosses_at_once(self) -> None:
        driver, intent = resting()
        move_to(driver, 11.2)
        self.escalated(driver, intent, driver.tick())
        assert only_intent(maker(12.0).tick()).time_in_force is TimeInForce.IOC

    def test_an_urgent_policy_crosses_at_once(self) -> None:
        assert only_intent(maker(policy=Hurried()).tick()).time_in_force is TimeInForce.IOC

    def test_its_limit_stays_inside_the_budget_of_the_first_decision(self) -> None:
        driver, intent = resting()
        only_cancel(driver.tick(1998.0, after_s=30.5), intent)
        driver.cancel(intent, is_expired=False)
        crossing = only_intent(driver.tick(1998.0))
        assert crossing.limit_ticks == 199_496, "25 bp below the bid of 1999.95 it was first decided at"

    def test_beyond_the_budget_it_is_refused_and_decided_anew(self) -> None:
        driver, intent = resting()
        only_cancel(driver.tick(1990.0, after_s=30.5), intent)
        driver.cancel(intent, is_expired=False)
        assert driver.tick(1990.0) == []
        assert refusal_of(driver) is R.SLIPPAGE_BUDGET
        assert "first decided at 1999.95, allowed 25 bp" in driver.engine.desks["ETH"].decision.refusal_detail
        again = only_intent(driver.tick(1990.0))
        assert (again.time_in_force, again.limit_ticks) == (TimeInForce.POST_ONLY, 199_005)

    def test_what_did_not_fill_crosses_again(self) -> None:
        driver, intent = resting()
        crossing = self.escalated(driver, intent, driver.tick(after_s=30.5))
        driver.fill(crossing, lots=-20)
        driver.cancel(crossing)
        rest = only_intent(driver.tick())
        assert (rest.qty_lots, rest.time_in_force) == (-70, TimeInForce.IOC)


class Hurried:
    """A policy that never waits."""

    name = "hurried"

    def target(self, _view: object) -> HedgeTarget:
        return HedgeTarget.to_edge(-1.0, 1.0, "hurry", 1.0)


class TestNoLongerWanted:
    @pytest.mark.parametrize("coins", [0.5, -5.0])
    def test_back_in_the_band_or_beyond_it_is_canceled(self, coins: float) -> None:
        driver, intent = resting()
        move_to(driver, coins)
        assert only_cancel(driver.tick(), intent) == "no longer wanted"

    def test_less_wanted_than_the_band_is_wide_it_may_rest(self) -> None:
        driver, _ = resting()
        move_to(driver, 9.0)
        assert driver.tick() == [], "filled whole it still ends inside the band"
        move_to(driver, 5.0)
        (command,) = driver.tick()
        assert isinstance(command, CancelOrder)

    def test_a_filled_part_counts(self) -> None:
        driver, intent = resting(policy=DeltaBand(half_width_base=1.0, trade_to="centre"))
        driver.fill(intent, lots=-60)
        assert driver.tick() == []
        driver.fill(intent, lots=-30)
        assert only_cancel(driver.tick(), intent) == "no longer wanted", "the last coin need not be sold"

    @pytest.mark.parametrize("action", [OperatorAction.HALT, OperatorAction.PAUSE])
    def test_a_bot_that_stands_still_leaves_nothing_behind(self, action: OperatorAction) -> None:
        driver, intent = resting()
        driver.operate(action)
        assert only_cancel(driver.tick(), intent) == {"halt": "halted", "pause": "paused"}[action]

    def test_a_bot_that_may_only_reduce_keeps_what_reduces(self) -> None:
        driver, _ = resting()
        driver.operate(OperatorAction.REDUCE_ONLY)
        assert driver.tick() == []

    def test_a_blind_one_leaves_nothing_behind(self) -> None:
        driver, intent = resting(hedge=with_maker(max_rest_ns=3600 * NS_PER_S))
        driver.wait(61.0)
        assert only_cancel(driver.decide(), intent) == "index of ETH is 61 s old, limit 60 s"

    def test_a_venue_down_is_told_to_cancel_and_doubted_if_it_says_nothing(self) -> None:
        driver, intent = resting()
        driver.apply(VenueStatus(PERPETUAL.venue, VenueHealth.DOWN, "closed", driver.now_ns))
        assert only_cancel(driver.tick(), intent) == "sim is down: closed"
        assert driver.tick(after_s=5.5) == [QueryOrder(intent.order_id, NAME)]


class TestRefusals:
    def test_too_late_for_its_price_it_is_sent_anew_and_counts_for_no_streak(self) -> None:
        driver = maker()
        ids = set()
        for n in range(8):
            intent = only_intent(driver.tick(2000.0 + n * 0.01))
            ids.add(intent.order_id)
            driver.apply(OrderRejected(intent.order_id, "crosses", driver.now_ns, driver.now_ns, is_crossing=True))
            assert driver.decide() == [], "not again on the quote it came too late for"
        assert len(ids) == 8
        assert driver.engine.state is BotState.RUNNING
        assert driver.engine.orders.post_only_rejects == 8
        assert driver.engine.orders.reject_streak_of(NAME) == 0

    def test_another_refusal_counts(self) -> None:
        driver = maker()
        for _ in range(5):
            driver.reject(only_intent(driver.tick()))
        driver.tick()
        assert driver.engine.state is BotState.HALTED

    def test_orders_that_rest_unfilled_are_no_loop(self) -> None:
        driver = maker(hedge=with_maker(can_amend=False))
        for n in range(12):
            intent = only_intent(driver.tick(2000.0 + 0.1 * (n % 2)))
            driver.accept(intent)
            (command,) = driver.tick(2000.0 + 0.1 * ((n + 1) % 2), after_s=2.0)
            assert isinstance(command, CancelOrder) or "cross" in str(command)
            driver.cancel(intent, is_expired=False)
            if n >= 8:
                break
        assert driver.engine.state is BotState.RUNNING

    def test_fills_that_never_reach_the_hedge_are(self) -> None:
        driver = maker(policy=DeltaBand(half_width_base=1.0))
        for _ in range(6):
            commands = driver.tick()
            for command in commands:
                assert isinstance(command, SubmitOrder)
                driver.accept(command.intent)
                driver.fill(command.intent)
                holding = driver.engine.desks["ETH"].hedge
                holding.trade_lots(-command.intent.qty_lots, 2000.0)  # as if the position were read as flat again
        assert driver.engine.state is BotState.PAUSED

    def test_a_cancel_refused_is_not_repeated_at_once_and_twice_refused_it_is_asked_about(self) -> None:
        driver, intent = resting()
        move_to(driver, 0.0)
        no = CancelRejected(intent.order_id, "no", 0, 0)
        only_cancel(driver.tick(), intent)
        driver.apply(msgspec.structs.replace(no, ts_recv_ns=driver.now_ns))
        assert driver.tick(after_s=1.0) == []
        only_cancel(driver.tick(after_s=1.0), intent)
        driver.apply(msgspec.structs.replace(no, ts_recv_ns=driver.now_ns))
        assert driver.engine.orders.orders[intent.order_id].state is S.UNKNOWN
        assert driver.tick() == [QueryOrder(intent.order_id, NAME)]
        driver.apply(OrderTruth(intent.order_id, S.CANCELED, (), driver.now_ns, driver.now_ns))
        assert driver.engine.orders.live == {}


class TestFillRates:
    def test_it_starts_from_a_guess_and_follows_what_was_seen(self) -> None:
        rates = FillRates()
        assert rates.rate_per_s("A") == pytest.approx(1.0 / FIRST_FILL_S)
        rates.note("A", 10.0, 1.0)
        assert rates.rate_per_s("A") == pytest.approx(2.0 / (FIRST_FILL_S + 10.0))
        rates.note("A", 20.0, 0.0)
        assert rates.rate_per_s("A") == pytest.approx(2.0 / (FIRST_FILL_S + 30.0)), "waiting in vain counts"
        assert rates.rate_per_s("B") == pytest.approx(1.0 / FIRST_FILL_S)

    def test_what_was_long_ago_is_forgotten(self) -> None:
        rates = FillRates()
        for _ in range(200):
            rates.note("A", 100.0, 1.0)
        for _ in range(200):
            rates.note("A", 1.0, 1.0)
        assert rates.rate_per_s("A") == pytest.approx(1.0, rel=0.05)


class TestAuto:
    AUTO = msgspec.structs.replace(MAKER, style="auto", risk_aversion_per_quote=1e-6)

    def test_it_rests_while_waiting_is_cheap(self) -> None:
        intent = only_intent(maker(1.9, hedge=self.AUTO).tick())
        assert intent.time_in_force is TimeInForce.POST_ONLY

    def test_it_crosses_where_waiting_risks_more_than_the_fee(self) -> None:
        averse = msgspec.structs.replace(self.AUTO, risk_aversion_per_quote=1.0)
        intent = only_intent(maker(1.9, hedge=averse).tick())
        assert intent.time_in_force is TimeInForce.IOC
        assert "crossing: resting would cost" in intent.reason

    def test_and_where_a_maker_fill_is_not_the_cheaper_one(self) -> None:
        dear = msgspec.structs.replace(self.AUTO, maker_bps=6.0)
        assert only_intent(maker(1.9, hedge=dear).tick()).time_in_force is TimeInForce.IOC

    def test_the_verdict_is_that_of_the_closed_form(self) -> None:
        """At w = λ (C − M) both cost the same: a little more aversion crosses, a little less rests."""
        driver = maker(1.9, hedge=self.AUTO)
        driver.tick()
        vol = driver.engine.desks["ETH"].vol()
        saved_quote_per_base = 2000.0 * (0.05 / 2000.0 + 5.0 * 1e-4)  # maker fee 0, half-spread lost to who knew better
        per_year = saved_quote_per_base * 0.9 / FIRST_FILL_S * 365.0 * 86_400.0
        even = per_year / (0.5 * 2000.0**2 * vol**2 * (1.9**2 - 1.0))
        for share, time_in_force in ((0.99, TimeInForce.POST_ONLY), (1.01, TimeInForce.IOC)):
            hedge = msgspec.structs.replace(self.AUTO, risk_aversion_per_quote=even * share)
            assert only_intent(maker(1.9, hedge=hedge).tick()).time_in_force is time_in_force

    def test_a_resting_order_is_taken_back_to_cross_once_that_is_cheaper(self) -> None:
        driver = maker(1.9, hedge=msgspec.structs.replace(self.AUTO, risk_aversion_per_quote=0.3))
        intent = only_intent(driver.tick())
        assert intent.time_in_force is TimeInForce.POST_ONLY
        driver.accept(intent)
        driver.engine.desks["ETH"].book.coin_cash = 9.0
        commands = driver.tick()
        assert [type(one) for one in commands] == [CancelOrder]
        assert "to cross: resting would cost" in commands[0].reason  # type: ignore[union-attr]

    def test_fills_that_were_seen_tell_how_long_waiting_takes(self) -> None:
        driver = maker(1.9, hedge=self.AUTO)
        intent = only_intent(driver.tick())
        driver.accept(intent)
        driver.wait(10.0)
        driver.fill(intent)
        driver.tick()
        rate = driver.engine.desks["ETH"].fill_rates.rate_per_s(NAME)
        assert rate == pytest.approx(2.0 / (FIRST_FILL_S + 11.0))

    def test_an_urgent_policy_crosses_all_the_same(self) -> None:
        driver = maker(1.9, hedge=self.AUTO)
        intent = only_intent(driver.tick())
        driver.accept(intent)
        commands = driver.tick(after_s=31.0)
        assert "to cross: wanted for" in commands[0].reason  # type: ignore[union-attr]
