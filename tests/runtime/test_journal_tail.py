"""A journal is told as it grows: the same events with the same numbers, however and whenever it is read."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bot.domain.errors import JournalError
from bot.domain.events import OperatorAction, OperatorCommand, Restarted, SubmitOrder
from bot.domain.market import Quote
from bot.domain.orders import Fill, Liquidity, OrderIntent, OrderSent, TimeInForce
from bot.domain.venues import InstrumentListed
from bot.domain.windows import Told
from bot.runtime.journal import SCHEMA_VERSION, Batch, Commands, Header, Journal, Record
from bot.runtime.journal_tail import ROWS_AT_A_TIME, JournalTail
from tests.runtime.vault_files import instruments

NOON_NS = 1_681_300_800_000_000_000
PERPETUAL = instruments("ETH")[3]
OTHER = instruments("BTC")[3]
HEADER = Header("r1", "eth", "{}", "0" * 64, None, None, 7, SCHEMA_VERSION, "0.1.0", (PERPETUAL,))


def quiet(number: int) -> Batch:
    return Batch(NOON_NS + number, (Quote(PERPETUAL.instrument_id, 1.0, 1.0, 2.0, 1.0, number, number, number),))


def hedge(number: int, instrument_id: str = PERPETUAL.instrument_id) -> list[Record]:
    """A decision, and a batch with two events of its order: three events in two rows."""
    order_id = f"r1-{number}"
    intent = OrderIntent(order_id, instrument_id, 15, 38_000, TimeInForce.IOC, False, "outside", 1900.0, NOON_NS)
    fill = Fill(f"T{number}", order_id, instrument_id, 15, 1900.0, 0.5, Liquidity.TAKER, NOON_NS, NOON_NS)
    quote = quiet(number).events[0]
    return [
        Commands(NOON_NS, (SubmitOrder(intent),)),
        Batch(NOON_NS + 1, (quote, OrderSent(order_id, NOON_NS), fill)),
    ]


def write(path: Path, *records: Record) -> None:
    with Journal.open(path, for_writing=True) as journal:
        for record in records:
            journal.append(record)


def read_all(tail: JournalTail, limit: int = 1_000) -> list[Told]:
    told = tail.read(limit)
    while tail.is_behind:
        told += tail.read(limit)
    return told


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vault.sqlite"


def test_events_are_told_in_order_and_numbered_without_a_gap(path: Path) -> None:
    write(path, HEADER, quiet(0), *hedge(1), quiet(1), Batch(NOON_NS + 9, (Restarted(NOON_NS),)))
    tail = JournalTail(path)
    told = read_all(tail)
    assert [(one.number, one.seq, one.kind, one.order_id) for one in told] == [
        (1, 0, "run", ""),
        (2, 2, "decision", "r1-1"),
        (3, 3, "order", "r1-1"),
        (4, 3, "fill", "r1-1"),
        (5, 5, "run", ""),
    ]
    assert {(one.vault, one.run_id) for one in told} == {("eth", "r1")}
    assert told[0].now_ns == NOON_NS  # a header has no time: it is that of the next row
    assert told[3].text == "Bought 1.5 ETH of ETH-PERPETUAL at 1,900 as taker, fee 0.5 USD"
    assert (tail.run_id, tail.after_seq, tail.number) == ("r1", 5, 5)
    assert tail.read() == []
    tail.close()


def test_a_reading_goes_on_while_it_is_written_from_any_place(path: Path) -> None:
    tail = JournalTail(path)
    assert tail.read() == []  # not there yet
    records: list[Record] = [HEADER]
    for number in range(1, 30):
        records += [quiet(number), *hedge(number)]
    told: list[Told] = []
    places = []
    with Journal.open(path, for_writing=True) as journal:
        for record in records:
            journal.append(record)
            journal.flush()
            told += tail.read()
            places.append((tail.after_seq, tail.number, tail.row_hash))
    tail.close()
    whole = JournalTail(path)
    assert read_all(whole) == told
    assert len(told) == 1 + 29 * 3
    whole.close()
    for seq, number, row_hash in places[1::7]:
        for known in (row_hash, ""):
            rest = JournalTail(path, seq, number, known)
            assert read_all(rest, limit=2) == told[number:]
            rest.close()
    at_place = JournalTail(path)
    at_place.read()
    assert [at_place.hash_of(seq) for seq, _, _ in places[1:]] == [row_hash for _, _, row_hash in places[1:]]
    assert at_place.hash_of(10_000) == ""
    at_place.close()


def test_a_journal_in_which_nothing_has_come_is_not_looked_through(path: Path) -> None:
    with Journal.open(path, for_writing=True) as journal:
        for record in (HEADER, quiet(1), *hedge(1)):
            journal.append(record)
        journal.flush()
        tail = JournalTail(path)
        assert len(read_all(tail)) == 4
        tail._after_seq = -1  # where it is would be told again, were it looked at
        assert tail.read() == []
        journal.append(quiet(2))
        assert tail.read() == []
        journal.flush()
        assert len(tail.read()) == 4
    tail.close()


def test_a_header_waits_for_the_row_that_has_its_time(path: Path) -> None:
    write(path, HEADER)
    tail = JournalTail(path)
    assert tail.read() == []
    write(path, quiet(1))
    assert [one.kind for one in tail.read()] == ["run"]
    tail.close()


def test_one_reading_is_bounded_and_says_that_there_is_more(path: Path) -> None:
    write(path, HEADER, *(quiet(number) for number in range(ROWS_AT_A_TIME)), *hedge(1), *hedge(2))
    tail = JournalTail(path)
    assert len(tail.read()) == 1
    assert tail.is_behind
    assert [one.number for one in tail.read(limit=2)] == [2, 3, 4]  # a row's events stay together
    assert tail.is_behind
    assert [one.number for one in tail.read()] == [5, 6, 7]
    assert not tail.is_behind
    tail.close()


def test_another_journal_in_its_place_is_told_from_its_beginning(path: Path) -> None:
    write(path, HEADER, quiet(1), *hedge(1))
    tail = JournalTail(path)
    assert len(read_all(tail)) == 4
    assert tail.found_seq == 3
    place = (tail.after_seq, tail.number, tail.row_hash)
    fresh = path.with_name("fresh.sqlite")
    write(fresh, HEADER, quiet(2), *hedge(5), *hedge(6))
    fresh.replace(path)
    told = read_all(tail)
    assert [one.number for one in told] == [1, 2, 3, 4, 5, 6, 7]
    assert tail.found_seq == -1
    tail.close()
    for again in (JournalTail(path, *place), JournalTail(path, 99, 40)):
        assert read_all(again) == told  # the row it is to go on behind is another one, or is not there
        again.close()


def test_a_contract_listed_later_is_found_from_any_place(path: Path) -> None:
    listed = Batch(NOON_NS, (InstrumentListed(OTHER, NOON_NS),))
    write(path, HEADER, quiet(1), *hedge(1, OTHER.instrument_id), listed, *hedge(2, OTHER.instrument_id))
    tail = JournalTail(path)
    told = read_all(tail)
    tail.close()
    assert told[1].text.startswith("Buy 15 lots of BTC-PERPETUAL")  # it was not known then
    assert told[4].text.startswith("Buy 1.5 BTC of BTC-PERPETUAL")
    rest = JournalTail(path, told[4].seq - 1, 4)
    assert read_all(rest) == told[4:]
    rest.close()


def test_a_run_on_a_recording_has_the_contracts_of_the_recording(path: Path) -> None:
    recorded = Header("r1", "eth", "{}", "0" * 64, "eth-2023-04", "1" * 64, 7, SCHEMA_VERSION, "0.1.0")
    write(path, recorded, *hedge(1, "ETH-PERPETUAL"))
    tail = JournalTail(path)
    assert read_all(tail)[1].text.startswith("Buy 1.5 ETH of ETH-PERPETUAL at 1,900 or better")
    tail.close()
    gone = path.with_name("gone.sqlite")
    write(gone, Header("r1", "eth", "{}", "0" * 64, "./no", "1" * 64, 7, SCHEMA_VERSION, "0.1.0"), *hedge(1))
    tail = JournalTail(gone)
    assert read_all(tail)[1].text.startswith("Buy 15 lots of ETH-PERPETUAL at 38,000 ticks or better")
    tail.close()


def test_what_cannot_be_read_is_an_error_each_time_until_it_can(path: Path) -> None:
    path.write_bytes(b"this is no database at all" * 100)
    tail = JournalTail(path)
    for _ in range(2):
        with pytest.raises(JournalError, match="expected a journal"):
            tail.read()
    path.unlink()
    write(path, HEADER, quiet(1), Batch(NOON_NS, (OperatorCommand(OperatorAction.HALT, "me", "why", NOON_NS),)))
    with closing(sqlite3.connect(path)) as connection, connection:
        (payload,) = connection.execute("SELECT payload FROM journal WHERE seq = 2").fetchone()
        connection.execute("UPDATE journal SET payload = ? WHERE seq = 2", (payload.replace(b"halt", b"hall"),))
    with pytest.raises(JournalError, match="row 2: expected a row of this version"):
        tail.read()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE journal SET payload = ? WHERE seq = 2", (payload,))
    assert [one.text for one in tail.read()] == ["me ordered halt: why"]
    tail.close()
