"""The unified words of ccxt: params of orders, pages of trades, and how an order is searched for."""

from __future__ import annotations

from typing import Any

import ccxt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.orders import OrderIntent, TimeInForce
from bot.gateways.order_words import PAGE_TRADES, OrderTerms, OrderWords, Raw, answered, paged
from tests.instruments import PERPETUAL

OURS = "0123456789-7"


def terms(tif: TimeInForce, lots: int = 5, *, reduce_only: bool = False) -> OrderTerms:
    intent = OrderIntent(OURS, PERPETUAL.instrument_id, lots, 40_000, tif, reduce_only, "test", 2_000.0, 0)
    return OrderTerms(intent, PERPETUAL, "ETH/USD:USD", abs(lots) / 10)


@pytest.mark.parametrize(
    ("tif", "params", "may_rest"),
    [
        (TimeInForce.IOC, {"timeInForce": "IOC"}, False),
        (TimeInForce.GTC, {"timeInForce": "GTC"}, True),
        (TimeInForce.POST_ONLY, {"postOnly": True}, True),
        (TimeInForce.MARKET, {}, False),
    ],
)
def test_an_order_as_ccxt_wants_it(tif: TimeInForce, params: dict[str, Any], may_rest: bool) -> None:
    order = terms(tif)
    assert OrderWords().create_params(order) == {"clientOrderId": OURS, **params}
    assert order.may_rest is may_rest
    assert (order.type, order.px) == (("market", None) if tif is TimeInForce.MARKET else ("limit", 2_000.0))
    assert order.side == "buy"


def test_reduce_only_and_selling() -> None:
    order = terms(TimeInForce.IOC, -5, reduce_only=True)
    assert OrderWords().create_params(order)["reduceOnly"] is True
    assert order.side == "sell"


@given(st.text(max_size=40))
def test_only_ids_of_our_shape_are_ours(text: str) -> None:
    decoded = OrderWords().decode(text)
    assert decoded in {"", text}
    assert not decoded or decoded.count("-") == 1


@pytest.mark.parametrize("reply", [None, "<html>", [], {}, {"id": None}, {"id": ""}, 17])
def test_what_is_no_order_is_no_answer(reply: object) -> None:
    with pytest.raises(ccxt.NullResponse):
        answered(reply)


class Pages:
    """A venue's trades by time, a page at a time, as `fetch_my_trades` gives them."""

    def __init__(self, stamps_ms: list[int]) -> None:
        self.trades = [{"id": str(n), "symbol": "X", "timestamp": ms} for n, ms in enumerate(sorted(stamps_ms))]
        self.asked = 0

    async def fetch(self, since_ms: int | None) -> list[Raw]:
        self.asked += 1
        found = [trade for trade in self.trades if since_ms is None or trade["timestamp"] >= since_ms]
        return list(found[:PAGE_TRADES])


@given(st.lists(st.integers(1_000, 1_400), max_size=350))
async def test_all_pages_are_read_and_each_trade_once(stamps_ms: list[int]) -> None:
    crowded = any(stamps_ms.count(ms) >= PAGE_TRADES for ms in set(stamps_ms))
    pages = Pages(stamps_ms)
    found = await paged(pages.fetch, 1_000)
    assert crowded or len(found) == len(stamps_ms)
    assert len({trade["id"] for trade in found}) == len(found)
    assert [trade["timestamp"] for trade in found] == sorted(trade["timestamp"] for trade in found)


async def test_without_a_time_the_latest_page_is_enough() -> None:
    pages = Pages(list(range(1_000, 1_500)))
    assert len(await paged(pages.fetch, None)) == PAGE_TRADES
    assert pages.asked == 1


class Venue:
    """Just the calls of ccxt that a search makes; it knows what it was given."""

    def __init__(self, **lists: list[Raw]) -> None:
        self.lists = lists
        self.has = {"fetchOrder": True, "fetchOpenOrders": True, "fetchClosedOrders": True}
        self.asked: list[str] = []

    async def fetch_order(self, _venue_order_id: str, _symbol: str, _params: Any = None) -> Raw:
        self.asked.append("order")
        raise ccxt.OrderNotFound("none")

    async def fetch_open_orders(self, _symbol: str) -> list[Raw]:
        self.asked.append("open")
        return self.lists.get("open", [])

    async def fetch_closed_orders(self, _symbol: str) -> list[Raw]:
        self.asked.append("closed")
        return self.lists.get("closed", [])

    async def fetch_my_trades(self, _symbol: str, _since: int | None, _limit: int, _params: Any) -> list[Raw]:
        self.asked.append("trades")
        return self.lists.get("trades", [])


async def test_an_order_is_absent_only_if_every_list_says_so() -> None:
    venue: Any = Venue()
    assert await OrderWords().find_order(venue, "X", OURS, "") is None
    assert venue.asked == ["order", "open", "closed", "trades"]


@pytest.mark.parametrize("where", ["open", "closed"])
async def test_an_order_is_found_in_the_lists(where: str) -> None:
    order = {"id": "9", "clientOrderId": OURS}
    venue: Any = Venue(**{where: [{"id": "8", "clientOrderId": "other"}, order]})
    assert await OrderWords().find_order(venue, "X", OURS, "") == order


async def test_a_search_that_fails_answers_nothing() -> None:
    class Broken(Venue):
        async def fetch_closed_orders(self, _symbol: str) -> list[Raw]:
            raise ccxt.RequestTimeout("slow")

    broken: Any = Broken()
    with pytest.raises(ccxt.RequestTimeout):
        await OrderWords().find_order(broken, "X", OURS, "")


@pytest.mark.parametrize(
    ("position", "amount"),
    [
        ({"contracts": 3, "side": "short"}, -3.0),
        ({"contracts": "2.5", "side": "long"}, 2.5),
        ({"contracts": "x"}, None),
    ],
)
def test_positions_are_signed_by_their_side(position: Raw, amount: float | None) -> None:
    assert OrderWords().position_amount(position) == amount
