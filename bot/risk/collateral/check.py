"""What comes of sending this much over each route: shortfalls, caps, rules kept, cost.

Nobody's answer is taken on trust. A solver at its time limit may call anything a solution, and one with whole numbers
has been seen to break its own bounds; so every plan, whoever made it, is counted through here before it is shown.
"""

from __future__ import annotations

from math import inf
from typing import Final

import msgspec
import numpy as np

from bot.risk.collateral.tables import ENOUGH_QUOTE, Flags, Floats, Ints, Tables, balances

EVERY_POST: Final = slice(None)
_CLOSE: Final = 1e-6  # share of a limit by which it may be missed: solvers count in floats


class Outcome(msgspec.Struct, frozen=True):
    """What a plan comes to; N demands, H horizons, C caps.

    `short` is what is missing in the worst scenario, whose number is `worst`; `counted` what every post counts after
    haircuts and shares (Q H). `over` is what is left over each cap in the end. `broken` names every rule not kept.
    """

    sent: Floats
    is_used: Flags
    short: Floats
    worst: Ints
    counted: Floats
    over: Floats
    cost_quote: float
    broken: tuple[str, ...]

    @property
    def short_quote(self) -> float:
        """What is missing, over all venues and horizons."""
        return float(self.short.sum())

    @property
    def is_met(self) -> bool:
        """Whether every need is met, every cap kept and no rule broken."""
        return not self.broken and self.short_quote <= 0.0 and float(self.over.sum()) <= 0.0

    def rank(self) -> tuple[float, float, float]:
        """Return what a better plan has less of: first shortfall, then what is over caps, then cost."""
        return (self.short_quote, float(self.over.sum()), self.cost_quote)


def evaluate(tables: Tables, sent: Floats) -> Outcome:
    """Return what sending this value over each route comes to."""
    is_used = sent > 0.0
    values = balances(tables, sent, is_used)
    counted = counts_as(tables, values)
    short, worst = shortfalls(tables, counted)
    over = np.array([one.held + float(one.in_the_end @ sent) - one.most for one in tables.caps])
    allowed = np.array([_CLOSE * max(one.most, 1.0) + ENOUGH_QUOTE for one in tables.caps])
    cost = tables.cost_as_is + float(tables.cost @ sent) + float(tables.cost_of_use @ is_used)
    return Outcome(
        sent=sent,
        is_used=is_used,
        short=short,
        worst=worst,
        counted=counted,
        over=np.where(over > allowed, over, 0.0),
        cost_quote=cost,
        broken=tuple(_broken(tables, sent, is_used, over, allowed)),
    )


def counts_as(tables: Tables, values: Floats, posts: Ints | slice = EVERY_POST) -> Floats:
    """Return what posts count at every horizon (Q H): by tiers, and never more than their share of the total.

    Of several posts at a place all must be asked for, as shares are of what they count together.
    """
    place, start, width = tables.post_place[posts], tables.tier_from[posts], tables.tier_width[posts]
    value = np.maximum(values[tables.post_asset[posts], place], 0.0) * tables.ratio[posts][:, None]
    filled = np.clip(value[:, :, None] - start[:, None, :], 0.0, width[:, None, :])
    counted: Floats = (filled * tables.tier_kept[posts][:, None, :]).sum(axis=2)
    for limited in tables.places_with_shares:
        rows = np.flatnonzero(place == limited)
        share = tables.share[posts][rows]
        total = counted[rows].sum(axis=0)
        for h in np.flatnonzero(np.any(counted[rows] > share[:, None] * total, axis=0)):
            counted[rows, h] = within_shares(counted[rows, h], share)
    return counted


def within_shares(counted: Floats, share: Floats) -> Floats:
    """Return the most that counts where no part may be more than its share of all that counts.

    The total T is the largest with sum of min(part, share T) = T. Its left side is concave in T and bends where a part
    is no longer cut, so it is found between two bends.
    """
    uncut = float(counted.sum())
    bends = np.sort(np.append(counted / np.maximum(share, 1e-300), uncut))[::-1]
    above = None
    for total in bends[bends <= uncut]:
        gap = float(np.minimum(counted, share * total).sum()) - total
        if gap >= 0.0:
            between = gap * (above[0] - total) / (gap - above[1]) if above is not None and gap > 0.0 else 0.0
            found: Floats = np.minimum(counted, share * (total + between))
            return found
        above = (total, gap)
    return np.zeros_like(counted)


