"""What the daemon notes of itself for its windows: how long decisions take, how late its loop is, what is not on disk.

A few additions per decision, outside of it; nothing is computed before somebody asks.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from itertools import accumulate
from pathlib import Path
from typing import Final

from bot.domain.units import NS_PER_S
from bot.domain.windows import DurationCounts, Meters
from bot.engine.latencies import Latencies

BOUNDS_S: Final = (
    0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
    30.0, 60.0,
)  # fmt: skip
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Durations:
    """A histogram of durations with fixed bounds."""

    def __init__(self, bounds_s: tuple[float, ...] = BOUNDS_S) -> None:
        self._bounds_s = bounds_s
        self._bounds_ns = [round(bound * NS_PER_S) for bound in bounds_s]
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_ns = 0

    def note(self, duration_ns: int) -> None:
        """Count one duration; one below zero, as two clocks may give, counts as none at all."""
        self._counts[bisect_left(self._bounds_ns, duration_ns)] += 1
        self._sum_ns += max(0, duration_ns)

    def counts(self) -> DurationCounts:
        """Return the histogram as Prometheus has it: what is at most each bound, beyond the last only in `count`."""
        upto = list(accumulate(self._counts))
        return DurationCounts(self._bounds_s, tuple(upto[:-1]), self._sum_ns / NS_PER_S, upto[-1])


class DaemonMeters:
    """The meters of one daemon. `note_*` are called by it, `read` by whoever shows them."""

    def __init__(self) -> None:
        self._decide = Durations()
        self.loop_lag_s = 0.0  # how late the loop last was to something that was due

    def note_decision(self, took_ns: int) -> None:
        """Note how long a decision took."""
        self._decide.note(took_ns)

    def read(self, journal_seq: int, journal_lag_s: float, latencies: Latencies | None = None) -> Meters:
        """Return the meters now; the journal's are its owner's to know, the steps those of a live feed."""
        steps = latencies.counts(BOUNDS_S) if latencies is not None else {}
        return Meters(self._decide.counts(), steps, self.loop_lag_s, journal_lag_s, journal_seq, resident_bytes())


def resident_bytes() -> int:
    """Return the memory this process holds; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0
