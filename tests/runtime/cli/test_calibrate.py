"""`evenkeel calibrate costs`: what was put into a journal, a recording and a table of books is what comes out."""

from __future__ import annotations

import json
from math import sqrt
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from bot.domain.errors import ConfigError, JournalError, RecordingError
from bot.domain.events import SubmitOrder
from bot.domain.market import FundingRate, IndexPrice, Quote
from bot.domain.orders import Fill, FillReversed, Liquidity, OrderIntent, TimeInForce
from bot.domain.units import NS_PER_S
from bot.runtime.cli.calibrate import calibrate_app, measure
from bot.runtime.configuration.vault import HedgeLine
from bot.runtime.journal import SCHEMA_VERSION, Batch, Commands, Header, Journal
from tests.instruments import INVERSE, PERPETUAL
from tests.runtime.vault_files import write_tiny_recording

START_NS = 1_681_300_800 * NS_PER_S
VOLUME_BASE = 100_000.0
VOL = 0.03
IMPACT = 0.8


def ask(*words: str) -> Any:
    result = CliRunner().invoke(calibrate_app, ["costs", *words, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def write_journal(path: Path, orders: int, *, mode: str = "live", noise: float = 1e-6) -> Path:
    """A minute per order: a quote 2 bps wide, an order, its fill at the square root's price with a fee of 5 bps."""
    rng = np.random.default_rng(9)
    header = Header(
        "r1", "v", json.dumps({"mode": mode}), "0" * 64, None, None, 7, SCHEMA_VERSION, "0", (PERPETUAL, INVERSE)
    )
    with Journal.open(path, for_writing=True) as journal:
        journal.append(header)
        for number in range(orders):
            now_ns = START_NS + 60 * number * NS_PER_S
            mid_px = 1900.0 + number % 7
            quote = Quote("ETH-PERPETUAL", mid_px * 0.9999, 9.0, mid_px * 1.0001, 9.0, now_ns, now_ns, number)
            funding = FundingRate("ETH-PERPETUAL", 1e-4, now_ns, now_ns, number) if number % 480 == 0 else None
            index = IndexPrice("ETH", mid_px, now_ns, now_ns, number)
            journal.append(Batch(now_ns, (index, quote, *([funding] if funding else []))))
            lots = int(rng.integers(1, 2000)) * (1 if number % 2 else -1)
            order_id = f"r1-{number}"
            intent = OrderIntent(order_id, "ETH-PERPETUAL", lots, 0, TimeInForce.MARKET, False, "", mid_px, now_ns)
            journal.append(Commands(now_ns, (SubmitOrder(intent),)))
            cost = (2.0 / 3.0) * IMPACT * VOL * sqrt(abs(lots) * 0.1 / VOLUME_BASE) + 1e-4 + rng.normal(0.0, noise)
            px = mid_px * (1.0 + cost * (1 if lots > 0 else -1))
            fee = abs(lots) * 0.1 * px * 5e-4
            fills = [
                Fill(f"t{number}", order_id, "ETH-PERPETUAL", lots, px, fee, Liquidity.TAKER, now_ns + 5, now_ns + 6)
            ]
            if number == 3:  # a trade that its venue takes back, and that happens to be at a mad price
                fills.append(
                    Fill("mad", order_id, "ETH-PERPETUAL", lots, 5.0, fee, Liquidity.TAKER, now_ns + 5, now_ns + 6)
                )
                fills.append(FillReversed("mad", order_id, "ETH-PERPETUAL", "reorg", now_ns + 7, now_ns + 8))
            journal.append(Batch(now_ns + 6, tuple(fills)))
    return path


def test_a_journal_gives_back_what_its_fills_were_made_with(tmp_path: Path) -> None:
    path = write_journal(tmp_path / "own.sqlite", 1500)
    volume = {"ETH-PERPETUAL": VOLUME_BASE}
    perpetual, other = measure(str(path), volume, {"ETH-PERPETUAL": VOL})
    assert perpetual.note == ""
    assert perpetual.half_spread.value == pytest.approx(1e-4, rel=1e-9)
    assert perpetual.impact_of_fills.samples == 1500
    assert perpetual.impact_of_fills.low < IMPACT < perpetual.impact_of_fills.high
    assert perpetual.impact_of_fills.high - perpetual.impact_of_fills.low < 0.01
    assert perpetual.slippage.value == pytest.approx((2.0 / 3.0) * IMPACT * VOL * sqrt(100.0 / VOLUME_BASE), rel=0.1)
    assert [(fee.liquidity, fee.fee_bps, fee.fills) for fee in perpetual.fees] == [("taker", 5.0, 1500)]
    assert perpetual.funding_per_day.value == pytest.approx(3e-4)
    assert measure(str(path), volume, {})[0].daily_vol.is_known
    assert other.instrument == "BTC-PERPETUAL"
    assert not other.half_spread.is_known
    assert not other.impact_of_fills.is_known


def test_too_few_fills_or_no_volume_give_no_number_but_what_is_lacking(tmp_path: Path) -> None:
    path = write_journal(tmp_path / "short.sqlite", 20, mode="paper")
    few = measure(str(path), {"ETH-PERPETUAL": VOLUME_BASE}, {"ETH-PERPETUAL": VOL})[0]
    assert few.note == "fills are simulated, not a venue's"
    assert few.impact_of_fills.lacks == "30 taker orders, found 20"
    assert few.half_spread.lacks == "100 quotes, found 19"
    assert few.daily_vol.samples == 0  # as given
    assert measure(str(path), {}, {})[0].impact_of_fills.lacks == "the daily volume"
    found = ask(str(path), "--volume", f"ETH-PERPETUAL={VOLUME_BASE}")[0]
    assert found["impact_of_fills"]["value"] is None
    assert found["daily_vol"]["lacks"] == "60 prices a minute apart, found 19"


def test_fees_of_a_coin_settled_contract_are_shares_of_its_worth_in_coin(tmp_path: Path) -> None:
    path = tmp_path / "coin.sqlite"
    header = Header("r1", "v", "{}", "0" * 64, None, None, 7, SCHEMA_VERSION, "0", (INVERSE,))
    paid = [(5e-6, Liquidity.TAKER), (-1e-6, Liquidity.MAKER), (3e-6, Liquidity.TAKER)]
    fills = tuple(
        Fill(f"t{number}", "", "BTC-PERPETUAL", -30, 30_000.0, fee, liquidity, START_NS + number, START_NS)
        for number, (fee, liquidity) in enumerate(paid)
    )
    with Journal.open(path, for_writing=True) as journal:
        journal.append(header)
        journal.append(Batch(START_NS, fills))
    found = measure(str(path), {}, {})[0].fees
    assert [(fee.liquidity, fee.fee_bps) for fee in found] == [("taker", 5.0), ("maker", -1.0), ("taker", 3.0)]


def write_books(path: Path, count: int) -> Path:
    """Books whose levels are 0.2 bps apart, of 1 base each, half a bps from mid, every quarter of a second."""
    columns: dict[str, Any] = {"local_ts_ns": [START_NS + number * NS_PER_S // 4 for number in range(count)]}
    for level in range(10):
        away = 0.5 + 0.2 * level
        columns |= {
            f"bp{level}": [2000.0 * (1 - away * 1e-4)] * count,
            f"ap{level}": [2000.0 * (1 + away * 1e-4)] * count,
        }
        columns |= {f"bq{level}": [1.0 + 0.001 * (number % 3) for number in range(count)], f"aq{level}": [1.0] * count}
    pl.DataFrame(columns).write_parquet(path)
    return path


def test_books_give_spread_depth_and_what_walking_them_costs(tmp_path: Path) -> None:
    path = write_books(tmp_path / "books.parquet", 400)
    (found,) = ask(str(path), "--volume", "books=100000", "--daily-vol", "books=0.03")
    assert found["half_spread"]["value"] == pytest.approx(0.5e-4)
    assert sum(quote for _, quote in found["depth"]) == pytest.approx(9 * 2000.0, rel=0.3)
    each = [0.2e-4 * (size - 1) / 2 for size in range(1, 11)]  # of the average unit beyond the touch
    unit = [(2.0 / 3.0) * 0.03 * sqrt(size / 100_000.0) for size in range(1, 11)]
    slope = sum(a * b for a, b in zip(each, unit, strict=True)) / sum(b * b for b in unit)
    assert found["impact_of_books"]["value"] == pytest.approx(slope, rel=1e-2)
    assert found["daily_vol"]["samples"] == 0
    assert measure(str(write_books(path, 50)), {"books": 1e5}, {"books": 0.03})[0].impact_of_books.lacks == (
        "200 books, found 50"
    )


def test_a_recording_says_that_its_quotes_are_derived(tmp_path: Path) -> None:
    found = {one["instrument"]: one for one in ask("eth-2023-04", "--instrument", "ETH-PERPETUAL")}
    assert list(found) == ["ETH-PERPETUAL"]
    perpetual = found["ETH-PERPETUAL"]
    assert perpetual["note"].startswith("quotes are derived")
    assert perpetual["half_spread"]["value"] == pytest.approx(0.1256e-4, rel=1e-3)
    assert perpetual["daily_vol"]["value"] == pytest.approx(0.0403, abs=1e-3)
    assert perpetual["impact_of_books"]["value"] is None
    tiny = measure(str(write_tiny_recording(tmp_path / "tiny")), {}, {})
    assert all(not one.half_spread.is_known and not one.depth for one in tiny)


def test_the_lines_printed_are_those_of_a_vault_file(tmp_path: Path) -> None:
    journal = write_journal(tmp_path / "own.sqlite", 120)
    books = write_books(tmp_path / "books.parquet", 400)
    words = ["costs", str(journal), str(books), "--volume", "ETH-PERPETUAL=1e5", "--daily-vol", "ETH-PERPETUAL=0.03"]
    printed = CliRunner().invoke(calibrate_app, words, catch_exceptions=False).stdout
    lines = YAML(typ="safe", pure=True).load(printed[printed.index("# for a vault file") :])
    own, walked = (line for line in lines)
    assert own["taker_bps"] == 5
    assert own["costs"]["impact_coefficient"] == pytest.approx(IMPACT, abs=0.01)
    assert set(own["costs"]) == {"half_spread_bps", "impact_coefficient", "daily_volume_base", "daily_vol_fraction"}
    assert len(walked["costs"]["depth"]) > 2
    for line in lines:
        HedgeLine.model_validate(line)
    assert "BTC-PERPETUAL: nothing could be measured" in printed


def test_what_is_lost_in_the_noise_is_not_pasted(tmp_path: Path) -> None:
    journal = write_journal(tmp_path / "noisy.sqlite", 120, noise=0.05)
    words = ["costs", str(journal), "--volume", "ETH-PERPETUAL=1e5", "--daily-vol", "ETH-PERPETUAL=0.03"]
    printed = CliRunner().invoke(calibrate_app, words, catch_exceptions=False).stdout
    assert "lost in the noise" in printed
    assert "impact_coefficient" not in printed


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["eth-2023-04", "--volume", "ETH-PERPETUAL"], "expected INSTRUMENT=NUMBER above 0"),
        (["eth-2023-04", "--volume", "ETH-PERPETUAL=-3"], "expected INSTRUMENT=NUMBER above 0"),
        (["eth-2023-04", "--daily-vol", "NO-SUCH=0.03"], "found NO-SUCH"),
    ],
)
def test_what_is_asked_wrongly_is_refused(words: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        CliRunner().invoke(calibrate_app, ["costs", *words], catch_exceptions=False)


def test_a_source_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError):
        measure(str(tmp_path / "nowhere"), {}, {})
    with pytest.raises(RecordingError):
        measure(str(tmp_path / "nowhere.parquet"), {}, {})
    with pytest.raises(JournalError):
        measure(str(tmp_path / "nowhere.sqlite"), {}, {})


def test_a_damaged_journal_is_not_measured(tmp_path: Path) -> None:
    path = write_journal(tmp_path / "own.sqlite", 40)
    content = bytearray(path.read_bytes())
    place = content.rindex(msgspec.msgpack.encode("ETH-PERPETUAL"))
    content[place + 3] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(JournalError, match="evenkeel journal verify"):
        measure(str(path), {}, {})
