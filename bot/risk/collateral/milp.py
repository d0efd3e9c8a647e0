"""The program with fees that are paid once, minimums and lots, handed to HiGHS (`scipy.optimize.milp`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from bot.risk.collateral.lp import STATUS, Solution, Status
from bot.risk.collateral.program import Program
from bot.risk.collateral.tables import Floats

_GAP = 1e-6  # of the cost: what the best may still be better by


def solve_milp(program: Program, objective: Floats, *, time_limit_s: float) -> Solution:
    """Return the solution of a program with whole numbers; at its time limit the best found so far, if there is one."""
    try:
        answer: Any = milp(
            objective,
            integrality=program.is_whole.astype(np.int8),
            bounds=Bounds(program.lower, program.upper),
            constraints=LinearConstraint(program.matrix, -np.inf, program.bound),
            options={"time_limit": time_limit_s, "mip_rel_gap": _GAP},
        )
    except (ValueError, RuntimeError, MemoryError):  # what milp raises where it does not answer
        return Solution(Status.FAILED)
    status = STATUS.get(int(answer.status), Status.FAILED)
    if answer.x is None:
        return Solution(status if status is not Status.OPTIMAL else Status.FAILED)
    return Solution(status, np.asarray(answer.x))
