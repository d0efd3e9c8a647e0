"""The loopback Hyperliquid, spoken to by the real ccxt: signatures, orders and their refusals, streams, faults."""

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
from tests.venues.faults import StreamFault, delay, drop_reply, drop_request, garbage, http, reject, silence
from tests.venues.hyperliquid import HyperliquidServer, hyperliquid_book, perpetual
from tests.venues.loopback import DAY_MS
from tests.venues.matching import State, wall_clock_ms
from tests.venues.passing import out_of_time

ETH = "ETH/USDC:USDC"
CLOID = "0x" + "0a1b2c3d4e" + "0" * 21 + "1"
OTHER_KEY = "0x" + "77" * 32


@asynccontextmanager
async def venue(**options: Any) -> AsyncIterator[HyperliquidServer]:
    book = hyperliquid_book(**options)
    book.set_index("ETH", 2_000.0)
    book.set_quote("ETH", 1_999.9, 5.0, 2_000.1, 5.0, deeper_bids=[(1_999.5, 9.0)])
    server = HyperliquidServer(book)
    server.beat_every_s = 3_600.0  # nothing is said again between what a test listens for
    async with server:
        yield server


@asynccontextmanager
async def client(server: HyperliquidServer, **keys: str) -> AsyncIterator[Any]:
    settings = VenueSettings(
        venue="hyperliquid", exchange_id="hyperliquid", underlyings=frozenset({"ETH"}),
        timeout_ns=round(PATIENCE_S * NS_PER_S),
        options={**server.options, "options": {"builderFee": False, "refSet": True}},
    )  # fmt: skip
    exchange = open_exchange(settings, Credentials(**{**server.credentials, **keys}))
    try:
        yield exchange
    finally:
        await exchange.close()


