"""A SPAN-like model: 16 scenarios, spreads between expiries and between underlyings, a minimum for short options.

By underlying, in quote money: risk = max(scan + spread + delivery - credit, short option minimum). The structure is
that of CME SPAN as generally known; every figure is a parameter. Two things are not in it: the day that SPAN lets pass,
and the net option value, which our equity counts already.

Scan: price 0, ±1/3, ±2/3 and ±1 of the price range, vol up and down, and ± the extreme move, of whose loss a part
counts. Credit for a spread of opposite deltas: what each leg's price risk per delta costs (mean of the worst scenario
and the one of the same price and the other vol, less that of no move at all), times rate and deltas spread.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec
import numpy as np

from bot.risk.book import Floats, RiskBook
from bot.risk.repricing import Groups, ScenarioMatrix, base_deltas
from bot.risk.requirement import Charge, Requirement
from bot.risk.scenarios import DAYS_PER_YEAR, DOWN, SAME, UP, Scenario, ScenarioSet, VolShock
from bot.risk.spreads import pair_off

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
    found = {one.name: one for one in _scan_all(book, parameters)}
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
    maintenance = sum(one.maintenance for one in charges)
    largest = max(found.values(), key=lambda one: one.scan, default=None)
    worst, names, pnl = ("", (), ()) if largest is None else (largest.worst, largest.names, largest.pnl)
    initial = parameters.initial_factor * maintenance
    return Requirement(MODEL, "quote", initial, maintenance, tuple(charges), worst, names, pnl)


def _scan_all(book: RiskBook, parameters: SpanParameters) -> list[_Scanned]:
    out: list[_Scanned] = []
    for underlying in book.held:
        name = book.underlyings[underlying]
        asset = parameters.assets.get(name, parameters.assets.get(OTHERS))
        if asset is None:
            raise ValueError(
                f"expected SPAN parameters of {name}, found those of {', '.join(sorted(parameters.assets))}"
            )
        out.append(_scan(book.where(book.underlying == underlying), name, asset))
    return out


def _scan(book: RiskBook, name: str, asset: SpanAsset) -> _Scanned:
    matrix = ScenarioMatrix(book, asset.scenarios())
    scenarios, groups = matrix.scenarios, matrix.groups
    loss = -matrix.by_expiry.sum(axis=1) * scenarios.weight
    at = int(loss.argmax())
    deltas = groups.sum(base_deltas(book))
    net = float(deltas.sum())
    paired = at if at >= 2 * len(STEPS) else at ^ 1
    price_risk = 0.5 * float(loss[at] + loss[paired]) - 0.5 * float(loss[0] + loss[1])
    spot = float(book.spot_of_row_px[0])
    short = book.is_option & (book.qty_base < 0.0)
    return _Scanned(
        name=name,
        scan=max(0.0, float(loss[at])),
        worst=scenarios.names[at],
        names=scenarios.names,
        pnl=tuple((-loss).tolist()),
        spread=spot * _spread_charge(deltas, groups.tau_years, asset),
        delivery=spot * asset.delivery_rate * _delivered(book, groups, deltas, asset.delivery_days),
        minimum=spot * asset.short_option_rate * float(-book.qty_base[short].sum()),
        price_risk_per_delta=max(price_risk, 0.0) / abs(net) if net else 0.0,
        free_delta=net,
    )


def _spread_charge(deltas: Floats, tau_years: Floats, asset: SpanAsset) -> float:
    years: list[float] = tau_years.tolist()
    return sum(
        pair.amount * max(asset.spread_rate, asset.spread_per_year * abs(years[pair.long] - years[pair.short]))
        for pair in pair_off(deltas.tolist(), years)
    )


def _delivered(book: RiskBook, groups: Groups, deltas: Floats, days: float) -> float:
    """Return the net deltas of expiries that are delivered soon; what never expires is never delivered."""
    expires = np.array([bool(np.isfinite(book.tau_years[groups.rows(group)]).any()) for group in range(len(groups))])
    return float(np.abs(deltas[expires & (groups.tau_years * DAYS_PER_YEAR <= days)]).sum())


def _give(found: dict[str, _Scanned], credit: SpanCredit) -> None:
    first, second = found.get(credit.first), found.get(credit.second)
    if first is None or second is None or first.free_delta * second.free_delta >= 0.0:
        return
    spreads = min(abs(first.free_delta) / credit.first_deltas, abs(second.free_delta) / credit.second_deltas)
    for leg, deltas in ((first, credit.first_deltas), (second, credit.second_deltas)):
        used = spreads * deltas
        leg.credit += leg.price_risk_per_delta * credit.rate * used
        leg.free_delta -= used if leg.free_delta > 0.0 else -used
