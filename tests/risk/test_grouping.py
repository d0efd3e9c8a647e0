"""Groups of rows, where all lines agree on them and where some of them run together in a line."""

from __future__ import annotations

import numpy as np
import pytest

from bot.risk.grouping import Grouping


@pytest.mark.parametrize("late", [0.0, 2.0, 9.0])
def test_sums_least_first_and_count_are_those_of_each_line_by_itself(late: float) -> None:
    rng = np.random.default_rng(5)
    key, tau = rng.integers(2, size=30), rng.choice([1.0, 2.0, 3.0], 30)
    lines = np.maximum(tau - np.array([[late], [0.0], [1.5]]), 0.0)  # the first line is not the finest one
    values = rng.normal(size=(2, 3, 30))
    groups = Grouping((key,), lines)
    sums, least, count = groups.sum(values), groups.least(values), np.broadcast_to(groups.count, (3, groups.size))
    times, keys, first = groups.first(lines), groups.key(key), groups.first(np.arange(30))
    for line in range(3):
        told = {(int(keys[g]), float(times[line, g])): g for g in np.flatnonzero(count[line])}
        own = {(int(k), float(t)) for k, t in zip(key, lines[line], strict=True)}
        assert told.keys() == own
        assert len(told) == np.count_nonzero(count[line])
        for (k, t), group in told.items():
            rows = np.flatnonzero((key == k) & (lines[line] == t))
            assert count[line, group] == len(rows)
            assert np.broadcast_to(first, (3, groups.size))[line, group] == rows[0]
            assert sums[:, line, group] == pytest.approx(values[:, line, rows].sum(axis=1))
            assert least[:, line, group].tolist() == values[:, line, rows].min(axis=1).tolist()
        assert not sums[:, line, count[line] == 0].any()


def test_parts_have_every_row_of_every_line_once() -> None:
    key, lines = np.array([0, 0, 1, 0]), np.array([[1.0, 2.0, 1.0, 1.0], [0.0, 0.0, 0.5, 0.0]])
    seen = {}
    for which, rows, starts, groups in Grouping((key,), lines).parts():
        assert sorted(rows.tolist()) == [0, 1, 2, 3]
        assert len(starts) == len(np.arange(4)[groups])
        for line in np.arange(2)[which].tolist():
            seen[line] = [sorted(one.tolist()) for one in np.split(rows, starts[1:])]
    assert seen == {0: [[0, 3], [1], [2]], 1: [[0, 1, 3], [2]]}
    nothing, values = Grouping((key[:0],), lines[:, :0]), np.zeros((2, 0))
    assert (nothing.size, nothing.sum(values).shape, nothing.least(values).shape) == (0, (2, 0), (2, 0))


def test_rows_by_strike_are_those_of_the_parts_and_known_from_then_on() -> None:
    rng = np.random.default_rng(3)
    key, strike = rng.integers(2, size=12), rng.permutation(12).astype(float)
    lines = np.maximum(rng.choice([1.0, 2.0], 12) - np.array([[0.0], [2.0]]), 0.0)
    grouping = Grouping((key,), lines)
    found = grouping.by_strike(strike)
    for (which, rows, starts, groups), part in zip(grouping.parts(), found, strict=True):
        assert [one.tolist() for one in np.split(part[1], starts[1:])] == [
            sorted(one.tolist(), key=strike.__getitem__) for one in np.split(rows, starts[1:])
        ]
        assert part[2].tolist() == (np.searchsorted(starts, np.arange(12), side="right") - 1).tolist()
        assert np.array_equal(np.arange(2)[part[0]], np.arange(2)[which])
        assert np.array_equal(part[3], starts)
        assert np.array_equal(np.arange(grouping.size)[part[4]], np.arange(grouping.size)[groups])
    assert grouping.by_strike(strike) is found
