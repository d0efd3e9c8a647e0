from __future__ import annotations

import csv
from math import inf, sqrt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.pricing.bands import (
    MONITORING_SHIFT,
    band_half_base,
    centre_vol_ratio,
    daily_sd_half_base,
    delta_sd_base,
    edge_cost_rate_quote,
    fixed_cost_half_base,
    floor_half_base,
    floored_half_base,
    implied_risk_aversion_per_quote,
    leland_number,
    leland_vol,
    monitored_half_base,
    risk_rate_quote,
    zakamouline_half_base,
    zakamouline_shift,
    zakamouline_vol,
)
from bot.pricing.black76 import greeks

GOLDEN = [
    {name: float(value) for name, value in row.items()}
    for row in csv.DictReader((Path(__file__).parents[1] / "golden" / "golden_bands.csv").read_text().splitlines())
]
EXACT = 1e-9
BLOCK_YEARS = 12.0 / (365.0 * 86_400.0)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"S{row['S']:g}-k{row['k']:g}-g{row['gamma']:g}")
def test_matches_the_golden_file(row: dict[str, float]) -> None:
    spot, strike, tau, vol = row["S"], row["K"], row["tau"], row["sigma"]
    cost, averse, gamma = row["k"], row["gamma"], row["bs_gamma"]
    half = band_half_base(cost, spot, gamma, averse)
    assert half == pytest.approx(row["H_WW"], rel=EXACT)
    assert floor_half_base(cost, spot, vol, tau, averse) == pytest.approx(row["zak_H0"], rel=EXACT)
    assert zakamouline_half_base(cost, vol, tau, gamma, averse) == pytest.approx(row["zak_H1"], rel=EXACT)
    assert zakamouline_shift(cost, spot, vol, tau, gamma, averse) == pytest.approx(row["zak_K"], rel=EXACT)
    for sign, name in ((-1.0, "zak_delta_short"), (1.0, "zak_delta_long_call")):
        modified = zakamouline_vol(cost, spot, vol, tau, sign * gamma, averse)
        assert float(greeks(spot, strike, tau, modified, True).delta) == pytest.approx(row[name], rel=EXACT)
    rate = edge_cost_rate_quote(cost, spot, gamma, averse, vol)
    assert rate == pytest.approx(row["J_rate_per_year"], rel=EXACT)
    assert rate == pytest.approx(risk_rate_quote(averse, spot, vol) * half * half, rel=1e-12)
    assert leland_number(cost, vol, 1.0 / 365.0) == pytest.approx(row["leland_A_daily"], rel=EXACT)
    step = delta_sd_base(gamma, spot, vol, BLOCK_YEARS)
    shift = (half - monitored_half_base(half, step)) * 0.5826 / MONITORING_SHIFT  # the file's constant is that coarse
    assert shift == pytest.approx(row["overshoot_shift_12s"], rel=EXACT)
    assert fixed_cost_half_base(0.01, gamma, averse) == pytest.approx(row["H_fixed_F0.01"], rel=EXACT)


def test_the_golden_file_is_whole() -> None:
    assert len(GOLDEN) == 6


def bands(
    scale: float = 1.0,
    spot: float = 100.0,
    vol: float = 0.6,
    tau: float = 15 / 365,
    cost: float = 5e-4,
    averse: float = 0.1,
    gamma: float = 0.0327,
) -> list[float]:
    """Every half-width, of `scale` times the book."""
    return [
        band_half_base(cost, spot, scale * gamma, averse),
        floor_half_base(cost, spot, vol, tau, averse),
        zakamouline_half_base(cost, vol, tau, scale * gamma, averse),
        monitored_half_base(
            band_half_base(cost, spot, scale * gamma, averse), delta_sd_base(scale * gamma, spot, vol, 1e-5)
        ),
        fixed_cost_half_base(scale * 0.01, scale * gamma, averse),
    ]


@given(st.floats(0.01, 100.0))
def test_n_contracts_are_one_at_n_times_the_risk_aversion(count: float) -> None:
    many, one = bands(count), bands(averse=0.1 * count)
    assert many == pytest.approx([count * half for half in one], rel=1e-9)


