"""Stacks: inverse contracts told from linear ones, and of as much quote money at every price."""

from __future__ import annotations

import numpy as np
import pytest

from bot.risk.book import FUTURE, PERPETUAL, SPOT, Position, RiskBook, build_book
from bot.risk.stack import BookStack, inverse_rows, sized_in_quote


def book() -> RiskBook:
    legs = [
        Position(kind=PERPETUAL, underlying="BTC", qty_base=2.0, money="USDC"),
        Position(kind=PERPETUAL, underlying="BTC", qty_base=2.0, money="BTC"),
        Position(kind=FUTURE, underlying="ETH", qty_base=-3.0, money="ETH", tau_years=0.1, forward_px=110.0),
        Position(kind=SPOT, underlying="BTC", qty_base=5.0, money="BTC"),
    ]
    return build_book(legs, {"BTC": 100.0, "ETH": 100.0})


def test_inverse_contracts_are_those_settled_in_their_own_coin() -> None:
    assert inverse_rows(book()).tolist() == [1, 2]
    assert inverse_rows(book().where(np.array([0]))).tolist() == []


def test_inverse_contracts_keep_their_quote_money_and_nothing_else_changes() -> None:
    before = book()
    prices = np.array([[0.5], [2.0], [0.0]])
    moved = BookStack(before).at(before.spot_px * np.maximum(prices, 1e-6), mark_px=before.mark_px * prices)
    found = sized_in_quote(moved, before)
    worth = found.qty_base[:2] * found.mark_px[:2]
    assert worth[:, 1:3] == pytest.approx(np.tile(before.qty_base[1:3] * before.mark_px[1:3], (2, 1)))
    assert found.qty_base[:, [0, 3]].tolist() == [[2.0, 5.0]] * 3
    assert np.isfinite(found.qty_base).all()  # also where a price is gone
