"""Collateral problems of a daemon, each solved by a process of its own: no solver holds a decision up.

The newest question is the one that counts. What a process said before it failed or ran out of time is the answer; if
that is nothing, this is said. Must never send anything anywhere.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from typing import Final

import msgspec
import structlog

from bot.domain.events import PlanCollateral
from bot.domain.risk import CollateralPlanned
from bot.gateways.gateway import Clock, Put
from bot.risk.collateral.answering import Answer
from bot.runtime.collateral_worker import Question

START_S: Final = 10.0  # for a process to be there, on a machine that has other things to do
WORKER: Final = ("-m", "bot.runtime.collateral_worker")

log = structlog.get_logger()


class CollateralPlanner:
    """Answers the questions of one run, one at a time; `worker` are the arguments of the process that does it."""

    def __init__(self, clock: Clock, *, worker: tuple[str, ...] = WORKER, start_s: float = START_S) -> None:
        self._clock = clock
        self._worker = worker
        self._start_s = start_s
        self._next: PlanCollateral | None = None
        self._asked = asyncio.Event()

    def submit(self, command: PlanCollateral) -> None:
        """Take a question; one that nobody has begun with is forgotten."""
        self._next = command
        self._asked.set()

    async def run(self, sink: Put) -> None:
        """Answer questions until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            command, self._next = self._next, None
            if command is None:
                continue
            found = await self.solve(command)
            now_ns = self._clock.now_ns()
            log.info("collateral.planned", plan_id=command.plan_id, method=found.method, fault=found.fault)
            sink([CollateralPlanned(command.plan_id, found.text, found.method, found.fault, now_ns, now_ns)])

    async def solve(self, command: PlanCollateral) -> Answer:
        """Return the best answer a process gave in time, or why there is none."""
        question = msgspec.json.encode(Question(command.problem, command.time_limit_s))
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._worker,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=_environment(),
            )
        except OSError as error:
            return Answer("", "", f"no plan: the solver's process cannot be started: {error.strerror}")
        assert process.stdout is not None, "asked for"
        lines: list[bytes] = []
        limit_s = self._start_s + 2.0 * command.time_limit_s
        try:
            async with asyncio.timeout(limit_s):
                await _send(process, question)
                while line := await _line_of(process.stdout):
                    lines.append(line)
                await process.wait()
            why = f"the solver's process ended with {process.returncode}"
        except TimeoutError:
            why = f"the solver did not answer within {limit_s:g} s"
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        return _best(lines, why)


async def _send(process: asyncio.subprocess.Process, question: bytes) -> None:
    assert process.stdin is not None, "asked for"
    with suppress(BrokenPipeError, ConnectionResetError):  # what it said before it ended counts all the same
        process.stdin.write(question)
        await process.stdin.drain()
    process.stdin.close()


async def _line_of(stream: asyncio.StreamReader) -> bytes:
    """Return the next line, however long it is; b"" at the end, where half a line is none."""
    parts: list[bytes] = []
    while True:
        try:
            parts.append(await stream.readuntil(b"\n"))
        except asyncio.LimitOverrunError as error:
            parts.append(await stream.readexactly(error.consumed))
        except asyncio.IncompleteReadError:
            return b""
        else:
            return b"".join(parts)


def _best(lines: list[bytes], why: str) -> Answer:
    """Return the last answer that can be read: the solver's, else the greedy one, which says what happened."""
    answers = []
    for line in lines:
        with suppress(msgspec.DecodeError):
            answers.append(msgspec.json.decode(line, type=Answer))
    if not answers:
        return Answer("", "", f"no plan: {why}")
    if len(answers) == 1:
        fault = f"{why}: the plan is the greedy one" if answers[0].text else f"{answers[0].fault}; {why}"
        return msgspec.structs.replace(answers[0], fault=fault)
    solved = answers[-1]
    return solved if solved.text or not answers[0].text else answers[0]


def python_path() -> str:
    """Return where a process of ours finds the modules that this one does."""
    return os.pathsep.join(path or os.getcwd() for path in sys.path)  # noqa: PTH109 — as Python has it


def _environment() -> dict[str, str]:
    """Return what the process may see: where Python finds its modules, and none of our secrets."""
    found = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TZ")}
    return {
        **found,
        "PYTHONPATH": python_path(),
        "OMP_NUM_THREADS": "1",
    }
