"""The day of `scripts/soak`: a seeded market through mailbox, paper execution, engine and journal, and its memory.

Time is simulated, so a day passes in minutes; everything else is what the daemon does with a live feed. The journal is
written to a temporary folder and removed.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from math import exp
from os import sysconf
from pathlib import Path
from typing import Final, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from bot import __version__
from bot.domain.events import Command, Event, SubmitOrder
from bot.domain.instruments import Option, Payoff, Perpetual, TickSchedule
from bot.domain.market import IndexPrice, Quote, VolQuote
from bot.domain.units import BPS, NS_PER_DAY, NS_PER_HOUR, NS_PER_MIN, NS_PER_MS, NS_PER_S, NS_PER_YEAR
from bot.engine.engine import Engine
from bot.engine.settings import Ages, BookLeg, EngineSettings, HedgeSettings, Limits
from bot.gateways.paper import PaperExecution
from bot.runtime.journal import SCHEMA_VERSION, Batch, Commands, Header, Journal
from bot.runtime.mailbox import Mailbox
from bot.simulation.score import Score
from bot.simulation.venue import Fees, Latency
from bot.telemetry.pictures import BLUE, STYLE
from strategies.delta_band import DeltaBand

SEED: Final = 7
START_NS: Final = 1_700_000_000 * NS_PER_S
BURST_NS: Final = 100 * NS_PER_MS
FEED_NS: Final = 40 * NS_PER_MS
VOLS_A_BURST: Final = 3  # with index and hedge five updates a burst, fifty a second
FLUSH_NS: Final = 30 * NS_PER_S  # the daemon flushes twice a second of real time; commands are flushed at once here too
YEARLY_VOL: Final = 0.8
PICTURE: Final = Path(__file__).parents[1] / "docs" / "images" / "soak-memory.png"

PERPETUAL: Final = Perpetual(
    instrument_id="ETH-PERPETUAL",
    venue="soak",
    base="ETH",
    quote="USD",
    settle="USD",
    price_currency="USD",
    payoff=Payoff.LINEAR,
    contract_size=1.0,
    lot_contracts=0.1,
    tick_schedule=TickSchedule(0.05),
)
OPTIONS: Final = tuple(
    Option(
        instrument_id=f"ETH-{days}D-{strike_px}-{'C' if is_call else 'P'}",
        venue="soak",
        base="ETH",
        quote="USD",
        settle="ETH",
        price_currency="ETH",
        payoff=Payoff.INVERSE,
        contract_size=1.0,
        lot_contracts=1.0,
        tick_schedule=TickSchedule(0.0005),
        strike_px=float(strike_px),
        expiry_ns=START_NS + days * NS_PER_DAY,
        is_call=is_call,
    )
    for days in (3, 10)
    for strike_px in (1800, 1900, 2000, 2100, 2200)
    for is_call in (True, False)
)


class Reading(NamedTuple):
    """The state of things after an hour."""

    hour: int
    updates: int
    decisions: int
    orders: int
    rss_mb: float


def main(hours: int) -> None:
    """Live through `hours`, print a line for each, draw the picture."""
    print(f"{'hour':>4} {'updates':>10} {'decisions':>10} {'orders':>7} {'rss_mb':>7}")
    began_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        readings = asyncio.run(soak(hours, Path(folder) / "journal.sqlite"))
    settled = readings[min(2, len(readings) - 1) :]
    growth_mb = settled[-1].rss_mb - settled[0].rss_mb
    print(f"from hour {settled[0].hour} to hour {settled[-1].hour}: {growth_mb:+.1f} MB", end=" ")
    print(f"in {time.perf_counter() - began_s:.0f} s of real time")
    draw(readings)


async def soak(hours: int, journal_path: Path) -> list[Reading]:
    """Run the daemon's loop over the market and return one reading per hour."""
    engine = Engine(settings())
    score = Score(engine)
    fees = {PERPETUAL.instrument_id: Fees(0.0, 5.0)}
    latency = Latency(entry_ns=20 * NS_PER_MS, response_ns=30 * NS_PER_MS, jitter_fraction=0.5)
    paper = PaperExecution([PERPETUAL], fees=fees, latency=latency, depth={}, seed=SEED)
    mailbox = Mailbox()
    readings: list[Reading] = []
    updates = orders = 0
    with Journal.open(journal_path, for_writing=True) as journal:
        journal.append(Header("soak", "soak", "{}", "", None, None, SEED, SCHEMA_VERSION, __version__))

        async def decide() -> None:
            nonlocal orders
            now_ns, taken = await mailbox.take()
            events = paper.absorb(now_ns, taken)
            journal.append(Batch(now_ns, events))
            for event in events:
                engine.apply(event)
            began_ns = time.perf_counter_ns()
            commands: list[Command] = list(engine.decide(now_ns))
            took_ns = time.perf_counter_ns() - began_ns
            if commands:
                journal.append(Commands(now_ns, tuple(commands)))
                journal.flush()
                for command in commands:
                    paper.submit(command, now_ns)
                    orders += isinstance(command, SubmitOrder)
            score.observe(now_ns, len(events), commands, took_ns)
            mailbox.done()

        flushed_ns = START_NS
        hour_ns = START_NS + NS_PER_HOUR
        for now_ns, events in market(START_NS + hours * NS_PER_HOUR):
            while (answer_ns := paper.next_event_ns()) is not None and answer_ns < now_ns:
                mailbox.put(answer_ns, ())
                await decide()
            for event in events:
                mailbox.put(now_ns, (event,))
            updates += len(events)
            await decide()
            if now_ns - flushed_ns >= FLUSH_NS:
                flushed_ns = now_ns
                journal.flush()
            if now_ns >= hour_ns:
                hour_ns += NS_PER_HOUR
                readings.append(Reading(len(readings) + 1, updates, engine.decisions, orders, rss_mb()))
                last = readings[-1]
                print(
                    f"{last.hour:>4} {updates:>10,} {last.decisions:>10,} {orders:>7,} {last.rss_mb:>7.1f}", flush=True
                )
    return readings


