"""A market feed that runs against a loopback venue through the real ccxt, and what it said so far."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import ccxt.pro

from bot.domain.events import Event
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from bot.gateways.market_feed import MarketFeed, Pace
from bot.gateways.market_words import MarketWords
from bot.gateways.markets import Markets
from tests.runtime.command_line import PATIENCE_S

LIMIT_NS = 200 * NS_PER_MS
FAST = Pace(chain_ns=50 * NS_PER_MS, funding_ns=50 * NS_PER_MS, settlement_ns=50 * NS_PER_MS)
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

    async def soon(self, condition: Callable[[], Any], timeout_s: float = PATIENCE_S) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - the condition is anything
                await asyncio.sleep(0.005)


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
        markets_poll_ns=100 * NS_PER_MS if pace is FAST else 3600 * NS_PER_S,
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
