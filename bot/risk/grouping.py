"""Rows of a book put together, and sums by group, for every copy of a stack at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bot.risk.book import Flags, Floats, Ints


class Grouping:
    """Which rows belong together, line by line: those alike in all keys, and in a number that may differ by line.

    Rows that are together in every line are put together first, in the order of the book. Where a line has more of
    them in one group (two expiries that are over in it), the first of these has what all of them have, and the others
    are empty: sums of nothing.
    """

    __slots__ = ("_alike", "_by_strike", "_firsts", "_into", "_order", "_starts", "_to_first", "size")

    def __init__(self, keys: Sequence[Floats | Ints | Flags], lines: Floats) -> None:
        """Group rows by numbers that all lines share, sorted by the first of them, and by one of each line."""
        order = np.lexsort((*lines[::-1], *keys[::-1]))
        sorted_keys, in_order = [key[order] for key in keys], lines.take(order, axis=1)
        is_new = (in_order[:, 1:] != in_order[:, :-1]).any(axis=0)
        for key in sorted_keys:
            is_new |= key[1:] != key[:-1]
        self._order: Ints = order
        self._starts: Ints = _starts(is_new, len(order))
        self.size = len(self._starts)
        self._firsts: Ints = order[self._starts][None, :]
        self._by_strike: list[tuple[slice | Ints, Ints, Ints, Ints, slice | Ints]] | None = None
        self._alike: Flags | None = None
        if len(lines) == 1:
            return
        seconds = in_order.take(self._starts, axis=1)
        alike = seconds[:, :, None] == seconds[:, None, :]
        for key in sorted_keys:
            of_group = key[self._starts]
            alike &= of_group[:, None] == of_group
        if np.count_nonzero(alike) > self.size * len(lines):  # more than each with itself
            self._alike = alike
            self._into: Ints = alike.argmax(axis=2)
            self._to_first: Floats = (self._into[:, :, None] == np.arange(self.size)).astype(np.float64)
            self._firsts = np.where(alike, self._firsts[:, None, :], len(order)).min(axis=2)

    def parts(self) -> list[tuple[slice | Ints, Ints, Ints, slice | Ints]]:
        """Return which lines have which rows one after the other, where in these groups begin, and which these are."""
        if self._alike is None:
            return [(slice(None), self._order, self._starts, slice(None))]
        label = np.repeat(np.arange(self.size), self._sizes)
        out: list[tuple[slice | Ints, Ints, Ints, slice | Ints]] = []
        patterns, which = np.unique(self._into, axis=0, return_inverse=True)
        for number, into in enumerate(patterns):
            labels = into[label]
            places = np.argsort(labels, kind="stable")
            groups, starts = np.unique(labels[places], return_index=True)
            out.append(((which.reshape(-1) == number).nonzero()[0], self._order[places], starts, groups))
        return out

    def by_strike(self, strike_px: Floats) -> list[tuple[slice | Ints, Ints, Ints, Ints, slice | Ints]]:
        """Return the `parts` with rows of a group in the order of strikes, which are always the same, and their groups.

        By part: lines, rows, the group of each row counted from 0, where groups begin, and which these are.
        """
        if self._by_strike is None:
            self._by_strike = []
            for lines, rows, starts, groups in self.parts():
                label = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(rows)))
                self._by_strike.append((lines, rows[np.lexsort((strike_px[rows], label))], label, starts, groups))
        return self._by_strike

    def key(self, values: Ints) -> Ints:
        """Return by group what all of its rows have in every line."""
        return values.take(self._order.take(self._starts))

    def first(self, values: Floats | Ints) -> Floats:
        """Return by line and group the number of its first row, of a line of numbers or of one per line."""
        lines: Floats = (values if values.ndim > 1 else values[None, :]).astype(np.float64, copy=False)
        if self._alike is None:
            found: Floats = lines.take(self._firsts[0], axis=1)
        elif len(lines) == 1:
            found = lines[0].take(self._firsts)
        else:
            found = lines[np.arange(len(lines))[:, None], self._firsts]
        return found

    @property
    def count(self) -> Floats:
        """How many rows each group has, by line."""
        sizes = self._sizes[None, :].astype(np.float64)
        return sizes if self._alike is None else (sizes[:, None, :] @ self._to_first)[:, 0, :]

    def sum(self, values: Floats) -> Floats:
        """Return sums by group over the last axis of values by copy (the axis before) and row."""
        if not self.size:
            return np.zeros((*values.shape[:-1], 0))
        found: Floats = np.add.reduceat(values.take(self._order, axis=-1), self._starts, axis=-1)
        if self._alike is not None:
            found = np.matmul(found[..., None, :], self._to_first)[..., 0, :]
        return found

    def least(self, values: Floats) -> Floats:
        """Return the least of each group over the last axis of values by copy (the axis before) and row."""
        if not self.size:
            return np.zeros((*values.shape[:-1], 0))
        found: Floats = np.minimum.reduceat(values.take(self._order, axis=-1), self._starts, axis=-1)
        return found if self._alike is None else np.where(self._alike, found[..., None, :], np.inf).min(axis=-1)

    @property
    def _sizes(self) -> Ints:
        stops = np.append(self._starts[1:], len(self._order))
        return stops - self._starts


def _starts(is_new: Flags, rows: int) -> Ints:
    """Return where groups begin, of flags from the second row on."""
    if not rows:
        return np.zeros(0, dtype=np.int64)
    flags = np.ones(rows, dtype=bool)
    flags[1:] = is_new
    return flags.nonzero()[0]
