"""`evenkeel calibrate volatility`: which forecast of volatility is the best one, tried without hindsight.

Every model forecasts the next hour, day and week walking forward; losses are QLIKE, compared by Diebold and Mariano's
test. What has earned its place becomes an artefact that a vault may use. Brings arch and scikit-learn: loaded only when
asked for. Must never look ahead, or keep what chance alone may explain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from rich.table import Table

from bot.domain.errors import ConfigError
from bot.risk.volatility.artefact import Artefact, HorizonModels, Scored, encode, expiry
from bot.risk.volatility.backtests import coverage
from bot.risk.volatility.boosting import fit_boosted
from bot.risk.volatility.candidates import BY_DAY, BY_HOUR, BY_WEEK, PLAIN, Candidate
from bot.risk.volatility.choosing import overlap, ranked
from bot.risk.volatility.coverage import Quantiles, quantiles_of
from bot.risk.volatility.evaluation import Comparison, diebold_mariano, stays
from bot.risk.volatility.ewma import ewma
from bot.risk.volatility.features import DAY, Features, known_by_hour
from bot.risk.volatility.garch import Garch, variances
from bot.risk.volatility.garch_fit import LEAST_RETURNS, fit_garch
from bot.risk.volatility.measures import Floats, Hours, without_gaps
from bot.risk.volatility.procyclicality import Procyclicality, procyclicality
from bot.risk.volatility.quantiles import LEVELS, filtered_historical, residual_quantile
from bot.risk.volatility.regimes import LEAST_RETURNS as LEAST_FOR_REGIMES
from bot.risk.volatility.regimes import Regimes, chosen_regimes, scaled
from bot.risk.volatility.seasons import season_of
from bot.risk.volatility.walk_forward import DAILY, EWMA, HOURLY, WEEKLY, Booster, Outcome, Setting, fitted, run
from bot.runtime.configuration.volatility import bundled_days, bundled_hours, hours_of_source

REFIT_GARCH: Final = 20  # returns after which GARCH is fitted anew
LEAST_DAYS: Final = 150
BUNDLED: Final = "bundled"
REGIMES_SINCE: Final = date(2022, 4, 1)
CONTESTS: Final = ((HOURLY, BY_HOUR), (DAILY, BY_DAY), (WEEKLY, BY_WEEK))
DECAYS: Final = (0.94, 0.97, 0.99)
SHOCKS: Final = 500  # days whose shocks a margin's quantile is taken of
BY_DAY_OF_CLOSES: Final = Setting(horizon=7, every=1, train_every=1, warm_up=730, look_back=90, refit_every=28)
CLOSES: Final = ("one", "rv7", "rv30", "rv90")
REGRESSORS: Final = {
    "fall": ("fall7",),
    "VIX": ("vix",),
    "VIX, change of a week": ("vix_change",),
    "dollar, change of a week": ("dxy_change",),
    "fear and greed": ("fng",),
    "funding": ("funding",),
    "funding, size": ("funding_size",),
}


class Line(msgspec.Struct, frozen=True):
    """One model in a contest: mean QLIKE by asset and over all, and how that compares with plain HAR and with EWMA."""

    model: str
    by_asset: dict[str, float]
    qlike: float
    against_plain: Comparison
    against_ewma: Comparison
    share_of_plain: float
    share_of_ewma: float


class Held(msgspec.Struct, frozen=True):
    """How a quantile of the chosen model held on one asset: p of Kupiec, and of Christoffersen's both tests."""

    asset: str
    level: float
    count: int
    breaches: int
    kupiec_p: float
    independence_p: float
    conditional_p: float


class Contest(msgspec.Struct, frozen=True):
    """One horizon: how many origins, the models best first, what was chosen ("EWMA" where nothing was better)."""

    hours: int
    origins: dict[str, int]
    lines: tuple[Line, ...]
    chosen: str
    held: tuple[Held, ...]
    holdout: tuple[Line, ...] = ()


class Tried(msgspec.Struct, frozen=True):
    """A regressor added to a model: what it gained, and whether it stays."""

    regressor: str
    share_of_plain: float
    test: Comparison
    is_kept: bool


class MarginLine(msgspec.Struct, frozen=True):
    """A 99 % margin of one day, both sides, by filtered historical simulation: coverage and procyclicality."""

    decay: float
    days: int
    expected: float
    breaches: int
    kupiec_p: float
    conditional_p: float
    figures: Procyclicality


