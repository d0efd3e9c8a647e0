"""The engine from events to commands: what it sends, what it refuses and why, and what it counts while it waits."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import Any

import msgspec
import numpy as np
import pytest

from bot.domain.decisions import BotState, Decision, HedgeTarget, HedgeView, Peer, Refusal
from bot.domain.events import CancelOrder, Command, OperatorAction, QueryOrder, Restarted, SubmitOrder
from bot.domain.instruments import Payoff
from bot.domain.orders import OrderIntent, OrderState, OrderTruth, OutcomeLost, TimeInForce
from bot.domain.units import NS_PER_DAY, NS_PER_S, NS_PER_YEAR
from bot.engine.settings import BookLeg, HedgeSettings
from bot.pricing.black76 import greeks
from strategies import DeltaBand, FixedInterval, Unhedged, WhalleyWilmott
from tests.engine.builders import (
    CALL,
    INVERSE,
    LIMITS,
    PERPETUAL,
    PUT,
    T0_NS,
    Driver,
    future,
    linear_perpetual,
    make_intent,
    make_settings,
    only_intent,
    option,
)

R = Refusal
B = BotState
WIDE = WhalleyWilmott(risk_aversion_per_quote=1e-7)
CENTRE = DeltaBand(half_width_base=0.1, trade_to="centre")
COINS = (BookLeg(CALL, -1e-12),)


def driver_of(*legs: BookLeg, **changes: Any) -> Driver:
    return Driver(make_settings(legs or (BookLeg(CALL, -10.0), BookLeg(PUT, -10.0)), **changes))


def with_coins(coins: float = 10.0, **changes: Any) -> Driver:
    """Return a driver of plain coins, whose delta is known to the last digit: hedging sells perpetuals."""
    return Driver(make_settings(COINS, cash={"ETH": coins}, **changes))


def limited(**changes: Any) -> dict[str, Any]:
    return {"limits": msgspec.structs.replace(LIMITS, **changes)}


def decision_of(driver: Driver, underlying: str = "ETH") -> Decision:
    decision = driver.engine.desks[underlying].decision
    assert decision is not None
    return decision


def refusal_of(driver: Driver, underlying: str = "ETH") -> Refusal | None:
    return decision_of(driver, underlying).refusal


class TestHedging:
    def test_sells_what_is_above_the_band_down_to_its_edge(self) -> None:
        intent = only_intent(with_coins().tick())
        assert intent.qty_lots == -90
        assert (intent.instrument_id, intent.time_in_force) == ("ETH-PERPETUAL", TimeInForce.IOC)
        assert intent.limit_ticks == int(1999.95 * (1 - 0.0025) / 0.01)
        assert intent.reference_px == 2000.0

    def test_buys_what_is_below(self) -> None:
        intent = only_intent(with_coins(-10.0).tick())
        assert intent.qty_lots == 90
        assert intent.limit_ticks == int(2000.05 * 1.0025 / 0.01) + 1

    def test_inside_its_band_nothing_is_done_and_nothing_refused(self) -> None:
        driver = with_coins(0.9)
        assert driver.tick() == []
        assert decision_of(driver).refusal is None
        assert driver.engine.refusals == {}

    def test_a_filled_hedge_leaves_the_delta_on_the_edge(self) -> None:
        driver = with_coins()
        driver.hedge()
        assert driver.tick() == []
        assert decision_of(driver).delta_low_base == pytest.approx(1.0)
        assert decision_of(driver).hedge_base == pytest.approx(-9.0)

    def test_an_inverse_hedge_counts_its_lots_in_coins(self) -> None:
        driver = with_coins(hedge=INVERSE, policy=CENTRE)
        intent = driver.hedge(px=2000.0)
        assert intent.qty_lots == -10 * 2000 / 10
        assert driver.tick() == []
        assert decision_of(driver).delta_low_base == pytest.approx(0.0, abs=1e-8)

    def test_the_reason_holds_the_figures(self) -> None:
        reason = only_intent(with_coins().tick()).reason
        for figure in ("+10.000", "[-1.000, +1.000]", "band ±1", "expected cost 9.4"):
            assert figure in reason, reason

    def test_a_policy_that_holds_is_obeyed(self) -> None:
        driver = with_coins(policy=Unhedged())
        assert driver.tick() == []
        assert decision_of(driver).policy_reason == "unhedged by policy"

    def test_each_underlying_is_hedged_by_itself(self) -> None:
        driver = two_underlyings()
        commands = driver.tick_both()
        assert [c.intent.qty_lots for c in commands if isinstance(c, SubmitOrder)] == [-90, 190]
        assert decision_of(driver, "BTC").delta_low_base == pytest.approx(-20.0)

    @pytest.mark.parametrize(
        "leg", [BookLeg(PERPETUAL, 5.0), BookLeg(INVERSE, 5.0), BookLeg(future(T0_NS + 9 * NS_PER_DAY), 5.0)]
    )
    def test_linear_and_inverse_legs_are_hedged_too(self, leg: BookLeg) -> None:
        driver = driver_of(leg, policy=CENTRE)
        assert only_intent(driver.tick()).qty_lots == -50

    def test_after_everything_expired_the_hedge_is_closed(self) -> None:
        driver = driver_of(BookLeg(option(1500.0, days=1.0, settle="USD"), -10.0), policy=CENTRE)
        driver.hedge()
        driver.now_ns = T0_NS + NS_PER_DAY
        driver.show()
        driver.apply(driver.settlement(T0_NS + NS_PER_DAY, 2000.0))
        intent = only_intent(driver.decide())
        assert intent.qty_lots == -100
        assert intent.reduce_only, "it only shrinks the hedge position"
        driver.fill(intent)
        assert driver.tick() == []

    def test_reduce_only_is_asked_only_for_an_order_that_shrinks_the_hedge(self) -> None:
        driver = with_coins(policy=CENTRE)
        assert not driver.hedge().reduce_only
        desk = driver.engine.desks["ETH"]
        desk.book.coin_cash = 4.0
        assert driver.hedge().reduce_only
        desk.book.coin_cash = -9.0
        assert not driver.hedge().reduce_only, "past zero it would be refused by the venue"


class TwoUnderlyings(Driver):
    """ETH and BTC, each shown at its own price."""

    def show_eth(self, px: float = 2000.0) -> None:
        self.apply(self.index(px), self.quote(PERPETUAL, px), self.vol(CALL, 0.6, px))

    def show_btc(self, px: float = 30_000.0) -> None:
        legs = [leg.instrument for leg in self.engine.settings.book if leg.instrument.base == "BTC"]
        self.apply(*self.sweep([linear_perpetual("BTC"), *legs], px, 0.5))

    def tick_both(self, eth_px: float = 2000.0, btc_px: float = 30_000.0) -> list[Command]:
        self.wait(1.0)
        self.show_eth(eth_px)
        self.show_btc(btc_px)
        return self.decide()


def two_underlyings(btc_legs: tuple[BookLeg, ...] = (), **changes: Any) -> TwoUnderlyings:
    btc = linear_perpetual("BTC")
    hedges = {one.base: (HedgeSettings(instrument=one, maker_bps=0, taker_bps=5),) for one in (PERPETUAL, btc)}
    cash = {"ETH": 10.0, "BTC": -20.0}
    return TwoUnderlyings(make_settings((*COINS, *btc_legs), hedges=hedges, **{"cash": cash} | changes))


class TestPeers:
    """Underlyings that move together are shown to each other's policy."""

    def driver(self, **changes: Any) -> TwoUnderlyings:
        legs = (BookLeg(CALL, -10.0), BookLeg(option(30_000.0, base="BTC"), -5.0))
        driver = two_underlyings(legs, policy=WIDE, cash={}, **changes)
        driver.tick_both()
        return driver

    def move(self, driver: TwoUnderlyings, beats: int, together: float = 1.0) -> None:
        eth_px, btc_px = 2000.0, 30_000.0
        for move in np.random.default_rng(3).standard_normal(beats).tolist():
            driver.wait(300.0)
            eth_px *= 1.0 + 1e-3 * move
            btc_px *= 1.0 + 1e-3 * move * together
            driver.tick_both(eth_px, btc_px)

    def peers(self, driver: TwoUnderlyings) -> tuple[Peer, ...]:
        engine = driver.engine
        assert engine.correlations is not None
        return engine._peers(engine.desks["ETH"], driver.now_ns, engine.correlations)

    def test_none_before_they_were_seen_to_move_together(self) -> None:
        driver = self.driver()
        assert self.peers(driver) == ()
        self.move(driver, 40)
        (peer,) = self.peers(driver)
        assert peer.underlying == "BTC"
        assert 0.9 < peer.correlation_ratio < 1.0
        assert peer.vol == pytest.approx(0.5)
        assert peer.cost_rate == pytest.approx(5e-4, rel=0.01)

    def test_what_a_peer_is_off_by_counts_what_is_in_flight(self) -> None:
        driver = self.driver()
        self.move(driver, 40)
        desk = driver.engine.desks["BTC"]
        decision = decision_of(driver, "BTC")
        assert self.peers(driver)[0].off_base == decision.delta_low_base == decision.delta_high_base
        assert desk.residual is not None
        desk.note_residual(desk.residual.view, 1.5)
        assert self.peers(driver)[0].off_base == pytest.approx(decision.delta_low_base + 1.5)

    def test_an_order_counts_for_who_decides_after_it(self) -> None:
        driver = two_underlyings(policy=DeltaBand(half_width_base=0.5))
        commands = driver.tick_both()
        assert len(commands) == 2
        for desk in driver.engine.desks.values():
            assert desk.residual is not None
            assert abs(desk.residual.off_base) == pytest.approx(0.5, abs=0.11)

    def test_a_peer_that_is_not_decided_any_more_is_left_out(self) -> None:
        driver = self.driver()
        self.move(driver, 40)
        for _ in range(5):
            driver.wait(30.0)
            driver.show_eth()
            driver.decide()
        assert self.peers(driver) == ()

    def test_correlations_that_nothing_renews_are_no_more_used(self) -> None:
        driver = self.driver()
        self.move(driver, 40)
        assert driver.engine.correlations is not None
        driver.engine.correlations.due_ns = driver.now_ns + 10**18  # as if the index of a third one stood still
        self.move(driver, 11)
        assert len(self.peers(driver)) == 1
        self.move(driver, 1)
        assert self.peers(driver) == ()

    def test_the_reason_of_a_band_names_them(self) -> None:
        driver = self.driver()
        self.move(driver, 40)
        driver.tick_both()
        reason = decision_of(driver, "ETH").policy_reason
        assert "with BTC (+" in reason
        assert "joint gamma" in reason

    def test_a_vault_may_do_without(self) -> None:
        driver = self.driver(bands="own")
        self.move(driver, 40)
        driver.tick_both()
        assert driver.engine.correlations is None
        assert "BTC" not in decision_of(driver, "ETH").policy_reason

    def test_one_underlying_has_nothing_to_compare(self) -> None:
        assert Driver().engine.correlations is None


