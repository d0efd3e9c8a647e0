"""One underlying of a vault: its book, its hedge, its P&L, whether its inputs can be trusted, and what a policy sees.

A desk never decides to trade and never sends anything; `bot.engine.engine` does.
"""

from __future__ import annotations

from math import inf, isfinite
from typing import NamedTuple

import numpy as np

from bot.domain.decisions import Decision, HedgeView, Peer, Refusal
from bot.domain.instruments import Future, Option
from bot.domain.market import Quote, QuoteFault, Settlement
from bot.domain.orders import Fill, OrderState, TimeInForce
from bot.domain.units import BPS, NS_PER_MIN, NS_PER_YEAR
from bot.engine.anticipation import FillLatencies, anticipated_drift_base, find_outstanding
from bot.engine.book import Holding, UnderlyingBook
from bot.engine.execution import FillRates, Need
from bot.engine.inclusion import RealizedVol, fixed_cost_quote
from bot.engine.leg_sums import MATERIAL_SHARE, LegSums
from bot.engine.option_holding import NO_ROW, OptionHolding
from bot.engine.orders import Order, OrderTracker
from bot.engine.pnl import PnlLedger
from bot.engine.routing import Blocked, age_text, explain_blocks, in_flight
from bot.engine.settings import EngineSettings, HedgeSettings

_MONITOR_WEIGHT = 0.05  # weight of the newest interval in the typical time between two decisions
SETTLEMENT_PATIENCE_NS = 30 * NS_PER_MIN  # how long an expired leg may wait at its last forward


class Residual(NamedTuple):
    """What an underlying was off by when last decided, orders of that decision included; for desks beside it."""

    now_ns: int
    view: HedgeView
    off_base: float


