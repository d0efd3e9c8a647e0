"""Series of a live vault: read where it asks for them, over loopback, and told as down by name where they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bot.domain.events import Event
from bot.domain.risk import SeriesValue
from bot.gateways.exchange import VenueSettings
from bot.runtime.configuration.risk_sections import SeriesLine
from bot.runtime.configuration.vault import Vault
from bot.runtime.live.clock import WallClock
from bot.runtime.live.series import LiveSeries, open_series
from tests.runtime.command_line import PATIENCE_S
from tests.runtime.vault_files import vault
from tests.venues.pages import Pages

SUPPLY = "stablecoincharts/all"
OBSERVATIONS = "fred/series/observations"


class Told:
    def __init__(self) -> None:
        self.values: list[SeriesValue] = []

    def put(self, events: Sequence[Event]) -> None:
        self.values += [one for one in events if isinstance(one, SeriesValue)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.005)


async def test_what_is_asked_for_is_read_and_what_lacks_its_key_is_told_as_down() -> None:
    day = int(WallClock().now_ns() // 10**9) // 86_400 * 86_400 - 2 * 86_400
    rows = [{"date": str(day), "totalCirculatingUSD": {"peggedUSD": 7.0, "peggedEUR": 1.0}}]
    told = Told()
    async with Pages({SUPPLY: rows}) as server:
        lines = (
            SeriesLine(kind="stablecoins", base_url=server.url),
            SeriesLine(kind="fred", of="VIXCLS", base_url=server.url),
        )
        series = LiveSeries(lines, {}, {}, WallClock())
        task = asyncio.create_task(series.run(told.put))
        try:
            await until(lambda: bool(told.values) and "VIXCLS" in series.down)
        finally:
            task.cancel()
            await asyncio.wait({task})
    assert [(one.series, one.value) for one in told.values] == [("STABLECOIN-SUPPLY", 8.0)]
    assert "there is no key" in series.down["VIXCLS"]
    assert "STABLECOIN-SUPPLY" not in series.down


async def test_a_source_nobody_can_read_ends_no_run_and_is_told() -> None:
    lines = (SeriesLine(kind="funding", of="BTC", venue="okx", symbol=""),)
    series = LiveSeries(
        lines, {"okx": VenueSettings(venue="okx", exchange_id="okx", underlyings=frozenset())}, {}, WallClock()
    )
    task = asyncio.create_task(series.run(lambda _: None))
    try:
        await until(lambda: bool(series.down))
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait({task})
    assert series.down.keys() == {"FUNDING-BTC"}
    assert "and a symbol" in series.down["FUNDING-BTC"]


def test_a_vault_that_asks_for_none_reads_none(tmp_path: Path) -> None:
    def told(**more: Any) -> LiveSeries | None:
        risk = {"accounts": {"deribit": {"model": "deribit", "collateral": {"ETH": 10.0}}}, **more}
        known = {"mode": "paper", "feed": "live", "venues": {"deribit": {}}, "state_dir": str(tmp_path)}
        return open_series(Vault.model_validate({**vault(), **known, "risk": risk}), {}, WallClock())

    assert told() is None
    assert told(series=({"kind": "deribit_volatility", "of": "BTC"},)) is not None


def test_names_are_those_of_the_readers() -> None:
    from bot.gateways.series.fetching import JsonPages
    from bot.gateways.series.sources import make_readers
    from bot.runtime.live.series import _source

    lines = (
        SeriesLine(kind="fred", of="DGS2"),
        SeriesLine(kind="deribit_volatility", of="ETH"),
        SeriesLine(kind="stablecoins"),
    )
    readers = make_readers(tuple(map(_source, lines)), JsonPages(), {}, {})
    assert [one.name for one in readers] == [line.name for line in lines]