async def soon(answer: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(answer, PATIENCE_S)


async def rest(exchange: Any, side: str = "buy", amount: float = 1.0, px: float = 1_990.0, **params: Any) -> Any:
    return await exchange.create_order(ETH, "limit", side, amount, px, params)


async def test_markets_are_what_the_book_lists() -> None:
    async with venue() as server, client(server) as exchange:
        market = (await exchange.load_markets())[ETH]
        assert (market["id"], market["baseName"], market["type"], market["active"]) == ("1", "ETH", "swap", True)
        assert (market["precision"]["amount"], market["precision"]["price"]) == (0.0001, 0.1)
        assert (market["contractSize"], market["limits"]["cost"]["min"]) == (1.0, 10.0)
        server.book.delist("ETH")
        assert (await exchange.load_markets(reload=True))[ETH]["active"] is False


async def test_the_clock_of_the_venue_can_be_wrong() -> None:
    async with venue() as server, client(server) as exchange:
        server.clock_skew_ms = 60_000
        before_ms, told_ms, after_ms = wall_clock_ms(), await exchange.fetch_time(), wall_clock_ms()
        assert before_ms + 60_000 <= told_ms <= after_ms + 60_000


async def test_ccxt_signs_no_builder_fee_and_no_referrer_for_us() -> None:
    """Left alone, ccxt signs away a fee of 0.01 % to itself and names itself as referrer as soon as there are keys."""
    async with venue() as server, client(server) as exchange:
        await exchange.load_markets()
        assert (server.approved_fees, server.referrer) == ({}, "")
    async with venue() as server, client(server) as exchange:
        exchange.options.update(builderFee=True, approvedBuilderFee=False, refSet=False)
        await exchange.load_markets()
        assert set(server.approved_fees.values()) == {"0.01%"}
        assert server.referrer == "CCXT1"


async def test_only_the_account_and_its_api_wallet_may_trade() -> None:
    async with venue() as server:
        async with client(server, private_key=OTHER_KEY) as exchange:
            with pytest.raises(ccxt.pro.InvalidOrder, match="does not exist"):
                await rest(exchange)
            assert await exchange.fetch_open_orders(ETH) == []
        assert not server.book.orders
        async with client(server, **server.agent_credentials) as exchange:
            assert (await rest(exchange))["id"] in server.book.orders
            assert server.approved_fees == {}


async def test_a_nonce_is_taken_once() -> None:
    async with venue() as server, client(server) as exchange:
        await exchange.load_markets()
        request = exchange.cancel_orders_request(["1"], ETH, {"clientOrderId": CLOID})
        with pytest.raises(ccxt.pro.OrderNotFound):
            await exchange.privatePostExchange(request)
        with pytest.raises(ccxt.pro.ExchangeError, match="duplicate nonce"):
            await exchange.privatePostExchange(request)


async def test_a_maker_order_rests_is_replaced_and_canceled() -> None:
    async with venue() as server, client(server) as exchange:
        order = await rest(exchange, postOnly=True, clientOrderId=CLOID)
        found = await exchange.fetch_order("", ETH, {"clientOrderId": CLOID})
        assert (found["id"], found["clientOrderId"], found["status"], found["remaining"]) == (
            order["id"], CLOID, "open", 1.0,
        )  # fmt: skip
        assert found["postOnly"] is True
        new = await exchange.edit_order(order["id"], ETH, "limit", "buy", 2.0, 1_991.0, {"clientOrderId": CLOID})
        assert new["id"] != order["id"]
        assert (await exchange.fetch_order(order["id"], ETH))["status"] == "canceled"
        found = await exchange.fetch_order(CLOID, ETH)
        assert (found["id"], found["price"], found["amount"], found["status"]) == (new["id"], 1_991.0, 2.0, "open")
        assert [o["id"] for o in await exchange.fetch_open_orders(ETH)] == [new["id"]]
        await exchange.cancel_order("", ETH, {"clientOrderId": CLOID})
        assert (await exchange.fetch_order(CLOID, ETH))["status"] == "canceled"
        assert [o["status"] for o in await exchange.fetch_orders(ETH)] == ["canceled", "canceled"]
        with pytest.raises(ccxt.pro.ExchangeError, match="Cannot modify canceled or filled order"):
            await exchange.edit_order(new["id"], ETH, "limit", "buy", 2.0, 1_992.0)


async def test_a_refused_replacement_leaves_the_old_order_alone() -> None:
    async with venue() as server, client(server) as exchange:
        order = await rest(exchange, postOnly=True)
        with pytest.raises(ccxt.pro.InvalidOrder, match="Post only"):
            await exchange.edit_order(order["id"], ETH, "limit", "buy", 1.0, 2_005.0, {"postOnly": True})
        assert server.book.orders[order["id"]].is_open


async def test_a_taker_order_trades_and_the_account_shows_it() -> None:
    async with venue() as server, client(server) as exchange:
        order = await rest(exchange, "sell", 2.0, 1_999.0, timeInForce="Ioc", clientOrderId=CLOID)
        assert (order["filled"], order["average"]) == (2.0, 1_999.9)
        assert (await exchange.fetch_order(CLOID, ETH))["status"] == "closed"
        trade = (await exchange.fetch_my_trades(ETH))[0]
        assert (trade["order"], trade["amount"], trade["price"], trade["side"], trade["takerOrMaker"]) == (
            order["id"], 2.0, 1_999.9, "sell", "taker",
        )  # fmt: skip
        assert trade["info"]["cloid"] == CLOID
        assert trade["fee"] == {"cost": pytest.approx(2.0 * 1_999.9 * 0.00045), "currency": "USDC"}
        assert await exchange.fetch_my_trades(ETH, since=trade["timestamp"] + 1) == []
        position = (await exchange.fetch_positions([ETH]))[0]
        assert (position["contracts"], position["side"], position["entryPrice"]) == (2.0, "short", 1_999.9)
        balance = await exchange.fetch_balance()
        assert balance["USDC"]["total"] == pytest.approx(server.book.equity("USDC"))


async def test_a_market_order_is_an_ioc_order_with_slippage() -> None:
    async with venue() as server, client(server) as exchange:
        order = await exchange.create_order(ETH, "market", "buy", 7.0, 2_000.0)
        assert (order["filled"], server.book.position("ETH").amount) == (5.0, 5.0)
        assert (await exchange.fetch_order(order["id"], ETH))["status"] == "canceled"


@pytest.mark.parametrize(
    ("changes", "error", "text", "remembered"),
    [
        ({"px": 2_001.0, "postOnly": True}, ccxt.pro.InvalidOrder, "bbo was 1999.9@2000.1. asset=1", "badAloPx"),
        ({"reduceOnly": True}, ccxt.pro.InvalidOrder, "Reduce only order would increase position", "reduceOnly"),
        ({"amount": 5_000.0}, ccxt.pro.InsufficientFunds, "Insufficient margin", "perpMargin"),
        ({"timeInForce": "Ioc"}, ccxt.pro.InvalidOrder, "could not immediately match", "iocCancel"),
        ({"amount": 0.004}, ccxt.pro.InvalidOrder, "minimum value of .10", None),
        ({"px": 9_000.0}, ccxt.pro.InvalidOrder, "80% away", None),
    ],
)
async def test_refusals_arrive_as_the_venue_means_them(
    changes: dict[str, Any], error: type[Exception], text: str, remembered: str | None
) -> None:
    async with venue(usdc=10_000.0) as server, client(server) as exchange:
        with pytest.raises(error, match=text):
            await rest(exchange, clientOrderId=CLOID, **changes)
        assert not server.book.open_orders()
        if remembered is not None:
            found = await exchange.fetch_order(CLOID, ETH)
            assert (found["info"]["status"], found["status"]) == (f"{remembered}Rejected", "rejected")


async def test_prices_have_five_significant_figures() -> None:
    async with venue() as server, client(server) as exchange:
        await exchange.load_markets()
        assert exchange.price_to_precision(ETH, 1_990.123) == "1990.1"
        request = exchange.create_orders_request(
            [{"symbol": ETH, "type": "limit", "side": "buy", "amount": 1.0, "price": 1_990.1, "params": {}}]
        )
        action = request["action"]
        action["orders"][0]["p"] = "1990.12"
        request["signature"] = exchange.sign_l1_action(action, request["nonce"])
        with pytest.raises(ccxt.pro.InvalidOrder, match="tick size"):
            await exchange.privatePostExchange(request)
        request["nonce"] = exchange.incrementing_nonce()
        with pytest.raises(ccxt.pro.InvalidOrder, match="does not exist"):
            await exchange.privatePostExchange(request)  # signed for another nonce: somebody else's signature


async def test_fees_and_funding_are_told() -> None:
    async with venue() as server, client(server) as exchange:
        fee = await exchange.fetch_trading_fee(ETH)
        assert (fee["maker"], fee["taker"]) == (0.00015, 0.00045)
        await rest(exchange, "buy", 2.0, 2_000.1)
        server.book.pay_funding("ETH", 0.0001)
        server.book.pay_funding("ETH", 0.0002)
        paid = await exchange.fetch_funding_history(ETH)
        assert [one["rate"] for one in paid] == [0.0001, 0.0002]
        assert len({one["id"] for one in paid}) == 1  # so it is no id at all
        history = await exchange.fetch_funding_rate_history(ETH)
        assert [one["fundingRate"] for one in history] == [0.0001, 0.0002]


async def test_what_is_public_needs_no_keys() -> None:
    async with venue() as server, client(server, wallet_address="", private_key="") as exchange:
        assert ETH in await exchange.load_markets()
        assert (await soon(exchange.watch_order_book(ETH)))["asks"][0] == [2_000.1, 5.0]
        assert server.hears("ETH")
        assert server.approved_fees == {}
        with pytest.raises(ccxt.pro.AuthenticationError):
            await rest(exchange)


async def test_a_strangers_account_is_empty() -> None:
    async with venue() as server, client(server, wallet_address="0x" + "9" * 40) as exchange:
        server.book.foreign_trade("ETH", is_buy=True, amount=2.0, px=1_980.0)
        assert await exchange.fetch_positions() == []
        assert await exchange.fetch_my_trades(ETH) == []
        assert (await exchange.fetch_balance())["USDC"]["total"] == 0.0


async def test_a_venue_that_was_dark_has_kept_its_orders() -> None:
    async with venue() as server, client(server) as exchange:
        await rest(exchange, clientOrderId=CLOID)
        await server.go_dark()
        with pytest.raises(ccxt.pro.NetworkError):
            await exchange.fetch_order(CLOID, ETH)
        await server.come_back()
        assert (await exchange.fetch_order(CLOID, ETH))["status"] == "open"


async def test_a_client_id_is_32_hex_digits() -> None:
    async with venue() as server, client(server) as exchange:
        with pytest.raises(ccxt.pro.ExchangeError, match="deserialize"):
            await rest(exchange, clientOrderId="0a1b2c3d4e-1")
        assert not server.book.orders


async def test_what_is_not_there_is_said_to_be_not_there() -> None:
    async with venue() as server, client(server) as exchange:
        with pytest.raises(ccxt.pro.OrderNotFound, match="unknownOid"):
            await exchange.fetch_order(CLOID, ETH)
        with pytest.raises(ccxt.pro.OrderNotFound, match="never placed"):
            await exchange.cancel_order("", ETH, {"clientOrderId": CLOID})
        order = await rest(exchange, "buy", 1.0, 2_000.1)
        with pytest.raises(ccxt.pro.OrderNotFound, match="or filled"):
            await exchange.cancel_order(order["id"], ETH)
        assert server.book.position("ETH").amount == 1.0


async def test_the_dead_mans_switch_really_cancels() -> None:
    late_ms = [0]
    async with venue(now_ms=lambda: wall_clock_ms() + late_ms[0]) as server, client(server) as exchange:
        order = await rest(exchange)
        with pytest.raises(ccxt.pro.ExchangeError, match="at least 5 seconds"):
            await exchange.cancel_all_orders_after(4_000)
        before_ms = wall_clock_ms()
        await exchange.cancel_all_orders_after(30_000)
        with pytest.raises(ccxt.pro.ExchangeError, match="at least 5 seconds"):
            await exchange.cancel_all_orders_after(0)  # which does not disarm, whatever ccxt's documentation says
        assert before_ms + 30_000 <= server.scheduled_ms <= wall_clock_ms() + 30_000
        server.tick()
        assert server.book.orders[order["id"]].is_open
        late_ms[0] = 30_000
        server.tick()
        found = await exchange.fetch_order(order["id"], ETH)
        assert (found["info"]["status"], found["status"]) == ("scheduledCancel", "scheduledCancel")
        assert server.scheduled_ms is None


async def test_the_dead_mans_switch_is_only_for_who_trades_enough() -> None:
    async with venue() as server, client(server) as exchange:
        server.volume_usd = 373.5
        with pytest.raises(ccxt.pro.ExchangeError, match="until enough volume traded"):
            await exchange.cancel_all_orders_after(10_000)
        assert server.scheduled_ms is None


async def test_the_dead_mans_switch_goes_off_ten_times_a_day() -> None:
    midnight_ms, late_ms = wall_clock_ms() // DAY_MS * DAY_MS, [0]
    async with venue(now_ms=lambda: midnight_ms + late_ms[0]) as server, client(server) as own:
        for _ in range(10):
            assert (await schedule(own, server.now_ms() + 5_000))["status"] == "ok"
            late_ms[0] += 5_000
            server.tick()
        with pytest.raises(ccxt.pro.ExchangeError, match="10 times"):
            await schedule(own, server.now_ms() + 5_000)


async def test_the_dead_mans_switch_is_disarmed_by_leaving_the_time_out() -> None:
    async with venue() as server, client(server) as exchange:
        await exchange.cancel_all_orders_after(30_000)
        assert (await schedule(exchange, None))["status"] == "ok"
        assert server.scheduled_ms is None


async def schedule(exchange: Any, when_ms: int | None) -> Any:
    """Send a scheduleCancel of our own making, which can do what ccxt's cannot: disarm."""
    action = {"type": "scheduleCancel"} if when_ms is None else {"type": "scheduleCancel", "time": when_ms}
    nonce = exchange.incrementing_nonce()
    signature = exchange.sign_l1_action(action, nonce)
    return await exchange.privatePostExchange({"action": action, "nonce": nonce, "signature": signature})


async def test_the_streams_tell_orders_fills_positions_and_balance() -> None:
    async with venue() as server, client(server) as exchange:
        await exchange.load_markets()
        orders, trades = (asyncio.create_task(watch()) for watch in (exchange.watch_orders, exchange.watch_my_trades))
        await server.watched(f"orderUpdates:{server.address}")
        await server.watched(f"userFills:{server.address}")
        await rest(exchange, "buy", 3.0, 1_995.0, clientOrderId=CLOID)
        seen = (await soon(orders))[-1]
        assert (seen["clientOrderId"], seen["status"], seen["remaining"]) == (CLOID, "open", 3.0)
        assert (await soon(exchange.watch_positions())) == []
        positions, balance = (
            asyncio.create_task(watch()) for watch in (exchange.watch_positions, exchange.watch_balance)
        )
        await server.watched(f"clearinghouseState:{server.address}")
        server.book.set_quote("ETH", 1_994.0, 1.0, 1_995.0, 1.0)
        trade = (await soon(trades))[-1]
        assert (trade["amount"], trade["price"], trade["info"]["cloid"]) == (1.0, 1_995.0, CLOID)
        assert (trade["takerOrMaker"], trade["info"]["crossed"]) == (None, False)  # ccxt leaves it out on the stream
        assert trade["fee"]["cost"] == pytest.approx(1_995.0 * 0.00015)
        assert [position["contracts"] for position in await soon(positions)] == [1.0]
        assert (await soon(balance))["USDC"]["total"] == pytest.approx(server.book.equity("USDC"))
        updates = asyncio.create_task(exchange.watch_orders())
        await asyncio.sleep(0)
        await exchange.edit_order(trade["order"], ETH, "limit", "buy", 2.0, 1_993.0, {"clientOrderId": CLOID})
        await server.settle()
        told = {order["id"]: order["status"] for order in await soon(updates)}
        assert told == {trade["order"]: "canceled", server.book.open_orders()[0].order_id: "open"}


async def test_fills_from_before_are_told_on_subscribing() -> None:
    async with venue() as server, client(server) as exchange:
        server.book.foreign_trade("ETH", is_buy=True, amount=2.0, px=1_980.0)
        server.book.self_close("ETH", 0.5)
        trades = await soon(exchange.watch_my_trades())
        assert [(trade["amount"], trade["side"]) for trade in trades] == [(0.5, "sell"), (2.0, "buy")]
        assert [trade["info"]["dir"] for trade in trades] == ["Auto-Deleveraging", "Open Long"]
        assert [trade["info"]["startPosition"] for trade in trades] == ["2", "0"]


async def test_books_marks_and_funding_are_streamed_whole() -> None:
    async with venue() as server, client(server) as exchange:
        server.book.set_funding_rate("ETH", 0.0008)
        book = await soon(exchange.watch_order_book(ETH))
        assert (book["bids"], book["asks"]) == ([[1_999.9, 5.0], [1_999.5, 9.0]], [[2_000.1, 5.0]])
        ticker = await soon(exchange.watch_ticker(ETH))
        assert (ticker["info"]["markPx"], ticker["info"]["oraclePx"]) == ("2000", "2000")
        assert (ticker["info"]["funding"], ticker["bid"], ticker["ask"]) == ("0.0001", 1_999.9, 2_000.1)
        server.faults.next("quotes", StreamFault.SKIP)
        server.book.set_quote("ETH", 2_010.0, 1.0, 2_010.2, 2.0)
        watching = asyncio.create_task(exchange.watch_order_book(ETH))
        await asyncio.sleep(0)
        server.book.set_quote("ETH", 2_011.0, 1.0, 2_011.2, 2.0)
        assert (await soon(watching))["bids"] == [[2_011.0, 1.0]]
        assert (await exchange.fetch_funding_rate(ETH))["fundingRate"] == 0.0001
        assert (await exchange.fetch_order_book(ETH))["asks"] == [[2_011.2, 2.0]]


async def test_a_session_of_its_own_hears_what_ccxt_does_not() -> None:
    async with (
        venue() as server,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"ws://{server.host}/ws") as socket,
    ):
        await socket.send_json({"method": "ping"})
        assert await soon(socket.receive_json()) == {"channel": "pong"}
        bbo = await subscribed(socket, {"type": "bbo", "coin": "ETH"})
        assert [level["px"] for level in bbo["bbo"]] == ["1999.9", "2000.1"]
        server.book.place("ETH", is_buy=True, amount=1.0, px=1_990.0, client_id=CLOID)
        everything = await subscribed(socket, {"type": "webData2", "user": server.address.upper()})
        assert [order["cloid"] for order in everything["openOrders"]] == [CLOID]
        assert everything["clearinghouseState"]["marginSummary"]["accountValue"] == "100000"
        mids = await subscribed(socket, {"type": "allMids"})
        assert mids == {"mids": {"ETH": "2000"}}
        await socket.send_json({"method": "subscribe", "subscription": {"type": "allMids"}})
        assert "Already subscribed" in (await soon(socket.receive_json()))["data"]
        query = {"type": "info", "payload": {"type": "orderStatus", "user": server.address, "oid": CLOID}}
        await socket.send_json({"method": "post", "id": 7, "request": query})
        answer = (await soon(socket.receive_json()))["data"]
        assert (answer["id"], answer["response"]["payload"]["order"]["status"]) == (7, "open")


