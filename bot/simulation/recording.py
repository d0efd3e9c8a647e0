"""Recordings: real markets kept as Parquet tables beside a manifest, read back as events in the order they happened.

A recording is a folder or a zip; `docs/recordings.md` describes it. Reading must never show an event before one that
happened earlier, hold a whole recording in memory, judge a price (refusing bad quotes is the engine's work), or repair
what it reads.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from io import SEEK_END, BufferedReader, BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from bot.domain.errors import RecordingError
from bot.domain.instruments import Instrument
from bot.domain.market import FundingRate, IndexPrice, MarketEvent, Quote, Settlement, VolQuote
from bot.domain.units import NS_PER_S
from bot.simulation.depth import DepthProfile

FORMAT_VERSION: Final = 1
MANIFEST_FILE: Final = "manifest.json"
BUNDLED: Final = Path(__file__).parent / "recordings"
GAS_DAY: Final = BUNDLED / "ethereum-gas-2023-08-16.csv"
SLICE_ROWS: Final = 16_384
ROW_GROUP_ROWS: Final = 65_536
PARQUET_MAGIC: Final = b"PAR1"
REIMPORT: Final = "fetch the recording again, or make it anew with `evenkeel import`"

_F64: Final = pl.Float64()
_INSTRUMENT: Final = {"ts_event_ns": pl.Int64(), "instrument": pl.UInt16()}
_UNDERLYING: Final = {"ts_event_ns": pl.Int64(), "underlying": pl.String()}
_BOOK: Final = {"bid_px": _F64, "bid_base": _F64, "ask_px": _F64, "ask_base": _F64}
_VOLS: Final = {"mark_vol": _F64, "bid_vol": _F64, "ask_vol": _F64, "forward_px": _F64}

# `instrument` is the position in the manifest's list of instruments. Events of one time come in the order of the
# streams here: what moves the underlying first, then what is priced on it, and a settlement only after the last price.
SCHEMAS: Final[dict[str, dict[str, pl.DataType]]] = {
    "index": {**_UNDERLYING, "px": _F64},
    "quotes": {**_INSTRUMENT, **_BOOK},
    "funding": {**_INSTRUMENT, "rate": _F64},
    "vol_quotes": {**_INSTRUMENT, **_VOLS, **_BOOK, "mark_px": _F64},
    "settlements": {**_UNDERLYING, "expiry_ns": pl.Int64(), "px": _F64, "samples": pl.UInt32()},
}
PRICE_STREAMS: Final = ("index", "quotes", "vol_quotes")


class Origin(StrEnum):
    """Whether a stream was recorded at the venue or worked out from what was."""

    RECORDED = "recorded"
    DERIVED = "derived"


class Stream(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table: its file, what it must contain, how old its newest row may be used, and how it came about."""

    file: str
    rows: int
    sha256: str
    max_age_s: float
    origin: Origin
    method: str


class Gap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A silence: no price of any stream strictly between these two times."""

    from_ns: int
    to_ns: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a recording holds and where it comes from; `depth` is by instrument id, `gaps` are silences over `gap_s`."""

    format_version: int
    name: str
    source: str
    licence: str
    notice: str
    notes: str
    start_ns: int
    end_ns: int
    gap_s: float
    gaps: tuple[Gap, ...]
    streams: dict[str, Stream]
    depth: dict[str, DepthProfile]
    instruments: tuple[Instrument, ...]


class StreamDraft(NamedTuple):
    """A stream to be written: a table sorted by `ts_event_ns`, and the words of its manifest entry."""

    table: pl.LazyFrame
    max_age_s: float
    origin: Origin
    method: str


class RecordingDraft(NamedTuple):
    """A recording to be written; span, gaps, row counts and checksums are worked out from its tables."""

    name: str
    source: str
    licence: str
    notice: str
    notes: str
    instruments: tuple[Instrument, ...]
    depth: Mapping[str, DepthProfile]
    streams: Mapping[str, StreamDraft]
    gap_s: float = 300.0


