"""The house stress margin: grid, weighted tails with a dampener, roll shock. Our own specification, free of licences.

Per underlying: initial = worst + roll, maintenance = mm_factor × initial, both in quote money.
worst is the largest loss of all scenarios, at least 0. In an extended scenario of move m the P&L counts by its weight,
and a loss is then forgiven min(loss, (|m| / price_range - 1) × dampener_usd). roll = Σ over expiries of |net delta| ×
spot × max(roll_min, roll_annual × T), what never expires having T = 0.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np

from bot.risk.book import Floats, RiskBook
from bot.risk.repricing import Groups, ScenarioMatrix, base_deltas
from bot.risk.requirement import Charge, Requirement
from bot.risk.scenarios import Scenario, ScenarioSet, VolShock, price_vol_grid, tails

MODEL = "house"


class HouseParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of the house model, named as in its worked cases; `extended` are the moves of the tails."""

    price_range: float
    buckets: int
    vol_up: float
    vol_down: float
    min_vol_up: float
    short_pow: float
    long_pow: float
    dte_floor: float
    extended: tuple[float, ...]
    extended_factor: float
    dampener_usd: float
    roll_min: float
    roll_annual: float
    mm_factor: float

    def scenarios(self) -> ScenarioSet:
        """Return the scenarios these parameters describe."""
        return _scenarios(self)


@lru_cache(maxsize=16)
def _scenarios(parameters: HouseParameters) -> ScenarioSet:
    shock = VolShock(
        up=parameters.vol_up,
        down=parameters.vol_down,
        short_power=parameters.short_pow,
        long_power=parameters.long_pow,
        least_days=parameters.dte_floor,
        least_vol_up=parameters.min_vol_up,
    )
    grid: list[Scenario] = price_vol_grid(parameters.price_range, parameters.buckets)
    far = tails(parameters.extended, parameters.price_range, parameters.extended_factor)
    return ScenarioSet(grid + far, shock)


def requirement(book: RiskBook, parameters: HouseParameters) -> Requirement:
    """Return the house margin of a book; underlyings do not offset each other."""
    return requirement_of(ScenarioMatrix(book, parameters.scenarios()), parameters)


def requirement_of(matrix: ScenarioMatrix, parameters: HouseParameters) -> Requirement:
    """Return the house margin from P&L that is priced already, as after a quote."""
    book, scenarios, groups = matrix.book, matrix.scenarios, matrix.groups
    rolls = roll_shocks(book, groups, parameters.roll_min, parameters.roll_annual)
    charges: list[Charge] = []
    total = np.zeros(len(scenarios))
    for underlying in book.held:
        name = book.underlyings[underlying]
        pnl = _dampened(matrix.by_underlying(underlying), scenarios, parameters)
        total += pnl
        at = int(pnl.argmin())
        loss = max(0.0, -float(pnl[at]))
        roll = float(rolls[groups.underlying == underlying].sum())
        charges.append(Charge(f"{name} worst", loss, parameters.mm_factor * loss, scenarios.names[at]))
        charges.append(Charge(f"{name} roll", roll, parameters.mm_factor * roll))
    initial = sum(one.initial for one in charges)
    worst = scenarios.names[int(total.argmin())] if charges else ""
    return Requirement(
        MODEL,
        "quote",
        initial,
        parameters.mm_factor * initial,
        tuple(charges),
        worst,
        scenarios.names,
        tuple(total.tolist()),
    )


def roll_shocks(book: RiskBook, groups: Groups, least: float, annual: float) -> Floats:
    """Return by expiry what rolling its net delta may cost: |delta| × spot × max(least, annual × T), in quote money."""
    net = np.abs(groups.sum(base_deltas(book)))
    return net * book.spot_px[groups.underlying] * np.maximum(least, annual * groups.tau_years)


def _dampened(pnl: Floats, scenarios: ScenarioSet, parameters: HouseParameters) -> Floats:
    out = pnl * scenarios.weight
    forgiven = (np.abs(scenarios.move) / parameters.price_range - 1.0) * parameters.dampener_usd
    is_dampened = scenarios.is_extended & (out < 0.0)
    return np.where(is_dampened, np.minimum(out + np.maximum(forgiven, 0.0), 0.0), out)
