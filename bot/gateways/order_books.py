"""The shape of recorded order books: how wide the touch is and how much rests behind it, in bps and quote money.

Reads tables of book snapshots (`bp0 bq0 ap0 aq0 …`, best level first, quantities in base units). A shape holds no price
and no time, so it may be laid around another market's price; it must never claim depth beyond the levels recorded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from bot.domain.errors import RecordingError
from bot.domain.units import BPS

EDGES_BPS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0)
# A bucket counts only where nearly every snapshot reaches that far, or the median would measure the cut, not the book.
REACH: Final = 0.9
CLOCKS: Final = ("ts_event_ns", "local_ts_ns")  # columns that may tell a snapshot's time, the first one found is taken


class BookShape(msgspec.Struct, frozen=True):
    """Medians over snapshots and both sides: the spread, the touch, and (distance from touch, notional) per bucket.

    Each bucket's own notional is placed at the far end of the bucket, the dearer one to trade at.
    """

    spread_bps: float
    touch_quote: float
    buckets: tuple[tuple[float, float], ...]
    snapshots: int


class Books(NamedTuple):
    """Book snapshots, a row each, best level first; `ts_ns` is empty where the table tells no times."""

    ts_ns: NDArray[np.int64]
    bid_px: NDArray[np.float64]
    bid_base: NDArray[np.float64]
    ask_px: NDArray[np.float64]
    ask_base: NDArray[np.float64]


def read_books(source: Path) -> Books:
    """Return the books in a Parquet file; raises RecordingError if it is not one of books."""
    try:
        books = pl.read_parquet(source)
        levels = sum(column.startswith("bp") for column in books.columns)
        sides = [_side(books, prefix, levels) for prefix in ("bp", "bq", "ap", "aq")]
        clock = next((column for column in CLOCKS if column in books.columns), None)
        ts_ns = books[clock].cast(pl.Int64).to_numpy() if clock is not None else np.empty(0, np.int64)
    except (pl.exceptions.PolarsError, OSError) as error:
        what = str(error).splitlines()[0]
        raise RecordingError(f"{source}: expected order books bp0, bq0, ap0, aq0 …, found: {what}") from error
    if not sides[0].size:
        raise RecordingError(f"{source}: expected order books bp0, bq0, ap0, aq0 …, found none")
    return Books(ts_ns, *sides)


def measure_shape(source: Path) -> BookShape:
    """Return the median shape of the books in a Parquet file; raises RecordingError if it is not one of books."""
    return shape_of(read_books(source))


def shape_of(books: Books) -> BookShape:
    """Return the median shape of these books."""
    _, bid_px, bid_base, ask_px, ask_base = books
    best_bid, best_ask = bid_px[:, :1], ask_px[:, :1]
    distance_bps = np.vstack([(best_bid - bid_px) / best_bid, (ask_px - best_ask) / best_ask]) / BPS
    notional = np.vstack([bid_px * bid_base, ask_px * ask_base])
    touch = float(np.median(notional[:, 0]))
    buckets, inside = [], touch
    for edge_bps in EDGES_BPS:
        if (distance_bps[:, -1] >= edge_bps).mean() < REACH:
            break
        within = float(np.median((notional * (distance_bps <= edge_bps)).sum(axis=1)))
        buckets.append((edge_bps, float(round(within - inside))))
        inside = within
    spread_bps = float(np.median((best_ask - best_bid) / (best_ask + best_bid) * 2 / BPS))
    return BookShape(round(spread_bps, 4), float(round(touch)), tuple(buckets), len(bid_px))


def _side(books: pl.DataFrame, prefix: str, levels: int) -> NDArray[np.float64]:
    return books.select(f"{prefix}{level}" for level in range(levels)).to_numpy()
