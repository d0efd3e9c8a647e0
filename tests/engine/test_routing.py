"""Where a hedge goes: the most preferred instrument that can take it, and never more at a venue than may be there."""

from __future__ import annotations

from math import inf
from typing import Any

import msgspec
import pytest

from bot.domain.decisions import BotState, Refusal
from bot.domain.events import OperatorAction, QueryOrder, SubmitOrder
from bot.domain.instruments import Hedgeable
from bot.domain.orders import OrderIntent, OrderState, OrderTruth, OutcomeLost
from bot.domain.units import NS_PER_S
from bot.domain.venues import InstrumentDelisted, VenueHealth, VenueStatus
from bot.engine.book import Holding
from bot.engine.orders import OrderTracker
from bot.engine.routing import (
    LOSING_FOR_NS,
    REFUSING_FOR_NS,
    Blocked,
    Span,
    VenueBoard,
    age_text,
    explain_blocks,
    find_losing,
    find_refusing,
    in_flight,
    lot_quote,
    room_lots,
    span_of,
)
from bot.engine.settings import BookLeg, HedgeSettings
from tests.engine.builders import (
    CALL,
    INVERSE,
    LIMITS,
    PERPETUAL,
    T0_NS,
    Driver,
    linear_perpetual,
    make_intent,
    make_settings,
    only_intent,
)

R = Refusal
FIRST = msgspec.structs.replace(linear_perpetual(), instrument_id="ETH-FIRST", venue="first")
SECOND = msgspec.structs.replace(linear_perpetual(), instrument_id="ETH-SECOND", venue="second")
COARSE = msgspec.structs.replace(linear_perpetual(lot_base=1.0), instrument_id="ETH-COARSE", venue="second")
UP, DOWN, FATAL = VenueHealth.UP, VenueHealth.DOWN, VenueHealth.FATAL


def driver_of(*instruments: Hedgeable, coins: float = 10.0, **changes: Any) -> Driver:
    """Return a driver of plain coins, whose delta is known to the last digit, hedged by the first that can be."""
    hedges = tuple(
        HedgeSettings(instrument=one, maker_bps=0.0, taker_bps=5.0) for one in instruments or (FIRST, SECOND)
    )
    settings = {"routing": "preference", **changes}
    return Driver(make_settings((BookLeg(CALL, -1e-12),), hedges={"ETH": hedges}, cash={"ETH": coins}, **settings))


def tell(driver: Driver, venue: str, health: VenueHealth, reason: str = "no heartbeat") -> None:
    driver.apply(VenueStatus(venue, health, reason, driver.now_ns))


def refusal_of(driver: Driver) -> tuple[Refusal | None, str]:
    decision = driver.engine.desks["ETH"].decision
    assert decision is not None
    return decision.refusal, decision.refusal_detail


def submitted(commands: list[Any]) -> list[OrderIntent]:
    return [command.intent for command in commands if isinstance(command, SubmitOrder)]


class TestVenueBoard:
    def test_a_venue_never_heard_of_is_up(self) -> None:
        board = VenueBoard()
        assert board.health_of("first") is UP
        assert board.find_block(FIRST) is None

    def test_the_newest_word_counts(self) -> None:
        board = VenueBoard()
        board.apply_status(VenueStatus("first", DOWN, "closed", T0_NS))
        assert board.find_block(FIRST) == Blocked("ETH-FIRST", R.VENUE_DOWN, "first is down: closed")
        assert board.find_block(SECOND) is None
        board.apply_status(VenueStatus("first", FATAL, "bad key", T0_NS))
        assert board.find_block(FIRST) == Blocked("ETH-FIRST", R.VENUE_FATAL, "first is fatal: bad key")
        board.apply_status(VenueStatus("first", UP, "", T0_NS))
        assert board.find_block(FIRST) is None

    def test_what_was_delisted_stays_so(self) -> None:
        board = VenueBoard()
        board.apply_delisting(InstrumentDelisted("ETH-FIRST", "contract size changed", T0_NS))
        assert board.is_delisted("ETH-FIRST")
        assert board.find_block(FIRST) == Blocked("ETH-FIRST", R.DELISTED, "ETH-FIRST: contract size changed")

    def test_only_when_the_last_listed_venue_is_fatal_a_person_is_needed(self) -> None:
        board = VenueBoard()
        board.apply_status(VenueStatus("first", FATAL, "bad key", T0_NS))
        assert board.find_fatal([FIRST, SECOND]) is None
        board.apply_delisting(InstrumentDelisted("ETH-SECOND", "gone", T0_NS))
        assert board.find_fatal([FIRST, SECOND]) == "first: bad key"
        board.apply_delisting(InstrumentDelisted("ETH-FIRST", "gone", T0_NS))
        assert board.find_fatal([FIRST, SECOND]) is None, "nothing is listed, so no venue is to be mended"


