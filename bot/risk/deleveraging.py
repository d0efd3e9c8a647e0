"""What to do when margin runs short: send collateral, hedge elsewhere first, or reduce, and then what and how much.

Reducing goes in slices of a tenth of a position at most, each the one that releases most maintenance margin per dollar
of expected slippage; the account is read again after each, because every slice changes what the others release. A leg
that stands near the front of a venue's queue of automatic deleveraging goes first: it would be taken anyway, unasked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from math import inf, isfinite, isnan
from typing import Final

import msgspec
import numpy as np

from bot.risk.book import Floats, RiskBook


class Remedy(StrEnum):
    """TOP_UP sends collateral; HEDGE_THEN_TRANSFER hedges where margin is free, sends, and unwinds; REDUCE closes."""

    TOP_UP = "top_up"
    HEDGE_THEN_TRANSFER = "hedge_then_transfer"
    REDUCE = "reduce"


class FreeMargin(msgspec.Struct, frozen=True, gc=False):
    """What a venue could still take: initial margin free there, and what the temporary hedge would need of it."""

    venue: str
    free_quote: float
    needed_quote: float


class Choice(msgspec.Struct, frozen=True, gc=False):
    """The remedy, the venue that takes the temporary hedge ("" if none), and the numbers that decided."""

    remedy: Remedy
    venue: str
    reason: str


class ReductionRule(msgspec.Struct, frozen=True, kw_only=True):
    """How quickly a position is closed and which rank in a queue of automatic deleveraging is too near to its front.

    `rank_alarm_share` is the share of the queue that stands before the leg: below it the leg goes first. A transfer is
    trusted only if it takes less than 1/`transfer_margin` of the time that 99 % of paths leave.
    """

    most_share: float = 0.10
    rank_alarm_share: float = 0.20
    transfer_margin: float = 2.0

    def __post_init__(self) -> None:
        """Refuse slices that are none, or the whole."""
        if not (0.0 < self.most_share <= 0.10 and 0.0 <= self.rank_alarm_share < 1.0 and self.transfer_margin >= 1.0):
            raise ValueError(f"expected slices of 10 % at most, a share of the queue and a margin from 1, found {self}")


class Reducible(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A position that may be closed in part: what closing `share` of it releases and is expected to cost.

    `deleverage_rank_share` is how much of the venue's queue stands before it (0: it is next), NaN where not told.
    """

    instrument_id: str
    account: str
    qty_base: float
    share: float
    released_quote: float
    slippage_quote: float
    deleverage_rank_share: float = float("nan")

    @property
    def released_per_quote(self) -> float:
        """Margin released per dollar of slippage; what costs nothing comes first, an unknown cost last."""
        if isnan(self.slippage_quote):
            return 0.0
        return self.released_quote / self.slippage_quote if self.slippage_quote > 0.0 else inf


class Slice(msgspec.Struct, frozen=True, gc=False):
    """Close this much of a position: signed base units to trade, and what that releases and costs if all goes well."""

    instrument_id: str
    account: str
    trade_base: float
    released_quote: float
    slippage_quote: float
    reason: str


class RankAlarm(msgspec.Struct, frozen=True, gc=False):
    """A leg that a venue may close unasked before long."""

    instrument_id: str
    account: str
    rank_share: float
    reason: str


def choose_remedy(
    breach_years: float,
    transfer_years: float,
    is_transfer_possible: bool,
    elsewhere: Sequence[FreeMargin] = (),
    rule: ReductionRule = ReductionRule(),  # noqa: B008 — frozen
) -> Choice:
    """Return what to do first, by the time that 99 % of paths leave and the time 95 % of transfers need at most.

    A transfer, if it arrives in half the time left; else a hedge where most margin is free and enough for it, with the
    transfer behind it; else reduce. Times that are not known leave no time.
    """
    left = 0.0 if isnan(breach_years) else breach_years
    needed = inf if isnan(transfer_years) else transfer_years
    told = f"{_hours(left)} to breach at 99 %, transfer {_hours(needed)} at 95 %"
    if is_transfer_possible and left > rule.transfer_margin * needed:
        return Choice(Remedy.TOP_UP, "", told)
    able = [one for one in elsewhere if one.free_quote >= one.needed_quote]  # false for NaN
    if able:
        best = max(able, key=lambda one: (one.free_quote - one.needed_quote, one.venue))
        why = f"{told}; {best.venue} has {best.free_quote:,.0f} free and the hedge needs {best.needed_quote:,.0f}"
        return Choice(Remedy.HEDGE_THEN_TRANSFER, best.venue, why)
    free = max((one.free_quote for one in elsewhere if one.free_quote > 0.0), default=0.0)
    return Choice(Remedy.REDUCE, "", f"{told}; no venue has margin for the hedge, at most {free:,.0f} free")


