"""Deribit option chains as recorded by pollers of its ticker: files with one row per option and sweep.

Reads them in the order things happened (`ts`, the exchange's own time, never the nominal time of the sweep) and turns
Deribit's words into ours: names into instruments, percent into fractions, its marks for "no quote" into 0. Nothing
outside this module may know a Deribit column. It must never show a row before an earlier one, or guess a missing value.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import polars as pl

from bot.domain.errors import RecordingError
from bot.domain.instruments import Future, Option, Payoff, Perpetual, TickSchedule
from bot.domain.units import NS_PER_MS

VENUE: Final = "deribit"
EXPIRY_HOUR: Final = 8
NO_ASK_VOL_PERCENT: Final = 999.0
SYNTHETIC: Final = "SYN."
WINDOW: Final = timedelta(hours=1)
# Rows carry times a few seconds before their nominal sweep; anything earlier than this before it counts as late.
EARLY: Final = timedelta(minutes=1)

COLUMNS: Final[dict[str, pl.DataType]] = {
    "snap_ts": pl.Datetime("ms", "UTC"),
    "ts": pl.Datetime("ms", "UTC"),
    "instrument_name": pl.String(),
    "underlying_price": pl.Float64(),
    "index_price": pl.Float64(),
    "mark_price": pl.Float64(),
    "mark_iv": pl.Float64(),
    "bid_iv": pl.Float64(),
    "ask_iv": pl.Float64(),
    "best_bid_price": pl.Float64(),
    "best_bid_amount": pl.Float64(),
    "best_ask_price": pl.Float64(),
    "best_ask_amount": pl.Float64(),
}
UNDERLYING_INDEX: Final = "underlying_index"

_NAME = re.compile(r"(?P<base>[A-Z]+)-(?P<expiry>\d{1,2}[A-Z]{3}\d{2})-(?P<strike>\d+)-(?P<kind>[CP])")


class _Coin(NamedTuple):
    """What Deribit's contracts on one coin look like (as of 2023)."""

    option_lot_contracts: float
    hedge_tick_px: float
    hedge_lot_base: float
    inverse_contract_quote: float


COINS: Final = {"BTC": _Coin(0.1, 0.5, 0.001, 10.0), "ETH": _Coin(1.0, 0.05, 0.1, 1.0)}
# Deribit's option prices moved in steps of 0.0005 coin at every price in 2023; the finer step below 0.005 came later.
OPTION_TICKS: Final = TickSchedule(tick_px=0.0005)


SETTLEMENT_WINDOW_S: Final = 1800.0  # Deribit's delivery price is the mean of its index over the last half hour


class Chain(NamedTuple):
    """What chain files hold: options, (coin, expiry) of listed futures, first index by coin, rows, sweeps they span."""

    sources: tuple[Path, ...]
    options: tuple[Option, ...]
    futures: tuple[tuple[str, int], ...]
    first_index_px: dict[str, float]
    rows: int
    first_sweep: datetime
    last_sweep: datetime


def open_chain(sources: Sequence[Path]) -> Chain:
    """Look through chain files; several may cover several coins, or one after another. Raises RecordingError."""
    names: set[str] = set()
    futures: set[tuple[str, int]] = set()
    first_index: dict[str, tuple[datetime, float]] = {}
    rows, sweeps = 0, []
    for source in sources:
        table = _scan(source)
        summary = table.select(pl.len(), pl.col("snap_ts").min().alias("first"), pl.col("snap_ts").max().alias("last"))
        count, first, last = summary.collect().row(0)
        if not count:
            raise RecordingError(f"{source}: expected rows of a chain, found none; hint: leave it out")
        rows += count
        sweeps += [first, last]
        listed = table.select("instrument_name", UNDERLYING_INDEX).unique().collect()
        names.update(listed.get_column("instrument_name").to_list())
        for name, underlying in listed.iter_rows():
            if underlying and not underlying.startswith(SYNTHETIC):
                option = option_of(name)
                futures.add((option.base, option.expiry_ns))
        base = pl.col("instrument_name").str.split("-").list.first()
        earliest = table.group_by(base).agg(pl.col("ts").min(), pl.col("index_price").sort_by("ts").first()).collect()
        for coin, ts, px in earliest.iter_rows():
            first_index[coin] = min(first_index.get(coin, (ts, px)), (ts, px))
    options = sorted(map(option_of, names), key=lambda o: (o.base, o.expiry_ns, o.strike_px, o.is_call))
    first_index_px = {coin: px for coin, (_, px) in first_index.items()}
    return Chain(tuple(sources), tuple(options), tuple(sorted(futures)), first_index_px, rows, min(sweeps), max(sweeps))


