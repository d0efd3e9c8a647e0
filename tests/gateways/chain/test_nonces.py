"""Nonces: counted here, corrected by the chain, never given out twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.errors import InvariantBroken
from bot.gateways.chain.nonces import Nonces


def test_they_count_on_from_the_chain() -> None:
    nonces = Nonces()
    nonces.reconcile(7, 7, ())
    assert nonces.next == 7
    assert [nonces.reserve() for _ in range(3)] == [7, 8, 9]


def test_one_given_back_is_the_next_and_a_tail_leaves_no_gap() -> None:
    nonces = Nonces()
    for _ in range(5):
        nonces.reserve()
    nonces.release(1)
    nonces.release(3)
    assert nonces.gaps() == (1, 3)
    nonces.release(4)
    assert nonces.gaps() == (1,)  # nothing above 2 is in use any more
    assert [nonces.reserve(), nonces.reserve()] == [1, 3]


def test_what_was_not_given_out_cannot_come_back() -> None:
    nonces = Nonces()
    nonces.reserve()
    with pytest.raises(InvariantBroken, match="given out"):
        nonces.release(1)
    nonces.reserve()
    nonces.release(0)
    with pytest.raises(InvariantBroken, match="given out"):
        nonces.release(0)
    with pytest.raises(InvariantBroken, match="free nonce"):
        nonces.take(1)


def test_a_gap_can_be_taken_on_purpose() -> None:
    nonces = Nonces()
    for _ in range(3):
        nonces.reserve()
    nonces.release(1)
    nonces.take(1)
    assert nonces.gaps() == ()
    assert nonces.reserve() == 3


def test_the_chain_corrects() -> None:
    nonces = Nonces()
    nonces.reconcile(3, 3, (4, 6))  # ours, signed before a restart
    assert nonces.gaps() == (3, 5)
    nonces.mined(5)  # somebody used 3; 4 is ours
    assert nonces.gaps() == (5,)
    nonces.mined(9)
    assert nonces.gaps() == ()
    assert nonces.reserve() == 9


def test_what_a_stranger_has_in_the_pool_is_left_to_him() -> None:
    nonces = Nonces()
    nonces.reconcile(3, 5, (6,))
    assert nonces.gaps() == (5,)
    assert [nonces.reserve(), nonces.reserve()] == [5, 7]


@given(st.lists(st.tuples(st.sampled_from(["reserve", "release", "mine", "reconcile"]), st.integers(0, 8))))
def test_no_nonce_is_in_use_twice(steps: list[tuple[str, int]]) -> None:
    nonces, used, mined = Nonces(), set[int](), 0
    for what, number in steps:
        if what == "reserve":
            nonce = nonces.reserve()
            assert nonce >= mined
            assert nonce not in used
            used.add(nonce)
        elif what == "release" and used:
            nonce = sorted(used)[number % len(used)]
            used.remove(nonce)
            nonces.release(nonce)
        elif what == "mine" and mined in used:
            used.remove(mined)
            mined += 1
            nonces.mined(mined)
        elif what == "reconcile":
            nonces.reconcile(mined, mined, used)
        assert set(range(mined, max(used, default=mined - 1) + 1)) - used == set(nonces.gaps())
