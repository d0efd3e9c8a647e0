"""A collateral problem as a linear program, sparse: columns, rows `A x ≤ b`, and which column means what.

Columns: what is sent (R), what every tier of every post counts at every horizon, what every demand is short of at
every horizon, what stays over every cap, and for routes with a fee, a minimum or a lot, whether it is used and how many
lots. Rows: margin in every scenario, balances, stock, shares, caps, use. Everything is divided by a unit of money, and
cost by the largest cost, so that the solver's tolerances are small beside what is counted.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec
import numpy as np
from scipy.sparse import csc_array, csr_array

from bot.risk.collateral.tables import Flags, Floats, Ints, Tables

_NOT_FOR_NOTHING: Final = 1e-6  # of the largest cost, per value sent: a transfer that saves nothing is not made
_OVER_WEIGHT: Final = 0.01  # what is over a cap counts as against what is missing: liquidation is the greater evil


class RowKind(StrEnum):
    """What a row of a program says."""

    MARGIN = "margin"
    BALANCE = "balance"
    STOCK = "stock"
    SHARE = "share"
    CAP_AT_ONCE = "cap_at_once"
    CAP = "cap"
    USE = "use"


class Row(msgspec.Struct, frozen=True, gc=False):
    """A row's meaning: the numbers are (demand, horizon, scenario), (post, horizon), (asset, place), or a cap."""

    kind: RowKind
    first: int
    second: int = 0
    third: int = 0


class Program(msgspec.Struct, frozen=True):
    """The matrices, for cost and for the smallest violation, and where each sort of column begins."""

    tables: Tables
    unit: float
    cost_unit: float
    cost: Floats
    violation: Floats
    matrix: csr_array
    bound: Floats
    lower: Floats
    upper: Floats
    is_whole: Flags
    rows: tuple[Row, ...]
    short_from: int
    over_from: int
    use_from: int
    lots_from: int
    used_routes: Ints
    lot_routes: Ints

    @property
    def elastic(self) -> slice:
        """The columns of what is missing and what is over caps: at nothing, where all must be met."""
        return slice(self.short_from, self.use_from)

    def with_violations_at_most(self, most: Floats | None) -> Program:
        """Return the program with violations up to these allowed (None: as they come)."""
        upper = self.upper.copy()
        caps = self.tables.caps
        if most is None:
            upper[self.short_from : self.over_from] = np.inf
            upper[self.over_from : self.use_from] = [max(one.held - one.most, 0.0) / self.unit for one in caps]
        else:
            upper[self.elastic] = most * (1.0 + 1e-9) + 1e-7
        return msgspec.structs.replace(self, upper=upper)

    def with_choices_of(self, solution: Floats) -> Program:
        """Return the program with whole numbers as in a solution: only amounts without lots are left to choose."""
        lower, upper = self.lower.copy(), self.upper.copy()
        for columns, routes in ((self.use_from, self.used_routes), (self.lots_from, self.lot_routes)):
            whole = np.round(solution[columns : columns + len(routes)])
            lower[columns : columns + len(routes)] = whole
            upper[columns : columns + len(routes)] = whole
            upper[routes[whole <= 0.0]] = 0.0
        return msgspec.structs.replace(self, lower=lower, upper=upper)

    def sent(self, solution: Floats) -> Floats:
        """Return the value sent over each route: lots are whole, what is not used or next to nothing is nothing."""
        routes = len(self.tables.routes)
        sent = np.clip(solution[:routes] * self.unit, 0.0, self.tables.most)
        lots = np.round(solution[self.lots_from : self.lots_from + len(self.lot_routes)])
        sent[self.lot_routes] = lots * self.tables.lot[self.lot_routes]
        unused = solution[self.use_from : self.use_from + len(self.used_routes)] < 0.5
        sent[self.used_routes[unused]] = 0.0
        sent[sent < 1e-4] = 0.0  # a hundredth of a cent
        return sent


class _Rows:
    """Rows as they are written: triplets of a sparse matrix."""

    def __init__(self) -> None:
        self.bound: list[float] = []
        self.meaning: list[Row] = []
        self.at: list[Ints] = []
        self.columns: list[Ints] = []
        self.values: list[Floats] = []

    def add(self, meaning: Row, columns: Ints | list[int], values: Floats | list[float], bound: float) -> None:
        self.at.append(np.full(len(columns), len(self.bound), dtype=np.int64))
        self.columns.append(np.asarray(columns, dtype=np.int64))
        self.values.append(np.asarray(values, dtype=float))
        self.bound.append(bound)
        self.meaning.append(meaning)

    def matrix(self, width: int) -> csr_array:
        shape = (len(self.bound), width)
        if not self.bound:
            return csr_array(shape)
        parts = (np.concatenate(self.values), (np.concatenate(self.at), np.concatenate(self.columns)))
        return csr_array(csc_array(parts, shape=shape))


