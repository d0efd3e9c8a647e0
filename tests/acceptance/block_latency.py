"""Hedging through a simulated chain: sizing for the block an order lands in, against sizing that knows of no blocks.

A short straddle in its last hours on seeded paths of geometric Brownian motion, hedged by swaps. "aware" is the engine
as it is. "naive" is what a bot does that treats a pool like an exchange: it looks at each block, compares the delta as
of that block with the policy's band, trades to the band's edge and allows a constant slippage; what is still under way,
gas, and where delta will be at inclusion it does not think of. "centre" is the same, but trades to the middle of the
band: the folk remedy for gas, and the harder one to beat. All follow the same Whalley–Wilmott policy and meet the same
blocks. Sweeping the policy's risk aversion gives each rule a frontier: cost against squared residual delta.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from math import exp, log
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bot.domain.decisions import HedgeTarget, HedgeView, Legs
from bot.domain.events import Command, Event, SubmitOrder
from bot.domain.instruments import Payoff, Spot, TickSchedule
from bot.domain.market import ExecutionTerms, IndexPrice, MarketEvent, Quote, VolQuote
from bot.domain.orders import Fill, GasBid, OrderIntent, TimeInForce
from bot.domain.portfolio import Greeks
from bot.domain.units import BPS, NS_PER_MIN, NS_PER_MS, NS_PER_S, NS_PER_YEAR, tau_years
from bot.engine.engine import Engine
from bot.engine.settings import BookLeg, HedgeSettings, Limits
from bot.engine.sizing import lots_to_trade
from bot.pricing.black76 import greeks
from bot.simulation.chain import WEI_PER_GWEI, ChainModel, PoolModel, SimulatedChain
from bot.simulation.chain_venue import ChainFigures
from bot.simulation.recording import recorded_gas_prices_wei
from bot.simulation.venue import Latency
from bot.simulation.world import World
from strategies import WhalleyWilmott
from tests.engine.builders import T0_NS, make_settings, option

BLOCK_S = (0.25, 1.0, 2.0, 12.0)
START_PX = 1_900.0
VOL = 0.6
QTY_BASE = -100.0  # of each leg
EXPIRY_DAYS = 0.5
SLIPPAGE_BPS = 25.0  # of the naive rule, and the most the engine may allow
LATENCY = Latency(0, 50 * NS_PER_MS, 50 * NS_PER_MS)
RULES = ("aware", "naive", "centre")
SWEEPS = {  # risk aversions per quote money, from loose to tight: what each rule makes of them differs widely
    "aware": (1e-3, 1e-2, 1e-1, 1.0),
    "naive": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
    "centre": (1e-5, 1e-4, 1e-3, 1e-2),
}
TAKE_PROBABILITY = 0.05  # that whoever orders a block takes all a limit allows

POOL = Spot(
    instrument_id="chain:WETH-USDC",
    venue="chain",
    base="ETH",
    quote="USD",
    settle="USD",
    price_currency="USD",
    payoff=Payoff.LINEAR,
    contract_size=1.0,
    lot_contracts=0.01,
    tick_schedule=TickSchedule(0.01),
)
CALL = option(START_PX, days=EXPIRY_DAYS)
PUT = option(START_PX, is_call=False, days=EXPIRY_DAYS)
_NO_LIMITS = Limits(max_order_quote=1e12, max_orders_per_min=10**6, daily_loss_quote=1e12, max_hedges_same_way=10**6)


class Hedger(Protocol):
    """What a world drives: the engine is one."""

    def apply(self, event: Event) -> None:
        """Take in one event."""

    def decide(self, now_ns: int) -> list[Command]:
        """Return what to do now."""


class Outcome(NamedTuple):
    """What one rule at one risk aversion came to, over all paths."""

    risk_aversion_per_quote: float
    squared_delta: float  # the mean of it, in ETH²
    cost_quote: float  # trading against the index, and gas, per path
    gas_quote: float
    trades: float
    reverts: float


class NaiveHedger:
    """The same band, without a thought of blocks."""

    def __init__(self, policy: WhalleyWilmott, *, to_centre: bool = False) -> None:
        self._policy = policy
        self._to_centre = to_centre
        self._index_px = 0.0
        self._held_lots = 0
        self._quote: Quote | None = None
        self._terms: ExecutionTerms | None = None
        self._is_new = False
        self._orders = 0

    def apply(self, event: Event) -> None:
        """Take in one event."""
        if isinstance(event, IndexPrice):
            self._index_px = event.px
        elif isinstance(event, Quote):
            self._quote, self._is_new = event, True
        elif isinstance(event, ExecutionTerms):
            self._terms = event
        elif isinstance(event, Fill):
            self._held_lots += event.qty_lots

    def decide(self, now_ns: int) -> list[Command]:
        """Return an order once per block, if the delta it shows is outside the band."""
        quote, terms = self._quote, self._terms
        if not self._is_new or quote is None or terms is None:
            return []
        self._is_new = False
        delta_base, gamma_base_per_px = book_greeks(np.array([self._index_px]), np.array([now_ns]))
        held_base = self._held_lots * POOL.lot_size
        net_base = float(delta_base[0]) + held_base
        mid_px = 0.5 * (quote.bid_px + quote.ask_px)
        cost_rate = 0.5 * (quote.ask_px - quote.bid_px) / mid_px
        none = np.zeros(0)
        view = HedgeView(
            now_ns, "ETH", self._index_px, 0.0, Greeks(net_base, float(gamma_base_per_px[0])), net_base, net_base,
            held_base, 0.0, cost_rate, 0.0, POOL.lot_size, 0.0, 0, 0.0, Legs(none, none, none, none, none, none > 0),
        )  # fmt: skip
        target = self._policy.target(view)
        if self._to_centre:
            target = HedgeTarget.to_centre(target.low_base, target.high_base, 0.0, target.reason)
        lots = lots_to_trade(target, net_base, net_base, POOL.lot_size)
        if not lots:
            return []
        self._orders += 1
        ticks = POOL.tick_schedule
        limit_ticks = (
            ticks.ceil_ticks(quote.ask_px * (1.0 + SLIPPAGE_BPS * BPS))
            if lots > 0
            else ticks.floor_ticks(quote.bid_px * (1.0 - SLIPPAGE_BPS * BPS))
        )
        tier = terms.tiers[1]
        gas = GasBid(tier.max_fee_wei, tier.tip_wei, tier.gas_quote, now_ns + 10 * NS_PER_MIN)
        name = f"naive-{self._orders}"
        intent = OrderIntent(
            name, POOL.instrument_id, lots, limit_ticks, TimeInForce.IOC, False, "naive", mid_px, now_ns, gas
        )  # fmt: skip
        return [SubmitOrder(intent)]


class Path(NamedTuple):
    """An index path and the deltas of the book along it."""

    seed: int
    ts_ns: NDArray[np.int64]
    px: NDArray[np.float64]
    delta_base: NDArray[np.float64]


def make_path(seed: int, *, hours: float, tick_s: float) -> Path:
    """Return a seeded path; the index is quoted every `tick_s`, a moment off the blocks."""
    ticks = round(hours * 3600 / tick_s)
    shocks = np.random.default_rng(seed).standard_normal(ticks)
    step = VOL * np.sqrt(tick_s * NS_PER_S / NS_PER_YEAR)
    px = START_PX * np.exp(np.cumsum(step * shocks - 0.5 * step * step))
    ts_ns = T0_NS + (np.arange(ticks) * round(tick_s * NS_PER_S)).astype(np.int64)
    return Path(seed, ts_ns, px, book_greeks(px, ts_ns)[0])


def book_greeks(px: NDArray[np.float64], ts_ns: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return delta and gamma of the straddle at each price and time."""
    tau = np.array([tau_years(int(ts), CALL.expiry_ns) for ts in ts_ns])
    strike, vol = np.full(len(px), START_PX), np.full(len(px), VOL)
    call = greeks(px, strike, tau, vol, np.full(len(px), True))
    put = greeks(px, strike, tau, vol, np.full(len(px), False))
    return QTY_BASE * (call.delta + put.delta), QTY_BASE * (call.gamma + put.gamma)


