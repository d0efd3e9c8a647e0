"""States of vaults for the tests of the dashboard: one plain state, of which each test changes what it is about."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from bot.domain.units import NS_PER_S
from bot.domain.windows import (
    AccountState,
    Alert,
    DurationCounts,
    Meters,
    Severity,
    Told,
    UnderlyingState,
    VaultState,
)

START_NS = 1_700_000_000 * NS_PER_S
NO_COUNTS = DurationCounts((), (), 0.0, 0)


def an_underlying(delta_base: float | None = 0.25, **changes: Any) -> UnderlyingState:
    """Return ETH with this net delta in a band of one either side."""
    plain = UnderlyingState(
        underlying="ETH",
        decided_ns=START_NS,
        spot_px=2000.0,
        delta_low_base=delta_base,
        delta_high_base=delta_base,
        unknown_base=0.0,
        target_delta_base=0.0,
        low_base=-1.0,
        high_base=1.0,
        hedge_base=-3.0,
        pending_base=0.0,
        gamma_base_per_px=0.01,
        vega_quote_per_vol=100.0,
        theta_quote_per_day=-20.0,
        value_quote=1000.0,
        policy_reason="",
        refusal="",
        refusal_detail="",
        wanted_lots=0,
        order_id=None,
        plan="",
        last_order="",
        last_hedge_ns=0,
        gates=(),
        legs=(),
    )
    return replace(plain, **changes)


def a_state(vault: str = "eth-straddle", *, at_s: float = 0.0, **changes: Any) -> VaultState:
    """Return the state of a vault that runs well."""
    now_ns = START_NS + round(at_s * NS_PER_S)
    plain = VaultState(
        vault=vault,
        mode="paper",
        policy="band",
        version="1",
        run_id="run-1",
        config_sha256="0" * 64,
        now_ns=now_ns,
        taken_ns=now_ns,
        state="running",
        state_reason="",
        to_acknowledge="",
        hedges=2,
        decisions=9,
        turnover_quote=100.0,
        transactions=0,
        failed_transactions=0,
        refusals={},
        quotes_refused={},
        pnl_quote={"delta": 12.5},
        pnl_now_quote=12.5,
        pnl_today_quote=12.5,
        unhedged_pnl_quote=-4.0,
        underlyings=(an_underlying(),),
        orders=(),
        venues=(),
        feeds=(),
        accounts=(an_account(0.25),),
        transactions_now=(),
        risk={},
        overrides={},
        meters=Meters(NO_COUNTS, {}, 0.0, 0.0, 1, 1),
    )
    return replace(plain, **changes)


def an_account(utilisation_ratio: float | None) -> AccountState:
    """Return a margin account that is used so far."""
    return AccountState("deribit", "pm", "normal", 1000.0, 300.0, 250.0, utilisation_ratio, None, None, "")


def an_alert(severity: Severity = Severity.WARNING, **changes: Any) -> Alert:
    """Return an alert that lasts."""
    plain = Alert("feed_stale:deribit", "eth-straddle", severity, "A feed is stale", "", START_NS, 0, "", 0, 1)
    return replace(plain, **changes)


def a_told(number: int, **changes: Any) -> Told:
    """Return the event of this number."""
    plain = Told("eth-straddle", "run-1", number, number, START_NS, "command", "", f"event {number}", {})
    return replace(plain, **changes)
