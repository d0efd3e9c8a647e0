"""The lattice: exact on trees small enough to enumerate, and right where others have published or derived the value."""

from __future__ import annotations

from itertools import product
from math import exp, log, pi, sqrt

import msgspec
import numpy as np
import pytest

from bot.simulation.yardstick.lattice import Bands, Grid, Lattice, Line, Optimum, Setting, Settlement

SHORT_CALL = (Line(100.0, -1.0),)
SMALL = Setting(SHORT_CALL, 100.0, 0.6, 30.0 / 365.0, 4, 0.002, 0.1, settlement=Settlement.LIQUIDATED)
SMALL_GRID = Grid(-0.4, 1.4, 0.2)
COARSE = Setting(SHORT_CALL, 100.0, 0.6, 30.0 / 365.0, 240, 5e-4, 0.1, settlement=Settlement.LIQUIDATED)
COARSE_GRID = Grid(-0.2, 1.2, 0.01, 4.5)


def random_bands(lattice: Lattice) -> Bands:
    random = np.random.default_rng(7)
    low, buy_to, sell_to, high = np.sort(
        random.integers(0, lattice.hedges_base.size, (4, lattice.setting.steps, lattice.prices_px.size)), axis=0
    ).astype(np.int32)
    return Bands(low, high, buy_to, sell_to)


@pytest.mark.parametrize("settlement", Settlement)
@pytest.mark.parametrize("fixed_cost_quote", [0.0, 0.05])
def test_the_worth_of_a_rule_is_that_of_all_its_paths(settlement: Settlement, fixed_cost_quote: float) -> None:
    setting = msgspec.structs.replace(
        SMALL,
        lines=(Line(100.0, -1.0), Line(95.0, 0.5, is_call=False)),
        fixed_cost_quote=fixed_cost_quote,
        settlement=settlement,
        start_base=0.2,
    )
    lattice = Lattice(setting, SMALL_GRID)
    bands = random_bands(lattice)
    step = setting.vol * sqrt(3.0 * setting.step_years)
    up = (1.0 - exp(-step)) / (exp(step) - exp(-step)) / 3.0
    chance_of = {1: up, 0: 2.0 / 3.0, -1: 1.0 / 3.0 - up}
    chances, losses = [], []
    for moves in product((1, 0, -1), repeat=4):
        node, hedge, loss, chance = 0, 0.2, 0.0, 1.0
        for time, move in enumerate(moves):
            px = 100.0 * exp(step * node)
            low, high, buy_to, sell_to = (lattice.hedges_base[part[time, lattice.centre + node]] for part in bands)
            to = buy_to if hedge < low - 1e-9 else sell_to if hedge > high + 1e-9 else hedge
            loss += 0.002 * px * abs(to - hedge) + (fixed_cost_quote if to != hedge else 0.0)
            hedge = to
            node += move
            chance *= chance_of[move]
            loss -= hedge * (100.0 * exp(step * node) - px)
        px = 100.0 * exp(step * node)
        call = max(px - 100.0, 0.0) if node else (exp(step / 2) - 1.0 - step / 2) / step * 100.0
        edges = 100.0 * exp(step * (node - 0.5)), 100.0 * exp(step * (node + 0.5))
        put = max(95.0 - px, 0.0)
        if edges[0] < 95.0 < edges[1]:
            put = (edges[1] - 95.0 - 95.0 * log(edges[1] / 95.0)) / step - (px - 95.0)
        given = {
            Settlement.FREE: None,
            Settlement.LIQUIDATED: 0.0,
            Settlement.DELIVERED: (px > 100.0) * 1.0 + 0.5 * (px < 95.0),
        }[settlement]
        if given is not None:
            loss += 0.002 * px * abs(hedge - given)
        chances.append(chance)
        losses.append(loss + call - 0.5 * put)
    loss_quote, chance_share = np.array(losses), np.array(chances)
    mean = float(chance_share @ loss_quote)
    found = lattice.worth(bands, moments=True)
    assert float(chance_share.sum()) == pytest.approx(1.0, abs=1e-14)
    assert found.mean_quote + lattice.frictionless_quote == pytest.approx(mean, abs=1e-11)
    assert found.sd_quote == pytest.approx(sqrt(float(chance_share @ (loss_quote - mean) ** 2)), abs=1e-9)
    certain = log(float(chance_share @ np.exp(0.1 * loss_quote))) / 0.1
    assert found.excess_quote + lattice.frictionless_quote == pytest.approx(certain, abs=1e-11)


