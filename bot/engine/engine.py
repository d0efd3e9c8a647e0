"""The engine: `apply(event)` changes state, `decide(now_ns)` returns commands. Nothing else.

It never asks what time it is, never does IO, and cannot tell replay from paper from live.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isnan

import msgspec

from bot.domain.decisions import BotState, Decision, HedgeTarget, HedgeView, Refusal
from bot.domain.events import (
    CancelOrder,
    Command,
    Event,
    OperatorAction,
    OperatorCommand,
    QueryOrder,
    Restarted,
    SubmitOrder,
)
from bot.domain.market import FundingRate, IndexPrice, Quote, Settlement, VolQuote
from bot.domain.orders import Fill, FundingPayment, OrderEvent, OrderIntent, OrderState, TimeInForce
from bot.domain.portfolio import Greeks, PnlBreakdown
from bot.domain.results import HedgeMark
from bot.domain.units import BPS
from bot.domain.venues import AccountReport, BookReport, InstrumentDelisted, InstrumentListed
from bot.engine.book import UnderlyingBook
from bot.engine.desk import Desk
from bot.engine.foreign import Flattening, ForeignActivity, flattening_target
from bot.engine.holdings import Holdings
from bot.engine.limits import STATE_AFTER_TRIP, STRICTNESS, LimitKeeper
from bot.engine.market import MarketState
from bot.engine.orders import OrderTracker
from bot.engine.reconciliation import Reconciliation, counter_entry_of, entry_of
from bot.engine.settings import EngineSettings
from bot.engine.sizing import lots_to_trade, shrinks


class Engine:
    """Decisions of one vault; owns all of its mutable state."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.state = BotState.RECONCILING
        self.state_reason = "starting"
        self.market = MarketState(settings.universe, settings.ages)
        self.orders = OrderTracker()
        self.limits = LimitKeeper(settings.limits)
        self.refusals: dict[Refusal, int] = {}
        self.decisions = 0
        self.hedge_marks: list[HedgeMark] = []
        self.turnover_quote = 0.0
        self.profit_quote = 0.0  # as of the last decision that could mark a book
        self.desks: dict[str, Desk] = {}
        self._desk_of_instrument: dict[str, Desk] = {}
        self._seen_payments: set[tuple[str, str]] = set()
        self._sequence = 0
        self._is_waking = False
        self._commands: list[Command] = []
        for underlying, hedge in settings.hedges.items():
            legs = [leg for leg in settings.book if leg.instrument.base == underlying]
            book = UnderlyingBook(underlying, self.market, legs, settings.ages)
            book.coin_cash = settings.cash.get(underlying, 0.0)
            desk = Desk(hedge, book, settings)
            self.desks[underlying] = desk
            self._desk_of_instrument[hedge.instrument.instrument_id] = desk
        home = self.desks.get(settings.numeraire) or next(iter(self.desks.values()))
        home.book.quote_cash = settings.cash.get("USD", 0.0)  # in a coin vault money is short the coin it counts in
        market = self.market
        self.holdings = Holdings(settings, market, self.desks)
        self.accounts = Reconciliation(settings, self.orders, market, self.desks)
        self.foreign = ForeignActivity(settings, self.orders, market, self.desks, self.holdings.instruments)
        self.delisted: dict[str, str] = {}  # instrument → why nothing is traded on it any more
        self._appliers: dict[type, Callable[..., None]] = {
            VolQuote: market.apply_vol_quote,
            Quote: market.apply_quote,
            IndexPrice: market.apply_index,
            FundingRate: _ignore,
            Settlement: self._apply_settlement,
            FundingPayment: self._apply_funding,
            OperatorCommand: self._apply_operator,
            Restarted: self._apply_restart,
            AccountReport: self._apply_account,
            BookReport: self.holdings.take_book,
            InstrumentListed: lambda event: self.holdings.list_instrument(event.instrument),
            InstrumentDelisted: self._apply_delisting,
        }

    def apply(self, event: Event) -> None:
        """Take in one event."""
        applier = self._appliers.get(type(event))
        if applier is not None:
            applier(event)
        else:
            self._apply_order_event(event)  # type: ignore[arg-type]  # every other event is about an order

    def decide(self, now_ns: int) -> list[Command]:
        """Return what to do now; called once per batch of events with its receive time."""
        self.decisions += 1
        commands: list[Command] = []
        self._commands = commands
        if self.orders.contradiction:
            self._halt_on_contradiction()
        if self.orders.live:
            self._watch_orders(now_ns)
        self.foreign.began_ns = self.foreign.began_ns or now_ns
        commands += self.accounts.ask(now_ns)
        commands += self.foreign.drain_cancels()
        if self._is_waking:  # nothing is traded in the batch of a restart: what was true before it may not be now
            self._is_waking = False
            return commands
        if self.state is BotState.RECONCILING and not any(self.orders.unknown()):
            waits_for = self.accounts.waits_for()
            if waits_for:
                self.state_reason = f"waiting for the account at {waits_for}"
            else:
                self.state, self.state_reason = BotState.RUNNING, ""
        if self.alert and self.state is BotState.RUNNING:
            self.state, self.state_reason = BotState.REDUCE_ONLY, self.alert
        for desk in self.desks.values():
            self._decide_desk(desk, now_ns)
        return commands

    @property
    def alert(self) -> str:
        """What was found on an account that a person has to acknowledge by a resume; "" if nothing."""
        return self.accounts.alert or self.foreign.alert

    def equity_quote(self) -> float:
        """Return the value of the vault at the newest marks, in quote money."""
        return sum(desk.book.equity_quote() for desk in self.desks.values())

    def pnl(self) -> PnlBreakdown:
        """Return the profit by part up to the last closed step."""
        return _sum_parts([desk.pnl.parts for desk in self.desks.values()])

    def gap_pnl(self) -> PnlBreakdown:
        """Return what of `pnl` was earned across gaps of the data."""
        return _sum_parts([desk.pnl.gap_parts for desk in self.desks.values()])

    def pnl_total_quote(self) -> float:
        """Return the profit at the newest marks, whatever steps are still open."""
        return sum(
            desk.book.equity_quote() - desk.pnl.start_equity_quote
            for desk in self.desks.values()
            if desk.pnl.is_started
        )

    def pnl_total_numeraire(self) -> float:
        """Return the profit in the vault's own money: quote money, or the coin that wealth is counted in."""
        coin = self.desks.get(self.settings.numeraire)
        if coin is None or not coin.pnl.is_started:
            return self.pnl_total_quote()
        index_px = coin.book.marks_of_underlying.index_px
        return coin.book.equity_quote() / index_px - coin.pnl.start_coins

    def unhedged_pnl_quote(self) -> float:
        """Return what the book alone would have earned."""
        return sum(
            desk.book.book_value_quote() - desk.pnl.start_book_quote
            for desk in self.desks.values()
            if desk.pnl.is_started
        )

    def close_steps(self, now_ns: int) -> None:
        """Close every open P&L step at the newest marks, so that the parts reach to now."""
        for desk in self.desks.values():
            if desk.pnl.is_started:
                desk.book.mark(now_ns)
                desk.pnl.step(now_ns)

    # ── applying ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _apply_order_event(self, event: OrderEvent) -> None:
        for fill in self.orders.apply(event):
            covering = self.accounts.note_fill(fill)
            desk = self._desk_of_instrument.get(fill.instrument_id)
            if desk is not None:
                self._apply_fill(desk, fill)
            else:
                self.holdings.note_fill(fill)
            if covering is not None:
                self._book_entry(counter_entry_of(covering, fill))
            if not self._is_ours(fill.order_id):
                self.foreign.note_fill(fill, is_hedge=desk is not None, is_covered=covering is not None)

    def _is_ours(self, order_id: str) -> bool:
        """Tell whether this run issued an order id, also of orders long over."""
        run_id, _, sequence = order_id.rpartition("-")
        return order_id in self.orders.orders or (
            run_id == self.settings.run_id and sequence.isdecimal() and 0 < int(sequence) <= self._sequence
        )

    def _apply_account(self, event: AccountReport) -> None:
        if not self.accounts.is_news(event):
            return
        is_doubtful = self.holdings.take_account(event)
        for adoption in self.accounts.take(event, is_doubtful=is_doubtful):
            gain_quote = self._book_entry(entry_of(adoption))
            self.limits.discount(max(0.0, gain_quote))
        self.foreign.take(event)

    def _apply_delisting(self, event: InstrumentDelisted) -> None:
        self.delisted[event.instrument_id] = event.reason

    def _book_entry(self, entry: Fill) -> float:
        """Bring the ledger to where the venue is; return what that earned, in quote money: nobody can explain it."""
        desk = self._desk_of_instrument.get(entry.instrument_id)
        if desk is None or not self.orders.apply(entry):
            return 0.0
        self._close_step(desk, entry.ts_recv_ns)
        holding = desk.book.hedges[entry.instrument_id]
        index_px = desk.book.marks_of_underlying.index_px
        mid_px = holding.mark_px or entry.px
        value_before = holding.value_quote(mid_px, index_px)
        holding.trade_lots(entry.qty_lots, entry.px)
        earned_quote = holding.value_quote(mid_px, index_px) - value_before
        desk.pnl.charge("unexplained", earned_quote)
        desk.pnl.reopen(entry.ts_recv_ns)
        return earned_quote if desk.pnl.is_started else 0.0

    def _apply_fill(self, desk: Desk, fill: Fill) -> None:
        self._close_step(desk, fill.ts_recv_ns)
        book = desk.book
        holding = book.hedges[fill.instrument_id]
        index_px = book.marks_of_underlying.index_px
        mid_px = holding.mark_px or fill.px
        value_before = holding.value_quote(mid_px, index_px)
        holding.trade_lots(fill.qty_lots, fill.px)
        fee_quote = fill.fee_settle * index_px if holding.is_inverse else fill.fee_settle
        slippage_quote = holding.value_quote(mid_px, index_px) - value_before
        desk.pnl.charge("slippage", slippage_quote)
        desk.pnl.charge("fees", -fee_quote)
        holding.cash_settle -= fill.fee_settle  # hedging pays from its own ledger: the book alone stays comparable
        desk.pnl.reopen(fill.ts_recv_ns)
        base = fill.qty_lots * holding.instrument.lot_base(fill.px)
        self.turnover_quote += abs(base) * fill.px
        desk.last_hedge_px = fill.px
        order = self.orders.orders.get(fill.order_id)
        reason = order.intent.reason if order is not None else "not ours"
        cost_quote = fee_quote - slippage_quote
        self.hedge_marks.append(
            HedgeMark(fill.ts_event_ns, fill.order_id, fill.instrument_id, base, fill.px, cost_quote, reason)
        )

    def _apply_funding(self, event: FundingPayment) -> None:
        desk = self._desk_of_instrument.get(event.instrument_id)
        payment = (event.instrument_id, event.payment_id)
        if desk is None or payment in self._seen_payments:
            return
        self._seen_payments.add(payment)
        self._close_step(desk, event.ts_recv_ns)
        index_px = desk.book.marks_of_underlying.index_px
        amount_quote = event.amount_settle * index_px if desk.hedge.is_inverse else event.amount_settle
        desk.pnl.charge("funding", amount_quote)
        desk.hedge.cash_settle += event.amount_settle
        desk.pnl.reopen(event.ts_recv_ns)

    def _apply_settlement(self, event: Settlement) -> None:
        desk = self.desks.get(event.underlying)
        if desk is None:
            return  # of the recording, but not of this vault
        fault = desk.find_settlement_fault(event)
        if fault is not None:
            self.market.refuse(fault)
            return
        desk.settled_ns.add(event.expiry_ns)
        self._close_step(desk, event.ts_recv_ns)
        self.holdings.note_settlement(desk, event.expiry_ns, event.px)
        desk.pnl.settle(event.ts_recv_ns, event.expiry_ns, event.px)

    def _apply_operator(self, event: OperatorCommand) -> None:
        if event.action is OperatorAction.RESUME:
            self.limits.forget_hedge_loop()
            self.orders.reject_streak = 0
            self.accounts.alert = self.foreign.alert = ""
            doubt = "resumed with orders of unknown outcome" if any(self.orders.unknown()) else ""
            if not doubt and self.accounts.waits_for():
                doubt = "resumed before every account is known"
            self.state, self.state_reason = (BotState.RECONCILING, doubt) if doubt else (BotState.RUNNING, "")
            return
        state = {
            OperatorAction.HALT: BotState.HALTED,
            OperatorAction.PAUSE: BotState.PAUSED,
            OperatorAction.REDUCE_ONLY: BotState.REDUCE_ONLY,
        }[event.action]
        if self.state in _ORDERED and _ORDERED.index(state) < _ORDERED.index(self.state):
            return  # only a resume loosens anything
        self.state, self.state_reason = state, f"{event.issuer}: {event.reason}"

    def _apply_restart(self, event: Restarted) -> None:
        self.orders.doubt_all(event.ts_recv_ns, "the daemon restarted before an answer came")
        for order in self.orders.live.values():
            order.queried_ns = 0
        self.accounts.forget(event.ts_recv_ns)
        if self.state in (BotState.RUNNING, BotState.RECONCILING):
            self.state, self.state_reason = BotState.RECONCILING, "restarted"
        self._is_waking = True

    def _close_step(self, desk: Desk, now_ns: int) -> None:
        if desk.pnl.is_started:
            desk.book.mark(now_ns)
            desk.pnl.step(now_ns)

    # ── deciding ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _halt_on_contradiction(self) -> None:
        """Stop trading once a venue said what cannot be; a person has to look, and resume."""
        if self.state is not BotState.HALTED:
            refusal = Refusal.VENUE_CONTRADICTION
            self.refusals[refusal] = self.refusals.get(refusal, 0) + 1
            self.state, self.state_reason = STATE_AFTER_TRIP[refusal], f"{refusal}: {self.orders.contradiction}"
        self.orders.contradiction = ""

    def _watch_orders(self, now_ns: int) -> None:
        """Ask about orders that should have been answered; cancel what rests once halted."""
        self.orders.doubt_silent(now_ns, self.settings.answer_timeout_ns)
        for order in list(self.orders.live.values()):
            intent = order.intent
            if order.state is OrderState.UNKNOWN:
                if now_ns - order.queried_ns >= self.settings.query_every_ns:
                    order.queried_ns = now_ns
                    self._commands.append(QueryOrder(intent.order_id, intent.instrument_id))
            elif self.state is BotState.HALTED and order.state in (OrderState.OPEN, OrderState.PARTLY_FILLED):
                self.orders.request_cancel(order, now_ns)
                self._commands.append(CancelOrder(intent.order_id, intent.instrument_id, "halted"))

    def _decide_desk(self, desk: Desk, now_ns: int) -> None:
        desk.note_decision(now_ns)
        refusal = self.holdings.revise(desk, now_ns) or self._find_delisting(desk) or desk.find_bad_input(now_ns)
        if refusal is not None:
            self._refuse(desk, now_ns, *refusal)
            return
        pnl = desk.pnl
        if not pnl.is_started:
            desk.book.enter_static_positions()
            pnl.start(now_ns)
        elif pnl.see(now_ns) or now_ns - pnl.stepped_ns >= self.settings.pnl_step_ns:
            pnl.step(now_ns)
        view = self._widen(desk, desk.view(now_ns, self.orders))
        flattening = self.foreign.next_flattening(desk)
        if flattening is not None and self._flatten(desk, view, flattening):
            return
        target = self.settings.policy.target(view)
        if isnan(target.low_base) or isnan(target.high_base):
            self._refuse(desk, now_ns, Refusal.BAD_TARGET, f"the policy's band is not a number: {target.reason}")
            return
        lots = lots_to_trade(target, view.delta_low_base, view.delta_high_base, view.lot_base)
        outcome: tuple[Refusal, str] | OrderIntent | None = self._trip(desk, now_ns, view, lots)
        if outcome is None and lots:
            outcome = self._approve(desk, view, target, lots)
        elif outcome is None and _may_be_outside(view, target):
            span = f"{view.delta_low_base:.4g} to {view.delta_high_base:.4g}"
            outcome = (Refusal.UNKNOWN_OUTCOME, f"net delta may be anything from {span}")
        if isinstance(outcome, OrderIntent):
            self.foreign.drop_flattenings_on(outcome.instrument_id)
        self._conclude(desk, view, target, lots, outcome)

    def _find_delisting(self, desk: Desk) -> tuple[Refusal, str] | None:
        """Return why nothing can hedge, if every hedge instrument of the desk was delisted."""
        if not self.delisted or any(name not in self.delisted for name in desk.book.hedges):
            return None
        return Refusal.DELISTED, "; ".join(f"{name}: {self.delisted[name]}" for name in desk.book.hedges)

    def _widen(self, desk: Desk, view: HedgeView) -> HedgeView:
        """Count in what may be held without our knowing, and what others may yet trade on the account."""
        if not (self.accounts.mismatches or self.foreign.orders):
            return view
        low_base, high_base = self.accounts.unexplained_base(desk)
        foreign_low_base, foreign_high_base = self.foreign.open_base(desk, view.now_ns)
        return msgspec.structs.replace(
            view,
            delta_low_base=view.delta_low_base + low_base + foreign_low_base,
            delta_high_base=view.delta_high_base + high_base + foreign_high_base,
        )

    def _flatten(self, desk: Desk, view: HedgeView, flattening: Flattening) -> bool:
        """Send the order against a foreign fill if every limit allows it; tell whether it was sent."""
        holding = desk.book.hedges[flattening.instrument_id]
        target = flattening_target(flattening, view, holding.instrument.lot_base(holding.mark_px))
        lots = flattening.lots
        outcome = self._trip(desk, view.now_ns, view, lots) or self._approve(desk, view, target, lots)
        if not isinstance(outcome, OrderIntent):
            return False
        self.foreign.drop_flattening(flattening)
        self._conclude(desk, view, target, lots, outcome)
        return True

    def _trip(self, desk: Desk, now_ns: int, view: HedgeView, lots: int) -> tuple[Refusal, str] | None:
        """Change the bot's state where a limit demands it; return the refusal if this decision must not trade."""
        desk.profit_quote = view.greeks.value_quote - desk.pnl.start_equity_quote
        self.profit_quote = sum([one.profit_quote for one in self.desks.values()])
        profit_quote = self.profit_quote
        if desk.is_coin_numeraire:  # a coin vault has lost when it has fewer coins, at today's price of them
            profit_quote = view.greeks.value_quote - desk.pnl.start_coins * view.spot_px
        loss = self.limits.mark_profit(now_ns, profit_quote)
        found: tuple[Refusal, str] | None = None
        streak = self.limits.find_reject_streak(self.orders.reject_streak)
        if streak is not None:
            found = (Refusal.REJECT_STREAK, streak)
        elif lots:
            hedged_base = view.hedge_base + view.pending_base
            loop = self.limits.find_hedge_loop(desk.underlying, now_ns, 1 if lots > 0 else -1, hedged_base)
            if loop is not None:
                found = (Refusal.HEDGE_LOOP, loop)
        if found is None and loss is not None:
            found = loss
        has_tripped = False
        if found is not None:
            state = STATE_AFTER_TRIP[found[0]]
            has_tripped = STRICTNESS.index(state) > STRICTNESS.index(self.state)
            if has_tripped:
                self.state, self.state_reason = state, f"{found[0]}: {found[1]}"
        refused = self._refuse_by_state(view, lots) if lots else None
        return found if has_tripped and refused is not None else refused

    def _refuse_by_state(self, view: HedgeView, lots: int) -> tuple[Refusal, str] | None:
        if self.state in (BotState.RUNNING, BotState.REDUCE_ONLY):
            waits_for = self.accounts.waits_for()
            if waits_for:
                return Refusal.RECONCILING, f"waiting for the account at {waits_for}"
        if self.state is BotState.RUNNING:
            return None
        if self.state is BotState.REDUCE_ONLY:
            if shrinks(lots, view.lot_base, view.delta_low_base, view.delta_high_base, view.target_delta_base):
                return None
            return Refusal.REDUCE_ONLY, f"{self.state_reason}; {lots} lots would not shrink the net delta"
        reasons = {
            BotState.RECONCILING: Refusal.RECONCILING,
            BotState.PAUSED: Refusal.PAUSED,
            BotState.HALTED: Refusal.HALTED,
        }
        return reasons[self.state], self.state_reason

    def _approve(
        self, desk: Desk, view: HedgeView, target: HedgeTarget, lots: int
    ) -> OrderIntent | tuple[Refusal, str]:
        """Return the intent after every limit had its say, or the refusal."""
        instrument = desk.settings.instrument
        quote = self.market.quotes[instrument.instrument_id]
        px = quote.ask_px if lots > 0 else quote.bid_px
        slip = desk.settings.max_slippage_bps * BPS
        ticks = instrument.tick_schedule
        # rounded outwards: a limit inside the touch would never fill
        limit_ticks = ticks.ceil_ticks(px * (1.0 + slip)) if lots > 0 else ticks.floor_ticks(px * (1.0 - slip))
        refused = self.limits.refuse_price(ticks.px(limit_ticks), desk.reference_px())
        if refused is not None:
            return Refusal.PRICE_COLLAR, refused
        waiting = desk.await_liquidity(quote)
        if waiting is not None:
            return waiting
        cut = self.limits.cut_to_value(lots, view.lot_base * px)
        if not cut:
            return Refusal.ORDER_VALUE, (
                f"one lot is worth {view.lot_base * px:,.2f}, limit {self.settings.limits.max_order_quote:,.2f}"
            )
        cut = self.limits.cut_to_size(cut, view.lot_base)
        if not cut:
            return Refusal.ORDER_SIZE, (
                f"one lot is {view.lot_base:g} {desk.underlying}, limit {self.settings.limits.max_order_base:g}"
            )
        if abs(cut) < instrument.min_lots:
            return Refusal.BELOW_MINIMUM, f"{abs(cut)} lots, the venue's minimum is {instrument.min_lots}"
        refused = self.limits.refuse_rate(view.now_ns)
        if refused is not None:
            return Refusal.ORDER_RATE, refused
        hedge_lots = desk.hedge.lots
        self._sequence += 1
        return OrderIntent(
            order_id=f"{self.settings.run_id}-{self._sequence}",
            instrument_id=instrument.instrument_id,
            qty_lots=cut,
            limit_ticks=limit_ticks,
            time_in_force=TimeInForce.IOC,
            reduce_only=hedge_lots * cut < 0 and abs(cut) <= abs(hedge_lots) and not self.orders.live,
            reason=_explain(view, target, cut, lots),
            reference_px=desk.hedge.mark_px,
            decided_ns=view.now_ns,
        )

    def _conclude(
        self,
        desk: Desk,
        view: HedgeView,
        target: HedgeTarget,
        wanted_lots: int,
        outcome: OrderIntent | tuple[Refusal, str] | None,
    ) -> None:
        refusal: Refusal | None = None
        detail = ""
        order_id: str | None = None
        lots = 0
        if isinstance(outcome, OrderIntent):
            order_id, lots = outcome.order_id, outcome.qty_lots
            desk.note_order(self.orders.intend(outcome), is_whole=lots == wanted_lots)
            hedged_base = view.hedge_base + view.pending_base
            self.limits.note_order(desk.underlying, view.now_ns, lots * view.lot_base, hedged_base)
            self._commands.append(SubmitOrder(outcome))
        elif outcome is not None:
            refusal, detail = outcome
            self.refusals[refusal] = self.refusals.get(refusal, 0) + 1
        desk.decision = Decision(
            view.now_ns,
            desk.underlying,
            view.spot_px,
            view.greeks,
            view.delta_low_base,
            view.delta_high_base,
            view.target_delta_base,
            view.hedge_base,
            view.pending_base,
            target.low_base,
            target.high_base,
            target.reason,
            refusal,
            detail,
            order_id,
            lots,
            wanted_lots,
        )

    def _refuse(self, desk: Desk, now_ns: int, refusal: Refusal, detail: str) -> None:
        self.refusals[refusal] = self.refusals.get(refusal, 0) + 1
        nan = float("nan")
        spot_px = desk.book.marks_of_underlying.index_px
        desk.decision = Decision(
            now_ns, desk.underlying, spot_px, _NO_GREEKS, nan, nan, nan, desk.book.hedge_delta_base(), 0.0, nan, nan,
            "", refusal, detail, None, 0, 0,
        )  # fmt: skip


