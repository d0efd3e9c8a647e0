"""Breakers: each trips beyond its limit and not at it, holds for a while, and never stands in the way of reducing."""

from __future__ import annotations

from math import inf, nan

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.units import NS_PER_HOUR, NS_PER_MIN, NS_PER_S
from bot.risk.breakers import Breaker, BreakerRule, Breakers, Intent

S = NS_PER_S


def open_ones(breakers: Breakers, now_ns: int) -> list[tuple[Breaker, str]]:
    return [(one.breaker, one.subject) for one in breakers.tripped(now_ns)]


class TestMoves:
    def test_five_per_cent_in_a_minute(self) -> None:
        breakers = Breakers()
        breakers.note_price("ETH", 2000.0, 0)
        breakers.note_price("ETH", 2099.0, 50 * S)
        assert breakers.tripped(50 * S) == ()
        breakers.note_price("ETH", 2101.0, 55 * S)
        (found,) = breakers.tripped(55 * S)
        assert found.reason == "ETH moved +5.0% in 1 min, limit 5%"

    def test_ten_per_cent_in_five_minutes_slowly_and_from_the_top(self) -> None:
        breakers = Breakers()
        for minute, px in enumerate([2000.0, 2060.0, 1980.0, 1920.0, 1850.0]):
            breakers.note_price("ETH", px, minute * NS_PER_MIN)
        (found,) = breakers.tripped(4 * NS_PER_MIN)
        assert found.reason == "ETH moved -10.2% in 5 min, limit 10%"

    def test_the_same_move_over_an_hour_is_none(self) -> None:
        breakers = Breakers()
        for minute in range(61):
            breakers.note_price("ETH", 2000.0 * 1.003**minute, minute * NS_PER_MIN)
            assert breakers.tripped(minute * NS_PER_MIN) == ()

    @given(st.lists(st.tuples(st.integers(0, 20), st.floats(90.0, 110.0)), min_size=1, max_size=60))
    def test_extremes_of_a_window_are_those_of_a_plain_search(self, steps: list[tuple[int, float]]) -> None:
        """Up to the hundredth of the window that prices are thrown together by."""
        breakers = Breakers()
        now_s, seen = 0, []
        for seconds, px in steps:
            now_s += seconds
            seen.append((now_s, px))
            breakers.note_price("X", px, now_s * S)
        if any(moved_too_far(seen[: n + 1], 0.0) for n in range(len(seen))):
            assert breakers._tripped
        if not any(moved_too_far(seen[: n + 1], 0.03) for n in range(len(seen))):
            assert not breakers._tripped


def moved_too_far(seen: list[tuple[int, float]], slack: float) -> bool:
    """Tell whether the last price is too far from any of the last one or five minutes, made longer by a share."""
    now_s, last_px = seen[-1]
    for span_s, limit in ((60, 0.05), (300, 0.10)):
        window = [px for at_s, px in seen if at_s >= now_s - span_s * (1.0 + slack)]
        if max(last_px / min(window) - 1.0, 1.0 - last_px / max(window)) > limit + 1e-9:
            return True
    return False


def test_a_venue_away_from_the_fused_price() -> None:
    breakers = Breakers()
    breakers.note_venue_index("okx", "ETH", 1500.0, 0)  # no fused price yet
    breakers.note_price("ETH", 2000.0, 0)
    breakers.note_venue_index("okx", "ETH", 2040.0, 1)
    assert breakers.tripped(1) == ()
    breakers.note_venue_index("okx", "ETH", 1959.0, 2)
    (found,) = breakers.tripped(2)
    assert (found.breaker, found.subject) == (Breaker.VENUE_GAP, "okx")
    assert found.reason == "okx has ETH at 1959, -2.0% from the fused 2000, limit 2%"


def test_a_fill_beyond_its_budget() -> None:
    breakers = Breakers()
    breakers.note_fill("ETH-PERP", 5.0, 5.0, 0)
    breakers.note_fill("ETH-PERP", -50.0, 0.0, 0)
    breakers.note_fill("ETH-PERP", nan, 5.0, 0)
    assert breakers.tripped(0) == ()
    breakers.note_fill("ETH-PERP", 5.01, 5.0, 0)
    assert open_ones(breakers, 0) == [(Breaker.SLIPPAGE, "ETH-PERP")]


def test_three_failed_hedges_in_a_row() -> None:
    breakers = Breakers()
    for is_done in (False, False, True, False, False):
        breakers.note_hedge("ETH", 0, is_done=is_done)
    assert breakers.tripped(0) == ()
    breakers.note_hedge("ETH", 0, is_done=False)
    assert open_ones(breakers, 0) == [(Breaker.FAILED_HEDGES, "ETH")]


def test_more_than_a_fifth_of_requests_failing_within_a_minute() -> None:
    breakers = Breakers()
    for n in range(2):
        breakers.note_request("okx", n * S, is_failed=True)
    assert breakers.tripped(3 * S) == ()  # too few to tell
    for n in range(12):
        breakers.note_request("okx", (3 + n) * S, is_failed=False)
    breakers.note_request("okx", 15 * S, is_failed=True)
    assert breakers.tripped(15 * S) == ()  # 3 of 15
    breakers.note_request("okx", 16 * S, is_failed=True)
    assert breakers.tripped(16 * S)[0].reason == "4 of 16 requests to okx failed within 60 s, limit 20%"
    later = Breakers()
    for n in range(30):
        later.note_request("okx", n * 7 * S, is_failed=n < 4)
        assert later.tripped(n * 7 * S) == ()  # never ten within a minute


