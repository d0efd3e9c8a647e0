from __future__ import annotations

import csv
from math import exp, inf, sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.pricing.black76 import greeks
from bot.pricing.impulse import (
    MONITORING_SHIFT,
    Impulse,
    band_half_base,
    delta_drift_base,
    delta_sd_base,
    edge_cost_rate_quote,
    fixed_cost_half_base,
    implied_risk_aversion_per_quote,
    latency_cost_rate_quote,
    monitored_half_base,
    partial_stop_share,
    risk_rate_quote,
    solve_impulse,
    stop_share,
    value_share,
)

GOLDEN = list(csv.DictReader((Path(__file__).parents[1] / "golden" / "golden_bands.csv").read_text().splitlines()))
YEAR_S = 365 * 24 * 3600

# hedging.md 3.2: φ, H/H_WW, h/H_WW, J/J_edge, and J of the best trigger that is traded back to the centre over J
TABLE = [
    (0.0, 1.0, 1.0, 1.0, 1.260),
    (1e-4, 1.039, 0.963, 1.001, 1.258),
    (0.0011, 1.084, 0.920, 1.007, 1.252),
    (0.011, 1.186, 0.834, 1.031, 1.228),
    (0.033, 1.274, 0.769, 1.064, 1.200),
    (0.11, 1.421, 0.672, 1.143, 1.152),
    (0.33, 1.627, 0.562, 1.292, 1.096),
    (1.1, 1.968, 0.425, 1.630, 1.043),
    (3.3, 2.431, 0.301, 2.245, 1.015),
    (11.0, 3.162, 0.189, 3.543, 1.004),
]


def rate(phi: float, low: float, high: float) -> float:
    """The long-run cost per time of a trigger ±high that is traded back to ±low, by renewal theory.

    Units: H_WW = 1, c = 1, a = 1; then v² = 4/3, and the edge costs 1.
    """
    return (phi + high - low) * (4.0 / 3.0) / (high * high - low * low) + (high * high + low * low) / 6.0


@pytest.mark.parametrize(("phi", "high", "low", "cost", "centre"), TABLE)
def test_matches_the_universal_table(phi: float, high: float, low: float, cost: float, centre: float) -> None:
    found = solve_impulse(phi)
    assert found == pytest.approx((high, low, cost), abs=2e-3)
    to_centre = min(rate(phi, 0.0, trigger) for trigger in np.linspace(0.5, 6.0, 20_001))
    assert to_centre / found.cost_share == pytest.approx(centre, abs=2e-3)


@given(st.floats(-9.0, 4.0))
def test_no_other_trigger_or_target_costs_less(exponent: float) -> None:
    phi = 10.0**exponent
    high, low, cost = solve_impulse(phi)
    assert rate(phi, low, high) == pytest.approx(cost, rel=1e-7)
    gap = high - low
    for shift_high, shift_low in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1)):
        other = rate(phi, max(0.0, low + 0.2 * gap * shift_low), high + 0.2 * gap * shift_high)
        assert other > cost


@given(st.floats(-8.0, 6.0))
def test_fits_smoothly(exponent: float) -> None:
    phi = 10.0**exponent
    solved = solve_impulse(phi)
    high, low, cost = solved
    for end in (high, low):
        assert 1.5 * (cost * end - end**3 / 3.0) == pytest.approx(1.0, abs=1e-9 * max(1.0, high**3))
    saved = value_share(high, solved) - value_share(low, solved)
    assert saved == pytest.approx(phi + high - low, rel=1e-7, abs=1e-12)


def test_goes_from_the_edge_to_the_fixed_cost_rule() -> None:
    assert solve_impulse(0.0) == Impulse(1.0, 1.0, 1.0)
    for phi, tolerance in ((11.0, 0.04), (1e3, 0.002), (1e6, 1e-4)):
        high, low, _ = solve_impulse(phi)
        assert high == pytest.approx((8.0 * phi) ** 0.25, rel=tolerance)
        assert low < 0.2
    gamma, averse, fixed_quote, cost_rate, spot_px = 0.02, 1e-3, 50_000.0, 1e-4, 1_900.0
    half = band_half_base(cost_rate, spot_px, gamma, averse)
    phi = fixed_quote / (cost_rate * spot_px * half)
    expected = fixed_cost_half_base(fixed_quote, gamma, averse)
    assert half * solve_impulse(phi).trigger_share == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("phi", [-1e-9, inf, float("nan")])
