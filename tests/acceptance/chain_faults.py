"""A whole live vault on a chain where things go wrong: blocks are mined by the test, and a bad node stands between.

Whatever happened, `check` holds the end against the chain: position, tokens, nothing pending, gas, net delta, journal.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.process
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from eth_account import Account

from bot.domain.decisions import BotState
from bot.domain.events import OperatorAction, SubmitOrder
from bot.domain.orders import Fill, FillReversed, OrderIntent
from bot.gateways.chain.endpoints import Endpoints
from bot.gateways.chain.lives import Life, Row
from bot.gateways.chain.signing import KeystoreSigner, Signed, Unsigned
from bot.gateways.chain.transaction_log import TransactionLog, log_path
from bot.runtime.configuration.config import load_vaults
from bot.runtime.daemon import Daemon
from bot.runtime.journal import Batch, Commands, Journal, verify
from bot.runtime.live.session import open_live
from bot.runtime.operators.control import NotRunningError, ask
from bot.runtime.operators.halt_marker import HaltMarker
from tests.acceptance.chain_vaults import PATIENCE_S, ChainVault, until
from tests.chains.anvil import COIN, GWEI
from tests.chains.proxy import ChaosProxy
from tests.chains.world import PYTH_ETH, WETH_PX, World

HEDGE = "local:WETH-USDC"
LOT_WEI = COIN // 1000
INVENTORY_WEI = 50 * COIN
HALF_WIDTH_BASE = 0.5
NEED_WETH = 3.0  # what the book is long at first
BEHIND_S = 35
PUBLISHED_EVERY_S = 10


class Trouble:
    """One vault in trouble: its world, the node it sees, and what must be true once all is over."""

    def __init__(self, world: World, proxy: ChaosProxy, folder: Path, **options: Any) -> None:
        self.world = world
        self.anvil = world.anvil
        self.proxy = proxy
        urls = options.pop("urls", (proxy.http_url, proxy.ws_url))
        changes = {
            "quote_s: 30, index_s: 30, account_s: 30": "quote_s: 900, index_s: 900, account_s: 900",
            "timeout_s: 5": "timeout_s: 60",
            "final_blocks: 12": "final_blocks: 7",
        }
        own: dict[str, Any] = {
            "block_s": 12.0,
            "inventory_base": INVENTORY_WEI / COIN,
            "half_width_base": HALF_WIDTH_BASE,
        }
        own |= {"changes": changes | options.pop("changes", {})}
        self.vault = ChainVault(world, folder, urls=urls, **(own | options))
        world.give(world.hedger, WETH=INVENTORY_WEI / COIN, USDC=500_000)
        self.vault.grant(world.uniswap.router.address)
        self.coins_wei = self.anvil.balance(world.hedger)
        self.first_block = self.anvil.block_number + 1
        self._pyth_px: float | None = WETH_PX  # published again and again, unless it is to grow old
        self._published_s = 0
        self.anvil.set_automine(False)

    # what the test does

    def need(self, weth: float = NEED_WETH) -> None:
        """Make the book long: a hedge is needed once a block says so."""
        with self.automine():
            self.world.give(self.vault.holder, WETH=weth)
        self.proxy.await_head(self.anvil.block_number)

    @contextmanager
    def automine(self) -> Iterator[None]:
        """Have a block with every transaction for a while, as for what others do."""
        self.anvil.set_automine(True)
        try:
            yield
        finally:
            self.anvil.set_automine(False)

    async def mine(self, blocks: int = 1) -> None:
        """Mine blocks one by one, each seen by the daemon before the next."""
        for _ in range(blocks):
            self._mine_one()
            await asyncio.to_thread(self.proxy.await_head, self.anvil.block_number)
            number = self.anvil.block_number - self.proxy.lag_blocks
            await self.wait(lambda number=number: self.seen >= number, f"for block {number}")

    async def mine_unseen(self, blocks: int) -> None:
        """Mine blocks that the daemon may not see, or that nobody runs to see."""
        for _ in range(blocks):
            self._mine_one()
            await asyncio.to_thread(self.proxy.await_head, self.anvil.block_number)

    def publish(self, px: float, age_s: int = 0) -> None:
        """Publish a Pyth price of ETH, from then on as often as is usual; one that is old is the last for a while."""
        with self.automine():
            self.world.set_pyth(px, age_s=age_s)
        self._pyth_px, self._published_s = (None if age_s else px), self.anvil.timestamp_s

    def _mine_one(self) -> None:
        """Mine a block a second after the one before, or later where the machine is slow; prices do not grow old."""
        now_s = self.anvil.timestamp_s
        apart_s = max(1, int(time.time()) - BEHIND_S - now_s)
        if self._pyth_px is not None and now_s + apart_s - self._published_s > PUBLISHED_EVERY_S:
            pyth, self._published_s = self.world.pyth, now_s
            data = pyth.encode("set_price", PYTH_ETH, round(self._pyth_px * 10**8), 5 * 10**7, -8, now_s)
            told = {"from": self.world.deployer, "to": pyth.address, "data": f"0x{data.hex()}", "gas": hex(200_000)}
            self.anvil.rpc("eth_sendTransaction", told | {"maxFeePerGas": hex(500 * GWEI)})
        self.anvil.mine(1, seconds_apart=apart_s)

    async def steal_nonce(self) -> int:
        """Use the nonce of what is pending from another wallet with the key; return what that cost the account."""
        hedger = Account.from_key(self.world.hedger_key)
        fields = {
            "type": 2, "chainId": self.anvil.chain_id, "nonce": self.anvil.nonce(hedger.address),
            "to": self.vault.holder, "value": 5, "data": b"", "gas": 21_000, "maxFeePerGas": 40 * GWEI,
            "maxPriorityFeePerGas": 20 * GWEI,
        }  # fmt: skip
        raw = "0x" + bytes(hedger.sign_transaction(fields).raw_transaction).hex()
        tx_hash = self.anvil.rpc("eth_sendRawTransaction", raw)
        await self.mine()
        receipt = self.anvil.rpc("eth_getTransactionReceipt", tx_hash)
        return 5 + int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)

    async def operate(self, action: OperatorAction) -> None:
        """Order the daemon something as `evenkeel halt` and the like do."""
        question = {"verb": "operate", "action": str(action), "issuer": "a test", "reason": "to see"}
        await asyncio.to_thread(ask, self.vault.folder / "chain.sock", question)

    async def mine_late(self, seconds: int) -> None:
        """Mine a block that comes so much later than the machine's clock."""
        seconds += int(time.time()) - self.anvil.timestamp_s
        self.anvil.mine(1, seconds_apart=seconds)
        await asyncio.to_thread(self.proxy.await_head, self.anvil.block_number)

    async def run_second(self) -> None:
        """Run another vault with the same key and state folder."""
        (vault,) = load_vaults([self.vault.path], allow_live=True)
        with Journal.open(self.vault.folder / "second.sqlite", for_writing=True) as journal:
            async with open_live(vault, self.vault.path, journal, self.vault.environ):
                raise AssertionError("expected the second daemon to be refused")

    def run_to_death(self, process: multiprocessing.process.BaseProcess) -> None:
        """Mine as long as a daemon lives that is to be killed, each block once it has read the one before."""
        deadline_s = time.monotonic() + 2 * PATIENCE_S
        while process.is_alive():
            if self._head_read() >= self.anvil.block_number:
                self._mine_one()
            process.join(0.02)
            assert time.monotonic() < deadline_s, "expected the daemon to be killed"
        assert process.exitcode == -signal.SIGKILL, process.exitcode
        self.publish(WETH_PX)

    def _head_read(self) -> int:
        """Return the newest block that a daemon in another process has read, -1 while it does not say."""
        with suppress(NotRunningError, OSError, ValueError):  # it is not up yet, or was killed while it answered
            head = ask(self.vault.folder / "chain.sock", {"verb": "view"})["chains"][0]["head"]
            return -1 if head is None else int(head)
        return -1

    @property
    def venue_reason(self) -> str:
        """Why the chain cannot be used, as the engine has it."""
        status = self.vault.engine.venues.statuses.get("local")
        return "" if status is None else str(status.reason)

    @property
    def seen(self) -> int:
        """The newest block whose report the engine has."""
        report = self.vault.engine.chains.reports.get("local")
        return -1 if report is None else int(report.block_number)

    async def wait(self, condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
        """Wait until `condition` holds; what was decided last is told if it never does."""
        try:
            return await until(condition, patience_s, what)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.state} {self.vault.decision}") from None

    async def sent(self, count: int = 1) -> str:
        """Wait until so many transactions were handed to the node; return the newest one's hash."""
        await self.wait(lambda: len(self.proxy.sent) >= count, f"for transaction {count}")
        return self.proxy.sent[-1]

    async def settled(self, lots: int) -> None:
        """Wait until the ledger holds so many lots."""
        await self.wait(lambda: self.ledger_lots == lots, f"for {lots} lots, found {self.ledger_lots}")

    # what is so

    @property
    def ledger_lots(self) -> int:
        """The hedge as the engine has it."""
        return int(self.vault.engine.desks["ETH"].holdings[HEDGE].lots)

    @property
    def chain_lots(self) -> int:
        """The hedge as the chain has it."""
        return (self.world.balance(self.world.hedger, "WETH") - INVENTORY_WEI) // LOT_WEI

    @property
    def state(self) -> tuple[BotState, str]:
        """The bot's state and why."""
        return self.vault.engine.state, self.vault.engine.state_reason

    @property
    def intents(self) -> list[OrderIntent]:
        """Every hedge that was decided upon, as journalled."""
        with Journal.open(self.vault.journal_path, for_writing=False) as journal:
            records = [record for _, record in journal.records() if isinstance(record, Commands)]
        return [one.intent for record in records for one in record.commands if isinstance(one, SubmitOrder)]

    @property
    def fills(self) -> list[Fill]:
        """The fills that stand: told, and not taken back."""
        standing: dict[str, Fill] = {}
        for event in self.vault.events(Fill, FillReversed):
            if isinstance(event, Fill):
                standing[event.trade_id] = event
            elif isinstance(event, FillReversed):
                standing.pop(event.trade_id, None)
        return list(standing.values())

    @property
    def mined(self) -> dict[str, bool]:
        """The hedger's transactions in blocks, each with whether it swapped, by hash."""
        found = {}
        for number in range(self.first_block, self.anvil.block_number + 1):
            for one in self.anvil.rpc("eth_getBlockByNumber", hex(number), True)["transactions"]:
                if one["from"].lower() == self.world.hedger.lower():
                    receipt = self.anvil.rpc("eth_getTransactionReceipt", one["hash"])
                    found[one["hash"]] = len(receipt["logs"]) > 0
        return found

    @property
    def lives(self) -> dict[str, Life]:
        """The transaction log as it is on disk."""
        path = log_path(self.vault.folder, self.anvil.chain_id, self.world.hedger)
        with TransactionLog.open(path, for_writing=False) as log:
            return log.lives()

    # how it must end

    async def calm(self, is_settled: Callable[[], bool] | None = None) -> None:
        """Let the chain go on for as long as it takes until all that happened is settled and final."""
        self.proxy.hold(is_on=False)
        self.proxy.release()
        self.anvil.set_base_fee(GWEI)
        await self.mine_until(is_settled or (lambda: abs(self.vault.net_delta) <= HALF_WIDTH_BASE))
        await self.mine_until(lambda: self.lives != {} and all(life.is_over for life in self.lives.values()))

    async def mine_until(self, condition: Callable[[], Any], most_blocks: int = 40) -> None:
        """Mine until something is so."""
        for _ in range(most_blocks):
            if condition():
                return
            await self.mine()
            await asyncio.sleep(0.01)  # what a block leads to is on its way
        raise AssertionError(f"expected it within {most_blocks} blocks, found {self.state} {self.vault.decision}")

    async def check(
        self, *, hedges: int = 1, state: BotState = BotState.RUNNING, others_wei: int = 0, is_hedged: bool = True
    ) -> None:
        """Hold the end against the chain: `hedges` were mined, and whoever else has the key spent `others_wei`."""
        engine, hedger = self.vault.engine, self.world.hedger
        await self.wait(lambda: self.ledger_lots == self.chain_lots and not engine.orders.live, "for the ledger")
        if is_hedged:
            await self.wait(lambda: abs(self.vault.net_delta) <= HALF_WIDTH_BASE, "for net delta")
        swaps = [tx_hash for tx_hash, is_swap in self.mined.items() if is_swap]
        assert len(swaps) == hedges, f"expected {hedges} hedges in blocks, found {swaps}"
        await self.wait(lambda: len(self.fills) == hedges, "for the journal to be on disk")
        fills = self.fills
        assert sorted(fill.trade_id.split("@")[0] for fill in fills) == sorted(swaps)
        assert len({fill.order_id for fill in fills}) == hedges, "an order filled twice"
        assert sum(fill.qty_lots for fill in fills) == self.ledger_lots
        left = {life.key: life.state for life in self.lives.values() if not life.is_over}
        assert not left, f"expected nothing under way, found {left}"
        assert self.anvil.nonce(hedger) == self.anvil.nonce(hedger, "pending")
        spent_wei = self.coins_wei - self.anvil.balance(hedger) - others_wei
        assert abs(engine.desks["ETH"].book.spent_coins - spent_wei / COIN) < 1e-12, "the ledger of gas"
        assert not engine.accounts.mismatches
        assert not engine.accounts.adoption_count
        assert not engine.orders.contradiction
        assert engine.state is state, self.state


