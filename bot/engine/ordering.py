"""From a need to an order: where it goes, at what price and how large, after every limit had its say.

Nothing here sends anything or remembers more than the last order id; `bot.engine.engine` decides and sends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor, inf, nan
from operator import itemgetter
from typing import NamedTuple, Protocol

import msgspec

from bot.domain.decisions import HedgeTarget, HedgeView, Refusal
from bot.domain.instruments import Spot
from bot.domain.orders import GasBid, OrderIntent, TimeInForce
from bot.domain.portfolio import Greeks
from bot.domain.units import BPS
from bot.engine.book import Holding
from bot.engine.curves import (
    DAYS_PER_YEAR,
    MAX_HOLDING_DAYS,
    carried,
    hedge_curve,
    likely_days,
    own_mid_px,
)
from bot.engine.desk import Desk
from bot.engine.execution import Need, budget_ticks, crossing_ticks, find_crossing, near_touch_ticks
from bot.engine.funding import FundingBoard
from bot.engine.inclusion import Plan, fixed_cost_quote, plan_order, stale_terms_text
from bot.engine.limits import LimitKeeper
from bot.engine.margin.keeper import MarginKeeper, Relief
from bot.engine.market import MarketState
from bot.engine.oracles import OracleBoard
from bot.engine.orders import OrderTracker
from bot.engine.rolls import find_roll, is_ending
from bot.engine.routing import Blocked, VenueBoard, explain_blocks, find_losing, find_refusing, lot_quote, room_lots
from bot.engine.settings import EngineSettings, HedgeSettings
from bot.engine.sizing import is_inside_after, lots_to_trade, shrinks
from bot.pricing.costs import CostCurve
from bot.pricing.splitting import best_split

ORDER_WORTH_BPS = 0.05  # of what is traded: what one more order has to save
LEAST_LIMIT_RATIO = 0.85  # of a limit to the mark, with all the slippage a vault may allow
MOST_LOTS = 10**9  # more than any limit leaves: what can be had is then asked for

# Refusals that lie with one instrument: the same need then tries the next.
_TRY_ELSEWHERE = frozenset(
    {
        Refusal.PRICE_COLLAR,
        Refusal.ORDER_VALUE,
        Refusal.ORDER_SIZE,
        Refusal.BELOW_MINIMUM,
        Refusal.VENUE_LIMIT,
        Refusal.MARGIN_LIMIT,
        Refusal.COUNTERPARTY_LIMIT,
        Refusal.GAS_OVER_BENEFIT,
    }
)


class Approved(NamedTuple):
    """An order every limit agreed to, what was wanted of it, its lot in base units, and its part of the plan's cost."""

    intent: OrderIntent
    wanted_lots: int
    lot_base: float
    cost_quote: float = 0.0


class Routed(NamedTuple):
    """The orders of one decision, largest first; what the next best plan would have cost, if plans were compared."""

    orders: tuple[Approved, ...]
    is_whole: bool
    next_best_quote: float = nan
    is_roll: bool = False
    relief_base: float = 0.0  # signed, of a hedge that is closed for want of margin


class _Draft(NamedTuple):
    """An order that only lacks its number and its place in the order rate."""

    hedge: HedgeSettings
    lots: int
    wanted_lots: int
    lot_base: float
    limit_ticks: int
    time_in_force: TimeInForce
    gas: GasBid | None
    reason: str


class _Candidate(NamedTuple):
    """An instrument that may take a part, and what that would cost."""

    hedge: HedgeSettings
    lot_base: float
    curve: CostCurve
    most_lots: int = MOST_LOTS  # by what no single order is checked against: margin, and a future that is only left


class _Leg(NamedTuple):
    """The part of a plan that falls to one instrument, in signed lots."""

    candidate: _Candidate
    lots: int
    cost_quote: float


