"""The order connection to Deribit: armed and verified before use, alive by heartbeat, and honest about lost answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import ccxt
import pytest

from bot.domain.errors import Retryable
from bot.domain.units import NS_PER_S
from bot.gateways.deribit.session import DeribitSession
from bot.gateways.exchange import Credentials, open_exchange
from tests.gateways.desks import SteadyClock, settings_of
from tests.runtime.command_line import PATIENCE_S
from tests.venues.deribit import DeribitServer
from tests.venues.deribit_markets import quoted_book
from tests.venues.faults import StreamFault, delay, drop_reply, drop_request, reject
from tests.venues.passing import let_pass, out_of_time, until

ORDER = {"instrument_name": "ETH-PERPETUAL", "amount": 10, "type": "limit", "price": 1_990.0, "label": "0123456789-1"}


@pytest.fixture
async def server() -> AsyncIterator[DeribitServer]:
    async with DeribitServer(quoted_book(), heartbeat_scale=0.005) as running:
        yield running


@asynccontextmanager
async def session_on(server: DeribitServer, **keys: str) -> AsyncIterator[DeribitSession]:
    settings = settings_of("deribit", "deribit", server)
    exchange = open_exchange(settings, Credentials(**{**server.credentials, **keys}))
    session = DeribitSession(exchange, SteadyClock(), 10 * NS_PER_S, 30 * NS_PER_S)
    running = asyncio.create_task(session.run())
    try:
        yield session
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await exchange.close()


async def armed(session: DeribitSession) -> None:
    await asyncio.wait_for(session.wait_armed(), PATIENCE_S)


async def test_it_is_armed_in_the_right_order_and_verified(server: DeribitServer) -> None:
    async with session_on(server) as session:
        assert not session.is_armed
        await session.ensure("ETH")  # waits for the connection that is just being made
        assert session.is_armed
        assert [name for name, _ in server.calls][:4] == [
            "public/auth",
            "public/set_heartbeat",
            "private/enable_cancel_on_disconnect",
            "private/get_cancel_on_disconnect",
        ]
        assert server.calls[1][1] == {"interval": 10}


async def test_heartbeats_are_answered(server: DeribitServer) -> None:
    async with session_on(server) as session:
        await armed(session)
        await until(lambda: [name for name, _ in server.calls].count("public/test") > 2)  # one every 50 ms
        assert session.is_armed


async def test_orders_of_a_broken_connection_are_canceled_and_a_new_one_is_armed(server: DeribitServer) -> None:
    async with session_on(server) as session:
        await armed(session)
        await session.call("private/buy", ORDER)
        assert len(server.book.open_orders()) == 1
        server.disconnect()
        await until(lambda: not server.book.open_orders() and not session.is_armed)
        await armed(session)
        await session.call("private/buy", ORDER)


async def test_a_refusal_is_as_over_rest(server: DeribitServer) -> None:
    async with session_on(server) as session:
        await armed(session)
        server.faults.next("create", reject("not_enough_funds"))
        with pytest.raises(ccxt.InsufficientFunds):
            await session.call("private/buy", ORDER)


@pytest.mark.parametrize("fault", [drop_reply(), drop_request()])
async def test_a_lost_answer_is_a_network_error(server: DeribitServer, fault: object) -> None:
    async with session_on(server) as session:
        await armed(session)
        server.faults.next("create", fault)
        with pytest.raises(ccxt.NetworkError):
            await session.call("private/buy", ORDER)


async def test_a_late_answer_is_a_timeout(server: DeribitServer) -> None:
    async with session_on(server) as session:
        await armed(session)
        server.faults.next("create", delay(reply_s=20.0))
        with pytest.raises(ccxt.RequestTimeout):
            await out_of_time(session.call("private/buy", ORDER), lambda: server.book.orders, 11.0)
        let_pass(10.0)
        [connection] = server.connections
        await until(lambda: not connection.slow)
        await connection.pipe.flush()  # the answer came after all: nobody waits for it
        assert session.is_armed


async def test_a_silent_answer_stream_does_not_hang(server: DeribitServer) -> None:
    async with session_on(server) as session:
        await armed(session)
        server.faults.next("replies", StreamFault.FREEZE)
        with pytest.raises(ccxt.NetworkError):
            await out_of_time(session.call("private/buy", ORDER), lambda: server.book.orders, 11.0)


async def test_a_wrong_key_never_arms_and_says_why(server: DeribitServer) -> None:
    async with session_on(server, secret="wrong") as session:
        await until(lambda: "AuthenticationError" in session.why_not)
        ensuring = asyncio.create_task(session.ensure("ETH"))
        await until(lambda: ensuring.done() or let_pass(0.02))
        with pytest.raises(Retryable, match="no order may rest on ETH: cancel on disconnect is not armed"):
            await ensuring


async def test_a_connection_that_is_not_up_sends_nothing(server: DeribitServer) -> None:
    async with session_on(server) as session:
        with pytest.raises(Retryable, match="not sent"):
            await session.call("private/buy", ORDER)
    assert not server.book.orders
