"""Collateral between simulated venues: what moves it and what plans it, each only where there is one."""

from __future__ import annotations

from bot.domain.events import Event, PlanCollateral, QueryTransfer
from bot.domain.risk import TransferCollateral
from bot.simulation.planning import SimulatedPlanner
from bot.simulation.transfers import SimulatedTransfers

CollateralCommand = TransferCollateral | QueryTransfer | PlanCollateral


class SimulatedCollateral:
    """Answers the commands about collateral; without `transfers` or `planner` theirs go unanswered."""

    def __init__(self, transfers: SimulatedTransfers | None, planner: SimulatedPlanner | None) -> None:
        self.transfers = transfers
        self._planner = planner

    def submit(self, command: CollateralCommand, now_ns: int) -> None:
        """Send a command on its way to whom it concerns."""
        if isinstance(command, TransferCollateral):
            if self.transfers is not None:
                self.transfers.submit(command, now_ns)
        elif isinstance(command, QueryTransfer):
            if self.transfers is not None:
                self.transfers.ask(command.transfer.transfer_id, now_ns)
        elif self._planner is not None:
            self._planner.submit(command, now_ns)

    def next_events_ns(self) -> list[int]:
        """Return when each of them will next have something to do or to tell."""
        both = (self.transfers, self._planner)
        moments = (one.next_event_ns() for one in both if one is not None)
        return [moment for moment in moments if moment is not None]

    def advance(self, now_ns: int) -> list[Event]:
        """Return every message that has reached us by then, each one's as it said them."""
        return [event for one in (self.transfers, self._planner) if one is not None for event in one.advance(now_ns)]
