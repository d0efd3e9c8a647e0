"""A contest without hindsight: every forecast is made of what was known when it was made, and of nothing else.

At each origin (the end of an hour) a model forecasts the variance of the hours that follow. It was fitted on rows whose
targets had ended by then, of all assets together; seasons are those of the hours up to the last fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from bot.risk.volatility.average import equal, inverse_loss_weights, record_length, weighted
from bot.risk.volatility.candidates import Candidate
from bot.risk.volatility.evaluation import qlike
from bot.risk.volatility.ewma import ewma
from bot.risk.volatility.features import DAY, Features
from bot.risk.volatility.har import Linear, fit_linear
from bot.risk.volatility.measures import Floats, Hours, Ints, trailing_sum, without_gaps
from bot.risk.volatility.seasons import season_of
from bot.risk.volatility.trees import Boosted

Fitted = Linear | Boosted
Booster = Callable[[Sequence[str], Floats, Floats], Boosted]
VarianceOfReturns = Callable[[Floats], float]  # returns, oldest first → variance of the next

DECAY: Final = 0.94
EWMA: Final = "EWMA"
CHOSEN: Final = "chosen by record"


class Setting(msgspec.Struct, frozen=True):
    """How a contest is run, in hours: how far ahead, how often a forecast is made, from when, and how often fitted.

    `warm_up` is how much must be there before the first forecast, `look_back` how far the models look, most of which
    must be known; training rows are `train_every` apart.
    """

    horizon: int
    every: int
    train_every: int
    warm_up: int
    look_back: int
    refit_every: int


HOURLY: Final = Setting(horizon=1, every=1, train_every=1, warm_up=91 * 24, look_back=168, refit_every=28 * 24)
DAILY: Final = Setting(horizon=24, every=24, train_every=24, warm_up=91 * 24, look_back=720, refit_every=7 * 24)
WEEKLY: Final = Setting(horizon=168, every=24, train_every=24, warm_up=91 * 24, look_back=720, refit_every=7 * 24)


class Path(msgspec.Struct, frozen=True):
    """What a model forecast of one asset: mean log variance and variance by origin."""

    log_mean: Floats
    variance: Floats


class Outcome(msgspec.Struct, frozen=True):
    """What came of a contest: by asset the origins (hours since 1970) and realised variances, by model its paths."""

    setting: Setting
    origins: dict[str, Ints]
    realised: dict[str, Floats]
    paths: dict[str, dict[str, Path]]

    def losses(self, model: str) -> Floats:
        """Return the QLIKE of a model, mean over the assets where they share origins, by origin."""
        return pooled(self.origins, {a: qlike(self.realised[a], p.variance) for a, p in self.paths[model].items()})

    def mean_loss(self, model: str, asset: str) -> float:
        """Return the mean QLIKE of a model on one asset."""
        return float(np.mean(qlike(self.realised[asset], self.paths[model][asset].variance)))

    def part(self, first: int, end: int) -> Outcome:
        """Return what came of the origins from the hour `first` on and before `end`."""
        return self.where({a: (times >= first) & (times < end) for a, times in self.origins.items()})

    def where(self, kept: Mapping[str, NDArray[np.bool_]]) -> Outcome:
        """Return what came of some origins, told by asset; assets without any are left out."""
        some = {a: is_kept for a, is_kept in kept.items() if is_kept.any()}
        return Outcome(
            self.setting,
            {a: self.origins[a][k] for a, k in some.items()},
            {a: self.realised[a][k] for a, k in some.items()},
            {
                name: {a: Path(paths[a].log_mean[k], paths[a].variance[k]) for a, k in some.items()}
                for name, paths in self.paths.items()
            },
        )


def pooled(origins: Mapping[str, Ints], losses: Mapping[str, Floats]) -> Floats:
    """Return losses by time, the mean where several assets have one: assets fall together and are no separate proof."""
    times = np.concatenate(list(origins.values()))
    values = np.concatenate([losses[asset] for asset in origins])
    _, place = np.unique(times, return_inverse=True)
    return np.asarray(np.bincount(place, values) / np.bincount(place), dtype=np.float64)


def run(
    assets: Mapping[str, Hours],
    setting: Setting,
    candidates: Sequence[Candidate],
    *,
    boost: Booster | None = None,
    of_returns: Mapping[str, VarianceOfReturns] | None = None,
    others: Mapping[str, Mapping[str, Floats]] | None = None,
) -> Outcome:
    """Return what every candidate and every benchmark forecast.

    `boost` fits trees, and without it candidates of trees do not take part. `of_returns` are models that are given the
    returns over stretches of the horizon alone, as GARCH is. `others` are series by asset and name, by hour of the
    asset without gaps.
    """
    hours = {asset: without_gaps(found) for asset, found in assets.items()}
    places = {asset: _origins(found, setting) for asset, found in hours.items()}
    if not all(place.size for place in places.values()):
        raise ValueError(f"expected more than {setting.warm_up} hours and the horizon of prices, found fewer")
    origins = {asset: hours[asset].hour[place] for asset, place in places.items()}
    realised = {asset: Features(hours[asset]).target(setting.horizon)[place] for asset, place in places.items()}
    paths: dict[str, dict[str, Path]] = {}
    for name, benchmark in _benchmarks(setting, of_returns or {}).items():
        paths[name] = {asset: benchmark(hours[asset], places[asset]) for asset in assets}
    entered = [one for one in candidates if boost is not None or not one.is_boosted]
    for one in entered:
        paths[one.name] = {a: Path(np.full(p.size, np.nan), np.full(p.size, np.nan)) for a, p in places.items()}
    for begin, end in _periods(origins, setting):
        known = {asset: found.upto(int(np.searchsorted(found.hour, begin, "right"))) for asset, found in hours.items()}
        features = {
            asset: Features(hours[asset], season_of(known[asset]), (others or {}).get(asset)) for asset in assets
        }
        for one in entered:
            model = fitted(one, features, setting, begin, boost)
            for asset, place in places.items():
                now = (origins[asset] >= begin) & (origins[asset] < end)
                if now.any():
                    rows = features[asset].rows(one.regressors, setting.horizon)[place[now]]
                    paths[one.name][asset].log_mean[now] = model.log_mean(rows)
                    paths[one.name][asset].variance[now] = model.variance(rows)
    return _complete(Outcome(setting, origins, realised, paths), [one.name for one in entered])


def fitted(
    candidate: Candidate,
    features: Mapping[str, Features],
    setting: Setting,
    upto: int,
    boost: Booster | None = None,
) -> Fitted:
    """Return the candidate fitted on all assets' rows whose targets had ended by the hour `upto`, oldest first."""
    rows, targets, times = [], [], []
    for one in features.values():
        hour = one.hours.hour
        is_used = (hour % setting.train_every == 0) & (hour + setting.horizon <= upto)
        target = one.target(setting.horizon)
        with np.errstate(divide="ignore"):
            targets.append(np.log(target[is_used]))
        rows.append(one.rows(candidate.regressors, setting.horizon)[is_used])
        times.append(hour[is_used])
    order = np.argsort(np.concatenate(times), kind="stable")
    x, y = np.vstack(rows)[order], np.concatenate(targets)[order]
    if candidate.is_boosted:
        if boost is None:
            raise ValueError(f"expected a way to boost trees for {candidate.name}, found none")
        return boost(candidate.regressors, x, y)
    return fit_linear(candidate.regressors, x, y, candidate.ridge, is_lifted=candidate.is_lifted)


