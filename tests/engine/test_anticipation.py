"""Slow orders: how long they take, where net delta will be once they fill, and what is not sent beside them."""

from __future__ import annotations

from math import exp, nan, sqrt
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy.special import ndtr

from bot.domain.decisions import Refusal
from bot.domain.market import ExecutionTerms, GasTier
from bot.domain.orders import GasBid, OrderIntent, TimeInForce
from bot.domain.units import NS_PER_HOUR, NS_PER_MS, NS_PER_S, NS_PER_YEAR
from bot.engine.anticipation import FillLatencies, anticipated_drift_base, find_outstanding
from bot.engine.desk import Desk
from bot.engine.inclusion import Plan, plan_order
from bot.engine.orders import Order, OrderTracker
from bot.engine.settings import HedgeSettings
from bot.pricing.impulse import delta_drift_base
from strategies import DeltaBand
from tests.engine.builders import (
    CALL,
    PERPETUAL,
    PUT,
    T0_NS,
    Driver,
    linear_perpetual,
    make_fill,
    make_intent,
    make_settings,
    only_intent,
)
from tests.strategies.views import view

HEDGE = HedgeSettings(instrument=PERPETUAL, maker_bps=0.0, taker_bps=5.0)
ONE = msgspec.structs.replace(HEDGE, one_outstanding=True)
POOL = msgspec.structs.replace(linear_perpetual(lot_base=0.01), instrument_id="chain:WETH-USDC", venue="chain")
ON_CHAIN = HedgeSettings(instrument=POOL, maker_bps=0.0, taker_bps=0.0, max_slippage_bps=50.0, needs_terms=True)
TIER = GasTier(60_000_000_000, 100_000_000, 0.05, 7.0, 14.0)


def terms(*tiers: GasTier, now_ns: int = T0_NS) -> ExecutionTerms:
    return ExecutionTerms(POOL.instrument_id, tiers, 0.0, float("inf"), 12 * NS_PER_S, now_ns, now_ns, 1)


def note(latencies: FillLatencies, elapsed_ns: int, venue: str = "sim", **changes: Any) -> None:
    order = Order(make_intent(**changes))
    latencies.note(venue, order, make_fill(order.intent, "t1", now_ns=T0_NS + elapsed_ns))


def years_of(seconds: float) -> float:
    return seconds * NS_PER_S / NS_PER_YEAR


def desk_of(driver: Driver) -> Desk:
    return driver.engine.desks["ETH"]


def seen(driver: Driver, hedge: HedgeSettings = HEDGE) -> Any:
    return desk_of(driver).view(driver.now_ns, driver.engine.orders, hedge)


# ── how long orders take ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_latency_of_a_venue_is_the_mean_of_its_fills() -> None:
    latencies = FillLatencies()
    assert latencies.years("sim", None) == 0.0
    for elapsed_ms in (40, 50, 60):
        note(latencies, elapsed_ms * NS_PER_MS)
    note(latencies, 900 * NS_PER_MS, venue="other")
    assert latencies.years("sim", None) == pytest.approx(years_of(0.05))
    assert latencies.years("other", None) == pytest.approx(years_of(0.9))


def test_it_follows_a_venue_that_becomes_slow_but_not_one_answer_after_an_outage() -> None:
    latencies = FillLatencies()
    for _ in range(40):
        note(latencies, 50 * NS_PER_MS)
    note(latencies, NS_PER_HOUR)
    assert latencies.years("sim", None) == pytest.approx(years_of(0.05 * 1.1))  # as four times the mean, one in thirty
    for _ in range(200):
        note(latencies, 200 * NS_PER_MS)
    assert latencies.years("sim", None) == pytest.approx(years_of(0.2), rel=0.01)


def test_what_rests_says_nothing_of_the_venue_and_clocks_may_disagree() -> None:
    latencies = FillLatencies()
    note(latencies, NS_PER_HOUR, time_in_force=TimeInForce.POST_ONLY)
    assert latencies.years("sim", None) == 0.0
    note(latencies, -5 * NS_PER_MS)
    assert latencies.years("sim", None) == 0.0


def test_for_a_block_its_terms_say_how_long_whatever_was_measured() -> None:
    latencies = FillLatencies()
    note(latencies, 50 * NS_PER_MS, venue="chain")
    dear = msgspec.structs.replace(TIER, gas_quote=1.0, delay_mean_s=2.0)
    assert latencies.years("chain", terms(dear, TIER)) == pytest.approx(years_of(7.0))


def test_inclusion_by_chance_takes_one_over_p_blocks() -> None:
    """Played: transactions that each block of 12 s takes with p = 0.25."""
    rng = np.random.default_rng(4)
    latencies, found = FillLatencies(), []
    for seconds in 12.0 * rng.geometric(0.25, 3_000):
        note(latencies, round(seconds * NS_PER_S), venue="chain")
        found.append(latencies.years("chain", None))
    assert np.mean(found) == pytest.approx(years_of(48.0), rel=0.05)
    assert np.std(found[100:]) < 0.2 * years_of(48.0)


