"""What a venue's markets and market data say, turned into our words: numbers checked, units made ours.

`MarketWords` speaks ccxt's unified words, which fit any exchange; a venue's own class (as in
`bot.gateways.deribit.market`) overrides where the venue says more, or says it differently. It must never guess a value
the venue did not give, and never raise on what a venue sends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar, Final, NamedTuple

import ccxt.pro

from bot.domain.instruments import Instrument, TickSchedule, TickStep
from bot.domain.units import BPS, NS_PER_MS

Raw = Mapping[str, Any]
"""A dict of ccxt's or the venue's, of which nothing is sure but that it is one."""

CONTRACT_TYPES: Final = ("swap", "future", "option")
LATEST_MS: Final = 10**14  # of believable times: the year 5138


class Sort(StrEnum):
    """What a stream tells: best bid and ask, the vols of options, or the index of an underlying."""

    QUOTES = "quotes"
    VOLS = "vols"
    INDEX = "index"


class Subscription(NamedTuple):
    """The method of ccxt that streams something, where ccxt keeps what came, and whether it takes many symbols."""

    method: str
    cache: str
    takes_many: bool = True


class Sides(NamedTuple):
    """A best bid and ask as a venue tells them, in ccxt's amounts; nothing is checked yet."""

    bid_px: object
    bid_amount: object
    ask_px: object
    ask_amount: object
    ts_ms: object


class Vols(NamedTuple):
    """Vols of an option as a venue tells them, in its own unit, and the forward; nothing is checked yet.

    The sizes are those at the best bid and ask, in base units; None where the venue does not tell them so.
    """

    mark_vol: object
    bid_vol: object
    ask_vol: object
    forward_px: object
    ts_ms: object
    bid_base: object = None
    ask_base: object = None


def number(value: object) -> float | None:
    """Return a finite number of a JSON value (text too, as venues send), or None if it is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        parsed = float(value)
    except (ValueError, OverflowError):
        return None
    return parsed if math.isfinite(parsed) else None


def positive(value: object) -> float | None:
    """Return a finite number above 0, or None."""
    parsed = number(value)
    return parsed if parsed is not None and parsed > 0 else None


def event_ns(ts_ms: object, recv_ns: int) -> int:
    """Return the venue's time, or that of receipt where the venue gives none that can be believed."""
    stamp = whole(ts_ms)
    return stamp * NS_PER_MS if stamp is not None and 0 < stamp < LATEST_MS else recv_ns


def whole(value: object) -> int | None:
    """Return an integer of a JSON value (a whole float or text too), or None if it is not one."""
    parsed = number(value)
    return int(parsed) if parsed is not None and parsed == int(parsed) else None


def part(value: object, key: str | int) -> Any:  # noqa: ANN401
    """Return `value[key]` of a dict or list, None where there is no such thing."""
    if isinstance(value, Mapping):
        return value.get(key)
    if isinstance(value, list | tuple) and isinstance(key, int) and -len(value) <= key < len(value):
        return value[key]
    return None


def tick_schedule(tick_px: object, steps: tuple[tuple[object, object], ...] = ()) -> TickSchedule | None:
    """Return the schedule of a finest tick and (from price, tick there) steps; None unless all fit the finest tick."""
    finest = positive(tick_px)
    if finest is None:
        return None
    schedule: list[TickStep] = []
    for from_px, coarser in steps:
        start, tick = positive(from_px), positive(coarser)
        if start is None or tick is None:
            return None
        size = Decimal(str(tick)) / Decimal(str(finest))
        if size != int(size):
            return None
        schedule.append(TickStep(start, int(size)))
    return TickSchedule(finest, tuple(sorted(schedule, key=lambda step: step.from_px)))


