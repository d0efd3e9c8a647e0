"""Market data of one venue: supervised streams, requests where a stream is silent or missing, events out.

Whatever comes is turned into events by the venue's words and checked here (`read_quote`, `read_vols`, `read_index`):
what is not finite, not positive, crossed or unreadable is dropped and counted, never raised. A stream that says nothing
is put to the test by asking the venue: where the answer differs, its connection is closed and made anew; where it
does not, the market is quiet and nothing is done. Nothing here may believe a stream only because its socket is open.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from itertools import count
from typing import Any, Final, TypeVar

import ccxt
import ccxt.pro
import msgspec
import structlog

from bot.domain.events import Event
from bot.domain.instruments import Future, Instrument, Option, Perpetual
from bot.domain.market import FundingRate, IndexPrice, Quote, Settlement, VolQuote
from bot.domain.units import NS_PER_MIN, NS_PER_MS, NS_PER_S, utc_second_text
from bot.domain.venues import InstrumentDelisted, InstrumentListed, VenueHealth, VenueStatus
from bot.gateways.budget import Budget, Need
from bot.gateways.exchange import VenueSettings
from bot.gateways.gateway import Clock, Put
from bot.gateways.market_words import MarketWords, Raw, Sides, Sort, Subscription, Vols, event_ns, number
from bot.gateways.markets import Markets
from bot.gateways.outcomes import is_ban
from bot.gateways.sending import cancellable

TROUBLE: Final = (
    ccxt.BaseError,
    OSError,
    TimeoutError,
    # ccxt raises these, undocumented, where a venue answers with something it did not expect.
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
)
LATE_IN_A_ROW: Final = 3  # messages, each younger than the one before, until a stream is behind and not just quiet
MAX_BACKOFF_S: Final = 300.0  # between two closings of a connection that stays silent
MAX_PAUSE_S: Final = 15.0  # between two tries to connect
VOL_TOLERANCE: Final = 0.01  # of a vol; a summary and a ticker are not of the same instant
FORWARD_TOLERANCE: Final = 0.001
# Why something that came is no event. An empty side is no fault of anybody's: the venue is there, the market is not.
CROSSED: Final = "crossed"
NOT_POSITIVE: Final = "not positive"
ONE_SIDED: Final = "one-sided"
UNKNOWN: Final = "unknown instrument"
UNREADABLE: Final = "unreadable or not finite"

T = TypeVar("T")
log = structlog.get_logger()


class Pace(msgspec.Struct, frozen=True):
    """How often the venue is asked for what no stream tells."""

    chain_ns: int = 10 * NS_PER_S
    funding_ns: int = 5 * NS_PER_MIN
    settlement_ns: int = 15 * NS_PER_S


class Stream(msgspec.Struct, frozen=True):
    """What is followed together: instruments of one market type, through one method of ccxt, or by asking if None."""

    sort: Sort
    symbols: tuple[str, ...]
    subscription: Subscription | None

    @property
    def name(self) -> str:
        """What people call it: "quotes of ETH/USD:ETH and 2 more"."""
        rest = f" and {len(self.symbols) - 1} more" if len(self.symbols) > 1 else ""
        return f"{self.sort} of {self.symbols[0]}{rest}"


class _Ear:
    """What was heard of one instrument through one stream, and what the venue answered when asked."""

    __slots__ = ("answered_s", "doubted_s", "heard", "heard_s", "is_broken", "late", "raw", "since_s")

    def __init__(self, now_s: float) -> None:
        self.since_s = now_s
        self.heard_s = now_s  # when the stream last spoke, on the loop's clock, which no one sets back
        self.answered_s = 0.0
        self.doubted_s = 0.0  # since when an answer differs from what the stream said last
        self.heard: Quote | VolQuote | IndexPrice | None = None
        self.raw: object = None
        self.late = 0
        self.is_broken = False  # a book that ccxt keeps has crossed: a difference was lost

    @property
    def alive_s(self) -> float:
        return max(self.heard_s, self.answered_s)


class MarketFeed:
    """Streams what `watch` asks for as events into `put`, until `run` is cancelled.

    `dropped` counts what was refused by reason; `seq` numbers the events, one count for the whole gateway. `budget` may
    be replaced by the one that the orders at this venue are sent from; requests take what they need of it, or wait.
    """

    def __init__(
        self,
        exchange: ccxt.pro.Exchange,
        markets: Markets,
        words: MarketWords,
        clock: Clock,
        settings: VenueSettings,
        put: Put,
        pace: Pace | None = None,
        seq: Iterator[int] | None = None,
    ) -> None:
        self._exchange = exchange
        self._markets = markets
        self._words = words
        self._clock = clock
        self._put = put
        self._pace = pace or Pace()
        self._seq = seq or count(1)
        self.budget = Budget(settings.requests_per_s, settings.burst_requests, settings.cancel_share)
        self._limit_s = settings.max_silence_ns / NS_PER_S
        self._max_lag_ns = settings.max_silence_ns
        self._markets_ns = settings.markets_poll_ns
        self._wanted: dict[str, Instrument] = {}
        self._running: dict[Stream, tuple[asyncio.Task[None], ...]] = {}
        self._changed = asyncio.Event()
        self._ears: dict[tuple[Sort, str], _Ear] = {}
        self._silent: dict[tuple[Sort, str], str] = {}
        self._health: VenueHealth | None = None
        self._failing: set[str] = set()
        self._settled: set[tuple[str, int]] = set()
        self._funded_ms: dict[str, int] = {}
        self.dropped: Counter[str] = Counter()
        self.reconnects: Counter[str] = Counter()

    def watch(self, instrument_ids: Iterable[str], known: Iterable[Instrument] = ()) -> None:
        """Want quotes of these hedge instruments and vols of these options, and nothing else from now on.

        `known` are instruments that the venue may have ceased to list before we connected: of a held option that
        expired meanwhile, the settlement is still asked for.
        """
        wanted: dict[str, Instrument] = {}
        elsewhere = {instrument.instrument_id: instrument for instrument in known}
        for instrument_id in instrument_ids:
            instrument = self._markets.get(instrument_id) or elsewhere.get(instrument_id)
            if instrument is None:
                log.warning("feed.unknown_instrument", venue=self._markets.venue, instrument_id=instrument_id)
                continue
            wanted[instrument_id] = instrument
        self._wanted = wanted
        self._changed.set()

    async def run(self) -> None:
        """Follow, poll and watch over all of it; ends only by cancellation."""
        pace = self._pace
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(pace.chain_ns, "chain", self.poll_chain))
            group.create_task(self._every(pace.funding_ns, "funding", self.poll_funding))
            group.create_task(self._every(pace.settlement_ns, "settlements", self.poll_settlements))
            group.create_task(self._every(self._markets_ns, "markets", self.reload_markets, is_late=True))
            await self._keep_streams(group)

    # What is followed

    async def _keep_streams(self, group: asyncio.TaskGroup) -> None:
        running = self._running
        while True:
            self._changed.clear()
            plan = set(self._plan())
            for stream in running.keys() - plan:
                for task in running.pop(stream):
                    task.cancel()
                self._leave(stream, plan)
            now_s = asyncio.get_running_loop().time()
            wanted = {(stream.sort, symbol) for stream in plan for symbol in stream.symbols}
            for key in self._ears.keys() - wanted:
                del self._ears[key]
                self._silent.pop(key, None)
            for key in wanted - self._ears.keys():
                self._ears[key] = _Ear(now_s)
            for stream in sorted(plan - running.keys(), key=lambda s: s.name):
                tasks = [group.create_task(self._guard(stream))]
                if stream.subscription is not None:
                    tasks.append(group.create_task(self._follow(stream, stream.subscription)))
                running[stream] = tuple(tasks)
            await self._changed.wait()

    def _plan(self) -> Iterator[Stream]:
        """Yield the streams that what is wanted needs now; nothing expired or delisted is followed."""
        now_ns = self._clock.now_ns()
        listed = {instrument.instrument_id for instrument in self._markets.instruments}
        live = [i for i in self._wanted.values() if i.instrument_id in listed and (expiry_ns(i) or now_ns + 1) > now_ns]
        groups: dict[tuple[Sort, str], list[str]] = {}
        index_of = {base: self._index_source(base) for base in {i.base for i in self._wanted.values()}}
        indices = [source for source in index_of.values() if source is not None]
        for sort, instruments in (
            (Sort.QUOTES, [i for i in live if not isinstance(i, Option)]),
            (Sort.VOLS, [i for i in live if isinstance(i, Option)]),
            (Sort.INDEX, indices),
        ):
            if instruments and not (self._words.tells(sort, self._exchange) or self._subscription(sort)):
                self._fail_once(f"{sort}", f"{self._exchange.id} tells no {sort}")
                continue
            for instrument in instruments:
                market = self._markets.market_of(instrument.instrument_id)
                kind = f"{market.get('type')} {market.get('linear')}"  # venues have one address for each
                groups.setdefault((sort, kind), []).append(self._markets.symbol_of(instrument.instrument_id))
        for (sort, _), symbols in groups.items():
            subscription = self._subscription(sort)
            if subscription is None or subscription.takes_many:
                yield Stream(sort, tuple(sorted(symbols)), subscription)
            else:
                yield from (Stream(sort, (symbol,), subscription) for symbol in sorted(symbols))

    def _subscription(self, sort: Sort) -> Subscription | None:
        return self._words.subscription(sort, self._exchange)

    def _index_source(self, base: str) -> Instrument | None:
        """Return whose ticker tells the index of a coin: a perpetual that is wanted, else any."""
        perpetuals = [i for i in self._markets.instruments if isinstance(i, Perpetual) and i.base == base]
        perpetuals.sort(key=lambda i: (i.instrument_id not in self._wanted, i.quote != "USD", i.instrument_id))
        if not perpetuals:
            self._fail_once(f"index of {base}", f"no perpetual of {self._markets.venue} tells the index of {base}")
        return perpetuals[0] if perpetuals else None

    # Streams

    async def _follow(self, stream: Stream, subscription: Subscription) -> None:
        """Watch again and again; ccxt keeps the newest of each symbol, so nothing is lost between two watches."""
        method = getattr(self._exchange, subscription.method)
        argument: Any = list(stream.symbols) if subscription.takes_many else stream.symbols[0]
        failures = 0
        while True:
            error = await _attempt(method(argument), self._limit_s)
            if error is None:
                failures = 0
                self._failing.discard(stream.name)
                self._take(stream, subscription)
                continue
            failures += 1
            self._fail_once(stream.name, error)
            self._forget(stream, subscription)
            pause_s = min(MAX_PAUSE_S, self._limit_s * 2.0 ** (min(failures, 20) - 5))
            await asyncio.sleep(max(pause_s, self._dial_delay_s()))

    def _dial_delay_s(self) -> float:
        """Return how long ccxt would wait before it connects: waited for here, or its waiting outlives its closing."""
        waits = getattr(self._exchange, "ws_dial_backoff", None) or {}
        return max((float(self._exchange.ws_dial_delay(url)) for url in waits), default=0.0)

    def _take(self, stream: Stream, subscription: Subscription) -> None:
        """Emit everything the stream's symbols have new in ccxt's cache."""
        cache = getattr(self._exchange, subscription.cache)
        events: list[Event] = []
        for symbol in stream.symbols:
            raw, ear = cache.get(symbol), self._ears.get((stream.sort, symbol))
            if raw is None or ear is None:
                continue
            # A book is one object that changes; anything else is made anew by every message.
            mark: object = (raw.get("timestamp"), raw.get("nonce"), _top(raw)) if "bids" in raw else raw
            if mark is ear.raw or (isinstance(mark, tuple) and mark == ear.raw):
                continue
            ear.raw = mark
            event = self._read(stream.sort, symbol, raw)
            if not isinstance(event, str):
                self._hear(ear, event)
                events.append(event)
            elif event == ONE_SIDED:
                ear.heard, ear.heard_s, ear.doubted_s = None, asyncio.get_running_loop().time(), 0.0
            elif event == CROSSED and "bids" in raw:
                ear.is_broken = True
        if events:
            self._put(events)

    def _hear(self, ear: _Ear, event: Quote | VolQuote | IndexPrice) -> None:
        is_newer = ear.heard is None or event.ts_event_ns > ear.heard.ts_event_ns
        is_late = event.ts_recv_ns - event.ts_event_ns > self._max_lag_ns
        ear.late = ear.late + is_newer if is_late else 0
        ear.heard = event
        if ear.late < LATE_IN_A_ROW:
            ear.heard_s = asyncio.get_running_loop().time()
            ear.doubted_s = 0.0

    def _forget(self, stream: Stream, subscription: Subscription) -> None:
        """Let go of what a lost connection left: a book merged with the next snapshot would be wrong."""
        cache = getattr(self._exchange, subscription.cache)
        for symbol in stream.symbols:
            cache.pop(symbol, None)
            if (ear := self._ears.get((stream.sort, symbol))) is not None:
                ear.raw = ear.heard = None
                ear.late = 0
                ear.is_broken = False

    # Silence

    async def _guard(self, stream: Stream) -> None:
        """Ask for what the stream keeps silent about; close its connection if the answers say more than it did."""
        loop = asyncio.get_running_loop()
        attempts, not_before_s = 0, 0.0
        while True:
            await asyncio.sleep(self._limit_s / 5)
            reason = ""
            for symbol in stream.symbols:
                ear = self._ears.get((stream.sort, symbol))
                if ear is not None:
                    reason = await self._question(stream, symbol, ear) or reason
            self._judge(stream)
            if not reason and all(self._is_speaking(stream.sort, symbol) for symbol in stream.symbols):
                attempts = 0
            if reason and stream.subscription is not None and loop.time() >= not_before_s:
                attempts += 1
                not_before_s = loop.time() + min(MAX_BACKOFF_S, self._limit_s * 2.0 ** (min(attempts, 20) - 1))
                self._reconnect(stream, stream.subscription, reason)

    def _is_speaking(self, sort: Sort, symbol: str) -> bool:
        ear = self._ears.get((sort, symbol))
        return ear is None or (ear.heard is not None and ear.late < LATE_IN_A_ROW)

    async def _question(self, stream: Stream, symbol: str, ear: _Ear) -> str:
        """Ask for one instrument if it is time to; return why the stream must not be believed, or ""."""
        loop = asyncio.get_running_loop()
        step_s = self._limit_s / 5
        if ear.is_broken:
            return f"{symbol}: its book has crossed"
        if loop.time() - ear.heard_s <= (self._limit_s if stream.subscription else 0.0):
            return ""
        is_asked_by_chain = stream.sort is Sort.VOLS and self._words.chain_tells_all
        is_quiet = stream.subscription is not None and not ear.doubted_s and ear.heard is not None
        if not is_asked_by_chain and loop.time() - ear.answered_s >= (self._limit_s if is_quiet else step_s):
            name = f"{stream.sort} of {symbol} by request"
            asked_ns = self._clock.now_ns()
            if not self.budget.take(Need.QUERY, asked_ns):
                return ""
            try:
                async with asyncio.timeout(2 * self._limit_s):  # `wait_for` may lose a cancellation before 3.12
                    raw = await cancellable(self._words.ask(stream.sort, self._exchange, symbol))
            except TROUBLE as error:
                self._fail_once(name, error)
                self._back_off(error)
                return f"{symbol}: the stream is silent, and a request failed"
            self._failing.discard(name)
            self.budget.succeed()
            self._answer(stream.sort, symbol, raw, ear, asked_ns)
        if ear.late >= LATE_IN_A_ROW and ear.heard is not None:
            return f"{symbol}: its data is {(ear.heard.ts_recv_ns - ear.heard.ts_event_ns) / NS_PER_S:.1f} s behind"
        if ear.doubted_s and loop.time() - ear.doubted_s >= step_s:
            return f"{symbol}: silent for {loop.time() - ear.heard_s:.1f} s while the venue answers something else"
        return ""

    def _answer(self, sort: Sort, symbol: str, raw: Raw, ear: _Ear, asked_ns: int) -> None:
        """Take an answer for what the stream did not tell, and doubt the stream if it says something else.

        If it says the same, the market is quiet: what the stream said was still true when the venue was asked.
        """
        event = self._read(sort, symbol, raw)
        now_s = asyncio.get_running_loop().time()
        if isinstance(event, str):
            ear.answered_s = now_s if event == ONE_SIDED else ear.answered_s
            return
        ear.answered_s = now_s
        if ear.heard is not None and event.ts_event_ns < ear.heard.ts_event_ns:
            return
        is_silent = now_s - ear.heard_s > self._limit_s
        if ear.heard is not None and not differ(ear.heard, event):
            event = msgspec.structs.replace(event, ts_event_ns=max(event.ts_event_ns, asked_ns))
        elif is_silent and not ear.doubted_s:
            ear.doubted_s = now_s
        if is_silent or self._subscription(sort) is None:
            self._put([event])

    def _reconnect(self, stream: Stream, subscription: Subscription, reason: str) -> None:
        self.reconnects[stream.name] += 1
        log.warning("feed.reconnects", venue=self._markets.venue, stream=stream.name, reason=reason)
        names = self._names([stream])
        self._forget(stream, subscription)
        for client in list((self._exchange.clients or {}).values()):
            if any(name in key for name in names for key in _keys(client)):
                # As ccxt does when a pong is missing: everybody who waits on this connection is told, and asks anew.
                client.on_error(ccxt.NetworkError(f"{stream.name}: {reason}"))

    def _leave(self, stream: Stream, plan: Iterable[Stream]) -> None:
        """Close the connections that only a stream no longer wanted was on."""
        gone, kept = self._names([stream]), self._names(plan)
        for client in list((self._exchange.clients or {}).values()):
            keys = _keys(client)
            is_ours = keys and all(any(name in key for name in gone) for key in keys)
            if is_ours and not any(name in key for name in kept for key in keys):
                client.on_error(ccxt.NetworkError(f"{stream.name}: no longer wanted"))

    def _names(self, streams: Iterable[Stream]) -> set[str]:
        """Return what ccxt's keys call the symbols of these streams: the symbol, or the venue's own id."""
        symbols = {symbol for stream in streams for symbol in stream.symbols}
        return symbols | {str(self._exchange.market(symbol)["id"]) for symbol in symbols}

    def _judge(self, stream: Stream) -> None:
        """Say DOWN when something comes neither by stream nor by request, UP once everything comes again."""
        now_s = asyncio.get_running_loop().time()
        patience_s = 2 * self._limit_s
        if stream.sort is Sort.VOLS:
            patience_s = max(patience_s, 3 * self._pace.chain_ns / NS_PER_S)
        for symbol in stream.symbols:
            key = (stream.sort, symbol)
            ear = self._ears.get(key)
            if ear is None:
                continue
            if now_s - ear.alive_s > patience_s:
                self._silent[key] = f"{stream.sort} of {symbol}: nothing by stream or request for {patience_s:.3g} s"
            else:
                self._silent.pop(key, None)
        if self._silent:
            self._say(VenueHealth.DOWN, "; ".join(sorted(self._silent.values())))
        elif all(ear.alive_s > ear.since_s for ear in self._ears.values()):
            self._say(VenueHealth.UP, "everything that is watched comes in")

    def _say(self, health: VenueHealth, reason: str) -> None:
        if health is self._health:
            return
        self._health = health
        say = log.info if health is VenueHealth.UP else log.error
        say("market_feed.health", venue=self._markets.venue, health=str(health), reason=reason)
        self._put([VenueStatus(self._markets.venue, health, reason, self._clock.now_ns())])

    # What is polled

    async def _every(
        self, period_ns: int, name: str, poll: Callable[[], Coroutine[Any, Any, None]], *, is_late: bool = False
    ) -> None:
        """Poll for ever; `is_late`: not at the start."""
        while True:
            if not is_late:
                await self._poll(name, poll)
            is_late = False
            await asyncio.sleep(period_ns / NS_PER_S)

    async def _poll(self, name: str, poll: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while not self.budget.take(Need.QUERY, now_ns := self._clock.now_ns()):
            wait_ns = self.budget.wait_ns(Need.QUERY, now_ns)
            await asyncio.sleep(wait_ns / NS_PER_S)
        try:
            await cancellable(poll())
        except TROUBLE as error:
            self._fail_once(name, error)
            self._back_off(error)
        else:
            self._failing.discard(name)
            self.budget.succeed()

    def _back_off(self, error: Exception) -> None:
        """Ask nothing for a while when the venue says it was too much."""
        if isinstance(error, ccxt.RateLimitExceeded | ccxt.DDoSProtection):
            headers = self._exchange.last_response_headers or {}
            asked = {str(name).lower(): value for name, value in headers.items()}
            retry_after_ns = int((number(asked.get("retry-after")) or 0.0) * NS_PER_S)
            self.budget.back_off(self._clock.now_ns(), retry_after_ns, is_ban=is_ban(error))

    async def poll_chain(self) -> None:
        """Ask for the vols of every expiry that is held, neighbours too. Raises what ccxt raises."""
        now_ns = self._clock.now_ns()
        held = [i for i in self._wanted.values() if isinstance(i, Option) and i.expiry_ns > now_ns]
        if not held or not self._words.chain_tells_all:
            return
        expiries = {(i.base, i.expiry_ns) for i in held}
        listed = {instrument.instrument_id for instrument in self._markets.instruments}
        markets = [self._markets.market_of(i.instrument_id) for i in held if i.instrument_id in listed]
        events: list[Event] = []
        asked_ns = self._clock.now_ns()
        for symbol, raw in (await self._words.chain(self._exchange, markets)).items():
            option = self._markets.instrument_of(symbol)
            if not isinstance(option, Option) or (option.base, option.expiry_ns) not in expiries:
                continue
            ear = self._ears.get((Sort.VOLS, symbol))
            if ear is not None:
                self._answer(Sort.VOLS, symbol, raw, ear, asked_ns)
            elif not isinstance(event := self._read(Sort.VOLS, symbol, raw), str):
                events.append(event)
        if events:
            self._put(events)

    async def poll_funding(self) -> None:
        """Ask for the funding paid on every perpetual that is watched since the last time. Raises what ccxt raises."""
        now_ms = self._clock.now_ns() // NS_PER_MS
        for instrument in list(self._wanted.values()):
            if not isinstance(instrument, Perpetual) or self._markets.get(instrument.instrument_id) is None:
                continue
            instrument_id = instrument.instrument_id
            since_ms = self._funded_ms.setdefault(instrument_id, now_ms)
            paid = await self._words.funding(self._exchange, self._markets.symbol_of(instrument_id), since_ms)
            for rate, ts_ms in sorted(paid, key=lambda entry: number(entry[1]) or 0.0):
                found, stamp = number(rate), number(ts_ms)
                if found is None or stamp is None or stamp <= 0:
                    self.dropped["funding: unreadable"] += 1
                elif stamp > self._funded_ms[instrument_id]:
                    self._funded_ms[instrument_id] = int(stamp)
                    recv_ns = self._clock.now_ns()
                    event = FundingRate(instrument_id, found, int(stamp) * NS_PER_MS, recv_ns, next(self._seq))
                    self._put([event])

    async def poll_settlements(self) -> None:
        """Ask for the final price of every expiry that is watched and over. Raises what ccxt raises."""
        now_ns = self._clock.now_ns()
        for instrument in list(self._wanted.values()):
            ended_ns = expiry_ns(instrument)
            if ended_ns is None or ended_ns > now_ns:
                continue
            symbol = self._markets.symbol_or_none(instrument.instrument_id)
            if any(symbol in stream.symbols and stream.sort is not Sort.INDEX for stream in self._running):
                self._changed.set()  # nothing expired is streamed any more
            if (instrument.base, ended_ns) in self._settled:
                continue
            market = {} if symbol is None else self._markets.market_of(instrument.instrument_id)
            told = await self._words.settlement_px(self._exchange, instrument, market)
            px = checked(told)
            if isinstance(px, tuple):
                self._settled.add((instrument.base, ended_ns))
                recv_ns = self._clock.now_ns()
                event = Settlement(instrument.base, ended_ns, px[0], ended_ns, recv_ns, next(self._seq))
                self._put([event])
            elif told is not None:
                self.dropped[f"settlement: {px}"] += 1
            elif now_ns - ended_ns > 10 * NS_PER_MIN:
                self._fail_once(
                    f"settlement of {instrument.base} {utc_second_text(ended_ns)}",
                    f"{self._exchange.id} has told no price for it",
                )

    async def reload_markets(self) -> None:
        """Ask for the markets again and tell what is new, gone or changed. Raises what ccxt raises."""
        changes = await self._markets.reload(self._exchange)
        now_ns = self._clock.now_ns()
        events: list[Event] = [InstrumentListed(instrument, now_ns) for instrument in changes.listed]
        for instrument_id, reason in changes.delisted:
            gone = self._markets.get(instrument_id)
            ended_ns = expiry_ns(gone) if gone is not None else None
            if ended_ns is None or ended_ns > now_ns:  # what expired is gone as it should be
                log.warning("feed.delisted", instrument_id=instrument_id, reason=reason)
                events.append(InstrumentDelisted(instrument_id, reason, now_ns))
        if events:
            self._changed.set()
            self._put(events)

    # Reading

    def _read(self, sort: Sort, symbol: str, raw: Raw) -> Quote | VolQuote | IndexPrice | str:
        """Return the event of what came, or count and return why there is none."""
        instrument = self._markets.instrument_of(symbol)
        if instrument is None:
            self.dropped[f"{sort}: {UNKNOWN}"] += 1
            return UNKNOWN
        recv_ns, words = self._clock.now_ns(), self._words
        event: Quote | VolQuote | IndexPrice | str
        if sort is Sort.QUOTES:
            event = read_quote(words.sides(raw), instrument, self._markets.base_of, recv_ns, next(self._seq))
        elif sort is Sort.VOLS:
            event = read_vols(words.vols(raw), instrument.instrument_id, words.vol_unit, recv_ns, next(self._seq))
        else:
            event = read_index(words.index(raw), instrument.base, recv_ns, next(self._seq), instrument.venue)
        if isinstance(event, str):
            self.dropped[f"{sort}: {event}"] += 1
        return event

    def _fail_once(self, name: str, error: object) -> None:
        """Log a failure when it begins, not every time."""
        if name not in self._failing:
            self._failing.add(name)
            log.warning("feed.trouble", venue=self._markets.venue, what=name, error=str(error)[:300])


def read_quote(
    sides: Sides, instrument: Instrument, base_of: Callable[[Instrument, float, float], float], recv_ns: int, seq: int
) -> Quote | str:
    """Return the quote of a best bid and ask, or why there is none; `base_of` turns ccxt's amounts into base units."""
    if any(px is None or number(px) == 0.0 for px in (sides.bid_px, sides.ask_px)):
        return ONE_SIDED
    numbers = checked(sides.bid_px, sides.bid_amount, sides.ask_px, sides.ask_amount)
    if isinstance(numbers, str):
        return numbers
    bid_px, bid_amount, ask_px, ask_amount = numbers
    if bid_px >= ask_px:
        return CROSSED
    bid_base, ask_base = base_of(instrument, bid_amount, bid_px), base_of(instrument, ask_amount, ask_px)
    if isinstance(fault := checked(bid_base, ask_base), str):
        return fault
    ts_ns = event_ns(sides.ts_ms, recv_ns)
    return Quote(instrument.instrument_id, bid_px, bid_base, ask_px, ask_base, ts_ns, recv_ns, seq)


