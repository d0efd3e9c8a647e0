"""One need, two live venues at once: each gets its part of it, and a part that one refuses is decided anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bot.domain.events import SubmitOrder
from bot.domain.orders import OrderIntent
from tests.acceptance.live_vaults import LOT_BASE, LiveVault, live_vault
from tests.acceptance.rehearsal import HEDGE
from tests.acceptance.test_fault_matrix import second_venue
from tests.venues.faults import reject

NEED_BASE = 6.0
SHOWN_BASE = 2.5  # at the touch of each venue: less than is needed of either alone


@asynccontextmanager
async def two_venues() -> AsyncIterator[tuple[LiveVault, LiveVault]]:
    """A vault whose hedge may go to two venues with thin books, and the second of them."""
    async with live_vault() as other, live_vault(changes=second_venue(other)) as vault:
        for name, value in other.server.credentials.items():
            vault.environ[f"EVENKEEL_SECOND_{name.upper()}"] = value
        for one in (vault, other):
            one.market.sizes = (SHOWN_BASE,)
            one.market.show()
        yield vault, other


def total_base(vault: LiveVault, other: LiveVault) -> float:
    return (vault.venue_lots + other.venue_lots) * LOT_BASE


def ordered(vault: LiveVault) -> list[OrderIntent]:
    return [command.intent for command in vault.commands() if isinstance(command, SubmitOrder)]


async def need(vault: LiveVault, other: LiveVault) -> float:
    """Let a trade of somebody's be there to hedge, once all is even; return the hedge before it."""
    await vault.soon(lambda: total_base(vault, other) > 2.0 and not vault.engine_orders, "a hedge")
    await asyncio.sleep(0.5)
    before_base = total_base(vault, other)
    other.book.foreign_trade(HEDGE, is_buy=True, amount=NEED_BASE, px=2_000.0)
    return before_base


async def hedged(vault: LiveVault, other: LiveVault, before_base: float) -> None:
    """Wait until net delta has come from one edge of its band to the other, and no further."""
    width_base = 2.0
    await vault.soon(
        lambda: abs(total_base(vault, other) - before_base - width_base) < 0.1 and not vault.engine_orders,
        "a hedge",
    )


async def test_both_get_their_part_in_one_decision() -> None:
    async with two_venues() as (vault, other):
        async with vault.running():
            before_base = await need(vault, other)
            await hedged(vault, other, before_base)
        vault.check_orders(other.book)
        intents = ordered(vault)
        last_ns = intents[-1].decided_ns
        legs = {intent.instrument_id: intent for intent in intents if intent.decided_ns == last_ns}
        assert set(legs) == {HEDGE, f"second:{HEDGE}"}
        assert all("; split at" in intent.reason for intent in legs.values())
        assert min(abs(intent.qty_lots) for intent in legs.values()) * LOT_BASE >= 1.0


async def test_a_rejected_part_is_decided_anew() -> None:
    async with two_venues() as (vault, other):
        async with vault.running():
            before_base = await need(vault, other)
            other.faults.next("create", reject())
            await hedged(vault, other, before_base)
        vault.check_orders(other.book)
        refused = next(
            intent for intent in ordered(vault) if "; split at" in intent.reason and intent.instrument_id != HEDGE
        )
        assert refused.order_id not in {trade.client_id for trade in other.book.trades}
        again = [intent for intent in ordered(vault) if intent.decided_ns > refused.decided_ns]
        assert sum(intent.qty_lots for intent in again) == refused.qty_lots
