"""Which listed options to trade as hedges: those that save more hedging and risk than they cost.

Over the quantities x of the options offered, the least of

    W(Γ + Gx)  +  (g/2) Σ (r + Rx)²  +  kS·H·V((e + d·x)/H)  +  Σ cost·|x|

W is the expected cost of hedging delta over the remaining life of the book, J = ½ (3/2)^(2/3) g^(1/3) k^(2/3) S^(8/3)
σ² |Γ|^(4/3) per year (Whalley & Wilmott 1997, Mathematical Finance 7:307-324: cost and risk of the best band), summed
over a grid of times and prices, because gamma is what it is where the price will be, not where it is now. The squares
are the variance of what delta hedging leaves: moves of the vol level, of its term structure and of its skew against
the vega of the same grid, gaps and latency against its gamma. The third term is what the delta that comes with the
options costs to hedge: V is the value function of the same band (`bot.pricing.impulse`), in units of its half-width H.
The last is half-spread and fee. All four are convex, so the optimum is where, for each option, either the marginal
value m of one more is exactly its cost, or |m| is no more than the cost and none is traded: a soft threshold, which is
why one trade does not call for the next.

Assumed: options are held to their expiry and settle for nothing, or, where they outlive the book, are closed when it
ends at the cost they have today; vols stay where they are by strike; the price moves without drift. A book that is
turned over may end at any moment, at a constant rate: what lies ahead then counts by the chance that it is still
there, and closing by the chance that it is not. It must never propose what its own objective calls worse than doing
nothing, and knows nothing of venues, policies or orders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log, sqrt
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from bot.pricing import black76
from bot.pricing.bands import band_half_base, edge_cost_rate_quote
from bot.pricing.ex_ante import OptionTerms
from bot.pricing.impulse import solve_impulse

Floats = NDArray[np.float64]

REFERENCE_YEARS: Final = 30.0 / 365.0  # the tenor vol moves are quoted for
LEAST_LEVEL_YEARS: Final = 7.0 / 365.0  # from here down vols move no more than at this tenor
MOST_SKEW: Final = 1.0  # wings further out than this, in log-moneyness over the root of time, move no more than here
_STRETCH_POINTS: Final = np.polynomial.legendre.leggauss(3)
_MOST_STRETCHES: Final = 5
_SPOT_DEVIATIONS: Final = np.linspace(-2.5, 2.5, 11)
_LEAST_STEP: Final = 1e-9  # of the largest quantity: nearer the optimum than any lot
_MOST_SWEEPS: Final = 60
_MOST_ENTRIES: Final = 100  # an option may leave and enter again
_PROMISING: Final = 6  # options tried one by one for the next place among those traded


class VolMoves(NamedTuple):
    """How far implied vol moves in a year, one standard deviation of each factor at 30 days, and gaps of the price.

    A factor at τ is √(30 d/τ) of that at 30 days, but below seven days no more than there. `level_vol` moves all vols
    together, `slope_vol` the front against the back, `skew_vol` each by its log-moneyness over √τ. Gaps are moves up or
    down by `gap_share` that come too fast to be hedged.
    """

    level_vol: float
    slope_vol: float
    skew_vol: float
    gaps_per_year: float
    gap_share: float


class Situation(NamedTuple):
    """What an underlying's hedging costs and risks now; `vol_risk_share` is how much of vol's risk is to count.

    `gamma_base_per_px` is the net gamma, whatever of it the book's options do not explain is taken to stay; `off_base`
    is net delta less its target. `turnover_per_year` is the rate at which the book is closed before its time. At least
    `closing_share` of closing it is counted into what is opened now, and that much less is saved later by closing now.
    """

    spot_px: float
    vol: float
    gamma_base_per_px: float
    off_base: float
    risk_aversion_per_quote: float
    cost_rate: float
    fixed_cost_quote: float
    lot_base: float
    latency_years: float
    moves: VolMoves
    vol_risk_share: float = 1.0
    turnover_per_year: float = 0.0
    closing_share: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class OptionHedge:
    """The problem in numbers: rows are nodes of time and price, columns the options offered.

    `gamma` and `own_gamma` are per node, `gamma_weight` is what |Γ|^(4/3) costs there; `risk` and `own_risk` are the
    Gram matrix and the gradient at zero of the squares, `base_risk_quote` their value there.
    """

    own_gamma: Floats
    gamma: Floats
    gamma_weight: Floats
    base_risk_quote: float
    own_risk: Floats
    risk: Floats
    off_base: float
    delta: Floats
    delta_cost_quote: float
    half_base: float
    buy_cost_quote: Floats
    sell_cost_quote: Floats
    low_base: Floats
    high_base: Floats

    def hedging_quote(self, x_base: Floats) -> float:
        """Return W, the expected cost of hedging delta from now on."""
        gamma = np.abs(self.own_gamma + self.gamma @ x_base)
        return float(self.gamma_weight @ (gamma * np.cbrt(gamma)))

    def risk_quote(self, x_base: Floats) -> float:
        """Return what the risk costs that hedging delta leaves: (g/2) of its variance."""
        return float(self.base_risk_quote + self.own_risk @ x_base + 0.5 * x_base @ self.risk @ x_base)

    def delta_quote(self, x_base: Floats) -> float:
        """Return what the net delta costs to hedge that there is once the options are traded."""
        share = abs(self.off_base + float(self.delta @ x_base)) / self.half_base
        inside = min(share, 1.0)
        square = inside * inside
        return self.delta_cost_quote * self.half_base * (1.5 * square * (0.5 - square / 12.0) + share - inside)

    def trading_quote(self, x_base: Floats) -> float:
        """Return what the trades themselves cost."""
        bought, sold = np.maximum(x_base, 0.0), np.maximum(-x_base, 0.0)
        return float(self.buy_cost_quote @ bought + self.sell_cost_quote @ sold)

    def objective_quote(self, x_base: Floats) -> float:
        """Return the sum that is to be least."""
        smooth = self.hedging_quote(x_base) + self.risk_quote(x_base) + self.delta_quote(x_base)
        return smooth + self.trading_quote(x_base)

    def marginal_quote(self, x_base: Floats) -> Floats:
        """Return what one more of each option adds to hedging, risk and delta; negative where it saves."""
        gamma = self.own_gamma + self.gamma @ x_base
        out = (4.0 / 3.0) * (self.gamma_weight * np.cbrt(gamma)) @ self.gamma
        out += self.own_risk + self.risk @ x_base
        out += self._delta_slope(self.off_base + float(self.delta @ x_base)) * self.delta
        return np.asarray(out)

    def shortfall_quote(self, x_base: Floats) -> Floats:
        """Return by how much each option breaks the conditions of optimality; zero everywhere at the optimum.

        Where some of an option is traded its marginal value is its cost; where none is, no more than its cost; at a
        bound it may be more in the bound's direction.
        """
        slope = self.marginal_quote(x_base)
        up, down = slope + self.buy_cost_quote, slope - self.sell_cost_quote  # derivatives for buying and selling more
        rise = np.where(x_base < 0.0, slope - self.sell_cost_quote, up)
        fall = np.where(x_base > 0.0, slope + self.buy_cost_quote, down)
        gain_up = np.where(x_base < self.high_base, np.maximum(-rise, 0.0), 0.0)
        gain_down = np.where(x_base > self.low_base, np.maximum(fall, 0.0), 0.0)
        return np.maximum(gain_up, gain_down)

    def solve(self, most_options: int) -> Floats:
        """Return the best quantities with no more than `most_options` of them other than zero.

        Options enter one at a time, the one that alone gains most first, and all that are in are solved anew by
        coordinate descent after each, which for a smooth convex sum with costs by coordinate ends at the optimum (Tseng
        2001, J. Optimization Theory and Applications 109:475-494). Where the number does not bind, that is the optimum.
        """
        x_base = np.zeros(self.delta.size)
        active: list[int] = []
        for _ in range(_MOST_ENTRIES):
            entering = self._find_entering(x_base, active) if len(active) < most_options else None
            if entering is None:
                break
            active.append(entering)
            self._descend(x_base, active)
            active = [i for i in active if x_base[i] != 0.0]
        return x_base

    def _find_entering(self, x_base: Floats, active: list[int]) -> int | None:
        """Return the option that gains most by itself from here; None where none does."""
        excess = self.shortfall_quote(x_base)
        excess[active] = 0.0
        scale = max(self.objective_quote(x_base), 1e-12)
        candidates = np.flatnonzero(excess > 0.0)
        if not candidates.size:
            return None
        gamma = np.abs(self.own_gamma + self.gamma @ x_base)
        bend = (
            (4.0 / 9.0) * self.gamma_weight / np.maximum(np.cbrt(gamma) ** 2, 1e-12 + 0.1 * np.cbrt(gamma.max()) ** 2)
        )
        curvature = self.risk.diagonal()[candidates] + bend @ self.gamma[:, candidates] ** 2
        promise = excess[candidates] ** 2 / np.maximum(curvature, 1e-300)
        best, best_gain = None, 1e-12 * scale
        for i in candidates[np.argsort(-promise, kind="stable")[:_PROMISING]].tolist():
            trial = x_base.copy()
            trial[i] = self._best_of_one(x_base, i)
            gain = self.objective_quote(x_base) - self.objective_quote(trial)
            if gain > best_gain:
                best, best_gain = i, gain
        return best

    def _descend(self, x_base: Floats, active: list[int]) -> None:
        """Solve for the active options in place, one after the other until none moves."""
        for _ in range(_MOST_SWEEPS):
            moved = 0.0
            for i in active:
                new = self._best_of_one(x_base, i)
                moved = max(moved, abs(new - x_base[i]))
                x_base[i] = new
            if len(active) == 1 or moved <= _LEAST_STEP * float(np.abs(x_base[active]).max()):
                return
            self._step(x_base, active)

    def _step(self, x_base: Floats, active: list[int]) -> None:
        """Take a Newton step for those traded, together and in place, if it helps: options are much alike."""
        free = [i for i in active if x_base[i] != 0.0 and self.low_base[i] < x_base[i] < self.high_base[i]]
        if len(free) < 2:
            return
        gamma = self.own_gamma + self.gamma @ x_base
        bend = (
            (4.0 / 9.0) * self.gamma_weight / (np.cbrt(gamma) ** 2 + 1e-9 * np.cbrt(np.abs(gamma).max()) ** 2 + 1e-300)
        )
        columns, delta = self.gamma[:, free], self.delta[free]
        share = (self.off_base + float(self.delta @ x_base)) / self.half_base
        stiff = self.delta_cost_quote / self.half_base * 1.5 * max(0.0, 1.0 - share * share)
        curvature = self.risk[np.ix_(free, free)] + (columns.T * bend) @ columns + stiff * np.outer(delta, delta)
        curvature += 1e-9 * np.diag(curvature.diagonal())
        now = x_base[free]
        slope = self.marginal_quote(x_base)[free]
        slope += np.where(now > 0.0, self.buy_cost_quote[free], -self.sell_cost_quote[free])
        move = -np.linalg.solve(curvature, slope)
        before = self.objective_quote(x_base)
        room = np.where(move * now < 0.0, now, np.where(move > 0.0, self.high_base[free], self.low_base[free]) - now)
        reach = float(np.min(np.abs(room) / np.maximum(np.abs(move), 1e-300)))  # until one is out, or at its bound
        for size in (1.0, min(reach, 1.0), 0.25 * min(reach, 1.0)):
            trial = now + size * move
            trial = np.where(trial * now > 1e-12 * now * now, trial, 0.0)
            x_base[free] = np.clip(trial, self.low_base[free], self.high_base[free])
            if self.objective_quote(x_base) < before:
                return
        x_base[free] = now

    def _best_of_one(self, x_base: Floats, i: int) -> float:
        """Return the best quantity of option i while the others stay: the soft threshold of one instrument."""
        held = float(x_base[i])
        own = self.gamma[:, i]
        weighted = (4.0 / 3.0) * self.gamma_weight * own
        gamma = self.own_gamma + self.gamma @ x_base - held * own
        bend = float(self.risk[i, i])
        slope = float(self.own_risk[i] + self.risk[i] @ x_base) - held * bend
        delta = float(self.delta[i])
        off = self.off_base + float(self.delta @ x_base) - held * delta

        def marginal(x: float) -> float:
            hedging = float(weighted @ np.cbrt(gamma + x * own))
            return hedging + slope + bend * x + self._delta_slope(off + delta * x) * delta

        at_zero = marginal(0.0)
        if at_zero < -self.buy_cost_quote[i] and self.high_base[i] > 0.0:
            return _reach(marginal, -float(self.buy_cost_quote[i]), float(self.high_base[i]))
        if at_zero > self.sell_cost_quote[i] and self.low_base[i] < 0.0:
            return _reach(marginal, float(self.sell_cost_quote[i]), float(self.low_base[i]))
        return 0.0

    def _delta_slope(self, off_base: float) -> float:
        """Return kS·V'(e/H), which is kS beyond the band and nothing at its centre."""
        share = off_base / self.half_base
        if abs(share) >= 1.0:
            return self.delta_cost_quote if share > 0.0 else -self.delta_cost_quote
        return self.delta_cost_quote * 1.5 * share * (1.0 - share * share / 3.0)


