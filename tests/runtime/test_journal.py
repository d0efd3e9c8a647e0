"""The journal keeps every flushed row through a kill, names every flipped byte, and has one writer."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import types
import typing
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.errors import InvariantBroken, JournalError
from bot.domain.events import Command, Event, OperatorAction, OperatorCommand, Restarted, SubmitOrder
from bot.domain.market import Quote
from bot.domain.orders import Fill, Liquidity, OrderIntent, OrderState, OrderTruth, TimeInForce
from bot.runtime.journal import (
    SCHEMA_VERSION,
    Batch,
    Commands,
    FaultKind,
    Header,
    Journal,
    JournalDamaged,
    Record,
    export,
    verify,
)

HEADER = Header("r1", "eth-straddle", '{"a": 1}', "0" * 64, "eth-2023-04", "1" * 64, 7, SCHEMA_VERSION, "0.1.0")
NOON_NS = 1_681_300_800_000_000_000


def batch(number: int) -> Batch:
    quote = Quote("ETH-PERPETUAL", 1900.5 + number, 10.0, 1901.0 + number, 12.5, number, number + 1, number)
    return Batch(NOON_NS + number, (quote, Restarted(number)))


def write(path: Path, batches: int) -> list[Record]:
    records: list[Record] = [HEADER, *(batch(number) for number in range(batches))]
    with Journal.open(path, for_writing=True) as journal:
        for record in records:
            journal.append(record)
    return records


def read(path: Path) -> list[Record]:
    with Journal.open(path, for_writing=False) as journal:
        return [record for _, record in journal.records()]


def sql(path: Path, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, parameters).fetchall()


def flip(path: Path, seq: int, column: str, position: int) -> None:
    (value,) = sql(path, f"SELECT {column} FROM journal WHERE seq = ?", seq)[0]
    raw = bytearray(value.encode() if isinstance(value, str) else value)
    raw[position % len(raw)] ^= 1
    changed = raw.decode() if isinstance(value, str) else bytes(raw)
    sql(path, f"UPDATE journal SET {column} = ? WHERE seq = ?", changed, seq)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run 1#%.journal"  # characters that mean something in a URI


class TestWritingAndReading:
    def test_records_come_back_with_their_numbers(self, path: Path) -> None:
        records = write(path, 5)
        with Journal.open(path, for_writing=False) as journal:
            assert list(journal.records()) == list(enumerate(records))
            assert list(journal.records(4)) == [(4, records[4]), (5, records[5])]
            assert list(journal.records(6)) == []
            assert journal.header == HEADER
            assert journal.last_seq == 5

    def test_a_reopened_journal_goes_on_where_it_stopped(self, path: Path) -> None:
        records = write(path, 2)
        with Journal.open(path, for_writing=True) as journal:
            assert not journal.is_empty
            assert journal.header == HEADER
            assert journal.append(batch(99)) == 3
            head = journal.head_hash
        assert read(path) == [*records, batch(99)]
        report = verify(path)
        assert report.is_valid
        assert (report.rows, report.last_seq, report.head_hash) == (4, 3, head)

    def test_reading_goes_on_beyond_one_page(self, path: Path) -> None:
        records = write(path, 2_500)
        assert read(path) == records

    def test_hashes_are_the_documented_ones(self, path: Path) -> None:
        write(path, 3)
        head = bytes(32)
        rows = sql(path, "SELECT seq, kind, payload, prev_hash, hash FROM journal ORDER BY seq")
        for number, (seq, kind, payload, prev_hash, row_hash) in enumerate(rows):
            assert (seq, prev_hash) == (number, head)
            head = hashlib.sha256(prev_hash + seq.to_bytes(8, "big") + kind.encode() + payload).digest()
            assert row_hash == head
        assert [row[1] for row in rows] == ["header", "batch", "batch", "batch"]
        assert verify(path).head_hash == head.hex()

    def test_a_commit_waits_for_the_disk(self, path: Path) -> None:
        with Journal.open(path, for_writing=True) as journal, journal._connection.begin():
            assert journal._connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
            assert journal._connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"

    def test_rows_before_an_error_are_kept(self, path: Path) -> None:
        def crash() -> None:
            with Journal.open(path, for_writing=True) as journal:
                journal.append(HEADER)
                journal.append(batch(1))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            crash()
        assert read(path) == [HEADER, batch(1)]

    def test_the_buffer_is_bounded(self, path: Path) -> None:
        with Journal.open(path, for_writing=True) as journal:
            journal.append(HEADER)
            for number in range(5_000):
                journal.append(batch(number))
            assert journal.last_seq == 5_000
            assert sql(path, "SELECT count(*) FROM journal") == [(4_096,)]

    def test_the_header_comes_first_and_once(self, path: Path) -> None:
        with Journal.open(path, for_writing=True) as journal:
            assert journal.is_empty
            assert (journal.last_seq, journal.head_hash) == (-1, "0" * 64)
            with pytest.raises(JournalError, match="expected a header, found no rows"):
                _ = journal.header
            with pytest.raises(InvariantBroken, match="found Batch as row 0"):
                journal.append(batch(1))
            journal.append(HEADER)
            assert journal.header is HEADER
            with pytest.raises(InvariantBroken, match="found Header as row 1"):
                journal.append(HEADER)

    def test_a_reader_cannot_append(self, path: Path) -> None:
        write(path, 1)
        with Journal.open(path, for_writing=False) as journal:
            journal.flush()
            with pytest.raises(InvariantBroken, match="open for reading"):
                journal.append(batch(2))

    def test_another_schema_is_refused(self, path: Path) -> None:
        with Journal.open(path, for_writing=True) as journal:
            journal.append(msgspec.structs.replace(HEADER, schema_version=SCHEMA_VERSION + 1))
        with (
            pytest.raises(JournalError, match=f"expected journal schema {SCHEMA_VERSION}, found {SCHEMA_VERSION + 1}"),
            Journal.open(path, for_writing=False),
        ):
            pass


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Every value a field of this type can hold in MessagePack."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return st.one_of([values_of(member) for member in typing.get_args(kind)])
    if typing.get_origin(kind) is tuple:
        return st.lists(values_of(typing.get_args(kind)[0]), max_size=3).map(tuple)
    if typing.get_origin(kind) is dict:
        return st.dictionaries(*map(values_of, typing.get_args(kind)), max_size=3)
    if issubclass(kind, msgspec.Struct):
        fields = {name: values_of(hint) for name, hint in typing.get_type_hints(kind).items() if name[0] != "_"}
        return st.builds(kind, **fields)
    if issubclass(kind, StrEnum):
        return st.sampled_from(kind)
    leaves: dict[type, st.SearchStrategy[Any]] = {
        type(None): st.none(),
        bool: st.booleans(),
        int: st.integers(-(2**63), 2**63 - 1),
        float: st.floats(),
        str: st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    }
    return leaves[kind]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.builds(Batch, st.integers(-(2**63), 2**63 - 1), st.lists(values_of(Event), max_size=4).map(tuple)),
            st.builds(Commands, st.integers(0, 2**63 - 1), st.lists(values_of(Command), max_size=4).map(tuple)),
        ),
        max_size=6,
    )
)
def test_whatever_goes_in_comes_out(records: list[Record]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        with Journal.open(path, for_writing=True) as journal:
            for record in [HEADER, *records]:
                journal.append(record)
        # Compared as bytes: a NaN differs from itself.
        encode = msgspec.msgpack.encode
        found = read(path)
        assert [type(record) for record in found] == [Header, *(type(record) for record in records)]
        assert [encode(record) for record in found] == [encode(record) for record in [HEADER, *records]]
        assert verify(path).is_valid
        assert len(list(export(path))) == len(records) + 1


class TestTamperingIsNamed:
    ROWS = 6

    @pytest.mark.parametrize("column", ["payload", "kind", "hash", "prev_hash"])
    @pytest.mark.parametrize("seq", range(ROWS + 1))
    def test_one_flipped_byte(self, path: Path, column: str, seq: int) -> None:
        write(path, self.ROWS)
        is_last = seq == self.ROWS
        expected = {
            "payload": FaultKind.PAYLOAD_OR_HASH if is_last else FaultKind.PAYLOAD,
            "kind": FaultKind.PAYLOAD_OR_HASH if is_last else FaultKind.PAYLOAD,
            "hash": FaultKind.PAYLOAD_OR_HASH if is_last else FaultKind.HASH,
            "prev_hash": FaultKind.PREV_HASH,
        }[column]
        for position in (0, 3, -1):
            copy = path.with_suffix(f".{position}")
            shutil.copy(path, copy)
            flip(copy, seq, column, position)
            report = verify(copy)
            assert report.fault is not None
            assert (report.fault.seq, report.fault.kind, report.rows) == (seq, expected, seq)
            assert f"row {seq}" in report.fault.detail

    def test_every_byte_of_one_payload(self, path: Path) -> None:
        write(path, 2)
        [(payload,)] = sql(path, "SELECT payload FROM journal WHERE seq = 1")
        for position in range(0, len(payload), 5):
            flip(path, 1, "payload", position)
            fault = verify(path).fault
            assert fault is not None
            assert (fault.seq, fault.kind) == (1, FaultKind.PAYLOAD)
            flip(path, 1, "payload", position)
        assert verify(path).is_valid

    @pytest.mark.parametrize("seq", [0, 3])
    def test_a_missing_row(self, path: Path, seq: int) -> None:
        write(path, self.ROWS)
        sql(path, "DELETE FROM journal WHERE seq = ?", seq)
        fault = verify(path).fault
        assert fault is not None
        assert (fault.seq, fault.kind) == (seq, FaultKind.MISSING)

    @pytest.mark.parametrize(("one", "other"), [(3, 4), (2, 6)])
    def test_two_rows_exchanged(self, path: Path, one: int, other: int) -> None:
        write(path, self.ROWS)
        for old, new in [(one, -1), (other, one), (-1, other)]:
            sql(path, "UPDATE journal SET seq = ? WHERE seq = ?", new, old)
        fault = verify(path).fault
        assert fault is not None
        assert (fault.seq, fault.kind) == (one, FaultKind.REORDERED)
        assert f"row {one} was written as row {other}" in fault.detail

    def test_a_forged_row_with_a_hash_of_its_own(self, path: Path) -> None:
        write(path, self.ROWS)
        [(prev_hash,)] = sql(path, "SELECT prev_hash FROM journal WHERE seq = 3")
        payload = msgspec.msgpack.encode(batch(77))
        forged = hashlib.sha256(prev_hash + (3).to_bytes(8, "big") + b"batch" + payload).digest()
        sql(path, "UPDATE journal SET payload = ?, hash = ? WHERE seq = 3", payload, forged)
        report = verify(path)
        assert report.fault is not None
        assert (report.fault.seq, report.fault.kind) == (4, FaultKind.REPLACED)
        assert "one of the two was replaced" in report.fault.detail

    @pytest.mark.parametrize("value", ["text", 7, 2**40, 1.5])
    @pytest.mark.parametrize("column", ["payload", "hash", "prev_hash"])
    def test_a_value_of_another_type(self, path: Path, column: str, value: object) -> None:
        write(path, self.ROWS)
        sql(path, f"UPDATE journal SET {column} = ? WHERE seq = 2", value)
        fault = verify(path).fault
        assert fault is not None
        assert (fault.seq, fault.kind) == (2, FaultKind.UNREADABLE)

    def test_text_that_is_no_text(self, path: Path) -> None:
        write(path, self.ROWS)
        sql(path, "UPDATE journal SET kind = CAST(x'ff' AS TEXT) WHERE seq = 5")
        report = verify(path)
        assert report.fault is not None
        assert (report.fault.seq, report.fault.kind, report.rows) == (5, FaultKind.UNREADABLE, 5)

    @pytest.mark.parametrize("payload", [b"\x80", msgspec.msgpack.encode({"type": "later"}), b""])
    def test_an_unknown_record_of_the_right_hash(self, path: Path, payload: bytes) -> None:
        write(path, 1)
        forge_next_row(path, "batch", payload)
        fault = verify(path).fault
        assert fault is not None
        assert (fault.seq, fault.kind) == (2, FaultKind.UNDECODABLE)

    def test_a_second_header_of_the_right_hash(self, path: Path) -> None:
        write(path, 1)
        forge_next_row(path, "header", msgspec.msgpack.encode(HEADER))
        fault = verify(path).fault
        assert fault is not None
        assert (fault.seq, fault.kind) == (2, FaultKind.UNDECODABLE)
        assert "one header, first" in fault.detail

    def test_a_lost_tail(self, path: Path) -> None:
        write(path, self.ROWS)
        sql(path, "DELETE FROM journal WHERE seq >= 4")
        report = verify(path)
        assert report.fault is not None
        assert (report.fault.seq, report.fault.kind, report.rows) == (4, FaultKind.LOST_TAIL, 4)
        with pytest.raises(JournalDamaged, match="row 6 was on disk"), Journal.open(path, for_writing=True):
            pass
        path.with_name(f"{path.name}.lock").unlink()  # the operator knows it is an older copy
        assert verify(path).is_valid
        with Journal.open(path, for_writing=True) as journal:
            assert journal.append(batch(9)) == 4

    def test_a_flipped_byte_in_the_write_ahead_log(self, path: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        with Journal.open(path, for_writing=True) as journal:
            journal.append(HEADER)
            for number in range(50):
                journal.append(batch(number))
                journal.flush()
            for suffix in ("", "-wal", ".lock"):
                shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
        log = bytearray(Path(f"{copy}-wal").read_bytes())
        log[len(log) // 2] ^= 1
        Path(f"{copy}-wal").write_bytes(log)
        report = verify(copy)
        assert report.fault is not None
        assert report.fault.kind is FaultKind.LOST_TAIL
        assert report.fault.seq == report.rows

    def test_a_flipped_byte_in_the_raw_file_is_found_or_harmless(self, path: Path, tmp_path: Path) -> None:
        records = write(path, 40)
        raw = path.read_bytes()
        copy = tmp_path / "copy"
        source = random.Random(5)
        offsets = [*range(0, 100, 3), *(source.randrange(len(raw)) for _ in range(250))]
        found = 0
        for offset in offsets:
            changed = bytearray(raw)
            changed[offset] ^= 1 << source.randrange(8)
            copy.write_bytes(changed)
            fault = fault_text(copy)
            if fault is None:
                assert read(copy) == records, offset
            else:
                assert re.search(r"hint:|row \d+|the database file is damaged", fault), offset
                found += 1
        assert found > len(offsets) / 2


def fault_text(path: Path) -> str | None:
    try:
        fault = verify(path).fault
    except JournalError as error:
        return str(error)
    return None if fault is None else fault.detail


def forge_next_row(path: Path, kind: str, payload: bytes) -> None:
    [(seq, head)] = sql(path, "SELECT seq + 1, hash FROM journal ORDER BY seq DESC LIMIT 1")
    row_hash = hashlib.sha256(head + seq.to_bytes(8, "big") + kind.encode() + payload).digest()
    sql(path, "INSERT INTO journal VALUES (?, ?, ?, ?, ?)", seq, kind, payload, head, row_hash)


class TestRefusals:
    def test_a_damaged_tail_is_not_written_to(self, path: Path) -> None:
        write(path, 5)
        flip(path, 4, "payload", 7)
        with pytest.raises(JournalDamaged, match=r"row 4 .*hint: `evenkeel journal verify") as caught:
            write(path, 1)
        assert caught.value.fault.seq == 4
        assert sql(path, "SELECT count(*) FROM journal") == [(6,)]

    def test_damage_further_back_stops_the_replay(self, path: Path) -> None:
        write(path, 1_500)
        flip(path, 20, "payload", 7)
        with Journal.open(path, for_writing=True) as journal:
            with pytest.raises(JournalDamaged, match="row 20"):
                list(journal.records())
            assert sum(1 for _ in journal.records(500)) == 1_001
        with pytest.raises(JournalDamaged, match="row 20"):
            list(export(path))

    def test_no_such_file(self, path: Path) -> None:
        for use in (verify, lambda missing: next(export(missing)), read):
            with pytest.raises(JournalError, match=r"found no such file; hint:"):
                use(path)
        assert not path.exists()

    def test_no_such_folder(self, path: Path) -> None:
        with pytest.raises(JournalError, match=r"lock file .* hint: check that the folder exists"):
            write(path / "deeper", 1)

    @pytest.mark.parametrize("content", [b"", b"PAR1" * 3_000])
    def test_not_a_journal(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        with pytest.raises(JournalError, match=r"expected a journal.*hint: check the path"):
            verify(path)
        with pytest.raises(JournalError, match=r"expected a journal.*hint: check the path"):
            read(path)

    def test_another_database(self, path: Path) -> None:
        sql(path, "CREATE TABLE trades (id INTEGER)")
        content = path.read_bytes()
        for use in (verify, read, lambda other: write(other, 1)):
            with pytest.raises(JournalError, match="found tables trades"):
                use(path)
        assert path.read_bytes() == content

    def test_a_truncated_file(self, path: Path) -> None:
        write(path, 400)
        raw = path.read_bytes()
        for kept in (0, 50, 4_096, len(raw) // 2, len(raw) - 4_096):
            path.write_bytes(raw[:kept])
            with pytest.raises(JournalError, match="hint:"):
                write(path, 1)
            fault = fault_text(path)
            assert fault is not None
            assert re.search(r"hint:|row \d+ cannot be read", fault), kept
            assert path.read_bytes() == raw[:kept]

    def test_a_failed_flush_ends_the_writing(self, path: Path) -> None:
        with Journal.open(path, for_writing=True) as journal:
            journal.append(HEADER)
            journal.flush()
            forge_next_row(path, "batch", msgspec.msgpack.encode(batch(0)))
            journal.append(batch(1))
            journal.append(batch(2))
            with pytest.raises(JournalError, match=r"2 rows up to 2 could not be written: UNIQUE"):
                journal.flush()
            for use in (journal.flush, lambda: journal.append(batch(3))):
                with pytest.raises(JournalError, match="whose last flush failed"):
                    use()
        assert read(path) == [HEADER, batch(0)]


class TestWriterAndReaders:
    def test_one_writer_at_a_time(self, path: Path) -> None:
        with Journal.open(path, for_writing=True) as journal:
            journal.append(HEADER)
            with pytest.raises(JournalError, match=rf"another daemon holds .*\(pid {os.getpid()}\); hint: stop it"):
                write(path, 1)
            journal.append(batch(1))
        with Journal.open(path, for_writing=True) as journal:
            assert journal.last_seq == 1

    def test_readers_see_what_was_flushed_when_they_opened(self, path: Path) -> None:
        with Journal.open(path, for_writing=True) as writer:
            writer.append(HEADER)
            writer.append(batch(1))
            writer.flush()
            writer.append(batch(2))
            assert [seq for seq, _ in writer.records()] == [0, 1]
            with Journal.open(path, for_writing=False) as reader:
                assert reader.last_seq == 1
                rows = reader.records()
                assert next(rows) == (0, HEADER)
                writer.flush()
                writer.append(batch(3))
                writer.flush()
                assert list(rows) == [(1, batch(1))]
            assert read(path) == [HEADER, batch(1), batch(2), batch(3)]
            assert verify(path).rows == 4

    def test_a_deleted_journal_starts_anew(self, path: Path) -> None:
        write(path, 3)
        path.unlink()
        assert read_after_write(path) == [HEADER, batch(0)]


def read_after_write(path: Path) -> list[Record]:
    write(path, 1)
    return read(path)


WRITER = """
import os, sys
from pathlib import Path
from bot.domain.events import Restarted
from bot.runtime.journal import Batch, Header, Journal