def settings() -> EngineSettings:
    """Return a vault short of twenty options that hedges every minute or two."""
    return EngineSettings(
        vault="soak",
        run_id="soak",
        numeraire="USD",
        policy=DeltaBand(half_width_base=0.5),
        book=tuple(BookLeg(option, -10.0) for option in OPTIONS),
        cash={"ETH": 0.0, "USD": 500_000.0},
        hedges={"ETH": (HedgeSettings(instrument=PERPETUAL, maker_bps=0.0, taker_bps=5.0),)},
        universe=(PERPETUAL, *OPTIONS),
        limits=Limits(max_order_quote=1e6, max_orders_per_min=60, daily_loss_quote=1e9, max_hedges_same_way=1_000),
        ages=Ages(vol_ns=NS_PER_MIN, quote_ns=NS_PER_MIN, index_ns=NS_PER_MIN),
        gap_ns=5 * NS_PER_MIN,
    )


def market(until_ns: int) -> Iterator[tuple[int, list[Event]]]:
    """Yield bursts of updates as they are received: a random walk, the hedge around it, vols in turn."""
    rng = np.random.default_rng(SEED)
    step = YEARLY_VOL * (BURST_NS / NS_PER_YEAR) ** 0.5
    px = 2_000.0
    turn = seq = 0
    for at_ns in range(START_NS, until_ns + BURST_NS, BURST_NS):
        px *= exp(step * rng.standard_normal())
        recv_ns = at_ns + FEED_NS
        bid_px = round(px * (1.0 - 0.25 * BPS) / 0.05) * 0.05
        events: list[Event] = [
            IndexPrice("ETH", px, at_ns, recv_ns, seq),
            Quote("ETH-PERPETUAL", bid_px, 500.0, bid_px + 0.1, 500.0, at_ns, recv_ns, seq + 1),
        ]
        # The first burst has every option, so that there is something to hedge.
        for _ in range(VOLS_A_BURST if turn else len(OPTIONS)):
            option = OPTIONS[turn % len(OPTIONS)]
            vol = 0.65 + 0.005 * rng.random()
            name = option.instrument_id
            events.append(VolQuote(name, vol, vol - 0.01, vol + 0.01, px, at_ns, recv_ns, seq + len(events)))
            turn += 1
        seq += len(events)
        yield recv_ns, events


def rss_mb() -> float:
    """Return the memory of this process that is in RAM, in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * sysconf("SC_PAGE_SIZE") / 1e6


def draw(readings: list[Reading]) -> None:
    """Draw memory over simulated time."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 2.8), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([r.hour for r in readings], [r.rss_mb for r in readings], color=BLUE, marker=".")
        axes.set_ylim(0, 1.25 * max(r.rss_mb for r in readings))
        axes.set_xlim(0, readings[-1].hour)
        axes.set_xlabel("simulated hours")
        axes.set_ylabel("resident memory, MB")
        axes.set_title(f"{readings[-1].updates:,} updates, {readings[-1].orders:,} orders")
        figure.savefig(PICTURE, dpi=144, metadata={"Software": None})
    print(f"drawn: {PICTURE.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
