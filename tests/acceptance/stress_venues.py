"""Three simulated venues under stress: they liquidate, go down, raise margin, mark collateral down, tell what is there.

What is at a venue is read from the venue alone, and margin is asked of the registry: nothing of the engine is used.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from bot.domain.events import CancelForeign, Command, Event, QueryAccount, QueryOrder, QueryTransfer, SubmitOrder
from bot.domain.market import IndexPrice, Quote, VolQuote
from bot.domain.orders import OutcomeLost
from bot.domain.risk import CollateralPrice, MarginTerms, ReportedMargin, TransferCollateral
from bot.domain.units import BPS, NS_PER_S
from bot.domain.venues import AccountReport, VenueHealth, VenuePosition, VenueStatus
from bot.risk.book import PERPETUAL, Position, build_book
from bot.risk.margin.registry import evaluate
from bot.risk.requirement import Requirement
from bot.simulation.collateral import SimulatedCollateral
from bot.simulation.transfers import SimulatedTransfers
from bot.simulation.venue import Fees, Latency, SimulatedVenue
from tests.acceptance.stress_world import BOOK_VENUE, COIN_VENUE, LOOKS_NS, STEP_NS, Scenario, option_position, raised

TAKER_BPS = 5.0
HALF_SPREAD = 2.0 * BPS
SHOWN_BASE = 500.0
WAY_NS = NS_PER_S // 50
TIMEOUT_NS = 2 * NS_PER_S
LIQUIDATION_FEE = 0.005
LIQUIDATED_TO = 0.9  # of the limit


class Truth(NamedTuple):
    """An account as its venue has it, in quote money."""

    equity: float
    initial: float
    maintenance: float

    @property
    def used(self) -> float:
        """Maintenance margin over equity; above 1 where there is none left."""
        return self.maintenance / self.equity if self.equity > 0.0 else 99.0 if self.maintenance > 0.0 else 0.0


class State(NamedTuple):
    """What margin of an account depends on, all of it."""

    px: float
    vol: float
    now_ns: int
    lots: int
    cash: float  # in settlement money
    collateral: dict[str, float]
    marks: dict[str, float]
    multiple: float


class Liquidated(NamedTuple):
    """A venue took positions: where, when, and whether what it left is still below its limit."""

    venue: str
    at_ns: int
    used: float
    is_over: bool


class StressedVenues:
    """The venues of a scenario as one: events in, commands out, and the truth about every account at any moment."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.venues = {
            name: SimulatedVenue(
                [one],
                fees={one.instrument_id: Fees(0.0, TAKER_BPS)},
                latency=Latency(0, WAY_NS, WAY_NS),
                depth={},
                seed=scenario.seed,
                faults=scenario.faults,
            )
            for name, one in scenario.perpetuals.items()
        }
        balances = {
            (name, asset): amount for name, one in scenario.accounts.items() for asset, amount in one.collateral.items()
        }
        balances |= {("wallet", asset): amount for asset, amount in scenario.wallet.items()}
        self.transfers = SimulatedTransfers(scenario.seed, scenario.route_worlds, scenario.suspensions, balances)
        self._collateral = SimulatedCollateral(self.transfers, None)
        self.marks: dict[str, dict[str, float]] = {name: {} for name in self.venues}
        self.multiples = dict.fromkeys(self.venues, 1.0)
        self.down: set[str] = set()
        self.px, self.vol, self.now_ns = float(scenario.prices[0]), float(scenario.vols[0]), scenario.start_ns
        self.liquidations: list[Liquidated] = []
        self.after: dict[str, State] = {}  # as prices last moved left every account
        self.looked: dict[str, State] = {}  # … and the time before
        self.before: dict[str, State] = {}  # as the engine left every account before prices last moved
        self._home = {one.instrument_id: name for name, one in scenario.perpetuals.items()}
        self._known: dict[str, tuple[State, Truth]] = {}
        self._outbox: list[tuple[int, int, Event]] = []
        self._asked: list[tuple[int, str]] = []
        self._seq = 0

    # ── the truth ────────────────────────────────────────────────────────────────────────────────────────────────────

    def state(self, venue: str) -> State:
        """Return what margin of an account depends on now; what left it is there no more."""
        instrument = self.scenario.perpetuals[venue]
        inner = self.venues[venue]
        assert self.transfers.balances is not None, "balances are kept"
        collateral = {asset: left for (name, asset), left in self.transfers.balances.items() if name == venue}
        cash = inner.cash_settle.get(instrument.settle, 0.0)
        lots = inner.positions.get(instrument.instrument_id, 0)
        marks, multiple = dict(self.marks[venue]), self.multiples[venue]
        return State(self.px, self.vol, self.now_ns, lots, cash, collateral, marks, multiple)

    def truth(self, venue: str, state: State | None = None) -> Truth:
        """Return equity and margin of an account as its venue reckons them."""
        now = state or self.state(venue)
        known = self._known.get(venue)
        if known is None or known[0] != now:
            known = self._known[venue] = now, self._reckon(venue, now)
        return known[1]

    def _reckon(self, venue: str, now: State) -> Truth:
        account, instrument = self.scenario.accounts[venue], self.scenario.perpetuals[venue]
        base = now.lots * instrument.lot_base(now.px)
        money = instrument.settle
        rows = [
            Position(
                kind=PERPETUAL,
                underlying="ETH",
                qty_base=base,
                instrument_id=instrument.instrument_id,
                account=venue,
                money=money,
            )
        ]
        if venue == BOOK_VENUE:
            rows += [option_position(one, qty, now.now_ns, now.vol) for one, qty in self.scenario.options]
        book = build_book(rows, {"ETH": now.px})
        equity = 0.0
        if venue == COIN_VENUE:  # what positions won takes no haircut
            equity += self._won(venue, now) * now.px
            held = dict(now.collateral)
        else:
            held = self.held(venue, now)
        for asset, amount in held.items():
            px = now.marks.get(asset, now.px if asset == "ETH" else 1.0)
            haircut = account.haircuts.get(asset, 0.0) if amount > 0.0 else 0.0
            equity += amount * px * (1.0 - haircut)
        if not book.qty_base.any():
            return Truth(equity, 0.0, 0.0)
        asked = self.ask(venue, book, now.multiple)
        rate = now.px if asked.money == "ETH" else 1.0
        return Truth(equity, *asked.in_quote(rate))

    def held(self, venue: str, now: State) -> dict[str, float]:
        """Return the equity of an account by asset, what positions won and are worth included."""
        held = dict(now.collateral)
        money = self.scenario.perpetuals[venue].settle
        held[money] = held.get(money, 0.0) + self._won(venue, now)
        return held

    def _won(self, venue: str, now: State) -> float:
        """Return cash and what positions are worth, in settlement money."""
        size = now.lots * self.scenario.perpetuals[venue].lot_size
        if venue == COIN_VENUE:  # a long inverse contract of Q quote is worth -Q/px coin
            return now.cash - size / now.px
        won = now.cash + size * now.px
        if venue == BOOK_VENUE:
            rows = [option_position(one, qty, now.now_ns, now.vol) for one, qty in self.scenario.options]
            book = build_book(rows, {"ETH": now.px})
            won += float(book.qty_base @ book.mark_px)
        return won

    def after_trade(self, venue: str, state: State, lots: int, fee_settle: float = 0.0) -> Truth:
        """Return what an account would be after a trade at the price of now."""
        value = lots * self.scenario.perpetuals[venue].lot_size
        value = -value / state.px if venue == COIN_VENUE else value * state.px
        return self.truth(venue, state._replace(lots=state.lots + lots, cash=state.cash - value - fee_settle))

    def ask(self, venue: str, book: object, multiple: float) -> Requirement:
        """Return what the venue's model asks for, at a multiple of its parameters."""
        account = self.scenario.accounts[venue]
        values = account.parameters.values if multiple == 1.0 else raised(account.parameters, multiple).values
        return evaluate(account.model, book, values)  # type: ignore[arg-type]

    # ── the world ────────────────────────────────────────────────────────────────────────────────────────────────────

    def batches(self) -> Iterator[tuple[int, bool, list[Event]]]:
        """Yield every moment at which the market tells something; whether prices are new; and what is told."""
        scenario = self.scenario
        troubles = list(scenario.troubles)
        for step, (px, vol) in enumerate(zip(scenario.prices.tolist(), scenario.vols.tolist(), strict=True)):
            for offset_ns in LOOKS_NS:
                now_ns = scenario.start_ns + step * STEP_NS + offset_ns
                if not offset_ns:
                    self.before, self.looked = {venue: self.state(venue) for venue in self.venues}, self.after
                events = self._market(px, vol, now_ns)
                while not offset_ns and troubles and troubles[0].at_ns <= now_ns:
                    events += self._befall(troubles.pop(0), now_ns)
                self.now_ns, self.px, self.vol = now_ns, px, vol
                for inner in self.venues.values():
                    for event in events:
                        if isinstance(event, Quote):
                            inner.on_market(event)
                if not offset_ns:
                    for venue in self.venues:
                        self._liquidate(venue)
                    self.after = {venue: self.state(venue) for venue in self.venues}
                if scenario.is_told and not offset_ns:
                    events += [self.report(venue, now_ns) for venue in self.venues if venue not in self.down]
                yield now_ns, not offset_ns, events

    def _market(self, px: float, vol: float, now_ns: int) -> list[Event]:
        def stamp() -> tuple[int, int, int]:
            self._seq += 1
            return now_ns, now_ns, self._seq

        bid_px, ask_px = px * (1.0 - HALF_SPREAD), px * (1.0 + HALF_SPREAD)
        events: list[Event] = [IndexPrice("ETH", px, *stamp())]
        for name, one in self.scenario.perpetuals.items():
            if name not in self.down:
                events.append(Quote(one.instrument_id, bid_px, SHOWN_BASE, ask_px, SHOWN_BASE, *stamp()))
        events += [VolQuote(one.instrument_id, vol, 0.0, 0.0, px, *stamp()) for one, _ in self.scenario.options]
        return events

    def _befall(self, trouble: object, now_ns: int) -> list[Event]:
        kind, _, venue, size, asset = trouble  # type: ignore[misc]
        if kind == "terms":
            self.multiples[venue] = size
            text = msgspec.json.encode(raised(self.scenario.accounts[venue].parameters, size)).decode()
            return [MarginTerms(venue, text, now_ns, now_ns)]
        if kind == "mark":
            self.marks[venue][asset] = size
            return [CollateralPrice(venue, asset, size, now_ns, now_ns)]
        if kind == "taken":
            state = self.state(venue)
            lots = int(state.lots * size)
            if lots:
                self._take(venue, -lots, state.px, 0.0, now_ns)
            return []
        self.down = self.down | {venue} if kind == "down" else self.down - {venue}
        health = VenueHealth.DOWN if kind == "down" else VenueHealth.UP
        return [VenueStatus(venue, health, "maintenance", now_ns)]

    def _take(self, venue: str, lots: int, px: float, fee_settle: float, now_ns: int) -> None:
        instrument = self.scenario.perpetuals[venue]
        self.venues[venue].take_over(instrument.instrument_id, lots, px, fee_settle, now_ns)

    def _liquidate(self, venue: str) -> None:
        """Close as much of the hedges as brings the account below its limit; where none does, all of it is over."""
        state = self.state(venue)
        found = self.truth(venue, state)
        if found.used < 1.0:
            return
        instrument = self.scenario.perpetuals[venue]
        for share in (0.2, 0.4, 0.6, 0.8, 1.0):
            lots = int(state.lots * share)
            fee_settle = (
                LIQUIDATION_FEE * abs(lots) * instrument.lot_base(state.px) * (1.0 if venue == COIN_VENUE else state.px)
            )
            if lots and self.after_trade(venue, state, -lots, fee_settle).used <= LIQUIDATED_TO:
                self._take(venue, -lots, state.px, fee_settle, self.now_ns)
                self.liquidations.append(Liquidated(venue, self.now_ns, found.used, is_over=False))
                return
        self.liquidations.append(Liquidated(venue, self.now_ns, found.used, is_over=True))

    def report(self, venue: str, now_ns: int) -> AccountReport:
        """Return what an account tells of itself now."""
        state = self.state(venue)
        found = self.truth(venue, state)
        instrument = self.scenario.perpetuals[venue]
        positions = (VenuePosition(instrument.instrument_id, state.lots, 0.0),) if state.lots else ()
        margins = (ReportedMargin("", found.equity, found.initial, found.maintenance),)
        balances = self.held(venue, state)
        return AccountReport(venue, positions, (), balances, now_ns, now_ns, margins)

    def submit(self, command: Command, now_ns: int) -> None:
        """Send a command on its way; a venue that is down hears nothing."""
        if isinstance(command, TransferCollateral | QueryTransfer):
            self._collateral.submit(command, now_ns)
        elif isinstance(command, QueryAccount):
            if self.scenario.is_told and command.venue not in self.down:
                self._asked.append((now_ns + 2 * WAY_NS, command.venue))
        elif not isinstance(command, CancelForeign):
            about = command.intent if isinstance(command, SubmitOrder) else command
            venue = self._home[about.instrument_id]
            if venue in self.down and not isinstance(command, QueryOrder):
                self._post(OutcomeLost(about.order_id, "timeout: the venue is down", now_ns + TIMEOUT_NS))
            else:
                self.venues[venue].submit(command, now_ns)

    def next_event_ns(self) -> int | None:
        """Return when a venue will next have something to tell."""
        moments = [one.next_event_ns() for one in (*self.venues.values(), self.transfers)]
        moments += [self._outbox[0][0] if self._outbox else None, self._asked[0][0] if self._asked else None]
        return min((one for one in moments if one is not None), default=None)

    def advance(self, now_ns: int) -> list[Event]:
        """Return every word that has reached us by then, in order of receipt."""
        self.now_ns = max(self.now_ns, now_ns)
        events: list[Event] = [event for one in self.venues.values() for event in one.advance(now_ns)]
        events += self.transfers.advance(now_ns)
        while self._outbox and self._outbox[0][0] <= now_ns:
            events.append(heapq.heappop(self._outbox)[2])
        while self._asked and self._asked[0][0] <= now_ns:
            events.append(self.report(self._asked.pop(0)[1], now_ns))
        events.sort(key=lambda event: event.ts_recv_ns)
        return events

    def _post(self, event: OutcomeLost) -> None:
        self._seq += 1
        heapq.heappush(self._outbox, (event.ts_recv_ns, self._seq, event))
