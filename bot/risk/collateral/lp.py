"""The linear program handed to HiGHS (`scipy.optimize.linprog`), and its marginals handed back."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec
import numpy as np
from scipy.optimize import linprog

from bot.risk.collateral.program import Program
from bot.risk.collateral.tables import Floats


class Status(StrEnum):
    """How a solver ended: STOPPED is at its time limit, FAILED anything else that is no answer."""

    OPTIMAL = "optimal"
    INFEASIBLE = "infeasible"
    STOPPED = "stopped"
    FAILED = "failed"


STATUS = {0: Status.OPTIMAL, 1: Status.STOPPED, 2: Status.INFEASIBLE}  # scipy's numbers; others are failures


class Solution(msgspec.Struct, frozen=True):
    """What a solver answered. `marginals` are of the rows, in cost per unit of a row's bound; never above nothing."""

    status: Status
    columns: Floats | None = None
    marginals: Floats | None = None
    reduced: Floats | None = None

    @property
    def is_optimal(self) -> bool:
        """Whether the solver says that there is nothing better."""
        return self.status is Status.OPTIMAL and self.columns is not None


def solve_lp(program: Program, objective: Floats, *, time_limit_s: float) -> Solution:
    """Return the solution of a program in which nothing need be whole."""
    try:
        answer: Any = linprog(
            objective,
            A_ub=program.matrix,
            b_ub=program.bound,
            bounds=np.column_stack((program.lower, program.upper)),
            method="highs",
            options={"time_limit": time_limit_s},
        )
    except (ValueError, RuntimeError, MemoryError):  # what linprog raises where it does not answer
        return Solution(Status.FAILED)
    status = STATUS.get(int(answer.status), Status.FAILED)
    if status is not Status.OPTIMAL or answer.x is None:
        return Solution(status if status is not Status.OPTIMAL else Status.FAILED)
    return Solution(
        status, np.asarray(answer.x), np.asarray(answer.ineqlin.marginals), np.asarray(answer.lower.marginals)
    )
