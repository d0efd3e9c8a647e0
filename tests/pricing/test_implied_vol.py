"""Implied vol: the golden cases, a slow twin, every status, and prices from the edge of what a double holds."""

import csv
import itertools
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.pricing import implied_vol as module
from bot.pricing.implied_vol import IvStatus, implied_vol

EPS = float(np.finfo(np.float64).eps)
GOLDEN = list(
    csv.DictReader((Path(__file__).parents[1] / "golden" / "golden_iv.csv").read_text(encoding="utf-8").splitlines())
)


def exact_price(
    forward: float, strike: float, tau_years: float, vol: float, is_call: bool, *, rate: float = 0.0
) -> Any:
    """Black-76 in 60 digits."""
    with mp.workdps(60):
        f, k, tau, w = mp.mpf(forward), mp.mpf(strike), mp.mpf(tau_years), 1 if is_call else -1
        dev = vol * mp.sqrt(tau)
        d1 = mp.log(f / k) / dev + dev / 2
        return mp.exp(-rate * tau) * w * (f * mp.ncdf(w * d1) - k * mp.ncdf(w * (d1 - dev)))


def exact_vega(forward: float, strike: float, tau_years: float, vol: float, *, rate: float = 0.0) -> Any:
    with mp.workdps(60):
        f, k, tau = mp.mpf(forward), mp.mpf(strike), mp.mpf(tau_years)
        dev = vol * mp.sqrt(tau)
        return mp.exp(-rate * tau) * f * mp.npdf(mp.log(f / k) / dev + dev / 2) * mp.sqrt(tau)


def solve_slowly(price: float, forward: float, strike: float, tau_years: float, is_call: bool) -> float:
    """The same vol by halving a bracket of the 60-digit price: nothing in common with the fast path."""
    with mp.workdps(60):
        low, high = mp.mpf("0.001"), mp.mpf(16)
        for _ in range(70):
            middle = (low + high) / 2
            if exact_price(forward, strike, tau_years, middle, is_call) < price:
                low = middle
            else:
                high = middle
        return float(low)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["case"])
def test_golden_vol_is_met_to_the_attainable_error(row: dict[str, str]) -> None:
    found = implied_vol(
        float.fromhex(row["price_double_hex"]), float(row["F"]), float(row["K"]), float(row["T"]), row["w"] == "1"
    )
    assert found.status == IvStatus.OK
    error = abs(mp.mpf(float(found.vol)) / mp.mpf(row["sigma_golden"]) - 1)
    assert error <= max(1e-12, 4 * float(row["attainable_rel_err"]))
    assert error <= max(1e-14, float(row["attainable_rel_err"]))  # what is in fact reached


@settings(max_examples=150, deadline=None)
@given(
    forward=st.floats(1e-6, 1e6),
    moneyness=st.floats(-3.0, 3.0) | st.floats(-1e-3, 1e-3) | st.just(0.0),
    tau_years=st.floats(1e-6, 5.0),
    vol=st.floats(0.01, 8.0),
    is_call=st.booleans(),
    rate=st.sampled_from([0.0, 0.05, -0.02]),
)
def test_vol_survives_the_round_trip_within_conditioning(
    *, forward: float, moneyness: float, tau_years: float, vol: float, is_call: bool, rate: float
) -> None:
    strike = forward * float(np.exp(moneyness))
    exact = exact_price(forward, strike, tau_years, vol, is_call, rate=rate)
    price = float(exact)
    found = implied_vol(price, forward, strike, tau_years, is_call, rate=rate)
    with mp.workdps(60):
        discount = mp.exp(-rate * mp.mpf(tau_years))
        time_value = exact - discount * max(mp.mpf(0), (1 if is_call else -1) * (mp.mpf(forward) - mp.mpf(strike)))
        headroom = discount * mp.mpf(forward if is_call else strike) - exact
    if time_value < 1e-300 * min(forward, strike) or time_value < 4 * EPS * price:
        assert int(found.status) in {IvStatus.NO_INFORMATION, IvStatus.OK}
    elif headroom < 4 * EPS * price:
        assert int(found.status) in {IvStatus.ABOVE_MAXIMUM, IvStatus.OK}
    else:
        assert found.status == IvStatus.OK
        rounding = abs(mp.mpf(price) - exact) + (4 * EPS * price if rate else 0.0)
        conditioned = float(rounding / (exact_vega(forward, strike, tau_years, vol, rate=rate) * vol))
        # The first order in the rounding says enough only where the rounding is small beside what is left of the price.
        if rounding < 0.01 * min(time_value, headroom):
            assert abs(float(found.vol) / vol - 1.0) <= 5e-14 + 1.1 * conditioned


