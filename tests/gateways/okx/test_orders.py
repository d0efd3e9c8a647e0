"""OKX's orders: ids of letters and digits, a countdown in whole seconds of at least ten, and permissions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.errors import Retryable
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from bot.gateways.okx.orders import OkxOrderWords
from tests.gateways.desks import SteadyClock


class Okx:
    """As much of OKX as a countdown and an account's configuration need; it keeps what it was sent."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.trigger_ms = "1700000010000"
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, await request.json() if request.can_read_body else None))
        if request.path.endswith("cancel-all-after"):
            data = [{"triggerTime": self.trigger_ms, "ts": "1700000000000", "tag": ""}]
        else:
            data = [{"perm": "read_only,trade", "acctLv": "2"}]
        return web.json_response({"code": "0", "msg": "", "data": data})


@pytest.fixture
async def okx() -> AsyncIterator[Okx]:
    venue = Okx()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", venue.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    venue.port = runner.addresses[0][1]
    yield venue
    await runner.cleanup()


@pytest.fixture
async def exchange(okx: Okx) -> AsyncIterator[Any]:
    opened = open_exchange(settings(okx), Credentials(api_key="key", secret="not-a-secret", password="none"))
    opened.set_markets({})
    yield opened
    await opened.close()


def settings(okx: Okx, dead_man_ns: int = 30 * NS_PER_S) -> VenueSettings:
    options = {"urls": {"api": {"rest": f"http://127.0.0.1:{okx.port}"}}, "timeout_on_exit": 0}
    return VenueSettings(
        venue="okx", exchange_id="okx", underlyings=frozenset({"ETH"}), options=options, dead_man_ns=dead_man_ns
    )


@pytest.mark.parametrize(("dead_man_ns", "seconds"), [(30 * NS_PER_S, 30), (500 * NS_PER_MS, 10), (10**13, 120)])
async def test_the_countdown_never_becomes_nought(okx: Okx, exchange: Any, dead_man_ns: int, seconds: int) -> None:
    armed = OkxOrderWords().dead_man(exchange, SteadyClock(), settings(okx, dead_man_ns))
    await armed.ensure("ETH/USDT:USDT")
    assert [int(body["timeOut"]) for _, body in okx.asked] == [seconds]


async def test_a_countdown_that_answers_without_a_time_is_not_armed(okx: Okx, exchange: Any) -> None:
    okx.trigger_ms = "0"
    armed = OkxOrderWords().dead_man(exchange, SteadyClock(), settings(okx))
    with pytest.raises(Retryable, match="could not be armed"):
        await armed.ensure("ETH/USDT:USDT")


async def test_permissions_are_listed(exchange: Any) -> None:
    may = await OkxOrderWords().permissions(exchange)
    assert (may.can_trade, may.can_withdraw) == (True, False)


@given(st.from_regex(r"[0-9a-f]{10}", fullmatch=True), st.integers(0, 10**18 - 1))
def test_ids_are_letters_and_digits_and_come_back(run: str, sequence: int) -> None:
    words = OkxOrderWords()
    client_id = words.encode(f"{run}-{sequence}")
    assert client_id.isalnum()
    assert len(client_id) <= 32
    assert words.decode(client_id) == f"{run}-{sequence}"


@pytest.mark.parametrize("foreign", ["", None, "e847386590ce4dBC", "0123456789-1", "ek0123456789"])
def test_ids_of_others_are_not_ours(foreign: object) -> None:
    assert OkxOrderWords().decode(foreign) == ""


def test_fills_say_whose_they_are() -> None:
    words = OkxOrderWords()
    assert words.order_id_of_trade({"info": {"clOrdId": "ek0123456789n7"}}) == "0123456789-7"
    assert words.order_id_of_trade({"info": {"clOrdId": ""}}) == ""
    assert words.order_id_of_trade({"info": {}}) is None


async def test_ccxt_would_make_nought_of_less_than_a_second(okx: Okx, exchange: Any) -> None:
    await exchange.cancel_all_orders_after(999)
    assert okx.asked[-1][1]["timeOut"] in {0, "0"}