class TestArithmetic:
    def tracker(self, *lots: int, instrument: Hedgeable = FIRST) -> OrderTracker:
        tracker = OrderTracker()
        for n, one in enumerate(lots):
            tracker.intend(make_intent(one, f"r-{instrument.instrument_id}-{n}", instrument=instrument))
        return tracker

    def holding(self, instrument: Hedgeable = FIRST, lots: int = 0, mark_px: float = 2000.0) -> Holding:
        holding = Holding(instrument)
        holding.lots, holding.mark_px = lots, mark_px
        return holding

    def test_a_position_may_become_anything_between_its_orders(self) -> None:
        assert span_of(self.holding(lots=5), self.tracker(10, -4, -3)) == Span(-2, 15)

    def test_room_is_what_the_limit_leaves_on_each_side(self) -> None:
        holding, orders = self.holding(lots=5), self.tracker(10)
        assert room_lots(holding, 1, [holding], orders, {"first": 4000.0}) == 20 - 15
        assert room_lots(holding, -1, [holding], orders, {"first": 4000.0}) == 20 + 5, "reducing is room too"
        assert room_lots(holding, 1, [holding], orders, {}) == inf
        assert room_lots(holding, 1, [holding], orders, {"first": 1000.0}) < 0

    def test_every_hedge_of_the_venue_takes_room_and_no_other(self) -> None:
        mine, other, elsewhere = self.holding(), self.holding(INVERSE, -30), self.holding(SECOND, 1000)
        other.instrument = msgspec.structs.replace(INVERSE, venue="first")
        assert room_lots(mine, 1, [mine, other, elsewhere], self.tracker(), {"first": 4000.0}) == (4000 - 300) // 200

    def test_beyond_the_limit_what_is_held_may_shrink_to_nothing_and_not_turn(self) -> None:
        holding, orders = self.holding(lots=5), self.tracker()
        assert room_lots(holding, -1, [holding], orders, {"first": -9000.0}) == 5
        assert room_lots(holding, 1, [holding], orders, {"first": -9000.0}) == -5

    def test_an_inverse_lot_is_worth_its_contract(self) -> None:
        assert lot_quote(self.holding(INVERSE, mark_px=0.0)) == 10.0
        assert lot_quote(self.holding(FIRST, mark_px=1500.0)) == pytest.approx(150.0)

    def test_in_flight_counts_over_all_instruments_and_doubt_is_an_interval(self) -> None:
        tracker = self.tracker(10, -20)
        tracker.intend(make_intent(-3, "s", instrument=SECOND))
        unknown, canceling = tracker.orders["r-ETH-FIRST-1"], tracker.orders["r-ETH-FIRST-0"]
        lot_base_of = {"ETH-FIRST": 0.1, "ETH-SECOND": 1.0}
        assert in_flight(tracker, lot_base_of) == (pytest.approx(-1.0 - 3.0), 0.0, 0.0)
        unknown.state = OrderState.UNKNOWN
        assert in_flight(tracker, lot_base_of) == (pytest.approx(1.0 - 3.0), pytest.approx(-2.0), 0.0)
        canceling.state = OrderState.CANCELING
        assert in_flight(tracker, lot_base_of) == (-3.0, pytest.approx(-2.0), pytest.approx(1.0))

    def test_blocks_are_explained_by_the_most_preferred_one(self) -> None:
        first, second = Blocked("A", R.VENUE_DOWN, "a is down: x"), Blocked("B", R.DELISTED, "B: gone")
        assert explain_blocks([first]) == (R.VENUE_DOWN, "a is down: x")
        assert explain_blocks([first, second]) == (R.VENUE_DOWN, "A: venue_down, a is down: x; B: delisted, B: gone")

    def test_ages_are_told_in_seconds(self) -> None:
        assert age_text("quote", 61 * NS_PER_S, 60 * NS_PER_S) == "quote is 61 s old, limit 60 s"

    def test_rejects_in_a_row_block_for_five_minutes(self) -> None:
        driver = driver_of()
        for _ in range(2):
            driver.reject(only_intent(driver.tick()))
        orders, now_ns = driver.engine.orders, driver.now_ns
        assert find_refusing(orders, FIRST, 3, now_ns) is None
        assert find_refusing(orders, FIRST, 2, now_ns) == Blocked(
            "ETH-FIRST", R.VENUE_REFUSING, "first: 2 orders rejected in a row, limit 2"
        )
        assert find_refusing(orders, FIRST, 2, now_ns + REFUSING_FOR_NS) is None

    def test_an_order_that_never_arrived_puts_its_instrument_last_for_a_while(self) -> None:
        driver = driver_of()
        lose(driver, only_intent(driver.tick()))
        orders, now_ns = driver.engine.orders, driver.now_ns
        why = "first: the last order never arrived"
        assert find_losing(orders, FIRST, now_ns) == Blocked("ETH-FIRST", R.VENUE_REFUSING, why)
        assert find_losing(orders, SECOND, now_ns) is None
        assert find_losing(orders, FIRST, now_ns + LOSING_FOR_NS) is None


