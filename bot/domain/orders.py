"""Orders: intents, their states, and what a venue says about them.

An order's outcome is never guessed: after anything ambiguous its state is UNKNOWN, and only the venue's word leaves it.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class TimeInForce(StrEnum):
    """IOC fills what it can at once; POST_ONLY only rests; GTC may do both; MARKET is IOC without a limit."""

    IOC = "ioc"
    POST_ONLY = "post_only"
    GTC = "gtc"
    MARKET = "market"


class Liquidity(StrEnum):
    """Which side of a fill we were."""

    MAKER = "maker"
    TAKER = "taker"


class OrderState(StrEnum):
    """Life of an order; `bot.engine.orders` holds the allowed transitions."""

    INTENDED = "intended"
    DENIED = "denied"
    SENT = "sent"
    OPEN = "open"
    PARTLY_FILLED = "partly_filled"
    CANCELING = "canceling"
    FILLED = "filled"
    REJECTED = "rejected"
    CANCELED = "canceled"
    EXPIRED = "expired"
    UNKNOWN = "unknown"

    @property
    def is_terminal(self) -> bool:
        """Tell whether nothing more can happen to the order."""
        return self in _TERMINAL


_TERMINAL = frozenset(
    {OrderState.DENIED, OrderState.FILLED, OrderState.REJECTED, OrderState.CANCELED, OrderState.EXPIRED}
)


class GasBid(msgspec.Struct, frozen=True, gc=False):
    """What a transaction may pay for its place in a block (EIP-1559), and the chain's time after which it is void.

    A gas unit costs at most `max_fee_wei`, of which `tip_wei` goes to whoever builds the block; `gas_quote` is what the
    whole transaction is expected to cost in quote money.
    """

    max_fee_wei: int
    tip_wei: int
    gas_quote: float
    deadline_ns: int


class OrderIntent(msgspec.Struct, frozen=True, tag="order_intent", gc=False, omit_defaults=True):
    """An approved wish to trade: signed lots (buy > 0), a limit in ticks (0 for MARKET), and why.

    `gas` is set where the order is a transaction on a chain.
    """

    order_id: str
    instrument_id: str
    qty_lots: int
    limit_ticks: int
    time_in_force: TimeInForce
    reduce_only: bool
    reason: str
    reference_px: float
    decided_ns: int
    gas: GasBid | None = None


class OrderSent(msgspec.Struct, frozen=True, tag="order_sent", gc=False):
    """The gateway handed the order to the venue; no answer yet."""

    order_id: str
    ts_recv_ns: int


class OrderAccepted(msgspec.Struct, frozen=True, tag="order_accepted", gc=False):
    """The venue has the order."""

    order_id: str
    venue_order_id: str
    ts_event_ns: int
    ts_recv_ns: int


class OrderRejected(msgspec.Struct, frozen=True, tag="order_rejected", gc=False):
    """A definitive no from the venue; `is_crossing` if a post-only order would have traded at once, nothing worse."""

    order_id: str
    reason: str
    ts_event_ns: int
    ts_recv_ns: int
    is_crossing: bool = False


class OrderCanceled(msgspec.Struct, frozen=True, tag="order_canceled", gc=False):
    """The rest of the order is gone: canceled on request, or (`is_expired`) ended by its time in force."""

    order_id: str
    is_expired: bool
    ts_event_ns: int
    ts_recv_ns: int


class CancelRejected(msgspec.Struct, frozen=True, tag="cancel_rejected", gc=False):
    """The venue refused a cancel; the order is as it was."""

    order_id: str
    reason: str
    ts_event_ns: int
    ts_recv_ns: int


class OrderAmended(msgspec.Struct, frozen=True, tag="order_amended", gc=False):
    """The venue moved the order's limit; its quantity is as it was."""

    order_id: str
    limit_ticks: int
    ts_event_ns: int
    ts_recv_ns: int


class AmendRejected(msgspec.Struct, frozen=True, tag="amend_rejected", gc=False):
    """The venue refused to move the limit; the order is as it was, unless it is over."""

    order_id: str
    reason: str
    ts_event_ns: int
    ts_recv_ns: int


class Fill(msgspec.Struct, frozen=True, tag="fill", gc=False):
    """One trade of ours: signed lots, price, and the fee in settlement currency (positive = paid).

    `order_id` is "" for a fill of an order this run did not send.
    """

    trade_id: str
    order_id: str
    instrument_id: str
    qty_lots: int
    px: float
    fee_settle: float
    liquidity: Liquidity
    ts_event_ns: int
    ts_recv_ns: int


class FillReversed(msgspec.Struct, frozen=True, tag="fill_reversed", gc=False):
    """A fill that is no more: its block left the chain. Its order may be filled again, under another trade id.

    `trade_id` and `instrument_id` are those of the `Fill`; one that was never booked is not undone.
    """

    trade_id: str
    order_id: str
    instrument_id: str
    reason: str
    ts_event_ns: int
    ts_recv_ns: int


class OutcomeLost(msgspec.Struct, frozen=True, tag="outcome_lost", gc=False):
    """The answer to an order never came or could not be read: the order is now UNKNOWN."""

    order_id: str
    why: str
    ts_recv_ns: int


class OrderTruth(msgspec.Struct, frozen=True, tag="order_truth"):
    """The venue's answer to a query by client order id; `state` REJECTED with no fills means it never had the order.

    `fills` holds every fill of the order, also those already reported; they are deduplicated by trade id.
    `is_complete` says that the venue's own count of what was filled agrees with them: an order that is FILLED with less
    than was ordered was then made smaller by the venue, as a reduce-only order is when the position shrank.
    """

    order_id: str
    state: OrderState
    fills: tuple[Fill, ...]
    ts_event_ns: int
    ts_recv_ns: int
    is_complete: bool = False


class FundingPayment(msgspec.Struct, frozen=True, tag="funding_payment", gc=False):
    """Funding booked on our position, in settlement currency (positive = received)."""

    payment_id: str
    instrument_id: str
    amount_settle: float
    ts_event_ns: int
    ts_recv_ns: int


OrderEvent = (
    OrderSent
    | OrderAccepted
    | OrderRejected
    | OrderCanceled
    | CancelRejected
    | OrderAmended
    | AmendRejected
    | Fill
    | FillReversed
    | OutcomeLost
    | OrderTruth
    | FundingPayment
)