class Desk:
    """One underlying of the vault, and what was decided about it last.

    `hedges` are in order of preference; `settings` and `hedge` are the first one and the position in it.
    """

    def __init__(self, hedges: tuple[HedgeSettings, ...], book: UnderlyingBook, vault: EngineSettings) -> None:
        self.underlying = book.underlying
        self.hedges = hedges
        self.settings = hedges[0]
        self.book = book
        self.pnl = PnlLedger(book, vault.gap_ns)
        self.holdings: dict[str, Holding] = {one.instrument.instrument_id: book.hedge(one.instrument) for one in hedges}
        self.hedge = self.holdings[self.settings.instrument.instrument_id]
        self.quoted = hedges  # those with a market to trade on, as of the last `find_bad_input`
        self.unquoted: list[Blocked] = []  # and why the others have none
        self.is_maker = any(one.style != "taker" for one in hedges)
        self.fill_rates = FillRates()
        self.need: Need | None = None
        self.resting_from: list[tuple[Order, float]] = []  # resting orders, and the hedge before each
        self.traded_base = 0.0  # size of the newest need that was served
        self.oracle_doubt = ""  # why exposure may only shrink, where the sources of the price disagree
        self.decision: Decision | None = None
        self.profit_quote = 0.0  # as of the last decision that could mark the book
        self.last_hedge_px = 0.0
        self.last_orders: tuple[Order, ...] = ()  # of the newest decision that sent any, largest first
        self.settled_px: dict[int, float] = {}  # by expiry
        self.band_multiple = 1.0 if vault.risk is None else vault.risk.band_multiple(book.underlying)
        self._ages = vault.ages
        self.is_coin_numeraire = vault.numeraire == book.underlying
        self._ordered_on: dict[str, tuple[Order, Quote]] = {}  # newest order of an instrument, and its quote then
        self._keeps_orders = vault.routing == "cheapest"
        self._last_hedge_ns = 0
        self._whole_hedge_ns = 0
        self.decided_ns = 0
        self._monitor_ns = 0.0
        self.realized_vol = RealizedVol()
        self.is_vol_fed_by_terms = any(one.needs_terms for one in hedges)  # else with every decision
        self.residual: Residual | None = None  # kept only where bands are joint
        self._fill_latencies = FillLatencies()
        self._outstanding: dict[str, str] = {}  # instruments on which nothing new is sent now, as of the last view
        self.option_orders: tuple[str, ...] = ()  # those of the last decision, with why
        self.option_refusal = ""  # why the last trade of an option that a policy asked for was not made
        self.reviewed_ns = 0  # when the policy was last shown which options are offered
        self._sums = LegSums()
        self._has_futures = any(isinstance(one.instrument, Future) for one in hedges)  # nothing else expires

    def adopt(self, vault: EngineSettings) -> None:
        """Trade the same hedges by other settings from now on."""
        self.hedges = vault.hedges[self.underlying]
        self.settings = self.hedges[0]
        by_id = {one.instrument.instrument_id: one for one in self.hedges}
        self.quoted = tuple(by_id[one.instrument.instrument_id] for one in self.quoted)
        self.is_maker = any(one.style != "taker" for one in self.hedges)
        self._keeps_orders = vault.routing == "cheapest"
        self._ages = vault.ages
        self.book.adopt(vault.ages)

    @property
    def last_hedge_ns(self) -> int:
        """When the last hedge was ordered that was not cut and did not come back unfilled in part; 0 before it.

        An order that only rests is no hedge until it is filled.
        """
        for order in self.last_orders:
            if order.filled_lots != order.intent.qty_lots and (
                order.state.is_terminal or order.intent.time_in_force is TimeInForce.POST_ONLY
            ):
                return self._whole_hedge_ns
        return self._last_hedge_ns

    @property
    def last_order(self) -> Order | None:
        """The newest order, the largest one where several were sent at once."""
        return self.last_orders[0] if self.last_orders else None

    def note_decision(self, now_ns: int) -> None:
        """Keep track of how often decisions are taken."""
        if self.decided_ns:
            elapsed_ns = now_ns - self.decided_ns
            self._monitor_ns += (_MONITOR_WEIGHT if self._monitor_ns else 1.0) * (elapsed_ns - self._monitor_ns)
        self.decided_ns = now_ns

    def note_orders(self, orders: tuple[Order, ...], *, is_whole: bool) -> None:
        """Remember the newest orders and the quotes they were aimed at; a need that was cut is followed by more."""
        self._whole_hedge_ns = self.last_hedge_ns
        if is_whole:
            self._last_hedge_ns = orders[0].intent.decided_ns
        self.last_orders = orders
        self.note_quotes(orders)

    def note_quotes(self, orders: tuple[Order, ...]) -> None:
        """Remember the quotes that orders were aimed at."""
        if not self._keeps_orders:
            self._ordered_on.clear()
        for order in orders:
            instrument_id = order.intent.instrument_id
            self._ordered_on[instrument_id] = (order, self.book.market.quotes[instrument_id])

    def note_fill(self, order: Order, fill: Fill) -> None:
        """Measure how long an order of a linear hedge took; called with its first fill."""
        holding = self.holdings.get(fill.instrument_id)
        if holding is not None:
            self._fill_latencies.note(holding.instrument.venue, order, fill)

    def join_option(self, option: Option, now_ns: int) -> tuple[OptionHolding, tuple[Refusal, str] | None]:
        """Return the hedge position in an option, marked from now on; and why it cannot be, if so.

        What was held without a mark is worth something else with one: nobody can explain that.
        """
        book, pnl = self.book, self.pnl
        known = book.option_hedges.get(option.instrument_id)
        if known is not None and known.row != NO_ROW:
            return known, None
        if pnl.is_started:
            book.mark(now_ns)
            pnl.step(now_ns)
        before_quote = book.equity_quote()
        holding, refusal = book.add_option_hedge(option, now_ns)
        if pnl.is_started:
            if holding.lots:
                pnl.charge("unexplained", book.equity_quote() - before_quote)
            pnl.reopen(now_ns)
        return holding, refusal

    def tidy_options(self, orders: OrderTracker, now_ns: int) -> None:
        """Mark option hedges that have to be marked, and no longer those that nothing is held of or under way on."""
        holdings = self.book.option_hedges.items()
        odd = [name for name, one in holdings if (one.row == NO_ROW) == (one.lots != 0)]
        if not odd:
            return
        busy = set(orders.live_instruments())
        for name in odd:
            if self.book.option_hedges[name].lots:
                self.join_option(self.book.option_hedges[name].instrument, now_ns)
        idle = [name for name, one in holdings if one.row != NO_ROW and not one.lots and name not in busy]
        if not idle:
            return
        if self.pnl.is_started:
            self.book.mark(now_ns)
            self.pnl.step(now_ns)
        self.book.drop_option_hedges(idle)
        if self.pnl.is_started:
            self.pnl.reopen(now_ns)

    def note_residual(self, view: HedgeView, ordered_base: float = 0.0) -> None:
        """Remember what net delta is off by, in flight counted at the middle, and what was ordered beyond that."""
        middle_base = 0.5 * (view.delta_low_base + view.delta_high_base)
        self.residual = Residual(view.now_ns, view, middle_base - view.target_delta_base + ordered_base)

    def peer(self, correlation_ratio: float, now_ns: int) -> Peer | None:
        """Return this underlying as others see it; None before its first decision, or when that was too long ago."""
        residual = self.residual
        if residual is None or now_ns - residual.now_ns > self._ages.index_ns or not correlation_ratio:
            return None
        view = residual.view
        return Peer(
            self.underlying,
            view.spot_px,
            view.vol,
            correlation_ratio,
            residual.off_base,
            view.greeks.gamma_base_per_px,
            view.cost_rate,
        )

    def find_bad_input(self, now_ns: int) -> tuple[Refusal, str] | None:
        """Bring the marks up to `now_ns`; return why the inputs do not allow a decision, if so."""
        marks = self.book.marks_of_underlying
        self.unquoted = []
        if self._has_futures:
            expired = [block for one in self.hedges if (block := _find_expiry(one, now_ns)) is not None]
            if len(expired) == len(self.hedges):
                return explain_blocks(expired)
        if not marks.index_ns:
            return Refusal.NO_MARKET, f"no index price of {self.underlying} yet"
        if now_ns - marks.index_ns > self._ages.index_ns:
            age_ns = now_ns - marks.index_ns
            return Refusal.STALE_INDEX, age_text(f"index of {self.underlying}", age_ns, self._ages.index_ns)
        self.unquoted = [block for one in self.hedges if (block := self._find_bad_quote(one, now_ns)) is not None]
        if len(self.unquoted) == len(self.hedges):
            return explain_blocks(self.unquoted)
        if self.unquoted or len(self.quoted) != len(self.hedges):
            unquoted = {block.instrument_id for block in self.unquoted}
            self.quoted = tuple(one for one in self.hedges if one.instrument.instrument_id not in unquoted)
        waiting_ns = self.book.waiting_for_settlement_ns(now_ns)
        if waiting_ns > SETTLEMENT_PATIENCE_NS:
            minutes = waiting_ns / NS_PER_MIN
            return Refusal.UNSETTLED, f"no settlement price for {minutes:.0f} min after an expiry of the book"
        return self.book.mark(now_ns)

    def find_settlement_fault(self, event: Settlement) -> QuoteFault | None:
        """Return why a settlement price cannot be one, if so; how far from the index it lies is the venue's affair."""
        if not (isfinite(event.px) and event.px > 0.0):
            return QuoteFault.NOT_POSITIVE if isfinite(event.px) else QuoteFault.NOT_FINITE
        if event.ts_event_ns < event.expiry_ns:
            return QuoteFault.EARLY_SETTLEMENT
        return QuoteFault.DUPLICATE if event.expiry_ns in self.settled_px else None

    def reference_px(self, hedge: HedgeSettings) -> float:
        """Return what a hedge price is held against: a dated future's own forward where known, else the index."""
        instrument = hedge.instrument
        if isinstance(instrument, Future):
            for expiry in self.book.market.expiries:
                same = expiry.underlying == self.underlying and expiry.expiry_ns == instrument.expiry_ns
                if same and expiry.forward_ns:
                    return expiry.forward_px
        return self.book.marks_of_underlying.index_px

    def await_liquidity(self, quote: Quote) -> tuple[Refusal, str] | None:
        """Refuse a second order on the same quote, unless the first one was filled: what was shown may be gone.

        One that rested took nothing of what the other side shows; only one that came too late for its price waits.
        Where a venue takes one order at a time, nothing is sent beside one outstanding, whatever is quoted.
        """
        if quote.instrument_id in self._outstanding:
            return Refusal.ORDER_IN_FLIGHT, self._outstanding[quote.instrument_id]
        order, ordered_on = self._ordered_on.get(quote.instrument_id, (None, None))
        if order is None or ordered_on is not quote:
            return None
        if order.intent.time_in_force is TimeInForce.POST_ONLY and order.state is not OrderState.REJECTED:
            return None
        intent = order.intent
        if not order.state.is_terminal:
            return Refusal.ORDER_IN_FLIGHT, f"order {intent.order_id} was sent on this quote and is {order.state}"
        if order.filled_lots != intent.qty_lots:
            filled = f"{order.filled_lots} of {intent.qty_lots} lots"
            return Refusal.THIN_BOOK, f"order {intent.order_id} filled {filled}; waiting for a fresh quote"
        return None

    def view(self, now_ns: int, orders: OrderTracker, hedge: HedgeSettings) -> HedgeView:
        """Return what a policy may know now if `hedge` is traded; the marks must be up to date (`find_bad_input`)."""
        settings = self.settings
        book = self.book
        instrument = hedge.instrument
        quote = book.market.quotes[instrument.instrument_id]
        mid_px = self.holdings[instrument.instrument_id].mark_px
        net = book.net_greeks(is_coin_numeraire=self.is_coin_numeraire)
        target_base = settings.target_delta_base
        if settings.ratio != 1.0:
            hedge_base = book.hedge_delta_base(is_coin_numeraire=self.is_coin_numeraire)
            if book.option_hedges:
                hedge_base += book.option_hedges_delta_base(is_coin_numeraire=self.is_coin_numeraire)
                hedge_base += book.option_hedges_smile_base
            target_base += (1.0 - settings.ratio) * (net.delta_base - hedge_base)
        lot_base = instrument.lot_base(mid_px)
        pending = low = high = 0.0
        if orders.live:
            pending, low, high = in_flight(orders, self._lots_base())
            if book.option_hedges:
                option_low, option_high = self._options_in_flight(orders)
                low, high = low + option_low, high + option_high
        if orders.live or self._outstanding:
            self._outstanding = self._find_outstanding(orders, now_ns)
        terms = book.market.terms.get(instrument.instrument_id)
        half_spread = 0.5 * (quote.ask_px - quote.bid_px) / mid_px
        index_px, vol, sums = book.marks_of_underlying.index_px, self.vol(), self._sums
        latency_years = self._fill_latencies.years(instrument.venue, terms)
        at_fill_base = net.delta_base + pending
        if latency_years:
            gamma_base_per_px = net.gamma_base_per_px
            at_fill_base += anticipated_drift_base(
                gamma_base_per_px, index_px, vol, latency_years, sums.first_years, lot_base
            )
        return HedgeView(
            now_ns,
            self.underlying,
            index_px,
            target_base,
            net,
            at_fill_base + low,
            at_fill_base + high,
            book.hedge_delta_base(),
            pending,
            hedge.taker_bps * BPS + half_spread,
            fixed_cost_quote(terms) if terms is not None else 0.0,
            lot_base,
            self._monitor_ns / NS_PER_YEAR,
            self.last_hedge_ns,
            self.last_hedge_px,
            book.legs,
            vol,
            sums.first_years,
            latency_years,
            horizon_years=inf if self._outlives_options(index_px) else sums.last_years,
            vanna_base_per_vol=sums.vanna_base_per_vol,
        )

    def _outlives_options(self, index_px: float) -> bool:
        """Tell whether a material part of the book is liquidity or linear, and off its target after any expiry too."""
        book = self.book
        if book.chain is not None and book.chain.lps:
            return True
        if not book.static:
            return False
        linear_base = sum(abs(one.qty_base) + abs(one.qty_own) / index_px for one in book.static)
        return linear_base > 0.0 and linear_base >= MATERIAL_SHARE * float(np.abs(book.legs.qty_base).sum())

    def vol(self) -> float:
        """Return the vol that matters to the hedge: that of the options and, for liquidity, of the index, by gamma."""
        sums = self._sums
        sums.update(self.book.legs, self.book.option_marks)
        if not isfinite(sums.vol):
            return self.realized_vol.vol
        if self.book.chain is None or not self.book.chain.lps:
            return sums.vol
        pool_gamma = abs(self.book.chain.gamma(self.book.marks_of_underlying.index_px))
        total = sums.gamma + pool_gamma
        if not 0.0 < total < inf:
            return sums.vol
        return (sums.gamma * sums.vol + pool_gamma * self.realized_vol.vol) / total

    def _find_bad_quote(self, hedge: HedgeSettings, now_ns: int) -> Blocked | None:
        """Return why a hedge instrument has no market to trade on, if so."""
        if self._has_futures and (block := _find_expiry(hedge, now_ns)) is not None:
            return block
        market = self.book.market
        instrument_id = hedge.instrument.instrument_id
        quote = market.quotes.get(instrument_id)
        if quote is None:
            return Blocked(instrument_id, Refusal.NO_MARKET, f"no quote of {instrument_id} yet")
        age_ns = now_ns - quote.ts_event_ns
        if age_ns > self._ages.quote_ns:
            why = age_text(f"quote of {instrument_id}", age_ns, self._ages.quote_ns)
            return Blocked(instrument_id, Refusal.STALE_HEDGE_QUOTE, why)
        if market.is_jump_suspected(self.underlying, instrument_id):
            why = "a price jumped and no second one confirmed it yet"
            return Blocked(instrument_id, Refusal.JUMP_UNCONFIRMED, why)
        return None

    def _find_outstanding(self, orders: OrderTracker, now_ns: int) -> dict[str, str]:
        """Return the hedge instruments on which nothing new may be sent now, and why."""
        found = {}
        for hedge in self.hedges:
            name = hedge.instrument.instrument_id
            why = find_outstanding(orders.live.values(), now_ns, name, is_one_only=hedge.one_outstanding)
            if why:
                found[name] = why
        return found

    def _options_in_flight(self, orders: OrderTracker) -> tuple[float, float]:
        """Return how far option orders under way may take net delta down and up: they may fill in any part or not."""
        low = high = 0.0
        for order in orders.live.values():
            holding = self.book.option_hedges.get(order.intent.instrument_id)
            if holding is not None:
                base = order.remaining_lots * holding.lot_size * self.book.pending_delta_base(holding)
                low, high = low + min(0.0, base), high + max(0.0, base)
        return low, high

    def _lots_base(self) -> dict[str, float]:
        """Return what a lot of each hedge instrument is in base units at its newest mark, else at the index."""
        index_px = self.book.marks_of_underlying.index_px
        return {
            instrument_id: holding.instrument.lot_base(holding.mark_px or index_px)
            for instrument_id, holding in self.holdings.items()
        }


def _find_expiry(hedge: HedgeSettings, now_ns: int) -> Blocked | None:
    instrument = hedge.instrument
    if isinstance(instrument, Future) and now_ns >= instrument.expiry_ns:
        why = f"{instrument.instrument_id} has expired; name a later hedge instrument"
        return Blocked(instrument.instrument_id, Refusal.EXPIRED_HEDGE, why)
    return None