@pytest.mark.parametrize("fixed_cost_quote", [0.0, 0.02, 0.3])
def test_the_optimum_is_that_of_trying_every_hedge_at_every_node(fixed_cost_quote: float) -> None:
    setting = msgspec.structs.replace(SMALL, fixed_cost_quote=fixed_cost_quote, steps=6)
    lattice = Lattice(setting, Grid(-0.2, 1.2, 0.1))
    hedges, prices, middle = lattice.hedges_base, lattice.prices_px, lattice.centre
    step = lattice.step_log
    up = (1.0 - exp(-step)) / (exp(step) - exp(-step)) / 3.0
    owed = np.maximum(prices - 100.0, 0.0)
    owed[middle] = (exp(step / 2) - 1.0 - step / 2) / step * 100.0
    value = np.exp(0.1 * (owed[:, None] + 0.002 * prices[:, None] * np.abs(hedges)))
    moved = np.abs(hedges[:, None] - hedges[None, :])
    for time in range(5, -1, -1):
        new = value.copy()
        for node in range(middle - time, middle + time + 1):
            gains = [np.exp(-0.1 * hedges * (prices[node + move] - prices[node])) for move in (1, 0, -1)]
            after = sum(
                chance * gain * value[node + move]
                for chance, gain, move in zip((up, 2.0 / 3.0, 1.0 / 3.0 - up), gains, (1, 0, -1), strict=True)
            )
            costs = 0.002 * prices[node] * moved + fixed_cost_quote * (moved > 0.0)
            new[node] = np.min(np.exp(0.1 * costs) * after[None, :], axis=1)
        value = new
    least = log(value[middle, 2]) / 0.1
    assert lattice.best().excess_quote + lattice.frictionless_quote == pytest.approx(least, abs=1e-12)


@pytest.mark.parametrize("fixed_cost_quote", [0.0, 0.01])
def test_the_optimum_is_worth_what_its_own_rule_is_worth(fixed_cost_quote: float) -> None:
    lattice = Lattice(msgspec.structs.replace(COARSE, fixed_cost_quote=fixed_cost_quote), COARSE_GRID)
    best = lattice.best()
    assert lattice.worth(best.bands).excess_quote == pytest.approx(best.excess_quote, abs=1e-12)
    wider = best.bands._replace(low=best.bands.low - 1, buy_to=best.bands.buy_to - 1)
    assert lattice.worth(wider).excess_quote > best.excess_quote


def test_a_fixed_cost_of_next_to_nothing_is_none() -> None:
    free = Lattice(COARSE, COARSE_GRID).best()
    nearly = Lattice(msgspec.structs.replace(COARSE, fixed_cost_quote=1e-12), COARSE_GRID).best()
    assert nearly.excess_quote == pytest.approx(free.excess_quote, abs=1e-9)
    assert Lattice(msgspec.structs.replace(COARSE, fixed_cost_quote=0.01), COARSE_GRID).best().excess_quote > 0.16


@pytest.mark.parametrize("risk_aversion", [0.01, 0.1, 1.0])
def test_without_costs_what_is_left_is_the_error_of_discrete_hedging(risk_aversion: float) -> None:
    """Derman & Kamal (1999), "When you cannot hedge continuously": a deviation of √(π/4) · vega · σ/√N."""
    setting = msgspec.structs.replace(
        COARSE, steps=720, cost_rate=1e-9, risk_aversion_per_quote=risk_aversion, settlement=Settlement.FREE
    )
    lattice = Lattice(setting, Grid(-0.05, 1.05, 0.005, 4.5))
    vega = 100.0 * sqrt(setting.tau_years / (2.0 * pi)) * exp(-(0.3**2) * setting.tau_years / 2.0)
    sd_quote = sqrt(pi / 4.0) * vega * 0.6 / sqrt(720.0)
    assert lattice.best().excess_quote == pytest.approx(risk_aversion / 2.0 * sd_quote**2, rel=0.04)


