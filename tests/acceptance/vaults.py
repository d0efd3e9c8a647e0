"""The vaults of `config/` on their bundled recordings, run whole; a recording is read once however often it is run."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from bot.domain.market import MarketEvent
from bot.domain.results import RunSummary
from bot.domain.units import NS_PER_S
from bot.runtime.configuration.config import load_vaults
from bot.runtime.configuration.vault import Vault
from bot.runtime.session import Session, open_session, open_vault_recording
from bot.simulation.recording import Recording
from bot.simulation.replay import replay
from bot.simulation.world import World
from strategies import Policy

CONFIG = Path(__file__).resolve().parents[2] / "config"
DEMO_VAULTS = ("eth-straddle", "btc-straddle")


class Run(NamedTuple):
    """A finished run: everything it was made of, and its figures."""

    session: Session
    summary: RunSummary


@cache
def load(name: str) -> Vault:
    """Return a vault of `config/` by its file's name."""
    return load_vaults([CONFIG / f"{name}.yaml"])[0]


@cache
def own_run(name: str) -> Run:
    """Return the run of a vault of `config/` as it stands there."""
    return run(load(name))


def run(
    vault: Vault,
    policy: Policy | None = None,
    *,
    batches: Iterable[list[MarketEvent]] | None = None,
    without_limits: bool = False,
    **changes: Any,
) -> Run:
    """Run `vault`, changed by `changes`, through its recording or through `batches` of its events."""
    if without_limits:
        none = {"max_order_quote": 1e12, "max_orders_per_min": 10**6, "daily_loss_quote": 1e12}
        none["max_hedges_same_way"] = 10**6
        changes["limits"] = vault.limits.model_copy(update=none)
    vault = vault.model_copy(update=changes)
    recording, recorded = read(vault)
    session = open_session(vault, policy=policy, recording=recording)
    world = World(iter(recorded if batches is None else batches), session.world.venue)
    session = session._replace(world=world)
    replay(session.engine, world, session.score, stopwatch_ns=lambda: 0, progress=lambda _: None)
    name = session.policy.name
    return Run(session, session.score.summary(policy=name, seed=vault.seed, wall_seconds=1.0))


def read(vault: Vault) -> tuple[Recording, list[list[MarketEvent]]]:
    """Return the vault's recording and its batches as the vault's feed latency delivers them."""
    key = (vault.feed, vault.latency.feed_ns)
    if key not in _READ:
        recording = open_vault_recording(vault)
        _READ[key] = recording, list(recording.batches(vault.latency.feed_ns))
    return _READ[key]


@cache
def first_day(name: str) -> list[list[MarketEvent]]:
    """Return the batches of the first day, for what shows as well in half the time."""
    _, batches = read(load(name))
    until_ns = batches[0][0].ts_recv_ns + 86_400 * NS_PER_S
    return batches[: bisect_right(batches, until_ns, key=lambda batch: batch[0].ts_recv_ns)]


_READ: dict[tuple[Any, int], tuple[Recording, list[list[MarketEvent]]]] = {}
