"""The plan without a solver: it breaks no rule, meets what can be met, and knows when nobody could do more."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bot.risk.collateral.greedy import least_short_quote, solve_greedy
from bot.risk.collateral.lp import solve_lp
from bot.risk.collateral.program import build_program
from bot.risk.collateral.tables import build_tables
from tests.risk.collateral.brute import count
from tests.risk.collateral.instances import cheapest_to_deliver, random_problem, transfers_in_lots, with_stock


def test_where_nothing_is_missing_nothing_is_sent() -> None:
    problem = msgspec.structs.replace(transfers_in_lots(), needs=())
    assert not solve_greedy(build_tables(problem)).sent.any()


def test_co1_is_met_and_co2_in_whole_lots() -> None:
    outcome = solve_greedy(build_tables(cheapest_to_deliver()))
    assert outcome.is_met
    assert 53_982.0 < outcome.cost_quote < 136_500.0  # dollars everywhere cost that
    lots = solve_greedy(build_tables(transfers_in_lots()))
    assert lots.is_met
    assert np.all(lots.sent % 50_000.0 == 0.0)


@pytest.mark.parametrize("seed", range(10))
def test_no_rule_is_broken_and_what_is_missing_lies_between_its_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(
        rng,
        venues=3,
        assets=4,
        chains=3,
        scenarios=5,
        has_fees=seed % 2 == 1,
        lot=2_000.0 if seed % 3 == 0 else 0.0,
        need_share=(0.3, 0.5, 1.1)[seed % 3],
    )
    tables = build_tables(problem)
    outcome = solve_greedy(tables)
    assert outcome.broken == ()
    amounts = {r.name: float(v / p) for r, v, p in zip(tables.routes, outcome.sent, tables.route_px, strict=True)}
    slow = count(problem, amounts)
    assert slow.is_allowed
    assert slow.short == pytest.approx(outcome.short_quote, rel=1e-6, abs=1.0)
    program = build_program(tables)
    loose = program.with_violations_at_most(None)
    relaxed = solve_lp(loose, loose.violation, time_limit_s=10.0)
    assert relaxed.columns is not None
    least = float(relaxed.columns[program.short_from : program.over_from].sum()) * program.unit
    # nobody can be less short than the bound says, whole numbers or not; and the greedy plan is not far from the least
    assert least_short_quote(tables) <= least + 1.0
    assert least - 1.0 <= outcome.short_quote <= 1.25 * least + 1.0


def test_a_venue_keeps_what_it_needs_itself() -> None:
    problem = cheapest_to_deliver()
    holdings = tuple(msgspec.structs.replace(one, place="OKX") for one in problem.holdings if one.asset == "BTC")
    routes = tuple(
        msgspec.structs.replace(one, from_place="OKX") for one in problem.routes if one.name == "BTC@DERIBIT"
    )
    caps = tuple(msgspec.structs.replace(one, cap_quote=None) for one in problem.venues)
    tables = build_tables(msgspec.structs.replace(problem, holdings=holdings, routes=routes, venues=caps))
    outcome = solve_greedy(tables)
    # 30 BTC are 1,800,000; OKX needs 900,000 after 3 %, so 872,164.95 may go, worth 828,556.70 at Deribit
    assert outcome.sent.tolist() == pytest.approx([872_164.95], abs=0.1)
    assert outcome.short[:, 0].tolist() == pytest.approx([371_443.30, 0.0, 600_000.0], abs=0.1)


def test_what_is_over_a_cap_is_taken_away() -> None:
    problem = cheapest_to_deliver()
    holdings = tuple(msgspec.structs.replace(one, place="DERIBIT") for one in problem.holdings if one.asset == "BTC")
    back = msgspec.structs.replace(problem.routes[1], from_place="DERIBIT", to_place="wallet", fee_bps=2.0)
    kept = msgspec.structs.replace(problem, holdings=holdings, routes=(back,), needs=problem.needs[:1])
    outcome = solve_greedy(build_tables(kept))
    assert outcome.is_met
    assert outcome.sent.tolist() == pytest.approx([300_000.0])  # 30 BTC are 300,000 over the cap


def test_too_little_for_everybody_is_shared_out_without_waste() -> None:
    tables = build_tables(with_stock(cheapest_to_deliver(), 0.3))
    outcome = solve_greedy(tables)
    assert outcome.broken == ()
    assert least_short_quote(tables) < outcome.short_quote
