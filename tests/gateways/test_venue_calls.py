"""Calls that never raise: what they mean, how the venue's health is judged, and that a rate limit is heeded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import ccxt
import pytest

from bot.domain.events import Event
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.domain.venues import VenueHealth, VenueStatus
from bot.gateways.budget import Budget, Need
from bot.gateways.order_words import OrderWords
from bot.gateways.outcomes import Outcome
from bot.gateways.sending import Attempt
from bot.gateways.venue_calls import Failure, VenueCalls, ms_of
from tests.gateways.desks import SteadyClock


class Exchange:
    last_response_headers: Any = None
    time_ms = 0

    def milliseconds(self) -> int:
        return self.time_ms


class Desk:
    def __init__(self, words: OrderWords | None = None) -> None:
        self.exchange: Any = Exchange()
        self.got: list[Event] = []
        self.budget = Budget(1_000.0, 100, 0.2)
        self.calls = VenueCalls(self.exchange, words or OrderWords(), self.budget, SteadyClock(), self.put, "here")

    def put(self, events: Sequence[Event]) -> None:
        self.got.extend(events)

    def healths(self) -> list[VenueHealth]:
        return [status.health for status in self.got if isinstance(status, VenueStatus)]


async def fine() -> int:
    return 7


async def fail(error: BaseException) -> int:
    raise error


async def test_a_result_is_returned_and_an_error_explained() -> None:
    desk = Desk()
    assert await desk.calls.judge(fine) == 7
    failure = await desk.calls.judge(lambda: fail(ccxt.InvalidOrder("no")))
    assert isinstance(failure, Failure)
    assert (failure.outcome, str(failure)) == (Outcome.REJECTED, "InvalidOrder: no")


async def test_an_attempt_that_did_not_leave_is_believed() -> None:
    desk = Desk()
    attempt = Attempt()
    attempt.start()
    failure = await desk.calls.judge(lambda: fail(ccxt.NetworkError("gone")), attempt)
    assert isinstance(failure, Failure)
    assert failure.outcome is Outcome.RETRYABLE


async def test_cancellation_is_raised() -> None:
    task = asyncio.create_task(Desk().calls.judge(lambda: asyncio.sleep(10)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_that_ccxt_cancels_is_a_failure_and_not_our_end() -> None:
    failure = await Desk().calls.judge(lambda: fail(asyncio.CancelledError()))
    assert isinstance(failure, Failure)
    assert failure.outcome is Outcome.UNKNOWN
    assert isinstance(failure.error, ccxt.NetworkError)


async def test_three_failures_make_a_venue_down_and_one_answer_up_again() -> None:
    desk = Desk()
    for _ in range(5):
        await desk.calls.read(lambda: fail(ccxt.NetworkError("gone")))
    await desk.calls.read(fine)
    await desk.calls.read(fine)
    assert desk.healths() == [VenueHealth.DOWN, VenueHealth.UP]
    assert "3 calls failed in a row" in desk.got[0].reason  # type: ignore[union-attr]


async def test_fatal_is_said_once_and_stays() -> None:
    desk = Desk()
    for _ in range(3):
        await desk.calls.read(lambda: fail(ccxt.AuthenticationError("who?")))
    await desk.calls.read(fine)
    assert desk.healths() == [VenueHealth.FATAL]
    assert desk.calls.health is VenueHealth.FATAL


async def test_a_rate_limit_closes_the_budget_for_the_time_the_venue_names() -> None:
    desk = Desk()
    desk.exchange.last_response_headers = {"Retry-After": "3"}
    await desk.calls.judge(lambda: fail(ccxt.RateLimitExceeded("here 429 Too Many Requests")))
    assert desk.budget.wait_ns(Need.CANCEL, SteadyClock().now_ns()) > 2 * NS_PER_S
    assert not await desk.calls.wait(Need.ORDER, NS_PER_MS)


async def test_a_free_budget_is_not_waited_for_and_an_empty_one_only_so_long() -> None:
    desk = Desk()
    desk.budget = desk.calls.budget = Budget(100.0, 2, 0.0)
    assert await desk.calls.wait(Need.ORDER, 0)
    assert await desk.calls.wait(Need.ORDER, 0)
    assert not await desk.calls.wait(Need.ORDER, 0)
    assert await desk.calls.wait(Need.ORDER, NS_PER_S)


async def test_signatures_of_a_millisecond_are_kept_apart() -> None:
    class Nonces(OrderWords):
        needs_unique_ms = True

    desk = Desk(Nonces())
    desk.exchange.time_ms = 1_000
    asyncio.get_running_loop().call_later(0.0001, lambda: None)
    await asyncio.gather(*(desk.calls.judge(fine) for _ in range(4)))
    assert desk.calls._last_ms == 1_006


def test_times_for_venues_are_whole_milliseconds() -> None:
    assert ms_of(1_999_999) == 1
    assert ms_of(-5) == 0
