"""Black-76: goldens, a slow twin, parity, finite differences, limits, laziness, and what is refused."""

import csv
from itertools import product
from math import exp, inf, nan, pi, sqrt
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bot.pricing.black76 import FAR_DISTANCE, NARROW_DEV, Black76Greeks, Floats, greeks, sides_of
from tests.pricing.reference import GREEKS, greek

PHI_0 = 1.0 / sqrt(2.0 * pi)
GOLDEN = list(
    csv.DictReader((Path(__file__).parents[1] / "golden" / "golden_greeks.csv").read_text("utf-8").splitlines())
)


def column(name: str) -> Floats:
    return np.array([float(row[name]) for row in GOLDEN])


def natural_size(name: str, g: Black76Greeks) -> Floats:
    """The size of a Greek before its terms cancel: near its zeros no digits of the sum can be asked for, only of it."""
    d1, d2, rate = np.abs(g._d1), np.abs(g._d2), np.abs(g._rate)
    d = np.abs(g._distance) + g._half_dev
    decay = -g._vol_decay
    sizes = {
        "theta": g.vega * decay + rate * g.value,
        "vanna": g._density * d / g._vol,
        "volga": g.vega * (d1 + d2) * d / g._vol,
        "charm": g._density * d / g._vol * decay + rate * np.abs(g.delta),
        "speed": g.gamma / g._forward * (d / g._dev + 1.0),
        "zomma": g.gamma * ((d1 + d2) * d + 1.0) / g._vol,
        "color": g.gamma * (((d1 + d2) * d + 1.0) / g._vol * decay + rate),
    }
    return sizes.get(name, np.abs(getattr(g, name)))


@st.composite
def options(draw: st.DrawFn, most_distance: float = 25.0) -> dict[str, Any]:
    """One option, by its distance from the strike in standard deviations, so that far ones are common too."""
    forward = draw(st.floats(1e-6, 1e6))
    tau_years = draw(st.one_of(st.floats(0.01, 3.0), st.floats(3e-8, 0.01)))
    vol = draw(st.one_of(st.floats(0.1, 3.0), st.floats(1e-3, 0.1)))
    distance = draw(st.one_of(st.floats(-3.0, 3.0), st.floats(-most_distance, most_distance)))
    strike = forward * exp(max(min(distance * vol * sqrt(tau_years), 10.0), -10.0))
    rate = draw(st.one_of(st.just(0.0), st.floats(-0.1, 0.3)))
    return {
        "forward": forward,
        "strike": strike,
        "tau_years": tau_years,
        "vol": vol,
        "is_call": draw(st.booleans()),
        "rate": rate,
    }


@pytest.mark.parametrize("name", GREEKS)
def test_every_golden_greek(name: str) -> None:
    g = greeks(column("F"), column("K"), column("T"), column("sigma"), column("w") > 0, rate=column("r"))
    expected = column("price" if name == "value" else name)
    error = np.abs(getattr(g, name) / expected - 1.0)
    assert error.max() < 1e-12, f"{GOLDEN[error.argmax()]['case']}: {error.max():.1e}"


@pytest.mark.parametrize("name", GREEKS)
@settings(max_examples=40)
@given(option=options())
def test_the_slow_twin_agrees(name: str, option: dict[str, Any]) -> None:
    g = greeks(**option)
    expected = greek(name, **option)
    slack = 1e-11 * abs(expected) + 1e-13 * float(natural_size(name, g).item()) + 1e-290
    assert abs(getattr(g, name).item() - expected) <= slack


@pytest.mark.parametrize("dev", [1e-8, 1e-4, 0.0099, NARROW_DEV, 0.0101, 0.1, 1.0, 5.0])
def test_the_value_out_of_the_money_keeps_its_digits_across_the_seams_between_its_formulas(dev: float) -> None:
    seam = FAR_DISTANCE + dev / 2
    for distance in (0.0, 1e-3, 1.0, 5.0, seam * 0.999, seam * 1.001, 20.0, 30.0):
        for side in (-1.0, 1.0):
            option = {
                "forward": 100.0,
                "strike": 100.0 * exp(side * distance * dev),
                "tau_years": 0.25,
                "vol": dev * 2.0,
            }
            expected = greek("value", is_call=side > 0, **option)
            assert greeks(is_call=side > 0, **option).value.item() == pytest.approx(expected, rel=4e-11, abs=1e-290)


