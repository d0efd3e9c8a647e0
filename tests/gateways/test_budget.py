"""The request budget: free when free, cancels last to starve, and longer pauses each time the venue says stop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.gateways.budget import Budget, Need

NOW = 10**18


def budget() -> Budget:
    return Budget(requests_per_s=10.0, burst_requests=20, cancel_share=0.2)


def test_a_free_budget_delays_nothing() -> None:
    assert budget().wait_ns(Need.QUERY, NOW) == 0
    assert budget().take(Need.ORDER, NOW)


def test_queries_starve_before_orders_and_orders_before_cancels() -> None:
    spent = budget()
    counts = {}
    for need in (Need.QUERY, Need.ORDER, Need.CANCEL):
        counts[need] = 0
        while spent.take(need, NOW):
            counts[need] += 1
    assert counts == {Need.QUERY: 10, Need.ORDER: 6, Need.CANCEL: 4}


def test_tokens_come_back_at_the_venues_pace() -> None:
    spent = budget()
    while spent.take(Need.CANCEL, NOW):
        pass
    assert not spent.take(Need.CANCEL, NOW + 99 * NS_PER_MS)
    assert 0 < spent.wait_ns(Need.CANCEL, NOW + 99 * NS_PER_MS) <= 2 * NS_PER_MS
    assert spent.take(Need.CANCEL, NOW + 101 * NS_PER_MS)


def test_a_refusal_pauses_orders_longer_each_time_and_cancels_hardly() -> None:
    spent = budget()
    waits = []
    for _ in range(3):
        spent.back_off(NOW)
        waits.append(spent.wait_ns(Need.ORDER, NOW))
    assert waits == [NS_PER_S // 2, NS_PER_S, 2 * NS_PER_S]
    assert spent.wait_ns(Need.CANCEL, NOW) == NS_PER_S // 4
    spent.succeed()
    spent.back_off(NOW + 10 * NS_PER_S)
    assert spent.wait_ns(Need.ORDER, NOW + 10 * NS_PER_S) == NS_PER_S // 2


def test_a_named_time_and_a_ban_hold_for_cancels_too() -> None:
    named, banned = budget(), budget()
    named.back_off(NOW, 3 * NS_PER_S)
    banned.back_off(NOW, is_ban=True)
    assert named.wait_ns(Need.CANCEL, NOW) == 3 * NS_PER_S
    assert banned.wait_ns(Need.CANCEL, NOW) == NS_PER_S // 2


@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from(list(Need))), max_size=200))
def test_no_more_than_the_burst_and_the_rate_ever_leave(asks: list[tuple[int, Need]]) -> None:
    spent, now_ns, taken = budget(), NOW, 0
    for pause_ms, need in asks:
        now_ns += pause_ms * NS_PER_MS
        taken += spent.take(need, now_ns)
    assert taken <= 20 + 10.0 * (now_ns - NOW) / NS_PER_S + 1e-6


@pytest.mark.parametrize("need", list(Need))
def test_the_smallest_bucket_serves_everybody_once_it_is_full(need: Need) -> None:
    assert Budget(1.0, 1, 0.2).take(need, NS_PER_S)
