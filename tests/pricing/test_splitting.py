from __future__ import annotations

from itertools import product
from math import inf, isnan, sqrt

import msgspec
import numpy as np
import pytest

from bot.pricing.costs import CostCurve, impact_root, order_book_curve, pool_curve, spread_curve, with_carry
from bot.pricing.splitting import Split, best_split

PX = 60_000.0
CENT = 0.01


def venues(lot_base: float = 0.0) -> list[CostCurve]:
    """A book of 3 bp fee, a venue with square-root impact and $1 per order, a v3 pool of L = 3e6 with $6 of gas."""
    levels = [(60_005.0, 0.8), (60_012.0, 1.5), (60_026.0, 2.0), (60_041.0, 3.0), (60_060.0, 5.0)]
    root = impact_root(PX, 0.8, 0.6 / sqrt(365.0), 20_000.0)
    return [
        order_book_curve(PX, levels, 3e-4, is_buy=True, lot_base=lot_base, label="book"),
        spread_curve(PX, 1e-4, 1.5e-4, root_coefficient=root, fixed_quote=1.0, lot_base=lot_base, label="sqrt"),
        pool_curve(PX, 3e6 / sqrt(PX), 1e-4, is_buy=True, gas_quote=6.0, lot_base=lot_base, label="pool"),
    ]


def random_curves(rng: np.random.Generator, count: int, lot_base: float, least_share: float = 0.3) -> list[CostCurve]:
    """Books, square-root venues, pools and flat ones; over half of them with a fixed cost, some with a minimum."""
    curves = []
    for _ in range(count):
        fee = rng.uniform(0.0, 6e-4)
        fixed = float(rng.choice([0.0, 0.0, 0.0, 0.5, 2.0, 6.0, 15.0]))
        least = rng.uniform(0.0, 0.5) if rng.random() < least_share else 0.0
        match rng.integers(4):
            case 0:
                prices = PX + np.cumsum(rng.uniform(0.5, 15.0, rng.integers(1, 8)))
                levels = [(float(px), float(rng.uniform(0.05, 2.0))) for px in prices]
                curve = order_book_curve(PX, levels, fee, is_buy=True)
            case 1:
                root = impact_root(PX, rng.uniform(0.3, 1.2), 0.03, 10.0 ** rng.uniform(2.0, 5.0))
                curve = spread_curve(PX, rng.uniform(0.0, 2e-4), fee, root_coefficient=root)
            case 2:
                curve = pool_curve(PX, 10.0 ** rng.uniform(0.5, 5.0), fee, is_buy=True)
            case _:
                curve = spread_curve(PX, 0.0, fee, max_base=rng.uniform(0.2, 4.0))
        curves.append(msgspec.structs.replace(curve, fixed_quote=fixed, lot_base=lot_base, min_base=least))
    return curves


def by_brute_force(lots: int, lot_base: float, curves: list[CostCurve]) -> np.ndarray:
    """Return the least cost of placing 0, 1, … `lots` lots: every amount on every venue tried, one venue at a time."""
    best = np.full(lots + 1, inf)
    best[0] = 0.0
    for curve in curves:
        after = best.copy()
        step = max(1, round(curve.lot_base / lot_base))
        for taken in range(step, lots + 1, step):
            size_base = taken * lot_base
            if curve.min_base - 1e-9 <= size_base <= curve.max_base + 1e-9:
                cost = curve.cost_quote(size_base)
                after[taken:] = np.minimum(after[taken:], best[: lots + 1 - taken] + cost)
        best = after
    return best


def check_legal(split: Split, curves: list[CostCurve]) -> None:
    for size, cost, curve in zip(split.quantities_base, split.costs_quote, curves, strict=True):
        assert cost == curve.cost_quote(size)
        if size:
            assert curve.min_base - 1e-9 <= size <= curve.max_base * (1.0 + 1e-9)
            if curve.lot_base:
                assert size / curve.lot_base == pytest.approx(round(size / curve.lot_base), abs=1e-6)
    assert split.cost_quote == pytest.approx(sum(split.costs_quote))


