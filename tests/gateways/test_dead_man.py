"""Countdowns: armed before the first order, inside the venue's limits, renewed in time, never believed on failure."""

from __future__ import annotations

import asyncio

import ccxt
import pytest

from bot.domain.errors import Retryable
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.gateways.dead_man import Countdown, NoProtection
from tests.venues.passing import until


class Clock:
    def __init__(self) -> None:
        self.time_ns = 10**18

    def now_ns(self) -> int:
        return self.time_ns


class Venue:
    def __init__(self) -> None:
        self.started: list[tuple[str, int]] = []
        self.error: Exception | None = None

    async def start(self, symbol: str, time_ms: int) -> None:
        self.started.append((symbol, time_ms))
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error


def countdown(venue: Venue, clock: Clock, dead_man_ns: int = 30 * NS_PER_S, *, is_per_symbol: bool = True) -> Countdown:
    return Countdown(venue.start, clock, dead_man_ns, is_per_symbol=is_per_symbol, limits_ms=(10_000, 120_000))


async def test_the_first_order_of_a_symbol_arms_it_and_the_next_does_not_wait() -> None:
    venue, clock = Venue(), Clock()
    armed = countdown(venue, clock)
    await asyncio.gather(armed.ensure("ETH"), armed.ensure("ETH"))
    await armed.ensure("BTC")
    await armed.ensure("ETH")
    assert venue.started == [("ETH", 30_000), ("BTC", 30_000)]


async def test_an_account_has_one_countdown() -> None:
    venue, clock = Venue(), Clock()
    armed = countdown(venue, clock, is_per_symbol=False)
    await armed.ensure("ETH")
    await armed.ensure("BTC")
    assert venue.started == [("", 30_000)]


@pytest.mark.parametrize(("asked_ns", "time_ms"), [(NS_PER_S, 10_000), (5 * NS_PER_MS, 10_000), (10**13, 120_000)])
async def test_a_time_outside_the_venues_limits_is_moved_inside(asked_ns: int, time_ms: int) -> None:
    assert countdown(Venue(), Clock(), asked_ns).time_ms == time_ms


async def test_a_refusal_refuses_orders_in_words() -> None:
    venue, clock = Venue(), Clock()
    venue.error = ccxt.ExchangeError("traded volume too low")
    with pytest.raises(Retryable, match=r"dead man's switch could not be armed, ExchangeError: traded volume too low"):
        await countdown(venue, clock).ensure("ETH")


async def test_a_countdown_about_to_end_is_not_safe() -> None:
    venue, clock = Venue(), Clock()
    armed = countdown(venue, clock)
    await armed.ensure("ETH")
    clock.time_ns += 29 * NS_PER_S + NS_PER_MS
    venue.error = ccxt.NetworkError("gone")
    with pytest.raises(Retryable):
        await armed.ensure("ETH")


async def test_what_is_armed_is_renewed_also_after_a_failure() -> None:
    venue, clock = Venue(), Clock()
    armed = Countdown(venue.start, clock, 30 * NS_PER_MS, is_per_symbol=True, limits_ms=(1, 1_000))
    await armed.ensure("ETH")
    venue.error = ccxt.NetworkError("gone")
    renewing = asyncio.create_task(armed.run())
    await until(lambda: len(venue.started) > 2)
    venue.error = None
    again = len(venue.started)
    await until(lambda: len(venue.started) > again + 1)
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)
    assert armed.renew_s == 0.01


async def test_a_venue_without_protection_lets_nothing_rest() -> None:
    nothing = NoProtection("Bybit cancels for institutions only")
    with pytest.raises(Retryable, match="no order may rest on ETH: Bybit cancels for institutions only"):
        await nothing.ensure("ETH")
    await nothing.run()


@pytest.mark.parametrize("error", [ccxt.NetworkError("away"), ValueError("invalid literal for int(): 'x'")])
async def test_whatever_a_venue_answers_the_countdowns_go_on(error: Exception) -> None:
    venue, clock = Venue(), Clock()
    armed = countdown(venue, clock)
    armed.time_ms = 40
    await armed.ensure("ETH")
    venue.error = error
    running = asyncio.create_task(armed.run())
    await until(lambda: len(venue.started) > 2)
    assert not running.done()
    venue.error = None
    clock.time_ns += NS_PER_S
    await armed.ensure("ETH")
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
