"""A market feed that runs against a loopback venue through the real ccxt, and what it said so far.

What the feed takes for silence is longer than a busy machine stands still, and passes at once: while a test waits for
something (`soon`), or lets time go by in which nothing may happen (`nothing`), the loop's clock runs ahead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import ccxt.pro

from bot.domain.events import Event
from bot.domain.units import NS_PER_S
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from bot.gateways.market_feed import MarketFeed, Pace
from bot.gateways.market_words import MarketWords
from bot.gateways.markets import Markets
from tests.runtime.command_line import PATIENCE_S
from tests.venues.passing import pass_on

LIMIT_NS = 20 * NS_PER_S
STEP_S = 0.5  # a request takes some, and is given up after twice the limit
FAST = Pace(chain_ns=5 * NS_PER_S, funding_ns=5 * NS_PER_S, settlement_ns=5 * NS_PER_S)
SLOW = Pace(chain_ns=3600 * NS_PER_S, funding_ns=3600 * NS_PER_S, settlement_ns=3600 * NS_PER_S)
E = TypeVar("E")


class Server(Protocol):
    """What a loopback venue must be here."""

    @property
    def options(self) -> dict[str, Any]: ...

    def disconnect(self) -> None: ...


class WallClock:
    """The time of this machine, and as much more as a test wants."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def now_ns(self) -> int:
        return time.time_ns() + self.ahead_ns


class Watched:
    """A running feed, what it said, and what it reads from."""

    def __init__(self, feed: MarketFeed, markets: Markets, exchange: ccxt.pro.Exchange, events: list[Event]) -> None:
        self.feed = feed
        self.task = asyncio.create_task(feed.run())
        self.markets = markets
        self.exchange = exchange
        self.events = events

    def of(self, kind: type[E], instrument_id: str = "") -> list[E]:
        said = [event for event in self.events if isinstance(event, kind)]
        return [event for event in said if getattr(event, "instrument_id", instrument_id) == instrument_id]

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})

    async def soon(self, condition: Callable[[], Any]) -> None:
        """Let time pass until a condition holds."""
        until_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < until_s, f"expected the condition to hold, found {self.events[-5:]}"
            await pass_on(STEP_S)

    async def nothing(self, limits: float) -> None:
        """Let so many times pass as the feed takes for silence."""
        for _ in range(round(limits * LIMIT_NS / NS_PER_S / STEP_S)):
            await pass_on(STEP_S)


@asynccontextmanager
async def watching(
    server: Server,
    *instrument_ids: str,
    exchange_id: str = "deribit",
    pace: Pace = SLOW,
    clock: WallClock | None = None,
    limit_ns: int = LIMIT_NS,
    prefix: str = "",
    words: MarketWords | None = None,
) -> AsyncIterator[Watched]:
    """Watch instruments of a loopback venue for as long as the block lasts."""
    settings = VenueSettings(
        venue=exchange_id,
        exchange_id=exchange_id,
        underlyings=frozenset({"ETH"}),
        options=server.options,
        timeout_ns=round(PATIENCE_S * NS_PER_S),
        max_silence_ns=limit_ns,
        markets_poll_ns=10 * NS_PER_S if pace is FAST else 3600 * NS_PER_S,
        requests_per_s=1_000.0,
        burst_requests=1_000,
    )
    exchange = open_exchange(settings, Credentials())
    markets = await Markets.load(exchange, settings.venue, settings.underlyings, prefix)
    events: list[Event] = []
    feed = MarketFeed(exchange, markets, words or markets.words, clock or WallClock(), settings, events.extend, pace)
    feed.watch(instrument_ids)
    watched = Watched(feed, markets, exchange, events)
    try:
        yield watched
    finally:
        await watched.end()
        await exchange.close()
        assert watched.task.cancelled(), watched.task.exception()
        server.disconnect()
        await asyncio.sleep(0)
