"""What a chain says about our transactions: receipts, counts, why one reverted, and who used a nonce.

Nodes lag, and two requests may be answered by two nodes: what matters is pinned to a block's hash or proven by the
block itself, and "not found" alone proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from bot.domain.errors import Retryable
from bot.gateways.chain.abi import Undecodable, to_int
from bot.gateways.chain.broadcasting import Node
from bot.gateways.chain.endpoints import to_block
from bot.gateways.chain.fees import HISTORY_BLOCKS, PERCENTILES, FeeMarket, read_fee_market
from bot.gateways.chain.nouns import Block, Log, Receipt, TransactionRequest
from bot.gateways.chain.rpc import RpcError, UnknownBlock
from bot.gateways.chain.settings import FeeSettings

T = TypeVar("T")
Json = Mapping[str, Any]


class TransactionReader:
    """Asks one chain about the transactions of one address. Every question may raise Retryable or RpcError."""

    def __init__(self, node: Node, address: str) -> None:
        self._node = node
        self._address = address

    async def chain_id(self) -> int:
        """Return the chain's id."""
        return _read(to_int, await self._node.call("eth_chainId", []))

    async def latest(self) -> Block:
        """Return the newest block."""
        return _read(to_block, await self._node.call("eth_getBlockByNumber", ["latest", False]))

    async def block_hash(self, number: int) -> str:
        """Return the hash of the block of this number, "" if the node has none."""
        found = await self._node.call("eth_getBlockByNumber", [hex(number), False])
        return "" if found is None else _read(to_block, found).block_hash

    async def count(self, block: Block) -> int:
        """Return how many nonces were used as of a block."""
        where = {"blockHash": block.block_hash}
        return _read(to_int, await self._node.call("eth_getTransactionCount", [self._address, where]))

    async def pending_count(self) -> int:
        """Return how many nonces are used with the pool of the node that answers."""
        return _read(to_int, await self._node.call("eth_getTransactionCount", [self._address, "pending"]))

    async def balance_wei(self, block: Block) -> int:
        """Return the coin balance as of a block."""
        return _read(to_int, await self._node.call("eth_getBalance", [self._address, {"blockHash": block.block_hash}]))

    async def fee_market(self, block: Block, fees: FeeSettings) -> FeeMarket:
        """Return what blocks cost as of a block."""
        asked = [hex(HISTORY_BLOCKS), hex(block.number), list(PERCENTILES)]
        history = await self._node.call("eth_feeHistory", asked)
        return _read(lambda found: read_fee_market(found, block, fees), history)

    async def receipt(self, tx_hash: str) -> Receipt | None:
        """Return the receipt of a transaction that is in a block; None says nothing. That of another is no answer."""
        found = await self._node.call("eth_getTransactionReceipt", [tx_hash])
        if found is None or (isinstance(found, Mapping) and found.get("blockHash") is None):
            return None
        receipt = _read(receipt_of, found)
        if receipt.tx_hash.lower() != tx_hash.lower():
            raise Retryable(f"expected the receipt of {tx_hash}, found that of {receipt.tx_hash}")
        return receipt

    async def is_known(self, tx_hash: str) -> bool:
        """Tell whether the node that answers has the transaction, in a block or in its pool."""
        return await self._node.call("eth_getTransactionByHash", [tx_hash]) is not None

    async def explained(self, receipt: Receipt, request: TransactionRequest, gas_limit: int) -> Receipt:
        """Return the receipt of a failed transaction with the reason, as far as it can be found out.

        A block keeps no reasons: the call is run again on the block before, and on the block itself, as what made it
        fail may have stood before it in the block.
        """
        is_out_of_gas = receipt.gas_used >= gas_limit
        data = b""
        for number in (receipt.block_number - 1, receipt.block_number):
            data = await self._reason(request, number)
            if data:
                break
        fields = {name: getattr(receipt, name) for name in receipt.__struct_fields__}
        return Receipt(**(fields | {"revert_data": data, "is_out_of_gas": is_out_of_gas}))

    async def _reason(self, request: TransactionRequest, number: int) -> bytes:
        call = {
            "from": self._address,
            "to": request.to,
            "data": f"0x{request.data.hex()}",
            "value": hex(request.value_wei),
            "gas": hex(request.gas_limit),
        }
        try:
            await self._node.call("eth_call", [call, hex(number)])
        except RpcError as error:
            return error.data
        except Retryable:
            return b""  # history that is not kept, or no answer: the receipt stands without a reason
        return b""

    async def user_of(self, nonce: int, since_number: int, block: Block) -> tuple[str, int] | None:
        """Return hash and block of the transaction that used a nonce after block `since_number` and up to `block`.

        It is the proof that somebody else has used it: "no receipt" may come from a node that lags. None if it was not
        found, as with nodes that keep no history.
        """
        low, high = since_number, block.number  # used after `low`, at the latest in `high`
        while high - low > 1:
            middle = (low + high) // 2
            try:
                answer = await self._node.call("eth_getTransactionCount", [self._address, hex(middle)])
            except (UnknownBlock, RpcError):
                return None
            found = _read(to_int, answer)
            low, high = (low, middle) if found > nonce else (middle, high)
        for number in (high, low):
            body = await self._node.call("eth_getBlockByNumber", [hex(number), True])
            tx_hash = _read(lambda block: self._find_in(block, nonce), body)
            if tx_hash:
                return tx_hash, number
        return None

    def _find_in(self, body: Json | None, nonce: int) -> str:
        """Return the hash of the transaction of ours that has a nonce in a block, "" if there is none."""
        for one in (body or {}).get("transactions") or ():
            if one["from"].lower() == self._address.lower() and int(one["nonce"], 16) == nonce:
                return str(one["hash"])
        return ""


def receipt_of(fields: Json) -> Receipt:
    """Return a receipt as a node tells it; a rollup's charge for the chain below is in it."""
    return Receipt(
        tx_hash=fields["transactionHash"].lower(),
        block_number=int(fields["blockNumber"], 16),
        block_hash=fields["blockHash"].lower(),
        is_success=int(fields["status"], 16) == 1,
        gas_used=int(fields["gasUsed"], 16),
        gas_price_wei=int(fields["effectiveGasPrice"], 16),
        logs=tuple(
            Log(one["address"], tuple(one["topics"]), bytes.fromhex(one["data"][2:]), int(one["logIndex"], 16))
            for one in fields["logs"]
        ),
        l1_fee_wei=int(fields.get("l1Fee") or "0x0", 16),
    )


def _read(reader: Callable[[Any], T], fields: Any) -> T:  # noqa: ANN401
    """Read an answer; one that lacks what it must have is no answer."""
    try:
        return reader(fields)
    except (Undecodable, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise Retryable(f"expected a number, block or receipt, found an answer without {error}") from None
