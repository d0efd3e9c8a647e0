"""How volatile an underlying will be from now on, for any horizon, told from its own prices as they came.

The models of an artefact forecast from the end of the last hour for their own horizons; between those the level is
interpolated, and the usual shape of the week is put back. Each model is scored, and each quantile moved, by what came.
Without an artefact, with one that is too old, or before there are the hours its models look at, the forecast is EWMA's,
widened, and says why.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from math import exp, isfinite, log, nan, sqrt
from typing import Final

import msgspec
import numpy as np

from bot.domain.risk import SeriesValue
from bot.risk.volatility.artefact import Artefact, HorizonModels, Scored
from bot.risk.volatility.average import record_length
from bot.risk.volatility.features import DAY, Features, hours_looked_back
from bot.risk.volatility.hour_builder import HourBuilder, hour_of
from bot.risk.volatility.measures import HOURS_PER_YEAR, Hours
from bot.risk.volatility.quantiles import LEVELS, Recalibration
from bot.risk.volatility.regimes import regime
from bot.risk.volatility.seasons import FLAT, HOURS_PER_WEEK, season_between, season_sum

WIDENED: Final = 1.25  # of what is forecast without its model
HALF_LIVES: Final = {1: 4, 24: 11 * DAY, 168: 11 * DAY}  # hours; eleven days are a decay of .94 a day
EWMA_ERRORS: Final = (0.85, 1.25, 2.3)  # logs of variance, without an artefact: what EWMA missed by on BTC and ETH 2024
LEAST_HOURS: Final = 3
FULL_HOURS: Final = 24  # from as many hours of its own on, what is usual of the asset counts no more
SERIES_AGE_HOURS: Final = 96.0  # a weekend and two days: an older value is missing
ALARM: Final = 3.0  # an hour that has brought so many times what it was to bring is not waited for
KEPT_RECORD: Final = 2_000
REGIME_DAYS: Final = 30
EWMA: Final = "EWMA"
DECAY: Final = 0.94  # a day, to which the half-lives belong
# How names of models of a kind begin.
KINDS: Final = {"ewma": EWMA, "garch": "GARCH", "har": "HAR", "boosting": "boosted", "average": "average"}


class VolChoice(msgspec.Struct, frozen=True):
    """How an underlying is to be forecast: by the best model lately or one of a kind, and by what vol where none is.

    `ewma_decay` is a day's. `usual_vol` stands in until there are hours of an asset that the artefact does not know.
    """

    model: str = "best"
    ewma_decay: float = DECAY
    usual_vol: float = nan


class VolForecast(msgspec.Struct, frozen=True):
    """The vol of the next `horizon_years`, as a yearly one: the root of its mean variance, and quantiles by `levels`.

    `degraded` says why it is not the model's best, "" where it is.
    """

    underlying: str
    ts_ns: int
    horizon_years: float
    mean_vol: float
    levels: tuple[float, ...]
    quantile_vols: tuple[float, ...]
    model: str
    regime: str
    regime_probability: float
    degraded: str = ""

    def quantile(self, level: float) -> float:
        """Return the vol that is exceeded with probability 1 − level, of the levels there are the next above."""
        for one, vol in zip(self.levels, self.quantile_vols, strict=True):
            if one >= level - 1e-9:
                return vol
        return self.quantile_vols[-1]


class Realised(msgspec.Struct, frozen=True):
    """What came of a forecast that was made at the end of `hour` for the next `hours`: yearly vols."""

    hour: int
    hours: int
    model: str
    mean_vol: float
    quantile_vols: tuple[float, ...]
    realised_vol: float


class _Told(msgspec.Struct, frozen=True):
    """What was forecast at the end of an hour for an anchor: variances, and the mean log that quantiles are about."""

    hour: int
    variance: float
    log_level: float  # of the variance per usual hour of the horizon
    quantiles: tuple[float, ...]
    by_model: tuple[tuple[str, float], ...]
    model: str
    degraded: str


class _Anchor:
    """One horizon of the artefact: who forecasts it, how well each has done lately, and how its quantiles held."""

    def __init__(self, models: HorizonModels, levels: tuple[float, ...]) -> None:
        self.hours = models.hours
        self.models = models.models
        self.ewma_errors = models.ewma_errors
        self.scores = {one.name: one.qlike for one in models.models} | {EWMA: models.ewma_qlike}
        self.record_length = record_length(min(models.hours, DAY))  # outcomes that a contest's score counts as
        self.recalibration = Recalibration(levels, (0.0,) * len(levels), 0, (0,) * len(levels))
        self.pending: deque[_Told] = deque(maxlen=512)
        self.now: _Told | None = None

    def best(self) -> list[str]:
        """Return the models by their score, best first."""
        return sorted(self.scores, key=lambda name: self.scores[name])

    def errors(self, name: str) -> tuple[float, ...]:
        """Return the quantiles of a model's errors."""
        return next((one.errors for one in self.models if one.name == name), self.ewma_errors)


