"""The transaction log: every row comes back as it was, nothing is ever changed, and a key has one owner."""

from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.errors import InvariantBroken, JournalError
from bot.domain.orders import GasBid
from bot.gateways.chain.lives import Row
from bot.gateways.chain.nouns import Amounts, Receipt, TransactionRequest, TransactionState
from bot.gateways.chain.transaction_log import TransactionLog, is_owned, log_path

S = TransactionState
ADDRESS = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
wei = st.integers(0, 2**256 - 1)
signed_wei = st.integers(-(2**255), 2**255 - 1)
count = st.integers(0, 2**63 - 1)
tx_hashes = st.binary(min_size=32, max_size=32).map(lambda data: "0x" + data.hex())


@st.composite
def rows(draw: st.DrawFn) -> Row:
    key, instrument_id, fee, tip = draw(st.text(max_size=40)), draw(st.text(max_size=20)), draw(wei), draw(wei)
    gas = GasBid(fee, tip, draw(st.floats(0, 1e9)), draw(count))
    request = TransactionRequest(key, instrument_id, ADDRESS, draw(st.binary()), draw(wei), draw(count), gas)
    tx_hash, number = draw(tx_hashes), draw(count)
    receipt = Receipt(
        tx_hash, number, draw(tx_hashes), draw(st.booleans()), draw(count), draw(wei), (), draw(st.binary()),
        draw(st.booleans()), draw(wei),
    )  # fmt: skip
    amounts = Amounts(draw(signed_wei), draw(signed_wei), draw(signed_wei))
    return Row(
        ts_ns=draw(count),
        key=key,
        instrument_id=instrument_id,
        state=draw(st.sampled_from(list(S))),
        nonce=draw(count),
        head_number=draw(count),
        tx_hash=tx_hash,
        is_cancel=draw(st.booleans()),
        is_reversed=draw(st.booleans()),
        raw=draw(st.binary()),
        max_fee_wei=fee,
        tip_wei=tip,
        tier=draw(st.integers(0, 2)),
        request=request if draw(st.booleans()) else None,
        receipt=receipt if draw(st.booleans()) else None,
        amounts=amounts if draw(st.booleans()) else None,
        block_number=number,
        delay_ns=draw(count),
        reason=draw(st.text()),
    )


def first(key: str = "o1") -> Row:
    request = TransactionRequest(key, "local:A", ADDRESS, b"", 5, 60_000, GasBid(10, 1, 0.5, 0))
    return Row(
        ts_ns=1, key=key, instrument_id="local:A", state=S.RESERVED, nonce=0, head_number=1, max_fee_wei=10,
        tip_wei=1, request=request,
    )  # fmt: skip


@settings(max_examples=25)
@given(written=st.lists(rows(), max_size=4))
def test_rows_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, written: list[Row]) -> None:
    path = log_path(tmp_path_factory.mktemp("log"), 1, ADDRESS)
    with TransactionLog.open(path, for_writing=True) as log:
        for row in written:
            log.append(row)
        assert log.rows() == written
    with TransactionLog.open(path, for_writing=False) as log:
        assert log.rows() == written
        for row in written:
            assert log.rows(row.key) == [one for one in written if one.key == row.key]


def test_a_log_is_of_one_key_on_one_chain() -> None:
    assert log_path("state", 1, ADDRESS) == Path("state") / f"transactions-1-{ADDRESS.lower()}.sqlite"
    assert log_path("state", 10, ADDRESS) != log_path("state", 1, ADDRESS)


def test_lives_come_back(tmp_path: Path) -> None:
    path = log_path(tmp_path, 1, ADDRESS)
    with TransactionLog.open(path, for_writing=True) as log:
        log.append(first("o1"))
        log.append(first("o2"))
        assert list(log.lives()) == ["o1", "o2"]
        life = log.life("o2")
        assert life is not None
        assert life.request == first("o2").request
        assert log.life("o3") is None