def test_depth_below_three_tenths_of_its_own_normal() -> None:
    breakers = Breakers()
    breakers.note_depth("okx", "ETH-PERP", 1e6, 0)
    breakers.note_depth("okx", "ETH-PERP", 1e5, NS_PER_MIN)
    assert breakers.tripped(NS_PER_MIN) == ()  # nobody knows yet what is normal
    breakers = Breakers()
    for minute in range(30):
        breakers.note_depth("okx", "ETH-PERP", 1e6, minute * NS_PER_MIN)
    breakers.note_depth("okx", "ETH-PERP", 3.1e5, 30 * NS_PER_MIN)
    assert breakers.tripped(30 * NS_PER_MIN) == ()
    breakers.note_depth("okx", "ETH-PERP", 0.0, 31 * NS_PER_MIN)
    assert breakers.tripped(31 * NS_PER_MIN)[0].reason == "ETH-PERP on okx shows 0, 0% of normal, limit 30%"
    for minute in range(60 * 48):
        breakers.note_depth("okx", "ETH-PERP", 3e5, 32 * NS_PER_MIN + minute * NS_PER_MIN)
    breakers.note_depth("okx", "ETH-PERP", 1e5, 49 * NS_PER_HOUR)
    assert breakers.tripped(49 * NS_PER_HOUR) == ()  # a third of what has become normal


def test_it_holds_for_a_while_and_keeps_since_when() -> None:
    breakers = Breakers()
    breakers.note_fill("x", 2.0, 1.0, 0)
    breakers.note_fill("x", 3.0, 1.0, 60 * S)
    (found,) = breakers.tripped(60 * S)
    assert (found.since_ns, found.until_ns) == (0, 360 * S)
    assert breakers.tripped(360 * S - 1) != ()
    assert breakers.tripped(360 * S) == ()


def test_only_orders_about_the_subject_are_refused() -> None:
    breakers = Breakers()
    breakers.note_fill("ETH-PERP", 2.0, 1.0, 0)
    assert (
        breakers.refuse(Intent.ADD, ("ETH", "okx", "ETH-PERP"), 0) == "a fill of ETH-PERP slipped by 2.00, budget 1.00"
    )
    assert breakers.refuse(Intent.ADD, ("BTC", "okx", "BTC-PERP"), 0) == ""


notes = st.one_of(
    st.tuples(st.just("price"), st.one_of(st.floats(1.0, 1e5), st.sampled_from([nan, inf, 0.0, -1.0]))),
    st.tuples(st.just("index"), st.one_of(st.floats(1.0, 1e5), st.just(nan))),
    st.tuples(st.just("fill"), st.floats(-1e3, 1e3)),
    st.tuples(st.just("hedge"), st.just(0.0)),
    st.tuples(st.just("request"), st.just(0.0)),
    st.tuples(st.just("depth"), st.one_of(st.floats(0.0, 1e6), st.just(nan))),
)


@given(st.lists(st.tuples(notes, st.integers(0, 100)), max_size=40))
def test_whatever_happens_hedging_and_reducing_stay_allowed(told: list[tuple[tuple[str, float], int]]) -> None:
    breakers, now_ns = Breakers(), 0
    for (what, number), seconds in told:
        now_ns += seconds * S
        match what:
            case "price":
                breakers.note_price("ETH", number, now_ns)
            case "index":
                breakers.note_venue_index("okx", "ETH", number, now_ns)
            case "fill":
                breakers.note_fill("ETH-PERP", number, 1.0, now_ns)
            case "hedge":
                breakers.note_hedge("ETH", now_ns, is_done=False)
            case "request":
                breakers.note_request("okx", now_ns, is_failed=True)
            case _:
                breakers.note_depth("okx", "ETH-PERP", number, now_ns)
        subjects = ("ETH", "okx", "ETH-PERP")
        assert breakers.refuse(Intent.REDUCE, subjects, now_ns) == ""
        assert breakers.refuse(Intent.HEDGE, subjects, now_ns) == ""
        assert bool(breakers.refuse(Intent.ADD, subjects, now_ns)) == bool(breakers.tripped(now_ns))


def test_memory_is_bounded() -> None:
    breakers = Breakers()
    for n in range(30_000):
        breakers.note_price("ETH", 2000.0 + 1e-4 * n, n * NS_PER_S // 100)
    queues = [queue for window in breakers._moves["ETH"] for queue in (window._low, window._high)]
    assert max(len(queue) for queue in queues) < 120


@pytest.mark.parametrize("wrong", [{"gap_fraction": 0.0}, {"slow_ns": 1}, {"error_share": nan}, {"failed_hedges": 0}])
def test_limits_that_are_none_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive limits"):
        msgspec.structs.replace(BreakerRule(), **wrong)
