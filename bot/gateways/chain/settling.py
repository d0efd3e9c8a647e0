"""Finds out what became of a transaction: in a block, final, undone by a reorg, or its nonce used by another.

That one is gone is never concluded from silence: a block holds it, or what used its nonce is shown, or every node has
been asked in several blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from bot.domain.errors import Retryable
from bot.gateways.chain.fees import PLAIN_GAS, gwei
from bot.gateways.chain.life_book import LifeBook
from bot.gateways.chain.lives import Life
from bot.gateways.chain.nonce_keeper import NonceKeeper
from bot.gateways.chain.nouns import Block, Receipt, TransactionState
from bot.gateways.chain.sender import Sender
from bot.gateways.chain.standing import Standing, is_late
from bot.gateways.chain.transaction_reader import TransactionReader

S = TransactionState

_PROOFLESS_ROUNDS: Final = 3  # blocks in a row without a receipt of ours, where no history proves who used a nonce
_LOOK_BACK: Final = 8  # blocks before we began in which a nonce may have been used already, as nodes lag


class Settling:
    """Sees to every transaction as of a block: writes down what the chain says of it, and has done what follows."""

    def __init__(
        self, standing: Standing, reader: TransactionReader, book: LifeBook, nonces: NonceKeeper, sender: Sender
    ) -> None:
        self._standing = standing
        self._settings = standing.settings
        self._reader = reader
        self._book = book
        self._nonces = nonces
        self._sender = sender
        self._proofless: dict[str, set[int]] = {}  # in which blocks a used nonce had no receipt of ours

    async def look_at_all(self, lives: Sequence[Life], block: Block, count: int | None) -> None:
        """See to each of these transactions; `count` is how many nonces were used as of the block, if known."""
        hashes = await self._hashes_of(lives)
        looks = (self.look_at(life, block, count, hashes) for life in lives)
        for failure in await asyncio.gather(*looks, return_exceptions=True):
            if isinstance(failure, BaseException):
                raise failure

    async def take_back(self, lives: Sequence[Life], block: Block) -> None:
        """See to those whose block is gone, as after a time in which nobody told of reorgs; leave the others."""
        hashes = await self._hashes_of(lives)
        for life in lives:
            if life.receipt is not None and hashes[life.settled_number] not in ("", life.receipt.block_hash):
                await self.look_at(life, block, None, hashes)

    async def _hashes_of(self, lives: Sequence[Life]) -> dict[int, str]:
        """Return the hashes of the blocks that hold them: one question each, however many it holds."""
        numbers = sorted({life.settled_number for life in lives if life.receipt is not None})
        return dict(zip(numbers, await asyncio.gather(*map(self._reader.block_hash, numbers)), strict=True))

    async def look_at(
        self, life: Life, block: Block, count: int | None = None, hashes: Mapping[int, str] | None = None
    ) -> None:
        """Find out what became of one transaction, and do what is to be done.

        What is known already of the block need not be asked: how many nonces it has seen, and hashes of blocks before.
        """
        async with self._book.lock(life):
            if life.is_over:
                return
            if life.state is S.RESERVED:
                self._sender.withdraw(life, "never signed: it was interrupted")
                return
            if life.receipt is not None:
                number = life.settled_number
                found = (hashes or {}).get(number) or await self._reader.block_hash(number)
                if found == life.receipt.block_hash:
                    if block.number - number >= self._settings.final_blocks:
                        self._end(life)
                    return
                if not found:
                    return  # the node that answered lags
            receipt = await self._find_receipt(life)
            if receipt is not None:
                await self._take_receipt(life, receipt, block)
                return
            if life.receipt is not None:
                await self._void(life)
                return
            used = await self._reader.count(block) if count is None else count
            if used > life.nonce:
                await self._take_used(life, block)
            elif life.state in {S.TAKEN, S.REPLACED}:
                await self._untake(life, block)
            else:
                await self._sender.push(life, block, is_next=used == life.nonce)

    async def void(self, life: Life) -> None:
        """Take back what a block held that is gone; where the new blocks do not hold it either, send it again."""
        async with self._book.lock(life):
            await self._void(life)

    # --- in a block --------------------------------------------------------------------------------------------------

    async def _find_receipt(self, life: Life) -> Receipt | None:
        """Return the receipt of whichever version is in a block."""
        newest_first = [attempt.tx_hash for attempt in reversed(life.attempts)]
        found = await asyncio.gather(*(self._reader.receipt(tx_hash) for tx_hash in newest_first))
        return next((receipt for receipt in found if receipt is not None), None)

    async def _take_receipt(self, life: Life, receipt: Receipt, block: Block) -> None:
        """Take in that a block holds a version, once deep enough."""
        if receipt.block_number == block.number and receipt.block_hash != block.block_hash:
            return  # of another fork than the block we were told of; the next block decides
        _check_cost(life, receipt)
        depth = block.number - receipt.block_number + 1
        if life.receipt is not None and life.receipt.block_hash != receipt.block_hash:
            self._book.reverse(life, f"block {life.receipt.block_number} left the chain")
        if life.receipt is None and depth >= self._settings.confirmations:
            await self._settle(life, receipt)

    async def _settle(self, life: Life, receipt: Receipt) -> None:
        """Write down that a version is in a block, and learn from it."""
        attempt = life.attempt_of(receipt.tx_hash)
        is_cancel = attempt is not None and attempt.is_cancel
        delay_ns = life.delay_ns
        if not is_cancel:
            if not receipt.is_success:
                receipt = await self._reader.explained(receipt, life.request, life.request.gas_limit)
            delay_ns = self._book.note_inclusion(life, is_success=receipt.is_success)
        if is_cancel:
            state, reason = S.CANCELED, "the cancel was mined"
        else:
            state, reason = (S.MINED, "") if receipt.is_success else (S.FAILED, _why_failed(receipt))
        self._book.write(
            life,
            state,
            tx_hash=receipt.tx_hash,
            is_cancel=is_cancel,
            receipt=receipt,
            block_number=receipt.block_number,
            delay_ns=delay_ns,
            reason=reason,
        )

    def _end(self, life: Life) -> None:
        self._proofless.pop(life.key, None)
        self._book.write(life, S.FINAL, block_number=life.settled_number, reason=life.reason)

    async def _void(self, life: Life) -> None:
        assert life.receipt is not None
        tx_hash, is_success = life.receipt.tx_hash, life.receipt.is_success
        self._book.reverse(life, f"block {life.receipt.block_number} left the chain")
        attempt = life.attempt_of(tx_hash)
        if attempt is None or await self._find_receipt(life) is not None:
            return
        if not attempt.is_cancel and is_late(life.request.gas, self._standing.ready()):
            await self._sender.cancel(life, "canceled: its time is over, and its block left the chain")
        elif not is_success and not attempt.is_cancel:  # what it was for was decided anew once it had failed
            await self._sender.cancel(life, "canceled: it had failed, and its block left the chain")
        else:
            await self._sender.hand_over(life, attempt)

    # --- its nonce used by another -----------------------------------------------------------------------------------

    async def _take_used(self, life: Life, block: Block) -> None:
        """Take in that the nonce was used while no version of ours has a receipt: find out by whom."""
        if life.state in {S.TAKEN, S.REPLACED}:
            if block.number - life.settled_number >= self._settings.final_blocks:
                self._end(life)
            return
        since = max(0, life.reserved_number - _LOOK_BACK)
        found = await self._reader.user_of(life.nonce, since, block)
        if found is None:
            blocks = self._proofless.setdefault(life.key, set())
            blocks.add(block.number)  # however often it is asked about in one
            if len(blocks) >= _PROOFLESS_ROUNDS:
                reason = f"nonce {life.nonce} was used by another transaction of this key, which one cannot be found"
                self._book.write(life, S.TAKEN, block_number=block.number, reason=reason)
            return
        tx_hash, number = found
        owner = self._book.owner_of(tx_hash)
        if owner == life.key:
            return  # the receipt is on its way
        await self._bring_back(owner)
        what = "another wallet with this key" if owner is None else owner
        if owner is None:
            self._nonces.note_stranger(tx_hash)
        reason = f"nonce {life.nonce} was used by {what}: {tx_hash} in block {number}"
        self._book.write(life, S.TAKEN if owner is None else S.REPLACED, block_number=number, reason=reason)

    async def _bring_back(self, key: str | None) -> None:
        """Take in that one of ours was mined after all that no node would take."""
        life = self._book.get(key or "")
        if life is not None and life.is_withdrawn:
            async with self._book.lock(life):
                receipt = await self._find_receipt(life)
                if receipt is not None:
                    await self._settle(life, receipt)

    async def _untake(self, life: Life, block: Block) -> None:
        """Take in that a reorg freed a nonce that was used by another: ours must not come back unasked."""
        if any(one.nonce == life.nonce and one.is_live for one in self._book):
            return  # the other one of ours is on its way again
        self._book.reverse(life, "a reorg freed its nonce again")
        await self._sender.cancel(life, f"canceled: its nonce was free again in block {block.number}")


def _check_cost(life: Life, receipt: Receipt) -> None:
    """Raise Retryable for a receipt of more gas, or at a higher price, than was signed for: no chain takes that."""
    attempt = life.attempt_of(receipt.tx_hash)
    if attempt is None:
        return
    limit = PLAIN_GAS if attempt.is_cancel else life.request.gas_limit
    if receipt.gas_used > limit or receipt.gas_price_wei > attempt.max_fee_wei:
        raise Retryable(
            f"{life.key}: expected at most {limit} gas at {gwei(attempt.max_fee_wei)} gwei, found a receipt of "
            f"{receipt.gas_used} at {gwei(receipt.gas_price_wei)} gwei; hint: the node that says so is wrong"
        )


def _why_failed(receipt: Receipt) -> str:
    if receipt.is_out_of_gas:
        return f"failed: out of gas, all {receipt.gas_used} burnt"
    return "failed: reverted" + (f" with 0x{receipt.revert_data.hex()[:200]}" if receipt.revert_data else "")
