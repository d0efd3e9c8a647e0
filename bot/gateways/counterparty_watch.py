"""Watches what a venue's pages show of its health and tells it as `CounterpartySigns`.

What a page does not tell stays unknown, never what it was: a page that stopped answering is a sign itself. The best
sign is a withdrawal of our own that arrived, so those are noted too; small ones on purpose (canaries) only where the
operator wants them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from math import isfinite, nan
from typing import Final, TypeVar

import ccxt.pro
import msgspec
import structlog

from bot.domain.risk import CounterpartySigns, TransferState, TransferUpdate
from bot.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_MIN, NS_PER_S
from bot.gateways.counterparty_words import (
    ALERTS,
    FUNDS,
    RANKS,
    deepest_drawdown,
    discount_share,
    open_interest,
    perp_px,
    rank_share,
    withdrawals_word,
    worst_word,
)
from bot.gateways.gateway import Clock, Put
from bot.gateways.outcomes import text_of
from bot.gateways.sending import cancellable

T = TypeVar("T")
_HIGH_NS: Final = 8 * NS_PER_HOUR
_FEWEST_CALLS: Final = 5

log = structlog.get_logger()


class WatchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What to look at of one venue: `coins` whose withdrawals count, `symbols` whose open interest and rank do.

    `discount_symbol` is compared with other venues, "" not at all. `canary_ns` is how often a canary withdrawal is
    asked for, 0 never.
    """

    party: str
    coins: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    discount_symbol: str = ""
    poll_ns: int = 60 * NS_PER_S
    canary_ns: int = 0


class PerpPrices:
    """Where each venue's perpetual of one underlying traded last; shared by the watches of all venues."""

    def __init__(self, max_age_ns: int = 5 * NS_PER_MIN) -> None:
        self._max_age_ns = max_age_ns
        self._px: dict[str, tuple[float, int]] = {}

    def note(self, party: str, px: float, now_ns: int) -> None:
        """Take in a price."""
        self._px[party] = (px, now_ns)

    def discount(self, party: str, now_ns: int) -> float:
        """Return how far below the others one trades, NaN where either is not known now."""
        fresh = {name: px for name, (px, at_ns) in self._px.items() if now_ns - at_ns <= self._max_age_ns}
        return discount_share(fresh.pop(party, nan), fresh.values())


class ErrorShare:
    """The share of requests that failed within a while, NaN while there were too few to say."""

    def __init__(self, window_ns: int = 5 * NS_PER_MIN) -> None:
        self._window_ns = window_ns
        self._calls: deque[tuple[int, bool]] = deque(maxlen=1_000)

    def note(self, now_ns: int, *, is_error: bool) -> None:
        """Take in how a request went."""
        self._calls.append((now_ns, is_error))

    def at(self, now_ns: int) -> float:
        """Return the share."""
        while self._calls and now_ns - self._calls[0][0] > self._window_ns:
            self._calls.popleft()
        if len(self._calls) < _FEWEST_CALLS:
            return nan
        return sum(is_error for _, is_error in self._calls) / len(self._calls)


