"""Recordings: what is written comes back, in time order and never ahead of it; what is broken is named."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import msgspec
import polars as pl
import pytest

from bot.domain.errors import RecordingError
from bot.domain.instruments import Option
from bot.domain.market import FundingRate, IndexPrice, MarketEvent, Quote, Settlement, VolQuote
from bot.domain.units import NS_PER_S
from bot.simulation import recording
from bot.simulation.depth import DepthLevel, DepthProfile
from bot.simulation.recording import (
    SCHEMAS,
    Gap,
    Manifest,
    Origin,
    RecordingDraft,
    StreamDraft,
    bundled_names,
    check_destination,
    open_recording,
    recorded_gas_prices_wei,
    write_recording,
)
from tests import instruments
from tests.instruments import PERPETUAL

CALL = msgspec.structs.replace(instruments.CALL, expiry_ns=5_000)
DEPTH = DepthProfile((DepthLevel(0.1, 5_000.0), DepthLevel(0.5, 20_000.0)))

# Every stream has a row at 2000, to see how ties are ordered.
ROWS: dict[str, list[tuple[object, ...]]] = {
    "index": [(1_000, "ETH", 1900.0), (2_000, "ETH", 1901.0), (4_000, "ETH", 1902.0)],
    "quotes": [(1_000, 0, 1899.95, 100.0, 1900.0, 90.0), (2_000, 0, 1900.95, 100.0, 1901.0, 90.0)],
    "funding": [(2_000, 0, 0.0001)],
    "vol_quotes": [
        (2_000, 1, 0.6, 0.59, 0.61, 1905.0, 0.04, 10.0, 0.045, 20.0, 0.042),
        (2_000, 1, 0.7, 0.0, 0.71, 1906.0, 0.0, 0.0, 0.046, 20.0, 0.043),
        (3_000, 1, 0.8, 0.79, 0.81, 1907.0, 0.04, 10.0, 0.045, 20.0, 0.042),
    ],
    "settlements": [(2_000, "ETH", 2_000, 1900.5, 12), (5_000, "ETH", 5_000, 1902.5, 3)],
}


def draft(rows: dict[str, list[tuple[object, ...]]] | None = None, gap_s: float = 300.0) -> RecordingDraft:
    tables = {name: pl.LazyFrame(values, schema=SCHEMAS[name], orient="row") for name, values in (rows or ROWS).items()}
    return RecordingDraft(
        name="small",
        source="made up",
        licence="none",
        notice="",
        notes="",
        instruments=(PERPETUAL, CALL),
        depth={"ETH-PERPETUAL": DEPTH},
        streams={name: StreamDraft(table, 600.0, Origin.DERIVED, "by hand") for name, table in tables.items()},
        gap_s=gap_s,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_recording(tmp_path / "small", draft())
    return tmp_path / "small"


def test_what_is_written_is_read_in_time_order_with_ties_in_stream_order(folder: Path) -> None:
    events = list(open_recording(folder).events(feed_latency_ns=7))
    assert events == [
        IndexPrice("ETH", 1900.0, 1_000, 1_007, 0),
        Quote("ETH-PERPETUAL", 1899.95, 100.0, 1900.0, 90.0, 1_000, 1_007, 1),
        IndexPrice("ETH", 1901.0, 2_000, 2_007, 2),
        Quote("ETH-PERPETUAL", 1900.95, 100.0, 1901.0, 90.0, 2_000, 2_007, 3),
        FundingRate("ETH-PERPETUAL", 0.0001, 2_000, 2_007, 4),
        VolQuote("ETH-28APR23-1900-C", 0.6, 0.59, 0.61, 1905.0, 2_000, 2_007, 5, 10.0, 20.0),
        VolQuote("ETH-28APR23-1900-C", 0.7, 0.0, 0.71, 1906.0, 2_000, 2_007, 6, 0.0, 20.0),
        Settlement("ETH", 2_000, 1900.5, 2_000, 2_007, 7),
        VolQuote("ETH-28APR23-1900-C", 0.8, 0.79, 0.81, 1907.0, 3_000, 3_007, 8, 10.0, 20.0),
        IndexPrice("ETH", 1902.0, 4_000, 4_007, 9),
        Settlement("ETH", 5_000, 1902.5, 5_000, 5_007, 10),
    ]


def test_the_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = write_recording(tmp_path / "small", draft())
    read = open_recording(tmp_path / "small").manifest
    assert read == written
    assert (read.start_ns, read.end_ns) == (1_000, 5_000)
    assert read.instruments == (PERPETUAL, CALL)
    assert read.depth == {"ETH-PERPETUAL": DEPTH}
    assert {name: stream.rows for name, stream in read.streams.items()} == {n: len(rows) for n, rows in ROWS.items()}


def test_a_zip_reads_like_the_folder_it_was_made_from(tmp_path: Path, folder: Path) -> None:
    write_recording(tmp_path / "small.zip", draft())
    by_hand = Path(shutil.make_archive(str(tmp_path / "by_hand"), "zip", tmp_path, "small"))
    expected = list(open_recording(folder).events())
    for path in (tmp_path / "small.zip", by_hand):
        assert list(open_recording(path).events()) == expected


def test_silences_are_gaps_and_a_settlement_does_not_end_one(tmp_path: Path) -> None:
    s = NS_PER_S
    rows = {
        "index": [(at * s, "ETH", 1900.0) for at in (0, 10, 400, 500)],
        "vol_quotes": [(505 * s, 1, 0.6, 0.0, 0.0, 1905.0, 0.0, 0.0, 0.0, 0.0, 0.0)],
        "settlements": [(100 * s, "ETH", 100 * s, 1900.0, 1)],
    }
    manifest = write_recording(tmp_path / "gappy", draft(rows))  # type: ignore[arg-type]  # rows of one shape only
    assert manifest.gaps == (Gap(10 * s, 400 * s),)
    assert write_recording(tmp_path / "patient", draft(rows, gap_s=390.0)).gaps == ()  # type: ignore[arg-type]


# Ordering, whatever the slices ----------------------------------------------------------------------------------------

times = st.lists(st.integers(0, 40), max_size=25).map(sorted)


@hypothesis.given(
    index=times, quotes=times, vols=times, slice_rows=st.integers(1, 8), start=st.none() | st.integers(-1, 41)
)
@hypothesis.settings(
    max_examples=40, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], deadline=None
)
def test_any_slices_give_one_order_and_any_start_its_tail(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    index: list[int],
    quotes: list[int],
    vols: list[int],
    slice_rows: int,
    start: int | None,
) -> None:
    monkeypatch.setattr(recording, "SLICE_ROWS", slice_rows)
    rows: dict[str, list[tuple[object, ...]]] = {
        "index": [(t, "ETH", 1.0 + n) for n, t in enumerate([*index, 41])],
        "quotes": [(t, 0, 1.0 + n, 1.0, 2.0 + n, 1.0) for n, t in enumerate(quotes)],
        "vol_quotes": [(t, 1, 1.0 + n, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0) for n, t in enumerate(vols)],
    }
    write_recording(tmp_path / "any", draft(rows), is_overwrite=True)
    opened = open_recording(tmp_path / "any")
    events = list(opened.events())
    rank = {IndexPrice: 0, Quote: 1, VolQuote: 2}

    def key(event: MarketEvent) -> tuple[int, int, float]:
        number = event.px if isinstance(event, IndexPrice) else 0.0
        number = event.bid_px if isinstance(event, Quote) else number
        number = event.mark_vol if isinstance(event, VolQuote) else number
        return event.ts_event_ns, rank[type(event)], number

    assert [key(event) for event in events] == sorted(key(event) for event in events)
    assert len(events) == len(index) + 1 + len(quotes) + len(vols)
    assert [event.seq for event in events] == list(range(len(events)))
    tail = [event for event in events if start is None or event.ts_event_ns > start]
    assert list(opened.events(start_after_ns=start)) == tail
    batches = list(opened.batches(start_after_ns=start))
    assert batches == [list(group) for _, group in itertools.groupby(tail, key=lambda event: event.ts_recv_ns)]


def test_reading_holds_no_more_than_slices(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "SLICE_ROWS", 1)
    windows = [len(window.events) for window in open_recording(folder)._windows(0, None)]
    assert max(windows) <= 2 * len(SCHEMAS)


# What is broken is named ----------------------------------------------------------------------------------------------


def edit_manifest(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def rewrite_table(folder: Path, name: str, table: pl.DataFrame) -> None:
    """Replace a table and everything the manifest says of it: only the reader can find what is wrong now."""
    table.write_parquet(folder / f"{name}.parquet")
    digest = hashlib.sha256((folder / f"{name}.parquet").read_bytes()).hexdigest()
    edit_manifest(folder, lambda m: m["streams"][name].update(rows=table.height, sha256=digest))  # type: ignore[index]


def refusal(path: Path | str) -> str:
    with pytest.raises(RecordingError) as caught:
        list(open_recording(path).events())
    text = str(caught.value)
    assert re.search(r"expected .+, found .+; hint: .+", text), text
    return text


def test_a_missing_recording_names_the_bundled_ones() -> None:
    text = refusal("eth-1823-04")
    assert text.startswith("eth-1823-04: expected a recording")
    assert "hint: the bundled ones are btc-2023-04, eth-2023-04" in text


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "index.parquet").unlink()
    assert "expected a file index.parquet in it, found none" in refusal(folder)


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    assert "expected a file manifest.json in it, found none" in refusal(tmp_path)


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_a_truncated_table_is_refused(folder: Path, kept: int) -> None:
    path = folder / "vol_quotes.parquet"
    path.write_bytes(path.read_bytes()[:kept])
    text = refusal(folder)
    assert "vol_quotes.parquet (stream vol_quotes): expected a whole Parquet file, found" in text
    assert "truncated" in text


def test_a_table_with_a_broken_footer_is_refused(folder: Path) -> None:
    path = folder / "vol_quotes.parquet"
    path.write_bytes(path.read_bytes()[:200] + b"PAR1")
    assert "expected a readable Parquet file, found" in refusal(folder)


def test_a_flipped_byte_is_found(folder: Path) -> None:
    path = folder / "vol_quotes.parquet"
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    assert "expected sha256" in refusal(folder)


def test_a_missing_column_is_named(folder: Path) -> None:
    rewrite_table(folder, "vol_quotes", pl.read_parquet(folder / "vol_quotes.parquet").drop("mark_vol"))
    assert "expected a column mark_vol of type Float64, found columns ts_event_ns, instrument" in refusal(folder)


def test_a_column_of_another_type_is_named(folder: Path) -> None:
    rewrite_table(folder, "index", pl.read_parquet(folder / "index.parquet").cast({"px": pl.Int64}))
    assert "expected column px of type Float64, found type Int64" in refusal(folder)


def test_a_column_too_many_is_refused(folder: Path) -> None:
    rewrite_table(folder, "index", pl.read_parquet(folder / "index.parquet").with_columns(extra=pl.lit(1)))
    columns = "ts_event_ns, underlying, px"
    assert f"expected the columns {columns}, found {columns}, extra" in refusal(folder)


def test_missing_rows_are_counted(folder: Path) -> None:
    edit_manifest(folder, lambda m: m["streams"]["index"].update(rows=4))  # type: ignore[index]
    assert "expected 4 rows, found 3" in refusal(folder)


def test_rows_out_of_order_are_refused(folder: Path) -> None:
    rewrite_table(folder, "index", pl.read_parquet(folder / "index.parquet").reverse())
    assert "stream index, rows 0 to 2: expected ts_event_ns in ascending order" in refusal(folder)


def test_order_is_checked_across_slices(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "SLICE_ROWS", 1)
    rewrite_table(folder, "index", pl.read_parquet(folder / "index.parquet").reverse())
    assert "stream index, rows 1 to 1: expected ts_event_ns in ascending order" in refusal(folder)


def test_empty_values_are_refused(folder: Path) -> None:
    px = pl.when(pl.col("px") > 1900.5).then(pl.col("px"))
    rewrite_table(folder, "index", pl.read_parquet(folder / "index.parquet").with_columns(px=px))
    assert "expected a value in every column, found empty ones" in refusal(folder)


def test_an_instrument_number_beyond_the_list_is_refused(folder: Path) -> None:
    edit_manifest(folder, lambda m: m["instruments"].pop())  # type: ignore[attr-defined]
    assert "stream vol_quotes, rows 0 to 2: expected instrument numbers below 1, found 1" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: m.update(format_version=2), "expected format_version 1, found 2"),
        (lambda m: m.pop("start_ns"), "expected a manifest, found Object missing required field `start_ns`"),
        (lambda m: m.update(gap_s="long"), "expected a manifest, found Expected `float`, got `str` - at `$.gap_s`"),
        (lambda m: m.update(colour="red"), "expected a manifest, found Object contains unknown field `colour`"),
        (lambda m: m["streams"].update(trades=m["streams"]["index"]), "expected streams among index, quotes"),
        (lambda m: m["streams"]["index"].update(file="../index.parquet"), "expected files beside the manifest"),
        (lambda m: m["instruments"].append(m["instruments"][0]), "expected every instrument_id once, found 1 repeated"),
        (lambda m: m["depth"].update(FOO=m["depth"]["ETH-PERPETUAL"]), "expected depth of listed instruments only"),
    ],
)
def test_a_bad_manifest_is_refused(folder: Path, change: Callable[[dict[str, object]], object], text: str) -> None:
    edit_manifest(folder, change)
    assert text in refusal(folder)


def test_a_manifest_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")
    assert "manifest.json: expected a manifest, found Input data was truncated" in refusal(folder)


def test_a_broken_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.zip"
    write_recording(path, draft())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "expected a zip or a folder, found File is not a zip file" in refusal(path)
    flipped = bytearray(content)
    flipped[content.index(b"PAR1") + 40] ^= 1
    path.write_bytes(flipped)
    assert "expected a readable file" in refusal(path)
    with zipfile.ZipFile(path, "w"):
        pass
    assert "expected one manifest.json in it, found 0" in refusal(path)


# Writing --------------------------------------------------------------------------------------------------------------


def test_nothing_is_overwritten_unasked(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(RecordingError, match=r"expected a new name, found it taken; hint: .*--overwrite"):
        write_recording(folder, draft())
    assert (folder / "manifest.json").read_bytes() == before


def test_only_a_recording_is_overwritten(tmp_path: Path, folder: Path) -> None:
    write_recording(folder, draft({"index": ROWS["index"]}), is_overwrite=True)
    assert list(open_recording(folder).manifest.streams) == ["index"]
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "diary.txt").write_text("dear diary")
    with pytest.raises(RecordingError, match="expected a recording to overwrite, found something else"):
        write_recording(precious, draft(), is_overwrite=True)
    assert (precious / "diary.txt").read_text() == "dear diary"


def test_a_destination_needs_a_name() -> None:
    with pytest.raises(RecordingError, match="expected a name for the recording"):
        check_destination(Path())


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ({"index": ROWS["index"][::-1]}, "expected a table sorted by ts_event_ns, found it unsorted"),
        ({"settlements": ROWS["settlements"]}, "expected prices, found none"),
    ],
)
def test_a_failed_write_leaves_nothing(tmp_path: Path, rows: dict[str, list[tuple[object, ...]]], text: str) -> None:
    with pytest.raises(RecordingError, match=text):
        write_recording(tmp_path / "small", draft(rows))
    assert list(tmp_path.iterdir()) == []


def test_a_write_clears_what_a_killed_one_left(tmp_path: Path) -> None:
    left = tmp_path / ".small.partial"
    left.mkdir()
    (left / "index.parquet").write_bytes(b"half")
    write_recording(tmp_path / "small", draft())
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


# The recordings that come with Evenkeel -------------------------------------------------------------------------------


def test_a_day_of_gas_is_whole_and_in_wei() -> None:
    prices = recorded_gas_prices_wei()
    assert len(prices) == 24 * 60
    assert prices[0] == pytest.approx(60.7811e9)
    assert 30e9 < min(prices) < max(prices) < 1e12


@pytest.mark.parametrize("name", ["btc-2023-04", "eth-2023-04"])
def test_a_bundled_recording_is_whole_licensed_small_and_alive(name: str) -> None:
    assert name in bundled_names()
    opened = open_recording(name)
    manifest: Manifest = opened.manifest
    assert manifest.name == name
    assert manifest.licence == "MIT"
    assert "nostoz" in manifest.notice
    assert sum(file.stat().st_size for file in (recording.BUNDLED / name).iterdir()) < 4_000_000
    assert len(manifest.gaps) == 4
    origins = {stream: entry.origin for stream, entry in manifest.streams.items()}
    assert {stream for stream, origin in origins.items() if origin is Origin.RECORDED} == {"index", "vol_quotes"}
    lifetimes = {each.instrument_id: each.expiry_ns for each in manifest.instruments if isinstance(each, Option)}
    last_ns = count = 0
    for event in opened.events():
        assert event.ts_event_ns >= last_ns
        assert event.seq == count
        last_ns, count = event.ts_event_ns, count + 1
        if isinstance(event, VolQuote):
            assert event.ts_event_ns < lifetimes[event.instrument_id]
            assert event.mark_vol > 0
            assert event.forward_px > 0
            assert 0 <= event.bid_vol < 9.99
            assert 0 <= event.ask_vol < 9.99
        elif isinstance(event, Quote):
            assert 0 < event.bid_px < event.ask_px
            assert event.bid_base > 0
    assert count == sum(stream.rows for stream in manifest.streams.values())
    assert last_ns == manifest.end_ns
