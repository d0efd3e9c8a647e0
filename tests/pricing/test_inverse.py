"""Coin-settled options: goldens, the definitions by finite difference, and the way between coins and quote money."""

import csv
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.pricing.black76 import Black76Greeks, Floats, greeks
from bot.pricing.inverse import coin_gamma, coin_price, net_delta_base

GOLDEN = list(
    csv.DictReader((Path(__file__).parents[1] / "golden" / "inverse_delta.csv").read_text("utf-8").splitlines())
)

forwards = st.floats(100.0, 100_000.0)
ratios = st.floats(0.3, 3.0)
taus = st.floats(0.02, 2.0)
vols = st.floats(0.2, 1.5)


def column(name: str) -> Floats:
    return np.array([float(row[name]) for row in GOLDEN])


class TestGolden:
    @pytest.fixture
    def g(self) -> Black76Greeks:
        # The file prints T with six digits; its other columns come from exactly 30 days.
        assert column("T") == pytest.approx(np.full(len(GOLDEN), 30.0 / 365.0), abs=5e-7)
        return greeks(column("F"), column("K"), 30.0 / 365.0, column("sigma"), column("w") > 0)

    def test_value_and_delta_in_quote_money(self, g: Black76Greeks) -> None:
        assert g.value == pytest.approx(column("usd_price"), rel=1e-13)
        assert g.delta == pytest.approx(column("bs_delta"), rel=1e-13)

    def test_price_in_coins(self, g: Black76Greeks) -> None:
        assert coin_price(g, column("F")) == pytest.approx(column("coin_price"), rel=1e-13)

    def test_net_delta_keeps_the_digits_that_the_difference_loses(self, g: Black76Greeks) -> None:
        net = net_delta_base(g, column("F"), column("K"))
        assert net == pytest.approx(column("w_K_over_F_N_wd2"), rel=1e-13)
        assert net == pytest.approx(column("net_delta"), rel=1e-13, abs=1e-16)
        assert net == pytest.approx(column("F_dcdF_fd"), rel=1e-7)

    def test_gamma_in_coins(self, g: Black76Greeks) -> None:
        gamma = coin_gamma(g, column("F"), column("K")) * column("F") ** 2
        assert gamma == pytest.approx(column("F2_coin_gamma"), rel=1e-12, abs=1e-15)
        assert gamma == pytest.approx(column("F2_coin_gamma_fd"), rel=1e-7, abs=1e-9)


@given(forward=forwards, ratio=ratios, tau=taus, vol=vols, is_call=st.booleans())
def test_coin_greeks_are_the_slopes_of_the_coin_price(
    forward: float, ratio: float, tau: float, vol: float, is_call: bool
) -> None:
    strike, step = forward * ratio, forward * 1e-5
    at = np.array([forward - step, forward, forward + step])
    g = greeks(at, strike, tau, vol, is_call)
    price, slope = coin_price(g, at), net_delta_base(g, at, np.array(strike)) / at
    assert slope[1] == pytest.approx((price[2] - price[0]) / (2.0 * step), rel=1e-5, abs=1e-8 / forward)
    bend = (slope[2] - slope[0]) / (2.0 * step)
    assert coin_gamma(g, at, np.array(strike))[1] == pytest.approx(bend, rel=1e-5, abs=1e-6 / forward**2)


@given(forward=forwards, ratio=ratios, tau=taus, vol=vols, is_call=st.booleans())
def test_net_delta_and_premium_make_up_the_delta_in_quote_money(
    forward: float, ratio: float, tau: float, vol: float, is_call: bool
) -> None:
    f, k = np.array(forward), np.array(forward * ratio)
    g = greeks(f, k, tau, vol, is_call)
    assert net_delta_base(g, f, k) + coin_price(g, f) == pytest.approx(g.delta, abs=1e-14 * max(1.0, ratio))


@given(forward=forwards, ratio=ratios, tau=taus, vol=vols)
def test_put_call_parity_in_coins(forward: float, ratio: float, tau: float, vol: float) -> None:
    f, k = np.array([forward] * 2), np.array([forward * ratio] * 2)
    g = greeks(f, k, tau, vol, np.array([True, False]))
    price, net = coin_price(g, f), net_delta_base(g, f, k)
    assert price[0] - price[1] == pytest.approx(1.0 - ratio, abs=1e-14 * max(1.0, ratio))
    assert net[0] - net[1] == pytest.approx(ratio, rel=1e-14)


def test_a_coin_hedge_by_net_delta_takes_the_first_order_out_of_the_coin_profit() -> None:
    f = np.array([2000.0, 2000.2])
    g = greeks(f, 1900.0, 0.04, 0.6, is_call=True)
    option_coins = np.diff(coin_price(g, f))[0]
    contracts_quote = net_delta_base(g, f, np.array(1900.0))[0] * f[0]
    hedge_coins = -contracts_quote * (1.0 / f[0] - 1.0 / f[1])
    assert abs(option_coins + hedge_coins) < 1e-3 * abs(option_coins)


def test_at_expiry_the_limits_carry_over() -> None:
    f, k = np.array([2000.0, 1900.0, 1800.0]), np.array(1900.0)
    g = greeks(f, k, 0.0, 0.6, is_call=True)
    assert coin_price(g, f).tolist() == [100.0 / 2000.0, 0.0, 0.0]
    assert net_delta_base(g, f, k).tolist() == [1900.0 / 2000.0, 0.5, 0.0]
    gamma = coin_gamma(g, f, k)
    assert gamma[0] == pytest.approx(-2.0 * 1900.0 / 2000.0**3)
    assert gamma.tolist()[1:] == [inf, 0.0]
