"""The simulated chain: blocks, a base fee, pools that are arbitraged to the index, and what becomes of transactions.

One seeded, pure, synchronous venue for replay and paper where there is no RPC. The same seed and the same calls give
the same answers, byte for byte. It must never read a clock and never look ahead: a block knows the newest index up to
its own time, a transaction enters no block that is not after its arrival.

In every block whoever is fastest first trades a pool to within its fee of the index, then others trade at random, then
our transactions whose tip is as high as the block asks, in the order they were sent. One that misses its limit or its
deadline fails, and its gas is paid all the same. A pool is one range of Uniswap v3 liquidity.

What it assumes, and a real chain does not grant: nobody else's price depends on ours beyond the next block, whoever
orders a block takes what a limit allows with a fixed chance and never drops us, no block is ever undone, and the index
needs no gas to be followed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import ceil, erf, exp, inf, log, sqrt
from typing import NamedTuple

import msgspec
import numpy as np

from bot.domain.events import Command, Event
from bot.domain.instruments import Hedgeable, Payoff
from bot.domain.market import ExecutionTerms, GasTier, IndexPrice, MarketEvent, OraclePrice, Quote
from bot.domain.units import NS_PER_DAY, NS_PER_MIN, NS_PER_S
from bot.engine.market import CLOCK_TOLERANCE_NS
from bot.simulation.chain_venue import WEI_PER_COIN, ChainMarket, ChainVenue, Inclusion, Transaction
from bot.simulation.venue import NEVER_NS, Latency

WEI_PER_GWEI = 10**9
INCLUSION_SHARES = (0.5, 0.8, 0.97)  # of blocks that take a transaction of each tier
QUOTED_MOVE = 0.01  # a quote's size is what moves the price by this fraction
TWAP_NS = 30 * NS_PER_MIN
PRIOR_RUNS = 10.0  # transactions that the delays and failures to expect count as, before there are some of ours
PRIOR_REVERT_FRACTION = 0.02
BLOCK_ELASTICITY = 0.125  # EIP-1559: the most a base fee moves from one block to the next


class PoolModel(msgspec.Struct, frozen=True, kw_only=True):
    """One pool and the instrument that trades it.

    `fee_fraction` is taken of what goes in. At the first price L/√P is `depth_base`, or worth `depth_quote` where no
    base is given, and liquidity ends where the price has moved by `range_fraction` from it. `gas_units` is what a trade
    takes. Others move the price by `flow_sd_bps` (one standard deviation) per √s ahead of us in the block.
    """

    instrument: Hedgeable
    fee_fraction: float
    depth_base: float = 0.0
    depth_quote: float = 0.0
    gas_units: int
    range_fraction: float = 1.0
    flow_sd_bps: float = 0.2


class ChainModel(msgspec.Struct, frozen=True, kw_only=True):
    """What a chain is like.

    `coin` pays for gas; its price is the index of that name, or `coin_px` while there is none. With `base_fees_wei`
    the base fee is that of the minute of the day (the first of them at 00:00 UTC, again and again); without, it starts
    at `base_fee_wei` and follows EIP-1559 under demand that is drawn. The tip a block asks for is drawn anew for each:
    log-normal around `tip_wei`. `take_probability` is the chance that all a limit allows is taken from a transaction.
    """

    venue: str
    coin: str
    block_ns: int
    base_fee_wei: float = 20.0 * WEI_PER_GWEI
    base_fees_wei: tuple[float, ...] = ()
    tip_wei: float = 0.1 * WEI_PER_GWEI
    tip_spread: float = 0.7
    take_probability: float = 0.0
    coin_px: float = 0.0


class Swap(NamedTuple):
    """What a trade of base does to a pool: money paid (positive) or received for it, and √P afterwards."""

    quote: float
    root: float


class Pool:
    """Uniswap v3 liquidity in one range, in floats: x = L(1/√P − 1/√p_b), y = L(√P − √p_a), the fee taken of inputs.

    hedging.md 4.4 has the stable forms: to buy x, √P' = √P/(1 − x√P/L) and the cost is P x/(1 − u)/(1 − f) with
    u = x√P/L; to sell x, of which x(1 − f) moves the price, √P' = √P/(1 + u(1 − f)) and P x(1 − f)/(1 + u(1 − f)) is
    paid.
    """

    def __init__(self, px: float, depth_base: float, fee_fraction: float, range_fraction: float) -> None:
        self.root = sqrt(px)
        self.liquidity = depth_base * self.root
        self.fee_fraction = fee_fraction
        self.low_root = sqrt(px / (1.0 + range_fraction))
        self.high_root = sqrt(px * (1.0 + range_fraction))

    @property
    def px(self) -> float:
        """The price without fee."""
        return self.root * self.root

    @property
    def bid_px(self) -> float:
        """What a small sale gets."""
        return self.px * (1.0 - self.fee_fraction)

    @property
    def ask_px(self) -> float:
        """What a small purchase pays."""
        return self.px / (1.0 - self.fee_fraction)

    def quote(self, base: float) -> Swap | None:
        """Return what buying (positive) or selling exactly this much base would do, None beyond the range."""
        root, left = self.root, 1.0 - self.fee_fraction
        units = base * root / self.liquidity
        if units > 0.0:
            if units >= 1.0 or root / (1.0 - units) > self.high_root:
                return None
            return Swap(root * root * base / (1.0 - units) / left, root / (1.0 - units))
        moved = 1.0 - units * left
        if root / moved < self.low_root:
            return None
        return Swap(root * root * base * left / moved, root / moved)

    def trade(self, swap: Swap) -> None:
        """Leave the pool as the trade does."""
        self.root = swap.root

    def arbitrage(self, index_px: float) -> None:
        """Trade the pool to where nobody gains by trading it against the index, as far as its range goes."""
        low = sqrt(index_px * (1.0 - self.fee_fraction))
        high = sqrt(index_px / (1.0 - self.fee_fraction))
        self._move_to(min(max(self.root, low), high))

    def push(self, fraction: float) -> None:
        """Let others move the price by this fraction, as far as its range goes."""
        self._move_to(self.root * (1.0 + 0.5 * fraction))

    def depth_base(self) -> float:
        """Return L/√P."""
        return self.liquidity / self.root

    def base_until(self, fraction: float) -> float:
        """Return how much base moves the price up by this fraction, within the range."""
        root = min(self.high_root, self.root * sqrt(1.0 + fraction))
        return self.liquidity * (1.0 / self.root - 1.0 / root)

    def _move_to(self, root: float) -> None:
        self.root = min(max(root, self.low_root), self.high_root)


class _Market(ChainMarket, kw_only=True):
    model: PoolModel
    pool: Pool | None = None
    sums: deque[tuple[int, float]] = msgspec.field(
        default_factory=deque
    )  # ∫ ln P dt at the newest blocks, for the TWAP
    log_px: float = 0.0  # after the newest block
    tries: float = PRIOR_RUNS
    failures: float = PRIOR_RUNS * PRIOR_REVERT_FRACTION


class _Delays(msgspec.Struct):
    """How long transactions of one tier took: a prior, then ours."""

    mean_ns: float
    p95_ns: float
    runs: float = PRIOR_RUNS

    def note(self, delay_ns: int) -> None:
        self.runs += 1.0
        step = (delay_ns - self.mean_ns) / self.runs
        self.p95_ns += step * self.p95_ns / self.mean_ns
        self.mean_ns += step


class SimulatedChain(ChainVenue[_Market]):
    """A chain's venue: feed it index prices, submit orders with a `GasBid`, advance it, and hear of every block.

    Show it the market in the order of event time and before `advance` reaches that time. Besides what becomes of
    orders, `advance` returns for every block and pool a Quote, ExecutionTerms, and the pool's TWAP as an OraclePrice.
    Blocks come at multiples of the block time, from the first index price on and up to `until_ns`, so that a replay
    ends; what was sent and is in no block by then stays pending. A transaction that waits is sent again with higher
    fees every few blocks, as our own desk does it. The jitter of `latency` means nothing here, where chance is in the
    blocks.
    """

    def __init__(
        self, model: ChainModel, pools: Sequence[PoolModel], *, latency: Latency, seed: int, until_ns: int = NEVER_NS
    ) -> None:
        """Open the chain. Raises ValueError for a pool that is not linear or has no depth, or blocks that take none."""
        if model.block_ns <= 0:
            raise ValueError(f"expected a time between blocks above 0, found {model.block_ns} ns")
        for pool in pools:
            depth = pool.depth_base or pool.depth_quote
            if pool.instrument.payoff is not Payoff.LINEAR or depth <= 0.0:
                raise ValueError(
                    f"expected {pool.instrument.instrument_id} to be linear with a depth above 0, found "
                    f"{pool.instrument.payoff} and {depth:g}; hint: a pool trades base for quote"
                )
        markets = {pool.instrument.instrument_id: _Market(pool.instrument, model=pool) for pool in pools}
        super().__init__(model.venue, model.coin, markets, latency=latency, tag="X")
        self._model = model
        self._until_ns = until_ns
        # Two streams, so that what we send never changes what others do.
        blocks, ours = np.random.SeedSequence(seed).spawn(2)
        self._block_rng = np.random.default_rng(blocks)
        self._our_rng = np.random.default_rng(ours)
        self._index: dict[str, IndexPrice] = {}
        self._base_fee_wei = model.base_fee_wei
        self._tips_wei = [
            ceil(model.tip_wei * exp(model.tip_spread * _normal_quantile(share))) for share in INCLUSION_SHARES
        ]
        self._delays = [_expected_delays(share, model.block_ns) for share in INCLUSION_SHARES]
        self._seq = 0
        self._next_block_ns = NEVER_NS

    def on_market(self, event: MarketEvent) -> None:
        """Take in the index as of `event.ts_event_ns`, after every block before it; nothing else moves a pool."""
        if not isinstance(event, IndexPrice) or not 0.0 < event.px < inf:
            return
        ts_ns = event.ts_event_ns
        last = self._index.get(event.underlying)
        if ts_ns - event.ts_recv_ns > CLOCK_TOLERANCE_NS or (last is not None and ts_ns < last.ts_event_ns):
            return
        self._make_blocks(ts_ns - 1)
        self._index[event.underlying] = event
        if self._next_block_ns == NEVER_NS:
            self._next_block_ns = (ts_ns // self._model.block_ns + 1) * self._model.block_ns

    def submit(self, command: Command, now_ns: int) -> None:
        """Send a command on its way; nothing told from now on is heard before its answer could be."""
        self._reply_ns(self._arrival_ns(now_ns))
        super().submit(command, now_ns)

    def next_event_ns(self) -> int | None:
        """Return when `advance` will next have something to do or to tell, None if nothing is under way."""
        block_ns = self._next_block_ns if self._next_block_ns <= self._until_ns else NEVER_NS
        next_ns = min(block_ns, self._outbox[0][0]) if self._outbox else block_ns
        return None if next_ns == NEVER_NS else next_ns

    def advance(self, now_ns: int) -> list[Event]:
        """Make the blocks due by `now_ns` and return every message that has reached us by then, in order of receipt."""
        self._make_blocks(now_ns)
        return super().advance(now_ns)

    def _px_of(self, market: _Market) -> float | None:
        return None if market.pool is None else market.pool.px

    # Blocks

    def _make_blocks(self, until_ns: int) -> None:
        while self._next_block_ns <= min(until_ns, self._until_ns) and self._next_block_ns != NEVER_NS:
            self._make_block(self._next_block_ns)
            self._next_block_ns += self._model.block_ns

    def _make_block(self, block_ns: int) -> None:
        model = self._model
        self._block_ns = block_ns
        # Always the same draws per block, whatever we have sent.
        demand, asked, *flows = self._block_rng.standard_normal(2 + len(self._markets)).tolist()
        self._base_fee_wei = self._find_base_fee_wei(block_ns, demand)
        asked_wei = model.tip_wei * exp(model.tip_spread * asked)
        reply_ns = self._reply_ns(block_ns)
        block = Inclusion(f"-{block_ns // model.block_ns}", self._coin_px(), block_ns, reply_ns)
        for market, flow in zip(self._markets.values(), flows, strict=True):
            index = self._index.get(market.instrument.base)
            if index is None:
                continue
            if market.pool is None:
                terms = market.model
                depth_base = terms.depth_base or terms.depth_quote / index.px
                market.pool = Pool(index.px, depth_base, terms.fee_fraction, terms.range_fraction)
            market.pool.arbitrage(index.px)
            market.pool.push(flow * market.model.flow_sd_bps * 1e-4 * sqrt(model.block_ns / NS_PER_S))
        for one in list(self._pending):
            market = self._market_of(one)
            if one.arrival_ns < block_ns and market.pool is not None:
                self._offer(one, market, market.pool, asked_wei, block)
        for market in self._markets.values():
            if market.pool is not None:
                self._tell(market, market.pool, block_ns, reply_ns)

    def _find_base_fee_wei(self, block_ns: int, demand: float) -> float:
        """Return the block's base fee: the recorded one, or EIP-1559 with dearer blocks in less demand."""
        fees = self._model.base_fees_wei
        if fees:
            return fees[block_ns % NS_PER_DAY // NS_PER_MIN % len(fees)]
        dearness = log(self._base_fee_wei / self._model.base_fee_wei)
        over_target = min(1.0, max(-1.0, 0.5 * demand - 0.2 * dearness))
        return self._base_fee_wei * (1.0 + BLOCK_ELASTICITY * over_target)

    def _offer(self, one: Transaction, market: _Market, pool: Pool, asked_wei: float, block: Inclusion) -> None:
        """Include a transaction if the block takes it, or its cancel in its place."""
        max_fee_wei, bid_tip_wei = one.next_bid_wei()
        if one.cancel_ns < block.ts_event_ns:
            self._include_cancel(one, min(max_fee_wei, self._base_fee_wei + bid_tip_wei), block)
            return
        tip_wei = min(bid_tip_wei, max_fee_wei - self._base_fee_wei)
        if tip_wei < asked_wei:
            return
        tier = max((n for n, wei in enumerate(self._tips_wei) if wei <= one.bid.tip_wei), default=0)
        self._delays[tier].note(block.ts_event_ns - one.intent.decided_ns)
        self._execute(one, market, pool, block)
        self._pay(one, market.model.gas_units * (self._base_fee_wei + tip_wei), block)

    def _execute(self, one: Transaction, market: _Market, pool: Pool, block: Inclusion) -> None:
        intent, instrument = one.intent, market.instrument
        base = intent.qty_lots * instrument.lot_size
        limit_px = instrument.tick_schedule.px(intent.limit_ticks)
        is_taken = self._our_rng.random() < self._model.take_probability
        swap = pool.quote(base)
        market.tries += 1.0
        is_late = block.ts_event_ns // NS_PER_S * NS_PER_S > one.bid.deadline_ns
        if swap is None or is_late or swap.quote > limit_px * base:  # both below 0 for a sale
            market.failures += 1.0
            self._fail(one, block)
            return
        paid = limit_px * base if is_taken else swap.quote
        pool.trade(swap)
        trade_id = f"{block.ts_event_ns // self._model.block_ns}-{one.number}"
        self._fill(one, trade_id, paid / base, paid, block)

    def _coin_px(self) -> float:
        index = self._index.get(self._coin)
        return index.px if index is not None else self._model.coin_px

    # Messages

    def _tell(self, market: _Market, pool: Pool, block_ns: int, reply_ns: int) -> None:
        """Say what the block left behind."""
        model = self._model
        instrument = market.instrument
        name = instrument.instrument_id
        self._seq += 1
        stamp = block_ns, reply_ns, self._seq
        bid_base = ask_base = max(pool.base_until(QUOTED_MOVE), instrument.lot_size)
        self._send(Quote(name, pool.bid_px, bid_base, pool.ask_px, ask_base, *stamp))
        coin_px = self._coin_px()
        tiers = []
        for tip_wei, delays in zip(self._tips_wei, self._delays, strict=True):
            max_fee_wei = ceil(2.0 * self._base_fee_wei) + tip_wei
            gas_quote = market.model.gas_units * (self._base_fee_wei + tip_wei) / WEI_PER_COIN * coin_px
            tiers.append(GasTier(max_fee_wei, tip_wei, gas_quote, delays.mean_ns / NS_PER_S, delays.p95_ns / NS_PER_S))
        revert_fraction = market.failures / market.tries
        depth_base = pool.depth_base()
        self._send(ExecutionTerms(name, tuple(tiers), revert_fraction, depth_base, model.block_ns, *stamp))
        twap_px = self._twap_px(market, pool, block_ns)
        max_age_ns = max(TWAP_NS, 10 * model.block_ns)
        self._send(OraclePrice(f"twap of {name}", instrument.base, twap_px, 0.0, max_age_ns, *stamp))

    def _twap_px(self, market: _Market, pool: Pool, block_ns: int) -> float:
        """Return the geometric mean over the last half hour, each price holding from its block to the next."""
        sums = market.sums
        total = sums[-1][1] + market.log_px * (block_ns - sums[-1][0]) if sums else 0.0
        market.log_px = log(pool.px)
        sums.append((block_ns, total))
        while len(sums) > 2 and sums[1][0] <= block_ns - TWAP_NS:
            sums.popleft()
        first_ns, first = sums[0]
        return exp((total - first) / (block_ns - first_ns)) if block_ns > first_ns else pool.px


def _expected_delays(share: float, block_ns: int) -> _Delays:
    """Return what to expect of a tier included in `share` of all blocks, decided at any moment between two blocks."""
    blocks = 1.0 / share - 0.5
    p95_blocks = float(ceil(log(0.05) / log(1.0 - share)))
    return _Delays(blocks * block_ns, p95_blocks * block_ns)


def _normal_quantile(share: float) -> float:
    """Return the standard normal quantile by bisection; it is asked three times in a chain's life."""
    low, high = -10.0, 10.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        if 0.5 * (1.0 + erf(middle / sqrt(2.0))) < share:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
