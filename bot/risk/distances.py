"""How far an account is from liquidation: in price on both sides, in sigmas, as a chance, and in time.

An account is liquidated where maintenance margin reaches `liquidation_ratio` of equity, so utilisation is normalised by
it and 1 means the same everywhere. The price goes as a driftless logarithmic walk of one vol; as long as the account
depends on the price alone, it is liquidated the first time the price leaves an interval, whatever is in the book. What
also changes with time has bounds that move: `touch_moving_bounds`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, exp, inf, isfinite, isnan, log, sqrt
from typing import Final

import msgspec
import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from bot.risk.book import SPOT, Floats, Ints, RiskBook
from bot.risk.repricing import option_values
from bot.risk.stack import BookStack, sized_in_quote

DAY_YEARS: Final = 1.0 / 365.0
FARTHEST_LOG: Final = log(8.0)  # nobody plans for a price further away than eight times or an eighth
SEARCH_POINTS: Final = 24  # on either side, denser near the price
_BATCH: Final = 4  # points looked at before looking further out
_DIPS: Final = 4  # strikes on either side that are looked at as well, those with the least equity
_MOST_DIPS: Final = 32  # of so many at most
SHARP: Final = 0.05  # deviation up to expiry below which a bend may be narrower than a step
_EXACT: Final = 1e-13

Health = Callable[[Floats, float], tuple[Floats, Floats]]
"""Equity and maintenance margin in quote money after relative moves of the price (0 is now), at vols times a factor."""


class Interval(msgspec.Struct, frozen=True, gc=False):
    """The prices between which an account lives; 0 and infinity where no price within reach ends it."""

    down_px: float
    up_px: float


class Distance(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How far an account is from liquidation.

    `interval` is at today's vols, `tightest` the narrowest with vols shifted either way; sigmas are those of a day.
    `touch_probability` is the chance of leaving `tightest` within the delay, and `breach_years` the time before which
    that is 1 % likely. `degraded` says what was not known, and that the numbers are therefore the worst there are.
    """

    utilisation_ratio: float
    interval: Interval
    tightest: Interval
    down_fraction: float
    up_fraction: float
    down_sigmas: float
    up_sigmas: float
    touch_probability: float
    breach_years: float
    degraded: str = ""


def utilise(equity_quote: float, maintenance_quote: float, liquidation_ratio: float = 1.0) -> float:
    """Return the share of the way to liquidation: u = (MM / E) / u_liq; infinite without equity, NaN if not known.

    `liquidation_ratio` is the MM/E at which the venue liquidates: 1 for most, 1/1.05 where it wants 105 % left.
    """
    if isnan(equity_quote) or isnan(maintenance_quote):
        return float("nan")
    if maintenance_quote <= 0.0 and equity_quote >= 0.0:
        return 0.0
    return maintenance_quote / equity_quote / liquidation_ratio if equity_quote > 0.0 else inf


def linear_liquidation_px(
    equity_quote: float, qty_base: float, px: float, maintenance_fraction: float, liquidation_ratio: float = 1.0
) -> float:
    """Return the price at which one linear position liquidates its account, 0 or infinity where none does.

    p' = u (E − qP) / (|q| mmf − u q), from u (E + q (p' − P)) = |q| mmf p'; already past it, the result is beyond P.
    """
    slope = abs(qty_base) * maintenance_fraction - liquidation_ratio * qty_base
    never = 0.0 if qty_base >= 0.0 else inf
    if slope == 0.0:
        return never
    found = liquidation_ratio * (equity_quote - qty_base * px) / slope
    return found if found > 0.0 else never


def find_interval(
    health: Health, px: float, liquidation_ratio: float = 1.0, vol_factor: float = 1.0, points: int = SEARCH_POINTS
) -> Interval:
    """Return the prices on both sides at which utilisation first reaches 1, by repricing; both `px` if it is there now.

    The search goes outwards in steps that grow, and then narrows the first change of sign down to the last digits.
    """

    def gap(log_moves: Floats) -> Floats:
        equity, maintenance = health(np.expm1(log_moves), vol_factor)
        return liquidation_ratio * equity - maintenance

    if not gap(np.zeros(1))[0] > 0.0:
        return Interval(px, px)
    bounds = []
    for side in (-1.0, 1.0):
        steps = FARTHEST_LOG * (np.arange(points + 1) / points) ** 2
        if isinstance(health, BookHealth):
            steps = with_steps(steps, side * health.lows())
        bounds.append(_first_breach(gap, side * steps))
    down, up = bounds
    return Interval(px * exp(down) if isfinite(down) else 0.0, px * exp(up) if isfinite(up) else inf)


