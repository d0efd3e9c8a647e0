"""From a need to an order: where it goes, at what price and how large, after every limit had its say.

Nothing here sends anything or remembers more than the last order id; `bot.engine.engine` decides and sends.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, inf
from typing import NamedTuple, Protocol

import msgspec

from bot.domain.decisions import HedgeTarget, HedgeView, Refusal
from bot.domain.orders import OrderIntent, TimeInForce
from bot.engine.book import Holding
from bot.engine.desk import Desk
from bot.engine.execution import Need, budget_ticks, crossing_ticks, find_urgency, near_touch_ticks
from bot.engine.inclusion import Plan, plan_order, stale_terms_text
from bot.engine.limits import LimitKeeper
from bot.engine.market import MarketState
from bot.engine.oracles import OracleBoard
from bot.engine.orders import OrderTracker
from bot.engine.routing import Blocked, VenueBoard, explain_blocks, find_losing, find_refusing, room_lots
from bot.engine.settings import EngineSettings, HedgeSettings
from bot.engine.sizing import is_inside_after, lots_to_trade, shrinks

# Refusals that lie with one instrument: the same need then tries the next.
_TRY_ELSEWHERE = frozenset(
    {
        Refusal.PRICE_COLLAR,
        Refusal.ORDER_VALUE,
        Refusal.ORDER_SIZE,
        Refusal.BELOW_MINIMUM,
        Refusal.VENUE_LIMIT,
        Refusal.GAS_OVER_BENEFIT,
    }
)


class Approved(NamedTuple):
    """An order every limit agreed to, what was wanted of it, and its lot in base units."""

    intent: OrderIntent
    wanted_lots: int
    lot_base: float


class _Price(NamedTuple):
    """How an order is priced, and what its reason says of that."""

    limit_ticks: int
    time_in_force: TimeInForce
    note: str


class _Size(NamedTuple):
    """How many lots are left of those wanted, and what the order's reason says of that."""

    lots: int
    note: str


class Guards(Protocol):
    """What the state of the bot allows, as the engine knows it."""

    def refuse_growth(self, desk: Desk, view: HedgeView, lots: int) -> tuple[Refusal, str] | None:
        """Return why a trade further than to the policy's edge must not be made, if exposure may only shrink."""

    def may_only_shrink(self, desk: Desk) -> bool:
        """Tell whether an order may do nothing but shrink the net delta."""