def read_chain(chain: Chain, dropped: Counter[str]) -> Iterator[pl.DataFrame]:
    """Yield the rows of a chain in stretches of event time, counting in `dropped` those that cannot be used.

    Columns: ts_event_ns, instrument_id, base, expiry_ns, index_px, forward_px, mark_vol, bid_vol, ask_vol (fractions),
    bid_px, bid_base, ask_px, ask_base, mark_px (coin); 0 is "none". Only one stretch is in memory at a time.
    """
    tables = [_scan(source) for source in chain.sources]
    traits = pl.DataFrame(
        [(o.instrument_id, o.base, o.expiry_ns) for o in chain.options],
        schema={"instrument_id": pl.String, "base": pl.String, "expiry_ns": pl.Int64},
        orient="row",
    )
    held: pl.DataFrame | None = None
    shown_ns = -1
    start = chain.first_sweep
    while start <= chain.last_sweep:
        end = start + WINDOW
        in_window = (pl.col("snap_ts") >= start) & (pl.col("snap_ts") < end)
        fresh = pl.concat([_normalise(table.filter(in_window).collect(), traits) for table in tables])
        rows = (fresh if held is None else pl.concat([held, fresh])).sort("ts_event_ns", maintain_order=True)
        # Sweeps still to come cannot hold anything earlier than this; what is later waits for them.
        ready_ns = round((end - EARLY).timestamp()) * 1_000_000_000 if end <= chain.last_sweep else None
        is_ready = pl.lit(value=True) if ready_ns is None else pl.col("ts_event_ns") < ready_ns
        ready, held = rows.filter(is_ready), rows.filter(~is_ready)
        yield _usable(ready, shown_ns, dropped)
        shown_ns = shown_ns if ready_ns is None else ready_ns - 1
        start = end


def option_of(name: str) -> Option:
    """Return the option of a Deribit name such as `ETH-28APR23-1900-C`; raises RecordingError if it is not one."""
    match = _NAME.fullmatch(name)
    if match is None or match["base"] not in COINS:
        expected = f"an option name like ETH-28APR23-1900-C on one of {', '.join(COINS)}"
        raise RecordingError(f"expected {expected}, found {name!r}; hint: is this a Deribit chain?")
    base = match["base"]
    return Option(
        instrument_id=name,
        venue=VENUE,
        base=base,
        quote="USD",
        settle=base,
        price_currency=base,
        payoff=Payoff.INVERSE,
        contract_size=1.0,
        lot_contracts=COINS[base].option_lot_contracts,
        tick_schedule=OPTION_TICKS,
        strike_px=float(match["strike"]),
        expiry_ns=_expiry_ns(match["expiry"]),
        is_call=match["kind"] == "C",
        settlement_window_s=SETTLEMENT_WINDOW_S,
    )


def perpetual_of(base: str, payoff: Payoff) -> Perpetual:
    """Return the coin's perpetual: INVERSE as Deribit lists it, or LINEAR as a simpler model of it."""
    coin = COINS[base]
    is_linear = payoff is Payoff.LINEAR
    return Perpetual(
        instrument_id=f"{base}-PERPETUAL",
        venue=VENUE,
        base=base,
        quote="USD",
        settle="USD" if is_linear else base,
        price_currency="USD",
        payoff=payoff,
        contract_size=1.0 if is_linear else coin.inverse_contract_quote,
        lot_contracts=coin.hedge_lot_base if is_linear else 1.0,
        tick_schedule=TickSchedule(coin.hedge_tick_px),
    )


