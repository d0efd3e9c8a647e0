"""One look at a venue: a loopback server that knows only what time it is."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from bot.domain.errors import ConfigError
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.gateways.exchange import Credentials, VenueSettings
from bot.gateways.probe import VenueProbe, probe
from tests.runtime.command_line import PATIENCE_S
from tests.venues.listening import bound_socket


@asynccontextmanager
async def clock_server(
    ahead_ms: int, status: int = 200, now_ns: Callable[[], int] = time.time_ns
) -> AsyncIterator[VenueSettings]:
    """A Deribit of which only the clock works."""

    async def tell(request: web.Request) -> web.Response:
        assert request.path == "/api/v2/public/get_time"
        answer = {"jsonrpc": "2.0", "result": now_ns() // NS_PER_MS + ahead_ms}
        return web.json_response(answer, status=status)

    application = web.Application()
    application.router.add_get("/{anything:.*}", tell)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield settings(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def settings(port: int, **changes: Any) -> VenueSettings:
    options = {"urls": {"api": {"rest": f"http://127.0.0.1:{port}"}}}
    return VenueSettings(
        **{
            "venue": "deribit",
            "exchange_id": "deribit",
            "underlyings": frozenset({"ETH"}),
            "options": options,
            "timeout_ns": round(PATIENCE_S * NS_PER_S),
            **changes,
        }
    )


@pytest.mark.parametrize("ahead_ms", [0, 700, -700])
async def test_a_venue_that_answers_tells_its_clock(ahead_ms: int) -> None:
    now_ns = itertools.count(10**18, NS_PER_MS).__next__  # a millisecond later whenever somebody looks
    async with clock_server(ahead_ms, now_ns=now_ns) as one:
        found = await probe(one, Credentials(), now_ns)
    assert found.unreachable == found.refused == ""
    assert found.skew_ns == ahead_ms * NS_PER_MS


async def test_a_venue_out_of_reach_says_so_in_one_line_without_keys() -> None:
    with bound_socket() as nobody_listens:
        one = settings(nobody_listens.getsockname()[1])
        found = await probe(one, Credentials(api_key="127.0.0.1", secret="s"), time.time_ns)
    assert found.unreachable
    assert "\n" not in found.unreachable
    assert "127.0.0.1" not in found.unreachable, "what is a key is masked, whatever it looks like"
    assert found == VenueProbe(unreachable=found.unreachable)


async def test_a_venue_in_trouble_is_out_of_reach() -> None:
    async with clock_server(0, status=503) as one:
        found = await probe(one, Credentials(), time.time_ns)
    assert "503" in found.unreachable


async def test_an_unknown_exchange_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="expected an exchange that ccxt can stream, found 'derribit'"):
        await probe(settings(1, exchange_id="derribit"), Credentials(), time.time_ns)
