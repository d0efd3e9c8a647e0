"""Replays that pages ask for: one at a time, in a process of its own that ends when told to or after too long.

Nothing of a page reaches the command line but names that were offered to it.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from bot.domain.results import TracedRun
from bot.runtime.configuration.vault import RecordingFeed, Vault
from bot.simulation.recording import bundled_names
from bot.telemetry.dashboard.replays import ReplayState
from strategies import POLICIES

MOST_S: Final = 900.0
MOST_POLICIES: Final = 6
MOST_OUTPUT_BYTES: Final = 4_000_000
LINE_BYTES: Final = 64 * 1024
NICENESS: Final = 10  # whatever trades on this machine goes first
FRACTION: Final = re.compile(r"^(?P<run>.+): .*, (?P<percent>\d{1,3})%$")


class ReplayRuns:
    """The replay of one desk; `vault_files` are the files of its vaults by name."""

    def __init__(self, vault_files: Mapping[str, tuple[Path, Vault]], *, most_s: float = MOST_S) -> None:
        self._files = dict(vault_files)
        self._most_s = most_s
        self._task: asyncio.Task[None] | None = None
        self._is_canceled = False
        self._state = ReplayState()
        own = [self.recording_of(name) for name in self._files]
        self._recordings = tuple(dict.fromkeys(name for name in (*own, *bundled_names()) if name))

    @property
    def vaults(self) -> Sequence[str]:
        """The vaults whose files can be replayed."""
        return tuple(self._files)

    @property
    def recordings(self) -> Sequence[str]:
        """The recordings that come with Evenkeel, and those that vaults name."""
        return self._recordings

    @property
    def policies(self) -> Sequence[str]:
        """The policies there are."""
        return tuple(POLICIES)

    @property
    def state(self) -> ReplayState:
        """How it stands."""
        return self._state

    def recording_of(self, vault: str) -> str:
        """Return the recording a vault's file names, "" for a live feed and for a vault that is not offered."""
        found = self._files.get(vault)
        return found[1].feed.recording if found is not None and isinstance(found[1].feed, RecordingFeed) else ""

    def policy_of(self, vault: str) -> str:
        """Return the policy a vault's file names, "" for a vault that is not offered."""
        found = self._files.get(vault)
        return found[1].policy.name if found is not None else ""

    def start(self, vault: str, recording: str, policies: Sequence[str], user: str) -> str:
        """Begin a replay and return "", or why not. Must be called on the event loop."""
        if self._state.is_running:
            return f"expected no other replay, found one that {self._state.user} started; hint: cancel it or wait"
        if vault not in self._files or recording not in self._recordings:
            return "expected a vault and a recording of the lists"
        chosen = tuple(dict.fromkeys(policies))
        if not 1 <= len(chosen) <= MOST_POLICIES or not set(chosen) <= POLICIES.keys():
            return f"expected 1 to {MOST_POLICIES} policies of the list, found {len(chosen)}"
        self._state = ReplayState(
            is_running=True,
            vault=vault,
            recording=recording,
            policies=chosen,
            user=user,
            runs=self._state.runs,  # what is known stays in sight until there is something newer
        )
        self._is_canceled = False
        self._task = asyncio.create_task(self._run(self._state))
        return ""

    def cancel(self) -> None:
        """End the one that runs. One that ends already is left to bury its process."""
        if self._task is not None and self._state.is_running and not self._is_canceled:
            self._is_canceled = True
            self._task.cancel()

    async def close(self) -> None:
        """End the one that runs, and wait until it has."""
        self.cancel()
        if self._task is not None:
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self, began: ReplayState) -> None:
        path, _ = self._files[began.vault]
        words = ["replay", str(path), "--recording", began.recording, "--compare", ",".join(began.policies)]
        words += ["--json", "--series"]
        process = None
        try:
            async with asyncio.timeout(self._most_s):
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "bot.runtime.cli.app",
                    *words,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    limit=LINE_BYTES,
                )
                with suppress(ProcessLookupError):
                    os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
                self._finish(*await asyncio.gather(_read(process.stdout), self._follow(process.stderr, began)), began)
        except TimeoutError:
            self._state = _ended(began, f"it took longer than {self._most_s:.0f} s and was ended")
        except (OSError, ValueError) as error:
            self._state = _ended(began, f"it could not be run: {str(error)[:200]}")
        except asyncio.CancelledError:
            self._state = _ended(began, "it was canceled")
        finally:
            if process is not None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.communicate()  # reads its pipes to their end, so that they close

    async def _follow(self, errors: asyncio.StreamReader | None, began: ReplayState) -> str:
        """Note progress from what the process says, and return its last other line."""
        assert errors is not None, "it was opened with a pipe"
        last, run, done = "", "", -1
        while line := await errors.readline():
            text = line.decode(errors="replace").strip()
            found = FRACTION.match(text)
            if found is None:
                last = text or last
                continue
            if found["run"] != run:
                run, done = found["run"], done + 1
            fraction = (done + int(found["percent"]) / 100.0) / len(began.policies)
            self._state = msgspec.structs.replace(began, fraction=min(1.0, fraction), told=text[:200])
        return last

    def _finish(self, out: bytes, last: str, began: ReplayState) -> None:
        try:
            runs = tuple(msgspec.json.decode(out, type=list[TracedRun]))
        except msgspec.MsgspecError:
            self._state = _ended(began, last[:400] or "it ended without a word")
            return
        self._state = msgspec.structs.replace(began, is_running=False, fraction=1.0, runs=runs)


async def _read(output: asyncio.StreamReader | None) -> bytes:
    assert output is not None, "it was opened with a pipe"
    found = bytearray()
    while part := await output.read(LINE_BYTES):
        found += part
        if len(found) > MOST_OUTPUT_BYTES:
            raise ValueError(f"expected at most {MOST_OUTPUT_BYTES:,} bytes of figures, found more")
    return bytes(found)


def _ended(began: ReplayState, error: str) -> ReplayState:
    return msgspec.structs.replace(began, is_running=False, error=error)
