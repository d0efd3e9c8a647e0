"""A problem in JSON in, a plan in JSON out, and in words what stood in for what: for whoever solves at arm's length."""

from __future__ import annotations

import msgspec

from bot.risk.collateral.plan import CollateralPlan, encode_plan
from bot.risk.collateral.problem import decode_problem
from bot.risk.collateral.solving import plan_greedily, solve

GREEDY = "greedy"


class Answer(msgspec.Struct, frozen=True):
    """What came of a problem: the plan in JSON and the method that made it; `fault` says why it is not the solver's.

    Without a plan `text` and `method` are "".
    """

    text: str
    method: str
    fault: str


def answer(problem: str, time_limit_s: float) -> Answer:
    """Return the plan for a problem in JSON, solved within a time limit; never raises for what the text holds."""
    try:
        return _answer_of(solve(decode_problem(problem), time_limit_s=time_limit_s))
    except ValueError as error:
        return Answer("", "", f"no plan: {error}")


def answer_greedily(problem: str, why: str) -> Answer:
    """Return the plan that needs no solver, and why it was made; never raises for what the text holds."""
    try:
        return _answer_of(plan_greedily(decode_problem(problem), why))
    except ValueError as error:
        return Answer("", "", f"no plan: {error}")


def _answer_of(plan: CollateralPlan) -> Answer:
    fault = "; ".join(plan.notes) or "the plan is the greedy one" if plan.method == GREEDY else ""
    return Answer(encode_plan(plan), plan.method, fault)
