"""Recording a feed: what was said comes back, in order and once; a kill loses the last interval at most."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import pytest

from bot.domain.errors import RecordingError
from bot.domain.events import Command, Event, OperatorAction, OperatorCommand
from bot.domain.instruments import Instrument
from bot.domain.market import IndexPrice, MarketEvent, Quote, VolQuote
from bot.domain.orders import OrderSent
from bot.domain.units import NS_PER_MIN, NS_PER_MS, NS_PER_S
from bot.domain.venues import InstrumentListed
from bot.gateways.gateway import Put
from bot.runtime.live.recorder import MAX_LATE_NS, Recorder, record
from bot.simulation.recording import Manifest, Origin, open_recording
from tests.instruments import CALL, PERPETUAL
from tests.runtime.command_line import PATIENCE_S, CommandLine
from tests.runtime.recorder_victim import CHUNK_EVENTS, SEGMENT_ROWS, feed, make_recorder, said

START_NS = 1_000 * NS_PER_S


def quote(ts_ns: int, bid_px: float = 2000.0, *, lag_ns: int = 0) -> Quote:
    return Quote(PERPETUAL.instrument_id, bid_px, 1.0, bid_px + 1.0, 1.0, ts_ns, ts_ns + lag_ns, 0)


def recorded(destination: Path) -> list[MarketEvent]:
    """Return the events of a recording as `said` returns those of a feed."""
    return [msgspec.structs.replace(event, ts_recv_ns=0, seq=0) for event in open_recording(destination).events()]


def abandon(recorder: Recorder) -> None:
    """Leave a recorder as a kill would: the operating system lets go of its lock, nothing else happens."""
    os.close(recorder._lock)


def left_beside(destination: Path) -> list[str]:
    return sorted(path.name for path in destination.parent.iterdir() if path != destination)


# What comes back ------------------------------------------------------------------------------------------------------


def test_a_recording_recorded_again_is_the_same(tmp_path: Path, short_recording: Path) -> None:
    original = open_recording(short_recording)
    manifest = original.manifest
    recorder = Recorder(
        tmp_path / "again", "again", manifest.instruments, {"vol_quotes": 600.0}, licence="MIT", max_segment_rows=3_000
    )
    for batch in original.batches():
        recorder.write(batch)
    again = recorder.close()
    assert again is not None
    assert list(open_recording(tmp_path / "again").events()) == list(original.events())
    assert (again.name, again.licence, again.instruments) == ("again", "MIT", manifest.instruments)
    assert {name: (s.rows, s.origin) for name, s in again.streams.items()} == {
        name: (stream.rows, Origin.RECORDED) for name, stream in manifest.streams.items()
    }
    assert (again.streams["vol_quotes"].max_age_s, again.streams["index"].max_age_s) == (600.0, 60.0)
    assert left_beside(tmp_path / "again") == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["feed", "feed.zip"])
def test_events_out_of_order_and_twice_come_back_in_order_and_once(tmp_path: Path, seed: int, name: str) -> None:
    events = feed(seed)
    recorder = make_recorder(tmp_path / name)
    recorder.write(events)  # in one segment
    for event in feed(seed + 100):
        recorder.write([event])  # in many
    recorder.close()
    assert recorded(tmp_path / name) == said([*events, *feed(seed + 100)])


def test_a_price_that_returns_within_one_time_is_no_repetition(tmp_path: Path) -> None:
    recorder = make_recorder(tmp_path / "feed")
    back_and_forth = [quote(START_NS, px) for px in (2000.0, 2001.0, 2000.0, 2000.0)]
    recorder.write(back_and_forth)
    recorder.close()
    assert recorded(tmp_path / "feed") == [msgspec.structs.replace(e, ts_recv_ns=0) for e in back_and_forth[:3]]


def test_what_is_listed_later_gets_in_from_then_on(tmp_path: Path) -> None:
    later = msgspec.structs.replace(CALL, instrument_id="ETH-28APR23-2000-C", strike_px=2000.0)
    vols = [VolQuote(later.instrument_id, 0.6, 0.5, 0.7, 2000.0, START_NS + n, START_NS + n, n) for n in range(3)]
    recorder = make_recorder(tmp_path / "feed")
    recorder.write([quote(START_NS), vols[0]])
    recorder.roll()
    recorder.write([InstrumentListed(later, START_NS), vols[1]])
    recorder.roll()
    recorder.write([InstrumentListed(later, START_NS), vols[2]])
    manifest = recorder.close()
    assert manifest is not None
    assert manifest.instruments == (PERPETUAL, CALL, later)
    assert recorded(tmp_path / "feed") == said([quote(START_NS), *vols[1:]])
    assert recorder.unwritten == {"instrument not listed": 1}


def test_only_market_events_known_in_time_are_recorded(tmp_path: Path) -> None:
    recorder = make_recorder(tmp_path / "feed")
    kept = [quote(START_NS, lag_ns=MAX_LATE_NS), quote(START_NS + 1, lag_ns=-NS_PER_S)]
    recorder.write(
        [
            *kept,
            OrderSent("a-1", START_NS),
            OperatorCommand(OperatorAction.HALT, "", "", START_NS),
            quote(START_NS + 2, lag_ns=MAX_LATE_NS + 1),
            quote(START_NS + 3, lag_ns=-NS_PER_S - 1),
            IndexPrice("DOGE", 1.0, START_NS, START_NS, 1),
        ]
    )
    recorder.close()
    assert recorded(tmp_path / "feed") == said(list(kept))
    assert recorder.unwritten == {"too late": 1, "from the future": 1, "underlying not listed": 1}


def test_without_a_price_there_is_no_recording(tmp_path: Path) -> None:
    recorder = make_recorder(tmp_path / "feed")
    assert recorder.close() is None
    assert list(tmp_path.iterdir()) == []


# Continuing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["feed", "feed.zip"])
def test_recording_to_the_same_place_continues(tmp_path: Path, name: str) -> None:
    events = feed()
    new = msgspec.structs.replace(PERPETUAL, instrument_id="ETH-NEW")
    for first, last in ((0, 90), (90, 180), (180, len(events))):
        recorder = Recorder(tmp_path / name, "feed", (new, PERPETUAL, CALL), {}, max_segment_rows=SEGMENT_ROWS)
        recorder.write(events[first:last])
        recorder.close()
        assert recorded(tmp_path / name) == said(events[:last])
    untouched = Recorder(tmp_path / name, "feed", (PERPETUAL,), {}).close()
    assert untouched is not None
    assert untouched.instruments == (new, PERPETUAL, CALL)
    assert left_beside(tmp_path / name) == []


def test_another_contract_under_a_known_id_begins_another_recording(tmp_path: Path) -> None:
    recorder = make_recorder(tmp_path / "feed")
    recorder.write([quote(START_NS)])
    recorder.close()
    resized = msgspec.structs.replace(PERPETUAL, contract_size=10.0)
    with pytest.raises(RecordingError, match=r"expected ETH-PERPETUAL as it was .+ hint: begin another recording"):
        Recorder(tmp_path / "feed", "feed", (resized,), {})
    assert recorded(tmp_path / "feed") == said([quote(START_NS)])


def test_nothing_but_a_recording_is_continued_and_by_one_recorder_only(tmp_path: Path) -> None:
    (tmp_path / "diary").mkdir()
    with pytest.raises(RecordingError, match="expected a recording to overwrite, found something else"):
        make_recorder(tmp_path / "diary")
    recorder = make_recorder(tmp_path / "feed")
    with pytest.raises(RecordingError, match="expected to be the only recorder of this recording, found another"):
        make_recorder(tmp_path / "feed")
    recorder.close()
    (tmp_path / "file").touch()
    with pytest.raises(RecordingError, match="expected to write a recording there, found: "):
        make_recorder(tmp_path / "file" / "feed")


# Crashes --------------------------------------------------------------------------------------------------------------


def test_what_was_rolled_survives_and_what_was_not_is_all_that_is_lost(tmp_path: Path) -> None:
    recorder = make_recorder(tmp_path / "feed")
    recorder.write([quote(START_NS)])
    recorder.roll()
    recorder.write([quote(START_NS + 1)])
    abandon(recorder)
    assert Recorder.recover(tmp_path / "feed") == (1, ())
    assert recorded(tmp_path / "feed") == said([quote(START_NS)])
    assert Recorder.recover(tmp_path / "feed") == (0, ())
    assert left_beside(tmp_path / "feed") == []


def test_damaged_segments_are_dropped_and_named(tmp_path: Path) -> None:
    recorder = make_recorder(tmp_path / "feed")
    for n in range(5):
        recorder.write([quote(START_NS + n)])
        recorder.roll()
    abandon(recorder)
    folder = tmp_path / ".feed.segments"
    half = folder / "00000002" / "quotes.parquet"
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    (folder / "00000003" / "segment.json").unlink()
    (folder / "00000005").rename(folder / "00000005.partial")
    recorder = make_recorder(tmp_path / "feed")
    assert recorder.salvage.rows == 2
    assert [text.partition(":")[0] for text in recorder.salvage.dropped] == ["00000002", "00000003", "00000005.partial"]
    assert ["damaged: quotes" in recorder.salvage.dropped[0], "cut off" in recorder.salvage.dropped[2]] == [True, True]
    recorder.write([quote(START_NS + 9)])
    recorder.close()
    assert recorded(tmp_path / "feed") == said([quote(START_NS + n) for n in (0, 3, 9)])


def test_a_full_disk_says_so_and_what_waits_is_stored_once_there_is_room(tmp_path: Path) -> None:
    recorder = make_recorder(tmp_path / "feed")
    folder = tmp_path / ".feed.segments"
    recorder.write([quote(START_NS)])
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(RecordingError, match=r"found: .+; hint: look at the disk"):
        recorder.roll()
    (tmp_path / "elsewhere").rename(folder)
    recorder.write([quote(START_NS + 1)])
    recorder.close()
    assert recorded(tmp_path / "feed") == said([quote(START_NS), quote(START_NS + 1)])


def test_a_kill_at_any_moment_damages_nothing(tmp_path: Path, evenkeel: CommandLine) -> None:
    program = "tests.runtime.recorder_victim:main"
    events = feed()
    beginnings = {len(said(events[:n])): n for n in range(0, len(events) + 1, CHUNK_EVENTS)} | {
        len(said(events)): len(events)
    }
    whole = evenkeel.run("whole", "0", "0", cwd=tmp_path, program=program)
    operations = int(whole.out.split()[-1])
    assert recorded(tmp_path / "whole") == said(events)
    draw = random.Random(3)
    for number in range(8):
        destination = tmp_path / f"killed-{number}"
        start = 0
        for _ in range(2):  # the second one continues what the first one left
            # at any file operation, or more often at one of the finish, or at any time
            dies_at = draw.choice((draw.randrange(1, operations), draw.randrange(operations - 40, operations), 0))
            process = evenkeel.start(destination.name, str(start), str(dies_at), cwd=tmp_path, program=program)
            if not dies_at:
                time.sleep(draw.random() * 0.08)
                process.send(signal.SIGKILL)
            written = [int(line) for line in process.wait().out.split() if line.isdecimal()]
            Recorder.recover(destination)
            saved = recorded(destination) if destination.exists() else []
            safe = beginnings[len(saved)]
            assert saved == said(events[:safe])
            assert start + max(written, default=0) - safe < SEGMENT_ROWS + CHUNK_EVENTS
            start = safe
        recorder = make_recorder(destination)
        recorder.write(events[start:])
        recorder.close()
        assert recorded(destination) == said(events)
        shutil.rmtree(destination)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


# The loop of a recording ----------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.ns = START_NS

    def now_ns(self) -> int:
        return self.ns


class LoopGateway:
    """A gateway that says what it is given, one batch after the other, moving the clock on by a second each."""

    venue = "loop"

    def __init__(self, batches: Sequence[Sequence[Event]], clock: Clock, error: Exception | None = None) -> None:
        self._batches, self._clock, self._error = batches, clock, error
        self.said = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def instruments(self) -> tuple[Instrument, ...]:
        return (PERPETUAL, CALL)

    async def truth(self) -> tuple[Event, ...]:
        return ()

    async def events(self, put: Put) -> None:
        for batch in self._batches:
            put(batch)
            self._clock.ns += NS_PER_S
            await asyncio.sleep(0)
        if self._error is not None:
            raise self._error
        self.said.set()
        await asyncio.Event().wait()

    def submit(self, command: Command) -> None:
        raise AssertionError(f"a recording sends nothing, found {command}")


def one_by_one(events: Sequence[Event]) -> list[list[Event]]:
    return [[event] for event in events]


async def test_gateways_are_recorded_until_told_to_stop(tmp_path: Path) -> None:
    clock, stop = Clock(), asyncio.Event()
    gateways = [LoopGateway(one_by_one(part), clock) for part in (feed()[:50], feed()[50:])]
    recording = asyncio.create_task(record(gateways, make_recorder(tmp_path / "feed"), clock, stop))
    for gateway in gateways:
        await gateway.said.wait()
    stop.set()
    assert isinstance(await recording, Manifest)
    assert recorded(tmp_path / "feed") == said(feed())


async def test_what_is_old_enough_is_on_disk_while_the_recording_goes_on(tmp_path: Path) -> None:
    clock, stop = Clock(), asyncio.Event()
    gateway = LoopGateway([[quote(START_NS)]], clock)
    recorder = make_recorder(tmp_path / "feed")
    recording = asyncio.create_task(record([gateway], recorder, clock, stop))
    await gateway.said.wait()
    clock.ns += NS_PER_MIN
    segment = tmp_path / ".feed.segments" / "00000001"
    async with asyncio.timeout(PATIENCE_S):
        while not segment.exists():  # noqa: ASYNC110 — nobody tells when a file is there
            await asyncio.sleep(0.01)
    recording.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await recording
    assert recorded(tmp_path / "feed") == said([quote(START_NS)])


async def test_a_recording_may_have_a_length(tmp_path: Path) -> None:
    clock = Clock()
    gateway = LoopGateway([[quote(START_NS + n * NS_PER_MS)] for n in range(5)], clock)
    assert await record([gateway], make_recorder(tmp_path / "feed"), clock, asyncio.Event(), seconds=4.0)
    assert len(recorded(tmp_path / "feed")) == 5


async def test_a_gateway_that_fails_leaves_a_finished_recording(tmp_path: Path) -> None:
    clock = Clock()
    gateway = LoopGateway([[quote(START_NS)]], clock, error=RecordingError("for example"))
    with pytest.raises(ExceptionGroup):
        await record([gateway], make_recorder(tmp_path / "feed"), clock, asyncio.Event())
    assert recorded(tmp_path / "feed") == said([quote(START_NS)])
