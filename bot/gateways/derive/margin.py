"""Derive's margin by subaccount: it tells what is left over, positive where healthy, and what collateral counts for."""

from __future__ import annotations

from bot.domain.risk import ReportedMargin
from bot.gateways.margin_words import lines, reported
from bot.gateways.market_words import number, part


def read_margins(info: object) -> tuple[ReportedMargin, ...]:
    """Return the margin of each subaccount: what collateral counts for at maintenance, less what is left over of it.

    Orders are counted as initial margin. One subaccount is the whole account.
    """
    found: list[ReportedMargin] = []
    subaccounts = [one for one in lines(info) if isinstance(one, dict)]
    for one in subaccounts:
        equity = number(part(one, "collaterals_maintenance_margin"))
        equity = number(part(one, "subaccount_value")) if equity is None else equity
        left, spare = number(part(one, "initial_margin")), number(part(one, "maintenance_margin"))
        orders = number(part(one, "open_orders_margin")) or 0.0
        if equity is None:
            continue
        initial = None if left is None else equity - left + abs(orders)
        scope = "" if len(subaccounts) == 1 else str(part(one, "subaccount_id"))
        found += reported(scope, equity, initial, None if spare is None else equity - spare)
    return tuple(found)
