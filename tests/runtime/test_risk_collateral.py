"""The collateral problem of a vault: its needs, what may be moved, and a plan that says where it falls short."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bot.risk.distances import move_book
from bot.runtime.risk_collateral import STRESS_BUFFER, build_collateral, build_problem, write_instructions
from tests.runtime.risk_snapshots import ROUTES, SPOT_PX, account, accounts, risky_vault, snapshot

POOR = account("deribit", "house", equity_quote=30_000.0, posted={"USD": 34_000.0})
SHORT_OF_MONEY = (POOR, snapshot().accounts[1])


def test_the_need_is_the_target_as_it_is_and_margin_with_a_quarter_more_after_a_shock() -> None:
    found = accounts()
    one = found.of["deribit"]
    problem, _ = build_problem(found)
    need = next(need for need in reversed(problem.needs) if need.venue == "deribit")
    assert need.maintenance_quote[0] == pytest.approx(max(one.figures.maintenance / 0.5, one.figures.initial / 0.9))
    up = move_book(one.book, 0.12, 1.4)
    place = problem.scenarios.index("up, vol up")
    assert need.maintenance_quote[place] == pytest.approx(STRESS_BUFFER * one.maintenance(up))
    assert need.pnl_quote[place] == pytest.approx(float(one.book.qty_base @ (up.mark_px - one.book.mark_px)))
    assert problem.multipliers["USD"] == (1.0,) * 5
    assert next(v for v in problem.venues if v.name == "deribit").unrealised_quote == pytest.approx(-4_000.0)


def test_without_a_route_the_smallest_violation_is_named() -> None:
    view = build_collateral(accounts(accounts=SHORT_OF_MONEY))
    assert not view.plan.is_met
    assert view.plan.transfers == ()
    assert all(one.venue == "deribit" and "no route leads there" in one.text for one in view.plan.violations)
    assert "no route leads to an account: nothing can be moved (risk.transfers.routes)" in view.notes


def test_over_the_routes_of_the_vault_the_need_is_met_at_the_least_cost(tmp_path: Path) -> None:
    found = accounts(risky_vault(transfers=ROUTES), accounts=SHORT_OF_MONEY)
    view = build_collateral(found)
    assert view.plan.is_met
    assert view.plan.is_proven
    assert {one.from_place for one in view.plan.transfers} == {"treasury"}
    # what is posted afterwards covers every need, counted again by hand as it is
    counted = sum(one.counted_quote for one in view.plan.postings if one.venue == "deribit")
    assert counted - 4_000.0 >= view.needs_quote["deribit"] - 0.01
    (first, *_) = view.instructions
    assert (first.address, first.network, first.tag) == ("0xaa", "ERC20", "7")
    write_instructions(view.instructions, tmp_path / "plan.jsonl")
    lines = (tmp_path / "plan.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(one)["transfer_id"] for one in lines] == [one.transfer_id for one in view.instructions]


def test_what_a_wallet_holds_is_taken_to_be_the_days_cap_and_that_is_said() -> None:
    found = accounts(risky_vault(transfers=ROUTES))
    problem, notes = build_problem(found)
    held = {one.asset: one.amount for one in problem.holdings if one.place == "treasury"}
    assert held == {"USDC": 50_000.0, "ETH": 20.0}
    assert "what treasury holds is not known: the day's cap of 20 ETH is taken" in notes
    assert next(one.px for one in problem.assets if one.name == "ETH") == SPOT_PX


def test_a_vaults_own_shocks_are_what_it_must_withstand() -> None:
    section = {"classes": {"major": {"price_shock_fraction": 0.3}}}
    usual, _ = build_problem(accounts())
    hard, _ = build_problem(accounts(risky_vault(asset_classes=section)))
    assert min(hard.needs[-3].pnl_quote) < min(usual.needs[-3].pnl_quote)


def test_an_account_nobody_knows_is_left_out_and_named() -> None:
    lost = account("deribit", "house", unknown="no marks", equity_quote=float("nan"))
    view = build_collateral(accounts(accounts=(lost, snapshot().accounts[1])))
    assert "deribit is left out: no marks" in view.notes
    assert list(view.needs_quote) == ["hyperliquid"]
