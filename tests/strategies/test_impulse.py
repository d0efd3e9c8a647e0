from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.decisions import HedgeTarget
from bot.pricing.bands import band_half_base, delta_sd_base, fixed_cost_half_base, floor_half_base, risk_rate_quote
from bot.pricing.impulse import solve_impulse
from strategies import Impulse, WhalleyWilmott
from tests.strategies.views import view

AVERSE = 3e-4
POLICY = Impulse(risk_aversion_per_quote=AVERSE)
PLAIN = Impulse(risk_aversion_per_quote=AVERSE, monitoring_correction=False, h0_floor=False, centre_term="none")
GAMMA, SPOT, COST, VOL, TAU = -0.12, 1_900.0, 5.1e-4, 0.6, 0.04
HALF = band_half_base(COST, SPOT, GAMMA, AVERSE)
UNIT_QUOTE = COST * SPOT * HALF


def shape(target: HedgeTarget) -> tuple[float, float]:
    """Trigger and inner edge, which must lie evenly around the centre."""
    trigger = 0.5 * (target.high_base - target.low_base)
    stop = 0.5 * (target.sell_to_base - target.buy_to_base)
    assert target.high_base + target.low_base == pytest.approx(target.sell_to_base + target.buy_to_base, abs=1e-9)
    return trigger, stop


def ask(policy: Impulse | WhalleyWilmott = POLICY, **changes: Any) -> HedgeTarget:
    return policy.target(view(**{"gamma": GAMMA, "vol": VOL, "tau_years": TAU, "lot_base": 1e-9, **changes}))


@given(st.floats(-1.0, 1.0), st.floats(0.1, 2.0), st.floats(1e-6, 1.0), st.floats(0.0, 1e-2))
def test_without_a_fixed_cost_it_is_whalley_and_wilmott_with_the_corrections(
    gamma: float, vol: float, tau: float, cost: float
) -> None:
    seen = {"gamma": gamma, "vol": vol, "tau_years": tau, "cost_rate": cost}
    assert ask(**seen) == ask(WhalleyWilmott(risk_aversion_per_quote=AVERSE), **seen)


@pytest.mark.parametrize("phi", [1e-4, 0.011, 0.11, 1.1, 11.0])
def test_trigger_and_inner_edge_are_those_of_the_impulse_control(phi: float) -> None:
    solved = solve_impulse(phi)
    found = shape(ask(PLAIN, fixed_cost_quote=phi * UNIT_QUOTE))
    assert found == pytest.approx((HALF * solved.trigger_share, HALF * solved.target_share), rel=1e-9)


def test_a_little_gas_moves_the_target_half_way_to_the_centre() -> None:
    trigger, stop = shape(ask(PLAIN, fixed_cost_quote=0.11 * UNIT_QUOTE))
    assert stop / trigger == pytest.approx(0.47, abs=0.005)


def test_without_costs_in_proportion_the_centre_is_traded_to() -> None:
    trigger, stop = shape(ask(PLAIN, fixed_cost_quote=5.0, cost_rate=0.0))
    assert trigger == pytest.approx(fixed_cost_half_base(5.0, GAMMA, AVERSE), rel=1e-12)
    assert stop == 0.0
    nearly = shape(ask(PLAIN, fixed_cost_quote=5.0, cost_rate=1e-9))
    assert nearly == pytest.approx((trigger, 0.0), rel=1e-3, abs=1e-2 * trigger)


def test_the_time_left_must_earn_the_gas_as_well() -> None:
    gas, flat = 5.0, {"gamma": 0.0, "fixed_cost_quote": 5.0}
    trigger, stop = shape(ask(**flat))
    floor = floor_half_base(COST, SPOT, VOL, TAU, AVERSE)
    assert stop == pytest.approx(floor)
    # at the trigger one last trade to the floor saves exactly what it costs
    saved = risk_rate_quote(AVERSE, SPOT, VOL) * TAU * (trigger**2 - stop**2)
    assert saved == pytest.approx(gas + COST * SPOT * (trigger - stop), rel=1e-9)
    assert shape(ask(**flat, horizon_years=math.inf))[0] == pytest.approx(1e-9)


def test_looks_far_apart_bring_the_trigger_nearer_and_the_inner_edge_stays_inside() -> None:
    gas = 0.01 * UNIT_QUOTE
    near = Impulse(risk_aversion_per_quote=AVERSE, h0_floor=False, centre_term="none")
    plain_trigger, plain_stop = shape(ask(PLAIN, fixed_cost_quote=gas))
    trigger, stop = shape(ask(near, fixed_cost_quote=gas, monitor_years=1e-5))
    step = delta_sd_base(GAMMA, SPOT, VOL, 1e-5)
    assert trigger == pytest.approx(plain_trigger - 0.5825971579390107 * step, rel=1e-9)
    assert stop == pytest.approx(min(plain_stop, trigger), rel=1e-5)
    for years in (1e-4, 1e-3, 1e-2):
        trigger, stop = shape(ask(near, fixed_cost_quote=gas, monitor_years=years))
        assert 0.0 < stop < trigger  # strictly: a band traded to its very edge has left the gas to the engine


def test_a_trigger_is_never_below_a_lot() -> None:
    trigger, stop = shape(ask(PLAIN, gamma=0.0, fixed_cost_quote=5.0, lot_base=0.1))
    assert trigger == pytest.approx(0.1)
    assert stop <= trigger


def test_says_what_it_was_made_of() -> None:
    assert ask().reason.startswith("band ±")
    assert "k 5.1 bp, gamma -0.12, g 0.0003, floor 0.0621" in ask().reason
    assert ask(fixed_cost_quote=2.0).reason.endswith(" for 2 a trade")


@pytest.mark.parametrize("gas", [math.nan, math.inf, -1.0])
def test_a_damaged_gas_never_makes_a_trade(gas: float) -> None:
    target = ask(fixed_cost_quote=gas)
    assert (target.low_base, target.high_base) == (-math.inf, math.inf)
    assert target.reason.startswith("holding")


DEADLY = [
    (field, bad)
    for field in ("gamma", "cost_rate", "spot_px", "target_delta_base", "lot_base")
    for bad in (math.nan, math.inf, -math.inf)
]


@pytest.mark.parametrize("gas", [0.0, 5.0])
@pytest.mark.parametrize(("field", "bad"), [*DEADLY, ("gamma", 1e200), ("lot_base", 0.0), ("spot_px", 0.0)])
def test_a_deadly_number_never_makes_a_trade(field: str, bad: float, gas: float) -> None:
    target = ask(**{field: bad}, fixed_cost_quote=gas)
    assert (target.low_base, target.high_base) == (-math.inf, math.inf)
