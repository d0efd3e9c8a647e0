"""The cheapest split of one trade over venues: equal marginal cost over the venues that are worth their fixed cost.

Which venues take part is a search over sets. Over a given set the cost is convex, and the cheapest split has one
marginal cost λ for all (water-filling). For any λ whatever,

    λ Q − Σ over the set of max over x of (λ x − C(x))

is a lower bound of what that set costs (weak duality: Everett 1963, "Generalized Lagrange multiplier method",
Operations Research 11:399-417). A venue's term is what its taking part is worth at λ, so sets that leave out what is
worth much, or take what is worth less than nothing, are dropped without being solved: branch and bound. Lots are
rounded once a set may be the best: with one lot for all legs single lots go where they cost least, and from leg to leg
while that saves anything, which is exact (Fox 1966, "Discrete optimization via marginal analysis", Management Science
13:210-216). Where lots differ, the legs of coarser lots are searched for their numbers of lots, by `bot.pricing.lots`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import ceil, floor, inf, nan, nextafter, sqrt
from typing import NamedTuple

import msgspec

from bot.pricing.costs import CostCurve
from bot.pricing.lots import LotLeg, LotSearch, settle_lots

_MAX_SETS = 500  # sets solved before the best so far is taken, unproven
_MAX_NODES = 250  # combinations of lots bounded before the best so far is taken, unproven
_MAX_NODES_NEXT = 60  # the same for the plan that is only told of
_FIRST_NODES = 6  # combinations of lots bounded at a time, before other sets are looked at
_SLACK = 1e-9
_CLOSE = 1e-8  # share of the quantity to which λ is solved; what the rest costs is of second order
_SAVING = 1e-7  # share of the cost below which a better plan is not looked for
_KEPT = 8  # marginal costs at which bounds are remembered
_LEFT_WORTH = 1e5  # what leaving something over counts as, in marginal costs: placing it comes first

Form = Callable[[float], float]


class Split(msgspec.Struct, frozen=True, gc=False):
    """How much each venue takes, in the order of the curves given, and what that costs beyond mid.

    `next_best` is what the best plan without the most used leg would have cost: infinite if the others cannot take it
    all, NaN where it was not asked for. `unplaced_base` could not be placed: less than the finest lot, or beyond every
    maximum, or kept from it by minimums. Without `is_proven` the search was cut, and a better plan may have been
    missed.
    """

    quantities_base: tuple[float, ...]
    costs_quote: tuple[float, ...]
    cost_quote: float
    next_best: float
    unplaced_base: float = 0.0
    is_proven: bool = True


def best_split(quantity_base: float, curves: Sequence[CostCurve], *, is_explained: bool = True) -> Split:
    """Return the cheapest way to trade a quantity over venues, or as much of it as can be placed.

    Without `is_explained` the next best plan is not looked for, which takes about a third of the time.
    """
    search = _Search(quantity_base, curves)
    search.run(search.optional, search.steady, quantity_base, _MAX_NODES)
    sizes = [0.0] * len(curves)
    costs = [0.0] * len(curves)
    for place, size in zip(search.places, search.best_sizes, strict=True):
        if size > 0.0:
            sizes[place] = size
            costs[place] = curves[place].cost_quote(size)
    is_proven = not search.is_cut
    placed_base = sum(sizes)
    unplaced_base = quantity_base - placed_base
    if unplaced_base < _SLACK * quantity_base:
        unplaced_base = 0.0
    next_best = nan
    if is_explained:
        next_best = search.run_without(search.best_sizes, placed_base) if placed_base > 0.0 else 0.0
    return Split(tuple(sizes), tuple(costs), sum(costs), next_best, unplaced_base, is_proven)


class _Bound(NamedTuple):
    """What each leg is worth at one marginal cost, when it trades as much as pays there."""

    base_quote: float  # λ Q less what the legs that take part anyway are worth
    paying: int  # those that may be left out and are worth more than nothing
    worth: list[float]


class _Solved(NamedTuple):
    """The best split over one set of legs, lots aside, and what it costs at least."""

    marginal_quote: float
    sizes_base: list[float]
    least_quote: float


class _Search:
    """One search. Legs are the curves that can take anything; a set of them is a mask of bits."""

    __slots__ = (
        "best_cost",
        "best_sizes",
        "bounded_base",
        "bounds",
        "coarsest_base",
        "costs",
        "curves",
        "finest_base",
        "hint",
        "hint_quote",
        "is_cut",
        "least",
        "left_quote",
        "marks",
        "most",
        "nodes",
        "optional",
        "optional_legs",
        "places",
        "quantity_base",
        "sizers",
        "solved",
        "spare_base",
        "steady",
        "steady_legs",
        "unfinished",
        "waiting",
        "worths",
    )

    def __init__(self, quantity_base: float, curves: Sequence[CostCurve]) -> None:
        self.places: list[int] = []
        self.curves: list[CostCurve] = []
        self.least: list[float] = []
        self.most: list[float] = []
        self.sizers: list[Form] = []
        self.worths: list[Form] = []
        self.costs: list[Form] = []
        self.optional = self.steady = 0
        self.marks: list[float] = []
        for place, curve in enumerate(curves):
            self._take_in(place, curve, quantity_base)
        self.marks.sort()
        self.hint, self.hint_quote = 0, 0.0
        self.bounds: list[_Bound] = []
        self.bounded_base = 0.0

    def _take_in(self, place: int, curve: CostCurve, quantity_base: float) -> None:
        """Make a leg of a curve, unless it can take nothing of this quantity."""
        lot_base, least, most = curve.lot_base, curve.min_base, curve.max_base
        most = min(most, quantity_base)
        if curve.depth_px and 0.0 < curve.depth_base <= most:
            most = curve.depth_base * (1.0 - 1e-6)
        if lot_base > 0.0:
            if least > 0.0:
                least = ceil(least / lot_base - 1e-6) * lot_base
            most = floor(most / lot_base + 1e-6) * lot_base
        if most <= 0.0 or least > most * (1.0 + _SLACK):
            return
        leg = len(self.curves)
        sizer, worth, cost = _forms(curve, most, self.marks)
        if curve.fixed_quote > 0.0 or least > lot_base * (1.0 + _SLACK):
            self.optional |= 1 << leg
            if least > 0.0:
                sizer, worth = _at_least(least, cost(least), sizer, worth)
        else:
            self.steady |= 1 << leg
            least = 0.0
        self.places.append(place)
        self.curves.append(curve)
        self.least.append(least)
        self.most.append(most)
        self.sizers.append(sizer)
        self.worths.append(worth)
        self.costs.append(cost)

    def run(self, free: int, taken: int, quantity_base: float, most_nodes: int) -> None:
        """Look for the best sizes with all legs `taken` and any of the `free` ones."""
        self.is_cut = False
        self.nodes = most_nodes
        self.optional_legs, self.steady_legs = _bits(free), _bits(taken)
        self.best_cost, self.best_sizes = inf, [0.0] * len(self.curves)
        self.solved: dict[int, _Solved | None] = {}
        self.waiting: dict[int, float] = {}
        self.unfinished: list[tuple[Sequence[int], LotSearch]] = []
        known, self.bounds = self.bounds, []
        self.left_quote = 0.0
        if not free | taken or quantity_base <= 0.0:
            return
        lots = {self.curves[leg].lot_base for leg in _bits(free | taken)}
        self.finest_base, self.coarsest_base = finest_base, _ = min(lots), max(lots)
        self.spare_base = 0.0  # what may be left over without being missed
        if finest_base > 0.0:
            if len(lots) == 1 or all(_is_whole(lot_base / finest_base) for lot_base in lots):
                quantity_base = floor(quantity_base / finest_base + 1e-6) * finest_base
            else:
                self.spare_base = finest_base * (1.0 - 1e-6)
        self.quantity_base = quantity_base
        self.quantity_base = self._reachable(free, taken)
        bounded_base = self.quantity_base - self.spare_base
        if bounded_base == self.bounded_base:
            self.bounds = known
        self.bounded_base = bounded_base
        if self.quantity_base > 0.0:
            self._branch(free, taken)
            for chosen in sorted(self.waiting, key=self.waiting.__getitem__):
                self._offer(chosen)
            self._finish_lots()

    def run_without(self, sizes: list[float], placed_base: float) -> float:
        """Return what the best plan without the most used leg costs; infinite where the others cannot take it all."""
        gone = sizes.index(max(sizes))
        bit = 1 << gone
        free, taken = self.optional & ~bit, self.steady & ~bit
        others = _bits(free | taken)
        if sum([self.most[leg] for leg in others]) < placed_base * (1.0 - _SLACK) - self.coarsest_base:
            return inf
        if taken != self.steady:  # what is known of this quantity without that leg
            self.bounds = [one._replace(base_quote=one.base_quote + one.worth[gone]) for one in self.bounds]
        self.run(free, taken, placed_base, _MAX_NODES_NEXT)
        coarsest_base = max([self.curves[leg].lot_base for leg in others], default=0.0)
        found = self.best_sizes
        if placed_base - sum(found) > max(coarsest_base * (1.0 - _SLACK), _SLACK * placed_base):
            return inf
        return sum([self.curves[leg].cost_quote(found[leg]) for leg in others])

    def _reachable(self, free: int, taken: int) -> float:
        """Return the most of the quantity that maximums and minimums let any set place."""
        spans = [(0.0, sum([self.most[leg] for leg in _bits(taken)]))]
        if spans[0][1] >= self.quantity_base:
            return self.quantity_base
        for leg in _bits(free):
            least, most = self.least[leg], self.most[leg]
            merged: list[tuple[float, float]] = []
            for low, high in sorted(spans + [(low + least, high + most) for low, high in spans]):
                if low > self.quantity_base * (1.0 + _SLACK):
                    break
                if merged and low <= merged[-1][1]:
                    merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
                else:
                    merged.append((low, high))
            spans = merged
        return min(self.quantity_base, spans[-1][1])

    def _branch(self, free: int, taken: int) -> None:
        """Search all sets of the `taken` legs and any of the `free` ones, as long as they may be better."""
        if len(self.solved) >= _MAX_SETS or self.nodes <= 0:
            self.is_cut = True
            return
        doubtful, bound, at = self._descend(free, taken)
        if not free:
            return
        enough = self._enough()
        if bound >= enough:
            return
        splitter, doubt = -1, inf
        for leg in self.optional_legs:
            bit = 1 << leg
            if not free & bit:
                continue
            worth = at.worth[leg] if at is not None else 0.0
            if bound + abs(worth) >= enough:  # whatever is better than the best has this leg as it is here
                free ^= bit
                if worth > 0.0:
                    taken |= bit
            elif abs(worth) * (1e-3 if doubtful & bit else 1.0) < doubt:
                splitter, doubt = leg, abs(worth)
        if splitter < 0:
            if taken not in self.solved:
                self._branch(0, taken)
            return
        bit = 1 << splitter
        with_leg, without = (free ^ bit, taken | bit), (free ^ bit, taken)
        is_worth_it = at is not None and at.worth[splitter] > 0.0
        for branch in (with_leg, without) if is_worth_it else (without, with_leg):
            self._branch(*branch)

    def _descend(self, free: int, taken: int) -> tuple[int, float, _Bound | None]:
        """Solve the set that looks best, look again at the marginal cost found, until that is known.

        Return the legs in doubt, which pay at the marginal cost without them and do not pay at the one with them, and
        what any set costs at least.
        """
        bound, at = self._find_bound(free, taken) if self.bounds else (-inf, None)
        if bound >= self._enough():
            return 0, bound, at
        chosen = self._preferred(at, free, taken)
        doubtful, best_quote, best = 0, inf, 0
        while True:
            is_new = chosen not in self.solved
            found = self._solve(chosen)
            if found is None:
                break
            if is_new:
                if found.least_quote < best_quote:
                    best_quote, best = found.least_quote, chosen
                if not free:
                    break
                bound, at = self._find_bound(free, taken)
                if bound >= best_quote - _SLACK * abs(best_quote):
                    break
            again = self._preferred(at, free, taken)
            if again in self.solved:
                doubtful = again ^ chosen
                break
            chosen = again
        if best:
            self._offer(best)
        return doubtful, bound, at

    def _enough(self) -> float:
        """Return the bound from which on nothing is to be won."""
        return self.best_cost - _SAVING * abs(self.best_cost) - _SLACK if self.best_cost < inf else inf

    def _find_bound(self, free: int, taken: int) -> tuple[float, _Bound | None]:
        """Return what every set of `taken` and any of `free` costs at least, and where that was found."""
        best, at = -inf, None
        for one in self.bounds:
            bound, paying, worth = one
            counted = taken | (free & paying)
            for leg in self.optional_legs:
                if counted >> leg & 1:
                    bound -= worth[leg]
            if bound > best:
                best, at = bound, one
        return best, at

    def _preferred(self, at: _Bound | None, free: int, taken: int) -> int:
        """Return the set that is worth most where the bound is highest, or everything if that cannot hold it all."""
        if at is None:
            return free | taken
        chosen = taken | (free & at.paying)
        return chosen if self._holds(chosen) else free | taken

    def _holds(self, chosen: int) -> bool:
        most = sum([self.most[leg] for leg in _bits(chosen)])
        return most >= self.quantity_base * (1.0 - _SLACK) - self.spare_base

    def _solve(self, chosen: int) -> _Solved | None:
        """Return the best split over a set and remember the bound it proves; None where it cannot be the quantity."""
        if chosen in self.solved:
            return self.solved[chosen]
        legs = _bits(chosen)
        found = None
        least = sum([self.least[leg] for leg in legs])
        if self._holds(chosen) and least <= self.quantity_base * (1.0 + _SLACK):
            quantity = self.quantity_base
            if self.spare_base:
                quantity = min(quantity, sum([self.most[leg] for leg in legs]))
            marginal, sizes = self.fill([self.sizers[leg] for leg in legs], quantity)
            if not self.left_quote:
                self.left_quote = _LEFT_WORTH * abs(marginal)
            least_quote = -inf
            if self.optional_legs:
                least_quote, _, worth = self._remember(marginal)
                for leg in self.optional_legs:
                    if chosen >> leg & 1:
                        least_quote -= worth[leg]
                self.waiting[chosen] = least_quote
            found = _Solved(marginal, sizes, least_quote)
        self.solved[chosen] = found
        return found

    def _remember(self, marginal: float) -> _Bound:
        """Keep what every leg is worth at a marginal cost."""
        base, paying = marginal * self._bounded_base(marginal), 0
        worths = self.worths
        worth = [0.0] * len(worths)
        for leg in self.steady_legs:
            worth[leg] = value = worths[leg](marginal)
            base -= value
        for leg in self.optional_legs:
            worth[leg] = value = worths[leg](marginal)
            if value > 0.0:
                paying |= 1 << leg
        found = _Bound(base, paying, worth)
        self.bounds.append(found)
        if len(self.bounds) > _KEPT:
            del self.bounds[1]
        return found

    def _bounded_base(self, marginal: float) -> float:
        """Return how much has to be placed in any case, for a bound."""
        return self.quantity_base - self.spare_base if marginal > 0.0 else self.quantity_base

    def fill(self, sizers: list[Form], quantity: float) -> tuple[float, list[float]]:
        """Return the marginal cost at which these legs take a quantity, and what each takes (water-filling)."""
        marks = self.marks
        low, high = -1, len(marks)  # at a mark a flat leg takes a step: find the first where they take it all
        probe = min(self.hint, high - 1)
        while high - low > 1:
            taken = 0.0
            at = marks[probe]
            for sizer in sizers:
                taken += sizer(at)
            if taken >= quantity:
                high, over = probe, taken - quantity
                probe = high - 1 if probe == self.hint else (low + high) // 2
            else:
                low, short = probe, taken - quantity
                probe = low + 1 if probe == self.hint else (low + high) // 2
            probe = min(max(probe, low + 1), high - 1)
        self.hint = min(high, len(marks) - 1)
        if high < len(marks):
            at = marks[high]
            under = nextafter(at, -inf)
            sizes = [sizer(under) for sizer in sizers]
            left = quantity - sum(sizes)
            if left >= 0.0 or high == 0:
                for leg, sizer in enumerate(sizers):
                    more = min(left, sizer(at) - sizes[leg])
                    if more > 0.0:
                        sizes[leg] += more
                        left -= more
                return at, sizes
            top, over = under, -left
        else:
            top, over = inf, inf
        return self._fill_smoothly(sizers, quantity, marks[low], short, top, over)

    def _fill_smoothly(
        self, sizers: list[Form], quantity: float, low: float, short: float, high: float, over: float
    ) -> tuple[float, list[float]]:
        """Solve for the marginal cost between two marks, where sizes grow smoothly (the Illinois method).

        `short` and `over` are what the legs take less the quantity at either end; an infinite end is looked for.
        """
        close = max(_CLOSE * quantity, 0.3 * self.finest_base)  # lots are put right afterwards
        width = max(1e-9, 1e-3 * abs(low), self.hint_quote - low)
        probe = min(low + width, high)
        kept = 0
        sizes: list[float] = []
        off = 0.0
        for _ in range(200):
            sizes = [sizer(probe) for sizer in sizers]
            off = sum(sizes) - quantity
            if -close <= off <= close:
                break
            if off < 0.0:
                low, short = probe, off
                if kept < 0:
                    over *= 0.5
                kept = -1
            else:
                high, over = probe, off
                if kept > 0:
                    short *= 0.5
                kept = 1
            if high == inf:
                width *= 4.0
                probe = low + width
                continue
            root = high - over * (high - low) / (over - short)
            probe = root if low < root < high else 0.5 * (low + high)
            if high - low <= 1e-15 * (abs(low) + abs(high)):
                break
        self.hint_quote = probe
        if self.finest_base and -close <= off <= close:
            return probe, sizes
        left = quantity - sum(sizes)
        order = sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True)
        for leg in order:  # what is left is a rounding, or a jump that no mark told of
            size = min(max(sizes[leg] + left, 0.0), sizers[leg](inf), max(sizes[leg], sizers[leg](high)) + close)
            size = max(size, sizers[leg](-inf))
            left -= size - sizes[leg]
            sizes[leg] = size
            if not left:
                break
        return probe, sizes

    def _offer(self, chosen: int) -> None:
        """Round a solved set to lots, and keep it if it is the best so far."""
        found = self.solved[chosen]
        least_quote = self.waiting.pop(chosen, -inf)
        if found is None or least_quote >= self._enough():
            return
        legs = _bits(chosen)
        parts = found.sizes_base
        if self.coarsest_base > 0.0:
            if self.finest_base < self.coarsest_base:
                self._search_lots(legs, found)
                return
            rounded = self._round(legs, parts)
            if rounded is None:
                return
            parts = rounded
        cost = sum([self.costs[leg](size) for leg, size in zip(legs, parts, strict=True) if size > 0.0])
        self._keep(legs, parts, cost)

    def _keep(self, legs: Sequence[int], parts: list[float], cost: float) -> None:
        if cost < self.best_cost:
            self.best_cost, self.best_sizes = cost, [0.0] * len(self.curves)
            for leg, size in zip(legs, parts, strict=True):
                self.best_sizes[leg] = size

    def _round(self, legs: Sequence[int], parts: list[float]) -> list[float] | None:
        """Round the sizes of a set to the one lot of all legs; None where that cannot place it all."""
        lot_base = self.finest_base
        counts = [int(size / lot_base + 1e-6) for size in parts]
        leasts, mosts = self._limits(legs, lot_base)
        costs = [self.costs[leg] for leg in legs]
        left = settle_lots(round(self.quantity_base / lot_base), lot_base, counts, costs, leasts, mosts)
        return None if left else [count * lot_base for count in counts]

    def _limits(self, legs: Sequence[int], lot_base: float) -> tuple[list[int], list[int]]:
        """Return the least and most lots of legs that take part."""
        leasts = [max(1, round(self.least[leg] / lot_base)) if self.optional >> leg & 1 else 0 for leg in legs]
        return leasts, [round(self.most[leg] / lot_base) for leg in legs]

    def _search_lots(self, legs: Sequence[int], found: _Solved) -> None:
        """Search a set whose lots differ for the best numbers of lots."""
        parts = [
            LotLeg(
                lot_base=self.curves[leg].lot_base,
                least_base=self.least[leg] or (self.curves[leg].lot_base if self.optional >> leg & 1 else 0.0),
                most_base=self.most[leg],
                sizer=self.sizers[leg],
                worth=self.worths[leg],
                cost=self.costs[leg],
            )
            for leg in legs
        ]
        search = LotSearch(parts, self.quantity_base, self.spare_base, self.left_quote, self.fill)
        search.start(found.marginal_quote, self.best_cost)
        self.unfinished.append((legs, search))
        self._go_on(legs, search, _FIRST_NODES)

    def _go_on(self, legs: Sequence[int], search: LotSearch, most_nodes: int) -> None:
        before = search.nodes
        best = search.run(self.best_cost, most_nodes)
        self.nodes -= search.nodes - before
        if best is not None:
            self._keep(legs, best.sizes_base, best.cost_quote)

    def _finish_lots(self) -> None:
        """Go on with the lots of the set that may be the cheapest, until none may beat the best."""
        while self.unfinished:
            legs, search = min(self.unfinished, key=lambda one: one[1].least_quote())
            if search.least_quote() >= self._enough():
                return
            if self.nodes <= 0:
                self.is_cut = True
                return
            self._go_on(legs, search, _FIRST_NODES)


def _is_whole(number: float) -> bool:
    return abs(number - round(number)) < 1e-6


@lru_cache(maxsize=4096)
def _bits(mask: int) -> tuple[int, ...]:
    """Return the numbers of the bits that are set."""
    legs = []
    while mask:
        low = mask & -mask
        legs.append(low.bit_length() - 1)
        mask ^= low
    return tuple(legs)


def _at_least(least_base: float, least_quote: float, sizer: Form, worth: Form) -> tuple[Form, Form]:
    """Return the forms of a leg that takes no less than a minimum."""

    def size_at(marginal_quote: float) -> float:
        size = sizer(marginal_quote)
        if size < least_base:
            return least_base
        return size

    def worth_at(marginal_quote: float) -> float:
        if sizer(marginal_quote) < least_base:
            return marginal_quote * least_base - least_quote
        return worth(marginal_quote)

    return size_at, worth_at


def _forms(curve: CostCurve, most_base: float, marks: list[float]) -> tuple[Form, Form, Form]:
    """Return a curve as three functions made for being asked a few dozen times, and mark where it jumps or starts.

    They are the size at a marginal cost, what that is worth (λ x − C(x)), and the cost of a size above 0.
    """
    first, steps, root, bend_px, fixed = (
        curve.linear_quote_per_base,
        curve.steps,
        curve.root_coefficient,
        curve.depth_px,
        curve.fixed_quote,
    )
    if not steps:
        marks.append(first)
        if not root and not bend_px:
            return _flat_forms(first, fixed, most_base)
        if not bend_px:
            return _root_forms(first, fixed, root, most_base)
        if not root:
            return _pool_forms(first, fixed, bend_px, curve.depth_base, most_base)
    elif not root and not bend_px:
        return _step_forms(first, fixed, steps, most_base, marks)
    if steps and (root or bend_px):
        marks.append(first)
    size_at, cost = curve.size_at, curve.cost_quote

    def worth_at(marginal_quote: float) -> float:
        size = min(size_at(marginal_quote), most_base)
        return marginal_quote * size - cost(size) if size > 0.0 else -fixed

    return lambda marginal: min(size_at(marginal), most_base), worth_at, cost


def _flat_forms(first: float, fixed: float, most_base: float) -> tuple[Form, Form, Form]:
    return (
        lambda marginal: most_base if marginal >= first else 0.0,
        lambda marginal: most_base * (marginal - first) - fixed if marginal > first else -fixed,
        lambda size: fixed + first * size,
    )


def _step_forms(
    first: float, fixed: float, steps: tuple[tuple[float, float], ...], most_base: float, marks: list[float]
) -> tuple[Form, Form, Form]:
    prices: list[float] = []
    sizes, paid = [0.0], [fixed]
    below, total = 0.0, fixed
    for reach, extra in steps:
        if below >= most_base:
            break
        price = first + extra
        size = min(reach, most_base)
        total += price * (size - below)
        prices.append(price)
        sizes.append(size)
        paid.append(total)
        below = size
    if below < most_base:  # beyond the last step its price goes on
        paid[-1] += prices[-1] * (most_base - below)
        sizes[-1] = most_base
    marks += prices
    last = len(prices)

    def worth_at(marginal_quote: float) -> float:
        step = bisect_right(prices, marginal_quote)
        return marginal_quote * sizes[step] - paid[step]

    def cost(size_base: float) -> float:
        step = min(bisect_left(sizes, size_base), last)
        return paid[step] - prices[step - 1] * (sizes[step] - size_base)

    return lambda marginal: sizes[bisect_right(prices, marginal)], worth_at, cost


def _root_forms(first: float, fixed: float, root: float, most_base: float) -> tuple[Form, Form, Form]:
    share = 1.0 / (1.5 * root)
    most_quote = fixed + most_base * (first + root * sqrt(most_base))

    def size_at(marginal_quote: float) -> float:
        size = (marginal_quote - first) * share
        if size <= 0.0:
            return 0.0
        size *= size
        if size > most_base:
            return most_base
        return size

    def worth_at(marginal_quote: float) -> float:
        over = marginal_quote - first
        if over <= 0.0:
            return -fixed
        size = over * share
        size *= size
        if size > most_base:
            return marginal_quote * most_base - most_quote
        return over * size / 3.0 - fixed

    return size_at, worth_at, lambda size: fixed + size * (first + root * sqrt(size))


def _pool_forms(
    first: float, fixed: float, bend_px: float, depth_base: float, most_base: float
) -> tuple[Form, Form, Form]:
    sign = 1.0 if depth_base > 0.0 else -1.0
    per_quote = sign / bend_px

    def size_at(marginal_quote: float) -> float:
        bend = (marginal_quote - first) * per_quote
        if bend * sign <= 0.0:
            return 0.0
        if bend <= -1.0:
            return most_base
        root = sqrt(1.0 + bend)
        size = depth_base * bend / (root * (1.0 + root)) if bend < inf else most_base
        if size > most_base:
            return most_base
        return size

    def cost(size_base: float) -> float:
        return fixed + size_base * (first + bend_px * sign * size_base / (depth_base - size_base))

    def worth_at(marginal_quote: float) -> float:
        size = size_at(marginal_quote)
        return marginal_quote * size - cost(size) if size > 0.0 else -fixed

    return size_at, worth_at, cost
