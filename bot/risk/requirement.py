"""What a margin model answers: initial and maintenance margin, item by item, and what they are measured against."""

from __future__ import annotations

import msgspec


class Charge(msgspec.Struct, frozen=True, gc=False):
    """One item of a requirement in the model's money: what it adds to initial and to maintenance margin."""

    name: str
    initial: float
    maintenance: float
    detail: str = ""


class Requirement(msgspec.Struct, frozen=True):
    """Initial and maintenance margin of an account, in `money` (a coin for models that count in one).

    The charges explain them; they add up where the model adds, and `worst` names the scenario that decided where it
    takes the worst of several, with `scenario_pnl` the P&L of each in `money` before any factor.
    """

    model: str
    money: str
    initial: float
    maintenance: float
    charges: tuple[Charge, ...] = ()
    worst: str = ""
    scenario_names: tuple[str, ...] = ()
    scenario_pnl: tuple[float, ...] = ()

    def charge(self, name: str) -> Charge:
        """Return the charge of that name. Raises KeyError where there is none."""
        for one in self.charges:
            if one.name == name:
                return one
        raise KeyError(name)

    def in_quote(self, px: float) -> tuple[float, float]:
        """Return initial and maintenance margin in quote money, where a unit of `money` is worth `px`."""
        return self.initial * px, self.maintenance * px
