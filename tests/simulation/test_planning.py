"""Plans in a rehearsed world: the real solver's, told after as long each time, whatever the machine."""

from __future__ import annotations

from bot.domain.events import PlanCollateral
from bot.domain.units import NS_PER_S
from bot.risk.collateral.plan import decode_plan
from bot.simulation.planning import SimulatedPlanner
from tests.risk.collateral.test_answering import TEXT


def test_a_plan_is_told_after_its_time_and_once() -> None:
    planner = SimulatedPlanner(answer_ns=2 * NS_PER_S)
    planner.submit(PlanCollateral("run-P1", TEXT, 1e-9, "it is time"), 10)
    assert planner.next_event_ns() == 2 * NS_PER_S + 10
    assert planner.advance(2 * NS_PER_S) == ()
    (told,) = planner.advance(3 * NS_PER_S)
    assert (told.plan_id, told.ts_recv_ns, told.fault) == ("run-P1", 2 * NS_PER_S + 10, "")
    assert decode_plan(told.text).method == told.method == "lp"  # the limit of a live run does not cut it off here
    assert planner.next_event_ns() is None
    assert planner.advance(9 * NS_PER_S) == ()


def test_the_same_question_has_the_same_answer_to_the_byte() -> None:
    texts = set()
    for _ in range(2):
        planner = SimulatedPlanner()
        planner.submit(PlanCollateral("run-P1", TEXT, 1.0, ""), 0)
        texts.add(planner.advance(NS_PER_S)[0].text)
    assert len(texts) == 1


def test_nonsense_is_answered_too() -> None:
    planner = SimulatedPlanner()
    planner.submit(PlanCollateral("run-P1", "{", 1.0, ""), 0)
    (told,) = planner.advance(NS_PER_S)
    assert told.text == ""
    assert told.fault.startswith("no plan: ")
