"""The life of one transaction in memory: nothing but the fold of its rows in the transaction log.

Running and reading the log after a crash go through the same `Life.apply`, so what was written is all that is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from bot.domain.errors import InvariantBroken
from bot.gateways.chain.nouns import Amounts, Receipt, TransactionRequest, TransactionState

S = TransactionState

LIVE: Final = frozenset({S.RESERVED, S.SIGNED, S.SENT, S.DROPPED, S.UNKNOWN})
"""Not in a block yet, as far as we know: the nonce is still ours to be mined."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the transaction log: what became of a transaction, or of one of the versions signed for its nonce.

    `head_number` is the newest block when it was written. `request` stands in the first row, `raw` in those of SIGNED,
    `receipt` (without its logs) where a block holds it, `amounts` where it is known what was moved. `delay_ns` is from
    deciding to inclusion.
    """

    ts_ns: int
    key: str
    instrument_id: str
    state: TransactionState
    nonce: int
    head_number: int
    tx_hash: str = ""
    is_cancel: bool = False
    is_reversed: bool = False
    raw: bytes = b""
    max_fee_wei: int = 0
    tip_wei: int = 0
    tier: int = 0
    request: TransactionRequest | None = None
    receipt: Receipt | None = None
    amounts: Amounts | None = None
    block_number: int = 0
    delay_ns: int = 0
    reason: str = ""


class Attempt(msgspec.Struct):
    """One signed version of a transaction.

    `signed_number` is the newest block when it was signed, `sent_number` when it was first handed over, or -1.
    """

    tx_hash: str
    raw: bytes
    max_fee_wei: int
    tip_wei: int
    is_cancel: bool
    signed_number: int
    sent_number: int = -1


class Life:
    """What we know of one transaction."""

    def __init__(self, first: Row) -> None:
        if first.request is None or first.state is not S.RESERVED:
            raise InvariantBroken(f"{first.key}: expected the log to begin with its request, found {first.state}")
        self.request: TransactionRequest = first.request
        self.nonce = first.nonce
        self.tier = first.tier
        self.reserved_ns = first.ts_ns
        self.reserved_number = first.head_number
        self.attempts: list[Attempt] = []
        self.state = S.RESERVED
        self.outcome = S.RESERVED  # what a FINAL one ended as
        self.receipt: Receipt | None = None
        self.voided: list[Receipt] = []  # of blocks that left the chain
        self.settled_number = 0  # the block that used the nonce
        self.amounts: Amounts | None = None
        self.delay_ns = 0
        self.reason = first.reason
        self.ts_ns = first.ts_ns
        self.head_number = first.head_number

    @property
    def key(self) -> str:
        """The request's key."""
        return self.request.key

    @property
    def is_live(self) -> bool:
        """Tell whether it is still to be mined."""
        return self.state in LIVE

    @property
    def is_withdrawn(self) -> bool:
        """Tell whether it ended without ever being in a node's pool, and gave its nonce back."""
        return self.state is S.CANCELED and self.receipt is None

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more is expected to happen to it."""
        return self.state is S.FINAL or self.is_withdrawn

    @property
    def is_signed(self) -> bool:
        """Tell whether it was ever signed: only then can it ever be mined."""
        return bool(self.attempts)

    @property
    def is_canceling(self) -> bool:
        """Tell whether the newest version is a cancel."""
        return bool(self.attempts) and self.attempts[-1].is_cancel

    @property
    def max_cost_wei(self) -> int:
        """What it can still take from the coin balance."""
        if not self.is_live:
            return 0
        fee = max([self.request.gas.max_fee_wei, *(attempt.max_fee_wei for attempt in self.attempts)])
        return self.request.gas_limit * fee + self.request.value_wei

    def attempt_of(self, tx_hash: str) -> Attempt | None:
        """Return the version of this hash."""
        return next((attempt for attempt in self.attempts if attempt.tx_hash == tx_hash), None)

    def apply(self, row: Row) -> None:
        """Take in the next row."""
        self.ts_ns = row.ts_ns
        self.head_number = row.head_number
        if row.amounts is not None:
            self.amounts = row.amounts
            return
        self.reason = row.reason
        if row.state is S.SIGNED:
            fees = (row.max_fee_wei, row.tip_wei)
            self.attempts.append(Attempt(row.tx_hash, row.raw, *fees, row.is_cancel, row.head_number))
            if len(self.attempts) > 1:
                return  # the transaction is as it was: an earlier version may be mined yet
        elif row.state in {S.SENT, S.UNKNOWN}:
            attempt = self.attempt_of(row.tx_hash)
            if attempt is not None and attempt.sent_number < 0:
                attempt.sent_number = row.head_number
        if row.state is S.FINAL:
            self.outcome = self.state
        else:
            if row.is_reversed and self.receipt is not None:
                self.voided.append(self.receipt)
            self.receipt = row.receipt
            self.settled_number = row.block_number
            self.delay_ns = row.delay_ns or self.delay_ns
            if row.is_reversed:
                self.amounts = None
        self.state = row.state


def fold(rows: Iterable[Row]) -> dict[str, Life]:
    """Return the transactions of a log by key, in the order they began."""
    lives: dict[str, Life] = {}
    for row in rows:
        life = lives.get(row.key)
        if life is None:
            lives[row.key] = Life(row)
        else:
            life.apply(row)
    return lives