def future_of(base: str, expiry_ns: int, payoff: Payoff) -> Future:
    """Return the coin's dated future of one expiry, sized like the perpetual."""
    twin = perpetual_of(base, payoff)
    day = datetime.fromtimestamp(expiry_ns / 1e9, UTC)
    return Future(
        instrument_id=f"{base}-{day.day}{day.strftime('%b%y').upper()}",
        venue=VENUE,
        base=base,
        quote=twin.quote,
        settle=twin.settle,
        price_currency=twin.price_currency,
        payoff=payoff,
        contract_size=twin.contract_size,
        lot_contracts=twin.lot_contracts,
        tick_schedule=twin.tick_schedule,
        expiry_ns=expiry_ns,
    )


def _expiry_ns(day: str) -> int:
    moment = datetime.strptime(day, "%d%b%y").replace(hour=EXPIRY_HOUR, tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000_000


def _scan(source: Path) -> pl.LazyFrame:
    """Return the columns we use, checked; `underlying_index` is null where a file does not have it."""
    try:
        table = pl.scan_parquet(source)
        found = table.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        what = str(error).splitlines()[0]
        raise RecordingError(f"{source}: expected a Parquet file, found: {what}; hint: is it whole?") from error
    if missing := [column for column in COLUMNS if column not in found]:
        expected = f"the columns of a Deribit chain, among them {', '.join(missing)}"
        raise RecordingError(f"{source}: expected {expected}, found {', '.join(found)}; hint: see docs/recordings.md")
    index = pl.col(UNDERLYING_INDEX) if UNDERLYING_INDEX in found else pl.lit(None).alias(UNDERLYING_INDEX)
    return table.select(*[pl.col(c).cast(dtype) for c, dtype in COLUMNS.items()], index.cast(pl.String))


def _normalise(raw: pl.DataFrame, traits: pl.DataFrame) -> pl.DataFrame:
    """Put rows into our words and units; the join keeps their order."""

    def vol(column: str) -> pl.Expr:
        percent = pl.col(column)
        # The exchange gives percent with two decimals; rounding takes off the dust of dividing.
        return pl.when(percent < NO_ASK_VOL_PERCENT).then((percent / 100).round(6)).otherwise(0.0)

    return raw.select(
        (pl.col("ts").dt.epoch("ms") * NS_PER_MS).alias("ts_event_ns"),
        pl.col("instrument_name").alias("instrument_id"),
        pl.col("index_price").alias("index_px"),
        pl.col("underlying_price").alias("forward_px"),
        (pl.col("mark_iv") / 100).round(6).alias("mark_vol"),
        vol("bid_iv").alias("bid_vol"),
        vol("ask_iv").alias("ask_vol"),
        pl.col("best_bid_price").alias("bid_px"),
        pl.col("best_bid_amount").alias("bid_base"),
        pl.col("best_ask_price").alias("ask_px"),
        pl.col("best_ask_amount").alias("ask_base"),
        pl.col("mark_price").alias("mark_px"),
    ).join(traits, on="instrument_id", how="left", maintain_order="left")


def _usable(rows: pl.DataFrame, shown_ns: int, dropped: Counter[str]) -> pl.DataFrame:
    """Take out, and count by reason, the rows that say nothing or come too late to be shown in order."""
    numbers = [c for c, dtype in rows.schema.items() if dtype == pl.Float64]
    needed = ("index_px", "forward_px", "mark_vol")
    tests = {
        "late": pl.col("ts_event_ns") > shown_ns,
        "not a number": pl.all_horizontal(pl.col(c).is_finite().fill_null(value=False) for c in numbers),
        "index, forward or mark vol not positive": pl.all_horizontal(pl.col(c) > 0 for c in needed),
        "after expiry": pl.col("ts_event_ns") < pl.col("expiry_ns"),
        "repeated": pl.struct("instrument_id", "ts_event_ns").is_first_distinct(),
    }
    for reason, is_usable in tests.items():
        kept = rows.filter(is_usable)
        if lost := rows.height - kept.height:
            dropped[reason] += lost
        rows = kept
    return rows