def lose(driver: Driver, intent: OrderIntent) -> None:
    """Let an order leave, and its venue say later that it never saw it."""
    now_ns = driver.now_ns
    driver.apply(OutcomeLost(intent.order_id, "no answer", now_ns))
    driver.apply(OrderTruth(intent.order_id, OrderState.REJECTED, (), now_ns, now_ns))


class TestLostOrders:
    def test_the_need_moves_once_the_outcome_is_known_and_not_before(self) -> None:
        driver = driver_of()
        first = only_intent(driver.tick())
        now_ns = driver.now_ns
        driver.apply(OutcomeLost(first.order_id, "no answer", now_ns))
        assert not submitted(driver.tick())
        driver.apply(OrderTruth(first.order_id, OrderState.REJECTED, (), now_ns, now_ns))
        second = only_intent(driver.tick())
        assert (second.instrument_id, second.qty_lots) == ("ETH-SECOND", first.qty_lots)
        why = "; on ETH-SECOND instead (ETH-FIRST venue_refusing: first: the last order never arrived)"
        assert second.reason.endswith(why)

    def test_without_another_it_is_tried_again(self) -> None:
        driver = driver_of(FIRST)
        for _ in range(3):
            lose(driver, only_intent(driver.tick()))
        assert driver.engine.state is BotState.RUNNING
        assert only_intent(driver.tick()).instrument_id == "ETH-FIRST"

    def test_so_it_is_where_all_others_are_lost_too_or_cannot(self) -> None:
        driver = driver_of()
        for name in ("ETH-FIRST", "ETH-SECOND", "ETH-FIRST"):
            intent = only_intent(driver.tick())
            assert intent.instrument_id == name
            lose(driver, intent)
        tell(driver, "second", DOWN)
        assert only_intent(driver.tick()).instrument_id == "ETH-FIRST"

    def test_a_resume_forgets_it(self) -> None:
        driver = driver_of()
        lose(driver, only_intent(driver.tick()))
        driver.operate(OperatorAction.RESUME)
        assert only_intent(driver.tick()).instrument_id == "ETH-FIRST"