class TestTargets:
    @pytest.mark.parametrize(("target_base", "lots"), [(0.0, -100), (4.0, -60), (10.0, 0), (-3.5, -135)])
    def test_as_a_number(self, target_base: float, lots: int) -> None:
        self.expect(lots, HedgeSettings(instrument=PERPETUAL, maker_bps=0, taker_bps=5, target_delta_base=target_base))

    @pytest.mark.parametrize(("ratio", "lots"), [(0.0, 0), (0.5, -50), (1.0, -100), (1.5, -150)])
    def test_as_a_share_of_the_book(self, ratio: float, lots: int) -> None:
        self.expect(lots, HedgeSettings(instrument=PERPETUAL, maker_bps=0, taker_bps=5, ratio=ratio))

    def expect(self, lots: int, hedge: HedgeSettings) -> None:
        driver = with_coins(hedge=hedge, policy=CENTRE)
        commands = driver.tick()
        sent = [command.intent.qty_lots for command in commands if isinstance(command, SubmitOrder)]
        assert sent == ([lots] if lots else [])
        if lots:
            driver.fill(only_intent(commands))
        assert driver.tick() == [], "the target does not run away with the hedge"

    def test_a_band_is_around_its_target(self) -> None:
        hedge = HedgeSettings(instrument=PERPETUAL, maker_bps=0, taker_bps=5, target_delta_base=4.0)
        driver = with_coins(hedge=hedge)
        assert only_intent(driver.tick()).qty_lots == -50


