from __future__ import annotations

import numpy as np
import pytest

from bot.pricing.svi import Ssvi
from bot.simulation.yardstick.surfaces import SurfaceWorld, draw_market, option_cost_quote, quoted_vol

JUMPY = SurfaceWorld(jump_rate=12.0, jump_vol=0.06)


def test_the_same_seed_draws_the_same_market() -> None:
    one, two, other = (draw_market(JUMPY, 0.1, 20, 5, seed) for seed in (7, 7, 8))
    assert np.array_equal(one.spot_px, two.spot_px)
    assert np.array_equal(one.skew, two.skew)
    assert not np.array_equal(one.spot_px, other.spot_px)
    assert one.spot_px.shape == (21, 5)


@pytest.mark.parametrize("world", [SurfaceWorld(), JUMPY])
def test_spot_is_a_martingale_of_the_variance_that_is_quoted(world: SurfaceWorld) -> None:
    """The vol at the money is the root of the variance expected, jumps included."""
    years, paths = 30.0 / 365.0, 40_000
    market = draw_market(world._replace(start_vol=0.8), years, 60, paths, seed=3)
    growth = market.spot_px[-1] / market.spot_px[0]
    assert growth.mean() == pytest.approx(1.0, abs=4.0 * growth.std() / paths**0.5)
    steps = np.diff(np.log(market.spot_px), axis=0) ** 2
    realised = steps.sum(axis=0) / years
    one = np.array([[market.spot_px[0, 0]]])
    flat = SurfaceWorld(**{**world._asdict(), "smile_eta": 1e-9})
    quoted = quoted_vol(flat, one, np.array([[0.64]]), np.zeros((1, 1)), one, np.array([years])).item()
    # A half step's lag of the Euler scheme is within a per cent.
    assert realised.mean() == pytest.approx(quoted**2, abs=5.0 * realised.std() / paths**0.5 + 0.01 * quoted**2)


def test_variance_and_skew_wander_as_they_are_told() -> None:
    world = SurfaceWorld()
    market = draw_market(world, 1.0, 400, 400, seed=5)
    assert market.variance.min() >= 0.0
    assert market.variance[200:].mean() == pytest.approx(world.mean_vol**2, rel=0.1)
    assert market.skew[200:].std() == pytest.approx(world.skew_wander, rel=0.1)
    moves = np.diff(np.log(market.spot_px), axis=0), np.diff(market.variance, axis=0)
    assert np.corrcoef(moves[0].ravel(), moves[1].ravel())[0, 1] == pytest.approx(-0.3, abs=0.05)


def test_the_smile_is_an_ssvi_without_arbitrage() -> None:
    world = SurfaceWorld()
    spot, variance, skew = 30_000.0, 0.3, -0.25
    strikes, taus = np.array([20e3, 27e3, 30e3, 36e3]), np.array([0.02, 0.08, 0.25, 0.08])
    found = quoted_vol(world, np.array([[spot]]), np.array([[variance]]), np.array([[skew]]), strikes, taus)[0]
    smile = Ssvi(skew, world.smile_eta, 0.5)
    assert smile.is_free
    for strike, tau, vol in zip(strikes.tolist(), taus.tolist(), found.tolist(), strict=True):
        theta = 0.36 * tau + (variance - 0.36) * (1.0 - np.exp(-8.0 * tau)) / 8.0
        w = float(smile.slice(theta).total_variance(np.log(strike / spot)))
        assert vol == pytest.approx(np.sqrt(w / tau), rel=1e-12)


def test_trading_costs_half_a_spread_and_a_fee_with_a_cap() -> None:
    def cost(delta: float, days: float, value: float = 1e4) -> float:
        columns = (np.array([one]) for one in (30_000.0, value, delta, days / 365.0))
        return float(option_cost_quote(*columns).item())

    assert cost(0.5, 7.0) == pytest.approx(15.0 + 9.0)
    assert cost(-0.5, 30.0) == pytest.approx(22.5 + 9.0)
    assert cost(-0.2, 30.0) == pytest.approx(15.0 + 9.0)
    assert cost(0.05, 30.0) == pytest.approx(7.5 + 9.0)
    assert cost(0.05, 30.0, value=8.0) == pytest.approx(7.5 + 1.0)
    assert cost(0.9, 30.0) == pytest.approx(60.0 + 9.0)
