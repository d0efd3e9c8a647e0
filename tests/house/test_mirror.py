"""Every module has its own test module and says what it is for; tests test the real thing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.sources import ROOT, Module, modules

# Modules with nothing to test by themselves: they only declare what others hold. The test below keeps the list honest.
ONLY_DECLARES = {
    "bot.domain.chain",
    "bot.domain.commands",
    "bot.domain.decisions",
    "bot.domain.errors",
    "bot.domain.events",
    "bot.domain.market",
    "bot.domain.results",
    "bot.domain.risk",
    "bot.domain.venues",
    "bot.domain.windows",
    "bot.engine.settings",
    "bot.gateways.chain.nouns",
    "bot.gateways.chain.settings",
    "bot.gateways.gateway",
    "bot.telemetry.dashboard.ports",
}
A_TEST = re.compile(r"^(?: {4})?(?:async )?def test_\w+\(", re.MULTILINE)
MODULES = {module.name: module for module in modules()}


def home_of_tests(module: str) -> Path:
    """Return where the tests of a module belong: `tests/engine/test_orders.py` for `bot.engine.orders`."""
    *packages, name = module.removeprefix("bot.").split(".")
    return ROOT.joinpath("tests", *packages, f"test_{name}.py")


def test_every_module_has_its_test_module() -> None:
    wrong = []
    for name in sorted(m.name for m in modules() if not m.is_package and m.name not in ONLY_DECLARES):
        path = home_of_tests(name)
        place = path.relative_to(ROOT)
        if not path.is_file():
            wrong.append(f"expected the tests of {name} in {place}, found no such file")
        elif not A_TEST.search(path.read_text(encoding="utf-8")):
            wrong.append(f"expected {place} to hold tests, found none")
    assert wrong == []


@pytest.mark.parametrize("name", sorted(ONLY_DECLARES))
def test_a_module_without_tests_decides_nothing(name: str) -> None:
    decisions = (ast.If, ast.For, ast.While, ast.Try, ast.Match, ast.IfExp, ast.comprehension)
    found = [type(node).__name__ for node in ast.walk(MODULES[name].tree) if isinstance(node, decisions)]
    assert not found, f"expected {name} to declare only, found {found}: give it a test module and strike it off"


def test_what_is_public_says_what_it_is_for() -> None:
    undocumented = [(m.name, name) for m in modules() for name, node in public(m) if not ast.get_docstring(node)]
    assert not undocumented, f"expected a docstring on everything public, found none on {undocumented}"


def public(module: Module) -> Iterator[tuple[str, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield the module itself, its public functions and classes, and their public methods."""
    yield module.name, module.tree
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node.name, node
            for inner in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and not inner.name.startswith("_"):
                    yield f"{node.name}.{inner.name}", inner


def test_tests_neither_skip_nor_mock() -> None:
    evasion = re.compile(
        r"unittest\.mock|\bMagicMock\b|\bmocker\b|mark\.(skip|xfail)|pytest\.(skip|xfail|importorskip)\b"
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted(ROOT.glob("tests/**/*.py"))
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if evasion.search(line)
    ]
    assert not found, f"expected tests of the real thing, found {found}"
