"""Making recordings out of chain files: the body of `evenkeel import deribit-chain`.

Streams the source in event time, derives what was not recorded (hedge quotes, settlements) and says so in the manifest.
Must never write half a recording, use a price before its time, or pass off what is derived as recorded.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final, NamedTuple

import polars as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bot.domain.errors import ConfigError, RecordingError
from bot.domain.instruments import Hedgeable, Instrument, Option, Payoff
from bot.domain.units import BPS, NS_PER_MIN, NS_PER_S, utc_second_text
from bot.gateways.deribit_chain import Chain, future_of, open_chain, perpetual_of, read_chain
from bot.gateways.order_books import BookShape, measure_shape
from bot.simulation.depth import DepthLevel, DepthProfile
from bot.simulation.recording import (
    SCHEMAS,
    Manifest,
    Origin,
    RecordingDraft,
    StreamDraft,
    check_destination,
    write_recording,
)

MAX_AGE_S: Final = 600.0
REPEAT_NS: Final = 5 * NS_PER_S
SETTLEMENT_NS: Final = 30 * NS_PER_MIN
# Taken where no order book is given: a touch one tick wide that holds this much, and nothing behind it.
ASSUMED_TOUCH_QUOTE: Final = 100_000.0
EVERY_STRIKE: Final = (0.0, math.inf)

INDEX_METHOD: Final = (
    "The exchange's index as stamped on every row of the source, also on rows of options left out here; kept where it "
    "changed, and at least once in every five seconds in which anything was recorded."
)
VOL_QUOTES_METHOD: Final = (
    "The exchange's ticker of each option: vols in percent divided by 100, the exchange's own marks for no quote "
    "(bid vol 0, ask vol 999, price 0) set to 0; nothing else is changed."
)
FUNDING_METHOD: Final = "Funding was not recorded; it is assumed to be zero, which is why this table is empty."
SETTLEMENTS_METHOD: Final = (
    "Mean of the index stream over the last 30 minutes before each expiry within the span, in place of the exchange's "
    "own average; `samples` says of how many values. The sweeps at the very time of expiry are missing in the source."
)


class ImportOptions(NamedTuple):
    """What to take from the source and how to model the rest.

    `books` are files of order books by coin; `last_expiry` and `strikes` (lowest and highest, as multiples of the
    coin's first index price) thin the options; `source`, `licence` and `notice` go into the manifest as they are.
    """

    books: Mapping[str, Path] = {}
    hedge_payoff: Payoff = Payoff.LINEAR
    last_expiry: date | None = None
    strikes: tuple[float, float] = EVERY_STRIKE
    source: str = ""
    licence: str = "not stated"
    notice: str = ""
    is_overwrite: bool = False


class ImportReport(NamedTuple):
    """What came of an import: rows read, rows dropped by reason, the manifest of the result and its size."""

    rows_in: int
    dropped: dict[str, int]
    manifest: Manifest
    size_bytes: int

    def __str__(self) -> str:
        rows_out = {name: stream.rows for name, stream in self.manifest.streams.items()}
        gaps = [f"{utc_second_text(gap.from_ns)} to {utc_second_text(gap.to_ns)}" for gap in self.manifest.gaps]
        lines = {
            "rows in": f"{self.rows_in:,}",
            "rows out": ", ".join(f"{name} {rows:,}" for name, rows in rows_out.items()),
            "dropped": ", ".join(f"{reason} {rows:,}" for reason, rows in self.dropped.items()) or "none",
            "span": f"{utc_second_text(self.manifest.start_ns)} to {utc_second_text(self.manifest.end_ns)}",
            "gaps": "; ".join(gaps) or "none",
            "size": f"{self.size_bytes / 1e6:.2f} MB",
        }
        return "\n".join(f"{word:<9} {text}" for word, text in lines.items())


def parse_books(texts: Sequence[str]) -> dict[str, Path]:
    """Return the order books of `COIN=FILE` texts; raises ConfigError."""
    pairs = [text.partition("=") for text in texts]
    if wrong := [text for text, (coin, _, file) in zip(texts, pairs, strict=True) if not (coin and file)]:
        raise ConfigError([f"--books: expected COIN=FILE, found {text}; hint: ETH=books.parquet" for text in wrong])
    return {coin: Path(file) for coin, _, file in pairs}


def parse_strikes(text: str) -> tuple[float, float]:
    """Return the bounds of a `LOW:HIGH` text; raises ConfigError."""
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        low = high = math.nan
    if not 0 <= low < high:
        hint = "0.6:1.8 keeps strikes from 60 % to 180 % of the first index price"
        raise ConfigError(
            [f"--strikes: expected LOW:HIGH, two numbers with LOW below HIGH, found {text}; hint: {hint}"]
        )
    return low, high


def import_deribit_chain(
    sources: Sequence[Path], destination: Path, options: ImportOptions, console: Console
) -> ImportReport:
    """Make a recording at `destination` (a folder, or a .zip) from chain files, with a progress bar on `console`.

    Raises RecordingError if a source is not a chain, nothing is left of it, or the destination may not be written.
    """
    check_destination(destination, is_overwrite=options.is_overwrite)
    chain = open_chain(sources)
    if strangers := sorted(options.books.keys() - chain.first_index_px.keys()):
        expected = f"order books of {', '.join(sorted(chain.first_index_px))}"
        raise RecordingError(f"expected {expected}, found {', '.join(strangers)}; hint: --books COIN=FILE")
    shapes = {base: measure_shape(path) for base, path in options.books.items()}
    dropped: Counter[str] = Counter()
    parts = destination.with_name(f".{destination.name}.parts")
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True)
    try:
        work = _Import(chain, options, shapes, parts)
        with _progress(console) as progress:
            task = progress.add_task(destination.name, total=chain.rows)
            for rows in read_chain(chain, dropped):
                work.take(rows)
                progress.advance(task, rows.height)
            progress.update(task, completed=chain.rows)
        dropped["expiry or strike not selected"] = work.unselected
        manifest = write_recording(destination, work.draft(destination.stem), is_overwrite=options.is_overwrite)
    finally:
        shutil.rmtree(parts)
    files = [destination] if destination.is_file() else list(destination.iterdir())
    size_bytes = sum(file.stat().st_size for file in files)
    return ImportReport(chain.rows, {reason: rows for reason, rows in dropped.items() if rows}, manifest, size_bytes)


class _Import:
    """The work between source and recording: stretches of rows come in, parts of our tables go to disk."""

    def __init__(self, chain: Chain, options: ImportOptions, shapes: Mapping[str, BookShape], parts: Path) -> None:
        self.unselected = 0
        self._chain, self._options, self._shapes, self._parts = chain, options, shapes, parts
        self._chosen = [option for option in chain.options if _is_chosen(option, chain, options)]
        if not self._chosen:
            expected = "an option within the expiries and strikes selected"
            raise RecordingError(f"expected {expected}, found none; hint: widen --last-expiry or --strikes")
        payoff = options.hedge_payoff
        expiries = {(option.base, option.expiry_ns) for option in self._chosen}
        self._perpetuals = {base: perpetual_of(base, payoff) for base in sorted({base for base, _ in expiries})}
        self._futures = {key: future_of(*key, payoff) for key in chain.futures if key in expiries}
        self._instruments: tuple[Instrument, ...] = (*self._perpetuals.values(), *self._futures.values(), *self._chosen)
        self._numbers = {each.instrument_id: number for number, each in enumerate(self._instruments)}
        self._spot = {base: _Track() for base in self._perpetuals}
        self._forward = {key: _Track() for key in self._futures}
        self._stretches = 0

    def take(self, rows: pl.DataFrame) -> None:
        """Turn one stretch of rows into one part of every table."""
        index: list[pl.DataFrame] = []
        quotes: list[pl.DataFrame] = []
        for base, perpetual in self._perpetuals.items():
            spot = self._spot[base].changes(rows.filter(pl.col("base") == base), "index_px")
            index.append(spot.with_columns(pl.lit(base).alias("underlying")))
            quotes.append(self._hedge_quotes(perpetual, spot))
        for (base, expiry_ns), future in self._futures.items():
            is_ours = (pl.col("base") == base) & (pl.col("expiry_ns") == expiry_ns)
            forward = self._forward[base, expiry_ns].changes(rows.filter(is_ours), "forward_px")
            quotes.append(self._hedge_quotes(future, forward))
        numbers = pl.DataFrame({"instrument_id": list(self._numbers), "instrument": list(self._numbers.values())})
        vols = rows.join(numbers, on="instrument_id", how="inner", maintain_order="left")
        self.unselected += rows.height - vols.height
        for stream, table in {"index": pl.concat(index), "quotes": pl.concat(quotes), "vol_quotes": vols}.items():
            part = table.select(pl.col(column).cast(dtype) for column, dtype in SCHEMAS[stream].items())
            ordered = part.sort("ts_event_ns", maintain_order=True)
            ordered.write_parquet(self._parts / f"{stream}-{self._stretches:05}.parquet", compression="lz4")
        self._stretches += 1

    def draft(self, name: str) -> RecordingDraft:
        """Return the recording to be written out of all parts."""
        index = self._whole("index")
        tables = {
            "index": (index, Origin.RECORDED, INDEX_METHOD),
            "quotes": (self._whole("quotes"), Origin.DERIVED, self._quotes_method()),
            "funding": (pl.LazyFrame(schema=SCHEMAS["funding"]), Origin.DERIVED, FUNDING_METHOD),
            "vol_quotes": (self._whole("vol_quotes"), Origin.RECORDED, VOL_QUOTES_METHOD),
            "settlements": (_settlements(index, self._chosen), Origin.DERIVED, SETTLEMENTS_METHOD),
        }
        hedges = [*self._perpetuals.values(), *self._futures.values()]
        return RecordingDraft(
            name=name,
            source=self._options.source or ", ".join(path.name for path in self._chain.sources),
            licence=self._options.licence,
            notice=self._options.notice,
            notes=self._notes(),
            instruments=self._instruments,
            depth={
                hedge.instrument_id: _depth(self._shapes[hedge.base]) for hedge in hedges if hedge.base in self._shapes
            },
            streams={
                stream: StreamDraft(t, MAX_AGE_S, origin, method) for stream, (t, origin, method) in tables.items()
            },
        )

    def _hedge_quotes(self, hedge: Hedgeable, px: pl.DataFrame) -> pl.DataFrame:
        """Return quotes one spread wide, in whole ticks, as near around the price as ticks allow."""
        tick_px = hedge.tick_schedule.tick_px
        shape = self._shapes.get(hedge.base)
        spread_bps, touch_quote = (shape.spread_bps, shape.touch_quote) if shape else (0.0, ASSUMED_TOUCH_QUOTE)
        width_ticks = (pl.col("px") * (spread_bps * BPS / tick_px)).ceil().clip(lower_bound=1)
        bid_ticks = (pl.col("px") / tick_px - width_ticks / 2).round()
        touch_base = (touch_quote / pl.col("px")).round(3)
        return px.select(
            "ts_event_ns",
            pl.lit(self._numbers[hedge.instrument_id]).alias("instrument"),
            # Rounding takes off the dust of multiplying; every tick here is a multiple of it.
            (bid_ticks * tick_px).round(6).alias("bid_px"),
            touch_base.alias("bid_base"),
            ((bid_ticks + width_ticks) * tick_px).round(6).alias("ask_px"),
            touch_base.alias("ask_base"),
        )

    def _whole(self, stream: str) -> pl.LazyFrame:
        return pl.scan_parquet(sorted(self._parts.glob(f"{stream}-*.parquet")))

    def _quotes_method(self) -> str:
        sizes = [
            f"{base}: median of {shape.snapshots:,} recorded books ({self._options.books[base].name}): spread "
            f"{shape.spread_bps} bps, {shape.touch_quote:,.0f} quote at the touch, and the depth listed here"
            for base, shape in self._shapes.items()
        ]
        assumed = [base for base in self._perpetuals if base not in self._shapes]
        if assumed:
            sizes.append(f"{', '.join(assumed)}: assumed one tick and {ASSUMED_TOUCH_QUOTE:,.0f} quote at the touch")
        return (
            "No hedge market was recorded. Each perpetual is quoted around the index, each dated future around the "
            "forward of its expiry (the recorded price of that very future, seen through its options), at the times "
            "these were recorded; bid and ask lie one spread apart, at least one tick. Spread and sizes, rescaled in "
            f"bps and quote money: {'; '.join(sizes)}. Contracts are modelled as {self._options.hedge_payoff}."
        )

    def _notes(self) -> str:
        low, high = self._options.strikes
        last = self._options.last_expiry
        expiries = f"expiries to {last}" if last else "every expiry"
        is_whole = self._options.strikes == EVERY_STRIKE
        strikes = "every strike" if is_whole else f"strikes {low:g} to {high:g} times the first index"
        return (
            f"{len(self._chosen)} of {len(self._chain.options)} options of the source: {expiries}, {strikes}. "
            "Rows are ordered by the exchange's event time; each sweep over the chain takes a minute or more."
        )


class _Track:
    """The last price kept of one series, so that what is kept does not depend on where stretches are cut."""

    def __init__(self) -> None:
        self._ts_ns, self._px = -1, math.nan

    def changes(self, rows: pl.DataFrame, column: str) -> pl.DataFrame:
        """Return ts_event_ns and px of the rows where the price changed, or that come first in their five seconds."""
        series = rows.select("ts_event_ns", pl.col(column).alias("px"))
        series = series.unique("ts_event_ns", keep="last", maintain_order=True)
        if not series.height:
            return series
        ts, px = pl.col("ts_event_ns"), pl.col("px")
        is_first = (ts // REPEAT_NS) != ts.shift(1, fill_value=self._ts_ns) // REPEAT_NS
        kept = series.filter(is_first | (px != px.shift(1, fill_value=self._px)))
        self._ts_ns, self._px = series.row(-1)
        return kept


def _is_chosen(option: Option, chain: Chain, options: ImportOptions) -> bool:
    low, high = options.strikes
    moneyness = option.strike_px / chain.first_index_px[option.base]
    is_soon = (
        options.last_expiry is None
        or datetime.fromtimestamp(option.expiry_ns / NS_PER_S, UTC).date() <= options.last_expiry
    )
    return is_soon and low <= moneyness <= high


def _settlements(index: pl.LazyFrame, chosen: Sequence[Option]) -> pl.LazyFrame:
    """Return the mean index of the half hour before each expiry that has one recorded and has passed."""
    expiries = pl.LazyFrame(
        sorted({(option.expiry_ns, option.base) for option in chosen}),
        schema={"expiry_ns": pl.Int64, "underlying": pl.String},
        orient="row",
    )
    age_ns = pl.col("expiry_ns") - pl.col("ts_event_ns")
    has_passed = pl.col("expiry_ns") <= pl.col("ts_event_ns").max()
    return (
        expiries.join(index, on="underlying", how="inner")
        .filter(has_passed.over("underlying"))
        .filter((age_ns > 0) & (age_ns <= SETTLEMENT_NS))
        .group_by("expiry_ns", "underlying")
        .agg(pl.col("px").mean().round(4), pl.len().alias("samples"))
        .with_columns(pl.col("expiry_ns").alias("ts_event_ns"))
        .sort("ts_event_ns", "underlying")
    )


def _depth(shape: BookShape) -> DepthProfile:
    return DepthProfile(tuple(DepthLevel(offset_bps, notional) for offset_bps, notional in shape.buckets))


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)
