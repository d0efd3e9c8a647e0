"""P&L by part: each part is what it is defined to be, and together they are the change in value, to the last cent."""

from __future__ import annotations

from math import sqrt

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.instruments import Hedgeable, Option, Payoff
from bot.domain.portfolio import PnlBreakdown
from bot.domain.results import pnl_parts
from bot.domain.units import NS_PER_DAY, NS_PER_S, NS_PER_YEAR
from bot.engine.settings import BookLeg
from bot.pricing.black76 import Black76Greeks, greeks
from strategies import Unhedged
from tests.engine.builders import (
    AGES,
    CALL,
    INVERSE,
    PERPETUAL,
    PUT,
    T0_NS,
    Driver,
    future,
    make_intent,
    make_settings,
    option,
)

TIGHT = 1e-9
QTY = -100.0
YEARS = NS_PER_S / NS_PER_YEAR


def unhedged(*legs: BookLeg, hedge: Hedgeable = PERPETUAL, **changes: object) -> Driver:
    """Return a driver of a book nobody hedges, started at a price of 2000 and a vol of 0.6."""
    driver = Driver(make_settings(legs or [BookLeg(CALL, QTY)], hedge=hedge, policy=Unhedged(), **changes))
    driver.tick()
    return driver


def step(driver: Driver, px: float = 2000.0, vol: float = 0.6, after_s: float = 1.0) -> dict[str, float]:
    """Move the market, close the step, and return what it added to each part."""
    before = pnl_parts(driver.engine.pnl())
    driver.tick(px, vol, after_s)
    driver.engine.close_steps(driver.now_ns)
    return {part: amount - before[part] for part, amount in pnl_parts(driver.engine.pnl()).items()}


def at_start(driver: Driver, leg: Option = CALL, px: float = 2000.0, vol: float = 0.6) -> Black76Greeks:
    return greeks(px, leg.strike_px, (leg.expiry_ns - driver.now_ns) / NS_PER_YEAR, vol, leg.is_call)


def approx(value: float) -> object:
    return pytest.approx(value, rel=TIGHT, abs=TIGHT)


