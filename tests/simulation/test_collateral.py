from __future__ import annotations

from bot.domain.events import PlanCollateral, QueryTransfer
from bot.domain.risk import CollateralPlanned, TransferCollateral, TransferState, TransferUpdate
from bot.domain.units import NS_PER_S
from bot.simulation.collateral import SimulatedCollateral
from bot.simulation.planning import SimulatedPlanner
from bot.simulation.transfers import RouteWorld, SimulatedTransfers

MOVE = TransferCollateral("a-T1", "USDC", 100.0, "a", "b", "ARB", "margin")
PLAN = PlanCollateral("a-P1", "{", 1.0, "")


def test_each_command_about_collateral_goes_to_whom_it_concerns() -> None:
    world = SimulatedTransfers(1, {"ARB": RouteWorld(median_ns=NS_PER_S, p95_ns=2 * NS_PER_S, fee=1.0)})
    both = SimulatedCollateral(world, SimulatedPlanner(5 * NS_PER_S))
    assert both.next_events_ns() == []
    both.submit(MOVE, 0)
    both.submit(PLAN, 0)
    assert both.next_events_ns() == [world.next_event_ns(), 5 * NS_PER_S]
    sent, arrived, planned = both.advance(60 * NS_PER_S)
    assert isinstance(sent, TransferUpdate)
    assert isinstance(arrived, TransferUpdate)
    assert isinstance(planned, CollateralPlanned)
    assert (sent.state, arrived.state) == (TransferState.SENT, TransferState.ARRIVED)
    both.submit(QueryTransfer(MOVE, "again"), 60 * NS_PER_S)
    assert [type(event) for event in both.advance(120 * NS_PER_S)] == [TransferUpdate]


def test_without_anybody_they_go_unanswered() -> None:
    nobody = SimulatedCollateral(None, None)
    for command in (MOVE, QueryTransfer(MOVE, ""), PLAN):
        nobody.submit(command, 0)
    assert nobody.next_events_ns() == []
    assert nobody.advance(NS_PER_S) == []
