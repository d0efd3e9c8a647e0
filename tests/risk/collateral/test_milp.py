"""HiGHS on programs with whole numbers: CO2 against every way there is, fees paid once, minimums, a cut-off solver."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bot.risk.collateral.check import evaluate
from bot.risk.collateral.lp import Status
from bot.risk.collateral.milp import solve_milp
from bot.risk.collateral.program import build_program
from bot.risk.collateral.tables import build_tables
from tests.risk.collateral.brute import best_in_lots, count
from tests.risk.collateral.instances import random_problem, transfers_in_lots


def test_co2_is_the_best_of_every_way_and_the_cheapest_fee_is_not() -> None:
    problem = transfers_in_lots()
    tables = build_tables(problem)
    program = build_program(tables)
    solution = solve_milp(program, program.cost, time_limit_s=10.0)
    assert solution.is_optimal
    assert solution.columns is not None
    sent = program.sent(solution.columns)
    outcome = evaluate(tables, sent)
    assert outcome.is_met
    best = best_in_lots(problem)
    assert (best.is_allowed, best.short) == (True, 0.0)
    assert outcome.cost_quote == pytest.approx(best.cost, rel=1e-9)
    assert dict(zip((r.name for r in tables.routes), sent, strict=True)) == {
        "fast-later": 50_000.0,
        "fast-urgent": 200_000.0,
        "fast-urgent-pro-rata": 0.0,
        "slow-later": 100_000.0,
        "slow-urgent": 0.0,
    }

    # by the cheapest fee that is in time: as much as is needed over the route with the lowest fee, then over the next
    amounts: dict[str, float] = {}
    stock = {one.place: one.amount for one in problem.holdings}
    lacking = {"URGENT": 200_000.0, "LATER": 150_000.0}
    by_s = {one.venue: one.by_s for one in problem.needs}
    in_time = [one for one in problem.routes if one.delay_p95_s <= by_s[one.to_place]]
    for route in sorted(in_time, key=lambda one: one.fixed_fee):
        lots = min(stock[route.from_place], lacking[route.to_place], route.most or 0.0)
        amounts[route.name] = lots
        stock[route.from_place] -= lots
        lacking[route.to_place] -= lots
    by_fee = count(problem, amounts)
    assert by_fee.is_allowed
    assert by_fee.short > 90_000.0


def test_a_fee_paid_once_and_a_minimum_decide_whether_a_route_is_used() -> None:
    problem = transfers_in_lots()
    free = [msgspec.structs.replace(one, lot=0.0) for one in problem.routes]
    free[1] = msgspec.structs.replace(free[1], fixed_fee=1e6, least=1e6 + 10.0)  # never worth it
    free[2] = msgspec.structs.replace(free[2], least=210_000.0)
    tables = build_tables(msgspec.structs.replace(problem, routes=tuple(free)))
    program = build_program(tables)
    solution = solve_milp(program, program.cost, time_limit_s=10.0)
    assert solution.columns is not None
    sent = program.sent(solution.columns)
    assert evaluate(tables, sent).is_met
    assert sent[1] == 0.0
    assert sent[2] == pytest.approx(210_000.0)  # 199,962 would do
    assert sent[0] == pytest.approx(40_000.0)  # what is left of the fast wallet
    assert sent[3] == pytest.approx((149_900.0 - 39_999.0 + 25.0) / (1.0 - 0.5e-4), abs=0.1)


def test_a_solver_that_is_cut_off_says_so() -> None:
    problem = random_problem(
        np.random.default_rng(1), venues=4, assets=4, chains=3, scenarios=5, has_fees=True, lot=5_000.0
    )
    program = build_program(build_tables(problem))
    cut = solve_milp(program, program.cost, time_limit_s=1e-6)
    assert cut.status is Status.STOPPED
    assert not cut.is_optimal
