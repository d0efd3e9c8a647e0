"""What every loopback venue is made of: a server on this machine, its sockets, and the fault script in front of both.

A venue's server adds its own words: which paths there are, how requests are signed, and what its streams say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from aiohttp import WSMsgType, web

from tests.venues.faults import FaultScript, Pipe
from tests.venues.matching import Change, VenueBook

DAY_MS = 86_400_000
FUNDING_HOURS_MS = 8 * 3_600_000


class Link:
    """One WebSocket connection as the server knows it: the way out, and what was asked for on it."""

    def __init__(self, pipe: Pipe, request: web.Request) -> None:
        self.pipe = pipe
        self.path = request.path
        self.query = dict(request.query)
        self.transport = request.transport
        self.topics: set[str] = set()

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def abort(self) -> None:
        """Drop the connection as a failing network does, without a closing handshake."""
        if self.transport is not None:
            self.transport.abort()


class LoopbackServer:
    """A venue on 127.0.0.1, on a port the operating system picks; `async with` it.

    `clock_skew_ms` is how far the venue's clock is ahead of the book's.
    """

    def __init__(self, book: VenueBook, *, faults: FaultScript | None = None, clock_skew_ms: int = 0) -> None:
        self.book = book
        self.faults = faults or FaultScript()
        self.clock_skew_ms = clock_skew_ms
        self.links: list[Link] = []
        self.port = 0
        self._runner: web.AppRunner | None = None
        self._stop_listening: Callable[[], None] = lambda: None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._beating: asyncio.Task[None] | None = None
        self._news = asyncio.Event()  # set whenever somebody connects or asks for something

    async def __aenter__(self) -> Self:
        app = web.Application()
        self.add_routes(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        self._stop_listening = self.book.listen(self.on_change)
        self._beating = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_listening()
        for timer in self._timers.values():
            timer.cancel()
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        self.disconnect()
        if self._runner is not None:
            await self._runner.cleanup()

    # For tests -------------------------------------------------------------------------------------------------------

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def now_ms(self) -> int:
        """The venue's time."""
        return self.book.now_ms() + self.clock_skew_ms

    def disconnect(self) -> None:
        """Drop every WebSocket, as a venue does that restarts its gateways."""
        for link in tuple(self.links):
            link.abort()

    async def flush(self) -> None:
        """Wait until the clients have read everything that was sent to them so far."""
        await asyncio.gather(*(link.pipe.flush() for link in self.links if link.is_open))

    async def watched(self, topic: str, timeout_s: float = 3.0) -> None:
        """Wait until a client has subscribed to a topic."""
        async with asyncio.timeout(timeout_s):
            while not any(topic in link.topics for link in self.links):
                self._news.clear()
                await self._news.wait()

    # For venues ------------------------------------------------------------------------------------------------------

    beat_every_s = 1.0  # how often `beat` is called

    def add_routes(self, app: web.Application) -> None:
        raise NotImplementedError

    def on_change(self, change: Change) -> None:
        """Tell the streams what has changed."""
        raise NotImplementedError

    def beat(self) -> None:
        """Send what the venue sends over and over even when nothing has changed."""

    def at(self, name: str, when_ms: int, act: Callable[[], None]) -> None:
        """Do something once the book's clock says `when_ms`, in place of what was to be done under this name."""
        self.never(name)

        def fire() -> None:
            if self.book.now_ms() >= when_ms:
                self.never(name)
                act()
            else:
                self._timers[name] = loop.call_later(self._left_s(when_ms), fire)

        loop = asyncio.get_running_loop()
        self._timers[name] = loop.call_later(self._left_s(when_ms), fire)

    def never(self, name: str) -> None:
        """Forget what was to be done under this name."""
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    async def serve_socket(
        self, request: web.Request, read: Callable[[Link, str], Awaitable[None]], greet: Callable[[Link], None]
    ) -> web.WebSocketResponse:
        """Serve one WebSocket until it is gone; pings are answered unless a fault has frozen it."""
        socket = web.WebSocketResponse(autoping=False, timeout=0.1)
        await socket.prepare(request)
        link = Link(Pipe(socket, self.faults), request)
        self.links.append(link)
        writer = asyncio.create_task(link.pipe.run())
        greet(link)
        self._news.set()
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await read(link, message.data)
                    self._news.set()
                elif message.type is WSMsgType.PING and not link.pipe.is_frozen:
                    await socket.pong(message.data)
                elif message.type is WSMsgType.PONG:
                    link.pipe.pong(message.data)
        finally:
            self.links.remove(link)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return socket

    def _left_s(self, when_ms: int) -> float:
        return max(0.001, (when_ms - self.book.now_ms()) / 1_000)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.beat_every_s)
            self.beat()


def decimal(value: float | None) -> str:
    """Write a number as venues do: a string without exponent or float noise, "0" for none."""
    return f"{value or 0.0:.10f}".rstrip("0").rstrip(".")


def decimals_of(step: float) -> int:
    """Return how many decimals a tick or lot has."""
    return len(decimal(step).partition(".")[2])
