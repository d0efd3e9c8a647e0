"""Contracts over raw JSON-RPC: just enough to deploy a world in a second and to look into it from tests.

    token = deploy(anvil, artifact.abi, artifact.bytecode(), "USD Coin", "USDC", 6)
    token.transact("mint", owner, 10**6)
    token.call("balanceOf", owner)

Answers with several values come as named tuples if the ABI names them. Addresses are checksummed texts.
"""

from __future__ import annotations

import time
from collections import namedtuple
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from eth_abi.abi import decode, encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from tests.chains.anvil import Rpc, RpcError

GAS_LIMIT = 16_000_000  # under the cap per transaction of the Osaka rules
MINED_IN_S = 120.0
ERROR_STRING = bytes.fromhex("08c379a0")
PANIC = bytes.fromhex("4e487b71")


class Reverted(Exception):
    """A call or transaction failed. `reason` in words, `data` as the contract gave it, `receipt` if it was mined."""

    def __init__(self, what: str, reason: str, data: bytes = b"", receipt: dict[str, Any] | None = None) -> None:
        self.reason = reason
        self.data = data
        self.receipt = receipt
        super().__init__(f"{what}: {reason}")


class Happening(NamedTuple):
    """A decoded event."""

    name: str
    address: str
    args: dict[str, Any]
    log: dict[str, Any]


def type_of(entry: dict[str, Any]) -> str:
    """Return the type of an ABI entry as signatures spell it, structs as tuples."""
    if not entry["type"].startswith("tuple"):
        return str(entry["type"])
    inner = ",".join(type_of(part) for part in entry["components"])
    return f"({inner}){entry['type'].removeprefix('tuple')}"


def signature_of(entry: dict[str, Any]) -> str:
    """Return name(types) of a function, event or error."""
    return f"{entry['name']}({','.join(type_of(part) for part in entry['inputs'])})"


def selector_of(signature: str) -> bytes:
    """Return the four bytes that calls of a function start with."""
    return bytes(keccak(text=signature)[:4])


def tidy(abi_type: str, value: Any) -> Any:
    """Return a decoded value with checksummed addresses in place of lower-case ones."""
    if abi_type == "address":
        return to_checksum_address(value)
    if abi_type == "address[]":
        return tuple(to_checksum_address(item) for item in value)
    return value


@lru_cache(maxsize=1024)
def answer_type(name: str, fields: tuple[str, ...]) -> Any:
    """Return the named tuple for a function's answer."""
    return namedtuple(name, fields, rename=True)  # noqa: PYI024 - made from an ABI


