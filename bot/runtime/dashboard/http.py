"""A web server's connections that cannot be held by whoever has nothing to say: the dashboard is there for the others.

A connection that has asked for nothing, or not sent all of what it began, is hung up on; and nobody may have so many of
them at once that none is left. What the server answers by itself, before anything reaches the gate, carries the same
headers as the rest: what is no HTTP, what comes when too many are there, what is no handshake of a WebSocket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

LOOK_EVERY_S: Final = 5.0
NO_HTTP: Final = "expected HTTP/1.1\n"
BUSY: Final = "expected fewer people at once; hint: try again in a moment\n"
MAX_OF_ONE: Final = 100  # connections from one address; behind a trusted proxy all are the proxy's


class BriefProtocol(HttpToolsProtocol):
    """The server's own protocol, which has patience for requests that never end."""

    look_every_s = LOOK_EVERY_S
    max_of_one: int | None = MAX_OF_ONE
    dress: ClassVar[Mapping[str, str]] = {}  # headers of what is answered before anything reaches the application

    def __init__(self, *arguments: Any, **terms: Any) -> None:  # noqa: ANN401 — whatever the server gives
        super().__init__(*arguments, **terms)
        self._served: Any = self.app
        self._most, self.limit_concurrency = self.limit_concurrency, None
        self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request unless too many are being served, or wait to be."""
        if self._most is not None and max(len(self.connections), len(self.tasks)) > self._most:
            await PlainTextResponse(BUSY, 503, {**self.dress, "Connection": "close"})(scope, receive, send)
        else:
            await self._served(scope, receive, send)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, and hang up."""
        del msg
        kind = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(NO_HTTP)), "Connection": "close"}
        lines = ["HTTP/1.1 400 Bad Request", *(f"{name}: {value}" for name, value in {**self.dress, **kind}.items())]
        self.transport.write("\r\n".join([*lines, "", NO_HTTP]).encode())
        self.transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or hang up on somebody who has plenty."""
        super().connection_made(transport)
        self._waited_for: tuple[Any] | None = None
        if self.max_of_one is not None and self.client is not None:
            own = sum(_host(one) == self.client[0] for one in self.connections)
            if own > self.max_of_one:
                transport.abort()
                return
        self.loop.call_later(self.look_every_s, self._look)

    def _look(self) -> None:
        """Hang up if nothing was answered between two looks, and nothing is being answered now."""
        if self not in self.connections or self.transport.is_closing():
            return  # over, or a socket by now
        cycle: Any = self.cycle  # None before the first request
        is_waited_for = cycle is None or cycle.response_complete or cycle.more_body
        if is_waited_for and self._waited_for == (cycle,):
            self.transport.abort()
            return
        self._waited_for = (cycle,) if is_waited_for else None
        self.loop.call_later(self.look_every_s, self._look)


class DressedSocket(WebSocketsSansIOProtocol):
    """The server's own WebSockets, whose refusals carry our headers too."""

    dress: ClassVar[Mapping[str, str]] = {}

    def __init__(self, *arguments: Any, **terms: Any) -> None:  # noqa: ANN401 — whatever the server gives
        super().__init__(*arguments, **terms)
        conn: Any = self.conn
        reject = conn.reject

        def dressed(*of: Any) -> Any:  # noqa: ANN401 — as there
            response = reject(*of)
            response.headers.update(self.dress)
            return response

        conn.reject = dressed


def _host(connection: Any) -> str:  # noqa: ANN401 — of requests or a socket, which have nothing in common
    peer = connection.transport.get_extra_info("peername")
    return str(peer[0]) if peer else ""
