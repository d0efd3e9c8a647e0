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

import heapq
from collections import deque
from collections.abc import Sequence
from math import ceil, erf, exp, inf, log, sqrt
from typing import NamedTuple

import msgspec
import numpy as np

from bot.domain.chain import GasPaid
from bot.domain.events import AmendOrder, CancelOrder, Command, Event, QueryOrder, SubmitOrder
from bot.domain.instruments import Hedgeable, Payoff
from bot.domain.market import ExecutionTerms, GasTier, IndexPrice, MarketEvent, OraclePrice, Quote
from bot.domain.orders import (
    AmendRejected,
    CancelRejected,
    Fill,
    Liquidity,
    OrderAccepted,
    OrderCanceled,
    OrderIntent,
    OrderRejected,
    OrderState,
    OrderTruth,
)
from bot.domain.units import NS_PER_DAY, NS_PER_MIN, NS_PER_S
from bot.domain.venues import VenueOrder
from bot.engine.market import CLOCK_TOLERANCE_NS
from bot.simulation.venue import MAX_FINISHED, NEVER_NS, Latency

WEI_PER_COIN = 10**18
WEI_PER_GWEI = 10**9
REPLACE_AFTER_BLOCKS = 3  # a transaction that waits is sent again with higher fees after this many …
REPLACE_RISE = 1.125  # … times this, …
MAX_REPLACEMENTS = 4  # … no more often than this
CANCEL_GAS_UNITS = 21_000  # a transfer of nothing to oneself
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


class ChainFigures(msgspec.Struct):
    """What our transactions came to so far."""

    fills: int = 0
    reverts: int = 0
    cancels: int = 0
    gas_coin: float = 0.0
    gas_quote: float = 0.0


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


class _Market(msgspec.Struct):
    model: PoolModel
    pool: Pool | None = None
    position_lots: int = 0
    cash: float = 0.0
    sums: deque[tuple[int, float]] = msgspec.field(
        default_factory=deque
    )  # ∫ ln P dt at the newest blocks, for the TWAP
    log_px: float = 0.0  # after the newest block
    tries: float = PRIOR_RUNS
    failures: float = PRIOR_RUNS * PRIOR_REVERT_FRACTION


class _Transaction(msgspec.Struct):
    intent: OrderIntent
    arrival_ns: int
    market: _Market
    state: OrderState = OrderState.OPEN
    cancel_ns: int = NEVER_NS
    fill: Fill | None = None
    number: int = 0
    waited_blocks: int = 0


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


