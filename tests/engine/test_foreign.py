"""What others do on our account: every fill and order of theirs is counted, shown, and adopted or flattened."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.decisions import BotState, HedgeView
from bot.domain.events import CancelForeign, OperatorAction, SubmitOrder
from bot.domain.orders import Fill, Liquidity, TimeInForce
from bot.domain.portfolio import Greeks
from bot.domain.venues import VenueOrder
from bot.engine.book import _NO_LEGS
from bot.engine.foreign import MOST_FLATTENINGS, Flattening, flattening_target
from bot.engine.sizing import lots_to_trade
from tests.engine.builders import CALL, PERPETUAL, T0_NS, make_intent, only_intent, option
from tests.engine.test_engine import limited
from tests.engine.test_reconciliation import (
    AccountDriver,
    account,
    assert_parts_add_up,
    foreign_fill,
    hedged,
    running,
)

B = BotState
NAME = PERPETUAL.instrument_id


def theirs(lots: int = 20, name: str = NAME, order_id: str = "") -> VenueOrder:
    return VenueOrder("x7", order_id, name, lots, 1950.0)


def show_orders(driver: AccountDriver, *orders: VenueOrder) -> list[Any]:
    """Report a flat account with these open orders two seconds on; return what is decided."""
    driver.wait(2.0)
    driver.show()
    driver.report(driver.lots, orders=orders)
    return driver.decide()


def interval(driver: AccountDriver) -> tuple[float, float]:
    decision = driver.engine.desks["ETH"].decision
    assert decision is not None
    return decision.delta_low_base, decision.delta_high_base


class TestAdoptedFills:
    def test_are_booked_counted_and_wait_for_a_person(self) -> None:
        driver = running()
        driver.wait(1.0)
        fill = foreign_fill(driver, 5)
        driver.apply(fill)
        driver.tick()
        assert driver.lots == 5
        foreign = driver.engine.foreign
        assert (foreign.fill_count, list(foreign.fills)) == (1, [fill])
        assert driver.engine.state is B.REDUCE_ONLY
        assert driver.engine.state_reason == "foreign fill: +5 lots of ETH-PERPETUAL at 2000"
        driver.operate(OperatorAction.RESUME)
        driver.tick()
        assert driver.engine.state is B.RUNNING
        assert_parts_add_up(driver)

    def test_one_told_twice_is_one(self) -> None:
        driver = running()
        fill = foreign_fill(driver, 5)
        driver.apply(fill, fill)
        assert (driver.engine.foreign.fill_count, driver.lots) == (1, 5)

    def test_the_list_is_bounded_and_the_count_is_not(self) -> None:
        driver = running()
        for n in range(200):
            driver.apply(foreign_fill(driver, 1, f"f{n}"))
        assert (driver.engine.foreign.fill_count, len(driver.engine.foreign.fills)) == (200, 50)

    def test_a_halt_is_not_loosened(self) -> None:
        driver = running()
        driver.operate(OperatorAction.HALT)
        driver.apply(foreign_fill(driver, 5))
        driver.tick()
        assert driver.engine.state is B.HALTED

    def test_our_own_fills_are_not_foreign(self) -> None:
        driver = hedged()
        own = driver.engine.orders.orders.popitem()[0]  # long over, and no longer remembered
        driver.apply(Fill("late", own, NAME, 1, 2000.0, 0.0, Liquidity.TAKER, driver.now_ns, driver.now_ns))
        assert driver.engine.foreign.fill_count == 0

    @pytest.mark.parametrize("order_id", ["a1b2c3d4e5-99", "b1b2c3d4e5-1", "a1b2c3d4e5-x", "manual"])
    def test_those_of_another_run_are(self, order_id: str) -> None:
        driver = hedged()
        driver.apply(Fill("f", order_id, NAME, 1, 2000.0, 0.0, Liquidity.TAKER, driver.now_ns, driver.now_ns))
        assert driver.engine.foreign.fill_count == 1

    def test_one_on_something_else_is_counted_and_changes_nothing(self) -> None:
        driver = running()
        name = CALL.instrument_id
        driver.apply(Fill("f", "", name, 5, 0.05, 0.0, Liquidity.TAKER, driver.now_ns, driver.now_ns))
        driver.tick()
        assert driver.engine.foreign.fill_count == 1
        assert driver.engine.state is B.RUNNING
        assert driver.engine.desks["ETH"].book.options[name][1] == -1e-12


class TestFlattenedFills:
    def flattening(self, **changes: Any) -> AccountDriver:
        driver = hedged(foreign_policy="flatten", **changes)
        driver.wait(1.0)
        return driver

    def test_one_order_of_exactly_that_size_goes_out_against_each(self) -> None:
        driver = self.flattening()
        driver.apply(foreign_fill(driver, -5))
        intent = only_intent(driver.tick())
        assert (intent.qty_lots, intent.time_in_force) == (5, TimeInForce.IOC)
        assert "flattening foreign fill f1" in intent.reason
        assert intent.reduce_only, "it shrinks the position"
        driver.fill(intent)
        assert driver.lots == -90
        for _ in range(5):
            assert driver.tick() == []
        assert driver.engine.state is B.RUNNING

    def test_several_go_one_after_the_other(self) -> None:
        driver = self.flattening()
        driver.apply(foreign_fill(driver, -5, "f1"), foreign_fill(driver, -3, "f2"))
        sent = []
        for _ in range(2):
            intent = only_intent(driver.tick())
            sent.append(intent.qty_lots)
            driver.fill(intent)
        assert sent == [5, 3]
        assert driver.tick() == []
        assert driver.lots == -90

    def test_at_most_once_whatever_becomes_of_it(self) -> None:
        driver = self.flattening()
        driver.apply(foreign_fill(driver, -5))
        driver.reject(only_intent(driver.tick()))
        assert driver.tick() == [], "what is left is inside the band: the policy has no wish of its own"

    def test_the_limits_cut_it_like_any_other(self) -> None:
        driver = hedged(foreign_policy="flatten")
        driver.engine.limits._limits = limited(max_order_quote=600.0)["limits"]
        driver.apply(foreign_fill(driver, -5))
        assert only_intent(driver.tick()).qty_lots == 2

    @pytest.mark.parametrize("action", [OperatorAction.HALT, OperatorAction.PAUSE])
    def test_it_waits_until_the_bot_may_trade(self, action: OperatorAction) -> None:
        driver = self.flattening()
        driver.operate(action)
        driver.apply(foreign_fill(driver, -5))
        assert driver.tick() == []
        assert len(driver.engine.foreign.flattenings) == 1
        driver.operate(OperatorAction.RESUME)
        assert only_intent(driver.tick()).qty_lots == 5

    def test_once_the_policy_traded_on_it_there_is_nothing_left_to_flatten(self) -> None:
        driver = self.flattening()
        driver.operate(OperatorAction.REDUCE_ONLY)
        driver.apply(foreign_fill(driver, -30))
        driver.engine.desks["ETH"].book.coin_cash += 10.0
        commands = driver.tick()
        assert only_intent(commands).qty_lots < 0, "buying would not have shrunk the delta, so the policy was asked"
        assert driver.engine.foreign.flattenings == ()

    def test_what_happened_before_the_run_is_adopted(self) -> None:
        driver = account(foreign_policy="flatten")
        driver.apply(foreign_fill(driver, 5))
        driver.tick()
        for _ in range(2):
            driver.tick_and_report(5)
        assert driver.engine.state is B.REDUCE_ONLY
        driver.apply(foreign_fill(driver, 2, "older", before_s=3600.0))
        assert driver.engine.foreign.flattenings == ()

    def test_what_made_the_position_smaller_is_not_opened_again(self) -> None:
        driver = self.flattening()
        driver.apply(foreign_fill(driver, 5))
        assert driver.engine.foreign.flattenings == ()
        driver.tick()
        assert driver.engine.state is B.REDUCE_ONLY, "auto-deleveraged or not: a person looks"

    def test_more_than_can_be_is_for_a_person(self) -> None:
        driver = self.flattening()
        for n in range(MOST_FLATTENINGS + 1):
            driver.apply(foreign_fill(driver, -1, f"f{n}"))
        assert len(driver.engine.foreign.flattenings) == MOST_FLATTENINGS
        assert driver.engine.alert.startswith("foreign fill")

    @given(
        lots=st.integers(-500, 500).filter(bool),
        low_base=st.floats(-50, 50),
        width_base=st.floats(0, 20),
        lot_base=st.sampled_from((0.001, 0.1, 1.0, 7 / 2000)),
    )
    def test_its_band_is_left_by_exactly_its_lots(
        self, lots: int, low_base: float, width_base: float, lot_base: float
    ) -> None:
        high_base = low_base + width_base
        view = HedgeView(
            T0_NS, "ETH", 2000.0, 0.0, Greeks(), low_base, high_base, 0.0, 0.0, 0.0, 0.0, lot_base, 0.0, 0, 0.0,
            _NO_LEGS,
        )  # fmt: skip
        target = flattening_target(Flattening(NAME, lots, "f1"), view, lot_base)
        assert lots_to_trade(target, low_base, high_base, lot_base) == lots


class TestOrders:
    def test_adopted_it_widens_the_exposure_and_waits_for_a_person(self) -> None:
        driver = running()
        assert show_orders(driver, theirs(20)) == []
        assert interval(driver) == (pytest.approx(0.0, abs=1e-6), pytest.approx(2.0))
        assert driver.engine.state is B.REDUCE_ONLY
        assert driver.engine.state_reason == "foreign order x7: +20 lots of ETH-PERPETUAL at 1950"
        driver.operate(OperatorAction.RESUME)
        show_orders(driver, theirs(20))
        assert driver.engine.state is B.RUNNING, "acknowledged is acknowledged"
        assert interval(driver)[1] == pytest.approx(2.0)
        show_orders(driver)
        assert interval(driver)[1] == pytest.approx(0.0, abs=1e-6)
        assert (driver.engine.foreign.order_count, driver.engine.foreign.orders) == (1, {})
        show_orders(driver, theirs(20))
        assert driver.engine.state is B.REDUCE_ONLY, "gone and come again is news"

    def test_a_sale_widens_it_downwards(self) -> None:
        driver = running()
        show_orders(driver, theirs(-20))
        assert interval(driver) == (pytest.approx(-2.0), pytest.approx(0.0, abs=1e-6))

    def test_an_option_counts_with_its_delta_and_without_a_vol_with_all_it_can_be(self) -> None:
        unseen = option(3000.0, is_call=False)
        driver = running(others=(unseen,))
        show_orders(driver, theirs(10, CALL.instrument_id))
        assert 5.0 < interval(driver)[1] < 6.0
        driver.engine.market.vol[driver.engine.market.slot_of[unseen.instrument_id]] = float("nan")
        show_orders(driver, theirs(10, unseen.instrument_id))
        driver.engine.market.vol[driver.engine.market.slot_of[unseen.instrument_id]] = float("nan")
        low, high = driver.engine.foreign.open_base(driver.engine.desks["ETH"], driver.now_ns)
        assert (low, high) == (-10.0, 0.0)

    def test_flattened_it_is_canceled_once_per_report_until_it_is_gone(self) -> None:
        driver = running(foreign_policy="flatten")
        text = "foreign order x7: +20 lots of ETH-PERPETUAL"
        for _ in range(2):
            assert show_orders(driver, theirs()) == [CancelForeign("sim", "x7", NAME, text)]
            assert driver.tick() == []
        assert show_orders(driver) == []
        assert driver.engine.state is B.RUNNING

    def test_one_of_an_underlying_we_do_not_hedge_is_none_of_our_business(self) -> None:
        driver = running()
        show_orders(driver, theirs(20, "BTC-PERPETUAL"))
        assert driver.engine.foreign.orders == {}

    def test_ours_are_not_foreign_and_one_that_should_be_over_is_canceled(self) -> None:
        driver = running()
        intent = make_intent(5, "a1b2c3d4e5-99", TimeInForce.GTC, now_ns=driver.now_ns)
        driver.engine.orders.intend(intent)
        driver.accept(intent)
        own = theirs(5, order_id=intent.order_id)
        assert show_orders(driver, own) == []
        driver.reject(intent)
        driver.report(orders=(own,), asked_s=0.5)
        assert driver.engine.foreign.orders == {}, "it was still open when the venue was asked"
        commands = show_orders(driver, own)
        assert [type(command) for command in commands] == [CancelForeign]
        assert driver.engine.state is B.RUNNING

    def test_accounts_that_are_not_compared_are_left_alone(self) -> None:
        driver = account(account_venues=frozenset(), account_book=frozenset({"sim"}))
        show_orders(driver, theirs())
        assert driver.engine.foreign.orders == {}


def test_positions_that_are_no_part_of_the_vault_are_shown() -> None:
    driver = running()
    driver.wait(1.0)
    driver.report(5, name="SOL-PERPETUAL")
    assert driver.engine.foreign.unclaimed == {"sim": ("SOL-PERPETUAL",)}
    assert not [command for command in driver.tick() if isinstance(command, SubmitOrder)]
