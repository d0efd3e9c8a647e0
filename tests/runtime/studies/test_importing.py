"""Importing a cut of a real chain: what is recorded comes through, what is derived follows from it and says so."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from bot.domain.errors import ConfigError, RecordingError
from bot.domain.instruments import Future, Option, Payoff, Perpetual
from bot.domain.market import IndexPrice, Quote, Settlement, VolQuote
from bot.domain.units import NS_PER_MIN, NS_PER_MS, NS_PER_S
from bot.runtime.studies.importing import (
    MAX_AGE_S,
    REPEAT_NS,
    ImportOptions,
    ImportReport,
    import_deribit_chain,
    parse_books,
    parse_strikes,
)
from bot.simulation.depth import DepthLevel, DepthProfile
from bot.simulation.recording import Origin, open_recording

# Four sweeps of 13 April 2023: two before the 08:00 expiry, two after the gap that follows it; every option listed.
CUT = Path(__file__).resolve().parents[2] / "data" / "deribit_chain_cut.parquet"
EXPIRY_NS = int(datetime(2023, 4, 13, 8, tzinfo=UTC).timestamp()) * NS_PER_S
TS_EVENT_NS = (pl.col("ts").dt.epoch("ms") * NS_PER_MS).alias("ts_event_ns")


def run(destination: Path, options: ImportOptions | None = None, source: Path = CUT) -> ImportReport:
    return import_deribit_chain([source], destination, options or ImportOptions(), Console(file=io.StringIO()))


def books(tmp_path: Path) -> Path:
    """Write one order book: 2 bps wide around 10,000, 50 base at the touch, 1 base a further 0.45 bps away."""
    path = tmp_path / "books.parquet"
    bids = {"bp0": [9_999.0], "bq0": [50.0], "bp1": [9_998.55], "bq1": [1.0], "bp2": [9_998.1], "bq2": [0.0]}
    asks = {"ap0": [10_001.0], "aq0": [50.0], "ap1": [10_001.45], "aq1": [1.0], "ap2": [10_001.9], "aq2": [0.0]}
    pl.DataFrame(bids | asks).write_parquet(path)
    return path


# What was recorded ----------------------------------------------------------------------------------------------------


def test_every_vol_quote_of_the_source_comes_through(tmp_path: Path) -> None:
    run(tmp_path / "cut")
    source = pl.read_parquet(CUT).sort("ts", maintain_order=True)
    quotes = [event for event in open_recording(tmp_path / "cut").events() if isinstance(event, VolQuote)]
    assert [quote.instrument_id for quote in quotes] == source.get_column("instrument_name").to_list()
    assert [quote.forward_px for quote in quotes] == source.get_column("underlying_price").to_list()
    assert [quote.mark_vol for quote in quotes] == pytest.approx(
        (source.get_column("mark_iv") / 100).to_list(), rel=1e-12
    )


def test_the_index_is_kept_on_change_and_every_five_seconds_of_activity(tmp_path: Path) -> None:
    run(tmp_path / "cut")
    source = pl.read_parquet(CUT).sort("ts", maintain_order=True).select(TS_EVENT_NS, "index_price")
    newest: dict[int, float] = dict(source.iter_rows())
    prices = {e.ts_event_ns: e.px for e in open_recording(tmp_path / "cut").events() if isinstance(e, IndexPrice)}
    assert len(prices) < len(newest) / 5
    shown_px, shown_ns = 0.0, 0
    for ts_ns, px in newest.items():
        if ts_ns in prices:
            shown_px, shown_ns = prices[ts_ns], ts_ns
        assert shown_px == px
        assert ts_ns - shown_ns <= REPEAT_NS


def test_nothing_shown_depends_on_what_comes_later(tmp_path: Path) -> None:
    """Leaving out the last sweep changes no event before it."""
    source = pl.read_parquet(CUT)
    shorter = tmp_path / "shorter.parquet"
    source.filter(pl.col("snap_ts") < pl.col("snap_ts").max()).write_parquet(shorter)
    run(tmp_path / "whole")
    run(tmp_path / "cut", source=shorter)
    whole, cut = (list(open_recording(tmp_path / name).events()) for name in ("whole", "cut"))
    assert 0 < len(cut) < len(whole)
    assert whole[: len(cut)] == cut


# What is derived ------------------------------------------------------------------------------------------------------


def test_hedges_are_quoted_a_tick_wide_around_the_newest_recorded_price(tmp_path: Path) -> None:
    run(tmp_path / "cut")
    opened = open_recording(tmp_path / "cut")
    hedges = [each for each in opened.manifest.instruments if not isinstance(each, Option)]
    expiry_ns = {each.instrument_id: each.expiry_ns for each in hedges if isinstance(each, Future)}
    expiry_of = {each.instrument_id: each.expiry_ns for each in opened.manifest.instruments if isinstance(each, Option)}
    assert [each.instrument_id for each in hedges if isinstance(each, Perpetual)] == ["ETH-PERPETUAL"]
    assert len(expiry_ns) == 8
    # Quotes come before the vol quotes of their time, so a price belongs to a quote of the same time.
    prices: dict[tuple[int, int], float] = {}
    quotes: list[Quote] = []
    for event in opened.events():
        if isinstance(event, IndexPrice):
            prices[0, event.ts_event_ns] = event.px
        elif isinstance(event, VolQuote):
            prices[expiry_of[event.instrument_id], event.ts_event_ns] = event.forward_px
        elif isinstance(event, Quote):
            quotes.append(event)
    assert {quote.instrument_id for quote in quotes} == {each.instrument_id for each in hedges}
    for quote in quotes:
        px = prices[expiry_ns.get(quote.instrument_id, 0), quote.ts_event_ns]
        assert quote.ask_px - quote.bid_px == pytest.approx(0.05, abs=1e-9)
        assert abs((quote.bid_px + quote.ask_px) / 2 - px) <= 0.025 + 1e-9
        assert quote.bid_px / 0.05 == pytest.approx(round(quote.bid_px / 0.05), abs=1e-6)
        assert quote.bid_base * px == pytest.approx(100_000.0, rel=1e-4)
    method = opened.manifest.streams["quotes"].method
    assert opened.manifest.streams["quotes"].origin is Origin.DERIVED
    assert "ETH: assumed one tick and 100,000 quote at the touch" in method
    assert opened.manifest.depth == {}


def test_order_books_give_spread_touch_and_depth(tmp_path: Path) -> None:
    run(tmp_path / "cut", ImportOptions(books={"ETH": books(tmp_path)}))
    opened = open_recording(tmp_path / "cut")
    quote = next(event for event in opened.events() if isinstance(event, Quote))
    # 2 bps of 1,926 is 0.385: eight ticks.
    assert quote.ask_px - quote.bid_px == pytest.approx(0.4, abs=1e-9)
    assert quote.bid_base == pytest.approx(500_000.0 / 1_926.39, rel=1e-3)
    profile = opened.manifest.depth["ETH-PERPETUAL"]
    assert [level for level in profile.levels if level.notional_quote] == [DepthLevel(0.5, 10_000.0)]
    assert opened.manifest.depth["ETH-28APR23"] == profile
    assert isinstance(profile, DepthProfile)
    assert "spread 2.0 bps, 500,000 quote at the touch" in opened.manifest.streams["quotes"].method


def test_the_hedge_can_be_inverse(tmp_path: Path) -> None:
    run(tmp_path / "cut", ImportOptions(hedge_payoff=Payoff.INVERSE))
    manifest = open_recording(tmp_path / "cut").manifest
    hedges = [each for each in manifest.instruments if isinstance(each, Perpetual | Future)]
    assert {(each.payoff, each.settle, each.lot_size, each.is_quote_sized) for each in hedges} == {
        (Payoff.INVERSE, "ETH", 1.0, True)
    }
    assert "modelled as inverse" in manifest.streams["quotes"].method


def test_an_expiry_in_the_span_settles_at_the_mean_index_of_the_half_hour_before(tmp_path: Path) -> None:
    run(tmp_path / "cut")
    opened = open_recording(tmp_path / "cut")
    events = list(opened.events())
    before = [
        event.px
        for event in events
        if isinstance(event, IndexPrice) and EXPIRY_NS - 30 * NS_PER_MIN <= event.ts_event_ns < EXPIRY_NS
    ]
    settlements = [event for event in events if isinstance(event, Settlement)]
    assert [(event.expiry_ns, event.ts_event_ns) for event in settlements] == [(EXPIRY_NS, EXPIRY_NS)]
    assert settlements[0].px == pytest.approx(sum(before) / len(before), abs=1e-4)
    assert opened.table("settlements").collect().item(0, "samples") == len(before)


@pytest.mark.parametrize("name", ["btc-2023-04", "eth-2023-04"])
def test_derived_settlements_are_near_the_exchange_s_own_average(name: str) -> None:
    """In its last half hour an expiry's recorded forward is the exchange's running average of the index."""
    opened = open_recording(name)
    expiry_of = {each.instrument_id: each.expiry_ns for each in opened.manifest.instruments if isinstance(each, Option)}
    forwards: dict[int, float] = {}
    settled: list[Settlement] = []
    for event in opened.events():
        if isinstance(event, VolQuote):
            forwards[expiry_of[event.instrument_id]] = event.forward_px
        elif isinstance(event, Settlement):
            settled.append(event)
    assert len(settled) == 2
    for settlement in settled:
        assert settlement.px == pytest.approx(forwards[settlement.expiry_ns], rel=5e-4)


def test_the_manifest_says_what_is_recorded_and_what_is_not(tmp_path: Path) -> None:
    options = ImportOptions(source="a poller", licence="MIT", notice="(c) someone")
    manifest = run(tmp_path / "cut", options).manifest
    assert (manifest.name, manifest.source, manifest.licence, manifest.notice) == (
        "cut",
        "a poller",
        "MIT",
        "(c) someone",
    )
    assert {name: stream.origin for name, stream in manifest.streams.items()} == {
        "index": Origin.RECORDED,
        "quotes": Origin.DERIVED,
        "funding": Origin.DERIVED,
        "vol_quotes": Origin.RECORDED,
        "settlements": Origin.DERIVED,
    }
    assert all(stream.method and stream.max_age_s == MAX_AGE_S for stream in manifest.streams.values())
    assert manifest.streams["funding"].rows == 0
    assert "assumed to be zero" in manifest.streams["funding"].method
    assert len(manifest.gaps) == 1
    assert manifest.gaps[0].from_ns < EXPIRY_NS < manifest.gaps[0].to_ns


# Selection and report -------------------------------------------------------------------------------------------------


def test_expiries_and_strikes_can_be_thinned_and_the_index_stays_whole(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    thin = run(tmp_path / "thin.zip", ImportOptions(last_expiry=date(2023, 4, 28), strikes=(0.9, 1.1)))
    manifest = open_recording(tmp_path / "thin.zip").manifest
    chosen = [each for each in manifest.instruments if isinstance(each, Option)]
    assert 0 < len(chosen) < 200
    assert all(0.9 * 1_926.39 <= each.strike_px <= 1.1 * 1_926.39 for each in chosen)
    futures = [each.instrument_id for each in manifest.instruments if isinstance(each, Future)]
    assert futures == ["ETH-14APR23", "ETH-21APR23", "ETH-28APR23"]
    assert thin.rows_in == whole.rows_in
    assert thin.dropped == {"expiry or strike not selected": thin.rows_in - manifest.streams["vol_quotes"].rows}
    assert manifest.streams["index"].rows == whole.manifest.streams["index"].rows
    assert thin.size_bytes == (tmp_path / "thin.zip").stat().st_size
    assert f"{len(chosen)} of 590 options of the source: expiries to 2023-04-28, strikes 0.9 to 1.1" in manifest.notes


def test_the_report_says_what_came_of_it(tmp_path: Path) -> None:
    text = str(run(tmp_path / "cut"))
    for line in (
        "rows in   2,132",
        "rows out  index ",
        "dropped   none",
        "span      2023-04-13 07:52:05 to 2023-04-13 09:09:00",
        "gaps      2023-04-13 07:58:35 to 2023-04-13 09:02:21",
        "size      0.",
    ):
        assert line in text


def test_progress_is_shown(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    import_deribit_chain([CUT], tmp_path / "cut", ImportOptions(), console)
    assert isinstance(console.file, io.StringIO)
    assert "2132/2132" in console.file.getvalue()


# Options as they are typed --------------------------------------------------------------------------------------------


def test_books_and_strikes_are_read_from_text() -> None:
    assert parse_books(["ETH=a.parquet", "BTC=b=c.parquet"]) == {"ETH": Path("a.parquet"), "BTC": Path("b=c.parquet")}
    assert parse_books([]) == {}
    assert parse_strikes("0.6:1.8") == (0.6, 1.8)


@pytest.mark.parametrize("text", ["", "1", "a:b", "1:2:3", "2:1", "1:1", "-1:1", "nan:1", "0.5:"])
def test_wrong_strikes_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"--strikes: expected LOW:HIGH.*, found {text}; hint"):
        parse_strikes(text)


def test_every_wrong_book_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_books(["ETH=a.parquet", "ETH", "=b.parquet"])
    assert [problem.split("found ")[1].split(";")[0] for problem in caught.value.problems] == ["ETH", "=b.parquet"]


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (ImportOptions(books={"BTC": Path("books.parquet")}), "expected order books of ETH, found BTC; hint: --books"),
        (
            ImportOptions(strikes=(50.0, 60.0)),
            "expected an option within the expiries and strikes selected, found none",
        ),
        (ImportOptions(books={"ETH": CUT}), "expected order books bp0, bq0, ap0, aq0"),
    ],
)
def test_a_failed_import_leaves_nothing(tmp_path: Path, options: ImportOptions, text: str) -> None:
    with pytest.raises(RecordingError) as caught:
        run(tmp_path / "cut", options)
    assert text in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_no_chain_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "short.parquet"
    source.write_bytes(CUT.read_bytes()[:5_000])
    with pytest.raises(RecordingError, match="expected a Parquet file"):
        run(tmp_path / "cut", source=source)
    assert list(tmp_path.iterdir()) == [source]


def test_an_existing_recording_is_replaced_only_when_asked(tmp_path: Path) -> None:
    run(tmp_path / "cut")
    before = (tmp_path / "cut" / "manifest.json").read_bytes()
    with pytest.raises(RecordingError, match=r"expected a new name, found it taken; hint: .*--overwrite"):
        run(tmp_path / "cut", ImportOptions(strikes=(0.9, 1.1)))
    assert (tmp_path / "cut" / "manifest.json").read_bytes() == before
    run(tmp_path / "cut", ImportOptions(strikes=(0.9, 1.1), is_overwrite=True))
    assert (tmp_path / "cut" / "manifest.json").read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["cut"]


def test_two_imports_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(tmp_path / name / "cut", ImportOptions(books={"ETH": books(tmp_path)}))
    one, two = ({f.name: f.read_bytes() for f in (tmp_path / name / "cut").iterdir()} for name in ("one", "two"))
    assert one == two
