"""One live vault against one loopback Deribit on which things go wrong at random, and what must be true afterwards.

Everything is real but the money: vault file, daemon, journal on disk, engine, gateway, ccxt, HTTP and WebSocket, and
the venue's matching book. One seed is one story: where the market goes, and what goes wrong when. Odd seeds rest their
orders before they cross; every third one restarts in the middle; in every fifth somebody else trades on the account,
and in every seventh the venue closes a part of our position by itself.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from math import isnan
from pathlib import Path
from typing import Any

import msgspec

from bot.domain.decisions import Decision
from bot.domain.events import AmendOrder, SubmitOrder
from bot.domain.orders import Fill, OrderCanceled, OrderRejected, OrderState, OrderTruth
from bot.domain.units import NS_PER_S
from bot.runtime.configuration.config import load_vaults
from bot.runtime.daemon import Daemon
from bot.runtime.journal import Commands, Journal
from bot.runtime.live.session import LiveSession, open_live
from bot.runtime.operators.halt_marker import HaltMarker
from tests.runtime.command_line import PATIENCE_S
from tests.venues.deribit import DeribitServer
from tests.venues.faults import FaultScript, StreamFault, delay, drop_reply, drop_request, garbage, http, reject
from tests.venues.matching import Kind, Listing, VenueBook

HEDGE = "ETH_USDC-PERPETUAL"
DAY_MS = 86_400_000
MOST_ORDERS_PER_MIN = 2_000
MOST_ORDER_QUOTE = 20_000.0
MOST_VENUE_QUOTE = 60_000.0  # often reached: a hedge of this book may want twice that
LOT_BASE = 0.01
FEWEST_FAULTS = 6  # that make a story
LOWEST_PX, HIGHEST_PX = 1_700.0, 2_300.0
MAKER = ", style: maker, max_rest_s: 0.4, repeg_every_s: 0.05, escalate_bands: 3"

VAULT = """
vault: rehearsal
mode: live
feed: live
venues:
  deribit: {{options: {options}, timeout_s: 0.25, requests_per_s: 400, burst_requests: 200, account_poll_s: 0.3,
            fills_poll_s: 0.2, max_silence_s: 0.5, absence_s: 0.3}}
underlyings: [ETH]
numeraire: USD
book:
  - {{instrument: {call}, qty_base: -100}}
  - {{instrument: {put}, qty_base: -100}}
cash: {{USD: 500000}}
hedge: {{instrument: {hedge}, maker_bps: 0, taker_bps: 5{style}}}
policy: {{type: delta_band, half_width_base: 1.0}}
limits: {{max_order_quote: {most_order_quote}, max_orders_per_min: {most_orders}, daily_loss_quote: 1000000,
         max_hedges_same_way: 100, max_reject_streak: 1000}}