class VolForecaster:
    """Fed with prices and series, in the order of time; asked for a forecast whenever one is needed. Pure."""

    def __init__(
        self,
        underlying: str,
        artefact: Artefact | None = None,
        reason: str = "",
        choice: VolChoice = VolChoice(),  # noqa: B008 — frozen
    ) -> None:
        """Without an artefact, `reason` says why there is none."""
        self._choice = choice
        self._memory = log(DECAY) / log(self._choice.ewma_decay)  # half-lives are so many times as long
        self.underlying = underlying
        self.record: deque[Realised] = deque(maxlen=KEPT_RECORD)
        self._artefact = artefact
        self._reason = "" if artefact else f"no volatility artefact{': ' if reason else ''}{reason}"
        self._builder = HourBuilder()
        self._season = artefact.season if artefact else FLAT
        self._usual = _usual(artefact, underlying, self._choice.usual_vol)
        self._levels = artefact.levels if artefact else LEVELS
        stand_in = tuple(HorizonModels(h, (), 0.5, EWMA_ERRORS, nan) for h in HALF_LIVES)
        self._anchors = [_Anchor(one, self._levels) for one in (artefact.horizons if artefact else stand_in)]
        self._kind = KINDS.get(self._choice.model, "")
        self._lacks = ""  # what the models are told to be, where there is none such
        if not any(name.startswith(self._kind) for one in self._anchors for name in one.scores):
            self._lacks = f"there is no model of kind {self._choice.model}: the best of the others is used"
        self._series: dict[str, SeriesValue] = {}
        self._regime = ("unknown", nan)
        self._expected = nan  # variance of this hour, as it was forecast when it began
        self._quiet_px = nan  # within so much of this price nothing is looked at before the hour ends
        self._alarm_px = nan

    # Feeding ----------------------------------------------------------------------------------------------------------

    def note_price(self, now_ns: int, px: float) -> None:
        """Take in a price of the underlying: a few comparisons, and once an hour a forecast of every model."""
        if self._builder.note(now_ns, px):
            self._hour_ended()
        if not abs(px - self._quiet_px) <= self._alarm_px:  # NaN where nothing was looked at yet
            self._look_within_the_hour()

    def note_series(self, value: SeriesValue) -> None:
        """Take in a value of a series from outside; an older one of the same series changes nothing."""
        known = self._series.get(value.series)
        if isfinite(value.value) and (known is None or value.ts_event_ns >= known.ts_event_ns):
            self._series[value.series] = value

    def seed(self, hours: Hours) -> None:
        """Take in hours from before the first price, so that models that look back a month need not wait for one."""
        self._builder.seed(hours)
        if len(self._builder):
            self._hour_ended()

    # Asking -----------------------------------------------------------------------------------------------------------

    def forecast(self, now_ns: int, horizon_years: float) -> VolForecast | None:
        """Return the forecast for the time from now on, None before anything at all is known of the underlying."""
        if not (isfinite(horizon_years) and horizon_years > 0.0):
            raise ValueError(f"expected a positive horizon in years, found {horizon_years}")
        if self._builder.pass_time(now_ns):
            self._hour_ended()
        hours = horizon_years * HOURS_PER_YEAR
        told = [(anchor, anchor.now) for anchor in self._anchors if anchor.now is not None]
        if not told:
            return self._usual_alone(now_ns, horizon_years)
        place, share = _between([anchor.hours for anchor, _ in told], hours)
        near, far = told[place][1], told[min(place + 1, len(told) - 1)][1]
        start = hour_of(now_ns)
        usual = season_between(self._season, start, start + hours)
        log_level = _mix(share, near.log_level, far.log_level)
        variance = exp(log_level) * usual
        widths = [
            _mix(share, log(a / near.variance), log(b / far.variance))
            for a, b in zip(near.quantiles, far.quantiles, strict=True)
        ]
        degraded = self._degraded(now_ns, near.degraded or (far.degraded if share > 0.0 else ""))
        factor = WIDENED if degraded else 1.0
        mean_vol = sqrt(variance / horizon_years)
        return VolForecast(
            underlying=self.underlying,
            ts_ns=now_ns,
            horizon_years=horizon_years,
            mean_vol=mean_vol,
            levels=self._levels,
            quantile_vols=tuple(factor * sqrt(variance * exp(width) / horizon_years) for width in widths),
            model=near.model if share < 0.5 else far.model,
            regime=self._regime[0],
            regime_probability=self._regime[1],
            degraded=degraded,
        )

    def fan(self, now_ns: int, horizons_years: Sequence[float]) -> list[VolForecast]:
        """Return forecasts for several horizons, as a picture of them needs."""
        found = [self.forecast(now_ns, one) for one in horizons_years]
        return [one for one in found if one is not None]

    def hours(self) -> Hours:
        """Return the hours that are known, for a picture of what was realised."""
        return self._builder.hours()

    def recalibrations(self) -> dict[int, Recalibration]:
        """Return, by horizon in hours, how the quantiles have held and how far that has moved them."""
        return {anchor.hours: anchor.recalibration for anchor in self._anchors}

    def scores(self) -> dict[int, dict[str, float]]:
        """Return, by horizon in hours, the recent QLIKE of each model."""
        return {anchor.hours: dict(anchor.scores) for anchor in self._anchors}

    # Within -----------------------------------------------------------------------------------------------------------

    def _degraded(self, now_ns: int, told: str) -> str:
        """Return why the forecast is not to be trusted as the model's best, "" where it is."""
        if self._artefact is None:
            return self._reason
        today = datetime.fromtimestamp(now_ns / 1e9, UTC).date()
        if today >= self._artefact.expires:
            return f"volatility artefact expired on {self._artefact.expires}"
        age_hours = hour_of(now_ns) - self._builder.newest_hour
        if age_hours > 2.0:
            return f"no hour of prices for {age_hours:.0f} hours"
        if told or self._lacks or self.underlying in self._artefact.assets:
            return told or self._lacks
        return f"no model was learnt on {self.underlying}"

    def _usual_alone(self, now_ns: int, horizon_years: float) -> VolForecast | None:
        """Return what is usual of the asset, before any hour of its own; None where nothing is."""
        if not self._usual > 0.0:
            return None
        start = hour_of(now_ns)
        usual = season_between(self._season, start, start + horizon_years * HOURS_PER_YEAR)
        variance = self._usual * usual / horizon_years
        widest = [max(anchor.ewma_errors[place] for anchor in self._anchors) for place in range(len(self._levels))]
        return VolForecast(
            underlying=self.underlying,
            ts_ns=now_ns,
            horizon_years=horizon_years,
            mean_vol=sqrt(variance),
            levels=self._levels,
            quantile_vols=tuple(WIDENED * sqrt(variance * exp(max(0.0, one))) for one in widest),
            model="usual",
            regime="unknown",
            regime_probability=nan,
            degraded="no hour of prices yet: what is usual is told",
        )

    def _hour_ended(self) -> None:
        hours = self._builder.hours()
        features = Features(hours, self._season, self._others(hours))
        newest = self._builder.newest_hour
        for anchor in self._anchors:
            self._learn(anchor, features, newest)
            told = self._tell(anchor, features, newest)
            anchor.now = told
            if told is not None and newest % min(anchor.hours, DAY) == 0:
                anchor.pending.append(told)
        self._regime = self._regime_of(features)
        told = self._anchors[0].now
        if told is not None:
            self._expected = exp(told.log_level) * self._season[_place_after(newest)]
            self._be_quiet(ALARM * self._expected)

    def _be_quiet(self, variance: float) -> None:
        self._quiet_px = self._builder.last_px
        self._alarm_px = self._quiet_px * sqrt(variance)

    def _look_within_the_hour(self) -> None:
        """Forecast anew before the hour ends, as prices moved further than it was to bring: such a look only raises."""
        if not self._expected > 0.0:
            return
        so_far = self._builder.variance_so_far()
        self._be_quiet(max(so_far, ALARM * self._expected))
        if so_far <= ALARM * self._expected:
            return
        hours = self._builder.hours_so_far(self._expected)
        features = Features(hours, self._season, self._others(hours))
        for anchor in self._anchors:
            told = self._tell(anchor, features, int(hours.hour[-1]))
            if told is not None and (anchor.now is None or told.log_level > anchor.now.log_level):
                anchor.now = told

    def _others(self, hours: Hours) -> dict[str, np.ndarray]:
        """Return series as columns that only the last row of is looked at: what is known now, unless it is too old."""
        newest = self._builder.newest_hour
        found = {}
        for name, value in self._series.items():
            is_fresh = newest - hour_of(value.ts_event_ns) <= SERIES_AGE_HOURS
            found[name] = np.full(len(hours), value.value if is_fresh else nan)
        return found

    def _tell(self, anchor: _Anchor, features: Features, newest: int) -> _Told | None:
        fallback = self._ewma(anchor, features, newest)
        found: dict[str, tuple[float, float]] = {}
        missing: list[str] = []
        still = _still_hours(features.hours)
        for one in anchor.models:
            if still and any(0 < hours_looked_back(name) <= still for name in one.model.names):
                missing.append(one.name)  # the log of nothing tells of a feed that stands still, not of what is to come
                continue
            row = self._row(one, features, anchor.hours)
            if row is None or not np.isfinite(row).all():
                missing.append(one.name)
                continue
            variance, log_mean = float(one.model.variance(row)[0]), float(one.model.log_mean(row)[0])
            if isfinite(variance) and variance > 0.0:
                found[one.name] = (variance, log_mean)
            else:
                missing.append(one.name)
        if fallback is not None:
            found[EWMA] = (fallback, log(fallback))
        ranked = sorted(anchor.best(), key=lambda one: not one.startswith(self._kind))  # the kind that is wanted first
        name = next((one for one in ranked if one in found), "")
        if not name:
            return None
        best = ranked[0]
        degraded = ""
        if name != best:
            why = f"no price moved for {still} h" if still else f"{len(self._builder)} hours are known"
            degraded = f"{best} lacks what it looks at: {why}"
        variance, log_mean = found[name]
        quantiles = anchor.recalibration.quantiles(log_mean, anchor.errors(name))
        # A quantile below the mean is no upper one, whatever the record says.
        quantiles = tuple(max(one, variance) for one in quantiles)
        by_model = tuple((key, value[0]) for key, value in found.items())
        usual = float(season_sum(self._season, np.array([newest]), anchor.hours)[0])
        return _Told(newest, variance, log(variance / usual), quantiles, by_model, name, degraded)

    def _row(self, scored: Scored, features: Features, horizon: int) -> np.ndarray | None:
        try:
            return features.rows(scored.model.names, horizon)[-1:]
        except KeyError:  # a series that nobody has told
            return None

    def _ewma(self, anchor: _Anchor, features: Features, newest: int) -> float | None:
        """Return EWMA's forecast of the anchor's variance; few hours are eked out by what is usual."""
        calm = np.exp(features.column("calm1", 1))
        known = calm[np.isfinite(calm)]
        usual = self._usual
        if known.size < LEAST_HOURS and not usual > 0.0:
            return None
        level = usual
        if known.size:
            half_life = min(self._memory * HALF_LIVES.get(anchor.hours, 11 * DAY), max(4, known.size))
            weights = np.exp2(-np.arange(known.size - 1, -1, -1) / half_life)
            level = float(weights @ known / weights.sum())
            if known.size < FULL_HOURS and usual > 0.0:
                share = known.size / FULL_HOURS
                level = share * level + (1.0 - share) * max(level, usual)
        if not level > 0.0:
            return None
        return level * float(season_sum(self._season, np.array([newest]), anchor.hours)[0])

    def _learn(self, anchor: _Anchor, features: Features, newest: int) -> None:
        """Score every forecast whose horizon has ended, and move the quantiles by those that do not overlap."""
        target = None
        while anchor.pending and anchor.pending[0].hour + anchor.hours <= newest:
            told = anchor.pending.popleft()
            target = features.target(anchor.hours) if target is None else target
            place = told.hour - int(features.hours.hour[0])
            realised = float(target[place]) if 0 <= place < target.size else nan
            if not (isfinite(realised) and realised > 0.0):
                continue
            for name, variance in told.by_model:
                ratio = realised / variance
                loss = ratio - log(ratio) - 1.0
                anchor.scores[name] += (loss - anchor.scores[name]) / anchor.record_length
            if told.hour % anchor.hours == 0:
                anchor.recalibration = anchor.recalibration.learnt(realised, told.quantiles)
            per_year = HOURS_PER_YEAR / anchor.hours
            self.record.append(
                Realised(
                    told.hour,
                    anchor.hours,
                    told.model,
                    sqrt(told.variance * per_year),
                    tuple(sqrt(one * per_year) for one in told.quantiles),
                    sqrt(realised * per_year),
                )
            )

    def _regime_of(self, features: Features) -> tuple[str, float]:
        """Return the regime that the last month's daily returns, up to now, tell."""
        model = self._artefact.regimes.get(self.underlying) if self._artefact else None
        if model is None:
            return "unknown", nan
        move = features.move(DAY)[::-1][: REGIME_DAYS * DAY : DAY][::-1]
        return regime(model, move[np.isfinite(move)])


