from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.instruments import TickSchedule, TickStep
from bot.simulation.depth import DepthLevel, DepthProfile, Rung, build_ladder, take_lots
from tests.instruments import INVERSE
from tests.instruments import PERPETUAL as LINEAR

PROFILE = DepthProfile((DepthLevel(1.0, 2_000.0), DepthLevel(5.0, 10_000.0)))


def rungs(ladder: list[Rung]) -> list[tuple[int, int]]:
    return [(rung.ticks, rung.left_lots) for rung in ladder]


def test_asks_rise_from_the_touch_in_whole_ticks_and_lots() -> None:
    ladder = build_ladder(LINEAR, PROFILE, 2000.0, 0.37, is_ask=True)
    # 0.37 ETH is three lots of 0.1; 1 bp of 2,000 is 0.20 and 5 bp are 1.00; 2,000 USD / 200.02 per lot is 9.99 lots.
    assert rungs(ladder) == [(40_000, 3), (40_004, 9), (40_020, 49)]


def test_bids_fall_from_the_touch() -> None:
    ladder = build_ladder(LINEAR, PROFILE, 2000.0, 0.3, is_ask=False)
    assert rungs(ladder) == [(40_000, 3), (39_996, 10), (39_980, 50)]


def test_prices_between_ticks_round_away_from_mid() -> None:
    assert rungs(build_ladder(LINEAR, DepthProfile(), 2000.01, 1.0, is_ask=True)) == [(40_001, 10)]
    assert rungs(build_ladder(LINEAR, DepthProfile(), 2000.01, 1.0, is_ask=False)) == [(40_000, 10)]


def test_quote_sized_lots_count_the_same_notional_at_any_price() -> None:
    ladder = build_ladder(INVERSE, PROFILE, 20_000.0, 0.01, is_ask=True)
    assert rungs(ladder) == [(40_000, 20), (40_004, 200), (40_020, 1_000)]


def test_levels_of_one_price_are_one_rung() -> None:
    profile = DepthProfile((DepthLevel(0.0, 1_000.0), DepthLevel(0.001, 1_000.0), DepthLevel(0.002, 2_000.0)))
    assert rungs(build_ladder(INVERSE, profile, 20_000.0, 0.01, is_ask=True)) == [(40_000, 120), (40_001, 300)]


def test_coarser_ticks_apply_from_their_price_upwards() -> None:
    coarse = msgspec.structs.replace(LINEAR, tick_schedule=TickSchedule(0.05, (TickStep(2000.1, 10),)))
    ladder = build_ladder(coarse, PROFILE, 2000.0, 0.1, is_ask=True)
    assert [rung.ticks for rung in ladder] == [40_000, 40_010, 40_020]


@pytest.mark.parametrize(("touch_px", "touch_base"), [(0.0, 1.0), (2000.0, 0.0), (0.0, 0.0)])
def test_a_missing_side_shows_nothing_at_all(touch_px: float, touch_base: float) -> None:
    assert build_ladder(LINEAR, PROFILE, touch_px, touch_base, is_ask=True) == []


def test_bids_never_reach_zero() -> None:
    profile = DepthProfile((DepthLevel(9_999.9, 1_000.0), DepthLevel(20_000.0, 1_000.0)))
    assert [rung.ticks for rung in build_ladder(LINEAR, profile, 2.0, 1.0, is_ask=False)] == [40]


def test_what_is_taken_is_gone_and_never_beyond_the_limit() -> None:
    ladder = build_ladder(LINEAR, PROFILE, 2000.0, 0.3, is_ask=True)
    assert take_lots(ladder, 5, 40_004, is_ask=True) == [(40_000, 3), (40_004, 2)]
    assert take_lots(ladder, 50, 40_004, is_ask=True) == [(40_004, 7)]
    assert take_lots(ladder, 50, 40_004, is_ask=True) == []
    assert take_lots(ladder, 50, None, is_ask=True) == [(40_020, 49)]


@given(
    touch_px=st.floats(1.0, 1e5),
    touch_base=st.floats(0.0, 1e4),
    levels=st.lists(st.tuples(st.floats(0.0, 500.0), st.floats(0.0, 1e6)), max_size=6),
    is_ask=st.booleans(),
    lots=st.integers(0, 10**6),
    slack_ticks=st.integers(-5, 10_000),
)
def test_ladders_are_ordered_and_taking_conserves_lots(
    *,
    touch_px: float,
    touch_base: float,
    levels: list[tuple[float, float]],
    is_ask: bool,
    lots: int,
    slack_ticks: int,
) -> None:
    profile = DepthProfile(tuple(DepthLevel(offset, notional) for offset, notional in sorted(levels)))
    ladder = build_ladder(LINEAR, profile, touch_px, touch_base, is_ask=is_ask)
    away = 1 if is_ask else -1
    prices = [rung.ticks * away for rung in ladder]
    assert prices == sorted(set(prices))
    if ladder:
        assert away * (ladder[0].ticks * 0.05 - touch_px) >= -1e-6
    shown_lots = sum(rung.left_lots for rung in ladder)
    assert shown_lots <= touch_base / 0.1 + sum(notional for _, notional in levels) / (0.1 * touch_px) * 1.06 + 1e-6
    limit_ticks = math.floor(touch_px / 0.05) + away * slack_ticks
    within_lots = sum(rung.left_lots for rung in ladder if away * (limit_ticks - rung.ticks) >= 0)
    taken = take_lots(ladder, lots, limit_ticks, is_ask=is_ask)
    assert sum(size for _, size in taken) == min(lots, within_lots)
    assert all(size > 0 and away * (limit_ticks - ticks) >= 0 for ticks, size in taken)
    assert sum(rung.left_lots for rung in ladder) == shown_lots - sum(size for _, size in taken)
