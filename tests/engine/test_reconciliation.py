"""The ledger against account reports: what waits, what is asked again, what is adopted, and what a person must see."""

from __future__ import annotations

import random
from math import inf
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.decisions import BotState, Refusal
from bot.domain.events import Command, Event, OperatorAction, QueryAccount, QueryOrder, Restarted, SubmitOrder
from bot.domain.instruments import Spot
from bot.domain.market import ExecutionTerms, GasTier
from bot.domain.orders import (
    CancelRejected,
    Fill,
    GasBid,
    Liquidity,
    OrderAccepted,
    OrderCanceled,
    OrderEvent,
    OrderSent,
    OrderState,
    OrderTruth,
    OutcomeLost,
    TimeInForce,
)
from bot.domain.results import pnl_parts
from bot.domain.units import NS_PER_S
from bot.domain.venues import (
    AccountReport,
    InstrumentDelisted,
    VenueHealth,
    VenueOrder,
    VenuePosition,
    VenueStatus,
)
from bot.engine.book import Holding
from bot.engine.orders import OrderTracker
from bot.engine.settings import BookLeg, HedgeSettings
from tests.engine.builders import (
    CALL,
    INVERSE,
    LIMITS,
    PERPETUAL,
    T0_NS,
    Driver,
    make_fill,
    make_intent,
    make_settings,
    only_intent,
)

B = BotState
NAME = PERPETUAL.instrument_id
COINS = (BookLeg(CALL, -1e-12),)


class AccountDriver(Driver):
    """A driver whose venue also says what the account holds."""

    def report(
        self,
        lots: int = 0,
        entry_px: float = 0.0,
        *,
        orders: tuple[VenueOrder, ...] = (),
        asked_s: float = 0.0,
        name: str = NAME,
    ) -> AccountReport:
        """Report one position, asked `asked_s` seconds ago."""
        positions = (VenuePosition(name, lots, entry_px),) if lots else ()
        asked_ns = self.now_ns - round(asked_s * NS_PER_S)
        report = AccountReport("sim", positions, orders, {}, asked_ns, self.now_ns)
        self.apply(report)
        return report

    def tick_and_report(self, lots: int = 0, entry_px: float = 0.0, px: float = 2000.0) -> list[Command]:
        """Let two seconds pass, show the market, report, decide."""
        self.wait(2.0)
        self.show(px)
        self.report(lots, entry_px)
        return self.decide()

    @property
    def lots(self) -> int:
        return self.engine.desks["ETH"].hedge.lots


def account(coins: float = 0.0, **changes: Any) -> AccountDriver:
    changes = {"account_venues": frozenset({"sim"}), "cash": {"ETH": coins}} | changes
    return AccountDriver(make_settings(COINS, **changes))


def running(coins: float = 0.0, **changes: Any) -> AccountDriver:
    """Return a driver whose account is known and flat."""
    driver = account(coins, **changes)
    driver.tick_and_report()
    return driver


def hedged(**changes: Any) -> AccountDriver:
    """Return a driver short ninety lots against ten coins, as the venue has it too."""
    driver = account(10.0, **changes)
    driver.wait(1.0)
    driver.show()
    driver.report()
    driver.fill(only_intent(driver.decide()))
    driver.tick()
    assert driver.lots == -90
    return driver


def refusal_of(driver: Driver) -> Refusal | None:
    decision = driver.engine.desks["ETH"].decision
    assert decision is not None
    return decision.refusal


def assert_parts_add_up(driver: Driver) -> None:
    driver.engine.close_steps(driver.now_ns)
    assert pnl_parts(driver.engine.pnl())["total"] == pytest.approx(driver.engine.pnl_total_quote(), abs=1e-8)


