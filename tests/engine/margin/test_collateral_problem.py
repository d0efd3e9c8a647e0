"""The problem that the engine poses: equity as it is reckoned, needs by the account's own model, open routes alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bot.domain.risk import CollateralPrice, TransferState
from bot.engine.margin.collateral_problem import Posing, route_name, scenarios_of
from bot.engine.margin.risk_settings import CollateralRules
from bot.risk.collateral.problem import CollateralProblem, Need
from tests.engine.collateral_vault import DELAY_NS, FEE, ROUTES, CollateralVault, route
from tests.engine.margin_vault import INITIAL_SHARE


def posed(usd: dict[str, float] | None = None, **rules: Any) -> tuple[CollateralVault, CollateralProblem]:
    """Return a vault that is hedged at A, and the problem it poses then."""
    vault = CollateralVault(usd or {"a": 20_000.0, "b": 30_000.0}, **rules)
    for _ in range(3):
        vault.run()
    vault.reply()
    vault.run(301.0)
    return vault, vault.problem


def needs_of(problem: CollateralProblem, venue: str) -> list[Need]:
    return [one for one in problem.needs if one.venue == venue]


def test_collateral_and_the_rest_are_the_equity_that_is_reckoned() -> None:
    vault, problem = posed()
    account = vault.margin.accounts["a"]
    (venue,) = [one for one in problem.venues if one.name == "a"]
    held = {(one.place, one.asset): one.amount for one in problem.holdings}
    assert held["a", "USD"] == pytest.approx(20_000.0)
    assert held["a", "USD"] + venue.unrealised_quote == pytest.approx(account.equity_quote)
    assert held["wallet", "USDC"] == 50_000.0


def test_needs_are_those_of_the_model_now_and_after_each_move() -> None:
    vault, problem = posed(moves=(-0.1, 0.2))
    account = vault.margin.accounts["a"]
    held = vault.engine.desks["ETH"].holdings["ETH-A"]
    coins = held.lots * 0.1
    assert coins == pytest.approx(-10.0, abs=1.1)
    now, later = needs_of(problem, "a")
    assert problem.scenarios == ("as it is", "-10%", "+20%")
    assert (now.by_s, later.by_s) == (0.0, 3600.0)
    buffers = vault.margin.buffers
    assert buffers is not None
    ahead_quote = buffers.required_quote("a")  # what a bad move until a transfer has arrived may leave
    assert ahead_quote > problem.buffer * account.figures.maintenance * 0.9
    assert problem.buffer * now.maintenance_quote[0] == pytest.approx(
        max(problem.buffer * account.figures.maintenance, account.figures.initial / 0.9, ahead_quote)
    )
    assert now.maintenance_quote[1:] == (0.0, 0.0)
    px = 2000.0
    assert later.pnl_quote == pytest.approx((0.0, -0.1 * coins * px, 0.2 * coins * px), rel=0.01)
    asked = account.figures.maintenance
    assert later.maintenance_quote[1:] == pytest.approx((0.9 * asked, 1.2 * asked), rel=0.01)
    assert asked == pytest.approx(1.25 * 0.8 * INITIAL_SHARE * px * -coins, rel=0.02)


def test_what_is_short_already_is_needed_once_anything_can_be_there() -> None:
    vault, _ = posed()
    vault.reply()
    vault.drain_equity("a", 0.85)
    vault.run(11.0)
    now, _ = needs_of(vault.problem, "a")
    assert now.by_s == DELAY_NS / 1e9
    wanted = vault.margin.accounts["a"].figures.maintenance / 0.5
    assert vault.problem.buffer * now.maintenance_quote[0] == pytest.approx(wanted)


def test_coins_fall_with_the_scenario_and_money_does_not() -> None:
    coins = msgspec.structs.replace(ROUTES[0], asset="ETH", fee=0.001)
    vault, problem = posed(routes=(*ROUTES, coins), caps={"USD": 1e6, "USDC": 1e6, "ETH": 100.0})
    accepted = {(one.venue, one.asset): one for one in problem.acceptances}
    assert accepted["a", "ETH"].multipliers == pytest.approx((1.0, 0.84, 0.92, 1.08, 1.16))
    assert accepted["a", "USDC"].multipliers == pytest.approx((1.0,) * 5)
    assert accepted["a", "ETH"].px == pytest.approx(2000.0, rel=0.01)
    vault.apply(CollateralPrice("a", "USDC", 0.87, vault.now_ns, vault.now_ns))
    vault.run(301.0)
    assert {one.asset: one.px for one in vault.problem.acceptances if one.venue == "a"}["USDC"] == 0.87


def test_only_open_routes_are_in_it() -> None:
    other = route("USDC", "wallet", name="ETH")
    vault, problem = posed({"a": 1_500.0, "b": 0.0}, routes=(*ROUTES, other), moves=(0.02,))
    assert {one.name for one in problem.routes} == {route_name(one) for one in (*ROUTES, other)}
    (first,) = [one for one in problem.routes if one.carrier == "ETH"]
    assert (first.fixed_fee, first.least, first.delay_p95_s, first.most) == (FEE, 100.0, 600.0, 1e6)
    vault.reply()
    vault.run()
    (sent,) = vault.sent
    assert sent.asset == "USDT"
    vault.tell(sent, TransferState.SENT)
    vault.run(301.0)
    assert "USDT" not in {one.asset for one in vault.problem.routes}
    (pending,) = vault.problem.pending
    assert (pending.to_place, pending.amount) == ("a", pytest.approx(sent.amount - FEE))
    assert pending.arrives_s == pytest.approx(600.0 - 301.0, abs=1.0)
    left = {(one.place, one.asset): one.amount for one in vault.problem.holdings}
    assert left["wallet", "USDT"] == pytest.approx(50_000.0 - sent.amount)


def test_what_no_transfer_brings_any_more_is_lent_and_no_collateral() -> None:
    vault, _ = posed({"a": 1_500.0, "b": 0.0}, moves=(0.02,))
    vault.reply()
    vault.run()
    vault.tell(vault.sent[0], TransferState.SENT)
    vault.run(700.0)
    (late,) = vault.problem.pending
    assert late.arrives_s == 600.0  # as long once more
    vault.reply()
    vault.run(600.0)
    vault.reply()
    vault.run(11.0)
    (overdue,) = vault.problem.pending
    assert overdue.arrives_s > 1e8
    assert [one for one in vault.problem.routes if one.asset == "USDT"] == []


def test_an_account_of_which_nothing_is_known_is_left_out() -> None:
    vault, _ = posed()
    vault.margin.accounts["b"].unknown = "no marks"
    risk, top_ups = vault.engine.settings.risk, vault.engine.top_ups
    assert risk is not None
    assert top_ups is not None
    problem = Posing(vault.margin, top_ups, None, risk, vault.now_ns, 1.25).problem()
    assert [one.name for one in problem.venues] == ["a"]
    assert {one.from_place for one in problem.routes} == {"wallet"}
    assert {one.venue for one in problem.needs} == {"a"}


def test_caps_and_shares_are_those_of_the_vault() -> None:
    _, problem = posed(caps={"USD": 1e6, "USDC": 1e6, "USDT": 1e6}, venue_share=0.5, concentration={"USDC": 0.4})
    (a,) = [one for one in problem.venues if one.name == "a"]
    worth = sum(one.amount for one in problem.holdings) + sum(one.unrealised_quote for one in problem.venues)
    assert a.cap_quote == pytest.approx(0.5 * worth)
    assert {one.asset: one.share for one in problem.acceptances if one.venue == "a"}["USDC"] == 0.4


def test_money_keeps_its_worth_in_every_plain_move() -> None:
    scenario = scenarios_of(CollateralRules(moves=(-0.3,)))[0]
    assert (scenario.name, scenario.other_move, scenario.moves["USDC"], scenario.moves["USD"]) == ("-30%", -0.3, 0, 0)