@given(st.floats(0.01, 100.0))
def test_only_ratios_and_total_variance_matter(factor: float) -> None:
    def scaled(spot: float, vol: float, tau: float, averse: float, gamma: float) -> list[float]:
        return [
            band_half_base(5e-4, spot, gamma, averse),
            floor_half_base(5e-4, spot, vol, tau, averse),
            delta_sd_base(gamma, spot, vol, tau),
        ]

    base = scaled(100.0, 0.6, 15 / 365, 0.1, 0.0327)
    dearer = scaled(100.0 * factor, 0.6, 15 / 365, 0.1 / factor, 0.0327 / factor)
    slower = scaled(100.0, 0.6 / sqrt(factor), 15 / 365 * factor, 0.1, 0.0327)
    assert dearer == pytest.approx(base, rel=1e-9)
    assert slower == pytest.approx(base, rel=1e-9)


@given(st.floats(1e-3, 1e3))
def test_the_band_scales_by_its_powers(factor: float) -> None:
    base = band_half_base(5e-4, 100.0, 0.03, 0.1)
    assert band_half_base(5e-4, 100.0, 0.03 * factor, 0.1) == pytest.approx(base * factor ** (2 / 3), rel=1e-9)
    assert band_half_base(5e-4 * factor, 100.0, 0.03, 0.1) == pytest.approx(base * factor ** (1 / 3), rel=1e-9)
    assert band_half_base(5e-4, 100.0, 0.03, 0.1 * factor) == pytest.approx(base * factor ** (-1 / 3), rel=1e-9)
    assert implied_risk_aversion_per_quote(base, 5e-4, 100.0, 0.03) == pytest.approx(0.1, rel=1e-9)


@given(st.floats(1e-3, 1e3))
def test_the_cost_rate_scales_by_its_powers(factor: float) -> None:
    base = edge_cost_rate_quote(5e-4, 100.0, 0.03, 0.1, 0.6)
    assert edge_cost_rate_quote(5e-4, 100.0, -0.03 * factor, 0.1, 0.6) == pytest.approx(
        base * factor ** (4 / 3), rel=1e-9
    )
    assert edge_cost_rate_quote(5e-4 * factor, 100.0, 0.03, 0.1, 0.6) == pytest.approx(
        base * factor ** (2 / 3), rel=1e-9
    )
    assert edge_cost_rate_quote(5e-4, 100.0, 0.03, 0.1 * factor, 0.6) == pytest.approx(
        base * factor ** (1 / 3), rel=1e-9
    )


def test_the_floor_knows_no_end_and_no_time_left() -> None:
    assert floor_half_base(5e-4, 100.0, 0.6, inf, 0.1) == 0.0
    assert floor_half_base(5e-4, 100.0, 0.6, 0.0, 0.1) == inf
    assert floor_half_base(5e-4, 100.0, 0.0, 0.1, 0.1) == inf
    assert floor_half_base(0.0, 100.0, 0.6, 0.1, 0.1) == 0.0


def test_costs_raise_the_vol_of_a_short_position_and_lower_that_of_a_long_one() -> None:
    assert leland_vol(5e-3, 0.1, 1 / 365, -0.01) == pytest.approx(0.159, abs=5e-4)  # Sinclair's worked example
    assert leland_vol(5e-3, 0.1, 1 / 365, 0.01) == 0.0
    assert leland_vol(5e-4, 0.6, 1 / 365, -0.01) == pytest.approx(0.6 * sqrt(1.0 + 0.02540593855086768))
    assert leland_vol(5e-4, 0.6, 1 / 365, 0.01) == pytest.approx(0.6 * sqrt(1.0 - 0.02540593855086768))
    assert (
        zakamouline_vol(5e-4, 100.0, 0.6, 0.04, -0.03, 0.1) > 0.6 > zakamouline_vol(5e-4, 100.0, 0.6, 0.04, 0.03, 0.1)
    )
    assert zakamouline_vol(0.5, 100.0, 0.6, 0.04, 0.03, 10.0) == 0.0


