"""What Hyperliquid says about a book: the JSON of /info and of its streams, nothing else. A coin is a market's name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tests.venues.loopback import decimal, decimals_of
from tests.venues.matching import Funding, Level, Listing, Order, State, Trade, VenueBook

LEVERAGE = 20
LEVELS = 20  # of a side that l2Book shows
FILLS = 2_000  # that userFills goes back

Json = dict[str, Any]

ENDED = {
    "reduce_only": "reduceOnlyCanceled",
    "instrument_closed": "delistedCanceled",
    "scheduled": "scheduledCancel",
    "liquidation": "liquidatedCanceled",
}


def meta(book: VenueBook) -> Json:
    return {"universe": [_asset(listing) for listing in book.listings.values()], "collateralToken": 0}


def _asset(listing: Listing) -> Json:
    asset = {"szDecimals": size_decimals(listing), "name": listing.name, "maxLeverage": 25, "marginTableId": 25}
    return asset if listing.is_active else {**asset, "isDelisted": True}


def size_decimals(listing: Listing) -> int:
    return decimals_of(listing.min_amount)


def asset_context(book: VenueBook, name: str) -> Json:
    mark, mid = book.mark_px(name) or 0.0, book.quotes[name].mid_px
    bids, asks = book.book_of(name)
    return {
        "funding": decimal(book.quotes[name].funding_rate / 8),  # per hour
        "openInterest": "1000",
        "prevDayPx": decimal(mark),
        "dayNtlVlm": "1000000",
        "premium": "0",
        "oraclePx": decimal(book.index.get(book.listings[name].coin, mark)),
        "markPx": decimal(mark),
        "midPx": None if mid is None else decimal(mid),
        "impactPxs": [decimal(bids[0].px), decimal(asks[0].px)] if bids and asks else None,
        "dayBaseVlm": "1000",
    }


def l2_book(book: VenueBook, name: str, now_ms: int) -> Json:
    levels = [[_level(level) for level in side[:LEVELS]] for side in book.book_of(name)]
    return {"coin": name, "time": now_ms, "levels": levels}


def best_quote(book: VenueBook, name: str, now_ms: int) -> Json:
    return {
        "coin": name,
        "time": now_ms,
        "bbo": [_level(side[0]) if side else None for side in book.book_of(name)],
    }


def _level(level: Level) -> Json:
    return {"px": decimal(level.px), "sz": decimal(level.amount), "n": 1}


def mids(book: VenueBook) -> Json:
    return {name: decimal(quotes.mid_px) for name, quotes in book.quotes.items() if quotes.mid_px is not None}


def status_of(order: Order) -> str:
    if order.state is not State.CANCELED:
        return order.state.value
    if order.cancel_reason == "ioc" and not order.filled:
        return "iocCancelRejected"
    return ENDED.get(order.cancel_reason, "canceled")


def order_json(order: Order) -> Json:
    return {
        "coin": order.name,
        "side": "B" if order.is_buy else "A",
        "limitPx": decimal(order.px),
        "sz": decimal(order.left),
        "oid": int(order.order_id),
        "timestamp": order.created_ms,
        "origSz": decimal(order.amount),
        "cloid": order.client_id or None,
    }


def long_order_json(order: Order) -> Json:
    return order_json(order) | {
        "triggerCondition": "N/A",
        "isTrigger": False,
        "triggerPx": "0.0",
        "children": [],
        "isPositionTpsl": False,
        "reduceOnly": order.is_reduce_only,
        "orderType": "Limit",
        "tif": "Alo" if order.is_post_only else order.time_in_force.capitalize(),
    }


def order_state(order: Order, *, is_long: bool) -> Json:
    return {
        "order": long_order_json(order) if is_long else order_json(order),
        "status": status_of(order),
        "statusTimestamp": order.updated_ms,
    }


def fills(trades: Sequence[Trade]) -> list[Json]:
    """Return all trades as fills, oldest first; each says what the position was before."""
    before: dict[str, float] = {}
    told = []
    for trade in trades:
        start = before.get(trade.name, 0.0)
        before[trade.name] = start + (trade.amount if trade.is_buy else -trade.amount)
        told.append(fill(trade, start))
    return told


def fill(trade: Trade, start: float) -> Json:
    return {
        "coin": trade.name,
        "px": decimal(trade.px),
        "sz": decimal(trade.amount),
        "side": "B" if trade.is_buy else "A",
        "time": trade.ts_ms,
        "startPosition": decimal(start),
        "dir": _direction(trade, start),
        "closedPnl": decimal(trade.realized),
        "hash": f"0x{int(trade.trade_id):064x}",
        "oid": int(trade.order_id),
        "crossed": not trade.is_maker,
        "fee": decimal(trade.fee),
        "tid": int(trade.trade_id),
        "cloid": trade.client_id or None,
        "feeToken": trade.fee_coin,
        "twapId": None,
    }


def _direction(trade: Trade, start: float) -> str:
    if trade.cause == "adl":
        return "Auto-Deleveraging"
    signed = trade.amount if trade.is_buy else -trade.amount
    if start * signed >= 0:
        return "Open Long" if trade.is_buy else "Open Short"
    if start * (start + signed) < 0:
        return "Short > Long" if trade.is_buy else "Long > Short"
    return "Close Short" if trade.is_buy else "Close Long"


def funding_json(funding: Funding, position: float) -> Json:
    """Return a funding payment; the venue gives all of them the same hash, so it is no id."""
    return {
        "time": funding.ts_ms,
        "hash": "0x" + "0" * 64,
        "delta": {
            "type": "funding",
            "coin": funding.name,
            "usdc": decimal(funding.amount),
            "szi": decimal(position),
            "fundingRate": decimal(funding.rate),
            "nSamples": None,
        },
    }


def clearinghouse_state(book: VenueBook, now_ms: int) -> Json:
    held = [name for name, position in book.positions.items() if position.amount]
    positions = [{"type": "oneWay", "position": _position(book, name)} for name in held]
    notional = sum(abs(book.position(name).amount) * (book.mark_px(name) or 0.0) for name in held)
    equity = book.equity("USDC")
    summary = {
        "accountValue": decimal(equity),
        "totalNtlPos": decimal(notional),
        "totalRawUsd": decimal(equity - math.fsum(_signed_value(book, name) for name in held)),
        "totalMarginUsed": decimal(notional / LEVERAGE),
    }
    return {
        "marginSummary": summary,
        "crossMarginSummary": summary,
        "crossMaintenanceMarginUsed": decimal(notional / LEVERAGE / 2),
        "withdrawable": decimal(max(0.0, equity - notional / LEVERAGE)),
        "assetPositions": positions,
        "time": now_ms,
    }


def _signed_value(book: VenueBook, name: str) -> float:
    return book.position(name).amount * (book.mark_px(name) or 0.0)


def _position(book: VenueBook, name: str) -> Json:
    position, value = book.position(name), abs(_signed_value(book, name))
    return {
        "coin": name,
        "szi": decimal(position.amount),
        "leverage": {"type": "cross", "value": LEVERAGE},
        "entryPx": decimal(position.entry_px),
        "positionValue": decimal(value),
        "unrealizedPnl": decimal(book.unrealized(name)),
        "returnOnEquity": "0.0",
        "liquidationPx": None,
        "marginUsed": decimal(value / LEVERAGE),
        "maxLeverage": 25,
        "cumFunding": {"allTime": "0.0", "sinceOpen": "0.0", "sinceChange": "0.0"},
    }


NO_SPOT = {"universe": [], "tokens": [{
    "name": "USDC", "szDecimals": 8, "weiDecimals": 8, "index": 0, "tokenId": "0x" + "6d" * 16,
    "isCanonical": True, "evmContract": None, "fullName": None,
}]}  # fmt: skip
