"""Each figure of a state is found under its name, and what is unknown is nowhere."""

from __future__ import annotations

import re

import msgspec
import pytest

from bot.telemetry.metrics.board import Board, Neighbours
from bot.telemetry.metrics.collector import registry_of
from bot.telemetry.metrics.families import families
from tests.house.sources import ROOT
from tests.telemetry.metrics.lint import families_of
from tests.telemetry.states import NOW_NS, UNDERLYING, alert, state, told

V = {"vault": "eth-straddle"}
U = {**V, "underlying": "ETH"}
A = {**V, "account": "deribit"}

FIGURES = [
    ("evenkeel_up", V, 1.0),
    ("evenkeel_state_age_seconds", V, 3.0),
    ("evenkeel_silence_seconds", V, 0.0),
    ("evenkeel_engine_timestamp_seconds", V, 1.7e9),
    ("evenkeel_state", {**V, "state": "running"}, 1.0),
    ("evenkeel_state", {**V, "state": "halted"}, 0.0),
    ("evenkeel_acknowledgement_wanted", V, 0.0),
    ("evenkeel_hedges_total", V, 41.0),
    ("evenkeel_decisions_total", V, 100_000.0),
    ("evenkeel_refusals_total", {**V, "reason": "order_in_flight"}, 12.0),
    ("evenkeel_quotes_refused_total", {**V, "fault": "crossed"}, 1.0),
    ("evenkeel_turnover_quote", V, 123_456.0),
    ("evenkeel_transactions", V, 3.0),
    ("evenkeel_transactions_failed", V, 1.0),
    ("evenkeel_pnl_quote", {**V, "part": "gamma"}, -50.0),
    ("evenkeel_cost_quote", {**V, "cost": "fees"}, 4.0),
    ("evenkeel_cost_quote", {**V, "cost": "slippage"}, 1.5),
    ("evenkeel_cost_quote", {**V, "cost": "funding"}, -0.25),
    ("evenkeel_pnl_now_quote", V, 14.0),
    ("evenkeel_pnl_today_quote", V, -6.0),
    ("evenkeel_unhedged_pnl_quote", V, -80.0),
    ("evenkeel_daily_loss_limit_quote", V, 500.0),
    ("evenkeel_overrides", V, 1.0),
    ("evenkeel_orders", {**V, "state": "unknown"}, 1.0),
    ("evenkeel_orders", {**V, "state": "open"}, 0.0),
    ("evenkeel_spot_quote", U, 1900.0),
    ("evenkeel_delta_low_base", U, 0.4),
    ("evenkeel_delta_high_base", U, 0.6),
    ("evenkeel_unknown_base", U, 0.2),
    ("evenkeel_target_delta_base", U, 0.0),
    ("evenkeel_band_low_base", U, -0.5),
    ("evenkeel_band_high_base", U, 0.5),
    ("evenkeel_hedge_base", U, -12.0),
    ("evenkeel_pending_base", U, 0.1),
    ("evenkeel_gamma_base_per_quote", U, -0.03),
    ("evenkeel_vega_quote", U, -9_000.0),
    ("evenkeel_theta_quote", U, 450.0),
    ("evenkeel_value_quote", U, -20_000.0),
    ("evenkeel_last_hedge_timestamp_seconds", U, 1.7e9 - 60.0),
    ("evenkeel_gates_closed", U, 1.0),
    ("evenkeel_refused", {**U, "reason": "order_in_flight"}, 1.0),
    ("evenkeel_feed_age_seconds", {**V, "kind": "quote", "feed": "ETH-PERPETUAL"}, 61.0),
    ("evenkeel_feed_max_age_seconds", {**V, "kind": "vol", "feed": "28APR23"}, 600.0),
    ("evenkeel_feeds", {**V, "kind": "index"}, 1.0),
    ("evenkeel_feeds_stale", {**V, "kind": "index"}, 0.0),
    ("evenkeel_feeds_stale", {**V, "kind": "vol"}, 1.0),
    ("evenkeel_venue_up", {**V, "venue": "deribit"}, 1.0),
    ("evenkeel_venue_up", {**V, "venue": "okx"}, 0.0),
    ("evenkeel_venue_account_age_seconds", {**V, "venue": "deribit"}, 2.0),
    ("evenkeel_chain_head_age_seconds", {**V, "chain": "base"}, 1.5),
    ("evenkeel_chain_balance_coin", {**V, "chain": "base"}, 0.4),
    ("evenkeel_chain_base_fee_wei", {**V, "chain": "base"}, 2.5e8),
    ("evenkeel_chain_transactions_pending", {**V, "chain": "base"}, 1.0),
    ("evenkeel_chain_problems", {**V, "chain": "base"}, 1.0),
    ("evenkeel_margin_equity_quote", A, 10_000.0),
    ("evenkeel_margin_initial_quote", A, 7_000.0),
    ("evenkeel_margin_maintenance_quote", A, 6_500.0),
    ("evenkeel_margin_use_ratio", A, 0.65),
    ("evenkeel_margin_state", {**A, "state": "watch"}, 1.0),
    ("evenkeel_margin_state", {**A, "state": "normal"}, 0.0),
    ("evenkeel_liquidation_touch_probability_ratio", A, 0.004),
    ("evenkeel_loop_lag_seconds", V, 0.001),
    ("evenkeel_journal_lag_seconds", V, 0.2),
    ("evenkeel_journal_rows_total", V, 5_000.0),
    ("evenkeel_resident_memory_bytes", V, 1.5e8),
    ("evenkeel_decide_seconds_bucket", {**V, "le": "0.01"}, 5.0),
    ("evenkeel_decide_seconds_bucket", {**V, "le": "+Inf"}, 7.0),
    ("evenkeel_decide_seconds_count", V, 7.0),
    ("evenkeel_decide_seconds_sum", V, 2.5),
    ("evenkeel_step_seconds_bucket", {**V, "step": "sent_to_ack", "le": "1.0"}, 6.0),
    ("evenkeel_events_total", {**V, "kind": "fill"}, 2.0),
    ("evenkeel_alerts_open", {**V, "severity": "critical"}, 2.0),
    ("evenkeel_alerts_open", {**V, "severity": "info"}, 0.0),
    ("evenkeel_alerts_unacknowledged", {**V, "severity": "critical"}, 1.0),
]
UNKNOWN = [
    ("evenkeel_feed_age_seconds", {**V, "kind": "vol", "feed": "28APR23"}),
    ("evenkeel_venue_account_age_seconds", {**V, "venue": "okx"}),
    ("evenkeel_venue_up", {**V, "venue": "paper"}),
    ("evenkeel_liquidation_distance_ratio", A),
    ("evenkeel_chain_reserve_coin", {**V, "chain": "base"}),
    ("evenkeel_pnl_quote", {**V, "part": "total"}),
]