def test_the_centre_moves_by_the_cost_where_risk_aversion_is_high() -> None:
    def ratio(averse: float, gamma: float = -0.0231) -> float:
        return centre_vol_ratio(5e-4, 100.0, gamma, averse)

    def rate(gamma: float, averse: float) -> float:
        return edge_cost_rate_quote(5e-4, 100.0, gamma, averse, 0.6)

    for averse in (10.0, 100.0):  # 6/5 J is what the change of variance costs: ½ Δσ² S² |Γ|
        changed = 0.36 * (ratio(averse) ** 2 - 1.0)
        assert 0.5 * changed * 1e4 * 0.0231 == pytest.approx(1.2 * rate(-0.0231, averse), rel=1e-9)
        assert ratio(averse, 0.0231) ** 2 - 1.0 == pytest.approx(1.0 - ratio(averse) ** 2)
    assert ratio(0.1) - 1.0 == pytest.approx(0.014, abs=0.001)  # gK = 10
    assert ratio(1e300) == pytest.approx(sqrt(1.5))
    assert ratio(1e-300) == pytest.approx(1.0)
    assert ratio(0.1, 0.0) == 1.0


def test_a_daily_standard_deviation_is_that_of_a_uniform_place_in_the_band() -> None:
    half = daily_sd_half_base(1_000.0, 2_000.0, 0.7)
    spread = sum((half * (2.0 * (i + 0.5) / 1_000 - 1.0)) ** 2 for i in range(1_000)) / 1_000
    assert sqrt(spread) * 2_000.0 * 0.7 / sqrt(365.0) == pytest.approx(1_000.0, rel=1e-5)


def test_the_floor_joins_the_band_in_cubes() -> None:
    assert floored_half_base(3.0, 0.0) == pytest.approx(3.0, rel=1e-15)
    assert floored_half_base(0.0, 2.0) == pytest.approx(2.0, rel=1e-15)
    assert floored_half_base(1.0, 1.0) == pytest.approx(2.0 ** (1.0 / 3.0), rel=1e-15)
    assert floored_half_base(3.0, inf) == inf


@pytest.mark.parametrize("qty_base", [-1.0, 1.0, -7.0])
@pytest.mark.parametrize("spot_px", [80.0, 92.0, 109.0, 130.0])
def test_the_centre_is_the_slope_of_the_cost_still_to_come(qty_base: float, spot_px: float) -> None:
    """Against the derivative by S of W = (6/5) · J/(½σ²S²|Γ|) · ½ σ|vega| with the first factors held."""
    vol, tau, k, g = 0.6, 30.0 / 365.0, 5e-4, 0.1 / abs(qty_base)
    here = greeks(spot_px, 100.0, tau, vol, True)
    gamma = float(here.gamma) * qty_base
    ratio = centre_vol_ratio(k, spot_px, gamma, g)
    share = 2.0 * edge_cost_rate_quote(k, spot_px, gamma, g, vol) / (vol * spot_px) ** 2 / abs(gamma)
    up, down = (float(greeks(spot_px + move, 100.0, tau, vol, True).vega) for move in (0.01, -0.01))
    slope_base = 0.6 * share * vol * abs(qty_base) * (up - down) / 0.02
    assert -float(here.vanna) * qty_base * vol * (ratio - 1.0) == pytest.approx(slope_base, rel=0.02)
    assert slope_base > 0.0 if spot_px < 95.0 else slope_base < 0.0
    assert ratio > 1.0 if qty_base < 0.0 else ratio < 1.0


def test_the_centre_stays_where_nothing_costs_or_bends() -> None:
    assert centre_vol_ratio(0.0, 100.0, -0.03, 0.5) == 1.0
    assert centre_vol_ratio(5e-4, 100.0, 0.0, 0.5) == 1.0
    assert centre_vol_ratio(0.5, 100.0, 1.0, 1e6) == pytest.approx(sqrt(0.5))