def read_vols(vols: Vols, instrument_id: str, unit: float, recv_ns: int, seq: int) -> VolQuote | str:
    """Return the vol quote of what a venue tells in its `unit`, or why there is none; a side without a vol is 0."""
    numbers = checked(vols.mark_vol, vols.forward_px)
    if isinstance(numbers, str):
        return numbers
    mark_vol, forward_px = round(numbers[0] * unit, 9), numbers[1]
    bid_vol, ask_vol = (round(max(number(side) or 0.0, 0.0) * unit, 9) for side in (vols.bid_vol, vols.ask_vol))
    if mark_vol <= 0.0:
        return NOT_POSITIVE
    if bid_vol > ask_vol > 0.0:
        return CROSSED
    ts_ns = event_ns(vols.ts_ms, recv_ns)
    bid_base, ask_base = (max(number(size) or 0.0, 0.0) for size in (vols.bid_base, vols.ask_base))
    return VolQuote(instrument_id, mark_vol, bid_vol, ask_vol, forward_px, ts_ns, recv_ns, seq, bid_base, ask_base)


def read_index(
    told: tuple[object, object], underlying: str, recv_ns: int, seq: int, venue: str = ""
) -> IndexPrice | str:
    """Return the index price of (price, time in milliseconds), or why there is none."""
    numbers = checked(told[0])
    if isinstance(numbers, str):
        return numbers
    return IndexPrice(underlying, numbers[0], event_ns(told[1], recv_ns), recv_ns, seq, venue)


