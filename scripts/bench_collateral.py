"""How long collateral plans take and what they cost: linear, with fees paid once, too little of everything, cut off.

Random problems of `tests/risk/collateral/instances.py`, seeded; wall time of `solve` from problem to explained plan, as
its time limit is one of wall time, and CPU time beside it, as machines are shared. Prints one JSON object.
"""

from __future__ import annotations

import json
import time

import numpy as np

from bot.risk.collateral.greedy import solve_greedy
from bot.risk.collateral.plan import CollateralPlan
from bot.risk.collateral.problem import CollateralProblem
from bot.risk.collateral.program import build_program
from bot.risk.collateral.solving import solve
from bot.risk.collateral.tables import build_tables
from tests.risk.collateral.instances import random_problem

SEEDS = 5
FULL = {"venues": 8, "assets": 10, "chains": 6, "scenarios": 35}
SMALL = {"venues": 3, "assets": 4, "chains": 2, "scenarios": 35}


def main() -> None:
    """Measure and print."""
    rows = [
        row("linear", FULL, 1.0),
        row("linear, too little", FULL, 1.0, need_share=1.2),
        row("linear, cut off at once", FULL, 1e-6),
        row("fees, full size", FULL, 1.0, has_fees=True),
        row("fees and lots, full size", FULL, 1.0, has_fees=True, lot=5_000.0),
        row("fees and lots, full size, 5 s", FULL, 5.0, has_fees=True, lot=5_000.0),
        row("fees, small", SMALL, 1.0, has_fees=True),
        row("fees and lots, small", SMALL, 1.0, has_fees=True, lot=5_000.0),
    ]
    print(json.dumps({"seeds": SEEDS, "full": FULL, "small": SMALL, "horizons_s": [0, 600, 1800, 3600], "rows": rows}))


def row(name: str, size: dict[str, int], time_limit_s: float, **more: float | bool) -> dict[str, object]:
    """Return what plans of one sort took, and how they compare with the greedy ones and a bound."""
    cpu_ms: list[float] = []
    took_ms, plans, over_bound, greedy_over_bound, shapes = [], [], [], [], []
    for seed in range(SEEDS):
        problem = random_problem(np.random.default_rng(seed), **size, **more)  # type: ignore[arg-type]
        solve(problem, time_limit_s=time_limit_s)
        began_ns, cpu_ns = time.perf_counter_ns(), time.process_time_ns()
        plan = solve(problem, time_limit_s=time_limit_s)
        took_ms.append((time.perf_counter_ns() - began_ns) / 1e6)
        cpu_ms.append((time.process_time_ns() - cpu_ns) / 1e6)
        plans.append(plan)
        program = build_program(build_tables(problem))
        shapes.append((*program.matrix.shape, int(program.is_whole.sum())))
        if plan.is_met:
            bound, greedy = cost_above(problem, plan)
            over_bound.append(bound)
            greedy_over_bound.append(greedy)
    return {
        "what": name,
        "rows_columns_whole": shapes[0],
        "p50_ms": round(float(np.median(took_ms))),
        "max_ms": round(max(took_ms)),
        "p50_cpu_ms": round(float(np.median(cpu_ms))),
        "max_cpu_ms": round(max(cpu_ms)),
        "met": sum(one.is_met for one in plans),
        "proven": sum(one.is_proven for one in plans),
        "methods": sorted({one.method for one in plans}),
        "transfers": [len(one.transfers) for one in plans],
        "cost_above_bound_percent": [round(100.0 * one, 1) for one in over_bound],
        "greedy_cost_above_bound_percent": [round(100.0 * one, 1) for one in greedy_over_bound],
    }


def cost_above(problem: CollateralProblem, plan: CollateralPlan) -> tuple[float, float]:
    """Return how much the plan and the greedy one cost above what nothing can be cheaper than: no whole numbers."""
    from bot.risk.collateral.lp import solve_lp  # noqa: PLC0415 — needed for the bound alone

    tables = build_tables(problem)
    program = build_program(tables)
    relaxed = solve_lp(program, program.cost, time_limit_s=20.0)
    if relaxed.columns is None:
        return float("nan"), float("nan")
    bound = float(program.cost @ relaxed.columns) * program.unit * program.cost_unit + tables.cost_as_is
    greedy = solve_greedy(tables)
    return plan.cost_quote / bound - 1.0, greedy.cost_quote / bound - 1.0


if __name__ == "__main__":
    main()
