"""Hedges on one chain: from a command to a checked transaction, and from what becomes of it to order events.

An order is one transaction under the order's id; whatever happens to the transaction happens to the order. Must never
send what its own exact quote and the chain's answer on the same block do not agree on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Final, Never

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
from bot.gateways.chain.abi import Undecodable
from bot.gateways.chain.endpoints import Endpoints
from bot.gateways.chain.lives import Life
from bot.gateways.chain.nouns import (
    Amounts,
    Block,
    HedgeProtocol,
    Receipt,
    Refused,
    TransactionNews,
    TransactionRequest,
    TransactionState,
)
from bot.gateways.chain.rpc import Reverted, RpcError
from bot.gateways.chain.settings import ChainSettings
from bot.gateways.chain.transactions import TransactionDesk, Truth
from bot.gateways.gateway import Clock, Put

log = structlog.get_logger()

S = TransactionState
_WEI_PER_COIN: Final = 10**18
_PAID_BY_WALLET: Final = frozenset({"uniswap_v3", "aave_v3"})  # others pay from margin or from a vault
_GONE: Final = frozenset({S.CANCELED, S.REPLACED, S.TAKEN})
_IN_A_BLOCK: Final = frozenset({S.MINED, S.FAILED, S.CANCELED, S.FINAL})


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
        self.moved: dict[str, Amounts] = {}  # what mined hedges of this run moved, by order id, until they are final
        self._final_wei: dict[str, int] = {}  # … and what all final ones did, by symbol
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
        self._preparing: set[str] = set()  # orders that may be signed yet: of these nobody may say they never were
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: Exception | None = None
        self._failed = asyncio.Event()

    def note_block(self, block: Block) -> None:
        """Take the block that the protocols were last updated with."""
        self._block = block

    def submit(self, command: Command) -> None:
        """Start carrying out a command at once."""
        match command:
            case SubmitOrder():
                self._preparing.add(command.intent.order_id)
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
                log.warning("command.ignored", command=type(command).__name__)

    def moved_by_asset(self) -> dict[str, int]:
        """Return what every mined hedge of this run moved in the wallet, by symbol, in smallest units."""
        moved = dict(self._final_wei)
        for order_id, amounts in self.moved.items():
            self._count(moved, self._intents[order_id].instrument_id, amounts)
        return moved

    def _note_final(self, instrument_id: str, amounts: Amounts) -> None:
        """Count a hedge of this run that nothing takes back any more."""
        self._count(self._final_wei, instrument_id, amounts)

    def _count(self, moved: dict[str, int], instrument_id: str, amounts: Amounts) -> None:
        section = self._sections.get(instrument_id)
        if section is not None and section.protocol in _PAID_BY_WALLET:
            moved[section.quote] = moved.get(section.quote, 0) + amounts.net_quote_wei

    def recall(self, lives: Iterable[Life], run_id: str) -> None:
        """Take up from the log what hedges of this run moved while another process had the key."""
        for life in lives:
            intent, amounts = life.request.intent, life.amounts
            if intent is None or amounts is None or life.key.rpartition("-")[0] != run_id:
                continue
            if life.is_over:
                self._note_final(life.request.instrument_id, amounts)
            else:
                self.moved[life.key] = amounts
                self._intents[life.key] = intent

    async def watch(self) -> Never:
        """Raise what must end the daemon, such as a log that cannot be written; ends only so, or by cancellation."""
        await self._failed.wait()
        assert self._broken is not None
        raise self._broken

    async def close(self) -> None:
        """Let go of what is still being prepared; what was handed over goes on by itself."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ── from command to transaction ──────────────────────────────────────────────────────────────────────────────────

    async def _carry_out(self, intent: OrderIntent) -> None:
        order_id = intent.order_id
        self._intents[order_id] = intent
        try:
            await self._prepare_and_send(intent)
        finally:
            self._preparing.discard(order_id)

    async def _prepare_and_send(self, intent: OrderIntent) -> None:
        order_id = intent.order_id
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
            log.info("order.not_sent", order_id=order_id, why=str(error))
            self._put(
                [
                    OrderSent(order_id, now_ns),
                    OrderCanceled(order_id, is_expired=True, ts_event_ns=now_ns, ts_recv_ns=now_ns),
                ]
            )
        except (Retryable, RpcError) as error:  # before it was signed: afterwards the desk never lets an error out
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
        block, expected = self._block, protocol.expects(intent)  # the next block may come while we ask
        if block is None:
            raise Refused(f"{intent.order_id}: expected a block to check the trade on, found none yet")
        call = {
            "from": self._wallet,
            "to": request.to,
            "data": f"0x{request.data.hex()}",
            "value": hex(request.value_wei),
            "gas": hex(request.gas_limit),
        }
        pinned = {"blockHash": block.block_hash}
        try:
            answer = await self._endpoints.call("eth_call", [call, pinned])
        except Reverted as error:
            why = protocol.explain_revert(error.data)
            if protocol.is_price_miss(error.data):
                raise _PriceMissed(why) from error
            raise Refused(f"{intent.order_id}: the chain would refuse it: {why}") from error
        told = protocol.read_answer(intent, bytes.fromhex(str(answer)[2:]))
        if told is not None and (told.base_wei, told.net_quote_wei) != (expected.base_wei, expected.net_quote_wei):
            raise Refused(
                f"{intent.order_id}: expected {expected.base_wei} and {expected.net_quote_wei} to move,"
                f" found {told.base_wei} and {told.net_quote_wei} on block {block.number}"
            )

    async def _cancel(self, command: CancelOrder) -> None:
        try:
            await self._desk.cancel(command.order_id)
        except (Refused, Retryable, RpcError) as error:
            now_ns = self._clock.now_ns()
            self._put([CancelRejected(command.order_id, str(error), now_ns, now_ns)])

    # ── from transaction to order ────────────────────────────────────────────────────────────────────────────────────

    def take(self, news: TransactionNews) -> None:
        """Say what became of a transaction in the words of an order."""
        now_ns = self._clock.now_ns()
        intent = self._intent_of(news.key)
        if news.is_reversed:
            self._put(self._reversal(intent, news, now_ns))
            return
        events: list[Event] = []
        if news.receipt is not None and news.state in _IN_A_BLOCK:
            events.append(self._gas(news, news.receipt, now_ns))
        if intent is not None:
            events += self._events_of(intent, news, now_ns)
        if events:
            self._put(events)
        if news.state is S.FINAL:
            self._forget(news.key, news.instrument_id)

    def _events_of(self, intent: OrderIntent, news: TransactionNews, now_ns: int) -> list[Event]:
        order_id = intent.order_id
        match news.state:
            case S.SENT if order_id not in self._told_open:
                self._told_open.add(order_id)
                return [OrderSent(order_id, now_ns), OrderAccepted(order_id, order_id, now_ns, now_ns)]
            case S.MINED if news.receipt is not None:
                told = self._read_fill(intent, news.receipt, now_ns)
                if isinstance(told, str):
                    return [OutcomeLost(order_id, told, now_ns)]
                fill, amounts = told
                self.moved[order_id] = amounts
                return [fill, *self._funding(intent, news.receipt, now_ns, sign=1)]
            case S.FAILED if news.receipt is not None:
                return [self._failure(intent, news.receipt, news.reason, now_ns)]
            case S.UNKNOWN:
                return [OutcomeLost(order_id, news.reason, now_ns)]
            case S.CANCELED if news.receipt is None:  # no node ever took it
                return [OrderRejected(order_id, news.reason, now_ns, now_ns)]
            case state if state in _GONE:
                log.warning("order.gone", order_id=order_id, state=str(state), why=news.reason)
                return [OrderCanceled(order_id, is_expired=False, ts_event_ns=now_ns, ts_recv_ns=now_ns)]
            case _:
                return []

    def _read_fill(self, intent: OrderIntent, receipt: Receipt, now_ns: int) -> tuple[Fill, Amounts] | str:
        """Return what a mined hedge did, or why that cannot be told: the engine then asks for as long as it takes."""
        if not receipt.logs:
            return f"mined in block {receipt.block_number}, what it moved is not known before a node has its logs"
        protocol = self._protocols.get(intent.instrument_id)
        if protocol is None:
            return f"mined in block {receipt.block_number}, but the vault names no {intent.instrument_id} any more"
        try:
            amounts = protocol.read_receipt(intent, receipt)
        except Undecodable as error:
            log.warning("order.unreadable", order_id=intent.order_id, tx=receipt.tx_hash, why=str(error))
            return f"mined in block {receipt.block_number}, but {error}"
        return self._fill(intent, receipt, protocol, amounts, now_ns), amounts

    def _fill(
        self, intent: OrderIntent, receipt: Receipt, protocol: HedgeProtocol, amounts: Amounts, now_ns: int
    ) -> Fill:
        self._desk.note_amounts(intent.order_id, amounts)
        base_decimals, quote_decimals = protocol.amount_decimals
        base = amounts.base_wei / 10**base_decimals
        lot_base = protocol.instrument.lot_size
        lots = round(base / lot_base)
        if abs(lots * lot_base - base) > 1e-6 * lot_base:
            log.error("fill.odd", order_id=intent.order_id, base=base, lot_base=lot_base)
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

    def _funding(self, intent: OrderIntent, receipt: Receipt, now_ns: int, *, sign: int) -> list[Event]:
        """Return the funding that a trade settled, or takes back, of perpetuals."""
        if not receipt.logs:
            return []  # what left the chain is known by the log alone, which tells no funding
        protocol = self._protocols[intent.instrument_id]
        paid_wei = protocol.read_funding(receipt)
        if not paid_wei:
            return []
        amount = -sign * paid_wei / 10 ** protocol.amount_decimals[1]
        payment_id = _trade_id(receipt)  # the same however often it is told or taken back
        event_ns = self._time_of(receipt, now_ns)
        return [FundingPayment(payment_id, intent.instrument_id, amount, event_ns, now_ns)]

    def _failure(self, intent: OrderIntent, receipt: Receipt, reason: str, now_ns: int) -> Event:
        """Return what a hedge is that was mined and did nothing but cost its gas."""
        protocol = self._protocols[intent.instrument_id]
        event_ns = self._time_of(receipt, now_ns)
        if protocol.is_price_miss(receipt.revert_data):
            why = protocol.explain_revert(receipt.revert_data)
            log.info("order.reverted", order_id=intent.order_id, why=why)
            return OrderCanceled(intent.order_id, is_expired=True, ts_event_ns=event_ns, ts_recv_ns=now_ns)
        why = protocol.explain_revert(receipt.revert_data) if receipt.revert_data else reason
        return OrderRejected(intent.order_id, why, event_ns, now_ns)

    def _reversal(self, intent: OrderIntent | None, news: TransactionNews, now_ns: int) -> list[Event]:
        """Take back what a block said that is no longer in the chain; the order waits for a block again.

        What was taken back may never have been told, by a process that ended: a fill nobody booked is not undone, and
        gas is told before it is taken back.
        """
        events: list[Event] = []
        void = news.receipt
        if void is not None:
            self.moved.pop(news.key, None)
            if intent is not None and void.is_success:
                reversed_ = FillReversed(_trade_id(void), news.key, intent.instrument_id, news.reason, now_ns, now_ns)
                events.append(reversed_)
            paid = self._gas(news, void, now_ns)
            back = msgspec.structs.replace(paid, gas_coin=-paid.gas_coin, gas_quote=-paid.gas_quote)
            events += [paid, back]
            for funding in [] if intent is None else self._funding(intent, void, now_ns, sign=1):
                assert isinstance(funding, FundingPayment)
                events += [funding, msgspec.structs.replace(funding, amount_settle=-funding.amount_settle)]
        if intent is not None:
            events.append(OrderAccepted(news.key, news.key, now_ns, now_ns))
        return events

    def _gas(self, news: TransactionNews, receipt: Receipt, now_ns: int) -> GasPaid:
        """Return what a transaction cost in its block, under the same id however often it is told or taken back."""
        coin = receipt.gas_wei / _WEI_PER_COIN
        return GasPaid(
            _trade_id(receipt),
            self._settings.venue,
            news.key if news.key in self._intents else "",
            news.instrument_id,
            self._settings.coin,
            coin,
            coin * self._desk.coin_px,
            self._time_of(receipt, now_ns),
            now_ns,
        )

    async def _tell(self, order_id: str) -> None:
        """Answer what became of an order; no answer where nobody can be asked, as the engine asks again."""
        truth = await self._truth(order_id)
        if truth is None or (truth.state is None and order_id in self._preparing):  # it may be signed yet
            return
        now_ns = self._clock.now_ns()
        intent = self._intent_of(order_id)
        events: list[Event] = []
        fills: tuple[Fill, ...] = ()
        settled = truth.outcome if truth.state is S.FINAL else truth.state
        if truth.receipt is not None and intent is not None:
            news = TransactionNews(order_id, intent.instrument_id, S.FINAL, truth.receipt, truth.reason)
            events.append(self._gas(news, truth.receipt, now_ns))
        if settled is S.MINED:
            told = self._read_truth(intent, truth, now_ns)
            if told is None:
                return
            fills = (told,)
            if intent is not None and truth.receipt is not None:
                events += self._funding(intent, truth.receipt, now_ns, sign=1)
        state = _state_of(settled)
        if state is not OrderState.UNKNOWN:
            self._put([*events, OrderTruth(order_id, state, fills, now_ns, now_ns, is_complete=True)])

    def _read_truth(self, intent: OrderIntent | None, truth: Truth, now_ns: int) -> Fill | None:
        """Return what a hedge that is mined did, None while that cannot be told; count what it moved once."""
        if truth.receipt is None or intent is None:
            return None
        told = self._read_fill(intent, truth.receipt, now_ns)
        if isinstance(told, str):
            return None
        fill, amounts = told
        if truth.state is not S.FINAL:
            self.moved[intent.order_id] = amounts
        elif truth.amounts is None:  # else it is counted already
            self._note_final(intent.instrument_id, amounts)
        return fill

    async def _truth(self, order_id: str) -> Truth | None:
        try:
            return await self._desk.truth_of(order_id)
        except EvenkeelError as error:
            log.warning("order.unknown", order_id=order_id, why=str(error))
            return None

    # ── small things ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _forget(self, key: str, instrument_id: str) -> None:
        """Let go of what is final; only what it moved still counts."""
        amounts = self.moved.pop(key, None)
        if amounts is not None:
            self._note_final(instrument_id, amounts)
        self._intents.pop(key, None)
        self._told_open.discard(key)

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
        """Return a block's time, of any but the newest one by how many blocks ago it was: it was not now."""
        block = self._block
        if block is None:
            return now_ns
        ago_ns = max(0, block.number - receipt.block_number) * self._settings.block_ns
        return min(block.timestamp_s * NS_PER_S - ago_ns, now_ns)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._note_end)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._broken = self._broken or error
            self._failed.set()


class _PriceMissed(Exception):
    """The price is gone before anything was sent."""


def _state_of(settled: TransactionState | None) -> OrderState:
    """Return the state of an order whose transaction is so; None was never signed, and cannot be mined."""
    match settled:
        case None:
            return OrderState.REJECTED
        case S.MINED:
            return OrderState.FILLED
        case S.FAILED:
            return OrderState.EXPIRED
        case S.UNKNOWN:
            return OrderState.UNKNOWN
        case state if state in _GONE:
            return OrderState.CANCELED
        case _:
            return OrderState.OPEN


def _trade_id(receipt: Receipt) -> str:
    """Return an id that the same transaction has only in this block."""
    return f"{receipt.tx_hash}@{receipt.block_hash[:18]}"
