"""What happens on our account at one venue, told as it happens: private streams, and polls that need no stream.

A stream that dies silently loses nothing: trades are asked for independently, since a little before the newest one
known, and each is told once. A trade is told as foreign only after the venue said whose order it belongs to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import ccxt.pro

from bot.domain.events import Event
from bot.domain.orders import Fill
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.domain.venues import AccountReport
from bot.gateways.account_check import measure_skew, skew_text
from bot.gateways.account_words import AccountWords
from bot.gateways.budget import Need
from bot.gateways.exchange import VenueSettings
from bot.gateways.gateway import Clock, Put
from bot.gateways.known_orders import KnownOrders
from bot.gateways.market_words import number
from bot.gateways.markets import Markets
from bot.gateways.order_words import OrderWords, Raw
from bot.gateways.outcomes import Outcome
from bot.gateways.venue_calls import Failure, VenueCalls, ms_of

_OVERLAP_NS: Final = 60 * NS_PER_S  # trades become visible late, and not in order
_CALLS_OF_A_REPORT: Final = 3
_PAUSE_S: Final = 0.01  # between two waits on a stream, should one end at once
_WARM_S: Final = 10.0  # HTTP connections are kept for 15 s
_STREAM_LATE_NS: Final = 2 * NS_PER_S
_GAP_NS: Final = 3 * NS_PER_S
_DISTRUST: Final = 10  # times as many polls of fills
_MOST_SYMBOLS: Final = 24  # asked for trades one by one; beyond that only those that were traded
_FIRST_RETRY_S: Final = 0.5
_LONGEST_RETRY_S: Final = 30.0


class AccountWatch:
    """Streams and polls of one account. `on_order` gets every order update of the stream."""

    def __init__(
        self,
        exchange: ccxt.pro.Exchange,
        markets: Markets,
        words: OrderWords,
        clock: Clock,
        settings: VenueSettings,
        put: Put,
        account: AccountWords,
        known: KnownOrders,
        calls: VenueCalls,
        fills_since_ns: int,
    ) -> None:
        self.on_order: Callable[[Raw], None] = _ignore
        self.warm_s = _WARM_S
        self._exchange = exchange
        self._markets = markets
        self._words = words
        self._clock = clock
        self._settings = settings
        self._put = put
        self._account = account
        self._known = known
        self._calls = calls
        self._since_ns = fills_since_ns or clock.now_ns()
        self._traded: set[str] = set()
        self._wanted = asyncio.Event()
        self._gap_until_ns = 0
        self._is_distrusted = False  # the stream missed a fill, so polls come more often until it brings one

    def poll_now(self) -> None:
        """Ask for fills and the account without waiting for the next turn."""
        self._wanted.set()

    async def run(self) -> None:
        """Watch until cancelled; nothing a venue does ends it."""
        has = self._exchange.has
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll())
            if has.get("fetchTime"):
                group.create_task(self._keep_warm())
            if has.get("watchOrders"):
                group.create_task(self._stream(self._exchange.watch_orders, self._take_orders))
            if has.get("watchMyTrades"):
                group.create_task(self._stream(self._exchange.watch_my_trades, self._take_trades))

    async def read_truth(self) -> tuple[Event, ...] | Failure:
        """Return the fills not told yet, then an account report; or why it could not be had: then the fills are put."""
        fills = await self._new_fills()
        if isinstance(fills, Failure):
            return fills
        report = await self._report()
        if isinstance(report, Failure):
            if fills:
                self._put(fills)  # they are noted as told, and no poll will bring them again
            return report
        return (*fills, report)

    # --- streams ---------------------------------------------------------------------------------------------------

    async def _stream(self, watch: Callable[[], Awaitable[Any]], take: Callable[[Sequence[Raw]], None]) -> None:
        """Take what a private stream brings; it may be silent for long, and ccxt's may hang for ever."""
        retry_s = _FIRST_RETRY_S
        quiet_s = max(self._settings.account_poll_ns, self._settings.max_silence_ns) / NS_PER_S

        async def bounded() -> Any:  # noqa: ANN401
            async with asyncio.timeout(quiet_s):
                return await watch()

        while True:
            news = await self._calls.judge(bounded)
            if not isinstance(news, Failure):
                retry_s = _FIRST_RETRY_S
                take(list(news) if isinstance(news, list) else [])
                continue
            if isinstance(news.error, TimeoutError):
                await asyncio.sleep(_PAUSE_S)
                continue
            # What happens until the stream is heard again is missed, and nothing says when it is: asked for meanwhile.
            self._gap_until_ns = self._clock.now_ns() + int(retry_s * NS_PER_S) + _GAP_NS
            self.poll_now()
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, _LONGEST_RETRY_S)

    def _take_orders(self, orders: Sequence[Raw]) -> None:
        for order in orders:
            self.on_order(order)

    def _take_trades(self, trades: Sequence[Raw]) -> None:
        fills = []
        for trade in trades:
            if self._was_told(trade):
                continue
            owner = self._owner(trade)
            if owner is None:
                self.poll_now()  # the poll finds out whose it is
                continue
            fill = self._account.fill_of(trade, owner)
            if fill is not None and self._known.take(fill):
                fills.append(fill)
        if fills:
            self._is_distrusted = False
            self._put(fills)

    def _was_told(self, trade: Raw) -> bool:
        instrument = self._markets.instrument_of(str(trade.get("symbol")))
        return instrument is None or self._known.has_told(instrument.instrument_id, str(trade.get("id")))

    def _owner(self, trade: Raw) -> str | None:
        """Return our id of a trade's order, "" for a foreign one, None if only the venue can tell."""
        said = self._words.order_id_of_trade(trade)
        return self._known.owner(str(trade.get("order"))) if said is None else self._account.own(said)

    async def _keep_warm(self) -> None:
        """Ask for the venue's time now and then: an order then finds a connection open, and a clock gone wrong is seen.

        Only what is skewed beyond doubt counts, twice running: half the time an answer took may be on either way.
        """
        worst_ms = self._settings.max_clock_skew_ns / NS_PER_MS
        times_skewed = 0
        while True:
            await asyncio.sleep(self.warm_s)
            if not await self._calls.wait(Need.QUERY, 0):
                continue
            found = await self._calls.read(lambda: measure_skew(self._exchange))
            if isinstance(found, Failure):
                continue
            took_ms, skew_ms = found
            times_skewed = times_skewed + 1 if abs(skew_ms) - took_ms / 2 > worst_ms else 0
            if times_skewed == 2:
                self._calls.stop(skew_text(self._settings.venue, skew_ms, self._settings.max_clock_skew_ns))

    # --- polls -----------------------------------------------------------------------------------------------------

    async def _poll(self) -> None:
        """Ask for fills and for the account, each in its own rhythm, and both at once when somebody wants them."""
        fills_due_ns = account_due_ns = self._clock.now_ns()
        failures = 0
        while True:
            now_ns = self._clock.now_ns()
            is_wanted = self._wanted.is_set()
            self._wanted.clear()
            is_well = True
            if is_wanted or now_ns >= fills_due_ns:
                is_well = await self._poll_fills()
                fills_due_ns = now_ns + self._fills_pause_ns(now_ns)
            if is_wanted or now_ns >= account_due_ns:
                is_well = await self._poll_account() and is_well
                account_due_ns = now_ns + self._settings.account_poll_ns
            failures = 0 if is_well else failures + 1
            if failures:
                await asyncio.sleep(min(_FIRST_RETRY_S * 2 ** min(failures - 1, 6), _LONGEST_RETRY_S))
                self._wanted.set()
                continue
            rest_ns = min(fills_due_ns, account_due_ns) - self._clock.now_ns()
            try:
                async with asyncio.timeout(max(rest_ns, 0) / NS_PER_S):
                    await self._wanted.wait()
            except TimeoutError:
                pass

    def _fills_pause_ns(self, now_ns: int) -> int:
        """Return how long until fills are asked for again: soon while the stream is, or may be, missing some."""
        pause_ns = self._settings.fills_poll_ns
        if now_ns < self._gap_until_ns:
            return min(pause_ns, NS_PER_S)
        return pause_ns // _DISTRUST if self._is_distrusted else pause_ns

    async def _poll_fills(self) -> bool:
        fills = await self._new_fills()
        if isinstance(fills, Failure):
            return False
        if fills:
            now_ns = self._clock.now_ns()
            self._is_distrusted |= any(now_ns - fill.ts_event_ns > _STREAM_LATE_NS for fill in fills)
            self._put(fills)
        return True

    async def _poll_account(self) -> bool:
        report = await self._report()
        if isinstance(report, Failure):
            return False
        self._put([report])
        return True

    async def _new_fills(self) -> list[Fill] | Failure:
        """Return the trades not told yet, oldest first, and note them as told."""
        if not await self._calls.wait(Need.QUERY, self._settings.timeout_ns):
            return Failure(ccxt.RateLimitExceeded("our own request budget is used up"), Outcome.RETRYABLE)
        since_ms = ms_of(self._since_ns - _OVERLAP_NS)
        trades = await self._calls.read(
            lambda: self._words.fetch_all_trades(self._exchange, self.symbols(), self._settles(), since_ms)
        )
        if isinstance(trades, Failure):
            return trades
        fills: list[Fill] = []
        for trade in trades:
            if self._was_told(trade):
                continue
            owner = self._owner(trade)
            if owner is None:
                owner = await self._ask_owner(trade)
            if owner is None:
                break  # the next poll asks again, from here
            fill = self._account.fill_of(trade, owner)
            if fill is not None and self._known.take(fill):
                fills.append(fill)
                # never past the present: a stamp from the future would hide every fill until then
                self._since_ns = max(self._since_ns, min(fill.ts_event_ns, fill.ts_recv_ns))
        return fills

    async def _ask_owner(self, trade: Raw) -> str | None:
        """Ask the venue whose order a trade belongs to; None if it did not answer, or does not know so soon after."""
        symbol, venue_order_id = str(trade.get("symbol")), str(trade.get("order"))
        asked = await self._calls.read(lambda: self._words.fetch_owner(self._exchange, symbol, venue_order_id))
        if isinstance(asked, Failure):
            return None
        if asked is None:
            now_ns = self._clock.now_ns()
            fresh_until_ns = int(number(trade.get("timestamp")) or 0) * NS_PER_MS + self._settings.absence_ns
            if now_ns < fresh_until_ns < now_ns + 2 * self._settings.absence_ns:
                self._gap_until_ns = max(self._gap_until_ns, fresh_until_ns + _GAP_NS)  # ask again soon
                return None
        owner = self._account.own(asked or "")
        self._known.own(venue_order_id, owner)
        return owner

    async def _report(self) -> AccountReport | Failure:
        """Return the whole account, or nothing: a part of it would say that the rest is flat."""
        for _ in range(_CALLS_OF_A_REPORT):
            if not await self._calls.wait(Need.QUERY, self._settings.timeout_ns):
                return Failure(ccxt.RateLimitExceeded("our own request budget is used up"), Outcome.RETRYABLE)
        asked_ns = self._clock.now_ns()
        settles = self._settles()
        orders, positions, account = await asyncio.gather(
            self._calls.read(lambda: self._words.fetch_open_orders(self._exchange, settles)),
            self._calls.read(lambda: self._words.fetch_positions(self._exchange, settles)),
            self._calls.read(lambda: self._words.fetch_account(self._exchange)),
        )
        if isinstance(orders, Failure):
            return orders
        if isinstance(positions, Failure):
            return positions
        if isinstance(account, Failure):
            return account
        equity, margins = account
        held = self._account.positions(positions)
        self._traded.update(position.instrument_id for position in held)
        return AccountReport(
            venue=self._settings.venue,
            positions=held,
            open_orders=self._account.open_orders(orders),
            balances=equity,
            ts_asked_ns=asked_ns,
            ts_recv_ns=self._clock.now_ns(),
            margins=margins,
        )

    def symbols(self) -> list[str]:
        """Return what may have been traded: everything wanted, or of too much what was traded."""
        listed = [instrument.instrument_id for instrument in self._markets.instruments]
        wanted = listed if len(listed) <= _MOST_SYMBOLS else [*self._traded, *self._known.instruments()]
        return sorted({self._markets.symbol_of(each) for each in wanted if self._markets.get(each) is not None})

    def _settles(self) -> frozenset[str]:
        return frozenset(instrument.settle for instrument in self._markets.instruments)


def _ignore(_order: Raw) -> None:
    """Take no notice."""
