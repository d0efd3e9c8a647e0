"""`evenkeel calibrate costs`: what trading has cost, measured on recordings, order books and journals of own runs.

Prints a table of what was found, with intervals, and lines to paste into a vault file. What there are too few data for
gets no number but a word on what it lacks. Reads only; must never guess, or pass off as measured what a recording says
was derived.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite, nan
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import numpy as np
import polars as pl
import typer
from rich.console import Console
from rich.table import Table

from bot.domain.errors import ConfigError, JournalError
from bot.domain.events import SubmitOrder
from bot.domain.instruments import Instrument, Option
from bot.domain.market import FundingRate, IndexPrice, Quote
from bot.domain.orders import Fill, FillReversed, Liquidity, OrderTruth
from bot.domain.units import BPS, NS_PER_DAY, NS_PER_MIN, NS_PER_S
from bot.gateways.order_books import read_books, shape_of
from bot.pricing.calibration import (
    Estimate,
    daily_vol,
    half_spread,
    impact_from_books,
    impact_from_fills,
    mean_rate,
    unknown,
)
from bot.runtime.journal import Batch, Commands, Header, Journal, verify
from bot.simulation.recording import Origin, open_recording

NO_TERMINAL_COLUMNS: Final = 160  # of a file or a pipe, which has no width
LONGEST_QUOTE_NS: Final = NS_PER_MIN  # a quote of a journal counts for this long at most; recordings bring their own
NO_BOOKS: Final = "a table of order books"
NO_FILLS: Final = "a journal with fills"
ELSEWHERE: Final = (NO_BOOKS, NO_FILLS)  # what another kind of source could tell is not told as lacking
FEE_STEP_BPS: Final = 0.01  # fees nearer to each other than this are one tier

calibrate_app = typer.Typer(help="Measure what trading costs, and try forecasts of volatility.", no_args_is_help=True)

Sources = Annotated[
    list[str],
    typer.Argument(metavar="RECORDING|BOOKS.parquet|JOURNAL.sqlite…", help="What to measure on; bundled names work"),
]
Volumes = Annotated[
    list[str] | None,
    typer.Option("--volume", metavar="INSTRUMENT=BASE", help="What is traded of it per day, in base units"),
]
Vols = Annotated[
    list[str] | None,
    typer.Option("--daily-vol", metavar="INSTRUMENT=FRACTION", help="Its vol of one day; default: measured"),
]
Instruments = Annotated[
    list[str] | None, typer.Option("--instrument", metavar="NAME", help="Only this one; may be given several times")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]


class FeePaid(msgspec.Struct, frozen=True):
    """One fee that was paid, and on how many fills: a tier, as far as fills tell."""

    liquidity: str
    fee_bps: float
    fills: int


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What one source tells of one instrument. Half-spread, slippage and funding are fractions of value.

    `slippage` is what taker orders cost beyond half the spread when they were decided. `fees` are in the order in which
    they were first paid, so the last one of a kind is the tier of today.
    """

    instrument: str
    source: str
    note: str = ""
    half_spread: Estimate
    depth: tuple[tuple[float, float], ...] = ()
    daily_vol: Estimate
    daily_volume_base: float | None
    impact_of_books: Estimate
    impact_of_fills: Estimate
    slippage: Estimate
    fees: tuple[FeePaid, ...] = ()
    funding_per_day: Estimate


@calibrate_app.callback()
def _calibrate() -> None:
    """Measure what trading costs, and try forecasts of volatility."""


@calibrate_app.command()
def costs(
    sources: Sources,
    instrument: Instruments = None,
    volume: Volumes = None,
    vol: Vols = None,
    as_json: AsJson = False,
) -> None:
    """Half-spread, depth, impact, fees and slippage per instrument, with intervals, and lines for a vault file."""
    volumes, vols = _numbers("--volume", volume or []), _numbers("--daily-vol", vol or [])
    found = [one for source in sources for one in measure(source, volumes, vols)]
    names = {one.instrument for one in found}
    unmet = (volumes.keys() | vols.keys() | set(instrument or [])) - names
    if unmet:
        raise ConfigError([f"expected one of {', '.join(sorted(names))}, found {', '.join(sorted(unmet))}"])
    if instrument:
        found = [one for one in found if one.instrument in instrument]
    if as_json:
        typer.echo(json.dumps([_plain(one) for one in found], indent=2))
        return
    console = Console(soft_wrap=True, markup=False)
    if not console.is_terminal:
        console = Console(soft_wrap=True, markup=False, width=NO_TERMINAL_COLUMNS)
    for one in found:
        console.print(_table(one))
    typer.echo("# for a vault file, under hedge:")
    for line in snippet(found):
        typer.echo(line)


