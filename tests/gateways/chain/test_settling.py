"""What became of a transaction on a real node: in a block, gone again, or its nonce used by another."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bot.gateways.chain.broadcasting import Node
from bot.gateways.chain.nouns import TransactionState
from tests.chains.anvil import GWEI
from tests.gateways.chain.desks import INSTRUMENT, Liar, staged

S = TransactionState


async def test_a_nonce_somebody_else_took_is_told_with_the_proof(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        stage.proxy.hold_next()
        await desk.send(stage.request("o1", 7))
        await desk.send(stage.request("o2", 8))
        taken = stage.anvil.rpc("eth_sendRawTransaction", stage.sign(0))
        await stage.step()
        assert stage.last("o1").state is S.TAKEN
        assert taken in stage.last("o1").reason
        assert stage.states("o2")[-1] is S.MINED
        assert "somebody else" in desk.alarm
        await desk.send(stage.request("o3", 16))
        await stage.step()
        assert stage.states("o3")[-1] is S.MINED
        assert stage.gained_wei == 5 + 8 + 16
        await stage.step(12)
        assert stage.last("o1").state is S.FINAL
        assert (await desk.truth_of("o1")).outcome is S.TAKEN


async def test_a_nonce_taken_before_we_sent_is_found_out(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        stage.anvil.rpc("eth_sendRawTransaction", stage.sign(0))
        stage.mine()
        await desk.send(stage.request("o1", 7))  # the pool says that the nonce is too low
        assert stage.last("o1").state is S.UNKNOWN
        await desk.send(stage.request("o2", 8))  # which the next one does not meet again
        assert stage.last("o2").state is S.SENT
        await stage.step()
        assert stage.last("o1").state is S.TAKEN
        assert stage.last("o2").state is S.MINED
        assert stage.gained_wei == 5 + 8


@pytest.mark.parametrize("depth", [1, 5])
@pytest.mark.parametrize("keeps", [True, False])
async def test_a_reorg_takes_back_and_the_same_bytes_go_out_again(tmp_path: Path, depth: int, *, keeps: bool) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        stage.proxy.keeps_reorged = keeps
        await stage.step()
        await asyncio.gather(*(desk.send(stage.request(f"o{n}", 1 << n)) for n in range(3)))
        await stage.step(depth)
        first = stage.last("o1").receipt
        assert first is not None
        assert stage.gained_wei == 7
        stage.anvil.reorg(depth)
        stage.proxy.await_head(stage.anvil.block_number)
        assert stage.gained_wei == 0
        await stage.tell()
        void = [news for news in stage.news if news.is_reversed]
        assert sorted(news.key for news in void) == ["o0", "o1", "o2"]
        assert [news.receipt for news in void if news.key == "o1"] == [first]
        await stage.step()
        again = stage.last("o1").receipt
        assert stage.last("o1").state is S.MINED
        assert again is not None
        assert again.tx_hash == first.tx_hash
        assert again.block_hash != first.block_hash
        assert stage.gained_wei == 7
        assert [stage.hashes(f"o{n}") for n in range(3)] == [[one] for one in dict.fromkeys(stage.proxy.sent)]
        await desk.send(stage.request("o3", 8))
        await stage.step()
        assert stage.gained_wei == 15


async def test_a_reorg_that_keeps_ours_in_another_block_is_told_as_both(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        await stage.step()
        await desk.send(stage.request("o1", 7))
        await stage.step()
        raw = "0x" + desk.lives[0].attempts[0].raw.hex()
        stage.anvil.reorg(1, [(raw, 0)])
        stage.proxy.await_head(stage.anvil.block_number)
        await stage.tell()
        told = [(news.state, news.is_reversed) for news in stage.news if news.key == "o1"][-3:]
        assert told == [(S.MINED, False), (S.SENT, True), (S.MINED, False)]
        assert stage.gained_wei == 7
        assert len(stage.proxy.sent) == 1


async def test_a_reorg_nobody_told_of_is_noticed(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        stage.proxy.keeps_reorged = False
        await stage.step()
        await desk.send(stage.request("o1", 7))
        await stage.step()
        stage.anvil.reorg(1)
        stage.mine()
        await desk.on_block(stage.block())
        assert stage.states("o1")[-2:] == [S.MINED, S.SENT]
        stage.mine()
        await desk.on_block(stage.block())
        assert stage.states("o1")[-1] is S.MINED
        assert stage.gained_wei == 7


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_reorg_while_nobody_ran_is_told_before_anything_else(tmp_path: Path, *, keeps: bool) -> None:
    """Else whoever starts holds what was mined against an account that has it no more, and believes the account."""
    async with staged(tmp_path) as stage:
        stage.proxy.keeps_reorged = keeps
        async with stage.running() as desk:
            await stage.step()
            await desk.send(stage.request("o1", 7))
            await stage.step()
            assert stage.states("o1")[-1] is S.MINED
        stage.anvil.reorg(1)
        stage.proxy.await_head(stage.anvil.block_number)
        stage.news.clear()
        async with stage.running():
            told = [(news.state, news.is_reversed) for news in stage.news]
            assert told[0] == (S.SENT, True)
            assert (S.MINED, False) not in told
            await stage.step(2)
            assert stage.states("o1")[-1] is S.MINED
            assert stage.gained_wei == 7


async def test_a_taken_nonce_that_a_reorg_frees_is_canceled_not_sent(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        await stage.step()
        stage.proxy.hold_next()
        await desk.send(stage.request("o1", 7))
        stage.anvil.rpc("eth_sendRawTransaction", stage.sign(0))
        await stage.step()
        assert stage.last("o1").state is S.TAKEN
        stage.anvil.reorg(1)
        stage.proxy.await_head(stage.anvil.block_number)
        await stage.tell()
        await stage.step()
        assert stage.last("o1").state is S.CANCELED
        assert stage.gained_wei == 0


REVERTS = bytes.fromhex("631badf00d60e01b60005260046000fd")
LOOPS = bytes.fromhex("5b600056")
PLACE = "0x00000000000000000000000000000000000000AA"


async def test_a_revert_is_told_with_its_reason_and_what_it_cost(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        stage.anvil.set_code(PLACE, REVERTS)
        await desk.send(stage.request("o1", 0, to=PLACE))
        await stage.step()
        news = stage.last("o1")
        assert news.state is S.FAILED
        assert news.receipt is not None
        assert news.receipt.revert_data == bytes.fromhex("1badf00d")
        assert not news.receipt.is_out_of_gas
        assert "0x1badf00d" in news.reason
        before = 10_000 * 10**18
        assert news.receipt.gas_wei == before - stage.anvil.balance(stage.account.address) > 0
        assert desk.reverts.fraction(INSTRUMENT) > 0.05


async def test_burning_all_gas_is_told_apart(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        stage.anvil.set_code(PLACE, LOOPS)
        await desk.send(stage.request("o1", 0, to=PLACE))
        await stage.step()
        news = stage.last("o1")
        assert news.state is S.FAILED
        assert news.receipt is not None
        assert news.receipt.is_out_of_gas
        assert news.receipt.gas_used == 60_000
        assert "out of gas" in news.reason


async def test_one_no_node_took_that_is_mined_all_the_same_is_told(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        stage.anvil.set_balance(stage.account.address, 10**9)
        await desk.send(stage.request("o1", 7))
        raw = "0x" + stage.log.life("o1").attempts[0].raw.hex()  # type: ignore[union-attr]
        stage.anvil.set_balance(stage.account.address, 10**19)
        await stage.step()
        stage.proxy.hold_next()
        await desk.send(stage.request("o2", 8))
        stage.anvil.rpc("eth_sendRawTransaction", raw)  # a node that lied, and kept it
        await stage.step()
        assert stage.last("o1").state is S.MINED
        assert stage.last("o2").state is S.REPLACED
        assert stage.gained_wei == 7


@pytest.mark.parametrize("lie", [{"gasUsed": hex(60_001)}, {"effectiveGasPrice": hex(10 * GWEI + 1)}])
async def test_a_receipt_that_costs_more_than_was_signed_is_not_believed(tmp_path: Path, lie: dict[str, str]) -> None:
    """What it says was paid would be taken off the book's coins, and hedged."""

    def dearer(receipt: Any) -> Any:
        return receipt and receipt | lie

    def between(node: Node) -> Node:
        return Liar(node, eth_getTransactionReceipt=dearer)

    async with staged(tmp_path) as stage:
        async with stage.running(between=between) as desk:
            await desk.send(stage.request("o1", 7))
            await stage.step()
            assert stage.last("o1").state is S.SENT
            assert "found a receipt of" in desk.trouble
        async with stage.running():  # with a node that tells the truth
            assert stage.last("o1").state is S.MINED
            assert stage.gained_wei == 7
