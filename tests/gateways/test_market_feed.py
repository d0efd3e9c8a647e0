"""The market feed against a loopback Deribit through the real ccxt, and the checks every event goes through."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import ccxt
import ccxt.pro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.market import FundingRate, IndexPrice, Quote, Settlement, VolQuote
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.domain.venues import InstrumentDelisted, InstrumentListed, VenueHealth, VenueStatus
from bot.gateways.deribit.market import DeribitMarketWords
from bot.gateways.market_feed import differ, read_index, read_quote, read_vols
from bot.gateways.market_words import Sides, Sort, Vols
from tests.gateways.watched import FAST, LIMIT_NS, WallClock, watching
from tests.instruments import CALL as OPTION
from tests.instruments import PERPETUAL
from tests.runtime.command_line import PATIENCE_S
from tests.venues.deribit import DeribitServer
from tests.venues.deribit_markets import EXPIRY_MS, quoted_book
from tests.venues.faults import StreamFault, http, silence
from tests.venues.matching import Kind, Listing, VenueBook

PERP, CALL, PUT = "ETH-PERPETUAL", "ETH-1JAN00-2000-C", "ETH-1JAN00-2000-P"


@pytest.fixture
def book() -> VenueBook:
    return quoted_book()


@pytest.fixture
async def server(book: VenueBook) -> AsyncIterator[DeribitServer]:
    async with DeribitServer(book) as running:
        yield running


async def test_quotes_vols_and_index_come_in_as_the_venue_says_them(server: DeribitServer, book: VenueBook) -> None:
    async with watching(server, PERP, CALL) as seen:
        await seen.soon(lambda: seen.of(Quote, PERP) and seen.of(VolQuote, CALL) and seen.of(IndexPrice))
        quote = seen.of(Quote, PERP)[0]
        assert (quote.bid_px, quote.ask_px) == (2_000.0, 2_000.05)
        assert (quote.bid_base, quote.ask_base) == (25.0, pytest.approx(40_000 / 2_000.05))  # from USD
        assert quote.ts_event_ns == book.quotes[PERP].ts_ms * NS_PER_MS
        assert quote.ts_event_ns <= quote.ts_recv_ns
        vols = seen.of(VolQuote, CALL)[0]
        assert (vols.mark_vol, vols.bid_vol, vols.ask_vol, vols.forward_px) == (0.6, 0.59, 0.61, 2_010.0)
        assert seen.of(IndexPrice)[0].px == 2_000.0
        book.set_quote(PERP, 2_001.0, 50_000.0, 2_001.05, 40_000.0)
        book.set_index("ETH", 2_001.5)
        await seen.soon(lambda: seen.of(Quote, PERP)[-1].bid_px == 2_001.0 and seen.of(IndexPrice)[-1].px == 2_001.5)
        seqs = [e.seq for e in seen.events if isinstance(e, Quote | VolQuote | IndexPrice)]
        assert seqs == sorted(set(seqs))
        await seen.soon(lambda: seen.of(VenueStatus))
        assert [s.health for s in seen.of(VenueStatus)] == [VenueHealth.UP]


async def test_the_last_word_of_a_burst_is_never_lost(server: DeribitServer, book: VenueBook) -> None:
    async with watching(server, PERP, "ETH_USDC-PERPETUAL") as seen:
        await seen.soon(lambda: seen.of(Quote, PERP) and seen.of(Quote, "ETH_USDC-PERPETUAL"))
        for step in range(1, 40):
            book.set_quote(PERP, 2_000.0 + step, 50_000.0, 2_000.5 + step, 40_000.0)
            book.set_quote("ETH_USDC-PERPETUAL", 3_000.0 + step, 5.0, 3_000.5 + step, 4.0)
            await asyncio.sleep(0)
        await seen.soon(
            lambda: (
                seen.of(Quote, PERP)[-1].bid_px == 2_039.0
                and seen.of(Quote, "ETH_USDC-PERPETUAL")[-1].bid_px == 3_039.0
            )
        )


async def test_a_frozen_socket_is_found_out_and_replaced_while_requests_fill_in(
    server: DeribitServer, book: VenueBook
) -> None:
    async with watching(server, PERP) as seen:
        await seen.soon(lambda: seen.of(Quote, PERP))
        server.freeze()
        book.set_quote(PERP, 1_990.0, 50_000.0, 1_990.05, 40_000.0)
        await seen.soon(lambda: seen.of(Quote, PERP)[-1].bid_px == 1_990.0)  # by request
        await seen.soon(lambda: seen.feed.reconnects)
        await seen.soon(lambda: any(not c.pipe.is_frozen for c in server.connections))
        before = len(seen.of(Quote, PERP))
        book.set_quote(PERP, 1_991.0, 50_000.0, 1_991.05, 40_000.0)
        await seen.soon(lambda: seen.of(Quote, PERP)[-1].bid_px == 1_991.0)  # by stream
        assert len(seen.of(Quote, PERP)) > before
        assert VenueHealth.DOWN not in [s.health for s in seen.of(VenueStatus)]


class Deaf(DeribitMarketWords):
    """Words whose requests lose a cancellation to a timeout of their own, as aiohttp's may on a loaded machine."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def ask(self, sort: Sort, exchange: ccxt.pro.Exchange, symbol: str) -> Any:
        del sort, exchange, symbol
        self.asked.set()
        try:
            await asyncio.sleep(10.0)
        except asyncio.CancelledError:
            raise ccxt.RequestTimeout("its own time was over too") from None


