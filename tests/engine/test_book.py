"""The book: what it is worth, what that is worth in either numeraire, and what is left after settlement."""

from __future__ import annotations

import csv
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.decisions import Refusal
from bot.domain.instruments import Future, Hedgeable, Option, Payoff
from bot.domain.portfolio import Greeks
from bot.domain.units import NS_PER_DAY, NS_PER_S
from bot.engine.book import Holding, UnderlyingBook
from bot.engine.settings import BookLeg
from bot.pricing.black76 import greeks
from tests.engine.builders import (
    AGES,
    CALL,
    INVERSE,
    PERPETUAL,
    PUT,
    T0_NS,
    Feed,
    apply_market,
    future,
    linear_perpetual,
    make_book,
    option,
)

GOLDEN = list(
    csv.DictReader((Path(__file__).parents[1] / "golden" / "inverse_delta.csv").read_text("utf-8").splitlines())
)
EXPIRY_NS = T0_NS + 30 * NS_PER_DAY
LINEAR_FUTURE = future(EXPIRY_NS)
INVERSE_FUTURE = future(EXPIRY_NS, payoff=Payoff.INVERSE)

qties = st.floats(-500.0, 500.0)
prices = st.floats(1000.0, 4000.0)


def move_to(book: UnderlyingBook, px: float, vol: float = 0.6, now_ns: int = T0_NS) -> None:
    """Mark everything at one price: index, forward, perpetual."""
    feed = Feed(now_ns)
    feed._seq = book.marks_of_underlying.index_seq + 1000
    universe: list[Option | Hedgeable] = [holding.instrument for holding in book.holdings]
    apply_market(book.market, feed.sweep([*universe, *(option for option, *_ in book._options)], px, vol))
    if not book._options and not universe:
        book.market.apply_index(feed.index(px))
    assert book.mark(now_ns) is None
    assert book.market.faults == {}
    assert book.marks_of_underlying.index_px == px


def mixed_book(px: float = 2000.0) -> UnderlyingBook:
    """Return options, coins, money and a position of every kind, entered at `px`."""
    others = (PERPETUAL, INVERSE)
    book = make_book(
        [BookLeg(CALL, -30.0), BookLeg(PUT, 12.0), BookLeg(LINEAR_FUTURE, 7.0), BookLeg(INVERSE_FUTURE, -5.0)],
        *others,
        ages=msgspec.structs.replace(AGES, max_jump_fraction=9.0),
    )
    book.coin_cash, book.quote_cash = 20.0, -3000.0
    for instrument in others:
        book.hedge(instrument)
    move_to(book, px)
    book.enter_static_positions()
    book.hedge(PERPETUAL).trade_lots(55, px)
    book.hedge(INVERSE).trade_lots(-300, px)
    return book


class TestDollars:
    def test_coins_count_as_delta_beside_black_deltas(self) -> None:
        book = make_book([BookLeg(CALL, -30.0)])
        book.coin_cash = 20.0
        move_to(book, 2000.0)
        delta = float(greeks(2000.0, 2000.0, 30 / 365, 0.6, True).delta)
        assert book.net_greeks(is_coin_numeraire=False).delta_base == pytest.approx(20.0 - 30.0 * delta, abs=1e-12)

    def test_money_has_no_delta(self) -> None:
        book = make_book([BookLeg(CALL, 1e-9)])
        book.quote_cash = 1e6
        move_to(book, 2000.0)
        assert book.net_greeks(is_coin_numeraire=False).delta_base == pytest.approx(0.0, abs=1e-8)
        assert book.equity_quote() == pytest.approx(1e6)

    def test_greeks_are_the_sums_over_legs(self) -> None:
        book = make_book([BookLeg(CALL, -30.0), BookLeg(PUT, 12.0)])
        move_to(book, 2100.0, vol=0.55)
        call, put = (greeks(2100.0, 2000.0, 30 / 365, 0.55, is_call) for is_call in (True, False))
        assert book.net_greeks(is_coin_numeraire=False) == Greeks(
            *(
                pytest.approx(-30.0 * float(getattr(call, name)) + 12.0 * float(getattr(put, name)))
                for name in ("delta", "gamma", "vega")
            ),
            pytest.approx((-30.0 * float(call.theta) + 12.0 * float(put.theta)) / 365.0),
            pytest.approx(-30.0 * float(call.value) + 12.0 * float(put.value)),
        )

    @pytest.mark.parametrize("px", [1500.0, 2000.0, 2900.0])
    def test_delta_and_gamma_are_the_slopes_of_equity(self, px: float) -> None:
        book = mixed_book()
        values, deltas = [], []
        for at_px in (px - 0.5, px, px + 0.5):
            move_to(book, at_px if at_px != px else px)
            values.append(book.equity_quote())
            deltas.append(book.net_greeks(is_coin_numeraire=False))
        assert deltas[1].delta_base == pytest.approx(values[2] - values[0], abs=1e-4)
        assert deltas[1].gamma_base_per_px == pytest.approx(deltas[2].delta_base - deltas[0].delta_base, abs=1e-7)