def _origins(hours: Hours, setting: Setting) -> Ints:
    """Return the places of origins: enough known before each, and the whole horizon after it."""
    place = np.arange(len(hours))
    target = Features(hours).target(setting.horizon)
    behind = trailing_sum(hours.rv, setting.look_back)
    is_origin = (hours.hour % setting.every == 0) & (target > 0.0) & np.isfinite(behind)
    found: Ints = place[is_origin & (place >= setting.warm_up)]
    return found


def _periods(origins: Mapping[str, Ints], setting: Setting) -> list[tuple[int, int]]:
    """Return the stretches of hours that one fit serves."""
    every = np.concatenate(list(origins.values()))
    first, last = int(every.min()), int(every.max())
    periods = [(begin, begin + setting.refit_every) for begin in range(first, last + 1, setting.refit_every)]
    return [(begin, end) for begin, end in periods if np.any((every >= begin) & (every < end))]


def _benchmarks(
    setting: Setting, of_returns: Mapping[str, VarianceOfReturns]
) -> dict[str, Callable[[Hours, Ints], Path]]:
    horizon = setting.horizon
    step = min(horizon, DAY)  # a week's variance is averaged by the day too

    def random_walk(hours: Hours, place: Ints) -> Path:
        return _path(trailing_sum(hours.rv, horizon)[place])

    def averaged(values: Callable[[Hours, Ints], Floats]) -> Callable[[Hours, Ints], Path]:
        def forecast(hours: Hours, place: Ints) -> Path:
            steps = np.arange(int(place[0]) % step, len(hours), step)
            level = np.append(ewma(values(hours, steps), DECAY), np.nan)
            # Forecasts of the step after the last one that had ended at each origin.
            return _path(level[np.searchsorted(steps, place, side="right")] * horizon / step)

        return forecast

    def of_variance(hours: Hours, steps: Ints) -> Floats:
        return trailing_sum(hours.rv, step)[steps]

    def of_squares(hours: Hours, steps: Ints) -> Floats:
        return Features(hours).move(step)[steps] ** 2

    def by_returns(model: VarianceOfReturns) -> Callable[[Hours, Ints], Path]:
        def forecast(hours: Hours, place: Ints) -> Path:
            move = Features(hours).move(horizon)
            found = []
            for one in place:
                returns = move[one % horizon : one + 1 : horizon]
                found.append(model(returns[np.isfinite(returns)]))
            return _path(np.array(found))

        return forecast

    found = {"random walk": random_walk, EWMA: averaged(of_variance), "EWMA of squared returns": averaged(of_squares)}
    return found | {name: by_returns(model) for name, model in of_returns.items()}


