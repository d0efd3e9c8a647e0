"""Recording a live feed: market events go to disk in segments as they come, and become one recording at the end.

A segment is complete or it is not there: it is written and synced under another name and renamed. So a kill at any
point loses the rows since the last segment and nothing else, and whoever comes next finishes the recording from the
segments. It must never keep an event at a time when nobody could have known it, nor touch a finished recording before
the one that continues it is on disk.

Work in progress lies beside the destination, in `.NAME.segments`: `plan.json` with the words and instruments, one
numbered folder per segment, and at the end `assembled`, the new recording, until it takes the place of the old one,
which is then `replaced`.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import polars as pl

from bot.domain.errors import RecordingError
from bot.domain.events import Event
from bot.domain.instruments import Instrument
from bot.domain.market import FundingRate, IndexPrice, MarketEvent, OraclePrice, Quote, Settlement, VolQuote
from bot.domain.units import NS_PER_MIN, NS_PER_S
from bot.domain.venues import InstrumentListed
from bot.engine.market import CLOCK_TOLERANCE_NS
from bot.gateways.gateway import Clock, Gateway
from bot.runtime.live.clock import VenueClock
from bot.simulation.recording import (
    PRICE_STREAMS,
    SCHEMAS,
    Manifest,
    Origin,
    Recording,
    RecordingDraft,
    StreamDraft,
    check_destination,
    open_recording,
    write_recording,
)

MAX_LATE_NS: Final = 10 * NS_PER_MIN  # a replay shows an event at its own time, when nobody had it if it came later
MAX_SEGMENT_ROWS: Final = 200_000
ROLL_NS: Final = 10 * NS_PER_S
PART_ROWS: Final = 500_000
ZSTD_LEVEL: Final = 3  # whoever stops a recorder waits for it
TICK_S: Final = 0.2
DEFAULT_MAX_AGE_S: Final = 60.0
METHOD: Final = (
    "As the venues' own feeds said it, through Evenkeel's gateways; repeated messages are kept once, and what came "
    "over ten minutes late or from the future is left out."
)

STREAM_OF: Final[dict[type[Event], str]] = {
    IndexPrice: "index",
    Quote: "quotes",
    FundingRate: "funding",
    VolQuote: "vol_quotes",
    Settlement: "settlements",
}
# Segments name instruments, so that each can be read without what others know; what no event carries is 0, "none".
SEGMENT_SCHEMAS: Final[dict[str, dict[str, pl.DataType]]] = {
    name: {"instrument_id" if column == "instrument" else column: dtype for column, dtype in schema.items()}
    | ({"instrument_id": pl.String()} if "instrument" in schema else {})
    for name, schema in SCHEMAS.items()
}
CARRIED: Final[dict[str, frozenset[str]]] = {
    STREAM_OF[kind]: frozenset(kind.__struct_fields__)
    for kind in (IndexPrice, Quote, FundingRate, VolQuote, Settlement)
}


class Salvage(NamedTuple):
    """What a recorder that was killed had left: rows saved, and each segment dropped, by name, with the reason."""

    rows: int
    dropped: tuple[str, ...]


class _Plan(msgspec.Struct, frozen=True):
    name: str
    source: str
    licence: str
    notice: str
    notes: str
    max_age_s: dict[str, float]
    instruments: tuple[Instrument, ...]


class _Table(msgspec.Struct, frozen=True):
    rows: int
    first_ns: int
    sha256: str


class _Cut(NamedTuple):
    """What was gathered since the last segment, on its way to disk; `plan` where it lists more than the one there."""

    number: int
    events: dict[str, list[MarketEvent]]
    plan: _Plan | None


class Recorder:
    """Writes one recording: `write` as events come, `close` when done.

    A recorder that was killed is recovered from first; an existing recording is continued. `unwritten` counts, by
    reason, the market events left out.
    """

    def __init__(
        self,
        destination: Path,
        name: str,
        instruments: Iterable[Instrument],
        max_age_s: Mapping[str, float],
        *,
        source: str = "a live feed",
        licence: str = "not stated",
        notice: str = "",
        notes: str = "",
        max_segment_rows: int = MAX_SEGMENT_ROWS,
        roll_ns: int = ROLL_NS,
    ) -> None:
        """`destination` is a folder or a .zip; `max_age_s` is, by stream, how old its newest row may be in a replay.

        Raises RecordingError if the destination holds anything but a recording or one of other contracts under the same
        ids, if another recorder is at work there, or if nothing can be written.
        """
        self.salvage = Recorder.recover(destination)
        self.unwritten: Counter[str] = Counter()
        self._destination = destination
        self._instruments = {instrument.instrument_id: instrument for instrument in instruments}
        _check_contracts(destination, self._instruments)
        texts = (name, source, licence, notice, notes)
        self._plan = _Plan(*texts, dict(max_age_s), tuple(self._instruments.values()))
        self._max_segment_rows, self._roll_ns = max_segment_rows, roll_ns
        self._underlyings = {instrument.base for instrument in self._instruments.values()}
        self._events: dict[str, list[MarketEvent]] = {stream: [] for stream in SCHEMAS}
        self._rows = 0
        self._began_ns = 0
        self._cuts: deque[_Cut] = deque()
        self._cuts_made = 0
        self._storing = threading.Lock()
        folder = _work_folder(destination)
        with _disk_errors_named(folder):
            folder.mkdir(parents=True)
            self._lock = _take_lock(folder)
            _write_plan(folder, self._plan)

    def write(self, events: Sequence[Event]) -> None:
        """Take in what is market data or a new listing; the rest is none of a recording's business.

        Raises RecordingError if a segment is full and cannot be written.
        """
        for event in events:
            if isinstance(event, MarketEvent) and type(event) in STREAM_OF:  # a chain's words are not recorded
                if reason := self._problem(event):
                    self.unwritten[reason] += 1
                    continue
                if not self._rows:
                    self._began_ns = event.ts_recv_ns
                self._events[STREAM_OF[type(event)]].append(event)
                self._rows += 1
            elif isinstance(event, InstrumentListed):
                self._instruments.setdefault(event.instrument.instrument_id, event.instrument)
                self._underlyings.add(event.instrument.base)
        if self._rows >= self._max_segment_rows:
            self.roll()

    def is_due(self, now_ns: int) -> bool:
        """Tell whether the oldest event not on disk is older than a segment should grow."""
        return self._rows > 0 and now_ns - self._began_ns >= self._roll_ns

    def roll(self) -> None:
        """Put what was taken in on disk; it is safe there on return. Raises RecordingError if it cannot be."""
        self.cut()
        self.store()

    def cut(self) -> None:
        """End the segment that is being gathered, to be stored later."""
        if not self._rows:
            return
        plan = None
        if len(self._instruments) > len(self._plan.instruments):
            instruments = tuple(self._instruments.values())
            self._plan = plan = msgspec.structs.replace(self._plan, instruments=instruments)
        self._cuts_made += 1
        self._cuts.append(_Cut(self._cuts_made, self._events, plan))
        self._events = {stream: [] for stream in SCHEMAS}
        self._rows = 0

    def store(self) -> None:
        """Put what was cut on disk, from any thread. Raises RecordingError if it cannot be; it may be tried again."""
        folder = _work_folder(self._destination)
        with self._storing, _disk_errors_named(folder):
            while self._cuts:
                cut = self._cuts[0]
                if cut.plan is not None:
                    _write_plan(folder, cut.plan)
                _write_segment(folder, cut)
                self._cuts.popleft()

    def close(self) -> Manifest | None:
        """Finish the recording and return its manifest; None if not one price was recorded, and nothing is changed.

        Raises RecordingError if it cannot be written; the segments then stay for the next recorder to finish.
        """
        try:
            self.roll()
            _finish(self._destination)
        finally:
            os.close(self._lock)
        return open_recording(self._destination).manifest if self._destination.exists() else None

    @staticmethod
    def recover(destination: Path) -> Salvage:
        """Finish what a killed recorder left at `destination`; does nothing if nothing is left, or when done twice.

        Raises RecordingError if another recorder is at work there or the recording cannot be written.
        """
        folder = _work_folder(destination)
        with _disk_errors_named(folder):
            shutil.rmtree(_done_folder(destination), ignore_errors=True)
            if not folder.exists():
                return Salvage(0, ())
            lock = _take_lock(folder)
            try:
                return _finish(destination)
            finally:
                os.close(lock)

    def _problem(self, event: MarketEvent) -> str:
        late_ns = event.ts_recv_ns - event.ts_event_ns
        if late_ns < -CLOCK_TOLERANCE_NS:
            return "from the future"
        if late_ns > MAX_LATE_NS:
            return "too late"
        if isinstance(event, IndexPrice | Settlement | OraclePrice):
            return "" if event.underlying in self._underlyings else "underlying not listed"
        return "" if event.instrument_id in self._instruments else "instrument not listed"


async def record(
    gateways: Sequence[Gateway],
    recorder: Recorder,
    clock: Clock,
    stop: asyncio.Event,
    seconds: float | None = None,
    *,
    venue_clock: VenueClock | None = None,
) -> Manifest | None:
    """Record what connected `gateways` say until `stop` is set or `seconds` of `clock` have passed.

    Returns as `close` does. In a rehearsal `venue_clock` is moved on with what they say.

    Segments are written beside the loop, so that no event waits for the disk. However it ends, by an error or by
    cancellation too, the recording is finished first; signal handlers are the caller's.
    """

    def put(events: Sequence[Event]) -> None:
        recorder.write(events if venue_clock is None else venue_clock.take(events))

    ends_ns = None if seconds is None else clock.now_ns() + round(seconds * NS_PER_S)
    try:
        async with asyncio.TaskGroup() as tasks:
            feeds = [tasks.create_task(gateway.events(put), name=gateway.venue) for gateway in gateways]
            while not stop.is_set() and (ends_ns is None or clock.now_ns() < ends_ns):
                with suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S):
                        await stop.wait()
                if recorder.is_due(clock.now_ns()):
                    recorder.cut()
                    await asyncio.to_thread(recorder.store)
            for feed in feeds:
                feed.cancel()
    finally:
        manifest = await asyncio.to_thread(recorder.close)
    return manifest


# Segments -------------------------------------------------------------------------------------------------------------


def _write_plan(folder: Path, plan: _Plan) -> None:
    draft = folder / "plan.partial"
    _write_synced(draft, msgspec.json.encode(plan))
    draft.rename(folder / "plan.json")
    _sync(folder)


def _write_segment(folder: Path, cut: _Cut) -> None:
    partial = folder / f"{cut.number:08}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of an attempt that failed
    partial.mkdir()
    tables = {}
    for stream, events in cut.events.items():
        if events:
            frame = _frame(stream, events)
            path = partial / f"{stream}.parquet"
            frame.write_parquet(path)
            _sync(path)
            first_ns = min(event.ts_event_ns for event in events)
            tables[stream] = _Table(frame.height, first_ns, _sha256(path))
    _write_synced(partial / "segment.json", msgspec.json.encode(tables))
    _sync(partial)
    partial.rename(partial.with_suffix(""))
    _sync(folder)


def _frame(stream: str, events: Sequence[MarketEvent]) -> pl.DataFrame:
    schema, carried = SEGMENT_SCHEMAS[stream], CARRIED[stream]
    columns = {
        column: [getattr(event, column) for event in events] if column in carried else [0] * len(events)
        for column in schema
    }
    return pl.DataFrame(columns, schema=schema)


def _read_segment(segment: Path) -> dict[str, _Table]:
    """Return what a segment holds; raises RecordingError saying how it is not what was written."""
    if segment.suffix == ".partial":
        raise RecordingError("cut off while it was written")
    try:
        tables = msgspec.json.decode((segment / "segment.json").read_bytes(), type=dict[str, _Table])
        damaged = [stream for stream, table in tables.items() if _sha256(segment / f"{stream}.parquet") != table.sha256]
    except (OSError, msgspec.DecodeError) as error:
        raise RecordingError(f"unreadable: {error}") from error
    if damaged:
        raise RecordingError(f"damaged: {', '.join(damaged)} not as it was written")
    return tables


# Finishing: each step leaves files that tell the next one, or the next recorder, how far this one came ----------------


def _finish(destination: Path) -> Salvage:
    folder = _work_folder(destination)
    assembled = folder / ("assembled.zip" if destination.suffix == ".zip" else "assembled")
    replaced = folder / "replaced"
    salvage = Salvage(0, ())
    with _disk_errors_named(folder):
        if not assembled.exists() and not replaced.exists():
            salvage = _assemble(destination, folder, assembled)
        if assembled.exists():
            if destination.exists() and not replaced.exists():
                destination.rename(replaced)
            elif not replaced.exists():
                replaced.mkdir()  # nothing is replaced, but it tells that `assembled` went to its place
            assembled.rename(destination)
            _sync(folder)
            _sync(destination.parent)
        done = _done_folder(destination)
        folder.rename(done)  # at once: from here on nothing in it counts any more
        shutil.rmtree(done)
    return salvage


def _assemble(destination: Path, folder: Path, assembled: Path) -> Salvage:
    """Write what `destination` holds and all sound segments as one recording, unless there are no prices in them."""
    segments: list[tuple[Path, dict[str, _Table]]] = []
    dropped = []
    for path in sorted(path for path in folder.iterdir() if path.name[:8].isdecimal()):
        try:
            segments.append((path, _read_segment(path)))
        except RecordingError as problem:
            dropped.append(f"{path.name}: {problem}")
    salvage = Salvage(sum(table.rows for _, tables in segments for table in tables.values()), tuple(dropped))
    if not any(stream in tables for _, tables in segments for stream in PRICE_STREAMS):
        return salvage
    plan = msgspec.json.decode((folder / "plan.json").read_bytes(), type=_Plan)
    prior = open_recording(_as_path(destination)) if destination.exists() else None
    instruments = {each.instrument_id: each for each in (prior.manifest.instruments if prior else ())}
    instruments |= {each.instrument_id: instruments.get(each.instrument_id, each) for each in plan.instruments}
    parts = folder / "parts"
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir()
    numbers = {instrument_id: number for number, instrument_id in enumerate(instruments)}
    streams = {
        stream: StreamDraft(
            _sorted_table(stream, prior, segments, numbers, parts),
            plan.max_age_s.get(stream, DEFAULT_MAX_AGE_S),
            Origin.RECORDED,
            METHOD,
        )
        for stream in SCHEMAS
    }
    draft = RecordingDraft(
        name=plan.name,
        source=plan.source,
        licence=plan.licence,
        notice=plan.notice,
        notes=plan.notes,
        instruments=tuple(instruments.values()),
        depth=prior.manifest.depth if prior else {},
        streams=streams,
    )
    # Written under a third name, so that `assembled` is there only once it would survive a power cut.
    written = assembled.with_name(f"draft{assembled.suffix}")
    write_recording(written, draft, is_overwrite=True, zstd_level=ZSTD_LEVEL)
    for path in [*written.iterdir(), written] if written.is_dir() else [written]:
        _sync(path)
    written.rename(assembled)
    _sync(folder)
    return salvage


def _sorted_table(
    stream: str,
    prior: Recording | None,
    segments: Sequence[tuple[Path, dict[str, _Table]]],
    numbers: Mapping[str, int],
    parts: Path,
) -> pl.LazyFrame:
    """Return one stream by event time, repeated messages once, through files in `parts`.

    Rows wait in memory only while a later segment may hold earlier ones, which is a matter of seconds of feed.
    """
    holding = [(path, tables[stream]) for path, tables in segments if stream in tables]
    firsts = [table.first_ns for _, table in holding]
    # From each segment on, the earliest time still to come.
    earliest = [*reversed([*accumulate(reversed(firsts), min)])]
    waiting = pl.DataFrame(schema=SCHEMAS[stream])
    files: list[Path] = []
    ready: list[pl.DataFrame] = []

    def put_away(at_least: int) -> None:
        if sum(frame.height for frame in ready) >= max(at_least, 1):
            files.append(parts / f"{stream}-{len(files):06}.parquet")
            pl.concat(ready).write_parquet(files[-1], compression="lz4")
            ready.clear()

    if prior is not None and stream in prior.manifest.streams:
        table = prior.table(stream)
        if earliest:
            is_over = pl.col("ts_event_ns") < earliest[0]
            waiting = table.filter(~is_over).collect()
            table = table.filter(is_over)
        files.append(parts / f"{stream}-{len(files):06}.parquet")
        table.sink_parquet(files[-1], compression="lz4")
    for n, (path, _) in enumerate(holding):
        fresh = _numbered(pl.read_parquet(path / f"{stream}.parquet"), stream, numbers)
        waiting = _once(pl.concat([waiting, fresh]).sort("ts_event_ns", maintain_order=True))
        end = len(waiting)
        if n + 1 < len(holding):
            end = int(waiting.get_column("ts_event_ns").search_sorted(earliest[n + 1], side="left"))
        ready.append(waiting.head(end))
        waiting = waiting.slice(end)
        put_away(PART_ROWS)
    put_away(1)
    return pl.scan_parquet(files) if files else pl.LazyFrame(schema=SCHEMAS[stream])


def _numbered(frame: pl.DataFrame, stream: str, numbers: Mapping[str, int]) -> pl.DataFrame:
    if "instrument_id" in frame.columns:
        number = pl.col("instrument_id").replace_strict(numbers, return_dtype=pl.UInt16)
        frame = frame.with_columns(number.alias("instrument"))
    return frame.select(*SCHEMAS[stream])


def _once(frame: pl.DataFrame) -> pl.DataFrame:
    """Leave out rows that say exactly what the last one about the same thing said, at the same time."""
    key = "instrument" if "instrument" in frame.columns else "underlying"
    same = [pl.col(column).eq_missing(pl.col(column).shift().over(key)) for column in frame.columns if column != key]
    return frame.filter(~pl.all_horizontal(same))


# Files ----------------------------------------------------------------------------------------------------------------


def _work_folder(destination: Path) -> Path:
    return destination.with_name(f".{destination.name}.segments")


def _done_folder(destination: Path) -> Path:
    return destination.with_name(f".{destination.name}.done")


def _as_path(destination: Path) -> Path:
    """Return the path in full: a bare name could be that of a recording that comes with Evenkeel."""
    return destination.absolute()


def _check_contracts(destination: Path, instruments: Mapping[str, Instrument]) -> None:
    check_destination(destination, is_overwrite=True)
    if not destination.exists():
        return
    for known in open_recording(_as_path(destination)).manifest.instruments:
        if instruments.get(known.instrument_id, known) != known:
            raise RecordingError(
                f"{destination}: expected {known.instrument_id} as it was when the recording began, found other terms"
                " of contract; hint: begin another recording"
            )


def _take_lock(folder: Path) -> int:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise RecordingError(
            f"{folder}: expected to be the only recorder of this recording, found another at work; "
            "hint: stop it, or record to another destination"
        ) from None
    return handle


@contextmanager
def _disk_errors_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, msgspec.DecodeError, pl.exceptions.PolarsError) as error:
        raise RecordingError(
            f"{folder}: expected to write a recording there, found: {error}; hint: look at the disk, then record again:"
            " what is in complete segments is kept"
        ) from error


def _write_synced(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    _sync(path)


def _sync(path: Path) -> None:
    """Return when the disk has a file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
