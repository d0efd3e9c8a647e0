"""A plan in words: why each transfer, what a dollar more would cost or save, what is missing and what is in its way."""

from __future__ import annotations

import numpy as np

from bot.risk.collateral.check import Outcome, cap_rooms, counts_as, shortfall_of, shortfalls, stock_left
from bot.risk.collateral.plan import Excess, Posting, ShadowPrice, Transfer, Violation
from bot.risk.collateral.program import Program, Row, RowKind
from bot.risk.collateral.tables import ENOUGH_QUOTE, Floats, Tables, balances

_MOST_REASONS = 6
_SHADOW = 1e-7  # below this a shadow price is the solver's noise


def explain_transfers(tables: Tables, outcome: Outcome) -> tuple[Transfer, ...]:
    """Return what is sent, each with its reason: what would be missing, or over, or dearer without it."""
    room = np.minimum(stock_left(tables, outcome.sent), cap_rooms(tables, outcome.sent)[0])
    return tuple(_transfer(tables, outcome, int(r), room) for r in np.flatnonzero(outcome.sent > 0.0))


def explain_postings(tables: Tables, outcome: Outcome) -> tuple[Posting, ...]:
    """Return what is at every venue in the end, and what it counts."""
    values = balances(tables, outcome.sent, outcome.is_used)[:, :, -1]
    counted = {(int(tables.post_asset[q]), int(tables.post_place[q])): q for q in range(len(tables.posts))}
    found = []
    for place, venue in enumerate(tables.problem.venues):
        for asset, name in enumerate(tables.assets):
            value = float(values[asset, place])
            if value > ENOUGH_QUOTE:
                q = counted.get((asset, place))
                counts = float(outcome.counted[q, -1]) if q is not None else 0.0
                amount = value / float(tables.px[asset])
                found.append(
                    Posting(venue=venue.name, asset=name, amount=amount, value_quote=value, counted_quote=counts)
                )
    return tuple(found)


def explain_violations(tables: Tables, outcome: Outcome) -> tuple[Violation, ...]:
    """Return what is still missing where, when and in which scenario, and what stands in the way of more."""
    found = []
    for n, h in zip(*np.nonzero(outcome.short), strict=True):
        venue, at_s = tables.places[tables.demand_place[n]], float(tables.horizons_s[h])
        scenario = tables.problem.scenarios[outcome.worst[n, h]]
        short = float(outcome.short[n, h])
        binding = _in_the_way(tables, outcome, int(n), int(h))
        text = f"{venue} is {short:,.2f} short {_when(at_s)} in scenario {scenario}: {'; '.join(binding)}"
        found.append(
            Violation(venue=venue, at_s=at_s, scenario=scenario, short_quote=short, binding=binding, text=text)
        )
    return tuple(found)


def explain_excesses(tables: Tables, outcome: Outcome) -> tuple[Excess, ...]:
    """Return what is left over which cap."""
    return tuple(
        Excess(
            cap=one.name,
            over_quote=float(over),
            text=f"{one.name} stays {over:,.2f} over its cap of {one.most:,.0f}: no way out is open for more",
        )
        for one, over in zip(tables.caps, outcome.over, strict=True)
        if over > 0.0
    )


def explain_marginals(program: Program, marginals: Floats, *, is_missing: bool = False) -> tuple[ShadowPrice, ...]:
    """Return what one dollar more of each need, stock, cap and share changes the cost by, largest first.

    With `is_missing` marginals are those of the smallest violation: what it leaves less missing, needs aside.
    """
    sums: dict[tuple[str, str], float] = {}
    where: dict[tuple[str, str], tuple[float, Row]] = {}
    unit = 1.0 if is_missing else program.cost_unit
    for row, marginal in zip(program.rows, marginals, strict=True):
        named = _name_of(program.tables, row)
        price = -float(marginal) * unit
        if named is None or price <= _SHADOW * unit or (is_missing and row.kind is RowKind.MARGIN):
            continue
        sums[named] = sums.get(named, 0.0) + price
        if price > where.get(named, (0.0, row))[0]:
            where[named] = (price, row)
    found = []
    for (kind, name), price in sorted(sums.items(), key=lambda one: -one[1]):
        if is_missing:
            does = f"leave {1000.0 * price:,.2f} less missing"
        else:
            verb = "cost" if kind == "need" else "save"
            does = f"{verb} {1000.0 * price:,.2f} over {program.tables.problem.hold_years * 365.0:g} days"
        text = _shadow_text(program.tables, kind, name, does, where[kind, name][1])
        found.append(ShadowPrice(kind=kind, name=name, quote_per_quote=price, text=text))
    return tuple(found)


