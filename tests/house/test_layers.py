"""Who may import whom: the table of docs/architecture.md, section "The house"."""

from __future__ import annotations

import pytest

from tests.house.sources import ROOT, Module, imports, layer_of, modules

EVERYTHING = frozenset(
    {"domain", "pricing", "risk", "engine", "simulation", "storage", "gateways", "telemetry", "runtime", "strategies"}
)
MAY_IMPORT: dict[str, frozenset[str]] = {
    "domain": frozenset(),
    "pricing": frozenset(),
    "risk": frozenset({"domain", "pricing"}),
    "engine": frozenset({"domain", "pricing", "risk"}),
    "strategies": frozenset({"domain", "pricing"}),
    "simulation": frozenset({"domain", "pricing", "risk", "engine"}),
    "storage": frozenset({"domain"}),
    "gateways": frozenset({"domain", "pricing", "storage"}),
    "telemetry": frozenset({"domain"}),
    "runtime": EVERYTHING,
}
# The rooms of `bot/runtime`. "" is the daemon and what it runs, which every room may import besides.
ROOMS: dict[str, frozenset[str]] = {
    "": frozenset({"configuration", "live", "operators", "risk"}),
    "configuration": frozenset(),
    "live": frozenset({"configuration"}),
    "operators": frozenset({"configuration", "live"}),
    "studies": frozenset({"configuration"}),
    "risk": frozenset({"configuration", "operators", "studies"}),
    "windows": frozenset({"configuration", "live", "operators", "risk"}),
    "dashboard": frozenset({"configuration", "operators", "windows"}),
    "cli": frozenset({"configuration", "live", "operators", "studies", "risk", "windows", "dashboard"}),
}
PAPER_EXECUTION = "bot.gateways.paper"  # fills paper orders at the simulated venue


def violations(module: Module) -> list[str]:
    """Return what `module` imports of ours and may not."""
    allowed = MAY_IMPORT[module.layer] | {module.layer} if module.layer else frozenset()
    if module.name == PAPER_EXECUTION:
        allowed |= {"simulation"}
    return [
        f"{module.name}:{line}: expected imports from {sorted(allowed)} only, found {target}"
        for line, target in imports(module)
        if layer_of(target) in EVERYTHING - allowed
    ]


def room_of(dotted: str) -> str:
    """Return the room of `bot/runtime` that a dotted name belongs to, "" for the daemon and what it runs."""
    room = dotted.removeprefix("bot.runtime.").partition(".")[0]
    return room if room in ROOMS else ""


def out_of_place(module: Module) -> list[str]:
    """Return what `module`, one of `bot/runtime`, imports from rooms it may not know."""
    allowed = ROOMS[room_of(module.name)] | {room_of(module.name), ""}
    return [
        f"{module.name}:{line}: expected imports from the rooms {sorted(allowed - {''})} only, found {target}"
        for line, target in imports(module)
        if target.startswith("bot.runtime.") and room_of(target) not in allowed
    ]


def test_imports_follow_the_table() -> None:
    assert [found for module in modules() for found in violations(module)] == []


def test_rooms_of_the_runtime_follow_their_table() -> None:
    assert [found for module in modules() if module.layer == "runtime" for found in out_of_place(module)] == []


def test_every_room_of_the_runtime_has_its_place_in_the_table() -> None:
    assert {path.parent.name for path in ROOT.glob("bot/runtime/*/__init__.py")} == set(ROOMS) - {""}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bot.runtime.daemon", "from bot.runtime.windows.hub import Hub"),
        ("bot.runtime.configuration.vault", "from bot.runtime.operators import control"),
        ("bot.runtime.risk.view", "def late():\n    from bot.runtime.cli.tables import print_status"),
    ],
)
def test_a_planted_import_from_a_wrong_room_is_found(name: str, text: str) -> None:
    assert out_of_place(Module.parse(name, text)) != []


def test_every_package_has_its_place_in_the_table() -> None:
    packages = {path.parent.name for path in ROOT.glob("bot/*/__init__.py")} | {"strategies"}
    assert packages <= EVERYTHING


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bot.domain.orders", "from bot.pricing import black76"),
        ("bot.pricing.black76", "import bot.domain.units"),
        ("bot.engine.core", "from bot.runtime.configuration.config import Vault"),
        ("bot.engine.core", "from bot import simulation"),
        ("bot.engine.core", "def late():\n    from strategies import AnyPolicy"),
        ("bot.engine.core", "from ..simulation import venue"),
        ("bot.engine.core", "from .. import gateways"),
        ("strategies.unhedged", "import bot.engine.settings as settings"),
        ("bot.simulation.venue", "from bot.gateways.paper import PaperExecution"),
        ("bot.gateways.deribit", "from bot.simulation.venue import SimulatedVenue"),
        ("bot.storage.locks", "from bot.runtime.journal import Journal"),
        ("bot.telemetry.report", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import bot.runtime.cli.app"),
    ],
)
def test_a_planted_violation_is_found(name: str, text: str) -> None:
    assert violations(Module.parse(name, text)) != []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bot.engine.core", "from bot.domain.orders import Fill\nfrom . import sizing\nimport numpy as np"),
        ("bot.gateways.paper", "from bot.simulation.venue import SimulatedVenue"),
        ("bot.runtime.cli.app", "from bot import __version__, engine\nimport strategies"),
    ],
)
def test_what_the_table_allows_passes(name: str, text: str) -> None:
    assert violations(Module.parse(name, text)) == []
