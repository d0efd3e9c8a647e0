"""The joint band: the matrix it comes of, what it must not do, and the numbers it gives for two underlyings."""

from __future__ import annotations

from math import nan, sqrt

import numpy as np
import pytest

from bot.pricing.bands import band_half_base
from bot.pricing.matrix_band import Companion, joint_band

ETH = (1900.0, 0.6, -0.12)
AVERSE = 3e-4
BTC = Companion(30_000.0, 0.5, -7e-4, 5e-4, 0.8, 0.1)


@pytest.mark.parametrize("ratio", [-0.9, -0.3, 0.5, 0.95])
@pytest.mark.parametrize("gamma", [-7e-4, 7e-4, -0.01])
def test_the_gamma_is_that_of_the_matrix(ratio: float, gamma: float) -> None:
    spot, vol, own_gamma = ETH
    other = BTC._replace(correlation_ratio=ratio, gamma_base_per_px=gamma)
    units = np.array([spot * vol, other.spot_px * other.vol])
    matrix = np.array([[1.0, ratio], [ratio, 1.0]])
    wander = np.diag(np.array([own_gamma, gamma]) * units**2)
    variance = (matrix @ wander @ matrix @ wander @ matrix)[0, 0]
    found = joint_band(*ETH, AVERSE, [other])
    assert found.gamma_base_per_px == pytest.approx(-sqrt(variance) / units[0] ** 2, rel=1e-12)


def test_the_centre_is_where_the_own_marginal_risk_is_zero() -> None:
    spot, vol, _ = ETH
    found = joint_band(*ETH, AVERSE, [BTC])
    marginal = spot * vol * found.centre_base + 0.8 * BTC.spot_px * BTC.vol * BTC.off_base
    assert marginal == pytest.approx(0.0, abs=1e-9)
    assert found.centre_base < 0.0


def test_the_centre_moves_no_further_than_the_peers_own_band() -> None:
    most = band_half_base(BTC.cost_rate, BTC.spot_px, BTC.gamma_base_per_px, AVERSE)
    at_most = joint_band(*ETH, AVERSE, [BTC._replace(off_base=most)])
    assert joint_band(*ETH, AVERSE, [BTC._replace(off_base=100.0)]) == at_most
    assert joint_band(*ETH, AVERSE, [BTC._replace(off_base=-100.0)]).centre_base == -at_most.centre_base
    assert joint_band(*ETH, AVERSE, [BTC._replace(off_base=100.0, gamma_base_per_px=0.0)]).centre_base == 0.0


@pytest.mark.parametrize(
    "change",
    [
        {"correlation_ratio": 0.0},
        {"correlation_ratio": nan},
        {"correlation_ratio": 1.5},
        {"vol": nan},
        {"off_base": nan},
        {"cost_rate": nan},
        {"gamma_base_per_px": nan},
    ],
)
def test_who_does_not_move_along_or_is_no_number_counts_for_nothing(change: dict[str, float]) -> None:
    assert joint_band(*ETH, AVERSE, [BTC._replace(**change)]) == (ETH[2], 0.0)


def test_without_others_or_a_vol_the_band_is_the_own_one() -> None:
    assert joint_band(*ETH, AVERSE, []) == (ETH[2], 0.0)
    assert joint_band(1900.0, nan, -0.12, AVERSE, [BTC]) == (-0.12, 0.0)


def test_gammas_that_offset_each_other_at_full_correlation_leave_nothing_to_hedge() -> None:
    spot, vol, gamma = ETH
    own = gamma * (spot * vol) ** 2
    mirror = BTC._replace(correlation_ratio=1.0, gamma_base_per_px=-own / (BTC.spot_px * BTC.vol) ** 2)
    assert joint_band(*ETH, AVERSE, [mirror]).gamma_base_per_px == pytest.approx(0.0, abs=1e-12)
    twin = mirror._replace(gamma_base_per_px=-mirror.gamma_base_per_px)
    assert joint_band(*ETH, AVERSE, [twin]).gamma_base_per_px == pytest.approx(2.0 * gamma)


def test_several_peers_of_one_common_factor() -> None:
    """With three underlyings that move together by their own correlation with this one, the matrix form is exact."""
    ratios, gammas = np.array([1.0, 0.8, 0.5]), np.array([-0.12, 0.05, -0.3])
    matrix = np.outer(ratios, ratios)
    np.fill_diagonal(matrix, 1.0)
    wander = np.diag(gammas * (1900.0 * 0.6) ** 2)
    variance = (matrix @ wander @ matrix @ wander @ matrix)[0, 0]
    peers = [Companion(1900.0, 0.6, float(g), 5e-4, float(r), 0.0) for g, r in zip(gammas[1:], ratios[1:], strict=True)]
    found = joint_band(*ETH, AVERSE, peers).gamma_base_per_px
    assert abs(found) == pytest.approx(sqrt(variance) / (1900.0 * 0.6) ** 2, rel=1e-12)
