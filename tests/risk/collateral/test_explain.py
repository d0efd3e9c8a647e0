"""Plans in words: what a transfer is for, what stands in the way of more, what a dollar more would cost."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bot.risk.collateral.check import evaluate
from bot.risk.collateral.explain import (
    explain_excesses,
    explain_marginals,
    explain_postings,
    explain_transfers,
    explain_violations,
)
from bot.risk.collateral.problem import CollateralProblem, Holding, Route
from bot.risk.collateral.program import build_program
from bot.risk.collateral.tables import build_tables
from tests.risk.collateral.instances import case, cheapest_to_deliver, transfers_in_lots


def sent_as_published() -> np.ndarray:
    allocation = case()["optimum"]["allocation_usd"]
    return np.array([allocation[route.name] for route in cheapest_to_deliver().routes])


def test_every_transfer_says_what_would_be_missing_without_it() -> None:
    tables = build_tables(cheapest_to_deliver())
    transfers = explain_transfers(tables, evaluate(tables, sent_as_published()))
    assert [one.route for one in transfers] == ["BTC@DERIBIT", "wstETH@DERIBIT", "BTC@OKX", "USDC@HL"]
    assert transfers[2].amount == pytest.approx(15.463918, abs=1e-6)
    assert transfers[2].cost_quote == pytest.approx(927_835.0515 * 0.011, abs=0.01)
    assert transfers[2].needed_by_s == 0.0
    assert transfers[2].reason == (
        "OKX would lack 900,000.00 now in scenario as it is; BTC counts 97.0% there in the worst scenario;"
        " 1.13% per dollar counted, against 5.10% by USDC@OKX; 15.46391752 BTC over ethereum within 0 s (p95);"
        " fees 0.00, in all 10,206.19 over 365 days"
    )


def test_a_transfer_that_only_saves_cost_says_how_much() -> None:
    problem = cheapest_to_deliver()
    back = Route(name="home", asset="BTC", from_place="HL", to_place="wallet", carrier="ethereum", fee_bps=1.0)
    idle = msgspec.structs.replace(problem, routes=(back,), holdings=(Holding("HL", "BTC", 1.0),), needs=())
    tables = build_tables(idle)
    (found,) = explain_transfers(tables, evaluate(tables, np.array([60_000.0])))
    assert found.needed_by_s is None
    # 1.3 % a year on 60,000 less one basis point
    assert found.cost_quote == pytest.approx(6.0 - 780.0)
    assert "it saves 774.00 to have it there" in found.reason
    assert "in all 774.00 saved over 365 days" in found.reason
    assert found.arrives_amount == pytest.approx(0.9999)


def test_postings_say_what_counts() -> None:
    tables = build_tables(cheapest_to_deliver())
    postings = explain_postings(tables, evaluate(tables, sent_as_published()))
    assert {(one.venue, one.asset): round(one.counted_quote) for one in postings} == {
        ("DERIBIT", "BTC"): 828_557,
        ("DERIBIT", "wstETH"): 371_443,
        ("OKX", "BTC"): 900_000,
        ("HL", "USDC"): 600_000,
    }


def in_the_way(problem: CollateralProblem, sent: list[float]) -> dict[str, tuple[str, ...]]:
    """Return what is in the way of each venue, at the first horizon at which it is short."""
    tables = build_tables(problem)
    found = explain_violations(tables, evaluate(tables, np.array(sent)))
    return {one.venue: one.binding for one in reversed(found)}


def test_what_is_missing_is_named_with_what_is_in_the_way() -> None:
    problem = cheapest_to_deliver()
    tables = build_tables(problem)
    found = explain_violations(tables, evaluate(tables, np.array([0.0, 0.0, 500_000.0, 0.0, 1_000_000.0, 800_000.0])))
    assert [one.venue for one in found] == ["DERIBIT"]
    assert found[0].short_quote == pytest.approx(1_200_000.0)  # wstETH alone is over its share, and counts nothing
    assert found[0].text.startswith("DERIBIT is 1,200,000.00 short now in scenario as it is: ")
    assert found[0].binding == (
        "wstETH counts for at most 40% of what is counted there",
        "more USDC, BTC from wallet would still help",
    )


@pytest.mark.parametrize(
    ("changed", "sent", "words"),
    [
        ({"cap_quote": 100_000.0}, [0.0, 0.0, 0.0, 0.0, 0.0, 100_000.0], "the cap of HL is full"),
        ({}, [0.0, 1_500_000.0, 0.0, 1_000_000.0, 0.0, 500_000.0], "HL-route takes no more than 500,000 USDC"),
        ({}, [1_400_000.0, 0.0, 0.0, 1_000_000.0, 0.0, 500_000.0], "HL-route takes no more than 500,000 USDC"),
    ],
)
def test_caps_and_limits_are_named(changed: dict[str, float], sent: list[float], words: str) -> None:
    problem = cheapest_to_deliver()
    venues = (*problem.venues[:2], msgspec.structs.replace(problem.venues[2], **changed))
    routes = (*problem.routes[:5], msgspec.structs.replace(problem.routes[5], name="HL-route", most=500_000.0))
    limited = msgspec.structs.replace(problem, venues=venues, routes=routes)
    assert in_the_way(limited, sent)["HL"] == (words,)


def test_what_is_slow_sold_out_or_not_counted_is_named() -> None:
    problem = transfers_in_lots()
    found = in_the_way(problem, [50_000.0, 150_000.0, 50_000.0, 100_000.0, 0.0])
    assert found == {}
    short = in_the_way(problem, [200_000.0, 50_000.0, 0.0, 0.0, 0.0])
    assert short["URGENT"] == ("all USDC that may leave fast is sent", "other routes take 1800 s and more")
    alone = msgspec.structs.replace(problem, routes=problem.routes[4:])
    assert in_the_way(alone, [0.0])["URGENT"] == ("no route takes less than 1800 s",)
    assert in_the_way(alone, [0.0])["LATER"] == ("no route leads there",)
    uncounted = msgspec.structs.replace(problem, acceptances=problem.acceptances[1:])
    assert in_the_way(uncounted, [0.0] * 5)["URGENT"] == ("not counted there: USDC",)


def test_a_place_that_needs_it_itself_is_named() -> None:
    problem = cheapest_to_deliver()
    holdings = (Holding("OKX", "BTC", 15.463918),)
    routes = (msgspec.structs.replace(problem.routes[1], from_place="OKX"),)
    found = in_the_way(msgspec.structs.replace(problem, holdings=holdings, routes=routes), [0.0])
    assert found == {"DERIBIT": ("OKX needs its BTC itself",), "HL": ("no route leads there",)}


def test_what_stays_over_a_cap_is_named() -> None:
    problem = cheapest_to_deliver()
    full = msgspec.structs.replace(problem, holdings=(Holding("HL", "BTC", 20.0),), routes=(), needs=())
    tables = build_tables(full)
    (found,) = explain_excesses(tables, evaluate(tables, np.zeros(0)))
    assert found.over_quote == 400_000.0
    assert found.text == "HL stays 400,000.00 over its cap of 800,000: no way out is open for more"


def test_marginals_become_sentences() -> None:
    program = build_program(build_tables(cheapest_to_deliver()))
    marginals = np.zeros(len(program.rows))
    marginals[2] = -0.053 / program.cost_unit
    names = [row.kind for row in program.rows]
    marginals[names.index("stock") + 1] = -0.001556 / program.cost_unit
    marginals[names.index("share")] = -0.002 / program.cost_unit
    marginals[names.index("cap")] = -0.001 / program.cost_unit
    assert [one.text for one in explain_marginals(program, marginals)] == [
        "1,000 more required at HL would cost 53.00 over 365 days (decided now in scenario as it is)",
        "1,000 more of wstETH at DERIBIT allowed to count would save 2.00 over 365 days",
        "1,000 more of BTC at wallet would save 1.56 over 365 days",
        "1,000 more room under the cap DERIBIT would save 1.00 over 365 days",
    ]
