"""Whatever the market does and venues answer: no limit is exceeded counting what is unknown, and nothing is doubled.

Two venues with books of their own take commands late, lose requests and replies, fill in parts, refuse and fall silent;
one of them may be a chain, whose blocks are undone and mined anew. Hypothesis chooses what happens next. Checked are
the venues' truth, which the engine learns of only by messages; and that the same messages make the same engine.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.chain import ChainReport, GasPaid, TokenPosition
from bot.domain.decisions import BotState
from bot.domain.events import AmendOrder, CancelOrder, Command, Event, OperatorAction, QueryOrder, SubmitOrder
from bot.domain.instruments import Hedgeable
from bot.domain.orders import (
    AmendRejected,
    CancelRejected,
    Fill,
    FillReversed,
    GasBid,
    Liquidity,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderIntent,
    OrderRejected,
    OrderSent,
    OrderState,
    OrderTruth,
    OutcomeLost,
    TimeInForce,
)
from bot.domain.units import NS_PER_MIN, NS_PER_S
from bot.domain.venues import VenueHealth, VenueStatus
from bot.engine.engine import Engine
from bot.engine.settings import BookLeg, HedgeSettings
from strategies import DeltaBand
from tests.engine.builders import CALL, LIMITS, Driver, inverse_perpetual, linear_perpetual, make_settings

HALF_WIDTH_BASE = 1.0
MAX_ORDERS_PER_MIN = 12
TIGHT = {"first": 12_000.0, "second": 16_000.0}
WIDE = {"first": 50_000.0, "second": 80_000.0}
FIRST = msgspec.structs.replace(linear_perpetual(), instrument_id="ETH-FIRST", venue="first", min_quote=300.0)
SECOND = msgspec.structs.replace(inverse_perpetual(), instrument_id="ETH-SECOND", venue="second")
HEDGES = (FIRST, SECOND)


@dataclass
class Truth:
    """One order as its venue has it."""

    intent: OrderIntent
    state: OrderState = OrderState.OPEN
    fills: list[Fill] = field(default_factory=list)

    @property
    def left_lots(self) -> int:
        return self.intent.qty_lots - sum(fill.qty_lots for fill in self.fills)

    @property
    def may_fill_lots(self) -> int:
        return 0 if self.state.is_terminal else self.left_lots


class Venues(Driver):
    """The engine, and two venues that do with its commands what they are told to."""

    def __init__(
        self,
        style: str,
        *,
        can_amend: bool,
        venue_limits: dict[str, float],
        is_chain: bool = False,
        routing: Literal["cheapest", "preference"] = "cheapest",
    ) -> None:
        hedges = tuple(
            HedgeSettings(
                instrument=one,
                maker_bps=0.0,
                taker_bps=5.0,
                style=style,
                can_amend=can_amend,
                repeg_every_ns=NS_PER_S,
                max_rest_ns=15 * NS_PER_S,
                escalate_bands=3.0,
            )
            for one in HEDGES
        )
        limits = msgspec.structs.replace(
            LIMITS, max_orders_per_min=MAX_ORDERS_PER_MIN, max_hedges_same_way=50, max_order_quote=9_000.0
        )
        super().__init__(
            make_settings(
                (BookLeg(CALL, -1e-12),),
                hedges={"ETH": hedges},
                cash={"ETH": 0.0},
                limits=limits,
                policy=DeltaBand(half_width_base=HALF_WIDTH_BASE),
                venue_limits=venue_limits,
                routing=routing,
            )
        )
        self.is_chain = is_chain  # whether the first venue's orders are transactions
        self.log: list[tuple[str, Any]] = []  # all that the engine was ever told, and what it commanded
        self.px = 2000.0
        self.under_way: deque[Command] = deque()
        self.messages: deque[Event] = deque()
        self.truths: dict[str, Truth] = {}
        self.positions = dict.fromkeys((one.instrument_id for one in HEDGES), 0)
        self.spent_ns: list[int] = []

    def apply(self, *events: Event) -> None:
        self.log += [("apply", event) for event in events]
        super().apply(*events)

    def decide(self) -> list[Command]:
        commands = super().decide()
        self.log.append(("decide", (self.now_ns, list(commands))))
        return commands

    # what hypothesis chooses from

    def live(self, px_move: float, seconds: float, shown: int) -> None:
        """Let time pass, show what is to be shown of the market, and decide."""
        self.px = min(2300.0, max(1700.0, self.px * (1.0 + px_move)))
        self.wait(seconds)
        self.apply(self.index(self.px), self.vol(CALL, 0.6, self.px))
        self.apply(*[self.quote(one, self.px) for n, one in enumerate(HEDGES) if shown & (n + 1)])
        for command in self.decide():
            self.take(command)

    def change_book(self, coins: float) -> None:
        self.engine.desks["ETH"].book.coin_cash = coins
        self.log.append(("book", coins))

    def report(self, coins: float) -> None:
        """Let the chain say what is held there."""
        held = (TokenPosition("wallet", "ETH", coins, 0.01),) if coins else ()
        self.apply(ChainReport("first", len(self.log), "0x", (), held, float("inf"), self.now_ns, self.now_ns))

    def pay_gas(self, number: int, coins: float) -> None:
        name = FIRST.instrument_id
        self.apply(GasPaid(f"p{number}", "first", "", name, "ETH", coins, coins * self.px, self.now_ns, self.now_ns))

    def reorg(self) -> None:
        """Undo the newest block with a trade of ours; the transaction waits to be mined again."""
        self.deliver(10**6)
        for truth in reversed(self.truths.values()):
            if truth.intent.instrument_id != FIRST.instrument_id or not (self.is_chain and truth.fills):
                continue
            if truth.intent.time_in_force is not TimeInForce.IOC:
                continue
            self.wait(0.001)
            fill = truth.fills.pop()
            truth.state = OrderState.OPEN
            self.positions[fill.instrument_id] -= fill.qty_lots
            now = (self.now_ns, self.now_ns)
            self.apply(FillReversed(fill.trade_id, fill.order_id, fill.instrument_id, "reorg", *now))
            return

    def mine(self) -> None:
        """Mine the oldest transaction that a reorg left over."""
        for truth in self.truths.values():
            if truth.may_fill_lots and truth.intent.time_in_force is TimeInForce.IOC:
                self.messages.extend(self.trade(truth, 10**6))
                return

    def tell(self, venue: str, health: VenueHealth) -> None:
        self.apply(VenueStatus(venue, health, "told so", self.now_ns))

    def process(self, fate: str, lots: int) -> None:
        """Let the next command reach its venue, or not, and its answer be sent, or not."""
        if not self.under_way:
            return
        command = self.under_way.popleft()
        if isinstance(command, QueryOrder):
            self.answer(command)
            return
        answers = [] if fate == "lose request" else self.execute(command, fate, lots)
        if fate in ("lose request", "lose reply"):
            order_id = command.intent.order_id if isinstance(command, SubmitOrder) else command.order_id  # type: ignore[union-attr]
            answers = [OutcomeLost(order_id, "timeout", self.now_ns)]
        self.messages.extend(answers)

    def fill_resting(self, lots: int) -> None:
        """Let somebody trade with the oldest resting order."""
        for truth in self.truths.values():
            if truth.may_fill_lots:
                self.messages.extend(self.trade(truth, lots))
                return

    def deliver(self, count: int) -> None:
        for _ in range(min(count, len(self.messages))):
            self.apply(self.messages.popleft())

    # the venues

    def take(self, command: Command) -> None:
        """Note a command as it leaves; what is submitted must be within every limit whatever becomes of it."""
        if isinstance(command, SubmitOrder):
            self.check_submit(command.intent)
            if self.is_chain and command.intent.instrument_id == FIRST.instrument_id:
                self.bid(command.intent.order_id, GasBid(10**9, 10**7, 0.1, self.now_ns + 20 * NS_PER_S))
            self.apply(OrderSent(command.intent.order_id, self.now_ns))
        if isinstance(command, SubmitOrder | AmendOrder):
            self.spent_ns.append(self.now_ns)
            recent = [ts_ns for ts_ns in self.spent_ns if self.now_ns - ts_ns < NS_PER_MIN]
            assert len(recent) <= MAX_ORDERS_PER_MIN
        self.under_way.append(command)

    def bid(self, order_id: str, gas: GasBid) -> None:
        """Make an order a transaction."""
        _bid(self.engine, order_id, gas)
        self.log.append(("bid", (order_id, gas)))

    def execute(self, command: Command, fate: str, lots: int) -> list[Event]:
        if isinstance(command, SubmitOrder):
            return self.open(command.intent, fate, lots)
        assert isinstance(command, CancelOrder | AmendOrder)
        truth = self.truths.get(command.order_id)
        now = (self.now_ns, self.now_ns)
        is_open = truth is not None and not truth.state.is_terminal and fate != "refuse"
        if isinstance(command, AmendOrder):
            if is_open:
                return [OrderAmended(command.order_id, command.limit_ticks, *now)]
            return [AmendRejected(command.order_id, "no", *now)]
        if not is_open or truth is None:
            return [CancelRejected(command.order_id, "no", *now)]
        truth.state = OrderState.CANCELED
        return [OrderCanceled(command.order_id, False, *now)]

    def open(self, intent: OrderIntent, fate: str, lots: int) -> list[Event]:
        assert intent.order_id not in self.truths, "one order was sent twice"
        truth = self.truths[intent.order_id] = Truth(intent)
        now = (self.now_ns, self.now_ns)
        if fate == "refuse":
            truth.state = OrderState.REJECTED
            return [OrderRejected(intent.order_id, "no", *now, is_crossing=bool(lots % 2))]
        events: list[Event] = [OrderAccepted(intent.order_id, "v", *now)]
        if intent.time_in_force is TimeInForce.IOC:
            events += self.trade(truth, lots)
            if not truth.state.is_terminal:
                truth.state = OrderState.EXPIRED
                events.append(OrderCanceled(intent.order_id, True, *now))
        return events

    def trade(self, truth: Truth, lots: int) -> list[Event]:
        intent = truth.intent
        side = 1 if intent.qty_lots > 0 else -1
        qty_lots = side * min(abs(truth.left_lots), lots)
        if not qty_lots:
            return []
        self._trades += 1
        now = (self.now_ns, self.now_ns)
        name = intent.instrument_id
        fill = Fill(f"t{self._trades}", intent.order_id, name, qty_lots, self.px, 0.0, Liquidity.MAKER, *now)
        truth.fills.append(fill)
        self.positions[name] += qty_lots
        if not truth.left_lots:
            truth.state = OrderState.FILLED
        return [fill]

    def answer(self, query: QueryOrder) -> None:
        """Tell the truth; an order that is still on its way is not known to be absent, so nothing is said of it."""
        truth = self.truths.get(query.order_id)
        if truth is None and any(
            isinstance(one, SubmitOrder) and one.intent.order_id == query.order_id for one in self.under_way
        ):
            return
        state, fills = (truth.state, tuple(truth.fills)) if truth is not None else (OrderState.REJECTED, ())
        self.messages.append(OrderTruth(query.order_id, state, fills, self.now_ns, self.now_ns))

    # what must hold

    def lot_base(self, name: str) -> float:
        holding = self.engine.desks["ETH"].holdings[name]
        return holding.instrument.lot_base(holding.mark_px or self.px)

    def possible(self, name: str, side: int) -> int:
        """Return the lots of one side that may still fill at a venue, on their way to it or there."""
        lots = [truth.may_fill_lots for truth in self.truths.values() if truth.intent.instrument_id == name]
        lots += [
            one.intent.qty_lots
            for one in self.under_way
            if isinstance(one, SubmitOrder) and one.intent.instrument_id == name
        ]
        return sum(one for one in lots if one * side > 0)

    def check_submit(self, intent: OrderIntent) -> None:
        engine = self.engine
        side = 1 if intent.qty_lots > 0 else -1
        name = intent.instrument_id
        instrument: Hedgeable = engine.desks["ETH"].holdings[name].instrument
        reached = self.positions[name] + self.possible(name, side) + intent.qty_lots
        mark_px = engine.desks["ETH"].holdings[name].mark_px
        exposure_quote = abs(reached) * instrument.lot_base(mark_px) * mark_px
        assert exposure_quote <= engine.settings.venue_limits[instrument.venue] * (1 + 1e-9)
        # the orders of one decision share one need; one of them is judged beside those before it
        others = [order for order in engine.orders.live.values() if _number(order.intent) < _number(intent)]
        if engine.desks["ETH"].is_maker:
            before = [order for order in others if order.intent.decided_ns < intent.decided_ns]
            assert all(order.is_doubtful for order in before), "a second order for one need"
        book = engine.desks["ETH"].book
        delta = book.book_delta_base() + book.hedge_delta_base() - book.spent_coins
        bound = HALF_WIDTH_BASE + self.lot_base(name)
        reach = side * delta + abs(intent.qty_lots) * self.lot_base(name)
        for order in others:
            remaining_base = order.remaining_lots * self.lot_base(order.intent.instrument_id)
            if remaining_base * side > 0:
                reach += abs(remaining_base)
            elif not order.is_doubtful:
                bound += abs(remaining_base)  # what is pending the other way counts in full
        assert reach <= bound + 1e-6, "the same need was traded twice"

    def settle(self) -> None:
        """Let everything arrive and be answered, with good luck from now on."""
        for venue in TIGHT:
            self.tell(venue, VenueHealth.UP)
        if self.engine.state is not BotState.RUNNING:
            self.operate(OperatorAction.RESUME)
        for _ in range(40):
            while self.under_way:
                self.process("", 10**6)
            self.mine()
            self.deliver(10**6)
            self.live(0.0, 13.0, 3)

    def check_end(self) -> None:
        desk = self.engine.desks["ETH"]
        held = {name: holding.lots for name, holding in desk.holdings.items()}
        while self.under_way:
            self.process("", 10**6)
        self.deliver(10**6)
        held = {name: holding.lots for name, holding in desk.holdings.items()}
        assert held == self.positions, "the ledger differs from the venue"
        assert not any(self.engine.orders.unknown())
        decision = desk.decision
        assert decision is not None
        delta = desk.book.net_greeks(is_coin_numeraire=False).delta_base
        is_inside = abs(delta) <= HALF_WIDTH_BASE + 1e-6
        assert is_inside or decision.refusal is not None or self.engine.orders.live or decision.order_id

    def check_replay(self) -> None:
        """An engine that is told the same, from what a journal keeps of it, does the same to the last bit."""
        again = Engine(self.engine.settings)
        for kind, what in self.log:
            if kind == "apply":
                again.apply(msgspec.msgpack.decode(msgspec.msgpack.encode(what), type=Event))
            elif kind == "decide":
                assert again.decide(what[0]) == what[1]
            elif kind == "book":
                again.desks["ETH"].book.coin_cash = what
            else:
                _bid(again, *what)
        assert again.pnl() == self.engine.pnl()
        assert again.equity_quote() == self.engine.equity_quote()
        assert (again.turnover_quote, again.hedged_orders) == (self.engine.turnover_quote, self.engine.hedged_orders)


def _number(intent: OrderIntent) -> int:
    return int(intent.order_id.rpartition("-")[2])


def _bid(engine: Engine, order_id: str, gas: GasBid) -> None:
    order = engine.orders.orders[order_id]
    order.intent = msgspec.structs.replace(order.intent, gas=gas)


FATES = st.sampled_from(["", "", "", "refuse", "lose request", "lose reply"])
LOTS = st.integers(0, 60)
HEALTHS = [VenueHealth.UP, VenueHealth.UP, VenueHealth.DOWN, VenueHealth.DOWN, VenueHealth.FATAL]
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("live"),
            st.sampled_from([0.0, 1e-5, -1e-5, 1e-3, -1e-3, 0.02, -0.02]),
            st.sampled_from([0.1, 0.5, 1.0, 3.0, 7.0, 70.0]),
            st.sampled_from([3, 3, 3, 1, 2]),
        ),
        st.tuples(st.just("live"), st.sampled_from([0.0, 1e-5, -1e-5]), st.sampled_from([1.0, 2.0]), st.just(3)),
        st.tuples(st.just("live"), st.sampled_from([0.0, 1e-5, -1e-5]), st.sampled_from([1.0, 2.0]), st.just(3)),
        st.tuples(st.just("process"), FATES, LOTS),
        st.tuples(st.just("process"), FATES, LOTS),
        st.tuples(st.just("fill_resting"), LOTS),
        st.tuples(st.just("deliver"), st.integers(1, 5)),
        st.tuples(st.just("deliver"), st.integers(1, 5)),
        st.tuples(st.just("change_book"), st.sampled_from([-20.0, -3.0, -1.2, 0.0, 1.2, 3.5, 15.0])),
        st.tuples(st.just("tell"), st.sampled_from(sorted(TIGHT)), st.sampled_from(HEALTHS)),
        st.tuples(st.just("report"), st.sampled_from([-8.0, 0.0, 2.5, 6.0])),
        st.tuples(st.just("pay_gas"), st.integers(0, 3), st.sampled_from([0.002, -0.002])),
        st.tuples(st.just("reorg")),
        st.tuples(st.just("mine")),
    ),
    max_size=80,
)


@settings(max_examples=150, deadline=None)
@given(
    steps=STEPS,
    style=st.sampled_from(["taker", "maker", "maker"]),
    can_amend=st.booleans(),
    venue_limits=st.sampled_from([TIGHT, WIDE]),
    is_chain=st.booleans(),
    routing=st.sampled_from(["cheapest", "preference"]),
)
def test_no_answer_makes_it_exceed_a_limit_or_trade_a_need_twice(
    *,
    steps: list[tuple[Any, ...]],
    style: str,
    can_amend: bool,
    venue_limits: dict[str, float],
    is_chain: bool,
    routing: Literal["cheapest", "preference"],
) -> None:
    venues = Venues(style, can_amend=can_amend, venue_limits=venue_limits, is_chain=is_chain, routing=routing)
    venues.live(0.0, 1.0, 3)
    venues.change_book(3.0)
    for name, *how in steps:
        getattr(venues, name)(*how)
    venues.settle()
    venues.check_end()
    venues.check_replay()