class _Plan(NamedTuple):
    """A split of a need, and what the best other one would have cost."""

    legs: list[_Leg]
    cost_quote: float
    next_best_quote: float

    @property
    def note(self) -> str:
        """What the plan costs, for the reason of each of its orders."""
        other = f", next best {self.next_best_quote:.2f}" if self.next_best_quote < inf else ""
        if len(self.legs) == 1:
            return f"; cheapest at {self.cost_quote:.2f} with carry{other}" if other else ""
        parts = ", ".join(f"{leg.candidate.curve.label} {leg.lots:+} for {leg.cost_quote:.2f}" for leg in self.legs)
        return f"; split at {self.cost_quote:.2f} with carry: {parts}{other}"


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
        self.funding = FundingBoard()
        self.taken_quote: dict[str, float] = {}  # venue → what option hedges there take up of its exposure limit
        self.margin: MarginKeeper | None = None  # set where a vault's margin is reckoned
        self._taken_share: dict[str, float] = {}  # venue → what of its margin the legs of a plan before take up
        self._margin_left: dict[str, tuple[float, str]] = {}  # venue → base that margin leaves, and why no more

    def adopt(self, settings: EngineSettings) -> None:
        """Make orders by other settings from now on."""
        self._settings = settings

    def venue_limits(self) -> Mapping[str, float]:
        """Return what the exposure limits of venues leave to linear hedges."""
        limits = self._settings.venue_limits
        if not self.taken_quote:
            return limits
        return {venue: limit - self.taken_quote.get(venue, 0.0) for venue, limit in limits.items()}

    def next_order_id(self) -> str:
        """Return a client order id never used before."""
        self.sequence += 1
        return f"{self._settings.run_id}-{self.sequence}"

    def find_routes(self, desk: Desk, now_ns: int) -> tuple[list[HedgeSettings], list[Blocked]]:
        """Return the hedge instruments that can be traded now in order of preference, and why the others cannot."""
        unquoted = {block.instrument_id: block for block in desk.unquoted} if desk.unquoted else {}
        orders = self._orders
        max_streak = self._settings.limits.max_reject_streak
        routes: list[HedgeSettings] = []
        blocks: list[Blocked] = []
        for hedge in desk.hedges:
            instrument = hedge.instrument
            block = (
                self._venues.find_block(instrument)
                or unquoted.get(instrument.instrument_id)
                or (self._oracles.find_block(desk, hedge.instrument, now_ns) if self._oracles is not None else None)
                or (find_refusing(orders, instrument, max_streak, now_ns) if orders.reject_streaks else None)
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

    def see(self, desk: Desk, routes: Sequence[HedgeSettings], now_ns: int) -> HedgeView:
        """Return what a policy may know: the cost of the hedge that would be traded, and the lot of the finest one."""
        if len(routes) < 2 or self._settings.routing == "preference":
            return desk.view(now_ns, self._orders, routes[0] if routes else desk.quoted[0])
        view = desk.view(now_ns, self._orders, self._find_cheapest(desk, routes))
        finest_base = min(
            [one.instrument.lot_base(desk.holdings[one.instrument.instrument_id].mark_px) for one in routes]
        )
        return view if finest_base >= view.lot_base else msgspec.structs.replace(view, lot_base=finest_base)

    def _find_cheapest(self, desk: Desk, routes: Sequence[HedgeSettings]) -> HedgeSettings:
        """Return the hedge that is cheapest to cross."""
        best, least = routes[0], inf
        for hedge in routes:
            instrument_id = hedge.instrument.instrument_id
            quote = self._market.quotes[instrument_id]
            rate = hedge.taker_bps * BPS + (quote.ask_px - quote.bid_px) / (quote.ask_px + quote.bid_px)
            terms = self._market.terms.get(instrument_id)
            if terms is not None:
                mid_px = 0.5 * (quote.bid_px + quote.ask_px)
                size_base = max(desk.traded_base, hedge.instrument.lot_base(mid_px))
                rate += fixed_cost_quote(terms) / (size_base * mid_px)
            if rate < least:
                best, least = hedge, rate
        return best

    def route(
        self, desk: Desk, view: HedgeView, target: HedgeTarget, routes: Sequence[HedgeSettings], blocks: list[Blocked]
    ) -> Routed | tuple[Refusal, str]:
        """Return the orders that serve a need, or why there are none."""
        if self.margin is None:
            return self._route(desk, view, target, routes, blocks)
        self._margin_left.clear()
        outcome = self._route(desk, view, target, routes, blocks)
        for venue, _ in self._find_held_back(view, target):
            self.margin.note_cut(venue)
        return outcome

    def _route(
        self, desk: Desk, view: HedgeView, target: HedgeTarget, routes: Sequence[HedgeSettings], blocks: list[Blocked]
    ) -> Routed | tuple[Refusal, str]:
        if len(routes) > 1 and self._settings.routing == "cheapest":
            return self._by_cost(desk, view, target, routes, blocks)
        return self._by_preference(desk, view, target, routes, blocks)

    def _by_preference(
        self,
        desk: Desk,
        view: HedgeView,
        target: HedgeTarget,
        routes: Sequence[HedgeSettings],
        blocks: list[Blocked],
        note: str = "",
        most_lots: int = MOST_LOTS,
    ) -> Routed | tuple[Refusal, str]:
        """Return the order on the most preferred instrument that can take it, or why none can."""
        preference = list(desk.holdings)
        for hedge in routes:
            instrument_id = hedge.instrument.instrument_id
            rank = preference.index(instrument_id)
            blocks = [block for block in blocks if block.instrument_id != instrument_id]  # now it is the last resort
            passed = [block for block in blocks if preference.index(block.instrument_id) < rank]
            draft = self._draft(desk, view, target, hedge, note + _tell_passed(hedge, passed), most_lots=most_lots)
            if isinstance(draft, _Draft):
                refused = self._limits.refuse_rate(view.now_ns)
                if refused is not None:
                    return Refusal.ORDER_RATE, refused
                order = self._approve(desk, view.now_ns, draft)
                return Routed((order,), is_whole=abs(draft.lots) >= abs(draft.wanted_lots))
            if draft[0] not in _TRY_ELSEWHERE:
                return draft
            blocks = [*blocks, Blocked(instrument_id, *draft)]
        return explain_blocks(sorted(blocks, key=lambda block: preference.index(block.instrument_id)))

    # ── by cost ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _by_cost(
        self, desk: Desk, view: HedgeView, target: HedgeTarget, routes: Sequence[HedgeSettings], blocks: list[Blocked]
    ) -> Routed | tuple[Refusal, str]:
        """Return the orders of the cheapest split of a need over all instruments that can take a part of it."""
        side = 1 if view.delta_high_base < target.low_base else -1
        losing = {block.instrument_id for block in blocks}
        steady = [hedge for hedge in routes if hedge.instrument.instrument_id not in losing] or list(routes)
        outs = [
            block for block in blocks if block.instrument_id not in {one.instrument.instrument_id for one in steady}
        ]
        staying = [hedge for hedge in steady if not is_ending(hedge, view.now_ns)]
        days = likely_days(view, target)
        candidates: list[_Candidate] = []
        spot_px = self._spot_mid_px(steady)
        is_closing = _can_close(desk, view, target, steady, side)
        for hedge in steady:
            is_leaving = bool(staying) and is_ending(hedge, view.now_ns)
            candidate = self._find_candidate(
                desk, view, hedge, side, days=days, spot_px=spot_px, is_leaving=is_leaving, is_closing=is_closing
            )
            if isinstance(candidate, _Candidate):
                candidates.append(candidate)
            else:
                outs.append(candidate)
        while candidates:
            plan = _split(view, target, candidates, side)
            if len(plan.legs) < 2:
                # one takes it all, or it is too small for any but as a need of its own: the usual way sees to that
                chosen = plan.legs[0].candidate if plan.legs else min(candidates, key=_least_rate)
                passed = self._by_preference(
                    desk, view, target, [chosen.hedge], [],
                    (plan.note if plan.legs else "") + self._tell_held_back(view, target), chosen.most_lots,
                )  # fmt: skip
                if isinstance(passed, Routed):
                    return _with_costs(passed, plan)
                if passed[0] not in _TRY_ELSEWHERE:
                    return passed
                out = Blocked(chosen.curve.label, *passed)
            else:
                drafted = self._draft_legs(desk, view, target, plan)
                if not isinstance(drafted, Blocked):
                    return drafted
                out = drafted
            outs.append(out)
            candidates = [one for one in candidates if one.curve.label != out.instrument_id]
        preference = list(desk.holdings)
        return explain_blocks(sorted(outs, key=lambda block: preference.index(block.instrument_id)))

    def _draft_legs(
        self, desk: Desk, view: HedgeView, target: HedgeTarget, plan: _Plan
    ) -> Routed | Blocked | tuple[Refusal, str]:
        """Return the orders of a plan of several legs; which instrument cannot take its leg, if one cannot."""
        venue_limits = dict(self.venue_limits())  # less what the legs before take up
        note = plan.note + self._tell_held_back(view, target)
        self._taken_share.clear()
        drafts: list[tuple[_Draft, float]] = []
        skipped: tuple[Refusal, str] | None = None
        for leg in plan.legs:
            hedge = leg.candidate.hedge
            draft = self._draft(desk, view, target, hedge, note, share_lots=leg.lots, venue_limits=venue_limits)
            if isinstance(draft, _Draft):
                self._take_margin(hedge, draft)
                refused = self._limits.refuse_rate(view.now_ns, len(drafts))
                if refused is None:
                    drafts.append((draft, leg.cost_quote))
                    venue = hedge.instrument.venue
                    if venue in venue_limits:
                        holding = desk.holdings[hedge.instrument.instrument_id]
                        venue_limits[venue] -= abs(draft.lots) * lot_quote(holding)
                    continue
                draft = (Refusal.ORDER_RATE, refused)
            if draft[0] in _TRY_ELSEWHERE:
                self._taken_share.clear()
                return Blocked(leg.candidate.curve.label, *draft)
            skipped = skipped or draft
        self._taken_share.clear()
        if not drafts:
            assert skipped is not None  # a plan has legs, and each is either drafted or skipped
            return skipped
        is_whole = skipped is None and all(abs(draft.lots) >= abs(draft.wanted_lots) for draft, _ in drafts)
        orders = [self._approve(desk, view.now_ns, draft, cost_quote) for draft, cost_quote in drafts]
        return Routed(tuple(orders), is_whole, plan.next_best_quote)

    def _find_candidate(
        self,
        desk: Desk,
        view: HedgeView,
        hedge: HedgeSettings,
        side: int,
        *,
        days: float,
        spot_px: float,
        is_leaving: bool,
        is_closing: bool = False,
    ) -> _Candidate | Blocked:
        """Return what a part of the need would cost on one instrument, or why it can take none.

        While it `is_closing`, what funding and basis earn is no reason to open a position against one that is held.
        """
        instrument = hedge.instrument
        instrument_id = instrument.instrument_id
        quote = self._market.quotes[instrument_id]
        waiting = desk.await_liquidity(quote)
        if waiting is not None:
            return Blocked(instrument_id, *waiting)
        holding = desk.holdings[instrument_id]
        terms = self._market.terms.get(instrument_id)
        px = quote.ask_px if side > 0 else quote.bid_px
        lot_base = instrument.lot_base(holding.mark_px)
        most = self._cap(desk, holding, side * MOST_LOTS, lot_base, px, self.venue_limits())
        if not isinstance(most, _Size):
            return Blocked(instrument_id, *most)
        most_lots = abs(most.lots)
        if is_leaving:
            most_lots = min(most_lots, max(0, -side * holding.lots))
            if not most_lots:
                return Blocked(instrument_id, Refusal.EXPIRED_HEDGE, f"{instrument_id} is about to expire")
        least_lots = max(instrument.min_lots, ceil(instrument.min_quote / (lot_base * px) - 1e-9))
        mid_px = own_mid_px(hedge, quote, spot_px)
        curve = hedge_curve(
            hedge,
            quote,
            terms,
            is_buy=side > 0,
            mid_px=mid_px,
            vol=view.vol,
            lot_base=lot_base,
            min_base=least_lots * lot_base,
            max_base=most_lots * lot_base if most_lots < MOST_LOTS else inf,
        )
        curve = carried(
            curve,
            hedge,
            is_buy=side > 0,
            mid_px=mid_px,
            index_px=view.spot_px,
            held_base=holding.lots * lot_base,
            days=days,
            paid_rate_per_day=self.funding.rate_per_day(instrument_id, view.now_ns),
            now_ns=view.now_ns,
            is_closing=is_closing,
        )
        return _Candidate(hedge, lot_base, curve, most_lots if most_lots < abs(most.lots) else MOST_LOTS)

    def _spot_mid_px(self, routes: Sequence[HedgeSettings]) -> float:
        """Return the mean mid of all spot pairs, 0 without any."""
        mids = []
        for hedge in routes:
            if isinstance(hedge.instrument, Spot):
                quote = self._market.quotes[hedge.instrument.instrument_id]
                mids.append(0.5 * (quote.bid_px + quote.ask_px))
        return sum(mids) / len(mids) if mids else 0.0

    # ── rolling ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def find_roll(self, desk: Desk, view: HedgeView, routes: Sequence[HedgeSettings]) -> Routed | None:
        """Return the orders that move what is held in a future near its expiry to the cheapest other instruments.

        Both sides are ordered at once and as much of each, so that net delta stays where it is; nothing is moved to
        where a trade is a transaction, as the two would not be done at once.
        """
        if self._settings.routing != "cheapest":
            return None
        roll = find_roll(desk, view.now_ns)
        if roll is None or roll.hedge not in routes:
            return None
        if any(name in desk.holdings or name in desk.book.option_hedges for name in self._orders.live_instruments()):
            return None  # of this desk: what rests for another may rest until long after the expiry
        others = [
            one
            for one in routes
            if not is_ending(one, view.now_ns) and one.instrument.instrument_id not in self._market.terms
        ]
        leaving = roll.hedge.instrument
        quote = self._market.quotes[leaving.instrument_id]
        if not others or roll.is_too_dear(quote) or desk.await_liquidity(quote) is not None:
            return None
        side = 1 if roll.held_lots > 0 else -1  # of what is opened
        days, spot_px = min(MAX_HOLDING_DAYS, view.tau_years * DAYS_PER_YEAR), self._spot_mid_px(others)
        found = [
            self._find_candidate(desk, view, one, side, days=days, spot_px=spot_px, is_leaving=False) for one in others
        ]
        candidates = [one for one in found if isinstance(one, _Candidate)]
        holding = desk.holdings[leaving.instrument_id]
        lot_base = leaving.lot_base(holding.mark_px)
        px = quote.bid_px if side > 0 else quote.ask_px
        closing = self._cap(desk, holding, -roll.held_lots, lot_base, px, self.venue_limits())
        if not candidates or not isinstance(closing, _Size):
            return None
        plan = _split_base(abs(closing.lots) * lot_base, candidates, side, view.spot_px)
        target = HedgeTarget.hold(f"{roll.text}{plan.note}")
        opened = self._draft_opened(desk, view, target, plan)
        opened_base = sum(abs(draft.lots) * draft.lot_base for draft, _ in opened)
        closed_lots = int(opened_base / lot_base + 0.5)
        if not closed_lots:
            return None
        closed = self._draft(desk, view, target, roll.hedge, "", share_lots=-side * closed_lots, is_roll=True)
        is_whole = isinstance(closed, _Draft) and closed.lots == closed.wanted_lots
        if not is_whole or self._limits.refuse_rate(view.now_ns, len(opened)) is not None:
            return None
        assert isinstance(closed, _Draft), "it is whole"
        orders = [self._approve(desk, view.now_ns, draft, cost) for draft, cost in [(closed, 0.0), *opened]]
        return Routed(tuple(orders), is_whole=True, next_best_quote=plan.next_best_quote, is_roll=True)

    def _draft_opened(
        self, desk: Desk, view: HedgeView, target: HedgeTarget, plan: _Plan
    ) -> list[tuple[_Draft, float]]:
        """Return what a roll opens, which shares the margin of an account; nothing where a limit cuts it otherwise."""
        opened: list[tuple[_Draft, float]] = []
        self._taken_share.clear()
        for leg in plan.legs:
            hedge = leg.candidate.hedge
            is_sharing = hedge.instrument.venue in self._taken_share
            draft = self._draft(desk, view, target, hedge, "", share_lots=leg.lots, is_roll=True)
            if isinstance(draft, _Draft) and (is_sharing or draft.lots == draft.wanted_lots):
                opened.append((draft, leg.cost_quote * (draft.lots / draft.wanted_lots)))
                self._take_margin(hedge, draft)
            elif not is_sharing:
                opened.clear()
                break
        self._taken_share.clear()
        return opened

    def relieve(self, desk: Desk, view: HedgeView, routes: Sequence[HedgeSettings], relief: Relief) -> Routed | None:
        """Return the order that closes a slice of a hedge whose account needs margin released; None if it cannot be."""
        hedge = next((one for one in routes if one.instrument.instrument_id == relief.instrument_id), None)
        if hedge is None or self._limits.refuse_rate(view.now_ns) is not None:
            return None
        target = HedgeTarget.hold(relief.reason)
        draft = self._draft(desk, view, target, hedge, "", share_lots=relief.lots, is_roll=True)
        if not isinstance(draft, _Draft):
            return None
        relief_base = draft.lots * draft.lot_base
        return Routed((self._approve(desk, view.now_ns, draft),), is_whole=True, is_roll=True, relief_base=relief_base)

    def close(
        self, desk: Desk, routes: Sequence[HedgeSettings], blocks: Sequence[Blocked], reason: str, now_ns: int
    ) -> tuple[Routed | None, dict[str, str]]:
        """Return the next orders that close every hedge of a desk, and what is left with why, by instrument.

        Each instrument is closed by reduce-only orders of its own, one at a time, as large as every limit allows. They
        depend on nothing but what is held: a book that cannot be valued keeps no hedge from being closed.
        """
        left: dict[str, str] = {}
        approved: list[Approved] = []
        closed_base = 0.0
        out = {block.instrument_id: block.why for block in blocks}
        tradable = {hedge.instrument.instrument_id: hedge for hedge in routes}
        under_way = set(self._orders.live_instruments())
        for name, holding in desk.holdings.items():
            if name in under_way:
                left[name] = f"{holding.lots:+} lots and an order under way"
                continue
            if not holding.lots:
                continue
            hedge = tradable.get(name)
            draft = self._draft_closing(desk, hedge, reason, now_ns) if hedge is not None else None
            if isinstance(draft, _Draft):
                refused = self._limits.refuse_rate(now_ns, len(approved))
                if refused is None:
                    approved.append(self._approve(desk, now_ns, draft, is_closing=True))
                    closed_base += draft.lots * draft.lot_base
                    left[name] = f"{holding.lots:+} lots, {-draft.lots:+} of them ordered"
                    continue
                draft = (Refusal.ORDER_RATE, refused)
            why = f"{draft[0]}: {draft[1]}" if draft is not None else out.get(name, "not tradable now")
            left[name] = f"{holding.lots:+} lots: {why}"
        if not approved:
            return None, left
        approved.sort(key=lambda one: -abs(one.intent.qty_lots) * one.lot_base)
        return Routed(tuple(approved), is_whole=True, is_roll=True, relief_base=closed_base), left

    def _draft_closing(
        self, desk: Desk, hedge: HedgeSettings, reason: str, now_ns: int
    ) -> _Draft | tuple[Refusal, str]:
        """Return the order that closes a position, or as much of it as leaves none that is too small to be closed."""
        holding = desk.holdings[hedge.instrument.instrument_id]
        held = abs(holding.lots)
        side = -1 if holding.lots > 0 else 1
        lot_base = hedge.instrument.lot_base(holding.mark_px)
        target = _far_target(side, held * lot_base, reason)
        view = _flat_view(desk, hedge, target.buy_to_base if side > 0 else target.sell_to_base, now_ns)
        draft = self._draft(desk, view, target, hedge, "", share_lots=side * held, is_roll=True, is_closing=True)
        if not isinstance(draft, _Draft):
            return draft
        least = least_lots(holding)
        rest = held - abs(draft.lots)
        if 0 < rest < least and abs(draft.lots) - (least - rest) >= least:
            fewer = side * (held - least)
            return self._draft(desk, view, target, hedge, "", share_lots=fewer, is_roll=True, is_closing=True)
        return draft

    # ── one order ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _draft(
        self,
        desk: Desk,
        view: HedgeView,
        target: HedgeTarget,
        hedge: HedgeSettings,
        note: str,
        *,
        share_lots: int = 0,
        venue_limits: Mapping[str, float] | None = None,
        is_roll: bool = False,
        is_closing: bool = False,
        most_lots: int = MOST_LOTS,
    ) -> _Draft | tuple[Refusal, str]:
        """Return the order on one instrument after every limit but the rate had its say, or the refusal.

        It is for the whole need, or for `share_lots` of it; a roll crosses at once and is told by its target's reason.
        What `is_closing` a position is no matter of net delta.
        """
        instrument = hedge.instrument
        holding = desk.holdings[instrument.instrument_id]
        quote = self._market.quotes[instrument.instrument_id]
        lot_base = instrument.lot_base(holding.mark_px)
        terms = self._market.terms.get(instrument.instrument_id)
        if terms is None:
            plan = None
            wanted = share_lots or self._lots_to_trade(desk, view, target, lot_base)
        else:
            vol = desk.vol()
            moved = self._market.moved_since_terms_fraction(instrument.instrument_id, desk.underlying)
            planned = plan_order(
                target, view, hedge, terms, quote,
                lot_base=lot_base, vol=vol, moved_fraction=moved, share_lots=abs(share_lots),
            )  # fmt: skip
            if not isinstance(planned, Plan):
                return planned
            wanted, seen = planned.lots, msgspec.structs.replace(view, lot_base=lot_base)
            if (
                not is_closing and self._guards.refuse_growth(desk, seen, wanted) is not None
            ):  # past the policy's edge, which does shrink
                edge = lots_to_trade(target, view.delta_low_base, view.delta_high_base, lot_base)
                wanted = min(wanted, edge, key=abs)
            plan, view, target = planned, planned.view, planned.target
        if not wanted:
            return Refusal.BELOW_MINIMUM, f"one lot of {lot_base:g} {desk.underlying} is too coarse for the band"
        side = 1 if wanted > 0 else -1
        if is_roll:
            price: _Price | tuple[Refusal, str] = _Price(crossing_ticks(hedge, quote, side), TimeInForce.IOC, "")
        else:
            price = self._price(desk, view, target, hedge, side, plan)
        if not isinstance(price, _Price):
            return price
        refused = self._limits.refuse_price(instrument.tick_schedule.px(price.limit_ticks), desk.reference_px(hedge))
        if refused is not None:
            return Refusal.PRICE_COLLAR, refused
        waiting = desk.await_liquidity(quote)
        if waiting is not None:
            return waiting
        if venue_limits is None:
            venue_limits = self.venue_limits()
        asked = max(-most_lots, min(most_lots, wanted))
        may_raise = not share_lots and most_lots == MOST_LOTS
        size = self._size(desk, view, target, hedge, asked, price.limit_ticks, venue_limits, may_raise=may_raise)
        if not isinstance(size, _Size):
            return size
        lots = size.lots
        why = target.reason if is_roll else _explain(view, target, abs(lots) * lot_base)
        reason = why + size.note + price.note + note
        gas = plan.gas if plan is not None else None
        return _Draft(hedge, lots, wanted, lot_base, price.limit_ticks, price.time_in_force, gas, reason)

    def _lots_to_trade(self, desk: Desk, view: HedgeView, target: HedgeTarget, lot_base: float) -> int:
        """Return the lots of a whole need; where only shrinking is allowed none that a coarse lot would turn."""
        lots = lots_to_trade(target, view.delta_low_base, view.delta_high_base, lot_base)
        if not lots or not self._guards.may_only_shrink(desk):
            return lots
        is_shrinking = shrinks(lots, lot_base, view.delta_low_base, view.delta_high_base, view.target_delta_base)
        return lots if is_shrinking else lots - (1 if lots > 0 else -1)

    def _approve(
        self, desk: Desk, now_ns: int, draft: _Draft, cost_quote: float = 0.0, *, is_closing: bool = False
    ) -> Approved:
        """Return the order that a draft has become, under a number of its own.

        It may only reduce where nothing under way could make it more than that: of what `is_closing` a position
        nothing else is under way on its instrument.
        """
        instrument = draft.hedge.instrument
        holding = desk.holdings[instrument.instrument_id]
        lots = draft.lots
        is_alone = is_closing or not self._orders.live
        intent = OrderIntent(
            order_id=self.next_order_id(),
            instrument_id=instrument.instrument_id,
            qty_lots=lots,
            limit_ticks=draft.limit_ticks,
            time_in_force=draft.time_in_force,
            reduce_only=holding.lots * lots < 0 and abs(lots) <= abs(holding.lots) and is_alone,
            reason=draft.reason,
            reference_px=holding.mark_px,
            decided_ns=now_ns,
            gas=draft.gas,
        )
        return Approved(intent, draft.wanted_lots, draft.lot_base, cost_quote)

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
        urgency = find_crossing(
            need, hedge, target, view, quote,
            vol=desk.vol(), lot_base=lot_base, fill_rate_per_s=desk.fill_rates.rate_per_s(quote.instrument_id),
        )  # fmt: skip
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
        self,
        desk: Desk,
        view: HedgeView,
        target: HedgeTarget,
        hedge: HedgeSettings,
        wanted: int,
        limit_ticks: int,
        venue_limits: Mapping[str, float],
        *,
        may_raise: bool,
    ) -> _Size | tuple[Refusal, str]:
        """Return the lots that every limit allows: cut where too many, raised to the minimum where the band allows."""
        instrument = hedge.instrument
        holding = desk.holdings[instrument.instrument_id]
        quote = self._market.quotes[instrument.instrument_id]
        px = quote.ask_px if wanted > 0 else quote.bid_px
        lot_base = instrument.lot_base(holding.mark_px)
        capped = self._cap(desk, holding, wanted, lot_base, px, venue_limits)
        if not isinstance(capped, _Size):
            return capped
        # the venue values the order at its limit or at the touch
        limit_px = instrument.tick_schedule.px(limit_ticks)
        lot_quote = instrument.lot_size if holding.is_inverse else instrument.lot_size * min(px, limit_px)
        least = max(instrument.min_lots, ceil(instrument.min_quote / lot_quote - 1e-9))
        if abs(capped.lots) >= least:
            return capped
        raised = least if wanted > 0 else -least
        cap = self._cap(desk, holding, raised, lot_base, px, venue_limits)
        is_allowed = may_raise and isinstance(cap, _Size) and cap.lots == raised
        if is_allowed and self._guards.may_only_shrink(desk):
            is_allowed = shrinks(raised, lot_base, view.delta_low_base, view.delta_high_base, view.target_delta_base)
        if is_allowed and is_inside_after(raised, lot_base, target, view.delta_low_base, view.delta_high_base):
            return _Size(raised, f", raised from {wanted} lots to the venue's minimum")
        minimum = f"{abs(capped.lots)} lots, the venue's minimum is {least}"
        by_value = f" for {instrument.min_quote:g} {instrument.quote}" if least > instrument.min_lots else ""
        return Refusal.BELOW_MINIMUM, minimum + by_value

    def _cap(
        self,
        desk: Desk,
        holding: Holding,
        lots: int,
        lot_base: float,
        px: float,
        venue_limits: Mapping[str, float],
    ) -> _Size | tuple[Refusal, str]:
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
        room = room_lots(holding, 1 if lots > 0 else -1, self._holdings, self._orders, venue_limits)
        if room < 1:
            venue = holding.instrument.venue
            limit_quote = self._settings.venue_limits[venue]
            return Refusal.VENUE_LIMIT, f"{venue}: exposure limit of {limit_quote:,.0f} is reached, in flight included"
        what = f"what {holding.instrument.instrument_id} can carry" if abs(cut) == shown else "the order limit"
        if abs(cut) > room:
            cut = int(room) if lots > 0 else -int(room)
            what = f"the exposure limit of {holding.instrument.venue}"
        free_lots, why = self._margin_lots(holding, 1 if lots > 0 else -1, lot_base, px)
        if free_lots < 1:
            assert self.margin is not None, "margin was asked"
            return self.margin.refusal_at(holding.instrument.venue), why
        if abs(cut) > free_lots:
            cut = int(free_lots) if lots > 0 else -int(free_lots)
            return _Size(cut, f", cut from {lots} lots by margin ({why})" if abs(lots) < MOST_LOTS else "")
        return _Size(cut, f", cut from {lots} lots by {what}" if cut != lots else "")

    def _margin_lots(self, holding: Holding, side: int, lot_base: float, px: float) -> tuple[float, str]:
        """Return how many lots margin at the venue allows on one side, and why no more; infinite where it does."""
        instrument = holding.instrument
        if self.margin is None or not self.margin.keeps(instrument.venue):
            return inf, ""
        limits = self._settings.limits
        reach_base = limits.max_order_quote / px
        if limits.max_order_base is not None:
            reach_base = min(reach_base, limits.max_order_base)
        room = self.margin.room(instrument, side, reach_base)
        left_base = room.left_base(self._taken_share.get(instrument.venue, 0.0))
        if left_base == inf:
            return inf, ""
        why = room.why or f"{instrument.venue}: the other orders of the plan take up its margin"
        self._margin_left[instrument.venue] = (left_base, why)
        return (left_base / lot_base + 1e-9) // 1, why

    def _take_margin(self, hedge: HedgeSettings, draft: _Draft) -> None:
        """Remember what an order of a plan takes up of the margin at its venue."""
        instrument = hedge.instrument
        if self.margin is None or not self.margin.keeps(instrument.venue):
            return
        base = abs(draft.lots) * draft.lot_base
        room = self.margin.room(instrument, 1 if draft.lots > 0 else -1, base)
        taken = self._taken_share.get(instrument.venue, 0.0)
        self._taken_share[instrument.venue] = taken + room.share_of(base)

    def _find_held_back(self, view: HedgeView, target: HedgeTarget) -> list[tuple[str, str]]:
        """Return the venues that could not take a whole need for want of margin, and why."""
        lots = lots_to_trade(target, view.delta_low_base, view.delta_high_base, view.lot_base)
        need_base = (abs(lots) - 0.5) * view.lot_base
        return [(venue, why) for venue, (left_base, why) in self._margin_left.items() if left_base < need_base]

    def _tell_held_back(self, view: HedgeView, target: HedgeTarget) -> str:
        """Say where margin makes a hedge smaller or sends it elsewhere."""
        held_back = self._find_held_back(view, target)
        return "".join([f"; {self.margin.refusal_at(venue)} of {why}" for venue, why in held_back if self.margin])

    def _shown_lots(self, holding: Holding, lots: int, lot_base: float) -> float:
        """Return how many lots the quote shows, where it shows all that can be had: of pools, not of order books."""
        instrument_id = holding.instrument.instrument_id
        if instrument_id not in self._market.terms:
            return inf
        quote = self._market.quotes[instrument_id]
        return ((quote.ask_base if lots > 0 else quote.bid_base) / lot_base + 1e-9) // 1


