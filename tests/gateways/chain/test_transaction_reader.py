"""What a chain says about transactions, read from a real node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bot.domain.errors import Retryable
from bot.domain.orders import GasBid
from bot.gateways.chain.endpoints import Endpoints, to_block
from bot.gateways.chain.nouns import TransactionRequest
from bot.gateways.chain.rpc import UnknownBlock
from bot.gateways.chain.settings import ChainSettings, FeeSettings
from bot.gateways.chain.transaction_reader import TransactionReader, receipt_of
from tests.chains.anvil import GWEI, Anvil
from tests.gateways.chain.nodes import ANSWERS_IN_NS, ManualClock, header, scripted

PLACE = "0x00000000000000000000000000000000000000AA"


@asynccontextmanager
async def reading(anvil: Anvil) -> AsyncIterator[TransactionReader]:
    settings = ChainSettings(
        venue="local", chain_id=31337, coin="ETH", http_urls=(anvil.http_url,), timeout_ns=ANSWERS_IN_NS
    )
    async with Endpoints(settings, ManualClock()) as nodes:
        yield TransactionReader(nodes, anvil.accounts[0].address)


def pay(anvil: Anvil, to: str = "", **fields: Any) -> str:
    call = {"from": anvil.accounts[0].address, "to": to or anvil.accounts[1].address, "value": "0x1"} | fields
    return str(anvil.rpc("eth_sendTransaction", call))


def request(to: str, value_wei: int) -> TransactionRequest:
    return TransactionRequest("o1", "local:A", to, b"", value_wei, 60_000, GasBid(GWEI, 1, 0.1, 0))


async def test_counts_and_balances_are_those_of_the_block() -> None:
    with Anvil(is_mining=False, base_fee_wei=GWEI) as anvil:
        async with reading(anvil) as reader:
            before = await reader.latest()
            tx_hash = pay(anvil)
            assert await reader.receipt(tx_hash) is None
            assert await reader.is_known(tx_hash)
            assert (await reader.count(before), await reader.pending_count()) == (0, 1)
            anvil.mine()
            after = await reader.latest()
            assert (await reader.count(before), await reader.count(after)) == (0, 1)
            receipt = await reader.receipt(tx_hash)
            assert receipt is not None
            spent = await reader.balance_wei(before) - await reader.balance_wei(after)
            assert spent == receipt.gas_wei + 1
            assert (receipt.block_number, receipt.block_hash) == (after.number, after.block_hash)
            assert await reader.block_hash(after.number) == after.block_hash
            assert await reader.block_hash(after.number + 5) == ""
            assert not await reader.is_known("0x" + "11" * 32)
            assert await reader.chain_id() == 31337
            market = await reader.fee_market(after, FeeSettings())
            anvil.mine()
            assert (await reader.latest()).base_fee_wei == market.next_base_fee_wei


async def test_a_block_that_is_gone_has_no_count() -> None:
    with Anvil(is_mining=False) as anvil:
        async with reading(anvil) as reader:
            anvil.mine(3)
            gone = await reader.latest()
            anvil.reorg(2)
            with pytest.raises(UnknownBlock):
                await reader.count(gone)


@pytest.mark.parametrize("since", [0, 2, 3])
async def test_who_used_a_nonce_is_found_in_the_block_that_says_so(since: int) -> None:
    with Anvil(is_mining=False) as anvil:
        async with reading(anvil) as reader:
            hashes = []
            for _ in range(8):
                anvil.mine(1)
                hashes.append(pay(anvil))
            anvil.mine(4)
            head = await reader.latest()
            for nonce in range(since, 8):
                assert await reader.user_of(nonce, since, head) == (hashes[nonce], nonce + 2)
            assert await reader.user_of(20, since, head) is None


async def test_a_failure_gets_its_reason_from_the_block_before() -> None:
    with Anvil(is_mining=False) as anvil:
        async with reading(anvil) as reader:
            anvil.set_code(PLACE, bytes.fromhex("631badf00d60e01b60005260046000fd"))
            tx_hash = pay(anvil, PLACE, gas=hex(60_000))
            anvil.mine()
            receipt = await reader.receipt(tx_hash)
            assert receipt is not None
            assert not receipt.is_success
            told = await reader.explained(receipt, request(PLACE, 1), 60_000)
            assert told.revert_data == bytes.fromhex("1badf00d")
            assert not told.is_out_of_gas
            assert (told.gas_wei, told.logs) == (receipt.gas_wei, receipt.logs)
            assert (await reader.explained(receipt, request(PLACE, 1), receipt.gas_used)).is_out_of_gas


async def test_a_failure_made_in_its_own_block_gets_its_reason_from_there() -> None:
    # stops if it was called for the first time, else reverts: sload(0) is set by the first call
    code = bytes.fromhex("600054601157600160005500" + "00" * 5 + "5b631badf00d60e01b60005260046000fd")
    with Anvil(is_mining=False) as anvil:
        async with reading(anvil) as reader:
            anvil.set_code(PLACE, code)
            first, second = pay(anvil, PLACE, gas=hex(60_000)), pay(anvil, PLACE, gas=hex(60_000))
            anvil.mine()
            good, bad = await reader.receipt(first), await reader.receipt(second)
            assert good is not None
            assert good.is_success
            assert bad is not None
            assert not bad.is_success
            assert (await reader.explained(bad, request(PLACE, 1), 60_000)).revert_data == bytes.fromhex("1badf00d")


def test_a_rollups_charge_for_the_chain_below_is_part_of_the_cost() -> None:
    fields = {
        "transactionHash": "0x01", "blockNumber": "0x5", "blockHash": "0x02", "status": "0x1", "gasUsed": "0x64",
        "effectiveGasPrice": "0x3", "logs": [], "l1Fee": "0x7",
    }  # fmt: skip
    assert receipt_of(fields).gas_wei == 307
    assert receipt_of(fields | {"l1Fee": None}).gas_wei == 300


async def test_an_answer_that_lacks_something_is_no_answer() -> None:
    def answer(method: str, params: list[Any]) -> Any:
        del params
        known = {"eth_chainId": "0x7a69", "eth_blockNumber": "0x7", "eth_getTransactionReceipt": {"blockHash": "0x1"}}
        return known.get(method, header(4))

    async with scripted(answer) as node:
        settings = ChainSettings(
            venue="local", chain_id=31337, coin="ETH", http_urls=(node.url,), timeout_ns=ANSWERS_IN_NS
        )
        async with Endpoints(settings, ManualClock()) as nodes:
            with pytest.raises(Retryable, match="transactionHash"):
                await TransactionReader(nodes, PLACE).receipt("0x01")


@asynccontextmanager
async def told(**known: Any) -> AsyncIterator[TransactionReader]:
    """A reader of one node that says what it is told to, and null to everything else."""
    said = {"eth_chainId": "0x7a69", "eth_blockNumber": "0x7"} | known

    def answer(method: str, params: list[Any]) -> Any:
        del params
        return said.get(method)

    async with scripted(answer) as node:
        settings = ChainSettings(
            venue="local", chain_id=31337, coin="ETH", http_urls=(node.url,), timeout_ns=ANSWERS_IN_NS
        )
        async with Endpoints(settings, ManualClock()) as nodes:
            yield TransactionReader(nodes, PLACE)


async def test_the_receipt_of_another_transaction_is_no_answer() -> None:
    """Its logs would be booked as what this hedge did."""
    other = {
        "transactionHash": "0x" + "22" * 32, "blockNumber": "0x5", "blockHash": "0x02", "status": "0x1",
        "gasUsed": "0x64", "effectiveGasPrice": "0x3", "logs": [],
    }  # fmt: skip
    async with told(eth_getTransactionReceipt=other) as reader:
        with pytest.raises(Retryable, match=f"expected the receipt of 0x{'11' * 32}, found that of 0x{'22' * 32}"):
            await reader.receipt("0x" + "11" * 32)
        found = await reader.receipt("0x" + "22" * 32)
        assert found is not None
        assert found.gas_wei == 300


async def test_what_is_no_number_is_no_answer_and_nothing_worse() -> None:
    block = to_block(header(4))
    async with told() as reader:
        for question in (reader.count(block), reader.balance_wei(block), reader.pending_count()):
            with pytest.raises(Retryable, match="expected a number"):
                await question
        with pytest.raises(Retryable, match="expected a number"):
            await reader.user_of(3, 0, block)
    async with told(eth_getTransactionReceipt="0x1") as reader:
        with pytest.raises(Retryable):
            await reader.receipt("0x01")
    body = header(4) | {"transactions": ["0x01"]}
    async with told(eth_getBlockByNumber=body) as reader:
        with pytest.raises(Retryable):
            await reader.user_of(3, 3, block)