class Recording:
    """An opened recording. Any number of readers may walk through it, each from where it likes."""

    def __init__(self, manifest: Manifest, tables: Mapping[str, pl.LazyFrame]) -> None:
        self.manifest = manifest
        self._tables = tables

    def table(self, stream: str) -> pl.LazyFrame:
        """Return one whole table, lazily: also the columns no event carries, such as the coin quotes of options."""
        return self._tables[stream]

    def events(self, feed_latency_ns: int = 0, start_after_ns: int | None = None) -> Iterator[MarketEvent]:
        """Yield every event later than `start_after_ns`, ordered by `ts_event_ns`.

        Events of one time keep the order of `SCHEMAS`, and within a stream that of the source. `ts_recv_ns` is
        `ts_event_ns + feed_latency_ns`; `seq` is the event's number in the whole recording, wherever reading started.
        Raises RecordingError when a table turns out unsorted, incomplete or to name an instrument the manifest has not.
        """
        for window in self._windows(feed_latency_ns, start_after_ns):
            yield from window.events

    def batches(self, feed_latency_ns: int = 0, start_after_ns: int | None = None) -> Iterator[list[MarketEvent]]:
        """Yield the events of `events`, in one list per distinct `ts_recv_ns`."""
        for window in self._windows(feed_latency_ns, start_after_ns):
            events = window.events
            edges = [0, *(np.flatnonzero(np.diff(window.ts_event_ns)) + 1).tolist(), len(events)]
            for first, end in pairwise(edges):
                yield events[first:end]

    def _windows(self, feed_latency_ns: int, start_after_ns: int | None) -> Iterator[_Window]:
        """Yield stretches of time, each holding every event of every stream within it; no time is split over two."""
        ids = [instrument.instrument_id for instrument in self.manifest.instruments]
        present = [name for name in SCHEMAS if name in self._tables]
        cursors = [_Cursor(name, self._tables[name], self.manifest.streams[name].rows, len(ids)) for name in present]
        if start_after_ns is not None:
            for cursor in cursors:
                cursor.skip_through(start_after_ns)
        seq = sum(cursor.next_row for cursor in cursors)
        while open_cursors := [cursor for cursor in cursors if cursor.fill()]:
            # Beyond the earliest end of what is buffered, a stream may still have rows we have not seen.
            cut_ns = min((cursor.last_ns for cursor in open_cursors if not cursor.is_read), default=None)
            parts = [(cursor.name, frame) for cursor in open_cursors if (frame := cursor.take_before(cut_ns)).height]
            if not parts:
                for cursor in open_cursors:
                    cursor.read_on()
                continue
            window = _merge(parts, ids, seq, feed_latency_ns)
            seq += len(window.events)
            yield window


def bundled_names() -> list[str]:
    """Return the names of the recordings that come with Evenkeel."""
    return sorted(folder.name for folder in BUNDLED.iterdir() if (folder / MANIFEST_FILE).is_file())


def recorded_gas_prices_wei() -> tuple[float, ...]:
    """Return what a unit of gas cost on Ethereum in each minute of 16 August 2023, tips included.

    Another time than the recordings of options are of: what it lends a replay is the shape of a day.
    """
    return tuple((pl.read_csv(GAS_DAY)["gas_price_gwei"] * 1e9).to_list())


def open_recording(name_or_path: str | Path) -> Recording:
    """Open and check a recording: a bundled name, a folder, or a zip (whose compressed tables are held in memory).

    A bundled name wins over a folder of that name; write `./name` for the folder. Checked here are the manifest, and of
    every table that it is whole, and has the columns, rows and checksum it should. Raises RecordingError.
    """
    store = _store(name_or_path)
    manifest = _decode_manifest(store)
    tables = {name: _open_table(store, name, stream) for name, stream in manifest.streams.items()}
    return Recording(manifest, tables)


def recorded_instruments(name_or_path: str | Path) -> tuple[Instrument, ...]:
    """Return the contracts of a recording, whose tables are not looked at. Raises RecordingError."""
    return _decode_manifest(_store(name_or_path)).instruments


