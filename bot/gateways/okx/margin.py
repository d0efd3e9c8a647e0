"""OKX's margin: of the account in USD, or by currency where the account has but one currency's margin; what-if queries.

The position builder answers with every part (mr1 to mr9) of each risk unit; it takes contracts, twice in 2 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ccxt.pro

from bot.domain.risk import ReportedMargin, SupposedMargin, SupposedPosition
from bot.gateways.margin_words import items_of, lines, reported
from bot.gateways.market_words import number, part


def read_margins(info: object) -> tuple[ReportedMargin, ...]:
    """Return the margin of the account, in USD: as a whole where OKX says so, else by currency.

    A currency's price is what OKX itself counts it as.
    """
    account = part(part(info, "data"), 0)
    whole = reported("", part(account, "adjEq"), part(account, "imr"), part(account, "mmr"))
    if whole:
        return whole
    found: list[ReportedMargin] = []
    for one in lines(part(account, "details")):
        equity, usd = number(part(one, "eq")), number(part(one, "eqUsd"))
        if equity and usd:
            margins = reported(str(part(one, "ccy")), equity, part(one, "imr"), part(one, "mmr"), usd / equity)
            found += margins
    return tuple(found)


async def build_positions(
    exchange: ccxt.pro.Exchange, changes: Sequence[tuple[str, SupposedPosition]]
) -> SupposedMargin:
    """Return what OKX would ask after changes of the account's positions, by ccxt symbol. Raises what ccxt raises."""
    supposed = [
        {
            "instId": str(exchange.market(symbol)["id"]),
            "pos": exchange.decimal_to_precision(contracts_of(exchange.market(symbol), change), 1, 8, 2),
            "avgPx": f"{change.px:.10g}",
        }
        for symbol, change in changes
    ]
    answer = await exchange.privatePostAccountPositionBuilder({"inclRealPosAndEq": True, "simPos": supposed})
    told = part(part(answer, "data"), 0)
    margins = reported("", part(told, "eq"), part(told, "totalImr"), part(told, "totalMmr"))
    if not margins:
        raise ccxt.BadResponse(f"okx: expected a built portfolio, found {str(answer)[:100]}")
    items: dict[str, float] = {}
    for unit in lines(part(told, "riskUnitData")):
        parts: dict[str, Any] = {name: part(unit, name) for name in ("imr", "mmr", *(f"mr{n}" for n in range(1, 10)))}
        items.update(items_of(str(part(unit, "riskUnit")), parts))
    return SupposedMargin(margins, items)


def contracts_of(market: Any, change: SupposedPosition) -> float:  # noqa: ANN401
    """Return a change in contracts: of base where the contract is linear, of its value where it is inverse."""
    size = number(part(market, "contractSize")) or 1.0
    is_coin_value = part(market, "inverse") is True and not part(market, "option")
    return change.qty_base * change.px / size if is_coin_value else change.qty_base / size
