"""Collateral moved for real: the desk that carries out what the engine asks for, with keys of its own.

Without `execute` nothing leaves: each transfer becomes an instruction in a file of the state folder. Must never send
with the keys that trade: those that may withdraw are others, EVENKEEL_<VENUE>_TRANSFERS_API_KEY and so on. The keys
that trade are enough to see what was withdrawn and what arrived, and are used for that only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from bot.domain.errors import VenueFatal
from bot.domain.events import Event, QueryTransfer, TransferCommand
from bot.domain.risk import TransferState
from bot.gateways.exchange import open_exchange
from bot.gateways.gateway import Clock, Put
from bot.runtime.configuration.credentials import load_credentials
from bot.runtime.configuration.vault import Vault
from bot.runtime.configuration.venues import venue_settings

if TYPE_CHECKING:
    from bot.gateways.transfers import LiveTransferSettings, TransferDesk


CONFIRM: Final = "confirm"
BY_HAND: Final = {"sent": TransferState.SENT, "arrived": TransferState.ARRIVED, "failed": TransferState.FAILED}

log = structlog.get_logger()


class LiveTransfers:
    """The transfer desk of a run; whatever comes of a transfer goes to `sink` once there is one."""

    def __init__(self, desk: TransferDesk, outlet: Outlet) -> None:
        self._desk = desk
        self._outlet = outlet

    def submit(self, command: TransferCommand, now_ns: int) -> None:
        """Start a transfer, or ask about one that may have left; the latter is never sent."""
        if isinstance(command, QueryTransfer):
            self._desk.resume([command.transfer], now_ns)
        else:
            self._desk.submit(command)

    @property
    def waiting(self) -> tuple[str, ...]:
        """The transfers that wait for a person to confirm their id and amount."""
        return self._desk.held

    def help(self, action: str, transfer_id: str, amount: float | None, fee: float, issuer: str) -> str:
        """Take a person's word on a transfer; return why it is not taken, "" if it is."""
        if action == CONFIRM:
            if amount is None:
                return f"expected the amount of {transfer_id} to confirm it by, found none"
            return self._desk.confirm(transfer_id, amount, issuer)
        return self._desk.note_by_hand(transfer_id, BY_HAND[action], amount, fee, issuer)

    async def run(self, sink: Put) -> None:
        """Tell `sink` what becomes of transfers until cancelled."""
        self._outlet.sink = sink
        try:
            await self._desk.run()
        finally:
            await self._desk.close()


class Outlet:
    """Where the desk's words go; what it says before anybody listens is kept."""

    def __init__(self) -> None:
        self._kept: list[Event] = []
        self._sink: Put | None = None

    @property
    def sink(self) -> Put | None:
        """Who listens."""
        return self._sink

    @sink.setter
    def sink(self, sink: Put) -> None:
        """Tell a listener from now on, and first what was kept."""
        self._sink = sink
        if self._kept:
            kept, self._kept = self._kept, []
            sink(kept)

    def put(self, events: Sequence[Event]) -> None:
        """Hand events on."""
        if self._sink is None:
            self._kept += events
        else:
            self._sink(events)


async def open_transfers(
    vault: Vault, environ: Mapping[str, str], clock: Clock, stack: AsyncExitStack
) -> LiveTransfers | None:
    """Return the transfer desk of a live vault, None where it moves nothing.

    Raises VenueFatal where transfers are executed and the keys for them are missing.
    """
    settings = transfer_settings(vault) if vault.mode == "live" else None
    if settings is None:
        return None
    from bot.gateways.transfers import TransferDesk  # noqa: PLC0415 — brings all of ccxt, which takes a second

    exchanges = {}
    venues = venue_settings(vault, environ)
    senders = {one.from_venue for one in settings.routes} if settings.execute else set()
    ends = {venue for one in settings.routes for venue in (one.from_venue, one.to_venue)}
    for venue in sorted(ends & venues.keys()):
        if venue in senders:
            keys = load_credentials(f"{venue}-transfers", "env", environ)
        else:
            try:
                keys = load_credentials(venue, vault.venues[venue].credentials, environ)
            except VenueFatal as error:
                log.warning("transfer.blind", venue=venue, problem=f"what arrives there is not seen: {error}")
                continue
        exchanges[venue] = open_exchange(venues[venue], keys)
        stack.push_async_callback(exchanges[venue].close)
    outlet = Outlet()
    return LiveTransfers(TransferDesk(exchanges, settings, clock, outlet.put), outlet)


def transfer_settings(vault: Vault) -> LiveTransferSettings | None:
    """Return what a vault says of transfers as the desk takes it, None where it names no routes."""
    section = vault.risk.transfers if vault.risk is not None else None
    if section is None or not section.routes:
        return None
    from bot.gateways.transfers import Address, LiveRoute, LiveTransferSettings  # noqa: PLC0415 — as above

    most: dict[str, float] = {}
    for line in section.routes:
        most[line.asset] = max(most.get(line.asset, 0.0), line.max_amount)
    return LiveTransferSettings(
        addresses=tuple(
            Address(label=label, address=one.address, network=one.network, tag=one.tag)
            for label, one in section.addresses.items()
        ),
        routes=tuple(
            LiveRoute(
                name=line.route,
                asset=line.asset,
                from_venue=line.from_venue,
                to_venue=line.to_venue,
                address_label=line.address_label,
                from_account=line.from_account,
                to_account=line.to_account,
                is_wallet=line.to_venue not in vault.venues and not line.to_account,
            )
            for line in section.routes
        ),
        max_amounts=most,
        day_caps=dict(section.day_caps),
        confirm_above=dict(section.confirm_above),
        execute=section.execute,
        export_folder=str(Path(vault.state_dir)),
    )
