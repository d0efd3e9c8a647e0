"""What offsets what across accounts, moneys, forms and expiries, and what each offset is charged for.

Deltas are netted layer by layer, the surest first: the same expiry at the same account (free), another expiry (roll),
another money (stablecoins), a wrapped or staked form (basis), another account (no legal offset: while a transfer is on
its way one side must be topped up), another underlying (correlation). What a layer matches is charged by that layer
alone, what it leaves goes to the next. Charges are capital to hold beside the netted requirement, in quote money.
Source of layers and first figures: design of this project, section netting; every figure is a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from operator import attrgetter
from typing import Final

import msgspec
import numpy as np

from bot.pricing.black76 import greeks
from bot.risk.book import Flags, Floats, Ints, RiskBook
from bot.risk.gaps import call, gaps
from bot.risk.repricing import base_deltas
from bot.risk.spreads import pair_off

HOURS_PER_YEAR: Final = 24.0 * 365.0


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """A wrapped or staked form `of` an underlying: what its price may part from it, in normal times and in stress."""

    of: str
    normal: float
    stressed: float


class Stable(msgspec.Struct, frozen=True, kw_only=True):
    """A money that should be worth a dollar, and the share it may fall short of it in stress."""

    stressed: float


class Correlated(msgspec.Struct, frozen=True, kw_only=True):
    """`second` moves `beta` times as `first` does; `offset` of what matches counts, over a move of `move`."""

    first: str
    second: str
    beta: float
    offset: float
    move: float


class NettingParameters(msgspec.Struct, frozen=True, kw_only=True):
    """What offsets are charged, as shares of the notional that is matched.

    An expiry against another: max(tenor_rate, tenor_per_year × years of the later one). Two moneys, one of them a
    stable: the slices of `money_tiers` (size in quote, rate), the last of which goes on; in stress at least what the
    stables may fall. Two accounts: move_sigmas × yearly_vol × √(transfer time of the slower one).
    """

    tenor_rate: float
    tenor_per_year: float
    stables: dict[str, Stable]
    money_tiers: tuple[tuple[float, float], ...]
    forms: dict[str, Form]
    move_sigmas: float
    yearly_vol: float
    transfer_hours: dict[str, float]
    other_transfer_hours: float
    correlated: tuple[Correlated, ...]

    def root(self, underlying: str) -> str:
        """Return the underlying that a form is a form of, itself for what is none."""
        form = self.forms.get(underlying)
        return underlying if form is None else form.of

    def tenor_charge(self, years: float) -> float:
        """Return the share charged for a spread whose later leg expires in `years`."""
        return max(self.tenor_rate, self.tenor_per_year * years)

    def money_charge(self, amount_quote: float) -> float:
        """Return what matching this much across moneys costs, slice by slice."""
        left, cost = amount_quote, 0.0
        for number, (size, rate) in enumerate(self.money_tiers):
            is_last = number == len(self.money_tiers) - 1
            part = left if is_last else min(left, size)
            cost += part * rate
            left -= part
        return cost

    def basis(self, underlying: str, *, stressed: bool) -> float:
        """Return the share that a form may part from its underlying, 0 for the underlying itself."""
        form = self.forms.get(underlying)
        return 0.0 if form is None else form.stressed if stressed else form.normal

    def venue_charge(self, *accounts: str) -> float:
        """Return the share that the underlying may move before money gets from one of the accounts to another."""
        hours = max([self.transfer_hours.get(account, self.other_transfer_hours) for account in accounts])
        return self.move_sigmas * self.yearly_vol * sqrt(hours / HOURS_PER_YEAR)


class Layer(msgspec.Struct, frozen=True, gc=False):
    """What one layer matched, in quote money of one side, and what that is charged."""

    name: str
    matched_quote: float
    charge_quote: float


class Exposure(msgspec.Struct, frozen=True):
    """One underlying in all its forms: gross and net side by side, in units of the underlying and in quote money.

    Gross is the sum of every row's |delta|. Vega is per 1.00 of vol. `by_account` is each account's net delta.
    """

    underlying: str
    spot_px: float
    gross_base: float
    net_base: float
    vega_gross_quote: float
    vega_net_quote: float
    gamma_net: float
    by_account: tuple[tuple[str, float], ...]
    layers: tuple[Layer, ...]

    @property
    def gross_quote(self) -> float:
        """The gross delta in quote money."""
        return self.gross_base * self.spot_px

    @property
    def net_quote(self) -> float:
        """The net delta in quote money, signed."""
        return self.net_base * self.spot_px

    @property
    def charge_quote(self) -> float:
        """What all the layers charge."""
        return sum(one.charge_quote for one in self.layers)


class Netted(msgspec.Struct, frozen=True):
    """Every underlying's exposure, and what correlated ones offset of each other; `notes` name what was assumed."""

    exposures: tuple[Exposure, ...]
    correlated: tuple[Layer, ...]
    notes: tuple[str, ...] = ()

    @property
    def charge_quote(self) -> float:
        """What all the offsets together are charged."""
        return sum(one.charge_quote for one in self.exposures) + sum(one.charge_quote for one in self.correlated)

    def of(self, underlying: str) -> Exposure:
        """Return one underlying's exposure. Raises KeyError where there is none."""
        for one in self.exposures:
            if one.underlying == underlying:
                return one
        raise KeyError(underlying)


