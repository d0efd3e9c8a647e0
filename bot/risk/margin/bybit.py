"""Bybit's unified account in portfolio margin: the venue's own figures, a local check of them, and when it deleverages.

MM = the largest loss of a grid + contingencies, IM = MM × a factor by asset (third parties; the numbers in use are not
published as far as found). `GET /v5/asset/portfolio-margin` tells the grid and each contingency: read it, and take the
requirement below as a check and as what there is without it. Deleveraging: docs/v5/market/adl-alert, recomputed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec
import numpy as np

from bot.domain.risk import MarginGrid
from bot.risk.book import Floats, Ints, RiskBook
from bot.risk.margin.tables import QUOTE, terms_of
from bot.risk.requirement import Charge, Requirement
from bot.risk.scenarios import DOWN, SAME, UP, Scenario, ScenarioSet, VolShock
from bot.risk.stack import BookStack, StackGroups, ask_with_orders, grouped, money_offset, offset, stack_deltas
from bot.risk.stack_values import StackValues, alike_parts

MODEL = "bybit"


class BybitTerms(msgspec.Struct, frozen=True):
    """Of one underlying: the grid, and the contingencies as shares of spot value; `initial_factor` is IM over MM.

    `basis_factor` is per year of time between expiries whose deltas offset each other, at most `most_basis_rate`.
    """

    moves: tuple[float, ...]
    vol_up: float
    vol_down: float
    initial_factor: float
    net_short_option_rate: float
    vega_spread_rate: float
    stablecoin_spread_rate: float
    basis_factor: float
    most_basis_rate: float
    future_rate: float


class BybitParameters(msgspec.Struct, frozen=True):
    """Terms by underlying ("*" for others), and when the pool of a symbol deleverages and stops to."""

    underlyings: dict[str, BybitTerms]
    adl_pnl_ratio: float
    adl_stop_ratio: float
    adl_balance_threshold_quote: float


class PoolState(msgspec.Struct, frozen=True):
    """An insurance pool as v5/market/adlAlert tells it: balances and the P&L of a symbol, 8-hour highs beside."""

    balance_quote: float
    max_balance_quote: float = math.nan
    symbol_pnl_quote: float = math.nan
    symbol_max_pnl_quote: float = math.nan


class Deleveraging(NamedTuple):
    """Whether automatic deleveraging is triggered, at which ratio, and how much loss it takes away.

    `amount_quote` is what leads back to the trigger, `most_amount_quote` to the ratio at which it stops.
    """

    reason: str
    pnl_ratio: float = math.nan
    amount_quote: float = 0.0
    most_amount_quote: float = 0.0
    is_triggered: bool = False


def requirement(book: RiskBook, parameters: BybitParameters) -> Requirement:
    """Return the local estimate of what portfolio margin asks of one account, in quote money.

    Spot is no part of it: it joins only where spot hedging is on.
    """
    return requirements(BookStack(book), parameters)[0]


def requirements(stack: BookStack, parameters: BybitParameters) -> list[Requirement]:
    """Return the local estimate of each copy of a stack, as `requirement` would of each by itself."""
    charges: list[list[Charge]] = [[] for _ in range(len(stack))]
    worst, most = [""] * len(stack), [0.0] * len(stack)
    traded = stack.traded()
    names = [traded.underlyings[number] for number in traded.held]
    every = [terms_of(parameters.underlyings, name) for name in names]
    for part, places in alike_parts(traded, [_grid(terms)[0] for terms in every]):
        own_terms = [every[place] for place in places]
        now, filled = ask_with_orders(part, lambda one, terms=own_terms: _parts(one, terms))  # type: ignore[misc]
        for at, place in enumerate(places):
            name, factor = names[place], every[place].initial_factor
            for copy, (own, found) in enumerate(zip(charges, now, strict=True)):
                parts = found[at]
                own += [
                    Charge(f"{name} {item}", factor * asked, asked, parts.worst if item == "grid" else "")
                    for item, asked in zip(ITEMS, parts.asked, strict=True)
                ]
                done = max([side[copy][at].total for side in filled], default=0.0)
                if done > parts.total:
                    own.append(Charge(f"{name} open orders", factor * (done - parts.total), 0.0))
                if parts.asked[0] > most[copy]:
                    worst[copy], most[copy] = parts.worst, parts.asked[0]
    return [_sum_up(own, why) for own, why in zip(charges, worst, strict=True)]


def _sum_up(charges: list[Charge], worst: str) -> Requirement:
    initial, maintenance = sum([one.initial for one in charges]), sum([one.maintenance for one in charges])
    return Requirement(MODEL, QUOTE, float(initial), float(maintenance), tuple(charges), worst)


def from_grid(grid: MarginGrid) -> Requirement:
    """Return the requirement that Bybit's own grid and contingencies come to: to be held against its own sum."""
    loss = max([-pnl for pnl in grid.pnl_quote] + [0.0])
    maintenance = loss + grid.contingency_quote
    factor = grid.initial_quote / grid.maintenance_quote if grid.maintenance_quote > 0.0 else 1.0
    charges = (
        Charge(f"{grid.scope} grid", factor * loss, loss),
        Charge(f"{grid.scope} contingencies", factor * grid.contingency_quote, grid.contingency_quote),
    )
    return Requirement(MODEL, QUOTE, factor * maintenance, maintenance, charges)


