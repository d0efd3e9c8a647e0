"""What a venue's markets and market data say, turned into our words: numbers checked, units made ours.

`MarketWords` speaks ccxt's unified words, which fit any exchange; a venue's own class (as in
`bot.gateways.deribit.market`) overrides where the venue says more, or says it differently. It must never guess a value
the venue did not give, and never raise on what a venue sends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar, Final

from bot.domain.instruments import TickSchedule, TickStep
from bot.domain.units import BPS

Raw = Mapping[str, Any]
"""A dict of ccxt's or the venue's, of which nothing is sure but that it is one."""

CONTRACT_TYPES: Final = ("swap", "future", "option")


def number(value: object) -> float | None:
    """Return a finite number of a JSON value (text too, as venues send), or None if it is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        parsed = float(value)
    except (ValueError, OverflowError):
        return None
    return parsed if math.isfinite(parsed) else None


def positive(value: object) -> float | None:
    """Return a finite number above 0, or None."""
    parsed = number(value)
    return parsed if parsed is not None and parsed > 0 else None


def whole(value: object) -> int | None:
    """Return an integer of a JSON value (a whole float or text too), or None if it is not one."""
    parsed = number(value)
    return int(parsed) if parsed is not None and parsed == int(parsed) else None


def part(value: object, key: str | int) -> Any:  # noqa: ANN401
    """Return `value[key]` of a dict or list, None where there is no such thing."""
    if isinstance(value, Mapping):
        return value.get(key)
    if isinstance(value, list | tuple) and isinstance(key, int) and -len(value) <= key < len(value):
        return value[key]
    return None


def tick_schedule(tick_px: object, steps: tuple[tuple[object, object], ...] = ()) -> TickSchedule | None:
    """Return the schedule of a finest tick and (from price, tick there) steps; None unless all fit the finest tick."""
    finest = positive(tick_px)
    if finest is None:
        return None
    schedule: list[TickStep] = []
    for from_px, coarser in steps:
        start, tick = positive(from_px), positive(coarser)
        if start is None or tick is None:
            return None
        size = Decimal(str(tick)) / Decimal(str(finest))
        if size != int(size):
            return None
        schedule.append(TickStep(start, int(size)))
    return TickSchedule(finest, tuple(sorted(schedule, key=lambda step: step.from_px)))


class MarketWords:
    """The unified words of ccxt: what any exchange says about its markets."""

    tells_fees: ClassVar[bool] = False  # else ccxt's market fees are a table somebody typed in, not the venue's word
    spot_shares_ids: ClassVar[bool] = False  # whether spot and contracts are listed under the same id

    def is_plain(self, market: Raw) -> bool:
        """Tell whether a market is one instrument that we know the kind of, not a combination of several."""
        return market.get("type") == "spot" or market.get("type") in CONTRACT_TYPES

    def native_id(self, market: Raw) -> str:
        """Return the venue's own name of a market: what people write in vault files."""
        return str(market["symbol"] if self.spot_shares_ids and market.get("type") == "spot" else market["id"])

    def contract_size(self, market: Raw) -> float | None:
        """Return what one contract is, in base units (quote for inverse futures); 1 for spot."""
        return 1.0 if market.get("type") == "spot" else positive(market.get("contractSize"))

    def contract_amount(self, market: Raw) -> float | None:  # noqa: ARG002
        """Return ccxt's amount of one contract: 1 where ccxt counts contracts, else the contract's size."""
        return 1.0

    def price_currency(self, market: Raw) -> str | None:
        """Return what prices are told in; None for inverse options, of which venues differ."""
        is_inverse_option = market.get("type") == "option" and market.get("inverse")
        return None if is_inverse_option else str(market["quote"])

    def tick_schedule(self, market: Raw) -> TickSchedule | None:
        """Return the prices a market allows."""
        return tick_schedule(part(market.get("precision"), "price"))

    def fees_bps(self, market: Raw) -> tuple[float | None, float | None]:
        """Return taker and maker fee, None unless the venue itself tells them."""
        if not self.tells_fees:
            return None, None
        taker, maker = number(market.get("taker")), number(market.get("maker"))
        return (
            None if taker is None else round(taker / BPS, 9),
            None if maker is None else round(maker / BPS, 9),
        )
