"""The journal: what the engine was told and what it asked for, append-only, sequenced and hash-chained.

It is audit trail, crash log, replay source and P&L source. It must never rewrite, reorder or drop a row, never let a
second writer in, and never report a row as kept before it is on disk. Reading never blocks a writer.

Every statement goes through SQLAlchemy Core on one schema that PostgreSQL could hold as well.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    func,
    select,
    type_coerce,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import NullType

from bot.domain.errors import InvariantBroken, JournalError
from bot.domain.events import Command, ConfigChanged, Event
from bot.domain.instruments import Instrument
from bot.domain.units import NS_PER_S, NS_PER_US
from bot.storage.append_only import RowFile, complaint_of, connected, holds, unusable, version_of
from bot.storage.locks import held_lock, lock_path

SCHEMA_VERSION: Final = 2


class Header(msgspec.Struct, frozen=True, tag="header"):
    """The first row: which run this is, and all that is needed to run it again. Digests are hexadecimal.

    A run on a recording names it; a run on a live feed has none and holds the instruments as its venues listed them.
    """

    run_id: str
    vault: str
    config_json: str
    config_sha256: str
    recording: str | None
    recording_sha256: str | None
    seed: int
    schema_version: int
    evenkeel_version: str
    instruments: tuple[Instrument, ...] = ()


class Batch(msgspec.Struct, frozen=True, tag="batch"):
    """The events applied together before one decision, as they were after conflation."""

    now_ns: int
    events: tuple[Event, ...]


class Commands(msgspec.Struct, frozen=True, tag="commands"):
    """What one decision asked for; flushed before any of it leaves."""

    now_ns: int
    commands: tuple[Command, ...]


Record = Header | Batch | Commands


class FaultKind(StrEnum):
    """What is wrong with a journal."""

    MISSING = "missing"
    REORDERED = "reordered"
    REPLACED = "replaced"
    PAYLOAD = "payload"
    HASH = "hash"
    PREV_HASH = "prev_hash"
    PAYLOAD_OR_HASH = "payload_or_hash"
    UNREADABLE = "unreadable"
    UNDECODABLE = "undecodable"
    LOST_TAIL = "lost_tail"
    FILE = "file"


class Fault(msgspec.Struct, frozen=True):
    """The first thing wrong: at row `seq`, or in the database file around the rows when `seq` is None."""

    seq: int | None
    kind: FaultKind
    detail: str


class VerifyReport(msgspec.Struct, frozen=True):
    """How far a journal holds: the good rows from the start, the last of them with its hash, and the first fault.

    `last_seq` is -1 and `head_hash` 64 zeros when not even the first row holds.
    """

    path: str
    rows: int
    last_seq: int
    head_hash: str
    fault: Fault | None

    @property
    def is_valid(self) -> bool:
        """Tell whether every row holds."""
        return self.fault is None


class JournalDamaged(JournalError):
    """A row is not what was written."""

    def __init__(self, path: Path, fault: Fault) -> None:
        super().__init__(f"{path}: {fault.detail}; hint: `evenkeel journal verify {path}` says how far it holds")
        self.fault = fault


class StoredRow(NamedTuple):
    """A row as it stands in the database, unchecked."""

    seq: int
    kind: str
    payload: bytes
    hash: bytes


class Journal:
    """One run's journal, open for reading (as it was when opened) or as its only writer."""

    def __init__(self, path: Path, connection: Connection, lock: _WriterLock | None) -> None:
        self._path = path
        self._connection = connection
        self._lock = lock
        self._buffer: list[dict[str, object]] = []
        self._is_broken = False
        self._encoder = msgspec.msgpack.Encoder()
        self._last_seq, self._head = _read_head(connection, path)
        self._header = _read_header(connection, path) if self._last_seq >= 0 else None

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, for_writing: bool) -> Iterator[Journal]:
        """Open the journal at `path` for the length of a `with` block; leaving it flushes and closes.

        Writing creates the file if there is none, takes the writer's lock and checks the last rows first.
        Raises `JournalError` for a file that is missing (reading), locked (writing), damaged or no journal.
        """
        path = path.resolve()
        with ExitStack() as stack:
            lock = stack.enter_context(_held_lock(path)) if for_writing else None
            connection = stack.enter_context(_connected(path, for_writing=for_writing))
            journal = cls(path, connection, lock)
            if lock is not None:
                journal._check_tail()
                lock.note_head(journal._last_seq, journal._head)
            try:
                yield journal
            finally:
                # Also after an error: the rows before a crash are the ones worth reading.
                if lock is not None and not journal._is_broken:
                    journal.flush()

    @property
    def is_empty(self) -> bool:
        """Tell whether the header is still to be written."""
        return self._header is None

    @property
    def header(self) -> Header:
        """The first record; raises `JournalError` while there is none."""
        if self._header is None:
            raise JournalError(f"{self._path}: expected a header, found no rows; hint: the run stopped before it began")
        return self._header

    def newest_change(self) -> ConfigChanged | None:
        """Return the newest change of the configuration that is on disk, None if it is the header's still.

        Raises `JournalDamaged` if its row does not hold.
        """
        seqs = self._changed_rows()
        return self._changes_in(seqs[-1])[-1] if seqs else None

    def changes(self) -> Iterator[ConfigChanged]:
        """Yield every change of the configuration that is on disk, oldest first.

        Raises `JournalDamaged` if the row of one does not hold.
        """
        for seq in self._changed_rows():
            yield from self._changes_in(seq)

    def _changed_rows(self) -> list[int]:
        changed = select(_ROWS.c.seq).where(_ROWS.c.kind == _CONFIG).order_by(_ROWS.c.seq)
        try:
            with self._connection.begin():
                return list(self._connection.execute(changed).scalars())
        except DBAPIError as error:
            raise unusable(_JOURNAL, self._path, error) from error

    def _changes_in(self, seq: int) -> list[ConfigChanged]:
        _, record, _ = next(_checked_rows(self._connection, self._path, seq, seq))
        assert isinstance(record, Batch), "only a batch has this kind"
        return [event for event in record.events if isinstance(event, ConfigChanged)]

    @property
    def last_seq(self) -> int:
        """Sequence number of the last row, appended but unflushed ones included; -1 when empty."""
        return self._last_seq

    @property
    def head_hash(self) -> str:
        """Hash of the last row in hexadecimal; 64 zeros when empty."""
        return self._head.hex()

    def append(self, record: Record) -> int:
        """Take `record` as the next row, give its sequence number; it is on disk after the next `flush`.

        Raises `InvariantBroken` for a journal open for reading, a second header or a first record that is none,
        `OverflowError` for an integer beyond 64 bits, `JournalError` once a flush has failed.
        """
        if self._lock is None or isinstance(record, Header) is (self._header is not None):
            raise InvariantBroken(
                f"{self._path}: expected a journal open for writing and one header, first;"
                f" found {type(record).__name__} as row {self._last_seq + 1}"
                f" of a journal open for {'reading' if self._lock is None else 'writing'}"
            )
        self._refuse_if_broken()
        payload = self._encoder.encode(record)
        kind = _kind_of(record)
        seq = self._last_seq + 1
        head = _chain_hash(self._head, seq, kind, payload)
        self._buffer.append({"seq": seq, "kind": kind, "payload": payload, "prev_hash": self._head, "hash": head})
        self._last_seq, self._head = seq, head
        if isinstance(record, Header):
            self._header = record
        if len(self._buffer) >= _MAX_BUFFERED_ROWS:
            self.flush()
        return seq

    def flush(self) -> None:
        """Put every appended row on disk, all or none of them; they are durable on return.

        Raises `JournalError` if the database refuses. The journal then takes no more rows: whether the disk kept
        the last ones is for the next start to find out.
        """
        self._refuse_if_broken()
        if self._lock is None or not self._buffer:
            return
        try:
            with self._connection.begin():
                self._connection.execute(_INSERT, self._buffer)
        except DBAPIError as error:
            self._is_broken = True
            raise JournalError(
                f"{self._path}: {len(self._buffer)} rows up to {self._last_seq} could not be written: {error.orig};"
                " hint: look at the disk, then start again: no command of these rows has left"
            ) from error
        self._buffer.clear()
        self._lock.note_head(self._last_seq, self._head)

    def records(self, from_seq: int = 0) -> Iterator[tuple[int, Record]]:
        """Stream the flushed records from `from_seq` on with their sequence numbers, checking the chain on the way.

        Ends at the row that was last when the reading began. Raises `JournalDamaged` at the first that does not hold.
        """
        to_seq = self._last_seq - len(self._buffer)
        for seq, record, _ in _checked_rows(self._connection, self._path, from_seq, to_seq):
            yield seq, record

    def stored(self, after_seq: int, limit: int) -> list[StoredRow]:
        """Return up to `limit` rows beyond `after_seq` as they stand now, also those written since opening.

        For whoever follows a journal that another process writes: the chain is not checked, nothing is decoded. Raises
        `JournalError` if the database cannot be read.
        """
        wanted = {"after_seq": after_seq, "most": limit}
        try:
            with self._connection.begin():
                return [StoredRow._make(row) for row in self._connection.execute(_SELECT_FOLLOWING, wanted).all()]
        except DBAPIError as error:
            raise unusable(_JOURNAL, self._path, error) from error

    def version(self) -> int:
        """Return a number that changes when another process has written since it was last asked, and never else.

        Asking is cheap, unlike `stored`. Raises `JournalError` if the database cannot be read.
        """
        return version_of(_JOURNAL, self._path, self._connection)

    def stored_with(self, content: bytes, to_seq: int) -> list[StoredRow]:
        """Return every row up to `to_seq` with `content` in its payload; it reads the whole journal to find them."""
        try:
            with self._connection.begin():
                found = holds(_ROWS.c.payload, content)
                rows = _SELECT_STORED.where(found, _ROWS.c.seq <= to_seq).order_by(_ROWS.c.seq)
                return [StoredRow._make(row) for row in self._connection.execute(rows).all()]
        except DBAPIError as error:
            raise unusable(_JOURNAL, self._path, error) from error

    def _check_tail(self) -> None:
        from_seq = max(0, self._last_seq + 1 - _TAIL_ROWS)
        for _ in self.records(from_seq):
            pass
        _check_anchor(self._connection, self._path, self._last_seq)

    def _refuse_if_broken(self) -> None:
        if self._is_broken:
            raise JournalError(f"{self._path}: expected a working journal, found one whose last flush failed")