class MarketWords:
    """The unified words of ccxt: what any exchange says about its markets."""

    vol_unit: ClassVar[float] = 1.0  # a vol of 1 in the venue's words is this, as a fraction
    chain_tells_all: ClassVar[bool] = False  # one request tells the vols of all options of an underlying
    tells_fees: ClassVar[bool] = False  # else ccxt's market fees are a table somebody typed in, not the venue's word
    spot_shares_ids: ClassVar[bool] = False  # whether spot and contracts are listed under the same id
    settlement_window_s: ClassVar[float] = 0.0  # options settle at the average of so long, and forwards are of it then

    def is_plain(self, market: Raw) -> bool:
        """Tell whether a market is one instrument that we know the kind of, not a combination of several."""
        return market.get("type") == "spot" or market.get("type") in CONTRACT_TYPES

    def native_id(self, market: Raw) -> str:
        """Return the venue's own name of a market: what people write in vault files."""
        return str(market["symbol"] if self.spot_shares_ids and market.get("type") == "spot" else market["id"])

    def contract_size(self, market: Raw) -> float | None:
        """Return what one contract is, in base units (quote for inverse futures); 1 for spot."""
        return 1.0 if market.get("type") == "spot" else positive(market.get("contractSize"))

    def contract_amount(self, market: Raw) -> float | None:  # noqa: ARG002
        """Return ccxt's amount of one contract: 1 where ccxt counts contracts, else the contract's size."""
        return 1.0

    def price_currency(self, market: Raw) -> str | None:
        """Return what prices are told in; None for inverse options, of which venues differ."""
        is_inverse_option = market.get("type") == "option" and market.get("inverse")
        return None if is_inverse_option else str(market["quote"])

    def tick_schedule(self, market: Raw) -> TickSchedule | None:
        """Return the prices a market allows."""
        return tick_schedule(part(market.get("precision"), "price"))

    def fees_bps(self, market: Raw) -> tuple[float | None, float | None]:
        """Return taker and maker fee, None unless the venue itself tells them."""
        if not self.tells_fees:
            return None, None
        taker, maker = number(market.get("taker")), number(market.get("maker"))
        return (
            None if taker is None else round(taker / BPS, 9),
            None if maker is None else round(maker / BPS, 9),
        )

    def subscription(self, sort: Sort, exchange: ccxt.pro.Exchange) -> Subscription | None:
        """Return how something is streamed, None where it must be asked for. Whole messages before differences."""
        has = exchange.has
        if sort is Sort.QUOTES and has.get("watchBidsAsks") is True:
            return Subscription("watch_bids_asks", "bidsasks")
        if sort is Sort.QUOTES and has.get("watchOrderBook") is True:
            return Subscription("watch_order_book", "orderbooks", takes_many=False)
        return None

    def tells(self, sort: Sort, exchange: ccxt.pro.Exchange) -> bool:
        """Tell whether the venue can be asked for it at all."""
        if sort is Sort.VOLS:
            return False  # unified Greeks are percent on one venue and fractions on the next
        has = exchange.has
        if sort is Sort.QUOTES:
            return bool(has.get("fetchTicker") or has.get("fetchOrderBook"))
        return bool(has.get("fetchFundingRate"))

    async def ask(self, sort: Sort, exchange: ccxt.pro.Exchange, symbol: str) -> Raw:
        """Ask for what a stream would tell. Raises what ccxt raises."""
        if sort is Sort.INDEX:
            return _dict(await exchange.fetch_funding_rate(symbol))
        if exchange.has.get("fetchOrderBook"):
            return _dict(await exchange.fetch_order_book(symbol, 5))
        return _dict(await exchange.fetch_ticker(symbol))

    def sides(self, raw: Raw) -> Sides:
        """Return the best bid and ask of a ticker or of an order book."""
        stamp = raw.get("timestamp")
        if "bids" not in raw:
            return Sides(raw.get("bid"), raw.get("bidVolume"), raw.get("ask"), raw.get("askVolume"), stamp)
        bid, ask = part(raw.get("bids"), 0), part(raw.get("asks"), 0)
        return Sides(part(bid, 0), part(bid, 1), part(ask, 0), part(ask, 1), stamp)

    def vols(self, raw: Raw) -> Vols:
        """Return the vols of an option; the unified words have none that can be trusted."""
        return Vols(None, None, None, None, raw.get("timestamp"))

    def index(self, raw: Raw) -> tuple[object, object]:
        """Return the index price and its time in milliseconds."""
        return raw.get("indexPrice"), raw.get("timestamp")

    async def chain(self, exchange: ccxt.pro.Exchange, options: Sequence[Raw]) -> dict[str, Raw]:  # noqa: ARG002
        """Return symbol → vols for all options beside these markets, in as few requests as can be."""
        return {}

    async def funding(self, exchange: ccxt.pro.Exchange, symbol: str, since_ms: int) -> list[tuple[object, object]]:
        """Return (rate, time in milliseconds) of every funding paid since. Raises what ccxt raises."""
        if not exchange.has.get("fetchFundingRateHistory"):
            return []
        found = await exchange.fetch_funding_rate_history(symbol, since_ms)
        return [self.funding_rate(entry) for entry in found if isinstance(entry, Mapping)]

    def funding_rate(self, raw: Raw) -> tuple[object, object]:
        """Return rate and time in milliseconds of one entry of the funding history."""
        return raw.get("fundingRate"), raw.get("timestamp")

    async def settlement_px(
        self,
        exchange: ccxt.pro.Exchange,  # noqa: ARG002
        instrument: Instrument,  # noqa: ARG002
        market: Raw,  # noqa: ARG002
    ) -> object:
        """Return the final price of an expired instrument, None while the venue has none. Raises what ccxt raises."""
        return None


class TickerWords(MarketWords):
    """The words of a venue whose ticker tells everything that is asked for."""

    def tells(self, sort: Sort, exchange: ccxt.pro.Exchange) -> bool:  # noqa: ARG002
        """Tell that the ticker has everything."""
        return True

    async def ask(self, sort: Sort, exchange: ccxt.pro.Exchange, symbol: str) -> Raw:  # noqa: ARG002
        """Ask for the ticker. Raises what ccxt raises."""
        return _dict(await exchange.fetch_ticker(symbol))


def _dict(value: object) -> Raw:
    return value if isinstance(value, Mapping) else {}