def _transfer(tables: Tables, outcome: Outcome, r: int, room: Floats) -> Transfer:
    route, value = tables.routes[r], float(outcome.sent[r])
    fees = value * (1.0 - float(tables.kept[r])) + float(tables.fixed[r]) + float(tables.gas[r])
    cost = value * float(tables.cost[r]) + float(tables.cost_of_use[r])
    needed_by_s, purpose = _purpose(tables, outcome, r, cost)
    amount = value / float(tables.route_px[r])
    parts = [purpose, *_worth(tables, outcome, r, room)]
    parts.append(f"{_size(amount)} {route.asset} over {route.carrier} within {route.delay_p95_s:g} s (p95)")
    parts.append(f"fees {fees:,.2f}, in all {_paid(cost)} over {tables.problem.hold_years * 365.0:g} days")
    return Transfer(
        route=route.name,
        asset=route.asset,
        amount=amount,
        value_quote=value,
        from_place=route.from_place,
        to_place=route.to_place,
        carrier=route.carrier,
        arrives_amount=amount * float(tables.kept[r]) - route.fixed_fee,
        delay_p50_s=route.delay_p50_s,
        delay_p95_s=route.delay_p95_s,
        needed_by_s=needed_by_s,
        fees_quote=fees,
        cost_quote=cost,
        reason="; ".join(parts),
    )


def _purpose(tables: Tables, outcome: Outcome, r: int, cost: float) -> tuple[float | None, str]:
    """Return when the destination would be short without a transfer, and the sentence that says what it is for."""
    place = int(tables.route_to[r])
    rows = tables.posts_at(place)
    without = outcome.sent.copy()
    without[r] = 0.0
    for n in np.flatnonzero(tables.demand_place == place).tolist():
        values = balances(tables, without, without > 0.0)
        short, worst = shortfall_of(tables, n, rows, counts_as(tables, values, rows))
        lacking = np.flatnonzero(short > outcome.short[n])
        if lacking.size:
            h = int(lacking[0])
            scenario, at_s = tables.problem.scenarios[worst[h]], float(tables.horizons_s[h])
            missing = float(short[h] - outcome.short[n, h])
            return at_s, f"{tables.places[place]} would lack {missing:,.2f} {_when(at_s)} in scenario {scenario}"
    for one, over in zip(tables.caps, outcome.over, strict=True):
        before = one.held + float(one.in_the_end @ without) - one.most
        if before > over + ENOUGH_QUOTE:
            return None, f"{one.name} would be {before:,.2f} over its cap"
    if cost < 0.0:
        return None, f"it saves {-cost:,.2f} to have it there"
    return None, "it makes room for another transfer"


def _worth(tables: Tables, outcome: Outcome, r: int, room: Floats) -> list[str]:
    """Return what an asset counts where it goes, and the cheapest way not taken beside it."""
    place, asset = int(tables.route_to[r]), int(tables.route_asset[r])
    demands = np.flatnonzero(tables.demand_place == place)
    posts = {int(tables.post_asset[q]): int(q) for q in tables.posts_at(place)}
    if not demands.size or asset not in posts:
        return []
    k = int(outcome.worst[demands[0], -1])
    words = [f"{tables.assets[asset]} counts {_count(tables, posts[asset], k):.1%} there in the worst scenario"]
    mine = _rate(tables, posts, r, k, float(outcome.sent[r]))
    others = [
        (_rate(tables, posts, int(s), k, float(outcome.sent[r])), tables.routes[s].name)
        for s in np.flatnonzero((tables.route_to == place) & (outcome.sent <= 0.0) & (room > ENOUGH_QUOTE))
        if tables.route_asset[s] in posts
    ]
    if others and min(others)[0] < float("inf"):
        rate, name = min(others)
        words.append(f"{mine:.2%} per dollar counted, against {rate:.2%} by {name}")
    return words


def _count(tables: Tables, q: int, k: int) -> float:
    return float(tables.tier_kept[q, 0] * tables.multiplier[q, k])


def _rate(tables: Tables, posts: dict[int, int], r: int, k: int, size: float) -> float:
    """Return the cost of one dollar counted, sent over a route in this size."""
    q = posts[int(tables.route_asset[r])]
    counts = _count(tables, q, k) * float(tables.ratio[q]) * (size * float(tables.kept[r]) - float(tables.fixed[r]))
    return (float(tables.cost[r]) * size + float(tables.cost_of_use[r])) / counts if counts > 0.0 else float("inf")


