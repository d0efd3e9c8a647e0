"""Deribit's margin through the real ccxt: by currency at its index, the pool of cross collateral, what-if queries."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import ccxt
import pytest

from bot.domain.risk import ReportedMargin
from bot.domain.venues import AccountReport
from bot.gateways.deribit.margin import is_cross, read_margins, read_terms, simulate
from tests.gateways.desks import Rig, rigged
from tests.venues.deribit import DeribitServer
from tests.venues.deribit_markets import quoted_book
from tests.venues.faults import http, reject
from tests.venues.matching import VenueBook


@pytest.fixture
def book() -> VenueBook:
    return quoted_book()


@pytest.fixture
async def server(book: VenueBook) -> AsyncIterator[DeribitServer]:
    async with DeribitServer(book) as running:
        yield running


@pytest.fixture
async def rig(server: DeribitServer) -> AsyncIterator[Rig]:
    async with rigged("deribit", "deribit", server, runs=False) as made:
        yield made


async def test_an_account_report_brings_margin_by_currency_in_usd(server: DeribitServer, book: VenueBook) -> None:
    async with rigged("deribit", "deribit", server) as running:
        report = await running.until(AccountReport)
        by_scope = {one.scope: one for one in report.margins}
        assert set(by_scope) == {"BTC", "ETH", "USDC"}
        assert by_scope["ETH"].equity_quote == pytest.approx(report.balances["ETH"] * 2_000.0)
        assert by_scope["ETH"].initial_quote == 0.0
        assert by_scope["USDC"].equity_quote == pytest.approx(report.balances["USDC"])
        running.send("ETH-PERPETUAL", 1_000, 2_001.0)
        await running.soon(lambda: book.position("ETH-PERPETUAL").amount == 1_000)
        running.got.clear()
        running.desk.watch.poll_now()
        held = {one.scope: one for one in (await running.until(AccountReport)).margins}["ETH"]
        expected_coin = 1_000 / 2_000.025 * book.margin_rate
        assert held.initial_quote == pytest.approx(expected_coin * 2_000.0, rel=1e-3)
        assert held.maintenance_quote == pytest.approx(held.initial_quote / 2)


async def test_a_currency_without_an_index_is_there_and_worth_nobody_knows_what(
    server: DeribitServer, rig: Rig
) -> None:
    server.faults.always("ticker", http(503))
    found = {one.scope: one for one in await read_margins(rig.exchange, (await rig.exchange.fetch_balance())["info"])}
    assert math.isnan(found["ETH"].equity_quote)
    assert found["USDC"].equity_quote == 1_000_000.0


async def test_a_pool_of_cross_collateral_is_told_once_and_in_usd(rig: Rig) -> None:
    # As recorded on 2026-02-15: every summary of the pool repeats the sums in USD.
    pool = {
        "cross_collateral_enabled": True,
        "margin_model": "cross_pm",
        "total_margin_balance_usd": 2.531977059,
        "total_initial_margin_usd": 0.640151869,
        "total_maintenance_margin_usd": 0.4557215915800001,
        "initial_margin": 0.00000933,
    }
    apart = {"currency": "ETH", "cross_collateral_enabled": False, "equity": 2.0, "initial_margin": 0.5}
    idle = {
        "currency": "BNB",
        "cross_collateral_enabled": False,
        "equity": 0,
        "initial_margin": 0,
        "maintenance_margin": 0,
    }
    info = {"summaries": [{**pool, "currency": "BTC"}, {**pool, "currency": "ETH"}, apart, idle]}
    cross, eth = await read_margins(rig.exchange, info)
    assert cross == ReportedMargin("cross", 2.531977059, 0.640151869, 0.4557215915800001)
    assert (eth.scope, eth.equity_quote, eth.initial_quote) == ("ETH", 4_000.0, 1_000.0)
    assert math.isnan(eth.maintenance_quote)


async def test_a_simulation_tells_every_item(rig: Rig) -> None:
    assert not await is_cross(rig.exchange)
    found = await simulate(rig.exchange, "ETH", {"ETH-PERPETUAL": -1.0})
    (margin,) = found.margins
    assert margin.scope == "ETH"
    assert margin.initial_quote == pytest.approx((0.18 / 1.18 + 0.005) * 2_000.0)
    assert margin.maintenance_quote == pytest.approx(0.8 * margin.initial_quote)
    assert found.items_quote["ETH worst_case"] == pytest.approx(0.18 / 1.18 * 2_000.0)
    assert found.items_quote["ETH mmp_margin"] == 0.0


async def test_without_portfolio_margin_the_sums_are_asked_for(server: DeribitServer, rig: Rig) -> None:
    server.faults.always("simulate", reject("13021"))
    found = await simulate(rig.exchange, "ETH", {"ETH-PERPETUAL": 2.0})
    (margin,) = found.margins
    assert margin.initial_quote == pytest.approx(2 * (0.18 / 0.82 + 0.005) * 2_000.0)
    assert found.items_quote == {}


async def test_a_simulation_that_fails_is_raised(server: DeribitServer, rig: Rig) -> None:
    server.faults.always("simulate", http(503))
    with pytest.raises(ccxt.BaseError):
        await simulate(rig.exchange, "ETH", {"ETH-PERPETUAL": 2.0})


async def test_the_parameters_in_use_are_those_of_every_currency(server: DeribitServer, rig: Rig) -> None:
    found = await read_terms(rig.exchange, {"ETH", "BTC"})
    assert sorted(found["currency"]) == ["btc", "eth"]
    assert found["currency_pair"]["eth_usd"]["price_range"] == 0.18
    assert found["general"]["mm_factor"] == 0.8
    server.faults.always("simulate", reject("13021"))
    with pytest.raises(ccxt.BaseError):
        await read_terms(rig.exchange, {"ETH"})
