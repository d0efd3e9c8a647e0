"""The markets of one venue as our instruments, and back: ids, symbols, lots and ccxt's amounts.

A market that lacks a value an order or a valuation needs is left out and named in `Markets.unusable`; nothing is ever
guessed. Amounts are made in decimals, because ccxt cuts off what is below a lot: 0.28999999999999998 would be 0.28.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple, Self

import ccxt
import ccxt.pro

from bot.domain.instruments import Future, Instrument, Option, Payoff, Perpetual, Spot, contract_of
from bot.domain.units import NS_PER_MS
from bot.gateways.binance.market import BinanceMarketWords
from bot.gateways.bybit.market import BybitMarketWords
from bot.gateways.deribit.market import DeribitMarketWords
from bot.gateways.derive.market import DeriveMarketWords
from bot.gateways.hyperliquid.market import HyperliquidMarketWords
from bot.gateways.market_words import MarketWords, Raw, part, positive, whole
from bot.gateways.okx.market import OkxMarketWords

QUOTES: Final = frozenset({"USD", "USDC", "USDT"})
WORDS: Final[dict[str, type[MarketWords]]] = {
    "binance": BinanceMarketWords,
    "binancecoinm": BinanceMarketWords,
    "binanceusdm": BinanceMarketWords,
    "bybit": BybitMarketWords,
    "deribit": DeribitMarketWords,
    "derive": DeriveMarketWords,
    "hyperliquid": HyperliquidMarketWords,
    "okx": OkxMarketWords,
}


class MarketChanges(NamedTuple):
    """What a reload found: new instruments, and (id, reason) of those nothing may be traded on any more."""

    listed: tuple[Instrument, ...]
    delisted: tuple[tuple[str, str], ...]


class Markets:
    """The instruments of one venue on the wanted underlyings.

    `instruments` are those listed now; the conversions also know those that expired or were delisted, whose positions
    and orders may live on. `unusable` says why a market was left out.
    """

    def __init__(self, venue: str, underlyings: frozenset[str], words: MarketWords, prefix: str = "") -> None:
        self.venue = venue
        self.underlyings = underlyings
        self.words = words
        self.prefix = prefix
        self.instruments: tuple[Instrument, ...] = ()
        self.unusable: dict[str, str] = {}
        self._known: dict[str, Instrument] = {}
        self._symbols: dict[str, str] = {}
        self._ids: dict[str, str] = {}
        self._raw: dict[str, Raw] = {}
        self._lot_amounts: dict[str, Decimal] = {}
        self._withdrawn: set[str] = set()

    @classmethod
    async def load(cls, exchange: ccxt.pro.Exchange, venue: str, underlyings: frozenset[str], prefix: str = "") -> Self:
        """Ask the venue for its markets; `prefix` goes before every instrument id. Raises what ccxt raises."""
        markets = cls(venue, underlyings, market_words_of(exchange.id), prefix)
        await exchange.load_markets()
        markets.update(exchange.markets.values(), exchange.precisionMode)
        return markets

    async def reload(self, exchange: ccxt.pro.Exchange) -> MarketChanges:
        """Ask the venue again, and return what changed. Raises what ccxt raises; nothing has changed then."""
        await exchange.load_markets(reload=True)
        return self.update(exchange.markets.values(), exchange.precisionMode)

    def update(self, listing: Iterable[Raw], precision_mode: int = ccxt.TICK_SIZE) -> MarketChanges:
        """Take in ccxt's markets as they are now; an instrument whose contract changed is withdrawn for good."""
        fresh: dict[str, tuple[Instrument, str, Decimal]] = {}
        raw: dict[str, Raw] = {}
        self.unusable = {}
        for market in filter(self._is_wanted, listing):
            instrument_id = self.prefix + self.words.native_id(market)
            found = self._read(instrument_id, market, precision_mode)
            if isinstance(found, str):
                self.unusable[instrument_id] = found
            elif instrument_id in fresh:
                self.unusable[instrument_id] = f"two markets have this id: {fresh[instrument_id][1]}, {found[1]}"
            else:
                fresh[instrument_id] = found
                raw[instrument_id] = market
        for instrument_id in self.unusable:
            fresh.pop(instrument_id, None)
        delisted = [(i.instrument_id, reason) for i in self.instruments if (reason := self._loss(i, fresh))]
        self._withdrawn.update(i for i, _ in delisted if i in fresh)
        before = {i.instrument_id for i in self.instruments}
        now = {i: found for i, found in fresh.items() if i not in self._withdrawn}
        self.instruments = tuple(instrument for instrument, _, _ in now.values())
        for instrument_id, (instrument, symbol, lot_amount) in now.items():
            self._known[instrument_id] = instrument
            self._symbols[instrument_id] = symbol
            self._ids[symbol] = instrument_id
            self._raw[instrument_id] = raw[instrument_id]
            self._lot_amounts[instrument_id] = lot_amount
        listed = tuple(instrument for instrument_id, (instrument, _, _) in now.items() if instrument_id not in before)
        return MarketChanges(listed, tuple(delisted))

    def symbol_of(self, instrument_id: str) -> str:
        """Return ccxt's symbol of an instrument; raises KeyError if the venue never listed it."""
        return self._symbols[instrument_id]

    def symbol_or_none(self, instrument_id: str) -> str | None:
        """Return ccxt's symbol of an instrument, or None if the venue never listed it."""
        return self._symbols.get(instrument_id)

    def market_of(self, instrument_id: str) -> Raw:
        """Return ccxt's market of an instrument; raises KeyError if the venue never listed it."""
        return self._raw[instrument_id]

    def instrument_of(self, symbol: str) -> Instrument | None:
        """Return the instrument of ccxt's symbol, or None if it is not one of ours."""
        instrument_id = self._ids.get(symbol)
        return None if instrument_id is None else self._known[instrument_id]

    def get(self, instrument_id: str) -> Instrument | None:
        """Return an instrument by its id, listed now or earlier, or None."""
        return self._known.get(instrument_id)

    def lots_of(self, instrument: Instrument, amount: float) -> int:
        """Return the whole lots nearest to ccxt's `amount` (the unit of its orders and trades), sign kept."""
        return round(Decimal(str(amount)) / self._lot_amounts[instrument.instrument_id])

    def amount_of(self, instrument: Instrument, lots: int) -> float:
        """Return the amount of `lots` as ccxt's create_order wants it."""
        return float(self._lot_amounts[instrument.instrument_id] * lots)

    def base_of(self, instrument: Instrument, amount: float, px: float) -> float:
        """Return what ccxt's `amount` at `px` is in base units, as the sizes of a `Quote` are."""
        lots = amount / float(self._lot_amounts[instrument.instrument_id])
        return lots * instrument.lot_base(px)

    def _is_wanted(self, market: Raw) -> bool:
        is_ours = market.get("base") in self.underlyings and market.get("quote") in QUOTES
        return is_ours and market.get("active") is not False and self.words.is_plain(market)

    def _loss(self, held: Instrument, fresh: Mapping[str, tuple[Instrument, str, Decimal]]) -> str:
        """Return why nothing may be traded on `held` any more, or ""."""
        found = fresh.get(held.instrument_id)
        if found is None:
            return self.unusable.get(held.instrument_id, f"{self.venue} does not list it any more")
        was, now = contract_of(held), contract_of(found[0])
        changed = [f"{name} was {was[name]}, is {now.get(name)}" for name in was if was[name] != now.get(name)]
        return "; ".join(changed)

    def _read(self, instrument_id: str, market: Raw, precision_mode: int) -> tuple[Instrument, str, Decimal] | str:
        """Return a market's instrument, symbol and ccxt's amount of a lot, or why there is none."""
        if precision_mode != ccxt.TICK_SIZE:
            return f"expected precision in ticks, found ccxt's mode {precision_mode}"
        words, is_spot = self.words, market.get("type") == "spot"
        amount_step = positive(part(market.get("precision"), "amount"))
        contract_amount = words.contract_amount(market)
        needed = {
            "contract size": words.contract_size(market),
            "amount of a contract": contract_amount,
            "amount step": amount_step,
            "tick": words.tick_schedule(market),
            "settlement currency": market["quote"] if is_spot else market.get("settle"),
            "currency of its price": words.price_currency(market),
            "payoff": _payoff(market),
        }
        if missing := [name for name, value in needed.items() if value is None]:
            return f"expected its {', '.join(missing)}, found none"
        lot_amount = Decimal(str(amount_step))
        least = positive(part(part(market.get("limits"), "amount"), "min"))
        taker_bps, maker_bps = words.fees_bps(market)
        terms: dict[str, Any] = {
            "instrument_id": instrument_id,
            "venue": self.venue,
            "base": market["base"],
            "quote": market["quote"],
            "settle": needed["settlement currency"],
            "price_currency": needed["currency of its price"],
            "payoff": needed["payoff"],
            "contract_size": needed["contract size"],
            "lot_contracts": float(lot_amount / Decimal(str(contract_amount))),
            "tick_schedule": needed["tick"],
            "min_lots": 1 if least is None else math.ceil(Decimal(str(least)) / lot_amount),
            "min_quote": positive(part(part(market.get("limits"), "cost"), "min")) or 0.0,
            "taker_bps": taker_bps,
            "maker_bps": maker_bps,
        }
        instrument = _instrument(market, terms, words.settlement_window_s)
        return instrument if isinstance(instrument, str) else (instrument, str(market["symbol"]), lot_amount)