class TestSingleMoves:
    """One thing moves at a time (and one second passes: what that costs is theta)."""

    def test_a_move_of_the_forward_is_delta_and_gamma(self) -> None:
        driver = unhedged()
        g = at_start(driver)
        parts = step(driver, px=2010.0)
        assert parts["delta"] == approx(QTY * float(g.delta) * 10.0)
        assert parts["gamma"] == approx(QTY * 0.5 * float(g.gamma) * 100.0)
        assert parts["theta"] == approx(QTY * float(g.theta) * YEARS)
        assert (parts["vega"], parts["vanna_volga"]) == (0.0, 0.0)
        end = at_start(driver, px=2010.0)
        assert parts["total"] == approx(QTY * (float(end.value) - float(g.value)))

    def test_time_alone_is_theta(self) -> None:
        driver = unhedged()
        g = at_start(driver)
        parts = step(driver, after_s=30.0)
        assert parts["theta"] == approx(QTY * float(g.theta) * 30.0 * YEARS)
        assert {part for part, amount in parts.items() if amount} <= {"theta", "unexplained", "total"}
        assert abs(parts["unexplained"]) < 1e-5 * abs(parts["theta"])

    def test_a_move_of_vol_is_vega_and_volga(self) -> None:
        driver = unhedged(BookLeg(option(2400.0), QTY))
        g = at_start(driver, option(2400.0))
        parts = step(driver, vol=0.63)
        assert parts["vega"] == approx(QTY * float(g.vega) * 0.03)
        assert parts["vanna_volga"] == approx(QTY * 0.5 * float(g.volga) * 0.03**2)
        assert (parts["delta"], parts["gamma"]) == (0.0, 0.0)

    def test_vanna_needs_both(self) -> None:
        leg = option(2400.0)
        driver = unhedged(BookLeg(leg, QTY))
        g = at_start(driver, leg)
        parts = step(driver, px=2010.0, vol=0.61)
        assert parts["vanna_volga"] == approx(QTY * (float(g.vanna) * 10.0 * 0.01 + 0.5 * float(g.volga) * 1e-4))

    def test_coin_cash_is_delta(self) -> None:
        driver = unhedged(BookLeg(CALL, 1e-12), cash={"ETH": 30.0, "USD": 1000.0})
        parts = step(driver, px=2010.0)
        assert parts["delta"] == approx(300.0)
        assert parts["total"] == approx(300.0)

    def test_each_instrument_has_its_own_price_move(self) -> None:
        driver = unhedged(BookLeg(CALL, QTY), BookLeg(PERPETUAL, 50.0), cash={"ETH": 30.0})
        g = at_start(driver)
        driver.wait(1.0)
        driver.apply(driver.index(2004.0), driver.quote(PERPETUAL, 2006.0), driver.vol(CALL, 0.6, 2010.0))
        driver.engine.close_steps(driver.now_ns)
        expected = QTY * float(g.delta) * 10.0 + 50.0 * 6.0 + 30.0 * 4.0
        assert driver.engine.pnl().delta == approx(expected)

    def test_an_inverse_position_earns_delta_on_its_own_price_and_on_the_coins_it_made(self) -> None:
        driver = unhedged(BookLeg(INVERSE, 50.0), hedge=INVERSE)
        parts = step(driver, px=2010.0)
        assert parts["delta"] == approx(50.0 * 10.0)
        earned = 100_000.0 * (1 / 2000.0 - 1 / 2010.0) * 2010.0
        assert parts["total"] == approx(earned)
        assert parts["unexplained"] == approx(0.0), "worth in money, it is a straight line"
        second = step(driver, px=2020.1)
        made = 100_000.0 * (1 / 2000.0 - 1 / 2010.0)
        assert second["delta"] == approx(100_000.0 / 2010.0 * 10.1 + made * 10.1)

    def test_an_inverse_position_bends_with_its_own_price(self) -> None:
        driver = unhedged(BookLeg(INVERSE, 50.0), hedge=INVERSE)
        driver.wait(1.0)
        driver.apply(driver.quote(INVERSE, 2010.0))
        driver.engine.close_steps(driver.now_ns)
        parts = driver.engine.pnl()
        assert parts.delta == approx(50.0 * 10.0)
        assert parts.gamma == approx(-100_000.0 / 2000.0**3 * 10.0**2 * 2000.0)
        assert parts.total == approx(100_000.0 * (1 / 2000.0 - 1 / 2010.0) * 2000.0)
        assert abs(parts.unexplained) < 0.01 * abs(parts.gamma)

    def test_a_fill_away_from_mid_is_slippage(self) -> None:
        driver = unhedged()
        driver.fill(make_intent(40), px=2001.5)
        parts = pnl_parts(driver.engine.pnl())
        assert parts["slippage"] == approx(-4.0 * 1.5)
        assert parts["total"] == approx(driver.engine.pnl_total_quote())
        driver.fill(make_intent(-40), px=2001.5)
        assert driver.engine.pnl().slippage == approx(0.0)

    def test_an_inverse_fill_slips_in_coins(self) -> None:
        driver = unhedged(hedge=INVERSE)
        driver.fill(make_intent(400, instrument=INVERSE), px=2001.5)
        assert driver.engine.pnl().slippage == approx(4000.0 * (1 / 2001.5 - 1 / 2000.0) * 2000.0)

    @pytest.mark.parametrize(("instrument", "fee_quote"), [(PERPETUAL, 0.002), (INVERSE, 0.002 * 2000.0)])
    def test_a_fee_is_worth_what_its_coin_is(self, instrument: Hedgeable, fee_quote: float) -> None:
        driver = unhedged(hedge=instrument)
        driver.fill(make_intent(40, instrument=instrument), px=2000.0, fee_settle=0.002)
        assert driver.engine.pnl().fees == approx(-fee_quote)
        assert driver.engine.pnl_total_quote() == approx(-fee_quote)

    @pytest.mark.parametrize(("instrument", "paid_quote"), [(PERPETUAL, -0.5), (INVERSE, -0.5 * 2000.0)])
    def test_funding_is_its_own_part_and_counts_once(self, instrument: Hedgeable, paid_quote: float) -> None:
        driver = unhedged(hedge=instrument)
        driver.fund(instrument, -0.5)
        driver.fund(instrument, -0.5)
        assert driver.engine.pnl().funding == approx(paid_quote)
        assert driver.engine.pnl_total_quote() == approx(paid_quote)

    def test_funding_is_taken_back_by_its_opposite_alone_and_may_come_again(self) -> None:
        """As a reorg has it: a payment is told, taken back, and told again by the same block."""
        driver = unhedged(hedge=PERPETUAL)
        for amount, total in ((-0.5, -0.5), (-0.4, -0.5), (0.5, 0.0), (0.5, 0.0), (-0.5, -0.5)):
            driver.fund(PERPETUAL, amount)
            assert driver.engine.pnl().funding == approx(total)

    def test_a_payment_and_a_trade_may_share_a_number(self) -> None:
        driver = unhedged()
        driver.fill(make_intent(40), px=2000.0)
        driver.fund(PERPETUAL, -0.5, payment_id="t1")
        assert driver.engine.pnl().funding == -0.5

    def test_coins_paid_in_fees_move_with_the_index_afterwards(self) -> None:
        driver = unhedged(BookLeg(CALL, 1e-12), hedge=INVERSE)
        driver.fund(INVERSE, 2.0)
        parts = step(driver, px=2010.0)
        assert parts["delta"] == approx(2.0 * 10.0)


