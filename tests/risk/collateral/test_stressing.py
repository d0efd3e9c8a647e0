"""A problem under named scenarios: needs and P&L of positions, and what coins count where in each."""

from __future__ import annotations

import msgspec
import pytest

from bot.risk.book import SPOT, Position, build_book
from bot.risk.collateral.problem import Acceptance, Asset, CollateralProblem, Holding, Route, Venue, Wallet
from bot.risk.collateral.solving import solve
from bot.risk.collateral.stressing import under_stress
from bot.risk.stress import MarginTermsOf
from tests.risk.test_stress import HOUSE, SCENARIOS, perp

BOOK = build_book(
    [
        perp(-2.0, "binance"),
        perp(1.0, "okx"),
        Position(kind=SPOT, underlying="BTC", qty_base=5.0, account="okx"),
    ],
    {"BTC": 60_000.0},
)
TERMS = {name: MarginTermsOf(model="house", values=HOUSE) for name in ("binance", "okx")}
PROBLEM = CollateralProblem(
    assets=(
        Asset(name="USDe", px=1.0, yield_per_year=0.01),
        Asset(name="WSTETH", px=3_500.0, yield_per_year=0.005),
        Asset(name="USDC", px=1.0, yield_per_year=0.05),
    ),
    venues=(Venue(name="binance"), Venue(name="okx")),
    wallets=(Wallet(name="wallet", chain="ethereum"),),
    acceptances=tuple(
        Acceptance(venue=venue, asset=asset, px=px)
        for venue in ("binance", "okx")
        for asset, px in (("USDe", 1.0), ("WSTETH", 3_500.0), ("USDC", 1.0))
    ),
    holdings=(Holding("wallet", "USDe", 200_000.0), Holding("wallet", "USDC", 200_000.0)),
    needs=(),
    routes=tuple(
        Route(name=f"{asset}@{venue}", asset=asset, from_place="wallet", to_place=venue, carrier="ethereum")
        for venue in ("binance", "okx")
        for asset in ("USDe", "USDC")
    ),
    horizons_s=(0.0,),
)
PLAYED = [
    msgspec.structs.replace(SCENARIOS[name], basis_move=0.0, outages=()) for name in ("2025-10-10", "2022-11-08 FTX")
]


def test_needs_are_those_of_positions_before_and_after() -> None:
    found = under_stress(PROBLEM, BOOK, PLAYED, TERMS)
    assert found.scenarios == ("as it is", "2025-10-10", "2022-11-08 FTX")
    binance, okx = found.needs
    assert binance.pnl_quote == pytest.approx((0.0, 2 * 60_000 * 0.14, 2 * 60_000 * 0.2292))
    assert okx.pnl_quote == pytest.approx((0.0, -60_000 * 0.14, -60_000 * 0.2292))  # its coins are collateral
    assert binance.maintenance_quote[0] == pytest.approx(2.0 * okx.maintenance_quote[0])
    assert binance.maintenance_quote[1] == pytest.approx(0.86 * binance.maintenance_quote[0])


def test_a_coin_counts_as_the_venue_marks_it() -> None:
    found = under_stress(PROBLEM, BOOK, PLAYED, TERMS, underlyings={"WSTETH": "ETH"})
    multipliers = {(one.venue, one.asset): one.multipliers for one in found.acceptances}
    assert multipliers["binance", "USDe"] == pytest.approx((1.0, 0.65, 1.0))
    assert multipliers["okx", "USDe"] == pytest.approx((1.0, 0.90, 1.0))
    assert multipliers["okx", "WSTETH"] == pytest.approx((1.0, 0.8, 0.7 * 0.975))
    assert multipliers["okx", "USDC"] == (1.0, 1.0, 1.0)


def test_a_plan_puts_what_one_venue_marks_down_at_the_other() -> None:
    found = under_stress(PROBLEM, BOOK, PLAYED, TERMS)
    plan = solve(found)
    assert plan.is_met
    okx = found.needs[1]
    asked = [1.25 * m - p for m, p in zip(okx.maintenance_quote, okx.pnl_quote, strict=True)]
    sent = {one.route: one.amount for one in plan.transfers}
    assert sent["USDe@okx"] == pytest.approx(
        max(asked[0], asked[1] / 0.9, asked[2])
    )  # a fifth of the cost of dollars, even at 0.90
    assert "USDC@okx" not in sent


def test_a_venue_that_is_gone_asks_for_nothing_and_an_unknown_one_is_refused() -> None:
    found = under_stress(PROBLEM, BOOK, [SCENARIOS["2022-11-08 FTX"]], TERMS)  # the largest venue is gone: coins count
    binance, okx = found.needs
    assert binance.maintenance_quote[1] > 0.0
    assert (okx.maintenance_quote[1], okx.pnl_quote[1]) == (0.0, 0.0)
    assert okx.maintenance_quote[0] > 0.0
    with pytest.raises(ValueError, match="expected account okx among the venues, found binance"):
        under_stress(msgspec.structs.replace(PROBLEM, venues=PROBLEM.venues[:1]), BOOK, PLAYED, TERMS)


def test_without_a_price_there_is_nothing_to_mark() -> None:
    blind = msgspec.structs.replace(PROBLEM.acceptances[0], px=None)
    found = under_stress(msgspec.structs.replace(PROBLEM, acceptances=(blind,)), BOOK, PLAYED, TERMS)
    assert found.acceptances[0].multipliers == ()
