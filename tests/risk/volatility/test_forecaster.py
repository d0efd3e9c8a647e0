"""The forecaster: the artefact's own numbers, any horizon, the record, and every way it falls back."""

from __future__ import annotations

from datetime import date
from math import isnan, sqrt

import msgspec
import numpy as np
import pytest

from bot.domain.risk import SeriesValue
from bot.risk.volatility.artefact import Artefact, HorizonModels, Scored
from bot.risk.volatility.features import Features
from bot.risk.volatility.forecaster import WIDENED, VolChoice, VolForecast, VolForecaster
from bot.risk.volatility.har import Linear
from bot.risk.volatility.measures import NS_PER_HOUR, STEP_NS, Hours
from bot.runtime.configuration.volatility import bundled_hours, load_artefact

HOUR_YEARS = 1.0 / 8760.0
LAST = 5_900  # hours of 2024 known when the forecast is made
HOURS = {asset: hours.upto(LAST) for asset, hours in bundled_hours().items()}
NOW_NS = int(HOURS["BTC"].hour[-1]) * NS_PER_HOUR


@pytest.fixture(scope="module")
def artefact() -> Artefact:
    found, reason = load_artefact()
    assert reason == ""
    assert found is not None
    return found


def seeded(artefact: Artefact | None, hours: Hours | None = None, underlying: str = "BTC") -> VolForecaster:
    forecaster = VolForecaster(underlying, artefact)
    forecaster.seed(HOURS["BTC"] if hours is None else hours)
    return forecaster


def asked(forecaster: VolForecaster, hours: float, now_ns: int = NOW_NS) -> VolForecast:
    found = forecaster.forecast(now_ns, hours * HOUR_YEARS)
    assert found is not None
    return found


def test_at_a_models_own_horizon_its_own_forecast_is_told(artefact: Artefact) -> None:
    forecaster = seeded(artefact)
    month = Hours(*(getattr(HOURS["BTC"], name)[-744:] for name in HOURS["BTC"].__struct_fields__))
    features = Features(month, artefact.season)
    for horizon in artefact.horizons[:2]:
        best = min(horizon.models, key=lambda one: one.qlike)
        expected = float(best.model.variance(features.rows(best.model.names, horizon.hours))[-1])
        found = asked(forecaster, horizon.hours)
        assert found.degraded == ""
        assert found.model == best.name
        assert found.mean_vol == pytest.approx(sqrt(expected * 8760 / horizon.hours))
        log_mean = float(best.model.log_mean(features.rows(best.model.names, horizon.hours))[-1])
        quantiles = np.sqrt(np.exp(log_mean + np.array(best.errors)) * 8760 / horizon.hours)
        assert found.quantile_vols == pytest.approx(np.maximum(quantiles, found.mean_vol).tolist())
        assert found.quantile(0.95) == found.quantile_vols[1]
        assert found.quantile(0.999) == found.quantile_vols[2]


def test_any_horizon_is_answered_and_near_ones_alike(artefact: Artefact) -> None:
    forecaster = seeded(artefact)
    flat = VolForecaster("BTC", msgspec.structs.replace(artefact, season=(1.0,) * 168))
    flat.seed(HOURS["BTC"])
    horizons = np.geomspace(0.05, 2000.0, 60)
    for one in (forecaster, flat):
        found = [asked(one, hours) for hours in horizons]
        for forecast in found:
            assert 0.05 < forecast.mean_vol <= forecast.quantile_vols[0] <= forecast.quantile_vols[1]
            assert forecast.quantile_vols[1] <= forecast.quantile_vols[2] < 5.0
    vols = np.array([forecast.mean_vol for forecast in found])
    assert np.abs(np.diff(np.log(vols))).max() < 0.15  # without a season nothing jumps from one horizon to the next
    assert [one.horizon_years for one in forecaster.fan(NOW_NS, [HOUR_YEARS, 1.0])] == [HOUR_YEARS, 1.0]
    with pytest.raises(ValueError, match="a positive horizon in years, found nan"):
        forecaster.forecast(NOW_NS, float("nan"))


