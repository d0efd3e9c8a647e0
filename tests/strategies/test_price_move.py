from __future__ import annotations

import math

import pytest

from strategies import PriceMove
from tests.strategies.views import view

POLICY = PriceMove(move_fraction=0.01)


@pytest.mark.parametrize(
    ("spot_px", "is_due"), [(1_909.0, True), (1_871.0, True), (1_908.8, False), (1_871.2, False), (1_890.0, False)]
)
def test_is_due_once_spot_has_moved_far_enough(spot_px: float, is_due: bool) -> None:
    target = POLICY.target(view(spot_px=spot_px, last_hedge_px=1_890.0, target_delta_base=2.0))
    assert (target.high_base < math.inf) == is_due
    if is_due:
        assert (target.low_base, target.buy_to_base, target.sell_to_base, target.high_base) == (1.95, 2.0, 2.0, 2.05)


def test_the_first_hedge_is_due_at_once() -> None:
    target = POLICY.target(view(last_hedge_px=0.0))
    assert target.high_base == 0.05
    assert target.reason == "move of 1.00%: first hedge"


@pytest.mark.parametrize(
    ("field", "bad"),
    [("spot_px", math.nan), ("spot_px", 0.0), ("last_hedge_px", math.nan), ("last_hedge_px", -1.0), ("lot_base", 0.0)],
)
def test_a_damaged_view_is_held(field: str, bad: float) -> None:
    target = POLICY.target(view(**{field: bad}))
    assert (target.low_base, target.high_base) == (-math.inf, math.inf)
    assert target.reason.startswith("holding")
