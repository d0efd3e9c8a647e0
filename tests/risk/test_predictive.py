"""Margin ahead of time: the published case to the digit, that worse inputs never need less, and what is not known."""

from __future__ import annotations

import json
from math import inf, nan
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.risk.conditions import Conditions, Reason
from bot.risk.distances import greek_health, linear_health
from bot.risk.predictive import (
    LookAhead,
    TargetRule,
    look_ahead,
    look_ahead_by_repricing,
    note_change,
    set_target,
)

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "predictive_margin_cases.json").read_text(encoding="utf-8")
)["cases"]
HALF_HOUR = 0.5 / 8760.0
FROM = ("move_fraction", "loss_quote", "equity_quote", "maintenance_quote", "ratio", "topup_quote")

money = st.floats(0.0, 1e7)
signed = st.floats(-1e7, 1e7)
vols = st.floats(0.0, 4.0)
delays = st.floats(0.0, 0.05)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
def test_the_reference_case_comes_out_to_the_digit(case: dict[str, Any]) -> None:
    found = look_ahead(
        case["equity"], case["mm"], case["delta_usd"], case["gamma_usd_per_1pct"], case["annual_vol"],
        case["transfer_delay_min"] / 525_600, case["target_equity_over_mm"], LookAhead(z=case["z"]),
    )  # fmt: skip
    for name, key in zip(FROM, ("move", "loss", "equity_h", "mm_h", "ratio_h", "topup"), strict=True):
        assert getattr(found, name) == pytest.approx(case[key], rel=1e-13)
    assert found.degraded == ""


def test_a_topup_restores_the_target() -> None:
    short = look_ahead(290e3, 180e3, -1.5e6, -12e3, 0.9, HALF_HOUR, 1.5)
    assert short.topup_quote > 0.0
    after = look_ahead(290e3 + short.topup_quote, 180e3, -1.5e6, -12e3, 0.9, HALF_HOUR, 1.5)
    assert after.ratio == pytest.approx(1.5)
    assert after.topup_quote == pytest.approx(0.0, abs=1e-6)


@given(money, money, signed, signed, vols, vols, delays, delays, st.floats(1.01, 4.0))
def test_more_vol_or_delay_or_short_gamma_never_needs_less(
    equity: float, margin: float, delta: float, gamma: float, vol: float, more_vol: float,
    delay: float, more_delay: float, target: float,
) -> None:  # fmt: skip
    (vol, more_vol), (delay, more_delay) = sorted((vol, more_vol)), sorted((delay, more_delay))
    now = look_ahead(equity, margin, delta, gamma, vol, delay, target).topup_quote
    for other in (
        look_ahead(equity, margin, delta, gamma, more_vol, delay, target),
        look_ahead(equity, margin, delta, gamma, vol, more_delay, target),
        look_ahead(equity, margin, delta, gamma - 1_000.0, vol, delay, target),
        look_ahead(equity, margin, delta * 1.5, gamma, vol, delay, target),
    ):
        assert other.topup_quote >= now * (1.0 - 1e-12)


def raised(multiplier: float, missing: tuple[str, ...] = (), variance_multiplier: float = 1.0) -> Conditions:
    return Conditions(multiplier, variance_multiplier, (Reason("vix", multiplier, "vix is 34"),), missing)


@given(vols, vols, st.floats(0.05, 2.0), st.floats(0.0, 5.0), st.floats(0.0, 5.0))
def test_the_target_is_never_below_its_base_and_rises_with_vol_and_conditions(
    vol: float, more_vol: float, reference: float, one: float, other: float
) -> None:
    low, high = sorted((vol, more_vol))
    mild, severe = (raised(multiplier) for multiplier in sorted((one, other)))
    assert 1.5 <= set_target(low, reference, mild).ratio <= set_target(high, reference, mild).ratio <= 6.0
    assert set_target(low, reference, mild).ratio <= set_target(low, reference, severe).ratio


def test_calm_never_shrinks_the_buffer() -> None:
    assert set_target(0.1, 0.6).ratio == 1.5
    assert set_target(0.9, 0.6).ratio == pytest.approx(2.25)
    assert set_target(3.0, 0.6).ratio == 3.0
    buffer = TargetRule(scales="buffer")
    assert set_target(0.9, 0.6, rule=buffer).ratio == pytest.approx(1.75)
    assert set_target(3.0, 0.6, rule=buffer).reason == "1 + 0.5 × 2.00 for vol × 1.00 for conditions"


def test_conditions_only_raise_and_say_why() -> None:
    found = set_target(0.6, 0.6, raised(1.3))
    assert found.ratio == pytest.approx(1.95)
    assert found.reason == "1.5 × 1.00 for vol × 1.30 for conditions (vix is 34 ×1.30)"
    assert set_target(0.6, 0.6, raised(0.2)).ratio == 1.5
    assert set_target(0.6, 0.6, raised(9.0)).ratio == 3.0


def test_what_conditions_miss_is_named_and_never_lowers_anything() -> None:
    found = set_target(0.6, 0.6, raised(1.2, ("dvol",), variance_multiplier=1.44))
    assert found.ratio == pytest.approx(1.5 * 1.2 * 1.2)
    assert found.degraded == "missing: dvol"
    unknown = set_target(0.6, 0.6, raised(nan))
    assert unknown.ratio == pytest.approx(1.875)
    assert unknown.degraded == "conditions unknown: ×1.25 taken"


