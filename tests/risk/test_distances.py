"""Distances to liquidation: the published cases to the digit, repricing against closed forms, chances against paths."""

from __future__ import annotations

import json
from math import inf, isnan, log, nan, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.risk.book import OPTION, PERPETUAL, SPOT, Floats, Position, RiskBook, build_book
from bot.risk.distances import (
    Interval,
    book_health,
    find_interval,
    greek_health,
    linear_health,
    linear_liquidation_px,
    measure_distance,
    move_book,
    touch_moving_bounds,
    touch_probability,
    utilise,
    years_to_breach,
)
from bot.risk.quick_distances import quick_interval

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "distance_to_liquidation_cases.json").read_text(encoding="utf-8")
)["cases"]
HOUR = 1.0 / 8760.0


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
def test_the_reference_cases_come_out_to_the_digit(case: dict[str, Any]) -> None:
    numbers = (case["equity"], case["size"], case["price"], case["mmf"])
    px, vol = case["price"], case["annual_vol"]
    assert linear_liquidation_px(*numbers) == pytest.approx(case["liq_price"], rel=1e-14)
    found = measure_distance(linear_health(*numbers), px, vol, 24 * HOUR)
    assert found.interval.up_px == pytest.approx(case["liq_price"], rel=1e-12)
    assert found.up_fraction == pytest.approx(case["pct_distance"], rel=1e-11)
    assert found.up_sigmas == pytest.approx(case["sigmas_1d"], rel=1e-11)
    assert found.utilisation_ratio == pytest.approx(case["mmr_ratio"], rel=1e-14)
    assert (found.interval.down_px, found.down_sigmas, found.degraded) == (0.0, inf, "")
    exact = Interval(0.0, case["liq_price"])
    for hours in (1, 8, 24):
        expected = case[f"p_touch_{hours}h"]
        assert touch_probability(exact, px, vol, hours * HOUR) == pytest.approx(expected, rel=1e-10)
    assert found.touch_probability == pytest.approx(case["p_touch_24h"], rel=1e-10)


def test_utilisation_means_the_same_everywhere() -> None:
    assert utilise(100.0, 60.0) == 0.6
    assert utilise(105.0, 100.0, 1 / 1.05) == pytest.approx(1.0)
    assert utilise(100.0, 95.0, 0.95) == pytest.approx(1.0)
    assert (utilise(0.0, 1.0), utilise(-5.0, 0.0), utilise(0.0, 0.0)) == (inf, inf, 0.0)
    assert isnan(utilise(nan, 1.0))


@given(st.floats(-20, 20), st.floats(1_000, 400_000), st.sampled_from([1.0, 0.95, 1 / 1.05]))
def test_repricing_finds_what_the_closed_form_says(qty: float, equity: float, liquidation_ratio: float) -> None:
    px, mmf = 50_000.0, 0.01
    exact = linear_liquidation_px(equity, qty, px, mmf, liquidation_ratio)
    found = find_interval(linear_health(equity, qty, px, mmf), px, liquidation_ratio)
    if liquidation_ratio * equity <= abs(qty) * mmf * px:
        assert found == Interval(px, px)
        return
    reached = found.down_px if qty > 0 else found.up_px
    if px / 8 < exact < px * 8:
        assert reached == pytest.approx(exact, rel=1e-10)
    else:
        assert reached in (0.0, inf)


