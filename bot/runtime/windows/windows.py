"""The windows of a daemon process, in a process of their own: they ask, show and tell, and can hold up nobody.

Each window runs by itself and is begun again when it fails. What they need of one another goes through the `Hub`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import structlog

from bot.domain.errors import JournalError
from bot.domain.windows import Told, VaultState
from bot.runtime.configuration.desk import Desk, cursor_path
from bot.runtime.operators import control
from bot.runtime.windows.hub import Hub, Watched
from bot.runtime.windows.journal_events import read_cursor, tail_from
from bot.telemetry.logs import OnceLogger

FROZEN_AFTER_S: Final = 3.0  # a daemon that has not answered for this long does not answer
AGAIN_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # pauses before a window that failed is begun again
MOST_OFTEN_S: Final = 0.01  # between two questions, however late the first of them was
PARTING_S: Final = 3.0
LOOK_EVERY_S: Final = 0.2  # for events
SOCKET: Final = ".windows.sock"

log = structlog.get_logger()


class Window(Protocol):
    """Something that shows vaults to somebody. `show`, `tell` and `gone` return at once."""

    @property
    def name(self) -> str:
        """What it is called in logs."""

    async def run(self) -> None:
        """Work until cancelled."""

    def show(self, state: VaultState) -> None:
        """Take the newest state of a vault."""

    def tell(self, told: Told) -> None:
        """Take an event of a vault, those of before this process began not among them."""

    def gone(self, vault: str, why: str) -> None:
        """Take note that a vault's daemon does not answer."""


Complete = Callable[[VaultState], VaultState]


class Windows:
    """Watches daemons and shows what they say in every window."""

    def __init__(
        self,
        watched: Sequence[Watched],
        windows: Sequence[Window],
        hub: Hub,
        *,
        socket_path: Path,
        every_s: float,
        other_sockets: Sequence[Path] = (),
        complete: Complete = lambda state: state,
    ) -> None:
        self._watched = watched
        self._windows = windows
        self._hub = hub
        self._sockets = (socket_path, *other_sockets)
        self._every_s = every_s
        self._complete = complete

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until `stop` is set; windows then have a moment to say good-bye.

        Raises AlreadyRunningError if another such process serves these vaults.
        """
        async with AsyncExitStack() as stack:
            for path in self._sockets:  # one in each state folder: a vault's commands and cursors have one keeper
                await stack.enter_async_context(control.serve(path, self._answer))
            works = [
                *(self._kept(window.name, window.run) for window in self._windows),
                *(
                    self._kept(
                        "watch", partial(watch_daemon, one, self._windows, self._every_s, self._complete, turn_s)
                    )
                    for one, turn_s in zip(self._watched, self._turns(), strict=True)
                ),
                *(self._kept("journal", partial(follow_journal, one, self._windows)) for one in self._watched),
            ]
            tasks = [asyncio.create_task(work) for work in works]
            try:
                await stop.wait()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks, timeout=PARTING_S)

    def _turns(self) -> list[float]:
        """Return how long to wait with the first question to each vault: one process may hold the daemons of all."""
        return [self._every_s * place / len(self._watched) for place in range(len(self._watched))]

    async def _kept(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a window for ever: one that fails is begun again after a pause, and no other notices."""
        failures = 0
        while True:
            began_s = time.monotonic()
            try:
                await run()
                why = "it ended"
            except Exception as error:  # noqa: BLE001 — a window that breaks must not take the others with it
                why = f"{type(error).__name__}: {error}"
            failures = 0 if time.monotonic() - began_s > AGAIN_S[-1] else failures
            again_s = AGAIN_S[min(failures, len(AGAIN_S) - 1)]
            failures += 1
            log.error("window.failed", window=name, why=why, again_s=again_s)
            await asyncio.sleep(again_s)

    async def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        handler = self._hub.handlers.get(str(question.get("verb")))
        if handler is None:
            return {"error": f"expected a verb of {sorted(self._hub.handlers)}, found {question.get('verb')!r:.50}"}
        return await handler(question)


