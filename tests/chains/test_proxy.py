"""The proxy: a well-behaved Geth when left alone, and every kind of bad node when told to."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.chains.anvil import COIN, GWEI, Anvil, Rpc, RpcError
from tests.chains.contracts import await_receipt
from tests.chains.geth_pool import Place
from tests.chains.proxy import ChaosProxy
from tests.chains.wallets import Wallet
from tests.chains.world import World
from tests.runtime.command_line import PATIENCE_S
from tests.venues.faults import delay, drop_reply, silence
from tests.venues.faults import http as status


@pytest.fixture
def anvil() -> Iterator[Anvil]:
    """Return a node that mines only when told to; its base fee is 1 Gwei."""
    with Anvil(is_mining=False) as node:
        yield node


@pytest.fixture
def proxy(anvil: Anvil) -> Iterator[ChaosProxy]:
    with ChaosProxy(anvil) as found:
        yield found


@pytest.fixture
def client(proxy: ChaosProxy) -> Iterator[Rpc]:
    rpc = Rpc("127.0.0.1", proxy.port)
    yield rpc
    rpc.close()


@pytest.fixture
def wallet(anvil: Anvil) -> Wallet:
    return Wallet(anvil.accounts[5])


def mine(anvil: Anvil, proxy: ChaosProxy, blocks: int = 1) -> None:
    """Mine, and wait until the proxy has seen to its pool."""
    for _ in range(blocks):
        anvil.mine()
        proxy.await_head(anvil.block_number)


@contextlib.contextmanager
def listen(url: str, *params: Any) -> Iterator[ClientConnection]:
    """Open a WebSocket and subscribe."""
    with connect(url) as socket:
        socket.send(json.dumps({"jsonrpc": "2.0", "id": 0, "method": "eth_subscribe", "params": params}))
        assert "result" in json.loads(socket.recv(PATIENCE_S))
        yield socket


def hear(socket: ClientConnection) -> Any:
    """Return what a subscription says next."""
    return json.loads(socket.recv(PATIENCE_S))["params"]["result"]


def is_quiet(socket: ClientConnection, for_s: float = 0.1) -> bool:
    """Tell whether nothing is said for a while."""
    try:
        socket.recv(for_s)
    except TimeoutError:
        return True
    return False


def send(client: Rpc, raw: str) -> str:
    return str(client.rpc("eth_sendRawTransaction", raw))


# The pool's rules


def test_a_replacement_needs_ten_percent_more_of_both_fees(client: Rpc, wallet: Wallet) -> None:
    fee, tip = 20 * GWEI, 2 * GWEI
    send(client, wallet.sign(0, max_fee_wei=fee, tip_wei=tip))
    for new_fee, new_tip in (
        (fee * 10999 // 10000, tip * 2),
        (fee * 2, tip * 10999 // 10000),
        (fee * 2, tip),
        (fee, tip),
    ):
        with pytest.raises(RpcError, match=r"^-32000: (replacement transaction underpriced|already known)$"):
            send(client, wallet.sign(0, max_fee_wei=new_fee, tip_wei=new_tip))
    replaced = send(client, wallet.sign(0, max_fee_wei=fee * 11 // 10, tip_wei=tip * 11 // 10))
    assert client.rpc("eth_getTransactionByHash", replaced)["maxFeePerGas"] == hex(fee * 11 // 10)


def test_only_the_replacement_is_mined(anvil: Anvil, proxy: ChaosProxy, client: Rpc, wallet: Wallet) -> None:
    old = send(client, wallet.sign(0, max_fee_wei=20 * GWEI))
    new = send(client, wallet.sign(0, max_fee_wei=22 * GWEI, tip_wei=11 * GWEI // 10))
    mine(anvil, proxy)
    assert client.rpc("eth_getTransactionReceipt", old) is None
    assert client.rpc("eth_getTransactionByHash", old) is None
    assert client.rpc("eth_getTransactionReceipt", new)["status"] == "0x1"
    assert proxy.places() == {new: Place.MINED}


def test_a_held_transaction_can_be_replaced_too(anvil: Anvil, proxy: ChaosProxy, client: Rpc, wallet: Wallet) -> None:
    proxy.hold_next()
    old = send(client, wallet.sign(0, max_fee_wei=20 * GWEI))
    with pytest.raises(RpcError, match="replacement transaction underpriced"):
        send(client, wallet.sign(0, max_fee_wei=21 * GWEI, tip_wei=2 * GWEI))
    new = send(client, wallet.sign(0, max_fee_wei=22 * GWEI, tip_wei=2 * GWEI))
    proxy.release()
    mine(anvil, proxy)
    assert client.rpc("eth_getTransactionReceipt", old) is None
    assert client.rpc("eth_getTransactionReceipt", new)["status"] == "0x1"


def test_it_says_what_geth_says(anvil: Anvil, proxy: ChaosProxy, client: Rpc, wallet: Wallet) -> None:
    raw = wallet.sign(0)
    send(client, raw)
    refusals = {
        raw: "already known",
        wallet.sign(1, value_wei=10**30): "insufficient funds for gas",
        wallet.sign(1, tip_wei=0): "transaction underpriced: gas tip cap 0, minimum needed 1",
        wallet.sign(1, max_fee_wei=GWEI, tip_wei=2 * GWEI): "max priority fee per gas higher than max fee per gas",
        "0x02abcd": "rlp: ",
    }
    for refused, words in refusals.items():
        with pytest.raises(RpcError, match=f"^-32000: {words}"):
            send(client, refused)
    mine(anvil, proxy)
    with pytest.raises(RpcError, match=r"^-32000: nonce too low: next nonce 1, tx nonce 0"):
        send(client, raw)


def test_a_transaction_under_the_base_fee_stays_pending_until_it_fits(
    anvil: Anvil, proxy: ChaosProxy, client: Rpc, wallet: Wallet
) -> None:
    anvil.set_base_fee(10 * GWEI)
    cheap = send(client, wallet.sign(0, max_fee_wei=5 * GWEI))
    assert client.rpc("eth_getTransactionByHash", cheap)["blockNumber"] is None
    mine(anvil, proxy)
    assert client.rpc("eth_getTransactionReceipt", cheap) is None
    assert client.rpc("eth_getTransactionCount", wallet.account.address, "pending") == "0x1"
    anvil.set_base_fee(GWEI)
    mine(anvil, proxy)  # at a base fee that fits; only after it the pool looks again
    mine(anvil, proxy)
    assert client.rpc("eth_getTransactionReceipt", cheap)["status"] == "0x1"


def test_a_transaction_the_base_fee_outgrows_stays_pending(
    anvil: Anvil, proxy: ChaosProxy, client: Rpc, wallet: Wallet
) -> None:
    outgrown = send(client, wallet.sign(0, max_fee_wei=5 * GWEI))
    assert proxy.places() == {outgrown: Place.PASSED}
    anvil.set_base_fee(10 * GWEI)
    mine(anvil, proxy)
    assert anvil.rpc("eth_getTransactionByHash", outgrown) is None  # what Anvil does
    assert client.rpc("eth_getTransactionByHash", outgrown)["blockNumber"] is None  # what Geth does
    assert proxy.places() == {outgrown: Place.WAITING}


# Fates


def test_held_and_delayed_and_dropped(anvil: Anvil, proxy: ChaosProxy, client: Rpc, wallet: Wallet) -> None:
    proxy.hold_next()
    held = send(client, wallet.sign(0))
    mine(anvil, proxy)
    assert client.rpc("eth_getTransactionReceipt", held) is None
    assert client.rpc("eth_getTransactionByHash", held)["hash"] == held
    assert client.rpc("eth_getTransactionCount", wallet.account.address, "pending") == "0x1"
    proxy.release(held)
    mine(anvil, proxy)
    assert client.rpc("eth_getTransactionReceipt", held)["status"] == "0x1"

    proxy.delay_next(2)
    late = send(client, wallet.sign(1))
    mine(anvil, proxy, 2)
    assert client.rpc("eth_getTransactionReceipt", late) is None
    mine(anvil, proxy)
    assert client.rpc("eth_getTransactionReceipt", late)["status"] == "0x1"

    proxy.drop_next()
    dropped = send(client, wallet.sign(2))
    mine(anvil, proxy)
    assert client.rpc("eth_getTransactionByHash", dropped) is None
    assert send(client, wallet.sign(2)) == dropped  # the same bytes once more
    proxy.forget(dropped)
    mine(anvil, proxy)
    assert client.rpc("eth_getTransactionReceipt", dropped) is None

    proxy.hide_next()
    hidden = send(client, wallet.sign(2))
    assert client.rpc("eth_getTransactionByHash", hidden) is None
    mine(anvil, proxy)
    assert client.rpc("eth_getTransactionReceipt", hidden)["status"] == "0x1"
    assert proxy.sent == [held, late, dropped, dropped, hidden]


def test_someone_elses_transaction_takes_the_nonce(
    anvil: Anvil, proxy: ChaosProxy, client: Rpc, wallet: Wallet
) -> None:
    proxy.hold()
    ours = send(client, wallet.sign(0))
    theirs = anvil.rpc("eth_sendRawTransaction", wallet.sign(0, value_wei=1))
    mine(anvil, proxy)
    assert client.rpc("eth_getTransactionReceipt", theirs)["status"] == "0x1"
    assert client.rpc("eth_getTransactionByHash", ours) is None
    assert proxy.places() == {}


@pytest.mark.parametrize("keeps", [True, False])
def test_a_reorg_puts_transactions_back_into_the_pool(
    anvil: Anvil, proxy: ChaosProxy, client: Rpc, wallet: Wallet, keeps: bool
) -> None:
    proxy.keeps_reorged = keeps
    anvil.mine(3)
    raw = wallet.sign(0)
    tx_hash = send(client, raw)
    mine(anvil, proxy, 2)
    assert client.rpc("eth_getTransactionReceipt", tx_hash)["status"] == "0x1"
    with listen(proxy.ws_url, "newHeads") as socket:
        anvil.reorg(2)
        heads = [hear(socket), hear(socket)]
    assert [int(head["number"], 16) for head in heads] == [4, 5]
    proxy.await_head(5)
    assert client.rpc("eth_getTransactionReceipt", tx_hash) is None
    assert (client.rpc("eth_getTransactionByHash", tx_hash) is not None) == keeps
    mine(anvil, proxy)
    assert (client.rpc("eth_getTransactionReceipt", tx_hash) is not None) == keeps
    if not keeps:
        assert send(client, raw) == tx_hash


# The private relay


def ask_relay(proxy: ChaosProxy, method: str, *params: Any) -> Any:
    """Return the relay's answer."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE_S)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    connection.request("POST", urlsplit(proxy.relay_url).path, body)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    if "error" in answer:
        raise RpcError(answer["error"])
    return answer["result"]


