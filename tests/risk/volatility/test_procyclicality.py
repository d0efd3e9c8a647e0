"""Figures of procyclicality by hand, and what each way of damping does."""

from __future__ import annotations

import numpy as np
import pytest

from bot.risk.volatility.procyclicality import buffered, floored, limited_speed, procyclicality, stressed

MARGIN = np.array([0.05, 0.05, 0.06, 0.10, 0.20, 0.15, 0.10, 0.08])
LOSS = np.array([0.01, 0.06, 0.02, 0.09, 0.01, 0.01, 0.11, 0.0])


def test_figures_by_hand() -> None:
    found = procyclicality(MARGIN, LOSS, rise_days=2)
    assert found.peak_to_trough == pytest.approx(4.0)
    assert found.worst_rise == pytest.approx(0.20 / 0.06 - 1.0)
    assert found.breach_share == pytest.approx(2 / 8)
    assert found.mean == pytest.approx(MARGIN.mean())
    with pytest.raises(ValueError, match="more than 8 positive"):
        procyclicality(MARGIN, LOSS, rise_days=8)
    with pytest.raises(ValueError, match="positive"):
        procyclicality(MARGIN * 0.0, LOSS, rise_days=2)


def test_a_speed_limit_holds_in_both_directions() -> None:
    found = limited_speed(MARGIN)
    ratio = found[1:] / found[:-1]
    assert ratio.max() == pytest.approx(1.10)
    assert ratio.min() >= 0.97 - 1e-12
    assert found[4] < MARGIN[4]


def test_a_buffer_is_used_up_as_the_margin_rises() -> None:
    found = buffered(MARGIN)
    assert found[0] == pytest.approx(1.25 * 0.05)
    assert found[4] == pytest.approx(0.20)  # nothing left of it
    assert np.all(found >= MARGIN)


def test_stress_and_floor() -> None:
    assert stressed(MARGIN, 0.3)[0] == pytest.approx(0.75 * 0.05 + 0.25 * 0.3)
    assert floored(MARGIN, 0.09).tolist() == [0.09, 0.09, 0.09, 0.10, 0.20, 0.15, 0.10, 0.09]
    damped = procyclicality(floored(MARGIN, 0.09), LOSS, rise_days=2)
    assert damped.peak_to_trough < procyclicality(MARGIN, LOSS, rise_days=2).peak_to_trough