@pytest.fixture
def board() -> Board:
    alerts = (alert(), alert(acknowledged_by="kim"), alert(ended_ns=NOW_NS))
    found = Board(
        ["eth-straddle"],
        Neighbours(open_alerts=lambda vault: alerts if vault == "eth-straddle" else ()),
        monotonic_s=lambda: 0.0,
        wall_ns=lambda: NOW_NS + 3_000_000_000,
    )
    found.show(state())
    for number in (1, 2):
        found.tell(told(number, "fill"))
    return found


def test_every_figure_is_found_under_its_name(board: Board) -> None:
    registry = registry_of(board)
    found = [(name, labels, registry.get_sample_value(name, labels)) for name, labels, _ in FIGURES]
    assert found == FIGURES


def test_what_is_unknown_has_no_sample(board: Board) -> None:
    registry = registry_of(board)
    assert [one for one in UNKNOWN if registry.get_sample_value(*one) is not None] == []


def test_every_family_is_looked_at_here() -> None:
    looked_at = {re.sub(r"_(bucket|sum|count)$", "", name) for name, *_ in [*FIGURES, *UNKNOWN]}
    assert {family.name for family in families()} - looked_at == {"evenkeel_vault_info"}


def test_parts_of_the_pnl_add_up_to_its_total(board: Board) -> None:
    from bot.telemetry.metrics.collector import render

    parts = families_of(render(registry_of(board)).decode())["evenkeel_pnl_quote"].samples
    assert sum(sample.value for sample in parts) == pytest.approx(14.75)


def test_an_underlying_nothing_is_known_of_has_no_figures(board: Board) -> None:
    blank = msgspec.structs.replace(
        UNDERLYING, spot_px=None, delta_low_base=None, low_base=None, high_base=None, last_hedge_ns=0, refusal=""
    )
    board.show(state(underlyings=(blank,)))
    registry = registry_of(board)
    for name in ("spot_quote", "delta_low_base", "band_low_base", "band_high_base", "last_hedge_timestamp_seconds"):
        assert registry.get_sample_value(f"evenkeel_{name}", U) is None
    assert registry.get_sample_value("evenkeel_refused", {**U, "reason": ""}) is None
    assert registry.get_sample_value("evenkeel_hedge_base", U) == -12.0


def test_what_runs_is_told_in_labels(board: Board) -> None:
    labels = {"mode": "paper", "policy": "delta_band", "version": "0.1.0", "run_id": "a1b2", "config_sha256": "0" * 64}
    assert registry_of(board).get_sample_value("evenkeel_vault_info", {**V, **labels}) == 1.0


def test_the_page_lists_every_metric_and_no_other() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(evenkeel_\w+)` \| (\w+) \|([^|]*)\|", page, re.MULTILINE)
    of_vaults = {one.name: (one.kind, ", ".join(f"`{label}`" for label in one.labels)) for one in families()}
    told_of = {name: (kind, labels.strip()) for name, kind, labels in listed}
    assert {name: told_of.get(name) for name in of_vaults} == of_vaults
    exposed = {name for name in families_of(_exposed()) if name.startswith("evenkeel_")}
    assert sorted(told_of) == sorted(exposed)
    assert len(listed) == len(told_of)


def _exposed() -> str:
    from bot.telemetry.metrics.collector import render
    from bot.telemetry.metrics.server import HttpWindow

    window = HttpWindow("127.0.0.1", 0, Board(["eth-straddle"]))
    return render(window.registry).decode()
