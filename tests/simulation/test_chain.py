from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp, inf, log, sqrt
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.chain import GasPaid
from bot.domain.events import CancelOrder, Event, SubmitOrder
from bot.domain.instruments import Payoff, Spot, TickSchedule
from bot.domain.market import ExecutionTerms, IndexPrice, MarketEvent, OraclePrice, Quote
from bot.domain.orders import (
    Fill,
    GasBid,
    OrderAccepted,
    OrderCanceled,
    OrderIntent,
    TimeInForce,
)
from bot.domain.units import NS_PER_DAY, NS_PER_MIN, NS_PER_MS, NS_PER_S
from bot.pricing.tick_math import tick_at
from bot.pricing.uniswap_v3 import PoolState, swap
from bot.simulation.chain import (
    INCLUSION_SHARES,
    TWAP_NS,
    WEI_PER_GWEI,
    ChainModel,
    Pool,
    PoolModel,
    SimulatedChain,
)
from bot.simulation.chain_venue import CANCEL_GAS_UNITS, REPLACE_AFTER_BLOCKS, REPLACE_RISE
from bot.simulation.venue import Latency
from bot.simulation.world import World
from tests import instruments

T0_NS = 19_450 * NS_PER_DAY
BLOCK_NS = 12 * NS_PER_S
LATENCY = Latency(0, 50 * NS_PER_MS, 100 * NS_PER_MS)
FEE = 5e-4
GAS_UNITS = 150_000
BASE_FEE_WEI = 20.0 * WEI_PER_GWEI
POOL = Spot(
    instrument_id="chain:WETH-USDC",
    venue="chain",
    base="ETH",
    quote="USD",
    settle="USD",
    price_currency="USD",
    payoff=Payoff.LINEAR,
    contract_size=1.0,
    lot_contracts=0.01,
    tick_schedule=TickSchedule(0.01),
)
MODEL = ChainModel(venue="chain", coin="ETH", block_ns=BLOCK_NS, base_fees_wei=(BASE_FEE_WEI,))
POOL_MODEL = PoolModel(instrument=POOL, fee_fraction=FEE, depth_base=50_000.0, gas_units=GAS_UNITS, flow_sd_bps=0.0)


def make_chain(seed: int = 1, *, pool: PoolModel = POOL_MODEL, **changes: Any) -> SimulatedChain:
    """A chain whose index stands at 2,000 from the start."""
    until_ns = changes.pop("until_ns", T0_NS + NS_PER_DAY)
    chain = SimulatedChain(
        msgspec.structs.replace(MODEL, **changes), [pool], latency=LATENCY, seed=seed, until_ns=until_ns
    )
    chain.on_market(index(T0_NS, 2_000.0))
    return chain


def index(ts_ns: int, px: float) -> IndexPrice:
    return IndexPrice("ETH", px, ts_ns, ts_ns, ts_ns)


def bid(tip_wei: int = 10**12, max_fee_wei: int = 10**13, deadline_ns: int = T0_NS + NS_PER_DAY) -> GasBid:
    """A bid every block takes, unless told otherwise."""
    return GasBid(max_fee_wei, tip_wei, 1.0, deadline_ns)


def buy(lots: int, order_id: str = "run-1", *, limit_px: float = 2_200.0, gas: GasBid | None = None) -> SubmitOrder:
    limit_px = limit_px if lots > 0 else min(limit_px, 1_800.0)
    ticks = POOL.tick_schedule.floor_ticks(limit_px)
    gas = gas or bid()
    return SubmitOrder(
        OrderIntent(order_id, POOL.instrument_id, lots, ticks, TimeInForce.IOC, False, "test", 2_000.0, T0_NS, gas)
    )


