"""No hedge at all: the yardstick every other policy is measured against."""

from __future__ import annotations

from typing import Literal

from bot.domain.decisions import HedgeTarget, HedgeView
from strategies.policy import Policy


class Unhedged(Policy):
    """Let the book drift: an infinite band."""

    type: Literal["unhedged"] = "unhedged"

    def target(self, view: HedgeView) -> HedgeTarget:  # noqa: ARG002 (the protocol's signature)
        """Return a band that nothing leaves."""
        return HedgeTarget.hold("unhedged by policy")