@given(option=options())
def test_put_call_parity(option: dict[str, Any]) -> None:
    call, put = greeks(**option | {"is_call": True}), greeks(**option | {"is_call": False})
    forward, strike, tau, rate = (option[k] for k in ("forward", "strike", "tau_years", "rate"))
    discount = exp(-rate * tau)
    size = max(forward, strike)
    assert call.value - put.value == pytest.approx(discount * (forward - strike), abs=1e-14 * size)
    assert call.delta - put.delta == pytest.approx(discount, rel=1e-14)
    assert call.dual_delta - put.dual_delta == pytest.approx(-discount, rel=1e-14)
    assert call.rho - put.rho == pytest.approx(-tau * discount * (forward - strike), abs=1e-14 * size * tau)
    assert call.charm - put.charm == pytest.approx(rate * discount, abs=1e-14 * (abs(call.charm) + 1.0))
    for name in ("gamma", "vega", "vanna", "volga", "speed", "zomma"):
        assert getattr(call, name) == getattr(put, name)


@given(option=options())
def test_the_value_is_homogeneous_and_within_its_bounds(option: dict[str, Any]) -> None:
    g = greeks(**option)
    forward, strike = option["forward"], option["strike"]
    discount = exp(-option["rate"] * option["tau_years"])
    assert g.value == pytest.approx(forward * g.delta + strike * g.dual_delta, abs=1e-14 * max(forward, strike))
    payoff = max(forward - strike if option["is_call"] else strike - forward, 0.0)
    most = forward if option["is_call"] else strike
    assert payoff * discount * (1.0 - 1e-14) <= g.value <= most * discount * (1.0 + 1e-14)
    assert min(g.gamma, g.vega) >= 0.0
    assert abs(g.delta) <= discount * (1.0 + 1e-14)


@pytest.mark.parametrize(
    ("name", "parent", "by", "sign"),
    [
        ("delta", "value", "forward", 1),
        ("dual_delta", "value", "strike", 1),
        ("gamma", "delta", "forward", 1),
        ("vega", "value", "vol", 1),
        ("theta", "value", "tau_years", -1),
        ("rho", "value", "rate", 1),
        ("vanna", "delta", "vol", 1),
        ("volga", "vega", "vol", 1),
        ("charm", "delta", "tau_years", -1),
        ("speed", "gamma", "forward", 1),
        ("zomma", "gamma", "vol", 1),
        ("color", "gamma", "tau_years", -1),
    ],
)
@given(option=options(most_distance=4.0))
def test_each_greek_is_the_slope_of_the_one_above_it(
    name: str, parent: str, by: str, sign: int, option: dict[str, Any]
) -> None:
    assume(option["vol"] * sqrt(option["tau_years"]) > 0.01)
    # A step by the size of a deviation: over it the Greeks change by a known fraction, however short or narrow.
    dev = option["vol"] * sqrt(option["tau_years"])
    step = 1e-4 if by == "rate" else 1e-4 * option[by] * min(dev, 1.0)
    up, down = (greeks(**option | {by: option[by] + side * step}) for side in (1, -1))
    slope = sign * (getattr(up, parent).item() - getattr(down, parent).item()) / (2.0 * step)
    g = greeks(**option)
    rounding = 1e-14 * max(option["forward"], option["strike"]) / step if parent == "value" else 1e-14 / step
    rounding *= 1.0 if parent in {"value", "delta"} else natural_size(parent, g).item()
    slack = 1e-5 * natural_size(name, g).item() + 10.0 * rounding
    assert abs(getattr(g, name).item() - slope) <= slack


