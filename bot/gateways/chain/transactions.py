"""Carries transactions of one key through their lives: signed, on disk, handed over, mined, final, whatever happens.

One key is one transaction and one nonce, for ever: what is sent again is the same raw bytes, what replaces it has the
same nonce, so at most one of its versions can be mined. Everything is on disk before it acts, so a process killed at
any point picks up where it was. That a transaction is gone is never concluded from silence.

Here is what may be asked of a key and in which order things are done; `life_book` writes down and tells, `sender`
sends and replaces, `settling` finds out what became of it, `nonce_keeper` counts, `standing` knows what is affordable.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec

from bot.domain.errors import Retryable, VenueFatal
from bot.domain.market import GasTier
from bot.gateways.chain.broadcasting import Broadcaster, Node, Relay
from bot.gateways.chain.fees import FeeMarket
from bot.gateways.chain.inclusion import InclusionDelays, RevertShares
from bot.gateways.chain.life_book import LifeBook, PutNews
from bot.gateways.chain.lives import Life
from bot.gateways.chain.nonce_keeper import NonceKeeper
from bot.gateways.chain.nouns import Amounts, Block, Receipt, Refused, Reorg, TransactionRequest, TransactionState
from bot.gateways.chain.rpc import RpcError
from bot.gateways.chain.sender import Sender
from bot.gateways.chain.settings import ChainSettings
from bot.gateways.chain.settling import Settling
from bot.gateways.chain.signing import Signer
from bot.gateways.chain.standing import Standing
from bot.gateways.chain.transaction_log import TransactionLog
from bot.gateways.chain.transaction_reader import TransactionReader
from bot.gateways.gateway import Clock

S = TransactionState


class Truth(msgspec.Struct, frozen=True):
    """What is known of a key: `state` is None if it was never heard of. `outcome` is what a FINAL one ended as.

    Only what `is_signed` can ever be mined. `receipt` has its logs if a node could be asked.
    """

    key: str
    state: TransactionState | None
    outcome: TransactionState | None = None
    is_signed: bool = False
    nonce: int = -1
    receipt: Receipt | None = None
    amounts: Amounts | None = None
    reason: str = ""

    @property
    def is_over(self) -> bool:
        """Tell whether it can be relied on that nothing more happens."""
        return self.state is None or self.state is S.FINAL or (self.state is S.CANCELED and self.receipt is None)


class TransactionDesk:
    """The one owner of a key on a chain. `recover` first; then `send` at any time, and every block and reorg.

    Every row of the log is news: `put` is called after it is on disk.
    """

    def __init__(
        self,
        settings: ChainSettings,
        signer: Signer,
        log: TransactionLog,
        node: Node,
        clock: Clock,
        put: PutNews,
        relay: Relay | None = None,
    ) -> None:
        self._standing = Standing(settings, signer.address)
        self._reader = TransactionReader(node, signer.address)
        self._book = LifeBook(log, self._standing, clock, put)
        self._nonces = NonceKeeper(self._standing, self._reader, self._book)
        broadcaster = Broadcaster(node, relay)
        self._sender = Sender(self._standing, signer, broadcaster, self._reader, self._book, self._nonces)
        self._settling = Settling(self._standing, self._reader, self._book, self._nonces, self._sender)
        self._round = asyncio.Lock()
        self._ahead: tuple[str, asyncio.Future[tuple[int, int, FeeMarket]]] | None = None

    # --- what is known -----------------------------------------------------------------------------------------------

    @property
    def lives(self) -> tuple[Life, ...]:
        """Every transaction that is not final, or became so lately, by nonce."""
        return self._book.by_nonce

    @property
    def delays(self) -> InclusionDelays:
        """How long our transactions take into a block."""
        return self._book.delays

    @property
    def reverts(self) -> RevertShares:
        """How many of them fail there."""
        return self._book.reverts

    @property
    def market(self) -> FeeMarket | None:
        """What blocks cost as of the newest one, None before the first."""
        return self._standing.market

    @property
    def balance_wei(self) -> int | None:
        """What the key holds of the chain's coin as of the newest block, None before it was asked."""
        return self._standing.balance_wei

    @property
    def pending_wei(self) -> int:
        """What everything under way can still take from the coin balance."""
        return self._book.pending_wei

    @property
    def coin_px(self) -> float:
        """The price of the chain's coin in quote money, kept up to date from outside; 0 while it is not known."""
        return self._standing.coin_px

    @coin_px.setter
    def coin_px(self, px: float) -> None:
        """Take in the newest price."""
        self._standing.coin_px = px

    @property
    def trouble(self) -> str:
        """What could not be asked, "" if nothing."""
        return self._standing.trouble

    @property
    def alarm(self) -> str:
        """What a person should know of the key or its coins, "" if nothing."""
        return "; ".join(one for one in (self._nonces.alarm, self._standing.gas_alarm(self.pending_wei)) if one)

    def tiers(self, gas_units: int) -> tuple[GasTier, ...]:
        """Return what a place in a block costs now and how long it takes; none while it is not known or too dear."""
        return self._standing.tiers(gas_units, self.delays)

    async def truth_of(self, key: str) -> Truth:
        """Return what became of a key, asking the chain where it is not over; "never heard of" is a definite answer."""
        life, head = self._book.get(key), self._standing.head
        if life is None:
            life = self._book.recall(key)
            if life is None:
                return Truth(key, None)
        elif head is not None and not life.is_over:
            await self._standing.guarded(lambda: self._settling.look_at(life, head))
        receipt = life.receipt
        with suppress(Retryable, RpcError):
            receipt = await self._with_logs(receipt)
        outcome = life.outcome if life.state is S.FINAL else None
        return Truth(key, life.state, outcome, life.is_signed, life.nonce, receipt, life.amounts, life.reason)

    def request_of(self, key: str) -> TransactionRequest | None:
        """Return what a transaction was to do, also one that is long over; None if it was never heard of."""
        life = self._book.recall(key)
        return None if life is None else life.request

    def note_amounts(self, key: str, amounts: Amounts) -> None:
        """Write down what a mined transaction moved, once its logs were read."""
        life = self._book.get(key)
        if life is not None and life.receipt is not None and life.amounts != amounts:
            self._book.note_amounts(life, life.receipt, amounts)

    # --- commands ----------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Read the log and ask the chain about everything in it that is not over; tells the news of each of them.

        What was mined may be gone since: nothing is told as it was before that is known.

        What has a nonce but no signature was never sent and never will be. What is signed may have been sent: the same
        bytes go out again, or a cancel if its time is over. Raises Retryable if the chain cannot be asked, VenueFatal
        if it is another chain.
        """
        settings = self._standing.settings
        if await self._reader.chain_id() != settings.chain_id:
            raise VenueFatal(f"{settings.venue}: expected chain id {settings.chain_id}, found another chain")
        head = await self._reader.latest()
        latest = await self._reader.count(head)
        pending = await self._reader.pending_count()
        self._standing.head, self._standing.count = head, latest
        self._book.load(head)
        self._nonces.reconcile(latest, pending)
        self._book.retell_reversals()
        await self._take_block(head)
        await self._settling.take_back(self._book.at_rest(is_settled=True), head)
        for life in self.lives:
            if not life.is_over:
                self._book.tell(life, await self._with_logs(life.receipt), life.reason)

    async def send(self, request: TransactionRequest, *, is_reducing: bool = False) -> None:
        """Sign, write down and hand over a transaction. What comes of it is news.

        The same request again does nothing. Raises Refused, with nothing done, if it must not be sent: the coin balance
        would fall below the reserve (unless it is reducing risk, which may use the reserve up), the bid is beyond the
        caps, its time is over, or the key was used for another transaction.
        """
        known = self._book.seen(request.key)
        if known is not None:
            if known.request != request:
                raise Refused(f"expected a new key for another transaction, found {request.key} used again")
            return
        self._standing.check(request, self.pending_wei, is_reducing=is_reducing)
        await self._sender.begin(request)

    async def cancel(self, key: str) -> None:
        """Replace a transaction by one that does nothing; whichever of them is mined is news.

        Raises Refused if it is over, was mined, or the cancel would cost more than the caps.
        """
        life = self._book.living(key)
        async with self._book.lock(life):
            _check_living(life)
            if not life.is_canceling:
                await self._sender.cancel(life, "canceled on request", is_asked=True)

    async def speed_up(self, key: str) -> None:
        """Replace a transaction by the same one at higher fees, however often it was replaced; within the other caps.

        Raises Refused if it is over, was mined, or the replacement would cost more than the caps.
        """
        life = self._book.living(key)
        async with self._book.lock(life):
            _check_living(life)
            await self._sender.speed_up(life)

    # --- with every block --------------------------------------------------------------------------------------------

    def look_ahead(self, block: Block) -> None:
        """Begin to ask what `on_block` of this block will need, so that it waits for less; may be left out."""
        asked = asyncio.ensure_future(self._ask_block(block))
        asked.add_done_callback(lambda done: done.cancelled() or done.exception())  # told to whoever awaits it
        if self._ahead is not None:
            self._ahead[1].cancel()
        self._ahead = (block.block_hash, asked)

    async def on_block(self, block: Block, *, is_urgent_only: bool = False) -> None:
        """See to everything that is not final, as of a new block. What cannot be asked now is asked at the next.

        `is_urgent_only` leaves what is mined, and may only be found gone, to `look_back`. `trouble` says what could not
        be asked. Raises JournalError if the log cannot be written any more.
        """
        async with self._round:
            self._standing.head = block
            await self._standing.guarded(lambda: self._take_block(block))
        if not is_urgent_only:
            await self.look_back(block)

    async def look_back(self, block: Block) -> None:
        """See to what is mined and not final: by now it may be final, or gone by a reorg that nobody told of."""
        async with self._round:
            settled = self._book.at_rest(is_settled=True)
            await self._standing.guarded(lambda: self._settling.look_at_all(settled, block, None), is_first=False)

    async def on_reorg(self, reorg: Reorg) -> None:
        """Take back what stood in blocks that are gone, and hand over the same bytes again. A block must follow."""
        gone = {block.block_hash for block in reorg.gone}
        async with self._round:
            if reorg.came:
                self._standing.head = reorg.came[-1]
            for life in self.lives:
                if life.receipt is not None and life.receipt.block_hash in gone:
                    await self._standing.guarded(lambda life=life: self._settling.void(life))  # type: ignore[misc]
            await self._standing.guarded(self._nonces.reload)

    async def _take_block(self, block: Block) -> None:
        """Read what every block needs, then see to every transaction that is not over."""
        ahead, self._ahead = self._ahead, None
        is_asked = ahead is not None and ahead[0] == block.block_hash
        count, balance_wei, market = await (ahead[1] if ahead is not None and is_asked else self._ask_block(block))
        standing = self._standing
        standing.count, standing.balance_wei, standing.market = count, balance_wei, market
        self._nonces.take_block(block, count)
        await self._settling.look_at_all(self._book.at_rest(is_settled=False), block, count)
        self._book.forget(block)
        for nonce, request in self._nonces.fillings(block, count):
            await self._sender.begin(request, nonce)

    async def _ask_block(self, block: Block) -> tuple[int, int, FeeMarket]:
        return await asyncio.gather(
            self._reader.count(block),
            self._reader.balance_wei(block),
            self._reader.fee_market(block, self._standing.fees),
        )

    async def _with_logs(self, receipt: Receipt | None) -> Receipt | None:
        """Return a receipt read from the log with the logs that only the chain has."""
        if receipt is None or receipt.logs:
            return receipt
        fresh = await self._reader.receipt(receipt.tx_hash)
        if fresh is None or fresh.block_hash != receipt.block_hash:
            return receipt
        return msgspec.structs.replace(receipt, logs=fresh.logs)


def _check_living(life: Life) -> None:
    if not life.is_live or not life.is_signed:
        raise Refused(f"{life.key}: expected a transaction that is not mined yet, found one that is {life.state}")
