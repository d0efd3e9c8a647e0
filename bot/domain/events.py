"""Everything that may change the engine's state, and everything the engine may ask for."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from bot.domain.market import MarketEvent
from bot.domain.orders import OrderEvent, OrderIntent


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


class QueryOrder(msgspec.Struct, frozen=True, tag="query", gc=False):
    """Ask the venue what became of this order."""

    order_id: str
    instrument_id: str


Event = MarketEvent | OrderEvent | OperatorCommand | Restarted
Command = SubmitOrder | CancelOrder | QueryOrder
