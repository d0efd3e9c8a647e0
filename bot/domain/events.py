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
    FLATTEN = "flatten"
    HEDGE_NOW = "hedge_now"
    SET_TARGET = "set_target"
    SET_BAND = "set_band"


class OperatorCommand(msgspec.Struct, frozen=True, tag="operator", gc=False, omit_defaults=True):
    """An order from a person, with who and why.

    `command_id` is the sender's own, executed once ("" where a person at this machine gave none). `underlying` is whom
    it is about ("" all of the vault's). `target_base` is the net delta to keep (SET_TARGET), `low_base` and `high_base`
    the band around it (SET_BAND); None gives each back to the vault's file and its policy.
    """

    action: OperatorAction
    issuer: str
    reason: str
    ts_recv_ns: int
    command_id: str = ""
    underlying: str = ""
    target_base: float | None = None
    low_base: float | None = None
    high_base: float | None = None


class ConfigChanged(msgspec.Struct, frozen=True, tag="config_changed", gc=False):
    """The vault's file was read again: what it says now (`config_json`), and line by line what that changes.

    `confirmed` are the keys of limits that it loosens so far that a person confirmed them a second time.
    """

    config_json: str
    config_sha256: str
    changes: tuple[str, ...]
    issuer: str
    reason: str
    ts_recv_ns: int
    command_id: str = ""
    confirmed: tuple[str, ...] = ()


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


Event = MarketEvent | OrderEvent | VenueEvent | ChainEvent | RiskEvent | OperatorCommand | ConfigChanged | Restarted
OrderCommand = SubmitOrder | CancelOrder | AmendOrder | QueryOrder | CancelForeign | QueryAccount
TransferCommand = TransferCollateral | QueryTransfer
Command = OrderCommand | TransferCommand | PlanCollateral