def _still_hours(hours: Hours) -> int:
    """Return for how many of the last hours no price moved from one five minutes to the next, though there were any."""
    moved = (hours.rv != 0.0).nonzero()[0]
    return len(hours) - 1 - int(moved[-1]) if moved.size else len(hours)


def _usual(artefact: Artefact | None, underlying: str, stands_in_vol: float) -> float:
    """Return the usual variance of an hour of the asset.

    Where it is unknown it is that of the vol that stands in, and else that of the most volatile asset known.
    """
    usual = artefact.usual if artefact is not None else {}
    if underlying in usual:
        return usual[underlying]
    return stands_in_vol**2 / HOURS_PER_YEAR if isfinite(stands_in_vol) else max(usual.values(), default=nan)


def _between(anchors: Sequence[int], hours: float) -> tuple[int, float]:
    """Return the anchor at or before a horizon, and how far it is, in logs, to the next one."""
    if hours <= anchors[0] or len(anchors) == 1:
        return 0, 0.0
    if hours >= anchors[-1]:
        return len(anchors) - 2, 1.0
    place = max(n for n, one in enumerate(anchors) if one <= hours)
    return place, log(hours / anchors[place]) / log(anchors[place + 1] / anchors[place])


def _place_after(hour: int) -> int:
    """Return the hour of the week that begins when `hour` ends."""
    return (hour + 3 * DAY) % HOURS_PER_WEEK


def _mix(share: float, near: float, far: float) -> float:
    return (1.0 - share) * near + share * far
