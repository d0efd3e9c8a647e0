"""What others do on our account: fills of orders this run did not send, and open orders that are not ours.

Fills are booked before they come here. By policy they are adopted (a person acknowledges) or flattened (one reducing
order against each). An open order widens the exposure as long as it is open. Nothing of it is ever ignored.
"""

from __future__ import annotations

from collections import deque
from math import inf, isfinite
from typing import NamedTuple

import numpy as np

from bot.domain.decisions import HedgeTarget, HedgeView
from bot.domain.events import CancelForeign, Command
from bot.domain.instruments import Instrument, Option
from bot.domain.orders import Fill
from bot.domain.units import tau_years
from bot.domain.venues import AccountReport, VenueOrder
from bot.engine.desk import Desk
from bot.engine.market import MarketState
from bot.engine.orders import OrderTracker
from bot.engine.settings import EngineSettings
from bot.pricing.black76 import greeks

KEPT_FILLS = 50  # how many foreign fills are shown; all are counted
MOST_FLATTENINGS = 20  # foreign fills that may wait for the order against them; more than that a person looks at


class Flattening(NamedTuple):
    """The order still to be sent against one foreign fill."""

    instrument_id: str
    lots: int
    trade_id: str


def flattening_target(flattening: Flattening, view: HedgeView, lot_base: float) -> HedgeTarget:
    """Return the band that sizing leaves by exactly the lots of one flattening, whatever the interval of net delta."""
    reason = f"flattening foreign fill {flattening.trade_id}"
    half_base = 0.5 * lot_base
    if flattening.lots > 0:
        end_base = view.delta_high_base + flattening.lots * lot_base
        return HedgeTarget(view.delta_high_base + half_base, inf, end_base, inf, 1.0, reason)
    end_base = view.delta_low_base + flattening.lots * lot_base
    return HedgeTarget(-inf, view.delta_low_base - half_base, -inf, end_base, 1.0, reason)


