"""The week's shape: found where one was put, and summed over any stretch."""

from __future__ import annotations

import numpy as np
import pytest

from bot.risk.volatility.measures import Hours
from bot.risk.volatility.seasons import FLAT, hour_of_week, season_between, season_of, season_sum

MONDAY = 473_352  # 2024-01-01 00:00 UTC was a Monday


def hours_with(shape: np.ndarray, weeks: int, noise: float) -> Hours:
    hour = MONDAY + 1 + np.arange(168 * weeks, dtype=np.int64)
    rng = np.random.default_rng(1)
    rv = 1e-5 * shape[(hour - 1 - MONDAY) % 168] * np.exp(noise * rng.normal(size=hour.size))
    return Hours(hour, *(np.ones(hour.size),) * 3, *(rv,) * 6)


def shaped() -> np.ndarray:
    day = 1.0 + 0.8 * np.sin(np.arange(24) / 24 * 2 * np.pi)
    levels = [1.2, 1.1, 1.0, 1.0, 1.1, 0.4, 0.6]
    shape = np.concatenate([level * day for level in levels])
    return shape / shape.mean()


def test_hours_of_the_week_begin_on_monday() -> None:
    assert hour_of_week(np.array([MONDAY + 1, MONDAY, MONDAY + 6 * 24])).tolist() == [0, 167, 5 * 24 + 23]


def test_the_shape_is_found() -> None:
    found = np.array(season_of(hours_with(shaped(), 40, 0.7)))
    assert found == pytest.approx(shaped(), rel=0.25)
    assert found.mean() == pytest.approx(1.0)
    assert np.corrcoef(np.log(found), np.log(shaped()))[0, 1] > 0.98


def test_one_crash_is_no_season_and_little_data_is_none() -> None:
    hours = hours_with(shaped(), 20, 0.3)
    before = np.array(season_of(hours))
    hours.rv[500] *= 1000.0
    assert np.array(season_of(hours)) == pytest.approx(
        before, rel=0.2
    )  # a mean would give that hour eight times as much
    assert season_of(hours_with(shaped(), 3, 0.3)) == FLAT


def test_sums_over_stretches() -> None:
    season = tuple(shaped().tolist())
    assert season_sum(season, np.array([MONDAY]), 168)[0] == pytest.approx(168.0)
    assert season_sum(season, np.array([MONDAY]), 2)[0] == pytest.approx(season[0] + season[1])
    friday_night = MONDAY + 5 * 24 - 1
    assert season_sum(season, np.array([friday_night]), 2)[0] == pytest.approx(season[119] + season[120])
    assert season_sum(season, np.array([friday_night]), 400)[0] == pytest.approx(
        336.0 + sum(season[(119 + n) % 168] for n in range(64))
    )


def test_parts_of_hours() -> None:
    season = tuple(shaped().tolist())
    assert season_between(season, MONDAY + 0.25, MONDAY + 0.75) == pytest.approx(0.5 * season[0])
    assert season_between(season, MONDAY + 0.5, MONDAY + 2.25) == pytest.approx(
        0.5 * season[0] + season[1] + 0.25 * season[2]
    )
    assert season_between(season, MONDAY, MONDAY + 168) == pytest.approx(168.0)
    assert season_between(season, MONDAY, MONDAY) == 0.0
