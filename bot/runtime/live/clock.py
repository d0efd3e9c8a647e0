"""What time it is for a live feed: ours, or that of the venue's newest event. Neither ever goes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from bot.domain.events import Event

NsReader = Callable[[], int]
_UPTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # goes on while the machine sleeps, where there is such


def _uptime_ns() -> int:
    return time.clock_gettime_ns(_UPTIME)


class WallClock:
    """Our clock, read once and then counted on by a monotonic one: setting the clock does not reach the engine.

    A machine whose clock was wrong at the start stays wrong by as much: that is for the check against the venues'.
    """

    def __init__(self, wall_ns: NsReader = time.time_ns, monotonic_ns: NsReader = _uptime_ns) -> None:
        self._monotonic_ns = monotonic_ns
        self._offset_ns = wall_ns() - monotonic_ns()

    def now_ns(self) -> int:
        """Return the time now, in nanoseconds since 1970."""
        return self._offset_ns + self._monotonic_ns()


class VenueClock:
    """The time of the newest event of any venue, for rehearsals against a venue that plays a recording."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """Return the time of the newest event so far, in nanoseconds since 1970; 0 before the first one."""
        return self._now_ns

    def advance(self, ts_ns: int) -> None:
        """Move on to `ts_ns`; an earlier time changes nothing."""
        self._now_ns = max(self._now_ns, ts_ns)

    def take(self, events: Sequence[Event]) -> list[Event]:
        """Move on with `events` and return them as received at their own time, not at that of the one before."""
        taken: list[Event] = []
        for event in events:
            self.advance(getattr(event, "ts_event_ns", 0))
            is_earlier = getattr(event, "ts_recv_ns", self._now_ns) < self._now_ns
            taken.append(msgspec.structs.replace(event, ts_recv_ns=self._now_ns) if is_earlier else event)
        return taken
