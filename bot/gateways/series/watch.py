"""Reads every series at its pace and tells what is new; a feed that is down is said once, and again on change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import structlog

from bot.domain.risk import SeriesValue
from bot.domain.units import NS_PER_DAY, NS_PER_S
from bot.gateways.gateway import Clock, Put
from bot.gateways.series.fetching import SeriesDown
from bot.gateways.series.reader import Reader

_FIRST_RETRY_S: Final = 5.0
_MAX_TOLD: Final = 20_000  # values of a series: what was told is not told again

log = structlog.get_logger()


class SeriesWatch:
    """Runs readers side by side. `history_ns` is how far back the first reading of each goes."""

    def __init__(
        self,
        readers: Sequence[Reader],
        clock: Clock,
        put: Put,
        *,
        history_ns: int = 90 * NS_PER_DAY,
        retry_s: float = _FIRST_RETRY_S,
    ) -> None:
        """Make a watch. Raises ValueError for two readers of one name."""
        names = [reader.name for reader in readers]
        if len(set(names)) != len(names):
            raise ValueError(f"expected each series once, found {', '.join(sorted(names))}")
        self._readers = tuple(readers)
        self._clock = clock
        self._put = put
        self._history_ns = history_ns
        self._retry_s = retry_s
        self._told: dict[str, dict[int, list[float]]] = {name: {} for name in names}  # by time, every vintage told
        self._down: dict[str, str] = {}

    @property
    def down(self) -> Mapping[str, str]:
        """The series that cannot be read now, and why."""
        return MappingProxyType(self._down)

    async def run(self) -> None:
        """Read until cancelled; nothing a server does ends it."""
        async with asyncio.TaskGroup() as group:
            for reader in self._readers:
                group.create_task(self._follow(reader), name=f"series {reader.name}")

    async def look(self, reader: Reader) -> bool:
        """Read one series once and tell what is new of it; tell whether it could be read."""
        now_ns = self._clock.now_ns()
        told = self._told[reader.name]
        newest_ns = max(told, default=now_ns - self._history_ns)
        try:
            values = await reader.read(newest_ns, now_ns)
        except SeriesDown as down:
            self._say_down(reader.name, str(down))
            return False
        except Exception as error:  # noqa: BLE001 — a reader's own mistake must not end the others
            self._say_down(reader.name, f"{type(error).__name__}: {error}")
            return False
        if self._down.pop(reader.name, None) is not None:
            log.info("series.changed", series=reader.name, state="it can be read again")
        fresh = _news_of(values, told)
        while len(told) > _MAX_TOLD:
            del told[next(iter(told))]
        if fresh:
            self._put(fresh)
        return True

    async def _follow(self, reader: Reader) -> None:
        failures = 0
        while True:
            failures = 0 if await self.look(reader) else failures + 1
            pause_s = reader.pace_ns / NS_PER_S
            if failures:
                pause_s = min(self._retry_s * 2 ** min(failures - 1, 10), pause_s)
            await asyncio.sleep(pause_s)

    def _say_down(self, name: str, why: str) -> None:
        if self._down.get(name) != why:
            log.warning("series.changed", series=name, state="down", problem=why)
        self._down[name] = why


def _news_of(values: Sequence[SeriesValue], told: dict[int, list[float]]) -> list[SeriesValue]:
    """Return the values not told yet and note them as told: new times, and new vintages of old ones."""
    by_time: dict[int, list[SeriesValue]] = {}
    for value in values:
        vintages = by_time.setdefault(value.as_of_ns, [])
        if not vintages or vintages[-1].value != value.value:
            vintages.append(value)
    news: list[SeriesValue] = []
    for as_of_ns, vintages in by_time.items():
        before = told.setdefault(as_of_ns, [])
        numbers = [one.value for one in vintages]
        if numbers[: len(before)] == before:
            fresh = vintages[len(before) :]
        else:  # a source that tells only the newest, or other vintages than before
            fresh = vintages[-1:] if numbers[-1] != before[-1] else []
        before += [one.value for one in fresh]
        news += fresh
    return news
