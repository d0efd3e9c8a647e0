"""What venues show of their health, and what follows for the hedges there."""

from __future__ import annotations

from typing import Any

import msgspec

from bot.domain.risk import CounterpartySigns, TransferCollateral
from bot.risk.counterparties import Action, CounterpartyParameters
from bot.risk.transfers import Route, TransferRules
from bot.runtime.margin_parameters import carried_sets
from tests.engine.margin_vault import A, B, MarginVault

PARAMETERS = msgspec.convert(carried_sets("counterparties")[-1].values, CounterpartyParameters)
WELL: dict[str, Any] = {
    "withdrawals": "working",
    "fund_quote": 1e9,
    "fund_high_quote": 1e9,
    "open_interest_quote": 1e9,
    "deleverage_rank_share": 0.0,
    "api_error_share": 0.0,
    "perp_discount_share": 0.0,
    "reserves_age_days": 1.0,
    "reserves_coverage_ratio": 1.1,
}


def watched(**risk: Any) -> MarginVault:
    vault = MarginVault({"a": 1e6, "b": 1e6}, instruments=(A, B), risk={"counterparties": PARAMETERS, **risk})
    vault.hedge_all()
    assert vault.engine.desks["ETH"].holdings["ETH-A"].lots == -90
    return vault


def show(vault: MarginVault, **changes: Any) -> None:
    vault.wait(1.0)
    vault.apply(CounterpartySigns("a", vault.now_ns, vault.now_ns, **{**WELL, **changes}))


def test_a_venue_that_looks_well_is_hedged_at() -> None:
    vault = watched()
    show(vault)
    vault.engine.desks["ETH"].book.coin_cash = 12.0
    assert vault.orders() == {"A": -20}
    assert vault.engine.counterparties.actions["a"] is Action.NONE  # type: ignore[union-attr]


def test_f31_withdrawals_suspended_adds_nothing_moves_the_hedge_and_what_can_leave() -> None:
    route = Route(name="ARB", asset="USD", from_venue="a", to_venue="b", address_label="b", p95_ns=10**12)
    vault = watched(transfers=TransferRules(routes=(route,), day_caps={"USD": 1e7}))
    show(vault, withdrawals="suspended")
    commands = vault.tick()
    assert [one.to_venue for one in commands if isinstance(one, TransferCollateral)] == ["b"]
    assert "withdrawals: suspended" in vault.margin.accounts["a"].banned
    held = vault.hedge_all(rounds=60)
    assert abs(held.get("A", 0)) < 15
    assert sum(held.values()) in range(-110, -80)
    vault.engine.desks["ETH"].book.coin_cash = 14.0
    (intent,) = [one for one in vault.intents() if one.qty_lots < 0]
    assert intent.instrument_id == "ETH-B"


def test_f33_a_fund_that_shrinks_by_a_third_has_legs_moved_away_before_they_are_taken() -> None:
    vault = watched()
    show(vault, fund_quote=6.9e8)
    (intent,) = vault.intents()
    assert (intent.instrument_id, intent.qty_lots) == ("ETH-A", 9)
    assert "insurance fund 31% below its high of 8 hours" in intent.reason
    show(vault, fund_quote=7.5e8)
    vault.hedge_all()
    lots = vault.engine.desks["ETH"].holdings["ETH-A"].lots
    vault.hedge_all()
    assert vault.engine.desks["ETH"].holdings["ETH-A"].lots == lots


def test_a_score_between_stops_adding_only() -> None:
    vault = watched()
    show(vault, withdrawals="slow")
    assert vault.orders() == {}
    vault.engine.desks["ETH"].book.coin_cash = 12.0
    assert vault.orders() == {"B": -20}
    vault.engine.desks["ETH"].book.coin_cash = 5.0
    assert min(vault.orders().values()) > 0


def test_older_signs_and_strangers_change_nothing() -> None:
    vault = watched()
    show(vault)
    board = vault.engine.counterparties
    assert board is not None
    vault.tick()
    vault.apply(CounterpartySigns("a", 1, vault.now_ns, withdrawals="suspended"))
    vault.apply(CounterpartySigns("z", vault.now_ns, vault.now_ns, withdrawals="suspended"))
    vault.tick()
    assert set(board.actions) == {"a"}
    assert board.actions["a"] is Action.NONE
