"""A vault that may trade listed options as hedges, a policy that asks for positions, and quotes with two sides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from bot.domain.decisions import HedgeTarget, HedgeView, OptionTrade
from bot.domain.events import Command, SubmitOrder
from bot.domain.instruments import Option, Payoff, TickSchedule
from bot.domain.market import VolQuote
from bot.domain.orders import OrderIntent
from bot.domain.units import NS_PER_S
from bot.engine.desk import Desk
from bot.engine.option_holding import OptionHolding
from bot.engine.settings import BookLeg, OptionHedgeSettings
from tests.engine.builders import PERPETUAL, Driver, linear_perpetual, make_settings, option

COIN_TICKS = TickSchedule(0.0005)


def coin_option(strike_px: float = 2000.0, *, is_call: bool = True, days: float = 30.0, base: str = "ETH") -> Option:
    """Return an option as Deribit lists them: priced and settled in its coin."""
    listed = option(strike_px, is_call=is_call, days=days, base=base)
    return msgspec.structs.replace(listed, price_currency=base, tick_schedule=COIN_TICKS)


def money_option(strike_px: float = 2000.0, days: float = 30.0) -> Option:
    """Return an option that is priced and settled in quote money."""
    listed = option(strike_px, days=days, settle="USD")
    return msgspec.structs.replace(listed, instrument_id=f"ETH_USD-{days:g}D-{strike_px:g}-C", payoff=Payoff.LINEAR)


BOOK_CALL = coin_option(2000.0)
CALL = coin_option(2100.0)
PUT = coin_option(1900.0, is_call=False)
MONEY_CALL = money_option(2100.0)
RULES = OptionHedgeSettings(
    venue="sim",
    taker_bps=3.0,
    max_position_base=50.0,
    max_order_quote=1e6,
    max_premium_quote=1e6,
    review_ns=10 * NS_PER_S,
    max_spread_vol=0.06,
    may_sell=True,
)


class Asking:
    """A policy that wants given positions in options, as far as they are on offer, and a band on net delta."""

    name = "asking"
    needs_offers = True

    def __init__(self, wanted: Mapping[str, float], half_base: float = 1e9) -> None:
        self.wanted = dict(wanted)
        self.half_base = half_base
        self.views: list[HedgeView] = []

    def target(self, view: HedgeView) -> HedgeTarget:
        """Return a band, and a trade of each option that is not where it should be."""
        self.views.append(view)
        trades = []
        if view.offers is not None:
            held = dict(zip(view.offers.instrument_ids, view.offers.held_base.tolist(), strict=True))
            trades = [
                OptionTrade(name, qty - held[name], 1.0, 2.0, "as asked")
                for name, qty in self.wanted.items()
                if name in held and qty != held[name]
            ]
        band = HedgeTarget.to_edge(-self.half_base, self.half_base, "as wide as asked")
        return msgspec.structs.replace(band, options=tuple(trades))


class OptionDriver(Driver):
    """Feeds a vault whose options are quoted on both sides, 100 base each, 4 points of vol apart."""

    def __init__(
        self,
        wanted: Mapping[str, float],
        *,
        rules: OptionHedgeSettings = RULES,
        half_base: float = 1e9,
        qty_base: float = -10.0,
        book_option: Option = BOOK_CALL,
        more: tuple[Option, ...] = (),
        **changes: Any,
    ) -> None:
        self.policy = Asking(wanted, half_base)
        settings = make_settings(
            (BookLeg(book_option, qty_base),),
            others=(CALL, PUT, MONEY_CALL, *more),
            policy=self.policy,
            option_hedges={"ETH": rules},
            **changes,
        )
        super().__init__(settings)
        self.size_base = 100.0
        self.half_vol = 0.02

    def vol(self, leg: Option, vol: float, forward_px: float) -> VolQuote:
        name, size = leg.instrument_id, self.size_base
        sides = (vol - self.half_vol, vol + self.half_vol)
        return VolQuote(name, vol, *sides, forward_px, *self._stamp(), size, size)

    @property
    def desk(self) -> Desk:
        return self.engine.desks["ETH"]

    def held(self, name: str = CALL.instrument_id) -> OptionHolding:
        return self.desk.book.option_hedges[name]

    def review(self, px: float = 2000.0, vol: float = 0.6) -> list[OrderIntent]:
        """Let a review pass; return the orders of options."""
        return options_of(self.tick(px, vol, after_s=11.0))

    def show_only_the_book(self, px: float = 2000.0, vol: float = 0.6, after_s: float = 0.0) -> None:
        """Let time pass, then show the index, the perpetual and the option of the book, and nothing else."""
        self.wait(after_s)
        self.apply(self.index(px), self.quote(self.desk.settings.instrument, px), self.vol(BOOK_CALL, vol, px))

    def buy(self, fee_settle: float = 0.0, lots: int | None = None) -> OrderIntent:
        """Expect one order of an option and fill it at its limit."""
        (intent,) = self.review()
        self.accept(intent)
        self.fill(intent, lots, px=intent.limit_ticks * COIN_TICKS.tick_px, fee_settle=fee_settle)
        return intent


def options_of(commands: list[Command]) -> list[OrderIntent]:
    """Return the orders that are not of the perpetual."""
    intents = [command.intent for command in commands if isinstance(command, SubmitOrder)]
    return [
        one for one in intents if one.instrument_id not in (PERPETUAL.instrument_id, linear_perpetual().instrument_id)
    ]
