"""The worked cases of venues' margin by id, and the parameters that the project carries, decoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bot.risk.margin.registry import decode_values
from bot.risk.parameters import ParameterSet, decode_parameters

ROOT = Path(__file__).parents[3]
CASES: dict[str, dict[str, Any]] = {
    case["id"]: case
    for case in json.loads((ROOT / "tests/risk/data/venue_margin_cases.json").read_text(encoding="utf-8"))
}


def inputs(name: str) -> dict[str, Any]:
    """Return what a case is given."""
    found: dict[str, Any] = CASES[name]["inputs"]
    return found


def expected(name: str, key: str) -> Any:
    """Return what a case must come to, to the tolerance it states (1e-9 where it states none)."""
    value = CASES[name]["expected"][key]
    return pytest.approx(value, rel=0.0, abs=inputs(name).get("_tol", 1e-9))


def carried(model: str) -> ParameterSet:
    """Return the newest carried parameter set of a model."""
    path = max((ROOT / "bot/risk/parameter_sets").glob(f"{model}-*.json"))
    return decode_parameters(path.read_bytes())


def parameters(model: str) -> Any:
    """Return the newest carried parameters of a model, decoded."""
    return decode_values(model, carried(model).values)
