"""The insurance buffer: filled out of new highs only, drawn in bad states only, never negative, and every move told."""

from __future__ import annotations

from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.risk import MarginState
from bot.risk.buffer import (
    MOST_ENTRIES,
    BufferRule,
    InsuranceBuffer,
    Move,
    draw_buffer,
    fund_buffer,
    return_to_buffer,
)

RULE = BufferRule(full_quote=1_000.0)


def full() -> InsuranceBuffer:
    return fund_buffer(fund_buffer(InsuranceBuffer(), 0.0, 0, RULE), 1e6, 1, RULE)


def test_a_tenth_of_every_new_high() -> None:
    buffer = fund_buffer(InsuranceBuffer(), 50_000.0, 0, RULE)
    assert (buffer.balance_quote, buffer.entries) == (0.0, ())  # the first look is where counting starts
    buffer = fund_buffer(buffer, 52_000.0, 1, RULE)
    assert buffer.balance_quote == pytest.approx(200.0)
    assert buffer.entries[-1].reason == "10% of a gain of 2,000.00"
    buffer = fund_buffer(fund_buffer(buffer, 47_000.0, 2, RULE), 52_000.0, 3, RULE)  # lost and earned back
    assert buffer.balance_quote == pytest.approx(200.0)
    buffer = fund_buffer(buffer, 52_500.0, 4, RULE)
    assert buffer.balance_quote == pytest.approx(250.0)


def test_no_more_than_full() -> None:
    assert full().balance_quote == 1_000.0
    assert fund_buffer(full(), 2e6, 2, RULE).balance_quote == 1_000.0


@pytest.mark.parametrize(
    ("state", "drawn"), [("normal", 0.0), ("watch", 0.0), ("act", 0.0), ("critical", 500.0), ("emergency", 1_000.0)]
)
def test_only_bad_states_draw_each_its_share(state: str, drawn: float) -> None:
    buffer, got = draw_buffer(full(), 5_000.0, MarginState(state), "okx short of margin", 7, RULE)
    assert got == drawn
    assert buffer.balance_quote == 1_000.0 - drawn
    entry = buffer.entries[-1]
    assert (entry.move, entry.ts_ns) == (Move.DRAWN if drawn else Move.REFUSED, 7)
    assert "okx short of margin" in entry.reason
    if not drawn:
        assert entry.reason.endswith(f"refused in {state}, drawn only in critical, emergency")


def test_no_more_than_needed_and_what_is_back_counts_again() -> None:
    buffer, got = draw_buffer(full(), 120.0, MarginState.CRITICAL, "okx", 1, RULE)
    assert got == 120.0
    buffer = return_to_buffer(buffer, 500.0, "okx is well again", 2)
    assert (buffer.balance_quote, buffer.returned_quote) == (1_000.0, 120.0)
    assert return_to_buffer(buffer, 1.0, "twice", 3).entries[-1].move is Move.REFUSED


@pytest.mark.parametrize("needed", [nan, 0.0, -5.0])
def test_a_need_that_is_none_draws_nothing_and_says_so(needed: float) -> None:
    buffer, got = draw_buffer(full(), needed, MarginState.EMERGENCY, "okx", 1, RULE)
    assert (got, buffer.balance_quote, buffer.entries[-1].move) == (0.0, 1_000.0, Move.REFUSED)


def test_wealth_that_is_not_a_number_funds_nothing_and_says_so() -> None:
    buffer = fund_buffer(full(), nan, 9, RULE)
    assert (buffer.balance_quote, buffer.high_quote) == (1_000.0, 1e6)
    assert "not a number" in buffer.entries[-1].reason


@pytest.mark.parametrize(
    "wrong",
    [
        {"draws": {MarginState.NORMAL: 0.1}},
        {"draws": {MarginState.ACT: 1.5}},
        {"share_of_gains": nan},
        {"full_quote": -1.0},
    ],
)
def test_a_rule_that_draws_in_good_times_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        BufferRule(**{"full_quote": 1.0, **wrong})  # type: ignore[arg-type]


numbers = st.one_of(st.floats(-1e6, 1e6), st.just(nan))
steps = st.lists(
    st.tuples(st.sampled_from(["fund", "draw", "return"]), numbers, st.sampled_from(MarginState)), max_size=40
)


@given(steps)
def test_whatever_happens_it_is_never_negative_nor_drawn_in_normal_and_its_book_adds_up(
    told: list[tuple[str, float, MarginState]],
) -> None:
    buffer = InsuranceBuffer()
    for now_ns, (what, number, state) in enumerate(told):
        before = buffer
        if what == "fund":
            buffer = fund_buffer(buffer, number, now_ns, RULE)
            assert buffer.balance_quote >= before.balance_quote
        elif what == "draw":
            buffer, got = draw_buffer(buffer, number, state, "x", now_ns, RULE)
            assert got == 0.0 or state in (MarginState.CRITICAL, MarginState.EMERGENCY)
            assert got == pytest.approx(before.balance_quote - buffer.balance_quote)
        else:
            buffer = return_to_buffer(buffer, number, "x", now_ns)
        assert 0.0 <= buffer.balance_quote <= RULE.full_quote + 1e-6 + buffer.drawn_quote
        added = buffer.funded_quote + buffer.returned_quote - buffer.drawn_quote
        assert buffer.balance_quote == pytest.approx(added, abs=1e-6)
    assert len(buffer.entries) <= MOST_ENTRIES
