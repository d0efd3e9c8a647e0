"""Problems: read from JSON, and refused in one sentence where they cannot be."""

from __future__ import annotations

from math import inf, nan

import msgspec
import pytest

from bot.risk.collateral.problem import (
    Acceptance,
    Asset,
    Cap,
    CollateralProblem,
    Holding,
    Need,
    Route,
    Tier,
    Venue,
    check_problem,
    decode_problem,
)
from tests.risk.collateral.instances import cheapest_to_deliver

GOOD = cheapest_to_deliver()
ROUTE = GOOD.routes[0]


def test_a_problem_is_the_same_after_json() -> None:
    text = msgspec.json.encode(GOOD)
    assert decode_problem(text) == GOOD


def test_a_text_without_a_problem_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a collateral problem in JSON, found"):
        decode_problem("{}")


def replaced(name: str, value: object) -> CollateralProblem:
    return msgspec.structs.replace(GOOD, **{name: value})


def plus(name: str, *more: object) -> CollateralProblem:
    return replaced(name, (*getattr(GOOD, name), *more))


@pytest.mark.parametrize(
    ("problem", "found"),
    [
        (plus("assets", Asset(name="X", px=nan)), "expected a finite px of X, found nan"),
        (plus("assets", Asset(name="X", px=0.0)), "expected a price above zero as px of X"),
        (plus("acceptances", Acceptance(venue="HL", asset="BTC", px=nan)), "a finite px of BTC at HL, found nan"),
        (plus("holdings", Holding("HL", "BTC", -1.0)), "expected amount of BTC at HL not to be negative, found -1"),
        (plus("holdings", Holding("FTX", "BTC", 1.0)), "a holding of BTC, found FTX; hint: one of DERIBIT, HL"),
        (plus("holdings", Holding("HL", "SHIB", 1.0)), "an asset that is listed in a holding at HL, found SHIB"),
        (plus("holdings", GOOD.holdings[0]), "expected every holding once"),
        (plus("venues", Venue(name="HL")), "expected every place once, found HL twice"),
        (plus("routes", ROUTE), "expected every route once, found USDC@DERIBIT twice"),
        (
            plus("routes", msgspec.structs.replace(ROUTE, name="x", to_place="bridge")),
            "a place that is listed in route x, found bridge",
        ),
        (plus("routes", msgspec.structs.replace(ROUTE, name="x", from_place="DERIBIT")), "expected route x to lead"),
        (plus("routes", msgspec.structs.replace(ROUTE, name="x", delay_p50_s=9.0)), "a p95 delay of route x"),
        (
            plus("routes", msgspec.structs.replace(ROUTE, name="x", fee_bps=1e4)),
            "expected route x to take less than all",
        ),
        (plus("routes", msgspec.structs.replace(ROUTE, name="x", gas=0.1)), "expected a gas asset of wallet"),
        (plus("caps", Cap(name="g", most_quote=1.0, carriers=("tron",))), "expected a carrier that is listed in cap g"),
        (plus("needs", Need(venue="FTX", maintenance_quote=(1.0,), pnl_quote=(0.0,))), "in a need, found FTX"),
        (plus("needs", Need(venue="HL", maintenance_quote=(nan,), pnl_quote=(0.0,))), "finite maintenance_quote of HL"),
        (plus("needs", Need(venue="HL", maintenance_quote=(1.0, 2.0), pnl_quote=(0.0,))), "needs of HL for each of 1"),
        (replaced("buffer", 0.9), "expected a buffer of at least 1"),
        (replaced("horizons_s", (0.0, inf)), "expected a finite multipliers and horizons of the problem"),
        (replaced("multipliers", {"BTC": (1.0, 2.0)}), "expected multipliers of BTC for each of 1 scenarios, found 2"),
        (replaced("scenarios", ()), "expected at least one scenario"),
        (
            plus("acceptances", Acceptance(venue="HL", asset="BTC", px=1.0, tiers=(Tier(5.0, 0.2), Tier(9.0, 0.1)))),
            "expected haircuts of BTC at HL that grow",
        ),
        (
            plus("acceptances", Acceptance(venue="HL", asset="BTC", px=1.0, tiers=(Tier(None, 0.2), Tier(9.0, 0.3)))),
            "expected tiers of BTC at HL to reach ever further",
        ),
        (
            plus("acceptances", Acceptance(venue="HL", asset="BTC", px=1.0, share=1.5)),
            "expected a share of BTC at HL of at most 1, found 1.5",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(problem: CollateralProblem, found: str) -> None:
    with pytest.raises(ValueError, match=found) as raised:
        check_problem(problem)
    assert "\n" not in str(raised.value)


def test_a_route_is_between_places_that_are_listed_so_no_other_address_can_be_meant() -> None:
    stranger = Route(name="x", asset="USDC", from_place="wallet", to_place="0xdead", carrier="ethereum")
    with pytest.raises(ValueError, match="found 0xdead"):
        check_problem(plus("routes", stranger))
