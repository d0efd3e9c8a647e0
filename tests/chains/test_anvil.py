"""The node: starts at once, keeps time, goes back, and never outlives who started it."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.chains.anvil import COIN, GWEI, Anvil, Rpc, RpcError
from tests.chains.contracts import await_receipt, send
from tests.chains.wallets import Wallet
from tests.runtime.command_line import PATIENCE_S, wait_for

ROOT = Path(__file__).parents[2]
OWNER = """
import time
from tests.chains.anvil import Anvil
with Anvil() as anvil:
    print(anvil.pid, anvil._home, flush=True)
    time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    """Tell whether a process runs: one that is dead and not yet buried does not."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except FileNotFoundError:
        return False


def test_a_node_ends_with_its_context_and_leaves_nothing() -> None:
    with Anvil(chain_id=8453) as anvil:
        assert anvil.rpc("eth_chainId") == hex(8453)
        assert anvil.balance(anvil.accounts[0].address) == 10_000 * COIN
        home, pid = anvil._home, anvil.pid
        assert is_alive(pid)
    assert not is_alive(pid)
    assert not home.exists()


def test_a_node_dies_with_an_owner_that_is_killed() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "."},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    with owner, owner.stdout:
        pid, home = owner.stdout.readline().split()
        assert is_alive(int(pid))
        owner.send_signal(signal.SIGKILL)
    wait_for(lambda: not is_alive(int(pid)))
    assert Path(home).is_dir()  # nobody is left to remove it; it is small
    subprocess.run(["rm", "-r", home], check=True)


def test_a_wrong_option_is_told() -> None:
    with pytest.raises(RuntimeError, match=r"expected Anvil to start, found it ended: .*--nonsense"):
        Anvil(options=["--nonsense"])


def test_blocks_come_by_the_clock() -> None:
    began_s = time.monotonic()
    with Anvil(block_time_s=0.25) as anvil:
        wait_for(lambda: anvil.block_number >= 3)
        assert time.monotonic() - began_s >= 0.5


def test_time_goes_where_it_is_told() -> None:
    with Anvil() as anvil:
        anvil.mine(3, seconds_apart=12)
        stamps = [int(anvil.block(number)["timestamp"], 16) for number in range(1, 4)]
        assert [later - earlier for earlier, later in itertools.pairwise(stamps)] == [12, 12]
        before_s = anvil.timestamp_s
        anvil.warp(3600)
        assert 3600 <= anvil.timestamp_s - before_s < 3600 + PATIENCE_S
        anvil.set_time(before_s + 100_000)
        anvil.mine()
        assert 0 <= anvil.timestamp_s - before_s - 100_000 < PATIENCE_S


def test_a_snapshot_holds_however_much_is_mined_since() -> None:
    with Anvil() as anvil:
        friend = anvil.accounts[1].address
        send(anvil, anvil.accounts[0].address, to=friend, value_wei=COIN)
        before = anvil.block()["hash"]
        with anvil.undone():
            anvil.mine(200)  # more than the states it keeps
            send(anvil, anvil.accounts[0].address, to=friend, value_wei=COIN)
            assert anvil.balance(friend) == 10_002 * COIN
        assert anvil.block()["hash"] == before
        assert anvil.balance(friend) == 10_001 * COIN
        anvil.mine()
        assert int(anvil.rpc("eth_getBalance", friend, hex(anvil.block_number - 1)), 16) == 10_001 * COIN
        snapshot = anvil.snapshot()
        anvil.revert(snapshot)
        with pytest.raises(LookupError, match="expected a snapshot that is not used up"):
            anvil.revert(snapshot)


def test_a_reorg_takes_transactions_away_and_the_same_bytes_come_back() -> None:
    with Anvil() as anvil:
        raw = Wallet(anvil.accounts[3]).sign(0)
        anvil.mine(3)
        tx_hash = anvil.rpc("eth_sendRawTransaction", raw)
        old = await_receipt(anvil, tx_hash)
        anvil.reorg(2)
        assert anvil.block_number == 4
        assert anvil.block(4)["hash"] != old["blockHash"]
        assert anvil.rpc("eth_getTransactionReceipt", tx_hash) is None
        assert anvil.rpc("eth_sendRawTransaction", raw) == tx_hash
        assert await_receipt(anvil, tx_hash)["blockHash"] != old["blockHash"]


def test_the_pool_can_be_looked_into_and_emptied() -> None:
    with Anvil(is_mining=False) as anvil:
        wallet = Wallet(anvil.accounts[3])
        hashes = [anvil.rpc("eth_sendRawTransaction", wallet.sign(nonce)) for nonce in range(2)]
        assert [tx["hash"] for tx in anvil.pending()] == hashes
        assert anvil.drop(hashes[1])
        assert not anvil.drop(hashes[1])
        anvil.mine()
        assert anvil.nonce(wallet.account.address) == 1


def test_state_is_written_and_read(tmp_path: Path) -> None:
    with Anvil() as anvil:
        anvil.set_balance(anvil.accounts[4].address, 5)
        anvil.mine(7)
        anvil.dump_state(tmp_path / "state")
    with Anvil(load_state=tmp_path / "state") as anvil:
        assert (anvil.block_number, anvil.balance(anvil.accounts[4].address)) == (7, 5)
    with Anvil() as anvil:
        anvil.load_state(tmp_path / "state")
        assert anvil.balance(anvil.accounts[4].address) == 5


def test_fees_code_and_foreign_senders_can_be_set() -> None:
    with Anvil() as anvil:
        anvil.set_base_fee(50 * GWEI)
        anvil.mine()
        assert int(anvil.block()["baseFeePerGas"], 16) == 50 * GWEI
        nobody = "0x" + "12" * 20
        anvil.set_balance(nobody, COIN)
        with pytest.raises(RpcError, match="No Signer"):
            anvil.rpc("eth_sendTransaction", {"from": nobody, "to": nobody})
        with anvil.acting_as(nobody):
            send(anvil, nobody, to=nobody)
        assert anvil.nonce(nobody) == 1
        anvil.set_code(nobody, bytes.fromhex("602a60005260206000f3"))
        assert int(anvil.rpc("eth_call", {"to": nobody}, "latest"), 16) == 42


def test_a_paused_node_answers_later() -> None:
    with Anvil() as anvil:
        impatient = Rpc("127.0.0.1", int(anvil.http_url.rpartition(":")[2]), timeout_s=0.05)
        for _ in range(3):
            anvil.pause()
            with contextlib.closing(impatient), pytest.raises(TimeoutError):
                impatient.rpc("eth_blockNumber")
            anvil.resume()
            assert anvil.block_number == 0
