"""The transaction pool Geth would have, in front of Anvil's, which lacks the rules that matter to who sends.

Geth keeps a transaction that is priced under the base fee until it fits, Anvil refuses it and silently drops one that
the base fee outgrows. Geth wants 10 % more of both fees for a replacement, Anvil one wei. Geth puts transactions of
blocks that a reorg took away back into the pool, Anvil forgets them. And Geth says some things in other words.

On top, by script: transactions that are accepted and then held, delayed, or lost; and a private relay. Only EIP-1559
transactions are known here; others go straight to the node, as do those that Anvil itself is asked to sign.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Container, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from tests.chains.anvil import RpcError

PRICE_BUMP_PERCENT: Final = 10
REMEMBERED_BLOCKS: Final = 128  # how long a mined transaction can come back
RELAY_BLOCKS: Final = 25  # how long the relay tries unless told
RECEIPT_TRIES: Final = 20

Node = Callable[..., Awaitable[Any]]


class Refused(Exception):
    """The node's answer is an error."""

    def __init__(self, message: str, code: int = -32000, data: str | None = None) -> None:
        self.error: dict[str, Any] = {"code": code, "message": message} | ({} if data is None else {"data": data})
        super().__init__(message)


class Fate(StrEnum):
    """What is to happen to a transaction that is sent: nothing special if there is no fate for it."""

    HOLD = "hold"  # accepted, shown as pending, and not mined until released
    DELAY = "delay"  # the same, for a number of blocks
    DROP = "drop"  # accepted, and forgotten
    HIDE = "hide"  # mined as it should be, but not known by its hash before: a pool that does not tell


class Place(StrEnum):
    """Where a transaction is."""

    HELD = "held"  # until released, or until its block
    WAITING = "waiting"  # for a base fee that lets it in
    PASSED = "passed"  # in Anvil's pool
    MINED = "mined"


@dataclass(eq=False)
class Pooled:
    """A transaction the pool knows."""

    raw: str
    tx_hash: str
    sender: str
    nonce: int
    max_fee_wei: int
    tip_wei: int
    most_wei: int  # value and gas together
    request: dict[str, str]  # as eth_call takes it
    shown: dict[str, Any]  # as eth_getTransactionByHash tells it while it is pending
    place: Place = Place.HELD
    is_private: bool = False
    is_hidden: bool = False
    after_block: int | None = None  # released once this is mined
    until_block: int | None = None  # given up then
    mined_in: int = 0
    mined_hash: str = ""  # of that block


