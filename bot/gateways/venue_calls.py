"""One way to ask a venue anything: inside the budget, never raising, and judging the venue's health by the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import ccxt.pro

from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.domain.venues import VenueHealth, VenueStatus
from bot.gateways.budget import Budget, Need
from bot.gateways.gateway import Clock, Put
from bot.gateways.market_words import number
from bot.gateways.order_words import OrderWords
from bot.gateways.outcomes import Outcome, is_ban, text_of
from bot.gateways.sending import Attempt

T = TypeVar("T")
_FAILURES_TO_DOWN: Final = 3


class Failure:
    """What became of a call that raised: the error, and what it means."""

    __slots__ = ("error", "outcome")

    def __init__(self, error: BaseException, outcome: Outcome) -> None:
        self.error = error
        self.outcome = outcome

    def __str__(self) -> str:
        return text_of(self.error)


class VenueCalls:
    """Makes the calls of one venue. A venue is DOWN after three failed calls in a row, FATAL as soon as it says so."""

    def __init__(
        self, exchange: ccxt.pro.Exchange, words: OrderWords, budget: Budget, clock: Clock, put: Put, venue: str
    ) -> None:
        self.health = VenueHealth.UP
        self.budget = budget
        self._exchange = exchange
        self._words = words
        self._clock = clock
        self._put = put
        self._venue = venue
        self._failures = 0
        self._last_ms = 0

    async def wait(self, need: Need, longest_ns: int) -> bool:
        """Spend one request, waiting at most `longest_ns` for it; a free budget is not waited for at all."""
        until_ns = self._clock.now_ns() + longest_ns
        while not self.budget.take(need, now_ns := self._clock.now_ns()):
            wait_ns = self.budget.wait_ns(need, now_ns)
            if now_ns + wait_ns > until_ns:
                return False
            await asyncio.sleep(wait_ns / NS_PER_S)
        return True

    async def judge(self, call: Callable[[], Awaitable[T]], attempt: Attempt | None = None) -> T | Failure:
        """Make a call and return what it returns, or its failure, classified; only cancellation is raised.

        `attempt` knows whether the request may have left; without one it is taken that it may.
        """
        if self._words.needs_unique_ms:
            await self._next_ms()
        [result] = await asyncio.gather(call(), return_exceptions=True)
        if isinstance(result, asyncio.CancelledError):
            # Nobody cancelled us: ccxt cancels whoever waits when it closes a connection, and so would end our streams.
            result = ccxt.NetworkError("the connection was closed under the call")
        if not isinstance(result, BaseException):
            self._succeed()
            return result
        return self._fail(result, may_have_left=attempt is None or attempt.may_have_left)

    async def read(self, call: Callable[[], Awaitable[T]]) -> T | Failure:
        """Ask something that changes nothing."""
        result = await self.judge(call)
        if isinstance(result, Failure):
            self.note(result)
        return result

    def _fail(self, error: BaseException, *, may_have_left: bool) -> Failure:
        """Return an error as a failure, and back off if it is a rate limit."""
        failure = Failure(error, self._words.outcome_of(error, may_have_left=may_have_left))
        if isinstance(error, ccxt.RateLimitExceeded | ccxt.DDoSProtection):
            headers = self._exchange.last_response_headers
            asked = {str(name).lower(): value for name, value in headers.items()} if headers else {}
            retry_after_ns = int((number(asked.get("retry-after")) or 0.0) * NS_PER_S)
            self.budget.back_off(self._clock.now_ns(), retry_after_ns, is_ban=is_ban(error))
        return failure

    def note(self, failure: Failure) -> None:
        """Judge the venue's health by a failure."""
        self._failures += 1
        if failure.outcome is Outcome.FATAL:
            self._become(VenueHealth.FATAL, f"{self._venue}: {failure}")
        elif self._failures >= _FAILURES_TO_DOWN and self.health is VenueHealth.UP:
            self._become(
                VenueHealth.DOWN, f"{self._venue}: {self._failures} calls failed in a row, the last: {failure}"
            )

    def stop(self, reason: str) -> None:
        """Say that a person has to act before this venue can be traded on."""
        self._become(VenueHealth.FATAL, reason)

    def _succeed(self) -> None:
        self._failures = 0
        self.budget.succeed()
        if self.health is VenueHealth.DOWN:
            self._become(VenueHealth.UP, f"{self._venue}: it answers again")

    def _become(self, health: VenueHealth, reason: str) -> None:
        if health is not self.health:
            self.health = health
            self._put([VenueStatus(self._venue, health, reason, self._clock.now_ns())])

    async def _next_ms(self) -> None:
        """Wait for a millisecond of our own: two signatures in the same one carry the same nonce."""
        now_ms = self._exchange.milliseconds()
        self._last_ms = max(now_ms, self._last_ms + 2)  # two apart: signing may slip by one
        if self._last_ms > now_ms:
            await asyncio.sleep((self._last_ms - now_ms) / 1000)


def ms_of(ns: int) -> int:
    """Return a time in whole milliseconds, as venues take it."""
    return max(0, ns) // NS_PER_MS
