"""Arrays of a problem: value, what is there when, what may leave, what counts against a cap."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bot.risk.collateral.problem import (
    Acceptance,
    Asset,
    Cap,
    CollateralProblem,
    Holding,
    Need,
    Pending,
    Route,
    Tier,
    Venue,
    Wallet,
)
from bot.risk.collateral.tables import balances, build_tables

SMALL = CollateralProblem(
    assets=(Asset(name="USDC", px=1.0), Asset(name="ETH", px=2000.0, yield_per_year=0.03)),
    venues=(Venue(name="V", cap_quote=50_000.0, charge_per_year=0.01, unrealised_quote=1_000.0), Venue(name="W")),
    wallets=(Wallet(name="hot", chain="ethereum", gas_asset="ETH", least_gas=0.5),),
    acceptances=(
        Acceptance(venue="V", asset="USDC", px=1.0),
        Acceptance(
            venue="V", asset="ETH", px=1990.0, tiers=(Tier(10_000.0, 0.05), Tier(None, 0.2)), yield_per_year=0.01
        ),
    ),
    holdings=(Holding("hot", "USDC", 9_000.0), Holding("hot", "ETH", 4.5), Holding("W", "ETH", 1.0)),
    pending=(Pending(asset="USDC", amount=700.0, to_place="V", carrier="bridge", arrives_s=300.0),),
    routes=(
        Route(name="a", asset="ETH", from_place="hot", to_place="V", carrier="ethereum", gas=0.01, delay_p95_s=900.0),
        Route(name="b", asset="ETH", from_place="W", to_place="hot", carrier="bridge", fixed_fee=0.1, fee_bps=10.0),
        Route(name="c", asset="USDC", from_place="W", to_place="V", carrier="bridge"),
    ),
    needs=(Need(venue="V", maintenance_quote=(8_000.0, 9_000.0), pnl_quote=(0.0, -500.0), by_s=900.0),),
    caps=(Cap(name="bridge", most_quote=2_500.0, carriers=("bridge",)),),
    scenarios=("as it is", "spot -24 %"),
    multipliers={"ETH": (1.0, 0.76)},
    horizons_s=(0.0, 600.0),
    hold_years=0.5,
)


def test_what_is_sent_is_gone_at_once_and_there_after_its_p95_delay() -> None:
    tables = build_tables(SMALL)
    assert tables.horizons_s.tolist() == [0.0, 600.0, 900.0]
    assert [one.name for one in tables.routes] == ["a", "b"]  # W has no USDC
    found = balances(tables, np.array([2_000.0, 1_000.0]), np.array([True, True]))
    hot, venue = tables.place("hot"), tables.place("V")
    # 9,000 there, 2,000 sent, 20 burnt, 1,000 less 10 bps and a fee of 200 from W, at once
    assert found[1, hot].tolist() == pytest.approx([7_779.0] * 3)
    assert found[1, venue].tolist() == [0.0, 0.0, 2_000.0]
    assert found[0, venue].tolist() == [0.0, 700.0, 700.0]


def test_gas_that_stays_may_not_leave() -> None:
    assert build_tables(SMALL).spare[1, 2] == 8_000.0
    poor = msgspec.structs.replace(SMALL, holdings=(Holding("hot", "USDC", 1.0), Holding("hot", "ETH", 0.2)))
    tables = build_tables(poor)
    assert tables.routes == ()
    assert tables.warnings == ("hot has no ETH for gas beyond the 0.5 that stay: nothing that needs gas leaves it",)


def test_a_need_is_buffered_and_counts_from_its_time_on() -> None:
    tables = build_tables(SMALL)
    assert tables.required[0, :2].tolist() == [[-np.inf, -np.inf]] * 2
    # 1.25 × 9,000 + 500 lost − 1,000 unrealised
    assert tables.required[0, 2].tolist() == [9_000.0, 10_750.0]


def test_caps_count_what_is_there_what_is_on_its_way_and_what_is_owed() -> None:
    venue, bridge = build_tables(SMALL).caps
    assert (venue.now, venue.held) == (1_700.0, 1_700.0)
    assert (venue.at_once.tolist(), venue.in_the_end.tolist()) == ([1.0, 0.0], [1.0, 0.0])
    assert (bridge.now, bridge.held) == (700.0, 0.0)
    assert (bridge.at_once.tolist(), bridge.in_the_end.tolist()) == ([0.0, 1.0], [0.0, 0.0])


def test_cost_is_yield_forgone_charges_and_fees_for_as_long_as_it_is_held() -> None:
    tables = build_tables(SMALL)
    # ETH at V: 1 % charge, 3 % forgone, 1 % paid there; and 3 % a year while it is under way for 900 s
    assert tables.cost[0] == pytest.approx(0.5 * 0.03 + 0.03 * 900.0 / (365.0 * 86_400.0))
    assert tables.cost_of_use[0] == pytest.approx(0.01 * 2000.0)
    # from W back to the wallet: 10 bps, and 3 % a year saved
    assert tables.cost[1] == pytest.approx(0.001 - 0.5 * 0.03)
    assert tables.cost_of_use[1] == pytest.approx(200.0)


def test_a_missing_price_counts_nothing_and_is_named() -> None:
    assets = (SMALL.assets[0], Asset(name="ETH", px=None))
    accepted = (SMALL.acceptances[0], msgspec.structs.replace(SMALL.acceptances[1], px=None))
    tables = build_tables(msgspec.structs.replace(SMALL, assets=assets, acceptances=accepted))
    assert [one.asset for one in tables.posts] == ["USDC"]
    assert tables.routes == ()
    assert tables.warnings[:2] == (
        "no price of ETH: it counts nothing and stays put",
        "no price of ETH at V: it counts nothing there",
    )
    known = build_tables(msgspec.structs.replace(SMALL, assets=assets))
    assert known.px.tolist() == [1.0, 1990.0]
    assert known.warnings[0] == "no price of ETH: valued at 1990, the highest of the venues'"


def test_a_part_of_the_routes_keeps_its_numbers() -> None:
    part = build_tables(SMALL).only([1])
    assert [one.name for one in part.routes] == ["b"]
    assert part.cost_of_use.tolist() == pytest.approx([200.0])
    assert part.caps[1].at_once.tolist() == [1.0]