class TestFailover:
    def test_the_preferred_one_is_traded_and_nothing_is_said_of_it(self) -> None:
        intent = only_intent(driver_of().tick())
        assert (intent.instrument_id, intent.qty_lots) == ("ETH-FIRST", -90)
        assert "instead" not in intent.reason

    @pytest.mark.parametrize("health", [DOWN, FATAL])
    def test_a_venue_that_is_not_up_is_passed_over_and_the_reason_says_so(self, health: VenueHealth) -> None:
        driver = driver_of()
        tell(driver, "first", health)
        intent = only_intent(driver.tick())
        assert (intent.instrument_id, intent.qty_lots) == ("ETH-SECOND", -90)
        refusal = "venue_down" if health is DOWN else "venue_fatal"
        why = f"; on ETH-SECOND instead (ETH-FIRST {refusal}: first is {health}: no heartbeat)"
        assert intent.reason.endswith(why)
        assert driver.engine.state is BotState.RUNNING

    def test_so_is_a_delisted_one_whose_position_stays_in_the_books(self) -> None:
        driver = driver_of()
        driver.hedge()
        driver.apply(InstrumentDelisted("ETH-FIRST", "gone", driver.now_ns))
        driver.engine.desks["ETH"].book.coin_cash += 5.0
        intent = only_intent(driver.tick())
        assert (intent.instrument_id, intent.qty_lots) == ("ETH-SECOND", -50)
        driver.fill(intent)
        driver.tick()
        desk = driver.engine.desks["ETH"]
        assert {name: one.lots for name, one in desk.holdings.items()} == {"ETH-FIRST": -90, "ETH-SECOND": -50}
        assert desk.decision is not None
        assert desk.decision.hedge_base == pytest.approx(-14.0)
        driver.tick(2100.0)
        added_quote = 5.0 * 2000.0
        assert driver.engine.pnl_total_quote() - added_quote == pytest.approx(100.0), "one coin is left unhedged"

    def test_so_is_a_silent_one(self) -> None:
        driver = driver_of()
        driver.tick()
        driver.cancel(driver.engine.orders.orders["a1b2c3d4e5-1"].intent)
        driver.wait(61.0)
        driver.apply(driver.index(2000.0), driver.vol(CALL, 0.6, 2000.0), driver.quote(SECOND, 2000.0))
        intent = only_intent(driver.decide())
        assert intent.instrument_id == "ETH-SECOND"
        assert "quote of ETH-FIRST is 61 s old" in intent.reason

    def test_so_is_one_with_a_suspicious_price(self) -> None:
        driver = driver_of(coins=0.0)
        driver.tick()
        driver.engine.desks["ETH"].book.coin_cash = 10.0
        driver.apply(driver.quote(FIRST, 2500.0))
        assert only_intent(driver.decide()).instrument_id == "ETH-SECOND"

    def test_so_is_one_far_from_the_index(self) -> None:
        driver = driver_of()
        driver.wait(1.0)
        driver.show()
        driver.apply(driver.quote(FIRST, 1950.0))
        intent = only_intent(driver.decide())
        assert intent.instrument_id == "ETH-SECOND"
        assert "price_collar" in intent.reason

    def test_so_is_one_that_refuses_until_it_is_tried_again(self) -> None:
        limits = msgspec.structs.replace(LIMITS, max_hedges_same_way=50)
        driver = driver_of(limits=limits)
        for _ in range(5):
            driver.reject(only_intent(driver.tick()))
        intent = only_intent(driver.tick())
        assert (intent.instrument_id, driver.engine.state) == ("ETH-SECOND", BotState.RUNNING)
        driver.reject(intent)
        assert only_intent(driver.tick(after_s=REFUSING_FOR_NS / NS_PER_S)).instrument_id == "ETH-FIRST"

    def test_when_all_refuse_it_halts(self) -> None:
        driver = driver_of(limits=msgspec.structs.replace(LIMITS, max_hedges_same_way=50))
        for _ in range(10):
            driver.reject(only_intent(driver.tick()))
        assert driver.tick() == []
        assert driver.engine.state is BotState.HALTED
        assert driver.engine.state_reason == "reject_streak: 5 orders rejected in a row, limit 5: no margin"
        driver.operate(OperatorAction.RESUME)
        assert only_intent(driver.tick()).instrument_id == "ETH-FIRST"

    def test_nothing_left_is_refused_with_every_cause(self) -> None:
        driver = driver_of()
        tell(driver, "first", DOWN)
        driver.apply(InstrumentDelisted("ETH-SECOND", "gone", driver.now_ns))
        assert driver.tick() == []
        why = "ETH-FIRST: venue_down, first is down: no heartbeat; ETH-SECOND: delisted, ETH-SECOND: gone"
        assert refusal_of(driver) == (R.VENUE_DOWN, why)

    def test_even_if_nothing_is_quoted_any_more(self) -> None:
        driver = driver_of(coins=0.0)
        driver.tick()
        tell(driver, "first", DOWN)
        driver.wait(61.0)
        driver.apply(driver.index(2000.0), driver.vol(CALL, 0.6, 2000.0))
        assert driver.decide() == []
        why = "ETH-FIRST: venue_down, first is down: no heartbeat; ETH-SECOND: stale_hedge_quote, "
        assert refusal_of(driver) == (R.VENUE_DOWN, why + "quote of ETH-SECOND is 61 s old, limit 60 s")

    def test_inside_the_band_a_venue_down_is_no_refusal(self) -> None:
        driver = driver_of(FIRST, coins=0.5)
        tell(driver, "first", DOWN)
        assert driver.tick() == []
        assert refusal_of(driver) == (None, "")

    def test_back_up_it_is_preferred_again(self) -> None:
        driver = driver_of()
        tell(driver, "first", DOWN)
        driver.hedge()
        tell(driver, "first", UP)
        driver.engine.desks["ETH"].book.coin_cash += 5.0
        assert only_intent(driver.tick()).instrument_id == "ETH-FIRST"

    def test_a_need_too_small_for_one_goes_to_the_next(self) -> None:
        picky = msgspec.structs.replace(FIRST, min_lots=31)
        intent = only_intent(driver_of(picky, SECOND, coins=2.0).tick())
        assert (intent.instrument_id, intent.qty_lots) == ("ETH-SECOND", -10)
        assert "below_minimum" in intent.reason

    def test_lots_are_those_of_the_instrument_traded(self) -> None:
        driver = driver_of(FIRST, COARSE)
        tell(driver, "first", DOWN)
        assert only_intent(driver.tick()).qty_lots == -9
        assert driver.tick() == [], "nine coins are under way, whatever a lot is"