@calibrate_app.command()
def volatility(
    prices: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ASSET=FILE|RECORDING…]", help="Prices of half a year or more; default: the bundled ones"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write what was found as an artefact")] = None,
    *,
    trees: Annotated[bool, typer.Option(help="Also try boosted trees, which take most of the time")] = True,
    as_json: AsJson = False,
) -> None:
    """Try forecasts of volatility walking forward, and keep those that earned it, with how far they may be off."""
    from bot.runtime.studies.calibrate_volatility import (  # noqa: PLC0415 — it brings arch and scikit-learn, which take seconds
        calibrate,
        plain,
        tables,
        write_artefact,
    )

    if out is not None and not out.parent.is_dir():
        raise ConfigError([f"expected a folder to write {out.name} to, found none at {out.parent}"])
    try:
        found = calibrate(prices or [], with_trees=trees)
    except ValueError as error:  # prices with too many holes leave too few rows to fit a model to
        raise ConfigError([str(error)]) from None
    if out is not None:
        write_artefact(found, out)
    if as_json:
        typer.echo(json.dumps(plain(found), indent=2))
        return
    console = Console(soft_wrap=True, markup=False)
    if not console.is_terminal:
        console = Console(soft_wrap=True, markup=False, width=NO_TERMINAL_COLUMNS)
    for table in tables(found):
        console.print(table)
    if out is not None:
        typer.echo(f"wrote {out}, as of {found.artefact.as_of}, believed until {found.artefact.expires}")


def measure(source: str, volumes: Mapping[str, float], vols: Mapping[str, float]) -> list[Measured]:
    """Return what a source tells of every instrument it knows that is no option."""
    suffix = Path(source).suffix
    if suffix == ".parquet":
        return [_measure_books(Path(source), volumes, vols)]
    if suffix in {".sqlite", ".db"}:
        return _measure_journal(Path(source), volumes, vols)
    return _measure_recording(source, volumes, vols)


# Sources --------------------------------------------------------------------------------------------------------------


def _measure_recording(source: str, volumes: Mapping[str, float], vols: Mapping[str, float]) -> list[Measured]:
    recording = open_recording(source)
    manifest = recording.manifest
    quotes = recording.table("quotes").collect()
    index = recording.table("index").collect()
    stream = manifest.streams["quotes"]
    note = "" if stream.origin is Origin.RECORDED else "quotes are derived, not recorded: see the manifest's method"
    found = []
    for place, instrument in enumerate(manifest.instruments):
        if isinstance(instrument, Option):
            continue
        own = quotes.filter(pl.col("instrument") == place)
        prices = index.filter(pl.col("underlying") == instrument.base)
        profile = manifest.depth.get(instrument.instrument_id)
        found.append(
            _measured(
                instrument.instrument_id,
                manifest.name,
                note=note,
                half_spread=half_spread(
                    own["ts_event_ns"].to_numpy(),
                    own["bid_px"].to_numpy(),
                    own["ask_px"].to_numpy(),
                    round(stream.max_age_s * NS_PER_S),
                ),
                depth=tuple((level.offset_bps, level.notional_quote) for level in profile.levels) if profile else (),
                vol=daily_vol(prices["ts_event_ns"].to_numpy(), prices["px"].to_numpy()),
                volumes=volumes,
                vols=vols,
                impact_of_books=unknown(NO_BOOKS),
            )
        )
    return found


def _measure_books(source: Path, volumes: Mapping[str, float], vols: Mapping[str, float]) -> Measured:
    books = read_books(source)
    shape = shape_of(books)
    name = source.stem
    bid_px, ask_px = books.bid_px[:, 0].copy(), books.ask_px[:, 0].copy()
    timeless = unknown("times in the table")
    vol = daily_vol(books.ts_ns, 0.5 * (bid_px + ask_px)) if books.ts_ns.size else timeless
    return _measured(
        name,
        source.name,
        half_spread=half_spread(books.ts_ns, bid_px, ask_px, LONGEST_QUOTE_NS) if books.ts_ns.size else timeless,
        depth=tuple((offset, quote) for offset, quote in shape.buckets if quote > 0.0),
        vol=vol,
        volumes=volumes,
        vols=vols,
        impact_of_books=impact_from_books(*books[1:], vols.get(name, vol.value), volumes.get(name, nan)),
    )


