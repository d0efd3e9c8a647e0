"""Hyperliquid's margin: of cross positions, in USDC."""

from __future__ import annotations

from bot.domain.risk import ReportedMargin
from bot.gateways.margin_words import reported
from bot.gateways.market_words import part


def read_margins(info: object) -> tuple[ReportedMargin, ...]:
    """Return the margin of the account's cross positions, as its clearinghouse state has it."""
    cross = part(info, "crossMarginSummary")
    return reported(
        "", part(cross, "accountValue"), part(cross, "totalMarginUsed"), part(info, "crossMaintenanceMarginUsed")
    )
