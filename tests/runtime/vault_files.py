"""A whole vault file to break one line of, and a tiny recording that it fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from bot.domain.instruments import Future, Instrument, Option, Payoff, Perpetual, Spot, TickSchedule
from bot.domain.units import NS_PER_DAY, NS_PER_S
from bot.simulation.recording import SCHEMAS, Origin, RecordingDraft, StreamDraft, write_recording

START_NS = 1_681_300_800_000_000_000  # 2023-04-12 12:00 UTC

VAULT = """\
vault: eth-straddle
mode: paper
feed: {recording: RECORDING}
numeraire: USD
book:
  - {instrument: ETH-28APR23-1900-C, qty_base: -100}
  - {instrument: ETH-28APR23-1900-P, qty_base: -100}
cash: {ETH: 0, USD: 500000}
hedge: {instrument: ETH-PERPETUAL, maker_bps: 0, taker_bps: 5}
policy: {type: whalley_wilmott, risk_aversion_per_quote: 3.0e-4}
limits: {max_order_quote: 50000, max_orders_per_min: 10, daily_loss_quote: 10000}
"""


def instruments(base: str) -> tuple[Instrument, ...]:
    """Two live options and an expired one, and three things to hedge with."""
    common: dict[str, Any] = {
        "venue": "deribit",
        "base": base,
        "quote": "USD",
        "contract_size": 1.0,
        "lot_contracts": 0.1,
        "tick_schedule": TickSchedule(0.05),
    }
    coin = {**common, "settle": base, "price_currency": base, "payoff": Payoff.INVERSE}
    cash = {**common, "settle": "USD", "price_currency": "USD", "payoff": Payoff.LINEAR}
    expiry_ns = START_NS + 16 * NS_PER_DAY
    return (
        Option(instrument_id=f"{base}-28APR23-1900-C", strike_px=1900.0, expiry_ns=expiry_ns, is_call=True, **coin),
        Option(instrument_id=f"{base}-28APR23-1900-P", strike_px=1900.0, expiry_ns=expiry_ns, is_call=False, **coin),
        Option(instrument_id=f"{base}-12APR23-1900-C", strike_px=1900.0, expiry_ns=START_NS, is_call=True, **coin),
        Perpetual(instrument_id=f"{base}-PERPETUAL", **cash),
        Future(instrument_id=f"{base}-28APR23", expiry_ns=expiry_ns, **cash),
        Spot(instrument_id=f"{base}-USD", **cash),
    )


def write_tiny_recording(
    destination: Path, streams: tuple[str, ...] = ("index", "quotes", "vol_quotes"), silence_s: float = 1.0
) -> Path:
    """Two events per stream, and a silence between them; ages of 600, 601 and 602 s."""
    rows: dict[str, dict[str, object]] = {
        "index": {"underlying": "ETH", "px": 1900.0},
        "quotes": {"instrument": 3, "bid_px": 1899.0, "bid_base": 1.0, "ask_px": 1901.0, "ask_base": 1.0},
        "vol_quotes": {
            "instrument": 0,
            **dict.fromkeys(("mark_vol", "bid_vol", "ask_vol"), 0.6),
            **dict.fromkeys(("forward_px", "bid_px", "bid_base", "ask_px", "ask_base", "mark_px"), 1.0),
        },
    }
    times_ns = [START_NS, START_NS + round(silence_s * NS_PER_S)]
    drafts = {
        name: StreamDraft(
            pl.LazyFrame({"ts_event_ns": times_ns, **{k: [v, v] for k, v in rows[name].items()}}),
            600.0 + number,
            Origin.RECORDED,
            "made for a test",
        )
        for number, name in enumerate(rows)
        if name in streams
    }
    assert set(drafts) <= set(SCHEMAS)
    listed = (*instruments("ETH"), *instruments("BTC"))
    write_recording(destination, RecordingDraft("tiny", "test", "none", "none", "", listed, {}, drafts))
    return destination


def vault() -> dict[str, Any]:
    """`VAULT` as plain values."""
    return {
        "vault": "eth-straddle",
        "mode": "paper",
        "feed": {"recording": "tiny"},
        "numeraire": "USD",
        "book": ({"instrument": "ETH-28APR23-1900-C", "qty_base": -100},),
        "hedge": {"instrument": "ETH-PERPETUAL", "maker_bps": 0, "taker_bps": 5},
        "policy": {"type": "whalley_wilmott", "risk_aversion_per_quote": 3e-4},
        "limits": {"max_order_quote": 50000, "max_orders_per_min": 10, "daily_loss_quote": 10000},
    }
