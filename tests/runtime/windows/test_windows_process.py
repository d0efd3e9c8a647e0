"""The windows' process beside a daemon: begun again when it ends, and gone with whoever started it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from bot.runtime.windows.windows_process import WindowsProcess, windows_command
from tests.runtime.command_line import PATIENCE_S

WAITS = "import sys, pathlib, os; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); sys.stdin.read()"


async def pid_in(path: Path, but_not: str = "") -> str:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            text = path.read_text() if path.exists() else ""
            if text and text != but_not:
                return text
            await asyncio.sleep(0.005)


async def test_it_is_begun_again_and_ends_with_its_owner(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    process = WindowsProcess([sys.executable, "-c", WAITS, str(note)])
    running = asyncio.create_task(process.run())
    first = await pid_in(note)
    os.kill(int(first), signal.SIGKILL)
    second = await pid_in(note, but_not=first)
    assert process.starts == 2
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not Path(f"/proc/{second}").exists()  # it was told by the end of its standard input, and waited for


def test_the_command_names_what_it_watches() -> None:
    command = windows_command(Path("desk.yaml"), [Path("a.yaml"), Path("b.yaml")], Path("j.sqlite"), ["--log-json"])
    assert command[1:] == [
        "-m", "bot.runtime.cli.app", "--log-json", "windows", "desk.yaml", "a.yaml", "b.yaml", "--journal", "j.sqlite",
        "--until-eof",
    ]  # fmt: skip