def build_option_hedge(
    situation: Situation,
    book: OptionTerms,
    book_qty_base: Floats,
    offers: OptionTerms,
    offer_delta_ratio: Floats,
    buy_cost_quote: Floats,
    sell_cost_quote: Floats,
    low_base: Floats,
    high_base: Floats,
    held_base: Floats,
    horizon_years: float,
) -> OptionHedge:
    """Return the problem of a book and the options offered to it, for risks until `horizon_years` from now.

    `held_base` is what earlier hedges hold of the options offered, and part of the book: what of it is sold now need
    not be sold in the end. Raises ValueError where a number is not finite, or a price, vol or time that must be
    positive is not.
    """
    _check(situation, horizon_years)
    turnover = situation.turnover_per_year
    chance = np.where(offers.tau_years > horizon_years, 1.0, -np.expm1(-turnover * offers.tau_years))
    saved = chance * (1.0 - situation.closing_share)
    chance = np.maximum(chance, situation.closing_share)
    buying = buy_cost_quote + np.where(held_base < 0.0, -saved * buy_cost_quote, chance * sell_cost_quote)
    selling = sell_cost_quote + np.where(held_base > 0.0, -saved * sell_cost_quote, chance * buy_cost_quote)
    # What closes costs less than what opens, so that one trade does only the one or the other.
    low = np.where((chance > 0.0) & (held_base > 0.0), np.maximum(low_base, -held_base), low_base)
    high = np.where((chance > 0.0) & (held_base < 0.0), np.minimum(high_base, -held_base), high_base)

    spot, vol, averse = situation.spot_px, situation.vol, situation.risk_aversion_per_quote
    times_years, spot_share, weight_years = _nodes(vol, horizon_years, book.tau_years[book_qty_base != 0.0])
    weight_years = weight_years * np.exp(-turnover * times_years)
    own = _exposures(book, book_qty_base, times_years, spot_share)
    each = _exposures(offers, None, times_years, spot_share)
    unexplained = situation.gamma_base_per_px - _exposures(book, book_qty_base, np.zeros(1), np.ones(1)).gamma.item()
    own_gamma = own.gamma + unexplained

    node_spot = spot * spot_share
    half_base = max(band_half_base(situation.cost_rate, spot, situation.gamma_base_per_px, averse), situation.lot_base)
    fixed = situation.fixed_cost_quote / (situation.cost_rate * spot * half_base) if situation.cost_rate > 0.0 else 0.0
    at_one = edge_cost_rate_quote(situation.cost_rate, 1.0, 1.0, averse, vol)  # J, for S = 1 and Γ = 1
    gamma_weight = weight_years * at_one * solve_impulse(fixed).cost_share * np.cbrt(node_spot**8)

    # A hedge that comes L late costs ½ g Γ²S⁴σ⁴L per year; a gap of y costs its loss beyond delta, near ½ΓS²y².
    moves = situation.moves
    vol_root = sqrt(situation.vol_risk_share)
    levels = [vol_root * size for size in (moves.level_vol, moves.slope_vol, moves.skew_vol)]
    late = sqrt(situation.latency_years) * (vol * node_spot)[:, None] ** 2
    own_rows = [late * own_gamma, *(size * rows for size, rows in zip(levels, own.vega, strict=True))]
    rows = [late * each.gamma, *(size * rows for size, rows in zip(levels, each.vega, strict=True))]
    gap_root = sqrt(0.5 * moves.gaps_per_year)
    for share in (moves.gap_share, -moves.gap_share):
        beyond = 0.5 * (node_spot * share)[:, None] ** 2 * unexplained
        own_rows.append(gap_root * (_gap_losses(book, book_qty_base, times_years, spot_share, share) + beyond))
        rows.append(gap_root * _gap_losses(offers, None, times_years, spot_share, share))
    root = np.sqrt(averse * weight_years)[:, None]
    own_risk = np.concatenate([root * row for row in own_rows])[:, 0]
    risk = np.concatenate([root * row for row in rows])
    return OptionHedge(
        own_gamma=own_gamma[:, 0],
        gamma=each.gamma,
        gamma_weight=gamma_weight,
        base_risk_quote=0.5 * float(own_risk @ own_risk),
        own_risk=own_risk @ risk,
        risk=risk.T @ risk,
        off_base=situation.off_base,
        delta=offer_delta_ratio,
        delta_cost_quote=situation.cost_rate * spot,
        half_base=half_base,
        buy_cost_quote=buying,
        sell_cost_quote=selling,
        low_base=low,
        high_base=high,
    )


