"""A `VenueBook` in Deribit's words: instruments, tickers, books, orders, trades, positions, accounts as JSON objects.

Pure: everything is worked out from the book as it is now. Vols are in per cent here, as Deribit has them, except in the
`markprice.options` channel, which counts in fractions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from tests.venues.matching import Change, Delivery, Kind, Level, Listing, Order, State, Trade, VenueBook

Json = dict[str, Any]
NEVER_MS = 32_503_708_800_000
STABLE = {"USDC", "USDT", "EURR"}
MS_PER_YEAR = 365 * 86_400_000
STATES = {State.OPEN: "open", State.FILLED: "filled", State.CANCELED: "cancelled"}
TIMES = {"gtc": "good_til_cancelled", "ioc": "immediate_or_cancel", "fok": "fill_or_kill"}


class OptionValue(msgspec.Struct, frozen=True):
    """What a Black-76 price of the mark vol says, per option: price in `price_currency`, Greeks in base and quote."""

    px: float = 0.0
    delta: float = 0.0
    gamma: float = 0.0
    vega: float = 0.0
    theta: float = 0.0


def currency_of(listing: Listing) -> str:
    """Return the currency an instrument is listed under."""
    return listing.settle if listing.settle in STABLE else listing.coin


def index_name_of(listing: Listing) -> str:
    return f"{listing.coin}_{listing.quote}".lower()


def coin_of_index(index_name: str) -> str:
    return index_name.partition("_")[0].upper()


def kind_of(listing: Listing) -> str:
    return {Kind.OPTION: "option", Kind.SPOT: "spot"}.get(listing.kind, "future")


def instrument(listing: Listing) -> Json:
    is_coin_priced = listing.kind is Kind.OPTION and listing.is_inverse
    shape = "reversed" if listing.is_inverse else "linear"
    said: Json = {
        "instrument_name": listing.name,
        "instrument_id": sum(ord(letter) * (n + 1) for n, letter in enumerate(listing.name)),
        "kind": kind_of(listing),
        "instrument_type": shape,
        "base_currency": listing.coin,
        "counter_currency": listing.quote,
        "quote_currency": listing.coin if is_coin_priced else listing.quote,
        "settlement_currency": listing.settle,
        "price_index": index_name_of(listing),
        "contract_size": listing.contract_size,
        "min_trade_amount": listing.min_amount,
        "tick_size": listing.tick_px,
        "tick_size_steps": [{"above_price": px, "tick_size": tick} for px, tick in listing.tick_steps],
        "maker_commission": listing.maker_rate,
        "taker_commission": listing.taker_rate,
        "block_trade_commission": listing.taker_rate,
        "block_trade_min_trade_amount": listing.min_amount,
        "block_trade_tick_size": listing.tick_px,
        "is_active": listing.is_active,
        "state": "open" if listing.is_active else "closed",
        "rfq": False,
        "creation_timestamp": listing.created_ms,
    }
    if listing.kind is not Kind.SPOT:
        said["expiration_timestamp"] = listing.expiry_ms or NEVER_MS
        said["settlement_period"] = "perpetual" if listing.kind is Kind.PERPETUAL else "week"
    if listing.kind is Kind.OPTION:
        said |= {"strike": listing.strike, "option_type": "call" if listing.is_call else "put"}
    elif listing.kind is not Kind.SPOT:
        said |= {"future_type": shape, "max_leverage": 50, "max_liquidation_commission": 0.0075}
    return said


def option_value(book: VenueBook, listing: Listing) -> OptionValue:
    """Black-76 at the mark vol on the published forward, undiscounted; all zero without a vol."""
    quotes = book.quotes[listing.name]
    F, K, vol = quotes.forward_px, listing.strike, quotes.mark_vol
    years = ((listing.expiry_ms or 0) - book.now_ms()) / MS_PER_YEAR
    if not F or not K or vol <= 0 or years <= 0:
        return OptionValue(px=quotes.mark_px or 0.0)
    spread = vol * math.sqrt(years)
    d1 = math.log(F / K) / spread + spread / 2
    density = math.exp(-d1 * d1 / 2) / math.sqrt(2 * math.pi)
    call = F * _normal_cdf(d1) - K * _normal_cdf(d1 - spread)
    px = call if listing.is_call else call - F + K
    return OptionValue(
        px=quotes.mark_px if quotes.mark_px is not None else (px / F if listing.is_inverse else px),
        delta=_normal_cdf(d1) - (0.0 if listing.is_call else 1.0),
        gamma=density / (F * spread),
        vega=F * density * math.sqrt(years) / 100,
        theta=-F * density * vol / (2 * math.sqrt(years)) / 365,
    )


def mark_px(book: VenueBook, listing: Listing) -> float:
    if listing.kind is Kind.OPTION:
        return round(option_value(book, listing).px, 6)
    return round(book.mark_px(listing.name) or index_px(book, listing), 4)


def index_px(book: VenueBook, listing: Listing) -> float:
    return book.index.get(listing.coin, 0.0)


def ticker(book: VenueBook, name: str) -> Json:
    listing, quotes = book.listings[name], book.quotes[name]
    mark, index = mark_px(book, listing), index_px(book, listing)
    said: Json = {
        "timestamp": max(quotes.ts_ms, book.index_ms.get(listing.coin, 0)) or book.now_ms(),
        "instrument_name": name,
        "state": "open" if listing.is_active else "closed",
        "stats": {"volume": 0.0, "volume_usd": 0.0, "price_change": None, "low": None, "high": None},
        "mark_price": mark,
        "last_price": quotes.last_px,
        "index_price": index,
        "estimated_delivery_price": index,
        "open_interest": 0.0,
        "min_price": round(mark * 0.5, 4),
        "max_price": round(mark * 1.5, 4),
        **top(book, name),
    }
    if listing.kind is Kind.PERPETUAL:
        said |= {"current_funding": quotes.funding_rate, "funding_8h": quotes.funding_rate, "interest_value": 0.0}
    if listing.kind is Kind.OPTION:
        value = option_value(book, listing)
        said |= {
            "underlying_price": quotes.forward_px or index,
            "underlying_index": f"SYN.{name.rsplit('-', 2)[0]}",
            "interest_rate": 0.0,
            "mark_iv": _percent(quotes.mark_vol),
            "bid_iv": _percent(quotes.bid_vol),
            "ask_iv": _percent(quotes.ask_vol),
            "greeks": {
                "delta": round(value.delta, 5),
                "gamma": round(value.gamma, 7),
                "vega": round(value.vega, 5),
                "theta": round(value.theta, 5),
                "rho": 0.0,
            },
        }
    return said


def top(book: VenueBook, name: str) -> Json:
    """Best bid and ask, zeros where a side is empty."""
    bids, asks = book.book_of(name)
    bid, ask = (bids or [Level(0.0, 0.0)])[0], (asks or [Level(0.0, 0.0)])[0]
    return {
        "best_bid_price": bid.px,
        "best_bid_amount": bid.amount,
        "best_ask_price": ask.px,
        "best_ask_amount": ask.amount,
    }


def quote(book: VenueBook, name: str) -> Json:
    return {"timestamp": book.quotes[name].ts_ms or book.now_ms(), "instrument_name": name, **top(book, name)}


def levels(book: VenueBook, name: str, depth: int | None = None) -> tuple[list[list[float]], list[list[float]]]:
    bids, asks = book.book_of(name)
    return [[level.px, level.amount] for level in bids[:depth]], [[level.px, level.amount] for level in asks[:depth]]


def order_book(book: VenueBook, name: str, depth: int, change_id: int) -> Json:
    bids, asks = levels(book, name, depth)
    return {**ticker(book, name), "change_id": change_id, "bids": bids, "asks": asks}


def level_changes(before: list[list[float]], after: list[list[float]]) -> list[list[Any]]:
    """What turns one side of a book into another, as Deribit's change feed says it."""
    old, new = _amounts(before), _amounts(after)
    gone = [["delete", px, 0.0] for px in old if px not in new]
    moved = [["change" if px in old else "new", px, amount] for px, amount in after if old.get(px) != amount]
    return [*gone, *moved]


