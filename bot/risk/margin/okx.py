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
from bot.risk.margin.tables import QUOTE, by_underlying, is_linear, order_sides, terms_of
from bot.risk.repricing import Groups, base_deltas, option_values, scenario_pnl
from bot.risk.requirement import Charge, Requirement
from bot.risk.scenarios import DAYS_PER_YEAR, DOWN, SAME, UP, Scenario, ScenarioSet, VolShock

MODEL = "okx"
_NO_MOVE: Floats = np.zeros(1)
_FIRST: Ints = np.zeros(1, dtype=np.int64)


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


def requirement(
    book: RiskBook, parameters: OkxParameters, *, borrow_initial: float = 0.0, borrow_maintenance: float = 0.0
) -> Requirement:
    """Return what portfolio margin asks of one account, in quote money, risk unit by risk unit.

    Charges name the parts; those that the larger one swallows are told in `detail` of the unit's own. Open orders count
    as filled on the worse side, towards initial margin. Borrowing is what the venue says it is.
    """
    charges: list[Charge] = []
    worst, most = "", 0.0
    for name, rows in by_underlying(book):
        terms = terms_of(parameters.units, name)
        parts = parts_of(rows, terms, parameters)
        filled = [parts_of(side, terms, parameters).mmr for side in order_sides(rows)]
        factor = parameters.initial_factor
        tell = ", ".join(f"{part} {value:.6g}" for part, value in parts._asdict().items() if value and part != "worst")
        charges.append(Charge(f"{name} risk unit", factor * parts.mmr, parts.mmr, tell))
        if filled and max(filled) > parts.mmr:
            charges.append(Charge(f"{name} open orders", factor * (max(filled) - parts.mmr), 0.0))
        if parts.mmr > most:
            worst, most = parts.worst, parts.mmr
    if borrow_initial or borrow_maintenance:
        charges.append(Charge("borrowing", borrow_initial, borrow_maintenance))
    initial, maintenance = (float(sum(getattr(one, side) for one in charges)) for side in ("initial", "maintenance"))
    return Requirement(MODEL, QUOTE, initial, maintenance, tuple(charges), worst)


def parts_of(book: RiskBook, terms: UnitTerms, parameters: OkxParameters) -> Parts:
    """Return the parts of one risk unit: all positions must be in one underlying."""
    if not len(book):
        return Parts()
    grid, extreme = _scenarios(terms, parameters.vol_points_by_days)
    pnl = scenario_pnl(book, grid)
    total = pnl.sum(axis=1)
    far = scenario_pnl(book, extreme).sum(axis=1)
    at, edge = int(total.argmin()), int(far.argmin())
    mr1, mr6 = max(-float(total[at]), 0.0), parameters.extreme_share * max(-float(far[edge]), 0.0)
    groups, deltas = Groups(book), base_deltas(book)
    has_options = bool(book.is_option.any())
    return Parts(
        mr1=mr1,
        mr2=_theta_loss(book) if has_options else 0.0,
        mr3=_term_structure(pnl, grid, groups, parameters.term_structure_share) if has_options else 0.0,
        mr4=_basis(book, groups, deltas, terms),
        mr5=_rates(book, groups, parameters.rate_move) if has_options else 0.0,
        mr6=mr6,
        mr7=by_slices(terms.minimum_rate * _gross_quote(book, deltas), parameters.minimum_slices),
        mr9=by_slices(stablecoin_hedge_quote(book, deltas), parameters.stablecoin_slices),
        worst=grid.names[at] if mr1 >= mr6 else extreme.names[edge],
    )


def by_slices(size: float, slices: Sequence[Slice]) -> float:
    """Return a size counted slice by slice; beyond the last end the last factor holds on."""
    total, start = 0.0, 0.0
    for number, one in enumerate(slices):
        end = size if number == len(slices) - 1 else min(one.up_to_quote, size)
        total += max(end - start, 0.0) * one.factor
        start = one.up_to_quote
    return total


def stablecoin_hedge_quote(book: RiskBook, deltas: Floats) -> float:
    """Return how much of the unit's delta is hedged across what contracts settle in: USDT against USDC against USD."""
    quote = deltas * book.spot_of_row_px
    by_money = np.zeros(len(book.moneys))
    np.add.at(by_money, book.money, np.where(np.equal(book.kind, SPOT), 0.0, quote))
    return float(min(by_money[by_money > 0.0].sum(), -by_money[by_money < 0.0].sum()))


@lru_cache(maxsize=64)
def _scenarios(terms: UnitTerms, points: tuple[tuple[float, float], ...]) -> tuple[ScenarioSet, ScenarioSet]:
    shock = VolShock(up=1.0, down=1.0, points_by_days=points)
    moves = sorted({sign * move for move in terms.moves for sign in (-1.0, 1.0)})
    grid = [Scenario(move, vol) for move in moves for vol in (DOWN, SAME, UP)]
    return ScenarioSet(grid, shock), ScenarioSet([Scenario(sign * terms.extreme_move) for sign in (-1.0, 1.0)], shock)


def _theta_loss(book: RiskBook) -> float:
    """Return MR2: what 24 hours take from the options."""
    part = book.where(book.is_option)
    now = _values(part, part.tau_years)
    later = _values(part, np.maximum(part.tau_years - 1.0 / DAYS_PER_YEAR, 0.0))
    return max(-float(part.qty_base @ (later - now)), 0.0)


def _values(part: RiskBook, tau_years: Floats) -> Floats:
    vols = part.vol[None, :]
    found: Floats = option_values(
        part.forward_px, part.strike_px, tau_years, part.is_call, _NO_MOVE, vols, _FIRST, _FIRST
    )[0]
    return found


def _term_structure(pnl: Floats, grid: ScenarioSet, groups: Groups, share: float) -> float:
    """Return what stands for MR3: a share of what expiries offset each other by under vol up or down, spot unmoved."""
    still = np.flatnonzero((grid.move == 0.0) & np.array([one.vol != SAME for one in grid.scenarios]))
    by_expiry = groups.sum(pnl[still])
    offset = np.minimum(np.maximum(by_expiry, 0.0).sum(axis=1), np.maximum(-by_expiry, 0.0).sum(axis=1))
    return share * float(offset.max(initial=0.0))


def _basis(book: RiskBook, groups: Groups, deltas: Floats, terms: UnitTerms) -> float:
    """Return MR4: by expiry the net delta at spot, times an annual move of the basis, at least a perpetual's."""
    derivatives = np.where(np.equal(book.kind, SPOT), 0.0, deltas * book.spot_of_row_px)
    rate = np.maximum(terms.annual_basis_move * groups.tau_years, terms.perpetual_basis_rate)
    return float(np.abs(groups.sum(derivatives)) @ rate)


def _rates(book: RiskBook, groups: Groups, rate_move: float) -> float:
    """Return what stands for MR5: the value of each expiry's options times its time, times a move of the rate."""
    value = groups.sum(np.where(book.is_option, book.qty_base * book.mark_px, 0.0))
    return rate_move * abs(float(value @ groups.tau_years))


def _gross_quote(book: RiskBook, deltas: Floats) -> float:
    """Return what the minimum charge is on: deltas at spot, of sold options their whole underlying."""
    is_sold_option = book.is_option & (book.qty_base < 0.0)
    size = np.where(is_sold_option, np.abs(book.qty_base), np.where(is_linear(book), np.abs(deltas), 0.0))
    return float(size @ book.spot_of_row_px)