class SimulatedChain:
    """A chain's venue: feed it index prices, submit orders with a `GasBid`, advance it, and hear of every block.

    Used like `SimulatedVenue`: `on_market` in the order of event time and before `advance` reaches that time. Besides
    what becomes of orders, `advance` returns for every block and pool a Quote, ExecutionTerms, and the pool's TWAP as
    an OraclePrice. Blocks come at multiples of the block time, from the first index price on and up to `until_ns`, so
    that a replay ends; what was sent and is in no block by then stays pending.

    A transaction that waits is sent again with higher fees every few blocks, as our own desk does it. A cancel is
    another transaction, included in the next block if the order is not: it costs gas too. Nothing can be amended.
    `latency.entry_ns` is from us to the pool of pending transactions, `response_ns` from a block to us; its jitter
    means nothing here, where chance is in the blocks.
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
        self._model = model
        self._markets = {pool.instrument.instrument_id: _Market(pool) for pool in pools}
        self._latency = latency
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
        self._transactions: dict[str, _Transaction] = {}
        self._pending: list[_Transaction] = []
        self._outbox: list[tuple[int, int, Event]] = []
        self._messages = 0
        self._seq = 0
        self._next_block_ns = NEVER_NS
        self._block_ns = 0
        self._last_reply_ns = 0
        self.figures = ChainFigures()

    @property
    def positions(self) -> dict[str, int]:
        """Signed lots by instrument id, flat ones left out."""
        return {name: market.position_lots for name, market in self._markets.items() if market.position_lots}

    @property
    def cash_settle(self) -> dict[str, float]:
        """Money by currency, from 0: minus what was paid for positions, minus gas in the chain's coin."""
        cash: dict[str, float] = {}
        for market in self._markets.values():
            if market.cash:
                settle = market.model.instrument.settle
                cash[settle] = cash.get(settle, 0.0) + market.cash
        if self.figures.gas_coin:
            cash[self._model.coin] = cash.get(self._model.coin, 0.0) - self.figures.gas_coin
        return cash

    @property
    def equity_settle(self) -> dict[str, float]:
        """Money by currency as in `cash_settle`, plus what the positions are worth at the pools' prices."""
        equity = self.cash_settle
        for market in self._markets.values():
            if market.position_lots and market.pool is not None:
                instrument = market.model.instrument
                worth = market.position_lots * instrument.lot_size * market.pool.px
                equity[instrument.settle] = equity.get(instrument.settle, 0.0) + worth
        return equity

    @property
    def open_orders(self) -> tuple[VenueOrder, ...]:
        """Every transaction that waits for its block, oldest first."""
        return tuple(
            VenueOrder(
                _hash(one),
                one.intent.order_id,
                one.intent.instrument_id,
                one.intent.qty_lots,
                one.market.model.instrument.tick_schedule.px(one.intent.limit_ticks),
            )
            for one in self._pending
        )

    @property
    def last_reply_ns(self) -> int:
        """When the last message that has left the chain reaches us; later ones come no earlier."""
        return self._last_reply_ns

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
        """Send a command on its way."""
        arrival_ns = max(now_ns + self._latency.entry_ns, self._block_ns)
        reply_ns = self._reply_ns(arrival_ns)
        if isinstance(command, SubmitOrder):
            self._take_order(command.intent, arrival_ns, reply_ns)
        elif isinstance(command, CancelOrder):
            found = self._transactions.get(command.order_id)
            if found is None or found.state is not OrderState.OPEN:
                why = "nothing to cancel: no such transaction is pending"
                self._send(CancelRejected(command.order_id, why, arrival_ns, reply_ns))
            else:
                found.cancel_ns = min(found.cancel_ns, arrival_ns)
        elif isinstance(command, AmendOrder):
            why = "a transaction is replaced or canceled, never amended"
            self._send(AmendRejected(command.order_id, why, arrival_ns, reply_ns))
        elif isinstance(command, QueryOrder):
            found = self._transactions.get(command.order_id)
            state = found.state if found is not None else OrderState.REJECTED
            fills = (found.fill,) if found is not None and found.fill is not None else ()
            self._send(OrderTruth(command.order_id, state, fills, arrival_ns, reply_ns))

    def next_event_ns(self) -> int | None:
        """Return when `advance` will next have something to do or to tell, None if nothing is under way."""
        block_ns = self._next_block_ns if self._next_block_ns <= self._until_ns else NEVER_NS
        next_ns = min(block_ns, self._outbox[0][0]) if self._outbox else block_ns
        return None if next_ns == NEVER_NS else next_ns

    def advance(self, now_ns: int) -> list[Event]:
        """Make the blocks due by `now_ns` and return every message that has reached us by then, in order of receipt."""
        self._make_blocks(now_ns)
        events: list[Event] = []
        while self._outbox and self._outbox[0][0] <= now_ns:
            events.append(heapq.heappop(self._outbox)[2])
        return events

    # Orders

    def _take_order(self, intent: OrderIntent, arrival_ns: int, reply_ns: int) -> None:
        known = self._transactions.get(intent.order_id)
        if known is not None:
            fills = (known.fill,) if known.fill is not None else ()
            self._send(OrderTruth(intent.order_id, known.state, fills, arrival_ns, reply_ns))
            return
        market = self._markets.get(intent.instrument_id)
        problem = ""
        if market is None:
            problem = f"unknown instrument: expected one of {len(self._markets)} pools, found {intent.instrument_id}"
        elif intent.gas is None:
            problem = "no gas bid: an order here is a transaction, and says what it may pay for its place in a block"
        elif not intent.qty_lots or intent.limit_ticks <= 0:
            problem = f"expected lots and a limit, found {intent.qty_lots} lots and {intent.limit_ticks} ticks"
        if problem or market is None:
            self._send(OrderRejected(intent.order_id, problem, arrival_ns, reply_ns))
            return
        self._forget_finished()
        made = _Transaction(intent, arrival_ns, market, number=len(self._transactions) + 1)
        self._transactions[intent.order_id] = made
        self._pending.append(made)
        self._send(OrderAccepted(intent.order_id, _hash(made), arrival_ns, reply_ns))

    def _forget_finished(self) -> None:
        """Let go of the oldest that are over, many at once and rarely."""
        if len(self._transactions) > 2 * MAX_FINISHED:
            over = [name for name, one in self._transactions.items() if one.state is not OrderState.OPEN]
            for name in over[: max(0, len(over) - MAX_FINISHED)]:
                del self._transactions[name]

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
        for market, flow in zip(self._markets.values(), flows, strict=True):
            index = self._index.get(market.model.instrument.base)
            if index is None:
                continue
            if market.pool is None:
                terms = market.model
                depth_base = terms.depth_base or terms.depth_quote / index.px
                market.pool = Pool(index.px, depth_base, terms.fee_fraction, terms.range_fraction)
            market.pool.arbitrage(index.px)
            market.pool.push(flow * market.model.flow_sd_bps * 1e-4 * sqrt(model.block_ns / NS_PER_S))
        for one in list(self._pending):
            if one.arrival_ns < block_ns and one.market.pool is not None:
                self._offer(one, one.market.pool, block_ns, asked_wei, reply_ns)
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

    def _offer(self, one: _Transaction, pool: Pool, block_ns: int, asked_wei: float, reply_ns: int) -> None:
        """Include a transaction if the block takes it, or its cancel in its place."""
        bid = one.intent.gas
        assert bid is not None, "an order without a gas bid was accepted"
        rise = REPLACE_RISE ** min(MAX_REPLACEMENTS, one.waited_blocks // REPLACE_AFTER_BLOCKS)
        one.waited_blocks += 1
        max_fee_wei, bid_tip_wei = bid.max_fee_wei * rise, bid.tip_wei * rise
        if one.cancel_ns < block_ns:
            fee_wei = min(max_fee_wei, self._base_fee_wei + bid_tip_wei) * REPLACE_RISE  # it replaces the other one
            self._pay(one, CANCEL_GAS_UNITS * fee_wei, block_ns, reply_ns)
            self.figures.cancels += 1
            self._finish(one, OrderState.CANCELED)
            self._send(OrderCanceled(one.intent.order_id, is_expired=False, ts_event_ns=block_ns, ts_recv_ns=reply_ns))
            return
        tip_wei = min(bid_tip_wei, max_fee_wei - self._base_fee_wei)
        if tip_wei < asked_wei:
            return
        tier = max((n for n, wei in enumerate(self._tips_wei) if wei <= bid.tip_wei), default=0)
        self._delays[tier].note(block_ns - one.intent.decided_ns)
        self._execute(one, pool, block_ns, reply_ns)
        self._pay(one, one.market.model.gas_units * (self._base_fee_wei + tip_wei), block_ns, reply_ns)

    def _execute(self, one: _Transaction, pool: Pool, block_ns: int, reply_ns: int) -> None:
        intent, market = one.intent, one.market
        instrument = market.model.instrument
        assert intent.gas is not None, "an order without a gas bid was accepted"
        base = intent.qty_lots * instrument.lot_size
        limit_px = instrument.tick_schedule.px(intent.limit_ticks)
        is_taken = self._our_rng.random() < self._model.take_probability
        swap = pool.quote(base)
        market.tries += 1.0
        is_late = block_ns // NS_PER_S * NS_PER_S > intent.gas.deadline_ns
        if swap is None or is_late or swap.quote > limit_px * base:  # both below 0 for a sale
            market.failures += 1.0
            self.figures.reverts += 1
            self._finish(one, OrderState.EXPIRED)
            self._send(OrderCanceled(intent.order_id, is_expired=True, ts_event_ns=block_ns, ts_recv_ns=reply_ns))
            return
        paid = limit_px * base if is_taken else swap.quote
        pool.trade(swap)
        market.position_lots += intent.qty_lots
        market.cash -= paid
        self.figures.fills += 1
        trade_id = f"{block_ns // self._model.block_ns}-{one.number}"
        one.fill = Fill(
            trade_id,
            intent.order_id,
            intent.instrument_id,
            intent.qty_lots,
            paid / base,
            0.0,
            Liquidity.TAKER,
            block_ns,
            reply_ns,
        )
        self._finish(one, OrderState.FILLED)
        self._send(one.fill)

    def _finish(self, one: _Transaction, state: OrderState) -> None:
        one.state = state
        self._pending.remove(one)

    def _pay(self, one: _Transaction, gas_wei: float, block_ns: int, reply_ns: int) -> None:
        intent = one.intent
        gas_coin = gas_wei / WEI_PER_COIN
        gas_quote = gas_coin * self._coin_px()
        self.figures.gas_coin += gas_coin
        self.figures.gas_quote += gas_quote
        payment_id = f"{_hash(one)}-{block_ns // self._model.block_ns}"
        venue, coin = self._model.venue, self._model.coin
        names = payment_id, venue, intent.order_id, intent.instrument_id, coin
        self._send(GasPaid(*names, gas_coin, gas_quote, block_ns, reply_ns))

    def _coin_px(self) -> float:
        index = self._index.get(self._model.coin)
        return index.px if index is not None else self._model.coin_px

    # Messages

    def _tell(self, market: _Market, pool: Pool, block_ns: int, reply_ns: int) -> None:
        """Say what the block left behind."""
        model = self._model
        instrument = market.model.instrument
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

    def _reply_ns(self, ts_ns: int) -> int:
        """Return when a message that leaves at `ts_ns` reaches us, never before an earlier one."""
        self._last_reply_ns = max(ts_ns + self._latency.response_ns, self._last_reply_ns)
        return self._last_reply_ns

    def _send(self, event: Event) -> None:
        self._messages += 1
        heapq.heappush(self._outbox, (self._last_reply_ns, self._messages, event))


def _hash(one: _Transaction) -> str:
    return f"X{one.number}"


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