def _measure_journal(source: Path, volumes: Mapping[str, float], vols: Mapping[str, float]) -> list[Measured]:
    fault = verify(source).fault
    if fault is not None:
        raise JournalError(f"{source}: {fault.detail}; hint: evenkeel journal verify says how far it holds")
    with Journal.open(source, for_writing=False) as journal:
        header = journal.header
        instruments = _instruments_of(header)
        is_simulated = json.loads(header.config_json).get("mode") == "paper"
        trail = Trail("fills are simulated, not a venue's" if is_simulated else "")
        for _, record in journal.records():
            if isinstance(record, Batch):
                trail.take_in(record)
            elif isinstance(record, Commands):
                trail.note_orders(record)
    return [trail.measured(one, source.name, volumes, vols) for one in instruments if not isinstance(one, Option)]


def _instruments_of(header: Header) -> tuple[Instrument, ...]:
    """Return the instruments of a journal: its own, or those of the recording it ran on."""
    if header.recording is None:
        return header.instruments
    return open_recording(header.recording).manifest.instruments


class _Taken(NamedTuple):
    """A taker order as it came out: base units, and its cost beyond half the spread as a share of its value."""

    qty_base: float
    cost_rate: float


class Trail:
    """What a journal tells of costs, gathered row by row: quotes, decisions with the quote they saw, and fills."""

    def __init__(self, note: str) -> None:
        self._note = note
        self._quotes: dict[str, tuple[array[int], array[float], array[float]]] = {}
        self._index: dict[str, tuple[array[int], array[float]]] = {}
        self._funding: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self._seen: dict[str, tuple[float, float]] = {}  # by order: mid at its decision, half-spread as a share of it
        self._fills: dict[tuple[str, str], Fill] = {}

    def take_in(self, batch: Batch) -> None:
        """Note the events of one batch."""
        for event in batch.events:
            if isinstance(event, Quote):
                if event.instrument_id not in self._quotes:
                    self._quotes[event.instrument_id] = (array("q"), array("d"), array("d"))
                times, bids, asks = self._quotes[event.instrument_id]
                times.append(event.ts_event_ns)
                bids.append(event.bid_px)
                asks.append(event.ask_px)
            elif isinstance(event, IndexPrice):
                stamps, prices = self._index.setdefault(event.underlying, (array("q"), array("d")))
                stamps.append(event.ts_event_ns)
                prices.append(event.px)
            elif isinstance(event, FundingRate):
                self._funding[event.instrument_id].append((event.ts_event_ns, event.rate))
            elif isinstance(event, Fill):
                self._fills[event.instrument_id, event.trade_id] = event
            elif isinstance(event, FillReversed):
                self._fills.pop((event.instrument_id, event.trade_id), None)
            elif isinstance(event, OrderTruth):
                for fill in event.fills:
                    self._fills.setdefault((fill.instrument_id, fill.trade_id), fill)

    def note_orders(self, commands: Commands) -> None:
        """Note every order that was sent, with the newest quote of its instrument."""
        for command in commands.commands:
            if isinstance(command, SubmitOrder):
                intent = command.intent
                if intent.instrument_id in self._quotes:
                    _, bids, asks = self._quotes[intent.instrument_id]
                    bid_px, ask_px = bids[-1], asks[-1]
                    if 0.0 < bid_px <= ask_px:
                        self._seen[intent.order_id] = (0.5 * (bid_px + ask_px), (ask_px - bid_px) / (bid_px + ask_px))

    def measured(
        self, instrument: Instrument, source: str, volumes: Mapping[str, float], vols: Mapping[str, float]
    ) -> Measured:
        """Return what all of it says of one instrument."""
        name = instrument.instrument_id
        times, bids, asks = (np.array(one) for one in self._quotes.get(name, ((), (), ())))
        stamps, prices = (np.array(one) for one in self._index.get(instrument.base, ((), ())))
        vol = daily_vol(stamps.astype(np.int64), prices.astype(np.float64))
        fills = sorted(
            (one for one in self._fills.values() if one.instrument_id == name), key=lambda one: one.ts_event_ns
        )
        taken = list(self._taken(instrument, fills))
        size = np.array([one.qty_base for one in taken], np.float64)
        rate = np.array([one.cost_rate for one in taken], np.float64)
        return _measured(
            name,
            source,
            note=self._note if fills else "",
            half_spread=half_spread(times.astype(np.int64), bids.astype(float), asks.astype(float), LONGEST_QUOTE_NS),
            vol=vol,
            volumes=volumes,
            vols=vols,
            impact_of_books=unknown(NO_BOOKS),
            impact_of_fills=impact_from_fills(size, rate, vols.get(name, vol.value), volumes.get(name, nan)),
            slippage=mean_rate(rate),
            fees=_fees(instrument, fills),
            funding=_funding_per_day(self._funding[name]),
        )

    def _taken(self, instrument: Instrument, fills: Sequence[Fill]) -> Iterator[_Taken]:
        """Yield every order that only took, as one trade at its average price."""
        by_order: dict[str, list[Fill]] = defaultdict(list)
        for fill in fills:
            by_order[fill.order_id].append(fill)
        for order_id, parts in by_order.items():
            if order_id in self._seen and all(part.liquidity is Liquidity.TAKER for part in parts):
                mid_px, half_rate = self._seen[order_id]
                qty_base = sum(part.qty_lots * instrument.lot_base(part.px) for part in parts)
                px = sum(part.px * part.qty_lots * instrument.lot_base(part.px) for part in parts) / qty_base
                side = 1.0 if qty_base > 0.0 else -1.0
                yield _Taken(abs(qty_base), side * (px / mid_px - 1.0) - half_rate)


