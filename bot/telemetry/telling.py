"""What is told of a vault's life, in sentences: from the events and commands of its journal to kind, text and fields.

Pure, so that the same journal tells the same for ever. Market data and periodic reports are never told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, Final, assert_never

import msgspec

from bot.domain.chain import GasPaid
from bot.domain.events import (
    AmendOrder,
    CancelForeign,
    CancelOrder,
    ConfigChanged,
    OperatorCommand,
    PlanCollateral,
    Restarted,
    SubmitOrder,
)
from bot.domain.instruments import Instrument
from bot.domain.orders import (
    AmendRejected,
    CancelRejected,
    Fill,
    FillReversed,
    FundingPayment,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderRejected,
    OrderSent,
    OrderTruth,
    OutcomeLost,
)
from bot.domain.risk import CollateralPlanned, MarginTerms, TransferCollateral, TransferUpdate
from bot.domain.venues import InstrumentDelisted, VenueStatus


class Kind(StrEnum):
    """What an event is about; `fields["what"]` says which of its moments."""

    RUN = "run"
    DECISION = "decision"
    ORDER = "order"
    FILL = "fill"
    FUNDING = "funding"
    TRANSACTION = "transaction"
    VENUE = "venue"
    TRANSFER = "transfer"
    RISK = "risk"
    COMMAND = "command"
    CONFIG = "config"


class Line(msgspec.Struct, frozen=True):
    """One event without its place in the journal."""

    kind: Kind
    order_id: str
    text: str
    fields: dict[str, Any]


FindInstrument = Callable[[str], Instrument | None]

ToldDecision = SubmitOrder | CancelOrder | AmendOrder | CancelForeign | TransferCollateral | PlanCollateral
ToldOrderWord = (
    OrderSent
    | OrderAccepted
    | OrderRejected
    | OrderCanceled
    | CancelRejected
    | OrderAmended
    | AmendRejected
    | OutcomeLost
    | OrderTruth
)
ToldMoney = Fill | FillReversed | FundingPayment | GasPaid
ToldOther = (
    VenueStatus
    | InstrumentDelisted
    | TransferUpdate
    | MarginTerms
    | CollateralPlanned
    | OperatorCommand
    | ConfigChanged
    | Restarted
)
ToldThing = ToldDecision | ToldOrderWord | ToldMoney | ToldOther

TOLD_TYPES: Final[tuple[type[msgspec.Struct], ...]] = ToldThing.__args__


def tag_pattern(types: Iterable[type[msgspec.Struct]] = TOLD_TYPES) -> re.Pattern[bytes]:
    """Return what is found, in MessagePack, where something of these types is, and hardly anywhere else.

    A tagged struct is a map whose first entry is `type` and the tag.
    """
    tags = (msgspec.msgpack.encode(kind.__struct_config__.tag) for kind in types)
    first = re.escape(msgspec.msgpack.encode("type"))  # literal, and so looked for as fast as memory is read
    return re.compile(first + b"(?:" + b"|".join(map(re.escape, tags)) + b")")


def is_tagged(pattern: re.Pattern[bytes], raw: msgspec.Raw) -> bool:
    """Tell whether one thing in MessagePack is of the types that `tag_pattern` was made of."""
    return pattern.match(raw, 1) is not None or pattern.match(raw, 3) is not None  # behind a map's one byte, or three


def tell_start(version: str, recording: str | None, config_sha256: str) -> Line:
    """Tell the beginning of a run."""
    on = f"the recording {recording}" if recording else "a live feed"
    fields = {"what": "started", "version": version, "recording": recording or "", "config_sha256": config_sha256}
    return Line(Kind.RUN, "", f"Run started on {on}, Evenkeel {version}", fields)


def tell(thing: ToldThing, instrument: FindInstrument) -> tuple[Line, ...]:
    """Tell one event or command: a line, or several where a venue's answer about an order brings its fills."""
    if isinstance(thing, ToldDecision):
        return (_decision(thing, instrument),)
    if isinstance(thing, ToldOrderWord):
        fills = thing.fills if isinstance(thing, OrderTruth) else ()
        return (_order_word(thing), *(_money(fill, instrument) for fill in fills))
    if isinstance(thing, ToldMoney):
        return (_money(thing, instrument),)
    return (_other(thing),)


