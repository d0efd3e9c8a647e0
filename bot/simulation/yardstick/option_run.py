"""A book of options through a market whose smile moves, hedged by a policy: every cent of it, path by path.

At each step what has expired is settled; where the policy wants options and a review is due it is shown those listed,
trades them at their quotes, and then as ever the perpetual back into its band. When the last option of the book has
expired all that is left is closed at its cost. Loss is what the book was worth at the start less what is there in the
end. It never knows a policy's formula: the object is the one that trades elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from bot.domain.decisions import HedgePolicy, HedgeTarget, HedgeView, Legs, OptionOffers
from bot.domain.portfolio import Greeks
from bot.pricing import black76
from bot.simulation.yardstick.surfaces import Floats, Market, option_cost_quote, quoted_vol

FIRST_NS: Final = 1_750_000_000_000_000_000  # any moment long after 0, which to a view means that no hedge was made yet
NS_PER_YEAR: Final = 365 * 86_400 * 1_000_000_000
LEAST_OFFERED_DELTA: Final = 0.05
MOST_OFFERED_DELTA: Final = 0.55
LEAST_OFFERED_YEARS: Final = 0.25 / 365.0


class Listing(NamedTuple):
    """Options of one underlying as arrays of one length, by years from the start; `book_base` is the book to hedge."""

    strike_px: Floats
    expiry_years: Floats
    is_call: NDArray[np.bool_]
    book_base: Floats


class Terms(NamedTuple):
    """What trading costs and allows: the perpetual's one-way cost and lot, the options' lot and most per trade.

    A book is held to its last expiry, or sold at its mid after `end_years`, whatever its policy expected.
    """

    cost_rate: float = 5e-4
    lot_base: float = 0.001
    option_lot_base: float = 0.1
    option_max_base: float = 25.0
    review_steps: int = 1
    end_years: float = float("inf")


class Outcome(NamedTuple):
    """What came of each path, in quote money: loss, and what was paid for the perpetual and for options.

    `hedges_quote` is what options that were bought as hedges made, costs not counted; `option_trades` their number.
    """

    loss_quote: Floats
    perpetual_cost_quote: Floats
    option_cost_quote: Floats
    hedges_quote: Floats
    option_trades: NDArray[np.int64]


def listing(
    spot_px: float, book: tuple[tuple[float, float, bool, float], ...], days: tuple[float, ...], step: float = 0.04
) -> Listing:
    """Return a grid of strikes `step` apart in logs for each expiry, puts below spot and calls above, with the book.

    A line of the book is (strike over spot, days, is call, quantity).
    """
    rows = [(spot_px * float(np.exp(step * i)), expiry, i >= 0, 0.0) for expiry in days for i in range(-12, 13)]
    for strike, expiry, is_call, quantity in book:
        rows.append((spot_px * strike, expiry, is_call, quantity))
    strikes, expiries, calls, quantities = zip(*rows, strict=True)
    return Listing(np.array(strikes), np.array(expiries) / 365.0, np.array(calls), np.array(quantities))


def run_book(policy: HedgePolicy, market: Market, options: Listing, terms: Terms) -> Outcome:
    """Return what hedging the book by this policy comes to; the market must last until the book's last expiry."""
    return _Run(policy, market, options, terms).outcome()


class _Prices(NamedTuple):
    """Options as they are quoted: a row per path, a column per option; `tau` is a column's."""

    tau: Floats
    vol: Floats
    value: Floats
    delta: Floats
    gamma: Floats
    vega: Floats