class TestNoDoubling:
    def test_what_is_pending_on_a_venue_that_went_down_still_counts(self) -> None:
        driver = driver_of()
        only_intent(driver.tick())
        tell(driver, "first", DOWN)
        assert driver.tick() == []
        driver.engine.desks["ETH"].book.coin_cash += 2.0
        assert only_intent(driver.tick()).qty_lots == -20, "only what came on top"

    def test_an_unknown_order_keeps_its_whole_interval(self) -> None:
        driver = driver_of()
        intent = only_intent(driver.tick())
        driver.apply(OutcomeLost(intent.order_id, "timeout", driver.now_ns))
        tell(driver, "first", DOWN)
        assert driver.tick() == [QueryOrder(intent.order_id, "ETH-FIRST")]
        assert refusal_of(driver)[0] is R.UNKNOWN_OUTCOME
        driver.engine.desks["ETH"].book.coin_cash += 3.0
        (extra,) = submitted(driver.tick())
        assert (extra.instrument_id, extra.qty_lots) == ("ETH-SECOND", -30), "what both ends agree on"
        driver.fill(extra)
        driver.apply(OrderTruth(intent.order_id, OrderState.REJECTED, (), driver.now_ns, driver.now_ns))
        (rest,) = submitted(driver.tick())
        assert (rest.instrument_id, rest.qty_lots) == ("ETH-SECOND", -90)


class TestFatal:
    def test_the_last_hedge_venue_fatal_halts(self) -> None:
        driver = driver_of()
        driver.hedge()
        tell(driver, "first", FATAL, "invalid key")
        driver.tick()
        assert driver.engine.state is BotState.RUNNING
        tell(driver, "second", FATAL, "clock skew of 900 ms")
        assert driver.tick() == []
        assert driver.engine.state is BotState.HALTED
        assert driver.engine.state_reason == "venue_fatal: first: invalid key; second: clock skew of 900 ms"
        assert driver.engine.refusals[R.VENUE_FATAL] == 1
        tell(driver, "second", UP, "")
        driver.tick()
        assert driver.engine.state is BotState.HALTED, "only a person loosens it"
        driver.operate(OperatorAction.RESUME)
        driver.engine.desks["ETH"].book.coin_cash += 5.0
        assert only_intent(driver.tick()).instrument_id == "ETH-SECOND"


