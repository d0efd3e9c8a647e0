"""The fitted surface: free of arbitrage whatever it is given, honest where it is not fitted, near hidden quotes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.pricing.fitted_surface import Surface, fit_ssvi, fit_surface
from bot.pricing.surface import interpolate_vol
from bot.pricing.svi import RawSvi, Ssvi
from bot.pricing.svi_fit import SmileQuotes
from tests.pricing.test_svi_fit import K, quotes_of

SSVI = Ssvi(-0.3, 1.0, 0.4)
TAUS_YEARS = (0.02, 0.1, 0.3)


def world(half_vol: float = 0.005) -> list[SmileQuotes]:
    """Quotes of an SSVI surface with 60 % at the money."""
    return [quotes_of(SSVI.slice(0.36 * tau_years), tau_years, half_vol=half_vol) for tau_years in TAUS_YEARS]


def test_quotes_of_a_surface_give_it_back() -> None:
    surface = fit_surface(world())
    assert surface.find_arbitrage() == []
    assert surface.fallbacks == []
    for quotes, one in zip(world(), surface.slices, strict=True):
        assert (one.kind, one.inside_share) == ("svi", 1.0)
        assert one.rms_vol < 1e-3
        np.testing.assert_allclose(surface.vol(K, quotes.tau_years), quotes.vol, atol=3e-3)
        np.testing.assert_allclose(one.mark_vol(K), quotes.vol, rtol=1e-12)


def test_between_expiries_variance_is_linear_in_time_and_beyond_them_vol_is_flat() -> None:
    surface = fit_surface(world())
    near, far = (surface.total_variance(K, tau_years) for tau_years in TAUS_YEARS[:2])
    np.testing.assert_allclose(surface.total_variance(K, 0.04), near + 0.25 * (far - near), rtol=1e-12)
    np.testing.assert_allclose(surface.vol(K, 0.01), surface.vol(K, 0.02), rtol=1e-12)
    np.testing.assert_allclose(surface.vol(K, 2.0), surface.vol(K, 0.3), rtol=1e-12)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_whatever_the_quotes_what_is_fitted_is_free_and_rises_in_time(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noisy = [
        SmileQuotes(one.tau_years, K, vol, np.maximum(vol - 0.02, 0.0), vol + 0.02)
        for one in world()
        for vol in [np.maximum(one.vol * rng.uniform(0.8, 1.2) + 0.03 * rng.standard_normal(len(K)), 0.05)]
    ]
    surface = fit_surface(noisy)
    assert surface.find_arbitrage() == []
    if all(one.kind != "linear" for one in surface.slices):
        wide = np.linspace(-2.0, 2.0, 81)
        w = [surface.total_variance(wide, tau_years) for tau_years in (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)]
        assert (np.diff(w, axis=0) >= -1e-12).all()


def test_symmetric_smiles_whose_expiries_cross_are_fitted_or_said_not_to_be() -> None:
    k = np.linspace(-0.5, 0.5, 15)
    vols = ((0.02, 1.5 + k * k), (0.021, 0.4 + k * k), (0.022, 1.5 + k * k))
    smiles = [SmileQuotes(tau, k, vol, vol - 0.01, vol + 0.01) for tau, vol in vols]
    surface = fit_surface(smiles)
    assert surface.find_arbitrage() == []
    assert surface.fallbacks


def test_a_slice_knows_how_far_from_quotes_a_strike_is() -> None:
    one = fit_surface(world()).slices[1]
    assert one.gap_at(float(K[3])) == 0.0
    assert one.gap_at(0.01) == pytest.approx(0.05)
    assert (one.gap_at(-0.51), one.gap_at(0.51)) == (np.inf, np.inf)
    assert one.deviation == pytest.approx(0.6 * 0.1**0.5, abs=1e-3)


def test_too_few_quotes_are_joined_by_lines_and_said_so() -> None:
    few = SmileQuotes(0.05, np.array([-0.1, 0.0, 0.1]), np.array([0.7, 0.6, 0.65]), np.zeros(3), np.zeros(3))
    surface = fit_surface([few])
    assert surface.slices[0].kind == "linear"
    assert surface.fallbacks == ["18.25 d: 3 strikes are too few, linear"]
    smile = surface.slices[0].curve
    assert not isinstance(smile, RawSvi)
    np.testing.assert_allclose(surface.vol(np.array([0.03]), 0.05), interpolate_vol([smile], 0.05, np.array([0.03])))


def test_a_smile_no_slice_fits_is_said_to_be_one() -> None:
    vol = np.where(np.arange(len(K)) % 2, 0.5, 0.9)
    surface = fit_surface([SmileQuotes(0.1, K, vol, vol - 0.01, vol + 0.01)])
    assert surface.fallbacks == ["36.50 d: no slice fits the quotes, linear"]


def test_few_strikes_of_one_expiry_take_their_slice_from_the_whole_surface() -> None:
    k = np.array([-0.1, -0.05, 0.0, 0.05])
    few = quotes_of(SSVI.slice(0.36 * 0.06), 0.06, k, 0.005)
    quotes = sorted([*world(), few], key=lambda one: one.tau_years)
    surface = fit_surface(quotes)
    assert [one.kind for one in surface.slices] == ["svi", "ssvi", "svi", "svi"]
    assert surface.fallbacks == ["21.90 d: 4 strikes are too few, ssvi"]
    assert surface.find_arbitrage() == []


def test_ssvi_finds_its_own_numbers() -> None:
    found = fit_ssvi(world())
    assert found is not None
    ssvi, thetas = found
    assert ssvi.is_free
    assert ssvi.rho == pytest.approx(SSVI.rho, abs=0.02)
    np.testing.assert_allclose(thetas, [0.36 * tau_years for tau_years in TAUS_YEARS], rtol=0.02)


def test_ssvi_pools_expiries_that_fall() -> None:
    falling = [quotes_of(SSVI.slice(theta), tau_years) for theta, tau_years in ((0.05, 0.1), (0.04, 0.2))]
    found = fit_ssvi(falling)
    assert found is not None
    assert found[1] == sorted(found[1])


class TestShifted:
    SURFACE = fit_surface(world())

    def test_at_stickiness_0_the_smile_goes_with_the_spot(self) -> None:
        moved = self.SURFACE.shifted(-0.1, 0.0)
        np.testing.assert_allclose(moved.vol(K, 0.1), self.SURFACE.vol(K, 0.1), rtol=1e-14)

    def test_at_1_each_strike_keeps_its_vol(self) -> None:
        moved = self.SURFACE.shifted(-0.1, 0.0, 1.0)
        k = np.log(1.05)  # of a strike of 105 at a forward of 100, which then is at 90
        assert moved.vol(np.log(105 / 90), 0.1) == pytest.approx(float(self.SURFACE.vol(k, 0.1)))

    def test_at_2_vol_at_the_money_moves_by_twice_the_skew(self) -> None:
        moved = self.SURFACE.shifted(-1e-4, 0.0, 2.0)
        change = float(moved.vol(0.0, 0.1) - self.SURFACE.vol(0.0, 0.1))
        assert change == pytest.approx(2.0 * float(self.SURFACE.skew(0.0, 0.1)) * np.log(1 - 1e-4), rel=1e-3)

    def test_vols_move_by_their_own_fraction(self) -> None:
        moved = self.SURFACE.shifted(0.0, 0.25)
        np.testing.assert_allclose(moved.vol(K, 0.2), 1.25 * self.SURFACE.vol(K, 0.2), rtol=1e-13)
        np.testing.assert_allclose(moved.slices[0].mark_vol(K), 1.25 * self.SURFACE.slices[0].mark_vol(K), rtol=1e-13)

    def test_it_changes_nothing_of_the_one_it_was(self) -> None:
        before = self.SURFACE.vol(K, 0.1)
        self.SURFACE.shifted(0.2, 0.5, 1.0)
        np.testing.assert_array_equal(self.SURFACE.vol(K, 0.1), before)

    @pytest.mark.parametrize("moves", [(-1.0, 0.0), (0.0, -1.0)])
    def test_nothing_falls_below_nothing(self, moves: tuple[float, float]) -> None:
        with pytest.raises(ValueError, match="hint: fractions, not percent"):
            self.SURFACE.shifted(*moves)

    def test_arbitrage_that_a_shock_brings_is_found(self) -> None:
        assert self.SURFACE.shifted(0.0, 4.0).find_arbitrage() != []


def test_no_smile_and_no_time_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at least one smile"):
        fit_surface([])
    with pytest.raises(ValueError, match="rising order"):
        Surface(())
    with pytest.raises(ValueError, match="positive tau_years"):
        fit_surface(world()).vol(K, 0.0)
