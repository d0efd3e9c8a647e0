"""Two correlated books, played: the joint band saves where gammas offset each other, and costs nothing elsewhere."""

from __future__ import annotations

from functools import cache

import pytest

from bot.domain.decisions import HedgePolicy
from bot.pricing.bands import edge_cost_rate_quote
from bot.simulation.yardstick.correlated import Costs, Side, play_together
from strategies import Impulse, WhalleyWilmott

AVERSE = 3e-4
POLICY = Impulse(risk_aversion_per_quote=AVERSE)
ETH = Side("ETH", 1900.0, 0.6, -0.12, 5e-4)


def btc(gamma_ratio: float) -> Side:
    """A BTC book whose net delta wanders, in money, by this many times what that of the ETH book does."""
    return Side("BTC", 30_000.0, 0.5, -0.12 * gamma_ratio * (1900.0 * 0.6 / 15_000.0) ** 2, 5e-4)


@cache
def played(gamma_ratio: float, ratio: float, told: float, policy: HedgePolicy = POLICY, ticks: int = 3_000) -> Costs:
    sides = (ETH, btc(gamma_ratio))
    return play_together(policy, AVERSE, sides, ratio, told, seed=3, ticks=ticks, step_years=900 / 31_536_000)


def test_alone_it_is_the_cost_of_the_local_model() -> None:
    expected = sum(
        edge_cost_rate_quote(one.cost_rate, one.spot_px, one.gamma_base_per_px, AVERSE, one.vol)
        for one in (ETH, btc(1.0))
    )
    found = played(1.0, 0.0, 0.0, ticks=6_000)
    assert found.total_quote == pytest.approx(expected, rel=0.05)
    assert found.trading_quote == pytest.approx(2.0 / 3.0 * expected, rel=0.06)


@pytest.mark.parametrize(("gamma_ratio", "ratio", "most"), [(1.0, 0.95, 0.96), (-1.0, 0.8, 0.90), (-1.0, 0.95, 0.80)])
def test_what_it_saves(gamma_ratio: float, ratio: float, most: float) -> None:
    assert played(gamma_ratio, ratio, ratio).total_quote < most * played(gamma_ratio, ratio, 0.0).total_quote


@pytest.mark.parametrize("gamma_ratio", [1.0, -3.0])
def test_it_is_never_worse_and_a_correlation_told_too_low_is_safe(gamma_ratio: float) -> None:
    alone = played(gamma_ratio, 0.5, 0.0, ticks=5_000).total_quote
    assert played(gamma_ratio, 0.5, 0.3, ticks=5_000).total_quote < 1.002 * alone
    assert played(gamma_ratio, 0.5, 0.5, ticks=5_000).total_quote < 1.005 * alone


def test_whalley_wilmott_does_the_same() -> None:
    policy = WhalleyWilmott(risk_aversion_per_quote=AVERSE)
    assert played(-1.0, 0.8, 0.8, policy, 500) == played(-1.0, 0.8, 0.8, POLICY, 500)


def test_one_seed_is_one_path() -> None:
    kept = played(-1.0, 0.8, 0.8, POLICY, 500)
    assert played.__wrapped__(-1.0, 0.8, 0.8, POLICY, 500) == kept
