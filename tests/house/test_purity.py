"""Time is data: only gateways, runtime, storage and telemetry read a clock, do IO, or draw randomness of their own."""

from __future__ import annotations

import pytest

from tests.house.sources import Module, calls, imports, modules

IMPURE_LAYERS = frozenset({"gateways", "runtime", "storage", "telemetry"})

CLOCKS_AND_CHANCE = {"time", "random", "secrets", "uuid"}
CONCURRENCY = {"asyncio", "concurrent", "multiprocessing", "signal", "subprocess", "threading", "uvloop"}
NETWORK = {
    "aiohttp",
    "ccxt",
    "http",
    "httpx",
    "requests",
    "select",
    "selectors",
    "socket",
    "ssl",
    "urllib",
    "web3",
    "websockets",
}
DATABASES = {"aiosqlite", "asyncpg", "psycopg", "sqlalchemy", "sqlite3"}
TALKING = {"logging", "rich", "structlog", "typer", "warnings"}
FORBIDDEN_MODULES = CLOCKS_AND_CHANCE | CONCURRENCY | NETWORK | DATABASES | TALKING

FILE_MODULES = {"glob", "importlib", "io", "os", "pathlib", "shutil", "sys", "tempfile", "zipfile"}
FORBIDDEN_CALLS = {"__import__", "eval", "exec", "input", "open", "print"}
DIFFERENT_IN_EVERY_PROCESS = {"hash", "id"}  # strings hash differently in each process; commands must not
READS_RECORDINGS = "bot.simulation.recording"  # the one pure module that reads files

SEEDED = {"BitGenerator", "Generator", "PCG64", "PCG64DXSM", "Philox", "SeedSequence", "default_rng"}


def impurities(module: Module) -> list[str]:
    """Return every clock, IO, talk or hidden randomness in a module that must be pure."""
    forbidden = set(FORBIDDEN_MODULES)
    forbidden_calls = FORBIDDEN_CALLS | DIFFERENT_IN_EVERY_PROCESS
    if module.name == READS_RECORDINGS:
        forbidden_calls -= {"open"}
    else:
        forbidden |= FILE_MODULES
    found = [(line, name) for line, name in imports(module) if name.partition(".")[0] in forbidden]
    found += [(line, f"{name}()") for line, name, _ in calls(module) if name in forbidden_calls or is_clock(name)]
    return [f"{module.name}:{line}: expected a pure module, found {name}" for line, name in found]


def is_clock(call: str) -> bool:
    """Tell whether a call as written asks what time it is, as `datetime.now` and `dt.date.today` do."""
    owner, _, method = call.rpartition(".")
    return method in {"now", "utcnow", "today"} and owner.rpartition(".")[2] in {"datetime", "date"}


def hidden_randomness(module: Module) -> list[str]:
    """Return every draw from numpy's global generator and every generator made without a seed."""
    found = []
    for line, name, node in calls(module):
        owner, _, method = name.rpartition(".")
        is_numpy = owner in {"np.random", "numpy.random"}
        is_unseeded = method == "default_rng" and not node.args and not node.keywords
        if (is_numpy and method not in SEEDED) or is_unseeded:
            found.append(f"{module.name}:{line}: expected a generator seeded by the caller, found {name}()")
    return found


def test_the_core_is_pure() -> None:
    assert [found for m in modules() if m.layer not in IMPURE_LAYERS for found in impurities(m)] == []


def test_randomness_is_seeded() -> None:
    assert [found for module in modules() for found in hidden_randomness(module)] == []


@pytest.mark.parametrize(
    "text",
    [
        "import time",
        "from time import perf_counter_ns",
        "import asyncio",
        "import sqlalchemy.orm",
        "from http.client import HTTPConnection",
        "import logging as log",
        "import datetime\nnow = datetime.datetime.now(datetime.UTC)",
        "from datetime import date\ntoday = date.today()",
        "def late():\n    import socket",
        "from pathlib import Path",
        "text = open('vault.yaml').read()",
        "order = hash('ETH')",
    ],
)
def test_a_planted_impurity_is_found(text: str) -> None:
    assert impurities(Module.parse("bot.engine.core", text)) != []


@pytest.mark.parametrize("text", ["import numpy as np\nnp.random.normal()", "rng = np.random.default_rng()"])
def test_planted_randomness_is_found(text: str) -> None:
    assert hidden_randomness(Module.parse("bot.simulation.venue", text)) != []


def test_what_is_pure_passes() -> None:
    text = "import datetime\nimport numpy as np\nrng = np.random.default_rng(7)\nd = datetime.datetime(2023, 4, 28)"
    module = Module.parse("bot.simulation.venue", text)
    assert impurities(module) + hidden_randomness(module) == []