def test_refuses_what_is_no_cost(phi: float) -> None:
    with pytest.raises(ValueError, match="expected a fixed cost of at least 0"):
        solve_impulse(phi)


@given(st.floats(-6.0, 3.0), st.floats(0.0, 5.0))
def test_the_value_rises_and_its_slope_never_jumps(exponent: float, off: float) -> None:
    solved = solve_impulse(10.0**exponent)
    step = 1e-5
    below, here, above = (value_share(off + shift, solved) for shift in (-step, 0.0, step))
    assert value_share(-off, solved) == here
    if off > step:
        assert below < here < above
    assert above - 2.0 * here + below == pytest.approx(0.0, abs=1e-8)
    beyond = value_share(solved.trigger_share + 2.0, solved) - value_share(solved.trigger_share + 1.0, solved)
    assert beyond == pytest.approx(1.0)


def test_a_trade_that_moves_the_price_stops_where_the_next_unit_costs_what_it_saves() -> None:
    solved = solve_impulse(1.1)
    off = 2.5
    assert stop_share(off, 0.0, solved) == solved.target_share
    stops = [stop_share(off, impact, solved) for impact in (0.0, 0.05, 0.1, 0.3, 10.0)]
    assert stops == sorted(stops)
    assert stops[-1] == pytest.approx(sqrt(solved.cost_share), abs=1e-9)  # where the value rises fastest

    def net(stop: float) -> float:
        traded = off - stop
        return value_share(off, solved) - value_share(stop, solved) - traded - 0.1 * traded * traded

    best = max(np.linspace(0.0, off, 20_001), key=net)
    assert stops[2] == pytest.approx(best, abs=2e-4)
    assert stop_share(off, 0.3, solve_impulse(0.0)) == 1.0  # without gas there is nothing between h and H


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"S{row['S']}-k{row['k']}-g{row['gamma']}")
def test_matches_the_golden_bands(row: dict[str, str]) -> None:
    spot_px, vol, cost_rate, averse, gamma = (float(row[name]) for name in ("S", "sigma", "k", "gamma", "bs_gamma"))
    half_base = band_half_base(cost_rate, spot_px, gamma, averse)
    assert half_base == pytest.approx(float(row["H_WW"]), rel=1e-12)
    assert implied_risk_aversion_per_quote(half_base, cost_rate, spot_px, gamma) == pytest.approx(averse, rel=1e-12)
    yearly = edge_cost_rate_quote(cost_rate, spot_px, gamma, averse, vol)
    assert yearly == pytest.approx(float(row["J_rate_per_year"]), rel=1e-9)
    step = delta_sd_base(gamma, spot_px, vol, 12.0 / YEAR_S)
    assert MONITORING_SHIFT * step == pytest.approx(float(row["overshoot_shift_12s"]), rel=1e-4)
    latency = latency_cost_rate_quote(averse, gamma, spot_px, vol, 12.0 / YEAR_S)
    assert latency == pytest.approx(float(row["latency_cost_rate_12s_per_year"]), rel=1e-9)
    assert fixed_cost_half_base(0.01, gamma, averse) == pytest.approx(float(row["H_fixed_F0.01"]), rel=1e-9)


def test_the_golden_file_is_whole() -> None:
    assert len(GOLDEN) == 6