def test_the_relay_shows_nothing_before_the_block(anvil: Anvil, proxy: ChaosProxy, client: Rpc, wallet: Wallet) -> None:
    with listen(proxy.ws_url, "newPendingTransactions") as socket:
        private = ask_relay(proxy, "eth_sendPrivateTransaction", {"tx": wallet.sign(0)})
        assert client.rpc("eth_getTransactionByHash", private) is None
        public = send(client, Wallet(anvil.accounts[6]).sign(0))
        assert hear(socket) == public
    mine(anvil, proxy)
    assert client.rpc("eth_getTransactionReceipt", private)["status"] == "0x1"
    with pytest.raises(RpcError, match="-32601"):
        client.rpc("eth_sendPrivateTransaction", {"tx": wallet.sign(1)})


def test_the_relay_gives_up_and_can_be_told_to(anvil: Anvil, proxy: ChaosProxy, client: Rpc, wallet: Wallet) -> None:
    proxy.relay_lands = False
    last = hex(anvil.block_number + 2)
    ask_relay(proxy, "eth_sendPrivateTransaction", {"tx": wallet.sign(0), "maxBlockNumber": last})
    mine(anvil, proxy, 3)
    assert proxy.places() == {}
    proxy.relay_lands = True
    canceled = ask_relay(proxy, "eth_sendRawTransaction", wallet.sign(0, value_wei=1))
    assert ask_relay(proxy, "eth_cancelPrivateTransaction", {"txHash": canceled}) is True
    assert ask_relay(proxy, "eth_cancelPrivateTransaction", {"txHash": canceled}) is False
    mine(anvil, proxy)
    assert client.rpc("eth_getTransactionCount", wallet.account.address, "latest") == "0x0"


