"""A need split over instruments by cost: every part through every limit, and nothing traded twice or past the band."""

from __future__ import annotations

from math import inf, isnan
from typing import Any

import msgspec
import pytest

from bot.domain.decisions import BotState, Decision, HedgeTarget, HedgeView, Refusal
from bot.domain.events import OperatorAction, SubmitOrder
from bot.domain.instruments import Hedgeable
from bot.domain.market import ExecutionTerms, FundingRate, GasTier, Quote
from bot.domain.orders import OrderIntent, OutcomeLost, TimeInForce
from bot.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_S
from bot.domain.venues import VenueHealth, VenueStatus
from bot.engine.curves import hedge_curve
from bot.engine.settings import BookLeg, HedgeSettings
from bot.pricing.splitting import best_split
from strategies import DeltaBand
from tests.engine.builders import CALL, LIMITS, T0_NS, Driver, future, linear_perpetual, make_settings, only_intent

R = Refusal


def perpetual(name: str, **changes: Any) -> Hedgeable:
    return msgspec.structs.replace(linear_perpetual(), instrument_id=f"ETH-{name}", venue=name.lower(), **changes)


A, B, C = perpetual("A"), perpetual("B"), perpetual("C")


class Market(Driver):
    """Three venues whose books are as deep and wide as a test says, and coins to hedge."""

    def __init__(
        self,
        *instruments: Hedgeable,
        coins: float = 10.0,
        taker_bps: tuple[float, ...] = (5.0, 5.0, 5.0),
        styles: tuple[str, ...] = ("taker", "taker", "taker"),
        **changes: Any,
    ) -> None:
        chosen = instruments or (A, B, C)
        hedges = tuple(
            HedgeSettings(instrument=one, maker_bps=0.0, taker_bps=bps, style=style, risk_aversion_per_quote=1e-3)
            for one, bps, style in zip(chosen, taker_bps, styles, strict=False)
        )
        given = {"hedges": {"ETH": hedges}, "cash": {"ETH": coins}, "policy": DeltaBand(half_width_base=1.0), **changes}
        super().__init__(make_settings((BookLeg(CALL, -1e-12),), **given))
        self.books = {one.instrument_id: (0.5, 1e6) for one in chosen}  # half-spread and size at the touch
        self.mids: dict[str, float] = {}

    def quote(self, instrument: Hedgeable, mid_px: float, half_spread_px: float = 0.05) -> Quote:
        name = instrument.instrument_id
        half_px, size_base = self.books.get(name, (half_spread_px, 1e6))
        mid_px = self.mids.get(name, mid_px)
        return Quote(name, mid_px - half_px, size_base, mid_px + half_px, size_base, *self._stamp())

    def orders(self, **how: Any) -> dict[str, int]:
        """Let a second pass, show the market; return the lots ordered by instrument."""
        return {intent.instrument_id[4:]: intent.qty_lots for intent in self.intents(**how)}

    def intents(self, **how: Any) -> list[OrderIntent]:
        return [command.intent for command in self.tick(**how) if isinstance(command, SubmitOrder)]

    @property
    def decision(self) -> Decision:
        decision = self.engine.desks["ETH"].decision
        assert decision is not None
        return decision

    def tell(self, venue: str, health: VenueHealth) -> None:
        self.apply(VenueStatus(venue, health, "no heartbeat", self.now_ns))


def thin(*sizes_base: float, **changes: Any) -> Market:
    """Return a market whose books show so much at the touch each."""
    market = Market(**changes)
    for name, size_base in zip(("ETH-A", "ETH-B", "ETH-C"), sizes_base, strict=True):
        market.books[name] = (0.5, size_base)
    return market


