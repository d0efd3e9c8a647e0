"""Keeps the count of a key's nonces true to its chain: what others take is seen, and what nobody uses is filled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bot.domain.errors import Retryable
from bot.domain.orders import GasBid
from bot.gateways.chain.fees import PLAIN_GAS, Bid
from bot.gateways.chain.life_book import LifeBook
from bot.gateways.chain.lives import Life
from bot.gateways.chain.nonces import Nonces
from bot.gateways.chain.nouns import Block, TransactionRequest
from bot.gateways.chain.standing import Standing
from bot.gateways.chain.transaction_reader import TransactionReader

_FILL: Final = "fill"
_MOST_HOLES: Final = 16  # at once: as many of ours were never signed, or a stranger's are missing


class NonceKeeper:
    """The nonces of a key that only we should use. `alarm` says what a person should know of them, "" if nothing."""

    def __init__(self, standing: Standing, reader: TransactionReader, book: LifeBook) -> None:
        self._standing = standing
        self._reader = reader
        self._book = book
        self._nonces = Nonces()
        self._next_since: dict[int, int] = {}  # block since which a nonce is the next to be mined
        self._hole_since: dict[int, int] = {}
        self._stranger = ""
        self._too_many = ""  # holes to be filled

    @property
    def alarm(self) -> str:
        """What a person should know of who uses the key's nonces, "" if nothing."""
        return "; ".join(one for one in (self._stranger, self._too_many) if one)

    def reserve(self) -> int:
        """Give out the nonce for the next transaction."""
        return self._nonces.reserve()

    def release(self, life: Life) -> None:
        """Take back the nonce of a transaction that no node has, unless the chain has used it."""
        if life.nonce >= self._standing.count:
            self._nonces.release(life.nonce)

    async def reload(self) -> None:
        """Count nonces anew from the chain."""
        head = self._standing.ready()
        self.reconcile(await self._reader.count(head), await self._reader.pending_count())

    def reconcile(self, latest: int, pending: int) -> None:
        """Take in the chain's counts: what is mined, and that with its pool."""
        # also what is mined already: the node that answers may lag
        ours = {life.nonce for life in self._book if not life.is_withdrawn}
        self._nonces.reconcile(latest, pending, ours)
        strangers = [nonce for nonce in range(latest, pending) if nonce not in ours]
        if strangers:
            self.note_stranger(f"nonce {strangers[0]} is in the pool")

    def note_stranger(self, sign: str) -> None:
        """Take in a sign that we are not the only one with the key."""
        self._stranger = f"somebody else signs with the key of {self._standing.address}: {sign}"

    def take_block(self, block: Block, count: int) -> None:
        """Take in that so many nonces were used as of a block; remember since when the next one has been the next."""
        self._nonces.mined(count)
        self._next_since = {count: self._next_since.get(count, block.number)}

    def next_since(self, nonce: int, block: Block) -> int:
        """Return the block since which a nonce has been the next to be mined, this one if it is not."""
        return self._next_since.get(nonce, block.number)

    def fillings(self, block: Block, count: int) -> Iterator[tuple[int, TransactionRequest]]:
        """Yield what fills nonces that nothing of ours uses below used ones: until then nothing above can be mined.

        One of our own is left for the next transaction for a block; one that a stranger may use, for as long as it
        takes to call a transaction stuck. Raises Retryable where that costs more than the cap.
        """
        ours = {life.nonce for life in self._book if life.is_live}
        holes = [nonce for nonce in range(count, max(ours, default=count)) if nonce not in ours]
        self._too_many = ""
        if len(holes) > _MOST_HOLES:  # each one filled costs gas, and so many come of a count that was wrong
            self._too_many = (
                f"nonces {holes[0]} to {holes[-1]} would have to be filled, at most {_MOST_HOLES} are;"
                " hint: a node told a wrong count of transactions; start again, the next ones then use these"
            )
            return
        fees, market = self._standing.fees, self._standing.market
        free = set(self._nonces.gaps())
        self._hole_since = {nonce: self._hole_since.get(nonce, block.number) for nonce in holes}
        for nonce in holes:
            patience = 1 if nonce in free else fees.replace_after_blocks
            if market is None or block.number - self._hole_since[nonce] < patience:
                continue
            bid = Bid(market.most_base_fee_wei(2) + market.tips_wei[-1], market.tips_wei[-1])
            if bid.max_fee_wei > fees.max_fee_wei:
                raise Retryable(f"nonce {nonce} waits to be filled: the base fee is above the cap")
            if nonce in free:
                self._nonces.take(nonce)
            gas = GasBid(bid.max_fee_wei, bid.tip_wei, 0.0, 0)
            key = f"{_FILL}:{nonce}:{block.number}"
            yield nonce, TransactionRequest(key, "", self._standing.address, b"", 0, PLAIN_GAS, gas)
