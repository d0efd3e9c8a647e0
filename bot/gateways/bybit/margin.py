"""Bybit's margin: of the unified account in USD, and the stress grid it shows of portfolio margin."""

from __future__ import annotations

import ccxt.pro

from bot.domain.risk import MarginGrid, ReportedMargin
from bot.gateways.margin_words import lines, reported
from bot.gateways.market_words import number, part


def read_margins(info: object) -> tuple[ReportedMargin, ...]:
    """Return the margin of the unified account; nothing for accounts whose positions are isolated."""
    account = part(part(part(info, "result"), "list"), 0)
    names = ("totalMarginBalance", "totalInitialMargin", "totalMaintenanceMargin")
    return reported("", *(part(account, name) for name in names))


async def read_grids(exchange: ccxt.pro.Exchange, base: str = "") -> tuple[MarginGrid, ...]:
    """Return Bybit's own stress grid of each coin, or of one. Raises what ccxt raises.

    A line that lacks its sums or has no P&L at all is left out: a grid that is not whole proves nothing.
    """
    answer = await exchange.privateGetV5AssetPortfolioMargin({"baseCoin": base} if base else {})
    assets = part(part(answer, "result"), "assetPnlRange")
    if not isinstance(assets, list):
        raise ccxt.BadResponse(f"bybit: expected portfolio margin, found {str(answer)[:100]}")
    found = []
    for line in assets:
        ranges = lines(part(part(part(line, "totalPnlRanges"), "ALL"), "pnlRanges"))
        pnls = [number(pnl) for one in ranges for pnl in lines(part(one, "pnls"))]
        sums = [number(part(part(line, "asset"), name)) for name in ("assetIM", "assetMM")]
        contingency = number(part(part(line, "contingency"), "contingencyComponents"))
        told = tuple(pnl for pnl in pnls if pnl is not None)
        if told and len(told) == len(pnls) and sums[0] is not None and sums[1] is not None and contingency is not None:
            found.append(MarginGrid(str(part(line, "baseCoin")), told, contingency, sums[0], sums[1]))
    return tuple(found)