class TestNumeraires:
    def test_in_coins_plain_coins_need_no_hedge(self) -> None:
        driver = with_coins(numeraire="ETH")
        assert driver.tick() == []
        assert decision_of(driver).delta_low_base == pytest.approx(0.0, abs=1e-8)

    def test_in_coins_an_option_has_its_premium_adjusted_delta(self) -> None:
        driver = driver_of(BookLeg(CALL, -10.0), numeraire="ETH", policy=CENTRE)
        driver.tick()
        g = greeks(2000.0, 2000.0, (CALL.expiry_ns - driver.now_ns) / NS_PER_YEAR, 0.6, True)
        expected = -10.0 * (float(g.delta) - float(g.value) / 2000.0)
        assert decision_of(driver).delta_low_base == pytest.approx(expected)

    def test_money_is_counted_where_the_numeraire_is(self) -> None:
        """Dollars are a short position in the coin that wealth is counted in, whichever underlying is named first."""
        driver = two_underlyings(numeraire="BTC", cash={"USD": 60_000.0})
        driver.tick_both()
        assert decision_of(driver, "BTC").delta_low_base == pytest.approx(-2.0)


class TestInFlight:
    def test_a_sent_order_counts_at_once(self) -> None:
        driver = with_coins()
        intent = only_intent(driver.tick())
        assert driver.decide() == []
        for say in (driver.send, driver.accept):
            say(intent)
            assert driver.tick() == []
            assert decision_of(driver).pending_base == pytest.approx(-9.0)
            assert decision_of(driver).delta_low_base == decision_of(driver).delta_high_base == pytest.approx(1.0)
        driver.fill(intent)
        assert driver.tick() == []
        assert decision_of(driver).pending_base == 0.0

    def test_what_is_filled_is_no_longer_pending(self) -> None:
        driver = with_coins()
        intent = only_intent(driver.tick())
        driver.fill(intent, lots=-40)
        assert driver.tick() == []
        decision = decision_of(driver)
        assert (decision.hedge_base, decision.pending_base) == (pytest.approx(-4.0), pytest.approx(-5.0))

    @pytest.mark.parametrize("end", [Driver.reject, Driver.cancel])
    def test_what_did_not_trade_is_asked_for_again_on_a_fresh_quote(self, end: Any) -> None:
        driver = with_coins()
        intent = only_intent(driver.tick())
        end(driver, intent)
        assert driver.decide() == []
        assert refusal_of(driver) is R.THIN_BOOK
        assert only_intent(driver.tick()).qty_lots == -90

    def test_one_order_per_quote_even_if_more_is_wanted(self) -> None:
        driver = with_coins()
        only_intent(driver.tick())
        driver.engine.desks["ETH"].book.coin_cash += 5.0
        assert driver.decide() == []
        assert refusal_of(driver) is R.ORDER_IN_FLIGHT
        assert only_intent(driver.tick()).qty_lots == -50

    def test_after_a_full_fill_the_same_quote_may_be_traded_on(self) -> None:
        driver = with_coins()
        driver.hedge()
        driver.engine.desks["ETH"].book.coin_cash += 5.0
        assert only_intent(driver.decide()).qty_lots == -50


