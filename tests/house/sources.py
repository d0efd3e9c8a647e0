"""The project as the house rules see it: its files, and its modules as syntax trees."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("bot", "strategies")


@dataclass(frozen=True)
class Module:
    """One module: its dotted name, whether it is a package's `__init__`, and its syntax tree."""

    name: str
    is_package: bool
    tree: ast.Module

    @property
    def layer(self) -> str:
        """The floor of the house it lives on: `engine` for `bot.engine.orders`, `strategies` for a policy."""
        return layer_of(self.name)

    @classmethod
    def parse(cls, name: str, text: str, *, is_package: bool = False) -> Module:
        """Return the module that `text` would be under `name`."""
        return cls(name, is_package, ast.parse(text))


def layer_of(dotted: str) -> str:
    """Return the layer a dotted name belongs to, "" for anything that is not ours or is `bot` itself."""
    first, _, rest = dotted.partition(".")
    if first == "strategies":
        return first
    return rest.partition(".")[0] if first == "bot" else ""


@cache
def modules() -> tuple[Module, ...]:
    """Return every module of the project's packages; parsed once, as a dozen tests look at all of them."""
    return tuple(
        Module.parse(dotted_name(path), path.read_text(encoding="utf-8"), is_package=path.name == "__init__.py")
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    )


def dotted_name(path: Path) -> str:
    """Return the name `path` is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(module: Module) -> Iterator[tuple[int, str]]:
    """Yield line and absolute dotted name of everything `module` imports, wherever in it the import stands."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = [node.module] if node.module else []
            if node.level:
                here = module.name.split(".")
                origin = here[: len(here) - node.level + module.is_package] + origin
            yield from ((node.lineno, ".".join([*origin, alias.name])) for alias in node.names)


@cache
def calls(module: Module) -> tuple[tuple[int, str, ast.Call], ...]:
    """Return line, dotted name as written, and node of every call to a name or attribute."""
    return tuple(
        (node.lineno, name, node)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and (name := ast.unparse(node.func)).replace(".", "").isidentifier()
    )


@cache
def files() -> tuple[Path, ...]:
    """Return every file that belongs to the project: all but what version control ignores."""
    ignored = {"out", "build", "dist", "__pycache__"}
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [  # the others are not even looked into: .venv alone holds tens of thousands of files
            name
            for name in folders
            if name not in ignored and (name == ".ci" or not name.startswith(".")) and not name.endswith(".egg-info")
        ]
        found += [Path(folder, name) for name in names if name != ".git" and ".sqlite" not in name]
    return tuple(sorted(path for path in found if path.is_file()))
