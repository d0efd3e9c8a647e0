"""A request within an attempt is sent once, says when, and says whether it may have left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import ccxt
import ccxt.pro
import pytest
from aiohttp import web

from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from bot.gateways.sending import Attempt, cancellable, current_attempt, send_once


class Deaf:
    """A server that answers time and then breaks the connection under the next request, counting them."""

    def __init__(self) -> None:
        self.asked = 0
        self.breaks = False
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.breaks and request.transport is not None:
            request.transport.abort()
        return web.json_response({"jsonrpc": "2.0", "result": 1_700_000_000_000})


@pytest.fixture
async def deaf() -> AsyncIterator[Deaf]:
    server = Deaf()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.port = runner.addresses[0][1]
    yield server
    await runner.cleanup()


def exchange_on(port: int) -> ccxt.pro.Exchange:
    options = {"urls": {"api": {"rest": f"http://127.0.0.1:{port}"}}, "timeout_on_exit": 0}
    settings = VenueSettings(venue="d", exchange_id="deribit", underlyings=frozenset(), options=options)
    return open_exchange(settings, Credentials())


async def test_aiohttp_would_send_a_get_twice_and_an_attempt_does_not(deaf: Deaf) -> None:
    exchange = exchange_on(deaf.port)
    send_once(exchange)
    await exchange.fetch_time()
    deaf.breaks = True
    with pytest.raises(ccxt.ExchangeNotAvailable):
        await exchange.fetch_time()
    assert deaf.asked == 3  # the danger: one request of ours, two at the venue
    deaf.breaks = False
    await exchange.fetch_time()
    deaf.breaks = True
    attempt = Attempt()
    with attempt, pytest.raises(ccxt.ExchangeNotAvailable):
        await exchange.fetch_time()
    assert deaf.asked == 5
    assert attempt.may_have_left
    await exchange.close()


async def test_the_moment_of_sending_is_told_once(deaf: Deaf) -> None:
    exchange = exchange_on(deaf.port)
    send_once(exchange)
    told: list[int] = []
    with Attempt(lambda: told.append(deaf.asked)):
        await exchange.fetch_time()
        await exchange.fetch_time()
    assert told == [0]
    await exchange.close()


async def test_a_refused_connection_provably_left_nothing() -> None:
    exchange = exchange_on(1)
    send_once(exchange)
    attempt = Attempt()
    with attempt, pytest.raises(ccxt.ExchangeNotAvailable):
        await exchange.fetch_time()
    assert attempt.was_started
    assert not attempt.may_have_left
    await exchange.close()


async def test_what_was_never_seen_to_start_may_have_left() -> None:
    assert Attempt().may_have_left


async def test_attempts_of_tasks_do_not_mix(deaf: Deaf) -> None:
    exchange = exchange_on(deaf.port)
    send_once(exchange)
    attempts = [Attempt() for _ in range(5)]

    async def one(attempt: Attempt) -> None:
        with attempt:
            assert current_attempt() is attempt
            await exchange.fetch_time()

    await asyncio.gather(*map(one, attempts))
    assert all(attempt.was_sent for attempt in attempts)
    assert current_attempt() is None
    send_once(exchange)  # a second time changes nothing
    await exchange.fetch_time()
    await exchange.close()


async def test_a_cancellation_is_heard_though_the_call_swallows_it() -> None:
    times = 0

    async def deaf_call() -> str:
        nonlocal times
        while times < 2:
            try:
                await asyncio.sleep(60.0)
            except asyncio.CancelledError:
                times += 1
        return "done"

    task = asyncio.create_task(cancellable(deaf_call()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert times == 2


async def test_a_call_that_was_canceled_by_others_is_a_failure_of_the_connection() -> None:
    async def closed() -> None:
        raise asyncio.CancelledError

    with pytest.raises(ccxt.NetworkError):
        await cancellable(closed())
