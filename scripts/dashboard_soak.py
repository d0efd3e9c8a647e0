"""Show that the dashboard of 20 vaults keeps its pace and its memory: a table on stdout, progress on stderr.

A daemon replays 20 vaults, its windows publish them, a browser has the fleet and one vault open. Memory is read after
the browser was told to collect what it no longer needs, at the start (everything loaded) and every so often until the
time is over; so is the processor time that each process has had, as a share of one processor.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any, Final, NamedTuple

from playwright.sync_api import CDPSession, Page

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
WARM_UP_S: Final = 30.0
SAMPLES: Final = 10
COUNT: Final = "() => { const show = ek.show; window.shown = 0; ek.show = (it) => { window.shown += 1; show(it); }; }"


class Sample(NamedTuple):
    """Memory in MB at one moment, messages a second that pages showed since the last one, processor time by then."""

    at_s: float
    fleet_heap: float
    vault_heap: float
    dashboard: float
    windows: float
    daemon: float
    fleet_hz: float
    vault_hz: float
    processor_s: dict[str, float]


class Watched:
    """One open page: its heap, and how often it showed something."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._devtools: CDPSession = page.context.new_cdp_session(page)
        self._devtools.send("HeapProfiler.enable")
        self._devtools.send("Performance.enable")
        page.evaluate(COUNT)
        self._since_s = time.monotonic()

    def heap_mb(self) -> float:
        """Return what the page's scripts hold."""
        self._devtools.send("HeapProfiler.collectGarbage")
        metrics: list[dict[str, Any]] = self._devtools.send("Performance.getMetrics")["metrics"]
        return next(float(one["value"]) for one in metrics if one["name"] == "JSHeapUsedSize") / 1e6

    def hz(self) -> float:
        """Return how many messages a second came since the last time."""
        shown = self._page.evaluate("() => { const shown = window.shown; window.shown = 0; return shown; }")
        span_s, self._since_s = time.monotonic() - self._since_s, time.monotonic()
        return float(shown) / span_s


def vault_texts() -> dict[str, str]:
    """Return the vault files: one straddle under as many names."""
    text = (ROOT / "config" / "eth-straddle.yaml").read_text()
    return {
        f"straddle-{number:02}": text.replace("vault: eth-straddle ", f"vault: straddle-{number:02} ")
        for number in range(1, VAULTS + 1)
    }


def sample(desk: Desk, fleet: Watched, vault: Watched, began_s: float) -> Sample:
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
    return Sample(
        time.monotonic() - began_s,
        fleet.heap_mb(),
        vault.heap_mb(),
        desk.rss_mb("dashboard"),
        windows,
        desk.rss_mb("daemon"),
        fleet.hz(),
        vault.hz(),
        spent_s,
    )


def main() -> None:
    """Run for so many minutes of simulated time, so many times as fast as the clock."""
    parser = argparse.ArgumentParser(prog="scripts/dashboard_soak")
    parser.add_argument("speed", type=float, nargs="?", default=4.0)
    parser.add_argument("minutes", type=float, nargs="?", default=60.0)
    asked_for = parser.parse_args()
    speed = asked_for.speed
    span_s = 60.0 * asked_for.minutes / speed
    with open_desk(vault_texts(), speed) as desk:
        fleet_page = desk.open("/")
        wait_for(lambda: fleet_page.inner_text("main").count("running") >= VAULTS)
        began_s = time.monotonic()
        vault_page = desk.open("/vault/straddle-01")
        vault_page.wait_for_selector(".ek-plot canvas")
        usable_s = time.monotonic() - began_s
        print(f"a vault page was usable in {usable_s:.1f} s, log-in included", file=sys.stderr)
        fleet_page.wait_for_timeout(WARM_UP_S * 1_000)
        fleet, vault = Watched(fleet_page), Watched(vault_page)
        began_s = time.monotonic()
        samples = [sample(desk, fleet, vault, began_s)]
        while samples[-1].at_s < span_s:
            fleet_page.wait_for_timeout(1_000 * span_s / SAMPLES)
            samples.append(sample(desk, fleet, vault, began_s))
            assert desk.processes["dashboard"].poll() is None, "the dashboard ended"
            print(samples[-1], json.dumps(shares(samples[-2], samples[-1])), file=sys.stderr)
    print("| simulated min | fleet heap | vault heap | dashboard | windows | daemon | fleet Hz | vault Hz |")
    print("|---|---|---|---|---|---|---|---|")
    for number, one in enumerate(samples):
        rates = "| – | – |" if not number else f"| {one.fleet_hz:.2f} | {one.vault_hz:.2f} |"
        memory = " | ".join(f"{value:.1f}" for value in one[1:6])
        print(f"| {one.at_s * speed / 60:.0f} | {memory} {rates}")
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