class TestStart:
    def test_nothing_is_traded_before_the_account_is_known(self) -> None:
        driver = account(10.0)
        assert driver.tick() == [QueryAccount("sim", "not known yet")]
        assert (driver.engine.state, refusal_of(driver)) == (B.RECONCILING, Refusal.RECONCILING)
        assert driver.engine.state_reason == "waiting for the account at sim"
        driver.report()
        assert only_intent(driver.tick()).qty_lots == -90
        assert driver.engine.state is B.RUNNING

    def test_it_is_asked_for_no_more_often_than_allowed(self) -> None:
        driver = account()
        asked = [driver.now_ns for _ in range(20) if driver.tick(after_s=0.5)]
        assert len(asked) == 5

    def test_a_vault_without_accounts_asks_for_none(self) -> None:
        driver = account(10.0, account_venues=frozenset())
        assert only_intent(driver.tick()).qty_lots == -90

    def test_after_a_restart_it_is_asked_again_and_an_old_report_does_not_count(self) -> None:
        driver = running(0.5)
        driver.wait(1.0)
        driver.apply(Restarted(driver.now_ns))
        assert driver.decide() == [QueryAccount("sim", "not known yet")]
        driver.engine.desks["ETH"].book.coin_cash = 10.0
        driver.wait(1.0)
        driver.show()
        driver.report(asked_s=1.5)
        assert driver.decide() == []
        assert driver.engine.state is B.RECONCILING
        driver.report()
        assert only_intent(driver.tick()).qty_lots == -90

    def test_a_bot_that_may_only_reduce_waits_for_it_too(self) -> None:
        driver = running(10.0)
        driver.cancel(next(iter(driver.engine.orders.live.values())).intent)
        driver.operate(OperatorAction.REDUCE_ONLY)
        driver.apply(Restarted(driver.now_ns))
        driver.decide()
        driver.tick()
        assert (driver.engine.state, refusal_of(driver)) == (B.REDUCE_ONLY, Refusal.RECONCILING)

    def test_an_account_not_heard_of_for_too_long_stops_trading_until_it_is(self) -> None:
        driver = running(0.0, account_max_age_ns=10 * NS_PER_S)
        driver.engine.desks["ETH"].book.coin_cash = 10.0
        driver.wait(11.0)
        driver.show()
        assert driver.decide() == []
        decision = driver.engine.desks["ETH"].decision
        assert decision is not None
        assert (decision.refusal, decision.refusal_detail) == (
            Refusal.STALE_ACCOUNT,
            "account at sim is 11 s old, limit 10 s",
        )
        driver.report()
        assert only_intent(driver.tick()).qty_lots == -90

    def test_an_old_account_at_a_venue_that_is_down_is_no_reason_of_its_own(self) -> None:
        """F22: the venue's being down is; at the other venues hedging goes on."""
        driver = running(0.0, account_max_age_ns=10 * NS_PER_S)
        driver.engine.desks["ETH"].book.coin_cash = 10.0
        driver.wait(11.0)
        driver.show()
        driver.apply(VenueStatus("sim", VenueHealth.DOWN, "no answer", driver.now_ns))
        assert driver.decide() == []
        assert refusal_of(driver) is Refusal.VENUE_DOWN
        driver.apply(VenueStatus("sim", VenueHealth.UP, "it answers again", driver.now_ns))
        assert driver.decide() == []
        assert refusal_of(driver) is Refusal.STALE_ACCOUNT

    def test_a_resume_does_not_skip_the_asking(self) -> None:
        driver = account(10.0)
        driver.tick()
        driver.operate(OperatorAction.HALT)
        driver.operate(OperatorAction.RESUME)
        driver.tick()
        assert driver.engine.state is B.RECONCILING

    def test_a_position_from_an_earlier_run_is_adopted_before_anything_is_traded(self) -> None:
        driver = account(10.0)
        driver.tick()
        for _ in range(2):
            assert not any(isinstance(c, SubmitOrder) for c in driver.tick_and_report(-90, 1990.0))
            assert driver.engine.state is B.RECONCILING
        assert driver.tick_and_report(-90, 1990.0) == []
        assert (driver.lots, driver.engine.state) == (-90, B.REDUCE_ONLY)
        driver.operate(OperatorAction.RESUME)
        assert driver.tick() == []
        assert driver.engine.state is B.RUNNING

    def test_orders_of_unknown_outcome_are_waited_for_as_well(self) -> None:
        driver = account(10.0)
        intent = make_intent(now_ns=driver.now_ns)
        driver.engine.orders.intend(intent)
        driver.apply(OutcomeLost(intent.order_id, "timeout", driver.now_ns))
        driver.wait(1.0)
        driver.show()
        driver.report()
        driver.decide()
        assert driver.engine.state is B.RECONCILING


