"""Paper execution: real market data, simulated venues, no keys.

One seeded `SimulatedVenue` per exchange and one `WatchedChain` per chain, moved only by what the daemon journals: every
batch before it is decided upon, and every command after. Whoever makes the same calls again gets the same answers, byte
for byte, which is how paper trading survives a crash. It must never read a clock or see what is in no batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bot.domain.events import CancelForeign, Command, Event, QueryAccount, Restarted, SubmitOrder
from bot.domain.instruments import Instrument, Option
from bot.domain.market import ExecutionTerms, FundingRate, Quote, Settlement, VolQuote
from bot.domain.orders import OrderSent
from bot.domain.venues import AccountReport, InstrumentListed, VenuePosition
from bot.simulation.collateral import CollateralCommand, SimulatedCollateral
from bot.simulation.depth import DepthProfile
from bot.simulation.planning import SimulatedPlanner
from bot.simulation.transfers import SimulatedTransfers
from bot.simulation.venue import NO_FAULTS, Faults, Fees, Latency, OptionFees, SimulatedVenue
from bot.simulation.watched_chain import WatchedChain

Shown = Quote | VolQuote | FundingRate | Settlement | ExecutionTerms


class _Inquiry(NamedTuple):
    venue: str
    asked_ns: int
    answerable_ns: int


class PaperExecution:
    """The accounts of one vault at simulated venues: `absorb` each batch, decide, `submit` what was decided."""

    def __init__(
        self,
        instruments: Sequence[Instrument],
        *,
        fees: Mapping[str, Fees | OptionFees],
        latency: Latency,
        depth: Mapping[str, DepthProfile],
        seed: int,
        faults: Faults = NO_FAULTS,
        cash: Mapping[str, Mapping[str, float]] | None = None,
        chains: Mapping[str, str] | None = None,
        option_fees: Mapping[tuple[str, str], OptionFees] | None = None,
        transfers: SimulatedTransfers | None = None,
        planner: SimulatedPlanner | None = None,
    ) -> None:
        """Open one account per venue of `instruments`; `fees` and `depth` go by instrument id, `cash` by venue.

        `chains` is what pays for gas, by the name of every venue that is a chain. Options that a venue lists later are
        traded there from then on where `option_fees` has their venue and underlying.
        Collateral moves over `transfers`, as `planner` plans it where nobody else does. The first venue draws as a
        `SimulatedVenue` of this seed does in a replay, the others from seeds spawned of it.
        Raises ValueError without instruments, or as `SimulatedVenue` does.
        """
        names = list(dict.fromkeys(instrument.venue for instrument in instruments))
        if not names:
            raise ValueError("expected an instrument to trade at least, found none; hint: name a hedge in the vault")
        spawned = np.random.SeedSequence(seed).spawn(len(names) - 1)
        seeds = [seed, *(int(child.generate_state(1, np.uint64)[0]) for child in spawned)]
        self._venues: dict[str, SimulatedVenue | WatchedChain] = {}
        for name, own_seed in zip(names, seeds, strict=True):
            own = [instrument for instrument in instruments if instrument.venue == name]
            if chains and name in chains:
                self._venues[name] = WatchedChain(name, chains[name], own, latency=latency, seed=own_seed)
            else:
                self._venues[name] = SimulatedVenue(
                    own, fees=fees, latency=latency, depth=depth, seed=own_seed, faults=faults
                )
        self._home = {instrument.instrument_id: self._venues[instrument.venue] for instrument in instruments}
        self._first = self._venues[names[0]]
        self._option_fees = dict(option_fees or {})
        self._latency = latency
        self._cash = {name: dict((cash or {}).get(name, {})) for name in names}
        self._collateral = SimulatedCollateral(transfers, planner)
        self._sent: list[OrderSent] = []
        self._inquiries: list[_Inquiry] = []
        self._reports: list[AccountReport] = []

    def absorb(self, now_ns: int, events: Sequence[Event]) -> tuple[Event, ...]:
        """Bring the venues to `now_ns` and return the whole batch: what they have to say by then, then `events`.

        Market events are shown to the venues first, in the order they happened; an order that arrived before a quote
        is matched without it. So no order looks ahead, and none misses what was on show already. Answers among `events`
        mean nothing here: a journalled batch can be absorbed again as it is. A leading `Restarted` stays first.
        """
        for event in events:
            if isinstance(event, InstrumentListed):
                self._list(event.instrument)
        shown = [event for event in events if isinstance(event, Shown)]
        shown.sort(key=_happened_ns)
        for event in shown:
            if isinstance(event, Settlement):
                for venue in self._venues.values():
                    venue.on_market(event)
            elif (home := self._home.get(event.instrument_id)) is not None:
                home.on_market(event)
        answers: list[Event] = []
        for venue in self._venues.values():
            answers += venue.advance(now_ns)
        answers += self._collateral.advance(now_ns)
        if self._inquiries or self._reports:
            answers += self._due_reports(now_ns)
        answers.sort(key=_received_ns)  # stable: within a venue as it said it, its report after what led to it
        sent, self._sent = self._sent, []
        is_restart = bool(events) and isinstance(events[0], Restarted)
        return (*events[:is_restart], *sent, *answers, *events[is_restart:])

    def _list(self, instrument: Instrument) -> None:
        """Trade an option that a venue lists now, if it is one that may be traded as a hedge."""
        fees = self._option_fees.get((instrument.venue, instrument.base))
        venue = self._venues.get(instrument.venue)
        is_new = isinstance(instrument, Option) and instrument.instrument_id not in self._home
        if is_new and fees is not None and isinstance(venue, SimulatedVenue):
            venue.list_instrument(instrument, fees)
            self._home[instrument.instrument_id] = venue

    def submit(self, command: Command, now_ns: int) -> None:
        """Send a command on its way; an order is reported as sent with the next batch.

        A venue nobody trades at has no account to report on, and no order here is foreign: such commands go unanswered.
        """
        if isinstance(command, QueryAccount):
            if command.venue in self._venues:
                answerable_ns = now_ns + self._latency.entry_ns + self._latency.response_ns
                self._inquiries.append(_Inquiry(command.venue, now_ns, answerable_ns))
            return
        if isinstance(command, CancelForeign):
            return
        if isinstance(command, CollateralCommand):
            self._collateral.submit(command, now_ns)
            return
        about = command.intent if isinstance(command, SubmitOrder) else command
        self._home.get(about.instrument_id, self._first).submit(command, now_ns)
        if isinstance(command, SubmitOrder):
            self._sent.append(OrderSent(command.intent.order_id, now_ns))

    def next_event_ns(self) -> int | None:
        """Return when a batch, if only an empty one, will have something to tell; None if nothing is under way."""
        moments = [moment for venue in self._venues.values() if (moment := venue.next_event_ns()) is not None]
        moments += self._collateral.next_events_ns()
        moments += [inquiry.answerable_ns for inquiry in self._inquiries]
        moments += [report.ts_recv_ns for report in self._reports]
        return min(moments, default=None)

    def _due_reports(self, now_ns: int) -> list[AccountReport]:
        """Answer inquiries once whatever arrived before they were made is executed, and no sooner than it is told."""
        for inquiry in self._inquiries:
            if inquiry.answerable_ns <= now_ns:
                self._reports.append(self._report(inquiry, now_ns))
        self._inquiries = [inquiry for inquiry in self._inquiries if inquiry.answerable_ns > now_ns]
        due = [report for report in self._reports if report.ts_recv_ns <= now_ns]
        self._reports = [report for report in self._reports if report.ts_recv_ns > now_ns]
        return due

    def _report(self, inquiry: _Inquiry, now_ns: int) -> AccountReport:
        venue = self._venues[inquiry.venue]
        balances = dict(self._cash[inquiry.venue])
        for currency, amount in venue.equity_settle.items():
            balances[currency] = balances.get(currency, 0.0) + amount
        return AccountReport(
            inquiry.venue,
            tuple(VenuePosition(instrument_id, lots, 0.0) for instrument_id, lots in venue.positions.items()),
            venue.open_orders,
            balances,
            inquiry.asked_ns,
            max(now_ns, venue.last_reply_ns),
        )


def _happened_ns(event: Shown) -> int:
    return event.ts_event_ns


def _received_ns(event: Event) -> int:
    return event.ts_recv_ns
