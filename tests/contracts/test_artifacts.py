"""What is committed as built is what the sources give, byte for byte, and small enough for a chain to take."""

from __future__ import annotations

import json
import shutil
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from tests.chains.artifacts import ROOT

CONTRACTS = ROOT / "bot" / "contracts"
LARGEST_BYTES = 24_576  # EIP-170


def builder() -> ModuleType:
    """Return scripts/contracts as a module."""
    loader = SourceFileLoader("build_contracts", str(ROOT / "scripts" / "contracts"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_every_source_is_built_and_nothing_else_is_there() -> None:
    assert {path.stem for path in CONTRACTS.glob("*.vy")} == {path.stem for path in CONTRACTS.glob("*.json")}
    assert (CONTRACTS / "GuardedVault.json").is_file()


def test_what_is_committed_is_what_the_sources_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert builder().main(["--check"]) == 0, capsys.readouterr().out


def test_a_source_that_changed_is_found_and_built_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in CONTRACTS.glob("AaveShort.*"):  # the small one: each building of the vault takes seconds
        shutil.copy(path, tmp_path)
    source = tmp_path / "AaveShort.vy"
    bound = "MAX_PATH_BYTES: constant(uint256) = "
    changed = source.read_text().replace(f"{bound}112", f"{bound}66")
    assert changed != source.read_text()
    source.write_text(changed)
    module = builder()
    module.SOURCES = tmp_path
    assert module.main(["--check"]) == 1
    assert "found AaveShort.json to differ" in capsys.readouterr().out
    assert module.main([]) == 0
    built = json.loads((tmp_path / "AaveShort.json").read_text())
    assert built["bytecode"] != json.loads((CONTRACTS / "AaveShort.json").read_text())["bytecode"]


@pytest.mark.parametrize("path", sorted(CONTRACTS.glob("*.json")), ids=lambda path: path.stem)
def test_what_is_built_says_by_what_and_fits_on_a_chain(path: Path) -> None:
    built = json.loads(path.read_text(encoding="utf-8"))
    assert built["compiler"].startswith("vyper 0.4.3")
    assert built["runtime_bytes"] <= LARGEST_BYTES
    assert len(bytes.fromhex(built["bytecode"].removeprefix("0x"))) > built["runtime_bytes"]


def test_the_vault_says_that_it_is_unaudited() -> None:
    head = (CONTRACTS / "GuardedVault.vy").read_text(encoding="utf-8").partition('"""')[2].partition('"""')[0]
    assert "UNAUDITED" in head
