"""What Binance USD-M says about a book: the JSON of its REST answers and of its user stream, nothing else."""

from __future__ import annotations

from typing import Any

from tests.venues.loopback import FUNDING_HOURS_MS, decimal, decimals_of
from tests.venues.matching import Funding, Kind, Level, Listing, Order, State, Trade, VenueBook

NEVER_MS = 4_133_404_800_000  # the delivery date of what is never delivered
PERCENT_PRICE_UP, PERCENT_PRICE_DOWN = 1.15, 0.85
MAINTENANCE_RATE = 0.004
LEVERAGE = 20

Json = dict[str, Any]


def exchange_info(book: VenueBook, now_ms: int, min_notional: float) -> Json:
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400},
            {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300},
        ],
        "exchangeFilters": [],
        "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
        "symbols": [_symbol(listing, min_notional) for listing in book.listings.values()],
    }


def _symbol(listing: Listing, min_notional: float) -> Json:
    is_perpetual = listing.kind is Kind.PERPETUAL
    lot = {"minQty": decimal(listing.min_amount), "maxQty": "10000", "stepSize": decimal(listing.min_amount)}
    symbol = {
        "symbol": listing.name,
        "pair": f"{listing.coin}{listing.quote}",
        "contractType": "PERPETUAL" if is_perpetual else "CURRENT_QUARTER",
        "deliveryDate": listing.expiry_ms or NEVER_MS,
        "onboardDate": listing.created_ms,
        "status": "TRADING" if listing.is_active else "SETTLING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": listing.coin,
        "quoteAsset": listing.quote,
        "marginAsset": listing.settle,
        "pricePrecision": decimals_of(listing.tick_px),
        "quantityPrecision": decimals_of(listing.min_amount),
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10000,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": decimal(listing.tick_px), "maxPrice": "1000000",
             "tickSize": decimal(listing.tick_px)},
            {"filterType": "LOT_SIZE", **lot},
            {"filterType": "MARKET_LOT_SIZE", **lot, "maxQty": "2000"},
            {"filterType": "MAX_NUM_ORDERS", "limit": 200},
            {"filterType": "MIN_NOTIONAL", "notional": decimal(min_notional)},
            {"filterType": "PERCENT_PRICE", "multiplierUp": f"{PERCENT_PRICE_UP:.4f}",
             "multiplierDown": f"{PERCENT_PRICE_DOWN:.4f}", "multiplierDecimal": "4"},
        ],
        "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
    }  # fmt: skip
    if listing.contract_size != 1.0:
        symbol["contractSize"] = decimal(listing.contract_size)
    return symbol


def leverage_brackets(book: VenueBook) -> list[Json]:
    bracket = {
        "bracket": 1,
        "initialLeverage": 100,
        "notionalCap": 1e9,
        "notionalFloor": 0,
        "maintMarginRatio": MAINTENANCE_RATE,
        "cum": 0.0,
    }
    return [{"symbol": name, "brackets": [bracket]} for name in book.listings]


def status_of(order: Order) -> str:
    if order.state is State.FILLED:
        return "FILLED"
    if order.state is State.CANCELED:
        return "EXPIRED" if order.cancel_reason in {"ioc", "reduce_only"} else "CANCELED"
    return "PARTIALLY_FILLED" if order.filled else "NEW"


def order_json(order: Order) -> Json:
    kind = _kind_of(order)
    return {
        "orderId": int(order.order_id),
        "symbol": order.name,
        "status": status_of(order),
        "clientOrderId": client_id_of(order),
        "price": decimal(order.px),
        "avgPrice": decimal(order.average_px),
        "origQty": decimal(order.amount),
        "executedQty": decimal(order.filled),
        "cumQty": decimal(order.filled),
        "cumQuote": decimal(order.filled * order.average_px),
        "timeInForce": time_in_force_of(order),
        "type": kind,
        "reduceOnly": order.is_reduce_only,
        "closePosition": False,
        "side": side_of(order),
        "positionSide": "BOTH",
        "stopPrice": "0",
        "workingType": "CONTRACT_PRICE",
        "priceProtect": False,
        "origType": kind,
        "priceMatch": "NONE",
        "selfTradePreventionMode": "NONE",
        "goodTillDate": 0,
        "time": order.created_ms,
        "updateTime": order.updated_ms,
    }


