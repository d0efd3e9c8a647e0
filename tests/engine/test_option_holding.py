from __future__ import annotations

import pytest

from bot.engine.option_holding import NO_ROW, OptionHolding
from tests.engine.option_vault import CALL, MONEY_CALL


def test_what_is_paid_leaves_its_own_ledger() -> None:
    holding = OptionHolding(CALL)
    holding.trade_lots(5, 0.04)
    holding.trade_lots(-2, 0.05)
    assert (holding.lots, holding.qty, holding.px_paid) == (3, 3.0, 0.05)
    assert holding.cash_settle == pytest.approx(-0.1)


def test_coins_are_worth_their_index_and_money_itself() -> None:
    assert OptionHolding(CALL).to_quote(-0.5, 2000.0) == -1000.0
    assert OptionHolding(MONEY_CALL).to_quote(-0.5, 2000.0) == -0.5


def test_only_what_is_held_without_a_row_is_unmarked() -> None:
    holding = OptionHolding(CALL)
    assert not holding.is_unmarked
    holding.trade_lots(-1, 0.04)
    assert holding.row == NO_ROW
    assert holding.is_unmarked
    holding.row = 3
    assert not holding.is_unmarked


def test_at_its_price_it_pays_in_what_it_settles_in_and_is_no_more() -> None:
    for option, payoff in ((CALL, 200.0 / 2300.0), (MONEY_CALL, 200.0)):
        holding = OptionHolding(option)
        holding.trade_lots(-5, 0.05)
        assert holding.payoff_settle(2300.0) == pytest.approx(payoff)
        assert holding.payoff_settle(2000.0) == 0.0
        holding.settle(2300.0)
        assert (holding.lots, holding.cash_settle) == (0, pytest.approx(5 * (0.05 - payoff)))
