"""Market data: immutable events, each with the venue's time and ours."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Quote(msgspec.Struct, frozen=True, tag="quote", gc=False):
    """Best bid and ask of one instrument; sizes in base units."""

    instrument_id: str
    bid_px: float
    bid_base: float
    ask_px: float
    ask_base: float
    ts_event_ns: int
    ts_recv_ns: int
    seq: int


class VolQuote(msgspec.Struct, frozen=True, tag="vol_quote", gc=False):
    """Implied vols of one option and the forward they belong to; vols as fractions, 0 where a side has no quote."""

    instrument_id: str
    mark_vol: float
    bid_vol: float
    ask_vol: float
    forward_px: float
    ts_event_ns: int
    ts_recv_ns: int
    seq: int


class IndexPrice(msgspec.Struct, frozen=True, tag="index_price", gc=False):
    """Spot index of one underlying in its quote currency."""

    underlying: str
    px: float
    ts_event_ns: int
    ts_recv_ns: int
    seq: int


class FundingRate(msgspec.Struct, frozen=True, tag="funding_rate", gc=False):
    """Funding of a perpetual paid at `ts_event_ns`: longs pay `rate` × notional to shorts."""

    instrument_id: str
    rate: float
    ts_event_ns: int
    ts_recv_ns: int
    seq: int


class Settlement(msgspec.Struct, frozen=True, tag="settlement", gc=False):
    """Final price at which every instrument of one underlying and expiry is cash-settled."""

    underlying: str
    expiry_ns: int
    px: float
    ts_event_ns: int
    ts_recv_ns: int
    seq: int


class QuoteFault(StrEnum):
    """Why a market event was refused. It is counted and never traded on."""

    NOT_FINITE = "not_finite"
    NOT_POSITIVE = "not_positive"
    CROSSED = "crossed"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"
    STALE = "stale"
    FROM_THE_FUTURE = "from_the_future"
    JUMP = "jump"
    UNKNOWN_INSTRUMENT = "unknown_instrument"
    EXPIRED = "expired"
    EARLY_SETTLEMENT = "early_settlement"


MarketEvent = Quote | VolQuote | IndexPrice | FundingRate | Settlement
