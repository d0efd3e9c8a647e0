"""A live vault in a folder of its own, its venues on loopback, and the command line as a market maker types it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.rehearsal import HEDGE, Market
from tests.runtime.command_line import PATIENCE_S, CommandLine, Process, Result
from tests.venues.binance import BinanceServer
from tests.venues.deribit import DeribitServer

QUICK = "timeout_s: 2.0, requests_per_s: 400, burst_requests: 200, account_poll_s: 0.3, fills_poll_s: 0.2"
PATIENT = "max_silence_s: 0.5, absence_s: 0.3"

VAULT = """\
vault: mm
mode: live
feed: live
venues:
{venues}
underlyings: [ETH]
numeraire: USD
book:
  - {{instrument: {call}, qty_base: -100}}
  - {{instrument: {put}, qty_base: -100}}
cash: {{USD: 500000}}
hedge:
{hedges}
policy: {{type: delta_band, half_width_base: 1.0}}
limits: {{max_order_quote: 20000, max_orders_per_min: 2000, daily_loss_quote: 1000000, max_hedges_same_way: 100}}
max_age: {{quote_s: 2, index_s: 2, vol_s: 5, account_s: 5}}
state_dir: s
"""
TAKER = "maker_bps: 0, taker_bps: 5"
MAKER = f"{TAKER}, style: maker, max_rest_s: 3600, escalate_bands: 1000"


class Stand:
    """One vault: write it, break it, run commands on it. `market` is the coin at the first venue."""

    def __init__(self, evenkeel: CommandLine, folder: Path) -> None:
        self.folder = folder
        self.market = Market(random.Random(7).randrange(1_000))
        self._evenkeel = evenkeel
        self._started: list[Process] = []

    @property
    def file(self) -> Path:
        return self.folder / "mm.yaml"

    def write_vault(
        self, *servers: DeribitServer | BinanceServer, hedges: tuple[str, ...] = (f"{HEDGE}, {TAKER}",)
    ) -> None:
        """Write the vault and the keys of its venues."""
        venues = []
        for server in servers:
            name, exchange = ("deribit", "deribit") if isinstance(server, DeribitServer) else ("binance", "binanceusdm")
            self.write_keys(name, server.credentials)
            options = json.dumps(server.options if isinstance(server, DeribitServer) else server.plain_options)
            said = f"exchange: {exchange}, credentials: {name}-keys.yaml, options: {options}"
            venues.append(f"  {name}: {{{said}, {QUICK}, {PATIENT}}}")
        call, put = self.market.options
        lines = [f"  - {{instrument: {hedge}}}" for hedge in hedges]
        self.file.write_text(VAULT.format(venues="\n".join(venues), hedges="\n".join(lines), call=call, put=put))

    def write_keys(self, name: str, keys: dict[str, str], mode: int = 0o600) -> None:
        path = self.folder / f"{name}-keys.yaml"
        path.touch(mode)
        path.write_text("".join(f"{key}: {text}\n" for key, text in keys.items()))
        path.chmod(mode)

    def change(self, old: str, new: str) -> None:
        """Change the vault file in one place."""
        text = self.file.read_text()
        assert old in text, f"{old!r} in {text}"
        self.file.write_text(text.replace(old, new, 1))

    async def run(self, *arguments: str) -> Result:
        """Run a command to its end while the venues go on."""
        return await asyncio.to_thread(self._evenkeel.run, *arguments, cwd=self.folder)

    async def start(self, *arguments: str) -> Process:
        """Start a command; it is ended with the stand at the latest."""
        process = await asyncio.to_thread(self._evenkeel.start, *arguments, cwd=self.folder)
        self._started.append(process)
        return process

    async def start_daemon(self, *arguments: str) -> Process:
        return await self.start("-v", "--log-json", "run", "mm.yaml", "--live", *arguments)

    async def status(self) -> dict[str, Any]:
        """What `status --json` says, running or not."""
        result = await self.run("status", "mm.yaml", "--json")
        return result.json if result.out else {}

    def end(self) -> None:
        """Kill what still runs."""
        import signal

        for process in self._started:
            process.send(signal.SIGCONT)
            process.send(signal.SIGKILL)


@contextmanager
def open_stand(evenkeel: CommandLine) -> Iterator[Stand]:
    """A stand in a fresh folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="ek-") as name:
        stand = Stand(evenkeel, Path(os.path.realpath(name)))
        try:
            yield stand
        finally:
            stand.end()


async def until(condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Wait until `condition` holds and return what it found; what it found last if it never does."""
    deadline = asyncio.get_running_loop().time() + patience_s
    while not (found := condition()) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 — the condition is anything
        await asyncio.sleep(0.01)
    return found


@asynccontextmanager
async def showing(*show: Callable[[], object]) -> AsyncIterator[None]:
    """Show a still market a few times a second, so that nothing goes stale."""

    async def repeat() -> None:
        while True:
            for one in show:
                one()
            await asyncio.sleep(0.1)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
