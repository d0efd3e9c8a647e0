"""Options as hedges: offers within every limit, orders, the ledger of their own, and P&L that adds up."""

from __future__ import annotations

from math import fsum, nan

import msgspec
import numpy as np
import pytest

from bot.domain.decisions import BotState, Refusal
from bot.domain.events import OperatorAction, Restarted
from bot.domain.instruments import Option
from bot.domain.market import VolQuote
from bot.domain.orders import FillReversed, OrderState, OrderTruth, OutcomeLost, TimeInForce
from bot.domain.units import NS_PER_DAY, NS_PER_S
from bot.domain.venues import AccountReport, VenueHealth, VenuePosition, VenueStatus
from bot.engine.engine import Engine
from bot.engine.margin.risk_settings import RiskSettings
from bot.engine.pnl import PARTS
from bot.engine.settings import DeltaSettings, OptionHedgeSettings
from bot.pricing.black76 import greeks
from tests.engine.builders import LIMITS, T0_NS, make_fill
from tests.engine.margin_vault import account
from tests.engine.option_vault import (
    BOOK_CALL,
    CALL,
    COIN_TICKS,
    MONEY_CALL,
    PUT,
    RULES,
    Asking,
    OptionDriver,
    coin_option,
)

NAME = CALL.instrument_id


def assert_adds_up(driver: OptionDriver) -> None:
    """P&L by part is the change in equity, and what is left unexplained is small."""
    driver.engine.close_steps(driver.now_ns)
    parts = driver.engine.pnl()
    assert parts.total == pytest.approx(driver.engine.pnl_total_quote(), abs=1e-6)
    assert fsum(getattr(parts, name) for name in PARTS) == pytest.approx(parts.total, abs=1e-9)


def replaced(**changes: object) -> OptionHedgeSettings:
    return msgspec.structs.replace(RULES, **changes)


