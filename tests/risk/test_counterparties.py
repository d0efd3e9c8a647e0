"""Counterparties: what they hold, how well they look, what follows; what is unknown is never good and always named."""

from __future__ import annotations

import json
from math import nan
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.risk import CounterpartySigns
from bot.domain.units import NS_PER_MIN
from bot.risk.counterparties import (
    PARTS,
    Action,
    CounterpartyParameters,
    Exposure,
    HedgeLost,
    Party,
    PartyKind,
    PartyRisk,
    action_of,
    along,
    expected_loss,
    exposure_at_default,
    judge,
    judge_groups,
    limit_of,
    of_issuers,
    replacement_cost,
    score_of,
    stressed_exposures,
    with_transfers,
)
from bot.risk.parameters import decode_parameters
from bot.risk.transfers import Lent

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = decode_parameters((ROOT / "bot/risk/parameter_sets/counterparties-2026-11-26.json").read_bytes())
PARAMETERS = msgspec.convert(SHIPPED.values, CounterpartyParameters)
[E1] = json.loads((Path(__file__).parent / "data" / "counterparty_ead_cases.json").read_text())["cases"]

OKX = Party(name="okx", standing_share=1.0)
HEALTHY = CounterpartySigns(
    party="okx",
    ts_event_ns=0,
    ts_recv_ns=0,
    withdrawals="working",
    fund_quote=100e6,
    fund_high_quote=100e6,
    open_interest_quote=4e9,
    deleverage_rank_share=0.0,
    api_error_share=0.0,
    perp_discount_share=0.0,
    reserves_age_days=10.0,
    reserves_coverage_ratio=1.1,
)


def points(signs: CounterpartySigns | None, party: Party = OKX, now_ns: int = 0) -> float:
    return score_of(party, signs, PARAMETERS, now_ns).points


def but(**changes: Any) -> CounterpartySigns:
    return msgspec.structs.replace(HEALTHY, **changes)


def exposure(**changes: Any) -> Exposure:
    held = {name: float(E1[name]) for name in ("cash", "upnl", "pending_withdrawals")}
    return Exposure(
        **{
            "party": "okx",
            "collateral": E1["collateral_at_venue"],
            "in_flight": E1["inflight_in"],
            "borrowed": E1["borrowed_from_venue"],
            **held,
            **changes,
        }
    )


def judged(
    held: Exposure, signs: CounterpartySigns | None = HEALTHY, equity: float = 100e6, before: Action = Action.NONE
) -> PartyRisk:
    score = score_of(OKX, signs, PARAMETERS, 0)
    return judge(OKX, held, score, equity, 4e9, before, PARAMETERS)


def test_the_case_of_the_design_to_the_unit() -> None:
    assert exposure_at_default(exposure()) == E1["EAD"]
    assert expected_loss(E1["EAD"], 0.02, 0.60) == pytest.approx(E1["expected_loss_pd2_lgd60"], abs=1e-9)
    risk = judged(exposure(), equity=10e6)  # a quarter of it is the case's limit of 2.5 m
    assert risk.limit_quote == pytest.approx(2.5e6)
    assert risk.is_over is E1["limit_2_5m_breach"]
    assert risk.action is Action.STOP_ADDING
    assert "3,600,000 at default" in risk.reason


def test_what_we_owe_is_not_exposure_and_what_we_win_is() -> None:
    assert exposure_at_default(exposure(borrowed=9e6)) == 0.0
    held = exposure(scenario_pnl=(-5e6, 0.0, 2e6))
    assert stressed_exposures(held) == (0.0, 3.6e6, 5.6e6)
    assert judged(held).stressed_quote == 5.6e6
    assert judged(held, equity=20e6).is_over  # only in the scenario


def test_hedges_lost_have_to_be_bought_again() -> None:
    week, hedge = 7 / 365, HedgeLost(-2e6, 0.0005, 0.6, 7 / 365)
    assert replacement_cost([hedge]) == pytest.approx(2e6 * (0.0005 + 0.6 * week**0.5))
    assert replacement_cost([hedge, hedge]) == pytest.approx(2 * replacement_cost([hedge]))
    with_hedge, without = judged(exposure(hedges=(hedge,))), judged(exposure())
    assert with_hedge.expected_loss_quote > without.expected_loss_quote
    assert with_hedge.replacement_quote == replacement_cost([hedge])


def test_a_healthy_venue_scores_all_points_and_its_parts_add_up() -> None:
    score = score_of(OKX, HEALTHY, PARAMETERS, 0)
    assert score.points == pytest.approx(100.0)
    assert score.unknown == ()
    assert {one.name: one.weight for one in score.parts} == PARAMETERS.weights
    assert tuple(one.name for one in score.parts) == PARTS