class TestLimits:
    """At expiry and at zero vol: the limits, never NaN, never a warning (a warning would fail the test)."""

    @pytest.mark.parametrize(("tau", "vol"), [(0.0, 0.6), (0.25, 0.0), (0.0, 0.0)])
    @pytest.mark.parametrize(("forward", "is_call"), [(110.0, True), (90.0, False)])
    def test_in_the_money(self, tau: float, vol: float, forward: float, is_call: bool) -> None:
        g = greeks(forward, 100.0, tau, vol, is_call, rate=0.05)
        w, discount = (1.0 if is_call else -1.0), exp(-0.05 * tau)
        assert g.value == pytest.approx(discount * 10.0, rel=1e-14)
        assert g.delta == pytest.approx(discount * w, rel=1e-15)
        assert g.dual_delta == pytest.approx(-discount * w, rel=1e-15)
        assert g.theta == pytest.approx(0.05 * discount * 10.0, rel=1e-14)
        assert g.charm == pytest.approx(0.05 * discount * w, rel=1e-14)
        assert g.rho == pytest.approx(-tau * discount * 10.0, rel=1e-14)
        assert {getattr(g, name).item() for name in GREEKS[3:] if name not in {"theta", "charm", "rho"}} == {0.0}

    @pytest.mark.parametrize(("tau", "vol"), [(0.0, 0.6), (0.25, 0.0), (0.0, 0.0)])
    @pytest.mark.parametrize(("forward", "is_call"), [(90.0, True), (110.0, False)])
    def test_out_of_the_money(self, tau: float, vol: float, forward: float, is_call: bool) -> None:
        g = greeks(forward, 100.0, tau, vol, is_call, rate=0.05)
        assert {getattr(g, name).item() for name in GREEKS} == {0.0}

    @pytest.mark.parametrize("is_call", [True, False])
    def test_at_the_strike_with_no_time_left(self, is_call: bool) -> None:
        g = greeks(100.0, 100.0, 0.0, 0.6, is_call)
        w = 1.0 if is_call else -1.0
        found = {name: getattr(g, name).item() for name in GREEKS}
        assert found == {
            "value": 0.0,
            "delta": 0.5 * w,
            "dual_delta": -0.5 * w,
            "gamma": inf,
            "vega": 0.0,
            "theta": -inf,
            "rho": 0.0,
            "vanna": 0.0,
            "volga": 0.0,
            "charm": -inf,
            "speed": -inf,
            "zomma": -inf,
            "color": inf,
        }

    def test_at_the_strike_with_no_vol_left(self) -> None:
        g = greeks(100.0, 100.0, 0.25, 0.0, np.array([True, False]), rate=0.08)
        discount = exp(-0.02)
        assert g.value.tolist() == [0.0, 0.0]
        assert g.delta == pytest.approx([0.5 * discount, -0.5 * discount])
        assert g.vega == pytest.approx([discount * 100.0 * PHI_0 * 0.5] * 2)
        assert g.vanna == pytest.approx([0.5 * discount * PHI_0 * 0.5] * 2)
        assert g.theta.tolist() == g.volga.tolist() == g.rho.tolist() == [0.0, 0.0]
        assert g.charm == pytest.approx([0.04 * discount, -0.04 * discount])
        assert g.gamma.tolist() == g.color.tolist() == [inf, inf]
        assert g.speed.tolist() == g.zomma.tolist() == [-inf, -inf]

    def test_at_the_strike_with_neither_nothing_decays(self) -> None:
        g = greeks(100.0, 100.0, 0.0, 0.0, is_call=True)
        assert (g.theta, g.charm, g.gamma) == (0.0, 0.0, inf)

    @pytest.mark.parametrize("name", ["value", "delta", "dual_delta", "vega", "rho", "vanna", "volga"])
    @pytest.mark.parametrize("forward", [90.0, 100.0, 110.0])
    def test_the_finite_limits_are_where_the_last_moment_is_heading(self, name: str, forward: float) -> None:
        moment, limit = (greeks(forward, 100.0, tau, 0.6, is_call=True, rate=0.05) for tau in (1e-18, 0.0))
        assert getattr(moment, name) == pytest.approx(getattr(limit, name), abs=1e-6)

    @pytest.mark.parametrize("name", GREEKS)
    def test_never_a_nan_nor_a_warning_at_the_ends_of_the_scale(self, name: str) -> None:
        ends = product(
            (60_000.0, 1e-9, 1e200),
            (1e-9, 1e-200, 60_000.0, 60_000.000000001, 1e200),
            (0.0, 5e-324, 1e-300, 1e-170, 1e-12, 1e-8, 0.1, 50.0, 1e4),
            (0.0, 5e-324, 1e-200, 1e-6, 0.5, 5.0, 1e3),
            (True, False),
            (0.0, 0.05, -0.02),
        )
        forward, strike, tau, vol, is_call, rate = (np.array(values) for values in zip(*ends, strict=True))
        assert not np.isnan(getattr(greeks(forward, strike, tau, vol, is_call, rate=rate), name)).any()

    def test_without_end_of_vol_a_call_is_worth_its_forward_and_a_put_its_strike(self) -> None:
        g = greeks(100.0, 80.0, 1.0, 1e5, np.array([True, False]))
        assert g.value.tolist() == [100.0, 80.0]
        assert g.delta.tolist() == [1.0, 0.0]