async def subscribed(socket: Any, subscription: dict[str, Any]) -> Any:
    """Subscribe, and return what is said at once."""
    await socket.send_json({"method": "subscribe", "subscription": subscription})
    answer = await soon(socket.receive_json())
    assert answer == {
        "channel": "subscriptionResponse", "data": {"method": "subscribe", "subscription": subscription},
    }  # fmt: skip
    news = await soon(socket.receive_json())
    assert news["channel"] == subscription["type"]
    return news["data"]


async def test_what_is_watched_can_be_left() -> None:
    async with venue() as server, client(server) as exchange:
        await soon(exchange.watch_order_book(ETH))
        await soon(exchange.un_watch_order_book(ETH))
        assert not server.hears("ETH")
        assert (await soon(exchange.watch_order_book(ETH)))["bids"][0] == [1_999.9, 5.0]


async def test_a_refused_handshake_is_an_error() -> None:
    async with venue() as server, client(server) as exchange:
        await exchange.load_markets()
        server.faults.next("connect", reject())
        with pytest.raises(ccxt.pro.NetworkError):
            await soon(exchange.watch_order_book(ETH))


async def test_a_frozen_stream_says_nothing_while_the_rest_answers() -> None:
    async with venue() as server, client(server) as exchange:
        await soon(exchange.watch_order_book(ETH))
        server.freeze()
        watching = asyncio.create_task(exchange.watch_order_book(ETH))
        server.book.set_quote("ETH", 2_010.0, 1.0, 2_010.2, 2.0)
        assert (await exchange.fetch_order_book(ETH))["bids"] == [[2_010.0, 1.0]]
        assert not watching.done()
        server.freeze(is_frozen=False)
        server.beat()
        assert (await soon(watching))["bids"] == [[2_010.0, 1.0]]


