"""One stage per way to trade: the same play runs on a loopback Deribit, Binance, Hyperliquid, and on paper."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

from bot.domain.events import AmendOrder, CancelOrder, Command, Event, QueryAccount, QueryOrder, SubmitOrder
from bot.domain.instruments import Instrument
from bot.domain.market import Quote
from bot.domain.orders import (
    Fill,
    OrderCanceled,
    OrderIntent,
    OrderRejected,
    OrderState,
    OrderTruth,
    TimeInForce,
)
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.gateways.ccxt_gateway import CcxtGateway
from bot.gateways.exchange import Credentials, VenueSettings
from bot.gateways.paper import PaperExecution
from bot.runtime.live.clock import WallClock
from bot.simulation.venue import Fees, Latency
from tests.instruments import PERPETUAL
from tests.runtime.command_line import PATIENCE_S
from tests.venues.binance import BinanceServer, usdm_book
from tests.venues.deribit import DeribitServer
from tests.venues.deribit_markets import quoted_book
from tests.venues.faults import FaultScript
from tests.venues.hyperliquid import HyperliquidServer, hyperliquid_book
from tests.venues.matching import VenueBook

RUN = "0a1b2c3d4e"
ABSENCE_NS = 200 * NS_PER_MS  # after which an order nobody knows was never there
ASKED_EVERY_S = 0.1
E = TypeVar("E")


class Venue(Protocol):
    """What is on the other side: what it has of us, and how its market is moved."""

    def quote(self, bid_px: float, ask_px: float, size_base: float) -> None: ...

    def position_lots(self) -> int: ...

    def live_orders(self) -> int: ...


class Stage:
    """Us on one side, a venue on the other, and every event that came of what we sent."""

    def __init__(self, name: str, instrument: Instrument, venue: Venue, submit: Callable[[Command], None]) -> None:
        self.name = name
        self.instrument = instrument
        self.venue = venue
        self.got: list[Event] = []
        self.server_faults: FaultScript | None = None
        self._submit = submit
        self._sequence = itertools.count(1)

    def put(self, events: Sequence[Event]) -> None:
        self.got.extend(events)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.got if isinstance(event, kind)]

    def about(self, order_id: str) -> list[str]:
        return [type(event).__name__ for event in self.got if getattr(event, "order_id", None) == order_id]

    @property
    def lot(self) -> int:
        """A quantity in lots that every venue takes: a tenth of a coin."""
        return round(0.1 / self.instrument.lot_base(2_000.0))

    def send(self, lots: int, px: float, tif: TimeInForce, *, order_id: str = "", is_reduce_only: bool = False) -> str:
        ticks = self.instrument.tick_schedule
        order_id = order_id or f"{RUN}-{next(self._sequence)}"
        limit_ticks = ticks.ceil_ticks(px) if lots > 0 else ticks.floor_ticks(px)
        intent = OrderIntent(
            order_id, self.instrument.instrument_id, lots, limit_ticks, tif, is_reduce_only, "play", px, time.time_ns()
        )
        self._submit(SubmitOrder(intent))
        return order_id

    def cancel(self, order_id: str) -> None:
        self._submit(CancelOrder(order_id, self.instrument.instrument_id, "play"))

    def amend(self, order_id: str, px: float) -> None:
        limit_ticks = self.instrument.tick_schedule.floor_ticks(px)
        self._submit(AmendOrder(order_id, self.instrument.instrument_id, limit_ticks, "play"))

    def ask(self, order_id: str) -> None:
        self._submit(QueryOrder(order_id, self.instrument.instrument_id))

    async def asked_until(self, order_id: str, state: OrderState) -> None:
        """Ask again and again what became of an order, until it is said to be in a state."""

        def ask_on() -> bool:
            nonlocal asked_s
            if time.monotonic() - asked_s > ASKED_EVERY_S:
                asked_s = time.monotonic()
                self.ask(order_id)
            return self.last_truth(order_id) is state

        asked_s = 0.0
        await self.soon(ask_on, f"the truth that {order_id} is {state}")

    def ask_account(self) -> None:
        self._submit(QueryAccount(self.instrument.venue, "play"))

    def filled_lots(self, order_id: str) -> int:
        """What was filled, each trade counted once, whoever told of it."""
        fills: dict[str, Fill] = {fill.trade_id: fill for fill in self.of(Fill) if fill.order_id == order_id}
        for truth in self.of(OrderTruth):
            if truth.order_id == order_id:
                fills |= {fill.trade_id: fill for fill in truth.fills}
        return sum(fill.qty_lots for fill in fills.values())

    def last_truth(self, order_id: str) -> OrderState | None:
        truths = [truth for truth in self.of(OrderTruth) if truth.order_id == order_id]
        return truths[-1].state if truths else None

    def end_of(self, order_id: str) -> OrderState | None:
        """How the order ended, told by an answer or as the truth about it; None while nobody said so."""
        for event in self.got:
            if getattr(event, "order_id", None) != order_id:
                continue
            if isinstance(event, OrderCanceled):
                return OrderState.EXPIRED if event.is_expired else OrderState.CANCELED
            if isinstance(event, OrderRejected):
                return OrderState.REJECTED
            if isinstance(event, OrderTruth) and event.state.is_terminal:
                return event.state
        return None

    async def until(self, kind: type[E], count: int = 1) -> E:
        await self.soon(lambda: len(self.of(kind)) >= count, f"{count} {kind.__name__}")
        return self.of(kind)[count - 1]

    async def soon(self, condition: Callable[[], Any], what: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():  # noqa: ASYNC110 — the condition is anything
                    await asyncio.sleep(0.002)
        except TimeoutError as error:
            raise AssertionError(f"{self.name}: expected {what}, found {self.got}") from error


class _Loopback:
    """A loopback venue, seen from its own side."""

    def __init__(self, book: VenueBook, name: str, instrument: Instrument, amount_per_base: float) -> None:
        self._book = book
        self._name = name
        self._instrument = instrument
        self._amount_per_base = amount_per_base

    def quote(self, bid_px: float, ask_px: float, size_base: float) -> None:
        amount = size_base * self._amount_per_base
        self._book.set_quote(self._name, bid_px, amount, ask_px, amount)

    def position_lots(self) -> int:
        held = self._book.position(self._name)
        return round(held.amount / self._amount_per_base / self._instrument.lot_size)

    def live_orders(self) -> int:
        return len(self._book.open_orders(self._name))


@asynccontextmanager
async def _loopback(
    exchange_id: str, server: Any, name: str, script: FaultScript, underlying: str = "ETH"
) -> AsyncIterator[Stage]:
    settings = VenueSettings(
        venue=exchange_id,
        exchange_id=exchange_id,
        underlyings=frozenset({underlying}),
        options=server.options,
        timeout_ns=round(PATIENCE_S * NS_PER_S),  # no standstill of the machine is a lost answer
        requests_per_s=500.0,
        burst_requests=200,
        absence_ns=ABSENCE_NS,
    )
    gateway = CcxtGateway(settings, Credentials(**server.credentials), WallClock(), run_id=RUN)
    async with gateway:
        (instrument,) = [one for one in await gateway.instruments() if one.instrument_id == name]
        stage = Stage(exchange_id, instrument, _Loopback(server.book, name, instrument, 1.0), gateway.submit)
        stage.server_faults = script
        events = asyncio.create_task(gateway.events(stage.put))
        try:
            gateway.watch([instrument])
            await stage.until(Quote)
            stage.got.clear()
            yield stage
        finally:
            events.cancel()
            await asyncio.gather(events, return_exceptions=True)


class _Paper:
    """Paper execution, moved as the daemon moves it."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.stage: Stage | None = None
        self._seq = itertools.count(1)
        self.execution = PaperExecution(
            [instrument],
            fees={instrument.instrument_id: Fees(0.0, 5.0)},
            latency=Latency(entry_ns=NS_PER_MS, response_ns=NS_PER_MS),
            depth={},
            seed=7,
        )

    def submit(self, command: Command) -> None:
        self.execution.submit(command, time.time_ns())

    def quote(self, bid_px: float, ask_px: float, size_base: float) -> None:
        now_ns = time.time_ns()
        name = self.instrument.instrument_id
        self._move([Quote(name, bid_px, size_base, ask_px, size_base, now_ns, now_ns, next(self._seq))])

    def position_lots(self) -> int:
        return self._report()[0]

    def live_orders(self) -> int:
        return self._report()[1]

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0.001)
            self._move([])

    def _move(self, events: list[Event]) -> None:
        assert self.stage is not None
        self.stage.put(self.execution.absorb(time.time_ns(), events))

    def _report(self) -> tuple[int, int]:
        (venue,) = self.execution._venues.values()
        return venue.positions.get(self.instrument.instrument_id, 0), len(venue.open_orders)


