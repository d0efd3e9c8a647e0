"""What happens to net delta until an order is filled: how long that takes, by venue, and where delta drifts meanwhile.

The rule for slow orders is to judge the hedge held and pending together, at the moment a new order would be filled, and
to leave the band as it is: how far delta wanders meanwhile is a cost and no reason to wait (`yardstick/latency.py`
measures that). Where it drifts to is −σ²SΓL and never charm · L (`bot.pricing.impulse.delta_drift_base`). For an order
over an exchange that is nothing; for one that takes hours it is not.
"""

from __future__ import annotations

from collections.abc import Iterable

from bot.domain.market import ExecutionTerms
from bot.domain.orders import Fill
from bot.domain.units import NS_PER_S, NS_PER_YEAR
from bot.engine.orders import Order
from bot.pricing.impulse import delta_drift_base

NEGLIGIBLE_LOTS = 0.01  # a drift below this share of a lot changes no order, and the figures of no replay
_FIRST_FILLS = 30  # so many are averaged with equal weight; after them the newest weighs as much as one in thirty
_MOST_MEANS = 4.0  # a fill that took longer than this many times the mean, as after an outage, counts as that


class FillLatencies:
    """How long orders take from the decision to their first fill, by venue: from the stamps of events alone.

    Orders that rest are left out: how long they wait is our choice, not the venue's doing.
    """

    def __init__(self) -> None:
        self._mean_ns: dict[str, float] = {}
        self._fills: dict[str, int] = {}

    def note(self, venue: str, order: Order, fill: Fill) -> None:
        """Take in the first fill of an order; by clocks that disagree it may be before the decision: 0."""
        if order.may_rest:
            return
        elapsed_ns = float(max(0, fill.ts_event_ns - order.intent.decided_ns))
        fills = self._fills.get(venue, 0)
        mean_ns = self._mean_ns.get(venue, 0.0)
        if mean_ns:
            elapsed_ns = min(elapsed_ns, _MOST_MEANS * mean_ns)
        self._fills[venue] = fills = min(fills + 1, _FIRST_FILLS)
        self._mean_ns[venue] = mean_ns + (elapsed_ns - mean_ns) / fills

    def years(self, venue: str, terms: ExecutionTerms | None) -> float:
        """Return how long an order of now will take: what a block's terms expect, else the venue's mean; 0 unknown.

        Where inclusion is a matter of chance the mean delay of the cheapest tier is all that counts. One that fails is
        decided anew, so its tries are not added up here.
        """
        if terms is not None:
            cheapest = min(terms.tiers, key=lambda tier: tier.gas_quote)
            return cheapest.delay_mean_s * NS_PER_S / NS_PER_YEAR
        return self._mean_ns.get(venue, 0.0) / NS_PER_YEAR


def anticipated_drift_base(
    gamma_base_per_px: float, spot_px: float, vol: float, latency_years: float, tau_years: float, lot_base: float
) -> float:
    """Return how far net delta will have drifted when an order of now is filled, 0 where that is negligible.

    No further ahead than to the nearest expiry: the gamma of now is that of what lives on.
    """
    drift_base = delta_drift_base(gamma_base_per_px, spot_px, vol, min(latency_years, tau_years))
    return drift_base if abs(drift_base) >= NEGLIGIBLE_LOTS * lot_base else 0.0


def find_outstanding(orders: Iterable[Order], now_ns: int, instrument_id: str, *, is_one_only: bool) -> str:
    """Return which order nothing new may be sent beside on an instrument, "" if none.

    Any, where the venue takes one at a time. Elsewhere a transaction past its own deadline: it keeps its place in the
    queue of its sender until it is replaced, and what is sent after it waits behind it.
    """
    for order in orders:
        intent = order.intent
        if intent.instrument_id == instrument_id:
            if is_one_only:
                return f"order {intent.order_id} is {order.state}; one outstanding at a time"
            if intent.gas is not None and now_ns > intent.gas.deadline_ns > 0:
                return f"transaction {intent.order_id} is past its deadline and {order.state}; none is sent behind it"
    return ""
