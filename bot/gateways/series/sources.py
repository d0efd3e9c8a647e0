"""Which series are read and where, as an operator writes it, and the readers that come of it.

Keys come from the environment and nowhere else; a source that lacks its key is read as one that is down, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import ccxt.pro
import msgspec

from bot.domain.units import NS_PER_S
from bot.gateways.series.deribit_volatility import DERIBIT_URL, DeribitVolatility
from bot.gateways.series.derivatives import FundingRates, OpenInterest
from bot.gateways.series.fetching import JsonPages
from bot.gateways.series.fred import FRED_URL, FredSeries
from bot.gateways.series.reader import Reader
from bot.gateways.series.stablecoins import LLAMA_URL, StablecoinSupply


class SourceKind(StrEnum):
    """Where a series comes from."""

    FRED = "fred"
    DERIBIT_VOLATILITY = "deribit_volatility"
    FUNDING = "funding"
    OPEN_INTEREST = "open_interest"
    STABLECOINS = "stablecoins"


class SeriesSource(msgspec.Struct, frozen=True, kw_only=True):
    """One source. `of` is the series id (FRED) or the currency; funding and open interest need `venue` and `symbol`.

    `base_url` is for mirrors; `key_variable` names the environment variable that holds the key. `pace_s` 0 is the
    kind's own.
    """

    kind: SourceKind
    of: str = ""
    venue: str = ""
    symbol: str = ""
    base_url: str = ""
    key_variable: str = "FRED_API_KEY"
    pace_s: float = 0.0


def make_readers(
    sources: tuple[SeriesSource, ...],
    pages: JsonPages,
    exchanges: Mapping[str, ccxt.pro.Exchange],
    environment: Mapping[str, str],
) -> tuple[Reader, ...]:
    """Return a reader per source. Raises ValueError, in one sentence, for a source that lacks what its kind needs."""
    return tuple(_make_reader(source, pages, exchanges, environment) for source in sources)


def _make_reader(
    source: SeriesSource,
    pages: JsonPages,
    exchanges: Mapping[str, ccxt.pro.Exchange],
    environment: Mapping[str, str],
) -> Reader:
    pace = {"pace_ns": int(source.pace_s * NS_PER_S)} if source.pace_s > 0.0 else {}
    if source.kind is SourceKind.STABLECOINS:
        return StablecoinSupply(pages, base_url=source.base_url or LLAMA_URL, **pace)
    if not source.of:
        raise ValueError(f"series of kind {source.kind}: expected `of`, the id or currency, found none")
    if source.kind is SourceKind.FRED:
        key = environment.get(source.key_variable, "")
        return FredSeries(pages, source.of, key, base_url=source.base_url or FRED_URL, **pace)
    if source.kind is SourceKind.DERIBIT_VOLATILITY:
        return DeribitVolatility(pages, source.of, base_url=source.base_url or DERIBIT_URL, **pace)
    exchange = exchanges.get(source.venue)
    if exchange is None or not source.symbol:
        known = ", ".join(exchanges) or "none"
        raise ValueError(
            f"series of kind {source.kind} of {source.of}: expected a venue of {known} and a symbol, "
            f"found {source.venue!r} and {source.symbol!r}"
        )
    if source.kind is SourceKind.FUNDING:
        return FundingRates(exchange, source.symbol, source.of, **pace)
    interest = OpenInterest(exchange, source.symbol, source.of)
    interest.pace_ns = pace.get("pace_ns", interest.pace_ns)
    return interest
