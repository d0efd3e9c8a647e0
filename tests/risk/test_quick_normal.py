"""The table against the function it stands for, over all of its range and beyond."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from bot.risk.quick_normal import MOST, PER_UNIT, quick_ndtr, quick_ndtr_of_units


def test_it_is_the_normal_distribution_to_the_last_digits() -> None:
    x = np.random.default_rng(5).uniform(-MOST, MOST, 20_001)
    exact = ndtr(x)
    found = quick_ndtr(x.copy())
    assert np.abs(found - exact).max() < 2e-15
    near = np.abs(x) < 6.0
    assert np.abs(found[near] / exact[near] - 1.0).max() < 1e-10
    assert np.array_equal(quick_ndtr_of_units(PER_UNIT * x), found)


def test_beyond_the_table_it_is_nothing_or_all_and_what_is_no_number_stays_none() -> None:
    found = quick_ndtr(np.array([-np.inf, -1e300, -40.0, -9.1, 9.1, 40.0, np.inf, np.nan]))
    assert found[:7].tolist() == [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    assert np.isnan(found[7])
    assert quick_ndtr_of_units(np.array([-1e12, -1e7, 1e7, 1e12])).tolist() == [0.0, 0.0, 1.0, 1.0]
