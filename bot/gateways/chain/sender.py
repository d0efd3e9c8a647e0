"""Signs the versions of a transaction and hands them over: the first, the same again, a dearer one, a cancel.

What is sent again is the same raw bytes, what replaces it has the same nonce, so at most one version can be mined. A
version is on disk before anybody else has its bytes.
"""

from __future__ import annotations

from bot.domain.errors import Retryable, VenueFatal
from bot.gateways.chain.broadcasting import Broadcaster, Handed
from bot.gateways.chain.fees import PLAIN_GAS, Bid, gwei, replacement
from bot.gateways.chain.life_book import LifeBook
from bot.gateways.chain.lives import Attempt, Life
from bot.gateways.chain.nonce_keeper import NonceKeeper
from bot.gateways.chain.nouns import Block, Refused, TransactionRequest, TransactionState
from bot.gateways.chain.signing import Signer, Unsigned
from bot.gateways.chain.standing import Standing, is_late
from bot.gateways.chain.transaction_reader import TransactionReader

S = TransactionState


class Sender:
    """Gets the transactions of one key on their way. Whoever calls holds the lock of the life, but for `begin`."""

    def __init__(
        self,
        standing: Standing,
        signer: Signer,
        broadcaster: Broadcaster,
        reader: TransactionReader,
        book: LifeBook,
        nonces: NonceKeeper,
    ) -> None:
        self._standing = standing
        self._signer = signer
        self._broadcaster = broadcaster
        self._reader = reader
        self._book = book
        self._nonces = nonces

    async def begin(self, request: TransactionRequest, nonce: int | None = None) -> None:
        """Reserve a nonce, unless it is given, and send the first version."""
        life = self._book.begin(request, self._nonces.reserve() if nonce is None else nonce)
        async with self._book.lock(life):
            bid = Bid(request.gas.max_fee_wei, request.gas.tip_wei)
            await self._sign_and_send(life, bid, is_cancel=False, reason="")

    async def push(self, life: Life, block: Block, *, is_next: bool) -> None:
        """Get a transaction that is in no block on its way: cancel what is late, replace what is stuck, else remind."""
        newest, patience = life.attempts[-1], self._standing.fees.replace_after_blocks
        if is_late(life.request.gas, block) and not newest.is_cancel:
            # where that cannot be paid it is not sent again either
            await self.cancel(life, "canceled: its time is over")
            return
        since = max(newest.signed_number, self._nonces.next_since(life.nonce, block))
        is_stuck = is_next and block.number - since >= patience
        if is_stuck and await self._replace(life):
            return
        if life.state is S.SENT:
            if self._broadcaster.is_private:
                if (block.number - newest.signed_number) % max(1, patience):
                    return
            elif await self._reader.is_known(newest.tx_hash):
                return
            else:
                self._book.drop(life, newest.tx_hash)
        await self.hand_over(life, newest)

    async def hand_over(self, life: Life, attempt: Attempt, *, is_first: bool = False) -> None:
        """Hand a version's bytes over, and take in the answer."""
        answer = await self._broadcaster.hand_over(attempt.raw, self._standing.ready().number)
        if answer.handed is Handed.ACCEPTED:
            if life.state is not S.SENT or attempt.sent_number < 0:
                reason = life.reason if attempt.sent_number < 0 else "handed over again"
                self._book.write(life, S.SENT, tx_hash=attempt.tx_hash, is_cancel=attempt.is_cancel, reason=reason)
            return
        if answer.handed is Handed.NONCE_LOW:
            await self._standing.guarded(self._nonces.reload)  # the next one shall not meet the same
        if is_first and answer.handed in {Handed.NO_FUNDS, Handed.REFUSED}:
            # every node that was asked said no, and nobody else has the bytes
            what = "gas exhausted" if answer.handed is Handed.NO_FUNDS else "no node takes it"
            self.withdraw(life, f"{what}: {answer.text}")
            if answer.handed is Handed.NO_FUNDS:  # until the next block tells
                self._standing.balance_wei = min(self._standing.balance_wei or 0, self._book.pending_wei)
            return
        others = any(one is not attempt and one.sent_number >= 0 for one in life.attempts)
        if others and answer.handed is not Handed.LOST:
            self._book.say(life, f"{answer.handed.value}: {answer.text}")  # the version before is still there
            return
        state = S.DROPPED if answer.handed.is_surely_not_taken else S.UNKNOWN
        reason = f"{answer.handed.value}: {answer.text}"
        if life.state is not state or life.reason != reason:
            self._book.write(life, state, tx_hash=attempt.tx_hash, is_cancel=attempt.is_cancel, reason=reason)

    def withdraw(self, life: Life, reason: str) -> None:
        """End a transaction that no node has, and use its nonce for the next one."""
        self._book.write(life, S.CANCELED, reason=reason)
        self._nonces.release(life)

    async def cancel(self, life: Life, reason: str, *, is_asked: bool = False) -> None:
        """Replace a transaction by a transfer of nothing to ourselves, or say why not; Refused if that was asked."""
        bid = self._replacement(life, is_cancel=True, count=None)
        if not isinstance(bid, str):
            await self._sign_and_send(life, bid, is_cancel=True, reason=reason)
        elif is_asked:
            raise Refused(f"{life.key}: {bid}")
        else:
            self._book.say(life, f"cancel {bid}")

    async def speed_up(self, life: Life) -> None:
        """Replace a transaction by the same one at higher fees, however often it was; Refused beyond the caps."""
        bid = self._replacement(life, is_cancel=life.is_canceling, count=None)
        if isinstance(bid, str):
            raise Refused(f"{life.key}: {bid}")
        await self._sign_and_send(life, bid, is_cancel=life.is_canceling, reason=_raised(bid, "on request"))

    async def _replace(self, life: Life) -> bool:
        """Replace what is stuck by the same at higher fees; tell whether it was, else why not is said."""
        is_cancel = life.is_canceling
        count = sum(attempt.is_cancel == is_cancel for attempt in life.attempts) - 1
        bid = self._replacement(life, is_cancel=is_cancel, count=count)
        if isinstance(bid, str):
            self._book.say(life, bid)
            return False
        await self._sign_and_send(life, bid, is_cancel=is_cancel, reason=_raised(bid, "it was stuck"))
        return True

    def _replacement(self, life: Life, *, is_cancel: bool, count: int | None) -> Bid | str:
        newest, standing = life.attempts[-1], self._standing
        if standing.market is None:
            return "waits: what blocks cost is not known yet"
        gas_limit = PLAIN_GAS if is_cancel else life.request.gas_limit
        coin_px = standing.coin_px if standing.coin_px > 0 else None
        bid = Bid(newest.max_fee_wei, newest.tip_wei)
        return replacement(bid, standing.market, standing.fees, gas_limit, coin_px, count)

    async def _sign_and_send(self, life: Life, bid: Bid, *, is_cancel: bool, reason: str) -> None:
        """Sign a version, write its bytes down, hand it over."""
        request = life.request
        unsigned = Unsigned(
            chain_id=self._standing.settings.chain_id,
            nonce=life.nonce,
            to=self._standing.address if is_cancel else request.to,
            value_wei=0 if is_cancel else request.value_wei,
            data=b"" if is_cancel else request.data,
            gas_limit=PLAIN_GAS if is_cancel else request.gas_limit,
            max_fee_wei=bid.max_fee_wei,
            tip_wei=bid.tip_wei,
        )
        try:
            signed = await self._signer.sign(unsigned)
        except (Retryable, VenueFatal) as error:
            if life.attempts:
                self._book.say(life, str(error))
            else:
                self.withdraw(life, str(error))
            return
        self._book.note_version(life, signed.tx_hash)
        self._book.write(
            life,
            S.SIGNED,
            tx_hash=signed.tx_hash,
            raw=signed.raw,
            is_cancel=is_cancel,
            max_fee_wei=bid.max_fee_wei,
            tip_wei=bid.tip_wei,
            reason=reason,
        )
        await self.hand_over(life, life.attempts[-1], is_first=len(life.attempts) == 1)


def _raised(bid: Bid, why: str) -> str:
    return f"replaced at {gwei(bid.max_fee_wei)} gwei with a tip of {gwei(bid.tip_wei)}: {why}"