def summary(book: VenueBook, name: str) -> Json:
    listing, quotes = book.listings[name], book.quotes[name]
    bids, asks = book.book_of(name)
    said: Json = {
        "instrument_name": name,
        "base_currency": listing.coin,
        "quote_currency": listing.coin if listing.kind is Kind.OPTION and listing.is_inverse else listing.quote,
        "bid_price": bids[0].px if bids else None,
        "ask_price": asks[0].px if asks else None,
        "mid_price": quotes.mid_px if bids and asks else None,
        "mark_price": mark_px(book, listing),
        "last": quotes.last_px,
        "low": None,
        "high": None,
        "open_interest": 0.0,
        "price_change": None,
        "volume": 0.0,
        "volume_usd": 0.0,
        "estimated_delivery_price": index_px(book, listing),
        "creation_timestamp": quotes.ts_ms or book.now_ms(),
    }
    if listing.kind is Kind.OPTION:
        said |= {
            "mark_iv": _percent(quotes.mark_vol),
            "underlying_price": quotes.forward_px or index_px(book, listing),
            "underlying_index": f"SYN.{name.rsplit('-', 2)[0]}",
            "interest_rate": 0.0,
        }
    elif listing.kind is Kind.PERPETUAL:
        said |= {"current_funding": quotes.funding_rate, "funding_8h": quotes.funding_rate}
    return said