def round_to_lots(problem: OptionHedge, x_base: Floats, lot_base: Floats) -> Floats:
    """Return whole lots near `x_base`: each rounded to the nearest, or towards zero, whichever the objective likes.

    Nothing at all, where neither is better than nothing.
    """
    lots = x_base / lot_base
    best, best_quote = np.zeros_like(x_base), problem.objective_quote(np.zeros_like(x_base))
    for rounded in (np.round(lots), np.trunc(lots + 1e-9 * np.sign(lots))):
        trial = np.clip(rounded * lot_base, np.ceil(problem.low_base / lot_base - 1e-9) * lot_base,
                        np.floor(problem.high_base / lot_base + 1e-9) * lot_base)  # fmt: skip
        quote = problem.objective_quote(trial)
        if quote < best_quote:
            best, best_quote = trial, quote
    return best


def _check(situation: Situation, horizon_years: float) -> None:
    positive = {
        "spot_px": situation.spot_px,
        "vol": situation.vol,
        "risk_aversion_per_quote": situation.risk_aversion_per_quote,
        "lot_base": situation.lot_base,
        "horizon_years": horizon_years,
    }
    for name, number in positive.items():
        if not 0.0 < number < np.inf:
            raise ValueError(f"{name}: expected a positive number, found {number}; hint: hedge delta alone without it")
    for name in ("gamma_base_per_px", "off_base", "cost_rate", "fixed_cost_quote", "latency_years"):
        if not np.isfinite(getattr(situation, name)):
            raise ValueError(f"{name}: expected a finite number, found {getattr(situation, name)}; hint: drop the view")


