"""Watches what the venues of a live vault show of their health, for as long as the run lasts.

Only where a `risk` section asks for it and names the venue's account: what is seen stops hedges there, or moves them
away. A venue whose pages cannot be read is told as unknown; nothing here ends a run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

import ccxt.pro
import msgspec
import structlog

from bot.domain.events import Event
from bot.domain.instruments import Perpetual
from bot.domain.risk import TransferState, TransferUpdate
from bot.domain.units import NS_PER_S
from bot.engine.settings import EngineSettings
from bot.gateways.counterparty_watch import CounterpartyWatch, PerpPrices, WatchSettings
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from bot.gateways.gateway import Clock, Put
from bot.gateways.markets import Markets
from bot.gateways.outcomes import text_of
from bot.risk.transfers import Route
from bot.runtime.configuration.vault import Vault
from bot.runtime.configuration.venues import prefix_of, vault_credentials, venue_settings

_RETRY_S: Final = 60.0
_MOST_TRANSFERS: Final = 1_000

log = structlog.get_logger()


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """One venue to watch: how it is reached, which coins have to be able to leave, and what we trade there.

    `compared_id` is the perpetual whose price is compared with other venues, "" for none.
    """

    settings: VenueSettings
    credentials: Credentials
    prefix: str = ""
    coins: tuple[str, ...] = ()
    instrument_ids: tuple[str, ...] = ()
    compared_id: str = ""


class LiveSigns:
    """The watches of a run; `run` tells what they see, and `note` shows them how transfers of ours go."""

    def __init__(
        self, watched: Sequence[Watched], clock: Clock, routes: Sequence[Route] = (), *, poll_ns: int = 60 * NS_PER_S
    ) -> None:
        self._watched = tuple(watched)
        self._clock = clock
        self._poll_ns = poll_ns
        self._p95_ns = {(one.asset, one.from_venue, one.to_venue, one.name): one.p95_ns for one in routes}
        self._watches: dict[str, CounterpartyWatch] = {}
        self._sent_ns: dict[str, int] = {}

    async def run(self, sink: Put) -> None:
        """Watch until cancelled."""
        prices = PerpPrices()
        async with asyncio.TaskGroup() as tasks:
            for one in self._watched:
                tasks.create_task(self._follow(one, sink, prices), name=f"signs of {one.settings.venue}")

    def note(self, events: Sequence[Event]) -> None:
        """Take in how withdrawals go: one that takes longer than its route's p95 makes its venue slow."""
        for event in events:
            if not isinstance(event, TransferUpdate):
                continue
            sent_ns = self._sent_ns.setdefault(event.transfer_id, event.ts_recv_ns)
            route = (event.asset, event.from_venue, event.to_venue, event.route)
            p95_ns = self._p95_ns.get(route)
            is_late = p95_ns is not None and event.ts_recv_ns - sent_ns > p95_ns
            if event.from_venue in self._watches:
                self._watches[event.from_venue].note_transfer(event, is_late=is_late)
            if event.state in {TransferState.ARRIVED, TransferState.FAILED} or len(self._sent_ns) > _MOST_TRANSFERS:
                self._sent_ns.pop(event.transfer_id, None)

    async def _follow(self, one: Watched, sink: Put, prices: PerpPrices) -> None:
        venue = one.settings.venue
        async with AsyncExitStack() as stack:
            exchange = open_exchange(one.settings, one.credentials)
            stack.push_async_callback(exchange.close)
            markets = await self._markets(one, exchange)
            known = [name for name in one.instrument_ids if markets.get(name) is not None]
            settings = WatchSettings(
                party=venue,
                coins=one.coins,
                symbols=tuple(markets.symbol_of(name) for name in known),
                discount_symbol=markets.symbol_of(one.compared_id) if one.compared_id in known else "",
                poll_ns=self._poll_ns,
            )
            watch = self._watches[venue] = CounterpartyWatch(exchange, settings, self._clock, sink, prices)
            await watch.run()

    async def _markets(self, one: Watched, exchange: ccxt.pro.Exchange) -> Markets:
        """Return the venue's markets, however long it takes until it lists them."""
        while True:
            try:
                return await Markets.load(exchange, one.settings.venue, one.settings.underlyings, one.prefix)
            except ccxt.BaseError as error:
                log.warning("counterparty.page", party=one.settings.venue, page="markets", problem=text_of(error))
            await asyncio.sleep(_RETRY_S)


def open_signs(vault: Vault, settings: EngineSettings, environ: Mapping[str, str], clock: Clock) -> LiveSigns | None:
    """Return the watches of a live vault, None where it asks for none; a paper run watches without keys."""
    if vault.risk is None or not vault.risk.watch_counterparties or settings.risk is None:
        return None
    venues, credentials = venue_settings(vault, environ), vault_credentials(vault, environ)
    hedges = [hedge.instrument for hedges in settings.hedges.values() for hedge in hedges]
    watched: list[Watched] = []
    for venue, account in settings.risk.accounts.items():
        if venue not in venues:
            continue  # a chain shows its health in its reports
        here = [one for one in hedges if one.venue == venue]
        coins = dict.fromkeys((*account.collateral, *(one.settle for one in here)))
        compared = next((one.instrument_id for one in here if isinstance(one, Perpetual)), "")
        watched.append(
            Watched(
                settings=venues[venue],
                credentials=credentials[venue],
                prefix=prefix_of(vault, venue),
                coins=tuple(coins),
                instrument_ids=tuple(one.instrument_id for one in here),
                compared_id=compared,
            )
        )
    return LiveSigns(watched, clock, settings.risk.transfers.routes) if watched else None
