"""How many lots of each venue a set of venues takes: exact for one lot size, by branch and bound where lots differ.

With one lot for all legs single lots are moved while that saves anything, which ends at the optimum (Fox 1966,
"Discrete optimization via marginal analysis", Management Science 13:210-216). Where lots differ, each leg of a coarser
lot trades as many whole lots as pay at a marginal cost λ, the next lot asked what it costs on average; for any λ

    λ Q − Σ over the legs of max over its lots n of (λ n lot − C(n lot))

is a lower bound of what all combinations cost (Everett 1963, Operations Research 11:399-417). It is concave in λ and
its slope is known, so tangents find its top. Where that lies between two numbers of lots of a leg, the search branches
on them; with every coarse leg settled, the legs of the finest lot take the rest, exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import NamedTuple

_SLACK = 1e-9
_SAVING = 1e-6  # share of the cost below which a better combination is not looked for
_MAX_TANGENTS = 40

Form = Callable[[float], float]
Filler = Callable[[list[Form], float], tuple[float, list[float]]]


class LotLeg(NamedTuple):
    """One leg: its lot (0: any amount), limits in whole lots, and the size, worth and cost of `best_split`."""

    lot_base: float
    least_base: float
    most_base: float
    sizer: Form
    worth: Form
    cost: Form


class Combination(NamedTuple):
    """How much each leg takes, and what that costs, what is left over counted in."""

    sizes_base: list[float]
    cost_quote: float


class _Probe(NamedTuple):
    """The bound at one marginal cost, how much is traded there, and of that the coarse legs' lots and the fine legs."""

    marginal_quote: float
    bound_quote: float
    taken_base: float
    counts: list[int]
    fine_base: float


class _Top(NamedTuple):
    """The highest bound found in a node, and how many lots the coarse legs trade right below and above it."""

    bound_quote: float
    marginal_quote: float
    below: list[int]
    above: list[int]
    fine_base: float  # what the legs of the finest lot take below it


def settle_lots(
    lots: int,
    lot_base: float,
    counts: list[int],
    costs: list[Form],
    leasts: list[int],
    mosts: list[int],
) -> int:
    """Put `counts` right so that they place `lots` at least cost; return how many lots that leaves over."""
    left = lots
    for leg, least in enumerate(leasts):
        count = min(max(counts[leg], least), mosts[leg])
        counts[leg] = count
        left -= count
    ups, downs = [inf] * len(counts), [-inf] * len(counts)
    for leg, cost in enumerate(costs):
        count = counts[leg]
        at = cost(count * lot_base) if count else 0.0
        if count < mosts[leg]:
            ups[leg] = cost((count + 1) * lot_base) - at
        if count > leasts[leg]:
            downs[leg] = at - cost((count - 1) * lot_base) if count > 1 else at
    while True:
        up, down = min(ups), max(downs)
        if left > 0 and up < inf:
            to, off = ups.index(up), -1
            left -= 1
        elif left < 0 and down > -inf:
            to, off = -1, downs.index(down)
            left += 1
        elif down - up > _SLACK * (1.0 + abs(up)):
            to, off = ups.index(up), downs.index(down)
            if to == off:
                return left
        else:
            return left
        if to >= 0:
            counts[to] = count = counts[to] + 1
            downs[to] = up
            ups[to] = _lot_cost(costs[to], count, lot_base) if count < mosts[to] else inf
        if off >= 0:
            counts[off] = count = counts[off] - 1
            ups[off] = down
            downs[off] = _lot_cost(costs[off], count - 1, lot_base) if count > leasts[off] else -inf


def _lot_cost(cost: Form, count: int, lot_base: float) -> float:
    """Return what the lot after so many costs."""
    return cost((count + 1) * lot_base) - (cost(count * lot_base) if count else 0.0)


