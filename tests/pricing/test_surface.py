"""The surface: exact at its nodes, flat beyond them, and free of calendar arbitrage wherever its smiles are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.pricing.surface import Smile, interpolate_vol

WEEK = Smile(7 / 365, np.array([-0.2, -0.05, 0.0, 0.1]), np.array([0.8, 0.6, 0.55, 0.62]))
MONTH = Smile(30 / 365, np.array([-0.4, -0.1, 0.0, 0.15, 0.5]), np.array([0.85, 0.66, 0.6, 0.63, 0.9]))
QUARTER = Smile(91 / 365, np.array([-0.6, 0.0, 0.7]), np.array([0.8, 0.65, 0.75]))
SMILES = [WEEK, MONTH, QUARTER]

nodes = st.lists(st.floats(-1.0, 1.0).map(lambda k: round(k, 3)), min_size=1, max_size=8, unique=True).map(sorted)


@st.composite
def smiles(draw: st.DrawFn, tau_years: float) -> Smile:
    log_moneyness = draw(nodes)
    vol = draw(st.lists(st.floats(0.05, 3.0), min_size=len(log_moneyness), max_size=len(log_moneyness)))
    return Smile(tau_years, np.array(log_moneyness), np.array(vol))


@pytest.mark.parametrize("smile", SMILES, ids=["week", "month", "quarter"])
def test_quotes_are_met_exactly(smile: Smile) -> None:
    found = interpolate_vol(SMILES, smile.tau_years, smile.log_moneyness)
    np.testing.assert_allclose(found, smile.vol, rtol=1e-15)


def test_total_variance_is_linear_in_log_moneyness() -> None:
    expected = np.sqrt(0.25 * 0.55**2 + 0.75 * 0.62**2)
    np.testing.assert_allclose(interpolate_vol([WEEK], WEEK.tau_years, 0.075), expected, rtol=1e-14)


def test_total_variance_is_linear_in_time() -> None:
    found = interpolate_vol(SMILES, 20 / 365, 0.0)
    week_w, month_w = 0.55**2 * 7 / 365, 0.6**2 * 30 / 365
    np.testing.assert_allclose(found**2 * 20 / 365, week_w + (month_w - week_w) * 13 / 23, rtol=1e-14)


def test_wings_are_flat() -> None:
    found = interpolate_vol(SMILES, MONTH.tau_years, [-5.0, -0.4, 0.5, 0.51, 9.0])
    np.testing.assert_allclose(found, [0.85, 0.85, 0.9, 0.9, 0.9], rtol=1e-15)


@pytest.mark.parametrize(("tau_years", "nearest"), [(1 / 365, WEEK), (400 / 365, QUARTER)])
def test_vol_is_flat_before_the_first_and_after_the_last_expiry(tau_years: float, nearest: Smile) -> None:
    k = np.linspace(-0.7, 0.7, 29)
    np.testing.assert_array_equal(interpolate_vol(SMILES, tau_years, k), interpolate_vol([nearest], tau_years, k))
    np.testing.assert_allclose(interpolate_vol(SMILES, tau_years, nearest.log_moneyness), nearest.vol, rtol=1e-15)


def test_shape_follows_log_moneyness() -> None:
    assert interpolate_vol(SMILES, 0.05, 0.0).shape == ()
    assert interpolate_vol(SMILES, 0.05, np.zeros((2, 3))).shape == (2, 3)
    assert interpolate_vol(SMILES, 0.05, []).shape == (0,)


@given(near=smiles(tau_years=0.1), far=smiles(tau_years=0.4), tau_years=st.floats(0.01, 2.0), k=st.floats(-2.0, 2.0))
def test_vol_stays_within_the_total_variances_around_it(near: Smile, far: Smile, tau_years: float, k: float) -> None:
    found = float(interpolate_vol([near, far], tau_years, k))
    if tau_years <= near.tau_years:
        low, high = near.vol.min(), near.vol.max()
    elif tau_years >= far.tau_years:
        low, high = far.vol.min(), far.vol.max()
    else:
        w = np.sort(
            [float(interpolate_vol([smile], smile.tau_years, k)) ** 2 * smile.tau_years for smile in (near, far)]
        )
        low, high = np.sqrt(w / tau_years)
    assert low * (1 - 1e-12) <= found <= high * (1 + 1e-12)


@given(smile=smiles(tau_years=0.1), rise=st.lists(st.floats(0.0, 1.0), min_size=8, max_size=8), k=st.floats(-1.5, 1.5))
def test_no_calendar_arbitrage_appears_between_smiles_that_have_none(smile: Smile, rise: list[float], k: float) -> None:
    later_w = smile.vol**2 * smile.tau_years + np.array(rise[: smile.vol.size])
    later = Smile(0.5, smile.log_moneyness, np.sqrt(later_w / 0.5))
    taus_years = np.linspace(0.02, 0.9, 45)
    w = [float(interpolate_vol([smile, later], tau_years, k)) ** 2 * tau_years for tau_years in taus_years]
    assert (np.diff(w) >= -1e-12 * np.max(w)).all()


@pytest.mark.parametrize(
    ("tau_years", "log_moneyness", "vol", "text"),
    [
        (0.0, [0.0], [0.5], "positive tau_years, found 0.0"),
        (-1.0, [0.0], [0.5], "positive tau_years"),
        (np.nan, [0.0], [0.5], "positive tau_years"),
        (0.1, [], [], "not empty"),
        (0.1, [0.0, 0.1], [0.5], "one length"),
        (0.1, [[0.0]], [[0.5]], "two flat arrays"),
        (0.1, [0.1, 0.0], [0.5, 0.5], "strictly rising"),
        (0.1, [0.1, 0.1], [0.5, 0.5], "strictly rising"),
        (0.1, [np.nan], [0.5], "finite"),
        (0.1, [0.0], [0.0], "positive vols"),
        (0.1, [0.0], [np.nan], "positive vols"),
    ],
)
def test_bad_smile_is_refused(tau_years: float, log_moneyness: list[float], vol: list[float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Smile(tau_years, np.array(log_moneyness), np.array(vol))


def test_bad_request_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one smile"):
        interpolate_vol([], 0.1, 0.0)
    with pytest.raises(ValueError, match="rising order of tau_years"):
        interpolate_vol([MONTH, WEEK], 0.1, 0.0)
    with pytest.raises(ValueError, match="rising order of tau_years"):
        interpolate_vol([WEEK, WEEK], 0.1, 0.0)
    with pytest.raises(ValueError, match="positive tau_years"):
        interpolate_vol(SMILES, 0.0, 0.0)
    with pytest.raises(ValueError, match="finite log_moneyness"):
        interpolate_vol(SMILES, 0.1, [0.0, np.nan])
