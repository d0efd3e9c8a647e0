"""`evenkeel doctor`: everything a vault needs, examined one by one. Nothing is traded, written or changed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import ccxt.pro
import msgspec

from bot.domain.errors import JournalError, VenueFatal
from bot.domain.units import NS_PER_MS
from bot.gateways.capabilities import capabilities
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from bot.gateways.probe import VenueProbe, probe
from bot.runtime.config import config_sha256
from bot.runtime.credentials import load_credentials
from bot.runtime.journal import verify
from bot.runtime.vault import Vault
from bot.runtime.venues import venue_settings


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing examined; `is_of_venue` if mending it is between us and a venue."""

    vault: str
    subject: str
    detail: str
    is_ok: bool = True
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
        findings += _judge(vault, venue, settings, await probe(settings, credentials, time.time_ns))
        if credentials.private_key:
            findings.append(_of_venue(vault, f"{venue} signing", _signing()))
        findings += await _describe(vault, venue, settings, lister)
    return findings


def _of_venue(vault: Vault, subject: str, detail: str, *, is_ok: bool = True) -> Finding:
    return Finding(vault=vault.vault, subject=subject, detail=detail, is_ok=is_ok, is_of_venue=True)


def _examine_journal(vault: Vault, path: Path) -> Finding:
    problem = ""
    detail = f"none yet at {path}"
    if path.exists():
        try:
            found = verify(path)
            problem = found.fault.detail if found.fault is not None else ""
            detail = f"{found.rows} rows hold"
        except JournalError as error:
            problem = str(error)
    return Finding(vault=vault.vault, subject="journal", detail=problem or detail, is_ok=not problem)


def _judge(vault: Vault, venue: str, settings: VenueSettings, found: VenueProbe) -> Iterator[Finding]:
    """Yield what one look at a venue amounts to."""
    if found.unreachable:
        yield _of_venue(vault, f"{venue} reachable", found.unreachable, is_ok=False)
        return
    yield _of_venue(vault, f"{venue} reachable", "it answers")
    if found.skew_ns is not None and vault.clock == "wall":
        skew_ms, limit_ms = found.skew_ns / NS_PER_MS, settings.max_clock_skew_ns / NS_PER_MS
        is_near = abs(skew_ms) <= limit_ms
        hint = "" if is_near else "; hint: synchronise this machine's clock (NTP)"
        detail = f"{skew_ms:+.0f} ms from ours, limit {limit_ms:.0f} ms{hint}"
        yield _of_venue(vault, f"{venue} clock", detail, is_ok=is_near)
    if found.refused:
        yield _of_venue(vault, f"{venue} keys", found.refused, is_ok=False)
    elif vault.mode == "live":
        unsaid = "the venue does not say; hint: look at its page of keys"
        trade = {None: unsaid, True: "yes", False: "no; hint: allow the key to trade"}[found.may_trade]
        yield _of_venue(vault, f"{venue} may trade", trade, is_ok=found.may_trade is not False)
        withdraw = {None: unsaid, False: "right", True: "it may; hint: make a key that cannot"}[found.may_withdraw]
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
    return [_of_venue(vault, f"{venue} {what}", f"{how} ({note})" if note else how) for what, how, note in rows]