# Decisions ------------------------------------------------------------------------------------------------------------


def _decision(thing: ToldDecision, find: FindInstrument) -> Line:
    fields: dict[str, Any]
    match thing:
        case SubmitOrder():
            return _submit(thing, find)
        case CancelOrder():
            fields = {"what": "cancel", "instrument_id": thing.instrument_id, "reason": thing.reason}
            return Line(Kind.DECISION, thing.order_id, f"Cancel the order: {thing.reason}", fields)
        case AmendOrder():
            limit_px = _limit_px(find(thing.instrument_id), thing.limit_ticks)
            fields = {
                "what": "amend",
                "instrument_id": thing.instrument_id,
                "limit_ticks": thing.limit_ticks,
                "limit_px": limit_px,
                "reason": thing.reason,
            }
            text = f"Move the order's limit to {_limit_text(limit_px, thing.limit_ticks)}: {thing.reason}"
            return Line(Kind.DECISION, thing.order_id, text, fields)
        case CancelForeign():
            fields = {
                "what": "cancel_foreign",
                "venue": thing.venue,
                "venue_order_id": thing.venue_order_id,
                "instrument_id": thing.instrument_id,
                "reason": thing.reason,
            }
            text = f"Cancel the order {thing.venue_order_id} at {thing.venue}, which is not ours: {thing.reason}"
            return Line(Kind.DECISION, "", text, fields)
        case TransferCollateral():
            fields = {"what": "decided", **_transfer_fields(thing), "reason": thing.reason}
            return Line(Kind.TRANSFER, "", f"Transfer {_transfer_text(thing)}: {thing.reason}", fields)
        case PlanCollateral():
            fields = {"what": "plan_asked", "plan_id": thing.plan_id, "reason": thing.reason}
            return Line(Kind.RISK, "", f"Collateral plan asked for: {thing.reason}", fields)
        case _:
            assert_never(thing)


def _submit(thing: SubmitOrder, find: FindInstrument) -> Line:
    intent = thing.intent
    instrument = find(intent.instrument_id)
    limit_px = _limit_px(instrument, intent.limit_ticks) if intent.limit_ticks else None
    fields = {
        "what": "submit",
        "instrument_id": intent.instrument_id,
        "qty_lots": intent.qty_lots,
        "qty_base": _base(instrument, intent.qty_lots, intent.reference_px),
        "limit_ticks": intent.limit_ticks,
        "limit_px": limit_px,
        "time_in_force": intent.time_in_force,
        "reduce_only": intent.reduce_only,
        "reason": intent.reason,
        "reference_px": intent.reference_px,
        "is_transaction": intent.gas is not None,
        "gas_quote": intent.gas.gas_quote if intent.gas else None,
    }
    at = f" at {_limit_text(limit_px, intent.limit_ticks)} or better" if intent.limit_ticks else " at any price"
    text = f"{_trade(intent.qty_lots, instrument, intent.reference_px)} {intent.instrument_id}{at}: {intent.reason}"
    return Line(Kind.DECISION, intent.order_id, text, fields)


# What venues say of orders --------------------------------------------------------------------------------------------


def _order_word(thing: ToldOrderWord) -> Line:  # noqa: PLR0911 — one for each word
    match thing:
        case OrderSent():
            return _word(thing.order_id, "sent", "Order sent")
        case OrderAccepted():
            what = f"Order accepted by the venue as {thing.venue_order_id}"
            return _word(thing.order_id, "accepted", what, venue_order_id=thing.venue_order_id)
        case OrderRejected():
            text = f"Order rejected by the venue: {thing.reason}"
            return _word(thing.order_id, "rejected", text, reason=thing.reason, is_crossing=thing.is_crossing)
        case OrderCanceled():
            if thing.is_expired:
                return _word(thing.order_id, "expired", "What was left of the order ended with its time in force")
            return _word(thing.order_id, "canceled", "Order canceled")
        case CancelRejected():
            text = f"Cancel refused by the venue: {thing.reason}"
            return _word(thing.order_id, "cancel_rejected", text, reason=thing.reason)
        case OrderAmended():
            text = f"Order's limit moved to {thing.limit_ticks} ticks"
            return _word(thing.order_id, "amended", text, limit_ticks=thing.limit_ticks)
        case AmendRejected():
            text = f"Move of the limit refused by the venue: {thing.reason}"
            return _word(thing.order_id, "amend_rejected", text, reason=thing.reason)
        case OutcomeLost():
            text = f"Answer lost, the order's outcome is unknown: {thing.why}"
            return _word(thing.order_id, "lost", text, reason=thing.why)
        case OrderTruth():
            fills = f", {len(thing.fills)} fills" if len(thing.fills) != 1 else ", 1 fill"
            text = f"The venue says when asked that the order is {thing.state.replace('_', ' ')}{fills}"
            fields = {"state": thing.state, "fills": len(thing.fills), "is_complete": thing.is_complete}
            return _word(thing.order_id, "asked", text, **fields)
        case _:
            assert_never(thing)


