"""The same vault, market and seed twice: replayed, and on paper through the real ccxt from a loopback Deribit.

Both see the same quotes: those of the held options, the hedge and the index. What then differs is the way: in a replay
every event arrives one feed latency after it happened, over ccxt as soon as its message is read.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl

from bot.domain.results import HedgeMark, RunSummary
from bot.domain.units import NS_PER_HOUR, NS_PER_S
from bot.engine.engine import Engine
from bot.runtime.configuration.config import load_vaults
from bot.runtime.daemon import Daemon
from bot.runtime.journal import Journal
from bot.runtime.live.session import open_live
from bot.runtime.operators.halt_marker import HaltMarker
from bot.runtime.session import open_session
from bot.simulation.recording import RecordingDraft, StreamDraft, open_recording, write_recording
from bot.simulation.replay import replay
from tests.venues.deribit import DeribitServer
from tests.venues.recording_player import RecordingPlayer

HELD = ("ETH-28APR23-1900-C", "ETH-28APR23-1900-P")
HEDGE = "ETH-PERPETUAL"
PLANNING_S = 0.3  # that the next moment waits for a plan: its answer may only be heard with that
POLICY = "{type: whalley_wilmott, risk_aversion_per_quote: 3.0e-4}"

VAULT = """
vault: twice
mode: paper
feed: {feed}
numeraire: USD
book:
  - {{instrument: {call}, qty_base: -100}}
  - {{instrument: {put}, qty_base: -100}}