# ── where net delta will be ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_drift_is_what_delta_does_on_average_and_not_charm() -> None:
    """S = 95, K = 100, five days, 60 %, four hours: exactly −7.327e-4, the formula −7.333e-4, charm · L −4.0e-3."""
    spot, strike, vol, tau, ahead = 95.0, 100.0, 0.6, 5.0 / 365.0, 4.0 / 8760.0
    dev = vol * sqrt(tau)
    d1 = np.log(spot / strike) / dev + 0.5 * dev
    gamma = exp(-0.5 * d1 * d1) / sqrt(2.0 * np.pi) / (spot * dev)
    formula = anticipated_drift_base(gamma, spot, vol, ahead, tau, 1e-6)
    assert formula == pytest.approx(-7.333e-4, rel=1e-3)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    later = spot * np.exp(vol * sqrt(ahead) * nodes - 0.5 * vol * vol * ahead)
    left = vol * sqrt(tau - ahead)
    deltas = ndtr(np.log(later / strike) / left + 0.5 * left)
    exact = float(weights @ deltas / weights.sum() - ndtr(d1))
    assert exact == pytest.approx(-7.327e-4, rel=1e-3)
    assert formula == pytest.approx(exact, rel=2e-3)


def test_a_drift_that_changes_no_order_is_none_and_none_goes_beyond_an_expiry() -> None:
    fast, slow = years_of(0.05), years_of(4 * 3600)
    assert anticipated_drift_base(-0.12, 1_900.0, 0.6, fast, 0.08, 0.1) == 0.0
    far = anticipated_drift_base(-0.12, 1_900.0, 0.6, slow, 0.08, 0.1)
    assert far == delta_drift_base(-0.12, 1_900.0, 0.6, slow) > 0.0
    near = years_of(3600)
    assert anticipated_drift_base(-0.12, 1_900.0, 0.6, slow, near, 0.001) == pytest.approx(far / 4.0)
    assert anticipated_drift_base(nan, 1_900.0, 0.6, slow, 0.08, 0.1) == 0.0


def test_a_desk_measures_its_venue_and_looks_ahead_once_that_is_slow() -> None:
    driver = Driver(make_settings())
    intent = only_intent(driver.tick(2_100.0))
    before = seen(driver)
    assert before.latency_years == 0.0
    driver.wait(4 * 3600.0)
    driver.show(2_100.0)
    driver.fill(intent, px=2_100.0)
    assert desk_of(driver).find_bad_input(driver.now_ns) is None
    after = seen(driver)
    assert after.latency_years == pytest.approx(years_of(4 * 3600))
    drift = delta_drift_base(after.greeks.gamma_base_per_px, after.spot_px, after.vol, after.latency_years)
    assert drift > 0.005  # short gamma: delta is expected to rise
    assert after.delta_low_base == after.delta_high_base == pytest.approx(after.greeks.delta_base + drift)


def test_a_desk_with_a_fast_venue_sees_net_delta_as_it_is() -> None:
    driver = Driver(make_settings())
    intent = only_intent(driver.tick(2_100.0))
    driver.wait(0.05)
    driver.fill(intent, px=2_100.0)
    driver.show(2_100.0)
    assert desk_of(driver).find_bad_input(driver.now_ns) is None
    after = seen(driver)
    assert after.latency_years == pytest.approx(years_of(0.05))
    assert after.delta_low_base == after.delta_high_base == after.greeks.delta_base


def test_a_second_part_of_an_order_is_not_measured() -> None:
    driver = Driver(make_settings())
    intent = only_intent(driver.tick(2_100.0))
    driver.wait(0.05)
    driver.fill(intent, lots=1, px=2_100.0)
    driver.wait(600.0)
    driver.fill(intent, lots=1, px=2_100.0)
    driver.show(2_100.0)
    assert desk_of(driver).find_bad_input(driver.now_ns) is None
    assert seen(driver).latency_years == pytest.approx(years_of(0.05))


@pytest.mark.parametrize("delay_s", [7.0, 3_600.0])
def test_what_the_view_looked_ahead_is_not_added_again_for_a_block(delay_s: float) -> None:
    """The order a block needs is the same whether the view has carried net delta on or the plan does."""
    tier = msgspec.structs.replace(TIER, delay_mean_s=delay_s, delay_p95_s=2.0 * delay_s)
    gamma, spot, vol = -1.0, 1_900.0, 0.6
    plain = {"lot_base": 0.01, "monitor_years": 0.0, "vol": vol, "tau_years": 0.05}
    drift = anticipated_drift_base(gamma, spot, vol, years_of(delay_s), 0.05, 0.01)
    as_it_is = view(gamma, delta_low_base=25.0, delta_high_base=25.0, **plain)
    ahead = 25.0 + drift
    carried = view(gamma, delta_low_base=ahead, delta_high_base=ahead, latency_years=years_of(delay_s), **plain)
    quote = Driver().quote(POOL, spot)
    target = DeltaBand(half_width_base=10.0).target(as_it_is)
    plans = [
        plan_order(target, one, ON_CHAIN, terms(tier), quote, lot_base=0.01, vol=vol, moved_fraction=0.0)
        for one in (as_it_is, carried)
    ]
    first, second = plans
    assert isinstance(first, Plan)
    assert isinstance(second, Plan)
    assert first.lots == second.lots < 0
    assert first.view.delta_low_base == pytest.approx(second.view.delta_low_base, rel=1e-12)
    assert first.note == second.note


