"""Files that volatility forecasts come from: hours of prices, daily series, and the artefact of a calibration."""

from __future__ import annotations

import gzip
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

import bot.risk.volatility
from bot.domain.errors import ConfigError
from bot.risk.volatility.artefact import Artefact, decode
from bot.risk.volatility.measures import Floats, Hours, hours_of
from bot.simulation.recording import open_recording

DATA: Final = Path(bot.risk.volatility.__file__).parent / "data"
ARTEFACT: Final = DATA / "artefact.json"
TIMES: Final = ("ts_ns", "ts_event_ns", "ts", "time", "timestamp", "date")
PRICES: Final = ("px", "close", "close_px", "price")


def load_artefact(path: Path | None = None) -> tuple[Artefact | None, str]:
    """Return the artefact in a file, or the bundled one; or none, and why: a forecast without one falls back."""
    source = ARTEFACT if path is None else path
    try:
        return decode(source.read_bytes()), ""
    except OSError as error:
        return None, f"cannot read {source.name}: {error.strerror or error}"
    except ValueError as error:
        return None, f"{source.name}: {error}"


def bundled_hours() -> dict[str, Hours]:
    """Return the hours of BTC and ETH that come with Evenkeel: nine months of 2024 and six weeks of 2025."""
    table = pl.read_csv(gzip.decompress((DATA / "hours.csv.gz").read_bytes()))
    return {
        str(asset): Hours(part["hour"].to_numpy(), *(part[name].to_numpy() for name in part.columns[2:]))
        for (asset,), part in table.group_by("asset", maintain_order=True)
    }


def bundled_days() -> tuple[list[date], dict[str, Floats]]:
    """Return days since 2015 and series of them: BTC's close, VIX, dollar index, fear and greed, funding."""
    table = pl.read_csv(gzip.decompress((DATA / "days.csv.gz").read_bytes()), try_parse_dates=True)
    values = {name: table[name].cast(pl.Float64).to_numpy() for name in table.columns[1:]}
    return table["date"].to_list(), {name: np.where(np.isfinite(one), one, np.nan) for name, one in values.items()}


def hours_of_source(source: str) -> dict[str, Hours]:
    """Return the hours of `ASSET=FILE` (a table of times and prices), or of every underlying of a recording."""
    asset, is_file, name = source.partition("=")
    if is_file:
        return {asset: _hours_of_file(Path(name))}
    index = open_recording(source).table("index").collect()
    return {
        str(underlying): hours_of(part["ts_event_ns"].to_numpy(), part["px"].to_numpy())
        for (underlying,), part in index.sort("ts_event_ns").group_by("underlying", maintain_order=True)
    }


def _hours_of_file(path: Path) -> Hours:
    """Return the hours of a table with a column of times and one of prices; candles also have `high` and `low`.

    A price counts from its time on, so a candle's time is its end.
    """
    try:
        table = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, try_parse_dates=True)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigError([f"{path}: expected a table of prices, found {str(error).splitlines()[0]}"]) from None
    time = next((one for one in TIMES if one in table.columns), None)
    price = next((one for one in PRICES if one in table.columns), None)
    if time is None or price is None:
        wanted = f"a column of times ({', '.join(TIMES)}) and one of prices ({', '.join(PRICES)})"
        raise ConfigError([f"{path}: expected {wanted}, found {', '.join(table.columns)}"])
    table = table.drop_nulls([time, price]).sort(time)
    kind = table.schema[time]
    if kind.is_temporal():
        ts_ns = table[time].cast(pl.Datetime("ns")).cast(pl.Int64).to_numpy()
    elif kind.is_integer():
        ts_ns = table[time].cast(pl.Int64).to_numpy()
        ts_ns = ts_ns * _unit(int(ts_ns[0])) if ts_ns.size else ts_ns
    else:
        raise ConfigError([f"{path}: expected {time} to hold times, found {kind}; hint: ISO 8601, or an integer"])
    extremes = [table[name].cast(pl.Float64).to_numpy() for name in ("high", "low") if _has_range(table)]
    return hours_of(ts_ns, table[price].cast(pl.Float64).to_numpy(), *extremes)


def _has_range(table: pl.DataFrame) -> bool:
    return {"high", "low"} <= set(table.columns)


def _unit(time: int) -> int:
    """Return how many nanoseconds a time counts in: seconds, milliseconds and microseconds are told by their size."""
    sizes = ((1_000_000_000, 10**11), (1_000_000, 10**14), (1_000, 10**17))
    return next((unit for unit, most in sizes if time < most), 1)
