"""Why Aave v3, the swap router or our executor reverts, in words."""

from __future__ import annotations

from typing import Final

from bot.gateways.chain import abi

# Aave's numbered reasons, the custom error that later versions have instead, and what it means for us.
REASONS: Final = {
    "26": ("InvalidAmount", "the amount is zero"),
    "27": ("ReserveInactive", "the reserve is not active"),
    "28": ("ReserveFrozen", "the reserve is frozen: no new loans"),
    "29": ("ReservePaused", "the reserve is paused"),
    "30": ("BorrowingNotEnabled", "the token cannot be borrowed"),
    "34": ("CollateralBalanceIsZero", "the account has no collateral"),
    "35": ("HealthFactorLowerThanLiquidationThreshold", "the health factor would be below 1"),
    "36": ("CollateralCannotCoverNewBorrow", "the collateral does not cover the new loan"),
    "39": ("NoDebtOfSelectedType", "there is no such debt to repay"),
    "40": ("NoExplicitAmountToRepayOnBehalf", "an exact amount is needed to repay for somebody else"),
    "50": ("BorrowCapExceeded", "the reserve's borrow cap is reached"),
    "53": ("DebtCeilingExceeded", "the collateral's debt ceiling is reached"),
    "57": ("LtvValidationFailed", "collateral without loan-to-value stands in the way"),
    "59": ("PriceOracleSentinelCheckFailed", "the sequencer was down and its grace time is not over"),
    "60": ("AssetNotBorrowableInIsolation", "the token cannot be borrowed against isolated collateral"),
    "89": ("SiloedBorrowingViolation", "a siloed token is borrowed alone or not at all"),
}
_NAMED: Final = {abi.selector(name + "()"): (name, words) for name, words in REASONS.values()}
_TOKEN_ERRORS: Final = (
    "ERC20InsufficientBalance(address,uint256,uint256)",
    "ERC20InsufficientAllowance(address,uint256,uint256)",
)
# The router's "STF" is a token that could not be collected: of a purchase of our executor, which holds exactly as much
# quote as the order's limit allows, it says that more was wanted.
_MISSES: Final = ("Too little received", "Too much requested", "STF", "Transaction too old", "deadline is over")
_OVERFLOW: Final = "panic 0x11"


def explain(data: bytes) -> str:
    """Return the reason of a revert in words."""
    if data in _NAMED:
        name, words = _NAMED[data]
        return f"Aave {name}: {words}"
    said = abi.explain_revert(data, _TOKEN_ERRORS)
    if said in REASONS:
        return f"Aave {said}: {REASONS[said][1]}"
    if said == "STF":
        return "STF: a purchase would cost more than its limit"
    if said.startswith(_OVERFLOW):
        return f"{said}; hint: Aave says so where less credit is delegated to the executor than is borrowed"
    return said


def is_price_miss(data: bytes) -> bool:
    """Tell whether only the limit or the deadline stood in the way."""
    return abi.explain_revert(data) in _MISSES
