"""Over real sockets: what is served, what is refused, and that no crowd costs more than a few connections."""

from __future__ import annotations

import asyncio
import json
import resource
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import pytest
import pytest_asyncio

from bot.telemetry.metrics import server
from bot.telemetry.metrics.board import Board
from bot.telemetry.metrics.server import HEADERS, MAX_CONNECTIONS, HttpWindow
from tests.runtime.command_line import PATIENCE_S
from tests.telemetry.metrics.lint import families_of, problems
from tests.telemetry.states import state, told


class Clock:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def window(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HttpWindow]:
    monkeypatch.setattr(server, "SWEEP_EVERY_S", 0.02)
    window = HttpWindow("127.0.0.1", 0, Board(["eth-straddle"], monotonic_s=clock), monotonic_s=clock)
    task = asyncio.create_task(window.run())
    await window.listening.wait()
    yield window
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def ask(window: HttpWindow, path: str, method: str = "GET") -> tuple[int, str, dict[str, str]]:
    async with aiohttp.request(method, f"http://127.0.0.1:{window.port}{path}") as answer:
        return answer.status, await answer.text(), dict(answer.headers)


async def raw(window: HttpWindow, text: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", window.port)
    writer.write(text)
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_a_scrape_is_one_that_prometheus_takes(window: HttpWindow) -> None:
    window.show(state())
    window.tell(told(1, "fill"))
    status, text, headers = await ask(window, "/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert problems(text) == []
    found = families_of(text)
    assert found["evenkeel_hedges_total"].samples[0].value == 41
    assert found["process_resident_memory_bytes"].samples[0].value > 1e6


async def test_health_is_told_in_json_and_by_status(window: HttpWindow, clock: Clock) -> None:
    window.show(state(feeds=()))
    for path in ("/healthz", "/readyz"):
        status, text, headers = await ask(window, path)
        assert (status, headers["Content-Type"]) == (200, "application/json")
        assert json.loads(text) == {"is_ok": True, "vaults": {"eth-straddle": []}}
    window.show(state(state="halted", state_reason="kim", feeds=()))
    assert (await ask(window, "/healthz"))[0] == 200
    status, text, _ = await ask(window, "/readyz")
    assert (status, json.loads(text)["vaults"]["eth-straddle"]) == (503, ["state halted: kim"])
    window.gone("eth-straddle", "no answer within 3 s")
    clock.s += 11.0
    assert [(await ask(window, path))[0] for path in ("/healthz", "/readyz")] == [503, 503]


async def test_every_answer_wears_the_headers(window: HttpWindow) -> None:
    answers = [await ask(window, path) for path in ("/metrics", "/healthz", "/readyz", "/", "/metrics/../etc/passwd")]
    answers.append(await ask(window, "/metrics", "POST"))
    assert [status for status, *_ in answers] == [200, 200, 503, 404, 404, 405]
    for _, _, headers in answers:
        assert {name: headers.get(name) for name in HEADERS} == HEADERS
        assert headers["Connection"] == "close"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD", "TRACE"])
async def test_nothing_but_get_is_answered(window: HttpWindow, method: str) -> None:
    status, _, headers = await ask(window, "/metrics", method)
    assert (status, headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize(
    "text",
    [
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: nine\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_refused_and_the_next_one_served(window: HttpWindow, text: bytes) -> None:
    answer = await raw(window, text)
    assert answer.startswith(b"HTTP/1.") and b" 400 " in answer.split(b"\r\n")[0]  # noqa: PT018 — one line
    assert b"Traceback" not in answer
    assert (await ask(window, "/metrics"))[0] == 200


async def test_the_text_is_rendered_anew_only_after_a_while(window: HttpWindow, clock: Clock) -> None:
    window.show(state(hedges=1))
    first = (await ask(window, "/metrics"))[1]
    window.show(state(hedges=2))
    assert (await ask(window, "/metrics"))[1] == first
    clock.s += server.RENDER_EVERY_S
    found = families_of((await ask(window, "/metrics"))[1])
    assert found["evenkeel_hedges_total"].samples[0].value == 2


async def test_who_never_asks_or_never_reads_is_hung_up_on(window: HttpWindow, clock: Clock) -> None:
    window.board.show(state())
    begun = (b"", b"GET", b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
    silent = [await asyncio.open_connection("127.0.0.1", window.port) for _ in begun]
    for text, (_, writer) in zip(begun, silent, strict=True):
        writer.write(text)
    async with asyncio.timeout(PATIENCE_S):
        while len(window._born_s) < len(begun):  # noqa: ASYNC110 — until a sweep has seen them all, young
            await asyncio.sleep(0.005)
    assert not any(reader.at_eof() for reader, _ in silent)
    clock.s += server.MAX_LIFE_S
    async with asyncio.timeout(PATIENCE_S):
        for reader, writer in silent:
            with suppress(ConnectionError):
                await reader.read()
            writer.close()
    found = families_of((await ask(window, "/metrics"))[1])
    assert found["evenkeel_http_hung_up_total"].samples[0].value == 3


async def test_a_storm_of_scrapes_costs_a_few_connections_and_holds_up_nobody(window: HttpWindow) -> None:
    window.show(state())
    await ask(window, "/metrics")
    async with asyncio.timeout(PATIENCE_S):
        while window.connections:  # noqa: ASYNC110 — the place of the one before is free again
            await asyncio.sleep(0.005)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    polled = 0
    most = 0

    async def poll() -> None:
        nonlocal polled, most
        while True:
            polled += 1
            window.show(state(hedges=polled))
            most = max(most, len(window.connections))
            await asyncio.sleep(0)  # in every round of the loop, however long a round takes

    poller = asyncio.create_task(poll())
    request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    found: Counter[str] = Counter()

    async def scrape() -> None:
        try:
            answer = await raw(window, request)
        except ConnectionError:
            answer = b""
        found["served" if b" 200 OK" in answer[:20] and b"evenkeel_hedges_total" in answer else "turned away"] += 1

    await asyncio.gather(*(scrape() for _ in range(1_000)))
    poller.cancel()
    assert found.total() == 1_000
    assert found["served"] >= MAX_CONNECTIONS
    assert most <= MAX_CONNECTIONS
    assert polled > 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 60_000  # both ends of 1,000 connections
    assert window.board.records["eth-straddle"].is_answering
    assert (await ask(window, "/healthz"))[0] == 200


async def test_of_a_storm_each_waits_its_turn_and_a_few_at_once_do_not(
    window: HttpWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "ANSWER_EVERY_S", 0.1)
    monkeypatch.setattr(server, "AT_A_TIME", 3)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    assert [(await ask(window, "/healthz"))[0] for _ in range(3)] == [200] * 3
    turn_s = window._turn_s
    assert turn_s <= loop.time()  # nobody waited
    answers = await asyncio.gather(*(ask(window, "/healthz") for _ in range(6)))
    assert [status for status, *_ in answers] == [200] * 6
    assert loop.time() - began_s >= 0.59  # nine answers, three of them at once


async def test_an_address_that_is_taken_is_an_error_that_names_it(window: HttpWindow) -> None:
    second = HttpWindow("127.0.0.1", window.port, Board([]))
    with pytest.raises(OSError, match=str(window.port)):
        await second.run()


async def test_it_can_be_begun_again_after_it_ended(clock: Clock) -> None:
    window = HttpWindow("127.0.0.1", 0, Board([]), monotonic_s=clock)
    for _ in range(2):
        task = asyncio.create_task(window.run())
        await window.listening.wait()
        assert (await ask(window, "/healthz"))[0] == 200
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