class LotSearch:
    """One search over the numbers of lots of a set of legs that all take part, to be gone on with as often as needed.

    `spare_base` may be left over for nothing; whatever else is left costs `left_quote` per base. `fill` is the
    water-filling of `best_split`.
    """

    def __init__(
        self, legs: list[LotLeg], quantity_base: float, spare_base: float, left_quote: float, fill: Filler
    ) -> None:
        self.nodes = 0
        self._legs = legs
        self._quantity_base = quantity_base
        self._spare_base = spare_base
        self._left_quote = left_quote
        self._fill = fill
        lot_base = self._finest_base = min([leg.lot_base for leg in legs])
        self._fine = [place for place, leg in enumerate(legs) if leg.lot_base == lot_base]
        self._coarse = [place for place, leg in enumerate(legs) if leg.lot_base > lot_base]
        self._fine_most_base = sum([legs[place].most_base for place in self._fine])
        self._fine_least_base = sum([legs[place].least_base for place in self._fine])
        self._fine_forms = [(legs[place].sizer, legs[place].worth) for place in self._fine]
        self._coarse_forms: list[tuple[float, float, Form, Form, dict[int, float]]] = [
            (legs[place].lot_base, 1.0 / legs[place].lot_base, legs[place].sizer, legs[place].cost, {0: 0.0})
            for place in self._coarse
        ]
        self._tried: set[tuple[int, ...]] = set()
        self._best: Combination | None = None
        self._best_quote = inf
        self._nodes: list[tuple[float, int, _Top, list[int], list[int]]] = []

    def start(self, marginal_quote: float, best_quote: float) -> None:
        """Bound the whole set, starting at a marginal cost, unless it costs at least `best_quote`."""
        self._best_quote = best_quote
        legs = self._legs
        lows = [round(legs[place].least_base / legs[place].lot_base) for place in self._coarse]
        highs = [round(legs[place].most_base / legs[place].lot_base) for place in self._coarse]
        self._open(lows, highs, marginal_quote)

    def least_quote(self) -> float:
        """Return what a combination not looked at yet costs at least."""
        return self._nodes[0][0] if self._nodes else inf

    def run(self, best_quote: float, most_nodes: int) -> Combination | None:
        """Bound so many combinations more and return the cheapest one found so far if it beats `best_quote`."""
        self._best_quote = min(best_quote, self._best_quote)
        last = self.nodes + most_nodes
        while self._nodes and self.nodes < last:
            bound, _, top, lows, highs = heappop(self._nodes)
            if bound >= self._enough():
                self._nodes.clear()
                break
            for low, high in self._children(top, lows, highs):
                self._open(low, high, top.marginal_quote)
        return self._best if self._best is not None and self._best.cost_quote < best_quote else None

    def _enough(self) -> float:
        return self._best_quote - _SAVING * abs(self._best_quote) - _SLACK if self._best_quote < inf else inf

    def _open(self, lows: list[int], highs: list[int], marginal_quote: float) -> None:
        """Bound a node, try the combinations next to its top, and keep it open if it may hold a better one."""
        self.nodes += 1
        top = self._find_top(lows, highs, marginal_quote)
        if top is None:
            return
        self._try(top.below)
        split = self._split_at(top)
        if split >= 0:
            leg, count = split, self._fraction(top, split)
            for whole in (count, count + 1):
                near = top.below.copy()
                near[leg] = whole
                self._try(near)
        bound = max(top.bound_quote, self._shortfall(lows, highs) * self._left_quote)
        if bound < self._enough() and lows != highs:
            heappush(self._nodes, (bound, self.nodes, top, lows, highs))

    def _shortfall(self, lows: list[int], highs: list[int]) -> float:
        """Return how much the finest lots cannot fill of what the coarser ones leave, whatever their numbers."""
        rest_base, grid_base = self._quantity_base, 0.0
        for (lot_base, *_), low, high in zip(self._coarse_forms, lows, highs, strict=True):
            rest_base -= low * lot_base
            if low < high:
                grid_base = _common(lot_base, grid_base)
        if grid_base > 0.0:
            rest_base -= self._fine_least_base
            rest_base = self._fine_least_base + rest_base - int(rest_base / grid_base + 1e-6) * grid_base
        short_base = rest_base - self._fine_most_base - self._spare_base
        return short_base if short_base > _SLACK * self._quantity_base else 0.0

    def _split_at(self, top: _Top) -> int:
        """Return the coarse leg that trades more above the top than below it, the one of the largest lot."""
        best, where = 0.0, -1
        for leg, place in enumerate(self._coarse):
            lot_base = self._legs[place].lot_base
            if top.above[leg] > top.below[leg] and lot_base > best:
                best, where = lot_base, leg
        return where

    def _fraction(self, top: _Top, leg: int) -> int:
        """Return the whole lots of a leg that fit into what the others leave at the top."""
        rest_base = self._quantity_base - top.fine_base
        for other, place in enumerate(self._coarse):
            rest_base -= top.below[other] * self._legs[place].lot_base
        more = int(max(0.0, rest_base) / self._legs[self._coarse[leg]].lot_base + 1e-6)
        return min(top.below[leg] + more, top.above[leg] - 1)

    def _children(self, top: _Top, lows: list[int], highs: list[int]) -> list[tuple[list[int], list[int]]]:
        leg = self._split_at(top)
        if leg >= 0:
            count = self._fraction(top, leg)
            cuts = [(lows[leg], count), (count + 1, highs[leg])]
        else:  # every coarse leg is settled there, and the finest lots keep the cost above the bound
            leg = max(
                [leg for leg in range(len(lows)) if lows[leg] < highs[leg]],
                key=lambda leg: self._legs[self._coarse[leg]].lot_base,
            )
            count = top.below[leg]
            cuts = [(lows[leg], count - 1), (count, count), (count + 1, highs[leg])]
        children = []
        for low, high in cuts:
            if low <= high:
                child_lows, child_highs = lows.copy(), highs.copy()
                child_lows[leg], child_highs[leg] = low, high
                children.append((child_lows, child_highs))
        return children

    def _probe(self, lows: list[int], highs: list[int], marginal: float) -> _Probe:
        """Return the bound of a node at a marginal cost."""
        spare_base = self._spare_base if marginal > 0.0 else 0.0
        saved = fine_base = 0.0
        for sizer, worth in self._fine_forms:
            fine_base += sizer(marginal)
            saved += worth(marginal)
        taken_base = fine_base + spare_base
        counts = []
        for (lot_base, per_base, sizer, cost, paid), low, high in zip(self._coarse_forms, lows, highs, strict=True):
            count = int(sizer(marginal) * per_base + 1e-6)
            if count < low:
                count = low
            elif count > high:
                count = high
            here = paid.get(count)
            if here is None:
                paid[count] = here = cost(count * lot_base)
            if low <= count < high:
                more = count + 1
                next_ = paid.get(more)
                if next_ is None:
                    paid[more] = next_ = cost(more * lot_base)
                if next_ - here <= marginal * lot_base:
                    count, here = more, next_
            size = count * lot_base
            counts.append(count)
            taken_base += size
            saved += marginal * size - here
        bound = marginal * (self._quantity_base - spare_base) - saved
        return _Probe(marginal, bound, taken_base, counts, fine_base)

    def _find_top(self, lows: list[int], highs: list[int], marginal: float) -> _Top | None:
        """Return the top of the bound over all marginal costs; None if nothing better than the best is below it."""
        quantity, enough = self._quantity_base, self._enough()
        least_base = self._fine_least_base + sum(
            [low * lot_base for (lot_base, *_), low in zip(self._coarse_forms, lows, strict=True)]
        )
        if least_base > quantity * (1.0 + _SLACK):
            return None
        close = 1e-9 * quantity
        width = max(1e-6, 1e-3 * abs(marginal))
        below = above = None
        for turn in range(_MAX_TANGENTS):
            one = self._probe(lows, highs, marginal)
            if one.bound_quote >= enough:
                return None
            slope = quantity - one.taken_base
            if abs(slope) <= close or (slope > 0.0 and marginal >= self._left_quote):
                return _Top(one.bound_quote, marginal, one.counts, one.counts, one.fine_base)
            if slope > 0.0:
                below = one
            else:
                above = one
            if below is None or above is None:
                marginal = min(marginal + width, self._left_quote) if above is None else marginal - width
                width *= 8.0
                continue
            top_quote, marginal = _meet(below, above, quantity, turn)
            best_quote = max(below.bound_quote, above.bound_quote)
            is_narrow = above.marginal_quote - below.marginal_quote <= 1e-14 * abs(marginal)
            if is_narrow or top_quote - best_quote <= 0.1 * _SAVING * abs(best_quote) + _SLACK:
                break
        if below is None or above is None:  # no marginal cost is low or high enough: the bound still holds
            below = above = one
        best = below if below.bound_quote >= above.bound_quote else above
        return _Top(best.bound_quote, best.marginal_quote, below.counts, above.counts, below.fine_base)

    def _try(self, counts: list[int]) -> None:
        """Let the legs of the finest lot take what these numbers of lots leave, and keep that if it is the best."""
        key = tuple(counts)
        if key in self._tried:
            return
        self._tried.add(key)
        legs = self._legs
        sizes = [0.0] * len(legs)
        rest_base, cost = self._quantity_base, 0.0
        for leg, place in enumerate(self._coarse):
            size = counts[leg] * legs[place].lot_base
            sizes[place] = size
            rest_base -= size
            if size > 0.0:
                cost += legs[place].cost(size)
        slack = _SLACK * self._quantity_base
        if rest_base < self._fine_least_base - slack or (cost >= self._best_quote and rest_base <= slack):
            return
        left_base = self._place_rest(sizes, max(0.0, rest_base))
        for place in self._fine:
            if sizes[place] > 0.0:
                cost += legs[place].cost(sizes[place])
        if left_base > self._spare_base + slack:
            cost += self._left_quote * left_base
        if cost < self._best_quote:
            self._best_quote, self._best = cost, Combination(sizes, cost)

    def _place_rest(self, sizes: list[float], rest_base: float) -> float:
        """Give the legs of the finest lot what is left; return what they cannot take."""
        legs, lot_base = self._legs, self._finest_base
        if not self._fine:
            return rest_base
        placed_base = min(rest_base, self._fine_most_base)
        if lot_base > 0.0:
            placed_base = int(placed_base / lot_base + 1e-6) * lot_base
        _, parts = self._fill([legs[place].sizer for place in self._fine], placed_base)
        if lot_base > 0.0:
            counts = [int(part / lot_base + 1e-6) for part in parts]
            over = settle_lots(
                round(placed_base / lot_base),
                lot_base,
                counts,
                [legs[place].cost for place in self._fine],
                [round(legs[place].least_base / lot_base) for place in self._fine],
                [round(legs[place].most_base / lot_base) for place in self._fine],
            )
            placed_base -= over * lot_base
            parts = [count * lot_base for count in counts]
        for place, part in zip(self._fine, parts, strict=True):
            sizes[place] = part
        return rest_base - placed_base


def _meet(below: _Probe, above: _Probe, quantity: float, turn: int) -> tuple[float, float]:
    """Return how high the top can be at most, where the tangents of both sides meet, and where to look next."""
    low, high = below.marginal_quote, above.marginal_quote
    low_slope, high_slope = quantity - below.taken_base, quantity - above.taken_base
    meet = (above.bound_quote - below.bound_quote + low_slope * low - high_slope * high) / (low_slope - high_slope)
    top_quote = below.bound_quote + low_slope * (meet - low)
    # a kink is where they meet, and in between two kinks the slope has its root
    probe = high - high_slope * (high - low) / (high_slope - low_slope) if turn % 2 else meet
    return top_quote, (probe if low < probe < high else 0.5 * (low + high))


def _common(one_base: float, other_base: float) -> float:
    """Return the largest size that both are whole multiples of (Euclid's algorithm)."""
    slack = 1e-6 * one_base
    while other_base > slack:
        one_base, other_base = other_base, one_base - int(one_base / other_base + 1e-6) * other_base
    return one_base