def verify(path: Path) -> VerifyReport:
    """Read the journal at `path` from the first row to the last with its raw hashes, and say how far it holds.

    Raises `JournalError` when the file cannot be opened as a journal at all.
    """
    path = path.resolve()
    last_seq, head, fault = -1, _GENESIS, None
    with _connected(path, for_writing=False) as connection:
        try:
            for seq, _, row_hash in _checked_rows(connection, path, 0, _MAX_SEQ):
                last_seq, head = seq, row_hash
            _check_anchor(connection, path, last_seq)
        except JournalDamaged as damage:
            fault = damage.fault
        complaint = complaint_of(connection) if fault is None else None
        if complaint is not None:
            fault = Fault(None, FaultKind.FILE, f"every row found holds, but the database file is damaged: {complaint}")
    return VerifyReport(str(path), last_seq + 1, last_seq, head.hex(), fault)


def export(path: Path) -> Iterator[str]:
    """Stream the journal at `path` as JSON lines: `seq`, UTC `time` (not for the header), `hash` and the `record`.

    Enums are text; a float that is not finite becomes null. Raises `JournalDamaged` at the first row that does not
    hold, `JournalError` when the file cannot be opened as a journal.
    """
    path = path.resolve()
    with _connected(path, for_writing=False) as connection:
        for seq, record, row_hash in _checked_rows(connection, path, 0, _MAX_SEQ):
            line: dict[str, object] = {"seq": seq}
            if not isinstance(record, Header):
                line["time"] = _utc_text(record.now_ns)
            line |= {"hash": row_hash.hex(), "record": record}
            yield msgspec.json.encode(line).decode()


