from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bot.domain.decisions import Legs
from bot.domain.portfolio import Greeks
from bot.pricing.bands import MONITORING_SHIFT, band_half_base, delta_sd_base, floor_half_base, floored_half_base
from bot.pricing.black76 import greeks
from bot.pricing.ex_ante import expected_cost
from strategies import Impulse, WhalleyWilmott
from strategies.corrections import horizon_years
from strategies.risk import RiskWords
from tests.strategies.views import view

SPOT, VOL, TAU, COST, AVERSE = 100.0, 0.6, 14 / 365, 5e-4, 1.0
PLAIN: dict[str, Any] = {"monitoring_correction": False, "h0_floor": False, "centre_term": "none"}


def seen(qty: float, ratio: float = 1.0, **changes: Any) -> Any:
    """A view of `qty` calls of strike 100 at a spot of `ratio` times that."""
    spot = SPOT * ratio
    legs = Legs(*(np.array([x]) for x in (spot, SPOT, TAU, VOL, qty)), np.array([True]))
    marks = greeks(spot, SPOT, TAU, VOL, True)
    same: dict[str, Any] = {
        "spot_px": spot,
        "vol": VOL,
        "tau_years": TAU,
        "cost_rate": COST,
        "lot_base": 1e-9,
        "legs": legs,
        "monitor_years": 1e-5,
    }
    return view(qty * float(marks.gamma), **{**same, **changes})


def half(policy: WhalleyWilmott | Impulse, what: Any) -> float:
    target = policy.target(what)
    return 0.5 * (target.high_base - target.low_base)


def centre(policy: WhalleyWilmott | Impulse, what: Any) -> float:
    target = policy.target(what)
    return 0.5 * (target.high_base + target.low_base)


@pytest.mark.parametrize("kind", [WhalleyWilmott, Impulse])
def test_each_correction_does_what_it_says(kind: type[WhalleyWilmott | Impulse]) -> None:
    what = seen(-1.0)
    gamma = what.greeks.gamma_base_per_px
    plain = band_half_base(COST, SPOT, gamma, AVERSE)
    assert half(kind(risk_aversion_per_quote=AVERSE, **PLAIN), what) == pytest.approx(plain, rel=1e-12)
    step = delta_sd_base(gamma, SPOT, VOL, 1e-5)
    floor = floor_half_base(COST, SPOT, VOL, TAU, AVERSE)
    nearer = kind(risk_aversion_per_quote=AVERSE, **{**PLAIN, "monitoring_correction": True})
    assert half(nearer, what) == pytest.approx(plain - MONITORING_SHIFT * step, rel=1e-12)
    wider = kind(risk_aversion_per_quote=AVERSE, **{**PLAIN, "h0_floor": True}, unwinds_at_expiry=False)
    assert half(wider, what) == pytest.approx(floored_half_base(plain, floor), rel=1e-12)
    both = kind(risk_aversion_per_quote=AVERSE, unwinds_at_expiry=False)
    assert half(both, what) == pytest.approx(floored_half_base(plain - MONITORING_SHIFT * step, floor), rel=1e-12)
    assert centre(both, what) != 0.0


def reach(policy: WhalleyWilmott | Impulse, what: Any) -> tuple[float, float]:
    """How far below and above the centre of its other corrections the band goes."""
    middle = centre(policy.model_copy(update={"unwinds_at_expiry": False}), what)
    target = policy.target(what)
    return middle - target.low_base, target.high_base - middle


def inner(policy: Impulse, what: Any) -> tuple[float, float]:
    """Where a trade ends, likewise."""
    middle = centre(policy.model_copy(update={"unwinds_at_expiry": False}), what)
    target = policy.target(what)
    return middle - target.buy_to_base, target.sell_to_base - middle


SOON = 0.5 / 365  # half a day to expiry


@pytest.mark.parametrize("kind", [WhalleyWilmott, Impulse])
@pytest.mark.parametrize(("wanted", "net", "target"), [(0.4, 0.0, 0.0), (0.4, 0.3, 0.2), (-0.4, -0.3, 0.0)])
def test_a_hedge_that_will_be_closed_grows_late_and_shrinks_early(
    kind: type[WhalleyWilmott | Impulse], wanted: float, net: float, target: float
) -> None:
    policy = kind(risk_aversion_per_quote=AVERSE)
    held = wanted + net - target  # net delta is the options' and this
    what = seen(-1.0, 1.03, tau_years=SOON, hedge_base=held, target_delta_base=target, greeks=Greeks(net, -0.005))
    plain = band_half_base(COST, 103.0, 0.005, AVERSE) - MONITORING_SHIFT * delta_sd_base(0.005, 103.0, VOL, 1e-5)
    floor = floor_half_base(COST, 103.0, VOL, SOON, AVERSE)
    grows = floored_half_base(plain, 2.0 * floor)
    shrinks = min(floored_half_base(plain, floor), 0.7 * 0.005 * 103.0 * VOL * math.sqrt(SOON))
    assert grows > 1.5 * shrinks
    # a long hedge grows by buying, which is at the low end of net delta, a short one by selling
    below, above = (grows, shrinks) if wanted > 0.0 else (shrinks, grows)
    assert reach(policy, what) == pytest.approx((below, above), rel=1e-9)


