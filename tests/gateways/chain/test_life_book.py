"""Transactions as they are written down: once each, also when they are long over."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bot.gateways.chain.nouns import Amounts, Refused, TransactionState
from tests.gateways.chain.desks import staged

S = TransactionState


async def test_the_same_request_again_does_nothing(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        await asyncio.gather(*(desk.send(stage.request("once", 7)) for _ in range(5)))
        await stage.step()
        await desk.send(stage.request("once", 7))
        await stage.step()
        assert stage.gained_wei == 7
        with pytest.raises(Refused, match="new key"):
            await desk.send(stage.request("once", 8))


async def test_what_was_moved_is_kept_and_truth_has_it(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        async with stage.running() as desk:
            await desk.send(stage.request("o1", 7))
            await stage.step()
            desk.note_amounts("o1", Amounts(10**30, -(10**25)))
            desk.note_amounts("o1", Amounts(10**30, -(10**25)))
            assert [row.state for row in stage.log.rows("o1")][-2:] == [S.MINED, S.MINED]
            await stage.step(60)
            assert desk.lives == ()
        async with stage.running() as desk:
            truth = await desk.truth_of("o1")
            assert (truth.state, truth.outcome, truth.amounts) == (S.FINAL, S.MINED, Amounts(10**30, -(10**25)))
            assert truth.receipt is not None
            assert truth.receipt.block_number == 1
            assert (await desk.truth_of("never")).state is None
            await desk.send(stage.request("o1", 7))  # long over, and still not sent again
            with pytest.raises(Refused, match="new key"):
                await desk.send(stage.request("o1", 8))
            await stage.step()
            assert stage.gained_wei == 7
            assert desk.delays.count(2) + desk.delays.count(1) + desk.delays.count(0) == 1
