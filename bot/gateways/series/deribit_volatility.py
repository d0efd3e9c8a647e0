"""Deribit's volatility index as candles: each is known once it is over, and a page says where the one before ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bot.domain.risk import SeriesValue
from bot.domain.units import NS_PER_MIN, NS_PER_MS, NS_PER_S
from bot.gateways.market_words import number
from bot.gateways.series.fetching import JsonPages, SeriesDown
from bot.gateways.series.reader import value_of

DERIBIT_URL: Final = "https://www.deribit.com"
RESOLUTIONS_S: Final = (1, 60, 3_600, 43_200, 86_400)
_PATH: Final = "/api/v2/public/get_volatility_index_data"
_MAX_PAGES: Final = 50


class DeribitVolatility:
    """The closing values of one currency's index, called DVOL-BTC or alike, in percent as Deribit says them."""

    def __init__(
        self,
        pages: JsonPages,
        currency: str,
        *,
        resolution_s: int = 3_600,
        base_url: str = DERIBIT_URL,
        pace_ns: int = 5 * NS_PER_MIN,
    ) -> None:
        """Make a reader. Raises ValueError for a resolution Deribit has not."""
        if resolution_s not in RESOLUTIONS_S:
            raise ValueError(f"expected a resolution of {RESOLUTIONS_S} s, found {resolution_s}")
        self.name = f"DVOL-{currency}"
        self.pace_ns = pace_ns
        self._pages = pages
        self._currency = currency
        self._resolution_s = resolution_s
        self._url = base_url.rstrip("/") + _PATH

    async def read(self, since_ns: int, now_ns: int) -> Sequence[SeriesValue]:
        """Return every candle that began since then and is over."""
        start_ms, end_ms = max(0, since_ns) // NS_PER_MS, now_ns // NS_PER_MS
        closes: dict[int, float] = {}
        for _ in range(_MAX_PAGES):
            rows, before_ms = await self._page(start_ms, end_ms)
            closes.update(rows)
            if before_ms is None or before_ms >= end_ms or before_ms < start_ms:
                break
            end_ms = before_ms
        found: list[SeriesValue] = []
        for began_ms in sorted(closes):
            over_ns = began_ms * NS_PER_MS + self._resolution_s * NS_PER_S
            one = value_of(self.name, closes[began_ms], over_ns, over_ns, now_ns)
            if one is not None:
                found.append(one)
        return found

    async def _page(self, start_ms: int, end_ms: int) -> tuple[dict[int, float], int | None]:
        resolution = "1D" if self._resolution_s == 86_400 else str(self._resolution_s)
        answer: Any = await self._pages.get(
            self._url,
            {
                "currency": self._currency,
                "start_timestamp": start_ms,
                "end_timestamp": end_ms,
                "resolution": resolution,
            },
        )
        result = answer.get("result") if isinstance(answer, dict) else None
        rows = result.get("data") if isinstance(result, dict) else None
        if not isinstance(result, dict) or not isinstance(rows, list):
            raise SeriesDown(f"{self.name}: expected candles, found none")
        closes: dict[int, float] = {}
        for row in rows:
            if not isinstance(row, list) or len(row) != 5:
                raise SeriesDown(f"{self.name}: expected candles of five numbers, found {str(row)[:60]}")
            began_ms, close = number(row[0]), number(row[4])
            if began_ms is not None and close is not None:
                closes[int(began_ms)] = close
        continuation = number(result.get("continuation"))
        return closes, None if continuation is None else int(continuation)
