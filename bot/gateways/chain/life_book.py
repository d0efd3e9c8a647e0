"""The lives of a key's transactions: on disk first, then in memory, then told. Nothing else writes to the log.

What a process that was killed has left is read back here, and what ended long ago is forgotten; the log forgets
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from bot.domain.units import NS_PER_S
from bot.gateways.chain.inclusion import InclusionDelays, RevertShares
from bot.gateways.chain.lives import Life, Row
from bot.gateways.chain.nouns import (
    Amounts,
    Block,
    Receipt,
    Refused,
    TransactionNews,
    TransactionRequest,
    TransactionState,
)
from bot.gateways.chain.standing import Standing
from bot.gateways.chain.transaction_log import TransactionLog
from bot.gateways.gateway import Clock

S = TransactionState
PutNews = Callable[[TransactionNews], None]

_MEMORY: Final = 4  # times final: how long an ended transaction is remembered for a reorg that should not happen


class LifeBook:
    """Every transaction of a key. Each row of the log is news: `put` is called after it is on disk.

    `delays` and `reverts` are learned from every run that the log remembers.
    """

    def __init__(self, log: TransactionLog, standing: Standing, clock: Clock, put: PutNews) -> None:
        self._log = log
        self._standing = standing
        self._clock = clock
        self._put = put
        self._lives: dict[str, Life] = {}
        self._past: set[str] = set()  # keys that only the log remembers
        self._owners: dict[str, str] = {}  # key of every version signed, by hash
        self._locks: dict[str, asyncio.Lock] = {}
        self._begun_here: set[str] = set()  # keys whose delay this process can measure
        self._told_dropped: set[str] = set()
        self._learn()

    def __iter__(self) -> Iterator[Life]:
        """Yield every transaction that is not final, or became so lately."""
        return iter(self._lives.values())

    @property
    def by_nonce(self) -> tuple[Life, ...]:
        """Every transaction that is not final, or became so lately, by nonce."""
        return tuple(sorted(self._lives.values(), key=lambda life: life.nonce))

    @property
    def pending_wei(self) -> int:
        """What everything under way can still take from the coin balance."""
        return sum(life.max_cost_wei for life in self)

    def get(self, key: str) -> Life | None:
        """Return a transaction that is not final, or became so lately."""
        return self._lives.get(key)

    def seen(self, key: str) -> Life | None:
        """Return a transaction of this run or an earlier one; the log is asked only for one it has."""
        return self._lives.get(key) or (self._log.life(key) if key in self._past else None)

    def recall(self, key: str) -> Life | None:
        """Return a transaction as memory or else the log has it, None if it was never heard of."""
        return self._lives.get(key) or self._log.life(key)

    def living(self, key: str) -> Life:
        """Return a transaction. Raises Refused if none is under way by this key."""
        life = self._lives.get(key)
        if life is None:
            raise Refused(f"expected a transaction under way, found none by the key {key}")
        return life

    def owner_of(self, tx_hash: str) -> str | None:
        """Return the key of the transaction that a version of ours is of, None for a stranger's."""
        return self._owners.get(tx_hash)

    def lock(self, life: Life) -> asyncio.Lock:
        """Return what is held while something is done about a transaction."""
        return self._locks.setdefault(life.key, asyncio.Lock())

    def at_rest(self, *, is_settled: bool) -> list[Life]:
        """Return the transactions nobody is busy with that are not over: those in a block, or all others."""
        return [
            life
            for life in self.by_nonce
            if not life.is_over and (life.receipt is not None) is is_settled and not self.lock(life).locked()
        ]

    # --- a run and the one before ------------------------------------------------------------------------------------

    def load(self, head: Block) -> None:
        """Read the log. What has a nonce but no signature was never sent and ends here."""
        self._lives = self._log.lives()
        self._owners = {one.tx_hash: life.key for life in self for one in life.attempts}
        self._learn()
        for life in self:
            if life.state is S.RESERVED:
                self.write(life, S.CANCELED, reason="never signed: the process ended before")
        self.forget(head)

    def retell_reversals(self) -> None:
        """Tell again what left the chain: the process that wrote it down may have ended before anybody heard of it."""
        for life in self.by_nonce:
            for void in life.voided:
                is_back = life.receipt is not None and life.receipt.block_hash == void.block_hash
                if not life.is_over and not is_back:
                    self.tell(life, void, f"block {void.block_number} left the chain", is_reversed=True)

    def forget(self, block: Block) -> None:
        """Forget what ended long ago; the log does not."""
        old = block.number - _MEMORY * self._standing.settings.final_blocks
        for life in [life for life in self if life.is_over and life.head_number <= old]:
            del self._lives[life.key]
            self._past.add(life.key)
            self._locks.pop(life.key, None)
            self._begun_here.discard(life.key)
            for attempt in life.attempts:
                self._owners.pop(attempt.tx_hash, None)
                self._told_dropped.discard(attempt.tx_hash)

    def note_inclusion(self, life: Life, *, is_success: bool) -> int:
        """Learn from a transaction that a block holds; return how long it took, 0 where that cannot be known."""
        if life.delay_ns or life.key not in self._begun_here:
            return life.delay_ns
        delay_ns = max(1, self._clock.now_ns() - life.reserved_ns)
        self._note(life, delay_ns, is_success=is_success)
        return delay_ns

    def _learn(self) -> None:
        """Learn from the transactions of earlier runs."""
        self.delays = InclusionDelays(self._standing.settings.block_ns / NS_PER_S)
        self.reverts = RevertShares()
        for life in self:
            settled = life.outcome if life.state is S.FINAL else life.state
            if settled in {S.MINED, S.FAILED} and life.delay_ns > 0:
                self._note(life, life.delay_ns, is_success=settled is S.MINED)

    def _note(self, life: Life, delay_ns: int, *, is_success: bool) -> None:
        self.delays.note(life.tier, delay_ns / NS_PER_S)
        self.reverts.note(life.request.instrument_id, is_success=is_success)

    # --- rows and news -----------------------------------------------------------------------------------------------

    def begin(self, request: TransactionRequest, nonce: int) -> Life:
        """Take in a transaction that is to be signed with a nonce of its own."""
        standing, gas = self._standing, request.gas
        first = Row(
            ts_ns=self._clock.now_ns(),
            key=request.key,
            instrument_id=request.instrument_id,
            state=S.RESERVED,
            nonce=nonce,
            head_number=standing.ready().number,
            max_fee_wei=gas.max_fee_wei,
            tip_wei=gas.tip_wei,
            tier=0 if standing.market is None else standing.market.tier_of(gas.tip_wei),
            request=request,
        )
        life = self._lives[request.key] = Life(first)
        self._begun_here.add(request.key)
        self._log.append(first)
        self.tell(life, None, "")
        return life

    def note_version(self, life: Life, tx_hash: str) -> None:
        """Remember whose a version is that was signed."""
        self._owners[tx_hash] = life.key

    def note_amounts(self, life: Life, receipt: Receipt, amounts: Amounts) -> None:
        """Write down what a mined transaction moved, once its logs were read."""
        self.write(life, life.state, tx_hash=receipt.tx_hash, amounts=amounts, is_news=False)

    def drop(self, life: Life, tx_hash: str) -> None:
        """Write down that no node knows a version any more, once."""
        if tx_hash not in self._told_dropped:
            self._told_dropped.add(tx_hash)
            self.write(life, S.DROPPED, tx_hash=tx_hash, reason="dropped: no node knows it any more")

    def reverse(self, life: Life, reason: str) -> None:
        """Write down that the block that settled a transaction is gone; it is on its way again."""
        void = life.receipt
        tx_hash = "" if void is None else void.tx_hash
        self.write(life, S.SENT, tx_hash=tx_hash, is_reversed=True, reason=reason, void=void)

    def say(self, life: Life, reason: str) -> None:
        """Tell why a transaction waits, once; figures that move do not make it another reason."""
        if _words(reason) != _words(life.reason):
            self.write(life, life.state, tx_hash=life.attempts[-1].tx_hash, reason=reason)

    def write(
        self,
        life: Life,
        state: TransactionState,
        *,
        tx_hash: str = "",
        raw: bytes = b"",
        is_cancel: bool = False,
        is_reversed: bool = False,
        max_fee_wei: int = 0,
        tip_wei: int = 0,
        receipt: Receipt | None = None,
        amounts: Amounts | None = None,
        block_number: int = 0,
        delay_ns: int = 0,
        reason: str = "",
        void: Receipt | None = None,
        is_news: bool = True,
    ) -> None:
        """Put a row on disk, take it in, and tell it."""
        head = self._standing.head
        row = Row(
            ts_ns=self._clock.now_ns(),
            key=life.key,
            instrument_id=life.request.instrument_id,
            state=state,
            nonce=life.nonce,
            head_number=head.number if head is not None else life.head_number,
            tx_hash=tx_hash,
            raw=raw,
            is_cancel=is_cancel,
            is_reversed=is_reversed,
            max_fee_wei=max_fee_wei,
            tip_wei=tip_wei,
            tier=life.tier,
            receipt=receipt,
            amounts=amounts,
            block_number=block_number,
            delay_ns=delay_ns,
            reason=reason,
        )
        self._log.append(row)
        life.apply(row)
        if is_news:
            self.tell(life, void if is_reversed else life.receipt, reason, is_reversed=is_reversed)

    def tell(self, life: Life, receipt: Receipt | None, reason: str, *, is_reversed: bool = False) -> None:
        """Tell how a transaction stands."""
        self._put(TransactionNews(life.key, life.request.instrument_id, life.state, receipt, reason, is_reversed))


def _words(reason: str) -> str:
    return "".join(letter for letter in reason if not letter.isdecimal() and letter not in ".e+-")
