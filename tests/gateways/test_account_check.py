"""Keys and clocks: one clear line each, and nothing else."""

from __future__ import annotations

import traceback

import pytest

from bot.domain.errors import Retryable, VenueFatal
from bot.gateways.account_check import AccountCheck, check_account
from bot.gateways.exchange import Credentials, open_exchange
from bot.gateways.venue_words import order_words_of
from tests.gateways.desks import Server, settings_of
from tests.venues.binance import BinanceServer, usdm_book
from tests.venues.deribit import DeribitServer
from tests.venues.deribit_markets import quoted_book
from tests.venues.faults import RequestFault, drop_reply, garbage, http
from tests.venues.hyperliquid import HyperliquidServer, hyperliquid_book


async def check(venue: str, exchange_id: str, server: Server, **keys: str) -> AccountCheck:
    exchange = open_exchange(settings_of(venue, exchange_id, server), Credentials(**{**server.credentials, **keys}))
    try:
        return await check_account(exchange, order_words_of(exchange_id))
    finally:
        await exchange.close()


async def test_a_good_key_on_each_venue() -> None:
    async with DeribitServer(quoted_book()) as server:
        found = await check("deribit", "deribit", server)
        assert (found.can_trade, found.can_withdraw, found.warnings) == (True, False, ())
        assert abs(found.clock_skew_ms) < 500
    async with BinanceServer(usdm_book()) as binance:
        found = await check("binance", "binanceusdm", binance)
        assert (found.can_trade, found.can_withdraw) == (True, False)
    async with HyperliquidServer(hyperliquid_book()) as hyperliquid:
        found = await check("hyperliquid", "hyperliquid", hyperliquid)
        assert (found.can_trade, found.can_withdraw) == (True, True)
        assert "hint: make a key without withdrawals" in found.warnings[0]


async def test_a_wrong_key() -> None:
    async with DeribitServer(quoted_book()) as server:
        with pytest.raises(VenueFatal, match=r"expected a key that may trade, found AuthenticationError.*hint"):
            await check("deribit", "deribit", server, secret="wrong")


async def test_a_key_that_may_not_trade() -> None:
    async with DeribitServer(quoted_book(), scope="account:read trade:read wallet:none") as server:
        with pytest.raises(VenueFatal, match="expected a key that may trade, found one that may not"):
            await check("deribit", "deribit", server)


async def test_a_key_that_may_not_trade_futures() -> None:
    async with BinanceServer(usdm_book()) as server:
        server.permissions["enableFutures"] = False
        with pytest.raises(VenueFatal, match="expected a key that may trade"):
            await check("binance", "binanceusdm", server)


@pytest.mark.parametrize(("skew_ms", "word"), [(-900, "ahead"), (900, "behind")])
async def test_a_skewed_clock(skew_ms: int, word: str) -> None:
    async with DeribitServer(quoted_book()) as server:
        server.clock_skew_ms = skew_ms
        with pytest.raises(VenueFatal, match=rf"within 500 ms of the venue's, found it \d+ ms {word}") as found:
            await check("deribit", "deribit", server)
        assert "\n" not in str(found.value)


async def test_a_venue_that_cannot_be_asked() -> None:
    async with DeribitServer(quoted_book()) as server:
        server.faults.always("time", http(503))
        with pytest.raises(Retryable, match="cannot be checked now"):
            await check("deribit", "deribit", server)


@pytest.mark.parametrize("fault", [drop_reply(), http(503), http(429), http(400, body='{"error": "no"}'), garbage()])
async def test_a_login_that_fails_never_shows_the_secret(fault: RequestFault) -> None:
    async with DeribitServer(quoted_book()) as server:
        server.faults.always("auth", fault)
        secret = server.credentials["secret"]
        try:
            await check("deribit", "deribit", server)
        except (Retryable, VenueFatal) as error:
            shown = "".join(traceback.format_exception(error))
            assert secret not in shown