def build_program(tables: Tables) -> Program:
    """Return the linear program of a problem, in which every need must be met and every cap kept."""
    unit, cost_unit = _units(tables)
    routes = len(tables.routes)
    posts = np.flatnonzero(np.isin(tables.post_place, tables.demand_place))
    horizons = len(tables.horizons_s)
    deep = tables.tier_kept.shape[1]
    counted_from = routes
    short_from = counted_from + len(posts) * horizons * deep
    over_from = short_from + len(tables.demand_place) * horizons
    use_from = over_from + len(tables.caps)
    used_routes, lot_routes = np.flatnonzero(tables.uses), np.flatnonzero(tables.lot > 0.0)
    lots_from = use_from + len(used_routes)
    width = lots_from + len(lot_routes)
    use_of = np.full(routes, -1)
    use_of[used_routes] = use_from + np.arange(len(used_routes))
    counted_at = counted_from + np.arange(len(posts) * horizons * deep).reshape(len(posts), horizons, deep)

    rows = _Rows()
    _margin_rows(rows, tables, posts, counted_at, short_from, unit)
    _balance_rows(rows, tables, posts, counted_at, use_of, unit)
    _stock_rows(rows, tables, use_of, unit)
    _share_rows(rows, tables, posts, counted_at)
    _cap_rows(rows, tables, over_from, unit)
    _use_rows(rows, tables, use_of, lots_from, lot_routes, unit)

    cost, violation = np.zeros(width), np.zeros(width)
    cost[:routes] = tables.cost / cost_unit + _NOT_FOR_NOTHING
    cost[use_from:lots_from] = tables.cost_of_use[used_routes] / (unit * cost_unit)
    violation[short_from:over_from] = 1.0
    violation[over_from:use_from] = _OVER_WEIGHT
    upper = np.full(width, np.inf)
    upper[:routes] = tables.most / unit
    upper[counted_from:short_from] = np.repeat(tables.tier_width[posts], horizons, axis=0).ravel() / unit
    upper[short_from:use_from] = 0.0
    upper[use_from:lots_from] = 1.0
    lots = tables.lot[lot_routes]
    upper[lots_from:] = np.round(tables.most[lot_routes] / lots)
    is_whole = np.zeros(width, dtype=bool)
    is_whole[use_from:] = True
    return Program(
        tables=tables,
        unit=unit,
        cost_unit=cost_unit,
        cost=cost,
        violation=violation,
        matrix=rows.matrix(width),
        bound=np.array(rows.bound),
        lower=np.zeros(width),
        upper=upper,
        is_whole=is_whole,
        rows=tuple(rows.meaning),
        short_from=short_from,
        over_from=over_from,
        use_from=use_from,
        lots_from=lots_from,
        used_routes=used_routes,
        lot_routes=lot_routes,
    )


def _units(tables: Tables) -> tuple[float, float]:
    asked = np.where(np.isfinite(tables.required), tables.required, 0.0)
    largest = max(float(np.abs(asked).max(initial=0.0)), float(tables.most.max(initial=0.0)))
    return max(largest / 1e4, 1.0), max(float(np.abs(tables.cost).max(initial=0.0)), 1e-9)


def _margin_rows(rows: _Rows, tables: Tables, posts: Ints, counted_at: Ints, short_from: int, unit: float) -> None:
    horizons, deep = len(tables.horizons_s), tables.tier_kept.shape[1]
    for n, place in enumerate(tables.demand_place):
        mine = np.flatnonzero(tables.post_place[posts] == place)
        kept = tables.tier_kept[posts[mine]]  # q J
        for h in range(horizons):
            short = short_from + n * horizons + h
            columns = np.append(counted_at[mine, h].ravel(), short)
            required = tables.required[n, h]
            for k in decisive(required, tables.multiplier[posts[mine]]).tolist():
                credit = kept * tables.multiplier[posts[mine], k, None]
                values = np.append(-credit.reshape(len(mine) * deep), -1.0)
                rows.add(Row(RowKind.MARGIN, n, h, k), columns, values, -float(required[k]) / unit)


def decisive(required: Floats, multiplier: Floats) -> Ints:
    """Return the numbers of the scenarios that can be the worst one, whatever collateral there is.

    One that asks for no more than another, and in which no asset (row) is worth less, never decides.
    """
    asks_less = required[:, None] <= required[None, :]
    counts_more = np.all(multiplier[:, :, None] >= multiplier[:, None, :], axis=0)
    is_implied = asks_less & counts_more
    is_alike = is_implied & is_implied.T  # of those that are alike the first one stays
    is_implied &= ~is_alike | np.tri(len(required), k=-1, dtype=bool)
    np.fill_diagonal(is_implied, val=False)
    return np.flatnonzero(~is_implied.any(axis=1) & np.isfinite(required))


