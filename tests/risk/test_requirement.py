"""A requirement: its charges by name, and what it is in quote money."""

from __future__ import annotations

import pytest

from bot.risk.requirement import Charge, Requirement

REQUIREMENT = Requirement("house", "BTC", 0.5, 0.4, (Charge("roll", 0.1, 0.08),))


def test_a_charge_is_found_by_its_name() -> None:
    assert REQUIREMENT.charge("roll").initial == 0.1
    with pytest.raises(KeyError):
        REQUIREMENT.charge("basis")


def test_a_coin_requirement_is_worth_its_price() -> None:
    assert REQUIREMENT.in_quote(60_000.0) == (30_000.0, 24_000.0)