@pytest.mark.parametrize(
    ("qty_base", "risk_aversion", "low_quote", "high_quote"),
    [(-1.0, 0.1, 1.653, 1.660), (-1.0, 1.0, 1.729, 1.736), (1.0, 0.1, 1.327, 1.333), (1.0, 1.0, 1.253, 1.260)],
)
def test_it_agrees_with_the_published_model_of_davis_panas_and_zariphopoulou(
    qty_base: float, risk_aversion: float, low_quote: float, high_quote: float
) -> None:
    """One year, vol 25 %, cost 1 %, delivery, as solved independently on a binomial tree of 200 and 400 steps."""
    grid = Grid(-0.1, 1.1, 0.01, 4.5) if qty_base < 0.0 else Grid(-1.1, 0.1, 0.01, 4.5)
    setting = Setting((Line(15.0, qty_base),), 15.0, 0.25, 1.0, 300, 0.01, risk_aversion)
    lattice = Lattice(msgspec.structs.replace(setting, settlement=Settlement.DELIVERED), grid)
    price = (lattice.best().excess_quote + lattice.frictionless_quote) * (1.0 if qty_base < 0.0 else -1.0)
    assert low_quote <= price <= high_quote


def solve(setting: Setting, grid: Grid) -> Optimum:
    return Lattice(setting, grid).best()


def test_only_moneyness_variance_cost_and_relative_risk_aversion_matter() -> None:
    base = solve(COARSE, COARSE_GRID)
    dearer = msgspec.structs.replace(
        COARSE, lines=(Line(1e4, -1.0),), spot_px=1e4, risk_aversion_per_quote=0.001, vol=1.2, tau_years=7.5 / 365.0
    )
    scaled = solve(dearer, COARSE_GRID)
    assert scaled.excess_quote / 100.0 == pytest.approx(base.excess_quote, rel=1e-9)
    assert (np.abs(scaled.bands.low[0] - base.bands.low[0]) <= 1).all()


def test_many_contracts_are_one_at_as_many_times_the_risk_aversion() -> None:
    many = msgspec.structs.replace(COARSE, lines=(Line(100.0, -5.0),), risk_aversion_per_quote=0.02)
    five = solve(many, Grid(-1.0, 6.0, 0.05, 4.5))
    assert five.excess_quote / 5.0 == pytest.approx(solve(COARSE, COARSE_GRID).excess_quote, rel=1e-9)


def test_more_cost_more_aversion_and_unwinding_all_cost_more() -> None:
    free = msgspec.structs.replace(COARSE, settlement=Settlement.FREE)
    at = [
        solve(setting, COARSE_GRID).excess_quote
        for setting in (
            free,
            COARSE,
            msgspec.structs.replace(COARSE, cost_rate=1e-3),
            msgspec.structs.replace(COARSE, cost_rate=1e-3, risk_aversion_per_quote=0.4),
        )
    ]
    assert at == sorted(at)
    assert at[0] < 0.9 * at[1]


def test_a_setting_beyond_what_a_float_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="expected exponents of at most 650, found"):
        Lattice(msgspec.structs.replace(COARSE, risk_aversion_per_quote=10.0), COARSE_GRID)


def test_columns_are_the_nearest_hedges_and_the_last_beyond_the_grid() -> None:
    lattice = Lattice(SMALL, SMALL_GRID)
    found = lattice.column_of(np.array([-np.inf, -0.41, -0.29, 0.09, 0.11, 5.0, np.inf]))
    assert lattice.hedges_base[found] == pytest.approx([-0.4, -0.4, -0.2, 0.0, 0.2, 1.4, 1.4])