class _Node(msgspec.Struct, gc=False):
    account: str
    form: str
    money: str
    years: float
    delta: float


def net_exposure(
    book: RiskBook,
    parameters: NettingParameters,
    redemption: Mapping[str, float] | None = None,
    *,
    stressed: bool = False,
) -> Netted:
    """Return the exposure of a book with what each layer matches and charges.

    `redemption` is what one unit of a form is redeemed for in units of its underlying; where it is not told, the ratio
    of their spot prices stands in, and a note says so. A row that cannot be priced counts with its whole quantity in
    gross, in nothing else, and is noted. Raises ValueError where what is held, or what it is a form of, has no spot
    price.
    """
    notes: list[str] = []
    units, roots, spots = _convert(book, parameters, redemption or {}, notes)
    is_usable = ~gaps(book)
    unpriced = np.flatnonzero(~is_usable).tolist()
    notes += [f"{call(book, row)} cannot be priced: it is gross, and offsets nothing" for row in unpriced]
    deltas = np.where(is_usable, 0.0, np.nan_to_num(book.qty_base))
    usable = np.flatnonzero(is_usable)
    deltas[usable] = base_deltas(book.where(usable))
    deltas *= units[book.underlying]
    root_of_row = roots[book.underlying]
    gamma, vega = _curvature(book, is_usable)
    exposures: list[Exposure] = []
    for root in np.unique(root_of_row).tolist():
        rows = np.flatnonzero(root_of_row == root)
        name, spot = book.underlyings[root], float(spots[root])
        netting = rows[is_usable[rows]]
        nodes = _nodes(book, netting, deltas)
        gross = float(np.abs(deltas[rows]).sum())
        before = float(np.abs(deltas[netting]).sum())
        left = sum([abs(node.delta) for node in nodes])
        layers = [Layer("same expiry", 0.5 * (before - left) * spot, 0.0)]
        accounts = dict.fromkeys(sorted({node.account for node in nodes}), 0.0)
        for node in nodes:
            accounts[node.account] += node.delta
        layers += _climb(nodes, spot, parameters, stressed=stressed)
        exposures.append(
            Exposure(
                name,
                spot,
                gross,
                float(deltas[netting].sum()),
                float(np.abs(vega[rows]).sum()),
                float(vega[rows].sum()),
                float(gamma[rows].sum()),
                tuple(accounts.items()),
                tuple(layers),
            )
        )
    return Netted(tuple(exposures), correlate(exposures, parameters), tuple(notes))


def _convert(
    book: RiskBook, parameters: NettingParameters, redemption: Mapping[str, float], notes: list[str]
) -> tuple[Floats, Ints, Floats]:
    """Return by underlying: units of its root per unit, the number of its root, and the spot price."""
    units = np.ones(len(book.underlyings))
    roots = np.arange(len(book.underlyings))
    for number in np.unique(book.underlying).tolist():
        name = book.underlyings[number]
        if not 0.0 < book.spot_px[number] < np.inf:
            raise ValueError(f"expected a spot price of {name}, found {book.spot_px[number]:g}")
        root = parameters.root(name)
        if root == name:
            continue
        if root not in book.underlyings:
            raise ValueError(f"expected a spot price of {root}, of which {name} is a form, found none")
        roots[number] = book.underlyings.index(root)
        told = redemption.get(name)
        if told is not None and 0.0 < told < np.inf:
            units[number] = told
            continue
        units[number] = ratio = float(book.spot_px[number] / book.spot_px[roots[number]])
        why = "no redemption rate is known" if told is None else f"a redemption rate of {told:g} is none"
        notes.append(f"{name} counts as {ratio:.6g} {root}, the ratio of their prices: {why}")
    return units, roots, book.spot_px


def _curvature(book: RiskBook, is_usable: Flags) -> tuple[Floats, Floats]:
    """Return each row's gamma (base per quote) and vega (quote per 1.00 of vol)."""
    gamma, vega = np.zeros(len(book)), np.zeros(len(book))
    rows = np.flatnonzero(is_usable & book.is_option & (book.tau_years > 0.0) & (book.vol > 0.0))
    if rows.size:
        found = greeks(
            book.forward_px[rows], book.strike_px[rows], book.tau_years[rows], book.vol[rows], book.is_call[rows]
        )
        gamma[rows] = book.qty_base[rows] * found.gamma
        vega[rows] = book.qty_base[rows] * found.vega
    return gamma, vega


