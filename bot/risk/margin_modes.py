"""Which margin mode is cheapest at each account, and whether holding everything together would be cheaper still.

Netting is not always cheaper: portfolio margin charges a hedged linear leg for a crash that its hedge pays for only in
part, where cross margin asks for a fixed share. So the mode is compared, never assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from bot.risk.book import RiskBook
from bot.risk.margin.registry import assume_worst
from bot.risk.requirement import Charge, Requirement


class Mode(msgspec.Struct, frozen=True):
    """A way to be margined: its name, what it asks of a book, and what a unit of the answer's money is worth."""

    name: str
    requirement: Callable[[RiskBook], Requirement]
    unit_px: float = 1.0


class ModeCost(msgspec.Struct, frozen=True, gc=False):
    """What a mode asks, in quote money; `refused` says why it cannot be had, and then it counts as infinite."""

    mode: str
    initial_quote: float
    maintenance_quote: float
    refused: str = ""


class AccountModes(msgspec.Struct, frozen=True):
    """The modes of one account, and the cheapest of them by initial margin."""

    account: str
    modes: tuple[ModeCost, ...]
    cheapest: ModeCost


class Capital(msgspec.Struct, frozen=True):
    """Initial margin of the accounts apart, each in its cheapest mode, against all of it together.

    `charge_quote` is what netting is charged beside the requirement, where the caller has worked it out.
    """

    accounts: tuple[AccountModes, ...]
    together: AccountModes
    charge_quote: float

    @property
    def apart_quote(self) -> float:
        """The sum of every account's cheapest mode."""
        return sum(one.cheapest.initial_quote for one in self.accounts)

    @property
    def saved_quote(self) -> float:
        """What holding it together saves; negative where it costs more."""
        return self.apart_quote - self.together.cheapest.initial_quote - self.charge_quote

    @property
    def saved_fraction(self) -> float:
        """The same as a share of what it costs apart."""
        return self.saved_quote / self.apart_quote if self.apart_quote > 0.0 else 0.0

    @property
    def verdict(self) -> str:
        """One sentence on whether to hold it together."""
        apart, together = self.apart_quote, self.together.cheapest.initial_quote + self.charge_quote
        told = f"together in {self.together.cheapest.mode} {together:,.0f}, apart {apart:,.0f}"
        if self.saved_quote > 0.0:
            return f"together is cheaper by {self.saved_fraction:.1%}: {told}"
        return f"keep apart, together costs {-self.saved_fraction:.1%} more: {told}"


def compare_modes(account: str, book: RiskBook, modes: Sequence[Mode]) -> AccountModes:
    """Return what every mode asks of the book. Where none can answer, the whole value is assumed, with the reasons."""
    costs = tuple(_cost(book, mode) for mode in modes)
    possible = [one for one in costs if not one.refused]
    if possible:
        return AccountModes(account, costs, min(possible, key=lambda one: one.initial_quote))
    why = "; ".join(f"{one.mode}: {one.refused}" for one in costs) or "no margin mode is known"
    worst = assume_worst(book, why)
    assumed = ModeCost("assumed", worst.initial, worst.maintenance, why)
    return AccountModes(account, (*costs, assumed), assumed)


def compare_capital(
    book: RiskBook, modes: Mapping[str, Sequence[Mode]], together: Sequence[Mode], charge_quote: float = 0.0
) -> Capital:
    """Return the capital of the book's accounts apart, `modes` by account, and of the whole book in `together`."""
    held = [book.accounts[number] for number in np.unique(book.account).tolist()]
    accounts = tuple(compare_modes(one, book.of_account(one), modes.get(one, ())) for one in held)
    return Capital(accounts, compare_modes("together", book, together), charge_quote)


def isolated(name: str, requirement: Callable[[RiskBook], Requirement]) -> Mode:
    """Return the mode in which every position stands alone under the same rules: slow, for comparing."""

    def alone(book: RiskBook) -> Requirement:
        found = [requirement(book.where(np.array([row]))) for row in range(len(book))]
        charges = tuple(
            Charge(book.instrument_ids[row], one.initial, one.maintenance, one.worst) for row, one in enumerate(found)
        )
        money = found[0].money if found else "quote"
        initial = sum(one.initial for one in found)
        return Requirement(name, money, initial, sum(one.maintenance for one in found), charges)

    return Mode(name, alone)


def _cost(book: RiskBook, mode: Mode) -> ModeCost:
    try:
        found = mode.requirement(book)
    except ValueError as error:
        return ModeCost(mode.name, np.inf, np.inf, str(error))
    return ModeCost(mode.name, *found.in_quote(mode.unit_px))
