"""Margin in the table of runs: per account the worst of it, and nothing for vaults that do not reckon it."""

from __future__ import annotations

import pytest

from bot.domain.results import BufferRecord, ForecastRecord, LatencySummary, MarginRecord, RunSummary
from bot.runtime.cli.margin_rows import duration_text, margin_rows

RECORD = MarginRecord(
    model="house",
    equity_quote=50_000.0,
    initial_quote=20_000.0,
    maintenance_quote=16_000.0,
    utilisation_ratio=0.32,
    worst_utilisation_ratio=0.861,
    state="normal",
    state_s={"normal": 5_000.0, "watch": 9_000.0, "act": 7_500.0},
    cuts=1_234,
    reviews=9,
    degraded=(),
    required_quote=51_000.0,
    target_ratio=1.3,
    target_changes=2,
    worst_initial_ratio=0.93,
    worst_state="act",
)


def run(**changes: object) -> RunSummary:
    zeros = dict.fromkeys(("events", "decisions", "hedges"), 0)
    figures = dict.fromkeys(
        (
            "unexplained_share_of_abs_parts", "unexplained_share_of_part_totals", "unhedged_total_quote", "cost_quote",
            "pnl_total_numeraire", "turnover_quote", "delta_rms_base", "delta_max_base", "not_deciding_s",
            "max_drawdown_quote", "events_per_second",
        ),
        0.0,
    )  # fmt: skip
    texts = dict.fromkeys(("vault", "policy", "start", "end", "numeraire", "commands_sha256", "state"), "")
    names = ("refusals", "quotes_refused", "pnl_quote", "gap_pnl_quote", "delta_rms_by_underlying_base")
    tables: dict[str, dict[str, float]] = {name: {} for name in names}
    given = {**zeros, **figures, **texts, **tables, "seed": 1, "decision_us": LatencySummary(0.0, 0.0), **changes}
    return RunSummary(**given)  # type: ignore[arg-type]


def rows_of(*runs: RunSummary) -> dict[str, list[str]]:
    return dict(margin_rows(runs))


def test_a_vault_that_reckons_no_margin_has_no_row_of_it() -> None:
    assert rows_of(run(), run()) == {}


def test_each_account_has_the_worst_of_it_and_a_run_without_it_says_so() -> None:
    found = rows_of(run(margin={"okx": RECORD}, transfers=3, late_transfers=1), run())
    assert found["margin at okx"] == ["normal at the end", "not reckoned"]
    assert found["  worst utilisation"] == ["86.1%", ""]
    assert found["  most initial margin of equity"] == ["93.0%", ""]
    assert found["  worst state"] == ["act, for 2.1 h", ""]
    assert found["  hedges cut or sent elsewhere"] == ["1,234", ""]
    assert found["  equity wanted, had, USD"] == ["51,000, 50,000\ntarget changed 2 times", ""]
    assert found["collateral transfers"] == ["3, 1 late", ""]
    assert not {name for name in found if "buffer" in name or "breakers" in name or "DEGRADED" in name}


def test_what_was_kept_aside_and_opened_is_told() -> None:
    kept = BufferRecord(balance_quote=60.0, full_quote=500.0, funded_quote=100.0, drawn_quote=50.0, returned_quote=10.0)
    forecast = ForecastRecord(
        model="EWMA", regime="calm", horizon_s=1_800.0, mean_vol=0.7, quantile_vol={}, outcomes=20,
        breaches={"0.95": 2}, degraded="few hours " * 8,
    )  # fmt: skip
    found = rows_of(run(margin={"okx": RECORD}, insurance=kept, breaker_trips=4, forecasts={"ETH": forecast}))
    assert found["insurance buffer, USD"] == ["60.00 of 500.00"]
    assert (found["  kept of gains"], found["  drawn, returned"]) == (["100.00"], ["50.00, 10.00"])
    assert found["breakers opened"] == ["4 times"]
    (cell,) = found["vol forecast of ETH at the end"]
    assert cell.startswith("70.0% by EWMA\nexceeded 95%: 2 of 20\nfew hours few")
    assert max(len(line) for line in cell.splitlines()) <= 40


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "a moment"), (5.0, "5 s"), (119.0, "119 s"), (300.0, "5 min"), (7_560.0, "2.1 h"), (432_000.0, "5.0 days")],
)
def test_durations_are_said_as_people_do(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