venue_limits: {{deribit: {most_venue_quote}}}
max_age: {{quote_s: 2, index_s: 2, vol_s: 5, account_s: 5}}
state_dir: {folder}
"""


class Story(msgspec.Struct, frozen=True):
    """What came of one seed. `faults` counts what went wrong by operation, `wrong` says what must not have happened."""

    seed: int
    orders: int
    trades: int
    faults: dict[str, int]
    unknown: int
    state: str
    wrong: tuple[str, ...]


class Market:
    """A coin that wanders, two options of a week on it, and a linear perpetual with a book to trade on."""

    sizes = (0.5, 3.0, 20.0)  # of what the book shows, one of them each time

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._random = random.Random(seed)
        now_ms = time.time_ns() // 1_000_000
        expiry_ms = (now_ms // DAY_MS + 8) * DAY_MS + 8 * 3_600_000
        self.px = 2_000.0
        day = time.strftime("%d%b%y", time.gmtime(expiry_ms / 1_000)).upper().lstrip("0")
        self.options = tuple(f"ETH-{day}-2000-{side}" for side in "CP")
        inverse = Listing(
            name="ETH-PERPETUAL", kind=Kind.PERPETUAL, coin="ETH", settle="ETH", is_inverse=True, contract_size=1.0,
            min_amount=1.0, tick_px=0.05,
        )  # fmt: skip
        linear = Listing(
            name=HEDGE, kind=Kind.PERPETUAL, coin="ETH", quote="USDC", settle="USDC", contract_size=0.01,
            min_amount=0.01, tick_px=0.05,
        )  # fmt: skip
        options = [
            Listing(
                name=name, kind=Kind.OPTION, coin="ETH", settle="ETH", is_inverse=True, contract_size=1.0,
                min_amount=1.0, tick_px=0.0001, expiry_ms=expiry_ms, strike=2_000.0, is_call=name.endswith("C"),
            )
            for name in self.options
        ]  # fmt: skip
        self.book = VenueBook([inverse, linear, *options], balances={"ETH": 1_000.0, "USDC": 10_000_000.0})
        self.show()

    def show(self) -> None:
        """Show the market as it is now."""
        book, px = self.book, self.px
        size = self._random.choice(self.sizes)
        book.set_index("ETH", px)
        book.set_quote("ETH-PERPETUAL", _tick(px) - 0.05, 50_000.0, _tick(px) + 0.05, 50_000.0)
        book.set_quote(HEDGE, _tick(px) - 0.1, size, _tick(px) + 0.1, size, deeper_asks=[(_tick(px) + 0.5, 30.0)])
        for name in self.options:
            book.set_vol(name, 0.6, 0.59, 0.61, px)
            book.set_quote(name, 0.03, 10.0, 0.0305, 10.0)

    async def wander(self) -> None:
        """Move, a few times a second by much and often by little, until cancelled."""
        while True:
            self.px = min(max(self.px * (1.0 + self._random.gauss(0.0, 0.0012)), LOWEST_PX), HIGHEST_PX)
            self.show()
            await asyncio.sleep(0.02)


def misfortune(seed: int) -> FaultScript:
    """A script that lets anything go wrong, often."""
    script = FaultScript(seed)
    often = random.Random(seed).uniform(0.02, 0.12)
    for fault in (
        drop_reply(),
        drop_request(),
        delay(reply_s=0.5),
        delay(request_s=0.2),
        http(502, is_executed=True),
        http(503),
        http(429, retry_after_s=0.05),
        garbage(),
        reject(),
    ):
        script.randomly("create", fault, often / 2)
        script.randomly("cancel", fault, often / 2)
        script.randomly("query", fault, often / 4)
    for operation in ("trades", "open_orders", "positions", "balance"):
        script.randomly(operation, http(502), often)
        script.randomly(operation, drop_reply(), often / 2)
    for stream in ("orders", "fills"):
        for twist in (StreamFault.DUPLICATE, StreamFault.SKIP, StreamFault.REORDER):
            script.randomly(stream, twist, often)
    script.randomly("fills", StreamFault.DISCONNECT, often / 4)
    script.randomly("quotes", StreamFault.DISCONNECT, often / 100)
    script.randomly("quotes", StreamFault.FREEZE, often / 400)
    script.randomly("quotes", StreamFault.SKIP, often)
    return script


async def rehearse(seed: int, folder: Path, *, troubled_s: float = 1.5, calm_s: float = 2 * PATIENCE_S) -> Story:
    """Trade through `troubled_s` of trouble, then calm down for at most `calm_s`, and tell the story."""
    market = Market(seed)
    script = misfortune(seed)
    script.is_active = False
    async with DeribitServer(market.book, faults=script) as server:
        path = folder / f"rehearsal-{seed}.yaml"
        path.write_text(
            VAULT.format(
                options=_flow(server.options), call=market.options[0], put=market.options[1], hedge=HEDGE,
                folder=folder / str(seed), most_orders=MOST_ORDERS_PER_MIN, most_order_quote=MOST_ORDER_QUOTE,
                most_venue_quote=MOST_VENUE_QUOTE, style=MAKER if seed % 2 else "",
            )
        )  # fmt: skip
        (vault,) = load_vaults([path], allow_live=True)
        environ = {f"EVENKEEL_DERIBIT_{name.upper()}": text for name, text in server.credentials.items()}
        (folder / str(seed)).mkdir()
        journal_path = folder / str(seed) / "rehearsal.sqlite"
        moving = asyncio.create_task(market.wander())
        wrong: list[str] = []
        try:
            parts = 2 if seed % 3 == 0 else 1
            for part in range(parts):
                with Journal.open(journal_path, for_writing=True) as journal:
                    async with open_live(vault, path, journal, environ) as session:
                        is_last = part == parts - 1
                        calm = calm_s if is_last else 0.0
                        wrong += await _run(
                            session, journal, script, market, folder / str(seed), troubled_s / parts, calm
                        )
        finally:
            moving.cancel()
            with suppress(asyncio.CancelledError):
                await moving
        wrong += _look_at_journal(journal_path)
        wrong += _look_at_orders(market.book)
        unknown = sum(1 for order in session.engine.orders.live.values() if order.state is OrderState.UNKNOWN)
        happened = Counter(operation for operation, _ in script.happened)
        return Story(
            seed,
            len(market.book.orders),
            len(market.book.trades),
            dict(happened),
            unknown,
            str(session.engine.state),
            tuple(wrong),
        )


async def _run(
    session: LiveSession,
    journal: Journal,
    script: FaultScript,
    market: Market,
    folder: Path,
    troubled_s: float,
    calm_s: float,
) -> list[str]:
    stop = asyncio.Event()
    marker = HaltMarker(folder / "rehearsal.halted")
    daemon = Daemon(session, journal, socket_path=folder / "s", speed=1.0, progress=lambda _now_ns: None, marker=marker)
    task = asyncio.create_task(daemon.run(stop))
    try:
        await _until(lambda: market.book.trades or task.done(), PATIENCE_S)
        script.is_active = True
        await asyncio.sleep(troubled_s / 2)
        _interfere(market)
        await asyncio.sleep(troubled_s / 2)
        await _until(
            lambda: len(script.happened) >= FEWEST_FAULTS or task.done(), PATIENCE_S
        )  # it may have stood still
        wrong = []
        if calm_s:
            script.is_active = False
            await _until(lambda: task.done() or not _unsettled(session, market.book), calm_s)
            wrong = _unsettled(session, market.book)
        wrong += [f"the daemon ended: {task.exception()!r}"] if task.done() else []
    finally:
        stop.set()
        await asyncio.wait([task], timeout=PATIENCE_S)
    return wrong


def _interfere(market: Market) -> None:
    """Let somebody else trade on the account, or the venue itself, as the seed says."""
    seed, book = market.seed, market.book
    quotes = book.quotes[HEDGE]
    if seed % 5 == 0 and quotes.asks:
        book.foreign_trade(HEDGE, is_buy=seed % 2 == 0, amount=0.7, px=quotes.asks[0].px)
    if seed % 7 == 0 and book.position(HEDGE).amount:
        book.self_close(HEDGE, 0.25)


def _unsettled(session: LiveSession, book: VenueBook) -> list[str]:
    """Say what is not yet as it must be once the trouble is over."""
    found: list[str] = []
    for desk in session.engine.desks.values():
        ledger_base = sum(holding.qty for holding in desk.book.hedges.values())
        venue_base = book.position(HEDGE).amount
        if abs(ledger_base - venue_base) > 1e-9:
            found.append(f"expected ledger = venue, found {ledger_base:g} in the ledger and {venue_base:g} there")
        if desk.decision is not None and _is_unexplained(desk.decision):
            decision = desk.decision
            span = f"{decision.delta_low_base:.3f}…{decision.delta_high_base:.3f}"
            found.append(f"net delta {span} outside {decision.low_base:.3f}…{decision.high_base:.3f}, and no reason")
    unknown = [order.intent.order_id for order in session.engine.orders.live.values() if order.state == "unknown"]
    if unknown:
        found.append(f"orders of unknown outcome: {unknown}")
    return found


def _is_unexplained(decision: Decision) -> bool:
    """Tell whether a decision left net delta outside its band with neither an order nor a reason."""
    if decision.refusal is not None or decision.order_id is not None or isnan(decision.low_base):
        return False
    return decision.delta_high_base < decision.low_base or decision.delta_low_base > decision.high_base


def _look_at_orders(book: VenueBook) -> list[str]:
    """Say what no trouble excuses: an intent that became two orders, or an order beyond its limits."""
    found = []
    by_client_id = Counter(order.client_id for order in book.orders.values() if order.client_id)
    found += [f"{client_id} was placed {count} times" for client_id, count in by_client_id.items() if count > 1]
    for order in book.orders.values():
        value_quote = order.amount * (order.px or HIGHEST_PX)
        if value_quote > MOST_ORDER_QUOTE * 1.01:
            found.append(f"{order.client_id} is worth {value_quote:,.0f}, limit {MOST_ORDER_QUOTE:,.0f}")
    if abs(book.position(HEDGE).amount) * LOWEST_PX > MOST_VENUE_QUOTE:  # the journal says it more exactly
        found.append(f"a position of {book.position(HEDGE).amount:g}, limit {MOST_VENUE_QUOTE:,.0f}")
    if len(book.open_orders()) > 1:
        found.append(f"{len(book.open_orders())} orders rest, where one need makes one order")
    return found


class Risked:
    """What a journal says was held and at stake, moment by moment: what is unknown or under way counts in full."""

    def __init__(self) -> None:
        self.held_lots = 0
        self.left_lots: dict[str, int] = {}  # by order that is not known to be over
        self._seen: set[str] = set()

    def take(self, event: Any) -> None:
        """Take in one journalled event."""
        for fill in (event,) if isinstance(event, Fill) else getattr(event, "fills", ()):
            if fill.trade_id not in self._seen:
                self._seen.add(fill.trade_id)
                self.held_lots += fill.qty_lots
                if fill.order_id in self.left_lots:
                    self.left_lots[fill.order_id] -= fill.qty_lots
        is_over = isinstance(event, OrderRejected | OrderCanceled) or (
            isinstance(event, OrderTruth) and event.state.is_terminal
        )
        if is_over:
            self.left_lots.pop(event.order_id, None)

    def worst_lots(self) -> int:
        """The largest position that may come of it."""
        buys = sum(lots for lots in self.left_lots.values() if lots > 0)
        sells = sum(lots for lots in self.left_lots.values() if lots < 0)
        return max(abs(self.held_lots + buys), abs(self.held_lots + sells))


def _look_at_journal(path: Path) -> list[str]:
    """Recompute from the journal alone what was ordered and risked at each moment."""
    sent_ns: list[int] = []
    found = []
    ids: set[str] = set()
    risked = Risked()
    with Journal.open(path, for_writing=False) as journal:
        for _, record in journal.records():
            for event in getattr(record, "events", ()):
                risked.take(event)
            for command in getattr(record, "commands", ()):
                if isinstance(command, AmendOrder):
                    sent_ns.append(command_ns(record))
                if not isinstance(command, SubmitOrder):
                    continue
                intent = command.intent
                if intent.order_id in ids:
                    found.append(f"{intent.order_id} was ordered twice")
                ids.add(intent.order_id)
                sent_ns.append(command_ns(record))
                before_lots = risked.worst_lots()
                risked.left_lots[intent.order_id] = intent.qty_lots
                worst_quote = risked.worst_lots() * LOT_BASE * intent.reference_px
                if worst_quote > MOST_VENUE_QUOTE * 1.001 and risked.worst_lots() > before_lots:
                    found.append(f"{intent.order_id} put {worst_quote:,.0f} at stake, limit {MOST_VENUE_QUOTE:,.0f}")
    for first, last in zip(sent_ns, sent_ns[MOST_ORDERS_PER_MIN:], strict=False):
        if last - first < 60 * NS_PER_S:
            found.append(f"more than {MOST_ORDERS_PER_MIN} orders within a minute")
            break
    if not ids:
        found.append("expected orders in the journal, found none")
    return found


def command_ns(record: Any) -> int:
    """When the commands of a row were decided."""
    assert isinstance(record, Commands)
    return record.now_ns


async def _until(condition: Any, timeout_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 — the condition is anything
                await asyncio.sleep(0.02)


def _tick(px: float) -> float:
    return round(px * 20.0) / 20.0


def _flow(value: object) -> str:
    """A mapping as YAML's flow style has it, which JSON is."""
    return msgspec.json.encode(value).decode()