def touch_probability(interval: Interval, px: float, vol: float, years: float) -> float:
    """Return the chance that a driftless logarithmic walk leaves an interval within a time.

    One bound at the distance d: 2 Φ(−d / (σ√T)), the reflection principle. Two, a and b in logarithms, L apart: the
    alternating sum of 2 Φ(−(a + mL)/(σ√T)) + 2 Φ(−(b + mL)/(σ√T)), which counts paths by how often they cross over.
    Exact also where it is tiny. NaN where the vol or the time is; 1 where the price is outside already.
    """
    if isnan(vol) or isnan(years) or isnan(px):
        return float("nan")
    down, up = _log_distances(interval, px)
    if min(down, up) <= 0.0:
        return 1.0
    deviation = vol * sqrt(max(years, 0.0))
    if deviation <= 0.0 or min(down, up) == inf:
        return 0.0
    width = down + up
    if width == inf:
        return float(2.0 * ndtr(-min(down, up) / deviation))
    if deviation > 50.0 * width:
        return 1.0
    crossings = np.arange(ceil(40.0 * deviation / width) + 2)
    terms = ndtr(-(down + crossings * width) / deviation) + ndtr(-(up + crossings * width) / deviation)
    return float(min(1.0, 2.0 * (terms * (1.0 - 2.0 * (crossings % 2))).sum()))


def years_to_breach(interval: Interval, px: float, vol: float, probability: float = 0.01) -> float:
    """Return the time within which liquidation is that likely: with 1 %, 99 % of paths live longer.

    0 where the price is outside already or the vol is not known, infinite where no price within reach ends the account.
    """
    down, up = _log_distances(interval, px)
    nearest = min(down, up)
    if not nearest > 0.0 or not vol >= 0.0:
        return 0.0
    if nearest == inf or vol == 0.0:
        return inf
    alone = (nearest / (vol * float(ndtri(0.5 * probability)))) ** 2
    if max(down, up) == inf:
        return alone
    both = (nearest / (vol * float(ndtri(0.25 * probability)))) ** 2  # were the other bound as near
    found = brentq(
        lambda years: touch_probability(interval, px, vol, years) - probability,
        0.99 * both,
        1.01 * alone,
        xtol=1e-12 * both,
    )
    return float(found)


def touch_moving_bounds(down_logs: Floats, up_logs: Floats, vol: float, years: float, points: int = 401) -> float:
    """Return the chance of touching bounds that move, told as log distances at equally spaced moments, now first.

    The density of what is still alive is carried over a grid from moment to moment. Within a step the bounds are
    straight, and a path between two points is a Brownian bridge: it touches a bound x and y away by exp(−2xy/(σ²dt)).
    """
    steps = len(down_logs) - 1
    if steps < 1 or len(up_logs) != len(down_logs):
        raise ValueError(f"expected bounds at two moments at least, found {len(down_logs)} and {len(up_logs)}")
    if isnan(vol) or isnan(years):
        return float("nan")
    if min(down_logs[0], up_logs[0]) <= 0.0:
        return 1.0
    if vol <= 0.0 or years <= 0.0:
        return 0.0
    variance = vol * vol * years / steps
    reach = 8.0 * vol * sqrt(years)
    least, most = -min(reach, float(np.max(down_logs))), min(reach, float(np.max(up_logs)))
    grid = np.linspace(least, most, points)
    width = grid[1] - grid[0]
    jumps = grid[None, :] - grid[:, None]
    kernel = np.exp(-0.5 * jumps * jumps / variance) * (width / sqrt(2.0 * np.pi * variance))
    start = np.exp(-0.5 * grid * grid / variance) / sqrt(2.0 * np.pi * variance)
    alive = start * _bridge(np.zeros(1), grid, down_logs[:2], up_logs[:2], variance)[0]
    for step in range(1, steps):
        here = slice(step, step + 2)
        alive = alive @ (kernel * _bridge(grid, grid, down_logs[here], up_logs[here], variance))
    return float(np.clip(1.0 - alive.sum() * width, 0.0, 1.0))


