"""A collateral problem under named scenarios: needs, P&L and what venues count coins as come from playing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from bot.risk.book import SPOT, Position, RiskBook, build_book
from bot.risk.collateral.problem import Acceptance, CollateralProblem, Need
from bot.risk.stress import AccountAfter, MarginTermsOf, StressScenario, equity_of, moved_book, play

AS_IT_IS: Final = "as it is"


def under_stress(
    problem: CollateralProblem,
    book: RiskBook,
    scenarios: Sequence[StressScenario],
    terms: Mapping[str, MarginTermsOf],
    *,
    underlyings: Mapping[str, str] | None = None,
    cast: Mapping[str, str] | None = None,
) -> CollateralProblem:
    """Return the problem with the needs of a book as it is and in each scenario, and with what coins count then.

    `book` holds positions; accounts are venues. Collateral is what the problem holds, so coins of the book must not be
    told a second time as a need: their P&L is left out, and they only tell which venue is the largest. `underlyings`
    tells which price an asset follows (its own name if left out). Raises ValueError for an account that is none of the
    problem's venues.
    """
    venues = {one.name for one in problem.venues}
    for account in book.accounts:
        if account not in venues:
            raise ValueError(f"expected account {account} among the venues, found {', '.join(sorted(venues))}")
    positions = book.where(book.kind != SPOT)
    with_equity = {
        name: msgspec.structs.replace(one, equity_quote=equity_of(book.of_account(name), one))
        for name, one in terms.items()
    }
    results = play(positions, scenarios, with_equity, cast)
    needs = []
    for number, account in enumerate(positions.accounts):
        after = [one.accounts[number] for one in results]
        if not after:
            continue
        maintenance = (after[0].before.maintenance, *(_maintenance(one) for one in after))
        pnl = (0.0, *(_pnl(one) for one in after))
        needs.append(Need(venue=account, maintenance_quote=maintenance, pnl_quote=pnl))
    accepted = tuple(stressed_acceptance(one, scenarios, underlyings or {}, cast) for one in problem.acceptances)
    return msgspec.structs.replace(
        problem,
        scenarios=(AS_IT_IS, *(one.name for one in scenarios)),
        needs=tuple(needs),
        acceptances=accepted,
        multipliers={},
    )


def _maintenance(one: AccountAfter) -> float:
    """Return what is asked for; nothing where the venue is gone, as more collateral there saves nothing."""
    return 0.0 if one.is_gone else one.after.maintenance


def _pnl(one: AccountAfter) -> float:
    return 0.0 if one.is_gone else one.pnl_quote


def stressed_acceptance(
    one: Acceptance,
    scenarios: Sequence[StressScenario],
    underlyings: Mapping[str, str],
    cast: Mapping[str, str] | None = None,
) -> Acceptance:
    """Return an acceptance with what one unit is worth at its venue in each scenario, of what it is worth now."""
    if one.px is None:
        return msgspec.structs.replace(one, multipliers=())
    underlying = underlyings.get(one.asset, one.asset)
    unit = Position(
        kind=SPOT, underlying=underlying, qty_base=1.0, account=one.venue, instrument_id=one.asset, mark_px=one.px
    )
    probe = build_book([unit], {underlying: one.px})
    worth = [float(moved_book(probe, scenario, cast).mark_px[0]) / one.px for scenario in scenarios]
    return msgspec.structs.replace(one, multipliers=(1.0, *worth))
