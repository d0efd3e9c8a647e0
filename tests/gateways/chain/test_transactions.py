"""Transactions on a real node: what becomes of them is what is told, and none happens twice or gets lost."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from pathlib import Path

import msgspec
import pytest

from bot.domain.errors import JournalError
from bot.gateways.chain.nouns import TransactionState
from bot.gateways.chain.transaction_log import TransactionLog
from tests.gateways.chain import transactions_victim
from tests.gateways.chain.chaos import Chaos
from tests.gateways.chain.desks import BLOCK_S, Stage, staged
from tests.gateways.chain.transactions_victim import Plan

S = TransactionState


async def test_twenty_at_once_are_in_one_block(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        await asyncio.gather(*(desk.send(stage.request(f"o{n}", 1 << n)) for n in range(20)))
        await stage.step()
        assert stage.gained_wei == (1 << 20) - 1
        assert [stage.states(f"o{n}") for n in range(20)] == [[S.RESERVED, S.SIGNED, S.SENT, S.MINED]] * 20
        assert {stage.last(f"o{n}").receipt.block_number for n in range(20)} == {1}  # type: ignore[union-attr]
        assert [life.nonce for life in desk.lives] == list(range(20))
        await stage.step(12)
        assert stage.last("o7").state is S.FINAL
        assert not desk.trouble


async def test_a_key_has_one_owner(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running():
        with pytest.raises(JournalError, match="the only one that signs"):
            async with stage.running():
                pass
        with TransactionLog.open(stage.path, for_writing=False) as log:
            assert log.rows() == []


KILLERS = multiprocessing.get_context("forkserver")
KILLERS.set_forkserver_preload(["tests.gateways.chain.transactions_victim"])

# step, which time of it, blocks the victim sees, whether it cancels, how many first versions the pool holds;
# and whether the transaction must be mined without anybody asking for it again
KILLS = [
    ("before row reserved", 1, 0, False, 0, False),
    ("after row reserved", 1, 0, False, 0, False),
    ("before signing", 1, 0, False, 0, False),
    ("after signing", 1, 0, False, 0, False),
    ("before row signed", 1, 0, False, 0, False),
    ("after row signed", 1, 0, False, 0, True),
    ("before broadcast", 1, 0, False, 0, True),
    ("after broadcast", 1, 0, False, 0, True),
    ("after row sent", 1, 0, False, 0, True),
    ("news sent", 1, 0, False, 0, True),
    ("before row mined", 1, 1, False, 0, True),
    ("after row mined", 1, 1, False, 0, True),
    ("news mined", 1, 1, False, 0, True),
    ("before row final", 1, 14, False, 0, True),
    ("news final", 1, 14, False, 0, True),
    ("after row signed", 2, 4, False, 1, True),  # the replacement of what is stuck
    ("after broadcast", 2, 4, False, 1, True),
]
CANCEL_KILLS = [("before row signed", 2), ("after row signed", 2), ("after broadcast", 2), ("before row canceled", 1)]


async def kill(stage: Stage, step: str, nth: int, blocks: int, *, cancels: bool) -> None:
    plan = Plan(
        settings=stage.settings,
        node_url=stage.proxy.http_url,
        key=stage.anvil.accounts[0].key,
        request=stage.request("o1", 7),
        blocks=blocks,
        cancels=cancels,
        step=step,
        nth=nth,
    )
    victim = KILLERS.Process(target=transactions_victim.main, args=(msgspec.msgpack.encode(plan),))
    victim.start()
    await asyncio.to_thread(victim.join, 60)
    assert victim.exitcode == -signal.SIGKILL, f"expected it to be killed at {step}, found {victim.exitcode}"


@pytest.mark.parametrize(("step", "nth", "blocks", "cancels", "held", "goes_on"), KILLS)
async def test_killed_at_any_step_there_is_one_transaction(
    tmp_path: Path, step: str, nth: int, blocks: int, held: int, *, cancels: bool, goes_on: bool
) -> None:
    async with staged(tmp_path) as stage:
        stage.proxy.hold_next(held)
        await kill(stage, step, nth, blocks, cancels=cancels)
        async with stage.running() as desk:
            truth = await desk.truth_of("o1")
            assert truth.is_signed is goes_on
            if not goes_on:
                assert truth.state in {None, S.CANCELED}
                await desk.send(stage.request("o2", 7))  # what whoever hears "never signed" may do
            await stage.step(4)
            assert stage.gained_wei == 7
            assert stage.anvil.nonce(stage.account.address) == 1
            truth = await desk.truth_of("o1" if goes_on else "o2")
            assert (truth.state, truth.outcome) in {(S.MINED, None), (S.FINAL, S.MINED)}
            told = {news.key for news in stage.news if news.state is S.MINED}
            assert told == ({"o1"} if goes_on else {"o2"}) or truth.state is S.FINAL
            await desk.send(stage.request("o3", 8))
            await stage.step()
            assert stage.gained_wei == 15


@pytest.mark.parametrize(("step", "nth"), CANCEL_KILLS)
async def test_killed_while_canceling_it_is_one_or_the_other(tmp_path: Path, step: str, nth: int) -> None:
    async with staged(tmp_path) as stage:
        stage.proxy.hold_next()
        await kill(stage, step, nth, 1, cancels=True)
        async with stage.running() as desk:
            stage.proxy.release()
            await stage.step(4)
            truth = await desk.truth_of("o1")
            assert truth.state is (S.MINED if step == "before row signed" else S.CANCELED)
            assert stage.gained_wei == (7 if truth.state is S.MINED else 0)
            assert stage.anvil.nonce(stage.account.address) == 1
            await desk.send(stage.request("o3", 8))
            await stage.step()
            assert stage.gained_wei in {8, 15}


async def test_killed_and_back_too_late_it_is_canceled(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        late = stage.request("o1", 7, deadline_ns=(stage.block().timestamp_s + 2 * BLOCK_S) * 10**9)
        plan_request, stage.request = stage.request, lambda *_, **__: late  # type: ignore[method-assign]
        await kill(stage, "after row signed", 1, 0, cancels=False)
        stage.request = plan_request  # type: ignore[method-assign]
        stage.mine(3)
        async with stage.running() as desk:
            await stage.step(2)
            assert (await desk.truth_of("o1")).state is S.CANCELED
            assert stage.gained_wei == 0
            await desk.send(stage.request("o2", 8))
            await stage.step()
            assert stage.gained_wei == 8


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_each_is_one_or_none_and_the_books_agree(tmp_path: Path, seed: int) -> None:
    """Play faults in a random order, then let the chain calm down: what was told must be what the chain has."""
    async with staged(tmp_path) as stage:
        chaos = Chaos(stage, seed)
        await chaos.play()
        told = "\n".join(f"{n.key} {n.state} {n.reason} {n.is_reversed}" for n in stage.news)
        lives = stage.desk.lives
        assert stage.desk.trouble == ""
        assert not [life.key for life in lives if life.is_live], told
        ended = {life.key: life.outcome if life.state is S.FINAL else life.state for life in lives}
        assert set(ended.values()) <= {S.MINED, S.CANCELED, S.TAKEN, S.REPLACED}
        strangers = chaos.strangers_mined
        assert (
            stage.gained_wei == sum(chaos.values.get(key, 0) for key in ended if ended[key] is S.MINED) + 5 * strangers
        )
        hashes = [life.receipt.tx_hash for life in lives if life.receipt is not None]
        assert len(hashes) == len(set(hashes))
        assert len(hashes) + strangers == stage.anvil.nonce(stage.account.address), told
        with TransactionLog.open(stage.path, for_writing=False) as log:
            assert {key: life.state for key, life in log.lives().items()} == {life.key: life.state for life in lives}
