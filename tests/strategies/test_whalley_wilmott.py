from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from strategies import WhalleyWilmott
from tests.strategies.views import view

GOLDEN = list(csv.DictReader((Path(__file__).parents[1] / "golden" / "golden_bands.csv").read_text().splitlines()))
POLICY = WhalleyWilmott(risk_aversion_per_quote=3e-4)


def half_width(policy: WhalleyWilmott = POLICY, gamma: float = -0.12, **changes: float) -> float:
    target = policy.target(view(gamma, **{"lot_base": 1e-9, **changes}))
    return 0.5 * (target.high_base - target.low_base)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"S{row['S']}-k{row['k']}-g{row['gamma']}")
def test_matches_the_golden_band(row: dict[str, str]) -> None:
    policy = WhalleyWilmott(risk_aversion_per_quote=float(row["gamma"]))
    found = half_width(policy, float(row["bs_gamma"]), spot_px=float(row["S"]), cost_rate=float(row["k"]))
    assert found == pytest.approx(float(row["H_WW"]), rel=1e-12)


def test_the_golden_file_is_whole() -> None:
    assert len(GOLDEN) == 6


@given(st.floats(1e-3, 1e3))
def test_scales_with_its_inputs(factor: float) -> None:
    base = half_width()
    assert half_width(gamma=-0.12 * factor) == pytest.approx(base * factor ** (2 / 3), rel=1e-9)
    assert half_width(cost_rate=5.1e-4 * factor) == pytest.approx(base * factor ** (1 / 3), rel=1e-9)
    assert half_width(spot_px=1_900.0 * factor) == pytest.approx(base * factor ** (1 / 3), rel=1e-9)
    averse = WhalleyWilmott(risk_aversion_per_quote=3e-4 * factor)
    assert half_width(averse) == pytest.approx(base * factor ** (-1 / 3), rel=1e-9)


def test_does_not_mind_the_sign_of_gamma() -> None:
    assert half_width(gamma=0.12) == half_width(gamma=-0.12)


def test_sits_around_the_target_and_trades_to_the_edge() -> None:
    target = POLICY.target(view(target_delta_base=-30.0))
    assert 0.5 * (target.low_base + target.high_base) == pytest.approx(-30.0)
    assert (target.buy_to_base, target.sell_to_base) == (target.low_base, target.high_base)
    assert target.reason == "band ±4.117 ETH: k 5.1 bp, gamma -0.12, g 0.0003"


@pytest.mark.parametrize("flat", [{"gamma": 0.0}, {"cost_rate": 0.0}, {"cost_rate": -1e-4}])
def test_is_never_narrower_than_a_lot(flat: dict[str, float]) -> None:
    target = POLICY.target(view(**flat, lot_base=0.1))
    assert (target.low_base, target.high_base) == (-0.1, 0.1)


DEADLY = [
    (field, bad)
    for field in ("gamma", "cost_rate", "spot_px", "target_delta_base", "lot_base")
    for bad in (math.nan, math.inf, -math.inf)
]


@pytest.mark.parametrize(("field", "bad"), [*DEADLY, ("gamma", 1e200), ("lot_base", 0.0), ("lot_base", -0.1)])
def test_a_deadly_number_never_makes_a_trade(field: str, bad: float) -> None:
    target = POLICY.target(view(**{field: bad}))
    assert (target.low_base, target.high_base) == (-math.inf, math.inf)
    assert target.reason.startswith("holding")


@pytest.mark.parametrize("spot_px", [0.0, -1.0])
def test_holds_without_a_spot(spot_px: float) -> None:
    assert POLICY.target(view(spot_px=spot_px)).high_base == math.inf


@pytest.mark.parametrize("risk_aversion", [0, -3e-4, math.nan, math.inf, "3e-4", None])
def test_refuses_a_risk_aversion_that_is_none(risk_aversion: object) -> None:
    with pytest.raises(ValidationError):
        WhalleyWilmott.model_validate({"type": "whalley_wilmott", "risk_aversion_per_quote": risk_aversion})