class GethPool:
    """The pool. `node` asks Anvil. Tests set `fates`, `holds_all`, `keeps_reorged`, `relay_lands` and `min_tip_wei`."""

    def __init__(self, node: Node) -> None:
        self.fates: deque[tuple[Fate, int]] = deque()  # of the next transactions, with blocks to delay
        self.holds_all = False
        self.keeps_reorged = True
        self.relay_lands = True
        self.min_tip_wei = 1
        self.sent: list[str] = []  # hashes of all that was accepted, in order
        self._node = node
        self._known: dict[str, Pooled] = {}
        self._lock = asyncio.Lock()

    async def send(self, raw: str, *, is_private: bool = False, until_block: int | None = None) -> str:
        """Take a signed transaction as Geth would, or as a relay; return its hash or raise Refused."""
        if not raw.lower().startswith("0x02"):
            return str(await self._ask("eth_sendRawTransaction", raw))
        async with self._lock:
            tx = parsed(raw)
            await self._check(tx, is_private=is_private)
            fate, blocks = self.fates.popleft() if self.fates else (Fate.HOLD if self.holds_all else None, 0)
            self.sent.append(tx.tx_hash)
            if fate is Fate.DROP:
                return tx.tx_hash
            rival = self._rival(tx)
            if rival is not None and rival.is_private == is_private:  # a relay's does not take a public one away
                await self._take_place_of(rival)
            tx.is_private, tx.is_hidden = is_private, fate is Fate.HIDE
            head = int(await self._ask("eth_blockNumber"), 16)
            if is_private:
                tx.until_block = until_block or head + RELAY_BLOCKS
            if fate is Fate.DELAY:
                tx.after_block = head + blocks
            if fate in {Fate.HOLD, Fate.DELAY} or (is_private and not self.relay_lands):
                tx.place = Place.HELD
            else:
                await self._pass_on(tx)
            self._known[tx.tx_hash] = tx
            return tx.tx_hash

    async def release(self, tx_hash: str | None = None) -> None:
        """Let a held transaction go on, or all of them."""
        async with self._lock:
            for tx in sorted(self._pending(), key=lambda tx: tx.nonce):
                if tx.place is Place.HELD and tx_hash in {None, tx.tx_hash}:
                    tx.after_block = None
                    await self._pass_on(tx)

    async def drop(self, tx_hash: str) -> None:
        """Forget a transaction that is not mined, as a node does that restarts, or whose pool is full."""
        async with self._lock:
            self._known.pop(tx_hash, None)
            await self._ask("anvil_dropTransaction", tx_hash)

    async def cancel_private(self, tx_hash: str) -> bool:
        """Ask the relay to give a transaction up; tell whether it was not too late."""
        tx = self._known.get(tx_hash)
        if tx is None or not tx.is_private or tx.place is Place.MINED:
            return False
        await self.drop(tx_hash)
        return True

    async def on_head(self, number: int, gone: Container[str] = ()) -> None:
        """See to every transaction after a new block: what is mined, what is due, what Anvil lost.

        `gone` are the hashes of blocks that a reorg took away.
        """
        async with self._lock:
            for tx in sorted(self._known.values(), key=lambda tx: tx.nonce):
                await self._see_to(tx, number, gone)

    def find(self, tx_hash: str) -> Pooled | None:
        """Return a transaction that is not mined, for as much as the public can see of it."""
        tx = self._known.get(tx_hash)
        return tx if tx is not None and tx.place is not Place.MINED else None

    def is_secret(self, tx_hash: str) -> bool:
        """Tell whether nobody may know of a transaction yet."""
        tx = self.find(tx_hash)
        return tx is not None and (tx.is_private or tx.is_hidden)

    def next_nonce(self, sender: str, nonce: int) -> int:
        """Return the nonce after all transactions of a sender that follow one another from `nonce` on."""
        taken = {tx.nonce for tx in self._pending() if tx.sender.lower() == sender.lower() and not tx.is_private}
        while nonce in taken:
            nonce += 1
        return nonce

    def places(self) -> dict[str, Place]:
        """Return where every transaction is that is known."""
        return {tx_hash: tx.place for tx_hash, tx in self._known.items()}

    # What Geth checks

    async def _check(self, tx: Pooled, *, is_private: bool) -> None:
        if self.find(tx.tx_hash) is not None:
            raise Refused("already known")
        if tx.tip_wei > tx.max_fee_wei:
            raise Refused(
                "max priority fee per gas higher than max fee per gas: address "
                f"{tx.sender}, maxPriorityFeePerGas: {tx.tip_wei}, maxFeePerGas: {tx.max_fee_wei}"
            )
        if tx.tip_wei < self.min_tip_wei:
            raise Refused(f"transaction underpriced: gas tip cap {tx.tip_wei}, minimum needed {self.min_tip_wei}")
        nonce = int(await self._ask("eth_getTransactionCount", tx.sender, "latest"), 16)
        if tx.nonce < nonce:
            raise Refused(f"nonce too low: next nonce {nonce}, tx nonce {tx.nonce}")
        balance = int(await self._ask("eth_getBalance", tx.sender, "latest"), 16)
        if balance < tx.most_wei:
            raise Refused(
                f"insufficient funds for gas * price + value: balance {balance}, tx cost {tx.most_wei}, "
                f"overshot {tx.most_wei - balance}"
            )
        rival = self._rival(tx)
        if rival is not None and not is_private and not rival.is_private and not is_dearer(tx, rival):
            raise Refused("replacement transaction underpriced")

    def _rival(self, tx: Pooled) -> Pooled | None:
        same = (other for other in self._pending() if (other.sender, other.nonce) == (tx.sender, tx.nonce))
        return next(same, None)

    def _pending(self) -> Iterator[Pooled]:
        return (tx for tx in list(self._known.values()) if tx.place is not Place.MINED)

    async def _take_place_of(self, rival: Pooled) -> None:
        del self._known[rival.tx_hash]
        if rival.place is Place.PASSED:
            await self._ask("anvil_dropTransaction", rival.tx_hash)

    # What becomes of them

    async def _pass_on(self, tx: Pooled) -> None:
        """Hand a transaction to Anvil; one it does not want yet waits."""
        tx.place = Place.WAITING
        if tx.is_private and await self._would_revert(tx):
            return  # relays do not land what fails
        try:
            await self._node("eth_sendRawTransaction", tx.raw)
        except RpcError as error:
            if "already imported" not in error.message:
                if tx.is_private or "base fee" in error.message:
                    return
                raise Refused(error.message) from None
        tx.place = Place.PASSED

    async def _see_to(self, tx: Pooled, number: int, gone: Container[str]) -> None:
        if tx.place is Place.MINED and tx.mined_hash not in gone:
            if number - tx.mined_in > REMEMBERED_BLOCKS:
                del self._known[tx.tx_hash]
            return
        receipt = await self._receipt(tx)
        nonce = int(await self._ask("eth_getTransactionCount", tx.sender, "latest"), 16)
        for _ in range(RECEIPT_TRIES if nonce > tx.nonce else 0):  # Anvil counts nonces before it has receipts
            if receipt is not None:
                break
            await asyncio.sleep(0.002)
            receipt = await self._receipt(tx)
        if receipt is not None:
            tx.place, tx.mined_in, tx.mined_hash = Place.MINED, int(receipt["blockNumber"], 16), receipt["blockHash"]
            return
        if tx.place is Place.MINED and not self.keeps_reorged:
            del self._known[tx.tx_hash]
            return
        if tx.nonce < nonce or (tx.until_block is not None and number >= tx.until_block):
            del self._known[tx.tx_hash]  # somebody else's nonce, or the relay gave up
            await self._ask("anvil_dropTransaction", tx.tx_hash)
            return
        if tx.place is Place.PASSED and await self._ask("eth_getTransactionByHash", tx.tx_hash) is not None:
            return
        is_due = tx.after_block is not None and number >= tx.after_block
        if tx.place is not Place.HELD or is_due:
            try:
                await self._pass_on(tx)
            except Refused:  # mined this very moment, or its money is gone: the next block tells
                tx.place = Place.WAITING

    async def _receipt(self, tx: Pooled) -> dict[str, Any] | None:
        """Return a receipt, unless it is of a block that is in the chain no more."""
        receipt: dict[str, Any] | None = await self._ask("eth_getTransactionReceipt", tx.tx_hash)
        if receipt is None:
            return None
        block = await self._ask("eth_getBlockByNumber", receipt["blockNumber"], False)
        return receipt if block is not None and block["hash"] == receipt["blockHash"] else None

    async def _would_revert(self, tx: Pooled) -> bool:
        try:
            await self._node("eth_call", tx.request, "latest")
        except RpcError:
            return True
        return False

    async def _ask(self, method: str, *params: Any) -> Any:
        try:
            return await self._node(method, *params)
        except RpcError as error:
            raise Refused(error.message, error.code, error.data) from None