class TestDifferences:
    def test_an_equal_account_is_fine(self) -> None:
        driver = hedged()
        for _ in range(5):
            assert driver.tick_and_report(-90) == []
        assert driver.engine.accounts.adoption_count == 0
        assert driver.engine.state is B.RUNNING

    def test_a_position_nobody_booked_is_adopted_at_its_entry_price(self) -> None:
        """F08: adopted, counted, shown, and REDUCE_ONLY until a person resumes."""
        driver = running()
        assert driver.tick_and_report(5, 1980.0) == [QueryAccount("sim", self.text(5, 0))]
        assert driver.tick_and_report(5, 1980.0) == [QueryAccount("sim", self.text(5, 0))]
        assert driver.lots == 0
        driver.tick_and_report(5, 1980.0)
        assert driver.lots == 5
        (adoption,) = driver.engine.accounts.adoptions
        assert (adoption.adoption_id, adoption.px) == (f"adopted:{NAME}:0:5:1", 1980.0)
        assert driver.engine.state is B.REDUCE_ONLY
        assert driver.engine.state_reason == f"adopted: {self.text(5, 0)}, 3 reports in a row"
        assert driver.engine.pnl_total_quote() == pytest.approx(0.5 * 20.0)
        assert_parts_add_up(driver)
        for _ in range(5):
            driver.tick_and_report(5, 1980.0)
        assert driver.engine.accounts.adoption_count == 1
        driver.operate(OperatorAction.RESUME)
        driver.tick()
        assert driver.engine.state is B.RUNNING

    def test_without_an_entry_price_at_the_mark(self) -> None:
        driver = running()
        for _ in range(3):
            driver.tick_and_report(5)
        assert driver.engine.accounts.adoptions[0].px == pytest.approx(2000.0)
        assert driver.engine.pnl_total_quote() == pytest.approx(0.0, abs=1e-9)

    def test_a_position_the_venue_lost_is_written_off_without_an_order(self) -> None:
        """F09: no compensating order for what is gone; the hedger acts on what is true now."""
        driver = hedged()
        driver.operate(OperatorAction.PAUSE)
        before_quote = driver.engine.pnl_total_quote()
        for _ in range(3):
            assert not any(isinstance(command, SubmitOrder) for command in driver.tick_and_report(0))
        assert driver.lots == 0
        assert driver.engine.pnl_total_quote() == pytest.approx(before_quote)
        assert (driver.engine.state, driver.engine.alert[:7]) == (B.PAUSED, "adopted")

    @pytest.mark.parametrize(("lots", "is_interest"), [(-91, True), (-92, False), (-89, False)])
    def test_a_loan_on_a_chain_grows_by_itself(self, lots: int, *, is_interest: bool) -> None:
        """Its interest is a cost and is hedged; that alone must not stop a vault every day until a person resumes."""
        loan = msgspec.convert(msgspec.to_builtins(PERPETUAL) | {"kind": "spot"}, Spot)
        driver = hedged(hedge=HedgeSettings(instrument=loan, maker_bps=0.0, taker_bps=0.0))
        tier = GasTier(10**10, 10**9, 1.0, 6.0, 12.0)
        driver.apply(ExecutionTerms(NAME, (tier,), 0.0, 1e6, 2 * NS_PER_S, driver.now_ns, driver.now_ns, 1))
        before_quote = driver.engine.pnl_total_quote()
        for _ in range(3):
            driver.tick_and_report(lots)
        assert driver.lots == lots
        assert driver.engine.state is (B.RUNNING if is_interest else B.REDUCE_ONLY)
        cost_quote = 0.1 * 2000.0 if is_interest else 0.0
        assert driver.engine.pnl_total_quote() == pytest.approx(before_quote - cost_quote)
        assert_parts_add_up(driver)

    def test_a_deleveraged_position_is_hedged_anew_in_the_same_decision(self) -> None:
        """F32: the hedge was closed in part by the venue; the delta is true at once, and a shrinking order may go."""
        driver = hedged()
        driver.tick_and_report(-40)
        driver.tick_and_report(-40)
        assert driver.lots == -90
        intent = only_intent(driver.tick_and_report(-40))
        assert intent.qty_lots == -50
        assert driver.engine.state is B.REDUCE_ONLY
        assert_parts_add_up(driver)

    def test_no_word_of_a_delisted_position_is_no_word_that_it_is_gone(self) -> None:
        """F37: it stays in the books."""
        driver = hedged()
        driver.apply(InstrumentDelisted(NAME, "sim no longer lists it", driver.now_ns))
        for _ in range(5):
            driver.tick_and_report(0)
        assert (driver.lots, driver.engine.accounts.adoption_count) == (-90, 0)
        for _ in range(3):
            driver.tick_and_report(-50)
        assert driver.lots == -50, "what is said of it counts as ever"

    def test_what_is_unexplained_widens_the_exposure_at_once(self) -> None:
        driver = hedged()
        driver.tick_and_report(-40)
        decision = driver.engine.desks["ETH"].decision
        assert decision is not None
        assert decision.delta_low_base == pytest.approx(1.0)
        assert decision.delta_high_base == pytest.approx(6.0)
        assert decision.refusal is Refusal.UNKNOWN_OUTCOME

    def test_three_in_a_row_must_be_the_same(self) -> None:
        driver = running()
        for lots in (5, 5, 6, 6, 0, 5, 5):
            driver.tick_and_report(lots)
        assert driver.engine.accounts.adoption_count == 0

    def test_a_fill_in_between_starts_over(self) -> None:
        driver = hedged()
        driver.tick_and_report(-80)
        driver.tick_and_report(-80)
        driver.apply(foreign_fill(driver, 3))
        driver.tick_and_report(-77)
        assert driver.engine.accounts.adoption_count == 0

    def test_a_fill_after_the_question_explains(self) -> None:
        driver = running(10.0)
        driver.fill(only_intent_or_live(driver))
        for _ in range(5):
            driver.wait(0.2)
            driver.report(0, asked_s=30.0)
        assert driver.engine.accounts.mismatches == {}

    @pytest.mark.parametrize("is_lost", [False, True])
    def test_an_order_in_flight_or_unknown_explains(self, is_lost: bool) -> None:
        driver = running(10.0)
        intent = only_intent_or_live(driver)
        for _ in range(4):
            driver.wait(0.5)
            if is_lost:
                driver.apply(OutcomeLost(intent.order_id, "timeout", driver.now_ns))
            driver.report(-90)
        assert driver.engine.accounts.adoption_count == 0
        assert driver.engine.accounts.questions.keys() == {"sim"}

    def test_a_resting_order_explains_no_more_than_it_may_fill(self) -> None:
        driver = running(0.0)
        intent = make_intent(5, "a1b2c3d4e5-99", TimeInForce.GTC, now_ns=driver.now_ns)
        driver.engine.orders.intend(intent)
        driver.accept(intent)
        resting = (VenueOrder("v1", intent.order_id, NAME, 5, 1990.0),)
        for _ in range(4):
            driver.wait(2.0)
            driver.show()
            driver.report(4, orders=resting)
            driver.decide()
        assert driver.lots == 0
        for _ in range(3):
            driver.wait(2.0)
            driver.show()
            driver.report(-20, orders=resting)
            driver.decide()
        assert driver.lots == -20

    def test_old_and_repeated_reports_say_nothing(self) -> None:
        driver = running()
        driver.wait(2.0)
        report = driver.report(5)
        for _ in range(5):
            driver.apply(report)
        driver.report(5, asked_s=1.0)
        assert driver.engine.accounts.mismatches[NAME].seen == 1

    def test_a_paper_vault_on_a_real_account_keeps_its_own_hedges(self) -> None:
        driver = account(account_venues=frozenset(), account_book=frozenset({"sim"}))
        for _ in range(4):
            driver.tick_and_report(5)
        assert driver.lots == 0
        assert driver.engine.state is B.RUNNING

    def test_an_inverse_position_without_a_price_waits_for_one(self) -> None:
        driver = AccountDriver(make_settings(COINS, hedge=INVERSE, account_venues=frozenset({"sim"})))
        for _ in range(4):
            driver.wait(2.0)
            driver.report(5, name=INVERSE.instrument_id)
            driver.decide()
        assert driver.lots == 0
        driver.wait(2.0)
        driver.show()
        driver.report(5, name=INVERSE.instrument_id)
        driver.decide()
        assert driver.lots == 5

    def test_the_same_reconciliation_twice_is_the_same(self) -> None:
        """F05: identical ids, identical ledger."""

        def run() -> tuple[list[str], bytes, float]:
            driver = hedged()
            driver.operate(OperatorAction.PAUSE)
            commands: list[Command] = []
            for lots in (-90, -40, -40, -40, -40, 7, 7, 7, 7):
                commands += driver.tick_and_report(lots, 1990.0)
            ids = [one.adoption_id for one in driver.engine.accounts.adoptions]
            return ids, msgspec.json.encode(commands), driver.engine.pnl_total_quote()

        first = run()
        assert len(first[0]) == 2
        assert first == run()

    def text(self, venue: int, ledger: int) -> str:
        return f"{NAME} is {venue:+} lots at sim, {ledger:+} in the ledger"


