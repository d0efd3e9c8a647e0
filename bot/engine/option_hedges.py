"""Listed options as hedges: what is offered to a policy, and the orders its trades become.

A policy is shown offers once per review, and never while an option order of its underlying is under way; every limit is
in them already, so that it can plan with what it may do. What it asks for is checked against the same offers again. An
order takes what one quote shows, at the price shown, or nothing. Must never choose an option, and never trade one that
was not offered.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from math import inf, isfinite, isnan, nan
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from bot.domain.decisions import Legs, OptionOffers, OptionTrade, Refusal
from bot.domain.instruments import Instrument, Option
from bot.domain.market import VolQuote
from bot.domain.orders import OrderIntent, TimeInForce
from bot.domain.units import NS_PER_S, NS_PER_YEAR
from bot.engine.desk import Desk
from bot.engine.limits import LimitKeeper
from bot.engine.margin.keeper import MarginKeeper
from bot.engine.margin.risk_rows import option_row
from bot.engine.market import MarketState
from bot.engine.option_holding import NO_ROW, OptionHolding
from bot.engine.option_prices import OptionPrices, is_coin_priced, option_fee_settle, prices_of_all
from bot.engine.orders import OrderTracker
from bot.engine.routing import VenueBoard, find_refusing, lot_quote, span_of
from bot.engine.settings import EngineSettings, OptionHedgeSettings
from bot.pricing.black76 import Black76Greeks, greeks

MOST_BASE = 1e12  # where nothing limits it
MAY_NOT_SELL = (
    "options are not sold that were not bought before, unless the vault says so; "
    "hint: a book that is long gamma or vega needs to sell: option_hedges.may_sell allows it, and a risk section "
    "has the margin of what is sold reckoned"
)
RETRY_NS = 10 * NS_PER_S  # where nothing was on offer, the next look comes sooner than the next review


def may_trade(rules: OptionHedgeSettings, instrument: Instrument) -> bool:
    """Tell whether an instrument is an option that these rules may ever let be traded: priced in what it pays."""
    if not isinstance(instrument, Option) or instrument.venue != rules.venue:
        return False
    return is_coin_priced(instrument) == (instrument.settle == instrument.base)


def is_eligible(rules: OptionHedgeSettings, option: Option, now_ns: int, index_px: float) -> bool:
    """Tell whether an option may be bought or sold now as far as its terms go, whatever its quote."""
    if not (may_trade(rules, option) and rules.min_ns <= option.expiry_ns - now_ns <= rules.max_ns):
        return False
    return rules.min_strike_ratio * index_px <= option.strike_px <= rules.max_strike_ratio * index_px


def tradable_options(settings: EngineSettings) -> tuple[tuple[Option, OptionHedgeSettings], ...]:
    """Return the options that may ever be traded as hedges, with the rules for them."""
    return tuple(
        (one, rules)
        for one in settings.universe
        if isinstance(one, Option) and (rules := settings.option_hedges.get(one.base)) and may_trade(rules, one)
    )


class Offered(NamedTuple):
    """One option on offer: its quote, what it is in prices, and the most base that may be bought and sold.

    `exposure_quote` is what is at stake in a unit of it: the larger of its delta and its worth, in quote money.
    """

    option: Option
    quote: VolQuote
    prices: OptionPrices
    held_base: float
    buy_max_base: float
    sell_max_base: float
    exposure_quote: float = 0.0

    def limit_ticks(self, side: int) -> int:
        """Return the price shown on the other side."""
        return self.prices.ask_ticks if side > 0 else self.prices.bid_ticks

    def limit_px(self, side: int) -> float:
        """Return that price in the currency of the venue."""
        return self.option.tick_schedule.px(self.limit_ticks(side))


class Room(NamedTuple):
    """What limits leave: premium in quote money and new instruments of one underlying, exposure at the venue."""

    premium_quote: float
    instruments: int
    exposure_quote: float


class Review:
    """What was offered at one decision, and what is left of the limits as its trades are approved."""

    def __init__(self, now_ns: int, index_px: float, room: Room) -> None:
        self.now_ns = now_ns
        self.index_px = index_px
        self.room = room
        self.offered: dict[str, Offered] = {}

    def unit_quote(self, one: Offered, side: int) -> float:
        """Return what a unit of base costs at the price shown, in quote money."""
        px = one.limit_px(side)
        return px * self.index_px if is_coin_priced(one.option) else px


class OptionHedging:
    """Offers and orders of option hedges, for every desk that has rules for them."""

    def __init__(
        self,
        settings: EngineSettings,
        market: MarketState,
        orders: OrderTracker,
        limits: LimitKeeper,
        venues: VenueBoard,
        instruments: Mapping[str, Instrument],
        desks: Mapping[str, Desk],
    ) -> None:
        self._market = market
        self._orders = orders
        self._limits = limits
        self._venues = venues
        self._instruments = instruments
        self._desks = desks
        self._reviews: dict[str, Review] = {}
        self.margin: MarginKeeper | None = None  # set where a vault's margin is reckoned
        self.adopt(settings)

    def adopt(self, settings: EngineSettings) -> None:
        """Offer and order by these settings from now on."""
        self._settings = settings
        rules = settings.option_hedges
        self._rules = rules if rules and settings.policy.needs_offers else {}

    def held(self) -> frozenset[str]:
        """Return the options that are held as hedges, or that an order is under way on."""
        holdings = (one for desk in self._desks.values() for one in desk.book.option_hedges.values())
        return frozenset(one.instrument.instrument_id for one in holdings if one.lots or one.row != NO_ROW)

    def review(self, desk: Desk, now_ns: int) -> OptionOffers | None:
        """Return what may be traded now, None where nothing may or it is not time for the next look."""
        rules = self._rules.get(desk.underlying)
        if rules is None or now_ns < desk.reviewed_ns + rules.review_ns:
            return None
        if any(name in desk.book.option_hedges for name in self._orders.live_instruments()):
            return None
        if not (rules.may_sell or desk.option_refusal) and desk.book.option_gamma > 0.0:
            desk.option_refusal = f"{Refusal.UNCOVERED_SALE}: {desk.underlying} is long gamma, and {MAY_NOT_SELL}"
        review = self._look(desk, rules, now_ns)
        if not review.offered:
            desk.reviewed_ns = now_ns - rules.review_ns + min(rules.review_ns, RETRY_NS)
            return None
        desk.reviewed_ns = now_ns
        self._reviews[desk.underlying] = review
        return self._offers(desk, review)

    def closing_trades(self, desk: Desk, now_ns: int, reason: str) -> tuple[OptionTrade, ...]:
        """Make what is held the only offer, and return the trades that would close it; they are approved as any other.

        Nothing while an order of the desk's options is under way, and nothing of what has no fresh price of its side.
        """
        rules = self._settings.option_hedges.get(desk.underlying)
        held = {name for name, one in desk.book.option_hedges.items() if one.lots}
        if rules is None or not held or any(one in desk.book.option_hedges for one in self._orders.live_instruments()):
            return ()
        review = self._reviews[desk.underlying] = self._look(desk, rules, now_ns, held)
        to_quote = review.index_px
        trades = []
        for name, one in review.offered.items():
            side = -1 if one.held_base > 0 else 1
            if not one.held_base or (one.buy_max_base if side > 0 else one.sell_max_base) < one.option.lot_size:
                continue
            beyond_px = (
                (one.limit_px(side) - one.prices.mark_px) * side * (to_quote if is_coin_priced(one.option) else 1.0)
            )
            trades.append(OptionTrade(name, -one.held_base, abs(one.held_base) * beyond_px, nan, reason))
        return tuple(trades)

    def approve(
        self, desk: Desk, trade: OptionTrade, now_ns: int, order_id: str, *, is_reduce_only: bool
    ) -> OrderIntent | tuple[Refusal, str]:
        """Return the order of one trade after every limit had its say, or why there is none."""
        review = self._reviews.get(desk.underlying)
        name = trade.instrument_id
        one = review.offered.get(name) if review is not None and review.now_ns == now_ns else None
        if one is None or review is None:
            return Refusal.BAD_TARGET, f"{name} was not offered at this decision"
        if not isfinite(trade.qty_base):
            return Refusal.BAD_TARGET, f"{name}: {trade.qty_base} is no quantity"
        side = 1 if trade.qty_base > 0 else -1
        if is_reduce_only and one.held_base * side >= 0:
            return Refusal.REDUCE_ONLY, f"{name}: {trade.qty_base:+g} would make the position larger"
        if any(live == name for live in self._orders.live_instruments()):
            return Refusal.ORDER_IN_FLIGHT, f"an order on {name} is under way; one at a time"
        block = find_refusing(self._orders, one.option, self._settings.limits.max_reject_streak, now_ns)
        if block is not None:
            return block.refusal, block.why
        allowed = self._lots(review, one, trade, side)
        fits = self._margin_lots(review, one, side, allowed) if isinstance(allowed, int) else allowed
        if isinstance(fits, tuple):
            return fits
        refused = self._limits.refuse_rate(now_ns)
        if refused is not None:
            return Refusal.ORDER_RATE, refused
        lots, is_cut_by_margin = fits, allowed != fits
        base = lots * one.option.lot_size
        if one.held_base * side >= 0:
            premium_quote = review.room.premium_quote - base * review.unit_quote(one, side)
            review.room = Room(
                premium_quote,
                review.room.instruments - (not one.held_base),
                review.room.exposure_quote - base * one.exposure_quote,
            )
        wanted_base = abs(trade.qty_base)
        cut = f", cut from {wanted_base:g}" if base < wanted_base - 0.5 * one.option.lot_size else ""
        cut += " by margin" if is_cut_by_margin else ""
        worth = "" if isnan(trade.benefit_quote) else f", worth {trade.benefit_quote:.2f}"
        return OrderIntent(
            order_id=order_id,
            instrument_id=name,
            qty_lots=side * lots,
            limit_ticks=one.limit_ticks(side),
            time_in_force=TimeInForce.IOC,
            reduce_only=is_reduce_only,
            reason=f"{trade.reason}; costs {trade.cost_quote:.2f}{worth}{cut}",
            reference_px=one.prices.mark_px,
            decided_ns=now_ns,
        )

    def _lots(self, review: Review, one: Offered, trade: OptionTrade, side: int) -> int | tuple[Refusal, str]:
        """Return the lots of one trade that are shown and that what is left of every limit allows."""
        option = one.option
        most_base = one.buy_max_base if side > 0 else one.sell_max_base
        if one.held_base * side >= 0:
            if not one.held_base and review.room.instruments < 1:
                return Refusal.VENUE_LIMIT, f"{option.instrument_id}: as many options are held as may be"
            if side < 0 and not self._rules[option.base].may_sell:
                return Refusal.UNCOVERED_SALE, f"{option.instrument_id}: {MAY_NOT_SELL}"
            unit_quote = review.unit_quote(one, side)
            most_base = min(
                most_base,
                review.room.premium_quote / unit_quote if unit_quote else 0.0,
                _fits(review.room.exposure_quote, one.exposure_quote),
            )
        lots = int(min(abs(trade.qty_base), most_base) / option.lot_size + 1e-9)
        if lots >= option.min_lots:
            return lots
        return Refusal.BELOW_MINIMUM, (
            f"{option.instrument_id}: {abs(trade.qty_base):g} wanted, at most {most_base:g} allowed and shown, "
            f"the smallest order is {option.min_lots * option.lot_size:g}"
        )

    def _margin_lots(self, review: Review, one: Offered, side: int, lots: int) -> int | tuple[Refusal, str]:
        """Return how many of these lots margin at the venue allows, or why fewer than an order needs."""
        option, margin = one.option, self.margin
        if margin is None or not margin.keeps(option.venue):
            return lots
        to_quote = review.index_px if is_coin_priced(option) else 1.0
        row = option_row(
            option,
            one.held_base,
            one.prices.mark_px * to_quote,
            one.quote.forward_px,
            one.quote.mark_vol,
            review.now_ns,
        )
        room = margin.option_room(row, side, lots * option.lot_size, one.limit_px(side) * to_quote)
        free = min(lots, int(min(room.base, MOST_BASE) / option.lot_size + 1e-9))
        if free < lots:
            margin.note_cut(option.venue)
        if free < option.min_lots:
            return margin.refusal_at(option.venue), f"{option.instrument_id}: {room.why}"
        return free

    def note_order(self, holding: OptionHolding, underlying: str) -> None:
        """Remember the quote an order was aimed at: what it showed may be gone."""
        holding.ordered_on = self._reviews[underlying].offered[holding.instrument.instrument_id].quote

    def _look(
        self, desk: Desk, rules: OptionHedgeSettings, now_ns: int, names: Collection[str] | None = None
    ) -> Review:
        """Return every option that may be bought or sold now, or those of `names`, with how much of it."""
        index_px = desk.book.marks_of_underlying.index_px
        review = Review(now_ns, index_px, self._room(desk, rules))
        found = list(self._find_quoted(desk, rules, now_ns, index_px, names))
        every = prices_of_all([(option, quote) for option, quote, _ in found])
        for (option, quote, may_grow), prices in zip(found, every, strict=True):
            holding = desk.book.option_hedges.get(option.instrument_id)
            one = self._offer(option, quote, prices, holding, rules, review, may_grow=may_grow)
            if one.buy_max_base >= option.lot_size or one.sell_max_base >= option.lot_size:
                review.offered[option.instrument_id] = one
        return review

    def _find_quoted(
        self,
        desk: Desk,
        rules: OptionHedgeSettings,
        now_ns: int,
        index_px: float,
        names: Collection[str] | None,
    ) -> Iterator[tuple[Option, VolQuote, bool]]:
        """Yield the options with a fresh quote not traded on yet, and whether a position in them may grow."""
        oldest_ns = now_ns - self._settings.ages.vol_ns
        for name in self._instruments if names is None else sorted(names):
            option = self._instruments[name]
            if not isinstance(option, Option) or option.base != desk.underlying or option.expiry_ns <= now_ns:
                continue
            quote = self._market.vol_quotes[self._market.slot_of[name]]
            if quote is None or quote.ts_event_ns < oldest_ns:
                continue
            holding = desk.book.option_hedges.get(name)
            may_grow = quote.bid_vol > 0.0 and quote.ask_vol - quote.bid_vol <= rules.max_spread_vol
            may_grow = may_grow and is_eligible(rules, option, now_ns, index_px)
            if not (may_grow or (holding is not None and holding.lots)):
                continue
            if self._venues.find_block(option) is None and (holding is None or holding.ordered_on is not quote):
                yield option, quote, may_grow  # of one traded on, what it showed may be gone

    def _offer(
        self,
        option: Option,
        quote: VolQuote,
        prices: OptionPrices,
        holding: OptionHolding | None,
        rules: OptionHedgeSettings,
        review: Review,
        *,
        may_grow: bool,
    ) -> Offered:
        """Return one option with how much of it every limit allows to be bought and sold."""
        held_base = holding.qty if holding is not None else 0.0
        one = Offered(option, quote, prices, held_base, 0.0, 0.0)
        may_grow = may_grow and 0 < prices.bid_ticks < prices.ask_ticks
        most = {}
        for side, size_base, vol in ((1, quote.ask_base, quote.ask_vol), (-1, quote.bid_base, quote.bid_vol)):
            unit_quote = review.unit_quote(one, side)
            # what is further from the mark than any spread we would cross is no price
            if unit_quote <= 0.0 or (vol - quote.mark_vol) * side > rules.max_spread_vol:
                most[side] = 0.0
                continue
            limits = self._settings.limits
            order_quote = min(rules.max_order_quote, limits.max_order_quote)
            most_base = min(size_base, order_quote / unit_quote)
            if limits.max_order_base is not None:
                most_base = min(most_base, limits.max_order_base)
            if held_base * side < 0:
                most_base = min(most_base, abs(held_base))  # an order may close, it does not turn over
            elif side < 0 and not rules.may_sell:
                most_base = 0.0
            elif may_grow and (held_base or review.room.instruments >= 1):
                room_base = rules.max_position_base - abs(held_base)
                most_base = min(most_base, room_base, review.room.premium_quote / unit_quote)
            else:
                most_base = 0.0
            most[side] = max(0.0, (most_base / option.lot_size + 1e-9) // 1 * option.lot_size)
        return one._replace(buy_max_base=most[1], sell_max_base=most[-1])

    def _room(self, desk: Desk, rules: OptionHedgeSettings) -> Room:
        """Return what the premium and the number of the options held leave; orders are under way only elsewhere."""
        book = desk.book
        index_px = book.marks_of_underlying.index_px
        held = [one for one in book.option_hedges.values() if one.lots]
        premium_quote = sum(abs(one.to_quote(one.qty * book.hedge_mark_px(one), index_px)) for one in held)
        return Room(
            max(0.0, rules.max_premium_quote - premium_quote),
            rules.max_instruments - len(held),
            self._exposure_room_quote(rules.venue),
        )

    def exposure_quote(self) -> dict[str, float]:
        """Return what option hedges put at stake by venue, whatever becomes of their orders; of limited venues only."""
        limits = self._settings.venue_limits
        found: dict[str, float] = {}
        if not limits:
            return found
        for desk in self._desks.values():
            for name, one in desk.book.option_hedges.items():
                venue = one.instrument.venue
                if venue not in limits or not (one.lots or one.row != NO_ROW):
                    continue
                low_lots = high_lots = one.lots
                for order in self._orders.live.values():
                    if order.intent.instrument_id == name:
                        low_lots += min(0, order.remaining_lots)
                        high_lots += max(0, order.remaining_lots)
                most_base = max(abs(low_lots), abs(high_lots)) * one.lot_size
                found[venue] = found.get(venue, 0.0) + most_base * desk.book.hedge_exposure_quote(one)
        return found

    def _exposure_room_quote(self, venue: str) -> float:
        """Return what the exposure limit of a venue leaves after all hedges there, in flight included."""
        limit_quote = self._settings.venue_limits.get(venue)
        if limit_quote is None:
            return inf
        linear_quote = 0.0
        for desk in self._desks.values():
            for holding in desk.book.hedges.values():
                if holding.instrument.venue == venue:
                    span = span_of(holding, self._orders)
                    linear_quote += max(abs(span.low_lots), abs(span.high_lots)) * lot_quote(holding)
        return max(0.0, limit_quote - linear_quote - self.exposure_quote().get(venue, 0.0))

    def _offers(self, desk: Desk, review: Review) -> OptionOffers:
        """Return what is offered as a policy sees it, within the limit on deltas."""
        rules = self._rules[desk.underlying]
        market, index_px = self._market, review.index_px
        ones = list(review.offered.values())
        forward_px = np.array([market.forward_of(market.slot_of[one.option.instrument_id]) for one in ones])
        terms = Legs(
            forward_px,
            np.array([one.option.strike_px for one in ones]),
            np.array([(one.option.expiry_ns - review.now_ns) / NS_PER_YEAR for one in ones]),
            np.array([one.quote.mark_vol for one in ones]),
            np.array([one.held_base for one in ones]),
            np.array([one.option.is_call for one in ones], dtype=np.bool_),
        )
        values = greeks(terms.forward_px, terms.strike_px, terms.tau_years, terms.vol, terms.is_call)
        is_far = np.abs(values.delta) > rules.max_delta_ratio
        exposure_quote = np.maximum(np.abs(values.delta) * index_px, values.value).tolist()
        for row, offered in enumerate(ones):
            fits_base = _fits(review.room.exposure_quote, exposure_quote[row])
            most_base = 0.0 if is_far[row] else fits_base // offered.option.lot_size * offered.option.lot_size
            ones[row] = review.offered[offered.option.instrument_id] = offered._replace(
                exposure_quote=exposure_quote[row],  # what makes a position smaller is always allowed
                buy_max_base=offered.buy_max_base if offered.held_base < 0 else min(offered.buy_max_base, most_base),
                sell_max_base=offered.sell_max_base if offered.held_base > 0 else min(offered.sell_max_base, most_base),
            )
        delta = values.delta
        if desk.book.smile is not None:
            index = np.array([market.expiry_of(market.slot_of[one.option.instrument_id]).index for one in ones])
            smile = desk.book.smile.offered_ratio(
                values, terms.strike_px, terms.forward_px, terms.tau_years, terms.is_call, index
            )
            delta = delta if smile is None else delta + smile
        offers = _as_offers(ones, terms, values, delta, index_px, rules, is_coin_numeraire=desk.is_coin_numeraire)
        return msgspec.structs.replace(offers, own_base=desk.book.own_legs_base())


def _fits(room_quote: float, unit_quote: float) -> float:
    """Return how many units of something fit into a room."""
    if room_quote == inf:
        return MOST_BASE
    return min(MOST_BASE, room_quote / unit_quote) if unit_quote > 0.0 else MOST_BASE


def _as_offers(
    ones: list[Offered],
    terms: Legs,
    values: Black76Greeks,
    delta_ratio: NDArray[np.float64],
    index_px: float,
    rules: OptionHedgeSettings,
    *,
    is_coin_numeraire: bool,
) -> OptionOffers:
    """Return the arrays of a policy: costs beyond the mark with the fee in them, deltas with the premium paid.

    `delta_ratio` are the deltas without it, by the model in use.
    """
    costs: dict[int, list[float]] = {1: [], -1: []}
    for one in ones:
        to_quote = index_px if is_coin_priced(one.option) else 1.0
        for side, list_of_side in costs.items():
            px = one.limit_px(side)
            fee = option_fee_settle(one.option, px, 1.0, one.quote.forward_px, rules.taker_bps, rules.fee_cap_fraction)
            list_of_side.append(((px - one.prices.mark_px) * side + fee) * to_quote)
    coins = np.array([one.prices.mark_px if is_coin_priced(one.option) else 0.0 for one in ones])
    delta = delta_ratio - coins
    return OptionOffers(
        tuple(one.option.instrument_id for one in ones),
        np.array(costs[1]),
        np.array(costs[-1]),
        np.array([one.buy_max_base for one in ones]),
        np.array([one.sell_max_base for one in ones]),
        np.array([one.option.lot_size for one in ones]),
        terms.qty_base,
        terms,
        delta,
        values.gamma - delta / index_px if is_coin_numeraire else values.gamma,
        values.vega,
    )
