"""SVI: the published example to its digits, the two forms of a slice, and arbitrage found where it is known to be."""

from math import inf

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bot.pricing.svi import (
    JumpWings,
    RawSvi,
    Ssvi,
    from_jump_wings,
    least_density,
    least_gap,
    safe_wings,
    to_jump_wings,
)

VOGT = RawSvi(a=-0.0410, b=0.1331, rho=0.3060, m=0.3586, s=0.4153)  # Gatheral and Jacquier, section 5.1
WIDE = np.linspace(-2.0, 2.0, 4001)

slices = st.builds(
    lambda lift, b, rho, m, s: RawSvi(lift - b * s * (1.0 - rho**2) ** 0.5, b, rho, m, s),
    st.floats(0.001, 0.2),
    st.floats(0.01, 0.9),
    st.floats(-0.9, 0.9),
    st.floats(-0.5, 0.5),
    st.floats(0.02, 1.0),
)


class TestVogt:
    def test_jump_wings_are_the_papers(self) -> None:
        expected = JumpWings(0.01742625, -0.1752111, 0.6997381, 1.316798, 0.0116249)
        np.testing.assert_allclose(to_jump_wings(VOGT, 1.0), expected, rtol=5e-7, atol=5e-9)

    def test_the_butterfly_is_where_the_paper_has_it(self) -> None:
        lowest = least_density(VOGT)
        assert lowest.value == pytest.approx(-0.0329, abs=5e-5)
        assert lowest.log_moneyness == pytest.approx(0.879, abs=5e-4)
        k = np.linspace(0.0, 2.0, 200_001)
        broken = k[VOGT.density(k) < 0.0]
        np.testing.assert_allclose(broken[[0, -1]], [0.6425, 1.2569], atol=1e-4)

    def test_the_safe_slice_is_the_papers_and_free(self) -> None:
        safe = safe_wings(to_jump_wings(VOGT, 1.0))
        assert safe.c == pytest.approx(0.3493158, abs=5e-8)
        assert safe.v_least == pytest.approx(0.01548182, abs=5e-9)
        mended = from_jump_wings(safe, 1.0)
        assert mended.density(WIDE).min() == pytest.approx(0.2704, abs=5e-5)
        assert least_density(mended).value > 0.0

    def test_the_papers_closer_fit_is_free_by_little(self) -> None:
        closer = from_jump_wings(to_jump_wings(VOGT, 1.0)._replace(c=0.8564763), 1.0)
        assert least_density(closer).value == pytest.approx(0.0081, abs=5e-5)


@given(svi=slices, tau_years=st.floats(0.01, 2.0))
def test_both_forms_say_the_same(svi: RawSvi, tau_years: float) -> None:
    wings = to_jump_wings(svi, tau_years)
    assume(wings.v_least < 0.99 * wings.v and abs(svi.m) > 0.02 and abs(svi.rho) > 0.02)  # else it is lost in rounding
    k = np.linspace(-1.0, 1.0, 9)
    np.testing.assert_allclose(from_jump_wings(wings, tau_years).total_variance(k), svi.total_variance(k), rtol=1e-5)


def test_a_slice_whose_skew_is_that_of_its_wings_comes_back_too() -> None:
    svi = RawSvi(0.01, 0.2, -0.4, 0.0, 0.3)
    np.testing.assert_allclose(from_jump_wings(to_jump_wings(svi, 0.5), 0.5), svi, atol=1e-12)


@pytest.mark.parametrize("psi", [0.0, 1e-17, -1e-16])
def test_wings_that_are_symmetric_but_for_rounding_are_refused_and_never_divided_by_nothing(psi: float) -> None:
    with pytest.raises(ValueError, match="hint: it is symmetric"):
        from_jump_wings(safe_wings(JumpWings(0.04, psi, 0.5, 0.5, 0.03)), 1.0)


@pytest.mark.parametrize(
    "wings",
    [
        JumpWings(0.04, 0.4, 0.5, 0.6, 0.03),
        JumpWings(0.04, 0.0, -0.1, 0.6, 0.03),
        JumpWings(0.04, 0.0, 0.5, 0.6, 0.05),
        JumpWings(-0.04, 0.0, 0.5, 0.5, 0.03),
    ],
)
def test_wings_no_slice_has_are_refused(wings: JumpWings) -> None:
    with pytest.raises(ValueError, match="hint: no slice has these"):
        from_jump_wings(wings, 1.0)


