"""Daemons of the vault `busy` that keep time: started, asked, and ended by the test that needs one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bot.runtime.operators.control import NotRunningError, ask
from tests.runtime.command_line import CommandLine, Process, wait_for

JOURNAL = Path(".evenkeel/busy.sqlite")
SOCKET = Path(".evenkeel/busy.sock")
SPEED = "100"  # the first orders of `lasting` within half a second, and more than two minutes of a market


@contextmanager
def running(evenkeel: CommandLine, folder: Path, *argv: str) -> Iterator[Process]:
    """A daemon that answers, for the length of the block."""
    process = evenkeel.start("run", "busy.yaml", "--json", *(argv or ("--speed", SPEED)), cwd=folder)
    try:
        wait_for(lambda: process.is_over or answers(folder))
        assert not process.is_over, process.err
        yield process
    finally:
        process.send(signal.SIGKILL)
        process.wait()


def answers(folder: Path) -> bool:
    """Tell whether a daemon listens; a killed one leaves its socket."""
    try:
        return "state" in view(folder)
    except (NotRunningError, TimeoutError):
        return False


def view(folder: Path) -> dict[str, Any]:
    """Return what a running daemon shows of itself."""
    return ask(folder / SOCKET, {"verb": "view"})


def wait_for_orders(folder: Path, count: int) -> None:
    """Wait until a running daemon has sent so many orders."""
    wait_for(lambda: int(view(folder)["hedges"]) >= count)
