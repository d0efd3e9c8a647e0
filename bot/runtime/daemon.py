"""The daemon: one asyncio task group around one engine. Feeds put, one loop decides, the journal comes first.

It owns the clock and the order of things, and takes no decision of its own.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from bot import __version__
from bot.domain.events import Command, Event, OperatorAction, OperatorCommand, Restarted
from bot.domain.results import RunSummary
from bot.domain.units import NS_PER_S
from bot.runtime.config import config_json, config_sha256
from bot.runtime.control import serve
from bot.runtime.journal import SCHEMA_VERSION, Batch, Commands, Header, Journal
from bot.runtime.mailbox import Mailbox
from bot.runtime.recovery import check_header, rebuild
from bot.runtime.session import Session
from bot.runtime.views import status_view

FLUSH_EVERY_S = 0.5  # how much of the market's history a power cut may take; commands are always on disk first
STOP_TIMEOUT_S = 5.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

log = structlog.get_logger()


class Daemon:
    """Runs one session through a mailbox, journalled, `speed` times as fast as the clock (0: as fast as it goes)."""

    def __init__(
        self, session: Session, journal: Journal, *, socket_path: Path, speed: float, progress: Callable[[int], None]
    ) -> None:
        self._session = session
        self._journal = journal
        self._socket_path = socket_path
        self._speed = speed
        self._progress = progress
        self._mailbox = Mailbox()
        self._rescheduled = asyncio.Event()
        self._world_ns = 0  # how far the world has been stepped: no later command may be older
        self._pace: tuple[int, float] | None = None  # virtual time and clock when the feed began

    async def run(self, stop: asyncio.Event) -> RunSummary:
        """Recover, then run until the recording ends or `stop` is set; return the summary of the whole run."""
        began = time.perf_counter()
        async with serve(self._socket_path, self._answer):
            self._recover()  # before anything is awaited: who asks meanwhile waits for the answer
            async with asyncio.TaskGroup() as tasks:
                feed = tasks.create_task(self._feed(), name="feed")
                decide = tasks.create_task(self._decide(), name="decide")
                flush = tasks.create_task(self._flush(), name="flush")
                stopped = tasks.create_task(stop.wait(), name="stop")
                await asyncio.wait({feed, decide, stopped}, return_when=asyncio.FIRST_COMPLETED)
                # staged: no new data, then what was taken in is decided, then the journal; each with its own patience
                feed.cancel()
                if not decide.done():
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._mailbox.drained(), STOP_TIMEOUT_S)
                for task in (decide, flush, stopped):
                    task.cancel()
        self._journal.flush()
        wall_seconds = time.perf_counter() - began
        session = self._session
        return session.score.summary(policy=session.policy.name, seed=session.vault.seed, wall_seconds=wall_seconds)

    def _recover(self) -> None:
        session, journal = self._session, self._journal
        manifest = session.recording.manifest
        recording_sha256 = session.recording_sha256
        if journal.is_empty:
            journal.append(
                Header(
                    run_id=session.engine.settings.run_id,
                    vault=session.vault.vault,
                    config_json=config_json(session.vault),
                    config_sha256=config_sha256(session.vault),
                    recording=manifest.name,
                    recording_sha256=recording_sha256,
                    seed=session.vault.seed,
                    schema_version=SCHEMA_VERSION,
                    evenkeel_version=__version__,
                )
            )
            journal.flush()
            log.info("started", vault=session.vault.vault, recording=manifest.name)
            return
        check_header(journal, session, config_sha256(session.vault), recording_sha256)
        found = rebuild(session, journal, progress=self._progress)
        self._world_ns = found.last_ns
        if found.batches:
            restarted = Restarted(found.last_ns)
            self._decide_batch(found.last_ns, (restarted,))
        log.info(
            "recovered",
            vault=session.vault.vault,
            batches=found.batches,
            orders_in_doubt=sum(1 for _ in session.engine.orders.unknown()),
            state=str(session.engine.state),
        )

    async def _feed(self) -> None:
        world = self._session.world
        if not self._speed:
            while (step := world.step()) is not None:
                self._world_ns = step[0]
                self._mailbox.put(*step)
                await self._mailbox.drained()
            return
        while True:
            self._rescheduled.clear()
            next_ns = world.peek_ns()
            if next_ns is None:
                await self._mailbox.drained()
                if world.peek_ns() is None:
                    return
                continue  # the last decision sent something
            if self._pace is None:
                self._pace = next_ns, time.monotonic()
            wait_s = (next_ns - self._due_ns()) / NS_PER_S / self._speed
            if wait_s > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._rescheduled.wait(), wait_s)
                continue
            self._step_to(self._due_ns())
            await asyncio.sleep(0)

    def _due_ns(self) -> int:
        """Return what time it is in the world: paced, as the clock says; unpaced, as far as it has come."""
        if self._pace is None:
            return self._world_ns
        start_ns, start_s = self._pace
        return max(self._world_ns, start_ns + int((time.monotonic() - start_s) * self._speed * NS_PER_S))

    def _step_to(self, until_ns: int) -> None:
        """Put everything that reaches us up to `until_ns` into the mailbox, where quotes conflate if we are late."""
        while (step := self._session.world.step(until_ns)) is not None:
            # At `until_ns`, not when it came: the venue has moved on, and no command may reach it in its past.
            self._mailbox.put(until_ns, step[1])
        self._world_ns = until_ns

    async def _decide(self) -> None:
        while True:
            now_ns, events = await self._mailbox.take()
            self._decide_batch(now_ns, events)
            self._mailbox.done()
            self._progress(now_ns)

    def _decide_batch(self, now_ns: int, events: tuple[Event, ...]) -> None:
        """Journal, apply, decide, journal and flush, and only then hand the commands over."""
        session = self._session
        engine = session.engine
        self._journal.append(Batch(now_ns, events))
        for event in events:
            engine.apply(event)
        began_ns = time.perf_counter_ns()
        commands = engine.decide(now_ns)
        took_ns = time.perf_counter_ns() - began_ns
        if commands:
            self._journal.append(Commands(now_ns, tuple(commands)))
        if commands or OperatorCommand in map(type, events):
            self._journal.flush()
        if commands:
            for command in commands:
                session.world.submit(command, now_ns)
                log.info("command", **_loggable(command))
            self._rescheduled.set()
        session.score.observe(now_ns, len(events), commands, took_ns)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            self._journal.flush()

    async def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        verb = question.get("verb")
        if verb == "view":
            return {**status_view(self._session, self._due_ns()), "running": True}
        if verb == "operate":
            return await self._operate(question)
        return {"error": f"expected the verb view or operate, found {verb!r}"}

    async def _operate(self, question: dict[str, Any]) -> dict[str, Any]:
        try:
            action = OperatorAction(str(question.get("action")))
        except ValueError:
            return {
                "error": f"expected an action of {[str(a) for a in OperatorAction]}, found {question.get('action')!r}"
            }
        issuer, reason = str(question.get("issuer", ""))[:100], str(question.get("reason", ""))[:500]
        # Through the mailbox like everything else: in order, at the world's time, and an error there ends the daemon.
        now_ns = self._due_ns()
        self._step_to(now_ns)
        self._mailbox.put(now_ns, [OperatorCommand(action, issuer, reason, now_ns)])
        await self._mailbox.drained()
        engine = self._session.engine
        log.warning("operator", action=str(action), issuer=issuer, reason=reason, state=str(engine.state))
        return {"state": str(engine.state), "reason": engine.state_reason}


def _loggable(command: Command) -> dict[str, object]:
    intent = getattr(command, "intent", None)
    if intent is None:
        return {"kind": type(command).__name__, "order_id": getattr(command, "order_id", "")}
    return {
        "kind": "SubmitOrder",
        "order_id": intent.order_id,
        "instrument": intent.instrument_id,
        "qty_lots": intent.qty_lots,
        "reason": intent.reason,
    }


async def run_all(daemons: Sequence[Daemon]) -> list[RunSummary]:
    """Run every daemon until its recording ends; SIGINT, SIGTERM or SIGHUP stops them all in stages."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    try:
        async with asyncio.TaskGroup() as tasks:
            runs = [tasks.create_task(daemon.run(stop)) for daemon in daemons]
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
    return [run.result() for run in runs]
