"""The shape of order books: medians of made-up books whose answer is known, and never more than was recorded."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from bot.domain.errors import RecordingError
from bot.gateways.order_books import measure_shape


def books(tmp_path: Path, levels: int, touches_base: tuple[float, ...] = (10.0,)) -> Path:
    """Write one book per touch around 10,000, one bps wide: a level every 0.45 bps, 1 base on each behind the touch."""
    columns: dict[str, list[float]] = {}
    for level in range(levels):
        size = [touch if level == 0 else 1.0 for touch in touches_base]
        columns |= {f"bp{level}": [9_999.5 - 0.45 * level] * len(size), f"bq{level}": size}
        columns |= {f"ap{level}": [10_000.5 + 0.45 * level] * len(size), f"aq{level}": size}
    path = tmp_path / "books.parquet"
    pl.DataFrame(columns).write_parquet(path)
    return path


def test_the_shape_is_the_median_spread_touch_and_depth(tmp_path: Path) -> None:
    shape = measure_shape(books(tmp_path, levels=4, touches_base=(10.0, 20.0, 90.0)))
    assert shape.snapshots == 3
    assert shape.spread_bps == 1.0
    assert shape.touch_quote == pytest.approx(200_000.0, rel=1e-4)
    depth = dict(shape.buckets)
    assert {edge for edge, quote in depth.items() if quote} == {0.5, 1.0}
    assert depth[0.5] == pytest.approx(10_000.0, rel=1e-3)
    assert depth[1.0] == pytest.approx(10_000.0, rel=1e-3)


def test_depth_ends_where_the_record_does(tmp_path: Path) -> None:
    assert max(edge for edge, _ in measure_shape(books(tmp_path, levels=4)).buckets) == 1.0
    assert measure_shape(books(tmp_path, levels=1)).buckets == ()


@pytest.mark.parametrize("content", [b"", b"no parquet"])
def test_what_is_no_book_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "books.parquet"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match="expected order books bp0, bq0, ap0, aq0 …, found"):
        measure_shape(path)


@pytest.mark.parametrize("columns", [{"px": [1.0]}, {"bp0": [1.0], "bq0": [1.0], "ap0": [2.0]}, {"bp0": []}])
def test_a_table_of_something_else_is_refused(tmp_path: Path, columns: dict[str, list[float]]) -> None:
    path = tmp_path / "books.parquet"
    pl.DataFrame(columns).write_parquet(path)
    with pytest.raises(RecordingError, match="expected order books bp0, bq0, ap0, aq0 …, found"):
        measure_shape(path)
