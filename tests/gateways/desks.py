"""An order desk on a loopback venue: the real ccxt between them, and every event it put kept in a list."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import ccxt.pro

from bot.domain.events import AmendOrder, CancelOrder, Event, QueryOrder, SubmitOrder
from bot.domain.orders import OrderIntent, TimeInForce
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from bot.gateways.markets import Markets
from bot.gateways.order_desk import OrderDesk
from bot.gateways.order_words import OrderWords
from bot.gateways.venue_words import order_words_of
from tests.runtime.command_line import PATIENCE_S
from tests.venues.passing import let_pass

RUN = "0123456789"
MOST_AT_ONCE_NS = NS_PER_S // 10
HURRY_S = 0.02
E = TypeVar("E")


class Server(Protocol):
    @property
    def options(self) -> dict[str, Any]: ...

    @property
    def credentials(self) -> dict[str, str]: ...


class SteadyClock:
    """The time of this machine, less what it stood still.

    A busy machine stops a process for seconds; an order that is tried again for one second must not be old by that.
    """

    def __init__(self) -> None:
        self.ahead_ns = 0  # as much more as a test wants
        self._now_ns = time.time_ns()
        self._read_ns = time.monotonic_ns()

    def now_ns(self) -> int:
        before_ns, self._read_ns = self._read_ns, time.monotonic_ns()
        self._now_ns += min(self._read_ns - before_ns, MOST_AT_ONCE_NS)
        return self._now_ns + self.ahead_ns

    async def run(self) -> None:
        """Look at the clock so often that only what it stood still is left out."""
        while True:
            self.now_ns()
            await asyncio.sleep(0.02)


class Rig:
    """A desk and what came of it; `run` is its background task where it has one."""

    def __init__(
        self, exchange: ccxt.pro.Exchange, markets: Markets, settings: VenueSettings, words: OrderWords
    ) -> None:
        self.exchange = exchange
        self.markets = markets
        self.settings = settings
        self.got: list[Event] = []
        self.clock = SteadyClock()
        self.desk = OrderDesk(exchange, markets, words, self.clock, settings, self.put, RUN)
        self._sequence = itertools.count(1)

    def put(self, events: Sequence[Event]) -> None:
        self.got.extend(events)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.got if isinstance(event, kind)]

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.got]

    def send(
        self,
        instrument_id: str,
        lots: int,
        px: float = 0.0,
        tif: TimeInForce = TimeInForce.IOC,
        order_id: str = "",
        **terms: Any,
    ) -> str:
        """Submit an order and return its id."""
        instrument = self.markets.get(instrument_id)
        assert instrument is not None
        intent = OrderIntent(
            order_id=order_id or f"{RUN}-{next(self._sequence)}",
            instrument_id=instrument_id,
            qty_lots=lots,
            limit_ticks=round(px / instrument.tick_schedule.tick_px),
            time_in_force=tif,
            reduce_only=terms.get("reduce_only", False),
            reason="test",
            reference_px=px,
            decided_ns=0,
        )
        self.desk.submit(SubmitOrder(intent))
        return intent.order_id

    def cancel(self, order_id: str, instrument_id: str) -> None:
        self.desk.submit(CancelOrder(order_id, instrument_id, "test"))

    def amend(self, order_id: str, instrument_id: str, px: float) -> None:
        instrument = self.markets.get(instrument_id)
        assert instrument is not None
        ticks = round(px / instrument.tick_schedule.tick_px)
        self.desk.submit(AmendOrder(order_id, instrument_id, ticks, "test"))

    def query(self, order_id: str, instrument_id: str) -> None:
        self.desk.submit(QueryOrder(order_id, instrument_id))

    async def until(self, kind: type[E], count: int = 1) -> E:
        """Wait for the `count`th event of a kind and return it."""
        await self.soon(lambda: len(self.of(kind)) >= count, f"{count} {kind.__name__}")
        return self.of(kind)[count - 1]

    async def soon(self, condition: Callable[[], Any], what: str = "it") -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, f"expected {what} within {PATIENCE_S:g} s, found {self.got}"
            await asyncio.sleep(0.002)

    async def hurry(self, condition: Callable[[], Any], what: str = "it") -> None:
        """Wait as `soon` does, while time passes the faster: pauses and retries of the desk are over the sooner."""

        def holds() -> Any:
            found = condition()
            if not found:
                let_pass(HURRY_S)
                self.clock.ahead_ns += round(HURRY_S * NS_PER_S)
            return found

        await self.soon(holds, what)


def settings_of(venue: str, exchange_id: str, server: Server, **changes: Any) -> VenueSettings:
    base: dict[str, Any] = {
        "venue": venue,
        "exchange_id": exchange_id,
        "underlyings": frozenset({"ETH"}),
        "options": server.options,
        "timeout_ns": round(PATIENCE_S * NS_PER_S),  # who tests what comes of none takes less
        "requests_per_s": 500.0,
        "burst_requests": 100,
        "absence_ns": 100 * NS_PER_MS,
        "account_poll_ns": 30 * NS_PER_S,
        "fills_poll_ns": 30 * NS_PER_S,
    }
    return VenueSettings(**(base | changes))


@asynccontextmanager
async def rigged(
    venue: str, exchange_id: str, server: Server, *, runs: bool = True, words: OrderWords | None = None, **changes: Any
) -> AsyncIterator[Rig]:
    """A desk on a server, running unless asked not to; whatever it started is over afterwards."""
    settings = settings_of(venue, exchange_id, server, **changes)
    exchange = open_exchange(settings, Credentials(**server.credentials))
    tasks: list[asyncio.Task[None]] = []
    try:
        markets = await Markets.load(exchange, venue, settings.underlyings)
        rig = Rig(exchange, markets, settings, words or order_words_of(exchange_id))
        tasks.append(asyncio.create_task(rig.clock.run()))
        if runs:
            tasks.append(asyncio.create_task(rig.desk.run()))
        try:
            yield rig
        finally:
            await rig.desk.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        await exchange.close()
