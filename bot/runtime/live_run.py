"""One vault with a live feed from connecting to parting: what `run` runs beside the daemons of recordings."""

from __future__ import annotations

import asyncio
import gc
import secrets
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from bot.domain.errors import ConfigError
from bot.domain.results import RunSummary
from bot.domain.units import utc_text
from bot.gateways.paper import PaperExecution
from bot.runtime.configuration.config import check_listing
from bot.runtime.configuration.vault import Vault
from bot.runtime.configuration.venues import ExecutionOpener, GatewayOpener, open_gateway
from bot.runtime.daemon import Daemon, stopping
from bot.runtime.journal import Journal
from bot.runtime.live.clock import VenueClock, WallClock
from bot.runtime.live.recorder import Recorder, record
from bot.runtime.live.session import connect, list_instruments, open_live
from bot.runtime.operators.halt_marker import HaltMarker
from bot.runtime.recovery import began_as
from bot.runtime.service import Pulse

log = structlog.get_logger()


def spare_collector() -> None:
    """Take what is there now, which stays, out of the garbage collector's sight: the whole process is meant.

    ccxt and its markets are hundreds of thousands of objects, and looking through them takes a tenth of a second or
    more, in which no order can leave.
    """
    gc.collect()
    gc.freeze()


class LiveRun:
    """Connects to the venues of a vault, then runs its daemon until `stop`; `on_connected` is called in between."""

    def __init__(
        self,
        vault: Vault,
        vault_file: Path,
        journal: Journal,
        *,
        socket_path: Path,
        marker: HaltMarker,
        pulse: Pulse | None = None,
        environ: Mapping[str, str],
        gateway_opener: GatewayOpener = open_gateway,
        execution_opener: ExecutionOpener = PaperExecution,
        on_connected: Callable[[], None] = lambda: None,
    ) -> None:
        self._vault = vault
        self._vault_file = vault_file
        self._journal = journal
        self._socket_path = socket_path
        self._marker = marker
        self._pulse = pulse
        self._environ = environ
        self._gateway_opener = gateway_opener
        self._execution_opener = execution_opener
        self._on_connected = on_connected

    async def run(self, stop: asyncio.Event) -> RunSummary:
        """Run until `stop` is set; return the summary of the whole run.

        Raises VenueFatal or Retryable if a venue cannot be used: then nothing was sent.
        """
        structlog.contextvars.bind_contextvars(vault=self._vault.vault)
        opening = open_live(
            self._vault,
            self._vault_file,
            self._journal,
            self._environ,
            began=began_as(self._vault, self._journal),
            gateway_opener=self._gateway_opener,
            execution_opener=self._execution_opener,
        )
        async with opening as session:
            log.info("run.connected", venues=list(session.gateways), listed=len(session.listed))
            self._on_connected()
            daemon = Daemon(
                session,
                self._journal,
                socket_path=self._socket_path,
                speed=1.0,
                progress=lambda _now_ns: None,
                marker=self._marker,
                vault_file=self._vault_file,
                pulse=self._pulse,
            )
            return await daemon.run(stop)


async def record_vault(
    vault: Vault,
    vault_file: Path,
    destination: Path,
    environ: Mapping[str, str],
    *,
    seconds: float | None,
    gateway_opener: GatewayOpener = open_gateway,
) -> str:
    """Write what the venues of a vault say as a recording, until a signal or for `seconds`; return what was written.

    Raises ConfigError for a vault without a live feed, VenueFatal or Retryable if a venue cannot be used.
    """
    if not vault.is_live_feed:
        raise ConfigError([f"{vault_file}: expected a live feed to record, found a recording; hint: say feed: live"])
    stop = asyncio.Event()
    venue_clock = VenueClock() if vault.clock == "venue" else None
    watch = WallClock()
    clock = venue_clock or watch
    ages = {"quotes": vault.max_age.quote_s, "index": vault.max_age.index_s, "vol_quotes": vault.max_age.vol_s}
    with stopping(stop):
        async with AsyncExitStack() as stack:
            gateways = await connect(
                vault, environ, clock, secrets.token_hex(5), gateway_opener, stack, is_keyless=True
            )
            listed = await list_instruments(gateways)
            check_listing(vault_file, listed, clock.now_ns(), " or ".join(gateways))
            for venue, gateway in gateways.items():
                named = (one for one in listed if one.instrument_id in vault.named_instruments)
                gateway.watch([one for one in named if one.venue == venue])
            recorder = Recorder(destination, destination.stem, listed, ages)
            manifest = await record(list(gateways.values()), recorder, watch, stop, seconds, venue_clock=venue_clock)
    if manifest is None:
        return "nothing recorded: not one price came"
    rows = sum(stream.rows for stream in manifest.streams.values())
    return f"{destination}: {rows} rows from {utc_text(manifest.start_ns)} to {utc_text(manifest.end_ns)}"
