"""Limits one by one: each cuts or refuses with its figures, and counts what was sent."""

from __future__ import annotations

import msgspec
import pytest

from bot.domain.decisions import BotState, Refusal
from bot.domain.units import NS_PER_DAY, NS_PER_MIN, NS_PER_S
from bot.engine.limits import STATE_AFTER_TRIP, LimitKeeper
from bot.engine.settings import Limits
from tests.engine.builders import T0_NS

LIMITS = Limits(max_order_quote=50_000.0, max_orders_per_min=3, daily_loss_quote=1_000.0)


def note_order(keeper: LimitKeeper, underlying: str, now_ns: int, ordered_base: float, hedged_base: float) -> None:
    keeper.note_sent(now_ns)
    keeper.note_hedge(underlying, now_ns, ordered_base, hedged_base)


@pytest.fixture
def keeper() -> LimitKeeper:
    return LimitKeeper(LIMITS)


class TestOrderValue:
    @pytest.mark.parametrize(("lots", "cut"), [(10, 10), (250, 250), (251, 250), (-251, -250), (10**9, 250), (0, 0)])
    def test_cut_to_the_largest_value_allowed(self, keeper: LimitKeeper, lots: int, cut: int) -> None:
        assert keeper.cut_to_value(lots, 200.0) == cut

    def test_nothing_is_left_if_one_lot_is_too_much(self, keeper: LimitKeeper) -> None:
        assert keeper.cut_to_value(5, 50_001.0) == 0
        assert keeper.cut_to_value(-5, 50_001.0) == 0


class TestOrderRate:
    def test_the_window_slides(self, keeper: LimitKeeper) -> None:
        for second in (0, 20, 40):
            assert keeper.refuse_rate(T0_NS + second * NS_PER_S) is None
            note_order(keeper, "ETH", T0_NS + second * NS_PER_S, 1, 0.0)
        assert keeper.refuse_rate(T0_NS + 59 * NS_PER_S) == "3 orders in the last minute, limit 3"
        assert keeper.refuse_rate(T0_NS + NS_PER_MIN) is None, "the first one is a minute ago"

    def test_orders_of_every_underlying_count(self, keeper: LimitKeeper) -> None:
        for underlying in ("ETH", "BTC", "SOL"):
            note_order(keeper, underlying, T0_NS, 1, 0.0)
        assert keeper.refuse_rate(T0_NS) is not None

    def test_an_amend_counts_as_an_order_but_is_no_hedge(self, keeper: LimitKeeper) -> None:
        for _ in range(3):
            keeper.note_sent(T0_NS)
        assert keeper.refuse_rate(T0_NS) is not None
        for n in range(5):
            keeper.note_hedge("ETH", T0_NS + n, 4.0, 7.0)
        assert keeper.find_hedge_loop("ETH", T0_NS + 5, 1, 7.0) is not None

    def test_asking_is_not_sending(self, keeper: LimitKeeper) -> None:
        for _ in range(10):
            assert keeper.refuse_rate(T0_NS) is None


class TestPriceCollar:
    @pytest.mark.parametrize("limit_px", [1960.1, 2000.0, 2039.9])
    def test_within(self, keeper: LimitKeeper, limit_px: float) -> None:
        assert keeper.refuse_price(limit_px, 2000.0) is None

    @pytest.mark.parametrize("limit_px", [1959.0, 2041.0, 20_000.0])
    def test_beyond_names_both_prices(self, keeper: LimitKeeper, limit_px: float) -> None:
        refused = keeper.refuse_price(limit_px, 2000.0)
        assert refused is not None
        assert f"{limit_px:g}" in refused
        assert "2000" in refused
        assert "collar 200 bp" in refused