with Journal.open(Path(sys.argv[1]), for_writing=True) as journal:
    if journal.is_empty:
        journal.append(Header("r1", "v", "{}", "0" * 64, None, None, 7, 1, "0.1.0"))
    while True:
        for _ in range(journal.last_seq % 5):
            journal.append(Batch(journal.last_seq, (Restarted(journal.last_seq),) * 20))
        journal.append(Batch(journal.last_seq, ()))
        journal.flush()
        os.write(1, b"%d\\n" % journal.last_seq)
"""


def test_a_killed_writer_loses_nothing_it_flushed(path: Path) -> None:
    source = random.Random(9)
    last_seq = -1
    for _ in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        assert process.stdout is not None
        with process, process.stdout:
            told = process.stdout.readline()
            time.sleep(source.uniform(0, 0.06))
            process.send_signal(signal.SIGKILL)
            told += process.stdout.read()
        assert process.returncode == -signal.SIGKILL
        flushed_seq = int(told[: told.rindex(b"\n")].split()[-1])
        assert flushed_seq > last_seq
        last_seq = flushed_seq
        report = verify(path)
        assert report.is_valid, report.fault
        assert report.last_seq >= flushed_seq
    with Journal.open(path, for_writing=True) as journal:
        for seq, record in journal.records():
            assert seq == 0 or (isinstance(record, Batch) and record.now_ns == seq - 1)


def test_export_is_one_readable_object_a_line(path: Path) -> None:
    intent = OrderIntent("r1-1", "ETH-PERPETUAL", -3, 38_000, TimeInForce.IOC, False, "above band", 1900.0, NOON_NS)
    fill = Fill("t1", "r1-1", "ETH-PERPETUAL", -3, 1900.0, 0.0001, Liquidity.TAKER, NOON_NS, NOON_NS + 5)
    halt = OperatorCommand(OperatorAction.HALT, "ops", "drill", NOON_NS)
    with Journal.open(path, for_writing=True) as journal:
        journal.append(HEADER)
        journal.append(Commands(NOON_NS + 1_000, (SubmitOrder(intent),)))
        journal.append(Batch(NOON_NS, (OrderTruth("r1-1", OrderState.FILLED, (fill,), 1, 2), halt)))
        head = journal.head_hash
    lines = [json.loads(line) for line in export(path)]
    assert [line["seq"] for line in lines] == [0, 1, 2]
    assert [line["record"]["type"] for line in lines] == ["header", "commands", "batch"]
    assert lines[2]["hash"] == head
    assert "time" not in lines[0]
    assert lines[1]["time"] == "2023-04-12T12:00:00.000001000Z"
    assert lines[1]["record"]["commands"][0]["intent"]["time_in_force"] == "ioc"
    truth, operator = lines[2]["record"]["events"]
    assert truth["state"] == "filled"
    assert truth["fills"][0]["liquidity"] == "taker"
    assert operator == {"type": "operator", "action": "halt", "issuer": "ops", "reason": "drill", "ts_recv_ns": NOON_NS}