@pytest.mark.parametrize(
    ("quantity_base", "sizes", "cost", "single"),
    [(0.2, (0.2, 0.0, 0.0), 4.60, 4.60), (1.0, (0.0, 0.0, 1.0), 16.90, 16.90), (2.0, (0.0, 0.397, 1.603), 36.94, None),
     (5.0, (0.8, 1.816, 2.384), 112.19, 155.45), (10.0, (2.3, 4.480, 3.220), 275.13, 375.72)],
)  # fmt: skip
def test_the_table_of_three_venues(
    quantity_base: float, sizes: tuple[float, ...], cost: float, single: float | None
) -> None:
    split = best_split(quantity_base, venues())
    assert split.quantities_base == pytest.approx(sizes, abs=6e-4)
    assert split.cost_quote == pytest.approx(cost, abs=6e-3)
    assert split.is_proven
    assert split.unplaced_base == 0.0
    if single is not None:
        alone = min(
            best_split(quantity_base, [curve]).cost_quote for curve in venues() if curve.max_base > quantity_base
        )
        assert alone == pytest.approx(single, abs=6e-3)


@pytest.mark.parametrize("quantity_base", [0.2, 1.0, 2.0, 5.0, 10.0])
def test_the_table_equals_brute_force_to_the_cent(quantity_base: float) -> None:
    lot_base = quantity_base / 400
    split = best_split(quantity_base, venues(lot_base))
    assert split.cost_quote == pytest.approx(by_brute_force(400, lot_base, venues(lot_base))[-1], abs=CENT)
    assert best_split(quantity_base, venues()).cost_quote <= split.cost_quote + 1e-6


def test_500_random_cases_equal_brute_force_to_the_cent() -> None:
    rng = np.random.default_rng(5)
    split_over = 0
    for _ in range(500):
        lot_base = float(rng.choice([0.1, 0.05, 0.02]))
        lots = int(rng.integers(1, 100))
        curves = random_curves(rng, int(rng.integers(1, 9)), lot_base)
        split = best_split(lots * lot_base, curves)
        check_legal(split, curves)
        least = by_brute_force(lots, lot_base, curves)
        most = int(np.flatnonzero(least < inf)[-1])
        assert sum(split.quantities_base) == pytest.approx(most * lot_base)
        assert split.unplaced_base == pytest.approx((lots - most) * lot_base, abs=1e-9)
        assert split.cost_quote == pytest.approx(least[most], abs=CENT)
        assert split.is_proven
        split_over += sum(size > 0.0 for size in split.quantities_base) > 1
        if most:
            used = split.quantities_base.index(max(split.quantities_base))
            without = by_brute_force(most, lot_base, curves[:used] + curves[used + 1 :])[-1]
            assert split.next_best == pytest.approx(without, abs=CENT)
    assert split_over > 200


def test_twenty_venues_equal_brute_force_to_the_cent() -> None:
    rng = np.random.default_rng(6)
    for _ in range(20):
        curves = random_curves(rng, 20, 0.05)
        split = best_split(5.0, curves, is_explained=False)
        check_legal(split, curves)
        assert split.is_proven
        assert split.cost_quote == pytest.approx(by_brute_force(100, 0.05, curves)[-1], abs=CENT)
        assert isnan(split.next_best)


def test_without_lots_no_other_split_of_the_same_venues_is_cheaper() -> None:
    rng = np.random.default_rng(7)
    for _ in range(100):
        curves = random_curves(rng, 5, 0.0, least_share=0.0)
        split = best_split(3.0, curves)
        assert sum(split.quantities_base) + split.unplaced_base == pytest.approx(3.0, rel=1e-12)
        for off, to in product(range(5), range(5)):
            moved = list(split.quantities_base)
            shift = min(1e-3, moved[off])
            moved[off] -= shift
            moved[to] += shift
            if off != to and moved[to] <= curves[to].max_base:
                costs = [curve.cost_quote(size) for curve, size in zip(curves, moved, strict=True)]
                assert sum(costs) >= split.cost_quote - 1e-6


def can_trade(curve: CostCurve, quantity_base: float) -> bool:
    lots = int(min(curve.max_base, quantity_base) / curve.lot_base + 1e-6)
    return lots > 0 and curve.min_base <= lots * curve.lot_base + 1e-9


@pytest.mark.parametrize("sizes", [(1, 2, 5, 10), tuple(range(1, 11)), (1, 10, 100), (1, 5, 10)])
def test_500_random_cases_of_unequal_lots_equal_brute_force_to_the_cent(sizes: tuple[int, ...]) -> None:
    """As much is placed as any combination of lots can place, but for less than the finest lot, for the least cost."""
    rng = np.random.default_rng(sum(sizes))
    unproven = 0
    for _ in range(125):
        grid_base = float(rng.choice([0.001, 0.01, 0.1]))
        lots = int(rng.integers(1, 250))
        quantity_base = lots * grid_base
        curves = [
            msgspec.structs.replace(curve, lot_base=grid_base * float(rng.choice(sizes)))
            for curve in random_curves(rng, int(rng.integers(2, 7)), 0.0)
        ]
        split = best_split(quantity_base, curves)
        check_legal(split, curves)
        costs = by_brute_force(lots, grid_base, curves)
        most = int(np.flatnonzero(costs < inf)[-1])
        finest = min([round(one.lot_base / grid_base) for one in curves if can_trade(one, quantity_base)], default=1)
        if lots - most < finest:
            assert split.unplaced_base < finest * grid_base * (1.0 - 1e-9)
            least = float(costs[max(0, lots - finest + 1) : most + 1].min())
        else:
            assert sum(split.quantities_base) == pytest.approx(most * grid_base)
            least = float(costs[most])
        assert split.cost_quote == pytest.approx(least, abs=CENT)
        unproven += not split.is_proven
    assert unproven <= 4