def test_the_relay_does_not_land_what_fails(world: World) -> None:
    wallet = Wallet(world.anvil.accounts[5])
    usdc = world.tokens["USDC"]
    raw = wallet.sign(0, to=usdc.address, data=usdc.encode("transfer", world.trader, 10**6), gas=100_000)
    with ChaosProxy(world.anvil) as proxy:
        tx_hash = ask_relay(proxy, "eth_sendPrivateTransaction", {"tx": raw})
        mine(world.anvil, proxy)
        assert proxy.places() == {tx_hash: Place.WAITING}
        world.give(wallet.account.address, USDC=1.0)  # now it works
        assert await_receipt(world.anvil, tx_hash)["status"] == "0x1"


# What it says of the chain


def test_a_lagging_node_is_consistently_late(anvil: Anvil, proxy: ChaosProxy, client: Rpc, wallet: Wallet) -> None:
    anvil.mine(10)
    proxy.await_head(10)
    with listen(proxy.ws_url, "newHeads") as socket:
        proxy.lag_blocks = 5
        tx_hash = send(client, wallet.sign(0, value_wei=COIN, to=anvil.accounts[6].address))
        mine(anvil, proxy)
        assert client.rpc("eth_blockNumber") == hex(6)
        assert client.rpc("eth_getBlockByNumber", "latest", False)["number"] == hex(6)
        assert client.rpc("eth_getBlockByNumber", hex(7), False) is None
        assert client.rpc("eth_getBalance", anvil.accounts[6].address, "latest") == hex(10_000 * COIN)
        assert client.rpc("eth_getTransactionReceipt", tx_hash) is None
        assert client.rpc("eth_getTransactionByHash", tx_hash)["blockNumber"] is None
        with pytest.raises(RpcError, match="header not found"):
            client.rpc("eth_call", {"to": wallet.account.address}, {"blockHash": anvil.block()["hash"]})
        with pytest.raises(RpcError, match="header not found"):
            client.rpc("eth_getBalance", wallet.account.address, hex(11))
        assert is_quiet(socket)  # it stood still
        proxy.lag_blocks = 0
        mine(anvil, proxy)
        assert [int(hear(socket)["number"], 16) for _ in range(2)] == [11, 12]
        assert client.rpc("eth_getTransactionReceipt", tx_hash)["blockNumber"] == hex(11)