class TestSplit:
    def test_books_that_show_too_little_share_the_need(self) -> None:
        market = thin(4.0, 3.0, 3.0)
        assert market.orders() == {"A": -40, "B": -30, "C": -20}

    def test_it_is_that_of_best_split(self) -> None:
        market = thin(2.0, 1.5, 0.7, taker_bps=(5.0, 4.0, 4.5))
        parts = market.orders()
        curves = [
            hedge_curve(
                hedge, market.engine.market.quotes[name], None,
                is_buy=False, mid_px=2000.0, vol=0.8, lot_base=0.1, min_base=0.1, max_base=inf,
            )
            for hedge in market.engine.desks["ETH"].hedges
            if (name := hedge.instrument.instrument_id)
        ]  # fmt: skip
        split = best_split(9.0, curves)
        assert [-parts.get(name, 0) * 0.1 for name in "ABC"] == pytest.approx(split.quantities_base)
        assert sum(leg.cost_quote for leg in market.decision.legs) == pytest.approx(split.cost_quote)
        assert market.decision.next_best_quote == pytest.approx(split.next_best)

    def test_equal_and_deep_books_get_one_order_on_the_preferred_one(self) -> None:
        assert Market().orders() == {"A": -90}

    def test_the_cheapest_gets_it_whatever_is_preferred(self) -> None:
        market = Market(taker_bps=(5.0, 4.0, 4.5))
        assert market.orders() == {"B": -90}
        assert market.decision.legs[0].cost_quote == pytest.approx(9.0 * (0.5 + 4e-4 * 1999.5))
        assert market.decision.next_best_quote == pytest.approx(9.0 * (0.5 + 4.5e-4 * 1999.5))

    def test_another_order_must_save_something(self) -> None:
        """A's last unit stands one spread beyond: for 0.1 ETH at 0.05 that saves less than it is worth."""
        market = thin(8.9, 100.0, 100.0, taker_bps=(5.0, 5.001, 6.0))
        market.books["ETH-A"] = (0.01, 8.9)
        market.books["ETH-B"] = (0.011, 100.0)
        assert market.orders() == {"A": -90}

    def test_the_decision_and_every_reason_tell_the_plan(self) -> None:
        market = thin(5.0, 5.0, 5.0)
        intents = market.intents()
        decision = market.decision
        assert [leg.order_id for leg in decision.legs] == [intent.order_id for intent in intents]
        assert (decision.order_id, decision.qty_lots) == (intents[0].order_id, intents[0].qty_lots)
        assert [leg.qty_base for leg in decision.legs] == pytest.approx([-5.0, -4.0])
        each_quote = 0.5 + 5e-4 * 1999.5
        assert [leg.cost_quote for leg in decision.legs] == pytest.approx([5.0 * each_quote, 4.0 * each_quote])
        plan = "; split at 13.50 with carry: ETH-A -50 for 7.50, ETH-B -40 for 6.00, next best 13.50"
        assert [intent.reason.endswith(plan) for intent in intents] == [True, True]

    def test_by_preference_the_first_takes_it_all(self) -> None:
        market = thin(4.0, 3.0, 3.0, routing="preference", taker_bps=(5.0, 1.0, 1.0))
        assert market.orders() == {"A": -90}
        assert market.decision.legs == ()
        assert isnan(market.decision.next_best_quote)

    def test_with_one_instrument_nothing_is_compared(self) -> None:
        cheapest, preferred = Market(A), Market(A, routing="preference")
        assert cheapest.intents() == preferred.intents()
        assert repr(cheapest.decision) == repr(preferred.decision)

    def test_the_need_is_counted_over_all_legs_while_they_are_under_way(self) -> None:
        market = thin(4.0, 3.0, 3.0)
        assert len(market.orders()) == 3
        assert market.orders() == {}
        market.engine.desks["ETH"].book.coin_cash += 2.0
        assert sum(market.orders().values()) == -20

    def test_coarse_lots_never_bring_it_past_the_far_edge(self) -> None:
        coarse = perpetual("COARSE", contract_size=10.0)  # lots of 1 ETH
        for coins in (1.05, 1.5, 2.5, 3.45, 7.77):
            market = Market(coarse, B, coins=coins, taker_bps=(4.0, 5.0), policy=DeltaBand(half_width_base=0.3))
            market.books["ETH-COARSE"] = (0.5, 2.0)
            lots = market.orders()
            left = coins + lots.get("COARSE", 0) * 1.0 + lots.get("B", 0) * 0.1
            assert -0.3 - 1e-9 <= left <= 0.3 + 1e-9

    def test_what_is_traded_is_sold_where_a_premium_is_paid_and_bought_where_it_is_not(self) -> None:
        for coins, best in ((10.0, "B"), (-10.0, "A")):
            market = Market(coins=coins)
            for n in range(3):
                ts_ns = T0_NS - (3 - n) * 8 * NS_PER_HOUR
                market.apply(FundingRate("ETH-A", -1e-4, ts_ns, ts_ns, n), FundingRate("ETH-B", 2e-4, ts_ns, ts_ns, n))
            assert set(market.orders()) == {best}

    def test_two_fundings_never_build_up_positions_against_each_other(self) -> None:
        market = Market(A, B, coins=0.0)
        for n in range(3):
            ts_ns = T0_NS - (3 - n) * 8 * NS_PER_HOUR
            market.apply(FundingRate("ETH-A", 1e-4, ts_ns, ts_ns, n), FundingRate("ETH-B", 1.1e-4, ts_ns, ts_ns, n))
        for second in range(12):
            market.engine.desks["ETH"].book.coin_cash = 5.0 if second % 2 else -5.0
            for intent in market.intents():
                market.fill(intent)
        held = [abs(holding.lots) for holding in market.engine.desks["ETH"].holdings.values()]
        assert sum(held) <= 120, "bounded by two needs and not by how often it went to and fro"

    def test_a_dated_future_is_sold_for_its_basis(self) -> None:
        dated = msgspec.structs.replace(future(T0_NS + 30 * NS_PER_DAY), instrument_id="ETH-D")
        market = Market(A, dated)
        market.mids["ETH-D"] = 2012.0
        assert set(market.orders()) == {"D"}
        bought = Market(A, dated, coins=-10.0)
        bought.mids["ETH-D"] = 2012.0
        assert set(bought.orders()) == {"A"}

    def test_a_pool_takes_a_part_where_that_is_worth_its_gas(self) -> None:
        for gas_quote, is_worth in ((0.5, True), (500.0, False)):
            market = thin(1.0, 1.0, 1.0)
            market.wait(1.0)
            now_ns = market.now_ns
            tiers = (GasTier(2, 1, gas_quote, 1.0, 2.0),)
            market.apply(ExecutionTerms("ETH-C", tiers, 0.0, 40_000.0, NS_PER_S, now_ns, now_ns, 1))
            market.books["ETH-C"] = (0.5, 100.0)
            intents = {intent.instrument_id[4:]: intent for intent in market.intents()}
            assert ("C" in intents) is is_worth
            if is_worth:
                assert intents["C"].gas is not None
                assert "gas" in intents["C"].reason

    def test_resting_orders_share_it_too_and_are_one_hedge(self) -> None:
        market = thin(0.5, 0.5, 0.5, styles=("maker", "maker", "maker"), coins=1.9)
        intents = market.intents()
        assert [intent.time_in_force for intent in intents] == [TimeInForce.POST_ONLY] * 2
        for intent in intents:
            market.accept(intent)
            market.fill(intent)
        assert market.orders() == {}
        assert market.engine.desks["ETH"].resting_from == []


