"""Funding rates and open interest of a venue's perpetual through ccxt, as far back as the venue remembers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import ccxt.pro

from bot.domain.risk import SeriesValue
from bot.domain.units import NS_PER_HOUR, NS_PER_MIN, NS_PER_MS
from bot.gateways.market_words import number
from bot.gateways.outcomes import text_of
from bot.gateways.sending import cancellable
from bot.gateways.series.fetching import SeriesDown
from bot.gateways.series.reader import value_of

_PAGE: Final = 100
_MAX_PAGES: Final = 20
_TIMEFRAMES: Final = {"5m": 5 * NS_PER_MIN, "15m": 15 * NS_PER_MIN, "1h": NS_PER_HOUR, "4h": 4 * NS_PER_HOUR}


class FundingRates:
    """The rate of each funding interval, called FUNDING-<name>, as a share of notional; known when it is paid."""

    def __init__(self, exchange: ccxt.pro.Exchange, symbol: str, name: str, *, pace_ns: int = 10 * NS_PER_MIN) -> None:
        self.name = f"FUNDING-{name}"
        self.pace_ns = pace_ns
        self._exchange = exchange
        self._symbol = symbol

    async def read(self, since_ns: int, now_ns: int) -> Sequence[SeriesValue]:
        """Return every rate since then."""
        if not self._exchange.has.get("fetchFundingRateHistory"):
            raise SeriesDown(f"{self.name}: ccxt cannot ask {self._exchange.id} for past funding")
        found: dict[int, SeriesValue] = {}
        from_ms = max(0, since_ns) // NS_PER_MS
        for _ in range(_MAX_PAGES):
            rows = await _asked(self, self._exchange.fetch_funding_rate_history(self._symbol, from_ms, _PAGE))
            newest_ms = from_ms
            for row in rows:
                rate, stamp = number(row.get("fundingRate")), number(row.get("timestamp"))
                if rate is None or stamp is None:
                    continue
                newest_ms = max(newest_ms, int(stamp))
                one = value_of(self.name, rate, int(stamp) * NS_PER_MS, int(stamp) * NS_PER_MS, now_ns)
                if one is not None and one.as_of_ns >= since_ns:
                    found[int(stamp)] = one
            if len(rows) < _PAGE or newest_ms <= from_ms:
                break
            from_ms = newest_ms + 1
        return [found[stamp] for stamp in sorted(found)]


class OpenInterest:
    """Open interest, OI-<name>, in quote money where the venue says it so, else in base; known when it is taken."""

    def __init__(
        self,
        exchange: ccxt.pro.Exchange,
        symbol: str,
        name: str,
        *,
        timeframe: str = "1h",
        pace_ns: int = 10 * NS_PER_MIN,
    ) -> None:
        """Make a reader. Raises ValueError for a timeframe not known here."""
        if timeframe not in _TIMEFRAMES:
            raise ValueError(f"expected a timeframe of {', '.join(_TIMEFRAMES)}, found {timeframe!r}")
        self.name = f"OI-{name}"
        self.pace_ns = pace_ns
        self._exchange = exchange
        self._symbol = symbol
        self._timeframe = timeframe
        self._is_value: bool | None = None

    async def read(self, since_ns: int, now_ns: int) -> Sequence[SeriesValue]:
        """Return what is told since then; a venue that remembers less tells less."""
        if not self._exchange.has.get("fetchOpenInterestHistory"):
            raise SeriesDown(f"{self.name}: ccxt cannot ask {self._exchange.id} for past open interest")
        oldest_ns = max(since_ns, now_ns - 500 * _TIMEFRAMES[self._timeframe])
        since_ms = max(0, oldest_ns) // NS_PER_MS
        asked = self._exchange.fetch_open_interest_history(self._symbol, self._timeframe, since_ms, 500)
        rows = await _asked(self, asked)
        found: list[SeriesValue] = []
        for row in rows:
            value, amount = number(row.get("openInterestValue")), number(row.get("openInterestAmount"))
            if self._is_value is None:
                self._is_value = value is not None
            said, stamp = value if self._is_value else amount, number(row.get("timestamp"))
            if said is None or stamp is None:
                continue  # one unit throughout: a change of units is no change of open interest
            one = value_of(self.name, said, int(stamp) * NS_PER_MS, int(stamp) * NS_PER_MS, now_ns)
            if one is not None:
                found.append(one)
        return sorted(found, key=_as_of)


async def _asked(reader: FundingRates | OpenInterest, call: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    """Return the rows of a ccxt call. Raises SeriesDown, in one line, whatever it raises."""
    try:
        rows = await cancellable(call)
    except Exception as error:
        raise SeriesDown(f"{reader.name}: {text_of(error)}") from error
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _as_of(value: SeriesValue) -> int:
    return value.as_of_ns