class ForeignActivity:
    """Foreign fills and orders of a vault's accounts, and what is to be done about them."""

    def __init__(
        self,
        settings: EngineSettings,
        orders: OrderTracker,
        market: MarketState,
        desks: dict[str, Desk],
        instruments: dict[str, Instrument],
    ) -> None:
        self._settings = settings
        self._orders = orders
        self._market = market
        self._desks = desks
        self._instruments = instruments
        self._cancels: list[Command] = []
        self._flattenings: deque[Flattening] = deque()
        self._alerted: set[tuple[str, str]] = set()
        self.began_ns = 0
        self.fills: deque[Fill] = deque(maxlen=KEPT_FILLS)
        self.fill_count = 0
        self.orders: dict[tuple[str, str], VenueOrder] = {}  # open now, by venue and the venue's id
        self.order_count = 0
        self.unclaimed: dict[str, tuple[str, ...]] = {}  # venue → positions there that are no part of this vault
        self.alert = ""

    def adopt(self, settings: EngineSettings) -> None:
        """Act by other settings on what is found from now on."""
        self._settings = settings

    def note_fill(self, fill: Fill, *, is_hedge: bool, is_covered: bool) -> None:
        """Count a fill of an order that is not ours, and act on it by policy unless the ledger held it already.

        What happened before the run began is never traded against: it is how the account was found. Nor is what made
        the position smaller: flattening closes, and what a venue took away (auto-deleveraging, a liquidation) is not
        opened again.
        """
        self.fill_count += 1
        self.fills.append(fill)
        if not is_hedge or is_covered:
            return
        is_old = not self.began_ns or fill.ts_event_ns < self.began_ns
        may_flatten = self._settings.foreign_policy == "flatten" and not is_old and self._is_larger_by(fill)
        if may_flatten and len(self._flattenings) < MOST_FLATTENINGS:
            self._flattenings.append(Flattening(fill.instrument_id, -fill.qty_lots, fill.trade_id))
        else:
            self.alert = f"foreign fill: {fill.qty_lots:+} lots of {fill.instrument_id} at {fill.px:g}"

    def note_reversal(self, fill: Fill) -> None:
        """Let go of the order against a fill that is no more, unless it was sent."""
        self._flattenings = deque(one for one in self._flattenings if one.trade_id != fill.trade_id)

    def _is_larger_by(self, fill: Fill) -> bool:
        """Tell whether a position lies, fill and all, on the fill's own side."""
        holdings = (desk.book.hedges.get(fill.instrument_id) for desk in self._desks.values())
        return any(holding is not None and holding.lots * fill.qty_lots > 0 for holding in holdings)

    def take(self, report: AccountReport) -> None:
        """Take in the foreign open orders of one account, and what it holds that is not of this vault."""
        venue = report.venue
        self.unclaimed[venue] = self._find_unclaimed(report)
        if venue not in self._settings.account_venues:
            return
        open_now = {(venue, one.venue_order_id): one for one in report.open_orders if self._is_foreign(one, report)}
        for key, order in open_now.items():
            if key not in self.orders:
                self.order_count += 1
            text = f"foreign order {order.venue_order_id}: {order.left_lots:+} lots of {order.instrument_id}"
            if self._settings.foreign_policy == "flatten" or order.order_id in self._orders.orders:
                self._cancels.append(CancelForeign(venue, order.venue_order_id, order.instrument_id, text))
            elif key not in self._alerted:
                self._alerted.add(key)
                self.alert = f"{text} at {order.limit_px:g}"
        self._alerted -= {key for key in self._alerted if key[0] == venue and key not in open_now}
        self.orders = {key: order for key, order in self.orders.items() if key[0] != venue} | open_now

    def drain_cancels(self) -> list[Command]:
        """Return the cancels the last reports call for, once."""
        found, self._cancels = self._cancels, []
        return found

    def next_flattening(self, desk: Desk) -> Flattening | None:
        """Return the oldest order still to be sent against a foreign fill on the desk's hedges."""
        if not self._flattenings:  # as at nearly every decision
            return None
        return next((one for one in self._flattenings if one.instrument_id in desk.book.hedges), None)

    def drop_flattening(self, flattening: Flattening) -> None:
        """Note that the order against a foreign fill was sent; there is never a second one."""
        self._flattenings.remove(flattening)

    def drop_flattenings_on(self, instrument_id: str) -> None:
        """Note that the policy traded on the instrument, having seen every foreign fill on it."""
        self._flattenings = deque(one for one in self._flattenings if one.instrument_id != instrument_id)

    @property
    def flattenings(self) -> tuple[Flattening, ...]:
        """The orders still to be sent against foreign fills."""
        return tuple(self._flattenings)

    def open_base(self, desk: Desk, now_ns: int) -> tuple[float, float]:
        """Return how far open foreign orders may take a net delta down and up."""
        low = high = 0.0
        for order in self.orders.values():
            instrument = self._instruments[order.instrument_id]
            if instrument.base != desk.underlying:
                continue
            base = self._delta_base(instrument, order.left_lots, desk, now_ns)
            low, high = low + min(0.0, base), high + max(0.0, base)
        return low, high

    def _delta_base(self, instrument: Instrument, lots: int, desk: Desk, now_ns: int) -> float:
        """Return the delta of lots of one instrument: of an option without a vol all that it can be."""
        px = desk.book.marks_of_underlying.index_px
        if not px:
            return 0.0
        if not isinstance(instrument, Option):
            quote = self._market.quotes.get(instrument.instrument_id)
            return lots * instrument.lot_base(0.5 * (quote.bid_px + quote.ask_px) if quote is not None else px)
        qty_base = lots * instrument.lot_size
        slot = self._market.slot_of[instrument.instrument_id]
        forward_px, vol = self._market.forward_of(slot), float(self._market.vol[slot])
        years = tau_years(now_ns, instrument.expiry_ns)
        if not (isfinite(forward_px) and isfinite(vol) and years):
            return qty_base if instrument.is_call else -qty_base
        forward, strike, tau, sigma = np.array([[forward_px], [instrument.strike_px], [years], [vol]])
        return qty_base * float(greeks(forward, strike, tau, sigma, np.array([instrument.is_call])).delta[0])

    def _is_foreign(self, order: VenueOrder, report: AccountReport) -> bool:
        """Tell whether an open order is not one of ours that may be open; others' underlyings are none of our business.

        An order of ours that is over in the ledger and still open at the venue is nobody's: it is canceled.
        """
        instrument = self._instruments.get(order.instrument_id)
        if instrument is None or instrument.base not in self._desks:
            return False
        ours = self._orders.orders.get(order.order_id)
        return ours is None or (ours.state.is_terminal and ours.since_ns < report.ts_asked_ns)

    def _find_unclaimed(self, report: AccountReport) -> tuple[str, ...]:
        if report.venue in self._settings.account_book:
            return ()
        hedges = {name for desk in self._desks.values() for name in (*desk.book.hedges, *desk.book.option_hedges)}
        return tuple(one.instrument_id for one in report.positions if one.qty_lots and one.instrument_id not in hedges)
