"""Anvil, a real Ethereum node for one machine: started in a moment, steered over JSON-RPC, gone with its owner.

    with Anvil(block_time_s=2) as anvil:
        anvil.mine(3)
        anvil.http_url, anvil.ws_url, anvil.accounts[0].key

It keeps what it writes in a folder of its own that is removed with it. What it does unlike Geth is in
`tests/chains/proxy.py`, which makes up for it.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from eth_utils.address import to_checksum_address

from tests.chains.artifacts import anvil_binary, write_at_once

STARTS_IN_S = 120.0  # on a machine that has much else to do
ANSWERS_IN_S = 120.0
GWEI = 10**9
COIN = 10**18


class Account(NamedTuple):
    """An account with 10,000 coins that Anvil signs for; its key is known to all the world."""

    address: str
    key: str


class RpcError(Exception):
    """The node refused: `code`, `message` and `data` are what it said."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.code: int = error.get("code", 0)
        self.message: str = error.get("message", "")
        self.data: Any = error.get("data")
        super().__init__(f"{self.code}: {self.message}")


class Rpc:
    """JSON-RPC over one kept HTTP connection: simple, in order, fast. For one thread."""

    def __init__(self, host: str, port: int, timeout_s: float = ANSWERS_IN_S) -> None:
        self.http_url = f"http://{host}:{port}"
        self.ws_url = f"ws://{host}:{port}"
        self._connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
        self._id = 0

    def rpc(self, method: str, *params: Any) -> Any:
        """Return the node's answer; raise RpcError if it refuses."""
        return self.batch([(method, params)])[0]

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Return the answers to several requests sent as one; raise the first refusal."""
        requests = [
            {"jsonrpc": "2.0", "id": self._id + n, "method": method, "params": list(params)}
            for n, (method, params) in enumerate(calls)
        ]
        self._id += len(calls)
        if not requests:
            return []
        body = json.dumps(requests if len(requests) > 1 else requests[0]).encode()
        answers = json.loads(self._post(body))
        if isinstance(answers, dict):
            answers = [answers]
        for answer in answers:
            if "error" in answer:
                raise RpcError(answer["error"])
        by_id = {answer["id"]: answer["result"] for answer in answers}
        return [by_id[request["id"]] for request in requests]

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _post(self, body: bytes) -> bytes:
        self._connection.request("POST", "/", body, {"Content-Type": "application/json"})
        return self._connection.getresponse().read()


class Anvil(Rpc):
    """One node. It mines with every transaction, or every `block_time_s`, or only by `mine` (`is_mining=False`).

    `load_state` is a file that `dump_state` wrote. More command line options go into `options`. The node is killed when
    the thread that started it ends, however that happens.
    """

    def __init__(
        self,
        *,
        block_time_s: float | None = None,
        is_mining: bool = True,
        load_state: Path | None = None,
        chain_id: int = 31337,
        base_fee_wei: int | None = None,
        timestamp_s: int | None = None,
        persisted_states: int = 64,
        options: Sequence[str] = (),
    ) -> None:
        self.chain_id = chain_id
        self._home = Path(tempfile.mkdtemp(prefix="evenkeel-anvil-"))
        command = [
            str(anvil_binary()), "--host", "127.0.0.1", "--port", "0", "--chain-id", str(chain_id),
            "--max-persisted-states", str(persisted_states), "--no-request-size-limit",
            "--config-out", str(self._home / "config.json"),
        ]  # fmt: skip
        if block_time_s is not None:
            command += ["--block-time", f"{block_time_s:g}"]
        if not is_mining:
            command.append("--no-mining")
        if load_state is not None:
            command += ["--load-state", str(load_state)]
        if base_fee_wei is not None:
            command += ["--block-base-fee-per-gas", str(base_fee_wei)]
        if timestamp_s is not None:
            command += ["--timestamp", str(timestamp_s)]
        if setpriv := shutil.which("setpriv"):  # else it outlives an owner that is killed
            command = [setpriv, "--pdeathsig", "KILL", "--", *command]
        self._log = self._home / "log"
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [*command, *options],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={"HOME": str(self._home)},
                )
            super().__init__("127.0.0.1", self._await_port())
        except BaseException:
            self._end()
            raise
        config = json.loads((self._home / "config.json").read_text(encoding="utf-8"))
        self.accounts = [
            Account(str(to_checksum_address(address)), key)
            for address, key in zip(config["available_accounts"], config["private_keys"], strict=True)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def close(self) -> None:
        """End the node and remove what it wrote. Harmless when it has ended."""
        super().close()
        self._end()

    def pause(self) -> None:
        """Stop the process in its tracks: connections stay open, nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)  # until the last of its threads stands still

    def resume(self) -> None:
        """Let a paused process go on."""
        self._process.send_signal(signal.SIGCONT)

    # Blocks and time

    @property
    def block_number(self) -> int:
        """Number of the newest block."""
        return int(self.rpc("eth_blockNumber"), 16)

    def block(self, which: int | str = "latest") -> dict[str, Any]:
        """Return a block's header by number, tag or hash, numbers still as hexadecimal texts."""
        if isinstance(which, str) and len(which) == 66:
            return dict(self.rpc("eth_getBlockByHash", which, False))
        return dict(self.rpc("eth_getBlockByNumber", hex(which) if isinstance(which, int) else which, False))

    @property
    def timestamp_s(self) -> int:
        """Time of the newest block."""
        return int(self.block()["timestamp"], 16)

    def mine(self, blocks: int = 1, seconds_apart: int | None = None) -> None:
        """Mine blocks; with `seconds_apart` each is that much later than the one before."""
        if seconds_apart is None:
            self.rpc("anvil_mine", hex(blocks))
            return
        for _ in range(blocks):
            self.rpc("evm_setNextBlockTimestamp", self.timestamp_s + seconds_apart)
            self.rpc("anvil_mine", "0x1")

    def warp(self, seconds: int) -> None:
        """Let time pass on the chain, and mine a block at the end of it."""
        self.rpc("evm_increaseTime", seconds)
        self.mine()

    def set_time(self, timestamp_s: int) -> None:
        """Set the clock that the next block is stamped by; it must be later than the newest block."""
        self.rpc("evm_setTime", timestamp_s * 1000)

    def set_automine(self, is_on: bool) -> None:
        """Mine a block with every transaction, or leave them in the pool."""
        self.rpc("evm_setAutomine", is_on)

    def set_interval(self, seconds: int) -> None:
        """Mine every so many whole seconds, 0 for never; fractions only when it is started, as `block_time_s`."""
        self.rpc("evm_setIntervalMining", seconds)

    def set_base_fee(self, wei: int) -> None:
        """Set the base fee of the next block, from where it goes on by the rules."""
        self.rpc("anvil_setNextBlockBaseFeePerGas", hex(wei))

    def reorg(self, depth: int, transactions: Sequence[tuple[str | dict[str, Any], int]] = ()) -> None:
        """Replace the newest blocks by as many others, empty but for (raw or transaction, which block from 0).

        Transactions of the replaced blocks are gone: not in the pool either, which is unlike Geth.
        """
        self.rpc("anvil_reorg", depth, [list(pair) for pair in transactions])

    # Pool

    def drop(self, tx_hash: str) -> bool:
        """Take a transaction out of the pool; tell whether it was there."""
        return self.rpc("anvil_dropTransaction", tx_hash) is not None

    def pending(self) -> list[dict[str, Any]]:
        """Return the transactions of the pool that could be mined, by sender and nonce."""
        content = self.rpc("txpool_content")["pending"]
        return [by_nonce[nonce] for by_nonce in content.values() for nonce in sorted(by_nonce, key=int)]

    # State

    def snapshot(self) -> str:
        """Remember the present state; what it returns can be reverted to once."""
        return str(self.rpc("evm_snapshot"))

    def revert(self, snapshot: str) -> None:
        """Go back to a snapshot, which is used up by it, as are all later ones; the pool is emptied."""
        if self.rpc("evm_revert", snapshot) is not True:
            raise LookupError(f"expected a snapshot that is not used up, found {snapshot}")
        # a receipt is there a moment before the pool has let go of its transaction, which would be mined once more
        self.rpc("anvil_dropAllTransactions")

    @contextlib.contextmanager
    def undone(self) -> Iterator[None]:
        """Undo whatever happens on the chain inside the block."""
        snapshot = self.snapshot()
        try:
            yield
        finally:
            self.revert(snapshot)

    def balance(self, address: str) -> int:
        """Return the coins an address has, in wei."""
        return int(self.rpc("eth_getBalance", address, "latest"), 16)

    def set_balance(self, address: str, wei: int) -> None:
        """Give an address this many wei, whatever it had."""
        self.rpc("anvil_setBalance", address, hex(wei))

    def set_code(self, address: str, code: bytes) -> None:
        """Put a contract's runtime code at an address."""
        self.rpc("anvil_setCode", address, "0x" + code.hex())

    def nonce(self, address: str, tag: str = "latest") -> int:
        """Return the next nonce of an address."""
        return int(self.rpc("eth_getTransactionCount", address, tag), 16)

    @contextlib.contextmanager
    def acting_as(self, address: str) -> Iterator[str]:
        """Let transactions be sent from an address whose key nobody has."""
        self.rpc("anvil_impersonateAccount", address)
        try:
            yield address
        finally:
            self.rpc("anvil_stopImpersonatingAccount", address)

    def dump_state(self, path: Path) -> None:
        """Write the whole state into a file that `load_state` takes."""
        state = gzip.decompress(bytes.fromhex(self.rpc("anvil_dumpState").removeprefix("0x")))
        write_at_once(path, state)

    def load_state(self, path: Path) -> None:
        """Merge the state in a file into the chain."""
        self.rpc("anvil_loadState", "0x" + gzip.compress(path.read_bytes(), 1).hex())

    def log(self) -> str:
        """Return what the node has printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    # Its process

    def _await_port(self) -> int:
        """Return the port the node chose, as soon as it listens."""
        give_up_s = time.monotonic() + STARTS_IN_S
        while time.monotonic() < give_up_s:
            text = self.log()
            if match := re.search(r"Listening on 127\.0\.0\.1:(\d+)\n", text):
                return int(match[1])
            if self._process.poll() is not None:
                raise RuntimeError(f"expected Anvil to start, found it ended: {text.strip()[-500:]}")
            time.sleep(0.002)
        raise TimeoutError(f"expected Anvil to listen within {STARTS_IN_S:g} s, found nothing: {self.log()[-500:]}")

    def _end(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        shutil.rmtree(self._home, ignore_errors=True)