class TestOffers:
    def test_they_say_what_a_trade_costs_beyond_the_mark_and_what_it_does(self) -> None:
        driver = OptionDriver({})
        driver.tick()
        offers = driver.policy.views[-1].offers
        assert offers is not None
        assert set(offers.instrument_ids) == {one.instrument_id for one in (BOOK_CALL, CALL, PUT, MONEY_CALL)}
        row = offers.instrument_ids.index(NAME)
        tau = np.array([(CALL.expiry_ns - driver.now_ns) / (365 * NS_PER_DAY)])
        at = [
            greeks(np.array([2000.0]), np.array([2100.0]), tau, np.array([v]), np.array([True]))
            for v in (0.58, 0.6, 0.62)
        ]
        bid, mark, ask = (float(one.value[0]) / 2000.0 for one in at)
        ask_px, bid_px = round(ask / 0.0005) * 0.0005, round(bid / 0.0005) * 0.0005
        fee = min(0.0003, 0.125 * ask_px)
        assert offers.buy_cost_quote[row] == pytest.approx((ask_px - mark + fee) * 2000.0)
        assert offers.sell_cost_quote[row] == pytest.approx((mark - bid_px + fee) * 2000.0)
        assert offers.delta_ratio[row] == pytest.approx(float(at[1].delta[0]) - mark)
        assert offers.gamma_per_px[row] == pytest.approx(float(at[1].gamma[0]))
        assert offers.vega_quote_per_vol[row] == pytest.approx(float(at[1].vega[0]))
        assert (offers.buy_max_base[row], offers.sell_max_base[row], offers.lot_base[row]) == (50.0, 50.0, 1.0)
        money = offers.instrument_ids.index(MONEY_CALL.instrument_id)
        assert offers.delta_ratio[money] == pytest.approx(float(at[1].delta[0]))

    def test_they_come_once_per_review_and_never_beside_an_order_under_way(self) -> None:
        driver = OptionDriver({NAME: 5.0})
        (intent,) = driver.review()
        for _ in range(3):
            assert driver.review() == []
            assert driver.policy.views[-1].offers is None
        driver.cancel(intent)
        driver.tick()
        assert driver.policy.views[-1].offers is not None
        driver = OptionDriver({})
        driver.tick()
        driver.tick()
        assert [view.offers is not None for view in driver.policy.views] == [True, False]

    @pytest.mark.parametrize(
        "changes",
        [
            {"venue": "elsewhere"},
            {"min_ns": 40 * NS_PER_DAY},
            {"max_ns": 20 * NS_PER_DAY},
            {"min_strike_ratio": 1.06},
            {"max_strike_ratio": 1.04},
            {"max_delta_ratio": 0.3},
            {"max_spread_vol": 0.03},
            {"max_premium_quote": 1.0},
            {"max_order_quote": 1.0},
            {"max_position_base": 0.5},
            {"max_instruments": 0},
        ],
    )
    def test_what_a_rule_leaves_out_is_not_traded(self, changes: dict[str, object]) -> None:
        driver = OptionDriver({NAME: 5.0}, rules=replaced(**changes))
        assert driver.review() == []

    def test_sizes_are_cut_to_what_is_shown_and_to_every_limit(self) -> None:
        for changes, most in (({}, 50.0), ({"max_position_base": 7.0}, 7.0), ({"max_premium_quote": 1000.0}, 9.0)):
            driver = OptionDriver({NAME: 60.0}, rules=replaced(**changes))
            (intent,) = driver.review()
            assert intent.qty_lots == most
        driver = OptionDriver({NAME: 60.0}, limits=msgspec.structs.replace(LIMITS, max_order_base=3.0))
        assert driver.review()[0].qty_lots == 3
        driver = OptionDriver({NAME: 60.0})
        driver.size_base = 4.0
        assert driver.review()[0].qty_lots == 4

    def test_a_premium_limit_holds_for_all_trades_of_a_decision_together(self) -> None:
        driver = OptionDriver({NAME: 9.0, PUT.instrument_id: 9.0}, rules=replaced(max_premium_quote=1000.0))
        (intent,) = driver.review()
        assert (intent.instrument_id, intent.qty_lots) == (NAME, 9)
        assert driver.engine.refusals == {Refusal.BELOW_MINIMUM: 1}
        driver = OptionDriver({NAME: 1.0, PUT.instrument_id: 1.0}, rules=replaced(max_instruments=1))
        assert len(driver.review()) == 1

    def test_a_stale_quote_or_one_traded_on_is_not_offered(self) -> None:
        driver = OptionDriver({NAME: 5.0})
        intent = driver.buy(lots=2)
        driver.cancel(intent)
        driver.wait(11.0)
        driver.apply(driver.index(2000.0), driver.quote(driver.desk.settings.instrument, 2000.0))
        assert driver.decide() == [], "only two were filled of what that quote showed"
        offers = driver.policy.views[-1].offers
        assert offers is not None
        assert NAME not in offers.instrument_ids
        assert [one.qty_lots for one in driver.review()] == [3]

    def test_they_say_which_legs_are_the_books_own_whether_or_not_a_hedge_is_offered(self) -> None:
        driver = OptionDriver({})
        driver.tick()
        view = driver.policy.views[-1]
        assert view.offers is not None
        assert view.offers.own_base is not None
        assert view.offers.own_base.tolist() == view.legs.qty_base.tolist() == [-10.0]
        driver.policy.wanted = {NAME: 5.0}
        driver.cancel(driver.buy(lots=2))
        driver.wait(11.0)
        driver.apply(driver.index(2000.0), driver.quote(driver.desk.settings.instrument, 2000.0))
        driver.decide()
        view = driver.policy.views[-1]
        assert view.offers is not None
        assert NAME not in view.offers.instrument_ids, "its quote was traded on"
        assert view.offers.own_base is not None
        assert view.legs.qty_base.tolist() == [-10.0, 2.0]
        assert view.offers.own_base.tolist() == [-10.0, 0.0]


