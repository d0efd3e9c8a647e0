"""A live vault on a loopback Deribit whose market stands still until told to move: stopped, killed, started again.

Everything is real but the money, as in a rehearsal; here a test says what goes wrong and when.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bot.domain.decisions import Decision
from bot.domain.events import Command, Event, SubmitOrder
from bot.runtime.configuration.config import load_vaults
from bot.runtime.daemon import Daemon
from bot.runtime.journal import Batch, Commands, Journal
from bot.runtime.live.session import LiveSession, open_live
from bot.runtime.operators.halt_marker import HaltMarker
from tests.acceptance.rehearsal import HEDGE, MAKER, MOST_ORDER_QUOTE, MOST_VENUE_QUOTE, VAULT, Market
from tests.runtime.command_line import PATIENCE_S
from tests.venues.deribit import DeribitServer
from tests.venues.faults import FaultScript
from tests.venues.matching import VenueBook

LOT_BASE = 0.01  # of the hedge
SHOWN_EVERY_S = 0.05

E = TypeVar("E")


class StillMarket(Market):
    """The market of a rehearsal, deep and still: a vault on it wants about +3.5 ETH of hedge at 2,000."""

    sizes = (50.0,)

    def __init__(self) -> None:
        super().__init__(seed=1)

    async def wander(self) -> None:
        """Go on showing the same, so that nothing is stale, until cancelled."""
        while True:
            await asyncio.sleep(SHOWN_EVERY_S)
            self.show()


class LiveVault:
    """One vault, its journal, and the venue that outlives its daemons. `running` starts one."""

    def __init__(
        self,
        folder: Path,
        market: Market,
        server: DeribitServer,
        *,
        is_maker: bool = False,
        changes: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.market = market
        self.server = server
        self.path = folder / "rehearsal.yaml"
        self.journal_path = folder / "rehearsal.sqlite"
        text = VAULT.format(
            options=msgspec.json.encode(server.options).decode(), call=market.options[0], put=market.options[1],
            hedge=HEDGE, folder=folder, most_orders=600, most_order_quote=MOST_ORDER_QUOTE,
            most_venue_quote=MOST_VENUE_QUOTE, style=MAKER if is_maker else "",
        )  # fmt: skip
        for old, new in (changes or {}).items():
            assert old in text, f"expected {old!r} in the vault file"
            text = text.replace(old, new)
        self.path.write_text(text)
        keys = {f"EVENKEEL_DERIBIT_{name.upper()}": value for name, value in server.credentials.items()}
        self.environ = {**keys, **(environ or {})}
        self.session: LiveSession | None = None
        self._task: asyncio.Task[Any] | None = None

    @property
    def book(self) -> VenueBook:
        """What is true at the venue."""
        return self.market.book

    @property
    def faults(self) -> FaultScript:
        """What goes wrong there."""
        return self.server.faults

    @property
    def state(self) -> str:
        """The state of the bot."""
        assert self.session is not None
        return str(self.session.engine.state)

    @property
    def decision(self) -> Decision:
        """The newest decision about the coin."""
        assert self.session is not None
        decision = self.session.engine.desks["ETH"].decision
        assert decision is not None
        return decision

    @property
    def refusal(self) -> str:
        """Why the newest decision did not trade, "" if it did or had nothing to do."""
        assert self.session is not None
        decision = self.session.engine.desks["ETH"].decision
        return "" if decision is None or decision.refusal is None else str(decision.refusal)

    @property
    def engine_orders(self) -> list[str]:
        """The orders that are not over, as the engine knows."""
        assert self.session is not None
        return list(self.session.engine.orders.live)

    @property
    def unknown(self) -> list[str]:
        """The orders whose outcome is unknown."""
        assert self.session is not None
        return [order.intent.order_id for order in self.session.engine.orders.live.values() if order.state == "unknown"]

    @property
    def ledger_lots(self) -> int:
        """The hedge position as the ledger has it."""
        assert self.session is not None
        return self.session.engine.desks["ETH"].hedge.lots

    @property
    def venue_lots(self) -> int:
        """The hedge position as the venue has it."""
        return round(self.book.position(HEDGE).amount / LOT_BASE)

    @property
    def is_even(self) -> bool:
        """Tell whether ledger and venue agree, no order is under way, and net delta is in its band."""
        assert self.session is not None
        engine = self.session.engine
        decision = engine.desks["ETH"].decision
        if (
            decision is None
            or decision.refusal is not None
            or self.ledger_lots != self.venue_lots
            or engine.orders.live
        ):
            return False
        return decision.low_base <= decision.delta_low_base and decision.delta_high_base <= decision.high_base

    @asynccontextmanager
    async def running(self) -> AsyncIterator[LiveSession]:
        """Run a daemon for the length of the block, stopped in order at its end unless `kill` was first."""
        stop = asyncio.Event()
        with Journal.open(self.journal_path, for_writing=True) as journal:
            (vault,) = load_vaults([self.path], allow_live=True)
            async with open_live(vault, self.path, journal, self.environ) as session:
                self.session = session
                marker = HaltMarker(self.folder / "rehearsal.halted")
                daemon = Daemon(
                    session, journal, socket_path=self.folder / "s", speed=1.0, progress=lambda _now_ns: None,
                    marker=marker,
                )  # fmt: skip
                task = self._task = asyncio.create_task(daemon.run(stop))
                try:
                    yield session
                    stop.set()
                    if not task.cancelled():
                        await task
                finally:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

    async def kill(self) -> None:
        """End the daemon without a goodbye: nothing is canceled, nothing more reaches the journal."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def move(self, px: float) -> None:
        """Move the market: the quotes first, so that an order decided upon by the index is not priced at old ones."""
        self.book.set_quote(HEDGE, px - 0.1, 50.0, px + 0.1, 50.0)
        await self.server.settle()
        self.market.px = px
        self.market.show()

    async def soon(self, condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait until something is true; a daemon that ends before is an error."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    if self._task is not None and self._task.done() and not self._task.cancelled():
                        self._task.result()
                    await asyncio.sleep(0.005)
        except TimeoutError as error:
            state = f"{self.state}, refusal {self.refusal!r}, unknown {self.unknown}" if self.session else "not begun"
            text = f"expected {what} within {timeout_s} s, found {state}, {self.ledger_lots} and {self.venue_lots} lots"
            raise AssertionError(text) from error

    async def even(self) -> None:
        """Wait until ledger and venue agree and net delta is in its band."""
        await self.soon(lambda: self.is_even, "ledger = venue, inside the band")

    def commands(self) -> list[Command]:
        """Return every command in the journal."""
        with Journal.open(self.journal_path, for_writing=False) as journal:
            records = [record for _, record in journal.records() if isinstance(record, Commands)]
        return [command for record in records for command in record.commands]

    def events(self, kind: type[E]) -> list[E]:
        """Return the events of one kind in the journal."""
        with Journal.open(self.journal_path, for_writing=False) as journal:
            batches = [record for _, record in journal.records() if isinstance(record, Batch)]
        found: Sequence[Event] = [event for batch in batches for event in batch.events]
        return [event for event in found if isinstance(event, kind)]

    def check_orders(self, *others: VenueBook) -> None:
        """Fail if an intent became two orders, or the venue has one that no journal knows."""
        ordered = [command.intent.order_id for command in self.commands() if isinstance(command, SubmitOrder)]
        assert len(ordered) == len(set(ordered)), "an id was ordered twice"
        books = (self.book, *others)
        placed = [order.client_id for book in books for order in book.orders.values() if order.client_id]
        assert len(placed) == len(set(placed)), "an intent became two orders"
        assert set(placed) <= set(ordered), "an order left that is not in the journal"


@asynccontextmanager
async def live_vault(**terms: Any) -> AsyncIterator[LiveVault]:
    """A vault and its venue, not running yet."""
    market = StillMarket()
    with tempfile.TemporaryDirectory(prefix="ek-") as name:  # pytest's own is too long for a socket's name
        async with DeribitServer(market.book, faults=FaultScript(1), heartbeat_scale=0.01) as server:
            showing = asyncio.create_task(market.wander())
            try:
                yield LiveVault(Path(os.path.realpath(name)), market, server, **terms)
            finally:
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)
