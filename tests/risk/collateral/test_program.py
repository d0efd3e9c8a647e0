"""The linear program: its rows hold exactly where the count says so, and its columns are read back as what is sent."""

from __future__ import annotations

import numpy as np
import pytest

from bot.risk.collateral.check import evaluate
from bot.risk.collateral.lp import solve_lp
from bot.risk.collateral.program import Program, RowKind, build_program, decisive
from bot.risk.collateral.tables import Floats, build_tables
from tests.risk.collateral.instances import cheapest_to_deliver, random_problem, transfers_in_lots


def least_short(program: Program, sent: Floats) -> tuple[float, bool]:
    """Return what the program says is missing when exactly this is sent, and whether it lets this be sent at all."""
    loose = program.with_violations_at_most(None)
    loose.lower[: len(sent)] = loose.upper[: len(sent)] = sent / program.unit
    loose.upper[program.use_from : program.lots_from] = (sent > 0.0)[program.used_routes]
    loose.lower[program.use_from : program.lots_from] = (sent > 0.0)[program.used_routes]
    found = solve_lp(loose, program.violation, time_limit_s=10.0)
    if found.columns is None:
        return 0.0, False
    return float(found.columns[program.short_from : program.over_from].sum()) * program.unit, True


@pytest.mark.parametrize("seed", range(6))
def test_what_is_missing_for_the_program_is_missing_when_it_is_counted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, venues=3, assets=4, chains=2, scenarios=5, has_fees=True, need_share=0.9)
    tables = build_tables(problem)
    program = build_program(tables)
    share = 0.3 if seed % 2 else 0.05
    sent = np.where(rng.random(len(tables.routes)) < share, rng.uniform(1e3, 5e4, len(tables.routes)), 0.0)
    sent = np.minimum(sent, tables.most)
    outcome = evaluate(tables, sent)
    short, is_allowed = least_short(program, sent)
    assert is_allowed == (outcome.broken == ())
    if is_allowed:
        assert short == pytest.approx(outcome.short_quote, rel=1e-6, abs=1.0)


def test_scenarios_that_never_decide_have_no_row() -> None:
    problem = random_problem(np.random.default_rng(1), venues=3, assets=4, chains=2, scenarios=9)
    tables = build_tables(problem)
    program = build_program(tables)
    kept = {(r.first, r.second, r.third) for r in program.rows if r.kind is RowKind.MARGIN}
    assert {(n, h) for n, h, _ in kept} == {(n, h) for n in range(3) for h in range(4)}
    assert len(kept) < 3 * 4 * 9 / 2
    assert not program.is_whole.any()
    assert program.matrix.nnz < 0.2 * program.matrix.shape[0] * program.matrix.shape[1]


def test_whatever_counts_the_worst_scenario_is_among_those_that_can_be() -> None:
    rng = np.random.default_rng(5)
    fewer = 0
    for _ in range(100):
        required = np.round(rng.uniform(0.0, 10.0, 7)) - np.where(rng.random(7) < 0.1, np.inf, 0.0)
        multiplier = np.round(rng.uniform(0.7, 1.3, (2, 7)), 1)
        kept = decisive(required, multiplier)
        fewer += len(kept) < np.isfinite(required).sum()
        for _ in range(20):
            missing = required - rng.exponential(3.0, 2) @ multiplier
            if np.isfinite(missing).any():
                assert missing[kept].max() == missing.max()
    assert fewer > 50
    assert decisive(np.array([1.0, 1.0]), np.ones((1, 2))).tolist() == [0]
    assert decisive(np.array([1.0, 3.0, 2.0]), np.ones((0, 3))).tolist() == [1]


def test_lots_and_uses_are_whole_and_read_back_whole() -> None:
    program = build_program(build_tables(transfers_in_lots()))
    assert int(program.is_whole.sum()) == 10  # lots, and whether the fee is paid
    solution = np.zeros(program.matrix.shape[1])
    solution[program.lots_from :] = [1.0 - 1e-9, 2.0 + 1e-7, 0.0, 1e-6, 3.0]
    solution[:5] = 12.0
    solution[program.use_from : program.lots_from] = 1.0
    assert program.sent(solution).tolist() == [50_000.0, 100_000.0, 0.0, 0.0, 150_000.0]


def test_violations_are_nothing_until_they_are_allowed() -> None:
    program = build_program(build_tables(cheapest_to_deliver()))
    assert program.upper[program.elastic].tolist() == [0.0] * 6
    loose = program.with_violations_at_most(None)
    assert loose.upper[program.elastic].tolist() == [np.inf] * 3 + [0.0] * 3  # no cap is exceeded now, so none may be
    tight = program.with_violations_at_most(np.arange(6.0))
    assert tight.upper[program.elastic].tolist() == pytest.approx(np.arange(6.0).tolist(), abs=1e-6)
