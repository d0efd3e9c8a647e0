"""Health of an Aave account by its formulas; the deployed contracts are compared where the adapter is tested."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.pricing.aave_v3 import (
    NO_DEBT,
    RAY,
    WAD,
    Debt,
    LendingAccount,
    after_borrowing,
    health_factor_wad,
    is_covered,
    most_borrowable_wei,
    ray_divide,
    ray_multiply,
    share_of,
)

USD = 10**8
ETH = 10**18


def debt_of(eth: float, px: float = 3000.0, index: float = 1.0) -> Debt:
    index_ray = int(index * RAY)
    return Debt(ray_divide(int(eth * ETH), index_ray), index_ray, int(px * USD), ETH)


def account_of(collateral_usd: int, debt: Debt) -> LendingAccount:
    return LendingAccount(collateral_usd * USD, debt.value, 8_000, 8_500)


def test_the_health_factor_is_counted_collateral_over_debt() -> None:
    # 60,000 at 85 % over 10 ETH: at 3,000 it is 1.7, at 4,500 two thirds of that.
    assert health_factor_wad(account_of(60_000, debt_of(10.0))) == 17 * WAD // 10
    risen = health_factor_wad(account_of(60_000, debt_of(10.0, 4500.0)))
    assert risen == pytest.approx(17 * WAD / 15, abs=1)
    assert health_factor_wad(account_of(60_000, debt_of(0.0))) == NO_DEBT


def test_halves_are_rounded_up() -> None:
    assert ray_multiply(1, RAY // 2) == 1
    assert ray_multiply(1, RAY // 2 - 1) == 0
    assert ray_divide(1, 2 * RAY) == 1
    assert ray_divide(1, 2 * RAY + 1) == 0
    assert share_of(1, 5_000) == 1
    assert share_of(1, 4_999) == 0


def test_a_loan_adds_its_value_to_the_debts_and_nothing_else() -> None:
    debt = debt_of(2.0, index=1.05)
    account = LendingAccount(60_000 * USD, debt.value + 1_000 * USD, 8_000, 8_500)
    after = after_borrowing(account, debt, 3 * ETH)
    assert after.debt_value == pytest.approx(account.debt_value + 9_000 * USD, abs=1)
    assert (after.collateral_value, after.threshold_bps) == (account.collateral_value, account.threshold_bps)


def test_a_loan_is_covered_up_to_its_loan_to_value() -> None:
    debt = debt_of(0.0)
    account = account_of(60_000, debt)  # 48,000 may be borrowed: 16 ETH
    assert is_covered(account, debt, 16 * ETH)
    assert not is_covered(account, debt, 16 * ETH + ETH // 100)
    assert not is_covered(LendingAccount(0, 0, 8_000, 8_500), debt, 1)
    assert not is_covered(LendingAccount(USD, 0, 0, 8_500), debt, 1)


@given(
    collateral_usd=st.integers(0, 10**9),
    owed_eth=st.floats(0.0, 1e4),
    px=st.floats(1.0, 1e5),
    index=st.floats(1.0, 2.0),
    floor=st.floats(1.01, 5.0),
)
def test_the_most_that_can_be_borrowed_is_allowed_and_hardly_more_is(
    collateral_usd: int, owed_eth: float, px: float, index: float, floor: float
) -> None:
    debt = debt_of(owed_eth, px, index)
    account, floor_wad = account_of(collateral_usd, debt), int(floor * WAD)
    most = most_borrowable_wei(account, debt, floor_wad)

    def is_allowed(wei: int) -> bool:
        return is_covered(account, debt, wei) and health_factor_wad(after_borrowing(account, debt, wei)) >= floor_wad

    assert most >= 0
    if most:
        assert is_allowed(most)
    # A thousandth of collateral in value, and a cent for rounding, is more than the search ever leaves.
    assert not is_allowed(most + int((collateral_usd / 1000 + 0.01) / px * ETH) + 1)


def test_without_a_price_or_collateral_nothing_can_be_borrowed() -> None:
    debt = debt_of(0.0)
    assert most_borrowable_wei(LendingAccount(0, 0, 8_000, 8_500), debt, WAD) == 0
    assert most_borrowable_wei(account_of(60_000, debt), Debt(0, RAY, 0, ETH), WAD) == 0
