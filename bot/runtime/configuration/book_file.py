"""Parts of the book kept in a file of their own, OTC trades for example: read at the start and whenever it changes.

Must never take in half a file: a version with anything wrong in it is refused as a whole, and the old one stays.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from math import isfinite
from pathlib import Path
from typing import Final

from bot.domain.errors import ConfigError
from bot.domain.venues import BookHolding, BookReport
from bot.runtime.configuration.yaml_source import MAX_BYTES, Value, YamlSource

COLUMNS: Final = ("instrument", "qty_base")
HINT: Final = "one line per holding: instrument and qty_base"


def read_book(path: Path, known: Collection[str]) -> tuple[BookHolding, ...]:
    """Return the holdings in a YAML list or CSV table of instrument and qty_base; an empty file holds nothing.

    Raises ConfigError with every problem as `file:line: …`, an instrument that is not `known` included.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ConfigError(
            [f"{path}:1: expected a readable file, found {error.strerror}; hint: check the path"]
        ) from None
    if size > MAX_BYTES:
        raise ConfigError([f"{path}:1: expected at most {MAX_BYTES:,} bytes, found {size:,}; hint: is this a book?"])
    problems: list[str] = []
    held: dict[str, BookHolding] = {}
    for line, name, amount in _csv_rows(path) if path.suffix == ".csv" else _yaml_rows(path):
        problem = _problem(name, amount, known, held)
        if problem:
            problems.append(f"{path}:{line}: {problem}")
        else:
            assert isinstance(name, str), "checked"
            held[name] = BookHolding(name, float(str(amount)))
    if problems:
        raise ConfigError(problems)
    return tuple(held.values())


class BookFile:
    """One file of the book, watched for changes; `problem` says what is wrong with its newest version, if anything."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        self._stamp: tuple[int, int, int] | None = None
        self._seen: tuple[int, int, int] | None = None  # at the last poll: a file is read once it was the same twice
        self.held: tuple[BookHolding, ...] = ()

    @property
    def source(self) -> str:
        """What its reports are called."""
        return f"file:{self.path}"

    @property
    def instrument_ids(self) -> frozenset[str]:
        """The instruments of the version in force."""
        return frozenset(holding.instrument_id for holding in self.held)

    def open(self, known: Collection[str]) -> None:
        """Read it at the start. Raises ConfigError with everything that is wrong with it."""
        self._stamp = self._seen = self._look()
        self.held = read_book(self.path, known)

    def poll(self, known: Collection[str], now_ns: int) -> BookReport | None:
        """Return the new contents if the file changed to something valid; else note the problem and keep the old.

        A file that changed since the last poll may be half written, and half a table is a valid one: it is read once it
        rests.
        """
        stamp = self._look()
        before, self._seen = self._seen, stamp
        if stamp == self._stamp or stamp != before:
            return None
        self._stamp = stamp
        try:
            held = read_book(self.path, known)
        except ConfigError as error:
            self.problem = error.problems[0]
            return None
        self.problem = ""
        if held == self.held:
            return None
        self.held = held
        return BookReport(self.source, held, now_ns)

    def _look(self) -> tuple[int, int, int] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def _problem(name: object, amount: object, known: Collection[str], held: Collection[str]) -> str:
    if not isinstance(name, str) or not name:
        return f"expected an instrument, found {_shown(name)}; hint: {HINT}"
    if name in held:
        return f"expected each instrument once, found {_shown(name)} again; hint: add the quantities up"
    if name not in known:
        return f"expected an instrument that the venues list, found {_shown(name)}; hint: check its name"
    try:
        qty_base = float(amount) if isinstance(amount, int | float | str) else float("nan")
    except (ValueError, OverflowError):
        qty_base = float("nan")
    if isinstance(amount, bool) or not isfinite(qty_base):
        return f"expected qty_base to be a number, found {_shown(amount)}; hint: {HINT}"
    return ""


def _shown(value: object) -> str:
    return repr(value)[:60]


def _yaml_rows(path: Path) -> Iterator[tuple[int, object, object]]:
    source = YamlSource(path)
    is_empty = not source.problems and source.value is None
    if source.problems and path.stat().st_size:
        raise ConfigError(source.problems)
    if source.problems or is_empty:
        return
    rows: Value = source.value
    if not isinstance(rows, tuple):
        raise ConfigError([f"{path}:1: expected a list, found something else; hint: {HINT}"])
    for index, row in enumerate(rows):
        line = source.line((index,))
        if not isinstance(row, dict) or set(row) != set(COLUMNS):
            found = ", ".join(row) if isinstance(row, dict) else _shown(row)
            raise ConfigError([f"{path}:{line}: expected instrument and qty_base, found {found[:60]}; hint: {HINT}"])
        yield line, row["instrument"], row["qty_base"]


def _csv_rows(path: Path) -> Iterator[tuple[int, object, object]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            if table.fieldnames is None:
                return
            if [name.strip() for name in table.fieldnames] != list(COLUMNS):
                found = ", ".join(table.fieldnames)[:60]
                raise ConfigError([f"{path}:1: expected the columns instrument,qty_base, found {found}; hint: {HINT}"])
            for row in table:
                name, amount, *_ = [*row.values(), None]
                extra = row.get(None)  # where csv puts columns too many
                yield table.line_num, (name or "").strip(), None if extra else (amount or "").strip()
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}:1: expected a CSV table in UTF-8, found {str(error)[:60]}; hint: {HINT}"]) from None
