"""What a person orders of a running bot: a target, a band, one hedge now, everything closed; never past a limit."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.decisions import BotState, Refusal
from bot.domain.events import CancelOrder, Command, Event, OperatorAction, OperatorCommand, Restarted, SubmitOrder
from bot.domain.market import ExecutionTerms, GasTier
from bot.domain.orders import OrderIntent, OrderState, OrderTruth, TimeInForce
from bot.domain.units import NS_PER_S
from bot.engine.engine import Engine
from bot.engine.operator_orders import HEDGE_NOW_NS, CommandRefusal
from bot.engine.settings import BookLeg, HedgeSettings, OperatorBounds
from strategies import DeltaBand
from tests.engine.builders import CALL, LIMITS, PERPETUAL, Driver, linear_perpetual, make_settings, only_intent
from tests.engine.option_vault import CALL as HEDGE_CALL
from tests.engine.option_vault import COIN_TICKS, OptionDriver

A = OperatorAction
B = BotState
BOUNDS = OperatorBounds(target_min_base=-5.0, target_max_base=5.0, band_min_base=0.2, band_max_base=3.0)
TINY = BookLeg(CALL, -1e-12)  # a book without a delta of its own: net delta is what the hedge and the cash make it


class OperatedDriver(Driver):
    """A vault whose delta is its coins, which the test chooses, and a person who gives orders."""

    def __init__(self, coins: float = 0.0, **changes: Any) -> None:
        super().__init__(make_settings((TINY,), **{"operator": {"ETH": BOUNDS}, **changes}))
        self.tick()
        if coins:
            self.engine.desks["ETH"].book.coin_cash = coins

    def order(self, action: OperatorAction, **arguments: Any) -> OperatorCommand:
        command = OperatorCommand(action, "ann", "because", self.now_ns, **arguments)
        self.apply(command)
        return command

    def refused(self, action: OperatorAction, **arguments: Any) -> tuple[str, str]:
        """Give an order that must be refused, before it is taken in and when it is."""
        command = OperatorCommand(action, "ann", "because", self.now_ns, **arguments)
        refused = self.engine.operator.refuse(command, self.engine.state)
        assert refused is not None
        self.apply(command)
        assert self.engine.operator.verdict_on(command) == refused
        return str(refused.refusal), refused.text

    def settle(self, intent: OrderIntent, lots: int | None = None) -> None:
        """Let the venue take an order and fill it, in part where told, which is then the end of it."""
        self.accept(intent)
        self.fill(intent, lots)
        if lots is not None:
            self.cancel(intent)

    @property
    def lots(self) -> int:
        return self.engine.desks["ETH"].hedge.lots

    @property
    def delta(self) -> float:
        return self.engine.desks["ETH"].book.net_greeks(is_coin_numeraire=False).delta_base


def terms(driver: Driver, tier: GasTier) -> ExecutionTerms:
    """Return what a transaction takes now, in a pool that is deep enough for anything."""
    now = (driver.now_ns, driver.now_ns)
    return ExecutionTerms(PERPETUAL.instrument_id, (tier,), 0.0, inf, 12 * NS_PER_S, *now, driver.now_ns)


class TestTarget:
    def test_is_kept_instead_of_the_files_until_given_back(self) -> None:
        driver = OperatedDriver()
        driver.order(A.SET_TARGET, target_base=4.0)
        assert driver.engine.overrides == {"ETH target": "+4.000 by ann"}
        intent = only_intent(driver.tick())
        assert intent.qty_lots == 30, "to the near edge of ±1 around +4"
        driver.settle(intent)
        decision = driver.engine.desks["ETH"].decision
        assert decision is not None
        assert decision.target_delta_base == 4.0
        driver.order(A.SET_TARGET)
        assert driver.engine.overrides == {}
        assert only_intent(driver.tick()).qty_lots == -20

    def test_a_restart_does_not_end_it(self) -> None:
        driver = OperatedDriver()
        driver.order(A.SET_TARGET, underlying="ETH", target_base=-2.0)
        driver.apply(Restarted(driver.now_ns))
        assert driver.tick() == []
        assert only_intent(driver.tick()).qty_lots == -10

    @pytest.mark.parametrize("target_base", [-5.001, 5.001, 1e300])
    def test_out_of_bounds_is_refused_and_the_bound_named(self, target_base: float) -> None:
        driver = OperatedDriver()
        refusal, text = driver.refused(A.SET_TARGET, target_base=target_base)
        assert refusal == "out_of_bounds"
        assert "-5 to 5, as operator.ETH.target_min_base and operator.ETH.target_max_base allow" in text
        assert driver.engine.overrides == {}
        assert driver.tick() == []

    def test_without_bounds_nothing_may_be_set_and_the_hint_names_the_key(self) -> None:
        driver = OperatedDriver(operator={})
        for action, arguments in ((A.SET_TARGET, {"target_base": 0.0}), (A.SET_BAND, {"low_base": -1, "high_base": 1})):
            refusal, text = driver.refused(action, **arguments)
            assert refusal == "not_allowed"
            assert f"hint: operator.ETH.{str(action)[4:]}_min_base" in text


class TestBand:
    def test_stands_around_the_target_instead_of_the_policys(self) -> None:
        driver = OperatedDriver(coins=1.6)
        driver.order(A.SET_TARGET, target_base=1.0)
        assert driver.tick() == [], "within ±1"
        driver.order(A.SET_BAND, low_base=-0.5, high_base=0.3)
        assert driver.engine.overrides["ETH band"] == "-0.500 to +0.300 around its target by ann"
        intent = only_intent(driver.tick())
        assert intent.qty_lots == -3, "from 1.6 to the edge at 1.3"
        assert "band -0.5 to +0.3 around +1 by ann" in intent.reason
        driver.settle(intent)
        driver.order(A.SET_BAND)
        assert list(driver.engine.overrides) == ["ETH target"]

    def test_where_the_policy_trades_to_the_centre_so_does_it(self) -> None:
        driver = OperatedDriver(coins=0.8, policy=DeltaBand(half_width_base=1.0, trade_to="centre"))
        driver.order(A.SET_BAND, low_base=-0.5, high_base=0.5)
        assert only_intent(driver.tick()).qty_lots == -8

    @pytest.mark.parametrize(
        ("low_base", "high_base", "refusal"),
        [
            (1.0, 2.0, "bad_arguments"),
            (1.0, -1.0, "bad_arguments"),
            (0.0, 0.0, "bad_arguments"),
            (-0.1, 1.0, "out_of_bounds"),
            (-1.0, 3.1, "out_of_bounds"),
            (nan, 1.0, "bad_arguments"),
            (-1.0, inf, "bad_arguments"),
            (-1.0, None, "bad_arguments"),
        ],
    )
    def test_one_that_is_none_is_refused(self, low_base: float, high_base: float | None, refusal: str) -> None:
        driver = OperatedDriver()
        assert driver.refused(A.SET_BAND, low_base=low_base, high_base=high_base)[0] == refusal
        assert driver.engine.overrides == {}

    def test_other_bounds_give_back_what_lies_outside_of_them(self) -> None:
        driver = OperatedDriver()
        driver.order(A.SET_TARGET, target_base=4.0)
        driver.order(A.SET_BAND, low_base=-0.5, high_base=0.5)
        narrower = msgspec.structs.replace(BOUNDS, target_max_base=3.0)
        driver.engine.operator.adopt({"ETH": narrower}, driver.now_ns)
        assert list(driver.engine.overrides) == ["ETH band"]
        driver.engine.operator.adopt({}, driver.now_ns)
        assert driver.engine.overrides == {}
        assert [text.split(":")[0] for _, text in driver.engine.operator.notes] == [
            "ETH target given back to the file",
            "ETH band given back to the policy",
        ]


class TestHedgeNow:
    def test_trades_to_the_target_once_though_net_delta_is_inside_its_band(self) -> None:
        driver = OperatedDriver(coins=0.7)
        assert driver.tick() == []
        driver.order(A.HEDGE_NOW)
        intent = only_intent(driver.tick())
        assert intent.qty_lots == -7
        assert "hedge now by ann: because" in intent.reason
        assert "ETH hedge now" in driver.engine.overrides
        assert driver.tick() == [], "it is under way"
        driver.settle(intent)
        assert driver.tick() == []
        assert driver.engine.overrides == {}
        assert driver.engine.operator.notes[-1][1] == "hedge now of ETH by ann: done"
        driver.engine.desks["ETH"].book.coin_cash = 1.2
        assert driver.tick() == [], "once: +0.5 is inside the band again"

    def test_what_came_back_in_part_is_ordered_again(self) -> None:
        driver = OperatedDriver(coins=0.7)
        driver.order(A.HEDGE_NOW)
        driver.settle(only_intent(driver.tick()), lots=-3)
        intent = only_intent(driver.tick())
        assert intent.qty_lots == -4
        driver.settle(intent)
        driver.tick()
        assert driver.engine.overrides == {}

    def test_what_a_limit_cuts_goes_on_until_the_target(self) -> None:
        driver = OperatedDriver(coins=0.9, limits=msgspec.structs.replace(LIMITS, max_order_quote=1_000.0))
        driver.order(A.HEDGE_NOW)
        sizes = []
        for _ in range(2):
            intent = only_intent(driver.tick())
            sizes.append(intent.qty_lots)
            driver.settle(intent)
        assert driver.tick() == []
        assert sizes == [-5, -4], "1,000 is five lots"
        assert driver.engine.overrides == {}

    def test_with_nothing_to_trade_it_is_done(self) -> None:
        driver = OperatedDriver(coins=0.04)
        driver.order(A.HEDGE_NOW, underlying="ETH")
        assert driver.tick() == []
        assert driver.engine.operator.notes[-1][1] == "hedge now of ETH by ann: nothing to trade"

    def test_it_crosses_where_hedges_rest(self) -> None:
        hedge = HedgeSettings(instrument=PERPETUAL, maker_bps=0.0, taker_bps=5.0, style="maker")
        driver = OperatedDriver(coins=0.7, hedge=hedge)
        driver.order(A.HEDGE_NOW)
        assert only_intent(driver.tick()).time_in_force is TimeInForce.IOC

    def test_a_gate_that_stays_closed_ends_it_in_bounded_time(self) -> None:
        driver = OperatedDriver(coins=0.7)
        driver.wait(61.0)  # no quote any more
        driver.order(A.HEDGE_NOW)
        for _ in range(4):
            driver.wait(HEDGE_NOW_NS / 3e9)
            driver.apply(driver.index(2000.0), driver.vol(CALL, 0.6, 2000.0))
            assert driver.decide() == []
        assert driver.engine.overrides == {}
        told = driver.engine.operator.notes[-1][1]
        assert told.startswith("hedge now of ETH by ann: given up after 60 s: stale_hedge_quote")
        assert driver.tick() == []

    @pytest.mark.parametrize("action", [A.HALT, A.PAUSE])
    def test_it_is_refused_and_dropped_where_nothing_may_be_traded(self, action: OperatorAction) -> None:
        driver = OperatedDriver(coins=0.7)
        driver.order(A.HEDGE_NOW)
        driver.order(action)
        assert driver.tick() == []
        assert driver.engine.overrides == {}
        assert "dropped" in driver.engine.operator.notes[-1][1]
        assert driver.refused(A.HEDGE_NOW)[0] == "not_now"
        driver.order(A.RESUME)
        assert driver.tick() == []

    def test_where_only_shrinking_is_allowed_it_shrinks(self) -> None:
        driver = OperatedDriver(coins=0.7)
        driver.order(A.REDUCE_ONLY)
        driver.order(A.HEDGE_NOW)
        assert only_intent(driver.tick()).qty_lots == -7

    def test_while_an_outcome_is_unknown_only_what_is_right_either_way_is_traded(self) -> None:
        driver = OperatedDriver(coins=2.0)
        lost = only_intent(driver.tick())
        assert lost.qty_lots == -10
        driver.order(A.HEDGE_NOW)
        sent = [one.intent for one in driver.tick(after_s=30.0) if isinstance(one, SubmitOrder)]
        assert [one.qty_lots for one in sent] == [-10]
        driver.settle(sent[0])
        driver.tick()
        assert driver.engine.overrides, "it may be one coin from its target still"
        driver.apply(OrderTruth(lost.order_id, OrderState.REJECTED, (), driver.now_ns, driver.now_ns))
        rest = only_intent(driver.tick())
        assert rest.qty_lots == -10
        driver.settle(rest)
        driver.tick()
        assert driver.engine.overrides == {}


class TestFlatten:
    def hedged(self, **changes: Any) -> OperatedDriver:
        """A vault that is short 90 lots against ten coins."""
        driver = OperatedDriver(coins=10.0, **changes)
        driver.engine.desks["ETH"].hedge.trade_lots(-90, 2000.0)
        return driver

    def test_closes_the_hedge_and_stays_paused(self) -> None:
        driver = self.hedged()
        driver.order(A.FLATTEN)
        intent = only_intent(driver.tick())
        assert (intent.qty_lots, intent.reduce_only, intent.time_in_force) == (90, True, TimeInForce.IOC)
        assert intent.reason.startswith("flattening by ann: because")
        assert driver.engine.state is B.PAUSED
        driver.settle(intent)
        for _ in range(5):
            assert driver.tick() == [], "the book is left as it is"
        assert driver.lots == 0
        assert (driver.engine.state, driver.engine.state_reason) == (B.PAUSED, "flattened by ann: because")
        driver.order(A.RESUME)
        assert only_intent(driver.tick()).qty_lots == -90
        assert driver.engine.overrides == {}

    def test_goes_in_slices_within_the_limits_one_at_a_time(self) -> None:
        driver = self.hedged(limits=msgspec.structs.replace(LIMITS, max_order_quote=5_000.0))
        driver.order(A.FLATTEN)
        sizes = []
        for _ in range(10):
            for command in driver.tick():
                assert isinstance(command, SubmitOrder)
                assert driver.tick() == [], "one at a time"
                sizes.append(command.intent.qty_lots)
                driver.settle(command.intent)
        assert sizes == [24, 24, 24, 18], "at 2,000.05 a lot 5,000 are not quite 25"
        assert driver.engine.state_reason == "flattened by ann: because"

    def test_leaves_no_rest_that_is_too_small_to_be_closed(self) -> None:
        coarse = linear_perpetual(min_lots=20)
        driver = self.hedged(hedge=coarse, limits=msgspec.structs.replace(LIMITS, max_order_base=8.0))
        driver.order(A.FLATTEN)
        first = only_intent(driver.tick())
        assert first.qty_lots == 70, "80 would leave ten, and the venue takes no order below twenty"
        driver.settle(first)
        assert only_intent(driver.tick()).qty_lots == 20

    def test_what_the_venue_takes_no_order_of_is_left_and_said(self) -> None:
        driver = self.hedged(hedge=linear_perpetual(min_lots=100))
        driver.order(A.FLATTEN)
        assert driver.tick() == []
        assert driver.engine.state_reason == (
            "flattened by ann: because; ETH-PERPETUAL: -90 lots: below_minimum: 90 lots, the venue's minimum is 100"
        )

    def test_what_our_own_limits_keep_from_being_closed_is_not_done(self) -> None:
        limits = msgspec.structs.replace(LIMITS, max_order_base=1.0)
        driver = self.hedged(hedge=linear_perpetual(min_lots=20), limits=limits)
        driver.order(A.FLATTEN)
        assert driver.tick() == []
        assert driver.engine.state_reason.startswith("flattening by ann: because; ETH-PERPETUAL: -90 lots: below_min")

    def test_where_a_trade_is_a_transaction_it_is_one(self) -> None:
        hedge = HedgeSettings(instrument=PERPETUAL, maker_bps=0.0, taker_bps=5.0, needs_terms=True)
        driver = self.hedged(hedge=hedge)
        driver.order(A.FLATTEN)
        assert driver.tick() == []
        assert "no terms of trading ETH-PERPETUAL" in driver.engine.state_reason
        tier = GasTier(10**9, 10**7, 0.5, 6.0, 12.0)
        driver.wait(1.0)
        driver.show()
        driver.apply(terms(driver, tier))
        intent = only_intent(driver.decide())
        assert (intent.qty_lots, intent.reduce_only) == (90, True)
        assert intent.gas is not None
        driver.accept(intent)
        driver.show()
        assert driver.tick() == [], "it waits for its block, and is not canceled"
        driver.fill(intent)
        driver.tick()
        assert driver.engine.state_reason == "flattened by ann: because"

    def test_waits_for_the_order_rate(self) -> None:
        limits = msgspec.structs.replace(LIMITS, max_orders_per_min=2, max_order_base=2.0)
        driver = self.hedged(limits=limits)
        driver.order(A.FLATTEN)
        sent, told = [], set()
        for _ in range(150):
            for command in driver.tick():
                assert isinstance(command, SubmitOrder)
                sent.append(command.intent.decided_ns)
                driver.settle(command.intent)
            told.add(driver.engine.state_reason)
        assert any("-50 lots: order_rate: 2 orders in the last minute" in one for one in told)
        assert [round((ns - sent[0]) / 1e9) for ns in sent] == [0, 1, 60, 61, 120]
        assert driver.engine.state_reason == "flattened by ann: because"

    def test_survives_a_restart_in_the_middle(self) -> None:
        driver = self.hedged(limits=msgspec.structs.replace(LIMITS, max_order_quote=10_000.0))
        driver.order(A.FLATTEN)
        first = only_intent(driver.tick())
        driver.apply(Restarted(driver.now_ns))
        driver.show()
        assert not [one for one in driver.decide() if isinstance(one, SubmitOrder)]
        assert not [one for one in driver.tick() if isinstance(one, SubmitOrder)], "nobody knows of the first yet"
        assert driver.engine.state is B.PAUSED
        driver.apply(OrderTruth(first.order_id, OrderState.REJECTED, (), driver.now_ns, driver.now_ns))
        again = only_intent(driver.tick())
        assert (first.qty_lots, again.qty_lots) == (49, 49)
        driver.settle(again)
        driver.settle(only_intent(driver.tick()))
        driver.tick()
        assert driver.engine.state_reason == "flattened by ann: because"

    def test_a_halt_stops_it_and_a_resume_ends_it(self) -> None:
        driver = self.hedged(limits=msgspec.structs.replace(LIMITS, max_order_quote=10_000.0))
        driver.order(A.FLATTEN)
        driver.settle(only_intent(driver.tick()))
        driver.order(A.HALT)
        for _ in range(3):
            assert driver.tick() == []
        assert driver.engine.state is B.HALTED
        assert driver.refused(A.FLATTEN)[0] == "not_now"
        driver.order(A.RESUME)
        assert only_intent(driver.tick()).qty_lots == -49, "hedging again"

    @pytest.mark.parametrize("action", [A.PAUSE, A.REDUCE_ONLY])
    def test_it_may_be_ordered_of_a_bot_that_is_paused_or_reduces(self, action: OperatorAction) -> None:
        driver = self.hedged()
        driver.order(action)
        driver.order(A.FLATTEN)
        assert only_intent(driver.tick()).qty_lots == 90
        driver.order(A.PAUSE)
        assert driver.tick() == [], "a pause neither ends it nor takes its order back"

    def test_what_rests_is_canceled_before(self) -> None:
        hedge = HedgeSettings(instrument=PERPETUAL, maker_bps=0.0, taker_bps=5.0, style="maker")
        driver = OperatedDriver(coins=10.0, hedge=hedge)
        resting = only_intent(driver.tick())
        driver.accept(resting)
        driver.fill(resting, -40)
        driver.order(A.FLATTEN)
        assert [type(one) for one in driver.tick()] == [CancelOrder]
        assert driver.tick() == [], "until the venue says that it is gone"
        driver.cancel(resting, is_expired=False)
        assert only_intent(driver.tick()).qty_lots == 40

    def test_a_book_that_cannot_be_valued_keeps_no_hedge_open(self) -> None:
        driver = self.hedged()
        driver.wait(700.0)
        driver.order(A.FLATTEN)
        driver.apply(driver.index(2000.0), driver.quote(PERPETUAL, 2000.0))  # and no vol of the call
        assert only_intent(driver.decide()).qty_lots == 90
        decision = driver.engine.desks["ETH"].decision
        assert decision is not None
        assert decision.refusal in (Refusal.NO_VOL, Refusal.STALE_FORWARD)

    def test_a_stale_quote_does(self) -> None:
        driver = self.hedged()
        driver.wait(100.0)
        driver.order(A.FLATTEN)
        driver.apply(driver.index(2000.0), driver.vol(CALL, 0.6, 2000.0))
        assert driver.decide() == []
        assert "stale_hedge_quote" in driver.engine.state_reason
        assert only_intent(driver.tick()).qty_lots == 90

    def test_every_instrument_is_closed_where_it_is_held(self) -> None:
        other = msgspec.structs.replace(PERPETUAL, instrument_id="ETH-OTHER", venue="other")
        hedges = tuple(HedgeSettings(instrument=one, maker_bps=0.0, taker_bps=5.0) for one in (PERPETUAL, other))
        driver = OperatedDriver(hedges={"ETH": hedges})
        for name, lots in ((PERPETUAL.instrument_id, 30), ("ETH-OTHER", -25)):
            driver.engine.desks["ETH"].holdings[name].trade_lots(lots, 2000.0)
        driver.order(A.FLATTEN)
        commands = driver.tick()
        sent = {one.intent.instrument_id: one.intent.qty_lots for one in commands if isinstance(one, SubmitOrder)}
        assert sent == {PERPETUAL.instrument_id: -30, "ETH-OTHER": 25}

    def test_option_hedges_are_closed_too(self) -> None:
        driver = OptionDriver({HEDGE_CALL.instrument_id: 6.0})
        driver.buy()
        assert driver.held().qty == 6.0
        driver.operate(A.FLATTEN)
        intent = only_intent(driver.tick())
        assert (intent.instrument_id, intent.qty_lots, intent.reduce_only) == (HEDGE_CALL.instrument_id, -6, True)
        driver.accept(intent)
        driver.fill(intent, px=intent.limit_ticks * COIN_TICKS.tick_px)
        for _ in range(15):
            assert driver.tick() == [], "the policy asks for the option, and gets none"
        assert driver.engine.state_reason == "flattened by someone: because"

    def test_with_nothing_held_it_is_done_at_once(self) -> None:
        driver = OperatedDriver()
        driver.order(A.FLATTEN)
        assert driver.tick() == []
        assert driver.engine.state_reason == "flattened by ann: because"

    def test_orders_rejected_in_a_row_halt_it(self) -> None:
        driver = self.hedged(limits=msgspec.structs.replace(LIMITS, max_reject_streak=3))
        driver.order(A.FLATTEN)
        for _ in range(3):
            driver.reject(only_intent(driver.tick()))
        assert driver.tick() == []
        assert driver.engine.state is B.HALTED


class TestShape:
    @pytest.mark.parametrize(
        ("action", "arguments", "refusal"),
        [
            (A.SET_TARGET, {"underlying": "DOGE", "target_base": 1.0}, "unknown_underlying"),
            (A.HEDGE_NOW, {"underlying": "eth"}, "unknown_underlying"),
            (A.SET_TARGET, {"target_base": nan}, "bad_arguments"),
            (A.SET_TARGET, {"target_base": 1.0, "low_base": -1.0}, "bad_arguments"),
            (A.HEDGE_NOW, {"target_base": 1.0}, "bad_arguments"),
            (A.FLATTEN, {"underlying": "ETH"}, "bad_arguments"),
            (A.RESUME, {"underlying": "ETH"}, "bad_arguments"),
        ],
    )
    def test_a_command_of_the_wrong_shape_is_refused(
        self, action: OperatorAction, arguments: dict[str, Any], refusal: str
    ) -> None:
        driver = OperatedDriver(coins=0.7)
        assert driver.refused(action, **arguments)[0] == refusal
        assert driver.tick() == []
        assert (driver.engine.state, driver.engine.overrides) == (B.RUNNING, {})

    @pytest.mark.parametrize("action", [A.HALT, A.PAUSE, A.REDUCE_ONLY])
    def test_what_makes_the_bot_stricter_is_never_refused(self, action: OperatorAction) -> None:
        driver = OperatedDriver()
        driver.order(action, underlying="DOGE", target_base=nan)
        assert driver.engine.state.value == str(action).replace("halt", "halted").replace("pause", "paused")

    def test_of_several_underlyings_one_has_to_be_named_to_be_set(self) -> None:
        hedges = {
            base: (HedgeSettings(instrument=linear_perpetual(base), maker_bps=0.0, taker_bps=5.0),)
            for base in ("BTC", "ETH")
        }
        driver = OperatedDriver(hedges=hedges, operator={"ETH": BOUNDS, "BTC": BOUNDS})
        assert driver.refused(A.SET_TARGET, target_base=1.0)[0] == CommandRefusal.BAD_ARGUMENTS
        driver.order(A.SET_TARGET, underlying="BTC", target_base=1.0)
        driver.order(A.SET_TARGET)
        assert driver.engine.overrides == {}, "what is given back may be all"
        driver.order(A.HEDGE_NOW)
        assert list(driver.engine.overrides) == ["BTC hedge now", "ETH hedge now"]


ORDERS = st.one_of(
    st.tuples(st.sampled_from([A.HALT, A.PAUSE, A.REDUCE_ONLY, A.RESUME, A.RESUME, A.FLATTEN, A.HEDGE_NOW])),
    st.tuples(st.just(A.SET_TARGET), st.sampled_from([-9.0, -5.0, -1.3, 0.0, 2.7, 5.0, nan, None])),
    st.tuples(
        st.just(A.SET_BAND),
        st.sampled_from([-3.0, -0.5, -0.2, 0.1, None]),
        st.sampled_from([3.0, 0.6, 0.2, -0.1, inf, None]),
    ),
)
STEPS = st.lists(
    st.one_of(
        ORDERS,
        st.tuples(st.just("tick"), st.sampled_from([0.0, 1e-4, -2e-3, 0.01]), st.sampled_from([0.3, 1.0, 20.0])),
        st.tuples(st.just("tick"), st.just(0.0), st.just(1.0)),
        st.tuples(st.just("answer"), st.sampled_from(["fill", "fill", "part", "reject", "lose"])),
        st.tuples(st.just("answer"), st.just("fill")),
        st.tuples(st.just("coins"), st.sampled_from([-6.0, -0.7, 0.0, 0.8, 4.0])),
        st.tuples(st.just("restart")),
    ),
    max_size=60,
)
MAX_ORDER_QUOTE, MAX_PER_MIN, MAX_EXPOSURE_QUOTE = 4_000.0, 8, 15_000.0


class _Operated(OperatedDriver):
    """Does what hypothesis chooses, keeps what the engine was told, and judges every order as it leaves."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.waiting: list[OrderIntent] = []
        self.sent_ns: list[int] = []
        limits = msgspec.structs.replace(
            LIMITS, max_order_quote=MAX_ORDER_QUOTE, max_orders_per_min=MAX_PER_MIN, max_reject_streak=4
        )
        super().__init__(limits=limits, venue_limits={"sim": MAX_EXPOSURE_QUOTE})

    def apply(self, *events: Event) -> None:
        self.log += events
        super().apply(*events)

    def decide(self) -> list[Command]:
        commands = super().decide()
        self.log.append((self.now_ns, list(commands)))
        for command in commands:
            if isinstance(command, SubmitOrder):
                self.judge(command.intent)
                self.waiting.append(command.intent)
        return commands

    def judge(self, intent: OrderIntent) -> None:
        engine = self.engine
        assert engine.state in (B.RUNNING, B.REDUCE_ONLY) or (engine.state is B.PAUSED and intent.reduce_only)
        self.sent_ns = [one for one in self.sent_ns if self.now_ns - one < 60e9] + [self.now_ns]
        assert len(self.sent_ns) <= MAX_PER_MIN
        lot_quote = 0.1 * engine.desks["ETH"].hedge.mark_px
        assert abs(intent.qty_lots) * lot_quote <= MAX_ORDER_QUOTE * 1.001
        side = 1 if intent.qty_lots > 0 else -1
        under_way = sum(o.remaining_lots for o in engine.orders.live.values() if o.remaining_lots * side > 0)
        reached = self.lots + under_way
        if not intent.reduce_only:
            assert abs(reached) * lot_quote <= MAX_EXPOSURE_QUOTE * 1.001
        else:
            assert abs(reached) <= abs(self.lots), "it reduces, whatever fills"

    def answer(self, fate: str) -> None:
        if not self.waiting:
            return
        intent = self.waiting.pop(0)
        order = self.engine.orders.orders[intent.order_id]
        if fate == "lose" or order.state.is_terminal:
            return
        if fate == "reject":
            truth = OrderTruth(intent.order_id, OrderState.REJECTED, (), self.now_ns, self.now_ns)
            self.reject(intent) if order.state is not OrderState.UNKNOWN else self.apply(truth)
        elif fate == "part" and abs(intent.qty_lots) > 1:
            self.settle(intent, intent.qty_lots // 2 or 1 if intent.qty_lots > 0 else -(-intent.qty_lots // 2))
        else:
            self.settle(intent)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_no_order_of_a_persons_goes_past_a_limit_and_a_replay_decides_the_same(steps: list[tuple[Any, ...]]) -> None:
    driver = _Operated()
    px = 2000.0
    for step in steps:
        if step[0] == "tick":
            px *= 1.0 + step[1]
            driver.tick(px, after_s=step[2])
        elif step[0] == "answer":
            driver.answer(step[1])
        elif step[0] == "coins":
            driver.engine.desks["ETH"].book.coin_cash = step[1]
            driver.log.append(step[1])
        elif step[0] == "restart":
            driver.apply(Restarted(driver.now_ns))
        else:
            names = {A.SET_TARGET: ("target_base",), A.SET_BAND: ("low_base", "high_base")}.get(step[0], ())
            driver.order(step[0], **dict(zip(names, step[1:], strict=True)))
    again = Engine(driver.engine.settings)
    for entry in driver.log:
        if isinstance(entry, tuple):
            assert again.decide(entry[0]) == entry[1]
        elif isinstance(entry, float):
            again.desks["ETH"].book.coin_cash = entry
        else:
            again.apply(msgspec.msgpack.decode(msgspec.msgpack.encode(entry), type=Event))
    assert (again.state, again.state_reason, again.overrides) == (
        driver.engine.state,
        driver.engine.state_reason,
        driver.engine.overrides,
    )
