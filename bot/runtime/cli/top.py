"""`evenkeel top`: what running daemons say of themselves, four times a second, until q is pressed."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from bot.domain.windows import Told, VaultState
from bot.runtime.cli.windows import watch
from bot.runtime.daemon import stopping
from bot.runtime.windows.hub import Watched
from bot.runtime.windows.windows import watch_daemon
from bot.telemetry.metrics.board import Board
from bot.telemetry.top import draw_clocks, draw_fleet

EVERY_S = 0.25
NOT_RUNNING = 3  # as Exit.NOT_RUNNING
QUIT = b"qQ\x03\x1b"


class TopWindow:
    """Keeps what daemons say for whoever draws it."""

    name = "top"

    def __init__(self, vaults: Sequence[str]) -> None:
        self.board = Board(vaults)
        self._silent = set(vaults)
        self.all_heard = asyncio.Event()  # of every vault, be it that it does not run

    async def run(self) -> None:
        """Nothing is done here: whoever draws looks."""

    def show(self, state: VaultState) -> None:
        """Take in a vault's newest state."""
        self.board.show(state)
        self._heard(state.vault)

    def tell(self, told: Told) -> None:
        """Events are not shown."""

    def gone(self, vault: str, why: str) -> None:
        """Note that a vault's daemon does not answer."""
        self.board.gone(vault, why)
        self._heard(vault)

    def draw(self, console: Console, keys: str) -> RenderableType:
        """Return the picture for this terminal, with what the keys do at its foot."""
        is_fancy = console.encoding.lower().startswith("utf")
        foot = "   ".join(filter(None, (draw_clocks(self.board), keys)))
        return Group(draw_fleet(self.board, console.width, is_fancy=is_fancy), Text(foot, style="dim"))

    def _heard(self, vault: str) -> None:
        self._silent.discard(vault)
        if not self._silent:
            self.all_heard.set()


def top(
    vault_files: Annotated[list[Path], typer.Argument(metavar="VAULT.yaml…", help="Vault files")],
    once: Annotated[
        bool, typer.Option("--once", help="Print one picture and end; exit 3 if a daemon is missing")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the states as one JSON object and end")] = False,
) -> None:
    """Show running vaults live: state, net delta in its band, P&L, margin, feeds, and why not. q quits."""
    watched = watch(vault_files)
    window = TopWindow([one.vault.vault for one in watched])
    console = Console(highlight=False)
    if not (once or as_json) and console.is_terminal:
        asyncio.run(show_live(watched, window, console))
        return
    asyncio.run(_once(watched, window))
    if as_json:
        states = {name: record.state for name, record in window.board.records.items()}
        sys.stdout.write(msgspec.json.encode({"vaults": states}).decode() + "\n")
    else:
        console.print(window.draw(console, ""))
    if not all(record.is_answering for record in window.board.records.values()):
        raise typer.Exit(NOT_RUNNING)


async def _once(watched: Sequence[Watched], window: TopWindow) -> None:
    """Ask every daemon until it answered, or is known not to."""
    tasks = _watching(watched, window)
    await window.all_heard.wait()
    await _end(tasks)


async def show_live(watched: Sequence[Watched], window: TopWindow, console: Console) -> None:
    """Draw until somebody has seen enough."""
    stop = asyncio.Event()
    tasks = _watching(watched, window)
    try:
        with stopping(stop), _keys(stop), Live(console=console, screen=True, auto_refresh=False) as live:
            while not stop.is_set():
                live.update(window.draw(console, "q quits"), refresh=True)
                with suppress(TimeoutError):
                    async with asyncio.timeout(EVERY_S):
                        await stop.wait()
    finally:
        await _end(tasks)


def _watching(watched: Sequence[Watched], window: TopWindow) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(watch_daemon(one, [window], EVERY_S)) for one in watched]


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def _keys(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` when q, Escape or Ctrl-C is pressed or the input ends; keys are not echoed meanwhile."""
    if not sys.stdin.isatty():
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    loop = asyncio.get_running_loop()

    def read() -> None:
        pressed = os.read(descriptor, 64)
        if not pressed or any(key in QUIT for key in pressed):
            stop.set()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