class TestOtherLegs:
    @pytest.mark.parametrize("count", [2, 12])  # by plain floats, and by arrays
    def test_calls_in_place_of_puts_are_worth_what_they_are_worth_in_a_new_book(self, count: int) -> None:
        strikes = [1800.0 + 30.0 * number for number in range(count)]
        held = [(option(strike, is_call=bool(number % 2)), 3.0) for number, strike in enumerate(strikes)]
        others = [(option(one.strike_px, is_call=not one.is_call), qty_base) for one, qty_base in held]
        changed = make_book([BookLeg(*leg) for leg in held], *(one for one, _ in others))
        fresh = make_book([BookLeg(*leg) for leg in others], *(one for one, _ in held))
        for book in (changed, fresh):
            apply_market(book.market, Feed(T0_NS).sweep([one for one, _ in (*held, *others)], 2000.0, 0.6))
            assert book.mark(T0_NS) is None
        changed.hold_options(others)
        assert changed.mark(T0_NS) is None
        assert changed.net_greeks(is_coin_numeraire=False) == fresh.net_greeks(is_coin_numeraire=False)
        assert changed.option_marks is not None
        assert fresh.option_marks is not None
        assert changed.option_marks.greeks.dual_delta.tolist() == fresh.option_marks.greeks.dual_delta.tolist()


class TestCoins:
    @pytest.mark.parametrize("row", GOLDEN)
    @pytest.mark.parametrize("qty_base", [1.0, -7.5])
    def test_a_single_option_has_its_premium_adjusted_delta(self, row: dict[str, str], qty_base: float) -> None:
        """Net delta Δ − c of the golden file; gamma is its slope, (n + F² d²c/dF²)/F."""
        forward_px = float(row["F"])
        leg = option(float(row["K"]), is_call=float(row["w"]) > 0)
        book = make_book([BookLeg(leg, qty_base)])
        move_to(book, forward_px, float(row["sigma"]))
        net = book.net_greeks(is_coin_numeraire=True)
        assert net.delta_base == pytest.approx(qty_base * float(row["net_delta"]), rel=1e-11, abs=1e-13)
        gamma = (float(row["net_delta"]) + float(row["F2_coin_gamma"])) / forward_px
        assert net.gamma_base_per_px == pytest.approx(qty_base * gamma, rel=1e-10)

    def test_plain_coins_have_no_delta_and_no_gamma(self) -> None:
        book = make_book([], PERPETUAL)
        book.coin_cash = 123.0
        move_to(book, 2345.0)
        net = book.net_greeks(is_coin_numeraire=True)
        assert (net.delta_base, net.gamma_base_per_px) == (0.0, 0.0)
        assert net.value_quote == pytest.approx(123.0 * 2345.0)

    def test_money_is_a_short_position_in_the_coin(self) -> None:
        book = make_book([], PERPETUAL)
        book.quote_cash = 4000.0
        move_to(book, 2000.0)
        net = book.net_greeks(is_coin_numeraire=True)
        assert net.delta_base == pytest.approx(-2.0)
        assert net.gamma_base_per_px == pytest.approx(2.0 / 2000.0)

    @pytest.mark.parametrize("px", [1500.0, 2000.0, 2900.0])
    def test_delta_and_gamma_are_the_slopes_of_the_wealth_in_coins(self, px: float) -> None:
        """Net delta is S d(W/S)/dS, and gamma its slope, whatever the book holds."""
        book = mixed_book()
        wealth, deltas = [], []
        for at_px in (px - 0.5, px, px + 0.5):
            move_to(book, at_px)
            wealth.append(book.equity_quote() / at_px)
            deltas.append(book.net_greeks(is_coin_numeraire=True))
        assert deltas[1].delta_base == pytest.approx(px * (wealth[2] - wealth[0]), abs=1e-4)
        assert deltas[1].gamma_base_per_px == pytest.approx(deltas[2].delta_base - deltas[0].delta_base, abs=1e-7)


