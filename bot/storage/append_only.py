"""A database of one table to which rows are only ever added, by one writer, while any number of readers look on.

The journal and the transaction log both are one. Here stands all that SQLite alone understands of them: readers never
block the writer, a commit returns when the disk has it unless told otherwise, and a file that is none of ours is
refused before anything in it is touched.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import URL, Column, ColumnElement, Connection, Engine, NullPool, Table, create_engine, func, inspect
from sqlalchemy.exc import DBAPIError

from bot.domain.errors import JournalError

_LOCK_PATIENCE_S: Final = 1.0  # nobody else writes; while we wait for a lock, nothing is decided and nothing canceled


class RowFile(NamedTuple):
    """One kind of such a file: what it is called and the table it holds.

    `version` is that of its schema, 0 where the rows say it themselves. One that `is_private` nobody else may read.
    One that `is_sealed` refuses a change of its rows from anybody.
    """

    name: str
    table: Table
    version: int = 0
    is_private: bool = False
    is_sealed: bool = False


@contextmanager
def connected(kind: RowFile, path: Path, *, for_writing: bool, may_be_new: bool = True) -> Iterator[Connection]:
    """Connect to the file at `path`, making the table of a new one if that may be; closed and disposed of on leaving.

    Raises JournalError for a file that is missing (reading), of something else, or of another schema.
    """
    if not for_writing and not path.is_file():
        raise JournalError(f"{path}: expected a {kind.name}, found no such file; hint: check the path")
    engine = _engine(path, for_writing=for_writing)
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        try:
            connection = stack.enter_context(engine.connect())
            with connection.begin():
                _spare_memory(connection)
                tables = inspect(connection).get_table_names()
                is_new = kind.table.name not in tables
                if is_new and (tables or not for_writing or not may_be_new):
                    found = f"tables {', '.join(tables)}" if tables else "an empty database"
                    raise JournalError(
                        f"{path}: expected a {kind.name}, found {found};"
                        f" hint: check the path; restore an emptied {kind.name} from a copy"
                    )
                if kind.version and not is_new:
                    _check_version(kind, path, connection)
                if for_writing:
                    _prepare(kind, path, connection)
        except DBAPIError as error:
            raise unusable(kind, path, error) from error
        yield connection


def unusable(kind: RowFile, path: Path, error: DBAPIError | sqlite3.Error) -> JournalError:
    """Return what to raise for a file that the database gives up on."""
    found = error.orig if isinstance(error, DBAPIError) else error
    return JournalError(
        f"{path}: expected a {kind.name} that can be read, found: {found};"
        " hint: check the path and its permissions; restore a truncated or overwritten file from a copy"
    )


def wait_for_disk(connection: Connection, *, is_on: bool) -> None:
    """Let the next commits return when the disk has them and all before, or at once."""
    connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if is_on else 'NORMAL'}")
    connection.rollback()  # it takes effect between transactions only


def version_of(kind: RowFile, path: Path, connection: Connection) -> int:
    """Return a number that changes when another process has written since it was last asked, and never else.

    Raises JournalError if the file cannot be read.
    """
    driver = connection.connection.driver_connection  # SQLAlchemy's way would take ten times as long
    assert isinstance(driver, sqlite3.Connection)
    try:
        return int(driver.execute("PRAGMA data_version").fetchone()[0])
    except sqlite3.Error as error:
        raise unusable(kind, path, error) from error


def complaint_of(connection: Connection) -> str | None:
    """Return the first thing that is wrong with the file around the rows, None if nothing."""
    try:
        with connection.begin():
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    except DBAPIError as error:
        return str(error.orig)
    return None if found == "ok" else str(found)


def holds(column: Column[bytes], content: bytes) -> ColumnElement[bool]:
    """Return the condition that these bytes stand somewhere in a column."""
    return func.instr(column, content) > 0


def _engine(path: Path, *, for_writing: bool) -> Engine:
    query = {"uri": "true", "mode": "rwc" if for_writing else "ro"}
    url = URL.create("sqlite", database=path.as_uri(), query=query)
    wait = {"timeout": _LOCK_PATIENCE_S}
    return create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=wait)


def _spare_memory(connection: Connection) -> None:
    """Keep a quarter of a megabyte of pages: rows are written, or read, one after another, and none of them again."""
    connection.exec_driver_sql("PRAGMA cache_size = -256")


def _check_version(kind: RowFile, path: Path, connection: Connection) -> None:
    found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if found != kind.version:
        raise JournalError(f"{path}: expected {kind.name} schema {kind.version}, found {found}")


def _prepare(kind: RowFile, path: Path, connection: Connection) -> None:
    if kind.is_private:
        path.chmod(0o600)  # before the files beside it are made, which take its mode
    connection.exec_driver_sql("PRAGMA journal_mode = WAL")  # readers do not block the writer
    connection.exec_driver_sql("PRAGMA synchronous = FULL")  # a commit returns when the disk has it
    if kind.version:
        connection.exec_driver_sql(f"PRAGMA user_version = {kind.version}")
    kind.table.create(connection, checkfirst=True)
    if kind.is_sealed:
        for action in ("UPDATE", "DELETE"):
            connection.exec_driver_sql(
                f"CREATE TRIGGER IF NOT EXISTS no_{action.lower()} BEFORE {action} ON {kind.table.name}"
                f" BEGIN SELECT RAISE(ABORT, 'the {kind.name} is append-only'); END"
            )
