"""What the parts of the chain gateway say to one another. Amounts are exact integers of a token's smallest unit.

Addresses are checksummed texts, hashes 0x-prefixed lower-case texts, calldata and answers bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from bot.domain.instruments import Perpetual, Spot
from bot.domain.market import Quote
from bot.domain.orders import GasBid, OrderIntent


class Block(msgspec.Struct, frozen=True, gc=False):
    """A block's header, as far as we need it."""

    number: int
    block_hash: str
    parent_hash: str
    timestamp_s: int
    base_fee_wei: int
    gas_used: int
    gas_limit: int


class Reorg(msgspec.Struct, frozen=True):
    """Blocks that are no longer in the chain, newest first, and those that took their place, oldest first."""

    gone: tuple[Block, ...]
    came: tuple[Block, ...]


class Read(msgspec.Struct, frozen=True, gc=False):
    """One view call; all reads of a block go out as one Multicall3, pinned to its hash."""

    to: str
    data: bytes


class TransactionRequest(msgspec.Struct, frozen=True):
    """A transaction to be signed and sent: what it calls, and what it may cost.

    `key` is the client order id of a hedge, or a name such as "approve:WETH:0x…" of what is none. It is never used for
    two different transactions.
    """

    key: str
    instrument_id: str
    to: str
    data: bytes
    value_wei: int
    gas_limit: int
    gas: GasBid
    intent: OrderIntent | None = None  # what a hedge was to do, kept so that its receipt can be read after a restart


class Receipt(msgspec.Struct, frozen=True):
    """A mined transaction: where, whether it did what it should, what it cost, and its logs as the node tells them.

    `revert_data` is the raw reason of a failed one where it could be found out, else empty; `is_out_of_gas` if it
    burnt its whole limit. `l1_fee_wei` is what a rollup charged on top for its place on the chain below.
    """

    tx_hash: str
    block_number: int
    block_hash: str
    is_success: bool
    gas_used: int
    gas_price_wei: int
    logs: tuple[Log, ...]
    revert_data: bytes = b""
    is_out_of_gas: bool = False
    l1_fee_wei: int = 0

    @property
    def gas_wei(self) -> int:
        """What the transaction cost in the chain's own coin."""
        return self.gas_used * self.gas_price_wei + self.l1_fee_wei


class Log(msgspec.Struct, frozen=True, gc=False):
    """One event that a contract wrote."""

    address: str
    topics: tuple[str, ...]
    data: bytes
    log_index: int


class TransactionState(StrEnum):
    """Life of a transaction; the names are those of the transaction log and of `evenkeel tx`.

    RESERVED has a nonce, SIGNED has its raw bytes on disk, SENT was handed to a node, MINED is in a block, FINAL so
    deep that it stays. REPLACED: another of ours with the same nonce was mined. TAKEN: somebody else with our key used
    it. DROPPED: no node knows it any more and its nonce is still free. CANCELED: a self-send took its place. UNKNOWN:
    no node could be asked. FAILED: mined, but reverted. A reorg brings MINED and FAILED back to SENT.
    """

    RESERVED = "reserved"
    SIGNED = "signed"
    SENT = "sent"
    MINED = "mined"
    FAILED = "failed"
    FINAL = "final"
    REPLACED = "replaced"
    TAKEN = "taken"
    DROPPED = "dropped"
    CANCELED = "canceled"
    UNKNOWN = "unknown"


class TransactionNews(msgspec.Struct, frozen=True):
    """What became of a transaction: its new state, the receipt if it is in a block, and why, for people.

    `is_reversed` is set where a reorg took back what was MINED or FAILED; `receipt` is then the one that is void.
    """

    key: str
    instrument_id: str
    state: TransactionState
    receipt: Receipt | None
    reason: str
    is_reversed: bool = False


class Amounts(msgspec.Struct, frozen=True, gc=False):
    """What a mined hedge moved, in the smallest units of each token: positive came to us, negative left us.

    `fee_quote_wei` is the protocol's fee where it is charged apart from the price, in quote units, positive = paid.
    """

    base_wei: int
    quote_wei: int
    fee_quote_wei: int = 0

    @property
    def net_quote_wei(self) -> int:
        """Quote with the protocol's own fee taken off, which is what limits are held against."""
        return self.quote_wei - self.fee_quote_wei


class Approval(msgspec.Struct, frozen=True):
    """A permission that a protocol needs of the wallet before it can hedge: the call that grants it, and what tells it.

    The answer to `check` is the amount granted, in smallest units; `what` says for people what it is for.
    """

    what: str
    to: str
    data: bytes
    check: Read


class Refused(Exception):
    """A hedge that must not be sent: its check failed. The text says what was expected and what was found."""


class HedgeProtocol(Protocol):
    """One hedge instrument on chain: what to read with every block, how to quote, build and read back a trade.

    An implementation is pure: it never talks to a node. It keeps the state of the newest block it was `update`d with.
    """

    @property
    def instrument(self) -> Spot | Perpetual:
        """The instrument; a lot is a whole number of the base token's smallest units."""

    @property
    def reads(self) -> tuple[Read, ...]:
        """What must be read with every block; may change after an `update` (pool ticks that came near, for example)."""

    def update(self, block: Block, answers: Sequence[bytes | None]) -> None:
        """Take in the answers to `reads` as of `block`; None is a read that reverted."""

    def quote(self, ts_recv_ns: int) -> Quote | None:
        """Return best bid and ask of the newest block, fees of the venue included, sizes up to where they hold.

        None while there is no usable state.
        """

    @property
    def depth_base(self) -> float:
        """How much base moves the price by about 100 %; infinity where size does not matter."""

    @property
    def gas_units(self) -> int:
        """What a trade uses, from measurement; the gas limit has a margin on top."""

    @property
    def amount_decimals(self) -> tuple[int, int]:
        """Decimals of base and of quote in `Amounts`: virtual tokens have others than the token that settles them."""

    def approvals(self) -> tuple[Approval, ...]:
        """Return what the wallet must have granted before the first trade; may need a block or two to be known."""

    def position_lots(self) -> int:
        """Return the hedge position as the newest block has it, in signed lots."""

    def build(self, intent: OrderIntent) -> TransactionRequest:
        """Return the transaction that carries out `intent` within its limit, or raise Refused.

        The off-chain quote from the newest state must be within the limit; the chain enforces the limit itself too.
        """

    def expects(self, intent: OrderIntent) -> Amounts:
        """Return what the trade would move in the newest state, to the last unit."""

    def read_answer(self, intent: OrderIntent, data: bytes) -> Amounts | None:
        """Return what an `eth_call` of the built transaction says would move, None if the answer tells nothing.

        An answer may tell only sizes, to which the order gives the signs, and quote only with the fee taken off: hold
        `net_quote_wei` against that of `expects`.
        """

    def read_receipt(self, intent: OrderIntent, receipt: Receipt) -> Amounts:
        """Return what a mined trade moved, from its logs."""

    def read_funding(self, receipt: Receipt) -> int:
        """Return the funding that a transaction of ours settled, in smallest quote units: positive was paid."""

    def explain_revert(self, data: bytes) -> str:
        """Return the protocol's reason in words, custom errors decoded."""

    def is_price_miss(self, data: bytes) -> bool:
        """Tell whether a revert only says that price or time ran out: the order expired, nothing worse."""