class TestHolding:
    @given(lots=st.integers(-10_000, 10_000), entry_px=prices, px=prices)
    def test_a_linear_position_earns_quantity_times_move(self, lots: int, entry_px: float, px: float) -> None:
        holding = Holding(PERPETUAL)
        holding.trade_lots(lots, entry_px)
        assert holding.value_quote(px, 1.0) == pytest.approx(lots * 0.1 * (px - entry_px), abs=1e-6)
        assert holding.delta_base(px) == pytest.approx(lots * 0.1)

    @given(lots=st.integers(-100_000, 100_000), entry_px=prices, px=prices, index_px=prices)
    def test_an_inverse_position_earns_coins(self, lots: int, entry_px: float, px: float, index_px: float) -> None:
        holding = Holding(INVERSE)
        holding.trade_lots(lots, entry_px)
        coins = lots * 10.0 * (1.0 / entry_px - 1.0 / px)
        assert holding.value_quote(px, index_px) == pytest.approx(coins * index_px, rel=1e-9, abs=1e-5)

    @given(lots=st.integers(-100_000, 100_000), entry_px=prices, px=prices)
    def test_inverse_contracts_convert_exactly(self, lots: int, entry_px: float, px: float) -> None:
        """Q quote-sized contracts at F are Q/F coins of delta, plus the coins already earned."""
        holding = Holding(INVERSE)
        holding.trade_lots(lots, entry_px)
        holding.mark_px = px
        earned = lots * 10.0 * (1.0 / entry_px - 1.0 / px)
        assert holding.delta_base(px) == pytest.approx(lots * INVERSE.lot_base(px) + earned, rel=1e-12, abs=1e-9)

    @given(
        trades=st.lists(st.tuples(st.integers(-1000, 1000), prices), max_size=8), px=prices, is_inverse=st.booleans()
    )
    def test_any_run_of_trades_is_worth_the_sum_of_its_trades(
        self, trades: list[tuple[int, float]], px: float, is_inverse: bool
    ) -> None:
        instrument = INVERSE if is_inverse else PERPETUAL
        together = Holding(instrument)
        apart = 0.0
        for lots, trade_px in trades:
            one = Holding(instrument)
            for holding in (together, one):
                holding.trade_lots(lots, trade_px)
            apart += one.value_quote(px, 2000.0)
        assert together.lots == sum(lots for lots, _ in trades)
        assert together.value_quote(px, 2000.0) == pytest.approx(apart, rel=1e-9, abs=1e-5)

    def test_a_closed_inverse_position_leaves_coins_that_are_delta(self) -> None:
        holding = Holding(INVERSE)
        holding.trade_lots(1000, 2000.0)
        holding.trade_lots(-1000, 2500.0)
        holding.mark_px = 2500.0
        assert holding.cash_settle == pytest.approx(1.0)
        assert holding.delta_base(2500.0) == pytest.approx(1.0)

    def test_before_its_first_mark_an_inverse_position_says_nothing(self) -> None:
        assert Holding(INVERSE).delta_base(2000.0) == 0.0


class TestStaticLegs:
    @pytest.mark.parametrize("leg", [PERPETUAL, INVERSE, LINEAR_FUTURE, INVERSE_FUTURE], ids=lambda i: i.instrument_id)
    @given(qty=qties, px=prices)
    def test_enter_without_profit_and_with_their_base_quantity(self, leg: Hedgeable, qty: float, px: float) -> None:
        book = make_book([BookLeg(leg, qty)])
        move_to(book, px)
        book.enter_static_positions()
        assert book.equity_quote() == pytest.approx(0.0, abs=1e-6)
        assert book.book_delta_base() == pytest.approx(qty, rel=1e-12, abs=1e-12)

    def test_without_a_quote_the_book_has_no_mark(self) -> None:
        book = make_book([BookLeg(INVERSE, 5.0)])
        assert book.mark(T0_NS) == (Refusal.NO_MARKET, "no quote yet for ETH-INVERSE")

    def test_an_old_quote_is_no_mark_either(self) -> None:
        book = make_book([BookLeg(INVERSE, 5.0)])
        move_to(book, 2000.0)
        book.enter_static_positions()
        assert book.mark(T0_NS + AGES.quote_ns) is None
        assert book.mark(T0_NS + AGES.quote_ns + NS_PER_S) == (
            Refusal.NO_MARKET,
            "quote of ETH-INVERSE is 61 s old, limit 60 s",
        )

    def test_a_settled_future_needs_no_quote(self) -> None:
        book = make_book([BookLeg(INVERSE_FUTURE, 5.0)])
        move_to(book, 2000.0)
        book.enter_static_positions()
        book.settle_hedges(EXPIRY_NS, 2500.0)
        assert book.mark(EXPIRY_NS + NS_PER_DAY) is None
        assert book.book_delta_base() == pytest.approx(5.0 * 2000.0 * (1 / 2000.0 - 1 / 2500.0))


