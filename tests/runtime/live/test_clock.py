"""Clocks: whatever the machine's does, time goes on and never back."""

from __future__ import annotations

from bot.domain.market import IndexPrice
from bot.domain.orders import OrderSent
from bot.domain.units import NS_PER_HOUR, NS_PER_S
from bot.runtime.live.clock import VenueClock, WallClock


class Times:
    """A machine's two clocks."""

    def __init__(self) -> None:
        self.wall_ns = 1_700_000_000 * NS_PER_S
        self.monotonic_ns = 5 * NS_PER_S

    def pass_by(self, ns: int) -> None:
        self.wall_ns += ns
        self.monotonic_ns += ns


def test_a_jump_of_the_clock_does_not_arrive() -> None:
    times = Times()
    clock = WallClock(lambda: times.wall_ns, lambda: times.monotonic_ns)
    start_ns = clock.now_ns()
    assert start_ns == times.wall_ns
    for jump_ns in (NS_PER_HOUR, -NS_PER_HOUR, -2 * NS_PER_HOUR, NS_PER_S):
        times.wall_ns += jump_ns
        before_ns = clock.now_ns()
        times.pass_by(NS_PER_S)
        assert clock.now_ns() - before_ns == NS_PER_S
    assert clock.now_ns() - start_ns == 4 * NS_PER_S


def test_by_itself_it_tells_this_machine_s_time() -> None:
    import time

    clock = WallClock()
    first_ns = clock.now_ns()
    assert abs(first_ns - time.time_ns()) < NS_PER_S
    assert clock.now_ns() >= first_ns


def test_a_venue_s_clock_goes_with_its_events_and_not_back() -> None:
    clock = VenueClock()
    assert clock.now_ns() == 0
    taken = clock.take([index(100, 90), index(50, 90), OrderSent("r-1", 95), index(300, 90)])
    assert [event.ts_recv_ns for event in taken] == [100, 100, 100, 300]  # type: ignore[union-attr]
    assert [getattr(event, "ts_event_ns", None) for event in taken] == [100, 50, None, 300]
    clock.advance(200)
    assert clock.now_ns() == 300


def test_what_was_received_later_than_it_happened_stays_so() -> None:
    (late,) = VenueClock().take([index(100, 150)])
    assert late == index(100, 150)


def index(event_ns: int, recv_ns: int) -> IndexPrice:
    return IndexPrice("ETH", 1900.0, event_ns, recv_ns, 1)
