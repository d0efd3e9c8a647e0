"""Chainlink's own mock of a price feed, compiled from its published sources by Solidity's compiler in Node.

The world's feeds are contracts of ours with the same shape; this is what the shape is held against.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from tests.chains.artifacts import PACKAGES, Artifact, cache_folder, folder_of
from tests.chains.own_contracts import write_at_once

COMPILES_IN_S = 120.0
SOURCES = "src/v0.8/shared"
MOCK = "mocks/MockV3Aggregator.sol"
INTERFACES = ("AggregatorV2V3Interface", "AggregatorInterface", "AggregatorV3Interface")

# The package's own entry asks for packages we do not need; what it wraps is one function from JSON to JSON.
COMPILE = """
const solc = require(process.argv[1]);
const compile = solc.cwrap("solidity_compile", "string", ["string", "number", "number"]);
let asked = "";
process.stdin.on("data", (part) => { asked += part; });
process.stdin.on("end", () => process.stdout.write(compile(asked, 0, 0)));
"""


@cache
def mock_aggregator() -> Artifact:
    """Return MockV3Aggregator, whose constructor takes decimals and a first answer."""
    root = folder_of("@chainlink/contracts") / SOURCES
    names = [MOCK, *(f"interfaces/{name}.sol" for name in INTERFACES)]
    found = solidity({name: (root / name).read_text(encoding="utf-8") for name in names})[MOCK]["MockV3Aggregator"]
    return Artifact("MockV3Aggregator", found["abi"], found["evm"]["bytecode"]["object"], {})


def solidity(sources: dict[str, str]) -> dict[str, Any]:
    """Return what the compiler makes of sources by name: contracts by source and name; kept by what they say."""
    asked = json.dumps(
        {
            "language": "Solidity",
            "sources": {name: {"content": text} for name, text in sources.items()},
            "settings": {
                "optimizer": {"enabled": True, "runs": 200},
                "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}},
            },
        },
        sort_keys=True,
    )
    digest = hashlib.sha256((PACKAGES["solc"].sha512 + asked).encode()).hexdigest()
    kept = cache_folder() / "solidity" / f"{digest[:16]}.json"
    if not kept.is_file():
        write_at_once(kept, run_solc(folder_of("solc") / "soljson.js", asked).encode())
    return dict(json.loads(kept.read_text(encoding="utf-8"))["contracts"])


def run_solc(compiler: Path, asked: str) -> str:
    """Return the compiler's answer; raise if it found an error."""
    node = shutil.which("node")
    if node is None:
        raise RuntimeError("expected node to run Solidity's compiler, found none; hint: apt-get install nodejs")
    run = subprocess.run(
        [node, "-e", COMPILE, str(compiler)], input=asked, capture_output=True, text=True, check=False,
        timeout=COMPILES_IN_S,
    )  # fmt: skip
    if run.returncode:
        raise RuntimeError(
            f"expected the compiler to answer, found it ended with {run.returncode}: {run.stderr[-500:]}"
        )
    errors = [one for one in json.loads(run.stdout).get("errors", []) if one["severity"] == "error"]
    if errors:
        raise RuntimeError(f"expected sources that compile, found: {errors[0]['formattedMessage']}")
    return run.stdout
