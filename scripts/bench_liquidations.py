"""The tables of `scripts/bench liquidations`: reactive against predictive margin at equal average collateral.

Predictive margin has one setting everywhere, found on other seeds. Every other policy gets the base at which it holds
as much collateral on average; which trigger of reactive margin is best is decided on seeds that are not printed. Hours
of BTC and ETH are cut into pieces of 30 days, every other one for that; the recordings are too short to be cut, and
have the daemon's own vol forecast.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
from collections.abc import Callable, Sequence
from importlib.resources import files
from io import StringIO
from typing import Any, Final, NamedTuple

import numpy as np
from bench_speed import say

from bot.domain.units import NS_PER_MIN
from bot.risk.book import Floats
from bot.risk.parameters import decode_parameters
from bot.risk.volatility.forecaster import VolForecaster
from bot.runtime.configuration.volatility import load_artefact
from bot.simulation.predictive_run import (
    YEAR_MINUTES,
    Delays,
    Forecast,
    MarginPolicy,
    MarginTable,
    Outcome,
    Setting,
    fit_forecast,
    match_base,
    perpetual_table,
    run_policies,
    strangle_table,
)
from bot.simulation.recording import open_recording
from bot.simulation.stressed_paths import STEP_MINUTES, WORLDS, StressedWorld, draw_returns

BASE: Final = 1.23
TRIGGER: Final = 0.85
TUNING_SEED: Final = 101
SEED: Final = 202
PATHS: Final = 96
TUNING_PATHS: Final = 48
DAYS: Final = 30
LOOKING_AHEAD: Final = np.geomspace(1.01, 2.4, 6)
REACTIVE: Final = {"perpetual": np.geomspace(2.2, 6.0, 6), "short strangle": np.geomspace(1.15, 2.1, 6)}
SLOW_BARS: Final = Setting(step_minutes=60.0, delays=Delays(median_minutes=40.0, p95_minutes=90.0, most_minutes=360.0))
DAY_LONG: Final = Setting(warm_days=0.0)


class Family(NamedTuple):
    """A kind of policy: its name, and the policy at a base."""

    name: str
    at: Callable[[float], MarginPolicy]

    def grid(self, bases: Floats) -> list[MarginPolicy]:
        """Return the policy at every base."""
        return [self.at(float(base)) for base in bases]


class Tape(NamedTuple):
    """Market data of accounts that run side by side, a line per step and a column per account."""

    returns: Floats
    sides: Floats
    variances: Floats | None = None
    extremes: tuple[Floats, Floats] | None = None
    vols: Floats | None = None


def reactive(trigger: float) -> Family:
    """Return reactive margin that tops up at this share of its target."""
    name = f"reactive, below {trigger:.0%} of target"
    return Family(name, lambda base: MarginPolicy(name=name, base_ratio=base, trigger=trigger))


def predictive(name: str, **more: bool) -> Family:
    """Return predictive margin, or a part of it."""
    return Family(
        name, lambda base: MarginPolicy(name=name, base_ratio=base, trigger=TRIGGER, is_predictive=True, **more)
    )


AT_80: Final = Family(
    "reactive, at u > 80 %",
    lambda base: MarginPolicy(name="reactive, at u > 80 %", base_ratio=base, trigger=min(0.98, 1.25 / base)),
)
TRIGGERS: Final = tuple(reactive(trigger) for trigger in (0.65, 0.8, 0.9, 0.95))
BLIND: Final = predictive("looks ahead, vol constant", uses_forecast=False)
WHOLE: Final = predictive("predictive, whole ratio scaled", scales_buffer=False)
PREDICTIVE: Final = predictive("predictive")


def main(arguments: Sequence[str]) -> int:
    """Run everything and print it as Markdown, or with --json as JSON with the frontiers of the figure."""
    if arguments not in ([], ["--json"], ["--quick"]):
        say(f"expected --json, --quick or nothing, found {' '.join(arguments)}")
        return 2
    paths = 16 if "--quick" in arguments else PATHS
    tables = {
        "perpetual": perpetual_table("paradex_cross", values_of("paradex_cross")),
        "short strangle": strangle_table("paradex_portfolio", values_of("paradex_portfolio")),
    }
    rows: list[dict[str, Any]] = []
    frontiers: list[dict[str, Any]] = []
    for world in WORLDS[:1] if "--quick" in arguments else WORLDS:
        forecast, tuning, tape = draw_world(world, paths)
        for name, table in tables.items():
            rows += compare(world.name, name, table, tuning, tape, forecast, Setting(), frontiers)
    if "--quick" not in arguments:
        forecast, tuning, tape = cut_hours()
        for name, table in tables.items():
            rows += compare(
                "BTC and ETH, hours of 2024 and 2025", name, table, tuning, tape, forecast, SLOW_BARS, frontiers
            )
        tape = cut_recordings()
        for name, table in tables.items():
            rows += compare("recordings of April 2023", name, table, tape, tape, forecast, DAY_LONG, frontiers)
    if "--json" in arguments:
        print(json.dumps({"bench": "liquidations", "rows": rows, "frontiers": frontiers}, indent=1))
    else:
        print(as_markdown(rows))
    return 0


def compare(
    world: str,
    book: str,
    table: MarginTable,
    tuning: Tape,
    tape: Tape,
    forecast: Forecast,
    setting: Setting,
    frontiers: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Return what every policy came to, all with the collateral that predictive margin holds at its base."""
    families = (AT_80, *TRIGGERS, BLIND, WHOLE)
    trial = run(
        tuning, table, match(TRIGGERS, tuning, table, book, forecast, setting)[0], forecast, setting, TUNING_SEED
    )
    best = 1 + min(range(len(TRIGGERS)), key=lambda line: trial[line].per_year)
    matched, tried = match(families, tape, table, book, forecast, setting)
    found = run(tape, table, matched, forecast, setting, SEED)
    frontiers += [
        {
            "world": world,
            "book": book,
            "policy": one.policy.name,
            "base": round(one.policy.base_ratio, 3),
            "mean_collateral": round(one.mean_collateral, 5),
            "per_year": round(one.per_year, 3),
        }
        for one in tried
    ]
    rows = [as_row(world, book, one, is_best=line == best) for line, one in enumerate(found)]
    for row in rows:
        say(str(row))
    return rows