def write_recording(
    destination: Path, draft: RecordingDraft, *, is_overwrite: bool = False, zstd_level: int = 19
) -> Manifest:
    """Write a recording as a folder, or as a zip if `destination` ends in .zip, and return its manifest.

    The highest `zstd_level`, 19, is for recordings that are made once and read often; 3 is several times as fast.
    It is written under another name beside the destination and renamed when complete, so that there is never half of
    one. Raises RecordingError if the destination may not be used, or if a table is unsorted or there are no prices.
    """
    check_destination(destination, is_overwrite=is_overwrite)
    partial = destination.with_name(f".{destination.name}.partial")
    _remove(partial)
    partial.mkdir(parents=True)
    try:
        streams = {
            name: _write_table(partial, name, draft.streams[name], zstd_level)
            for name in SCHEMAS
            if name in draft.streams
        }
        manifest = _manifest_of(partial, draft, streams)
        (partial / MANIFEST_FILE).write_bytes(_encode_manifest(manifest))
        finished = _zip(partial) if destination.suffix == ".zip" else partial
        _swap(finished, destination)
    finally:
        _remove(partial)
    return manifest


def check_destination(destination: Path, *, is_overwrite: bool = False) -> None:
    """Raise RecordingError unless a recording may be written there: the name is free, or holds one to be replaced."""
    if not destination.name:
        raise _fault(destination, "a name for the recording", "none", "give a folder that does not exist yet")
    if not destination.exists():
        return
    if not is_overwrite:
        raise _fault(destination, "a new name", "it taken", "choose another, or --overwrite")
    if not (zipfile.is_zipfile(destination) or (destination / MANIFEST_FILE).is_file()):
        raise _fault(destination, "a recording to overwrite", "something else", "remove it yourself if you mean to")


# Reading, in time order ----------------------------------------------------------------------------------------------


class _Window(NamedTuple):
    events: list[MarketEvent]
    ts_event_ns: NDArray[np.int64]


class _Cursor:
    """A place in one table, and the slice of it that is read but not yet shown."""

    def __init__(self, name: str, table: pl.LazyFrame, rows: int, instruments: int) -> None:
        self.name = name
        self.next_row = 0
        self._table = table
        self._rows = rows
        self._instruments = instruments
        self._slice = pl.DataFrame(schema=SCHEMAS[name])
        self._last_read_ns = np.iinfo(np.int64).min

    @property
    def is_read(self) -> bool:
        return self.next_row >= self._rows

    @property
    def last_ns(self) -> int:
        return int(self._slice.item(-1, "ts_event_ns"))

    def skip_through(self, ts_event_ns: int) -> None:
        self.next_row = int(self._table.select((pl.col("ts_event_ns") <= ts_event_ns).sum()).collect().item())

    def fill(self) -> bool:
        """Read a slice if none is at hand; tell whether there is anything left to show."""
        if not self._slice.height:
            self.read_on()
        return self._slice.height > 0

    def read_on(self) -> None:
        """Add the next slice to what is at hand."""
        if self.is_read:
            return
        fresh = self._table.slice(self.next_row, SLICE_ROWS).collect()
        self._check(fresh)
        self.next_row += fresh.height
        self._slice = fresh if not self._slice.height else pl.concat([self._slice, fresh])

    def take_before(self, cut_ns: int | None) -> pl.DataFrame:
        """Hand over the rows before `cut_ns`, or all of them."""
        if cut_ns is None:
            count = self._slice.height
        else:
            count = int(self._slice.get_column("ts_event_ns").search_sorted(cut_ns, side="left"))
        taken, self._slice = self._slice.head(count), self._slice.slice(count)
        return taken

    def _check(self, fresh: pl.DataFrame) -> None:
        where = f"stream {self.name}, rows {self.next_row} to {self.next_row + fresh.height - 1}"
        if any(column.null_count() for column in fresh):
            raise _fault(where, "a value in every column", "empty ones")
        ts = fresh.get_column("ts_event_ns")
        if not ts.is_sorted() or ts[0] < self._last_read_ns:
            raise _fault(where, "ts_event_ns in ascending order", "it falling")
        self._last_read_ns = ts[-1]
        if "instrument" in fresh.columns:
            highest = int(fresh.get_column("instrument").to_numpy().max())
            if highest >= self._instruments:
                raise _fault(where, f"instrument numbers below {self._instruments}", highest)


