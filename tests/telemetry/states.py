"""States of vaults for tests to change: one with everything in it, and calm ones of a vault that runs well."""

from __future__ import annotations

from typing import Any

import msgspec

from bot.domain.portfolio import PnlBreakdown
from bot.domain.units import NS_PER_S
from bot.domain.windows import (
    AccountState,
    Alert,
    DurationCounts,
    FeedState,
    GateState,
    LegState,
    Meters,
    OrderLine,
    Severity,
    Told,
    UnderlyingState,
    VaultState,
    VenueState,
)

NOW_NS = 1_700_000_000_000_000_000
COUNTS = DurationCounts(bounds_s=(0.001, 0.01, 1.0), counts=(3, 5, 6), sum_s=2.5, count=7)

UNDERLYING = UnderlyingState(
    underlying="ETH",
    decided_ns=NOW_NS,
    spot_px=1900.0,
    delta_low_base=0.4,
    delta_high_base=0.6,
    unknown_base=0.2,
    target_delta_base=0.0,
    low_base=-0.5,
    high_base=0.5,
    hedge_base=-12.0,
    pending_base=0.1,
    gamma_base_per_px=-0.03,
    vega_quote_per_vol=-9_000.0,
    theta_quote_per_day=450.0,
    value_quote=-20_000.0,
    policy_reason="a fixed band",
    refusal="order_in_flight",
    refusal_detail="1 order",
    wanted_lots=-100,
    order_id=None,
    plan="not hedging: order_in_flight: 1 order",
    last_order="-100 lots, filled: net +0.7",
    last_hedge_ns=NOW_NS - 60_000_000_000,
    gates=(GateState("state", is_open=True, detail="running"), GateState("order rate", is_open=False, detail="30")),
    legs=(
        LegState("ETH-28APR23-1900-C", False, -100.0, 80.0, 0.6, NOW_NS, -52.0, -0.03, -9_000.0, 450.0, -8_000.0),
        LegState("ETH-PERPETUAL", True, -12.0, 1900.0, None, None, -12.0, 0.0, 0.0, 0.0, 0.0),
    ),
)

STATE = VaultState(
    vault="eth-straddle",
    mode="paper",
    policy="delta_band",
    version="0.1.0",
    run_id="a1b2",
    config_sha256="0" * 64,
    now_ns=NOW_NS,
    taken_ns=NOW_NS,
    state="running",
    state_reason="",
    to_acknowledge="",
    hedges=41,
    decisions=100_000,
    turnover_quote=123_456.0,
    transactions=3,
    failed_transactions=1,
    refusals={"order_in_flight": 12, "stale_index": 2},
    quotes_refused={"crossed": 1},
    pnl_quote={
        **dict.fromkeys(PnlBreakdown.__struct_fields__, 0.0),
        "gamma": -50.0,
        "theta": 70.0,
        "fees": -4.0,
        "slippage": -1.5,
        "funding": 0.25,
        "total": 14.75,
    },
    pnl_now_quote=14.0,
    pnl_today_quote=-6.0,
    unhedged_pnl_quote=-80.0,
    underlyings=(UNDERLYING,),
    orders=(OrderLine("a1b2-1", "ETH-PERPETUAL", "unknown", -100, 0, 190_000, "net +0.7", NOW_NS, False),),
    venues=(
        VenueState("deribit", "up", "", 2.0),
        VenueState("okx", "down", "no answer", None),
        VenueState("paper", "unknown", "", None),
    ),
    feeds=(
        FeedState("ETH index", "index", 0.5, 60.0, is_stale=False),
        FeedState("ETH-PERPETUAL", "quote", 61.0, 60.0, is_stale=True),
        FeedState("28APR23", "vol", None, 600.0, is_stale=True),
    ),
    accounts=(AccountState("deribit", "deribit_pm", "watch", 10_000.0, 7_000.0, 6_500.0, 0.65, 0.004, None, "watch"),),
    transactions_now=(
        {
            "chain": "base",
            "coin": "ETH",
            "head": 7,
            "age_s": 1.5,
            "base_fee_gwei": 0.25,
            "balance_coin": 0.4,
            "reserve_coin": None,
            "pending": [{"key": "0x1"}],
            "problems": ["a node lags"],
        },
    ),
    risk={},
    overrides={"ETH target": "+2.000 by kim"},
    daily_loss_limit_quote=500.0,
    meters=Meters(COUNTS, {"sent_to_ack": COUNTS}, 0.001, 0.2, 5_000, 150_000_000),
)


def state(**changes: Any) -> VaultState:
    """Return the state with fields changed."""
    return msgspec.structs.replace(STATE, **changes)


def told(number: int, kind: str, vault: str = "eth-straddle") -> Told:
    """Return an event."""
    return Told(vault, "a1b2", number, number, NOW_NS, kind, "", kind, {})


def alert(**changes: Any) -> Alert:
    """Return an alert, open and critical."""
    plain = Alert("state:eth", "eth-straddle", Severity.CRITICAL, "halted", "by kim", NOW_NS, 0, "", 0, 1)
    return msgspec.structs.replace(plain, **changes)


# Calm ones ------------------------------------------------------------------------------------------------------------


def an_underlying(delta_base: float | None = 0.25, **changes: Any) -> UnderlyingState:
    """Return ETH with this net delta in a band of one either side, and nothing that keeps it from being hedged."""
    calm: dict[str, Any] = {
        "spot_px": 2000.0, "delta_low_base": delta_base, "delta_high_base": delta_base, "unknown_base": 0.0,
        "low_base": -1.0, "high_base": 1.0, "refusal": "", "refusal_detail": "", "wanted_lots": 0, "plan": "",
        "gates": (), "legs": (),
    }  # fmt: skip
    return msgspec.structs.replace(UNDERLYING, **calm | changes)


def a_state(vault: str = "eth-straddle", *, at_s: float = 0.0, **changes: Any) -> VaultState:
    """Return the state of a vault that runs well, at some seconds after `NOW_NS`."""
    now_ns = NOW_NS + round(at_s * NS_PER_S)
    calm: dict[str, Any] = {
        "vault": vault, "run_id": "run-1", "now_ns": now_ns, "taken_ns": now_ns, "pnl_quote": {"delta": 12.5},
        "pnl_now_quote": 12.5, "pnl_today_quote": 12.5, "unhedged_pnl_quote": -4.0, "underlyings": (an_underlying(),),
        "orders": (), "venues": (), "feeds": (), "accounts": (an_account(0.25),), "transactions_now": (),
        "overrides": {},
    }  # fmt: skip
    return state(**calm | changes)


def an_account(utilisation_ratio: float | None) -> AccountState:
    """Return a margin account that is used so far."""
    return msgspec.structs.replace(STATE.accounts[0], state="normal", utilisation_ratio=utilisation_ratio)


def an_alert(severity: Severity = Severity.WARNING, **changes: Any) -> Alert:
    """Return an alert that lasts, a warning unless told otherwise."""
    return alert(**{"alert_id": "feed_stale:deribit", "severity": severity, "title": "A feed is stale"} | changes)


def a_told(number: int, **changes: Any) -> Told:
    """Return an order of a person's with this number."""
    return msgspec.structs.replace(told(number, "command"), **{"run_id": "run-1", "text": f"event {number}"} | changes)