def _reach(marginal: Callable[[float], float], target: float, bound: float) -> float:
    """Return where a rising function reaches `target` between 0 and `bound`; the bound where it does not."""
    end = marginal(bound) - target
    if end * bound <= 0.0:
        return bound
    return float(brentq(lambda x: marginal(x) - target, 0.0, bound, xtol=1e-12 * abs(bound), rtol=1e-12))


def _nodes(vol: float, horizon_years: float, expiries_years: Floats) -> tuple[Floats, Floats, Floats]:
    """Return times, prices over today's, and what each node counts, in years; the weights add up to the horizon.

    Three Gauss–Legendre times in each stretch between two expiries of the book, because gamma breaks off there (of
    many expiries as many as there are stretches, evenly chosen); at each time eleven prices half a deviation apart.
    """
    ends = np.unique(expiries_years[(expiries_years > 0.0) & (expiries_years < horizon_years)])
    ends = np.append(ends, horizon_years)
    if ends.size > _MOST_STRETCHES:
        ends = ends[
            np.linspace(ends.size / _MOST_STRETCHES - 1.0, ends.size - 1.0, _MOST_STRETCHES).round().astype(int)
        ]
    points, weights = _STRETCH_POINTS
    starts = np.concatenate([[0.0], ends[:-1]])
    lengths = ends - starts
    times = (starts[:, None] + lengths[:, None] * 0.5 * (points + 1.0)).ravel()
    time_weights = (lengths[:, None] * 0.5 * weights).ravel()
    chances = np.exp(-0.5 * _SPOT_DEVIATIONS**2)
    chances /= chances.sum()
    wander = vol * np.sqrt(times)[:, None]
    shares = np.exp(wander * _SPOT_DEVIATIONS - 0.5 * wander**2)
    node_times = np.repeat(times, _SPOT_DEVIATIONS.size)
    return node_times, shares.ravel(), (time_weights[:, None] * chances).ravel()


