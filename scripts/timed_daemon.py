"""`evenkeel` with a stopwatch: what its decisions take, and whose time that is, as JSON in the file `TIMINGS` names.

For `scripts/bench windows`. The recording begins at SIGUSR1, when whoever measures has everything open that is to be
open; until then the daemon answers and decides nothing. Each decision is timed by the clock of the wall and by that of
the processor, and told apart by whether it looked at margin. Collections of garbage, answers of states, and waits for
a processor are counted.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import signal
import time
from array import array
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np

from bot.engine.engine import Engine
from bot.runtime.cli import app as cli
from bot.runtime.daemon import Daemon
from bot.runtime.feed import RecordedFeed
from bot.runtime.mailbox import Mailbox

QUANTILES: Final = {"p50": 50, "p90": 90, "p99": 99, "max": 100}


class Usage(NamedTuple):
    """What this process has had of processors: seconds on one, seconds waiting for one, and how often one was taken."""

    on_s: float
    waited_s: float
    preempted: int

    @classmethod
    def now(cls) -> Self:
        """Return it as of now."""
        on_ns, waited_ns, _ = map(int, Path("/proc/self/schedstat").read_text().split())
        return cls(on_ns / 1e9, waited_ns / 1e9, resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw)


class Timings:
    """What was measured; microseconds in arrays."""

    def __init__(self) -> None:
        self.wall = {"plain": array("d"), "margin": array("d")}
        self.processor = {"plain": array("d"), "margin": array("d")}
        self.away = {"plain": array("d"), "margin": array("d")}  # wall less processor: somebody else had it
        self.answers = array("d")
        self.waits = array("d")  # from the newest thing put to the beginning of its decision
        self.collections = array("d")  # within decisions
        self.put_ns = 0
        self.began = Usage.now()
        self.is_deciding = False

    def told(self) -> dict[str, Any]:
        """Return all of it, JSON-ready."""
        usage = Usage.now()
        return {
            "decide_us": {kind: quantiles(values) for kind, values in self.wall.items()},
            "decide_processor_us": {kind: quantiles(values) for kind, values in self.processor.items()},
            "decide_away_us": {kind: quantiles(values) for kind, values in self.away.items()},
            "all_us": quantiles(array("d", [*self.wall["plain"], *self.wall["margin"]])),
            "all_processor_us": quantiles(array("d", [*self.processor["plain"], *self.processor["margin"]])),
            "waited_us": quantiles(self.waits),
            "answer_us": quantiles(self.answers),
            "collected_us": quantiles(self.collections),
            "on_processor_s": usage.on_s - self.began.on_s,
            "waited_for_processor_s": usage.waited_s - self.began.waited_s,
            "preempted": usage.preempted - self.began.preempted,
        }


def quantiles(values: array[float]) -> dict[str, float]:
    """Return how many there are, and their quantiles."""
    found = {name: round(float(np.percentile(values, at)), 1) for name, at in QUANTILES.items()} if values else {}
    return {"count": len(values), **found}


def main() -> None:
    """Run the command line with a stopwatch on it."""
    timings = Timings()
    decide, put, state, run = Engine.decide, Mailbox.put, Daemon._state, RecordedFeed.run

    def timed_decide(engine: Engine, now_ns: int) -> Any:  # noqa: ANN401 — as it was
        looks = engine.margin.looks if engine.margin is not None else 0
        timings.is_deciding = True
        began_ns, on_ns = time.perf_counter_ns(), time.thread_time_ns()
        timings.waits.append((began_ns - timings.put_ns) / 1e3)
        found = decide(engine, now_ns)
        ran_ns, took_ns = time.thread_time_ns() - on_ns, time.perf_counter_ns() - began_ns
        timings.is_deciding = False
        kind = "margin" if engine.margin is not None and engine.margin.looks > looks else "plain"
        timings.wall[kind].append(took_ns / 1e3)
        timings.processor[kind].append(ran_ns / 1e3)
        timings.away[kind].append((took_ns - ran_ns) / 1e3)
        return found

    def timed_put(mailbox: Mailbox, *arguments: Any) -> None:  # noqa: ANN401
        timings.put_ns = time.perf_counter_ns()
        put(mailbox, *arguments)

    def timed_state(daemon: Daemon) -> Any:  # noqa: ANN401
        began_ns = time.perf_counter_ns()
        found = state(daemon)
        timings.answers.append((time.perf_counter_ns() - began_ns) / 1e3)
        return found

    async def run_when_told(feed: RecordedFeed) -> None:
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, told.set)
        await told.wait()
        timings.answers = array("d")
        timings.began = Usage.now()
        await run(feed)

    collecting_ns = 0

    def on_collection(phase: str, _: dict[str, int]) -> None:
        nonlocal collecting_ns
        if phase == "start":
            collecting_ns = time.perf_counter_ns()
        elif timings.is_deciding:
            timings.collections.append((time.perf_counter_ns() - collecting_ns) / 1e3)

    Engine.decide, Mailbox.put, Daemon._state = timed_decide, timed_put, timed_state  # type: ignore[method-assign]
    RecordedFeed.run = run_when_told  # type: ignore[method-assign]
    gc.callbacks.append(on_collection)
    try:
        cli.main()
    finally:
        Path(os.environ["TIMINGS"]).write_text(json.dumps(timings.told()))


if __name__ == "__main__":
    main()