def only_intent_or_live(driver: Driver) -> Any:
    """Return the intent of the one order in flight."""
    (order,) = driver.engine.orders.live.values()
    return order.intent


def foreign_fill(driver: Driver, lots: int, trade_id: str = "f1", before_s: float = 0.0, px: float = 2000.0) -> Fill:
    event_ns = driver.now_ns - round(before_s * NS_PER_S)
    return Fill(trade_id, "", NAME, lots, px, 0.0, Liquidity.TAKER, event_ns, driver.now_ns)


class TestLateFills:
    """A fill that an adoption held already takes its place, and moves nothing twice."""

    def test_a_late_fill_replaces_what_was_adopted(self) -> None:
        driver = running()
        for _ in range(3):
            driver.tick_and_report(5, 1980.0)
        driver.wait(1.0)
        driver.apply(foreign_fill(driver, 5, before_s=30.0, px=1975.0))
        assert driver.lots == 5
        driver.show()
        driver.decide()
        assert driver.engine.pnl_total_quote() == pytest.approx(0.5 * 25.0), "the true price is the fill's"
        assert_parts_add_up(driver)
        assert driver.engine.foreign.fill_count == 1

    def test_a_fill_after_it_is_one_more(self) -> None:
        driver = running()
        for _ in range(3):
            driver.tick_and_report(5)
        driver.wait(1.0)
        driver.apply(foreign_fill(driver, 5))
        assert driver.lots == 10

    def test_what_a_later_block_fills_is_one_more_though_its_time_is_before_the_question(self) -> None:
        """Blocks are heard of late, and may be stamped long before: a hedge that was not booked is traded once more."""
        driver = running()
        for seq in range(3):
            stamp_ns = driver.now_ns - 30 * NS_PER_S
            tier = GasTier(1, 2, 0.1, 12.0, 1.0)
            driver.apply(ExecutionTerms(NAME, (tier,), 0.0, inf, 12 * NS_PER_S, stamp_ns, driver.now_ns, seq))
            driver.tick_and_report(5)
        assert driver.lots == 5
        driver.apply(foreign_fill(driver, -3, "later block", before_s=20.0))
        assert driver.lots == 2
        driver.apply(foreign_fill(driver, 5, "the block of the report", before_s=40.0))
        assert driver.lots == 2

    def test_our_own_late_fill_too(self) -> None:
        driver = running(10.0)
        intent = only_intent_or_live(driver)
        executed_ns = driver.now_ns
        driver.wait(2.0)
        driver.cancel(intent)
        driver.operate(OperatorAction.PAUSE)
        for _ in range(4):
            driver.tick_and_report(-90)
        assert driver.lots == -90
        late = msgspec.structs.replace(make_fill(intent, "late", now_ns=driver.now_ns), ts_event_ns=executed_ns)
        driver.apply(late)
        assert driver.lots == -90


