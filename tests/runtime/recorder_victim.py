"""A recorder to be killed, and the feed it records: out of order by up to two seconds, with repeated messages."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from random import Random

import msgspec

from bot.domain.market import FundingRate, IndexPrice, MarketEvent, Quote, Settlement, VolQuote
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.runtime.live.recorder import STREAM_OF, Recorder
from tests.instruments import CALL, PERPETUAL

FEED_EVENTS = 240
SEGMENT_ROWS = 60
CHUNK_EVENTS = 5
FILE_OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}


def feed(seed: int = 1, events: int = FEED_EVENTS) -> list[MarketEvent]:
    """Return events in the order they are received: every time is another one, some events come twice."""
    random = Random(seed)
    received: list[MarketEvent] = []
    for n in range(events):
        at_ns = 1_000 * NS_PER_S + n * 100 * NS_PER_MS
        recv_ns = at_ns + random.randrange(2 * NS_PER_S)
        px = 2000.0 + random.random()
        event: MarketEvent = random.choices(
            (
                Quote(PERPETUAL.instrument_id, px, 1.0, px + 1.0, 2.0, at_ns, recv_ns, n),
                VolQuote(CALL.instrument_id, 0.6, 0.5, 0.7, px, at_ns, recv_ns, n),
                IndexPrice("ETH", px, at_ns, recv_ns, n),
                FundingRate(PERPETUAL.instrument_id, 1e-4, at_ns, recv_ns, n),
                Settlement("ETH", at_ns - 1, px, at_ns, recv_ns, n),
            ),
            (8, 8, 4, 1, 1),
        )[0]
        received += [event] * (2 if random.random() < 0.1 else 1)
    received.sort(key=lambda event: event.ts_recv_ns)
    return received


def said(events: list[MarketEvent]) -> list[MarketEvent]:
    """Return what a recording says of events: once each, in the order they happened, without how we received them."""
    plain = {msgspec.structs.replace(event, ts_recv_ns=0, seq=0): None for event in events}
    streams = list(STREAM_OF)
    return sorted(plain, key=lambda event: (event.ts_event_ns, streams.index(type(event))))


def make_recorder(destination: Path) -> Recorder:
    """Return a recorder of the feed that writes a segment every few rows."""
    return Recorder(destination, "killed", (PERPETUAL, CALL), {"quotes": 5.0}, max_segment_rows=SEGMENT_ROWS)


def main() -> None:
    """Record from the given event on, say how many are written, and die at the given file operation."""
    destination, start, dies_at = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    operations = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal operations
        if event in FILE_OPERATIONS and destination.name in str(arguments[0]):
            operations += 1
            if operations == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    recorder = make_recorder(destination)
    events = feed()[start:]
    for first in range(0, len(events), CHUNK_EVENTS):
        recorder.write(events[first : first + CHUNK_EVENTS])
        sys.stdout.write(f"{first + CHUNK_EVENTS}\n")
        sys.stdout.flush()
    recorder.close()
    sys.stdout.write(f"operations: {operations}\n")
