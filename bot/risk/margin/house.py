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
from bot.risk.stack import BookStack, StackGroups, stack_deltas
from bot.risk.stack_values import StackValues

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


def requirements(stack: BookStack, parameters: HouseParameters) -> list[Requirement]:
    """Return the house margin of each copy of a stack, as `requirement` would of each by itself."""
    pnl = StackValues(stack, parameters.scenarios()).pnl_by_underlying()
    groups = StackGroups(stack)
    spot = stack.spot_px.take(groups.underlying[0], axis=1) if stack.held else groups.tau_years
    rate = np.maximum(parameters.roll_min, parameters.roll_annual * groups.tau_years)
    charge = np.abs(groups.sum(stack_deltas(stack))) * spot * rate
    rolls = list((charge @ groups.selector).T)
    return _requirements([stack.underlyings[number] for number in stack.held], pnl, rolls, len(stack), parameters)


def requirement_of(matrix: ScenarioMatrix, parameters: HouseParameters) -> Requirement:
    """Return the house margin from P&L that is priced already, as after a quote."""
    book, groups = matrix.book, matrix.groups
    found = roll_shocks(book, groups, parameters.roll_min, parameters.roll_annual)
    held = book.held
    pnl = np.array([matrix.by_underlying(number) for number in held]).reshape(len(held), len(matrix.scenarios), 1)
    rolls = [found[groups.underlying == number].sum(keepdims=True) for number in held]
    return _requirements([book.underlyings[number] for number in held], pnl, rolls, 1, parameters)[0]


def roll_shocks(book: RiskBook, groups: Groups, least: float, annual: float) -> Floats:
    """Return by expiry what rolling its net delta may cost: |delta| × spot × max(least, annual × T), in quote money."""
    net = np.abs(groups.sum(base_deltas(book)))
    return net * book.spot_px[groups.underlying] * np.maximum(least, annual * groups.tau_years)


def _requirements(
    names: list[str], pnl: Floats, rolls: list[Floats], copies: int, parameters: HouseParameters
) -> list[Requirement]:
    """Return the margin of each copy from P&L by underlying, scenario and copy, and from what rolling costs of each."""
    scenarios, factor = parameters.scenarios(), parameters.mm_factor
    damped = _dampened(pnl, scenarios, parameters)
    places = damped.argmin(axis=1)
    losses = np.maximum(-damped.min(axis=1), 0.0).tolist() if names else []
    at, roll_of = places.tolist(), [one.tolist() for one in rolls]
    total = damped.sum(axis=0) if names else np.zeros((len(scenarios), copies))
    worst, lines = total.argmin(axis=0).tolist(), total.T.tolist()
    found = []
    for copy in range(copies):
        charges: list[Charge] = []
        for place, name in enumerate(names):
            loss, roll = losses[place][copy], roll_of[place][copy]
            charges.append(Charge(f"{name} worst", loss, factor * loss, scenarios.names[at[place][copy]]))
            charges.append(Charge(f"{name} roll", roll, factor * roll))
        initial = sum([one.initial for one in charges])
        found.append(
            Requirement(
                MODEL,
                "quote",
                initial,
                factor * initial,
                tuple(charges),
                scenarios.names[worst[copy]] if charges else "",
                scenarios.names,
                tuple(lines[copy]),
            )
        )
    return found


def _dampened(pnl: Floats, scenarios: ScenarioSet, parameters: HouseParameters) -> Floats:
    """Return P&L by underlying, scenario and copy, weighted, and losses of the tails forgiven in part."""
    out = pnl * scenarios.weight[:, None]
    forgiven = np.maximum((np.abs(scenarios.move) / parameters.price_range - 1.0) * parameters.dampener_usd, 0.0)
    is_dampened = scenarios.is_extended[:, None] & (out < 0.0)
    return np.where(is_dampened, np.minimum(out + forgiven[:, None], 0.0), out)
