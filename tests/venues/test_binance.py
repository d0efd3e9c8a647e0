"""The loopback Binance USD-M, spoken to by the real ccxt: what it reads, what it may do, and how refusals arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import ccxt.pro
import pytest

from bot.domain.units import NS_PER_S
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from tests.runtime.command_line import PATIENCE_S
from tests.venues.binance import BinanceServer, banned, outcome_unknown, perpetual, too_many_requests, usdm_book
from tests.venues.faults import StreamFault, delay, drop_reply, drop_request, garbage, http, reject, silence
from tests.venues.matching import State, wall_clock_ms
from tests.venues.passing import out_of_time, until

ETH = "ETH/USDT:USDT"
CLIENT_ID = "0a1b2c3d4e-1"


@asynccontextmanager
async def venue(**options: Any) -> AsyncIterator[BinanceServer]:
    book = usdm_book(**options)
    book.set_index("ETH", 2_000.0)
    book.set_quote("ETHUSDT", 1_999.99, 5.0, 2_000.01, 5.0, deeper_bids=[(1_999.5, 9.0)])
    async with BinanceServer(book) as server:
        yield server


@asynccontextmanager
async def client(server: BinanceServer, **keys: str) -> AsyncIterator[Any]:
    settings = VenueSettings(
        venue="binance", exchange_id="binanceusdm", underlyings=frozenset({"ETH"}), options=server.options,
        timeout_ns=round(PATIENCE_S * NS_PER_S),
    )  # fmt: skip
    exchange = open_exchange(settings, Credentials(**{**server.credentials, **keys}))
    try:
        yield exchange
    finally:
        await exchange.close()


async def soon(answer: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(answer, PATIENCE_S)


def awaits(exchange: Any, what: str) -> bool:
    """Tell whether somebody waits for news of this kind, as ccxt calls it."""
    return any(what in client.futures for client in exchange.clients.values())


async def rest(exchange: Any, side: str = "buy", amount: float = 1.0, px: float = 1_990.0, **params: Any) -> Any:
    return await exchange.create_order(ETH, "limit", side, amount, px, params)


async def test_markets_are_what_the_book_lists() -> None:
    async with venue() as server, client(server) as exchange:
        markets = await exchange.load_markets()
        market = markets[ETH]
        assert (market["id"], market["type"], market["linear"], market["active"]) == ("ETHUSDT", "swap", True, True)
        assert (market["precision"]["price"], market["precision"]["amount"]) == (0.01, 0.001)
        assert (market["contractSize"], market["limits"]["cost"]["min"]) == (1.0, 20.0)
        server.book.delist("ETHUSDT")
        assert (await exchange.load_markets(reload=True))[ETH]["active"] is False


async def test_the_clock_of_the_venue_can_be_wrong() -> None:
    async with venue() as server, client(server) as exchange:
        server.clock_skew_ms = 60_000
        before_ms, told_ms, after_ms = wall_clock_ms(), await exchange.fetch_time(), wall_clock_ms()
        assert before_ms + 60_000 <= told_ms <= after_ms + 60_000
        with pytest.raises(ccxt.pro.InvalidNonce, match="-1021"):
            await exchange.fetch_balance()
        server.clock_skew_ms = -60_000
        with pytest.raises(ccxt.pro.InvalidNonce, match="-1021"):
            await exchange.fetch_balance()


@pytest.mark.parametrize(("keys", "code"), [({"secret": "wrong"}, "-1022"), ({"api_key": "wrong"}, "-2015")])
async def test_wrong_keys_are_refused(keys: dict[str, str], code: str) -> None:
    async with venue() as server, client(server, **keys) as exchange:
        exchange.options["fetchCurrencies"] = False
        with pytest.raises(ccxt.pro.AuthenticationError, match=code):
            await exchange.fetch_balance()


async def test_permissions_can_be_asked_for_and_missed() -> None:
    async with venue() as server, client(server) as exchange:
        restrictions = await exchange.sapiGetAccountApiRestrictions()
        assert (restrictions["enableFutures"], restrictions["enableWithdrawals"]) == (True, False)
        account = await exchange.fapiPrivateV2GetAccount()
        assert (account["canTrade"], account["canWithdraw"]) == (True, False)
        server.permissions["enableFutures"] = False
        with pytest.raises(ccxt.pro.AuthenticationError, match="-2015"):
            await rest(exchange)
        assert not server.book.orders


async def test_a_maker_order_rests_is_amended_and_canceled() -> None:
    async with venue() as server, client(server) as exchange:
        order = await rest(exchange, postOnly=True, clientOrderId=CLIENT_ID)
        assert (order["status"], order["clientOrderId"], order["postOnly"]) == ("open", CLIENT_ID, True)
        amended = await exchange.edit_order(order["id"], ETH, "limit", "buy", 2.0, 1_991.0)
        assert (amended["id"], amended["amount"], amended["price"]) == (order["id"], 2.0, 1_991.0)
        by_client_id = await exchange.fetch_order("", ETH, {"clientOrderId": CLIENT_ID})
        assert (by_client_id["id"], by_client_id["status"]) == (order["id"], "open")
        exchange.options["fetchOpenOrders"]["warnWithoutSymbol"] = False  # ccxt raises otherwise
        assert [o["id"] for o in await exchange.fetch_open_orders()] == [order["id"]]
        await exchange.cancel_order("", ETH, {"clientOrderId": CLIENT_ID})
        assert (await exchange.fetch_order(order["id"], ETH))["status"] == "canceled"
        assert await exchange.fetch_open_orders(ETH) == []
        assert [o["status"] for o in await exchange.fetch_orders(ETH)] == ["canceled"]


async def test_a_taker_order_trades_and_the_account_shows_it() -> None:
    async with venue() as server, client(server) as exchange:
        order = await rest(exchange, "sell", 2.0, 1_999.0, timeInForce="IOC", clientOrderId=CLIENT_ID)
        assert (order["status"], order["filled"], order["average"]) == ("closed", 2.0, 1_999.99)
        trade = (await exchange.fetch_my_trades(ETH))[0]
        assert (trade["order"], trade["amount"], trade["price"], trade["side"], trade["takerOrMaker"]) == (
            order["id"], 2.0, 1_999.99, "sell", "taker",
        )  # fmt: skip
        assert trade["fee"]["cost"] == pytest.approx(2.0 * 1_999.99 * 0.0005)
        assert trade["fee"]["currency"] == "USDT"
        for version in (False, True):
            position = (await exchange.fetch_positions([ETH], {"useV2": version}))[0]
            assert (position["contracts"], position["side"], position["entryPrice"]) == (2.0, "short", 1_999.99)
        balance = await exchange.fetch_balance()
        assert balance["USDT"]["total"] == pytest.approx(server.book.equity("USDT"))


async def test_an_ioc_order_that_finds_nothing_expires() -> None:
    async with venue() as server, client(server) as exchange:
        order = await rest(exchange, timeInForce="IOC")
        assert (order["status"], order["filled"]) == ("expired", 0.0)
        assert order["info"]["status"] == "EXPIRED"
        partly = await rest(exchange, "buy", 7.0, 2_000.01, timeInForce="IOC")
        assert (partly["status"], partly["filled"], partly["remaining"]) == ("expired", 5.0, 2.0)
        assert server.book.position("ETHUSDT").amount == 5.0


@pytest.mark.parametrize(
    ("changes", "error", "code"),
    [
        ({"px": 2_001.0, "postOnly": True}, ccxt.pro.OrderNotFillable, "-5022"),
        ({"reduceOnly": True}, ccxt.pro.InvalidOrder, "-2022"),
        ({"amount": 5_000.0}, ccxt.pro.InsufficientFunds, "-2019"),
        ({"amount": 0.001}, ccxt.pro.InvalidOrder, "-4164"),
        ({"px": 3_000.0}, ccxt.pro.BadRequest, "-4016"),
        ({"clientOrderId": "no spaces"}, ccxt.pro.BadRequest, "-4015"),
    ],
)
async def test_refusals_arrive_as_the_venue_means_them(
    changes: dict[str, Any], error: type[Exception], code: str
) -> None:
    async with venue(usdt=10_000.0) as server, client(server) as exchange:
        with pytest.raises(error, match=code):
            await rest(exchange, **changes)
        assert not server.book.orders


async def test_what_is_not_there_is_said_to_be_not_there() -> None:
    async with venue() as server, client(server) as exchange:
        with pytest.raises(ccxt.pro.OrderNotFound, match="-2013"):
            await exchange.fetch_order("", ETH, {"clientOrderId": "never-sent"})
        with pytest.raises(ccxt.pro.OrderNotFound, match="-2011"):
            await exchange.cancel_order("", ETH, {"clientOrderId": "never-sent"})
        order = await rest(exchange, "buy", 1.0, 2_000.01)
        with pytest.raises(ccxt.pro.OrderNotFound, match="-2011"):
            await exchange.cancel_order(order["id"], ETH)
        await exchange.load_markets()
        exchange.markets[ETH]["id"] = "GONEUSDT"
        with pytest.raises(ccxt.pro.BadSymbol, match="-1121"):
            await rest(exchange)


async def test_a_client_id_is_free_again_once_its_order_is_over() -> None:
    async with venue() as server, client(server) as exchange:
        first = await rest(exchange, clientOrderId=CLIENT_ID)
        with pytest.raises(ccxt.pro.InvalidOrder, match="-4116"):
            await rest(exchange, clientOrderId=CLIENT_ID)
        await exchange.cancel_all_orders(ETH)
        second = await rest(exchange, clientOrderId=CLIENT_ID)
        assert (await exchange.fetch_order("", ETH, {"clientOrderId": CLIENT_ID}))["id"] == second["id"] != first["id"]


async def test_an_amend_that_would_take_cancels_a_post_only_order() -> None:
    async with venue() as server, client(server) as exchange:
        order = await rest(exchange, postOnly=True)
        with pytest.raises(ccxt.pro.OperationRejected, match="-5027"):
            await exchange.edit_order(order["id"], ETH, "limit", "buy", 1.0, 1_990.0)
        amended = await exchange.edit_order(order["id"], ETH, "limit", "buy", 1.0, 2_005.0)
        assert (amended["status"], amended["filled"]) == ("canceled", 0.0)
        with pytest.raises(ccxt.pro.OrderNotFound, match="-2013"):
            await exchange.edit_order(order["id"], ETH, "limit", "buy", 1.0, 1_995.0)


async def test_several_orders_are_canceled_each_with_its_own_answer() -> None:
    async with venue() as server, client(server) as exchange:
        orders = [await rest(exchange, clientOrderId=f"{CLIENT_ID}{n}") for n in range(3)]
        answers = await exchange.cancel_orders([orders[0]["id"], "1"], ETH)
        assert [answer["id"] for answer in answers] == [orders[0]["id"]]  # ccxt leaves out what was refused
        await exchange.cancel_orders([], ETH, {"clientOrderIds": [f"{CLIENT_ID}1", f"{CLIENT_ID}2"]})
        assert not server.book.open_orders()


async def test_fees_funding_and_the_nearness_of_auto_deleveraging_are_told() -> None:
    async with venue() as server, client(server) as exchange:
        fee = await exchange.fetch_trading_fee(ETH)
        assert (fee["maker"], fee["taker"]) == (0.0002, 0.0005)
        await rest(exchange, "buy", 2.0, 2_000.01)
        server.book.pay_funding("ETHUSDT", 0.0001)
        paid = (await exchange.fetch_funding_history(ETH))[0]
        assert (paid["amount"], paid["code"]) == (pytest.approx(-2.0 * 2_000.0 * 0.0001), "USDT")
        assert [one["fundingRate"] for one in await exchange.fetch_funding_rate_history(ETH)] == [0.0001]
        assert (await exchange.fetch_funding_intervals([ETH]))[ETH]["interval"] == "8h"
        server.adl_ranks["ETHUSDT"] = 4
        assert [rank["rank"] for rank in await exchange.fetch_positions_adl_rank([ETH])] == [4]


async def test_what_is_public_needs_no_keys() -> None:
    async with venue() as server, client(server, api_key="", secret="") as exchange:
        assert ETH in await exchange.load_markets()
        assert (await soon(exchange.watch_bids_asks([ETH])))[ETH]["ask"] == 2_000.01
        assert (await soon(exchange.watch_order_book(ETH)))["bids"][0] == [1_999.99, 5.0]
        assert (await exchange.fetch_funding_rates([ETH]))[ETH]["markPrice"] == 2_000.0
        with pytest.raises(ccxt.pro.AuthenticationError):
            await exchange.fetch_balance()
        assert server.hears("ETHUSDT")
        assert not server.hears("BTCUSDT")


async def test_a_venue_that_was_dark_has_kept_its_orders() -> None:
    async with venue() as server, client(server) as exchange:
        await rest(exchange, clientOrderId=CLIENT_ID)
        await server.go_dark()
        with pytest.raises(ccxt.pro.NetworkError):
            await exchange.fetch_order("", ETH, {"clientOrderId": CLIENT_ID})
        await server.come_back()
        assert (await exchange.fetch_order("", ETH, {"clientOrderId": CLIENT_ID}))["status"] == "open"


async def test_what_is_watched_can_be_left_and_what_is_not_there_cannot_be_watched() -> None:
    async with venue() as server, client(server) as exchange, aiohttp.ClientSession() as session:
        await soon(exchange.watch_bids_asks([ETH]))
        assert server.hears("ETHUSDT")
        await soon(exchange.un_watch_bids_asks([ETH]))
        assert not server.hears("ETHUSDT")
        async with session.ws_connect(f"ws://{server.host}/public/ws/9") as socket:
            await socket.send_json({"method": "SUBSCRIBE", "params": ["noneusdt@bookTicker"], "id": 5})
            answer = await soon(socket.receive_json())
        assert (answer["id"], answer["error"]["code"]) == (5, 2)


async def test_a_refused_handshake_is_an_error() -> None:
    async with venue() as server, client(server) as exchange:
        await exchange.load_markets()
        server.faults.next("connect", reject())
        with pytest.raises(ccxt.pro.NetworkError):
            await soon(exchange.watch_bids_asks([ETH]))


async def test_a_frozen_stream_says_nothing_while_the_rest_answers() -> None:
    async with venue() as server, client(server) as exchange:
        await soon(exchange.watch_bids_asks([ETH]))
        server.freeze()
        watching = asyncio.create_task(exchange.watch_bids_asks([ETH]))
        server.book.set_quote("ETHUSDT", 2_010.0, 1.0, 2_010.02, 2.0)
        assert (await exchange.fetch_bids_asks([ETH]))[ETH]["bid"] == 2_010.0
        assert not watching.done()
        server.freeze(is_frozen=False)
        server.book.set_quote("ETHUSDT", 2_011.0, 1.0, 2_011.02, 2.0)
        assert (await soon(watching))[ETH]["bid"] == 2_011.0


async def test_depth_after_a_lost_connection_is_the_new_one() -> None:
    async with venue() as server, client(server) as exchange:
        await soon(exchange.watch_order_book(ETH))
        watching = asyncio.create_task(exchange.watch_order_book(ETH))
        await asyncio.sleep(0)
        server.disconnect()
        with pytest.raises(ccxt.pro.NetworkError):
            await soon(watching)
        server.book.set_quote("ETHUSDT", 1_500.0, 1.0, 1_500.5, 1.0)
        book = await soon(exchange.watch_order_book(ETH))
        assert (book["bids"], book["asks"]) == ([[1_500.0, 1.0]], [[1_500.5, 1.0]])


async def test_the_dead_mans_switch_really_cancels() -> None:
    async with venue() as server, client(server) as exchange:
        await exchange.load_markets()
        order = await rest(exchange)
        await exchange.fapiPrivatePostCountdownCancelAll({"symbol": "ETHUSDT", "countdownTime": 120_000})
        await exchange.fapiPrivatePostCountdownCancelAll({"symbol": "BTCUSDT", "countdownTime": 30})
        await until(lambda: "BTCUSDT" not in server.countdowns)
        assert server.book.orders[order["id"]].is_open
        answer = await exchange.fapiPrivatePostCountdownCancelAll({"symbol": "ETHUSDT", "countdownTime": 30})
        assert answer["symbol"] == "ETHUSDT"
        await until(lambda: not server.book.orders[order["id"]].is_open)
        assert server.book.orders[order["id"]].cancel_reason == "countdown"
        await exchange.fapiPrivatePostCountdownCancelAll({"symbol": "ETHUSDT", "countdownTime": 120_000})
        await exchange.fapiPrivatePostCountdownCancelAll({"symbol": "ETHUSDT", "countdownTime": 0})
        assert server.countdowns == {}


async def test_the_user_stream_tells_orders_fills_positions_and_balance() -> None:
    async with venue() as server, client(server) as exchange:
        await exchange.load_markets()
        orders = asyncio.create_task(exchange.watch_orders())
        trades = asyncio.create_task(exchange.watch_my_trades())
        await server.watched("user")
        await rest(exchange, "buy", 3.0, 1_995.0, clientOrderId=CLIENT_ID)
        seen = (await soon(orders))[-1]
        assert (seen["clientOrderId"], seen["status"], seen["filled"]) == (CLIENT_ID, "open", 0.0)
        await until(lambda: exchange.positions["linear"] is not None)  # what was held before; after it come the news
        positions = asyncio.create_task(exchange.watch_positions())
        balance = asyncio.create_task(exchange.watch_balance())
        await until(lambda: awaits(exchange, "linear:positions") and awaits(exchange, "linear:balance"))
        server.book.set_quote("ETHUSDT", 1_994.0, 1.0, 1_995.0, 1.0)
        trade = (await soon(trades))[-1]
        assert (trade["amount"], trade["price"], trade["takerOrMaker"]) == (1.0, 1_995.0, "maker")
        assert trade["info"]["c"] == CLIENT_ID
        assert (await soon(positions))[-1]["contracts"] == 1.0
        assert (await soon(balance))["USDT"]["total"] == pytest.approx(server.book.balances["USDT"])
        updates = asyncio.create_task(exchange.watch_orders())
        await exchange.edit_order(trade["order"], ETH, "limit", "buy", 4.0, 1_993.0)
        seen = (await soon(updates))[-1]
        assert (seen["amount"], seen["price"], seen["filled"], seen["status"]) == (4.0, 1_993.0, 1.0, "open")


async def test_an_order_that_trades_at_once_is_told_new_first() -> None:
    async with venue() as server, client(server) as exchange, aiohttp.ClientSession() as session:
        key = (await exchange.fapiPrivatePostListenKey())["listenKey"]
        async with session.ws_connect(f"ws://{server.host}/private/ws?listenKey={key}") as stream:
            order = await rest(exchange, "buy", 2.0, 2_000.01, clientOrderId=CLIENT_ID)
            events = [await soon(stream.receive_json()) for _ in range(3)]
        assert order["status"] == "closed"
        assert [event.get("o", {}).get("x") for event in events] == ["NEW", "TRADE", None]
        assert [event["o"]["z"] for event in events[:2]] == ["0", "2"]
        assert events[2]["a"]["P"][0]["pa"] == "2"


async def test_an_auto_deleveraged_position_is_not_mistaken_for_our_order() -> None:
    async with venue() as server, client(server) as exchange:
        await rest(exchange, "buy", 2.0, 2_000.01)
        positions = asyncio.create_task(exchange.watch_positions())
        assert (await soon(positions))[-1]["contracts"] == 2.0
        positions = asyncio.create_task(exchange.watch_positions())
        await server.watched("user")
        server.book.self_close("ETHUSDT", 1.5)
        assert (await soon(positions))[-1]["contracts"] == 0.5
        trade = (await exchange.fetch_my_trades(ETH))[-1]
        assert (trade["amount"], trade["side"]) == (1.5, "sell")
        assert (await exchange.fetch_order(trade["order"], ETH))["clientOrderId"].startswith("web_")


async def test_an_expired_listen_key_silences_the_stream_without_an_error() -> None:
    """ccxt does not know the event: nothing but an age limit on the stream, or a poll, can notice."""
    async with venue() as server, client(server) as exchange:
        watching = asyncio.create_task(exchange.watch_orders())
        await server.watched("user")
        key = exchange.options["linear"]["listenKey"]
        await exchange.fapiPrivatePutListenKey()
        server.expire_listen_key()
        await server.settle()
        await rest(exchange)
        await server.settle()
        assert not watching.done()
        with pytest.raises(ccxt.pro.AuthenticationError, match="-1125"):
            await exchange.fapiPrivatePutListenKey()
        assert (await exchange.fapiPrivatePostListenKey())["listenKey"] != key
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_quotes_marks_and_funding_are_streamed() -> None:
    async with venue() as server, client(server) as exchange:
        await exchange.load_markets()
        server.book.set_funding_rate("ETHUSDT", 0.0001)
        before_ms = wall_clock_ms()
        quote = (await soon(exchange.watch_bids_asks([ETH])))[ETH]
        assert before_ms <= quote["timestamp"] <= wall_clock_ms()
        assert (quote["bid"], quote["bidVolume"], quote["ask"]) == (1_999.99, 5.0, 2_000.01)
        mark = await soon(exchange.watch_mark_price(ETH))
        assert (mark["markPrice"], mark["indexPrice"], mark["info"]["r"]) == (2_000.0, 2_000.0, "0.0001")
        watching = asyncio.create_task(exchange.watch_bids_asks([ETH]))
        await asyncio.sleep(0)
        server.book.set_quote("ETHUSDT", 2_010.0, 1.0, 2_010.02, 2.0)
        assert (await soon(watching))[ETH]["bid"] == 2_010.0
        assert (await exchange.fetch_funding_rate(ETH))["fundingRate"] == 0.0001
        assert (await exchange.fetch_bids_asks([ETH]))[ETH]["ask"] == 2_010.02


async def test_depth_is_differences_whose_gap_ccxt_notices() -> None:
    async with venue() as server, client(server) as exchange:
        await exchange.load_markets()
        book = await soon(exchange.watch_order_book(ETH))
        assert (book["bids"], book["asks"]) == ([[1_999.99, 5.0], [1_999.5, 9.0]], [[2_000.01, 5.0]])
        book = await moved(server, exchange, 2_001.0)
        assert (book["bids"][0], book["asks"][0]) == ([2_001.0, 1.0], [2_001.5, 1.0])
        assert len(book["bids"]) == 1
        server.faults.next("quotes", StreamFault.SKIP)
        server.book.set_quote("ETHUSDT", 2_002.0, 1.0, 2_002.5, 1.0)
        with pytest.raises(ccxt.pro.ChecksumError):
            await moved(server, exchange, 2_003.0)
        assert (await soon(exchange.watch_order_book(ETH)))["bids"] == [[2_003.0, 1.0]]


async def moved(server: BinanceServer, exchange: Any, bid: float) -> Any:
    watching = asyncio.create_task(exchange.watch_order_book(ETH))
    await asyncio.sleep(0)
    server.book.set_quote("ETHUSDT", bid, 1.0, bid + 0.5, 1.0)
    return await soon(watching)


@pytest.mark.parametrize(
    ("fault", "error", "is_live"),
    [
        (drop_reply(), ccxt.pro.NetworkError, True),
        (drop_request(), ccxt.pro.NetworkError, False),
        (delay(reply_s=9 * PATIENCE_S), ccxt.pro.RequestTimeout, True),
        (delay(request_s=9 * PATIENCE_S), ccxt.pro.RequestTimeout, False),
        (silence(), ccxt.pro.RequestTimeout, True),
        (outcome_unknown(is_executed=True), ccxt.pro.RequestTimeout, True),
        (outcome_unknown(is_executed=False), ccxt.pro.RequestTimeout, False),
        (http(503, is_executed=True, body="<html>"), ccxt.pro.ExchangeNotAvailable, True),
        (too_many_requests(), ccxt.pro.DDoSProtection, False),
        (banned(), ccxt.pro.DDoSProtection, False),
        (reject("-2010"), ccxt.pro.InvalidOrder, False),
        (reject(), ccxt.pro.InvalidOrder, False),
        (reject("not_enough_funds"), ccxt.pro.InsufficientFunds, False),
    ],
)
async def test_what_is_raised_says_nothing_about_what_was_done(
    fault: Any, error: type[Exception], is_live: bool
) -> None:
    async with venue() as server, client(server) as exchange:
        await exchange.load_markets()
        server.faults.next("create", fault)
        creating = rest(exchange, clientOrderId=CLIENT_ID)
        if fault.is_silent or fault.delay_s or fault.delay_before_s:
            creating = out_of_time(creating, lambda: server.faults.asked.get("create"))
        with pytest.raises(error):
            await creating
        found = server.book.orders_of(CLIENT_ID)
        assert [order.state for order in found] == ([State.OPEN] if is_live else [])
        server.faults.clear()
        if is_live:
            assert (await exchange.fetch_order("", ETH, {"clientOrderId": CLIENT_ID}))["status"] == "open"


async def test_a_garbled_answer_is_an_order_without_an_id_and_no_error() -> None:
    """ccxt takes 200 with anything for success: an answer without an order id proves nothing."""
    async with venue() as server, client(server) as exchange:
        await exchange.load_markets()
        server.faults.next("create", garbage())
        order = await rest(exchange, clientOrderId=CLIENT_ID)
        assert (order["id"], order["clientOrderId"], order["status"]) == (None, None, None)
        assert len(server.book.orders_of(CLIENT_ID)) == 1


@pytest.mark.parametrize("fault", [drop_reply(), drop_request()])
async def test_a_lost_create_is_not_repeated_behind_our_back(fault: Any) -> None:
    async with venue() as server, client(server) as exchange:
        await exchange.load_markets()
        server.faults.next("create", fault)
        with pytest.raises(ccxt.pro.NetworkError):
            await rest(exchange, clientOrderId=CLIENT_ID)
        assert [call for call, _ in server.calls].count("POST order") == 1


async def test_lost_amends_and_cancels_are_repeated_behind_our_back() -> None:
    """aiohttp sends PUT and DELETE again when a kept-alive connection closes: what was done is then answered no."""
    async with venue() as server, client(server) as exchange:
        order = await rest(exchange, clientOrderId=CLIENT_ID)
        server.faults.next("amend", drop_reply())
        with pytest.raises(ccxt.pro.OperationRejected, match="-5027"):
            await exchange.edit_order(order["id"], ETH, "limit", "buy", 2.0, 1_991.0)
        assert server.book.orders[order["id"]].px == 1_991.0
        server.faults.next("cancel", drop_reply())
        with pytest.raises(ccxt.pro.OrderNotFound, match="-2011"):
            await exchange.cancel_order(order["id"], ETH)
        assert server.book.orders[order["id"]].state is State.CANCELED


async def test_who_asks_too_often_is_slowed_down_and_then_banned() -> None:
    began_ms = wall_clock_ms()  # weight is counted by the minute, and this one does not end
    async with venue(now_ms=lambda: began_ms) as server, client(server) as exchange:
        await exchange.load_markets()
        server.weight_limit = 0
        with pytest.raises(ccxt.pro.DDoSProtection, match="429"):
            await exchange.fetch_time()
        assert 1 <= int(exchange.last_response_headers["Retry-After"]) <= 60
        for _ in range(21):
            with pytest.raises(ccxt.pro.DDoSProtection):
                await exchange.fetch_time()
        with pytest.raises(ccxt.pro.DDoSProtection, match="418"):
            await exchange.fetch_time()


@pytest.mark.parametrize("fault", [StreamFault.DUPLICATE, StreamFault.SKIP, StreamFault.REORDER, StreamFault.FREEZE])
async def test_fills_go_wrong_on_the_stream_but_not_in_the_history(fault: StreamFault) -> None:
    async with venue() as server, client(server) as exchange:
        await exchange.load_markets()
        watching = asyncio.create_task(exchange.watch_my_trades())
        await server.watched("user")
        server.faults.next("fills", fault)
        await rest(exchange, "buy", 6.0, 2_000.01)
        server.book.set_quote("ETHUSDT", 1_999.0, 1.0, 2_000.0, 1.0)
        await server.settle()
        told = [] if exchange.myTrades is None else [trade["id"] for trade in exchange.myTrades]
        real = [trade.trade_id for trade in server.book.trades]
        expected = {StreamFault.SKIP: real[1:], StreamFault.FREEZE: []}.get(fault, real)
        assert sorted(set(told)) == sorted(expected)
        assert [trade["id"] for trade in await exchange.fetch_my_trades(ETH)] == real
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_a_dropped_stream_is_an_error_and_can_be_watched_again() -> None:
    async with venue() as server, client(server) as exchange:
        await soon(exchange.watch_bids_asks([ETH]))
        watching = asyncio.create_task(exchange.watch_bids_asks([ETH]))
        await asyncio.sleep(0)
        server.disconnect()
        with pytest.raises(ccxt.pro.NetworkError):
            await soon(watching)
        assert (await soon(exchange.watch_bids_asks([ETH])))[ETH]["bid"] == 1_999.99


async def test_a_changed_contract_size_is_listed() -> None:
    async with venue() as server, client(server) as exchange:
        await exchange.load_markets()
        server.book.change_contract_size("ETHUSDT", 10.0)
        assert (await exchange.load_markets(reload=True))[ETH]["contractSize"] == 10.0


def test_a_perpetual_is_named_after_its_coin() -> None:
    assert perpetual("SOL").name == "SOLUSDT"