class TestChances:
    def test_two_bounds_against_paths(self) -> None:
        """Of 40,000 paths of 400 steps, bounds shifted by the 0.5826 σ√dt that discrete looks miss (Broadie et al.)."""
        vol, years, steps = 0.8, 1 / 52, 400
        interval = Interval(93.0, 108.0)
        rng = np.random.default_rng(5)
        step = vol * sqrt(years / steps)
        low = high = x = np.zeros(40_000)
        for _ in range(steps):
            x = x + step * rng.standard_normal(len(x))
            low, high = np.minimum(low, x), np.maximum(high, x)
        down, up = log(100 / 93) - 0.5826 * step, log(108 / 100) - 0.5826 * step
        seen = np.mean((low <= -down) | (high >= up))
        assert touch_probability(interval, 100.0, vol, years) == pytest.approx(seen, abs=0.008)

    def test_the_limits(self) -> None:
        interval = Interval(90.0, 110.0)
        assert touch_probability(interval, 100.0, 0.5, 0.0) == 0.0
        assert touch_probability(interval, 100.0, 0.5, 1e6) == 1.0
        assert touch_probability(interval, 110.0, 0.5, 0.1) == 1.0
        assert touch_probability(Interval(0.0, inf), 100.0, 0.5, 0.1) == 0.0
        assert isnan(touch_probability(interval, 100.0, nan, 0.1))

    @given(st.floats(0.01, 3.0), st.floats(1e-5, 5.0), st.floats(0.5, 0.999), st.floats(1.001, 2.0))
    def test_never_more_than_both_sides_nor_less_than_either(
        self, vol: float, years: float, down: float, up: float
    ) -> None:
        both = touch_probability(Interval(down, up), 1.0, vol, years)
        below, above = (touch_probability(one, 1.0, vol, years) for one in (Interval(down, inf), Interval(0.0, up)))
        assert max(below, above) - 1e-12 <= both <= min(1.0, below + above) + 1e-12

    @given(st.floats(0.05, 3.0), st.floats(0.5, 0.999), st.floats(1.001, 2.0))
    def test_time_to_breach_is_when_the_chance_is_one_per_cent(self, vol: float, down: float, up: float) -> None:
        interval = Interval(down, up)
        years = years_to_breach(interval, 1.0, vol)
        assert touch_probability(interval, 1.0, vol, years) == pytest.approx(0.01, rel=1e-6)

    def test_time_to_breach_at_its_ends(self) -> None:
        assert years_to_breach(Interval(100.0, inf), 100.0, 0.5) == 0.0
        assert years_to_breach(Interval(0.0, inf), 100.0, 0.5) == inf
        assert years_to_breach(Interval(90.0, 110.0), 100.0, nan) == 0.0


class TestBoundsThatMove:
    def test_those_that_stand_still_give_the_exact_chance(self) -> None:
        vol, years = 0.7, 1 / 365
        for down, up in ((0.02, 0.05), (0.06, 0.03), (1.0, 0.04)):
            interval = Interval(np.exp(-down), np.exp(up))
            exact = touch_probability(interval, 1.0, vol, years)
            found = touch_moving_bounds(np.full(9, down), np.full(9, up), vol, years)
            assert found == pytest.approx(exact, abs=2e-4)

    def test_a_straight_bound_that_comes_nearer_gives_the_exact_chance(self) -> None:
        """Of x + μt reaching b: Φ((μT−b)/s) + exp(2μb/σ²) Φ((−b−μT)/s), with μ the pace of the bound (Siegmund)."""
        from scipy.special import ndtr

        vol, years, b, end = 0.7, 1 / 365, 0.06, 0.03
        pace, s = (b - end) / years, vol * sqrt(years)
        exact = ndtr((pace * years - b) / s) + np.exp(2 * pace * b / vol**2) * ndtr((-b - pace * years) / s)
        found = touch_moving_bounds(np.full(17, 2.0), np.linspace(b, end, 17), vol, years)
        assert found == pytest.approx(float(exact), abs=2e-4)

    def test_what_is_not_known_or_over_already(self) -> None:
        ones = np.ones(3)
        assert isnan(touch_moving_bounds(ones, ones, nan, 0.1))
        assert touch_moving_bounds(ones, 0.0 * ones, 0.5, 0.1) == 1.0
        assert touch_moving_bounds(ones, ones, 0.5, 0.0) == 0.0
        with pytest.raises(ValueError, match="two moments"):
            touch_moving_bounds(ones[:1], ones[:1], 0.5, 0.1)


AT_THE_MONEY: dict[str, Any] = {"strike_px": 2000.0, "tau_years": 0.05, "vol": 0.7}


def short_straddle() -> RiskBook:
    return build_book(
        [
            Position(kind=OPTION, underlying="ETH", qty_base=-100, is_call=True, **AT_THE_MONEY),
            Position(kind=OPTION, underlying="ETH", qty_base=-100, mark_px=130.0, **AT_THE_MONEY),
            Position(kind=PERPETUAL, underlying="BTC", qty_base=1.0),
            Position(kind=SPOT, underlying="ETH", qty_base=10.0),
        ],
        {"ETH": 2000.0, "BTC": 60_000.0},
    )  # fmt: skip


