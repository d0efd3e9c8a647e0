"""Paradex: portfolio margin (SCAN and minimum delta) and cross margin, as its documentation states them.

Source: tradeparadex/paradex-docs (MIT), pages on portfolio margin, cross margin requirement, dated options and
socialised losses. Per underlying, in quote money. Left out: open loss of orders priced through the mark, which a book
does not show, and the cap on short puts, which only ever lowers a requirement.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec
import numpy as np

from bot.risk.book import FUTURE, OPTION, PERPETUAL, SPOT, Flags, Floats, Ints, RiskBook
from bot.risk.repricing import Groups, ScenarioMatrix, base_deltas
from bot.risk.requirement import Charge, Requirement
from bot.risk.scenarios import Scenario, ScenarioSet, VolShock

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
        shock = VolShock(
            short_power=self.short_pow,
            long_power=self.long_pow,
            least_days=self.dte_floor,
            least_vol_up=self.min_vol_up,
        )
        rows = _look_up(self.assets, underlying, "scan table").scenarios
        return ScenarioSet([Scenario(move, change, weight) for move, change, weight in rows], shock)


def portfolio_requirement(
    book: RiskBook, parameters: PortfolioParameters, funding_8h: Floats | None = None
) -> Requirement:
    """Return portfolio margin: max(SCAN, minimum delta) by underlying, and provisions for funding and fees.

    `funding_8h` is what each row is expected to pay in the next 8 hours per quote of notional, positive where longs
    pay; rows that receive are not credited. Maintenance is mm_factor of the maximum, and the whole provisions.
    """
    charges: list[Charge] = []
    worst = ""
    names: tuple[str, ...] = ()
    pnl: tuple[float, ...] = ()
    largest = -1.0
    for underlying in np.unique(book.underlying).tolist():
        name = book.underlyings[underlying]
        table = _look_up(parameters.assets, name, "scan table")
        matrix = ScenarioMatrix(book.where(book.underlying == underlying), parameters.scenarios(name))
        weighted = matrix.by_underlying(underlying) * matrix.scenarios.weight
        at = int(weighted.argmin())
        scan = max(0.0, -float(weighted[at]))
        floor = minimum_delta(base_deltas(matrix.book), float(book.spot_px[underlying]), table)
        detail = matrix.scenarios.names[at]
        if scan >= largest:
            largest, worst, names, pnl = scan, detail, matrix.scenarios.names, tuple(weighted.tolist())
        if scan >= floor:
            charges.append(Charge(f"{name} scan", scan, parameters.mm_factor * scan, detail))
        else:
            why = f"more than the scan's {scan:.2f} ({detail})"
            charges.append(Charge(f"{name} minimum delta", floor, parameters.mm_factor * floor, why))
    charges += _provisions(book, parameters, funding_8h)
    return _sum_up(PORTFOLIO, charges, worst, names, pnl)


def minimum_delta(deltas: Floats, spot_px: float, table: ScanTable) -> float:
    """Return (unhedged |net| + hedged (gross - |net|)/2) × spot."""
    net = abs(float(deltas.sum()))
    gross = float(np.abs(deltas).sum())
    return (table.unhedged_factor * net + table.hedged_factor * 0.5 * (gross - net)) * spot_px


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
    charges: list[Charge] = []
    for underlying in np.unique(book.underlying).tolist():
        name = book.underlyings[underlying]
        asset = _look_up(parameters.assets, name, "cross margin parameters")
        rows = book.where(book.underlying == underlying)
        linear = rows.where((rows.kind == PERPETUAL) | (rows.kind == FUTURE))
        if len(linear):
            net = open_size(linear.qty_base, linear.buy_base, linear.sell_base) * linear.mark_px
            held = float((np.abs(linear.qty_base) * linear.mark_px).sum())
            fraction = asset.initial_fraction
            maintenance = parameters.mm_factor * fraction * held
            charges.append(Charge(f"{name} perpetuals", fraction * float(net.sum()), maintenance))
        options = rows.where(rows.kind == OPTION)
        if len(options):
            if asset.options_initial is None or asset.options_maintenance is None:
                raise ValueError(f"expected option fractions of {name} in the parameters of {CROSS}, found none")
            initial = option_groups(options, asset.options_initial, with_orders=True)
            maintenance = option_groups(options, asset.options_maintenance, with_orders=False)
            charges.append(Charge(f"{name} options", initial, maintenance))
    traded = book.where(book.kind != SPOT)
    positions = float((np.abs(traded.qty_base) * _notional_px(traded)).sum())
    orders = float(((traded.buy_base + traded.sell_base) * _notional_px(traded)).sum())
    fee = parameters.fee_rate
    charges.append(Charge("fees", fee * (positions + 2.0 * orders), fee * positions))
    return _sum_up(CROSS, charges)


def open_size(qty_base: Floats, buy_base: Floats, sell_base: Floats) -> Floats:
    """Return by row the larger of what would be held if all buys filled and if all sells did, unsigned."""
    return np.maximum(np.maximum(buy_base + qty_base, sell_base - qty_base), 0.0)


def option_groups(book: RiskBook, fractions: OptionFractions, *, with_orders: bool) -> float:
    """Return what options of one underlying cost: by expiry the lesser of their sum and what the group can lose.

    Alone a long costs min(premium × mark, long_itm × spot), a short max(short_itm × spot - out of the money,
    short_otm × spot). A group with a short loses at most its value now less the least payoff, at 0 or at a strike, and
    the charge for net short calls. With orders, the worst of none filled, all buys filled and all sells filled.
    """
    spot = book.spot_of_row_px
    out = np.maximum(np.where(book.is_call, book.strike_px - spot, spot - book.strike_px), 0.0)
    short = np.maximum(fractions.short_itm * spot - out, fractions.short_otm * spot)
    long = np.minimum(fractions.premium * book.mark_px, fractions.long_itm * spot)
    groups = Groups(book)
    sides = [book.qty_base]
    if with_orders and (book.buy_base.any() or book.sell_base.any()):
        sides += [book.qty_base + book.buy_base, book.qty_base - book.sell_base]
    total = 0.0
    for group in range(len(groups)):
        rows = groups.rows(group)
        total += max(_group_cost(book, rows, qty[rows], short[rows], long[rows], fractions) for qty in sides)
    return total


def _group_cost(
    book: RiskBook, rows: Ints, qty: Floats, short: Floats, long: Floats, fractions: OptionFractions
) -> float:
    alone = float(np.where(qty < 0.0, -qty * short, qty * long).sum())
    is_dated = bool(np.isfinite(book.tau_years[rows]).all())
    if not is_dated or not (qty < 0.0).any():
        return alone
    strike, is_call = book.strike_px[rows], book.is_call[rows]
    settle = np.concatenate(([0.0], np.unique(strike)))[:, None]
    worth = (np.maximum(np.where(is_call, settle - strike, strike - settle), 0.0) * qty).sum(axis=1)
    loss = max(float((qty * book.mark_px[rows]).sum() - worth.min()), 0.0)
    unpaired = max(-float(qty[is_call].sum()), 0.0)
    return min(alone, loss + fractions.unpaired * unpaired * float(book.spot_of_row_px[rows[0]]))


def socialised_loss(bankrupt_quote: float, insurance_quote: float, balances_quote: float) -> float:
    """Return the share that every withdrawal loses while accounts owe more than the insurance fund has.

    shortfall / (balances + shortfall), where `balances_quote` is what is left of all users' balances.
    """
    shortfall = max(bankrupt_quote - insurance_quote, 0.0)
    whole = balances_quote + shortfall
    return shortfall / whole if whole > 0.0 else 0.0


def _provisions(book: RiskBook, parameters: PortfolioParameters, funding_8h: Floats | None) -> list[Charge]:
    is_perpetual: Flags = book.kind == PERPETUAL
    value = book.qty_base * book.mark_px
    told = np.abs(value) * parameters.funding_8h if funding_8h is None else np.maximum(value * funding_8h, 0.0)
    funding = float(told[is_perpetual].sum())
    traded = book.where(book.kind != SPOT)
    fee = parameters.fee_rate * float((np.abs(traded.qty_base) * _notional_px(traded)).sum())
    return [Charge("funding", funding, funding), Charge("fees", fee, fee)]


def _notional_px(book: RiskBook) -> Floats:
    return np.where(book.kind == OPTION, book.spot_of_row_px, book.mark_px)


def _look_up(assets: dict[str, T], underlying: str, what: str) -> T:
    found = assets.get(underlying, assets.get(OTHERS))
    if found is None:
        raise ValueError(f"expected a {what} of {underlying}, found those of {', '.join(sorted(assets))}")
    return found


def _sum_up(
    model: str, charges: list[Charge], worst: str = "", names: tuple[str, ...] = (), pnl: tuple[float, ...] = ()
) -> Requirement:
    initial = sum(one.initial for one in charges)
    maintenance = sum(one.maintenance for one in charges)
    return Requirement(model, "quote", initial, maintenance, tuple(charges), worst, names, pnl)