# The chain ------------------------------------------------------------------------------------------------------------

_GENESIS: Final = bytes(32)
_MAX_SEQ: Final = 2**63 - 1
_MAX_BUFFERED_ROWS: Final = 4_096
_PAGE_ROWS: Final = 1_000
_TAIL_ROWS: Final = 1_000
_KINDS: Final[dict[type[Record], str]] = {Header: "header", Batch: "batch", Commands: "commands"}
_CONFIG: Final = "config"  # a batch in which the configuration changes: so that it is found without reading all
_DECODER: Final = msgspec.msgpack.Decoder(Record)

_ROWS: Final = Table(
    "journal",
    MetaData(),
    # On SQLite only INTEGER makes the key the row's own address.
    Column("seq", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("prev_hash", LargeBinary(32), nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
)
_INSERT: Final = _ROWS.insert()
_JOURNAL: Final = RowFile("journal", _ROWS)
# Uncoerced: a damaged column may hold any type, and the check must see it as it is.
_SELECT_RAW: Final = select(
    _ROWS.c.seq,
    type_coerce(_ROWS.c.kind, NullType()),
    type_coerce(_ROWS.c.payload, NullType()),
    type_coerce(_ROWS.c.prev_hash, NullType()),
    type_coerce(_ROWS.c.hash, NullType()),
)
_SELECT_STORED: Final = select(_ROWS.c.seq, _ROWS.c.kind, _ROWS.c.payload, _ROWS.c.hash)
# put together once: that takes longer than finding out that nothing has come
_SELECT_FOLLOWING: Final = (
    _SELECT_STORED.where(_ROWS.c.seq > bindparam("after_seq")).order_by(_ROWS.c.seq).limit(bindparam("most"))
)
_RawRow: TypeAlias = tuple[int, object, object, object, object]


def _kind_of(record: Record) -> str:
    return _CONFIG if isinstance(record, Batch) and ConfigChanged in map(type, record.events) else _KINDS[type(record)]


def _chain_hash(prev_hash: bytes, seq: int, kind: str, payload: bytes) -> bytes:
    # Unambiguous without separators: two fixed lengths, then a kind of which none begins another.
    return sha256(prev_hash + struct.pack(">q", seq) + kind.encode() + payload).digest()


def _checked_rows(
    connection: Connection, path: Path, from_seq: int, to_seq: int
) -> Iterator[tuple[int, Record, bytes]]:
    """Yield sequence number, record and hash of each row; raise `JournalDamaged` at the first that does not hold."""
    prior = _GENESIS if from_seq == 0 else _stored(connection, from_seq - 1, "hash")
    expected_seq = from_seq
    for row in _raw_rows(connection, path, from_seq, to_seq):
        seq, kind, payload, prev_hash, row_hash = row
        if (
            seq != expected_seq
            or prev_hash != prior
            or not isinstance(kind, str)
            or not isinstance(payload, bytes)
            or not isinstance(prev_hash, bytes)
            or not isinstance(row_hash, bytes)
            or _chain_hash(prev_hash, seq, kind, payload) != row_hash
        ):
            raise JournalDamaged(path, _diagnose(connection, row, expected_seq, prior))
        try:
            record = _DECODER.decode(payload)
        except msgspec.DecodeError as error:
            detail = f"row {seq} is as it was written but cannot be understood: {error}"
            raise JournalDamaged(path, Fault(seq, FaultKind.UNDECODABLE, detail)) from error
        if _kind_of(record) != kind or isinstance(record, Header) is (seq > 0):
            detail = f"row {seq} holds a {_kind_of(record)} under the kind {kind!r}: expected one header, first"
            raise JournalDamaged(path, Fault(seq, FaultKind.UNDECODABLE, detail))
        yield seq, record, row_hash
        prior, expected_seq = row_hash, seq + 1
    if to_seq < _MAX_SEQ and expected_seq <= to_seq:
        detail = f"row {expected_seq} is missing: expected rows up to {to_seq}"
        raise JournalDamaged(path, Fault(expected_seq, FaultKind.MISSING, detail))


def _raw_rows(connection: Connection, path: Path, from_seq: int, to_seq: int) -> Iterator[_RawRow]:
    # By pages: no transaction stays open while the caller thinks, and a page that cannot be read is taken row by row
    # so that the row can be named.
    page_rows = _PAGE_ROWS
    while from_seq <= to_seq:
        seq = _ROWS.c.seq
        page = _SELECT_RAW.where(seq >= from_seq, seq <= to_seq).order_by(seq).limit(page_rows)
        try:
            with connection.begin():
                rows = connection.execute(page).all()
        except DBAPIError as error:
            if page_rows > 1:
                page_rows = 1
                continue
            fault = Fault(from_seq, FaultKind.UNREADABLE, f"row {from_seq} cannot be read: {error.orig}")
            raise JournalDamaged(path, fault) from error
        if not rows:
            return
        yield from rows
        from_seq = rows[-1][0] + 1


def _diagnose(connection: Connection, row: _RawRow, expected_seq: int, prior: object) -> Fault:
    """Say what happened to a row that does not hold, as far as its neighbours tell."""
    seq, kind, payload, prev_hash, row_hash = row
    if seq != expected_seq:
        return Fault(expected_seq, FaultKind.MISSING, f"row {expected_seq} is missing: the next one found is row {seq}")
    if not (
        isinstance(prior, bytes)
        and isinstance(kind, str)
        and isinstance(payload, bytes)
        and isinstance(prev_hash, bytes)
        and isinstance(row_hash, bytes)
    ):
        types = ", ".join(type(value).__name__ for value in row[1:])
        detail = f"row {seq} cannot be read: expected str and three times bytes, found {types}"
        return Fault(seq, FaultKind.UNREADABLE, detail)
    own_hash = _chain_hash(prev_hash, seq, kind, payload)
    if prev_hash == prior:
        # The next row remembers this one's hash, and so tells which side of the comparison moved.
        witness = _stored(connection, seq + 1, "prev_hash")
        if witness == row_hash:
            return Fault(seq, FaultKind.PAYLOAD, f"the payload or kind of row {seq} is not what was written")
        if witness == own_hash:
            return Fault(seq, FaultKind.HASH, f"the hash of row {seq} is not what was written")
        return Fault(seq, FaultKind.PAYLOAD_OR_HASH, f"the payload, kind or hash of row {seq} is not what was written")
    if _chain_hash(prior, seq, kind, payload) == row_hash:
        return Fault(seq, FaultKind.PREV_HASH, f"the previous hash kept in row {seq} is not what was written")
    with connection.begin():
        count = connection.execute(select(func.count()).select_from(_ROWS)).scalar_one()
    written_seq = next((s for s in range(count) if _chain_hash(prev_hash, s, kind, payload) == row_hash), None)
    if written_seq is None or written_seq == seq:
        detail = f"row {seq} does not continue the row before it: one of the two was replaced"
        return Fault(seq, FaultKind.REPLACED, detail)
    return Fault(seq, FaultKind.REORDERED, f"rows are out of order: row {seq} was written as row {written_seq}")


def _stored(connection: Connection, seq: int, name: str) -> object:
    """Return one column of one row as it stands; None if there is no such row or it cannot be read."""
    column = type_coerce(_ROWS.c[name], NullType())
    try:
        with connection.begin():
            value: object = connection.execute(select(column).where(_ROWS.c.seq == seq)).scalar()
    except DBAPIError:
        return None
    return value


def _read_head(connection: Connection, path: Path) -> tuple[int, bytes]:
    head_hash = type_coerce(_ROWS.c.hash, NullType())
    try:
        with connection.begin():
            row = connection.execute(select(_ROWS.c.seq, head_hash).order_by(_ROWS.c.seq.desc()).limit(1)).one_or_none()
    except DBAPIError as error:
        raise unusable(_JOURNAL, path, error) from error
    if row is None:
        return -1, _GENESIS
    if not isinstance(row[1], bytes):
        fault = Fault(row[0], FaultKind.UNREADABLE, f"row {row[0]} cannot be read: its hash is no bytes")
        raise JournalDamaged(path, fault)
    return row[0], row[1]


def _read_header(connection: Connection, path: Path) -> Header:
    header = next(_checked_rows(connection, path, 0, 0))[1]
    assert isinstance(header, Header)
    if header.schema_version != SCHEMA_VERSION:
        raise JournalError(
            f"{path}: expected journal schema {SCHEMA_VERSION}, found {header.schema_version};"
            f" hint: it was written by Evenkeel {header.evenkeel_version}, read it with that version"
        )
    return header


def _utc_text(ns: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ns // NS_PER_US)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns % NS_PER_S:09d}Z"


# The writer's lock ----------------------------------------------------------------------------------------------------
#
# The lock file also remembers how far the journal was flushed: a chain cannot show that its own tail is gone.


class _WriterLock:
    """The right to write, held as an OS lock on a file beside the database; the OS frees it with the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def note_head(self, last_seq: int, head: bytes) -> None:
        """Remember the last durable row. Called after the commit, so the note is never ahead of the database."""
        os.pwrite(self._descriptor, f"pid {os.getpid():<10} last_seq {last_seq:<19} head {head.hex()}\n".encode(), 0)


@contextmanager
def _held_lock(path: Path) -> Iterator[_WriterLock]:
    taken = f"another daemon holds {path}"
    with held_lock(path, taken, "a journal has one writer", mode=0o644) as descriptor:
        if not path.exists():
            os.ftruncate(descriptor, 0)  # what an earlier journal of this name remembered
        yield _WriterLock(descriptor)


def _check_anchor(connection: Connection, path: Path, last_seq: int) -> None:
    """Raise `JournalDamaged` if the last writer noted a durable row that is not there, `last_seq` being the last."""
    anchor = _read_anchor(path)
    if anchor is None:
        return
    seq, head = anchor
    stored = _stored(connection, seq, "hash")
    if isinstance(stored, bytes) and stored.hex() == head:
        return
    if anchor != _read_anchor(path):
        return  # a live writer was in the middle of its note
    detail = (
        f"row {seq} was on disk with hash {head[:12]}… and is not there now, the last row is {last_seq}: the tail of"
        f" the journal is lost, or this is an older copy (then remove {lock_path(path).name})"
    )
    raise JournalDamaged(path, Fault(min(seq, last_seq + 1), FaultKind.LOST_TAIL, detail))


def _read_anchor(path: Path) -> tuple[int, str] | None:
    """Return the last row that was durable and its hash as the last writer noted them; None without a note."""
    try:
        match lock_path(path).read_text(encoding="ascii", errors="replace").split():
            case ["pid", _, "last_seq", last_seq, "head", head] if last_seq.isdecimal():
                return int(last_seq), head
    except OSError:
        return None  # a copied journal comes without its lock file
    return None


@contextmanager
def _connected(path: Path, *, for_writing: bool) -> Iterator[Connection]:
    """Connect to the journal at `path`; one that was written to before is not begun anew."""
    may_be_new = _read_anchor(path) is None
    with connected(_JOURNAL, path, for_writing=for_writing, may_be_new=may_be_new) as connection:
        yield connection
