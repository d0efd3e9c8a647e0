"""A web server's connections that cannot be held by whoever has nothing to say: the dashboard is there for the others.

A connection that has asked for nothing, or not sent all of what it began, is hung up on; and nobody may have so many of
them at once that none is left.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LOOK_EVERY_S: Final = 5.0
MAX_OF_ONE: Final = 100  # connections from one address; behind a trusted proxy all are the proxy's


class BriefProtocol(HttpToolsProtocol):
    """The server's own protocol, which has patience for requests that never end."""

    look_every_s = LOOK_EVERY_S
    max_of_one: int | None = MAX_OF_ONE

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
        is_waited_for = self.cycle is None or self.cycle.response_complete or self.cycle.more_body
        if is_waited_for and self._waited_for == (self.cycle,):
            self.transport.abort()
            return
        self._waited_for = (self.cycle,) if is_waited_for else None
        self.loop.call_later(self.look_every_s, self._look)


def _host(connection: Any) -> str:  # noqa: ANN401 — of requests or a socket, which have nothing in common
    peer = connection.transport.get_extra_info("peername")
    return str(peer[0]) if peer else ""