@asynccontextmanager
async def paper() -> AsyncIterator[Stage]:
    """The simulated venue on live data."""
    instrument = PERPETUAL
    execution = _Paper(instrument)
    stage = Stage("paper", instrument, execution, execution.submit)
    execution.stage = stage
    execution.quote(2_000.0, 2_000.5, 50.0)
    stage.got.clear()
    moving = asyncio.create_task(execution.run())
    try:
        yield stage
    finally:
        moving.cancel()
        await asyncio.gather(moving, return_exceptions=True)


@asynccontextmanager
async def deribit() -> AsyncIterator[Stage]:
    """A loopback Deribit, on a USDC-linear perpetual."""
    script = FaultScript()
    async with (
        DeribitServer(quoted_book(), faults=script) as server,
        _loopback("deribit", server, "ETH_USDC-PERPETUAL", script) as stage,
    ):
        yield stage


@asynccontextmanager
async def binance() -> AsyncIterator[Stage]:
    """A loopback Binance USD-M."""
    script = FaultScript()
    book = usdm_book()
    book.set_index("ETH", 2_000.0)
    book.set_quote("ETHUSDT", 2_000.0, 50.0, 2_000.5, 50.0)
    async with (
        BinanceServer(book, faults=script) as server,
        _loopback("binanceusdm", server, "ETHUSDT", script) as stage,
    ):
        yield stage


@asynccontextmanager
async def hyperliquid() -> AsyncIterator[Stage]:
    """A loopback Hyperliquid, where every request is signed."""
    script = FaultScript()
    book = hyperliquid_book()
    book.set_index("ETH", 2_000.0)
    book.set_quote("ETH", 2_000.0, 50.0, 2_000.5, 50.0)
    async with (
        HyperliquidServer(book, faults=script) as server,
        _loopback("hyperliquid", server, "ETH", script) as stage,
    ):
        yield stage


STAGES: dict[str, Any] = {"paper": paper, "deribit": deribit, "binanceusdm": binance, "hyperliquid": hyperliquid}
