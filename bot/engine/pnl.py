"""Profit and loss by part: what a step earned, explained by the Greeks at its start.

A step runs between two full markings of a book. For each instrument delta = start-of-step delta × its own price move
(coin cash included), gamma = ½ Γ ΔF², theta = Θ Δt, vega = 𝒱 Δσ, vanna_volga = vanna ΔF Δσ + ½ volga Δσ², and
*unexplained* is whatever is left, so the parts add up to the change in value exactly. Trades close a step first: their
slippage is quantity × (mid − fill price), and their fee stands alone. Liquidity on chains is explained by its own delta
and gamma at the step's start; the fees it earned are a part by themselves, told by the reports of its chain.
"""

from __future__ import annotations

from math import fsum

import numpy as np
from numpy.typing import NDArray

from bot.domain.portfolio import PnlBreakdown
from bot.engine.book import OptionMarks, UnderlyingBook
from bot.pricing.black76 import HALF
from bot.pricing.futures import inverse_delta_base, inverse_gamma_settle, linear_profit_quote

PARTS = PnlBreakdown.__struct_fields__


class PnlLedger:
    """Profit by part of one underlying since its first full marking."""

    def __init__(self, book: UnderlyingBook, gap_ns: int) -> None:
        self._book = book
        self._gap_ns = gap_ns
        self._parts = dict.fromkeys(PARTS, 0.0)
        self._gap_parts = dict.fromkeys(PARTS, 0.0)
        self.abs_parts_quote = 0.0  # Σ over steps of Σ |part|, unexplained left out
        self.abs_unexplained_quote = 0.0
        self.is_started = False
        self.stepped_ns = 0
        self.start_equity_quote = 0.0
        self.start_book_quote = 0.0
        self.start_coins = 0.0  # the start in coins at the prices of their day, for vaults that count in coins
        self.entered_quote = 0.0  # what came in and went out since, which is neither won nor lost
        self.gaps_ns: list[tuple[int, int]] = []
        self._seen_ns = 0
        self._is_gap = False
        self._marks: OptionMarks | None = None
        self._index_px = 0.0

    @property
    def parts(self) -> PnlBreakdown:
        """Profit by part since the start, gaps included."""
        return PnlBreakdown(**self._parts)

    @property
    def gap_parts(self) -> PnlBreakdown:
        """What of `parts` was earned in steps across a gap of the data."""
        return PnlBreakdown(**self._gap_parts)

    def start(self, now_ns: int) -> None:
        """Take the book's present marks as the beginning."""
        self.is_started = True
        self._seen_ns = now_ns
        self.start_equity_quote = self._book.equity_quote()
        self.start_book_quote = self._book.book_value_quote()
        self.start_coins = self.start_equity_quote / self._book.marks_of_underlying.index_px
        self._remember(now_ns)

    def step(self, now_ns: int) -> None:
        """Close the step that ends with the book's present marks, and start the next."""
        self._add(self._explain(), is_gap=self._is_gap)
        self._is_gap = False
        self._remember(now_ns)

    def see(self, now_ns: int) -> bool:
        """Note that the book can be marked at `now_ns`; tell whether a gap ends here, and so the step across it."""
        is_gap = now_ns - self._seen_ns > self._gap_ns
        if is_gap:
            self.gaps_ns.append((self._seen_ns, now_ns))
            self._is_gap = True
        self._seen_ns = now_ns
        return is_gap

    def settle(self, now_ns: int, expiry_ns: int, px: float) -> None:
        """Turn everything of `expiry_ns` into cash at `px`; a step must have been closed at `now_ns` first."""
        moved_quote, rest_quote = self._book.settle(expiry_ns, px)
        moved_quote += self._book.settle_hedges(expiry_ns, px)
        self._add({"delta": moved_quote, "unexplained": rest_quote}, is_gap=False)
        self._remember(now_ns)

    def charge(self, part: str, amount_quote: float) -> None:
        """Book a cash flow that is a part by itself: fees, slippage, funding, gas, fees of liquidity."""
        self._add({part: amount_quote}, is_gap=False)

    def reopen(self, now_ns: int) -> None:
        """Start the next step at the present marks, after a trade."""
        self._remember(now_ns)

    def enter(self, now_ns: int, equity_before_quote: float, book_before_quote: float) -> None:
        """Take a change of holdings or cash since the given values as no profit, and start the next step.

        A step must have been closed at `now_ns`, before the change, and the book be marked after it.
        """
        moved_quote = self._book.equity_quote() - equity_before_quote
        self.start_equity_quote += moved_quote
        self.start_book_quote += self._book.book_value_quote() - book_before_quote
        self.start_coins += moved_quote / self._book.marks_of_underlying.index_px
        self.entered_quote += moved_quote
        self._remember(now_ns)

    def _explain(self) -> dict[str, float]:
        parts = _explain_options(self._marks, self._book.option_marks, self._book.option_qty_base)
        index_px = self._book.marks_of_underlying.index_px
        coins = self._book.coin_cash - self._book.spent_coins
        if self._book.option_hedges:
            coins += self._book.option_hedge_coins()
        delta = coins * (index_px - self._index_px)
        gamma = unexplained = 0.0
        if self._book.chain is not None:
            moves = self._book.chain.explain(self._index_px, index_px)
            delta, gamma, unexplained = delta + moves.delta, moves.gamma, moves.rest
        for holding in self._book.holdings:
            start_px, px = holding.start_px, holding.mark_px
            if not start_px:
                continue
            if not holding.is_inverse:
                delta += linear_profit_quote(holding.qty, 1.0, start_px, px)
                continue
            # the contract's own price moves the coins it has earned, the index what they fetch
            move_px = px - start_px
            coins = inverse_delta_base(holding.qty, 1.0, start_px)
            earned_coins = coins / start_px * move_px
            own = earned_coins * self._index_px
            conversion = (holding.cash_settle - coins) * (index_px - self._index_px)
            # second order: coins bend with their price, and what was just earned moves with the index
            bend = 0.5 * inverse_gamma_settle(holding.qty, 1.0, start_px) * move_px**2
            curvature = bend * self._index_px + earned_coins * (index_px - self._index_px)
            change = holding.value_quote(px, index_px) - holding.value_quote(start_px, self._index_px)
            delta += own + conversion
            gamma += curvature
            unexplained += change - own - curvature - conversion
        for part, amount in (("delta", delta), ("gamma", gamma), ("unexplained", unexplained)):
            parts[part] = parts.get(part, 0.0) + amount
        return parts

    def _add(self, parts: dict[str, float], *, is_gap: bool) -> None:
        if not self.is_started:
            return  # what happens before the beginning is part of the value it begins with
        for part, amount in parts.items():
            self._parts[part] += amount
            if is_gap:
                self._gap_parts[part] += amount
        if not is_gap:
            unexplained = abs(parts.get("unexplained", 0.0))
            self.abs_unexplained_quote += unexplained
            self.abs_parts_quote += fsum(abs(amount) for amount in parts.values()) - unexplained

    def _remember(self, now_ns: int) -> None:
        self.stepped_ns = now_ns
        self._marks = self._book.option_marks
        self._index_px = self._book.marks_of_underlying.index_px
        for holding in self._book.holdings:
            holding.start_px = holding.mark_px


def _explain_options(start: OptionMarks | None, end: OptionMarks | None, qty: NDArray[np.float64]) -> dict[str, float]:
    if start is None or end is None or start is end:
        return {}
    g = start.greeks
    move_px = end.forward_px - start.forward_px
    move_vol = end.vol - start.vol
    years = start.tau_years - end.tau_years  # no time passes for a leg that waits for its settlement price
    bend = g.volga * HALF
    bend *= move_vol * move_vol
    twist = g.vanna * move_px
    twist *= move_vol
    twist += bend
    parts = {
        "delta": float(qty.dot(g.delta * move_px)),
        "gamma": 0.5 * float(qty.dot(g.gamma * (move_px * move_px))),
        "theta": float(qty.dot(g.theta * years)),
        "vega": float(qty.dot(g.vega * move_vol)),
        "vanna_volga": float(qty.dot(twist)),
    }
    change = float(qty.dot(end.greeks.value - g.value))
    parts["unexplained"] = change - fsum(parts.values())
    return parts