def _kind_of(order: Order) -> str:
    return "MARKET" if order.px is None else "LIMIT"


def client_id_of(order: Order, trade: Trade | None = None) -> str:
    """Return the client id as the venue tells it: it makes one up for whoever gave none, and for its own closing."""
    if trade is not None and trade.cause != "trade":
        return f"{'adl_autoclose_' if trade.cause == 'adl' else 'autoclose-'}{order.order_id}"
    return order.client_id or f"web_{order.order_id}"


def side_of(order: Order | Trade) -> str:
    return "BUY" if order.is_buy else "SELL"


def time_in_force_of(order: Order) -> str:
    return "GTX" if order.is_post_only else order.time_in_force.upper()


def trade_json(trade: Trade) -> Json:
    return {
        "symbol": trade.name,
        "id": int(trade.trade_id),
        "orderId": int(trade.order_id),
        "side": side_of(trade),
        "price": decimal(trade.px),
        "qty": decimal(trade.amount),
        "realizedPnl": decimal(trade.realized),
        "quoteQty": decimal(trade.amount * trade.px),
        "commission": decimal(trade.fee),
        "commissionAsset": trade.fee_coin,
        "time": trade.ts_ms,
        "positionSide": "BOTH",
        "buyer": trade.is_buy,
        "maker": trade.is_maker,
    }


def order_event(order: Order, execution: str, now_ms: int, trade: Trade | None = None) -> Json:
    """Return an ORDER_TRADE_UPDATE of an order as it was when it happened."""
    update = {
        "s": order.name,
        "c": client_id_of(order, trade),
        "S": side_of(order),
        "o": _kind_of(order),
        "f": time_in_force_of(order),
        "q": decimal(order.amount),
        "p": decimal(order.px),
        "ap": decimal(order.average_px),
        "sp": "0",
        "x": execution,
        "X": status_of(order),
        "i": int(order.order_id),
        "l": decimal(trade.amount if trade else 0.0),
        "z": decimal(order.filled),
        "L": decimal(trade.px if trade else 0.0),
        "T": trade.ts_ms if trade else order.updated_ms,
        "t": int(trade.trade_id) if trade else 0,
        "b": "0",
        "a": "0",
        "m": trade.is_maker if trade else False,
        "R": order.is_reduce_only,
        "wt": "CONTRACT_PRICE",
        "ot": _kind_of(order),
        "ps": "BOTH",
        "cp": False,
        "rp": decimal(trade.realized if trade else 0.0),
        "pP": False,
        "si": 0,
        "ss": 0,
        "V": "NONE",
        "pm": "NONE",
        "gtd": 0,
    }
    if trade is not None:
        update |= {"N": trade.fee_coin, "n": decimal(trade.fee)}
    return {"e": "ORDER_TRADE_UPDATE", "T": update["T"], "E": now_ms, "o": update}


def account_event(book: VenueBook, reason: str, coin: str, name: str | None, now_ms: int) -> Json:
    """Return an ACCOUNT_UPDATE: the balance that changed, and the position if one did."""
    wallet = decimal(book.balances.get(coin, 0.0))
    positions = []
    if name is not None:
        position = book.position(name)
        positions.append({
            "s": name,
            "pa": decimal(position.amount),
            "ep": decimal(position.entry_px),
            "bep": decimal(position.entry_px),
            "cr": decimal(position.realized),
            "up": decimal(book.unrealized(name)),
            "mt": "cross",
            "iw": "0",
            "ps": "BOTH",
        })  # fmt: skip
    balances = [{"a": coin, "wb": wallet, "cw": wallet, "bc": "0"}]
    return {"e": "ACCOUNT_UPDATE", "T": now_ms, "E": now_ms, "a": {"m": reason, "B": balances, "P": positions}}