class _Run:
    def __init__(self, policy: HedgePolicy, market: Market, options: Listing, terms: Terms) -> None:
        paths = market.spot_px.shape[1]
        self._policy, self._market, self._options, self._terms = policy, market, options, terms
        self._cash = np.zeros(paths)
        self._perpetual = np.zeros(paths)
        self._held = np.zeros((paths, options.strike_px.size))
        self._perpetual_cost, self._option_cost, self._hedges = np.zeros(paths), np.zeros(paths), np.zeros(paths)
        self._trades = np.zeros(paths, np.int64)
        self._last_ns = np.zeros(paths, np.int64)
        self._last_px = np.zeros(paths)
        self._is_open = np.ones(options.strike_px.size, np.bool_)  # not expired yet
        end_years = min(float(options.expiry_years[options.book_base != 0.0].max()), terms.end_years)
        self._steps = round(end_years / market.step_years)

    def outcome(self) -> Outcome:
        market, terms, book = self._market, self._terms, self._options.book_base
        start = self._prices(0, np.flatnonzero(book))
        self._cash -= start.value @ book[book != 0.0]
        is_reviewed = self._policy.needs_offers
        for step in range(self._steps):
            self._settle(step)
            active = np.flatnonzero(self._is_open & ((book != 0.0) | self._held.any(axis=0)))
            if is_reviewed and step % terms.review_steps == 0:
                self._review(step, active)
                active = np.flatnonzero(self._is_open & ((book != 0.0) | self._held.any(axis=0)))
            self._hedge(step, active)
            self._cash += self._perpetual * (market.spot_px[step + 1] - market.spot_px[step])
        self._settle(self._steps)
        self._close(self._steps)
        return Outcome(-self._cash, self._perpetual_cost, self._option_cost, self._hedges, self._trades)

    def _prices(self, step: int, rows: NDArray[np.intp]) -> _Prices:
        market, options = self._market, self._options
        spot = market.spot_px[step][:, None]
        tau = options.expiry_years[rows] - step * market.step_years
        vol = quoted_vol(
            market.world, spot, market.variance[step][:, None], market.skew[step][:, None], options.strike_px[rows], tau
        )
        greeks = black76.greeks(spot, options.strike_px[rows], tau, vol, options.is_call[rows])
        return _Prices(tau, vol, greeks.value, greeks.delta, greeks.gamma, greeks.vega)

    def _settle(self, step: int) -> None:
        options, now_years = self._options, step * self._market.step_years
        due = np.flatnonzero(self._is_open & (options.expiry_years <= now_years + 1e-9))
        if due.size:
            spot = self._market.spot_px[step][:, None]
            sign = np.where(options.is_call[due], 1.0, -1.0)
            payoff = np.maximum(sign * (spot - options.strike_px[due]), 0.0)
            self._cash += ((self._held[:, due] + options.book_base[due]) * payoff).sum(axis=1)
            self._hedges += (self._held[:, due] * payoff).sum(axis=1)
            self._held[:, due] = 0.0
            self._is_open[due] = False

    def _close(self, step: int) -> None:
        spot = self._market.spot_px[step]
        cost = self._terms.cost_rate * spot * np.abs(self._perpetual)
        self._perpetual_cost += cost
        self._cash -= cost
        own = np.flatnonzero(self._is_open & (self._options.book_base != 0.0))
        if own.size:
            self._cash += self._prices(step, own).value @ self._options.book_base[own]
        rows = np.flatnonzero(self._is_open & self._held.any(axis=0))
        if rows.size:
            prices = self._prices(step, rows)
            held = self._held[:, rows]
            worth = (held * prices.value).sum(axis=1)
            cost = (np.abs(held) * self._cost(step, prices)).sum(axis=1)
            self._cash += worth - cost
            self._hedges += worth
            self._option_cost += cost

    def _cost(self, step: int, prices: _Prices) -> Floats:
        return option_cost_quote(self._market.spot_px[step][:, None], prices.value, prices.delta, prices.tau)

    def _review(self, step: int, active: NDArray[np.intp]) -> None:
        """Show every path's policy what is offered, and trade what it asks for."""
        options, terms = self._options, self._terms
        listed = np.flatnonzero(
            self._is_open & (options.expiry_years - step * self._market.step_years > LEAST_OFFERED_YEARS)
        )
        book, offered = self._prices(step, active), self._prices(step, listed)
        cost = self._cost(step, offered)
        views = self._views(step, active, book)
        for path, view in enumerate(views):
            held = self._held[path, listed]
            distance = np.abs(offered.delta[path])
            keep = np.flatnonzero(((distance > LEAST_OFFERED_DELTA) & (distance < MOST_OFFERED_DELTA)) | (held != 0.0))
            if not keep.size:
                continue
            rows = listed[keep]
            full = np.ones(keep.size)
            shown = OptionOffers(
                instrument_ids=tuple(map(str, rows.tolist())),
                buy_cost_quote=cost[path, keep],
                sell_cost_quote=cost[path, keep],
                buy_max_base=terms.option_max_base * full,
                sell_max_base=terms.option_max_base * full,
                lot_base=terms.option_lot_base * full,
                held_base=held[keep],
                terms=self._legs(step, path, rows, offered.vol[path, keep], np.zeros(keep.size)),
                delta_ratio=offered.delta[path, keep],
                gamma_per_px=offered.gamma[path, keep],
                vega_quote_per_vol=offered.vega[path, keep],
                own_base=options.book_base[active],
            )
            for trade in self._policy.target(_with_offers(view, shown)).options:
                row = int(trade.instrument_id)
                at = int(np.searchsorted(listed, row))
                paid = abs(trade.qty_base) * cost[path, at]
                worth = trade.qty_base * offered.value[path, at]
                self._held[path, row] += trade.qty_base
                self._cash[path] -= worth + paid
                self._hedges[path] -= worth
                self._option_cost[path] += paid
                self._trades[path] += 1

    def _hedge(self, step: int, active: NDArray[np.intp]) -> None:
        """Trade the perpetual of every path back into its policy's band."""
        spot = self._market.spot_px[step]
        for path, view in enumerate(self._views(step, active, self._prices(step, active))):
            trade_base = _wanted(self._policy.target(view), view.delta_low_base, self._terms.lot_base)
            if trade_base:
                cost = self._terms.cost_rate * spot[path] * abs(trade_base)
                self._perpetual[path] += trade_base
                self._perpetual_cost[path] += cost
                self._cash[path] -= cost
                self._last_ns[path], self._last_px[path] = view.now_ns, spot[path]

    def _views(self, step: int, active: NDArray[np.intp], prices: _Prices) -> Iterator[HedgeView]:
        """Yield what each path's policy may know, as the engine would tell it."""
        market, terms = self._market, self._terms
        quantity = self._held[:, active] + self._options.book_base[active]
        gammas = (quantity * prices.gamma).sum(axis=1)
        weight = np.abs(quantity * prices.gamma)
        vols = (weight * prices.vol).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-300)
        deltas = (quantity * prices.delta).sum(axis=1) + self._perpetual
        vegas = (quantity * prices.vega).sum(axis=1)
        values = (quantity * prices.value).sum(axis=1)
        now_ns = FIRST_NS + round(step * market.step_years * NS_PER_YEAR)
        for path in range(quantity.shape[0]):
            delta, vol = float(deltas[path]), float(vols[path])
            yield HedgeView(
                now_ns=now_ns,
                underlying="WORLD",
                spot_px=float(market.spot_px[step, path]),
                target_delta_base=0.0,
                greeks=Greeks(delta, float(gammas[path]), float(vegas[path]), 0.0, float(values[path])),
                delta_low_base=delta,
                delta_high_base=delta,
                hedge_base=float(self._perpetual[path]),
                pending_base=0.0,
                cost_rate=terms.cost_rate,
                fixed_cost_quote=0.0,
                lot_base=terms.lot_base,
                monitor_years=market.step_years,
                last_hedge_ns=int(self._last_ns[path]),
                last_hedge_px=float(self._last_px[path]),
                legs=self._legs(step, path, active, prices.vol[path], quantity[path]),
                vol=vol if vol > 0.0 else market.world.mean_vol,
                tau_years=float(prices.tau[quantity[path] != 0.0].min(initial=np.inf)),
            )

    def _legs(self, step: int, path: int, rows: NDArray[np.intp], vol: Floats, quantity: Floats) -> Legs:
        options, market = self._options, self._market
        tau = options.expiry_years[rows] - step * market.step_years
        forward = np.full(rows.size, market.spot_px[step, path])
        return Legs(forward, options.strike_px[rows], tau, vol, quantity, options.is_call[rows])


def _with_offers(view: HedgeView, offers: OptionOffers) -> HedgeView:
    return msgspec.structs.replace(view, offers=offers)


def _wanted(target: HedgeTarget, delta_base: float, lot_base: float) -> float:
    """Return what brings net delta where the target says, in whole lots; 0 within the band."""
    if delta_base < target.low_base:
        lots = (target.buy_to_base - delta_base) / lot_base
    elif delta_base > target.high_base:
        lots = (target.sell_to_base - delta_base) / lot_base
    else:
        return 0.0
    return round(lots) * lot_base
