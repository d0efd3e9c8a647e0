from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from strategies import DeltaBand
from tests.strategies.views import view


def test_edge_trades_back_to_the_band() -> None:
    target = DeltaBand(half_width_base=5).target(view(target_delta_base=2.0))
    assert (target.low_base, target.high_base) == (-3.0, 7.0)
    assert (target.buy_to_base, target.sell_to_base) == (-3.0, 7.0)
    assert target.reason == "fixed band ±5 ETH to the edge"


def test_centre_trades_back_to_the_target() -> None:
    target = DeltaBand(half_width_base=5, trade_to="centre").target(view(target_delta_base=2.0))
    assert (target.low_base, target.high_base) == (-3.0, 7.0)
    assert (target.buy_to_base, target.sell_to_base) == (2.0, 2.0)


def test_is_never_narrower_than_a_lot() -> None:
    target = DeltaBand(half_width_base=0.01).target(view(lot_base=0.1))
    assert (target.low_base, target.high_base) == (-0.1, 0.1)


@pytest.mark.parametrize("damage", [{"target_delta_base": math.nan}, {"lot_base": math.nan}])
def test_holds_on_a_damaged_view(damage: dict[str, float]) -> None:
    assert DeltaBand(half_width_base=5).target(view(**damage)).high_base == math.inf


@pytest.mark.parametrize("wrong", [{"half_width_base": -5}, {"half_width_base": 5, "trade_to": "inner"}, {}])
def test_refuses_parameters_that_do_not_fit(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DeltaBand.model_validate({"type": "delta_band", **wrong})