def position_risks(book: VenueBook, now_ms: int, *, is_v2: bool) -> list[Json]:
    """Version 2 lists every symbol, version 3 only those with a position or an open order."""
    names = [name for name in book.listings if is_v2 or book.position(name).amount or book.open_orders(name)]
    return [_position_risk(book, name, now_ms, is_v2=is_v2) for name in names]


def _position_risk(book: VenueBook, name: str, now_ms: int, *, is_v2: bool) -> Json:
    position, listing = book.position(name), book.listings[name]
    mark = book.mark_px(name) or 0.0
    notional = position.amount * mark
    risk = {
        "symbol": name,
        "positionSide": "BOTH",
        "positionAmt": decimal(position.amount),
        "entryPrice": decimal(position.entry_px),
        "breakEvenPrice": decimal(position.entry_px),
        "markPrice": decimal(mark),
        "unRealizedProfit": decimal(book.unrealized(name)),
        "liquidationPrice": "0",
        "isolatedMargin": "0",
        "notional": decimal(notional),
        "isolatedWallet": "0",
        "updateTime": now_ms if position.amount else 0,
    }
    if is_v2:
        return risk | {
            "leverage": str(LEVERAGE),
            "maxNotionalValue": "100000000",
            "marginType": "cross",
            "isAutoAddMargin": "false",
        }
    margin = decimal(abs(notional) / LEVERAGE)
    return risk | {
        "marginAsset": listing.settle,
        "initialMargin": margin,
        "maintMargin": decimal(abs(notional) * MAINTENANCE_RATE),
        "positionInitialMargin": margin,
        "openOrderInitialMargin": "0",
        "adl": 1 if position.amount else 0,
        "bidNotional": "0",
        "askNotional": "0",
    }


def account(book: VenueBook, now_ms: int) -> Json:
    assets = [_asset(book, coin, now_ms) for coin in book.balances]
    return {
        "totalWalletBalance": decimal(sum(book.balances.values())),
        "totalMarginBalance": decimal(sum(book.equity(coin) for coin in book.balances)),
        "totalInitialMargin": decimal(sum(float(asset["initialMargin"]) for asset in assets)),
        "totalMaintMargin": decimal(sum(float(asset["maintMargin"]) for asset in assets)),
        "availableBalance": decimal(sum(float(asset["availableBalance"]) for asset in assets)),
        "assets": assets,
        "positions": [
            {"symbol": name, "positionSide": "BOTH", "positionAmt": decimal(position.amount),
             "unrealizedProfit": decimal(book.unrealized(name)), "isolatedMargin": "0",
             "notional": decimal(position.amount * (book.mark_px(name) or 0.0)), "isolatedWallet": "0",
             "initialMargin": "0", "maintMargin": "0", "updateTime": now_ms}
            for name, position in book.positions.items() if position.amount
        ],
    }  # fmt: skip


def _asset(book: VenueBook, coin: str, now_ms: int) -> Json:
    wallet, equity = book.balances[coin], book.equity(coin)
    held = [name for name, listing in book.listings.items() if listing.settle == coin]
    margin = sum(abs(book.position(name).amount) * (book.mark_px(name) or 0.0) for name in held) / LEVERAGE
    free = decimal(max(0.0, equity - margin))
    return {
        "asset": coin,
        "walletBalance": decimal(wallet),
        "unrealizedProfit": decimal(equity - wallet),
        "marginBalance": decimal(equity),
        "maintMargin": decimal(margin * LEVERAGE * MAINTENANCE_RATE),
        "initialMargin": decimal(margin),
        "positionInitialMargin": decimal(margin),
        "openOrderInitialMargin": "0",
        "crossWalletBalance": decimal(wallet),
        "crossUnPnl": decimal(equity - wallet),
        "availableBalance": free,
        "maxWithdrawAmount": free,
        "updateTime": now_ms,
    }


def commission_rate(listing: Listing) -> Json:
    return {
        "symbol": listing.name,
        "makerCommissionRate": decimal(listing.maker_rate),
        "takerCommissionRate": decimal(listing.taker_rate),
    }