def tenth_of_shorts(book: RiskBook) -> float:
    return float(0.10 * np.abs(book.qty_base * book.spot_of_row_px)[book.is_option].sum())


class TestRepricing:
    def test_a_short_straddle_dies_on_both_sides_and_sooner_when_vols_rise(self) -> None:
        health = book_health(short_straddle(), 60_000.0, tenth_of_shorts, "ETH")
        found = measure_distance(health, 2000.0, 0.7, 8 * HOUR, vol_shift_fraction=0.25)
        assert 0.0 < found.interval.down_px < found.tightest.down_px < 2000.0
        assert 2000.0 < found.tightest.up_px < found.interval.up_px < inf
        for px in (found.interval.down_px, found.interval.up_px):
            equity, margin = health(np.array([px / 2000.0 - 1.0]), 1.0)
            assert equity[0] == pytest.approx(margin[0], rel=1e-9)
        likely = touch_probability(found.interval, 2000.0, 0.7, 8 * HOUR)
        assert 0.0 < likely < found.touch_probability < 0.5

    def test_only_the_one_underlying_moves_and_a_mark_keeps_its_own_difference(self) -> None:
        book = short_straddle()
        moved = move_book(book, -0.1, 1.2, "ETH")
        assert moved.spot_px.tolist() == pytest.approx([1800.0, 60_000.0])
        assert moved.mark_px[2:].tolist() == pytest.approx([60_000.0, 1800.0])
        assert moved.vol[:2] == pytest.approx(0.84)
        put = Position(kind=OPTION, underlying="ETH", qty_base=-1, **{**AT_THE_MONEY, "vol": 0.84})
        model = build_book([put], {"ETH": 1800.0})
        assert moved.mark_px[1] - model.mark_px[0] == pytest.approx(130.0 - book.mark_px[0], abs=1e-9)
        assert move_book(book, -0.1).spot_px.tolist() == pytest.approx([1800.0, 54_000.0])
        assert (move_book(book, -0.9).mark_px >= 0.0).all()

    def test_collateral_counts_what_the_haircut_leaves_of_it(self) -> None:
        health = book_health(short_straddle().where(np.array([3])), 1_000.0, lambda _: 0.0, spot_weight=0.8)
        assert health(np.array([-0.5]), 1.0)[0].tolist() == pytest.approx([1_000.0 - 0.8 * 10 * 1000.0])

    def test_greeks_stand_in_for_the_book_when_moves_are_small(self) -> None:
        health = greek_health(290e3, 180e3, -1.5e6, -12e3)
        equity, margin = health(np.array([0.0, 0.02]), 1.0)
        assert equity.tolist() == pytest.approx([290e3, 290e3 - 30e3 - 0.5 * 12e3 * 2 * 0.02])
        assert margin.tolist() == pytest.approx([180e3, 183.6e3])


class TestWhatIsNotKnown:
    @pytest.mark.parametrize(
        ("px", "vol", "equity", "what"),
        [(nan, 0.6, 1e5, "price"), (6e4, nan, 1e5, "vol"), (6e4, -0.1, 1e5, "vol"), (6e4, 0.6, nan, "margin")],
    )
    def test_it_is_named_and_taken_as_no_distance(self, px: float, vol: float, equity: float, what: str) -> None:
        found = measure_distance(linear_health(equity, -10, 6e4, 0.01), px, vol, HOUR)
        assert what in found.degraded
        assert (found.breach_years, found.up_fraction, found.up_sigmas) == (0.0, 0.0, 0.0)
        assert isnan(found.touch_probability)

    def test_a_model_that_fails_further_out_ends_the_search_there(self) -> None:
        def health(moves: Floats, _vol_factor: float) -> tuple[Floats, Floats]:
            return np.where(moves > 0.5, nan, 100.0), np.full(len(moves), 10.0)

        found = find_interval(health, 100.0)
        assert 150.0 < found.up_px < 200.0
        assert found.down_px == 0.0

    @pytest.mark.parametrize("equity", [0.0, 5.0])
    def test_an_empty_book_is_infinitely_far(self, equity: float) -> None:
        book = build_book([], {"ETH": 2000.0})
        found = measure_distance(book_health(book, equity, lambda _: 0.0), 2000.0, 0.5, HOUR)
        assert (found.utilisation_ratio, found.interval) == (0.0, Interval(0.0, inf))
        assert (found.touch_probability, found.breach_years) == (0.0, inf)


