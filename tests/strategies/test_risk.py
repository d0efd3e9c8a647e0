from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from bot.domain.errors import ConfigError
from strategies import POLICIES, Impulse, RiskAverse, RiskWords, WhalleyWilmott, policy_from_spec
from tests.strategies.views import view

AVERSE = [name for name, cls in POLICIES.items() if issubclass(cls, RiskAverse)]
PAY = RiskWords(pay_quote=150.0, to_remove_sd_quote=1_000.0)
DAILY = RiskWords(daily_sd_quote=500.0)


def test_worth_paying_is_half_g_times_the_variance() -> None:
    policy = WhalleyWilmott(risk_aversion=PAY)
    assert policy.known_risk_aversion_per_quote == pytest.approx(3e-4)
    assert policy.target(view(vol=0.6)) == WhalleyWilmott(risk_aversion_per_quote=3e-4).target(view(vol=0.6))


def test_a_daily_limit_is_the_band_whatever_gamma_is() -> None:
    policy = WhalleyWilmott(risk_aversion=DAILY, monitoring_correction=False, centre_term="none")
    for gamma in (-0.12, 0.01, 0.0):
        target = policy.target(view(gamma, vol=0.6, tau_years=0.04))
        # ±H uniformly, H/√3, is worth 500 a day
        sd_quote = target.high_base / math.sqrt(3.0) * 1_900.0 * 0.6 / math.sqrt(365.0)
        assert sd_quote == pytest.approx(500.0, rel=1e-12)


def test_the_risk_aversion_behind_a_daily_limit_gives_that_band_back() -> None:
    seen = view(vol=0.6)
    limited = WhalleyWilmott(risk_aversion=DAILY)
    assert limited.known_risk_aversion_per_quote == 0.0
    direct = WhalleyWilmott(risk_aversion_per_quote=limited.risk_aversion_at(seen))
    assert direct.target(seen).high_base == pytest.approx(limited.target(seen).high_base, rel=1e-12)


@pytest.mark.parametrize("damage", [{"vol": math.nan}, {"vol": 0.0}, {"vol": 0.6, "spot_px": math.nan}])
@pytest.mark.parametrize("name", AVERSE)
def test_a_daily_limit_without_a_vol_holds(name: str, damage: dict[str, float]) -> None:
    policy = policy_from_spec(f"{name}:risk_aversion.daily_sd_quote=500")
    assert policy.target(view(**damage)).high_base == math.inf


@pytest.mark.parametrize("name", AVERSE)
@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({}, "found neither; hint"),
        ({"risk_aversion_per_quote": 3e-4, "risk_aversion": {"daily_sd_quote": 5.0}}, "found both; hint"),
        ({"risk_aversion": {}}, "found neither; hint"),
        ({"risk_aversion": {"pay_quote": 5.0}}, "found pay_quote; hint"),
        ({"risk_aversion": {"pay_quote": 5.0, "daily_sd_quote": 5.0}}, "found pay_quote and daily_sd_quote; hint"),
        ({"risk_aversion": {"daily_sd_quote": 0.0}}, "greater than 0"),
        ({"risk_aversion": {"daily_sd": 5.0}}, "not permitted"),
        ({"risk_aversion": {"pay_quote": 1.0, "to_remove_sd_quote": 1e200}}, "found 1 to be rid of 1e+200; hint"),
        ({"risk_aversion": {"pay_quote": 1.0, "to_remove_sd_quote": 1e-200}}, "found 1 to be rid of 1e-200; hint"),
    ],
)
def test_exactly_one_is_asked_for(name: str, words: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        POLICIES[name].model_validate({"type": name, **words})
    assert text in str(caught.value)


def test_on_the_command_line_words_replace_the_number_and_back() -> None:
    own = Impulse(risk_aversion_per_quote=2e-5, h0_floor=False)
    found = policy_from_spec("impulse:risk_aversion.daily_sd_quote=500", own)
    assert found == Impulse(risk_aversion=DAILY, h0_floor=False)
    back = policy_from_spec("impulse:risk_aversion_per_quote=2e-5", Impulse(risk_aversion=DAILY))
    assert back == Impulse(risk_aversion_per_quote=2e-5)
    words = "impulse:risk_aversion.pay_quote=150:risk_aversion.to_remove_sd_quote=1000"
    assert policy_from_spec(words) == Impulse(risk_aversion=PAY)
    assert policy_from_spec(policy_from_spec(words).spec) == Impulse(risk_aversion=PAY)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (
            "impulse:risk_aversion.pay_quote=5",
            "impulse:risk_aversion.pay_quote=5': risk_aversion: expected pay_quote and",
        ),
        ("impulse:risk_aversion_per_quote=1:risk_aversion.daily_sd_quote=5", "found both; hint"),
        ("impulse:risk_aversion=5", "found '5'"),
    ],
)
def test_a_bad_word_on_the_command_line_is_one_clear_sentence(spec: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        policy_from_spec(spec)
    (problem,) = caught.value.problems
    assert text in problem
    assert "Value error" not in problem