def _word(order_id: str, what: str, text: str, **fields: object) -> Line:
    return Line(Kind.ORDER, order_id, text, {"what": what, **fields})


# What money moves -----------------------------------------------------------------------------------------------------


def _money(thing: ToldMoney, find: FindInstrument) -> Line:
    fields: dict[str, Any]
    match thing:
        case Fill():
            return _fill(thing, find)
        case FillReversed():
            fields = {
                "what": "reversed",
                "trade_id": thing.trade_id,
                "instrument_id": thing.instrument_id,
                "reason": thing.reason,
            }
            text = f"Fill {thing.trade_id} of {thing.instrument_id} taken back: {thing.reason}"
            return Line(Kind.FILL, thing.order_id, text, fields)
        case FundingPayment():
            fields = {
                "what": "received" if thing.amount_settle >= 0 else "paid",
                "payment_id": thing.payment_id,
                "instrument_id": thing.instrument_id,
                "amount_settle": thing.amount_settle,
            }
            instrument = find(thing.instrument_id)
            amount = f"{abs(thing.amount_settle):.6g}{f' {instrument.settle}' if instrument else ''}"
            return Line(Kind.FUNDING, "", f"Funding {fields['what']} on {thing.instrument_id}: {amount}", fields)
        case GasPaid():
            is_reversed = thing.gas_coin < 0
            fields = {
                "what": "reversed" if is_reversed else "mined",
                "payment_id": thing.payment_id,
                "venue": thing.venue,
                "instrument_id": thing.instrument_id,
                "coin": thing.coin,
                "gas_coin": thing.gas_coin,
                "gas_quote": thing.gas_quote,
            }
            gas = f"gas {abs(thing.gas_coin):.6g} {thing.coin}, worth {abs(thing.gas_quote):,.2f}"
            text = f"Transaction on {thing.venue} left the chain with its block, {gas} taken back"
            return Line(
                Kind.TRANSACTION,
                thing.order_id,
                text if is_reversed else f"Transaction mined on {thing.venue}, {gas}",
                fields,
            )
        case _:
            assert_never(thing)


def _fill(fill: Fill, find: FindInstrument) -> Line:
    instrument = find(fill.instrument_id)
    fields = {
        "what": "filled",
        "trade_id": fill.trade_id,
        "instrument_id": fill.instrument_id,
        "qty_lots": fill.qty_lots,
        "qty_base": _base(instrument, fill.qty_lots, fill.px),
        "px": fill.px,
        "fee_settle": fill.fee_settle,
        "settle": instrument.settle if instrument else None,
        "liquidity": fill.liquidity,
        "ts_event_ns": fill.ts_event_ns,
    }
    done = "Bought" if fill.qty_lots > 0 else "Sold"
    whose = "" if fill.order_id else ", not by an order of this run"
    currency = f" {instrument.settle}" if instrument else ""
    text = (
        f"{done} {_quantity(fill.qty_lots, instrument, fill.px)} {fill.instrument_id} at {_price(fill.px)}"
        f" as {fill.liquidity}, fee {fill.fee_settle:.6g}{currency}{whose}"
    )
    return Line(Kind.FILL, fill.order_id, text, fields)


# Everything else ------------------------------------------------------------------------------------------------------


