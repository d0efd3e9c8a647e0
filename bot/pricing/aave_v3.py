"""Debts and health of an Aave v3 account before and after a loan, in whole numbers rounded as the contracts round.

Values are in the oracle's money with its decimals (eight), shares in basis points, indices in rays (27 decimals) and
health factors in wads (18 decimals).

Source: Aave v3 technical paper (2022), sections on scaled balances and the health factor; the half-up rounding is that
of WadRayMath and PercentageMath.
"""

import msgspec

WAD = 10**18
RAY = 10**27
BPS_OF_ONE = 10_000
NO_DEBT = (1 << 256) - 1


class LendingAccount(msgspec.Struct, frozen=True, gc=False):
    """An account over all reserves: collateral, debts, and what share of collateral may be borrowed and what counts."""

    collateral_value: int
    debt_value: int
    loan_to_value_bps: int
    threshold_bps: int


class Debt(msgspec.Struct, frozen=True, gc=False):
    """A variable debt in one token: its scaled balance, the reserve's index, the oracle's price and one whole token."""

    scaled_wei: int
    index_ray: int
    price_value: int
    unit_wei: int

    @property
    def wei(self) -> int:
        """The debt with interest up to the index."""
        return ray_multiply(self.scaled_wei, self.index_ray)

    @property
    def value(self) -> int:
        """The debt in the oracle's money."""
        return self.wei * self.price_value // self.unit_wei

    def borrowed(self, wei: int) -> "Debt":
        """Return the debt after borrowing as much on top."""
        return Debt(self.scaled_wei + ray_divide(wei, self.index_ray), self.index_ray, self.price_value, self.unit_wei)


def ray_multiply(first: int, second: int) -> int:
    """Return the product of a number and one in rays, rounded half up."""
    return (first * second + RAY // 2) // RAY


def ray_divide(numerator: int, denominator: int) -> int:
    """Return the quotient by a number in rays, rounded half up."""
    return (numerator * RAY + denominator // 2) // denominator


def share_of(value: int, bps: int) -> int:
    """Return a share of a value, rounded half up."""
    return (value * bps + BPS_OF_ONE // 2) // BPS_OF_ONE


def health_factor_wad(account: LendingAccount) -> int:
    """Return counted collateral over debts: below 1e18 the account may be liquidated. NO_DEBT without any."""
    if not account.debt_value:
        return NO_DEBT
    counted = share_of(account.collateral_value, account.threshold_bps)
    return (counted * WAD + account.debt_value // 2) // account.debt_value


def after_borrowing(account: LendingAccount, debt: Debt, wei: int) -> LendingAccount:
    """Return the account after it borrowed as much of the debt's token, at the same prices."""
    debt_value = account.debt_value - debt.value + debt.borrowed(wei).value
    return LendingAccount(account.collateral_value, debt_value, account.loan_to_value_bps, account.threshold_bps)


def is_covered(account: LendingAccount, debt: Debt, wei: int) -> bool:
    """Tell whether the collateral covers a new loan at its loan-to-value, which is what the pool asks of a borrower."""
    if not account.loan_to_value_bps or not account.collateral_value:
        return False
    needed = account.debt_value + wei * debt.price_value // debt.unit_wei
    ltv_bps = account.loan_to_value_bps
    return (needed * BPS_OF_ONE + ltv_bps // 2) // ltv_bps <= account.collateral_value


def most_borrowable_wei(account: LendingAccount, debt: Debt, floor_health_wad: int) -> int:
    """Return how much can be borrowed with the health factor at or above the floor and the collateral covering it.

    From the continuous formulas and then made smaller until the exact ones agree; never too large.
    """
    if not debt.price_value or not account.collateral_value:
        return 0
    by_health = share_of(account.collateral_value, account.threshold_bps) * WAD // floor_health_wad
    by_cover = share_of(account.collateral_value, account.loan_to_value_bps)
    wei = max(0, min(by_health, by_cover) - account.debt_value) * debt.unit_wei // debt.price_value
    slack = max(1, debt.unit_wei // debt.price_value)  # what one unit of the oracle's money buys
    while wei > 0 and not (
        is_covered(account, debt, wei) and health_factor_wad(after_borrowing(account, debt, wei)) >= floor_health_wad
    ):
        wei, slack = wei - slack, slack * 2
    return max(0, wei)
