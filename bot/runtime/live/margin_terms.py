"""Margin parameters as venues tell them: asked now and then, checked by the model, and news to the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Protocol, runtime_checkable

import ccxt
import msgspec
import structlog

from bot.domain.risk import MarginTerms
from bot.domain.units import NS_PER_S
from bot.gateways.gateway import Clock, Put
from bot.gateways.outcomes import text_of
from bot.risk.margin import binance, deribit_portfolio, hyperliquid
from bot.risk.parameters import ParameterSet

# What makes values of a set and a venue's words new values; models that are not here are told by nobody.
UPDATERS: Final[Mapping[str, Callable[[dict[str, Any], Mapping[str, Any]], dict[str, Any]]]] = {
    "binance": binance.updated,
    "deribit_portfolio": deribit_portfolio.updated,
    "hyperliquid": hyperliquid.updated,
}
KEPT_DAYS: Final = 7  # a venue that stopped telling is believed this long
_EVERY_S: Final = 3600.0
_REST: Final = "; what it does not tell: "

log = structlog.get_logger()


@runtime_checkable
class TellsTerms(Protocol):
    """A gateway that can be asked for the parameters of margin."""

    async def margin_terms(self) -> dict[str, Any]:
        """Return them in the venue's words, empty where it does not tell."""


def told_set(venue: str, current: ParameterSet, told: Mapping[str, Any], today: date) -> ParameterSet | None:
    """Return the set that a venue's words make of the current one; None for what says nothing new today.

    Raises ValueError where they make no parameters of the model.
    """
    if not told or current.model not in UPDATERS:
        return None
    try:
        values = UPDATERS[current.model](current.values, told)
    except (KeyError, TypeError, ZeroDivisionError, OverflowError, msgspec.ValidationError) as error:
        raise ValueError(f"expected margin parameters of {venue}, found {type(error).__name__}: {error}") from None
    if values == current.values and current.as_of >= today:
        return None
    rest = current.source.rpartition(_REST)[2]
    return msgspec.structs.replace(
        current,
        name=f"{venue} {today}",
        as_of=today,
        expires=today + timedelta(days=KEPT_DAYS),
        source=f"told by {venue} on {today}{_REST}{rest}",
        values=values,
    )


class TermsPoll:
    """Asks venues for their margin parameters every hour and puts what is new; a failure changes nothing but the log.

    `current` is the set in use by venue.
    """

    def __init__(
        self, gateways: Mapping[str, object], current: Mapping[str, ParameterSet], put: Put, clock: Clock
    ) -> None:
        self.current = dict(current)
        self.every_s = _EVERY_S
        self._gateways = gateways
        self._put = put
        self._clock = clock

    async def run(self) -> None:
        """Ask until cancelled, at once the first time."""
        while True:
            for venue in sorted(self.current):
                await self.ask(venue)
            await asyncio.sleep(self.every_s)

    async def ask(self, venue: str) -> None:
        """Ask one venue once."""
        gateway = self._gateways.get(venue)
        if not isinstance(gateway, TellsTerms) or self.current[venue].model not in UPDATERS:
            return
        try:
            told = await gateway.margin_terms()
            now_ns = self._clock.now_ns()
            found = told_set(venue, self.current[venue], told, _day(now_ns))
        except (ccxt.BaseError, ValueError) as error:
            log.warning("margin.not_told", venue=venue, why=text_of(error))
            return
        if found is not None:
            self.current[venue] = found
            self._put([MarginTerms(venue, msgspec.json.encode(found).decode(), now_ns, now_ns)])


def _day(now_ns: int) -> date:
    return datetime.fromtimestamp(now_ns // NS_PER_S, UTC).date()
