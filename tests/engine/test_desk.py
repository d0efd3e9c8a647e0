"""One underlying: which settlements it believes, what its hedge price is held against, when it waits for a quote."""

from __future__ import annotations

import math

import msgspec
import pytest

from bot.domain.decisions import HedgeView, Refusal
from bot.domain.market import QuoteFault, Settlement
from bot.domain.units import NS_PER_DAY, NS_PER_MIN, NS_PER_S
from bot.engine.desk import Desk
from bot.engine.settings import BookLeg, HedgeSettings
from strategies import DeltaBand, FixedInterval, Unhedged, WhalleyWilmott
from tests.engine.builders import (
    CALL,
    LIMITS,
    PERPETUAL,
    PUT,
    T0_NS,
    Driver,
    future,
    make_settings,
    only_intent,
    option,
)

NEAR = option(2000.0, days=1.0)


def desk_of(driver: Driver) -> Desk:
    return driver.engine.desks["ETH"]


class TestSettlement:
    def driver(self) -> Driver:
        driver = Driver(make_settings((BookLeg(NEAR, -10.0), BookLeg(CALL, -10.0))))
        driver.tick()
        return driver

    def test_a_price_before_its_expiry_settles_nothing(self) -> None:
        driver = self.driver()
        now_ns = driver.now_ns
        driver.apply(Settlement("ETH", NEAR.expiry_ns, 2000.0, now_ns, now_ns, 10_000))
        assert driver.engine.market.faults == {QuoteFault.EARLY_SETTLEMENT: 1}
        assert len(desk_of(driver).book.option_qty_base) == 2

    def test_a_second_price_is_a_duplicate(self) -> None:
        driver = self.driver()
        driver.apply(driver.settlement(NEAR.expiry_ns, 2010.0))
        coins = desk_of(driver).book.coin_cash
        driver.apply(driver.settlement(NEAR.expiry_ns, 2090.0))
        assert driver.engine.market.faults == {QuoteFault.DUPLICATE: 1}
        assert desk_of(driver).book.coin_cash == coins == -10.0 * 10.0 / 2010.0

    def test_a_price_far_from_the_index_is_still_the_venues_word(self) -> None:
        driver = self.driver()
        driver.apply(driver.settlement(NEAR.expiry_ns, 2300.0))
        assert driver.engine.market.faults == {}
        assert len(desk_of(driver).book.option_qty_base) == 1

    def test_an_expired_leg_without_a_price_stops_decisions_after_half_an_hour(self) -> None:
        driver = Driver(make_settings((BookLeg(NEAR, -10.0), BookLeg(CALL, -10.0)), policy=Unhedged()))
        driver.tick()
        driver.now_ns = NEAR.expiry_ns + 29 * NS_PER_MIN
        driver.tick()
        assert desk_of(driver).decision.refusal is None
        driver.now_ns = NEAR.expiry_ns + 30 * NS_PER_MIN
        assert driver.tick() == []
        assert desk_of(driver).decision.refusal is Refusal.UNSETTLED
        assert "30 min" in desk_of(driver).decision.refusal_detail
        driver.apply(driver.settlement(NEAR.expiry_ns, 2010.0))
        driver.tick()
        assert desk_of(driver).decision.refusal is None


class TestReferencePrice:
    def test_a_dated_future_is_held_against_its_own_forward(self) -> None:
        dated = future(CALL.expiry_ns)
        driver = Driver(make_settings(hedge=dated))
        driver.tick()
        driver.apply(driver.vol(CALL, 0.6, 2060.0))
        assert desk_of(driver).reference_px(desk_of(driver).settings) == 2060.0

    def test_without_one_and_for_a_perpetual_it_is_the_index(self) -> None:
        far = Driver(make_settings(hedge=future(CALL.expiry_ns + 7 * NS_PER_DAY)))
        near = Driver()
        for driver in (far, near):
            driver.tick()
            driver.apply(driver.vol(CALL, 0.6, 2060.0))
            assert desk_of(driver).reference_px(desk_of(driver).settings) == 2000.0


class TestTrend:
    """A market that runs away wants hedge after hedge; each arrives, so nothing is wrong."""

    def test_hedging_along_a_trend_goes_on(self) -> None:
        driver = Driver(
            make_settings(
                (BookLeg(CALL, -100.0), BookLeg(PUT, -100.0)),
                policy=DeltaBand(half_width_base=0.1),
                limits=msgspec.structs.replace(LIMITS, max_orders_per_min=1000),
            )
        )
        hedges = 0
        for second in range(40):
            for command in driver.tick(2000.0 + 2.0 * second):
                driver.fill(command.intent)
                hedges += 1
        assert hedges >= 35
        assert driver.engine.refusals.get(Refusal.HEDGE_LOOP) is None


class TestWaiting:
    def test_no_second_order_on_a_quote_that_did_not_fill_the_first(self) -> None:
        driver = Driver(make_settings(policy=DeltaBand(half_width_base=0.1), cash={"ETH": 50.0}))
        intent = only_intent(driver.tick())
        assert driver.decide() == []
        half = intent.qty_lots // 2
        driver.fill(intent, half)
        driver.cancel(intent)
        assert driver.decide() == []
        assert desk_of(driver).decision.refusal is Refusal.THIN_BOOK
        assert f"{half} of {intent.qty_lots} lots" in desk_of(driver).decision.refusal_detail
        driver.wait(1.0)
        driver.apply(driver.quote(PERPETUAL, 2000.0))
        assert only_intent(driver.decide()).qty_lots == intent.qty_lots - half