@pytest.mark.parametrize(
    ("value", "lost"),
    [
        ({"fund_quote": 70e6}, 10.0 + 15.0 * 0.5 / 3.0 * 0.5),  # the fund is smaller against OI too
        ({"deleverage_rank_share": 1.0}, 10.0),
        ({"perp_discount_share": 0.02}, 10.0),
        ({"api_error_share": 0.05}, 3.0),
        ({"reserves_age_days": 400.0}, 10.0),
        ({"reserves_coverage_ratio": 1.0}, 2.0),
    ],
)
def test_each_sign_costs_its_own_points(value: dict[str, float], lost: float) -> None:
    assert points(but(**value)) == pytest.approx(100.0 - lost)


def test_withdrawals_that_stopped_are_worse_than_their_points() -> None:
    assert points(but(withdrawals="suspended")) == 49.0  # 75 by points alone, and nothing would have been done
    assert action_of(points(but(withdrawals="failed")), Action.NONE, PARAMETERS) is Action.DRAIN
    assert action_of(points(but(withdrawals="slow")), Action.NONE, PARAMETERS) is Action.STOP_ADDING
    old = points(but(withdrawals="suspended"), now_ns=60 * NS_PER_MIN)
    assert old <= 49.0  # a stop that was seen holds until it is seen to be over


def test_what_is_unknown_counts_half_and_is_named() -> None:
    score = score_of(OKX, but(withdrawals="unknown", reserves_age_days=nan), PARAMETERS, 0)
    assert score.unknown == ("withdrawals", "reserves")
    assert score.points == pytest.approx(100.0 - 12.5 - 5.0)
    nobody = score_of(Party(name="x"), None, PARAMETERS, 0)
    assert nobody.unknown == PARTS
    assert nobody.points == pytest.approx(50.0)
    assert action_of(nobody.points, Action.NONE, PARAMETERS) is Action.STOP_ADDING
    old = score_of(OKX, HEALTHY, PARAMETERS, 16 * NS_PER_MIN)
    assert old.points == pytest.approx(55.0)
    assert "960 s old" in old.parts[0].detail
    odd = score_of(OKX, but(withdrawals="who knows", open_interest_quote=0.0), PARAMETERS, 0)
    assert odd.unknown == ("withdrawals", "fund")


def test_a_venue_that_never_shows_its_fund_is_judged_by_the_rest_and_limited_as_unknown() -> None:
    deribit = Party(name="deribit", standing_share=1.0)
    shown = but(party="deribit", fund_quote=nan, fund_high_quote=nan, deleverage_rank_share=nan)
    score = score_of(deribit, shown, PARAMETERS, 0)
    assert score.points == pytest.approx(100.0)
    assert score.unknown == ("fund", "fund_drawdown", "deleverage_rank")
    assert limit_of(score, 10e6, 4e9, PARAMETERS)[0] == 1.5e6
    silent = msgspec.structs.replace(shown, withdrawals="unknown", reserves_age_days=nan)
    assert points(silent, deribit) == pytest.approx(100.0 - (12.5 + 5.0) * 100 / 65)  # about 73: nothing is stopped
    assert points(silent, Party(name="deribit")) < 70.0  # unless nobody stands in for it
    assert points(shown, Party(name="another", standing_share=1.0)) == pytest.approx(100.0 - 17.5)


def test_issuers_and_bridges_are_judged_by_what_makes_sense_of_them() -> None:
    circle = Party(name="circle", kind=PartyKind.ISSUER, standing_share=1.0)
    signs = CounterpartySigns(
        party="circle",
        ts_event_ns=0,
        ts_recv_ns=0,
        perp_discount_share=0.0,
        reserves_age_days=20.0,
        reserves_coverage_ratio=1.1,
    )
    score = score_of(circle, signs, PARAMETERS, 0)
    assert (score.points, score.unknown) == (pytest.approx(100.0), ())
    off_peg = msgspec.structs.replace(signs, perp_discount_share=0.13)  # USDC in March 2023
    assert points(off_peg, circle) == pytest.approx(100.0 * 2 / 3)
    limit, reason = limit_of(score, 10e6, nan, PARAMETERS, PartyKind.ISSUER)
    assert (limit, "not everything" in reason) == (2.5e6, False)


def test_actions_come_at_once_and_go_with_a_margin() -> None:
    ask = [action_of(p, Action.NONE, PARAMETERS) for p in (100, 70, 69.9, 50, 49.9, 30, 29.9, nan)]
    assert ask == [
        *(Action.NONE, Action.NONE, Action.STOP_ADDING, Action.STOP_ADDING),
        *(Action.DRAIN, Action.DRAIN, Action.EXIT, Action.EXIT),
    ]
    assert action_of(72.0, Action.STOP_ADDING, PARAMETERS) is Action.STOP_ADDING
    assert action_of(75.0, Action.STOP_ADDING, PARAMETERS) is Action.NONE
    assert action_of(76.0, Action.EXIT, PARAMETERS) is Action.NONE
    assert action_of(52.0, Action.EXIT, PARAMETERS) is Action.DRAIN


