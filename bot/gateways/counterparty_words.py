"""What venues' own pages say of their health: withdrawals by coin, insurance funds, the queue of deleveraging.

Each venue has its own page for its fund; what is not a dollar there is left out, as nothing here knows a price.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from math import isfinite, nan
from statistics import median
from typing import Any, Final

import ccxt.pro

from bot.gateways.market_words import number

Raw = Mapping[str, Any]
DOLLARS: Final = frozenset({"USD", "USDT", "USDC", "FDUSD", "TUSD", "USDE", "BUSD", "BNFCR", "DAI"})
_WORST_FIRST: Final = ("failed", "suspended", "slow", "partly", "enabled", "working")
ALERTS: Final = frozenset({"bybit"})  # venues that tell how near a pool is to deleveraging
# How high a venue's rank goes; the highest is the first in the queue.
RANKS: Final[dict[str, float]] = {"binance": 4.0, "binanceusdm": 4.0, "binancecoinm": 4.0, "bybit": 5.0, "okx": 5.0}


def withdrawals_word(currencies: Mapping[str, Raw] | None, coins: Iterable[str]) -> str:
    """Return the worst of what is said of these coins: enabled, partly (some networks), suspended, or unknown."""
    words = [_word_of((currencies or {}).get(coin)) for coin in coins]
    if not words or "unknown" in words:
        told = [word for word in words if word == "suspended"]
        return told[0] if told else "unknown"
    return worst_word(words)


def worst_word(words: Iterable[str]) -> str:
    """Return the worst of several words about withdrawals, unknown if there is none that says anything."""
    known = [word for word in words if word in _WORST_FIRST]
    return min(known, key=_WORST_FIRST.index, default="unknown")


def _word_of(currency: Raw | None) -> str:
    if not currency:
        return "unknown"
    networks = currency.get("networks")
    said = [one.get("withdraw") for one in networks.values() if isinstance(one, Mapping)] if networks else []
    said = [one for one in said if one is not None] or [one for one in (currency.get("withdraw"),) if one is not None]
    if not said:
        return "unknown"
    if all(said):
        return "enabled"
    return "partly" if any(said) else "suspended"


async def _binance_fund(exchange: ccxt.pro.Exchange) -> float:
    groups = await exchange.fapiPublicGetInsuranceBalance()
    rows = groups if isinstance(groups, list) else [groups]
    return _sum(
        number(asset.get("marginBalance"))
        for row in rows
        for asset in row.get("assets", ())
        if str(asset.get("asset")) in DOLLARS
    )


async def _bybit_fund(exchange: ccxt.pro.Exchange) -> float:
    answer = await exchange.publicGetV5MarketInsurance()
    return _sum(number(row.get("value")) for row in answer["result"]["list"])


async def _okx_fund(exchange: ccxt.pro.Exchange) -> float:
    answer = await exchange.publicGetPublicInsuranceFund({"instType": "SWAP"})
    return _sum(number(row.get("total")) for row in answer["data"])


FUNDS: Final[dict[str, Callable[[ccxt.pro.Exchange], Awaitable[float]]]] = {
    "binance": _binance_fund,
    "binanceusdm": _binance_fund,
    "bybit": _bybit_fund,
    "okx": _okx_fund,
}


async def deepest_drawdown(exchange: ccxt.pro.Exchange, symbol_ids: Sequence[str]) -> float:
    """Return the worst P&L drawdown of these symbols' pools as Bybit tells it (negative, −0.3 deleverages), or NaN."""
    answer = await exchange.publicGetV5MarketAdlAlert()
    wanted = set(symbol_ids)
    rows = (row for row in answer["result"]["list"] if not wanted or row.get("symbol") in wanted)
    found = [ratio for row in rows if (ratio := number(row.get("pnlRatio"))) is not None]
    return min(found, default=nan)


async def rank_share(exchange: ccxt.pro.Exchange, symbols: Sequence[str]) -> float:
    """Return how near we are to being deleveraged, 1 first in the queue; NaN where the venue does not tell."""
    highest = RANKS.get(exchange.id)
    if highest is None or not symbols:
        return nan
    if exchange.has.get("fetchPositionsADLRank") is True:
        rows: list[Raw] = []
        for symbol in symbols if exchange.id == "bybit" else symbols[:1]:  # Bybit answers for one symbol at a time
            wanted = [symbol] if exchange.id == "bybit" else list(symbols)
            rows += await exchange.fetch_positions_adl_rank(wanted)
        ranks = [number(row.get("rank")) for row in rows]
    else:
        positions = await exchange.fetch_positions(list(symbols))
        ranks = [number((row.get("info") or {}).get("adl")) for row in positions]
    return max((min(1.0, rank / highest) for rank in ranks if rank is not None), default=nan)


async def open_interest(exchange: ccxt.pro.Exchange, symbols: Sequence[str]) -> float:
    """Return the open interest of these instruments in quote money, NaN unless every one is told."""
    total = 0.0
    for symbol in symbols:
        row = await exchange.fetch_open_interest(symbol)
        value, amount = number(row.get("openInterestValue")), number(row.get("openInterestAmount"))
        if value is None and amount is not None:
            px = await perp_px(exchange, symbol)
            value = amount * px if isfinite(px) else None
        if value is None:
            return nan
        total += value
    return total if symbols else nan


async def perp_px(exchange: ccxt.pro.Exchange, symbol: str) -> float:
    """Return where a perpetual trades: the middle of its best quotes, else its last trade, NaN without either."""
    ticker = await exchange.fetch_ticker(symbol)
    bid, ask, last = number(ticker.get("bid")), number(ticker.get("ask")), number(ticker.get("last"))
    if bid and ask:
        return 0.5 * (bid + ask)
    return last or nan


def discount_share(own_px: float, others_px: Iterable[float]) -> float:
    """Return how far a perpetual trades below the median of others, 0 if it does not; NaN without any other."""
    others = [px for px in others_px if isfinite(px) and px > 0.0]
    if not others or not isfinite(own_px):
        return nan
    return max(0.0, 1.0 - own_px / median(others))


def _sum(amounts: Iterable[float | None]) -> float:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known else nan