def test_vol_agrees_with_a_slow_twin() -> None:
    rng = np.random.default_rng(7)
    size = 40
    forward, tau_years, vol = rng.uniform(1, 1e5, size), rng.uniform(1e-4, 1, size), rng.uniform(0.2, 2, size)
    strike = forward * np.exp(rng.normal(0, 1.2, size) * vol * np.sqrt(tau_years))
    is_call = strike > forward
    price = np.array([float(exact_price(*case)) for case in zip(forward, strike, tau_years, vol, is_call, strict=True)])
    found = implied_vol(price, forward, strike, tau_years, is_call)
    slow = [solve_slowly(*case) for case in zip(price, forward, strike, tau_years, is_call, strict=True)]
    np.testing.assert_allclose(found.vol, slow, rtol=1e-14)


@pytest.mark.parametrize(
    ("price", "forward", "strike", "tau_years", "is_call", "expected"),
    [
        (5.0, 100.0, 100.0, 0.1, True, IvStatus.OK),
        (9.99, 110.0, 100.0, 0.1, True, IvStatus.BELOW_INTRINSIC),
        (9.99, 100.0, 110.0, 0.1, False, IvStatus.BELOW_INTRINSIC),
        (-1.0, 100.0, 110.0, 0.1, True, IvStatus.BELOW_INTRINSIC),
        (100.0, 100.0, 50.0, 0.1, True, IvStatus.ABOVE_MAXIMUM),
        (110.0, 100.0, 50.0, 0.1, True, IvStatus.ABOVE_MAXIMUM),
        (50.0, 100.0, 50.0, 0.1, False, IvStatus.ABOVE_MAXIMUM),
        (0.0, 100.0, 110.0, 0.1, True, IvStatus.NO_INFORMATION),
        (10.0, 110.0, 100.0, 0.1, True, IvStatus.NO_INFORMATION),
        (0.3 - 0.1, 0.3, 0.1, 0.1, True, IvStatus.NO_INFORMATION),  # intrinsic, rounded
        (6e-322, 100.0, 110.0, 0.1, True, IvStatus.NO_INFORMATION),
        (1e-130, 100.0, 100.0, 0.1, True, IvStatus.NO_INFORMATION),
        (np.nan, 100.0, 110.0, 0.1, True, IvStatus.INVALID_INPUT),
        (np.inf, 100.0, 110.0, 0.1, True, IvStatus.INVALID_INPUT),
        (5.0, np.nan, 110.0, 0.1, True, IvStatus.INVALID_INPUT),
        (5.0, np.inf, 110.0, 0.1, True, IvStatus.INVALID_INPUT),
        (5.0, -100.0, 110.0, 0.1, True, IvStatus.INVALID_INPUT),
        (5.0, 100.0, 0.0, 0.1, True, IvStatus.INVALID_INPUT),
        (5.0, 100.0, np.inf, 0.1, True, IvStatus.INVALID_INPUT),
        (5.0, 100.0, 5e-324, 0.1, True, IvStatus.INVALID_INPUT),
        (5.0, 100.0, 110.0, 0.0, True, IvStatus.INVALID_INPUT),
        (5.0, 100.0, 110.0, -0.1, True, IvStatus.INVALID_INPUT),
        (5.0, 100.0, 110.0, np.inf, True, IvStatus.INVALID_INPUT),
        (5.0, 100.0, 110.0, np.nan, True, IvStatus.INVALID_INPUT),
    ],
)
def test_status_says_why_there_is_no_vol(
    *, price: float, forward: float, strike: float, tau_years: float, is_call: bool, expected: IvStatus
) -> None:
    found = implied_vol(price, forward, strike, tau_years, is_call)
    assert IvStatus(int(found.status)) is expected
    assert np.isnan(found.vol) == (expected is not IvStatus.OK)


def test_one_bad_option_leaves_its_neighbours_alone() -> None:
    price = np.array([5.0, np.nan, 5.0, -1.0, 4.0])
    found = implied_vol(price, 100.0, 100.0, 0.25, True)
    assert found.status.tolist() == [
        IvStatus.OK, IvStatus.INVALID_INPUT, IvStatus.OK, IvStatus.BELOW_INTRINSIC, IvStatus.OK,
    ]  # fmt: skip
    assert found.vol[0] == found.vol[2] == implied_vol(5.0, 100.0, 100.0, 0.25, True).vol


def test_inputs_broadcast_and_stay_as_they_are() -> None:
    strike = np.array([90.0, 100.0, 110.0])
    is_call = np.array([[True], [False]])
    price = np.array([[12.0, 6.0, 2.5], [2.0, 6.0, 12.5]])
    before = price.copy()
    found = implied_vol(price, 100.0, strike, 0.25, is_call)
    assert found.vol.shape == found.status.shape == (2, 3)
    assert found.vol.dtype == np.float64
    np.testing.assert_array_equal(price, before)
    for row, column in itertools.product(range(2), range(3)):
        alone = implied_vol(price[row, column], 100.0, strike[column], 0.25, is_call[row, 0])
        assert alone.vol.shape == ()
        assert alone.vol == found.vol[row, column]


