"""A chain that is watched: blocks are told, inclusion is drawn, a limit holds against the block's own quote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bot.domain.chain import GasPaid
from bot.domain.events import CancelOrder, Event, SubmitOrder
from bot.domain.market import ExecutionTerms, GasTier, Quote
from bot.domain.orders import (
    Fill,
    GasBid,
    OrderAccepted,
    OrderCanceled,
    OrderIntent,
    TimeInForce,
)
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.simulation.chain_venue import CANCEL_GAS_UNITS, REPLACE_AFTER_BLOCKS
from bot.simulation.venue import Latency
from bot.simulation.watched_chain import INCLUSION_SHARES, WatchedChain
from tests import instruments
from tests.simulation.test_chain import POOL

BLOCK_NS = 12 * NS_PER_S
T0_NS = 1_000 * BLOCK_NS
LATENCY = Latency(0, 50 * NS_PER_MS, 100 * NS_PER_MS)
LAG_NS = 700 * NS_PER_MS  # from a block to us
GWEI = 10**9
BASE_FEE_WEI, GAS_UNITS, COIN_PX, DEPTH_BASE = 20 * GWEI, 120_000, 2_000.0, 50_000.0
TIPS_WEI = (GWEI // 10, GWEI, 5 * GWEI)
SURE = GasBid(1_000 * GWEI, 5 * GWEI, 5.0, T0_NS + 1_000 * BLOCK_NS)


def make_chain(seed: int = 1) -> WatchedChain:
    return WatchedChain(POOL.venue, "ETH", [POOL], latency=LATENCY, seed=seed)


def block(
    chain: WatchedChain, number: int, px: float = 2_000.0, *, base_fee_wei: int = BASE_FEE_WEI, at_ns: int | None = None
) -> list[Event]:
    """Let a block come: what it leaves behind, `base_fee_wei` being that of the next; return all that reaches us."""
    ts_ns = T0_NS + number * BLOCK_NS if at_ns is None else at_ns
    recv_ns = T0_NS + number * BLOCK_NS + LAG_NS if at_ns is None else at_ns + LAG_NS
    stamp = ts_ns, recv_ns, number
    tiers = tuple(GasTier(10 * base_fee_wei + tip, tip, 1.0, 12.0, 36.0) for tip in TIPS_WEI)
    terms = (POOL.instrument_id, tiers, 0.02, DEPTH_BASE, BLOCK_NS, *stamp, base_fee_wei, GAS_UNITS, COIN_PX)
    chain.on_market(Quote(POOL.instrument_id, px * 0.9995, 50.0, px * 1.0005, 50.0, *stamp))
    chain.on_market(ExecutionTerms(*terms))
    return chain.advance(recv_ns + LATENCY.response_ns)


def order(lots: int, order_id: str = "run-1", *, limit_px: float = 0.0, gas: GasBid | None = SURE) -> SubmitOrder:
    ticks = POOL.tick_schedule.floor_ticks(limit_px or (2_200.0 if lots > 0 else 1_800.0))
    return SubmitOrder(
        OrderIntent(order_id, POOL.instrument_id, lots, ticks, TimeInForce.IOC, False, "", 2_000.0, T0_NS, gas)
    )


def of_type(events: Sequence[Event], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def until_over(chain: WatchedChain, first: int = 1, count: int = 200) -> tuple[list[Event], int]:
    """Let blocks come until nothing is pending; return what was said, and the number of the last block."""
    events: list[Event] = []
    for number in range(first, first + count):
        events += block(chain, number)
        if not chain.open_orders:
            return events, number
    raise AssertionError("still pending")


def test_a_fill_is_at_the_blocks_quote_and_our_own_impact_and_gas_at_its_base_fee() -> None:
    chain = make_chain()
    block(chain, 0)
    chain.submit(order(300), T0_NS + NS_PER_S)
    events: list[Event] = []
    number = 0
    while not of_type(events, Fill):
        number += 1
        events += block(chain, number, 2_010.0, base_fee_wei=(20 + number) * GWEI)
    (fill,) = of_type(events, Fill)
    assert fill.px == pytest.approx(2_010.0 * 1.0005 * (1.0 + 3.0 / DEPTH_BASE))
    assert fill.ts_event_ns == T0_NS + number * BLOCK_NS
    assert fill.ts_recv_ns == fill.ts_event_ns + LAG_NS + LATENCY.response_ns
    (paid,) = of_type(events, GasPaid)
    own_fee_wei = (20 + number - 1) * GWEI  # as the block before it said
    assert paid.gas_coin == pytest.approx(GAS_UNITS * (own_fee_wei + SURE.tip_wei) / 1e18)
    assert paid.gas_quote == pytest.approx(paid.gas_coin * COIN_PX)
    assert chain.positions == {POOL.instrument_id: 300}
    assert chain.cash_settle == {"USD": pytest.approx(-3.0 * fill.px), "ETH": -paid.gas_coin}
    assert chain.equity_settle["USD"] == pytest.approx(3.0 * (2_010.0 - fill.px))


def test_a_sale_is_below_the_bid() -> None:
    chain = make_chain()
    block(chain, 0)
    chain.submit(order(-300), T0_NS + NS_PER_S)
    (fill,) = of_type(until_over(chain)[0], Fill)
    assert fill.px == pytest.approx(2_000.0 * 0.9995 * (1.0 - 3.0 / DEPTH_BASE))


def test_a_block_takes_nothing_that_came_after_it() -> None:
    chain = make_chain()
    block(chain, 0)
    chain.submit(order(1), T0_NS + BLOCK_NS + NS_PER_MS)  # after the first block, of which we have not heard yet
    assert of_type(block(chain, 1), OrderAccepted)
    assert chain.open_orders
    assert all(fill.ts_event_ns > T0_NS + BLOCK_NS for fill in of_type(until_over(chain, 2)[0], Fill))


def test_one_whose_limit_is_missed_by_then_fails_and_costs_its_gas() -> None:
    chain = make_chain()
    block(chain, 0)
    chain.submit(order(1, limit_px=2_005.0), T0_NS + NS_PER_S)
    events: list[Event] = []
    number = 0
    while not of_type(events, OrderCanceled):
        number += 1
        events += block(chain, number, 2_010.0)
    assert of_type(events, OrderCanceled)[0].is_expired
    assert len(of_type(events, GasPaid)) == 1
    assert not of_type(events, Fill)
    assert chain.positions == {}
    assert chain.figures.reverts == 1


def test_one_past_its_deadline_fails_too() -> None:
    chain = make_chain()
    block(chain, 0)
    gas = GasBid(SURE.max_fee_wei, SURE.tip_wei, 1.0, T0_NS + 1)
    chain.submit(order(1, gas=gas), T0_NS + NS_PER_S)
    events, _ = until_over(chain)
    assert of_type(events, OrderCanceled)[0].is_expired


@pytest.mark.parametrize("tier", [0, 1, 2])
def test_the_share_of_blocks_that_take_a_tip_is_that_of_its_tier(tier: int) -> None:
    chain = make_chain()
    block(chain, 0)
    waited = 0
    number = 1
    runs = 400
    for run in range(runs):
        gas = GasBid(SURE.max_fee_wei, TIPS_WEI[tier], 1.0, SURE.deadline_ns * 100)
        chain.submit(order(1, f"run-{run}", gas=gas), T0_NS + (number - 1) * BLOCK_NS + NS_PER_S)
        first = number
        _, last = until_over(chain, number)
        waited += last - first == 0
        number = last + 1
    assert waited / runs == pytest.approx(INCLUSION_SHARES[tier], abs=0.07)


def test_below_the_base_fee_it_waits_and_is_raised_until_a_block_takes_it() -> None:
    chain = make_chain()
    block(chain, 0)
    gas = GasBid(round(0.8 * BASE_FEE_WEI), GWEI, 1.0, SURE.deadline_ns)
    chain.submit(order(1, gas=gas), T0_NS + NS_PER_S)
    for number in range(1, 2 * REPLACE_AFTER_BLOCKS + 1):
        assert not of_type(block(chain, number), Fill), "20 gwei are not paid by 16 or 18"
    assert of_type(until_over(chain, 2 * REPLACE_AFTER_BLOCKS + 1)[0], Fill)


def test_a_cancel_takes_its_place_and_costs_gas_too() -> None:
    chain = make_chain()
    block(chain, 0)
    never = GasBid(GWEI, GWEI, 1.0, SURE.deadline_ns)
    chain.submit(order(1, gas=never), T0_NS + NS_PER_S)
    chain.submit(CancelOrder("run-1", POOL.instrument_id, ""), T0_NS + 2 * NS_PER_S)
    events = block(chain, 1)
    (canceled,) = of_type(events, OrderCanceled)
    assert not canceled.is_expired
    (paid,) = of_type(events, GasPaid)
    assert CANCEL_GAS_UNITS * BASE_FEE_WEI / 1e18 < paid.gas_coin < CANCEL_GAS_UNITS * 2 * BASE_FEE_WEI / 1e18


def test_several_blocks_of_one_second_are_told_apart_by_when_we_heard_of_them() -> None:
    chain = WatchedChain(POOL.venue, "ETH", [POOL], latency=Latency(0, 0, 0), seed=1)
    quarter_ns = NS_PER_S // 4
    tiers = (GasTier(10 * BASE_FEE_WEI, GWEI, 1.0, 1.0, 1.0),)
    fills: list[Fill] = []
    for number in range(12):
        recv_ns = T0_NS + number * quarter_ns + 10 * NS_PER_MS
        stamp = recv_ns // NS_PER_S * NS_PER_S, recv_ns, number
        chain.on_market(Quote(POOL.instrument_id, 1_999.0, 9.0, 2_001.0, 9.0, *stamp))
        terms = (POOL.instrument_id, tiers, 0.0, DEPTH_BASE, quarter_ns, *stamp, BASE_FEE_WEI, GAS_UNITS, COIN_PX)
        chain.on_market(ExecutionTerms(*terms))
        if number == 1:
            chain.submit(order(1), recv_ns)
        fills += of_type(chain.advance(recv_ns), Fill)
        if fills:
            assert 2 < number <= 6, "not two blocks hence, but well before the next whole second is over"
            return
    raise AssertionError("never taken")


def test_the_same_calls_give_the_same_answers() -> None:
    def story(seed: int) -> list[Event]:
        chain = make_chain(seed)
        events = block(chain, 0)
        for number in range(1, 60):
            gas = GasBid(SURE.max_fee_wei, TIPS_WEI[0], 1.0, SURE.deadline_ns)
            chain.submit(order(1, f"run-{number}", gas=gas), T0_NS + (number - 1) * BLOCK_NS + 2 * NS_PER_S)
            events += block(chain, number, 2_000.0 + number)
        return events

    assert story(1) == story(1) != story(2)


def test_an_option_is_not_traded_on_a_chain() -> None:
    with pytest.raises(ValueError, match="expected linear instruments on chain, found"):
        WatchedChain("chain", "ETH", [instruments.INVERSE], latency=LATENCY, seed=1)