@pytest.mark.parametrize("fault", [drop_reply(), drop_request()])
async def test_a_lost_action_is_not_repeated_behind_our_back(fault: Any) -> None:
    async with venue() as server, client(server) as exchange:
        await exchange.load_markets()
        server.faults.next("create", fault)
        with pytest.raises(ccxt.pro.NetworkError):
            await rest(exchange, clientOrderId=CLOID)
        assert [call for call, _ in server.calls].count("order") == 1


async def test_a_lost_cancel_and_a_lost_replacement_were_done() -> None:
    async with venue() as server, client(server) as exchange:
        order = await rest(exchange, clientOrderId=CLOID)
        server.faults.next("amend", drop_reply())
        with pytest.raises(ccxt.pro.NetworkError):
            await exchange.edit_order(order["id"], ETH, "limit", "buy", 2.0, 1_991.0, {"clientOrderId": CLOID})
        found = await exchange.fetch_order(CLOID, ETH)
        assert (found["id"] != order["id"], found["price"], found["status"]) == (True, 1_991.0, "open")
        server.faults.next("cancel", drop_reply())
        with pytest.raises(ccxt.pro.NetworkError):
            await exchange.cancel_order("", ETH, {"clientOrderId": CLOID})
        assert (await exchange.fetch_order(CLOID, ETH))["status"] == "canceled"


