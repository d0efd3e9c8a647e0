"""Bybit's unified account in portfolio margin: the venue's own figures, a local check of them, and when it deleverages.

MM = the largest loss of a grid + contingencies, IM = MM × a factor by asset (third parties; the numbers in use are not
published as far as found). `GET /v5/asset/portfolio-margin` tells the grid and each contingency: read it, and take the
requirement below as a check and as what there is without it. Deleveraging: docs/v5/market/adl-alert, recomputed.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import msgspec
import numpy as np

from bot.domain.risk import MarginGrid
from bot.risk.book import SPOT, Floats, RiskBook
from bot.risk.margin.tables import QUOTE, by_underlying, is_linear, order_sides, terms_of
from bot.risk.repricing import Groups, base_deltas, scenario_pnl
from bot.risk.requirement import Charge, Requirement
from bot.risk.scenarios import DOWN, SAME, UP, Scenario, ScenarioSet, VolShock

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
    charges: list[Charge] = []
    worst, most = "", 0.0
    for name, rows in by_underlying(book):
        part = rows.where(~np.equal(rows.kind, SPOT))
        if not len(part):
            continue
        terms = terms_of(parameters.underlyings, name)
        own, scenario = _charges(part, name, terms)
        total = sum(one.maintenance for one in own)
        charges += own
        filled = [sum(one.maintenance for one in _charges(side, name, terms)[0]) for side in order_sides(part)]
        if filled and max(filled) > total:
            charges.append(Charge(f"{name} open orders", terms.initial_factor * (max(filled) - total), 0.0))
        if own[0].maintenance > most:
            worst, most = scenario, own[0].maintenance
    initial, maintenance = (float(sum(getattr(one, side) for one in charges)) for side in ("initial", "maintenance"))
    return Requirement(MODEL, QUOTE, initial, maintenance, tuple(charges), worst)


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


def _charges(book: RiskBook, name: str, terms: BybitTerms) -> tuple[list[Charge], str]:
    """Return the grid's charge, first, and the contingencies; and the scenario that decided."""
    grid = _grid(terms)
    pnl = scenario_pnl(book, grid)
    total = pnl.sum(axis=1)
    at = int(total.argmin())
    groups, deltas, spot = Groups(book), base_deltas(book), float(book.spot_of_row_px[0])
    short = float(np.maximum(-_net_options(book), 0.0).sum()) * spot
    still = np.flatnonzero((grid.move == 0.0) & np.array([one.vol != SAME for one in grid.scenarios]))
    vegas = groups.sum(np.where(book.is_option, pnl[still], 0.0))
    vega = float(_offset(vegas).max(initial=0.0))
    by_expiry = groups.sum(deltas) * spot
    apart = float(np.ptp(groups.tau_years)) if len(groups) else 0.0
    basis = min(terms.basis_factor * apart, terms.most_basis_rate) * float(_offset(by_expiry[None, :])[0])
    gross = float(np.abs(deltas[is_linear(book)]).sum()) * spot
    items = (
        ("grid", max(-float(total[at]), 0.0), grid.names[at]),
        ("net short options", terms.net_short_option_rate * short, ""),
        ("vega spread", terms.vega_spread_rate * vega, ""),
        ("stablecoin spread", terms.stablecoin_spread_rate * _stablecoin_hedge(book, deltas * spot), ""),
        ("delta spread", basis, ""),
        ("futures", terms.future_rate * gross, ""),
    )
    charges = [Charge(f"{name} {item}", terms.initial_factor * asked, asked, tell) for item, asked, tell in items]
    return charges, grid.names[at]


@lru_cache(maxsize=64)
def _grid(terms: BybitTerms) -> ScenarioSet:
    moves = sorted({sign * move for move in terms.moves for sign in (-1.0, 1.0)})
    shock = VolShock(up=terms.vol_up, down=terms.vol_down)
    return ScenarioSet([Scenario(move, vol) for move in moves for vol in (DOWN, SAME, UP)], shock)


def _net_options(book: RiskBook) -> Floats:
    """Return the net quantity of options of each expiry and sort, in base: bought ones offset sold ones there."""
    part = book.where(book.is_option)
    if not len(part):
        return np.zeros(0)
    keys = np.stack([part.tau_years, part.is_call.astype(float)], axis=1)
    _, label = np.unique(keys, axis=0, return_inverse=True)
    net: Floats = np.bincount(np.ravel(label), weights=part.qty_base).astype(np.float64)
    return net


def _offset(by_expiry: Floats) -> Floats:
    """Return, line by line, how much of one sign is offset by the other."""
    offset: Floats = np.minimum(np.maximum(by_expiry, 0.0).sum(axis=1), np.maximum(-by_expiry, 0.0).sum(axis=1))
    return offset


def _stablecoin_hedge(book: RiskBook, quote: Floats) -> float:
    by_money = np.bincount(book.money, weights=quote, minlength=len(book.moneys))
    return float(min(by_money[by_money > 0.0].sum(), -by_money[by_money < 0.0].sum()))
