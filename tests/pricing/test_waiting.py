from __future__ import annotations

from math import inf, sqrt

import numpy as np
import pytest

from bot.pricing.impulse import risk_rate_quote
from bot.pricing.waiting import Wait, expected_wait_cost, maker_or_taker


@pytest.mark.parametrize("max_rest_s", [5.0, 60.0, inf])
def test_the_closed_form_is_the_mean_over_many_waits(max_rest_s: float) -> None:
    rng = np.random.default_rng(3)
    fill_s = rng.exponential(1.0 / 0.05, 200_000)
    waited_s = np.minimum(fill_s, max_rest_s)
    cost = waited_s * 0.02 + np.where(fill_s < max_rest_s, -1.5, 4.0)
    mean = expected_wait_cost(-1.5, 4.0, 0.05, 0.02, max_rest_s)
    assert mean == pytest.approx(float(cost.mean()), abs=4.0 * float(cost.std()) / sqrt(200_000))


def test_no_wait_is_crossing_and_no_chance_is_crossing_later() -> None:
    assert expected_wait_cost(-1.5, 4.0, 0.05, 0.02, 0.0) == 4.0
    assert expected_wait_cost(-1.5, 4.0, 0.0, 0.02, 30.0) == pytest.approx(4.6)
    assert expected_wait_cost(-1.5, 4.0, 0.0, 0.02) == inf
    assert expected_wait_cost(-1.5, 4.0, 0.0, 0.0) == 4.0


def choice(off_base: float, **changes: float) -> Wait:
    terms = {"half_spread_rate": 1e-4, "maker_rate": 1e-4, "fill_rate_per_s": 0.02, "max_rest_s": 60.0} | changes
    risk = risk_rate_quote(1e-4, 30_000.0, 0.6)
    return maker_or_taker(0.5, 30_000.0, 9.0, off_base=off_base, risk_quote_per_year=risk, **terms)


def test_far_off_it_crosses_and_near_it_rests_with_the_line_where_it_says() -> None:
    near, line = choice(0.5), choice(0.5).most_off_base
    assert near.is_maker
    assert 0.0 < near.fill_probability < 1.0
    assert near.wait_s < 60.0
    assert choice(line * 0.999).is_maker
    assert not choice(line * 1.001).is_maker
    assert choice(line, max_rest_s=inf).rest_quote == pytest.approx(9.0)


def test_what_makes_a_maker_fill_worse_makes_crossing_better() -> None:
    base = choice(1.0)
    for changes in ({"adverse_rate": 2e-4}, {"maker_rate": 3e-4}, {"drift_px_per_s": 0.2}, {"half_spread_rate": 0.0}):
        assert choice(1.0, **changes).rest_quote > base.rest_quote
        assert choice(1.0, **changes).most_off_base < base.most_off_base
    assert not choice(0.0, adverse_rate=1e-3).is_maker
    assert choice(0.0, adverse_rate=1e-3).most_off_base == 0.0
    free = maker_or_taker(
        1.0, 100.0, 1.0, half_spread_rate=0, maker_rate=0, fill_rate_per_s=0.1, off_base=5.0, risk_quote_per_year=0
    )
    assert free.most_off_base == inf
