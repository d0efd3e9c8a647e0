"""Plays a recording at a loopback venue: its prices become the venue's, its times the venue's times.

In lockstep the next moment comes as soon as every client has taken this one, so that two days pass as fast as the
client goes. Nothing is played while nobody listens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol

import polars as pl

from bot.domain.instruments import Future, Instrument, Option, Payoff, Perpetual
from bot.domain.market import FundingRate, IndexPrice, MarketEvent, Quote, Settlement, VolQuote
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.simulation.depth import build_ladder
from bot.simulation.recording import Recording
from tests.runtime.command_line import PATIENCE_S
from tests.venues.matching import Kind, Listing, VenueBook

LISTENER_CHECK_S = 0.01
RICH: Mapping[str, float] = {"BTC": 1_000.0, "ETH": 10_000.0, "USD": 100_000_000.0, "USDC": 100_000_000.0}
Pause = Callable[[], Awaitable[None]]


class Venue(Protocol):
    """What a server must offer to be played at."""

    book: VenueBook

    def hears(self, name: str) -> bool:
        """Tell whether anybody hears a feed of this instrument."""

    def publish(self) -> bool:
        """Send what has news, and tell whether anything was sent since the last time."""

    async def settle(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until every client has taken what was sent."""


class RecordingPlayer:
    """A recording as a market. Make the server with `player.book`, then `await player.play(server)`."""

    def __init__(
        self,
        recording: Recording,
        *,
        balances: Mapping[str, float] = RICH,
        maker_rate: float = 0.0,
        taker_rate: float = 0.0005,
        option_rate: float = 0.0003,
        start_after_ns: int | None = None,
    ) -> None:
        """The rates are what the venue charges: futures and perpetuals as maker or taker, options either way."""
        manifest = recording.manifest
        self.recording = recording
        self.now_ns = manifest.start_ns
        self.moments = 0  # played so far
        self._by_id = {instrument.instrument_id: instrument for instrument in manifest.instruments}
        rates = {True: (option_rate, option_rate), False: (maker_rate, taker_rate)}
        listings = [listing_of(one, *rates[isinstance(one, Option)]) for one in manifest.instruments]
        self.book = VenueBook(listings, balances=dict(balances), now_ms=self.now_ms)
        self.perpetuals = [one.name for one in listings if one.kind is Kind.PERPETUAL]
        self._batches = recording.batches(start_after_ns=start_after_ns)
        self._option_quotes = _option_quotes(recording, start_after_ns or 0)
        self._next: list[MarketEvent] | None = next(self._batches, None)
        self._step()  # so that whoever connects finds a market

    def now_ms(self) -> int:
        """The time of the newest event played."""
        return self.now_ns // NS_PER_MS

    @property
    def next_ns(self) -> int | None:
        """When the next moment is, None after the last one."""
        return None if self._next is None else self._next[0].ts_event_ns

    async def play(
        self,
        venue: Venue,
        until_ns: int | None = None,
        *,
        pause: float | Pause | None = None,
        speed: float | None = None,
    ) -> int:
        """Play up to and including `until_ns`, in lockstep or `speed` times as fast as it was; return moments played.

        `pause` follows every moment that somebody heard of: seconds, or anything to be awaited.
        """
        first = self.moments
        loop = asyncio.get_running_loop()
        started_s, started_ns = loop.time(), self.now_ns
        while (next_ns := self.next_ns) is not None and (until_ns is None or next_ns <= until_ns):
            if speed is None:
                await self._wait_for_listener(venue)
                if venue.publish():  # who has just come takes what is now, before it is over
                    await venue.settle()
            else:
                await asyncio.sleep(max(0.0, started_s + (next_ns - started_ns) / NS_PER_S / speed - loop.time()))
            self._step()
            if venue.publish():
                if speed is None:
                    await venue.settle()
                if pause is not None:
                    await (asyncio.sleep(pause) if isinstance(pause, float | int) else pause())
        return self.moments - first

    async def _wait_for_listener(self, venue: Venue) -> None:
        while not any(venue.hears(name) for name in self.perpetuals):  # noqa: ASYNC110 - listeners come and go
            await asyncio.sleep(LISTENER_CHECK_S)
        await asyncio.sleep(0)  # whoever has just come is told where the market stands first

    def _step(self) -> None:
        """Let one moment happen."""
        if self._next is None:
            return
        self.now_ns = self._next[0].ts_event_ns
        for event in self._next:
            self._apply(event)
        self.moments += 1
        self._next = next(self._batches, None)

    def _apply(self, event: MarketEvent) -> None:
        match event:
            case IndexPrice():
                self.book.set_index(event.underlying, event.px)
            case Quote():
                self._quote(event)
            case VolQuote():
                name = event.instrument_id
                self.book.set_vol(name, event.mark_vol, event.bid_vol, event.ask_vol, event.forward_px)
                *quote, mark_px = next(self._option_quotes)
                self.book.quotes[name].mark_px = mark_px or None
                self.book.set_quote(name, *quote)
            case FundingRate():
                self.book.set_funding_rate(event.instrument_id, event.rate)
                self.book.pay_funding(event.instrument_id, event.rate)
            case Settlement():
                self.book.settle(event.underlying, event.expiry_ns // NS_PER_MS, event.px)

    def _quote(self, event: Quote) -> None:
        """The touch as recorded, with the recording's depth behind it."""
        instrument = self._by_id[event.instrument_id]
        bid = event.bid_px if event.bid_base > 0 else 0.0
        ask = event.ask_px if event.ask_base > 0 else 0.0
        self.book.set_quote(
            event.instrument_id,
            bid,
            _amount(instrument, event.bid_base, bid),
            ask,
            _amount(instrument, event.ask_base, ask),
            deeper_bids=self._deeper(instrument, bid, event.bid_base, is_ask=False),
            deeper_asks=self._deeper(instrument, ask, event.ask_base, is_ask=True),
        )

    def _deeper(
        self, instrument: Instrument, px: float, size_base: float, *, is_ask: bool
    ) -> list[tuple[float, float]]:
        profile = self.recording.manifest.depth.get(instrument.instrument_id)
        if profile is None or instrument.price_currency == instrument.base:
            return []
        rungs = build_ladder(instrument, profile, px, size_base, is_ask=is_ask)[1:]
        schedule, lot = instrument.tick_schedule, instrument.lot_size
        return [(round(schedule.px(rung.ticks), 9), round(rung.left_lots * lot, 9)) for rung in rungs]


def listing_of(instrument: Instrument, maker_rate: float, taker_rate: float) -> Listing:
    """Return what a venue would publish so that its clients make this instrument of it."""
    kinds = {Option: Kind.OPTION, Future: Kind.FUTURE, Perpetual: Kind.PERPETUAL}
    steps = instrument.tick_schedule.steps
    dated: dict[str, Any] = {}
    if isinstance(instrument, Option | Future):
        dated["expiry_ms"] = instrument.expiry_ns // NS_PER_MS
    if isinstance(instrument, Option):
        dated |= {"strike": instrument.strike_px, "is_call": instrument.is_call}
    return Listing(
        name=instrument.instrument_id,
        kind=kinds.get(type(instrument), Kind.SPOT),
        coin=instrument.base,
        quote=instrument.quote,
        settle=instrument.settle,
        contract_size=instrument.contract_size,
        min_amount=round(instrument.lot_size, 9),
        tick_px=instrument.tick_schedule.tick_px,
        tick_steps=tuple((step.from_px, step.step_ticks * instrument.tick_schedule.tick_px) for step in steps),
        is_inverse=instrument.payoff is Payoff.INVERSE,
        maker_rate=maker_rate,
        taker_rate=taker_rate,
        **dated,
    )


def _amount(instrument: Instrument, size_base: float, px: float) -> float:
    """Count as the venue does: quote money for inverse futures, else base units."""
    return round(size_base * px if instrument.is_quote_sized else size_base, 9)


def _option_quotes(recording: Recording, start_after_ns: int) -> Iterator[tuple[float, float, float, float, float]]:
    """Yield bid, its size, ask, its size and mark of every vol quote, in the order of the events."""
    if "vol_quotes" not in recording.manifest.streams:
        return
    rows = recording.table("vol_quotes").filter(pl.col("ts_event_ns") > start_after_ns)
    columns = rows.select("bid_px", "bid_base", "ask_px", "ask_base", "mark_px").collect()
    yield from columns.fill_nan(0.0).fill_null(0.0).iter_rows()
