"""The table of `scripts/bench orders`: from a decision to the first byte of its order on the socket, through ccxt.

The venue is a loopback server in a process of its own; the gateway, the client and the loop are those of a live run.
What ccxt takes is measured beside it: the same orders straight through ccxt, and its signing alone. Both processes
read one monotonic clock, so that what the server stamps can be set against what we do.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import ccxt
import ccxt.pro
import numpy as np
import structlog
import uvloop
from bench_speed import describe_machine, say
from yarl import URL

from bot import __version__
from bot.domain.events import CancelOrder, Event, SubmitOrder
from bot.domain.instruments import Instrument
from bot.domain.market import Quote
from bot.domain.orders import OrderAccepted, OrderCanceled, OrderIntent, OrderRejected, OrderSent, TimeInForce
from bot.domain.units import NS_PER_MS
from bot.gateways.ccxt_gateway import CcxtGateway
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from bot.gateways.markets import Markets
from bot.gateways.order_words import OrderTerms
from bot.gateways.sending import Attempt, send_once
from bot.gateways.venue_words import order_words_of
from bot.runtime.live_run import spare_collector
from tests.venues.binance import BinanceServer, usdm_book
from tests.venues.deribit import DeribitServer
from tests.venues.deribit_markets import quoted_book
from tests.venues.faults import FaultScript, RequestFault
from tests.venues.hyperliquid import HyperliquidServer, hyperliquid_book
from tests.venues.matching import VenueBook

ROOT: Final = Path(__file__).parents[1]
RUN: Final = "0a1b2c3d4e"
ORDERS: Final = 200  # a row, fewer if they take longer than …
ROW_S: Final = 3.0
WARM_UP: Final = 20  # orders before the clock counts: connections are made, code is warm
PAUSE_S: Final = 0.01  # between an answer and the next order: what the account streams say of the last one is over
UPDATES_PER_S: Final = 50
LONGEST_S: Final = 30.0  # for anything: then the run ends
TARGET_P50_MS: Final = 3.0
TARGET_P99_MS: Final = 10.0
NOT_FOUND: Final = "expected an answer of the loopback venue"


class Place(NamedTuple):
    """One way to send an order: which venue, what, and how; `probe` is a public path that costs the server nothing."""

    name: str
    exchange_id: str
    instrument_id: str
    time_in_force: TimeInForce
    probe: tuple[str, str]


PLACES: Final = (
    Place("Deribit, IOC over REST", "deribit", "ETH_USDC-PERPETUAL", TimeInForce.IOC, ("GET", "/api/v2/public/test")),
    Place("Deribit, post-only over its WebSocket", "deribit", "ETH_USDC-PERPETUAL", TimeInForce.POST_ONLY, ("", "")),
    Place("Binance USD-M, IOC", "binanceusdm", "ETHUSDT", TimeInForce.IOC, ("GET", "/fapi/v1/ping")),
    Place("Hyperliquid, IOC", "hyperliquid", "ETH", TimeInForce.IOC, ("POST", "/info")),
)


def main() -> None:
    """Measure every way to send an order, quiet and with market data, and print the table."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    rows = [row for place in PLACES for row in uvloop.run(measure(place, ORDERS))]
    table = {
        "bench": "orders",
        "evenkeel": __version__,
        "machine": describe_machine()
        | {"ccxt": ccxt.__version__, "aiohttp": aiohttp.__version__, "openssl": ssl.OPENSSL_VERSION},
        "method": {
            "orders": f"up to {ORDERS} a row in {ROW_S:g} s, one after another, after {WARM_UP} that are not counted",
            "clock": "from just before the gateway takes the command; to the first byte handed to the socket (sent),"
            " to the venue's having read it (received), and to its answer told to the engine (accepted)",
            "loop": "uvloop; the venue in a process of its own",
            "target_ms": {"p50": TARGET_P50_MS, "p99": TARGET_P99_MS},
        },
        "orders": rows,
    }
    print(json.dumps(table, indent=1))


# The venue ------------------------------------------------------------------------------------------------------------


class Stamps(FaultScript):
    """A script in which nothing goes wrong, and which notes when each new order was received."""

    def __init__(self) -> None:
        super().__init__()
        self.received_ns: list[int] = []

    def request(self, operation: str) -> RequestFault | None:
        """Let every request pass."""
        if operation == "create":
            self.received_ns.append(time.perf_counter_ns())
        return super().request(operation)


def make_server(exchange_id: str, stamps: Stamps) -> tuple[Any, VenueBook, str]:
    """Return a venue's server, its book, and the instrument that is traded; ETH is at 2,000."""
    if exchange_id == "deribit":
        book, name = quoted_book(), "ETH_USDC-PERPETUAL"
        return DeribitServer(book, faults=stamps), book, name
    if exchange_id == "binanceusdm":
        book, name = usdm_book(), "ETHUSDT"
        return BinanceServer(book, faults=stamps), book, name
    book, name = hyperliquid_book(), "ETH"
    return HyperliquidServer(book, faults=stamps), book, name


