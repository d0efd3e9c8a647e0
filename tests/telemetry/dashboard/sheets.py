"""Reads sheets as tests like them: texts by row and column, without what is only looks."""

from __future__ import annotations

from typing import Any

Sheet = dict[str, Any]


def rows(sheet: Sheet) -> list[list[str]]:
    """Return the texts of all cells, row by row in the order of the page."""
    return [texts(row) for row in sorted(sheet["rows"].values(), key=lambda row: row["at"])]


def texts(row: dict[str, Any]) -> list[str]:
    """Return the texts of a row."""
    return [cell["text"] for cell in row["cells"]]


def row(sheet: Sheet, first: str) -> dict[str, Any]:
    """Return the one row whose first cell is `first`."""
    (found,) = [one for one in sheet["rows"].values() if one["cells"][0]["text"] == first]
    return found


def cell(sheet: Sheet, first: str, column: str) -> dict[str, Any]:
    """Return a cell by its row's first text and its column's name; facts have the column ""."""
    names = [one["name"] for one in sheet["columns"]]
    place = names.index(column) if names else 1
    found: dict[str, Any] = row(sheet, first)["cells"][place]
    return found
