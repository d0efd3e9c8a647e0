"""Sizing: back into the band, never out of its other side, and only what both ends of the interval agree on."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.decisions import HedgeTarget
from bot.engine.sizing import is_inside_after, lots_to_trade, shrinks, widen

LOT = 0.1
deltas = st.floats(-500.0, 500.0)
edge = HedgeTarget.to_edge(-1.0, 1.0, "edge")
centre = HedgeTarget.to_centre(-1.0, 1.0, 0.25, "centre")
inner = HedgeTarget(-1.0, 1.0, -0.5, 0.5, 1.0, "inner edge")


@pytest.mark.parametrize(
    ("target", "low", "high"),
    [(edge, 30, -30), (centre, 43, -38), (inner, 35, -35)],
    ids=["edge", "centre", "inner edge"],
)
def test_trades_back_to_where_the_policy_says(target: HedgeTarget, low: int, high: int) -> None:
    assert lots_to_trade(target, -4.0, -4.0, LOT) == low
    assert lots_to_trade(target, 4.0, 4.0, LOT) == high


@pytest.mark.parametrize("delta_base", [-1.0, -0.3, 0.0, 0.99, 1.0])
def test_inside_the_band_and_on_its_edge_nothing_is_traded(delta_base: float) -> None:
    assert lots_to_trade(edge, delta_base, delta_base, LOT) == 0


def test_a_policy_that_holds_never_trades() -> None:
    assert lots_to_trade(HedgeTarget.hold("wait"), -1e12, 1e12, LOT) == 0


def test_rounds_up_so_that_the_band_is_really_entered() -> None:
    assert lots_to_trade(edge, -1.01, -1.01, LOT) == 1
    assert lots_to_trade(edge, 1.01, 1.01, LOT) == -1
    assert lots_to_trade(edge, -1.1, -1.1, LOT) == 1, "a whole lot short is one lot, whatever its last bit"


@pytest.mark.parametrize(
    ("low_base", "high_base", "lots"),
    [(-4.0, -2.0, 10), (2.0, 4.0, -10), (-4.0, 0.0, 0), (-4.0, 4.0, 0), (0.0, 4.0, 0)],
)
def test_of_an_interval_only_what_both_ends_need_is_traded(low_base: float, high_base: float, lots: int) -> None:
    assert lots_to_trade(edge, low_base, high_base, LOT) == lots


@given(
    delta_low=deltas,
    spread=st.floats(0.0, 50.0),
    middle=st.floats(-200.0, 200.0),
    half_lots=st.floats(0.5, 500.0),
    share=st.floats(0.0, 1.0),
    lot=st.floats(1e-3, 5.0),
)
def test_never_past_the_far_edge_and_never_away_from_the_band(
    delta_low: float, spread: float, middle: float, half_lots: float, share: float, lot: float
) -> None:
    """For every band a lot wide or wider, traded to anywhere between its centre and its edge."""
    half = half_lots * lot
    target = HedgeTarget(middle - half, middle + half, middle - share * half, middle + share * half, 1.0, "any")
    delta_high = delta_low + spread
    lots = lots_to_trade(target, delta_low, delta_high, lot)
    slack = 1e-6 * lot + 1e-9 * (abs(middle) + abs(delta_low) + half)
    if delta_high < target.low_base:
        assert lots >= 0
        assert delta_high + lots * lot <= target.high_base + slack
        assert delta_high + lots * lot >= min(target.low_base, target.buy_to_base) - 0.5 * lot - slack
    elif delta_low > target.high_base:
        assert lots <= 0
        assert delta_low + lots * lot >= target.low_base - slack
        assert delta_low + lots * lot <= max(target.high_base, target.sell_to_base) + 0.5 * lot + slack
    else:
        assert lots == 0


@given(delta=deltas, middle=st.floats(-5.0, 5.0), half_lots=st.floats(1e-6, 0.49), lot=st.floats(0.05, 5.0))
def test_a_band_narrower_than_a_lot_ends_within_half_a_lot_and_is_not_traded_to_and_fro(
    delta: float, middle: float, half_lots: float, lot: float
) -> None:
    half = half_lots * lot
    target = HedgeTarget.to_centre(middle - half, middle + half, middle, "narrow")
    after = delta + lots_to_trade(target, delta, delta, lot) * lot
    if not target.low_base <= delta <= target.high_base:
        assert abs(after - middle) <= 0.5 * lot + 1e-6
    assert lots_to_trade(target, after, after, lot) == 0, "what one hedge left is not hedged again"


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_half_a_lot_outside_a_narrow_band_is_left_alone(side: float) -> None:
    narrow = HedgeTarget.to_centre(-0.01, 0.01, 0.0, "narrow")
    assert lots_to_trade(narrow, side * 0.5, side * 0.5, 1.0) == 0, "the other side would be as far away"


@given(delta_low=deltas, spread=st.floats(0.0, 50.0))
def test_buying_mirrors_selling(delta_low: float, spread: float) -> None:
    delta_high = delta_low + spread
    assert lots_to_trade(edge, delta_low, delta_high, LOT) == -lots_to_trade(edge, -delta_high, -delta_low, LOT)


def test_a_one_sided_band_is_served() -> None:
    floor = HedgeTarget(-1.0, inf, -1.0, inf, 1.0, "at least −1")
    assert lots_to_trade(floor, -4.0, -4.0, LOT) == 30
    assert lots_to_trade(floor, 1e9, 1e9, LOT) == 0


@pytest.mark.parametrize(
    ("lots", "low_base", "high_base", "is_smaller"),
    [
        (10, -4.0, -4.0, True),
        (-10, -4.0, -4.0, False),
        (79, -4.0, -4.0, True),
        (80, -4.0, -4.0, False),
        (10, -4.0, 0.2, False),
        (10, -4.0, -2.0, True),
        (0, -4.0, -4.0, False),
    ],
)
def test_shrinks_only_if_it_does_at_both_ends(lots: int, low_base: float, high_base: float, is_smaller: bool) -> None:
    assert shrinks(lots, LOT, low_base, high_base, 0.0) is is_smaller
    assert shrinks(-lots, LOT, -high_base, -low_base, 0.0) is is_smaller
    assert shrinks(lots, LOT, low_base + 7.0, high_base + 7.0, 7.0) is is_smaller, "distance is from the target"


@pytest.mark.parametrize(
    ("lots", "low_base", "high_base", "is_inside"),
    [
        (30, -4.0, -3.0, True),
        (40, -4.0, -3.0, True),
        (41, -4.0, -3.0, False),
        (-40, 3.0, 4.0, True),
        (-41, 3.0, 4.0, False),
    ],
)
def test_the_far_edge_is_that_of_the_nearer_end(lots: int, low_base: float, high_base: float, is_inside: bool) -> None:
    assert is_inside_after(lots, LOT, edge, low_base, high_base) is is_inside


@pytest.mark.parametrize(
    ("target", "ends"),
    [
        (HedgeTarget.to_edge(-1.0, 2.0, "edge"), (-1.75, 2.75, -1.75, 2.75)),  # about 0.5, the middle
        (centre, (0.25 - 1.875, 0.25 + 1.125, 0.25, 0.25)),  # the centre that is traded to stays where it is
        (inner, (-1.5, 1.5, -0.75, 0.75)),
    ],
)
def test_a_band_is_widened_about_its_centre_with_where_trades_end(
    target: HedgeTarget, ends: tuple[float, float, float, float]
) -> None:
    found = widen(target, 1.5)
    assert (found.low_base, found.high_base, found.buy_to_base, found.sell_to_base) == pytest.approx(ends)
    assert (found.urgency, found.reason) == (target.urgency, f"{target.reason}; × 1.5 by asset class")
    assert widen(target, 1.0) is target


def test_a_band_without_edges_stays_as_it_is() -> None:
    for target in (HedgeTarget.hold("wait"), HedgeTarget(nan, 1.0, nan, 1.0, 0.0, "broken")):
        assert widen(target, 2.0) is target