def _merge(parts: list[tuple[str, pl.DataFrame]], ids: list[str], first_seq: int, feed_latency_ns: int) -> _Window:
    """Interleave the parts by time; the sort is stable, so ties keep the order of the parts and of their rows."""
    ts = np.concatenate([frame.get_column("ts_event_ns").to_numpy() for _, frame in parts])
    order = np.argsort(ts, kind="stable")
    seqs = np.empty(len(ts), np.int64)
    seqs[order] = np.arange(first_seq, first_seq + len(ts))
    events: list[MarketEvent] = []
    for name, frame in parts:
        end = len(events) + frame.height
        recv_ns = (ts[len(events) : end] + feed_latency_ns).tolist()
        events += BUILDERS[name](frame, ids, recv_ns, seqs[len(events) : end].tolist())
    return _Window([events[i] for i in order.tolist()], ts[order])


_Builder = Callable[[pl.DataFrame, list[str], list[int], list[int]], list[MarketEvent]]


def _columns(frame: pl.DataFrame, *names: str) -> list[list[Any]]:
    return [frame.get_column(name).to_list() for name in names]


def _index_prices(frame: pl.DataFrame, _ids: list[str], recv_ns: list[int], seqs: list[int]) -> list[MarketEvent]:
    rows = zip(*_columns(frame, "underlying", "px", "ts_event_ns"), recv_ns, seqs, strict=True)
    return [IndexPrice(u, px, t, r, s) for u, px, t, r, s in rows]


def _quotes(frame: pl.DataFrame, ids: list[str], recv_ns: list[int], seqs: list[int]) -> list[MarketEvent]:
    rows = zip(*_columns(frame, "instrument", *_BOOK, "ts_event_ns"), recv_ns, seqs, strict=True)
    return [Quote(ids[i], bid, bid_base, ask, ask_base, t, r, s) for i, bid, bid_base, ask, ask_base, t, r, s in rows]


def _funding_rates(frame: pl.DataFrame, ids: list[str], recv_ns: list[int], seqs: list[int]) -> list[MarketEvent]:
    rows = zip(*_columns(frame, "instrument", "rate", "ts_event_ns"), recv_ns, seqs, strict=True)
    return [FundingRate(ids[i], rate, t, r, s) for i, rate, t, r, s in rows]


def _vol_quotes(frame: pl.DataFrame, ids: list[str], recv_ns: list[int], seqs: list[int]) -> list[MarketEvent]:
    columns = _columns(frame, "instrument", *_VOLS, "ts_event_ns", "bid_base", "ask_base")
    rows = zip(*columns[:-2], recv_ns, seqs, *columns[-2:], strict=True)
    return [VolQuote(ids[row[0]], *row[1:]) for row in rows]


def _settlements(frame: pl.DataFrame, _ids: list[str], recv_ns: list[int], seqs: list[int]) -> list[MarketEvent]:
    rows = zip(*_columns(frame, "underlying", "expiry_ns", "px", "ts_event_ns"), recv_ns, seqs, strict=True)
    return [Settlement(u, expiry, px, t, r, s) for u, expiry, px, t, r, s in rows]


BUILDERS: Final[dict[str, _Builder]] = {
    "index": _index_prices,
    "quotes": _quotes,
    "funding": _funding_rates,
    "vol_quotes": _vol_quotes,
    "settlements": _settlements,
}


# Opening -------------------------------------------------------------------------------------------------------------