class TestSettlement:
    @pytest.mark.parametrize("settle", ["ETH", "USD"])
    @pytest.mark.parametrize("px", [1900.0, 2000.0, 2137.0])
    def test_the_last_move_is_delta_and_the_rest_is_not_hidden(self, px: float, settle: str) -> None:
        leg = option(settle=settle)
        driver = unhedged(BookLeg(leg, QTY))
        driver.now_ns = leg.expiry_ns - 60 * NS_PER_S
        driver.tick()
        driver.engine.close_steps(driver.now_ns)
        before = driver.engine.pnl_total_quote()
        g = at_start(driver, leg)
        driver.apply(driver.settlement(leg.expiry_ns, px))
        after = driver.engine.pnl_total_quote()
        payoff_quote = QTY * max(0.0, px - 2000.0)
        worth_quote = payoff_quote / px * 2000.0 if settle == "ETH" else payoff_quote
        assert after - before == approx(worth_quote - QTY * float(g.value))
        assert driver.engine.pnl().total == approx(after)

    def test_before_the_first_marking_it_is_no_profit_of_ours(self) -> None:
        """A leg that settles before the book could be marked was never part of what is explained."""
        near = option(1500.0, days=0.1)
        driver = Driver(make_settings([BookLeg(near, 10.0), BookLeg(CALL, QTY)], policy=Unhedged()))
        driver.apply(driver.index(2000.0))
        driver.apply(driver.settlement(near.expiry_ns, 2000.0))
        driver.fund(PERPETUAL, 1.0)
        driver.fill(make_intent(10), px=2003.0)
        driver.tick()
        driver.tick(px=2010.0, after_s=60.0)
        assert driver.engine.desks["ETH"].book.coin_cash == approx(10.0 * 500.0 / 2000.0)
        assert driver.engine.pnl().total == approx(driver.engine.pnl_total_quote())

    def test_waiting_for_the_price_earns_no_theta(self) -> None:
        leg = option(2000.0, days=1.0)
        driver = unhedged(BookLeg(leg, QTY))
        driver.now_ns = leg.expiry_ns + NS_PER_S
        driver.show()
        driver.tick()
        driver.engine.close_steps(driver.now_ns)
        for _ in range(10):
            parts = step(driver, after_s=60.0)
            assert parts == dict.fromkeys(parts, 0.0)


class TestGaps:
    def test_a_step_across_a_gap_is_reported_apart_and_explains_nothing(self) -> None:
        driver = unhedged()
        step(driver, px=2005.0)
        quiet = driver.engine.desks["ETH"].pnl
        shares = quiet.abs_parts_quote, quiet.abs_unexplained_quote
        before = driver.engine.pnl()
        gap_from_ns = driver.now_ns
        driver.wait(3600.0)
        driver.show(px=2100.0)
        driver.decide()
        assert quiet.gaps_ns == [(gap_from_ns, driver.now_ns)]
        gap = driver.engine.gap_pnl()
        assert gap.total == approx(driver.engine.pnl().total - before.total)
        assert gap.delta != 0.0
        assert (quiet.abs_parts_quote, quiet.abs_unexplained_quote) == shares

    def test_a_short_step_is_no_gap(self) -> None:
        driver = unhedged()
        step(driver, px=2005.0, after_s=600.0)
        assert driver.engine.gap_pnl() == PnlBreakdown()
        assert driver.engine.desks["ETH"].pnl.gaps_ns == []