class TestOurOrders:
    def resting(self) -> tuple[AccountDriver, Any]:
        driver = running()
        intent = make_intent(5, "a1b2c3d4e5-99", TimeInForce.GTC, now_ns=driver.now_ns)
        driver.engine.orders.intend(intent)
        driver.accept(intent)
        driver.wait(2.0)
        driver.show()
        return driver, intent

    def test_a_missing_order_is_unknown_and_asked_about_never_taken_for_canceled(self) -> None:
        driver, intent = self.resting()
        driver.report()
        assert QueryOrder(intent.order_id, NAME) in driver.decide()
        order = driver.engine.orders.orders[intent.order_id]
        assert (order.state, order.unknown_why) == (OrderState.UNKNOWN, "not among the open orders of sim")

    def test_one_that_is_there_stays(self) -> None:
        driver, intent = self.resting()
        driver.report(orders=(VenueOrder("v1", intent.order_id, NAME, 5, 1990.0),))
        assert driver.decide() == []
        assert driver.engine.orders.orders[intent.order_id].state is OrderState.OPEN

    def test_one_accepted_after_the_question_stays(self) -> None:
        driver, intent = self.resting()
        driver.report(asked_s=3.0)
        assert driver.engine.orders.orders[intent.order_id].state is OrderState.OPEN

    def test_a_transaction_rests_nowhere_and_is_not_missed(self) -> None:
        driver, intent = self.resting()
        order = driver.engine.orders.orders[intent.order_id]
        gas = GasBid(10**9, 10**7, 0.5, driver.now_ns + 120 * NS_PER_S)
        order.intent = msgspec.structs.replace(intent, gas=gas)
        driver.report()
        assert driver.decide() == []
        assert order.state is OrderState.OPEN

    def test_one_that_is_unknown_stays_unknown(self) -> None:
        driver, intent = self.resting()
        driver.apply(OutcomeLost(intent.order_id, "timeout", driver.now_ns))
        driver.report(orders=(VenueOrder("v1", intent.order_id, NAME, 5, 1990.0),))
        driver.decide()
        assert driver.engine.orders.orders[intent.order_id].state is OrderState.UNKNOWN