def measure_distance(
    health: Health,
    px: float,
    vol: float,
    delay_years: float,
    liquidation_ratio: float = 1.0,
    vol_shift_fraction: float = 0.0,
) -> Distance:
    """Return how far an account is from liquidation, with vols as they are and shifted by a fraction either way.

    What is not a number, equity, margin or vol, makes the distance none at all: NaN probability, no time, `degraded`.
    """
    equity, maintenance = (float(one[0]) for one in health(np.zeros(1), 1.0))
    used = utilise(equity, maintenance, liquidation_ratio)
    unknown = [
        name
        for name, number in (("price", px), ("vol", vol), ("delay", delay_years), ("margin", used))
        if isnan(number) or (name != "margin" and not number >= 0.0)
    ]
    if unknown:
        nowhere = Interval(px, px)
        told = f"{', '.join(unknown)} unknown: taken as no distance at all"
        return _distance(used, nowhere, nowhere, px, float("nan"), float("nan"), 0.0, told)
    factors = (1.0,) if vol_shift_fraction == 0.0 else (1.0, 1.0 - vol_shift_fraction, 1.0 + vol_shift_fraction)
    if equity == 0.0 and maintenance == 0.0:  # nothing is there that could be liquidated
        anywhere = Interval(0.0, inf)
        return _distance(used, anywhere, anywhere, px, vol, 0.0, inf)
    found = [find_interval(health, px, liquidation_ratio, factor) for factor in factors]
    tightest = Interval(max(one.down_px for one in found), min(one.up_px for one in found))
    likely = touch_probability(tightest, px, vol, delay_years)
    return _distance(used, found[0], tightest, px, vol, likely, years_to_breach(tightest, px, vol))


def linear_health(equity_quote: float, qty_base: float, px: float, maintenance_fraction: float) -> Health:
    """Return the health of an account with one linear position."""

    def health(moves: Floats, _vol_factor: float) -> tuple[Floats, Floats]:
        return equity_quote + qty_base * px * moves, abs(qty_base) * maintenance_fraction * px * (1.0 + moves)

    return health


def greek_health(
    equity_quote: float, maintenance_quote: float, delta_quote: float, gamma_quote_per_pct: float
) -> Health:
    """Return the health of an account by its Greeks, for small moves m: E + Δm + ½ Γ (100 m) m and MM (1 + |m|).

    `gamma_quote_per_pct` is by how much delta in quote money changes when the price moves by 1 %.
    """

    def health(moves: Floats, _vol_factor: float) -> tuple[Floats, Floats]:
        equity = equity_quote + delta_quote * moves + 50.0 * gamma_quote_per_pct * moves * moves
        return equity, maintenance_quote * (1.0 + np.abs(moves))

    return health


def book_health(
    book: RiskBook,
    equity_quote: float,
    maintenance: Callable[[RiskBook], float],
    underlying: str | None = None,
    spot_weight: float = 1.0,
) -> Health:
    """Return the health of a book under a margin model, by repricing book and model at every move.

    `maintenance` answers the model's maintenance margin of a book in quote money. One underlying moves, or all alike
    (None). Coins held outright count with `spot_weight`, what the venue's haircut leaves of them; debts count whole.
    """
    return BookHealth(book, equity_quote, maintenance, underlying, spot_weight)


