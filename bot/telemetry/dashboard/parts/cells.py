"""A sheet as data: columns, rows by key, cells with text, tone and a bar; and what changed between two sheets.

Pure. Whatever a page shows is such data first, so that it can be tested without a browser, and only differences travel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

GOOD: Final = "good"  # every tone has a sign of its own beside its colour
BAD: Final = "bad"
WARN: Final = "warn"
MUTED: Final = "muted"
BEST: Final = "best"


class Cell(msgspec.Struct, frozen=True, omit_defaults=True):
    """One cell. `sort` is what it is sorted by where the text is not; `hint` is said on hover and to screen readers.

    `bar` is (from, to) as shares of the cell's width, `marks` are lines across it. `heat` from −1 to 1 colours a cell.
    `order` makes the text a button that opens the dialog of an action: its name, the vault, an alert's id. `is_open`
    draws a gate's sign before the text.
    """

    text: str
    sort: float | str | None = None
    tone: str = ""
    hint: str = ""
    bar: tuple[float, float] | None = None
    marks: tuple[float, ...] = ()
    is_hatched: bool = False
    heat: float | None = None
    order: tuple[str, str, str] | None = None
    link: str = ""
    is_open: bool | None = None


class Column(msgspec.Struct, frozen=True, omit_defaults=True):
    """One column; numbers are set right. A column that is no use on a phone is `is_wide`."""

    name: str
    is_number: bool = False
    hint: str = ""
    is_wide: bool = False


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row; `at` is its place where nobody sorts, `more` what unfolds below it."""

    at: float
    cells: tuple[Cell, ...]
    more: tuple[str, ...] = ()
    is_total: bool = False
    tone: str = ""


def sheet(
    caption: str,
    columns: Sequence[Column],
    rows: Mapping[str, Row],
    *,
    empty: str = "nothing here",
    note: str = "",
    is_sortable: bool = False,
    is_folded: bool = False,
) -> dict[str, Any]:
    """Return a sheet as the browser takes it. `note` is a line below it, `empty` what it says without rows.

    One that `is_folded` shows its caption alone until somebody opens it.
    """
    return {
        "caption": caption,
        "columns": msgspec.to_builtins(columns),
        "rows": {f"r {key}": msgspec.to_builtins(row) for key, row in rows.items()},  # never a number as a key
        "empty": empty,
        "note": note,
        "is_sortable": is_sortable,
        "is_folded": is_folded,
    }


def facts(caption: str, pairs: Sequence[tuple[str, Cell]], note: str = "") -> dict[str, Any]:
    """Return names with what is known of each, as a sheet of two columns without a heading."""
    rows = {name: Row(at, (Cell(name, tone=MUTED), cell)) for at, (name, cell) in enumerate(pairs)}
    return sheet(caption, (), rows, note=note)


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be merged into `before` to get `after`: changed values, None for what went; {} for no change."""
    changes: dict[str, Any] = dict.fromkeys(before.keys() - after.keys())
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            inner = difference(old, value)
            if inner:
                changes[key] = inner
        elif key not in before or old != value:
            changes[key] = value
    return changes
