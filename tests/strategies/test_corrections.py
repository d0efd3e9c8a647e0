from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bot.domain.decisions import Legs
from bot.pricing.bands import MONITORING_SHIFT, band_half_base, delta_sd_base, floor_half_base, floored_half_base
from bot.pricing.black76 import greeks
from bot.pricing.ex_ante import expected_cost
from strategies import Impulse, WhalleyWilmott
from strategies.corrections import horizon_years
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
    wider = kind(risk_aversion_per_quote=AVERSE, **{**PLAIN, "h0_floor": True})
    assert half(wider, what) == pytest.approx(floored_half_base(plain, floor), rel=1e-12)
    both = kind(risk_aversion_per_quote=AVERSE)
    assert half(both, what) == pytest.approx(floored_half_base(plain - MONITORING_SHIFT * step, floor), rel=1e-12)
    assert centre(both, what) != 0.0


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
    assert half(policy, flat) == pytest.approx(floor_half_base(COST, SPOT, VOL, TAU, AVERSE))
    endless = view(0.0, vol=VOL, spot_px=SPOT, cost_rate=COST, lot_base=0.1)
    assert half(policy, endless) == 0.1


@pytest.mark.parametrize("kind", [WhalleyWilmott, Impulse])
def test_in_the_last_moment_nothing_is_traded(kind: type[WhalleyWilmott | Impulse]) -> None:
    target = kind(risk_aversion_per_quote=AVERSE).target(seen(-1.0, tau_years=0.0))
    assert (target.low_base, target.high_base) == (-math.inf, math.inf)
    assert "no time left" in target.reason


def test_looks_far_apart_never_close_the_band() -> None:
    policy = WhalleyWilmott(risk_aversion_per_quote=AVERSE, h0_floor=False)
    widths = [half(policy, seen(-1.0, monitor_years=years)) for years in (0.0, 1e-6, 1e-4, 1e-2)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] > 0.0