class TestStaleLegs:
    """The strike 2000 grows old while others around it are quoted afresh."""

    LATE_NS = T0_NS + AGES.vol_ns + NS_PER_S

    def book_and_fresh(self, *fresh: tuple[Option, float]) -> UnderlyingBook:
        leg = BookLeg(CALL, 1.0)
        book = make_book([leg], *(quoted for quoted, _ in fresh))
        move_to(book, 2000.0)
        feed = Feed(self.LATE_NS)
        apply_market(book.market, [feed.vol(quoted, vol, 2000.0) for quoted, vol in fresh])
        return book

    def vol_of_leg(self, book: UnderlyingBook) -> float:
        assert book.mark(self.LATE_NS) is None
        assert book.interpolated_legs == 1
        assert book.option_marks is not None
        return float(book.option_marks.vol[0])

    def test_between_close_neighbours_total_variance_is_interpolated(self) -> None:
        book = self.book_and_fresh((option(1900.0), 0.7), (option(2100.0), 0.5))
        share = np.log(2000.0 / 1900.0) / np.log(2100.0 / 1900.0)
        assert self.vol_of_leg(book) == pytest.approx(np.sqrt(0.7**2 + share * (0.5**2 - 0.7**2)))

    def test_the_other_option_of_the_strike_is_the_closest_neighbour(self) -> None:
        assert self.vol_of_leg(self.book_and_fresh((PUT, 0.44))) == pytest.approx(0.44)

    def test_expiries_before_and_after_will_do(self) -> None:
        book = self.book_and_fresh((PUT, 0.4), (option(2000.0, days=20.0), 0.6), (option(2000.0, days=60.0), 0.6))
        assert self.vol_of_leg(book) == pytest.approx(0.4), "its own expiry comes first"
        book = self.book_and_fresh(
            (option(2000.0, days=20.0), 0.5), (option(2000.0, days=60.0), 0.7), (option(2900.0), 0.9)
        )
        left_days = [days - (self.LATE_NS - T0_NS) / NS_PER_DAY for days in (20.0, 30.0, 60.0)]
        w = np.interp(left_days[1], [left_days[0], left_days[2]], [0.25 * left_days[0], 0.49 * left_days[2]])
        assert self.vol_of_leg(book) == pytest.approx(np.sqrt(w / left_days[1])), "its own, if too far away, does not"

    @pytest.mark.parametrize(
        "fresh",
        [
            [(option(1500.0), 0.7), (option(2500.0), 0.5)],
            [(option(2100.0), 0.5)],
            [(option(1900.0), 0.5)],
            [(option(2000.0, days=60.0), 0.6), (option(2500.0), 0.6)],
        ],
        ids=["too far apart", "only above", "only below", "only a later expiry"],
    )
    def test_otherwise_the_leg_and_its_age_are_named(self, fresh: list[tuple[Option, float]]) -> None:
        book = self.book_and_fresh(*fresh)
        refused = book.mark(self.LATE_NS)
        assert refused is not None
        assert refused[0] is Refusal.NO_VOL
        assert refused[1].startswith("vol quote of ETH-30D-2000-C is 601 s old and no fresh quotes surround it")

    def test_a_leg_never_quoted_is_missing(self) -> None:
        book = make_book([BookLeg(CALL, 1.0)], option(2500.0))
        apply_market(book.market, [Feed().vol(option(2500.0), 0.6, 2000.0)])
        refused = book.mark(T0_NS)
        assert refused is not None
        assert refused[0] is Refusal.NO_VOL
        assert "ETH-30D-2000-C is missing" in refused[1]

    def test_a_forward_must_be_there_and_fresh(self) -> None:
        book = make_book([BookLeg(CALL, 1.0)])
        assert book.mark(T0_NS) == (Refusal.NO_MARKET, "no forward of ETH 2023-05-03 yet")
        move_to(book, 2000.0)
        assert book.mark(T0_NS + AGES.vol_ns) is None
        assert book.mark(self.LATE_NS) == (
            Refusal.STALE_FORWARD,
            "forward of ETH 2023-05-03 is 601 s old, limit 600 s",
        )

    def test_nothing_is_interpolated_while_everything_is_fresh(self) -> None:
        book = self.book_and_fresh((option(1900.0), 0.7), (option(2100.0), 0.5), (CALL, 0.6))
        assert book.mark(self.LATE_NS) is None
        assert book.interpolated_legs == 0

    def test_what_is_held_of_old_marks_is_noticed_without_any_new_event(self) -> None:
        book = make_book([BookLeg(CALL, 1.0), BookLeg(option(2000.0, days=60.0), 1.0)])
        move_to(book, 2000.0)
        refusals = [book.mark(T0_NS + second * NS_PER_S) for second in range(0, 700, 10)]
        assert refusals[:61] == [None] * 61
        assert all(refused is not None and refused[0] is Refusal.STALE_FORWARD for refused in refusals[61:])


