"""The example of docs/add-a-strategy.md works as it is printed."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import TypeAdapter, ValidationError

import strategies
from strategies import Policy
from tests.strategies.views import view

GUIDE = (Path(__file__).parents[2] / "docs" / "add-a-strategy.md").read_text()
WRITTEN, REGISTERED = re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = tmp_path / "move_band.py"
    path.write_text(WRITTEN)
    spec = importlib.util.spec_from_file_location("move_band_of_the_guide", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_the_policy_of_the_guide_bands_by_the_move(example: ModuleType) -> None:
    policy: Policy = example.MoveBand(move_fraction=0.01)
    target = policy.target(view(gamma=-0.12, target_delta_base=1.0))
    assert target.low_base == pytest.approx(1.0 - 0.12 * 1_900.0 * 0.01)
    assert target.high_base == pytest.approx(1.0 + 0.12 * 1_900.0 * 0.01)
    assert target.reason == "band ±2.28 ETH: a move of 1.00%"
    assert policy.target(view(gamma=0.0)).high_base == 0.1
    for damage in ({"gamma": float("nan")}, {"spot_px": float("inf")}, {"lot_base": 0.0}):
        assert policy.target(view(**damage)).reason.startswith("holding")
    with pytest.raises(ValidationError):
        example.MoveBand(move_fraction=-0.01)


def test_its_line_in_the_union_registers_it(example: ModuleType) -> None:
    names = {**vars(strategies), "MoveBand": example.MoveBand}
    exec(REGISTERED, names)
    adapter: TypeAdapter[Policy] = TypeAdapter(names["AnyPolicy"])
    assert adapter.validate_python({"type": "move_band", "move_fraction": 0.02}) == example.MoveBand(move_fraction=0.02)
    assert adapter.validate_python({"type": "unhedged"}) == strategies.Unhedged()


def test_the_line_of_the_guide_only_adds_to_the_one_in_force() -> None:
    source = re.sub(r"\s", "", Path(strategies.__file__).read_text())  # one is as wide as a page, the other as a file
    assert re.sub(r"\s", "", REGISTERED).replace("|MoveBand", "") in source
