"""Sizing for the block an order lands in: every number by hand, then the engine with a pool as its hedge."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, isnan, log, pi, sqrt
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.decisions import HedgeTarget, HedgeView, Legs, Refusal
from bot.domain.events import Command, OperatorAction, QueryOrder, SubmitOrder
from bot.domain.market import ExecutionTerms, GasTier, Quote
from bot.domain.orders import OrderIntent, OrderState, TimeInForce
from bot.domain.units import NS_PER_HOUR, NS_PER_S, NS_PER_YEAR
from bot.engine.inclusion import (
    LEAST_DRIFT_SDS,
    MOST_DRIFT_SDS,
    START_VOL,
    Plan,
    RealizedVol,
    drift_sds,
    expected_tries,
    fixed_cost_quote,
    gamma_weighted_vol,
    plan_order,
    stale_terms_text,
)
from bot.engine.orders import DEADLINE_MARGIN_NS
from bot.engine.settings import HedgeSettings
from bot.pricing.black76 import greeks
from bot.pricing.impulse import (
    band_half_base,
    delta_drift_base,
    delta_sd_base,
    monitored_half_base,
    solve_impulse,
    stop_share,
)
from strategies import DeltaBand, FixedInterval, Impulse, WhalleyWilmott
from tests.engine.builders import PERPETUAL, Driver, linear_perpetual, make_settings, only_intent
from tests.strategies.views import NOW_NS, view

POOL = msgspec.structs.replace(linear_perpetual(lot_base=0.01), instrument_id="chain:WETH-USDC", venue="chain")
HEDGE = HedgeSettings(instrument=POOL, maker_bps=0.0, taker_bps=0.0, max_slippage_bps=50.0, needs_terms=True)
LOT = 0.01
VOL = 0.6
AVERSE = 1e-3
SPOT_PX = 1_900.0
GAMMA = -1.0
COST_RATE = 5e-4
HALF = band_half_base(COST_RATE, SPOT_PX, GAMMA, AVERSE)  # 11.25 ETH
UNIT_QUOTE = COST_RATE * SPOT_PX * HALF  # what trading one half-width costs
CHEAP = GasTier(60_000_000_000, 100_000_000, 4.0, 30.0, 80.0)
FAST = GasTier(63_000_000_000, 3_000_000_000, 7.0, 7.0, 14.0)
QUOTE = Quote(POOL.instrument_id, 1_899.05, 1e3, 1_900.95, 1e3, NOW_NS, NOW_NS, 1)


def make_terms(*tiers: GasTier, now_ns: int = NOW_NS, **changes: Any) -> ExecutionTerms:
    terms = ExecutionTerms(POOL.instrument_id, tiers or (FAST,), 0.0, inf, 12 * NS_PER_S, now_ns, now_ns, 1)
    return msgspec.structs.replace(terms, **changes)


def off_by(delta_base: float, **changes: Any) -> HedgeView:
    """A view with this net delta, that is watched all the time."""
    ends = {"delta_low_base": delta_base, "delta_high_base": delta_base, **changes}
    return view(GAMMA, **{"lot_base": LOT, "cost_rate": COST_RATE, "monitor_years": 0.0, **ends})


def plan(
    delta_base: float,
    terms: ExecutionTerms | None = None,
    *,
    target: HedgeTarget | None = None,
    hedge: HedgeSettings = HEDGE,
    moved_fraction: float = 0.0,
    seen: HedgeView | None = None,
) -> Plan | tuple[Refusal, str]:
    return plan_order(
        target or HedgeTarget.to_edge(-HALF, HALF, "the policy's reason"),
        seen or off_by(delta_base),
        hedge,
        terms or make_terms(),
        QUOTE,
        lot_base=LOT,
        vol=VOL,
        moved_fraction=moved_fraction,
    )


def order(*arguments: Any, **changes: Any) -> Plan:
    found = plan(*arguments, **changes)
    assert isinstance(found, Plan), f"expected an order, found {found}"
    return found


def stop_base(planned: Plan) -> float:
    return planned.target.sell_to_base


# ── the band under gas ───────────────────────────────────────────────────────────────────────────────────────────────


def test_gas_widens_the_trigger_and_moves_the_target_inwards() -> None:
    solved = solve_impulse(FAST.gas_quote / UNIT_QUOTE)
    found = order(25.0)
    assert found.target.high_base == pytest.approx(HALF * solved.trigger_share)
    assert found.target.low_base == -found.target.high_base
    assert stop_base(found) == pytest.approx(HALF * solved.target_share)
    assert found.target.buy_to_base == -stop_base(found)
    drift = delta_drift_base(GAMMA, SPOT_PX, VOL, 7.0 * NS_PER_S / NS_PER_YEAR)
    assert drift > 0.0  # short gamma: delta is expected to rise
    assert found.lots == -round((25.0 + drift - stop_base(found)) / LOT + 0.5)
    assert found.view.delta_low_base == found.view.delta_high_base == 25.0 + drift


IMPULSE = Impulse(risk_aversion_per_quote=AVERSE, centre_term="none")
KNOWN = msgspec.structs.replace(HEDGE, risk_aversion_per_quote=AVERSE)


def test_gas_that_the_policy_has_counted_is_not_counted_again() -> None:
    seen = off_by(25.0, fixed_cost_quote=FAST.gas_quote, vol=VOL)
    band = IMPULSE.target(seen)
    ours = order(25.0)  # the same gas, counted here
    found = order(25.0, target=band, seen=seen, hedge=KNOWN)
    assert found.target == band
    assert (found.target.high_base, stop_base(found)) == pytest.approx((ours.target.high_base, stop_base(ours)))
    assert found.lots == ours.lots


def test_a_shallow_pool_ends_the_trade_of_a_policy_that_counts_gas_further_out() -> None:
    seen = off_by(25.0, fixed_cost_quote=FAST.gas_quote, vol=VOL)
    band = IMPULSE.target(seen)
    shallow = make_terms(depth_base=2e4)
    ours = order(25.0, shallow)
    found = order(25.0, shallow, target=band, seen=seen, hedge=KNOWN)
    assert band.sell_to_base < stop_base(found) < band.high_base
    assert stop_base(found) == pytest.approx(stop_base(ours))
    assert found.target.buy_to_base == band.buy_to_base
    assert "as the pool is no deeper" in found.note


def test_without_gas_the_edge_of_the_policy_stays() -> None:
    free = msgspec.structs.replace(FAST, gas_quote=0.0)
    found = order(25.0, make_terms(free))
    assert (found.target.low_base, found.target.high_base) == pytest.approx((-HALF, HALF))
    assert stop_base(found) == pytest.approx(HALF)


def test_a_trigger_looked_at_now_and_then_is_nearer_by_what_delta_wanders_between() -> None:
    years = 12.0 * NS_PER_S / NS_PER_YEAR
    found = order(25.0, seen=off_by(25.0, monitor_years=years))
    wide = HALF * solve_impulse(FAST.gas_quote / UNIT_QUOTE).trigger_share
    step = delta_sd_base(GAMMA, SPOT_PX, VOL, years)
    assert found.target.high_base == pytest.approx(monitored_half_base(wide, step))
    assert found.target.high_base < wide


def test_failures_make_gas_dearer() -> None:
    failing = make_terms(revert_fraction=0.5)
    assert expected_tries(failing) == 2.0
    assert fixed_cost_quote(make_terms(CHEAP, FAST, revert_fraction=0.5)) == 8.0
    solved = solve_impulse(2.0 * FAST.gas_quote / UNIT_QUOTE)
    assert order(30.0, failing).target.high_base == pytest.approx(HALF * solved.trigger_share)
    assert expected_tries(make_terms(revert_fraction=1.0)) == pytest.approx(10.0)  # bounded


@pytest.mark.parametrize("delta", [HALF + 0.1, -HALF - 0.1, 1.2 * HALF])
def test_between_the_bands_gas_is_more_than_hedging_saves(delta: float) -> None:
    found = plan(delta)
    assert not isinstance(found, Plan)
    refusal, why = found
    assert refusal is Refusal.GAS_OVER_BENEFIT
    saved = float(why.split("saves ")[1].split()[0])
    cost = float(why.split("costs ")[1].split(",")[0])
    assert saved < cost
    assert "gas 7 of it" in why


@given(st.floats(1.01, 12.0), st.floats(-3.0, 2.0), st.sampled_from([1, -1]))
def test_either_trades_back_to_the_target_or_says_that_it_does_not_pay(off: float, exponent: float, side: int) -> None:
    tier = msgspec.structs.replace(FAST, gas_quote=10.0**exponent)
    solved = solve_impulse(tier.gas_quote / UNIT_QUOTE)
    found = plan(side * off * HALF, make_terms(tier))
    drift = delta_drift_base(GAMMA, SPOT_PX, VOL, 7.0 * NS_PER_S / NS_PER_YEAR)
    predicted = abs(side * off * HALF + drift)
    if predicted <= HALF * solved.trigger_share:
        assert not isinstance(found, Plan)
        assert found[0] is Refusal.GAS_OVER_BENEFIT
    else:
        assert isinstance(found, Plan)
        after = side * (side * off * HALF + drift + found.lots * LOT)
        assert after == pytest.approx(HALF * solved.target_share, abs=1.01 * LOT)


def test_a_policy_that_says_itself_where_to_trade_to_is_obeyed() -> None:
    centre = HedgeTarget.to_centre(-1.0, 1.0, 0.0, "by the clock")
    found = order(2.0, target=centre)
    assert found.target == centre
    assert found.lots == -round(found.view.delta_low_base / LOT + 0.5)
    assert "leaves the band as the policy has it" in found.note
    flattening = HedgeTarget(-inf, 1.995, -inf, 1.5, 1.0, "flattening")
    assert order(2.0, target=flattening).lots == -round((found.view.delta_low_base - 1.5) / LOT + 0.5)


def test_what_may_be_in_flight_is_served_at_both_ends() -> None:
    found = order(0.0, seen=off_by(0.0, delta_low_base=25.0, delta_high_base=40.0))
    assert found.lots == order(25.0).lots
    assert found.view.delta_high_base - found.view.delta_low_base == pytest.approx(15.0)


def test_a_band_narrower_than_a_lot_is_taken_for_one_of_a_lot() -> None:
    point = HedgeTarget.to_edge(0.0, 0.0, "a point")
    solved = solve_impulse(FAST.gas_quote / (COST_RATE * SPOT_PX * LOT))
    assert order(5.0, target=point).target.high_base == pytest.approx(LOT * solved.trigger_share)


# ── fee ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_fee_is_the_one_of_least_total_cost() -> None:
    both = make_terms(CHEAP, FAST)
    years = 23.0 * NS_PER_S / NS_PER_YEAR
    a = 0.5 * AVERSE * (VOL * SPOT_PX) ** 2
    for delta in (20.0, 50.0, 400.0):
        found = order(delta, both)
        saved_by_speed = a * (delta * delta - stop_base(found) ** 2) * years
        expected = FAST if saved_by_speed > FAST.gas_quote - CHEAP.gas_quote else CHEAP
        assert found.gas.tip_wei == expected.tip_wei
        assert found.gas.max_fee_wei == expected.max_fee_wei
        assert found.gas.gas_quote == expected.gas_quote
    assert order(20.0, both).gas.tip_wei == CHEAP.tip_wei
    assert order(400.0, both).gas.tip_wei == FAST.tip_wei


def test_the_risk_aversion_of_the_settings_counts_before_the_implied_one() -> None:
    bold = msgspec.structs.replace(HEDGE, risk_aversion_per_quote=1e-7)
    assert order(400.0, make_terms(CHEAP, FAST), hedge=bold).gas.tip_wei == CHEAP.tip_wei


def test_a_tier_that_pays_is_taken_though_a_dearer_one_would_not() -> None:
    dear = msgspec.structs.replace(FAST, gas_quote=1_000.0)
    assert order(25.0, make_terms(CHEAP, dear)).gas.tip_wei == CHEAP.tip_wei


def test_the_bid_is_void_after_the_delay_most_keep_and_two_blocks_in_whole_seconds() -> None:
    assert order(25.0).gas.deadline_ns == NOW_NS + (14 + 24) * NS_PER_S
    late = order(25.0, seen=off_by(25.0, now_ns=NOW_NS + 1))
    assert late.gas.deadline_ns == NOW_NS + (14 + 24 + 1) * NS_PER_S


# ── limit ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.floats(-3.0, 3.0), st.floats(-3.0, 3.0), st.floats(0.001, 1.0))
def test_the_drift_allowed_weighs_a_revert_against_a_worse_fill(revert: float, sd: float, probability: float) -> None:
    revert_quote, sd_quote = 10.0**revert, 10.0**sd
    found = drift_sds(revert_quote, sd_quote, probability)
    grid = np.linspace(0.0, 6.0, 6_001)
    density = np.exp(-0.5 * grid * grid) / sqrt(2.0 * pi)
    beyond = 0.5 - np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1])) * (grid[1] - grid[0])])
    within = (grid >= LEAST_DRIFT_SDS) & (grid <= MOST_DRIFT_SDS)
    total = np.where(within, revert_quote * beyond + probability * sd_quote * grid, inf)
    at = float(np.interp(found, grid, np.where(within, total, np.nan)))
    assert at == pytest.approx(float(total.min()), rel=1e-3, abs=1e-6) or isnan(at)
    assert LEAST_DRIFT_SDS <= found <= MOST_DRIFT_SDS


def test_the_limit_leaves_room_for_drift_impact_and_what_moved_already() -> None:
    depth = 500_000.0
    sd = VOL * sqrt(7.0 * NS_PER_S / NS_PER_YEAR)
    for delta, side in ((25.0, -1), (-25.0, 1)):
        found = order(delta, make_terms(depth_base=depth), moved_fraction=side * 1e-4)
        size = abs(found.lots) * LOT
        far_px = QUOTE.ask_px if side > 0 else QUOTE.bid_px
        off = abs(found.view.delta_low_base)
        years = 7.0 * NS_PER_S / NS_PER_YEAR
        revert = FAST.gas_quote + 0.5 * AVERSE * (VOL * SPOT_PX) ** 2 * (off**2 - stop_base(found) ** 2) * years
        sds = drift_sds(revert, size * far_px * sd, HEDGE.worse_fill_probability)
        slip = sds * sd + size / depth + 1e-4
        px = POOL.tick_schedule.px(found.limit_ticks)
        assert (px / far_px - 1.0) * side == pytest.approx(slip, abs=0.011 / far_px)
        still = order(delta, make_terms(depth_base=depth), moved_fraction=-side * 1e-4)
        still_px = POOL.tick_schedule.px(still.limit_ticks)
        assert (px - still_px) * side == pytest.approx(1e-4 * far_px, abs=0.011)  # a move in our favour changes nothing


def test_the_limit_leaves_room_for_what_is_under_way_and_meets_the_pool_first() -> None:
    terms = make_terms(depth_base=500_000.0)

    def limit_px(pending_base: float) -> float:
        found = order(25.0, terms, seen=off_by(25.0, pending_base=pending_base))
        return POOL.tick_schedule.px(found.limit_ticks)

    assert limit_px(0.0) - limit_px(-50.0) == pytest.approx(50.0 / 500_000.0 * QUOTE.bid_px, abs=0.011)
    assert limit_px(0.0) == limit_px(50.0)  # the other way it can only help


def test_the_limit_is_wider_where_a_revert_is_dear_and_never_beyond_the_vaults() -> None:
    def slip(**changes: Any) -> float:
        return 1.0 - POOL.tick_schedule.px(order(30.0, **changes).limit_ticks) / QUOTE.bid_px

    dear = make_terms(msgspec.structs.replace(FAST, gas_quote=15.0))
    assert slip(terms=dear) > slip(terms=make_terms(msgspec.structs.replace(FAST, gas_quote=0.01)))
    slow = make_terms(msgspec.structs.replace(FAST, delay_mean_s=70.0))
    assert slip(terms=slow) > 2.0 * slip()
    tight = msgspec.structs.replace(HEDGE, max_slippage_bps=1.0)
    assert slip(terms=slow, hedge=tight) == pytest.approx(1e-4, abs=0.011 / SPOT_PX)
    assert "bounded from" in order(30.0, slow, hedge=tight).note
    private = msgspec.structs.replace(HEDGE, worse_fill_probability=0.0)
    sd = VOL * sqrt(7.0 * NS_PER_S / NS_PER_YEAR)
    assert slip(hedge=private) == pytest.approx(MOST_DRIFT_SDS * sd, abs=0.011 / SPOT_PX)


# ── depth ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_large_trade_stops_earlier_as_it_moves_the_pool() -> None:
    depth = 60_000.0
    found = order(60.0, make_terms(depth_base=depth))
    solved = solve_impulse(FAST.gas_quote / UNIT_QUOTE)
    off = found.view.delta_low_base / HALF
    assert stop_base(found) == pytest.approx(HALF * stop_share(off, HALF / (depth * COST_RATE), solved))
    assert stop_base(found) > stop_base(order(60.0))


def test_a_trade_never_takes_more_than_half_the_slippage_by_itself() -> None:
    found = order(100.0, make_terms(depth_base=10_000.0))
    assert found.lots == -round(0.5 * 50e-4 * 10_000.0 / LOT)
    assert "cut from -" in found.note


# ── horizon ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def one_leg(tau_years: float, qty_base: float = -100.0, vol: float = VOL) -> Legs:
    one = np.ones(1)
    return Legs(SPOT_PX * one, SPOT_PX * one, tau_years * one, vol * one, qty_base * one, one > 0)


def test_no_gas_is_paid_for_an_option_that_is_as_good_as_over() -> None:
    minute = 60.0 * NS_PER_S / NS_PER_YEAR
    last = plan(25.0, seen=off_by(25.0, legs=one_leg(0.1 * minute)))
    assert not isinstance(last, Plan)
    assert last[0] is Refusal.GAS_OVER_BENEFIT
    assert "until the last option expires" in last[1]
    assert order(25.0, seen=off_by(25.0, legs=one_leg(60 * minute)))


def test_a_band_that_is_only_a_lot_tells_nothing_of_the_risk_aversion() -> None:
    minute = 60.0 * NS_PER_S / NS_PER_YEAR
    flat = off_by(25.0, legs=one_leg(minute))
    flat = msgspec.structs.replace(flat, greeks=msgspec.structs.replace(flat.greeks, gamma_base_per_px=1e-9))
    lot_band = HedgeTarget.to_edge(-LOT, LOT, "a lot")
    assert order(25.0, seen=flat, target=lot_band).lots < 0


# ── vol and age ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_realized_vol_forgets_its_start_and_finds_the_true_one() -> None:
    found = RealizedVol()
    assert found.vol == START_VOL
    rng = np.random.default_rng(7)
    px, now_ns = 2_000.0, NOW_NS
    step_s = 15.0
    for _ in range(4_000):
        found.note(px, now_ns)
        now_ns += round(step_s * NS_PER_S)
        px *= exp(0.4 * sqrt(step_s * NS_PER_S / NS_PER_YEAR) * rng.standard_normal())
    assert found.vol == pytest.approx(0.4, rel=0.15)


def test_realized_vol_by_hand_and_not_more_often_than_every_ten_seconds() -> None:
    found = RealizedVol()
    found.note(2_000.0, NOW_NS)
    found.note(2_100.0, NOW_NS + 9 * NS_PER_S)
    assert found.vol == START_VOL
    found.note(2_020.0, NOW_NS + NS_PER_HOUR)
    hour_variance = log(2_020.0 / 2_000.0) ** 2 * (NS_PER_YEAR / NS_PER_HOUR)
    assert found.vol == pytest.approx(sqrt(0.5 * START_VOL**2 + 0.5 * hour_variance))


def test_the_vol_of_a_book_is_that_of_its_gamma() -> None:
    legs = Legs(
        np.full(3, 1_900.0),
        np.array([1_900.0, 2_100.0, 1_900.0]),
        np.array([0.02, 0.3, 0.0]),
        np.array([0.5, 0.9, 5.0]),
        np.array([-10.0, 20.0, 1e6]),
        np.array([True, False, True]),
    )
    weights = [
        10.0 * float(greeks(1_900.0, 1_900.0, 0.02, 0.5, True).gamma),
        20.0 * float(greeks(1_900.0, 2_100.0, 0.3, 0.9, False).gamma),
    ]
    expected = (weights[0] * 0.5 + weights[1] * 0.9) / sum(weights)
    assert gamma_weighted_vol(legs) == pytest.approx(expected)  # the expired leg has none
    known = greeks(legs.forward_px, legs.strike_px, legs.tau_years, legs.vol, legs.is_call).gamma
    assert gamma_weighted_vol(legs, known) == pytest.approx(expected)
    assert isnan(gamma_weighted_vol(view().legs))


def test_terms_are_stale_after_five_blocks_but_never_before_three_seconds() -> None:
    slow, fast = make_terms(), make_terms(block_ns=NS_PER_S // 4)
    assert stale_terms_text(slow, "pool", NOW_NS + 60 * NS_PER_S) == ""
    assert stale_terms_text(slow, "pool", NOW_NS + 61 * NS_PER_S) == "terms of pool are 61.0 s old, limit 60.0 s"
    assert stale_terms_text(fast, "pool", NOW_NS + 3 * NS_PER_S) == ""
    assert "limit 3.0 s" in stale_terms_text(fast, "pool", NOW_NS + 4 * NS_PER_S)
    assert "no terms of trading pool yet" in stale_terms_text(None, "pool", NOW_NS)


# ── the engine ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Chain(Driver):
    """A vault whose hedge is a pool, then a perpetual if asked for."""

    def __init__(self, *, backup: bool = False, hedge: HedgeSettings = HEDGE, **changes: Any) -> None:
        hedges = (hedge, HedgeSettings(instrument=PERPETUAL, maker_bps=0.0, taker_bps=5.0)) if backup else (hedge,)
        super().__init__(make_settings(hedges={"ETH": hedges}, policy=DeltaBand(half_width_base=1.0), **changes))

    def block(self, px: float = 2_000.0, *, after_s: float = 12.0, gas_quote: float = 0.05) -> list[Command]:
        """Let a block come, with fresh terms."""
        self.wait(after_s)
        self.show(px)
        tier = msgspec.structs.replace(FAST, gas_quote=gas_quote)
        self._seq += 1
        self.apply(make_terms(tier, now_ns=self.now_ns, seq=self._seq))
        return self.decide()

    def only_order(self, commands: list[Command]) -> OrderIntent:
        return only_intent(commands)

    @property
    def refusal(self) -> tuple[Refusal | None, str]:
        decision = self.engine.desks["ETH"].decision
        assert decision is not None
        return decision.refusal, decision.refusal_detail


def test_an_order_on_a_pool_says_what_it_may_pay_and_why() -> None:
    chain = Chain()
    chain.block()
    intent = chain.only_order(chain.block(2_100.0))
    assert intent.instrument_id == POOL.instrument_id
    assert intent.time_in_force is TimeInForce.IOC
    assert intent.gas is not None
    assert intent.gas.deadline_ns > chain.now_ns
    for words in (
        "gas 0.05 (3 gwei tip, 1.00 tries)",
        "in 7 s delta drifts",
        "limit",
        "a revert costs",
        "void after 38 s",
    ):
        assert words in intent.reason
    assert chain.engine.desks["ETH"].view(chain.now_ns, chain.engine.orders, HEDGE).fixed_cost_quote == pytest.approx(
        0.05
    )


def test_without_terms_nothing_is_sent_where_they_are_needed_and_all_is_as_before_where_they_are_not() -> None:
    chain = Chain()
    assert chain.tick(2_100.0) == []
    assert chain.refusal[0] is Refusal.STALE_TERMS
    plain = Chain(hedge=msgspec.structs.replace(HEDGE, needs_terms=False))
    intent = only_intent(plain.tick(2_100.0))
    assert intent.gas is None
    assert b"gas" not in msgspec.json.encode(intent).replace(b"gas in", b"")
    assert plain.engine.desks["ETH"].view(plain.now_ns, plain.engine.orders, HEDGE).fixed_cost_quote == 0.0


def test_stale_terms_send_the_hedge_elsewhere() -> None:
    chain = Chain(backup=True)
    chain.block(2_000.0)
    chain.wait(90.0)
    chain.show(2_100.0)
    intent = only_intent(chain.decide())
    assert intent.instrument_id == PERPETUAL.instrument_id
    assert intent.gas is None
    assert "stale_terms: terms of chain:WETH-USDC are 90.0 s old, limit 60.0 s" in intent.reason


def test_gas_over_benefit_is_refused_with_numbers_and_goes_elsewhere_if_it_can() -> None:
    chain = Chain()
    assert chain.block(2_100.0, gas_quote=1e5) == []
    refusal, why = chain.refusal
    assert refusal is Refusal.GAS_OVER_BENEFIT
    assert "hedging now saves" in why
    assert "gas 1e+05 of it" in why
    both = Chain(backup=True, routing="preference")
    intent = only_intent(both.block(2_100.0, gas_quote=1e5))
    assert intent.instrument_id == PERPETUAL.instrument_id
    assert "gas_over_benefit" in intent.reason


def test_what_is_pending_is_never_ordered_again_and_not_doubted_before_its_deadline() -> None:
    chain = Chain()
    intent = chain.only_order(chain.block(2_100.0))
    chain.accept(intent)
    for _ in range(2):  # blocks that do not take it
        assert chain.block(2_100.0) == []
        assert chain.engine.orders.orders[intent.order_id].state is OrderState.OPEN
    more = chain.only_order(chain.block(2_200.0))  # only what the move since then adds
    held = chain.engine.desks["ETH"].decision
    assert held is not None
    assert held.pending_base == pytest.approx(intent.qty_lots * LOT)
    assert more.qty_lots * LOT < -held.greeks.delta_base - held.pending_base  # and not what was under way
    chain.accept(more)
    chain.wait(60.0)
    assert [one for one in chain.decide() if isinstance(one, QueryOrder)] == []
    chain.wait(DEADLINE_MARGIN_NS / NS_PER_S)
    queries = [one for one in chain.decide() if isinstance(one, QueryOrder)]
    assert {one.order_id for one in queries} == {intent.order_id, more.order_id}


def test_a_failed_transaction_is_followed_by_a_fresh_decision() -> None:
    chain = Chain()
    intent = chain.only_order(chain.block(2_100.0))
    chain.accept(intent)
    chain.cancel(intent, is_expired=True)
    again = chain.only_order(chain.block(2_100.0))
    assert again.qty_lots == pytest.approx(intent.qty_lots, abs=20)
    assert again.order_id != intent.order_id


def test_the_vol_is_that_of_the_options_and_without_them_that_of_the_index() -> None:
    chain = Chain()
    chain.block()
    assert chain.engine.desks["ETH"].vol() == pytest.approx(0.6)
    bare = Chain(book=(), cash={"ETH": 0.1})
    for step in range(400):
        bare.block(2_000.0 * (1.0 + 1e-4 * (step % 2)))
    quiet = 1e-4 / sqrt(12.0 * NS_PER_S / NS_PER_YEAR)
    left_share = 2.0 ** (-399 * 12 / 3600)
    expected = sqrt(quiet**2 + (START_VOL**2 - quiet**2) * left_share)
    assert bare.engine.desks["ETH"].vol() == pytest.approx(expected, rel=1e-3)


def test_policies_of_every_kind_hedge_through_a_pool() -> None:
    for policy in (
        DeltaBand(half_width_base=1.0, trade_to="centre"),
        FixedInterval(interval_s=60.0),
        WhalleyWilmott(risk_aversion_per_quote=1e-2),
        Impulse(risk_aversion_per_quote=1e-2),
    ):
        chain = Chain()
        chain.engine.settings = msgspec.structs.replace(chain.engine.settings, policy=policy)
        commands = chain.block(2_150.0)
        assert [type(one) for one in commands] == [SubmitOrder], f"{policy.name}: {chain.refusal}"


def test_the_same_events_give_the_same_bytes() -> None:
    def run() -> list[bytes]:
        chain = Chain(backup=True)
        commands = [chain.block(px) for px in (2_000.0, 2_050.0, 2_100.0, 2_020.0)]
        return [msgspec.json.encode(one) for batch in commands for one in batch]

    first = run()
    assert first == run()
    assert first


@dataclass(frozen=True)
class Fixed:
    """A policy of one unchanging band, traded to its edge."""

    low_base: float
    high_base: float
    name: str = "fixed"

    def target(self, view: HedgeView) -> HedgeTarget:  # noqa: ARG002 (the protocol's signature)
        return HedgeTarget(self.low_base, self.high_base, self.low_base, self.high_base, 0.0, "fixed")


@pytest.mark.parametrize(("is_reducing", "lots"), [(False, -207), (True, -150)])
def test_what_may_only_shrink_is_not_traded_past_the_edge(*, is_reducing: bool, lots: int) -> None:
    """Gas pays for a trade further inwards; from +1 to −1.07 it would have made the exposure larger."""
    settings = make_settings((), hedges={"ETH": (HEDGE,)}, cash={"ETH": 1.0}, policy=Fixed(-3.0, -0.5))
    driver = Driver(settings)
    driver.wait(1.0)
    driver.show()
    if is_reducing:
        driver.operate(OperatorAction.REDUCE_ONLY)
    cheap = msgspec.structs.replace(FAST, gas_quote=0.05)
    driver.apply(make_terms(cheap, now_ns=driver.now_ns, depth_base=1e6))
    assert only_intent(driver.decide()).qty_lots == lots