async def test_a_request_that_loses_its_cancellation_does_not_keep_the_feed(server: DeribitServer) -> None:
    words = Deaf()
    async with watching(server, PERP, words=words) as seen:
        await seen.soon(lambda: seen.of(Quote, PERP))
        server.freeze()
        await seen.soon(words.asked.is_set)  # and the block ends in the middle of it


async def test_a_subscription_acknowledged_but_empty_is_silence(server: DeribitServer) -> None:
    server.faults.next("quotes", StreamFault.SKIP)
    async with watching(server, PERP) as seen:
        await seen.soon(lambda: seen.of(Quote, PERP))  # by request
        await seen.soon(lambda: seen.feed.reconnects.total() == 1)
        asked = server.faults.asked["ticker"]
        await seen.nothing(1.5)
        assert server.faults.asked["ticker"] - asked <= 6  # the new stream told: only the quiet are asked now and then


async def test_a_quiet_market_is_not_connected_anew(server: DeribitServer) -> None:
    clock = WallClock()
    async with watching(server, PERP, CALL, pace=FAST, clock=clock) as seen:
        await seen.soon(lambda: seen.of(Quote, PERP) and seen.of(VolQuote, CALL))
        for _ in range(4):
            await seen.nothing(1.0)
            clock.ahead_ns += LIMIT_NS
        assert not seen.feed.reconnects
        # What is quiet is still true when asked, and says so.
        assert seen.of(Quote, PERP)[-1].ts_event_ns - seen.of(Quote, PERP)[0].ts_event_ns > 2 * LIMIT_NS
        assert {s.health for s in seen.of(VenueStatus)} == {VenueHealth.UP}


async def test_skipped_messages_are_made_good(server: DeribitServer, book: VenueBook) -> None:
    async with watching(server, PERP) as seen:
        await seen.soon(lambda: seen.of(Quote, PERP))
        server.faults.next("quotes", StreamFault.SKIP)
        book.set_quote(PERP, 1_980.0, 50_000.0, 1_980.05, 40_000.0)
        await seen.soon(lambda: seen.of(Quote, PERP)[-1].bid_px == 1_980.0)


async def test_neither_stream_nor_request_is_down_and_recovery_is_up(server: DeribitServer, book: VenueBook) -> None:
    async with watching(server, PERP) as seen:
        await seen.soon(lambda: seen.of(VenueStatus))
        await server.go_dark()
        await seen.soon(lambda: len(seen.of(VenueStatus)) == 2)
        down = seen.of(VenueStatus)[-1]
        assert down.health is VenueHealth.DOWN
        assert "of ETH/USD:ETH: nothing by stream or request for 40 s" in down.reason
        await server.come_back()
        book.set_quote(PERP, 2_002.0, 50_000.0, 2_002.05, 40_000.0)
        await seen.soon(lambda: seen.of(VenueStatus)[-1].health is VenueHealth.UP)
        await seen.soon(lambda: seen.of(Quote, PERP)[-1].bid_px == 2_002.0)
        assert len(seen.of(VenueStatus)) == 3


async def test_a_venue_whose_times_fall_behind_is_found_out(server: DeribitServer, book: VenueBook) -> None:
    clock = WallClock()
    async with watching(server, PERP, clock=clock) as seen:
        await seen.soon(lambda: seen.of(Quote, PERP))
        clock.ahead_ns = 2 * LIMIT_NS
        px = count(2_000)

        def moved_on() -> int:
            bid_px = float(next(px))
            book.set_quote(PERP, bid_px, 50_000.0, bid_px + 0.5, 40_000.0)
            return seen.feed.reconnects.total()

        await seen.soon(moved_on)


