"""Replays side by side: a column each, the figures those of the summaries."""

from __future__ import annotations

from typing import Any

import msgspec

from bot.domain.results import LatencySummary, RunSummary
from bot.telemetry.dashboard.shown.comparison import bars, table
from tests.telemetry.dashboard.sheets import cell, rows


def run(policy: str, total: float, **changes: Any) -> RunSummary:
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


def test_every_run_has_its_column() -> None:
    shown = table([run("impulse", 100.0), run("unhedged", -50.0)])
    assert [one["name"] for one in shown["columns"]] == ["", "impulse", "unhedged"]
    assert cell(shown, "P&L", "impulse")["text"] == "+100.00"
    assert cell(shown, "against unhedged", "impulse")["text"] == "+150.00"
    assert cell(shown, "of P&L: gamma", "unhedged")["text"] == "−50.00"
    assert "of P&L: gas" not in [line[0] for line in rows(shown)]
    assert shown["note"].startswith("v, 2023-04-12T00:00 to 2023-04-14T00:00 UTC")


def test_bars_lie_about_a_marked_zero() -> None:
    shown = bars([run("impulse", 100.0), run("unhedged", -50.0)])
    gain, loss = (cell(shown, f"P&L: {name}", "against zero") for name in ("impulse", "unhedged"))
    assert gain["marks"] == loss["marks"] == (0.3333,)
    assert (gain["bar"], gain["tone"]) == ((0.3333, 1.0), "gain")
    assert (loss["bar"], loss["tone"]) == ((0.3333, 0.0), "loss")
    assert cell(shown, "cost: impulse", "against zero")["is_hatched"]


def test_without_runs_there_is_a_word_for_it() -> None:
    assert table(())["rows"] == bars(())["rows"] == {}
    assert table(())["empty"] == "no replay yet"
