"""What a collateral problem is made of: assets, places, what venues count them as, routes, needs, caps.

Amounts are in units of the asset, money in USD, delays in seconds from now. `None` is "no limit" or "not known". What
is not listed does not exist: collateral moves over the routes given and no others, so an address that nobody
whitelisted cannot be in a plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf, isfinite
from typing import Final

import msgspec

_MAY_BE_NEGATIVE: Final = frozenset({"unrealised_quote", "yield_per_year", "pnl_quote"})


class Tier(msgspec.Struct, frozen=True, gc=False):
    """Value of an asset up to `up_to_quote` (None: all the rest) is counted less this haircut."""

    up_to_quote: float | None
    haircut: float


class Asset(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One asset. `px` values it for fees, caps and cost; `yield_per_year` is what it earns where it is not posted."""

    name: str
    px: float | None
    yield_per_year: float = 0.0


class Acceptance(msgspec.Struct, frozen=True, kw_only=True):
    """What one venue counts one asset as: at its own index price, haircut by tiers, and never over a share of all.

    Haircuts grow with size, so credit is concave. `share` is of all collateral the venue counts, after haircuts; what
    is beyond it is not counted. `multipliers`, one per scenario, replace the problem's where this venue's mark goes its
    own way. `yield_per_year` is what the venue pays on it.
    """

    venue: str
    asset: str
    px: float | None
    tiers: tuple[Tier, ...] = (Tier(None, 0.0),)
    share: float | None = None
    multipliers: tuple[float, ...] = ()
    yield_per_year: float = 0.0