class _Store(NamedTuple):
    """Where files are read from: a folder, or a zip and the folder inside it."""

    path: Path
    is_zip: bool
    prefix: str

    def open(self, file: str) -> BufferedReader | BytesIO:
        """Return the file, unpacked in memory if it is zipped; raises RecordingError if there is none."""
        try:
            if not self.is_zip:
                return (self.path / file).open("rb")
            with zipfile.ZipFile(self.path) as archive:
                return BytesIO(archive.read(self.prefix + file))
        except (FileNotFoundError, KeyError):
            raise _fault(self.path, f"a file {file} in it", "none") from None
        except (OSError, zipfile.BadZipFile) as error:
            raise _fault(self.path, f"a readable file {file}", error) from error


def _store(name_or_path: str | Path) -> _Store:
    bundled = bundled_names()
    path = BUNDLED / name_or_path if str(name_or_path) in bundled else Path(name_or_path)
    if path.is_dir():
        return _Store(path, is_zip=False, prefix="")
    if not path.is_file():
        expected = "a recording (a bundled name, a folder or a .zip)"
        raise _fault(name_or_path, expected, "nothing there", f"the bundled ones are {', '.join(bundled) or 'none'}")
    try:
        with zipfile.ZipFile(path) as archive:
            manifests = [name for name in archive.namelist() if name.split("/")[-1] == MANIFEST_FILE]
    except zipfile.BadZipFile as error:
        raise _fault(path, "a zip or a folder", error) from error
    if len(manifests) != 1:
        raise _fault(path, f"one {MANIFEST_FILE} in it", len(manifests), "one zip holds one recording")
    return _Store(path, is_zip=True, prefix=manifests[0].removesuffix(MANIFEST_FILE))


class _Version(msgspec.Struct):
    format_version: int


def _decode_manifest(store: _Store) -> Manifest:
    where = f"{store.path}/{MANIFEST_FILE}"
    with store.open(MANIFEST_FILE) as file:
        text = file.read()
    try:
        version = msgspec.json.decode(text, type=_Version).format_version
        if version != FORMAT_VERSION:
            raise _fault(where, f"format_version {FORMAT_VERSION}", version, "import it again with this Evenkeel")
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.DecodeError as error:
        raise _fault(where, "a manifest", error) from error
    if outside := sorted(stream.file for stream in manifest.streams.values() if Path(stream.file).name != stream.file):
        raise _fault(where, "files beside the manifest", ", ".join(outside))
    if unknown := sorted(manifest.streams.keys() - SCHEMAS.keys()):
        raise _fault(where, f"streams among {', '.join(SCHEMAS)}", ", ".join(unknown))
    ids = [instrument.instrument_id for instrument in manifest.instruments]
    if len(set(ids)) != len(ids):
        raise _fault(where, "every instrument_id once", f"{len(ids) - len(set(ids))} repeated")
    if unknown := sorted(manifest.depth.keys() - set(ids)):
        raise _fault(where, "depth of listed instruments only", ", ".join(unknown))
    return manifest