def match(
    families: Sequence[Family], tape: Tape, table: MarginTable, book: str, forecast: Forecast, setting: Setting
) -> tuple[list[MarginPolicy], list[Outcome]]:
    """Return the families and predictive margin at equal average collateral, and all outcomes on the way there."""
    plans = [PREDICTIVE.at(BASE), *PREDICTIVE.grid(LOOKING_AHEAD)]
    grids = [LOOKING_AHEAD if family in (BLIND, WHOLE) else REACTIVE[book] for family in families]
    for family, grid in zip(families, grids, strict=True):
        plans += family.grid(grid)
    tried = run(tape, table, plans, forecast, setting, SEED)
    wanted, rest = tried[0].mean_collateral, tried[1 + len(LOOKING_AHEAD) :]
    matched = []
    for family, grid in zip(families, grids, strict=True):
        own, rest = rest[: len(grid)], rest[len(grid) :]
        nearest = min(own, key=lambda one: abs(one.mean_collateral - wanted)).policy
        is_bracketed = own[0].mean_collateral <= wanted <= own[-1].mean_collateral
        matched.append(family.at(match_base(own, wanted)) if is_bracketed else nearest)
    return [*matched, PREDICTIVE.at(BASE)], tried[1:]


def run(
    tape: Tape, table: MarginTable, policies: Sequence[MarginPolicy], forecast: Forecast, setting: Setting, seed: int
) -> list[Outcome]:
    """Run policies over a tape."""
    returns, sides, variances, extremes, vols = tape
    return run_policies(returns, table, sides, policies, forecast, setting, seed, extremes, variances, vols)


