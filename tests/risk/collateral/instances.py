"""Collateral problems to solve: the published case, and random ones of any size, seeded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bot.pricing.black76 import greeks
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
    Wallet,
)

CASES = Path(__file__).resolve().parents[1] / "data" / "collateral_cases.json"


def case() -> dict[str, Any]:
    """Return CO1 as it was published."""
    (found,) = json.loads(CASES.read_text(encoding="utf-8"))
    assert found["id"].startswith("CO1")
    return dict(found)


def cheapest_to_deliver() -> CollateralProblem:
    """Return CO1 as a problem: everything in one wallet, transfers free and at once."""
    given = case()["inputs"]
    pairs = [(key, *key.split("@"), haircut) for key, haircut in given["haircut"].items()]
    concentration = given["concentration"]
    limited = (concentration["asset"], concentration["venue"])
    return CollateralProblem(
        assets=tuple(
            Asset(name=name, px=px, yield_per_year=given["cost_annual"][name]) for name, px in given["prices"].items()
        ),
        venues=tuple(
            Venue(name=name, cap_quote=given["venue_market_value_cap"][name], charge_per_year=charge)
            for name, charge in given["counterparty_charge"].items()
        ),
        wallets=(Wallet(name="wallet", chain="ethereum"),),
        acceptances=tuple(
            Acceptance(
                venue=venue,
                asset=asset,
                px=given["prices"][asset],
                tiers=(Tier(None, haircut),),
                share=concentration["max_share_of_post_haircut"] if (asset, venue) == limited else None,
            )
            for _, asset, venue, haircut in pairs
        ),
        holdings=tuple(Holding("wallet", name, amount) for name, amount in given["inventory"].items()),
        routes=tuple(
            Route(name=key, asset=asset, from_place="wallet", to_place=venue, carrier="ethereum")
            for key, asset, venue, _ in pairs
        ),
        needs=tuple(
            Need(venue=name, maintenance_quote=(asked,), pnl_quote=(0.0,))
            for name, asked in given["requirement_post_haircut"].items()
        ),
        buffer=1.0,
        horizons_s=(0.0,),
    )


def random_problem(
    rng: np.random.Generator,
    *,
    venues: int,
    assets: int,
    chains: int,
    scenarios: int,
    horizons_s: tuple[float, ...] = (0.0, 600.0, 3600.0),
    need_share: float = 0.35,
    has_fees: bool = False,
    lot: float = 0.0,
) -> CollateralProblem:
    """Return a problem in which venues together need about `need_share` of all there is.

    The first asset is a dollar, others move with the scenarios. Three quarters of everything is in wallets, one per
    chain, the rest at the venues, which need little at once and more later.
    """
    names = [f"A{n}" for n in range(assets)]
    px = np.concatenate(([1.0], np.round(10.0 ** rng.uniform(0.0, 4.8, assets - 1), 2)))
    moves = np.linspace(-0.24, 0.24, scenarios) if scenarios > 1 else np.zeros(1)
    betas = np.concatenate(([0.0], rng.uniform(0.6, 1.2, assets - 1)))
    wallets = [f"wallet {n}" for n in range(chains)]
    places = [f"V{n}" for n in range(venues)]
    stock = rng.uniform(0.5, 2.0, (assets, chains)) * 4e6 / assets
    posted = rng.uniform(0.5, 2.0, (assets, venues)) * stock.sum() / 3.0 / (assets * venues) / 1.25
    holdings = [
        Holding(wallets[c], names[a], round(float(stock[a, c] / px[a]), 6))
        for a in range(assets)
        for c in range(chains)
    ]
    holdings += [
        Holding(places[v], names[a], round(float(posted[a, v] / px[a]), 6))
        for a in range(assets)
        for v in range(venues)
    ]
    acceptances = [
        Acceptance(
            venue=places[v],
            asset=names[a],
            px=round(float(px[a] * rng.uniform(0.995, 1.0)), 6),
            tiers=(Tier(None, 0.0),)
            if a == 0
            else (Tier(1e6, h := round(float(rng.uniform(0.02, 0.1)), 3)), Tier(None, h + 0.15)),
            share=0.6 if a > 1 and rng.random() < 0.3 else None,
        )
        for v in range(venues)
        for a in range(assets)
        if a == 0 or rng.random() < 0.85
    ]
    routes = []
    for c in range(chains):
        minutes = float(rng.uniform(1.0, 40.0))
        for v in range(venues):
            for a in range(assets):
                if a and rng.random() < 0.2:
                    continue
                fee = round(float(rng.uniform(1.0, 40.0) / px[a]), 8) if has_fees else 0.0
                for there in (True, False):
                    ends = (wallets[c], places[v]) if there else (places[v], wallets[c])
                    routes.append(
                        Route(
                            name=f"{names[a]} {ends[0]} to {ends[1]}",
                            asset=names[a],
                            from_place=ends[0],
                            to_place=ends[1],
                            carrier=f"chain {c}",
                            fixed_fee=fee,
                            fee_bps=round(float(rng.uniform(0.0, 5.0)), 2),
                            delay_p50_s=round(20.0 * minutes, 1),
                            delay_p95_s=round(60.0 * minutes, 1),
                            lot=float(lot / px[a]),
                        )
                    )
    total = float((stock.sum() + posted.sum()) * need_share)
    shares = rng.dirichlet(np.full(venues, 4.0))
    worth = posted.sum(axis=0)
    needs = []
    for v in range(venues):
        slope, bend = rng.uniform(-1.0, 1.0), rng.uniform(0.0, 3.0)
        size = total * shares[v]
        margin = size / 1.25 * (1.0 + 0.3 * np.abs(moves)) / 1.1
        pnl = 0.15 * size * (slope * moves - bend * moves * moves)
        scale = min(1.0, 0.45 * worth[v] / float((1.25 * margin - pnl).max()))
        for by_s, part in ((0.0, scale), (1800.0, 0.7), (3600.0, 1.0)):
            needs.append(
                Need(venue=places[v], by_s=by_s, maintenance_quote=tuple(part * margin), pnl_quote=tuple(part * pnl))
            )
    caps = (Cap(name="V0 and V1", most_quote=float(1.2 * total), places=tuple(places[:2])),)
    return CollateralProblem(
        assets=tuple(
            Asset(name=n, px=float(p), yield_per_year=round(float(rng.uniform(0.0, 0.06)), 4))
            for n, p in zip(names, px, strict=True)
        ),
        venues=tuple(
            Venue(
                name=n,
                cap_quote=float(1.6 * total * (s + 0.1)),
                charge_per_year=round(float(rng.uniform(0.002, 0.01)), 4),
            )
            for n, s in zip(places, shares, strict=True)
        ),
        wallets=tuple(Wallet(name=n, chain=f"chain {c}") for c, n in enumerate(wallets)),
        acceptances=tuple(acceptances),
        holdings=tuple(holdings),
        routes=tuple(routes),
        needs=tuple(needs),
        caps=caps,
        scenarios=tuple(f"spot {move:+.1%}" for move in moves),
        multipliers={n: tuple(1.0 + b * moves) for n, b in zip(names, betas, strict=True)},
        horizons_s=horizons_s,
        hold_years=30.0 / 365.0,
    )


def with_stock(problem: CollateralProblem, factor: float) -> CollateralProblem:
    """Return the problem with more or less of everything in every place."""
    holdings = tuple(msgspec.structs.replace(one, amount=one.amount * factor) for one in problem.holdings)
    return msgspec.structs.replace(problem, holdings=holdings)


def transfers_in_lots() -> CollateralProblem:
    """Return CO2: dollars in lots of 50,000, fees paid once, a venue that must be paid within ten minutes.

    The cheapest fee of all leads from the fast wallet to the venue that has time; who takes it first has too little
    left for the venue that has none, which the slow chain cannot reach in time.
    """

    def route(name: str, ends: tuple[str, str], minutes: float, fixed: float, bps: float, most: float) -> Route:
        return Route(
            name=name,
            asset="USDC",
            from_place=ends[0],
            to_place=ends[1],
            carrier=name,
            fixed_fee=fixed,
            fee_bps=bps,
            delay_p50_s=30.0 * minutes,
            delay_p95_s=60.0 * minutes,
            lot=50_000.0,
            most=most,
        )

    return CollateralProblem(
        assets=(Asset(name="USDC", px=1.0, yield_per_year=0.045),),
        venues=(Venue(name="URGENT", charge_per_year=0.004), Venue(name="LATER", charge_per_year=0.006)),
        wallets=(Wallet(name="fast", chain="arbitrum"), Wallet(name="slow", chain="ethereum")),
        acceptances=(
            Acceptance(venue="URGENT", asset="USDC", px=1.0),
            Acceptance(venue="LATER", asset="USDC", px=1.0),
        ),
        holdings=(Holding("fast", "USDC", 250_000.0), Holding("slow", "USDC", 300_000.0)),
        routes=(
            route("fast-later", ("fast", "LATER"), 5.0, 1.0, 0.0, 200_000.0),
            route("fast-urgent", ("fast", "URGENT"), 5.0, 40.0, 0.0, 300_000.0),
            route("fast-urgent-pro-rata", ("fast", "URGENT"), 8.0, 2.0, 3.0, 300_000.0),
            route("slow-later", ("slow", "LATER"), 30.0, 25.0, 0.5, 300_000.0),
            route("slow-urgent", ("slow", "URGENT"), 30.0, 0.5, 0.0, 300_000.0),
        ),
        needs=(
            Need(venue="URGENT", by_s=600.0, maintenance_quote=(199_900.0,), pnl_quote=(0.0,)),
            Need(venue="LATER", by_s=3600.0, maintenance_quote=(149_900.0,), pnl_quote=(0.0,)),
        ),
        buffer=1.0,
        horizons_s=(0.0,),
        hold_years=7.0 / 365.0,
    )


SHOCKS = (-0.24, -0.16, -0.08, 0.0, 0.08, 0.16, 0.24)


def short_perps_and_a_short_strangle(eth: float = 900.0) -> CollateralProblem:
    """Return CO3: 800 ETH short in perpetuals at one venue, 700 short strangles at another, dollars and ETH to post."""
    spot, tau_years, vol = 2000.0, 30.0 / 365.0, 0.75
    shocked = spot * (1.0 + np.array(SHOCKS))
    strikes, calls = np.array([1700.0, 2500.0]), np.array([False, True])

    def worth(price: float) -> tuple[np.ndarray, np.ndarray]:
        value = greeks(np.full(2, price), strikes, np.full(2, tau_years), np.full(2, vol), calls).value
        return value, np.maximum(np.where(calls, strikes - price, price - strikes), 0.0)

    before = worth(spot)[0].sum()
    strangle_pnl, strangle_margin = [], []
    for price in shocked:
        value, out = worth(float(price))
        strangle_pnl.append(-700.0 * (value.sum() - before))
        strangle_margin.append(700.0 * float((0.8 * (np.maximum(0.15 * price - out, 0.1 * price) + value)).max()))
    return CollateralProblem(
        assets=(Asset(name="USDC", px=1.0, yield_per_year=0.035), Asset(name="ETH", px=spot, yield_per_year=0.028)),
        venues=(Venue(name="PERPS"), Venue(name="OPTIONS")),
        wallets=(Wallet(name="wallet", chain="ethereum"),),
        acceptances=tuple(
            Acceptance(venue=venue, asset=asset, px=px, tiers=(Tier(None, haircut),))
            for venue in ("PERPS", "OPTIONS")
            for asset, px, haircut in (("USDC", 1.0, 0.0), ("ETH", spot, 0.05))
        ),
        holdings=(Holding("wallet", "USDC", 3e6), Holding("wallet", "ETH", eth)),
        routes=tuple(
            Route(name=f"{asset}@{venue}", asset=asset, from_place="wallet", to_place=venue, carrier="ethereum")
            for venue in ("PERPS", "OPTIONS")
            for asset in ("USDC", "ETH")
        ),
        needs=(
            Need(
                venue="PERPS",
                maintenance_quote=tuple(0.02 * 800.0 * shocked),
                pnl_quote=tuple(-800.0 * (shocked - spot)),
            ),
            Need(venue="OPTIONS", maintenance_quote=tuple(strangle_margin), pnl_quote=tuple(strangle_pnl)),
        ),
        scenarios=tuple(f"spot {move:+.0%}" for move in SHOCKS),
        multipliers={"ETH": tuple(1.0 + move for move in SHOCKS)},
        horizons_s=(0.0,),
    )
