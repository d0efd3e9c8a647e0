"""The gateway as a whole; what it does with orders is in tests/contract, what with markets in test_market_feed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from bot.domain.errors import InvariantBroken, Retryable, VenueFatal
from bot.domain.events import Event, QueryAccount
from bot.domain.market import Quote
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.domain.venues import AccountReport, VenueHealth, VenueStatus
from bot.gateways.ccxt_gateway import CcxtGateway
from bot.gateways.exchange import Credentials
from tests.gateways.desks import RUN, SteadyClock, settings_of
from tests.runtime.command_line import PATIENCE_S
from tests.venues.deribit import DeribitServer
from tests.venues.deribit_markets import quoted_book
from tests.venues.faults import http

PERP = "ETH-PERPETUAL"


@pytest.fixture
async def server() -> AsyncIterator[DeribitServer]:
    async with DeribitServer(quoted_book()) as running:
        yield running


def gateway_of(
    server: DeribitServer, *, has_keys: bool = True, account_poll_ns: int = 30 * NS_PER_S, **keys: str
) -> CcxtGateway:
    credentials = Credentials(**{**server.credentials, **keys}) if has_keys else Credentials()
    return CcxtGateway(
        settings_of("deribit", "deribit", server, account_poll_ns=account_poll_ns),
        credentials,
        SteadyClock(),
        run_id=RUN,
    )


async def heard(got: list[Event], kind: type[Event]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not any(isinstance(event, kind) for event in got):  # noqa: ASYNC110 — a list tells nobody
            await asyncio.sleep(0.005)


async def test_without_keys_it_can_be_watched_and_not_traded_on(server: DeribitServer) -> None:
    async with gateway_of(server, has_keys=False) as gateway:
        instruments = {one.instrument_id: one for one in await gateway.instruments()}
        assert PERP in instruments
        assert await gateway.truth() == ()
        got: list[Event] = []
        events = asyncio.create_task(gateway.events(got.extend))
        gateway.watch([instruments[PERP]])
        await heard(got, Quote)
        with pytest.raises(InvariantBroken, match="where there are no keys: QueryAccount"):
            gateway.submit(QueryAccount("deribit", "test"))
        events.cancel()
        await asyncio.gather(events, return_exceptions=True)
    called = [name for name, _ in server.calls]
    assert "public/get_instruments" in called
    assert not [name for name in called if name.startswith("private/")]


async def test_with_keys_it_knows_the_account_before_anybody_listens(server: DeribitServer) -> None:
    async with gateway_of(server) as gateway:
        *fills, report = await gateway.truth()
        assert fills == []
        assert isinstance(report, AccountReport)
        assert report.balances["ETH"] == pytest.approx(1_000.0)
        assert report.ts_asked_ns <= report.ts_recv_ns <= time.time_ns()


async def test_what_happens_before_anybody_listens_is_told_first(server: DeribitServer) -> None:
    async with gateway_of(server) as gateway:
        gateway.submit(QueryAccount("deribit", "test"))
        got: list[Event] = []
        events = asyncio.create_task(gateway.events(got.extend))
        await heard(got, AccountReport)
        events.cancel()
        await asyncio.gather(events, return_exceptions=True)


async def test_a_venue_is_only_as_well_as_the_worse_of_its_market_and_its_account(server: DeribitServer) -> None:
    async with gateway_of(server, account_poll_ns=50 * NS_PER_MS) as gateway:
        got: list[Event] = []
        events = asyncio.create_task(gateway.events(got.extend))
        gateway.watch([one for one in await gateway.instruments() if one.instrument_id == PERP])
        await heard(got, VenueStatus)
        assert [one.health for one in got if isinstance(one, VenueStatus)] == [VenueHealth.UP]
        got.clear()
        for operation in ("positions", "trades", "open_orders", "balance", "time"):
            server.faults.always(operation, http(502))
        await heard(got, VenueStatus)
        await asyncio.sleep(0.5)  # quotes come in all the time
        assert [one.health for one in got if isinstance(one, VenueStatus)] == [VenueHealth.DOWN]
        got.clear()
        server.faults.clear()
        await heard(got, VenueStatus)
        assert [one.health for one in got if isinstance(one, VenueStatus)] == [VenueHealth.UP]
        events.cancel()
        await asyncio.gather(events, return_exceptions=True)


async def test_a_wrong_key_is_one_clear_line_and_leaves_nothing_open(server: DeribitServer) -> None:
    with pytest.raises(VenueFatal, match=r"expected a key that may trade, found .*; hint: check the key") as caught:
        async with gateway_of(server, secret="wrong"):
            raise AssertionError("expected no way in")
    assert "wrong" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_an_unreachable_venue_may_be_tried_again_later(server: DeribitServer) -> None:
    await server.go_dark()
    with pytest.raises(Retryable, match=r"deribit: expected its list of markets, found .*; hint: is the venue up"):
        async with gateway_of(server):
            raise AssertionError("expected no way in")


async def test_it_must_be_entered_before_it_is_asked(server: DeribitServer) -> None:
    gateway = gateway_of(server)
    assert gateway.venue == "deribit"
    with pytest.raises(InvariantBroken, match="before it was entered"):
        await gateway.instruments()
    with pytest.raises(InvariantBroken, match="before it was entered"):
        await gateway.events(lambda _events: None)
    assert await gateway.truth() == ()