async def test_orders_may_go_over_the_websocket() -> None:
    async with venue() as server, client(server) as exchange:
        order = await soon(exchange.create_order_ws(ETH, "limit", "buy", 1.0, 1_990.0, {"clientOrderId": CLOID}))
        assert server.book.orders[order["id"]].client_id == CLOID
        await soon(exchange.cancel_order_ws("", ETH, {"clientOrderId": CLOID}))
        assert not server.book.open_orders()
        server.faults.next("create", reject("not_enough_funds"))
        with pytest.raises(ccxt.pro.InsufficientFunds):
            await soon(exchange.create_order_ws(ETH, "limit", "buy", 1.0, 1_990.0))


@pytest.mark.parametrize(
    ("fault", "error", "is_live"),
    [
        (drop_reply(), ccxt.pro.NetworkError, True),
        (drop_request(), ccxt.pro.NetworkError, False),
        (delay(reply_s=9 * PATIENCE_S), ccxt.pro.RequestTimeout, True),
        (delay(request_s=9 * PATIENCE_S), ccxt.pro.RequestTimeout, False),
        (silence(), ccxt.pro.RequestTimeout, True),
        (http(502, is_executed=True, body="<html>"), ccxt.pro.ExchangeNotAvailable, True),
        (http(429, body="null", retry_after_s=1.0), ccxt.pro.RateLimitExceeded, False),
        (reject(), ccxt.pro.ExchangeError, False),
        (reject("not_enough_funds"), ccxt.pro.InsufficientFunds, False),
        (reject("Too many cumulative requests sent (9 > 8)"), ccxt.pro.RateLimitExceeded, False),
    ],
)
async def test_what_is_raised_says_nothing_about_what_was_done(
    fault: Any, error: type[Exception], is_live: bool
) -> None:
    async with venue() as server, client(server) as exchange:
        await exchange.load_markets()
        server.faults.next("create", fault)
        creating = rest(exchange, clientOrderId=CLOID)
        if fault.is_silent or fault.delay_s or fault.delay_before_s:
            creating = out_of_time(creating, lambda: server.faults.asked.get("create"))
        with pytest.raises(error):
            await creating
        found = server.book.orders_of(CLOID)
        assert [order.state for order in found] == ([State.OPEN] if is_live else [])
        if is_live:
            assert (await exchange.fetch_order(CLOID, ETH))["status"] == "open"