@pytest.mark.parametrize("gas", [0.0, 0.5])
def test_a_hedge_held_on_the_wrong_side_is_judged_by_what_is_wanted(gas: float) -> None:
    policy = Impulse(risk_aversion_per_quote=AVERSE)
    short_still = seen(-1.0, tau_years=SOON, hedge_base=-0.2, greeks=Greeks(-0.6, -0.03), fixed_cost_quote=gas)
    held_long = seen(-1.0, tau_years=SOON, hedge_base=0.5, greeks=Greeks(0.1, -0.03), fixed_cost_quote=gas)
    assert reach(policy, short_still) == pytest.approx(reach(policy, held_long), rel=1e-12)
    below, above = reach(policy, held_long)
    assert below > above


def test_what_gas_asks_for_is_asked_for_on_both_sides() -> None:
    policy, lives_on = (Impulse(risk_aversion_per_quote=AVERSE, unwinds_at_expiry=flag) for flag in (True, False))
    what = seen(-1.0, tau_years=SOON, hedge_base=0.4, greeks=Greeks(0.0, -0.003), fixed_cost_quote=0.05)
    (grow, shrink), (grow_to, shrink_to) = reach(policy, what), inner(policy, what)
    trigger, stop = half(lives_on, what), inner(lives_on, what)[1]
    assert shrink_to == pytest.approx(0.7 * delta_sd_base(0.003, SPOT, VOL, SOON))
    assert shrink_to < stop < grow_to
    assert shrink - shrink_to == pytest.approx(trigger - stop)
    assert grow - grow_to > 0.5 * (trigger - stop)


@pytest.mark.parametrize("kind", [WhalleyWilmott, Impulse])
@pytest.mark.parametrize("gas", [0.0, 0.01])
def test_with_all_the_time_in_the_world_nothing_is_unwound(kind: type[WhalleyWilmott | Impulse], gas: float) -> None:
    policy, lives_on = (kind(risk_aversion_per_quote=AVERSE, unwinds_at_expiry=flag) for flag in (True, False))
    for wanted in (0.4, -0.4):
        endless = seen(-1.0, horizon_years=math.inf, hedge_base=wanted, fixed_cost_quote=gas)
        assert policy.target(endless) == lives_on.target(endless)
        distant = seen(-1.0, horizon_years=300.0, hedge_base=wanted, fixed_cost_quote=gas)
        assert reach(policy, distant) == pytest.approx(reach(lives_on, distant), rel=1e-6)


@pytest.mark.parametrize("gas", [0.0, 0.01])
def test_nothing_is_churned_while_time_runs_out(gas: float) -> None:
    """While the hedge wanted stays what it is, the edge at which it grows only goes away: what was closed stays so."""
    policy = Impulse(risk_aversion_per_quote=AVERSE, centre_term="none")
    for gamma in (-1e-6, -0.01, -1.0):
        for wanted in (0.4, 1e-9, -1e-9, -0.4):
            grown = 0.0
            for years in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8):
                changes = {"hedge_base": wanted, "greeks": Greeks(0.0, gamma), "fixed_cost_quote": gas}
                found = policy.target(seen(-1.0, horizon_years=years, **changes))
                assert found.low_base <= found.buy_to_base <= found.sell_to_base <= found.high_base
                below, above = -found.buy_to_base, found.sell_to_base
                grows = below if wanted > 0.0 else above
                assert grows >= grown
                grown = grows
            assert grown > 10.0


@pytest.mark.parametrize("kind", [WhalleyWilmott, Impulse])
@pytest.mark.parametrize("gas", [0.0, 0.01])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_who_knows_neither_hedge_nor_delta_holds(kind: type[WhalleyWilmott | Impulse], gas: float, bad: float) -> None:
    policy = kind(risk_aversion_per_quote=AVERSE)
    for changes in ({"hedge_base": bad}, {"greeks": Greeks(bad, -0.03)}):
        target = policy.target(seen(-1.0, fixed_cost_quote=gas, **changes))
        assert (target.low_base, target.high_base) == (-math.inf, math.inf)
        assert "which hedge is wanted is not known" in target.reason


def test_a_daily_limit_is_a_limit_on_both_sides() -> None:
    policy = WhalleyWilmott(risk_aversion=RiskWords(daily_sd_quote=1.0), centre_term="none")
    target = policy.target(seen(-1.0, tau_years=SOON, hedge_base=0.4))
    assert target.high_base == -target.low_base