def least_lots(holding: Holding) -> int:
    """Return the fewest lots of a position that its venue would take an order of, at any limit we might set."""
    instrument = holding.instrument
    return max(instrument.min_lots, ceil(instrument.min_quote / (LEAST_LIMIT_RATIO * lot_quote(holding)) - 1e-9))


def _flat_view(desk: Desk, hedge: HedgeSettings, target_delta_base: float, now_ns: int) -> HedgeView:
    """Return a view in which nothing is held: what is closed for its own sake is no matter of Greeks."""
    holding = desk.holdings[hedge.instrument.instrument_id]
    return HedgeView(
        now_ns=now_ns,
        underlying=desk.underlying,
        spot_px=desk.book.marks_of_underlying.index_px,
        target_delta_base=target_delta_base,
        greeks=Greeks(0.0, 0.0, 0.0, 0.0, 0.0),
        delta_low_base=0.0,
        delta_high_base=0.0,
        hedge_base=0.0,
        pending_base=0.0,
        cost_rate=hedge.taker_bps * BPS,
        fixed_cost_quote=0.0,
        lot_base=hedge.instrument.lot_base(holding.mark_px),
        monitor_years=0.0,
        last_hedge_ns=0,
        last_hedge_px=0.0,
        legs=desk.book.legs,
        vol=0.0,
    )


