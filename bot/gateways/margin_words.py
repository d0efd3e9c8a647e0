"""What venues say of margin, read into numbers: what is missing is NaN, and an answer without margin is none at all."""

from __future__ import annotations

import math
from typing import Any

from bot.domain.risk import ReportedMargin
from bot.gateways.market_words import number


def reported(
    scope: str, equity: object, initial: object, maintenance: object, unit_px: float = 1.0
) -> tuple[ReportedMargin, ...]:
    """Return a margin of raw numbers in units worth `unit_px`; nothing where neither margin is told."""
    found = [number(value) for value in (equity, initial, maintenance)]
    if found[1] is None and found[2] is None:
        return ()
    quote = [math.nan if value is None else value * unit_px for value in found]
    return (ReportedMargin(scope, *quote),)


def lines(told: object) -> list[Any]:
    """Return a list of the venue's, nothing where it is none: an odd answer must not cost the account report."""
    return told if isinstance(told, list) else []


def items_of(scope: str, told: object, unit_px: float = 1.0) -> dict[str, float]:
    """Return every number of an object of the venue's, however deep, by scope and its own name, in quote money."""
    found: dict[str, float] = {}
    for name, value in told.items() if isinstance(told, dict) else ():
        if isinstance(value, dict):
            found.update(items_of(scope, value, unit_px))
        elif not isinstance(value, bool) and (amount := number(value)) is not None:
            found[f"{scope} {name}"] = amount * unit_px
    return found