# ── what is not sent meanwhile ───────────────────────────────────────────────────────────────────────────────────────


def test_one_outstanding_sends_nothing_new_before_the_last_order_is_over() -> None:
    driver = Driver(make_settings(hedge=ONE))
    first = only_intent(driver.tick(2_100.0))
    driver.accept(first)
    assert driver.tick(2_300.0) == []
    decision = desk_of(driver).decision
    assert decision is not None
    assert decision.refusal is Refusal.ORDER_IN_FLIGHT
    assert decision.refusal_detail == f"order {first.order_id} is open; one outstanding at a time"
    driver.fill(first, px=2_300.0)
    more = only_intent(driver.tick(2_300.0))
    assert more.order_id != first.order_id


def test_elsewhere_a_further_move_is_served_while_the_first_order_is_pending() -> None:
    driver = Driver(make_settings(hedge=HEDGE))
    first = only_intent(driver.tick(2_100.0))
    driver.accept(first)
    more = only_intent(driver.tick(2_300.0))
    assert more.order_id != first.order_id
    decision = desk_of(driver).decision
    assert decision is not None
    assert decision.pending_base == pytest.approx(first.qty_lots * PERPETUAL.lot_base(2_300.0))


def test_a_transaction_past_its_deadline_holds_up_those_behind_it() -> None:
    intent = msgspec.structs.replace(make_intent(instrument=POOL), gas=GasBid(1, 1, 0.05, T0_NS + 60 * NS_PER_S))
    tracker = OrderTracker()
    tracker.intend(intent)

    def why(now_ns: int, name: str = POOL.instrument_id, *, is_one_only: bool = False) -> str:
        return find_outstanding(tracker.live.values(), now_ns, name, is_one_only=is_one_only)

    assert why(T0_NS + 50 * NS_PER_S) == ""
    assert (
        why(T0_NS + 50 * NS_PER_S, is_one_only=True)
        == f"order {intent.order_id} is intended; one outstanding at a time"
    )
    stuck = f"transaction {intent.order_id} is past its deadline and intended; none is sent behind it"
    assert why(T0_NS + 61 * NS_PER_S) == stuck
    assert why(T0_NS + 61 * NS_PER_S, PERPETUAL.instrument_id) == ""


class Chain(Driver):
    """A vault whose only hedge is a pool."""

    def __init__(self) -> None:
        super().__init__(make_settings(hedges={"ETH": (ON_CHAIN,)}, policy=DeltaBand(half_width_base=1.0)))

    def block(self, px: float, after_s: float = 12.0) -> list[Any]:
        """Let a block come, with fresh terms."""
        self.wait(after_s)
        self.show(px)
        self._seq += 1
        self.apply(msgspec.structs.replace(terms(TIER, now_ns=self.now_ns), seq=self._seq))
        return self.decide()


def test_a_reverted_transaction_is_decided_anew_from_how_things_are_then() -> None:
    chain = Chain()
    first = only_intent(chain.block(2_100.0))
    chain.accept(first)
    chain.cancel(first, is_expired=True)  # it failed in its block
    again = only_intent(chain.block(2_070.0))
    assert again.order_id != first.order_id
    assert again.qty_lots == pytest.approx(0.6 * first.qty_lots, rel=0.25)  # the price came back by a third since


def test_behind_a_stuck_transaction_nothing_is_sent_and_once_it_is_over_all_is_well() -> None:
    chain = Chain()
    first: OrderIntent = only_intent(chain.block(2_100.0))
    chain.accept(first)
    assert first.gas is not None
    chain.wait((first.gas.deadline_ns - chain.now_ns) / NS_PER_S)
    assert chain.block(2_300.0) == []
    decision = desk_of(chain).decision
    assert decision is not None
    assert decision.refusal is Refusal.ORDER_IN_FLIGHT
    assert "is past its deadline and open; none is sent behind it" in decision.refusal_detail
    chain.cancel(first)
    assert only_intent(chain.block(2_300.0)).qty_lots > first.qty_lots


def test_the_legs_used_here_are_short_gamma() -> None:
    driver = Driver()
    driver.tick()
    assert {leg.instrument for leg in driver.engine.settings.book} == {CALL, PUT}
    assert seen(driver).greeks.gamma_base_per_px < 0.0
