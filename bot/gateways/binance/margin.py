"""Binance's margin: of USD-M futures as the account answer tells it, of portfolio margin and options by their own."""

from __future__ import annotations

import ccxt.pro

from bot.domain.risk import ReportedMargin
from bot.gateways.margin_words import reported
from bot.gateways.market_words import number, part


def read_margins(info: object) -> tuple[ReportedMargin, ...]:
    """Return the margin of USD-M futures, in USD: the account's sums, else by asset (all of them dollars)."""
    names = ("totalMarginBalance", "totalInitialMargin", "totalMaintMargin")
    whole = reported("", *(part(info, name) for name in names))
    if whole:
        return whole
    found: list[ReportedMargin] = []
    for one in part(info, "assets") or []:
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
    for one in part(told, "asset") or []:
        sums = (part(one, name) for name in ("equity", "initialMargin", "maintMargin"))
        found += reported(f"options {part(one, 'asset')}", *sums)
    return tuple(found)