def make_chain(path: Path, block_s: float, take_probability: float = TAKE_PROBABILITY) -> SimulatedChain:
    """Return the chain of one block time: Ethereum's recorded day of gas at 12 s, a rollup's cheap gas below."""
    is_mainnet = block_s >= 12.0
    model = ChainModel(
        venue="chain",
        coin="ETH",
        block_ns=round(block_s * NS_PER_S),
        base_fee_wei=0.05 * WEI_PER_GWEI,
        base_fees_wei=recorded_gas_prices_wei() if is_mainnet else (),
        tip_wei=(0.1 if is_mainnet else 0.01) * WEI_PER_GWEI,
        take_probability=take_probability,
    )
    pool = PoolModel(instrument=POOL, fee_fraction=5e-4, depth_base=200_000.0, gas_units=150_000)
    return SimulatedChain(model, [pool], latency=LATENCY, seed=path.seed, until_ns=int(path.ts_ns[-1]))


def make_engine(policy: WhalleyWilmott) -> Engine:
    """Return the engine with the pool as its only hedge."""
    hedge = HedgeSettings(
        instrument=POOL, maker_bps=0.0, taker_bps=0.0, max_slippage_bps=SLIPPAGE_BPS, needs_terms=True
    )  # fmt: skip
    book = (BookLeg(CALL, QTY_BASE), BookLeg(PUT, QTY_BASE))
    return Engine(make_settings(book, hedge=hedge, policy=policy, limits=_NO_LIMITS))


