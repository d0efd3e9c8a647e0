"""Greeks of a risk book in units that add up across underlyings: per cent moves, vol points, days."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from bot.pricing import black76
from bot.risk.book import SPOT, Flags, Floats, Ints, RiskBook
from bot.risk.option_grid import LEAST_DEV, option_grid
from bot.risk.stack import BookStack

LEAST_TAU_YEARS: Final = 1.0 / (365.0 * 86_400.0)  # at expiry, exactly at its strike, an option's gamma is infinite


class Sensitivities(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a book gains: delta in base (of one underlying) and in quote money per 100 % move.

    `gamma_quote` is by how much `delta_quote` changes at fixed marks per 1 % move, vega per vol point of 1 %, theta a
    day.
    """

    delta_base: float
    delta_quote: float
    gamma_quote: float
    vega_quote: float
    theta_quote: float


def sensitivities(book: RiskBook) -> Sensitivities:
    """Return the Greeks of all rows together; forwards move with their spot in proportion."""
    options = np.flatnonzero(book.is_option)
    linear = ~book.is_option
    delta_base = float(linear_base(book)[linear].sum())
    delta_quote = float((book.qty_base[linear] * book.mark_px[linear]).sum())
    gamma = vega = theta = 0.0
    if options.size:
        qty, forward = book.qty_base[options], book.forward_px[options]
        parts = grid_greeks(book, options, forward, book.tau_years[options], book.vol[options])
        delta_base += float((qty * parts["delta"]).sum())
        delta_quote += float((qty * parts["delta"] * forward).sum())
        gamma = float((qty * parts["gamma"] * forward**2).sum()) * 0.01
        vega = float((qty * parts["vega"]).sum()) * 0.01
        theta = float((qty * parts["theta"]).sum()) / 365.0
    return Sensitivities(
        delta_base=delta_base, delta_quote=delta_quote, gamma_quote=gamma, vega_quote=vega, theta_quote=theta
    )


def stack_sensitivities(stack: BookStack, is_there: Flags) -> list[dict[str, Sensitivities]]:
    """Return the Greeks of each copy by underlying, of the rows that are there (a line of flags per copy)."""
    rows, qty = stack.layout.options, np.where(is_there, stack.qty_base, 0.0)
    linear = ~stack.is_option
    spot = stack.spot_of_row_px
    base = np.where(stack.kind == SPOT, qty * stack.mark_px / spot, qty) * linear
    # by row: delta in base and in quote money, gamma, vega and theta
    columns = [base, qty * stack.mark_px * linear, *(np.zeros(base.shape) for _ in range(3))]
    if rows.size:
        tau, vol, forward = (
            np.maximum(stack.lines("tau_years")[:, rows], LEAST_TAU_YEARS),
            stack.lines("vol")[:, rows],
            stack.lines("forward_px")[:, rows],
        )
        dev = np.maximum(vol * np.sqrt(tau), LEAST_DEV * LEAST_DEV)
        strike, is_call = stack.strike_px[rows], stack.is_call[rows]
        is_plain = (dev > LEAST_DEV) & (forward > 0.0)
        delta, density = option_grid(np.log(forward / strike), np.maximum(dev, LEAST_DEV), forward, strike, is_call)[1:]
        bent, vega, theta = density / dev, density * np.sqrt(tau), -density * dev / (2.0 * tau)
        if not is_plain.all():
            at, odd = np.nonzero(~is_plain)
            bare = forward[at, odd]
            found = black76.greeks(bare, strike[odd], tau[at, odd], vol[at, odd], is_call[odd])
            delta[at, odd], bent[at, odd] = found.delta, found.gamma * bare**2
            vega[at, odd], theta[at, odd] = found.vega, found.theta
        each = (delta, delta * forward, bent * 0.01, vega * 0.01, theta / 365.0)
        for column, one in zip(columns, each, strict=True):
            column[:, rows] = qty[:, rows] * one
    out: list[dict[str, Sensitivities]] = [{} for _ in range(len(stack))]
    # rows that are there, and the columns, by underlying, copy and column
    order = np.argsort(stack.underlying, kind="stable")
    starts = np.searchsorted(stack.underlying[order], stack.held)
    both = [column.take(order, axis=1) for column in (is_there.astype(np.float64), *columns)]
    totals = np.array([np.add.reduceat(one, starts, axis=1) for one in both]).T if stack.held else np.zeros((0, 0, 6))
    for underlying, lines in zip(stack.held, totals.tolist(), strict=True):
        name, is_held, sums = stack.underlyings[underlying], [line[0] for line in lines], [line[1:] for line in lines]
        for own, held, numbers in zip(out, is_held, sums, strict=True):
            if held:
                own[name] = Sensitivities(
                    delta_base=numbers[0],
                    delta_quote=numbers[1],
                    gamma_quote=numbers[2],
                    vega_quote=numbers[3],
                    theta_quote=numbers[4],
                )
    return out


def linear_base(book: RiskBook) -> Floats:
    """Return each row's quantity in base of its underlying: a coin of another kind counts as what its mark says."""
    return np.where(book.kind == SPOT, book.qty_base * book.mark_px / book.spot_of_row_px, book.qty_base)


def grid_greeks(book: RiskBook, rows: Ints, forward: Floats, tau_years: Floats, vol: Floats) -> dict[str, Floats]:
    """Return value, delta, gamma, vega and theta per unit of options, in the shape of the forwards and vols given."""
    found = black76.greeks(
        forward, book.strike_px[rows], np.maximum(tau_years, LEAST_TAU_YEARS), vol, book.is_call[rows]
    )
    return {name: getattr(found, name) for name in ("value", "delta", "gamma", "vega", "theta")}
