"""What venues say about themselves and about our account there, beyond single orders."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from bot.domain.instruments import Instrument
from bot.domain.risk import ReportedMargin


class VenueHealth(StrEnum):
    """UP can be traded on; DOWN may come back by itself; FATAL waits for a person (authentication, clock skew)."""

    UP = "up"
    DOWN = "down"
    FATAL = "fatal"


class VenueStatus(msgspec.Struct, frozen=True, tag="venue_status", gc=False):
    """How a venue is from now on, as the gateway judges it; `reason` says why, for people."""

    venue: str
    health: VenueHealth
    reason: str
    ts_recv_ns: int


class InstrumentListed(msgspec.Struct, frozen=True, tag="instrument_listed"):
    """A venue lists an instrument that was not known before."""

    instrument: Instrument
    ts_recv_ns: int


class InstrumentDelisted(msgspec.Struct, frozen=True, tag="instrument_delisted", gc=False):
    """A venue no longer lists an instrument, or its contract is no longer what it was: nothing is traded on it."""

    instrument_id: str
    reason: str
    ts_recv_ns: int


class VenuePosition(msgspec.Struct, frozen=True, gc=False):
    """A position as the venue has it: signed lots (for options too) and its average entry price, 0.0 if not told."""

    instrument_id: str
    qty_lots: int
    entry_px: float


class VenueOrder(msgspec.Struct, frozen=True, gc=False):
    """An open order as the venue has it; `order_id` is ours, or "" where it is not. Signed lots still to be filled."""

    venue_order_id: str
    order_id: str
    instrument_id: str
    left_lots: int
    limit_px: float


class AccountReport(msgspec.Struct, frozen=True, tag="account_report", omit_defaults=True):
    """The whole of our account at one venue: what is not in it is flat, or not open.

    It was true at some moment between `ts_asked_ns` and `ts_recv_ns`. `balances` is currency → equity in it,
    `margins` what the venue says of margin, empty where it does not.
    """

    venue: str
    positions: tuple[VenuePosition, ...]
    open_orders: tuple[VenueOrder, ...]
    balances: dict[str, float]
    ts_asked_ns: int
    ts_recv_ns: int
    margins: tuple[ReportedMargin, ...] = ()


class BookHolding(msgspec.Struct, frozen=True, gc=False):
    """One holding of a book to be hedged, in signed base units."""

    instrument_id: str
    qty_base: float


class BookReport(msgspec.Struct, frozen=True, tag="book_report"):
    """All that one source of the book holds now, a file of OTC trades for example; it replaces what it said before."""

    source: str
    holdings: tuple[BookHolding, ...]
    ts_recv_ns: int


VenueEvent = VenueStatus | InstrumentListed | InstrumentDelisted | AccountReport | BookReport
