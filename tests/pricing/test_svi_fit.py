"""Fitting: slices come back from their own quotes, quotes count by their spread, and mending never leaves arbitrage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.pricing.svi import RawSvi, least_density, least_gap
from bot.pricing.svi_fit import MIN_HALF_VOL, SmileQuotes, fit_slice, is_free, mend, vol_errors
from tests.pricing.test_svi import VOGT

K = np.linspace(-0.5, 0.5, 21)


def quotes_of(svi: RawSvi, tau_years: float = 0.1, k: np.ndarray = K, half_vol: float = 0.01) -> SmileQuotes:
    vol = np.sqrt(svi.total_variance(k) / tau_years)
    return SmileQuotes(tau_years, k, vol, vol - half_vol, vol + half_vol)


@pytest.mark.parametrize(
    "svi",
    [
        RawSvi(0.01, 0.08, -0.3, -0.02, 0.15),
        RawSvi(0.002, 0.05, 0.2, 0.05, 0.05),
        RawSvi(-0.02, 0.2, -0.6, -0.1, 0.4),
        RawSvi(0.03, 0.0, 0.0, 0.0, 0.1),
    ],
    ids=["put skew", "call skew", "below zero without its wings", "flat"],
)
def test_a_slice_is_found_again_from_its_quotes(svi: RawSvi) -> None:
    quotes = quotes_of(svi)
    assert np.abs(vol_errors(quotes, fit_slice(quotes))).max() < 1e-3


def test_a_wide_quote_hardly_counts() -> None:
    svi = RawSvi(0.01, 0.08, -0.3, -0.02, 0.15)
    exact = quotes_of(svi, half_vol=0.003)
    vol, bid_vol, ask_vol = exact.vol.copy(), exact.bid_vol.copy(), exact.ask_vol.copy()
    vol[4] += 0.1
    bid_vol[4], ask_vol[4] = vol[4] - 0.3, vol[4] + 0.3
    wide = SmileQuotes(exact.tau_years, K, vol, bid_vol, ask_vol)
    tight = SmileQuotes(exact.tau_years, K, vol, vol - 0.003, vol + 0.003)
    assert abs(vol_errors(exact, fit_slice(wide))[4]) < 0.003 < abs(vol_errors(exact, fit_slice(tight))[4])


def test_no_wing_is_steeper_than_lee_allows() -> None:
    k = np.linspace(-0.3, 0.3, 13)
    vol = 0.5 + 8.0 * np.abs(k)
    svi = fit_slice(SmileQuotes(1.0, k, vol, vol - 0.01, vol + 0.01))
    assert 1.9 < svi.wing_slope < 2.0


def test_half_spreads_of_what_is_quoted_on_no_side_or_one() -> None:
    vol = np.full(4, 0.6)
    quotes = SmileQuotes(
        0.1, np.arange(4) * 0.1, vol, np.array([0.55, 0.5999, 0.0, 0.0]), np.array([0.65, 0.6001, 0.63, 0.0])
    )
    np.testing.assert_allclose(quotes.half_vol, [0.05, MIN_HALF_VOL, 0.06, 0.1])
    assert quotes.is_two_sided.tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("k", "vol", "tau_years"),
    [
        ([0.0, 0.0], [0.5, 0.5], 0.1),
        ([0.0, 0.1], [0.5, -0.5], 0.1),
        ([0.0], [0.5, 0.5], 0.1),
        ([0.0, 0.1], [0.5, 0.5], 0.0),
    ],
    ids=["one strike twice", "negative vol", "lengths", "expired"],
)
def test_what_are_no_quotes_is_refused(k: list[float], vol: list[float], tau_years: float) -> None:
    with pytest.raises(ValueError, match="hint"):
        SmileQuotes(tau_years, np.array(k), np.array(vol), np.zeros(len(vol)), np.zeros(len(vol)))


def test_vogts_slice_is_mended_closer_than_the_safe_one() -> None:
    quotes = quotes_of(VOGT, 1.0, np.linspace(-1.2, 1.4, 27))
    mended = mend(quotes, VOGT)
    assert mended is not None
    assert is_free(mended)
    assert np.abs(vol_errors(quotes, mended)).max() < 0.02, "the safe slice is off by four times as much"


def test_an_earlier_expiry_gives_way_to_the_later() -> None:
    far = RawSvi(0.012, 0.08, -0.3, -0.02, 0.15)
    dear = RawSvi(0.004, 0.14, -0.2, 0.0, 0.1)
    quotes = quotes_of(dear)
    assert least_gap(dear, far).value < 0.0
    mended = mend(quotes, dear, far)
    assert mended is not None
    assert least_gap(mended, far).value >= 0.0
    assert least_density(mended).value >= 0.0


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), noise_vol=st.floats(0.0, 0.2))
def test_mending_never_leaves_arbitrage(seed: int, noise_vol: float) -> None:
    rng = np.random.default_rng(seed)
    far = RawSvi(0.015, 0.1, -0.3, -0.02, 0.2)
    vol = np.sqrt(far.total_variance(K) * rng.uniform(0.3, 1.1) / 0.05) + noise_vol * rng.uniform(-1.0, 1.0, len(K))
    vol = np.maximum(vol, 0.05)
    quotes = SmileQuotes(0.05, K, vol, np.maximum(vol - 0.01, 0.0), vol + 0.01)
    mended = mend(quotes, fit_slice(quotes), far)
    assert mended is None or (least_density(mended).value >= 0.0 and least_gap(mended, far).value >= 0.0)
