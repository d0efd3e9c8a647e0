"""Binance's margin: of USD-M futures as the account answer tells it, of portfolio margin and options by their own."""

from __future__ import annotations

from typing import Any

import ccxt.pro

from bot.domain.risk import ReportedMargin
from bot.gateways.margin_words import lines, reported
from bot.gateways.market_words import number, part


def read_margins(info: object) -> tuple[ReportedMargin, ...]:
    """Return the margin of USD-M futures, in USD: the account's sums, else by asset (all of them dollars)."""
    names = ("totalMarginBalance", "totalInitialMargin", "totalMaintMargin")
    whole = reported("", *(part(info, name) for name in names))
    if whole:
        return whole
    found: list[ReportedMargin] = []
    for one in lines(part(info, "assets")):
        if number(part(one, "marginBalance")) or number(part(one, "maintMargin")):
            sums = (part(one, name) for name in ("marginBalance", "initialMargin", "maintMargin"))
            found += reported(str(part(one, "asset")), *sums)
    return tuple(found)


async def read_portfolio(exchange: ccxt.pro.Exchange) -> tuple[ReportedMargin, ...]:
    """Return the margin of a portfolio margin account: uniMMR is equity over maintenance. Raises what ccxt raises."""
    told = await exchange.papiGetAccount()
    return reported("", *(part(told, name) for name in ("accountEquity", "accountInitialMargin", "accountMaintMargin")))


async def read_options(exchange: ccxt.pro.Exchange) -> tuple[ReportedMargin, ...]:
    """Return the margin of European options, by asset. Raises what ccxt raises."""
    told = await exchange.eapiPrivateGetMarginAccount()
    found: list[ReportedMargin] = []
    for one in lines(part(told, "asset")):
        sums = (part(one, name) for name in ("equity", "initialMargin", "maintMargin"))
        found += reported(f"options {part(one, 'asset')}", *sums)
    return tuple(found)


async def read_terms(exchange: ccxt.pro.Exchange) -> dict[str, list[Any]]:
    """Return the brackets of USD-M perpetuals in use, by underlying; of two contracts the stricter.

    Raises what ccxt raises.
    """
    found: dict[str, list[Any]] = {}
    for line in lines(await exchange.fapiPrivateGetLeverageBracket()):
        market = exchange.safe_market(part(line, "symbol"), None, None, "contract")
        base, brackets = part(market, "base"), lines(part(line, "brackets"))
        if base and brackets and part(market, "swap") and _rates(brackets) > _rates(found.get(str(base), [])):
            found[str(base)] = brackets
    return found


def _rates(brackets: list[Any]) -> list[float]:
    return [number(part(one, "maintMarginRatio")) or 0.0 for one in brackets]
