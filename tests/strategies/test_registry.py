"""Tests of `strategies/__init__.py` and of what every registered policy promises."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from bot.domain.decisions import HedgePolicy
from bot.domain.errors import ConfigError
from strategies import (
    POLICIES,
    AnyPolicy,
    DeltaBand,
    FixedInterval,
    GammaVega,
    Impulse,
    Leland,
    Policy,
    PriceMove,
    RiskWords,
    Unhedged,
    WhalleyWilmott,
    Zakamouline,
    policies_from_specs,
    policy_from_spec,
)
from tests.strategies.views import view

EVERY = policies_from_specs(",".join(POLICIES))


def test_the_union_is_the_registry() -> None:
    assert list(POLICIES.values()) == [
        Unhedged,
        FixedInterval,
        Leland,
        PriceMove,
        DeltaBand,
        WhalleyWilmott,
        Zakamouline,
        Impulse,
        GammaVega,
    ]
    assert all(POLICIES[policy.name] is type(policy) for policy in EVERY)
    adapter: TypeAdapter[Policy] = TypeAdapter(AnyPolicy)
    for policy in EVERY:
        assert adapter.validate_python(policy.model_dump()) == policy


def test_bare_names_take_the_starting_values() -> None:
    expected = [
        Unhedged(),
        FixedInterval(interval_s=3600),
        Leland(interval_s=3600),
        PriceMove(move_fraction=0.01),
        DeltaBand(half_width_base=5),
        WhalleyWilmott(risk_aversion_per_quote=3e-4),
        Zakamouline(risk_aversion_per_quote=3e-4),
        Impulse(risk_aversion_per_quote=3e-4),
        GammaVega(risk_aversion_per_quote=3e-4),
    ]
    assert expected == EVERY


def test_a_spec_may_set_parameters() -> None:
    assert policies_from_specs("fixed_interval:interval_s=900, delta_band:half_width_base=2:trade_to=centre") == [
        FixedInterval(interval_s=900),
        DeltaBand(half_width_base=2, trade_to="centre"),
    ]


def test_a_bare_name_of_the_vaults_own_policy_takes_its_parameters() -> None:
    own = WhalleyWilmott(risk_aversion_per_quote=2e-5)
    assert policies_from_specs("whalley_wilmott,fixed_interval", own) == [own, FixedInterval(interval_s=3600)]


@given(st.floats(1e-9, 3e7))
def test_a_spec_reads_back_what_it_was_written_from(number: float) -> None:
    for policy in (
        Unhedged(),
        FixedInterval(interval_s=number),
        DeltaBand(half_width_base=number, trade_to="centre"),
        WhalleyWilmott(risk_aversion_per_quote=number),
        GammaVega(risk_aversion_per_quote=number),
        Impulse(risk_aversion=RiskWords(daily_sd_quote=number), h0_floor=False, centre_term="none"),
    ):
        assert policy_from_spec(policy.spec) == policy


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("whaley_wilmott", "did you mean whalley_wilmott?"),
        ("", "expected one of unhedged, fixed_interval, leland, price_move, delta_band, whalley_wilmott"),
        ("fixed_interval:900", "expected key=value, found '900'"),
        ("fixed_interval:interval_s=soon", "found 'soon'"),
        ("fixed_interval:interval_s=-1", "greater than 0, found '-1'"),
        ("fixed_interval:interval_s=nan", "found 'nan'"),
        ("delta_band:width=3", "its parameters: half_width_base, trade_to"),
        ("unhedged:speed=3", "its parameters: none"),
    ],
)
def test_a_bad_spec_says_what_was_expected(spec: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        policy_from_spec(spec)
    assert len(caught.value.problems) == 1
    assert text in caught.value.problems[0]


def test_every_bad_spec_is_reported() -> None:
    with pytest.raises(ConfigError) as caught:
        policies_from_specs("unhedge,fixed_interval:interval_s=0,unhedged")
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("policy", EVERY, ids=lambda policy: policy.name)
def test_every_policy_is_pure_frozen_and_strict(policy: Policy) -> None:
    asked: HedgePolicy = policy
    before = policy.model_dump()
    seen = view()
    assert asked.target(seen) == asked.target(seen)
    assert seen.greeks == view().greeks
    assert policy.model_dump() == before
    with pytest.raises(ValidationError):
        policy.type = "another"
    with pytest.raises(ValidationError):
        type(policy).model_validate({**before, "unknown": 1})


NUMBER = st.floats(allow_nan=True, allow_infinity=True)


@given(
    gamma=NUMBER,
    spot_px=NUMBER,
    cost_rate=NUMBER,
    target_delta_base=NUMBER,
    lot_base=NUMBER,
    vol=NUMBER,
    tau_years=NUMBER,
    horizon_years=NUMBER,
    monitor_years=NUMBER,
    fixed_cost_quote=NUMBER,
    vanna_base_per_vol=NUMBER,
    last_hedge_px=NUMBER,
)
def test_every_answer_is_an_ordered_band_whatever_is_seen(**damage: float) -> None:
    for policy in EVERY:
        target = policy.target(view(**damage))
        assert target.low_base <= target.buy_to_base <= target.high_base
        assert target.low_base <= target.sell_to_base <= target.high_base
        assert not math.isnan(target.low_base)
        assert target.reason
        if not math.isfinite(damage["target_delta_base"]):
            assert target.high_base - target.low_base == math.inf


def test_sizes_left_out_fit_the_book() -> None:
    (band,) = policies_from_specs("delta_band", None, 20.0)
    assert band == DeltaBand(half_width_base=0.5)
    (named,) = policies_from_specs("delta_band:half_width_base=2", None, 20.0)
    assert named == DeltaBand(half_width_base=2.0)
    assert policies_from_specs("fixed_interval", None, 20.0) == policies_from_specs("fixed_interval")
