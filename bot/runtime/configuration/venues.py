"""From the venues of a vault file to what the gateways take: settings, credentials, and the gateways themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from bot.domain.errors import ConfigError
from bot.domain.events import Command, Event
from bot.domain.instruments import Instrument
from bot.domain.units import NS_PER_S
from bot.gateways.exchange import Credentials, VenueSettings
from bot.gateways.gateway import Clock, Gateway
from bot.runtime.configuration.config import PASSWORD_IN_URL
from bot.runtime.configuration.credentials import load_credentials, variable
from bot.runtime.configuration.vault import Vault, VenueSection
from bot.runtime.configuration.yaml_source import names_secret
from bot.simulation.depth import DepthProfile
from bot.simulation.planning import SimulatedPlanner
from bot.simulation.transfers import SimulatedTransfers
from bot.simulation.venue import Faults, Fees, Latency, OptionFees

COIN: Final = re.compile(r"(?=[0-9]*[A-Z])([A-Z0-9]+?)(?:[-_/]|USD|$)")


class Execution(Protocol):
    """The simulated venue behind paper orders on live data."""

    def absorb(self, now_ns: int, events: Sequence[Event]) -> tuple[Event, ...]:
        """Return the venue's answers by `now_ns`, then `events`, which the venue has then seen."""

    def submit(self, command: Command, now_ns: int) -> None:
        """Send a command on its way to the simulated venue."""

    def next_event_ns(self) -> int | None:
        """Return when there will next be something to tell, None if nothing is under way."""


class GatewayOpener(Protocol):
    """Makes the gateway of one venue, unconnected."""

    def __call__(
        self,
        settings: VenueSettings,
        credentials: Credentials,
        clock: Clock,
        *,
        run_id: str,
        prefix: str,
        since_ns: int,
    ) -> Gateway:
        """Return the gateway; `prefix` goes before the instrument ids of every venue but the first.

        Its first look for missed trades goes back to `since_ns`; 0 for none.
        """


class ExecutionOpener(Protocol):
    """Makes the simulated venue of a paper run."""

    def __call__(
        self,
        instruments: Sequence[Instrument],
        *,
        fees: Mapping[str, Fees | OptionFees],
        latency: Latency,
        depth: Mapping[str, DepthProfile],
        seed: int,
        faults: Faults,
        cash: Mapping[str, Mapping[str, float]],
        chains: Mapping[str, str],
        option_fees: Mapping[tuple[str, str], OptionFees],
        transfers: SimulatedTransfers | None = None,
        planner: SimulatedPlanner | None = None,
    ) -> Execution:
        """Return the simulated venue, as it was before its first event."""


def open_gateway(
    settings: VenueSettings, credentials: Credentials, clock: Clock, *, run_id: str, prefix: str, since_ns: int
) -> Gateway:
    """Return the gateway of a ccxt exchange, unconnected."""
    from bot.gateways.ccxt_gateway import CcxtGateway  # noqa: PLC0415 — brings all of ccxt, which takes a second

    return CcxtGateway(settings, credentials, clock, run_id=run_id, prefix=prefix, since_ns=since_ns)


def venue_settings(vault: Vault, environ: Mapping[str, str]) -> dict[str, VenueSettings]:
    """Return the settings of every venue of a vault by its name, the first one first.

    Raises ConfigError if EVENKEEL_<VENUE>_OPTIONS is no JSON object, holds a secret, or is set for `mode: live`.
    """
    underlyings = vault_underlyings(vault) if vault.venues else frozenset()
    return {
        venue: _settings(venue, section, underlyings, _options(vault, venue, section, environ))
        for venue, section in vault.venues.items()
    }


def vault_credentials(vault: Vault, environ: Mapping[str, str]) -> dict[str, Credentials]:
    """Return the keys of every venue; paper runs load none, so that none can be sent anywhere.

    Raises VenueFatal if a live venue has none.
    """
    if vault.mode == "paper":
        return dict.fromkeys(vault.venues, Credentials())
    return {venue: load_credentials(venue, section.credentials, environ) for venue, section in vault.venues.items()}


