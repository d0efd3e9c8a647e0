"""Stressed paths are seeded, of the vol named, and have the clusters and the tails they are drawn for."""

from __future__ import annotations

import numpy as np
import pytest

from bot.simulation.stressed_paths import STEP_YEARS, STEPS_PER_DAY, WORLDS, StressedWorld, draw_returns

STILL = StressedWorld(name="still", slow_sd=0.0, fast_sd=0.0, leverage=0.0, jumps_per_day=0.0)


def autocorrelation_of_size(returns: np.ndarray, lag: int) -> float:
    size = np.abs(returns)
    return float(np.mean([np.corrcoef(one[:-lag], one[lag:])[0, 1] for one in size.T]))


def test_the_same_seed_gives_the_same_paths() -> None:
    one, again, other = (draw_returns(WORLDS[0], 3, 2, seed) for seed in (7, 7, 8))
    assert one.shape == (2 * STEPS_PER_DAY, 3)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_without_clusters_or_jumps_it_is_a_plain_walk_of_the_vol_named() -> None:
    returns = draw_returns(STILL, 10, 10, 1)
    assert returns.std() / np.sqrt(STEP_YEARS) == pytest.approx(0.55, rel=0.01)
    assert autocorrelation_of_size(returns, 6) == pytest.approx(0.0, abs=0.02)
    assert np.mean(returns**4) / np.mean(returns**2) ** 2 == pytest.approx(3.0, abs=0.15)


def test_vol_clusters_for_hours_and_days() -> None:
    clusters = WORLDS[1]
    assert clusters.jumps_per_day == 0.0
    returns = draw_returns(clusters, 10, 20, 2)
    for lag, least in ((6, 0.1), (STEPS_PER_DAY, 0.03)):
        assert autocorrelation_of_size(returns, lag) > least
    vols = np.sqrt((returns**2).mean(axis=1) / STEP_YEARS)
    assert vols.mean() == pytest.approx(0.55, rel=0.25)


def test_jumps_are_as_many_as_told_and_bring_more() -> None:
    world = StressedWorld(
        name="j", slow_sd=0.0, fast_sd=0.0, leverage=0.0, jumps_per_day=1.0, jump_sd=0.1, jump_kick=0.0
    )
    returns = draw_returns(world, 40, 50, 3)
    jumps = np.abs(returns) > 0.02  # ten deviations of the walk; a jump is smaller in one of six
    assert jumps.sum() == pytest.approx(40 * 50 * 0.84, rel=0.15)
    per_day = jumps.reshape(50, STEPS_PER_DAY, 40).sum(axis=1)
    assert per_day.var() > 1.5 * per_day.mean()  # a Poisson process has them equal