class Ordering:
    """Makes the orders of one vault; every limit on an order is checked here."""

    def __init__(
        self,
        settings: EngineSettings,
        market: MarketState,
        orders: OrderTracker,
        limits: LimitKeeper,
        venues: VenueBoard,
        oracles: OracleBoard | None,
        holdings: Sequence[Holding],
        guards: Guards,
    ) -> None:
        self.sequence = 0  # of the last order id
        self._settings = settings
        self._market = market
        self._orders = orders
        self._limits = limits
        self._venues = venues
        self._oracles = oracles
        self._holdings = holdings
        self._guards = guards

    def next_order_id(self) -> str:
        """Return a client order id never used before."""
        self.sequence += 1
        return f"{self._settings.run_id}-{self.sequence}"

    def find_routes(self, desk: Desk, now_ns: int) -> tuple[list[HedgeSettings], list[Blocked]]:
        """Return the hedge instruments that can be traded now in order of preference, and why the others cannot."""
        unquoted = {block.instrument_id: block for block in desk.unquoted}
        max_streak = self._settings.limits.max_reject_streak
        routes: list[HedgeSettings] = []
        blocks: list[Blocked] = []
        for hedge in desk.hedges:
            instrument = hedge.instrument
            block = (
                self._venues.find_block(instrument)
                or unquoted.get(instrument.instrument_id)
                or (self._oracles.find_block(desk, hedge.instrument, now_ns) if self._oracles is not None else None)
                or find_refusing(self._orders, instrument, max_streak, now_ns)
                or self._find_stale_terms(hedge, now_ns)
            )
            if block is None:
                routes.append(hedge)
            else:
                blocks.append(block)
        return routes, blocks

    def _find_stale_terms(self, hedge: HedgeSettings, now_ns: int) -> Blocked | None:
        """Return why nothing can be said of the next block, where a trade is a transaction in it."""
        instrument_id = hedge.instrument.instrument_id
        terms = self._market.terms.get(instrument_id)
        if terms is None and not hedge.needs_terms:
            return None
        why = stale_terms_text(terms, instrument_id, now_ns)
        return Blocked(instrument_id, Refusal.STALE_TERMS, why) if why else None

    def put_losing_last(self, routes: list[HedgeSettings], blocks: list[Blocked], now_ns: int) -> list[Blocked]:
        """Move the instruments whose orders got lost behind all others; return the blocks with why."""
        found = [block for hedge in routes if (block := find_losing(self._orders, hedge.instrument, now_ns))]
        losing = {block.instrument_id for block in found}
        routes.sort(key=lambda hedge: hedge.instrument.instrument_id in losing)
        return [*blocks, *found]

    def route(
        self, desk: Desk, view: HedgeView, target: HedgeTarget, routes: Sequence[HedgeSettings], blocks: list[Blocked]
    ) -> Approved | tuple[Refusal, str]:
        """Return the order on the most preferred instrument that can take it, or why none can."""
        preference = list(desk.holdings)
        for hedge in routes:
            instrument_id = hedge.instrument.instrument_id
            rank = preference.index(instrument_id)
            blocks = [block for block in blocks if block.instrument_id != instrument_id]  # now it is the last resort
            passed = [block for block in blocks if preference.index(block.instrument_id) < rank]
            outcome = self._approve(desk, view, target, hedge, passed)
            if isinstance(outcome, Approved) or outcome[0] not in _TRY_ELSEWHERE:
                return outcome
            blocks = [*blocks, Blocked(instrument_id, *outcome)]
        return explain_blocks(sorted(blocks, key=lambda block: preference.index(block.instrument_id)))

    def _approve(
        self, desk: Desk, view: HedgeView, target: HedgeTarget, hedge: HedgeSettings, passed: list[Blocked]
    ) -> Approved | tuple[Refusal, str]:
        """Return the order on one instrument after every limit had its say, or the refusal."""
        instrument = hedge.instrument
        holding = desk.holdings[instrument.instrument_id]
        quote = self._market.quotes[instrument.instrument_id]
        lot_base = instrument.lot_base(holding.mark_px)
        terms = self._market.terms.get(instrument.instrument_id)
        if terms is None:
            plan = None
            wanted = lots_to_trade(target, view.delta_low_base, view.delta_high_base, lot_base)
        else:
            vol = desk.vol()
            moved = self._market.moved_since_terms_fraction(instrument.instrument_id, desk.underlying)
            planned = plan_order(target, view, hedge, terms, quote, lot_base=lot_base, vol=vol, moved_fraction=moved)
            if not isinstance(planned, Plan):
                return planned
            wanted, seen = planned.lots, msgspec.structs.replace(view, lot_base=lot_base)
            if self._guards.refuse_growth(desk, seen, wanted) is not None:  # past the policy's edge, which does shrink
                edge = lots_to_trade(target, view.delta_low_base, view.delta_high_base, lot_base)
                wanted = min(wanted, edge, key=abs)
            plan, view, target = planned, planned.view, planned.target
        if not wanted:
            return Refusal.BELOW_MINIMUM, f"one lot of {lot_base:g} {desk.underlying} is too coarse for the band"
        price = self._price(desk, view, target, hedge, 1 if wanted > 0 else -1, plan)
        if not isinstance(price, _Price):
            return price
        refused = self._limits.refuse_price(instrument.tick_schedule.px(price.limit_ticks), desk.reference_px(hedge))
        if refused is not None:
            return Refusal.PRICE_COLLAR, refused
        waiting = desk.await_liquidity(quote)
        if waiting is not None:
            return waiting
        size = self._size(desk, view, target, hedge, wanted, price.limit_ticks)
        if not isinstance(size, _Size):
            return size
        refused = self._limits.refuse_rate(view.now_ns)
        if refused is not None:
            return Refusal.ORDER_RATE, refused
        lots = size.lots
        intent = OrderIntent(
            order_id=self.next_order_id(),
            instrument_id=instrument.instrument_id,
            qty_lots=lots,
            limit_ticks=price.limit_ticks,
            time_in_force=price.time_in_force,
            reduce_only=holding.lots * lots < 0 and abs(lots) <= abs(holding.lots) and not self._orders.live,
            reason=_explain(view, target, abs(lots) * lot_base) + size.note + price.note + _tell_passed(hedge, passed),
            reference_px=holding.mark_px,
            decided_ns=view.now_ns,
            gas=plan.gas if plan is not None else None,
        )
        return Approved(intent, wanted, lot_base)

    def _price(
        self, desk: Desk, view: HedgeView, target: HedgeTarget, hedge: HedgeSettings, side: int, plan: Plan | None
    ) -> _Price | tuple[Refusal, str]:
        """Return at what limit and how long the order may stand."""
        if plan is not None:
            return _Price(plan.limit_ticks, TimeInForce.IOC, plan.note)
        quote = self._market.quotes[hedge.instrument.instrument_id]
        limit_ticks = crossing_ticks(hedge, quote, side)
        if hedge.style == "taker":
            return _Price(limit_ticks, TimeInForce.IOC, "")
        need = desk.need
        if need is None or need.side != side:
            need = desk.need = Need(side, view.now_ns)
        far_px = quote.ask_px if side > 0 else quote.bid_px
        first_px = need.first_px.setdefault(hedge.instrument.instrument_id, far_px)
        lot_base = hedge.instrument.lot_base(far_px)
        urgency = find_urgency(need, hedge, target, view.greeks.delta_base, lot_base, view.now_ns)
        if not urgency:
            return _Price(near_touch_ticks(hedge, quote, side), TimeInForce.POST_ONLY, "; resting at the touch")
        budget = budget_ticks(need, hedge, side)
        limit_ticks = min(limit_ticks, budget) if side > 0 else max(limit_ticks, budget)
        limit_px = hedge.instrument.tick_schedule.px(limit_ticks)
        if (limit_px - far_px) * side < -1e-9 * far_px:
            desk.need = None  # what was decided then is no longer to be had; what is decided now starts anew
            return Refusal.SLIPPAGE_BUDGET, (
                f"{far_px:g} is beyond {limit_px:g}: first decided at {first_px:g}, "
                f"allowed {hedge.max_slippage_bps:g} bp"
            )
        return _Price(limit_ticks, TimeInForce.IOC, f"; crossing: {urgency}")

    def _size(
        self, desk: Desk, view: HedgeView, target: HedgeTarget, hedge: HedgeSettings, wanted: int, limit_ticks: int
    ) -> _Size | tuple[Refusal, str]:
        """Return the lots that every limit allows: cut where too many, raised to the minimum where the band allows."""
        instrument = hedge.instrument
        holding = desk.holdings[instrument.instrument_id]
        quote = self._market.quotes[instrument.instrument_id]
        px = quote.ask_px if wanted > 0 else quote.bid_px
        lot_base = instrument.lot_base(holding.mark_px)
        capped = self._cap(desk, holding, wanted, lot_base, px)
        if not isinstance(capped, _Size):
            return capped
        # the venue values the order at its limit or at the touch
        limit_px = instrument.tick_schedule.px(limit_ticks)
        lot_quote = instrument.lot_size if holding.is_inverse else instrument.lot_size * min(px, limit_px)
        least = max(instrument.min_lots, ceil(instrument.min_quote / lot_quote - 1e-9))
        if abs(capped.lots) >= least:
            return capped
        raised = least if wanted > 0 else -least
        cap = self._cap(desk, holding, raised, lot_base, px)
        is_allowed = isinstance(cap, _Size) and cap.lots == raised
        if is_allowed and (self._guards.may_only_shrink(desk)):
            is_allowed = shrinks(raised, lot_base, view.delta_low_base, view.delta_high_base, view.target_delta_base)
        if is_allowed and is_inside_after(raised, lot_base, target, view.delta_low_base, view.delta_high_base):
            return _Size(raised, f", raised from {wanted} lots to the venue's minimum")
        minimum = f"{abs(capped.lots)} lots, the venue's minimum is {least}"
        by_value = f" for {instrument.min_quote:g} {instrument.quote}" if least > instrument.min_lots else ""
        return Refusal.BELOW_MINIMUM, minimum + by_value

    def _cap(self, desk: Desk, holding: Holding, lots: int, lot_base: float, px: float) -> _Size | tuple[Refusal, str]:
        """Return how many of these lots the limits on value, size and the venue's exposure allow."""
        limits = self._settings.limits
        cut = self._limits.cut_to_value(lots, lot_base * px)
        if not cut:
            return Refusal.ORDER_VALUE, (f"one lot is worth {lot_base * px:,.2f}, limit {limits.max_order_quote:,.2f}")
        cut = self._limits.cut_to_size(cut, lot_base)
        if not cut:
            return Refusal.ORDER_SIZE, f"one lot is {lot_base:g} {desk.underlying}, limit {limits.max_order_base:g}"
        shown = self._shown_lots(holding, lots, lot_base)
        if shown < 1:
            where = holding.instrument.instrument_id
            return Refusal.ORDER_SIZE, f"{where} can {'buy' if lots > 0 else 'sell'} nothing now: pool, funds or loan"
        if abs(cut) > shown:
            cut = int(shown) if lots > 0 else -int(shown)
        room = room_lots(holding, 1 if lots > 0 else -1, self._holdings, self._orders, self._settings.venue_limits)
        if room < 1:
            venue = holding.instrument.venue
            limit_quote = self._settings.venue_limits[venue]
            return Refusal.VENUE_LIMIT, f"{venue}: exposure limit of {limit_quote:,.0f} is reached, in flight included"
        if abs(cut) > room:
            cut = int(room) if lots > 0 else -int(room)
            return _Size(cut, f", cut from {lots} lots by the exposure limit of {holding.instrument.venue}")
        what = f"what {holding.instrument.instrument_id} can carry" if abs(cut) == shown else "the order limit"
        return _Size(cut, f", cut from {lots} lots by {what}" if cut != lots else "")

    def _shown_lots(self, holding: Holding, lots: int, lot_base: float) -> float:
        """Return how many lots the quote shows, where it shows all that can be had: of pools, not of order books."""
        instrument_id = holding.instrument.instrument_id
        if instrument_id not in self._market.terms:
            return inf
        quote = self._market.quotes[instrument_id]
        return ((quote.ask_base if lots > 0 else quote.bid_base) / lot_base + 1e-9) // 1


def _explain(view: HedgeView, target: HedgeTarget, size_base: float) -> str:
    cost_quote = size_base * view.spot_px * view.cost_rate
    return (
        f"net delta {view.delta_low_base:+.3f} outside [{target.low_base:+.3f}, {target.high_base:+.3f}]; "
        f"{target.reason}; expected cost {cost_quote:.2f}"
    )


def _tell_passed(hedge: HedgeSettings, passed: list[Blocked]) -> str:
    """Say why an order goes to another instrument than the most preferred one."""
    if not passed:
        return ""
    why = "; ".join(f"{block.instrument_id} {block.refusal}: {block.why}" for block in passed)
    return f"; on {hedge.instrument.instrument_id} instead ({why})"
