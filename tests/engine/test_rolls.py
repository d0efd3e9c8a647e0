"""Dated futures are left before they expire: closed there and opened elsewhere at once, and no delta between."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bot.domain.events import OperatorAction, SubmitOrder
from bot.domain.market import Quote
from bot.domain.orders import OrderIntent
from bot.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_MIN, NS_PER_S
from bot.domain.venues import AccountReport, VenuePosition
from bot.engine.desk import Desk
from bot.engine.margin.risk_settings import RiskSettings
from bot.engine.rolls import find_roll, is_ending
from bot.engine.settings import BookLeg, HedgeSettings
from strategies import DeltaBand
from tests.engine.builders import (
    CALL,
    LIMITS,
    PERPETUAL,
    T0_NS,
    Driver,
    future,
    linear_perpetual,
    make_intent,
    make_settings,
)
from tests.engine.margin_vault import INITIAL_SHARE, account

EXPIRY_NS = T0_NS + NS_PER_DAY
DATED = future(EXPIRY_NS)
LATER = future(EXPIRY_NS + 7 * NS_PER_DAY)
NAME = DATED.instrument_id


class Rolling(Driver):
    """Ten coins that a dated future hedges for as long as it lives; the perpetual costs more."""

    def __init__(self, *, others: tuple[Any, ...] = (PERPETUAL,), style: str = "taker", **changes: Any) -> None:
        hedges = tuple(
            HedgeSettings(instrument=one, maker_bps=0.0, taker_bps=1.0 if one is DATED else 5.0, style=style)
            for one in (DATED, *others)
        )
        given: dict[str, Any] = {"hedges": {"ETH": hedges}, "cash": {"ETH": 10.0}, **changes}
        super().__init__(make_settings((BookLeg(CALL, -1e-12),), policy=DeltaBand(half_width_base=1.0), **given))
        self.half_spread_px = 0.05

    def quote(self, instrument: Any, mid_px: float, half_spread_px: float = 0.0) -> Quote:
        return super().quote(instrument, mid_px, half_spread_px or self.half_spread_px)

    @property
    def desk(self) -> Desk:
        return self.engine.desks["ETH"]

    def held(self) -> dict[str, int]:
        return {name: holding.lots for name, holding in self.desk.holdings.items()}

    def at(self, left_ns: int) -> list[OrderIntent]:
        """Show the market so long before the expiry; return what is ordered."""
        commands = self.tick(after_s=(EXPIRY_NS - left_ns - self.now_ns) / 1e9)
        return [command.intent for command in commands if isinstance(command, SubmitOrder)]

    def report(self, *positions: VenuePosition) -> None:
        """Tell of the account as it is now."""
        asked_ns = self.now_ns
        self.wait(0.01)
        self.apply(AccountReport("sim", positions, (), {}, asked_ns, self.now_ns))

    def hedged(self) -> Rolling:
        assert self.hedge().instrument_id == NAME
        return self


def test_only_a_future_ends_and_only_within_its_time() -> None:
    dated = HedgeSettings(instrument=DATED, maker_bps=0.0, taker_bps=5.0)
    assert not is_ending(dated, EXPIRY_NS - NS_PER_HOUR - 1)
    assert is_ending(dated, EXPIRY_NS - NS_PER_HOUR)
    assert not is_ending(msgspec.structs.replace(dated, instrument=PERPETUAL), EXPIRY_NS)
    assert not is_ending(msgspec.structs.replace(dated, roll_before_ns=NS_PER_MIN), EXPIRY_NS - NS_PER_HOUR)


def test_urgency_grows_over_the_first_half_of_the_time() -> None:
    driver = Rolling().hedged()
    urgencies = []
    for minutes in (61, 60, 45, 30, 5):
        roll = find_roll(driver.desk, EXPIRY_NS - minutes * NS_PER_MIN)
        urgencies.append(None if roll is None else (roll.held_lots, roll.urgency))
    assert urgencies == [None, (-90, 0.0), (-90, 0.5), (-90, 1.0), (-90, 1.0)]
    assert find_roll(driver.desk, EXPIRY_NS) is None, "then it has expired"


class TestRoll:
    def test_both_sides_are_ordered_at_once_and_net_delta_stays(self) -> None:
        driver = Rolling().hedged()
        assert driver.at(2 * NS_PER_HOUR) == []
        close, reopen = driver.at(50 * NS_PER_MIN)
        assert (close.instrument_id, close.qty_lots, close.reduce_only) == (NAME, 90, True)
        assert (reopen.instrument_id, reopen.qty_lots) == ("ETH-PERPETUAL", -90)
        assert close.reason.startswith(f"roll of {NAME}, which expires in 50 min")
        for intent in (close, reopen):
            driver.fill(intent)
        assert driver.held() == {NAME: 0, "ETH-PERPETUAL": -90}
        assert driver.at(40 * NS_PER_MIN) == []

    def test_a_wide_spread_is_waited_out_but_not_for_ever(self) -> None:
        driver = Rolling().hedged()
        driver.half_spread_px = 4.0  # 20 bp, of 25 bp allowed
        assert driver.at(50 * NS_PER_MIN) == []
        assert len(driver.at(30 * NS_PER_MIN)) == 2

    def test_nothing_new_is_opened_there_but_what_is_held_may_shrink(self) -> None:
        driver = Rolling().hedged()
        driver.half_spread_px = 4.0
        driver.desk.book.coin_cash = 15.0
        (more,) = driver.at(58 * NS_PER_MIN)
        assert (more.instrument_id, more.qty_lots) == ("ETH-PERPETUAL", -50)
        driver.fill(more)
        driver.desk.book.coin_cash = 10.0
        (less,) = driver.at(56 * NS_PER_MIN)
        assert (less.instrument_id, less.qty_lots) == (NAME, 30)

    def test_it_never_turns_there_where_the_others_have_to_wait_for_a_fresh_quote(self) -> None:
        driver = Rolling().hedged()
        driver.half_spread_px = 4.0
        driver.desk.book.coin_cash = 15.0
        (more,) = driver.at(58 * NS_PER_MIN)
        driver.fill(more, -30)
        driver.cancel(more)
        driver.desk.book.coin_cash = -10.0
        driver.wait(1.0)
        driver.apply(driver.index(2000.0), driver.quote(DATED, 2000.0))
        (less,) = [command.intent for command in driver.decide() if isinstance(command, SubmitOrder)]
        assert (less.instrument_id, less.qty_lots) == (NAME, 90)

    def test_large_positions_move_in_parts_within_every_limit(self) -> None:
        driver = Rolling(limits=msgspec.structs.replace(LIMITS, max_order_quote=8_001.0))
        while intents := driver.tick():
            for command in intents:
                driver.fill(command.intent)
        assert driver.held()[NAME] < 0
        moved = 0
        for minutes in range(50, 20, -2):
            for intent in driver.at(minutes * NS_PER_MIN):
                assert abs(intent.qty_lots) <= 40
                moved += intent.instrument_id == NAME
                driver.fill(intent)
        assert driver.held()[NAME] == 0
        assert moved >= 1
        assert sum(driver.held().values()) == -90

    def test_a_leg_that_fails_is_made_good_as_any_other_need(self) -> None:
        driver = Rolling().hedged()
        close, reopen = driver.at(50 * NS_PER_MIN)
        driver.fill(close)
        driver.reject(reopen)
        (again,) = driver.at(49 * NS_PER_MIN)
        assert (again.instrument_id, again.qty_lots) == ("ETH-PERPETUAL", -90)

    def test_it_crosses_even_where_hedges_rest(self) -> None:
        driver = Rolling(style="maker")
        (rest,) = [command.intent for command in driver.tick()]
        driver.accept(rest)
        driver.fill(rest)
        assert {intent.time_in_force for intent in driver.at(50 * NS_PER_MIN)} == {"ioc"}

    def test_the_cheapest_of_the_others_takes_it(self) -> None:
        cheap = msgspec.structs.replace(linear_perpetual(), instrument_id="ETH-CHEAP")
        driver = Rolling(others=(PERPETUAL, LATER, cheap))
        hedges = [
            msgspec.structs.replace(one, taker_bps=2.0) if one.instrument is cheap else one
            for one in driver.desk.hedges
        ]
        driver.desk.hedges = driver.desk.quoted = tuple(hedges)
        driver.hedged()
        names = [intent.instrument_id for intent in driver.at(50 * NS_PER_MIN)]
        assert names == [NAME, "ETH-CHEAP"]

    def test_what_is_opened_fits_margin_together_while_what_is_left_may_not_have_been_closed(self) -> None:
        other = msgspec.structs.replace(linear_perpetual(), instrument_id="ETH-OTHER")
        per_base = INITIAL_SHARE * 1.25 * 2000.0  # as only the model tells
        risk = RiskSettings(accounts={"sim": account((9.0 + 5.05) * per_base / 0.9)})
        driver = Rolling(others=(linear_perpetual(), other), risk=risk).hedged()
        intents = driver.at(50 * NS_PER_MIN)
        opened = sum(one.qty_lots for one in intents if one.instrument_id != NAME)
        assert -50 <= opened <= -45
        assert sum(one.qty_lots for one in intents) == 0

    @pytest.mark.parametrize("changes", [{"routing": "preference"}, {"others": ()}])
    def test_without_another_or_by_preference_it_is_left_to_expire(self, changes: dict[str, Any]) -> None:
        driver = Rolling(**changes).hedged()
        assert driver.at(20 * NS_PER_MIN) == []

    @pytest.mark.parametrize("action", [OperatorAction.REDUCE_ONLY, OperatorAction.PAUSE])
    def test_only_a_running_bot_rolls(self, action: OperatorAction) -> None:
        driver = Rolling().hedged()
        driver.operate(action)
        assert driver.at(20 * NS_PER_MIN) == []

    def test_it_waits_while_anything_is_in_flight(self) -> None:
        driver = Rolling().hedged()
        first = driver.at(50 * NS_PER_MIN)
        assert len(first) == 2
        assert driver.at(49 * NS_PER_MIN) == []

    def test_what_rests_for_another_underlying_is_not_waited_for(self) -> None:
        driver = Rolling().hedged()
        driver.engine.orders.intend(make_intent(1, "other-1", instrument=linear_perpetual("BTC")))
        assert [intent.instrument_id for intent in driver.at(50 * NS_PER_MIN)] == [NAME, "ETH-PERPETUAL"]

    @pytest.mark.parametrize(("max_age_ns", "off_lots"), [(10 * NS_PER_S, 0), (0, -5)])
    def test_nothing_is_rolled_on_an_account_that_is_old_or_says_something_else(
        self, max_age_ns: int, off_lots: int
    ) -> None:
        driver = Rolling(account_venues=frozenset({"sim"}), account_max_age_ns=max_age_ns)
        driver.report()
        driver.hedged()
        driver.wait(1.0)
        held = driver.held()[NAME]
        driver.report(VenuePosition(NAME, held + off_lots, 2000.0))
        assert driver.at(40 * NS_PER_MIN) == []
        driver.report(VenuePosition(NAME, held, 2000.0))
        assert len(driver.at(40 * NS_PER_MIN - NS_PER_S)) == 2

    def test_the_order_rate_allows_both_or_none(self) -> None:
        driver = Rolling(limits=msgspec.structs.replace(LIMITS, max_orders_per_min=1)).hedged()
        assert driver.at(50 * NS_PER_MIN) == []
        assert driver.held() == {NAME: -90, "ETH-PERPETUAL": 0}

    def test_rolls_are_no_hedges_that_run_in_a_loop(self) -> None:
        driver = Rolling(limits=msgspec.structs.replace(LIMITS, max_hedges_same_way=2)).hedged()
        before_ns = driver.desk.last_hedge_ns
        for minutes in (50, 49, 48, 47):
            for intent in driver.at(minutes * NS_PER_MIN):
                driver.cancel(intent)
        assert driver.engine.state == "running"
        assert driver.desk.last_hedge_ns == before_ns