class TestOrders:
    def test_an_order_takes_the_price_shown_or_nothing(self) -> None:
        driver = OptionDriver({NAME: 5.0, PUT.instrument_id: -2.0})
        buy, sell = driver.review()
        assert (buy.instrument_id, buy.qty_lots, buy.time_in_force) == (NAME, 5, TimeInForce.IOC)
        assert (sell.instrument_id, sell.qty_lots) == (PUT.instrument_id, -2)
        assert sell.limit_ticks < sell.reference_px / 0.0005 < sell.limit_ticks + 5
        assert buy.limit_ticks > buy.reference_px / 0.0005 > buy.limit_ticks - 5
        assert "as asked; costs 1.00, worth 2.00" in buy.reason
        decision = driver.desk.decision
        assert decision is not None
        assert [NAME in text for text in decision.option_orders] == [True, False]

    def test_what_is_under_way_may_move_net_delta_or_not_and_is_hedged_once_it_is_there(self) -> None:
        driver = OptionDriver({NAME: 20.0}, half_base=1.0)
        commands = driver.tick(after_s=11.0)
        assert len(commands) == 1, "options first"
        assert driver.desk.decision.refusal is Refusal.ORDER_IN_FLIGHT  # type: ignore[union-attr]
        intent = commands[0].intent  # type: ignore[union-attr]
        driver.tick()
        view = driver.policy.views[-1]
        alone = view.greeks.delta_base
        assert view.delta_low_base == pytest.approx(alone)
        assert view.delta_high_base - alone == pytest.approx(20.0 * driver.desk.book.pending_delta_base(driver.held()))
        driver.cancel(intent)
        driver.tick()
        assert driver.policy.views[-1].delta_high_base == pytest.approx(driver.policy.views[-1].delta_low_base)

    @pytest.mark.parametrize(
        ("action", "refusal"), [(OperatorAction.PAUSE, Refusal.PAUSED), (OperatorAction.HALT, Refusal.HALTED)]
    )
    def test_a_stopped_bot_trades_none(self, action: OperatorAction, refusal: Refusal) -> None:
        driver = OptionDriver({NAME: 5.0})
        driver.show()
        driver.operate(action)
        assert driver.review() == []
        assert driver.engine.refusals[refusal] >= 1
        assert refusal in driver.desk.option_refusal

    def test_only_what_makes_a_position_smaller_is_traded_in_reduce_only(self) -> None:
        driver = OptionDriver({NAME: 5.0})
        driver.buy()
        driver.policy.wanted = {NAME: 6.0, PUT.instrument_id: 1.0}
        driver.operate(OperatorAction.REDUCE_ONLY)
        assert driver.review() == []
        assert driver.engine.refusals[Refusal.REDUCE_ONLY] == 2
        driver.policy.wanted = {NAME: -3.0}
        (intent,) = driver.review()
        assert (intent.qty_lots, intent.reduce_only) == (-5, True)

    def test_the_order_rate_and_a_venue_that_is_down_hold(self) -> None:
        driver = OptionDriver(
            {NAME: 5.0, PUT.instrument_id: 5.0}, limits=msgspec.structs.replace(LIMITS, max_orders_per_min=1)
        )
        assert len(driver.review()) == 1
        assert driver.engine.refusals == {Refusal.ORDER_RATE: 1}
        driver = OptionDriver({NAME: 5.0})
        driver.apply(VenueStatus("sim", VenueHealth.DOWN, "gone", driver.now_ns))
        assert driver.review() == []

    def test_rejected_options_are_left_alone_for_a_while_and_halt_nothing(self) -> None:
        driver = OptionDriver({NAME: 5.0}, limits=msgspec.structs.replace(LIMITS, max_reject_streak=2))
        for _ in range(2):
            driver.reject(driver.review()[0])
        assert driver.review() == []
        assert driver.engine.refusals == {Refusal.VENUE_REFUSING: 1}
        assert driver.engine.state is BotState.RUNNING

    def test_what_was_not_offered_or_is_no_quantity_is_a_bad_target(self) -> None:
        driver = OptionDriver({NAME: nan})
        assert driver.review() == []
        assert driver.engine.refusals == {Refusal.BAD_TARGET: 1}

    def test_a_policy_that_needs_no_offers_sees_none(self) -> None:
        quiet = Asking({NAME: 5.0})
        quiet.needs_offers = False
        driver = OptionDriver({})
        driver.engine = Engine(msgspec.structs.replace(driver.engine.settings, policy=quiet))
        driver.tick()
        assert quiet.views[-1].offers is None


