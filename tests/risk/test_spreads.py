"""Pairing off longs and shorts: nearest first, nothing left on both sides."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bot.risk.spreads import Pair, pair_off


def test_the_nearest_are_paired_first_and_the_rest_with_what_is_left() -> None:
    found = pair_off([5.0, -2.0, -4.0, 1.0], [0.1, 0.5, 0.2, 0.5])
    assert found == [Pair(3, 1, 1.0), Pair(0, 2, 4.0), Pair(0, 1, 1.0)]


@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(0, 3)), max_size=8))
def test_what_is_paired_is_the_lesser_side_and_no_place_gives_more_than_it_has(rows: list[tuple[float, float]]) -> None:
    amounts, at = np.array([a for a, _ in rows]), np.array([t for _, t in rows])
    pairs = pair_off(amounts.tolist(), at.tolist())
    longs, shorts = amounts[amounts > 0].sum(), -amounts[amounts < 0].sum()
    assert np.isclose(sum(pair.amount for pair in pairs), min(longs, shorts), atol=1e-9)
    for place, amount in enumerate(amounts.tolist()):
        given_away = sum(pair.amount for pair in pairs if place in (pair.long, pair.short))
        assert given_away <= abs(amount) + 1e-9