class _Exposures(NamedTuple):
    gamma: Floats
    vega: tuple[Floats, Floats, Floats]  # against a unit of level, slope and skew


def _exposures(terms: OptionTerms, qty_base: Floats | None, times_years: Floats, spot_share: Floats) -> _Exposures:
    """Return gamma and vegas by node and option; of the whole, as one column, if `qty_base` is given."""
    tau, is_alive = _time_left(terms, times_years)
    forward = terms.forward_px * spot_share[:, None]
    greeks = black76.greeks(forward, terms.strike_px, tau, terms.vol, is_alive)  # the same for calls and puts
    held = np.maximum(tau, LEAST_LEVEL_YEARS)
    level = np.where(is_alive, greeks.vega, 0.0) * np.sqrt(REFERENCE_YEARS / held)
    slope = level * np.clip(np.log(REFERENCE_YEARS / held) / log(3.0), -1.0, 1.0)
    skew = level * np.clip(np.log(terms.strike_px / forward) / np.sqrt(tau), -MOST_SKEW, MOST_SKEW)
    gamma = np.where(is_alive, greeks.gamma, 0.0)
    vega = (_total(level, qty_base), _total(slope, qty_base), _total(skew, qty_base))
    return _Exposures(_total(gamma, qty_base), vega)


def _gap_losses(
    terms: OptionTerms, qty_base: Floats | None, times_years: Floats, spot_share: Floats, gap_share: float
) -> Floats:
    """Return what a gap changes of the value beyond delta, by node and option or of the whole; the same for puts."""
    tau, is_alive = _time_left(terms, times_years)
    forward = terms.forward_px * spot_share[:, None]
    # The integral of (y − u)·Γ over the gap: gamma at its mean, a third of the way, blurred by its variance, y²/18.
    vol = np.sqrt(terms.vol**2 + gap_share**2 / 18.0 / tau)
    gamma = black76.greeks(forward * (1.0 + gap_share / 3.0), terms.strike_px, tau, vol, is_alive).gamma
    return _total(np.where(is_alive, 0.5 * (forward * gap_share) ** 2 * gamma, 0.0), qty_base)


def _time_left(terms: OptionTerms, times_years: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    tau = terms.tau_years - times_years[:, None]
    return np.maximum(tau, 1e-7), tau > 0.0


def _total(matrix: Floats, qty_base: Floats | None) -> Floats:
    return matrix if qty_base is None else (matrix @ qty_base)[:, None]