class Contract:
    """A deployed contract. `sender` signs its transactions unless told otherwise: one that the node has unlocked."""

    def __init__(self, rpc: Rpc, address: str, abi: list[dict[str, Any]], sender: str | None = None) -> None:
        self.rpc = rpc
        self.address = str(to_checksum_address(address))
        self.abi = abi
        self.sender = sender or default_sender(rpc)

    def __repr__(self) -> str:
        return f"Contract({self.address})"

    def at(self, rpc: Rpc) -> Contract:
        """Return the same contract as another node has it."""
        return Contract(rpc, self.address, self.abi, self.sender)

    def encode(self, name: str, *args: Any) -> bytes:
        """Return the calldata of a function, named alone or with its types where there are several."""
        entry = self._function(name, len(args))
        types = [type_of(part) for part in entry["inputs"]]
        return selector_of(signature_of(entry)) + encode(types, args)

    def decode(self, name: str, data: bytes, arguments: int | None = None) -> Any:
        """Return what a function answered: a value, or a tuple of several."""
        entry = self._function(name, arguments)
        outputs = entry["outputs"]
        types = [type_of(part) for part in outputs]
        values = [tidy(*pair) for pair in zip(types, decode(types, data), strict=True)]
        if len(values) == 1:
            return values[0]
        return answer_type(entry["name"], tuple(part["name"] or f"_{n}" for n, part in enumerate(outputs)))(*values)

    def call(self, name: str, *args: Any, block: int | str = "latest", sender: str | None = None) -> Any:
        """Return a function's answer as of a block by number, tag or hash."""
        where: Any = hex(block) if isinstance(block, int) else block
        if isinstance(block, str) and len(block) == 66:
            where = {"blockHash": block}
        request = {
            "from": sender or self.sender, "to": self.address, "data": "0x" + self.encode(name, *args).hex(),
        }  # fmt: skip
        try:
            answer = self.rpc.rpc("eth_call", request, where)
        except RpcError as error:
            raise self._reverted(name, error) from None
        return self.decode(name, bytes.fromhex(answer[2:]), len(args))

    def transact(
        self, name: str, *args: Any, sender: str | None = None, value_wei: int = 0, gas: int = GAS_LIMIT
    ) -> dict[str, Any]:
        """Send a transaction, and return its receipt; the node must mine it by itself. Raise Reverted if it failed."""
        return send(
            self.rpc, sender or self.sender, to=self.address, data=self.encode(name, *args), value_wei=value_wei,
            gas=gas, what=name, abi=self.abi,
        )  # fmt: skip

    def events(self, receipt_or_logs: dict[str, Any] | Sequence[dict[str, Any]], name: str = "") -> list[Happening]:
        """Return this contract's events among the logs of a receipt, or among logs; those of one name if told."""
        logs = receipt_or_logs["logs"] if isinstance(receipt_or_logs, dict) else receipt_or_logs
        mine = [log for log in logs if log["address"].lower() == self.address.lower()]
        found = [happening for log in mine if (happening := self._happening(log))]
        return [happening for happening in found if name in {"", happening.name}]

    def explain(self, data: bytes) -> str:
        """Return the reason in the data of a revert: its text, or its custom error with arguments."""
        return explain(data, self.abi)

    def _function(self, name: str, arguments: int | None) -> dict[str, Any]:
        entries = self._functions.get(name, [])
        if arguments is not None and len(entries) > 1:
            entries = [entry for entry in entries if len(entry["inputs"]) == arguments]
        if len(entries) != 1:
            known = [signature_of(entry) for entry in self._functions.get(name, [])] or "none"
            raise LookupError(f"expected one function {name} with {arguments} arguments, found {known}")
        return entries[0]

    @cached_property
    def _functions(self) -> dict[str, list[dict[str, Any]]]:
        functions: dict[str, list[dict[str, Any]]] = {}
        for entry in self.abi:
            if entry["type"] == "function":
                functions.setdefault(entry["name"], []).append(entry)
                functions.setdefault(signature_of(entry), []).append(entry)
        return functions

    @cached_property
    def _events(self) -> dict[str, dict[str, Any]]:
        return {"0x" + keccak(text=signature_of(entry)).hex(): entry for entry in self.abi if entry["type"] == "event"}

    def _happening(self, log: dict[str, Any]) -> Happening | None:
        entry = self._events.get(log["topics"][0]) if log["topics"] else None
        if entry is None:
            return None
        topics = iter(log["topics"][1:])
        plain = [part for part in entry["inputs"] if not part["indexed"]]
        values = iter(decode([type_of(part) for part in plain], bytes.fromhex(log["data"][2:])))
        args = {}
        for part in entry["inputs"]:
            kind = type_of(part)
            if not part["indexed"]:
                args[part["name"]] = tidy(kind, next(values))
            elif kind in {"string", "bytes"} or kind.endswith(("]", ")")):
                args[part["name"]] = bytes.fromhex(next(topics)[2:])  # only its hash is there
            else:
                args[part["name"]] = tidy(kind, decode([kind], bytes.fromhex(next(topics)[2:]))[0])
        return Happening(entry["name"], self.address, args, log)

    def _reverted(self, name: str, error: RpcError) -> Reverted:
        return reverted(name, error, self.abi)