class TestUnexplained:
    def along(self, steps: int) -> float:
        """Return Σ |unexplained| of one winding path of price and vol, looked at `steps` times."""
        driver = unhedged(BookLeg(CALL, QTY), BookLeg(option(2200.0), 40.0), hedge=INVERSE)
        for at in np.linspace(0.0, 1.0, steps + 1)[1:]:
            px, vol = 2000.0 + 60.0 * np.sin(6.0 * at), 0.6 + 0.03 * np.sin(4.0 * at)
            driver.tick(float(px), float(vol), after_s=6000.0 / steps)
            driver.engine.close_steps(driver.now_ns)
        return driver.engine.desks["ETH"].pnl.abs_unexplained_quote

    def test_shrinks_with_the_square_of_the_step(self) -> None:
        coarse, fine, finest = self.along(50), self.along(100), self.along(200)
        assert fine < 0.35 * coarse
        assert finest < 0.35 * fine

    def test_is_a_small_share_of_what_is_explained(self) -> None:
        driver = unhedged()
        rng = np.random.default_rng(7)
        px = 2000.0
        for _ in range(300):
            px *= float(np.exp(0.6 * sqrt(60.0 * YEARS) * rng.standard_normal()))
            driver.tick(px, after_s=60.0)
        ledger = driver.engine.desks["ETH"].pnl
        assert ledger.abs_unexplained_quote < 0.001 * ledger.abs_parts_quote


# Random streams, against a twin that knows nothing of parts: it only adds up what every leg and every payment is worth.

FUTURE = future(T0_NS + 2 * NS_PER_DAY)
INVERSE_FUTURE = future(T0_NS + 2 * NS_PER_DAY, payoff=Payoff.INVERSE)
NEAR = option(1990.0, days=2.0)
NEAR_USD = option(2010.0, is_call=False, days=2.0, settle="USD")
BOOK = (
    BookLeg(CALL, -20.0),
    BookLeg(PUT, -25.0),
    BookLeg(NEAR, 10.0),
    BookLeg(NEAR_USD, -6.0),
    BookLeg(FUTURE, 3.0),
    BookLeg(INVERSE_FUTURE, -4.0),
)

moves = st.floats(-0.03, 0.03)
tick = st.tuples(st.just("tick"), moves, st.floats(-0.02, 0.02), st.sampled_from([1.0, 59.0, 700.0, 7200.0]))
basis = st.tuples(st.just("basis"), st.floats(-5.0, 5.0), st.floats(-5.0, 5.0))
fill = st.tuples(st.just("fill"), st.integers(-200, 200), st.floats(-4.0, 4.0), st.floats(-0.01, 0.02))
fund = st.tuples(st.just("fund"), st.floats(-0.01, 0.01))
settle = st.tuples(st.just("settle"), moves)


class Twin:
    """The value of everything, by hand."""

    def __init__(self, driver: Driver, hedge: Hedgeable) -> None:
        self.driver = driver
        self.hedge = hedge
        self.cash_quote = 0.0
        self.cash_coins = 8.0
        self.positions: dict[str, tuple[Hedgeable, float, float]] = {}
        self.options = [leg for leg in BOOK if isinstance(leg.instrument, Option)]

    def trade(self, instrument: Hedgeable, qty: float, px: float) -> None:
        """Hold `qty` contracts' worth more: quote money if quote-sized, else base."""
        _, held, cash = self.positions.get(instrument.instrument_id, (instrument, 0.0, 0.0))
        cash += qty / px if instrument.is_quote_sized else -qty * px
        self.positions[instrument.instrument_id] = (instrument, held + qty, cash)

    def pay(self, amount_settle: float) -> None:
        if self.hedge.is_quote_sized:
            self.cash_coins += amount_settle
        else:
            self.cash_quote += amount_settle

    def settle(self, expiry_ns: int, px: float) -> None:
        for leg in [leg for leg in self.options if leg.instrument.expiry_ns == expiry_ns]:
            one = leg.instrument
            payoff = leg.qty_base * max(0.0, (px - one.strike_px) * (1 if one.is_call else -1))
            if one.settle == "ETH":
                self.cash_coins += payoff / px
            else:
                self.cash_quote += payoff
            self.options.remove(leg)
        for instrument, qty, _ in list(self.positions.values()):
            if getattr(instrument, "expiry_ns", 0) == expiry_ns:
                self.trade(instrument, -qty, px)

    def worth_quote(self) -> float:
        market = self.driver.engine.market
        index_px = market.underlyings["ETH"].index_px
        marked_ns = self.driver.now_ns
        total = self.cash_quote + self.cash_coins * index_px
        for leg in self.options:
            one = leg.instrument
            slot = market.slot_of[one.instrument_id]
            tau = max(one.expiry_ns - marked_ns, NS_PER_S) / NS_PER_YEAR
            forward = next(e.forward_px for e in market.expiries if e.expiry_ns == one.expiry_ns)
            total += leg.qty_base * float(greeks(forward, one.strike_px, tau, market.vol[slot], one.is_call).value)
        for instrument, qty, cash in self.positions.values():
            quote = market.quotes[instrument.instrument_id]
            mid_px = 0.5 * (quote.bid_px + quote.ask_px)
            in_coins = instrument.is_quote_sized
            total += (cash - qty / mid_px) * index_px if in_coins else cash + qty * mid_px
        return total


