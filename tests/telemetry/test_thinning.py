"""What is left out of a line is only what no pixel could show."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bot.telemetry.thinning import keep_extremes

NAN, INF = math.nan, math.inf


@given(
    steps=st.lists(st.tuples(st.integers(0, 10**9), st.floats(-1e9, 1e9)), min_size=1, max_size=400),
    buckets=st.integers(1, 20),
)
def test_thinning_keeps_the_ends_and_the_extremes_of_every_bucket(steps: list[tuple[int, float]], buckets: int) -> None:
    ts_ns = np.cumsum([step for step, _ in steps], dtype=np.int64)
    values = np.asarray([value for _, value in steps])
    kept = keep_extremes(ts_ns, [values], buckets)
    assert np.all(np.diff(kept) > 0)
    assert {0, ts_ns.size - 1} <= set(kept.tolist())
    span_ns = max(1, int(ts_ns[-1] - ts_ns[0]))
    bucket = np.minimum((ts_ns - ts_ns[0]) / span_ns * buckets, buckets - 1).astype(int)
    for each in np.unique(bucket):
        everything, drawn = values[bucket == each], values[kept][bucket[kept] == each]
        assert drawn.min() == everything.min()
        assert drawn.max() == everything.max()


def test_thinning_keeps_each_columns_spike_and_little_else() -> None:
    n = 80_000
    ts_ns = np.arange(n, dtype=np.int64) * 2_000_000_000
    first, second = np.zeros(n), np.zeros(n)
    first[12_345], second[54_321] = 9.0, -7.0
    first[100:200], second[300:400] = NAN, INF
    kept = keep_extremes(ts_ns, [first, second], 600)
    assert {12_345, 54_321} <= set(kept.tolist())
    assert kept.size <= 6 * 600


def test_thinning_leaves_short_and_empty_series_whole() -> None:
    ts_ns = np.arange(50, dtype=np.int64)
    assert keep_extremes(ts_ns, [np.full(50, NAN)], 600).tolist() == list(range(50))
    assert keep_extremes(ts_ns[:0], [np.zeros(0)], 600).size == 0


def test_thinning_a_column_of_nothing_keeps_the_ends() -> None:
    ts_ns = np.arange(1_000, dtype=np.int64)
    assert keep_extremes(ts_ns, [np.full(1_000, NAN)], 1).tolist() == [0, 999]
