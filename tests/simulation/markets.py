"""Tiny hand-made markets: one perpetual, one index, ten coins to hedge, and batches as a recording would give them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from bot.domain.market import IndexPrice, MarketEvent, Quote
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.engine.settings import Ages, EngineSettings, HedgeSettings, Limits
from bot.simulation.venue import Fees, Latency, SimulatedVenue
from strategies import Policy
from tests.instruments import PERPETUAL

TAKER_BPS = 5.0
LATENCY = Latency(50 * NS_PER_MS, 20 * NS_PER_MS, 20 * NS_PER_MS)
GAP_NS = 300 * NS_PER_S


def make_venue(latency: Latency, seed: int = 1) -> SimulatedVenue:
    """Return a venue that trades the perpetual at its touch only."""
    fees = {PERPETUAL.instrument_id: Fees(0.0, TAKER_BPS)}
    return SimulatedVenue([PERPETUAL], fees=fees, latency=latency, depth={}, seed=seed)


def quote(ts_ns: int, bid_px: float, ask_px: float, *, feed_ns: int = 0, seq: int = 0, size_base: float = 1e3) -> Quote:
    """Return a quote seen `feed_ns` after `ts_ns`."""
    return Quote("ETH-PERPETUAL", bid_px, size_base, ask_px, size_base, ts_ns, ts_ns + feed_ns, seq or ts_ns)


def index(ts_ns: int, px: float, *, feed_ns: int = 0) -> IndexPrice:
    """Return an index price seen `feed_ns` after `ts_ns`."""
    return IndexPrice("ETH", px, ts_ns, ts_ns + feed_ns, ts_ns)


def in_batches(events: Iterable[MarketEvent]) -> list[list[MarketEvent]]:
    """Group events, already in order, by receive time."""
    return [list(group) for _, group in groupby(events, key=lambda event: event.ts_recv_ns)]


def settings(policy: Policy) -> EngineSettings:
    """Return a vault of ten coins and 500 dollars whose orders may be worth six coins each."""
    return EngineSettings(
        vault="tiny",
        run_id="tiny",
        numeraire="USD",
        policy=policy,
        book=(),
        cash={"ETH": 10.0, "USD": 500.0},
        hedges={"ETH": (HedgeSettings(instrument=PERPETUAL, maker_bps=0.0, taker_bps=TAKER_BPS),)},
        universe=(PERPETUAL,),
        limits=Limits(max_order_quote=12_100.0, max_orders_per_min=10, daily_loss_quote=1e9),
        ages=Ages(vol_ns=GAP_NS, quote_ns=2 * GAP_NS, index_ns=2 * GAP_NS),
        gap_ns=GAP_NS,
    )


def market(*points: tuple[float, float]) -> list[MarketEvent]:
    """Return index and a quote one dollar either side of it at each (second, price)."""
    events: list[MarketEvent] = []
    for seconds, px in points:
        ts_ns = round(seconds * NS_PER_S)
        events += [index(ts_ns, px, feed_ns=LATENCY.feed_ns), quote(ts_ns, px - 1.0, px + 1.0, feed_ns=LATENCY.feed_ns)]
    return events