# What an operator can order, from the loosest to the strictest.
_ORDERED = (BotState.REDUCE_ONLY, BotState.PAUSED, BotState.HALTED)
_NO_GREEKS = Greeks(float("nan"), float("nan"), float("nan"), float("nan"), float("nan"))


def _ignore(_event: FundingRate) -> None:
    """Do nothing: a funding rate is market information, what we are paid arrives as FundingPayment."""


def _may_be_outside(view: HedgeView, target: HedgeTarget) -> bool:
    is_interval = view.delta_low_base != view.delta_high_base
    return is_interval and (view.delta_low_base < target.low_base or view.delta_high_base > target.high_base)


def _explain(view: HedgeView, target: HedgeTarget, lots: int, wanted_lots: int) -> str:
    cost_quote = abs(lots) * view.lot_base * view.spot_px * view.cost_rate
    cut = f", cut from {wanted_lots} lots by the order limit" if lots != wanted_lots else ""
    return (
        f"net delta {view.delta_low_base:+.3f} outside [{target.low_base:+.3f}, {target.high_base:+.3f}]; "
        f"{target.reason}; expected cost {cost_quote:.2f}{cut}"
    )


def _sum_parts(all_parts: list[PnlBreakdown]) -> PnlBreakdown:
    names = PnlBreakdown.__struct_fields__
    return PnlBreakdown(**{name: sum(getattr(parts, name) for parts in all_parts) for name in names})