def test_delta_drifts_by_gamma_and_not_by_charm() -> None:
    """hedging.md 4.1: S = 95, K = 100, 5 days, 60 %, 4 hours: exactly −7.327e-4, the formula −7.333e-4."""
    spot_px, strike_px, tau, vol, years = 95.0, 100.0, 5 / 365, 0.6, 4 / (365 * 24)
    now = greeks(spot_px, strike_px, tau, vol, True)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    then_px = spot_px * np.exp(vol * sqrt(years) * nodes - 0.5 * vol * vol * years)
    then = greeks(then_px, np.full(80, strike_px), np.full(80, tau - years), np.full(80, vol), np.full(80, True))
    exact = float((weights * then.delta).sum() / weights.sum() - now.delta)
    found = delta_drift_base(float(now.gamma), spot_px, vol, years)
    assert exact == pytest.approx(-7.327e-4, rel=1e-3)
    assert found == pytest.approx(-7.333e-4, rel=1e-3)
    sd = sqrt(float((weights * then.delta**2).sum() / weights.sum()) - float(now.delta + exact) ** 2)
    assert delta_sd_base(float(now.gamma), spot_px, vol, years) == pytest.approx(sd, rel=0.05)


def test_what_latency_costs_is_the_risk_of_where_delta_wanders_meanwhile() -> None:
    averse, gamma, spot_px, vol, years = 1e-3, -0.5, 1_900.0, 0.6, 12.0 / YEAR_S
    by_hand = 0.5 * averse * gamma**2 * spot_px**4 * vol**4 * years
    assert latency_cost_rate_quote(averse, gamma, spot_px, vol, years) == pytest.approx(by_hand)
    assert risk_rate_quote(averse, spot_px, vol) == pytest.approx(0.5 * averse * (vol * spot_px) ** 2)


@pytest.mark.parametrize(
    ("steps", "exact", "tolerance"),
    # the exact one-dimensional problem: hedging.md 4.2
    [(0.05, 1 - 0.05 * 0.556, 2e-3), (0.3, 1 - 0.3 * 0.580, 2e-3), (1.0, 1 - 0.555, 0.03), (1.5, 0.257, 0.04),
     (2.0, 0.157, 0.03)],
)  # fmt: skip
def test_a_trigger_looked_at_now_and_then_is_nearer(steps: float, exact: float, tolerance: float) -> None:
    assert monitored_half_base(3.0, 3.0 * steps) / 3.0 == pytest.approx(exact, abs=tolerance)


@given(st.floats(0.01, 100.0), st.floats(0.0, 1_000.0))
def test_a_monitored_trigger_never_vanishes_and_never_widens(half: float, step: float) -> None:
    found = monitored_half_base(half, step)
    assert 0.0 <= found <= half
    assert monitored_half_base(half, step * 1.01 + 1e-6) < found or found == 0.0


def test_the_bend_of_the_shift_is_continuous() -> None:
    assert monitored_half_base(1.0, 1.2 - 1e-9) == pytest.approx(monitored_half_base(1.0, 1.2 + 1e-9), abs=1e-8)
    assert monitored_half_base(1.0, 2.2) == pytest.approx((1 - 1.2 * MONITORING_SHIFT) * exp(-1.0))
    assert monitored_half_base(0.0, 1.0) == 0.0
    assert implied_risk_aversion_per_quote(0.0, 1e-3, 100.0, 0.1) == inf


def test_with_impact_a_trade_from_two_half_widths_goes_part_of_the_way() -> None:
    """From 2 to 1.58 half-widths for an impact of 0.5, looking each time the hedge has moved by a fifth of one."""
    assert partial_stop_share(2.0, 0.5, 0.2) == pytest.approx(1.58, abs=0.01)
    assert partial_stop_share(-2.0, 0.5, 0.2) == partial_stop_share(2.0, 0.5, 0.2)
    stops = [partial_stop_share(off, 0.5, 0.2) for off in (0.3, 0.7, 1.0, 2.0, 3.0)]
    assert stops[0] == pytest.approx(0.3, abs=1e-9)  # inside the band there is no trade
    assert stops == sorted(stops)
    assert partial_stop_share(2.0, 0.5, 0.4) < stops[3] < partial_stop_share(2.0, 2.0, 0.2)


def test_without_impact_that_is_the_edge_of_the_monitored_band() -> None:
    for step in (0.2, 0.4):
        assert partial_stop_share(2.0, 0.0, step) == pytest.approx(1.0 - MONITORING_SHIFT * step, abs=0.02)


def test_a_partial_trade_needs_a_step_to_wait_for() -> None:
    with pytest.raises(ValueError, match="step_share: expected at least"):
        partial_stop_share(2.0, 0.5, 0.01)