def blocks(chain: SimulatedChain, count: int = 1) -> list[Event]:
    """Let that many blocks come; return all that reached us."""
    events: list[Event] = []
    for _ in range(count):
        now_ns = chain.next_event_ns()
        assert now_ns is not None
        block_ns = -(-now_ns // BLOCK_NS) * BLOCK_NS
        events += chain.advance(block_ns + LATENCY.response_ns)
    return events


def of_type(events: Sequence[Event], *kinds: type) -> list[Any]:
    return [event for event in events if isinstance(event, kinds)]


# ── the pool ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_pool_matches_the_published_swap() -> None:
    """The first swap of the Uniswap v3 book: 42 USDC buy 0.008396714242162444 ETH at L = 1517.88 and P = 5,000."""
    root = 5_602_277_097_478_614_198_912_276_234_240 / 2**96
    liquidity = 1517.882343751509868544
    pool = Pool(root * root, liquidity / root, 0.0, 1.0)
    bought = pool.quote(0.008396714242162444)
    assert bought is not None
    assert bought.quote == pytest.approx(42.0, rel=1e-12)
    assert bought.root == pytest.approx(5_604_469_350_942_327_889_444_743_441_197 / 2**96, rel=1e-14)


@given(st.floats(-0.2, 0.2).filter(lambda share: abs(share) > 1e-6), st.sampled_from([100, 500, 3_000]))
def test_the_pool_is_the_exact_one_in_floats(share: float, fee_pips: int) -> None:
    root = sqrt(2_000.0)
    pool = Pool(2_000.0, 1_000.0, fee_pips / 1e6, 1.0)
    state = PoolState(
        int(root * 2**96), tick_at(int(root * 2**96)), int(1_000.0 * root * 1e18), fee_pips, 60, (), (), -60, 60
    )
    wei = int(abs(share) * 1_000.0 * 1e18)
    found = pool.quote(wei / 1e18 if share > 0.0 else -wei / 1e18)
    assert found is not None
    if share > 0.0:
        exact = swap(state, wei, is_zero_for_one=False, is_exact_in=False).amount_in
    else:
        exact = -swap(state, wei, is_zero_for_one=True).amount_out
    assert found.quote == pytest.approx(exact / 1e18, rel=1e-10)


@given(st.floats(-0.3, 0.3).filter(lambda share: abs(share) > 1e-6), st.floats(0.0, 0.01))
def test_a_swap_keeps_the_invariant_and_takes_its_fee(share: float, fee: float) -> None:
    pool = Pool(2_000.0, 1_000.0, fee, 10.0)
    base = 1_000.0 * share
    done = pool.quote(base)
    assert done is not None
    liquidity = pool.liquidity
    x, y = liquidity / pool.root, liquidity * pool.root
    in_base, in_quote = (base, done.quote * (1.0 - fee)) if base > 0.0 else (base * (1.0 - fee), done.quote)
    assert (x - in_base) * (y + in_quote) == pytest.approx(liquidity**2, rel=1e-12)
    assert done.root == pytest.approx((y + in_quote) / liquidity, rel=1e-12)
    touch_px = pool.ask_px if base > 0.0 else pool.bid_px
    assert (done.quote / base - touch_px) * base >= -1e-9 * abs(done.quote)
    small = pool.quote(1e-2 * base)
    assert small is not None
    impact = abs(small.quote / (1e-2 * base) / touch_px - 1.0)
    assert impact == pytest.approx(abs(1e-2 * base) / pool.depth_base(), rel=0.05, abs=1e-12)  # as the terms promise


def test_the_range_ends() -> None:
    pool = Pool(2_000.0, 1_000.0, FEE, 0.1)
    most = pool.base_until(inf)
    assert pool.quote(most * (1.0 - 1e-9)) is not None
    assert pool.quote(most * (1.0 + 1e-9)) is None
    assert pool.quote(5_000.0) is None
    assert pool.quote(-40.0) is not None
    assert pool.quote(-60.0) is None
    pool.push(0.5)
    assert pool.px == pytest.approx(2_200.0)
    pool.arbitrage(1_000.0)
    assert pool.px == pytest.approx(2_000.0 / 1.1)


@given(st.floats(1_500.0, 2_500.0))
def test_arbitrage_stops_at_the_fee(index_px: float) -> None:
    pool = Pool(2_000.0, 1_000.0, FEE, 1.0)
    pool.arbitrage(index_px)
    tolerance = 1e-9 * index_px
    assert pool.bid_px <= index_px + tolerance  # nobody gains by selling to it …
    assert pool.ask_px >= index_px - tolerance  # … or by buying from it
    if pool.px != pytest.approx(2_000.0):
        edge = pool.ask_px if index_px > 2_000.0 else pool.bid_px
        assert edge == pytest.approx(index_px)


# ── blocks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_block_says_what_it_left_behind() -> None:
    chain = make_chain()
    assert chain.next_event_ns() == T0_NS + BLOCK_NS
    assert chain.advance(T0_NS + BLOCK_NS) == []
    assert chain.next_event_ns() == T0_NS + BLOCK_NS + LATENCY.response_ns
    quote, terms, oracle = chain.advance(T0_NS + BLOCK_NS + LATENCY.response_ns)
    assert isinstance(quote, Quote)
    assert isinstance(terms, ExecutionTerms)
    assert isinstance(oracle, OraclePrice)
    for event in (quote, terms, oracle):
        assert (event.ts_event_ns, event.ts_recv_ns) == (T0_NS + BLOCK_NS, T0_NS + BLOCK_NS + LATENCY.response_ns)
    assert (quote.bid_px, quote.ask_px) == pytest.approx((2_000.0 * (1 - FEE), 2_000.0 / (1 - FEE)))
    assert quote.ask_base == pytest.approx(50_000.0 * (1.0 - 1.0 / sqrt(1.01)))
    assert terms.depth_base == pytest.approx(50_000.0)
    assert terms.block_ns == BLOCK_NS
    assert [tier.tip_wei for tier in terms.tiers] == sorted(tier.tip_wei for tier in terms.tiers)
    assert [tier.delay_mean_s for tier in terms.tiers] == pytest.approx([18.0, 9.0, 6.371], rel=1e-3)
    for tier in terms.tiers:
        assert tier.gas_quote == pytest.approx(GAS_UNITS * (BASE_FEE_WEI + tier.tip_wei) / 1e18 * 2_000.0)
        assert tier.max_fee_wei == 2 * BASE_FEE_WEI + tier.tip_wei
    assert oracle.px == pytest.approx(2_000.0)
    assert oracle.underlying == "ETH"


def test_a_block_knows_no_price_from_after_it() -> None:
    chain = make_chain()
    blocks(chain)
    chain.on_market(index(T0_NS + 2 * BLOCK_NS, 2_100.0))
    chain.on_market(index(T0_NS + 2 * BLOCK_NS + 1, 2_300.0))
    first = of_type(chain.advance(T0_NS + 2 * BLOCK_NS + LATENCY.response_ns), Quote)
    assert [quote.ask_px for quote in first] == pytest.approx([2_100.0])  # followed up to the fee
    second = of_type(blocks(chain), Quote)
    assert [quote.ask_px for quote in second] == pytest.approx([2_300.0])


def test_late_or_impossible_prices_move_nothing() -> None:
    chain = make_chain()
    for event in (
        index(T0_NS - 1, 3_000.0),
        index(T0_NS, float("nan")),
        IndexPrice("ETH", 3_000.0, T0_NS + NS_PER_MIN, T0_NS, 1),
        Quote("ETH-PERPETUAL", 2_999.0, 1.0, 3_001.0, 1.0, T0_NS, T0_NS, 1),
    ):
        chain.on_market(event)
    assert of_type(blocks(chain), Quote)[0].bid_px == pytest.approx(2_000.0 * (1 - FEE))


def test_blocks_end_so_that_a_replay_does() -> None:
    chain = make_chain(until_ns=T0_NS + 3 * BLOCK_NS)
    assert len(of_type(blocks(chain, 3), Quote)) == 3
    assert chain.next_event_ns() is None
    assert chain.advance(T0_NS + NS_PER_DAY) == []


def test_others_trade_ahead_of_us() -> None:
    busy = msgspec.structs.replace(POOL_MODEL, flow_sd_bps=1.0)
    mids = [
        0.5 * (quote.bid_px + quote.ask_px) / 2_000.0 - 1.0
        for quote in of_type(blocks(make_chain(pool=busy), 400), Quote)
    ]
    assert max(abs(mid) for mid in mids) < FEE + 5 * 1e-4 * sqrt(12.0)
    assert np.std(np.diff(mids)) == pytest.approx(1e-4 * sqrt(12.0), rel=0.35)  # arbitrage takes some of it back


def test_the_base_fee_follows_the_recorded_day() -> None:
    day = tuple(float(minute) * WEI_PER_GWEI for minute in range(1, 1_441))
    chain = make_chain(base_fees_wei=day)
    seen = [
        round(terms.tiers[0].max_fee_wei - terms.tiers[0].tip_wei)
        for terms in of_type(blocks(chain, 10), ExecutionTerms)
    ]
    assert seen == [2 * WEI_PER_GWEI * (1 + n * 12 // 60) for n in range(1, 11)]


def test_the_base_fee_moves_by_an_eighth_at_most_and_comes_back() -> None:
    chain = make_chain(base_fees_wei=(), base_fee_wei=BASE_FEE_WEI)
    fees = [
        terms.tiers[0].max_fee_wei - terms.tiers[0].tip_wei for terms in of_type(blocks(chain, 2_000), ExecutionTerms)
    ]
    ratios = np.array(fees[1:]) / np.array(fees[:-1])
    assert ratios.max() <= 1.125 + 1e-9
    assert ratios.min() >= 0.875 - 1e-9
    assert ratios.max() > 1.1
    assert np.abs(np.log(np.array(fees) / (2.0 * BASE_FEE_WEI))).max() < log(4.0)


def test_the_oracle_is_the_geometric_mean_over_half_an_hour() -> None:
    chain = make_chain()
    prices = []
    for n in range(1, 400):
        chain.on_market(index(T0_NS + n * BLOCK_NS - 1, 2_000.0 * (1.0 + 0.01 * (n % 7))))
        quote, _, oracle = of_type(blocks(chain), Quote, ExecutionTerms, OraclePrice)
        prices.append(sqrt(quote.bid_px * quote.ask_px))
        window = prices[-1 - TWAP_NS // BLOCK_NS : -1]
        if window:
            assert oracle.px == pytest.approx(exp(float(np.mean(np.log(window)))), rel=1e-9)
    assert len(window) == TWAP_NS // BLOCK_NS


# ── transactions ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lots", [10_000, -10_000])
def test_a_transaction_is_filled_at_what_the_pool_asks_and_pays_its_gas(lots: int) -> None:
    chain = make_chain()
    blocks(chain)
    sent_ns = T0_NS + BLOCK_NS + NS_PER_S
    chain.submit(buy(lots), sent_ns)
    accepted = chain.advance(sent_ns + LATENCY.entry_ns + LATENCY.response_ns)
    assert [type(event) for event in accepted] == [OrderAccepted]
    assert [order.left_lots for order in chain.open_orders] == [lots]
    base = lots * POOL.lot_size
    expected = Pool(2_000.0, 50_000.0, FEE, 1.0).quote(base)
    assert expected is not None
    events = blocks(chain)
    assert [type(event) for event in events] == [Fill, GasPaid, Quote, ExecutionTerms, OraclePrice]
    fill, gas, quote, *_ = events
    assert isinstance(fill, Fill)
    assert isinstance(gas, GasPaid)
    assert isinstance(quote, Quote)
    assert fill.px == pytest.approx(expected.quote / base, rel=1e-12)
    assert (fill.qty_lots, fill.fee_settle, fill.ts_event_ns) == (lots, 0.0, T0_NS + 2 * BLOCK_NS)
    assert sqrt(quote.bid_px * quote.ask_px) == pytest.approx(expected.root**2)
    assert gas.gas_coin == pytest.approx(GAS_UNITS * (BASE_FEE_WEI + 10**12) / 1e18)
    assert gas.gas_quote == pytest.approx(gas.gas_coin * 2_000.0)
    assert (gas.order_id, gas.coin) == ("run-1", "ETH")
    assert chain.positions == {POOL.instrument_id: lots}
    assert chain.open_orders == ()
    assert chain.cash_settle == pytest.approx({"USD": -expected.quote, "ETH": -gas.gas_coin})
    assert chain.equity_settle["USD"] == pytest.approx(base * expected.root**2 - expected.quote)
    assert (chain.figures.fills, chain.figures.reverts) == (1, 0)
    assert chain.figures.gas_quote == gas.gas_quote


def test_a_transaction_enters_no_block_before_it_arrives() -> None:
    chain = make_chain()
    chain.submit(buy(1), T0_NS + BLOCK_NS - LATENCY.entry_ns)  # arrives as the block is made
    assert of_type(blocks(chain), Fill) == []
    assert len(of_type(blocks(chain), Fill)) == 1


@pytest.mark.parametrize("why", ["limit", "deadline", "range"])
def test_what_fails_pays_all_the_same(why: str) -> None:
    chain = make_chain()
    order = {
        "limit": buy(10, limit_px=2_000.0),
        "deadline": buy(10, gas=bid(deadline_ns=T0_NS + BLOCK_NS - 1)),
        "range": buy(50_000 * 100, limit_px=1e9),
    }[why]
    chain.submit(order, T0_NS + 1)
    events = blocks(chain)
    (canceled,) = of_type(events, OrderCanceled)
    (gas,) = of_type(events, GasPaid)
    assert canceled.is_expired
    assert gas.gas_coin > 0.0
    assert of_type(events, Fill) == []
    assert chain.positions == {}
    assert (chain.figures.fills, chain.figures.reverts) == (0, 1)
    revert_fraction = of_type(events, ExecutionTerms)[0].revert_fraction
    assert revert_fraction == pytest.approx((10 * 0.02 + 1) / 11)


def test_the_deadline_counts_whole_seconds_of_the_chain() -> None:
    chain = make_chain()
    chain.submit(buy(10, gas=bid(deadline_ns=T0_NS + BLOCK_NS)), T0_NS + 1)
    assert len(of_type(blocks(chain), Fill)) == 1


def test_the_index_may_run_away_from_a_limit() -> None:
    chain = make_chain()
    blocks(chain)
    chain.submit(buy(10, limit_px=2_002.0), T0_NS + BLOCK_NS + 1)
    chain.on_market(index(T0_NS + BLOCK_NS + 2, 2_010.0))
    assert len(of_type(blocks(chain), OrderCanceled)) == 1


@pytest.mark.parametrize("tier", range(len(INCLUSION_SHARES)))
def test_a_tip_buys_its_share_of_blocks(tier: int) -> None:
    waited = []
    for seed in range(300):
        chain = make_chain(seed)
        terms = of_type(blocks(chain), ExecutionTerms)[0].tiers[tier]
        chain.submit(buy(1, gas=bid(terms.tip_wei, terms.max_fee_wei)), T0_NS + BLOCK_NS + NS_PER_S)
        waited.append(1 if of_type(blocks(chain), Fill) else 0)
    share = INCLUSION_SHARES[tier]
    assert np.mean(waited) == pytest.approx(share, abs=3.5 * sqrt(share * (1 - share) / 300))


def test_delays_are_measured_by_tier() -> None:
    chain = make_chain()
    before = of_type(blocks(chain), ExecutionTerms)[0].tiers
    for n in range(40):
        order = buy(1, f"run-{n}", gas=bid(before[2].tip_wei, before[2].max_fee_wei * 9)).intent
        now_ns = T0_NS + (n + 1) * BLOCK_NS + 6 * NS_PER_S
        chain.submit(SubmitOrder(msgspec.structs.replace(order, decided_ns=now_ns)), now_ns)
        chain.advance(T0_NS + (n + 2) * BLOCK_NS + LATENCY.response_ns)
    after = of_type(blocks(chain), ExecutionTerms)[0].tiers
    assert after[0] == msgspec.structs.replace(before[0], gas_quote=after[0].gas_quote)
    assert after[2].delay_mean_s != before[2].delay_mean_s
    assert 6.0 <= after[2].delay_mean_s < 7.5


def test_a_fee_below_the_base_fee_waits_and_is_raised() -> None:
    chain = make_chain()
    low = int(BASE_FEE_WEI / REPLACE_RISE**2 + 2 * WEI_PER_GWEI)
    chain.submit(buy(1, gas=bid(10**9, low)), T0_NS + 1)
    raised_at = next(n for n in range(1, 5) if low * REPLACE_RISE**n >= BASE_FEE_WEI + 0.9 * WEI_PER_GWEI)
    assert raised_at > 1
    assert of_type(blocks(chain, raised_at * REPLACE_AFTER_BLOCKS - 1), Fill) == []
    assert len(of_type(blocks(chain, 20), Fill)) == 1
    hopeless = make_chain()
    hopeless.submit(buy(1, gas=bid(10**9, int(BASE_FEE_WEI / 4))), T0_NS + 1)
    assert of_type(blocks(hopeless, 100), Fill, OrderCanceled, GasPaid) == []


def test_a_cancel_is_a_transaction_too() -> None:
    chain = make_chain()
    chain.submit(buy(1, gas=bid(1, 2)), T0_NS + 1)
    chain.submit(CancelOrder("run-1", POOL.instrument_id, "test"), T0_NS + 2)
    events = blocks(chain)
    (canceled,) = of_type(events, OrderCanceled)
    (gas,) = of_type(events, GasPaid)
    assert not canceled.is_expired
    assert gas.gas_coin == pytest.approx(CANCEL_GAS_UNITS * 2 * REPLACE_RISE / 1e18)


def test_all_a_limit_allows_may_be_taken() -> None:
    chain = make_chain(take_probability=1.0)
    chain.submit(buy(10, limit_px=2_010.0), T0_NS + 1)
    assert of_type(blocks(chain), Fill)[0].px == pytest.approx(2_010.0)


# ── as a venue ───────────────────────────────────────────────────────────────────────────────────────────────────────


def live_through(seed: int, *, with_orders: bool) -> list[Event]:
    chain = make_chain(seed, pool=msgspec.structs.replace(POOL_MODEL, flow_sd_bps=0.5), take_probability=0.3)
    events: list[Event] = []
    for n in range(60):
        now_ns = T0_NS + (n + 1) * BLOCK_NS
        chain.on_market(index(now_ns, 2_000.0 + n))
        events += chain.advance(now_ns + LATENCY.response_ns)
        if with_orders and n % 3 == 0:
            chain.submit(buy((-1) ** n * 5, f"run-{n}"), now_ns + NS_PER_S)
    return events


def test_the_same_seed_and_calls_give_the_same_bytes() -> None:
    assert msgspec.json.encode(live_through(3, with_orders=True)) == msgspec.json.encode(
        live_through(3, with_orders=True)
    )
    assert live_through(3, with_orders=True) != live_through(4, with_orders=True)


def test_what_we_send_changes_nobody_elses_luck() -> None:
    def fees(with_orders: bool) -> list[tuple[int, int]]:
        terms = of_type(live_through(3, with_orders=with_orders), ExecutionTerms)
        return [(one.tiers[0].max_fee_wei, one.tiers[0].tip_wei) for one in terms]

    assert fees(with_orders=True) == fees(with_orders=False)


def test_a_world_of_blocks_comes_to_its_end_in_order() -> None:
    def batches() -> Iterator[list[MarketEvent]]:
        for n in range(100):
            yield [index(T0_NS + n * 3 * NS_PER_S, 2_000.0 + n)]

    chain = SimulatedChain(MODEL, [POOL_MODEL], latency=LATENCY, seed=1, until_ns=T0_NS + 297 * NS_PER_S)
    world = World(batches(), chain)
    last_ns, seen = 0, 0
    while (step := world.step()) is not None:
        now_ns, events = step
        assert now_ns >= last_ns
        assert all(event.ts_recv_ns <= now_ns for event in events)
        last_ns = now_ns
        seen += len(of_type(events, Quote))
        if seen == 3:
            world.submit(buy(5, f"run-{now_ns}"), now_ns)
    assert seen == 297 // 12
    assert chain.positions[POOL.instrument_id] > 0


@pytest.mark.parametrize(
    ("pool", "block_ns", "why"),
    [
        (msgspec.structs.replace(POOL_MODEL, instrument=instruments.INVERSE), BLOCK_NS, "expected BTC-PERPETUAL to be"),
        (msgspec.structs.replace(POOL_MODEL, depth_base=0.0), BLOCK_NS, "a depth above 0"),
        (POOL_MODEL, 0, "time between blocks above 0"),
    ],
)
def test_what_cannot_be_is_refused(pool: PoolModel, block_ns: int, why: str) -> None:
    model = msgspec.structs.replace(MODEL, block_ns=block_ns)
    with pytest.raises(ValueError, match=why):
        SimulatedChain(model, [pool], latency=LATENCY, seed=1)