class TestUnknownOutcome:
    def lost(self, **changes: Any) -> tuple[Driver, OrderIntent]:
        driver = with_coins(**changes)
        intent = only_intent(driver.tick())
        driver.apply(OutcomeLost(intent.order_id, "timeout", driver.now_ns))
        return driver, intent

    def answer(self, driver: Driver, intent: OrderIntent, state: OrderState) -> None:
        driver.apply(OrderTruth(intent.order_id, state, (), driver.now_ns, driver.now_ns))

    def test_makes_net_delta_an_interval_and_is_asked_about(self) -> None:
        driver, intent = self.lost()
        assert driver.tick() == [QueryOrder(intent.order_id, intent.instrument_id)]
        decision = decision_of(driver)
        assert (decision.delta_low_base, decision.delta_high_base) == (pytest.approx(1.0), pytest.approx(10.0))
        assert decision.refusal is R.UNKNOWN_OUTCOME
        assert "anything from 1 to 10" in decision.refusal_detail

    def test_a_lost_buy_leaves_the_upper_end_open(self) -> None:
        driver = with_coins(-10.0)
        intent = only_intent(driver.tick())
        driver.apply(OutcomeLost(intent.order_id, "timeout", driver.now_ns))
        driver.tick()
        decision = decision_of(driver)
        assert (decision.delta_low_base, decision.delta_high_base) == (pytest.approx(-10.0), pytest.approx(-1.0))

    def test_inside_the_band_at_both_ends_it_refuses_nothing(self) -> None:
        driver = with_coins(5.0, policy=DeltaBand(half_width_base=4.0))
        intent = only_intent(driver.tick())
        driver.apply(OutcomeLost(intent.order_id, "timeout", driver.now_ns))
        driver.engine.desks["ETH"].book.coin_cash = 3.0
        driver.tick()
        assert decision_of(driver).delta_low_base < decision_of(driver).delta_high_base
        assert refusal_of(driver) is None

    def test_is_asked_about_no_more_often_than_allowed(self) -> None:
        driver, _ = self.lost()
        asked = [driver.now_ns for _ in range(20) if driver.tick(after_s=0.5)]
        assert len(asked) == 5
        assert set(np.diff(asked)) == {2 * NS_PER_S}

    def test_only_what_both_ends_agree_on_is_traded(self) -> None:
        driver, _ = self.lost()
        driver.engine.desks["ETH"].book.coin_cash += 3.0
        intent = next(c.intent for c in driver.tick() if isinstance(c, SubmitOrder))
        assert intent.qty_lots == -30, "from +4 down to +1, whatever became of the ninety lots"
        assert decision_of(driver).delta_high_base == pytest.approx(13.0)

    def test_that_it_never_existed_lets_it_be_sent_again_under_a_new_id(self) -> None:
        driver, intent = self.lost()
        self.answer(driver, intent, OrderState.REJECTED)
        again = only_intent(driver.tick())
        assert again.qty_lots == intent.qty_lots
        assert again.order_id != intent.order_id

    def test_that_it_filled_closes_the_matter(self) -> None:
        driver, intent = self.lost()
        driver.fill(intent)
        assert driver.tick() == []
        assert refusal_of(driver) is None

    def test_silence_is_doubted(self) -> None:
        driver = with_coins()
        intent = only_intent(driver.tick())
        driver.accept(intent)
        assert driver.tick(after_s=5.0) == []
        assert driver.tick(after_s=0.5) == [QueryOrder(intent.order_id, intent.instrument_id)]
        assert driver.engine.orders.orders[intent.order_id].state is OrderState.UNKNOWN

    def test_a_restart_doubts_all_asks_at_once_and_waits(self) -> None:
        driver, intent = self.lost()
        assert driver.tick() == [QueryOrder(intent.order_id, intent.instrument_id)]
        driver.apply(Restarted(driver.now_ns))
        driver.engine.desks["ETH"].book.coin_cash += 30.0
        assert driver.tick(after_s=0.1) == [QueryOrder(intent.order_id, intent.instrument_id)]
        assert driver.engine.state is B.RECONCILING
        assert driver.tick(after_s=0.1) == []
        assert refusal_of(driver) is R.RECONCILING
        self.answer(driver, intent, OrderState.CANCELED)
        assert only_intent(driver.tick()).qty_lots == -390
        assert driver.engine.state is B.RUNNING

    @pytest.mark.parametrize("action", [None, OperatorAction.PAUSE])
    def test_a_resume_does_not_skip_the_asking(self, action: OperatorAction | None) -> None:
        driver = with_coins()
        intent = only_intent(driver.tick())
        driver.apply(Restarted(driver.now_ns))
        if action is not None:
            driver.operate(action)
        driver.operate(OperatorAction.RESUME)
        driver.tick()
        assert driver.engine.state is B.RECONCILING
        self.answer(driver, intent, OrderState.CANCELED)
        driver.tick()
        assert driver.engine.state is B.RUNNING


class TestInputs:
    def test_nothing_is_decided_without_a_market(self) -> None:
        driver = driver_of()
        missing = [
            (driver.index(2000.0), "no index price of ETH yet"),
            (driver.quote(PERPETUAL, 2000.0), "no quote of ETH-PERPETUAL yet"),
            (driver.vol(CALL, 0.6, 2000.0), "no forward of ETH 2023-05-03 yet"),
        ]
        for event, detail in missing:
            assert driver.decide() == []
            assert refusal_of(driver) is R.NO_MARKET
            assert decision_of(driver).refusal_detail == detail
            driver.apply(event)
        driver.decide()
        assert refusal_of(driver) is None, "the put's vol is that of the call beside it"
        assert driver.engine.refusals == {R.NO_MARKET: 3}

    @pytest.mark.parametrize(
        ("fresh", "refusal", "detail"),
        [
            ("quote vol", R.STALE_INDEX, "index of ETH is 61 s old, limit 60 s"),
            ("index vol", R.STALE_HEDGE_QUOTE, "quote of ETH-PERPETUAL is 61 s old, limit 60 s"),
        ],
    )
    def test_old_inputs_are_refused_by_name_and_age(self, fresh: str, refusal: Refusal, detail: str) -> None:
        driver = driver_of()
        driver.tick()
        driver.wait(61.0)
        if "quote" in fresh:
            driver.apply(driver.quote(PERPETUAL, 2000.0))
        if "index" in fresh:
            driver.apply(driver.index(2000.0))
        assert driver.decide() == []
        assert (decision_of(driver).refusal, decision_of(driver).refusal_detail) == (refusal, detail)

    def test_at_its_limit_an_input_still_counts(self) -> None:
        driver = driver_of()
        driver.tick()
        driver.wait(60.0)
        driver.decide()
        assert refusal_of(driver) is None

    def test_vols_too_old_are_refused(self) -> None:
        driver = driver_of()
        driver.tick()
        driver.wait(601.0)
        driver.apply(driver.index(2000.0), driver.quote(PERPETUAL, 2000.0))
        driver.decide()
        assert refusal_of(driver) is R.STALE_FORWARD
        driver.apply(driver.vol(option(2000.0), 0.6, 2000.0))
        driver.decide()
        assert refusal_of(driver) is None, "the call's fresh vol serves the put of its strike"

    def test_a_jump_stops_hedging_until_it_is_confirmed(self) -> None:
        driver = with_coins()
        driver.tick()
        assert driver.tick(px=2500.0) == []
        assert refusal_of(driver) is R.JUMP_UNCONFIRMED
        driver.tick(px=2500.0)
        assert refusal_of(driver) is not R.JUMP_UNCONFIRMED

    def test_an_expired_hedge_is_named(self) -> None:
        dated = future(T0_NS + NS_PER_DAY)
        driver = with_coins(hedge=dated)
        driver.now_ns = dated.expiry_ns - 1
        driver.tick(after_s=0.0)
        assert refusal_of(driver) is None
        driver.now_ns += 1
        assert driver.decide() == []
        assert refusal_of(driver) is R.EXPIRED_HEDGE
        assert dated.instrument_id in decision_of(driver).refusal_detail

    def test_an_old_quote_of_a_leg_is_refused(self) -> None:
        driver = driver_of(BookLeg(INVERSE, 5.0), policy=Unhedged())
        driver.tick()
        driver.wait(61.0)
        driver.apply(driver.index(2000.0), driver.quote(PERPETUAL, 2000.0))
        assert driver.decide() == []
        assert decision_of(driver).refusal_detail == "quote of ETH-INVERSE is 61 s old, limit 60 s"


