"""The watch tells what is new, once; a feed that is down is said once, and the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from bot.domain.events import Event
from bot.domain.risk import SeriesValue
from bot.domain.units import NS_PER_DAY, NS_PER_MS, NS_PER_S
from bot.gateways.series.fetching import JsonPages, SeriesDown
from bot.gateways.series.stablecoins import StablecoinSupply
from bot.gateways.series.watch import SeriesWatch
from tests.venues.faults import http
from tests.venues.pages import Pages
from tests.venues.passing import until


class Clock:
    def __init__(self) -> None:
        self.ns = 100 * NS_PER_DAY

    def now_ns(self) -> int:
        return self.ns


class Written:
    """A reader of what a test wrote down."""

    pace_ns = 5 * NS_PER_MS

    def __init__(self, name: str = "X") -> None:
        self.name = name
        self.values: list[SeriesValue] = []
        self.problem: Exception | None = None
        self.asked: list[int] = []

    def write(self, value: float, as_of_ns: int, published_ns: int = 0) -> None:
        self.values.append(SeriesValue(self.name, value, as_of_ns, published_ns or as_of_ns, 0))

    async def read(self, since_ns: int, now_ns: int) -> Sequence[SeriesValue]:
        assert now_ns >= since_ns
        self.asked.append(since_ns)
        if self.problem is not None:
            raise self.problem
        return list(self.values)


def numbers(told: list[Event]) -> list[float]:
    return [one.value for one in told if isinstance(one, SeriesValue)]


async def test_news_is_told_once_and_vintages_in_order() -> None:
    told: list[Event] = []
    reader = Written()
    watch = SeriesWatch([reader], Clock(), told.extend)
    reader.write(1.0, 10, 20)
    reader.write(1.5, 10, 40)
    for _ in range(3):
        assert await watch.look(reader)
    assert numbers(told) == [1.0, 1.5]
    reader.write(1.0, 10, 60)  # revised back
    reader.write(2.0, 50)
    for _ in range(2):
        await watch.look(reader)
    assert numbers(told) == [1.0, 1.5, 1.0, 2.0]
    assert reader.asked[0] == 10 * NS_PER_DAY  # ninety days of history first
    assert reader.asked[-1] == 50


async def test_a_source_without_vintages_tells_its_newest_word() -> None:
    told: list[Event] = []
    reader = Written()
    watch = SeriesWatch([reader], Clock(), told.extend)
    for number in (1.0, 1.5, 1.5, 1.2):
        reader.values.clear()
        reader.write(number, 10)
        await watch.look(reader)
    assert numbers(told) == [1.0, 1.5, 1.2]


async def test_a_feed_that_is_down_is_said_once_and_again_on_change(capsys: pytest.CaptureFixture[str]) -> None:
    reader = Written()
    watch = SeriesWatch([reader], Clock(), lambda _: None)

    async def looks(problem: Exception | None, times: int) -> int:
        reader.problem = problem
        for _ in range(times):
            await watch.look(reader)
        return capsys.readouterr().out.count("series=X")

    assert await looks(SeriesDown("HTTP 503"), 3) == 1
    assert dict(watch.down) == {"X": "HTTP 503"}
    assert await looks(SeriesDown("HTTP 404"), 2) == 1
    assert await looks(ZeroDivisionError("our own mistake"), 2) == 1
    assert "our own mistake" in watch.down["X"]
    assert await looks(None, 2) == 1
    assert dict(watch.down) == {}
    assert await looks(None, 2) == 0


async def test_one_feed_down_does_not_stop_another_and_it_comes_back() -> None:
    told: list[Event] = []
    clock = Clock()
    rows = [{"date": str(99 * 86_400), "totalCirculatingUSD": {"peggedUSD": 7.0}}]
    path = "stablecoincharts/all"
    async with Pages({path: rows}) as server, JsonPages(tries=1) as pages:
        server.faults.always(path, http(503))
        steady = Written("STEADY")
        steady.write(1.0, 10)
        supply = StablecoinSupply(pages, base_url=server.url, pace_ns=NS_PER_S)
        watch = SeriesWatch([supply, steady], clock, told.extend, retry_s=0.02)
        task = asyncio.create_task(watch.run())
        try:
            await until(lambda: "STABLECOIN-SUPPLY" in watch.down)
            server.faults.clear()
            await until(lambda: 7.0 in numbers(told) and len(steady.asked) > 3)
        finally:
            task.cancel()
            await asyncio.wait({task})
    assert numbers(told).count(1.0) == 1
    assert dict(watch.down) == {}


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="expected each series once"):
        SeriesWatch([Written(), Written()], Clock(), lambda _: None)
