"""Asking a venue what it would ask for: positions that are supposed are sent where it has a query for that."""

from __future__ import annotations

from collections.abc import Sequence

import ccxt.pro

from bot.domain.risk import SupposedMargin, SupposedPosition
from bot.gateways.markets import Markets
from bot.gateways.order_words import OrderWords


async def suppose(
    exchange: ccxt.pro.Exchange, markets: Markets, words: OrderWords, changes: Sequence[SupposedPosition]
) -> SupposedMargin | None:
    """Return what the venue would ask after changes of the account's positions; None where it has no such query.

    Raises KeyError for an instrument that is not listed, and what ccxt raises.
    """
    for change in changes:
        if markets.get(change.instrument_id) is None:
            raise KeyError(f"expected a listed instrument, found {change.instrument_id}")
    return await words.suppose(exchange, [(markets.symbol_of(one.instrument_id), one) for one in changes])
