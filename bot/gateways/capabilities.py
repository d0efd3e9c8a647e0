"""What a venue can do through ccxt, in our words: the rows of `evenkeel doctor`. Declared by ccxt, not tried out."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import ccxt.pro

from bot.gateways.market_words import Sort
from bot.gateways.markets import market_words_of

STREAM: Final = "stream"
POLL: Final = "poll"
YES: Final = "yes"
EMULATED: Final = "emulated"
NONE: Final = "none"
# What is worth knowing of each switch before one relies on it; some of them ccxt has no word for.
DEAD_MAN: Final[dict[str, str]] = {
    "binancecoinm": "a countdown for each symbol",
    "binanceusdm": "a countdown for each symbol",
    "bybit": "institutional clients only, once the private connection is lost",
    "deribit": "cancels what was ordered on a connection that is lost: needs a connection of our own",
    "hyperliquid": "ten times a day, and only after a million USD traded",
    "okx": "a countdown of 10 to 120 s",
}


class Capability(NamedTuple):
    """One row: what, how the venue does it, and what follows for a hedger where that is worth saying."""

    what: str
    how: str
    note: str = ""


def capabilities(exchange: ccxt.pro.Exchange) -> tuple[Capability, ...]:
    """Return what ccxt admits about a venue: market data first, then the account, then orders."""
    return (
        *_market_data(exchange),
        Capability("funding history", _any(exchange, "fetchFundingRateHistory")),
        Capability("own orders", _how(exchange, "watchOrders", "fetchOpenOrders")),
        Capability("own trades", _how(exchange, "watchMyTrades", "fetchMyTrades")),
        Capability("positions", _how(exchange, "watchPositions", "fetchPositions")),
        Capability("balances", _how(exchange, "watchBalance", "fetchBalance")),
        Capability("order by id", _any(exchange, "fetchOrder")),
        Capability("post-only", _feature(exchange, "timeInForce", "PO")),
        Capability("immediate or cancel", _feature(exchange, "timeInForce", "IOC")),
        Capability("amend", _any(exchange, "editOrder"), _note(exchange, "editOrder")),
        Capability("cancel all", _any(exchange, "cancelAllOrders")),
        Capability("dead man's switch", *_dead_man(exchange)),
    )


def _market_data(exchange: ccxt.pro.Exchange) -> tuple[Capability, ...]:
    words = market_words_of(exchange.id)
    rows = []
    for what, sort in (("quotes", Sort.QUOTES), ("option vols", Sort.VOLS), ("index", Sort.INDEX)):
        is_listed = sort is not Sort.VOLS or bool(exchange.has.get("option"))
        if is_listed and words.subscription(sort, exchange) is not None:
            how = STREAM
        else:
            how = POLL if is_listed and words.tells(sort, exchange) else NONE
        rows.append(Capability(what, how))
    chain = POLL if words.chain_tells_all else NONE
    note = "" if words.chain_tells_all or not exchange.has.get("option") else "neighbouring strikes are not seen"
    return (*rows, Capability("whole option chain", chain, note))


def _how(exchange: ccxt.pro.Exchange, watch: str, fetch: str) -> str:
    if exchange.has.get(watch) is True:
        return STREAM
    return POLL if exchange.has.get(fetch) else NONE


def _any(exchange: ccxt.pro.Exchange, method: str) -> str:
    found = exchange.has.get(method)
    return EMULATED if found == "emulated" else YES if found else NONE


def _note(exchange: ccxt.pro.Exchange, method: str) -> str:
    is_emulated = exchange.has.get(method) == "emulated"
    return "a cancel and a new order: never used for orders of ours" if is_emulated else ""


def _feature(exchange: ccxt.pro.Exchange, group: str, name: str) -> str:
    """Return whether any market type of the venue has a feature of create_order."""
    features: Any = exchange.features or {}
    kinds = [features.get("spot"), *(part for kind in ("swap", "future") for part in _parts(features.get(kind)))]
    found = [(((kind or {}).get("createOrder") or {}).get(group) or {}).get(name) for kind in kinds]
    return YES if any(found) else NONE


def _parts(kind: Any) -> list[Any]:  # noqa: ANN401
    return [kind.get("linear"), kind.get("inverse")] if isinstance(kind, dict) else []


def _dead_man(exchange: ccxt.pro.Exchange) -> tuple[str, str]:
    if exchange.id in DEAD_MAN:
        return YES, DEAD_MAN[exchange.id]
    if exchange.has.get("cancelAllOrdersAfter") is True:
        return YES, "a countdown"
    return NONE, "resting orders are short-lived instead"