def mark_prices(book: VenueBook, index_name: str) -> list[Json]:
    return [
        {
            "timestamp": book.quotes[name].ts_ms or book.now_ms(),
            "instrument_name": name,
            "mark_price": mark_px(book, listing),
            "iv": book.quotes[name].mark_vol,
        }
        for name, listing in book.listings.items()
        if listing.kind is Kind.OPTION and listing.is_active and index_name_of(listing) == index_name
    ]


def prefixed(listing: Listing, number: str) -> str:
    """Deribit's ids carry the currency: ETH-1001, ETH_USDC-1001."""
    return f"{listing.name.split('-')[0]}-{number}"


def number_of(identity: str) -> str:
    """Return the book's id of a Deribit id."""
    return identity.rpartition("-")[2]


def order(book: VenueBook, placed: Order) -> Json:
    listing = book.listings[placed.name]
    return {
        "order_id": prefixed(listing, placed.order_id),
        "label": placed.client_id,
        "instrument_name": placed.name,
        "direction": "buy" if placed.is_buy else "sell",
        "order_type": "market" if placed.px is None else "limit",
        "order_state": STATES[placed.state],
        "amount": placed.amount,
        "contracts": placed.amount / listing.contract_size,
        "filled_amount": placed.filled,
        "average_price": round(placed.average_px, 6),
        "price": "market_price" if placed.px is None else placed.px,
        "time_in_force": TIMES[placed.time_in_force],
        "post_only": placed.is_post_only,
        "reduce_only": placed.is_reduce_only,
        "replaced": placed.is_replaced,
        "cancel_reason": placed.cancel_reason,
        "is_liquidation": False,
        "is_rebalance": False,
        "risk_reducing": False,
        "mmp": False,
        "api": True,
        "web": False,
        "max_show": placed.amount,
        "display_amount": placed.amount,
        "creation_timestamp": placed.created_ms,
        "last_update_timestamp": placed.updated_ms,
    }


def trade(book: VenueBook, done: Trade) -> Json:
    listing, placed = book.listings[done.name], book.orders[done.order_id]
    said: Json = {
        "trade_id": prefixed(listing, done.trade_id),
        "trade_seq": done.seq,
        "timestamp": done.ts_ms,
        "instrument_name": done.name,
        "order_id": prefixed(listing, done.order_id),
        "label": done.client_id,
        "direction": "buy" if done.is_buy else "sell",
        "amount": done.amount,
        "contracts": done.amount / listing.contract_size,
        "price": done.px,
        "fee": done.fee,
        "fee_currency": done.fee_coin,
        "liquidity": "M" if done.is_maker else "T",
        "state": STATES[placed.state],
        "order_type": "liquidation" if done.cause != "trade" else "market" if placed.px is None else "limit",
        "post_only": placed.is_post_only,
        "reduce_only": placed.is_reduce_only,
        "tick_direction": 0,
        "mark_price": mark_px(book, listing),
        "index_price": index_px(book, listing),
        "profit_loss": done.realized,
        "matching_id": None,
        "self_trade": False,
        "mmp": False,
        "risk_reducing": False,
        "api": True,
    }
    if done.cause != "trade":
        said["liquidation"] = "T"
    if listing.kind is Kind.OPTION:
        quotes = book.quotes[done.name]
        said |= {"iv": _percent(quotes.mark_vol), "underlying_price": quotes.forward_px or index_px(book, listing)}
    return said


