"""Positions × scenarios in one vectorised pass: profit and loss of each row under each scenario, and sums by expiry.

Forwards move with their spot in proportion, vols as the scenario set says, time stands still. Options are Black-76
without discount, s (F N(s (z + h)) - K N(s (z - h))), where z = ln(F/K) / v, h = v/2 and s is 1 for calls, -1 for puts,
with chances from a table (`quick_normal`): right to some 1e-15 of forward and strike. At expiry and without vol what is
left is the intrinsic value. It never warns, and answers NaN for no book that `gaps.find_fault` lets through. Matrices
have one line per scenario and one column per row of the book.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.special import ndtr

from bot.risk.book import OPTION, Flags, Floats, Ints, RiskBook
from bot.risk.quick_normal import FAR, PER_UNIT, quick_ndtr_of_units
from bot.risk.scenarios import ScenarioSet

LEAST_DEV: Final = 1e-15  # below this deviation an option is at its expiry
SHARP: Final = 1e-9  # below this deviation what is off the money is further away than the table of chances knows
CELLS: Final = 8192  # at a time: what they need stays in the processor's cache, however large the book is


def option_values(
    forward: Floats,
    strike: Floats,
    tau_years: Floats,
    is_call: Flags,
    moves: Floats,
    vols: Floats,
    move_of: Ints,
    vol_of: Ints,
) -> Floats:
    """Return Black-76 values, one line per scenario: forwards × (1 + moves[move_of]) at vols[vol_of].

    `vols` has a line per distinct shock and a column per option. `moves` is a number per distinct move, or a line each
    with a column per option where forwards move differently.
    """
    out = np.empty((len(move_of), len(forward)))
    size = max(CELLS // len(move_of), 1)
    for start in range(0, len(forward), size):
        part = slice(start, start + size)
        factor = 1.0 + (moves[:, None] if moves.ndim == 1 else moves[:, part])
        sign, struck = 2.0 * is_call[part] - 1.0, strike[part]
        log = np.log(forward[part] / struck) + np.log(factor)
        dev = np.maximum(vols[:, part] * np.sqrt(np.maximum(tau_years[part], 0.0)), LEAST_DEV)
        is_sharp = bool(np.minimum.reduce(dev, axis=None, initial=1.0) < SHARP)
        log *= PER_UNIT
        dev *= sign
        h = dev.take(vol_of, axis=0, mode="clip")
        z = log.take(move_of, axis=0, mode="clip")
        z /= h
        if is_sharp:
            np.maximum(z, -FAR * PER_UNIT, out=z)
            np.minimum(z, FAR * PER_UNIT, out=z)
        h *= 0.5 * PER_UNIT
        chances = np.empty((2, *h.shape))
        np.add(z, h, out=chances[0])
        np.subtract(z, h, out=chances[1])
        worth, owed = quick_ndtr_of_units(chances)
        worth *= (factor * (sign * forward[part])).take(move_of, axis=0, out=z, mode="clip")
        owed *= sign * struck
        np.subtract(worth, owed, out=out[:, part])
    return out


def scenario_pnl(book: RiskBook, scenarios: ScenarioSet, rows: Ints | None = None) -> Floats:
    """Return what each row wins or loses in quote money under each scenario, before weights; `rows` limits it."""
    numbers = np.arange(len(book)) if rows is None else rows
    qty = book.qty_base[numbers]
    is_option = book.kind[numbers] == OPTION
    if is_option.all():
        return _option_pnl(book, scenarios, numbers, qty)
    out = scenarios.move[:, None] * (qty * book.mark_px[numbers])
    if is_option.any():
        out[:, is_option] = _option_pnl(book, scenarios, numbers[is_option], qty[is_option])
    return out


def _option_pnl(book: RiskBook, scenarios: ScenarioSet, rows: Ints, qty: Floats) -> Floats:
    forward, strike, tau, vol = (column[rows] for column in (book.forward_px, book.strike_px, book.tau_years, book.vol))
    out = option_values(
        forward,
        strike,
        tau,
        book.is_call[rows],
        scenarios.with_now_moves,
        scenarios.shocked_vols(vol, tau),
        scenarios.with_now_move_of,
        scenarios.with_now_vol_of,
    )
    pnl: Floats = out[:-1]
    pnl -= out[-1]
    pnl *= qty
    return pnl


def base_deltas(book: RiskBook) -> Floats:
    """Return each row's delta in base: its quantity, an option's times Black's delta at its forward."""
    out = book.qty_base.copy()
    rows = np.flatnonzero(book.kind == OPTION)
    if rows.size:
        tau, strike, forward = book.tau_years[rows], book.strike_px[rows], book.forward_px[rows]
        dev = np.maximum(book.vol[rows] * np.sqrt(np.maximum(tau, 0.0)), LEAST_DEV)
        chance = ndtr(np.log(forward / strike) / dev + 0.5 * dev)
        out[rows] *= np.where(book.is_call[rows], chance, chance - 1.0)
    return out


