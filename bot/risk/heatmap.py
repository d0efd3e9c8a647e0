"""The stress heatmap: P&L, Greeks and margin of a book over moves of spot, changes of vol and hours gone by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np

from bot.risk.book import Floats, Ints, RiskBook
from bot.risk.option_grid import LEAST_DEV, option_grid
from bot.risk.repricing import option_values
from bot.risk.requirement import Requirement
from bot.risk.scenarios import VolShock
from bot.risk.sensitivities import LEAST_TAU_YEARS, grid_greeks

HOURS_PER_YEAR: Final = 365.0 * 24.0
COLUMNS: Final = 128  # options at a time: their corners stay in the processor's cache
GREEKS: Final = ("delta", "gamma", "vega", "theta")


class Heatmap(msgspec.Struct, frozen=True, kw_only=True):
    """Arrays by hours, vol change and move, in this order; all in quote money.

    `vols` are shares of vol at the shock's reference time. Delta is per 100 % move, gamma by how much that changes per
    1 %, vega per vol point, theta a day, all at the moved market. `maintenance` is empty where no model was given.
    """

    hours: tuple[float, ...]
    vols: tuple[float, ...]
    moves: tuple[float, ...]
    pnl: Floats
    delta: Floats
    gamma: Floats
    vega: Floats
    theta: Floats
    initial: Floats
    maintenance: Floats

    @property
    def worst(self) -> tuple[float, float, float, float]:
        """Hours, vol change, move and P&L of the worst corner."""
        hour, vol, move = np.unravel_index(int(self.pnl.argmin()), self.pnl.shape)
        return self.hours[hour], self.vols[vol], self.moves[move], float(self.pnl[hour, vol, move])


def heatmap(
    book: RiskBook,
    moves: Sequence[float],
    vols: Sequence[float],
    hours: Sequence[float],
    shock: VolShock,
    requirement: Callable[[RiskBook], Requirement] | None = None,
) -> Heatmap:
    """Return the heatmap of a book whose underlyings all move by the same share.

    `shock` scales vol changes by time to expiry as it does in margin models. One pass prices every option at every move
    and vol of an hour. `requirement`, where given, is asked at every corner, which takes as long as it takes each time.
    """
    if not (len(moves) and len(vols) and len(hours)) or min(moves) <= -1.0:
        raise ValueError(
            f"expected moves above -100 %, vols and hours, found {list(moves)}, {list(vols)}, {list(hours)}"
        )
    shape = (len(hours), len(vols), len(moves))
    rows = np.flatnonzero(book.is_option)
    linear = ~book.is_option
    linear_quote = float((book.qty_base[linear] * book.mark_px[linear]).sum())
    move = np.array(moves, dtype=float)
    pnl: Floats = np.broadcast_to(linear_quote * move, shape).copy()
    greeks = {name: np.zeros(shape) for name in GREEKS}
    greeks["delta"] += linear_quote * (1.0 + move)
    margins = np.zeros((2, *shape)) if requirement is not None else np.zeros((2, 0, 0, 0))
    shocked = np.stack([shock.shocked(book.vol[rows], book.tau_years[rows], float(change)) for change in vols])
    marked = float((book.qty_base[rows] * book.mark_px[rows]).sum())
    for number, hour in enumerate(hours):
        tau = np.maximum(book.tau_years[rows] - hour / HOURS_PER_YEAR, 0.0)
        if rows.size:
            worth, found = _corners(book, rows, move, shocked, tau)
            pnl[number] += worth - marked
            for name, grid in found.items():
                greeks[name][number] += grid
        if requirement is not None:
            for place in np.ndindex(shape[1:]):
                asked = requirement(_moved(book, rows, float(moves[place[1]]), shocked[place[0]], hour))
                margins[:, number, place[0], place[1]] = asked.initial, asked.maintenance
    return Heatmap(
        hours=tuple(hours), vols=tuple(vols), moves=tuple(moves), pnl=pnl, initial=margins[0], maintenance=margins[1],
        **greeks,
    )  # fmt: skip


def _corners(book: RiskBook, rows: Ints, move: Floats, vols: Floats, tau: Floats) -> tuple[Floats, dict[str, Floats]]:
    """Return what all options are worth at each corner of an hour, by vol and move, and their Greeks."""
    dev = vols * np.sqrt(tau)
    is_plain = (dev > LEAST_DEV).all(axis=0) & (tau >= LEAST_TAU_YEARS)
    if not is_plain.all():  # what is at its expiry, by itself
        odd = np.flatnonzero(~is_plain)
        some = rows[odd]
        of_odd = _values(book, some, move, vols[:, odd], tau[odd]) @ book.qty_base[some]
        greeks_of_odd = _greeks(book, some, move, vols[:, odd], tau[odd])
        worth, greeks = _corners(book, rows[is_plain], move, vols[:, is_plain], tau[is_plain])
        worth = worth + of_odd.reshape(worth.shape)
        return worth, {name: one + greeks_of_odd[name] for name, one in greeks.items()}
    sums = np.zeros((5, len(vols), len(move)))
    for start in range(0, rows.size, COLUMNS):
        part = slice(start, start + COLUMNS)
        some, own_dev, years = rows[part], dev[:, None, part], tau[part]
        strike, qty, forward = book.strike_px[some], book.qty_base[some], book.forward_px[some] * (1.0 + move[:, None])
        grid = option_grid(np.log(forward / strike), own_dev, forward, strike, book.is_call[some])
        sums[0] += grid.value @ qty
        sums[1] += (grid.delta * forward) @ qty
        sums[2] += (grid.density_quote / own_dev) @ qty
        sums[3] += grid.density_quote @ (qty * np.sqrt(years))
        sums[4] -= (grid.density_quote * own_dev) @ (qty / (2.0 * years))
    greeks = {"delta": sums[1], "gamma": sums[2] * 0.01, "vega": sums[3] * 0.01, "theta": sums[4] / 365.0}
    return sums[0], greeks


def _values(book: RiskBook, rows: Ints, move: Floats, vols: Floats, tau: Floats) -> Floats:
    """Return values by vol and move (one after the other) and option; moves with one another change fastest."""
    vol_of, move_of = (axis.reshape(-1) for axis in np.indices((len(vols), len(move))))
    return option_values(
        book.forward_px[rows], book.strike_px[rows], tau, book.is_call[rows], move, vols, move_of, vol_of
    )


def _greeks(book: RiskBook, rows: Ints, move: Floats, vols: Floats, tau: Floats) -> dict[str, Floats]:
    """Return Greeks by vol and move, summed over options, in the units of the heatmap."""
    forward = np.broadcast_to(book.forward_px[rows] * (1.0 + move)[None, :, None], (len(vols), len(move), rows.size))
    each = grid_greeks(book, rows, forward, tau, np.broadcast_to(vols[:, None, :], forward.shape))
    qty = book.qty_base[rows]
    return {
        "delta": (each["delta"] * forward) @ qty,
        "gamma": (each["gamma"] * forward**2) @ qty * 0.01,
        "vega": each["vega"] @ qty * 0.01,
        "theta": each["theta"] @ qty / 365.0,
    }


def _moved(book: RiskBook, rows: Ints, move: float, vols: Floats, hours: float) -> RiskBook:
    """Return the book at one corner, as a margin model is to see it."""
    tau = np.maximum(book.tau_years - hours / HOURS_PER_YEAR, 0.0)
    vol = book.vol.copy()
    vol[rows] = vols
    forward = book.forward_px * (1.0 + move)
    mark = book.mark_px * (1.0 + move)
    if rows.size:
        mark[rows] = _values(book, rows, np.array([move]), vols[None, :], tau[rows])[0]
    return msgspec.structs.replace(
        book, spot_px=book.spot_px * (1.0 + move), forward_px=forward, mark_px=mark, tau_years=tau, vol=vol
    )
