"""What is held at one account as the rows of a risk book: legs of the book, hedges, and what orders may still add.

Marks are those the desks decide on. Must never judge anything: a row without a price is handed on as it is, and whoever
prices it says what it lacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf, nan
from typing import NamedTuple

import msgspec
import numpy as np

from bot.domain.instruments import Future, Hedgeable, Instrument, Option, Spot
from bot.domain.units import NS_PER_YEAR
from bot.engine.book import Holding
from bot.engine.desk import Desk
from bot.engine.orders import OrderTracker
from bot.risk.book import FUTURE, OPTION, PERPETUAL, SPOT, Floats, RiskBook

LEAST_YEARS = 1.0 / (365.0 * 86_400.0)  # what waits for its settlement price has a second left


class Row(NamedTuple):
    """One row as its instrument and marks have it; `lot_base` is what a lot of it is at its mark."""

    instrument: Instrument
    kind: int
    qty_base: float
    lot_base: float
    mark_px: float
    forward_px: float
    strike_px: float = nan
    tau_years: float = inf
    vol: float = nan
    is_call: bool = False


class AccountRows:
    """The rows of one account, and the row of each instrument."""

    def __init__(self, account: str, rows: list[Row], spot_px: Mapping[str, float], orders: OrderTracker) -> None:
        self.row_of = {one.instrument.instrument_id: place for place, one in enumerate(rows)}
        self.rows = rows
        self.book = _as_book(account, rows, spot_px, orders)

    def with_more(self, trades: Mapping[str, float]) -> RiskBook:
        """Return the book with signed base units more of some instruments, each of which has a row."""
        qty = self.book.qty_base.copy()
        for name, base in trades.items():
            qty[self.row_of[name]] += base
        return with_qty(self.book, qty)

    def ends(self) -> list[RiskBook]:
        """Return what positions may become by what is under way: all purchases done, all sales done, neither.

        An order of unknown outcome counts as any other: it may have filled, and it may not.
        """
        book = self.book
        none = np.zeros(len(book))
        found = [msgspec.structs.replace(book, buy_base=none, sell_base=none)]
        for more in (book.buy_base, -book.sell_base):
            if more.any():
                found.append(msgspec.structs.replace(found[0], qty_base=book.qty_base + more))
        return found


def with_qty(book: RiskBook, qty_base: Floats) -> RiskBook:
    """Return the book with other quantities."""
    return msgspec.structs.replace(book, qty_base=qty_base)


def account_rows(
    account: str,
    desks: Iterable[Desk],
    orders: OrderTracker,
    now_ns: int,
    offered: Iterable[Row] = (),
) -> tuple[AccountRows | None, str]:
    """Return the rows of an account as of the newest marks; None and why where something held has none.

    `offered` are options that nothing may be held of yet. Every hedge of the account has a row, also a flat one.
    """
    rows: list[Row] = []
    spot_px: dict[str, float] = {}
    for desk in desks:
        here, why = _rows_of(account, desk, now_ns)
        if why:
            return None, why
        if here:
            spot_px[desk.underlying] = desk.book.marks_of_underlying.index_px
            rows += here
    names = {one.instrument.instrument_id for one in rows}
    rows += [one for one in offered if one.instrument.instrument_id not in names]
    for one in offered:
        spot_px.setdefault(one.instrument.base, one.forward_px)
    return AccountRows(account, rows, spot_px, orders), ""


def linear_row(instrument: Hedgeable, qty_base: float, mark_px: float, now_ns: int) -> Row:
    """Return the row of a linear or inverse position."""
    lot_base = instrument.lot_base(mark_px) if mark_px > 0.0 else nan
    if isinstance(instrument, Future):
        years = max(LEAST_YEARS, (instrument.expiry_ns - now_ns) / NS_PER_YEAR)
        return Row(instrument, FUTURE, qty_base, lot_base, mark_px, mark_px, tau_years=years)
    return Row(instrument, SPOT if isinstance(instrument, Spot) else PERPETUAL, qty_base, lot_base, mark_px, mark_px)


def option_row(option: Option, qty_base: float, mark_px: float, forward_px: float, vol: float, now_ns: int) -> Row:
    """Return the row of an option; `mark_px` is its worth in quote money."""
    years = max(LEAST_YEARS, (option.expiry_ns - now_ns) / NS_PER_YEAR)
    return Row(
        option, OPTION, qty_base, option.lot_size, mark_px, forward_px, option.strike_px, years, vol, option.is_call
    )


def _rows_of(account: str, desk: Desk, now_ns: int) -> tuple[list[Row], str]:
    book = desk.book
    index_px = book.marks_of_underlying.index_px
    rows: list[Row] = []
    held: dict[str, tuple[Holding, float]] = {}
    legs = [(leg.holding, leg.qty_base) for leg in book.static] + [(one, 0.0) for one in book.hedges.values()]
    for holding, said_base in legs:
        if holding.instrument.venue != account:
            continue
        mark_px = book.living_px(holding, now_ns)
        # the book's own legs are entered at their first mark: before it, what their sources say
        held_base = (holding.qty / mark_px if mark_px else 0.0) if holding.is_inverse else holding.qty
        _, before_base = held.get(holding.instrument.instrument_id, (holding, 0.0))
        held[holding.instrument.instrument_id] = (holding, before_base + (held_base or said_base))
    for holding, base in held.values():
        rows.append(linear_row(holding.instrument, base, book.living_px(holding, now_ns), now_ns))
    options = [(row, leg) for row, leg in enumerate(book.option_legs) if leg[0].venue == account]
    marks = book.option_marks
    if options and (marks is None or len(marks.vol) != len(book.option_legs)):
        return [], f"the options of {desk.underlying} have no marks yet"
    merged: dict[str, Row] = {}
    for row, (option, qty_base) in options:
        assert marks is not None, "options have marks"
        value_px = float(marks.greeks.value[row])
        one = option_row(option, qty_base, value_px, float(marks.forward_px[row]), float(marks.vol[row]), now_ns)
        known = merged.get(option.instrument_id)
        merged[option.instrument_id] = one if known is None else known._replace(qty_base=known.qty_base + qty_base)
    unmarked = [name for name, one in book.option_hedges.items() if one.is_unmarked and one.instrument.venue == account]
    if unmarked:
        return [], f"{unmarked[0]} is held and nothing marks it"
    rows += merged.values()
    if rows and not index_px > 0.0:
        return [], f"there is no index price of {desk.underlying} yet"
    return rows, ""


def _as_book(account: str, rows: list[Row], spot_px: Mapping[str, float], orders: OrderTracker) -> RiskBook:
    underlyings = tuple(spot_px)
    moneys = tuple(dict.fromkeys(one.instrument.settle for one in rows)) or ("USD",)
    buy, sell = np.zeros(len(rows)), np.zeros(len(rows))
    if orders.live:
        place_of = {one.instrument.instrument_id: place for place, one in enumerate(rows)}
        for order in orders.live.values():
            place = place_of.get(order.intent.instrument_id)
            if place is not None:
                base = order.remaining_lots * rows[place].lot_base
                buy[place] += max(0.0, base)
                sell[place] += max(0.0, -base)
    return RiskBook(
        instrument_ids=tuple([one.instrument.instrument_id for one in rows]),
        underlyings=underlyings,
        accounts=(account,),
        moneys=moneys,
        spot_px=np.array([spot_px[name] for name in underlyings], dtype=float),
        kind=np.array([one.kind for one in rows], dtype=np.int64),
        underlying=np.array([underlyings.index(one.instrument.base) for one in rows], dtype=np.int64),
        account=np.zeros(len(rows), dtype=np.int64),
        money=np.array([moneys.index(one.instrument.settle) for one in rows], dtype=np.int64),
        qty_base=_column([one.qty_base for one in rows]),
        mark_px=_column([one.mark_px for one in rows]),
        forward_px=_column([one.forward_px for one in rows]),
        strike_px=_column([one.strike_px for one in rows]),
        tau_years=_column([one.tau_years for one in rows]),
        vol=_column([one.vol for one in rows]),
        is_call=np.array([one.is_call for one in rows], dtype=np.bool_),
        buy_base=buy,
        sell_base=sell,
    )


def _column(values: list[float]) -> Floats:
    return np.array(values, dtype=np.float64)