def adl_quantiles(book: VenueBook, ranks: dict[str, int]) -> list[Json]:
    return [
        {"symbol": name, "adlQuantile": {"LONG": ranks.get(name, 0), "SHORT": ranks.get(name, 0)}}
        for name, position in book.positions.items()
        if position.amount
    ]


def funding_json(funding: Funding) -> Json:
    return {
        "symbol": funding.name,
        "incomeType": "FUNDING_FEE",
        "income": decimal(funding.amount),
        "asset": funding.coin,
        "info": "FUNDING_FEE",
        "time": funding.ts_ms,
        "tranId": int(funding.funding_id.removeprefix("F")),
        "tradeId": "",
    }


def funding_rate_json(book: VenueBook, funding: Funding) -> Json:
    return {
        "symbol": funding.name,
        "fundingTime": funding.ts_ms,
        "fundingRate": decimal(funding.rate),
        "markPrice": decimal(book.mark_px(funding.name)),
    }


def funding_info(book: VenueBook) -> list[Json]:
    return [
        {
            "symbol": listing.name,
            "adjustedFundingRateCap": "0.02",
            "adjustedFundingRateFloor": "-0.02",
            "fundingIntervalHours": 8,
        }
        for listing in book.listings.values()
        if listing.kind is Kind.PERPETUAL
    ]


def premium_index(book: VenueBook, name: str, now_ms: int) -> Json:
    mark, index = _mark_and_index(book, name)
    return {
        "symbol": name,
        "markPrice": decimal(mark),
        "indexPrice": decimal(index),
        "estimatedSettlePrice": decimal(index),
        "lastFundingRate": decimal(book.quotes[name].funding_rate),
        "interestRate": "0.0001",
        "nextFundingTime": _next_funding_ms(now_ms),
        "time": now_ms,
    }


def mark_event(book: VenueBook, name: str, now_ms: int) -> Json:
    mark, index = _mark_and_index(book, name)
    return {
        "e": "markPriceUpdate",
        "E": now_ms,
        "s": name,
        "p": decimal(mark),
        "i": decimal(index),
        "P": decimal(index),
        "r": decimal(book.quotes[name].funding_rate),
        "T": _next_funding_ms(now_ms),
    }


def _mark_and_index(book: VenueBook, name: str) -> tuple[float, float]:
    mark = book.mark_px(name) or 0.0
    return mark, book.index.get(book.listings[name].coin, mark)


def _next_funding_ms(now_ms: int) -> int:
    return (now_ms // FUNDING_HOURS_MS + 1) * FUNDING_HOURS_MS


def book_ticker_event(book: VenueBook, name: str, now_ms: int) -> Json:
    (bid, bid_amount), (ask, ask_amount) = (_best(side) for side in book.book_of(name))
    return {
        "e": "bookTicker",
        "u": book.seq,
        "s": name,
        "b": bid,
        "B": bid_amount,
        "a": ask,
        "A": ask_amount,
        "T": now_ms,
        "E": now_ms,
    }


def book_ticker(book: VenueBook, name: str, now_ms: int) -> Json:
    (bid, bid_amount), (ask, ask_amount) = (_best(side) for side in book.book_of(name))
    return {
        "lastUpdateId": book.seq,
        "symbol": name,
        "bidPrice": bid,
        "bidQty": bid_amount,
        "askPrice": ask,
        "askQty": ask_amount,
        "time": now_ms,
    }


def day_ticker(book: VenueBook, name: str, now_ms: int) -> Json:
    last = decimal(book.quotes[name].last_px or book.mark_px(name))
    return {
        "symbol": name,
        "priceChange": "0",
        "priceChangePercent": "0",
        "weightedAvgPrice": last,
        "lastPrice": last,
        "lastQty": "0",
        "openPrice": last,
        "highPrice": last,
        "lowPrice": last,
        "volume": "0",
        "quoteVolume": "0",
        "openTime": now_ms - 86_400_000,
        "closeTime": now_ms,
        "firstId": 0,
        "lastId": 0,
        "count": 0,
    }


def _best(side: list[Level]) -> tuple[str, str]:
    return (decimal(side[0].px), decimal(side[0].amount)) if side else ("0", "0")
