"""What every hedge policy shares: a frozen, validated model with one pure method.

A policy must never do IO, read a clock, draw a random number or remember anything: all it knows is its parameters and
the view. It answers a damaged view (NaN, no spot) with `HedgeTarget.hold`, never with a trade.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import isfinite
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from bot.domain.decisions import HedgeTarget, HedgeView

NOT_TRADABLE = "holding: target or lot of the view is not a usable number"


class Policy(BaseModel, ABC):
    """A hedge policy; satisfies `bot.domain.decisions.HedgePolicy`.

    Subclasses add `type: Literal[<registered name>]` and their parameters. `starting_values` are the parameters a
    comparison uses when it names the policy without any; a vault must spell its own out. Of `alternatives` one is
    given, so naming one replaces another.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    type: str
    starting_values: ClassVar[dict[str, str]] = {}
    alternatives: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def starting_values_for(cls, gross_base: float | None) -> dict[str, str]:
        """Return `starting_values`, fitted to a book of `gross_base` where they are sizes; None: as they stand."""
        del gross_base
        return dict(cls.starting_values)

    @property
    def name(self) -> str:
        """The policy's registered name."""
        return self.type

    @property
    def needs_offers(self) -> bool:
        """Whether it may ask for options to be traded; False but for policies that say otherwise."""
        return False

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters as text, those of a section as `section.key`; those that are not set are left out."""
        found: dict[str, str] = {}
        for key, value in self.model_dump(exclude={"type"}, exclude_none=True).items():
            inner = {f"{key}.{name}": one for name, one in value.items()} if isinstance(value, dict) else {key: value}
            found |= {name: _text(one) for name, one in inner.items()}
        return found

    @property
    def spec(self) -> str:
        """The policy as `strategies.policy_from_spec` reads it back: `name:key=value:…`."""
        return ":".join([self.type, *(f"{key}={value.removesuffix('.0')}" for key, value in self.parameters.items())])

    @abstractmethod
    def target(self, view: HedgeView) -> HedgeTarget:
        """Return the band for this view; pure."""


def is_tradable(view: HedgeView) -> bool:
    """Tell whether the target and the lot of the view are numbers one can trade to."""
    return isfinite(view.target_delta_base) and isfinite(view.lot_base) and view.lot_base > 0.0


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
