"""The interval an account lives in, with few questions to its margin model, as each may cost a millisecond.

Equity is repriced exactly at every step of a dense ladder in one pass, which is cheap; maintenance margin is asked for
only where the ladder says the account might end, and carried on between those prices along straight lines. So an end is
always confirmed by the model itself. What it can miss, and `distances.find_interval` would not, is margin that rises
and falls again between two prices asked about, before that end: half the way to it is asked about once more.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from math import exp, inf
from typing import Final

import msgspec
import numpy as np

from bot.risk.book import Floats, RiskBook
from bot.risk.distances import FARTHEST_LOG, Interval, dips, move_books, value_changes, weights_of, with_steps
from bot.risk.stack import BookStack

STEPS: Final = 40  # of the ladder on either side, denser near the price
GUARDS: Final = (0.25, FARTHEST_LOG)  # asked about where the ladder sees no end
MOST_ASKED: Final = 8  # on either side; what is not settled by then ends at the last price known to be alive
NEAR_ENOUGH: Final = 1e-3  # of the way to the end


class _Asked(msgspec.Struct, gc=False):
    """What the model said at one logarithmic move."""

    at: float
    gap: float
    margin: float


class _Account:
    """Equity of a book after logarithmic moves of one underlying or of all, and its maintenance margin where asked."""

    __slots__ = ("_book", "_equity_quote", "_maintenance", "_ratio", "_underlying", "_weight")

    def __init__(
        self,
        book: RiskBook,
        equity_quote: float,
        maintenance: Callable[[BookStack], Floats],
        ratio: float,
        underlying: str | None,
        spot_weight: float,
    ) -> None:
        self._book = book
        self._equity_quote = equity_quote
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
        won = moves * float(self._weight[linear] @ book.mark_px[linear])
        rows = np.flatnonzero(is_moved & book.is_option)
        if rows.size:
            changes = value_changes(
                book, rows, np.broadcast_to(moves[:, None], (len(moves), len(rows))), book.vol[rows]
            )
            mark = book.mark_px[rows]
            won = won + (np.maximum(mark + changes, 0.0) - mark) @ self._weight[rows]
        out: Floats = self._ratio * (self._equity_quote + won)
        return out

    def ask(self, points: list[float]) -> list[_Asked]:
        """Return the gap between equity and margin at each of some moves, margin by the model."""
        stack = move_books(self._book, np.expm1(np.array(points)), underlying=self._underlying)
        equity = self._ratio * (self._equity_quote + (stack.mark_px - self._book.mark_px) @ self._weight)
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
) -> Interval:
    """Return what `quick_interval` does, of a model that answers for several moved books at once.

    Both sides are searched side by side, so that it is asked about five times, mostly for two books.
    """
    account = _Account(book, equity_quote, maintenance, liquidation_ratio, underlying, spot_weight)
    [now] = account.ask([0.0])
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
        found = account.ask(list(waiting.values()))
        for side, asked in zip(tuple(waiting), found, strict=True):
            try:
                waiting[side] = searches[side].send(asked)
            except StopIteration as over:
                del waiting[side]
                ends[side] = over.value
    down, up = ends
    return Interval(0.0 if down is None else px * exp(down), inf if up is None else px * exp(up))


def _end(now: _Asked, steps: Floats, equity: Floats) -> Generator[float, _Asked, float | None]:
    """Ask for moves, and return the first logarithmic one at which the account ends, None if within reach none does."""
    alive = [now]
    for _ in range(MOST_ASKED):
        at = _guess(alive, steps, equity)
        if at is None:
            return None
        found = yield at
        if found.gap > 0.0:
            alive.append(found)
            continue
        half = yield 0.5 * (alive[-1].at + found.at)
        return (yield from _between(alive[-1], half, found))
    return alive[-1].at


def _guess(alive: list[_Asked], steps: Floats, equity: Floats) -> float | None:
    """Return the move to ask about next: where margin, carried on, meets equity, else the next guard."""
    reach = np.abs(steps)
    last = abs(alive[-1].at)
    margin = np.full(len(steps), alive[-1].margin)
    if len(alive) > 1:
        slope = (alive[-1].margin - alive[-2].margin) / (last - abs(alive[-2].at))
        margin = np.maximum(alive[-1].margin + slope * (reach - last), 0.0)
    ended = np.flatnonzero((reach > last) & ~(equity > margin))
    guards = [guard for guard in GUARDS if guard > last * (1.0 + NEAR_ENOUGH)]
    if not ended.size:
        return float(np.copysign(guards[0], steps[0])) if guards else None
    place = int(ended[0])
    inner = place - 1
    if inner >= 0 and reach[inner] > last and np.isfinite(equity[place]):
        before, after = equity[inner] - margin[inner], equity[place] - margin[place]
        return float(steps[inner] + (steps[place] - steps[inner]) * before / (before - after))
    return float(steps[place])


def _between(alive: _Asked, half: _Asked, dead: _Asked) -> Generator[float, _Asked, float]:
    """Ask for moves, and return the one between one that lives and one that does not at which margin reaches equity."""
    if half.gap > 0.0:
        alive = half
    else:
        dead = half
    for _ in range(MOST_ASKED):
        width = abs(dead.at - alive.at)
        if width <= NEAR_ENOUGH * abs(dead.at):
            break
        share = alive.gap / (alive.gap - dead.gap) if np.isfinite(dead.gap) else 0.5
        at = alive.at + (dead.at - alive.at) * min(max(share, 0.02), 0.98)
        found = yield at
        if abs(found.gap) <= NEAR_ENOUGH * abs(found.margin):
            return found.at
        if found.gap > 0.0:
            alive = found
        else:
            dead = found
    return alive.at
