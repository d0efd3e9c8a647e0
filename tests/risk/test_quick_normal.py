"""The table against the function it stands for, over all of its range and beyond."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from bot.risk.quick_normal import LEAST, MOST, quick_ndtr


def test_it_is_the_normal_distribution_to_a_few_parts_in_ten_to_the_twelfth() -> None:
    x = np.random.default_rng(5).uniform(LEAST, MOST, 20_001)
    exact = ndtr(x)
    found = quick_ndtr(x.copy())
    assert np.abs(found - exact).max() < 3e-12
    near = np.abs(x) < 6.0
    assert np.abs(found[near] / exact[near] - 1.0).max() < 1e-10


def test_beyond_the_table_it_stays_at_its_ends_and_what_is_no_number_stays_none() -> None:
    found = quick_ndtr(np.array([-np.inf, -1e300, -9.0, 9.0, 40.0, np.inf, np.nan]))
    assert np.all(np.abs(found[:3]) < 1e-15)
    assert np.all(np.abs(found[3:6] - 1.0) < 1e-15)
    assert np.isnan(found[6])