class Calibration(msgspec.Struct, frozen=True):
    """All that was found, and the artefact made of it."""

    data: str
    contests: tuple[Contest, ...]
    regressors: tuple[Tried, ...]
    margins: tuple[MarginLine, ...]
    artefact: Artefact


def calibrate(sources: Sequence[str], *, with_trees: bool = True, holdout: date | None = None) -> Calibration:
    """Return the contests on the sources' prices, or on the bundled ones, and the artefact they lead to.

    `holdout` splits the tables: what comes from that day on is shown apart.
    """
    assets = _assets(sources)
    if not sources and holdout is None:
        holdout = date(2025, 1, 1)
    boost = fit_boosted if with_trees else None
    season = _common_season(assets)
    contests, horizons = [], []
    by_day = BY_DAY[0]
    for setting, candidates in CONTESTS:
        of_returns = (
            {"GARCH": _Refitted(is_asymmetric=False), "GJR-GARCH": _Refitted(is_asymmetric=True)}
            if setting.horizon == DAY
            else {}
        )
        outcome = run(assets, setting, candidates, boost=boost, of_returns=of_returns)
        names = ranked(outcome, candidates)
        by_day = next((one for one in names if setting is DAILY and not one.is_boosted), by_day)
        contests.append(_contest(outcome, names[0].name if names else EWMA, holdout))
        horizons.append(_horizon_models(assets, season, outcome, names, boost))
    artefact = _artefact(assets, season, tuple(horizons), BUNDLED if not sources else ", ".join(sorted(assets)))
    return Calibration(
        data=artefact.data,
        contests=tuple(contests),
        regressors=() if sources else (*try_regressors_by_day(assets, by_day), *try_regressors()),
        margins=() if sources else try_margins(),
        artefact=artefact,
    )


def write_artefact(found: Calibration, path: Path) -> None:
    """Write the artefact of a calibration."""
    path.write_bytes(encode(found.artefact))


class _Refitted:
    """A GARCH that is fitted now and then to all returns it is given, and forecasts the next one's variance."""

    def __init__(self, *, is_asymmetric: bool) -> None:
        self._is_asymmetric = is_asymmetric
        self._fitted_on = 0
        self._model: Garch | None = None

    def __call__(self, returns: Floats) -> float:
        if returns.size < LEAST_RETURNS:
            return float(np.var(returns))
        if self._model is None or abs(returns.size - self._fitted_on) >= REFIT_GARCH:
            self._model, self._fitted_on = fit_garch(returns, is_asymmetric=self._is_asymmetric), returns.size
        return float(variances(self._model, returns)[-1])


