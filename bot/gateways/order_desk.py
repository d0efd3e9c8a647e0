"""Live orders of one venue through ccxt: commands out, and the truth back, whatever happens on the way.

No answer, or one that cannot be read, makes an order UNKNOWN; from then on it is asked for by client id, and never sent
again unless it provably did not arrive, and then under the same id. An order's end is told only together with all of
its fills, so that nobody takes a filled order for a canceled one.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from typing import Any, Final

import ccxt.pro
import msgspec

from bot.domain.errors import Retryable, VenueFatal
from bot.domain.events import (
    AmendOrder,
    CancelForeign,
    CancelOrder,
    Command,
    Event,
    QueryAccount,
    QueryOrder,
    SubmitOrder,
)
from bot.domain.orders import (
    AmendRejected,
    CancelRejected,
    Fill,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderEvent,
    OrderRejected,
    OrderSent,
    OrderState,
    OrderTruth,
    OutcomeLost,
    TimeInForce,
)
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.gateways.account_watch import AccountWatch
from bot.gateways.account_words import AccountWords
from bot.gateways.budget import Budget, Need
from bot.gateways.exchange import VenueSettings
from bot.gateways.funding_watch import FundingWatch
from bot.gateways.gateway import Clock, Put
from bot.gateways.known_orders import KnownOrder, KnownOrders
from bot.gateways.market_words import number
from bot.gateways.markets import Markets
from bot.gateways.order_words import OrderTerms, OrderWords, Raw
from bot.gateways.outcomes import Outcome
from bot.gateways.sending import Attempt, send_once
from bot.gateways.venue_calls import Failure, VenueCalls, ms_of

_MAX_TASKS: Final = 64
_MAX_CANCEL_TASKS: Final = 128  # cancels may still start when orders may not
_RETRY_NS: Final = NS_PER_S  # an order provably not sent is tried again this long, then it is old
_CANCEL_RETRY_NS: Final = 10 * NS_PER_S
_RETRY_PAUSE_S: Final = 0.1
_GRACE_S: Final = 0.2  # for the stream to bring the fills of an order that ended, before they are asked for
_SETTLE_TRIES: Final = 8
_LOOK_BACK_NS: Final = 60 * NS_PER_S


class Canceled(msgspec.Struct, frozen=True):
    """What a cancel of everything did: venue order ids that are gone, and what failed, in words."""

    canceled: tuple[str, ...]
    failed: tuple[str, ...]


class OrderDesk:
    """Carries out commands on one venue. Made inside a running event loop; `close` ends every task it started."""

    def __init__(
        self,
        exchange: ccxt.pro.Exchange,
        markets: Markets,
        words: OrderWords,
        clock: Clock,
        settings: VenueSettings,
        put: Put,
        run_id: str,
        *,
        fills_since_ns: int = 0,
    ) -> None:
        send_once(exchange)
        words.prepare(exchange)
        self.budget = Budget(settings.requests_per_s, settings.burst_requests, settings.cancel_share)
        self.account = AccountWords(markets, words, clock, run_id)
        self.known = KnownOrders()
        self.calls = VenueCalls(exchange, words, self.budget, clock, put, settings.venue)
        self.dead_man = words.dead_man(exchange, clock, settings)
        self.watch = AccountWatch(
            exchange, markets, words, clock, settings, put, self.account, self.known, self.calls, fills_since_ns
        )
        self.watch.on_order = self._take_news
        self.funding = FundingWatch(
            exchange, markets, clock, settings, put, self.calls, self.watch.symbols, fills_since_ns
        )
        self._exchange = exchange
        self._markets = markets
        self._words = words
        self._clock = clock
        self._settings = settings
        self._put = put
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def odd_fees(self) -> int:
        """How many fees were taken in a currency that is not the instrument's, and are missing from fills."""
        return self.account.odd_fees

    # --- commands --------------------------------------------------------------------------------------------------

    def submit(self, command: Command) -> None:
        """Start carrying out a command at once, without waiting for anything; never raises."""
        if isinstance(command, SubmitOrder):
            self._submit_order(command)
        elif isinstance(command, CancelOrder):
            known = self.known.get_or_add(command.order_id, command.instrument_id)
            if not self._start(self._cancel(known), _MAX_CANCEL_TASKS):
                self._refuse_cancel(known, "not sent: too many requests are under way")
        elif isinstance(command, AmendOrder):
            known = self.known.get_or_add(command.order_id, command.instrument_id)
            if not self._start(self._amend(known, command.limit_ticks)):
                self._refuse_amend(known, "not sent: too many requests are under way")
        elif isinstance(command, QueryOrder):
            self._start(self._query(self.known.get_or_add(command.order_id, command.instrument_id)))
        elif isinstance(command, CancelForeign):
            self._start(self._cancel_foreign(command), _MAX_CANCEL_TASKS)
        elif isinstance(command, QueryAccount):
            self.watch.poll_now()

    async def run(self) -> None:
        """Run the dead man's switch, the private streams and the polls, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.dead_man.run())
            group.create_task(self.watch.run())
            group.create_task(self.funding.run())

    async def truth(self) -> tuple[Event, ...]:
        """Return the fills this run may have missed, then an `AccountReport`.

        Raises Retryable if the venue cannot be asked now, VenueFatal if a person has to act first.
        """
        found = await self.watch.read_truth()
        if isinstance(found, Failure):
            text = f"{self._settings.venue}: the account cannot be read, {found}"
            raise VenueFatal(text) if found.outcome is Outcome.FATAL else Retryable(text)
        return found

    async def cancel_everything(self) -> Canceled:
        """Cancel every open order on the wanted instruments, ours or not; what did not work is said, not raised."""
        orders = await self.calls.judge(lambda: self._words.fetch_open_orders(self._exchange, self._currencies()))
        if isinstance(orders, Failure):
            return Canceled((), (f"open orders cannot be listed: {orders}",))
        wanted = [order for order in orders if self._markets.instrument_of(str(order.get("symbol"))) is not None]
        results = await asyncio.gather(*(self._cancel_one(order) for order in wanted))
        gone = tuple(str(order.get("id")) for order, why in zip(wanted, results, strict=True) if not why)
        return Canceled(gone, tuple(why for why in results if why))

    async def close(self) -> None:
        """End every task; orders whose answer is still awaited become UNKNOWN."""
        self._is_closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None], most: int = _MAX_TASKS) -> asyncio.Task[None] | None:
        """Start a task if there is room for one; a query without room is asked again by the engine."""
        if self._is_closed or len(self._tasks) >= most:
            work.close()
            return None
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- new orders ------------------------------------------------------------------------------------------------

    def _submit_order(self, command: SubmitOrder) -> None:
        intent = command.intent
        instrument = self._markets.get(intent.instrument_id)
        if instrument is None:
            self._reject(intent.order_id, f"not sent: {intent.instrument_id} is not listed at {self._settings.venue}")
            return
        amount = self._markets.amount_of(instrument, abs(intent.qty_lots))
        terms = OrderTerms(intent, instrument, self._markets.symbol_of(intent.instrument_id), amount)
        if self.known.get(intent.order_id) is not None:
            return  # the same order again: it is under way, or over, and must not be sent twice
        known = self.known.get_or_add(intent.order_id, intent.instrument_id, terms)
        known.px = terms.px
        known.creating = self._start(self._create(known, terms))
        if known.creating is None:
            known.is_over = True
            self._reject(intent.order_id, "not sent: too many requests are under way")

    async def _create(self, known: KnownOrder, terms: OrderTerms) -> None:
        """Send a new order, again only while it provably was not sent and is not old."""
        until_ns = self._clock.now_ns() + _RETRY_NS
        attempt = Attempt()
        try:
            while True:
                if not await self.calls.wait(Need.ORDER, max(0, until_ns - self._clock.now_ns())):
                    self._end_unsent(known, "not sent: the venue's request budget is used up")
                    return
                if terms.may_rest:
                    await self.dead_man.ensure(terms.symbol)
                attempt = Attempt(lambda: self._note_sent(known))
                with attempt:
                    reply = await self.calls.judge(lambda: self._words.create(self._exchange, terms), attempt)
                if not isinstance(reply, Failure):
                    self._take_reply(known, reply)
                    return
                if reply.outcome is not Outcome.RETRYABLE or self._clock.now_ns() > until_ns:
                    self._take_failure(known, reply)
                    return
                await asyncio.sleep(_RETRY_PAUSE_S)
        except Retryable as error:
            self._end_unsent(known, str(error))
        except asyncio.CancelledError:
            if attempt.was_sent:
                self._lose(known, "stopped while the answer was awaited")
            else:
                self._end_unsent(known, "not sent: the gateway is closing")
            raise

    def _note_sent(self, known: KnownOrder) -> None:
        known.sent_ns = self._clock.now_ns()
        self._emit(OrderSent(known.order_id, known.sent_ns))

    def _take_failure(self, known: KnownOrder, failure: Failure) -> None:
        """Take a create that failed for good: refused, or not known."""
        if failure.outcome is Outcome.UNKNOWN:
            self._lose(known, str(failure))
            return
        if failure.outcome is Outcome.FATAL:
            self.calls.note(failure)
        is_crossing = failure.outcome is Outcome.REJECTED and self._words.would_cross(failure.error)
        self._end_unsent(known, str(failure), is_crossing=is_crossing)

    def _take_reply(self, known: KnownOrder, order: Raw) -> None:
        """Take the answer to a new order: the venue has it, perhaps with fills already, perhaps it is over already."""
        venue_order_id = str(order.get("id") or "")
        if venue_order_id:
            self.known.own(venue_order_id, known.order_id)
        if self.account.state_of(order) is OrderState.REJECTED:
            self._end_unsent(known, f"the venue refused it: {str(order.get('info'))[:150]}")
            return
        self._accept(known, self.account.stamp_ns(order))
        self._take_fills(known, order.get("trades") or ())
        self._take_state(known, order)

    # --- changes ---------------------------------------------------------------------------------------------------

    async def _cancel(self, known: KnownOrder) -> None:
        """Cancel one order; whatever is not a clear yes or no makes us ask for the truth."""
        symbol = self._symbol(known)
        if symbol is None:
            self._refuse_cancel(known, f"{known.instrument_id} is not listed at {self._settings.venue}")
            return
        until_ns = self._clock.now_ns() + _CANCEL_RETRY_NS
        while True:
            if not await self.calls.wait(Need.CANCEL, max(0, until_ns - self._clock.now_ns())):
                self._refuse_cancel(known, "not sent: the venue's request budget is used up")
                return
            was_creating = known.is_being_created
            attempt = Attempt()
            with attempt:
                reply = await self.calls.judge(
                    lambda: self._words.cancel(self._exchange, symbol, known.order_id, known.venue_order_id), attempt
                )
            if not isinstance(reply, Failure):
                self._take_state(known, reply)
                return
            if was_creating and isinstance(reply.error, ccxt.OrderNotFound) and known.creating is not None:
                await asyncio.wait({known.creating})  # the cancel overtook the order: once more when it is there
            elif reply.outcome is Outcome.RETRYABLE and self._clock.now_ns() < until_ns:
                await asyncio.sleep(_RETRY_PAUSE_S)
            else:
                await self._take_failed_cancel(known, reply)
                return

    async def _take_failed_cancel(self, known: KnownOrder, failure: Failure) -> None:
        """Take a cancel that failed for good: the truth tells whether it was done all the same."""
        if failure.outcome is Outcome.FATAL:
            self.calls.note(failure)
        elif not known.is_over and (not await self._settle(known) or known.is_over):
            return  # the truth was told, or is still being asked for
        self._refuse_cancel(known, str(failure))

    async def _amend(self, known: KnownOrder, limit_ticks: int) -> None:
        """Move an order's limit; where the answer is lost, the venue's own price tells whether it moved."""
        terms, instrument = known.terms, self._markets.get(known.instrument_id)
        if not self._words.can_amend or terms is None or instrument is None:
            self._refuse_amend(known, "not sent: this venue, or this process, cannot amend it; cancel it instead")
            return
        if not known.venue_order_id:
            self._refuse_amend(known, "not sent: the venue has not answered the order yet")
            return
        px = instrument.tick_schedule.px(limit_ticks)
        attempt = Attempt()
        try:
            if not await self.calls.wait(Need.ORDER, _RETRY_NS):
                self._refuse_amend(known, "not sent: the venue's request budget is used up")
                return
            await self.dead_man.ensure(terms.symbol)
            with attempt:
                reply = await self.calls.judge(
                    lambda: self._words.amend(self._exchange, terms, known.venue_order_id, px), attempt
                )
        except Retryable as error:
            self._refuse_amend(known, str(error))
            return
        if not isinstance(reply, Failure):
            self._amended(known, limit_ticks, px, self.account.stamp_ns(reply))
            self._take_fills(known, reply.get("trades") or ())
            if self.account.state_of(reply) is not None:
                self._take_state(known, reply)
            return
        await self._take_failed_amend(known, reply, limit_ticks, px)

    async def _take_failed_amend(self, known: KnownOrder, failure: Failure, limit_ticks: int, px: float) -> None:
        """Take an amend that failed for good: where the answer is lost, the venue's price tells whether it moved."""
        if failure.outcome is Outcome.UNKNOWN:
            self._lose(known, f"amend: {failure}")
            if not await self._settle(known) or known.is_over:
                return
            if known.px is not None and math.isclose(known.px, px, rel_tol=1e-9):
                self._amended(known, limit_ticks, px, self._clock.now_ns())
                return
        elif failure.outcome is Outcome.FATAL:
            self.calls.note(failure)
        self._refuse_amend(known, str(failure))

    async def _cancel_foreign(self, command: CancelForeign) -> None:
        """Cancel an order that is not ours; the account report that follows shows whether it is gone."""
        try:
            symbol = self._markets.symbol_of(command.instrument_id)
        except KeyError:
            return
        if await self.calls.wait(Need.CANCEL, _CANCEL_RETRY_NS):
            await self.calls.judge(lambda: self._words.cancel(self._exchange, symbol, "", command.venue_order_id))
        self.watch.poll_now()

    async def _cancel_one(self, order: Raw) -> str:
        """Cancel an open order as listed; return "" or why it did not work."""
        if not await self.calls.wait(Need.CANCEL, _CANCEL_RETRY_NS):
            return f"{order.get('id')}: not sent, the venue's request budget is used up"
        venue_order_id, symbol = str(order.get("id")), str(order.get("symbol"))
        reply = await self.calls.judge(lambda: self._words.cancel(self._exchange, symbol, "", venue_order_id))
        is_gone = not isinstance(reply, Failure) or isinstance(reply.error, ccxt.OrderNotFound)
        return "" if is_gone else f"{venue_order_id} on {symbol}: {reply}"

    # --- the truth of one order ------------------------------------------------------------------------------------

    async def _query(self, known: KnownOrder) -> None:
        """Ask once what became of an order; no answer is no answer, the engine asks again."""
        if known.is_asking:
            return
        known.is_asking = True
        try:
            if self.budget.take(Need.QUERY, self._clock.now_ns()):
                await self._ask(known)
        finally:
            known.is_asking = False

    async def _settle(self, known: KnownOrder) -> bool:
        """Ask again and again, more slowly each time; return whether the truth is known. If not, the engine asks on."""
        for attempt in range(_SETTLE_TRIES):
            if known.is_over:
                return True
            if not known.is_asking and self.budget.take(Need.QUERY, self._clock.now_ns()):
                known.is_asking = True
                try:
                    if await self._ask(known):
                        return True
                finally:
                    known.is_asking = False
            await asyncio.sleep(min(0.1 * 2**attempt, 5.0))
        return False

    async def _ask(self, known: KnownOrder) -> bool:
        """Find an order at the venue and tell its truth; return whether it could be told."""
        symbol = self._symbol(known)
        if symbol is None:
            return False
        asked_ns = self._clock.now_ns()
        known.first_asked_ns = known.first_asked_ns or asked_ns
        order = await self.calls.read(
            lambda: self._words.find_order(self._exchange, symbol, known.order_id, known.venue_order_id)
        )
        if isinstance(order, Failure):
            return False
        if order is None:
            return await self._ask_absent(known, symbol, asked_ns)
        known.absent_times = 0
        venue_order_id = str(order.get("id"))
        self.known.own(venue_order_id, known.order_id)
        px = number(order.get("price"))
        known.px = known.px if px is None else px
        # of an order sent before a restart we know from the venue since when it may have trades
        known.sent_ns = known.sent_ns or min(asked_ns, int(number(order.get("timestamp")) or 0) * NS_PER_MS)
        state, filled = self.account.state_of(order), self.account.filled_lots(order)
        if state is None:
            return False
        fills = await self._fills_of(known, symbol, venue_order_id) if filled != 0 else ()
        if fills is None or (filled is not None and sum(abs(fill.qty_lots) for fill in fills) < filled):
            return False  # the venue's trades lag behind its orders
        self._tell(known, state, fills, self.account.stamp_ns(order), is_complete=filled is not None)
        return True

    async def _ask_absent(self, known: KnownOrder, symbol: str, asked_ns: int) -> bool:
        """Nobody at the venue knows the order: believed the second time, long enough after it was sent.

        One that was accepted before was there, and is gone: its trades, which venues keep longer, say how it ended.
        """
        since_ns = known.sent_ns or known.first_asked_ns
        if known.is_being_created or asked_ns - since_ns < self._settings.absence_ns:
            return False
        known.absent_times += 1
        if known.absent_times < 2:
            return False
        if not known.venue_order_id and not known.is_accepted:
            self._tell(known, OrderState.REJECTED, (), asked_ns)
            return True
        fills = await self._fills_of(known, symbol, known.venue_order_id)
        if fills is None:
            return False
        ordered_lots = abs(known.terms.intent.qty_lots) if known.terms is not None else None
        is_full = sum(abs(fill.qty_lots) for fill in fills) == ordered_lots
        self._tell(known, OrderState.FILLED if is_full else OrderState.CANCELED, fills, asked_ns)
        return True

    async def _fills_of(self, known: KnownOrder, symbol: str, venue_order_id: str) -> tuple[Fill, ...] | None:
        """Return every fill of an order, None if the venue did not answer."""
        since_ns = (known.sent_ns or known.first_asked_ns) - _LOOK_BACK_NS if known.sent_ns else 0
        trades = await self.calls.read(
            lambda: self._words.fetch_order_trades(
                self._exchange, symbol, venue_order_id, ms_of(since_ns) if since_ns else None
            )
        )
        if isinstance(trades, Failure):
            return None
        fills = (self.account.fill_of(trade, self.account.own(known.order_id)) for trade in trades)
        return tuple(fill for fill in fills if fill is not None)

    def _tell(
        self,
        known: KnownOrder,
        state: OrderState,
        fills: tuple[Fill, ...],
        ts_event_ns: int,
        *,
        is_complete: bool = False,
    ) -> None:
        for fill in fills:
            self.known.take(fill)
        known.is_accepted = known.is_accepted or state is not OrderState.REJECTED
        known.is_over = known.is_over or state.is_terminal
        self._emit(OrderTruth(known.order_id, state, fills, ts_event_ns, self._clock.now_ns(), is_complete))

    # --- what the venue says ---------------------------------------------------------------------------------------

    def _take_news(self, order: Raw) -> None:
        """Take an order update of a stream: duplicates and stale ones change nothing."""
        order_id = self.account.own(self._words.order_id_of(order))
        venue_order_id = str(order.get("id") or "")
        if venue_order_id:
            order_id = order_id or self.known.owner(venue_order_id) or ""  # news that leave our id out
            self.known.own(venue_order_id, order_id)
        known = self.known.get(order_id)
        if known is None or known.is_over:
            return
        if self.account.state_of(order) is OrderState.REJECTED and not known.filled_lots:
            self._end_unsent(known, f"the venue refused it: {str(order.get('info'))[:150]}")
            return
        self._accept(known, self.account.stamp_ns(order))
        if self.account.state_of(order) is not None:
            self._take_state(known, order)

    def _take_state(self, known: KnownOrder, order: Raw) -> None:
        """Take an order's state: its end is told once every fill of it was, else it is asked for."""
        state, filled = self.account.state_of(order), self.account.filled_lots(order)
        if known.is_over or (state is not None and not state.is_terminal):
            return
        if state is None or filled is None or filled > known.filled_lots:
            self._start(self._settle_later(known), _MAX_CANCEL_TASKS)
            return
        known.is_over = True
        ordered_lots = abs(known.terms.intent.qty_lots) if known.terms is not None else None
        is_smaller = ordered_lots is not None and known.filled_lots < ordered_lots  # the venue cut a reduce-only order
        if state is not OrderState.FILLED or is_smaller:
            tif = known.terms.intent.time_in_force if known.terms is not None else None
            is_expired = state is OrderState.EXPIRED or tif in {TimeInForce.IOC, TimeInForce.MARKET}
            now_ns = self._clock.now_ns()
            self._emit(OrderCanceled(known.order_id, is_expired, self.account.stamp_ns(order), now_ns))

    async def _settle_later(self, known: KnownOrder) -> None:
        """Give the stream a moment to bring what is missing, then ask."""
        await asyncio.sleep(_GRACE_S)
        ordered_lots = abs(known.terms.intent.qty_lots) if known.terms is not None else None
        if known.filled_lots == ordered_lots:
            known.is_over = True
        await self._settle(known)

    def _take_fills(self, known: KnownOrder, trades: Any) -> None:  # noqa: ANN401
        fills = (self.account.fill_of(trade, known.order_id) for trade in trades)
        news = [fill for fill in fills if fill is not None and self.known.take(fill)]
        if news:
            self._put(news)

    def _accept(self, known: KnownOrder, ts_event_ns: int) -> None:
        if not known.is_accepted:
            known.is_accepted = True
            now_ns = self._clock.now_ns()
            self._emit(OrderAccepted(known.order_id, known.venue_order_id, ts_event_ns, now_ns))

    def _amended(self, known: KnownOrder, limit_ticks: int, px: float, ts_event_ns: int) -> None:
        known.px = px
        self._emit(OrderAmended(known.order_id, limit_ticks, ts_event_ns, self._clock.now_ns()))

    def _lose(self, known: KnownOrder, why: str) -> None:
        self._emit(OutcomeLost(known.order_id, why, self._clock.now_ns()))

    def _end_unsent(self, known: KnownOrder, reason: str, *, is_crossing: bool = False) -> None:
        known.is_over = True
        self._reject(known.order_id, reason, is_crossing=is_crossing)

    def _reject(self, order_id: str, reason: str, *, is_crossing: bool = False) -> None:
        now_ns = self._clock.now_ns()
        self._emit(OrderRejected(order_id, reason, now_ns, now_ns, is_crossing))

    def _refuse_cancel(self, known: KnownOrder, reason: str) -> None:
        now_ns = self._clock.now_ns()
        self._emit(CancelRejected(known.order_id, reason, now_ns, now_ns))

    def _refuse_amend(self, known: KnownOrder, reason: str) -> None:
        now_ns = self._clock.now_ns()
        self._emit(AmendRejected(known.order_id, reason, now_ns, now_ns))

    def _emit(self, event: OrderEvent) -> None:
        self._put([event])

    def _symbol(self, known: KnownOrder) -> str | None:
        try:
            return self._markets.symbol_of(known.instrument_id)
        except KeyError:
            return None

    def _currencies(self) -> frozenset[str]:
        return frozenset(instrument.settle for instrument in self._markets.instruments)