def _other(thing: ToldOther) -> Line:
    fields: dict[str, Any]
    match thing:
        case VenueStatus():
            fields = {"what": thing.health, "venue": thing.venue, "reason": thing.reason}
            return Line(Kind.VENUE, "", f"{thing.venue} is {thing.health}{_because(thing.reason)}", fields)
        case InstrumentDelisted():
            fields = {"what": "delisted", "instrument_id": thing.instrument_id, "reason": thing.reason}
            text = f"{thing.instrument_id} is not traded any more{_because(thing.reason)}"
            return Line(Kind.VENUE, "", text, fields)
        case TransferUpdate():
            fields = {"what": thing.state, **_transfer_fields(thing), "fee": thing.fee, "reason": thing.reason}
            text = f"Transfer {_transfer_text(thing)} is {thing.state}{_because(thing.reason)}"
            return Line(Kind.TRANSFER, "", text, fields)
        case MarginTerms():
            fields = {"what": "margin_terms", "venue": thing.venue}
            return Line(Kind.RISK, "", f"{thing.venue} asks for margin by other parameters from now on", fields)
        case CollateralPlanned():
            has_plan = bool(thing.text)
            fields = {
                "what": "planned" if has_plan else "no_plan",
                "plan_id": thing.plan_id,
                "method": thing.method,
                "fault": thing.fault,
            }
            text = f"Collateral planned by {thing.method}" if has_plan else "No collateral plan"
            return Line(Kind.RISK, "", text + _because(thing.fault), fields)
        case OperatorCommand():
            return _command(thing)
        case ConfigChanged():
            fields = {
                "what": "changed",
                "changes": list(thing.changes),
                "config_sha256": thing.config_sha256,
                "confirmed": list(thing.confirmed),
                "issuer": thing.issuer,
                "reason": thing.reason,
                "command_id": thing.command_id,
            }
            lines = f"{len(thing.changes)} line{'' if len(thing.changes) == 1 else 's'}"
            text = f"Configuration changed by {thing.issuer} in {lines}{_because(thing.reason)}"
            return Line(Kind.CONFIG, "", text, fields)
        case Restarted():
            text = "Daemon restarted; orders without a final answer are unknown until the venue is asked"
            return Line(Kind.RUN, "", text, {"what": "restarted"})
        case _:
            assert_never(thing)


def _command(command: OperatorCommand) -> Line:
    asked = {
        name: value
        for name in ("underlying", "target_base", "low_base", "high_base")
        if (value := getattr(command, name)) not in {None, ""}
    }
    fields = {
        "what": command.action,
        "issuer": command.issuer,
        "reason": command.reason,
        "command_id": command.command_id,
        **asked,
    }
    details = ", ".join(f"{name.removesuffix('_base')} {value}" for name, value in asked.items())
    action = command.action.replace("_", " ")
    return Line(
        Kind.COMMAND,
        "",
        f"{command.issuer} ordered {action}{f' ({details})' if details else ''}{_because(command.reason)}",
        fields,
    )


# Words ----------------------------------------------------------------------------------------------------------------


def _trade(qty_lots: int, instrument: Instrument | None, px: float) -> str:
    return f"{'Buy' if qty_lots > 0 else 'Sell'} {_quantity(qty_lots, instrument, px)}"


def _quantity(qty_lots: int, instrument: Instrument | None, px: float) -> str:
    qty_base = _base(instrument, qty_lots, px)
    if instrument is None or qty_base is None:
        return f"{abs(qty_lots):,} lots of"
    return f"{abs(qty_base):,.6g} {instrument.base} of"


def _base(instrument: Instrument | None, qty_lots: int, px: float) -> float | None:
    if instrument is None or (instrument.is_quote_sized and not px):
        return None
    return qty_lots * instrument.lot_base(px)


def _limit_px(instrument: Instrument | None, ticks: int) -> float | None:
    return round(instrument.tick_schedule.px(ticks), 10) if instrument else None


def _limit_text(limit_px: float | None, ticks: int) -> str:
    return f"{ticks:,} ticks" if limit_px is None else _price(limit_px)


def _price(px: float) -> str:
    return f"{px:,.10g}"


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _transfer_fields(thing: TransferCollateral | TransferUpdate) -> dict[str, object]:
    return {
        "transfer_id": thing.transfer_id,
        "asset": thing.asset,
        "amount": thing.amount,
        "from_venue": thing.from_venue,
        "to_venue": thing.to_venue,
        "route": thing.route,
    }


def _transfer_text(thing: TransferCollateral | TransferUpdate) -> str:
    return f"of {thing.amount:,.6g} {thing.asset} from {thing.from_venue} to {thing.to_venue} over {thing.route}"