class TestLedger:
    def test_a_fill_is_paid_from_the_hedges_own_ledger(self) -> None:
        driver = OptionDriver({})
        driver.tick()
        before, alone = driver.engine.equity_quote(), driver.engine.unhedged_pnl_quote()
        coins = driver.desk.book.book_delta_base()
        driver.policy.wanted = {NAME: 5.0}
        intent = driver.buy(fee_settle=0.0015)
        px = intent.limit_ticks * 0.0005
        holding = driver.held()
        assert (holding.lots, holding.cash_settle) == (5, pytest.approx(-5 * px - 0.0015))
        book = driver.desk.book
        pnl = driver.engine.pnl()
        assert pnl.fees == pytest.approx(-0.0015 * 2000.0)
        assert pnl.slippage == pytest.approx(5 * (book.hedge_mark_px(holding) - px) * 2000.0)
        assert pnl.unexplained == pytest.approx(0.0, abs=0.2)
        assert driver.engine.unhedged_pnl_quote() == pytest.approx(alone, abs=0.05), "11 seconds of theta, no more"
        assert driver.engine.equity_quote() == pytest.approx(before + pnl.slippage + pnl.fees, abs=0.05)
        assert book.book_delta_base() == pytest.approx(coins, abs=1e-2)
        (mark,) = driver.engine.hedge_marks
        assert (mark.instrument_id, mark.qty_base, mark.px) == (NAME, 5.0, pytest.approx(px * 2000.0))
        assert mark.cost_quote == pytest.approx(-pnl.fees - pnl.slippage)
        assert driver.engine.turnover_quote == pytest.approx(5 * px * 2000.0)
        assert_adds_up(driver)

    @pytest.mark.parametrize("numeraire", ["USD", "ETH"])
    @pytest.mark.parametrize("name", [NAME, MONEY_CALL.instrument_id])
    def test_parts_add_up_through_moves_trades_and_settlement(self, numeraire: str, name: str) -> None:
        driver = OptionDriver({name: 5.0}, numeraire=numeraire, half_base=1.0, qty_base=-20.0)
        for step, px in enumerate([2000.0, 2012.0, 1988.0, 2050.0, 2100.0]):
            for command in driver.tick(px, 0.6 + 0.01 * step, after_s=11.0):
                intent = command.intent  # type: ignore[union-attr]
                tick = driver.engine.holdings.instruments[intent.instrument_id].tick_schedule.tick_px
                driver.fill(intent, px=intent.limit_ticks * tick, fee_settle=0.01)
            assert_adds_up(driver)
        assert driver.held(name).lots == 5
        driver.policy.half_base = 1e9
        driver.tick(2100.0, 0.64)
        view = driver.policy.views[-1]
        assert view.greeks.value_quote == pytest.approx(driver.engine.equity_quote())
        driver.apply(driver.settlement(CALL.expiry_ns, 2300.0))
        assert driver.held(name).lots == 0
        assert_adds_up(driver)
        assert len(driver.desk.book.option_qty_base) == 0

    def test_at_expiry_the_payoff_comes_in_the_coin_or_in_money(self) -> None:
        for name, payoff in ((NAME, 5 * 200.0 / 2300.0), (MONEY_CALL.instrument_id, 5 * 200.0)):
            driver = OptionDriver({name: 5.0})
            (intent,) = driver.review()
            driver.fill(intent, px=0.0)
            book_cash = driver.desk.book.quote_cash, driver.desk.book.coin_cash
            driver.apply(driver.settlement(CALL.expiry_ns, 2300.0))
            assert driver.held(name).cash_settle == pytest.approx(payoff)
            assert driver.desk.book.coin_cash == pytest.approx(book_cash[1] - 10 * 300.0 / 2300.0)

    @pytest.mark.parametrize("numeraire", ["USD", "ETH"])
    @pytest.mark.parametrize("option", [CALL, MONEY_CALL])
    def test_a_trade_at_the_mark_changes_the_net_greeks_as_the_offer_said(self, numeraire: str, option: Option) -> None:
        name = option.instrument_id
        driver = OptionDriver({}, numeraire=numeraire)
        driver.tick()
        driver.policy.wanted = {name: 5.0}
        (intent,) = driver.review()
        view = driver.policy.views[-1]
        assert view.offers is not None
        row = view.offers.instrument_ids.index(name)
        driver.fill(intent, px=driver.desk.book.hedge_mark_px(driver.held(name)))
        driver.show()
        driver.decide()
        before, after = view.greeks, driver.policy.views[-1].greeks
        assert after.value_quote == pytest.approx(before.value_quote, abs=1e-6)
        assert after.delta_base - before.delta_base == pytest.approx(5 * view.offers.delta_ratio[row], rel=1e-6)
        gained_gamma = after.gamma_base_per_px - before.gamma_base_per_px
        assert gained_gamma == pytest.approx(5 * view.offers.gamma_per_px[row], rel=1e-6)
        gained_vega = after.vega_quote_per_vol - before.vega_quote_per_vol
        assert gained_vega == pytest.approx(5 * view.offers.vega_quote_per_vol[row], rel=1e-6)
        assert driver.policy.views[-1].hedge_base == 0.0

    def test_an_order_that_comes_back_unfilled_leaves_no_leg_behind(self) -> None:
        driver = OptionDriver({NAME: 5.0})
        (intent,) = driver.review()
        assert len(driver.desk.book.option_qty_base) == 2
        driver.cancel(intent)
        driver.policy.wanted = {}
        driver.tick()
        assert len(driver.desk.book.option_qty_base) == 1
        assert_adds_up(driver)

    def test_a_late_fill_without_a_fresh_quote_is_held_and_marked_by_what_is_known(self) -> None:
        driver = OptionDriver({NAME: 5.0})
        (intent,) = driver.review()
        driver.apply(OrderTruth(intent.order_id, OrderState.EXPIRED, (), driver.now_ns, driver.now_ns))
        driver.policy.wanted = {}
        driver.tick()
        driver.show_only_the_book(after_s=700.0)
        driver.decide()
        driver.apply(make_fill(intent, "late", 5, 0.04, 0.0, driver.now_ns))
        assert driver.decide() == []
        assert driver.desk.decision is not None
        assert driver.desk.decision.refusal is None
        assert driver.held().lots == 5
        assert driver.desk.book.hedge_mark_px(driver.held()) != 0.04
        assert_adds_up(driver)
        driver.tick()
        assert driver.desk.decision.refusal is None
        assert_adds_up(driver)

    def test_a_fill_that_is_no_more_is_taken_out_of_everything(self) -> None:
        driver = OptionDriver({NAME: 5.0})
        driver.buy(fee_settle=0.01)
        driver.apply(FillReversed("t1", "a1b2c3d4e5-1", NAME, "busted", driver.now_ns, driver.now_ns))
        assert (driver.held().lots, driver.held().cash_settle) == (0, pytest.approx(0.0))
        pnl = driver.engine.pnl()
        assert (pnl.fees, pnl.slippage) == (pytest.approx(0.0), pytest.approx(0.0))
        assert driver.engine.turnover_quote == pytest.approx(0.0)
        assert_adds_up(driver)

    def test_an_unknown_outcome_is_asked_about_and_survives_a_restart(self) -> None:
        driver = OptionDriver({NAME: 5.0})
        (intent,) = driver.review()
        driver.apply(OutcomeLost(intent.order_id, "timeout", driver.now_ns), Restarted(driver.now_ns))
        driver.tick()
        driver.tick()
        assert driver.engine.orders.orders[intent.order_id].state is OrderState.UNKNOWN
        fill = make_fill(intent, "t9", 5, 0.04, 0.0, driver.now_ns)
        driver.apply(OrderTruth(intent.order_id, OrderState.FILLED, (fill,), driver.now_ns, driver.now_ns))
        assert driver.held().lots == 5
        assert_adds_up(driver)


