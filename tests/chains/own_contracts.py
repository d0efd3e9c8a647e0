"""The test world's own contracts: Vyper sources in `contracts/`, compiled when first needed, kept by what they say."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from tests.chains.artifacts import Artifact, cache_folder, write_at_once

SOURCES = Path(__file__).parent / "contracts"


def sources_hash(folder: Path = SOURCES) -> str:
    """Return what a compiled contract depends on: all sources beside it, and the compiler."""
    state = hashlib.sha256(version("vyper").encode())
    for path in sorted(folder.iterdir()):
        if path.is_file():
            state.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()[:16]


@lru_cache(maxsize=64)
def compiled(name: str, folder: Path = SOURCES) -> Artifact:
    """Return the contract in `<folder>/<name>.vy`."""
    kept = cache_folder() / "vyper" / f"{name}-{sources_hash(folder)}.json"
    if not kept.is_file():
        compile_into(folder / f"{name}.vy", kept)
    content = json.loads(kept.read_text(encoding="utf-8"))
    return Artifact(name, content["abi"], content["bytecode"], {})


def compile_into(source: Path, kept: Path) -> None:
    """Compile a contract, and keep ABI and creation code."""
    import vyper  # takes a second, and is not needed once all is compiled
    from vyper.compiler.input_bundle import FilesystemInputBundle

    found = vyper.compile_code(
        source.read_text(encoding="utf-8"),
        contract_path=source,
        input_bundle=FilesystemInputBundle([source.parent]),
        output_formats=["abi", "bytecode"],
    )
    content = {"abi": found["abi"], "bytecode": found["bytecode"].removeprefix("0x")}
    write_at_once(kept, json.dumps(content).encode())
