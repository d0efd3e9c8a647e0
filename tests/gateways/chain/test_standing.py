"""What a key may send on a real node: within its coins, its reserve and its caps."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.gateways.chain.nouns import Refused, TransactionState
from tests.chains.anvil import GWEI
from tests.gateways.chain.desks import staged

S = TransactionState


async def test_the_reserve_is_kept_for_reducing_and_no_gas_is_said(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        cost = 60_000 * 10 * GWEI
        stage.anvil.set_balance(stage.account.address, int(0.05 * 10**18) + cost)
        await stage.step()
        assert desk.alarm == ""
        with pytest.raises(Refused, match=r"0\.05 ETH left for closing"):
            await desk.send(stage.request("o1", 1))
        await desk.send(stage.request("o2", 1), is_reducing=True)
        assert "gas reserve low" in desk.alarm
        stage.anvil.set_balance(stage.account.address, cost + 1)
        await stage.step()
        assert stage.last("o2").state is S.MINED
        with pytest.raises(Refused, match="gas exhausted"):
            await desk.send(stage.request("o3", 10**18), is_reducing=True)
        assert stage.gained_wei == 1


async def test_coins_gone_behind_our_back_end_a_transaction_and_give_its_nonce_back(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        stage.anvil.set_balance(stage.account.address, 10**9)
        await desk.send(stage.request("o1", 7))
        assert stage.last("o1").state is S.CANCELED
        assert "gas exhausted" in stage.last("o1").reason
        assert "gas exhausted" in desk.alarm
        assert (await desk.truth_of("o1")).is_over
        stage.anvil.set_balance(stage.account.address, 10**19)
        await stage.step()
        assert desk.alarm == ""
        await desk.send(stage.request("o2", 8))
        await stage.step()
        assert stage.last("o2").state is S.MINED
        assert stage.log.life("o2").nonce == 0  # type: ignore[union-attr]
        assert stage.gained_wei == 8


async def test_a_bid_beyond_the_caps_is_refused(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        for change in ({"max_fee_wei": 301 * GWEI}, {"tip_wei": 11 * GWEI}, {"gas_quote": 100.1}):
            with pytest.raises(Refused):
                await desk.send(stage.request("o1", 7, **change))
        assert stage.log.rows() == []