@contextmanager
def behind(world: World) -> Iterator[World]:
    """Lend a world whose clock is a while behind, so that blocks may come faster than one a second; then undo all."""
    anvil = world.anvil
    with anvil.undone():
        anvil.set_time(int(time.time()) - BEHIND_S)
        for name, feed in world.feeds.items():
            if name != "sequencer":
                feed.transact("set_answer", feed.call("latestAnswer"))
        world.set_pyth(WETH_PX)
        anvil.set_base_fee(GWEI)
        try:
            yield world
        finally:
            anvil.rpc("anvil_dropAllTransactions")
            anvil.set_automine(True)


@contextmanager
def in_trouble(world: World, folder: Path, **options: Any) -> Iterator[Trouble]:
    """Lend a vault in trouble; its journal must be whole at the end."""
    with ChaosProxy(world.anvil) as proxy:
        trouble = Trouble(world, proxy, folder, **options)
        yield trouble
        found = verify(trouble.vault.journal_path)
        assert found.fault is None, found.fault


# ── a daemon that is killed ──────────────────────────────────────────────────────────────────────────────────────────


class Plan(msgspec.Struct):
    """Where a daemon's files are, and at which step of a transaction's life it is killed."""

    vault: str
    journal: str
    environ: dict[str, str]
    step: str