def _fees(instrument: Instrument, fills: Sequence[Fill]) -> tuple[FeePaid, ...]:
    counts: Counter[tuple[str, float]] = Counter()
    for fill in fills:
        worth_base = abs(fill.qty_lots) * instrument.lot_base(fill.px)
        worth_settle = worth_base if instrument.settle == instrument.base else worth_base * fill.px
        if worth_settle > 0.0 and isfinite(fill.fee_settle):
            bps = round(fill.fee_settle / worth_settle / BPS / FEE_STEP_BPS) * FEE_STEP_BPS
            counts[str(fill.liquidity), round(bps, 4)] += 1
    return tuple(FeePaid(liquidity, bps, count) for (liquidity, bps), count in counts.items())


def _funding_per_day(paid: Sequence[tuple[int, float]]) -> Estimate:
    """Return what a long paid a short per day, over whole periods between payments."""
    if len(paid) < 2 or paid[-1][0] - paid[0][0] < NS_PER_DAY:
        return unknown("funding over a day", len(paid))
    days = (paid[-1][0] - paid[0][0]) / NS_PER_DAY
    each = mean_rate(np.array([rate for _, rate in paid[1:]]), least=2)
    per_day = (len(paid) - 1) / days
    return Estimate(each.value * per_day, each.low * per_day, each.high * per_day, each.samples)


def _measured(
    instrument: str,
    source: str,
    *,
    vol: Estimate,
    volumes: Mapping[str, float],
    vols: Mapping[str, float],
    half_spread: Estimate,
    impact_of_books: Estimate,
    impact_of_fills: Estimate | None = None,
    slippage: Estimate | None = None,
    funding: Estimate | None = None,
    note: str = "",
    depth: tuple[tuple[float, float], ...] = (),
    fees: tuple[FeePaid, ...] = (),
) -> Measured:
    """Return the findings, what the user said of a scale in place of what was measured."""
    given = vols.get(instrument)
    no_fills = unknown(NO_FILLS)
    return Measured(
        instrument=instrument,
        source=source,
        note=note,
        half_spread=half_spread,
        depth=depth,
        daily_vol=Estimate(given, given, given, 0) if given is not None else vol,
        daily_volume_base=volumes.get(instrument),
        impact_of_books=impact_of_books,
        impact_of_fills=impact_of_fills or no_fills,
        slippage=slippage or no_fills,
        fees=fees,
        funding_per_day=funding or unknown("funding over a day"),
    )


# Words ----------------------------------------------------------------------------------------------------------------