class TestDailyLoss:
    def test_is_measured_from_the_days_first_value(self, keeper: LimitKeeper) -> None:
        assert keeper.mark_profit(T0_NS, 500_000.0) is None
        assert keeper.mark_profit(T0_NS + NS_PER_S, 499_000.5) is None
        assert keeper.day_pnl_quote == pytest.approx(-999.5)
        tripped = keeper.mark_profit(T0_NS + 2 * NS_PER_S, 499_000.0)
        assert tripped == (Refusal.DAILY_LOSS, "loss since 00:00 UTC is 1,000, limit 1,000")

    def test_what_happened_unseen_over_midnight_belongs_to_the_new_day(self, keeper: LimitKeeper) -> None:
        midnight_ns = (T0_NS // NS_PER_DAY + 1) * NS_PER_DAY
        assert keeper.mark_profit(midnight_ns - NS_PER_S, 0.0) is None
        assert keeper.mark_profit(midnight_ns + NS_PER_S, -50_000.0) is not None
        assert keeper.day_pnl_quote == -50_000.0

    def test_a_new_utc_day_starts_afresh(self, keeper: LimitKeeper) -> None:
        midnight_ns = (T0_NS // NS_PER_DAY + 1) * NS_PER_DAY
        keeper.mark_profit(midnight_ns - 2, 10_000.0)
        assert keeper.mark_profit(midnight_ns - 1, 8_000.0) is not None
        assert keeper.mark_profit(midnight_ns, 8_000.0) is None
        assert keeper.mark_profit(midnight_ns + 1, 7_001.0) is None
        assert keeper.mark_profit(midnight_ns + 2, 7_000.0) is not None


class TestHedgeLoop:
    """Five orders of +4, one every second; how far the hedge got is what matters."""

    def hedge(self, keeper: LimitKeeper, reached_base: list[float], order_base: float = 4.0, every_s: int = 1) -> int:
        for n, hedged_base in enumerate(reached_base):
            note_order(keeper, "ETH", T0_NS + n * every_s * NS_PER_S, order_base, hedged_base)
        return T0_NS + len(reached_base) * every_s * NS_PER_S

    def test_five_the_same_way_and_nothing_gained(self, keeper: LimitKeeper) -> None:
        now_ns = self.hedge(keeper, [7.0] * 5)
        found = keeper.find_hedge_loop("ETH", now_ns, 1, 7.0)
        assert found == "5 hedges the same way within 5 s ordered +20 and the hedge moved +0"

    def test_selling_in_a_loop_is_one_too(self, keeper: LimitKeeper) -> None:
        now_ns = self.hedge(keeper, [7.0] * 5, order_base=-4.0)
        assert keeper.find_hedge_loop("ETH", now_ns, -1, 7.0) is not None

    def test_a_hedge_that_moves_the_wrong_way_is_worse(self, keeper: LimitKeeper) -> None:
        now_ns = self.hedge(keeper, [0.0, -4.0, -8.0, -12.0, -16.0])
        assert keeper.find_hedge_loop("ETH", now_ns, 1, -20.0) is not None

    def test_four_are_not_enough(self, keeper: LimitKeeper) -> None:
        now_ns = self.hedge(keeper, [7.0] * 4)
        assert keeper.find_hedge_loop("ETH", now_ns, 1, 7.0) is None

    def test_hedges_that_arrive_are_no_loop_however_far_the_market_runs(self, keeper: LimitKeeper) -> None:
        now_ns = self.hedge(keeper, [0.0, 4.0, 8.0, 12.0, 16.0])
        assert keeper.find_hedge_loop("ETH", now_ns, 1, 20.0) is None

    def test_half_of_what_was_ordered_is_enough(self, keeper: LimitKeeper) -> None:
        now_ns = self.hedge(keeper, [0.0] * 5)
        assert keeper.find_hedge_loop("ETH", now_ns, 1, 10.0) is None
        assert keeper.find_hedge_loop("ETH", now_ns, 1, 9.99) is not None

    def test_the_other_side_or_another_underlying_is_no_loop(self, keeper: LimitKeeper) -> None:
        now_ns = self.hedge(keeper, [7.0] * 5)
        assert keeper.find_hedge_loop("ETH", now_ns, -1, 7.0) is None
        assert keeper.find_hedge_loop("BTC", now_ns, 1, 7.0) is None

    def test_the_window_includes_its_end(self, keeper: LimitKeeper) -> None:
        now_ns = self.hedge(keeper, [7.0] * 5, every_s=12)
        assert keeper.find_hedge_loop("ETH", now_ns, 1, 7.0) is not None

    def test_slow_hedges_are_no_loop(self, keeper: LimitKeeper) -> None:
        now_ns = self.hedge(keeper, [7.0] * 5, every_s=13)
        assert keeper.find_hedge_loop("ETH", now_ns, 1, 7.0) is None

    def test_forgetting_starts_afresh(self, keeper: LimitKeeper) -> None:
        now_ns = self.hedge(keeper, [7.0] * 5)
        keeper.forget_hedge_loop()
        assert keeper.find_hedge_loop("ETH", now_ns, 1, 7.0) is None

    def test_the_number_is_a_setting(self) -> None:
        keeper = LimitKeeper(msgspec.structs.replace(LIMITS, max_hedges_same_way=2))
        now_ns = self.hedge(keeper, [7.0] * 2)
        assert keeper.find_hedge_loop("ETH", now_ns, 1, 7.0) is not None


def test_a_gain_nobody_traded_for_makes_up_for_no_loss_of_this_day_or_the_next() -> None:
    keeper = LimitKeeper(LIMITS)
    keeper.mark_profit(0, 0.0)
    keeper.mark_profit(1, -40.0)
    keeper.discount(100.0)
    keeper.mark_profit(2, 60.0)
    assert keeper.day_pnl_quote == -40.0
    keeper.mark_profit(NS_PER_DAY, 55.0)
    assert keeper.day_pnl_quote == -5.0


def test_a_reject_streak_is_found_at_its_limit(keeper: LimitKeeper) -> None:
    assert keeper.find_reject_streak(4) is None
    assert keeper.find_reject_streak(5) == "5 orders rejected in a row, limit 5"


def test_each_trip_leads_to_its_state() -> None:
    assert STATE_AFTER_TRIP == {
        Refusal.DAILY_LOSS: BotState.REDUCE_ONLY,
        Refusal.HEDGE_LOOP: BotState.PAUSED,
        Refusal.REJECT_STREAK: BotState.HALTED,
        Refusal.VENUE_CONTRADICTION: BotState.HALTED,
        Refusal.VENUE_FATAL: BotState.HALTED,
    }
