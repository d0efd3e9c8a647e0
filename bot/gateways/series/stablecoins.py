"""The supply of stablecoins, all of them in dollars, in the shape DefiLlama publishes it: a value per day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bot.domain.risk import SeriesValue
from bot.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_S
from bot.gateways.market_words import number
from bot.gateways.series.fetching import JsonPages, SeriesDown
from bot.gateways.series.reader import value_of

LLAMA_URL: Final = "https://stablecoins.llama.fi"
_PATH: Final = "/stablecoincharts/all"


class StablecoinSupply:
    """The sum over every peg; what a day holds is known when the day is over."""

    def __init__(self, pages: JsonPages, *, base_url: str = LLAMA_URL, pace_ns: int = 6 * NS_PER_HOUR) -> None:
        self.name = "STABLECOIN-SUPPLY"
        self.pace_ns = pace_ns
        self._pages = pages
        self._url = base_url.rstrip("/") + _PATH

    async def read(self, since_ns: int, now_ns: int) -> Sequence[SeriesValue]:
        """Return a value per day since then."""
        rows: Any = await self._pages.get(self._url, {})
        if not isinstance(rows, list):
            raise SeriesDown(f"{self.name}: expected a list of days, found {type(rows).__name__}")
        found: list[SeriesValue] = []
        for row in rows:
            began_s = number(row.get("date")) if isinstance(row, dict) else None
            pegs = row.get("totalCirculatingUSD") if isinstance(row, dict) else None
            if began_s is None or not isinstance(pegs, dict):
                raise SeriesDown(f"{self.name}: expected date and totalCirculatingUSD, found {str(row)[:60]}")
            amounts = [amount for peg in pegs.values() if (amount := number(peg)) is not None]
            as_of_ns = int(began_s) * NS_PER_S
            if as_of_ns < since_ns or not amounts:
                continue
            one = value_of(self.name, sum(amounts), as_of_ns, as_of_ns + NS_PER_DAY, now_ns)
            if one is not None and now_ns >= as_of_ns + NS_PER_DAY:
                found.append(one)
        return found
