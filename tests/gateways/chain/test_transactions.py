"""Transactions on a real node: what becomes of them is what is told, and none happens twice or gets lost."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.domain.errors import JournalError, Retryable
from bot.gateways.chain.broadcasting import Node
from bot.gateways.chain.nouns import Amounts, Refused, TransactionState
from bot.gateways.chain.signing import KeystoreSigner, Signed, Unsigned
from bot.gateways.chain.transaction_log import TransactionLog
from tests.chains.anvil import GWEI
from tests.gateways.chain import transactions_victim
from tests.gateways.chain.chaos import Chaos
from tests.gateways.chain.desks import BLOCK_S, FEES, INSTRUMENT, Stage, staged
from tests.gateways.chain.transactions_victim import Plan
from tests.venues.faults import drop_reply

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


async def test_the_same_request_again_does_nothing(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        await asyncio.gather(*(desk.send(stage.request("once", 7)) for _ in range(5)))
        await stage.step()
        await desk.send(stage.request("once", 7))
        await stage.step()
        assert stage.gained_wei == 7
        with pytest.raises(Refused, match="new key"):
            await desk.send(stage.request("once", 8))


async def test_what_is_stuck_is_replaced_by_the_rule_of_a_tenth(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        stage.proxy.hold_next(2)
        await desk.send(stage.request("o1", 7))
        await stage.step(2)
        assert len(stage.hashes("o1")) == 1
        await stage.step()  # the third block without it
        assert len(stage.hashes("o1")) == 2
        await stage.step(3)
        assert len(stage.hashes("o1")) == 3  # held once more, then let through
        fees = stage.fees("o1")
        for before, after in itertools.pairwise(fees):
            assert all(new * 10 >= old * 11 for old, new in zip(before, after, strict=True))
        assert stage.proxy.sent == stage.hashes("o1")  # the pool took each by its own rule
        await stage.step()
        assert stage.states("o1")[-1] is S.MINED
        assert stage.last("o1").receipt.tx_hash == stage.hashes("o1")[-1]  # type: ignore[union-attr]
        assert stage.gained_wei == 7
        assert any("stuck" in reason for reason in stage.reasons("o1"))


async def test_a_spike_of_fees_within_the_caps_is_followed(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        await desk.send(stage.request("o1", 7, max_fee_wei=5 * GWEI))
        for _ in range(3):
            stage.anvil.set_base_fee(10 * GWEI)
            await stage.step()
        assert stage.states("o1")[-1] is S.SENT
        assert len(stage.fees("o1")) == 2
        assert 8 * GWEI < stage.fees("o1")[-1][0] <= FEES.max_fee_wei
        await stage.step()
        assert stage.states("o1")[-1] is S.MINED
        assert stage.gained_wei == 7


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_fee_wei": 6 * GWEI}, "base fee is .* the cap is 6 gwei"),
        ({"max_gas_quote": 3000.0 * 60_000 * 6e-9}, "base fee is .* the cap is 6 gwei"),
        ({"max_fee_wei": 5 * GWEI + 1}, "must pay 5.5 gwei, the cap is 5 gwei"),
        ({"max_replacements": 0}, "replaced 0 times already, the cap is 0"),
    ],
)
async def test_a_spike_beyond_a_cap_waits_and_says_so(tmp_path: Path, change: dict[str, float], told: str) -> None:
    fees = msgspec.structs.replace(FEES, **change)
    async with staged(tmp_path, fees=fees) as stage, stage.running() as desk:
        await desk.send(stage.request("o1", 7, max_fee_wei=5 * GWEI))
        for _ in range(6):
            stage.anvil.set_base_fee(20 * GWEI)
            await stage.step()
        assert stage.states("o1")[-1] is S.SENT
        assert len(stage.fees("o1")) == 1
        said = [reason for reason in stage.reasons("o1") if reason.startswith("waits")]
        assert len(said) == 1  # once, not with every block
        assert re.search(told, said[0]), said
        stage.anvil.set_base_fee(GWEI)
        await stage.step(2)
        assert stage.states("o1")[-1] is S.MINED


async def test_what_was_dropped_is_sent_again_with_the_same_bytes(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        stage.proxy.drop_next()
        await desk.send(stage.request("o1", 7))
        await stage.step()
        assert stage.states("o1")[2:] == [S.SENT, S.DROPPED, S.SENT]
        assert stage.proxy.sent == stage.hashes("o1") * 2
        await stage.step()
        assert stage.states("o1")[-1] is S.MINED
        assert stage.gained_wei == 7


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


async def test_a_strangers_transaction_in_the_pool_is_not_fought_over(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        stage.anvil.rpc("eth_sendRawTransaction", stage.sign(0))
        async with stage.running() as desk:
            assert "nonce 0 is in the pool" in desk.alarm
            await desk.send(stage.request("o1", 8))
            await stage.step()
            assert [life.nonce for life in desk.lives] == [1]
            assert stage.last("o1").state is S.MINED
            assert stage.gained_wei == 5 + 8


async def test_a_cancel_is_mined_in_its_place(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        stage.proxy.hold_next()
        await desk.send(stage.request("o1", 7))
        await stage.step()
        await desk.cancel("o1")
        await desk.cancel("o1")  # is under way
        await stage.step()
        news = stage.last("o1")
        assert news.state is S.CANCELED
        assert news.receipt is not None
        assert news.receipt.gas_used == 21_000
        assert stage.gained_wei == 0
        with pytest.raises(Refused, match="canceled"):
            await desk.cancel("o1")
        with pytest.raises(Refused, match="none by the key"):
            await desk.cancel("o9")


async def test_a_cancel_that_comes_too_late_is_no_cancel(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        await desk.send(stage.request("o1", 7))
        stage.mine()
        await desk.cancel("o1")  # we have not heard of the block yet
        await stage.tell()
        assert stage.last("o1").state is S.MINED
        assert stage.gained_wei == 7
        await stage.step(2)
        assert stage.states("o1")[-1] is S.MINED


async def test_sped_up_on_request(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        stage.proxy.hold_next()
        await desk.send(stage.request("o1", 7))
        await desk.speed_up("o1")
        await stage.step()
        assert stage.last("o1").state is S.MINED
        assert stage.last("o1").receipt.tx_hash == stage.hashes("o1")[1]  # type: ignore[union-attr]
        assert stage.gained_wei == 7
        with pytest.raises(Refused, match="mined"):
            await desk.speed_up("o1")


async def test_what_is_late_is_canceled(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        late_ns = (stage.block().timestamp_s + 2 * BLOCK_S) * 10**9
        stage.proxy.hold_next()
        await desk.send(stage.request("o1", 7, deadline_ns=late_ns))
        await stage.step(2)
        assert stage.states("o1")[-1] is S.SENT
        assert any("time is over" in reason for reason in stage.reasons("o1"))
        await stage.step()
        assert stage.last("o1").state is S.CANCELED
        assert stage.gained_wei == 0
        with pytest.raises(Refused, match="deadline"):
            await desk.send(stage.request("o2", 7, deadline_ns=late_ns))


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


async def test_a_bid_beyond_the_caps_is_refused(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        for change in ({"max_fee_wei": 301 * GWEI}, {"tip_wei": 11 * GWEI}, {"gas_quote": 100.1}):
            with pytest.raises(Refused):
                await desk.send(stage.request("o1", 7, **change))
        assert stage.log.rows() == []


async def test_a_private_one_is_never_shown_to_the_pool(tmp_path: Path) -> None:
    async with staged(tmp_path, is_private=True) as stage, stage.running() as desk:
        stage.proxy.relay_lands = False
        await desk.send(stage.request("o1", 7))
        await stage.step(2)
        assert stage.proxy.faults.asked.get("eth_sendRawTransaction", 0) == 0
        assert stage.anvil.pending() == []
        assert stage.states("o1") == [S.RESERVED, S.SIGNED, S.SENT]
        stage.proxy.relay_lands = True
        await stage.step(3)
        assert stage.states("o1")[-1] is S.MINED
        assert stage.gained_wei == 7
        assert stage.proxy.faults.asked.get("eth_sendRawTransaction", 0) == 0


async def test_no_answer_is_unknown_until_the_chain_tells(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running() as desk:
        stage.proxy.faults.next("eth_sendRawTransaction", drop_reply())
        await desk.send(stage.request("o1", 7))
        assert stage.last("o1").state is S.UNKNOWN
        stage.clock.ns += 10**9
        await stage.step()
        assert stage.last("o1").state is S.MINED
        assert stage.gained_wei == 7


class Forgetful:
    """Signs like the keystore, but not for every nonce."""

    def __init__(self, inner: KeystoreSigner, fails: set[int]) -> None:
        self.inner, self.fails = inner, fails
        self.address = inner.address

    async def sign(self, unsigned: Unsigned) -> Signed:
        await asyncio.sleep(0)
        if unsigned.nonce in self.fails:
            self.fails.discard(unsigned.nonce)
            raise Retryable("not signed: no answer from the signer")
        return await self.inner.sign(unsigned)


class Liar:
    """A node that answers as the real one does, but for the methods whose answers are changed."""

    def __init__(self, inner: Node, **changes: Callable[[Any], Any]) -> None:
        self.inner, self.changes = inner, changes

    async def call(self, method: str, params: Sequence[object] = ()) -> Any:
        answer = await self.inner.call(method, params)
        return self.changes.get(method, lambda found: found)(answer)

    async def broadcast(self, method: str, params: Sequence[object]) -> Mapping[str, Any]:
        return await self.inner.broadcast(method, params)


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


async def test_a_hole_is_used_by_the_next_or_filled(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running(Forgetful(KeystoreSigner(stage.account), {0, 2})) as desk:
        await asyncio.gather(*(desk.send(stage.request(f"o{n}", 1 << n)) for n in range(4)))
        assert [stage.last(f"o{n}").state for n in range(4)] == [S.CANCELED, S.SENT, S.CANCELED, S.SENT]
        await desk.send(stage.request("o4", 16))
        assert stage.log.life("o4").nonce == 0  # type: ignore[union-attr]
        await stage.step(4)
        assert [stage.last(f"o{n}").state for n in (1, 3, 4)] == [S.MINED] * 3
        assert stage.gained_wei == 2 + 8 + 16
        fills = [life.key for life in desk.lives if life.key.startswith("fill:")]
        assert [key.rsplit(":", 1)[0] for key in fills] == ["fill:2"]


async def test_a_key_has_one_owner(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.running():
        with pytest.raises(JournalError, match="the only one that signs"):
            async with stage.running():
                pass
        with TransactionLog.open(stage.path, for_writing=False) as log:
            assert log.rows() == []


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
