from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bot.domain.decisions import HedgeTarget, Legs
from bot.domain.units import NS_PER_HOUR
from bot.pricing.black76 import greeks
from strategies import FixedInterval, Leland
from tests.strategies.views import NOW_NS, view

DAILY = Leland(interval_s=86_400)


def ask(policy: Leland = DAILY, qty: float = -1.0, **changes: Any) -> HedgeTarget:
    legs = Legs(*(np.array([x]) for x in (90.0, 100.0, 14 / 365, 0.6, qty)), np.array([True]))
    gamma = qty * float(greeks(90.0, 100.0, 14 / 365, 0.6, True).gamma)
    seen: dict[str, Any] = {"spot_px": 90.0, "vol": 0.6, "cost_rate": 5e-4, "legs": legs, "last_hedge_ns": 0}
    return policy.target(view(gamma, **{**seen, **changes}))


@pytest.mark.parametrize(("qty", "sign"), [(-1.0, 1.0), (1.0, -1.0)])
def test_trades_to_the_delta_at_the_modified_vol(qty: float, sign: float) -> None:
    target = ask(qty=qty)
    modified = 0.6 * math.sqrt(1.0 + sign * 0.02540593855086768)  # A of a day at 5 bp and 60 %: golden_bands.csv
    own, other = (float(greeks(90.0, 100.0, 14 / 365, vol, True).delta) for vol in (0.6, modified))
    assert target.buy_to_base == target.sell_to_base == pytest.approx(qty * (own - other), rel=1e-9)
    assert target.buy_to_base > 0.0
    assert target.high_base - target.low_base == pytest.approx(0.1)


def test_waits_for_its_clock() -> None:
    waiting = ask(last_hedge_ns=NOW_NS - 23 * NS_PER_HOUR)
    assert waiting.high_base == math.inf
    assert waiting.reason == "clock: next hedge in 3600 s"
    assert ask(last_hedge_ns=NOW_NS - 24 * NS_PER_HOUR).high_base < math.inf


def test_without_cost_it_is_the_plain_clock() -> None:
    plain = ask(cost_rate=0.0)
    clock = FixedInterval(interval_s=86_400).target(view(last_hedge_ns=0))
    assert (plain.low_base, plain.high_base, plain.buy_to_base) == (clock.low_base, clock.high_base, clock.buy_to_base)


@pytest.mark.parametrize(("field", "bad"), [("vol", math.nan), ("cost_rate", math.nan), ("lot_base", math.inf)])
def test_a_damaged_view_is_held(field: str, bad: float) -> None:
    target = ask(**{field: bad})
    assert (target.low_base, target.high_base) == (-math.inf, math.inf)
    assert target.reason.startswith("holding")