def _open_table(store: _Store, name: str, stream: Stream) -> pl.LazyFrame:
    """Return the table, checked from the plainest fault to the finest, so that the error names the real one."""
    where = f"{store.path}/{stream.file} (stream {name})"
    with store.open(stream.file) as file:
        size = file.seek(0, SEEK_END)
        file.seek(-min(size, len(PARQUET_MAGIC)), SEEK_END)
        if file.read() != PARQUET_MAGIC:
            raise _fault(where, "a whole Parquet file", f"{size:,} bytes of a truncated or another one")
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        source = file.getvalue() if isinstance(file, BytesIO) else store.path / stream.file
    table = pl.scan_parquet(source)
    try:
        found = dict(table.collect_schema())
        rows = int(table.select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _fault(where, "a readable Parquet file", str(error).splitlines()[0]) from error
    if found != (expected := SCHEMAS[name]):
        raise _fault(where, *_difference(expected, found))
    if rows != stream.rows:
        raise _fault(where, f"{stream.rows:,} rows", f"{rows:,}")
    if digest != stream.sha256:
        raise _fault(where, f"sha256 {stream.sha256}", digest)
    return table


def _difference(expected: Mapping[str, pl.DataType], found: Mapping[str, pl.DataType]) -> tuple[str, str]:
    for column, dtype in expected.items():
        if column not in found:
            return f"a column {column} of type {dtype}", f"columns {', '.join(found)}"
        if found[column] != dtype:
            return f"column {column} of type {dtype}", f"type {found[column]}"
    return f"the columns {', '.join(expected)}", ", ".join(found)


def _fault(where: object, expected: str, found: object, hint: str = REIMPORT) -> RecordingError:
    return RecordingError(f"{where}: expected {expected}, found {found}; hint: {hint}")


# Writing -------------------------------------------------------------------------------------------------------------


def _write_table(folder: Path, name: str, draft: StreamDraft, zstd_level: int) -> Stream:
    file = folder / f"{name}.parquet"
    table = draft.table.select(pl.col(column).cast(dtype) for column, dtype in SCHEMAS[name].items())
    table.sink_parquet(file, compression="zstd", compression_level=zstd_level, row_group_size=ROW_GROUP_ROWS)
    written = pl.scan_parquet(file)
    if written.select((pl.col("ts_event_ns").diff() < 0).any()).collect(engine="streaming").item():
        raise _fault(f"stream {name}", "a table sorted by ts_event_ns", "it unsorted", "sort by event time")
    rows = int(written.select(pl.len()).collect().item())
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return Stream(file.name, rows, digest, draft.max_age_s, draft.origin, draft.method)


def _manifest_of(folder: Path, draft: RecordingDraft, streams: dict[str, Stream]) -> Manifest:
    gap_ns = round(draft.gap_s * NS_PER_S)

    def times(names: Iterable[str]) -> NDArray[np.int64]:
        """Return the first and the last time within every stretch as long as a gap: no gap hides between these two."""
        ts = pl.col("ts_event_ns")
        stretches = [
            pl.scan_parquet(folder / streams[name].file)
            .group_by(ts // max(gap_ns, 1))
            .agg(ts.min().alias("first"), ts.max().alias("last"))
            .collect(engine="streaming")
            for name in names
        ]
        edges = [stretch.get_column(edge).to_numpy() for stretch in stretches for edge in ("first", "last")]
        return np.unique(np.concatenate([np.empty(0, np.int64), *edges]))

    every, priced = times(streams), times(name for name in streams if name in PRICE_STREAMS)
    if not len(priced):
        raise _fault(draft.name, "prices", "none", "check what was selected from the source")
    silent = np.flatnonzero(np.diff(priced) > gap_ns)
    return Manifest(
        format_version=FORMAT_VERSION,
        name=draft.name,
        source=draft.source,
        licence=draft.licence,
        notice=draft.notice,
        notes=draft.notes,
        start_ns=int(every[0]),
        end_ns=int(every[-1]),
        gap_s=draft.gap_s,
        gaps=tuple(Gap(int(priced[i]), int(priced[i + 1])) for i in silent),
        streams=streams,
        depth=dict(draft.depth),
        instruments=draft.instruments,
    )


def _encode_manifest(manifest: Manifest) -> bytes:
    """Encode with a line per instrument and per field, for people and for version control."""
    fields = msgspec.structs.asdict(manifest)
    instruments = ",\n  ".join(msgspec.json.encode(instrument).decode() for instrument in fields.pop("instruments"))
    head = msgspec.json.format(msgspec.json.encode(fields), indent=1).decode().removesuffix("\n}")
    return f'{head},\n "instruments": [\n  {instruments}\n ]\n}}\n'.encode()


def _zip(folder: Path) -> Path:
    """Pack the files, uncompressed because the tables already are."""
    path = folder / "recording.zip"
    files = sorted(folder.iterdir())
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
        for file in files:
            archive.writestr(zipfile.ZipInfo(file.name), file.read_bytes())
    return path


def _swap(finished: Path, destination: Path) -> None:
    """Put the finished recording in its place; what was there is removed only once the new one has its name."""
    replaced = destination.with_name(f".{destination.name}.replaced")
    _remove(replaced)
    if destination.exists():
        destination.rename(replaced)
    finished.rename(destination)
    _remove(replaced)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