@given(
    events=st.lists(st.one_of(tick, basis, fill, fund, settle), max_size=25),
    hedge=st.sampled_from([PERPETUAL, INVERSE]),
)
@settings(max_examples=60)
def test_whatever_happens_the_parts_are_the_change_in_value(
    events: list[tuple[str, float, float, float]], hedge: Hedgeable
) -> None:
    ages = msgspec.structs.replace(AGES, max_jump_fraction=9.0)
    driver = Driver(make_settings(BOOK, hedge=hedge, policy=Unhedged(), cash={"ETH": 8.0}, ages=ages))
    driver.tick()
    twin = Twin(driver, hedge)
    for leg in (FUTURE, INVERSE_FUTURE):
        qty = next(one.qty_base for one in BOOK if one.instrument is leg)
        twin.trade(leg, qty * 2000.0 if leg.is_quote_sized else qty, 2000.0)
    start_quote = twin.worth_quote()
    px, vol = 2000.0, 0.6
    for at, (kind, *values) in enumerate(events):
        if kind == "tick":
            px, vol = px * (1.0 + values[0]), max(0.2, vol + values[1])
            driver.tick(px, vol, values[2])
        elif kind == "basis":
            driver.wait(1.0)
            driver.apply(driver.quote(hedge, px + values[0]), driver.index(px + values[1]))
        elif kind == "fill" and values[0]:
            intent = make_intent(int(values[0]), f"o{at}", instrument=hedge)
            driver.fill(intent, px=px + values[1], fee_settle=values[2])
            twin.trade(hedge, int(values[0]) * hedge.lot_size, px + values[1])
            twin.pay(-values[2])
        elif kind == "fund":
            driver.fund(hedge, values[0], payment_id=f"p{at}")
            twin.pay(values[0])
        elif kind == "settle":
            settle_px = px * (1.0 + values[0])
            driver.apply(driver.settlement(NEAR.expiry_ns, settle_px))
            twin.settle(NEAR.expiry_ns, settle_px)
    driver.show(px, vol)
    driver.engine.close_steps(driver.now_ns)
    total_quote = driver.engine.pnl_total_quote()
    scale = 1.0 + driver.engine.desks["ETH"].pnl.abs_parts_quote
    assert driver.engine.pnl().total == pytest.approx(total_quote, abs=1e-12 * scale + TIGHT)
    assert total_quote == pytest.approx(twin.worth_quote() - start_quote, abs=1e-9 * scale + 1e-7)


def test_what_enters_is_no_profit_in_money_or_in_coins() -> None:
    driver = unhedged(cash={"ETH": 10.0})
    step(driver, px=2050.0)
    desk, engine = driver.engine.desks["ETH"], driver.engine
    before = engine.pnl_total_quote(), engine.unhedged_pnl_quote(), desk.book.equity_quote() / 2050.0
    coins = before[2] - desk.pnl.start_coins
    values = desk.book.equity_quote(), desk.book.book_value_quote()
    desk.book.coin_cash += 3.0
    desk.pnl.enter(driver.now_ns, *values)
    assert (engine.pnl_total_quote(), engine.unhedged_pnl_quote()) == approx(before[:2])
    assert desk.book.equity_quote() / 2050.0 - desk.pnl.start_coins == approx(coins)
    assert desk.pnl.entered_quote == approx(3.0 * 2050.0)
