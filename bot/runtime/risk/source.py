"""Where `evenkeel risk` looks: the running daemon, else its journal, else the recording that the vault names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
import polars as pl

from bot.domain.errors import ConfigError, EvenkeelError
from bot.domain.units import NS_PER_HOUR, NS_PER_MIN, utc_text
from bot.engine.engine import Engine
from bot.risk.breakers import Breakers, Tripped
from bot.risk.volatility.forecaster import VolChoice, VolForecaster
from bot.risk.volatility.measures import HOURS_PER_YEAR, hours_of
from bot.runtime.configuration.risk_classes import class_table
from bot.runtime.configuration.vault import AccountLine, ChainLine, Vault
from bot.runtime.configuration.volatility import load_artefact
from bot.runtime.journal import Journal
from bot.runtime.operators import control
from bot.runtime.recovery import journal_path, rebuild, refuse_damaged, session_of
from bot.runtime.risk.snapshot import Snapshot, take_snapshot
from bot.runtime.session import open_session, open_vault_recording
from bot.runtime.studies.quoting import alive_book
from bot.simulation.recording import Recording
from bot.simulation.world import World

WARM_UP_NS: Final = 20 * NS_PER_MIN  # read before the moment asked for: longer than any input may be old
HORIZONS_HOURS: Final = (1.0, 24.0, 168.0)
BREAKER_NS: Final = 10 * NS_PER_MIN  # what the breakers are shown of a recording: twice their slow window
DAEMON: Final = "the running daemon"


class NowhereError(EvenkeelError):
    """There is neither a daemon, nor a journal, nor a recording to look at."""


class Found(NamedTuple):
    """A snapshot, and whether it is of the past of a daemon that should be running."""

    snapshot: Snapshot
    is_past: bool = False


def find_snapshot(
    vault: Vault,
    *,
    journal: Path | None = None,
    at_ns: int | None = None,
    is_replayed: bool = False,
    wanted: Sequence[str] = (),
    is_posed: bool = False,
    progress: Callable[[int], None] = lambda _now_ns: None,
) -> Found:
    """Return what risk is reckoned from. `at_ns` and `is_replayed` ask for the recording whatever runs.

    Raises NowhereError for a live vault that neither runs nor has a journal, ConfigError for a moment there is none of.
    """
    is_of_recording = at_ns is not None or is_replayed
    if is_of_recording and vault.is_live_feed:
        raise ConfigError(["--at: expected none with a live feed, found one; hint: --journal names a past run"])
    if is_of_recording and journal is not None:
        raise ConfigError(
            ["--journal: expected none with --at or --replay, found one; hint: a journal ends where it ends"]
        )
    if not is_of_recording and journal is None:
        question = {"verb": "risk", "instruments": list(wanted), "collateral": is_posed}
        try:
            answer = control.ask(control.socket_path(vault.state_dir, vault.vault), question)
        except control.NotRunningError:
            pass
        else:
            if "error" in answer:
                raise ConfigError([f"vault {vault.vault}: the daemon says: {answer['error']}"])
            return Found(msgspec.convert(answer, Snapshot))
    path = journal or journal_path(vault)
    if not is_of_recording and (journal is not None or path.exists()):
        return Found(_of_journal(vault, path, wanted, is_posed=is_posed), is_past=True)
    if vault.is_live_feed:
        raise NowhereError(
            f"{vault.vault} is not running and has no journal at {path}; hint: evenkeel run, or a vault of a recording"
        )
    recording = open_vault_recording(vault)
    if is_replayed:
        return Found(_replayed(vault, recording, at_ns, wanted, progress, is_posed=is_posed))
    return Found(_of_file(vault, recording, at_ns, wanted, is_posed=is_posed))


def _of_journal(vault: Vault, path: Path, wanted: Sequence[str], *, is_posed: bool) -> Snapshot:
    refuse_damaged(path)
    with Journal.open(path, for_writing=False) as opened:
        session = session_of(vault, opened)
        found = rebuild(session, opened, is_world_wanted=False)
    words = f"the journal {path.name}, at its end"
    return take_snapshot(vault, session.engine, found.last_ns, words, wanted, is_posed=is_posed)


def _of_file(
    vault: Vault, recording: Recording, at_ns: int | None, wanted: Sequence[str], *, is_posed: bool
) -> Snapshot:
    """Return the book of the file, without any hedge, at the marks of a moment of the recording."""
    manifest = recording.manifest
    moment_ns = _moment(recording, at_ns)
    unreadable = [line for line in vault.book if isinstance(line, AccountLine | ChainLine)]
    if unreadable:
        hint = "run it, or write what is held there as lines of instrument and qty_base"
        raise ConfigError(
            [f"vault {vault.vault}: expected a book of holdings, found an account or a chain; hint: {hint}"]
        )
    by_id = {one.instrument_id: one for one in manifest.instruments}
    alive, held = alive_book(vault, by_id, moment_ns)
    session = open_session(alive, recording=recording)
    engine = Engine(msgspec.structs.replace(session.engine.settings, book=(*session.engine.settings.book, *held)))
    world = World(recording.batches(vault.latency.feed_ns, moment_ns - WARM_UP_NS), session.world.venue)
    now_ns = 0
    while (step := world.step()) is not None and step[0] <= moment_ns:
        now_ns, events = step
        for event in events:
            engine.apply(event)
    if not now_ns:
        raise ConfigError([f"vault {vault.vault}: expected a market at {utc_text(moment_ns)}, found none before it"])
    when = f"{utc_text(now_ns)[:16]} UTC"
    words = f"the book of the file, without hedges, at the marks of recording {manifest.name} of {when}"
    found = take_snapshot(vault, engine, now_ns, words, wanted, is_posed=is_posed)
    # what the engine wants held is no word of one that has lived for minutes
    accounts = tuple(msgspec.structs.replace(one, should_hold="") for one in found.accounts)
    return _with_history(msgspec.structs.replace(found, accounts=accounts), vault, recording)


def _replayed(
    vault: Vault,
    recording: Recording,
    at_ns: int | None,
    wanted: Sequence[str],
    progress: Callable[[int], None],
    *,
    is_posed: bool,
) -> Snapshot:
    """Return what the vault would hold at a moment of the recording, hedges and all."""
    moment_ns = _moment(recording, at_ns)
    session = open_session(vault, recording=recording)
    engine, world = session.engine, session.world
    now_ns = recording.manifest.start_ns
    while (step := world.step()) is not None and step[0] <= moment_ns:
        now_ns, events = step
        for event in events:
            engine.apply(event)
        for command in engine.decide(now_ns):
            world.submit(command, now_ns)
        progress(now_ns)
    words = f"recording {recording.manifest.name}, hedged from its start to {utc_text(now_ns)[:16]} UTC"
    found = take_snapshot(vault, engine, now_ns, words, wanted, is_posed=is_posed)
    return _with_history(found, vault, recording)


def _moment(recording: Recording, at_ns: int | None) -> int:
    manifest = recording.manifest
    moment_ns = manifest.end_ns if at_ns is None else at_ns
    if not manifest.start_ns < moment_ns <= manifest.end_ns:
        span = f"{utc_text(manifest.start_ns)} to {utc_text(manifest.end_ns)}"
        raise ConfigError([f"--at: expected a time from {span}, found {utc_text(moment_ns)}"])
    return moment_ns


def _with_history(found: Snapshot, vault: Vault, recording: Recording) -> Snapshot:
    """Return the snapshot with what prices of the recording up to its moment tell: forecasts and breakers."""
    index = recording.table("index").filter(pl.col("ts_event_ns") <= found.now_ns).collect().sort("ts_event_ns")
    artefact, reason = load_artefact()
    table = class_table(vault)
    forecasts, realised, tripped = {}, {}, list[Tripped]()
    for underlying in found.spot_px:
        part = index.filter(pl.col("underlying") == underlying)
        ts_ns, px = part["ts_event_ns"].to_numpy(), part["px"].to_numpy()
        applies = table.of(underlying).parameters
        choice = VolChoice(applies.vol_model, applies.ewma_decay, applies.fallback_vol)
        forecaster = VolForecaster(underlying, artefact, reason, choice)
        hours = hours_of(ts_ns, px)
        forecaster.seed(hours)
        recent = np.flatnonzero(ts_ns > found.now_ns - NS_PER_HOUR - BREAKER_NS)
        for place in recent.tolist():
            forecaster.note_price(int(ts_ns[place]), float(px[place]))
        told = forecaster.fan(found.now_ns, [one / HOURS_PER_YEAR for one in HORIZONS_HOURS])
        if told:
            forecasts[underlying] = tuple(told)
        known = np.isfinite(hours.rv)
        realised[underlying] = tuple(
            (int(hour) * NS_PER_HOUR, sqrt(float(rv) * HOURS_PER_YEAR))
            for hour, rv in zip(hours.hour[known], hours.rv[known], strict=True)
        )
        breakers = Breakers(applies.breaker_rule())
        for place in recent.tolist():
            if ts_ns[place] > found.now_ns - BREAKER_NS:
                breakers.note_price(underlying, float(px[place]), int(ts_ns[place]))
        tripped += breakers.tripped(found.now_ns)
    source = f"prices of recording {recording.manifest.name} up to then"
    return msgspec.structs.replace(
        found,
        forecasts=forecasts,
        forecast_source=source,
        realised_vols=realised,
        breakers=tuple(tripped),
    )