@given(svi=slices)
def test_derivatives_are_those_of_the_variance(svi: RawSvi) -> None:
    k, step = np.linspace(-0.8, 0.8, 7), 1e-5
    w, slope, bend = svi.derivatives(k)
    up, down = svi.total_variance(k + step), svi.total_variance(k - step)
    np.testing.assert_allclose(slope, (up - down) / (2.0 * step), atol=1e-6)
    np.testing.assert_allclose(
        bend, (svi.derivatives(k + step)[1] - svi.derivatives(k - step)[1]) / (2.0 * step), atol=1e-3
    )
    np.testing.assert_allclose(w, svi.total_variance(k), rtol=1e-15)


@given(svi=slices)
def test_no_grid_finds_a_lower_density(svi: RawSvi) -> None:
    found = least_density(svi).value
    assert found <= svi.density(np.linspace(-5.0, 5.0, 4001)).min() + 1e-6


def test_a_wing_beyond_lees_bound_has_no_price() -> None:
    assert least_density(RawSvi(0.01, 1.5, 0.5, 0.0, 0.1)).value == -inf
    assert RawSvi(0.01, 1.0, 0.5, 0.0, 0.1).wing_slope == 1.5


def test_a_slice_without_variance_somewhere_is_no_slice() -> None:
    assert least_density(RawSvi(-0.1, 0.1, 0.0, 0.0, 0.5)).value == -inf


class TestCalendar:
    NEAR = RawSvi(0.01, 0.1, -0.3, 0.0, 0.2)

    def test_a_lift_is_the_gap(self) -> None:
        assert least_gap(self.NEAR, self.NEAR._replace(a=0.015)).value == pytest.approx(0.005)
        assert least_gap(self.NEAR, self.NEAR._replace(a=0.008)).value == pytest.approx(-0.002)

    def test_a_flatter_wing_of_the_later_one_crosses_sooner_or_later(self) -> None:
        assert least_gap(self.NEAR, self.NEAR._replace(a=0.5, b=0.09)) == (-inf, -inf)
        assert least_gap(self.NEAR, RawSvi(0.5, 0.1, -0.5, 0.0, 0.2)) == (-inf, inf)

    def test_a_crossing_between_two_grid_points_is_found(self) -> None:
        far = RawSvi(0.0101, 0.2, -0.3, 0.0123, 1e-4)
        assert least_gap(self.NEAR._replace(s=1e-3, m=0.0123), far).value == pytest.approx(
            0.0101 - 0.01 - 7.6e-5, abs=1e-5
        )


class TestSsvi:
    def test_a_slice_is_the_formula(self) -> None:
        ssvi, theta, k = Ssvi(-0.4, 1.2, 0.4), 0.05, np.linspace(-1.0, 1.0, 11)
        x = ssvi.phi(theta) * k
        expected = 0.5 * theta * (1.0 - 0.4 * x + np.sqrt((x - 0.4) ** 2 + 1.0 - 0.16))
        np.testing.assert_allclose(ssvi.slice(theta).total_variance(k), expected, rtol=1e-13)

    @given(rho=st.floats(-0.95, 0.95), share=st.floats(0.01, 0.999), gamma=st.floats(0.01, 0.5))
    def test_what_is_called_free_is(self, rho: float, share: float, gamma: float) -> None:
        ssvi = Ssvi(rho, share * 2.0 / (1.0 + abs(rho)), gamma)
        assert ssvi.is_free
        thetas = [0.0005, 0.01, 0.2, 1.5]
        assert all(ssvi.is_free_at(theta) for theta in thetas)
        slices = [ssvi.slice(theta) for theta in thetas]
        assert all(least_density(one).value >= -1e-9 for one in slices)
        assert least_gap(slices[1], slices[2]).value >= 0.0

    def test_the_bound_that_is_broken_is_seen(self) -> None:
        assert not Ssvi(-0.7, 1.6, 0.5).is_free
        ssvi = Ssvi(-0.7, 1.6, 0.5)
        assert 1.7 * 0.01 * ssvi.phi(0.01) ** 2 == pytest.approx(1.7 * 2.56 / 1.01)
        assert not ssvi.is_free_at(0.01), "4.31 > 4"


def test_moving_and_scaling_a_slice() -> None:
    assert VOGT.moved(0.1).total_variance(0.3) == pytest.approx(float(VOGT.total_variance(0.2)))
    assert VOGT.scaled(1.21).total_variance(0.3) == pytest.approx(1.21 * float(VOGT.total_variance(0.3)))
