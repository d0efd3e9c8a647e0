"""What the dashboard reads beside the broker: the audit log from the journals, read-only; stress looks; replays."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import structlog

from bot.domain.errors import EvenkeelError
from bot.domain.windows import Told
from bot.runtime.dashboard.replay_runs import ReplayRuns
from bot.runtime.journal_tail import JournalTail
from bot.runtime.windows.heat_source import HeatSource
from bot.runtime.windows.hub import Watched
from bot.telemetry.dashboard.replays import Replays
from bot.telemetry.dashboard.shown.margin import HeatMap

AUDITED: Final = ("command", "config", "run")
KEPT: Final = 500  # lines per vault
AT_A_TIME: Final = 50  # readings of a long journal before whoever waits is shown what there is

log = structlog.get_logger()


class AuditTrail:
    """The commands and changes of one journal, followed as it grows. For one thread."""

    def __init__(self, path: Path) -> None:
        self._tail = JournalTail(path)
        self._lines: deque[Told] = deque(maxlen=KEPT)
        self._run_id = ""

    def newest(self, limit: int) -> list[Told]:
        """Read what is new, and return the newest lines, newest first."""
        try:
            for _ in range(AT_A_TIME):
                for told in self._tail.read():
                    self._take(told)
                if not self._tail.is_behind:
                    break
        except EvenkeelError as error:
            log.warning("dashboard.audit_unreadable", error=str(error))
        return list(self._lines)[: -limit - 1 : -1]

    def close(self) -> None:
        """Let go of the journal."""
        self._tail.close()

    def _take(self, told: Told) -> None:
        if told.run_id != self._run_id:
            self._run_id = told.run_id
            self._lines.clear()
        if told.kind in AUDITED:
            self._lines.append(told)


class DashboardSources:
    """What pages of these vaults may read."""

    def __init__(self, watched: Sequence[Watched]) -> None:
        self._trails = {one.vault.vault: AuditTrail(one.journal_path) for one in watched}
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="audit")  # a journal stays in its thread
        self._heat = HeatSource({one.vault.vault: one.vault for one in watched})
        self._replays = ReplayRuns({one.vault.vault: (one.vault_file, one.vault) for one in watched})

    async def audit(self, vault: str, limit: int) -> Sequence[Told]:
        """Return the newest commands and changes of configuration in a vault's journal, newest first."""
        trail = self._trails.get(vault)
        if trail is None:
            return ()
        return await asyncio.get_running_loop().run_in_executor(self._reader, trail.newest, limit)

    def heat(self, vault: str) -> HeatMap | None:
        """Return the newest look at a vault over moves of spot and vol, None before the first."""
        return self._heat.heat(vault)

    @property
    def replays(self) -> Replays:
        """Who runs replays."""
        return self._replays

    async def close(self) -> None:
        """Let go of everything."""
        loop = asyncio.get_running_loop()
        for trail in self._trails.values():
            await loop.run_in_executor(self._reader, trail.close)
        self._reader.shutdown()
        self._heat.close()
        await self._replays.close()
