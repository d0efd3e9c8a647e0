"""What an order says in lots and ticks, said in the smallest units of two tokens, without a float in between."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import msgspec

from bot.domain.errors import ConfigError
from bot.domain.instruments import Payoff, TickSchedule
from bot.domain.orders import GasBid, OrderIntent, TimeInForce
from bot.domain.units import NS_PER_S
from bot.gateways.chain.nouns import Amounts, Refused
from bot.gateways.chain.settings import HedgeSection

NOTHING: Final = 1e-6
"""Lots a quote shows where nothing can be traded: a quote has sizes, and no order is as small."""


class TradeTerms(msgspec.Struct, frozen=True):
    """The units of one instrument on chain: a lot in smallest units of base, a tick in quote per base.

    `inventory_wei` is what the account has (owes, if negative) of base that is the book's and no hedge.
    """

    instrument_id: str
    base_decimals: int
    quote_decimals: int
    lot_wei: int
    tick_px: Fraction
    inventory_wei: int = 0

    @classmethod
    def of(cls, section: HedgeSection, instrument_id: str, base_decimals: int, quote_decimals: int) -> TradeTerms:
        """Return the terms of a section. Raises ConfigError where a lot is no whole number of smallest units."""
        lot_wei = Fraction(Decimal(repr(section.lot_base))) * 10**base_decimals
        if lot_wei.denominator != 1 or lot_wei <= 0:
            wanted = f"expected lot_base to be a whole number of 1e-{base_decimals}"
            raise ConfigError([f"{instrument_id}: {wanted}, found {section.lot_base!r}"])
        tick_px = Fraction(Decimal(repr(section.tick_px)))
        inventory_wei = int(Decimal(repr(section.inventory_base)).scaleb(base_decimals))
        return cls(instrument_id, base_decimals, quote_decimals, int(lot_wei), tick_px, inventory_wei)

    def base_wei(self, lots: int) -> int:
        """Return how much base as many lots are, whatever their sign."""
        return abs(lots) * self.lot_wei

    def hedge_lots(self, position_wei: int) -> int:
        """Return the hedge in whole lots, towards zero: the position without what is the book's."""
        return self.lots(position_wei - self.inventory_wei)

    def lots(self, base_wei: int) -> int:
        """Return how many whole lots an amount of base is, towards zero."""
        whole = abs(base_wei) // self.lot_wei
        return -whole if base_wei < 0 else whole

    def base(self, base_wei: int) -> float:
        """Return an amount of base in whole coins."""
        return float(base_wei / 10**self.base_decimals)

    def quote(self, quote_wei: int) -> float:
        """Return an amount of quote in whole money."""
        return float(quote_wei / 10**self.quote_decimals)

    def px(self, base_wei: int, quote_wei: int) -> float:
        """Return the price of a trade from its two amounts."""
        return self.quote(abs(quote_wei)) / self.base(abs(base_wei))

    def bound_quote_wei(self, intent: OrderIntent) -> int:
        """Return the least quote a sale must bring, or the most a purchase may cost, at the order's limit."""
        px = intent.limit_ticks * self.tick_px * Fraction(10) ** (self.quote_decimals - self.base_decimals)
        bound = self.base_wei(intent.qty_lots) * px
        return math.ceil(bound) if intent.qty_lots < 0 else math.floor(bound)

    def within_limit(self, intent: OrderIntent, moved: Amounts) -> int:
        """Return the bound of quote. Raises Refused if what would move, with fees, is worse than the order's limit."""
        bound = self.bound_quote_wei(intent)
        is_sale = intent.qty_lots < 0
        if moved.net_quote_wei < (bound if is_sale else -bound):
            raise Refused(
                f"expected to {'sell' if is_sale else 'buy'} {self.base(abs(moved.base_wei)):g} at "
                f"{float(intent.limit_ticks * self.tick_px):g} or better, "
                f"found {self.px(moved.base_wei, moved.net_quote_wei):.6f} in the newest state"
            )
        return bound

    def checked(self, intent: OrderIntent) -> GasBid:
        """Return the gas an order may pay. Raises Refused if it is none that a transaction can carry out."""
        if intent.instrument_id != self.instrument_id:
            raise Refused(f"expected an order for {self.instrument_id}, found one for {intent.instrument_id}")
        if intent.qty_lots == 0:
            raise Refused("expected an order for one lot at least, found 0 lots")
        if intent.time_in_force is not TimeInForce.IOC or intent.limit_ticks <= 0:
            raise Refused(
                f"expected an ioc order with a limit, found {intent.time_in_force} at {intent.limit_ticks} ticks; "
                "hint: on chain a trade without a limit is filled at any price"
            )
        if intent.gas is None:
            raise Refused("expected the order to say what gas may cost and until when it holds, found neither")
        return intent.gas


def deadline_s(gas: GasBid) -> int:
    """Return the chain's time in whole seconds after which a transaction must do nothing."""
    return gas.deadline_ns // NS_PER_S


def gas_limit(units: int, margin: float) -> int:
    """Return the limit of a transaction that typically uses `units`: times the margin, rounded up."""
    return math.ceil(units * margin)


def contracts_of(section: HedgeSection, roles: tuple[str, ...]) -> dict[str, str]:
    """Return the contracts a protocol needs by role. Raises ConfigError that names all that are missing."""
    missing = [role for role in roles if not section.contracts.get(role)]
    if missing:
        raise ConfigError(
            [f"{section.name}: expected contracts for {', '.join(roles)}, found none for {', '.join(missing)}"]
        )
    return {role: section.contracts[role] for role in roles}


def linear_terms(section: HedgeSection, venue: str) -> dict[str, Any]:
    """Return the fields of a section's instrument: linear, counted in base, its costs inside the price."""
    return {
        "instrument_id": f"{venue}:{section.name}",
        "venue": venue,
        "base": section.underlying,
        "quote": section.quote,
        "settle": section.quote,
        "price_currency": section.quote,
        "payoff": Payoff.LINEAR,
        "contract_size": 1.0,
        "lot_contracts": section.lot_base,
        "tick_schedule": TickSchedule(section.tick_px),
        "taker_bps": 0.0,
        "maker_bps": 0.0,
    }
