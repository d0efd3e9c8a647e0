"""Accounts of a snapshot: what is asked of each, what its coins do to it, and how an order would leave it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bot.risk.book import build_book
from bot.risk.margin.registry import evaluate
from bot.runtime.risk.accounts import assets_of
from bot.runtime.risk.snapshot import Told
from tests.runtime.risk_snapshots import CALL, PERP, SPOT_PX, account, accounts, risky_vault, snapshot, values_of
from tests.runtime.vault_files import START_NS


def test_what_no_venue_tells_is_the_models_figure_and_a_quarter_more() -> None:
    found = accounts().of["deribit"]
    asked = evaluate("house", build_book([CALL], {"ETH": SPOT_PX}), values_of("house"))
    assert found.local == (asked.initial, asked.maintenance)
    assert found.figures == pytest.approx((1.25 * asked.initial, 1.25 * asked.maintenance))


def test_what_a_venue_tells_goes_first_and_the_model_says_what_changes() -> None:
    local = accounts().of["deribit"].local
    told = Told(50_000.0, 20_000.0, 15_000.0, local.initial, local.maintenance, START_NS)
    changed = snapshot(accounts=(account("deribit", "house", told=told, equity_quote=50_000.0), snapshot().accounts[1]))
    found = accounts(accounts=changed.accounts).of["deribit"]
    assert found.figures == pytest.approx((20_000.0, 15_000.0))
    half = msgspec.structs.replace(CALL, qty_base=-25.0)
    smaller = found.marks(build_book([half], {"ETH": SPOT_PX})).initial
    asked = evaluate("house", build_book([half], {"ETH": SPOT_PX}), values_of("house"))
    assert smaller == pytest.approx(20_000.0 + asked.initial - local.initial)  # what falls is not raised


def test_coins_posted_move_equity_and_are_no_positions() -> None:
    posted = {"posted": {"ETH": 10.0}, "px": {"ETH": SPOT_PX}, "haircuts": {"ETH": 0.1}}
    coins = account("deribit", "house", equity_quote=56_000.0, **posted)
    found = accounts(accounts=(coins, snapshot().accounts[1])).of["deribit"]
    dollars = accounts().of["deribit"]
    assert found.figures == dollars.figures
    moves = np.array([-0.1])
    (with_coins,), _ = found.health()(moves, 1.0)
    (without,), _ = dollars.health()(moves, 1.0)
    assert with_coins - without == pytest.approx(10.0 * 0.9 * SPOT_PX * -0.1)


def test_an_order_adds_to_what_is_held_and_its_cost_leaves_equity() -> None:
    before = accounts()
    more = msgspec.structs.replace(PERP, qty_base=4.0)
    after = before.with_order(more, 12.0)
    (held,) = [one for one in after.positions if one.instrument_id == "PERP"]
    assert held.qty_base == -6.0
    assert after.of["hyperliquid"].now.equity_quote == 4_988.0
    assert after.of["hyperliquid"].figures.initial == pytest.approx(0.6 * before.of["hyperliquid"].figures.initial)
    assert after.of["deribit"].figures == before.of["deribit"].figures


def test_a_model_that_cannot_answer_has_all_that_is_held_counted() -> None:
    broken = msgspec.structs.replace(CALL, qty_base=float("nan"))
    found = accounts(positions=(broken, PERP)).of["deribit"]
    assert found.requirement.model == "assumed"
    assert not found.figures.initial < float("inf")


def test_the_assets_of_a_vault_are_those_it_names() -> None:
    assert assets_of(risky_vault()) == ["ETH", "USD", "USDC"]