NEAR_CALL, FAR_CALL = coin_option(2100.0, days=20.0), coin_option(2100.0, days=60.0)


class TestWithoutQuotes:
    """A hedge of another expiry than the book's, which nobody quotes any more."""

    def driver(self, wanted: float = 5.0, **changes: object) -> OptionDriver:
        driver = OptionDriver({FAR_CALL.instrument_id: wanted}, more=(FAR_CALL, NEAR_CALL), half_base=1.0, **changes)
        for command in driver.tick(after_s=11.0):
            driver.fill(command.intent, px=0.1 if "PERP" not in command.intent.instrument_id else 2000.0)  # type: ignore[union-attr]
        return driver

    def test_it_never_stops_the_hedging_and_is_marked_where_the_market_went(self) -> None:
        driver = self.driver()
        book, held = driver.desk.book, driver.held(FAR_CALL.instrument_id)
        assert held.lots == 5
        for _ in range(60):
            driver.show_only_the_book(2100.0, after_s=15.0)
            for command in driver.decide():
                driver.fill(command.intent, px=2100.0)  # type: ignore[union-attr]
            decision = driver.desk.decision
            assert decision is not None
            assert decision.refusal is None, decision.refusal_detail
        marks = book.option_marks
        assert marks is not None
        assert marks.forward_px[held.row] == pytest.approx(2100.0)
        tau = np.array([(FAR_CALL.expiry_ns - driver.now_ns) / (365 * NS_PER_DAY)])
        worth = greeks(np.array([2100.0]), np.array([2100.0]), tau, np.array([0.6]), np.array([True]))
        assert book.hedge_mark_px(held) * 2100.0 == pytest.approx(float(worth.value[0]), rel=1e-4)
        assert decision.greeks.delta_base == pytest.approx(book.net_greeks(is_coin_numeraire=False).delta_base)
        assert abs(decision.greeks.delta_base) <= 1.2, "hedged with the delta of the option in it"
        assert_adds_up(driver)

    def test_its_age_is_told_once_it_is_old_and_no_more_when_it_is_quoted_again(self) -> None:
        driver = self.driver()
        for minutes, told in ((11, 0), (18, 0), (2, 1)):
            driver.show_only_the_book(after_s=60.0 * minutes)
            driver.decide()
            assert driver.desk.decision is not None
            assert len(driver.desk.decision.old_marks) == told
        assert driver.desk.decision.old_marks[0].endswith("marked by the surface: its own quote is 31 min old")
        assert driver.desk.book.unquoted_hedge_ns == {FAR_CALL.instrument_id: 31 * 60 * NS_PER_S}
        driver.tick()
        assert driver.desk.decision.old_marks == ()
        driver.tick()
        assert driver.desk.book.interpolated_legs == 0

    def test_a_leg_of_the_book_still_needs_its_forward(self) -> None:
        driver = self.driver()
        driver.wait(700.0)
        driver.apply(
            driver.index(2000.0),
            driver.quote(driver.desk.settings.instrument, 2000.0),
            driver.vol(FAR_CALL, 0.6, 2000.0),
        )
        driver.decide()
        assert driver.desk.decision is not None
        assert driver.desk.decision.refusal is Refusal.STALE_FORWARD
        driver.apply(driver.vol(NEAR_CALL, 0.6, 2000.0))
        driver.wait(1.0)
        driver.decide()
        assert driver.desk.decision.refusal is Refusal.NO_VOL, "the forwards around it would do, but no vol is close"

    def test_or_one_between_those_of_fresh_expiries_before_and_after_it(self) -> None:
        driver = OptionDriver({}, book_option=CALL, more=(FAR_CALL, NEAR_CALL))
        driver.tick()
        driver.wait(700.0)
        driver.apply(driver.index(2050.0), driver.quote(driver.desk.settings.instrument, 2050.0))
        driver.apply(driver.vol(NEAR_CALL, 0.6, 2050.0), driver.vol(FAR_CALL, 0.6, 2050.0))
        driver.decide()
        decision, marks = driver.desk.decision, driver.desk.book.option_marks
        assert decision is not None
        assert decision.refusal is None, decision.refusal_detail
        assert marks is not None
        assert (marks.forward_px[0], marks.vol[0]) == (pytest.approx(2050.0), pytest.approx(0.6))

    def test_an_expired_one_that_waits_for_its_price_does_not_stop_the_hedging_either(self) -> None:
        driver = OptionDriver({NAME: 5.0}, book_option=FAR_CALL, more=(FAR_CALL,))
        driver.buy()
        driver.now_ns = CALL.expiry_ns + NS_PER_DAY
        driver.tick()
        assert driver.desk.decision is not None
        assert driver.desk.decision.refusal is None
        assert "has waited 1440 min for its settlement price" in driver.desk.decision.old_marks[0]

    @pytest.mark.parametrize("numeraire", ["USD", "ETH"])
    def test_what_the_book_would_have_earned_alone_is_the_same_with_and_without(self, numeraire: str) -> None:
        alone = []
        for wanted in (5.0, 0.0):
            driver = OptionDriver(
                {FAR_CALL.instrument_id: wanted}, more=(FAR_CALL,), half_base=1.0, numeraire=numeraire
            )
            rng = np.random.default_rng(3)
            px, vol, seen = 2000.0, 0.6, []
            for step in range(120):
                px *= float(np.exp(0.004 * rng.standard_normal()))
                vol = max(0.3, vol + 0.005 * float(rng.standard_normal()))
                driver.wait(15.0)
                if 20 < step < 90:
                    driver.show_only_the_book(px, vol)
                else:
                    driver.show(px, vol)
                for command in driver.decide():
                    intent = command.intent  # type: ignore[union-attr]
                    tick = driver.engine.holdings.instruments[intent.instrument_id].tick_schedule.tick_px
                    driver.fill(intent, px=intent.limit_ticks * tick)
                seen.append(driver.engine.unhedged_pnl_quote())
            driver.engine.close_steps(driver.now_ns)
            assert driver.engine.refusals == ({Refusal.ORDER_IN_FLIGHT: 1} if wanted else {})
            assert_adds_up(driver)
            driver.apply(driver.settlement(BOOK_CALL.expiry_ns, px))
            alone.append([*seen, driver.engine.unhedged_pnl_quote()])
        assert alone[0] == pytest.approx(alone[1], abs=1e-6)


