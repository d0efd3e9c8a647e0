"""What Aave v3 says of one account and one token it borrows, block by block, and what that allows.

Only the Pool's address is given: it names its token contracts and its registry, which names the oracle, so the first
two blocks only find the way. Everything is read again with every block, as governance may change any of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from bot.gateways.chain.abi import BALANCE_OF, Function, Undecodable, address_at, uint_at
from bot.gateways.chain.nouns import Read
from bot.pricing.aave_v3 import NO_DEBT, WAD, Debt, LendingAccount, health_factor_wad, most_borrowable_wei

_RESERVE = Function("getReserveData(address)")
_PROVIDER = Function("ADDRESSES_PROVIDER()", "(address)")
_ORACLE = Function("getPriceOracle()", "(address)")
_INDEX = Function("getReserveNormalizedVariableDebt(address)", "(uint256)")
_ACCOUNT = Function("getUserAccountData(address)")
_PRICE = Function("getAssetPrice(address)", "(uint256)")
_SCALED = Function("scaledBalanceOf(address)", "(uint256)")
_TOTAL = Function("totalSupply()", "(uint256)")
_CREDIT = Function("borrowAllowance(address,address)", "(uint256)")

# Where things are in the reserve's data, by word, and in its first word, the configuration, by bit.
_A_TOKEN_WORD: Final = 8
_DEBT_TOKEN_WORD: Final = 10
_DECIMALS_BIT: Final = 48
_CAP_BIT: Final = 80
_CAP_BITS: Final = 36
_MUST_BE_SET: Final = {56: "the reserve is not active", 58: "the token cannot be borrowed"}
_MUST_NOT_BE_SET: Final = {57: "the reserve is frozen", 60: "the reserve is paused"}


class Lending(msgspec.Struct, frozen=True):
    """The account over all its reserves, its debt in one token, and what limits a loan of more."""

    account: LendingAccount
    debt: Debt
    hindrance: str  # why nothing can be borrowed at all, "" if it can
    liquidity_wei: int
    cap_left_wei: int
    credit_wei: int

    @property
    def health_factor(self) -> float:
        """The health factor as a plain number, infinity without debt."""
        wad = health_factor_wad(self.account)
        return math.inf if wad == NO_DEBT else wad / WAD

    def most_wei(self, floor_wad: int) -> int:
        """Return how much can be borrowed with the health factor staying at or above a floor."""
        if self.hindrance:
            return 0
        by_account = most_borrowable_wei(self.account, self.debt, floor_wad)
        return min(by_account, self.liquidity_wei, self.cap_left_wei, self.credit_wei)


class LendingWatch:
    """Watches an account's debt in one token, and the credit it has delegated to somebody."""

    def __init__(self, pool: str, token: str, owner: str, delegate: str) -> None:
        self.lending: Lending | None = None
        self.debt_token = ""
        self._pool, self._token, self._owner, self._delegate = pool, token, owner, delegate
        self._a_token = self._provider = self._oracle = ""
        self._wanted = self._reads_by_name()

    @property
    def reads(self) -> tuple[Read, ...]:
        """What to read with the next block."""
        return tuple(self._wanted.values())

    @property
    def credit_read(self) -> Read:
        """What tells the credit delegated, once the debt token is known."""
        return _CREDIT.read(self.debt_token, self._owner, self._delegate)

    def _reads_by_name(self) -> dict[str, Read]:
        wanted = {
            "reserve": _RESERVE.read(self._pool, self._token),
            "provider": _PROVIDER.read(self._pool),
            "index": _INDEX.read(self._pool, self._token),
            "account": _ACCOUNT.read(self._pool, self._owner),
        }
        if self.debt_token:
            wanted |= {
                "held": BALANCE_OF.read(self._token, self._a_token),
                "scaled": _SCALED.read(self.debt_token, self._owner),
                "total": _TOTAL.read(self.debt_token),
                "credit": self.credit_read,
            }
        if self._provider:
            wanted["oracle"] = _ORACLE.read(self._provider)
        if self._oracle:
            wanted["price"] = _PRICE.read(self._oracle, self._token)
        return wanted

    def update(self, answers: Sequence[bytes | None]) -> None:
        """Take in the answers to `reads`; one that is missing, or cannot be, leaves no usable state."""
        self.lending = None
        try:
            self._take(answers)
        except Undecodable:
            self._wanted = self._reads_by_name()

    def _take(self, answers: Sequence[bytes | None]) -> None:
        told = {name: answer for name, answer in zip(self._wanted, answers, strict=True) if answer}
        is_whole = bool(self._oracle) and len(told) == len(answers)
        before = (self._a_token, self.debt_token, self._provider, self._oracle)
        if "reserve" in told:
            self._a_token = address_at(told["reserve"], _A_TOKEN_WORD)
            self.debt_token = address_at(told["reserve"], _DEBT_TOKEN_WORD)
        self._provider = address_at(told["provider"], 0) if "provider" in told else self._provider
        oracle = address_at(told["oracle"], 0) if "oracle" in told else ""
        is_whole = is_whole and oracle == self._oracle  # else the price is that of an oracle that is no more
        self._oracle = oracle
        if before != (self._a_token, self.debt_token, self._provider, self._oracle):
            self._wanted = self._reads_by_name()
        self.lending = _lending(told) if is_whole else None


def _lending(told: Mapping[str, bytes]) -> Lending:
    configuration = uint_at(told["reserve"], 0)
    unit_wei = 10 ** (configuration >> _DECIMALS_BIT & 0xFF)
    cap_wei = (configuration >> _CAP_BIT & ((1 << _CAP_BITS) - 1)) * unit_wei
    hindrances = [why for bit, why in _MUST_BE_SET.items() if not configuration >> bit & 1]
    hindrances += [why for bit, why in _MUST_NOT_BE_SET.items() if configuration >> bit & 1]
    held_wei, index_ray = uint_at(told["held"], 0), uint_at(told["index"], 0)
    if not index_ray:
        raise Undecodable("expected an index of debts, found 0")
    account = told["account"]
    return Lending(
        LendingAccount(uint_at(account, 0), uint_at(account, 1), uint_at(account, 4), uint_at(account, 3)),
        Debt(uint_at(told["scaled"], 0), index_ray, uint_at(told["price"], 0), unit_wei),
        " and ".join(hindrances),
        held_wei,
        max(0, cap_wei - uint_at(told["total"], 0)) if cap_wei else held_wei,
        uint_at(told["credit"], 0),
    )
