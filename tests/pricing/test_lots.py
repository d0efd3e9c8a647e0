from __future__ import annotations

from itertools import product
from math import inf, sqrt

import numpy as np
import pytest

from bot.pricing.costs import CostCurve, spread_curve
from bot.pricing.lots import LotLeg, LotSearch, settle_lots

PX = 60_000.0


def leg_of(curve: CostCurve, most_base: float) -> LotLeg:
    most_base = int(most_base / curve.lot_base + 1e-6) * curve.lot_base

    def size_at(marginal_quote: float) -> float:
        return min(curve.size_at(marginal_quote), most_base)

    def worth_at(marginal_quote: float) -> float:
        size = size_at(marginal_quote)
        return marginal_quote * size - curve.cost_quote(size)

    return LotLeg(curve.lot_base, 0.0, most_base, size_at, worth_at, curve.cost_quote)


def fill(sizers: list, quantity_base: float) -> tuple[float, list[float]]:
    """Water-filling by bisection; what a jump leaves goes where there is room."""
    low, high = -1e3, 1e5
    for _ in range(100):
        middle = 0.5 * (low + high)
        if sum(sizer(middle) for sizer in sizers) < quantity_base:
            low = middle
        else:
            high = middle
    sizes = [sizer(low) for sizer in sizers]
    for place, sizer in enumerate(sizers):
        sizes[place] += max(0.0, min(quantity_base - sum(sizes), sizer(high) - sizes[place]))
    return high, sizes


def test_lots_go_where_they_cost_least_from_wherever_one_starts() -> None:
    costs = [lambda size: 3.0 * size * sqrt(size), lambda size: 2.0 * size, lambda size: size * size]
    least = min(
        sum(cost(count) if count else 0.0 for cost, count in zip(costs, counts, strict=True))
        for counts in product(range(1, 5), range(4), range(9))
        if sum(counts) == 7
    )
    for start in ([0, 0, 0], [4, 3, 0], [9, 9, 9], [1, 3, 3]):
        counts = list(start)
        assert settle_lots(7, 1.0, counts, costs, [1, 0, 0], [4, 3, 8]) == 0
        assert sum(counts) == 7
        assert sum(cost(count) if count else 0.0 for cost, count in zip(costs, counts, strict=True)) == least


def test_lots_beyond_the_limits_are_left_over() -> None:
    counts = [0, 0]
    assert settle_lots(9, 0.1, counts, [lambda size: size, lambda size: 2.0 * size], [0, 0], [4, 3]) == 2
    assert counts == [4, 3]
    assert settle_lots(1, 0.1, counts, [lambda size: size, lambda size: 2.0 * size], [1, 1], [4, 3]) == -1
    assert counts == [1, 1]


def test_the_best_combination_of_three_lots_is_that_of_trying_all() -> None:
    rng = np.random.default_rng(3)
    for _ in range(40):
        curves = [
            spread_curve(PX, 0.0, rng.uniform(1e-4, 5e-4), root_coefficient=rng.uniform(0.0, 20.0), lot_base=lot_base)
            for lot_base in (0.01, 0.05, 0.08)
        ]
        lots = int(rng.integers(5, 100))
        search = LotSearch([leg_of(curve, 0.01 * lots) for curve in curves], 0.01 * lots, 0.0, 1e7, fill)
        search.start(20.0, inf)
        best = search.run(inf, 1000)
        least = min(
            sum(curve.cost_quote(count * curve.lot_base) for curve, count in zip(curves, counts, strict=True))
            for middle, coarse in product(range(lots // 5 + 1), range(lots // 8 + 1))
            if (counts := (lots - 5 * middle - 8 * coarse, middle, coarse))[0] >= 0
        )
        assert best is not None
        assert best.cost_quote == pytest.approx(least, rel=2e-6)
        assert sum(best.sizes_base) == pytest.approx(0.01 * lots)
        assert search.least_quote() == inf  # nothing is left to look at
        assert search.run(best.cost_quote, 10) is None


def test_the_search_is_gone_on_with_and_its_bound_holds_meanwhile() -> None:
    """Two coarse lots that a fine leg can help out with a little: much to try, and 0.05 of it cannot be placed."""
    curves = [
        spread_curve(PX, 0.0, 3e-4, lot_base=0.01),
        spread_curve(PX, 0.0, 2e-4, root_coefficient=9.0, lot_base=0.1),
        spread_curve(PX, 0.0, 1e-4, root_coefficient=9.0, lot_base=0.3),
    ]
    legs = [leg_of(curve, most) for curve, most in zip(curves, (0.02, 5.0, 5.0), strict=True)]
    search = LotSearch(legs, 4.07, 0.0, 1e6, fill)
    search.start(20.0, inf)
    assert search.least_quote() == pytest.approx(1e6 * 0.05)  # 0.07 is left of any lots of 0.1, and 0.02 can be filled
    best, looks = search.run(inf, 1), 1
    while search.least_quote() < inf:
        best, looks = search.run(inf, 1), looks + 1
    assert looks > 3
    assert best is not None
    assert sum(best.sizes_base) == pytest.approx(4.02)