class TestLimits:
    def test_an_order_is_cut_to_its_value_and_says_so(self) -> None:
        driver = with_coins(**limited(max_order_quote=10_000.0))
        intent = only_intent(driver.tick())
        assert intent.qty_lots == -50
        assert "cut from -90 lots" in intent.reason

    def test_a_lot_above_the_value_limit_is_refused(self) -> None:
        driver = with_coins(**limited(max_order_quote=199.0))
        assert driver.tick() == []
        assert refusal_of(driver) is R.ORDER_VALUE
        assert decision_of(driver).refusal_detail == "one lot is worth 200.00, limit 199.00"

    def test_an_order_is_cut_to_its_size_too(self) -> None:
        assert only_intent(with_coins(**limited(max_order_base=3.0)).tick()).qty_lots == -30
        driver = with_coins(**limited(max_order_base=0.05))
        assert driver.tick() == []
        assert refusal_of(driver) is R.ORDER_SIZE

    def test_less_than_the_venues_minimum_is_refused(self) -> None:
        driver = with_coins(2.0, hedge=linear_perpetual(min_lots=31))
        assert driver.tick() == []
        assert decision_of(driver).refusal_detail == "10 lots, the venue's minimum is 31"
        assert refusal_of(driver) is R.BELOW_MINIMUM

    def test_the_rate_counts_what_was_sent_whatever_became_of_it(self) -> None:
        driver = with_coins(**limited(max_orders_per_min=2))
        for end in (driver.reject, driver.cancel):
            end(only_intent(driver.tick()))
        assert driver.tick() == []
        assert refusal_of(driver) is R.ORDER_RATE
        assert only_intent(driver.tick(after_s=59.0)).qty_lots == -90

    def test_a_quote_far_from_the_index_is_collared(self) -> None:
        driver = with_coins()
        driver.wait(1.0)
        driver.show()
        driver.apply(driver.quote(PERPETUAL, 1950.0))
        assert driver.decide() == []
        assert refusal_of(driver) is R.PRICE_COLLAR
        assert "collar 200 bp" in decision_of(driver).refusal_detail


