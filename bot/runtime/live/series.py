"""Reads the series that a live vault asks for, as long as the run lasts: macro, volatility indices, funding, supply.

A series that cannot be read is told once in the log and shown as down; nothing here ends a run. What is old or never
came is named by the conditions that read it, and raises buffers as they say (F43).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import structlog

from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from bot.gateways.gateway import Clock, Put
from bot.runtime.configuration.risk_sections import SeriesLine
from bot.runtime.configuration.vault import Vault
from bot.runtime.configuration.venues import venue_settings

if TYPE_CHECKING:
    from bot.gateways.series.sources import SeriesSource
    from bot.gateways.series.watch import SeriesWatch

log = structlog.get_logger()


class LiveSeries:
    """The series of a run; `run` tells their values, `down` which of them cannot be read now, and why."""

    def __init__(
        self,
        lines: tuple[SeriesLine, ...],
        venues: Mapping[str, VenueSettings],
        environ: Mapping[str, str],
        clock: Clock,
    ) -> None:
        self._lines = lines
        self._venues = venues
        self._environ = environ
        self._clock = clock
        self._watch: SeriesWatch | None = None
        self._problem = ""

    @property
    def down(self) -> dict[str, str]:
        """The series that cannot be read now, and why."""
        if self._problem:
            return {line.name: self._problem for line in self._lines}
        return dict(self._watch.down) if self._watch is not None else {}

    async def run(self, sink: Put) -> None:
        """Read until cancelled."""
        # they bring ccxt and web3: seconds of start-up that nobody else waits for, a halt least of all
        from bot.gateways.series.fetching import JsonPages  # noqa: PLC0415
        from bot.gateways.series.sources import make_readers  # noqa: PLC0415
        from bot.gateways.series.watch import SeriesWatch  # noqa: PLC0415

        async with AsyncExitStack() as stack:
            pages = await stack.enter_async_context(JsonPages())
            exchanges = {}
            for venue in sorted({line.venue for line in self._lines if line.venue}):
                exchanges[venue] = open_exchange(self._venues[venue], Credentials())
                stack.push_async_callback(exchanges[venue].close)
            try:
                readers = make_readers(tuple(map(_source, self._lines)), pages, exchanges, self._environ)
                self._watch = SeriesWatch(readers, self._clock, sink)
            except ValueError as error:
                self._problem = str(error)
                log.warning("series.unusable", problem=self._problem)
                await asyncio.Event().wait()
                return
            await self._watch.run()


def open_series(vault: Vault, environ: Mapping[str, str], clock: Clock) -> LiveSeries | None:
    """Return the series of a live vault, None where it asks for none."""
    lines = vault.risk.series if vault.risk is not None else ()
    return LiveSeries(lines, venue_settings(vault, environ), environ, clock) if lines else None


def _source(line: SeriesLine) -> SeriesSource:
    from bot.gateways.series.sources import SeriesSource, SourceKind  # noqa: PLC0415 — as above

    return SeriesSource(
        kind=SourceKind(line.kind),
        of=line.of,
        venue=line.venue,
        symbol=line.symbol,
        base_url=line.base_url,
        key_variable=line.key_variable,
        pace_s=line.pace_s,
    )
