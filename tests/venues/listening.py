"""A server on loopback that a test can cut off, silence and bring back, always on the same port."""

from __future__ import annotations

import socket
from collections.abc import Collection
from typing import Protocol

from aiohttp import web

from tests.venues.faults import Pipe

HOST = "127.0.0.1"


def bound_socket(port: int = 0) -> socket.socket:
    """Return a socket that keeps a port of loopback from everybody but those who are told its number."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((HOST, port))
    return one


class Connected(Protocol):
    """One open WebSocket."""

    pipe: Pipe

    def cut(self) -> None:
        """End it without a word."""


class Listening:
    """What every venue does about its port; `connections` are its open WebSockets, `port` 0 until it listens."""

    port: int = 0
    connections: Collection[Connected]
    _runner: web.AppRunner | None = None
    _site: web.TCPSite | None = None
    _held: socket.socket | None = None  # the port is ours also while the venue is dark

    async def listen(self, app: web.Application, shutdown_s: float) -> None:
        """Serve an application; one that ends waits so long for what it is answering."""
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=shutdown_s)
        await self._runner.setup()
        self._held = bound_socket(self.port)
        self.port = int(self._held.getsockname()[1])
        await self.come_back()

    async def end(self) -> None:
        """Cut everything off and close."""
        await self.go_dark()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._held is not None:
            self._held.close()

    async def come_back(self) -> None:
        """Listen (again) on the same port."""
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, HOST, self.port, reuse_address=True)
        await self._site.start()

    async def go_dark(self) -> None:
        """Cut every connection and refuse new ones, as a partition does."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self.disconnect()
        if self._runner is not None and self._runner.server is not None:
            for kept_alive in self._runner.server.connections:
                if kept_alive.transport is not None:
                    kept_alive.transport.abort()

    def disconnect(self) -> None:
        """Cut every WebSocket without a word."""
        for one in tuple(self.connections):
            one.cut()

    def freeze(self, *, is_frozen: bool = True) -> None:
        """Let every open WebSocket fall silent, or speak again; TCP stays up."""
        for one in self.connections:
            one.pipe.is_frozen = is_frozen
