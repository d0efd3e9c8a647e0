"""Everything that may change the engine's state, and everything the engine may ask for."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from bot.domain.chain import ChainEvent
from bot.domain.market import MarketEvent
from bot.domain.orders import OrderEvent, OrderIntent
from bot.domain.risk import RiskEvent, TransferCollateral
from bot.domain.venues import VenueEvent


class OperatorAction(StrEnum):
    """What an operator can order."""

    HALT = "halt"
    RESUME = "resume"
    PAUSE = "pause"
    REDUCE_ONLY = "reduce_only"


class OperatorCommand(msgspec.Struct, frozen=True, tag="operator", gc=False):
    """An order from a person, with who and why."""

    action: OperatorAction
    issuer: str
    reason: str
    ts_recv_ns: int


class Restarted(msgspec.Struct, frozen=True, tag="restarted", gc=False):
    """The daemon came back after a stop: every order without a final answer is UNKNOWN until the venue is asked."""

    ts_recv_ns: int


class SubmitOrder(msgspec.Struct, frozen=True, tag="submit"):
    """Send this order."""

    intent: OrderIntent


class CancelOrder(msgspec.Struct, frozen=True, tag="cancel", gc=False):
    """Cancel this order."""

    order_id: str
    instrument_id: str
    reason: str


class AmendOrder(msgspec.Struct, frozen=True, tag="amend", gc=False):
    """Move the limit of a resting order; the order keeps its id and its quantity."""

    order_id: str
    instrument_id: str
    limit_ticks: int
    reason: str


class CancelForeign(msgspec.Struct, frozen=True, tag="cancel_foreign", gc=False):
    """Cancel an order that this run did not send, by the venue's own id."""

    venue: str
    venue_order_id: str
    instrument_id: str
    reason: str


class QueryAccount(msgspec.Struct, frozen=True, tag="query_account", gc=False):
    """Ask the venue for an `AccountReport`, and for the fills since the last one that was asked for."""

    venue: str
    reason: str


class QueryOrder(msgspec.Struct, frozen=True, tag="query", gc=False):
    """Ask the venue what became of this order."""

    order_id: str
    instrument_id: str


class QueryTransfer(msgspec.Struct, frozen=True, tag="query_transfer", gc=False):
    """Ask what became of this transfer, which may have been sent before; it must not be sent now."""

    transfer: TransferCollateral
    reason: str


class PlanCollateral(msgspec.Struct, frozen=True, tag="plan_collateral", gc=False):
    """Have somebody with the time for it plan what collateral to put where; `CollateralPlanned` is the answer.

    `problem` is a collateral problem in JSON. It moves nothing, so that asking twice does no harm.
    """

    plan_id: str
    problem: str
    time_limit_s: float
    reason: str


Event = MarketEvent | OrderEvent | VenueEvent | ChainEvent | RiskEvent | OperatorCommand | Restarted
OrderCommand = SubmitOrder | CancelOrder | AmendOrder | QueryOrder | CancelForeign | QueryAccount
TransferCommand = TransferCollateral | QueryTransfer
Command = OrderCommand | TransferCommand | PlanCollateral
