"""Latencies: right to the width of a bucket, and of the same size however much was timed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.events import SubmitOrder
from bot.domain.market import FundingRate, IndexPrice
from bot.domain.orders import Fill, Liquidity, OrderAccepted, OrderIntent, OrderRejected, OrderSent, TimeInForce
from bot.domain.units import NS_PER_MS
from bot.engine.latencies import MAX_ORDERS, STEPS, Histogram, Latencies


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=200), st.sampled_from([0.5, 0.99, 1.0]))
def test_percentiles_are_right_to_the_width_of_a_bucket(durations: list[int], share: float) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    exact = int(np.percentile(durations, share * 100, method="inverted_cdf"))
    assert histogram.percentile_ns(share) == pytest.approx(exact, rel=0.03, abs=1)
    assert (histogram.count, histogram.max_ns) == (len(durations), max(durations))


def test_nothing_timed_is_nothing_shown() -> None:
    assert Histogram().percentile_ns(0.5) == 0
    assert Latencies().summary() == {}


def test_clocks_that_disagree_count_as_no_time_at_all() -> None:
    histogram = Histogram()
    histogram.add(-5)
    assert (histogram.count, histogram.max_ns, histogram.percentile_ns(0.5)) == (1, 0, 0)


def order(number: int, decided_ns: int) -> SubmitOrder:
    intent = OrderIntent(f"r-{number}", "ETH-PERPETUAL", 1, 1, TimeInForce.IOC, False, "", 1.0, decided_ns)
    return SubmitOrder(intent)


def fill(order_id: str, recv_ns: int) -> Fill:
    return Fill("T", order_id, "ETH-PERPETUAL", 1, 1.0, 0.0, Liquidity.TAKER, recv_ns, recv_ns)


def test_each_step_is_timed_by_the_stamps_of_its_events() -> None:
    ms = NS_PER_MS
    latencies = Latencies()
    latencies.note(105 * ms, [IndexPrice("ETH", 1.0, 90 * ms, 103 * ms, 1)], [order(1, 105 * ms)])
    latencies.note(108 * ms, [OrderSent("r-1", 106 * ms)], [])
    latencies.note(120 * ms, [OrderAccepted("r-1", "v", 110 * ms, 116 * ms), fill("r-1", 119 * ms)], [])
    latencies.note(130 * ms, [fill("r-1", 130 * ms), fill("", 131 * ms), FundingRate("X", 0.0, 1, 2, 3)], [])
    summary = latencies.summary()
    assert list(summary) == list(STEPS)
    assert {step: timed.max_us for step, timed in summary.items()} == {
        "venue_to_receive": 13_000.0,
        "receive_to_decide": 2_000.0,
        "decide_to_sent": 1_000.0,
        "sent_to_ack": 10_000.0,
        "ack_to_fill": 3_000.0,
    }
    assert {timed.count for timed in summary.values()} == {1}, "later fills of an order are not timed"


def test_a_fill_without_acknowledgement_is_timed_from_sending() -> None:
    latencies = Latencies()
    latencies.note(0, [], [order(1, 0)])
    latencies.note(1, [OrderSent("r-1", 1_000), fill("r-1", 6_000)], [])
    assert latencies.summary()["ack_to_fill"].max_us == 5.0


def test_memory_stays_flat() -> None:
    latencies = Latencies()
    for number in range(MAX_ORDERS + 50):
        latencies.note(number, [OrderSent(f"r-{number}", number + 1)], [order(number, number)])
    latencies.note(0, [OrderRejected(f"r-{MAX_ORDERS}", "no", 1, 2)], [])
    assert len(latencies._decided_ns) == MAX_ORDERS - 1
    assert len(latencies._sent_ns) <= MAX_ORDERS


def test_counts_up_to_bounds_are_those_of_the_durations() -> None:
    histogram = Histogram()
    for duration_ns in (0, 900, 1_100, 50_000_000, 3_000_000_000):
        histogram.add(duration_ns)
    found = histogram.counts((1e-6, 1e-3, 0.1, 1.0))
    assert found.counts == (2, 3, 4, 4)
    assert (found.count, found.sum_s) == (5, 3.050002)
