"""Drift: the weights of its own tests, and a book."""

from __future__ import annotations

import numpy as np
import pytest

from bot.risk.book import PERPETUAL, SPOT, Position, build_book
from bot.risk.margin.drift import (
    DriftParameters,
    DriftTerms,
    asset_weight,
    collateral_weight,
    requirement,
    scaled_initial_weight,
    worsened_weight,
)
from tests.risk.margin.cases import expected, inputs, parameters


@pytest.mark.parametrize("case", ["drift_spot_weight_0", "drift_spot_weight_2"])
def test_weights_worsen_with_size(case: str) -> None:
    given = inputs(case)
    size, factor = given["size_tokens"], given["imf"]
    assert asset_weight(given["initial_asset_weight"], factor, size) == expected(case, "asset_weight")
    debt = worsened_weight(given["initial_liability_weight"], factor, np.array([float(size)]))
    assert float(debt[0]) == expected(case, "liability_weight")


@pytest.mark.parametrize("case", ["drift_scaled_asset_weight_0", "drift_scaled_asset_weight_2"])
def test_initial_weight_shrinks_with_all_deposits(case: str) -> None:
    given = inputs(case)
    deposits = given["deposits_sol"] * given["price"]
    assert scaled_initial_weight(given["w"], deposits, given["start_usd"]) == expected(case, "weight")


def test_a_perpetual_and_a_debt() -> None:
    terms = DriftTerms(
        initial_ratio=0.1,
        maintenance_ratio=0.05,
        perpetual_size_factor=0.01,
        initial_debt_weight=1.2,
        maintenance_debt_weight=1.1,
        initial_asset_weight=0.8,
        maintenance_asset_weight=0.9,
        scale_start_quote=1e6,
        deposits_quote=2e6,
    )
    legs = [
        Position(kind=PERPETUAL, underlying="SOL", qty_base=-100.0, money="USDC"),
        Position(kind=SPOT, underlying="SOL", qty_base=-50.0),
    ]
    found = requirement(build_book(legs, {"SOL": 200.0}), DriftParameters({"SOL": terms}))
    assert found.charge("SOL perpetuals").initial == pytest.approx(20_000.0 * 0.18)  # 0.08 and a hundredth of √100
    assert found.charge("SOL perpetuals").maintenance == pytest.approx(20_000.0 * 0.14)
    assert found.charge("SOL debt").initial == pytest.approx(10_000.0 * 0.2)
    assert found.charge("SOL debt").maintenance == pytest.approx(10_000.0 * 0.1)
    assert collateral_weight(terms, 100.0) == pytest.approx((0.4, 0.9))
    assert parameters("drift").markets["SOL"].initial_asset_weight < 1.0