class BookHealth:
    """The health of a book under a margin model; see `book_health`."""

    __slots__ = ("_book", "_equity_quote", "_maintenance", "_underlying", "_weight")

    def __init__(
        self,
        book: RiskBook,
        equity_quote: float,
        maintenance: Callable[[RiskBook], float],
        underlying: str | None,
        spot_weight: float,
    ) -> None:
        self._book = book
        self._equity_quote = equity_quote
        self._maintenance = maintenance
        self._underlying = underlying
        self._weight = weights_of(book, spot_weight)

    def __call__(self, moves: Floats, vol_factor: float) -> tuple[Floats, Floats]:
        """Return equity and maintenance margin after relative moves, at vols times a factor."""
        equity, margin = np.empty(len(moves)), np.empty(len(moves))
        for place, move in enumerate(moves):
            moved = move_book(self._book, float(move), vol_factor, self._underlying)
            equity[place] = self._equity_quote + float(self._weight @ (moved.mark_px - self._book.mark_px))
            margin[place] = self._maintenance(moved)
        return equity, margin

    def lows(self) -> Floats:
        """Return the logarithmic moves on either side, a few each, at which a search must not look past a dip."""
        logs = dips(self._book, self._underlying)
        if not logs.size:
            return logs
        equity = move_books(self._book, np.expm1(logs), underlying=self._underlying).mark_px @ self._weight
        order = np.argsort(equity, kind="stable")
        found: Floats = np.concatenate([logs[order][side * logs[order] > 0.0][:_DIPS] for side in (-1.0, 1.0)])
        return found


def dips(book: RiskBook, underlying: str | None = None) -> Floats:
    """Return the logarithmic moves to strikes of which more is held than sold, the most held of them, lowest first.

    Near expiry the value of options is bent there, and where they are held it may dip (the middle of a butterfly that
    was sold) and rise again within less than a step of a search.
    """
    is_moved = np.array([underlying is None or one == underlying for one in book.underlyings], dtype=bool)
    dev = book.vol * np.sqrt(np.clip(book.tau_years, 0.0, 1e3))
    rows = np.flatnonzero(book.is_option & is_moved[book.underlying] & (dev < SHARP))
    logs = np.log(book.strike_px[rows] / book.forward_px[rows])
    return most_held(logs, book.qty_base[rows] * book.spot_of_row_px[rows])


def most_held(logs: Floats, held_quote: Floats) -> Floats:
    """Return the moves to strikes of which more is held than sold, of options near expiry (see `dips`)."""
    if not logs.size:
        return logs
    logs, place = np.unique(logs.round(9), return_inverse=True)
    net = np.bincount(place, weights=held_quote)
    usable = ((net > 0.0) & (np.abs(logs) < FARTHEST_LOG) & (logs != 0.0)).nonzero()[0]
    if len(usable) > _MOST_DIPS:
        usable = np.sort(usable[np.argsort(-net[usable], kind="stable")[:_MOST_DIPS]])
    found: Floats = logs[usable]
    return found


def with_steps(steps: Floats, more: Floats) -> Floats:
    """Return the steps of one side of a search with those of `more` that are on that side, in order."""
    on_it = more[(more > 0.0) & (more < steps[-1])] if more.size else more
    found: Floats = np.sort(np.concatenate([steps, on_it])) if on_it.size else steps
    return found


def weights_of(book: RiskBook, spot_weight: float) -> Floats:
    """Return what of each row's quantity counts as its price moves: coins held by their haircut, what is owed whole."""
    weights: Floats = np.where((book.kind == SPOT) & (book.qty_base > 0.0), spot_weight, 1.0) * book.qty_base
    return weights


def move_book(book: RiskBook, move_fraction: float, vol_factor: float = 1.0, underlying: str | None = None) -> RiskBook:
    """Return the book after a relative move of spot (of one underlying, or of all) and with its vols times a factor.

    Forwards go with spot. A mark keeps what it differs by from Black-76, and no option is worth less than nothing. An
    inverse contract is then fewer units of base, or more, for the same quote money; its gain in quote money is linear
    in the price all the same, q (P' - P) with the q of before, coins being counted at P'.
    """
    return move_books(book, np.array([move_fraction]), vol_factor, underlying).book(0, book)


