"""Paradex: portfolio margin (SCAN and minimum delta) and cross margin, as its documentation states them.

Source: tradeparadex/paradex-docs (MIT), pages on portfolio margin, cross margin requirement, dated options and
socialised losses. Per underlying, in quote money. Left out: open loss of orders priced through the mark, which a book
does not show, and the cap on short puts, which only ever lowers a requirement.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

import msgspec
import numpy as np

from bot.risk.book import PERPETUAL, SPOT, Flags, Floats, RiskBook
from bot.risk.margin.payoffs import least_payoffs
from bot.risk.margin.tables import sums
from bot.risk.requirement import Charge, Requirement
from bot.risk.scenarios import Scenario, ScenarioSet, VolShock
from bot.risk.stack import BookStack, StackGroups, by_copy, stack_deltas
from bot.risk.stack_values import StackValues, alike_parts

PORTFOLIO: Final = "paradex_portfolio"
CROSS: Final = "paradex_cross"
OTHERS: Final = "*"  # stands for every underlying that has no parameters of its own

T = TypeVar("T")


class ScanTable(msgspec.Struct, frozen=True, kw_only=True):
    """What portfolio margin knows of one underlying: (price move, vol change, weight) and the minimum delta factors."""

    scenarios: tuple[tuple[float, float, float], ...]
    unhedged_factor: float
    hedged_factor: float


class PortfolioParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of portfolio margin; `assets` by underlying, "*" for the others where it is given.

    `min_vol_up` is the least vol that a shock up leaves. `funding_8h` is the share of notional that funding is expected
    to take in the next 8 hours, where the caller does not tell it by row.
    """

    assets: dict[str, ScanTable]
    dte_floor: float
    short_pow: float
    long_pow: float
    min_vol_up: float
    mm_factor: float
    funding_8h: float
    fee_rate: float

    def scenarios(self, underlying: str) -> ScenarioSet:
        """Return the scenarios of one underlying."""
        table = _look_up(self.assets, underlying, "scan table")
        return _scenarios(table, self.dte_floor, self.short_pow, self.long_pow, self.min_vol_up)


@lru_cache(maxsize=64)
def _scenarios(table: ScanTable, days: float, short_pow: float, long_pow: float, min_vol_up: float) -> ScenarioSet:
    shock = VolShock(short_power=short_pow, long_power=long_pow, least_days=days, least_vol_up=min_vol_up)
    return ScenarioSet([Scenario(move, change, weight) for move, change, weight in table.scenarios], shock)


def portfolio_requirement(
    book: RiskBook, parameters: PortfolioParameters, funding_8h: Floats | None = None
) -> Requirement:
    """Return portfolio margin: max(SCAN, minimum delta) by underlying, and provisions for funding and fees.

    `funding_8h` is what each row is expected to pay in the next 8 hours per quote of notional, positive where longs
    pay; rows that receive are not credited. Maintenance is mm_factor of the maximum, and the whole provisions.
    """
    return _portfolio_requirements(BookStack(book), parameters, funding_8h)[0]


def portfolio_requirements(stack: BookStack, parameters: PortfolioParameters) -> list[Requirement]:
    """Return portfolio margin of each copy of a stack, as `portfolio_requirement` would say of each by itself."""
    return _portfolio_requirements(stack, parameters, None)


def _portfolio_requirements(
    stack: BookStack, parameters: PortfolioParameters, funding_8h: Floats | None
) -> list[Requirement]:
    copies = range(len(stack))
    charges: list[list[Charge]] = [[] for _ in copies]
    worst, largest = [""] * len(stack), [-1.0] * len(stack)
    names: list[tuple[str, ...]] = [()] * len(stack)
    pnl: list[tuple[float, ...]] = [()] * len(stack)
    held = [stack.underlyings[number] for number in stack.held]
    sets = [parameters.scenarios(name) for name in held]
    for part, places in alike_parts(stack, sets):
        own_sets = [sets[place] for place in places]
        values = StackValues(part, own_sets)
        weighted = values.pnl_by_underlying() * values.weight[:, :, None]
        deltas, lowest = stack_deltas(part), weighted.argmin(axis=1).tolist()
        for at, place in enumerate(places):
            name, scenarios, table = held[place], sets[place], _look_up(parameters.assets, held[place], "scan table")
            own_deltas = deltas[:, part.layout.place == at]
            floors = _minimum_deltas(own_deltas, part.spot_px[:, part.held[at]], table).tolist()
            for copy, worst_at, lines in zip(copies, lowest[at], weighted[at].T.tolist(), strict=True):
                scan, floor, detail = max(0.0, -lines[worst_at]), floors[copy], scenarios.names[worst_at]
                if scan >= largest[copy]:
                    largest[copy], worst[copy], names[copy], pnl[copy] = scan, detail, scenarios.names, tuple(lines)
                if scan >= floor:
                    charges[copy].append(Charge(f"{name} scan", scan, parameters.mm_factor * scan, detail))
                else:
                    why = f"more than the scan's {scan:.2f} ({detail})"
                    charges[copy].append(Charge(f"{name} minimum delta", floor, parameters.mm_factor * floor, why))
    for own, funding, fee in zip(charges, *_provisions(stack, parameters, funding_8h), strict=True):
        own += [Charge("funding", funding, funding), Charge("fees", fee, fee)]
    return [_sum_up(PORTFOLIO, *one) for one in zip(charges, worst, names, pnl, strict=True)]


