"""Hedges on one chain: from a command to a checked transaction, and from what becomes of it to order events.

An order is one transaction under the order's id; whatever happens to the transaction happens to the order. Must never
send what its own exact quote and the chain's answer on the same block do not agree on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, Final

import msgspec
import structlog

from bot.domain.chain import GasPaid
from bot.domain.errors import EvenkeelError, Retryable
from bot.domain.events import AmendOrder, CancelOrder, Command, Event, QueryOrder, SubmitOrder
from bot.domain.orders import (
    AmendRejected,
    CancelRejected,
    Fill,
    FillReversed,
    FundingPayment,
    Liquidity,
    OrderAccepted,
    OrderCanceled,
    OrderIntent,
    OrderRejected,
    OrderSent,
    OrderState,
    OrderTruth,
    OutcomeLost,
)
from bot.domain.units import NS_PER_S
from bot.gateways.chain.endpoints import Endpoints
from bot.gateways.chain.nouns import (
    Amounts,
    Block,
    FundedProtocol,
    HedgeProtocol,
    Receipt,
    Refused,
    TransactionNews,
    TransactionRequest,
    TransactionState,
)
from bot.gateways.chain.rpc import Reverted
from bot.gateways.chain.settings import ChainSettings
from bot.gateways.chain.transactions import TransactionDesk, Truth
from bot.gateways.gateway import Clock, Put

log = structlog.get_logger()

S = TransactionState
_WEI_PER_COIN: Final = 10**18
_GONE: Final = frozenset({S.CANCELED, S.REPLACED, S.TAKEN})


class HedgeDesk:
    """Carries out commands about hedges; `take` is told everything that becomes of their transactions."""

    def __init__(
        self,
        settings: ChainSettings,
        protocols: Mapping[str, HedgeProtocol],
        endpoints: Endpoints,
        wallet: str,
        clock: Clock,
        put: Put,
    ) -> None:
        self.transactions: TransactionDesk | None = None  # set before the first command
        self.moved: dict[str, Amounts] = {}  # what every mined hedge of this run moved, by order id
        self._settings = settings
        self._protocols = protocols
        self._endpoints = endpoints
        self._wallet = wallet
        self._clock = clock
        self._put = put
        self._sections = {f"{settings.venue}:{section.name}": section for section in settings.hedges}
        self._block: Block | None = None
        self._intents: dict[str, OrderIntent] = {}
        self._told_open: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def note_block(self, block: Block) -> None:
        """Take the block that the protocols were last updated with."""
        self._block = block

    def submit(self, command: Command) -> None:
        """Start carrying out a command at once."""
        match command:
            case SubmitOrder():
                self._start(self._carry_out(command.intent))
            case CancelOrder():
                self._start(self._cancel(command))
            case QueryOrder():
                self._start(self._tell(command.order_id))
            case AmendOrder():
                now_ns = self._clock.now_ns()
                why = "expected a cancel and a new order, found an amend: a transaction is what it is"
                self._put([AmendRejected(command.order_id, why, now_ns, now_ns)])
            case _:
                log.warning("nothing to do for this on a chain", command=type(command).__name__)

    def moved_by_asset(self) -> dict[str, int]:
        """Return what every mined hedge of this run moved in the wallet, by symbol, in smallest units."""
        moved: dict[str, int] = {}
        for order_id, amounts in self.moved.items():
            section = self._sections[self._intents[order_id].instrument_id]
            if section.protocol == "perp_v2":
                continue  # its collateral lies with the exchange, and moves with nothing of the wallet's
            moved[section.quote] = moved.get(section.quote, 0) + amounts.net_quote_wei
        return moved

    async def close(self) -> None:
        """Let go of what is still being prepared; what was handed over goes on by itself."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ── from command to transaction ──────────────────────────────────────────────────────────────────────────────────

    async def _carry_out(self, intent: OrderIntent) -> None:
        now_ns = self._clock.now_ns()
        order_id = intent.order_id
        self._intents[order_id] = intent
        try:
            protocol = self._protocols[intent.instrument_id]
            request = msgspec.structs.replace(protocol.build(intent), intent=intent)
            await self._confirm(protocol, intent, request)
            await self._desk.send(request, is_reducing=intent.reduce_only)
        except Refused as error:
            now_ns = self._clock.now_ns()
            self._put([OrderRejected(order_id, str(error), now_ns, now_ns)])
        except _PriceMissed as error:
            now_ns = self._clock.now_ns()
            log.info("not sent, the price is gone", order_id=order_id, why=str(error))
            self._put(
                [
                    OrderSent(order_id, now_ns),
                    OrderCanceled(order_id, is_expired=True, ts_event_ns=now_ns, ts_recv_ns=now_ns),
                ]
            )
        except Retryable as error:  # before it was signed: afterwards the desk never lets an error out
            now_ns = self._clock.now_ns()
            truth = await self._truth(order_id)
            if truth is None or truth.state is not None:
                self._put([OutcomeLost(order_id, str(error), now_ns)])
            else:
                self._put([OrderRejected(order_id, f"not sent: {error}", now_ns, now_ns)])

    async def _confirm(self, protocol: HedgeProtocol, intent: OrderIntent, request: TransactionRequest) -> None:
        """Have the chain answer the same transaction on the same block.

        Raises Refused or _PriceMissed where it would not do what our own quote says, Retryable if nobody answers.
        """
        if self._block is None:
            raise Refused(f"{intent.order_id}: expected a block to check the trade on, found none yet")
        call = {
            "from": self._wallet,
            "to": request.to,
            "data": f"0x{request.data.hex()}",
            "value": hex(request.value_wei),
            "gas": hex(request.gas_limit),
        }
        pinned = {"blockHash": self._block.block_hash}
        try:
            answer = await self._endpoints.call("eth_call", [call, pinned])
        except Reverted as error:
            why = protocol.explain_revert(error.data)
            if protocol.is_price_miss(error.data):
                raise _PriceMissed(why) from error
            raise Refused(f"{intent.order_id}: the chain would refuse it: {why}") from error
        told = protocol.read_answer(intent, bytes.fromhex(str(answer)[2:]))
        expected = protocol.expects(intent)
        if told is not None and (told.base_wei, told.net_quote_wei) != (expected.base_wei, expected.net_quote_wei):
            raise Refused(
                f"{intent.order_id}: expected {expected.base_wei} and {expected.net_quote_wei} to move,"
                f" found {told.base_wei} and {told.net_quote_wei} on block {self._block.number}"
            )

    async def _cancel(self, command: CancelOrder) -> None:
        try:
            await self._desk.cancel(command.order_id)
        except (Refused, Retryable) as error:
            now_ns = self._clock.now_ns()
            self._put([CancelRejected(command.order_id, str(error), now_ns, now_ns)])

    # ── from transaction to order ────────────────────────────────────────────────────────────────────────────────────

    def take(self, news: TransactionNews) -> None:
        """Say what became of a transaction in the words of an order."""
        now_ns = self._clock.now_ns()
        key = news.key
        if news.is_reversed and news.receipt is not None:
            self._put(self._reversal(news, news.receipt, now_ns))
            return
        intent = self._intent_of(key)
        events: list[Event] = []
        if news.receipt is not None and news.state in (S.MINED, S.FAILED, S.CANCELED):
            events.append(self._gas(key, news.instrument_id, news.receipt, now_ns, sign=1))
        if intent is not None:
            events += self._events_of(intent, news, now_ns)
        if events:
            self._put(events)

    def _events_of(self, intent: OrderIntent, news: TransactionNews, now_ns: int) -> list[Event]:
        order_id = intent.order_id
        match news.state:
            case S.SENT if order_id not in self._told_open:
                self._told_open.add(order_id)
                return [OrderSent(order_id, now_ns), OrderAccepted(order_id, order_id, now_ns, now_ns)]
            case S.MINED if news.receipt is not None:
                return [
                    self._fill(intent, news.receipt, now_ns),
                    *self._funding(intent.instrument_id, news.receipt, now_ns, sign=1),
                ]
            case S.FAILED if news.receipt is not None:
                return [self._failure(intent, news.receipt, news.reason, now_ns)]
            case S.UNKNOWN:
                return [OutcomeLost(order_id, news.reason, now_ns)]
            case state if state in _GONE:
                log.warning("a hedge is gone", order_id=order_id, state=str(state), why=news.reason)
                return [OrderCanceled(order_id, is_expired=False, ts_event_ns=now_ns, ts_recv_ns=now_ns)]
            case _:
                return []

    def _fill(self, intent: OrderIntent, receipt: Receipt, now_ns: int) -> Fill:
        protocol = self._protocols[intent.instrument_id]
        amounts = protocol.read_receipt(intent, receipt)
        self.moved[intent.order_id] = amounts
        self._desk.note_amounts(intent.order_id, amounts)
        base_decimals, quote_decimals = protocol.amount_decimals
        base = amounts.base_wei / 10**base_decimals
        lot_base = protocol.instrument.lot_size
        lots = round(base / lot_base)
        if abs(lots * lot_base - base) > 1e-6 * lot_base:
            log.error("a fill of no whole lots", order_id=intent.order_id, base=base, lot_base=lot_base)
        return Fill(
            _trade_id(receipt),
            intent.order_id,
            intent.instrument_id,
            lots,
            abs(amounts.quote_wei) / 10**quote_decimals / abs(base),
            amounts.fee_quote_wei / 10**quote_decimals,
            Liquidity.TAKER,
            self._time_of(receipt, now_ns),
            now_ns,
        )

    def _failure(self, intent: OrderIntent, receipt: Receipt, reason: str, now_ns: int) -> Event:
        """Return what a hedge is that was mined and did nothing but cost its gas."""
        protocol = self._protocols[intent.instrument_id]
        event_ns = self._time_of(receipt, now_ns)
        if protocol.is_price_miss(receipt.revert_data):
            why = protocol.explain_revert(receipt.revert_data)
            log.info("a hedge reverted on its limit", order_id=intent.order_id, why=why)
            return OrderCanceled(intent.order_id, is_expired=True, ts_event_ns=event_ns, ts_recv_ns=now_ns)
        why = protocol.explain_revert(receipt.revert_data) if receipt.revert_data else reason
        return OrderRejected(intent.order_id, why, event_ns, now_ns)

    def _reversal(self, news: TransactionNews, void: Receipt, now_ns: int) -> list[Event]:
        """Take back what a block said that is no longer in the chain."""
        events: list[Event] = [self._gas(news.key, news.instrument_id, void, now_ns, sign=-1)]
        if void.is_success and self.moved.pop(news.key, None) is not None:
            events.insert(0, FillReversed(_trade_id(void), news.key, news.instrument_id, news.reason, now_ns, now_ns))
            events += self._funding(news.instrument_id, void, now_ns, sign=-1)
        return events

    def _funding(self, instrument_id: str, receipt: Receipt, now_ns: int, *, sign: int) -> list[Event]:
        """Return the funding that a trade settled, or what a reorg took back of it; nothing where there is none."""
        protocol = self._protocols[instrument_id]
        if not isinstance(protocol, FundedProtocol):
            return []
        paid_wei = protocol.read_funding(receipt)
        if not paid_wei:
            return []
        _, quote_decimals = protocol.amount_decimals
        trade = _trade_id(receipt)
        payment_id = trade if sign > 0 else f"{trade}-void"
        event_ns = self._time_of(receipt, now_ns)
        return [FundingPayment(payment_id, instrument_id, -sign * paid_wei / 10**quote_decimals, event_ns, now_ns)]

    def _gas(self, key: str, instrument_id: str, receipt: Receipt, now_ns: int, *, sign: int) -> GasPaid:
        coin = receipt.gas_wei / _WEI_PER_COIN
        trade = _trade_id(receipt)
        return GasPaid(
            trade if sign > 0 else f"{trade}-void",
            self._settings.venue,
            key if key in self._intents else "",
            instrument_id,
            self._settings.coin,
            sign * coin,
            sign * coin * self._desk.coin_px,
            self._time_of(receipt, now_ns),
            now_ns,
        )

    async def _tell(self, order_id: str) -> None:
        """Answer what became of an order; no answer where nobody can be asked, as the engine asks again."""
        truth = await self._truth(order_id)
        if truth is None:
            return
        now_ns = self._clock.now_ns()
        intent = self._intent_of(order_id)
        fills: tuple[Fill, ...] = ()
        funding: list[Event] = []
        state = OrderState.OPEN
        settled = truth.outcome if truth.state is S.FINAL else truth.state
        if truth.state is None:
            state = OrderState.REJECTED  # never signed: it cannot be mined
        elif settled is S.MINED and truth.receipt is not None and intent is not None:
            if not truth.receipt.logs:
                return  # what it moved is not known before its logs are
            fills, state = (self._fill(intent, truth.receipt, now_ns),), OrderState.FILLED
            funding = self._funding(intent.instrument_id, truth.receipt, now_ns, sign=1)
        elif settled is S.FAILED:
            state = OrderState.EXPIRED
        elif settled in _GONE:
            state = OrderState.CANCELED
        elif settled is S.UNKNOWN:
            return
        self._put([OrderTruth(order_id, state, fills, now_ns, now_ns, is_complete=True), *funding])

    async def _truth(self, order_id: str) -> Truth | None:
        try:
            return await self._desk.truth_of(order_id)
        except EvenkeelError as error:
            log.warning("cannot tell what became of an order yet", order_id=order_id, why=str(error))
            return None

    # ── small things ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _desk(self) -> TransactionDesk:
        assert self.transactions is not None, "the desk is set before the first command"
        return self.transactions

    def _intent_of(self, key: str) -> OrderIntent | None:
        """Return what a transaction is to do, also one that an earlier process of this run sent."""
        intent = self._intents.get(key)
        if intent is None:
            request = self._desk.request_of(key)
            if request is not None and request.intent is not None:
                intent = self._intents[key] = request.intent
        return intent

    def _time_of(self, receipt: Receipt, now_ns: int) -> int:
        block = self._block
        is_head = block is not None and block.block_hash == receipt.block_hash
        return min(block.timestamp_s * NS_PER_S, now_ns) if is_head and block is not None else now_ns

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _PriceMissed(Exception):
    """The price is gone before anything was sent."""


def _trade_id(receipt: Receipt) -> str:
    """Return an id that the same transaction has only in this block."""
    return f"{receipt.tx_hash}@{receipt.block_hash[:18]}"