def test_a_node_on_another_branch_is_consistent_with_itself(
    anvil: Anvil, proxy: ChaosProxy, client: Rpc, wallet: Wallet
) -> None:
    anvil.mine(5)
    proxy.await_head(5)
    true = {number: anvil.block(number)["hash"] for number in range(6)}
    proxy.fork_from(4)
    told = [client.rpc("eth_getBlockByNumber", hex(number), False) for number in range(6)]
    assert [block["hash"] == true[n] for n, block in enumerate(told)] == [True, True, True, True, False, False]
    for parent, child in itertools.pairwise(told):
        assert child["parentHash"] == parent["hash"]
    assert client.rpc("eth_getBlockByHash", told[5]["hash"], False) == told[5]
    assert client.rpc("eth_getBlockByHash", true[5], False) is None
    assert client.rpc("eth_getBlockByHash", true[2], False)["number"] == hex(2)
    assert client.rpc("eth_call", {"to": wallet.account.address}, {"blockHash": told[5]["hash"]}) == "0x"
    with pytest.raises(RpcError):
        client.rpc("eth_call", {"to": wallet.account.address}, {"blockHash": true[5]})
    with listen(proxy.ws_url, "newHeads") as socket:
        tx_hash = send(client, wallet.sign(0))
        mine(anvil, proxy)
        head = hear(socket)
    assert head["parentHash"] == told[5]["hash"]
    assert client.rpc("eth_getTransactionReceipt", tx_hash)["blockHash"] == head["hash"]


def test_a_node_at_the_head_with_state_of_before(anvil: Anvil, proxy: ChaosProxy, client: Rpc, wallet: Wallet) -> None:
    mine(anvil, proxy)
    send(client, wallet.sign(0, value_wei=COIN, to=anvil.accounts[6].address))
    mine(anvil, proxy)
    proxy.state_lag_blocks = 1
    block = client.rpc("eth_getBlockByNumber", "latest", False)
    assert block["number"] == hex(2)
    for where in ("latest", hex(2), {"blockHash": block["hash"]}):
        assert client.rpc("eth_getBalance", anvil.accounts[6].address, where) == hex(10_000 * COIN)
    proxy.state_lag_blocks = 0
    assert client.rpc("eth_getBalance", anvil.accounts[6].address, "latest") == hex(10_001 * COIN)


def test_any_answer_can_be_falsified(proxy: ChaosProxy, client: Rpc) -> None:
    proxy.falsify["eth_gasPrice"] = lambda _params, true: hex(10 * int(true, 16))
    asked = client.rpc("eth_gasPrice")
    proxy.falsify.clear()
    assert int(asked, 16) == 10 * int(client.rpc("eth_gasPrice"), 16)


# Streams