class TestDailyLoss:
    def test_a_loss_found_in_the_account_counts(self) -> None:
        driver = running(limits=msgspec.structs.replace(LIMITS, daily_loss_quote=50.0))
        for _ in range(3):
            driver.tick_and_report(10, 2100.0)
        assert driver.engine.limits.day_pnl_quote == pytest.approx(-100.0)

    def test_a_gain_found_in_the_account_makes_up_for_nothing(self) -> None:
        driver = running(0.9, limits=msgspec.structs.replace(LIMITS, daily_loss_quote=90.0))
        for px in (1960.0, 1960.0, 1960.0):
            driver.tick_and_report(1, 900.0, px)
        assert driver.engine.pnl_total_quote() == pytest.approx(-36.0 + 106.0)
        assert driver.engine.limits.day_pnl_quote == pytest.approx(-36.0)
        driver.operate(OperatorAction.RESUME)
        for px in (1910.0, 1905.0, 1890.0):
            driver.tick(px)
        assert driver.engine.state is B.REDUCE_ONLY
        assert driver.engine.state_reason.startswith("daily_loss")


# ── every order in which a venue may speak (F04, F15, F16) ───────────────────────────────────────────────────────────


def story(rng: random.Random) -> list[OrderEvent]:
    """Return what a venue has to say of one order, in the order it happened: its end is the same in any other."""
    intent = make_intent(rng.choice((-10, 10)), "run-1", TimeInForce.GTC)
    side = 1 if intent.qty_lots > 0 else -1
    events: list[OrderEvent] = [OrderSent("run-1", T0_NS), OrderAccepted("run-1", "v1", T0_NS, T0_NS)]
    if rng.random() < 0.3:
        events.insert(1, OutcomeLost("run-1", "timeout", T0_NS))
    fills: list[Fill] = []
    left = 10
    while left and rng.random() < 0.7:
        lots = rng.randint(1, left)
        left -= lots
        fills.append(make_fill(intent, f"t{len(fills)}", side * lots))
        events.append(fills[-1])
        if rng.random() < 0.3:
            events.append(OrderTruth("run-1", OrderState.OPEN, tuple(fills), T0_NS, T0_NS))
    if left:
        events.append(OrderCanceled("run-1", False, T0_NS, T0_NS))
    else:
        events.append(CancelRejected("run-1", "filled", T0_NS, T0_NS))
    if rng.random() < 0.5:
        end = OrderState.CANCELED if left else OrderState.FILLED
        events.append(OrderTruth("run-1", end, tuple(fills), T0_NS, T0_NS))
    return events


def told(events: list[OrderEvent]) -> tuple[OrderState, int, int, str]:
    """Return state, filled lots, and the ledger's position after these words, and whether anything seemed untrue."""
    qty = next((one.qty_lots for one in events if isinstance(one, Fill)), 1)
    tracker = OrderTracker()
    order = tracker.intend(make_intent(10 if qty > 0 else -10, "run-1", TimeInForce.GTC))
    holding = Holding(PERPETUAL)
    for event in events:
        for fill in tracker.apply(event):
            holding.trade_lots(fill.qty_lots, fill.px)
    return order.state, order.filled_lots, holding.lots, tracker.contradiction