def _path(variance: Floats) -> Path:
    return Path(np.log(variance), variance)


def _complete(outcome: Outcome, names: Sequence[str]) -> Outcome:
    """Return the outcome with what is made of other forecasts: averages, and the model that did best so far."""
    paths = dict(outcome.paths)
    members = list(names)
    lag = -(-outcome.setting.horizon // outcome.setting.every)  # losses are known only when the horizon has ended
    record = record_length(outcome.setting.every)
    made: dict[str, dict[str, Path]] = {"average": {}, "average by record": {}, CHOSEN: {}}
    for asset, realised in outcome.realised.items():
        forecasts = np.column_stack([paths[name][asset].variance for name in members])
        logs = np.column_stack([paths[name][asset].log_mean for name in members])
        losses = qlike(realised[:, None], forecasts)
        weights = _late(inverse_loss_weights(losses, record), lag)
        best = _late(_best_so_far(losses, record), lag)
        made["average"][asset] = Path(np.mean(logs, axis=1), equal(forecasts))
        made["average by record"][asset] = Path(np.sum(weights * logs, axis=1), weighted(forecasts, weights))
        made[CHOSEN][asset] = Path(np.sum(best * logs, axis=1), weighted(forecasts, best))
    return Outcome(outcome.setting, outcome.origins, outcome.realised, paths | made)


def _best_so_far(losses: Floats, window: int) -> Floats:
    """Return, for each time, a one at the model with the least mean loss over the window before it."""
    best = np.argmax(inverse_loss_weights(losses, window), axis=1)
    return np.asarray(np.equal.outer(best, np.arange(losses.shape[1])), dtype=np.float64)


def _late(weights: Floats, lag: int) -> Floats:
    """Return weights as they are known when the last `lag` − 1 losses are not."""
    if lag <= 1:
        return weights
    return np.concatenate([np.repeat(weights[:1], lag - 1, axis=0), weights[: 1 - lag]])
