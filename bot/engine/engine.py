"""The engine: `apply(event)` changes state, `decide(now_ns)` returns commands. Nothing else.

It never asks what time it is, never does IO, and cannot tell replay from paper from live.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite, isnan, nan
from typing import NamedTuple

import msgspec

from bot.domain.chain import ChainReport, GasPaid
from bot.domain.decisions import BotState, Decision, HedgeTarget, HedgeView, Peer, PlannedLeg, Refusal
from bot.domain.events import (
    AmendOrder,
    CancelOrder,
    Command,
    ConfigChanged,
    Event,
    OperatorAction,
    OperatorCommand,
    QueryOrder,
    Restarted,
    SubmitOrder,
)
from bot.domain.instruments import Option
from bot.domain.market import (
    ExecutionTerms,
    FundingRate,
    IndexPrice,
    OraclePrice,
    Quote,
    QuoteFault,
    Settlement,
    VolQuote,
)
from bot.domain.orders import (
    Fill,
    FillReversed,
    FundingPayment,
    OrderAccepted,
    OrderEvent,
    OrderIntent,
    OrderSent,
    OrderState,
)
from bot.domain.portfolio import Greeks, PnlBreakdown
from bot.domain.results import HedgeMark
from bot.domain.risk import (
    CollateralPlanned,
    CollateralPrice,
    CounterpartySigns,
    MarginTerms,
    SeriesValue,
    TransferState,
    TransferUpdate,
)
from bot.domain.units import NS_PER_S
from bot.domain.venues import AccountReport, BookReport, InstrumentDelisted, InstrumentListed, VenueStatus
from bot.engine.adoption import adopted
from bot.engine.book import Holding, UnderlyingBook
from bot.engine.chain_book import ChainBook, is_sound
from bot.engine.correlations import Correlations
from bot.engine.desk import Desk
from bot.engine.execution import (
    Move,
    Need,
    find_crossing,
    find_repeg,
    side_of,
)
from bot.engine.foreign import Flattening, ForeignActivity, flattening_target
from bot.engine.holdings import Holdings
from bot.engine.limits import STATE_AFTER_TRIP, STRICTNESS, LimitKeeper
from bot.engine.margin.breaker_board import BreakerBoard
from bot.engine.margin.collateral_desk import CollateralDesk
from bot.engine.margin.counterparty_keeper import CounterpartyKeeper
from bot.engine.margin.insurance import Insurance
from bot.engine.margin.keeper import MarginKeeper
from bot.engine.margin.remedies import Remedies
from bot.engine.margin.risk_settings import RiskSettings
from bot.engine.margin.top_ups import TopUps
from bot.engine.market import MarketState
from bot.engine.operator_orders import Flatten, OperatorOrders
from bot.engine.option_hedges import OptionHedging
from bot.engine.option_holding import OptionHolding
from bot.engine.oracles import OracleBoard
from bot.engine.ordering import Approved, Ordering, Routed, least_lots
from bot.engine.orders import MAX_REVERSIBLE, Order, OrderTracker
from bot.engine.reconciliation import Reconciliation, counter_entry_of, entry_of
from bot.engine.routing import Blocked, VenueBoard, explain_blocks, room_lots
from bot.engine.settings import EngineSettings, HedgeSettings
from bot.engine.sizing import lots_to_trade, shrinks, widen

MAX_HEDGE_MARKS = 5_000  # newest fills kept for pictures and reports
MAX_SEEN_PAYMENTS = 50_000


class _Booked(NamedTuple):
    """What a fill did to the ledger beyond its position, as far as a reversal must undo it."""

    fee_quote: float
    slippage_quote: float
    turnover_quote: float
    is_in_pnl: bool
    mark: HedgeMark


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
        self.venues = VenueBoard()
        self.oracles = OracleBoard(settings.fusion, self.market) if settings.fusion else None
        self.hedge_marks: deque[HedgeMark] = deque(maxlen=MAX_HEDGE_MARKS)
        self.hedged_orders = 0  # that filled at least in part
        self.paid_transactions = 0  # of hedges: each cost its gas, whether it filled or not
        self.filled_transactions = 0
        self.turnover_quote = 0.0
        self.profit_quote = 0.0  # as of the last decision that could mark a book
        self.desks: dict[str, Desk] = {}
        self._desk_of_instrument: dict[str, Desk] = {}
        self._seen_payments: OrderedDict[tuple[str, str], float] = OrderedDict()  # … and of which amount
        self._seen_gas: OrderedDict[tuple[str, str], GasPaid] = OrderedDict()  # the newest word on each payment
        self._booked: OrderedDict[tuple[str, str], _Booked] = OrderedDict()  # by instrument and trade
        self._is_waking = False
        self._commands: list[Command] = []
        for underlying, hedges in settings.hedges.items():
            legs = [leg for leg in settings.book if leg.instrument.base == underlying]
            book = UnderlyingBook(
                underlying, self.market, legs, settings.ages, surface=settings.surface, delta=settings.delta
            )
            book.coin_cash = settings.cash.get(underlying, 0.0)
            desk = Desk(hedges, book, settings)
            self.desks[underlying] = desk
            self._desk_of_instrument.update(dict.fromkeys(desk.holdings, desk))
        self._holdings = [holding for desk in self.desks.values() for holding in desk.holdings.values()]
        self.ordering = Ordering(
            settings, self.market, self.orders, self.limits, self.venues, self.oracles, self._holdings, self
        )
        self.correlations: Correlations | None = None
        if settings.bands == "joint" and len(self.desks) > 1:
            self.correlations = Correlations({name: self.market.underlyings[name] for name in self.desks})
        self._home = home = self.desks.get(settings.numeraire) or next(iter(self.desks.values()))
        home.book.quote_cash = settings.cash.get("USD", 0.0)  # in a coin vault money is short the coin it counts in
        market = self.market
        self.holdings = Holdings(settings, market, self.desks, self.orders)
        self.accounts = Reconciliation(settings, self.orders, market, self.desks, self.venues)
        self.chains = ChainBook(settings, self.desks, self.venues)
        self.option_hedges = OptionHedging(
            settings, market, self.orders, self.limits, self.venues, self.holdings.instruments, self.desks
        )
        self.foreign = ForeignActivity(settings, self.orders, market, self.desks, self.holdings.instruments)
        self.operator = OperatorOrders(self.desks, settings.operator)
        self.margin: MarginKeeper | None = None
        self.top_ups: TopUps | None = None
        self.remedies: Remedies | None = None
        self.counterparties: CounterpartyKeeper | None = None
        self.collateral: CollateralDesk | None = None
        self.insurance: Insurance | None = None
        self.breakers: BreakerBoard | None = None
        self._margin_doubt = ""  # why exposure may only shrink as far as margin goes
        if settings.risk is not None:
            self._begin_risk(settings.run_id, settings.risk)
        self._appliers: dict[type, Callable[..., None]] = {
            VolQuote: market.apply_vol_quote,
            Quote: market.apply_quote,
            IndexPrice: self.oracles.take_index if self.oracles is not None else market.apply_index,
            FundingRate: self.ordering.funding.note,
            OraclePrice: self.oracles.take_oracle if self.oracles is not None else _ignore,
            ExecutionTerms: self._apply_terms,
            ChainReport: self._apply_chain,
            GasPaid: self._apply_gas,
            FillReversed: self._apply_reversal,
            Settlement: self._apply_settlement,
            FundingPayment: self._apply_funding,
            OperatorCommand: self._apply_operator,
            ConfigChanged: self._apply_change,
            Restarted: self._apply_restart,
            VenueStatus: self.venues.apply_status,
            AccountReport: self._apply_account,
            BookReport: self._apply_book,
            InstrumentListed: lambda event: self.holdings.list_instrument(event.instrument),
            InstrumentDelisted: self.venues.apply_delisting,
            **self._risk_appliers(),
        }

    def _begin_risk(self, run_id: str, risk: RiskSettings) -> None:
        """Start everything that a vault with a risk section has."""
        self.margin = MarginKeeper(self.settings, self.market, self.orders, self.desks)
        self.ordering.margin = self.option_hedges.margin = self.margin
        self.top_ups = TopUps(run_id, risk, self.margin)
        self.remedies = Remedies(self.margin, self.top_ups)
        if risk.insurance is not None:
            self.insurance = Insurance(risk.insurance, risk, self.margin, self.top_ups)
        if risk.breakers is not None:
            self.breakers = BreakerBoard(risk.breakers, risk, self.desks.values())
        if risk.counterparties is not None:
            self.counterparties = CounterpartyKeeper(
                risk, self.margin, self.top_ups, self.market, self.orders, self.desks, self.equity_quote
            )
        if risk.collateral is not None:
            self.collateral = CollateralDesk(run_id, risk, self.margin, self.top_ups, self.counterparties)
            self.top_ups.is_planned = self.collateral.is_planned

    def _risk_appliers(self) -> dict[type, Callable[..., None]]:
        """Return who takes in what risk is told of; nobody in a vault without a risk section."""
        return {
            MarginTerms: self.margin.take_terms if self.margin is not None else _ignore,
            CollateralPrice: self._apply_collateral_price,
            CounterpartySigns: self.counterparties.take if self.counterparties is not None else _ignore,
            TransferUpdate: self._apply_transfer,
            CollateralPlanned: self.collateral.take if self.collateral is not None else _ignore,
            SeriesValue: self.margin.take_series if self.margin is not None else _ignore,
        }

    def adopt(self, settings: EngineSettings) -> None:
        """Go by other settings from the next decision on, as far as a running engine can (`bot.engine.adoption`).

        Taking up the same settings again changes nothing. Raises InvariantBroken if other instruments are to be traded.
        """
        self.settings = settings = adopted(self.settings, settings)
        self.market.adopt(settings.ages)
        self.limits.adopt(settings.limits)
        if self.oracles is not None:
            self.oracles.adopt(settings.fusion)
        for desk in self.desks.values():
            desk.adopt(settings)
        for one in (self.ordering, self.holdings, self.accounts, self.option_hedges, self.foreign):
            one.adopt(settings)
        if settings.risk is None:
            return
        for keeper in (self.margin, self.top_ups, self.insurance, self.counterparties, self.collateral):
            if keeper is not None:
                keeper.adopt(settings.risk)

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
        if self.venues.statuses:
            self._halt_on_fatal()
        if self.orders.live:
            self._watch_orders(now_ns)
        self.foreign.began_ns = self.foreign.began_ns or now_ns
        commands += self.accounts.ask(now_ns)
        commands += self.foreign.drain_cancels()
        if self._is_waking:  # nothing is traded in the batch of a restart: what was true before it may not be now
            self._is_waking = False
            return commands
        if self.state is BotState.RECONCILING and not any(self.orders.unknown()):
            waits_for = self._waits_for()
            if waits_for:
                self.state_reason = waits_for
            else:
                self.state, self.state_reason = BotState.RUNNING, ""
        if self.alert and self.state is BotState.RUNNING:
            self.state, self.state_reason = BotState.REDUCE_ONLY, self.alert
        if self.correlations is not None and now_ns >= self.correlations.due_ns:
            self.correlations.note(now_ns)
        if self.margin is not None:
            self._review_margin(self.margin, now_ns)
            self._move_collateral(now_ns)
        for desk in self.desks.values():
            self._decide_desk(desk, now_ns)
        if self.operator.is_busy:
            self._follow_hedges_now(now_ns)
            self._follow_flatten()
        return commands

    def _move_collateral(self, now_ns: int) -> None:
        """Plan what venues that are left give out and what accounts lack; judge first who is to be left."""
        assert self.top_ups is not None, "what is reckoned is topped up"
        may_send = self.state in (BotState.RUNNING, BotState.REDUCE_ONLY)
        if self.counterparties is not None:
            self._commands += self.counterparties.review(now_ns, may_act=may_send)
            if self.counterparties.to_cancel:
                self._leave_venues(self.counterparties.to_cancel, now_ns)
        if self.collateral is not None:
            self._commands += self.collateral.review(now_ns, may_send=may_send)
        self._commands += self.top_ups.review(now_ns, may_send=may_send)
        if self.remedies is not None:
            self.remedies.review(now_ns)

    def _review_margin(self, margin: MarginKeeper, now_ns: int) -> None:
        """Look at margin where it is due; an emergency is one a person has to acknowledge by a resume."""
        margin.review(now_ns)
        if self.insurance is not None and self.insurance.review(now_ns, self.profit_quote):
            margin.note_change()
            margin.review(now_ns)
        if self.breakers is not None:
            self.breakers.look(now_ns)
        self._margin_doubt = margin.doubt
        if self._margin_doubt and self.state is BotState.RUNNING and (emergency := margin.emergency):
            self.state, self.state_reason = BotState.REDUCE_ONLY, emergency

    @property
    def alert(self) -> str:
        """What was found on an account that a person has to acknowledge by a resume; "" if nothing."""
        return self.accounts.alert or self.foreign.alert

    def _waits_for(self) -> str:
        """Say which account or chain has to tell what is held before anything is traded, "" if all have."""
        if not (self.accounts.required or self.chains.required):
            return ""
        accounts, chains = self.accounts.waits_for(), self.chains.waits_for()
        texts = [f"the account at {accounts}" if accounts else "", f"the report of {chains}" if chains else ""]
        waits_for = " and ".join(filter(None, texts))
        return f"waiting for {waits_for}" if waits_for else ""

    @property
    def overrides(self) -> dict[str, str]:
        """What a person ordered that stands or is under way, by subject, for people to see."""
        return self.operator.tell()

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

    def _apply_book(self, event: BookReport) -> None:
        self.holdings.take_book(event)
        if self.margin is not None:
            self.margin.note_change()

    def _note_margin(self, event: OrderEvent) -> None:
        """Have the margin looked at where an order's word changes what is held or under way."""
        assert self.margin is not None, "margin is reckoned"
        name = event.instrument_id if isinstance(event, Fill | FillReversed) else ""
        if not name:
            order = self.orders.orders.get(getattr(event, "order_id", ""))
            name = order.intent.instrument_id if order is not None else ""
        instrument = self.holdings.instruments.get(name)
        if isinstance(event, Fill | FillReversed):
            self.margin.note_fill(instrument, event.ts_recv_ns)
        elif instrument is not None and self.margin.keeps(instrument.venue):
            self.margin.note_change(instrument.venue)

    def _apply_order_event(self, event: OrderEvent) -> None:
        if self.breakers is not None:
            self.breakers.take_order_event(event, self.orders)
        if self.margin is not None and not isinstance(event, OrderSent | OrderAccepted):
            self._note_margin(event)
        for fill in self.orders.apply(event):
            covering = self.accounts.note_fill(fill)
            if self.counterparties is not None:
                self.counterparties.note_fill(self.holdings.instruments.get(fill.instrument_id), fill)
            desk = self._desk_of_instrument.get(fill.instrument_id)
            option_desk = self._option_desk_of(fill) if desk is None else None
            if desk is not None:
                self._apply_fill(desk, fill)
            elif option_desk is not None:
                self._apply_option_fill(option_desk, fill)
            else:
                self.holdings.note_fill(fill)
            if covering is not None:
                self._book_entry(counter_entry_of(covering, fill))
            if not self._is_ours(fill.order_id):
                is_hedge = desk is not None or option_desk is not None
                self.foreign.note_fill(fill, is_hedge=is_hedge, is_covered=covering is not None)

    def _option_desk_of(self, fill: Fill) -> Desk | None:
        """Return the desk whose option hedge a fill changes, None if it is none.

        Where all options of an account are the book, only what we ordered ourselves is a hedge.
        """
        for desk in self.desks.values():
            holding = desk.book.option_hedges.get(fill.instrument_id)
            if holding is not None:
                is_book = holding.instrument.venue in self.settings.account_book and not self._is_ours(fill.order_id)
                return None if is_book else desk
        return None

    def _is_ours(self, order_id: str) -> bool:
        """Tell whether this run issued an order id, also of orders long over."""
        run_id, _, sequence = order_id.rpartition("-")
        return order_id in self.orders.orders or (
            run_id == self.settings.run_id and sequence.isdecimal() and 0 < int(sequence) <= self.ordering.sequence
        )

    def _apply_account(self, event: AccountReport) -> None:
        if not self.accounts.is_news(event):
            return
        is_doubtful = self.holdings.take_account(event)
        for adoption in self.accounts.take(event, is_doubtful=is_doubtful):
            gain_quote = self._book_entry(entry_of(adoption))
            self.limits.discount(max(0.0, gain_quote))
        self.foreign.take(event)
        if self.margin is not None:
            self.margin.take_report(event)

    def _book_entry(self, entry: Fill) -> float:
        """Bring the ledger to where the venue is; return what that earned, in quote money: nobody can explain it."""
        desk = self._desk_of_instrument.get(entry.instrument_id) or self._option_desk_of(entry)
        if desk is None or not self.orders.apply(entry):
            return 0.0
        option = desk.book.option_hedges.get(entry.instrument_id)
        if option is not None:
            gained_quote = self._trade_option(desk, option, entry)
            desk.pnl.charge("unexplained", gained_quote)
            desk.pnl.reopen(entry.ts_recv_ns)
            return gained_quote if desk.pnl.is_started else 0.0
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
        holding = desk.holdings[fill.instrument_id]
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
        desk.last_hedge_px = fill.px
        base = fill.qty_lots * holding.instrument.lot_base(fill.px)
        if self.breakers is not None:
            self.breakers.note_slippage(desk, fill, base, slippage_quote)
        self._note_hedge(desk, fill, base, fill.px, fee_quote, slippage_quote)

    def _apply_option_fill(self, desk: Desk, fill: Fill) -> None:
        """Book a fill of an option hedge: slippage is against the mark as the venue has it, in its own price."""
        self.holdings.note_hedge_fill(fill)
        book, holding = desk.book, desk.book.option_hedges[fill.instrument_id]
        desk.join_option(holding.instrument, fill.ts_recv_ns)
        index_px = book.marks_of_underlying.index_px
        settled_px = desk.settled_px.get(holding.instrument.expiry_ns)
        mark_px = book.hedge_mark_px(holding) if settled_px is None else holding.payoff_settle(settled_px)
        mark_px = mark_px if mark_px or settled_px is not None else fill.px
        gained_quote = self._trade_option(desk, holding, fill)
        base = fill.qty_lots * holding.lot_size
        slippage_quote = holding.to_quote(base * (mark_px - fill.px), index_px)
        fee_quote = holding.to_quote(fill.fee_settle, index_px)
        desk.pnl.charge("slippage", slippage_quote)
        desk.pnl.charge("fees", -fee_quote)
        # an option is worth its Black-76 value, the coins it cost their index: forward and index may lie apart
        desk.pnl.charge("unexplained", gained_quote - slippage_quote + fee_quote)
        desk.pnl.reopen(fill.ts_recv_ns)
        self._note_hedge(desk, fill, base, holding.to_quote(fill.px, index_px), fee_quote, slippage_quote)

    def _trade_option(self, desk: Desk, holding: OptionHolding, fill: Fill, *, is_undone: bool = False) -> float:
        """Bring an option hedge to where a fill leaves it; return what that earned, in quote money."""
        self._close_step(desk, fill.ts_recv_ns)
        before_quote = desk.book.equity_quote()
        desk.book.trade_option_hedge(holding, -fill.qty_lots if is_undone else fill.qty_lots, fill.px)
        holding.cash_settle += fill.fee_settle if is_undone else -fill.fee_settle
        settled_px = desk.settled_px.get(holding.instrument.expiry_ns)
        if settled_px is not None:  # told of late: where it was traded it is settled already
            holding.settle(settled_px)
        return desk.book.equity_quote() - before_quote

    def _note_hedge(
        self, desk: Desk, fill: Fill, base: float, px: float, fee_quote: float, slippage_quote: float
    ) -> None:
        """Count a hedge, and keep what a reversal would have to undo; `px` is in quote money."""
        self.turnover_quote += abs(base) * px
        order = self.orders.orders.get(fill.order_id)
        reason = order.intent.reason if order is not None else "not ours"
        if order is None or not order.is_marked:
            self.hedged_orders += 1
            self.filled_transactions += order is not None and order.intent.gas is not None
        if order is not None:
            if not order.is_marked:
                desk.note_fill(order, fill)
            order.is_marked = True
        cost_quote = fee_quote - slippage_quote
        mark = HedgeMark(fill.ts_event_ns, fill.order_id, fill.instrument_id, base, px, cost_quote, reason)
        self.hedge_marks.append(mark)
        trade = (fill.instrument_id, fill.trade_id)
        self._booked[trade] = _Booked(fee_quote, slippage_quote, abs(base) * px, desk.pnl.is_started, mark)
        if len(self._booked) > MAX_REVERSIBLE:
            self._booked.popitem(last=False)

    def _apply_reversal(self, event: FillReversed) -> None:
        """Bring the ledger to where it would be without a fill that is no more."""
        fill = self.orders.reverse(event)
        if fill is None:
            return
        if self.margin is not None:
            self._note_margin(event)
        back = msgspec.structs.replace(
            fill, qty_lots=-fill.qty_lots, ts_event_ns=event.ts_event_ns, ts_recv_ns=event.ts_recv_ns
        )
        self.accounts.note_fill(back)
        self.foreign.note_reversal(fill)
        desk = self._desk_of_instrument.get(fill.instrument_id) or self._option_desk_of(fill)
        if desk is None:
            self.holdings.note_fill(back)
            return
        self._close_step(desk, event.ts_recv_ns)
        book = desk.book
        equity_quote, book_quote = book.equity_quote(), book.book_value_quote()
        option = book.option_hedges.get(fill.instrument_id)
        if option is not None:
            self.holdings.note_hedge_fill(back)
            desk.join_option(option.instrument, event.ts_recv_ns)
            equity_quote, book_quote = book.equity_quote(), book.book_value_quote()
            at = msgspec.structs.replace(fill, ts_recv_ns=event.ts_recv_ns)
            gone_quote = self._trade_option(desk, option, at, is_undone=True)
        else:
            holding = desk.holdings[fill.instrument_id]
            index_px = book.marks_of_underlying.index_px
            mid_px = holding.mark_px or fill.px
            value_before = holding.value_quote(mid_px, index_px)
            holding.trade_lots(-fill.qty_lots, fill.px)
            holding.cash_settle += fill.fee_settle
            gone_quote = holding.value_quote(mid_px, index_px) - value_before
        booked = self._booked.pop((fill.instrument_id, fill.trade_id), None)
        if booked is None or not booked.is_in_pnl:  # part of what the P&L began with, or of an adoption
            if desk.pnl.is_started:
                desk.pnl.enter(event.ts_recv_ns, equity_quote, book_quote)
        else:
            desk.pnl.charge("slippage", -booked.slippage_quote)
            desk.pnl.charge("fees", booked.fee_quote)
            # what is left is what the market did for a position that never was
            desk.pnl.charge("delta", gone_quote + booked.slippage_quote - booked.fee_quote)
            desk.pnl.reopen(event.ts_recv_ns)
        if booked is not None:
            self._unmark(desk, fill, booked)

    def _unmark(self, desk: Desk, fill: Fill, booked: _Booked) -> None:
        """Take a fill out of what is counted of hedges."""
        self.turnover_quote -= booked.turnover_quote
        if booked.mark in self.hedge_marks:
            self.hedge_marks.remove(booked.mark)
        on_desk = (mark.px for mark in reversed(self.hedge_marks) if mark.instrument_id in desk.holdings)
        desk.last_hedge_px = next(on_desk, 0.0)
        order = self.orders.orders.get(fill.order_id)
        if order is None or not order.filled_lots:
            self.hedged_orders -= 1
            self.filled_transactions -= order is not None and order.intent.gas is not None
        if order is not None and not order.filled_lots:
            order.is_marked = False

    def _apply_chain(self, event: ChainReport) -> None:
        """Hold on a chain what its report says; only what liquidity earned in fees since the last one is income."""
        if not is_sound(event):
            self.market.refuse(QuoteFault.NOT_FINITE)
            return
        for change in self.chains.take(event):
            desk = change.desk
            self._close_step(desk, event.ts_recv_ns)
            book, pnl = desk.book, desk.pnl
            equity_quote, book_quote = book.equity_quote(), book.book_value_quote()
            book.chain = change.legs
            if pnl.is_started:
                fees_quote = change.fees_base * book.marks_of_underlying.index_px + change.fees_quote
                pnl.enter(event.ts_recv_ns, equity_quote + fees_quote, book_quote + fees_quote)
                pnl.charge("lp_fees", fees_quote)

    def _apply_collateral_price(self, event: CollateralPrice) -> None:
        if self.margin is not None:
            self.margin.take_price(event)
        if self.breakers is not None:
            self.breakers.take_price(event)

    def _apply_transfer(self, event: TransferUpdate) -> None:
        """Follow collateral on its way; what moving it costs is paid once it is there."""
        if self.top_ups is None or not (isfinite(event.amount) and isfinite(event.fee)):
            return
        if self.top_ups.take(event):
            return
        if self.counterparties is not None:
            self.counterparties.note_transfer(event)
        if event.state not in (TransferState.ARRIVED, TransferState.REVERSED):
            return
        if {event.from_venue, event.to_venue} & self.settings.account_cash:
            return  # the balances that are the cash of the book have it
        fee = event.fee if event.state is TransferState.ARRIVED else -event.fee
        desk = self.desks.get(event.asset, self._home)
        self._close_step(desk, event.ts_recv_ns)
        if desk.underlying == event.asset:
            desk.book.spent_coins += fee
            fee *= desk.book.marks_of_underlying.index_px
        else:
            desk.book.spent_quote += fee
        desk.pnl.charge("fees", -fee)
        desk.pnl.reopen(event.ts_recv_ns)

    def _apply_gas(self, event: GasPaid) -> None:
        """Pay for a transaction out of the coin its chain takes, or get it back where a reorg undid it.

        The opposite sign of one payment takes it back, whether it comes under its own id or under another. What is only
        told again, before or after that, counts once.
        """
        if not (isfinite(event.gas_coin) and isfinite(event.gas_quote)):
            self.market.refuse(QuoteFault.NOT_FINITE)
            return
        payment = (event.venue, event.payment_id)
        last = self._seen_gas.get(payment)
        is_back = event.gas_coin < 0.0
        if last is not None and (is_back == (last.gas_coin < 0.0) or event.ts_recv_ns < last.ts_recv_ns):
            return
        self._seen_gas[payment] = event
        if len(self._seen_gas) > MAX_SEEN_PAYMENTS:
            self._seen_gas.popitem(last=False)
        if event.order_id:
            self.paid_transactions += -1 if is_back else 1
        desk = self.desks.get(event.coin)
        if desk is not None:
            self._close_step(desk, event.ts_recv_ns)
            desk.book.spent_coins += event.gas_coin
            paid_quote = event.gas_coin * desk.book.marks_of_underlying.index_px
        else:
            desk = self._desk_of_instrument.get(event.instrument_id) or self._home
            self._close_step(desk, event.ts_recv_ns)
            desk.book.spent_quote += event.gas_quote
            paid_quote = event.gas_quote
        desk.pnl.charge("gas", -paid_quote)
        desk.pnl.reopen(event.ts_recv_ns)

    def _apply_funding(self, event: FundingPayment) -> None:
        desk = self._desk_of_instrument.get(event.instrument_id)
        payment = (event.instrument_id, event.payment_id)
        last = self._seen_payments.get(payment)
        if desk is None or (last is not None and (not last or event.amount_settle != -last)):
            return  # told again; only the very opposite takes it back, as a reorg does
        self._seen_payments[payment] = event.amount_settle
        if len(self._seen_payments) > MAX_SEEN_PAYMENTS:
            self._seen_payments.popitem(last=False)
        self._close_step(desk, event.ts_recv_ns)
        index_px = desk.book.marks_of_underlying.index_px
        holding = desk.holdings[event.instrument_id]
        amount_quote = event.amount_settle * index_px if holding.is_inverse else event.amount_settle
        desk.pnl.charge("funding", amount_quote)
        holding.cash_settle += event.amount_settle
        desk.pnl.reopen(event.ts_recv_ns)

    def _apply_terms(self, event: ExecutionTerms) -> None:
        desk = self._desk_of_instrument.get(event.instrument_id)
        if desk is not None:
            self.market.apply_terms(event, desk.underlying)
            marks = desk.book.marks_of_underlying
            if marks.index_px:
                desk.realized_vol.note(marks.index_px, marks.index_ns)

    def _apply_settlement(self, event: Settlement) -> None:
        desk = self.desks.get(event.underlying)
        if desk is None:
            return  # of the recording, but not of this vault
        fault = desk.find_settlement_fault(event)
        if fault is not None:
            self.market.refuse(fault)
            return
        desk.settled_px[event.expiry_ns] = event.px
        if self.margin is not None:
            self.margin.note_settlement(desk, event.expiry_ns, event.px)
        self._close_step(desk, event.ts_recv_ns)
        self.holdings.note_settlement(desk, event.expiry_ns, event.px)
        desk.pnl.settle(event.ts_recv_ns, event.expiry_ns, event.px)

    def _apply_change(self, event: ConfigChanged) -> None:
        """Hold what a person has set against its new bounds: whoever applies this has had the rest adopted before."""
        self.operator.adopt(self.settings.operator, event.ts_recv_ns)

    def _apply_operator(self, event: OperatorCommand) -> None:
        if self.operator.take(event, self.state) is not None:
            return
        if event.action is OperatorAction.RESUME:
            self.limits.forget_hedge_loop()
            self.orders.reject_streaks.clear()
            self.orders.lost_streaks.clear()
            self.accounts.alert = self.foreign.alert = ""
            doubt = "resumed with orders of unknown outcome" if any(self.orders.unknown()) else ""
            if not doubt and self.accounts.waits_for():
                doubt = "resumed before every account is known"
            if not doubt and self.chains.waits_for():
                doubt = "resumed before every chain reported"
            self.state, self.state_reason = (BotState.RECONCILING, doubt) if doubt else (BotState.RUNNING, "")
            return
        state = _STATE_ORDERED.get(event.action)
        if state is None or (self.state in _ORDERED and _ORDERED.index(state) < _ORDERED.index(self.state)):
            return  # only a resume loosens anything
        self.state, self.state_reason = state, f"{event.issuer}: {event.reason}"

    def _apply_restart(self, event: Restarted) -> None:
        self.orders.doubt_all(event.ts_recv_ns, "the daemon restarted before an answer came")
        for order in self.orders.live.values():
            order.queried_ns = 0
        self.accounts.forget(event.ts_recv_ns)
        self.chains.forget()
        if self.state in (BotState.RUNNING, BotState.RECONCILING):
            self.state, self.state_reason = BotState.RECONCILING, "restarted"
        self._is_waking = True
        if self.top_ups is not None:
            self.top_ups.restart(event.ts_recv_ns)
        if self.collateral is not None:
            self.collateral.restart()

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

    def _halt_on_fatal(self) -> None:
        """Stop once the last hedge venue of an underlying waits for a person."""
        for desk in self.desks.values():
            why = self.venues.find_fatal(hedge.instrument for hedge in desk.hedges)
            if why is not None and self.state is not BotState.HALTED:
                refusal = Refusal.VENUE_FATAL
                self.refusals[refusal] = self.refusals.get(refusal, 0) + 1
                self.state, self.state_reason = STATE_AFTER_TRIP[refusal], f"{refusal}: {why}"

    def _watch_orders(self, now_ns: int) -> None:
        """Ask about orders that should have been answered; cancel what rests once halted or paused."""
        self.orders.doubt_silent(now_ns, self.settings.answer_timeout_ns)
        for order in list(self.orders.live.values()):
            intent = order.intent
            if order.state is OrderState.UNKNOWN:
                if now_ns - order.queried_ns >= self.settings.query_every_ns:
                    order.queried_ns = now_ns
                    self._commands.append(QueryOrder(intent.order_id, intent.instrument_id))
            elif self.state in (BotState.HALTED, BotState.PAUSED) and not self._is_flattening(order):
                self._cancel(order, str(self.state), now_ns)

    def _is_flattening(self, order: Order) -> bool:
        """Tell whether an order closes a hedge because a person wants everything closed, and may go on."""
        flatten = self.operator.flatten
        return flatten is not None and self.state is BotState.PAUSED and order.intent.order_id in flatten.order_ids

    def _leave_venues(self, venues: Mapping[str, str], now_ns: int) -> None:
        """Cancel what rests at venues that are being left."""
        for order in list(self.orders.live.values()):
            instrument = self.holdings.instruments.get(order.intent.instrument_id)
            if instrument is not None and instrument.venue in venues and order.is_working:
                self._cancel(order, venues[instrument.venue], now_ns)

    def _decide_desk(self, desk: Desk, now_ns: int) -> None:
        desk.note_decision(now_ns)
        refusal = self.holdings.revise(desk, now_ns) or self._find_bad_input(desk, now_ns)
        if refusal is not None:
            if self._is_closing:
                self._close_blindly(desk, refusal, now_ns)
            if len(desk.unquoted) == len(desk.hedges):  # then what the venues say of themselves matters more
                refusal = explain_blocks(self.ordering.find_routes(desk, now_ns)[1])
            self._withdraw(desk, refusal[1], now_ns)
            self._refuse(desk, now_ns, *refusal)
            return
        self._keep_accounts(desk, now_ns)
        routes, blocks = self.ordering.find_routes(desk, now_ns)
        view = self._view(desk, now_ns, routes)
        if self._is_closing and self._close_hedges(desk, view, routes, blocks):
            return
        flattening = self.foreign.next_flattening(desk)
        if flattening is not None and self._flatten(desk, view, flattening, routes):
            return
        target = self.operator.shape(view, widen(self.settings.policy.target(view), desk.band_multiple))
        if isnan(target.low_base) or isnan(target.high_base):
            self._withdraw(desk, "the policy's band is not a number", now_ns)
            self._refuse(desk, now_ns, Refusal.BAD_TARGET, f"the policy's band is not a number: {target.reason}")
            return
        lots = lots_to_trade(target, view.delta_low_base, view.delta_high_base, view.lot_base)
        self._note_rested(desk)
        outcome: tuple[Refusal, str] | Routed | None = self._trip(desk, now_ns, view, lots)
        if desk.is_maker or desk.resting_from:  # what rests from before the vault's file said otherwise
            at_work = self._work(desk, view, target, lots, blocks)
            outcome = outcome or at_work
        outcome = self._trade_options(desk, view, target, lots, outcome)
        outcome = outcome or self._order(desk, view, target, lots, routes, blocks)
        if self._is_relieving and not isinstance(outcome, Routed):
            outcome = self._relieve(desk, view, routes) or outcome
        if isinstance(outcome, Routed):
            for order in outcome.orders:
                self.foreign.drop_flattenings_on(order.intent.instrument_id)
        self._conclude(desk, view, target, lots, outcome)

    def _keep_accounts(self, desk: Desk, now_ns: int) -> None:
        """Bring realised vol and P&L up to date, once the book is marked."""
        if not desk.is_vol_fed_by_terms:
            marks = desk.book.marks_of_underlying
            desk.realized_vol.note(marks.index_px, marks.index_ns)
        pnl = desk.pnl
        if not pnl.is_started:
            desk.book.enter_static_positions()
            pnl.start(now_ns)
        elif pnl.see(now_ns) or now_ns - pnl.stepped_ns >= self.settings.pnl_step_ns:
            pnl.step(now_ns)

    def _follow_hedges_now(self, now_ns: int) -> None:
        """Let go of the hedges a person asked for as far as they are made, not needed, or not to be had."""
        if self.state in (BotState.PAUSED, BotState.HALTED):
            self.operator.drop_hedges(now_ns, f"{self.state}: {self.state_reason}")
        for name in list(self.operator.hedging):
            desk = self.desks[name]
            decision = desk.decision
            assert decision is not None, "every desk was decided upon"
            is_quiet = decision.refusal is None and decision.order_id is None and not decision.wanted_lots
            is_known = decision.delta_low_base == decision.delta_high_base and not any(self._live_of(desk))
            why_not = f"{decision.refusal}: {decision.refusal_detail}" if decision.refusal is not None else ""
            self.operator.settle_hedge(name, now_ns, why_not, is_there=is_quiet and is_known)

    def _view(self, desk: Desk, now_ns: int, routes: Sequence[HedgeSettings]) -> HedgeView:
        """Return what the policy may know, with what options are offered if it is time to look."""
        view = self._widen(desk, self.ordering.see(desk, routes, now_ns))
        if self.operator.targets:
            view = self.operator.aim(view)
        if self.counterparties is not None and self.counterparties.drains:
            view = self._insure(desk, view, self.counterparties)
        if self.correlations is not None:
            desk.note_residual(view)
            if peers := self._peers(desk, now_ns, self.correlations):
                view = msgspec.structs.replace(view, peers=peers)
        if not self.settings.option_hedges:
            return view
        self.ordering.taken_quote = self.option_hedges.exposure_quote()
        offers = self.option_hedges.review(desk, now_ns)
        return view if offers is None else msgspec.structs.replace(view, offers=offers)

    def _insure(self, desk: Desk, view: HedgeView, counterparties: CounterpartyKeeper) -> HedgeView:
        """Aim beyond the target by a part of the delta that fails with a venue being left, until it is closed there."""
        shift_base = counterparties.shift_base(desk.underlying)
        if not shift_base or self.state is not BotState.RUNNING or self._doubt_of(desk):
            return view
        return msgspec.structs.replace(view, target_delta_base=view.target_delta_base + shift_base)

    def _peers(self, desk: Desk, now_ns: int, correlations: Correlations) -> tuple[Peer, ...]:
        """Return the other underlyings that move along, each as of its own last decision."""
        if not correlations.is_current(now_ns):
            return ()
        found = [
            other.peer(correlations.between(desk.underlying, other.underlying), now_ns)
            for other in self.desks.values()
            if other is not desk
        ]
        return tuple([peer for peer in found if peer is not None])

    def _order(
        self,
        desk: Desk,
        view: HedgeView,
        target: HedgeTarget,
        lots: int,
        routes: list[HedgeSettings],
        blocks: list[Blocked],
    ) -> tuple[Refusal, str] | Routed | None:
        """Return the orders of a need, else those of a roll, if there are any; or why there are none."""
        if lots:
            if self.orders.lost_streaks:
                blocks = self.ordering.put_losing_last(routes, blocks, view.now_ns)
            return self.ordering.route(desk, view, target, routes, blocks)
        if _may_be_outside(view, target):
            span = f"{view.delta_low_base:.4g} to {view.delta_high_base:.4g}"
            return Refusal.UNKNOWN_OUTCOME, f"net delta may be anything from {span}"
        if len(routes) < 2 or self.state is not BotState.RUNNING or self._doubt_of(desk):
            return None
        is_known = view.delta_low_base == view.delta_high_base  # else what is rolled may not be what is held
        return self.ordering.find_roll(desk, view, routes) if is_known and not self._refuse_to_trade(view) else None

    @property
    def _is_relieving(self) -> bool:
        """Tell whether any hedge may have to be closed in slices, for want of margin or because its venue is left."""
        if self.margin is None:
            return False
        return self.margin.is_relieving or (self.counterparties is not None and bool(self.counterparties.drains))

    def _relieve(self, desk: Desk, view: HedgeView, routes: Sequence[HedgeSettings]) -> Routed | None:
        """Return the order that closes a slice of a hedge where margin has to be released, if one may be sent."""
        assert self.margin is not None, "there is a doubt about margin"
        if self.state not in (BotState.RUNNING, BotState.REDUCE_ONLY) or self._refuse_to_trade(view) is not None:
            return None
        relief = self.margin.find_relief(desk)
        if relief is not None and relief.is_moved:
            venue = desk.holdings[relief.instrument_id].instrument.venue
            if all(one.instrument.venue == venue for one in routes):  # nobody else could take it now
                relief = None
        if relief is None and self.counterparties is not None:
            relief = self.counterparties.find_relief(desk)
        return None if relief is None else self.ordering.relieve(desk, view, routes, relief)

    def _trade_options(
        self,
        desk: Desk,
        view: HedgeView,
        target: HedgeTarget,
        lots: int,
        outcome_so_far: tuple[Refusal, str] | Routed | None,
    ) -> tuple[Refusal, str] | Routed | None:
        """Send the option trades a policy asks for, as far as every limit allows; the linear hedge then waits."""
        if not target.options:
            desk.option_orders = ()
            return outcome_so_far
        sent: list[OrderIntent] = []
        now_ns = view.now_ns
        is_reduce_only = self.may_only_shrink(desk)
        refused = self._refuse_to_trade(view)
        if refused is None and self.state not in (BotState.RUNNING, BotState.REDUCE_ONLY):
            refused = self._refuse_by_state(view, 1)
        for trade in target.options:
            outcome: OrderIntent | tuple[Refusal, str] | None = refused
            if outcome is None:
                order_id = f"{self.settings.run_id}-{self.ordering.sequence + 1}"
                outcome = self.option_hedges.approve(desk, trade, now_ns, order_id, is_reduce_only=is_reduce_only)
            if isinstance(outcome, OrderIntent):
                unmarked = self._send_option(desk, outcome, now_ns)
                if unmarked is None:
                    sent.append(outcome)
                    continue
                outcome = unmarked
            self.refusals[outcome[0]] = self.refusals.get(outcome[0], 0) + 1
            desk.option_refusal = f"{outcome[0]}: {outcome[1]}"
        desk.option_orders = tuple(
            f"{one.order_id}: {one.qty_lots:+} lots of {one.instrument_id}: {one.reason}" for one in sent
        )
        if sent:
            self.ordering.taken_quote = self.option_hedges.exposure_quote()
        if sent and lots and outcome_so_far is None:
            return Refusal.ORDER_IN_FLIGHT, f"options first: {sent[0].order_id}; what they change is hedged then"
        return outcome_so_far

    def _send_option(self, desk: Desk, intent: OrderIntent, now_ns: int) -> tuple[Refusal, str] | None:
        """Send an order of an option that every limit agreed to; return why it cannot be marked, and so is not sent."""
        option = self.holdings.instruments[intent.instrument_id]
        assert isinstance(option, Option), "approved as an option"
        holding, unmarked = desk.join_option(option, now_ns)
        if unmarked is not None:
            return unmarked
        self.ordering.sequence += 1
        self.option_hedges.note_order(holding, desk.underlying)
        self.orders.intend(intent)
        self.limits.note_sent(now_ns)
        self._commands.append(SubmitOrder(intent))
        if self.margin is not None:
            self.margin.note_change(option.venue)
        return None

    def _find_bad_input(self, desk: Desk, now_ns: int) -> tuple[Refusal, str] | None:
        """Bring the desk's marks up to `now_ns`; return why its inputs do not allow a decision, if so."""
        if desk.book.option_hedges:
            desk.tidy_options(self.orders, now_ns)
        if self.oracles is not None:
            refusal = self.oracles.judge(desk, now_ns)
            if refusal is not None:
                desk.unquoted = []  # this is about the price itself, whatever its hedges' quotes are
                return refusal
        return desk.find_bad_input(now_ns)

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

    @property
    def _is_closing(self) -> bool:
        """Tell whether everything held is being closed because a person wants it; a halt stops that too."""
        flatten = self.operator.flatten
        return flatten is not None and not flatten.is_done and self.state is BotState.PAUSED

    def _close_hedges(
        self, desk: Desk, view: HedgeView, routes: Sequence[HedgeSettings], blocks: Sequence[Blocked]
    ) -> bool:
        """Send the next orders that close everything this run holds on a desk; tell whether any was sent."""
        flatten = self.operator.flatten
        assert flatten is not None, "a person wants everything closed"
        self._note_rested(desk)
        self._trip(desk, view.now_ns, view, 0)
        if not self._is_closing:
            return False  # orders were rejected in a row
        routed = self._find_closing(desk, flatten, routes, blocks, view.now_ns)
        if routed is None:
            return False
        self._conclude(desk, view, HedgeTarget.hold(flatten.title), 0, routed)
        return True

    def _close_blindly(self, desk: Desk, refused: tuple[Refusal, str], now_ns: int) -> None:
        """Close hedges although the book cannot be valued; what is wrong with the prices they trade at is heeded."""
        flatten = self.operator.flatten
        assert flatten is not None, "a person wants everything closed"
        if refused[0] is Refusal.UNKNOWN_HOLDING:
            refused = self._find_bad_input(desk, now_ns) or refused
        if refused[0] not in _OF_THE_BOOK:
            flatten.left[desk.underlying] = {desk.underlying: f"{refused[0]}: {refused[1]}"}
            return
        routed = self._find_closing(desk, flatten, *self.ordering.find_routes(desk, now_ns), now_ns)
        if routed is not None:
            self._send(desk, now_ns, 0.0, routed)

    def _find_closing(
        self,
        desk: Desk,
        flatten: Flatten,
        routes: Sequence[HedgeSettings],
        blocks: Sequence[Blocked],
        now_ns: int,
    ) -> Routed | None:
        """Send what closes option hedges; return what closes linear ones, and remember what is left."""
        unknown = self._find_unknown(now_ns)
        if unknown is not None:
            flatten.left[desk.underlying] = {desk.underlying: f"{unknown[0]}: {unknown[1]}"}
            return None
        left = self._close_options(desk, flatten, now_ns)
        routed, linear_left = self.ordering.close(desk, routes, blocks, flatten.title, now_ns)
        flatten.left[desk.underlying] = left | linear_left
        for order in routed.orders if routed is not None else ():
            flatten.order_ids.add(order.intent.order_id)
            self.foreign.drop_flattenings_on(order.intent.instrument_id)
        return routed

    def _close_options(self, desk: Desk, flatten: Flatten, now_ns: int) -> dict[str, str]:
        """Send the orders that close option hedges; return what is left of them, and why."""
        held = {name: one for name, one in desk.book.option_hedges.items() if one.lots}
        if not held:
            return {}
        left = {
            name: f"{one.lots:+} lots: no price to close at now, or an order under way" for name, one in held.items()
        }
        sent: list[str] = []
        for trade in self.option_hedges.closing_trades(desk, now_ns, flatten.title):
            name = trade.instrument_id
            order_id = f"{self.settings.run_id}-{self.ordering.sequence + 1}"
            intent = self.option_hedges.approve(desk, trade, now_ns, order_id, is_reduce_only=True)
            refused = self._send_option(desk, intent, now_ns) if isinstance(intent, OrderIntent) else intent
            if refused is not None or not isinstance(intent, OrderIntent):
                left[name] = f"{held[name].lots:+} lots: {': '.join(refused or ())}"
                continue
            flatten.order_ids.add(order_id)
            left[name] = f"{held[name].lots:+} lots, {intent.qty_lots:+} ordered"
            sent.append(f"{order_id}: {intent.qty_lots:+} lots of {name}: {intent.reason}")
        desk.option_orders = tuple(sent)
        return left

    def _follow_flatten(self) -> None:
        """Say how far it has come that everything is closed; it is over once nothing is held and nothing under way."""
        flatten = self.operator.flatten
        if flatten is None or not self._is_closing:
            return
        flatten.order_ids &= self.orders.live.keys()
        hedges = {name for desk in self.desks.values() for name in (*desk.holdings, *desk.book.option_hedges)}
        is_quiet = not any(name in hedges for name in self.orders.live_instruments())
        flatten.is_done = is_quiet and all(_is_flat(desk, flatten.left) for desk in self.desks.values())
        self.state_reason = flatten.tell()

    def _flatten(self, desk: Desk, view: HedgeView, flattening: Flattening, routes: Sequence[HedgeSettings]) -> bool:
        """Send the order against a foreign fill if every limit allows it; tell whether it was sent."""
        here = [hedge for hedge in routes if hedge.instrument.instrument_id == flattening.instrument_id]
        holding = desk.holdings[flattening.instrument_id]
        target = flattening_target(flattening, view, holding.instrument.lot_base(holding.mark_px))
        outcome = self._trip(desk, view.now_ns, view, flattening.lots)
        if outcome is not None or not here:
            return False
        routed = self.ordering.route(desk, view, target, here, [])
        if not isinstance(routed, Routed):
            return False
        self.foreign.drop_flattening(flattening)
        self._conclude(desk, view, target, flattening.lots, routed)
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
        streak = self.limits.find_reject_streak(self._reject_streak_of(desk)) if self.orders.reject_streaks else None
        if streak is not None:
            found = (Refusal.REJECT_STREAK, f"{streak}: {self.orders.last_reject}")
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
        refused = self.refuse_growth(desk, view, lots) if lots else None
        return found if has_tripped and refused is not None else refused

    def _refuse_to_trade(self, view: HedgeView) -> tuple[Refusal, str] | None:
        """Return what of accounts and chains is not known well enough to trade on, if anything."""
        return self._find_unknown(view.now_ns) if self.state in (BotState.RUNNING, BotState.REDUCE_ONLY) else None

    def _find_unknown(self, now_ns: int) -> tuple[Refusal, str] | None:
        """Return what of accounts and chains is not known well enough, or not any more, if anything."""
        waits_for = self._waits_for()
        if waits_for:
            return Refusal.RECONCILING, waits_for
        stale = self.accounts.find_stale(now_ns)
        if stale:
            return Refusal.STALE_ACCOUNT, stale
        stale = self.chains.find_stale(now_ns)
        if stale:
            return Refusal.STALE_CHAIN, stale
        return None

    def _refuse_by_state(self, view: HedgeView, lots: int) -> tuple[Refusal, str] | None:
        refused = self._refuse_to_trade(view)
        if refused is not None:
            return refused
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

    def _refuse_by_oracles(self, desk: Desk, view: HedgeView, lots: int) -> tuple[Refusal, str] | None:
        """Return why a trade must not add exposure while the sources of the price are in doubt, if it would."""
        doubt = desk.oracle_doubt
        if not doubt or shrinks(lots, view.lot_base, view.delta_low_base, view.delta_high_base, view.target_delta_base):
            return None
        return Refusal.ORACLE_REDUCE_ONLY, f"{doubt}; {lots} lots would not shrink the net delta"

    def _refuse_by_margin(self, view: HedgeView, lots: int) -> tuple[Refusal, str] | None:
        """Return why a trade must not add exposure while an account is near its liquidation, if it would."""
        doubt = self._margin_doubt
        if not doubt or shrinks(lots, view.lot_base, view.delta_low_base, view.delta_high_base, view.target_delta_base):
            return None
        return Refusal.MARGIN_REDUCE_ONLY, f"{doubt}; {lots} lots would not shrink the net delta"

    def _refuse_by_breakers(self, desk: Desk, view: HedgeView, lots: int) -> tuple[Refusal, str] | None:
        """Return why a trade must not add exposure while a breaker is open, if it would."""
        doubt = self.breakers.doubt(desk.underlying) if self.breakers is not None else ""
        if not doubt or shrinks(lots, view.lot_base, view.delta_low_base, view.delta_high_base, view.target_delta_base):
            return None
        return Refusal.BREAKER_REDUCE_ONLY, f"{doubt}; {lots} lots would not shrink the net delta"

    def _doubt_of(self, desk: Desk) -> str:
        """Return why exposure may only shrink for a reason that ends by itself, "" where there is none."""
        doubt = desk.oracle_doubt or self._margin_doubt
        if doubt or self.breakers is None:
            return doubt
        return self.breakers.doubt(desk.underlying)

    def may_only_shrink(self, desk: Desk) -> bool:
        """Tell whether an order may do nothing but shrink the net delta."""
        return self.state is BotState.REDUCE_ONLY or bool(self._doubt_of(desk))

    def refuse_growth(self, desk: Desk, view: HedgeView, lots: int) -> tuple[Refusal, str] | None:
        """Return why a trade further than to the policy's edge must not be made where exposure may only shrink."""
        if not lots:
            return None
        return (
            self._refuse_by_state(view, lots)
            or self._refuse_by_oracles(desk, view, lots)
            or self._refuse_by_margin(view, lots)
            or self._refuse_by_breakers(desk, view, lots)
        )

    def _reject_streak_of(self, desk: Desk) -> int:
        """Return how often in a row even the best of the desk's listed hedge instruments was refused."""
        streaks = [
            self.orders.reject_streak_of(instrument_id)
            for instrument_id in desk.holdings
            if not self.venues.is_delisted(instrument_id)
        ]
        return min(streaks, default=0)

    # ── working ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _work(
        self, desk: Desk, view: HedgeView, target: HedgeTarget, lots: int, blocks: list[Blocked]
    ) -> tuple[Refusal, str] | None:
        """Keep, move or cancel what rests for this desk; return why nothing else is sent meanwhile."""
        side = side_of(target, view.greeks.delta_base)
        if not side:
            desk.need = None
        elif desk.need is None or desk.need.side != side:
            desk.need = Need(side, view.now_ns)
        outcome: tuple[Refusal, str] | None = None
        for order in self._live_of(desk):
            intent = order.intent
            move = self._find_move(desk, view, target, lots, order, blocks) if order.is_working else None
            if move is None or (move.limit_ticks and self.limits.refuse_rate(view.now_ns) is not None):
                pass  # it stays where it is
            elif move.limit_ticks:
                self.limits.note_sent(view.now_ns)
                self.orders.request_amend(order, move.limit_ticks, view.now_ns)
                self._commands.append(AmendOrder(intent.order_id, intent.instrument_id, move.limit_ticks, move.reason))
            elif self._cancel(order, move.reason, view.now_ns):
                outcome = (Refusal.ORDER_IN_FLIGHT, f"canceling {intent.order_id}: {move.reason}")
            if lots and outcome is None and not order.is_doubtful:
                outcome = (Refusal.ORDER_IN_FLIGHT, f"order {intent.order_id} is {order.state}; one at a time")
        return outcome

    def _find_move(
        self, desk: Desk, view: HedgeView, target: HedgeTarget, lots: int, order: Order, blocks: list[Blocked]
    ) -> Move | None:
        """Return what should become of a resting order, None if it may rest on."""
        instrument_id = order.intent.instrument_id
        holding = desk.holdings[instrument_id]
        hedge = next(one for one in desk.hedges if one.instrument.instrument_id == instrument_id)
        why = "hedges there no longer rest" if hedge.style == "taker" else ""
        if why := next((block.why for block in blocks if block.instrument_id == instrument_id), why):
            return Move(0, why)
        lot_base = holding.instrument.lot_base(holding.mark_px)
        remaining = order.remaining_lots
        side = 1 if remaining > 0 else -1
        low = view.delta_low_base - remaining * lot_base  # without it
        high = view.delta_high_base - remaining * lot_base
        doubt = self._doubt_of(desk)
        if self.state is BotState.REDUCE_ONLY or (doubt and self.state is BotState.RUNNING):
            if not shrinks(remaining, lot_base, low, high, view.target_delta_base):
                return Move(0, doubt or str(self.state))
        elif self.state is not BotState.RUNNING:
            return Move(0, str(self.state))
        if lots_to_trade(target, low, high, lot_base) * side <= 0 or lots * side < 0:
            return Move(0, "no longer wanted")
        if over := self._find_overdone(holding, side):
            return Move(0, over)
        if desk.need is not None and desk.need.side == side:
            urgency = find_crossing(
                desk.need, hedge, target, view, self.market.quotes[instrument_id],
                vol=desk.vol(), lot_base=lot_base, fill_rate_per_s=desk.fill_rates.rate_per_s(instrument_id),
            )  # fmt: skip
            if urgency:
                return Move(0, f"to cross: {urgency}")
        move = find_repeg(order, hedge, self.market.quotes[instrument_id], view.now_ns)
        if move is not None and move.limit_ticks:
            limit_px = holding.instrument.tick_schedule.px(move.limit_ticks)
            refused = self.limits.refuse_price(limit_px, desk.reference_px(hedge))
            return move if refused is None else Move(0, refused)
        return move

    def _find_overdone(self, holding: Holding, side: int) -> str:
        """Return which limit of a venue what rests there would take a position over, "" if none."""
        venue = holding.instrument.venue
        if room_lots(holding, side, self._holdings, self.orders, self.ordering.venue_limits()) < 0:
            return f"exposure limit of {venue}"
        return "" if self.margin is None else self.margin.overdone(holding.instrument.instrument_id, side, venue)

    def _note_rested(self, desk: Desk) -> None:
        """Once a resting order is over, what it filled was a hedge: one that loops is to be noticed."""
        if not desk.resting_from or not any(order.state.is_terminal for order, _ in desk.resting_from):
            return
        for order, hedged_base in desk.resting_from:
            if not order.state.is_terminal:
                continue
            intent = order.intent
            rested_s = (desk.decided_ns - intent.decided_ns) / NS_PER_S
            desk.fill_rates.note(intent.instrument_id, rested_s, order.filled_lots / intent.qty_lots)
            if order.filled_lots:
                holding = desk.holdings[intent.instrument_id]
                filled_base = order.filled_lots * holding.instrument.lot_base(holding.mark_px)
                self.limits.note_hedge(desk.underlying, intent.decided_ns, filled_base, hedged_base)
        desk.resting_from = [entry for entry in desk.resting_from if not entry[0].state.is_terminal]

    def _withdraw(self, desk: Desk, why: str, now_ns: int) -> None:
        """Cancel what rests for a desk that cannot judge it any more."""
        if self.orders.live:
            for order in self._live_of(desk):
                if order.is_working:
                    self._cancel(order, why, now_ns)

    def _live_of(self, desk: Desk) -> Iterator[Order]:
        """Yield the live orders on a desk's hedge instruments."""
        for order in list(self.orders.live.values()):
            if order.intent.instrument_id in desk.holdings:
                yield order

    def _cancel(self, order: Order, why: str, now_ns: int) -> bool:
        """Cancel an order the venue has, but not twice in a moment; tell whether the cancel is on its way."""
        if order.state not in (OrderState.OPEN, OrderState.PARTLY_FILLED):
            return False
        if order.cancel_ns and now_ns - order.cancel_ns < self.settings.query_every_ns:
            return False
        self.orders.request_cancel(order, now_ns)
        self._commands.append(CancelOrder(order.intent.order_id, order.intent.instrument_id, why))
        return True

    def _conclude(
        self,
        desk: Desk,
        view: HedgeView,
        target: HedgeTarget,
        wanted_lots: int,
        outcome: Routed | tuple[Refusal, str] | None,
    ) -> None:
        refusal: Refusal | None = None
        detail = ""
        order_id: str | None = None
        lots = 0
        legs: tuple[PlannedLeg, ...] = ()
        next_best_quote = nan
        if isinstance(outcome, Routed):
            largest = outcome.orders[0]
            order_id, lots, wanted_lots = largest.intent.order_id, largest.intent.qty_lots, largest.wanted_lots
            next_best_quote = outcome.next_best_quote
            self._send(desk, view.now_ns, view.hedge_base + view.pending_base, outcome)
            if self.correlations is not None:  # others decide after this one, and before it sees its own orders
                desk.note_residual(view, sum([one.intent.qty_lots * one.lot_base for one in outcome.orders]))
            if not isnan(next_best_quote):
                legs = tuple([_leg(order) for order in outcome.orders])
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
            legs,
            next_best_quote,
            desk.option_orders,
            desk.book.old_hedge_marks,
        )

    def _send(self, desk: Desk, now_ns: int, hedged_base: float, routed: Routed) -> None:
        """Send the orders of a decision; together they are one hedge, and a roll is none.

        `hedged_base` is the hedge held before them, with what is pending.
        """
        crossing_base = 0.0
        sent: list[Order] = []
        for approved in routed.orders:
            order = self.orders.intend(approved.intent)
            sent.append(order)
            self.limits.note_sent(now_ns)
            if order.may_rest:
                desk.resting_from.append((order, hedged_base))
            else:
                crossing_base += approved.intent.qty_lots * approved.lot_base
            self._commands.append(SubmitOrder(approved.intent))
            if self.margin is not None:
                self.margin.note_change(desk.holdings[approved.intent.instrument_id].instrument.venue)
        if routed.is_roll:
            desk.note_quotes(tuple(sent))
            if routed.relief_base:
                self.limits.note_relief(desk.underlying, routed.relief_base)
            return
        desk.note_orders(tuple(sent), is_whole=routed.is_whole)
        self.operator.note_hedge(desk.underlying, tuple(sent), is_whole=routed.is_whole)
        desk.traded_base = sum([abs(one.intent.qty_lots) * one.lot_base for one in routed.orders])
        if crossing_base:
            self.limits.note_hedge(desk.underlying, now_ns, crossing_base, hedged_base)

    def _refuse(self, desk: Desk, now_ns: int, refusal: Refusal, detail: str) -> None:
        self.refusals[refusal] = self.refusals.get(refusal, 0) + 1
        nan = float("nan")
        spot_px = desk.book.marks_of_underlying.index_px
        desk.decision = Decision(
            now_ns, desk.underlying, spot_px, _NO_GREEKS, nan, nan, nan, desk.book.hedge_delta_base(), 0.0, nan, nan,
            "", refusal, detail, None, 0, 0, old_marks=desk.book.old_hedge_marks,
        )  # fmt: skip