def next_slice(
    candidates: Sequence[Reducible],
    needed_quote: float = inf,
    rule: ReductionRule = ReductionRule(),  # noqa: B008 — frozen
) -> Slice | None:
    """Return the one slice to close now, None if closing nothing releases margin. Read the account again after it.

    A slice is no larger than the rule's share of its position, nor than what is needed. What would not release margin
    (the hedge of something else) is never closed for it.
    """
    useful = [one for one in candidates if _is_useful(one)]
    if not useful or not needed_quote > 0.0:
        return None
    best = max(useful, key=lambda one: (*_urgency(one, rule), one.released_per_quote, one.released_quote))
    return _cut(best, needed_quote, rule.most_share, _tell_pick(best, rule))


def closing_set(candidates: Sequence[Reducible], needed_quote: float) -> list[Slice]:
    """Return the cheapest set of trades that releases what is needed, whole positions if need be: for an emergency.

    Margin is taken as proportional to what is closed, so filling up by margin per slippage is the cheapest there is.
    Releases less than needed only if everything does.
    """
    out: list[Slice] = []
    left = needed_quote
    for one in sorted((c for c in candidates if _is_useful(c)), key=lambda c: c.released_per_quote, reverse=True):
        if not left > 0.0:
            break
        cut = _cut(one, left, 1.0, f"{one.released_per_quote:.1f} released per dollar of slippage")
        out.append(cut)
        left -= cut.released_quote
    return out


def measure_slices(
    book: RiskBook,
    maintenance: Callable[[RiskBook], float],
    slippage_quote: Floats,
    share: float = 0.10,
    ranks: Floats | None = None,
) -> list[Reducible]:
    """Return what closing a share of each row releases of a model's maintenance margin, by asking the model each time.

    `slippage_quote` is what closing that share of each row is expected to cost; `ranks` stand for the rows' queues.
    """
    before = maintenance(book)
    found = []
    for row in range(len(book)):
        kept = np.ones(len(book))
        kept[row] = 1.0 - share
        after = maintenance(msgspec.structs.replace(book, qty_base=book.qty_base * kept))
        found.append(
            Reducible(
                instrument_id=book.instrument_ids[row],
                account=book.accounts[book.account[row]],
                qty_base=float(book.qty_base[row]),
                share=share,
                released_quote=before - after,
                slippage_quote=float(slippage_quote[row]),
                deleverage_rank_share=float("nan") if ranks is None else float(ranks[row]),
            )
        )
    return found


def watch_ranks(
    candidates: Sequence[Reducible],
    rule: ReductionRule = ReductionRule(),  # noqa: B008 — frozen
) -> list[RankAlarm]:
    """Return the legs near the front of their venue's queue of automatic deleveraging, the nearest first."""
    near = [one for one in candidates if one.deleverage_rank_share < rule.rank_alarm_share]
    return [
        RankAlarm(one.instrument_id, one.account, one.deleverage_rank_share, _tell_rank(one, rule))
        for one in sorted(near, key=lambda one: (one.deleverage_rank_share, one.account, one.instrument_id))
    ]


_WHOLE: Final = 1.0


def _is_useful(one: Reducible) -> bool:
    is_whole = isfinite(one.qty_base) and one.qty_base != 0.0 and 0.0 < one.share <= _WHOLE
    return is_whole and isfinite(one.released_quote) and one.released_quote > 0.0


def _urgency(one: Reducible, rule: ReductionRule) -> tuple[float, ...]:
    """Return a rank that is larger the nearer a leg is to being taken, 0 for one that is not near or not told."""
    near = one.deleverage_rank_share < rule.rank_alarm_share
    return (rule.rank_alarm_share - one.deleverage_rank_share,) if near else (0.0,)


def _cut(one: Reducible, needed_quote: float, most_share: float, reason: str) -> Slice:
    wanted = one.share * needed_quote / one.released_quote
    share = min(wanted, most_share)
    part = share / one.share
    return Slice(
        one.instrument_id,
        one.account,
        -one.qty_base * share,
        one.released_quote * part,
        one.slippage_quote * part,
        reason,
    )


def _tell_pick(one: Reducible, rule: ReductionRule) -> str:
    told = f"{one.released_quote:,.0f} of margin for {one.slippage_quote:,.0f} of slippage"
    return f"{told}; {_tell_rank(one, rule)}" if _urgency(one, rule)[0] > 0.0 else told


def _tell_rank(one: Reducible, rule: ReductionRule) -> str:
    share = one.deleverage_rank_share
    return f"{share:.0%} of {one.account}'s deleveraging queue stand before it, alarm below {rule.rank_alarm_share:.0%}"


def _hours(years: float) -> str:
    return f"{years * 8760.0:.1f} h" if isfinite(years) else "no end"
