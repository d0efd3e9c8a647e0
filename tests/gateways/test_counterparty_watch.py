"""The watch tells what pages say now; a page that is gone is unknown and counted, and never what it last said."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import isnan, nan

import msgspec
import pytest

from bot.domain.events import Event
from bot.domain.risk import CounterpartySigns, TransferState, TransferUpdate
from bot.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_MIN
from bot.gateways.counterparty_watch import CounterpartyWatch, ErrorShare, PerpPrices, WatchSettings
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from tests.gateways.watched import WallClock
from tests.venues.binance import usdm_book
from tests.venues.faults import http
from tests.venues.treasury import Treasury

SETTINGS = WatchSettings(party="binance", coins=("USDC",), symbols=("ETH/USDT:USDT",), discount_symbol="ETH/USDT:USDT")


class Watch:
    def __init__(self, server: Treasury, watch: CounterpartyWatch, clock: WallClock, prices: PerpPrices) -> None:
        self.server, self.watch, self.clock, self.prices = server, watch, clock, prices
        self.got: list[Event] = []


@asynccontextmanager
async def watching(
    settings: WatchSettings = SETTINGS, ask_canary: Callable[[], None] | None = None
) -> AsyncIterator[Watch]:
    async with Treasury(usdm_book()) as server:
        server.book.set_quote("ETHUSDT", 1_959.0, 5.0, 1_961.0, 5.0)
        server.book.place("ETHUSDT", is_buy=True, amount=0.1)
        venue = VenueSettings(
            venue="binance", exchange_id="binanceusdm", underlyings=frozenset({"ETH"}), options=server.options
        )
        exchange = open_exchange(venue, Credentials(**server.credentials))
        clock, prices = WallClock(), PerpPrices()
        got: list[Event] = []
        try:
            await exchange.load_markets()
            watch = CounterpartyWatch(exchange, settings, clock, got.extend, prices, ask_canary=ask_canary)
            rig = Watch(server, watch, clock, prices)
            rig.got = got
            yield rig
        finally:
            await exchange.close()


def update(state: TransferState, at_ns: int, **changes: str) -> TransferUpdate:
    plain = TransferUpdate("run-T1", state, "USDC", 9.0, 1.0, "binance", "okx", "ARB", "", at_ns, at_ns)
    return msgspec.structs.replace(plain, **changes)


async def test_everything_a_venue_shows_is_told_at_once() -> None:
    async with watching() as rig:
        rig.server.adl_ranks = {"ETHUSDT": 2}
        rig.prices.note("okx", 2_000.0, rig.clock.now_ns())
        signs = await rig.watch.look()
        assert rig.got == [signs]
        assert isinstance(signs, CounterpartySigns)
        assert (signs.party, signs.withdrawals) == ("binance", "enabled")
        assert signs.fund_quote == 1e6
        assert signs.open_interest_quote == pytest.approx(1_000 * 1_961.0)
        assert signs.deleverage_rank_share == 0.5
        assert signs.perp_discount_share == pytest.approx(0.0195)
        assert signs.api_error_share == 0.0
        assert isnan(signs.fund_high_quote)  # not watched for 8 hours


async def test_a_page_that_is_gone_is_unknown_and_the_rest_is_told() -> None:
    async with watching() as rig:
        await rig.watch.look()
        rig.server.faults.always("insurance", http(503))
        rig.server.faults.always("currencies", http(503))
        signs = await rig.watch.look()
        assert isnan(signs.fund_quote)
        assert signs.withdrawals == "unknown"
        assert signs.deleverage_rank_share == 0.0
        assert 0.0 < signs.api_error_share < 0.5
        rig.server.faults.clear()
        assert (await rig.watch.look()).fund_quote == 1e6


async def test_a_fund_that_falls_is_seen_against_its_highest_of_8_hours() -> None:
    async with watching() as rig:
        await rig.watch.look()
        rig.server.funds["USDT"] = 700_000.0
        rig.clock.ahead_ns = NS_PER_HOUR
        fallen = await rig.watch.look()
        assert (fallen.fund_quote, fallen.fund_high_quote) == (700_000.0, 1e6)
        rig.clock.ahead_ns = 10 * NS_PER_HOUR
        assert (await rig.watch.look()).fund_high_quote == 700_000.0


async def test_our_own_withdrawal_says_more_than_the_page_unless_the_page_says_worse() -> None:
    async with watching() as rig:
        now_ns = rig.clock.now_ns()
        rig.watch.note_transfer(update(TransferState.ARRIVED, now_ns, from_venue="okx"))
        assert (await rig.watch.look()).withdrawals == "enabled"  # another venue's
        rig.watch.note_transfer(update(TransferState.ARRIVED, now_ns))
        assert (await rig.watch.look()).withdrawals == "working"
        rig.watch.note_transfer(update(TransferState.FAILED, now_ns, reason="not sent: over the cap"))
        assert (await rig.watch.look()).withdrawals == "working"  # our own no is not the venue's
        rig.watch.note_transfer(update(TransferState.SENT, now_ns), is_late=True)
        assert (await rig.watch.look()).withdrawals == "slow"
        rig.watch.note_transfer(update(TransferState.FAILED, now_ns))
        assert (await rig.watch.look()).withdrawals == "failed"
        rig.watch.note_transfer(update(TransferState.ARRIVED, now_ns))
        rig.server.is_withdrawing = False
        assert (await rig.watch.look()).withdrawals == "suspended"
        rig.server.is_withdrawing = True
        rig.clock.ahead_ns = NS_PER_DAY + NS_PER_HOUR
        assert (await rig.watch.look()).withdrawals == "enabled"  # a day old, it says nothing any more


async def test_canaries_are_asked_for_only_where_they_are_wanted() -> None:
    asked: list[int] = []
    async with watching(ask_canary=lambda: asked.append(1)) as rig:
        await rig.watch.look()
        assert asked == []
    async with watching(msgspec.structs.replace(SETTINGS, canary_ns=NS_PER_DAY), lambda: asked.append(1)) as rig:
        await rig.watch.look()
        await rig.watch.look()
        assert asked == [1]
        rig.clock.ahead_ns = NS_PER_DAY
        await rig.watch.look()
        assert asked == [1, 1]


def test_an_error_share_needs_some_calls_and_forgets() -> None:
    errors = ErrorShare()
    for place in range(4):
        errors.note(place, is_error=True)
    assert isnan(errors.at(4))
    errors.note(4, is_error=False)
    assert errors.at(4) == 0.8
    assert isnan(errors.at(6 * NS_PER_MIN))


def test_an_old_price_is_no_comparison() -> None:
    prices = PerpPrices()
    prices.note("a", 98.0, 0)
    prices.note("b", 100.0, 0)
    assert prices.discount("a", 0) == pytest.approx(0.02)
    prices.note("b", nan, 1)
    assert isnan(prices.discount("a", 1))
    prices.note("b", 100.0, 6 * NS_PER_MIN)
    assert isnan(prices.discount("a", 6 * NS_PER_MIN))