def move_books(
    book: RiskBook,
    moves: Floats,
    vol_factor: float = 1.0,
    underlying: str | None = None,
    option_marks_px: Floats | None = None,
) -> BookStack:
    """Return a copy of the book after each of several relative moves, as `move_book` would.

    `option_marks_px`, where it is known, is what its options are worth then, by move and option.
    """
    now, vol = BookStack(book), book.vol
    rows = now.layout.options
    of_spot = of_row = 1.0 + moves[:, None]
    of_options: Floats = moves
    if underlying is not None:
        is_moved = np.array([one == underlying for one in book.underlyings], dtype=bool)
        of_spot = np.where(is_moved, of_spot, 1.0)
        of_row = of_spot[:, book.underlying]
        of_options = of_row[:, rows] - 1.0
        vol = vol if vol_factor == 1.0 else vol * np.where(is_moved[book.underlying], vol_factor, 1.0)
    elif vol_factor != 1.0:
        vol = vol * vol_factor
    mark = book.mark_px * of_row
    if option_marks_px is not None:
        mark[:, rows] = option_marks_px
    elif rows.size:
        won = value_changes(book, rows, of_options, vol[rows])
        mark[:, rows] = np.maximum(book.mark_px[rows] + won, 0.0)
    spot_px, forward_px = book.spot_px * of_spot, book.forward_px * of_row
    return sized_in_quote(now.at(spot_px, forward_px=forward_px, mark_px=mark, vol=vol[None, :]), book)


def value_changes(book: RiskBook, rows: Ints, moves: Floats, vol: Floats) -> Floats:
    """Return by how much options change in value where forwards move, by line and option, and vols are these.

    Moves are a number per line, or one for each option.
    """
    lines = np.arange(len(moves) + 1)
    values = option_values(
        book.forward_px[rows],
        book.strike_px[rows],
        book.tau_years[rows],
        book.is_call[rows],
        np.concatenate([moves, np.zeros((1, *moves.shape[1:]))]),
        np.array([vol, book.vol[rows]]),
        lines,
        (lines == len(moves)).astype(np.int64),
    )
    won: Floats = values[:-1] - values[-1]
    return won


def _first_breach(gap: Callable[[Floats], Floats], steps: Floats) -> float:
    """Return the first point at which the gap is closed, infinite if it never is within the steps."""
    for start in range(1, len(steps), _BATCH):
        ahead = steps[start : start + _BATCH]
        closed = np.flatnonzero(~(gap(ahead) > 0.0))
        if len(closed):
            place = start + int(closed[0])
            return _narrow(gap, float(steps[place - 1]), float(steps[place]))
    return inf


def _narrow(gap: Callable[[Floats], Floats], alive: float, dead: float) -> float:
    """Return where the gap closes between a point that lives and one that does not, the latter if that is NaN."""

    def one(point: float) -> float:
        return float(gap(np.array([point]))[0])

    if not isfinite(one(dead)):
        return dead
    return float(brentq(one, alive, dead, xtol=_EXACT, rtol=_EXACT))


def _bridge(before: Floats, after: Floats, down: Floats, up: Floats, variance: float) -> Floats:
    """Return the chance that a path between points of two moments touches neither bound, 0 from or to outside."""
    out: Floats = np.ones((len(before), len(after)))
    for bounds, sign in ((down, 1.0), (up, -1.0)):
        left = np.maximum(bounds[0] + sign * before, 0.0)
        right = np.maximum(bounds[1] + sign * after, 0.0)
        out *= -np.expm1(np.maximum(-2.0 * left[:, None] * right[None, :] / variance, -700.0))
    return out


def _log_distances(interval: Interval, px: float) -> tuple[float, float]:
    down = log(px / interval.down_px) if interval.down_px > 0.0 else inf
    return down, log(interval.up_px / px) if interval.up_px < inf else inf


def _distance(
    used: float,
    interval: Interval,
    tightest: Interval,
    px: float,
    vol: float,
    likely: float,
    breach_years: float,
    degraded: str = "",
) -> Distance:
    day = vol * sqrt(DAY_YEARS)
    down, up = (0.0, 0.0) if degraded else _log_distances(interval, px)
    return Distance(
        utilisation_ratio=used,
        interval=interval,
        tightest=tightest,
        down_fraction=0.0 if degraded else 1.0 - interval.down_px / px,
        up_fraction=0.0 if degraded else interval.up_px / px - 1.0,
        down_sigmas=down / day if day > 0.0 else (inf if down > 0.0 else 0.0),
        up_sigmas=up / day if day > 0.0 else (inf if up > 0.0 else 0.0),
        touch_probability=likely,
        breach_years=breach_years,
        degraded=degraded,
    )