class TestTrips:
    """A limit that trips changes the bot's state until a person resumes."""

    def frozen(self, **changes: Any) -> tuple[Driver, list[int]]:
        """Let a venue take every order and end it unfilled, ten times; return at which tick an order was sent."""
        driver = with_coins(**changes)
        sent = []
        for n in range(10):
            commands = driver.tick()
            if commands:
                driver.cancel(only_intent(commands))
                sent.append(n)
        return driver, sent

    def test_a_hedge_loop_stops_at_five_and_only_a_resume_starts_it_again(self) -> None:
        driver, sent = self.frozen()
        assert sent == [0, 1, 2, 3, 4]
        assert driver.engine.state is B.PAUSED
        assert driver.engine.state_reason.startswith("hedge_loop: 5 hedges the same way within 5 s")
        assert driver.engine.refusals == {R.HEDGE_LOOP: 1, R.PAUSED: 4}
        driver.wait(3600.0)
        assert driver.tick() == []
        driver.operate(OperatorAction.RESUME)
        assert only_intent(driver.tick()).qty_lots == -90

    def test_a_hedge_loop_stops_a_bot_that_may_only_reduce_too(self) -> None:
        driver = with_coins()
        driver.operate(OperatorAction.REDUCE_ONLY)
        sent = 0
        for _ in range(10):
            for command in driver.tick():
                assert isinstance(command, SubmitOrder)
                driver.cancel(command.intent)
                sent += 1
        assert sent == 5
        assert driver.engine.state is B.PAUSED

    def test_hedges_that_work_are_no_loop(self) -> None:
        driver = with_coins(**limited(max_order_quote=2_000.0))
        for _ in range(9):
            driver.hedge()
        assert driver.tick() == []
        assert driver.engine.state is B.RUNNING

    def test_nor_are_hedges_towards_a_target_that_is_not_zero(self) -> None:
        hedge = HedgeSettings(instrument=PERPETUAL, maker_bps=0, taker_bps=5, target_delta_base=20.0)
        driver = with_coins(hedge=hedge, **limited(max_order_quote=2_000.0))
        for _ in range(9):
            driver.hedge()
        assert driver.engine.state is B.RUNNING

    def test_rejects_in_a_row_halt(self) -> None:
        driver = with_coins(**limited(max_hedges_same_way=50))
        for _ in range(5):
            driver.reject(only_intent(driver.tick()))
        assert driver.tick() == []
        assert driver.engine.state is B.HALTED
        assert driver.engine.state_reason == "reject_streak: 5 orders rejected in a row, limit 5: no margin"
        driver.tick()
        assert driver.engine.refusals == {R.REJECT_STREAK: 1, R.HALTED: 1}
        driver.operate(OperatorAction.RESUME)
        assert only_intent(driver.tick()).qty_lots == -90

    def test_rejects_halt_a_bot_that_may_only_reduce_too(self) -> None:
        driver = with_coins(**limited(max_hedges_same_way=50))
        driver.operate(OperatorAction.REDUCE_ONLY)
        for _ in range(5):
            driver.reject(only_intent(driver.tick()))
        assert driver.tick() == []
        assert driver.engine.state is B.HALTED

    def losing(self) -> Driver:
        """Return a driver of nine coins left alone, of which each has just lost seventy."""
        driver = with_coins(9.0, policy=Unhedged(), **limited(daily_loss_quote=500.0))
        driver.tick()
        driver.tick(px=1930.0)
        return driver

    def test_a_days_loss_leaves_only_what_shrinks(self) -> None:
        driver = self.losing()
        assert driver.engine.state is B.REDUCE_ONLY
        assert driver.engine.state_reason.startswith("daily_loss: loss since 00:00 UTC is 6")
        assert driver.engine.limits.day_pnl_quote == pytest.approx(-70.0 * 9.0)

    def test_a_loss_elsewhere_is_not_invented(self) -> None:
        """A book that cannot be valued yet has neither lost nor won anything."""
        driver = two_underlyings((BookLeg(option(30_000.0, base="BTC"), -50.0),), **limited(daily_loss_quote=500.0))
        driver.wait(1.0)
        driver.show_eth()
        driver.decide()
        driver.show_btc()
        driver.decide()
        assert driver.engine.state is B.RUNNING
        assert driver.engine.limits.day_pnl_quote == pytest.approx(0.0, abs=1e-6)

    def test_reducing_is_allowed_and_increasing_refused(self) -> None:
        overshoot = Fixed(HedgeTarget(-1.0, 1.0, -1.0, -25.0, 1.0, "overshoots"))
        for policy, refusal in ((DeltaBand(half_width_base=1.0), None), (overshoot, R.REDUCE_ONLY)):
            driver = with_coins(policy=policy)
            driver.operate(OperatorAction.REDUCE_ONLY)
            commands = driver.tick()
            assert refusal_of(driver) is refusal
            assert bool(commands) is (refusal is None)

    def test_the_trip_itself_names_the_limit(self) -> None:
        overshoot = Fixed(HedgeTarget(-1.0, 1.0, -1.0, -25.0, 1.0, "overshoots"))
        driver = with_coins(policy=overshoot, **limited(daily_loss_quote=500.0))
        driver.operate(OperatorAction.PAUSE)
        driver.tick()
        driver.operate(OperatorAction.RESUME)
        assert driver.tick(px=1930.0) == []
        assert refusal_of(driver) is R.DAILY_LOSS
        driver.tick(px=1930.0)
        assert refusal_of(driver) is R.REDUCE_ONLY

    def test_a_new_day_counts_anew_but_the_state_waits_for_a_person(self) -> None:
        driver = self.losing()
        driver.now_ns = (T0_NS // NS_PER_DAY + 1) * NS_PER_DAY
        driver.tick(px=1930.0)
        assert driver.engine.limits.day_pnl_quote == 0.0
        assert driver.engine.state is B.REDUCE_ONLY
        driver.operate(OperatorAction.RESUME)
        driver.tick(px=1930.0)
        assert driver.engine.state is B.RUNNING

    def test_a_resume_before_that_trips_again(self) -> None:
        driver = self.losing()
        driver.operate(OperatorAction.RESUME)
        driver.tick(px=1930.0)
        assert driver.engine.state is B.REDUCE_ONLY


@dataclass(frozen=True)
class Fixed:
    """A policy of one unchanging answer."""

    answer: HedgeTarget
    name: str = "fixed"

    def target(self, view: HedgeView) -> HedgeTarget:  # noqa: ARG002 (the protocol's signature)
        return self.answer


class TestOperator:
    @pytest.mark.parametrize(
        ("action", "state", "refusal"),
        [(OperatorAction.PAUSE, B.PAUSED, R.PAUSED), (OperatorAction.HALT, B.HALTED, R.HALTED)],
    )
    def test_a_stopped_bot_refuses_and_counts(self, action: OperatorAction, state: BotState, refusal: Refusal) -> None:
        driver = with_coins()
        driver.tick()
        driver.cancel(next(iter(driver.engine.orders.live.values())).intent)
        driver.operate(action, "storm")
        for _ in range(3):
            assert driver.tick() == []
        assert driver.engine.state is state
        assert decision_of(driver).refusal_detail == "someone: storm"
        assert driver.engine.refusals == {refusal: 3}
        driver.operate(OperatorAction.RESUME)
        assert only_intent(driver.tick()).qty_lots == -90
        assert driver.engine.state is B.RUNNING

    def test_a_halt_cancels_what_rests_and_sends_nothing_afterwards(self) -> None:
        driver = with_coins()
        resting = make_intent(5, "rests", TimeInForce.GTC, now_ns=driver.now_ns)
        driver.engine.orders.intend(resting)
        driver.accept(resting)
        driver.operate(OperatorAction.HALT)
        cancel = CancelOrder("rests", "ETH-PERPETUAL", "halted")
        assert driver.tick() == [cancel]
        assert driver.tick() == [], "once is enough while the answer is on its way"
        assert driver.tick(after_s=5.0) == [QueryOrder("rests", "ETH-PERPETUAL")]
        driver.apply(OrderTruth("rests", OrderState.OPEN, (), driver.now_ns, driver.now_ns))
        assert driver.tick() == [cancel], "still there: cancel again"
        driver.cancel(resting, is_expired=False)
        for _ in range(5):
            assert driver.tick(after_s=10.0) == []

    def test_only_a_resume_leaves_halted(self) -> None:
        driver = with_coins()
        driver.operate(OperatorAction.HALT, "first")
        for action in (OperatorAction.PAUSE, OperatorAction.REDUCE_ONLY):
            driver.operate(action)
            assert driver.engine.state is B.HALTED
            assert driver.engine.state_reason == "someone: first"

    @pytest.mark.parametrize("state", [B.PAUSED, B.HALTED, B.REDUCE_ONLY])
    def test_a_restart_does_not_loosen_what_a_person_ordered(self, state: BotState) -> None:
        driver = with_coins()
        driver.engine.state = state
        driver.apply(Restarted(driver.now_ns))
        driver.tick()
        assert driver.engine.state is state


class TestPurity:
    def test_the_same_events_and_times_give_the_same_commands(self) -> None:
        def run() -> list[Command]:
            driver = driver_of(policy=WhalleyWilmott(risk_aversion_per_quote=1e-3))
            rng = np.random.default_rng(11)
            px, commands = 2000.0, []
            for _ in range(300):
                px *= float(np.exp(0.003 * rng.standard_normal()))
                found = driver.tick(px, after_s=20.0)
                commands += found
                for command in found:
                    if isinstance(command, SubmitOrder):
                        driver.fill(command.intent, px=px)
            return commands

        first = run()
        assert len(first) > 5
        assert msgspec.json.encode(first) == msgspec.json.encode(run())

    def test_order_ids_are_run_and_sequence_and_never_repeat(self) -> None:
        driver = with_coins(**limited(max_hedges_same_way=1000, max_orders_per_min=1000))
        ids = []
        for _ in range(100):
            intent = only_intent(driver.tick())
            driver.cancel(intent)
            ids.append(intent.order_id)
        assert ids == [f"a1b2c3d4e5-{n}" for n in range(1, 101)]
        assert max(map(len, ids)) <= 32

    def test_the_time_between_decisions_is_known_from_the_second_one(self) -> None:
        seen: list[float] = []

        @dataclass(frozen=True)
        class Watching:
            name: str = "watching"

            def target(self, view: HedgeView) -> HedgeTarget:
                seen.append(view.monitor_years * NS_PER_YEAR / NS_PER_S)
                return HedgeTarget.hold("watching")

        driver = with_coins(policy=Watching())
        for _ in range(30):
            driver.tick(after_s=15.0)
        assert seen[0] == 0.0
        assert seen[1:] == pytest.approx([15.0] * 29)

    def test_a_policy_sees_what_the_engine_knows(self) -> None:
        seen: list[HedgeView] = []

        @dataclass(frozen=True)
        class Watching:
            name: str = "watching"

            def target(self, view: HedgeView) -> HedgeTarget:
                seen.append(view)
                return HedgeTarget.to_edge(-1.0, 1.0, "watching")

        driver = driver_of(BookLeg(CALL, -10.0), policy=Watching(), cash={"ETH": 10.0})
        intent = driver.hedge()
        driver.tick()
        first, second = seen
        assert (first.spot_px, first.underlying, first.hedge_base) == (2000.0, "ETH", 0.0)
        assert first.cost_rate == pytest.approx(5e-4 + 0.05 / 2000.0)
        assert first.lot_base == 0.1
        assert (first.last_hedge_ns, first.last_hedge_px) == (0, 0.0)
        assert first.legs.qty_base.tolist() == [-10.0]
        assert (second.last_hedge_ns, second.last_hedge_px) == (intent.decided_ns, 2000.0)
        assert second.hedge_base == pytest.approx(intent.qty_lots * 0.1)
        assert second.greeks.delta_base == pytest.approx(second.delta_low_base)


class TestBookkeeping:
    def test_hedges_are_marked_with_what_they_cost(self) -> None:
        driver = with_coins()
        intent = only_intent(driver.tick())
        driver.fill(intent, px=1999.5, fee_settle=3.0)
        (mark,) = driver.engine.hedge_marks
        assert (mark.qty_base, mark.px, mark.order_id) == (pytest.approx(-9.0), 1999.5, intent.order_id)
        assert mark.cost_quote == pytest.approx(9.0 * 0.5 + 3.0)
        assert driver.engine.turnover_quote == pytest.approx(9.0 * 1999.5)

    def test_hedging_pays_from_its_own_ledger(self) -> None:
        hedged, unhedged = with_coins(), with_coins(policy=Unhedged())
        hedged.hedge(fee_settle=7.0)
        unhedged.tick()
        for driver in (hedged, unhedged):
            driver.tick(px=2040.0)
        assert hedged.engine.unhedged_pnl_quote() == pytest.approx(unhedged.engine.pnl_total_quote())
        assert hedged.engine.pnl_total_quote() == pytest.approx(10.0 * 40.0 - 9.0 * 40.0 - 7.0)

    def test_profit_in_coins_is_that_of_the_wealth_counted_in_coins(self) -> None:
        driver = with_coins(numeraire="ETH", policy=Unhedged())
        driver.tick()
        driver.tick(px=2100.0)
        assert driver.engine.pnl_total_numeraire() == pytest.approx(0.0, abs=1e-9)
        driver.fund(PERPETUAL, 210.0)
        assert driver.engine.pnl_total_numeraire() == pytest.approx(0.1)
        dollars = with_coins(policy=Unhedged())
        assert dollars.engine.pnl_total_numeraire() == 0.0
        dollars.tick()
        dollars.tick(px=2100.0)
        assert dollars.engine.pnl_total_numeraire() == dollars.engine.pnl_total_quote() == pytest.approx(1000.0)

    def test_a_pnl_step_lasts_a_minute(self) -> None:
        driver = with_coins(policy=Unhedged())
        driver.tick()
        ledger = driver.engine.desks["ETH"].pnl
        started_ns = ledger.stepped_ns
        driver.tick(after_s=59.9)
        assert ledger.stepped_ns == started_ns
        driver.tick(after_s=0.1)
        assert ledger.stepped_ns == driver.now_ns

    def test_fills_of_what_is_no_hedge_of_ours_change_nothing(self) -> None:
        driver = with_coins()
        driver.tick()
        equity = driver.engine.equity_quote()
        driver.fill(make_intent(5, "x", instrument=INVERSE))
        driver.fund(INVERSE, 1.0)
        driver.apply(driver.settlement(CALL.expiry_ns, 2000.0, "DOGE"))
        assert driver.engine.equity_quote() == equity

    def test_clock_hedging_remembers_through_the_view(self) -> None:
        driver = with_coins(policy=FixedInterval(interval_s=600))
        driver.hedge()
        driver.engine.desks["ETH"].book.coin_cash += 5.0
        assert driver.tick(after_s=500.0) == []
        assert only_intent(driver.tick(after_s=100.0)).qty_lots == -50

    def test_payoffs_of_futures_hedges_are_kept(self) -> None:
        dated = future(T0_NS + NS_PER_DAY, payoff=Payoff.INVERSE)
        driver = with_coins(hedge=dated, policy=CENTRE)
        driver.hedge()
        driver.now_ns = dated.expiry_ns
        driver.show()
        driver.apply(driver.settlement(dated.expiry_ns, 2000.0))
        holding = driver.engine.desks["ETH"].hedge
        assert (holding.lots, holding.qty) == (0, 0.0)
        assert driver.engine.pnl().total == pytest.approx(driver.engine.pnl_total_quote(), abs=1e-9)


class TestContradictions:
    """A venue that says what cannot be stops trading; its fills still count."""

    def test_an_overfill_is_booked_and_halts_until_a_person_resumes(self) -> None:
        driver = with_coins()
        intent = only_intent(driver.tick())
        driver.fill(intent, intent.qty_lots - 5)
        assert driver.tick() == []
        assert driver.engine.state is B.HALTED
        assert f"filled {intent.qty_lots - 5} lots" in driver.engine.state_reason
        assert driver.engine.refusals[R.VENUE_CONTRADICTION] == 1
        assert driver.engine.desks["ETH"].hedge.lots == intent.qty_lots - 5
        driver.operate(OperatorAction.RESUME)
        driver.tick()
        assert driver.engine.state is B.RUNNING


class TestStrictness:
    @pytest.mark.parametrize(
        ("first", "then", "state"),
        [
            (OperatorAction.PAUSE, OperatorAction.REDUCE_ONLY, B.PAUSED),
            (OperatorAction.HALT, OperatorAction.PAUSE, B.HALTED),
            (OperatorAction.REDUCE_ONLY, OperatorAction.PAUSE, B.PAUSED),
        ],
    )
    def test_only_a_resume_loosens(self, first: OperatorAction, then: OperatorAction, state: BotState) -> None:
        driver = with_coins()
        driver.tick()
        driver.operate(first)
        driver.operate(then)
        assert driver.engine.state is state


def test_nothing_is_traded_in_the_batch_of_a_restart() -> None:
    driver = with_coins()
    driver.tick()
    driver.engine.desks["ETH"].book.coin_cash += 30.0
    driver.wait(1.0)
    driver.show()
    driver.apply(Restarted(driver.now_ns))
    driver.operate(OperatorAction.RESUME)
    assert not [command for command in driver.decide() if isinstance(command, SubmitOrder)]


def test_a_band_that_is_not_a_number_is_refused() -> None:
    driver = with_coins(policy=Fixed(HedgeTarget(nan, nan, nan, nan, 1.0, "broken")))
    assert driver.tick() == []
    assert refusal_of(driver) is R.BAD_TARGET


def test_a_coin_vault_loses_when_it_has_fewer_coins() -> None:
    settings = make_settings(
        (BookLeg(CALL, -0.001),),
        numeraire="ETH",
        cash={"ETH": 1000.0},
        policy=Unhedged(),
        **limited(daily_loss_quote=500.0),
    )
    driver = Driver(settings)
    driver.tick(2000.0)
    driver.tick(1990.0)  # 10,000 dollars fewer, and not one coin
    assert driver.engine.state is B.RUNNING
    driver.engine.desks["ETH"].book.coin_cash -= 1.0
    driver.tick(1990.0)
    assert driver.engine.state is B.REDUCE_ONLY
