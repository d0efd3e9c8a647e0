"""What a chain says about what we hold there, and what our transactions cost."""

from __future__ import annotations

import msgspec


class LpPosition(msgspec.Struct, frozen=True, gc=False):
    """Concentrated liquidity in one price range: what it is worth bends with the price like a short option.

    `liquidity` is L in sqrt(base × quote) of whole units (not wei), the range in quote per base; `owed_base` and
    `owed_quote` are fees earned and not collected, up to the block of the report.
    """

    position_id: str
    underlying: str
    liquidity: float
    low_px: float
    high_px: float
    owed_base: float
    owed_quote: float


class TokenPosition(msgspec.Struct, frozen=True, gc=False):
    """A balance, a supply (positive) or a debt (negative) that moves with one underlying, or with money.

    `underlying` is "" for quote money. `qty_base` is in units of the underlying after the token's redemption rate
    (1 wstETH at 1.18 is 1.18 ETH); `charge_fraction` of its value is not counted on, for getting out of it.
    """

    holding_id: str
    underlying: str
    qty_base: float
    charge_fraction: float


class ChainReport(msgspec.Struct, frozen=True, tag="chain_report"):
    """The whole of the book on one chain as of one block: what is not in it is not held.

    What hedges of this run did is left out of the tokens: that is in their fills. `health_factor` is the lowest of the
    lending accounts, infinity without debt. `ts_event_ns` is the block's time.
    """

    venue: str
    block_number: int
    block_hash: str
    lps: tuple[LpPosition, ...]
    tokens: tuple[TokenPosition, ...]
    health_factor: float
    ts_event_ns: int
    ts_recv_ns: int


class GasPaid(msgspec.Struct, frozen=True, tag="gas_paid", gc=False):
    """What one mined transaction of ours cost; a reorg takes it back by an event of the opposite sign.

    `payment_id` is unique per inclusion (transaction and block). `coin` is the chain's own, of which `gas_coin` was
    paid, worth `gas_quote` then. `order_id` is "" for one that is no hedge.
    """

    payment_id: str
    venue: str
    order_id: str
    instrument_id: str
    coin: str
    gas_coin: float
    gas_quote: float
    ts_event_ns: int
    ts_recv_ns: int


ChainEvent = ChainReport | GasPaid