def test_nothing_can_be_changed_or_removed(tmp_path: Path) -> None:
    path = log_path(tmp_path, 1, ADDRESS)
    with TransactionLog.open(path, for_writing=True) as log:
        log.append(first())
    other = sqlite3.connect(path)
    for statement in ("UPDATE transactions SET nonce = 9", "DELETE FROM transactions"):
        with pytest.raises(sqlite3.DatabaseError, match="append-only"):
            other.execute(statement)
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()


@pytest.mark.parametrize("state", S)
def test_a_row_that_anything_rests_on_is_on_disk_when_append_returns(tmp_path: Path, state: TransactionState) -> None:
    path = log_path(tmp_path, 1, ADDRESS)
    with TransactionLog.open(path, for_writing=True) as log:
        log.append(msgspec.structs.replace(first(), state=state))
        found = log._connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
        log._connection.rollback()
        is_told_again = state in {S.RESERVED, S.SENT, S.DROPPED, S.UNKNOWN, S.MINED, S.FAILED}
        assert found == (1 if is_told_again else 2)  # NORMAL, FULL
        with TransactionLog.open(path, for_writing=False) as reader:
            assert [row.state for row in reader.rows()] == [state]


def test_reading_writes_nothing(tmp_path: Path) -> None:
    path = log_path(tmp_path, 1, ADDRESS)
    with TransactionLog.open(path, for_writing=True):
        pass
    with TransactionLog.open(path, for_writing=False) as log, pytest.raises(InvariantBroken, match="for reading"):
        log.append(first())


def hold(path: Path, ready: Any, done: Any) -> None:
    with TransactionLog.open(path, for_writing=True):
        ready.set()
        done.wait(30)


def test_another_process_is_kept_out_until_the_owner_ends(tmp_path: Path) -> None:
    path = log_path(tmp_path, 1, ADDRESS)
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    owner = context.Process(target=hold, args=(path, ready, done))
    owner.start()
    assert ready.wait(30)
    assert is_owned(path)
    with pytest.raises(JournalError, match=f"pid {owner.pid}"), TransactionLog.open(path, for_writing=True):
        pass
    with TransactionLog.open(path, for_writing=False) as log:  # looking is always possible
        assert log.rows() == []
    owner.kill()
    owner.join(30)
    assert not is_owned(path)
    with TransactionLog.open(path, for_writing=True) as log:
        log.append(first())


def test_another_key_has_another_owner(tmp_path: Path) -> None:
    with (
        TransactionLog.open(log_path(tmp_path, 1, ADDRESS), for_writing=True),
        TransactionLog.open(log_path(tmp_path, 10, ADDRESS), for_writing=True) as other,
    ):
        other.append(first())


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "missing.sqlite"
    with pytest.raises(JournalError, match="no such file"), TransactionLog.open(path, for_writing=False):
        pass
    path.write_bytes(b"something else entirely, and long enough to be looked at")
    for for_writing in (True, False):
        with pytest.raises(JournalError, match="a transaction log"), TransactionLog.open(path, for_writing=for_writing):
            pass
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE journal (seq INTEGER)")
    other.commit()
    with pytest.raises(JournalError, match="found tables journal"), TransactionLog.open(path, for_writing=True):
        pass
    other.close()


def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = log_path(tmp_path, 1, ADDRESS)
    with TransactionLog.open(path, for_writing=True):
        pass
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(JournalError, match="schema 1, found 99"), TransactionLog.open(path, for_writing=True):
        pass


def test_a_disk_that_refuses_ends_everything(tmp_path: Path) -> None:
    path = log_path(tmp_path, 1, ADDRESS)
    with TransactionLog.open(path, for_writing=True) as log:
        log.append(first())
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JournalError, match="could not be written"):
            log.append(first("o2"))
        blocker.close()
        with pytest.raises(JournalError, match="last write failed"):
            log.append(first("o2"))
        assert [row.key for row in log.rows()] == ["o1"]
