"""The transaction log: every state of every transaction of one key on one chain, append-only, on disk before it acts.

It is what a restart knows. It must never change a row, never let a second owner of the key in, and never return from a
row that anything rests on before it is on disk. Reading never blocks the owner. Amounts in wei are texts: they exceed
64 bits.

Every statement goes through SQLAlchemy Core on one schema that PostgreSQL could hold as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    RowMapping,
    String,
    Table,
    select,
)
from sqlalchemy.exc import DBAPIError

from bot.domain.errors import InvariantBroken, JournalError
from bot.domain.orders import GasBid, OrderIntent
from bot.gateways.chain.lives import Life, Row, fold
from bot.gateways.chain.nouns import Amounts, Receipt, TransactionRequest, TransactionState
from bot.storage.append_only import RowFile, connected, wait_for_disk
from bot.storage.locks import held_lock

SCHEMA_VERSION: Final = 1
PASSING: Final = frozenset(
    {
        TransactionState.RESERVED,
        TransactionState.SENT,
        TransactionState.DROPPED,
        TransactionState.UNKNOWN,
        TransactionState.MINED,
        TransactionState.FAILED,
    }
)
"""States whose rows a failure of power may take without harm, so nobody waits for the disk: what was not signed was
never sent, what is signed is asked about and sent again as the same bytes, and what a block holds the chain tells
again. The next other row takes them along."""


def log_path(state_dir: str | Path, chain_id: int, address: str) -> Path:
    """Return where the log of a key on a chain stands."""
    return Path(state_dir) / f"transactions-{chain_id}-{address.lower()}.sqlite"


class TransactionLog:
    """One key's log on one chain, open for reading or as its only writer."""

    def __init__(self, path: Path, connection: Connection, *, is_writer: bool) -> None:
        self._path = path
        self._connection = connection
        self._is_writer = is_writer
        self._is_broken = False

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, for_writing: bool) -> Iterator[TransactionLog]:
        """Open the log for the length of a `with` block; writing creates it if there is none and takes the key.

        Raises JournalError for a file that is missing (reading), owned by another process (writing), or no log.
        """
        path = path.resolve()
        with ExitStack() as stack:
            if for_writing:
                stack.enter_context(_owned(path))
            connection = stack.enter_context(connected(_LOG, path, for_writing=for_writing))
            yield cls(path, connection, is_writer=for_writing)

    @property
    def path(self) -> Path:
        """The database file."""
        return self._path

    def append(self, row: Row) -> None:
        """Write a row; a process that is killed loses none.

        Power that fails takes none but those of `PASSING` and those of amounts, which the receipt tells again.

        Raises JournalError if the disk refuses: nothing may then be signed or sent any more.
        """
        if not self._is_writer:
            raise InvariantBroken(f"{self._path}: expected a log open for writing, found one open for reading")
        if self._is_broken:
            raise JournalError(f"{self._path}: expected a working log, found one whose last write failed")
        try:
            wait_for_disk(self._connection, is_on=row.state not in PASSING and row.amounts is None)
            with self._connection.begin():
                self._connection.execute(_INSERT, _to_columns(row))
        except DBAPIError as error:
            self._is_broken = True
            raise JournalError(
                f"{self._path}: the row {row.state} of {row.key} could not be written: {error.orig};"
                " hint: look at the disk, then start again: nothing of this row has left"
            ) from error

    def rows(self, key: str | None = None) -> list[Row]:
        """Return the rows in the order they were written, of one transaction or of all."""
        query = select(_ROWS).order_by(_ROWS.c.seq)
        if key is not None:
            query = query.where(_ROWS.c.key == key)
        try:
            with self._connection.begin():
                return [_from_columns(found) for found in self._connection.execute(query).mappings()]
        except (DBAPIError, ValueError, TypeError) as error:
            raise JournalError(f"{self._path}: expected rows of a transaction log, found: {error}") from error

    def life(self, key: str) -> Life | None:
        """Return one transaction as the log has it, None if it never heard of it."""
        return fold(self.rows(key)).get(key)

    def lives(self) -> dict[str, Life]:
        """Return every transaction as the log has it, by key, oldest first."""
        return fold(self.rows())


def is_owned(path: Path) -> bool:
    """Tell whether a process owns the key of the log at `path` now."""
    try:
        with _owned(path.resolve()):
            return False
    except JournalError:
        return True


# Rows -----------------------------------------------------------------------------------------------------------------

