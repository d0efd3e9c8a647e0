"""A process that works on a transaction and is killed at a given step of its life, as by `kill -9`."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
from eth_account import Account

from bot.gateways.chain.endpoints import Endpoints
from bot.gateways.chain.lives import Row
from bot.gateways.chain.nouns import TransactionNews, TransactionRequest
from bot.gateways.chain.rpc import Endpoint
from bot.gateways.chain.settings import ChainSettings
from bot.gateways.chain.signing import KeystoreSigner, Signed, Unsigned
from bot.gateways.chain.transaction_log import TransactionLog, log_path
from bot.gateways.chain.transaction_reader import TransactionReader
from bot.gateways.chain.transactions import TransactionDesk
from tests.gateways.chain.nodes import ManualClock

SURVIVED = 3  # its exit code if nothing killed it


class Fatal:
    """Counts what happens and kills the process at the nth time of one thing."""

    def __init__(self, step: str, nth: int) -> None:
        self.step, self.left = step, nth

    def at(self, step: str) -> None:
        """Note that this happens now."""
        if step == self.step:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class FatalLog(TransactionLog):
    """A log during whose writing the process may be killed."""

    fatal: Fatal

    def append(self, row: Row) -> None:
        """Write a row."""
        self.fatal.at(f"before row {row.state}")
        super().append(row)
        self.fatal.at(f"after row {row.state}")


class FatalSigner(KeystoreSigner):
    """A signer during whose work the process may be killed."""

    fatal: Fatal

    async def sign(self, unsigned: Unsigned) -> Signed:
        """Sign."""
        self.fatal.at("before signing")
        signed = await super().sign(unsigned)
        self.fatal.at("after signing")
        return signed


class FatalNodes(Endpoints):
    """Nodes at whose asking the process may be killed."""

    fatal: Fatal

    async def broadcast(self, method: str, params: Any) -> dict[str, Any]:
        """Hand over."""
        self.fatal.at("before broadcast")
        answers = await super().broadcast(method, params)
        self.fatal.at("after broadcast")
        return answers


class Plan(msgspec.Struct):
    """What the victim does: send, then see so many blocks, canceling before one of them if told."""

    settings: ChainSettings
    node_url: str
    key: str
    request: TransactionRequest
    blocks: int
    cancels: bool
    step: str
    nth: int


def main(encoded: bytes) -> None:
    """Carry out a plan until killed."""
    plan = msgspec.msgpack.decode(encoded, type=Plan)
    asyncio.run(work(plan))
    os._exit(SURVIVED)


async def work(plan: Plan) -> None:
    """Carry out a plan."""
    settings, clock = plan.settings, ManualClock()
    fatal = FatalLog.fatal = FatalSigner.fatal = FatalNodes.fatal = Fatal(plan.step, plan.nth)
    signer = FatalSigner(Account.from_key(plan.key))

    def put(news: TransactionNews) -> None:
        fatal.at(f"news {news.state}")

    path = log_path(Path(settings.state_dir), settings.chain_id, signer.address)
    with FatalLog.open(path, for_writing=True) as log:
        async with FatalNodes(settings, clock) as nodes, Endpoint(plan.node_url, settings.timeout_ns) as node:
            desk = TransactionDesk(settings, signer, log, nodes, clock, put)
            reader = TransactionReader(nodes, signer.address)
            await desk.recover()
            await desk.send(plan.request)
            if plan.cancels:
                await desk.cancel(plan.request.key)
            for _ in range(plan.blocks):
                await node.call("anvil_mine", ["0x1"])
                await desk.on_block(await reader.latest())
