"""A SPAN-like model: 16 scenarios, spreads between expiries and between underlyings, a minimum for short options.

By underlying, in quote money: risk = max(scan + spread + delivery - credit, short option minimum). The structure is
that of CME SPAN as generally known; every figure is a parameter. Two things are not in it: the day that SPAN lets pass,
and the net option value, which our equity counts already.

Scan: price 0, ±1/3, ±2/3 and ±1 of the price range, vol up and down, and ± the extreme move, of whose loss a part
counts. Credit for a spread of opposite deltas: what each leg's price risk per delta costs (mean of the worst scenario
and the one of the same price and the other vol, less that of no move at all), times rate and deltas spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import msgspec
import numpy as np

from bot.risk.book import RiskBook
from bot.risk.requirement import Charge, Requirement
from bot.risk.scenarios import DAYS_PER_YEAR, DOWN, SAME, UP, Scenario, ScenarioSet, VolShock
from bot.risk.spreads import pair_off
from bot.risk.stack import BookStack, StackGroups, stack_deltas
from bot.risk.stack_values import StackValues, alike_parts

MODEL: Final = "span"
OTHERS: Final = "*"
STEPS: Final = (0.0, 1.0 / 3.0, -1.0 / 3.0, 2.0 / 3.0, -2.0 / 3.0, 1.0, -1.0)
LOWEST: Final = -0.99  # an extreme move of three times a wide range would take a price below nothing


class SpanAsset(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one underlying: ranges are a share of price and points of vol, rates a share of spot.

    A spread between expiries costs max(spread_rate, spread_per_year × years between them) per base. Expiries within
    `delivery_days` cost `delivery_rate` of their net delta.
    """

    price_range: float
    vol_range: float
    extreme_multiple: float
    extreme_cover: float
    spread_rate: float
    spread_per_year: float
    short_option_rate: float
    delivery_days: float
    delivery_rate: float

    def scenarios(self) -> ScenarioSet:
        """Return the 16 scenarios; those of one price stand beside each other, vol up first."""
        return _scenarios(self)


@lru_cache(maxsize=64)
def _scenarios(asset: SpanAsset) -> ScenarioSet:
    inner = [Scenario(asset.price_range * step, vol) for step in STEPS for vol in (UP, DOWN)]
    far = asset.price_range * asset.extreme_multiple
    outer = [Scenario(move, SAME, asset.extreme_cover, is_extended=True) for move in (far, max(-far, LOWEST))]
    return ScenarioSet(inner + outer, VolShock(up=asset.vol_range, down=asset.vol_range, in_points=True))


class SpanCredit(msgspec.Struct, frozen=True, kw_only=True):
    """A spread of `first_deltas` of one underlying against `second_deltas` of another, on opposite sides."""

    first: str
    second: str
    first_deltas: float
    second_deltas: float
    rate: float


class SpanParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters by underlying ("*": others), credits in the order they are given, and initial over maintenance."""

    assets: dict[str, SpanAsset]
    credits: tuple[SpanCredit, ...]
    initial_factor: float


class _Scanned(msgspec.Struct):
    """What the scan of one underlying found; credits use up `free_delta`."""

    name: str
    scan: float
    worst: str
    names: tuple[str, ...]
    pnl: tuple[float, ...]
    spread: float
    delivery: float
    minimum: float
    price_risk_per_delta: float
    free_delta: float
    credit: float = 0.0


def requirement(book: RiskBook, parameters: SpanParameters) -> Requirement:
    """Return the SPAN-like margin; the credit charge is negative, and the minimum is what it adds to the rest."""
    return requirements(BookStack(book), parameters)[0]


def requirements(stack: BookStack, parameters: SpanParameters) -> list[Requirement]:
    """Return the SPAN-like margin of each copy of a stack, as `requirement` would of each by itself."""
    scanned = _scan_all(stack, parameters)
    return [_add_up([one[copy] for one in scanned], parameters) for copy in range(len(stack))]


def _add_up(scanned: list[_Scanned], parameters: SpanParameters) -> Requirement:
    found = {one.name: one for one in scanned}
    for credit in parameters.credits:
        _give(found, credit)
    charges: list[Charge] = []
    for one in found.values():
        rest = one.scan + one.spread + one.delivery - one.credit
        items = (
            ("scan", one.scan, one.worst),
            ("spread between expiries", one.spread, ""),
            ("delivery", one.delivery, ""),
            ("credit between underlyings", -one.credit, ""),
            ("short option minimum", max(one.minimum - rest, 0.0), ""),
        )
        charges += [
            Charge(f"{one.name} {item}", parameters.initial_factor * amount, amount, detail)
            for item, amount, detail in items
            if amount or item == "scan"
        ]
    maintenance = sum([one.maintenance for one in charges])
    largest = max(found.values(), key=lambda one: one.scan, default=None)
    worst, names, pnl = ("", (), ()) if largest is None else (largest.worst, largest.names, largest.pnl)
    initial = parameters.initial_factor * maintenance
    return Requirement(MODEL, "quote", initial, maintenance, tuple(charges), worst, names, pnl)


def _scan_all(stack: BookStack, parameters: SpanParameters) -> list[list[_Scanned]]:
    """Return by underlying and copy what the scan finds."""
    assets = []
    for underlying in stack.held:
        name = stack.underlyings[underlying]
        asset = parameters.assets.get(name, parameters.assets.get(OTHERS))
        if asset is None:
            raise ValueError(
                f"expected SPAN parameters of {name}, found those of {', '.join(sorted(parameters.assets))}"
            )
        assets.append(asset)
    parts = alike_parts(stack, [one.scenarios() for one in assets])
    return [own for part, places in parts for own in _scan(part, [assets[place] for place in places])]


def _scan(stack: BookStack, assets: Sequence[SpanAsset]) -> list[list[_Scanned]]:
    """Return the scan of all underlyings of a stack, by copy each; there is one asset for each, scenarios alike."""
    sets, groups = [one.scenarios() for one in assets], StackGroups(stack)
    rates = np.array([(one.delivery_days, one.delivery_rate, one.short_option_rate) for one in assets]).T[:, :, None]
    values = StackValues(stack, sets)
    loss = -values.pnl_by_underlying() * values.weight[:, :, None]
    at = loss.argmax(axis=1)
    paired = np.where(at >= 2 * len(STEPS), at, at ^ 1)
    own, copy = np.arange(len(assets))[:, None], np.arange(len(stack))
    both = loss[own, at, copy] + loss[own, paired, copy]
    price_risk = np.maximum(0.5 * both - 0.5 * (loss[:, 0] + loss[:, 1]), 0.0)
    spot = np.zeros(at.shape)
    spot += stack.spot_px[:, stack.held].T
    deltas = groups.sum(stack_deltas(stack))
    expires = groups.sum(np.isfinite(stack.tau_years).astype(float)) > 0.0  # what never expires is never delivered
    is_soon = expires & (groups.tau_years * DAYS_PER_YEAR <= rates[0, groups.place, 0])
    delivery = spot * rates[1] * (np.where(is_soon, np.abs(deltas), 0.0) @ groups.selector).T
    short = np.maximum(-stack.qty_base.take(values.options, axis=1), 0.0)
    minimum = spot * rates[2] * (short @ stack.layout.selector.take(values.options, axis=0)).T
    years_of = groups.tau_years if len(groups.tau_years) == len(deltas) else np.repeat(groups.tau_years, len(deltas), 0)
    pnl_of = (-loss).transpose(0, 2, 1)
    found = []
    for place, (asset, scenarios, mine) in enumerate(zip(assets, sets, groups.is_of, strict=True)):
        columns = (
            *(at[place].tolist(), pnl_of[place].tolist(), deltas[:, mine].tolist(), years_of[:, mine].tolist()),
            *(one[place].tolist() for one in (spot, delivery, minimum, price_risk)),
        )
        name, scans = stack.underlyings[stack.held[place]], []
        for worst, pnl, nets, years, px, delivered, least, risk in zip(*columns, strict=True):
            net = sum(nets)
            scans.append(
                _Scanned(
                    name=name,
                    scan=max(0.0, -pnl[worst]),
                    worst=scenarios.names[worst],
                    names=scenarios.names,
                    pnl=tuple(pnl),
                    spread=px * _spread_charge(nets, years, asset),
                    delivery=delivered,
                    minimum=least,
                    price_risk_per_delta=risk / abs(net) if net else 0.0,
                    free_delta=net,
                )
            )
        found.append(scans)
    return found


def _spread_charge(deltas: list[float], years: list[float], asset: SpanAsset) -> float:
    return sum(
        [
            pair.amount * max(asset.spread_rate, asset.spread_per_year * abs(years[pair.long] - years[pair.short]))
            for pair in pair_off(deltas, years)
        ]
    )


def _give(found: dict[str, _Scanned], credit: SpanCredit) -> None:
    first, second = found.get(credit.first), found.get(credit.second)
    if first is None or second is None or first.free_delta * second.free_delta >= 0.0:
        return
    spreads = min(abs(first.free_delta) / credit.first_deltas, abs(second.free_delta) / credit.second_deltas)
    for leg, deltas in ((first, credit.first_deltas), (second, credit.second_deltas)):
        used = spreads * deltas
        leg.credit += leg.price_risk_per_delta * credit.rate * used
        leg.free_delta -= used if leg.free_delta > 0.0 else -used
