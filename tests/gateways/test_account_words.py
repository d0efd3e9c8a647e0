"""Trades, orders and positions as events: lots signed, fees in settlement currency, nonsense left out and counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.orders import Liquidity, OrderState
from bot.gateways.account_words import AccountWords
from bot.gateways.deribit.orders import DeribitOrderWords
from bot.gateways.markets import Markets, market_words_of
from bot.gateways.order_words import OrderWords
from tests.gateways.listings import listing

SYMBOL, RUN = "ETH/USDT:USDT", "0123456789"


class Clock:
    def now_ns(self) -> int:
        return 10**18


def account(words: OrderWords | None = None) -> AccountWords:
    markets = Markets("binance", frozenset({"ETH"}), market_words_of("binanceusdm"))
    markets.update([listing("swap", "ETHUSDT", SYMBOL)])
    assert markets.instruments
    return AccountWords(markets, words or OrderWords(), Clock(), RUN)


def trade(**changes: Any) -> dict[str, Any]:
    return {
        "id": "5", "order": "9", "symbol": SYMBOL, "side": "sell", "amount": 0.25, "price": 2_000.0,
        "timestamp": 1_700_000_000_000, "takerOrMaker": "maker", "fee": {"cost": -0.02, "currency": "USDT"}, **changes,
    }  # fmt: skip


def test_a_trade_is_a_fill() -> None:
    fill = account().fill_of(trade(), f"{RUN}-1")
    assert fill is not None
    assert (fill.trade_id, fill.order_id, fill.instrument_id) == ("5", f"{RUN}-1", "ETHUSDT")
    assert (fill.qty_lots, fill.px, fill.fee_settle, fill.liquidity) == (-250, 2_000.0, -0.02, Liquidity.MAKER)
    assert fill.ts_event_ns == 1_700_000_000_000 * 10**6


def test_a_fee_in_another_currency_is_counted_not_converted() -> None:
    words = account()
    fill = words.fill_of(trade(fee={"cost": 0.001, "currency": "BNB"}), "")
    assert fill is not None
    assert (fill.fee_settle, words.odd_fees) == (0.0, 1)
    words.fill_of(trade(fee=None), "")
    words.fill_of(trade(fee={"cost": None, "currency": None}), "")
    assert words.odd_fees == 1


def test_a_trade_without_an_id_gets_the_same_one_each_time() -> None:
    first, again = account().fill_of(trade(id=None), ""), account().fill_of(trade(id=None), "")
    assert first is not None
    assert again is not None
    assert first.trade_id == again.trade_id == "9/1700000000000/2000/0.25"


@pytest.mark.parametrize(
    "nonsense",
    [{"price": None}, {"price": -1.0}, {"price": float("nan")}, {"amount": None}, {"amount": 0.0}, {"side": None},
     {"symbol": "SOL/USDT:USDT"}, {"symbol": None}],
)  # fmt: skip
def test_nonsense_is_no_fill(nonsense: dict[str, Any]) -> None:
    assert account().fill_of(trade(**nonsense), "") is None


@given(
    st.dictionaries(
        st.sampled_from(sorted(trade())), st.none() | st.integers() | st.floats() | st.text() | st.booleans()
    )
)
def test_no_trade_makes_it_stumble(garbage: dict[str, Any]) -> None:
    account().fill_of(trade(**garbage), "")


def test_only_this_runs_orders_are_ours() -> None:
    words = account()
    assert words.own(f"{RUN}-1") == f"{RUN}-1"
    assert words.own("aaaaaaaaaa-1") == ""
    assert words.own("") == ""


def test_open_orders_say_what_is_left() -> None:
    words = account()
    order = {"id": "9", "clientOrderId": f"{RUN}-3", "symbol": SYMBOL, "side": "sell", "amount": 1.0, "price": 2_010.0}
    (whole,) = words.open_orders([{**order, "remaining": 0.4}])
    (rest,) = words.open_orders([{**order, "remaining": None, "filled": 0.3}])
    assert (whole.order_id, whole.left_lots, whole.limit_px) == (f"{RUN}-3", -400, 2_010.0)
    assert rest.left_lots == -700
    assert words.open_orders([{**order, "symbol": "SOL/USDT:USDT"}]) == ()
    assert words.unknown_symbols == {"SOL/USDT:USDT"}


def test_positions_that_are_flat_are_left_out() -> None:
    words = account()
    held = {"symbol": SYMBOL, "contracts": 2.0, "side": "short", "entryPrice": 1_990.0}
    (position,) = words.positions([held, {**held, "contracts": 0.0}, {**held, "contracts": None}])
    assert (position.instrument_id, position.qty_lots, position.entry_px) == ("ETHUSDT", -2_000, 1_990.0)


def test_deribits_positions_are_signed_once() -> None:
    words = account(DeribitOrderWords())
    position = {"symbol": SYMBOL, "contracts": -0.3, "side": "short", "info": {"size": -0.3}}
    assert words.positions([position])[0].qty_lots == -300


@pytest.mark.parametrize(
    ("status", "state"),
    [("open", OrderState.OPEN), ("closed", OrderState.FILLED), ("canceled", OrderState.CANCELED),
     ("expired", OrderState.EXPIRED), ("rejected", OrderState.REJECTED), ("new word", None), (None, None)],
)  # fmt: skip
def test_states(status: object, state: OrderState | None) -> None:
    assert account().state_of({"status": status}) is state


@pytest.mark.parametrize(
    ("order", "state"),
    [
        ({"status": "closed", "amount": 2.0, "filled": 2.0}, OrderState.FILLED),
        ({"status": "closed", "amount": 2.0, "filled": 0.5}, OrderState.CANCELED),
        ({"status": "rejected", "amount": 2.0, "filled": 0.5}, OrderState.CANCELED),
        ({"status": "rejected", "amount": 2.0, "filled": 0.0}, OrderState.REJECTED),
    ],
)
def test_closed_is_filled_only_if_all_of_it_is(order: dict[str, Any], state: OrderState) -> None:
    assert account().state_of(order) is state


def test_the_time_of_an_order_is_its_last_change() -> None:
    assert account().stamp_ns({"lastUpdateTimestamp": 5, "timestamp": 3}) == 5 * 10**6
    assert account().stamp_ns({"timestamp": None}) == 10**18
