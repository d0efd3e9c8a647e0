"""Stress of a snapshot: the map agrees with margin now, the plan is the policy's, dollars do not move with prices."""

from __future__ import annotations

import numpy as np
import pytest

from bot.risk.distances import move_book
from bot.runtime.risk.stress import MOVES, VOLS, build_stress, heat_of, instruments_of
from tests.runtime.risk_snapshots import CALL, PERP, SPOT_PX, account, accounts, snapshot, tradable

NOW = (VOLS.index(0.0), MOVES.index(0.0))


def test_in_the_middle_of_the_map_nothing_happened() -> None:
    found = accounts()
    heat = heat_of(found)
    uses = [one.figures.maintenance / one.now.equity_quote for one in found.of.values()]
    assert heat.pnl_quote[NOW[0]][NOW[1]] == pytest.approx(0.0, abs=1e-6)
    assert heat.use_ratio[NOW[0]][NOW[1]] == pytest.approx(max(uses), rel=1e-3)


def test_along_a_move_the_map_is_what_repricing_says() -> None:
    found = accounts()
    heat = heat_of(found)
    moved = move_book(found.book, 0.2)
    pnl = float(found.book.qty_base @ (moved.mark_px - found.book.mark_px))
    assert heat.pnl_quote[NOW[0]][MOVES.index(0.2)] == pytest.approx(pnl)
    grid = np.array(heat.pnl_quote)
    assert (np.diff(grid[:, MOVES.index(0.0)]) < 0.0).all()  # vol sold loses as vol rises


def test_the_map_moves_coins_and_no_dollars() -> None:
    coins = account("deribit", "house", equity_quote=60_000.0, posted={"ETH": 30.0}, px={"ETH": SPOT_PX})
    other = snapshot().accounts[1]
    down = MOVES.index(-0.1)
    with_coins = heat_of(accounts(accounts=(coins, other))).pnl_quote[NOW[0]][down]
    in_dollars = heat_of(accounts()).pnl_quote[NOW[0]][down]
    assert with_coins - in_dollars == pytest.approx(30.0 * SPOT_PX * -0.1)


def test_hours_gone_by_are_worth_their_theta() -> None:
    assert heat_of(accounts(), 72.0).pnl_quote[NOW[0]][NOW[1]] > heat_of(accounts()).pnl_quote[NOW[0]][NOW[1]] + 200.0


def test_every_scenario_says_what_is_left_and_what_would_be_hedged() -> None:
    found = accounts()
    view = build_stress(found)
    assert [one.result.scenario.name for one in view.scenarios][:3] == [
        "2020-03-12",
        "2020-03-13 low",
        "2022-11-08 FTX",
    ]
    crash = view.scenarios[0]
    assert crash.result.equity_before_quote == pytest.approx(61_000.0)
    assert crash.result.pnl_quote == pytest.approx(crash.result.equity_after_quote - crash.result.equity_before_quote)
    (hedge,) = crash.plan
    assert hedge.instrument_id == "PERP"
    assert hedge.trade_base > 0.0  # the call is worthless, the perpetual is still short
    ftx = view.scenarios[2].result
    assert [one.account for one in ftx.accounts if one.is_gone] == ["deribit"]


def test_what_hedges_is_what_the_vault_hedges_with() -> None:
    dear = tradable(PERP, cost_px=4.0)
    (found,) = instruments_of(accounts(tradables=(tradable(CALL), dear)))
    assert (found.instrument_id, found.cost_rate, found.lot_base) == ("PERP", 4.0 / SPOT_PX, 0.1)