def as_row(world: str, book: str, one: Outcome, *, is_best: bool) -> dict[str, Any]:
    """Return an outcome as a row of the table."""
    return {
        "world": world,
        "book": book,
        "policy": one.policy.name,
        "is_best_reactive": is_best,
        "base": round(one.policy.base_ratio, 2),
        "collateral_pct": round(100.0 * one.mean_collateral, 2),
        "liquidations": one.liquidations,
        "account_years": round(one.account_years, 1),
        "per_year": round(one.per_year, 2),
        "lost_pct_per_year": round(100.0 * one.lost / one.account_years, 1),
        "topups_per_day": round(one.topups_per_day, 2),
    }


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return liquidations per account and year (collateral in brackets), a line per world and book."""
    lines = [
        "| Paths | Book | u > 80 % | best trigger | vol constant | whole ratio | predictive | of the best trigger |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for world, book in dict.fromkeys((row["world"], row["book"]) for row in rows):
        own = {row["policy"]: row for row in rows if (row["world"], row["book"]) == (world, book)}
        best = next(row for row in own.values() if row["is_best_reactive"])
        picked = [own[AT_80.name], best, own[BLIND.name], own[WHOLE.name], own[PREDICTIVE.name]]
        cells = [f"{row['liquidations']} ({row['collateral_pct']:.2f} %)" for row in picked]
        share = picked[-1]["liquidations"] / best["liquidations"] if best["liquidations"] else float("nan")
        lines.append(f"| {world} | {book} | {' | '.join(cells)} | {share:.0%} |")
    return "\n".join(lines)


def values_of(model: str) -> dict[str, Any]:
    """Return the newest parameter values of a model that the project carries."""
    folder = files("bot.risk") / "parameter_sets"
    newest = max((one for one in folder.iterdir() if one.name.startswith(f"{model}-")), key=lambda one: one.name)
    return decode_parameters(newest.read_bytes()).values


def draw_world(world: StressedWorld, paths: int) -> tuple[Forecast, Tape, Tape]:
    """Return the forecast fitted on the tuning seed, and tapes of the tuning and of the reported seed."""
    tuning = draw_returns(world, min(paths, TUNING_PATHS), DAYS, TUNING_SEED)
    reported = draw_returns(world, paths, DAYS, SEED)
    tapes = [Tape(returns, np.where(np.arange(returns.shape[1]) % 2, 1.0, -1.0)) for returns in (tuning, reported)]
    return fit_forecast(tuning**2, STEP_MINUTES, 120.0), tapes[0], tapes[1]


def cut_hours() -> tuple[Forecast, Tape, Tape]:
    """Return the forecast and tapes of hours in pieces of 30 days, every other one for tuning, each long and short."""
    raw = (files("bot.risk.volatility") / "data" / "hours.csv.gz").read_bytes()
    table = list(csv.DictReader(StringIO(gzip.decompress(raw).decode("utf-8"))))
    pieces: list[dict[str, Floats]] = []
    for asset in ("BTC", "ETH"):
        own = [row for row in table if row["asset"] == asset]
        columns = {
            name: np.array([float(row[name]) for row in own])
            for name in ("hour", "close_px", "high_px", "low_px", "rv")
        }
        close = columns["close_px"]
        before = np.concatenate((close[:1], close[:-1]))
        gaps = np.flatnonzero(np.diff(columns["hour"]) != 1) + 1
        for part in np.split(np.arange(len(own)), gaps):
            for start in range(int(part[0]) + 1, int(part[-1]) - 24 * DAYS + 2, 24 * DAYS):
                rows = slice(start, start + 24 * DAYS)
                pieces.append(
                    {
                        "returns": np.log(close[rows] / before[rows]),
                        "low": np.log(columns["low_px"][rows] / before[rows]),
                        "high": np.log(columns["high_px"][rows] / before[rows]),
                        "variances": columns["rv"][rows],
                    }
                )
    tapes = [tape_of(pieces[first::2]) for first in (0, 1)]
    variances = tapes[0].variances
    assert variances is not None
    return fit_forecast(variances, 60.0, 120.0), tapes[0], tapes[1]


def cut_recordings() -> Tape:
    """Return both recordings as bars of five minutes, an account opened at every full hour and held for a day.

    The vol forecast is the daemon's own, from the artefact it carries and what it has seen of the recording by then.
    """
    artefact, fault = load_artefact()
    pieces = []
    for name in ("btc-2023-04", "eth-2023-04"):
        index = open_recording(name).table("index").collect()
        minutes = index["ts_event_ns"].to_numpy() // (STEP_MINUTES * 60 * 1_000_000_000)
        px = np.log(index["px"].to_numpy())
        bars = np.arange(minutes[0], minutes[-1])
        ends = np.searchsorted(minutes, bars, side="right")
        starts = np.searchsorted(minutes, bars, side="left")
        close = px[ends - 1]
        before = np.concatenate((px[:1], close[:-1]))
        both = [
            (px[a:b].min(), px[a:b].max()) if b > a else (last, last)
            for a, b, last in zip(starts, ends, close, strict=True)
        ]
        low, high = np.array(both).T - before
        forecaster = VolForecaster(name[:3].upper(), artefact, fault)
        vols = []
        for bar, last in zip(bars.tolist(), np.exp(close).tolist(), strict=True):
            end_ns = (bar + 1) * STEP_MINUTES * NS_PER_MIN
            forecaster.note_price(end_ns, last)
            told = forecaster.forecast(end_ns, DAY_LONG.delays.p95_minutes / YEAR_MINUTES)
            vols.append(1.5 if told is None else told.quantile(0.95))
        vol = np.array(vols)
        day, hour = 24 * 60 // STEP_MINUTES, 60 // STEP_MINUTES
        for start in range(0, len(bars) - day, hour):
            rows = slice(start, start + day)
            returns = (close - before)[rows]
            bounds = {"low": low[rows], "high": high[rows]}
            pieces.append({"returns": returns, "variances": returns**2, "vols": vol[rows], **bounds})
    return tape_of(pieces)


def tape_of(pieces: Sequence[dict[str, Floats]]) -> Tape:
    """Return pieces side by side, each once long and once short."""
    twice = {name: np.column_stack([one[name] for one in pieces] * 2) for name in pieces[0]}
    sides = np.repeat([1.0, -1.0], len(pieces))
    return Tape(twice["returns"], sides, twice["variances"], (twice["low"], twice["high"]), twice.get("vols"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
