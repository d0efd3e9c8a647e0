"""Trades of a perpetual by its formulas; that the deployed contracts agree to the wei is tested with the adapter."""

from __future__ import annotations

from math import isqrt

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.pricing.perp_v2 import (
    ONE,
    PerpAccount,
    PerpTrade,
    account_after,
    buy,
    free_collateral_wei,
    is_in_band,
    market_px_wei,
    realized_wei,
    sell,
    spread_pips,
)
from bot.pricing.tick_math import tick_at
from bot.pricing.uniswap_v3 import PoolReverts, PoolState, UnknownTicks

SQRT_3000 = isqrt(3000 << 192)
TICK = tick_at(SQRT_3000)
LIQUIDITY = 10**24
FEE_PIPS = 1000


def pool_of(*orders: tuple[int, int, int]) -> PoolState:
    """Return a pool at 3,000 with these orders: lower tick, upper tick, liquidity."""
    nets: dict[int, int] = {}
    for low, high, liquidity in orders:
        nets[low] = nets.get(low, 0) + liquidity
        nets[high] = nets.get(high, 0) - liquidity
    inside = sum(liquidity for low, high, liquidity in orders if low <= TICK < high)
    ticks = tuple(sorted(nets))
    return PoolState(SQRT_3000, TICK, inside, 3000, 60, ticks, tuple(nets[tick] for tick in ticks), 3, 8)


WIDE = pool_of((72_000, 90_000, LIQUIDITY))
LAYERS = pool_of((72_000, 90_000, LIQUIDITY), (79_980, 80_160, LIQUIDITY))


@given(base_wei=st.integers(1, 500 * ONE))
def test_what_is_asked_for_is_what_moves(base_wei: int) -> None:
    assert sell(LAYERS, base_wei, FEE_PIPS).base_wei == -base_wei
    assert buy(LAYERS, base_wei, FEE_PIPS).base_wei == base_wei


@given(base_wei=st.integers(ONE // 1000, 200 * ONE))
def test_inside_one_range_it_is_the_closed_form(base_wei: int) -> None:
    # s is the root of the price, a = x s / L: a sale moves it to s/(1+a) and brings L s a/(1+a), a purchase with minus.
    root = (SQRT_3000 / 2**96) * base_wei / LIQUIDITY
    sale, purchase = sell(WIDE, base_wei, FEE_PIPS), buy(WIDE, base_wei, FEE_PIPS)
    assert sale.notional_wei == pytest.approx(3000 * base_wei / (1 + root), rel=1e-12)
    assert purchase.notional_wei == pytest.approx(-3000 * base_wei / (1 - root), rel=1e-12)
    assert sale.fee_wei == pytest.approx(sale.notional_wei * 0.001, rel=1e-12)
    assert purchase.fee_wei == pytest.approx(-purchase.notional_wei * 0.001 / 0.999, rel=1e-12)
    assert sale.quote_wei == sale.notional_wei - sale.fee_wei
    assert (sale.ticks_crossed, purchase.ticks_crossed) == (0, 0)


def test_a_crossed_tick_takes_its_liquidity_away() -> None:
    sale = sell(LAYERS, 2_000 * ONE, FEE_PIPS)
    assert sale.ticks_crossed == 1
    assert sale.after.liquidity == LIQUIDITY
    assert sale.after.tick < 79_980
    purchase = buy(LAYERS, 2_000 * ONE, FEE_PIPS)
    assert purchase.ticks_crossed == 1
    assert purchase.after.tick > 80_160


def test_nothing_is_estimated() -> None:
    with pytest.raises(PoolReverts, match="above 0"):
        sell(WIDE, 0, FEE_PIPS)
    with pytest.raises(UnknownTicks):
        buy(pool_of((72_000, 90_000, ONE)), 10**6 * ONE, FEE_PIPS)
    far = msgspec.structs.replace(WIDE, ticks=(), nets=(), unread_below=79_980, unread_above=80_160)
    for trade in (sell, buy):
        assert trade(far, 50 * ONE, FEE_PIPS) == msgspec.structs.replace(
            trade(WIDE, 50 * ONE, FEE_PIPS), after=trade(far, 50 * ONE, FEE_PIPS).after
        )
        with pytest.raises(UnknownTicks, match="which was not read"):
            trade(far, 500 * ONE, FEE_PIPS)


def test_reducing_realises_its_share_of_the_profit() -> None:
    # The example in the exchange's own comments: 20 bought for 252.53, 10 sold for 137.5.
    account = PerpAccount(0, 0, 20 * ONE, -252_530_000_000_000_000_000)
    trade = PerpTrade(-10 * ONE, 137_500_000_000_000_000_000, 0, 0, WIDE)
    assert realized_wei(account, trade) == 11_235_000_000_000_000_000
    after = account_after(account, trade, 13 * ONE)
    assert after.position_wei == 10 * ONE
    assert after.open_notional_wei == -126_265_000_000_000_000_000
    # And its second: 30 sold for 337.5 turns the position round.
    turned = PerpTrade(-30 * ONE, 337_500_000_000_000_000_000, 0, 0, WIDE)
    assert realized_wei(account, turned) == -27_530_000_000_000_000_000
    assert account_after(account, turned, 13 * ONE).open_notional_wei == 112_500_000_000_000_000_000


def test_opening_and_increasing_realise_nothing() -> None:
    trade = PerpTrade(-ONE, 3000 * ONE, 3 * ONE, 0, WIDE)
    assert realized_wei(PerpAccount(0, 0, 0, 0), trade) == 0
    assert realized_wei(PerpAccount(0, 0, -ONE, 3000 * ONE), trade) == 0


def test_value_moves_only_by_the_fee_and_the_distance_to_the_mark() -> None:
    account = PerpAccount(1000 * ONE, 1000 * ONE, 0, 0)
    after = account_after(account, PerpTrade(-ONE, 2999 * ONE, 3 * ONE, 0, WIDE), 3000 * ONE)
    assert after.value_wei == 996 * ONE
    assert after.collateral_wei == 1000 * ONE
    assert after.open_notional_wei == 2996 * ONE


def test_margin_is_asked_for_debts_of_base_and_of_quote() -> None:
    short = PerpAccount(1000 * ONE, 990 * ONE, -ONE, 2990 * ONE)
    assert free_collateral_wei(short, 3000 * ONE, 100_000) == 690 * ONE  # the lesser, less 10 % of 3,000
    long = PerpAccount(1000 * ONE, 1010 * ONE, ONE, -2990 * ONE)
    assert free_collateral_wei(long, 3000 * ONE, 100_000) == 701 * ONE  # less 10 % of 2,990


def test_the_band_binds_only_outwards() -> None:
    assert market_px_wei(SQRT_3000) == pytest.approx(3000 * ONE, rel=1e-15)
    assert spread_pips(isqrt(3150 << 192), 3000 * ONE) in {49_999, 50_000}
    assert spread_pips(isqrt(2850 << 192), 3000 * ONE) in {-50_000, -49_999}
    index = 3000 * ONE
    at = {px: isqrt(px << 192) for px in (2600, 2650, 2900, 3000, 3350, 3400)}
    assert is_in_band(at[3000], at[2900], index, 100_000)
    assert not is_in_band(at[3000], at[2600], index, 100_000)
    assert not is_in_band(at[3000], at[3400], index, 100_000)
    assert is_in_band(at[2600], at[2650], index, 100_000)  # outside, on the way back
    assert not is_in_band(at[2650], at[2600], index, 100_000)
    assert is_in_band(at[3400], at[3350], index, 100_000)
