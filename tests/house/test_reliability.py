"""The table of faults in docs/reliability.md is whole, and every test it names exists."""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

from tests.house.sources import ROOT

REQUIRED = [f"F{number:02}" for number in range(1, 45)] + [f"C{number:02}" for number in range(1, 19)]
RESULTS = ("holds", "otherwise", "in part", "not built")
ROW = re.compile(r"^\| ([CF]\d\d) \|(.*)\|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")


class Row(NamedTuple):
    """One fault as the table has it."""

    fault: str
    tests: list[tuple[str, str]]
    result: str


def rows(text: str) -> list[Row]:
    """Return the table of a document."""
    found = []
    for fault, rest in ROW.findall(text):
        cells = [cell.strip() for cell in rest.split(" | ")]
        assert len(cells) == 4, f"expected four cells after {fault}, found {len(cells)}"
        found.append(Row(fault, TEST.findall(cells[2]), cells[3]))
    return found


def names_in(path: str) -> set[str]:
    """Return the tests of a module, those of a class as Class::test."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    names = {node.name for node in tree.body if isinstance(node, functions)}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{one.name}" for one in node.body if isinstance(one, functions)}
    return {name for name in names if name.rpartition("::")[2].startswith("test_")}


TABLE = rows((ROOT / "docs" / "reliability.md").read_text(encoding="utf-8"))


def test_every_fault_has_its_row() -> None:
    assert [row.fault for row in TABLE] == REQUIRED


def test_every_test_named_exists() -> None:
    named = {test for row in TABLE for test in row.tests}
    missing = [f"{path}::{name}" for path, name in named if not (ROOT / path).is_file() or name not in names_in(path)]
    assert missing == []


def test_what_is_said_to_hold_is_tested() -> None:
    assert [row.fault for row in TABLE if not row.result.startswith(RESULTS)] == []
    assert [row.fault for row in TABLE if bool(row.tests) is row.result.startswith("not built")] == []


def test_no_test_of_the_matrix_is_left_out() -> None:
    path = "tests/acceptance/test_fault_matrix.py"
    named = {f"{row.fault} {name}" for row in TABLE for where, name in row.tests if where == path}
    assert named == {f"{name[5:8].upper()} {name}" for name in names_in(path)}


def test_a_planted_error_is_found() -> None:
    (row,) = rows("| F99 | a fault | nothing happens | `tests/house/test_reliability.py::test_none` | holds |\n")
    assert row == Row("F99", [("tests/house/test_reliability.py", "test_none")], "holds")
    assert "test_none" not in names_in("tests/house/test_reliability.py")
