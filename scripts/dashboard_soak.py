"""Show that the dashboard of 20 vaults keeps its pace and its memory: tables on stdout, progress on stderr.

A daemon replays 20 vaults, its windows publish them, a browser has the fleet and one vault open. Memory is read after
the browser was told to collect what it no longer needs, at the start (everything loaded) and every so often until the
time is over; so is the processor time that each process has had, as a share of one processor. The pace is counted at
every stage a state passes: at the broker, by a subscriber of nobody's; on the page's socket; in the page; and as drawn.

A page is told nothing where nothing changed, and of every five minutes of the recording three and a half are silent. So
each vault has a piece of it to itself, at another place of those five minutes, and together they always have news.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import polars as pl
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from playwright.sync_api import CDPSession, Page

from bot.domain.units import NS_PER_HOUR, NS_PER_MIN
from bot.simulation.recording import (
    PRICE_STREAMS,
    Recording,
    RecordingDraft,
    StreamDraft,
    open_recording,
    write_recording,
)
from scripts.dashboard_desk import (
    ROOT,
    Desk,
    children,
    descendants,
    name_of,
    open_desk,
    processor_s,
    rss_mb,
    wait_for,
)

VAULTS: Final = 20
APART_NS: Final = 2 * NS_PER_HOUR  # from the beginning of one vault's market to that of the next, at most
BEAT_NS: Final = 5 * NS_PER_MIN  # of the recording: a minute and a half of news, then none
SPARE_MIN: Final = 8.0  # of the clock, for which there is market after what is asked for: starting takes time as well
OPEN_VAULT: Final = "straddle-01"
WARM_UP_S: Final = 20.0
SAMPLES: Final = 10
LOOKS: Final = 5  # at each page, from its address to being usable
SHOWN: Final = "ek.show("  # how a message begins that brings figures
COUNT: Final = """() => {
  window.counts = { shown: 0, drawn: 0 };
  const show = ek.show;
  let isWaiting = false;
  ek.show = (...words) => {
    window.counts.shown += 1;
    show(...words);
    if (isWaiting) return;
    isWaiting = true;
    requestAnimationFrame(() => requestAnimationFrame(() => { isWaiting = false; window.counts.drawn += 1; }));
  };
}"""


class Pace(NamedTuple):
    """Times a second that something came by each stage since the last sample."""

    broker_vault: float  # states of the vault whose page is open
    broker_slowest: float  # states of the vault that has fewest
    fleet_socket: float
    fleet_shown: float
    fleet_drawn: float
    vault_socket: float
    vault_shown: float
    vault_drawn: float


class Sample(NamedTuple):
    """Memory in MB at one moment, the pace since the last one, processor time by then."""

    at_s: float
    fleet_heap: float
    vault_heap: float
    dashboard: float
    windows: float
    daemon: float
    pace: Pace
    processor_s: dict[str, float]


class AtBroker:
    """Counts the states of each vault that the broker hands on."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._since_s = time.monotonic()

    def note(self, _client: Client, _of: object, message: MQTTMessage) -> None:
        """Count one; called from the client's own thread."""
        self._counts[message.topic.split("/")[2]] += 1

    def hz(self) -> dict[str, float]:
        """Return states a second since the last time, by vault."""
        counts, self._counts = self._counts, Counter()
        span_s, self._since_s = time.monotonic() - self._since_s, time.monotonic()
        return {vault: count / span_s for vault, count in counts.items()}


@contextmanager
def at_broker(port: int) -> Iterator[AtBroker]:
    """Listen to what is written last of every state, for the length of the block."""
    found = AtBroker()
    client = Client(CallbackAPIVersion.VERSION2)
    client.on_message = found.note
    client.connect("127.0.0.1", port)
    client.subscribe("evenkeel/v1/+/meters")
    client.loop_start()
    try:
        yield found
    finally:
        client.loop_stop()
        client.disconnect()