class TestLaziness:
    @staticmethod
    def computed(g: Black76Greeks) -> set[str]:
        return vars(g).keys() & set(GREEKS)

    @pytest.mark.parametrize(
        ("read", "expected"),
        [
            ((), set()),
            (("delta",), {"delta"}),
            (("gamma",), {"gamma"}),
            (("delta", "gamma", "vega"), {"delta", "gamma", "vega"}),
            (("value",), {"value", "delta"}),
            (("theta",), {"theta", "vega"}),
        ],
    )
    def test_nothing_is_worked_out_but_what_is_read(self, read: tuple[str, ...], expected: set[str]) -> None:
        g = greeks(100.0, [90.0, 110.0], 0.1, 0.5, is_call=True)
        for name in read:
            getattr(g, name)
        assert self.computed(g) == expected

    def test_sides_worked_out_once_change_no_digit(self) -> None:
        is_call = np.array([True, False, True])
        forward, strike, tau_years, vol = (
            np.array(one) for one in ([90.0] * 3, [80.0, 90.0, 99.0], [0.1] * 3, [0.5] * 3)
        )
        plain = greeks(forward, strike, tau_years, vol, is_call)
        told = greeks(forward, strike, tau_years, vol, is_call, sides=sides_of(is_call))
        for name in GREEKS:
            assert getattr(told, name).tolist() == getattr(plain, name).tolist()

    def test_sides_of_another_shape_are_not_taken(self) -> None:
        is_call = np.array([True])
        told = greeks(100.0, [90.0, 110.0], 0.1, 0.5, is_call, sides=sides_of(is_call))
        assert told.value.tolist() == greeks(100.0, [90.0, 110.0], 0.1, 0.5, is_call).value.tolist()

    def test_delta_needs_no_density_and_gamma_no_tail(self) -> None:
        g = greeks(100.0, [90.0, 110.0], 0.1, 0.5, is_call=True)
        assert g.delta.size == 2
        assert "_density" not in vars(g)
        assert "_d2" not in vars(g)

    def test_with_a_rate_theta_needs_the_value(self) -> None:
        g = greeks(100.0, [90.0, 110.0], 0.1, 0.5, is_call=True, rate=0.05)
        assert g.theta.size == 2
        assert self.computed(g) == {"theta", "vega", "value", "delta"}

    def test_a_second_reading_is_the_same_array(self) -> None:
        g = greeks(100.0, [90.0, 110.0], 0.1, 0.5, is_call=True)
        assert all(getattr(g, name) is getattr(g, name) for name in GREEKS)

    def test_the_order_of_reading_makes_no_difference(self) -> None:
        one, other = (greeks([100.0, 2.0], [90.0, 2.0], 0.1, 0.5, is_call=True, rate=0.02) for _ in range(2))
        forwards = {name: getattr(one, name).tolist() for name in GREEKS}
        backwards = {name: getattr(other, name).tolist() for name in reversed(GREEKS)}
        assert forwards == backwards

    def test_what_is_read_cannot_be_written_and_what_is_given_is_not(self) -> None:
        given = [np.array(x) for x in ([100.0, 100.0], [90.0, 100.0], [0.1, 0.0], [0.5, 0.5])]
        before = [array.copy() for array in given]
        g = greeks(*given, np.array([True, False]))
        for name in GREEKS:
            with pytest.raises(ValueError, match="read-only"):
                getattr(g, name)[0] = 0.0
        assert all(np.array_equal(a, b) for a, b in zip(given, before, strict=True))

    def test_the_class_shows_the_formula(self) -> None:
        assert "D F n sqrt(T)" in (Black76Greeks.vega.__doc__ or "")