def _balance_rows(rows: _Rows, tables: Tables, posts: Ints, counted_at: Ints, use_of: Ints, unit: float) -> None:
    """Write that no more counts than is there."""
    deep = tables.tier_kept.shape[1]
    for row, q in enumerate(posts):
        asset, place, ratio = tables.post_asset[q], tables.post_place[q], float(tables.ratio[q])
        mine = tables.route_asset == asset
        goes = np.flatnonzero(mine & (tables.route_from == place))
        comes = np.flatnonzero(mine & (tables.route_to == place))
        for h in range(len(tables.horizons_s)):
            landed = comes[tables.lands[comes, h]]
            fixed = landed[use_of[landed] >= 0]
            columns = np.concatenate((counted_at[row, h], landed, goes, use_of[fixed]))
            values = np.concatenate(
                (
                    np.ones(deep),
                    -ratio * tables.kept[landed],
                    np.full(len(goes), ratio),
                    ratio * tables.fixed[fixed] / unit,
                )
            )
            there = ratio * float(tables.held[asset, place] + tables.arriving[asset, place, h])
            rows.add(Row(RowKind.BALANCE, int(q), h), columns, values, there / unit)


def _stock_rows(rows: _Rows, tables: Tables, use_of: Ints, unit: float) -> None:
    origins = {(int(a), int(p)) for a, p in zip(tables.route_asset, tables.route_from, strict=True)}
    for asset, place in sorted(origins):
        here = tables.route_from == place
        goes = np.flatnonzero(here & (tables.route_asset == asset))
        burns = np.flatnonzero(here & (tables.gas_asset == asset))
        columns = np.concatenate((goes, use_of[burns]))
        values = np.concatenate((np.ones(len(goes)), tables.gas[burns] / unit))
        rows.add(Row(RowKind.STOCK, asset, place), columns, values, float(tables.spare[asset, place]) / unit)
    for asset, place in sorted(
        {(int(a), int(p)) for a, p in zip(tables.gas_asset, tables.route_from, strict=True) if a >= 0} - origins
    ):
        burns = np.flatnonzero((tables.route_from == place) & (tables.gas_asset == asset))
        spare = float(tables.spare[asset, place]) / unit
        rows.add(Row(RowKind.STOCK, asset, place), use_of[burns], tables.gas[burns] / unit, spare)


def _share_rows(rows: _Rows, tables: Tables, posts: Ints, counted_at: Ints) -> None:
    for row, q in enumerate(posts):
        share = float(tables.share[q])
        if share >= 1.0:
            continue
        mine = np.flatnonzero(tables.post_place[posts] == tables.post_place[q])
        values = -share * tables.tier_kept[posts[mine]]
        values[np.flatnonzero(mine == row)[0]] += tables.tier_kept[q]
        for h in range(len(tables.horizons_s)):
            rows.add(Row(RowKind.SHARE, int(q), h), counted_at[mine, h].ravel(), values.ravel(), 0.0)


def _cap_rows(rows: _Rows, tables: Tables, over_from: int, unit: float) -> None:
    for n, one in enumerate(tables.caps):
        added = np.flatnonzero(one.at_once)
        rows.add(Row(RowKind.CAP_AT_ONCE, n), added, one.at_once[added], max(one.most - one.now, 0.0) / unit)
        moved = np.flatnonzero(one.in_the_end)
        columns, values = np.append(moved, over_from + n), np.append(one.in_the_end[moved], -1.0)
        rows.add(Row(RowKind.CAP, n), columns, values, (one.most - one.held) / unit)


def _use_rows(rows: _Rows, tables: Tables, use_of: Ints, lots_from: int, lot_routes: Ints, unit: float) -> None:
    for r in np.flatnonzero(use_of >= 0).tolist():
        rows.add(Row(RowKind.USE, r), [r, int(use_of[r])], [1.0, -float(tables.most[r]) / unit], 0.0)
        rows.add(Row(RowKind.USE, r), [r, int(use_of[r])], [-1.0, float(tables.least[r]) / unit], 0.0)
    for n, r in enumerate(lot_routes.tolist()):
        lot = float(tables.lot[r]) / unit
        rows.add(Row(RowKind.USE, r), [r, lots_from + n], [1.0, -lot], 0.0)
        rows.add(Row(RowKind.USE, r), [r, lots_from + n], [-1.0, lot], 0.0)
