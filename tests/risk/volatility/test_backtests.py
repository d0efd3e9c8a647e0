"""Back-tests of quantiles: published values, and samples of which the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from bot.risk.volatility.backtests import (
    acerbi_szekely_1,
    acerbi_szekely_2,
    christoffersen,
    coverage,
    kupiec,
    traffic_light,
    transitions,
)


@pytest.mark.parametrize(
    ("count", "breaches", "probability", "expected"),
    [
        (250, 5, 0.01, 1.956809788),
        (250, 0, 0.01, 5.025167927),
        (365, 12, 0.025, 0.84661901),
        (500, 9, 0.01, 2.61257062),
        (1000, 17, 0.01, 4.090972555),
    ],
)
def test_kupiec(count: int, breaches: int, probability: float, expected: float) -> None:
    assert kupiec(count, breaches, probability).statistic == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
    "wrong", [(5, 250, 0.01), (0, 0, 0.01), (250, -1, 0.01), (250, 5, 0.0), (250, 5, float("nan"))]
)
def test_kupiec_of_what_is_no_test_is_refused_and_does_not_pass(wrong: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match="expected some outcomes"):
        kupiec(*wrong)


@pytest.mark.parametrize(
    ("probability", "count", "least", "most"),
    [
        (0.01, 255, 1, 6),  # the published table has N < 7 alone; the statistic of none, 5.1, rejects too
        (0.01, 510, 2, 10),
        (0.01, 1000, 5, 16),
        (0.05, 255, 7, 20),
        (0.05, 510, 17, 35),
        (0.05, 1000, 38, 64),
    ],
)
def test_kupiec_does_not_reject_between_the_bounds_of_the_table(
    probability: float, count: int, least: int, most: int
) -> None:
    accepted = [n for n in range(count) if not kupiec(count, n, probability).is_rejected()]
    assert (max(accepted), min(accepted)) == (most, least)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((240, 4, 4, 1), 3.153989287),
        ((350, 7, 6, 1), 2.257244185),
        ((900, 40, 38, 12), 21.710308334),
    ],
)
def test_christoffersen(counts: tuple[int, int, int, int], expected: float) -> None:
    assert christoffersen(*counts).statistic == pytest.approx(expected, abs=1e-8)


def test_both_tests_together_are_their_sum_with_two_degrees() -> None:
    flags = np.zeros(250, dtype=bool)
    flags[[10, 11, 12, 100]] = True
    assert transitions(flags) == (243, 2, 2, 2)
    found = coverage(flags, 0.99)
    assert found.breaches == 4
    assert found.conditional.statistic == pytest.approx(found.unconditional.statistic + found.independence.statistic)
    assert found.conditional.p_value == pytest.approx(np.exp(-0.5 * found.conditional.statistic))
    assert found.independence.is_rejected()
    assert not found.unconditional.is_rejected()
    with pytest.raises(ValueError, match="at least two outcomes"):
        coverage(flags[:1], 0.99)


def test_traffic_light_is_the_published_table() -> None:
    cumulative = [8.11, 28.58, 54.32, 75.81, 89.22, 95.88, 98.63, 99.60, 99.89, 99.97, 99.99]
    lights = [traffic_light(n) for n in range(11)]
    assert [round(100 * one.cumulative, 2) for one in lights] == cumulative
    assert [one.zone for one in lights] == ["green"] * 5 + ["yellow"] * 5 + ["red"]
    assert [one.plus for one in lights] == [0, 0, 0, 0, 0, 0.40, 0.50, 0.65, 0.75, 0.85, 1.00]


def test_expected_shortfall_by_hand() -> None:
    pnl = np.array([-3.0, 1.0, -5.0, 2.0])
    breaches = np.array([True, False, True, False])
    shortfall = np.full(4, 4.0)
    assert acerbi_szekely_1(pnl, shortfall, breaches) == pytest.approx(1.0 - 1.0)
    assert acerbi_szekely_2(pnl, shortfall, breaches, 0.25) == pytest.approx(1.0 - (0.75 + 1.25) / (4 * 0.25))
    assert np.isnan(acerbi_szekely_1(pnl, shortfall, np.zeros(4, dtype=bool)))


def test_critical_values_of_z2_are_those_of_the_paper() -> None:
    pnl = np.random.default_rng(5).normal(size=(10_000, 250))
    quantile = -norm.ppf(0.025)
    shortfall = np.full(250, norm.pdf(quantile) / 0.025)
    found = np.sort([acerbi_szekely_2(row, shortfall, row < -quantile) for row in pnl])
    assert found.mean() == pytest.approx(0.0, abs=0.01)
    assert found[500] == pytest.approx(-0.70, abs=0.03)  # 5 %
    assert found[1] == pytest.approx(-1.8, abs=0.25)  # 0.01 %
