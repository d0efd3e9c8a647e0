"""The windows' process beside a daemon: started with it, begun again when it ends, gone when the daemon is.

It hangs on a pipe: when the daemon dies, however it does, the pipe ends and the process with it. Trading never waits.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from bot.runtime.collateral_planner import python_path

AGAIN_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
STEADY_S: Final = 60.0  # having lived for this long it is begun again at once
PARTING_S: Final = 5.0

log = structlog.get_logger()


def windows_command(
    desk_file: Path, vault_files: Sequence[Path], journal: Path | None, options: Sequence[str] = ()
) -> list[str]:
    """Return the command that opens the windows of these vaults for as long as its standard input stays open."""
    named = [] if journal is None else ["--journal", str(journal)]
    files = [str(path) for path in vault_files]
    return [
        sys.executable,
        "-m",
        "bot.runtime.cli.app",
        *options,
        "windows",
        str(desk_file),
        *files,
        *named,
        "--until-eof",
    ]


class WindowsProcess:
    """Keeps the process of the windows alive."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self.starts = 0

    async def run(self) -> None:
        """Start it, and again whenever it ends, until cancelled; then let it say good-bye."""
        failures = 0
        while True:
            began_s = time.monotonic()
            ended = await self._once()
            failures = 0 if time.monotonic() - began_s > STEADY_S else failures
            again_s = AGAIN_S[min(failures, len(AGAIN_S) - 1)]
            failures += 1
            log.error("windows.ended", code=ended, again_s=again_s)
            await asyncio.sleep(again_s)

    async def _once(self) -> int | None:
        environment = {**os.environ, "PYTHONPATH": python_path()}
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, env=environment
        )
        self.starts += 1
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                assert process.stdin is not None, "asked for"
                process.stdin.close()
                with suppress(TimeoutError):
                    async with asyncio.timeout(PARTING_S):
                        await process.wait()
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
