"""From problem to plan: published case, scenario case on a grid, random ones beside every way there is, cut off."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest

from bot.risk.collateral.plan import CollateralPlan, decode_plan, encode_plan
from bot.risk.collateral.problem import (
    Acceptance,
    Asset,
    Cap,
    CollateralProblem,
    Holding,
    Need,
    Pending,
    Route,
    Venue,
    Wallet,
)
from bot.risk.collateral.rounds import solve_in_rounds
from bot.risk.collateral.solving import solve
from bot.risk.collateral.tables import build_tables
from tests.risk.collateral.brute import best_in_lots, count
from tests.risk.collateral.instances import (
    SHOCKS,
    case,
    cheapest_to_deliver,
    random_problem,
    short_perps_and_a_short_strangle,
    transfers_in_lots,
    with_stock,
)


def amounts(plan: CollateralPlan) -> dict[str, float]:
    return {one.route: one.amount for one in plan.transfers}


def test_co1_is_solved_to_its_tolerance_with_its_shadow_prices() -> None:
    published = case()
    plan = solve(cheapest_to_deliver())
    assert (plan.method, plan.is_met, plan.is_proven) == ("lp", True, True)
    assert plan.cost_quote == pytest.approx(published["optimum"]["annual_cost_usd"], abs=published["tolerance_usd"])
    assert plan.cost_quote < published["brute_force"]["annual_cost_usd"]
    prices = {(one.kind, one.name): one.quote_per_quote for one in plan.shadow_prices}
    duals = published["duals"]
    assert prices == pytest.approx(
        {
            ("need", "HL"): -duals["req_HL"],
            ("need", "OKX"): -duals["req_OKX"],
            ("need", "DERIBIT"): -duals["req_DERIBIT"],
            ("stock", "BTC at wallet"): -duals["inv_BTC"],
        },
        abs=2e-6,
    )
    assert decode_plan(encode_plan(plan)) == plan


def test_co1_on_a_grid_is_never_cheaper() -> None:
    problem = cheapest_to_deliver()
    best = min(
        (found.cost, btc, steth)
        for btc in range(860_000, 890_000, 10_000)
        for steth in range(390_000, 440_000, 10_000)
        for found in [
            count(
                problem,
                {
                    "BTC@DERIBIT": btc / 6e4,
                    "wstETH@DERIBIT": steth / 3500.0,
                    "BTC@OKX": 9e5 / 0.97 / 6e4,
                    "USDC@HL": 6e5,
                },
            )
        ]
        if found.is_allowed and found.short == 0.0
    )
    assert best == pytest.approx((case()["brute_force"]["annual_cost_usd"], 870_000, 420_000), abs=0.01)
    assert solve(problem).cost_quote < best[0]


@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_small_accounts_and_huge_ones_are_solved_as_well(factor: float) -> None:
    problem = with_stock(cheapest_to_deliver(), factor)
    needs = tuple(
        msgspec.structs.replace(one, maintenance_quote=(one.maintenance_quote[0] * factor,)) for one in problem.needs
    )
    venues = tuple(msgspec.structs.replace(one, cap_quote=(one.cap_quote or 0.0) * factor) for one in problem.venues)
    plan = solve(msgspec.structs.replace(problem, needs=needs, venues=venues))
    assert plan.is_met
    assert plan.is_proven
    assert plan.cost_quote / factor == pytest.approx(case()["optimum"]["annual_cost_usd"], rel=2e-5)


def test_co2_is_solved_in_whole_lots() -> None:
    problem = transfers_in_lots()
    plan = solve(problem)
    assert (plan.method, plan.is_met, plan.is_proven) == ("milp", True, True)
    assert plan.cost_quote == pytest.approx(count(problem, amounts(plan)).cost, rel=1e-9)
    assert amounts(plan) == {"fast-urgent": 200_000.0, "fast-later": 50_000.0, "slow-later": 100_000.0}
    assert [one.needed_by_s for one in plan.transfers] == [600.0, 3600.0, 3600.0]


def dollars_beside(problem: CollateralProblem, venue: str, eth: np.ndarray) -> np.ndarray:
    """Return the dollars a venue needs beside each amount of ETH, over all shocks."""
    (need,) = [one for one in problem.needs if one.venue == venue]
    credit = 0.95 * 2000.0 * eth[:, None] * (1.0 + np.array(SHOCKS))
    asked = 1.25 * np.array(need.maintenance_quote) - np.array(need.pnl_quote)
    return np.maximum((asked - credit).max(axis=1), 0.0)


def test_co3_is_the_least_of_a_grid() -> None:
    for stock in (150.0, 900.0):
        problem = short_perps_and_a_short_strangle(stock)
        plan = solve(problem)
        assert (plan.method, plan.is_met, plan.is_proven) == ("lp", True, True)
        eth = np.arange(0.0, 400.0, 0.25)
        cost = {
            venue: 0.028 * 2000.0 * eth + 0.035 * dollars_beside(problem, venue, eth) for venue in ("PERPS", "OPTIONS")
        }
        total = cost["PERPS"][:, None] + cost["OPTIONS"][None, :]
        total[eth[:, None] + eth[None, :] > stock] = np.inf
        at = np.unravel_index(int(total.argmin()), total.shape)
        assert total[at] - 0.25 * 2.0 * 60.0 <= plan.cost_quote <= total[at] + 0.01
        sent = amounts(plan)
        posted = [sent.get("ETH@PERPS", 0.0), sent.get("ETH@OPTIONS", 0.0)]
        if stock < 200.0:  # too little for both, who count it alike: any share is as good
            assert sum(posted) == pytest.approx(stock)
        else:
            assert posted == pytest.approx([float(eth[n]) for n in at], abs=0.3)


def test_co3_eth_is_good_beside_short_perps_and_wrong_way_beside_a_short_strangle_beyond_a_limit() -> None:
    problem = short_perps_and_a_short_strangle()
    sent = amounts(solve(problem))
    (strangle,) = [one for one in problem.needs if one.venue == "OPTIONS"]
    down, up = (1.25 * strangle.maintenance_quote[k] - strangle.pnl_quote[k] for k in (0, -1))
    limit = (up - down) / (0.95 * 2000.0 * (1.24 - 0.76))  # beyond it the fall, in which ETH is worth 0.76, decides
    assert sent["ETH@OPTIONS"] == pytest.approx(limit, abs=1e-3)
    # dollars that one ETH more saves, before and beyond
    around = dollars_beside(problem, "OPTIONS", np.array([limit - 2.0, limit - 1.0, limit + 1.0, limit + 2.0]))
    assert around[0] - around[1] == pytest.approx(0.95 * 2000.0 * 1.24)
    assert around[2] - around[3] == pytest.approx(0.95 * 2000.0 * 0.76)
    # beside short perps it is worth 1.24 where it is needed, all the way, and no dollar is
    assert "USDC@PERPS" not in sent
    assert sent["ETH@PERPS"] == pytest.approx(dollars_beside(problem, "PERPS", np.zeros(1))[0] / (1900.0 * 1.24))


def small_in_lots(seed: int, need_share: float) -> CollateralProblem:
    """Return a problem of five routes in lots, so that every way can be counted."""
    rng = np.random.default_rng(seed)
    problem = random_problem(
        rng, venues=2, assets=2, chains=1, scenarios=3, has_fees=True, need_share=need_share, horizons_s=(0.0, 1800.0)
    )
    inward = [one for one in problem.routes if one.from_place.startswith("wallet")]
    outward = [one for one in problem.routes if one not in inward]
    picked = [*inward, *(outward[n] for n in rng.permutation(len(outward)))][:5]
    if seed % 2:
        wide = tuple(msgspec.structs.replace(one, cap_quote=None) for one in problem.venues)
        problem = msgspec.structs.replace(problem, venues=wide, caps=())
    stock = {(one.place, one.asset): one.amount for one in problem.holdings}
    routes = tuple(
        msgspec.structs.replace(
            one,
            lot=float(stock[one.from_place, one.asset] / rng.uniform(2.2, 4.8)),
            delay_p50_s=60.0,
            delay_p95_s=900.0,
        )
        for one in picked
    )
    return msgspec.structs.replace(problem, routes=routes)


@pytest.mark.parametrize(
    ("seed", "is_met"),
    [(0, False), (1, True), (2, True), (3, True), (4, False), (5, False), (6, False), (11, True)],
)
def test_random_lots_are_the_best_of_every_way(seed: int, *, is_met: bool) -> None:
    problem = small_in_lots(seed, (0.15, 0.25, 0.6)[seed % 3])
    plan = solve(problem, time_limit_s=20.0)
    best = best_in_lots(problem)
    assert (plan.is_proven, plan.is_met) == (True, is_met)
    assert plan.short_quote == pytest.approx(best.short, rel=1e-6, abs=1.0)
    assert sum(one.over_quote for one in plan.excesses) == pytest.approx(best.over, rel=1e-6, abs=1.0)
    assert plan.cost_quote == pytest.approx(best.cost, rel=1e-5, abs=0.1)
    assert bool(plan.violations or plan.excesses) is not is_met


@pytest.mark.parametrize("seed", range(4))
def test_random_amounts_are_the_least_of_a_grid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(
        rng, venues=2, assets=2, chains=1, scenarios=3, need_share=(0.35, 0.9)[seed % 2], horizons_s=(0.0, 3600.0)
    )
    picked = [one for one in problem.routes if one.from_place.startswith("wallet")][:3]
    routes = tuple(msgspec.structs.replace(one, delay_p50_s=60.0, delay_p95_s=900.0) for one in picked)
    problem = msgspec.structs.replace(problem, routes=routes)
    plan = solve(problem)
    stock = {(one.place, one.asset): one.amount for one in problem.holdings}
    steps = [np.linspace(0.0, stock[one.from_place, one.asset], 9) for one in routes]
    ways = [count(problem, dict(zip((r.name for r in routes), way, strict=True))) for way in itertools.product(*steps)]
    allowed = [one for one in ways if one.is_allowed]
    least = min(one.short for one in allowed)
    step = max(float(one[1]) * p.px for one, r in zip(steps, routes, strict=True) for p in problem.assets
               if p.name == r.asset and p.px)  # fmt: skip
    assert plan.is_proven
    assert least - 9.0 * step - 1.0 <= plan.short_quote <= least + 0.1
    ours = count(problem, amounts(plan))
    assert ours.is_allowed
    assert ours.short == pytest.approx(plan.short_quote, rel=1e-6, abs=1.0)
    no_shorter = [one.cost for one in allowed if one.short <= plan.short_quote + 0.1]
    assert plan.cost_quote <= min(no_shorter, default=np.inf) + 0.1


def test_what_cannot_be_met_is_the_smallest_violation_and_named() -> None:
    plan = solve(with_stock(cheapest_to_deliver(), 0.3))
    assert (plan.is_met, plan.is_proven, plan.method) == (False, True, "lp")
    # 900,000 of dollars, 9 BTC and 150 wstETH count at most 0.97 and 0.9; 2,700,000 are needed
    best = 900_000.0 + 0.97 * 540_000.0 + 0.9 * 525_000.0
    assert plan.short_quote == pytest.approx(2_700_000.0 - best, abs=1.0)
    assert plan.least_short_quote == plan.short_quote
    texts = [one.text for one in plan.violations]
    assert all(" short now in scenario as it is: all " in words for words in texts)
    assert any("USDC that may leave wallet is sent" in words for words in texts)
    assert [one.text for one in plan.shadow_prices][:2] == [
        "1,000 more of USDC at wallet would leave 1,000.00 less missing",
        "1,000 more of BTC at wallet would leave 970.00 less missing",
    ]


def test_a_solver_that_is_cut_off_leaves_the_greedy_plan_and_says_so() -> None:
    problem = random_problem(np.random.default_rng(1), venues=6, assets=6, chains=4, scenarios=15)
    whole = solve(problem, time_limit_s=20.0)
    assert (whole.method, whole.is_met) == ("lp", True)
    cut = solve(problem, time_limit_s=1e-6)
    assert (cut.method, cut.is_met, cut.is_proven) == ("greedy", True, False)
    assert cut.notes == ("the solver gave no answer (stopped, limit 1e-06 s): the plan is the greedy one",)
    slow = count(problem, amounts(cut))
    assert (slow.is_allowed, slow.short, slow.over) == (True, 0.0, 0.0)
    assert whole.cost_quote <= cut.cost_quote


def test_a_cut_off_solver_with_too_little_for_everybody_names_a_violation_no_smaller_than_the_least() -> None:
    problem = random_problem(np.random.default_rng(2), venues=4, assets=4, chains=2, scenarios=7, need_share=1.2)
    least = solve(problem, time_limit_s=20.0)
    cut = solve(problem, time_limit_s=1e-6)
    assert cut.method == "greedy"
    assert not cut.is_met
    assert cut.least_short_quote <= least.short_quote + 1.0
    assert least.short_quote <= cut.short_quote + 1.0
    assert count(problem, amounts(cut)).is_allowed
    assert all(one.binding for one in cut.violations)


def test_a_search_that_is_cut_off_is_no_worse_than_rounds_of_linear_programs() -> None:
    problem = random_problem(
        np.random.default_rng(3), venues=3, assets=4, chains=2, scenarios=9, has_fees=True, lot=5_000.0
    )
    plan = solve(problem, time_limit_s=0.5)  # whole takes seconds
    rounds = solve_in_rounds(build_tables(problem), time_limit_s=20.0).outcome
    assert rounds is not None
    assert plan.is_met
    if plan.method != "greedy":  # which a busy machine may leave time for only
        assert plan.cost_quote <= rounds.cost_quote + 0.01
    assert (plan.notes == ()) is plan.is_proven


def test_more_routes_with_fees_than_can_be_searched_are_cut_to_the_likeliest() -> None:
    problem = random_problem(np.random.default_rng(3), venues=4, assets=6, chains=6, scenarios=3, has_fees=True)
    plan = solve(problem, time_limit_s=1.0)
    assert plan.is_met
    assert not plan.is_proven
    assert plan.notes[0].startswith("more fees, minimums and lots than can be searched: ")
    assert count(problem, amounts(plan)).is_allowed


ONE = CollateralProblem(
    assets=(Asset(name="USDC", px=1.0, yield_per_year=0.04),),
    venues=(Venue(name="V", cap_quote=1_000.0),),
    wallets=(Wallet(name="hot", chain="tron"),),
    acceptances=(Acceptance(venue="V", asset="USDC", px=1.0),),
    holdings=(Holding("hot", "USDC", 2_000.0),),
    routes=(
        Route(
            name="t", asset="USDC", from_place="hot", to_place="V", carrier="tron", delay_p50_s=60.0, delay_p95_s=600.0
        ),
    ),
    needs=(Need(venue="V", maintenance_quote=(800.0,), pnl_quote=(0.0,), by_s=600.0),),
    buffer=1.0,
)


def test_what_is_on_its_way_fills_a_cap_and_counts_when_it_is_late() -> None:
    assert amounts(solve(ONE)) == pytest.approx({"t": 800.0})
    soon = Pending(asset="USDC", amount=500.0, to_place="V", carrier="tron", arrives_s=600.0)
    assert amounts(solve(msgspec.structs.replace(ONE, pending=(soon,)))) == pytest.approx({"t": 300.0})
    late = msgspec.structs.replace(soon, arrives_s=601.0)
    plan = solve(msgspec.structs.replace(ONE, pending=(late,)))
    assert amounts(plan) == pytest.approx({"t": 500.0})  # 800 would be 1,300 there in the end
    assert [one.text for one in plan.violations] == [
        "V is 300.00 short in 10 min in scenario as it is: the cap of V is full"
    ]


def test_a_bridge_has_its_cap_and_a_route_that_is_late_does_not_exist() -> None:
    capped = msgspec.structs.replace(ONE, caps=(Cap(name="tron at once", most_quote=250.0, carriers=("tron",)),))
    (missing,) = solve(capped).violations[:1]
    assert (missing.short_quote, missing.binding) == (pytest.approx(550.0), ("the cap of tron at once is full",))
    need = (msgspec.structs.replace(ONE.needs[0], by_s=599.0),)
    plan = solve(msgspec.structs.replace(ONE, needs=need))
    assert (
        plan.violations[0].text
        == "V is 800.00 short in 9.98333 min in scenario as it is: no route takes less than 600 s"
    )
    assert len(plan.violations) == 1  # it is late for the need, and still sent for what comes after


def test_a_missing_price_is_named_in_the_plan_and_counts_nothing() -> None:
    blind = (msgspec.structs.replace(ONE.acceptances[0], px=None),)
    plan = solve(msgspec.structs.replace(ONE, acceptances=blind))
    assert plan.warnings == ("no price of USDC at V: it counts nothing there",)
    assert plan.violations[0].binding == ("not counted there: USDC",)
    assert plan.transfers == ()


def test_nothing_at_all_is_a_plan_too_and_no_time_is_none() -> None:
    empty = CollateralProblem(assets=(), venues=(), acceptances=(), holdings=(), needs=())
    plan = solve(empty)
    assert (plan.is_met, plan.transfers, plan.cost_quote) == (True, (), 0.0)
    with pytest.raises(ValueError, match="expected a time limit above zero, found 0 s"):
        solve(empty, time_limit_s=0.0)


def test_what_is_idle_at_a_dear_venue_goes_home_if_the_fee_is_worth_it() -> None:
    home = Route(name="h", asset="USDC", from_place="V", to_place="hot", carrier="tron", fixed_fee=1.0)
    rich = msgspec.structs.replace(ONE, holdings=(Holding("V", "USDC", 900.0),), routes=(home,))
    assert amounts(solve(rich)) == pytest.approx({"h": 100.0})  # 4 % a year on 100 against a fee of 1
    short = msgspec.structs.replace(rich, hold_years=0.2)
    assert amounts(solve(short)) == {}
