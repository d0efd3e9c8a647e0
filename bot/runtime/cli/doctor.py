"""`evenkeel doctor`: everything a vault needs, examined one by one. Nothing is traded, written or changed."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import ccxt.pro
import msgspec

from bot.domain.errors import ConfigError, JournalError, Retryable, VenueFatal
from bot.domain.instruments import Instrument
from bot.domain.units import NS_PER_MS
from bot.gateways.capabilities import capabilities
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from bot.gateways.probe import VenueProbe, probe
from bot.runtime.configuration.config import check_listing, config_sha256
from bot.runtime.configuration.credentials import load_credentials
from bot.runtime.configuration.vault import Vault
from bot.runtime.configuration.venues import GatewayOpener, open_gateway, venue_settings
from bot.runtime.journal import Batch, Journal, verify
from bot.runtime.live.clock import VenueClock, WallClock
from bot.runtime.live.session import connect, list_instruments, listing_changes
from bot.runtime.recovery import Rebuilt, began_as


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing examined; `is_of_venue` if mending it is up to us and a venue, `is_ok` None where nothing is judged."""

    vault: str
    subject: str
    detail: str
    is_ok: bool | None = True
    is_of_venue: bool = False


Capabilities = Iterable[tuple[str, str, str]]
CapabilityLister = Callable[[ccxt.pro.Exchange], Capabilities]


def exchanges() -> list[str]:
    """Return the exchanges a venue can be, as ccxt names them."""
    return sorted(ccxt.pro.exchanges)


async def examine(
    vault: Vault, journal: Path, environ: Mapping[str, str], *, lister: CapabilityLister = capabilities
) -> list[Finding]:
    """Examine a vault whose file is valid: its journal and, for a live feed, its keys, venues and their clocks.

    What they list is `examine_listing`'s.

    Raises ConfigError for an exchange or option that does not exist.
    """
    digest = config_sha256(vault)[:16]
    findings = [
        Finding(vault=vault.vault, subject="configuration", detail=f"config sha256 {digest}"),
        _examine_journal(vault, journal),
    ]
    for venue, settings in venue_settings(vault, environ).items() if vault.is_live_feed else ():
        credentials = Credentials()
        if vault.mode == "live":
            try:
                credentials = load_credentials(venue, vault.venues[venue].credentials, environ)
            except VenueFatal as error:
                findings.append(_of_venue(vault, f"{venue} credentials", str(error), is_ok=False))
        else:
            findings.append(_of_venue(vault, f"{venue} credentials", "none needed for paper, and none loaded"))
        look = await probe(settings, credentials, time.time_ns)
        findings += _judge(vault, venue, settings, look, has_keys=not credentials.are_empty)
        if credentials.private_key:
            findings.append(_of_venue(vault, f"{venue} signing", _signing()))
        findings += await _describe(vault, venue, settings, lister)
    return findings


async def examine_listing(
    vault: Vault,
    vault_file: Path,
    journal: Path,
    environ: Mapping[str, str],
    *,
    gateway_opener: GatewayOpener = open_gateway,
) -> list[Finding]:
    """Examine whether the venues of a live feed list what the vault names, and what its journal knows, unchanged."""
    clock = VenueClock() if vault.clock == "venue" else WallClock()
    run_id = secrets.token_hex(5)  # of a run that never begins
    async with AsyncExitStack() as stack:
        try:
            gateways = await connect(vault, environ, clock, run_id, gateway_opener, stack, is_keyless=True)
            listed = await list_instruments(gateways)
        except (VenueFatal, Retryable) as error:
            detail = f"not examined before every venue answers: {error}"
            return [Finding(vault=vault.vault, subject="instruments", detail=detail, is_ok=None)]
    try:
        known, first = _known_to(vault, journal)
        if not first:
            check_listing(vault_file, listed, clock.now_ns(), " or ".join(gateways))
        ours = {name: one for name, one in first.items() if name in vault.named_instruments}
        list(listing_changes(known, listed, ours, clock.now_ns()))
        gone = sorted(ours.keys() - {instrument.instrument_id for instrument in listed})
    except ConfigError as error:
        return [_instruments(vault, problem, is_ok=False) for problem in error.problems]
    except JournalError as error:
        return [_instruments(vault, str(error), is_ok=False)]
    detail = f"{len(listed):,} listed, all of the vault's among them"
    return [_instruments(vault, f"{len(listed):,} listed, no longer {', '.join(gone)}" if gone else detail)]


