"""Which words belong to which exchange: its own where we know them, ccxt's unified ones for all others."""

from __future__ import annotations

from typing import Final

from bot.gateways.binance.orders import BinanceOrderWords
from bot.gateways.bybit.orders import BybitOrderWords
from bot.gateways.deribit.orders import DeribitOrderWords
from bot.gateways.derive.orders import DeriveOrderWords
from bot.gateways.hyperliquid.orders import HyperliquidOrderWords
from bot.gateways.okx.orders import OkxOrderWords
from bot.gateways.order_words import OrderWords

ORDER_WORDS: Final[dict[str, type[OrderWords]]] = {
    "binance": BinanceOrderWords,
    "binancecoinm": BinanceOrderWords,
    "binanceusdm": BinanceOrderWords,
    "bybit": BybitOrderWords,
    "deribit": DeribitOrderWords,
    "derive": DeriveOrderWords,
    "hyperliquid": HyperliquidOrderWords,
    "okx": OkxOrderWords,
}


def order_words_of(exchange_id: str) -> OrderWords:
    """Return the words of an exchange for orders, trades and accounts; new ones each time, as they may hold state."""
    return ORDER_WORDS.get(exchange_id, OrderWords)()
