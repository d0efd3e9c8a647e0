"""A run's series as pages draw them: as many points as a chart has room for, and no extreme lost."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Final

import msgspec
import numpy as np

from bot.domain.results import HedgeMark, RunSeries, RunSummary, RunTrack, TracedRun
from bot.domain.units import NS_PER_MS
from bot.telemetry.thinning import Column, Ticks, keep_extremes

PNL_BUCKETS: Final = 80  # of time; each keeps up to six points of P&L
DELTA_BUCKETS: Final = 70  # and eight of net delta and its band
MOST_HEDGES: Final = 250
DIGITS: Final = 6


def traced(summary: RunSummary, series: RunSeries, underlying: str) -> TracedRun:
    """Return the summary with its track; `underlying` is the one the series is of."""
    return TracedRun(**msgspec.structs.asdict(summary), track=track_of(series, underlying))


def track_of(series: RunSeries, underlying: str) -> RunTrack:
    """Return the series thinned. However long it is, what comes out is bounded."""
    ts_ns = np.asarray(series.ts_ns, np.int64)
    starts_ns = np.asarray([start_ns for start_ns, _ in series.gaps_ns], np.int64)
    pnl_ms, (pnl_quote, unhedged_quote) = _thinned(
        ts_ns, starts_ns, [series.pnl_quote, series.unhedged_pnl_quote], PNL_BUCKETS
    )
    delta_ms, (net_base, low_base, high_base) = _thinned(
        ts_ns, starts_ns, [series.net_delta_base, series.low_base, series.high_base], DELTA_BUCKETS
    )
    hedges = _spread(series.hedges)
    before = np.searchsorted(ts_ns, [hedge.ts_ns for hedge in hedges], side="left") - 1
    return RunTrack(
        underlying=underlying,
        pnl_ms=pnl_ms,
        pnl_quote=pnl_quote,
        unhedged_pnl_quote=unhedged_quote,
        delta_ms=delta_ms,
        net_delta_base=net_base,
        low_base=low_base,
        high_base=high_base,
        hedge_ms=[hedge.ts_ns // NS_PER_MS for hedge in hedges],
        hedge_qty_base=[_short(hedge.qty_base) or 0.0 for hedge in hedges],
        hedge_delta_base=[_short(series.net_delta_base[place]) if place >= 0 else None for place in before.tolist()],
        fills=len(series.hedges),
    )


def _thinned(
    ts_ns: Ticks, starts_ns: Ticks, columns: Sequence[Sequence[float]], buckets: int
) -> tuple[list[int], list[list[float | None]]]:
    """Return times and columns of what is kept, with nothing in each gap."""
    arrays: list[Column] = [np.asarray(column, np.float64) for column in columns]
    kept = keep_extremes(ts_ns, arrays, buckets)
    inside = starts_ns[:buckets]  # a recording of nothing but gaps is bounded too
    cuts = np.searchsorted(ts_ns[kept], inside, side="right")
    times = np.insert(ts_ns[kept], cuts, inside) // NS_PER_MS
    return times.tolist(), [[_short(value) for value in np.insert(array[kept], cuts, np.nan)] for array in arrays]


def _spread(hedges: Sequence[HedgeMark]) -> Sequence[HedgeMark]:
    """Return the hedges, or that many spread evenly over all of them."""
    if len(hedges) <= MOST_HEDGES:
        return hedges
    return [hedges[place] for place in np.linspace(0, len(hedges) - 1, MOST_HEDGES).astype(int).tolist()]


def _short(value: float) -> float | None:
    """Return a number in few digits, None for what is none."""
    return float(f"{value:.{DIGITS}g}") if isfinite(value) else None