def test_in_whatever_order_a_venue_speaks_the_end_is_the_same() -> None:
    for seed in range(1000):
        rng = random.Random(seed)
        events = story(rng)
        expected = told(events)
        shuffled = events + rng.choices(events, k=rng.randint(0, 5))
        rng.shuffle(shuffled)
        assert told(shuffled) == expected, f"seed {seed}: {shuffled}"


@settings(max_examples=100, deadline=None)
@given(
    fills=st.lists(st.integers(1, 4), max_size=4),
    is_canceled_at=st.integers(0, 4),
    repeats=st.lists(st.integers(0, 3), max_size=4),
    seed=st.integers(0, 1000),
)
def test_what_is_left_of_a_canceled_order_is_computed_from_its_trades(
    fills: list[int], is_canceled_at: int, repeats: list[int], seed: int
) -> None:
    """F16: fills before, around and after the cancel, each once or more: the position is the sum of the trades."""
    tracker = OrderTracker()
    order = tracker.intend(make_intent(20, "run-1", TimeInForce.GTC))
    tracker.apply(OrderAccepted("run-1", "v1", T0_NS, T0_NS))
    holding = Holding(PERPETUAL)
    trades = [make_fill(order.intent, f"t{n}", lots) for n, lots in enumerate(fills)]
    words: list[Event] = [*trades, *(trades[n] for n in repeats if n < len(trades))]
    random.Random(seed).shuffle(words)
    for n, word in enumerate(words):
        if n == is_canceled_at:
            tracker.request_cancel(order, T0_NS)
        assert order.remaining_lots == 20 - order.filled_lots
        for fill in tracker.apply(word):  # type: ignore[arg-type]
            holding.trade_lots(fill.qty_lots, fill.px)
    tracker.apply(OrderTruth("run-1", OrderState.CANCELED, tuple(trades), T0_NS, T0_NS))
    assert (order.filled_lots, holding.lots) == (sum(fills), sum(fills))
    assert (order.state, order.remaining_lots) == (OrderState.CANCELED, 0)
    assert tracker.contradiction == ""


class Venue:
    """The account as it really is, traded by us and by somebody else."""

    def __init__(self, driver: AccountDriver) -> None:
        self.driver = driver
        self.lots = 0
        self.trades = 0

    def step(self, px: float, *, is_reporting: bool) -> None:
        """Let two seconds pass; every order is filled at once."""
        driver = self.driver
        driver.wait(2.0)
        driver.show(px)
        if is_reporting:
            driver.report(self.lots, 2000.0)
        for command in driver.decide():
            if isinstance(command, SubmitOrder):
                driver.apply(make_fill(command.intent, self.trade(command.intent.qty_lots), now_ns=driver.now_ns))

    def trade(self, lots: int) -> str:
        """Move the position; return the id of the trade."""
        self.lots += lots
        self.trades += 1
        return f"v{self.trades}"


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_ledger_ends_where_the_venue_is(seed: int) -> None:
    """Whatever is traded by whom and whichever fill is lost or late, some quiet reports later the two agree."""
    rng = random.Random(seed)
    driver = account(5.0, foreign_policy=rng.choice(("adopt", "flatten")))
    venue = Venue(driver)
    venue.step(2000.0, is_reporting=True)
    late: list[Fill] = []
    for _ in range(12):
        venue.step(2000.0 + rng.uniform(-20.0, 20.0), is_reporting=rng.random() < 0.3)
        if rng.random() < 0.3:
            lots = rng.choice((-7, -1, 2, 9))
            fill = foreign_fill(driver, lots, venue.trade(lots))
            if rng.random() < 0.5:
                late.append(fill)
            else:
                driver.apply(fill)
    for _ in range(2):
        for _ in range(8):
            venue.step(2000.0, is_reporting=True)
        assert driver.lots == venue.lots
        for fill in late:
            driver.apply(msgspec.structs.replace(fill, ts_recv_ns=driver.now_ns))
    assert_parts_add_up(driver)
