from __future__ import annotations

import numpy as np
import pytest

from bot.domain.decisions import Legs
from bot.pricing.black76 import greeks
from strategies.modified_delta import delta_shift_base


def legs(*rows: tuple[float, float, float, bool]) -> Legs:
    """Legs of (strike, years, quantity, is a call) at a forward of 100 and 60 % vol."""
    strikes, years, qty, calls = (np.array(column) for column in zip(*rows, strict=True))
    same = np.ones(len(rows))
    return Legs(100.0 * same, strikes, years, 0.6 * same, qty, calls)


def test_is_what_the_modified_deltas_lack_of_the_own() -> None:
    book = legs((110.0, 0.05, -2.0, True), (95.0, 0.1, 3.0, False))
    own = [float(greeks(100.0, strike, years, 0.6, call).delta) for strike, years, call in ROWS]
    modified = [float(greeks(100.0, strike, years, 0.66, call).delta) for strike, years, call in ROWS]
    expected = -2.0 * (own[0] - modified[0]) + 3.0 * (own[1] - modified[1])
    assert delta_shift_base(book, 1.1) == pytest.approx(expected, rel=1e-12)


ROWS = [(110.0, 0.05, True), (95.0, 0.1, False)]


def test_a_short_call_out_of_the_money_is_hedged_with_more_at_a_higher_vol() -> None:
    assert delta_shift_base(legs((110.0, 0.05, -1.0, True)), 1.05) > 0.0
    assert delta_shift_base(legs((90.0, 0.05, -1.0, True)), 1.05) < 0.0


def test_without_a_change_or_with_what_has_expired_there_is_none() -> None:
    assert delta_shift_base(legs((110.0, 0.05, -1.0, True)), 1.0) == 0.0
    assert delta_shift_base(legs((110.0, 0.0, -1.0, True)), 1.1) == 0.0
    assert delta_shift_base(legs((110.0, 0.0, -1.0, True), (105.0, 0.05, -1.0, True)), 1.1) == delta_shift_base(
        legs((105.0, 0.05, -1.0, True)), 1.1
    )