def public_trade(book: VenueBook, done: Trade) -> Json:
    private = {"order_id", "label", "fee", "fee_currency", "liquidity", "state", "order_type", "post_only"}
    private |= {"reduce_only", "profit_loss", "matching_id", "self_trade", "mmp", "risk_reducing", "api"}
    return {name: value for name, value in trade(book, done).items() if name not in private}


def position(book: VenueBook, name: str) -> Json:
    held, listing = book.position(name), book.listings[name]
    mark = mark_px(book, listing)
    profit = book.unrealized(name) if listing.kind is not Kind.OPTION else held.amount * (mark - held.entry_px)
    said: Json = {
        "instrument_name": name,
        "kind": kind_of(listing),
        "direction": "zero" if not held.amount else "buy" if held.amount > 0 else "sell",
        "size": held.amount,
        "average_price": round(held.entry_px, 6),
        "mark_price": mark,
        "index_price": index_px(book, listing),
        "settlement_price": mark,
        "floating_profit_loss": round(profit, 9),
        "realized_profit_loss": round(held.realized, 9),
        "total_profit_loss": round(profit + held.realized, 9),
        "initial_margin": round(abs(listing.cash(held.amount, mark)) * book.margin_rate, 9) if mark else 0.0,
        "maintenance_margin": round(abs(listing.cash(held.amount, mark)) * book.margin_rate / 2, 9) if mark else 0.0,
        "open_orders_margin": 0.0,
        "delta": held.amount,
    }
    if listing.kind is Kind.OPTION:
        value = option_value(book, listing)
        said |= {
            "delta": round(held.amount * value.delta, 6),
            "gamma": round(held.amount * value.gamma, 8),
            "vega": round(held.amount * value.vega, 6),
            "theta": round(held.amount * value.theta, 6),
            "average_price_usd": round(held.entry_px * index_px(book, listing), 4),
            "floating_profit_loss_usd": round(profit * index_px(book, listing), 4),
        }
    else:
        base = held.amount / mark if listing.is_quote_sized and mark else held.amount
        said |= {
            "delta": round(base, 6),
            "size_currency": round(base, 9),
            "leverage": 50,
            "estimated_liquidation_price": None,
            "interest_value": 0.0,
            "realized_funding": 0.0,
        }
    return said


def account(book: VenueBook, currency: str) -> Json:
    equity, balance = book.equity(currency), book.balances.get(currency, 0.0)
    held = [name for name, one in book.positions.items() if one.amount and book.listings[name].settle == currency]
    margin = round(sum(position(book, name)["initial_margin"] for name in held), 9)
    return {
        "currency": currency,
        "balance": round(balance, 9),
        "equity": round(equity, 9),
        "margin_balance": round(equity, 9),
        "available_funds": round(equity - margin, 9),
        "available_withdrawal_funds": round(max(0.0, balance - margin), 9),
        "initial_margin": margin,
        "maintenance_margin": round(margin / 2, 9),
        "projected_initial_margin": margin,
        "projected_maintenance_margin": round(margin / 2, 9),
        "total_pl": round(equity - balance, 9),
        "session_upl": 0.0,
        "session_rpl": 0.0,
        "futures_pl": 0.0,
        "futures_session_upl": 0.0,
        "futures_session_rpl": 0.0,
        "options_pl": 0.0,
        "options_session_upl": 0.0,
        "options_session_rpl": 0.0,
        "options_value": 0.0,
        "options_delta": 0.0,
        "options_gamma": 0.0,
        "options_vega": 0.0,
        "options_theta": 0.0,
        "delta_total": 0.0,
        "projected_delta_total": 0.0,
        "fee_balance": 0.0,
        "additional_reserve": 0.0,
        "spot_reserve": 0.0,
        "portfolio_margining_enabled": False,
        "cross_collateral_enabled": False,
        "margin_model": "segregated_sm",
    }


# What a simulation charges: the edge of the grid, and the least roll shock; as recorded on 2026-02-15.
PRICE_RANGE, ROLL_SHARE = 0.18, 0.005


