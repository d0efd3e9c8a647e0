"""Deribit's margin: account summaries by currency, one pool of them in USD with cross collateral, and what-if queries.

`private/pme/simulate` answers with every item of portfolio margin; ccxt has no method for it, but signs any path. It is
for portfolio margin only: accounts with standard margin are asked `private/simulate_portfolio`, which tells sums.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import ccxt.pro

from bot.domain.risk import ReportedMargin, SupposedMargin
from bot.gateways.margin_words import items_of, lines, reported
from bot.gateways.market_words import number, part

POOL: Final = "cross"
_DOLLARS: Final = frozenset({"USDC", "USDT", "USDE", "USYC", "BUIDL", "USD"})


async def read_margins(exchange: ccxt.pro.Exchange, info: object) -> tuple[ReportedMargin, ...]:
    """Return the margin of every currency with equity or margin, and of the pool; in USD by Deribit's own index.

    A currency whose index cannot be had is told with NaN: it is there, and nobody knows what it is worth.
    """
    found: list[ReportedMargin] = []
    pool: tuple[ReportedMargin, ...] = ()
    apart: list[Mapping[str, Any]] = []
    for summary in lines(part(info, "summaries")) or [info]:
        if not isinstance(summary, Mapping):
            continue
        if part(summary, "cross_collateral_enabled") is True:
            equity, initial = part(summary, "total_margin_balance_usd"), part(summary, "total_initial_margin_usd")
            pool = pool or reported(POOL, equity, initial, part(summary, "total_maintenance_margin_usd"))
        elif any(number(part(summary, name)) for name in ("equity", "initial_margin", "maintenance_margin")):
            apart.append(summary)
    prices = await index_prices(exchange, (str(part(one, "currency")) for one in apart))
    for one in apart:
        currency = str(part(one, "currency"))
        equity = part(one, "equity") if part(one, "margin_balance") is None else part(one, "margin_balance")
        initial, maintenance = part(one, "initial_margin"), part(one, "maintenance_margin")
        found += reported(currency, equity, initial, maintenance, prices[currency])
    return (*pool, *found)


async def is_cross(exchange: ccxt.pro.Exchange) -> bool:
    """Tell whether the account has a pool of cross collateral. Raises what ccxt raises."""
    summaries = lines(part(part(await exchange.privateGetGetAccountSummaries(), "result"), "summaries"))
    return any(part(one, "cross_collateral_enabled") is True for one in summaries)


async def simulate(exchange: ccxt.pro.Exchange, currency: str, positions: Mapping[str, float]) -> SupposedMargin:
    """Return what Deribit would ask with these positions added: instrument name → base. Raises what ccxt raises.

    `currency` is CROSS for an account with cross collateral. Items are worth of it at the index of the answer.
    """
    asked = {
        "currency": currency,
        "add_positions": "true",
        "simulated_positions": json.dumps(dict(positions), separators=(",", ":")),
    }
    try:
        answer = await exchange.request("pme/simulate", ["private"], "GET", asked)
    except (ccxt.BadRequest, ccxt.PermissionDenied, ccxt.NotSupported, ccxt.InvalidOrder):
        return await simulate_sums(exchange, currency, positions)
    result = part(answer, "result")
    margins = part(result, "margins")
    if not isinstance(margins, dict) or not margins:
        raise ccxt.BadResponse(f"deribit: expected simulated margins, found {str(answer)[:100]}")
    index = part(result, "index_price")
    found: list[ReportedMargin] = []
    items: dict[str, float] = {}
    for coin, told in margins.items():
        px = 1.0 if coin.upper() in _DOLLARS else number(part(index, f"{coin}_usd")) or math.nan
        found += reported(coin.upper(), None, part(told, "initial_margin"), part(told, "maintenance_margin"), px)
        items.update(items_of(coin.upper(), part(told, "initial_margin_details"), px))
    return SupposedMargin(tuple(found), items)


async def read_terms(exchange: ccxt.pro.Exchange, currencies: Iterable[str]) -> dict[str, Any]:
    """Return the parameters of portfolio margin in use, as an empty simulation of each currency tells them.

    Raises what ccxt raises, as for an account without portfolio margin.
    """
    found: dict[str, Any] = {}
    for currency in ["CROSS"] if await is_cross(exchange) else sorted(currencies):
        asked = {"currency": currency, "add_positions": "true"}
        told = part(part(await exchange.request("pme/simulate", ["private"], "GET", asked), "result"), "model_params")
        if not isinstance(told, dict):
            raise ccxt.BadResponse(f"deribit: expected model_params, found {str(told)[:100]}")
        for name, value in told.items():
            found[name] = {**found.get(name, {}), **value} if isinstance(value, dict) else value
    return found


async def simulate_sums(exchange: ccxt.pro.Exchange, currency: str, positions: Mapping[str, float]) -> SupposedMargin:
    """Return the sums that `private/simulate_portfolio` tells. Raises what ccxt raises."""
    asked = {"currency": currency, "add_positions": "true", "simulated_positions": json.dumps(dict(positions))}
    result = part(await exchange.privateGetSimulatePortfolio(asked), "result")
    margins = await read_margins(exchange, result)
    if not margins:
        raise ccxt.BadResponse(f"deribit: expected a simulated portfolio, found {str(result)[:100]}")
    return SupposedMargin(margins)


async def index_prices(exchange: ccxt.pro.Exchange, currencies: Iterable[str]) -> dict[str, float]:
    """Return the USD index of each currency; NaN where it is not told."""
    found: dict[str, float] = {}
    for currency in currencies:
        if currency in _DOLLARS:
            found[currency] = 1.0
        elif currency not in found:
            try:
                answer = await exchange.publicGetGetIndexPrice({"index_name": f"{currency.lower()}_usd"})
            except ccxt.BaseError:
                answer = {}
            found[currency] = number(part(part(answer, "result"), "index_price")) or math.nan
    return found