def minimum_delta(deltas: Floats, spot_px: float, table: ScanTable) -> float:
    """Return (unhedged |net| + hedged (gross - |net|)/2) × spot."""
    return float(_minimum_deltas(deltas[None, :], np.array([spot_px]), table)[0])


def _minimum_deltas(deltas: Floats, spot_px: Floats, table: ScanTable) -> Floats:
    net, gross = np.abs(deltas.sum(axis=1)), np.abs(deltas).sum(axis=1)
    found: Floats = (table.unhedged_factor * net + table.hedged_factor * 0.5 * (gross - net)) * spot_px
    return found


class OptionFractions(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of spot that cross margin asks for options, and of spot per net short call that no long one pairs with."""

    long_itm: float
    short_itm: float
    short_otm: float
    premium: float
    unpaired: float


class CrossAsset(msgspec.Struct, frozen=True, kw_only=True):
    """What cross margin knows of one underlying: the initial fraction of perpetuals, and options if it lists them."""

    initial_fraction: float
    options_initial: OptionFractions | None = None
    options_maintenance: OptionFractions | None = None


class CrossParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of cross margin; `assets` by underlying, "*" for the others where it is given."""

    assets: dict[str, CrossAsset]
    mm_factor: float
    fee_rate: float


def cross_requirement(book: RiskBook, parameters: CrossParameters) -> Requirement:
    """Return cross margin: perpetuals and futures by the larger open side, options by their group of one expiry.

    Spot is collateral, not a position, and asks for nothing. A position costs its fee once more, an open order twice.
    """
    return cross_requirements(BookStack(book), parameters)[0]


def cross_requirements(stack: BookStack, parameters: CrossParameters) -> list[Requirement]:
    """Return cross margin of each copy of a stack, as `cross_requirement` would say of each by itself."""
    copies = len(stack)
    linear = stack.contracts()
    charges: list[list[Charge]] = [[] for _ in range(copies)]
    opened = sums(linear, linear.mark_px * open_size(linear.qty_base, linear.buy_base, linear.sell_base))
    held = sums(linear, linear.mark_px * np.abs(linear.qty_base))
    options = stack.only_options()
    both = option_margins(options, *_fractions(options, parameters))
    for underlying in stack.held:
        name = stack.underlyings[underlying]
        asset = _look_up(parameters.assets, name, "cross margin parameters")
        fraction = asset.initial_fraction
        if underlying in linear.held:
            place = linear.held.index(underlying)
            sizes = by_copy(opened[place], copies), by_copy(held[place], copies)
            for own, size, now in zip(charges, *sizes, strict=True):
                maintenance = parameters.mm_factor * fraction * now
                own.append(Charge(f"{name} perpetuals", fraction * size, maintenance))
        if underlying in options.held:
            place = options.held.index(underlying)
            for own, first, later in zip(charges, *(one[:, place].tolist() for one in both), strict=True):
                own.append(Charge(f"{name} options", first, later))
    notional_px = np.where(stack.is_option, stack.spot_of_row_px, stack.mark_px) * (stack.kind != SPOT)
    positions = (np.abs(stack.qty_base) * notional_px).sum(axis=1)
    fee = parameters.fee_rate
    asked = fee * (positions + 2.0 * ((stack.buy_base + stack.sell_base) * notional_px).sum(axis=1))
    for own, first, later in zip(charges, asked.tolist(), (fee * positions).tolist(), strict=True):
        own.append(Charge("fees", first, later))
    return [_sum_up(CROSS, own) for own in charges]


def open_size(qty_base: Floats, buy_base: Floats, sell_base: Floats) -> Floats:
    """Return by row the larger of what would be held if all buys filled and if all sells did, unsigned."""
    return np.maximum(np.maximum(buy_base + qty_base, sell_base - qty_base), 0.0)


def _fractions(options: BookStack, parameters: CrossParameters) -> tuple[list[OptionFractions], list[OptionFractions]]:
    """Return the fractions for initial and maintenance margin of every underlying that options are held of."""
    initial, maintenance = [], []
    for underlying in options.held:
        name = options.underlyings[underlying]
        asset = _look_up(parameters.assets, name, "cross margin parameters")
        if asset.options_initial is None or asset.options_maintenance is None:
            raise ValueError(f"expected option fractions of {name} in the parameters of {CROSS}, found none")
        initial.append(asset.options_initial)
        maintenance.append(asset.options_maintenance)
    return initial, maintenance


def option_margins(
    stack: BookStack, initial: Sequence[OptionFractions], maintenance: Sequence[OptionFractions]
) -> tuple[Floats, Floats]:
    """Return by copy and underlying initial margin of options with their orders, and maintenance margin without.

    Fractions are by underlying held. Initial margin is by expiry the worst of no orders filled, all buys filled and all
    sells filled.
    """
    groups = StackGroups(stack)
    losses = group_losses(stack, groups, stack.qty_base)
    held = option_groups(stack, groups, stack.qty_base, initial, losses)
    kept = option_groups(stack, groups, stack.qty_base, maintenance, losses)
    for orders in stack.layout.sides:
        held = np.maximum(held, option_groups(stack, groups, stack.qty_base + orders, initial))
    return held @ groups.selector, kept @ groups.selector


class Losses(NamedTuple):
    """What expiries can lose, by copy and group: value less least payoff, spot of net short calls, and of which."""

    loss_quote: Floats
    unpaired_quote: Floats
    is_grouped: Flags


def group_losses(stack: BookStack, groups: StackGroups, qty_base: Floats) -> Losses:
    """Return what each expiry's options can lose; only one with a short, and that expires, is a group."""
    least = least_payoffs(stack.strike_px, stack.is_call, qty_base, groups.grouping)
    loss = np.maximum(groups.sum(qty_base * stack.mark_px) - least, 0.0)
    unpaired = np.maximum(-groups.sum(np.where(stack.is_call, qty_base, 0.0)), 0.0)
    spot_px = stack.spot_px.take(groups.grouping.key(stack.underlying), axis=1)
    is_grouped = groups.sum((qty_base < 0.0).astype(float)) > 0.0
    never = np.isinf(stack.tau_years)
    if never.any():
        is_grouped &= groups.sum(never.astype(float)) == 0.0
    return Losses(loss, unpaired * spot_px, is_grouped)


def option_groups(
    stack: BookStack,
    groups: StackGroups,
    qty_base: Floats,
    fractions: Sequence[OptionFractions],
    losses: Losses | None = None,
) -> Floats:
    """Return by copy what each expiry's options cost: the lesser of their sum and of what the group can lose.

    Alone a long costs min(premium × mark, long_itm × spot), a short max(short_itm × spot - out of the money,
    short_otm × spot). A group with a short loses at most its value now less the least payoff, at 0 or at a strike, and
    the charge for net short calls. What never expires is not grouped. Fractions are by underlying held.
    """
    place, spot = stack.layout.place, stack.spot_of_row_px
    rows = [msgspec.structs.astuple(one) for one in fractions]
    table = np.array(rows).reshape(-1, len(OptionFractions.__struct_fields__))
    long_itm, short_itm, short_otm, premium, unpaired = table.T
    out = np.maximum(np.where(stack.is_call, stack.strike_px - spot, spot - stack.strike_px), 0.0)
    short = np.maximum(short_itm[place] * spot - out, short_otm[place] * spot)
    long = np.minimum(premium[place] * stack.mark_px, long_itm[place] * spot)
    alone = groups.sum(np.where(qty_base < 0.0, -qty_base * short, qty_base * long))
    known = group_losses(stack, groups, qty_base) if losses is None else losses
    together = known.loss_quote + unpaired[groups.place] * known.unpaired_quote
    return np.where(known.is_grouped, np.minimum(alone, together), alone)


def socialised_loss(bankrupt_quote: float, insurance_quote: float, balances_quote: float) -> float:
    """Return the share that every withdrawal loses while accounts owe more than the insurance fund has.

    shortfall / (balances + shortfall), where `balances_quote` is what is left of all users' balances.
    """
    shortfall = max(bankrupt_quote - insurance_quote, 0.0)
    whole = balances_quote + shortfall
    return shortfall / whole if whole > 0.0 else 0.0


def _provisions(
    stack: BookStack, parameters: PortfolioParameters, funding_8h: Floats | None
) -> tuple[list[float], list[float]]:
    """Return funding and fees of each copy."""
    value = stack.qty_base * stack.mark_px
    told = np.abs(value) * parameters.funding_8h if funding_8h is None else np.maximum(value * funding_8h, 0.0)
    funding = told[:, stack.kind == PERPETUAL].sum(axis=1)
    traded = np.flatnonzero(stack.kind != SPOT)
    notional_px = np.where(stack.is_option, stack.spot_of_row_px, stack.mark_px)
    sizes = np.abs(stack.qty_base[:, traded]) * notional_px[:, traded]
    return funding.tolist(), (parameters.fee_rate * sizes.sum(axis=1)).tolist()


def _look_up(assets: dict[str, T], underlying: str, what: str) -> T:
    found = assets.get(underlying, assets.get(OTHERS))
    if found is None:
        raise ValueError(f"expected a {what} of {underlying}, found those of {', '.join(sorted(assets))}")
    return found


def _sum_up(
    model: str, charges: list[Charge], worst: str = "", names: tuple[str, ...] = (), pnl: tuple[float, ...] = ()
) -> Requirement:
    initial = sum([one.initial for one in charges])
    maintenance = sum([one.maintenance for one in charges])
    return Requirement(model, "quote", initial, maintenance, tuple(charges), worst, names, pnl)
