from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table, select
from sqlalchemy.exc import DBAPIError

from bot.domain.errors import JournalError
from bot.storage.append_only import RowFile, complaint_of, connected, holds, unusable, version_of, wait_for_disk

ROWS = Table("rows", MetaData(), Column("seq", Integer, primary_key=True), Column("payload", LargeBinary))
PLAIN = RowFile("diary", ROWS)
SEALED = RowFile("diary", ROWS, 3, is_private=True, is_sealed=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "diary.sqlite"


def write(path: Path, *payloads: bytes, kind: RowFile = PLAIN) -> None:
    with connected(kind, path, for_writing=True) as connection, connection.begin():
        connection.execute(ROWS.insert(), [{"payload": payload} for payload in payloads])


def sql(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


def refusal(path: Path, *, kind: RowFile = PLAIN, for_writing: bool = False, may_be_new: bool = True) -> str:
    with (
        pytest.raises(JournalError) as refused,
        connected(kind, path, for_writing=for_writing, may_be_new=may_be_new),
    ):
        pass
    return str(refused.value)


def test_what_was_written_is_read_also_while_somebody_writes(path: Path) -> None:
    write(path, b"one", b"two")
    with connected(PLAIN, path, for_writing=True) as writer, writer.begin():
        writer.execute(ROWS.insert(), [{"payload": b"three"}])
        with connected(PLAIN, path, for_writing=False) as reader, reader.begin():
            assert reader.execute(select(ROWS.c.payload)).scalars().all() == [b"one", b"two"]
            assert reader.execute(select(ROWS.c.seq).where(holds(ROWS.c.payload, b"w"))).scalars().all() == [2]
            with pytest.raises(DBAPIError, match="readonly"):
                reader.execute(ROWS.insert(), [{"payload": b"four"}])
    assert sql(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_commit_waits_for_the_disk_unless_told_otherwise(path: Path) -> None:
    with connected(PLAIN, path, for_writing=True) as connection:
        modes = [connection.exec_driver_sql("PRAGMA synchronous").scalar_one()]
        for is_on in (False, True):
            wait_for_disk(connection, is_on=is_on)
            modes.append(connection.exec_driver_sql("PRAGMA synchronous").scalar_one())
        assert modes == [2, 1, 2]  # FULL, NORMAL, FULL


def test_whether_another_has_written_is_seen_without_reading(path: Path) -> None:
    write(path, b"one")
    with connected(PLAIN, path, for_writing=False) as reader:
        versions = [version_of(PLAIN, path, reader) for _ in range(2)]
        write(path, b"two")
        versions.append(version_of(PLAIN, path, reader))
    assert versions[0] == versions[1] != versions[2]


def test_a_sealed_one_changes_no_row_for_anybody_and_is_private(path: Path) -> None:
    write(path, b"one", kind=SEALED)
    for statement in ("UPDATE rows SET payload = x'00'", "DELETE FROM rows"):
        with pytest.raises(sqlite3.DatabaseError, match="the diary is append-only"):
            sql(path, statement)
    with connected(SEALED, path, for_writing=True):
        modes = {stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    assert modes == {0o600}
    write(path, b"two", kind=SEALED)
    assert sql(path, "SELECT payload FROM rows") == [(b"one",), (b"two",)]


def test_what_is_something_else_is_refused_and_left_as_it_was(path: Path) -> None:
    assert "expected a diary, found no such file; hint: " in refusal(path)
    assert not path.exists()
    sql(path, "CREATE TABLE trades (id INTEGER)")
    content = path.read_bytes()
    for for_writing in (True, False):
        assert "expected a diary, found tables trades; hint: " in refusal(path, for_writing=for_writing)
    assert path.read_bytes() == content
    path.write_bytes(b"PAR1" * 3_000)
    assert "expected a diary that can be read, found: file is not a database; hint: " in refusal(path)


def test_an_empty_one_is_begun_only_by_a_writer_who_lost_none(path: Path) -> None:
    path.touch()
    assert "found an empty database; hint: " in refusal(path)
    assert "restore an emptied diary from a copy" in refusal(path, for_writing=True, may_be_new=False)
    write(path, b"one")
    assert sql(path, "SELECT count(*) FROM rows") == [(1,)]


def test_another_schema_is_refused(path: Path) -> None:
    write(path, b"one", kind=SEALED)
    sql(path, "PRAGMA user_version = 4")
    for for_writing in (True, False):
        assert "expected diary schema 3, found 4" in refusal(path, kind=SEALED, for_writing=for_writing)
    with connected(PLAIN, path, for_writing=False) as connection:  # whose rows say it themselves
        assert complaint_of(connection) is None


def test_damage_around_the_rows_is_found(path: Path) -> None:
    write(path, *(bytes([n]) * 500 for n in range(40)))
    content = bytearray(path.read_bytes())
    content[2 * 4_096 + 3 : 2 * 4_096 + 5] = b"\xff\xff"  # how many cells the page holds
    path.write_bytes(content)
    with connected(PLAIN, path, for_writing=False) as connection:
        assert complaint_of(connection)
    error = DBAPIError("", None, Exception("gone"))
    assert "expected a diary that can be read, found: gone; hint: " in str(unusable(PLAIN, path, error))