class Smiling(OptionDriver):
    """Options whose vol falls by 4 points per tenth of ln(strike/forward), in two expiries."""

    def vol(self, leg: Option, vol: float, forward_px: float) -> VolQuote:
        return super().vol(leg, vol - 0.4 * float(np.log(leg.strike_px / forward_px)), forward_px)


class TestSmileDeltas:
    @pytest.mark.parametrize("days", [30.0, 60.0], ids=["the book's expiry", "another"])
    @pytest.mark.parametrize("numeraire", ["USD", "ETH"])
    def test_offers_have_the_delta_of_the_model_and_so_has_what_is_bought(self, days: float, numeraire: str) -> None:
        strikes = (1700.0, 1800.0, 1900.0, 2000.0, 2200.0, 2300.0)
        wing = tuple(coin_option(one, days=days) for one in strikes if (one, days) != (2000.0, 30.0))
        wanted = CALL if days == 30.0 else coin_option(2100.0, days=days)
        sticky = DeltaSettings(model="sticky_delta", is_gated=False)
        driver = Smiling({}, more=(*wing, wanted), delta=sticky, numeraire=numeraire)
        driver.tick()
        for _ in range(3):
            driver.tick(after_s=65.0)
        view = driver.policy.views[-1]
        assert view.offers is not None
        row = view.offers.instrument_ids.index(wanted.instrument_id)
        terms = view.offers.terms
        value = greeks(terms.forward_px, terms.strike_px, terms.tau_years, terms.vol, terms.is_call)
        black = float(value.delta[row] - value.value[row] / 2000.0)
        expected = 0.4 * float(value.vega[row]) / 2000.0
        assert view.offers.delta_ratio[row] - black == pytest.approx(expected, rel=0.05)
        driver.policy.wanted = {wanted.instrument_id: 5.0}
        (intent,) = driver.review()
        before = driver.policy.views[-1]
        assert before.offers is not None
        offered = float(before.offers.delta_ratio[before.offers.instrument_ids.index(wanted.instrument_id)])
        holding = driver.held(wanted.instrument_id)
        assert driver.desk.book.pending_delta_base(holding) == pytest.approx(offered, rel=1e-3)
        driver.fill(intent, px=driver.desk.book.hedge_mark_px(holding))
        driver.show()
        driver.decide()
        gained_base = driver.policy.views[-1].greeks.delta_base - before.greeks.delta_base
        assert gained_base == pytest.approx(5 * offered, rel=1e-3)


