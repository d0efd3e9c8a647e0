"""Sheets as data: only what changed travels, and merging it gives what was meant."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bot.telemetry.dashboard.parts.cells import Cell, Column, Row, difference, facts, sheet

LEAVES = st.one_of(
    st.integers(-3, 3), st.text("ab", max_size=2), st.booleans(), st.lists(st.integers(0, 2), max_size=2)
)
TREES = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(LEAVES, lambda inner: st.dictionaries(st.sampled_from("xyz"), inner)),
    max_size=3,
)


def merged(before: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Merge as the browser does."""
    after = dict(before)
    for key, value in changes.items():
        if value is None:
            after.pop(key, None)
        elif isinstance(value, dict) and isinstance(before.get(key), dict):
            after[key] = merged(before[key], value)
        else:
            after[key] = value
    return after


@given(TREES, TREES)
def test_a_difference_merged_into_what_was_gives_what_is(before: dict[str, Any], after: dict[str, Any]) -> None:
    changes = difference(before, after)
    assert merged(before, changes) == after
    assert bool(changes) == (before != after)


def test_a_cell_that_changes_takes_its_row_alone_along() -> None:
    columns = (Column("name"), Column("value", is_number=True))
    before = sheet("s", columns, {"1": Row(0, (Cell("a"), Cell("1"))), "2": Row(1, (Cell("b"), Cell("2")))})
    after = sheet("s", columns, {"1": Row(0, (Cell("a"), Cell("1"))), "2": Row(1, (Cell("b"), Cell("3")))})
    assert difference(before, after) == {"rows": {"r 2": {"cells": ({"text": "b"}, {"text": "3"})}}}
    assert difference(before, before) == {}


def test_sheets_are_json_without_what_is_left_out() -> None:
    made = sheet("s", (Column("a"),), {"7": Row(0, (Cell("x", bar=(0.0, 0.5), is_open=False),), more=("m",))})
    assert json.loads(json.dumps(made, allow_nan=False))["rows"] == {
        "r 7": {"at": 0, "cells": [{"text": "x", "bar": [0.0, 0.5], "is_open": False}], "more": ["m"]}
    }


def test_facts_have_no_heading_and_keep_their_order() -> None:
    made = facts("f", [("b", Cell("1")), ("a", Cell("2"))])
    assert not made["columns"]
    assert [row["cells"][0]["text"] for row in made["rows"].values()] == ["b", "a"]