@pytest.mark.parametrize("kind", [WhalleyWilmott, Impulse])
@pytest.mark.parametrize("term", ["local", "exact"])
def test_the_centre_moves_for_a_short_call_up_below_the_strike_and_down_above_for_a_long_one_alike(
    kind: type[WhalleyWilmott | Impulse], term: str
) -> None:
    # the cost is owed by who is short as by who is long, and is dearest at the strike: net delta leans towards it
    policy = kind(risk_aversion_per_quote=AVERSE, **{**PLAIN, "centre_term": term})
    for qty in (-1.0, 1.0):
        assert centre(policy, seen(qty, 0.9)) > 1e-4
        assert centre(policy, seen(qty, 1.1)) < -1e-4


def test_the_exact_centre_is_the_slope_of_the_expected_cost() -> None:
    policy = WhalleyWilmott(risk_aversion_per_quote=AVERSE, **{**PLAIN, "centre_term": "exact"})
    what = seen(-1.0, 0.9)
    exact = expected_cost(what.legs, what.spot_px, VOL, COST, AVERSE).slope_base
    assert centre(policy, what) == pytest.approx(exact, rel=0.02)
    local = WhalleyWilmott(risk_aversion_per_quote=AVERSE, **{**PLAIN, "centre_term": "local"})
    assert centre(local, what) == pytest.approx(exact, rel=0.4)


def test_the_local_centre_takes_the_vanna_of_the_view_where_there_is_one() -> None:
    policy = WhalleyWilmott(risk_aversion_per_quote=AVERSE)
    vanna = -float(greeks(90.0, SPOT, TAU, VOL, True).vanna)
    by_vanna = centre(policy, seen(-1.0, 0.9, vanna_base_per_vol=vanna))
    assert by_vanna == pytest.approx(centre(policy, seen(-1.0, 0.9)), rel=0.02)
    assert by_vanna != centre(policy, seen(-1.0, 0.9))


@pytest.mark.parametrize("vol", [math.nan, math.inf, 0.0, -1.0])
@pytest.mark.parametrize("kind", [WhalleyWilmott, Impulse])
def test_without_a_vol_the_plain_band_is_left(kind: type[WhalleyWilmott | Impulse], vol: float) -> None:
    plain = kind(risk_aversion_per_quote=AVERSE, **PLAIN)
    assert half(kind(risk_aversion_per_quote=AVERSE), seen(-1.0, vol=vol)) == half(plain, seen(-1.0, vol=vol))


def test_the_floor_counts_to_the_last_expiry_and_is_none_where_there_is_no_last() -> None:
    assert horizon_years(view(tau_years=0.1)) == 0.1
    assert horizon_years(view(tau_years=0.1, horizon_years=0.5)) == 0.5
    assert horizon_years(view(tau_years=0.1, horizon_years=math.inf)) == math.inf
    assert horizon_years(view(tau_years=math.nan)) == math.inf
    policy = WhalleyWilmott(risk_aversion_per_quote=AVERSE)
    soon, later = seen(-1.0, tau_years=1e-4), seen(-1.0, tau_years=1e-4, horizon_years=0.1)
    assert half(policy, soon) > 3.0 * half(policy, later)


def test_a_book_without_gamma_is_left_alone_within_its_floor_and_not_churned() -> None:
    policy = WhalleyWilmott(risk_aversion_per_quote=AVERSE)
    flat = view(0.0, vol=VOL, tau_years=TAU, spot_px=SPOT, cost_rate=COST, lot_base=1e-9)
    lives_on = policy.model_copy(update={"unwinds_at_expiry": False})
    floor = floor_half_base(COST, SPOT, VOL, TAU, AVERSE)
    assert half(lives_on, flat) == pytest.approx(floor)
    assert sum(reach(policy, flat)) == pytest.approx(2.0 * floor + 1e-9)  # grows rarely, shrinks to the lot, then rests
    endless = view(0.0, vol=VOL, spot_px=SPOT, cost_rate=COST, lot_base=0.1)
    assert half(policy, endless) == 0.1


@pytest.mark.parametrize("kind", [WhalleyWilmott, Impulse])
@pytest.mark.parametrize("wanted", [0.4, -0.4])
@pytest.mark.parametrize("gas", [0.0, 0.01])
def test_in_the_last_moment_nothing_is_traded(kind: type[WhalleyWilmott | Impulse], wanted: float, gas: float) -> None:
    last = seen(-1.0, tau_years=0.0, hedge_base=wanted, fixed_cost_quote=gas)
    target = kind(risk_aversion_per_quote=AVERSE).target(last)
    assert (target.low_base, target.high_base) == (-math.inf, math.inf)
    assert "no time left" in target.reason


def test_looks_far_apart_never_close_the_band() -> None:
    policy = WhalleyWilmott(risk_aversion_per_quote=AVERSE, h0_floor=False)
    widths = [half(policy, seen(-1.0, monitor_years=years)) for years in (0.0, 1e-6, 1e-4, 1e-2)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] > 0.0