class TestSelling:
    def test_nothing_is_sold_that_was_not_bought_unless_the_vault_says_so(self) -> None:
        driver = OptionDriver({}, rules=replaced(may_sell=False), qty_base=10.0)
        driver.tick()
        driver.review()
        assert "uncovered_sale: ETH is long gamma" in driver.desk.option_refusal
        driver.policy.wanted = {NAME: -5.0}
        assert driver.review() == []
        assert "option_hedges.may_sell allows it" in driver.desk.option_refusal
        offers = driver.policy.views[-1].offers
        assert offers is not None
        assert not offers.sell_max_base.any()
        assert offers.buy_max_base.all()
        assert driver.engine.refusals == {Refusal.UNCOVERED_SALE: 1}

    def test_what_was_bought_may_be_sold_down_to_nothing_and_no_further(self) -> None:
        driver = OptionDriver({NAME: 5.0}, rules=replaced(may_sell=False))
        driver.buy()
        driver.policy.wanted = {NAME: -3.0}
        (intent,) = driver.review()
        assert intent.qty_lots == -5
        driver.fill(intent, px=intent.limit_ticks * COIN_TICKS.tick_px)
        assert driver.review() == []

    def test_what_was_sold_may_be_bought_back(self) -> None:
        driver = OptionDriver({NAME: -5.0})
        driver.buy()
        driver.policy.wanted = {NAME: 0.0}
        assert [one.qty_lots for one in driver.review()] == [5]


RICH = RiskSettings(accounts={"sim": account(1e6)})


class TestMargin:
    """What is sold needs head-room where margin is reckoned; what releases margin never does."""

    @pytest.mark.parametrize(("share", "says"), [(0.0, []), (0.5, [-4]), (2.0, [-8])])
    def test_a_sale_is_cut_to_what_margin_allows_and_refused_without_any(self, share: float, says: list[int]) -> None:
        """The account is left with room for this share of what is asked for."""
        rules = replaced(may_sell=True)
        before, after = (OptionDriver({NAME: -lots}, rules=rules, risk=RICH) for lots in (0.0, 8.0))
        for driver in (before, after):
            for intent in driver.review():
                driver.fill(intent, px=intent.limit_ticks * COIN_TICKS.tick_px)
            driver.tick()
        first, last = (one.engine.margin.accounts["sim"] for one in (before, after))  # type: ignore[union-attr]
        initial = first.figures.initial + share * (last.figures.initial - first.figures.initial)
        driver = OptionDriver({}, rules=rules, risk=RICH)
        driver.tick()
        driver.policy.wanted = {NAME: -8.0}
        margin = driver.engine.margin
        assert margin is not None
        margin.accounts["sim"].balances = {"USD": (initial + 1.0) / 0.9}
        margin.note_change()
        sold = [one.qty_lots for one in driver.review()]
        assert sold == pytest.approx(says, abs=1)
        if not says:
            assert "margin_limit: " in driver.desk.option_refusal
            assert "limit 90%" in driver.desk.option_refusal
            assert driver.engine.refusals[Refusal.MARGIN_LIMIT] == 1
        assert margin.cuts["sim"] == (share < 1.0)

    def test_what_was_sold_is_bought_back_whatever_is_posted(self) -> None:
        driver = OptionDriver({NAME: -5.0}, risk=RICH)
        driver.buy()
        assert driver.engine.margin is not None
        driver.engine.margin.accounts["sim"].balances = {"USD": 1.0}
        driver.engine.margin.note_change()
        driver.policy.wanted = {NAME: 0.0}
        assert [one.qty_lots for one in driver.review()] == [5]


