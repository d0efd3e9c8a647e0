from __future__ import annotations

import math

from strategies import Unhedged
from tests.strategies.views import view


def test_nothing_leaves_its_band() -> None:
    target = Unhedged().target(view())
    assert (target.low_base, target.high_base) == (-math.inf, math.inf)
    assert target.urgency == 0.0
    assert target.reason == "unhedged by policy"
