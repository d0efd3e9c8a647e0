"""The local model, exact and played: how much narrower a band looked at rarely is, and what waiting for fills costs."""

from __future__ import annotations

from functools import cache
from math import inf

import pytest

from bot.pricing import impulse
from bot.simulation.yardstick.latency import (
    Monitored,
    Played,
    Rule,
    band_cost_share,
    best_monitored_band,
    latency_cost_share,
    play,
)

STEP = 0.1


@cache
def best(step_share: float) -> Monitored:
    return best_monitored_band(step_share)


def played(rule: Rule, latency_steps: int, probability: float = 0.0) -> Played:
    half = best(STEP).half_share
    return play(rule, half, STEP, latency_steps, seed=7, chains=1_000, steps=2_500, inclusion_probability=probability)


@pytest.mark.parametrize(
    ("step_share", "cost_share", "shift_ratio"),
    [(0.1, 1.003, 0.582), (0.3, 1.024, 0.580), (0.5, 1.069, 0.576), (1.0, 1.303, 0.555)],
)
def test_the_best_band_looked_at_rarely(step_share: float, cost_share: float, shift_ratio: float) -> None:
    found = best(step_share)
    assert found.cost_share == pytest.approx(cost_share, abs=0.001)
    assert found.shift_ratio == pytest.approx(shift_ratio, abs=0.001)


def test_the_shift_tends_to_the_constant_of_broadie_glasserman_and_kou() -> None:
    assert best(0.1).shift_ratio == pytest.approx(impulse.MONITORING_SHIFT, abs=0.001)


@pytest.mark.parametrize("step_share", [0.1, 0.5, 1.0, 2.0])
def test_the_closed_form_the_policies_use_costs_no_more_than_a_thousandth_extra(step_share: float) -> None:
    closed = impulse.monitored_half_base(1.0, step_share)
    assert band_cost_share(closed, step_share) == pytest.approx(best(step_share).cost_share, rel=1e-3)


def test_a_band_ten_times_too_wide_or_too_narrow_is_dear() -> None:
    assert band_cost_share(3.0, STEP) > 2.5 * best(STEP).cost_share
    assert band_cost_share(0.1, STEP) > 2.5 * best(STEP).cost_share


@pytest.mark.parametrize("latency_steps", [0, 1, 2, 5, 10, 20])
def test_counting_what_is_pending_costs_what_theory_says(latency_steps: int) -> None:
    found = played(Rule.INVENTORY_POSITION, latency_steps)
    theory = latency_cost_share(best(STEP), latency_steps)
    assert found.cost_share == pytest.approx(theory, rel=0.01)
    assert found.cost_share == pytest.approx(theory, abs=4.0 * found.error_share + 1e-9)
    assert found.error_share < 0.003


def test_theory_is_the_rate_the_engine_charges_for_latency() -> None:
    aversion, gamma, spot, vol, years = 0.1, 0.023, 100.0, 0.6, 1e-4
    half = impulse.band_half_base(5e-4, spot, gamma, aversion)
    step = impulse.delta_sd_base(gamma, spot, vol, years) / half
    extra = latency_cost_share(best(STEP)._replace(step_share=step), 1) - best(STEP).cost_share
    rate = impulse.latency_cost_rate_quote(aversion, gamma, spot, vol, years)
    assert rate / impulse.edge_cost_rate_quote(5e-4, spot, gamma, aversion, vol) == pytest.approx(extra, rel=1e-12)


def test_a_block_that_takes_an_order_by_chance_costs_as_its_mean_delay_does() -> None:
    found = played(Rule.INVENTORY_POSITION, 0, probability=0.1)
    assert found.cost_share == pytest.approx(latency_cost_share(best(STEP), 10), rel=0.005)


def test_one_order_at_a_time_costs_a_little_more_and_is_stable() -> None:
    found = played(Rule.ONE_OUTSTANDING, 10)
    assert found.cost_share == pytest.approx(1.139, abs=0.01)
    assert found.cost_share > played(Rule.INVENTORY_POSITION, 10).cost_share
    assert played(Rule.ONE_OUTSTANDING, 20).cost_share == pytest.approx(1.29, abs=0.015)


def test_forgetting_what_is_pending_is_dear_at_first_and_then_diverges() -> None:
    assert played(Rule.NAIVE, 2).cost_share == pytest.approx(1.031, abs=0.006)
    assert played(Rule.NAIVE, 2).trading_share > 1.05 * played(Rule.INVENTORY_POSITION, 2).trading_share
    assert played(Rule.NAIVE, 5).cost_share == inf
    assert played(Rule.NAIVE, 20).cost_share == inf


def test_a_step_the_solver_cannot_resolve_is_refused() -> None:
    with pytest.raises(ValueError, match=r"step_share: expected 0\.02 to 10"):
        best_monitored_band(0.001)
