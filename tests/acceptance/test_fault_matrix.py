"""Faults that concern several parts at once, on a live vault against a loopback Deribit; docs/reliability.md lists all.

The name of each test begins with the number of its fault.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import msgspec
import pytest

from bot.domain.errors import JournalError
from bot.domain.events import CancelOrder, QueryOrder, SubmitOrder
from bot.domain.orders import Fill, OrderRejected, OrderTruth, OutcomeLost
from bot.domain.venues import InstrumentDelisted
from tests.acceptance.live_vaults import LiveVault, live_vault
from tests.acceptance.rehearsal import HEDGE
from tests.runtime.command_line import PATIENCE_S
from tests.venues.faults import StreamFault, drop_reply, http, reject, silence
from tests.venues.matching import State


async def test_f02_a_fill_the_ledger_never_saw_is_found_after_a_kill() -> None:
    async with live_vault() as vault:
        async with vault.running():
            await vault.even()
            await vault.soon(lambda: vault.is_even and not vault.engine_orders, "even, and nothing under way")
            for stream in ("orders", "fills"):
                vault.faults.always(stream, StreamFault.SKIP)
            for operation in ("query", "open_orders", "trades"):
                vault.faults.always(operation, http(503))
            vault.faults.always("create", drop_reply())
            before = len(vault.book.trades)
            await vault.move(2_004.0)  # by less than the slippage allowed: an order at the old price is filled too
            await vault.soon(lambda: len(vault.book.trades) > before, "a fill")
            await vault.kill()
            assert vault.ledger_lots != vault.venue_lots
        vault.faults.clear()
        async with vault.running():
            await vault.even()
        vault.check_orders()
        told = [fill.trade_id for fill in vault.events(Fill)] + [
            fill.trade_id for truth in vault.events(OrderTruth) for fill in truth.fills
        ]
        assert {trade_id.rpartition("-")[2] for trade_id in told} == {trade.trade_id for trade in vault.book.trades}


async def test_f03_resting_orders_and_a_position_without_history_are_kept() -> None:
    """Nobody cancels fourteen orders that rest, and what no fill explains is adopted, not guessed at."""
    async with live_vault() as vault:
        book = vault.book
        for number in range(14):
            book.place(HEDGE, is_buy=True, amount=0.1, px=1_900.0 + number, client_id=f"desk-{number}")
        book.foreign_trade(HEDGE, is_buy=True, amount=3.0, px=1_990.0)
        book.trades.clear()
        async with vault.running():
            await vault.soon(lambda: vault.state == "reduce_only" and vault.ledger_lots == 300, "an adoption")
            assert len(book.open_orders()) == 14
            await vault.kill()
        async with vault.running():
            await vault.soon(lambda: vault.state == "reduce_only" and vault.ledger_lots == 300, "the same again")
            assert len(book.open_orders()) == 14
        assert not [command for command in vault.commands() if isinstance(command, CancelOrder)]


async def test_f04_fills_told_twice_and_again_after_a_restart_count_once() -> None:
    async with live_vault() as vault:
        vault.faults.always("fills", StreamFault.DUPLICATE)
        async with vault.running():
            await vault.even()
            await vault.kill()
        async with vault.running():  # asks for every trade of the last minutes
            await vault.even()
            await vault.move(2_010.0)
            await vault.soon(lambda: vault.venue_lots > 500, "another hedge")
            await vault.even()
        vault.check_orders()


async def test_f07_a_position_outlives_the_daemon_and_the_journal() -> None:
    """With its journal a restart knows the position; without it the position is adopted and a person asked."""
    async with live_vault() as vault:
        async with vault.running():
            await vault.even()
            held_lots = vault.venue_lots
            await vault.kill()
        async with vault.running():
            await vault.even()
            assert (vault.ledger_lots, vault.state) == (held_lots, "running")
            await vault.kill()
        for path in vault.folder.glob("rehearsal.sqlite*"):
            path.unlink()
        vault.book.trades.clear()
        async with vault.running():
            await vault.soon(lambda: vault.ledger_lots == held_lots, "an adoption")
            assert vault.state == "reduce_only"
            assert vault.venue_lots == held_lots


async def test_f08_a_position_nobody_booked_is_adopted_and_a_person_asked() -> None:
    async with live_vault() as vault, vault.running() as session:
        await vault.even()
        before_lots = vault.venue_lots
        for stream in ("orders", "fills"):
            vault.faults.always(stream, StreamFault.SKIP)
        vault.book.foreign_trade(HEDGE, is_buy=True, amount=0.5, px=1_995.0)
        vault.book.trades.pop()  # no trade tells of it, only the position
        await vault.soon(lambda: vault.ledger_lots == before_lots + 50, "an adoption")
        assert vault.state == "reduce_only"
        assert "adopted" in session.engine.state_reason


async def test_f09_a_position_the_venue_lost_is_written_off() -> None:
    """The first order after it hedges the delta that is then true; nothing is sent while it is only suspected."""
    async with live_vault() as vault, vault.running() as session:
        await vault.even()
        sent = len(vault.book.orders)
        for stream in ("orders", "fills"):
            vault.faults.always(stream, StreamFault.SKIP)
        vault.book.self_close(HEDGE)
        vault.book.trades.pop()
        await vault.soon(lambda: session.engine.accounts.mismatches, "a suspicion")
        assert len(vault.book.orders) == sent + 1  # the venue's own
        await vault.soon(lambda: session.engine.accounts.adoption_count == 1, "a write-off")
        await vault.even()
        assert vault.state == "reduce_only"


@pytest.mark.parametrize("is_executed", [True, False])
async def test_f10_an_order_without_an_answer_is_unknown_until_the_venue_says(is_executed: bool) -> None:
    async with live_vault() as vault:
        async with vault.running():
            await vault.even()
            for stream in ("orders", "fills"):
                vault.faults.always(stream, StreamFault.SKIP)
            for operation in ("query", "open_orders", "trades"):
                vault.faults.always(operation, http(503))
            vault.faults.next("create", silence(is_executed=is_executed))
            sent = len(vault.book.orders)
            await vault.move(2_010.0)
            await vault.soon(lambda: vault.unknown, "an unknown outcome")
            await vault.soon(lambda: vault.refusal == "unknown_outcome", "a refusal that says so")
            assert vault.decision.delta_low_base < vault.decision.delta_high_base
            (lost,) = vault.unknown
            await asyncio.sleep(0.2)
            assert len(vault.book.orders) == sent + is_executed, "something was sent while nobody knew"
            vault.faults.clear()
            await vault.even()
        vault.check_orders()
        assert lost in {event.order_id for event in vault.events(OutcomeLost)}
        assert lost in {command.order_id for command in vault.commands() if isinstance(command, QueryOrder)}
        assert vault.book.orders_of(lost) if is_executed else not vault.book.orders_of(lost)


async def test_f11_an_order_whose_cancel_got_no_answer_counts_as_live() -> None:
    async with live_vault(is_maker=True) as vault:
        async with vault.running():
            vault.faults.next("cancel", silence(is_executed=False), count=2)  # over the connection, then by REST
            await vault.soon(lambda: vault.faults.asked.get("cancel"), "a cancel, to cross instead")
            await vault.soon(lambda: vault.decision.delta_low_base < vault.decision.delta_high_base, "an interval")
            (resting,) = vault.book.open_orders()
            await vault.soon(lambda: vault.faults.asked["cancel"] > 2, "another cancel once the truth was known")
            await vault.even()
            assert resting.state is State.CANCELED
            calls = [name.partition("/")[2].partition("_")[0] for name, _ in vault.server.calls]
            told = [name for name in calls if name in {"buy", "sell", "cancel"}]
            assert told[:4] == [told[0], "cancel", "cancel", "cancel"], "sent beside an order that may yet fill"
        vault.check_orders()
        assert resting.client_id in {truth.order_id for truth in vault.events(OrderTruth) if truth.state == "open"}


async def test_f12_a_rate_limit_is_waited_out_without_a_storm() -> None:
    async with live_vault() as vault:
        async with vault.running():
            await vault.even()
            vault.faults.always("create", http(429, retry_after_s=0.3))
            asked = vault.faults.asked["create"]
            await vault.move(2_010.0)
            await asyncio.sleep(0.6)
            assert vault.faults.asked["create"] - asked <= 8
            vault.faults.clear()
            await vault.even()
        vault.check_orders()


async def test_f13_silent_sockets_are_replaced_and_hedging_goes_on() -> None:
    async with live_vault() as vault:
        async with vault.running():
            await vault.even()
            vault.server.freeze()
            await vault.move(2_010.0)
            await vault.soon(lambda: vault.venue_lots > 500, "a hedge")
            await vault.even()
        vault.check_orders()


async def test_f14_what_was_missed_while_disconnected_is_not_traded_on() -> None:
    """The market moves while the sockets are away and again while they skip: orders are priced at what is true now."""
    async with live_vault() as vault:
        async with vault.running():
            await vault.even()
            vault.faults.next("quotes", StreamFault.SKIP, count=20)
            vault.server.disconnect()
            await vault.move(2_010.0)
            await vault.soon(lambda: vault.venue_lots > 500, "a hedge")
            await vault.even()
            assert vault.book.trades[-1].px == pytest.approx(2_010.0, abs=0.2)
        vault.check_orders()


async def test_f18_a_locked_journal_sends_nothing_and_leaves_nothing_resting() -> None:
    async with live_vault(is_maker=True) as vault:
        with pytest.raises(ExceptionGroup) as caught:
            async with vault.running():
                await hold_the_journal(vault)
        assert caught.group_contains(JournalError, match="could not be written|last flush failed")
        vault.check_orders()


async def hold_the_journal(vault: LiveVault) -> None:
    """Keep everybody from writing until the venue has nothing of ours any more."""
    await vault.soon(vault.book.open_orders, "a resting order")
    sent = len(vault.book.orders)
    with closing(sqlite3.connect(vault.journal_path)) as database:
        database.execute("BEGIN EXCLUSIVE")
        async with asyncio.timeout(PATIENCE_S):
            while vault.book.open_orders():  # noqa: ASYNC110 — the venue tells nobody
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        database.rollback()
    assert len(vault.book.orders) == sent


async def test_f22_without_one_venue_the_hedge_moves_to_the_other() -> None:
    async with live_vault() as other, live_vault(changes=second_venue(other)) as vault:
        for name, value in other.server.credentials.items():
            vault.environ[f"EVENKEEL_SECOND_{name.upper()}"] = value
        async with vault.running():
            await vault.soon(lambda: vault.venue_lots > 200 and vault.refusal == "", "a hedge on the preferred venue")
            held_lots = vault.venue_lots
            await vault.server.go_dark()
            await asyncio.sleep(0.6)  # until its account is older than an account may be
            other.book.foreign_trade(HEDGE, is_buy=True, amount=6.0, px=2_000.0)  # what is to be hedged now
            await vault.soon(lambda: other.venue_lots < 600, "a hedge elsewhere")
            assert vault.ledger_lots == vault.venue_lots == held_lots, "the position there is still counted"
        vault.check_orders(other.book)
        (last,) = [command for command in vault.commands() if isinstance(command, SubmitOrder)][-1:]
        assert last.intent.instrument_id == f"second:{HEDGE}"
        assert f"instead ({HEDGE} " in last.intent.reason


def second_venue(other: LiveVault) -> dict[str, str]:
    """Return the changes to a vault file that make `other`'s server its second venue."""
    hedge = f"instrument: {HEDGE}, maker_bps: 0, taker_bps: 5"
    options = msgspec.json.encode(other.server.options).decode()
    terms = (
        "timeout_s: 0.3, requests_per_s: 400, burst_requests: 200, account_poll_s: 0.3, fills_poll_s: 0.2, "
        "absence_s: 0.3"
    )
    return {
        "underlyings: [ETH]": f"  second: {{exchange: deribit, options: {options}, {terms}}}\nunderlyings: [ETH]",
        "account_s: 5": "account_s: 0.5",
        f"hedge: {{{hedge}}}": f"hedge: [{{{hedge}}}, {{{hedge.replace(HEDGE, f'second:{HEDGE}')}}}]",
    }


