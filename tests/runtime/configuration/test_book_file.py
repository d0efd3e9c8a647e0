"""Books in files: taken in whole, or refused whole with the line that is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.errors import ConfigError
from bot.domain.venues import BookHolding, BookReport
from bot.runtime.configuration.book_file import BookFile, read_book

KNOWN = frozenset({"A-C", "A-P", "B"})


def book(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("book.csv", "instrument,qty_base\nA-C,-2.5\nB,3\n"),
        ("book.csv", "\ufeffinstrument, qty_base\r\nA-C , -2.5\r\nB,3e0\r\n"),
        ("book.yaml", "- {instrument: A-C, qty_base: -2.5}\n- {instrument: B, qty_base: 3}\n"),
        ("book.yml", "# trades\n- instrument: A-C\n  qty_base: -2.5\n- instrument: B\n  qty_base: 3.0\n"),
    ],
)
def test_both_forms_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    assert read_book(book(tmp_path, name, text), KNOWN) == (BookHolding("A-C", -2.5), BookHolding("B", 3.0))


@pytest.mark.parametrize(
    ("name", "text"), [("b.csv", ""), ("b.csv", "instrument,qty_base\n"), ("b.yaml", ""), ("b.yaml", "[]")]
)
def test_an_empty_book_holds_nothing(tmp_path: Path, name: str, text: str) -> None:
    assert read_book(book(tmp_path, name, text), KNOWN) == ()


WRONG = {
    "no columns": ("b.csv", "A-C,1\n", 1, "expected the columns instrument,qty_base, found A-C"),
    "unknown": (
        "b.csv",
        "instrument,qty_base\nA-C,1\nX,1\n",
        3,
        "expected an instrument that the venues list, found 'X'",
    ),
    "twice": ("b.csv", "instrument,qty_base\nA-C,1\nA-C,1\n", 3, "expected each instrument once, found 'A-C' again"),
    "no number": ("b.csv", "instrument,qty_base\nA-C,ten\n", 2, "expected qty_base to be a number, found 'ten'"),
    "nan": ("b.csv", "instrument,qty_base\nA-C,nan\n", 2, "expected qty_base to be a number, found 'nan'"),
    "too few": ("b.csv", "instrument,qty_base\nA-C\n", 2, "expected qty_base to be a number, found ''"),
    "too many": ("b.csv", "instrument,qty_base\nA-C,1,2\n", 2, "expected qty_base to be a number, found None"),
    "not text": ("b.csv", "instrument,qty_base\nA-C,1\0\n", 2, "expected"),
    "a mapping": ("b.yaml", "A-C: 1\n", 1, "expected a list, found something else"),
    "a key more": ("b.yaml", "- {instrument: A-C, qty_base: 1, px: 2}\n", 1, "expected instrument and qty_base, found"),
    "a text": (
        "b.yaml",
        "- {instrument: A-C, qty_base: 1}\n- A-P\n",
        2,
        "expected instrument and qty_base, found 'A-P'",
    ),
    "a bool": ("b.yaml", "- {instrument: A-C, qty_base: true}\n", 1, "expected qty_base to be a number, found True"),
    "broken": ("b.yaml", "- {instrument: A-C\n", 2, "expected YAML"),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_mistake_is_told_with_its_line(tmp_path: Path, name: str) -> None:
    file, text, line, words = WRONG[name]
    path = book(tmp_path, file, text)
    with pytest.raises(ConfigError) as caught:
        read_book(path, KNOWN)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}:{line}: ") or name == "not text"
    assert words in problem


def test_a_missing_or_huge_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r":1: expected a readable file, found No such file"):
        read_book(tmp_path / "gone.csv", KNOWN)
    with pytest.raises(ConfigError, match=r":1: expected at most"):
        read_book(book(tmp_path, "big.csv", "x" * 300_000), KNOWN)


def test_a_change_is_reported_once_and_a_broken_one_keeps_the_old(tmp_path: Path) -> None:
    path = book(tmp_path, "b.csv", "instrument,qty_base\nA-C,1\n")
    file = BookFile(path)
    file.open(KNOWN)
    assert file.held == (BookHolding("A-C", 1.0),)
    assert file.poll(KNOWN, 5) is None
    touch(path, "instrument,qty_base\nA-C,2\nA-P,x\n")
    assert (file.poll(KNOWN, 5), file.problem) == (None, "")
    assert file.poll(KNOWN, 6) is None
    assert file.problem.startswith(f"{path}:3: expected qty_base")
    assert file.held == (BookHolding("A-C", 1.0),)
    assert file.instrument_ids == {"A-C"}
    path.unlink()
    file.poll(KNOWN, 6)
    assert file.poll(KNOWN, 7) is None
    assert "expected a readable file" in file.problem
    touch(path, "instrument,qty_base\nA-P,2\n")
    assert file.poll(KNOWN, 7) is None
    assert file.poll(KNOWN, 8) == BookReport(f"file:{path}", (BookHolding("A-P", 2.0),), 8)
    assert file.problem == ""
    touch(path, "instrument,qty_base\nA-P,2.0\n")
    assert file.poll(KNOWN, 8) is None
    assert file.poll(KNOWN, 9) is None, "it says the same in other words"


def test_a_file_that_is_being_written_is_not_taken_for_a_smaller_book(tmp_path: Path) -> None:
    path = book(tmp_path, "b.csv", "instrument,qty_base\nA-C,1\nA-P,1\n")
    file = BookFile(path)
    file.open(KNOWN)
    touch(path, "")  # as an editor leaves it between truncating and writing
    assert file.poll(KNOWN, 5) is None
    touch(path, "instrument,qty_base\nA-C,2\n")
    assert file.poll(KNOWN, 6) is None
    touch(path, "instrument,qty_base\nA-C,2\nA-P,1\n")
    assert file.poll(KNOWN, 7) is None
    report = file.poll(KNOWN, 8)
    assert report is not None
    assert report.holdings == (BookHolding("A-C", 2.0), BookHolding("A-P", 1.0))


def test_at_the_start_a_broken_one_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        BookFile(book(tmp_path, "b.csv", "nonsense")).open(KNOWN)


def touch(path: Path, text: str) -> None:
    """Write another version that differs at least in its time."""
    before_ns = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    os.utime(path, ns=(before_ns + 1_000_000, before_ns + 1_000_000))


@given(st.text(max_size=60))
def test_whatever_is_in_it_is_a_book_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    for name in ("any.csv", "any.yaml"):
        path = tmp_path_factory.getbasetemp() / name
        path.write_text(text, encoding="utf-8", errors="replace")
        assert [said for said in complaints(path) if not said.startswith(f"{path}:")] == []


def complaints(path: Path) -> list[str]:
    """What is said of a file; anything but a ConfigError comes through."""
    try:
        read_book(path, KNOWN)
    except ConfigError as error:
        return error.problems
    return []
