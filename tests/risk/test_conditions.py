"""Conditions only raise, say why, never know a value before it was published, and are never silent about a gap."""

from __future__ import annotations

from math import nan
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.risk import SeriesValue
from bot.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_S
from bot.risk.conditions import Condition, ConditionParameters, ConditionsKeeper, Reading, changes
from bot.risk.parameters import decode_parameters

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = decode_parameters((ROOT / "bot/risk/parameter_sets/conditions-2026-11-26.json").read_bytes())
DVOL = Condition(series="DVOL-BTC", max_age_s=7_200.0, knots=((70.0, 1.0), (110.0, 1.5)), unknown=1.1, is_feature=True)
RATE = Condition(
    series="DGS2", reading=Reading.CHANGE, window_s=86_400.0, max_age_s=432_000.0, knots=((0.2, 1.0), (0.6, 1.4))
)
SUPPLY = Condition(
    series="SUPPLY", reading=Reading.GROWTH, window_s=86_400.0, max_age_s=432_000.0, knots=((-0.05, 1.3), (-0.01, 1.0))
)


def keeper(*rules: Condition, **terms: Any) -> ConditionsKeeper:
    return ConditionsKeeper(ConditionParameters(rules=rules, **terms))


def value(series: str, number: float, published_ns: int, as_of_ns: int | None = None) -> SeriesValue:
    as_of_ns = published_ns if as_of_ns is None else as_of_ns
    return SeriesValue(series, number, as_of_ns, published_ns, published_ns)


def test_a_high_level_raises_and_says_by_how_much() -> None:
    kept = keeper(DVOL)
    kept.note(value("DVOL-BTC", 90.0, 0))
    found = kept.at(NS_PER_HOUR)
    assert (found.multiplier, found.variance_multiplier, found.missing) == (pytest.approx(1.25), 1.0, ())
    assert found.text == "DVOL-BTC is 90 ×1.25"
    kept.note(value("DVOL-BTC", 20.0, NS_PER_HOUR))
    assert kept.at(NS_PER_HOUR).multiplier == 1.0  # calm lowers nothing
    assert kept.at(NS_PER_HOUR).text == "nothing raises buffers"


def test_raises_add_up_to_twice_at_most() -> None:
    kept = keeper(DVOL, RATE, SUPPLY)
    for series, before, after in (("DVOL-BTC", 60.0, 300.0), ("DGS2", 4.0, 5.0), ("SUPPLY", 100.0, 97.0)):
        kept.note(value(series, before, 0))
        kept.note(value(series, after, NS_PER_DAY))
    found = kept.at(NS_PER_DAY)
    assert [one.multiplier for one in found.reasons] == [1.5, 1.4, pytest.approx(1.15)]
    assert found.multiplier == 2.0
    assert found.reasons[2].text == "SUPPLY -3.00% in 1 d"


def test_a_value_is_known_when_it_was_published_and_not_before() -> None:
    kept = keeper(DVOL)
    kept.note(value("DVOL-BTC", 110.0, 10 * NS_PER_S, as_of_ns=0))
    assert kept.at(9 * NS_PER_S).missing == ("DVOL-BTC",)
    assert kept.at(10 * NS_PER_S).multiplier == 1.5
    kept.note(value("DVOL-BTC", 60.0, 5 * NS_PER_S, as_of_ns=0))  # told late, published earlier
    assert kept.at(9 * NS_PER_S).multiplier == 1.0
    assert kept.at(10 * NS_PER_S).multiplier == 1.5