def _in_the_way(tables: Tables, outcome: Outcome, n: int, h: int) -> tuple[str, ...]:
    """Return what keeps more collateral from a venue by a horizon, one short sentence each, those we set first."""
    place = int(tables.demand_place[n])
    venue, at_s = tables.places[place], float(tables.horizons_s[h])
    accepted = {tables.assets[tables.post_asset[q]]: int(q) for q in tables.posts_at(place)}
    usable = {route.name: r for r, route in enumerate(tables.routes)}
    stock, (room, cap) = stock_left(tables, outcome.sent), cap_rooms(tables, outcome.sent)
    found: dict[tuple[int, str], dict[str, None]] = {}
    late_s: list[float] = []
    for route in tables.problem.routes:
        if route.to_place != venue:
            continue
        if route.asset not in accepted:
            words = (8, "not counted there: {}")
        elif route.name not in usable:
            words = (5, f"no {{}} may leave {route.from_place}")
        elif route.delay_p95_s > at_s:
            late_s.append(route.delay_p95_s)
            continue
        else:
            r = usable[route.name]
            names_cap = tables.caps[cap[r]].name if cap[r] >= 0 else ""
            rooms = float(stock[r]), float(room[r]), names_cap
            words = _limit_of(tables, outcome, r, accepted[route.asset], (n, h), rooms)
        found.setdefault(words, {})[route.asset] = None
    texts = [(rank, words.format(", ".join(names))) for (rank, words), names in found.items()]
    if late_s:
        fastest = f"{min(late_s):g} s"
        texts.append((7, f"other routes take {fastest} and more" if texts else f"no route takes less than {fastest}"))
    return tuple(words for _, words in sorted(texts))[:_MOST_REASONS] or ("no route leads there",)


def _limit_of(
    tables: Tables, outcome: Outcome, r: int, q: int, where: tuple[int, int], rooms: tuple[float, float, str]
) -> tuple[int, str]:
    """Return how soon to name what limits a route that is open, and the sentence, in which {} is its asset."""
    route, sent = tables.routes[r], outcome.sent
    stock, room, cap = rooms
    least = max(float(tables.lot[r]), float(tables.least[r] - sent[r]), ENOUGH_QUOTE)
    origin = route.from_place
    if room < least:
        return 0, f"the cap of {cap} " + (f"leaves room for {room:,.0f}" if room >= 1.0 else "is full")
    if stock < least:
        return 2, f"all {{}} that may leave {origin} is sent" + (f" but {stock:,.0f}" if stock >= 1.0 else "")
    if tables.most[r] - sent[r] < least:
        most = _size(float(tables.most[r] / tables.route_px[r]))
        return 1, f"{route.name} takes no more than {most} {{}}"
    more = sent.copy()
    more[r] += min(least if least > ENOUGH_QUOTE else stock, stock)
    short, _ = shortfalls(tables, counts_as(tables, balances(tables, more, more > 0.0)))
    others = np.arange(len(short)) != where[0]
    if bool(np.any(short[others] > outcome.short[others])):
        return 3, f"{origin} needs its {{}} itself"
    if short[where] < outcome.short[where]:
        return 6, f"more {{}} from {origin} would still help"
    if tables.share[q] < 1.0:
        return 1, f"{{}} counts for at most {tables.share[q]:.0%} of what is counted there"
    return 4, f"more {{}} from {origin} would count nothing in the worst scenario"


def _name_of(tables: Tables, row: Row) -> tuple[str, str] | None:
    if row.kind is RowKind.MARGIN:
        return "need", tables.places[tables.demand_place[row.first]]
    if row.kind is RowKind.STOCK:
        return "stock", f"{tables.assets[row.first]} at {tables.places[row.second]}"
    if row.kind is RowKind.SHARE:
        return "share", f"{tables.posts[row.first].asset} at {tables.posts[row.first].venue}"
    if row.kind in {RowKind.CAP, RowKind.CAP_AT_ONCE}:
        return "cap", tables.caps[row.first].name
    return None


def _shadow_text(tables: Tables, kind: str, name: str, does: str, row: Row) -> str:
    if kind == "need":
        when, scenario = _when(float(tables.horizons_s[row.second])), tables.problem.scenarios[row.third]
        return f"1,000 more required at {name} would {does} (decided {when} in scenario {scenario})"
    if kind == "share":
        return f"1,000 more of {name} allowed to count would {does}"
    return f"1,000 more {'room under the cap ' if kind == 'cap' else 'of '}{name} would {does}"


def _when(at_s: float) -> str:
    if at_s <= 0.0:
        return "now"
    return f"in {at_s / 60.0:g} min" if at_s >= 60.0 else f"in {at_s:g} s"


def _paid(cost: float) -> str:
    return f"{cost:,.2f}" if cost >= 0.0 else f"{-cost:,.2f} saved"


def _size(amount: float) -> str:
    return f"{amount:,.8f}".rstrip("0").rstrip(".")