cash: {{ETH: 0, USD: 500000}}
hedge: {{instrument: {hedge}, maker_bps: 0, taker_bps: 5}}
policy: {policy}
limits: {{max_order_quote: 50000, max_orders_per_min: 10, daily_loss_quote: 10000}}
latency: {{feed_ms: 50, entry_ms: 20, response_ms: 20}}
state_dir: {folder}
"""
LIVE = """
clock: venue
venues: {{deribit: {{options: {options}, max_silence_s: 30}}}}
underlyings: [ETH]
max_age: {{quote_s: {quote_s}, index_s: {index_s}, vol_s: {vol_s}}}
"""


class Run(NamedTuple):
    """One of the two runs."""

    summary: RunSummary
    hedges: list[HedgeMark]


class Pair(NamedTuple):
    """One hedge in both runs; the second is None where only the first made it."""

    ts_ns: int
    replay_base: float
    paper_base: float
    apart_s: float


class Comparison(NamedTuple):
    """Both runs, the hedges that are the same but for latency, and those that only one of them made."""

    replay: Run
    paper: Run
    pairs: list[Pair]
    only_replay: list[HedgeMark]
    only_paper: list[HedgeMark]
    wall_seconds: float


def cut_recording(folder: Path, hours: float | None, from_hours: float) -> Path:
    """Write what a vault subscribes to of a bundled recording: its two options, its hedge, the index."""
    recording = open_recording("eth-2023-04")
    manifest = recording.manifest
    from_ns = manifest.start_ns + int(from_hours * NS_PER_HOUR)
    until_ns = manifest.end_ns if hours is None else from_ns + int(hours * NS_PER_HOUR)
    wanted = [n for n, one in enumerate(manifest.instruments) if one.instrument_id in (*HELD, HEDGE)]
    streams = {}
    for stream_name, stream in manifest.streams.items():
        table = recording.table(stream_name).filter(pl.col("ts_event_ns").is_between(from_ns, until_ns))
        if "instrument" in table.collect_schema():
            table = table.filter(pl.col("instrument").is_in(wanted))
        streams[stream_name] = StreamDraft(table, stream.max_age_s, stream.origin, stream.method)
    words = ("twice", manifest.source, manifest.licence, manifest.notice, "what one vault subscribes to")
    destination = folder / "twice"
    write_recording(destination, RecordingDraft(*words, manifest.instruments, manifest.depth, streams))
    return destination


async def compare(
    folder: Path, hours: float | None, *, from_hours: float = 0.0, replay_policy: str = "", extra: str = ""
) -> Comparison:
    """Run the vault both ways over `hours` of the bundled ETH recording, from `from_hours` on (None: to its end).

    `replay_policy` gives the replay another policy, to show that a difference is seen; `extra` is added to both vaults.
    """
    recording = cut_recording(folder, hours, from_hours)
    began_s = time.monotonic()
    replayed = _replay(folder, recording, f"{{type: {replay_policy}}}" if replay_policy else POLICY, extra)
    paper = await _paper(folder, recording, extra)
    return Comparison(replayed, paper, *_pair(replayed.hedges, paper.hedges), time.monotonic() - began_s)


def _replay(folder: Path, recording: Path, policy: str, extra: str) -> Run:
    path = folder / "replay.yaml"
    path.write_text(_vault(f"{{recording: {recording}}}", folder / "r", policy) + extra)
    (vault,) = load_vaults([path])
    session = open_session(vault)
    replay(
        session.engine, session.world, session.score, stopwatch_ns=time.perf_counter_ns, progress=lambda _now_ns: None
    )
    summary = session.score.summary(policy=session.policy.name, seed=vault.seed, wall_seconds=1.0)
    return Run(summary, list(session.engine.hedge_marks))


async def _paper(folder: Path, recording: Path, extra: str) -> Run:
    player = RecordingPlayer(open_recording(recording))
    ages = open_recording(recording).manifest.streams
    async with DeribitServer(player.book) as server:
        path = folder / "paper.yaml"
        live = LIVE.format(
            options=msgspec.json.encode(server.options).decode(), quote_s=ages["quotes"].max_age_s,
            index_s=ages["index"].max_age_s, vol_s=ages["vol_quotes"].max_age_s,
        )  # fmt: skip
        path.write_text(_vault("live", folder / "p") + live + extra)
        (vault,) = load_vaults([path])
        (folder / "p").mkdir()
        async with AsyncExitStack() as stack:
            sockets = stack.enter_context(tempfile.TemporaryDirectory(prefix="ek-"))
            journal = stack.enter_context(Journal.open(folder / "p" / "twice.sqlite", for_writing=True))
            session = await stack.enter_async_context(open_live(vault, path, journal, {}))
            daemon = Daemon(
                session,
                journal,
                socket_path=Path(sockets) / "s",
                speed=1.0,
                progress=lambda _now_ns: None,
                marker=HaltMarker(folder / "p" / "twice.halted"),
            )
            stop = asyncio.Event()
            running = asyncio.create_task(daemon.run(stop))
            playing = asyncio.create_task(player.play(server, pause=lambda: _answered(session.engine)))
            try:
                await asyncio.wait({running, playing}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stop.set()
                playing.cancel()
                with suppress(asyncio.CancelledError):
                    await playing
            return Run(await running, list(session.engine.hedge_marks))


async def _answered(engine: Engine) -> None:
    """Let little time pass at the venue while collateral is being planned, however slow the machine is."""
    collateral, until_s = engine.collateral, time.monotonic() + PLANNING_S
    while collateral is not None and collateral._waiting is not None and time.monotonic() < until_s:  # noqa: ASYNC110
        await asyncio.sleep(0.002)  # nothing tells


def _pair(
    replayed: list[HedgeMark], paper: list[HedgeMark], within_s: float = 60.0
) -> tuple[list[Pair], list[HedgeMark], list[HedgeMark]]:
    """Match hedges of one direction that are at most `within_s` apart, each with the nearest one left."""
    left = list(paper)
    pairs: list[Pair] = []
    alone: list[HedgeMark] = []
    for mark in replayed:
        near = [one for one in left if one.qty_base * mark.qty_base > 0 and _apart_s(one, mark) <= within_s]
        if not near:
            alone.append(mark)
            continue
        twin = min(near, key=lambda one: _apart_s(one, mark))
        left.remove(twin)
        pairs.append(Pair(mark.ts_ns, mark.qty_base, twin.qty_base, (twin.ts_ns - mark.ts_ns) / NS_PER_S))
    return pairs, alone, left


def _apart_s(one: HedgeMark, other: HedgeMark) -> float:
    return abs(one.ts_ns - other.ts_ns) / NS_PER_S


def _vault(feed: str, state: Path, policy: str = POLICY) -> str:
    return VAULT.format(feed=feed, call=HELD[0], put=HELD[1], hedge=HEDGE, folder=state, policy=policy)
