"""One small vault and a driver that feeds it: the real engine, with every price and every answer chosen by the test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from bot.domain.decisions import HedgePolicy
from bot.domain.events import Command, Event, OperatorAction, OperatorCommand, SubmitOrder
from bot.domain.instruments import Future, Hedgeable, Option, Payoff, Perpetual, TickSchedule
from bot.domain.market import IndexPrice, Quote, Settlement, VolQuote
from bot.domain.orders import (
    Fill,
    FundingPayment,
    Liquidity,
    OrderAccepted,
    OrderCanceled,
    OrderIntent,
    OrderRejected,
    OrderSent,
    TimeInForce,
)
from bot.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_S
from bot.engine.book import UnderlyingBook
from bot.engine.engine import Engine
from bot.engine.market import MarketState
from bot.engine.settings import Ages, BookLeg, EngineSettings, HedgeSettings, Limits
from strategies import DeltaBand

T0_NS = 19_450 * NS_PER_DAY + 9 * NS_PER_HOUR  # 3 April 2023, 09:00 UTC
AGES = Ages(vol_ns=600 * NS_PER_S, quote_ns=60 * NS_PER_S, index_ns=60 * NS_PER_S)
LIMITS = Limits(max_order_quote=1e6, max_orders_per_min=100, daily_loss_quote=1e9)
HALF_SPREAD_PX = 0.05


def linear_perpetual(base: str = "ETH", lot_base: float = 0.1, min_lots: int = 1) -> Perpetual:
    return Perpetual(
        instrument_id=f"{base}-PERPETUAL",
        **_terms(base, settle="USD", payoff=Payoff.LINEAR),
        contract_size=1.0,
        lot_contracts=lot_base,
        min_lots=min_lots,
    )


def inverse_perpetual(base: str = "ETH", lot_quote: float = 10.0) -> Perpetual:
    return Perpetual(
        instrument_id=f"{base}-INVERSE",
        **_terms(base, settle=base, payoff=Payoff.INVERSE),
        contract_size=lot_quote,
        lot_contracts=1.0,
    )


def future(expiry_ns: int, base: str = "ETH", payoff: Payoff = Payoff.LINEAR) -> Future:
    is_inverse = payoff is Payoff.INVERSE
    return Future(
        instrument_id=f"{base}-{(expiry_ns - T0_NS) / NS_PER_DAY:g}D-{payoff}",
        **_terms(base, settle=base if is_inverse else "USD", payoff=payoff),
        contract_size=10.0 if is_inverse else 1.0,
        lot_contracts=1.0 if is_inverse else 0.1,
        expiry_ns=expiry_ns,
    )


def option(
    strike_px: float = 2000.0,
    *,
    is_call: bool = True,
    days: float = 30.0,
    base: str = "ETH",
    settle: str = "",
) -> Option:
    return Option(
        instrument_id=f"{base}-{days:g}D-{strike_px:g}-{'C' if is_call else 'P'}",
        **_terms(base, settle=settle or base, payoff=Payoff.INVERSE),
        contract_size=1.0,
        lot_contracts=1.0,
        strike_px=strike_px,
        expiry_ns=T0_NS + round(days * NS_PER_DAY),
        is_call=is_call,
    )


def _terms(base: str, settle: str, payoff: Payoff) -> dict[str, Any]:
    return {
        "venue": "sim",
        "base": base,
        "quote": "USD",
        "settle": settle,
        "price_currency": "USD",
        "payoff": payoff,
        "tick_schedule": TickSchedule(0.01),
    }


PERPETUAL = linear_perpetual()
INVERSE = inverse_perpetual()
CALL = option(2000.0)
PUT = option(2000.0, is_call=False)


class Feed:
    """Makes market events with a rising sequence number; `now_ns` is the time they happen and arrive at."""

    def __init__(self, now_ns: int = T0_NS) -> None:
        self.now_ns = now_ns
        self._seq = 0

    def wait(self, seconds: float) -> None:
        self.now_ns += round(seconds * NS_PER_S)

    def index(self, px: float, underlying: str = "ETH") -> IndexPrice:
        return IndexPrice(underlying, px, *self._stamp())

    def quote(self, instrument: Hedgeable, mid_px: float, half_spread_px: float = HALF_SPREAD_PX) -> Quote:
        name = instrument.instrument_id
        return Quote(name, mid_px - half_spread_px, 1e6, mid_px + half_spread_px, 1e6, *self._stamp())

    def vol(self, leg: Option, vol: float, forward_px: float) -> VolQuote:
        return VolQuote(leg.instrument_id, vol, 0.0, 0.0, forward_px, *self._stamp())

    def settlement(self, expiry_ns: int, px: float, underlying: str = "ETH") -> Settlement:
        """Return a settlement price; time moves on to the expiry if it has not come yet."""
        self.now_ns = max(self.now_ns, expiry_ns)
        return Settlement(underlying, expiry_ns, px, *self._stamp())

    def sweep(self, instruments: Iterable[Option | Hedgeable], px: float, vol: float) -> list[Event]:
        """Return an index price and a quote of everything, all at one price."""
        instruments = list(instruments)
        events: list[Event] = [self.index(px, base) for base in sorted({one.base for one in instruments})]
        for one in instruments:
            if isinstance(one, Option) and one.expiry_ns <= self.now_ns:
                continue
            events.append(self.vol(one, vol, px) if isinstance(one, Option) else self.quote(one, px))
        return events

    def _stamp(self) -> tuple[int, int, int]:
        self._seq += 1
        return self.now_ns, self.now_ns, self._seq


def apply_market(market: MarketState, events: Iterable[Event]) -> None:
    """Apply market events to a market state without an engine around it."""
    for event in events:
        if isinstance(event, VolQuote):
            market.apply_vol_quote(event)
        elif isinstance(event, Quote):
            market.apply_quote(event)
        elif isinstance(event, IndexPrice):
            market.apply_index(event)


def make_book(
    legs: Iterable[BookLeg], *others: Option | Hedgeable, underlying: str = "ETH", ages: Ages = AGES
) -> UnderlyingBook:
    """Return a book of `legs` with a market that also knows the instruments in `others`."""
    legs = list(legs)
    universe = list(dict.fromkeys([*(leg.instrument for leg in legs), *others]))
    return UnderlyingBook(underlying, MarketState(universe, ages), legs, ages)


def make_settings(
    book: Iterable[BookLeg] = (BookLeg(CALL, -10.0), BookLeg(PUT, -10.0)),
    *,
    hedge: HedgeSettings | Hedgeable = PERPETUAL,
    hedges: dict[str, tuple[HedgeSettings, ...]] | None = None,
    others: Iterable[Option | Hedgeable] = (),
    policy: HedgePolicy | None = None,
    **changes: Any,
) -> EngineSettings:
    """Return the settings of a vault; `hedge` is that of ETH unless `hedges` names all."""
    book = tuple(book)
    if not isinstance(hedge, HedgeSettings):
        hedge = HedgeSettings(instrument=hedge, maker_bps=0.0, taker_bps=5.0)
    hedges = hedges or {"ETH": (hedge,)}
    hedging = [one.instrument for listed in hedges.values() for one in listed]
    instruments = [*(leg.instrument for leg in book), *hedging, *others]
    settings = EngineSettings(
        vault="test",
        run_id="a1b2c3d4e5",
        numeraire="USD",
        policy=policy or DeltaBand(half_width_base=1.0),
        book=book,
        cash={},
        hedges=hedges,
        universe=tuple({one.instrument_id: one for one in instruments}.values()),
        limits=LIMITS,
        ages=AGES,
        gap_ns=600 * NS_PER_S,
    )
    return msgspec.structs.replace(settings, **changes)


class Driver(Feed):
    """Feeds one engine and answers for the venue."""

    def __init__(self, settings: EngineSettings | None = None) -> None:
        super().__init__()
        self.engine = Engine(settings or make_settings())
        self._trades = 0

    def apply(self, *events: Event) -> None:
        for event in events:
            self.engine.apply(event)

    def show(self, px: float = 2000.0, vol: float = 0.6) -> None:
        """Show a fresh quote of every instrument of the vault."""
        self.apply(*self.sweep(self.engine.settings.universe, px, vol))

    def decide(self) -> list[Command]:
        return self.engine.decide(self.now_ns)

    def tick(self, px: float = 2000.0, vol: float = 0.6, after_s: float = 1.0) -> list[Command]:
        """Let time pass, show the market, decide."""
        self.wait(after_s)
        self.show(px, vol)
        return self.decide()

    def operate(self, action: OperatorAction, reason: str = "because") -> None:
        self.apply(OperatorCommand(action, "someone", reason, self.now_ns))

    def send(self, intent: OrderIntent) -> None:
        self.apply(OrderSent(intent.order_id, self.now_ns))

    def accept(self, intent: OrderIntent) -> None:
        self.apply(OrderAccepted(intent.order_id, f"v{intent.order_id}", self.now_ns, self.now_ns))

    def reject(self, intent: OrderIntent) -> None:
        self.apply(OrderRejected(intent.order_id, "no margin", self.now_ns, self.now_ns))

    def cancel(self, intent: OrderIntent, *, is_expired: bool = True) -> None:
        self.apply(OrderCanceled(intent.order_id, is_expired, self.now_ns, self.now_ns))

    def fill(self, intent: OrderIntent, lots: int | None = None, px: float = 2000.0, fee_settle: float = 0.0) -> Fill:
        """Fill an order, wholly unless told; return the fill."""
        self._trades += 1
        fill = make_fill(intent, f"t{self._trades}", lots, px, fee_settle, now_ns=self.now_ns)
        self.apply(fill)
        return fill

    def hedge(self, px: float = 2000.0, vol: float = 0.6, fee_settle: float = 0.0) -> OrderIntent:
        """Show the market, expect one order and fill it at once at `px`."""
        intent = only_intent(self.tick(px, vol))
        self.accept(intent)
        self.fill(intent, px=px, fee_settle=fee_settle)
        return intent

    def fund(self, instrument: Hedgeable, amount_settle: float, payment_id: str = "p1") -> None:
        name = instrument.instrument_id
        self.apply(FundingPayment(payment_id, name, amount_settle, self.now_ns, self.now_ns))


def only_intent(commands: list[Command]) -> OrderIntent:
    """Return the intent of the one command expected."""
    assert len(commands) == 1, f"expected one order, found {commands}"
    assert isinstance(commands[0], SubmitOrder)
    return commands[0].intent


def make_intent(
    lots: int = 10,
    order_id: str = "run-1",
    time_in_force: TimeInForce = TimeInForce.IOC,
    instrument: Hedgeable = PERPETUAL,
    now_ns: int = T0_NS,
) -> OrderIntent:
    return OrderIntent(order_id, instrument.instrument_id, lots, 200_000, time_in_force, False, "test", 2000.0, now_ns)


def make_fill(
    intent: OrderIntent,
    trade_id: str,
    lots: int | None = None,
    px: float = 2000.0,
    fee_settle: float = 0.0,
    now_ns: int = T0_NS,
) -> Fill:
    qty_lots = intent.qty_lots if lots is None else lots
    return Fill(
        trade_id, intent.order_id, intent.instrument_id, qty_lots, px, fee_settle, Liquidity.TAKER, now_ns, now_ns
    )
