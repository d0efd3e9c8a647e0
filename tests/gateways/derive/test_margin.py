"""Derive's margin: what is left over, turned into what is asked."""

from __future__ import annotations

import pytest

from bot.domain.risk import ReportedMargin
from bot.gateways.derive.margin import read_margins

# Names as documented for private/get_subaccount; own numbers.
ONE = {
    "subaccount_id": 7,
    "subaccount_value": "1100",
    "collaterals_initial_margin": "1000",
    "collaterals_maintenance_margin": "1050",
    "initial_margin": "640",
    "maintenance_margin": "810",
    "open_orders_margin": "-25",
}


def test_what_is_left_over_is_taken_from_what_collateral_counts_for() -> None:
    (found,) = read_margins([ONE])
    assert found == ReportedMargin("", 1_050.0, 435.0, 240.0)
    assert found.equity_quote - found.maintenance_quote == pytest.approx(810.0)
    assert found.equity_quote - found.initial_quote == pytest.approx(640.0 - 25.0)


def test_several_subaccounts_are_parts_and_what_tells_nothing_is_none() -> None:
    bare = {"subaccount_id": 8, "subaccount_value": "5", "initial_margin": "5", "maintenance_margin": "5"}
    assert [one.scope for one in read_margins([ONE, bare, {"subaccount_id": 9}])] == ["7", "8"]
    assert read_margins([ONE, bare])[1] == ReportedMargin("8", 5.0, 0.0, 0.0)
    assert read_margins(None) == ()