def _instruments(vault: Vault, detail: str, *, is_ok: bool = True) -> Finding:
    return Finding(vault=vault.vault, subject="instruments", detail=detail, is_ok=is_ok)


def _known_to(vault: Vault, path: Path) -> tuple[dict[str, Instrument], dict[str, Instrument]]:
    """Return the instruments as the journal last knew them, and as it first did; none without a journal that holds."""
    if not path.exists() or verify(path).fault is not None:
        return {}, {}
    with Journal.open(path, for_writing=False) as journal:
        if journal.is_empty:
            return {}, {}
        found = Rebuilt(vault, journal.header.instruments)
        for _, record in journal.records():
            if isinstance(record, Batch):
                found.note(record.now_ns, record.events)
    return found.instruments, {one.instrument_id: one for one in journal.header.instruments}


def _of_venue(vault: Vault, subject: str, detail: str, *, is_ok: bool | None = True) -> Finding:
    return Finding(vault=vault.vault, subject=subject, detail=detail, is_ok=is_ok, is_of_venue=True)


def _examine_journal(vault: Vault, path: Path) -> Finding:
    problem = ""
    detail = f"none yet at {path}"
    if path.exists():
        try:
            found = verify(path)
            problem = found.fault.detail if found.fault is not None else ""
            detail = f"{found.rows:,} rows hold" if found.rows else f"empty, at {path}"
            if found.rows and not problem:
                with Journal.open(path, for_writing=False) as journal:
                    began_as(vault, journal)  # as the next start will ask
        except JournalError as error:
            problem = str(error)
    return Finding(vault=vault.vault, subject="journal", detail=problem or detail, is_ok=not problem)


def _judge(
    vault: Vault, venue: str, settings: VenueSettings, found: VenueProbe, *, has_keys: bool
) -> Iterator[Finding]:
    """Yield what one look at a venue amounts to."""
    if found.unreachable:
        hint = "hint: is the venue up, and reachable from here?"
        yield _of_venue(vault, f"{venue} reachable", f"{found.unreachable}; {hint}", is_ok=False)
        return
    yield _of_venue(vault, f"{venue} reachable", "it answers")
    if found.skew_ns is not None and vault.clock == "wall":
        skew_ms, limit_ms = found.skew_ns / NS_PER_MS, settings.max_clock_skew_ns / NS_PER_MS
        is_near = abs(skew_ms) <= limit_ms
        hint = "" if is_near else "; hint: synchronise this machine's clock (NTP)"
        way = "ahead of" if skew_ms >= 0 else "behind"
        detail = f"{abs(skew_ms):.0f} ms {way} ours, limit {limit_ms:.0f} ms{hint}"
        yield _of_venue(vault, f"{venue} clock", detail, is_ok=is_near)
        if not is_near and has_keys:
            yield _of_venue(vault, f"{venue} keys", "not examined before the clock is right", is_ok=None)
            return
    if found.refused:
        yield _of_venue(vault, f"{venue} keys", found.refused, is_ok=False)
    elif has_keys:
        unsaid = "the venue does not say; hint: look at its page of keys"
        trade = {None: unsaid, True: "yes", False: "no; hint: allow the key to trade"}[found.may_trade]
        yield _of_venue(vault, f"{venue} may trade", trade, is_ok=found.may_trade is not False)
        withdraw = {None: unsaid, False: "right so", True: "it may; hint: make a key that cannot"}[found.may_withdraw]
        yield _of_venue(vault, f"{venue} may not withdraw", withdraw, is_ok=not found.may_withdraw)


def _signing() -> str:
    """Return how fast orders are signed with a wallet's key: ccxt takes Keccak from OpenSSL where that has it."""
    try:
        hashlib.new("KECCAK-256")
    except ValueError:
        hint = "hint: a Python whose ssl module has OpenSSL 3.2 or newer signs in less than one"
        return f"slow, each order takes about 10 ms: ccxt computes Keccak in Python here; {hint}"
    return "fast, with OpenSSL's Keccak"


async def _describe(vault: Vault, venue: str, settings: VenueSettings, lister: CapabilityLister) -> list[Finding]:
    """Return what the venue can do, as its exchange declares it; nobody is asked."""
    exchange = open_exchange(settings, Credentials())
    try:
        rows = lister(exchange)
    finally:
        await exchange.close()
    return [
        _of_venue(vault, f"{venue} {what}", f"{how} ({note})" if note else how, is_ok=None) for what, how, note in rows
    ]