async def serve(exchange_id: str) -> None:
    """Be the venue until stdin ends: each line is how many quotes a second there are, answered by the stamps so far."""
    stamps = Stamps()
    server, book, name = make_server(exchange_id, stamps)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    book.set_index("ETH", 2_000.0)
    quote(book, name, 0)
    quoting: asyncio.Task[None] | None = None
    async with server:
        options = getattr(server, "plain_options", None) or server.options
        print(json.dumps({"options": options, "credentials": server.credentials}), flush=True)
        spare_collector()
        while line := await lines.readline():
            if quoting is not None:
                quoting.cancel()
                await asyncio.gather(quoting, return_exceptions=True)
            rate = float(line)
            quoting = asyncio.create_task(keep_quoting(book, name, rate)) if rate else None
            print(json.dumps(stamps.received_ns), flush=True)
            stamps.received_ns.clear()


async def keep_quoting(book: VenueBook, name: str, rate: float) -> None:
    """Quote at a steady rate, each time a little differently."""
    for number in itertools.count(1):
        quote(book, name, number)
        await asyncio.sleep(1.0 / rate)


def quote(book: VenueBook, name: str, number: int) -> None:
    """Quote 2,000 at 2,000.5, in sizes that are never the same twice."""
    size = 50.0 + number % 100 * 0.1
    book.set_quote(name, 2_000.0, size, 2_000.5, size)


class Server:
    """The venue's process, seen from ours."""

    def __init__(self, process: asyncio.subprocess.Process, words: dict[str, Any]) -> None:
        self.options = words["options"]
        self.credentials = Credentials(**words["credentials"])
        self._process = process

    async def quote(self, updates_per_s: int) -> list[int]:
        """Set how many quotes a second there are; return when the orders since the last call were received."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{updates_per_s}\n".encode())
        return list(await read_line(self._process))


@asynccontextmanager
async def served(exchange_id: str) -> AsyncIterator[Server]:
    """Start a venue in a process of its own, and end it afterwards."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "serve", exchange_id, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20,
    )  # fmt: skip
    try:
        yield Server(process, await read_line(process))
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), LONGEST_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def read_line(process: asyncio.subprocess.Process) -> Any:  # noqa: ANN401
    """Return the next line of a process, which is JSON."""
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), LONGEST_S)
    if not line:
        raise SystemExit(f"{NOT_FOUND}, found its end")
    return json.loads(line)


# Our side -------------------------------------------------------------------------------------------------------------


class WallClock:
    """The clock events are stamped with."""

    def now_ns(self) -> int:
        """Return Unix time in ns."""
        return time.time_ns()


