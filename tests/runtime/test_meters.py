"""The daemon's meters: histograms that add up."""

from __future__ import annotations

from bot.domain.market import IndexPrice
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.engine.latencies import Latencies
from bot.runtime.meters import DaemonMeters, Durations, resident_bytes


def test_a_histogram_counts_up_to_each_bound() -> None:
    one = Durations((0.001, 0.01, 0.1))
    for duration_ns in (0, -5, NS_PER_MS, NS_PER_MS + 1, 50 * NS_PER_MS, 3 * NS_PER_S):
        one.note(duration_ns)
    found = one.counts()
    assert found.counts == (3, 4, 5)  # a bound counts what is at most it, as Prometheus has it
    assert found.count == 6
    assert found.sum_s == 0.001 + 0.001000001 + 0.05 + 3.0


def test_meters_are_read_as_they_are() -> None:
    meters = DaemonMeters()
    meters.note_decision(200_000)
    meters.loop_lag_s = 0.25
    found = meters.read(17, 0.5)
    assert found.decide.count == 1
    assert found.steps == {}
    assert (found.loop_lag_s, found.journal_lag_s, found.journal_seq) == (0.25, 0.5, 17)
    latencies = Latencies()
    latencies.note(5 * NS_PER_MS, [IndexPrice("ETH", 2000.0, 0, 4 * NS_PER_MS, 1)], [])
    steps = meters.read(17, 0.5, latencies).steps
    assert {step: one.count for step, one in steps.items()} == {"venue_to_receive": 1, "receive_to_decide": 1}
    bounds = dict(zip(steps["venue_to_receive"].bounds_s, steps["venue_to_receive"].counts, strict=True))
    assert (bounds[0.002], bounds[0.005]) == (0, 1)
    assert found.rss_bytes == resident_bytes() > 10_000_000
