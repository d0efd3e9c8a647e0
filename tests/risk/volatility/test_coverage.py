"""Quantiles through a contest: of past errors alone, and held as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from bot.risk.volatility.coverage import FIRST_RESIDUALS, quantiles_of
from bot.risk.volatility.walk_forward import DAILY, Outcome, Path, Setting


def made(count: int, setting: Setting = DAILY, drift: float = 0.0, seed: int = 1) -> Outcome:
    rng = np.random.default_rng(seed)
    log_mean = rng.normal(-7.0, 0.5, count)
    realised = np.exp(log_mean + drift + 0.6 * rng.normal(size=count))
    paths = {"m": {"BTC": Path(log_mean, np.exp(log_mean + 0.18))}}
    return Outcome(setting, {"BTC": setting.every * np.arange(count)}, {"BTC": realised}, paths)


def test_quantiles_hold_as_often_as_they_say() -> None:
    found = quantiles_of(made(2500), "m")
    assert np.isnan(found.variance["BTC"][:FIRST_RESIDUALS]).all()
    assert np.isfinite(found.variance["BTC"][FIRST_RESIDUALS + 1 :]).all()
    for level in found.levels:
        judged = found.judged("BTC", level)
        assert judged.breaches / judged.count == pytest.approx(1.0 - level, abs=0.01)
        assert not judged.conditional.is_rejected(0.01)


def test_errors_are_used_when_they_are_known() -> None:
    outcome = made(300)
    outcome.realised["BTC"][200] *= 50.0
    changed = quantiles_of(outcome, "m").variance["BTC"]
    before = quantiles_of(made(300), "m").variance["BTC"]
    assert changed[:201] == pytest.approx(before[:201], nan_ok=True)  # the 201st is told before the 200th has ended
    assert np.all(changed[201, :2] > before[201, :2])


def test_forecasts_that_overlap_are_learnt_from_late_and_judged_apart() -> None:
    weekly = Setting(horizon=168, every=24, train_every=24, warm_up=0, look_back=1, refit_every=24)
    outcome = made(400, weekly)
    found = quantiles_of(outcome, "m")
    first = int(np.flatnonzero(np.isfinite(found.variance["BTC"][:, 0]))[0])
    assert first == FIRST_RESIDUALS - 1 + 7
    assert found.judged("BTC", 0.9).count == sum(1 for n in range(first, 400) if n % 7 == 0)


def test_a_model_that_turns_wrong_is_caught_up_with() -> None:
    sound, wrong = made(700), made(900, drift=0.5, seed=2)
    outcome = Outcome(
        DAILY,
        {"BTC": 24 * np.arange(1600)},
        {"BTC": np.concatenate([sound.realised["BTC"], wrong.realised["BTC"]])},
        {
            "m": {
                "BTC": Path(
                    np.concatenate([sound.paths["m"]["BTC"].log_mean, wrong.paths["m"]["BTC"].log_mean]),
                    np.ones(1600),
                )
            }
        },
    )
    found = quantiles_of(outcome, "m").broken["BTC"][800:, 0].mean()
    assert found == pytest.approx(0.1, abs=0.02)
    assert quantiles_of(outcome, "m", step=0.0).broken["BTC"][800:, 0].mean() > found + 0.02