@pytest.mark.parametrize("shape", [(0,), (2, 0)])
def test_no_options_give_no_vols(shape: tuple[int, ...]) -> None:
    assert implied_vol(np.empty(shape), 100.0, 100.0, 1.0, True).vol.shape == shape


def test_shapes_that_do_not_broadcast_raise() -> None:
    with pytest.raises(ValueError, match="shape"):
        implied_vol(np.ones(2), np.ones(3), 1.0, 1.0, True)


def test_every_block_is_solved() -> None:
    price = np.linspace(1.0, 30.0, 2 * module.BLOCK + 17)
    found = implied_vol(price, 100.0, 100.0, 0.5, True)
    assert (found.status == IvStatus.OK).all()
    assert found.vol[module.BLOCK + 5] == implied_vol(price[module.BLOCK + 5], 100.0, 100.0, 0.5, True).vol


@pytest.mark.parametrize("strike", [20.0, 80.0, 99.999999, 100.0, 103.0, 250.0, 1e4])
def test_vol_rises_with_price_across_every_seam(strike: float) -> None:
    least = min(100.0, strike)
    time_value = least * np.concatenate([np.geomspace(1e-119, 0.5, 6000), 1.0 - np.geomspace(0.499, 1e-12, 3000)])
    found = implied_vol(time_value, 100.0, strike, 1.0, strike >= 100.0)
    assert (found.status == IvStatus.OK).all()
    assert (np.diff(found.vol) > 0.0).all()


def test_put_and_call_of_equal_time_value_have_one_vol() -> None:
    call = implied_vol(17.5, 110.0, 100.0, 0.5, True)
    put = implied_vol(7.5, 110.0, 100.0, 0.5, False)
    np.testing.assert_allclose(call.vol, put.vol, rtol=4 * EPS)


def test_rate_discounts_the_price() -> None:
    plain = implied_vol(7.5, 110.0, 100.0, 0.5, False)
    discounted = implied_vol(7.5 * np.exp(-0.04), 110.0, 100.0, 0.5, False, rate=0.08)
    np.testing.assert_allclose(discounted.vol, plain.vol, rtol=1e-14)
    assert implied_vol(7.5, 110.0, 100.0, 0.5, False, rate=np.array([0.0, 0.08])).vol.shape == (2,)


@pytest.mark.parametrize("seed", range(3))
def test_every_price_a_double_can_hold_has_its_vol(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = 20_000
    share = np.concatenate(
        [
            10.0 ** rng.uniform(-307, -1e-6, size),
            10.0 ** rng.uniform(-8, -1e-3, size),
            1.0 - 10.0 ** rng.uniform(-15.6, 0, size),
            10.0 ** rng.uniform(-40, -1e-6, size),
        ]
    )
    distance = np.concatenate(
        [10.0 ** rng.uniform(-15.6, 299, size), 10.0 ** rng.uniform(-15.6, 1, 2 * size), np.zeros(size)]
    )
    found = implied_vol(share, 1.0, 1.0 + distance, 1.0, True)
    assert (found.status == IvStatus.OK).all()
    assert np.isfinite(found.vol).all()
    picked = rng.integers(0, share.size, 60)
    for price, strike, vol in zip(share[picked], 1.0 + distance[picked], found.vol[picked], strict=True):
        exact = exact_price(1.0, strike, 1.0, vol, True)
        error = abs(float((exact - mp.mpf(price)) / (exact_vega(1.0, strike, 1.0, vol) * vol)))
        assert error <= 2e-14


def test_nonsense_never_warns_and_never_passes_for_a_vol() -> None:
    odd = [np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 5e-324, 1e-308, 1e-154, 1.0, 1e145, 1.7e308]
    price, forward, strike, tau_years = np.array(list(itertools.product(odd, repeat=4))).T
    for is_call in (True, False):
        found = implied_vol(price, forward, strike, tau_years, is_call, rate=0.01)
        assert (np.isfinite(found.vol) == (found.status == IvStatus.OK)).all()
        assert (found.vol[found.status == IvStatus.OK] > 0.0).all()


def test_guess_is_close_enough_for_a_single_step() -> None:
    dev, moneyness = np.meshgrid(np.linspace(0.002, 1.5, 60), np.linspace(1e-6, 1.2, 60))
    dev, moneyness = dev[moneyness < 5 * dev], moneyness[moneyness < 5 * dev]
    share = np.array([float(exact_price(1.0, mp.exp(m), 1.0, v, True)) for m, v in zip(moneyness, dev, strict=True)])
    guess = module._guess(share, np.log(share), np.expm1(moneyness), moneyness)
    assert np.abs(guess / dev - 1.0).max() < module.LONG_STEP
