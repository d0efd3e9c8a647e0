"""Greeks of a handful of options: those of the arrays, to the last digits."""

from math import inf, nan

import numpy as np
import pytest

from bot.pricing.black76 import greeks
from bot.pricing.few_greeks import FEW, few_greeks

NAMES = ("value", "delta", "dual_delta", "gamma", "vega", "theta", "rho", "vanna", "volga", "charm", "speed", "zomma",
         "color")  # fmt: skip


def drawn(count: int, seed: int) -> tuple[np.ndarray, ...]:
    """Return that many options of all kinds."""
    rng = np.random.default_rng(seed)
    forward = rng.uniform(500.0, 60_000.0, count)
    strike = forward * np.exp(rng.normal(0.0, 0.3, count))
    return forward, strike, rng.uniform(0.002, 1.5, count), rng.uniform(0.05, 2.0, count), rng.random(count) < 0.5


class TestNumbers:
    @pytest.mark.parametrize("count", [1, 2, FEW, FEW + 1])
    def test_every_greek_is_that_of_the_arrays(self, count: int) -> None:
        for seed in range(25):
            options = drawn(count, seed)
            few, many = few_greeks(*options), greeks(*options)
            for name in NAMES:
                scale = options[0].max() if name in ("value", "rho") else 0.0
                np.testing.assert_allclose(getattr(few, name), getattr(many, name), rtol=1e-13, atol=1e-15 * scale)

    def test_a_greek_is_read_only_and_of_the_same_shape(self) -> None:
        few = few_greeks(*drawn(2, 1))
        for name in NAMES:
            assert getattr(few, name).shape == (2,)
            assert not getattr(few, name).flags.writeable

    def test_one_that_is_not_there_is_told(self) -> None:
        with pytest.raises(AttributeError, match="has no charmed"):
            _ = few_greeks(*drawn(2, 1)).charmed  # type: ignore[attr-defined]

    def test_no_options_have_no_greeks(self) -> None:
        nothing = np.empty(0)
        assert few_greeks(nothing, nothing, nothing, nothing, np.empty(0, dtype=np.bool_)).value.shape == (0,)


class TestWhatIsRemarkable:
    @pytest.mark.parametrize(
        ("strike", "tau_years", "vol"),
        [
            (2_000.0, 0.0, 0.6),  # at expiry, on its strike
            (1_900.0, 0.0, 0.6),
            (2_000.0, 0.1, 0.0),
            (2_000.0, 1e-9, 0.6),  # next to no deviation
            (9_000.0, 0.01, 0.5),  # far from its strike
            (2_000.0, 1e9, 0.5),  # more deviation than there is
        ],
    )
    def test_it_is_left_to_the_arrays(self, strike: float, tau_years: float, vol: float) -> None:
        options = (
            np.array([2_000.0, 2_000.0]),
            np.array([2_100.0, strike]),
            np.array([0.1, tau_years]),
            np.array([0.6, vol]),
            np.array([True, False]),
        )
        few, many = few_greeks(*options), greeks(*options)
        for name in NAMES:
            np.testing.assert_array_equal(getattr(few, name), getattr(many, name))

    @pytest.mark.parametrize("place", range(4))
    @pytest.mark.parametrize("nonsense", [nan, inf, -1.0])
    def test_nonsense_is_refused_by_name(self, place: int, nonsense: float) -> None:
        options = [np.array([2_000.0, 2_000.0]), np.array([2_100.0, 2_100.0]), np.array([0.1, 0.1]), np.full(2, 0.6)]
        options[place][1] = nonsense
        with pytest.raises(ValueError, match=("forward", "strike", "tau_years", "vol")[place]):
            few_greeks(*options, np.array([True, False]))
