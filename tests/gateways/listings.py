"""Markets as ccxt lists them, cut to what is read; a test that needs other terms replaces just those."""

from __future__ import annotations

from typing import Any

EXPIRY_MS = 1_682_668_800_000  # 2023-04-28 08:00 UTC

Listing = dict[str, Any]


def listing(kind: str, market_id: str, symbol: str, **terms: Any) -> Listing:
    """Return a linear market in coins with lots of 0.001 and ticks of 0.1; `terms` replace or add."""
    base, rest = symbol.split("/")
    quote, _, settle = rest.partition(":")
    settle = settle.split("-")[0]
    return {
        "id": market_id,
        "symbol": symbol,
        "base": base,
        "quote": quote,
        "settle": settle or None,
        "type": kind,
        **{each: each == kind for each in ("spot", "swap", "future", "option")},
        "contract": kind != "spot",
        "active": True,
        "linear": quote == settle if settle else None,
        "inverse": base == settle if settle else None,
        "contractSize": 1.0 if settle else None,
        "expiry": EXPIRY_MS if kind in {"future", "option"} else None,
        "strike": 1900.0 if kind == "option" else None,
        "optionType": "call" if kind == "option" else None,
        "taker": 0.0005,
        "maker": 0.0,
        "precision": {"amount": 0.001, "price": 0.1},
        "limits": {"amount": {"min": 0.001}, "cost": {"min": None}},
        "info": {},
        **terms,
    }


def sized(contract_size: float, step: float, tick: float = 0.5, least: float | None = None) -> Listing:
    """Return the terms of a market with this contract, amount step, tick and smallest amount."""
    return {
        "contractSize": contract_size,
        "precision": {"amount": step, "price": tick},
        "limits": {"amount": {"min": step if least is None else least}, "cost": {"min": None}},
    }


DERIBIT_INVERSE = listing("swap", "BTC-PERPETUAL", "BTC/USD:BTC", **sized(10.0, 10.0))
DERIBIT_FUTURE = listing("future", "BTC-28APR23", "BTC/USD:BTC-230428", **sized(10.0, 10.0, 2.5))
DERIBIT_LINEAR = listing("swap", "ETH_USDC-PERPETUAL", "ETH/USDC:USDC", **sized(0.001, 0.001, 0.05, 0.01))
DERIBIT_OPTION = listing(
    "option",
    "ETH-28APR23-1900-C",
    "ETH/USD:ETH-230428-1900-C",
    **sized(1.0, 1.0, 0.0001),
    info={"kind": "option", "tick_size_steps": [{"above_price": 0.005, "tick_size": 0.0005}]},
)
DERIBIT_COMBO = listing(
    "future", "BTC-FS-28APR23_PERP", "BTC/USD:BTC-X", **sized(10.0, 10.0), info={"kind": "future_combo"}
)
