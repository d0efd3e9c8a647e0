from __future__ import annotations

import math

import pytest

from strategies import DeltaBand, Unhedged
from strategies.policy import is_tradable
from tests.strategies.views import view


def test_the_spec_names_every_parameter() -> None:
    assert Unhedged().spec == "unhedged"
    assert DeltaBand(half_width_base=5, trade_to="centre").spec == "delta_band:half_width_base=5:trade_to=centre"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_view_is_tradable_only_with_a_target_and_a_lot(bad: float) -> None:
    assert is_tradable(view())
    assert not is_tradable(view(target_delta_base=bad))
    assert not is_tradable(view(lot_base=bad))
    assert not is_tradable(view(lot_base=0.0))