_ROWS: Final = Table(
    "transactions",
    MetaData(),
    # On SQLite only INTEGER makes the key the row's own address.
    Column("seq", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("ts_ns", BigInteger, nullable=False),
    Column("key", String(128), nullable=False, index=True),
    Column("instrument_id", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    Column("nonce", BigInteger, nullable=False),
    Column("head_number", BigInteger, nullable=False),
    Column("tx_hash", String(66), nullable=False),
    Column("is_cancel", Boolean, nullable=False),
    Column("is_reversed", Boolean, nullable=False),
    Column("raw", LargeBinary),
    Column("max_fee_wei", String(80), nullable=False),
    Column("tip_wei", String(80), nullable=False),
    Column("tier", Integer, nullable=False),
    Column("block_number", BigInteger, nullable=False),
    Column("delay_ns", BigInteger, nullable=False),
    Column("reason", String, nullable=False),
    # of the request
    Column("to_address", String(42)),
    Column("data", LargeBinary),
    Column("value_wei", String(80)),
    Column("gas_limit", BigInteger),
    Column("gas_quote", Float),
    Column("deadline_ns", BigInteger),
    Column("intent", LargeBinary),
    # of the receipt
    Column("block_hash", String(66)),
    Column("is_success", Boolean),
    Column("gas_used", BigInteger),
    Column("gas_price_wei", String(80)),
    Column("l1_fee_wei", String(80)),
    Column("spent_wei", String(80)),
    Column("revert_data", LargeBinary),
    Column("is_out_of_gas", Boolean),
    # of what it moved
    Column("base_wei", String(80)),
    Column("quote_wei", String(80)),
    Column("fee_quote_wei", String(80)),
)
_INSERT: Final = _ROWS.insert()
_LOG: Final = RowFile("transaction log", _ROWS, SCHEMA_VERSION, is_private=True, is_sealed=True)


def _to_columns(row: Row) -> dict[str, object]:
    columns: dict[str, object] = {
        "ts_ns": row.ts_ns,
        "key": row.key,
        "instrument_id": row.instrument_id,
        "state": row.state.value,
        "nonce": row.nonce,
        "head_number": row.head_number,
        "tx_hash": row.tx_hash,
        "is_cancel": row.is_cancel,
        "is_reversed": row.is_reversed,
        "raw": row.raw or None,
        "max_fee_wei": str(row.max_fee_wei),
        "tip_wei": str(row.tip_wei),
        "tier": row.tier,
        "block_number": row.block_number,
        "delay_ns": row.delay_ns,
        "reason": row.reason,
    }
    if row.request is not None:
        columns |= {
            "to_address": row.request.to,
            "data": row.request.data,
            "value_wei": str(row.request.value_wei),
            "gas_limit": row.request.gas_limit,
            "gas_quote": row.request.gas.gas_quote,
            "deadline_ns": row.request.gas.deadline_ns,
            "intent": msgspec.json.encode(row.request.intent) if row.request.intent is not None else None,
        }
    if row.receipt is not None:
        columns |= {
            "block_hash": row.receipt.block_hash,
            "is_success": row.receipt.is_success,
            "gas_used": row.receipt.gas_used,
            "gas_price_wei": str(row.receipt.gas_price_wei),
            "l1_fee_wei": str(row.receipt.l1_fee_wei),
            "spent_wei": str(row.receipt.gas_wei),
            "revert_data": row.receipt.revert_data,
            "is_out_of_gas": row.receipt.is_out_of_gas,
        }
    if row.amounts is not None:
        columns |= {
            "base_wei": str(row.amounts.base_wei),
            "quote_wei": str(row.amounts.quote_wei),
            "fee_quote_wei": str(row.amounts.fee_quote_wei),
        }
    return columns


def _from_columns(found: RowMapping) -> Row:
    columns: dict[str, Any] = dict(found)
    request = receipt = amounts = None
    max_fee_wei, tip_wei = int(columns["max_fee_wei"]), int(columns["tip_wei"])
    if columns["to_address"] is not None:
        gas = GasBid(max_fee_wei, tip_wei, columns["gas_quote"], columns["deadline_ns"])
        request = TransactionRequest(
            columns["key"],
            columns["instrument_id"],
            columns["to_address"],
            columns["data"],
            int(columns["value_wei"]),
            columns["gas_limit"],
            gas,
            msgspec.json.decode(columns["intent"], type=OrderIntent) if columns["intent"] is not None else None,
        )
    if columns["block_hash"] is not None:
        receipt = Receipt(
            columns["tx_hash"],
            columns["block_number"],
            columns["block_hash"],
            columns["is_success"],
            columns["gas_used"],
            int(columns["gas_price_wei"]),
            (),
            columns["revert_data"],
            columns["is_out_of_gas"],
            int(columns["l1_fee_wei"]),
        )
    if columns["base_wei"] is not None:
        amounts = Amounts(int(columns["base_wei"]), int(columns["quote_wei"]), int(columns["fee_quote_wei"]))
    return Row(
        ts_ns=columns["ts_ns"],
        key=columns["key"],
        instrument_id=columns["instrument_id"],
        state=TransactionState(columns["state"]),
        nonce=columns["nonce"],
        head_number=columns["head_number"],
        tx_hash=columns["tx_hash"],
        is_cancel=columns["is_cancel"],
        is_reversed=columns["is_reversed"],
        raw=columns["raw"] or b"",
        max_fee_wei=max_fee_wei,
        tip_wei=tip_wei,
        tier=columns["tier"],
        request=request,
        receipt=receipt,
        amounts=amounts,
        block_number=columns["block_number"],
        delay_ns=columns["delay_ns"],
        reason=columns["reason"],
    )


# The owner ------------------------------------------------------------------------------------------------------------


@contextmanager
def _owned(path: Path) -> Iterator[None]:
    """Hold the key of the log at `path`; the lock goes with the process, however it ends."""
    with suppress(OSError):  # the lock says what is wrong with the folder
        path.parent.mkdir(parents=True, exist_ok=True)
    taken = f"{path}: expected to be the only one that signs with this key on this chain, found another process"
    with held_lock(path, taken, "two would use the same nonces", mode=0o600) as descriptor:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()}\n".encode(), 0)
        yield
