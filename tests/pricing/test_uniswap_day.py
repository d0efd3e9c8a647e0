"""A recorded day of a mainnet pool, replayed: every price, tick, liquidity and amount comes out to the unit.

What the pool held in the morning is taken from the recording itself; uniswap_day.py says exactly what and how.
"""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from bot.pricing.lp import amounts_held, fees_owed
from bot.pricing.uniswap_v3 import Swap
from tests.pricing.uniswap_day import (
    CROSSED_ONLY,
    SPACING,
    Event,
    Pool,
    events,
    kind_of,
    morning_liquidity,
    opening_state,
)

DAY = events()
MORNING = morning_liquidity(DAY)


def replay(morning: dict[int, int]) -> tuple[Pool, list[tuple[str, Swap]], list[int]]:
    """Return the pool in the evening, how each swap was asked for and what it did, and the places of those not met."""
    pool = Pool(morning, opening_state(DAY[0]))
    done, missed = [], []
    for place, event in enumerate(DAY):
        if event.added:
            pool.add(event)
        elif event.kind == "swap":
            found = kind_of(pool.state, event)
            if found is None:
                missed.append(place)
                pool.state = msgspec.structs.replace(
                    pool.state, sqrt_price_x96=event.sqrt_price_x96, tick=event.tick, liquidity=event.liquidity
                )
            else:
                done.append(found)
                pool.state = found[1].after
    return pool, done, missed


def test_the_recording_is_whole() -> None:
    assert Counter(event.kind for event in DAY) == {"swap": 6046, "burn": 69, "collect": 65, "mint": 54}


def test_every_swap_comes_out_to_the_unit() -> None:
    pool, done, missed = replay(MORNING | CROSSED_ONLY)
    assert missed == []
    assert len(done) == 6046
    assert (pool.state.sqrt_price_x96, pool.state.tick, pool.state.liquidity) == DAY[-1].outcome[2:]
    kinds = Counter(kind for kind, _ in done)
    assert kinds == {"in": 5239, "out": 616, "to price": 191}
    crossed = [swap.ticks_crossed for _, swap in done]
    assert (sum(1 for ticks in crossed if ticks), sum(crossed), max(crossed)) == (567, 742, 11)


def test_few_numbers_of_the_recording_are_needed_for_it() -> None:
    # 39 liquidities of 6,046 say what lay there in the morning, 3 more were solved from amounts.
    assert len(MORNING) == 39
    assert sorted({*MORNING, *CROSSED_ONLY}) == list(range(min(MORNING), max(MORNING) + 1, SPACING))
    assert MORNING.keys().isdisjoint(CROSSED_ONLY)


@pytest.mark.parametrize(("segment", "share"), [(198_980, 1e-18), (199_320, 1e-17), (199_330, 1e-17), (199_050, 1e-18)])
def test_one_wrong_tick_in_the_morning_is_noticed(segment: int, share: float) -> None:
    morning = MORNING | CROSSED_ONLY
    wrong = morning | {segment: morning[segment] + max(1, int(morning[segment] * share)) * 3}
    assert replay(wrong)[2]


def test_a_wrong_fee_is_noticed() -> None:
    pool = Pool(MORNING | CROSSED_ONLY, opening_state(DAY[0]))
    wrong = msgspec.structs.replace(pool.state, fee_pips=501)
    assert kind_of(pool.state, DAY[0]) is not None
    assert kind_of(wrong, DAY[0]) is None


def test_every_mint_and_burn_moves_what_it_did() -> None:
    pool = Pool(MORNING | CROSSED_ONLY, opening_state(DAY[0]))
    checked = 0
    for event in DAY:
        if event.kind == "swap":
            found = kind_of(pool.state, event)
            assert found is not None
            pool.state = found[1].after
        elif event.kind in {"mint", "burn"}:
            moved = amounts_held(
                pool.state.sqrt_price_x96, event.low_tick, event.high_tick, event.liquidity,
                is_up=event.kind == "mint",
            )  # fmt: skip
            assert moved == (event.amount0, event.amount1)
            checked += event.liquidity > 0
            pool.add(event)
    assert checked == 109


def test_positions_of_one_swap_are_paid_their_fees() -> None:
    """Liquidity that came before one swap and left after it collects what it put in, as it stands, and its fees."""
    pool = Pool(MORNING | CROSSED_ONLY, opening_state(DAY[0]))
    paid = 0
    for place, event in enumerate(DAY):
        if event.kind == "swap":
            found = kind_of(pool.state, event)
            assert found is not None
            before, pool.state = pool.state, found[1].after
            around = [DAY[place - 1], *DAY[place + 1 : place + 3]] if place else []
            is_one_position = len({(one.owner, one.low_tick, one.high_tick) for one in around}) == 1
            is_visit = [one.kind for one in around] == ["mint", "burn", "collect"] and is_one_position
            if is_visit and found[1].ticks_crossed == 0:
                assert_paid(event, found[1], before.liquidity, around)
                paid += 1
        elif event.added:
            pool.add(event)
    assert paid >= 20


def assert_paid(event: Event, done: Swap, active: int, around: list[Event]) -> None:
    mint, burn, collect = around
    growth = (done.fee << 128) // active
    fees = fees_owed(mint.liquidity, growth + 7, 7)
    assert fees > 0
    fee0, fee1 = (fees, 0) if event.is_zero_for_one else (0, fees)
    assert (collect.amount0, collect.amount1) == (burn.amount0 + fee0, burn.amount1 + fee1)