def simulated_margin(book: VenueBook, currency: str, supposed: Mapping[str, float]) -> float:
    """Portfolio margin in coin of futures and perpetuals alone: positions held, and those supposed, in base."""
    return sum(_matrix(book, currency, supposed))


def _matrix(book: VenueBook, currency: str, supposed: Mapping[str, float]) -> tuple[float, float]:
    base = {name: position(book, name)["delta"] for name in book.positions}
    for name, amount in supposed.items():
        base[name] = base.get(name, 0.0) + amount
    held = [amount for name, amount in base.items() if book.listings[name].settle == currency]
    net = sum(held)
    worst = -net * PRICE_RANGE / (1.0 + PRICE_RANGE) if net < 0.0 else net * PRICE_RANGE / (1.0 - PRICE_RANGE)
    return worst, ROLL_SHARE * sum(map(abs, held))


def model_params(coin: str) -> Json:
    """The parameters of one currency, as recorded on 2026-02-15 for ETH."""
    return {
        "general": {"timestamp": 1771197609587, "mm_factor": 0.8, "buckets_count": 4, "vol_scenarios_count": 3},
        "currency": {
            coin: {
                "min_annualised_move": ROLL_SHARE,
                "annualised_move_risk": 0.05,
                "pnl_offset": 0.6,
                "correlation_set": False,
                "equity_side_impact": "both",
                "haircut": 0,
                "extended_dampener": 200000,
                "max_offsetable_pnl": 20000000,
            }
        },
        "currency_pair": {
            f"{coin}_usd": {
                "price_range": PRICE_RANGE,
                "m_inc": 0.000004,
                "delta_total_liq_shock_threshold": 20000000,
                "max_delta_shock": 0.1,
                "min_volatility_for_shock_up": 0.5,
                "volatility_range_up": 0.4,
                "volatility_range_down": 0.25,
                "extended_table_factor": 1,
                "short_term_vega_power": 0.3,
                "long_term_vega_power": 0.13,
            }
        },
    }


def simulated_matrix(book: VenueBook, currency: str, supposed: Mapping[str, float]) -> Json:
    worst, roll = _matrix(book, currency, supposed)
    coin, index = currency.lower(), book.index.get(currency, 1.0)
    return {
        "model_params": model_params(coin),
        "index_price": {f"{coin}_usd": index},
        "portfolio": {"position": dict(supposed), "currency": {}},
        "margins": {
            coin: {
                "maintenance_margin": round(0.8 * (worst + roll), 12),
                "initial_margin": round(worst + roll, 9),
                "initial_margin_details": {
                    "open_orders_margin": 0,
                    "mmp_margin": 0,
                    "spot_margin": 0,
                    "risk_matrix_margin": worst + roll,
                    "risk_matrix_margin_details": {
                        "correlation_contingency": 0,
                        "worst_case": worst,
                        "worst_case_bucket": {"index": 1, "source": "standard", "bucket": 1, "side": "left"},
                        "roll_shock": roll,
                        "delta_shock": 0,
                    },
                },
            }
        },
    }


def delivery_settlements(book: VenueBook, delivery: Delivery) -> list[Json]:
    """What was delivered at an expiry, one entry per instrument."""
    return [
        {
            "type": "delivery",
            "timestamp": delivery.ts_ms,
            "instrument_name": name,
            "index_price": delivery.px,
            "mark_price": delivery.px,
            "position": 0.0,
            "profit_loss": 0.0,
            "session_profit_loss": 0.0,
        }
        for name, listing in book.listings.items()
        if listing.coin == delivery.coin and listing.expiry_ms == delivery.expiry_ms
    ]


def changes(book: VenueBook, change: Change) -> Json:
    """The `user.changes` notification of one change."""
    return {
        "instrument_name": change.name,
        "orders": [order(book, change.order)] if change.order else [],
        "trades": [trade(book, change.trade)] if change.trade else [],
        "positions": [position(book, change.name)],
    }


def _amounts(side: list[list[float]]) -> dict[float, float]:
    return {px: amount for px, amount in side}  # noqa: C416 - of pairs that are lists


def _percent(vol: float) -> float:
    return round(vol * 100, 2)


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))
