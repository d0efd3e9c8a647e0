"""Nonces on a real node: what others take is seen, and holes are used or filled."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bot.domain.errors import Retryable
from bot.gateways.chain.nouns import TransactionState
from bot.gateways.chain.signing import KeystoreSigner, Signed, Unsigned
from tests.gateways.chain.desks import Liar, staged

S = TransactionState


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


async def test_a_wrong_count_once_does_not_fill_the_chain_with_transactions(tmp_path: Path) -> None:
    lies: list[int] = []

    def more(count: str) -> str:
        return hex(int(count, 16) + lies[0]) if lies else count

    async with staged(tmp_path) as stage:
        async with stage.running(between=lambda node: Liar(node, eth_getTransactionCount=more)) as desk:
            lies.append(50)
            await stage.step()
            lies.clear()
            await desk.send(stage.request("o1", 7))
            assert stage.log.life("o1").nonce == 50  # type: ignore[union-attr]
            await stage.step(6)
            assert "nonces 0 to 49 would have to be filled" in desk.alarm
            assert {row.key for row in stage.log.rows()} == {"o1"}
        async with stage.running() as desk:
            await desk.send(stage.request("o2", 8))
            await stage.step()
            assert stage.last("o2").state is S.MINED
            assert stage.gained_wei == 8


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
