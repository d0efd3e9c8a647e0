"""Linear programs in rounds: near the best where that is known, no rule broken, nothing where the solver is cut off."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bot.risk.collateral.greedy import solve_greedy
from bot.risk.collateral.milp import solve_milp
from bot.risk.collateral.program import build_program
from bot.risk.collateral.rounds import solve_in_rounds
from bot.risk.collateral.tables import build_tables
from tests.risk.collateral.brute import count
from tests.risk.collateral.instances import random_problem, transfers_in_lots


@pytest.mark.parametrize(("seed", "lot"), [(0, 0.0), (5, 0.0), (5, 5_000.0), (6, 0.0)])
def test_rounds_are_near_the_best_and_keep_every_rule(seed: int, lot: float) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, venues=3, assets=4, chains=2, scenarios=5, has_fees=True, lot=lot)
    tables = build_tables(problem)
    found = solve_in_rounds(tables, time_limit_s=20.0).outcome
    assert found is not None
    amounts = {r.name: float(v / p) for r, v, p in zip(tables.routes, found.sent, tables.route_px, strict=True)}
    slow = count(problem, amounts)
    assert (slow.is_allowed, slow.short, slow.over) == (True, 0.0, 0.0)
    if lot:
        assert np.allclose(found.sent / lot, np.round(found.sent / lot))
    program = build_program(tables)
    best = solve_milp(program, program.cost, time_limit_s=20.0)
    assert best.columns is not None
    least = float(program.cost @ best.columns) * program.unit * program.cost_unit + tables.cost_as_is
    assert 0.999 * least <= found.cost_quote <= 1.01 * least
    assert found.cost_quote < solve_greedy(tables).cost_quote


def test_too_little_is_shared_out_as_well_as_by_the_greedy_plan() -> None:
    problem = random_problem(
        np.random.default_rng(7), venues=3, assets=4, chains=2, scenarios=5, has_fees=True, need_share=1.2
    )
    tables = build_tables(problem)
    rounds = solve_in_rounds(tables, time_limit_s=20.0)
    assert rounds.outcome is not None
    assert rounds.outcome.broken == ()
    # fees left aside nothing is less short than this, and they are a few hundred
    least = float(rounds.violation.sum())
    assert least <= rounds.outcome.short_quote + 1.0 <= least * 1.001 + 10_000.0
    assert rounds.outcome.short_quote <= solve_greedy(tables).short_quote + 1.0


def test_a_fee_that_is_more_than_a_route_brings_is_not_paid() -> None:
    problem = transfers_in_lots()
    dear = msgspec.structs.replace(problem.routes[1], fixed_fee=40_000.0)
    tables = build_tables(msgspec.structs.replace(problem, routes=(problem.routes[0], dear, *problem.routes[2:])))
    found = solve_in_rounds(tables, time_limit_s=20.0)
    assert found.outcome is not None
    assert found.outcome.is_met
    assert found.outcome.sent.tolist() == [50_000.0, 0.0, 200_000.0, 100_000.0, 0.0]


def test_a_solver_that_is_cut_off_has_no_rounds() -> None:
    problem = random_problem(np.random.default_rng(1), venues=5, assets=6, chains=3, scenarios=11, has_fees=True)
    assert solve_in_rounds(build_tables(problem), time_limit_s=1e-9).outcome is None