async def test_a_crossed_quote_is_dropped_and_counted(server: DeribitServer, book: VenueBook) -> None:
    async with watching(server, PERP) as seen:
        await seen.soon(lambda: seen.of(Quote, PERP))
        book.set_quote(PERP, 2_010.0, 50_000.0, 2_000.0, 40_000.0)
        await seen.soon(lambda: seen.feed.dropped["quotes: crossed"])
        book.set_quote(PERP, None, 0.0, 2_000.0, 40_000.0)
        await seen.soon(lambda: seen.feed.dropped["quotes: one-sided"])
        assert all(q.bid_px < q.ask_px for q in seen.of(Quote, PERP))
        await seen.nothing(1.5)  # an empty side is not a venue that is down
        assert VenueHealth.DOWN not in [s.health for s in seen.of(VenueStatus)]


async def test_the_whole_expiry_of_a_held_option_comes_with_one_request(server: DeribitServer) -> None:
    async with watching(server, CALL, pace=FAST) as seen:
        await seen.soon(lambda: len(seen.of(VolQuote, PUT)) > 1)
        assert (seen.of(VolQuote, PUT)[0].mark_vol, seen.of(VolQuote, PUT)[0].forward_px) == (0.6, 2_010.0)
        assert seen.of(VolQuote, CALL)[0].bid_vol == 0.59  # the held one by its own stream, both sides


async def test_funding_is_told_once_when_it_is_paid(server: DeribitServer, book: VenueBook) -> None:
    async with watching(server, PERP, pace=FAST) as seen:
        await seen.soon(lambda: seen.of(Quote, PERP))
        await seen.soon(lambda: "public/get_funding_rate_history" in [name for name, _ in server.calls])
        await asyncio.sleep(0.002)  # it is asked for since then, to the millisecond
        book.pay_funding(PERP, 0.0002)
        await seen.soon(lambda: seen.of(FundingRate, PERP))
        await seen.nothing(1.0)
        (paid,) = seen.of(FundingRate, PERP)
        assert (paid.rate, paid.ts_event_ns) == (0.0002, book.fundings[0].ts_ms * NS_PER_MS)


async def test_an_expiry_settles_and_is_followed_no_more(server: DeribitServer, book: VenueBook) -> None:
    clock = WallClock()
    async with watching(server, PERP, CALL, pace=FAST, clock=clock) as seen:
        await seen.soon(lambda: seen.of(VolQuote, CALL))
        clock.ahead_ns = EXPIRY_MS * NS_PER_MS - time.time_ns()
        book.settle("ETH", EXPIRY_MS, 2_345.0)
        await seen.soon(lambda: seen.of(Settlement))
        (settled,) = seen.of(Settlement)
        assert (settled.underlying, settled.expiry_ns, settled.px) == ("ETH", EXPIRY_MS * NS_PER_MS, 2_345.0)
        await seen.nothing(1.0)
        heard = len(seen.of(VolQuote, CALL))
        book.set_vol(CALL, 0.7, 0.69, 0.71, 2_010.0)
        await seen.nothing(0.5)
        assert len(seen.of(VolQuote, CALL)) == heard
        assert len(seen.of(Settlement)) == 1
        assert not seen.of(InstrumentDelisted, CALL)


async def test_what_expired_before_we_connected_settles_too(server: DeribitServer, book: VenueBook) -> None:
    gone = msgspec.structs.replace(OPTION, expiry_ns=1_682_668_800 * NS_PER_S, base="ETH", quote="USD")
    book.settle("ETH", 1_682_668_800_000, 1_890.0)
    async with watching(server, PERP, pace=FAST) as seen:
        seen.feed.watch([PERP, gone.instrument_id], known=[gone])
        await seen.soon(lambda: seen.of(Settlement))
        assert (seen.of(Settlement)[0].expiry_ns, seen.of(Settlement)[0].px) == (gone.expiry_ns, 1_890.0)


async def test_a_rate_limit_is_backed_off_from(server: DeribitServer) -> None:
    server.faults.always("ticker", http(429, retry_after_s=60.0))
    async with watching(server, PERP) as seen:
        await seen.soon(lambda: seen.of(Quote, PERP))
        server.freeze()
        await seen.soon(lambda: server.faults.asked["ticker"])
        await seen.nothing(1.5)
        assert server.faults.asked["ticker"] <= 2  # one for the quote, one for the index, asked at the same time


async def test_listings_are_told_while_it_runs(server: DeribitServer, book: VenueBook) -> None:
    async with watching(server, PERP, pace=FAST) as seen:
        await seen.soon(lambda: seen.of(Quote, PERP))
        book.add(
            Listing(
                name="ETH-2JAN00",
                kind=Kind.FUTURE,
                coin="ETH",
                settle="ETH",
                is_inverse=True,
                expiry_ms=EXPIRY_MS + 86_400_000,
            )
        )
        book.delist("ETH_USDC-PERPETUAL")
        book.change_contract_size(CALL, 10.0)
        await seen.soon(lambda: seen.of(InstrumentListed) and seen.of(InstrumentDelisted, CALL))
        assert seen.of(InstrumentListed)[0].instrument.instrument_id == "ETH-2JAN00"
        assert "contract_size was 1.0, is 10.0" in seen.of(InstrumentDelisted, CALL)[0].reason
        assert seen.of(InstrumentDelisted, "ETH_USDC-PERPETUAL")


