"""`evenkeel top` on real daemons, once and live on a terminal of its own."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import signal
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from bot.runtime.cli.top import TopWindow, show_live
from bot.runtime.cli.windows import watch
from bot.runtime.operators import control
from tests.runtime.command_line import PATIENCE_S, CommandLine, wait_for
from tests.runtime.daemons import answers


def test_a_running_daemon_is_shown_and_a_missing_one_is_exit_3(lasting: Path, evenkeel: CommandLine) -> None:
    busy = lasting
    (busy / "calm.yaml").write_text((busy / "busy.yaml").read_text().replace("vault: busy", "vault: calm"))
    daemon = evenkeel.start("run", "busy.yaml", "--speed", "100", cwd=busy)
    try:
        socket_path = control.socket_path(str(busy / ".evenkeel"), "busy")
        wait_for(lambda: answers(busy))
        shown = evenkeel.run("top", "busy.yaml", "--once", cwd=busy)
        assert shown.code == 0
        assert "1 vault, 1 running" in shown.out or "1 vault, 0 running" in shown.out  # it may be reconciling
        both = evenkeel.run("top", "busy.yaml", "calm.yaml", "--json", cwd=busy)
        assert both.code == 3
        states = both.json["vaults"]
        assert states["calm"] is None
        assert states["busy"]["run_id"] == control.ask(socket_path, {"verb": "state"})["run_id"]
        assert evenkeel.run("top", "busy.yaml", "calm.yaml", "--once", cwd=busy).out.count("NO ANSWER") == 1
    finally:
        daemon.send(signal.SIGTERM)
        daemon.wait()


def test_off_a_terminal_it_prints_once(busy: Path, evenkeel: CommandLine) -> None:
    shown = evenkeel.run("top", "busy.yaml", cwd=busy)
    assert (shown.code, "NO ANSWER" in shown.out, "\x1b" in shown.out) == (3, True, False)


def read(descriptor: int) -> bytes:
    """Return all that is there to be read."""
    found = b""
    with suppress(BlockingIOError):
        while True:
            found += os.read(descriptor, 65_536)
    return found


@pytest.mark.parametrize("end", ["q", "Escape", "SIGTERM", "Q, not Ctrl-D"])
async def test_on_a_terminal_it_stays_until_told(busy: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    before = termios.tcgetattr(theirs)
    seen = b""
    with open(theirs, "r+b", buffering=0, closefd=False) as terminal:  # noqa: ASYNC230 — a terminal
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(terminal))
        console = Console(
            file=io.TextIOWrapper(terminal, write_through=True), force_terminal=True, width=120, height=30
        )
        watched = watch([busy / "busy.yaml"])
        shown = asyncio.create_task(show_live(watched, TopWindow(["busy"]), console))
        async with asyncio.timeout(PATIENCE_S):
            while b"q quits" not in seen or b"not running" not in seen:
                await asyncio.sleep(0.01)
                seen += read(ours)
            assert termios.tcgetattr(theirs)[3] & termios.ECHO == 0
            if end == "SIGTERM":
                os.kill(os.getpid(), signal.SIGTERM)
            elif end == "Q, not Ctrl-D":
                os.write(ours, b"\x04")  # Ctrl-D is no key of ours
                drawn = len(seen)
                while len(seen) == drawn:  # it goes on drawing
                    await asyncio.sleep(0.01)
                    seen += read(ours)
                assert not shown.done()
                os.write(ours, b"Q")
            else:
                os.write(ours, b"q" if end == "q" else b"\x1b")
            await shown
            while b"\x1b[?1049l" not in seen:  # the screen it found is back
                await asyncio.sleep(0.01)
                seen += read(ours)
    assert termios.tcgetattr(theirs) == before
    for descriptor in (ours, theirs):
        os.close(descriptor)
