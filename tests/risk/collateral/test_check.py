"""Plans counted again: shares of the total, shortfalls, broken rules, room that is left; beside the slow count."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bot.risk.collateral.check import cap_rooms, evaluate, stock_left, within_shares
from bot.risk.collateral.tables import build_tables
from tests.risk.collateral.brute import count
from tests.risk.collateral.instances import cheapest_to_deliver, random_problem
from tests.risk.collateral.test_tables import SMALL


def test_a_part_counts_no_more_than_its_share_of_what_counts() -> None:
    rng = np.random.default_rng(3)
    for _ in range(40):
        parts = rng.uniform(0.0, 10.0, 4) * (rng.random(4) < 0.8)
        shares = rng.choice([0.2, 0.4, 0.6, 1.0], 4)
        counted = within_shares(parts, shares)
        total = counted.sum()
        assert np.all(counted <= np.minimum(parts, shares * total) + 1e-9)
        # nothing larger is allowed: cutting again and again from above ends at the same
        cut = parts
        for _ in range(600):
            cut = np.minimum(cut, shares * cut.sum())
        assert counted.tolist() == pytest.approx(cut.tolist(), abs=1e-4)


def test_a_part_alone_under_a_share_counts_nothing() -> None:
    assert within_shares(np.array([5.0, 0.0]), np.array([0.4, 1.0])).tolist() == [0.0, 0.0]
    assert within_shares(np.array([5.0, 6.0]), np.array([0.4, 1.0])).tolist() == pytest.approx([4.0, 6.0])


@pytest.mark.parametrize("seed", range(8))
def test_the_count_is_that_of_the_slow_way(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, venues=3, assets=4, chains=2, scenarios=5, has_fees=True)
    tables = build_tables(problem)
    sent = np.where(rng.random(len(tables.routes)) < 0.3, rng.uniform(1e3, 6e4, len(tables.routes)), 0.0)
    outcome = evaluate(tables, sent)
    amounts = {route.name: float(v / p) for route, v, p in zip(tables.routes, sent, tables.route_px, strict=True)}
    slow = count(problem, amounts)
    assert outcome.short_quote == pytest.approx(slow.short, rel=1e-6, abs=1.0)
    assert outcome.cost_quote == pytest.approx(slow.cost, rel=1e-9)
    assert float(outcome.over.sum()) == pytest.approx(slow.over, abs=1.0)
    assert (outcome.broken == ()) == slow.is_allowed


def test_every_rule_that_is_broken_is_named() -> None:
    problem = cheapest_to_deliver()
    routes = (msgspec.structs.replace(problem.routes[0], most=1e5, lot=1e4), *problem.routes[1:])
    tables = build_tables(msgspec.structs.replace(problem, routes=routes))
    sent = np.array([115_000.0, 1_700_000.0, 0.0, 0.0, 200_000.0, 0.0])
    broken = evaluate(tables, sent).broken
    assert [words.partition(",")[0] for words in broken] == [
        "route USDC@DERIBIT takes 0 to 100000",
        "route USDC@DERIBIT takes lots of 10000",
        "wallet has 1.8e+06 of BTC",
        "DERIBIT has room for 1.5e+06",
        "DERIBIT is 315000 over its cap in the end",
    ]


def test_room_is_what_stock_gas_and_caps_leave() -> None:
    tables = build_tables(SMALL)
    sent = np.zeros(2)
    assert stock_left(tables, sent).tolist() == [7_980.0, 2_000.0]  # the gas of a first use is set aside
    room, which = cap_rooms(tables, sent)
    assert room.tolist() == [48_300.0, 1_800.0]
    assert [tables.caps[n].name for n in which] == ["V", "bridge"]
    assert stock_left(tables, np.array([1_000.0, 500.0])).tolist() == [6_980.0, 1_500.0]
    assert cap_rooms(tables, np.array([0.0, 500.0]))[0].tolist() == [48_300.0, 1_300.0]
