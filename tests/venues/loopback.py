"""What every loopback venue is made of: a server on this machine, its sockets, and the fault script in front of both.

A venue's server adds its own words: which paths there are, how requests are signed, and what its streams say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import WSMsgType, web

from tests.runtime.command_line import PATIENCE_S
from tests.venues.faults import Answer, FaultScript, Pipe, answer_http
from tests.venues.listening import HOST, Listening
from tests.venues.matching import Change, VenueBook, wall_clock_ms

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

    def cut(self) -> None:
        """Drop the connection as a failing network does, without a closing handshake."""
        if self.transport is not None:
            self.transport.abort()


class _Timer(msgspec.Struct):
    handle: asyncio.TimerHandle
    when_ms: int
    act: Callable[[], None]


class LoopbackServer(Listening):
    """A venue on this machine, on a port the operating system picks unless one is given; `async with` it."""

    def __init__(self, book: VenueBook, *, faults: FaultScript | None = None, port: int = 0) -> None:
        self.book = book
        self.faults = faults or FaultScript()
        self.port = port
        self.connections: list[Link] = []
        self.calls: list[tuple[str, Any]] = []  # every request, in order, refused ones too
        self._queued = 0
        self._answering: set[asyncio.Task[Any]] = set()
        self._stop_listening: Callable[[], None] = lambda: None
        self._timers: dict[str, _Timer] = {}
        self._beating: asyncio.Task[None] | None = None
        self._news = asyncio.Event()  # set whenever somebody connects or asks for something

    async def __aenter__(self) -> Self:
        app = web.Application()
        self.add_routes(app)
        await self.listen(app, shutdown_s=0.1)
        self._stop_listening = self.book.listen(self.on_change)
        self._beating = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_listening()
        for timer in self._timers.values():
            timer.handle.cancel()
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        await self.go_dark()
        for answering in self._answering:  # some are slow on purpose, for clients that are long gone
            answering.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        await self.end()

    # For tests -------------------------------------------------------------------------------------------------------

    @property
    def host(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def clock_skew_ms(self) -> int:
        """How far ahead of ours the venue's clock is."""
        return self.book.skew_ms

    @clock_skew_ms.setter
    def clock_skew_ms(self, skew_ms: int) -> None:
        self.book.skew_ms = skew_ms

    def now_ms(self) -> int:
        """The venue's time, which is another one altogether while a recording is played."""
        return self.book.now_ms()

    def signing_ms(self) -> int:
        """What clients' times are held against: the venue's clock in this world."""
        return wall_clock_ms() + self.clock_skew_ms

    def tick(self) -> None:
        """Do at once what is due by the book's clock; for tests that turn that clock by hand."""
        for name in list(self._timers):
            if self._timers[name].when_ms <= self.book.now_ms():
                self._fire(name)

    async def settle(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until the clients have taken everything that was sent to them so far."""
        await asyncio.gather(*(link.pipe.flush(timeout_s) for link in tuple(self.connections) if link.is_open))

    def publish(self) -> bool:
        """Tell whether anything was sent since this was last asked; everything is sent at once here."""
        before, self._queued = self._queued, sum(link.pipe.queued for link in self.connections)
        return self._queued != before

    async def watched(self, topic: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait until a client has subscribed to a topic."""
        async with asyncio.timeout(timeout_s):
            while not any(topic in link.topics for link in self.connections):
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
        left_s = max(0.001, (when_ms - self.book.now_ms()) / 1_000)
        handle = asyncio.get_running_loop().call_later(left_s, lambda: self._fire(name))
        self._timers[name] = _Timer(handle, when_ms, act)

    def never(self, name: str) -> None:
        """Forget what was to be done under this name."""
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.handle.cancel()

    async def answer(
        self, request: web.Request, operation: str, execute: Callable[[], web.Response], refuse: Answer
    ) -> web.StreamResponse:
        """Answer one HTTP request as the fault script has it."""

        async def execute_now() -> web.Response:
            return execute()

        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        try:
            return await answer_http(request, self.faults.request(operation), execute_now, refuse)
        finally:
            self._answering.discard(task)

    async def shake_hands(
        self, request: web.Request, read: Callable[[Link, str], None], greet: Callable[[Link], None]
    ) -> web.StreamResponse:
        """Take a WebSocket, unless the fault script will not have it."""
        fault = self.faults.request("connect")
        if fault is None:
            return await self._serve_socket(request, read, greet)

        async def execute() -> web.Response:
            return web.Response(status=503)

        return await answer_http(request, fault, execute, lambda _word: web.Response(status=403))

    async def _serve_socket(
        self, request: web.Request, read: Callable[[Link, str], None], greet: Callable[[Link], None]
    ) -> web.WebSocketResponse:
        """Serve one WebSocket until it is gone; a frozen one answers nothing, not even pings."""
        socket = web.WebSocketResponse(autoping=False, timeout=0.1)
        await socket.prepare(request)
        link = Link(Pipe(socket, self.faults), request)
        self.connections.append(link)
        writer = asyncio.create_task(link.pipe.run())
        greet(link)
        self._news.set()
        try:
            async for message in socket:
                if message.type is WSMsgType.PONG:
                    link.pipe.pong(message.data)
                elif link.pipe.is_frozen:
                    continue
                elif message.type is WSMsgType.PING:
                    await socket.pong(message.data)
                elif message.type is WSMsgType.TEXT:
                    read(link, message.data)
                    self._news.set()
        except ConnectionError:
            pass  # cut off while we were answering
        finally:
            self.connections.remove(link)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return socket

    def _fire(self, name: str) -> None:
        timer = self._timers[name]
        if timer.when_ms > self.book.now_ms():  # the book's clock goes another way than this machine's
            self.at(name, timer.when_ms, timer.act)
        else:
            self.never(name)
            timer.act()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.beat_every_s)
            self.beat()


def decimal(value: float | None) -> str:
    """Write a number as venues do: a string without exponent or float noise, "0" for none."""
    return f"{Decimal(f'{value or 0.0:.15g}'):f}"


def decimals_of(step: float) -> int:
    """Return how many decimals a tick or lot has."""
    return len(decimal(step).partition(".")[2])
