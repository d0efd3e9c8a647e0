"""The loopback Deribit driven by the real ccxt: what it lists, streams, takes and refuses, and how it fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

import aiohttp
import ccxt
import ccxt.pro
import pytest

from bot.domain.units import NS_PER_S
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from tests.runtime.command_line import PATIENCE_S
from tests.venues.deribit import TEST_KEY, TEST_SECRET, DeribitServer
from tests.venues.deribit_markets import EXPIRY_MS, quoted_book
from tests.venues.faults import StreamFault, delay, drop_reply, drop_request, garbage, http, reject, silence
from tests.venues.matching import State, VenueBook, wall_clock_ms
from tests.venues.passing import out_of_time

PERP, USDC_PERP, CALL = "ETH/USD:ETH", "ETH/USDC:USDC", "ETH/USD:ETH-000101-2000-C"
Open = Callable[..., ccxt.pro.Exchange]


@pytest.fixture
def book() -> VenueBook:
    return quoted_book()


@pytest.fixture
async def server(book: VenueBook) -> AsyncIterator[DeribitServer]:
    async with DeribitServer(book, heartbeat_scale=0.005) as running:
        yield running


@pytest.fixture
async def exchange(server: DeribitServer) -> AsyncIterator[ccxt.pro.Exchange]:
    opened = opened_exchange(server)
    yield opened
    await opened.close()


def opened_exchange(server: DeribitServer, **credentials: str) -> ccxt.pro.Exchange:
    settings = VenueSettings(
        venue="deribit",
        exchange_id="deribit",
        underlyings=frozenset({"ETH"}),
        options=server.options,
        timeout_ns=round(PATIENCE_S * NS_PER_S),
    )
    return open_exchange(settings, Credentials(**{**server.credentials, **credentials}))


async def soon(condition: Callable[[], Any], timeout_s: float = PATIENCE_S) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the condition is anything
            await asyncio.sleep(0.005)


async def running_out(server: DeribitServer, placing: Awaitable[Any], fault: Any) -> Any:
    """Place an order; where there will be no answer, all the time for it is over as soon as the venue has it."""
    return await (out_of_time(placing, lambda: server.faults.asked.get("create")) if fault.is_silent else placing)


# Public --------------------------------------------------------------------------------------------------------------


async def test_ccxt_makes_the_markets_of_what_is_listed(exchange: ccxt.pro.Exchange) -> None:
    markets = await exchange.load_markets()
    perp, usdc, call = markets[PERP], markets[USDC_PERP], markets[CALL]
    assert (perp["id"], perp["inverse"], perp["contractSize"]) == ("ETH-PERPETUAL", True, 1.0)
    assert (usdc["id"], usdc["linear"], usdc["contractSize"]) == ("ETH_USDC-PERPETUAL", True, 0.01)
    assert (call["strike"], call["optionType"], call["expiry"]) == (2_000.0, "call", EXPIRY_MS)
    assert markets["ETH/USDC"]["spot"]
    assert perp["precision"] == {"amount": 1.0, "price": 0.05}
    assert call["info"]["tick_size_steps"] == [{"above_price": 0.005, "tick_size": 0.0005}]


async def test_the_market_over_rest(exchange: ccxt.pro.Exchange, server: DeribitServer, book: VenueBook) -> None:
    await exchange.load_markets()
    ticker = await exchange.fetch_ticker(PERP)
    assert (ticker["bid"], ticker["ask"], ticker["info"]["index_price"]) == (2_000.0, 2_000.05, 2_000.0)
    orders = await exchange.fetch_order_book(PERP)
    assert orders["asks"] == [[2_000.05, 40_000.0], [2_001.0, 100_000.0]]
    greeks = await exchange.fetch_greeks(CALL)
    assert 0.0 < greeks["delta"] < 1.0
    assert (greeks["markImpliedVolatility"], greeks["bidImpliedVolatility"]) == (60.0, 59.0)
    assert greeks["underlyingPrice"] == 2_010.0
    chain = await exchange.fetch_option_chain("ETH")
    assert chain[CALL]["info"]["mark_iv"] == 60.0
    assert (await exchange.fetch_funding_rate(PERP))["fundingRate"] == 0.0001
    server.clock_skew_ms = 700
    before_ms, told_ms, after_ms = wall_clock_ms(), await exchange.fetch_time(), wall_clock_ms()
    assert before_ms + 700 <= told_ms <= after_ms + 700
    book.settle("ETH", EXPIRY_MS, 2_100.0)
    answer = await exchange.public_get_get_delivery_prices({"index_name": "eth_usd"})
    assert answer["result"]["data"] == [{"date": "2100-01-01", "delivery_price": 2_100.0}]
    settled = await exchange.public_get_get_last_settlements_by_instrument({"instrument_name": "ETH-1JAN00-2000-C"})
    assert settled["result"]["settlements"][0]["index_price"] == 2_100.0
    assert CALL not in await exchange.load_markets(True)


async def test_the_market_over_the_socket(exchange: ccxt.pro.Exchange, book: VenueBook) -> None:
    await exchange.load_markets()
    assert (await exchange.watch_ticker(PERP))["bid"] == 2_000.0
    assert (await exchange.watch_bids_asks([USDC_PERP]))[USDC_PERP]["ask"] == 2_000.1
    assert (await exchange.watch_order_book(PERP))["bids"][0][:2] == [2_000.0, 50_000.0]
    waiting = asyncio.gather(exchange.watch_ticker(PERP), exchange.watch_order_book(PERP))
    await asyncio.sleep(0)
    book.set_index("ETH", 1_990.0)
    book.set_quote("ETH-PERPETUAL", 1_990.0, 10.0, 1_990.05, 20.0)
    ticker, orders = await waiting
    assert (ticker["ask"], ticker["info"]["index_price"]) == (1_990.05, 1_990.0)
    assert [level[:2] for level in [*orders["bids"], *orders["asks"]]] == [[1_990.0, 10.0], [1_990.05, 20.0]]


async def test_the_whole_book_comes_with_every_message_of_the_depth_feed(
    server: DeribitServer, book: VenueBook
) -> None:
    async with Socket(server) as socket:
        channels = ["book.ETH-PERPETUAL.none.1.100ms", "book.ETH-PERPETUAL.100ms", "markprice.options.eth_usd"]
        channels += ["deribit_price_index.eth_usd", "ticker.NO-SUCH.100ms"]
        assert await socket.call("public/subscribe", channels=channels) == channels[:4]
        whole, first, marks, index = [await socket.news() for _ in range(4)]
        assert whole["asks"] == [[2_000.05, 40_000.0]]
        assert (first["type"], first["asks"][0]) == ("snapshot", ["new", 2_000.05, 40_000.0])
        assert {entry["iv"] for entry in marks} == {0.6}
        assert index["price"] == 2_000.0
        book.set_quote("ETH-PERPETUAL", 2_000.0, 1.0, 2_001.0, 5.0)
        whole, change = await socket.news(), await socket.news()
        assert whole["bids"] == [[2_000.0, 1.0]]
        assert change["prev_change_id"] == first["change_id"]
        assert change["asks"] == [["delete", 2_000.05, 0.0], ["change", 2_001.0, 5.0]]


# Orders --------------------------------------------------------------------------------------------------------------


async def test_an_order_from_the_cradle_to_the_grave(exchange: ccxt.pro.Exchange, book: VenueBook) -> None:
    await exchange.load_markets()
    order = await exchange.create_order(
        PERP, "limit", "buy", 1_000, 1_999.5, {"label": "0123456789-1", "postOnly": True}
    )
    assert (order["status"], order["info"]["label"], order["postOnly"]) == ("open", "0123456789-1", True)
    edited = await exchange.edit_order(order["id"], PERP, "limit", "buy", 1_000, 1_999.0)
    assert (edited["price"], edited["id"]) == (1_999.0, order["id"])
    assert [one["id"] for one in await exchange.fetch_open_orders(PERP)] == [order["id"]]
    book.set_quote("ETH-PERPETUAL", 1_998.0, 100.0, 1_998.5, 400.0)
    assert (await exchange.fetch_order(order["id"]))["filled"] == 400.0
    canceled = await exchange.cancel_order(order["id"])
    assert (canceled["status"], canceled["filled"]) == ("canceled", 400.0)
    trades = await exchange.fetch_order_trades(order["id"])
    assert [(one["amount"], one["price"], one["takerOrMaker"]) for one in trades] == [(400.0, 1_999.0, "maker")]
    assert trades[0]["fee"]["currency"] == "ETH"
    with pytest.raises(ccxt.InvalidOrder, match="11044"):
        await exchange.cancel_order(order["id"])
    assert [one["id"] for one in await exchange.fetch_closed_orders(PERP)] == [order["id"]]


async def test_the_account_over_rest(exchange: ccxt.pro.Exchange, book: VenueBook) -> None:
    await exchange.load_markets()
    await exchange.create_order(PERP, "market", "sell", 3_000)
    order = await exchange.create_order(USDC_PERP, "limit", "buy", 1.5, 2_000.1, {"timeInForce": "IOC"})
    assert (order["status"], order["average"], order["trades"][0]["amount"]) == ("closed", 2_000.1, 1.5)
    book.foreign_trade("ETH-1JAN00-2000-C", is_buy=False, amount=2.0, px=0.05)
    positions = {one["symbol"]: one for one in await exchange.fetch_positions()}
    assert (positions[PERP]["side"], positions[PERP]["contracts"]) == ("short", -3_000.0)
    assert positions[CALL]["info"]["size"] == -2.0
    balance = await exchange.fetch_balance()
    assert balance["ETH"]["total"] == pytest.approx(book.equity("ETH"), abs=1e-6)
    trades = await exchange.fetch_my_trades(USDC_PERP)
    assert [(one["order"], one["price"]) for one in trades] == [(order["id"], 2_000.1)]
    by_time = await exchange.fetch_my_trades(None, since=book.now_ms() - 10_000, params={"code": "ETH"})
    assert {one["symbol"] for one in by_time} == {PERP, CALL}


async def test_labels_find_orders_and_are_not_unique(exchange: ccxt.pro.Exchange, book: VenueBook) -> None:
    await exchange.load_markets()
    for _ in range(2):
        await exchange.create_order(PERP, "limit", "buy", 10, 1_990.0, {"label": "twice"})
    answer = await exchange.private_get_get_order_state_by_label({"currency": "ETH", "label": "twice"})
    assert len(answer["result"]) == 2
    assert len(book.orders_of("twice")) == 2
    assert (await exchange.private_get_cancel_by_label({"label": "twice"}))["result"] == 2
    answer = await exchange.private_get_get_open_orders_by_label({"currency": "ETH", "label": "twice"})
    assert answer["result"] == []


async def test_a_session_of_its_own_can_do_everything(server: DeribitServer, book: VenueBook) -> None:
    async with Socket(server) as socket:
        await socket.log_in()
        channels = ["user.changes.any.any.raw", "user.orders.future.ETH.100ms", "user.trades.ETH-PERPETUAL.raw"]
        channels += ["user.portfolio.eth", "trades.future.ETH.100ms", "user.trades.option.any.raw"]
        assert await socket.call("private/subscribe", channels=channels) == channels
        assert (await socket.news())["currency"] == "ETH"
        limit = {"instrument_name": "ETH-PERPETUAL", "amount": 10, "price": 1_991.0, "label": "mine"}
        await socket.call("private/buy", **limit)
        change, orders = await socket.news(), await socket.news()
        assert [order["label"] for order in [*change["orders"], *orders]] == ["mine", "mine"]
        moved = await socket.call(
            "private/edit_by_label", label="mine", instrument_name="ETH-PERPETUAL", price=2_000.05
        )
        assert (moved["order"]["order_state"], len(moved["trades"])) == ("filled", 1)
        news = [await socket.news() for _ in range(6)]
        assert sum("trades" in one for one in news) == 2
        assert [one[0]["trade_id"] for one in news if isinstance(one, list) and "trade_id" in one[0]] == [
            "ETH-5001"
        ] * 2
        assert (await socket.call("private/edit_by_label", label="mine", instrument_name="ETH-PERPETUAL"))[
            "code"
        ] == 10004
        await socket.call("private/sell", **{**limit, "price": 2_100.0, "label": "rests"})
        assert await socket.call("private/cancel_all_by_currency", currency="BTC") == 0
        assert len(await socket.call("private/cancel_all", detailed=True)) == 1
        over = {"instrument_name": "ETH-PERPETUAL"}
        assert len(await socket.call("private/get_order_history_by_instrument", **over)) == 1
        assert len(await socket.call("private/get_order_history_by_instrument", **over, include_unfilled=True)) == 2
        closed = await socket.call("private/close_position", instrument_name="ETH-PERPETUAL", type="market")
        assert closed["order"]["filled_amount"] == 10.0
        assert book.position("ETH-PERPETUAL").amount == 0.0
        with pytest.raises(aiohttp.WSMessageTypeError):  # logging out has no answer but the end
            await socket.call("private/logout")


async def test_a_token_works_over_http(server: DeribitServer) -> None:
    keys = {"grant_type": "client_credentials", "client_id": TEST_KEY, "client_secret": TEST_SECRET}
    rest = f"{server.options['urls']['api']['rest']}/api/v2"
    async with aiohttp.ClientSession() as session:
        body = {"jsonrpc": "2.0", "id": 7, "method": "public/auth", "params": keys}
        async with session.post(rest, json=body) as response:
            granted = await response.json()
        assert granted["id"] == 7
        bearer = {"Authorization": f"Bearer {granted['result']['access_token']}"}
        async with session.get(f"{rest}/private/get_account_summary?currency=ETH", headers=bearer) as response:
            assert (await response.json())["result"]["balance"] == 1_000.0
        async with session.get(f"{rest}/private/get_positions", headers={"Authorization": "Bearer x"}) as response:
            assert response.status == 401


async def test_private_streams_tell_of_orders_and_trades(
    server: DeribitServer, exchange: ccxt.pro.Exchange, book: VenueBook
) -> None:
    await exchange.load_markets()
    watching = asyncio.gather(exchange.watch_orders(), exchange.watch_my_trades(), exchange.watch_balance())
    wanted = {"orders", "trades", "portfolio"}
    await soon(lambda: wanted <= {name.split(".")[1] for one in server.connections for name in one.channels})
    book.foreign_trade("ETH-PERPETUAL", is_buy=True, amount=100.0, px=2_000.0)
    orders, trades, balance = await asyncio.wait_for(watching, PATIENCE_S)
    assert (orders[0]["symbol"], orders[0]["filled"]) == (PERP, 100.0)
    assert (trades[0]["amount"], trades[0]["info"]["label"]) == (100.0, "")
    assert "ETH" in balance


@pytest.mark.parametrize(
    ("order", "error", "code"),
    [
        (("limit", "buy", 10, 2_000.05, {"postOnly": True}), ccxt.InvalidOrder, "11054"),
        (("limit", "buy", 10, 1_999.0, {"reduceOnly": True}), ccxt.ExchangeError, "11030"),
        (("limit", "buy", 900_000_000, 1_999.0, {}), ccxt.InsufficientFunds, "10009"),
        (("limit", "buy", 10, 1_999.0, {"amount": "0.5"}), ccxt.InvalidOrder, "10021"),
        (("limit", "buy", 10, 1_999.0, {"price": "1999.01"}), ccxt.InvalidOrder, "10043"),
        (("limit", "buy", 10, 1_999.0, {"price": "dear"}), ccxt.BadRequest, "-32602"),
        (("limit", "buy", 10, 1_999.0, {"instrument_name": "ETH-NONE"}), ccxt.ExchangeError, "10020"),
    ],
)
async def test_refusals_carry_the_documented_code(
    exchange: ccxt.pro.Exchange, book: VenueBook, order: tuple[Any, ...], error: type[Exception], code: str
) -> None:
    await exchange.load_markets()
    with pytest.raises(error, match=code):
        await exchange.create_order(PERP, *order)
    assert not book.orders


# Who may -------------------------------------------------------------------------------------------------------------


async def test_a_wrong_secret_is_refused_over_both_ways(server: DeribitServer) -> None:
    wrong = opened_exchange(server, secret="another")
    with pytest.raises(ccxt.AuthenticationError, match="13004"):
        await wrong.fetch_balance()
    await wrong.close()
    async with Socket(server) as socket:
        error = await socket.call("public/auth", grant_type="client_credentials", client_id=TEST_KEY, client_secret="x")
        assert error["code"] == 13004
        error = await socket.call("private/get_positions")
        assert error["code"] == 13009


async def test_scopes_are_told_and_kept(server: DeribitServer, exchange: ccxt.pro.Exchange) -> None:
    server.scope = "account:read trade:read wallet:none"
    await exchange.load_markets()
    keys = {"grant_type": "client_credentials", "client_id": TEST_KEY, "client_secret": TEST_SECRET}
    granted = await exchange.public_get_auth(keys)
    assert {"trade:read", "wallet:none"} <= set(granted["result"]["scope"].split())
    assert await exchange.fetch_open_orders(PERP) == []
    with pytest.raises(ccxt.PermissionDenied, match="13021"):
        await exchange.create_order(PERP, "market", "buy", 10)


async def test_a_request_signed_long_ago_is_refused(server: DeribitServer, exchange: ccxt.pro.Exchange) -> None:
    await exchange.load_markets()
    server.clock_skew_ms = 120_000
    with pytest.raises(ccxt.AuthenticationError, match="bad_timestamp"):
        await exchange.fetch_positions()


async def test_too_many_requests(server: DeribitServer, exchange: ccxt.pro.Exchange) -> None:
    await exchange.load_markets()
    server.rate_limit_per_s, server.rate_window_s = 1, 3_600.0
    await exchange.fetch_ticker(PERP)
    with pytest.raises(ccxt.DDoSProtection, match="10028"):
        await exchange.fetch_ticker(PERP)


# Sessions ------------------------------------------------------------------------------------------------------------


async def test_cancel_on_disconnect_takes_only_the_orders_of_its_connection(
    server: DeribitServer, exchange: ccxt.pro.Exchange, book: VenueBook
) -> None:
    await exchange.load_markets()
    with pytest.raises(ccxt.ExchangeError, match="10030"):
        await exchange.private_get_enable_cancel_on_disconnect()
    over_rest = await exchange.create_order(PERP, "limit", "buy", 10, 1_990.0)
    async with Socket(server) as socket:
        await socket.log_in()
        assert await socket.call("private/enable_cancel_on_disconnect") == "ok"
        assert await socket.call("private/get_cancel_on_disconnect") == {"scope": "connection", "enabled": True}
        limit = {"instrument_name": "ETH-PERPETUAL", "amount": 10, "price": 1_991.0, "label": "mine"}
        placed = await socket.call("private/buy", **limit)
        assert placed["order"]["order_state"] == "open"
    await soon(lambda: not book.orders_of("mine")[0].is_open)
    assert book.orders_of("mine")[0].cancel_reason == "cancel_on_disconnect"
    assert (await exchange.fetch_order(over_rest["id"]))["status"] == "open"


async def test_an_unanswered_heartbeat_ends_the_connection(server: DeribitServer) -> None:
    async with Socket(server) as socket:
        assert (await socket.call("public/set_heartbeat", interval=5))["code"] == -32602
        assert await socket.call("public/set_heartbeat", interval=10) == "ok"
        asked = await socket.receive()
        assert asked == {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}}
        await socket.call("public/test")
        await socket.receive()
        ended = await socket.socket.receive(timeout=PATIENCE_S)
        assert ended.type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}


async def test_a_message_too_long_ends_the_connection(server: DeribitServer) -> None:
    async with Socket(server) as socket:
        with pytest.raises(aiohttp.WSMessageTypeError):
            await socket.call("public/subscribe", channels=["ticker.ETH-PERPETUAL.100ms"] * 1_200)


async def test_a_dark_venue_comes_back_on_the_same_port(server: DeribitServer, exchange: ccxt.pro.Exchange) -> None:
    await exchange.load_markets()
    await server.go_dark()
    with pytest.raises(ccxt.NetworkError):
        await exchange.fetch_ticker(PERP)
    await server.come_back()
    assert (await exchange.fetch_ticker(PERP))["bid"] == 2_000.0


# Faults --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error", "is_placed"),
    [
        (drop_reply(), ccxt.NetworkError, True),
        (drop_request(), ccxt.NetworkError, False),
        (silence(), ccxt.RequestTimeout, True),
        (http(503, is_executed=True), ccxt.ExchangeNotAvailable, True),
        (http(429), ccxt.RateLimitExceeded, False),
        (garbage(), TypeError, True),  # ccxt does not expect an answer without a result
        (reject("10040"), ccxt.ExchangeNotAvailable, False),
        (reject("halted"), ccxt.OnMaintenance, False),
    ],
)
async def test_what_the_script_does_to_an_order(
    server: DeribitServer,
    exchange: ccxt.pro.Exchange,
    book: VenueBook,
    fault: Any,
    error: type[Exception],
    is_placed: bool,
) -> None:
    await exchange.load_markets()
    server.faults.always("create", fault)
    with pytest.raises(error):
        await running_out(server, exchange.create_order(PERP, "limit", "buy", 10, 1_990.0, {"label": "lost"}), fault)
    assert bool(book.orders_of("lost")) is is_placed


@pytest.mark.parametrize("fault", [drop_reply(), drop_request()])
async def test_an_aiohttp_client_sends_a_get_again_when_a_kept_alive_connection_drops(
    server: DeribitServer, exchange: ccxt.pro.Exchange, book: VenueBook, fault: Any
) -> None:
    """Why no order may go to Deribit as a GET: below ccxt it is silently sent twice, and a label does not hold it."""
    await exchange.load_markets()
    server.faults.next("create", fault)
    order = await exchange.create_order(PERP, "limit", "buy", 10, 1_990.0, {"label": "once"})
    assert order["status"] == "open"
    assert [name for name, _ in server.calls].count("private/buy") == 2
    assert len(book.orders_of("once")) == (2 if fault.is_executed else 1)


async def test_a_venue_that_takes_a_nonce_once_denies_an_order_it_has(
    server: DeribitServer, exchange: ccxt.pro.Exchange, book: VenueBook
) -> None:
    await exchange.load_markets()
    server.refuses_used_nonces = True
    server.faults.next("create", drop_reply())
    with pytest.raises(ccxt.AuthenticationError, match="nonce was used"):
        await exchange.create_order(PERP, "limit", "buy", 10, 1_990.0, {"label": "once"})
    assert len(book.orders_of("once")) == 1


@pytest.mark.parametrize(
    ("fault", "answer", "is_placed"),
    [
        (drop_reply(), None, True),
        (drop_request(), None, False),
        (silence(), TimeoutError, True),
        (delay(reply_s=0.02), "open", True),
        (delay(request_s=0.02), "open", True),
        (reject("10028"), "10028", False),
    ],
)
async def test_what_the_script_does_to_an_order_over_the_socket(
    server: DeribitServer, book: VenueBook, fault: Any, answer: Any, is_placed: bool
) -> None:
    server.faults.next("create", fault)
    async with Socket(server) as socket:
        await socket.log_in()
        limit = {"instrument_name": "ETH-PERPETUAL", "amount": 10, "price": 1_991.0, "label": "mine"}
        placing = running_out(server, asyncio.wait_for(socket.call("private/buy", **limit), PATIENCE_S), fault)
        if fault.refusal:
            assert (await placing)["code"] == 10028
        elif answer == "open":
            assert (await placing)["order"]["order_state"] == "open"
        else:
            with pytest.raises(answer or (TypeError, aiohttp.WSMessageTypeError)):
                await placing
    assert bool(book.orders_of("mine")) is is_placed


async def test_a_handshake_can_be_refused(server: DeribitServer) -> None:
    server.faults.next("connect", http(429, retry_after_s=1))
    with pytest.raises(aiohttp.WSServerHandshakeError, match="429"):
        async with Socket(server):
            pass
    async with Socket(server) as socket:
        assert await socket.call("public/get_time")


async def test_what_the_script_does_to_messages(server: DeribitServer, book: VenueBook) -> None:
    async with Socket(server) as socket:
        await socket.call("public/subscribe", channels=["book.ETH-PERPETUAL.100ms"])
        first = await socket.news()
        server.faults.next("quotes", StreamFault.SKIP)
        server.faults.next("quotes", StreamFault.DUPLICATE)
        server.faults.next("quotes", StreamFault.REORDER)
        for px in range(1, 5):
            book.set_quote("ETH-PERPETUAL", 1_900.0 + px, 1.0, 2_000.0 + px, 1.0)
            server.publish()
        news = [await socket.news() for _ in range(4)]
        assert news[0]["prev_change_id"] > first["change_id"]
        assert news[0] == news[1]
        assert news[2]["change_id"] > news[3]["change_id"]
        server.faults.next("quotes", StreamFault.FREEZE)
        book.set_quote("ETH-PERPETUAL", 1_950.0, 1.0, 2_000.0, 1.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.call("public/test"), 0.05)
        server.freeze(is_frozen=False)
        assert (await socket.call("public/test"))["version"]


async def test_a_position_closed_by_the_venue_is_told(exchange: ccxt.pro.Exchange, book: VenueBook) -> None:
    await exchange.load_markets()
    await exchange.create_order(PERP, "market", "buy", 100)
    book.self_close("ETH-PERPETUAL")
    closed = [one for one in await exchange.fetch_my_trades(PERP) if "liquidation" in one["info"]]
    assert [(one["side"], one["amount"], one["info"]["label"]) for one in closed] == [("sell", 100.0, "")]
    assert (await exchange.fetch_position(PERP))["contracts"] == 0.0
    book.delist("ETH-PERPETUAL")
    with pytest.raises(ccxt.ExchangeError, match="13019"):
        await exchange.create_order(PERP, "market", "buy", 100)
    assert all(order.state is not State.OPEN for order in book.orders.values())


class Socket:
    """A plain JSON-RPC client over one WebSocket: what ccxt cannot ask is asked here."""

    def __init__(self, server: DeribitServer) -> None:
        self.url = server.options["urls"]["api"]["ws"]
        self.later: list[dict[str, Any]] = []
        self.last_id = 0

    async def __aenter__(self) -> Self:
        self.session = aiohttp.ClientSession()
        try:
            self.socket = await self.session.ws_connect(self.url)
        except aiohttp.ClientError:
            await self.session.close()
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.socket.close()
        await self.session.close()

    async def receive(self) -> dict[str, Any]:
        return json.loads(await self.socket.receive_str(timeout=2 * PATIENCE_S))

    async def call(self, method: str, **params: Any) -> Any:
        self.last_id += 1
        await self.socket.send_json({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params})
        while (answer := await self.receive()).get("id") != self.last_id:
            self.later.append(answer)
        return answer.get("result", answer.get("error"))

    async def news(self) -> Any:
        message = self.later.pop(0) if self.later else await self.receive()
        return message["params"]["data"]

    async def log_in(self) -> None:
        keys = {"grant_type": "client_credentials", "client_id": TEST_KEY, "client_secret": TEST_SECRET}
        assert "connection" in (await self.call("public/auth", **keys))["scope"]