def market_words_of(exchange_id: str) -> MarketWords:
    """Return the words of a ccxt exchange: its own where we know them, ccxt's unified ones otherwise."""
    return WORDS.get(exchange_id, MarketWords)()


def _payoff(market: Raw) -> Payoff | None:
    """Return the payoff; None for quantos, which settle in neither currency of their price."""
    if market.get("type") == "spot" or market.get("linear"):
        return Payoff.LINEAR
    is_inverse = market.get("inverse") and market.get("settle") == market.get("base")
    return Payoff.INVERSE if is_inverse else None


def _instrument(market: Raw, terms: dict[str, Any], window_s: float) -> Instrument | str:
    """Return the instrument of a market's own kind, or what it lacks."""
    kind = market.get("type")
    if kind == "spot":
        return Spot(**terms)
    if kind == "swap":
        return Perpetual(**terms)
    expiry_ms = whole(market.get("expiry"))
    if expiry_ms is None or expiry_ms <= 0:
        return "expected its expiry, found none"
    if kind == "future":
        return Future(**terms, expiry_ns=expiry_ms * NS_PER_MS)
    strike_px, side = positive(market.get("strike")), market.get("optionType")
    if strike_px is None or side not in {"call", "put"}:
        return "expected its strike, and whether it is a call or a put, found none"
    terms |= {"strike_px": strike_px, "expiry_ns": expiry_ms * NS_PER_MS, "is_call": side == "call"}
    return Option(**terms, settlement_window_s=window_s)
