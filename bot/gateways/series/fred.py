"""Macro series in the shape of FRED: values are strings, "." is missing, and every vintage says when it was made.

All vintages are asked for, so that a revision counts from when it was made and a value from when it was published. A
vintage is dated by the day only; it is taken to be public when that day is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bot.domain.risk import SeriesValue
from bot.domain.units import NS_PER_DAY, NS_PER_HOUR
from bot.gateways.market_words import number
from bot.gateways.series.fetching import JsonPages, SeriesDown
from bot.gateways.series.reader import day_ns, day_text, value_of

FRED_URL: Final = "https://api.stlouisfed.org"
_PATH: Final = "/fred/series/observations"
_FIRST_VINTAGE: Final = "1776-07-04"
_LAST_VINTAGE: Final = "9999-12-31"
_PAGE: Final = 100_000
_FEWEST_DAYS_NS: Final = 30 * NS_PER_DAY  # asked for again each time: revisions reach back


class FredSeries:
    """One series by its id (VIXCLS, DGS2, DTWEXBGS …). The key is only ever sent, never shown."""

    def __init__(
        self, pages: JsonPages, series_id: str, key: str, *, base_url: str = FRED_URL, pace_ns: int = 6 * NS_PER_HOUR
    ) -> None:
        self.name = series_id
        self.pace_ns = pace_ns
        self._pages = pages
        self._key = key
        self._url = base_url.rstrip("/") + _PATH

    async def read(self, since_ns: int, now_ns: int) -> Sequence[SeriesValue]:
        """Return the observations since then with all their vintages, by day and vintage."""
        if not self._key:
            raise SeriesDown(f"{self.name}: there is no key; hint: set the environment variable that its source names")
        answer: Any = await self._pages.get(
            self._url,
            {
                "series_id": self.name,
                "api_key": self._key,
                "file_type": "json",
                "observation_start": day_text(min(since_ns, now_ns - _FEWEST_DAYS_NS)),
                "realtime_start": _FIRST_VINTAGE,
                "realtime_end": _LAST_VINTAGE,
                "limit": _PAGE,
            },
        )
        rows = answer.get("observations") if isinstance(answer, dict) else None
        if not isinstance(rows, list):
            raise SeriesDown(f"{self.name}: expected observations, found none")
        found: list[SeriesValue] = []
        for row in rows:
            said = number(row.get("value"))  # "." is no number
            if said is None:
                continue
            published_ns = day_ns(row.get("realtime_start")) + NS_PER_DAY
            one = value_of(self.name, said, day_ns(row.get("date")), published_ns, now_ns)
            if one is not None:
                found.append(one)
        return sorted(found, key=_order)


def _order(value: SeriesValue) -> tuple[int, int]:
    return value.as_of_ns, value.ts_event_ns
