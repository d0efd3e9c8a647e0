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


class VolQuote(msgspec.Struct, frozen=True, tag="vol_quote", gc=False, omit_defaults=True):
    """Implied vols of one option and the forward they belong to; vols as fractions, 0 where a side has no quote.

    `bid_base` and `ask_base` are the sizes shown at the best prices, in base units; 0 where not told.
    """

    instrument_id: str
    mark_vol: float
    bid_vol: float
    ask_vol: float
    forward_px: float
    ts_event_ns: int
    ts_recv_ns: int
    seq: int
    bid_base: float = 0.0
    ask_base: float = 0.0


class IndexPrice(msgspec.Struct, frozen=True, tag="index_price", gc=False, omit_defaults=True):
    """Spot index of one underlying in its quote currency; `venue` whose index it is, "" where that is not told."""

    underlying: str
    px: float
    ts_event_ns: int
    ts_recv_ns: int
    seq: int
    venue: str = ""


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


class OraclePrice(msgspec.Struct, frozen=True, tag="oracle_price", gc=False):
    """What one source says an underlying is worth in quote money; alone it moves nothing (`bot.risk.oracle_fusion`).

    `source` names it for people ("chainlink ETH/USD on base"); `confidence_px` is the half-width the source states, 0.0
    for none; `max_age_ns` is how old its word may be, which differs by source.
    """

    source: str
    underlying: str
    px: float
    confidence_px: float
    max_age_ns: int
    ts_event_ns: int
    ts_recv_ns: int
    seq: int


class GasTier(msgspec.Struct, frozen=True, gc=False):
    """One price of a place in a block: the fees, what a trade would pay in quote money, and how long it would take.

    `gas_quote` is the expected cost at today's base fee; the delays, from deciding to inclusion, are those measured.
    """

    max_fee_wei: int
    tip_wei: int
    gas_quote: float
    delay_mean_s: float
    delay_p95_s: float


class ExecutionTerms(msgspec.Struct, frozen=True, tag="execution_terms", gc=False):
    """What trading one instrument takes where a trade is a transaction in a block, as of the newest block.

    `tiers` go from cheap and slow to dear and fast, one at least. `revert_fraction` is the share of our own recent
    transactions there that failed; a failed one costs gas and fills nothing. `depth_base` is how much base moves the
    price by about 100 %: trading x moves it by the fraction 2x/depth and costs x/depth beyond the quote (L/√P of a
    pool; infinity where size does not matter). `block_ns` is the typical time between two blocks. The next block's base
    fee, the gas a trade uses and the price of the chain's coin are what `gas_quote` was made of, 0 where not told.
    """

    instrument_id: str
    tiers: tuple[GasTier, ...]
    revert_fraction: float
    depth_base: float
    block_ns: int
    ts_event_ns: int
    ts_recv_ns: int
    seq: int
    base_fee_wei: int = 0
    gas_units: int = 0
    coin_px: float = 0.0


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


MarketEvent = Quote | VolQuote | IndexPrice | FundingRate | Settlement | OraclePrice | ExecutionTerms
