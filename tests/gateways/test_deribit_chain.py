"""The Deribit gateway on a cut of a real chain: names, units, order, what is dropped, and the exchange's own delta."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bot.domain.errors import RecordingError
from bot.domain.instruments import Payoff
from bot.domain.units import NS_PER_HOUR, NS_PER_MIN, NS_PER_MS, NS_PER_S, NS_PER_YEAR
from bot.gateways.deribit_chain import future_of, open_chain, option_of, perpetual_of, read_chain
from bot.pricing.black76 import greeks

ROOT = Path(__file__).resolve().parents[2]
# Four sweeps of 13 April 2023: two before the 08:00 expiry, two after the gap that follows it; every option listed.
CUT = ROOT / "tests" / "data" / "deribit_chain_cut.parquet"
EXPIRY_NS = int(datetime(2023, 4, 13, 8, tzinfo=UTC).timestamp()) * NS_PER_S
TS_EVENT_NS = (pl.col("ts").dt.epoch("ms") * NS_PER_MS).alias("ts_event_ns")


def read_all(*sources: Path) -> tuple[pl.DataFrame, Counter[str]]:
    dropped: Counter[str] = Counter()
    return pl.concat(list(read_chain(open_chain(sources), dropped))), dropped


def edited(tmp_path: Path, *changes: pl.Expr, rows: pl.DataFrame | None = None) -> Path:
    """Return a chain file like the cut, with some columns changed."""
    path = tmp_path / "edited.parquet"
    (pl.read_parquet(CUT) if rows is None else rows).with_columns(*changes).write_parquet(path)
    return path


# Names ----------------------------------------------------------------------------------------------------------------


def test_a_name_becomes_an_option() -> None:
    option = option_of("BTC-5MAY23-30500-P")
    assert option.instrument_id == "BTC-5MAY23-30500-P"
    assert option.expiry_ns == int(datetime(2023, 5, 5, 8, tzinfo=UTC).timestamp()) * NS_PER_S
    assert (option.strike_px, option.is_call, option.payoff) == (30500.0, False, Payoff.INVERSE)
    assert (option.base, option.quote, option.settle, option.price_currency) == ("BTC", "USD", "BTC", "BTC")
    assert (option.lot_base(30000.0), option.min_lots) == (0.1, 1)
    assert option_of("ETH-28APR23-1900-C").lot_base(1900.0) == 1.0


@pytest.mark.parametrize("name", ["ETH-PERPETUAL", "ETH-28APR23", "SOL-28APR23-20-C", "eth-28APR23-1900-C", ""])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(RecordingError, match=r"expected an option name like .*, found .*; hint"):
        option_of(name)


def test_recorded_option_prices_are_whole_ticks() -> None:
    ticks = option_of("ETH-28APR23-1900-C").tick_schedule
    prices = pl.read_parquet(CUT).select(pl.concat_list("best_bid_price", "best_ask_price").explode()).to_series()
    small = prices.filter((prices > 0) & (prices < 0.005))
    assert small.len() > 500
    assert all(ticks.px(ticks.floor_ticks(px)) == pytest.approx(px, abs=1e-12) for px in prices.unique())


def test_the_hedge_is_linear_in_coins_or_inverse_in_dollars() -> None:
    linear, inverse = perpetual_of("BTC", Payoff.LINEAR), perpetual_of("BTC", Payoff.INVERSE)
    assert (linear.lot_base(30000.0), linear.settle, linear.is_quote_sized) == (0.001, "USD", False)
    assert (inverse.lot_base(30000.0), inverse.settle, inverse.is_quote_sized) == (10.0 / 30000.0, "BTC", True)
    future = future_of("ETH", option_of("ETH-5MAY23-1900-C").expiry_ns, Payoff.LINEAR)
    assert (future.instrument_id, future.lot_base(1900.0)) == ("ETH-5MAY23", 0.1)
    assert future.expiry_ns == option_of("ETH-5MAY23-1900-C").expiry_ns


# Rows -----------------------------------------------------------------------------------------------------------------


def test_the_chain_says_what_it_holds() -> None:
    chain = open_chain([CUT])
    assert chain.rows == pl.scan_parquet(CUT).select(pl.len()).collect().item()
    futures = [future_of(*key, Payoff.LINEAR).instrument_id for key in chain.futures]
    days = ["14APR23", "21APR23", "28APR23", "26MAY23", "30JUN23", "29SEP23", "29DEC23", "29MAR24"]
    assert futures == [f"ETH-{day}" for day in days]
    assert chain.first_index_px == {"ETH": pl.read_parquet(CUT).sort("ts").item(0, "index_price")}
    assert len(chain.options) == len({option.instrument_id for option in chain.options})


def test_rows_come_by_event_time_and_none_is_lost() -> None:
    source = pl.read_parquet(CUT)
    assert not source.get_column("ts").is_sorted()
    rows, dropped = read_all(CUT)
    assert rows.get_column("ts_event_ns").is_sorted()
    assert not dropped
    expected = source.select(
        (pl.col("ts").dt.epoch("ms") * NS_PER_MS).alias("ts_event_ns"), "instrument_name", "index_price"
    )
    found = rows.select("ts_event_ns", "instrument_id", "index_px")
    assert sorted(found.rows()) == sorted(expected.rows())


def test_percent_becomes_fractions_and_no_quote_becomes_zero() -> None:
    source = pl.read_parquet(CUT).sort("ts", "instrument_name")
    rows = read_all(CUT)[0].sort("ts_event_ns", "instrument_id")
    for ours, theirs in (("mark_vol", "mark_iv"), ("bid_vol", "bid_iv"), ("ask_vol", "ask_iv")):
        percent = source.get_column(theirs).to_numpy()
        expected = np.where(percent == 999.0, 0.0, percent / 100)
        np.testing.assert_allclose(rows.get_column(ours).to_numpy(), expected, rtol=1e-12, atol=0)
    assert (source.get_column("ask_iv") == 999.0).any()
    for ours, theirs in (
        ("bid_px", "best_bid_price"),
        ("ask_base", "best_ask_amount"),
        ("forward_px", "underlying_price"),
    ):
        assert rows.get_column(ours).to_list() == source.get_column(theirs).to_list()


def test_windows_do_not_change_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = read_all(CUT)
    monkeypatch.setattr("bot.gateways.deribit_chain.WINDOW", timedelta(minutes=5))
    dropped: Counter[str] = Counter()
    stretches = list(read_chain(open_chain([CUT]), dropped))
    assert len(stretches) > 10
    assert pl.concat(stretches).equals(whole)
    assert not dropped


def test_files_that_follow_each_other_read_like_one(tmp_path: Path) -> None:
    source = pl.read_parquet(CUT)
    early = pl.col("snap_ts") < datetime(2023, 4, 13, 8, tzinfo=UTC)
    parts = [tmp_path / "second.parquet", tmp_path / "first.parquet"]
    source.filter(~early).write_parquet(parts[0])
    source.filter(early).write_parquet(parts[1])
    assert read_all(*parts)[0].equals(read_all(CUT)[0])


def test_a_file_without_underlying_index_lists_no_futures(tmp_path: Path) -> None:
    path = tmp_path / "demo.parquet"
    pl.read_parquet(CUT).drop("underlying_index").write_parquet(path)
    assert open_chain([path]).futures == ()
    assert read_all(path)[0].equals(read_all(CUT)[0])


# What is dropped ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("mark_iv", float("nan"), "not a number"),
        ("underlying_price", float("inf"), "not a number"),
        ("best_bid_price", None, "not a number"),
        ("index_price", 0.0, "index, forward or mark vol not positive"),
        ("mark_iv", -1.0, "index, forward or mark vol not positive"),
    ],
)
def test_rows_that_say_nothing_are_dropped_and_counted(
    tmp_path: Path, column: str, value: float | None, reason: str
) -> None:
    is_third = pl.int_range(pl.len()) % 3 == 0
    rows, dropped = read_all(edited(tmp_path, pl.when(is_third).then(value).otherwise(pl.col(column)).alias(column)))
    total = pl.read_parquet(CUT).height
    assert dropped == {reason: -(-total // 3)}
    assert rows.height == total - dropped[reason]


def test_rows_after_expiry_are_dropped(tmp_path: Path) -> None:
    moved = pl.col("ts") + pl.duration(minutes=5)
    rows, dropped = read_all(edited(tmp_path, moved))
    assert dropped["after expiry"] > 0
    assert rows.filter(pl.col("ts_event_ns") >= pl.col("expiry_ns")).height == 0
    assert rows.filter(pl.col("expiry_ns") == EXPIRY_NS).height > 0


def test_repeated_rows_are_dropped(tmp_path: Path) -> None:
    source = pl.read_parquet(CUT)
    rows, dropped = read_all(edited(tmp_path, rows=pl.concat([source, source.head(10)])))
    assert dropped == {"repeated": 10}
    assert rows.equals(read_all(CUT)[0])


def test_rows_too_late_to_be_shown_in_order_are_dropped(tmp_path: Path) -> None:
    """A row of the last sweep that claims a time before what was already shown must not turn back the clock."""
    last = pl.col("snap_ts") == pl.col("snap_ts").max()
    is_one = last & (pl.col("instrument_name") == "ETH-28APR23-1900-C")
    early = pl.when(is_one).then(pl.col("ts") - pl.duration(minutes=75)).otherwise(pl.col("ts")).alias("ts")
    rows, dropped = read_all(edited(tmp_path, early))
    assert dropped == {"late": 1}
    assert rows.get_column("ts_event_ns").is_sorted()


# What is refused ------------------------------------------------------------------------------------------------------


def test_a_file_that_is_no_chain_is_refused(tmp_path: Path) -> None:
    other, empty, broken = (tmp_path / f"{name}.parquet" for name in ("other", "empty", "broken"))
    pl.read_parquet(CUT).drop("mark_iv", "ts").write_parquet(other)
    pl.read_parquet(CUT).clear().write_parquet(empty)
    broken.write_bytes(CUT.read_bytes()[:1_000])
    for path, text in {
        other: "expected the columns of a Deribit chain, among them ts, mark_iv, found snap_ts",
        empty: "expected rows of a chain, found none",
        broken: "expected a Parquet file, found",
        tmp_path / "none.parquet": "expected a Parquet file, found",
    }.items():
        with pytest.raises(RecordingError) as caught:
            open_chain([path])
        assert text in str(caught.value)


# The exchange's own delta ---------------------------------------------------------------------------------------------


def test_the_exchange_agrees_on_delta_from_twelve_hours_to_expiry_on() -> None:
    """`delta` is not imported, so it is taken from the source, beside the vols and forwards that are."""
    theirs = pl.read_parquet(CUT).select(TS_EVENT_NS, pl.col("instrument_name").alias("instrument_id"), "delta")
    rows = read_all(CUT)[0].join(theirs, on=["ts_event_ns", "instrument_id"], how="inner")
    is_quoted = (pl.col("bid_px") > 0) | (pl.col("ask_px") > 0)
    rows = rows.filter(is_quoted & (pl.col("expiry_ns") - pl.col("ts_event_ns") >= 12 * NS_PER_HOUR))
    options = [option_of(name) for name in rows.get_column("instrument_id")]
    life_ns = (rows.get_column("expiry_ns") - rows.get_column("ts_event_ns")).to_numpy()
    ours = greeks(
        rows.get_column("forward_px").to_numpy(),
        np.array([option.strike_px for option in options]),
        life_ns / NS_PER_YEAR,
        rows.get_column("mark_vol").to_numpy(),
        np.array([option.is_call for option in options]),
    )
    assert rows.height > 1_500
    assert rows.get_column("expiry_ns").n_unique() == 10
    assert np.abs(ours.delta - rows.get_column("delta").to_numpy()).max() <= 1e-4


def test_the_script_reports_the_error_by_time_to_expiry() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, ROOT / "scripts" / "exchange_delta", CUT]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "720 and more" in ran.stdout
    assert ran.stdout.endswith("agrees to 0.0001 from 12 hours to expiry on\n")


def test_the_last_quotes_before_expiry_are_kept() -> None:
    rows, _ = read_all(CUT)
    last_ns = int(rows.filter(pl.col("expiry_ns") == EXPIRY_NS).get_column("ts_event_ns").item(-1))
    assert 0 < EXPIRY_NS - last_ns < 5 * NS_PER_MIN
