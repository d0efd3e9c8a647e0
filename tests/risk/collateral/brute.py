"""Collateral counted the slow way, from the words of the model alone, and searched exhaustively over lots."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import floor, inf
from typing import NamedTuple

from bot.risk.collateral.problem import CollateralProblem, Route

YEAR_S = 365.0 * 86_400.0


class Count(NamedTuple):
    """What amounts come to: whether all rules are kept, what is short over venues and horizons, over caps, the cost."""

    is_allowed: bool
    short: float
    over: float
    cost: float


def count(problem: CollateralProblem, amounts: dict[str, float]) -> Count:
    """Count what sending these amounts comes to. Gas and minimums beyond one lot are not among what is counted here."""
    px = {one.name: one.px or 0.0 for one in problem.assets}
    routes = {one.name: one for one in problem.routes}
    sent = {name: amount for name, amount in amounts.items() if amount > 0.0}
    start = {(one.place, one.asset): one.amount for one in problem.holdings}
    left = dict(start)
    for name, amount in sent.items():
        key = (routes[name].from_place, routes[name].asset)
        left[key] = left.get(key, 0.0) - amount
    is_allowed = min(left.values(), default=0.0) > -1e-9

    horizons = sorted({0.0, *problem.horizons_s, *(one.by_s for one in problem.needs)})
    short = 0.0
    for at_s in horizons:
        held = dict(left)
        for name, amount in sent.items():
            route = routes[name]
            if route.delay_p95_s <= at_s:
                key = (route.to_place, route.asset)
                held[key] = held.get(key, 0.0) + amount * (1.0 - route.fee_bps / 1e4) - route.fixed_fee
        short += sum(_short(problem, venue.name, at_s, held) for venue in problem.venues)

    final = dict(left)
    for name, amount in sent.items():
        route = routes[name]
        key = (route.to_place, route.asset)
        final[key] = final.get(key, 0.0) + amount * (1.0 - route.fee_bps / 1e4) - route.fixed_fee
    over = 0.0
    groups = [(v.cap_quote, {v.name}) for v in problem.venues if v.cap_quote is not None]
    groups += [(c.most_quote, set(c.places)) for c in problem.caps if not c.carriers and not c.assets]
    for cap, members in groups:
        now = sum(px[asset] * amount for (place, asset), amount in start.items() if place in members)
        comes = sum(
            px[routes[n].asset] * a
            for n, a in sent.items()
            if routes[n].to_place in members and routes[n].from_place not in members
        )
        end = sum(px[asset] * amount for (place, asset), amount in final.items() if place in members)
        is_allowed = is_allowed and comes <= max(cap - now, 0.0) + 1e-3 and end <= max(cap, now) + 1e-3
        over += end - cap if end > cap + 0.02 else 0.0

    charge = {one.name: one.charge_per_year for one in problem.venues}
    charge |= {one.name: one.charge_per_year for one in problem.wallets}
    forgone = {(v.name, a.name): a.yield_per_year for v in problem.venues for a in problem.assets}
    for one in problem.acceptances:
        forgone[one.venue, one.asset] -= one.yield_per_year
    cost = sum(
        problem.hold_years * px[asset] * amount * (charge[place] + forgone.get((place, asset), 0.0))
        for (place, asset), amount in final.items()
    )
    yields = {one.name: one.yield_per_year for one in problem.assets}
    for name, amount in sent.items():
        route, value = routes[name], amount * px[routes[name].asset]
        cost += value * route.fee_bps / 1e4 + route.fixed_fee * px[route.asset]
        cost += value * route.delay_p95_s / YEAR_S * (max(yields[route.asset], 0.0) + route.charge_per_year)
    return Count(is_allowed, short, over, cost)


def best_in_lots(problem: CollateralProblem) -> Count:
    """Return the best of every way to send whole lots: the least short, then the least over, then the cheapest."""
    found = Count(is_allowed=True, short=inf, over=inf, cost=inf)
    for amounts in every_way(problem):
        one = count(problem, amounts)
        if one.is_allowed and (round(one.short, 1), round(one.over, 1), one.cost) < (
            round(found.short, 1),
            round(found.over, 1),
            found.cost,
        ):
            found = one
    return found


def every_way(problem: CollateralProblem) -> Iterator[dict[str, float]]:
    """Yield every combination of whole lots over the routes."""
    names = [one.name for one in problem.routes]
    for lots in product(*(range(_most_lots(problem, one) + 1) for one in problem.routes)):
        yield {n: k * one.lot for n, k, one in zip(names, lots, problem.routes, strict=True)}


def _most_lots(problem: CollateralProblem, route: Route) -> int:
    stock = sum(h.amount for h in problem.holdings if (h.place, h.asset) == (route.from_place, route.asset))
    return floor(min(stock, inf if route.most is None else route.most) / route.lot + 1e-9)


def _short(problem: CollateralProblem, venue: str, at_s: float, held: dict[tuple[str, str], float]) -> float:
    needs = [one for one in problem.needs if one.venue == venue and one.by_s <= at_s]
    if not needs:
        return 0.0
    accepted = [one for one in problem.acceptances if one.venue == venue and one.px is not None]
    counted = []
    for one in accepted:
        value, credit, reach = max(held.get((venue, one.asset), 0.0), 0.0) * (one.px or 0.0), 0.0, 0.0
        for tier in one.tiers:
            up_to = inf if tier.up_to_quote is None else tier.up_to_quote
            credit += max(min(value, up_to) - reach, 0.0) * (1.0 - tier.haircut)
            reach = up_to
        counted.append(credit)
    shares = [1.0 if one.share is None else one.share for one in accepted]
    counted = _within(counted, shares)
    worst = 0.0
    for k in range(len(problem.scenarios)):
        credit = 0.0
        for one, part in zip(accepted, counted, strict=True):
            mult = one.multipliers or problem.multipliers.get(one.asset, ())
            credit += part * (mult[k] if mult else 1.0)
        unrealised = next(v.unrealised_quote for v in problem.venues if v.name == venue)
        for need in needs:
            buffer = problem.buffer if need.buffer is None else need.buffer
            missing = buffer * need.maintenance_quote[k] - need.pnl_quote[k] - unrealised - credit
            worst = max(worst, missing)
    return worst if worst > 0.02 else 0.0


def _within(counted: list[float], shares: list[float]) -> list[float]:
    """Cut parts to their share of the total, again and again: what is left is the most that may count."""
    for _ in range(3000):
        total = sum(counted)
        cut = [min(part, share * total) for part, share in zip(counted, shares, strict=True)]
        if total - sum(cut) < 1e-9 * max(total, 1.0):
            return cut
        counted = cut
    return counted
