"""One HTTP request of ours, sent at most once, and the moment it was handed to the socket.

aiohttp sends a GET again by itself when a kept-alive connection breaks under it. Deribit's orders are GETs: an order
that was executed and whose answer was lost would be placed twice. So a request within `Attempt` is never sent again,
and tells whether it may have left: only what provably did not may be tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, Token
from types import SimpleNamespace, TracebackType
from typing import Any, Final, Self, TypeVar

import aiohttp
import ccxt.pro

T = TypeVar("T")
_CANCEL_AGAIN_S: Final = 0.1
_ATTEMPT: Final[ContextVar[Attempt | None]] = ContextVar("attempt", default=None)


class Attempt:
    """One try to do something at a venue: `with Attempt(on_sent):` around the call, in the task that makes it.

    `on_sent` is called once, when the first byte is handed to the socket.
    """

    def __init__(self, on_sent: Callable[[], None] | None = None) -> None:
        self.was_started = False
        self.was_sent = False
        self._on_sent = on_sent
        self._token: Token[Attempt | None] | None = None

    @property
    def may_have_left(self) -> bool:
        """Tell whether the venue may have got the request: unless it was seen to start, and not to be sent."""
        return self.was_sent or not self.was_started

    def start(self) -> None:
        """Note that a request is under way which will report when it is sent."""
        self.was_started = True

    def sent(self) -> None:
        """Note that a request is handed to the socket."""
        self.was_started = True
        if not self.was_sent:
            self.was_sent = True
            if self._on_sent is not None:
                self._on_sent()

    def __enter__(self) -> Self:
        self._token = _ATTEMPT.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _ATTEMPT.reset(self._token)


def current_attempt() -> Attempt | None:
    """Return the attempt this task is in, for connections that are not HTTP."""
    return _ATTEMPT.get()


async def cancellable(call: Coroutine[Any, Any, T]) -> T:
    """Make a call as a task of its own, so that whoever cancels us is heard; raises what the call raises.

    aiohttp swallows a cancellation that meets the end of a request's time: its timer is entered twice, the inner exit
    undoes its own cancel and the outer one ours, and ccxt calls that a timeout. A task group then waits for ever.
    """
    task = asyncio.ensure_future(call)
    try:
        await asyncio.wait({task})
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_AGAIN_S)
        if not task.cancelled():
            task.exception()  # seen, also where nobody is left to hear of it
    if task.cancelled():
        raise ccxt.NetworkError("the connection was closed under the call")
    return task.result()


def send_once(exchange: ccxt.pro.Exchange) -> None:
    """Give the exchange an HTTP session that reports to `Attempt` and repeats nothing; needs a running event loop."""
    exchange.open()
    if isinstance(exchange.session, aiohttp.ClientSession) and exchange.session.trace_configs:
        return
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_note_sent)
    if exchange.session is not None:
        exchange.session.detach()
    exchange.session = aiohttp.ClientSession(
        connector=exchange.tcp_connector,
        trust_env=exchange.aiohttp_trust_env,
        trace_configs=[trace],
        middlewares=(_never_again,),
    )


async def _note_sent(
    _session: aiohttp.ClientSession, _context: SimpleNamespace, _params: aiohttp.TraceRequestHeadersSentParams
) -> None:
    attempt = _ATTEMPT.get()
    if attempt is not None:
        attempt.sent()


async def _never_again(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Turn the two errors that make aiohttp repeat a request into one that does not; ccxt takes it the same way."""
    attempt = _ATTEMPT.get()
    if attempt is None:
        return await handler(request)
    attempt.start()
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError(str(error)) from error
