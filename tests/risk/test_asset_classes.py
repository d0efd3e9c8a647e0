"""Parameters by asset class: which layer wins, that each says where it came from, and one error for what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

import bot.risk
from bot.risk.asset_classes import MODEL, AssetClasses, ClassParameters, Overrides, decode_classes, resolve
from bot.risk.breakers import BreakerRule
from bot.risk.parameters import decode_parameters

SET = decode_parameters(
    (Path(bot.risk.__file__).parent / "parameter_sets" / "asset_classes-2026-11-01.json").read_text(encoding="utf-8")
)
CLASSES = decode_classes(SET.values)


def test_the_set_that_ships_is_one() -> None:
    assert SET.model == MODEL
    assert {"major", "large", "small", "stable", "staked", "wrapped"} == CLASSES.classes.keys()
    for asset in (*CLASSES.members, "DOGWIFHAT"):
        found = resolve(asset, CLASSES)
        assert found.origins.keys() == {"class", *ClassParameters.__struct_fields__}


def test_riskier_classes_are_treated_with_more_care() -> None:
    rows = [CLASSES.classes[name] for name in ("major", "large", "small")]
    for name in ("band_multiple", "haircut_fraction", "price_shock_fraction", "vol_shock_fraction", "fallback_vol"):
        values = [getattr(row, name) for row in rows]
        assert values == sorted(set(values)), name


def test_the_later_layer_wins_and_is_named() -> None:
    told = Overrides(
        classes={"stable": {"haircut_fraction": 0.04, "gap_fraction": 0.005}},
        assets={"USDC": {"haircut_fraction": 0.0}},
        members={"SOL": "major"},
    )
    usdc, usde, sol = (resolve(asset, CLASSES, told, SET.name) for asset in ("usdc", "USDE", "SOL"))
    assert (usdc.parameters.haircut_fraction, usdc.origins["haircut_fraction"]) == (0.0, "asset USDC of the vault")
    assert (usdc.parameters.gap_fraction, usdc.origins["gap_fraction"]) == (0.005, "class stable of the vault")
    assert (usdc.parameters.depth_share, usdc.origins["depth_share"]) == (0.3, f"class stable of {SET.name}")
    assert (usde.parameters.haircut_fraction, usde.origins["haircut_fraction"]) == (0.04, "class stable of the vault")
    assert (usde.parameters.peg_shock_fraction, usde.origins["peg_shock_fraction"]) == (
        0.35,
        f"asset USDE of {SET.name}",
    )
    assert (sol.asset_class, sol.origins["class"]) == ("major", "the vault")
    assert sol.parameters.price_shock_fraction == 0.12
    assert f"SOL price_shock_fraction = 0.12: class major of {SET.name}" in sol.lines()
    assert sol.lines()[0] == "SOL class = major: the vault"


def test_what_nobody_listed_is_taken_as_the_most_careful_class_and_told() -> None:
    found = resolve("DOGWIFHAT", CLASSES, name=SET.name)
    assert found.asset_class == "small"
    assert found.origins["class"] == f"not listed: taken as small, by {SET.name}"


@pytest.mark.parametrize(
    ("told", "error"),
    [
        (
            Overrides(members={"ETH": "mayor"}),
            "small, stable, staked, wrapped, found 'mayor' for asset ETH; hint: check spelling",
        ),
        (Overrides(classes={"tiny": {}}), "found 'tiny' for an override of the vault"),
        (Overrides(assets={"ETH": {"haircut": 0.1}}), "in asset ETH of the vault, found haircut"),
        (
            Overrides(assets={"ETH": {"haircut_fraction": 1.5}}),
            "expected haircut_fraction from 0 to below 1, found 1.5 in asset ETH of the vault",
        ),
        (Overrides(classes={"small": {"vol_model": "oracle"}}), "found Invalid enum value 'oracle'"),
        (Overrides(classes={"small": {"fallback_vol": float("nan")}}), "fallback_vol above 0, found nan"),
        (Overrides(classes={"small": {"ewma_decay": 0.0}}), "ewma_decay above 0, found 0"),
        (Overrides(classes={"small": {"vol_shock_fraction": -0.1}}), "vol_shock_fraction from 0, found -0.1"),
    ],
)  # fmt: skip
def test_one_clear_error(told: Overrides, error: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        decode_classes(SET.values, told)
    assert error in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("broken", [{"unlisted": "none"}, {"classes": {}}, {"members": {"ETH": 5}}, {"more": 1}])
def test_a_set_that_is_broken_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        decode_classes({**SET.values, **broken})


def test_a_class_nobody_checked_is_still_refused_when_it_is_used() -> None:
    bad: AssetClasses = msgspec.structs.replace(CLASSES, members={"ETH": "mayor"})
    with pytest.raises(ValueError, match="found 'mayor' for asset ETH"):
        resolve("ETH", bad)


def test_breakers_have_the_limits_of_the_class() -> None:
    stable = resolve("USDC", CLASSES).parameters.breaker_rule(BreakerRule(failed_hedges=5))
    assert (stable.quick_move_fraction, stable.gap_fraction, stable.failed_hedges) == (0.01, 0.01, 5)
