"""The sums a policy is told are those of the legs as they stand, however little of them is worked out anew."""

from __future__ import annotations

from math import inf, isnan

import numpy as np
import pytest
from numpy.typing import NDArray

from bot.domain.decisions import Legs
from bot.engine.book import OptionMarks
from bot.engine.inclusion import gamma_weighted_vol
from bot.engine.leg_sums import LegSums
from bot.pricing.black76 import greeks

STRIKES_PX = np.array([1_900.0, 2_100.0, 1_800.0])
QTY_BASE = np.array([-10.0, 20.0, -5.0])


def marked(
    qty_base: NDArray[np.float64], forward_px: float, share: NDArray[np.float64] | None = None
) -> tuple[Legs, OptionMarks]:
    forwards = np.full(3, forward_px)
    tau_years, vol, is_call = np.array([0.1, 0.3, 0.02]), np.array([0.5, 0.9, 0.7]), np.array([True, False, True])
    values = greeks(forwards, STRIKES_PX, tau_years, vol, is_call)
    legs = Legs(forwards, STRIKES_PX, tau_years, vol, qty_base, is_call)
    return legs, OptionMarks(0, tau_years, forwards, vol, values, share)


def test_every_revaluation_and_every_trade_is_summed_anew() -> None:
    sums = LegSums()
    traded_base = np.array([-10.0, 20.0, 0.0])  # the leg that expires first is gone
    for qty_base, first_years in ((QTY_BASE, 0.02), (traded_base, 0.1), (QTY_BASE, 0.02)):
        for forward_px in (1_900.0, 2_050.0):
            legs, marks = marked(qty_base, forward_px)
            sums.update(legs, marks)
            assert sums.vol == pytest.approx(gamma_weighted_vol(legs), rel=1e-14)
            assert sums.vanna_base_per_vol == pytest.approx(float(qty_base @ marks.greeks.vanna), rel=1e-14)
            assert (sums.first_years, sums.last_years) == (first_years, 0.3)
            assert sums.gamma == pytest.approx(float(np.abs(qty_base) @ marks.greeks.gamma), rel=1e-14)


def test_an_expiry_without_gamma_to_speak_of_is_not_the_first() -> None:
    sums, (legs, marks) = LegSums(), marked(np.array([-10.0, 20.0, -0.01]), 1_900.0)
    sums.update(legs, marks)
    assert (sums.first_years, sums.last_years) == (0.1, 0.3)


def test_a_price_fixed_in_part_moves_with_vol_by_the_rest_only() -> None:
    sums, (legs, marks) = LegSums(), marked(QTY_BASE, 1_900.0, np.array([1.0, 1.0, 0.25]))
    sums.update(legs, marks)
    assert sums.vanna_base_per_vol == pytest.approx(float(QTY_BASE @ (marks.greeks.vanna * [1.0, 1.0, 0.25])))
    assert sums.vol == pytest.approx(gamma_weighted_vol(legs, marks.greeks.gamma * [1.0, 1.0, 0.0625]))


def test_without_options_there_is_no_vol_and_no_expiry() -> None:
    sums, none = LegSums(), np.empty(0)
    sums.update(Legs(none, none, none, none, none, np.empty(0, dtype=np.bool_)), None)
    assert isnan(sums.vol)
    assert (sums.first_years, sums.last_years, sums.vanna_base_per_vol) == (inf, inf, 0.0)