def test_a_missing_feature_is_named_and_inflates_the_variance() -> None:
    kept = keeper(DVOL, SUPPLY)
    never = kept.at(0)
    assert never.missing == ("DVOL-BTC", "SUPPLY")
    assert (never.multiplier, never.variance_multiplier) == (pytest.approx(1.1), 1.25)
    kept.note(value("DVOL-BTC", 60.0, 0))
    assert kept.at(7_200 * NS_PER_S).variance_multiplier == 1.0  # what is missing yet is no feature of the model
    old = kept.at(7_201 * NS_PER_S)
    assert old.variance_multiplier == 1.25
    assert "2.0 h old, limit 2 h" in old.reasons[0].text
    kept.note(value("DVOL-BTC", nan, 7_201 * NS_PER_S))  # no number is no news
    assert kept.at(7_201 * NS_PER_S) == old
    kept.note(value("UNKNOWN", 1.0, 0))


def test_a_change_needs_a_value_from_before_its_window() -> None:
    kept = keeper(RATE, SUPPLY)
    kept.note(value("DGS2", 4.0, NS_PER_HOUR))
    kept.note(value("DGS2", 4.4, NS_PER_DAY))
    assert "less than 1 d of it is known" in kept.at(NS_PER_DAY).reasons[0].text
    kept.note(value("DGS2", 4.4, NS_PER_DAY + NS_PER_HOUR))
    assert kept.at(NS_PER_DAY + NS_PER_HOUR).reasons[0].multiplier == pytest.approx(1.2)
    kept.note(value("SUPPLY", 0.0, 0))
    kept.note(value("SUPPLY", 1.0, NS_PER_DAY))
    assert "no growth from 0" in kept.at(NS_PER_DAY).reasons[1].text


def test_a_history_that_was_published_at_once_has_changes_and_a_revision_counts_when_it_was_made() -> None:
    kept = keeper(RATE)
    for day, rate in enumerate((4.0, 4.4)):
        kept.note(value("DGS2", rate, 9 * NS_PER_DAY, as_of_ns=day * NS_PER_DAY))
    assert kept.at(9 * NS_PER_DAY).reasons[0].multiplier == pytest.approx(1.2)
    kept.note(value("DGS2", 4.6, 10 * NS_PER_DAY, as_of_ns=NS_PER_DAY))
    assert kept.at(9 * NS_PER_DAY).reasons[0].multiplier == pytest.approx(1.2)
    assert kept.at(10 * NS_PER_DAY).reasons[0].multiplier == pytest.approx(1.4)


def test_every_change_has_a_line() -> None:
    kept = keeper(DVOL)
    none = kept.at(0)
    assert changes(None, none) == ("×1.00 → ×1.10: DVOL-BTC is missing: never told",)
    assert changes(none, none) == ()
    kept.note(value("DVOL-BTC", 110.0, 0))
    assert changes(none, kept.at(0)) == ("×1.10 → ×1.50: DVOL-BTC is 110", "forecast variance ×1.25 → ×1")


def test_memory_is_bounded() -> None:
    kept = keeper(DVOL)
    for minute in range(5_000):
        kept.note(value("DVOL-BTC", 50.0, minute))
    assert len(kept._history["DVOL-BTC"]) == 4_096


@pytest.mark.parametrize(("changed", "says"), [
    ({"knots": ((70.0, 0.9), (110.0, 1.5))}, "they only raise"), ({"unknown": 0.5}, "they only raise"),
    ({"knots": ((110.0, 1.0), (70.0, 1.5))}, "rising knots"), ({"knots": ()}, "rising knots"),
    ({"reading": Reading.CHANGE}, "window_s above 0"),
])  # fmt: skip
def test_a_rule_that_could_lower_is_refused(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        msgspec.structs.replace(DVOL, **changed)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=12), st.integers(0, 30))
def test_whatever_is_told_it_is_between_one_and_two(numbers: list[float], day: int) -> None:
    kept = ConditionsKeeper(msgspec.convert(SHIPPED.values, ConditionParameters))
    for place, number in enumerate(numbers):
        for rule in kept._parameters.rules:
            kept.note(value(rule.series, number, place * NS_PER_DAY))
    found = kept.at(day * NS_PER_DAY)
    assert 1.0 <= found.multiplier <= 2.0
    assert found.variance_multiplier in {1.0, 1.25}
