"""States of a vault as windows are shown them; `calm()` is one that nobody has to be told of."""

from __future__ import annotations

from typing import Any

from bot.domain.windows import (
    AccountState,
    DurationCounts,
    FeedState,
    GateState,
    Meters,
    OrderLine,
    UnderlyingState,
    VaultState,
    VenueState,
)

NOW_NS = 1_767_225_600_000_000_000
CALM_METERS = Meters(DurationCounts((0.001,), (5,), 0.002, 5), {}, 0.001, 0.2, 900, 120_000_000)
GATES = (GateState("accounts known", True, "they agree"), GateState("chains known", True, "none"))


def underlying(**fields: Any) -> UnderlyingState:
    """Return an underlying whose net delta is in its band."""
    known: dict[str, Any] = {
        "underlying": "ETH", "decided_ns": NOW_NS, "spot_px": 3000.0, "delta_low_base": 0.1, "delta_high_base": 0.1,
        "unknown_base": 0.0, "target_delta_base": 0.0, "low_base": -1.0, "high_base": 1.0, "hedge_base": -4.0,
        "pending_base": 0.0, "gamma_base_per_px": 0.01, "vega_quote_per_vol": 200.0, "theta_quote_per_day": -30.0,
        "value_quote": 5000.0, "policy_reason": "in band", "refusal": "", "refusal_detail": "", "wanted_lots": 0,
        "order_id": None, "plan": "nothing to do", "last_order": "", "last_hedge_ns": 0, "gates": GATES, "legs": (),
    }  # fmt: skip
    return UnderlyingState(**{**known, **fields})


def order(**fields: Any) -> OrderLine:
    """Return an order at rest."""
    known: dict[str, Any] = {
        "order_id": "r1-7", "instrument_id": "deribit:ETH-PERPETUAL", "state": "open", "qty_lots": -3, "filled_lots": 1,
        "limit_ticks": 60_000, "reason": "above the band", "decided_ns": NOW_NS, "is_transaction": False,
    }  # fmt: skip
    return OrderLine(**{**known, **fields})


def account(**fields: Any) -> AccountState:
    """Return an account far from liquidation."""
    known: dict[str, Any] = {
        "account": "deribit", "model": "deribit_portfolio", "state": "normal", "equity_quote": 50_000.0,
        "initial_quote": 9_000.0, "maintenance_quote": 7_000.0, "utilisation_ratio": 0.14, "touch_probability": 0.0,
        "spot_distance_fraction": None, "told": "14 % of liquidation",
    }  # fmt: skip
    return AccountState(**{**known, **fields})


def calm(**fields: Any) -> VaultState:
    """Return a vault that runs."""
    known: dict[str, Any] = {
        "vault": "eth-straddle", "mode": "paper", "policy": "delta_band", "version": "0.1.0", "run_id": "r1",
        "config_sha256": "ab", "now_ns": NOW_NS, "taken_ns": NOW_NS, "state": "running", "state_reason": "",
        "to_acknowledge": "", "hedges": 3, "decisions": 100, "turnover_quote": 9_000.0, "transactions": 0,
        "failed_transactions": 0, "refusals": {}, "quotes_refused": {}, "pnl_quote": {"delta": 3.0},
        "pnl_now_quote": 3.0, "pnl_today_quote": -100.0, "unhedged_pnl_quote": 4.0, "underlyings": (underlying(),),
        "orders": (order(),), "venues": (VenueState("deribit", "up", "", 2.0),),
        "feeds": (FeedState("ETH index", "index", 0.5, 5.0, False),), "accounts": (account(),), "transactions_now": (),
        "risk": {"breakers": [], "drains": [], "transfers": [], "transfer_notices": []}, "overrides": {},
        "meters": CALM_METERS, "daily_loss_limit_quote": 10_000.0,
    }  # fmt: skip
    return VaultState(**{**known, **fields})