def test_logs_are_taken_back_in_a_reorg(world: World) -> None:
    usdc = world.tokens["USDC"]
    with ChaosProxy(world.anvil) as proxy, listen(proxy.ws_url, "logs", {"address": usdc.address}) as socket:
        world.give(world.hedger, USDC=1.0)
        world.give(world.hedger, USDC=2.0)
        world.give(world.hedger, wstETH=1.0)  # another contract's
        told = [hear(socket), hear(socket)]
        assert [log["removed"] for log in told] == [False, False]
        world.anvil.reorg(3)
        gone = [hear(socket), hear(socket)]
        assert gone == [log | {"removed": True} for log in reversed(told)]
        world.give(world.hedger, USDC=3.0)
        assert int(hear(socket)["data"], 16) == 3 * 10**6


def test_heads_come_one_by_one_and_websockets_answer_requests(anvil: Anvil, proxy: ChaosProxy) -> None:
    with listen(proxy.ws_url, "newHeads") as socket:
        anvil.mine(3)
        assert [int(hear(socket)["number"], 16) for _ in range(3)] == [1, 2, 3]
        batch = [{"jsonrpc": "2.0", "id": n, "method": "eth_blockNumber", "params": []} for n in range(2)]
        socket.send(json.dumps(batch))
        assert [answer["result"] for answer in json.loads(socket.recv(PATIENCE_S))] == ["0x3", "0x3"]
        assert proxy.subscriptions() == ["newHeads"]
        socket.send(json.dumps({"jsonrpc": "2.0", "id": 7, "method": "eth_subscribe", "params": ["syncing"]}))
        assert json.loads(socket.recv(PATIENCE_S))["error"]["code"] == -32601


def test_websockets_are_cut_and_frozen(anvil: Anvil, proxy: ChaosProxy) -> None:
    with listen(proxy.ws_url, "newHeads") as socket:
        proxy.freeze_websockets()
        mine(anvil, proxy)
        assert is_quiet(socket)
        proxy.freeze_websockets(is_frozen=False)
        mine(anvil, proxy)
        assert hear(socket)["number"] == "0x2"
        proxy.cut_websockets()
        with pytest.raises(ConnectionClosed):
            socket.recv(PATIENCE_S)
    with listen(proxy.ws_url, "newHeads") as socket:
        mine(anvil, proxy)
        assert hear(socket)["number"] == "0x3"


# Connections


def test_a_dead_endpoint_comes_back_on_its_port(proxy: ChaosProxy, client: Rpc) -> None:
    assert client.rpc("eth_chainId") == hex(31337)
    proxy.die()
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        client.rpc("eth_chainId")
    client.close()
    with pytest.raises(ConnectionRefusedError):
        client.rpc("eth_chainId")
    proxy.revive()
    client.close()
    assert client.rpc("eth_chainId") == hex(31337)


def test_slow_silent_throttled_and_lost_answers(anvil: Anvil, proxy: ChaosProxy, wallet: Wallet) -> None:
    def post(method: str, *params: Any, timeout_s: float = PATIENCE_S) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=timeout_s)
        connection.request("POST", "/", json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
        try:
            response = connection.getresponse()
            response.read()
            return response
        finally:
            connection.close()

    proxy.faults.next("eth_chainId", status(429, retry_after_s=2.0))
    throttled = post("eth_chainId")
    assert (throttled.status, throttled.headers["Retry-After"]) == (429, "2")
    assert post("eth_chainId").status == 200

    proxy.faults.next("eth_chainId", delay(0.2))
    began_s = time.monotonic()
    post("eth_chainId")
    assert time.monotonic() - began_s > 0.19

    proxy.faults.next("eth_chainId", silence())
    with pytest.raises(TimeoutError):
        post("eth_chainId", timeout_s=0.1)

    proxy.faults.next("eth_sendRawTransaction", drop_reply())
    with pytest.raises(http.client.RemoteDisconnected):
        post("eth_sendRawTransaction", wallet.sign(0))
    mine(anvil, proxy)
    assert anvil.nonce(wallet.account.address) == 1  # it was carried out all the same


def test_requests_are_counted_by_method(proxy: ChaosProxy, client: Rpc) -> None:
    client.batch([("eth_blockNumber", []), ("eth_chainId", []), ("eth_blockNumber", [])])
    with connect(proxy.ws_url) as socket:
        socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []}))
        socket.recv(PATIENCE_S)
    assert proxy.faults.asked == {"eth_blockNumber": 3, "eth_chainId": 1, "connect": 1}
    assert proxy.round_trips == 2