class TestClock:
    """A clock counts from the last hedge that was whole."""

    def clock(self, **changes: float) -> Driver:
        limits = msgspec.structs.replace(LIMITS, **changes)
        return Driver(make_settings(policy=FixedInterval(interval_s=3600.0), cash={"ETH": 50.0}, limits=limits))

    def test_an_order_cut_by_a_limit_is_followed_by_the_rest(self) -> None:
        driver = self.clock(max_order_quote=60_000.0)
        sizes = []
        for _ in range(2):
            intent = only_intent(driver.tick())
            sizes.append(intent.qty_lots)
            driver.fill(intent)
        assert sizes[0] == -300
        assert sum(sizes) == pytest.approx(-500, abs=30)
        assert driver.tick() == []
        assert desk_of(driver).last_hedge_ns == driver.now_ns - NS_PER_S

    def test_an_order_that_came_back_unfilled_is_tried_again(self) -> None:
        driver = self.clock()
        first = only_intent(driver.tick())
        driver.cancel(first)
        assert desk_of(driver).last_hedge_ns == 0
        again = only_intent(driver.tick())
        assert again.qty_lots == first.qty_lots
        driver.fill(again)
        assert desk_of(driver).last_hedge_ns == driver.now_ns
        assert driver.tick() == []


def test_a_coin_vault_with_a_ratio_hedges_that_share_of_the_book() -> None:
    hedge = HedgeSettings(instrument=PERPETUAL, maker_bps=0.0, taker_bps=0.0, ratio=0.5)
    driver = Driver(
        make_settings((BookLeg(CALL, -100.0),), hedge=hedge, numeraire="ETH", policy=DeltaBand(half_width_base=0.1))
    )
    driver.tick()
    book = desk_of(driver).book
    bare_base = book.net_greeks(is_coin_numeraire=True).delta_base
    driver.fill(driver.engine.orders.orders["a1b2c3d4e5-1"].intent)
    driver.tick()
    driver.tick(2100.0)  # the hedge has earned something by now; the target is still half of the book alone
    view = desk_of(driver).view(driver.now_ns, driver.engine.orders, hedge)
    book_base = view.greeks.delta_base - book.hedge_delta_base(is_coin_numeraire=True)
    assert bare_base < 0.0
    assert view.target_delta_base == pytest.approx(0.5 * book_base)
    assert driver.now_ns > T0_NS


class TestWhatTheViewSaysOfTime:
    def view_of(self, *legs: BookLeg) -> HedgeView:
        driver = Driver(make_settings(legs))
        driver.tick()
        desk = desk_of(driver)
        return desk.view(driver.now_ns, driver.engine.orders, desk.settings)

    def test_the_nearest_expiry_is_one_that_gamma_is_material_of(self) -> None:
        view = self.view_of(BookLeg(NEAR, -0.1), BookLeg(CALL, -100.0))
        assert view.tau_years == pytest.approx(30 / 365, rel=1e-4)
        view = self.view_of(BookLeg(NEAR, -10.0), BookLeg(CALL, -100.0))
        assert view.tau_years == pytest.approx(1 / 365, rel=1e-4)
        assert view.horizon_years == pytest.approx(30 / 365, rel=1e-4)

    def test_a_linear_position_is_there_after_the_last_expiry_too(self) -> None:
        """One option with little time left must not widen the band of a position that has no end."""
        assert self.view_of(BookLeg(PERPETUAL, 60.0), BookLeg(NEAR, -1.0)).horizon_years == math.inf
        view = self.view_of(BookLeg(PERPETUAL, 1.0), BookLeg(NEAR, -100.0))
        assert view.horizon_years == pytest.approx(1 / 365, rel=1e-4), "too little of the book to say so"

    def test_of_many_small_expiries_the_one_with_most_counts(self) -> None:
        legs = [BookLeg(option(2000.0, days=float(days)), -1.0) for days in range(20, 60)]
        view = self.view_of(*legs)
        assert 20 / 365 - 1e-6 < view.tau_years < 25 / 365

    def test_one_band_of_net_gamma_and_no_sum_of_bands_per_option(self) -> None:
        """A butterfly's gammas offset each other: its band is far narrower than those of its options together."""
        legs = [BookLeg(option(strike), qty) for strike, qty in ((1950.0, -50.0), (2000.0, 100.0), (2050.0, -50.0))]
        policy = WhalleyWilmott(risk_aversion_per_quote=1e-3, h0_floor=False)  # which a linear leg takes away

        def half_base(*some: BookLeg) -> float:
            target = policy.target(self.view_of(*some))
            return 0.5 * (target.high_base - target.low_base)

        assert half_base(*legs) < 0.4 * sum(half_base(leg) for leg in legs)
        assert half_base(*legs, BookLeg(PERPETUAL, 30.0)) == pytest.approx(half_base(*legs), rel=1e-9)


def test_the_vol_of_an_index_is_measured_where_hedges_are_no_transactions_too() -> None:
    driver = Driver(make_settings((BookLeg(PERPETUAL, 10.0),)))
    for step in range(500):
        driver.tick(2000.0 * (1.0 + 2e-5 * (step % 2)), after_s=55.0)
    assert desk_of(driver).vol() < 0.1
