"""One run put together: a vault, its recording, the engine, and the simulated world it trades in.

The same assembly serves `replay`, `run` and recovery, so that all of them decide alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from bot.domain.decisions import HedgePolicy
from bot.domain.errors import ConfigError
from bot.domain.events import Command, Event
from bot.domain.instruments import Instrument, Option, Spot
from bot.engine.engine import Engine
from bot.engine.latencies import Latencies
from bot.engine.option_hedges import tradable_options
from bot.engine.settings import EngineSettings, HedgeSettings, OptionHedgeSettings
from bot.runtime.configuration.config import build_engine_settings, with_policy
from bot.runtime.configuration.simulated_chains import open_simulated_chain
from bot.runtime.configuration.vault import RecordingFeed, Vault
from bot.runtime.feed import RecordedFeed
from bot.runtime.mailbox import Mailbox
from bot.simulation.planning import SimulatedPlanner
from bot.simulation.recording import Manifest, Recording, open_recording
from bot.simulation.score import Score
from bot.simulation.transfers import RouteWorld, SimulatedTransfers
from bot.simulation.venue import Faults, Fees, Latency, OptionFees, SimulatedVenue
from bot.simulation.venues import Venues
from bot.simulation.world import Venue, World


class Session(NamedTuple):
    """Everything one run needs; `vault` is what its file says, as it was read last."""

    vault: Vault
    recording: Recording
    engine: Engine
    world: World
    score: Score

    @property
    def policy(self) -> HedgePolicy:
        """The one that hedges, which a comparison may have replaced."""
        return self.engine.settings.policy

    def settings_for(self, vault: Vault) -> EngineSettings:
        """Return what the engine would have to be told of another configuration of this vault."""
        return build_engine_settings(vault, self.recording.manifest)

    @property
    def recording_sha256(self) -> str:
        """Digest of the manifest, which holds a digest of every table."""
        return hashlib.sha256(msgspec.json.encode(self.recording.manifest)).hexdigest()

    @property
    def underlying(self) -> str:
        """The first underlying, which pictures and tracking error follow."""
        return next(iter(self.engine.desks))

    @property
    def run_id(self) -> str:
        """What order ids begin with: the same for every run of a vault and seed on a recording."""
        return self.engine.settings.run_id

    @property
    def recording_name(self) -> str:
        """The recording's name."""
        return self.recording.manifest.name

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """None of its own: the recording holds them."""
        return ()

    @property
    def latencies(self) -> Latencies | None:
        """Nothing is timed in a world of its own."""
        return None

    def open_feed(self, mailbox: Mailbox, speed: float) -> RecordedFeed:
        """Return the feed that plays the recording into `mailbox`, `speed` times as fast as the clock."""
        return RecordedFeed(self.world, mailbox, speed)

    def resubmit(self, command: Command, now_ns: int) -> None:
        """Hand a journalled command to the simulated venue, as the daemon did."""
        self.world.submit(command, now_ns)

    def retrace(self, now_ns: int, events: tuple[Event, ...]) -> None:
        """Bring the world to where it was when these events were decided upon."""
        del events
        while self.world.step(now_ns) is not None:
            pass

    async def truth(self, known: Mapping[str, Instrument]) -> tuple[Event, ...]:
        """Return nothing: the rebuilt world knows all there is to know."""
        del known
        return ()


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
        settings = with_policy(settings, policy)
    venue = _open_venue(vault, manifest, settings, faults or Faults())
    engine = Engine(settings)
    world = World(recording.batches(vault.latency.feed_ns), venue)
    return Session(vault, recording, engine, world, Score(engine))


def open_vault_recording(vault: Vault) -> Recording:
    """Return the recording a vault names. Raises ConfigError for a live feed."""
    if not isinstance(vault.feed, RecordingFeed):
        hint = "record it with `evenkeel record`, then name the recording as feed"
        raise ConfigError([f"vault {vault.vault}: expected a recording to replay, found a live feed; hint: {hint}"])
    return open_recording(vault.feed.recording)


def _open_venue(vault: Vault, manifest: Manifest, settings: EngineSettings, faults: Faults) -> Venue:
    """Return the simulated venue of a run: one exchange, the simulated chains that hedges are on, or both."""
    latency = Latency(vault.latency.feed_ns, vault.latency.entry_ns, vault.latency.response_ns, vault.latency.jitter)
    hedges = [hedge for hedges in settings.hedges.values() for hedge in hedges]
    chains: dict[str, Venue] = {
        pool.instrument_id: open_simulated_chain(
            vault.chains[pool.venue], pool, end_ns=manifest.end_ns, latency=latency, seed=vault.seed
        )
        for hedge in hedges
        if isinstance(pool := hedge.instrument, Spot) and pool.venue in vault.chains
    }
    hedges = [hedge for hedge in hedges if hedge.instrument.instrument_id not in chains]
    options = tradable_options(settings)
    transfers, planner = transfers_of(settings, vault.seed), planner_of(settings)
    if chains and not (hedges or options):
        return Venues(chains, transfers, planner)
    exchange = SimulatedVenue(
        [*(hedge.instrument for hedge in hedges), *(option for option, _ in options)],
        fees=fees_of(hedges, options),
        latency=latency,
        depth={
            hedge.instrument.instrument_id: manifest.depth[hedge.instrument.instrument_id]
            for hedge in hedges
            if hedge.instrument.instrument_id in manifest.depth
        },
        seed=vault.seed,
        faults=faults,
    )
    if not chains and transfers is None:
        return exchange
    traded = [*(hedge.instrument.instrument_id for hedge in hedges), *(option.instrument_id for option, _ in options)]
    return Venues({**dict.fromkeys(traded, exchange), **chains}, transfers, planner)


def transfers_of(settings: EngineSettings, seed: int) -> SimulatedTransfers | None:
    """Return the world that collateral moves in, None for a vault that moves none.

    Half of the transfers take less than half of a route's p95, and nothing goes wrong with them.
    """
    routes = settings.risk.transfers.routes if settings.risk is not None else ()
    if not routes:
        return None
    # two routes may share a name, as one network carries several assets: the slower one is taken for both
    worlds: dict[str, RouteWorld] = {}
    for route in sorted(routes, key=lambda one: one.p95_ns):
        worlds[route.name] = RouteWorld(median_ns=max(1, route.p95_ns // 2), p95_ns=route.p95_ns, fee=route.fee)
    return SimulatedTransfers(seed, worlds)


def planner_of(settings: EngineSettings) -> SimulatedPlanner | None:
    """Return who plans collateral in a world of its own, None for a vault that has none planned."""
    return SimulatedPlanner() if settings.risk is not None and settings.risk.collateral is not None else None


def fees_of(
    hedges: Iterable[HedgeSettings], options: Iterable[tuple[Option, OptionHedgeSettings]]
) -> dict[str, Fees | OptionFees]:
    """Return what a simulated venue charges for each instrument that may be traded there."""
    fees: dict[str, Fees | OptionFees] = {
        option.instrument_id: OptionFees(rules.taker_bps, rules.fee_cap_fraction) for option, rules in options
    }
    fees |= {hedge.instrument.instrument_id: Fees(hedge.maker_bps, hedge.taker_bps) for hedge in hedges}
    return fees
