"""`evenkeel calibrate volatility`: what it finds on the bundled prices, what it writes, and what it refuses."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from rich.console import Console
from typer.testing import CliRunner

from bot.domain.errors import ConfigError
from bot.risk.volatility.artefact import decode
from bot.risk.volatility.forecaster import VolForecaster
from bot.risk.volatility.measures import NS_PER_HOUR, STEP_NS
from bot.runtime.cli.app import app
from bot.runtime.configuration.volatility import bundled_days
from bot.runtime.studies.calibrate_volatility import Calibration, calibrate, days_as_steps, tables, try_margins


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prices of 165 days, every five minutes, whose vol lasts for days and rests at weekends."""
    rng = np.random.default_rng(3)
    day = np.arange(165 * 288) // 288
    level = np.zeros(165)
    for one in range(1, 165):
        level[one] = 0.9 * level[one - 1] + rng.normal(0.0, 0.25)
    vol = 0.001 * np.exp(level[day] - 0.8 * (day % 7 >= 5))
    start_ns = 473_352 * NS_PER_HOUR  # a Monday
    path = tmp_path_factory.mktemp("prices") / "sol.parquet"
    px = 100.0 * np.exp(np.cumsum(vol * rng.normal(size=day.size)))
    pl.DataFrame({"ts_ns": start_ns + STEP_NS * np.arange(day.size), "px": px}).write_parquet(path)
    return path


def test_what_is_in_the_prices_is_found_written_and_usable(prices: Path, tmp_path: Path) -> None:
    out = tmp_path / "sol.json"
    answer = CliRunner().invoke(
        app, ["calibrate", "volatility", f"SOL={prices}", "--no-trees", "--json", "--out", str(out)]
    )
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.output)
    by_hours = {one["hours"]: one for one in found["contests"]}
    assert list(by_hours) == [1, 24, 168]
    losses = {line["model"]: line["qlike"] for line in by_hours[24]["lines"]}
    assert losses["HAR weekend"] < 0.8 * losses["HAR"]
    assert losses["HAR"] < losses["random walk"]
    assert {"GARCH", "GJR-GARCH", "EWMA", "average", "chosen by record"} <= set(losses)
    assert "weekend" in by_hours[24]["chosen"] or "everything" in by_hours[24]["chosen"]
    chosen = next(line for line in by_hours[24]["lines"] if line["model"] == by_hours[24]["chosen"])
    assert chosen["against_plain"]["p_value"] < 0.1
    assert {held["level"] for held in by_hours[24]["held"]} == {0.9, 0.95, 0.99}
    artefact = decode(out.read_bytes())
    assert artefact.assets == ("SOL",)
    assert "SOL" in artefact.data
    assert artefact.season[5 * 24] < 0.6 * artefact.season[2 * 24]
    console = Console(width=200, record=True, file=StringIO())
    for table in tables(msgspec.convert(found | {"artefact": artefact}, Calibration)):
        console.print(table)
    printed = console.export_text()
    assert f"The next 24 h, QLIKE; chosen: {by_hours[24]['chosen']}" in printed
    assert "Quantiles of the chosen models, out of sample" in printed
    assert f"{losses['GJR-GARCH']:.4f}" in printed
    forecaster = VolForecaster("SOL", artefact)
    last = pl.read_parquet(prices).tail(12 * 24 * 3)
    for now_ns, px in zip(last["ts_ns"].to_list(), last["px"].to_list(), strict=True):
        forecaster.note_price(now_ns, px)
    forecast = forecaster.forecast(int(last["ts_ns"][-1]), 1 / 365)
    assert forecast is not None
    assert 0.05 < forecast.mean_vol < forecast.quantile_vols[2]


def test_too_little_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 150 days of prices to calibrate on, found 2 of ETH"):
        calibrate(["eth-2023-04"])


def test_what_cannot_be_written_or_fitted_is_one_line(prices: Path, tmp_path: Path) -> None:
    out = tmp_path / "none" / "vol.json"
    answer = CliRunner().invoke(app, ["calibrate", "volatility", "--out", str(out)])
    assert isinstance(answer.exception, ConfigError)
    assert "expected a folder to write vol.json to" in str(answer.exception)
    holed = tmp_path / "holed.parquet"
    table = pl.read_parquet(prices)
    pl.concat([table.head(600), table.tail(600)]).write_parquet(holed)
    answer = CliRunner().invoke(app, ["calibrate", "volatility", f"SOL={holed}", "--no-trees"])
    assert isinstance(answer.exception, ConfigError)
    assert "expected more than 2184 hours" in str(answer.exception)


def test_daily_closes_as_steps() -> None:
    days, series = bundled_days()
    steps = days_as_steps(days[:5], series["close_px"][:5])
    assert np.diff(steps.hour).tolist() == [1, 1, 1, 1]
    move = np.diff(np.log(series["close_px"][:5]))
    assert steps.rv[1:] == pytest.approx(move**2)
    assert steps.down[1:] == pytest.approx(np.minimum(move, 0.0) ** 2)


def test_slower_margins_are_steadier_and_hold_as_well() -> None:
    found = try_margins()
    assert [one.decay for one in found] == [0.94, 0.97, 0.99]
    for one in found:
        assert one.days == pytest.approx(1414, abs=5)
        assert one.kupiec_p > 0.05
    ratios = [one.figures.peak_to_trough for one in found]
    rises = [one.figures.worst_rise for one in found]
    assert ratios == sorted(ratios, reverse=True)
    assert rises == sorted(rises, reverse=True)
    assert ratios[0] > 2 * ratios[2]
