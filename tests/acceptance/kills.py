"""A live daemon killed without warning, again and again, against a loopback venue that outlives it."""

from __future__ import annotations

import asyncio
import random
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from bot.runtime.journal import verify
from bot.runtime.operators.control import NotRunningError, ask
from tests.acceptance.rehearsal import HEDGE, MOST_ORDER_QUOTE, MOST_ORDERS_PER_MIN, MOST_VENUE_QUOTE, VAULT, Market
from tests.runtime.command_line import PATIENCE_S, CommandLine, Process
from tests.venues.deribit import DeribitServer
from tests.venues.faults import FaultScript, delay, drop_reply
from tests.venues.matching import VenueBook


class KillStory(msgspec.Struct, frozen=True):
    """What many kills left behind; `unanswered` of them fell between sending an order and hearing of it."""

    kills: int
    unanswered: int
    orders: int
    trades: int
    wrong: tuple[str, ...]


async def kill_again_and_again(evenkeel: CommandLine, folder: Path, kills: int, seed: int) -> KillStory:
    """Start the daemon, kill it at a random moment around an order, `kills` times; then let it run, and compare."""
    chance = random.Random(seed)
    market = Market(seed)
    book = market.book
    script = FaultScript(seed)
    script.randomly("create", delay(reply_s=0.15), 0.6)
    script.randomly("create", drop_reply(after_s=0.05), 0.2)
    unanswered = 0
    async with DeribitServer(book, faults=script) as server:
        _write_vault(folder, market, server)
        moving = asyncio.create_task(market.wander())
        try:
            for _ in range(kills):
                process = await asyncio.to_thread(
                    evenkeel.start, "--log-json", "run", "rehearsal.yaml", "--live", cwd=folder
                )
                before = len(book.orders)
                await _until_ordered(process, book, before)
                await asyncio.sleep(chance.choice([0.0, 0.0, 0.01, 0.03, 0.1, 0.3]) * chance.random())
                process.send(signal.SIGKILL)
                result = await asyncio.to_thread(process.wait)
                if result.code != -signal.SIGKILL:
                    return KillStory(kills, unanswered, len(book.orders), len(book.trades), (result.err[-2_000:],))
                unanswered += server_was_waiting(script)
            script.is_active = False
            wrong = await _let_it_settle(evenkeel, folder, market)
        finally:
            moving.cancel()
            await asyncio.gather(moving, return_exceptions=True)
    placed: dict[str, int] = {}
    for order in book.orders.values():
        placed[order.client_id] = placed.get(order.client_id, 0) + 1
    wrong += [f"{client_id} was placed {count} times" for client_id, count in placed.items() if count > 1]
    found = verify(folder / "state" / "rehearsal.sqlite")
    wrong += [found.fault.detail] if found.fault is not None else []
    return KillStory(kills, unanswered, len(book.orders), len(book.trades), tuple(wrong))


def server_was_waiting(script: FaultScript) -> bool:
    """Tell whether the newest order's answer was held back, so that the kill fell before it."""
    return bool(script.happened) and script.happened[-1][0] == "create"


async def _let_it_settle(evenkeel: CommandLine, folder: Path, market: Market) -> list[str]:
    process = await asyncio.to_thread(evenkeel.start, "--log-json", "run", "rehearsal.yaml", "--live", cwd=folder)
    socket = folder / "state" / "rehearsal.sock"
    problem = "it never answered"
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while problem and not process.is_over:
                await asyncio.sleep(0.2)
                try:
                    view = await asyncio.to_thread(ask, socket, {"verb": "view"})
                except (NotRunningError, TimeoutError):
                    continue
                problem = _difference(view, market)
    process.send(signal.SIGINT)
    result = await asyncio.to_thread(process.wait)
    return [problem or result.err[-2_000:]] if problem or result.code else []


def _difference(view: dict[str, Any], market: Market) -> str:
    """Say how the daemon's ledger differs from the venue; "" if it does not and every outcome is known."""
    if view["state"] == "reconciling":
        return "it still reconciles"
    ledger_lots = view["desks"][0]["hedge_lots"]
    venue_lots = round(market.book.position(HEDGE).amount / 0.01)
    unknown = [order for order in view["orders"] if order["state"] == "unknown"]
    if unknown:
        return f"orders of unknown outcome: {unknown}"
    if ledger_lots != venue_lots:
        return f"expected ledger = venue, found {ledger_lots} and {venue_lots} lots"
    return ""


def _write_vault(folder: Path, market: Market, server: DeribitServer) -> None:
    keys = folder / "keys.yaml"
    keys.touch(0o600)
    keys.write_text("".join(f"{name}: {text}\n" for name, text in server.credentials.items()))
    text = VAULT.format(
        options=msgspec.json.encode(server.options).decode(), call=market.options[0], put=market.options[1],
        hedge=HEDGE, folder="state", most_orders=MOST_ORDERS_PER_MIN, most_order_quote=MOST_ORDER_QUOTE,
        most_venue_quote=10 * MOST_VENUE_QUOTE, style="",  # at a limit it would wait for the market instead of a kill
    )  # fmt: skip
    (folder / "rehearsal.yaml").write_text(text.replace("deribit: {", "deribit: {credentials: keys.yaml, "))


async def _until_ordered(process: Process, book: VenueBook, before: int) -> None:
    """Wait until the venue has an order more than `before`, or the process is over, or patience is."""
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while len(book.orders) <= before and not process.is_over:  # noqa: ASYNC110 — another process
                await asyncio.sleep(0.002)
