"""How volatile the underlyings of a vault will be, and what the world outside says of it: one forecaster per desk.

Fed with every price the desks decide on and with series as they were published; looked at when margin is, never by a
decision. What is missing, old or no model of its own is named, and counted against us. Must never trade.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import isfinite, nan, sqrt

from bot.domain.results import ForecastRecord
from bot.domain.risk import SeriesValue
from bot.engine.margin.risk_settings import RiskSettings
from bot.risk.conditions import Conditions, ConditionsKeeper, changes
from bot.risk.volatility.forecaster import VolForecast, VolForecaster
from bot.risk.volatility.measures import HOURS_PER_YEAR

MAX_CHANGES = 200


class VolWatch:
    """The forecasts of a vault as of the last look, the conditions around them, and every change of those."""

    def __init__(self, risk: RiskSettings, underlyings: Iterable[str]) -> None:
        self.forecasters = {name: risk.forecaster(name) for name in underlyings}
        # the newest of each, for whoever looks: asking anew would change it
        self.forecasts: dict[str, VolForecast] = {}
        self.conditions: Conditions | None = None  # None for a vault that reads no series
        self.changes: deque[tuple[int, str]] = deque(maxlen=MAX_CHANGES)  # of conditions, with the reason of each
        self.change_count = 0
        self._settings = settings = risk.forecast
        rules = settings.conditions
        self._keeper = ConditionsKeeper(rules) if rules is not None else None
        self._read = frozenset(rule.series for rule in rules.rules) if rules is not None else frozenset()

    def note_price(self, underlying: str, now_ns: int, px: float) -> None:
        """Take in a price that is decided on."""
        self.forecasters[underlying].note_price(now_ns, px)

    def take_series(self, event: SeriesValue) -> bool:
        """Take in a value of a series, for the forecasts and for the conditions; tell whether these read it."""
        for forecaster in self.forecasters.values():
            forecaster.note_series(event)
        if self._keeper is None or event.series not in self._read:
            return False
        self._keeper.note(event)
        return True

    def look(self, now_ns: int, years: float) -> None:
        """Forecast for the time from now on, and read the conditions."""
        for name, forecaster in self.forecasters.items():
            found = forecaster.forecast(now_ns, years)
            if found is not None:
                self.forecasts[name] = found
        if self._keeper is not None:
            before, self.conditions = self.conditions, self._keeper.at(now_ns)
            for line in changes(before, self.conditions):
                self.change_count += 1
                self.changes.append((now_ns, line))

    def quantile_vol(self, underlying: str, level: float) -> float:
        """Return the vol that is exceeded with probability 1 − level, NaN where nothing is known of the underlying.

        Where a feature of the model is missing, its variance counts for more (F43).
        """
        found = self.forecasts.get(underlying)
        if found is None:
            return nan
        inflation = self.conditions.variance_multiplier if self.conditions is not None else 1.0
        return found.quantile(level) * sqrt(inflation)

    def reference_vol(self, underlying: str) -> float:
        """Return the vol that is usual of an underlying: stated by the vault, else by the artefact; NaN where neither.

        An asset that the artefact does not know has the least usual vol of those it knows: its buffers rise early.
        """
        stated = self._settings.usual_vol.get(underlying, nan)
        artefact = self._settings.artefact
        if isfinite(stated) or artefact is None or not artefact.usual:
            return stated
        return sqrt(artefact.usual.get(underlying, min(artefact.usual.values())) * HOURS_PER_YEAR)

    def tell(self, underlying: str) -> str:
        """Say in a sentence what is forecast of an underlying, and what is wrong with that."""
        last = self.forecasts.get(underlying)
        if last is None:
            return "nothing is known of it yet"
        hours = last.horizon_years * HOURS_PER_YEAR
        parts = [
            f"{last.mean_vol:.1%} for {hours:g} h by {last.model}, 95 % below {last.quantile(0.95):.1%}",
            last.regime != "unknown" and f"{last.regime} ({last.regime_probability:.0%})",
            last.degraded,
            self.conditions is not None and f"conditions ×{self.conditions.multiplier:.2f}: {self.conditions.text}",
            self.conditions is not None and self.conditions.missing and f"missing {', '.join(self.conditions.missing)}",
        ]
        return "; ".join(filter(None, parts))  # type: ignore[arg-type]

    def records(self) -> dict[str, ForecastRecord]:
        """Return what was forecast of each underlying last, and how its own quantiles have held."""
        return {name: self._record(name, forecaster) for name, forecaster in sorted(self.forecasters.items())}

    def _record(self, name: str, forecaster: VolForecaster) -> ForecastRecord:
        last = self.forecasts.get(name)
        kept = forecaster.record
        return ForecastRecord(
            model=last.model if last is not None else "",
            regime=last.regime if last is not None else "unknown",
            horizon_s=last.horizon_years * HOURS_PER_YEAR * 3600.0 if last is not None else None,
            mean_vol=last.mean_vol if last is not None else None,
            quantile_vol=dict(zip(map(str, last.levels), last.quantile_vols, strict=True)) if last is not None else {},
            outcomes=len(kept),
            breaches={
                str(level): sum(one.realised_vol > one.quantile_vols[place] for one in kept)
                for place, level in enumerate(last.levels if last is not None else ())
            },
            degraded=last.degraded if last is not None else "nothing is known of it yet",
        )
