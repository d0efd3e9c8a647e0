"""Fees: the next base fee to the wei as a node charges it, tips with a floor, replacements by the rule and caps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.gateways.chain.endpoints import to_block
from bot.gateways.chain.fees import (
    HISTORY_BLOCKS,
    PERCENTILES,
    Bid,
    FeeMarket,
    bumped,
    make_tiers,
    next_base_fee_wei,
    read_fee_market,
    replacement,
)
from bot.gateways.chain.inclusion import InclusionDelays
from bot.gateways.chain.nouns import Block
from bot.gateways.chain.settings import FeeSettings
from tests.chains.anvil import GWEI, Anvil

FEES = FeeSettings(max_fee_wei=300 * GWEI, min_tip_wei=GWEI // 100, max_gas_quote=100.0, max_replacements=4)


def block(base_fee_wei: int = 10 * GWEI, gas_used: int = 15_000_000, number: int = 100) -> Block:
    return Block(number, "0x01", "0x00", 1_700_000_000, base_fee_wei, gas_used, 30_000_000)


def market(base_fee_wei: int = 10 * GWEI, tips: tuple[int, int, int] = (GWEI, 2 * GWEI, 3 * GWEI)) -> FeeMarket:
    return FeeMarket(base_fee_wei, 1.0, tips)


def test_the_next_base_fee_is_what_a_node_charges_next() -> None:
    with Anvil(is_mining=False, base_fee_wei=7 * GWEI) as anvil:
        sender, friend = anvil.accounts[0].address, anvil.accounts[1].address
        anvil.set_code("0x00000000000000000000000000000000000000aa", bytes.fromhex("5b600056"))  # burns what it gets
        for share in (0, 3, 40, 80, 97):
            gas = 30_000_000 * share // 100
            to = "0x00000000000000000000000000000000000000aa" if share else friend
            for part in range(0, max(gas, 1), 15_000_000):
                limit = max(21_000, min(15_000_000, gas - part))
                call = {"from": sender, "to": to, "gas": hex(limit), "maxFeePerGas": hex(100 * GWEI)}
                anvil.rpc("eth_sendTransaction", call)
            anvil.mine(2)
            mined, after = to_block(anvil.block(anvil.block_number - 1)), to_block(anvil.block())
            assert next_base_fee_wei(mined) == after.base_fee_wei, share
            assert share < 3 or mined.gas_used > 500_000


def test_a_full_block_raises_it_by_an_eighth_and_an_empty_one_lowers_it() -> None:
    assert next_base_fee_wei(block(8 * GWEI, 30_000_000)) == 9 * GWEI
    assert next_base_fee_wei(block(8 * GWEI, 0)) == 7 * GWEI
    assert next_base_fee_wei(block(8 * GWEI)) == 8 * GWEI
    assert next_base_fee_wei(block(7, 30_000_000)) == 8  # one wei at least
    assert next_base_fee_wei(block(0, 0)) == 0


@given(st.integers(1, 10**12), st.lists(st.integers(0, 30_000_000), min_size=1, max_size=8))
def test_the_bound_holds_whatever_blocks_do(base_fee_wei: int, used: list[int]) -> None:
    base = next_base_fee_wei(block(base_fee_wei, used[0]))
    bound = FeeMarket(base, 1.0, (1, 1, 1))
    for blocks, gas_used in enumerate(used, 1):
        assert base <= bound.most_base_fee_wei(blocks)
        base = next_base_fee_wei(block(base, gas_used))


def test_a_real_history_of_empty_blocks_gives_the_floor() -> None:
    with Anvil(base_fee_wei=7 * GWEI) as anvil:
        anvil.mine(30)
        newest = to_block(anvil.block())
        history = anvil.rpc("eth_feeHistory", hex(HISTORY_BLOCKS), hex(newest.number), list(PERCENTILES))
        found = read_fee_market(history, newest, FEES)
        assert found.tips_wei == (FEES.min_tip_wei,) * 3
        assert found.next_base_fee_wei == next_base_fee_wei(newest)
        assert found.growth_ratio == pytest.approx(0.875, rel=1e-6)
        anvil.mine()
        assert int(anvil.block()["baseFeePerGas"], 16) == found.next_base_fee_wei


def test_tips_are_the_median_over_blocks_that_paid() -> None:
    rows = [[0, 0, 0], [1, 5, 9], [2, 6, 30], [3, 7, 11], [0, 0, 0]]
    history = {"oldestBlock": hex(96), "baseFeePerGas": [hex(10 * GWEI)] * 6, "gasUsedRatio": [0.5] * 5}
    history["reward"] = [[hex(tip * GWEI) for tip in row] for row in rows]  # type: ignore[assignment]
    found = read_fee_market(history, block(), FEES)
    assert found.tips_wei == (2 * GWEI, 6 * GWEI, 11 * GWEI)
    assert [found.tier_of(tip * GWEI) for tip in (1, 2, 6, 10, 11, 50)] == [0, 0, 1, 1, 2, 2]


def test_a_chain_with_other_constants_is_believed_about_its_own_base_fee() -> None:
    history = {"oldestBlock": hex(100), "baseFeePerGas": ["0x5", "0x7"], "gasUsedRatio": [0.5], "reward": []}
    assert read_fee_market(history, block(5), FEES).next_base_fee_wei == 7
    assert read_fee_market(history, block(5, number=101), FEES).next_base_fee_wei == 5  # of another block


def test_a_replacement_pays_a_tenth_more_rounded_up() -> None:
    assert bumped(Bid(1, 1)) == Bid(2, 2)
    assert bumped(Bid(10, 0)) == Bid(11, 1)
    assert bumped(Bid(101, 10)) == Bid(112, 11)
    assert replacement(Bid(50 * GWEI, 5 * GWEI), market(), FEES, 100_000, 3000.0, 0) == Bid(55 * GWEI, 55 * GWEI // 10)


def test_a_replacement_pays_the_market_where_that_is_more() -> None:
    assert replacement(Bid(GWEI, GWEI), market(), FEES, 100_000, 3000.0, 0) == Bid(14_250_000_000, 3 * GWEI)


@given(
    st.integers(1, 400 * GWEI),
    st.integers(0, 400 * GWEI),
    st.integers(0, 400 * GWEI),
    st.integers(21_000, 5_000_000),
    st.sampled_from([None, 0.5, 3000.0]),
)
def test_no_replacement_is_beyond_a_cap_or_short_of_the_rule(
    fee: int, tip: int, base: int, gas_limit: int, coin_px: float | None
) -> None:
    old = Bid(fee, min(fee, tip))
    found = replacement(old, market(base), FEES, gas_limit, coin_px, 1)
    if isinstance(found, str):
        assert found.startswith("waits: ")
        return
    assert 10 * found.max_fee_wei >= 11 * old.max_fee_wei
    assert 10 * found.tip_wei >= 11 * old.tip_wei
    assert base <= found.max_fee_wei <= FEES.max_fee_wei
    assert found.tip_wei <= found.max_fee_wei
    if coin_px is not None:
        assert found.max_fee_wei * gas_limit * coin_px / 10**18 <= FEES.max_gas_quote * (1 + 1e-12)


def test_caps_in_count_gwei_and_money_say_which_they_are() -> None:
    bid = Bid(20 * GWEI, GWEI)
    assert "replaced 4 times already, the cap is 4" in str(replacement(bid, market(), FEES, 100_000, 3000.0, 4))
    assert isinstance(replacement(bid, market(), FEES, 100_000, 3000.0, None), Bid)
    assert "the cap is 300 gwei" in str(replacement(Bid(290 * GWEI, GWEI), market(), FEES, 21_000, 3000.0, 0))
    # 100 of quote money at 3,000 buy 1 M gas at 33.33 gwei
    assert "the cap is 33.3333 gwei" in str(replacement(Bid(31 * GWEI, GWEI), market(), FEES, 10**6, 3000.0, 0))
    assert "base fee is 400 gwei" in str(replacement(bid, market(400 * GWEI), FEES, 21_000, 3000.0, 0))


def test_tiers_go_from_cheap_and_slow_to_dear_and_fast() -> None:
    delays = InclusionDelays(12.0)
    tiers = make_tiers(market(), delays, FEES, 200_000, 3000.0, 12.0)
    assert [tier.tip_wei for tier in tiers] == [GWEI, 2 * GWEI, 3 * GWEI]
    assert [tier.gas_quote for tier in tiers] == pytest.approx([200_000 * fee * 1e-9 * 3000 for fee in (11, 12, 13)])
    assert [tier.delay_mean_s for tier in tiers] == [delays.mean_s(tier) for tier in range(3)]
    assert all(tier.max_fee_wei >= 10 * GWEI + tier.tip_wei for tier in tiers)
    assert tiers[0].max_fee_wei - tiers[0].tip_wei > tiers[2].max_fee_wei - tiers[2].tip_wei  # it waits longer


def test_there_are_no_tiers_beyond_the_cap() -> None:
    delays = InclusionDelays(12.0)
    assert make_tiers(market(301 * GWEI), delays, FEES, 200_000, 3000.0, 12.0) == ()
    near = make_tiers(market(298 * GWEI), delays, FEES, 200_000, 3000.0, 12.0)
    assert [tier.max_fee_wei for tier in near] == [300 * GWEI, 300 * GWEI]
