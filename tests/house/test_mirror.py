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
MODULES = {module.name: module for module in modules()}


def home_of_tests(module: str) -> Path:
    """Return where the tests of a module belong: `tests/engine/test_orders.py` for `bot.engine.orders`."""
    *packages, name = module.removeprefix("bot.").split(".")
    return ROOT.joinpath("tests", *packages, f"test_{name}.py")


@pytest.mark.parametrize("name", sorted(m.name for m in modules() if not m.is_package and m.name not in ONLY_DECLARES))
def test_every_module_has_its_test_module(name: str) -> None:
    path = home_of_tests(name)
    assert path.is_file(), f"expected the tests of {name} in {path.relative_to(ROOT)}, found no such file"
    tests = [
        node for node in ast.walk(ast.parse(path.read_text())) if str(getattr(node, "name", "")).startswith("test_")
    ]
    assert tests, f"expected {path.relative_to(ROOT)} to hold tests, found none"


@pytest.mark.parametrize("name", sorted(ONLY_DECLARES))
def test_a_module_without_tests_decides_nothing(name: str) -> None:
    decisions = (ast.If, ast.For, ast.While, ast.Try, ast.Match, ast.IfExp, ast.comprehension)
    found = [type(node).__name__ for node in ast.walk(MODULES[name].tree) if isinstance(node, decisions)]
    assert not found, f"expected {name} to declare only, found {found}: give it a test module and strike it off"


@pytest.mark.parametrize("module", modules(), ids=lambda m: m.name)
def test_what_is_public_says_what_it_is_for(module: Module) -> None:
    undocumented = [name for name, node in public(module) if not ast.get_docstring(node)]
    assert not undocumented, f"expected a docstring on everything public in {module.name}, found none on {undocumented}"


def public(module: Module) -> Iterator[tuple[str, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield the module itself, its public functions and classes, and their public methods."""
    yield module.name, module.tree
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node.name, node
            for inner in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and not inner.name.startswith("_"):
                    yield f"{node.name}.{inner.name}", inner


@pytest.mark.parametrize("path", sorted(ROOT.glob("tests/**/*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_tests_neither_skip_nor_mock(path: Path) -> None:
    evasion = re.compile(
        r"unittest\.mock|\bMagicMock\b|\bmocker\b|mark\.(skip|xfail)|pytest\.(skip|xfail|importorskip)\b"
    )
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [f"line {n}: {line.strip()}" for n, line in enumerate(lines, 1) if evasion.search(line)]
    assert path == Path(__file__) or not found, f"expected tests of the real thing, found {found}"