def _nodes(book: RiskBook, rows: Ints, deltas: Floats) -> list[_Node]:
    """Return the net deltas of what differs in account, form, money or expiry; what never expires has 0 years."""
    years = np.where(np.isfinite(book.tau_years[rows]), np.maximum(book.tau_years[rows], 0.0), 0.0)
    distinct, expiry = np.unique(years, return_inverse=True)
    key = (book.account[rows] * len(book.underlyings) + book.underlying[rows]) * len(book.moneys) + book.money[rows]
    key = key * len(distinct) + expiry
    _, first, place = np.unique(key, return_index=True, return_inverse=True)
    sums = np.bincount(place, weights=deltas[rows], minlength=len(first))
    return [
        _Node(
            book.accounts[int(book.account[row])],
            book.underlyings[int(book.underlying[row])],
            book.moneys[int(book.money[row])],
            year,
            delta,
        )
        for row, year, delta in zip(rows[first].tolist(), years[first].tolist(), sums.tolist(), strict=True)
    ]


def _climb(nodes: list[_Node], spot_px: float, parameters: NettingParameters, *, stressed: bool) -> list[Layer]:
    """Return the layers above the first; each nets what agrees in all that the layers after it look at."""

    def tenor(a: _Node, b: _Node, amount_quote: float, _before_quote: float) -> float:
        return amount_quote * parameters.tenor_charge(max(a.years, b.years))

    def money(a: _Node, b: _Node, amount_quote: float, before_quote: float) -> float:
        stables = [parameters.stables[one.money] for one in (a, b) if one.money in parameters.stables]
        if not stables:
            return 0.0
        slices = parameters.money_charge(before_quote + amount_quote) - parameters.money_charge(before_quote)
        fall = max(one.stressed for one in stables) if stressed else 0.0
        return max(slices, fall * amount_quote)

    def form(a: _Node, b: _Node, amount_quote: float, _before_quote: float) -> float:
        return amount_quote * sum(parameters.basis(one.form, stressed=stressed) for one in (a, b))

    def venue(a: _Node, b: _Node, amount_quote: float, _before_quote: float) -> float:
        return amount_quote * parameters.venue_charge(a.account, b.account)

    nodes, tenors = _net(nodes, "other expiry", ("account", "form", "money"), tenor, spot_px)
    nodes, moneys = _net(nodes, "other money", ("account", "form"), money, spot_px)
    nodes, forms = _net(nodes, "other form", ("account",), form, spot_px)
    nodes, venues = _net(nodes, "other account", (), venue, spot_px)
    return [tenors, moneys, forms, venues]


def _net(
    nodes: list[_Node],
    name: str,
    alike: tuple[str, ...],
    charge: Callable[[_Node, _Node, float, float], float],
    spot_px: float,
) -> tuple[list[_Node], Layer]:
    """Pair off nodes that are `alike`; return what is left of each, and the layer of what was matched."""
    key: Callable[[_Node], object] = attrgetter(*alike) if alike else _all_alike
    groups: dict[object, list[_Node]] = {}
    for node in nodes:
        groups.setdefault(key(node), []).append(node)
    out: list[_Node] = []
    matched = cost = 0.0
    for group in groups.values():
        left = [node.delta for node in group]
        most, lowest = max(left), min(left)
        if not (most > 0.0 > lowest):  # nothing to pair off
            out += group
            continue
        pairs = pair_off(left, [node.years for node in group])
        before = 0.0
        for pair in pairs:
            left[pair.long] -= pair.amount
            left[pair.short] += pair.amount
            cost += charge(group[pair.long], group[pair.short], pair.amount * spot_px, before)
            before += pair.amount * spot_px
        matched += before
        least = 1e-12 * max(most, -lowest)
        out += [
            _Node(node.account, node.form, node.money, node.years, delta)
            for node, delta in zip(group, left, strict=True)
            if abs(delta) > least
        ]
    return out, Layer(name, matched, cost)


def _all_alike(_node: _Node) -> object:
    return None


def correlate(exposures: Sequence[Exposure], parameters: NettingParameters) -> tuple[Layer, ...]:
    """Return what net exposures of correlated underlyings offset of each other, in the order of the parameters."""
    free = {one.underlying: one.net_quote for one in exposures}
    out: list[Layer] = []
    for pair in parameters.correlated:
        first, second = free.get(pair.first, 0.0), free.get(pair.second, 0.0) * pair.beta
        if first * second >= 0.0:
            continue
        matched = min(abs(first), abs(second))
        free[pair.first] -= matched if first > 0.0 else -matched
        free[pair.second] -= (matched if second > 0.0 else -matched) / pair.beta
        cost = matched * pair.move * (1.0 - pair.offset)
        out.append(Layer(f"{pair.first} against {pair.second}", matched, cost))
    return tuple(out)
