"""All that is read of a block in one request, pinned to the block's hash: Multicall3's `aggregate3` as an `eth_call`.

A read that reverts is None, and only that one. Pinned by hash (EIP-1898), the answers are of one state, whatever the
node has mined meanwhile; a node that does not have the block says so, and another is asked. Some answer all the same,
with the state they have: so the block's time and number are read too, and compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from bot.domain.errors import Retryable, VenueFatal
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.gateways.chain.abi import WORD_BYTES, Undecodable, selector, to_bytes, uint_at
from bot.gateways.chain.endpoints import Endpoints
from bot.gateways.chain.nouns import Block, Read
from bot.gateways.chain.rpc import RpcError, UnknownBlock

MAX_READS: Final = 500  # in one request: 500 slot0 are 1.5 M gas, 500 balances of the dearest tokens 20 M
_AGGREGATE3: Final = selector("aggregate3((address,bool,bytes)[])")
_WITNESSES: Final = (selector("getCurrentBlockTimestamp()"), selector("getBlockNumber()"))  # Multicall3's own
_MAX_LAG_BLOCKS: Final = 10_000  # a number farther off is that of another chain, which Arbitrum's contracts are told
_ADDRESS_BYTES: Final = 20
_PATIENCE_NS: Final = 500 * NS_PER_MS  # a head may be told a moment before its state can be asked for
_FIRST_WAIT_NS: Final = 5 * NS_PER_MS


class Multicall:
    """Reads blocks. The calldata is made anew only when the reads change."""

    def __init__(self, endpoints: Endpoints, address: str, max_reads: int = MAX_READS) -> None:
        self._endpoints = endpoints
        self._address = address
        self._max_reads = max_reads
        self._reads: tuple[Read, ...] = ()
        self._calls: tuple[dict[str, str], ...] = ()

    async def read(self, block: Block, reads: Sequence[Read]) -> tuple[bytes | None, ...]:
        """Return what every read answers in this block, None where it reverts.

        Raises Retryable (UnknownBlock) if no node knows the block after a moment's patience, VenueFatal if there is no
        Multicall3 at the address.
        """
        if not reads:
            return ()
        calls = self._chunks(reads)
        sizes = [min(self._max_reads, len(reads) - n * self._max_reads) for n in range(len(calls))]
        chunks = await asyncio.gather(
            *(self._answers(call, block, n_reads) for call, n_reads in zip(calls, sizes, strict=True))
        )
        return tuple(answer for chunk in chunks for answer in chunk)

    async def audit(self, block: Block, reads: Sequence[Read]) -> None:
        """Have every node answer the same reads of the same block: who says otherwise is left out and named.

        Raises Retryable where no majority says the same.
        """
        for call in self._chunks(reads):
            await self._endpoints.audit(call, block.block_hash)

    def _chunks(self, reads: Sequence[Read]) -> tuple[dict[str, str], ...]:
        wanted = tuple(reads)
        if wanted != self._reads:
            parts = [wanted[start : start + self._max_reads] for start in range(0, len(wanted), self._max_reads)]
            witnesses = [Read(self._address, call) for call in _WITNESSES]
            self._calls = tuple(
                {"to": self._address, "data": "0x" + encode_reads([*part, *witnesses]).hex()} for part in parts
            )
            self._reads = wanted
        return self._calls

    async def _answers(self, call: dict[str, str], block: Block, n_reads: int) -> list[bytes | None]:
        told: list[bytes | None] = []

        def fault_of(answer: object) -> str:
            nonlocal told
            if answer == "0x":
                return ""  # no fault of the node's, if it says that there is no contract
            try:
                told = decode_answers(to_bytes(str(answer)))
            except Undecodable as error:
                return f"its answer to the reads of a block cannot be decoded: {error}"
            if len(told) != n_reads + len(_WITNESSES):
                return f"expected {n_reads + len(_WITNESSES)} answers, found {len(told)}"
            time_s, number = (int.from_bytes(witness or b"") for witness in told[n_reads:])
            del told[n_reads:]
            if time_s == block.timestamp_s and (number == block.number or abs(number - block.number) > _MAX_LAG_BLOCKS):
                return ""
            return f"asked about block {block.number} of time {block.timestamp_s}, it answers for {number} of {time_s}"

        waited_ns, wait_ns = 0, _FIRST_WAIT_NS
        while True:
            try:
                params = [call, {"blockHash": block.block_hash}]
                answer = await self._endpoints.call("eth_call", params, fault_of=fault_of)
            except UnknownBlock:
                if waited_ns >= _PATIENCE_NS:
                    raise
                await asyncio.sleep(wait_ns / NS_PER_S)
                waited_ns, wait_ns = waited_ns + wait_ns, 2 * wait_ns
            except RpcError as error:  # single reads may fail, all together must not: out of gas, for example
                raise Retryable(
                    f"{self._endpoints.venue}: the {n_reads} reads of block {block.number} failed: {error}"
                ) from error
            else:
                break
        if answer == "0x":
            raise VenueFatal(
                f"{self._endpoints.venue}: expected Multicall3 at {self._address}, found no code; "
                "hint: it must be deployed on the chain, or its address given"
            )
        return told


def encode_reads(reads: Sequence[Read]) -> bytes:
    """Return the calldata of `aggregate3` over these reads, each allowed to fail.

    Written out by hand, as the generic encoder takes 40 µs a read: offsets of each (address,bool,bytes), then these.
    """
    heads: list[bytes] = []
    tails: list[bytes] = []
    offset = WORD_BYTES * len(reads)
    for read in reads:
        target = bytes.fromhex(read.to.removeprefix("0x"))
        if len(target) != _ADDRESS_BYTES:
            raise ValueError(f"expected an address of 20 bytes to read from, found {read.to!r}")
        data = read.data
        tail = b"".join(
            (
                target.rjust(WORD_BYTES, b"\0"),
                _word(1),
                _word(3 * WORD_BYTES),
                _word(len(data)),
                data,
                bytes(-len(data) % WORD_BYTES),
            )
        )
        heads.append(_word(offset))
        tails.append(tail)
        offset += len(tail)
    return b"".join((_AGGREGATE3, _word(WORD_BYTES), _word(len(reads)), *heads, *tails))


def decode_answers(data: bytes) -> list[bytes | None]:
    """Return what `aggregate3` answered: each read's bytes, None for one that failed. Raises Undecodable."""
    start = uint_at(data, 0) + WORD_BYTES  # offsets count from after the length
    if start > len(data) or start % WORD_BYTES:
        raise Undecodable(f"expected a list, found its offset at {start} of {len(data)} bytes")
    count = uint_at(data, start // WORD_BYTES - 1)
    if count > len(data) // WORD_BYTES:
        raise Undecodable(f"expected a list within {len(data)} bytes, found {count} items")
    answers: list[bytes | None] = []
    number = int.from_bytes
    for index in range(count):
        # A word beyond the end reads as a smaller number: it points before where its item may be, or past the end.
        at = start + number(data[start + WORD_BYTES * index : start + WORD_BYTES * (index + 1)])
        body = at + number(data[at + WORD_BYTES : at + 2 * WORD_BYTES]) + WORD_BYTES
        end = body + number(data[body - WORD_BYTES : body])
        if at < start + WORD_BYTES * count or body < at + 3 * WORD_BYTES or end > len(data):
            raise Undecodable(
                f"expected answer {index} at {at} to {end} of {len(data)} bytes, found it cut off or mixed"
            )
        answers.append(data[body:end] if any(data[at : at + WORD_BYTES]) else None)
    return answers


def _word(value: int) -> bytes:
    return value.to_bytes(WORD_BYTES)
