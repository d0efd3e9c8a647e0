"""The plan that needs no solver: one transfer after another, each the cheapest for what is missing where it is missing.

It never breaks a rule (stock, caps, lots, minimums, another venue's need), so what it returns can be carried out; what
it cannot meet it names. It is tried with the venues in several orders and the best outcome is kept. `least_short_quote`
is a lower bound of what any plan would be short of, every venue taken alone with everything that can reach it in time:
where the outcome is no shorter than that, no plan is.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor

import numpy as np

from bot.risk.collateral.check import Outcome, cap_rooms, counts_as, evaluate, shortfall_of, shortfalls, stock_left
from bot.risk.collateral.tables import ENOUGH_QUOTE, Floats, Ints, Tables, balances

_MOST_STEPS = 400  # transfers added or enlarged before an order of venues is left as it is
_MOST_ORDERS = 4
_HALVINGS = 24


def solve_greedy(tables: Tables) -> Outcome:
    """Return a plan that keeps every rule, and what it leaves unmet."""
    nothing = evaluate(tables, np.zeros(len(tables.routes)))
    if nothing.is_met or not len(tables.routes):
        return nothing
    best = nothing
    least_quote = least_short_quote(tables)
    order = _tightest_first(tables)
    for turn in range(min(_MOST_ORDERS, max(1, len(order)))):
        found = _Greedy(tables, nothing.sent).run(order)
        if found.rank() < best.rank() and not found.broken:
            best = found
        if best.short_quote <= least_quote + ENOUGH_QUOTE:
            break
        missed = [n for n in order if best.short[n].any()]
        order = [*missed, *(n for n in order if n not in missed)] if turn == 0 else [*order[1:], order[0]]
    return _without_needless(tables, best)


def completed(tables: Tables, sent: Floats) -> Outcome:
    """Return a plan that begins with what is sent already and adds what is still missing; needless transfers go."""
    begun = evaluate(tables, sent)
    if begun.is_met or begun.broken:
        return _without_needless(tables, begun)
    found = _Greedy(tables, sent).run(_tightest_first(tables))
    return _without_needless(tables, begun if found.broken or found.rank() > begun.rank() else found)


def least_short_quote(tables: Tables) -> float:
    """Return less than, or as much as, any plan is short of: every venue as if all that can reach it were its own."""
    values = tables.held[:, :, None] + tables.arriving
    for asset in range(len(tables.assets)):
        for place in tables.demand_place:
            mine = (tables.route_asset == asset) & (tables.route_to == place)
            for h in range(len(tables.horizons_s)):
                routes = np.flatnonzero(mine & tables.lands[:, h])
                for origin in np.unique(tables.route_from[routes]):
                    over = routes[tables.route_from[routes] == origin]
                    stock = float(tables.spare[asset, origin])
                    values[asset, place, h] += min(float(tables.most[over].sum()), stock)
    short, _ = shortfalls(tables, counts_as(tables, values))
    return float(short.sum())


class _Greedy:
    """One run: what is sent so far, what that counts, and what it leaves missing."""

    def __init__(self, tables: Tables, sent: Floats) -> None:
        self.tables = tables
        self.sent = sent
        self.counted = self.count(self.sent)
        self.short, self.worst = shortfalls(tables, self.counted)

    def run(self, order: Sequence[int]) -> Outcome:
        steps = 0
        for h in range(len(self.tables.horizons_s)):
            for demand in order:
                hopeless: set[int] = set()
                while self.short[demand, h] > 0.0 and steps < _MOST_STEPS:
                    steps += 1
                    if not self.step(demand, h, hopeless):
                        break
        self.drain()
        return evaluate(self.tables, self.sent)

    def count(self, sent: Floats) -> Floats:
        return counts_as(self.tables, balances(self.tables, sent, sent > 0.0))

    def step(self, demand: int, h: int, hopeless: set[int]) -> bool:
        """Send what is cheapest for one demand at one horizon; tell whether anything helped."""
        tables = self.tables
        place, missing = int(tables.demand_place[demand]), float(self.short[demand, h])
        worth = self.worth(place, h, int(self.worst[demand, h]))
        rooms = self.rooms()
        offers = []
        for r in np.flatnonzero((tables.route_to == place) & tables.lands[:, h] & (rooms > 0.0)).tolist():
            credit = worth[tables.route_asset[r]] * float(tables.kept[r])
            if r in hopeless or credit <= 0.0:
                continue
            size = self.fitted(r, missing / credit, float(rooms[r]))
            if size > 0.0:
                paid = float(tables.cost[r]) * size + (float(tables.cost_of_use[r]) if self.sent[r] <= 0.0 else 0.0)
                offers.append((paid / min(size * credit, missing), r, size))
        for _, r, size in sorted(offers):
            if self.take(r, size, demand, h):
                return True
            hopeless.add(r)
        return False

    def worth(self, place: int, h: int, k: int) -> list[float]:
        """Return what a dollar more of every asset counts at a place in scenario `k`, in the tier that is reached."""
        tables = self.tables
        found = [0.0] * len(tables.assets)
        for q in tables.posts_at(place):
            full = np.cumsum(tables.tier_width[q] * tables.tier_kept[q])
            tier = min(int(np.searchsorted(full, self.counted[q, h] + ENOUGH_QUOTE)), len(full) - 1)
            found[tables.post_asset[q]] = float(tables.tier_kept[q, tier] * tables.multiplier[q, k] * tables.ratio[q])
        return found

    def rooms(self) -> Floats:
        """Return how much more may be sent over every route."""
        room = np.minimum(self.tables.most - self.sent, stock_left(self.tables, self.sent))
        return np.minimum(room, cap_rooms(self.tables, self.sent)[0])

    def fitted(self, r: int, wanted: float, room: float) -> float:
        """Return how much more to send for `wanted` to arrive: in whole lots, within every limit; 0 if nothing fits."""
        tables = self.tables
        if self.sent[r] <= 0.0:
            wanted += float(tables.fixed[r] / tables.kept[r])
        size = max(wanted, float(tables.least[r] - self.sent[r]))
        lot = float(tables.lot[r])
        if lot > 0.0:
            size = min(ceil(size / lot - 1e-9), floor(room / lot + 1e-9)) * lot
        size = min(size, room) if lot <= 0.0 else size
        return size if size > 0.0 and self.sent[r] + size >= tables.least[r] * (1.0 - 1e-12) else 0.0

    def take(self, r: int, size: float, demand: int | None = None, h: int = 0) -> bool:
        """Send more over a route if that helps its demand and leaves no other shorter; less where only less does."""
        tables = self.tables
        best = None
        low, high, tried = 0.0, size, size
        lot = float(tables.lot[r])
        for _ in range(_HALVINGS):
            sent = self.sent.copy()
            sent[r] += tried
            counted, short, worst = self.counted_after(sent, r)
            if bool(np.all(short <= self.short)):
                if demand is None or short[demand, h] < self.short[demand, h]:
                    best = (sent, counted, short, worst)
                low = tried
                if tried >= size:
                    break
            else:
                high = tried
            tried = 0.5 * (low + high)
            if lot > 0.0:
                tried = floor(tried / lot + 1e-9) * lot
            if tried <= low or self.sent[r] + tried < tables.least[r] or high - low < ENOUGH_QUOTE:
                break
        if best is None:
            return False
        self.sent, self.counted, self.short, self.worst = best
        return True

    def counted_after(self, sent: Floats, r: int) -> tuple[Floats, Floats, Ints]:
        """Return what counts, is short and is worst after a change of one route: counted again at its two ends only."""
        tables = self.tables
        values = balances(tables, sent, sent > 0.0)
        counted, short, worst = self.counted.copy(), self.short.copy(), self.worst.copy()
        for place in (int(tables.route_from[r]), int(tables.route_to[r])):
            rows = tables.posts_at(place)
            if rows.size:
                counted[rows] = counts_as(tables, values, rows)
                for n in np.flatnonzero(tables.demand_place == place).tolist():
                    short[n], worst[n] = shortfall_of(tables, n, rows, counted[rows])
        return counted, short, worst

    def drain(self) -> None:
        """Take what is over a cap away from there, by the cheapest way, as far as that leaves nobody shorter."""
        tables = self.tables
        for one in tables.caps:
            leaving = np.flatnonzero(one.in_the_end < 0.0)
            for r in leaving[np.argsort(tables.cost[leaving], kind="stable")]:
                over = one.held + float(one.in_the_end @ self.sent) - one.most
                if over <= ENOUGH_QUOTE:
                    break
                size = self.fitted(int(r), over, float(self.rooms()[r]))
                if size > 0.0:
                    self.take(int(r), size)


def _tightest_first(tables: Tables) -> list[int]:
    """Return the demands, those with the fewest ways to be met first."""
    ways = [int(np.sum(tables.route_to == place)) for place in tables.demand_place]
    return sorted(range(len(ways)), key=lambda n: (ways[n], n))


def _without_needless(tables: Tables, outcome: Outcome) -> Outcome:
    """Return the outcome without the transfers that the later ones have made needless, dearest first."""
    for r in sorted(np.flatnonzero(outcome.sent > 0.0), key=lambda r: -float(tables.cost_of_use[r])):
        sent = outcome.sent.copy()
        sent[r] = 0.0
        without = evaluate(tables, sent)
        if not without.broken and without.rank() < outcome.rank():
            outcome = without
    return outcome
