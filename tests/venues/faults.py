"""What goes wrong at a loopback venue, and when: explicit, or drawn from a seed. Nothing goes wrong unless asked.

A server asks `request(operation)` once for every call it gets, and sends every WebSocket message through a `Pipe`.
Operations are the same words for every venue: create, amend, cancel, cancel_all, query, open_orders, trades, positions,
balance, simulate (what margin would be), simulate_sums, markets, ticker, time, auth, connect (the WebSocket
handshake), subscribe, arm (a dead man's switch) and other; of money: currencies, withdraw, withdrawals, deposits,
transfer, insurance and deleveraging.
Streams: quotes, index, vols, orders, fills, trades (everybody's), positions, balance and replies (answers over the
WebSocket). "any" stands for all of them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from enum import StrEnum

import msgspec
from aiohttp import ClientConnectionResetError, web

from tests.runtime.command_line import PATIENCE_S

ANY = "any"
SILENCE_CHECK_S = 0.02


class RequestFault(msgspec.Struct, frozen=True):
    """What happens to one request: whether it is carried out, and how it is answered."""

    is_executed: bool = True
    is_dropped: bool = False  # the connection is closed without an answer
    is_silent: bool = False  # there is no answer, and the connection stays open
    delay_s: float = 0.0  # before the answer
    delay_before_s: float = 0.0  # before it is carried out
    held_until: asyncio.Event | None = None  # what must happen before it is carried out
    status: int | None = None  # an HTTP status in place of the answer
    body: str = ""
    refusal: str = ""  # the venue says no, in its own words; the server knows what they mean
    retry_after_s: float | None = None


def drop_reply(after_s: float = 0.0) -> RequestFault:
    """Carried out, never answered: the connection closes."""
    return RequestFault(is_dropped=True, delay_s=after_s)


def drop_request() -> RequestFault:
    """Neither carried out nor answered: the connection closes."""
    return RequestFault(is_executed=False, is_dropped=True)


def silence(*, is_executed: bool = True) -> RequestFault:
    """Carried out or not, never answered, and the connection stays open until the client gives up."""
    return RequestFault(is_executed=is_executed, is_silent=True)


def delay(reply_s: float = 0.0, request_s: float = 0.0) -> RequestFault:
    """Slow to answer, or slow to be carried out."""
    return RequestFault(delay_s=reply_s, delay_before_s=request_s)


def held(until: asyncio.Event) -> RequestFault:
    """Neither carried out nor answered until the test says so; over HTTP only."""
    return RequestFault(held_until=until)


def http(status: int, *, is_executed: bool = False, body: str = "", retry_after_s: float | None = None) -> RequestFault:
    """Answered with a bare HTTP status (429, 418, 502, 503 …), carried out all the same or not."""
    return RequestFault(is_executed=is_executed, status=status, body=body, retry_after_s=retry_after_s)


def garbage(*, is_executed: bool = True, body: str = '<html>{"result": oops') -> RequestFault:
    """Answered with 200 and something that is no JSON."""
    return RequestFault(is_executed=is_executed, status=200, body=body)


def reject(refusal: str = "") -> RequestFault:
    """Not carried out, and the venue says so properly: `refusal` is a `matching.Why`, or the venue's own code."""
    return RequestFault(is_executed=False, refusal=refusal or "halted")


class StreamFault(StrEnum):
    """What happens to one WebSocket message or, from it on, to its connection."""

    DUPLICATE = "duplicate"
    SKIP = "skip"
    REORDER = "reorder"  # it is sent after the one that follows it
    FREEZE = "freeze"  # TCP stays open, nothing comes any more, pings are not answered
    DISCONNECT = "disconnect"


class _Rule(msgspec.Struct):
    fault: RequestFault | StreamFault
    left: int | None  # how often yet; None without end
    skip: int = 0  # how many to let pass before
    probability: float = 1.0