def test_a_coin_that_is_owed_gets_no_haircut() -> None:
    owed = build_book([Position(kind=SPOT, underlying="BTC", qty_base=-1.0)], {"BTC": 60_000.0})
    health = book_health(owed, 30_000.0, lambda _: 0.0, spot_weight=0.5)
    assert health(np.array([0.5]), 1.0)[0][0] == pytest.approx(0.0)
    assert find_interval(health, 60_000.0).up_px == pytest.approx(90_000.0)
    quick = quick_interval(owed, 30_000.0, lambda _: 0.0, 60_000.0, spot_weight=0.5)
    assert quick.up_px == pytest.approx(90_000.0, rel=2e-3)


@pytest.mark.parametrize("qty", [3.0, -3.0])
def test_an_inverse_contract_keeps_its_quote_money_so_that_margin_does_not_shrink_with_the_price(qty: float) -> None:
    """In coin: equity C + N (1/P - 1/P'), margin f |N| / P'; both reach each other at P' = N (1 + f) / (C + N/P)."""
    px, coins, rate = 60_000.0, 1.0 if qty > 0.0 else 5.0, 0.02
    legs = [
        Position(kind=PERPETUAL, underlying="BTC", qty_base=qty, money="BTC"),
        Position(kind=SPOT, underlying="BTC", qty_base=coins, money="BTC"),
    ]
    book = build_book(legs, {"BTC": px})

    def maintenance(one: RiskBook) -> float:
        return rate * float((np.abs(one.qty_base) * one.mark_px)[one.kind == PERPETUAL].sum())

    notional = qty * px
    expected = (notional + rate * abs(notional)) / (coins + notional / px)
    health = book_health(book, coins * px, maintenance)
    thorough, quick = find_interval(health, px), quick_interval(book, coins * px, maintenance, px)
    if qty > 0.0:
        assert thorough.down_px == pytest.approx(expected, rel=1e-9)
        assert quick.down_px == pytest.approx(expected, rel=2e-3)
    else:
        assert (thorough.up_px, quick.up_px) == (inf, inf)  # two coins more than are sold: rising ends nothing
        assert maintenance(move_book(book, 1.0)) == pytest.approx(rate * 180_000.0)
    assert move_book(book, -0.5).qty_base.tolist() == [2.0 * qty, coins]


@pytest.mark.parametrize(("middle", "is_call"), [(1.45, True), (1.25, True), (0.62, False), (0.8, False)])
def test_a_dip_at_a_strike_narrower_than_a_step_is_not_looked_past(middle: float, is_call: bool) -> None:
    strikes = ((-100.0, 0.99), (200.0, 1.0), (-100.0, 1.01))  # a butterfly that was sold, an hour before its end
    legs = [
        Position(
            kind=OPTION, underlying="BTC", qty_base=qty, strike_px=100.0 * middle * at, tau_years=HOUR, vol=0.5,
            is_call=is_call,
        )
        for qty, at in strikes
    ]  # fmt: skip
    book = build_book(legs, {"BTC": 100.0})
    health = book_health(book, 30.0, lambda _: 0.0)
    assert health(np.array([middle - 1.0]), 1.0)[0][0] < 0.0
    quick = quick_interval(book, 30.0, lambda _: 0.0, 100.0)  # with few questions it may stop short, never behind
    for found, near in ((find_interval(health, 100.0), 0.01), (quick, 0.035)):
        end_px = found.up_px if is_call else found.down_px
        assert abs(end_px / (100.0 * middle) - 1.0) < near
        assert abs(end_px - 100.0) <= abs(100.0 * middle - 100.0)
