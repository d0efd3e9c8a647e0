"""Everything that can happen to transactions, in an order drawn from a seed; then the chain calms down."""

from __future__ import annotations

import contextlib
import random
from typing import Final

from bot.gateways.chain.lives import Life
from bot.gateways.chain.nouns import Refused
from tests.chains.anvil import GWEI, RpcError
from tests.gateways.chain.desks import Stage
from tests.venues.faults import drop_reply

RUNS: Final = 3
STEPS: Final = 14
CALM_BLOCKS: Final = 20
WEIGHTS: Final = {
    "send": 4, "block": 6, "hold": 1, "drop": 1, "silence": 1, "lose": 1, "reorg": 1, "stranger": 1, "spike": 1,
    "cancel": 1, "speed_up": 1,
}  # fmt: skip


class Chaos:
    """Plays on a stage: the desk is ended and begun anew a few times in between."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.chance = random.Random(seed)
        self.values: dict[str, int] = {}  # what each key sends: no two sums are the same
        self.strangers: list[str] = []  # hashes of what another wallet with our key sent
        self.played: list[str] = []

    async def play(self) -> None:
        """Play, and calm down."""
        stage = self.stage
        for _ in range(RUNS):
            async with stage.running():
                await stage.step()
                for name in self.chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=STEPS):
                    self.played.append(name)
                    await getattr(self, name)()
        async with stage.running():
            for _ in range(CALM_BLOCKS):
                stage.proxy.release()
                stage.anvil.set_base_fee(GWEI)
                await stage.step()

    @property
    def strangers_mined(self) -> int:
        """How many of the stranger's transactions are in blocks."""
        ask = self.stage.anvil.rpc
        return sum(ask("eth_getTransactionReceipt", tx_hash) is not None for tx_hash in set(self.strangers))

    async def send(self) -> None:
        """Send a few."""
        for _ in range(self.chance.randint(1, 3)):
            key, value = f"o{len(self.values)}", 8 << len(self.values)
            self.values[key] = value
            await self.stage.desk.send(self.stage.request(key, value))

    async def block(self) -> None:
        """Mine a block."""
        await self.stage.step()

    async def hold(self) -> None:
        """Hold what is sent next."""
        self.stage.proxy.hold_next(self.chance.randint(1, 2))

    async def drop(self) -> None:
        """Lose what is sent next."""
        self.stage.proxy.drop_next()

    async def silence(self) -> None:
        """Take what is sent next, and do not answer."""
        self.stage.proxy.faults.next("eth_sendRawTransaction", drop_reply())

    async def lose(self) -> None:
        """Lose one from the pool."""
        if life := self._one_of_the_living():
            self.stage.proxy.forget(life.attempts[-1].tx_hash)

    async def reorg(self) -> None:
        """Take one or two blocks back; the desk hears of it with the next block."""
        if self.stage.anvil.block_number > 3:
            self.stage.proxy.keeps_reorged = self.chance.random() < 0.5
            self.stage.anvil.reorg(self.chance.randint(1, 2))
            self.stage.proxy.await_head(self.stage.anvil.block_number)

    async def stranger(self) -> None:
        """Send from another wallet with our key."""
        raw = self.stage.sign(self.stage.anvil.nonce(self.stage.account.address), 60 * GWEI, 30 * GWEI)
        with contextlib.suppress(RpcError):
            self.strangers.append(self.stage.anvil.rpc("eth_sendRawTransaction", raw))

    async def spike(self) -> None:
        """Let the next block be dear."""
        self.stage.anvil.set_base_fee(20 * GWEI)

    async def cancel(self) -> None:
        """Cancel one."""
        if life := self._one_of_the_living():
            with contextlib.suppress(Refused):
                await self.stage.desk.cancel(life.key)

    async def speed_up(self) -> None:
        """Speed one up."""
        if life := self._one_of_the_living():
            with contextlib.suppress(Refused):
                await self.stage.desk.speed_up(life.key)

    def _one_of_the_living(self) -> Life | None:
        living = [life for life in self.stage.desk.lives if life.is_live and life.attempts]
        return self.chance.choice(living) if living else None