class FaultScript:
    """The script. Rules of one operation are tried in the order they were given; the first that applies wins."""

    def __init__(self, seed: int = 0) -> None:
        self.is_active = True
        self.happened: list[tuple[str, RequestFault | StreamFault]] = []
        self.asked: dict[str, int] = {}  # how often each operation was requested
        self._random = random.Random(seed)
        self._rules: dict[str, list[_Rule]] = {}

    def next(self, operation: str, fault: RequestFault | StreamFault, *, count: int = 1, after: int = 0) -> None:
        """Let it happen to the next `count` requests or messages, once `after` have passed unharmed."""
        self._rules.setdefault(operation, []).append(_Rule(fault, count, after))

    def always(self, operation: str, fault: RequestFault | StreamFault) -> None:
        """Let it happen every time until `clear`."""
        self._rules.setdefault(operation, []).append(_Rule(fault, None))

    def randomly(self, operation: str, fault: RequestFault | StreamFault, probability: float) -> None:
        """Let it happen with this probability, drawn from the script's seed."""
        self._rules.setdefault(operation, []).append(_Rule(fault, None, 0, probability))

    def clear(self, operation: str | None = None) -> None:
        """Forget the rules of an operation, or all of them."""
        if operation is None:
            self._rules.clear()
        else:
            self._rules.pop(operation, None)

    def request(self, operation: str) -> RequestFault | None:
        """Say what happens to this request; asked once per request."""
        self.asked[operation] = self.asked.get(operation, 0) + 1
        fault = self._draw(operation, RequestFault)
        assert fault is None or isinstance(fault, RequestFault)
        return fault

    def message(self, stream: str) -> StreamFault | None:
        """Say what happens to this WebSocket message; asked once per message and connection."""
        fault = self._draw(stream, StreamFault)
        assert fault is None or isinstance(fault, StreamFault)
        return fault

    def _draw(self, operation: str, kind: type[RequestFault | StreamFault]) -> RequestFault | StreamFault | None:
        if not self.is_active:
            return None
        for rule in [*self._rules.get(operation, ()), *self._rules.get(ANY, ())]:
            if not isinstance(rule.fault, kind) or rule.left == 0:
                continue
            if rule.skip:
                rule.skip -= 1
                continue
            if rule.probability < 1.0 and self._random.random() >= rule.probability:
                continue
            if rule.left is not None:
                rule.left -= 1
            self.happened.append((operation, rule.fault))
            return rule.fault
        return None


Answer = Callable[[str], web.Response]


async def answer_http(
    request: web.Request,
    fault: RequestFault | None,
    execute: Callable[[], Awaitable[web.Response]],
    refuse: Answer,
) -> web.StreamResponse:
    """Answer an HTTP request as the fault has it; `refuse` makes the venue's own refusal of a word."""
    if fault is None:
        return await execute()
    if fault.refusal:
        return refuse(fault.refusal)
    if fault.delay_before_s:
        await asyncio.sleep(fault.delay_before_s)
    if fault.held_until is not None:
        await fault.held_until.wait()
    response = await execute() if fault.is_executed else web.Response()
    if fault.delay_s:
        await asyncio.sleep(fault.delay_s)
    if fault.is_silent:
        while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(SILENCE_CHECK_S)
    if fault.is_dropped or fault.is_silent:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()
    if fault.status is not None:
        headers = {} if fault.retry_after_s is None else {"Retry-After": f"{fault.retry_after_s:g}"}
        kind = "application/json" if fault.body.startswith("{") else "text/html"
        return web.Response(status=fault.status, text=fault.body, content_type=kind, headers=headers)
    return response


class Pipe:
    """One WebSocket connection's way out: messages in order, through the faults; never blocks who sends."""

    def __init__(self, socket: web.WebSocketResponse, faults: FaultScript) -> None:
        self.is_frozen = False
        self.queued = 0  # messages put on their way so far
        self._socket = socket
        self._faults = faults
        self._queue: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._held: str | None = None
        self._pongs: dict[bytes, asyncio.Future[None]] = {}
        self._last_ping = 0

    def send(self, stream: str, text: str) -> None:
        """Put a message on its way, unless a fault has other plans."""
        fault = self._faults.message(stream)
        if fault is StreamFault.FREEZE:
            self.is_frozen = True
        if self.is_frozen or fault is StreamFault.SKIP:
            return
        if fault is StreamFault.DISCONNECT:
            self.hang_up()
        elif fault is StreamFault.REORDER and self._held is None:
            self._held = text
        else:
            self._queue.put_nowait(text)
            self.queued += 1
            if fault is StreamFault.DUPLICATE:
                self._queue.put_nowait(text)
            if self._held is not None:
                self._queue.put_nowait(self._held)
                self._held = None

    def hang_up(self) -> None:
        """Close the connection once what was sent before is out."""
        self._queue.put_nowait(None)

    async def flush(self, timeout_s: float = PATIENCE_S) -> bool:
        """Wait until the client has taken everything sent so far, proven by its pong; False if it never answered."""
        if self._socket.closed or self.is_frozen:
            return False
        self._last_ping += 1
        token = str(self._last_ping).encode()
        pong = self._pongs[token] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(token)
        try:
            await asyncio.wait_for(pong, timeout_s)
        except TimeoutError:
            return False
        finally:
            self._pongs.pop(token, None)
        return not pong.cancelled()

    def pong(self, token: bytes) -> None:
        """Take a pong that came in; one without a token answers the oldest ping."""
        waiting = self._pongs.get(bytes(token)) or next(iter(self._pongs.values()), None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def run(self) -> None:
        """Write until hung up or canceled; run it as a task beside the reader."""
        try:
            while (item := await self._queue.get()) is not None:
                if isinstance(item, bytes):
                    await self._socket.ping(item)
                else:
                    await self._socket.send_str(item)
            await self._socket.close()
        except (ClientConnectionResetError, ConnectionError):
            pass  # the client is gone; the reader notices too
        finally:
            self.release()

    def release(self) -> None:
        """Let everybody go who waits for a pong."""
        for pong in self._pongs.values():
            if not pong.done():
                pong.set_result(None)
