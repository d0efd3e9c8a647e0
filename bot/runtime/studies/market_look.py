"""A look at a vault's market at one moment, through the engine itself, with nothing traded.

What a policy would be shown there is what is returned, so that a quote and a real hedge start from the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl

from bot.domain.decisions import HedgeTarget, HedgeView
from bot.domain.errors import ConfigError
from bot.domain.instruments import Option
from bot.domain.units import NS_PER_MIN, NS_PER_YEAR, utc_text
from bot.engine.engine import Engine
from bot.engine.settings import BookLeg
from bot.runtime.configuration.config import with_policy
from bot.runtime.configuration.vault import Vault
from bot.runtime.session import open_session, open_vault_recording
from bot.simulation.recording import Recording
from bot.simulation.world import World

WARM_UP_NS = 20 * NS_PER_MIN  # read before the moment asked for: longer than any input may be old


class Look(NamedTuple):
    """What a policy is shown at one moment, by underlying, and when that was.

    `options` are the option legs of a view in its order: first those of the book, then those asked about; what has
    expired by then is left out.
    `look_years` is the typical time between two vol quotes of the option with the largest gamma: how often a hedger
    sees net delta move where forwards come with vols; NaN if it cannot be told.
    """

    now_ns: int
    views: dict[str, HedgeView]
    options: dict[str, tuple[BookLeg, ...]]
    look_years: dict[str, float]


class _Watcher:
    """A policy that hedges nothing and keeps what it is shown first."""

    name = "watcher"
    needs_offers = False

    def __init__(self) -> None:
        self.views: dict[str, HedgeView] = {}

    def target(self, view: HedgeView) -> HedgeTarget:
        """Keep the view."""
        self.views.setdefault(view.underlying, view)
        return HedgeTarget.hold("looking")


def look(
    vault: Vault, extra: Sequence[BookLeg] = (), *, at_ns: int | None = None, recording: Recording | None = None
) -> Look:
    """Return what the vault's policy would be shown first from `at_ns` on, with `extra` added to the book.

    Raises ConfigError where the recording shows no moment from then on at which a hedge could be decided.
    """
    recording = recording or open_vault_recording(vault)
    watcher = _Watcher()
    session = open_session(vault, recording=recording)
    settings = with_policy(session.engine.settings, watcher)
    settings = msgspec.structs.replace(settings, book=(*settings.book, *extra))
    engine = Engine(settings)
    after_ns = None if at_ns is None else at_ns - WARM_UP_NS
    world = World(recording.batches(vault.latency.feed_ns, after_ns), session.world.venue)
    while (step := world.step()) is not None:
        now_ns, events = step
        for event in events:
            engine.apply(event)
        if at_ns is not None and now_ns < at_ns:
            continue
        engine.decide(now_ns)
        if watcher.views.keys() == engine.desks.keys():
            options = {
                base: tuple(
                    leg
                    for leg in settings.book
                    if isinstance(leg.instrument, Option)
                    and leg.instrument.base == base
                    and leg.instrument.expiry_ns > now_ns
                )
                for base in engine.desks
            }
            return Look(now_ns, watcher.views, options, _look_years(recording, watcher.views, options))
    waiting = next(desk for base, desk in engine.desks.items() if base not in watcher.views)
    why = waiting.decision.refusal_detail if waiting.decision is not None else "no data"
    when = utc_text(recording.manifest.start_ns if at_ns is None else at_ns)
    raise ConfigError(
        [f"vault {vault.vault}: expected a market from {when} on, found none of {waiting.underlying}: {why}"]
    )


def _look_years(
    recording: Recording, views: dict[str, HedgeView], options: dict[str, tuple[BookLeg, ...]]
) -> dict[str, float]:
    """Return the median time between two vol quotes of the option that has most of the gamma."""
    numbers = {one.instrument_id: place for place, one in enumerate(recording.manifest.instruments)}
    found = dict.fromkeys(views, float("nan"))
    for base, view in views.items():
        legs = view.legs
        if len(options[base]) != legs.qty_base.size:  # some have expired and are not settled yet
            continue
        with np.errstate(all="ignore"):
            width = legs.vol * np.sqrt(legs.tau_years)
            distance = np.log(legs.forward_px / legs.strike_px) / width
            weight = np.abs(legs.qty_base) * np.exp(-0.5 * distance**2) / width
        if not np.isfinite(weight).any():
            continue
        heaviest = options[base][int(np.nanargmax(weight))].instrument.instrument_id
        if heaviest not in numbers:
            continue
        is_heaviest = pl.col("instrument") == numbers[heaviest]
        times = recording.table("vol_quotes").filter(is_heaviest).select("ts_event_ns").collect()
        gaps_ns = np.diff(times.to_series().to_numpy())
        gaps_ns = gaps_ns[gaps_ns > 0]
        if gaps_ns.size:
            found[base] = float(np.median(gaps_ns)) / NS_PER_YEAR
    return found
