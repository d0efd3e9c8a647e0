"""One venue through ccxt: its markets, its feed, and with keys its orders and our account, behind four verbs.

Without keys there is no order desk at all: a paper run cannot trade by mistake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

import ccxt
import msgspec
import structlog

from bot.domain.errors import InvariantBroken, Retryable, VenueFatal
from bot.domain.events import Command, Event
from bot.domain.instruments import Instrument
from bot.domain.risk import SupposedMargin, SupposedPosition
from bot.domain.venues import VenueHealth, VenueStatus
from bot.gateways.account_check import check_account
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from bot.gateways.gateway import Clock, Put
from bot.gateways.market_feed import MarketFeed
from bot.gateways.markets import Markets, market_words_of
from bot.gateways.order_desk import OrderDesk
from bot.gateways.outcomes import Outcome, text_of
from bot.gateways.supposing import suppose
from bot.gateways.venue_words import order_words_of

_MAX_EARLY: Final = 10_000  # events told before anybody listens
_SEVERITY: Final = (VenueHealth.UP, VenueHealth.DOWN, VenueHealth.FATAL)
_START_TIMEOUT_MS: Final = 5_000  # lists of markets are long: a start has this much patience, whatever orders have

log = structlog.get_logger()


class CcxtGateway:
    """The gateway of one ccxt exchange (`bot.gateways.gateway.Gateway`).

    `run_id` begins the ids of our orders, `prefix` the instrument ids of every venue but the first, and trades are
    asked for from `since_ns` on (0: from now on).
    """

    def __init__(
        self,
        settings: VenueSettings,
        credentials: Credentials,
        clock: Clock,
        *,
        run_id: str,
        prefix: str = "",
        since_ns: int = 0,
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._clock = clock
        self._run_id = run_id
        self._prefix = prefix
        self._since_ns = since_ns
        self._exchange: ccxt.pro.Exchange = None
        self._timeout_ms = 0
        self._markets: Markets | None = None
        self._feed: MarketFeed | None = None
        self._desk: OrderDesk | None = None
        self._put: Put | None = None
        self._early: list[Event] = []
        self._statuses: dict[str, VenueStatus] = {}  # by who judged: the feed, the desk
        self._told: VenueStatus | None = None

    @property
    def venue(self) -> str:
        """The venue's name in the vault file."""
        return self._settings.venue

    async def __aenter__(self) -> Self:
        """Connect, read the markets, and with keys check them and our clock.

        Raises VenueFatal if the venue cannot be used, Retryable if it may be later; nothing stays open then.
        """
        settings = self._settings
        self._exchange = exchange = open_exchange(settings, self._credentials)
        self._timeout_ms = exchange.timeout
        exchange.timeout = max(exchange.timeout, _START_TIMEOUT_MS)
        try:
            self._markets = await self._load_markets()
            words = market_words_of(settings.exchange_id)
            self._feed = MarketFeed(exchange, self._markets, words, self._clock, settings, self._take_from("feed"))
            if not self._credentials.are_empty:
                await self._open_desk()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect and release every socket."""
        await self._close()

    async def instruments(self) -> tuple[Instrument, ...]:
        """Return the instruments of the wanted underlyings as the venue lists them now."""
        if self._markets is None:
            raise InvariantBroken("the gateway was asked for instruments before it was entered")
        return self._markets.instruments

    def watch(self, instruments: Sequence[Instrument]) -> None:
        """Say whose quotes and vols are wanted, hedges and holdings; may be called again at any time."""
        if self._feed is not None:
            self._feed.watch([one.instrument_id for one in instruments], known=instruments)

    async def truth(self) -> tuple[Event, ...]:
        """Return the venue's word on our account; nothing without keys. Raises Retryable or VenueFatal."""
        return () if self._desk is None else await self._desk.truth()

    async def margin_terms(self) -> dict[str, Any]:
        """Return the parameters of margin in use, in the venue's words; empty where it does not tell, or without keys.

        Raises what ccxt raises.
        """
        if self._desk is None or self._markets is None:
            return {}
        currencies = frozenset(one.settle for one in self._markets.instruments)
        return await order_words_of(self._settings.exchange_id).margin_terms(self._exchange, currencies)

    async def suppose(self, change: SupposedPosition) -> SupposedMargin | None:
        """Return what the venue would ask for with a position changed; None where it does not say, or without keys.

        Raises KeyError for an instrument that is not listed, Retryable where the venue does not answer.
        """
        if self._desk is None or self._markets is None:
            return None
        words = order_words_of(self._settings.exchange_id)
        try:
            return await suppose(self._exchange, self._markets, words, [change])
        except ccxt.BaseError as error:
            raise Retryable(text_of(error)) from None

    async def events(self, put: Put) -> None:
        """Hand market data, answers and account events to `put` as they come; ends only by cancellation."""
        if self._feed is None:
            raise InvariantBroken("the gateway was asked for events before it was entered")
        self._put = put
        self._exchange.timeout = self._timeout_ms
        if self._early:
            early, self._early = self._early, []
            put(early)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._feed.run(), name=f"market of {self.venue}")
                if self._desk is not None:
                    tasks.create_task(self._desk.run(), name=f"account at {self.venue}")
        finally:
            self._put = None

    def submit(self, command: Command) -> None:
        """Start carrying out a command at once, without waiting for anything."""
        if self._desk is None:
            raise InvariantBroken(f"a command for {self.venue}, where there are no keys: {type(command).__name__}")
        self._desk.submit(command)

    def _take_from(self, judge: str) -> Put:
        """Return where the feed or the desk puts its events: the venue is only as well as the worse of the two says."""
        return lambda events: self._take([one for event in events if (one := self._weigh(judge, event)) is not None])

    def _weigh(self, judge: str, event: Event) -> Event | None:
        if not isinstance(event, VenueStatus):
            return event
        self._statuses[judge] = event
        worst = max(self._statuses.values(), key=lambda status: _SEVERITY.index(status.health))
        told = self._told
        if told is not None and (told.health, told.reason) == (worst.health, worst.reason):
            return None
        self._told = msgspec.structs.replace(worst, ts_recv_ns=event.ts_recv_ns)
        return self._told

    def _take(self, events: Sequence[Event]) -> None:
        if self._put is not None:
            self._put(events)
        elif len(self._early) < _MAX_EARLY:
            self._early.extend(events)

    async def _load_markets(self) -> Markets:
        settings = self._settings
        try:
            return await Markets.load(self._exchange, settings.venue, settings.underlyings, self._prefix)
        except ccxt.BaseError as error:
            text = f"{settings.venue}: expected its list of markets, found {text_of(error)}"
            if order_words_of(settings.exchange_id).outcome_of(error) is Outcome.FATAL:
                raise VenueFatal(f"{text}; hint: check the key, its permissions and its list of addresses") from error
            raise Retryable(f"{text}; hint: is the venue up, and reachable from here?") from error

    async def _open_desk(self) -> None:
        settings = self._settings
        assert self._markets is not None, "markets are loaded before the desk is opened"
        words = order_words_of(settings.exchange_id)
        checked = await check_account(self._exchange, words, settings.max_clock_skew_ns)
        for warning in checked.warnings:
            log.warning("account.warning", venue=settings.venue, warning=warning)
        self._desk = OrderDesk(
            self._exchange,
            self._markets,
            words,
            self._clock,
            settings,
            self._take_from("desk"),
            self._run_id,
            fills_since_ns=self._since_ns,
        )
        if self._feed is not None:
            self._feed.budget = self._desk.budget  # one venue, one budget: what the feed asks leaves orders their share

    async def _close(self) -> None:
        if self._desk is not None:
            await self._desk.close()
        if self._exchange is not None:
            await self._exchange.close()
        self._desk = self._feed = None
        self._early = []
