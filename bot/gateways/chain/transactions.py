"""Carries transactions of one key through their lives: signed, on disk, handed over, mined, final, whatever happens.

One key is one transaction and one nonce, for ever: what is sent again is the same raw bytes, what replaces it has the
same nonce, so at most one of its versions can be mined. Everything is on disk before it acts, so a process killed at
any point picks up where it was. That a transaction is gone is never concluded from silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec

from bot.domain.errors import InvariantBroken, Retryable, VenueFatal
from bot.domain.market import GasTier
from bot.domain.orders import GasBid
from bot.domain.units import NS_PER_S
from bot.gateways.chain.broadcasting import Broadcaster, Handed, Node, Relay
from bot.gateways.chain.fees import WEI, Bid, FeeMarket, gwei, make_tiers, replacement
from bot.gateways.chain.inclusion import InclusionDelays, RevertShares
from bot.gateways.chain.lives import Attempt, Life, Row
from bot.gateways.chain.nonces import Nonces
from bot.gateways.chain.nouns import (
    Amounts,
    Block,
    Receipt,
    Refused,
    Reorg,
    TransactionNews,
    TransactionRequest,
    TransactionState,
)
from bot.gateways.chain.rpc import RpcError
from bot.gateways.chain.settings import ChainSettings
from bot.gateways.chain.signing import Signer, Unsigned
from bot.gateways.chain.transaction_log import TransactionLog
from bot.gateways.chain.transaction_reader import TransactionReader
from bot.gateways.gateway import Clock

S = TransactionState
PutNews = Callable[[TransactionNews], None]

_PLAIN_GAS: Final = 21_000  # of a transfer, which is what cancels and fills are
_PROOFLESS_ROUNDS: Final = 3  # blocks in a row without a receipt of ours, where no history proves who used a nonce
_MEMORY: Final = 4  # times final: how long an ended transaction is remembered for a reorg that should not happen
_LOOK_BACK: Final = 8  # blocks before we began in which a nonce may have been used already, as nodes lag
_FILL: Final = "fill"
_MOST_HOLES: Final = 16  # at once: as many of ours were never signed, or a stranger's are missing


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

    Every row of the log is news: `put` is called after it is on disk. `coin_px`, the price of the chain's coin in quote
    money, is to be kept up to date from outside; 0 while it is not known.
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
        self.coin_px = 0.0
        self.trouble = ""
        self.delays = InclusionDelays(settings.block_ns / NS_PER_S)
        self.reverts = RevertShares()
        self._settings = settings
        self._fees = settings.fees
        self._signer = signer
        self._address = signer.address
        self._log = log
        self._reader = TransactionReader(node, signer.address)
        self._broadcaster = Broadcaster(node, relay)
        self._clock = clock
        self._put = put
        self._nonces = Nonces()
        self._lives: dict[str, Life] = {}
        self._past: set[str] = set()  # keys that only the log remembers
        self._owners: dict[str, str] = {}  # key of every version signed, by hash
        self._locks: dict[str, asyncio.Lock] = {}
        self._round = asyncio.Lock()
        self._head: Block | None = None
        self._market: FeeMarket | None = None
        self._balance_wei: int | None = None
        self._next_since: dict[int, int] = {}  # block since which a nonce is the next to be mined
        self._hole_since: dict[int, int] = {}
        self._count = 0  # nonces used as of the newest block
        self._begun_here: set[str] = set()  # keys whose delay this process can measure
        self._proofless: dict[str, set[int]] = {}  # in which blocks a used nonce had no receipt of ours
        self._told_dropped: set[str] = set()
        self._stranger = ""
        self._ahead: tuple[str, asyncio.Future[tuple[int, int, FeeMarket]]] | None = None
        self._too_many = ""  # holes to be filled

    # --- what is known -----------------------------------------------------------------------------------------------

    @property
    def lives(self) -> tuple[Life, ...]:
        """Every transaction that is not final, or became so lately, by nonce."""
        return tuple(sorted(self._lives.values(), key=lambda life: life.nonce))

    @property
    def market(self) -> FeeMarket | None:
        """What blocks cost as of the newest one, None before the first."""
        return self._market

    @property
    def balance_wei(self) -> int | None:
        """What the key holds of the chain's coin as of the newest block, None before it was asked."""
        return self._balance_wei

    @property
    def pending_wei(self) -> int:
        """What everything under way can still take from the coin balance."""
        return sum(life.max_cost_wei for life in self._lives.values())

    @property
    def alarm(self) -> str:
        """What a person should know of the key or its coins, "" if nothing."""
        return "; ".join(one for one in (self._stranger, self._too_many, self._gas_alarm()) if one)

    def tiers(self, gas_units: int) -> tuple[GasTier, ...]:
        """Return what a place in a block costs now and how long it takes; none while it is not known or too dear."""
        if self._market is None:
            return ()
        block_s = self._settings.block_ns / NS_PER_S
        return make_tiers(self._market, self.delays, self._fees, gas_units, self.coin_px, block_s)

    async def truth_of(self, key: str) -> Truth:
        """Return what became of a key, asking the chain where it is not over; "never heard of" is a definite answer."""
        life = self._lives.get(key)
        if life is None:
            life = self._log.life(key)
            if life is None:
                return Truth(key, None)
        elif self._head is not None and not life.is_over:
            head = self._head
            await self._guarded(lambda: self._look_at(life, head))
        receipt = life.receipt
        if receipt is not None and not receipt.logs:
            try:
                fresh = await self._reader.receipt(receipt.tx_hash)
            except (Retryable, RpcError):
                fresh = None
            if fresh is not None and fresh.block_hash == receipt.block_hash:
                receipt = msgspec.structs.replace(receipt, logs=fresh.logs)
        outcome = life.outcome if life.state is S.FINAL else None
        return Truth(key, life.state, outcome, life.is_signed, life.nonce, receipt, life.amounts, life.reason)

    def request_of(self, key: str) -> TransactionRequest | None:
        """Return what a transaction was to do, also one that is long over; None if it was never heard of."""
        life = self._lives.get(key) or self._log.life(key)
        return None if life is None else life.request

    def note_amounts(self, key: str, amounts: Amounts) -> None:
        """Write down what a mined transaction moved, once its logs were read."""
        life = self._lives.get(key)
        if life is not None and life.receipt is not None and life.amounts != amounts:
            self._write(life, life.state, tx_hash=life.receipt.tx_hash, amounts=amounts, is_news=False)

    # --- commands ----------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Read the log and ask the chain about everything in it that is not over; tells the news of each of them.

        What has a nonce but no signature was never sent and never will be. What is signed may have been sent: the same
        bytes go out again, or a cancel if its time is over. Raises Retryable if the chain cannot be asked, VenueFatal
        if it is another chain.
        """
        if await self._reader.chain_id() != self._settings.chain_id:
            raise VenueFatal(
                f"{self._settings.venue}: expected chain id {self._settings.chain_id}, found another chain"
            )
        head = await self._reader.latest()
        latest = await self._reader.count(head)
        pending = await self._reader.pending_count()
        self._head, self._count = head, latest
        self._lives = self._log.lives()
        self._owners = {one.tx_hash: life.key for life in self._lives.values() for one in life.attempts}
        self._seed()
        for life in self._lives.values():
            if life.state is S.RESERVED:
                self._write(life, S.CANCELED, reason="never signed: the process ended before")
        self._forget(head)
        self._reconcile(latest, pending)
        self._retell_reversals()
        await self._take_block(head)
        for life in self.lives:
            if not life.is_over:
                self._tell(life, await self._with_logs(life.receipt), life.reason)

    def _retell_reversals(self) -> None:
        """Tell again what left the chain: the process that wrote it down may have ended before anybody heard of it."""
        for life in self.lives:
            for void in life.voided:
                is_back = life.receipt is not None and life.receipt.block_hash == void.block_hash
                if not life.is_over and not is_back:
                    self._tell(life, void, f"block {void.block_number} left the chain", is_reversed=True)

    async def send(self, request: TransactionRequest, *, is_reducing: bool = False) -> None:
        """Sign, write down and hand over a transaction. What comes of it is news.

        The same request again does nothing. Raises Refused, with nothing done, if it must not be sent: the coin balance
        would fall below the reserve (unless it is reducing risk, which may use the reserve up), the bid is beyond the
        caps, its time is over, or the key was used for another transaction.
        """
        known = self._lives.get(request.key)
        if known is None and request.key in self._past:
            known = self._log.life(request.key)
        if known is not None:
            if known.request != request:
                raise Refused(f"expected a new key for another transaction, found {request.key} used again")
            return
        self._check(request, is_reducing=is_reducing)
        await self._begin(request)

    async def cancel(self, key: str) -> None:
        """Replace a transaction by one that does nothing; whichever of them is mined is news.

        Raises Refused if it is over, was mined, or the cancel would cost more than the caps.
        """
        life = self._living(key)
        async with self._lock(life):
            self._check_living(life)
            if not life.is_canceling:
                await self._cancel(life, "canceled on request", is_asked=True)

    async def speed_up(self, key: str) -> None:
        """Replace a transaction by the same one at higher fees, however often it was replaced; within the other caps.

        Raises Refused if it is over, was mined, or the replacement would cost more than the caps.
        """
        life = self._living(key)
        async with self._lock(life):
            self._check_living(life)
            bid = self._replacement(life, is_cancel=life.is_canceling, count=None)
            if isinstance(bid, str):
                raise Refused(f"{key}: {bid}")
            await self._sign_and_send(life, bid, is_cancel=life.is_canceling, reason=_raised(bid, "on request"))

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
            self._head = block
            await self._guarded(lambda: self._take_block(block))
        if not is_urgent_only:
            await self.look_back(block)

    async def look_back(self, block: Block) -> None:
        """See to what is mined and not final: by now it may be final, or gone by a reorg that nobody told of."""
        async with self._round:
            settled = self._lives_at_rest(is_settled=True)
            await self._guarded(lambda: self._look_at_all(settled, block, None), is_first=False)

    async def on_reorg(self, reorg: Reorg) -> None:
        """Take back what stood in blocks that are gone, and hand over the same bytes again. A block must follow."""
        gone = {block.block_hash for block in reorg.gone}
        async with self._round:
            if reorg.came:
                self._head = reorg.came[-1]
            for life in self.lives:
                if life.receipt is not None and life.receipt.block_hash in gone:
                    async with self._lock(life):
                        await self._guarded(lambda life=life: self._void(life))  # type: ignore[misc]
            await self._guarded(self._reload)

    # --- sending -----------------------------------------------------------------------------------------------------

    def _check(self, request: TransactionRequest, *, is_reducing: bool) -> None:
        """Refuse what must not be sent."""
        gas, head = request.gas, self._ready()
        if not 0 <= gas.tip_wei <= gas.max_fee_wei <= self._fees.max_fee_wei:
            raise Refused(
                f"{request.key}: expected tip ≤ fee ≤ {gwei(self._fees.max_fee_wei)} gwei,"
                f" found {gwei(gas.tip_wei)} and {gwei(gas.max_fee_wei)} gwei"
            )
        if gas.gas_quote > self._fees.max_gas_quote:
            raise Refused(
                f"{request.key}: expected gas for {self._fees.max_gas_quote:g} at most, found {gas.gas_quote:g}"
            )
        if _is_late(gas, head):
            raise Refused(f"{request.key}: its deadline is over by the chain's clock")
        if self._balance_wei is None:
            return
        left = self._balance_wei - self.pending_wei - request.value_wei - request.gas_limit * gas.max_fee_wei
        coin = self._settings.coin
        if left < 0:
            raise Refused(
                f"{request.key}: gas exhausted: expected {coin} for it and what is under way,"
                f" found {-left / WEI:.6f} {coin} too little; hint: send {coin} to {self._address}"
            )
        if left < self._fees.reserve_coin * WEI and not is_reducing:
            raise Refused(
                f"{request.key}: expected {self._fees.reserve_coin:g} {coin} left for closing what is open,"
                f" found {left / WEI:.6f}; hint: send {coin} to {self._address}"
            )

    async def _begin(self, request: TransactionRequest, nonce: int | None = None) -> None:
        """Reserve a nonce, unless it is given, and send the first version."""
        head, tip = self._ready(), request.gas.tip_wei
        first = Row(
            ts_ns=self._clock.now_ns(),
            key=request.key,
            instrument_id=request.instrument_id,
            state=S.RESERVED,
            nonce=self._nonces.reserve() if nonce is None else nonce,
            head_number=head.number,
            max_fee_wei=request.gas.max_fee_wei,
            tip_wei=tip,
            tier=0 if self._market is None else self._market.tier_of(tip),
            request=request,
        )
        life = self._lives[request.key] = Life(first)
        self._begun_here.add(request.key)
        async with self._lock(life):
            self._log.append(first)
            self._tell(life, None, "")
            await self._sign_and_send(life, Bid(request.gas.max_fee_wei, tip), is_cancel=False, reason="")

    async def _sign_and_send(self, life: Life, bid: Bid, *, is_cancel: bool, reason: str) -> None:
        """Sign a version, write its bytes down, hand it over."""
        request = life.request
        unsigned = Unsigned(
            chain_id=self._settings.chain_id,
            nonce=life.nonce,
            to=self._address if is_cancel else request.to,
            value_wei=0 if is_cancel else request.value_wei,
            data=b"" if is_cancel else request.data,
            gas_limit=_PLAIN_GAS if is_cancel else request.gas_limit,
            max_fee_wei=bid.max_fee_wei,
            tip_wei=bid.tip_wei,
        )
        try:
            signed = await self._signer.sign(unsigned)
        except (Retryable, VenueFatal) as error:
            if life.attempts:
                self._say(life, str(error))
            else:
                self._withdraw(life, str(error))
            return
        self._owners[signed.tx_hash] = life.key
        self._write(
            life,
            S.SIGNED,
            tx_hash=signed.tx_hash,
            raw=signed.raw,
            is_cancel=is_cancel,
            max_fee_wei=bid.max_fee_wei,
            tip_wei=bid.tip_wei,
            reason=reason,
        )
        await self._hand_over(life, life.attempts[-1], is_first=len(life.attempts) == 1)

    async def _hand_over(self, life: Life, attempt: Attempt, *, is_first: bool = False) -> None:
        """Hand a version's bytes over, and take in the answer."""
        answer = await self._broadcaster.hand_over(attempt.raw, self._ready().number)
        if answer.handed is Handed.ACCEPTED:
            if life.state is not S.SENT or attempt.sent_number < 0:
                reason = life.reason if attempt.sent_number < 0 else "handed over again"
                self._write(life, S.SENT, tx_hash=attempt.tx_hash, is_cancel=attempt.is_cancel, reason=reason)
            return
        if answer.handed is Handed.NONCE_LOW:
            await self._guarded(self._reload)  # the next one shall not meet the same
        if is_first and answer.handed in {Handed.NO_FUNDS, Handed.REFUSED}:
            # every node that was asked said no, and nobody else has the bytes
            what = "gas exhausted" if answer.handed is Handed.NO_FUNDS else "no node takes it"
            self._withdraw(life, f"{what}: {answer.text}")
            if answer.handed is Handed.NO_FUNDS:
                self._balance_wei = min(self._balance_wei or 0, self.pending_wei)  # until the next block tells
            return
        others = any(one is not attempt and one.sent_number >= 0 for one in life.attempts)
        if others and answer.handed is not Handed.LOST:
            self._say(life, f"{answer.handed.value}: {answer.text}")  # the version before is still there
            return
        state = S.DROPPED if answer.handed.is_surely_not_taken else S.UNKNOWN
        reason = f"{answer.handed.value}: {answer.text}"
        if life.state is not state or life.reason != reason:
            self._write(life, state, tx_hash=attempt.tx_hash, is_cancel=attempt.is_cancel, reason=reason)

    def _withdraw(self, life: Life, reason: str) -> None:
        """End a transaction that no node has, and use its nonce for the next one."""
        self._write(life, S.CANCELED, reason=reason)
        if life.nonce >= self._count:
            self._nonces.release(life.nonce)

    # --- with every block --------------------------------------------------------------------------------------------

    async def _take_block(self, block: Block) -> None:
        """Read what every block needs, then see to every transaction that is not over."""
        ahead, self._ahead = self._ahead, None
        is_asked = ahead is not None and ahead[0] == block.block_hash
        count, balance, market = await (ahead[1] if ahead is not None and is_asked else self._ask_block(block))
        self._count, self._balance_wei, self._market = count, balance, market
        self._nonces.mined(count)
        self._note_next(count, block)
        await self._look_at_all(self._lives_at_rest(is_settled=False), block, count)
        self._forget(block)
        await self._fill_holes(block, count)

    async def _ask_block(self, block: Block) -> tuple[int, int, FeeMarket]:
        return await asyncio.gather(
            self._reader.count(block),
            self._reader.balance_wei(block),
            self._reader.fee_market(block, self._fees),
        )

    async def _look_at(
        self, life: Life, block: Block, count: int | None = None, hashes: Mapping[int, str] | None = None
    ) -> None:
        """Find out what became of one transaction, and do what is to be done.

        What is known already of the block need not be asked: how many nonces it has seen, and hashes of blocks before.
        """
        async with self._lock(life):
            if life.is_over:
                return
            if life.state is S.RESERVED:
                self._withdraw(life, "never signed: it was interrupted")
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
                await self._push(life, block, is_next=used == life.nonce)

    def _lives_at_rest(self, *, is_settled: bool) -> list[Life]:
        """Return the transactions nobody is busy with that are not over: those in a block, or all others."""
        return [
            life
            for life in self.lives
            if not life.is_over and (life.receipt is not None) is is_settled and not self._lock(life).locked()
        ]

    async def _look_at_all(self, lives: Sequence[Life], block: Block, count: int | None) -> None:
        # one question per block that holds ours, however many it holds
        numbers = sorted({life.settled_number for life in lives if life.receipt is not None})
        hashes = dict(zip(numbers, await asyncio.gather(*map(self._reader.block_hash, numbers)), strict=True))
        looks = (self._look_at(life, block, count, hashes) for life in lives)
        for failure in await asyncio.gather(*looks, return_exceptions=True):
            if isinstance(failure, BaseException):
                raise failure

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
            self._reverse(life, f"block {life.receipt.block_number} left the chain")
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
            if delay_ns == 0 and life.key in self._begun_here:
                delay_ns = max(1, self._clock.now_ns() - life.reserved_ns)
                self.delays.note(life.tier, delay_ns / NS_PER_S)
                self.reverts.note(life.request.instrument_id, is_success=receipt.is_success)
        if is_cancel:
            state, reason = S.CANCELED, "the cancel was mined"
        else:
            state, reason = (S.MINED, "") if receipt.is_success else (S.FAILED, _why_failed(receipt))
        self._write(
            life,
            state,
            tx_hash=receipt.tx_hash,
            is_cancel=is_cancel,
            receipt=receipt,
            block_number=receipt.block_number,
            delay_ns=delay_ns,
            reason=reason,
        )

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
                self._write(life, S.TAKEN, block_number=block.number, reason=reason)
            return
        tx_hash, number = found
        owner = self._owners.get(tx_hash)
        if owner == life.key:
            return  # the receipt is on its way
        await self._bring_back(owner)
        what = "another wallet with this key" if owner is None else owner
        if owner is None:
            self._stranger = f"somebody else signs with the key of {self._address}: {tx_hash}"
        reason = f"nonce {life.nonce} was used by {what}: {tx_hash} in block {number}"
        self._write(life, S.TAKEN if owner is None else S.REPLACED, block_number=number, reason=reason)

    async def _bring_back(self, key: str | None) -> None:
        """Take in that one of ours was mined after all that no node would take."""
        life = self._lives.get(key or "")
        if life is not None and life.is_withdrawn:
            async with self._lock(life):
                receipt = await self._find_receipt(life)
                if receipt is not None:
                    await self._settle(life, receipt)

    async def _untake(self, life: Life, block: Block) -> None:
        """Take in that a reorg freed a nonce that was used by another: ours must not come back unasked."""
        if any(one.nonce == life.nonce and one.is_live for one in self._lives.values()):
            return  # the other one of ours is on its way again
        self._reverse(life, "a reorg freed its nonce again")
        await self._cancel(life, f"canceled: its nonce was free again in block {block.number}")

    async def _push(self, life: Life, block: Block, *, is_next: bool) -> None:
        """Get a transaction that is in no block on its way: cancel what is late, replace what is stuck, else remind."""
        newest = life.attempts[-1]
        if _is_late(life.request.gas, block) and not newest.is_cancel:
            await self._cancel(
                life, "canceled: its time is over"
            )  # where it cannot be paid it is not sent again either
            return
        since = max(newest.signed_number, self._next_since.get(life.nonce, block.number))
        is_stuck = is_next and block.number - since >= self._fees.replace_after_blocks
        if is_stuck and await self._replace(life):
            return
        if life.state is S.SENT:
            if self._broadcaster.is_private:
                if (block.number - newest.signed_number) % max(1, self._fees.replace_after_blocks):
                    return
            elif await self._reader.is_known(newest.tx_hash):
                return
            elif newest.tx_hash not in self._told_dropped:
                self._told_dropped.add(newest.tx_hash)
                self._write(life, S.DROPPED, tx_hash=newest.tx_hash, reason="dropped: no node knows it any more")
        await self._hand_over(life, newest)

    async def _replace(self, life: Life) -> bool:
        """Replace what is stuck by the same at higher fees; tell whether it was, else why not is said."""
        is_cancel = life.is_canceling
        count = sum(attempt.is_cancel == is_cancel for attempt in life.attempts) - 1
        bid = self._replacement(life, is_cancel=is_cancel, count=count)
        if isinstance(bid, str):
            self._say(life, bid)
            return False
        await self._sign_and_send(life, bid, is_cancel=is_cancel, reason=_raised(bid, "it was stuck"))
        return True

    async def _cancel(self, life: Life, reason: str, *, is_asked: bool = False) -> bool:
        """Replace a transaction by a transfer of nothing to ourselves; tell whether it could be paid for."""
        bid = self._replacement(life, is_cancel=True, count=None)
        if isinstance(bid, str):
            if is_asked:
                raise Refused(f"{life.key}: {bid}")
            self._say(life, f"cancel {bid}")
            return False
        await self._sign_and_send(life, bid, is_cancel=True, reason=reason)
        return True

    def _replacement(self, life: Life, *, is_cancel: bool, count: int | None) -> Bid | str:
        newest = life.attempts[-1]
        if self._market is None:
            return "waits: what blocks cost is not known yet"
        gas_limit = _PLAIN_GAS if is_cancel else life.request.gas_limit
        coin_px = self.coin_px if self.coin_px > 0 else None
        return replacement(Bid(newest.max_fee_wei, newest.tip_wei), self._market, self._fees, gas_limit, coin_px, count)

    # --- reorgs ------------------------------------------------------------------------------------------------------

    async def _void(self, life: Life) -> None:
        """Take back what a block held that is gone; where the new blocks do not hold it either, send it again."""
        assert life.receipt is not None
        tx_hash, is_success = life.receipt.tx_hash, life.receipt.is_success
        self._reverse(life, f"block {life.receipt.block_number} left the chain")
        attempt = life.attempt_of(tx_hash)
        if attempt is None or await self._find_receipt(life) is not None:
            return
        if not attempt.is_cancel and _is_late(life.request.gas, self._ready()):
            await self._cancel(life, "canceled: its time is over, and its block left the chain")
        elif not is_success and not attempt.is_cancel:  # what it was for was decided anew once it had failed
            await self._cancel(life, "canceled: it had failed, and its block left the chain")
        else:
            await self._hand_over(life, attempt)

    def _reverse(self, life: Life, reason: str) -> None:
        void = life.receipt
        tx_hash = "" if void is None else void.tx_hash
        self._write(life, S.SENT, tx_hash=tx_hash, is_reversed=True, reason=reason, void=void)

    async def _reload(self) -> None:
        """Count nonces anew from the chain."""
        head = self._ready()
        self._reconcile(await self._reader.count(head), await self._reader.pending_count())

    # --- nonces ------------------------------------------------------------------------------------------------------

    def _reconcile(self, latest: int, pending: int) -> None:
        # also what is mined already: the node that answers may lag
        ours = {life.nonce for life in self._lives.values() if not life.is_withdrawn}
        self._nonces.reconcile(latest, pending, ours)
        strangers = [nonce for nonce in range(latest, pending) if nonce not in ours]
        if strangers:
            self._stranger = f"somebody else signs with the key of {self._address}: nonce {strangers[0]} is in the pool"

    def _note_next(self, count: int, block: Block) -> None:
        """Remember since when the next nonce has been the next."""
        self._next_since = {count: self._next_since.get(count, block.number)}

    async def _fill_holes(self, block: Block, count: int) -> None:
        """Fill nonces that nothing of ours uses below some that are used: until then nothing above can be mined.

        One of our own is left for the next transaction for a block; one that a stranger may use, for as long as it
        takes to call a transaction stuck.
        """
        ours = {life.nonce for life in self._lives.values() if life.is_live}
        holes = [nonce for nonce in range(count, max(ours, default=count)) if nonce not in ours]
        self._too_many = ""
        if len(holes) > _MOST_HOLES:  # each one filled costs gas, and so many come of a count that was wrong
            self._too_many = (
                f"nonces {holes[0]} to {holes[-1]} would have to be filled, at most {_MOST_HOLES} are;"
                " hint: a node told a wrong count of transactions; start again, the next ones then use these"
            )
            return
        free = set(self._nonces.gaps())
        self._hole_since = {nonce: self._hole_since.get(nonce, block.number) for nonce in holes}
        for nonce in holes:
            patience = 1 if nonce in free else self._fees.replace_after_blocks
            if self._market is None or block.number - self._hole_since[nonce] < patience:
                continue
            bid = Bid(self._market.most_base_fee_wei(2) + self._market.tips_wei[-1], self._market.tips_wei[-1])
            if bid.max_fee_wei > self._fees.max_fee_wei:
                raise Retryable(f"nonce {nonce} waits to be filled: the base fee is above the cap")
            gas = GasBid(bid.max_fee_wei, bid.tip_wei, 0.0, 0)
            key = f"{_FILL}:{nonce}:{block.number}"
            if nonce in free:
                self._nonces.take(nonce)
            await self._begin(TransactionRequest(key, "", self._address, b"", 0, _PLAIN_GAS, gas), nonce)

    # --- small things ------------------------------------------------------------------------------------------------

    def _ready(self) -> Block:
        if self._head is None:
            raise InvariantBroken("expected `recover` before the first transaction, found none")
        return self._head

    def _lock(self, life: Life) -> asyncio.Lock:
        return self._locks.setdefault(life.key, asyncio.Lock())

    def _living(self, key: str) -> Life:
        life = self._lives.get(key)
        if life is None:
            raise Refused(f"expected a transaction under way, found none by the key {key}")
        return life

    def _check_living(self, life: Life) -> None:
        if not life.is_live or not life.is_signed:
            raise Refused(f"{life.key}: expected a transaction that is not mined yet, found one that is {life.state}")

    async def _guarded(self, work: Callable[[], Awaitable[None]], *, is_first: bool = True) -> None:
        """Do what asks a node; no answer is trouble that the next block gets over, and only its first questions do."""
        try:
            await work()
        except (Retryable, RpcError) as error:
            self.trouble = str(error)
        else:
            self.trouble = "" if is_first else self.trouble

    async def _with_logs(self, receipt: Receipt | None) -> Receipt | None:
        """Return a receipt read from the log with the logs that only the chain has."""
        if receipt is None or receipt.logs:
            return receipt
        fresh = await self._reader.receipt(receipt.tx_hash)
        if fresh is None or fresh.block_hash != receipt.block_hash:
            return receipt
        return msgspec.structs.replace(receipt, logs=fresh.logs)

    def _gas_alarm(self) -> str:
        if self._balance_wei is None:
            return ""
        coin, left = self._settings.coin, self._balance_wei - self.pending_wei
        if left >= self._fees.reserve_coin * WEI:
            return ""
        what = "gas exhausted" if left <= 0 else "gas reserve low"
        return (
            f"{what}: expected {self._fees.reserve_coin:g} {coin} beyond what is under way, found {left / WEI:.6f};"
            f" hint: send {coin} to {self._address}"
        )

    def _seed(self) -> None:
        """Learn from the transactions of earlier runs."""
        self.delays = InclusionDelays(self._settings.block_ns / NS_PER_S)
        self.reverts = RevertShares()
        for life in self._lives.values():
            settled = life.outcome if life.state is S.FINAL else life.state
            if settled in {S.MINED, S.FAILED} and life.delay_ns > 0:
                self.delays.note(life.tier, life.delay_ns / NS_PER_S)
                self.reverts.note(life.request.instrument_id, is_success=settled is S.MINED)

    def _forget(self, block: Block) -> None:
        """Forget what ended long ago; the log does not."""
        old = block.number - _MEMORY * self._settings.final_blocks
        for life in [life for life in self._lives.values() if life.is_over and life.head_number <= old]:
            del self._lives[life.key]
            self._past.add(life.key)
            self._locks.pop(life.key, None)
            self._begun_here.discard(life.key)
            for attempt in life.attempts:
                self._owners.pop(attempt.tx_hash, None)
                self._told_dropped.discard(attempt.tx_hash)

    def _end(self, life: Life) -> None:
        number = life.settled_number
        self._proofless.pop(life.key, None)
        self._write(life, S.FINAL, block_number=number, reason=life.reason)

    def _say(self, life: Life, reason: str) -> None:
        """Tell why a transaction waits, once; figures that move do not make it another reason."""
        if _words(reason) != _words(life.reason):
            self._write(life, life.state, tx_hash=life.attempts[-1].tx_hash, reason=reason)

    def _write(
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
        row = Row(
            ts_ns=self._clock.now_ns(),
            key=life.key,
            instrument_id=life.request.instrument_id,
            state=state,
            nonce=life.nonce,
            head_number=self._head.number if self._head is not None else life.head_number,
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
            self._tell(life, void if is_reversed else life.receipt, reason, is_reversed=is_reversed)

    def _tell(self, life: Life, receipt: Receipt | None, reason: str, *, is_reversed: bool = False) -> None:
        self._put(TransactionNews(life.key, life.request.instrument_id, life.state, receipt, reason, is_reversed))


def _is_late(gas: GasBid, block: Block) -> bool:
    """Tell whether the block after `block` comes too late; a deadline of 0 is none."""
    return 0 < gas.deadline_ns <= block.timestamp_s * NS_PER_S


def _raised(bid: Bid, why: str) -> str:
    return f"replaced at {gwei(bid.max_fee_wei)} gwei with a tip of {gwei(bid.tip_wei)}: {why}"


def _check_cost(life: Life, receipt: Receipt) -> None:
    """Raise Retryable for a receipt of more gas, or at a higher price, than was signed for: no chain takes that."""
    attempt = life.attempt_of(receipt.tx_hash)
    if attempt is None:
        return
    limit = _PLAIN_GAS if attempt.is_cancel else life.request.gas_limit
    if receipt.gas_used > limit or receipt.gas_price_wei > attempt.max_fee_wei:
        raise Retryable(
            f"{life.key}: expected at most {limit} gas at {gwei(attempt.max_fee_wei)} gwei, found a receipt of "
            f"{receipt.gas_used} at {gwei(receipt.gas_price_wei)} gwei; hint: the node that says so is wrong"
        )


def _why_failed(receipt: Receipt) -> str:
    if receipt.is_out_of_gas:
        return f"failed: out of gas, all {receipt.gas_used} burnt"
    return "failed: reverted" + (f" with 0x{receipt.revert_data.hex()[:200]}" if receipt.revert_data else "")


def _words(reason: str) -> str:
    return "".join(letter for letter in reason if not letter.isdecimal() and letter not in ".e+-")