def _assets(sources: Sequence[str]) -> dict[str, Hours]:
    if not sources:
        return bundled_hours()
    assets: dict[str, Hours] = {}
    for source in sources:
        assets |= hours_of_source(source)
    least = LEAST_DAYS * DAY
    short = {name: len(hours) // DAY for name, hours in assets.items() if len(hours) < least}
    if short or not assets:
        told = ", ".join(f"{days} of {name}" for name, days in short.items()) or "none"
        raise ConfigError([f"expected at least {LEAST_DAYS} days of prices to calibrate on, found {told}"])
    return assets


def _common_season(assets: Mapping[str, Hours]) -> tuple[float, ...]:
    """Return the season of all assets, each counting the same."""
    logs = np.mean([np.log(season_of(hours)) for hours in assets.values()], axis=0)
    found = np.exp(logs)
    return tuple((found / found.mean()).tolist())


def _contest(outcome: Outcome, chosen: str, holdout: date | None) -> Contest:
    cut = 2**40 if holdout is None else (holdout - date(1970, 1, 1)).days * DAY
    before, after = outcome.part(0, cut), outcome.part(cut, 2**40)
    held = []
    quantiles = quantiles_of(outcome, chosen)
    for asset in outcome.origins:
        for level in quantiles.levels:
            judged = _judged(quantiles, asset, level)
            if judged is not None:
                held.append(judged)
    return Contest(
        hours=outcome.setting.horizon,
        origins={asset: int(times.size) for asset, times in outcome.origins.items()},
        lines=_lines(before),
        chosen=chosen,
        held=tuple(held),
        holdout=_lines(after) if after.origins else (),
    )


def _lines(outcome: Outcome) -> tuple[Line, ...]:
    ahead = overlap(outcome)
    plain, average = outcome.losses(PLAIN), outcome.losses(EWMA)
    lines = []
    for name in outcome.paths:
        losses = outcome.losses(name)
        mean = float(losses.mean())
        lines.append(
            Line(
                model=name,
                by_asset={asset: outcome.mean_loss(name, asset) for asset in outcome.origins},
                qlike=mean,
                against_plain=diebold_mariano(losses, plain, ahead),
                against_ewma=diebold_mariano(losses, average, ahead),
                share_of_plain=mean / float(plain.mean()),
                share_of_ewma=mean / float(average.mean()),
            )
        )
    return tuple(sorted(lines, key=lambda line: line.qlike))


def _judged(quantiles: Quantiles, asset: str, level: float) -> Held | None:
    known = np.isfinite(quantiles.variance[asset][:, 0]) & quantiles.is_apart[asset]
    if known.sum() < 2:
        return None
    found = quantiles.judged(asset, level)
    return Held(
        asset=asset,
        level=level,
        count=found.count,
        breaches=found.breaches,
        kupiec_p=found.unconditional.p_value,
        independence_p=found.independence.p_value,
        conditional_p=found.conditional.p_value,
    )


def _horizon_models(
    assets: Mapping[str, Hours],
    season: tuple[float, ...],
    outcome: Outcome,
    names: Sequence[Candidate],
    boost: Booster | None,
) -> HorizonModels:
    features = {asset: Features(without_gaps(hours), season) for asset, hours in assets.items()}
    last = max(int(hours.hour[-1]) for hours in assets.values())
    scored = []
    for one in names:
        model = fitted(one, features, outcome.setting, last, boost)
        scored.append(Scored(one.name, model, float(outcome.losses(one.name).mean()), _errors(outcome, one.name)))
    return HorizonModels(
        hours=outcome.setting.horizon,
        models=tuple(scored),
        ewma_qlike=float(outcome.losses(EWMA).mean()),
        ewma_errors=_errors(outcome, EWMA),
        plain_qlike=float(outcome.losses(PLAIN).mean()),
    )


def _errors(outcome: Outcome, name: str) -> tuple[float, ...]:
    """Return the quantiles of a model's errors out of sample, in logs of variance."""
    paths = outcome.paths[name]
    errors = np.concatenate([np.log(outcome.realised[asset]) - paths[asset].log_mean for asset in outcome.origins])
    return tuple(round(residual_quantile(errors, level), 6) for level in LEVELS)


def _artefact(
    assets: Mapping[str, Hours], season: tuple[float, ...], horizons: tuple[HorizonModels, ...], data: str
) -> Artefact:
    first = min(int(hours.hour[0]) for hours in assets.values())
    last = max(int(hours.hour[-1]) for hours in assets.values())
    as_of = _day(last)
    return Artefact(
        as_of=as_of,
        expires=expiry(as_of),
        data=f"{data}: {', '.join(sorted(assets))} by the hour, {_day(first)} to {as_of}",
        assets=tuple(sorted(assets)),
        season=season,
        usual={asset: float(np.nanmean(hours.rv)) for asset, hours in sorted(assets.items())},
        horizons=horizons,
        regimes=_regimes(assets, is_bundled=data == BUNDLED),
    )


def _regimes(assets: Mapping[str, Hours], *, is_bundled: bool) -> dict[str, Regimes]:
    """Return the regimes of each asset's days.

    The bundled months are few for that: there they are those of BTC's closes since 2022, which ETH shares, at its own
    scale.
    """
    if is_bundled:
        days, series = bundled_days()
        first = days.index(REGIMES_SINCE)
        model = chosen_regimes(np.diff(np.log(series["close_px"][first:])))
        usual = {asset: float(np.nanmean(hours.rv)) for asset, hours in assets.items()}
        return {asset: scaled(model, float(np.sqrt(usual[asset] / usual["BTC"]))) for asset in sorted(assets)}
    found = {}
    for asset, hours in sorted(assets.items()):
        move = Features(without_gaps(hours)).move(DAY)[DAY::DAY]
        move = move[np.isfinite(move)]
        if move.size >= LEAST_FOR_REGIMES:
            found[asset] = chosen_regimes(move)
    return found


def _day(hour: int) -> date:
    return datetime.fromtimestamp(hour * 3600 - 1, UTC).date()


# Daily closes: regressors from outside, and a margin's quantile -------------------------------------------------------


def days_as_steps(days: Sequence[date], close_px: Floats) -> Hours:
    """Return daily closes as steps of a day, so that what is counted in hours elsewhere is counted in days."""
    move = np.concatenate(([np.nan], np.diff(np.log(close_px))))
    number = np.array([(one - date(1970, 1, 1)).days + 1 for one in days], dtype=np.int64)  # its end
    square = move**2
    down = np.where(move < 0.0, square, 0.0)
    return Hours(number, close_px, close_px, close_px, square, down, square, square**2, square, square)


def try_regressors() -> tuple[Tried, ...]:
    """Return what regressors from outside add to HAR of BTC's daily closes, a week ahead, each by its own test.

    A value dated a day is used from the end of the next day on: by then every source had published it.
    """
    days, series = bundled_days()
    steps = days_as_steps(days, series["close_px"])
    late = {name: np.concatenate(([np.nan], values[:-1])) for name, values in series.items()}
    others = {
        "vix": np.log(late["vix"]),
        "vix_change": _change(np.log(late["vix"]), 7),
        "dxy_change": _change(np.log(late["dxy"]), 7),
        "fng": late["fng"] / 100.0,
        "funding": late["funding"] * 1e4,
        "funding_size": np.abs(late["funding"]) * 1e4,
    }
    found = []
    for name, regressors in REGRESSORS.items():
        first = 0
        for one in regressors:
            if one in others:
                first = max(first, int(np.flatnonzero(np.isfinite(others[one]))[0]))
        part = Hours(*(getattr(steps, field)[first:] for field in steps.__struct_fields__))
        filled = {key: _last_known(values[first:]) for key, values in others.items()}
        candidates = (Candidate(PLAIN, CLOSES), Candidate(name, (*CLOSES, *regressors)))
        outcome = run({"BTC": part}, BY_DAY_OF_CLOSES, candidates, others={"BTC": filled})
        found.append(_tried(outcome, name, f"{name}, the next week"))
    return tuple(found)


def try_regressors_by_day(assets: Mapping[str, Hours], base: Candidate) -> tuple[Tried, ...]:
    """Return what the same regressors add to the model chosen for the next day, on the hours of the assets."""
    days, series = bundled_days()
    published = np.array([(one - date(1970, 1, 1)).days + 2.0 for one in days]) * DAY  # the end of the next day
    columns = {
        "vix": np.log(series["vix"]),
        "vix_change": _change(np.log(series["vix"]), 7),
        "dxy_change": _change(np.log(series["dxy"]), 7),
        "fng": series["fng"] / 100.0,
        "funding": series["funding"] * 1e4,
        "funding_size": np.abs(series["funding"]) * 1e4,
    }
    others = {
        asset: {
            name: known_by_hour(without_gaps(hours).hour, published, _last_known(values))
            for name, values in columns.items()
        }
        for asset, hours in assets.items()
    }
    tried = {name: names for name, names in REGRESSORS.items() if set(names) <= set(columns)}
    candidates = [Candidate(PLAIN, base.regressors, base.ridge)]
    candidates += [Candidate(name, (*base.regressors, *names), base.ridge) for name, names in tried.items()]
    outcome = run(assets, DAILY, candidates, others=others)
    return tuple(_tried(outcome, name, f"{name}, the next day") for name in tried)


def _tried(outcome: Outcome, name: str, title: str) -> Tried:
    with_it, without = outcome.losses(name), outcome.losses(PLAIN)
    test = diebold_mariano(with_it, without, overlap(outcome))
    share = float(with_it.mean() / without.mean())
    return Tried(title, share, test, stays(with_it, without, overlap(outcome)))


def _change(values: Floats, steps: int) -> Floats:
    out = np.full(values.size, np.nan)
    out[steps:] = values[steps:] - values[:-steps]
    return out


def _last_known(values: Floats) -> Floats:
    place = np.maximum.accumulate(np.where(np.isfinite(values), np.arange(values.size), 0))
    return np.asarray(values[place], dtype=np.float64)


def try_margins(since: date = REGIMES_SINCE) -> tuple[MarginLine, ...]:
    """Return how a 99 % margin of BTC, long or short, would have held and moved, by decay of its EWMA."""
    days, series = bundled_days()
    first = next(place for place, day in enumerate(days) if day >= since - timedelta(days=SHOCKS))
    returns = np.diff(np.log(series["close_px"][first:]))
    size = np.abs(returns)
    found = []
    for decay in DECAYS:
        margin = filtered_historical(-size, ewma(returns**2, decay), 0.99, SHOCKS)
        is_known = np.isfinite(margin)
        loss, asked = size[is_known], margin[is_known]
        broken = loss > asked
        judged = coverage(broken, 0.99)
        found.append(
            MarginLine(
                decay,
                judged.count,
                0.01 * judged.count,
                judged.breaches,
                judged.unconditional.p_value,
                judged.conditional.p_value,
                procyclicality(asked, loss),
            )
        )
    return tuple(found)


# Printing -------------------------------------------------------------------------------------------------------------


def plain(found: Calibration) -> dict[str, Any]:
    """Return what was found as JSON can hold it; the artefact is written elsewhere, here is its digest."""
    built: dict[str, Any] = msgspec.to_builtins(found)
    artefact = built.pop("artefact")
    built["artefact"] = {key: artefact[key] for key in ("as_of", "expires", "data", "assets")}
    return built


def tables(found: Calibration) -> list[Table]:
    """Return what was found as tables."""
    shown = [_contest_table(one, one.lines, "") for one in found.contests]
    shown += [_contest_table(one, one.holdout, ", held out") for one in found.contests if one.holdout]
    shown.append(_held_table(found))
    if found.regressors:
        table = _table(
            "Regressors from outside: added to the model of the next day, and to HAR of BTC's closes a week ahead",
            "regressor",
            "QLIKE",
            "t",
            "p",
            "",
        )
        for tried in found.regressors:
            change = f"{100.0 * (tried.share_of_plain - 1.0):+.1f} %"
            test = tried.test
            verdict = "stays" if tried.is_kept else "dropped"
            table.add_row(tried.regressor, change, f"{test.t_statistic:.2f}", f"{test.p_value:.3f}", verdict)
        shown.append(table)
    if found.margins:
        headings = ("breaches", "expected", "Kupiec p", "both p", "mean", "peak/trough", "worst 5 days")
        table = _table("A margin of 99 % for one day of BTC, by decay", "decay", *headings)
        for line in found.margins:
            figures = line.figures
            cells = [str(line.breaches), f"{line.expected:.1f}", f"{line.kupiec_p:.2f}", f"{line.conditional_p:.2f}"]
            cells += [f"{figures.mean:.1%}", f"{figures.peak_to_trough:.1f}", f"{figures.worst_rise:+.0%}"]
            table.add_row(f"{line.decay:g}", *cells)
        shown.append(table)
    return shown


def _contest_table(contest: Contest, lines: Sequence[Line], note: str) -> Table:
    assets = list(lines[0].by_asset)
    title = f"The next {contest.hours} h, QLIKE{note}; chosen: {contest.chosen}"
    table = _table(title, "model", *assets, "all", "to HAR", "t", "p", "to EWMA", "t", "p")
    for line in lines:
        table.add_row(
            line.model,
            *(f"{line.by_asset[asset]:.4f}" for asset in assets),
            f"{line.qlike:.4f}",
            *_compared(line.share_of_plain, line.against_plain),
            *_compared(line.share_of_ewma, line.against_ewma),
        )
    return table


def _compared(share: float, test: Comparison) -> tuple[str, str, str]:
    return f"{100.0 * (share - 1.0):+.1f} %", f"{test.t_statistic:.2f}", f"{test.p_value:.3f}"


def _held_table(found: Calibration) -> Table:
    headings = ("asset", "level", "broken", "of", "expected", "Kupiec p", "independence p", "both p")
    table = _table("Quantiles of the chosen models, out of sample", "hours", *headings)
    for contest in found.contests:
        for one in contest.held:
            expected = (1.0 - one.level) * one.count
            cells = [one.asset, f"{one.level:g}", str(one.breaches), str(one.count), f"{expected:.1f}"]
            cells += [f"{one.kupiec_p:.3f}", f"{one.independence_p:.3f}", f"{one.conditional_p:.3f}"]
            table.add_row(str(contest.hours), *cells)
    return table


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for one in others:
        table.add_column(one, justify="right")
    return table
