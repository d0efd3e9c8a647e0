"""A venue that answers what it is told to, by the end of the path, and keeps what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import ccxt.pro
from aiohttp import web

from bot.gateways.exchange import Credentials, VenueSettings, open_exchange

KEYS = Credentials(api_key="key", secret="not-a-secret", password="none")


class Answering:
    """Answers by path; `asked` holds the path, the query and the body of every request."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = dict(answers)
        self.asked: list[tuple[str, dict[str, str], Any]] = []

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.path, dict(request.query), body))
        found = next((told for path, told in self.answers.items() if request.path.endswith(path)), None)
        return web.json_response(found, status=404 if found is None else 200)


@asynccontextmanager
async def answering(
    exchange_id: str, answers: Mapping[str, Any], markets: list[dict[str, Any]] | None = None
) -> AsyncIterator[tuple[ccxt.pro.Exchange, Answering]]:
    """The real ccxt of a venue in front of such a server: every address it knows is this one's."""
    venue = Answering(answers)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", venue.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    settings = VenueSettings(
        venue=exchange_id,
        exchange_id=exchange_id,
        underlyings=frozenset({"BTC"}),
        options={"timeout_on_exit": 0},
    )
    exchange = open_exchange(settings, KEYS)
    exchange.urls["api"] = dict.fromkeys(exchange.urls["api"], address)
    try:
        exchange.set_markets(markets or [])
        yield exchange, venue
    finally:
        await exchange.close()
        await runner.cleanup()