async def test_what_is_watched_can_change(server: DeribitServer, book: VenueBook) -> None:
    async with watching(server, PERP) as seen:
        await seen.soon(lambda: seen.of(Quote, PERP))
        seen.feed.watch(["ETH_USDC-PERPETUAL", CALL, "NO-SUCH"])
        await seen.soon(lambda: seen.of(Quote, "ETH_USDC-PERPETUAL") and seen.of(VolQuote, CALL))
        heard = len(seen.of(Quote, PERP))
        book.set_quote(PERP, 2_100.0, 50_000.0, 2_100.05, 40_000.0)
        await seen.nothing(0.5)
        assert len(seen.of(Quote, PERP)) == heard


async def test_requests_that_fail_are_tried_again_and_logged_once(server: DeribitServer) -> None:
    server.faults.always("ticker", http(503))
    async with watching(server, PERP, CALL, pace=FAST) as seen:
        await seen.soon(lambda: seen.of(Quote, PERP))
        server.freeze()
        await seen.soon(lambda: seen.feed.reconnects)
        server.faults.clear("ticker")
        await seen.soon(lambda: seen.of(VenueStatus) and seen.of(VenueStatus)[-1].health is VenueHealth.UP)


NUMBERS = (
    st.floats()
    | st.floats(min_value=1e-3, max_value=1e6)
    | st.integers()
    | st.none()
    | st.text(max_size=5)
    | st.booleans()
    | st.just([])
    | st.floats(min_value=0.001, max_value=1e6).map(str)
)


@given(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS))
def test_no_quote_is_ever_unusable(values: tuple[object, ...]) -> None:
    quote = read_quote(Sides(*values), PERPETUAL, lambda _i, amount, px: amount / px, 10**18, 1)
    if isinstance(quote, Quote):
        assert 0 < quote.bid_px < quote.ask_px < math.inf
        assert 0 < quote.bid_base < math.inf
        assert 0 < quote.ask_base < math.inf
        assert 0 < quote.ts_event_ns < 2**63


@given(st.tuples(*[NUMBERS] * 7), st.sampled_from([1.0, 0.01]))
def test_no_vol_quote_is_ever_unusable(values: tuple[object, ...], unit: float) -> None:
    vols = read_vols(Vols(*values), "X", unit, 10**18, 1)
    if isinstance(vols, VolQuote):
        assert 0 < vols.mark_vol < math.inf
        assert 0 < vols.forward_px < math.inf
        assert 0 <= vols.bid_vol < math.inf
        assert vols.bid_vol <= vols.ask_vol or vols.ask_vol == 0
        assert 0 <= vols.bid_base < math.inf
        assert 0 <= vols.ask_base < math.inf


@given(NUMBERS, NUMBERS)
def test_no_index_is_ever_unusable(px: object, ts_ms: object) -> None:
    index = read_index((px, ts_ms), "ETH", 10**18, 1)
    assert isinstance(index, str) or (0 < index.px < math.inf and 0 < index.ts_event_ns < 2**63)


def test_answers_differ_by_what_matters() -> None:
    quote = Quote("X", 1.0, 1.0, 2.0, 1.0, 1, 1, 1)
    assert not differ(quote, msgspec.structs.replace(quote, bid_base=5.0, ts_event_ns=2))
    assert differ(quote, msgspec.structs.replace(quote, bid_px=1.1))
    vols = VolQuote("X", 0.6, 0.59, 0.61, 2_000.0, 1, 1, 1)
    assert not differ(vols, msgspec.structs.replace(vols, mark_vol=0.602, bid_vol=0.0, forward_px=2_001.0))
    assert differ(vols, msgspec.structs.replace(vols, mark_vol=0.62))
    assert differ(vols, msgspec.structs.replace(vols, forward_px=2_010.0))
    assert not differ(quote, vols)


async def test_a_feed_ends_though_a_request_runs_out_of_time_as_it_is_ended(server: DeribitServer) -> None:
    server.faults.always("ticker", silence())
    async with watching(server, CALL, pace=FAST, limit_ns=60 * NS_PER_S) as seen:
        seen.exchange.timeout = 50
        await seen.soon(lambda: server.faults.asked.get("ticker", 0))
        asked = server.faults.asked["ticker"]
        await seen.soon(lambda: server.faults.asked["ticker"] > asked)
        time.sleep(0.1)  # noqa: ASYNC251 — a loop under load: the request is overdue in the very moment of the end
        await asyncio.wait_for(seen.end(), PATIENCE_S)