class TestVenueLimit:
    def test_an_order_is_cut_to_what_its_venue_may_hold_and_the_rest_goes_elsewhere(self) -> None:
        driver = driver_of(venue_limits={"first": 10_000.0})
        intent = only_intent(driver.tick())
        assert (intent.instrument_id, intent.qty_lots) == ("ETH-FIRST", -50)
        assert intent.reason.endswith(", cut from -90 lots by the exposure limit of first")
        rest = only_intent(driver.tick())
        assert (rest.instrument_id, rest.qty_lots) == ("ETH-SECOND", -40)
        assert "first: exposure limit of 10,000 is reached, in flight included" in rest.reason

    def test_what_is_unknown_counts_too(self) -> None:
        driver = driver_of(FIRST, venue_limits={"first": 10_000.0})
        intent = only_intent(driver.tick())
        driver.apply(OutcomeLost(intent.order_id, "timeout", driver.now_ns))
        assert submitted(driver.tick()) == []
        assert refusal_of(driver)[0] is R.VENUE_LIMIT

    def test_reducing_is_always_possible(self) -> None:
        driver = driver_of(FIRST, venue_limits={"first": 10_000.0})
        driver.hedge()
        driver.tick(2050.0)
        assert refusal_of(driver)[0] is R.VENUE_LIMIT
        driver.engine.desks["ETH"].book.coin_cash = 0.0
        assert only_intent(driver.tick(2050.0)).qty_lots == 40

    def test_a_limit_below_one_lot_refuses(self) -> None:
        driver = driver_of(FIRST, venue_limits={"first": 199.0})
        assert driver.tick() == []
        assert refusal_of(driver) == (R.VENUE_LIMIT, "first: exposure limit of 199 is reached, in flight included")


class TestMinimumValue:
    def test_an_order_below_it_is_raised_where_the_band_allows(self) -> None:
        picky = msgspec.structs.replace(PERPETUAL, min_quote=3_000.0)
        intent = only_intent(driver_of(picky, coins=1.5).tick())
        assert intent.qty_lots == -16, "the venue values it at its limit, 25 bp below the touch"
        assert intent.reason.endswith(", raised from -5 lots to the venue's minimum")

    def test_else_it_is_refused(self) -> None:
        picky = msgspec.structs.replace(PERPETUAL, min_quote=6_000.0)
        driver = driver_of(picky, coins=1.5)
        assert driver.tick() == []
        assert refusal_of(driver) == (R.BELOW_MINIMUM, "5 lots, the venue's minimum is 31 for 6000 USD")

    def test_it_is_never_raised_beyond_another_limit(self) -> None:
        picky = msgspec.structs.replace(PERPETUAL, min_quote=3_000.0)
        limits = msgspec.structs.replace(LIMITS, max_order_quote=2_500.0)
        driver = driver_of(picky, coins=1.5, limits=limits)
        assert driver.tick() == []
        assert refusal_of(driver)[0] is R.BELOW_MINIMUM

    def test_nor_past_what_a_bot_that_may_only_reduce_may_do(self) -> None:
        picky = msgspec.structs.replace(PERPETUAL, min_quote=4_200.0)
        driver = driver_of(picky, coins=1.05)
        driver.operate(OperatorAction.REDUCE_ONLY)
        assert driver.tick() == []
        assert refusal_of(driver)[0] is R.BELOW_MINIMUM

    def test_enough_lots_of_an_inverse_contract_are_counted_in_quote_money(self) -> None:
        picky = msgspec.structs.replace(INVERSE, min_quote=1_500.0)
        assert only_intent(driver_of(picky, coins=1.5).tick()).qty_lots == -150


def test_a_position_without_a_quote_is_marked_at_the_index() -> None:
    driver = driver_of(FIRST, msgspec.structs.replace(INVERSE, instrument_id="ETH-OTHER", venue="second"))
    driver.engine.desks["ETH"].holdings["ETH-OTHER"].trade_lots(-1000, 2000.0)
    driver.wait(1.0)
    driver.apply(driver.index(2000.0), driver.vol(CALL, 0.6, 2000.0), driver.quote(FIRST, 2000.0))
    assert only_intent(driver.decide()).qty_lots == -40, "ten coins, five of them hedged already"