def _far_target(side: int, size_base: float, reason: str) -> HedgeTarget:
    """Return a band so far on one side that any share of the way there may be ordered."""
    near_base, far_base = side * size_base, 2.0 * side * size_base
    if side > 0:
        return HedgeTarget(near_base, inf, far_base, inf, 1.0, reason)
    return HedgeTarget(-inf, near_base, -inf, far_base, 1.0, reason)


def _can_close(desk: Desk, view: HedgeView, target: HedgeTarget, hedges: Sequence[HedgeSettings], side: int) -> bool:
    """Tell whether positions held the other way could serve a whole need by being closed.

    Carry alone would buy where funding is low and sell where it is high, and never close either.
    """
    need_base = target.buy_to_base - view.delta_high_base if side > 0 else view.delta_low_base - target.sell_to_base
    held = [desk.holdings[one.instrument.instrument_id] for one in hedges]
    return sum([max(0, -side * one.lots) * one.instrument.lot_base(one.mark_px) for one in held]) >= need_base


def _split(view: HedgeView, target: HedgeTarget, candidates: list[_Candidate], side: int) -> _Plan:
    """Return the cheapest way to serve a need."""
    finest_base = min([one.lot_base for one in candidates])
    lots = lots_to_trade(target, view.delta_low_base, view.delta_high_base, finest_base)
    return _split_base(abs(lots) * finest_base, candidates, side, view.spot_px)


