"""Hyperliquid's margin: of cross positions, in USDC."""

from __future__ import annotations

from typing import Any

import ccxt.pro

from bot.domain.risk import ReportedMargin
from bot.gateways.margin_words import lines, reported
from bot.gateways.market_words import number, part


def read_margins(info: object) -> tuple[ReportedMargin, ...]:
    """Return the margin of the account's cross positions, as its clearinghouse state has it."""
    cross = part(info, "crossMarginSummary")
    return reported(
        "", part(cross, "accountValue"), part(cross, "totalMarginUsed"), part(info, "crossMaintenanceMarginUsed")
    )


async def read_terms(exchange: ccxt.pro.Exchange) -> dict[str, list[Any]]:
    """Return the leverage tiers in use, by coin: of its margin table, else its greatest leverage alone.

    Raises what ccxt raises.
    """
    told = await exchange.publicPostInfo({"type": "meta"})
    tables = {part(one, 0): lines(part(part(one, 1), "marginTiers")) for one in lines(part(told, "marginTables"))}
    found: dict[str, list[Any]] = {}
    for coin in lines(part(told, "universe")):
        alone = [{"lowerBound": 0.0, "maxLeverage": part(coin, "maxLeverage")}]
        tiers = tables.get(part(coin, "marginTableId")) or alone
        if all(number(part(tier, "maxLeverage")) for tier in tiers):
            found[str(part(coin, "name"))] = tiers
    return found
