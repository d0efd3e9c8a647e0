"""The legs of the worked cases, as positions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bot.risk.book import OPTION, PERPETUAL, Position, RiskBook, build_book
from bot.risk.parameters import decode_parameters

DATA = Path(__file__).parent / "data"
SETS = Path(__file__).parents[2] / "bot" / "risk" / "parameter_sets"


def load(name: str) -> Any:
    """Return what a file of worked cases holds."""
    return json.loads((DATA / name).read_text(encoding="utf-8"))


def values_of(name: str) -> dict[str, Any]:
    """Return the values of a parameter set that the project carries."""
    return decode_parameters((SETS / f"{name}.json").read_bytes()).values


def position(leg: dict[str, Any], account: str = "", underlying: str = "BTC") -> Position:
    """Return a leg {"t": "perp" or "opt", "q", "K", "cp", "dte", "iv", "F"} as a position."""
    if leg["t"] == "perp":
        return Position(kind=PERPETUAL, underlying=underlying, qty_base=float(leg["q"]), account=account)
    return Position(
        kind=OPTION,
        underlying=underlying,
        account=account,
        qty_base=float(leg["q"]),
        forward_px=leg.get("F"),
        strike_px=float(leg["K"]),
        tau_years=leg["dte"] / 365.0,
        vol=leg["iv"],
        is_call=leg["cp"] == "C",
    )


def option(qty: float, strike: float, days: float = 30.0, vol: float = 0.5, *, call: bool = True) -> dict[str, Any]:
    """Return the leg of an option."""
    return {"t": "opt", "q": qty, "K": strike, "dte": days, "iv": vol, "cp": "C" if call else "P"}


def perpetual(qty: float) -> dict[str, Any]:
    """Return the leg of a perpetual."""
    return {"t": "perp", "q": qty}


def book_of(legs: list[dict[str, Any]], spot_px: float) -> RiskBook:
    """Return the legs as a book in BTC."""
    return build_book([position(leg) for leg in legs], {"BTC": spot_px})
