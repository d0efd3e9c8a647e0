"""Collateral planned in a world that is rehearsed in: every question answered, after as long each time.

The real solver, with so much time that a slow machine gets the plan of a fast one. Must never read a clock.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from bot.domain.events import PlanCollateral
from bot.domain.risk import CollateralPlanned
from bot.domain.units import NS_PER_S
from bot.risk.collateral.answering import answer

PATIENT_S: Final = 60.0  # a plan that depends on how fast this machine is would be another one elsewhere


class SimulatedPlanner:
    """Whoever solves problems in a world: `submit`, then `advance`, as a venue of `bot.simulation.world` does."""

    def __init__(self, answer_ns: int = NS_PER_S) -> None:
        self._answer_ns = answer_ns
        self._due: deque[CollateralPlanned] = deque()

    def submit(self, command: PlanCollateral, now_ns: int) -> None:
        """Solve a problem; the plan is told later."""
        found = answer(command.problem, max(command.time_limit_s, PATIENT_S))
        told_ns = now_ns + self._answer_ns
        self._due.append(CollateralPlanned(command.plan_id, found.text, found.method, found.fault, told_ns, told_ns))

    def next_event_ns(self) -> int | None:
        """Return when a plan will next be told, None if none is under way."""
        return self._due[0].ts_recv_ns if self._due else None

    def advance(self, now_ns: int) -> tuple[CollateralPlanned, ...]:
        """Return every plan that has reached us by then, in order."""
        told = []
        while self._due and self._due[0].ts_recv_ns <= now_ns:
            told.append(self._due.popleft())
        return tuple(told)
