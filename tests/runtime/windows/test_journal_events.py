"""Every event is given until it is acknowledged, across restarts, and no place is remembered that would lose one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bot.runtime.journal import Journal
from bot.runtime.journal_tail import JournalTail
from bot.runtime.windows.journal_events import OVERLAP, RECENT, JournalEvents, read_cursor
from tests.runtime.test_journal_tail import HEADER, hedge, quiet, read_all, write

HEDGES = 60
EVENTS = 1 + 3 * HEDGES


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "vault.sqlite"
    write(path, HEADER, quiet(0), *(record for number in range(1, HEDGES + 1) for record in hedge(number)))
    return path


@pytest.fixture
def cursor(tmp_path: Path) -> Path:
    return tmp_path / "vault.published"


def numbers(events: JournalEvents, limit: int = 1_000) -> list[int]:
    return [told.number for told in events.following(limit)]


@pytest.mark.parametrize("acknowledged", [1, 2, 3, 4, 7, 50, 150, EVENTS])
def test_a_restart_goes_on_behind_what_was_acknowledged(journal: Path, cursor: Path, acknowledged: int) -> None:
    events = JournalEvents(journal, cursor)
    told = list(events.following(1_000))
    assert len(told) == EVENTS
    events.acknowledge(told[acknowledged - 1])
    events.close()
    again = JournalEvents(journal, cursor)
    following = numbers(again)
    row = told[acknowledged - 1].seq
    is_whole = acknowledged == EVENTS or told[acknowledged].seq > row
    first = acknowledged + 1 if is_whole else next(one.number for one in told if one.seq == row)
    assert following == list(range(first, EVENTS + 1))  # none is left out, and at most one row's are given twice
    assert [one.number for one in again.recent()] == list(range(max(1, acknowledged + 1 - RECENT), first))
    again.close()


def test_what_was_not_acknowledged_is_given_again_and_a_little_more(journal: Path, cursor: Path) -> None:
    events = JournalEvents(journal, cursor)
    first = events.following(40)
    events.acknowledge(first[29])
    assert len(first) == 40
    events.rewind()
    assert numbers(events) == list(range(31 - OVERLAP, 31))
    assert numbers(events, 5) == [31, 32, 33, 34, 35]
    events.rewind()
    assert numbers(events) == list(range(31 - OVERLAP, 31))
    assert numbers(events)[0] == 31
    events.close()


def test_little_is_held_however_much_there_is(journal: Path, cursor: Path) -> None:
    events = JournalEvents(journal, cursor)
    given = 0
    while few := events.following(10):
        assert len(few) <= 12
        assert len(events._held) <= 12
        events.acknowledge(few[-1])
        given += len(few)
        assert len(events.recent()) <= RECENT
    assert given == EVENTS
    assert [one.number for one in events.recent()] == list(range(EVENTS + 1 - RECENT, EVENTS + 1))
    events.close()


def test_market_data_that_was_read_need_not_be_read_again(journal: Path, cursor: Path) -> None:
    write(journal, *(quiet(number) for number in range(300)))
    events = JournalEvents(journal, cursor)
    told = list(events.following(1_000))
    events.following(1)
    assert not events.is_behind
    events.acknowledge(told[-1])
    events.flush()
    place = read_cursor(cursor)
    assert place is not None
    with Journal.open(journal, for_writing=False) as written:
        assert (place.seq, place.row_hash, place.number) == (written.last_seq, written.head_hash, EVENTS)
    events.close()


def test_another_journal_is_given_from_its_beginning(journal: Path, cursor: Path, tmp_path: Path) -> None:
    events = JournalEvents(journal, cursor)
    events.acknowledge(events.following(1_000)[-1])
    fresh = tmp_path / "fresh.sqlite"
    header = msgspec.structs.replace(HEADER, run_id="r2")
    write(fresh, header, quiet(0), *hedge(1), *hedge(2))
    fresh.replace(journal)
    assert numbers(events) == [1, 2, 3, 4, 5, 6, 7]
    assert events.recent() == ()
    events.close()
    for _ in range(2):
        again = JournalEvents(journal, cursor)  # the cursor is of the journal before, until something is acknowledged
        following = again.following(1_000)
        assert [one.number for one in following] == [1, 2, 3, 4, 5, 6, 7]
        again.close()
    again.acknowledge(following[-1])


def test_a_broken_cursor_gives_everything_rather_than_too_little(journal: Path, cursor: Path) -> None:
    cursor.write_bytes(b'{"run_id": "r1", "seq": ')
    events = JournalEvents(journal, cursor)
    assert numbers(events) == list(range(1, EVENTS + 1))
    events.close()


def test_no_journal_yet_is_nothing_to_give(tmp_path: Path, cursor: Path) -> None:
    events = JournalEvents(tmp_path / "later.sqlite", cursor)
    assert numbers(events) == []
    events.close()
    assert not cursor.exists()
    write(tmp_path / "later.sqlite", HEADER, quiet(1))
    assert numbers(events) == [1]
    events.close()
    tail = JournalTail(tmp_path / "later.sqlite")
    assert [one.number for one in read_all(tail)] == [1]
    tail.close()
