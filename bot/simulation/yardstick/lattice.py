"""The exact optimum of hedging with transaction costs, and the exact worth of any other rule, on one lattice.

Hodges & Neuberger (1989), "Optimal replication of contingent claims under transaction costs", Review of Futures
Markets 8:222-239; Davis, Panas & Zariphopoulou (1993), "European option pricing with transaction costs", SIAM J.
Control and Optimization 31:470-493. The hedger has constant absolute risk aversion g, the price is a martingale of
constant vol without interest, and is looked at once per step. Both the optimum and the rule that is measured live on
the same nodes and trade in the same lots, so that their ratio is free of the error of either grid.

It must never know a policy's formula: bands arrive as numbers of the lattice (see `asking`).
"""

from __future__ import annotations

from enum import StrEnum
from math import ceil, exp, inf, log, sqrt
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Columns = NDArray[np.int32]

# A trinomial lattice steps by 0 or ±√3 deviations. Its overshoot beyond a barrier is half such a step, where that of
# a Gaussian walk is −ζ(1/2)/√(2π) of a deviation (Broadie, Glasserman & Kou 1997).
OVERSHOOT_DEVIATIONS: Final = sqrt(3.0) / 2.0
GAUSSIAN_OVERSHOOT_DEVIATIONS: Final = 0.5825971579390107
MOST_EXPONENT: Final = 650.0  # exp(709) is the last finite one, and a step adds a few


class Settlement(StrEnum):
    """What becomes of the hedge at expiry: free of cost, sold or bought back at cost, or delivered into the options."""

    FREE = "free"
    LIQUIDATED = "liquidated"
    DELIVERED = "delivered"


class Line(NamedTuple):
    """So many options of one strike; all lines of a book expire together."""

    strike_px: float
    qty_base: float
    is_call: bool = True


class Setting(msgspec.Struct, frozen=True):
    """Everything that decides how well a book can be hedged.

    `cost_rate` is the one-way cost as a fraction of traded value, `fixed_cost_quote` what every hedge costs on top,
    `steps` how often the price is looked at until expiry. The hedge begins with `start_base`.
    """

    lines: tuple[Line, ...]
    spot_px: float
    vol: float
    tau_years: float
    steps: int
    cost_rate: float
    risk_aversion_per_quote: float
    fixed_cost_quote: float = 0.0
    settlement: Settlement = Settlement.FREE
    start_base: float = 0.0

    @property
    def step_years(self) -> float:
        """Time between two looks."""
        return self.tau_years / self.steps


class Grid(NamedTuple):
    """Which hedges there are: whole multiples of `lot_base` from `low_base` to `high_base`; how far the price goes."""

    low_base: float
    high_base: float
    lot_base: float
    reach_deviations: float = 5.5


class Bands(NamedTuple):
    """A rule as columns of the grid, one per step and price node: below `low` buy up to `buy_to`, and so on."""

    low: Columns
    high: Columns
    buy_to: Columns
    sell_to: Columns


class Worth(NamedTuple):
    """What hedging by a rule costs beyond the frictionless price: certainty equivalent, mean and deviation."""

    excess_quote: float
    mean_quote: float
    sd_quote: float


class Optimum(NamedTuple):
    """The least certainty equivalent there is beyond the frictionless price, and the rule that reaches it."""

    excess_quote: float
    bands: Bands