class Watched:
    """One open page: its heap, and how often something came over its socket, was shown, and was drawn."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._frames = 0
        self._devtools: CDPSession = page.context.new_cdp_session(page)
        self._devtools.send("HeapProfiler.enable")
        self._devtools.send("Performance.enable")
        self._devtools.on("Network.webSocketFrameReceived", self._note)
        self._devtools.send("Network.enable")
        page.evaluate(COUNT)
        self._since_s = time.monotonic()

    def _note(self, event: dict[str, Any]) -> None:
        self._frames += SHOWN in event["response"]["payloadData"]

    def heap_mb(self) -> float:
        """Return what the page's scripts hold."""
        self._devtools.send("HeapProfiler.collectGarbage")
        metrics: list[dict[str, Any]] = self._devtools.send("Performance.getMetrics")["metrics"]
        return next(float(one["value"]) for one in metrics if one["name"] == "JSHeapUsedSize") / 1e6

    def hz(self) -> tuple[float, float, float]:
        """Return how many messages a second came, were shown and were drawn since the last time."""
        counts = self._page.evaluate(
            "() => { const now = window.counts; window.counts = { shown: 0, drawn: 0 }; return now; }"
        )
        frames, self._frames = self._frames, 0
        span_s, self._since_s = time.monotonic() - self._since_s, time.monotonic()
        return frames / span_s, counts["shown"] / span_s, counts["drawn"] / span_s