def test_a_coarse_lot_gives_way_to_the_combination_that_places_everything() -> None:
    """Seven tenths are no multiple of 0.3 or 0.2, and together they are: one of 0.3 and two of 0.2."""
    cheap, dear = spread_curve(PX, 1e-4, 0.0, lot_base=0.3), spread_curve(PX, 9e-4, 0.0, lot_base=0.2)
    split = best_split(0.7, [cheap, dear])
    assert split.quantities_base == pytest.approx((0.6, 0.0))  # what is left is less than the finest lot
    finest = spread_curve(PX, 90e-4, 0.0, lot_base=0.1, max_base=0.1)
    split = best_split(0.7, [cheap, dear, finest])
    assert split.quantities_base == pytest.approx((0.3, 0.4, 0.0))
    assert split.unplaced_base == 0.0


def test_where_the_search_was_cut_that_is_said() -> None:
    """Knapsacks of many coarse lots, and of a fine one that can take next to nothing."""
    rng = np.random.default_rng(4)
    curves = [spread_curve(PX, 1e-6, 0.0, lot_base=1e-4, max_base=1e-4)]
    for lot in (37, 41, 43, 47, 53, 59, 61, 67, 71, 73):
        rate = float(rng.uniform(1e-4, 9e-4))
        curves.append(spread_curve(PX, rate, 0.0, root_coefficient=8.0, lot_base=lot * 1e-3, fixed_quote=1.0))
    split = best_split(1.2345, curves)
    check_legal(split, curves)
    assert not split.is_proven
    assert split.unplaced_base < 1e-3


def test_what_cannot_be_placed_is_said() -> None:
    small = spread_curve(PX, 1e-4, 0.0, max_base=1.5, lot_base=0.1)
    large = spread_curve(PX, 5e-4, 0.0, min_base=4.0, max_base=6.0, lot_base=0.1)
    over = best_split(10.0, [small, large])
    assert over.quantities_base == pytest.approx((1.5, 6.0))
    assert over.unplaced_base == pytest.approx(2.5)
    assert over.next_best == inf
    between = best_split(3.0, [small, large])  # more than the small one takes, less than the large one asks for
    assert between.quantities_base == pytest.approx((1.5, 0.0))
    assert between.unplaced_base == pytest.approx(1.5)
    assert best_split(4.05, [small, large]).quantities_base == pytest.approx((0.0, 4.0))
    below = best_split(0.05, [small, large])
    assert below.quantities_base == (0.0, 0.0)
    assert below.unplaced_base == 0.05


def test_nothing_to_trade_or_nowhere_to_trade_costs_nothing() -> None:
    assert best_split(0.0, venues()) == Split((0.0,) * 3, (0.0,) * 3, 0.0, 0.0)
    assert best_split(2.0, []).unplaced_base == 2.0
    empty = best_split(2.0, [order_book_curve(PX, [], 0.0, is_buy=True)])
    assert (empty.quantities_base, empty.unplaced_base) == ((0.0,), 2.0)


def test_carry_decides_between_venues_that_cost_the_same() -> None:
    plain = spread_curve(PX, 1e-4, 2e-4)
    funded = with_carry(plain, PX, 5.0, is_buy=False, funding_rate_per_day=1e-4)
    split = best_split(1.0, [plain, funded])
    assert split.quantities_base == (0.0, 1.0)
    assert split.cost_quote == pytest.approx(PX * (3e-4 - 5e-4))
    assert split.next_best == pytest.approx(PX * 3e-4)


def test_a_fixed_cost_is_paid_only_where_it_saves_more() -> None:
    dear, cheap = spread_curve(PX, 5e-4, 0.0), spread_curve(PX, 1e-4, 0.0, fixed_quote=24.0)
    assert best_split(0.99, [dear, cheap]).quantities_base == (0.99, 0.0)
    assert best_split(1.01, [dear, cheap]).quantities_base == (0.0, 1.01)
