"""A fill whose block left the chain never happened: the ledger afterwards is that of a run in which it did not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.events import QueryOrder, SubmitOrder
from bot.domain.instruments import Hedgeable
from bot.domain.orders import Fill, FillReversed, GasBid, OrderAccepted, OrderCanceled, OrderIntent, OrderState
from bot.domain.results import pnl_parts
from bot.domain.units import NS_PER_S
from bot.domain.venues import AccountReport, VenuePosition
from bot.engine.routing import in_flight
from bot.engine.settings import BookLeg
from strategies import DeltaBand
from tests.engine.builders import INVERSE, PERPETUAL, Driver, make_fill, make_intent, make_settings, only_intent

GAS = GasBid(2 * 10**9, 10**8, 0.5, 0)
QUIET = DeltaBand(half_width_base=1e6)


class Chain(Driver):
    """A vault whose hedge trades by transactions; the test sends and mines them."""

    def __init__(self, hedge: Hedgeable = PERPETUAL, *, book: tuple[BookLeg, ...] = (), **changes: Any) -> None:
        super().__init__(make_settings(book, hedge=hedge, **{"policy": QUIET, **changes}))
        self.hedge_instrument = hedge
        self.bids = 0

    def send_transaction(self, lots: int) -> OrderIntent:
        """Have the tracker follow a transaction order that a node took."""
        self.bids += 1
        bid = msgspec.structs.replace(GAS, deadline_ns=self.now_ns + 120 * NS_PER_S)
        intent = make_intent(lots, f"a1b2c3d4e5-{self.bids}", instrument=self.hedge_instrument, now_ns=self.now_ns)
        intent = msgspec.structs.replace(intent, gas=bid)
        self.engine.ordering.sequence = self.bids
        self.engine.orders.intend(intent)
        self.send(intent)
        self.accept(intent)
        return intent

    def reverse(self, fill: Fill, reason: str = "reorg of depth 1") -> None:
        self.apply(FillReversed(fill.trade_id, fill.order_id, fill.instrument_id, reason, self.now_ns, self.now_ns))

    def see(self, px: float) -> None:
        self.wait(1.0)
        self.show(px)
        self.engine.close_steps(self.now_ns)

    def state_of(self, intent: OrderIntent) -> OrderState:
        return self.engine.orders.orders[intent.order_id].state

    def ledger(self) -> dict[str, float]:
        """Return everything a fill changes."""
        self.engine.close_steps(self.now_ns)
        desk = self.engine.desks["ETH"]
        holding = desk.hedge
        parts = pnl_parts(self.engine.pnl())
        assert parts["total"] == pytest.approx(self.engine.pnl_total_quote(), abs=1e-6)
        return {
            "lots": holding.lots,
            "qty": holding.qty,
            "cash": holding.cash_settle,
            "turnover": self.engine.turnover_quote,
            "hedged orders": self.engine.hedged_orders,
            "hedges": len(self.engine.hedge_marks),
            "last px": desk.last_hedge_px,
            **parts,
        }


def begun(hedge: Hedgeable = PERPETUAL) -> Chain:
    driver = Chain(hedge)
    driver.tick()
    return driver


class TestLedger:
    @pytest.mark.parametrize("hedge", [PERPETUAL, INVERSE])
    def test_it_is_as_if_the_fill_had_never_been(self, hedge: Hedgeable) -> None:
        driver = begun(hedge)
        first = driver.send_transaction(-50)
        driver.fill(first, px=2003.0, fee_settle=0.25)
        driver.see(2010.0)
        before = driver.ledger()
        second = driver.send_transaction(-30)
        fill = driver.fill(second, px=1990.0, fee_settle=1.5)
        assert driver.ledger()["slippage"] != pytest.approx(before["slippage"], abs=1e-3)
        driver.reverse(fill)
        after = driver.ledger()
        assert after == pytest.approx(before, abs=1e-9)
        assert driver.state_of(second) is OrderState.OPEN
        assert driver.state_of(first) is OrderState.FILLED

    def test_what_the_market_did_meanwhile_is_taken_back_too(self) -> None:
        driver, other = begun(), begun()
        fill = driver.fill(driver.send_transaction(-30), px=1990.0, fee_settle=1.5)
        for one in (driver, other):
            one.see(2100.0)
        driver.reverse(fill)
        assert driver.ledger() == pytest.approx(other.ledger(), abs=1e-9)

    def test_that_of_an_inverse_contract_is_worth_nothing_either(self) -> None:
        driver, other = begun(INVERSE), begun(INVERSE)
        fill = driver.fill(driver.send_transaction(-300), px=1990.0, fee_settle=0.01)
        for one in (driver, other):
            one.see(2100.0)
        driver.reverse(fill)
        after, wanted = driver.ledger(), other.ledger()
        moves = {"delta", "gamma", "unexplained"}  # what the market did is taken back as one, by delta
        assert {k: v for k, v in after.items() if k not in moves} == pytest.approx(
            {k: v for k, v in wanted.items() if k not in moves}, abs=1e-9
        )
        assert sum(after[part] for part in moves) == pytest.approx(0.0, abs=1e-9)

    def test_filled_before_the_first_decision_it_was_part_of_the_beginning(self) -> None:
        driver = Chain()
        fill = driver.fill(driver.send_transaction(-30), px=1990.0)
        driver.tick()
        driver.see(2010.0)
        before = driver.ledger()
        driver.reverse(fill)
        after = driver.ledger()
        assert (after["lots"], after["qty"], after["cash"]) == (0, 0.0, 0.0)
        assert after["total"] == pytest.approx(before["total"])

    def test_the_same_trade_may_be_mined_again(self) -> None:
        driver = begun()
        intent = driver.send_transaction(-30)
        fill = driver.fill(intent, px=1990.0)
        before = driver.ledger()
        driver.wait(1.0)
        driver.reverse(fill)
        driver.wait(1.0)
        driver.apply(msgspec.structs.replace(fill, ts_recv_ns=driver.now_ns))
        assert driver.ledger() == pytest.approx(before, abs=1e-9)
        assert driver.state_of(intent) is OrderState.FILLED

    def test_or_under_another_id_at_another_price(self) -> None:
        driver = begun()
        intent = driver.send_transaction(-30)
        driver.reverse(driver.fill(intent, px=1990.0))
        driver.fill(intent, px=1980.0)
        assert driver.ledger()["lots"] == -30
        assert driver.ledger()["last px"] == 1980.0
        assert driver.state_of(intent) is OrderState.FILLED

    def test_a_position_that_is_no_hedge_follows_as_well(self) -> None:
        driver = Chain(book=(BookLeg(INVERSE, 1.0),), account_book=frozenset({"sim"}))
        driver.tick()
        fill = make_fill(make_intent(7, "elsewhere", instrument=INVERSE), "x1", 7, now_ns=driver.now_ns)
        driver.apply(fill)
        driver.reverse(fill)
        [held] = [one for name, one in driver.engine.holdings.sources.items() if name == "account:sim"]
        assert held[INVERSE.instrument_id].qty_lots == 0


class TestDuplicates:
    def test_what_was_never_booked_is_not_undone(self) -> None:
        driver = begun()
        fill = driver.fill(driver.send_transaction(-30))
        before = driver.ledger()
        driver.reverse(msgspec.structs.replace(fill, trade_id="other"))
        driver.reverse(msgspec.structs.replace(fill, instrument_id="ETH-OTHER"))
        assert driver.ledger() == before
        assert driver.engine.orders.contradiction == ""

    def test_told_twice_it_is_undone_once(self) -> None:
        driver = begun()
        fill = driver.fill(driver.send_transaction(-30))
        driver.reverse(fill)
        before = driver.ledger()
        driver.reverse(fill)
        assert driver.ledger() == before

    def test_the_fill_told_again_late_stays_undone(self) -> None:
        driver = begun()
        intent = driver.send_transaction(-30)
        fill = driver.fill(intent)
        driver.wait(1.0)
        driver.reverse(fill)
        driver.apply(fill)
        assert driver.ledger()["lots"] == 0
        assert driver.state_of(intent) is OrderState.OPEN

    def test_the_reversal_told_again_late_does_not_undo_the_next(self) -> None:
        driver = begun()
        fill = driver.fill(driver.send_transaction(-30))
        driver.wait(1.0)
        reversal = FillReversed(fill.trade_id, fill.order_id, fill.instrument_id, "", driver.now_ns, driver.now_ns)
        driver.apply(reversal)
        driver.wait(1.0)
        driver.apply(msgspec.structs.replace(fill, ts_recv_ns=driver.now_ns), reversal)
        assert driver.ledger()["lots"] == -30


class TestPending:
    def test_its_lots_are_pending_again_so_that_nothing_is_hedged_twice(self) -> None:
        driver = Chain(cash={"ETH": 10.0}, policy=DeltaBand(half_width_base=1.0))
        submitted = only_intent(driver.tick())
        order = driver.engine.orders.orders[submitted.order_id]
        order.intent = msgspec.structs.replace(submitted, gas=msgspec.structs.replace(GAS, deadline_ns=2**62))
        driver.send(submitted)
        driver.accept(submitted)
        fill = driver.fill(submitted)
        assert driver.tick(after_s=12.0) == []
        driver.reverse(fill)
        for _ in range(5):
            assert driver.tick(after_s=12.0) == [], "it is on its way already"
        decision = driver.engine.desks["ETH"].decision
        assert decision is not None
        assert decision.hedge_base == 0.0
        assert decision.pending_base == pytest.approx(submitted.qty_lots * 0.1)
        assert decision.delta_low_base == decision.delta_high_base == pytest.approx(1.0)
        driver.fill(submitted)
        assert driver.tick(after_s=12.0) == []
        assert driver.ledger()["lots"] == submitted.qty_lots

    def test_a_trade_that_an_exchange_takes_back_is_asked_about(self) -> None:
        driver = Chain(cash={"ETH": 10.0}, policy=DeltaBand(half_width_base=1.0))
        intent = only_intent(driver.tick())
        fill = driver.fill(intent)
        driver.tick()
        driver.reverse(fill, "busted")
        commands = driver.tick()
        assert commands == [QueryOrder(intent.order_id, intent.instrument_id)]
        assert driver.engine.orders.orders[intent.order_id].unknown_why == "a fill was taken back: busted"
        driver.cancel(intent)
        assert isinstance(driver.tick()[0], SubmitOrder)

    def test_a_report_of_the_account_that_crosses_it_is_no_difference(self) -> None:
        driver = begun()
        fill = driver.fill(driver.send_transaction(-30))
        asked_ns = driver.now_ns
        driver.wait(1.0)
        driver.reverse(fill)
        position = VenuePosition(PERPETUAL.instrument_id, -30, 2000.0)
        driver.apply(AccountReport("sim", (position,), (), {}, asked_ns, driver.now_ns))
        assert driver.engine.accounts.mismatches == {}

    def test_an_order_against_a_foreign_fill_is_let_go_with_it(self) -> None:
        driver = Chain(foreign_policy="flatten", account_venues=frozenset({"sim"}))
        driver.apply(AccountReport("sim", (), (), {}, driver.now_ns, driver.now_ns))
        driver.tick()
        fill = make_fill(make_intent(-30, ""), "x1", -30, now_ns=driver.now_ns)
        driver.apply(fill)
        assert len(driver.engine.foreign.flattenings) == 1
        driver.reverse(fill)
        assert driver.engine.foreign.flattenings == ()
        assert driver.ledger()["hedged orders"] == 0


# Random fills and reversals, against a run in which only those happened that count in the end ------------------------

INSTRUMENTS = st.sampled_from([PERPETUAL, INVERSE])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(-40, 40).filter(bool)),
        st.tuples(st.just("fill"), st.integers(0, 5), st.integers(1, 40), st.sampled_from([1990.0, 2000.0, 2007.0])),
        st.tuples(st.just("fill"), st.integers(0, 5), st.integers(1, 40), st.sampled_from([1990.0, 2000.0, 2007.0])),
        st.tuples(st.just("reverse"), st.integers(0, 9)),
        st.tuples(st.just("reverse"), st.integers(0, 9)),
        st.tuples(st.just("mine again"), st.integers(0, 9)),
        st.tuples(st.just("tell again"), st.integers(0, 30)),
        st.tuples(st.just("tell again"), st.integers(0, 30)),
        st.tuples(st.just("expire"), st.integers(0, 5)),
        st.tuples(st.just("move"), st.sampled_from([1980.0, 2000.0, 2015.0])),
    ),
    min_size=12,
    max_size=40,
)


@dataclass
class Model:
    """What is true of every order and trade, kept in the plainest way."""

    ordered: dict[str, OrderIntent] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)
    valid: dict[str, Fill] = field(default_factory=dict)
    undone: dict[str, Fill] = field(default_factory=dict)
    told: list[Fill | FillReversed] = field(default_factory=list)

    def filled(self, order_id: str) -> int:
        return sum(fill.qty_lots for fill in self.valid.values() if fill.order_id == order_id)

    def left(self, order_id: str) -> int:
        return self.ordered[order_id].qty_lots - self.filled(order_id)


class Sequence(Chain):
    """Plays random steps to an engine, and keeps the model beside it."""

    def __init__(self, hedge: Hedgeable) -> None:
        super().__init__(hedge)
        self.model = Model()
        self.tick()
        for lots in (30, -25):
            self.do_send(lots)

    def play(self, name: str, *how: Any) -> None:
        self.wait(0.001)
        getattr(self, "do_" + name.replace(" ", "_"))(*how)
        self.check()

    def do_send(self, lots: int) -> None:
        if len(self.model.ordered) < 6:
            intent = self.send_transaction(lots)
            self.model.ordered[intent.order_id] = intent

    def do_fill(self, which: int, lots: int, px: float) -> None:
        open_now = [name for name in self.model.ordered if name not in self.model.over and self.model.left(name)]
        if not open_now:
            return
        name = open_now[which % len(open_now)]
        left = self.model.left(name)
        fill = self.fill(self.model.ordered[name], min(lots, abs(left)) * (1 if left > 0 else -1), px, 0.125)
        self.model.valid[fill.trade_id] = fill
        self.model.told.append(fill)

    def do_reverse(self, which: int) -> None:
        if not self.model.valid:
            return
        fill = list(self.model.valid.values())[which % len(self.model.valid)]
        event = FillReversed(fill.trade_id, fill.order_id, fill.instrument_id, "reorg", self.now_ns, self.now_ns)
        self.apply(event)
        self.model.told.append(event)
        self.model.undone[fill.trade_id] = self.model.valid.pop(fill.trade_id)
        self.model.over.discard(fill.order_id)

    def do_mine_again(self, which: int) -> None:
        fits = [
            fill
            for fill in self.model.undone.values()
            if fill.order_id not in self.model.over and abs(self.model.left(fill.order_id)) >= abs(fill.qty_lots)
        ]
        if not fits:
            return
        fill = msgspec.structs.replace(fits[which % len(fits)], ts_recv_ns=self.now_ns, ts_event_ns=self.now_ns)
        self.apply(fill)
        self.model.told.append(fill)
        del self.model.undone[fill.trade_id]
        self.model.valid[fill.trade_id] = fill

    def do_tell_again(self, which: int) -> None:
        if self.model.told:
            self.apply(self.model.told[which % len(self.model.told)])

    def do_expire(self, which: int) -> None:
        partly = [
            name
            for name in self.model.ordered
            if name not in self.model.over and self.model.left(name) and self.model.filled(name)
        ]
        if partly:
            name = partly[which % len(partly)]
            self.apply(OrderCanceled(name, True, self.now_ns, self.now_ns))
            self.model.over.add(name)

    def do_move(self, px: float) -> None:
        self.see(px)

    def check(self) -> None:
        """The ledger is the sum of what is valid, and what is in flight is what is not filled of what is not over."""
        model, engine = self.model, self.engine
        assert engine.orders.contradiction == ""
        lots = sum(fill.qty_lots for fill in model.valid.values())
        holding = engine.desks["ETH"].hedge
        assert holding.lots == lots
        pending = 0
        for name in model.ordered:
            order = engine.orders.orders[name]
            left = 0 if name in model.over else model.left(name)
            assert order.filled_lots == model.filled(name)
            assert order.remaining_lots == left
            assert (name in engine.orders.live) is bool(left)
            pending += left
        assert in_flight(engine.orders, {holding.instrument.instrument_id: 1.0}) == (pending, 0.0, 0.0)


@settings(max_examples=120, deadline=None)
@given(steps=STEPS, hedge=INSTRUMENTS)
def test_the_ledger_is_always_the_sum_of_the_fills_that_count(steps: list[tuple[Any, ...]], hedge: Hedgeable) -> None:
    driver = Sequence(hedge)
    for name, *how in steps:
        driver.play(name, *how)
    driver.see(2020.0)
    clean = begun(hedge)
    for name, intent in driver.model.ordered.items():
        clean.engine.orders.intend(intent)
        clean.apply(OrderAccepted(name, "v", clean.now_ns, clean.now_ns))
    for fill in driver.model.valid.values():
        clean.apply(fill)
    clean.see(2020.0)
    ledger, wanted = driver.ledger(), clean.ledger()
    # when a fill came decides which mid its slippage and its market move are counted from; their sum is the same
    for one in (ledger, wanted):
        one["moves"] = sum(one.pop(part) for part in ("delta", "gamma", "slippage", "unexplained"))
        if hedge is INVERSE:
            one["moves"] += one.pop("fees")  # coins paid are worth what coins are worth now
        del one["last px"]
    assert ledger == pytest.approx(wanted, abs=1e-6, rel=1e-9)