class CounterpartyWatch:
    """Watches one venue through its ccxt exchange. Give it the `errors` that whoever else asks the venue notes in."""

    def __init__(
        self,
        exchange: ccxt.pro.Exchange,
        settings: WatchSettings,
        clock: Clock,
        put: Put,
        prices: PerpPrices | None = None,
        errors: ErrorShare | None = None,
        ask_canary: Callable[[], None] | None = None,
    ) -> None:
        self.errors = errors or ErrorShare()
        self._exchange = exchange
        self._settings = settings
        self._clock = clock
        self._put = put
        self._prices = prices or PerpPrices()
        self._ask_canary = ask_canary
        self._canary_due_ns = 0
        self._funds: deque[tuple[int, float]] = deque()
        self._since_ns = 0  # since when the fund is known without a gap
        self._own_word = "unknown"
        self._own_ns = 0
        self._broken: dict[str, str] = {}

    async def run(self) -> None:
        """Look until cancelled; nothing a venue does ends it."""
        while True:
            await self.look()
            await asyncio.sleep(self._settings.poll_ns / NS_PER_S)

    def note_transfer(self, update: TransferUpdate, *, is_late: bool = False) -> None:
        """Take in how a withdrawal of ours from this venue goes."""
        if update.from_venue != self._settings.party:
            return
        if update.state is TransferState.ARRIVED:
            self._own_word = "slow" if is_late else "working"
        elif update.state is TransferState.FAILED and not update.reason.startswith("not sent"):
            self._own_word = "failed"
        elif is_late:
            self._own_word = "slow"
        else:
            return
        self._own_ns = update.ts_recv_ns

    async def look(self) -> CounterpartySigns:
        """Look at every page once, and tell what they say."""
        settings, exchange = self._settings, self._exchange
        word = "unknown"
        if settings.coins and exchange.has.get("fetchCurrencies"):
            currencies = await self._read("withdrawal status", exchange.fetch_currencies, None)
            word = withdrawals_word(currencies, settings.coins)
        fund = nan
        if exchange.id in FUNDS:
            fund = await self._read("insurance fund", lambda: FUNDS[exchange.id](exchange), nan)
        ids = [exchange.market(symbol)["id"] for symbol in settings.symbols] if exchange.markets else []
        drawdown = nan
        if exchange.id in ALERTS:
            drawdown = await self._read("deleveraging alert", lambda: deepest_drawdown(exchange, ids), nan)
        interest = nan
        if settings.symbols and exchange.has.get("fetchOpenInterest"):
            interest = await self._read("open interest", lambda: open_interest(exchange, settings.symbols), nan)
        rank = nan
        if settings.symbols and exchange.apiKey and exchange.id in RANKS:
            rank = await self._read("deleveraging rank", lambda: rank_share(exchange, settings.symbols), nan)
        if settings.discount_symbol:
            px = await self._read("perpetual", lambda: perp_px(exchange, settings.discount_symbol), nan)
            self._prices.note(settings.party, px, self._clock.now_ns())
        now_ns = self._clock.now_ns()
        signs = CounterpartySigns(
            party=settings.party,
            ts_event_ns=now_ns,
            ts_recv_ns=now_ns,
            withdrawals=self._withdrawals(word, now_ns),
            fund_quote=fund,
            fund_high_quote=self._fund_high(fund, drawdown, now_ns),
            open_interest_quote=interest,
            deleverage_rank_share=rank,
            api_error_share=self.errors.at(now_ns),
            perp_discount_share=self._prices.discount(settings.party, now_ns) if settings.discount_symbol else nan,
        )
        self._put([signs])
        self._maybe_canary(now_ns)
        return signs

    def _withdrawals(self, word: str, now_ns: int) -> str:
        """Return what is known of withdrawals: our own of the last day, unless the page says worse."""
        if self._own_word == "unknown" or now_ns - self._own_ns > NS_PER_DAY:
            return word
        if self._own_word == "working":
            return word if word in {"suspended", "partly"} else "working"
        return worst_word((self._own_word, word))

    def _fund_high(self, fund: float, drawdown: float, now_ns: int) -> float:
        """Return the fund's highest of 8 hours; NaN until it was watched as long, unless it is below a high already.

        Where the venue tells its own drawdown, and it is deeper, that counts.
        """
        if not isfinite(fund):
            self._funds.clear()
            return nan
        if not self._funds:
            self._since_ns = now_ns
        self._funds.append((now_ns, fund))
        while now_ns - self._funds[0][0] > _HIGH_NS:
            self._funds.popleft()
        high = max(amount for _, amount in self._funds)
        if isfinite(drawdown) and -1.0 < drawdown < 0.0:
            high = max(high, fund / (1.0 + drawdown))
        is_known = high > fund or now_ns - self._since_ns >= _HIGH_NS or isfinite(drawdown)
        return high if is_known else nan

    def _maybe_canary(self, now_ns: int) -> None:
        if self._settings.canary_ns and self._ask_canary is not None and now_ns >= self._canary_due_ns:
            self._canary_due_ns = now_ns + self._settings.canary_ns
            self._ask_canary()

    async def _read(self, what: str, call: Callable[[], Awaitable[T]], otherwise: T) -> T:
        """Return what a page says, or that it says nothing; a page gone or back is logged once."""

        async def made() -> T:
            return await call()

        try:
            found = await cancellable(made())
        except Exception as error:  # noqa: BLE001 — whatever a page does must not end the watch
            self.errors.note(self._clock.now_ns(), is_error=True)
            why = text_of(error)
            if self._broken.get(what) != why:
                log.warning("counterparty.page", party=self._settings.party, page=what, problem=why)
            self._broken[what] = why
            return otherwise
        self.errors.note(self._clock.now_ns(), is_error=False)
        if self._broken.pop(what, None) is not None:
            log.info("counterparty.page", party=self._settings.party, page=what, problem="it answers again")
        return found
