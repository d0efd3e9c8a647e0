"""Hedges as transactions: what is said of an order, whatever becomes of its transaction."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from bot.domain.chain import ChainReport, GasPaid
from bot.domain.errors import JournalError
from bot.domain.events import AmendOrder, CancelOrder, QueryOrder
from bot.domain.orders import (
    AmendRejected,
    CancelRejected,
    Fill,
    FillReversed,
    GasBid,
    OrderAccepted,
    OrderCanceled,
    OrderRejected,
    OrderState,
    OrderTruth,
)
from bot.domain.venues import AccountReport
from bot.gateways.chain.nouns import TransactionRequest
from bot.gateways.chain.transaction_log import log_path
from tests.chains.anvil import GWEI
from tests.chains.world import World
from tests.gateways.chain.gateways import INSTRUMENT, Watched, watched


def gas_balance(stage: Watched) -> dict[str, list[float]]:
    """What was said of gas, by payment: it is paid, taken back, and paid again."""
    told: dict[str, list[float]] = {}
    for event in stage.told(GasPaid):
        told.setdefault(event.payment_id, []).append(event.gas_coin)
    return told


async def test_an_order_that_is_being_prepared_is_not_called_lost(world: World, tmp_path: Path) -> None:
    """Were it, the engine would decide anew, and both would be mined."""
    with watched(world, tmp_path) as stage:
        async with stage.running():
            with stage.proxy.answer_held("eth_call") as check:
                stage.gateway.submit(stage.order("r-1", -1000, 2990.0))
                await stage.until(lambda: check.is_known)
                stage.gateway.submit(QueryOrder("r-1", INSTRUMENT))
                await stage.until(lambda: len(stage.gateway._hedges._tasks) == 1)  # the question is dealt with
                assert not stage.told(OrderAccepted)
            await stage.until(lambda: stage.told(OrderAccepted))
            assert not stage.told(OrderTruth)
            stage.gateway.submit(QueryOrder("r-1", INSTRUMENT))
            (truth,) = await stage.until(lambda: stage.told(OrderTruth))
            assert truth.state is OrderState.OPEN
            stage.gateway.submit(QueryOrder("r-2", INSTRUMENT))
            await stage.until(lambda: len(stage.told(OrderTruth)) == 2)
            assert stage.told(OrderTruth)[1].state is OrderState.REJECTED, "of which nobody ever heard"


async def test_a_block_that_comes_while_a_hedge_is_checked_is_no_contradiction(world: World, tmp_path: Path) -> None:
    with watched(world, tmp_path) as stage:
        async with stage.running():
            with stage.proxy.answer_held("eth_call") as check:
                stage.gateway.submit(stage.order("r-1", -1000, 2900.0))
                await stage.until(lambda: check.is_known)
                world.anvil.set_automine(True)
                world.uniswap.move_to(world.pools["WETH/USDC-500"], world.trader, 2985.0)
                world.anvil.set_automine(False)
                await stage.mine()
            await stage.until(lambda: stage.told(OrderAccepted, OrderRejected))
            assert not stage.told(OrderRejected)


async def test_the_same_block_again_after_another_fills_again_and_is_paid_again(world: World, tmp_path: Path) -> None:
    with watched(world, tmp_path) as stage:
        async with stage.running():
            stage.gateway.submit(stage.order("r-1", -1000, 2990.0))
            await stage.until(lambda: stage.told(OrderAccepted))
            await stage.mine()
            await stage.until(lambda: stage.told(Fill))
            stage.proxy.fork_from(stage.anvil.block_number)
            await stage.mine()
            await stage.until(lambda: len(stage.told(Fill)) == 2)
            stage.proxy.fork_from(None)
            await stage.mine()
            await stage.until(lambda: len(stage.told(Fill)) == 3)
            first, other, again = stage.told(Fill)
            assert first.trade_id == again.trade_id != other.trade_id
            assert [one.trade_id for one in stage.told(FillReversed)] == [first.trade_id, other.trade_id]
            paid = gas_balance(stage)
            coin = paid[first.trade_id][0]
            assert paid[first.trade_id] == [coin, coin, -coin, coin]
            assert paid[other.trade_id] == [coin, coin, -coin]


async def test_what_had_failed_in_a_block_that_is_gone_is_canceled_not_tried_again(
    world: World, tmp_path: Path
) -> None:
    """It was decided anew since: were it tried again, both might be mined."""
    with watched(world, tmp_path) as stage:
        stage.proxy.keeps_reorged = False
        async with stage.running():
            stage.proxy.hold_next()
            stage.gateway.submit(stage.order("r-1", -1000, 2997.0))
            await stage.until(lambda: stage.told(OrderAccepted))
            pool = world.pools["WETH/USDC-500"]
            world.anvil.set_automine(True)
            world.uniswap.move_to(pool, world.trader, 2985.0)
            world.anvil.set_automine(False)
            stage.proxy.release()
            await stage.mine()
            (expired,) = await stage.until(lambda: stage.told(OrderCanceled))
            assert expired.is_expired
            world.anvil.reorg(1)
            await stage.mine()
            await stage.until(lambda: len(stage.told(OrderAccepted)) == 2)
            await stage.mine(2)
            last = await stage.until(lambda: stage.told(OrderCanceled)[1:])
            assert not last[0].is_expired
            assert not stage.told(Fill)
            assert len(stage.proxy.sent) == 2, "the hedge and its cancel"


async def test_a_hedge_is_filled_once_it_is_confirmed_and_held_before(world: World, tmp_path: Path) -> None:
    with watched(world, tmp_path, confirmations=3) as stage:
        async with stage.running():
            stage.gateway.submit(stage.order("r-1", -1000, 2990.0))
            await stage.until(lambda: stage.told(OrderAccepted))
            await stage.mine()
            assert [one.qty_lots for one in stage.told(AccountReport)[-1].positions] == [-1000]
            assert not stage.told(Fill), "an order that is open explains the difference"
            stage.gateway.submit(QueryOrder("r-1", INSTRUMENT))
            (truth,) = await stage.until(lambda: stage.told(OrderTruth))
            assert (truth.state, truth.fills) == (OrderState.OPEN, ())
            await stage.mine(2)
            await stage.until(lambda: stage.told(Fill))


async def test_what_hedges_moved_is_not_the_books_also_after_restarts(world: World, tmp_path: Path) -> None:
    def book(stage: Watched) -> dict[str, float]:
        report = stage.told(ChainReport)[-1]
        return {one.holding_id: round(one.qty_base, 6) for one in report.tokens}

    with watched(world, tmp_path) as stage:
        async with stage.running():
            before = book(stage)
            stage.gateway.submit(stage.order("r-1", -1000, 2990.0))
            await stage.until(lambda: stage.told(OrderAccepted))
            await stage.mine(2)
            assert book(stage) == before
        async with stage.running():
            assert book(stage) == before, "while it may yet be undone"
            await stage.mine(8)
            assert book(stage) == before
        async with stage.running():
            assert book(stage) == before, "once it is final"
            stage.gateway.submit(QueryOrder("r-1", INSTRUMENT))
            await stage.until(lambda: stage.told(OrderTruth))
            await stage.mine()
            assert book(stage) == before, "it is not counted twice for being asked about"


async def test_a_transaction_that_is_no_hedge_costs_its_gas_and_is_no_order(world: World, tmp_path: Path) -> None:
    with watched(world, tmp_path) as stage:
        async with stage.running():
            desk = stage.gateway._transactions
            assert desk is not None
            gas = GasBid(10 * GWEI, GWEI, 0.5, 0)
            await desk.send(TransactionRequest("approve:x", "", world.trader, b"", 1, 21_000, gas))
            await stage.mine()
            (paid,) = await stage.until(lambda: stage.told(GasPaid))
            assert (paid.order_id, paid.instrument_id) == ("", "")
            assert paid.gas_coin > 0.0
            assert not stage.told(OrderAccepted, Fill)


async def test_what_no_node_takes_is_rejected_with_the_reason(world: World, tmp_path: Path) -> None:
    with watched(world, tmp_path) as stage:
        async with stage.running():
            world.anvil.set_balance(world.hedger, 0)
            stage.gateway.submit(stage.order("r-1", -1000, 2990.0))
            (rejected,) = await stage.until(lambda: stage.told(OrderRejected))
            assert "gas exhausted" in rejected.reason
            assert not stage.told(OrderCanceled)


async def test_an_order_of_another_run_in_the_same_log_is_told_as_what_it_is(world: World, tmp_path: Path) -> None:
    with watched(world, tmp_path) as stage:
        async with stage.running(run_id="r"):
            stage.proxy.hold_next()
            stage.gateway.submit(stage.order("r-1", -1000, 2990.0))
            await stage.until(lambda: stage.told(OrderAccepted))
        stage.proxy.release()
        async with stage.running(run_id="another"):
            (fill,) = await stage.until(lambda: stage.told(Fill))
            assert (fill.order_id, fill.qty_lots) == ("r-1", -1000)


async def test_what_cannot_be_done_is_said(world: World, tmp_path: Path) -> None:
    with watched(world, tmp_path) as stage:
        async with stage.running():
            stage.gateway.submit(AmendOrder("r-1", INSTRUMENT, 299_000, "a test"))
            stage.gateway.submit(CancelOrder("r-1", INSTRUMENT, "a test"))
            (amend,) = await stage.until(lambda: stage.told(AmendRejected))
            assert "expected a cancel and a new order" in amend.reason
            (cancel,) = await stage.until(lambda: stage.told(CancelRejected))
            assert "expected a transaction under way, found none" in cancel.reason
            stage.gateway.submit(stage.order("r-2", -1000, 3100.0))
            (rejected,) = await stage.until(lambda: stage.told(OrderRejected))
            assert rejected.order_id == "r-2"


async def test_a_log_that_cannot_be_written_ends_the_daemon(world: World, tmp_path: Path) -> None:
    with watched(world, tmp_path) as stage:
        async with stage.running():
            path = log_path(tmp_path, world.anvil.chain_id, world.hedger)
            other = sqlite3.connect(path)
            other.execute("BEGIN EXCLUSIVE")
            stage.gateway.submit(stage.order("r-1", -1000, 2990.0))
            assert stage.listening is not None
            await stage.until(stage.listening.done)
            other.close()
            with pytest.raises(ExceptionGroup) as caught:
                stage.listening.result()
            assert caught.group_contains(JournalError, match="could not be written")
            assert not stage.proxy.sent