class TestLimits:
    def test_a_venue_limit_cuts_one_leg_and_the_rest_goes_elsewhere(self) -> None:
        market = Market(taker_bps=(4.0, 5.0, 6.0), venue_limits={"a": 4_000.0})
        assert market.orders() == {"A": -20, "B": -70}

    def test_two_instruments_of_one_venue_share_its_limit(self) -> None:
        other = msgspec.structs.replace(B, venue="a")
        market = Market(A, other, C, taker_bps=(4.0, 4.0, 6.0), venue_limits={"a": 4_000.0})
        market.books["ETH-A"] = market.books["ETH-B"] = (0.5, 1.5)
        lots = market.orders()
        assert sum(lots.get(name, 0) for name in "AB") >= -20
        for intent in [order.intent for order in list(market.engine.orders.live.values())]:
            market.fill(intent)
        rest = market.orders()
        assert set(rest) == {"C"}
        assert sum(lots.values()) + sum(rest.values()) == -90

    @pytest.mark.parametrize("limit", [{"max_order_quote": 6_001.0}, {"max_order_base": 3.0}])
    def test_each_order_keeps_to_the_largest_allowed(self, limit: dict[str, float]) -> None:
        market = Market(taker_bps=(4.0, 5.0, 6.0), limits=msgspec.structs.replace(LIMITS, **limit))
        assert market.orders() == {"A": -30, "B": -30, "C": -30}

    def test_the_order_rate_lets_the_largest_legs_go_first(self) -> None:
        market = thin(4.0, 3.0, 3.0, limits=msgspec.structs.replace(LIMITS, max_orders_per_min=2))
        assert market.orders() == {"A": -40, "B": -30}
        assert market.orders() == {}
        assert market.decision.refusal is R.ORDER_RATE
        assert market.orders(after_s=61.0) == {"A": -20}

    def test_orders_of_one_decision_count_as_one_hedge_against_loops(self) -> None:
        limits = msgspec.structs.replace(LIMITS, max_hedges_same_way=3)
        market = thin(4.0, 3.0, 3.0, limits=limits)
        for _ in range(2):
            for intent in market.intents():
                market.cancel(intent)
        assert market.engine.state is BotState.RUNNING
        assert len(market.orders()) == 3

    def test_a_leg_below_its_minimum_is_no_leg(self) -> None:
        picky = perpetual("B", min_quote=9_000.0)
        market = Market(A, picky, C, taker_bps=(4.0, 4.0, 4.0))
        market.books["ETH-A"] = (0.5, 6.0)
        market.books["ETH-B"] = market.books["ETH-C"] = (0.5, 2.0)
        lots = market.orders()
        assert "B" not in lots
        assert sum(lots.values()) == -90

    def test_a_need_below_every_minimum_is_raised_where_the_band_allows(self) -> None:
        a, b = perpetual("A", min_lots=15), perpetual("B", min_lots=12)
        market = Market(a, b, coins=2.0, taker_bps=(5.0, 4.0))
        intent = only_intent(market.tick())
        assert (intent.instrument_id, intent.qty_lots) == ("ETH-B", -12)
        assert "raised from -10 lots" in intent.reason

    def test_what_a_price_collar_keeps_out_goes_elsewhere(self) -> None:
        market = Market(taker_bps=(1.0, 5.0, 6.0), coins=0.0)
        market.tick()
        market.mids["ETH-A"] = 1_950.0
        market.engine.desks["ETH"].book.coin_cash = 10.0
        assert market.orders() == {"B": -90}

    def test_reduce_only_still_splits_what_shrinks(self) -> None:
        market = thin(4.0, 3.0, 3.0)
        market.operate(OperatorAction.RESUME)
        market.operate(OperatorAction.REDUCE_ONLY)
        assert sum(market.orders().values()) == -90

    def test_reduce_only_holds_in_the_lots_of_whatever_is_traded(self) -> None:
        """In the finest lot a quarter of a coin shrinks net delta; four coins at once would more than turn it."""

        class Skewed:
            name = "skewed"
            needs_offers = False

            def target(self, _view: HedgeView) -> HedgeTarget:
                return HedgeTarget.to_edge(-3.0, 1.0, "skewed")

        coarse, picky = perpetual("A", contract_size=40.0), perpetual("B", min_lots=60)
        for is_reduce_only, lots in ((False, {"A": -1}), (True, {})):
            market = Market(coarse, picky, coins=1.25, taker_bps=(1.0, 50.0), policy=Skewed())
            if is_reduce_only:
                market.operate(OperatorAction.REDUCE_ONLY)
            assert market.orders() == lots