def deleveraging(pool: PoolState, parameters: BybitParameters) -> Deleveraging:
    """Return whether the pool deleverages: its balance is gone, or a symbol's P&L fell too far from its 8-hour high.

    ratio = (P&L - its high) / the pool's highest balance; what is beyond the trigger is what deleveraging takes away.
    """
    if not pool.balance_quote > 0.0:
        return Deleveraging(reason=f"pool balance {pool.balance_quote:,.0f}", is_triggered=True)
    drawdown = pool.symbol_pnl_quote - pool.symbol_max_pnl_quote
    ratio = drawdown / pool.max_balance_quote if pool.max_balance_quote > 0.0 else math.nan
    if math.isnan(ratio):
        return Deleveraging(reason="the pool's P&L is not told")
    told = f"P&L {ratio:+.1%} of the pool's high, trigger {parameters.adl_pnl_ratio:+.0%}"
    if pool.balance_quote <= parameters.adl_balance_threshold_quote or ratio > parameters.adl_pnl_ratio:
        return Deleveraging(reason=told, pnl_ratio=ratio)
    amount = parameters.adl_pnl_ratio * pool.max_balance_quote - drawdown
    at_most = parameters.adl_stop_ratio * pool.max_balance_quote - drawdown
    return Deleveraging(told, ratio, amount, at_most, is_triggered=True)


ITEMS = ("grid", "net short options", "vega spread", "stablecoin spread", "delta spread", "futures")


class _Parts(NamedTuple):
    """What each of `ITEMS` asks as maintenance margin, their sum, and the scenario of the grid that decided."""

    asked: tuple[float, ...]
    total: float
    worst: str


def _parts(stack: BookStack, every: Sequence[BybitTerms]) -> list[tuple[_Parts, ...]]:
    """Return by copy the parts of each underlying held; there are terms for each, grids alike."""
    grids, still = [_grid(terms)[0] for terms in every], _grid(every[0])[1]
    values, groups, layout = StackValues(stack, grids), StackGroups(stack), stack.layout
    total = values.pnl_by_underlying()
    at = total.argmin(axis=1)
    spot_of_row = stack.spot_of_row_px
    quote = stack_deltas(stack) * spot_of_row
    shares = ("net_short_option_rate", "vega_spread_rate", "stablecoin_spread_rate", "future_rate")
    rates = np.array([[getattr(terms, name) for name in shares] for terms in every]).T[:, :, None]
    vegas, by_expiry = groups.sum(values.row_pnl_quote(still)), groups.sum(quote)
    starts, years = groups.is_of.argmax(axis=1), groups.tau_years
    apart = np.maximum.reduceat(years, starts, axis=1) - np.minimum.reduceat(years, starts, axis=1)
    factor, most = np.array([(terms.basis_factor, terms.most_basis_rate) for terms in every]).T
    basis_rate = np.minimum(factor * apart, most)
    vega_spreads = offset(vegas, groups.selector).max(axis=0, initial=0.0)
    asked = np.array(
        [
            np.maximum(-total.min(axis=1), 0.0),
            rates[0] * _net_short_options(stack) * stack.spot_px[:, stack.held].T,
            rates[1] * vega_spreads.T,
            rates[2] * money_offset(stack, quote),
            (basis_rate * offset(by_expiry, groups.selector)).T,
            rates[3] * (np.abs(quote * layout.is_linear) @ layout.selector).T,
        ]
    ).transpose(2, 1, 0)
    return [
        tuple(
            [
                _Parts(tuple(own), sum(own), grid.names[place])
                for own, place, grid in zip(of_copy, places, grids, strict=True)
            ]
        )
        for of_copy, places in zip(asked.tolist(), at.T.tolist(), strict=True)
    ]


@lru_cache(maxsize=64)
def _grid(terms: BybitTerms) -> tuple[ScenarioSet, Ints]:
    """Return the scenarios of the grid, and the numbers of those in which vol alone moves."""
    moves = sorted({sign * move for move in terms.moves for sign in (-1.0, 1.0)})
    shock = VolShock(up=terms.vol_up, down=terms.vol_down)
    grid = ScenarioSet([Scenario(move, vol) for move in moves for vol in (DOWN, SAME, UP)], shock)
    return grid, np.flatnonzero((grid.move == 0.0) & np.array([one.vol != SAME for one in grid.scenarios]))


def _net_short_options(stack: BookStack) -> Floats:
    """Return by underlying and copy what is sold net of each expiry and sort, in base: bought ones offset sold ones."""
    rows, layout = stack.layout.options, stack.layout
    place = layout.place[rows]
    groups = grouped(stack, (place, layout.struck[1]), stack.tau_years.take(rows, axis=1))
    net = np.maximum(-groups.sum(stack.qty_base.take(rows, axis=1)), 0.0)
    found: Floats = (net @ (groups.key(place)[:, None] == np.arange(len(stack.held))).astype(np.float64)).T
    return found
