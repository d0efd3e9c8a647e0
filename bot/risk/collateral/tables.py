"""A collateral problem as arrays, in value: what the solvers, the fallback and the check all count with.

Value is amount times the asset's own price; a venue's index price enters as the ratio of the two. Balances follow from
what is sent: it is gone at once, and there once the p95 delay is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from bot.risk.collateral.problem import Acceptance, CollateralProblem, Route, Venue, Wallet, check_problem

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

YEAR_S: Final = 365.0 * 86_400.0
ENOUGH_QUOTE: Final = 0.01  # a shortfall of a cent is none


class CapRow(msgspec.Struct, frozen=True):
    """One cap over the routes: what each unit sent adds while it moves, and in the end.

    While things move nothing is credited for leaving before it has left, and what is over the cap already may stay; in
    the end what is left over it is `over`, which is at most what is over it now.
    """

    name: str
    most: float
    now: float
    held: float
    at_once: Floats
    in_the_end: Floats


class Tables(msgspec.Struct, frozen=True):
    """The arrays; letters in comments are their axes: assets A, places P, routes R, horizons H, scenarios K, tiers J.

    Posts Q are the pairs of venue and asset that count, demands N the venues with a need.
    """

    problem: CollateralProblem
    assets: tuple[str, ...]
    places: tuple[str, ...]
    horizons_s: Floats
    px: Floats  # A
    held: Floats  # A P
    arriving: Floats  # A P H, what was on its way before
    spare: Floats  # A P, what may leave
    routes: tuple[Route, ...]
    route_px: Floats  # R
    route_asset: Ints
    route_from: Ints
    route_to: Ints
    gas_asset: Ints  # R, -1 where none
    kept: Floats  # R, share of what is sent that arrives
    fixed: Floats  # R
    gas: Floats  # R
    least: Floats  # R
    most: Floats  # R
    lot: Floats  # R
    lands: Flags  # R H
    cost: Floats  # R, per value sent
    cost_of_use: Floats  # R, per use
    cost_as_is: float
    posts: tuple[Acceptance, ...]
    post_asset: Ints  # Q
    post_place: Ints  # Q
    ratio: Floats  # Q
    tier_from: Floats  # Q J
    tier_width: Floats  # Q J
    tier_kept: Floats  # Q J
    share: Floats  # Q
    multiplier: Floats  # Q K
    demand_place: Ints  # N
    required: Floats  # N H K
    caps: tuple[CapRow, ...]
    warnings: tuple[str, ...]

    @property
    def uses(self) -> Flags:
        """Which routes cost something or have a minimum as soon as they are used."""
        return (self.fixed > 0.0) | (self.gas > 0.0) | (self.least > np.maximum(self.lot, 0.0))

    @property
    def has_whole_numbers(self) -> bool:
        """Whether anything must be decided by yes or no, or in whole lots."""
        return bool(np.any(self.uses) or np.any(self.lot > 0.0))

    def place(self, name: str) -> int:
        """Return the number of a place."""
        return self.places.index(name)

    def posts_at(self, place: int) -> Ints:
        """Return the numbers of the posts at a place."""
        return np.flatnonzero(self.post_place == place)

    @property
    def places_with_shares(self) -> tuple[int, ...]:
        """Return the places where some asset may be no more than a share of what counts."""
        return tuple(dict.fromkeys(self.post_place[self.share < 1.0].tolist()))

    def only(self, routes: Sequence[int] | Ints) -> Tables:
        """Return the same with these routes alone."""
        rows = np.asarray(routes, dtype=np.int64)
        changed = {name: getattr(self, name)[rows] for name in _OF_ROUTES}
        caps = tuple(
            msgspec.structs.replace(one, at_once=one.at_once[rows], in_the_end=one.in_the_end[rows])
            for one in self.caps
        )
        return msgspec.structs.replace(self, routes=tuple(self.routes[n] for n in rows), caps=caps, **changed)


_OF_ROUTES: Final = (
    *("route_px", "route_asset", "route_from", "route_to", "gas_asset", "kept", "fixed", "gas", "least", "most"),
    *("lot", "lands", "cost", "cost_of_use"),
)


class _Ways(NamedTuple):
    asset: Ints
    origin: Ints
    to: Ints
    px: Floats
    gas_asset: Ints
    kept: Floats
    fixed: Floats
    gas: Floats
    least: Floats
    most: Floats
    lot: Floats


def build_tables(problem: CollateralProblem) -> Tables:
    """Return a problem as arrays. Raises ValueError for one that cannot be.

    What cannot be valued is left out and named among the warnings; routes from where there is nothing are left out.
    """
    check_problem(problem)
    warnings: list[str] = []
    assets = tuple(one.name for one in problem.assets)
    places = problem.place_names()
    horizons_s = np.array(sorted({0.0, *problem.horizons_s, *(one.by_s for one in problem.needs)}))
    px = _prices(problem, warnings)
    held, arriving = _balances(problem, assets, places, px, horizons_s)
    posts = _posts(problem, warnings)
    spare = _spare(problem, held, assets, places, px, warnings)
    routes = _routes(problem, spare, assets, places, px)
    carry = _carry(problem, posts, assets, places)
    ways = _of_routes(routes, assets, places, px, spare, problem.wallets)
    hold = problem.hold_years
    yields = np.array([one.yield_per_year for one in problem.assets])
    delay_years = np.array([one.delay_p95_s for one in routes]) / YEAR_S
    charges = np.array([one.charge_per_year for one in routes])
    cost = (1.0 - ways.kept) + delay_years * (np.maximum(yields[ways.asset], 0.0) + charges)
    cost += hold * (carry[ways.asset, ways.to] * ways.kept - carry[ways.asset, ways.origin])
    cost_of_use = ways.fixed * (1.0 - hold * carry[ways.asset, ways.to]) + ways.gas
    lands = np.array([one.delay_p95_s for one in routes])[:, None] <= horizons_s[None, :]
    demand_place, required = _required(problem, places, horizons_s)
    tier_from, tier_width, tier_kept = _tiers(posts)
    post_asset = np.array([assets.index(one.asset) for one in posts], dtype=np.int64)
    return Tables(
        problem=problem,
        assets=assets,
        places=places,
        horizons_s=horizons_s,
        px=px,
        held=held,
        arriving=arriving,
        spare=spare,
        routes=routes,
        lands=lands,
        cost=cost,
        cost_of_use=cost_of_use,
        cost_as_is=hold * float((carry * (held + arriving[:, :, -1])).sum()),
        posts=posts,
        post_asset=post_asset,
        post_place=np.array([places.index(one.venue) for one in posts], dtype=np.int64),
        ratio=np.array([one.px or 0.0 for one in posts]) / px[post_asset],
        tier_from=tier_from,
        tier_width=tier_width,
        tier_kept=tier_kept,
        share=np.array([1.0 if one.share is None else one.share for one in posts]),
        multiplier=_multipliers(problem, posts),
        demand_place=demand_place,
        required=required,
        caps=_caps(problem, routes, held, assets, places, px),
        warnings=tuple(warnings),
        route_px=ways.px,
        route_asset=ways.asset,
        route_from=ways.origin,
        route_to=ways.to,
        gas_asset=ways.gas_asset,
        kept=ways.kept,
        fixed=ways.fixed,
        gas=ways.gas,
        least=ways.least,
        most=ways.most,
        lot=ways.lot,
    )


def balances(tables: Tables, sent: Floats, is_used: Flags) -> Floats:
    """Return the value of every asset at every place at every horizon (A P H), once this is sent."""
    found = tables.held[:, :, None] + tables.arriving
    arrived = sent * tables.kept - tables.fixed * is_used
    np.subtract.at(found, (tables.route_asset, tables.route_from), sent[:, None])
    burns = tables.gas_asset >= 0
    np.subtract.at(found, (tables.gas_asset[burns], tables.route_from[burns]), (tables.gas * is_used)[burns, None])
    np.add.at(found, (tables.route_asset, tables.route_to), arrived[:, None] * tables.lands)
    return found


def _prices(problem: CollateralProblem, warnings: list[str]) -> Floats:
    """Return the price of every asset; where it is missing the highest that a venue has, as exposure must not hide."""
    prices = []
    for asset in problem.assets:
        known = [one.px for one in problem.acceptances if one.asset == asset.name and one.px is not None]
        px = asset.px
        if px is None:
            px = max(known, default=0.0)
            instead = f"valued at {px:g}, the highest of the venues'" if known else "it counts nothing and stays put"
            warnings.append(f"no price of {asset.name}: {instead}")
        prices.append(px)
    return np.array(prices, dtype=float)


def _posts(problem: CollateralProblem, warnings: list[str]) -> tuple[Acceptance, ...]:
    found = []
    for one in problem.acceptances:
        if one.px is None:
            warnings.append(f"no price of {one.asset} at {one.venue}: it counts nothing there")
        else:
            found.append(one)
    return tuple(found)


def _balances(
    problem: CollateralProblem, assets: tuple[str, ...], places: tuple[str, ...], px: Floats, horizons_s: Floats
) -> tuple[Floats, Floats]:
    held = np.zeros((len(assets), len(places)))
    arriving = np.zeros((len(assets), len(places), len(horizons_s)))
    for one in problem.holdings:
        asset = assets.index(one.asset)
        held[asset, places.index(one.place)] = one.amount * px[asset]
    for sent in problem.pending:
        asset = assets.index(sent.asset)
        arriving[asset, places.index(sent.to_place)] += sent.amount * px[asset] * (horizons_s >= sent.arrives_s)
    return held, arriving


def _spare(
    problem: CollateralProblem,
    held: Floats,
    assets: tuple[str, ...],
    places: tuple[str, ...],
    px: Floats,
    warnings: list[str],
) -> Floats:
    """Return what may leave: all that is there but the gas that stays."""
    spare = held.copy()
    for wallet in problem.wallets:
        if wallet.gas_asset:
            asset, place = assets.index(wallet.gas_asset), places.index(wallet.name)
            left = held[asset, place] - wallet.least_gas * px[asset]
            spare[asset, place] = max(0.0, left)
            if left <= 0.0 and wallet.least_gas > 0.0 and held[:, place].any():
                warnings.append(
                    f"{wallet.name} has no {wallet.gas_asset} for gas beyond the {wallet.least_gas:g} that stay:"
                    " nothing that needs gas leaves it"
                )
    return spare


def _routes(
    problem: CollateralProblem, spare: Floats, assets: tuple[str, ...], places: tuple[str, ...], px: Floats
) -> tuple[Route, ...]:
    gas_assets = {one.name: one.gas_asset for one in problem.wallets}
    found = []
    for one in problem.routes:
        asset, place = assets.index(one.asset), places.index(one.from_place)
        if spare[asset, place] <= 0.0 or px[asset] <= 0.0:
            continue
        if one.gas > 0.0:
            gas = assets.index(gas_assets[one.from_place])
            if px[gas] <= 0.0 or spare[gas, place] < one.gas * px[gas]:
                continue
        found.append(one)
    return tuple(found)


def _of_routes(
    routes: tuple[Route, ...],
    assets: tuple[str, ...],
    places: tuple[str, ...],
    px: Floats,
    spare: Floats,
    wallets: tuple[Wallet, ...],
) -> _Ways:
    gas_of = {one.name: assets.index(one.gas_asset) for one in wallets if one.gas_asset}
    asset = np.array([assets.index(one.asset) for one in routes], dtype=np.int64)
    origin = np.array([places.index(one.from_place) for one in routes], dtype=np.int64)
    gas_asset = np.array([gas_of[one.from_place] if one.gas > 0.0 else -1 for one in routes], dtype=np.int64)
    route_px = px[asset]
    kept = np.array([1.0 - one.fee_bps / 1e4 for one in routes])
    fixed = np.array([one.fixed_fee for one in routes]) * route_px
    most = np.array([inf if one.most is None else one.most for one in routes]) * route_px
    lot = np.array([one.lot for one in routes]) * route_px
    most = np.minimum(most, spare[asset, origin])
    in_lots = np.floor(most / np.where(lot > 0.0, lot, 1.0) * (1.0 + 1e-12) + 1e-9) * lot
    return _Ways(
        asset=asset,
        origin=origin,
        to=np.array([places.index(one.to_place) for one in routes], dtype=np.int64),
        px=route_px,
        gas_asset=gas_asset,
        kept=kept,
        fixed=fixed,
        gas=np.array([one.gas for one in routes]) * np.where(gas_asset >= 0, px[gas_asset], 0.0),
        least=np.maximum(np.array([one.least for one in routes]) * route_px, fixed / kept),
        most=np.where(lot > 0.0, in_lots, most),
        lot=lot,
    )


def _carry(
    problem: CollateralProblem, posts: tuple[Acceptance, ...], assets: tuple[str, ...], places: tuple[str, ...]
) -> Floats:
    """Return what a dollar of an asset at a place costs by the year: its default charge and the yield it forgoes."""
    charges = [one.charge_per_year for one in problem.venues] + [one.charge_per_year for one in problem.wallets]
    carry = np.tile(np.array(charges), (len(assets), 1))
    yields = np.array([one.yield_per_year for one in problem.assets])
    carry[:, : len(problem.venues)] += yields[:, None]
    for one in posts:
        carry[assets.index(one.asset), places.index(one.venue)] -= one.yield_per_year
    return carry


def _tiers(posts: tuple[Acceptance, ...]) -> tuple[Floats, Floats, Floats]:
    deep = max((len(one.tiers) for one in posts), default=1)
    start, width, kept = (np.zeros((len(posts), deep)) for _ in range(3))
    for q, one in enumerate(posts):
        reach = 0.0
        for j, tier in enumerate(one.tiers):
            up_to = inf if tier.up_to_quote is None else tier.up_to_quote
            start[q, j], width[q, j], kept[q, j] = reach, up_to - reach, 1.0 - tier.haircut
            reach = up_to
    return start, width, kept


def _multipliers(problem: CollateralProblem, posts: tuple[Acceptance, ...]) -> Floats:
    plain = (1.0,) * len(problem.scenarios)
    rows = [one.multipliers or problem.multipliers.get(one.asset, plain) for one in posts]
    return np.array(rows, dtype=float).reshape(len(posts), len(problem.scenarios))


def _required(problem: CollateralProblem, places: tuple[str, ...], horizons_s: Floats) -> tuple[Ints, Floats]:
    """Return what collateral must be worth: buffer times margin, less P&L and what is unrealised."""
    names = tuple(dict.fromkeys(one.venue for one in problem.needs))
    unrealised = {one.name: one.unrealised_quote for one in problem.venues}
    required = np.full((len(names), len(horizons_s), len(problem.scenarios)), -inf)
    for one in problem.needs:
        buffer = problem.buffer if one.buffer is None else one.buffer
        asked = buffer * np.array(one.maintenance_quote) - np.array(one.pnl_quote) - unrealised[one.venue]
        rows = required[names.index(one.venue)]
        due = horizons_s >= one.by_s
        rows[due] = np.maximum(rows[due], asked)
    return np.array([places.index(name) for name in names], dtype=np.int64), required


def _caps(
    problem: CollateralProblem,
    routes: tuple[Route, ...],
    held: Floats,
    assets: tuple[str, ...],
    places: tuple[str, ...],
    px: Floats,
) -> tuple[CapRow, ...]:
    capped: list[Venue | Wallet] = [*problem.venues, *problem.wallets]
    limits = [
        (one.name, one.cap_quote, {one.name}, set[str](), set[str]()) for one in capped if one.cap_quote is not None
    ]
    limits += [(c.name, c.most_quote, set(c.places), set(c.carriers), set(c.assets)) for c in problem.caps]
    unrealised = {one.name: one.unrealised_quote for one in problem.venues}
    rows = []
    for name, most, members, carriers, only in limits:
        counts = np.array([not only or asset in only for asset in assets])
        inside = np.array([place in members for place in places])
        of_pending = [one for one in problem.pending if not only or one.asset in only]
        value = {n: one.amount * px[assets.index(one.asset)] for n, one in enumerate(of_pending)}
        owed = sum(unrealised.get(place, 0.0) for place in members) if not only else 0.0
        there = float(held[counts][:, inside].sum()) + owed
        there += sum(value[n] for n, one in enumerate(of_pending) if one.to_place in members)
        moving = sum(
            value[n] for n, one in enumerate(of_pending) if one.carrier in carriers and one.to_place not in members
        )
        at_once, in_the_end = np.zeros(len(routes)), np.zeros(len(routes))
        for r, route in enumerate(routes):
            if only and route.asset not in only:
                continue
            leaves, enters = route.from_place in members, route.to_place in members
            at_once[r] = float((enters or route.carrier in carriers) and not leaves)
            in_the_end[r] = float(enters) * (1.0 - route.fee_bps / 1e4) - float(leaves)
        rows.append(CapRow(name, most, there + moving, there, at_once, in_the_end))
    return tuple(rows)
