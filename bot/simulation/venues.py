"""Several venues as one, for a world: an exchange and a chain in the same replay.

Each instrument is traded at its own venue and every venue sees the whole market. What they have to say reaches us in
the order of receipt. Nothing here is random, and nothing is kept but who trades what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bot.domain.events import CancelForeign, Command, Event, QueryAccount, SubmitOrder
from bot.domain.market import MarketEvent
from bot.simulation.collateral import CollateralCommand, SimulatedCollateral
from bot.simulation.planning import SimulatedPlanner
from bot.simulation.transfers import SimulatedTransfers
from bot.simulation.world import Venue


class Venues:
    """A `Venue` that is made of others; `homes` says by instrument id where an order goes.

    Collateral moves between them over `transfers`, as `planner` plans it; without any, what is to be moved or planned
    goes unanswered.
    """

    def __init__(
        self,
        homes: Mapping[str, Venue],
        transfers: SimulatedTransfers | None = None,
        planner: SimulatedPlanner | None = None,
    ) -> None:
        """Put the venues together. Raises ValueError without any."""
        if not homes:
            raise ValueError("expected an instrument to trade at least, found none; hint: name a hedge in the vault")
        self._homes = dict(homes)
        self._venues = list(dict.fromkeys(homes.values()))
        self._collateral = SimulatedCollateral(transfers, planner)

    @property
    def transfers(self) -> SimulatedTransfers | None:
        """What moves collateral between the venues, None where nothing does."""
        return self._collateral.transfers

    @property
    def positions(self) -> dict[str, int]:
        """Signed lots by instrument id, flat ones left out."""
        return {name: lots for venue in self._venues for name, lots in venue.positions.items()}

    @property
    def cash_settle(self) -> dict[str, float]:
        """Money by currency over all venues, from 0."""
        cash: dict[str, float] = {}
        for venue in self._venues:
            for currency, amount in venue.cash_settle.items():
                cash[currency] = cash.get(currency, 0.0) + amount
        return cash

    def on_market(self, event: MarketEvent) -> None:
        """Show every venue what happened on the market."""
        for venue in self._venues:
            venue.on_market(event)

    def submit(self, command: Command, now_ns: int) -> None:
        """Send a command to the venue of its instrument.

        What is asked of a whole account goes unanswered: a replay has none. Raises KeyError for a stranger's
        instrument.
        """
        if isinstance(command, QueryAccount | CancelForeign):
            return
        if isinstance(command, CollateralCommand):
            self._collateral.submit(command, now_ns)
            return
        about = command.intent if isinstance(command, SubmitOrder) else command
        self._homes[about.instrument_id].submit(command, now_ns)

    def next_event_ns(self) -> int | None:
        """Return when a venue will next have something to do or to tell, None if nothing is under way."""
        moments = [moment for venue in self._venues if (moment := venue.next_event_ns()) is not None]
        moments += self._collateral.next_events_ns()
        return min(moments, default=None)

    def advance(self, now_ns: int) -> Sequence[Event]:
        """Return every message that has reached us by then, in order of receipt, each venue's as it said them."""
        events = [event for venue in self._venues for event in venue.advance(now_ns)]
        events += self._collateral.advance(now_ns)
        events.sort(key=_received_ns)
        return events


def _received_ns(event: Event) -> int:
    return event.ts_recv_ns