def in_coin(pnl_quote: Floats, spot_px: Floats | float, move: Floats) -> Floats:
    """Return quote P&L, a line per scenario, in coin at the moved spot: linear and inverse alike lose q·m/(1+m)."""
    return pnl_quote / (spot_px * (1.0 + move[:, None]))


class Groups:
    """Rows of a book put together by underlying, or by underlying and expiry; sums of columns by group.

    `label` is each row's group; `underlying` and `tau_years` are by group (0.0 for what never expires, if asked).
    """

    __slots__ = ("_order", "_starts", "_stops", "label", "tau_years", "underlying")

    def __init__(self, book: RiskBook, *, by_expiry: bool = True) -> None:
        """Group the rows of the book; the order within a group is that of the book, so that sums never differ."""
        tau = np.where(np.isfinite(book.tau_years), np.maximum(book.tau_years, 0.0), 0.0)
        order = np.lexsort((tau, book.underlying)) if by_expiry else np.argsort(book.underlying, kind="stable")
        sorted_tau, sorted_underlying = tau[order], book.underlying[order]
        is_new = np.ones(len(book), dtype=bool)
        np.not_equal(sorted_underlying[1:], sorted_underlying[:-1], out=is_new[1:])
        if by_expiry:
            is_new[1:] |= sorted_tau[1:] != sorted_tau[:-1]
        self._order: Ints = order
        self._starts: Ints = np.flatnonzero(is_new)
        self._stops: Ints = np.append(self._starts[1:], len(book))
        self.label: Ints = np.empty(len(book), dtype=np.int64)
        self.label[order] = np.cumsum(is_new) - 1
        self.underlying: Ints = sorted_underlying[self._starts]
        self.tau_years: Floats = sorted_tau[self._starts]

    def __len__(self) -> int:
        return len(self._starts)

    def rows(self, group: int) -> Ints:
        """Return the rows of one group."""
        return self._order[self._starts[group] : self._stops[group]]

    def sum(self, values: Floats) -> Floats:
        """Return sums over the last axis by group, for a number per row or a matrix with a column per row."""
        if not len(self):
            return np.zeros((*values.shape[:-1], 0))
        out: Floats = np.add.reduceat(values[..., self._order], self._starts, axis=-1)
        return out


class ScenarioMatrix:
    """The P&L of a book under every scenario, kept: after a quote only the rows it moved are priced again.

    `pnl_quote` has a line per scenario and a column per row, `by_expiry` a column per group of `groups`. Both are to be
    read, not written.
    """

    __slots__ = ("book", "by_expiry", "groups", "pnl_quote", "scenarios")

    def __init__(self, book: RiskBook, scenarios: ScenarioSet) -> None:
        """Price the whole book."""
        self.book = book
        self.scenarios = scenarios
        self.groups = Groups(book)
        self.pnl_quote = scenario_pnl(book, scenarios)
        self.by_expiry = self.groups.sum(self.pnl_quote)

    def by_underlying(self, underlying: int) -> Floats:
        """Return the P&L of one underlying under each scenario, in quote money."""
        out: Floats = self.by_expiry[:, self.groups.underlying == underlying].sum(axis=1)
        return out

    def update(self, book: RiskBook, rows: Ints) -> None:
        """Price `rows` again as `book` has them; it must hold the same instruments in the same order.

        Raises ValueError where it does not: then another matrix is needed.
        """
        if book.instrument_ids is not self.book.instrument_ids and book.instrument_ids != self.book.instrument_ids:
            raise ValueError("expected the instruments of the matrix, found another book; hint: make a new matrix")
        self.book = book
        if not rows.size:
            return
        self.pnl_quote[:, rows] = scenario_pnl(book, self.scenarios, rows)
        for group in np.unique(self.groups.label[rows]).tolist():
            columns = self.pnl_quote[:, self.groups.rows(group)]
            self.by_expiry[:, group] = np.add.reduceat(columns, [0], axis=1)[:, 0]
