"""OKX's portfolio margin: nine parts per risk unit, which is an underlying with all it is quoted and settled in.

MMR = max(max(MR1, MR2, MR6) + MR3 + MR4 + MR5, MR7) + MR9, IMR = 1.3 × MMR, and borrowing (MR8) beside them: OKX's v5
documentation, recomputed on its position-builder example. MR3, MR5 and the term structure of MR4 are published in words
only: what stands for them here is said at each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec
import numpy as np

from bot.risk.book import SPOT, Floats, Ints, RiskBook
from bot.risk.margin.tables import QUOTE, terms_of
from bot.risk.requirement import Charge, Requirement
from bot.risk.scenarios import DAYS_PER_YEAR, DOWN, SAME, UP, Scenario, ScenarioSet, VolShock
from bot.risk.stack import BookStack, StackGroups, ask_with_orders, money_offset, offset, stack_deltas
from bot.risk.stack_values import StackValues, alike_parts

MODEL = "okx"


class Slice(msgspec.Struct, frozen=True, gc=False):
    """What of a size lies between the last slice's end and `up_to_quote` counts by `factor`."""

    up_to_quote: float
    factor: float


class UnitTerms(msgspec.Struct, frozen=True):
    """Of one group of underlyings: moves of MR1 (both ways) and MR6, basis and minimum charges as shares of delta."""

    moves: tuple[float, ...]
    extreme_move: float
    annual_basis_move: float
    perpetual_basis_rate: float
    minimum_rate: float


class OkxParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Terms by underlying ("*" for others) and what is common to all.

    `vol_points_by_days` are the vol shocks of MR1. `term_structure_share` and `rate_move` stand for MR3 and MR5,
    `minimum_slices` and `stablecoin_slices` are the tiers of MR7 and MR9.
    """

    units: dict[str, UnitTerms]
    vol_points_by_days: tuple[tuple[float, float], ...]
    extreme_share: float
    initial_factor: float
    term_structure_share: float
    rate_move: float
    minimum_slices: tuple[Slice, ...]
    stablecoin_slices: tuple[Slice, ...]


class Parts(NamedTuple):
    """The parts of one risk unit in quote money; `worst` is the scenario of MR1 or MR6 that decided."""

    mr1: float = 0.0
    mr2: float = 0.0
    mr3: float = 0.0
    mr4: float = 0.0
    mr5: float = 0.0
    mr6: float = 0.0
    mr7: float = 0.0
    mr9: float = 0.0
    worst: str = ""

    @property
    def mmr(self) -> float:
        """The maintenance margin they come to."""
        return max(max(self.mr1, self.mr2, self.mr6) + self.mr3 + self.mr4 + self.mr5, self.mr7) + self.mr9


PARTS = Parts._fields[:-1]


def requirement(
    book: RiskBook, parameters: OkxParameters, *, borrow_initial: float = 0.0, borrow_maintenance: float = 0.0
) -> Requirement:
    """Return what portfolio margin asks of one account, in quote money, risk unit by risk unit.

    Charges name the parts; those that the larger one swallows are told in `detail` of the unit's own. Open orders count
    as filled on the worse side, towards initial margin. Borrowing is what the venue says it is.
    """
    borrowed: list[Charge] = []
    if borrow_initial or borrow_maintenance:
        borrowed.append(Charge("borrowing", borrow_initial, borrow_maintenance))
    return _requirements(BookStack(book), parameters, borrowed)[0]


def requirements(stack: BookStack, parameters: OkxParameters) -> list[Requirement]:
    """Return what portfolio margin asks of each copy of a stack, as `requirement` would of each by itself."""
    return _requirements(stack, parameters, [])


def _requirements(stack: BookStack, parameters: OkxParameters, borrowed: list[Charge]) -> list[Requirement]:
    charges: list[list[Charge]] = [[] for _ in range(len(stack))]
    worst, most = [""] * len(stack), [0.0] * len(stack)
    factor = parameters.initial_factor
    names = [stack.underlyings[number] for number in stack.held]
    every = [terms_of(parameters.units, name) for name in names]
    for part, places in alike_parts(stack, [_scenarios(terms, parameters.vol_points_by_days)[0] for terms in every]):
        own_terms = [every[place] for place in places]
        now, filled = ask_with_orders(part, lambda one, terms=own_terms: stack_parts(one, terms, parameters))  # type: ignore[misc]
        for at, place in enumerate(places):
            name = names[place]
            for copy, found in enumerate(now):
                parts = found[at]
                mmr = parts.mmr
                tell = ", ".join(
                    [f"{part} {value:.6g}" for part, value in zip(PARTS, parts[:-1], strict=True) if value]
                )
                charges[copy].append(Charge(f"{name} risk unit", factor * mmr, mmr, tell))
                done = max([side[copy][at].mmr for side in filled], default=0.0)
                if done > mmr:
                    charges[copy].append(Charge(f"{name} open orders", factor * (done - mmr), 0.0))
                if mmr > most[copy]:
                    worst[copy], most[copy] = parts.worst, mmr
    return [_sum_up((*own, *borrowed), why) for own, why in zip(charges, worst, strict=True)]


def _sum_up(charges: tuple[Charge, ...], worst: str) -> Requirement:
    initial, maintenance = sum([one.initial for one in charges]), sum([one.maintenance for one in charges])
    return Requirement(MODEL, QUOTE, float(initial), float(maintenance), charges, worst)


def parts_of(book: RiskBook, terms: UnitTerms, parameters: OkxParameters) -> Parts:
    """Return the parts of one risk unit: all positions must be in one underlying."""
    return stack_parts(BookStack(book), [terms], parameters)[0][0] if len(book) else Parts()


def stack_parts(stack: BookStack, every: Sequence[UnitTerms], parameters: OkxParameters) -> list[tuple[Parts, ...]]:
    """Return by copy the parts of each risk unit, an underlying held; there are terms for each, scenarios alike."""
    both = [_scenarios(terms, parameters.vol_points_by_days) for terms in every]
    sets, size = [scenarios for scenarios, _ in both], both[0][1]
    values = StackValues(stack, sets, later_years=1.0 / DAYS_PER_YEAR)
    pnl = values.pnl_by_underlying()
    at, edge = pnl[:, :size].argmin(axis=1), size + pnl[:, size:].argmin(axis=1)
    mr1 = np.maximum(-pnl[:, :size].min(axis=1), 0.0)
    mr6 = parameters.extreme_share * np.maximum(-pnl[:, size:].min(axis=1), 0.0)
    groups, deltas, nothing = StackGroups(stack), stack_deltas(stack), np.zeros(at.shape)
    has_options = bool(values.options.size)
    mr2 = _theta_loss(values) if has_options else nothing
    mr3 = nothing
    if has_options:
        mr3 = _term_structure(values, _still(sets[0], size), groups, parameters.term_structure_share)
    mr4 = _basis(stack, groups, deltas, every)
    mr5 = _rates(stack, groups, parameters.rate_move) if has_options else nothing
    least = np.array([terms.minimum_rate for terms in every])[:, None] * _gross_quote(stack, deltas)
    hedged = stablecoin_hedge_quote(stack, deltas)
    places = np.where(mr1 >= mr6, at, edge)
    asked = np.array([mr1, mr2, mr3, mr4, mr5, mr6, least, hedged]).transpose(1, 2, 0).tolist()  # by unit and copy
    out: list[list[Parts]] = [[] for _ in range(len(stack))]
    for unit, scenarios in enumerate(sets):
        for own, place, numbers in zip(out, places[unit].tolist(), asked[unit], strict=True):
            mr7 = by_slices(numbers[6], parameters.minimum_slices)
            mr9 = by_slices(numbers[7], parameters.stablecoin_slices)
            own.append(Parts._make((*numbers[:6], mr7, mr9, scenarios.names[place])))
    return [tuple(own) for own in out]


def by_slices(size: float, slices: Sequence[Slice]) -> float:
    """Return a size counted slice by slice; beyond the last end the last factor holds on."""
    total, start = 0.0, 0.0
    for number, one in enumerate(slices):
        end = size if number == len(slices) - 1 else min(one.up_to_quote, size)
        total += max(end - start, 0.0) * one.factor
        start = one.up_to_quote
    return total


def stablecoin_hedge_quote(stack: BookStack, deltas: Floats) -> Floats:
    """Return by unit and copy how much delta is hedged across what contracts settle in: USDT against USDC, say."""
    return money_offset(stack, np.where(np.equal(stack.kind, SPOT), 0.0, deltas * stack.spot_of_row_px))


@lru_cache(maxsize=64)
def _scenarios(terms: UnitTerms, points: tuple[tuple[float, float], ...]) -> tuple[ScenarioSet, int]:
    """Return the scenarios of MR1 and then those of MR6, and how many are of MR1."""
    shock = VolShock(up=1.0, down=1.0, points_by_days=points)
    moves = sorted({sign * move for move in terms.moves for sign in (-1.0, 1.0)})
    grid = [Scenario(move, vol) for move in moves for vol in (DOWN, SAME, UP)]
    return ScenarioSet(grid + [Scenario(sign * terms.extreme_move) for sign in (-1.0, 1.0)], shock), len(grid)


def _theta_loss(values: StackValues) -> Floats:
    """Return MR2 by unit and copy: what 24 hours take from the options."""
    lost = values.stack.qty_base.take(values.options, axis=1) * (values.values[-1] - values.later)
    found: Floats = np.maximum((lost @ values.stack.layout.selector.take(values.options, axis=0)).T, 0.0)
    return found


@lru_cache(maxsize=64)
def _still(scenarios: ScenarioSet, size: int) -> Ints:
    """Return which of the first scenarios move vol alone."""
    grid = enumerate(scenarios.scenarios[:size])
    return np.array([at for at, one in grid if one.move == 0.0 and one.vol != SAME], dtype=np.int64)


def _term_structure(values: StackValues, still: Ints, groups: StackGroups, share: float) -> Floats:
    """Return what stands for MR3: a share of what expiries offset each other by under vol up or down, spot unmoved."""
    by_expiry = groups.sum(values.row_pnl_quote(still))
    found: Floats = share * offset(by_expiry, groups.selector).max(axis=0, initial=0.0).T
    return found


def _basis(stack: BookStack, groups: StackGroups, deltas: Floats, every: Sequence[UnitTerms]) -> Floats:
    """Return MR4: by expiry the net delta at spot, times an annual move of the basis, at least a perpetual's."""
    derivatives = np.where(np.equal(stack.kind, SPOT), 0.0, deltas * stack.spot_of_row_px)
    annual, least = np.array([(one.annual_basis_move, one.perpetual_basis_rate) for one in every]).T[:, groups.place]
    rate = np.maximum(annual * groups.tau_years, least)
    found: Floats = ((np.abs(groups.sum(derivatives)) * rate) @ groups.selector).T
    return found


def _rates(stack: BookStack, groups: StackGroups, rate_move: float) -> Floats:
    """Return what stands for MR5: the value of each expiry's options times its time, times a move of the rate."""
    value = groups.sum(np.where(stack.is_option, stack.qty_base * stack.mark_px, 0.0))
    found: Floats = rate_move * np.abs(((value * groups.tau_years) @ groups.selector).T)
    return found


def _gross_quote(stack: BookStack, deltas: Floats) -> Floats:
    """Return by unit and copy what the minimum charge is on: deltas at spot, of sold options their whole underlying."""
    is_sold_option = stack.is_option & (stack.qty_base < 0.0)
    size = np.where(is_sold_option, np.abs(stack.qty_base), np.abs(deltas) * stack.layout.is_linear)
    found: Floats = ((size * stack.spot_of_row_px) @ stack.layout.selector).T
    return found
