"""`evenkeel` with a stopwatch: what each of its decisions takes, and whose time that is, as arrays in `TIMINGS`.

For `scripts/bench windows`. The recording is put one step at a time, the next one `PACE_S` later and never before the
last is decided upon: so every run takes the same decisions, whatever goes on beside it. Before each stretch of
`STRETCH` decisions it says so on the pipe `TELL_FD` and waits for SIGUSR1, so that whoever measures can open or shut
what is to be open or shut. A decision is timed by the clock of the wall and by that of the processor, from the moment
its prices were put as well, and told apart by whether it looked at margin.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import resource
import signal
import time
from array import array
from ctypes import CDLL
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from bot.domain.events import Command
from bot.engine.engine import Engine
from bot.runtime.cli import app as cli
from bot.runtime.daemon import Daemon
from bot.runtime.feed import RecordedFeed

OF_DECISIONS: Final = ("put_to_decision_ns", "wall_ns", "processor_ns", "is_margin", "core", "collection_ns")
OF_STRETCHES: Final = ("on_processor_s", "waited_for_processor_s", "preempted", "answers", "answer_ns")


class Timings:
    """What was measured: an entry per decision, and what the process had had by the beginning of each stretch."""

    def __init__(self) -> None:
        self.decisions = {name: array("q") for name in OF_DECISIONS}
        self.stretches = {name: array("d") for name in OF_STRETCHES}
        self.commands = hashlib.sha256()
        self.put_ns = 0
        self.answers = self.answer_ns = 0
        self.is_deciding = False
        self.collection_ns = 0

    def begin_stretch(self) -> None:
        """Note what this process has had of processors, and how often it was asked for its state."""
        on_ns, waited_ns, _ = map(int, Path("/proc/self/schedstat").read_text().split())
        preempted = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        now = (on_ns / 1e9, waited_ns / 1e9, preempted, self.answers, self.answer_ns)
        for name, value in zip(OF_STRETCHES, now, strict=True):
            self.stretches[name].append(value)

    def write(self, path: Path) -> None:
        """Write all of it."""
        digest = np.array(self.commands.hexdigest())
        with path.open("wb") as file:
            np.savez(file, commands=digest, **{**self.decisions, **self.stretches})  # type: ignore[arg-type]


def main() -> None:
    """Run the command line with a stopwatch on it."""
    timings = Timings()
    stretch, pace_s, tell_fd = int(os.environ["STRETCH"]), float(os.environ["PACE_S"]), int(os.environ["TELL_FD"])
    decide, state, which_core = Engine.decide, Daemon._state, CDLL(None).sched_getcpu
    decisions = timings.decisions

    def timed_decide(engine: Engine, now_ns: int) -> list[Command]:
        looks = engine.margin.looks if engine.margin is not None else 0
        timings.is_deciding, timings.collection_ns = True, 0
        began_ns, on_ns = time.perf_counter_ns(), time.thread_time_ns()
        found = decide(engine, now_ns)
        ran_ns, ended_ns = time.thread_time_ns() - on_ns, time.perf_counter_ns()
        timings.is_deciding = False
        is_margin = engine.margin is not None and engine.margin.looks > looks
        row = (
            began_ns - timings.put_ns, ended_ns - began_ns, ran_ns, is_margin, which_core(), timings.collection_ns,
        )  # fmt: skip
        for name, value in zip(OF_DECISIONS, row, strict=True):
            decisions[name].append(value)
        if found:
            timings.commands.update(msgspec.json.encode(found))
        return found

    def timed_state(daemon: Daemon) -> Any:  # noqa: ANN401 — as it was
        began_ns = time.perf_counter_ns()
        found = state(daemon)
        timings.answers += 1
        timings.answer_ns += time.perf_counter_ns() - began_ns
        return found

    async def run_step_by_step(feed: RecordedFeed) -> None:
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, told.set)
        due_s, steps = 0.0, 0
        while (step := feed._world.step()) is not None:
            if steps % stretch == 0:
                timings.begin_stretch()
                os.write(tell_fd, b".")
                await told.wait()
                told.clear()
                due_s = time.monotonic()
            steps += 1
            due_s = max(due_s + pace_s, time.monotonic())
            await asyncio.sleep(due_s - time.monotonic())
            feed._world_ns = step[0]
            timings.put_ns = time.perf_counter_ns()
            feed._mailbox.put(*step)
            await feed._mailbox.drained()

    collecting_ns = 0

    def on_collection(phase: str, _: dict[str, int]) -> None:
        nonlocal collecting_ns
        if phase == "start":
            collecting_ns = time.perf_counter_ns()
        elif timings.is_deciding:
            timings.collection_ns += time.perf_counter_ns() - collecting_ns

    Engine.decide, Daemon._state = timed_decide, timed_state  # type: ignore[method-assign]
    RecordedFeed.run = run_step_by_step  # type: ignore[method-assign]
    gc.callbacks.append(on_collection)
    try:
        cli.main()
    finally:
        timings.write(Path(os.environ["TIMINGS"]))


if __name__ == "__main__":
    main()
