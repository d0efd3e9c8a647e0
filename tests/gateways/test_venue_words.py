"""Each exchange gets its own words, any other the unified ones, and never somebody else's state."""

from __future__ import annotations

import ccxt.pro
import pytest

from bot.gateways.order_words import OrderWords
from bot.gateways.venue_words import ORDER_WORDS, order_words_of


@pytest.mark.parametrize("exchange_id", sorted(ORDER_WORDS))
def test_known_exchanges_exist_and_have_their_own_words(exchange_id: str) -> None:
    assert exchange_id in ccxt.pro.exchanges
    assert type(order_words_of(exchange_id)) is ORDER_WORDS[exchange_id]
    assert order_words_of(exchange_id) is not order_words_of(exchange_id)


@pytest.mark.parametrize("exchange_id", sorted(ORDER_WORDS))
def test_every_venues_ids_come_back_as_they_were_and_only_ours(exchange_id: str) -> None:
    words = order_words_of(exchange_id)
    for order_id in ("0123456789-1", "ffffffffff-999999999999999999", "00000000ab-0"):
        assert words.decode(words.encode(order_id)) == order_id
        assert len(words.encode(order_id)) <= 36
    for foreign in (None, "", "by hand", "0123456789", "x-0123456789-1"):
        assert words.decode(foreign) == ""


def test_any_other_exchange_speaks_the_unified_words() -> None:
    assert type(order_words_of("kraken")) is OrderWords
