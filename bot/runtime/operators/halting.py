"""`evenkeel halt` on a live feed: the marker, the daemon and the venues at once, none of them waiting for another.

Must work with the daemon frozen, the journal locked and any of the venues away, and say for each what came of it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from bot.domain.errors import EvenkeelError
from bot.domain.events import OperatorAction
from bot.gateways.exchange import Credentials, VenueSettings
from bot.runtime.configuration.vault import Vault
from bot.runtime.configuration.venues import vault_credentials, venue_settings
from bot.runtime.operators import control
from bot.runtime.operators.halt_marker import Halt, HaltMarker
from bot.runtime.operators.reasons import fit_reason, learn_secrets

DEADLINE_S: Final = 5.0
LOADED: Final = "bot.gateways.halting"


class VenueHalted(Protocol):
    """What came of canceling everything at one venue."""

    @property
    def canceled(self) -> tuple[str, ...]:
        """The venue's ids of the orders that were canceled."""

    @property
    def failed(self) -> tuple[str, ...]:
        """What could not be done, in words."""


VenueHalter = Callable[[VenueSettings, Credentials, float], Awaitable[VenueHalted]]


class HaltReport(msgspec.Struct, frozen=True):
    """One line about each party of a halt, and whether orders may still rest at a venue."""

    lines: list[str]
    is_complete: bool


async def halt_venue(settings: VenueSettings, credentials: Credentials, deadline_s: float) -> VenueHalted:
    """Cancel everything at one venue, over a connection of its own."""
    return await _load()(settings, credentials, deadline_s)


def preload() -> None:
    """Load what a halt at a venue needs: seconds on a busy machine that are better spent before one is ordered."""
    _load()


def _load() -> VenueHalter:
    from bot.gateways import halting  # noqa: PLC0415 — brings all of ccxt; the marker must not wait for it

    return halting.halt_venue


async def halt_everywhere(
    vault: Vault,
    halt: Halt,
    marker: HaltMarker,
    socket_path: Path,
    environ: Mapping[str, str],
    *,
    venue_halter: VenueHalter = halt_venue,
    deadline_s: float = DEADLINE_S,
    command_id: str = "",
) -> HaltReport:
    """Halt a vault with a live feed: marker first, then daemon and venues in parallel, within `deadline_s`.

    Raises OSError if the marker cannot be written, after everything else was tried.
    """
    learn_secrets(vault, environ)
    halt = Halt(halt.issuer, fit_reason(OperatorAction.HALT, halt.reason), halt.ts_ns)
    unmarked: OSError | None = None
    try:
        marker.write(halt)
    except OSError as error:
        unmarked = error
    daemon = asyncio.create_task(_ask_daemon(socket_path, halt, command_id, deadline_s))
    if vault.mode == "live" and LOADED not in sys.modules:
        await asyncio.to_thread(_load)  # seconds on a busy machine, which are no venue's
    halts = _venue_halts(vault, environ, venue_halter, deadline_s)
    venues = {venue: asyncio.create_task(one) for venue, one in halts.items()}
    told = await daemon
    ended = await asyncio.gather(*venues.values(), return_exceptions=True)  # none ends another, whatever becomes of it
    outcomes = [_line_of(venue, end) for venue, end in zip(venues, ended, strict=True)]
    if unmarked is not None:
        raise unmarked
    lines = [f"{vault.vault}: {told}", *(line for line, _ in outcomes)]
    return HaltReport(lines, all(is_done for _, is_done in outcomes))


def _venue_halts(
    vault: Vault, environ: Mapping[str, str], halter: VenueHalter, deadline_s: float
) -> dict[str, Coroutine[Any, Any, tuple[str, bool]]]:
    """Return one halt per venue of a live vault; a paper one has no orders anywhere.

    Options in the environment are for rehearsals: no live daemon starts with them, so they never were in force.
    """
    if vault.mode == "paper":
        return {}
    settings = venue_settings(vault, {})
    return {venue: _halt_one(vault, venue, settings[venue], environ, halter, deadline_s) for venue in settings}


def _line_of(venue: str, end: tuple[str, bool] | BaseException) -> tuple[str, bool]:
    if isinstance(end, BaseException):
        return f"{venue}: not canceled: {type(end).__name__}: {str(end)[:200]}; orders may still rest there", False
    return end


async def _halt_one(
    vault: Vault,
    venue: str,
    settings: VenueSettings,
    environ: Mapping[str, str],
    halter: VenueHalter,
    deadline_s: float,
) -> tuple[str, bool]:
    """Cancel everything at one venue; return a line about it and whether it was done."""
    try:
        credentials = vault_credentials(vault.model_copy(update={"venues": {venue: vault.venues[venue]}}), environ)
        async with asyncio.timeout(deadline_s):
            outcome = await halter(settings, credentials[venue], deadline_s)
    except TimeoutError:
        return f"{venue}: expected an answer within {deadline_s:g} s, found none; orders may still rest there", False
    except (EvenkeelError, OSError) as error:
        return f"{venue}: not canceled: {error}", False
    if outcome.failed:
        failed = "; ".join(outcome.failed)
        return f"{venue}: {_orders(outcome)} canceled, others may still rest there: {failed}", False
    return f"{venue}: {_orders(outcome)} canceled, none left", True


def _orders(outcome: VenueHalted) -> str:
    count = len(outcome.canceled)
    return f"{count} order" if count == 1 else f"{count} orders"


async def _ask_daemon(socket_path: Path, halt: Halt, command_id: str, deadline_s: float) -> str:
    question = {
        "verb": "operate", "action": str(OperatorAction.HALT), "issuer": halt.issuer, "reason": halt.reason,
        "command_id": command_id,
    }  # fmt: skip
    line = control.Line(socket_path, deadline_s)
    try:
        answer = msgspec.json.decode(await line.ask(question), type=dict[str, Any])
    except control.NotRunningError:
        return "halted; no daemon runs, and the next one will not trade until a resume"
    except (TimeoutError, OSError, ValueError):
        return (
            f"halted by its marker; the daemon did not answer within {deadline_s:g} s, and sends nothing when it wakes"
        )
    finally:
        line.close()
    return f"{answer.get('state', answer.get('error'))} {answer.get('reason', '')}".rstrip()