def deploy(
    rpc: Rpc, abi: list[dict[str, Any]], bytecode: bytes, *args: Any, sender: str | None = None, what: str = "deploy"
) -> Contract:
    """Deploy a contract with the constructor's arguments, and return it. `sender` goes on to be its sender."""
    inputs = next((entry["inputs"] for entry in abi if entry["type"] == "constructor"), [])
    sender = sender or default_sender(rpc)
    data = bytecode + encode([type_of(part) for part in inputs], args)
    receipt = send(rpc, sender, to=None, data=data, what=what, abi=abi)
    return Contract(rpc, receipt["contractAddress"], abi, sender)


def send(
    rpc: Rpc, sender: str, *, to: str | None, data: bytes = b"", value_wei: int = 0, gas: int = GAS_LIMIT,
    what: str = "transaction", abi: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Send a transaction from an unlocked account, and return its receipt. Raise Reverted if it failed."""
    request = {"from": sender, "data": "0x" + data.hex(), "value": hex(value_wei), "gas": hex(gas)}
    if to is not None:
        request["to"] = to
    try:
        tx_hash = rpc.rpc("eth_sendTransaction", request)
    except RpcError as error:
        raise reverted(what, error, abi or []) from None
    receipt = await_receipt(rpc, tx_hash)
    if receipt["status"] != "0x1":
        try:  # as of the block before: only there it fails for the same reason
            rpc.rpc("eth_call", request, hex(int(receipt["blockNumber"], 16) - 1))
        except RpcError as error:
            failed = reverted(what, error, abi or [])
            raise Reverted(what, failed.reason, failed.data, receipt) from None
        raise Reverted(what, "no reason found", b"", receipt)
    return receipt


def await_receipt(rpc: Rpc, tx_hash: str, patience_s: float = MINED_IN_S) -> dict[str, Any]:
    """Return the receipt of a transaction as soon as it is mined."""
    give_up_s = time.monotonic() + patience_s
    while time.monotonic() < give_up_s:
        receipt: dict[str, Any] | None = rpc.rpc("eth_getTransactionReceipt", tx_hash)
        if receipt is not None:
            return receipt
        time.sleep(0.0005)  # the node mines right after it has answered
    raise TimeoutError(
        f"expected {tx_hash} to be mined in {patience_s:g} s, found no receipt; hint: does the node mine?"
    )


def reverted(what: str, error: RpcError, abi: list[dict[str, Any]]) -> Reverted:
    """Return what a node's refusal means."""
    data = bytes.fromhex(error.data[2:]) if isinstance(error.data, str) and error.data.startswith("0x") else b""
    return Reverted(what, explain(data, abi) if data else error.message, data)


def explain(data: bytes, abi: list[dict[str, Any]]) -> str:
    """Return the reason in the data of a revert: its text, or its custom error with arguments."""
    selector, rest = data[:4], data[4:]
    if selector == ERROR_STRING:
        return str(decode(["string"], rest)[0])
    if selector == PANIC:
        return f"panic {decode(['uint256'], rest)[0]:#x}"
    for entry in abi:
        if entry["type"] == "error" and selector_of(signature_of(entry)) == selector:
            values = decode([type_of(part) for part in entry["inputs"]], rest)
            return f"{entry['name']}({', '.join(str(value) for value in values)})"
    return "0x" + data.hex() if data else "no reason given"


def default_sender(rpc: Rpc) -> str:
    """Return the account that pays for what nobody is named for: the node's first."""
    accounts = getattr(rpc, "accounts", None)
    return str(to_checksum_address(accounts[0].address if accounts else rpc.rpc("eth_accounts")[0]))


def address_of_creation(sender: str, nonce: int) -> str:
    """Return where a contract comes to be that `sender` creates with its transaction `nonce`."""
    packed_nonce = b"\x80" if nonce == 0 else nonce.to_bytes((nonce.bit_length() + 7) // 8, "big")
    if nonce >= 0x80:
        packed_nonce = bytes([0x80 + len(packed_nonce)]) + packed_nonce
    payload = b"\x94" + bytes.fromhex(sender[2:]) + packed_nonce
    return str(to_checksum_address(keccak(bytes([0xC0 + len(payload)]) + payload)[12:]))
