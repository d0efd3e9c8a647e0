"""A venue for live daemons in this very process: the simulated venue on a recording played a thousandfold.

It has everything of a gateway but a network, outlives the daemons that connect to it, and can be told to misbehave.
Its market moves with the turns its loop gets: where the machine stands still, so does the market.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from bot.domain.events import CancelOrder, Command, Event, QueryAccount, SubmitOrder
from bot.domain.instruments import Future, Instrument, Option
from bot.domain.market import MarketEvent
from bot.domain.orders import OrderSent
from bot.domain.units import NS_PER_MS
from bot.domain.venues import AccountReport, VenueHealth, VenuePosition, VenueStatus
from bot.gateways.exchange import Credentials, VenueSettings
from bot.gateways.gateway import Clock, Put
from bot.runtime.live.clock import WallClock
from bot.simulation.recording import open_recording
from bot.simulation.venue import Fees, Latency, SimulatedVenue

SPEED = 1000
TICK_S = 0.001
MOST_A_TURN_NS = 5 * NS_PER_MS  # of our time: as much market as a turn plays at most

LIVE_VAULT = """\
vault: busy
mode: live
feed: live
venues: {deribit: {}}
numeraire: USD
book:
  - {instrument: ETH-28APR23-1900-C, qty_base: -100}
  - {instrument: ETH-28APR23-1900-P, qty_base: -100}
cash: {ETH: 0, USD: 500000}
hedge: {instrument: ETH-PERPETUAL, maker_bps: 0, taker_bps: 5}
policy: {type: delta_band, half_width_base: 0.3}
limits: {max_order_quote: 50000, max_orders_per_min: 600, daily_loss_quote: 1000000}
max_age: {quote_s: 5, index_s: 5, vol_s: 30}
state_dir: .
"""


class SimulatedExchange:
    """What stays while daemons come and go: the market, the orders, the account. `is_silent` stops the market.

    It plays the recording from now on at `SPEED`; with `is_player` at its own times, as fast as it can.
    """

    def __init__(self, recording: Path, *, is_player: bool = False) -> None:
        manifest = open_recording(str(recording)).manifest
        self.is_player = is_player
        self.start_ns = manifest.start_ns if is_player else WallClock().now_ns()
        self._shift_ns = self.start_ns - manifest.start_ns
        self._recorded_ns = manifest.start_ns
        self._turned_ns = self.start_ns
        self._played_ns = 0  # of our time
        self.listed: dict[str, Instrument] = {one.instrument_id: self._shifted(one) for one in manifest.instruments}
        self._batches = open_recording(str(recording)).batches(0)
        self._next: list[MarketEvent] | None = next(self._batches, None)
        self.venue = SimulatedVenue(
            list(self.listed.values()),
            fees={"ETH-PERPETUAL": Fees(0.0, 5.0)},
            latency=Latency(0, 2 * NS_PER_MS, 2 * NS_PER_MS),
            depth={},
            seed=1,
        )
        self.submitted: list[Command] = []
        self.connections = 0
        self.asked_since_ns: list[int] = []
        self.watched: frozenset[str] = frozenset()
        self.credentials = Credentials()
        self.is_silent = False
        self.is_mute = False  # takes orders and never answers

    def open(
        self,
        settings: VenueSettings,
        credentials: Credentials,
        clock: Clock,
        *,
        run_id: str,
        prefix: str,
        since_ns: int,
    ) -> SimulatedGateway:
        """Return a gateway to it, as `GatewayOpener` asks."""
        assert prefix == ""
        assert len(run_id) == 10
        self.asked_since_ns.append(since_ns)
        self.credentials = credentials
        return SimulatedGateway(self, settings.venue, clock)

    def market_until(self, now_ns: int) -> list[MarketEvent]:
        """Return what happens up to `now_ns`, shown to the venue and stamped as received now."""
        if self.is_player:
            batch, self._next = self._next or [], None if self.is_silent else next(self._batches, None)
            return batch
        seen: list[MarketEvent] = []
        self._played_ns += min(max(0, now_ns - self._turned_ns), MOST_A_TURN_NS)
        self._turned_ns = now_ns
        while self._next is not None and not self.is_silent:
            ts_ns = now_ns - self._played_ns + (self._next[0].ts_event_ns - self._recorded_ns) // SPEED
            if ts_ns > now_ns:
                break
            for event in self._next:
                changes: dict[str, Any] = {"ts_event_ns": ts_ns, "ts_recv_ns": now_ns}
                if hasattr(event, "expiry_ns"):
                    continue  # settlements belong to the recorded expiries
                moved = msgspec.structs.replace(event, **changes)
                self.venue.on_market(moved)
                seen.append(moved)
            self._next = next(self._batches, None)
        return seen

    def _shifted(self, one: Instrument) -> Instrument:
        if isinstance(one, Option | Future):
            return msgspec.structs.replace(one, expiry_ns=one.expiry_ns + self._shift_ns)
        return one


class SimulatedGateway:
    """One connection to the exchange."""

    def __init__(self, exchange: SimulatedExchange, venue: str, clock: Clock) -> None:
        self.exchange = exchange
        self.venue = venue
        self._clock = clock
        self._put: Put | None = None
        self._waiting: list[Event] = []

    async def __aenter__(self) -> Self:
        self.exchange.connections += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.exchange.connections -= 1

    async def instruments(self) -> tuple[Instrument, ...]:
        return tuple(self.exchange.listed.values())

    def watch(self, instruments: Sequence[Instrument]) -> None:
        self.exchange.watched = frozenset(one.instrument_id for one in instruments)

    async def truth(self) -> tuple[Event, ...]:
        return (self._report(),)

    async def events(self, put: Put) -> None:
        now_ns = self._clock.now_ns()
        put([VenueStatus(self.venue, VenueHealth.UP, "connected", now_ns)])
        while True:
            now_ns = self._clock.now_ns()
            events: list[Event] = list(self.exchange.market_until(now_ns))
            events += self._waiting  # before any answer to it, however long this loop had no turn
            self._waiting = []
            if not self.exchange.is_mute:
                events += self.exchange.venue.advance(now_ns)
            if events:
                put(events)
            await asyncio.sleep(TICK_S)

    def submit(self, command: Command) -> None:
        now_ns = self._clock.now_ns()
        self.exchange.submitted.append(command)
        if isinstance(command, QueryAccount):
            self._waiting.append(self._report())
            return
        if isinstance(command, SubmitOrder):
            self._waiting.append(OrderSent(command.intent.order_id, now_ns))
        self.exchange.venue.submit(command, now_ns)

    def _report(self) -> AccountReport:
        positions = tuple(VenuePosition(name, lots, 0.0) for name, lots in self.exchange.venue.positions.items())
        now_ns = self._clock.now_ns()
        return AccountReport(self.venue, positions, (), {}, now_ns, now_ns)


def orders(exchange: SimulatedExchange) -> list[str]:
    """The ids of every order that left, in turn."""
    return [one.intent.order_id for one in exchange.submitted if isinstance(one, SubmitOrder)]


def cancels(exchange: SimulatedExchange) -> list[str]:
    """The ids of every order whose cancel left, in turn."""
    return [one.order_id for one in exchange.submitted if isinstance(one, CancelOrder)]
