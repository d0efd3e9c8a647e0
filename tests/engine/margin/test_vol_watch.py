"""Forecasts and conditions as the engine knows them: of which models, how they stand to the usual, what is missing."""

from __future__ import annotations

from math import isnan, sqrt
from typing import Any

import msgspec
import pytest

from bot.domain.risk import SeriesValue
from bot.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_YEAR
from bot.engine.margin.risk_settings import ClassSettings, ForecastSettings, RiskSettings
from bot.engine.margin.vol_watch import VolWatch
from bot.risk.asset_classes import Overrides, decode_classes
from bot.risk.conditions import Condition, ConditionParameters
from bot.risk.volatility.measures import HOURS_PER_YEAR
from bot.runtime.configuration.margin_parameters import carried_sets
from bot.runtime.configuration.volatility import load_artefact
from tests.engine.builders import T0_NS

HALF_HOUR = 0.5 * NS_PER_HOUR / NS_PER_YEAR
VIX = Condition(series="VIX", max_age_s=2 * 86_400.0, knots=((20.0, 1.0), (40.0, 2.0)), unknown=1.1, is_feature=True)
RULES = ConditionParameters(rules=(VIX,), missing_feature_variance=1.44)


def watch(*underlyings: str, **forecast: Any) -> VolWatch:
    known = {"artefact": load_artefact()[0], **forecast}
    return VolWatch(RiskSettings(accounts={}, forecast=ForecastSettings(**known)), underlyings or ("ETH",))


def vix(value: float, at_ns: int) -> SeriesValue:
    return SeriesValue("VIX", value, at_ns, at_ns, at_ns)


def live(one: VolWatch, underlying: str, hours: int, wild_from: int = 10_000) -> None:
    """Show prices every five minutes: calm, and from an hour on far from it."""
    for place in range(12 * hours):
        px = 2000.0 * (1.0005 if place < 12 * wild_from else 1.03) ** (place % 2)
        one.note_price(underlying, T0_NS + place * NS_PER_HOUR // 12, px)


def test_before_any_hour_what_is_usual_is_told_and_that_it_is() -> None:
    one = watch()
    one.note_price("ETH", T0_NS, 2000.0)
    one.look(T0_NS, HALF_HOUR)
    told = one.forecasts["ETH"]
    assert told.model == "usual"
    assert one.quantile_vol("ETH", 0.95) == told.quantile(0.95) > one.reference_vol("ETH")
    assert "no hour of prices yet" in one.tell("ETH")
    assert one.records()["ETH"].degraded == told.degraded


def test_a_look_is_what_everybody_sees_until_the_next_one() -> None:
    one = watch()
    for hour in range(5):
        one.note_price("ETH", T0_NS + hour * NS_PER_HOUR, 2000.0 * 1.01 ** (hour % 2))
    one.look(T0_NS + 5 * NS_PER_HOUR, HALF_HOUR)
    before = one.quantile_vol("ETH", 0.95)
    for minute in range(1, 60):
        one.note_price("ETH", T0_NS + 5 * NS_PER_HOUR + minute * 60 * 10**9, 2000.0 * 1.02 ** (minute % 2))
    assert one.quantile_vol("ETH", 0.95) == before
    one.look(T0_NS + 6 * NS_PER_HOUR, HALF_HOUR)
    assert one.quantile_vol("ETH", 0.95) > 2.0 * before


def test_what_is_usual_is_stated_or_the_artefacts_and_least_where_the_asset_is_unknown() -> None:
    artefact = load_artefact()[0]
    assert artefact is not None
    assert watch(usual_vol={"ETH": 0.9}).reference_vol("ETH") == 0.9
    assert watch().reference_vol("ETH") == pytest.approx(sqrt(artefact.usual["ETH"] * HOURS_PER_YEAR))
    assert watch("DOGE").reference_vol("DOGE") == pytest.approx(sqrt(min(artefact.usual.values()) * HOURS_PER_YEAR))
    assert isnan(watch(artefact=None, reason="none").reference_vol("ETH"))


def test_a_class_that_says_ewma_has_it_whatever_did_best() -> None:
    found = carried_sets("asset_classes")[-1]
    told = Overrides(assets={"ETH": {"vol_model": "ewma"}})
    classes = ClassSettings(classes=decode_classes(found.values, told), overrides=told)
    risk = RiskSettings(accounts={}, forecast=ForecastSettings(artefact=load_artefact()[0]), classes=classes)
    one = VolWatch(risk, ("BTC", "ETH"))
    live(one, "ETH", 5)
    live(one, "BTC", 5)
    one.look(T0_NS + 5 * NS_PER_HOUR, HALF_HOUR)
    assert one.forecasts["ETH"].model == "EWMA"
    assert one.forecasts["ETH"].degraded == ""
    assert "lacks what it looks at" in one.forecasts["BTC"].degraded  # it asks for another, which has too few hours


def test_f43_a_missing_feature_inflates_variance_and_is_flagged_and_ends_with_the_series() -> None:
    one = watch(conditions=RULES)
    one.note_price("ETH", T0_NS, 2000.0)
    one.look(T0_NS, HALF_HOUR)
    plain = one.forecasts["ETH"].quantile(0.95)
    assert one.quantile_vol("ETH", 0.95) == pytest.approx(1.2 * plain)  # a variance 1.44 times as large
    assert one.conditions is not None
    assert (one.conditions.multiplier, one.conditions.missing) == (pytest.approx(1.1), ("VIX",))
    assert "missing VIX" in one.tell("ETH")
    one.take_series(vix(30.0, T0_NS + 1))
    one.look(T0_NS + 2, HALF_HOUR)
    assert one.conditions.missing == ()
    assert one.conditions.multiplier == pytest.approx(1.5)
    assert one.quantile_vol("ETH", 0.95) == one.forecasts["ETH"].quantile(0.95)
    one.look(T0_NS + 1 + 3 * NS_PER_DAY, HALF_HOUR)  # it went down: its last value is too old to be believed
    assert one.conditions.missing == ("VIX",)
    lines = [line for _, line in one.changes]
    assert "×1.10 → ×1.50: VIX is 30" in lines
    assert any("VIX is missing: 3 d old, limit 2 d" in line for line in lines)
    assert one.change_count == len(lines)


def test_a_vault_that_reads_no_series_has_no_conditions() -> None:
    one = watch()
    one.take_series(vix(99.0, T0_NS))
    one.look(T0_NS, HALF_HOUR)
    assert one.conditions is None
    assert not one.changes


def test_a_record_counts_what_came_of_forecasts() -> None:
    one = watch()
    live(one, "ETH", 30, wild_from=25)
    one.look(T0_NS + 30 * NS_PER_HOUR, HALF_HOUR)
    record = one.records()["ETH"]
    assert record.outcomes == len(one.forecasters["ETH"].record) > 10
    assert 1 <= record.breaches["0.99"] <= record.breaches["0.9"] < record.outcomes
    assert msgspec.json.encode(record)