def is_dearer(tx: Pooled, rival: Pooled) -> bool:
    """Tell whether a transaction may replace another by Geth's rule: 10 % more of both fees."""
    return all(
        new >= old * (100 + PRICE_BUMP_PERCENT) // 100 and new > old
        for new, old in ((tx.max_fee_wei, rival.max_fee_wei), (tx.tip_wei, rival.tip_wei))
    )


def parsed(raw: str) -> Pooled:
    """Return a signed EIP-1559 transaction, taken apart."""
    data = HexBytes(raw)
    try:
        fields = TypedTransaction.from_bytes(data).as_dict()
        sender = str(Account.recover_transaction(data))
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it
        raise Refused(f"rlp: {error}") from None
    numbers = {name: int(fields[name]) for name in ("chainId", "nonce", "gas", "value", "maxFeePerGas")}
    tip_wei = int(fields["maxPriorityFeePerGas"])
    to = "0x" + bytes(fields["to"]).hex() if fields["to"] else None
    request = {"from": sender, "data": "0x" + bytes(fields["data"]).hex(), "value": hex(numbers["value"])}
    if to is not None:
        request["to"] = to
    shown = {
        "type": "0x2",
        "hash": "0x" + keccak(bytes(data)).hex(),
        "from": sender.lower(),
        "to": to,
        "input": request["data"],
        "maxPriorityFeePerGas": hex(tip_wei),
        "gasPrice": hex(numbers["maxFeePerGas"]),
        "accessList": [],
        "yParity": hex(int(fields["v"])),
        "blockHash": None,
        "blockNumber": None,
        "transactionIndex": None,
        **{name: hex(number) for name, number in numbers.items()},
        **{name: hex(int(fields[name])) for name in ("v", "r", "s")},
    }
    return Pooled(
        "0x" + data.hex(), shown["hash"], sender, numbers["nonce"], numbers["maxFeePerGas"], tip_wei,
        numbers["value"] + numbers["gas"] * numbers["maxFeePerGas"], request, shown,
    )  # fmt: skip
