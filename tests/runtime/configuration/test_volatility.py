"""Files of volatility: the bundled ones, tables of prices in any of their shapes, and every way they may be wrong."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bot.domain.errors import ConfigError
from bot.risk.volatility.measures import STEP_NS, hours_of
from bot.runtime.configuration.volatility import ARTEFACT, bundled_days, bundled_hours, hours_of_source, load_artefact

START = datetime(2024, 1, 1, tzinfo=UTC)
START_NS = int(START.timestamp()) * 1_000_000_000
PX = 100.0 * np.exp(np.cumsum(np.random.default_rng(1).normal(0.0, 0.001, 37)))
TS_NS = START_NS + STEP_NS * np.arange(37)


def test_bundled_hours_are_what_the_recordings_hold() -> None:
    found = bundled_hours()
    assert list(found) == ["BTC", "ETH"]
    for hours in found.values():
        assert np.all(np.diff(hours.hour) > 0)
        assert (hours.hour[0] - 1) * 3600 == int(START.timestamp())
        assert np.isfinite(hours.rv).all()
        assert np.all(hours.low_px <= hours.close_px)
        assert np.all(hours.close_px <= hours.high_px)
        assert np.all(hours.down <= hours.rv * 1.001)
    assert {asset: len(hours) for asset, hours in found.items()} == {"BTC": 6699, "ETH": 6982}
    assert np.sqrt(365 * 24 * found["BTC"].rv[:5980].mean()) == pytest.approx(0.55, abs=0.02)


def test_bundled_days() -> None:
    days, series = bundled_days()
    assert (days[0], days[-1]) == (date(2015, 1, 1), date(2026, 2, 13))
    assert list(series) == ["close_px", "vix", "dxy", "fng", "funding"]
    assert np.isfinite(series["close_px"]).all()
    assert series["vix"][days.index(date(2020, 3, 16))] == pytest.approx(82.69)
    assert np.isnan(series["funding"][days.index(date(2019, 9, 1))])


@pytest.mark.parametrize("name", ["candles.parquet", "prices.csv", "millis.csv"])
def test_tables_of_prices_are_read_whatever_they_call_their_columns(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    times = [START + timedelta(minutes=5) * n for n in range(37)]
    if name == "candles.parquet":
        pl.DataFrame({"ts": times, "open": PX, "high": PX * 1.01, "low": PX * 0.99, "close": PX}).write_parquet(path)
    elif name == "prices.csv":
        pl.DataFrame({"time": times, "price": PX}).write_csv(path)
    else:
        pl.DataFrame({"timestamp": TS_NS // 1_000_000, "px": PX}).reverse().write_csv(path)
    (asset, found), *rest = hours_of_source(f"SOL={path}").items()
    assert (asset, rest) == ("SOL", [])
    expected = hours_of(TS_NS, PX)
    assert found.hour.tolist() == expected.hour.tolist()
    assert found.rv == pytest.approx(expected.rv)
    if name == "candles.parquet":
        assert found.high_px == pytest.approx(1.01 * expected.high_px)


def test_recordings_are_read_too() -> None:
    found = hours_of_source("eth-2023-04")
    assert list(found) == ["ETH"]
    assert 40 < len(found["ETH"]) < 50
    assert 0.2 < np.sqrt(8760 * np.nanmean(found["ETH"].rv)) < 2.0


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"when": [1], "px": [1.0]}, "expected a column of times"),
        ({"ts": [1], "value": [1.0]}, "one of prices"),
        ({"ts": ["soon"], "px": [1.0]}, "expected ts to hold times"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, table: dict[str, list[object]], told: str) -> None:
    path = tmp_path / "wrong.csv"
    pl.DataFrame(table).write_csv(path)
    with pytest.raises(ConfigError, match=told):
        hours_of_source(f"X={path}")


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a table of prices"):
        hours_of_source(f"X={tmp_path / 'none.parquet'}")


def test_the_bundled_artefact_is_sound_and_others_are_refused_with_a_reason(tmp_path: Path) -> None:
    found, reason = load_artefact()
    assert reason == ""
    assert found is not None
    assert found.assets == ("BTC", "ETH")
    assert [one.hours for one in found.horizons] == [1, 24, 168]
    assert found.as_of == date(2025, 6, 15)
    missing, why = load_artefact(tmp_path / "none.json")
    assert missing is None
    assert why.startswith("cannot read none.json: No such file")
    damaged = tmp_path / "damaged.json"
    damaged.write_bytes(ARTEFACT.read_bytes().replace(b"0.9", b"0.8"))
    assert load_artefact(damaged)[0] is None
    assert "changed since" in load_artefact(damaged)[1]
