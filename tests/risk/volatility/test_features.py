"""Regressors: by hand, and none that looks ahead."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from bot.risk.volatility.candidates import BY_DAY, BY_HOUR, BY_WEEK
from bot.risk.volatility.features import HOURS_OF_DAY, Features, hours_looked_back, known_by_hour
from bot.risk.volatility.measures import Hours, parkinson
from bot.risk.volatility.seasons import season_of

FIRST = 473_353  # the hour after 2024-01-01 00:00, a Monday


def made(count: int, seed: int = 1) -> Hours:
    rng = np.random.default_rng(seed)
    rv = 1e-5 * np.exp(0.5 * rng.normal(size=count))
    close_px = 100.0 * np.exp(np.cumsum(np.sqrt(rv) * rng.normal(size=count)))
    high_px, low_px = close_px * np.exp(np.sqrt(rv)), close_px * np.exp(-np.sqrt(rv))
    share = rng.uniform(0.2, 0.8, count)
    sums = (rv, share * rv, 0.8 * rv, rv**2 / 4, 0.5 * share * rv, 0.4 * rv)
    return Hours(np.arange(FIRST, FIRST + count), close_px, high_px, low_px, *sums)


HOURS = made(900)
NAMES = sorted({name for one in (*BY_DAY, *BY_HOUR, *BY_WEEK) for name in one.regressors})


def test_regressors_by_hand() -> None:
    features = Features(HOURS)
    day = slice(877 - 24, 877)
    rv = HOURS.rv[day].mean()
    assert features.column("rv24", 1)[876] == pytest.approx(log(rv))
    assert features.column("down24", 1)[876] == pytest.approx(log(HOURS.down[day].mean()))
    assert features.column("up24", 1)[876] == pytest.approx(log((HOURS.rv - HOURS.down)[day].mean()))
    assert features.column("jump24", 1)[876] == pytest.approx(-log(0.8))
    own_range = parkinson(HOURS.high_px[day].max(), HOURS.low_px[day].min())
    assert features.column("range24", 1)[876] == pytest.approx(log(own_range / 24))
    move = log(HOURS.close_px[876] / HOURS.close_px[852])
    assert features.column("fall24", 1)[876] == pytest.approx(min(move, 0.0) / np.sqrt(24 * rv))
    vague = np.sqrt(HOURS.quarticity[day].sum() * 24 * 12 / 3) / (24 * rv)
    assert features.column("vague24", 1)[876] == pytest.approx(log(rv) * vague)
    assert features.target(24)[700] == pytest.approx(HOURS.rv[701:725].sum())
    assert np.isnan(features.target(24)[-24:]).all()


def test_a_weeks_range_is_the_mean_of_its_days() -> None:
    features = Features(HOURS)
    ends = range(801, 801 - 168, -24)
    days = [parkinson(HOURS.high_px[a - 24 : a].max(), HOURS.low_px[a - 24 : a].min()) for a in ends]
    assert features.column("range168", 1)[800] == pytest.approx(log(np.mean(days) / 24))


def test_the_calendar_speaks_of_the_hours_to_come() -> None:
    features = Features(HOURS)
    friday_midnight = 5 * 24 - 1  # the hour that ends when Saturday begins
    assert features.column("saturday", 24)[friday_midnight] == pytest.approx(1.0)
    assert features.column("saturday", 24)[friday_midnight - 6] == pytest.approx(18 / 24)
    assert features.column("sunday", 24)[friday_midnight] == pytest.approx(0.0)
    assert features.column("monday", 168)[friday_midnight] == pytest.approx(1 / 7)
    season = tuple(np.linspace(0.5, 1.5, 168).tolist())
    busy = Features(HOURS, season)
    assert busy.column("season", 2)[friday_midnight] == pytest.approx(log(0.5 * (season[120] + season[121])))
    assert busy.column("calm1", 1)[200] == pytest.approx(log(HOURS.rv[200] / season[(200) % 168]))


def test_swings_forget_count_the_end_most_and_mean_the_same_of_any_feed() -> None:
    season = tuple(np.linspace(0.5, 1.5, 168).tolist())
    features = Features(HOURS, season)
    usual = np.array([season[place % 168] for place in range(900)])
    ratio = np.log(HOURS.rv / HOURS.swing)
    scale = np.array([np.exp(ratio[max(0, end - 168) : end].mean()) if end >= 24 else np.nan for end in range(1, 901)])
    weights = 0.5 ** (np.arange(876 - 23, -1, -1) / 16)
    mean = (weights * (HOURS.swing * scale / usual)[23:877]).sum() / weights.sum()
    assert features.column("swing16", 1)[876] == pytest.approx(log(mean))
    assert features.column("late1", 1)[876] == pytest.approx(log(HOURS.late[876] * scale[876] / usual[876]))
    slower = {name: getattr(HOURS, name) for name in HOURS.__struct_fields__}  # a feed that sees a third of the range
    slower |= {"swing": HOURS.swing / 3.0, "late": HOURS.late / 3.0}
    for name in ("swing1", "swing64", "late1"):
        found = Features(Hours(**slower), season).column(name, 1)
        assert found[100:] == pytest.approx(features.column(name, 1)[100:])
        assert np.isnan(found[:23]).all()  # not without a day to tell ranges from


def test_the_hours_of_the_day_speak_of_what_is_to_come() -> None:
    features = Features(HOURS)
    noon = 11  # the hour that ends at noon
    assert features.column("hour12", 1)[noon] == 1.0
    assert features.column("hour11", 1)[noon] == 0.0
    assert features.column("hour12", 4)[noon] == features.column("hour15", 4)[noon] == 0.25
    assert sum(features.column(name, 1) for name in HOURS_OF_DAY) == pytest.approx(np.ones(900))


@pytest.mark.parametrize("name", NAMES)
def test_no_regressor_looks_ahead(name: str) -> None:
    later = made(900, seed=9)
    cut = 800
    mixed = Hours(
        HOURS.hour,
        *(
            np.concatenate([getattr(HOURS, field)[:cut], getattr(later, field)[cut:]])
            for field in HOURS.__struct_fields__[1:]
        ),
    )
    season = season_of(HOURS)
    before = Features(HOURS, season).column(name, 24)
    after = Features(mixed, season).column(name, 24)
    assert np.isfinite(before[760:cut]).all()
    assert after[:cut] == pytest.approx(before[:cut], nan_ok=True)


def test_unknown_hours_are_unknown_and_unknown_names_refused() -> None:
    holed = Hours(HOURS.hour, *(getattr(HOURS, field).copy() for field in HOURS.__struct_fields__[1:]))
    for field in holed.__struct_fields__[4:]:
        getattr(holed, field)[300:320] = np.nan
    features = Features(holed)
    forgetting = features.column("swing4", 1)
    assert np.isfinite(forgetting[299:303]).all()  # what was known still counts half
    assert np.isnan(forgetting[304:320]).all()
    assert np.isfinite(forgetting[330])
    assert np.isnan(features.column("late1", 1)[319])
    assert np.isnan(features.column("rv24", 1)[320])
    assert np.isnan(features.move(24)[320])
    assert features.column("rv24", 1)[345] == pytest.approx(log(HOURS.rv[322:346].mean()))
    for name in ("rv", "nonsense24", "nonsense"):
        with pytest.raises(KeyError):
            features.column(name, 1)
    short = Features(made(3))
    assert np.isnan(short.column("range720", 1)).all()
    assert np.isnan(short.move(24)).all()


def test_series_from_outside_count_from_when_they_were_published() -> None:
    published = np.array([10.0, 12.5])
    found = known_by_hour([9, 10, 12, 13], published, np.array([1.0, 2.0]))
    assert np.isnan(found[0])
    assert found[1:].tolist() == [1.0, 1.0, 2.0]
    features = Features(HOURS, others={"dvol": np.full(900, 0.5)})
    assert features.rows(("one", "dvol"), 1)[0].tolist() == [1.0, 0.5]


def test_how_far_a_regressor_looks_back_is_in_its_name() -> None:
    assert [hours_looked_back(name) for name in ("late1", "swing64", "rv720")] == [1, 64, 720]
    assert not any(hours_looked_back(name) for name in ("one", "season", "hour13", "monday", "vix"))