def test_a_weekend_ahead_is_calmer_than_the_week(artefact: Artefact) -> None:
    monday = int(HOURS["BTC"].hour[-1]) // 168 * 168 + 4 * 24  # 1970 began on a Thursday
    place = int(np.searchsorted(HOURS["BTC"].hour, monday - 3 * 24))
    friday_night = seeded(artefact, HOURS["BTC"].upto(place + 1))
    now_ns = int(HOURS["BTC"].hour[place]) * NS_PER_HOUR
    assert (now_ns // NS_PER_HOUR + 72) % 168 == 96 or (now_ns // NS_PER_HOUR + 72) % 168 >= 0
    over_weekend = asked(friday_night, 4.0, now_ns + 24 * NS_PER_HOUR)
    on_monday = asked(friday_night, 4.0, now_ns + (3 * 24 + 13) * NS_PER_HOUR)
    assert over_weekend.mean_vol < on_monday.mean_vol


def test_prices_as_they_come_lead_to_the_same_as_hours(artefact: Artefact) -> None:
    rng = np.random.default_rng(1)
    px = float(HOURS["BTC"].close_px[-1]) * np.exp(np.cumsum(rng.normal(0.0, 0.0006, 3 * 24 * 12)))
    live = seeded(artefact)
    for place, one in enumerate(px.tolist()):
        live.note_price(NOW_NS + place * STEP_NS, one)
    end_ns = NOW_NS + len(px) * STEP_NS
    assert len(live.hours()) == 744
    later = seeded(artefact, live.hours())
    for hours in (1.0, 24.0, 100.0):
        now, fresh = asked(live, hours, end_ns), asked(later, hours, end_ns)
        assert now.degraded == ""
        assert now.mean_vol == pytest.approx(fresh.mean_vol, rel=0.4)  # but for who has the better record now
    # A third of the vol of the days before, which still count for something.
    assert asked(live, 1.0, end_ns).mean_vol == pytest.approx(0.0006 * sqrt(12 * 8760), rel=0.45)
    record = [one for one in live.record if one.hours == 1]
    assert len(record) == live.recalibrations()[1].count == 3 * 24
    broken = sum(one.realised_vol > one.quantile_vols[1] for one in record)
    assert live.recalibrations()[1].breaches[1] == broken
    shift = live.recalibrations()[1].shift[1]
    assert shift == pytest.approx(0.05 * (broken - 0.05 * len(record)))
    ratio = np.array([(one.realised_vol / one.mean_vol) ** 2 for one in record])
    assert np.mean(ratio - np.log(ratio) - 1.0) < artefact.horizons[0].ewma_qlike  # told well, and learnt from
    assert min(live.scores()[1].values()) < artefact.horizons[0].models[0].qlike


def test_a_feed_that_stands_still_is_not_taken_for_a_calm_market(artefact: Artefact) -> None:
    forecaster = seeded(artefact)
    before, px = asked(forecaster, 1.0), float(HOURS["BTC"].close_px[-1])
    for step in range(2 * 12 + 1):
        forecaster.note_price(NOW_NS + step * STEP_NS, px)
    now_ns = NOW_NS + 2 * NS_PER_HOUR
    found = asked(forecaster, 1.0, now_ns)
    assert found.degraded == f"{before.model} lacks what it looks at: no price moved for 2 h"
    assert found.model == "EWMA"
    assert found.mean_vol > 0.5 * before.mean_vol
    assert asked(forecaster, 24.0, now_ns).degraded == ""  # a day's mean is not nothing yet
    for step in range(1, 13):
        forecaster.note_price(now_ns + step * STEP_NS, px * (1.0 + 1e-3 * (step % 2)))
    assert asked(forecaster, 1.0, now_ns + NS_PER_HOUR).degraded == ""


def test_the_model_with_the_best_record_is_used(artefact: Artefact) -> None:
    level = float(np.log(np.nanmean(HOURS["BTC"].rv[-200:])))
    right = Scored("right", Linear(("one",), (level,), 0.0, level, level), 0.2, (0.5, 0.8, 1.5))
    wrong = Scored("wrong", Linear(("one",), (level + 3.0,), 0.0, level + 3, level + 3), 0.1, (0.5, 0.8, 1.5))
    horizon = HorizonModels(1, (wrong, right), 5.0, (0.5, 0.8, 1.5), 0.5)
    forecaster = VolForecaster("BTC", msgspec.structs.replace(artefact, horizons=(horizon,)))
    forecaster.seed(HOURS["BTC"].upto(LAST - 80))
    assert asked(forecaster, 1.0, NOW_NS - 80 * NS_PER_HOUR).model == "wrong"
    rng = np.random.default_rng(2)
    px = 60_000.0
    for step in range(80 * 12):
        px *= float(np.exp(rng.normal(0.0, np.exp(0.5 * level) / sqrt(12))))
        forecaster.note_price(NOW_NS - 80 * NS_PER_HOUR + step * STEP_NS, px)
    found = asked(forecaster, 1.0)
    assert found.model == "right"
    assert found.degraded == ""


def test_without_an_artefact_the_average_is_told_widened_and_says_why() -> None:
    plain = VolForecaster("BTC", None, "file.json is damaged")
    assert plain.forecast(NOW_NS, HOUR_YEARS) is None
    plain.seed(HOURS["BTC"])
    found = asked(plain, 24.0)
    assert found.model == "EWMA"
    assert found.degraded == "no volatility artefact: file.json is damaged"
    assert found.regime == "unknown"
    assert isnan(found.regime_probability)
    recent = np.sqrt(np.nanmean(HOURS["BTC"].rv[-264:]) * 8760)
    assert found.mean_vol == pytest.approx(recent, rel=0.3)
    assert found.quantile_vols[1] == pytest.approx(WIDENED * found.mean_vol * np.exp(0.5 * 1.25))


def test_an_expired_artefact_widens_and_says_so(artefact: Artefact) -> None:
    expired = msgspec.structs.replace(artefact, expires=date(2024, 7, 1))
    good, old = asked(seeded(artefact), 24.0), asked(seeded(expired), 24.0)
    assert old.degraded == "volatility artefact expired on 2024-07-01"
    assert old.mean_vol == good.mean_vol
    assert old.quantile_vols == pytest.approx([WIDENED * one for one in good.quantile_vols])


def test_too_few_hours_fall_back_to_the_average_and_say_so(artefact: Artefact) -> None:
    young = seeded(artefact, Hours(*(getattr(HOURS["BTC"], n)[-100:] for n in HOURS["BTC"].__struct_fields__)))
    found = asked(young, 24.0)
    assert found.model == "EWMA"
    assert "lacks what it looks at: 100 hours are known" in found.degraded
    assert found.quantile_vols[0] > WIDENED * found.mean_vol
    newborn = seeded(artefact, Hours(*(getattr(HOURS["BTC"], n)[-1:] for n in HOURS["BTC"].__struct_fields__)))
    usual = sqrt(artefact.usual["BTC"] * 8760)
    assert asked(newborn, 168.0).mean_vol == pytest.approx(usual, rel=0.25)
    assert asked(newborn, 168.0).degraded


def test_before_any_price_the_usual_is_told(artefact: Artefact) -> None:
    found = asked(VolForecaster("ETH", artefact), 168.0)
    assert found.model == "usual"
    assert found.mean_vol == pytest.approx(sqrt(artefact.usual["ETH"] * 8760))
    assert found.degraded == "no hour of prices yet: what is usual is told"
    assert found.quantile_vols[1] > 1.5 * found.mean_vol
    stranger = asked(VolForecaster("SOL", artefact), 168.0)
    assert stranger.mean_vol == found.mean_vol  # of the most volatile one that is known


def test_the_kind_that_is_asked_for_is_used_whatever_is_best(artefact: Artefact) -> None:
    best = asked(seeded(artefact), 24.0)
    assert best.model != "EWMA"
    forced = VolForecaster("BTC", artefact, choice=VolChoice("ewma"))
    forced.seed(HOURS["BTC"])
    found = asked(forced, 24.0)
    assert (found.model, found.degraded) == ("EWMA", "")
    assert found.mean_vol != best.mean_vol
    none_such = VolForecaster("BTC", artefact, choice=VolChoice("garch"))
    none_such.seed(HOURS["BTC"])
    found = asked(none_such, 24.0)
    assert (found.model, found.mean_vol) == (best.model, best.mean_vol)
    assert found.degraded == "there is no model of kind garch: the best of the others is used"
    assert found.quantile_vols == pytest.approx([WIDENED * one for one in best.quantile_vols])


def test_a_faster_decay_forgets_a_storm_sooner() -> None:
    rng = np.random.default_rng(5)
    moves = rng.normal(0.0, 0.004, 24 * 40) * np.where(np.arange(24 * 40) < 24 * 20, 4.0, 1.0)
    px = 100.0 * np.exp(np.cumsum(np.repeat(moves / 12.0, 12)))
    vols = []
    for decay in (0.97, 0.94, 0.80):
        forecaster = VolForecaster("BTC", choice=VolChoice("ewma", decay))
        for place, one in enumerate(px.tolist()):
            forecaster.note_price(NOW_NS + place * STEP_NS, one)
        vols.append(asked(forecaster, 24.0, NOW_NS + len(px) * STEP_NS).mean_vol)
    assert vols == sorted(vols, reverse=True)
    assert vols[0] > 1.3 * vols[2]


def test_the_usual_vol_of_a_class_stands_in_where_nothing_is_known(artefact: Artefact) -> None:
    choice = VolChoice(usual_vol=2.0)
    assert asked(VolForecaster("SOL", artefact, choice=choice), 168.0).mean_vol == pytest.approx(2.0, rel=0.01)
    assert asked(VolForecaster("ETH", None, "", choice), 168.0).mean_vol == pytest.approx(2.0)
    known = asked(VolForecaster("ETH", artefact, choice=choice), 168.0)
    assert known.mean_vol == pytest.approx(sqrt(artefact.usual["ETH"] * 8760))  # what was measured goes before


def test_a_stranger_is_told_widened(artefact: Artefact) -> None:
    known, stranger = asked(seeded(artefact), 24.0), asked(seeded(artefact, underlying="SOL"), 24.0)
    assert stranger.degraded == "no model was learnt on SOL"
    assert stranger.mean_vol == known.mean_vol
    assert stranger.quantile_vols == pytest.approx([WIDENED * one for one in known.quantile_vols])


def test_silence_of_prices_is_told(artefact: Artefact) -> None:
    forecaster = seeded(artefact)
    forecaster.note_price(NOW_NS + 1, 60_000.0)
    assert asked(forecaster, 1.0, NOW_NS + NS_PER_HOUR).degraded == ""
    found = asked(seeded(artefact), 1.0, NOW_NS + 5 * NS_PER_HOUR)
    assert found.degraded == "no hour of prices for 5 hours"


def test_a_crash_within_the_hour_is_not_waited_for(artefact: Artefact) -> None:
    forecaster = seeded(artefact)
    before = asked(forecaster, 1.0)
    px = float(HOURS["BTC"].close_px[-1])
    for minute in range(10):
        forecaster.note_price(NOW_NS + minute * 60 * 10**9, px)
    assert asked(forecaster, 1.0, NOW_NS + 600 * 10**9).mean_vol == pytest.approx(before.mean_vol, rel=0.1)
    for minute in range(10, 20):
        px *= 0.995
        forecaster.note_price(NOW_NS + minute * 60 * 10**9, px)
    after = asked(forecaster, 1.0, NOW_NS + 1200 * 10**9)
    assert after.mean_vol > 1.8 * before.mean_vol
    assert after.quantile_vols[2] > 1.8 * before.quantile_vols[2]


def test_a_model_of_a_series_needs_the_series_and_a_fresh_one(artefact: Artefact) -> None:
    level = float(np.log(np.nanmean(HOURS["BTC"].rv[-200:])))
    model = Scored("of dvol", Linear(("one", "dvol"), (level, 1.0), 0.0, level - 5, level + 5), 0.1, (0.5, 0.8, 1.5))
    horizon = HorizonModels(1, (model,), 5.0, (0.5, 0.8, 1.5), 0.5)
    with_series = msgspec.structs.replace(artefact, horizons=(horizon,))

    def value(number: float, age_hours: int) -> SeriesValue:
        ts_ns = NOW_NS - age_hours * NS_PER_HOUR
        return SeriesValue("dvol", number, ts_ns, ts_ns, ts_ns)

    forecaster = VolForecaster("BTC", with_series)
    forecaster.seed(HOURS["BTC"])
    assert asked(forecaster, 1.0).degraded.startswith("of dvol lacks")
    forecaster = VolForecaster("BTC", with_series)
    forecaster.note_series(value(0.4, 1))
    forecaster.note_series(value(9.0, 30))  # older: told late, and not used
    forecaster.note_series(value(float("nan"), 0))
    forecaster.seed(HOURS["BTC"])
    found = asked(forecaster, 1.0)
    assert found.model == "of dvol"
    assert found.mean_vol == pytest.approx(sqrt(np.exp(level + 0.4) * 8760))
    forecaster = VolForecaster("BTC", with_series)
    forecaster.note_series(value(0.4, 24 * 30))
    forecaster.seed(HOURS["BTC"])
    assert asked(forecaster, 1.0).model == "EWMA"


def test_the_regime_is_told(artefact: Artefact) -> None:
    found = asked(seeded(artefact), 24.0)
    assert found.regime in {"calm", "cluster", "crash"}
    assert 0.33 < found.regime_probability <= 1.0
    wild = Hours(*(getattr(HOURS["BTC"], name).copy() for name in HOURS["BTC"].__struct_fields__))
    wild.close_px[-24:] *= np.linspace(1.0, 0.8, 24)
    assert asked(seeded(artefact, wild), 24.0).regime == "crash"
    assert asked(seeded(artefact, underlying="SOL"), 24.0).regime == "unknown"