# What an operator can order, from the loosest to the strictest.
_ORDERED = (BotState.REDUCE_ONLY, BotState.PAUSED, BotState.HALTED)
_STATE_ORDERED = {
    OperatorAction.HALT: BotState.HALTED,
    OperatorAction.PAUSE: BotState.PAUSED,
    OperatorAction.FLATTEN: BotState.PAUSED,
    OperatorAction.REDUCE_ONLY: BotState.REDUCE_ONLY,
}
# What keeps a book from being valued and says nothing of the prices its hedges are closed at.
_OF_THE_BOOK = frozenset({Refusal.NO_VOL, Refusal.STALE_FORWARD, Refusal.UNSETTLED, Refusal.UNKNOWN_HOLDING})
_NO_GREEKS = Greeks(float("nan"), float("nan"), float("nan"), float("nan"), float("nan"))


def _ignore(_event: Event) -> None:
    """Do nothing."""


def _is_flat(desk: Desk, left: Mapping[str, Mapping[str, str]]) -> bool:
    """Tell whether nothing is held as a hedge but what its venue takes no order of, as `left` says of it."""
    if any(abs(one.lots) >= one.instrument.min_lots for one in desk.book.option_hedges.values() if one.lots):
        return False
    told = left.get(desk.underlying, {})
    held = [(name, one) for name, one in desk.holdings.items() if one.lots]
    return all(Refusal.BELOW_MINIMUM in told.get(name, "") and abs(one.lots) < least_lots(one) for name, one in held)


def _leg(order: Approved) -> PlannedLeg:
    intent = order.intent
    qty_base = intent.qty_lots * order.lot_base
    return PlannedLeg(intent.order_id, intent.instrument_id, intent.qty_lots, qty_base, order.cost_quote)


def _may_be_outside(view: HedgeView, target: HedgeTarget) -> bool:
    is_interval = view.delta_low_base != view.delta_high_base
    return is_interval and (view.delta_low_base < target.low_base or view.delta_high_base > target.high_base)


def _sum_parts(all_parts: list[PnlBreakdown]) -> PnlBreakdown:
    names = PnlBreakdown.__struct_fields__
    return PnlBreakdown(**{name: sum(getattr(parts, name) for parts in all_parts) for name in names})
