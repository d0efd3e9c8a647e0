"""The events of a vault's journal for whoever must have every one of them, remembered on disk across restarts.

What is remembered is the place in the journal up to which events were acknowledged, and the newest of them.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from bot.domain.windows import Told
from bot.runtime.journal_tail import JournalTail

OVERLAP: Final = 20  # events that are told again after each break: a broker may die with the last ones it took
RECENT: Final = 100

log = structlog.get_logger()


class Cursor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Read on behind row `seq` of that hash, where `number` events were acknowledged, `recent` being the newest."""

    run_id: str
    seq: int
    number: int
    row_hash: str
    recent: tuple[Told, ...]


class JournalEvents:
    """The events of one journal in order, acknowledged by number; `cursor_path` is where that is written down.

    At most `RECENT` acknowledged events and one reading of others are held, whatever there is to read.
    """

    def __init__(self, journal_path: Path, cursor_path: Path) -> None:
        self._cursor_path = cursor_path
        cursor = read_cursor(cursor_path)
        self._run_id = cursor.run_id if cursor else ""
        self._newest = cursor.number if cursor else 0  # read, acknowledged or not
        self._tail = tail_from(journal_path, cursor)
        self._recent: deque[Told] = deque(cursor.recent if cursor else (), maxlen=RECENT)
        self._held: deque[Told] = deque()  # read, and not acknowledged
        self._given = 0  # of those held
        self._again: list[Told] = []  # acknowledged, and to be told again
        self._written = cursor

    def following(self, limit: int) -> Sequence[Told]:
        """Return the next events, about `limit` of them; none if there are none yet. Raises JournalError."""
        if self._again:
            again, self._again = self._again, []
            return again
        if self._given == len(self._held):
            self._take(self._tail.read(limit))
        following = list(self._held)[self._given : self._given + limit]
        self._given += len(following)
        return following

    def acknowledge(self, told: Told) -> None:
        """Take note that this event and those before it are had."""
        if told.run_id != self._run_id:
            return
        while self._held and self._held[0].number <= told.number:
            self._recent.append(self._held.popleft())
            self._given = max(0, self._given - 1)

    @property
    def is_behind(self) -> bool:
        """Tell whether there is more of the journal to be read now, with events in it or not."""
        return self._tail.is_behind

    def rewind(self) -> None:
        """Go back to what was not acknowledged, and a little further."""
        self._given = 0
        self._again = list(self._recent)[-OVERLAP:]

    def recent(self) -> Sequence[Told]:
        """Return the newest events that were acknowledged, oldest first."""
        return tuple(self._recent)

    def flush(self) -> None:
        """Write down how far it is, if that has changed. Raises OSError."""
        cursor = self._cursor()
        if cursor is None or cursor == self._written:
            return
        partial = self._cursor_path.with_name(f"{self._cursor_path.name}.partial")
        partial.write_bytes(msgspec.json.encode(cursor))
        partial.replace(self._cursor_path)
        self._written = cursor

    def close(self) -> None:
        """Write down how far it is, and let go of the journal."""
        try:
            self.flush()
        finally:
            self._tail.close()

    def _take(self, read: Sequence[Told]) -> None:
        for told in read:
            if told.run_id != self._run_id or told.number <= self._newest:
                if self._run_id:
                    log.warning("journal.replaced", vault=told.vault, run=told.run_id)
                self._recent.clear()
                self._held.clear()
                self._run_id, self._given = told.run_id, 0
            self._newest = told.number
            self._held.append(told)

    def _cursor(self) -> Cursor | None:
        recent = tuple(self._recent)
        place = self._tail.after_seq, self._tail.number, self._tail.row_hash
        if self._held:
            # Events of one row belong together: go on before the row whose events are not all acknowledged.
            seq = self._held[0].seq
            before = tuple(told for told in recent if told.seq < seq)
            if recent and not before:
                return self._written
            place = seq - 1, self._held[0].number - 1 - (len(recent) - len(before)), self._tail.hash_of(seq - 1)
            recent = before
        if place[1] == 0 or self._tail.run_id != self._run_id:
            return self._written  # nothing is had yet, or nothing was read
        return Cursor(self._run_id, *place, recent)


def tail_from(journal_path: Path, cursor: Cursor | None) -> JournalTail:
    """Return a reading of a journal that goes on from a cursor, or begins where there is none."""
    if cursor is None:
        return JournalTail(journal_path)
    return JournalTail(journal_path, cursor.seq, cursor.number, cursor.row_hash)


def read_cursor(path: Path) -> Cursor | None:
    """Return what was remembered in a file; None where there is none, or none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Cursor)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeError) as error:
        # Told again from the beginning, which readers know by the numbers; better than to leave events out.
        log.warning("cursor.unreadable", path=os.fspath(path), error=str(error))
        return None
