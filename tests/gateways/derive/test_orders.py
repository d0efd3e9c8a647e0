"""Derive's orders: labels, a fee limit, and nothing that rests."""

from __future__ import annotations

import pytest

from bot.domain.errors import Retryable
from bot.domain.orders import OrderIntent, TimeInForce
from bot.gateways.derive.orders import DeriveOrderWords
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from bot.gateways.order_words import OrderTerms
from tests.gateways.desks import SteadyClock
from tests.instruments import PERPETUAL

SETTINGS = VenueSettings(venue="derive", exchange_id="derive", underlyings=frozenset({"ETH"}))


async def test_nothing_rests_without_a_session() -> None:
    exchange = open_exchange(SETTINGS, Credentials())
    with pytest.raises(Retryable, match="Derive cancels on disconnect only"):
        await DeriveOrderWords().dead_man(exchange, SteadyClock(), SETTINGS).ensure("ETH-PERP")
    await exchange.close()


def test_an_order_carries_its_label_and_a_fee_limit() -> None:
    intent = OrderIntent("0123456789-1", PERPETUAL.instrument_id, 5, 40_000, TimeInForce.IOC, False, "t", 2_000.0, 0)
    params = DeriveOrderWords().create_params(OrderTerms(intent, PERPETUAL, "ETH/USDC:USDC", 0.5))
    assert params == {"clientOrderId": "0123456789-1", "timeInForce": "IOC", "max_fee": 1000}


def test_orders_and_trades_say_whose_they_are() -> None:
    words = DeriveOrderWords()
    assert words.order_id_of({"info": {"label": "0123456789-7"}, "clientOrderId": None}) == "0123456789-7"
    assert words.order_id_of({"info": {"label": "by hand"}}) == ""
    assert words.order_id_of_trade({"info": {"label": "0123456789-7"}}) == "0123456789-7"
    assert words.order_id_of_trade({"info": {}}) is None


def test_an_amend_is_left_to_cancel_and_send_anew() -> None:
    assert not DeriveOrderWords.can_amend
