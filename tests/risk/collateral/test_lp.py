"""HiGHS on linear programs: CO1 with its marginals, what cannot be met, and a solver that is cut off."""

from __future__ import annotations

import numpy as np
import pytest

from bot.risk.collateral.lp import Status, solve_lp
from bot.risk.collateral.program import RowKind, build_program
from bot.risk.collateral.tables import build_tables
from tests.risk.collateral.instances import case, cheapest_to_deliver, random_problem, with_stock


def test_co1_has_the_published_optimum_and_marginals() -> None:
    published = case()
    tables = build_tables(cheapest_to_deliver())
    program = build_program(tables)
    solution = solve_lp(program, program.cost, time_limit_s=10.0)
    assert solution.is_optimal
    assert solution.columns is not None
    assert solution.marginals is not None
    sent = program.sent(solution.columns)
    assert float(tables.cost @ sent) == pytest.approx(
        published["optimum"]["annual_cost_usd"], abs=published["tolerance_usd"]
    )
    allocation = {route.name: value for route, value in zip(tables.routes, sent, strict=True)}
    assert allocation == pytest.approx(published["optimum"]["allocation_usd"], abs=1.0)

    found: dict[str, float] = {}
    for row, marginal in zip(program.rows, solution.marginals * program.cost_unit, strict=True):
        if row.kind is RowKind.MARGIN:
            name = "req_" + tables.places[tables.demand_place[row.first]]
        elif row.kind is RowKind.STOCK:
            name = "inv_" + tables.assets[row.first]
        elif row.kind is RowKind.SHARE:
            name = "conc"
        elif row.kind in {RowKind.CAP, RowKind.CAP_AT_ONCE}:
            name = "cap_" + tables.caps[row.first].name
        else:
            continue
        found[name] = found.get(name, 0.0) + float(marginal)
    assert found == pytest.approx(published["duals"], abs=2e-6)


def test_what_cannot_be_met_is_infeasible_until_violations_are_allowed() -> None:
    program = build_program(build_tables(with_stock(cheapest_to_deliver(), 0.3)))
    assert solve_lp(program, program.cost, time_limit_s=10.0).status is Status.INFEASIBLE
    loose = program.with_violations_at_most(None)
    assert solve_lp(loose, loose.violation, time_limit_s=10.0).is_optimal


def test_a_solver_that_is_cut_off_has_no_answer() -> None:
    problem = random_problem(np.random.default_rng(1), venues=5, assets=6, chains=3, scenarios=11)
    program = build_program(build_tables(problem))
    cut = solve_lp(program, program.cost, time_limit_s=1e-9)
    assert cut.status is Status.STOPPED
    assert cut.columns is None
    assert not cut.is_optimal