class Lattice:
    """The nodes of one setting.

    `prices_px` are the price nodes, `hedges_base` the columns. Step n has the nodes `rows(n)` only: those further out
    than `reach_deviations` the price does not visit, it rests at the last one instead, which is a martingale too.

    With cash B and hedge y the value is −exp(−gB) P(t, S, y), so that P obeys P = E[P′] between trades, without a
    factor for the hedge's own gain, and buying u multiplies it by exp(g u S(1 + k)). Prices in these exponents count
    from the first spot, which changes nothing and keeps them small.
    """

    def __init__(self, setting: Setting, grid: Grid) -> None:
        """Lay out nodes and columns. Raises ValueError where the exponents would leave what a float holds."""
        self.setting = setting
        self.grid = grid
        steps = setting.steps
        reach = grid.reach_deviations
        self._half_widths = [min(n, ceil(reach * sqrt(n / 3.0)) + 2) for n in range(steps + 1)]
        self.centre = self._half_widths[-1]
        self.step_log = setting.vol * sqrt(3.0 * setting.step_years)
        log_px = self.step_log * np.arange(-self.centre, self.centre + 1)
        self.prices_px: Floats = np.asarray(setting.spot_px * np.exp(log_px), np.float64)
        first = round(grid.low_base / grid.lot_base)
        last = round(grid.high_base / grid.lot_base)
        self._first = first
        self.hedges_base: Floats = np.asarray(grid.lot_base * np.arange(first, last + 1), np.float64)
        # The middle node keeps 2/3, the outer ones share 1/3 so that the price is a martingale; the variance of the
        # logarithm is then right to the second order of the step.
        up, down = exp(self.step_log), exp(-self.step_log)
        self._up = (1.0 - down) / (up - down) / 3.0
        self._down = 1.0 / 3.0 - self._up
        g = setting.risk_aversion_per_quote
        moved_px = self.prices_px - setting.spot_px
        cost_px = setting.cost_rate * self.prices_px
        buy = g * np.outer(moved_px + cost_px, self.hedges_base)
        sell = g * np.outer(moved_px - cost_px, self.hedges_base)
        self._owed_quote = self._payoff_owed()
        worst = max(float(np.abs(buy).max()), float(np.abs(sell).max()), g * float(np.abs(self._owed_quote).max()))
        if worst > MOST_EXPONENT:
            raise ValueError(
                f"lattice: expected exponents of at most {MOST_EXPONENT:g}, found {worst:.0f};"
                " hint: less risk aversion, fewer hedges or fewer deviations"
            )
        self._buy: Floats = np.exp(buy)
        self._sell: Floats = np.exp(sell)
        self._unbuy: Floats = np.exp(-buy)
        self._unsell: Floats = np.exp(-sell)
        self._columns = np.arange(self.hedges_base.size, dtype=np.int32)
        # Arrays made anew at every step would be taken from the system and given back each time.
        self._work: Floats = np.empty_like(self._buy)
        self._product: Floats = np.empty_like(self._buy)
        self._below: Flags = np.empty(self._buy.shape, np.bool_)
        self._above: Flags = np.empty(self._buy.shape, np.bool_)
        self.frictionless_quote = self._frictionless()

    def rows(self, step: int) -> slice:
        """Return which price nodes step `step` has."""
        half = self._half_widths[step]
        return slice(self.centre - half, self.centre + half + 1)

    def column_of(self, hedge_base: Floats) -> Columns:
        """Return the columns nearest to these hedges, the last ones for those beyond the grid."""
        with np.errstate(invalid="ignore"):
            raw = np.rint(hedge_base / self.grid.lot_base) - self._first
        columns: Columns = np.clip(raw, 0, self.hedges_base.size - 1).astype(np.int32)
        return columns

    def empty_bands(self) -> Bands:
        """Return bands nothing leaves."""
        shape = (self.setting.steps, self.prices_px.size)
        last = self.hedges_base.size - 1
        zeros = np.zeros(shape, np.int32)
        lasts = np.full(shape, last, np.int32)
        return Bands(zeros, lasts, zeros.copy(), lasts.copy())

    def best(self) -> Optimum:
        """Return the optimum: backwards in time, at each node the least of holding, buying and selling."""
        if self.setting.fixed_cost_quote > 0.0:
            return self._best_impulse()
        bands = self.empty_bands()
        value = np.exp(self.setting.risk_aversion_per_quote * self._final_loss())
        low = np.argmin(value * self._buy, axis=1).astype(np.int32)
        high = np.argmin(value * self._sell, axis=1).astype(np.int32)
        for step in range(self.setting.steps - 1, -1, -1):
            rows = self.rows(step)
            held = self._expect(value, step)
            low[rows] = _descend(held, self._buy[rows], low[rows])
            high[rows] = _descend(held, self._sell[rows], high[rows])
            high[rows] = np.maximum(low[rows], high[rows])
            self._trade(held, rows, low[rows], high[rows], low[rows], high[rows])
            bands.low[step, rows] = bands.buy_to[step, rows] = low[rows]
            bands.high[step, rows] = bands.sell_to[step, rows] = high[rows]
            value[rows] = held
        return Optimum(self._excess(value), bands)

    def worth(self, bands: Bands, *, moments: bool = False) -> Worth:
        """Return the exact worth of a rule; mean and deviation are NaN unless asked for: they triple the work."""
        final = self._final_loss()
        g = self.setting.risk_aversion_per_quote
        value = np.exp(g * final)
        mean = square = None
        if moments:
            mean, square = final.copy(), final * final
        for step in range(self.setting.steps - 1, -1, -1):
            rows = self.rows(step)
            rule = Bands(*(part[step, rows] for part in bands))
            held = self._expect(value, step)
            self._trade(held, rows, *rule)
            if mean is not None and square is not None:
                held_mean = self._expect(mean, step, fresh=True)
                held_square = self._expect(square, step, fresh=True)
                self._trade_moments(held_mean, held_square, rows, rule)
                mean[rows], square[rows] = held_mean, held_square
            value[rows] = held
        if mean is None or square is None:
            return Worth(self._excess(value), float("nan"), float("nan"))
        column = int(self.column_of(np.array([self.setting.start_base]))[0])
        at = (self.centre, column)
        variance = float(square[at] - mean[at] ** 2)
        return Worth(self._excess(value), float(mean[at]) - self.frictionless_quote, sqrt(max(0.0, variance)))

    def _payoff_owed(self) -> Floats:
        """Return what the book owes at expiry per node, averaged over the node's cell where a strike lies in it."""
        owed = np.zeros_like(self.prices_px)
        half = exp(0.5 * self.step_log)
        low_px, high_px = self.prices_px / half, self.prices_px * half
        for line in self.setting.lines:
            strike_px = line.strike_px
            call = np.maximum(self.prices_px - strike_px, 0.0)
            kink = (low_px < strike_px) & (strike_px < high_px)
            call[kink] = (high_px[kink] - strike_px - strike_px * np.log(high_px[kink] / strike_px)) / self.step_log
            payoff = call if line.is_call else call - (self.prices_px - strike_px)
            owed -= line.qty_base * payoff
        return owed

    def _final_loss(self) -> Floats:
        """Return, per node and column, the loss at expiry of one who has no cash."""
        hedges = self.hedges_base
        moved_px = self.prices_px - self.setting.spot_px
        loss = self._owed_quote[:, None] - np.outer(moved_px, hedges)
        if self.setting.settlement is Settlement.FREE:
            return loss
        given = np.zeros_like(self.prices_px)
        if self.setting.settlement is Settlement.DELIVERED:
            for line in self.setting.lines:
                if line.is_call:
                    given -= line.qty_base * (self.prices_px > line.strike_px)
                else:
                    given += line.qty_base * (self.prices_px < line.strike_px)
        return loss + (self.setting.cost_rate * self.prices_px)[:, None] * np.abs(hedges[None, :] - given[:, None])

    def _frictionless(self) -> float:
        value = self._owed_quote[:, None].copy()
        for step in range(self.setting.steps - 1, -1, -1):
            value[self.rows(step)] = self._expect(value, step, fresh=True)
        return float(value[self.centre, 0])

    def _expect(self, value: Floats, step: int, *, fresh: bool = False) -> Floats:
        """Return E[value′] at the nodes of `step`, in a shared buffer unless `fresh`; beyond the last, price rests."""
        rows, later = self.rows(step), self.rows(step + 1)
        inner = slice(max(rows.start, later.start + 1), min(rows.stop, later.stop - 1))
        held = np.empty_like(value[rows]) if fresh else self._work[rows]
        out = held[inner.start - rows.start : inner.stop - rows.start]
        product = self._product[inner, : value.shape[1]]
        np.multiply(value[inner], 2.0 / 3.0, out=out)
        out += np.multiply(value[inner.start + 1 : inner.stop + 1], self._up, out=product)
        out += np.multiply(value[inner.start - 1 : inner.stop - 1], self._down, out=product)
        if inner.start > rows.start:
            held[0], held[-1] = value[rows.start], value[rows.stop - 1]
        return held

    def _trade(self, held: Floats, rows: slice, low: Columns, high: Columns, buy_to: Columns, sell_to: Columns) -> None:
        """Replace what lies outside the band by what it is worth once traded, in place."""
        g_fixed = exp(self.setting.risk_aversion_per_quote * self.setting.fixed_cost_quote)
        nodes = np.arange(low.size)
        bought = held[nodes, buy_to] * self._buy[rows][nodes, buy_to] * g_fixed
        sold = held[nodes, sell_to] * self._sell[rows][nodes, sell_to] * g_fixed
        below = np.less(self._columns, low[:, None], out=self._below[rows])
        above = np.greater(self._columns, high[:, None], out=self._above[rows])
        np.multiply(self._unbuy[rows], bought[:, None], out=held, where=below)
        np.multiply(self._unsell[rows], sold[:, None], out=held, where=above)

    def _trade_moments(self, mean: Floats, square: Floats, rows: slice, rule: Bands) -> None:
        """Do to the first and second moment of the loss what `_trade` does to its exponential."""
        setting = self.setting
        moved_px = self.prices_px[rows] - setting.spot_px
        cost_px = setting.cost_rate * self.prices_px[rows]
        nodes = np.arange(rule.low.size)
        outside = (
            (self._columns < rule.low[:, None], rule.buy_to, moved_px + cost_px),
            (self._columns > rule.high[:, None], rule.sell_to, moved_px - cost_px),
        )
        traded = []
        for where, to, px in outside:
            paid = px[:, None] * (self.hedges_base[to][:, None] - self.hedges_base) + setting.fixed_cost_quote
            to_mean, to_square = mean[nodes, to][:, None], square[nodes, to][:, None]
            traded.append((where, to_mean + paid, to_square + 2.0 * paid * to_mean + paid * paid))
        for where, new_mean, new_square in traded:
            np.copyto(mean, new_mean, where=where)
            np.copyto(square, new_square, where=where)

    def _best_impulse(self) -> Optimum:
        """Return the optimum where every trade also costs a fixed amount: trade once that and more is saved."""
        bands = self.empty_bands()
        g = self.setting.risk_aversion_per_quote
        g_fixed = exp(g * self.setting.fixed_cost_quote)
        value = np.exp(g * self._final_loss())
        scratch = np.empty_like(value)
        columns = self._columns
        for step in range(self.setting.steps - 1, -1, -1):
            rows = self.rows(step)
            held = self._expect(value, step)
            part = scratch[rows]
            nodes = np.arange(held.shape[0])
            np.multiply(held, self._buy[rows], out=part)
            buy_to = np.argmin(part, axis=1).astype(np.int32)
            bought = part[nodes, buy_to] * g_fixed
            np.multiply(self._unbuy[rows], bought[:, None], out=part)
            low = ((part < held) & (columns < buy_to[:, None])).sum(axis=1).astype(np.int32)
            np.multiply(held, self._sell[rows], out=part)
            sell_to = np.argmin(part, axis=1).astype(np.int32)
            sold = part[nodes, sell_to] * g_fixed
            np.multiply(self._unsell[rows], sold[:, None], out=part)
            above = ((part < held) & (columns > sell_to[:, None])).sum(axis=1)
            high = (columns.size - 1 - above).astype(np.int32)
            self._trade(held, rows, low, high, buy_to, sell_to)
            for kept, new in zip(bands, (low, high, buy_to, sell_to), strict=True):
                kept[step, rows] = new
            value[rows] = held
        return Optimum(self._excess(value), bands)

    def _excess(self, value: Floats) -> float:
        """Return the certainty equivalent at the start beyond the frictionless price."""
        column = int(self.column_of(np.array([self.setting.start_base]))[0])
        found = float(value[self.centre, column])
        if not 0.0 < found < inf:
            raise ValueError(f"lattice: expected a value above 0 and finite, found {found}; hint: less risk aversion")
        return log(found) / self.setting.risk_aversion_per_quote - self.frictionless_quote


def _descend(held: Floats, factor: Floats, start: Columns) -> Columns:
    """Return, per row, the column of the least held × factor: downhill from `start`, for the product has one valley."""
    last = held.shape[1] - 1
    rows = np.arange(held.shape[0])
    at = start.copy()
    here = held[rows, at] * factor[rows, at]
    for side in (-1, 1):
        while True:
            there_at = np.maximum(at - 1, 0) if side < 0 else np.minimum(at + 1, last)
            there = held[rows, there_at] * factor[rows, there_at]
            better = there < here
            if not better.any():
                break
            at = np.where(better, there_at, at)
            here = np.where(better, there, here)
    return at
