"""Regimes: found where they were put, told apart in time, and those of BTC as known from elsewhere."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from bot.risk.volatility.measures import Floats, Ints
from bot.risk.volatility.regimes import (
    Regimes,
    chosen_regimes,
    fit_regimes,
    is_sound,
    long_run,
    probabilities,
    regime,
    scaled,
)
from bot.runtime.configuration.volatility import bundled_days

CHAIN = Regimes(vol=(0.01, 0.04), transition=((0.97, 0.03), (0.06, 0.94)), start=(1.0, 0.0))


def simulated(count: int) -> tuple[Floats, Ints]:
    rng = np.random.default_rng(1)
    state = np.zeros(count, dtype=np.int64)
    for place in range(1, count):
        stays = CHAIN.transition[state[place - 1]][0]
        state[place] = int(rng.random() >= stays)
    return np.array(CHAIN.vol)[state] * rng.normal(size=count), state


def test_a_chain_is_found_and_its_states_are_told() -> None:
    returns, state = simulated(600)
    found = fit_regimes(returns, 2, rounds=50)
    assert found.vol == pytest.approx(CHAIN.vol, rel=0.1)
    assert found.transition[0][0] == pytest.approx(0.97, abs=0.025)
    assert found.transition[1][1] == pytest.approx(0.94, abs=0.04)
    assert found.durations[0] == pytest.approx(1.0 / (1.0 - found.transition[0][0]))
    told = probabilities(found, returns)
    assert told.sum(axis=1) == pytest.approx(np.ones(600))
    assert np.mean(told.argmax(axis=1) == state) > 0.9
    assert is_sound(found)
    assert len(chosen_regimes(returns[:300], rounds=25).vol) == 2
    assert len(chosen_regimes(0.02 * np.random.default_rng(2).normal(size=200), rounds=25).vol) == 1


def test_what_is_told_looks_back_only() -> None:
    returns, _ = simulated(200)
    changed = returns.copy()
    changed[100:] *= 10.0
    assert probabilities(CHAIN, changed)[:100] == pytest.approx(probabilities(CHAIN, returns)[:100])
    assert regime(CHAIN, np.array([0.005] * 10))[0] == "calm"
    assert regime(CHAIN, np.array([0.005] * 10 + [-0.12]))[0] == "cluster"
    name, share = regime(CHAIN, np.empty(0))
    assert (name, share) == ("calm", pytest.approx(2 / 3))
    assert long_run(CHAIN) == pytest.approx([2 / 3, 1 / 3])
    assert probabilities(CHAIN, np.array([np.nan]))[0] == pytest.approx([2 / 3, 1 / 3])
    assert probabilities(CHAIN, np.array([9.0]))[0] == pytest.approx([0.0, 1.0], abs=1e-6)  # beyond all density


def test_two_regimes_of_btc_are_those_known_from_elsewhere() -> None:
    days, series = bundled_days()
    close_px = series["close_px"][days.index(date(2022, 4, 1)) : days.index(date(2025, 11, 30)) + 1]
    found = fit_regimes(np.diff(np.log(close_px)), 2, rounds=40)
    # 24.0 % and 74.2 %, staying .756 and .647, 4.1 and 2.8 days, on another venue's closes of the same time.
    assert np.sqrt(365) * np.array(found.vol) == pytest.approx([0.240, 0.742], abs=0.02)
    assert found.transition[0][0] == pytest.approx(0.756, abs=0.02)
    assert found.transition[1][1] == pytest.approx(0.647, abs=0.02)
    assert found.durations == pytest.approx((4.1, 2.8), abs=0.3)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 60 returns to find regimes in, found 10"):
        fit_regimes(np.ones(10))
    with pytest.raises(ValueError, match="one to three regimes, found 4"):
        fit_regimes(np.arange(100.0), 4)
    assert scaled(CHAIN, 2.0).vol == (0.02, 0.08)
    assert not is_sound(Regimes((0.01, float("nan")), CHAIN.transition, CHAIN.start))
    assert not is_sound(Regimes(CHAIN.vol, ((0.5, 0.4), (0.06, 0.94)), CHAIN.start))
    assert not is_sound(Regimes(CHAIN.vol, CHAIN.transition[:1], CHAIN.start))