async def test_f23_cut_off_nothing_rests_and_nothing_is_sent_until_the_account_is_known() -> None:
    changes = {"max_rest_s: 0.4": "max_rest_s: 30", "quote_s: 2, index_s: 2": "quote_s: 1, index_s: 1"}
    async with live_vault(is_maker=True, changes=changes) as vault:
        async with vault.running():
            await vault.soon(vault.book.open_orders, "a resting order")
            await vault.server.go_dark()
            await vault.soon(lambda: not vault.book.open_orders(), "the dead man's switch")
            await vault.soon(lambda: vault.refusal == "venue_down" or vault.refusal.startswith("stale"), "a refusal")
            vault.book.foreign_trade(HEDGE, is_buy=True, amount=0.2, px=2_000.0)
            sent = len(vault.book.orders)
            await vault.server.come_back()
            await vault.soon(lambda: vault.ledger_lots == vault.venue_lots == 20, "ledger = venue")
            await vault.soon(lambda: len(vault.book.orders) > sent, "an order")
        vault.check_orders()


async def test_f24_without_a_dead_mans_switch_nothing_rests() -> None:
    """Not even as a maker; once a hedge is old enough it crosses, which needs no protection."""
    async with live_vault(is_maker=True) as vault:
        vault.faults.always("arm", reject())
        async with vault.running():
            await vault.soon(lambda: vault.events(OrderRejected), "a refusal")
            assert not [order for order in vault.book.orders.values() if order.state is State.OPEN]
            await vault.even()
        assert {order.time_in_force for order in vault.book.orders.values()} == {"ioc"}


