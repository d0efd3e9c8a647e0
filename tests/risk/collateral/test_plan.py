"""Plans as commands: what is needed first goes first, savings go last; and a plan is the same after JSON."""

from __future__ import annotations

import msgspec
import pytest

from bot.domain.risk import TransferCollateral
from bot.risk.collateral.plan import (
    CollateralPlan,
    Transfer,
    Violation,
    decode_plan,
    encode_plan,
    in_order,
    instructions,
)


def transfer(route: str, needed_by_s: float | None, cost_quote: float) -> Transfer:
    return Transfer(
        route=route,
        asset="USDC",
        amount=100.0,
        value_quote=100.0,
        from_place="wallet",
        to_place="OKX",
        carrier="tron",
        arrives_amount=99.0,
        delay_p50_s=60.0,
        delay_p95_s=240.0,
        needed_by_s=needed_by_s,
        fees_quote=1.0,
        cost_quote=cost_quote,
        reason=f"because of {route}",
    )


PLAN = CollateralPlan(
    method="lp",
    is_met=False,
    is_proven=True,
    cost_quote=12.0,
    cost_as_is_quote=3.0,
    transfers=(transfer("saves", None, -5.0), transfer("dear", 600.0, 9.0), transfer("cheap", 600.0, 2.0)),
    postings=(),
    violations=(
        Violation(venue="HL", at_s=0.0, scenario="s", short_quote=4.0, binding=("no route leads there",), text="HL"),
        Violation(venue="HL", at_s=600.0, scenario="s", short_quote=3.0, binding=(), text="HL"),
    ),
)


def test_the_first_need_comes_first_the_cheapest_before_others_and_savings_last() -> None:
    late, now = transfer("late", 3600.0, 0.1), transfer("now", 0.0, 50.0)
    ordered = in_order((*PLAN.transfers, late, now))
    assert [one.route for one in ordered] == ["now", "cheap", "dear", "late", "saves"]


def test_instructions_are_commands_with_times_and_reasons() -> None:
    first, second, third = instructions(PLAN, "plan-7")
    assert first.command == TransferCollateral("plan-7-1", "USDC", 100.0, "wallet", "OKX", "cheap", "because of cheap")
    assert (first.expected_s, first.late_after_s, first.arrives_amount) == (60.0, 240.0, 99.0)
    assert [one.command.transfer_id for one in (second, third)] == ["plan-7-2", "plan-7-3"]
    assert third.needed_by_s is None


def test_a_plan_is_the_same_after_json_and_nothing_else_is_one() -> None:
    assert decode_plan(encode_plan(PLAN)) == PLAN
    assert msgspec.json.decode(encode_plan(PLAN))["violations"][0]["binding"] == ["no route leads there"]
    with pytest.raises(ValueError, match="expected a collateral plan in JSON, found"):
        decode_plan('{"method": "lp"}')


def test_what_is_missing_is_summed() -> None:
    assert PLAN.short_quote == 7.0