def _split_base(quantity_base: float, candidates: list[_Candidate], side: int, spot_px: float) -> _Plan:
    """Return the cheapest split of an amount, largest leg first; without legs where it is too small for any.

    One more order has to save something: of plans that cost nearly the same the one with fewer orders is taken.
    """
    if quantity_base <= 0.0:
        return _Plan([], 0.0, inf)
    curves = [one.curve for one in candidates]
    split = best_split(quantity_base, curves)
    parts, costs, cost_quote = list(split.quantities_base), list(split.costs_quote), split.cost_quote
    used = [place for place, part_base in enumerate(parts) if part_base > 0.0]
    slack_quote = ORDER_WORTH_BPS * BPS * quantity_base * spot_px
    while len(used) > 1:
        placed_base = sum(parts)
        fewer = [_take_all(curves, place, placed_base) for place in used]
        if len(used) > 2:
            least = min(used, key=parts.__getitem__)
            places = [place for place in used if place != least]
            fewer.append(_split_among(curves, places, placed_base))
        best = min(fewer, key=itemgetter(0))
        if best[0] > cost_quote + slack_quote * (len(used) - sum([part_base > 0.0 for part_base in best[1]])):
            break
        cost_quote, parts, costs = best
        used = [place for place, part_base in enumerate(parts) if part_base > 0.0]
    legs = []
    for place in used:
        lots = int(parts[place] / candidates[place].lot_base + 0.5)
        if lots:
            legs.append(_Leg(candidates[place], side * lots, costs[place]))
    legs.sort(key=lambda leg: -abs(leg.lots) * leg.candidate.lot_base)
    # others that can place next to nothing cost next to nothing, and are no plan
    return _Plan(legs, cost_quote, split.next_best if split.next_best >= split.cost_quote - 1e-9 else inf)