async def test_a_garbled_answer_is_no_order_and_no_error() -> None:
    """ccxt takes 200 with anything for success: it returns nothing where an order should be."""
    async with venue() as server, client(server) as exchange:
        await exchange.load_markets()
        server.faults.next("create", garbage())
        assert await rest(exchange, clientOrderId=CLOID) is None
        assert len(server.book.orders_of(CLOID)) == 1


@pytest.mark.parametrize("fault", [StreamFault.DUPLICATE, StreamFault.SKIP, StreamFault.REORDER, StreamFault.FREEZE])
async def test_fills_go_wrong_on_the_stream_but_not_in_the_history(fault: StreamFault) -> None:
    async with venue() as server, client(server) as exchange:
        await exchange.load_markets()
        watching = asyncio.create_task(exchange.watch_my_trades())
        await server.watched(f"userFills:{server.address}")
        server.faults.next("fills", fault)
        await rest(exchange, "buy", 6.0, 2_000.1)
        server.book.set_quote("ETH", 1_999.0, 1.0, 2_000.0, 1.0)
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
        await soon(exchange.watch_order_book(ETH))
        watching = asyncio.create_task(exchange.watch_order_book(ETH))
        await asyncio.sleep(0)
        server.disconnect()
        with pytest.raises(ccxt.pro.NetworkError):
            await soon(watching)
        assert (await soon(exchange.watch_order_book(ETH)))["bids"][0] == [1_999.9, 5.0]


def test_a_perpetual_has_six_decimals_between_price_and_size() -> None:
    assert (perpetual("BTC", size_decimals=5).tick_px, perpetual("BTC", size_decimals=5).min_amount) == (0.1, 0.00001)