class TestRepricing:
    def test_it_is_the_formula_where_the_book_is_its_greeks(self) -> None:
        health = greek_health(290e3, 180e3, -1.5e6, -12e3)
        exact = look_ahead(290e3, 180e3, -1.5e6, -12e3, 0.9, HALF_HOUR, 1.5)
        found = look_ahead_by_repricing(health, 0.9, HALF_HOUR, 1.5)
        for name in FROM:
            assert getattr(found, name) == pytest.approx(getattr(exact, name), rel=1e-12)

    @pytest.mark.parametrize("qty", [-10.0, 10.0])
    def test_the_worse_side_counts(self, qty: float) -> None:
        found = look_ahead_by_repricing(linear_health(50e3, qty, 60e3, 0.01), 0.9, HALF_HOUR, 1.5)
        assert found.loss_quote == pytest.approx(10 * 60e3 * found.move_fraction)

    def test_vols_rise_too(self) -> None:
        def health(moves: np.ndarray[Any, Any], factor: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
            return 100.0 - 50.0 * (factor - 1.0) - 10.0 * np.abs(moves), np.full(len(moves), 20.0)

        calm = look_ahead_by_repricing(health, 0.9, HALF_HOUR, 4.5)
        found = look_ahead_by_repricing(health, 0.9, HALF_HOUR, 4.5, vol_up_fraction=0.5)
        assert found.loss_quote == pytest.approx(calm.loss_quote + 25.0)
        assert found.topup_quote == pytest.approx(90.0 - found.equity_quote)

    def test_a_model_that_fails_is_no_good_news(self) -> None:
        def health(moves: np.ndarray[Any, Any], _factor: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
            return np.full(len(moves), 100.0), np.where(moves > 0.0, nan, 1.0)

        found = look_ahead_by_repricing(health, 0.9, HALF_HOUR, 1.5)
        assert found.ratio == 0.0
        assert "unknown" in found.degraded


class TestWhatIsNotKnown:
    def test_a_vol_or_delay_that_is_none_has_a_high_one_instead(self) -> None:
        known = look_ahead(290e3, 180e3, -1.5e6, 0.0, 1.5, 2.0 / 8760.0, 1.5)
        found = look_ahead(290e3, 180e3, -1.5e6, 0.0, nan, nan, 1.5)
        assert found.topup_quote == known.topup_quote > 0.0
        assert (
            found.degraded == "vol forecast nan is not usable: 150% taken; transfer delay nan is not usable: 2 h taken"
        )

    def test_a_vol_too_low_to_be_true_is_not_believed(self) -> None:
        assert look_ahead(1.0, 1.0, 1.0, 0.0, 0.0, HALF_HOUR, 1.5).move_fraction > 0.003

    def test_without_greeks_all_of_equity_is_taken_as_lost(self) -> None:
        found = look_ahead(290e3, 180e3, nan, 0.0, 0.6, HALF_HOUR, 1.5)
        assert (found.equity_quote, found.ratio) == (0.0, 0.0)
        assert found.topup_quote == pytest.approx(1.5 * found.maintenance_quote)
        assert "delta or gamma unknown" in found.degraded

    def test_without_equity_there_is_no_ratio(self) -> None:
        found = look_ahead(nan, 180e3, 1.0, 0.0, 0.6, HALF_HOUR, 1.5)
        assert found.ratio == 0.0
        assert "nothing can be planned" in found.degraded

    @pytest.mark.parametrize(("vol", "reference"), [(nan, 0.6), (0.6, nan), (0.6, 0.0), (-1.0, 0.6)])
    def test_the_target_is_then_the_highest(self, vol: float, reference: float) -> None:
        found = set_target(vol, reference)
        assert found.ratio == 3.0
        assert "not usable" in found.degraded

    def test_an_account_without_margin_needs_nothing(self) -> None:
        found = look_ahead(5.0, 0.0, 0.0, 0.0, 0.6, HALF_HOUR, 1.5)
        assert (found.ratio, found.topup_quote) == (inf, 0.0)


class TestChanges:
    def test_each_is_told_with_its_reason(self) -> None:
        calm, rough = set_target(0.6, 0.6), set_target(0.9, 0.6)
        change = note_change(calm, rough, 7)
        assert change is not None
        assert [change.before_ratio, change.after_ratio, change.ts_ns] == pytest.approx([1.5, 2.25, 7])
        assert change.reason == "1.5 × 1.50 for vol × 1.00 for conditions"
        assert note_change(rough, set_target(0.9, 0.6), 8) is None
        back = note_change(rough, calm, 9)
        assert back is not None
        assert back.after_ratio == 1.5

    def test_the_first_target_and_what_is_missing_are_told(self) -> None:
        change = note_change(None, set_target(nan, 0.6), 1)
        assert change is not None
        assert (change.before_ratio, "not usable" in change.reason) == (0.0, True)


@pytest.mark.parametrize("wrong", [{"base_ratio": 1.0}, {"most_multiple": 0.9}, {"unknown_conditions": 0.9}])
def test_a_rule_that_could_lower_a_target_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="only raise"):
        msgspec.structs.replace(TargetRule(), **wrong)


@pytest.mark.parametrize("wrong", [{"z": 0.0}, {"fallback_vol": 0.1}, {"fallback_delay_years": nan}])
def test_an_outlook_better_than_today_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected a positive"):
        msgspec.structs.replace(LookAhead(), **wrong)