class Venue(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A venue that asks for margin.

    `charge_per_year` is the cost of a dollar there being exposed to its default, `unrealised_quote` the profit not paid
    out: part of equity and of exposure. `cap_quote` limits that exposure.
    """

    name: str
    cap_quote: float | None = None
    charge_per_year: float = 0.0
    unrealised_quote: float = 0.0


class Wallet(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A wallet of ours on a chain. `least_gas` of `gas_asset` stays in it, so that it can always send."""

    name: str
    chain: str
    gas_asset: str = ""
    least_gas: float = 0.0
    cap_quote: float | None = None
    charge_per_year: float = 0.0


class Holding(msgspec.Struct, frozen=True, gc=False):
    """What is at a place now."""

    place: str
    asset: str
    amount: float


class Pending(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is on its way already: an exposure now, collateral once its p95 delay is over."""

    asset: str
    amount: float
    to_place: str
    carrier: str
    arrives_s: float


class Route(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One way for one asset from one place to another, over a carrier (a network or a bridge).

    Of what is sent, `fee_bps` and `fixed_fee` (in the asset) do not arrive; `gas` is what the place of origin pays in
    its gas asset. `least`, `most` and `lot` are amounts sent. A deadline is met by the p95 delay. `charge_per_year` is
    the cost of a dollar being exposed to the carrier.
    """

    name: str
    asset: str
    from_place: str
    to_place: str
    carrier: str
    fixed_fee: float = 0.0
    fee_bps: float = 0.0
    gas: float = 0.0
    delay_p50_s: float = 0.0
    delay_p95_s: float = 0.0
    least: float = 0.0
    most: float | None = None
    lot: float = 0.0
    charge_per_year: float = 0.0


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a venue will ask for from `by_s` on, under every scenario: maintenance margin, and P&L against now.

    `buffer` (None: the problem's) multiplies the maintenance margin. Of several needs of a venue the larger one counts.
    """

    venue: str
    maintenance_quote: tuple[float, ...]
    pnl_quote: tuple[float, ...]
    by_s: float = 0.0
    buffer: float | None = None


class Cap(msgspec.Struct, frozen=True, kw_only=True):
    """No more than this at these places together and on these carriers: a group, an issuer, a bridge, a chain.

    `assets` are those that count; empty is all of them.
    """

    name: str
    most_quote: float
    places: tuple[str, ...] = ()
    carriers: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()


class CollateralProblem(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a collateral plan is made from.

    `multipliers` are what an asset's price is multiplied by in each of `scenarios` (1 where none are given): collateral
    of the same underlying as the risk then falls with it. Needs must be met now and at every one of `horizons_s` and
    of their own `by_s`. `hold_years` is how long collateral stays: cost by the year counts that long beside fees.
    """

    assets: tuple[Asset, ...]
    venues: tuple[Venue, ...]
    acceptances: tuple[Acceptance, ...]
    holdings: tuple[Holding, ...]
    needs: tuple[Need, ...]
    routes: tuple[Route, ...] = ()
    wallets: tuple[Wallet, ...] = ()
    pending: tuple[Pending, ...] = ()
    caps: tuple[Cap, ...] = ()
    scenarios: tuple[str, ...] = ("as it is",)
    multipliers: dict[str, tuple[float, ...]] = {}
    horizons_s: tuple[float, ...] = (0.0, 600.0, 3600.0)
    buffer: float = 1.25
    hold_years: float = 1.0

    def place_names(self) -> tuple[str, ...]:
        """Return the venues, then the wallets."""
        return (*(one.name for one in self.venues), *(one.name for one in self.wallets))


def check_problem(problem: CollateralProblem) -> None:
    """Raise ValueError, in one sentence, for the first thing in a problem that cannot be."""
    for complaint in _complaints(problem):
        raise ValueError(complaint)


def decode_problem(text: str | bytes) -> CollateralProblem:
    """Return the problem that a JSON text holds. Raises ValueError where it holds none that can be."""
    try:
        problem = msgspec.json.decode(text, type=CollateralProblem)
    except msgspec.DecodeError as error:  # a ValidationError too
        raise ValueError(f"expected a collateral problem in JSON, found {error}") from None
    check_problem(problem)
    return problem


def _complaints(problem: CollateralProblem) -> Iterator[str]:
    yield from _doubles(problem)
    yield from _unknown_names(problem)
    yield from _wrong_numbers(problem)
    yield from _wrong_lengths(problem)
    for one in problem.acceptances:
        yield from _wrong_tiers(one)


def _doubles(problem: CollateralProblem) -> Iterator[str]:
    listed: tuple[tuple[str, list[object]], ...] = (
        ("asset", [one.name for one in problem.assets]),
        ("place", list(problem.place_names())),
        ("acceptance", [(one.venue, one.asset) for one in problem.acceptances]),
        ("holding", [(one.place, one.asset) for one in problem.holdings]),
        ("route", [one.name for one in problem.routes]),
        ("cap", [one.name for one in problem.caps]),
        ("scenario", list(problem.scenarios)),
    )
    for kind, names in listed:
        double = next((name for n, name in enumerate(names) if name in names[:n]), None) if _has_double(names) else None
        if double is not None:
            yield f"expected every {kind} once, found {double} twice"


def _has_double(names: list[object]) -> bool:
    return len(set(names)) < len(names)


def _unknown_names(problem: CollateralProblem) -> Iterator[str]:
    assets = {one.name for one in problem.assets}
    venues = {one.name for one in problem.venues}
    places = set(problem.place_names())
    carriers = {one.carrier for one in problem.routes} | {one.carrier for one in problem.pending}
    asked: list[tuple[str, str, set[str], str]] = []
    asked += [("a venue", one.venue, venues, f"the acceptance of {one.asset}") for one in problem.acceptances]
    asked += [("a venue", one.venue, venues, "a need") for one in problem.needs]
    asked += [("a place", one.place, places, f"a holding of {one.asset}") for one in problem.holdings]
    asked += [("a place", one.to_place, places, f"{one.asset} on its way") for one in problem.pending]
    for route in problem.routes:
        asked += [("a place", name, places, f"route {route.name}") for name in (route.from_place, route.to_place)]
    for cap in problem.caps:
        asked += [("a place", name, places, f"cap {cap.name}") for name in cap.places]
        asked += [("a carrier", name, carriers, f"cap {cap.name}") for name in cap.carriers]
        asked += [("an asset", name, assets, f"cap {cap.name}") for name in cap.assets]
    asked += [("an asset", one.asset, assets, f"an acceptance of {one.venue}") for one in problem.acceptances]
    asked += [("an asset", one.asset, assets, f"a holding at {one.place}") for one in problem.holdings]
    asked += [("an asset", one.asset, assets, f"what is on its way to {one.to_place}") for one in problem.pending]
    asked += [("an asset", one.asset, assets, f"route {one.name}") for one in problem.routes]
    asked += [("an asset", name, assets, "multipliers") for name in problem.multipliers]
    asked += [("an asset", one.gas_asset, assets, f"wallet {one.name}") for one in problem.wallets if one.gas_asset]
    for kind, name, known, where in asked:
        if name not in known:
            yield f"expected {kind} that is listed in {where}, found {name}; hint: one of {', '.join(sorted(known))}"
    for route in problem.routes:
        if route.from_place == route.to_place:
            yield f"expected route {route.name} to lead elsewhere, found {route.from_place} at both ends"


def _wrong_numbers(problem: CollateralProblem) -> Iterator[str]:
    """Yield a sentence for every number that is not finite, and for every one that is negative and may not be."""
    for name, one in _structs(problem):
        for field in one.__struct_fields__:
            value = getattr(one, field)
            if isinstance(value, float | int):
                yield from _wrong_number(field, name, float(value))
    for need in problem.needs:
        for value in need.maintenance_quote:
            yield from _wrong_number("maintenance_quote", need.venue, value)
        for value in need.pnl_quote:
            yield from _wrong_number("pnl_quote", need.venue, value)
    listed = [*problem.multipliers.items(), ("the problem", problem.horizons_s)]
    listed += [(f"{one.asset} at {one.venue}", one.multipliers) for one in problem.acceptances]
    for name, values in listed:
        for value in values:
            yield from _wrong_number("multipliers and horizons", name, value)
    yield from _wrong_pairs(problem)


def _wrong_number(field: str, name: str, value: float) -> Iterator[str]:
    if not isfinite(value):
        yield f"expected a finite {field} of {name}, found {value}"
    elif value < 0.0 and field not in _MAY_BE_NEGATIVE:
        yield f"expected {field} of {name} not to be negative, found {value:g}"
    elif value == 0.0 and field == "px":
        yield f"expected a price above zero as px of {name}, found 0; hint: leave out what is not known"


def _wrong_pairs(problem: CollateralProblem) -> Iterator[str]:
    """Yield a sentence for numbers that do not go together."""
    for buffer in (problem.buffer, *(one.buffer for one in problem.needs if one.buffer is not None)):
        if buffer < 1.0:
            yield f"expected a buffer of at least 1 times maintenance margin, found {buffer:g}"
    gas_assets = {one.name: one.gas_asset for one in problem.wallets}
    for route in problem.routes:
        if route.delay_p95_s < route.delay_p50_s:
            late = f"at least its p50 of {route.delay_p50_s:g} s, found {route.delay_p95_s:g} s"
            yield f"expected a p95 delay of route {route.name} of {late}"
        if route.fee_bps >= 1e4:
            yield f"expected route {route.name} to take less than all of it, found a fee of {route.fee_bps:g} bps"
        if route.gas > 0.0 and not gas_assets.get(route.from_place):
            yield f"expected a gas asset of {route.from_place}, where route {route.name} burns gas, found none"


def _structs(problem: CollateralProblem) -> Iterator[tuple[str, msgspec.Struct]]:
    yield "the problem", problem
    yield from ((one.name, one) for one in problem.assets)
    yield from ((one.name, one) for one in problem.venues)
    yield from ((one.name, one) for one in problem.wallets)
    yield from ((f"route {one.name}", one) for one in problem.routes)
    yield from ((f"cap {one.name}", one) for one in problem.caps)
    yield from ((f"{one.asset} at {one.place}", one) for one in problem.holdings)
    yield from ((f"{one.asset} at {one.venue}", one) for one in problem.acceptances)
    yield from ((f"{one.asset} on its way", one) for one in problem.pending)
    yield from ((f"a need of {one.venue}", one) for one in problem.needs)


def _wrong_lengths(problem: CollateralProblem) -> Iterator[str]:
    count = len(problem.scenarios)
    if not count:
        yield "expected at least one scenario, found none"
    lists: list[tuple[str, Iterable[float]]] = []
    lists += [(f"needs of {one.venue}", one.maintenance_quote) for one in problem.needs]
    lists += [(f"P&L of {one.venue}", one.pnl_quote) for one in problem.needs]
    lists += [(f"multipliers of {name}", values) for name, values in problem.multipliers.items()]
    lists += [(f"multipliers of {a.asset} at {a.venue}", a.multipliers) for a in problem.acceptances if a.multipliers]
    for name, values in lists:
        if (found := len(tuple(values))) != count:
            yield f"expected {name} for each of {count} scenarios, found {found}"


def _wrong_tiers(one: Acceptance) -> Iterator[str]:
    where = f"{one.asset} at {one.venue}"
    reach, haircut = 0.0, 0.0
    for n, tier in enumerate(one.tiers):
        up_to = inf if tier.up_to_quote is None else tier.up_to_quote
        if not up_to > reach:
            yield f"expected tiers of {where} to reach ever further, found {up_to:g} after {reach:g}"
        if not haircut <= tier.haircut <= 1.0:
            yield f"expected haircuts of {where} that grow and are at most 1, found {tier.haircut:g} in tier {n + 1}"
        reach, haircut = up_to, tier.haircut
    if one.share is not None and one.share > 1.0:
        yield f"expected a share of {where} of at most 1, found {one.share:g}"
