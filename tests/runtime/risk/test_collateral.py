"""The collateral plan of a vault: the engine's own problem, solved, told where it falls short, and as instructions."""

from __future__ import annotations

from math import nan
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.domain.errors import ConfigError
from bot.risk.collateral.problem import (
    Acceptance,
    Asset,
    CollateralProblem,
    Holding,
    Need,
    Route,
    Venue,
    Wallet,
)
from bot.runtime.risk.accounts import Accounts
from bot.runtime.risk.collateral import build_collateral, write_instructions
from bot.runtime.risk.snapshot import Posed
from tests.runtime.risk_snapshots import ROUTES, account, accounts, risky_vault, snapshot

ROUTE = "ERC20: USDC treasury → deribit"


def problem(needed_quote: float, **changes: Any) -> CollateralProblem:
    """Return a venue with 10,000 dollars that needs so much, before a buffer of a quarter, and a wallet with 50,000."""
    usual: dict[str, Any] = {
        "assets": (Asset(name="USD", px=1.0), Asset(name="USDC", px=1.0)),
        "venues": (Venue(name="deribit"),),
        "wallets": (Wallet(name="treasury", chain=""),),
        "acceptances": tuple(Acceptance(venue="deribit", asset=one, px=1.0) for one in ("USD", "USDC")),
        "holdings": (Holding("deribit", "USD", 10_000.0), Holding("treasury", "USDC", 50_000.0)),
        "needs": (Need(venue="deribit", maintenance_quote=(needed_quote,), pnl_quote=(0.0,), by_s=900.0),),
        "routes": (
            Route(
                name=ROUTE,
                asset="USDC",
                from_place="treasury",
                to_place="deribit",
                carrier="ERC20",
                fixed_fee=8.0,
                delay_p50_s=450.0,
                delay_p95_s=900.0,
            ),
        ),
    }
    return CollateralProblem(**{**usual, **changes})


def posed(one: CollateralProblem, **changes: Any) -> Accounts:
    told = Posed(problem=one, buffer_ratio=1.25, buffer_reason="a test", time_limit_s=1.0)
    return accounts(risky_vault(transfers=ROUTES), collateral=told, **changes)


def test_what_is_sent_is_what_is_missing_and_the_fee(tmp_path: Path) -> None:
    view = build_collateral(posed(problem(16_000.0)))
    (sent,) = view.plan.transfers
    assert sent.amount == pytest.approx(1.25 * 16_000.0 - 10_000.0 + 8.0)
    assert view.needs_quote == {"deribit": 20_000.0}
    assert view.plan.is_met
    (told,) = view.instructions
    assert (told.route, told.address, told.network, told.tag) == ("ERC20", "0xaa", "ERC20", "7")
    assert told.amount == sent.amount
    write_instructions(view.instructions, tmp_path / "plan.jsonl")
    (line,) = (tmp_path / "plan.jsonl").read_bytes().splitlines()
    assert msgspec.json.decode(line)["transfer_id"] == told.transfer_id


def test_what_cannot_be_met_is_the_smallest_violation_by_name() -> None:
    view = build_collateral(posed(problem(80_000.0)))
    assert not view.plan.is_met
    assert {one.venue for one in view.plan.violations} == {"deribit"}
    assert max(one.short_quote for one in view.plan.violations) == pytest.approx(100_000.0 - 59_992.0)


def test_what_was_assumed_and_what_is_left_out_is_said() -> None:
    lost = account("hyperliquid", "hyperliquid", unknown="no marks", equity_quote=nan)
    view = build_collateral(posed(problem(1.0), accounts=(snapshot().accounts[0], lost)))
    assert any(note.startswith("what treasury holds is not known: 50,000 USDC") for note in view.notes)
    assert "hyperliquid is left out: no marks" in view.notes
    bare = build_collateral(posed(problem(1.0, routes=(), wallets=(), holdings=(Holding("deribit", "USD", 1e4),))))
    assert "no route leads to an account: nothing can be moved (risk.transfers.routes)" in bare.notes


def test_without_a_problem_there_is_no_plan_and_a_wrong_one_is_one_error() -> None:
    with pytest.raises(ConfigError, match="expected a collateral problem, found none"):
        build_collateral(accounts())
    with pytest.raises(ConfigError, match="expected a venue that is listed"):
        build_collateral(posed(problem(1.0, venues=())))
