"""The shape of a risk section: edges that are in order, and nothing that is not known."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from bot.runtime.configuration.risk_sections import MarginStatesSection, RiskSection


@pytest.mark.parametrize(
    "wrong",
    [
        {"watch_ratio": 0.85},
        {"critical_ratio": 0.98},
        {"act_probability": 0.2},
        {"critical_until_ratio": 0.95},
        {"critical_probability": 1.0},
    ],
)
def test_states_that_are_not_in_order_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        MarginStatesSection(**wrong)


@pytest.mark.parametrize(
    "section",
    [
        {"accounts": {}},
        {"accounts": {"a": {"model": "house"}}, "max_initial_ratio": 1.5},
        {"accounts": {"a": {"model": "house"}}, "slice_share": 0.5},
        {"accounts": {"a": {"model": "house"}}, "surprise": 1},
        {"accounts": {"a": {"model": "house"}}, "buffers": {"base_ratio": 1.0}},
        {"accounts": {"a": {"model": "house"}}, "series": [{"kind": "weather"}]},
        {"accounts": {"a": {"model": "house"}}, "transfers": {"day_caps": {"USDC": 0}}},
    ],
)
def test_what_makes_no_sense_is_refused(section: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RiskSection.model_validate(section)
