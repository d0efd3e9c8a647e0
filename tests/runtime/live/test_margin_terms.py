"""What a venue tells of its margin parameters becomes news once it is new, and nothing where it is none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import ccxt
import msgspec
import pytest

from bot.domain.events import Event
from bot.domain.risk import MarginTerms, SupposedPosition
from bot.domain.units import NS_PER_DAY
from bot.gateways.ccxt_gateway import CcxtGateway
from bot.gateways.exchange import Credentials
from bot.risk.book import PERPETUAL, Position, build_book
from bot.risk.margin.registry import evaluate
from bot.risk.parameters import decode_parameters
from bot.runtime.configuration.margin_parameters import carried_sets
from bot.runtime.live.clock import WallClock
from bot.runtime.live.margin_terms import KEPT_DAYS, TermsPoll, told_set
from tests.gateways.desks import RUN, settings_of
from tests.runtime.command_line import PATIENCE_S
from tests.venues.deribit import DeribitServer
from tests.venues.deribit_markets import quoted_book
from tests.venues.faults import reject

DERIBIT = carried_sets("deribit_portfolio")[-1]
TODAY = DERIBIT.as_of + timedelta(days=30)


class Told:
    """A gateway that tells what it is given, or fails with it."""

    def __init__(self, told: dict[str, Any] | Exception) -> None:
        self.told = told

    async def margin_terms(self) -> dict[str, Any]:
        if isinstance(self.told, Exception):
            raise self.told
        return self.told


class Day:
    """A clock that says noon of a day."""

    def __init__(self, day: date) -> None:
        self.day = day

    def now_ns(self) -> int:
        return (self.day - date(1970, 1, 1)).days * NS_PER_DAY + NS_PER_DAY // 2


def ranged(price_range: float) -> dict[str, Any]:
    return {"currency_pair": {"eth_usd": {**DERIBIT.values["currency_pair"]["eth_usd"], "price_range": price_range}}}


def test_a_told_set_is_of_its_day_and_says_whose_word_it_is() -> None:
    found = told_set("deribit", DERIBIT, ranged(0.25), TODAY)
    assert found is not None
    assert (found.model, found.as_of, found.expires) == (DERIBIT.model, TODAY, TODAY + timedelta(days=KEPT_DAYS))
    assert found.source == f"told by deribit on {TODAY}; what it does not tell: {DERIBIT.source}"
    again = told_set("deribit", found, ranged(0.30), TODAY + timedelta(days=1))
    assert again is not None
    assert again.source.count("told by") == 1
    assert told_set("deribit", found, ranged(0.25), TODAY) is None
    renewed = told_set("deribit", found, ranged(0.25), TODAY + timedelta(days=1))
    assert renewed is not None, "the same word a day later keeps the set from expiring"
    assert renewed.values == found.values


def test_nothing_told_or_a_model_nobody_tells_of_is_no_news() -> None:
    assert told_set("deribit", DERIBIT, {}, TODAY) is None
    assert told_set("okx", carried_sets("okx")[-1], {"anything": 1}, TODAY) is None


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("deribit_portfolio", {"currency_pair": {"eth_usd": {}}}),
        ("binance", {"ETH": [{"notionalFloor": 0}]}),
        ("binance", {"ETH": [{"notionalFloor": 0, "maintMarginRatio": 1, "cum": 0, "initialLeverage": 0}]}),
        ("binance", {"ETH": None}),
        ("hyperliquid", {"ETH": [{"lowerBound": None, "maxLeverage": 3}]}),
    ],
)
def test_a_word_that_makes_no_parameters_is_an_error_of_one_sentence(model: str, told: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^expected"):
        told_set("x", carried_sets(model)[-1], told, TODAY)


async def test_news_is_put_once_a_day_and_failures_are_not_the_end() -> None:
    got: list[Event] = []
    told, clock = Told(ranged(0.25)), Day(TODAY)
    poll = TermsPoll({"deribit": told, "other": object()}, {"deribit": DERIBIT, "other": DERIBIT}, got.extend, clock)
    for _ in range(2):
        await poll.ask("deribit")
        await poll.ask("other")
    (event,) = got
    assert isinstance(event, MarginTerms)
    assert decode_parameters(event.text) == poll.current["deribit"]
    for failure in (ccxt.PermissionDenied("no portfolio margin"), ccxt.RequestTimeout("late")):
        told.told = failure
        await poll.ask("deribit")
    told.told = {"currency_pair": {"eth_usd": {"price_range": "wide"}}}
    await poll.ask("deribit")
    assert len(got) == 1
    told.told, clock.day = ranged(0.25), TODAY + timedelta(days=1)
    await poll.ask("deribit")
    assert len(got) == 2


async def test_the_loop_asks_at_once_and_again() -> None:
    got: list[Event] = []
    told = Told(ranged(0.25))
    poll = TermsPoll({"deribit": told}, {"deribit": DERIBIT}, got.extend, Day(TODAY))
    poll.every_s = 0.005
    task = asyncio.create_task(poll.run())
    async with asyncio.timeout(PATIENCE_S):
        while not got:  # noqa: ASYNC110 - whatever puts it
            await asyncio.sleep(0.002)
        told.told = ranged(0.30)
        while len(got) < 2:  # noqa: ASYNC110 - whatever puts it
            await asyncio.sleep(0.002)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_real_gateway_tells_what_the_model_then_charges() -> None:
    got: list[Event] = []

    def put(events: Sequence[Event]) -> None:
        got.extend(events)

    book = build_book([Position(kind=PERPETUAL, underlying="BTC", qty_base=-1.0, money="BTC")], {"BTC": 30_000.0})
    async with DeribitServer(quoted_book()) as server:
        settings = settings_of("deribit", "deribit", server, underlyings=frozenset({"ETH", "BTC"}))
        async with CcxtGateway(settings, Credentials(), WallClock(), run_id=RUN) as keyless:
            assert await keyless.margin_terms() == {}
            assert await keyless.suppose(SupposedPosition("ETH-PERPETUAL", -3.0, 2_000.0)) is None
        gateway = CcxtGateway(settings, Credentials(**server.credentials), WallClock(), run_id=RUN)
        async with gateway:
            poll = TermsPoll({"deribit": gateway}, {"deribit": DERIBIT}, put, WallClock())
            await poll.ask("deribit")
            supposed = await gateway.suppose(SupposedPosition("ETH-PERPETUAL", -3.0, 2_000.0))
            assert supposed is not None
            assert supposed.margins[0].initial_quote > 0.0
            server.faults.always("simulate", reject("13021"))
            await poll.ask("deribit")
    (event,) = got
    assert isinstance(event, MarginTerms)
    before = evaluate("deribit_portfolio", book, DERIBIT.values).initial
    after = evaluate("deribit_portfolio", book, decode_parameters(event.text).values).initial
    assert before == pytest.approx(30_000.0 * (0.16 / 1.16 + 0.01))
    assert after == pytest.approx(30_000.0 * (0.18 / 1.18 + 0.005))
    assert msgspec.json.decode(event.text)["values"]["currency_pair"]["btc_usd"]["price_range"] == 0.18