def victim(encoded: bytes) -> None:
    """Run the daemon of a plan until the step kills it, as `kill -9` would."""
    plan = msgspec.json.decode(encoded, type=Plan)

    def at(step: str) -> None:
        if step == plan.step:
            os.kill(os.getpid(), signal.SIGKILL)

    append_row, sign, broadcast, append = (
        TransactionLog.append, KeystoreSigner.sign, Endpoints.broadcast, Journal.append,
    )  # fmt: skip

    def fatal_row(self: TransactionLog, row: Row) -> None:
        at(f"before row {row.state}")
        append_row(self, row)
        at(f"after row {row.state}{' reversed' if row.is_reversed else ''}")

    async def fatal_sign(self: KeystoreSigner, unsigned: Unsigned) -> Signed:
        at("before signing")
        signed = await sign(self, unsigned)
        at("after signing")
        return signed

    async def fatal_broadcast(self: Endpoints, method: str, params: Any) -> dict[str, Any]:
        answers = await broadcast(self, method, params)
        at("after broadcast")
        return answers

    def fatal_append(self: Journal, record: Any) -> None:
        append(self, record)
        if isinstance(record, Batch) and any(isinstance(event, Fill) for event in record.events):
            self.flush()
            at("after journal")

    TransactionLog.append = fatal_row  # type: ignore[method-assign]
    KeystoreSigner.sign = fatal_sign  # type: ignore[method-assign]
    Endpoints.broadcast = fatal_broadcast  # type: ignore[method-assign]
    Journal.append = fatal_append  # type: ignore[method-assign,assignment]
    asyncio.run(_run(plan))


async def _run(plan: Plan) -> None:
    path = Path(plan.vault)
    (vault,) = load_vaults([path], allow_live=True)
    with Journal.open(Path(plan.journal), for_writing=True) as journal:
        async with open_live(vault, path, journal, plan.environ) as session:
            daemon = Daemon(
                session, journal, socket_path=path.parent / "chain.sock", speed=1.0, progress=lambda _: None,
                marker=HaltMarker(path.parent / "halted"),
            )  # fmt: skip
            await daemon.run(asyncio.Event())


def start_victim(trouble: Trouble, step: str) -> multiprocessing.process.BaseProcess:
    """Start the daemon of a vault in a process of its own, to be killed at a step."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.acceptance.chain_faults"])
    vault = trouble.vault
    plan = Plan(str(vault.path), str(vault.journal_path), vault.environ, step)
    process = context.Process(target=victim, args=(msgspec.json.encode(plan),), daemon=True)
    process.start()
    return process