def checked(*values: object) -> tuple[float, ...] | str:
    """Return finite numbers above 0, or what is wrong with them."""
    numbers = [number(value) for value in values]
    found = tuple(value for value in numbers if value is not None)
    if len(found) < len(numbers):
        return UNREADABLE
    return found if min(found) > 0 else NOT_POSITIVE


def differ(heard: Quote | VolQuote | IndexPrice, answered: Quote | VolQuote | IndexPrice) -> bool:
    """Tell whether an answer says something else than what a stream said last."""
    if isinstance(heard, Quote) and isinstance(answered, Quote):
        return (heard.bid_px, heard.ask_px) != (answered.bid_px, answered.ask_px)
    if isinstance(heard, VolQuote) and isinstance(answered, VolQuote):
        is_vol_far = abs(answered.mark_vol - heard.mark_vol) > VOL_TOLERANCE * heard.mark_vol
        return is_vol_far or abs(answered.forward_px - heard.forward_px) > FORWARD_TOLERANCE * heard.forward_px
    return isinstance(heard, IndexPrice) and isinstance(answered, IndexPrice) and heard.px != answered.px


def expiry_ns(instrument: Instrument) -> int | None:
    """Return when an instrument expires, None if it does not."""
    return instrument.expiry_ns if isinstance(instrument, Option | Future) else None


async def _attempt(watching: Awaitable[object], timeout_s: float) -> Exception | None:
    """Wait for one message, or for the time to be over; return what went wrong, if anything did.

    It runs as a task of its own: ccxt cancels those who wait on a client it closes, which is not to cancel us.
    """
    task = asyncio.ensure_future(watching)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    error = None if task.cancelled() else task.exception()
    if error is None or isinstance(error, Exception):
        return error
    raise error


def _keys(client: Any) -> list[str]:  # noqa: ANN401
    return [str(key) for key in (*client.futures, *client.subscriptions)]


def _top(book: Raw) -> tuple[Sequence[object], Sequence[object]]:
    return tuple(book["bids"][0][:2] if book["bids"] else ()), tuple(book["asks"][0][:2] if book["asks"] else ())
