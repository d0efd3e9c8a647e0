"""Versions of a transaction on a real node: sent again, replaced and canceled, and never two of them mined."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import msgspec
import pytest

from bot.gateways.chain.nouns import Refused, TransactionState
from tests.chains.anvil import GWEI
from tests.gateways.chain.desks import BLOCK_S, FEES, staged
from tests.venues.faults import drop_reply

S = TransactionState


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