class Stopwatch:
    """What the gateway hands its events to; stamps those about the order of the moment."""

    def __init__(self) -> None:
        self.order_id = ""
        self.sent_ns = 0
        self.accepted_ns = 0
        self.is_canceled = False
        self.quotes = 0
        self._moved = asyncio.Event()

    def follow(self, order_id: str) -> None:
        """Wait for news of this order from now on."""
        self.order_id = order_id
        self.sent_ns = self.accepted_ns = 0
        self.is_canceled = False

    def put(self, events: Sequence[Event]) -> None:
        """Take events as the daemon's mailbox does."""
        now_ns = time.perf_counter_ns()
        for event in events:
            if isinstance(event, Quote):
                self.quotes += 1
            elif isinstance(event, OrderRejected):
                raise SystemExit(f"{NOT_FOUND} that takes the order, found {event.reason}")
            elif isinstance(event, OrderSent) and event.order_id == self.order_id:
                self.sent_ns = now_ns
            elif isinstance(event, OrderAccepted) and event.order_id == self.order_id:
                self.accepted_ns = now_ns
            elif isinstance(event, OrderCanceled) and event.order_id == self.order_id:
                self.is_canceled = True
        self._moved.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that events bring about."""
        async with asyncio.timeout(LONGEST_S):
            while not condition():
                self._moved.clear()
                await self._moved.wait()


class Timing(NamedTuple):
    """What became of one order, in ns after the decision."""

    sent_ns: int
    received_ns: int
    accepted_ns: int


def settings_of(place: Place, server: Server) -> VenueSettings:
    """Return the settings of a live run, with a budget that is never used up."""
    return VenueSettings(
        venue=place.exchange_id,
        exchange_id=place.exchange_id,
        underlyings=frozenset({"ETH"}),
        options=server.options,
        requests_per_s=1_000.0,
        burst_requests=1_000,
    )


async def measure(
    place: Place, orders: int, on_connected: Callable[[], None] = spare_collector
) -> list[dict[str, Any]]:
    """Return the two rows of one way to send an order: quiet with what ccxt takes of it, and with market data."""
    async with served(place.exchange_id) as server:
        settings = settings_of(place, server)
        async with CcxtGateway(settings, server.credentials, WallClock(), run_id=RUN) as gateway:
            (instrument,) = [one for one in await gateway.instruments() if one.instrument_id == place.instrument_id]
            watch = Stopwatch()
            events = asyncio.create_task(gateway.events(watch.put))
            try:
                gateway.watch([instrument])
                await watch.until(lambda: watch.quotes)
                intents = order_intents(place, instrument)
                on_connected()  # as a live run does
                say(f"{place.name}: quiet")
                await send_orders(gateway, watch, server, intents, 0, WARM_UP)
                quiet = await send_orders(gateway, watch, server, intents, 0, orders)
                split = await split_of(place, settings, server, intents, quiet)
                say(f"{place.name}: {UPDATES_PER_S} updates a second")
                before, began_s = watch.quotes, time.perf_counter()
                busy = await send_orders(gateway, watch, server, intents, UPDATES_PER_S, orders)
                seen_per_s = (watch.quotes - before) / (time.perf_counter() - began_s)
            finally:
                events.cancel()
                await asyncio.gather(events, return_exceptions=True)
    return [
        {"path": place.name, "quotes_per_s": 0, **row_of(quiet), "of_which_p50_ms": split},
        {"path": place.name, "quotes_per_s": round(seen_per_s, 1), **row_of(busy)},
    ]


def order_intents(place: Place, instrument: Instrument) -> Iterator[OrderIntent]:
    """Yield orders of a tenth of a coin: IOC ones buy and sell in turn and fill, post-only ones rest far below."""
    ticks = instrument.tick_schedule
    lots = round(0.1 / instrument.lot_base(2_000.0))
    for number in itertools.count(1):
        is_buy = place.time_in_force is TimeInForce.POST_ONLY or number % 2 == 1
        px = 1_900.0 if place.time_in_force is TimeInForce.POST_ONLY else 2_010.0 if is_buy else 1_990.0
        yield OrderIntent(
            order_id=f"{RUN}-{number}",
            instrument_id=place.instrument_id,
            qty_lots=lots if is_buy else -lots,
            limit_ticks=ticks.ceil_ticks(px),
            time_in_force=place.time_in_force,
            reduce_only=False,
            reason="bench",
            reference_px=2_000.0,
            decided_ns=time.time_ns(),
        )


async def send_orders(
    gateway: CcxtGateway,
    watch: Stopwatch,
    server: Server,
    intents: Iterator[OrderIntent],
    updates_per_s: int,
    count: int,
) -> list[Timing]:
    """Send orders one after another; return how long each took to leave, to arrive, and to be acknowledged."""
    await server.quote(updates_per_s)
    sent: list[tuple[int, int, int]] = []
    until_s = time.perf_counter() + ROW_S
    while len(sent) < count and time.perf_counter() < until_s:
        intent = next(intents)
        watch.follow(intent.order_id)
        began_ns = time.perf_counter_ns()
        gateway.submit(SubmitOrder(intent))
        await watch.until(lambda: watch.accepted_ns)
        sent.append((began_ns, watch.sent_ns, watch.accepted_ns))
        if intent.time_in_force is TimeInForce.POST_ONLY:
            gateway.submit(CancelOrder(intent.order_id, intent.instrument_id, "bench"))
            await watch.until(lambda: watch.is_canceled)
        await asyncio.sleep(PAUSE_S)
    received = await server.quote(updates_per_s)
    if len(received) != len(sent):
        raise SystemExit(f"expected {len(sent)} orders to arrive, each once, found {len(received)}")
    return [
        Timing(sent_ns - began_ns, received_ns - began_ns, accepted_ns - began_ns)
        for (began_ns, sent_ns, accepted_ns), received_ns in zip(sent, received, strict=True)
    ]


def row_of(timings: list[Timing]) -> dict[str, Any]:
    """Return p50, p99 and the most of each stretch, in ms."""
    stretches = {f"{name[:-3]}_ms": spread_ms([getattr(one, name) for one in timings]) for name in Timing._fields}
    return {"orders": len(timings), **stretches}


def spread_ms(took_ns: list[int]) -> dict[str, float]:
    """Return p50, p99 and the most in ms."""
    p50, p99 = np.percentile(took_ns, (50, 99)) / NS_PER_MS
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "max": round(max(took_ns) / NS_PER_MS, 3)}


# What ccxt and aiohttp take of it -------------------------------------------------------------------------------------


async def split_of(
    place: Place, settings: VenueSettings, server: Server, intents: Iterator[OrderIntent], quiet: list[Timing]
) -> dict[str, float]:
    """Return whose the time until an order leaves is, at p50 in ms: what is not ccxt's or aiohttp's is ours.

    The same orders go straight through ccxt, whose signing and whose HTTP client are then timed alone.
    """
    whole_ms = float(np.median([one.sent_ns for one in quiet])) / NS_PER_MS
    if place.time_in_force is TimeInForce.POST_ONLY:
        return {"ours": round(whole_ms, 3)}  # our own connection: ccxt has no part in it before the answer
    exchange = open_exchange(settings, server.credentials)
    try:
        markets = await Markets.load(exchange, settings.venue, settings.underlyings)
        instrument = markets.get(place.instrument_id)
        assert instrument is not None
        send_once(exchange)
        words = order_words_of(place.exchange_id)
        words.prepare(exchange)
        through_ccxt, signing, through_aiohttp = [], [], []
        until_s = time.perf_counter() + ROW_S
        while len(signing) < len(quiet) and time.perf_counter() < until_s:
            intent = next(intents)
            amount = markets.amount_of(instrument, abs(intent.qty_lots))
            terms = OrderTerms(intent, instrument, markets.symbol_of(place.instrument_id), amount)
            through_ccxt.append(await time_to_send(lambda terms=terms: words.create(exchange, terms)))
            await asyncio.sleep(PAUSE_S)
            signing.append(time_signing(place, exchange, terms))
            through_aiohttp.append(await time_to_send(lambda: probe(place, exchange, settings)))
            await asyncio.sleep(PAUSE_S)
        await server.quote(0)
    finally:
        await exchange.close()
    direct_ms, signing_ms, aiohttp_ms = (
        float(np.median(took_ns)) / NS_PER_MS for took_ns in (through_ccxt, signing, through_aiohttp)
    )
    parts = {
        "ours": whole_ms - direct_ms,
        "ccxt_signing": signing_ms,
        "ccxt_building": direct_ms - signing_ms - aiohttp_ms,
        "aiohttp": aiohttp_ms,
    }
    return {name: round(part_ms, 3) for name, part_ms in parts.items()}


async def time_to_send(call: Callable[[], Awaitable[object]]) -> int:
    """Return how many ns after the start of a call its first byte is handed to the socket."""
    sent_ns: list[int] = []
    began_ns = time.perf_counter_ns()
    with Attempt(lambda: sent_ns.append(time.perf_counter_ns())):
        await call()
    return sent_ns[0] - began_ns


def time_signing(place: Place, exchange: ccxt.pro.Exchange, terms: OrderTerms) -> int:
    """Return how many ns ccxt takes to sign what it sends for an order, building it apart."""
    if place.exchange_id == "hyperliquid":
        price, amount = f"{terms.px:g}", f"{terms.amount:g}"
        order = {
            "a": 1,
            "b": True,
            "p": price,
            "s": amount,
            "r": False,
            "t": {"limit": {"tif": "Ioc"}},
            "c": "0x" + 32 * "e",
        }
        action = {"type": "order", "orders": [order], "grouping": "na"}
        began_ns = time.perf_counter_ns()
        exchange.sign_l1_action(action, exchange.milliseconds())
        return time.perf_counter_ns() - began_ns
    params = {"symbol": place.instrument_id, "side": "BUY", "type": "LIMIT", "price": terms.px, "amount": terms.amount}
    params |= {"label": terms.intent.order_id, "time_in_force": "immediate_or_cancel"}
    path, api, method = ("order", ["fapiPrivate"], "POST")
    if place.exchange_id == "deribit":
        path, api, method = ("buy", ["private"], "GET")
    began_ns = time.perf_counter_ns()
    exchange.sign(path, api, method, params)
    return time.perf_counter_ns() - began_ns


async def probe(place: Place, exchange: ccxt.pro.Exchange, settings: VenueSettings) -> None:
    """Ask something public through the HTTP session that ccxt uses, without ccxt."""
    method, path = place.probe
    body = b'{"type":"meta"}' if method == "POST" else None
    url = origin_of(settings.options["urls"]["api"]) + path
    headers = {"Content-Type": "application/json"}
    async with exchange.session.request(method, url, data=body, headers=headers) as answer:
        await answer.read()


def origin_of(urls: dict[str, Any]) -> str:
    """Return the scheme and host of the venue's HTTP address."""
    url = next(URL(text) for text in urls.values() if isinstance(text, str) and text.startswith("http"))
    return str(url.origin())


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        uvloop.run(serve(sys.argv[2]))
    else:
        main()