def refuse_shared_accounts(vaults: Sequence[Vault]) -> None:
    """Raise ConfigError if two live vaults would hedge the same coin on the same account.

    Each would take the other's orders and positions for foreign ones, adopt them, or trade against them for ever.
    """
    first: dict[tuple[str, str], Vault] = {}
    for vault in vaults:
        if vault.mode != "live":
            continue
        for venue, section in vault.venues.items():
            account = f"the environment's {venue}" if section.credentials == "env" else section.credentials
            for coin in sorted(vault_underlyings(vault)):
                twin = first.setdefault((account, coin), vault)
                if twin is not vault:
                    expected = f"vaults {twin.vault} and {vault.vault}: expected {coin} on accounts of their own"
                    raise ConfigError(
                        [f"{expected}, found both on {account}; hint: one vault, or a subaccount for each"]
                    )


def vault_underlyings(vault: Vault) -> frozenset[str]:
    """Return the coins whose instruments are wanted. Raises ConfigError where the names do not say."""
    if vault.underlyings:
        return frozenset(vault.underlyings)
    coins = {match[1] for name in vault.named_instruments if ":" not in name and (match := COIN.match(name))}
    coins |= {hedge.underlying for chain in vault.chains.values() for hedge in chain.hedges.values()}
    if not coins:
        hint = "say underlyings: [ETH], their names do not"
        raise ConfigError(
            [f"vault {vault.vault}: expected to know the coins of its instruments, found none; hint: {hint}"]
        )
    return frozenset(coins)


def prefix_of(vault: Vault, venue: str) -> str:
    """Return what stands before a venue's instrument ids in the vault: nothing for the first one."""
    return "" if venue == next(iter(vault.venues), None) else f"{venue}:"


def _settings(venue: str, section: VenueSection, underlyings: frozenset[str], options: dict[str, Any]) -> VenueSettings:
    return VenueSettings(
        venue=venue,
        exchange_id=section.exchange or venue,
        underlyings=underlyings,
        options=options,
        timeout_ns=_ns(section.timeout_s),
        requests_per_s=section.requests_per_s,
        burst_requests=section.burst_requests,
        account_poll_ns=_ns(section.account_poll_s),
        fills_poll_ns=_ns(section.fills_poll_s),
        markets_poll_ns=_ns(section.markets_poll_s),
        max_silence_ns=_ns(section.max_silence_s),
        absence_ns=_ns(section.absence_s),
        dead_man_ns=_ns(section.dead_man_s),
    )


def _options(vault: Vault, venue: str, section: VenueSection, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the venue's options, overridden by the environment in a rehearsal: lists for tuples, as ccxt expects."""
    options: dict[str, Any] = _plain(section.options)
    name = variable(venue, "options")
    text = environ.get(name, "")
    if not text:
        return options
    if vault.mode == "live":
        hint = "write it into the vault file, where it is hashed and journalled"
        raise ConfigError([f"{name}: expected nothing with mode: live, found something; hint: {hint}"])
    try:
        override = json.loads(text)
    except ValueError:
        override = None
    if not isinstance(override, dict):
        raise ConfigError([f'{name}: expected a JSON object, found something else; hint: \'{{"hostname": "…"}}\''])
    if _holds_secret(override):
        hint = "keys go into variables of their own"
        raise ConfigError([f"{name}: expected no secret, found one; hint: {hint}"])
    return _merged(options, override)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid on it, mapping by mapping."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _holds_secret(value: object) -> bool:
    if isinstance(value, dict):
        return any(names_secret(str(key)) or _holds_secret(inner) for key, inner in value.items())
    if isinstance(value, list):
        return any(map(_holds_secret, value))
    return isinstance(value, str) and PASSWORD_IN_URL.search(value) is not None


def _plain(value: Any) -> Any:  # noqa: ANN401 — options are whatever ccxt takes
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