def _take_all(curves: list[CostCurve], place: int, placed_base: float) -> tuple[float, list[float], list[float]]:
    """Return cost, parts and costs of a plan in which one instrument takes it all; infinite if it cannot."""
    curve = curves[place]
    part_base = floor(placed_base / curve.lot_base + 1e-9) * curve.lot_base
    is_whole = placed_base - part_base < 0.5 * min([one.lot_base for one in curves])
    cost = curve.cost_quote(part_base) if is_whole and part_base >= curve.min_base * (1.0 - 1e-9) else inf
    parts, costs = [0.0] * len(curves), [0.0] * len(curves)
    parts[place], costs[place] = part_base, cost
    return cost, parts, costs


def _split_among(
    curves: list[CostCurve], places: list[int], placed_base: float
) -> tuple[float, list[float], list[float]]:
    """Return cost, parts and costs of the best plan for some of the instruments; infinite if they cannot take it."""
    split = best_split(placed_base, [curves[place] for place in places], is_explained=False)
    parts, costs = [0.0] * len(curves), [0.0] * len(curves)
    for place, part_base, cost_quote in zip(places, split.quantities_base, split.costs_quote, strict=True):
        parts[place], costs[place] = part_base, cost_quote
    is_whole = split.unplaced_base < 0.5 * min([one.lot_base for one in curves])
    return (split.cost_quote if is_whole else inf), parts, costs


def _least_rate(candidate: _Candidate) -> float:
    """Return what the least order costs per base."""
    least_base = max(candidate.curve.min_base, candidate.lot_base)
    return candidate.curve.cost_quote(least_base) / least_base


def _with_costs(routed: Routed, plan: _Plan) -> Routed:
    """Say what the plan of a single order costs."""
    if not plan.legs:
        return routed
    (order,) = routed.orders
    return routed._replace(orders=(order._replace(cost_quote=plan.cost_quote),), next_best_quote=plan.next_best_quote)


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