class TestPassingOfTime:
    def test_unchanged_marks_are_repriced_every_second(self) -> None:
        book = make_book([BookLeg(CALL, 1.0)])
        move_to(book, 2000.0)
        first = book.option_marks
        book.mark(T0_NS + NS_PER_S - 1)
        assert book.option_marks is first
        book.mark(T0_NS + NS_PER_S)
        assert book.option_marks is not first

    def test_and_far_more_often_as_expiry_nears(self) -> None:
        book = make_book([BookLeg(CALL, 1.0)])
        move_to(book, 2000.0, now_ns=CALL.expiry_ns - 10 * NS_PER_S)
        first = book.option_marks
        book.mark(CALL.expiry_ns - 10 * NS_PER_S + NS_PER_S // 1000)
        assert book.option_marks is not first

    @pytest.mark.parametrize("strike_px", [1900.0, 2000.0, 2100.0])
    def test_while_it_waits_for_settlement_an_option_keeps_finite_marks(self, strike_px: float) -> None:
        book = make_book([BookLeg(option(strike_px), 1.0)])
        move_to(book, 2000.0, now_ns=EXPIRY_NS - 2 * NS_PER_S)
        for now_ns in (EXPIRY_NS - NS_PER_S, EXPIRY_NS - 1, EXPIRY_NS, EXPIRY_NS + 1, EXPIRY_NS + 3 * NS_PER_DAY):
            assert book.mark(now_ns) is None
            net = book.net_greeks(is_coin_numeraire=False)
            assert all(np.isfinite([net.delta_base, net.value_quote, net.vega_quote_per_vol, net.theta_quote_per_day]))
            assert net.value_quote == pytest.approx(max(0.0, 2000.0 - strike_px), abs=0.5)


WINDOW_S = 1800.0


class TestSettlementWindow:
    """In its last half hour a forward is of an average that is fixed in part: options move by the rest of it only."""

    def book(self, left_s: float, *, is_averaged: bool = True) -> UnderlyingBook:
        call = msgspec.structs.replace(option(2010.0), settlement_window_s=WINDOW_S if is_averaged else 0.0)
        book = make_book([BookLeg(call, -10.0)])
        move_to(book, 2000.0, now_ns=EXPIRY_NS - round(left_s * NS_PER_S))
        return book

    @pytest.mark.parametrize(("left_s", "share"), [(3600.0, 1.0), (1800.0, 1.0), (900.0, 0.5), (180.0, 0.1)])
    def test_delta_and_gamma_are_of_what_still_moves(self, left_s: float, share: float) -> None:
        plain, averaged = self.book(left_s, is_averaged=False), self.book(left_s)
        assert averaged.option_delta_base == pytest.approx(share * plain.option_delta_base, rel=1e-12)
        assert averaged.option_gamma == pytest.approx(share**2 * plain.option_gamma, rel=1e-12)
        assert averaged.equity_quote() == plain.equity_quote()
        assert (averaged.option_vega, averaged.option_theta_per_year) == (
            plain.option_vega,
            plain.option_theta_per_year,
        )

    def test_nothing_moves_an_option_whose_price_is_only_waited_for(self) -> None:
        book = self.book(60.0)
        for now_ns in (EXPIRY_NS, EXPIRY_NS + 60 * NS_PER_S):
            assert book.mark(now_ns) is None
            assert (book.option_delta_base, book.option_gamma) == (0.0, 0.0)

    def test_each_leg_by_its_own_expiry(self) -> None:
        near, far = (
            msgspec.structs.replace(option(2000.0, days=days), settlement_window_s=WINDOW_S) for days in (30.0, 60.0)
        )
        book, alone = make_book([BookLeg(near, 3.0), BookLeg(far, 5.0)]), make_book([BookLeg(far, 5.0)])
        now_ns = EXPIRY_NS - 900 * NS_PER_S
        move_to(book, 2000.0, now_ns=now_ns)
        move_to(alone, 2000.0, now_ns=now_ns)
        marks = book.option_marks
        assert marks is not None
        assert book.option_delta_base - alone.option_delta_base == pytest.approx(1.5 * float(marks.greeks.delta[0]))

    def test_hedging_by_it_leaves_less_than_hedging_by_black(self) -> None:
        """The average of a path in steps of a minute, marked by Black on the average to come; hedged every minute."""
        rng = np.random.default_rng(11)
        paths, minutes, vol = 400, 30, 0.6
        minute_years = 60.0 / (365.0 * 86_400.0)
        moves = vol * np.sqrt(minute_years) * rng.standard_normal((paths, minutes))
        spot = 2000.0 * np.exp(np.cumsum(moves - 0.5 * vol**2 * minute_years, axis=1))
        spot = np.column_stack([np.full(paths, 2000.0), spot])
        payoff = np.maximum(0.0, spot[:, 1:].mean(axis=1) - 2000.0)
        errors = {"averaged": -payoff, "black": -payoff}
        for minute in range(minutes):
            left = (minutes - minute) / minutes
            forward = spot[:, 1 : minute + 1].sum(axis=1) / minutes + left * spot[:, minute]
            left_years = left * minutes * minute_years
            # quoted for the average: its own deviation, spread over the time that is left
            quoted_vol = vol * left * spot[:, minute] / forward / np.sqrt(3.0)
            delta = greeks(forward, 2000.0, left_years, quoted_vol, True).delta
            move = spot[:, minute + 1] - spot[:, minute]
            errors["averaged"] = errors["averaged"] + left * delta * move
            errors["black"] = errors["black"] + delta * move
        assert errors["averaged"].std() < 0.25 * errors["black"].std()
        assert errors["averaged"].std() < 0.15 * payoff.std()


class TestSettlement:
    @pytest.mark.parametrize(("px", "payoffs"), [(2300.0, (300.0, 0.0)), (1700.0, (0.0, 300.0)), (2000.0, (0.0, 0.0))])
    @pytest.mark.parametrize("settle", ["ETH", "USD"])
    def test_options_turn_into_their_payoff(self, px: float, payoffs: tuple[float, float], settle: str) -> None:
        call, put = option(settle=settle), option(is_call=False, settle=settle)
        book = make_book([BookLeg(call, -10.0), BookLeg(put, 4.0)])
        book.coin_cash, book.quote_cash = 2.0, 100.0
        move_to(book, 2000.0)
        value_before = book.equity_quote()
        moved, rest = book.settle(EXPIRY_NS, px)
        payoff_quote = -10.0 * payoffs[0] + 4.0 * payoffs[1]
        assert book.coin_cash == pytest.approx(2.0 + (payoff_quote / px if settle == "ETH" else 0.0))
        assert book.quote_cash == pytest.approx(100.0 + (0.0 if settle == "ETH" else payoff_quote))
        assert book.equity_quote() - value_before == pytest.approx(moved + rest, abs=1e-9)
        assert book.net_greeks(is_coin_numeraire=False).gamma_base_per_px == 0.0
        assert len(book.legs.qty_base) == 0
        assert book.expiries == []

    def test_the_way_to_the_price_is_told_from_the_rest(self) -> None:
        """Start-of-step delta on the move from forward to price, and what the coins received gain at the index."""
        book = make_book([BookLeg(CALL, -10.0)])
        move_to(book, 2000.0)
        delta = float(greeks(2000.0, 2000.0, 30 / 365, 0.6, True).delta)
        moved, _ = book.settle(EXPIRY_NS, 2100.0)
        coins = -10.0 * 100.0 / 2100.0
        assert moved == pytest.approx(-10.0 * delta * 100.0 + coins * (2000.0 - 2100.0))

    def test_what_expires_later_stays_as_it_was(self) -> None:
        far = option(2100.0, days=60.0)
        book = make_book([BookLeg(CALL, -10.0), BookLeg(far, 5.0), BookLeg(PUT, 3.0)])
        move_to(book, 2000.0)
        book.settle(EXPIRY_NS, 2000.0)
        alone = make_book([BookLeg(far, 5.0)])
        move_to(alone, 2000.0)
        assert book.option_qty_base.tolist() == [5.0]
        assert book.net_greeks(is_coin_numeraire=False) == alone.net_greeks(is_coin_numeraire=False)
        move_to(book, 2050.0, vol=0.5, now_ns=T0_NS + NS_PER_S)
        move_to(alone, 2050.0, vol=0.5, now_ns=T0_NS + NS_PER_S)
        assert book.net_greeks(is_coin_numeraire=False) == alone.net_greeks(is_coin_numeraire=False)

    def test_happens_once(self) -> None:
        book = mixed_book()
        book.settle(EXPIRY_NS, 2300.0)
        book.settle_hedges(EXPIRY_NS, 2300.0)
        equity = book.equity_quote()
        assert book.settle(EXPIRY_NS, 900.0) == (0.0, 0.0)
        assert book.settle_hedges(EXPIRY_NS, 900.0) == 0.0
        assert book.equity_quote() == equity

    def test_another_expiry_settles_nothing(self) -> None:
        book = mixed_book()
        equity = book.equity_quote()
        assert book.settle(EXPIRY_NS + NS_PER_DAY, 2300.0) == (0.0, 0.0)
        assert book.equity_quote() == equity

    @pytest.mark.parametrize("instrument", [LINEAR_FUTURE, INVERSE_FUTURE], ids=lambda i: i.instrument_id)
    def test_futures_close_at_the_price_and_keep_their_profit(self, instrument: Future) -> None:
        book = make_book([BookLeg(instrument, 5.0)], PERPETUAL)
        move_to(book, 2000.0)
        book.enter_static_positions()
        moved = book.settle_hedges(EXPIRY_NS, 2500.0)
        (holding,) = book.holdings
        assert holding.qty == 0.0
        profit_settle = 5.0 * 500.0 if instrument is LINEAR_FUTURE else 5.0 * 2000.0 * (1 / 2000.0 - 1 / 2500.0)
        assert holding.cash_settle == pytest.approx(profit_settle)
        assert moved == pytest.approx(book.equity_quote())

    def test_perpetuals_do_not_expire(self) -> None:
        book = mixed_book()
        book.settle_hedges(EXPIRY_NS, 2300.0)
        assert (book.hedge(PERPETUAL).lots, book.hedge(INVERSE).lots) == (55, -300)


def test_two_underlyings_share_a_market_and_nothing_else() -> None:
    btc_perp, btc_call = linear_perpetual("BTC"), option(30_000.0, base="BTC")
    eth = make_book([BookLeg(CALL, -10.0)], PERPETUAL, btc_perp, btc_call)
    btc = UnderlyingBook("BTC", eth.market, [BookLeg(btc_call, 2.0)], AGES)
    feed = Feed()
    apply_market(eth.market, feed.sweep([CALL, PERPETUAL], 2000.0, 0.6))
    apply_market(eth.market, feed.sweep([btc_call, btc_perp], 30_000.0, 0.5))
    assert eth.mark(T0_NS) is None
    assert btc.mark(T0_NS) is None
    greeks_of_eth, value_of_btc = eth.net_greeks(is_coin_numeraire=False), btc.equity_quote()
    feed.wait(0.5)
    apply_market(eth.market, feed.sweep([btc_call, btc_perp], 31_000.0, 0.5))
    assert eth.mark(feed.now_ns) is None
    assert btc.mark(feed.now_ns) is None
    assert eth.net_greeks(is_coin_numeraire=False) == greeks_of_eth
    assert btc.equity_quote() > value_of_btc
    btc.settle(EXPIRY_NS, 31_000.0)
    assert eth.net_greeks(is_coin_numeraire=False) == greeks_of_eth