def make_hedger(rule: str, policy: WhalleyWilmott) -> Hedger:
    """Return a fresh hedger of one of `RULES`."""
    return make_engine(policy) if rule == "aware" else NaiveHedger(policy, to_centre=rule == "centre")


def market(path: Path) -> Iterator[list[MarketEvent]]:
    """Yield the index and the marks of both legs at every tick."""
    legs = (CALL.instrument_id, PUT.instrument_id)
    for seq, (ts, px) in enumerate(zip(path.ts_ns.tolist(), path.px.tolist(), strict=True)):
        stamp = ts, ts, seq + 1
        yield [IndexPrice("ETH", px, *stamp), *(VolQuote(leg, VOL, 0.0, 0.0, px, *stamp) for leg in legs)]


def hedge(
    path: Path, block_s: float, hedger: Hedger, take_probability: float = TAKE_PROBABILITY
) -> tuple[float, float, ChainFigures]:
    """Run one rule along one path; return mean squared residual delta, cost in quote money, and what it sent."""
    chain = make_chain(path, block_s, take_probability)
    world = World(market(path), chain)
    fills: list[Fill] = []
    while (step := world.step()) is not None:
        now_ns, events = step
        for event in events:
            hedger.apply(event)
            if isinstance(event, Fill):
                fills.append(event)
        for command in hedger.decide(now_ns):
            world.submit(command, now_ns)
    held_base = np.zeros(len(path.px))
    cost_quote = 0.0
    for fill in fills:
        at = int(np.searchsorted(path.ts_ns, fill.ts_event_ns, side="right"))
        base = fill.qty_lots * POOL.lot_size
        held_base[at:] += base
        cost_quote += base * (fill.px - float(path.px[at - 1]))
    # The first ten minutes set the hedge up, from nothing: what is measured comes after.
    measured = path.ts_ns >= path.ts_ns[0] + 10 * NS_PER_MIN
    residual_base = (path.delta_base + held_base)[measured]
    return float(np.mean(residual_base**2)), cost_quote + chain.figures.gas_quote, chain.figures


def measure(
    rule: str,
    block_s: float,
    paths: Sequence[Path],
    risk_aversions: Iterable[float] = (),
    take_probability: float = TAKE_PROBABILITY,
) -> list[Outcome]:
    """Return one outcome per risk aversion, those of the rule's sweep unless told, averaged over the paths."""
    outcomes = []
    for risk_aversion in risk_aversions or SWEEPS[rule]:
        policy = WhalleyWilmott(risk_aversion_per_quote=risk_aversion)
        runs = [hedge(path, block_s, make_hedger(rule, policy), take_probability) for path in paths]
        n = len(runs)
        outcomes.append(
            Outcome(
                risk_aversion,
                sum(run[0] for run in runs) / n,
                sum(run[1] for run in runs) / n,
                sum(run[2].gas_quote for run in runs) / n,
                sum(run[2].fills for run in runs) / n,
                sum(run[2].reverts for run in runs) / n,
            )
        )
    return outcomes


def frontier(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the outcomes that no other beats at both, by rising cost; those that spent nothing are left out."""
    efficient: list[Outcome] = []
    for one in sorted(outcomes, key=lambda one: (one.cost_quote, one.squared_delta)):
        if one.trades and (not efficient or one.squared_delta < efficient[-1].squared_delta):
            efficient.append(one)
    return efficient


def squared_delta_at(efficient: Sequence[Outcome], cost_quote: float) -> float | None:
    """Return a frontier's squared residual delta at a cost, interpolated in logarithms, None beyond its ends."""
    for cheap, dear in pairwise(efficient):
        if cheap.cost_quote <= cost_quote <= dear.cost_quote:
            share = log(cost_quote / cheap.cost_quote) / log(dear.cost_quote / cheap.cost_quote)
            return exp((1.0 - share) * log(cheap.squared_delta) + share * log(dear.squared_delta))
    return None
