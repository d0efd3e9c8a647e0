"""What of a book cannot be priced: numbers that are missing or make no sense, told by row and by name."""

from __future__ import annotations

import numpy as np

from bot.risk.book import FUTURE, OPTION, PERPETUAL, ROW_COLUMNS, SPOT, Flags, RiskBook
from bot.risk.stack import BookStack


def gaps(book: RiskBook) -> Flags:
    """Return which rows lack a number they need, or have one that is not positive where it must be."""
    out = np.zeros(len(book), dtype=bool)
    for _, wrong in _faults(book):
        out |= wrong
    return out


def find_fault(book: RiskBook) -> str:
    """Return in one sentence what of a book cannot be priced, "" where all can."""
    for name, wrong in _faults(book):
        if wrong.any():
            at = int(wrong.argmax())
            found = book.spot_of_row_px[at] if name == SPOT_NAME else getattr(book, name)[at]
            return f"expected a usable {name} of {call(book, at)}, found {found:g}; {int(wrong.sum())} such rows"
    return ""


def has_gaps(stack: BookStack) -> bool:
    """Tell whether any copy of a stack has a number missing that a book needs; `find_fault` of the copy says which."""
    options = stack.layout.options
    vol, strike = stack.vol[:, options], stack.strike_px[options]
    linear = stack.layout.is_linear
    positive = (stack.spot_px[:, stack.held], stack.forward_px, strike, stack.mark_px[:, linear])
    finite = (stack.qty_base, stack.mark_px, stack.buy_base, stack.sell_base, stack.tau_years[:, options])
    not_below = (stack.mark_px + NOTHING * stack.spot_of_row_px, stack.buy_base, stack.sell_base)
    return not (
        all(bool(((one > 0.0) & (one < np.inf)).all()) for one in positive)
        and all(bool(np.isfinite(one).all()) for one in finite)
        and all(bool((one >= 0.0).all()) for one in not_below)
        and bool(((vol >= 0.0) & (vol < np.inf)).all())
        and bool(np.isin(stack.kind, KINDS).all())
        and not bool(np.isnan(stack.tau_years).any())
    )


def call(book: RiskBook, row: int) -> str:
    """Return what to call a row by: its instrument, or its underlying and its place."""
    return book.instrument_ids[row] or f"{book.underlyings[int(book.underlying[row])]} row {row}"


SPOT_NAME = "spot price"
POSITIVE = frozenset({"forward_px"})
NOT_BELOW = frozenset({"buy_base", "sell_base"})  # open orders are unsigned: one below 0 would lower a requirement
NOTHING = 1e-9  # of spot: what an option's value may be below 0 by rounding
KINDS = (OPTION, PERPETUAL, FUTURE, SPOT)


def _faults(book: RiskBook) -> list[tuple[str, Flags]]:
    is_option = book.is_option
    spot = book.spot_of_row_px
    out: list[tuple[str, Flags]] = [(SPOT_NAME, ~((spot > 0.0) & (spot < np.inf)))]
    out.append(("kind", ~np.isin(book.kind, KINDS)))
    for name in ROW_COLUMNS:
        column = getattr(book, name)
        if column.dtype != np.float64:
            continue
        if name == "tau_years":  # infinite for what never expires, never for an option
            out.append((name, np.isnan(column) | (is_option & np.isinf(column))))
        elif name in ("strike_px", "vol"):
            least = column > 0.0 if name == "strike_px" else column >= 0.0
            out.append((name, is_option & ~(least & np.isfinite(column))))
        elif name in POSITIVE:
            out.append((name, ~((column > 0.0) & np.isfinite(column))))
        elif name == "mark_px":  # options and coins may be worth nothing; a contract would ask for nothing then
            is_linear = np.equal(book.kind, PERPETUAL) | np.equal(book.kind, FUTURE)
            least = np.where(is_linear, column > 0.0, column + NOTHING * spot >= 0.0)
            out.append((name, ~(least & np.isfinite(column))))
        elif name in NOT_BELOW:
            out.append((name, ~((column >= 0.0) & np.isfinite(column))))
        else:
            out.append((name, ~np.isfinite(column)))
    return out
