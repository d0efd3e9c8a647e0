"""One run put together: a vault, its recording, the engine, and the simulated world it trades in.

The same assembly serves `replay`, `run` and recovery, so that all of them decide alike.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec

from bot.domain.decisions import HedgePolicy
from bot.engine.engine import Engine
from bot.runtime.config import build_engine_settings
from bot.runtime.vault import RecordingFeed, Vault
from bot.simulation.recording import Recording, open_recording
from bot.simulation.score import Score
from bot.simulation.venue import Faults, Fees, Latency, SimulatedVenue
from bot.simulation.world import World


class Session(NamedTuple):
    """Everything one run needs; `policy` is the one that hedges, which a comparison may have replaced."""

    vault: Vault
    recording: Recording
    policy: HedgePolicy
    engine: Engine
    world: World
    score: Score

    @property
    def recording_sha256(self) -> str:
        """Digest of the manifest, which holds a digest of every table."""
        return hashlib.sha256(msgspec.json.encode(self.recording.manifest)).hexdigest()

    @property
    def underlying(self) -> str:
        """The first underlying, which pictures and tracking error follow."""
        return next(iter(self.engine.desks))


def open_session(
    vault: Vault, *, policy: HedgePolicy | None = None, recording: Recording | None = None, faults: Faults | None = None
) -> Session:
    """Return a fresh session of `vault` at the beginning of its recording.

    Raises RecordingError if the recording cannot be read, ConfigError if it lacks what the vault needs.
    """
    if recording is None:
        recording = open_vault_recording(vault)
    manifest = recording.manifest
    settings = build_engine_settings(vault, manifest)
    if policy is not None:
        settings = msgspec.structs.replace(settings, policy=policy)
    hedges = [hedge for hedges in settings.hedges.values() for hedge in hedges]
    venue = SimulatedVenue(
        [hedge.instrument for hedge in hedges],
        fees={hedge.instrument.instrument_id: Fees(hedge.maker_bps, hedge.taker_bps) for hedge in hedges},
        latency=Latency(vault.latency.feed_ns, vault.latency.entry_ns, vault.latency.response_ns, vault.latency.jitter),
        depth={
            hedge.instrument.instrument_id: manifest.depth[hedge.instrument.instrument_id]
            for hedge in hedges
            if hedge.instrument.instrument_id in manifest.depth
        },
        seed=vault.seed,
        faults=faults or Faults(),
    )
    engine = Engine(settings)
    world = World(recording.batches(vault.latency.feed_ns), venue)
    return Session(vault, recording, settings.policy, engine, world, Score(engine))


def open_vault_recording(vault: Vault) -> Recording:
    """Return the recording a vault names; its configuration has been checked before."""
    assert isinstance(vault.feed, RecordingFeed), "a live feed is refused when the vault is loaded"
    return open_recording(vault.feed.recording)
