"""The stress heatmap: P&L, Greeks and margin of a book over moves of spot, changes of vol and hours gone by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np

from bot.risk.book import Floats, Ints, RiskBook
from bot.risk.option_grid import LEAST_DEV, PHI_0
from bot.risk.quick_normal import PER_UNIT, quick_ndtr_of_units
from bot.risk.repricing import option_values
from bot.risk.requirement import Requirement
from bot.risk.scenarios import VolShock
from bot.risk.sensitivities import LEAST_TAU_YEARS, grid_greeks

HOURS_PER_YEAR: Final = 365.0 * 24.0
COLUMNS: Final = 256  # options at a time: their corners stay in the processor's cache
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
    # Sums over options of F N(s d1), K N(s d2), and of the density of d1 by what makes gamma, vega and theta of it; s
    # is 1 for calls, -1 for puts, and what is the same at every corner is in what products are made with.
    owed, others = np.zeros((len(vols), len(move))), np.zeros((len(vols), len(move), 4))
    factor = 1.0 + move[:, None]
    for start in range(0, rows.size, COLUMNS):
        part = slice(start, start + COLUMNS)
        some, own_dev, years = rows[part], dev[:, part], tau[part]
        strike, qty, forward = book.strike_px[some], book.qty_base[some], book.forward_px[some]
        sign = (2.0 * book.is_call[some] - 1.0) * PER_UNIT
        distance = ((np.log(forward / strike) + np.log(factor)) * sign) / own_dev[:, None, :]
        half = (0.5 * sign * own_dev)[:, None, :]
        chances = np.empty((2, *distance.shape))
        np.add(distance, half, out=chances[0])
        np.subtract(distance, half, out=chances[1])
        density = np.multiply(chances[0], chances[0], out=distance)
        density *= -0.5 / PER_UNIT**2
        np.exp(density, out=density)
        near, far = quick_ndtr_of_units(chances)
        signed, held = sign / PER_UNIT * qty, PHI_0 * forward * qty
        by_dev = np.stack(
            [held / own_dev, np.broadcast_to(held * np.sqrt(years), own_dev.shape), held * own_dev / years]
        )
        others[..., 0] += near @ (signed * forward)
        others[..., 1:] += density @ by_dev.transpose(1, 2, 0)
        owed += far @ (signed * strike)
    delta, gamma, vega, theta = (others * factor).transpose(2, 0, 1)
    greeks = {"delta": delta, "gamma": gamma * 0.01, "vega": vega * 0.01, "theta": theta * (-0.5 / 365.0)}
    return delta - owed, greeks


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