async def test_f32_an_auto_deleveraged_hedge_is_seen_and_only_what_reduces_is_sent() -> None:
    async with live_vault() as vault:
        async with vault.running() as session:
            await vault.even()
            vault.book.self_close(HEDGE, 2.0)
            await vault.soon(lambda: vault.state == "reduce_only", "a person to be asked")
            assert "foreign fill" in session.engine.state_reason
            await vault.even()
        vault.check_orders()


async def test_f35_after_a_liquidation_in_part_only_what_reduces_is_sent() -> None:
    async with live_vault() as vault:
        async with vault.running() as session:
            await vault.even()
            vault.book.self_close(HEDGE, 1.0, cause="liquidation")
            await vault.soon(lambda: vault.state == "reduce_only", "a person to be asked")
            assert "foreign fill" in session.engine.state_reason
            await vault.even()
        vault.check_orders()


async def test_f37_what_is_delisted_is_not_traded_and_stays_in_the_books() -> None:
    async with live_vault() as vault:
        async with vault.running():
            await vault.even()
            held_lots = vault.venue_lots
        sent = len(vault.book.orders)
        vault.book.delist(HEDGE)
        await vault.move(2_010.0)
        async with vault.running():
            await vault.soon(lambda: vault.refusal == "delisted", "a refusal that says so")
            assert vault.ledger_lots == held_lots
        assert len(vault.book.orders) == sent
        assert [event.instrument_id for event in vault.events(InstrumentDelisted)] == [HEDGE]