async def watch_daemon(
    watched: Watched,
    windows: Sequence[Window],
    every_s: float,
    complete: Complete = lambda state: state,
    first_s: float = 0.0,
) -> None:
    """Ask a daemon for its state, again and again, and show it or say that it is gone.

    `complete` adds what the daemon has no time to reckon, and returns at once. The first question is asked after
    `first_s`, and one that was late puts the next one off no further.
    """
    line = control.Line(watched.socket_path, FROZEN_AFTER_S)
    vault = watched.vault.vault
    due_s = time.monotonic() + first_s
    try:
        await asyncio.sleep(first_s)
        while True:
            try:
                answer = await line.ask({"verb": "state"})
                state = msgspec.json.decode(answer, type=VaultState)
            except control.NotRunningError:
                _say(windows, lambda window: window.gone(vault, "not running"))
            except TimeoutError:
                why = f"no answer within {FROZEN_AFTER_S:g} s"
                _say(windows, lambda window, why=why: window.gone(vault, why))
            except msgspec.DecodeError as error:
                why = f"an answer that cannot be read: {str(error)[:200]}"
                _say(windows, lambda window, why=why: window.gone(vault, why))
            except OSError as error:
                why = f"its socket cannot be asked: {error.strerror}"
                _say(windows, lambda window, why=why: window.gone(vault, why))
            else:
                whole = complete(state)
                _say(windows, lambda window, whole=whole: window.show(whole))
            now_s = time.monotonic()
            due_s = max(due_s + every_s, now_s + MOST_OFTEN_S)
            await asyncio.sleep(due_s - now_s)
    finally:
        line.close()


async def follow_journal(watched: Watched, windows: Sequence[Window]) -> None:
    """Tell every window the events that come into a journal from now on."""
    once = OnceLogger(log)
    tail = tail_from(
        watched.journal_path, read_cursor(cursor_path(watched.vault.state_dir, watched.vault.vault))
    )  # its place saves reading what is past: numbers count from the beginning
    try:
        while True:
            try:
                events = tail.read()
            except JournalError as error:
                once.failed("journal", vault=watched.vault.vault, error=str(error))
                events = []
            for told in events:
                if told.seq > tail.found_seq:
                    _say(windows, lambda window, told=told: window.tell(told))
            await asyncio.sleep(0.001 if tail.is_behind else LOOK_EVERY_S)
    finally:
        tail.close()


def _say(windows: Sequence[Window], what: Callable[..., None]) -> None:
    for window in windows:
        try:
            what(window)
        except Exception:
            log.exception("window.failed", window=window.name)


def open_windows(desk: Desk, watched: Sequence[Watched], hub: Hub, environ: Mapping[str, str]) -> list[Window]:
    """Return the windows a desk file opens. Raises ConfigError if the environment lacks what they need."""
    opened: list[Window] = []
    if desk.alerts is not None:
        from bot.runtime.windows.alert_window import open_alert_window  # noqa: PLC0415 — brings apprise, which takes its time

        opened.append(open_alert_window(desk.alerts, watched, hub, environ))
    if desk.mqtt is not None:
        from bot.runtime.windows.mqtt_window import open_mqtt  # noqa: PLC0415 — what a desk leaves shut is not loaded

        opened.append(open_mqtt(desk.mqtt, watched, hub, environ))
    if desk.http is not None:
        from bot.runtime.windows.http_window import http_window  # noqa: PLC0415 — what a desk leaves shut is not loaded

        opened.append(http_window(desk.http, watched, hub))
    if desk.mqtt is not None and desk.issuers:
        from bot.runtime.windows.command_window import open_commands  # noqa: PLC0415 — brings ccxt where a vault is live

        opened.append(open_commands(desk, desk.mqtt, watched, hub, environ))
    return opened


async def until_eof(stop: asyncio.Event) -> None:
    """Set `stop` once standard input ends: whoever started this process is gone then, however it went."""
    reader = asyncio.StreamReader()
    with os.fdopen(os.dup(0), "rb", buffering=0) as pipe:
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        while await reader.read(1024):
            pass
    stop.set()
