"""Metrics and health over HTTP: `/metrics`, `/healthz`, `/readyz`, and nothing else.

However many ask, and however slowly they read, it costs a bounded amount: so many connections and no more, each for one
request and a few seconds, so many answers a second, and a text that is rendered at most twice a second whoever asks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, cast

import msgspec
import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from bot.domain.windows import Told, VaultState
from bot.telemetry.metrics.board import Board
from bot.telemetry.metrics.collector import registry_of, render
from bot.telemetry.metrics.health import Health, judge_life, judge_readiness

MAX_CONNECTIONS = 64
MAX_LIFE_S = 10.0  # of a connection
SWEEP_EVERY_S = 1.0
RENDER_EVERY_S = 0.5
ANSWER_EVERY_S = 0.01  # on an average: of a storm, each waits its turn, and it takes no processor from whoever trades
AT_A_TIME = 50  # answered without a pause after a while without requests
PATHS: Final = ("/metrics", "/healthz", "/readyz")
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "evenkeel",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

log = structlog.get_logger()


class HttpWindow:
    """A window that machines look through. `port` 0 takes a free one; `port` is the real one once `run` has begun."""

    def __init__(
        self,
        host: str,
        port: int,
        board: Board,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = "http"
        self.host, self.port = host, port
        self.listening = asyncio.Event()
        self.board = board
        self._monotonic_s = monotonic_s
        self.registry = registry_of(board)
        self._traffic = _Traffic()
        self.registry.register(self._traffic)
        self._text = b""
        self._rendered_s = float("-inf")
        self._turn_s = 0.0  # of the next answer, by the loop's clock
        self._web: web.Server | None = None
        self._born_s: dict[RequestHandler, float] = {}

    async def run(self) -> None:
        """Serve until cancelled. Raises OSError if the address cannot be listened at."""
        self._web = web.Server(
            self._handle, access_log=None, logger=_silent(), keepalive_timeout=MAX_LIFE_S, lingering_time=0.0
        )
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Door(self), self.host, self.port)
        self.port = server.sockets[0].getsockname()[1]
        self.listening.set()
        try:
            while True:
                await asyncio.sleep(SWEEP_EVERY_S)
                self._hang_up()
        finally:
            self.listening.clear()
            server.close()
            await self._web.shutdown(timeout=0.0)
            for connection in self._web.connections:
                _abort(connection)

    def show(self, state: VaultState) -> None:
        """Take in a vault's newest state."""
        self.board.show(state)

    def tell(self, told: Told) -> None:
        """Count an event."""
        self.board.tell(told)

    def gone(self, vault: str, why: str) -> None:
        """Note that a vault's daemon does not answer."""
        self.board.gone(vault, why)

    @property
    def connections(self) -> list[RequestHandler]:
        """Who is being talked to now."""
        return self._web.connections if self._web is not None else []

    def admit(self) -> RequestHandler | None:
        """Return who talks to a new connection, None where there are too many."""
        assert self._web is not None, "connections come to a window that runs"
        if len(self._web.connections) >= MAX_CONNECTIONS:
            self._traffic.turned_away += 1
            return None
        return self._web()

    def _hang_up(self) -> None:
        """End every connection that has had its time, whether it never asked or does not read."""
        assert self._web is not None, "swept while it runs"
        now_s = self._monotonic_s()
        self._born_s = {one: self._born_s.get(one, now_s) for one in self._web.connections}
        for connection, born_s in self._born_s.items():
            if now_s - born_s >= MAX_LIFE_S:
                self._traffic.hung_up += 1
                _abort(connection)

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        await self._turn()
        try:
            response = self._respond(request.method, request.path)
        except Exception:
            log.exception("http.failed", path=request.path if request.path in PATHS else "other")
            response = web.Response(status=500, text="failed; the log says why\n")
        response.headers.update(HEADERS)
        response.force_close()
        self._traffic.requests[request.path if request.path in PATHS else "other", str(response.status)] += 1
        return response

    async def _turn(self) -> None:
        """Wait for the turn of one more answer; with no more connections than there may be it comes within a second."""
        now_s = asyncio.get_running_loop().time()
        self._turn_s = max(self._turn_s, now_s - AT_A_TIME * ANSWER_EVERY_S) + ANSWER_EVERY_S
        if self._turn_s > now_s:
            await asyncio.sleep(self._turn_s - now_s)

    def _respond(self, method: str, path: str) -> web.Response:
        if path not in PATHS:
            return web.Response(status=404, text=f"expected one of {', '.join(PATHS)}\n")
        if method != "GET":
            return web.Response(status=405, text="expected GET\n", headers={"Allow": "GET"})
        if path == "/healthz":
            return _json(judge_life(self.board))
        if path == "/readyz":
            return _json(judge_readiness(self.board))
        return web.Response(body=self._metrics(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    def _metrics(self) -> bytes:
        """Return the metrics, rendered anew if the last text has had its time."""
        now_s = self._monotonic_s()
        if now_s - self._rendered_s >= RENDER_EVERY_S:
            self._text, self._rendered_s = render(self.registry), now_s
        return self._text


class _Traffic(Collector):
    """What the server counts of itself."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.turned_away = 0
        self.hung_up = 0

    def collect(self) -> Iterator[Metric]:
        """Yield requests by path and status, and connections that were cut short."""
        requests = CounterMetricFamily(
            "evenkeel_http_requests_total", "Requests answered, by path and status", labels=["path", "code"]
        )
        for labels, count in self.requests.items():
            requests.add_metric(labels, count)
        yield requests
        yield CounterMetricFamily(
            "evenkeel_http_turned_away_total", "Connections refused: too many at once", self.turned_away
        )
        yield CounterMetricFamily("evenkeel_http_hung_up_total", "Connections ended: they took too long", self.hung_up)


class _Door(asyncio.Protocol):
    """Where a connection comes in: it is handed on, or ended if there are too many."""

    def __init__(self, window: HttpWindow) -> None:
        self._window = window

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the connection on, or hang up."""
        stream = cast("asyncio.Transport", transport)
        talker = self._window.admit()
        if talker is None:
            stream.abort()
            return
        stream.set_protocol(talker)
        talker.connection_made(stream)


def _silent() -> logging.Logger:
    """Return a logger that says nothing: the library's would repeat what strangers send, a stack for each."""
    logger = logging.getLogger(f"{__name__}.library")
    logger.propagate = False
    logger.setLevel(logging.CRITICAL + 1)
    return logger


def _abort(connection: RequestHandler) -> None:
    if connection.transport is not None:
        connection.transport.abort()


def _json(health: Health) -> web.Response:
    return web.Response(
        status=200 if health.is_ok else 503, body=msgspec.json.encode(health) + b"\n", content_type="application/json"
    )
