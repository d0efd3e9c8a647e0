"""What a venue reports of its margin against what the local model says: which figure to use, and how far they differ.

The venue's own figure comes first: it liquidates by it. Where it does not tell, or told too long ago, the worse of what
is known counts, with a quarter more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from bot.domain.risk import ReportedMargin
from bot.risk.requirement import Charge, Requirement

VENUE = "venue"
LOCAL = "local"
WORSE = "worse of both"
NOBODY = "nobody"


class ReportedRule(msgspec.Struct, frozen=True, kw_only=True):
    """What is put on a figure the venue does not tell now, and from which difference on it is named."""

    untold_factor: float = 1.25
    tolerance_share: float = 0.10


class MarginFigure(msgspec.Struct, frozen=True):
    """Initial and maintenance margin to use, in quote money, whose figure it is, and what there is to say of it.

    The differences are the local model's figure over the venue's, less 1; NaN where one of them is missing. `note` is
    "" where the venue told and the model agrees.
    """

    initial_quote: float
    maintenance_quote: float
    source: str
    initial_difference_share: float
    maintenance_difference_share: float
    note: str = ""


def settle(
    reported: ReportedMargin | None,
    local: Requirement | None,
    *,
    unit_px: float = 1.0,
    is_stale: bool = False,
    rule: ReportedRule | None = None,
) -> MarginFigure:
    """Return the figure to use of what a venue reported and what its model says; `unit_px` is the model's money.

    Each of initial and maintenance by itself, as some venues tell one of them only. Without either figure it is
    infinite: nothing may be added where nobody knows what is asked.
    """
    terms = ReportedRule() if rule is None else rule
    told = (math.nan, math.nan) if reported is None else (reported.initial_quote, reported.maintenance_quote)
    own = (math.nan, math.nan) if local is None else local.in_quote(unit_px)
    figures, sources, differences, notes = [], [], [], []
    for name, venue, model in zip(("initial", "maintenance"), told, own, strict=True):
        figure, source = _choose(venue, model, terms, is_stale=is_stale)
        difference = _difference(venue, model)
        figures.append(figure)
        sources.append(source)
        differences.append(difference)
        notes += _notes(name, venue, model, source, difference, terms)
    worst = max(sources, key=(VENUE, LOCAL, WORSE, NOBODY).index)
    if is_stale and worst is WORSE:
        notes.append("what the venue told is old")
    return MarginFigure(figures[0], figures[1], worst, differences[0], differences[1], "; ".join(notes))


def whole(margins: Sequence[ReportedMargin]) -> ReportedMargin | None:
    """Return one margin of an account of what a venue reports by scope: the whole's own, else the sum of the parts."""
    if not margins:
        return None
    for one in margins:
        if not one.scope:
            return one
    equity = sum(one.equity_quote for one in margins)
    initial = sum(one.initial_quote for one in margins)
    return ReportedMargin("", equity, initial, sum(one.maintenance_quote for one in margins))


def tightest(margins: Sequence[ReportedMargin]) -> ReportedMargin | None:
    """Return the part of an account that is nearest to liquidation: where parts are apart, the sum hides it.

    A part that asks for margin and has no equity, or does not tell it, is the nearest.
    """

    def use(one: ReportedMargin) -> float:
        if not one.maintenance_quote > 0.0:
            return -math.inf if one.maintenance_quote == 0.0 else math.inf
        return one.maintenance_quote / one.equity_quote if one.equity_quote > 0.0 else math.inf

    return max(margins, key=use, default=None)


def scaled(requirement: Requirement, factor: float, why: str) -> Requirement:
    """Return a requirement `factor` times as large, the surplus as a charge of its own that says why."""
    if factor == 1.0:
        return requirement
    surplus = factor - 1.0
    added = Charge("degraded", surplus * requirement.initial, surplus * requirement.maintenance, why)
    return msgspec.structs.replace(
        requirement,
        initial=factor * requirement.initial,
        maintenance=factor * requirement.maintenance,
        charges=(*requirement.charges, added),
    )


def _choose(venue: float, model: float, rule: ReportedRule, *, is_stale: bool) -> tuple[float, str]:
    is_told, is_known = _is_usable(venue), _is_usable(model)
    if is_told and not is_stale:
        return venue, VENUE
    if is_told and is_known:
        return rule.untold_factor * max(venue, model), WORSE
    if is_told:
        return rule.untold_factor * venue, WORSE
    return (rule.untold_factor * model, LOCAL) if is_known else (math.inf, NOBODY)


def _is_usable(figure: float) -> bool:
    return math.isfinite(figure) and figure >= 0.0


def _difference(venue: float, model: float) -> float:
    if not (_is_usable(venue) and _is_usable(model)):
        return math.nan
    if venue == 0.0:
        return 0.0 if model == 0.0 else math.inf
    return model / venue - 1.0


def _notes(name: str, venue: float, model: float, source: str, difference: float, rule: ReportedRule) -> list[str]:
    if source is NOBODY:
        return [f"nobody tells the {name} margin: taken as infinite"]
    if source is LOCAL:
        return [f"the venue does not tell the {name} margin: the model's {model:,.2f} × {rule.untold_factor:g}"]
    if abs(difference) > rule.tolerance_share:
        return [f"the model's {name} margin {model:,.2f} is {difference:+.1%} of the venue's {venue:,.2f}"]
    return []
