"""The risk page's sheets: what `status` says of margin, counterparties and the rest, for every vault."""

from __future__ import annotations

from typing import Any

from bot.telemetry.dashboard.shown import risk
from tests.telemetry.dashboard.sheets import cell, row, rows
from tests.telemetry.states import STATE, state

ACCOUNT: dict[str, Any] = {
    "model": "house", "equity_quote": 10_000.0, "initial_quote": 7_000.0,
    "maintenance_quote": 6_500.0, "utilisation_ratio": 0.65, "state": "watch", "required_quote": None,
    "touch_probability": 0.004, "parameters": "set 1", "told": "watch: use 65 %; by the model", "buffer": "",
    "top_up_refused": "no route", "banned": "", "degraded": ["old"],
    "charges": [{"name": "spot", "amount_quote": 12.5, "why": ""}],
}  # fmt: skip
RISK: dict[str, Any] = {
    "accounts": {"deribit": ACCOUNT, "okx": {**ACCOUNT, "utilisation_ratio": 0.9, "state": "critical"}},
    "transfers": [
        {"transfer_id": "t1", "state": "sent", "asset": "USDC", "amount": 1_000.0, "from_venue": "okx",
         "to_venue": "deribit", "planned": "2023-04-12T10:00:00.000+00:00", "route": "ERC20", "reason": "top-up"},
    ],
    "forecasts": {
        "ETH": {"model": "HAR", "regime": "calm", "horizon_s": 1800.0, "mean_vol": 0.6, "quantile_vol": {"0.95": 1.1},
                "outcomes": 40, "breaches": {"0.95": 2}, "degraded": ""},
    },
    "counterparties": {
        "okx": {"kind": "exchange", "score": 40, "action": "stop_adding", "unknown": ["reserves"],
                "stressed_quote": 900.0, "expected_loss_quote": None, "limit_quote": 600.0, "is_over": True,
                "reason": "score 40"},
    },
    "counterparty_groups": {
        "one": {"parties": ["okx", "x"], "stressed_quote": 1.0, "limit_quote": None, "is_over": False}
    },
    "drains": [
        {"venue": "okx", "stage": "hedging_elsewhere", "is_over": False, "left_quote": 50.0, "recovery_quote": None,
         "trail": [{"at": "2023-04-12T10:00:00.000", "stage": "begun", "what": "score 80"}]},
    ],
    "collateral": {"plan_id": "p1", "is_met": True, "cost_quote": 3.0,
                   "told": [{"at": "2023-04-12T10:00:00.000", "text": "1,000 USDC to deribit"}]},
    "breakers": [{"breaker": "price_jump", "subject": "ETH", "since": "2023-04-12T10:01:00.000", "reason": "3 %"}],
    "breaker_changes": [{"at": "2023-04-12T10:01:00.000", "change": "opened"}],
    "condition_changes": [],
    "buffer_changes": [{"account": "okx", "at": "2023-04-12T10:02:00.000", "from_ratio": 1.2, "to_ratio": 1.5,
                        "reason": "vol"}],
}  # fmt: skip
OTHER = state(vault="btc", risk={"accounts": {}, "transfers": [], "insurance": None})
SHEETS = risk.all_sheets([state(risk=RISK), OTHER, STATE])


def test_accounts_come_nearest_to_liquidation_first_with_everything_below_them() -> None:
    shown = SHEETS["accounts"]
    assert [line[:2] for line in rows(shown)] == [
        ["eth-straddle / okx", "90.0 % critical"],
        ["eth-straddle / deribit", "65.0 % watch"],
    ]
    assert cell(shown, "eth-straddle / deribit", "required")["hint"] == "no predictive buffer is kept for it"
    more = row(shown, "eth-straddle / deribit")["more"]
    assert more == (
        "watch: use 65 %",
        "by the model",
        "no top-up: no route",
        "degraded: old",
        "charge: name spot, amount 12.50",
    )


def test_every_sheet_has_its_row() -> None:
    assert rows(SHEETS["breakers"]) == [["eth-straddle", "price jump", "ETH", "2023-04-12T10:01:00", "3 %"]]
    assert rows(SHEETS["transfers"])[0][:4] == ["eth-straddle / t1", "sent", "1,000.0000 USDC", "okx → deribit"]
    assert rows(SHEETS["forecasts"])[0] == [
        "eth-straddle / ETH", "60.0 %", "0.95: 110.0 %", "30 min", "calm", "HAR", "0.95: 2 of 40",
    ]  # fmt: skip
    assert rows(SHEETS["collateral"]) == [["eth-straddle", "1,000 USDC to deribit"]]
    assert rows(SHEETS["drains"])[0] == ["eth-straddle / okx", "hedging elsewhere", "50.00", "–"]
    assert [line[2:] for line in rows(SHEETS["changes"])] == [
        ["buffer of okx", "1.20 to 1.50 of margin: vol"],
        ["breaker", "opened"],
    ]


def test_counterparties_over_their_limit_say_so_in_words() -> None:
    shown = SHEETS["counterparties"]
    lost = cell(shown, "eth-straddle / okx", "if it failed in a crash")
    assert (lost["text"], lost["tone"], lost["bar"]) == ("900.00, over its limit", "bad", (0.0, 1.0))
    assert cell(shown, "eth-straddle / okx", "follows")["text"] == "stop adding"
    assert cell(shown, "eth-straddle / group one", "limit")["hint"] == "no limit is set for it"
    assert "not known: reserves" in row(shown, "eth-straddle / okx")["more"]


def test_vaults_that_reckon_nothing_leave_a_word() -> None:
    for name, shown in risk.all_sheets([OTHER, STATE]).items():
        assert shown["rows"] == {}, name
        assert shown["empty"]
