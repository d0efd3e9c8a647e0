"""A problem as text, a plan as text: what solves is named, and what cannot be read is no plan with a reason."""

from __future__ import annotations

import msgspec
import pytest

from bot.risk.collateral.answering import answer, answer_greedily
from bot.risk.collateral.plan import decode_plan
from bot.risk.collateral.problem import CollateralProblem, Need
from bot.risk.collateral.solving import solve
from tests.risk.collateral.test_stressing import PROBLEM

TEXT = msgspec.json.encode(PROBLEM).decode()


def needy() -> CollateralProblem:
    need = Need(venue="okx", maintenance_quote=(80_000.0,), pnl_quote=(0.0,))
    return msgspec.structs.replace(PROBLEM, needs=(need,))


def test_the_answer_is_the_plan_that_solving_gives() -> None:
    found = answer(msgspec.json.encode(needy()).decode(), 5.0)
    assert decode_plan(found.text) == solve(needy(), time_limit_s=5.0)
    assert (found.method, found.fault) == ("lp", "")


def test_a_greedy_answer_says_why_it_is_one() -> None:
    found = answer_greedily(msgspec.json.encode(needy()).decode(), "the solver is gone")
    plan = decode_plan(found.text)
    assert (found.method, found.fault, plan.method) == ("greedy", "the solver is gone", "greedy")
    assert plan.is_met
    assert not plan.is_proven
    (sent,) = plan.transfers
    assert sent.value_quote == pytest.approx(1.25 * 80_000.0)


@pytest.mark.parametrize(("text", "says"), [("{", "expected a collateral problem in JSON"), (TEXT, "")])
def test_what_is_no_problem_is_no_plan(text: str, says: str) -> None:
    for found in (answer(text, 1.0), answer_greedily(text, "")):
        if says:
            assert found.text == ""
            assert says in found.fault
            assert found.fault.startswith("no plan: ")
        else:
            assert decode_plan(found.text).transfers == ()  # nothing is needed


def test_a_cut_off_solver_is_stood_in_for_and_named() -> None:
    found = answer(msgspec.json.encode(needy()).decode(), 1e-9)
    assert decode_plan(found.text).is_met
    assert (found.method, "solver gave no answer" in found.fault) == ("greedy", True)