def write_vaults(folder: Path, span_ns: int) -> dict[str, str]:
    """Return vault files by name: one straddle under as many names, each on a piece of the recording of its own."""
    text = (ROOT / "config" / "eth-straddle.yaml").read_text()
    recording = open_recording("eth-2023-04")
    spare_ns = recording.manifest.end_ns - recording.manifest.start_ns - span_ns
    apart_ns = min(APART_NS, max(0, spare_ns // VAULTS // BEAT_NS * BEAT_NS)) + BEAT_NS // VAULTS
    found = {}
    for number in range(1, VAULTS + 1):
        name = f"straddle-{number:02}"
        cut = folder / name
        cut_recording(recording, cut, (number - 1) * apart_ns, span_ns)
        text_of = re.sub(r"(?m)^vault: \S+", f"vault: {name}", text, count=1)
        found[name] = re.sub(r"(?m)^feed: .*$", f"feed: {{recording: {cut}}}", text_of, count=1)
    return found


def cut_recording(recording: Recording, destination: Path, after_ns: int, span_ns: int) -> None:
    """Write so long a piece of a recording, from so long after its beginning on."""
    manifest = recording.manifest
    start_ns = manifest.start_ns + after_ns
    is_within = pl.col("ts_event_ns").is_between(start_ns, start_ns + span_ns)
    streams = {
        name: StreamDraft(recording.table(name).filter(is_within), one.max_age_s, one.origin, one.method)
        for name, one in manifest.streams.items()
        if name in PRICE_STREAMS
    }
    draft = RecordingDraft(
        destination.name, manifest.source, manifest.licence, manifest.notice, manifest.notes,
        manifest.instruments, manifest.depth, streams,
    )  # fmt: skip
    write_recording(destination, draft, zstd_level=3)


def sample(desk: Desk, broker: AtBroker, fleet: Watched, vault: Watched, began_s: float) -> Sample:
    """Return how things are now."""
    of_daemon = children(desk.processes["daemon"].pid)
    windows = sum(rss_mb(pid) for pid in of_daemon)
    others = [(name_of(pid), pid) for pid in descendants(os.getpid())]
    spent_s = {
        "daemon": processor_s(desk.processes["daemon"].pid),
        "windows": sum(map(processor_s, of_daemon)),
        "dashboard": processor_s(desk.processes["dashboard"].pid),
        "broker": sum(processor_s(pid) for name, pid in others if name == "mosquitto"),
        "browser": sum(processor_s(pid) for name, pid in others if name.startswith("chrom")),
    }
    states = broker.hz()
    pace = Pace(states.get(OPEN_VAULT, 0.0), min(states.values(), default=0.0), *fleet.hz(), *vault.hz())
    return Sample(
        time.monotonic() - began_s,
        fleet.heap_mb(),
        vault.heap_mb(),
        desk.rss_mb("dashboard"),
        windows,
        desk.rss_mb("daemon"),
        pace,
        spent_s,
    )


def usable_s(page: Page, url: str, part: str) -> list[float]:
    """Return how long a page takes, each time, from being asked for until its part is there and shows what came."""
    found = []
    for _ in range(LOOKS):
        began_s = time.monotonic()
        page.goto(url)
        page.wait_for_selector("html[data-live]")
        page.wait_for_selector(part)
        found.append(time.monotonic() - began_s)
    return found


def main() -> None:
    """Run for so many minutes of simulated time, so many times as fast as the clock."""
    parser = argparse.ArgumentParser(prog="scripts/dashboard_soak")
    parser.add_argument("speed", type=float, nargs="?", default=24.0)
    parser.add_argument("minutes", type=float, nargs="?", default=60.0)
    asked_for = parser.parse_args()
    speed = asked_for.speed
    span_s = 60.0 * asked_for.minutes / speed
    market_ns = round((asked_for.minutes + SPARE_MIN * speed) * NS_PER_MIN)
    with (
        TemporaryDirectory(prefix="ek-soak-") as folder,
        open_desk(write_vaults(Path(folder), market_ns), speed) as desk,
        at_broker(desk.mqtt_port) as broker,
    ):
        fleet_page = desk.open("/")
        wait_for(lambda: fleet_page.inner_text("main").count("running") >= VAULTS)
        vault_page = desk.open(f"/vault/{OPEN_VAULT}")
        fleet_page.wait_for_timeout(WARM_UP_S * 1_000)
        usable = {
            "fleet": usable_s(fleet_page, f"{desk.url}/", "table.fleet tbody tr"),
            "vault": usable_s(vault_page, f"{desk.url}/vault/{OPEN_VAULT}", ".ek-plot canvas"),
        }
        fleet, vault = Watched(fleet_page), Watched(vault_page)
        broker.hz()
        began_s = time.monotonic()
        samples = [sample(desk, broker, fleet, vault, began_s)]
        while samples[-1].at_s < span_s:
            fleet_page.wait_for_timeout(1_000 * span_s / SAMPLES)
            samples.append(sample(desk, broker, fleet, vault, began_s))
            assert desk.processes["dashboard"].poll() is None, "the dashboard ended"
            print(samples[-1], json.dumps(shares(samples[-2], samples[-1])), file=sys.stderr)
    print("| page | usable after s, median | most |\n|---|---|---|")
    for name, took_s in usable.items():
        print(f"| {name} | {median(took_s):.2f} | {max(took_s):.2f} |")
    print(
        "\n| simulated min | fleet heap | vault heap | dashboard | windows | daemon | fleet drawn/s | vault drawn/s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for number, one in enumerate(samples):
        rates = f"| {one.pace.fleet_drawn:.2f} | {one.pace.vault_drawn:.2f} |" if number else "| – | – |"
        memory = " | ".join(f"{value:.1f}" for value in one[1:6])
        print(f"| {one.at_s * speed / 60:.0f} | {memory} {rates}")
    print("\n| stage | a second, median | least | most |\n|---|---|---|---|")
    for name, values in zip(Pace._fields, zip(*(one.pace for one in samples[1:]), strict=True), strict=True):
        print(f"| {name} | {median(values):.2f} | {min(values):.2f} | {max(values):.2f} |")
    print("\n| process | per cent of a processor |\n|---|---|")
    for name, share in shares(samples[0], samples[-1]).items():
        print(f"| {name} | {share:.1f} |")


def shares(earlier: Sample, later: Sample) -> dict[str, float]:
    """Return how much of a processor each process had between two samples, in per cent."""
    span_s = later.at_s - earlier.at_s
    return {
        name: round(100 * (spent_s - earlier.processor_s[name]) / span_s, 1)
        for name, spent_s in later.processor_s.items()
    }


if __name__ == "__main__":
    main()
