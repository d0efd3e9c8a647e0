"""A journal as it grows: what its new rows tell, read-only, while a daemon in another process writes them.

It must never hold the writer up, never miss a row and never number an event otherwise than another reading would.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from bot.domain.errors import JournalError, RecordingError
from bot.domain.instruments import Instrument
from bot.domain.venues import InstrumentListed
from bot.domain.windows import Told
from bot.runtime.journal import Header, Journal, StoredRow
from bot.telemetry.telling import TOLD_TYPES, Line, ToldThing, is_tagged, tag_pattern, tell, tell_start

ROWS_AT_A_TIME: Final = 500  # some milliseconds, after which others in the process have their turn


class _RawBatch(msgspec.Struct, tag="batch"):
    now_ns: int
    events: list[msgspec.Raw]


class _RawCommands(msgspec.Struct, tag="commands"):
    now_ns: int
    commands: list[msgspec.Raw]


_TOLD: Final = tag_pattern()
_LISTING: Final = tag_pattern((InstrumentListed,))
_WANTED: Final = tag_pattern((*TOLD_TYPES, InstrumentListed))
_ROW: Final = msgspec.msgpack.Decoder(_RawBatch | _RawCommands)
_HEADER: Final = msgspec.msgpack.Decoder(Header)
_THING: Final = msgspec.msgpack.Decoder(ToldThing)
_LISTED: Final = msgspec.msgpack.Decoder(InstrumentListed)
_LISTED_TAG: Final = msgspec.msgpack.encode("type") + msgspec.msgpack.encode("instrument_listed")


class JournalTail:
    """Follows one journal from where a reading before it stopped: behind row `after_seq`, `number` events told.

    `row_hash` is the hash of that row, where it is known ("" not): a journal that has another row there, or none, is
    another run's, and is told from its beginning. So is one that stands in the place of the one that was read.
    """

    def __init__(self, path: Path, after_seq: int = 0, number: int = 0, row_hash: str = "") -> None:
        self._path = path
        self._journal: Journal | None = None
        self._stack = ExitStack()
        self._inode = 0
        self._after_seq = after_seq if number else -1  # the header is the first event: none told, nothing read
        self._number = number
        self._row_hash = row_hash
        self._header: Header | None = None
        self._instruments: dict[str, Instrument | None] = {}
        self._is_behind = False
        self._version: int | None = None  # of the journal as it was read to its end
        self._found_seq: int | None = None

    @property
    def after_seq(self) -> int:
        """The last row that was read; -1 before the first."""
        return self._after_seq

    @property
    def number(self) -> int:
        """The number of the last event that was read; 0 before the first."""
        return self._number

    @property
    def row_hash(self) -> str:
        """Hash of the last row that was read, in hexadecimal; "" before the first."""
        return self._row_hash

    @property
    def run_id(self) -> str:
        """Whose journal it is; "" until it was there to be read."""
        return self._header.run_id if self._header is not None else ""

    @property
    def found_seq(self) -> int:
        """The row that was last when the first reading began; -1 where the journal came later than it, or never."""
        return -1 if self._found_seq is None else self._found_seq

    @property
    def is_behind(self) -> bool:
        """Tell whether the last reading stopped short of the journal's end, so that another one is worth it now."""
        return self._is_behind

    def read(self, limit: int = 1_000) -> list[Told]:
        """Return about the next `limit` events, all of a row or none; none while there is no journal.

        One call looks at a bounded number of rows; whoever wants all reads until not `is_behind`. Raises `JournalError`
        for what is no journal or cannot be read; the next call tries again.
        """
        if not self._is_open():
            self._is_behind = False
            return []
        assert self._journal is not None
        told: list[Told] = []
        try:
            version = self._journal.version()
            if version == self._version and not self._is_behind:
                return []
            self._version = version  # before the rows: what comes meanwhile is read again
            rows = self._journal.stored(self._after_seq, ROWS_AT_A_TIME)
            self._is_behind = len(rows) == ROWS_AT_A_TIME
            for place, row in enumerate(rows):
                if len(told) >= limit:
                    self._is_behind = True
                    break
                if row.kind == "header" and len(rows) == 1:
                    break  # when the run began is what its next row says
                told += self._told(row, began_ns=_now_ns(rows[place + 1]) if row.kind == "header" else 0)
                self._after_seq, self._row_hash = row.seq, row.hash.hex()
        except JournalError:
            self.close()
            raise
        except msgspec.DecodeError as error:
            self.close()
            where = f"{self._path}: row {self._after_seq + 1}"
            hint = "hint: `evenkeel journal verify` says how far it holds"
            raise JournalError(f"{where}: expected a row of this version, found {error}; {hint}") from error
        return told

    def hash_of(self, seq: int) -> str:
        """Return the hash of a row, as the next tail wants it; "" where it is not to be had."""
        rows = self._journal.stored(seq - 1, 1) if self._journal is not None else []
        return rows[0].hash.hex() if rows and rows[0].seq == seq else ""

    def close(self) -> None:
        """Let go of the file; the next reading opens it again."""
        self._stack.close()
        self._journal = self._version = None

    # Opening

    def _is_open(self) -> bool:
        try:
            inode = self._path.stat().st_ino
        except OSError:
            self._found_seq = -1
            self.close()
            return False
        if self._journal is not None and inode == self._inode:
            return True
        self.close()
        journal = self._stack.enter_context(Journal.open(self._path, for_writing=False))
        try:
            if journal.is_empty:
                self._found_seq = -1
                self.close()
                return False
            header = journal.header
        except JournalError:
            self.close()
            raise
        self._journal, self._inode = journal, inode
        if self._found_seq is None:
            self._found_seq = journal.last_seq
        if not self._goes_on(journal, header):
            if self._header is not None:
                self._found_seq = -1  # in another one's place: all of it is new
            self._after_seq, self._number, self._row_hash = -1, 0, ""
        if header != self._header:
            self._header = header
            self._instruments = {one.instrument_id: one for one in _instruments(header)}
        return True

    def _goes_on(self, journal: Journal, header: Header) -> bool:
        if self._after_seq < 0 or (self._header is not None and header != self._header):
            return False
        rows = journal.stored(self._after_seq - 1, 1)
        if not rows or rows[0].seq != self._after_seq:
            return False
        return self._row_hash in {"", rows[0].hash.hex()}

    # Telling

    def _told(self, row: StoredRow, began_ns: int) -> list[Told]:
        is_quiet = _WANTED.search(row.payload) is None  # market data, as most rows are
        if not is_quiet and _LISTING.search(row.payload):
            self._learn(row.payload)
        if row.kind == "header":
            header = _HEADER.decode(row.payload)
            now_ns, lines = began_ns, [tell_start(header.evenkeel_version, header.recording, header.config_sha256)]
        elif is_quiet:
            return []
        else:
            record = _ROW.decode(row.payload)
            now_ns = record.now_ns
            things = record.events if isinstance(record, _RawBatch) else record.commands
            lines = [line for raw in things if is_tagged(_TOLD, raw) for line in self._lines(raw, row.seq)]
        return [self._number_it(row.seq, now_ns, line) for line in lines]

    def _lines(self, raw: msgspec.Raw, seq: int) -> tuple[Line, ...]:
        return tell(_THING.decode(raw), lambda instrument_id: self._instrument(instrument_id, seq))

    def _number_it(self, seq: int, now_ns: int, line: Line) -> Told:
        assert self._header is not None
        self._number += 1
        return Told(
            vault=self._header.vault,
            run_id=self._header.run_id,
            number=self._number,
            seq=seq,
            now_ns=now_ns,
            kind=line.kind,
            order_id=line.order_id,
            text=line.text,
            fields=line.fields,
        )

    def _instrument(self, instrument_id: str, seq: int) -> Instrument | None:
        if instrument_id not in self._instruments:
            # Listed since the run began, before the rows that were read here: only the journal knows.
            assert self._journal is not None
            self._instruments[instrument_id] = None
            for row in self._journal.stored_with(_LISTED_TAG, seq):
                self._learn(row.payload)
        return self._instruments[instrument_id]

    def _learn(self, payload: bytes) -> None:
        record = _ROW.decode(payload)
        if isinstance(record, _RawBatch):
            for raw in record.events:
                if is_tagged(_LISTING, raw):
                    instrument = _LISTED.decode(raw).instrument
                    self._instruments[instrument.instrument_id] = instrument


def _instruments(header: Header) -> tuple[Instrument, ...]:
    """Return the contracts of a run: of its header, or of its recording; none where that is not to be had."""
    if header.recording is None:
        return header.instruments
    from bot.simulation.recording import recorded_instruments  # noqa: PLC0415 — memory that a live desk need not spend

    try:
        return recorded_instruments(header.recording)
    except RecordingError:
        return ()


def _now_ns(row: StoredRow) -> int:
    now_ns: int = _ROW.decode(row.payload).now_ns
    return now_ns