class TestShapes:
    @pytest.mark.parametrize("name", GREEKS)
    def test_inputs_broadcast(self, name: str) -> None:
        forward, strike, rate = np.array([[90.0], [100.0], [110.0]]), np.array([95.0, 100.0]), [0.0, 0.1]
        found = getattr(greeks(forward, strike, 0.1, 0.5, is_call=False, rate=rate), name)
        assert found.shape == (3, 2)
        assert found.dtype == np.float64
        for i, j in product(range(3), range(2)):
            one = getattr(greeks(forward[i, 0], strike[j], 0.1, 0.5, is_call=False, rate=rate[j]), name)
            assert one.shape == ()
            assert isinstance(one, np.ndarray)
            assert found[i, j] == pytest.approx(one.item(), rel=1e-13)

    def test_whole_numbers_and_lists_will_do(self) -> None:
        assert greeks([100, 90], 100, 1, 1, [True, True], rate=0).value.shape == (2,)

    def test_an_empty_book_has_empty_greeks(self) -> None:
        none = np.empty(0)
        g = greeks(none, none, none, none, none > 0.0, rate=0.1)
        assert all(getattr(g, name).shape == (0,) for name in GREEKS)

    @pytest.mark.parametrize("name", GREEKS)
    def test_an_option_at_its_limit_leaves_its_neighbours_alone(self, name: str) -> None:
        forward, tau, vol = np.full(4, 100.0), np.array([0.1, 0.0, 1e-6, 0.1]), np.array([0.5, 0.5, 0.5, 1e-3])
        strike, is_call = np.array([105.0, 100.0, 100.0, 150.0]), np.array([True, True, False, True])
        together = getattr(greeks(forward, strike, tau, vol, is_call), name)
        for i in range(4):
            alone = getattr(greeks(forward[i], strike[i], tau[i], vol[i], is_call[i]), name)
            assert together[i] == pytest.approx(alone.item(), rel=1e-13)


class TestRefusals:
    RIGHT: ClassVar[dict[str, Any]] = {"forward": 100.0, "strike": 90.0, "tau_years": 0.1, "vol": 0.5}

    @pytest.mark.parametrize("name", ["forward", "strike", "tau_years", "vol"])
    @pytest.mark.parametrize("wrong", [nan, inf, -inf, -1.0, -1e-300])
    def test_no_nonsense_gets_through(self, name: str, wrong: float) -> None:
        with pytest.raises(ValueError, match=rf"^{name}: expected finite and .*found {wrong} at position 1 of 2"):
            greeks(**self.RIGHT | {name: [self.RIGHT[name], wrong]}, is_call=True)

    @pytest.mark.parametrize("name", ["forward", "strike"])
    def test_a_price_of_nothing_is_no_price(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"{name}: expected finite and above 0, found 0.0 at position 0 of 1"):
            greeks(**self.RIGHT | {name: 0.0}, is_call=True)

    def test_two_wrongs_do_not_cancel(self) -> None:
        with pytest.raises(ValueError, match=r"forward: expected finite and above 0, found -100\.0"):
            greeks(-100.0, -90.0, 0.1, 0.5, is_call=True)

    @pytest.mark.parametrize("rate", [nan, inf, 1e5, [0.0, nan]])
    def test_a_rate_out_of_this_world(self, rate: Any) -> None:
        with pytest.raises(ValueError, match="rate: expected finite"):
            greeks(**self.RIGHT, is_call=True, rate=rate)

    def test_a_sign_is_not_a_boolean(self) -> None:
        with pytest.raises(TypeError, match="is_call: expected booleans, found int64; hint: for w"):
            greeks(**self.RIGHT, is_call=-1)
