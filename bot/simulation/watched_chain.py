"""A chain we only watch: its blocks and prices are real, that our transactions get into them is simulated.

For paper trading with a node and no key. Fed with the `Quote` and the `ExecutionTerms` that its gateway tells of every
block, it decides by the terms' fees and by chance which block takes a transaction, fills it at that block's quote, or
lets it fail where the limit is missed by then, and charges gas at the block's base fee. Pure and seeded: the same
events and calls give the same answers, so that a journal rebuilds it.

What it assumes, and a real chain does not grant: our trades leave no trace in a pool, others neither follow nor
sandwich us (what competes for a price is what moves the pool anyway), no fill is undone by a reorg, funds and
permissions suffice, and a perpetual pays no funding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bot.domain.instruments import Instrument, Option, Payoff
from bot.domain.market import ExecutionTerms, MarketEvent, Quote
from bot.simulation.chain_venue import ChainMarket, ChainVenue, Inclusion, Transaction
from bot.simulation.venue import Latency

INCLUSION_SHARES = (0.5, 0.8, 0.95)  # of blocks that take a transaction whose tip is that of each tier
UNDERPAID_SHARE = 0.25  # … and of one that tips less than the cheapest


class _Market(ChainMarket):
    quote: Quote | None = None
    terms: ExecutionTerms | None = None
    base_fee_wei: int = 0  # of the newest block, as its parent's terms told it
    done_seq: int = -1


class WatchedChain(ChainVenue[_Market]):
    """The simulated half of a chain; its blocks come as the market's events.

    A block counts once both its quote and its terms were shown, which are read at one moment. It takes what was under
    way before its own time, or a block time before we heard of it, whichever is later: chains with several blocks a
    second stamp whole seconds.
    """

    def __init__(
        self, venue: str, coin: str, instruments: Sequence[Instrument], *, latency: Latency, seed: int
    ) -> None:
        """Watch a chain whose gas is paid in `coin`; of `latency` entry and response count.

        Raises ValueError for an instrument that is not linear: on a chain base is traded for quote.
        """
        if strange := [one for one in instruments if isinstance(one, Option) or one.payoff is not Payoff.LINEAR]:
            raise ValueError(f"expected linear instruments on {venue}, found {strange[0].instrument_id}")
        markets = {instrument.instrument_id: _Market(instrument) for instrument in instruments}
        super().__init__(venue, coin, markets, latency=latency, tag="paper-")
        self._rng = np.random.default_rng(seed)

    def on_market(self, event: MarketEvent) -> None:
        """Take in what a block says, in any order."""
        if isinstance(event, Quote):
            market = self._markets.get(event.instrument_id)
            if market is not None:
                market.quote = event
                self._take_block(market)
        elif isinstance(event, ExecutionTerms):
            market = self._markets.get(event.instrument_id)
            if market is not None:
                market.base_fee_wei = (market.terms or event).base_fee_wei
                market.terms = event
                self._take_block(market)

    def _px_of(self, market: _Market) -> float | None:
        quote = market.quote
        return None if quote is None else 0.5 * (quote.bid_px + quote.ask_px)

    # Blocks

    def _take_block(self, market: _Market) -> None:
        """Once quote and terms are of one block, read together, let it take what was under way, at its own base fee."""
        quote, terms = market.quote, market.terms
        if quote is None or terms is None or quote.ts_recv_ns != terms.ts_recv_ns or terms.seq <= market.done_seq:
            return
        market.done_seq = terms.seq
        made_ns = max(terms.ts_event_ns, terms.ts_recv_ns - terms.block_ns)
        self._block_ns = max(self._block_ns, made_ns)
        for one in list(self._pending):
            if self._market_of(one) is market and one.arrival_ns < made_ns:
                self._offer(one, market, quote, terms, made_ns)

    def _offer(self, one: Transaction, market: _Market, quote: Quote, terms: ExecutionTerms, made_ns: int) -> None:
        """Include a transaction if the block takes it, or its cancel in its place."""
        max_fee_wei, tip_wei = one.next_bid_wei()
        block = Inclusion(f"@{terms.seq}", terms.coin_px, terms.ts_event_ns, self._reply_ns(terms.ts_recv_ns))
        if one.cancel_ns < made_ns:
            self._include_cancel(one, market.base_fee_wei + tip_wei, block)
            return
        tip_wei = min(tip_wei, max_fee_wei - market.base_fee_wei)
        is_taken = self._rng.random() < _share(terms, tip_wei)
        if tip_wei < 0.0 or not is_taken:
            return
        self._execute(one, market, quote, terms.depth_base, block)
        self._pay(one, terms.gas_units * (market.base_fee_wei + tip_wei), block)

    def _execute(self, one: Transaction, market: _Market, quote: Quote, depth_base: float, block: Inclusion) -> None:
        base = one.intent.qty_lots * market.instrument.lot_size
        impact = base / depth_base if depth_base > 0.0 else 1.0
        px = quote.ask_px * (1.0 + impact) if base > 0.0 else quote.bid_px * max(0.0, 1.0 + impact)
        limit_px = market.instrument.tick_schedule.px(one.intent.limit_ticks)
        is_missed = px > limit_px if base > 0.0 else px < limit_px
        if is_missed or block.ts_event_ns > one.bid.deadline_ns:
            self._fail(one, block)
            return
        self._fill(one, f"{self._hash(one)}{block.mark}", px, px * base, block)


def _share(terms: ExecutionTerms, tip_wei: float) -> float:
    """Return the share of blocks like this one that take a transaction with this tip."""
    paid = [share for tier, share in zip(terms.tiers, INCLUSION_SHARES, strict=False) if tier.tip_wei <= tip_wei]
    return paid[-1] if paid else UNDERPAID_SHARE