class TestVenueLimits:
    def test_options_count_with_their_delta_or_worth_and_leave_less_to_the_perpetual(self) -> None:
        driver = OptionDriver({NAME: 40.0}, venue_limits={"sim": 20_000.0})
        (intent,) = driver.review()
        row = driver.desk.book.hedge_exposure_quote(driver.held())
        assert row == pytest.approx(abs(driver.desk.book.pending_delta_base(driver.held())) * 2000.0, rel=0.15)
        assert intent.qty_lots == int(20_000.0 / row)
        taken_quote = driver.engine.option_hedges.exposure_quote()["sim"]
        assert taken_quote == pytest.approx(intent.qty_lots * row)
        assert driver.engine.ordering.venue_limits()["sim"] == pytest.approx(20_000.0 - taken_quote)
        driver.fill(intent, px=intent.limit_ticks * COIN_TICKS.tick_px)
        driver.policy.wanted, driver.policy.half_base = {}, 0.05
        driver.tick()
        decision = driver.desk.decision
        assert decision is not None
        assert decision.wanted_lots < decision.qty_lots < 0, "cut"
        assert -decision.qty_lots == int((20_000.0 - driver.engine.option_hedges.exposure_quote()["sim"]) / 200.0)

    def test_the_perpetual_leaves_less_to_options_but_they_may_always_be_closed(self) -> None:
        driver = OptionDriver({}, venue_limits={"sim": 20_000.0}, half_base=0.05)
        for command in driver.tick():
            driver.fill(command.intent, px=2000.0)  # type: ignore[union-attr]
        linear_quote = abs(driver.desk.hedge.lots) * 0.1 * 2000.0
        assert linear_quote > 10_000.0
        driver.policy.half_base = 1e9
        driver.policy.wanted = {NAME: 40.0}
        (intent,) = driver.review()
        driver.fill(intent, px=intent.limit_ticks * COIN_TICKS.tick_px)
        used_quote = linear_quote + driver.engine.option_hedges.exposure_quote()["sim"]
        assert 20_000.0 - driver.desk.book.hedge_exposure_quote(driver.held()) < used_quote <= 20_000.0
        driver.policy.wanted = {NAME: 60.0}
        assert driver.review() == []
        driver.policy.wanted = {NAME: 0.0}
        assert [one.qty_lots for one in driver.review()] == [-driver.held().lots]

    def test_trades_of_one_decision_share_what_is_left(self) -> None:
        driver = OptionDriver({NAME: 40.0, PUT.instrument_id: 40.0}, venue_limits={"sim": 20_000.0})
        assert len(driver.review()) == 1
        assert driver.engine.refusals == {Refusal.BELOW_MINIMUM: 1}


def report(driver: OptionDriver, lots: int | None, others: tuple[VenuePosition, ...] = ()) -> None:
    """Tell of the account at once: so much of the option, and nothing else but `others`."""
    driver.wait(3.0)
    ours = () if lots is None else (VenuePosition(NAME, lots, 0.04),)
    driver.apply(AccountReport("sim", (*ours, *others), (), {}, driver.now_ns, driver.now_ns))


class TestAccounts:
    def test_what_we_bought_is_known_and_a_difference_is_adopted_after_three_reports(self) -> None:
        driver = OptionDriver({NAME: 5.0}, account_venues=frozenset({"sim"}))
        report(driver, None)
        driver.buy()
        report(driver, 5)
        assert driver.engine.accounts.mismatches == {}
        assert driver.engine.foreign.unclaimed["sim"] == ()
        report(driver, 7)
        assert driver.engine.accounts.mismatches[NAME].lots == 2
        driver.tick()
        view = driver.policy.views[-1]
        assert view.delta_high_base > view.delta_low_base
        report(driver, 7)
        report(driver, 7)
        assert driver.held().lots == 7
        assert "adopted" in driver.engine.alert
        assert_adds_up(driver)

    def test_where_the_account_is_the_book_what_we_bought_is_not_counted_twice(self) -> None:
        driver = OptionDriver({}, account_venues=frozenset({"sim"}), account_book=frozenset({"sim"}))
        others = (VenuePosition(PUT.instrument_id, -4, 0.04),)
        report(driver, 3, others)
        driver.tick()
        assert driver.desk.book.options[NAME][1] == 3.0
        driver.policy.wanted = {NAME: 5.0}
        driver.buy()
        report(driver, 8, others)
        driver.tick()
        assert driver.desk.book.options[NAME][1] == 3.0
        assert driver.held().lots == 5
        assert driver.desk.book.options[PUT.instrument_id][1] == -4.0
        report(driver, None, others)  # somebody closed all of it: the account is the truth about the sum
        driver.tick()
        assert driver.desk.book.options[NAME][1] == -5.0
        assert_adds_up(driver)

    def test_an_account_that_was_asked_before_a_fill_does_not_make_a_book_of_it(self) -> None:
        driver = OptionDriver({NAME: 5.0}, account_venues=frozenset({"sim"}), account_book=frozenset({"sim"}))
        report(driver, None)
        (intent,) = driver.review()
        report(driver, 5)  # filled there, not yet told here
        driver.fill(intent, px=0.04)
        driver.tick()
        assert NAME not in driver.desk.book.options
        assert driver.held().lots == 5


def test_an_option_with_no_time_left_is_left_alone_by_every_review() -> None:
    driver = OptionDriver({NAME: 5.0}, rules=replaced(min_ns=0))
    driver.now_ns = CALL.expiry_ns - 5 * NS_PER_S
    assert driver.review() == []
    assert driver.now_ns > T0_NS
    assert COIN_TICKS.tick_px == 0.0005
