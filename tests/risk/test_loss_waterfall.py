"""After the loser's margin: the venues' own examples of when others pay."""

from __future__ import annotations

import json
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import pytest

from bot.risk.loss_waterfall import (
    PoolRule,
    deleverage_index,
    pool_state,
    rank_share,
    socialised_loss,
    withdrawal_haircut,
)

CASES: dict[str, dict[str, Any]] = {
    case["id"]: case for case in json.loads((Path(__file__).parent / "data" / "venue_margin_cases.json").read_text())
}
RULE = PoolRule(trigger_ratio=-0.30, stop_ratio=-0.25)


def test_a_drawdown_beyond_the_limit_deleverages_as_much_as_is_beyond() -> None:
    case = CASES["bybit_adl_1"]
    given, expected = case["inputs"], case["expected"]
    rule = PoolRule(
        trigger_ratio=given["insurancePnlRatio"],
        stop_ratio=given["adlStopRatio"],
        min_balance_quote=given["adlTriggerThreshold"],
    )
    state = pool_state(given["balance"], given["max_balance"], given["symbol_pnl"], given["symbol_max_pnl"], rule)
    assert state.is_deleveraging is bool(expected["adl"])
    assert state.drawdown_ratio == pytest.approx(expected["pnlRatio"])
    assert state.to_close_quote == pytest.approx(expected["adl_usd"])


def test_an_empty_pool_deleverages_whatever_is_unknown() -> None:
    assert CASES["bybit_adl_3"]["expected"]["adl"] == 1
    assert pool_state(CASES["bybit_adl_3"]["inputs"]["balance"], nan, nan, nan, RULE).is_deleveraging
    unknown = pool_state(nan, nan, nan, nan, RULE)
    assert not unknown.is_deleveraging
    assert isnan(unknown.drawdown_ratio)
    assert "not known" in unknown.reason


@pytest.mark.parametrize(("pnl", "before", "runs"), [
    (-299_999.0, False, False), (-300_000.0, False, True), (-260_000.0, True, True), (-250_000.0, True, False),
    (-260_000.0, False, False),
])  # fmt: skip
def test_it_starts_at_one_ratio_and_stops_at_another(pnl: float, before: bool, runs: bool) -> None:
    state = pool_state(700_000.0, 1e6, pnl, 0.0, RULE, was_deleveraging=before)
    assert state.is_deleveraging is runs


def test_winners_share_what_the_fund_cannot_pay() -> None:
    assert socialised_loss(5e6, 8e6, 1e6, 10e6) == 0.0
    assert socialised_loss(5e6, 3e6, 1e6, 10e6) == pytest.approx(0.2e6)
    assert socialised_loss(5e6, 3e6, -1e6, 10e6) == 0.0
    assert socialised_loss(50e6, 0.0, 1e6, 10e6) == 1e6  # never more than was won
    assert sum(socialised_loss(5e6, 3e6, won, 10e6) for won in (1e6, 4e6, 5e6)) == pytest.approx(2e6)


def test_a_haircut_on_withdrawals_covers_the_shortfall() -> None:
    assert withdrawal_haircut(0.0, 9e6) == 0.0
    assert withdrawal_haircut(1e6, 9e6) == pytest.approx(0.1)
    assert withdrawal_haircut(1e6, 0.0) == 1.0


def test_the_winner_with_the_most_leverage_is_deleveraged_first() -> None:
    won = deleverage_index(100.0, 80.0, 1e6, 2e5, is_long=False)
    assert won == pytest.approx(1.25 * 5.0)
    assert won > deleverage_index(100.0, 80.0, 1e6, 4e5, is_long=False)
    assert won > deleverage_index(100.0, 80.0, 1e6, 2e5, is_long=True)
    assert deleverage_index(100.0, 80.0, 1e6, 0.0, is_long=True) == inf
    others = [1.0, 2.0, 3.0, 10.0]
    assert rank_share(won, others) == 0.75
    assert rank_share(inf, others) == 1.0
    assert rank_share(0.5, others) == 0.0
    assert isnan(rank_share(won, []))