class TestFaults:
    def test_a_venue_that_is_down_gets_nothing_and_the_others_its_part(self) -> None:
        market = thin(4.0, 3.0, 3.0)
        market.tell("b", VenueHealth.DOWN)
        lots = market.orders()
        assert set(lots) == {"A", "C"}
        assert sum(lots.values()) == -90

    def test_a_venue_that_goes_down_with_its_leg_under_way_is_waited_for(self) -> None:
        market = thin(4.0, 3.0, 3.0)
        intents = {intent.instrument_id: intent for intent in market.intents()}
        market.tell("b", VenueHealth.DOWN)
        assert market.orders() == {}
        market.cancel(intents["ETH-B"])  # it never filled
        again = market.orders()
        assert set(again) <= {"A", "C"}
        assert sum(again.values()) == -30

    def test_a_rejected_leg_is_decided_anew_and_elsewhere_at_once(self) -> None:
        market = thin(4.0, 3.0, 3.0)
        intents = {intent.instrument_id: intent for intent in market.intents()}
        for name in ("ETH-A", "ETH-C"):
            market.fill(intents[name])
        market.reject(intents["ETH-B"])
        (again,) = [command.intent for command in market.decide() if isinstance(command, SubmitOrder)]
        assert again.qty_lots == -30
        assert again.instrument_id in {"ETH-A", "ETH-C"}

    def test_a_leg_of_unknown_outcome_keeps_its_interval(self) -> None:
        market = thin(4.0, 3.0, 3.0)
        intents = {intent.instrument_id: intent for intent in market.intents()}
        for name in ("ETH-A", "ETH-C"):
            market.fill(intents[name])
        market.apply(OutcomeLost(intents["ETH-B"].order_id, "timeout", market.now_ns))
        assert market.orders() == {}
        assert market.decision.refusal is R.UNKNOWN_OUTCOME
        assert market.decision.delta_high_base - market.decision.delta_low_base == pytest.approx(3.0)

    def test_a_clock_counts_the_hedge_only_if_every_leg_came_through(self) -> None:
        market = thin(4.0, 3.0, 3.0)
        intents = market.intents()
        desk = market.engine.desks["ETH"]
        for intent in intents[:2]:
            market.fill(intent)
        assert desk.last_hedge_ns == intents[0].decided_ns
        market.cancel(intents[2])
        assert desk.last_hedge_ns == 0

    def test_none_left_is_refused_with_every_cause(self) -> None:
        market = Market(A, B, venue_limits={"a": 100.0, "b": 100.0})
        assert market.orders() == {}
        assert market.decision.refusal is R.VENUE_LIMIT
        assert "a: exposure limit" in market.decision.refusal_detail
        assert "b: exposure limit" in market.decision.refusal_detail


def test_the_same_events_make_the_same_orders() -> None:
    def run() -> list[OrderIntent]:
        market = thin(2.0, 1.5, 0.7)
        sent = []
        for second in range(30):
            market.engine.desks["ETH"].book.coin_cash += 1.3 if second % 3 else -4.0
            for intent in market.intents():
                sent.append(intent)
                market.fill(intent)
        return sent

    first = run()
    assert len({intent.instrument_id for intent in first}) == 3
    assert first == run()


def test_a_next_best_that_cannot_be_is_not_told() -> None:
    market = Market(A, B, venue_limits={"b": 2_000.0}, taker_bps=(4.0, 6.0))
    intent = only_intent(market.tick())
    assert intent.instrument_id == "ETH-A"
    assert market.decision.next_best_quote == inf
    assert "next best" not in intent.reason
