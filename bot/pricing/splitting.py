"""The cheapest split of one trade over venues: equal marginal cost over the venues that are worth their fixed cost.

Which venues take part is a search over sets. Over a given set the cost is convex, and the cheapest split has one
marginal cost λ for all (water-filling). For any λ whatever,

    λ Q − Σ over the set of max over x of (λ x − C(x))

is a lower bound of what that set costs (weak duality: Everett 1963, "Generalized Lagrange multiplier method",
Operations Research 11:399-417). A venue's term is what its taking part is worth at λ, so sets that leave out what is
worth much, or take what is worth less than nothing, are dropped without being solved: branch and bound. Lots are
rounded at the end: single lots to where they cost least, then from leg to leg while that saves anything. With one lot
for all legs that is exact (Fox 1966, "Discrete optimization via marginal analysis", Management Science 13:210-216).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import ceil, floor, inf, nan, nextafter, sqrt
from typing import NamedTuple

import msgspec

from bot.pricing.costs import CostCurve

_MAX_SETS = 500  # sets solved before the best so far is taken, unproven
_SLACK = 1e-9
_CLOSE = 1e-8  # share of the quantity to which λ is solved; what the rest costs is of second order
_KEPT = 8  # marginal costs at which bounds are remembered

_MAX_SHIFTS = 12
_MAX_MOVES = 200

Sizer = Callable[[float], float]


class Split(msgspec.Struct, frozen=True, gc=False):
    """How much each venue takes, in the order of the curves given, and what that costs beyond mid.

    `next_best` is what the best plan without the most used leg would have cost: infinite if the others cannot take it
    all, NaN where it was not asked for. `unplaced_base` could not be placed: less than a lot, or beyond every maximum,
    or kept from it by minimums. Without `is_proven` the search was cut, and a better plan may have been missed.
    """

    quantities_base: tuple[float, ...]
    costs_quote: tuple[float, ...]
    cost_quote: float
    next_best: float
    unplaced_base: float = 0.0
    is_proven: bool = True


def best_split(quantity_base: float, curves: Sequence[CostCurve], *, is_explained: bool = True) -> Split:
    """Return the cheapest way to trade a quantity over venues, or as much of it as can be placed.

    Without `is_explained` the next best plan is not looked for, which takes about half of the time.
    """
    search = _Search(quantity_base, curves)
    sizes = search.run()
    costs = tuple([curve.cost_quote(size) for curve, size in zip(curves, sizes, strict=True)])
    placed_base = sum(sizes)
    unplaced_base = max(0.0, quantity_base - placed_base)
    if unplaced_base < _SLACK * quantity_base:
        unplaced_base = 0.0
    next_best = _next_best(sizes, placed_base, curves) if is_explained else nan
    return Split(tuple(sizes), costs, sum(costs), next_best, unplaced_base, not search.is_cut)


def _next_best(sizes: list[float], placed_base: float, curves: Sequence[CostCurve]) -> float:
    if placed_base <= 0.0:
        return 0.0
    most_used = sizes.index(max(sizes))
    others = [curve for leg, curve in enumerate(curves) if leg != most_used]
    if sum(curve.max_base for curve in others) < placed_base * (1.0 - _SLACK):
        return inf
    search = _Search(placed_base, others)
    found = search.run()
    coarsest_base = max(curve.lot_base for curve in others)
    if placed_base - sum(found) > max(coarsest_base * (1.0 - _SLACK), _SLACK * placed_base):
        return inf
    return sum(curve.cost_quote(size) for curve, size in zip(others, found, strict=True))


class _Bound(NamedTuple):
    """What every leg is worth at one marginal cost, when it trades as much as pays there."""

    marginal_quote: float
    worth: list[float]


class _Solved(NamedTuple):
    """The best split over one set of legs, lots aside."""

    marginal_quote: float
    sizes_base: list[float]


class _Search:
    """One search. Legs are the curves that can take anything; a set of them is a mask of bits."""

    def __init__(self, quantity_base: float, curves: Sequence[CostCurve]) -> None:
        self.places: list[int] = []
        self.legs: list[CostCurve] = []
        self.least: list[float] = []
        self.most: list[float] = []
        self.sizers: list[Sizer] = []
        self.is_cut = False
        self.count = len(curves)
        self.best_cost, self.best_sizes = inf, [0.0] * self.count
        lots = {curve.lot_base for curve in curves}
        self.is_one_lot = len(lots) == 1
        self.coarsest_base = max(lots, default=0.0)
        if self.is_one_lot and self.coarsest_base > 0.0:
            quantity_base = floor(quantity_base / self.coarsest_base + 1e-6) * self.coarsest_base
        self.quantity_base = quantity_base
        self.optional = self.steady = 0
        marks: set[float] = set()
        for place, curve in enumerate(curves):
            self._take_in(place, curve, marks)
        self.marks = sorted(marks)
        self.hint, self.hint_quote = 0, 0.0
        self.solved: dict[int, _Solved | None] = {}
        self.bounds: list[_Bound] = []
        self.left_quote = 0.0  # what a unit left over counts as: ten times the first λ found

    def _take_in(self, place: int, curve: CostCurve, marks: set[float]) -> None:
        """Make a leg of a curve, unless it can take nothing of this quantity."""
        lot_base, least = curve.lot_base, curve.min_base
        most = min(curve.max_base, self.quantity_base)
        if curve.depth_px and 0.0 < curve.depth_base <= most:
            most = curve.depth_base * (1.0 - 1e-6)
        if lot_base > 0.0:
            least = ceil(least / lot_base - 1e-6) * lot_base
            most = floor(most / lot_base + 1e-6) * lot_base
        if most <= 0.0 or least > most * (1.0 + _SLACK):
            return
        bit = 1 << len(self.legs)
        sizer = _sizer(curve, most)
        if curve.fixed_quote > 0.0 or least > lot_base * (1.0 + _SLACK):
            self.optional |= bit
            if least > 0.0:
                sizer = _at_least(sizer, least)
        else:
            self.steady |= bit
            least = 0.0
        self.places.append(place)
        self.legs.append(curve)
        self.least.append(least)
        self.most.append(most)
        self.sizers.append(sizer)
        first = curve.linear_quote_per_base
        if curve.root_coefficient or curve.depth_px or not curve.steps:
            marks.add(first)
        else:
            marks.update([first + extra for _, extra in curve.steps])

    def run(self) -> list[float]:
        """Return the best sizes found, in the order of the curves."""
        if self.legs and self.quantity_base > 0.0:
            self.quantity_base = self._reachable()
            if self.quantity_base > 0.0:
                self._branch(self.optional, self.steady)
        sizes = [0.0] * self.count
        for place, size in zip(self.places, self.best_sizes, strict=False):
            sizes[place] = size
        return sizes

    def _reachable(self) -> float:
        """Return the most of the quantity that maximums and minimums let any set place."""
        spans = [(0.0, sum(self.most[leg] for leg in _bits(self.steady)))]
        if spans[0][1] >= self.quantity_base:
            return self.quantity_base
        for leg in _bits(self.optional):
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
        if len(self.solved) >= _MAX_SETS:
            self.is_cut = True
            return
        doubtful = self._descend(free, taken)
        bound, at = self._find_bound(free, taken)
        if not free or bound >= self._enough():
            return
        splitter, doubt = -1, inf
        for leg in _bits(free):
            worth = at.worth[leg] if at is not None else 0.0
            if bound + abs(worth) >= self._enough():  # whatever is better than the best has this leg as it is here
                free ^= 1 << leg
                taken |= (1 << leg) if worth > 0.0 else 0
            elif abs(worth) * (1e-3 if doubtful >> leg & 1 else 1.0) < doubt:
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

    def _descend(self, free: int, taken: int) -> int:
        """Solve the set that looks best, look again at the marginal cost found, until that is known; return the doubt.

        The legs in doubt are those that pay at the marginal cost without them and do not pay at the one with them.
        """
        bound, at = self._find_bound(free, taken)
        if bound >= self._enough():
            return 0
        chosen = self._preferred(at, free, taken)
        while True:
            is_new = chosen not in self.solved
            found = self._solve(chosen)
            if found is None:
                return 0
            if is_new:
                self._offer(chosen, found)
                bound, at = self._find_bound(free, taken)
                if bound >= self._enough():
                    return 0
            again = self._preferred(at, free, taken)
            if again in self.solved:
                return again ^ chosen
            chosen = again

    def _enough(self) -> float:
        """Return the bound from which on nothing is to be won."""
        return self.best_cost - _SLACK * (1.0 + abs(self.best_cost)) if self.best_cost < inf else inf

    def _find_bound(self, free: int, taken: int) -> tuple[float, _Bound | None]:
        """Return what every set of `taken` and any of `free` costs at least, and where that was found."""
        best, at = -inf, None
        for one in self.bounds:
            marginal, worth = one
            bound = marginal * self.quantity_base
            for leg, value in enumerate(worth):
                if taken >> leg & 1 or (value > 0.0 and free >> leg & 1):
                    bound -= value
            if not self.is_one_lot and marginal > self.left_quote:
                bound -= (marginal - self.left_quote) * self.coarsest_base
            if bound > best:
                best, at = bound, one
        return best, at

    def _preferred(self, at: _Bound | None, free: int, taken: int) -> int:
        """Return the set that is worth most where the bound is highest, or everything if that cannot hold it all."""
        if at is None:
            return free | taken
        chosen = taken
        for leg in _bits(free):
            if at.worth[leg] > 0.0:
                chosen |= 1 << leg
        return chosen if self._holds(chosen) else free | taken

    def _holds(self, chosen: int) -> bool:
        most = sum([self.most[leg] for leg in _bits(chosen)])
        return most >= self.quantity_base * (1.0 - _SLACK)

    def _solve(self, chosen: int) -> _Solved | None:
        """Return the best split over a set and remember the bound it proves; None where it cannot be the quantity."""
        if chosen in self.solved:
            return self.solved[chosen]
        legs = _bits(chosen)
        found = None
        least = sum([self.least[leg] for leg in legs])
        if self._holds(chosen) and least <= self.quantity_base * (1.0 + _SLACK):
            marginal, sizes = self._fill([self.sizers[leg] for leg in legs])
            found = _Solved(marginal, sizes)
            if not self.left_quote:
                self.left_quote = 10.0 * abs(marginal)
            if self.optional:
                self.bounds.append(_Bound(marginal, self._worth_at(marginal)))
                if len(self.bounds) > _KEPT:
                    del self.bounds[1]
        self.solved[chosen] = found
        return found

    def _worth_at(self, marginal_quote: float) -> list[float]:
        """Return λx − C(x) of every leg at its best x: what it saves at that λ, its fixed cost paid."""
        worth = []
        for sizer, curve in zip(self.sizers, self.legs, strict=True):
            size = sizer(marginal_quote)
            worth.append(marginal_quote * size - curve.cost_quote(size) if size > 0.0 else -curve.fixed_quote)
        return worth

    def _fill(self, sizers: list[Sizer]) -> tuple[float, list[float]]:
        """Return the marginal cost at which these legs take the quantity, and what each takes (water-filling)."""
        quantity, marks = self.quantity_base, self.marks
        low, high = -1, len(marks)  # at a mark a flat leg takes a step: find the first where they take it all
        probe = min(self.hint, high - 1)
        while high - low > 1:
            taken = 0.0
            at = marks[probe]
            for sizer in sizers:
                taken += sizer(at)
            if taken >= quantity:
                high = probe
                probe = high - 1 if probe == self.hint else (low + high) // 2
            else:
                low = probe
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
        start = marks[low]
        short = sum([sizer(start) for sizer in sizers]) - quantity
        return self._fill_smoothly(sizers, start, short, top, over)

    def _fill_smoothly(
        self, sizers: list[Sizer], low: float, short: float, high: float, over: float
    ) -> tuple[float, list[float]]:
        """Solve for the marginal cost between two marks, where sizes grow smoothly (the Illinois method).

        `short` and `over` are what the legs take less the quantity at either end; an infinite end is looked for.
        """
        quantity = self.quantity_base
        close = _CLOSE * quantity
        width = max(1e-9, 1e-3 * abs(low), self.hint_quote - low)
        probe = min(low + width, high)
        kept = 0
        sizes: list[float] = []
        for _ in range(200):
            sizes = [sizer(probe) for sizer in sizers]
            off = sum(sizes) - quantity
            if abs(off) <= close:
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

    def _offer(self, chosen: int, found: _Solved) -> None:
        """Round a solved set to lots, and keep it if it is the best so far."""
        legs = _bits(chosen)
        sizes = [0.0] * len(self.legs)
        for leg, size in zip(legs, found.sizes_base, strict=True):
            sizes[leg] = size
        left = 0.0
        if self.coarsest_base > 0.0:
            left = self._round(legs, sizes)
            if left < -_SLACK * self.quantity_base or left > self.coarsest_base * (1.0 - _SLACK):
                return
        cost = self._cost_of(legs, sizes, left)
        if cost < self.best_cost:
            self.best_cost, self.best_sizes = cost, sizes

    def _round(self, legs: list[int], sizes: list[float]) -> float:
        """Round the sizes of a set to lots as cheaply as that goes; return what is left over."""
        left = self.quantity_base
        floors = [0.0] * len(sizes)
        if not self.is_one_lot:
            self._settle_coarse(legs, sizes)
        for leg in legs:
            lot_base = self.legs[leg].lot_base
            if self.optional >> leg & 1:
                floors[leg] = max(self.least[leg], lot_base)
            if lot_base > 0.0:
                sizes[leg] = max(floors[leg], floor(sizes[leg] / lot_base + 1e-6) * lot_base)
            left -= sizes[leg]
        if self.is_one_lot:
            return self._settle_lots(legs, sizes, floors, left)
        left = self._place(legs, sizes, floors, left)
        self._exchange_pairs(legs, sizes, floors)
        if left > self.coarsest_base * (1.0 - _SLACK):
            left = self._shift_lots(legs, sizes, floors, left)
        return left

    def _settle_coarse(self, legs: list[int], sizes: list[float]) -> None:
        """Round from the coarsest lots to the finest, each time splitting what remains anew over the finer legs."""
        lots = sorted({self.legs[leg].lot_base for leg in legs}, reverse=True)
        whole_base = self.quantity_base
        rest = legs
        for lot_base in lots[:-1]:
            for leg in [leg for leg in rest if self.legs[leg].lot_base == lot_base]:
                low = floor(sizes[leg] / lot_base + 1e-6) * lot_base
                least = max(self.least[leg], lot_base) if self.optional >> leg & 1 else 0.0
                up = low + lot_base <= self.most[leg] + 1e-6 * lot_base and sizes[leg] - low > 0.5 * lot_base
                sizes[leg] = max(least, low + lot_base if up else low)
                self.quantity_base -= sizes[leg]
            rest = [leg for leg in rest if self.legs[leg].lot_base < lot_base]
            least = sum([self.least[leg] for leg in rest])
            if not self._holds(sum([1 << leg for leg in rest])) or not least <= self.quantity_base:
                break
            _, again = self._fill([self.sizers[leg] for leg in rest])
            for leg, size in zip(rest, again, strict=True):
                sizes[leg] = size
        self.quantity_base = whole_base

    def _cost_of(self, legs: list[int], sizes: list[float], left: float) -> float:
        """Return what these sizes cost, what is left over counted dearly."""
        cost = sum([self.legs[leg].cost_quote(sizes[leg]) for leg in legs])
        return cost + (self.left_quote * left if abs(left) > _SLACK * self.quantity_base else 0.0)

    def _shift_lots(self, legs: list[int], sizes: list[float], floors: list[float], left: float) -> float:
        """Where lots differ and leave too much: a lot more or less of one leg, the others in its wake."""
        cost = self._cost_of(legs, sizes, left)
        if left > self.coarsest_base * (1.0 - _SLACK):
            cost = inf
        for _ in range(_MAX_SHIFTS):
            best, kept = cost, None
            for leg in legs:
                lot_base = self.legs[leg].lot_base
                others = [other for other in legs if other != leg]
                for more_base in (lot_base, -lot_base):
                    after = sizes[leg] + more_base
                    slack = 1e-6 * lot_base
                    if not lot_base or not floors[leg] - slack <= after <= self.most[leg] + slack:
                        continue
                    trial = sizes.copy()
                    trial[leg] = self._moved(leg, sizes[leg], more_base)
                    over = self._place(others, trial, floors, left - more_base)
                    if over < -1e-6 * self.coarsest_base or over > self.coarsest_base * (1.0 - _SLACK):
                        continue
                    found = self._cost_of(legs, trial, over)
                    if found < best - _SLACK * (1.0 + abs(found)):
                        best, kept = found, (trial, over)
            if kept is None:
                break
            cost, (sizes[:], left) = best, kept
        self._exchange_pairs(legs, sizes, floors)
        return left

    def _place(self, legs: list[int], sizes: list[float], floors: list[float], left: float) -> float:
        """Add lots where they cost least, or take them away where they save most, until less than a lot is left."""
        slack = 1e-6 * min([self.legs[leg].lot_base for leg in legs if self.legs[leg].lot_base > 0.0], default=1.0)
        while abs(left) > slack:
            sign = 1.0 if left > 0.0 else -1.0
            best, where, amount = inf, -1, 0.0
            for leg in legs:
                lot_base, size = self.legs[leg].lot_base, sizes[leg]
                room = min(abs(left), self.most[leg] - size if left > 0.0 else size - floors[leg])
                if lot_base > 0.0:  # a quarter of what is left at once
                    move = lot_base * max(1.0, room / lot_base // 4.0)
                    has_room = move <= room + slack or (left < 0.0 and move <= size - floors[leg] + slack)
                else:
                    move, has_room = room, room > slack
                if has_room:
                    cost = self._change(leg, size, sign * move) / move
                    if cost < best:
                        best, where, amount = cost, leg, sign * move
            if where < 0:
                return left
            sizes[where] = self._moved(where, sizes[where], amount)
            left -= amount
        return left

    def _settle_lots(self, legs: list[int], sizes: list[float], floors: list[float], left: float) -> float:
        """With one lot for all: place the lots left where they cost least, then move lots while that saves anything."""
        lot_base, most = self.coarsest_base, self.most
        slack = 1e-6 * lot_base
        left_lots = round(left / lot_base)
        ups, downs = [inf] * len(sizes), [-inf] * len(sizes)
        changed = legs
        while True:
            for leg in changed:
                size = sizes[leg]
                curve = self.legs[leg]
                cost = curve.cost_quote(size) if size > slack else curve.fixed_quote
                ups[leg] = curve.cost_quote(size + lot_base) - cost if size + lot_base <= most[leg] + slack else inf
                if size - lot_base < floors[leg] - slack:
                    downs[leg] = -inf
                else:
                    downs[leg] = cost - (
                        curve.cost_quote(size - lot_base) if size > 1.5 * lot_base else curve.fixed_quote
                    )
            up, down = min(ups), max(downs)
            to, off = ups.index(up), downs.index(down)
            more = (left_lots > 0) - (left_lots < 0)
            if more > 0 and up < inf:
                changed = [to]
            elif more < 0 and down > -inf:
                changed = [off]
            elif to == off or not down - up > _SLACK * (1.0 + abs(up)):
                return left_lots * lot_base
            else:
                more, changed = 0, [to, off]
            left_lots -= more
            for leg in changed:
                sizes[leg] = round(sizes[leg] / lot_base + (1.0 if leg == to and more >= 0 else -1.0)) * lot_base

    def _exchange_pairs(self, legs: list[int], sizes: list[float], floors: list[float]) -> None:
        """Where lots differ, move amounts that are whole lots of both between two legs, while that saves anything."""
        lots = sorted({self.legs[leg].lot_base for leg in legs} - {0.0})
        movable = [(size, [leg for leg in legs if _divides(self.legs[leg].lot_base, size)]) for size in lots]
        for _ in range(_MAX_MOVES):
            best, move = _SLACK, (-1, -1, 0.0)
            for size, able in movable:
                slack = 1e-6 * size
                cheapest, dearest, to, off = inf, -inf, -1, -1
                for leg in able:
                    at = sizes[leg]
                    if at + size <= self.most[leg] + slack:
                        up = self._change(leg, at, size)
                        if up < cheapest:
                            cheapest, to = up, leg
                    if at - size >= floors[leg] - slack:
                        down = -self._change(leg, at, -size)
                        if down > dearest:
                            dearest, off = down, leg
                if off != to and dearest - cheapest > best * (1.0 + abs(cheapest)):
                    best, move = dearest - cheapest, (off, to, size)
            off, to, size = move
            if off < 0:
                return
            sizes[off] = self._moved(off, sizes[off], -size)
            sizes[to] = self._moved(to, sizes[to], size)

    def _change(self, leg: int, size_base: float, more_base: float) -> float:
        """Return what a leg of this size costs more with that much more of it; its fixed cost is paid anyway."""
        curve = self.legs[leg]
        after = size_base + more_base
        fixed = curve.fixed_quote
        cost_after = curve.cost_quote(after) if after > 1e-9 * abs(more_base) else fixed
        return cost_after - (curve.cost_quote(size_base) if size_base > 0.0 else fixed)

    def _moved(self, leg: int, size_base: float, more_base: float) -> float:
        """Return the new size, in whole lots to the last digit."""
        lot_base = self.legs[leg].lot_base
        after = size_base + more_base
        return round(after / lot_base) * lot_base if lot_base > 0.0 else max(0.0, after)


def _bits(mask: int) -> list[int]:
    """Return the numbers of the bits that are set."""
    legs = []
    while mask:
        low = mask & -mask
        legs.append(low.bit_length() - 1)
        mask ^= low
    return legs


def _divides(lot_base: float, size_base: float) -> bool:
    """Tell whether a size is whole lots; any is where there are none."""
    return not lot_base or (size_base >= lot_base and abs(size_base / lot_base - round(size_base / lot_base)) < 1e-6)


def _at_least(sizer: Sizer, least_base: float) -> Sizer:
    def size_at(marginal_quote: float) -> float:
        size = sizer(marginal_quote)
        if size < least_base:
            return least_base
        return size

    return size_at


def _sizer(curve: CostCurve, most_base: float) -> Sizer:
    """Return the curve's `size_at` up to a maximum, made for being asked a few dozen times."""
    first, steps, root, bend_px = (
        curve.linear_quote_per_base,
        curve.steps,
        curve.root_coefficient,
        curve.depth_px,
    )
    if not root and not bend_px:
        if not steps:
            return lambda marginal: most_base if marginal >= first else 0.0
        prices = [first + extra for _, extra in steps]
        sizes = [0.0, *[min(size, most_base) for size, _ in steps[:-1]], most_base]
        return lambda marginal: sizes[bisect_right(prices, marginal)]
    if not steps and not bend_px:
        return _root_sizer(first, 1.0 / (1.5 * root), most_base)
    if not steps and not root:
        return _pool_sizer(first, bend_px, curve.depth_base, most_base)
    size_at = curve.size_at
    return lambda marginal: min(size_at(marginal), most_base)


def _root_sizer(first_quote: float, share: float, most_base: float) -> Sizer:
    def size_at(marginal_quote: float) -> float:
        root = (marginal_quote - first_quote) * share
        if root <= 0.0:
            return 0.0
        root *= root
        if root > most_base:
            return most_base
        return root

    return size_at


def _pool_sizer(first_quote: float, bend_px: float, depth_base: float, most_base: float) -> Sizer:
    sign = 1.0 if depth_base > 0.0 else -1.0
    per_quote = sign / bend_px

    def size_at(marginal_quote: float) -> float:
        bend = (marginal_quote - first_quote) * per_quote
        if bend * sign <= 0.0:
            return 0.0
        if bend <= -1.0:
            return most_base
        root = sqrt(1.0 + bend)
        size = depth_base * bend / (root * (1.0 + root)) if bend < inf else most_base
        if size > most_base:
            return most_base
        return size

    return size_at
