"""The rule of sold options, at the places where its maxima change."""

from __future__ import annotations

import numpy as np
import pytest

from bot.risk.margin.short_options import ShortOptionRule, short_option_margins

RULE = ShortOptionRule(0.15, 0.10, 0.075)


@pytest.mark.parametrize(
    ("strike", "mark", "is_call", "initial", "maintenance"),
    [
        (100.0, 4.0, True, 19.0, 11.5),  # at the money: 15 % and the mark
        (103.0, 3.0, True, 15.0, 10.5),  # 3 out
        (120.0, 1.0, True, 11.0, 8.5),  # far out: the least
        (80.0, 21.0, True, 36.0, 28.5),  # in the money is not further out than at it
        (90.0, 2.0, False, 12.0, 9.5),
        (100.0, 4.0, False, 19.0, 11.5),
        (400.0, 300.0, False, 322.5, 322.5),  # a put worth more than the coin: maintenance is on the put
    ],
)
def test_where_the_maxima_change(strike: float, mark: float, is_call: bool, initial: float, maintenance: float) -> None:
    found = short_option_margins(np.array([100.0]), np.array([strike]), np.array([mark]), np.array([is_call]), RULE)
    assert [float(one[0]) for one in found] == pytest.approx([initial, maintenance])