def test_a_limit_is_the_least_of_its_bounds_and_says_which() -> None:
    whole = score_of(OKX, HEALTHY, PARAMETERS, 0)
    assert limit_of(whole, 10e6, 4e9, PARAMETERS) == (2.5e6, "25% of equity")
    assert limit_of(whole, 10e6, 20e6, PARAMETERS) == (1e6, "5% of the venue's open interest")
    limit, reason = limit_of(whole, 10e6, nan, PARAMETERS)
    assert (limit, reason) == (1.5e6, "15% of equity, not everything being known")
    poor = score_of(OKX, but(withdrawals="suspended"), PARAMETERS, 0)
    limit, reason = limit_of(poor, 10e6, 4e9, PARAMETERS)
    assert limit == pytest.approx(along(PARAMETERS.score_share, 49.0) * 10e6)
    assert "by its score 49" in reason
    assert limit_of(whole, nan, 4e9, PARAMETERS)[0] == 0.0
    assert limit_of(whole, -1.0, 4e9, PARAMETERS)[0] == 0.0


def test_an_exposure_that_is_no_number_is_over_any_limit() -> None:
    for broken in (exposure(upnl=nan), exposure(scenario_pnl=(nan,)), exposure(hedges=(HedgeLost(nan, 0, 0, 0),))):
        risk = judged(broken)
        assert risk.is_over
        assert risk.action is Action.STOP_ADDING
        assert "not a number" in risk.reason


def test_groups_fail_together() -> None:
    parties = [Party(name=name, group=group) for name, group in (("a", "g"), ("b", "g"), ("c", ""))]
    score = score_of(OKX, HEALTHY, PARAMETERS, 0)
    risks = {
        party.name: judge(party, Exposure(party=party.name, cash=3e6), score, 14e6, 4e9, Action.NONE, PARAMETERS)
        for party in parties
    }
    assert not any(risk.is_over for risk in risks.values())
    [group] = judge_groups(parties, risks, 14e6, PARAMETERS)
    assert (group.parties, group.ead_quote, group.limit_quote, group.is_over) == (
        ("a", "b"), 6e6, pytest.approx(5.6e6), True
    )  # fmt: skip
    assert judge_groups(parties, risks, nan, PARAMETERS)[0].is_over


def test_what_is_under_way_is_added_to_everybody_it_could_be_lost_with() -> None:
    lent = [
        Lent("okx", "pending_withdrawal", "ETH", 10.0, "run-T1"),
        Lent("deribit", "in_flight", "ETH", 10.0, "run-T1"),
        Lent("bridge", "bridge", "ETH", 10.0, "run-T1"),
    ]
    found = {one.party: one for one in with_transfers([Exposure(party="okx", cash=5.0)], lent, {"ETH": 2_000.0})}
    assert {name: exposure_at_default(one) for name, one in found.items()} == {
        "okx": 20_005.0, "deribit": 20_000.0, "bridge": 20_000.0
    }  # fmt: skip
    with pytest.raises(ValueError, match="expected a price of ETH"):
        with_transfers([], lent, {})


def test_an_issuer_owes_its_tokens_wherever_they_lie() -> None:
    held = {("okx", "USDC"): 1e6, ("wallet", "USDC"): 2e6, ("okx", "USDT"): 5e6, ("okx", "ETH"): 9e6}
    owed = {one.party: exposure_at_default(one) for one in of_issuers(held, {"USDC": "circle", "USDT": "tether"})}
    assert owed == {"circle": 3e6, "tether": 5e6}


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("weights", {"withdrawals": 100.0}, "that add up to 100"),
        ("weights", dict.fromkeys(PARTS, 1.0), "that add up to 100"),
        ("fund_drawdown", [[0.3, 0.0], [0.0, 1.0]], "rising knots of fund_drawdown"),
        ("drain_below", 10.0, "exit_below ≤ drain_below"),
        ("parts_of", {"venue": ["luck"]}, "the parts that make the score of venue"),
        ("unpublished", {"x": list(PARTS)}, "expected x to show something"),
    ],
)
def test_parameters_that_cannot_be_are_one_clear_error(field: str, value: object, says: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=says):
        msgspec.convert({**SHIPPED.values, field: value}, CounterpartyParameters)


@settings(max_examples=100, deadline=None)
@given(
    st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.sampled_from(["deleverage_rank_share", "api_error_share",
    "perp_discount_share"]), st.sampled_from(["working", "slow", "suspended", "unknown"]),
)  # fmt: skip
def test_a_worse_sign_never_scores_better(low: float, high: float, sign: str, word: str) -> None:
    better, worse = sorted((low, high))
    assert points(but(withdrawals=word, **{sign: worse})) <= points(but(withdrawals=word, **{sign: better})) + 1e-12
    assert 0.0 <= points(but(withdrawals=word, **{sign: worse})) <= 100.0
