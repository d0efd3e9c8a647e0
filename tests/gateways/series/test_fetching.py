"""Pages are asked for a few times, not read again unchanged, and nothing that is shown holds a key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from bot.domain.units import NS_PER_S
from bot.gateways.series.fetching import JsonPages, SeriesDown
from tests.runtime.command_line import PATIENCE_S
from tests.venues.faults import drop_request, garbage, http, silence
from tests.venues.pages import Pages
from tests.venues.passing import let_pass, until


def client() -> JsonPages:
    return JsonPages(timeout_ns=round(PATIENCE_S * NS_PER_S), tries=3, pause_s=0.01, longest_s=0.05)


async def test_what_has_not_changed_is_not_sent_again() -> None:
    async with Pages({"a": {"x": 1}}) as server, client() as pages:
        url = f"{server.url}/a"
        assert await pages.get(url, {}) == await pages.get(url, {}) == {"x": 1}
        assert server.unchanged == 1
        server.pages["a"] = {"x": 2}
        assert await pages.get(url, {}) == {"x": 2}
        assert await pages.get(url, {"q": 1}) == {"x": 2}  # another query is another page
        assert server.unchanged == 1
        server.has_etags = False
        await pages.get(url, {})
        await pages.get(url, {})
        assert server.unchanged == 1


@pytest.mark.parametrize("fault", [http(503), http(429), drop_request(), silence(is_executed=False), garbage()])
async def test_two_failures_are_got_over_and_three_are_told_without_the_query(fault: object) -> None:
    async with Pages({"a": 1}) as server, client() as pages:
        server.faults.next("a", fault, count=2)  # type: ignore[arg-type]
        assert await running_out(server, pages, fault, (1, 2)) == 1
        assert len(server.asked) == 3
        server.faults.always("a", fault)  # type: ignore[arg-type]
        with pytest.raises(SeriesDown) as down:
            await running_out(server, pages, fault, (4, 5, 6))
        assert "3 times" in str(down.value)
        assert "hush" not in f"{down.value!r} {down.value.__cause__!r} {down.value.__context__!r}"
        assert len(server.asked) == 6


async def running_out(server: Pages, pages: JsonPages, fault: Any, times: Sequence[int]) -> Any:
    """Ask for the page; where it is silent, the time for an answer is over once it was asked for the nth time."""
    asking = asyncio.create_task(pages.get(f"{server.url}/a", {"api_key": "hush-hush"}))
    for number in times if fault.is_silent else ():
        await until(lambda number=number: len(server.asked) == number)
        let_pass(PATIENCE_S + 1.0)
    return await asking


async def test_a_definite_no_is_not_asked_again() -> None:
    async with Pages() as server, client() as pages:
        with pytest.raises(SeriesDown, match="HTTP 404; hint"):
            await pages.get(f"{server.url}/a", {})
        assert len(server.asked) == 1


async def test_a_server_that_asks_for_patience_gets_it_within_limits() -> None:
    async with Pages({"a": 1}) as server, client() as pages:
        server.faults.next("a", http(429, retry_after_s=9_000.0))
        began = time.monotonic()
        assert await pages.get(f"{server.url}/a", {}) == 1
        assert 0.045 < time.monotonic() - began < PATIENCE_S  # the longest pause, not two and a half hours


async def test_nobody_there_and_no_session_are_told() -> None:
    async with client() as pages:
        with pytest.raises(SeriesDown, match="Connect call failed"):
            await pages.get("http://127.0.0.1:9/a", {})
    with pytest.raises(SeriesDown, match="not open"):
        await pages.get("http://127.0.0.1:9/a", {})
