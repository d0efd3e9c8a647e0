"""What all loopback venues share: numbers as venues write them, timers on the book's clock, and clean endings."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from tests.venues.binance import BinanceServer, usdm_book
from tests.venues.loopback import decimal, decimals_of


@pytest.mark.parametrize(
    ("value", "text"),
    [(2_000.0, "2000"), (0.00001, "0.00001"), (1e-9, "0.000000001"), (0.1 + 0.2, "0.3"), (-1.5, "-1.5"), (None, "0"),
     (100.0, "100"), (-0.0, "0"), (1_234_567.89, "1234567.89")],
)  # fmt: skip
def test_a_decimal_has_no_noise_and_no_exponent(value: float | None, text: str) -> None:
    assert decimal(value) == text


def test_a_step_has_as_many_decimals_as_it_is_written_with() -> None:
    assert [decimals_of(step) for step in (0.001, 0.5, 10.0, 1e-5)] == [3, 1, 0, 5]


async def test_timers_follow_the_books_clock() -> None:
    now_ms = [1_000]
    done: list[str] = []
    async with BinanceServer(usdm_book(now_ms=lambda: now_ms[0])) as server:
        server.at("a", 1_010, lambda: done.append("a"))
        server.at("b", 1_010, lambda: done.append("b"))
        server.never("b")
        await asyncio.sleep(0.03)
        assert done == []  # this machine's clock has run, the book's has not
        now_ms[0] = 1_010
        server.tick()
        assert done == ["a"]
        server.at("a", 1_020, lambda: done.append("late"))
        now_ms[0] = 1_020
        await asyncio.sleep(0.03)
        assert done == ["a", "late"]


async def test_a_client_that_stays_connected_does_not_hold_up_the_end() -> None:
    started_s = asyncio.get_running_loop().time()
    async with aiohttp.ClientSession() as session:
        async with BinanceServer(usdm_book()) as server:
            stream = await session.ws_connect(f"ws://{server.host}/public/ws/0")
        assert (await stream.receive()).type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
    assert asyncio.get_running_loop().time() - started_s < 30.0  # it would be waited for 60 s
