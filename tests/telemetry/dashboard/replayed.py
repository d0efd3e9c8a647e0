"""Replays as the page gets them, for tests: a summary, and one with its track."""

from __future__ import annotations

from typing import Any

import msgspec

from bot.domain.results import LatencySummary, RunSummary, RunTrack, TracedRun


def summary(policy: str, total: float, **changes: Any) -> RunSummary:
    """Return the figures of a run that earned `total`."""
    plain = RunSummary(
        vault="v", policy=policy, seed=1, start="2023-04-12T00:00:00", end="2023-04-14T00:00:00", events=10,
        decisions=9, hedges=8, refusals={}, quotes_refused={}, pnl_quote={"gamma": total, "total": total},
        gap_pnl_quote={"total": 0.0}, unexplained_share_of_abs_parts=0.0, unexplained_share_of_part_totals=0.0,
        unhedged_total_quote=-50.0, numeraire="USD", pnl_total_numeraire=total, cost_quote=7.0, turnover_quote=1_000.0,
        delta_rms_base=0.5, delta_max_base=1.5, not_deciding_s=0.0, delta_rms_by_underlying_base={},
        max_drawdown_quote=3.0, commands_sha256="ab" * 32, events_per_second=1.0, decision_us=LatencySummary(1.0, 2.0),
        state="running",
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


def run(policy: str, total: float, **changes: Any) -> TracedRun:
    """Return such a run with three points of its track."""
    track = RunTrack(
        underlying="ETH",
        pnl_ms=[0, 1_000, 2_000],
        pnl_quote=[0.0, None, total],
        unhedged_pnl_quote=[0.0, None, -50.0],
        delta_ms=[0, 1_000, 2_000],
        net_delta_base=[0.0, 2.0, -1.0],
        low_base=[-0.5, None, -0.5],
        high_base=[0.5, None, 0.5],
        hedge_ms=[1_000, 2_000],
        hedge_qty_base=[-2.0, 1.0],
        hedge_delta_base=[2.0, -1.0],
        fills=2,
    )
    return TracedRun(**msgspec.structs.asdict(summary(policy, total, **changes)), track=track)
