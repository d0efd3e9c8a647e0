"""Bybit's orders: nothing rests there, for nothing would cancel it; executions say whose they are."""

from __future__ import annotations

import pytest

from bot.domain.errors import Retryable
from bot.gateways.bybit.orders import BybitOrderWords
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from tests.gateways.desks import SteadyClock

SETTINGS = VenueSettings(venue="bybit", exchange_id="bybit", underlyings=frozenset({"ETH"}))


async def test_nothing_rests_without_protection() -> None:
    exchange = open_exchange(SETTINGS, Credentials())
    with pytest.raises(Retryable, match="Bybit cancels on disconnect for institutional clients only"):
        await BybitOrderWords().dead_man(exchange, SteadyClock(), SETTINGS).ensure("ETH/USDT:USDT")
    await exchange.close()


def test_executions_say_whose_they_are() -> None:
    words = BybitOrderWords()
    assert words.order_id_of_trade({"info": {"orderLinkId": "0123456789-7"}}) == "0123456789-7"
    assert words.order_id_of_trade({"info": {"orderLinkId": ""}}) == ""
    assert words.order_id_of_trade({"info": {}}) is None
    assert words.order_id_of({"clientOrderId": "0123456789-7"}) == "0123456789-7"


async def test_positions_are_signed_by_their_side() -> None:
    words = BybitOrderWords()
    assert words.position_amount({"contracts": 3.0, "side": "short"}) == -3.0
    assert words.position_amount({"contracts": 3.0, "side": "long"}) == 3.0
    assert words.position_amount({"contracts": None, "side": None}) is None