def _table(one: Measured) -> Table:
    note = f"; {one.note}" if one.note else ""
    table = Table(title=f"{one.instrument}, from {one.source}{note}", title_justify="left")
    table.add_column("what")
    for heading in ("value", "from", "to", "samples"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for what, estimate, unit in (
        ("half-spread, bps (middle 80 % of the time)", one.half_spread, BPS),
        ("takers' slippage beyond it, bps", one.slippage, BPS),
        ("impact Y, own fills", one.impact_of_fills, 1.0),
        ("impact Y, walk of books", one.impact_of_books, 1.0),
        ("vol of a day", one.daily_vol, 1.0),
        ("funding per day, bps", one.funding_per_day, BPS),
    ):
        if estimate.lacks not in ELSEWHERE:
            table.add_row(what, *_cells(estimate, unit), _remark(one, estimate))
    for fee in one.fees:
        table.add_row(f"fee of a {fee.liquidity} fill, bps", f"{fee.fee_bps:g}", "", "", str(fee.fills), "")
    if one.depth:
        quote = sum(size for _, size in one.depth)
        words = f"{len(one.depth)} levels, to {one.depth[-1][0]:g} bps behind the touch"
        table.add_row("depth, quote money", f"{quote:,.0f}", "", "", "", words)
    return table


def _cells(estimate: Estimate, unit: float) -> tuple[str, str, str, str]:
    if not estimate.is_known:
        return "none", "", "", str(estimate.samples or "")
    if not estimate.samples:
        return f"{estimate.value / unit:.4g}", "", "", ""
    value, low, high = (f"{round(one / unit, 9):.4g}" for one in (estimate.value, estimate.low, estimate.high))
    return value, low, high, str(estimate.samples)


def _remark(one: Measured, estimate: Estimate) -> str:
    if estimate.lacks:
        return f"too few data, needs {estimate.lacks}"
    if not estimate.samples:
        return "as given"
    if estimate is one.impact_of_fills and not estimate.low > 1e-9:
        return "lost in the noise: may be none"
    return ""


def snippet(found: Iterable[Measured]) -> list[str]:
    """Return lines for a vault file: per instrument the newest of each number there is; none for what is not known."""
    merged: dict[str, dict[str, Any]] = {}
    for one in found:
        line = merged.setdefault(one.instrument, {"costs": {}})
        for fee in one.fees:
            line[f"{fee.liquidity}_bps"] = fee.fee_bps
        costs = line["costs"]
        if one.half_spread.is_known:
            costs["half_spread_bps"] = _digits(one.half_spread.value / BPS)
        impact = one.impact_of_fills if one.impact_of_fills.is_known else one.impact_of_books
        if impact.low > 1e-9 and one.daily_volume_base is not None:
            costs["impact_coefficient"] = _digits(impact.value)
            costs["daily_volume_base"] = one.daily_volume_base
            costs["daily_vol_fraction"] = _digits(one.daily_vol.value)
        if one.funding_per_day.is_known:
            costs["funding_rate_per_day"] = _digits(one.funding_per_day.value)
        if one.depth:
            costs["depth"] = one.depth
    return [text for name, line in merged.items() for text in _hedge_line(name, line)]


def _hedge_line(name: str, line: Mapping[str, Any]) -> Iterator[str]:
    costs = line["costs"]
    if not costs and len(line) == 1:
        yield f"# {name}: nothing could be measured"
        return
    yield f"- instrument: {name}"
    for key in ("maker_bps", "taker_bps"):
        if key in line:
            yield f"  {key}: {line[key]:g}"
    if costs:
        yield "  costs:"
    for key, value in costs.items():
        if key != "depth":
            yield f"    {key}: {value}"
    if "depth" in costs:
        yield "    depth:"
        for offset_bps, quote in costs["depth"]:
            yield f"      - {{offset_bps: {float(offset_bps)}, notional_quote: {float(quote)}}}"


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


def _plain(one: Measured) -> object:
    """Return findings as JSON has them: null where there is no number."""
    return msgspec.json.decode(msgspec.json.encode(one))


def _numbers(option: str, pairs: Sequence[str]) -> dict[str, float]:
    """Return INSTRUMENT=NUMBER as a mapping. Raises ConfigError."""
    found = {}
    for pair in pairs:
        name, _, text = pair.rpartition("=")
        try:
            value = float(text)
        except ValueError:
            value = nan
        if not name or not 0.0 < value < 1e15:
            raise ConfigError([f"{option}: expected INSTRUMENT=NUMBER above 0, found {pair!r}"])
        found[name] = value
    return found
