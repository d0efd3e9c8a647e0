"""The interval an account lives in, with few questions to its margin model, as each may cost a millisecond.

Equity is repriced exactly at every step of a dense ladder in one pass, which is cheap; maintenance margin is asked for
only where the ladder says the account might end, and carried on between those prices along straight lines. So the model
itself is asked at an end, or close to it on both sides. What this can miss, and `distances.find_interval` would not, is
margin that rises and falls again between two prices asked about, before that end: half the way to it is asked about as
well. Several accounts are searched side by side, their options priced in one pass.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Generator, Mapping, Sequence
from itertools import pairwise
from math import exp, expm1, inf, isfinite
from typing import Final

import msgspec
import numpy as np

from bot.risk.book import Flags, Floats, Ints, RiskBook
from bot.risk.distances import FARTHEST_LOG, SHARP, Interval, most_held, move_books, weights_of, with_steps
from bot.risk.layout import layout_of
from bot.risk.repricing import option_values
from bot.risk.stack import BookStack

STEPS: Final = 24
LADDER: Final[Floats] = FARTHEST_LOG * (np.arange(1, STEPS + 1) / STEPS) ** 2  # on either side, denser near the price
GUARDS: Final = (0.25, FARTHEST_LOG)  # asked about where the ladder sees no end
MOST_ASKED: Final = 8  # times, on either side; what is not settled by then ends at the last price known to be alive
LEAST_SHARE: Final = 0.02  # of what is left between alive and dead, a question goes at least so far
AROUND: Final = 0.04  # of the way to where an end should be: so far on both sides of it is asked about as well
NEAR_ENOUGH: Final = 1e-3  # of the way to the end


class Searched(msgspec.Struct, frozen=True, kw_only=True):
    """An account whose interval is looked for as one underlying moves, or all do (None); `px` stands for now.

    `maintenance` answers maintenance margin of several moved books at once, in quote money; `margin_now_quote`, where
    it is known, is not asked about again. Coins held outright count with `spot_weight`. `coins_quote` of equity is no
    row of the book, for coins that are posted, and moves with prices all the same.
    """

    book: RiskBook
    equity_quote: float
    maintenance: Callable[[BookStack], Floats]
    px: float
    liquidation_ratio: float = 1.0
    underlying: str | None = None
    spot_weight: float = 1.0
    margin_now_quote: float | None = None
    coins_quote: float = 0.0

    @property
    def is_moved(self) -> Flags:
        """Which rows move."""
        names = self.book.underlyings
        return np.array([self.underlying in (None, one) for one in names], dtype=bool)[self.book.underlying]


class _Asked(msgspec.Struct, gc=False):
    """What the model said at one logarithmic move."""

    at: float
    gap: float
    margin: float


class _Pool:
    """All accounts that are searched, the options of one behind those of the other."""

    __slots__ = (
        "_account",
        "_columns",
        "_linear_quote",
        "_mark_px",
        "_now_px",
        "_starts",
        "_there",
        "_weight",
        "accounts",
        "parts",
    )

    def __init__(self, accounts: Sequence[Searched]) -> None:
        self.accounts = accounts
        rows = [layout_of(one.book).options for one in accounts]
        ends = np.add.accumulate([len(own) for own in rows]).tolist()
        self.parts = [slice(end - len(own), end) for end, own in zip(ends, rows, strict=True)]
        self._there: Ints = np.flatnonzero([len(own) for own in rows])
        self._starts = [self.parts[place].start for place in self._there.tolist()]
        self._account: Ints = np.repeat(np.arange(len(rows)), [len(own) for own in rows])
        names = ("forward_px", "strike_px", "tau_years", "is_call", "vol", "mark_px")
        columns = [
            np.concatenate([getattr(one.book, name).take(own) for one, own in zip(accounts, rows, strict=True)])
            for name in names
        ]
        *self._columns, self._mark_px = columns
        weights, linear = [], []
        for one, own in zip(accounts, rows, strict=True):
            weight = weights_of(one.book, one.spot_weight)
            if one.underlying is not None:
                weight = weight * one.is_moved
            weights.append(weight.take(own))
            others = layout_of(one.book).others
            linear.append(float(weight.take(others) @ one.book.mark_px.take(others)) + one.coins_quote)
        self._weight: Floats = np.concatenate(weights)
        self._linear_quote: Floats = np.array(linear)
        self._now_px: Floats = self._values(np.zeros((1, len(rows))))

    def dips(self) -> list[Floats]:
        """Return by account the logarithmic moves at which a search must not look past a dip (`distances.dips`)."""
        forward, strike, tau, _, vol = self._columns
        sharp = ((vol * np.sqrt(np.clip(tau, 0.0, 1e3)) < SHARP) & (self._weight != 0.0)).nonzero()[0]
        forward = forward.take(sharp)
        logs, held_quote = np.log(strike.take(sharp) / forward), self._weight.take(sharp) * forward
        bounds = np.searchsorted(self._account.take(sharp), np.arange(len(self.accounts) + 1)).tolist()
        return [most_held(logs[one:end], held_quote[one:end]) for one, end in pairwise(bounds)]

    def marks_px(self, moves: Floats) -> Floats:
        """Return what options are worth after moves, by move and option; moves have a column per account."""
        return np.maximum(self._mark_px + (self._values(moves) - self._now_px), 0.0)

    def equity_quote(self, moves: Floats, marks_px: Floats) -> Floats:
        """Return equity by move and account, times the ratio at which the venue liquidates."""
        equity = np.array([one.equity_quote for one in self.accounts]) + moves * self._linear_quote
        won = (marks_px - self._mark_px) * self._weight
        if self._there.size:
            equity[:, self._there] += np.add.reduceat(won, self._starts, axis=1)
        equity *= np.array([one.liquidation_ratio for one in self.accounts])
        return equity

    def ask(self, points: Mapping[int, Sequence[float]]) -> dict[int, list[_Asked]]:
        """Return the gaps between equity and margin at some moves of some accounts, margin by their models."""
        logs = np.zeros((max(len(own) for own in points.values()), len(self.accounts)))
        for place, own in points.items():
            logs[: len(own), place] = own
        moves = np.expm1(logs)
        marks = self.marks_px(moves)
        equity = self.equity_quote(moves, marks)
        found = {}
        for place, own in points.items():
            one, lines = self.accounts[place], slice(len(own))
            stack = move_books(
                one.book,
                moves[lines, place],
                underlying=one.underlying,
                option_marks_px=marks[lines, self.parts[place]],
            )
            margin = one.maintenance(stack)
            gap = equity[lines, place] - margin
            found[place] = [_Asked(*each) for each in zip(own, gap.tolist(), margin.tolist(), strict=True)]
        return found

    def _values(self, moves: Floats) -> Floats:
        forward, strike, tau, is_call, vol = self._columns
        of_options = moves.take(self._account, axis=1)
        for one, part in zip(self.accounts, self.parts, strict=True):
            if one.underlying is not None:
                of_options[:, part] *= one.is_moved.take(layout_of(one.book).options)
        lines = np.arange(len(moves))
        return option_values(forward, strike, tau, is_call, of_options, vol[None, :], lines, np.zeros_like(lines))


def quick_interval(
    book: RiskBook,
    equity_quote: float,
    maintenance: Callable[[RiskBook], float],
    px: float,
    *,
    liquidation_ratio: float = 1.0,
    underlying: str | None = None,
    spot_weight: float = 1.0,
) -> Interval:
    """Return the prices at which the account is liquidated, as `distances.find_interval` would; `px` stands for now.

    `maintenance` answers the model's maintenance margin of a book in quote money. It is asked about ten times.
    """

    def each(stack: BookStack) -> Floats:
        return np.array([maintenance(stack.book(copy, book)) for copy in range(len(stack))], dtype=float)

    account = Searched(
        book=book,
        equity_quote=equity_quote,
        maintenance=each,
        px=px,
        liquidation_ratio=liquidation_ratio,
        underlying=underlying,
        spot_weight=spot_weight,
    )
    return stack_intervals([account])[0]


def stack_intervals(accounts: Sequence[Searched]) -> list[Interval]:
    """Return what `quick_interval` does of each account, by models that answer for several moved books at once.

    Both sides of all accounts are searched side by side, so that a model is asked about three times, for up to six
    books.
    """
    if not accounts:
        return []
    pool = _Pool(accounts)
    now = {
        place: _Asked(0.0, one.liquidation_ratio * one.equity_quote - one.margin_now_quote, one.margin_now_quote)
        for place, one in enumerate(accounts)
        if one.margin_now_quote is not None
    }
    unknown = {place: [0.0] for place in range(len(accounts)) if place not in now}
    if unknown:
        now.update({place: own for place, [own] in pool.ask(unknown).items()})
    searches: dict[tuple[int, int], Search] = {}
    ends: dict[tuple[int, int], float | None] = {}
    for place, steps, equity in _ladders(pool):
        if now[place].gap > 0.0:
            for side in (-1, 1):
                own = (steps * side > 0.0).nonzero()[0]
                searches[place, side] = _end(now[place], steps[own], equity[own])
    waiting = {key: next(search) for key, search in searches.items()}
    while waiting:
        points: dict[int, list[float]] = {}
        for (place, _), asked in waiting.items():
            points.setdefault(place, []).extend(asked)
        answers = {place: iter(found) for place, found in pool.ask(points).items()}
        for key, asked in tuple(waiting.items()):
            try:
                waiting[key] = searches[key].send([next(answers[key[0]]) for _ in asked])
            except StopIteration as over:
                del waiting[key]
                ends[key] = over.value
    return [
        _interval(one.px, ends.get((place, -1), 0.0), ends.get((place, 1), 0.0)) for place, one in enumerate(accounts)
    ]


def _interval(px: float, down: float | None, up: float | None) -> Interval:
    return Interval(0.0 if down is None else px * exp(down), inf if up is None else px * exp(up))


def _ladders(pool: _Pool) -> list[tuple[int, Floats, Floats]]:
    """Return by account the steps of its ladder, those down first, nearest first on each side, and equity there."""
    steps = [np.concatenate([-with_steps(LADDER, -dips), with_steps(LADDER, dips)]) for dips in pool.dips()]
    logs = np.zeros((max(len(own) for own in steps), len(steps)))
    for place, own in enumerate(steps):
        logs[: len(own), place] = own
    moves = np.expm1(logs)
    equity = pool.equity_quote(moves, pool.marks_px(moves))
    return [(place, own, equity[: len(own), place]) for place, own in enumerate(steps)]


Search = Generator[list[float], list[_Asked], float | None]


def _end(now: _Asked, steps: Floats, equity_quote: Floats) -> Search:
    """Ask for moves, and return the first logarithmic one at which the account ends, None if within reach none does.

    Steps are on one side, nearest first.
    """
    reach, equity, sign = np.abs(steps).tolist(), equity_quote.tolist(), float(np.sign(steps[0]))
    alive = [now]  # nearest first
    points: list[float] = []
    for _ in range(MOST_ASKED):
        points = [sign * one for one in _next_points(alive, reach, equity)]
        if not points:
            return None
        dead: _Asked | None = None
        for one in (yield points):
            if dead is None and not one.gap > 0.0:
                dead = one
            elif dead is None:
                alive.append(one)
        alive.sort(key=lambda one: abs(one.at))
        if dead is not None:
            alive = [one for one in alive if abs(one.at) < abs(dead.at)]
            return (yield from _between(alive, dead, sign * _meeting(alive, dead, reach, equity)))
    return max((one.at for one in alive if abs(one.at) <= abs(points[-1])), key=abs)


def _next_points(alive: list[_Asked], reach: list[float], equity: list[float]) -> list[float]:
    """Return the distances to ask about next, nearest first; none where the account does not end.

    They are where margin, carried on, meets equity, with half the way to it, else the guards that are left.
    """
    known, margins = [abs(one.at) for one in alive], [one.margin for one in alive]
    before, left = 0.0, alive[0].gap  # the step before the one looked at, and what was left there
    for far, worth in zip(reach, equity, strict=True):
        gap = worth - _margin_at(far, known, margins)
        # What the model called alive is alive, whatever the last digit of the ladder's own equity says.
        if not gap > 0.0 and not any(abs(far - one) <= NEAR_ENOUGH * far for one in known):
            at = before + (far - before) * left / (left - gap) if isfinite(worth) and left > 0.0 else far
            below = max([one for one in known if one < at], default=0.0)
            if at - below <= NEAR_ENOUGH * at:  # that lives: the step itself
                at = far
            return [0.5 * (below + at), at]
        before, left = far, gap
    return [guard for guard in GUARDS if guard > known[-1] * (1.0 + NEAR_ENOUGH)]


def _margin_at(at: float, known: list[float], margins: list[float]) -> float:
    """Return margin along straight lines between what is known, and along the last of them beyond."""
    place = min(max(bisect_left(known, at), 1), len(known) - 1)
    if place == 0 or not known[place] > known[place - 1]:
        return margins[place]
    share = (at - known[place - 1]) / (known[place] - known[place - 1])
    return max(margins[place - 1] + share * (margins[place] - margins[place - 1]), 0.0)


def _meeting(alive: list[_Asked], dead: _Asked, reach: list[float], equity: list[float]) -> float:
    """Return about how far away equity meets margin, between the last that lives and one that does not.

    Margin is taken as straight between prices, equity from the ladder's steps in between.
    """
    low, high = abs(alive[-1].at), abs(dead.at)
    if not isfinite(dead.margin):
        return 0.5 * (low + high)
    known = sorted([(abs(expm1(one.at)), one.margin) for one in (*alive, dead)])
    moves, margins = [move for move, _ in known], [margin for _, margin in known]
    side = 1.0 if dead.at > 0.0 else -1.0
    before, left = low, alive[-1].gap
    for far, worth in zip(reach, equity, strict=True):
        if not low < far < high:
            continue
        gap = worth - _margin_at(abs(expm1(side * far)), moves, margins)
        if not gap > 0.0:
            high, last = far, gap
            break
        before, left = far, gap
    else:
        last = dead.gap
    return before + (high - before) * (left / (left - last) if isfinite(last) else 0.5)


def _between(alive: list[_Asked], dead: _Asked, at: float) -> Search:
    """Ask for moves, and return the one between the last that lives and one that does not where margin meets equity.

    `at` is where that should be: it is asked about, and what is close to it on both sides.
    """
    low, high = alive[-1], dead
    others = alive[:-1]
    for _ in range(MOST_ASKED):
        width = high.at - low.at
        if abs(width) <= NEAR_ENOUGH * abs(high.at):
            break
        for found in (yield _around(low.at, high.at, at)):
            if abs(found.gap) <= NEAR_ENOUGH * abs(found.margin):
                return found.at
            if not found.gap > 0.0:
                others.append(high)
                high = found
                break
            others.append(low)
            low = found
        line, bend = _shares(low, high, others)
        width = high.at - low.at
        at = low.at + width * (line if bend is None else bend)
        if (
            bend is not None
            and abs(width) * abs(bend - line) <= NEAR_ENOUGH * abs(at)
            and abs(width) <= 2 * AROUND * abs(at)
        ):
            return at
    return low.at


def _around(low: float, high: float, at: float) -> list[float]:
    """Return three moves between two others, nearest first: about `at`, no further apart than a quarter of the way."""
    width = high - low
    step = min(AROUND * abs(at), 0.25 * abs(width)) * (1.0 if width > 0.0 else -1.0)
    middle = min(max((at - low) / width, LEAST_SHARE), 1.0 - LEAST_SHARE) * width + low
    return [
        one
        for one in (middle - step, middle, middle + step)
        if LEAST_SHARE / 2 <= (one - low) / width <= 1.0 - LEAST_SHARE / 2
    ]


def _shares(low: _Asked, high: _Asked, others: list[_Asked]) -> tuple[float, float | None]:
    """Return how far from low to high the gap is nothing, by a line and by the parabola of moves over three gaps.

    The third is the nearest of the others; there is no parabola where it leads astray.
    """
    if not isfinite(high.gap):
        return 0.5, None
    width = high.at - low.at
    line = min(max(low.gap / (low.gap - high.gap), LEAST_SHARE), 1.0 - LEAST_SHARE)
    usable = [one for one in others if isfinite(one.gap) and one.gap not in (low.gap, high.gap)]
    if not usable:
        return line, None
    third = min(usable, key=lambda one: abs((one.at - low.at) / width - 0.5))
    far = (third.at - low.at) / width
    bend = low.gap * third.gap / ((high.gap - low.gap) * (high.gap - third.gap))
    bend += far * low.gap * high.gap / ((third.gap - low.gap) * (third.gap - high.gap))
    return line, bend if 0.0 < bend < 1.0 else None