def shortfalls(tables: Tables, counted: Floats) -> tuple[Floats, Ints]:
    """Return what every demand is short of in its worst scenario at every horizon, and which scenario that is (N H)."""
    worst = np.zeros(tables.required.shape[:2], dtype=np.int64)
    short = np.zeros(tables.required.shape[:2])
    for n, place in enumerate(tables.demand_place):
        rows = tables.posts_at(place)
        short[n], worst[n] = shortfall_of(tables, n, rows, counted[rows])
    return short, worst


def shortfall_of(tables: Tables, n: int, rows: Ints, counted: Floats) -> tuple[Floats, Ints]:
    """Return what one demand is short of at every horizon and in which scenario, with what its posts count."""
    required = tables.required[n]
    missing = required - counted.T @ tables.multiplier[rows]
    most = np.maximum(missing.max(axis=1, initial=-inf), 0.0)
    largest = np.maximum(np.where(np.isfinite(required), required, 0.0).max(axis=1, initial=0.0), 0.0)
    most[most <= ENOUGH_QUOTE + largest * 1e-9] = 0.0
    return most, missing.argmax(axis=1)


def _broken(tables: Tables, sent: Floats, is_used: Flags, over: Floats, allowed: Floats) -> list[str]:
    found = []
    slack = _CLOSE * np.maximum(sent, 1.0)
    for r, route in enumerate(tables.routes):
        if not is_used[r]:
            continue
        if sent[r] > tables.most[r] + slack[r] or sent[r] < tables.least[r] - slack[r]:
            found.append(f"route {route.name} takes {tables.least[r]:g} to {tables.most[r]:g}, not {sent[r]:g}")
        if tables.lot[r] > 0.0 and abs(sent[r] / tables.lot[r] - round(sent[r] / tables.lot[r])) > _CLOSE:
            found.append(f"route {route.name} takes lots of {tables.lot[r]:g}, not {sent[r]:g}")
    leaving = np.zeros_like(tables.held)
    np.add.at(leaving, (tables.route_asset, tables.route_from), sent)
    burns = tables.gas_asset >= 0
    np.add.at(leaving, (tables.gas_asset[burns], tables.route_from[burns]), (tables.gas * is_used)[burns])
    for a, p in zip(*np.nonzero(leaving > tables.spare + _CLOSE * np.maximum(tables.spare, 1.0)), strict=True):
        found.append(f"{tables.places[p]} has {tables.spare[a, p]:g} of {tables.assets[a]}, not {leaving[a, p]:g}")
    for n, one in enumerate(tables.caps):
        added = float(one.at_once @ sent)
        room = max(one.most - one.now, 0.0)
        if added > room + allowed[n]:
            found.append(f"{one.name} has room for {room:g}, not {added:g}")
        if over[n] > max(one.held - one.most, 0.0) + allowed[n]:
            found.append(f"{one.name} is {over[n]:g} over its cap in the end")
    return found


def stock_left(tables: Tables, sent: Floats) -> Floats:
    """Return how much more value may leave over each route as far as stock goes, gas for its first use set aside."""
    left = tables.spare.copy()
    np.subtract.at(left, (tables.route_asset, tables.route_from), sent)
    burns = np.flatnonzero(tables.gas_asset >= 0)
    burnt = tables.gas[burns] * (sent[burns] > 0.0)
    np.subtract.at(left, (tables.gas_asset[burns], tables.route_from[burns]), burnt)
    found: Floats = left[tables.route_asset, tables.route_from]
    new = burns[sent[burns] <= 0.0]
    of_itself = tables.gas_asset[new] == tables.route_asset[new]
    found[new[of_itself]] -= tables.gas[new[of_itself]]
    other = new[~of_itself]
    found[other[left[tables.gas_asset[other], tables.route_from[other]] < tables.gas[other]]] = 0.0
    return np.maximum(found, 0.0)


def cap_rooms(tables: Tables, sent: Floats) -> tuple[Floats, Ints]:
    """Return how much more value each route may carry under every cap, and the number of the cap that says so."""
    room, which = np.full(len(tables.routes), inf), np.full(len(tables.routes), -1)
    for n, one in enumerate(tables.caps):
        here = np.full(len(tables.routes), inf)
        here[one.at_once > 0.0] = max(one.most - one.now, 0.0) - float(one.at_once @ sent)
        enters = one.in_the_end > 0.0
        left = max(one.most, one.held) - one.held - float(one.in_the_end @ sent)
        here[enters] = np.minimum(here[enters], left / one.in_the_end[enters])
        which[here < room] = n
        room = np.minimum(room, here)
    return np.maximum(room, 0.0), which
