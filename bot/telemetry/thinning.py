"""A line thinned to what a picture of it can show: no extreme is lost, whatever else is left out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ticks: TypeAlias = NDArray[np.int64]
Column: TypeAlias = NDArray[np.float64]


def keep_extremes(ts_ns: Ticks, columns: Iterable[Column], buckets: int) -> NDArray[np.intp]:
    """Return the sorted indices worth drawing: of every column in every bucket the first, last, lowest and highest.

    Buckets are equal stretches of time, so a line through what is kept covers the same pixels as the line through
    everything (M4: Jugel, Jerzak, Hackenbroich, Markl, VLDB 2014). `ts_ns` ascends and has the length n of each
    column; at most 2 × (1 + columns) indices are kept per bucket, all of them where n is no larger than that.
    NaN and ±inf are never extremes.
    """
    columns = list(columns)
    size = ts_ns.size
    if size <= 2 * (1 + len(columns)) * buckets:
        return np.arange(size)
    span_ns = max(1, int(ts_ns[-1] - ts_ns[0]))
    bucket = np.minimum((ts_ns - ts_ns[0]) / span_ns * buckets, buckets - 1).astype(np.intp)
    starts = np.flatnonzero(np.diff(bucket, prepend=-1))
    kept = [starts, np.append(starts[1:], size) - 1]
    for column in columns:
        finite = np.flatnonzero(np.isfinite(column))
        by_value = finite[np.lexsort((column[finite], bucket[finite]))]
        lowest = np.flatnonzero(np.diff(bucket[by_value], prepend=-1))
        highest = np.append(lowest[1:], by_value.size)[: lowest.size] - 1
        kept += [by_value[lowest], by_value[highest]]
    return np.unique(np.concatenate(kept))
