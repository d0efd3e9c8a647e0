"""The interval an account lives in, with few questions to its margin model, as each may cost a millisecond.

Equity is repriced exactly at every step of a dense ladder in one pass, which is cheap; maintenance margin is asked for
only where the ladder says the account might end, and carried on between those prices along straight lines. So an end is
always confirmed by the model itself. What it can miss, and `distances.find_interval` would not, is margin that rises
and falls again between two prices asked about, before that end: half the way to it is asked about as well.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from math import exp, inf
from typing import Final

import msgspec
import numpy as np

from bot.risk.book import Floats, RiskBook
from bot.risk.distances import FARTHEST_LOG, Interval, dips, move_books, value_changes, weights_of, with_steps
from bot.risk.layout import layout_of
from bot.risk.stack import BookStack

STEPS: Final = 24  # of the ladder on either side, denser near the price
GUARDS: Final = (0.25, FARTHEST_LOG)  # asked about where the ladder sees no end
MOST_ASKED: Final = 8  # on either side; what is not settled by then ends at the last price known to be alive
LEAST_SHARE: Final = 0.02  # of what is left between alive and dead, a question goes at least so far
NEAR_ENOUGH: Final = 1e-3  # of the way to the end


class _Asked(msgspec.Struct, gc=False):
    """What the model said at one logarithmic move."""

    at: float
    gap: float
    margin: float


class _Account:
    """Equity of a book after logarithmic moves of one underlying or of all, and its maintenance margin where asked."""

    __slots__ = (
        "_book",
        "_coins_quote",
        "_equity_quote",
        "_layout",
        "_maintenance",
        "_ratio",
        "_underlying",
        "_weight",
    )

    def __init__(
        self,
        book: RiskBook,
        equity_quote: float,
        maintenance: Callable[[BookStack], Floats],
        ratio: float,
        underlying: str | None,
        spot_weight: float,
        coins_quote: float = 0.0,
    ) -> None:
        self._book = book
        self._coins_quote = coins_quote
        self._equity_quote = equity_quote
        self._layout = layout_of(book)
        self._maintenance = maintenance
        self._ratio = ratio
        self._underlying = underlying
        self._weight = weights_of(book, spot_weight)

    def equity(self, logs: Floats) -> Floats:
        """Return equity after each move, times the ratio at which the venue liquidates."""
        book = self._book
        is_moved = np.ones(len(book), dtype=bool)
        if self._underlying is not None:
            number = book.underlyings.index(self._underlying) if self._underlying in book.underlyings else -1
            is_moved = book.underlying == number
        linear = is_moved & ~book.is_option
        moves = np.expm1(logs)
        won = moves * (float(self._weight[linear] @ book.mark_px[linear]) + self._coins_quote)
        rows = np.flatnonzero(is_moved & book.is_option)
        if rows.size:
            changes = value_changes(book, rows, moves, book.vol[rows])
            mark = book.mark_px[rows]
            won = won + (np.maximum(mark + changes, 0.0) - mark) @ self._weight[rows]
        out: Floats = self._ratio * (self._equity_quote + won)
        return out

    def ask(self, points: list[float]) -> list[_Asked]:
        """Return the gap between equity and margin at each of some moves, margin by the model."""
        moves = np.expm1(np.array(points))
        stack = move_books(self._book, moves, underlying=self._underlying, layout=self._layout)
        won = (stack.mark_px - self._book.mark_px) @ self._weight + self._coins_quote * moves
        equity = self._ratio * (self._equity_quote + won)
        margin = self._maintenance(stack)
        return [_Asked(*one) for one in zip(points, (equity - margin).tolist(), margin.tolist(), strict=True)]


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

    terms = {"liquidation_ratio": liquidation_ratio, "spot_weight": spot_weight}
    return stack_interval(book, equity_quote, each, px, underlying=underlying, **terms)


def stack_interval(
    book: RiskBook,
    equity_quote: float,
    maintenance: Callable[[BookStack], Floats],
    px: float,
    *,
    liquidation_ratio: float = 1.0,
    underlying: str | None = None,
    spot_weight: float = 1.0,
    margin_now_quote: float | None = None,
    coins_quote: float = 0.0,
) -> Interval:
    """Return what `quick_interval` does, of a model that answers for several moved books at once.

    Both sides are searched side by side, so that it is asked about three times, for up to four books.
    `margin_now_quote`, where it is known, is not asked about again. `coins_quote` of equity is no row of the book, for
    coins that are posted, and moves with prices all the same.
    """
    account = _Account(book, equity_quote, maintenance, liquidation_ratio, underlying, spot_weight, coins_quote)
    if margin_now_quote is None:
        [now] = account.ask([0.0])
    else:
        now = _Asked(0.0, liquidation_ratio * equity_quote - margin_now_quote, margin_now_quote)
    if not now.gap > 0.0:
        return Interval(px, px)
    steps = FARTHEST_LOG * (np.arange(1, STEPS + 1) / STEPS) ** 2
    at_strikes = dips(book, underlying)
    sides = [side * with_steps(steps, side * at_strikes) for side in (-1.0, 1.0)]
    equity = account.equity(np.concatenate(sides))
    searches = [_end(now, sides[0], equity[: len(sides[0])]), _end(now, sides[1], equity[len(sides[0]) :])]
    ends: list[float | None] = [None, None]
    waiting = {side: next(search) for side, search in enumerate(searches)}
    while waiting:
        answers = iter(account.ask([at for points in waiting.values() for at in points]))
        for side, points in tuple(waiting.items()):
            try:
                waiting[side] = searches[side].send([next(answers) for _ in points])
            except StopIteration as over:
                del waiting[side]
                ends[side] = over.value
    down, up = ends
    return Interval(0.0 if down is None else px * exp(down), inf if up is None else px * exp(up))


Search = Generator[list[float], list[_Asked], float | None]


def _end(now: _Asked, steps: Floats, equity: Floats) -> Search:
    """Ask for moves, and return the first logarithmic one at which the account ends, None if within reach none does."""
    alive = [now]  # nearest first
    points: list[float] = []
    for _ in range(MOST_ASKED):
        points = _next_points(alive, steps, equity)
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
            return (yield from _between([one for one in alive if abs(one.at) < abs(dead.at)], dead))
    return max((one.at for one in alive if abs(one.at) <= abs(points[-1])), key=abs)


def _next_points(alive: list[_Asked], steps: Floats, equity: Floats) -> list[float]:
    """Return the moves to ask about next, nearest first; none where the account does not end.

    They are where margin, carried on, meets equity, with half the way to it, else the guards that are left.
    """
    reach, known, margins = np.abs(steps), [abs(one.at) for one in alive], [one.margin for one in alive]
    margin = np.interp(reach, known, margins)
    if len(alive) > 1 and known[-1] > known[-2]:
        slope = (margins[-1] - margins[-2]) / (known[-1] - known[-2])
        margin = np.where(reach > known[-1], np.maximum(margins[-1] + slope * (reach - known[-1]), 0.0), margin)
    ended = (~(equity > margin)).nonzero()[0]
    if ended.size:  # what the model called alive is alive, whatever the last digit of the ladder's own equity says
        far = reach[ended, None]
        ended = ended[~(np.abs(far - np.array(known)) <= NEAR_ENOUGH * far).any(axis=1)]
    sign = float(np.sign(steps[0]))
    if not ended.size:
        return [sign * guard for guard in GUARDS if guard > known[-1] * (1.0 + NEAR_ENOUGH)]
    place = int(ended[0])
    at = float(reach[place])
    if np.isfinite(equity[place]):
        inner = float(reach[place - 1]) if place else 0.0
        before = float(equity[place - 1] - margin[place - 1]) if place else alive[0].gap
        at = inner + (at - inner) * before / (before - float(equity[place] - margin[place]))
    below = max([one for one in known if one < at], default=0.0)
    if at - below <= NEAR_ENOUGH * at:  # that lives: the step itself
        at = float(reach[place])
    return [sign * 0.5 * (below + at), sign * at]


def _between(alive: list[_Asked], dead: _Asked) -> Search:
    """Ask for moves, and return the one between the last that lives and one that does not where margin meets equity."""
    low, high = alive[-1], dead
    third = alive[-2] if len(alive) > 1 else None
    for _ in range(MOST_ASKED):
        width = high.at - low.at
        if abs(width) <= NEAR_ENOUGH * abs(high.at):
            break
        [found] = yield [low.at + width * _share(low, high, third)]
        if abs(found.gap) <= NEAR_ENOUGH * abs(found.margin):
            return found.at
        if found.gap > 0.0:
            low, third = found, low
        else:
            high, third = found, high
    return low.at


def _share(low: _Asked, high: _Asked, third: _Asked | None) -> float:
    """Return how far from low to high the gap is nothing: by the parabola of moves over three gaps, else a line."""
    if not np.isfinite(high.gap):
        return 0.5
    line = low.gap / (low.gap - high.gap)
    if third is not None and np.isfinite(third.gap) and third.gap not in (low.gap, high.gap):
        far = (third.at - low.at) / (high.at - low.at)
        bend = low.gap * third.gap / ((high.gap - low.gap) * (high.gap - third.gap))
        bend += far * low.gap * high.gap / ((third.gap - low.gap) * (third.gap - high.gap))
        if LEAST_SHARE < bend < 1.0 - LEAST_SHARE:
            return bend
    return min(max(line, LEAST_SHARE), 1.0 - LEAST_SHARE)
